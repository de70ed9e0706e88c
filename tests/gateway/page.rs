//! What our own page asks of the gateway: heartbeats, wishes, and a clipboard that may be closed.

use crate::browser::{Answer, Browser};
use crate::eventually::eventually;
use crate::harness::{Site, address, ttyd};
use fastwebsockets::OpCode;
use hyper::Method;
use serde_json::json;

/// What our own page posts; `origin` is what the browser says of where it comes from.
async fn post(browser: &Browser, site: &str, path: &str, origin: Option<&str>) -> Answer {
    let headers: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
    let url = format!("{site}{path}");
    browser.request(Method::POST, &url, &headers, "").await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_restarts_the_workspace_and_keeps_it_working() {
    let site = Site::new("page-wishes").await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    let (browser, name) = (Browser::default(), site.name("dev1"));
    let signed_out = post(&browser, &origin, "/api/workspace/restart", Some(&origin)).await;
    assert_eq!(signed_out.status, 401);
    site.create_running("dev1", address()).await;
    browser.sign_in(&origin, "dev1").await;
    let annotation = async || {
        let workspace = site.workspaces().get(&name).await.unwrap();
        let annotations = workspace.metadata.annotations.unwrap_or_default();
        annotations.get("workspace.devplane.io/restart-requested-at").cloned()
    };
    let accessed = async || {
        site.workspaces()
            .get(&name)
            .await
            .unwrap()
            .status
            .unwrap()
            .last_accessed
    };
    // Another site's page can send the browser's cookie, but not our Origin.
    for path in ["/api/workspace/restart", "/api/workspace/keep-working"] {
        for foreign in [None, Some("https://other.test"), Some("null")] {
            let refused = post(&browser, &origin, path, foreign).await;
            assert_eq!(
                (refused.status, refused.json()["error"].as_str()),
                (403, Some("forbidden"))
            );
        }
        let read = browser.get(&format!("{origin}{path}")).await.unwrap();
        assert_eq!((read.status, read.header("allow")), (405, "POST"));
    }
    assert_eq!((annotation().await, accessed().await), (None, None));

    let taken = post(&browser, &origin, "/api/workspace/restart", Some(&origin)).await;
    assert_eq!(
        (taken.status, taken.json()["name"].as_str()),
        (202, Some(name.as_str()))
    );
    let requested: jiff::Timestamp = annotation().await.unwrap().parse().unwrap();
    assert!(requested > jiff::Timestamp::UNIX_EPOCH);
    let restarts = gateway.audited("workspace.ensure_running");
    assert!(
        restarts
            .iter()
            .any(|line| line["action"] == "restart" && line["reason"] == "requested")
    );

    // It counts as a key does: written at most once a minute.
    let kept = async || {
        post(&browser, &origin, "/api/workspace/keep-working", Some(&origin))
            .await
            .status
    };
    assert_eq!(kept().await, 202);
    assert!(eventually(async || accessed().await.is_some()).await);
    let first = accessed().await;
    assert_eq!(kept().await, 202);
    assert_eq!(accessed().await, first);
    let long_ago = json!({"lastAccessed": "2026-01-01T00:00:00Z"});
    site.set_status(&name, long_ago.clone()).await;
    let seen = eventually(async || {
        kept().await;
        accessed()
            .await
            .is_some_and(|at| at.0.to_string() != "2026-01-01T00:00:00Z")
    });
    assert!(seen.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_is_answered_by_the_workspace() {
    let place = address();
    let site = Site::new("page-heartbeat").await;
    let (_gateway, origin) = (site.gateway(&[]).await, site.origin());
    let _ttyd = ttyd(place);
    let (browser, name) = (Browser::default(), site.name("dev1"));
    site.create_running("dev1", place).await;
    browser.sign_in(&origin, "dev1").await;
    let mut terminal = browser.own_shell(&origin).await;
    for serial in ["h1", "h2", "h3"] {
        terminal.send(serial.as_bytes()).await;
        // The shell may have more to say.
        let answer = loop {
            let frame = terminal.socket.read_frame().await.unwrap();
            if frame.payload.first() != Some(&b'0') {
                break (frame.opcode, frame.payload.to_vec());
            }
        };
        assert_eq!(answer, (OpCode::Binary, serial.as_bytes().to_vec()));
    }
    let sessions = async || site.workspaces().get(&name).await.unwrap().status.unwrap().sessions;
    assert!(eventually(async || sessions().await.len() == 1).await);
    assert_eq!(
        sessions().await[0].last_input,
        None,
        "a heartbeat is nothing that a person does"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clipboard_that_is_closed_one_way_or_both_is_closed_at_the_gateway() {
    let place = address();
    let site = Site::new("page-clipboard").await;
    let origin = site.origin();
    let _ttyd = ttyd(place);
    let browser = Browser::default();
    site.create_running("dev1", place).await;
    for (setting, may_copy, may_paste) in [
        ("none", false, false),
        ("copy", true, false),
        ("paste", false, true),
        ("both", true, true),
    ] {
        let _gateway = site.gateway(&[("GATEWAY_CLIPBOARD", setting)]).await;
        browser.sign_in(&origin, "dev1").await;
        let told = eventually(async || {
            let page = browser.page(&origin).await.body;
            page.contains(&format!("data-clipboard=\"{setting}\""))
        });
        assert!(told.await, "{setting}");
        let mut terminal = browser.own_shell(&origin).await;
        terminal
            .type_keys("printf '\\033]52;c;U0VDUkVU\\a'; echo copied-$((1+1))\r")
            .await;
        // A shell that does not ask yet may lose what is typed.
        terminal.until_asked_behind("copied-2").await;
        // The command is echoed as it was typed, without an escape character.
        let copied = terminal.screen.contains("\u{1b}]52;c;U0VDUkVU");
        assert_eq!(copied, may_copy, "{setting}: {:?}", terminal.screen);
        terminal
            .type_keys("\u{1b}[200~echo pasted-$((2+1))\u{1b}[201~\recho typed-$((2+2))\r")
            .await;
        terminal.until("typed-4").await;
        let pasted = terminal.screen.contains("pasted-3");
        assert_eq!(pasted, may_paste, "{setting}: {:?}", terminal.screen);
        // Without its marks it is typed text, which no gateway can tell from a paste.
        terminal.type_keys("echo unmarked-$((3+3))\r").await;
        terminal.until("unmarked-6").await;
    }
}

/// What a pod, an Event or a user may be called is text on every page.
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_message_is_text() {
    let site = Site::new("page-hostile").await;
    let (_gateway, origin) = (site.gateway(&[]).await, site.origin());
    let (browser, name) = (Browser::default(), site.name("dev1"));
    browser.sign_in(&origin, "dev1").await;
    browser.page(&origin).await;
    let hostile = "</p><script>alert(1)</script><img src=x onerror=alert(1)>\"'\n\nevent: gone\ndata: {}\n\n";
    let failed = json!({"phase": "Failed", "message": hostile, "remediationHint": hostile});
    site.set_status(&name, failed).await;
    let shown = eventually(async || browser.page(&origin).await.body.contains("alert(1)"));
    assert!(shown.await);
    let page = browser.page(&origin).await;
    assert!(
        !page.body.contains("<script>") && !page.body.contains("<img src=x"),
        "{}",
        page.body
    );
    assert!(
        page.body.contains("id=\"retry\" class=\"button\" type=\"button\">"),
        "{}",
        page.body
    );
    // One line of one event, whatever lines the message has.
    let described = browser.get(&format!("{origin}/api/workspace")).await.unwrap();
    assert_eq!(described.json()["message"], hostile);
    assert!(!described.body.contains('\n'));
}
