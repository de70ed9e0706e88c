//! What the values say of the way in becomes whether a terminal that is silent stays open. Pure.

use super::super::super::check::{Fix, Status};
use super::super::super::values::Values;
use super::NO_WAY_IN;
use crate::units::go_duration::GoDuration;

/// What a terminal should be allowed to be silent for, in seconds; it sends something every 25.
const LONG_ENOUGH: u64 = 3600;

/// Controllers that are known, by a part of the name of their class, with the annotations that they want to hear.
const CONTROLLERS: [(&str, &[(&str, &str)]); 2] = [
    (
        "nginx",
        &[
            ("nginx.ingress.kubernetes.io/proxy-read-timeout", "3600"),
            ("nginx.ingress.kubernetes.io/proxy-send-timeout", "3600"),
        ],
    ),
    ("haproxy", &[("haproxy-ingress.github.io/timeout-tunnel", "8h")]),
];

/// Whether the way in lets a terminal be silent for as long as it may be.
pub fn allowed(values: &Values) -> Status {
    if !values.is_true("gateway.ingress.enabled") {
        return other_ways(values);
    }
    let class = values.text("gateway.ingress.className");
    let Some((_, wanted)) = CONTROLLERS.iter().find(|(name, _)| class.contains(name)) else {
        return Status::skip(format!("nothing is known of Ingress class {class:?}"));
    };
    let annotations = values.get("gateway.ingress.annotations");
    let found = |key: &str| annotations[key].as_str().unwrap_or_default().to_owned();
    let short: Vec<_> = wanted
        .iter()
        .filter(|(key, _)| seconds(&found(key)).is_none_or(|time| time < LONG_ENOUGH))
        .collect();
    if short.is_empty() {
        return Status::pass(format!("by the annotations of class {class}"));
    }
    let lines: String = short
        .iter()
        .map(|(key, value)| format!("\n      {key}: {value:?}"))
        .collect();
    let named: Vec<_> = short.iter().map(|(key, _)| *key).collect();
    Status::fail(
        format!(
            "Ingress class {class} cuts terminals that are silent: {} is not an hour or more",
            named.join(" and ")
        ),
        named
            .iter()
            .map(|key| format!("{key}: {:?}", found(key)))
            .collect::<Vec<_>>()
            .join(", "),
        "at least an hour",
        Fix::values(format!("gateway:\n  ingress:\n    annotations:{lines}")),
    )
}

/// Ways in that are no Ingress of the chart's.
fn other_ways(values: &Values) -> Status {
    if values.is_true("gateway.httpRoute.enabled") {
        return route_of_gateway_api(values);
    }
    if values.is_true("gateway.route.enabled") {
        return route_of_openshift(values);
    }
    Status::skip(NO_WAY_IN)
}

/// Gateway API, HTTPRouteTimeouts: a terminal's WebSocket may be cut by either; `0s` is for ever, and none is what the controller likes.
fn route_of_gateway_api(values: &Values) -> Status {
    let timeouts = ["request", "backendRequest"].map(|name| {
        let text = values.text(&format!("gateway.httpRoute.timeouts.{name}"));
        (name, text)
    });
    let is_short = |text: &str| match text.parse::<GoDuration>() {
        Ok(GoDuration(time)) => !time.is_zero() && time.as_secs() < LONG_ENOUGH,
        Err(_) => true,
    };
    let short: Vec<_> = timeouts
        .iter()
        .filter(|(_, text)| !text.is_empty() && is_short(text))
        .collect();
    if !short.is_empty() {
        let told: Vec<_> = short.iter().map(|(name, text)| format!("{name}: {text}")).collect();
        let lines: String = short.iter().map(|(name, _)| format!("\n      {name}: 0s")).collect();
        return Status::fail(
            format!("the HTTPRoute cuts terminals: {}", told.join(" and ")),
            told.join(", "),
            "0s, which is for ever, or at least an hour",
            Fix::values(format!("gateway:\n  httpRoute:\n    timeouts:{lines}")),
        );
    }
    match timeouts
        .iter()
        .find(|(name, text)| *name == "request" && !text.is_empty())
    {
        Some((name, text)) => Status::pass(format!("gateway.httpRoute.timeouts.{name} is {text}")),
        None => Status::skip("gateway.httpRoute.timeouts.request is empty, which leaves it to the controller"),
    }
}

/// The chart sets it, unless the values do.
fn route_of_openshift(values: &Values) -> Status {
    const TUNNEL: &str = "haproxy.router.openshift.io/timeout-tunnel";
    let annotations = values.get("gateway.route.annotations");
    match annotations[TUNNEL].as_str() {
        None => Status::pass("the chart sets it at the Route"),
        Some(text) if seconds(text).is_some_and(|time| time >= LONG_ENOUGH) => {
            Status::pass(format!("{TUNNEL} is {text}"))
        }
        Some(text) => Status::fail(
            format!("the Route cuts terminals that are silent: {TUNNEL} is {text}"),
            text,
            "at least an hour",
            Fix::values(format!("gateway:\n  route:\n    annotations:\n      {TUNNEL}: 8h")),
        ),
    }
}

/// A number of seconds, or a number with `s`, `m`, `h` or `d`.
fn seconds(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_controllers_are_told_to_wait() {
        let of = |values: &str| allowed(&Values::try_from(values).unwrap());
        let nginx = "gateway: {ingress: {enabled: true, className: nginx-internal, annotations: {nginx.ingress.kubernetes.io/proxy-read-timeout: \"7200\"}}}";
        let Status::Fail(failure) = of(nginx) else {
            panic!("one is missing")
        };
        let fix =
            "gateway:\n  ingress:\n    annotations:\n      nginx.ingress.kubernetes.io/proxy-send-timeout: \"3600\"";
        assert_eq!(failure.fix, Fix::values(fix));
        let haproxy = "gateway: {ingress: {enabled: true, className: haproxy, annotations: {haproxy-ingress.github.io/timeout-tunnel: 8h}}}";
        assert!(matches!(of(haproxy), Status::Pass { .. }));
        assert!(matches!(
            of("gateway: {ingress: {enabled: true, className: traefik}}"),
            Status::Skip { .. }
        ));
        assert_eq!(of("gateway: {ingress: {enabled: false}}"), Status::skip(NO_WAY_IN));
        let route = |annotation: &str| {
            of(&format!(
                "gateway: {{route: {{enabled: true, annotations: {{{annotation}}}}}}}"
            ))
        };
        assert!(matches!(route(""), Status::Pass { .. }));
        assert!(matches!(
            route("haproxy.router.openshift.io/timeout-tunnel: 30s"),
            Status::Fail(_)
        ));
        let http = |timeouts: &str| {
            of(&format!(
                "gateway: {{httpRoute: {{enabled: true, timeouts: {{{timeouts}}}}}}}"
            ))
        };
        assert!(matches!(http("request: 0s"), Status::Pass { .. }));
        assert!(matches!(http("request: ''"), Status::Skip { .. }));
        let Status::Fail(failure) = http("request: 0s, backendRequest: 60s") else {
            panic!("a minute")
        };
        assert_eq!(
            failure.fix,
            Fix::values("gateway:\n  httpRoute:\n    timeouts:\n      backendRequest: 0s")
        );
        assert_eq!(
            [seconds("90"), seconds("2h"), seconds("x"), seconds("1w")],
            [Some(90), Some(7200), None, None]
        );
    }
}
