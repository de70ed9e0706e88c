//! Whose Workspace is whose, and how a start is told.

use crate::browser::Browser;
use crate::eventually::eventually;
use crate::harness::Site;
use devplane::labels::{FINALIZER, WAKE_REQUESTED_AT};
use http_body_util::BodyExt;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_visit_makes_a_workspace_and_the_next_finds_it() {
    let site = Site::new("made").await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    let browser = Browser::default();
    for user in ["dev1", "Dev.1"] {
        let browser = Browser::default();
        browser.sign_in(&origin, user).await;
        assert_eq!(browser.page(&origin).await.status, 200);
    }
    let all = site.workspaces().list(&ListParams::default()).await.unwrap().items;
    let mut names: Vec<_> = all.iter().map(ResourceExt::name_any).collect();
    let mut expected = vec![site.name("dev1"), site.name("Dev.1")];
    names.sort();
    expected.sort();
    assert_eq!(names, expected, "two subjects, two workspaces");
    let made = site.workspaces().get(&site.name("dev1")).await.unwrap();
    assert_eq!(made.spec.user.issuer.as_deref(), Some(site.issuer.as_str()));
    assert_eq!(made.spec.user.subject.as_deref(), Some("dev1"));
    assert_eq!(made.spec.user.email, "dev1@example.test");
    assert_eq!(
        (made.spec.resources.cpu.as_str(), made.spec.resources.storage.as_str()),
        ("2", "20Gi")
    );
    assert_eq!(made.spec.ai_config.providers.len(), 1);
    assert_eq!(made.labels()["user"], site.name("dev1"));
    assert_eq!(
        made.finalizers(),
        [FINALIZER],
        "so that the operator need not put it on"
    );

    browser.sign_in(&origin, "dev1").await;
    let api = browser.get(&format!("{origin}/api/workspace")).await.unwrap().json();
    assert_eq!(api["name"], site.name("dev1"));
    assert_eq!(api["ttydReady"], false);
    let audited = gateway.audited("workspace.ensure_exists");
    let actions: Vec<_> = audited.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["create", "create", "get"]);
    // By this annotation the operator's lines tell which request it was.
    let requested_by = "workspace.devplane.io/requested-by";
    assert_eq!(
        audited[0]["devplane.request_id"],
        made.annotations()[requested_by].as_str()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_is_entered_by_its_recorded_owner_only() {
    let site = Site::new("owners").await;
    let owner = |id: &str, issuer: &str, subject: &str| json!({"id": id, "email": "a@example.test", "issuer": issuer, "subject": subject});
    // An administrator bound one of version 1.1, whatever its name.
    site.create("old-name", owner("old-name", &site.issuer, "dev1")).await;
    // Someone else's, under the name that dev2's would have.
    let taken = site.name("dev2");
    site.create(&taken, owner(&taken, &site.issuer, "another")).await;
    // One of version 1.1 that nobody has bound.
    let unbound = site.name("Dev.1");
    site.create(&unbound, json!({"id": unbound, "email": "a@example.test"}))
        .await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    let visit = async |user: &str| {
        let browser = Browser::default();
        browser.sign_in(&origin, user).await;
        browser.get(&format!("{origin}/api/workspace")).await.unwrap()
    };
    let bound = visit("dev1").await;
    assert_eq!((bound.status, bound.json()["name"].as_str()), (200, Some("old-name")));
    let refused = visit("dev2").await;
    assert_eq!(
        (refused.status, refused.json()["error"].as_str()),
        (403, Some("forbidden"))
    );
    assert!(
        refused.json()["message"]
            .as_str()
            .unwrap()
            .contains("belongs to another user")
    );
    let refused = visit("Dev.1").await;
    assert_eq!(refused.status, 403);
    assert!(
        refused.json()["message"]
            .as_str()
            .unwrap()
            .contains("spec.user.subject")
    );
    // The same subject of another issuer is someone else.
    site.create("elsewhere", owner("elsewhere", "https://other.test", "dev1"))
        .await;
    assert_eq!(visit("dev1").await.json()["name"], "old-name");
    site.create("second", owner("second", &site.issuer, "dev1")).await;
    let ambiguous = eventually(async || visit("dev1").await.status == 403).await;
    assert!(ambiguous, "two workspaces that record one user are refused");
    let denied = gateway.audited("workspace.ensure_exists");
    let reasons: Vec<_> = denied
        .iter()
        .filter(|line| line["outcome"] == "denied")
        .map(|line| line["reason"].as_str().unwrap())
        .collect();
    assert_eq!(reasons, ["other_owner", "no_owner", "ambiguous"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_visit_wakes_a_stopped_workspace() {
    let site = Site::new("woken").await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    let (browser, name) = (Browser::default(), site.name("dev1"));
    browser.sign_in(&origin, "dev1").await;
    let api = format!("{origin}/api/workspace");
    browser.get(&api).await.unwrap();
    site.set_status(&name, json!({"phase": "Stopped", "stoppedAt": "2026-01-01T00:00:00Z"}))
        .await;
    let stopped = eventually(async || {
        // Following wakes nothing.
        let mut events = Events::of(&browser, &origin).await;
        events.next().await.is_some_and(|(_, view)| view["phase"] == "Stopped")
    });
    assert!(stopped.await);
    let annotation = async || {
        let workspace = site.workspaces().get(&name).await.unwrap();
        workspace.annotations().get(WAKE_REQUESTED_AT).cloned()
    };
    assert_eq!(annotation().await, None);
    assert_eq!(browser.get(&api).await.unwrap().status, 200);
    assert!(annotation().await.is_some());
    let woken = &gateway.audited("workspace.ensure_running")[0];
    assert_eq!(woken["action"], "restart");
    let requested_by = format!(
        "{}@{}",
        woken["devplane.request_id"].as_str().unwrap(),
        annotation().await.unwrap()
    );
    let workspace = site.workspaces().get(&name).await.unwrap();
    assert_eq!(
        workspace.annotations()["workspace.devplane.io/requested-by"],
        requested_by
    );
}

/// An open stream of server-sent events.
pub struct Events {
    body: hyper::body::Incoming,
    text: String,
    _connection: tokio::task::JoinHandle<()>,
}

impl Events {
    pub async fn of(browser: &Browser, origin: &str) -> Self {
        let authority = origin.trim_start_matches("http://");
        let stream = TcpStream::connect(authority).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        let connection = tokio::spawn(async move { drop(connection.await) });
        let cookies: Vec<_> = browser
            .jar(origin)
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let request = hyper::Request::get("/api/workspace/events")
            .header("host", authority)
            .header("cookie", cookies.join("; "))
            .body(http_body_util::Empty::<bytes::Bytes>::new());
        let response = sender.send_request(request.unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            body: response.into_body(),
            text: String::new(),
            _connection: connection,
        }
    }

    /// The name and data of the next event; `None` at the end.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let (event, rest) = (event.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some((name, data)) = event.split_once("\ndata: ") {
                    let name = name.trim_start_matches("event: ").to_owned();
                    return Some((name, serde_json::from_str(data).unwrap()));
                }
                continue;
            }
            let frame = tokio::time::timeout(std::time::Duration::from_secs(30), self.body.frame()).await;
            let bytes = frame.expect("no event in time")?.ok()?.into_data().ok()?;
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_pushed_from_the_watch() {
    let site = Site::new("progress").await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    let (browser, name) = (Browser::default(), site.name("dev1"));
    browser.sign_in(&origin, "dev1").await;
    browser.page(&origin).await;
    let mut events = Events::of(&browser, &origin).await;
    let (event, view) = events.next().await.unwrap();
    assert_eq!(
        (event.as_str(), view["name"].as_str()),
        ("workspace", Some(name.as_str()))
    );
    assert_eq!(view["steps"][0]["state"], "active");
    site.set_status(
        &name,
        json!({"phase": "Failed", "message": "no such image", "remediationHint": "check it"}),
    )
    .await;
    let (_, view) = events.next().await.unwrap();
    assert_eq!(
        (view["phase"].as_str(), view["remediationHint"].as_str()),
        (Some("Failed"), Some("check it"))
    );
    assert_eq!(view["steps"][0]["state"], "failed");
    site.set_running(&name, "127.0.0.9").await;
    let (_, view) = events.next().await.unwrap();
    assert_eq!(
        (view["ttydReady"].as_bool(), view["steps"][3]["state"].as_str()),
        (Some(true), Some("done"))
    );
    assert!(browser.page(&origin).await.body.contains("id=\"screen\""));

    // Someone else sees nothing of it.
    let other = Browser::default();
    other.sign_in(&origin, "dev2").await;
    other.page(&origin).await;
    let (_, view) = Events::of(&other, &origin).await.next().await.unwrap();
    assert_eq!(view["name"], site.name("dev2"));

    site.delete(&name).await;
    assert_eq!(events.next().await.unwrap().0, "gone");
    assert!(events.next().await.is_none());
    drop(gateway);
}
