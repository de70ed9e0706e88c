//! Sides that do not read: what is sent to them waits where it comes from, and not in the gateway.

use crate::browser::Browser;
use crate::harness::{Gateway, Process, Site, address, ttyd};
use fastwebsockets::{Frame, Payload};
use std::process::Command;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// What two connections with full buffers may cost, and what an allocator keeps.
const MOST_GROWTH: u64 = 16 << 20;

/// What a gateway holds in memory, in bytes (proc_pid_status(5): `VmRSS`).
fn resident(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kibibytes << 10
}

/// The most that it grows in some seconds.
async fn growth(gateway: &Gateway, before: u64) -> u64 {
    let mut most = before;
    for _ in 0..50 {
        sleep(Duration::from_millis(100)).await;
        most = most.max(resident(gateway));
    }
    most - before
}

fn signal(process: &Process, name: &str) {
    let pid = process.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_prints_for_ever_to_a_client_that_does_not_read_fills_no_memory() {
    let place = address();
    let site = Site::new("memory-output").await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    let _ttyd = ttyd(place);
    let browser = Browser::default();
    site.create_running("dev1", place).await;
    browser.sign_in(&origin, "dev1").await;
    let mut terminal = browser.own_shell(&origin).await;
    let before = resident(&gateway);
    terminal.type_keys("yes\r").await;
    let grown = growth(&gateway, before).await;
    assert!(grown < MOST_GROWTH, "{grown} bytes more");
    // It was there all the while.
    terminal.until("y\r\ny\r\n").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paste_into_a_workspace_that_does_not_read_fills_no_memory() {
    let place = address();
    let site = Site::new("memory-input").await;
    let (gateway, origin) = (site.gateway(&[]).await, site.origin());
    let ttyd = ttyd(place);
    let browser = Browser::default();
    site.create_running("dev1", place).await;
    browser.sign_in(&origin, "dev1").await;
    let mut terminal = browser.own_shell(&origin).await;
    let before = resident(&gateway);
    signal(&ttyd, "-STOP");
    let piece = [b"0".to_vec(), vec![b'x'; 64 << 10]].concat();
    let mut sent = 0;
    let pasting = async {
        loop {
            let frame = Frame::binary(Payload::Borrowed(&piece));
            terminal.socket.write_frame(frame).await.unwrap();
            sent += piece.len();
        }
    };
    let (_, grown) = tokio::join!(timeout(Duration::from_secs(5), pasting), growth(&gateway, before));
    signal(&ttyd, "-CONT");
    assert!(grown < MOST_GROWTH, "{grown} bytes more");
    // What the kernels keep for both connections, and no more: the client waits.
    assert!(sent < 64 << 20, "{sent} bytes were taken");
}
