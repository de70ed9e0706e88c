//! Everyone who is put out, by whatever way: at two replicas behind one address, and at one that is about to stop.

use crate::apiserver::free_ports;
use crate::balancer::Balancer;
use crate::browser::{Browser, Terminal};
use crate::eventually::eventually;
use crate::harness::{Gateway, Site, address, ttyd};
use devplane::clock::{Clock, SystemClock};
use hyper::Method;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_drains_closes_the_terminals_of_who_is_out_at_once() {
    let (place, elsewhere) = (address(), address());
    let site = Site::new("revoked-draining").await;
    site.create_running("dev1", place).await;
    site.create_running("dev2", elsewhere).await;
    let _ttyds = (ttyd(place), ttyd(elsewhere));
    // Each terminal moves at some time in it: hardly ever while this test looks.
    let settings = [("GATEWAY_DRAIN_TIMEOUT", "1h")];
    let mut draining = site.gateway(&settings).await;
    let (one, other) = (Browser::default(), Browser::default());
    one.sign_in(&site.origin(), "dev1").await;
    other.sign_in(&site.origin(), "dev2").await;
    let mut of_one = one.own_shell(&site.origin()).await;
    let mut of_other = other.own_shell(&site.origin()).await;
    let known = eventually(async || {
        let workspace = site.workspaces().get(&site.name("dev1")).await.unwrap();
        workspace.status.unwrap().sign_ins.len() == 1
    });
    assert!(known.await);
    let (workspaces, parameters) = (site.workspaces(), PatchParams::default());
    let status = workspaces.get(&site.name("dev1")).await.unwrap().status.unwrap();
    draining.terminate();
    assert!(eventually(async || draining.log().contains("the gateway stops")).await);
    of_one.type_keys("echo st$((1))ll\r").await;
    of_one.until("st1ll").await;

    let key = format!("revoked-session.workspace.devplane.io/{}", status.sign_ins[0].id);
    for (name, patch, terminal, code) in [
        (
            site.name("dev1"),
            json!({"metadata": {"annotations": {key: "now"}}}),
            &mut of_one,
            4401,
        ),
        (
            site.name("dev2"),
            json!({"spec": {"suspended": true}}),
            &mut of_other,
            4403,
        ),
    ] {
        workspaces
            .patch(&name, &parameters, &Patch::Merge(patch))
            .await
            .unwrap();
        let told = Instant::now();
        assert_eq!(terminal.closed().await, code);
        assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
    }
    assert_eq!(draining.exit_code(), Some(0), "nothing is left to wait for");
}

const ALL: &str = "workspace.devplane.io/sessions-revoked-before";

/// Two replicas behind the site's address.
async fn two(site: &Site) -> ([Gateway; 2], Balancer) {
    let ports: [u16; 2] = free_ports();
    let gateways = tokio::join!(
        site.gateway_at(ports[0], &[("POD_NAME", "gateway-1")]),
        site.gateway_at(ports[1], &[("POD_NAME", "gateway-2")])
    );
    let behind = ports.map(|port| format!("127.0.0.1:{port}"));
    let balancer = Balancer::at(site.port(), behind).await;
    (gateways.into(), balancer)
}

/// Shells through the one address, until both replicas have one.
async fn shells(site: &Site, browser: &Browser, gateways: &[Gateway; 2]) -> Vec<Terminal> {
    let opened = || {
        gateways
            .each_ref()
            .map(|gateway| gateway.audited("ws.session.start").len())
    };
    let (before, mut shells) = (opened(), Vec::new());
    while opened().iter().zip(before).any(|(now, before)| *now == before) {
        assert!(shells.len() < 8, "one replica gets no terminal");
        shells.push(browser.own_shell(&site.origin()).await);
    }
    shells
}

async fn patch(site: &Site, patch: Value) {
    let (name, parameters) = (site.name("dev1"), PatchParams::default());
    let patched = site.workspaces().patch(&name, &parameters, &Patch::Merge(patch)).await;
    patched.unwrap();
}

#[derive(Clone, Copy, Debug)]
enum Way {
    OneSession,
    AllSessions,
    Suspension,
    SignOut,
    SignOutAtTheProvider,
}

impl Way {
    /// Puts out who is signed in with `browser`.
    async fn take(self, site: &Site, browser: &Browser) {
        match self {
            Self::OneSession => {
                let workspace = site.workspaces().get(&site.name("dev1")).await.unwrap();
                let ids: Vec<_> = workspace
                    .status
                    .unwrap()
                    .sign_ins
                    .into_iter()
                    .map(|entry| entry.id)
                    .collect();
                let keys = ids
                    .iter()
                    .map(|id| format!("revoked-session.workspace.devplane.io/{id}"));
                let annotations: serde_json::Map<_, _> = keys.map(|key| (key, json!("now"))).collect();
                patch(site, json!({"metadata": {"annotations": annotations}})).await;
            }
            Self::AllSessions => {
                patch(
                    site,
                    json!({"metadata": {"annotations": {ALL: SystemClock.now().to_string()}}}),
                )
                .await;
            }
            Self::Suspension => patch(site, json!({"spec": {"suspended": true}})).await,
            Self::SignOut => {
                let (url, origin) = (format!("{}/logout", site.origin()), site.origin());
                let out = browser.request(Method::POST, &url, &[("origin", &origin)], "").await;
                assert_eq!(out.unwrap().status, 200);
            }
            Self::SignOutAtTheProvider => {
                let page = browser.page(&format!("{}/session/end", site.issuer)).await;
                let xsrf = page.body.split("name=\"xsrf\" value=\"").nth(1).unwrap();
                let form = format!("xsrf={}&logout=yes", xsrf.split('"').next().unwrap());
                let headers = [("content-type", "application/x-www-form-urlencoded")];
                let url = format!("{}/session/end/confirm", site.issuer);
                let answer = browser.request(Method::POST, &url, &headers, &form).await.unwrap();
                assert!((300..400).contains(&answer.status), "{answer:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_out_closes_the_terminals_at_both_replicas_behind_one_address() {
    let place = address();
    let site = Site::new("revoked-balanced").await;
    site.create_running("dev1", place).await;
    let _ttyd = ttyd(place);
    let (gateways, _balancer) = two(&site).await;
    for way in [
        Way::OneSession,
        Way::AllSessions,
        Way::Suspension,
        Way::SignOut,
        Way::SignOutAtTheProvider,
    ] {
        let browser = Browser::default();
        browser.sign_in(&site.origin(), "dev1").await;
        // Whoever has a copy of the cookie is out, too.
        let copy = browser.frozen(&site.origin());
        let mut shells = shells(&site, &browser, &gateways).await;
        let noted = eventually(async || {
            let status = site.workspaces().get(&site.name("dev1")).await.unwrap().status.unwrap();
            let ids: Vec<_> = status.sign_ins.iter().map(|entry| &entry.id).collect();
            status.sessions.len() >= shells.len()
                && status.sessions.iter().all(|session| ids.contains(&&session.sign_in))
        });
        assert!(noted.await, "{way:?}");
        let began = Instant::now();
        way.take(&site, &browser).await;
        let code = if matches!(way, Way::Suspension) { 4403 } else { 4401 };
        for shell in &mut shells {
            assert_eq!(shell.closed().await, code, "{way:?}");
        }
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{way:?}: {:?}",
            began.elapsed()
        );
        // In turn, so each replica is asked.
        for _ in 0..4 {
            let page = copy.page(&site.origin()).await;
            let refused = if matches!(way, Way::Suspension) { 403 } else { 302 };
            assert_eq!(page.status, refused, "{way:?}: {page:?}");
            let terminal = copy.terminal(&site.origin(), &[("origin", &site.origin())]).await;
            assert!(matches!(terminal.err().unwrap().status, 401 | 403), "{way:?}");
        }
        patch(&site, json!({"spec": {"suspended": false}})).await;
    }
    // Each line of a session that is over says whose it was.
    let rejected = gateways
        .iter()
        .flat_map(|gateway| gateway.audited("auth.token.rejected"));
    let over: Vec<_> = rejected.filter(|line| line["reason"] == "session_revoked").collect();
    assert!(over.len() >= 16, "{over:?}");
    assert!(
        over.iter()
            .all(|line| line["actor.subject"] == "dev1" && line["userId"] == site.name("dev1"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_in_while_all_sessions_are_ended_is_told_so_and_goes_round_in_no_circle() {
    let site = Site::new("revoked-ahead").await;
    site.create_running("dev1", address()).await;
    let (gateways, _balancer) = two(&site).await;
    let origin = site.origin();
    let ended = async |value: &str| {
        patch(&site, json!({"metadata": {"annotations": {ALL: value}}})).await;
        let seen = eventually(async || {
            let [one, other] = gateways.each_ref().map(|gateway| format!("{}/readyz", gateway.origin));
            Browser::default().page(&one).await.status == 200 && Browser::default().page(&other).await.status == 200
        });
        assert!(seen.await);
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    let ahead: Timestamp = SystemClock.now() + Duration::from_secs(3600);
    for (value, words) in [
        (ahead.to_string(), format!("begin before {ahead:.0}")),
        ("tomorrow".to_owned(), "a time that can&#39;t be read".to_owned()),
    ] {
        ended(&value).await;
        for _ in 0..2 {
            let browser = Browser::default();
            let answer = browser.sign_in(&origin, "dev1").await;
            assert_eq!(answer.status, 403, "{answer:?}");
            assert!(answer.body.contains(&words), "no {words} in {}", answer.body);
            assert!(
                browser.jar(&origin).is_empty(),
                "no session, and the attempt is used up"
            );
        }
    }
    let failures: Vec<_> = gateways
        .iter()
        .flat_map(|gateway| gateway.audited("oidc.callback.failure"))
        .collect();
    assert_eq!(failures.len(), 4);
    assert!(failures.iter().all(|line| line["reason"] == "sessions_revoked"));
    // A second that is meant as a whole is waited for: the session that begins then stands.
    ended(&SystemClock.now().round(jiff::Unit::Second).unwrap().to_string()).await;
    let browser = Browser::default();
    assert_eq!(browser.sign_in(&origin, "dev1").await.status, 302);
    for _ in 0..4 {
        assert_eq!(browser.page(&origin).await.status, 200);
    }
}
