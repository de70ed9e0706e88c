//! A workspace that means ill: what it answers to the gateway's handshake, and the frames that it sends. Each is refused or bounded and
//! counted, nothing of it reaches the browser, and the gateway goes on.

use crate::abuse::{MOST_GROWTH_KIB, counted, resident_kib};
use crate::browser::Browser;
use crate::eventually::eventually;
use crate::harness::{Gateway, Site, address, ttyd};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fastwebsockets::OpCode;
use sha1::{Digest, Sha1};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// What the workspace says to the next handshake.
#[derive(Clone)]
enum Script {
    /// These bytes, with `ACCEPT` replaced by what the handshake's key asks for, and then it reads for ever.
    Says(Vec<u8>),
    /// The same, and then it closes the connection.
    Leaves(Vec<u8>),
    /// The same, and then the last bytes again and again.
    Repeats(Vec<u8>, Vec<u8>),
}

/// A scripted ttyd on a raw socket, and what it was sent behind the handshakes.
struct Hostile {
    script: Arc<Mutex<Script>>,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Hostile {
    async fn at(address: &str) -> Self {
        let listener = TcpListener::bind((address, 7681)).await.unwrap();
        let script = Arc::new(Mutex::new(Script::Leaves(Vec::new())));
        let heard = Arc::<Mutex<Vec<u8>>>::default();
        let (acts, hears) = (Arc::clone(&script), Arc::clone(&heard));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let script = acts.lock().unwrap().clone();
                tokio::spawn(act(stream, script, Arc::clone(&hears)));
            }
        });
        Self { script, heard }
    }

    fn next(&self, script: Script) {
        *self.script.lock().unwrap() = script;
        self.heard.lock().unwrap().clear();
    }
}

async fn act(mut stream: TcpStream, script: Script, heard: Arc<Mutex<Vec<u8>>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&head);
    let name = "sec-websocket-key: ";
    let key = head
        .lines()
        .find(|line| line.to_ascii_lowercase().starts_with(name))
        .unwrap();
    // RFC 6455, section 1.3.
    let guid = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    let accept = STANDARD.encode(Sha1::digest(format!("{}{guid}", &key[name.len()..])));
    let (said, repeated, leaves) = match script {
        Script::Says(bytes) => (bytes, Vec::new(), false),
        Script::Leaves(bytes) => (bytes, Vec::new(), true),
        Script::Repeats(bytes, again) => (bytes, again, false),
    };
    let at = said.windows(6).position(|window| window == b"ACCEPT");
    let (before, behind) = at.map_or((&said[..], &[][..]), |at| (&said[..at], &said[at + 6..]));
    stream.write_all(before).await?;
    if at.is_some() {
        stream.write_all(accept.as_bytes()).await?;
    }
    stream.write_all(behind).await?;
    while !repeated.is_empty() {
        stream.write_all(&repeated).await?;
    }
    if leaves {
        return stream.shutdown().await;
    }
    let mut buffer = [0; 4096];
    while let length @ 1.. = stream.read(&mut buffer).await? {
        heard.lock().unwrap().extend_from_slice(&buffer[..length]);
    }
    Ok(())
}

/// A handshake that is right, with lines of its own.
fn switching(lines: &str) -> Vec<u8> {
    let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n";
    format!("{head}Sec-WebSocket-Protocol: tty\r\n{lines}\r\n").into_bytes()
}

async fn site(name: &str, settings: &[(&str, &str)], address: &str) -> (Site, Gateway, Browser, Hostile) {
    let site = Site::new(name).await;
    let (gateway, hostile) = tokio::join!(site.gateway(settings), Hostile::at(address));
    site.create_running("dev1", address).await;
    let browser = Browser::default();
    browser.sign_in(&site.origin(), "dev1").await;
    (site, gateway, browser, hostile)
}

/// The gateway is alive, and a workspace that means well is reached.
async fn goes_on(site: &Site, gateway: &Gateway, browser: &Browser, address: &str) {
    let health = browser.get(&format!("{}/health", gateway.origin)).await.unwrap();
    assert_eq!(health.status, 200);
    let _ttyd = ttyd(address);
    site.set_running(&site.name("dev1"), address).await;
    let origin = site.origin();
    let reached = eventually(async || {
        let Ok(mut terminal) = browser.terminal(&origin, &[("origin", &origin)]).await else {
            return false;
        };
        terminal.hello().await;
        let frame = timeout(Duration::from_secs(5), terminal.socket.read_frame()).await;
        matches!(frame, Ok(Ok(frame)) if frame.opcode == OpCode::Binary)
    });
    assert!(reached.await, "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_are_no_handshake_are_refused() {
    let (site, gateway, browser, hostile) = site("hostile-handshake", &[], address()).await;
    let origin = site.origin();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let good = text(switching(""));
    let without = |line: &str| good.replace(line, "").into_bytes();
    let changed = |from: &str, to: &str| good.replace(from, to).into_bytes();
    let page = "HTTP/1.1 200 OK\r\nSet-Cookie: planted=1\r\nContent-Length: 8\r\n\r\n<script>";
    let redirect = "HTTP/1.1 302 Found\r\nLocation: https://other.test/\r\nContent-Length: 0\r\n\r\n";
    let huge = format!("X-Planted: {}\r\n", "b".repeat(100_000));
    let json_errors = "devplane_gateway_json_api_errors_total{http_status=\"503\",error_code=\"workspace_not_ready\"} ";
    let memory = resident_kib(gateway.pid());
    for (what, script) in [
        ("a page", Script::Says(page.into())),
        ("a redirect", Script::Says(redirect.into())),
        ("no accept", Script::Says(without("Sec-WebSocket-Accept: ACCEPT\r\n"))),
        (
            "another accept",
            Script::Says(changed("ACCEPT", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")),
        ),
        (
            "accept twice",
            Script::Says(switching("Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")),
        ),
        (
            "no subprotocol",
            Script::Says(without("Sec-WebSocket-Protocol: tty\r\n")),
        ),
        (
            "another subprotocol",
            Script::Says(changed("Protocol: tty", "Protocol: chat")),
        ),
        (
            "two subprotocols",
            Script::Says(switching("Sec-WebSocket-Protocol: chat\r\n")),
        ),
        (
            "an extension that was not asked for",
            Script::Says(switching("Sec-WebSocket-Extensions: permessage-deflate\r\n")),
        ),
        ("no upgrade", Script::Says(without("Upgrade: websocket\r\n"))),
        (
            "another upgrade",
            Script::Says(changed("Upgrade: websocket", "Upgrade: h2c")),
        ),
        ("a huge header", Script::Says(switching(&huge))),
        ("many headers", Script::Says(switching(&"A: b\r\n".repeat(200)))),
        (
            "a head without an end",
            Script::Repeats(
                b"HTTP/1.1 101 Switching Protocols\r\n".to_vec(),
                b"X-Planted: planted\r\n".to_vec(),
            ),
        ),
        (
            "a header without an end",
            Script::Repeats(
                b"HTTP/1.1 101 Switching Protocols\r\nX-Planted: ".to_vec(),
                vec![b'b'; 4096],
            ),
        ),
        (
            "interim answers without an end",
            Script::Repeats(Vec::new(), b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec()),
        ),
        ("no HTTP", Script::Says(b"SSH-2.0-planted\r\n".to_vec())),
        ("nothing, and the end", Script::Leaves(Vec::new())),
        ("half a head, and the end", Script::Leaves(b"HTTP/1.1 101 Swi".to_vec())),
        ("nothing at all", Script::Says(Vec::new())),
    ] {
        let before = counted(&gateway, json_errors).await;
        hostile.next(script);
        let refused = timeout(
            Duration::from_secs(20),
            browser.terminal(&origin, &[("origin", &origin)]),
        )
        .await;
        let Ok(refused) = refused else {
            panic!("{what}: no answer");
        };
        let Err(refused) = refused else {
            panic!("{what} is taken for a handshake");
        };
        assert_eq!(
            (refused.status, refused.json()["error"].as_str()),
            (503, Some("workspace_not_ready")),
            "{what}"
        );
        let answer = format!("{refused:?}");
        let leaks = ["planted", "<script>", "other.test"]
            .iter()
            .any(|word| answer.contains(word));
        assert!(!leaks && refused.cookies().is_empty(), "{what}: {answer}");
        assert_eq!(
            counted(&gateway, json_errors).await,
            before + 1,
            "{what} is not counted"
        );
    }
    assert!(resident_kib(gateway.pid()) < memory + MOST_GROWTH_KIB);
    let failed = gateway.audited("workspace.ensure_running");
    let failed = failed
        .iter()
        .filter(|line| line["reason"] == "not_answering" && line["outcome"] == "failure");
    assert_eq!(failed.count(), 20);
    goes_on(&site, &gateway, &browser, address()).await;
}

/// Its node is gone, as far as anybody can tell: bytes are taken, and nothing comes back. What was typed must not count as arrived.
#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_that_takes_bytes_and_answers_nothing_answers_no_heartbeat() {
    let (site, _gateway, browser, hostile) = site("hostile-silent", &[], address()).await;
    let origin = site.origin();
    // It forges an answer to what it was not asked.
    hostile.next(Script::Says([switching(""), b"\x8a\x02h2".to_vec()].concat()));
    let opened = eventually(async || browser.terminal(&origin, &[("origin", &origin)]).await.is_ok()).await;
    assert!(opened);
    let mut terminal = browser.own_terminal(&origin, &origin).await;
    terminal.hello().await;
    terminal.type_keys("ls\r").await;
    terminal.send(b"h1").await;
    // A Ping with the same bytes, masked.
    let reached = || {
        hostile
            .heard
            .lock()
            .unwrap()
            .windows(2)
            .any(|head| head == [0x89, 0x82])
    };
    assert!(eventually(async || reached()).await);
    let answered = timeout(Duration::from_secs(3), terminal.socket.read_frame()).await;
    assert!(answered.is_err(), "a heartbeat was answered");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_a_workspace_that_may_not_be_end_its_terminal() {
    let (place, elsewhere) = (address(), address());
    let settings = [("GATEWAY_MAX_TERMINALS_PER_USER", "0")];
    let (site, gateway, browser, hostile) = site("hostile-frames", &settings, place).await;
    let origin = site.origin();
    let long = |first: u8, bytes: u64, payload: &[u8]| [&[first, 127][..], &bytes.to_be_bytes(), payload].concat();
    let half = vec![b'0'; 600_000];
    let memory = resident_kib(gateway.pid());
    for (what, sent, reason) in [
        (
            "a mask",
            [&[0x82, 0x82, 1, 2, 3, 4][..], b"0a"].concat(),
            "protocol_error",
        ),
        ("a reserved bit", vec![0xc2, 1, b'0'], "protocol_error"),
        ("another one", vec![0xa2, 1, b'0'], "protocol_error"),
        ("a third one", vec![0x92, 1, b'0'], "protocol_error"),
        ("a reserved opcode", vec![0x83, 1, b'0'], "protocol_error"),
        ("a reserved control opcode", vec![0x8b, 0], "protocol_error"),
        ("a fragmented ping", vec![0x09, 0], "protocol_error"),
        (
            "a long ping",
            [&[0x89, 126, 0, 126][..], &[0; 126]].concat(),
            "protocol_error",
        ),
        ("a flood of pings", [0x89, 0].repeat(300), "protocol_error"),
        ("a flood of pongs", [0x8a, 0].repeat(300), "protocol_error"),
        (
            "a length with the highest bit",
            long(0x82, 1 << 63 | 1, b"0"),
            "protocol_error",
        ),
        (
            "a length written too long",
            [&[0x82, 126, 0, 5][..], b"01234"].concat(),
            "protocol_error",
        ),
        ("10 MiB", long(0x82, 10 << 20, &half), "message_too_big"),
        (
            "more than 1 MiB over fragments",
            [long(0x02, 600_000, &half), long(0x80, 600_000, &half)].concat(),
            "message_too_big",
        ),
        ("a continuation of nothing", vec![0x80, 1, b'0'], "protocol_error"),
        (
            "a message inside of another",
            vec![0x02, 1, b'0', 0x82, 1, b'0'],
            "protocol_error",
        ),
        ("a close frame of one byte", vec![0x88, 1, 3], "protocol_error"),
        (
            "a close code that is reserved",
            vec![0x88, 2, 0x03, 0xed],
            "protocol_error",
        ),
        (
            "a close code that means nothing",
            vec![0x88, 2, 0x03, 0xe7],
            "protocol_error",
        ),
        (
            "a close reason that is no text",
            vec![0x88, 4, 0x03, 0xe8, 0xff, 0xfe],
            "protocol_error",
        ),
        (
            "HTTP again",
            b"HTTP/1.1 200 OK\r\nSet-Cookie: planted=1\r\n\r\n".to_vec(),
            "protocol_error",
        ),
    ] {
        ends(
            &gateway,
            &browser,
            &hostile,
            &origin,
            what,
            Script::Says([switching(""), sent].concat()),
            reason,
        )
        .await;
    }
    let pings = Script::Repeats(switching(""), [0x89, 0].repeat(1000));
    ends(
        &gateway,
        &browser,
        &hostile,
        &origin,
        "pings without an end",
        pings,
        "protocol_error",
    )
    .await;
    let lost = Script::Leaves(switching(""));
    ends(&gateway, &browser, &hostile, &origin, "the end at once", lost, "lost").await;
    let cut = Script::Leaves([switching(""), vec![0x82, 100], b"0half".to_vec()].concat());
    ends(
        &gateway,
        &browser,
        &hostile,
        &origin,
        "a frame that is cut",
        cut,
        "lost",
    )
    .await;
    // A workspace that sends a user to sign in elsewhere, or says that the session is over.
    let signed_out = Script::Says([switching(""), [&[0x88, 6, 0x11, 0x31][..], b"evil"].concat()].concat());
    ends(
        &gateway,
        &browser,
        &hostile,
        &origin,
        "a close code of ours",
        signed_out,
        "closed",
    )
    .await;
    assert!(resident_kib(gateway.pid()) < memory + MOST_GROWTH_KIB);

    // What the standard allows passes as it came: fragments, with a ping between them that is answered here.
    let fragments = [
        &[0x01, 3][..],
        b"0he",
        &[0x89, 1, b'p', 0x80, 3],
        b"llo",
        &[0x88, 2, 0x03, 0xe8],
    ]
    .concat();
    let headers =
        "Set-Cookie: planted=1\r\nX-Planted: planted\r\nServer: planted\r\nStrict-Transport-Security: max-age=0\r\n";
    hostile.next(Script::Says([switching(headers), fragments].concat()));
    let mut terminal = browser.own_terminal(&origin, &origin).await;
    let mut got = Vec::new();
    let code = loop {
        let frame = terminal.socket.read_frame().await.unwrap();
        match frame.opcode {
            OpCode::Close => break u16::from_be_bytes([frame.payload[0], frame.payload[1]]),
            opcode => got.push((opcode, frame.fin, String::from_utf8_lossy(&frame.payload).into_owned())),
        }
    };
    let expected = [
        (OpCode::Text, false, "0he".to_owned()),
        (OpCode::Continuation, true, "llo".to_owned()),
    ];
    assert_eq!((&got[..], code), (&expected[..], 1000));
    let pong = eventually(async || {
        hostile
            .heard
            .lock()
            .unwrap()
            .windows(2)
            .any(|pair| pair == [0x8a, 0x81])
    });
    assert!(pong.await, "a ping is answered, masked");
    // Nothing of the workspace's own answer is in the one that the browser gets.
    hostile.next(Script::Says(switching(headers)));
    let answer = handshake(&browser, &origin).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    for foreign in ["planted", "set-cookie", "max-age=0"] {
        assert!(!answer.to_lowercase().contains(foreign), "{foreign} is in {answer}");
    }
    goes_on(&site, &gateway, &browser, elsewhere).await;
}

/// A terminal at this workspace ends as its fault, is counted as that, and the browser is told no more than that it is gone.
async fn ends(
    gateway: &Gateway,
    browser: &Browser,
    hostile: &Hostile,
    origin: &str,
    what: &str,
    script: Script,
    reason: &str,
) {
    let line = format!("devplane_gateway_terminal_closes_total{{reason=\"workspace_{reason}\"}} ");
    let before = counted(gateway, &line).await;
    hostile.next(script);
    let mut terminal = browser.own_terminal(origin, origin).await;
    let told = timeout(Duration::from_secs(20), terminal.closed_because()).await;
    let (code, text) = told.unwrap_or_else(|_| panic!("{what} does not end"));
    assert!(code == 1011 && !text.contains("evil"), "{what}: {code} {text}");
    let is_counted = eventually(async || counted(gateway, &line).await == before + 1);
    assert!(is_counted.await, "{what} is not counted as {reason}");
}

/// The head with which the gateway answers a handshake, as it is on the wire.
async fn handshake(browser: &Browser, origin: &str) -> String {
    let authority = origin.strip_prefix("http://").unwrap();
    let cookies: Vec<_> = browser
        .jar(origin)
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let upgrade = format!(
        "GET /ws HTTP/1.1\r\nHost: {authority}\r\nOrigin: {origin}\r\nCookie: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: tty\r\n\r\n",
        cookies.join("; ")
    );
    let mut stream = TcpStream::connect(authority).await.unwrap();
    stream.write_all(upgrade.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}
