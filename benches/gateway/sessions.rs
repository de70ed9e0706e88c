//! Many sessions become the CPU time of each one's beginning and the memory of each that does nothing; many requests, the CPU time
//! of each.

use crate::browser::Browser;
use crate::process::{cpu_seconds, resident_kib};
use crate::terminal;
use futures::future::join_all;
use std::time::{Duration, Instant};

const SESSIONS: usize = 500;
const REQUESTS: usize = 2000;
/// At once.
const TOGETHER: usize = 8;

pub async fn rates(browser: &Browser, origin: &str, pid: u32) {
    println!("rates, {TOGETHER} at once, each on a connection of its own");
    let open = async || drop(terminal(browser, origin, origin).await);
    rate("sessions opened and left", SESSIONS, pid, open).await;
    let url = format!("{origin}/api/workspace");
    let ask = async || assert_eq!(browser.get(&url).await.unwrap().status, 200);
    rate("/api/workspace", REQUESTS, pid, ask).await;
    let url = format!("{origin}/health");
    let ask = async || assert_eq!(browser.get(&url).await.unwrap().status, 200);
    rate("/health, for what a connection costs", REQUESTS, pid, ask).await;
}

async fn rate(what: &str, count: usize, pid: u32, once: impl AsyncFn()) {
    let (before, started) = (cpu_seconds(pid), Instant::now());
    let several = (0..TOGETHER).map(|_| async {
        for _ in 0..count / TOGETHER {
            once().await;
        }
    });
    join_all(several).await;
    let elapsed = started.elapsed().as_secs_f64();
    // What they leave behind.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let cpu = (cpu_seconds(pid) - before) / count as f64;
    println!(
        "  {what}: {:.0} a second, {:.0} us CPU each",
        count as f64 / elapsed,
        cpu * 1e6
    );
}

pub async fn memory(browser: &Browser, origin: &str, pid: u32, most: usize) {
    println!("memory of open sessions that do nothing");
    let (empty, mut open) = (resident_kib(pid), Vec::new());
    for count in [1000, most.max(1000)] {
        while open.len() < count {
            open.push(terminal(browser, origin, origin).await);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        let full = resident_kib(pid);
        println!(
            "  {empty} KiB before, {full} KiB with {count}: {:.1} KiB each",
            full.saturating_sub(empty) as f64 / count as f64
        );
    }
}
