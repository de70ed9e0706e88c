//! Who is at a workspace, as its status tells.

use crate::apiserver::free_ports;
use crate::browser::Browser;
use crate::eventually::eventually;
use crate::harness::{Gateway, Site, address, ttyd, ttyd_with};
use devplane::api::WorkspaceStatus;
use devplane::labels::LISTEN;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use std::time::{Duration, Instant};

async fn status(site: &Site, name: &str) -> WorkspaceStatus {
    site.workspaces().get(name).await.unwrap().status.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn open_terminals_are_listed_by_each_gateway_for_itself() {
    let place = address();
    let site = Site::new("presence").await;
    let first = site.gateway(&[("POD_NAME", "gateway-1")]).await;
    let second = site.second_gateway().await;
    let _ttyd = ttyd(place);
    let name = site.name("dev1");
    site.create_running("dev1", place).await;
    let browser = Browser::default();
    browser.sign_in(&site.origin(), "dev1").await;
    browser.copy(&first.origin, &second.origin);
    // The page that its user has loaded.
    let loaded = devplane::clock::Clock::now(&devplane::clock::SystemClock);
    let loaded_page = eventually(async || browser.page(&first.origin).await.body.contains("id=\"screen\""));
    assert!(loaded_page.await);
    let (origin, agent) = (site.origin(), "x".repeat(300));

    let headers = [("origin", origin.as_str()), ("user-agent", &agent)];
    let here = browser.terminal(&first.origin, &headers).await.ok().unwrap();
    let there = browser.own_terminal(&second.origin, &origin).await;
    let listed = eventually(async || {
        let told = status(&site, &name).await;
        told.sessions.len() == 2 && told.last_accessed.is_some()
    })
    .await;
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
    assert!(session.last_input.is_none() && told.last_accessed.unwrap().0 >= loaded - Duration::from_secs(1));

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
    let told = status(&site, &name).await;
    // Kubernetes keeps whole seconds.
    let since = loaded - Duration::from_secs(1);
    let was_connected = told.last_connected.as_ref().is_some_and(|at| at.0 >= since);
    assert!(was_connected, "loaded at {loaded}: {told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_connects_again_and_again_by_itself_is_no_use() {
    let place = address();
    let site = Site::new("presence-flapping").await;
    let settings = [
        ("SESSION_IDLE_LIFETIME", "12s"),
        ("SESSION_REFRESH_INTERVAL", "1s"),
        ("SESSION_REFRESH_GRACE", "60s"),
    ];
    let (_gateway, origin) = (site.gateway(&settings).await, site.origin());
    let _ttyd = ttyd(place);
    let name = site.name("dev1");
    site.create_running("dev1", place).await;
    let browser = Browser::default();
    browser.sign_in(&origin, "dev1").await;
    assert!(eventually(async || browser.page(&origin).await.body.contains("id=\"screen\"")).await);
    let loaded = Instant::now();
    assert!(eventually(async || status(&site, &name).await.last_accessed.is_some()).await);
    // As long ago as if it had not been written for an hour.
    let long_ago: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    site.set_status(&name, json!({"lastAccessed": long_ago.to_string()}))
        .await;
    let mut connected = 0;
    let events = format!("{origin}/api/workspace/events");
    let ended = loop {
        match browser.terminal(&origin, &[("origin", &origin)]).await {
            Ok(terminal) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                drop(terminal);
                connected += 1;
            }
            Err(refused) => break refused,
        }
        // The page follows these all the time; this one is broken off.
        let follow = browser.request(hyper::Method::GET, &events, &[], "");
        let _ = tokio::time::timeout(Duration::from_millis(300), follow).await;
        assert!(loaded.elapsed() < Duration::from_secs(40), "the session never ends");
    };
    assert_eq!(
        (ended.status, ended.json()["error"].as_str()),
        (401, Some("token_expired"))
    );
    assert!(
        loaded.elapsed() > Duration::from_secs(9) && connected > 5,
        "{connected}"
    );
    assert_eq!(status(&site, &name).await.last_accessed.unwrap().0, long_ago);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_prints_on_keeps_a_workspace_awake_that_asks_for_it() {
    let place = address();
    let site = Site::new("presence-output").await;
    let (mut gateway, origin) = (site.gateway(&[]).await, site.origin());
    let _ttyd = ttyd_with(place, &["bash", "-c", "while echo tick; do sleep 1; done"]);
    let name = site.name("dev1");
    site.create_running("dev1", place).await;
    let browser = Browser::default();
    browser.sign_in(&origin, "dev1").await;
    let opened = eventually(async || browser.page(&origin).await.body.contains("id=\"screen\"")).await;
    assert!(opened);
    let mut terminal = browser.own_terminal(&origin, &origin).await;
    terminal.hello().await;
    terminal.until("tick").await;
    // Asked for while it runs, and the last use was long ago.
    let long_ago: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    site.set_status(&name, json!({"lastAccessed": long_ago.to_string()}))
        .await;
    let output = Patch::Merge(json!({"spec": {"lifecycle": {"keepAlive": "output"}}}));
    site.workspaces()
        .patch(&name, &PatchParams::default(), &output)
        .await
        .unwrap();
    assert!(eventually(async || status(&site, &name).await.last_accessed.unwrap().0 > long_ago).await);
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

    // A gateway that stops tells of the last that it has heard, however soon that is, and one of the others listens from then on.
    let [third] = free_ports();
    let second = site.second_gateway_with(&[("POD_NAME", "gateway-2")]).await;
    let mut others = vec![second, site.gateway_at(third, &[("POD_NAME", "gateway-3")]).await];
    for _ in 0..2 {
        let heard = status(&site, &name).await.last_accessed.unwrap().0;
        tokio::time::sleep(Duration::from_secs(5)).await;
        gateway.terminate();
        assert_eq!(gateway.exit_code(), Some(0));
        assert!(status(&site, &name).await.last_accessed.unwrap().0 > heard);
        let listens = |other: &Gateway| other.log().contains("in the place of a gateway that has stopped");
        assert!(
            eventually(async || others.iter().any(listens)).await,
            "{}",
            others[0].log()
        );
        let annotations = site.workspaces().get(&name).await.unwrap().metadata.annotations;
        assert!(!annotations.unwrap_or_default().contains_key(LISTEN), "taken");
        let listening = others.iter().position(listens).unwrap();
        gateway = others.swap_remove(listening);
        assert!(!others.iter().any(listens), "one alone");
    }

    // With nobody left it is asked for, until there is one again.
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0));
    let later = site.gateway(&[]).await;
    let listens = async || later.log().contains("in the place of a gateway that has stopped");
    assert!(eventually(listens).await, "{}", later.log());
}
