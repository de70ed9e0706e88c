//! Sessions stay in step with the provider, and end everywhere at once: always with two gateways.

use crate::browser::{Browser, Terminal};
use crate::eventually::eventually;
use crate::harness::{CLIENT_SECRET, Gateway, Site, address, ttyd};
use crate::wire::Wire;
use base64::Engine;
use devplane::api::status::SignIn;
use devplane::clock::{Clock, SystemClock};
use futures::future::join_all;
use hyper::Method;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::sleep;

const ALL: &str = "workspace.devplane.io/sessions-revoked-before";
const ONE: &str = "revoked-session.workspace.devplane.io/";

/// Two gateways, and a workspace of dev1 that runs at `address`.
pub async fn two(site: &Site, address: &str, settings: &[(&str, &str)]) -> (Gateway, Gateway) {
    site.create_running("dev1", address).await;
    let (mut first, mut second) = (settings.to_vec(), settings.to_vec());
    first.push(("POD_NAME", "gateway-1"));
    second.push(("POD_NAME", "gateway-2"));
    tokio::join!(site.gateway(&first), site.second_gateway_with(&second))
}

/// A browser that is signed in at both.
pub async fn signed_in(site: &Site, second: &Gateway) -> Browser {
    let browser = Browser::default();
    assert_eq!(browser.sign_in(&site.origin(), "dev1").await.status, 302);
    browser.copy(&site.origin(), &second.origin);
    browser
}

pub async fn sign_ins(site: &Site) -> Vec<SignIn> {
    let workspace = site.workspaces().get(&site.name("dev1")).await.unwrap();
    workspace.status.unwrap().sign_ins
}

/// How often the provider said so, at both together.
pub async fn counted(gateways: [&Gateway; 2], family: &str, outcome: &str) -> u64 {
    let line = format!("devplane_gateway_{family}_total{{outcome=\"{outcome}\"}} ");
    let mut sum = 0;
    for gateway in gateways {
        let metrics = Browser::default()
            .get(&format!("{}/metrics", gateway.origin))
            .await
            .unwrap()
            .body;
        let count = metrics.lines().find_map(|metric| metric.strip_prefix(&line));
        sum += count.map_or(0, |count| count.parse::<u64>().unwrap());
    }
    sum
}

/// Terminals at both gateways.
pub async fn terminals(site: &Site, browser: &Browser, second: &Gateway) -> [Terminal; 2] {
    let origin = site.origin();
    let mut both = [
        browser.own_terminal(&origin, &origin).await,
        browser.own_terminal(&second.origin, &origin).await,
    ];
    for terminal in &mut both {
        terminal.hello().await;
        terminal.until("$ ").await;
    }
    both
}

/// The one audit line that tells of a session of dev1 that was revoked so.
async fn revoked(gateways: &[&Gateway], reason: &str) -> serde_json::Value {
    let mut lines = vec![];
    let told = eventually(async || {
        let all = gateways.iter().flat_map(|gateway| gateway.audited("session.revoked"));
        lines = all.filter(|line| line["reason"] == reason).collect();
        !lines.is_empty()
    });
    assert!(told.await, "no session was revoked as {reason}");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(
        (&lines[0]["actor.subject"], &lines[0]["action"]),
        (&json!("dev1"), &json!("revoke_session"))
    );
    assert!(lines[0]["session"].is_string());
    lines.remove(0)
}

/// A terminal of this gateway was ended, and why.
async fn ended(gateway: &Gateway, reason: &str) {
    let told = eventually(async || {
        gateway
            .audited("ws.session.end")
            .iter()
            .any(|line| line["reason"] == reason)
    });
    assert!(told.await, "no terminal ended as {reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_provider_is_asked_once_whoever_and_however_many_ask() {
    // Long enough for a busy machine to check one in time, and shorter than the test.
    let site = Site::at_provider("sessions-once", json!({"ttl": {"idToken": 6}})).await;
    let settings = [("SESSION_REFRESH_INTERVAL", "3s"), ("SESSION_REFRESH_GRACE", "30s")];
    let (first, second) = two(&site, address(), &settings).await;
    let browser = signed_in(&site, &second).await;
    assert_eq!(browser.page(&first.origin).await.status, 200);
    // A browser to which no answer ever comes through: it shows the refresh token of the sign-in for ever. Used twice at the provider,
    // the whole session would be over there.
    let stale = [browser.frozen(&first.origin), browser.frozen(&second.origin)];
    for round in 1..=3 {
        let due = eventually(async || {
            // An answer is counted before it is written.
            let entry = sign_ins(&site).await.pop();
            let entry = entry.filter(|entry| u64::from(entry.refreshes) + 1 == round && entry.refreshing.is_none());
            let due = entry.and_then(|entry| entry.refresh_at);
            due.is_some_and(|due| due.0 <= SystemClock.now())
        });
        assert!(due.await);
        let urls = [
            format!("{}/api/workspace", first.origin),
            format!("{}/api/workspace", second.origin),
        ];
        let asked = (0..24).map(|i| {
            let (url, stale) = (&urls[i % 2], &stale[i % 2]);
            // The half with cookies of their own.
            async move {
                let answer = stale.frozen(url).get(url).await.unwrap();
                (answer.status, answer.body)
            }
        });
        for (status, body) in join_all(asked).await {
            assert_eq!(status, 200, "{body}");
        }
        // A request goes on with what is known when the answer is slow.
        let confirmed = || counted([&first, &second], "session_refreshes", "confirmed");
        let is_confirmed = eventually(async || confirmed().await >= round);
        assert!(is_confirmed.await);
        assert_eq!(confirmed().await, round);
    }
    assert_eq!(counted([&first, &second], "session_refreshes", "refused").await, 0);
    // The ID token has long ended. A browser that hears is given what is newer.
    let answer = browser.page(&second.origin).await;
    assert!(answer.status == 200 && !answer.cookies().is_empty(), "{answer:?}");
    let [entry] = &sign_ins(&site).await[..] else {
        panic!("one session")
    };
    assert!(entry.refreshes == 3 && entry.refreshing.is_none() && !entry.sealed.is_empty());
    for gateway in [&first, &second] {
        assert!(!gateway.log().contains(&entry.sealed));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_and_its_terminals_end_when_the_provider_says_no() {
    let place = address();
    let site = Site::at_provider("sessions-no", json!({"ttl": {"idToken": 4}})).await;
    let settings = [("SESSION_REFRESH_INTERVAL", "2s"), ("SESSION_REFRESH_GRACE", "60s")];
    let (first, second) = two(&site, place, &settings).await;
    let _ttyd = ttyd(place);
    let browser = signed_in(&site, &second).await;
    let [mut here, mut there] = terminals(&site, &browser, &second).await;
    // Terminals have their session confirmed by themselves, for longer than the ID token lasts.
    let confirmed = eventually(async || counted([&first, &second], "session_refreshes", "confirmed").await >= 3);
    assert!(confirmed.await, "{}{}", first.log(), second.log());
    here.type_keys("echo st$((1))ll\r").await;
    here.until("st1ll").await;
    let listed = eventually(async || {
        let status = site.workspaces().get(&site.name("dev1")).await.unwrap().status.unwrap();
        let id = &status.sign_ins[0].id;
        status.sessions.len() == 2 && status.sessions.iter().all(|session| session.sign_in == *id)
    });
    assert!(listed.await);

    site.start_provider();
    assert_eq!(tokio::join!(here.closed(), there.closed()), (4401, 4401));
    assert_eq!(browser.page(&first.origin).await.status, 302);
    assert_eq!(browser.page(&second.origin).await.status, 302);
    assert_eq!(counted([&first, &second], "session_refreshes", "refused").await, 1);
    let refused: Vec<_> = [&first, &second]
        .iter()
        .flat_map(|gateway| gateway.audited("auth.token.rejected"))
        .collect();
    assert!(
        refused
            .iter()
            .any(|line| line["reason"] == "refresh_refused" && line["actor.subject"] == "dev1")
    );
    revoked(&[&first, &second], "refresh_refused").await;
    assert!(eventually(async || sign_ins(&site).await.is_empty()).await);
    // And nothing is in the way of a new one.
    browser.sign_in(&site.origin(), "dev1").await;
    assert_eq!(browser.page(&first.origin).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_outlive_a_provider_that_is_away_but_only_for_a_while() {
    let place = address();
    let site = Site::at_provider("sessions-away", json!({"ttl": {"idToken": 4}})).await;
    let settings = [("SESSION_REFRESH_INTERVAL", "2s"), ("SESSION_REFRESH_GRACE", "12s")];
    let (first, second) = two(&site, place, &settings).await;
    let _ttyd = ttyd(place);
    let browser = signed_in(&site, &second).await;
    let [mut here, _there] = terminals(&site, &browser, &second).await;
    site.stop_provider();
    let stopped = Instant::now();
    let asked = eventually(async || counted([&first, &second], "session_refreshes", "unavailable").await >= 1);
    assert!(asked.await);
    assert_eq!(browser.page(&first.origin).await.status, 200);
    let refused = eventually(async || {
        let login = Browser::default().page(&format!("{}/login", first.origin)).await;
        login.status == 503 && login.body.contains("be reached")
    });
    assert!(refused.await);
    assert_eq!(here.closed().await, 1013);
    assert!(stopped.elapsed() > Duration::from_secs(3), "the grace");
    let unconfirmed = browser.page(&second.origin).await;
    assert!(
        unconfirmed.status == 503 && unconfirmed.body.contains("be confirmed now"),
        "{unconfirmed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_ends_one_session_or_all() {
    let place = address();
    let site = Site::new("sessions-revoked").await;
    let (first, second) = two(&site, place, &[]).await;
    let _ttyd = ttyd(place);
    let (one, other) = (signed_in(&site, &second).await, signed_in(&site, &second).await);
    let mut of_one = terminals(&site, &one, &second).await;
    let known = eventually(async || sign_ins(&site).await.len() == 1);
    assert!(known.await);
    let id = sign_ins(&site).await[0].id.clone();
    let mut of_other = terminals(&site, &other, &second).await;

    let (name, namespace) = (site.name("dev1"), site.namespace.as_str());
    let annotate = |annotation: String| {
        site.server.kubectl_ok(
            &[
                "-n",
                namespace,
                "annotate",
                "--overwrite",
                "workspace",
                &name,
                &annotation,
            ],
            None,
        );
        Instant::now()
    };
    let revoked = annotate(format!("{ONE}{id}=now"));
    let [here, there] = &mut of_one;
    assert_eq!(tokio::join!(here.closed(), there.closed()), (4401, 4401));
    assert!(revoked.elapsed() < Duration::from_secs(2), "{:?}", revoked.elapsed());
    ended(&first, "session_revoked").await;
    for gateway in [&first, &second] {
        assert_eq!(one.page(&gateway.origin).await.status, 302);
        assert_eq!(other.page(&gateway.origin).await.status, 200);
    }
    for terminal in &mut of_other {
        terminal.type_keys("echo st$((1))ll\r").await;
        terminal.until("st1ll").await;
    }

    // In the second after, whoever signs in then is in a new session.
    sleep(Duration::from_millis(1100)).await;
    let now = SystemClock.now();
    let revoked = annotate(format!("{ALL}={}", now.round(jiff::Unit::Second).unwrap()));
    let [here, there] = &mut of_other;
    assert_eq!(tokio::join!(here.closed(), there.closed()), (4401, 4401));
    assert!(revoked.elapsed() < Duration::from_secs(2), "{:?}", revoked.elapsed());
    assert_eq!(other.page(&second.origin).await.status, 302);
    sleep(Duration::from_millis(1600)).await;
    other.sign_in(&site.origin(), "dev1").await;
    assert_eq!(other.page(&first.origin).await.status, 200);
    // The value says since when, so that the annotation can be taken away in time.
    let tidied = eventually(async || {
        let workspace = site.workspaces().get(&name).await.unwrap();
        let value = workspace.metadata.annotations.unwrap()[&format!("{ONE}{id}")].clone();
        value.parse::<jiff::Timestamp>().is_ok()
    });
    assert!(tidied.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_ends_when_it_is_old_or_nobody_uses_it() {
    let place = address();
    let site = Site::new("sessions-lifetime").await;
    let (first, second) = two(
        &site,
        place,
        &[("SESSION_IDLE_LIFETIME", "4s"), ("SESSION_LIFETIME", "12s")],
    )
    .await;
    let _ttyd = ttyd(place);
    let browser = signed_in(&site, &second).await;
    let began = Instant::now();
    let [mut typed, mut left] = terminals(&site, &browser, &second).await;
    // What a person types keeps the session; a terminal that nobody types in is closed.
    let typing = async {
        while began.elapsed() < Duration::from_secs(7) {
            typed.type_keys("x").await;
            sleep(Duration::from_millis(500)).await;
        }
    };
    let ((), code) = tokio::join!(typing, left.closed());
    assert_eq!(code, 4401);
    ended(&second, "session_idle").await;
    while began.elapsed() < Duration::from_secs(10) {
        typed.type_keys("x").await;
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(typed.closed().await, 4401);
    assert!(began.elapsed() < Duration::from_secs(14), "{:?}", began.elapsed());
    ended(&first, "session_expired").await;
    assert_eq!(browser.page(&first.origin).await.status, 302);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_hears_nothing_of_the_cluster_lets_nobody_in() {
    let place = address();
    let site = Site::new("sessions-cut-off").await;
    let wire = Wire::to(site.server.port).await;
    let kubeconfig = std::fs::read_to_string(site.server.kubeconfig("gateway")).unwrap();
    let through = site.directory.path().join("kubeconfig");
    let (direct, detour) = (format!(":{}", site.server.port), format!(":{}", wire.port));
    std::fs::write(&through, kubeconfig.replace(&direct, &detour)).unwrap();
    site.create_running("dev1", place).await;
    let settings = [("SESSION_WATCH_LOSS", "20s"), ("KUBECONFIG", through.to_str().unwrap())];
    let (cut_off, second) = tokio::join!(site.gateway(&settings), site.second_gateway());
    let _ttyd = ttyd(place);
    let browser = signed_in(&site, &second).await;
    let [mut here, mut there] = terminals(&site, &browser, &second).await;
    // Longer than the limit: quiet is not lost.
    sleep(Duration::from_secs(22)).await;
    here.type_keys("echo st$((1))ll\r").await;
    here.until("st1ll").await;

    // Nothing is closed and nothing refused; nothing comes through.
    wire.cut();
    let cut = Instant::now();
    assert_eq!(here.closed().await, 1013);
    assert!((4..30).contains(&cut.elapsed().as_secs()), "{:?}", cut.elapsed());
    ended(&cut_off, "watch_lost").await;
    assert_eq!(browser.page(&format!("{}/readyz", cut_off.origin)).await.status, 503);
    assert_eq!(browser.page(&cut_off.origin).await.status, 503);
    let refused = browser.terminal(&cut_off.origin, &[("origin", &site.origin())]).await;
    assert_eq!(refused.err().unwrap().status, 503);
    // The others go on.
    there.type_keys("echo st$((1))ll\r").await;
    there.until("st1ll").await;

    wire.mend();
    let back = eventually(async || browser.page(&format!("{}/readyz", cut_off.origin)).await.status == 200);
    assert!(back.await, "{}", cut_off.log());
    assert_eq!(browser.page(&cut_off.origin).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_exchanged_while_the_gateways_run_and_nobody_is_signed_out() {
    let site = Site::new("sessions-keys").await;
    let (first, second) = two(&site, address(), &[]).await;
    let browser = signed_in(&site, &second).await;
    let secrets: Api<Secret> = Api::namespaced(site.client.clone(), &site.namespace);
    let name = "workspace-gateway-session-keys";
    let secret = secrets.get(name).await.unwrap();
    let old = String::from_utf8(secret.data.unwrap()["keys"].0.clone()).unwrap();
    let new = base64::engine::general_purpose::STANDARD.encode([7; 64]);
    let set = async |lines: &str| {
        let patch = Patch::Merge(json!({"stringData": {"keys": lines}}));
        secrets.patch(name, &PatchParams::default(), &patch).await.unwrap();
    };
    let both_say = async |words: &str| {
        let said = eventually(async || first.log().contains(words) && second.log().contains(words));
        assert!(said.await, "{words} is not in {}", first.log());
    };
    set(&format!("{new}\n{old}")).await;
    both_say("cookies are encrypted with another key").await;
    for gateway in [&first, &second] {
        assert_eq!(
            browser.page(&gateway.origin).await.status,
            200,
            "a cookie of the old key"
        );
    }
    let later = signed_in(&site, &second).await;
    // What is no key changes nothing.
    set("planted-no-key").await;
    both_say("is not usable").await;
    assert_eq!(later.page(&first.origin).await.status, 200);
    set(&new).await;
    for gateway in [&first, &second] {
        let gone = eventually(async || browser.page(&gateway.origin).await.status == 302);
        assert!(gone.await, "a cookie of the old key");
        assert_eq!(later.page(&gateway.origin).await.status, 200, "a cookie of the new key");
        assert!(!gateway.log().contains("planted-no-key"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_out_at_the_provider_is_signed_out_everywhere() {
    let place = address();
    let site = Site::new("sessions-logout").await;
    let (first, second) = two(&site, place, &[]).await;
    let _ttyd = ttyd(place);
    let (browser, other) = (signed_in(&site, &second).await, signed_in(&site, &second).await);
    let [mut here, mut there] = terminals(&site, &browser, &second).await;
    // The provider's own page, which asks whether that is meant.
    let page = browser.page(&format!("{}/session/end", site.issuer)).await;
    let xsrf = page
        .body
        .split("name=\"xsrf\" value=\"")
        .nth(1)
        .unwrap_or_else(|| panic!("{page:?}"));
    let form = format!("xsrf={}&logout=yes", xsrf.split('"').next().unwrap());
    let headers = [("content-type", "application/x-www-form-urlencoded")];
    let url = format!("{}/session/end/confirm", site.issuer);
    let asked = Instant::now();
    let answer = browser.request(Method::POST, &url, &headers, &form).await.unwrap();
    assert!((300..400).contains(&answer.status), "{answer:?}");
    assert_eq!(tokio::join!(here.closed(), there.closed()), (4401, 4401));
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    for gateway in [&first, &second] {
        assert_eq!(browser.page(&gateway.origin).await.status, 302);
        assert_eq!(
            other.page(&gateway.origin).await.status,
            200,
            "another session of the same user"
        );
    }
    assert_eq!(counted([&first, &second], "backchannel_logouts", "revoked").await, 1);
    revoked(&[&first, &second], "backchannel_logout").await;

    // What anyone may send changes nothing.
    let url = format!("{}/backchannel-logout", first.origin);
    let token = other
        .id_token(
            &site.issuer,
            ("devplane", CLIENT_SECRET),
            &format!("{}/callback", site.origin()),
            "dev1",
        )
        .await;
    let (large, twice) = ("x".repeat(100_000), "a&logout_token=b".to_owned());
    for (token, headers) in [
        (&token, &headers[..]),
        (&"planted.logout.token".to_owned(), &headers),
        (&large, &headers),
        (&twice, &headers),
        (&token, &[]),
    ] {
        let body = format!("logout_token={token}");
        let refused = browser.request(Method::POST, &url, headers, &body).await.unwrap();
        let status = if body.len() > 65_536 { 413 } else { 400 };
        assert_eq!(refused.status, status, "{refused:?}");
        assert!(refused.header("cache-control").contains("no-store"));
    }
    assert_eq!(browser.page(&url).await.status, 405);
    assert_eq!(counted([&first, &second], "backchannel_logouts", "invalid").await, 4);
    assert_eq!(
        first
            .audited("auth.token.rejected")
            .iter()
            .filter(|line| line["reason"] == "event")
            .count(),
        1
    );
    assert_eq!(other.page(&first.origin).await.status, 200);
    assert!(!first.log().contains("planted.logout"));

    // Signing out here ends the terminals too, and goes on to the provider.
    let [mut here, mut there] = terminals(&site, &other, &second).await;
    let origin = site.origin();
    let own = [("origin", origin.as_str())];
    let out = other
        .request(Method::POST, &format!("{origin}/logout"), &own, "")
        .await
        .unwrap();
    assert_eq!(out.status, 200);
    let line = revoked(&[&first, &second], "sign_out").await;
    assert_eq!(line["devplane.request_id"], out.header("x-request-id"));
    let onward = format!("5; url={}/session/end?client_id=devplane", site.issuer);
    assert_eq!(out.header("refresh"), onward);
    assert_eq!(tokio::join!(here.closed(), there.closed()), (4401, 4401));
    assert_eq!(
        other.page(&second.origin).await.status,
        302,
        "not even where the cookie was left"
    );
    assert_eq!(browser.page(&format!("{origin}/signed-out")).await.status, 200);
}
