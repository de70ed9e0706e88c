//! What the values say of the way in becomes whether the gateway knows from whom it may take a browser's address. Pure.

use super::super::super::check::{Fix, Status};
use super::super::super::values::Values;
use super::NO_WAY_IN;

const WAYS_IN: [&str; 3] = [
    "gateway.ingress.enabled",
    "gateway.httpRoute.enabled",
    "gateway.route.enabled",
];

/// Whether X-Forwarded-For is believed of the way in where that sets it, and of nobody where it does not.
pub fn named(values: &Values) -> Status {
    let named = values.texts("gateway.trustedProxies");
    if !WAYS_IN.iter().any(|way| values.is_true(way)) {
        return match named.as_slice() {
            [] => Status::skip(NO_WAY_IN),
            named => Status::pass(named.join(", ")),
        };
    }
    match (passes_through(values), named.as_slice()) {
        (true, []) => Status::pass("TLS passes through to the gateway, so nobody on the way says whose the address is"),
        (true, named) => Status::fail(
            "gateway.trustedProxies names somebody, and TLS passes through to the gateway",
            named.join(", "),
            "nothing: what passes TLS on can't see X-Forwarded-For, so users would choose their own address",
            Fix::values("gateway:\n  trustedProxies: []"),
        ),
        (false, []) => Status::fail(
            "gateway.trustedProxies is empty, and browsers come by a proxy",
            "nothing",
            "the addresses that the proxy's connections come from",
            Fix::words(
                "set gateway.trustedProxies to the range of the addresses of your controller's pods, or of the nodes where it runs on their network: kubectl -n NAMESPACE get pods -o wide; and networkPolicy.gatewayFrom to the controller, so that nobody else of that range gets to the gateway",
            ),
        ),
        (false, named) => Status::pass(named.join(", ")),
    }
}

/// Whether TLS ends at the gateway and nowhere before, as the chart and known annotations have it.
fn passes_through(values: &Values) -> bool {
    if values.is_true("gateway.ingress.enabled") {
        let annotations = values.get("gateway.ingress.annotations").as_object();
        let mut annotations = annotations.into_iter().flatten();
        return annotations.any(|(key, value)| key.ends_with("/ssl-passthrough") && value.as_str() == Some("true"));
    }
    let termination = values.text("gateway.route.termination");
    let ends_here = !values.text("gateway.tls.secretName").is_empty();
    values.is_true("gateway.route.enabled") && (termination == "passthrough" || (termination.is_empty() && ends_here))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_behind_a_proxy_names_it_and_nobody_else_does() {
        let status = |text: &str| named(&Values::try_from(text).unwrap());
        let is_well = |status: &Status| matches!(status, Status::Pass { .. });
        assert!(matches!(status("gateway: {}"), Status::Skip { .. }));
        for (way, passes_through) in [
            ("ingress: {enabled: true}", false),
            ("httpRoute: {enabled: true}", false),
            ("route: {enabled: true}", false),
            (
                "route: {enabled: true, termination: reencrypt}, tls: {secretName: s}",
                false,
            ),
            ("route: {enabled: true}, tls: {secretName: s}", true),
            ("route: {enabled: true, termination: passthrough}", true),
            (
                "ingress: {enabled: true, annotations: {nginx.ingress.kubernetes.io/ssl-passthrough: \"true\"}}",
                true,
            ),
        ] {
            let unnamed = status(&format!("gateway: {{{way}}}"));
            let named = status(&format!("gateway: {{trustedProxies: [10.0.0.0/8], {way}}}"));
            assert_eq!(
                (is_well(&unnamed), is_well(&named)),
                (passes_through, !passes_through),
                "{way}"
            );
        }
    }
}
