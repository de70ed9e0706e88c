//! What a terminal costs through the gateway, as ratios to the same without it:
//! cargo bench --bench gateway [-- keys|throughput|recording|rates|memory... SESSIONS... --binary PATH...]
//!
//! Each `--binary` is another gateway, measured in turns with the one of this build.
//!
//! The gateway is a process of its own behind a real provider and a real API server; the workspace is a small WebSocket server in
//! this process that echoes keys and sends output on demand. Everything speaks over loopback, without TLS.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking and prints what it found"
)]

#[path = "../../tests/harness/apiserver.rs"]
#[allow(dead_code, reason = "shared with the test tiers")]
mod apiserver;
#[path = "../../tests/harness/audit_schema.rs"]
mod audit_schema;
mod backend;
#[path = "../../tests/gateway/browser.rs"]
#[allow(dead_code, reason = "shared with the test tier")]
mod browser;
#[path = "../../tests/harness/eventually.rs"]
mod eventually;
#[path = "../../tests/gateway/harness.rs"]
#[allow(dead_code, reason = "shared with the test tier")]
mod harness;
mod keys;
mod process;
mod recording;
mod relay;
mod sessions;
mod throughput;

use browser::{Browser, Terminal};
use eventually::eventually;
use fastwebsockets::OpCode;
use harness::Site;
use std::path::Path;

const BACKEND: &str = "127.0.7.9";
/// For 10,000 sessions: one at each end, here and in the gateway.
const UNLIMITED: [(&str, &str); 7] = [
    ("LOG_LEVEL", "warn"),
    ("GATEWAY_MAX_TERMINALS_PER_USER", "0"),
    ("GATEWAY_MAX_TERMINALS", "0"),
    ("GATEWAY_MAX_CONNECTIONS", "0"),
    ("GATEWAY_RL_LIFECYCLE_GLOBAL_RPS", "0"),
    ("GATEWAY_RL_LIFECYCLE_PER_USER_RPS", "0"),
    ("GATEWAY_RL_WS_PER_USER_RPS", "0"),
];

/// Somewhere that a terminal can be opened, and the process that it costs.
pub struct Place {
    name: String,
    address: String,
    pid: Option<u32>,
}

#[tokio::main]
async fn main() {
    let mut arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    if arguments.first().is_some_and(|argument| argument == relay::ARGUMENT) {
        return relay::run(&arguments[1], &arguments[2]).await;
    }
    let mut binaries = Vec::new();
    while let Some(at) = arguments.iter().position(|argument| argument == "--binary") {
        binaries.extend(arguments.drain(at..at + 2).nth(1));
    }
    let all = ["keys", "throughput", "recording", "rates", "memory"];
    let (parts, numbers): (Vec<String>, Vec<String>) = arguments
        .drain(..)
        .partition(|argument| all.contains(&argument.as_str()));
    let wants = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    let mut counts: Vec<usize> = numbers
        .iter()
        .map(|count| count.parse().expect("a number of sessions"))
        .collect();
    if counts.is_empty() {
        counts = vec![1, 100, 1000];
    }

    backend::start((BACKEND, 7681), None).await;
    let site = Site::new("bench").await;
    let gateway = site.gateway(&UNLIMITED).await;
    let (browser, origin, name) = (Browser::default(), site.origin(), site.name("dev1"));
    browser.sign_in(&origin, "dev1").await;
    browser.page(&origin).await;
    site.set_running(&name, BACKEND).await;
    assert!(eventually(async || browser.page(&origin).await.body.contains("id=\"screen\"")).await);
    let relay = relay::start("127.0.7.10:7681", &format!("{BACKEND}:7681"));
    let place = |name: &str, address: &str, pid| Place {
        name: name.to_owned(),
        address: address.to_owned(),
        pid,
    };
    let mut places = vec![
        place("direct", &format!("http://{BACKEND}:7681"), None),
        place("TCP relay", "http://127.0.7.10:7681", Some(relay.pid())),
        place("gateway", &origin, Some(gateway.pid())),
    ];
    let mut others = Vec::new();
    for (number, binary) in binaries.iter().enumerate() {
        let [port] = apiserver::free_ports();
        let other = site.gateway_of(Path::new(binary), port, &UNLIMITED).await;
        browser.copy(&origin, &other.origin);
        places.push(place(
            &format!("binary {}", number + 1),
            &other.origin,
            Some(other.pid()),
        ));
        others.push(other);
    }
    if wants("keys") {
        for &count in &counts {
            keys::ratios(&browser, &places, &origin, count).await;
        }
    }
    if wants("throughput") {
        throughput::of_one_session(&browser, &places, &origin).await;
    }
    if wants("recording") {
        recording::ratios(&site, &browser, &places[2]).await;
    }
    if wants("rates") {
        for place in &places[2..] {
            sessions::rates(&browser, place, &origin).await;
        }
    }
    if wants("memory") {
        sessions::memory(&site, &browser, &gateway, *counts.iter().max().unwrap()).await;
    }
}

async fn terminal(browser: &Browser, address: &str, origin: &str) -> Terminal {
    let opened = browser.terminal(address, &[("origin", origin)]).await;
    let mut terminal = opened.unwrap_or_else(|answer| panic!("no terminal: {answer:?}"));
    terminal.hello().await;
    terminal
}

/// The size of the next binary message.
async fn binary(terminal: &mut Terminal) -> usize {
    loop {
        let frame = terminal.socket.read_frame().await.unwrap();
        match frame.opcode {
            OpCode::Binary => return frame.payload.len(),
            OpCode::Close => panic!("the terminal was closed: {:?}", frame.payload),
            _ => {}
        }
    }
}
