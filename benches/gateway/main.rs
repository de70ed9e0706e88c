//! What a terminal costs through the gateway, as ratios to the same without it:
//! cargo bench --bench gateway [-- keys|throughput|recording|rates|memory... SESSIONS...]
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
mod process;
mod recording;
mod relay;
mod sessions;
mod throughput;

use browser::{Browser, Terminal};
use eventually::eventually;
use fastwebsockets::OpCode;
use harness::Site;
use std::time::{Duration, Instant};

const BACKEND: &str = "127.0.7.9";
const KEYS_PER_SESSION: usize = 100;
/// How fast each of them types.
const KEY_EVERY: Duration = Duration::from_millis(50);
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
    name: &'static str,
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

    backend::start((BACKEND, 7681)).await;
    let site = Site::new("bench").await;
    let gateway = site.gateway(&UNLIMITED).await;
    let (browser, origin, name) = (Browser::default(), site.origin(), site.name("dev1"));
    browser.sign_in(&origin, "dev1").await;
    browser.page(&origin).await;
    site.set_running(&name, BACKEND).await;
    assert!(eventually(async || browser.page(&origin).await.body.contains("id=\"screen\"")).await);
    let relay = relay::start("127.0.7.10:7681", &format!("{BACKEND}:7681"));
    let place = |name, address: &str, pid| Place {
        name,
        address: address.to_owned(),
        pid,
    };
    let places = [
        place("direct", &format!("http://{BACKEND}:7681"), None),
        place("TCP relay", "http://127.0.7.10:7681", Some(relay.pid())),
        place("gateway", &origin, Some(gateway.pid())),
    ];
    if wants("keys") {
        for &count in &counts {
            keystroke_ratios(&browser, &places, &origin, count).await;
        }
    }
    if wants("throughput") {
        throughput::of_one_session(&browser, &places, &origin).await;
    }
    if wants("recording") {
        recording::ratios(&site, &browser, &places[2]).await;
    }
    if wants("rates") {
        sessions::rates(&browser, &origin, gateway.pid()).await;
    }
    if wants("memory") {
        sessions::memory(&browser, &origin, gateway.pid(), *counts.iter().max().unwrap()).await;
    }
}

async fn keystroke_ratios(browser: &Browser, places: &[Place], origin: &str, count: usize) {
    println!(
        "keystroke round trip, {KEYS_PER_SESSION} keys in each session, one every {} ms",
        KEY_EVERY.as_millis()
    );
    let mut direct = None;
    for Place { name, address, .. } in places {
        let mut times = keystrokes(browser, address, origin, count).await;
        times.sort();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        let (p50, p99) = (at(0.5), at(0.99));
        let (d50, d99) = *direct.get_or_insert((p50, p99));
        let ratio = |one: Duration, other: Duration| one.as_secs_f64() / other.as_secs_f64();
        println!(
            "  {count:>5} sessions  {name:<10} p50 {:>7.1} us ({:.2} x direct)   p99 {:>8.1} us ({:.2} x)",
            p50.as_secs_f64() * 1e6,
            ratio(p50, d50),
            p99.as_secs_f64() * 1e6,
            ratio(p99, d99),
        );
    }
}

async fn terminal(browser: &Browser, address: &str, origin: &str) -> Terminal {
    let opened = browser.terminal(address, &[("origin", origin)]).await;
    let mut terminal = opened.unwrap_or_else(|answer| panic!("no terminal: {answer:?}"));
    terminal.hello().await;
    terminal
}

/// The round trip of every key of every session.
async fn keystrokes(browser: &Browser, address: &str, origin: &str, sessions: usize) -> Vec<Duration> {
    let mut typing = Vec::new();
    for _ in 0..sessions {
        let mut terminal = terminal(browser, address, origin).await;
        typing.push(tokio::spawn(async move {
            let mut times = Vec::with_capacity(KEYS_PER_SESSION);
            let mut tick = tokio::time::interval(KEY_EVERY);
            for _ in 0..KEYS_PER_SESSION {
                tick.tick().await;
                let started = Instant::now();
                terminal.send(b"0k").await;
                binary(&mut terminal).await;
                times.push(started.elapsed());
            }
            times
        }));
    }
    let mut times = Vec::new();
    for one in typing {
        times.extend(one.await.unwrap());
    }
    times
}

/// The size of the next binary message.
async fn binary(terminal: &mut Terminal) -> usize {
    loop {
        let frame = terminal.socket.read_frame().await.unwrap();
        if frame.opcode == OpCode::Binary {
            return frame.payload.len();
        }
    }
}
