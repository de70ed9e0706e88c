//! Many sessions become the CPU time of each one's beginning and the memory of each that does nothing; many requests, the CPU time
//! of each.

use crate::browser::Browser;
use crate::process::{cpu_seconds, resident_kib};
use crate::terminal;
use futures::future::join_all;
use std::time::{Duration, Instant};

const SESSIONS: usize = 500;
/// So many that the ticks of 10 ms in which the system counts matter little.
const REQUESTS: usize = 8000;
/// At once.
const TOGETHER: usize = 8;

pub async fn rates(browser: &Browser, origin: &str, pid: u32) {
    println!("rates, {TOGETHER} at once");
    rate("sessions opened and left", SESSIONS, pid, async |count| {
        for _ in 0..count {
            drop(terminal(browser, origin, origin).await);
        }
    })
    .await;
    for path in ["/api/workspace", "/health"] {
        let url = format!("{origin}{path}");
        let kept = format!("{path}, on a connection that is kept alive");
        rate(&kept, REQUESTS, pid, async |count| {
            browser.keep_asking(&url, count).await
        })
        .await;
        let own = format!("{path}, each on a connection of its own");
        rate(&own, REQUESTS, pid, async |count| {
            for _ in 0..count {
                browser.keep_asking(&url, 1).await;
            }
        })
        .await;
    }
}

/// `several` does as many of them as it is told, one after the other.
async fn rate(what: &str, count: usize, pid: u32, several: impl AsyncFn(usize)) {
    let (before, started) = (cpu_seconds(pid), Instant::now());
    join_all((0..TOGETHER).map(|_| several(count / TOGETHER))).await;
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
