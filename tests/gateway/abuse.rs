//! What no browser sends, on a raw socket: it is refused, the connection closed, each refusal counted, and the gateway goes on.

use crate::browser::Browser;
use crate::eventually::eventually;
use crate::harness::{Gateway, Site, address, ttyd};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

const LIMIT: Duration = Duration::from_secs(10);
/// Of what a whole test may leave in memory, with allocators that keep some.
pub const MOST_GROWTH_KIB: u64 = 64 * 1024;

async fn connect(origin: &str) -> TcpStream {
    TcpStream::connect(origin.strip_prefix("http://").unwrap())
        .await
        .unwrap()
}

/// Everything that comes until the connection is closed; a write that comes too late is no matter.
async fn answer(origin: &str, request: &[u8]) -> String {
    let mut stream = connect(origin).await;
    let _ = stream.write_all(request).await;
    rest(&mut stream).await
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = timeout(LIMIT, stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "not closed: {}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}

pub async fn counted(gateway: &Gateway, line: &str) -> u64 {
    let metrics = Browser::default()
        .get(&format!("{}/metrics", gateway.origin))
        .await
        .unwrap()
        .body;
    let count = metrics.lines().find_map(|metric| metric.strip_prefix(line));
    count.map_or(0, |count| count.trim().parse().unwrap())
}

async fn refusals(gateway: &Gateway, reason: &str) -> u64 {
    counted(
        gateway,
        &format!("devplane_gateway_refusals_total{{reason=\"{reason}\"}} "),
    )
    .await
}

pub fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_that_two_parsers_may_read_differently_are_refused() {
    let site = Site::new("abuse-heads").await;
    let gateway = site.gateway(&[]).await;
    let origin = &gateway.origin;
    let smuggled = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
    for (what, head) in [
        (
            "both lengths",
            "POST /logout HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        (
            "both, turned round",
            "POST /logout HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        ),
        (
            "two lengths",
            "POST /logout HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        ),
        (
            "two lengths that differ",
            "POST /logout HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 9\r\n\r\n",
        ),
        (
            "a list of lengths",
            "POST /logout HTTP/1.1\r\nHost: a\r\nContent-Length: 4, 4\r\n\r\n",
        ),
        (
            "a length with a sign",
            "POST /logout HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\n",
        ),
        (
            "a length in hexadecimal",
            "POST /logout HTTP/1.1\r\nHost: a\r\nContent-Length: 0x4\r\n\r\n",
        ),
        (
            "a length beyond numbers",
            "POST /logout HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n",
        ),
        (
            "an unknown coding",
            "POST /logout HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        ),
        (
            "chunked not last",
            "POST /logout HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        ),
        (
            "a coding in HTTP/1.0",
            "POST /logout HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        ),
        (
            "a blank before the colon",
            "POST /logout HTTP/1.1\r\nHost: a\r\nContent-Length : 4\r\n\r\n",
        ),
        (
            "a folded header",
            "GET /health HTTP/1.1\r\nHost: a\r\nX-A: b\r\n c\r\n\r\n",
        ),
        (
            "a folded coding",
            "POST /logout HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n",
        ),
        (
            "a bare line feed",
            "GET /health HTTP/1.1\r\nHost: a\r\nX-A: b\nX-B: c\r\n\r\n",
        ),
        ("bare line feeds", "GET /health HTTP/1.1\nHost: a\n\n"),
        (
            "a bare carriage return",
            "GET /health HTTP/1.1\r\nHost: a\r\nX-A: b\rX-B: c\r\n\r\n",
        ),
        (
            "a NUL in a value",
            "GET /health HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n",
        ),
        ("a NUL in a name", "GET /health HTTP/1.1\r\nHost: a\r\nX\0A: b\r\n\r\n"),
        ("a blank in the path", "GET /health /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("TLS", "\u{16}\u{3}\u{1}\0\u{5}hello"),
        ("two hosts", "GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ] {
        let before = refusals(&gateway, "malformed_head").await;
        let answer = answer(origin, format!("{head}{smuggled}").as_bytes()).await;
        // To who speaks HTTP/2 there is no answer in HTTP/1.1.
        let answers = usize::from(what != "HTTP/2");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), answers, "{what}: {answer:?}");
        assert_eq!(answer.matches("HTTP/1.1 400 ").count(), answers, "{what}: {answer:?}");
        let counted = eventually(async || refusals(&gateway, "malformed_head").await == before + 1);
        assert!(counted.await, "{what} is not counted");
    }
    for (what, head) in [
        ("no host", "GET /health HTTP/1.1\r\nConnection: close\r\n\r\n"),
        (
            "an empty host",
            "GET /health HTTP/1.1\r\nConnection: close\r\nHost:\r\n\r\n",
        ),
        (
            "another host in the target",
            "GET http://other.test/health HTTP/1.1\r\nConnection: close\r\nHost: a\r\n\r\n",
        ),
    ] {
        let before = refusals(&gateway, "target").await;
        let answer = answer(origin, head.as_bytes()).await;
        assert!(
            answer.starts_with("HTTP/1.1 400 ") && answer.contains("requestId"),
            "{what}: {answer:?}"
        );
        assert_eq!(refusals(&gateway, "target").await, before + 1, "{what}");
    }
    // A proxy's form of the target is fine where it is the same host (RFC 9112, section 3.2.2).
    let same = answer(
        origin,
        b"GET http://a/health HTTP/1.1\r\nConnection: close\r\nHost: a\r\n\r\n",
    )
    .await;
    assert!(same.starts_with("HTTP/1.1 200 "), "{same}");
    // Nothing behind a body or an upgrade that was refused is a request.
    for last in [
        "POST /logout HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
        "POST /logout HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned(),
        format!("POST /logout HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(20_000)),
        "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: tty\r\n\r\n".to_owned(),
        "GET /health HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".to_owned(),
    ] {
        let answer = answer(origin, format!("{last}{smuggled}{smuggled}").as_bytes()).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{last}: {answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_and_slow_requests_are_given_up() {
    let site = Site::new("abuse-slow").await;
    let gateway = site.gateway(&[("GATEWAY_REQUEST_TIMEOUT", "1500ms")]).await;
    let origin = &gateway.origin;
    for (what, head) in [
        (
            "many headers",
            format!("GET /health HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(200)),
        ),
        (
            "a huge header",
            format!("GET /health HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n", "b".repeat(300_000)),
        ),
        (
            "a huge head",
            format!(
                "GET /health HTTP/1.1\r\nHost: a\r\n{}\r\n",
                format!("A: {}\r\n", "b".repeat(2000)).repeat(90)
            ),
        ),
        (
            "a huge target",
            format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "b".repeat(70_000)),
        ),
    ] {
        let before = refusals(&gateway, "large_head").await;
        let answer = answer(origin, head.as_bytes()).await;
        let refused = answer.starts_with("HTTP/1.1 431 ") || answer.starts_with("HTTP/1.1 414 ");
        assert!(refused, "{what}: {answer:?}");
        let counted = eventually(async || refusals(&gateway, "large_head").await == before + 1);
        assert!(counted.await, "{what} is not counted");
    }
    let form = "POST /backchannel-logout HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    let large = format!(
        "{form}Content-Length: 300000\r\n\r\nlogout_token={}",
        "x".repeat(299_987)
    );
    let chunks = format!(
        "{form}Transfer-Encoding: chunked\r\n\r\n{}",
        format!("1000\r\n{}\r\n", "x".repeat(4096)).repeat(40)
    );
    for body in [large, chunks] {
        let answer = answer(origin, body.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer:?}");
    }
    assert_eq!(refusals(&gateway, "large_body").await, 2);
    let extensions = format!(
        "{form}Transfer-Encoding: chunked\r\n\r\n{}",
        format!("1;{}\r\nx\r\n", "e".repeat(4000)).repeat(20)
    );
    let answered = answer(origin, extensions.as_bytes()).await;
    assert!(answered.starts_with("HTTP/1.1 400 "), "{answered:?}");
    assert_eq!(refusals(&gateway, "malformed_body").await, 1);

    // A byte now and then: the time is that of the whole head, and of the whole body.
    let drip = async |head: &str| {
        let mut stream = connect(origin).await;
        let began = Instant::now();
        stream.write_all(head.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let mut answer = Vec::new();
        let dripping = async {
            loop {
                sleep(Duration::from_millis(100)).await;
                if writer.write_all(b"a").await.is_err() {
                    sleep(LIMIT).await;
                }
            }
        };
        tokio::select! {
            () = dripping => {}
            _ = reader.read_to_end(&mut answer) => {}
        }
        // Not for as long as something comes.
        assert!(began.elapsed() < LIMIT, "{:?}", began.elapsed());
        String::from_utf8_lossy(&answer).into_owned()
    };
    let memory = resident_kib(gateway.pid());
    let slow = (0..50).map(|_| drip("GET /health HTTP/1.1\r\nHost: a\r\nX: "));
    futures::future::join_all(slow).await;
    let counted = eventually(async || refusals(&gateway, "slow_head").await == 50);
    assert!(counted.await, "{}", refusals(&gateway, "slow_head").await);
    let answered = drip(&format!("{form}Content-Length: 60000\r\n\r\nlogout_token=")).await;
    assert!(answered.starts_with("HTTP/1.1 408 "), "{answered:?}");
    assert_eq!(refusals(&gateway, "slow_body").await, 1);
    assert!(resident_kib(gateway.pid()) < memory + MOST_GROWTH_KIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_nothing_of_an_answer_is_given_up_and_who_waits_for_events_is_not() {
    let place = address();
    let site = Site::new("abuse-reader").await;
    let gateway = site.gateway(&[("GATEWAY_REQUEST_TIMEOUT", "1500ms")]).await;
    let origin = site.origin();
    let authority = origin.strip_prefix("http://").unwrap();
    let _ttyd = ttyd(place);
    let browser = Browser::default();
    site.create_running("dev1", place).await;
    browser.sign_in(&origin, "dev1").await;
    // A terminal and a stream of events, which live longer than that without reading and being written to.
    let mut shell = browser.own_shell(&origin).await;
    shell.type_keys("seq 2000000; echo d$((1))ne\r").await;
    let cookies: Vec<_> = browser
        .jar(&origin)
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut events = connect(&origin).await;
    let follow = format!(
        "GET /api/workspace/events HTTP/1.1\r\nHost: {authority}\r\nCookie: {}\r\n\r\n",
        cookies.join("; ")
    );
    events.write_all(follow.as_bytes()).await.unwrap();
    let mut heard = String::new();
    let mut buffer = [0; 4096];
    while !heard.contains("event: workspace") {
        let read = timeout(LIMIT, events.read(&mut buffer)).await.unwrap().unwrap();
        heard.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    // One after the other, as many as no buffer holds.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut silent = socket.connect(authority.parse().unwrap()).await.unwrap();
    let asked = "GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1500);
    silent.write_all(asked.as_bytes()).await.unwrap();
    let given_up = eventually(async || refusals(&gateway, "slow_reader").await == 1);
    assert!(given_up.await, "{}", gateway.log());
    let answers = rest(&mut silent).await.matches("HTTP/1.1 200").count();
    assert!((1..1500).contains(&answers), "{answers}");

    sleep(Duration::from_secs(3)).await;
    site.set_status(&site.name("dev1"), serde_json::json!({"message": "planted-message"}))
        .await;
    while !heard.contains("planted-message") {
        let read = timeout(LIMIT, events.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "the stream was cut off: {heard}");
        heard.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    let mut last = Vec::new();
    while !String::from_utf8_lossy(&last).contains("d1ne") {
        let frame = timeout(LIMIT, shell.socket.read_frame()).await.unwrap().unwrap();
        assert_eq!(frame.opcode, fastwebsockets::OpCode::Binary, "the terminal was closed");
        last = [&last[last.len().saturating_sub(10)..], &frame.payload[1..]].concat();
    }
    assert_eq!(refusals(&gateway, "slow_reader").await, 1);
}

/// A frame of a client, its mask all zeros.
fn frame(first: u8, length: &[u8], payload: &[u8]) -> Vec<u8> {
    [&[first][..], length, &[0; 4], payload].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_may_not_be_end_the_terminal() {
    let place = address();
    let site = Site::new("abuse-frames").await;
    let gateway = site.gateway(&[("GATEWAY_MAX_TERMINALS_PER_USER", "0")]).await;
    let origin = site.origin();
    let _ttyd = ttyd(place);
    let browser = Browser::default();
    site.create_running("dev1", place).await;
    browser.sign_in(&origin, "dev1").await;
    let cookies: Vec<_> = browser
        .jar(&origin)
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let authority = origin.strip_prefix("http://").unwrap();
    let upgrade = format!(
        "GET /ws HTTP/1.1\r\nHost: {authority}\r\nOrigin: {origin}\r\nCookie: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: tty\r\n\r\n",
        cookies.join("; ")
    );
    let half = vec![b'0'; 600_000];
    let long = |bytes: u64| [&[0xff][..], &bytes.to_be_bytes()].concat();
    let memory = resident_kib(gateway.pid());
    for (what, sent, code) in [
        ("no mask", vec![0x82, 0x02, b'0', b'a'], 1002u16),
        ("a reserved bit", frame(0xc2, &[0x80], b""), 1002),
        ("a reserved opcode", frame(0x83, &[0x80], b""), 1002),
        ("a reserved control opcode", frame(0x8b, &[0x80], b""), 1002),
        ("a fragmented ping", frame(0x09, &[0x80], b""), 1002),
        ("a long ping", frame(0x89, &[0xfe, 0, 126], &[0; 126]), 1002),
        (
            "a length with the highest bit",
            frame(0x82, &long(1 << 63 | 1), b""),
            1002,
        ),
        ("a length written too long", frame(0x82, &[0xfe, 0, 5], b"01234"), 1002),
        ("a continuation of nothing", frame(0x80, &[0x81], b"0"), 1002),
        (
            "a message inside of another",
            [frame(0x02, &[0x81], b"0"), frame(0x82, &[0x81], b"0")].concat(),
            1002,
        ),
        ("more than 1 MiB", frame(0x82, &long((1 << 20) + 1), b""), 1009),
        (
            "more than 1 MiB over fragments",
            [frame(0x02, &long(600_000), &half), frame(0x80, &long(600_000), &half)].concat(),
            1009,
        ),
        ("a flood of pings", frame(0x89, &[0x80], b"").repeat(300), 1002),
        ("a close frame of one byte", frame(0x88, &[0x81], b"a"), 1002),
        (
            "a close code that is reserved",
            frame(0x88, &[0x82], &1005u16.to_be_bytes()),
            1002,
        ),
        ("a request", b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), 1002),
    ] {
        let word = if code == 1009 {
            "client_message_too_big"
        } else {
            "client_protocol_error"
        };
        let line = format!("devplane_gateway_terminal_closes_total{{reason=\"{word}\"}} ");
        let before = counted(&gateway, &line).await;
        // Together with the handshake, before its answer is there.
        let mut stream = connect(&origin).await;
        let writing = [upgrade.as_bytes(), &sent].concat();
        let _ = stream.write_all(&writing).await;
        let mut answer = Vec::new();
        let read = timeout(LIMIT, stream.read_to_end(&mut answer)).await;
        assert!(read.is_ok(), "{what} does not end");
        assert!(
            answer.starts_with(b"HTTP/1.1 101 "),
            "{what}: {}",
            String::from_utf8_lossy(&answer)
        );
        assert_eq!(
            answer.windows(9).filter(|part| *part == b"HTTP/1.1 ").count(),
            1,
            "{what}"
        );
        let told = answer.windows(3).any(|part| part[1..] == code.to_be_bytes());
        assert!(told, "{what} is not told {code}");
        let ended = eventually(async || counted(&gateway, &line).await == before + 1);
        assert!(ended.await, "{what} is not counted as {word}");
    }
    assert!(resident_kib(gateway.pid()) < memory + MOST_GROWTH_KIB);
    browser.own_shell(&origin).await;
}
