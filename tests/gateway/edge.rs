//! Who asks, how often, and how much may be open at once.

use crate::apiserver::free_ports;
use crate::browser::Browser;
use crate::eventually::eventually;
use crate::harness::{CLIENT_SECRET, Site, address, ttyd};
use crate::openmetrics;
use futures::{StreamExt, stream};
use hyper::Method;
use serde_json::json;
use std::future::ready;
use std::pin::pin;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn clients_are_known_by_trusted_proxies_alone() {
    let site = Site::new("edge-address").await;
    let trusting = [
        ("GATEWAY_TRUSTED_PROXIES", "127.0.0.0/8"),
        ("GATEWAY_RL_SIGN_IN_PER_ADDRESS_RPS", "0.01"),
        ("GATEWAY_RL_SIGN_IN_PER_ADDRESS_BURST", "2"),
    ];
    let (gateway, second) = tokio::join!(site.gateway(&trusting), site.second_gateway_with(&trusting[1..]));
    let visitor = Browser::default();
    let login = async |origin: &str, header: (&str, &str)| {
        let url = format!("{origin}/login");
        visitor.request(Method::GET, &url, &[header], "").await.unwrap()
    };
    let forwarded = "x-forwarded-for";
    for (address, status) in [
        ("203.0.113.7", 302),
        ("198.51.100.1, 203.0.113.7", 302),
        ("203.0.113.8", 302),
        ("198.51.100.2, 203.0.113.7", 429),
        ("203.0.113.7, 127.0.0.9", 429),
        ("2001:db8::1", 302),
        ("2001:db8::2", 302),
        ("2001:db8::3", 429),
    ] {
        let answer = login(&gateway.origin, (forwarded, address)).await;
        assert_eq!(answer.status, status, "{address}");
        if status == 429 {
            assert_eq!(answer.json()["error"], "rate_limited");
            assert!(answer.header("retry-after").parse::<u32>().unwrap() > 1);
        }
    }
    // Tokens that are tried out.
    let api = format!("{}/api/workspace", gateway.origin);
    let tried = [
        (forwarded, "203.0.113.50"),
        ("authorization", "Bearer planted.bad.token"),
    ];
    for status in [401, 401, 429] {
        let answer = visitor.request(Method::GET, &api, &tried, "").await.unwrap();
        assert_eq!(answer.status, status);
    }
    // Then not even a good one is looked at, so that no signature need be checked, and only from there.
    let redirect = format!("{}/callback", site.origin());
    let client = ("devplane", CLIENT_SECRET);
    let token = Browser::default()
        .id_token(&site.issuer, client, &redirect, "dev1")
        .await;
    let authorization = format!("Bearer {token}");
    for (address, status) in [("203.0.113.50", 429), ("203.0.113.51", 200)] {
        let shown = [(forwarded, address), ("authorization", authorization.as_str())];
        let answer = visitor.request(Method::GET, &api, &shown, "").await.unwrap();
        assert_eq!(answer.status, status, "{address}: {answer:?}");
    }
    // Logout tokens have buckets of their own: bad Bearer tokens keep nobody from telling who signed out, nor the other way round.
    let logout = format!("{}/backchannel-logout", gateway.origin);
    for (address, status) in [
        ("203.0.113.50", 400),
        ("203.0.113.50", 400),
        ("203.0.113.50", 429),
        ("203.0.113.50", 429),
        ("203.0.113.51", 400),
    ] {
        let form = [
            (forwarded, address),
            ("content-type", "application/x-www-form-urlencoded"),
        ];
        let body = "logout_token=planted.bad.token";
        let answer = visitor.request(Method::POST, &logout, &form, body).await.unwrap();
        assert_eq!(answer.status, status, "{address}: {answer:?}");
    }
    // From anyone else, the header changes nothing.
    for (name, address, status) in [
        (forwarded, "203.0.113.1", 302),
        ("x_forwarded_for", "203.0.113.2", 302),
        (forwarded, "203.0.113.3", 429),
        ("forwarded", "for=203.0.113.4", 429),
    ] {
        assert_eq!(login(&second.origin, (name, address)).await.status, status, "{name}");
    }
    let metrics = visitor.page(&format!("{}/metrics", gateway.origin)).await.body;
    let counted = r#"devplane_gateway_rate_limit_hits_total{endpoint="sign_in",scope="address"} 5"#;
    assert!(metrics.contains(counted), "{metrics}");
    let counted = r#"devplane_gateway_rate_limit_hits_total{endpoint="backchannel_logout",scope="address"} 2"#;
    assert!(metrics.contains(counted), "{metrics}");
    openmetrics::assert_as_documented(&metrics, "The gateway");
    let audited = gateway.audited("rate_limit.exceeded");
    assert!(audited.len() == 7 && audited.iter().all(|line| line["reason"] == "address"));
    assert!(gateway.log().contains("203.0.113.8") && !second.log().contains("203.0.113."));
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_have_a_limit_that_the_page_is_told_of() {
    let (place, elsewhere) = (address(), address());
    let site = Site::new("edge-terminals").await;
    let limited = [
        ("GATEWAY_MAX_TERMINALS_PER_USER", "2"),
        ("GATEWAY_MAX_TERMINALS", "3"),
        ("GATEWAY_TRUSTED_PROXIES", "127.0.0.1"),
        ("POD_NAME", "gateway-1"),
    ];
    let gateway = site.gateway(&limited).await;
    let origin = site.origin();
    let (_one, _other) = (ttyd(place), ttyd(elsewhere));
    let (browser, other) = (Browser::default(), Browser::default());
    site.create_running("dev1", place).await;
    site.create_running("dev2", elsewhere).await;
    browser.sign_in(&origin, "dev1").await;
    other.sign_in(&origin, "dev2").await;
    let headers = [("origin", origin.as_str()), ("x-forwarded-for", "203.0.113.7")];
    let first = browser.terminal(&origin, &headers).await.ok().unwrap();
    let mut second = browser.own_terminal(&origin, &origin).await;
    let mut refused = browser.own_terminal(&origin, &origin).await;
    assert_eq!(refused.closed().await, 4429);
    let redirect = format!("{origin}/callback");
    let token = browser
        .id_token(&site.issuer, ("devplane", CLIENT_SECRET), &redirect, "dev1")
        .await;
    let authorization = format!("Bearer {token}");
    let program = Browser::default()
        .terminal(&origin, &[("authorization", &authorization)])
        .await;
    let program = program.err().unwrap();
    assert_eq!(
        (program.status, &program.json()["error"]),
        (429, &json!("too_many_terminals"))
    );
    let listed = eventually(async || {
        let status = site.workspaces().get(&site.name("dev1")).await.unwrap().status.unwrap();
        status.sessions.len() == 2
            && status
                .sessions
                .iter()
                .any(|session| session.client_address == "203.0.113.7")
    });
    assert!(listed.await);
    // Another user has places of their own, but the gateway has only so many.
    let _third = other.own_terminal(&origin, &origin).await;
    let mut full = other.own_terminal(&origin, &origin).await;
    assert_eq!(full.closed().await, 1013);
    // A place is given back.
    drop(first);
    second.hello().await;
    second.until("$ ").await;
    let again = eventually(async || {
        let mut terminal = browser.own_terminal(&origin, &origin).await;
        if terminal.refused.is_some() {
            return false;
        }
        terminal.hello().await;
        terminal.until("$ ").await;
        true
    });
    assert!(again.await);
    let denied = gateway.audited("workspace.ensure_running");
    let of = |reason: &str| {
        denied
            .iter()
            .filter(|line| line["reason"] == reason && line["outcome"] == "denied")
            .count()
    };
    assert!(of("too_many_terminals_of_user") >= 2 && of("too_many_terminals") >= 1);
    let metrics = browser.page(&format!("{origin}/metrics")).await.body;
    for line in [
        r#"devplane_gateway_refusals_total{reason="too_many_terminals"} 1"#,
        r#"devplane_gateway_terminal_closes_total{reason="client_lost"} "#,
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
    let value = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    assert!(value(r#"devplane_gateway_terminal_bytes_total{direction="from_client"}"#) > 30.0);
    assert!(value(r#"devplane_gateway_terminal_bytes_total{direction="from_workspace"}"#) > 2.0);
    assert!(value("devplane_gateway_terminal_first_byte_seconds_count") >= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn terminals_leave_places_for_pages_and_more_connections_are_refused() {
    let place = address();
    let site = Site::new("edge-connections").await;
    let [probes] = free_ports::<1>().map(|port| port.to_string());
    let settings = [
        ("GATEWAY_MAX_CONNECTIONS", "3"),
        ("GATEWAY_REQUEST_TIMEOUT", "3s"),
        ("PROBE_PORT", &probes),
    ];
    let gateway = site.gateway(&settings).await;
    let origin = site.origin();
    let _ttyd = ttyd(place);
    let browser = Browser::default();
    site.create_running("dev1", place).await;
    browser.sign_in(&origin, "dev1").await;
    let mut terminals = Vec::new();
    for _ in 0..5 {
        terminals.push(browser.own_terminal(&origin, &origin).await);
    }
    assert_eq!(browser.page(&origin).await.status, 200);
    let address = origin.strip_prefix("http://").unwrap();
    let full = Instant::now();
    // Of more than there are places for, those that are let in are told nothing, and stay.
    let opened = stream::iter(0..5).map(async |_| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
        answer
    });
    let mut answers = pin!(opened.buffer_unordered(5).filter(|answer| ready(!answer.is_empty())));
    let answer = answers.next().await.expect("one is refused");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    // It is alive all the same, and tells nothing else there.
    for (path, status) in [("/healthz", 200), ("/metrics", 404), ("/", 404)] {
        let probed = browser.get(&format!("http://127.0.0.1:{probes}{path}")).await.unwrap();
        assert_eq!(probed.status, status, "{path}");
    }
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.contains("retry-after: ") && head.contains(&format!("content-length: {}", body.len())),
        "{answer}"
    );
    let id = serde_json::from_str::<serde_json::Value>(body).unwrap()["requestId"].clone();
    let id = id.as_str().unwrap();
    assert!(
        id.len() == 32 && head.contains(&format!("x-request-id: {id}")),
        "{answer}"
    );
    // What says nothing is closed in time, and there are places again.
    let again = eventually(async || {
        browser
            .get(&format!("{origin}/health"))
            .await
            .is_some_and(|a| a.status == 200)
    });
    assert!(again.await);
    assert!(full.elapsed() < Duration::from_secs(10));
    terminals[4].hello().await;
    terminals[4].until("$ ").await;
    assert!(
        gateway
            .audited("rate_limit.exceeded")
            .iter()
            .any(|line| line["reason"] == "too_many_connections" && line["devplane.request_id"].as_str() == Some(id))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_is_reached_by_its_pod_s_address_while_that_is_told() {
    let place = address();
    let site = Site::new("edge-pod-ip").await;
    let (_gateway, origin) = (
        site.gateway(&[("GATEWAY_WORKSPACE_ADDRESS", "podIP")]).await,
        site.origin(),
    );
    let _ttyd = ttyd(place);
    let (browser, name) = (Browser::default(), site.name("dev1"));
    site.create_running("dev1", "no-such-name.test").await;
    browser.sign_in(&origin, "dev1").await;
    let refused = browser.terminal(&origin, &[("origin", &origin)]).await.err().unwrap();
    assert_eq!(refused.json()["error"], "workspace_not_ready");
    site.set_status(&name, json!({"podIP": place})).await;
    let opened = eventually(async || browser.terminal(&origin, &[("origin", &origin)]).await.is_ok());
    assert!(opened.await);
    // The pod is gone, and another one may have its address.
    site.set_status(&name, json!({"podIP": null})).await;
    let closed = eventually(async || browser.terminal(&origin, &[("origin", &origin)]).await.is_err());
    assert!(closed.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_moves_terminals_and_loses_no_key() {
    let place = address();
    let site = Site::new("edge-drain").await;
    site.create_running("dev1", place).await;
    let settings = [("GATEWAY_DRAIN_TIMEOUT", "2s")];
    let (mut old, new) = tokio::join!(site.gateway(&settings), site.second_gateway_with(&settings));
    // What a shell keeps in tmux's place: every line that reaches the workspace is in the file, and only then acknowledged.
    let typed = site.directory.path().join("typed");
    let program = format!(
        r#"while read -r line; do echo "$line" >> {}; echo "kept $line"; done"#,
        typed.display()
    );
    let _ttyd = crate::harness::ttyd_with(place, &["sh", "-c", &program]);
    let browser = Browser::default();
    browser.sign_in(&site.origin(), "dev1").await;
    browser.copy(&site.origin(), &new.origin);
    let mut terminal = browser.own_terminal(&old.origin, &site.origin()).await;
    terminal.hello().await;
    // The program is there; the terminal may move at once.
    terminal.type_keys("before\r").await;
    terminal.until("kept before").await;
    let mut shown = vec!["before".to_owned()];
    old.terminate();
    let code = loop {
        let line = format!("line-{}", shown.len());
        let frame = fastwebsockets::Frame::binary(fastwebsockets::Payload::Owned(format!("0{line}\r").into_bytes()));
        if terminal.socket.write_frame(frame).await.is_err() {
            break terminal.closed().await;
        }
        let acknowledgement = format!("kept {line}");
        let acknowledged = async {
            while !terminal.screen.contains(&acknowledgement) {
                let frame = terminal.socket.read_frame().await.unwrap();
                if frame.opcode == fastwebsockets::OpCode::Close {
                    return Some(u16::from_be_bytes([frame.payload[0], frame.payload[1]]));
                }
                terminal.screen.push_str(&String::from_utf8_lossy(&frame.payload));
            }
            None
        };
        if let Some(code) = acknowledged.await {
            break code;
        }
        shown.push(line);
    };
    assert_eq!(code, 1012);
    let mut moved = browser.own_terminal(&new.origin, &site.origin()).await;
    moved.hello().await;
    moved.type_keys("moved\r").await;
    moved.until("kept moved").await;
    assert_eq!(old.exit_code(), Some(0));
    assert!(!old.log().contains("broken off"), "{}", old.log());
    let kept = std::fs::read_to_string(&typed).unwrap();
    let lost = shown.iter().find(|line| !kept.lines().any(|kept| kept == *line));
    assert_eq!(lost, None, "{kept}");
}
