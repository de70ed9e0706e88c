//! Faults of the way from browsers to the gateway.

use super::site::Site;
use super::{GROUPS, each_is_found, gateway, oidc, servers};
use crate::authority::Authority;
use hyper::StatusCode;
use hyper::header::{CONNECTION, ORIGIN, SEC_WEBSOCKET_PROTOCOL, UPGRADE};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn the_way_in() {
    let site = Site::new("doctor-way-in").await;
    let ingress = |host: &str, class: &str| json!({"ingress": {"enabled": true, "host": host, "className": class, "tls": [{"secretName": "devplane-tls"}]}, "trustedProxies": ["10.244.0.0/16"]});
    let without_tls =
        json!({"ingress": {"enabled": true, "host": "dev.example.test"}, "trustedProxies": ["10.244.0.0/16"]});
    let mut unnamed = ingress("dev.example.test", "");
    unnamed["trustedProxies"] = json!([]);
    let mut moving = ingress("dev.example.test", "");
    moving["httpRoute"] =
        json!({"enabled": true, "parentRefs": [{"name": "internal"}], "hostnames": ["*.elsewhere.test"]});
    let faults = vec![
        (
            "an Ingress for another host",
            gateway(ingress("other.example.test", "")),
            "DP0701",
        ),
        (
            "an HTTPRoute for another host, beside the Ingress",
            gateway(moving),
            "DP0701",
        ),
        ("an Ingress without TLS", gateway(without_tls), "DP0701"),
        ("an Ingress whose addresses are not known", gateway(unnamed), "DP0708"),
        (
            "an Ingress that cuts silent terminals",
            gateway(ingress("dev.example.test", "nginx")),
            "DP0706",
        ),
    ];
    each_is_found(&site, GROUPS, faults).await;

    // From now on a gateway is installed, and browsers reach it where each row says.
    site.gateway_is_ready();
    let _gateway = site.gateway().await;
    let at = |origin: &str| oidc(json!({"redirectURL": format!("{origin}/callback")}));
    let gateway = format!("http://localhost:{}", site.gateway_port);
    let report = site.doctor("DP07", &at(&gateway), &[]).await;
    assert_eq!(report.failed(), Vec::<&str>::new(), "{:#}", report.0);
    let opened = &report.of("DP0705")["evidence"];
    assert_eq!(
        opened, "one is opened, and the gateway closes it with 4401",
        "{:#}",
        report.0
    );
    // Whoever browses to another address than the gateway's own is refused there; and later may be better.
    let elsewhere = servers::between(gateway.clone(), &[], |_, _, _| ()).await;
    for (unknown, why) in [
        (&elsewhere, &gateway),
        (&servers::closing(1013).await, &"1013".to_owned()),
    ] {
        let report = site.doctor("DP07", &at(unknown), &[]).await;
        assert_eq!(report.of("DP0705")["status"], "skipped", "{:#}", report.0);
        let told = report.of("DP0705")["because"].as_str().unwrap();
        assert!(told.contains(why), "{told}");
    }
    let [port] = crate::apiserver::free_ports();
    let no_origin = servers::between(format!("http://localhost:{port}"), &[ORIGIN], |_, _, _| ()).await;
    let _its_gateway = site.gateway_of(port, &no_origin).await;
    let no_upgrade = servers::between(gateway.clone(), &[UPGRADE, CONNECTION], |_, _, _| ()).await;
    let no_subprotocol = servers::between(gateway.clone(), &[SEC_WEBSOCKET_PROTOCOL], |_, _, _| ()).await;
    let cut = servers::between(gateway.clone(), &[], |path, _, answer| {
        if path == "/ws" {
            *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        }
    })
    .await;
    let something_else = servers::pages(None, &[("/health", "fine")]).await;
    let expired = servers::pages(Some(servers::tls(&site.authority, 2020)), &[]).await;
    let unknown = servers::pages(Some(servers::tls(&Authority::new("unknown"), 2099)), &[]).await;
    let soon = servers::tls_for_days(&site.authority, 20);
    let ending = servers::in_front(Some(soon), gateway.clone(), &[], |_, _, _| ()).await;
    let faults = vec![
        ("a proxy without upgrades", at(&no_upgrade), "DP0705"),
        ("a proxy without subprotocols", at(&no_subprotocol), "DP0705"),
        ("a proxy that passes nothing on", at(&cut), "DP0705"),
        ("a proxy that takes Origin out", at(&no_origin), "DP0705"),
        (
            "a proxy that opens WebSockets itself",
            at(&servers::closing(1000).await),
            "DP0705",
        ),
        (
            "one that is forbidden to enter",
            at(&servers::closing(4403).await),
            "DP0705",
        ),
        ("another server", at(&something_else), "DP0704"),
        ("nothing at all", at("http://localhost:1"), "DP0702"),
        ("an expired certificate", at(&expired), "DP0702"),
        ("a certificate that ends soon", at(&ending), "DP0707"),
        ("a certificate of an unknown authority", at(&unknown), "DP0703"),
    ];
    each_is_found(&site, "DP07", faults).await;
}
