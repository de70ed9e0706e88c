//! Who was put out stays out when their Workspace, and with it what it told of them, is deleted: at two replicas.

use crate::browser::Browser;
use crate::eventually::eventually;
use crate::harness::{CLIENT_SECRET, Gateway, Site};
use crate::logout_tokens::{Key, told};
use crate::workspaces::Events;
use devplane::clock::{Clock, SystemClock};
use serde_json::json;

/// The answer of `/api/workspace` to a browser at a replica.
async fn asked(browser: &Browser, gateway: &Gateway) -> (u16, serde_json::Value) {
    let answer = browser.get(&format!("{}/api/workspace", gateway.origin)).await.unwrap();
    (answer.status, answer.json()["error"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_is_deleted_takes_its_sessions_along() {
    let site = Site::new("departed-deleted").await;
    let (first, second) = tokio::join!(site.gateway(&[]), site.second_gateway());
    let (browser, origin) = (Browser::default(), site.origin());
    browser.sign_in(&origin, "dev1").await;
    // What a thief has: before there was a Workspace, and after.
    let early = browser.frozen(&origin);
    assert_eq!(browser.page(&origin).await.status, 200);
    let late = browser.frozen(&origin);
    let redirect = format!("{origin}/callback");
    let token = browser
        .id_token(&site.issuer, ("devplane", CLIENT_SECRET), &redirect, "dev1")
        .await;
    let mut events = Events::of(&browser, &origin).await;
    events.next().await.unwrap();

    let (name, namespace) = (site.name("dev1"), site.namespace.as_str());
    let kubectl = |arguments: &[&str]| site.server.kubectl_ok(&[&["-n", namespace], arguments].concat(), None);
    let ended = format!("workspace.devplane.io/sessions-revoked-before={}", SystemClock.now());
    kubectl(&["annotate", "--overwrite", "workspace", &name, &ended]);
    site.delete(&name).await;
    let is_out = async |browser: &Browser| {
        for gateway in [&first, &second] {
            browser.copy(&origin, &gateway.origin);
            let out = eventually(async || asked(browser, gateway).await.0 == 401);
            assert!(out.await, "{:?}", asked(browser, gateway).await);
            let page = browser.page(&gateway.origin).await;
            assert_eq!((page.status, page.location().path()), (302, "/login"));
            let bearer = [("authorization", format!("Bearer {token}"))];
            let bearer = bearer.each_ref().map(|(name, value)| (*name, value.as_str()));
            let url = format!("{}/api/workspace", gateway.origin);
            let program = Browser::default().request(hyper::Method::GET, &url, &bearer, "").await;
            assert_eq!(program.unwrap().status, 401);
        }
    };
    for thief in [&early, &late] {
        is_out(thief).await;
    }
    assert!(
        site.workspaces().get_opt(&name).await.unwrap().is_none(),
        "nobody made one"
    );
    // The page of who had it says that it is gone, now and when it asks again, and begins no session by itself.
    while events.next().await.is_some_and(|(event, _)| event != "gone") {}
    let mut again = Events::of(&browser, &origin).await;
    assert_eq!(again.next().await.unwrap().0, "gone");

    // Who may still sign in at the provider gets a new one, which opens nothing to the old cookies.
    browser.sign_in(&origin, "dev1").await;
    assert_eq!(browser.page(&origin).await.status, 200);
    assert!(site.workspaces().get_opt(&name).await.unwrap().is_some());
    for thief in [&early, &late] {
        is_out(thief).await;
    }
    assert_eq!(asked(&browser, &first).await.0, 200);
    let reasons = first.audited("auth.token.rejected");
    assert!(
        reasons
            .iter()
            .any(|line| line["reason"] == "workspace_gone" && line["actor.subject"] == "dev1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_signs_out_before_there_is_a_workspace_is_out() {
    let site = Site::new("departed-early").await;
    let gateway = site.gateway(&[]).await;
    let (key, origin) = (Key::of(&site), site.origin());
    let signed_in = async |user: &str| {
        let browser = Browser::default();
        assert_eq!(browser.sign_in(&origin, user).await.status, 302);
        browser.frozen(&origin)
    };
    // Tokens are dated in whole seconds.
    let by_provider = signed_in("dev1").await;
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let token = key.logout(&site, &json!({"sub": "dev1", "jti": "early"}));
    assert_eq!(told(&gateway, &token).await, 200);
    let by_itself = signed_in("dev2").await;
    let copy = by_itself.frozen(&origin);
    let own = [("origin", origin.as_str())];
    let url = format!("{origin}/logout");
    let out = by_itself.request(hyper::Method::POST, &url, &own, "");
    assert_eq!(out.await.unwrap().status, 200);
    for (user, copy) in [("dev1", &by_provider), ("dev2", &copy)] {
        assert_eq!(asked(copy, &gateway).await, (401, json!("token_expired")), "{user}");
        let made = site.workspaces().get_opt(&site.name(user)).await.unwrap();
        assert!(made.is_none(), "{user}");
        let again = signed_in(user).await;
        assert_eq!(asked(&again, &gateway).await.0, 200, "{user}");
        assert_eq!(asked(copy, &gateway).await.0, 401, "{user}");
    }
}
