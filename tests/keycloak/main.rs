//! The real gateway, as two replicas, with a real Keycloak: what its forms, administrators and settings do to sessions and terminals.
//! Everything else is real too, and as in the gateway tier, whose harness this is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../harness/apiserver.rs"]
mod apiserver;
#[path = "../harness/audit_schema.rs"]
mod audit_schema;
#[allow(dead_code, reason = "the gateway tier needs more of it")]
#[path = "../gateway/browser.rs"]
mod browser;
#[path = "../harness/eventually.rs"]
mod eventually;
#[allow(dead_code, reason = "the gateway tier needs more of it")]
#[path = "../gateway/harness.rs"]
mod harness;
mod server;

use apiserver::free_ports;
use browser::{Answer, Browser, Terminal};
use eventually::eventually;
use futures::future::join_all;
use harness::{CLIENT_SECRET, Gateway, Site, address, ttyd};
use hyper::Method;
use serde_json::{Value, json};
use server::{Keycloak, realm, shared, sign_in, submit};
use std::time::{Duration, Instant};

/// A realm of its own, and two gateways that know it.
struct Place {
    keycloak: &'static Keycloak,
    realm: &'static str,
    site: Site,
    first: Gateway,
    second: Gateway,
}

impl Place {
    /// `token_seconds` is how long an ID token lasts.
    async fn new(name: &'static str, token_seconds: u32, settings: &[(&str, &str)]) -> Self {
        let keycloak = shared().await;
        let ports = free_ports();
        let origin = format!("http://127.0.0.1:{}", ports[0]);
        let imported = realm(name, &origin, CLIENT_SECRET, token_seconds);
        keycloak.administer(Method::POST, "", &imported).await;
        let site = Site::at_issuer(name, ports, keycloak.issuer(name)).await;
        let returned = format!("{origin}/signed-out");
        let mut settings = settings.to_vec();
        settings.push(("OIDC_POST_LOGOUT_REDIRECT_URL", &returned));
        let (first, second) = tokio::join!(site.gateway(&settings), site.second_gateway_with(&settings));
        Self {
            keycloak,
            realm: name,
            site,
            first,
            second,
        }
    }

    async fn administer(&self, method: Method, path: &str, body: &Value) -> Value {
        let path = format!("/{}{path}", self.realm);
        self.keycloak.administer(method, &path, body).await
    }

    /// A running workspace of `dev1` with a real ttyd; gives the `sub`.
    async fn workspace(&self) -> (String, harness::Process) {
        let subject = self.keycloak.subject(self.realm, "dev1").await;
        let address = address();
        self.site.create_running(&subject, address).await;
        (subject, ttyd(address))
    }

    /// Signs in by Keycloak's form; gives the browser, at home at both gateways, and the answer of the callback.
    async fn sign_in(&self, user: &str) -> (Browser, Answer) {
        let browser = Browser::default();
        let back = sign_in(&browser, &self.site.origin(), user).await;
        let answer = browser.page(back.as_str()).await;
        browser.copy(&self.site.origin(), &self.second.origin);
        (browser, answer)
    }

    /// A shell at each gateway.
    async fn shells(&self, browser: &Browser) -> [Terminal; 2] {
        let origin = self.site.origin();
        let mut both = [
            browser.own_terminal(&origin, &origin).await,
            browser.own_terminal(&self.second.origin, &origin).await,
        ];
        for shell in &mut both {
            shell.hello().await;
            shell.until("$ ").await;
        }
        both
    }

    /// How often `devplane_gateway_FAMILY_total` counted this outcome, at both gateways together.
    async fn counted(&self, family: &str, outcome: &str) -> u64 {
        let line = format!("devplane_gateway_{family}_total{{outcome=\"{outcome}\"}} ");
        let mut sum = 0;
        for gateway in [&self.first, &self.second] {
            let url = format!("{}/metrics", gateway.origin);
            let metrics = Browser::default().get(&url).await.unwrap().body;
            let count = metrics.lines().find_map(|metric| metric.strip_prefix(&line));
            sum += count.map_or(0, |count| count.parse::<u64>().unwrap());
        }
        sum
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_sign_in_by_its_form_and_out_and_their_groups_decide() {
    let place = Place::new("keycloak-sign-in", 300, &[("OIDC_ALLOWED_GROUPS", "developers")]).await;
    let origin = place.site.origin();
    let (browser, answer) = place.sign_in("dev1").await;
    assert_eq!((answer.status, answer.header("location")), (302, "/"), "{answer:?}");
    let page = browser.page(&place.second.origin).await;
    assert!(
        page.status == 200 && page.body.contains("dev1@example.test"),
        "{page:?}"
    );
    let success = place.first.audited("oidc.callback.success");
    let subject = place.keycloak.subject(place.realm, "dev1").await;
    assert_eq!(success[0]["actor.subject"], subject.as_str());

    // Who is in no group that may enter has an account there all the same.
    let (refused, answer) = place.sign_in("guest").await;
    assert_eq!(answer.status, 403, "{answer:?}");
    assert!(answer.body.contains("you may not use this service"), "{}", answer.body);
    assert_eq!(refused.page(&origin).await.status, 302);
    assert_eq!(place.first.audited("oidc.callback.failure").len(), 1);

    // Signing out goes on to Keycloak, which asks, ends its own session, and sends the browser back.
    let own = [("origin", origin.as_str())];
    let out = browser
        .request(Method::POST, &format!("{origin}/logout"), &own, "")
        .await
        .unwrap();
    let (_, onward) = out
        .header("refresh")
        .split_once("url=")
        .unwrap_or_else(|| panic!("{out:?}"));
    let asked = browser.page(onward).await;
    assert_eq!(asked.status, 200, "{asked:?}");
    let returned = submit(&browser, &asked, "confirmLogout=Logout").await;
    assert_eq!(
        returned.location().as_str(),
        format!("{origin}/signed-out"),
        "{returned:?}"
    );
    let last = browser.page(returned.location().as_str()).await;
    assert!(last.status == 200 && last.body.contains("Signed out"), "{last:?}");
    assert_eq!(
        browser.page(&place.second.origin).await.status,
        302,
        "the other replica"
    );
    // Keycloak has forgotten them too: it asks for the password again.
    let login = browser.page(&format!("{origin}/login")).await;
    let form = browser.page(login.location().as_str()).await;
    assert!(form.status == 200 && form.body.contains("kc-form-login"), "{form:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refresh_tokens_that_are_good_for_once_are_used_once() {
    let settings = [("SESSION_REFRESH_INTERVAL", "3s"), ("SESSION_REFRESH_GRACE", "60s")];
    let place = Place::new("keycloak-rotation", 5, &settings).await;
    let (subject, _ttyd) = place.workspace().await;
    let (browser, _) = place.sign_in("dev1").await;
    let mut shells = place.shells(&browser).await;
    // Browsers and terminals at both replicas, for several times as long as a token lasts. One token that is used twice, and Keycloak
    // ends the session.
    let lasting = eventually(async || {
        let urls = [&place.first, &place.second].map(|gateway| format!("{}/api/workspace", gateway.origin));
        let asked = (0..12).map(|i| {
            let url = &urls[i % 2];
            async { browser.frozen(url).get(url).await.unwrap().status }
        });
        assert!(join_all(asked).await.into_iter().all(|status| status == 200));
        place.counted("session_refreshes", "confirmed").await >= 4
    });
    assert!(lasting.await, "{}", place.first.log());
    assert_eq!(place.counted("session_refreshes", "refused").await, 0);
    for shell in &mut shells {
        shell.type_keys("echo st$((1))ll\r").await;
        shell.until("st1ll").await;
    }

    // Who may no longer sign in is out at the next refresh.
    let path = format!("/users/{subject}");
    place.administer(Method::PUT, &path, &json!({"enabled": false})).await;
    let [here, there] = &mut shells;
    assert_eq!(tokio::join!(here.closed(), there.closed()), (4401, 4401));
    for gateway in [&place.first, &place.second] {
        assert_eq!(browser.page(&gateway.origin).await.status, 302);
    }
    assert_eq!(place.counted("session_refreshes", "refused").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_the_group_is_out_at_the_next_refresh() {
    let settings = [
        ("SESSION_REFRESH_INTERVAL", "3s"),
        ("SESSION_REFRESH_GRACE", "60s"),
        ("OIDC_ALLOWED_GROUPS", "developers"),
    ];
    let place = Place::new("keycloak-groups", 5, &settings).await;
    let (subject, _ttyd) = place.workspace().await;
    let (browser, _) = place.sign_in("dev1").await;
    let [mut here, mut there] = place.shells(&browser).await;
    let groups = place.administer(Method::GET, "/groups", &Value::Null).await;
    let path = format!("/users/{subject}/groups/{}", groups[0]["id"].as_str().unwrap());
    place.administer(Method::DELETE, &path, &Value::Null).await;
    assert_eq!(tokio::join!(here.closed(), there.closed()), (4401, 4401));
    assert_eq!(browser.page(&place.second.origin).await.status, 302);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_s_logout_closes_the_terminals_of_both_replicas() {
    let place = Place::new("keycloak-logout", 300, &[]).await;
    let (subject, _ttyd) = place.workspace().await;
    let (browser, _) = place.sign_in("dev1").await;
    let [mut here, mut there] = place.shells(&browser).await;
    let path = format!("/users/{subject}/logout");
    place.administer(Method::POST, &path, &Value::Null).await;
    let told = Instant::now();
    assert_eq!(tokio::join!(here.closed(), there.closed()), (4401, 4401));
    assert!(told.elapsed() < Duration::from_secs(2), "{:?}", told.elapsed());
    for gateway in [&place.first, &place.second] {
        assert_eq!(browser.page(&gateway.origin).await.status, 302);
    }
    assert_eq!(place.counted("backchannel_logouts", "revoked").await, 1);
    assert_eq!(place.counted("backchannel_logouts", "invalid").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_signing_key_needs_no_restart() {
    let place = Place::new("keycloak-keys", 300, &[]).await;
    let (before, answer) = place.sign_in("dev1").await;
    assert_eq!(answer.status, 302, "{answer:?}");
    let parent = place.administer(Method::GET, "", &Value::Null).await["id"].clone();
    let provider = json!({
        "name": "newer", "providerId": "rsa-generated", "providerType": "org.keycloak.keys.KeyProvider", "parentId": parent,
        "config": {"priority": ["1000"], "enabled": ["true"], "active": ["true"], "algorithm": ["RS256"], "keySize": ["2048"]},
    });
    place.administer(Method::POST, "/components", &provider).await;
    let (after, answer) = place.sign_in("dev1").await;
    assert_eq!((answer.status, answer.header("location")), (302, "/"), "{answer:?}");
    for gateway in [&place.first, &place.second] {
        for browser in [&before, &after] {
            assert_eq!(browser.page(&gateway.origin).await.status, 200);
        }
    }
    let fetched = "keys were fetched again for a token with an unknown key";
    assert!(place.first.log().contains(fetched), "{}", place.first.log());
}
