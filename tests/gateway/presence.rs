//! Who is at a workspace, as its status tells.

use crate::browser::Browser;
use crate::eventually::eventually;
use crate::harness::{Site, ttyd, ttyd_with};
use devplane::api::WorkspaceStatus;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::time::{Duration, Instant};

async fn status(site: &Site, name: &str) -> WorkspaceStatus {
    site.workspaces().get(name).await.unwrap().status.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn open_terminals_are_listed_by_each_gateway_for_itself() {
    let site = Site::new("presence").await;
    let first = site.gateway(&[("POD_NAME", "gateway-1")]).await;
    let second = site.second_gateway().await;
    let _ttyd = ttyd("127.0.7.11");
    let name = site.name("dev1");
    site.create_running("dev1", "127.0.7.11").await;
    let browser = Browser::default();
    browser.sign_in(&site.origin(), "dev1").await;
    browser.copy(&first.origin, &second.origin);
    let (origin, agent) = (site.origin(), "x".repeat(300));

    let headers = [("origin", origin.as_str()), ("user-agent", &agent)];
    let here = browser.terminal(&first.origin, &headers).await.ok().unwrap();
    let there = browser.own_terminal(&second.origin, &origin).await;
    let listed = eventually(async || status(&site, &name).await.sessions.len() == 2).await;
    assert!(listed, "{:?}", status(&site, &name).await);
    let told = status(&site, &name).await;
    let session = told
        .sessions
        .iter()
        .find(|session| session.gateway == "gateway-1")
        .unwrap();
    assert_eq!(
        (session.client_address.as_str(), session.user_agent.len()),
        ("127.0.0.1", 200)
    );
    assert!(session.last_input.is_none() && told.last_accessed.unwrap().0 >= session.since.0 - Duration::from_secs(1));

    drop(there);
    let one = eventually(async || status(&site, &name).await.sessions.len() == 1).await;
    assert!(one, "{:?}", status(&site, &name).await);
    assert_eq!(status(&site, &name).await.sessions[0].gateway, "gateway-1");

    // A process that had no time to tell: the next one in the same pod does it.
    drop(first);
    drop(here);
    assert_eq!(status(&site, &name).await.sessions.len(), 1);
    let _again = site.gateway(&[("POD_NAME", "gateway-1")]).await;
    assert!(eventually(async || status(&site, &name).await.sessions.is_empty()).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_prints_on_keeps_a_workspace_awake_that_asks_for_it() {
    let site = Site::new("presence-output").await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    let _ttyd = ttyd_with("127.0.7.12", &["bash", "-c", "while echo tick; do sleep 1; done"]);
    let name = site.name("dev1");
    site.create_running("dev1", "127.0.7.12").await;
    let output = Patch::Merge(json!({"spec": {"lifecycle": {"keepAlive": "output"}}}));
    site.workspaces()
        .patch(&name, &PatchParams::default(), &output)
        .await
        .unwrap();
    let browser = Browser::default();
    browser.sign_in(&origin, "dev1").await;
    let opened = eventually(async || browser.page(&origin).await.body.contains("id=\"screen\"")).await;
    assert!(opened);
    let mut terminal = browser.own_terminal(&origin, &origin).await;
    terminal.hello().await;
    terminal.until("tick").await;
    drop(terminal);
    assert!(eventually(async || gateway.audited("ws.session.end").len() == 1).await);
    assert!(eventually(async || status(&site, &name).await.sessions.is_empty()).await);
    // Told in a minute at the latest.
    let left: Timestamp = status(&site, &name).await.last_accessed.unwrap().0;
    let deadline = Instant::now() + Duration::from_secs(90);
    while status(&site, &name).await.last_accessed.unwrap().0 <= left {
        assert!(Instant::now() < deadline, "{}", gateway.log());
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(status(&site, &name).await.sessions.is_empty(), "nobody is there");
}
