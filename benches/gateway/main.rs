//! What a terminal costs through the gateway, as ratios to the same without it:  cargo bench --bench gateway [-- SESSIONS...]
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
mod relay;

use browser::{Browser, Terminal};
use eventually::eventually;
use fastwebsockets::OpCode;
use harness::Site;
use std::time::{Duration, Instant};

const BACKEND: &str = "127.0.7.9";
const KEYS_PER_SESSION: usize = 100;
/// How fast each of them types.
const KEY_EVERY: Duration = Duration::from_millis(50);
const FLOOD: usize = 256 << 20;

#[tokio::main]
async fn main() {
    let mut arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    if arguments.first().is_some_and(|argument| argument == relay::ARGUMENT) {
        return relay::run(&arguments[1], &arguments[2]).await;
    }
    if arguments.is_empty() {
        arguments = ["1", "100"].map(str::to_owned).to_vec();
    }
    let counts: Vec<usize> = arguments
        .iter()
        .map(|count| count.parse().expect("a number of sessions"))
        .collect();

    backend::start((BACKEND, 7681)).await;
    let site = Site::new("bench").await;
    let gateway = site
        .gateway(&[("LOG_LEVEL", "warn"), ("GATEWAY_MAX_TERMINALS_PER_USER", "0")])
        .await;
    let (browser, origin, name) = (Browser::default(), site.origin(), site.name("dev1"));
    browser.sign_in(&origin, "dev1").await;
    browser.page(&origin).await;
    site.set_running(&name, BACKEND).await;
    assert!(eventually(async || browser.page(&origin).await.body.contains("id=\"screen\"")).await);
    let relay = relay::start("127.0.7.10:7681", &format!("{BACKEND}:7681"));
    let places = [
        ("direct", format!("http://{BACKEND}:7681"), None),
        ("TCP relay", "http://127.0.7.10:7681".to_owned(), Some(relay.pid())),
        ("gateway", origin.clone(), Some(gateway.pid())),
    ];

    println!(
        "keystroke round trip, {KEYS_PER_SESSION} keys in each session, one every {} ms",
        KEY_EVERY.as_millis()
    );
    for &count in &counts {
        let mut direct = None;
        for (place, address, _) in &places {
            let mut times = keystrokes(&browser, address, &origin, count).await;
            times.sort();
            let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
            let (p50, p99) = (at(0.5), at(0.99));
            let (d50, d99) = *direct.get_or_insert((p50, p99));
            let ratio = |one: Duration, other: Duration| one.as_secs_f64() / other.as_secs_f64();
            println!(
                "  {count:>5} sessions  {place:<10} p50 {:>7.1} us ({:.2} x direct)   p99 {:>8.1} us ({:.2} x)",
                p50.as_secs_f64() * 1e6,
                ratio(p50, d50),
                p99.as_secs_f64() * 1e6,
                ratio(p99, d99),
            );
        }
    }

    println!("output of one session, {} MiB", FLOOD >> 20);
    for frame in [4 << 10, 64 << 10] {
        for (place, address, pid) in &places {
            let before = pid.map(cpu_seconds);
            let started = Instant::now();
            flood(&browser, address, &origin, frame).await;
            let elapsed = started.elapsed().as_secs_f64();
            let gib = FLOOD as f64 / f64::from(1 << 30);
            let cpu = before.zip(*pid).map(|(before, pid)| (cpu_seconds(pid) - before) / gib);
            let cpu = cpu.map_or(String::new(), |cpu| format!("{cpu:.2} CPU seconds per GiB"));
            println!(
                "  {:>2} KiB frames  {place:<10} {:>5.2} GiB/s  {cpu}",
                frame >> 10,
                gib / elapsed
            );
        }
    }

    println!("memory of open sessions that do nothing");
    let pid = gateway.pid();
    let (empty, mut open) = (resident_kib(pid), Vec::new());
    for _ in 0..1000 {
        let mut terminal = browser.own_terminal(&origin, &origin).await;
        terminal.hello().await;
        open.push(terminal);
    }
    let full = resident_kib(pid);
    println!(
        "  {} KiB without, {full} KiB with {}: {:.1} KiB each",
        empty,
        open.len(),
        (full - empty) as f64 / open.len() as f64
    );
}

async fn terminal(browser: &Browser, address: &str, origin: &str) -> Terminal {
    let mut terminal = browser.own_terminal(address, origin).await;
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

async fn flood(browser: &Browser, address: &str, origin: &str, frame: usize) {
    let mut terminal = terminal(browser, address, origin).await;
    terminal.send(&backend::flood(FLOOD, frame)).await;
    let mut received = 0;
    while received < FLOOD {
        received += binary(&mut terminal).await;
    }
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

/// User and system time of a process (proc_pid_stat(5)): clock ticks of 10 ms.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
