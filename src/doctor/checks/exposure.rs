//! DP07: the gateway's public address becomes the claims that browsers get through to it, and terminals stay open.

mod proxies;
mod silence;
mod websocket;

use super::super::check::{Check, Claim, Fix, Status};
use super::super::context::Context;
use super::super::outside::provider::{Contact, Seen};
use super::super::outside::public;
use super::super::values::Values;
use super::images::SOON;
use super::outcome;
use crate::clock::{Clock, SystemClock};
use crate::tls::facts::Facts;
use rustls::CertificateError;
use std::sync::Arc;
use url::Url;

pub const CHECKS: &[Check] = &[
    CONSISTENT.check(|context| Box::pin(consistent(context))),
    VALID.check(|context| Box::pin(valid(context))),
    TRUSTED.check(|context| Box::pin(trusted(context))),
    ANSWERS.check(|context| Box::pin(answers(context))),
    websocket::GET_THROUGH,
    TIME_OUTS.check(|context| Box::pin(time_outs(context))),
    LASTING.check(|context| Box::pin(lasting(context))),
    PROXIES.check(|context| Box::pin(named(context))),
];

const NO_WAY_IN: &str = "the chart makes no way in (gateway.ingress, gateway.httpRoute and gateway.route are off)";

const CONSISTENT: Claim = Claim::error("DP0701", "the way in leads to the host of the redirect URL, with TLS where it is https")
    .why("The provider sends browsers back to the redirect URL; a way in for another host answers there with an error, or not at all.")
    .needs(&["DP0101"])
    .docs(
        "The host of `gateway.oidc.redirectURL` (or `publicURL`) against `gateway.ingress`, `gateway.httpRoute` and `gateway.route`, each that is \
         enabled; an Ingress for an https address has `tls` for that host. `*.` stands for one label in an Ingress, for one or more in an HTTPRoute.",
    );

const VALID: Claim = Claim::error("DP0702", "the public address presents a certificate for its host that is valid now")
    .why("Browsers refuse the page.")
    .needs(&["DP0101", "DP0501"])
    .docs("A connection from where the doctor runs to the public address, once a pod of the gateway is ready. Who issued the certificate is DP0703.");

const TRUSTED: Claim = Claim::warning(
    "DP0703",
    "the certificate of the public address is issued by a known authority",
)
.why("Browsers that don't know it warn their users.")
.needs(&["DP0702"])
.docs("The system's authorities where the doctor runs, and the gateway's own (`customCA`). Browsers may know others.");

const ANSWERS: Claim = Claim::error("DP0704", "the gateway answers at its public address")
    .why("Something else is there, or nothing behind the way in.")
    .needs(&["DP0703"])
    .docs("`GET /health` is answered with `ok`.");

const TIME_OUTS: Claim = Claim::warning("DP0706", "the way in lets silent terminals stay open")
    .why("Most controllers end a connection after a minute, and terminals then have to connect again and again.")
    .needs(&["DP0101"])
    .docs(
        "Known annotations of Ingress controllers, by `gateway.ingress.className`, the annotation of an OpenShift Route, or the time-outs of an \
         HTTPRoute: at least an hour. Controllers without any are not judged. `docs/setup/install.md` lists them.",
    );

const LASTING: Claim = Claim::warning(
    "DP0707",
    "the certificates of provider and public address are valid for 30 more days",
)
.why("On the day on which one expires, nobody gets in.")
.needs(&["DP0101"])
.patience(25)
.docs("The certificates that they present now.");

const PROXIES: Claim = Claim::warning("DP0708", "the gateway is told of whom it may believe a browser's address")
    .why("Otherwise every user has the proxy's address: in audit lines, and for the limit of sign-ins, which one of them then uses up for all.")
    .needs(&["DP0101"])
    .docs(
        "`gateway.trustedProxies` where the chart makes a way in (`gateway.ingress`, `gateway.httpRoute`, `gateway.route`). Of these addresses alone `X-Forwarded-For` is believed. Where TLS passes through to the gateway (a Route of that kind, an Ingress with `ssl-passthrough`), nobody may be named: users would write that header themselves.",
    );

async fn named(context: Arc<Context>) -> Status {
    let values = context.installation.values.as_ref();
    values.map_or_else(
        || Status::skip("the way in is known from --values only"),
        proxies::named,
    )
}

async fn consistent(context: Arc<Context>) -> Status {
    let url = match public::address(&context).await {
        Ok(url) => url,
        Err(why) => return Status::skip(why),
    };
    let Some(values) = &context.installation.values else {
        return Status::skip("the way in is known from --values only");
    };
    way_in(values, &url)
}

/// Browsers come back by any way in that is enabled: each must lead to the host.
fn way_in(values: &Values, url: &Url) -> Status {
    let host = url.host_str().unwrap_or_default();
    let ways = [
        ("ingress", "host", vec![values.text("gateway.ingress.host")]),
        ("httpRoute", "hostnames", values.texts("gateway.httpRoute.hostnames")),
        ("route", "host", vec![values.text("gateway.route.host")]),
    ];
    let enabled = ways
        .into_iter()
        .filter(|(kind, ..)| values.is_true(&format!("gateway.{kind}.enabled")));
    let judged = enabled.map(|(kind, field, hosts)| {
        let key = format!("gateway.{kind}.{field}");
        let covers = if kind == "httpRoute" { covers_below } else { covers };
        if !hosts.iter().any(|named| covers(named, host)) {
            let wanted = if field == "hostnames" {
                format!("[{host}]")
            } else {
                host.to_owned()
            };
            let hosts = hosts.join(", ");
            return Status::fail(
                format!("browsers come back to {host}, and {key} is {hosts}"),
                hosts,
                host,
                Fix::values(format!("gateway:\n  {kind}:\n    {field}: {wanted}")),
            );
        }
        if kind == "ingress" && url.scheme() == "https" && !is_with_tls(values, host) {
            return Status::fail(
                format!("the public address is https, and gateway.ingress.tls has nothing for {host}"),
                values.get("gateway.ingress.tls").to_string(),
                format!("an entry for {host}"),
                Fix::values(format!(
                    "gateway:\n  ingress:\n    tls:\n    - secretName: devplane-tls\n      hosts: [{host}]"
                )),
            );
        }
        Status::pass(format!("{url} by {key}"))
    });
    outcome::all(judged.collect(), NO_WAY_IN)
}

/// Whether the Ingress has a certificate for a host; an entry that names no host is for all of them.
fn is_with_tls(values: &Values, host: &str) -> bool {
    let entries = values
        .get("gateway.ingress.tls")
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    entries.iter().any(|entry| match entry["hosts"].as_array() {
        Some(hosts) if !hosts.is_empty() => hosts
            .iter()
            .filter_map(|named| named.as_str())
            .any(|named| covers(named, host)),
        _ => true,
    })
}

/// Whether a host of an Ingress or a Route is for `host`: `*` stands for its first label (Kubernetes, `IngressRule`).
fn covers(named: &str, host: &str) -> bool {
    match named.strip_prefix("*.") {
        Some(rest) => host
            .split_once('.')
            .is_some_and(|(_, parent)| parent.eq_ignore_ascii_case(rest)),
        None => named.eq_ignore_ascii_case(host),
    }
}

/// Whether a host name of an HTTPRoute is for `host`: `*` stands for one label or more (Gateway API, `Hostname`).
fn covers_below(named: &str, host: &str) -> bool {
    covers(named, host)
        || host
            .split_once('.')
            .is_some_and(|(_, parent)| named.starts_with("*.") && covers_below(named, parent))
}

async fn valid(context: Arc<Context>) -> Status {
    // A way in for another host presents what it likes. One of your own, of which nothing is known beforehand, is looked at.
    if let Status::Fail(_) = consistent(Arc::clone(&context)).await {
        return Status::skip(format!("{} failed", CONSISTENT.code));
    }
    let (url, contact) = match context.public().await {
        Ok(seen) => seen,
        Err(why) => return Status::skip(why),
    };
    let unreached = |problem: String| {
        Status::fail(
            format!("{url} can't be reached: {problem}"),
            problem,
            "a connection",
            Fix::words(
                "see that the name resolves to the Ingress controller, load balancer or router, and that it is up",
            ),
        )
    };
    let (host, chain, trusted) = match contact {
        Contact::Plain(Ok(())) => return Status::pass("on this machine, without TLS"),
        Contact::Plain(Err(problem)) => return unreached(problem.clone()),
        Contact::Tls {
            presented: Err(error), ..
        } => return unreached(error.to_string()),
        Contact::Tls {
            host,
            presented: Ok(chain),
            trusted,
        } => (host, chain, trusted),
    };
    let own = chain.first().and_then(Facts::of);
    let Some(own) = own.map(|facts| facts.to_string()) else {
        return Status::skip(format!("what {host} presents can't be read as a certificate"));
    };
    match trusted {
        Some(Err(error)) if !is_unknown_issuer(error) => Status::fail(
            format!("browsers refuse the certificate of {host}: {error}"),
            own,
            format!("one for {host} that is valid now"),
            Fix::words("renew the certificate in the Secret that the way in takes it from, for this host"),
        ),
        Some(_) => Status::pass(own),
        None => Status::skip("the certificate was not verified"),
    }
}

async fn trusted(context: Arc<Context>) -> Status {
    match context.public().await {
        Ok((_, contact)) => issued_by(contact, &context.gateway_authorities().await.names()),
        Err(why) => Status::skip(why),
    }
}

/// `known` are the names of the authorities that it was looked for among.
fn issued_by(contact: &Contact, known: &str) -> Status {
    let (host, chain, error) = match contact {
        Contact::Plain(Ok(())) => return Status::pass("on this machine, without TLS"),
        Contact::Plain(Err(problem)) => return Status::skip(problem.as_str()),
        Contact::Tls {
            presented: Err(error), ..
        } => return Status::skip(error.to_string()),
        Contact::Tls { trusted: None, .. } => return Status::skip("the certificate was not verified"),
        Contact::Tls {
            trusted: Some(Ok(())), ..
        } => return Status::pass("it is"),
        Contact::Tls {
            host,
            presented: Ok(chain),
            trusted: Some(Err(error)),
        } => (host, chain, error),
    };
    let issuer = chain
        .last()
        .and_then(Facts::of)
        .map(|facts| facts.issuer)
        .unwrap_or_default();
    Status::fail(
        format!("the certificate of {host} is issued by {issuer}, whom nobody here knows: {error}"),
        issuer.as_str(),
        known,
        Fix::words(
            "put the certificate of that authority into customCA.pem, and see that browsers know it; or let the way in present another one",
        ),
    )
}

fn is_unknown_issuer(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)
    )
}

async fn answers(context: Arc<Context>) -> Status {
    let url = match context.public().await {
        Ok((url, _)) => url,
        Err(why) => return Status::skip(why),
    };
    let (problem, found) = match public::health(&context, url).await {
        Ok(answer) if answer.status().is_success() && answer.body().as_ref() == b"ok" => {
            return Status::pass(url.as_str());
        }
        Ok(answer) => {
            let status = answer.status();
            (
                format!("what answers at {url}health is not the gateway (HTTP status {status})"),
                status.to_string(),
            )
        }
        Err(error) => (format!("{url}health: {error}"), error.to_string()),
    };
    Status::fail(
        problem,
        found,
        "200 and ok",
        Fix::words(
            "see that the way in leads to Service workspace-gateway, speaks to it as it serves (http, or https with gateway.tls.secretName), and keeps paths",
        ),
    )
}

async fn time_outs(context: Arc<Context>) -> Status {
    match &context.installation.values {
        Some(values) => silence::allowed(values),
        None => Status::skip("the way in is known from --values only"),
    }
}

async fn lasting(context: Arc<Context>) -> Status {
    let mut chains = vec![];
    if let Seen::Provider(provider) = context.provider().await
        && let Contact::Tls {
            host,
            presented: Ok(chain),
            trusted: Some(Ok(())),
        } = &provider.contact
    {
        chains.push((host.clone(), chain.clone()));
    }
    if let Ok((_, contact)) = context.public().await
        && let Contact::Tls {
            host,
            presented: Ok(chain),
            ..
        } = contact
    {
        chains.push((host.clone(), chain.clone()));
    }
    if chains.is_empty() {
        return Status::skip("none is presented, or none that is trusted");
    }
    let now = SystemClock.now();
    let mut ends = vec![];
    for (host, chain) in chains {
        let first = chain.iter().filter_map(Facts::of).min_by_key(|facts| facts.not_after);
        let Some(facts) = first else { continue };
        // What has ended is DP0602's and DP0702's.
        if facts.not_after > now && facts.not_after < now + SOON {
            return Status::fail(
                format!("a certificate that {host} presents expires within 30 days"),
                facts.to_string(),
                "30 more days",
                Fix::words("renew it, or see why what renews it has not done so yet"),
            );
        }
        ends.push(format!("{host}: {}", facts.not_after.strftime("%Y-%m-%d")));
    }
    Status::pass(ends.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consistent(values: &str, url: &str) -> Status {
        way_in(&Values::try_from(values).unwrap(), &url.parse().unwrap())
    }

    #[test]
    fn the_way_in_is_for_the_host_that_browsers_come_back_to() {
        let ingress = "gateway: {ingress: {enabled: true, host: dev.corp, tls: [{secretName: a}]}}";
        assert!(matches!(consistent(ingress, "https://dev.corp/"), Status::Pass { .. }));
        let Status::Fail(failure) = consistent(ingress, "https://other.corp/") else {
            panic!("another host")
        };
        assert_eq!(failure.fix, Fix::values("gateway:\n  ingress:\n    host: other.corp"));
        let bare = "gateway: {ingress: {enabled: true, host: dev.corp}}";
        assert!(matches!(consistent(bare, "https://dev.corp/"), Status::Fail(_)));
        assert!(matches!(consistent(bare, "http://dev.corp/"), Status::Pass { .. }));
        let foreign = "gateway: {ingress: {enabled: true, host: dev.corp, tls: [{hosts: [a.corp]}]}}";
        assert!(matches!(consistent(foreign, "https://dev.corp/"), Status::Fail(_)));
        let wild = "gateway: {httpRoute: {enabled: true, hostnames: ['*.corp']}}";
        assert!(matches!(consistent(wild, "https://dev.corp/"), Status::Pass { .. }));
        assert!(matches!(consistent(wild, "https://a.dev.corp/"), Status::Pass { .. }));
        for other in ["https://corp/", "https://dev.corporation/", "https://devcorp/"] {
            assert!(matches!(consistent(wild, other), Status::Fail(_)), "{other}");
        }
        let wild = "gateway: {ingress: {enabled: true, host: '*.corp', tls: [{secretName: a}]}}";
        assert!(matches!(consistent(wild, "https://dev.corp/"), Status::Pass { .. }));
        assert!(matches!(consistent(wild, "https://a.dev.corp/"), Status::Fail(_)));
        let moving = "gateway: {ingress: {enabled: true, host: dev.corp, tls: [{secretName: a}]}, httpRoute: {enabled: true, hostnames: [new.corp]}}";
        let Status::Fail(failure) = consistent(moving, "https://dev.corp/") else {
            panic!("one of two ways in is for another host")
        };
        assert_eq!(
            failure.fix,
            Fix::values("gateway:\n  httpRoute:\n    hostnames: [dev.corp]")
        );
        assert!(
            matches!(consistent("", "https://dev.corp/"), Status::Skip { .. }),
            "nothing is known of it"
        );
    }

    #[test]
    fn a_certificate_that_was_not_seen_is_not_known_to_be_trusted() {
        let tls = |presented, trusted| Contact::Tls {
            host: "dev.corp".to_owned(),
            presented,
            trusted,
        };
        let gone = || Err("gone".to_owned());
        assert!(matches!(issued_by(&Contact::Plain(gone()), ""), Status::Skip { .. }));
        assert!(matches!(issued_by(&tls(Ok(vec![]), None), ""), Status::Skip { .. }));
        assert!(matches!(
            issued_by(&tls(Ok(vec![]), Some(Ok(()))), ""),
            Status::Pass { .. }
        ));
        let refused = Some(Err(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)));
        assert!(matches!(issued_by(&tls(Ok(vec![]), refused), ""), Status::Fail(_)));
    }
}
