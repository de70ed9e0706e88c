//! Terminals: from the browser's WebSocket to a real ttyd and back.

use crate::browser::Browser;
use crate::eventually::eventually;
use crate::harness::{CLIENT_SECRET, Site, address, ttyd};
use hyper::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_typed_runs_in_the_workspace() {
    let place = address();
    let site = Site::new("terminal").await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    let _ttyd = ttyd(place);
    let (browser, name) = (Browser::default(), site.name("dev1"));
    browser.sign_in(&origin, "dev1").await;
    browser.page(&origin).await;

    let early = browser.terminal(&origin, &[("origin", &origin)]).await.err().unwrap();
    assert_eq!(
        (early.status, early.json()["error"].as_str()),
        (503, Some("workspace_not_ready"))
    );
    assert!(!early.header("retry-after").is_empty());
    // Our page, which can't read that, is told by a close code, as it is of everything else that keeps it out.
    let (code, reason) = browser.own_terminal(&origin, &origin).await.refused.unwrap();
    assert_eq!(
        (code, reason.as_str()),
        (1013, "the workspace takes no connections at the moment")
    );
    let stranger = Browser::default();
    assert_eq!(stranger.own_terminal(&origin, &origin).await.closed().await, 4401);
    let foreign = [("origin", "https://other.test")];
    let foreign = browser
        .terminal_at(&origin, "/ws?client=page", &foreign)
        .await
        .err()
        .unwrap();
    assert_eq!(foreign.status, 403);

    site.set_running(&name, place).await;
    let running = eventually(async || browser.page(&origin).await.body.contains("id=\"screen\""));
    assert!(running.await);
    for (headers, status) in [
        (
            &[("origin", origin.as_str()), ("sec-websocket-protocol", "other")][..],
            400,
        ),
        (&[("origin", &origin), ("sec-websocket-version", "12")], 400),
        (&[("origin", &origin), ("upgrade", "h2c")], 426),
    ] {
        assert_eq!(
            browser.terminal(&origin, headers).await.err().unwrap().status,
            status,
            "{headers:?}"
        );
    }

    let mut terminal = browser.own_shell(&origin).await;
    terminal.type_keys("echo $((6*7))\r").await;
    terminal.until("\r42\r").await;
    terminal.send(br#"1{"columns":101,"rows":33}"#).await;
    terminal.type_keys("stty size\r").await;
    terminal.until("33 101").await;
    let metrics = browser.get(&format!("{origin}/metrics")).await.unwrap().body;
    assert!(metrics.contains("devplane_gateway_open_sessions 1"), "{metrics}");

    // What a person types counts as activity.
    let accessed = async || {
        site.workspaces()
            .get(&name)
            .await
            .unwrap()
            .status
            .unwrap()
            .last_accessed
    };
    assert!(eventually(async || accessed().await.is_some()).await);

    // More than 1 MiB in one message ends it, as RFC 6455 says.
    let too_big = vec![b'0'; (1 << 20) + 1];
    terminal.send(&too_big).await;
    assert_eq!(terminal.closed().await, 1009);
    let ended = eventually(async || gateway.audited("ws.session.end").len() == 1).await;
    assert!(ended, "{}", gateway.log());
    assert_eq!(gateway.audited("ws.session.end")[0]["reason"], "client_message_too_big");
    assert_eq!(gateway.audited("ws.session.start")[0]["workspace"], name);
    assert!(!gateway.log().contains("stty size"), "what is typed is never logged");

    // A program with a token, and no Origin.
    let redirect = format!("{origin}/callback");
    let token = browser
        .id_token(&site.issuer, ("devplane", CLIENT_SECRET), &redirect, "dev1")
        .await;
    let authorization = format!("Bearer {token}");
    let program = Browser::default();
    assert!(
        program
            .terminal(&origin, &[("authorization", &authorization)])
            .await
            .is_ok()
    );
    // Another user's token leads to another user's workspace.
    let other = Browser::default();
    other.sign_in(&origin, "dev2").await;
    assert_eq!(
        other
            .terminal(&origin, &[("origin", &origin)])
            .await
            .err()
            .unwrap()
            .status,
        503
    );
    for path in ["/ws?name=", "/ws?workspace=", "/api/workspace?name="] {
        let answer = other
            .request(Method::GET, &format!("{origin}{path}{name}"), &[], "")
            .await
            .unwrap();
        assert!(!answer.body.contains(&name), "{path}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_opens_terminals_too_often_is_told_to_wait() {
    let place = address();
    let site = Site::new("terminal-limited").await;
    let settings = [
        ("GATEWAY_RL_WS_PER_USER_RPS", "0.01"),
        ("GATEWAY_RL_WS_PER_USER_BURST", "1"),
    ];
    let (_gateway, origin) = (site.gateway(&settings).await, site.origin());
    let _ttyd = ttyd(place);
    let browser = Browser::default();
    site.create_running("dev1", place).await;
    browser.sign_in(&origin, "dev1").await;
    assert_eq!(browser.own_terminal(&origin, &origin).await.refused, None);
    let (code, reason) = browser.own_terminal(&origin, &origin).await.refused.unwrap();
    assert!(code == 1013 && reason.contains("too often"), "{code} {reason}");
    let program = browser.terminal(&origin, &[("origin", &origin)]).await.err().unwrap();
    assert_eq!(
        (program.status, program.json()["error"].as_str()),
        (429, Some("rate_limited"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_sees_nothing_of_the_browser() {
    let place = address();
    let site = Site::new("terminal-headers").await;
    let (_gateway, origin) = (site.gateway(&[]).await, site.origin());
    let (browser, name) = (Browser::default(), site.name("dev1"));
    browser.sign_in(&origin, "dev1").await;
    browser.page(&origin).await;
    // What a hostile workspace would see: it records the handshake and answers with no handshake at all.
    let listener = TcpListener::bind((place, 7681)).await.unwrap();
    site.set_running(&name, place).await;
    let recording = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 16 * 1024];
        let length = stream.read(&mut head).await.unwrap();
        let answer = "HTTP/1.1 200 OK\r\nset-cookie: planted=1\r\ncontent-length: 8\r\n\r\n<script>";
        stream.write_all(answer.as_bytes()).await.unwrap();
        String::from_utf8_lossy(&head[..length]).into_owned()
    });
    assert!(eventually(async || browser.page(&origin).await.body.contains("id=\"screen\"")).await);
    let headers = [
        ("origin", origin.as_str()),
        ("x-planted", "planted-header"),
        ("sec-websocket-extensions", "permessage-deflate"),
    ];
    let refused = browser.terminal(&origin, &headers).await.err().unwrap();
    assert_eq!(refused.status, 503);
    assert!(
        !refused.body.contains("script") && refused.cookies().is_empty(),
        "{refused:?}"
    );
    let head = recording.await.unwrap().to_lowercase();
    assert!(head.starts_with("get /ws http/1.1\r\n"), "{head}");
    for absent in [
        "cookie",
        "authorization",
        "planted",
        "origin",
        "deflate",
        "127.0.0.1",
        "x-request-id",
        "x-forwarded",
    ] {
        assert!(!head.contains(absent), "{absent} reaches the workspace: {head}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_ends_with_the_session() {
    let place = address();
    let site = Site::with_token_lifetime("terminal-expiry", 6).await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    let _ttyd = ttyd(place);
    let browser = Browser::default();
    site.create_running("dev1", place).await;
    browser.sign_in(&origin, "dev1").await;
    let mut terminal = browser.own_terminal(&origin, &origin).await;
    terminal.hello().await;
    assert_eq!(terminal.closed().await, 4401);
    assert!(eventually(async || gateway.audited("ws.session.end").len() == 1).await);
    assert_eq!(gateway.audited("ws.session.end")[0]["reason"], "session_expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_stops_tells_open_terminals_to_come_back() {
    let place = address();
    let site = Site::new("terminal-drain").await;
    let settings = [("GATEWAY_DRAIN_TIMEOUT", "1s")];
    let (mut gateway, origin) = (site.gateway(&settings).await, site.origin());
    let shell = ttyd(place);
    let browser = Browser::default();
    site.create_running("dev1", place).await;
    browser.sign_in(&origin, "dev1").await;

    // A workspace that goes away is told from a gateway that does.
    let mut lost = browser.own_shell(&origin).await;
    drop(shell);
    assert_eq!(lost.closed().await, 1011);

    let _shell = ttyd(place);
    let mut terminal = browser.own_shell(&origin).await;
    gateway.terminate();
    assert_eq!(terminal.closed().await, 1012);
    assert_eq!(gateway.exit_code(), Some(0));
    assert!(!gateway.log().contains("broken off"), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspension_closes_the_terminal_and_keeps_the_user_out() {
    let place = address();
    let site = Site::new("terminal-suspended").await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    let _ttyd = ttyd(place);
    let (browser, name) = (Browser::default(), site.name("dev1"));
    site.create_running("dev1", place).await;
    browser.sign_in(&origin, "dev1").await;
    let mut terminal = browser.own_shell(&origin).await;
    let suspended = r#"{"spec":{"suspended":true}}"#;
    let arguments = [
        "patch",
        "-n",
        &site.namespace,
        "workspace",
        &name,
        "--type",
        "merge",
        "-p",
        suspended,
    ];
    site.server.kubectl_ok(&arguments, None);
    terminal.until("an administrator has suspended it").await;
    assert_eq!(terminal.closed().await, 4403);
    let page = browser.page(&origin).await;
    assert_eq!(page.status, 403);
    assert!(page.body.contains("suspended by an administrator"), "{}", page.body);
    let refused = browser.terminal(&origin, &[("origin", &origin)]).await.err().unwrap();
    assert_eq!(refused.json()["error"], "forbidden");
    assert_eq!(browser.own_terminal(&origin, &origin).await.closed().await, 4403);
    assert!(eventually(async || gateway.audited("ws.session.end").len() == 1).await);
    assert_eq!(gateway.audited("ws.session.end")[0]["reason"], "suspended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_told_in_the_terminal_before_it_is_closed() {
    let place = address();
    let site = Site::new("terminal-stopped").await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    let _ttyd = ttyd(place);
    let (browser, name) = (Browser::default(), site.name("dev1"));
    site.create_running("dev1", place).await;
    browser.sign_in(&origin, "dev1").await;
    for (phase, reason, told, word) in [
        (
            "Creating",
            "Restart",
            "is being restarted: you or an administrator",
            "restart",
        ),
        ("Creating", "Update", "is being restarted: the platform", "update"),
        ("Stopped", "Idle", "is being stopped: nobody has used it", "idle"),
    ] {
        let mut terminal = browser.own_shell(&origin).await;
        let ready = json!([{"type": "Ready", "status": "False", "reason": phase, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]);
        site.set_status(
            &name,
            json!({"phase": phase, "stopReason": reason, "message": "why", "conditions": ready}),
        )
        .await;
        terminal.until(told).await;
        assert_eq!(terminal.closed_because().await, (4410, word.to_owned()));
        let description = browser.get(&format!("{origin}/api/workspace")).await.unwrap().json();
        assert_eq!(
            (&description["stopReason"], &description["ttydReady"]),
            (&json!(reason), &json!(false))
        );
        site.set_status(&name, json!({"stopReason": null})).await;
        site.set_running(&name, place).await;
        let running = eventually(async || browser.page(&origin).await.body.contains("id=\"screen\""));
        assert!(running.await);
    }
    let mut terminal = browser.own_shell(&origin).await;
    site.workspaces().delete(&name, &Default::default()).await.unwrap();
    terminal.until("it was deleted").await;
    assert_eq!(terminal.closed_because().await, (4410, "deleted".to_owned()));
    let reasons = || {
        let ends = gateway.audited("ws.session.end");
        let reasons = ends.iter().map(|end| end["reason"].as_str().unwrap().to_owned());
        reasons
            .filter(|reason| reason.starts_with("workspace_"))
            .collect::<Vec<_>>()
    };
    let expected = [
        "workspace_restart",
        "workspace_update",
        "workspace_idle",
        "workspace_deleted",
    ];
    assert!(eventually(async || reasons() == expected).await, "{:?}", reasons());
}
