//! A session that nobody used for longer than the provider's word lasts: a tab that was closed, a computer that slept.

use crate::apiserver::free_ports;
use crate::browser::Browser;
use crate::eventually::eventually;
use crate::front::Front;
use crate::harness::{Site, address, ttyd};
use devplane::api::status::SignIn;
use devplane::clock::{Clock, SystemClock};
use serde_json::json;

async fn sign_ins(site: &Site) -> Vec<SignIn> {
    let workspace = site.workspaces().get(&site.name("dev1")).await.unwrap();
    workspace.status.unwrap().sign_ins
}

/// Until the provider's word for every session is too old.
async fn unconfirmed(site: &Site) {
    let is_old = eventually(async || {
        let now = SystemClock.now();
        let entries = sign_ins(site).await;
        entries.iter().all(|entry| entry.valid_until.as_ref().unwrap().0 < now)
    });
    assert!(is_old.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_is_let_in_when_the_provider_confirms_it_and_not_before() {
    let place = address();
    let [behind] = free_ports();
    let settings = json!({"listen": [format!("127.0.0.1:{behind}")]});
    let site = Site::at_provider("resumed", settings).await;
    let issuer: url::Url = site.issuer.parse().unwrap();
    let front = Front::at(issuer.port().unwrap(), behind).await;
    site.create_running("dev1", place).await;
    let _ttyd = ttyd(place);
    let settings = [("SESSION_REFRESH_INTERVAL", "2s"), ("SESSION_REFRESH_GRACE", "1s")];
    let (first, second) = tokio::join!(site.gateway(&settings), site.second_gateway_with(&settings));
    let (browser, origin) = (Browser::default(), site.origin());
    browser.sign_in(&origin, "dev1").await;
    browser.copy(&origin, &second.origin);
    assert_eq!(browser.page(&origin).await.status, 200);
    // To this one no answer comes through any more: what the provider gives instead of its token is in the Workspace alone.
    let stale = browser.frozen(&second.origin);
    let confirmed = eventually(async || {
        let status = browser.page(&origin).await.status;
        assert_eq!(status, 200);
        sign_ins(&site).await.first().is_some_and(|entry| entry.refreshes >= 1)
    });
    assert!(confirmed.await);
    unconfirmed(&site).await;

    // Someone else's sign-in, with which what is over is forgotten. This is not.
    let other = Browser::default();
    other.sign_in(&origin, "dev1").await;
    assert_eq!(other.page(&origin).await.status, 200);
    assert!(eventually(async || sign_ins(&site).await.len() == 2).await);
    let back = eventually(async || {
        let back = stale.page(&second.origin).await;
        assert_ne!(back.status, 302, "signed out: {}", second.log());
        back.status == 200
    });
    assert!(back.await, "{}", second.log());
    let mut shell = stale
        .terminal(&second.origin, &[("origin", &origin)])
        .await
        .ok()
        .unwrap();
    shell.hello().await;
    shell.until("$ ").await;
    drop(shell);
    assert!(sign_ins(&site).await.iter().any(|entry| entry.refreshes >= 2));
    unconfirmed(&site).await;

    // A proxy that answers for a provider which is down is not the provider's word, neither yes nor no.
    for status in [502, 503] {
        front.answer(Some(status));
        let refused = stale.page(&second.origin).await;
        assert_eq!(refused.status, 503, "{refused:?}");
        assert!(refused.body.contains("be confirmed now") && refused.body.contains("sign in again"));
        let terminal = stale
            .terminal(&second.origin, &[("origin", &origin)])
            .await
            .err()
            .unwrap();
        assert_eq!(
            (terminal.status, terminal.json()["error"].as_str()),
            (503, Some("session_unconfirmed"))
        );
        assert!(terminal.header("retry-after").parse::<u32>().unwrap() > 0);
        front.answer(None);
        let again = eventually(async || stale.page(&second.origin).await.status == 200);
        assert!(again.await, "{}", second.log());
        unconfirmed(&site).await;
    }
    let reasons = |reason: &str| {
        let all = second.audited("auth.token.rejected");
        all.iter().filter(|line| line["reason"] == reason).count()
    };
    assert!(reasons("session_unconfirmed") >= 4);

    // When the provider says no, the session is over.
    site.start_provider();
    assert!(eventually(async || stale.page(&second.origin).await.status == 302).await);
    assert_eq!(reasons("refresh_refused"), 1, "{}", second.log());
    assert!(eventually(async || sign_ins(&site).await.len() == 1).await);
    assert_eq!(browser.page(&first.origin).await.status, 302);
}
