//! A rolling update of the gateway, as a person at a terminal sees it: two replicas behind one address, a real tmux behind ttyd.

use crate::apiserver::free_ports;
use crate::balancer::Balancer;
use crate::browser::{Browser, Terminal};
use crate::eventually::eventually;
use crate::harness::{Gateway, Site, address, ttyd_with};
use fastwebsockets::{Frame, OpCode, Payload};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A tmux server of its own, that ends with the test.
pub struct Tmux(pub PathBuf);

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux").arg("-S").arg(&self.0).arg("kill-server").status();
    }
}

impl Tmux {
    /// The command that is at its one session, with `program` in it.
    pub fn attach<'a>(&'a self, program: &'a str) -> [&'a str; 10] {
        let socket = self.0.to_str().unwrap();
        [
            "tmux",
            "-S",
            socket,
            "-f",
            "/dev/null",
            "new-session",
            "-A",
            "-s",
            "workspace",
            program,
        ]
    }
}

/// A program that acknowledges a line on the screen when it is in the file, and not before.
pub fn keeping_lines(kept: &Path) -> String {
    format!(
        r#"stty -echo; echo screen of old; while read -r line; do echo "$line" >> {}; echo "kept $line"; done"#,
        kept.display()
    )
}

/// Types lines until the connection is closed; gives the close code. `shown` are the lines that the terminal has acknowledged.
async fn type_until_closed(terminal: &mut Terminal, typed: &mut Vec<String>, shown: &mut Vec<String>) -> u16 {
    loop {
        let line = format!("line-{:03}", typed.len());
        typed.push(line.clone());
        let frame = Frame::binary(Payload::Owned(format!("0{line}\r").into_bytes()));
        if terminal.socket.write_frame(frame).await.is_err() {
            return terminal.closed().await;
        }
        let acknowledgement = format!("kept {line}");
        while !terminal.screen.contains(&acknowledgement) {
            let frame = terminal.socket.read_frame().await.unwrap();
            match frame.opcode {
                OpCode::Close => return u16::from_be_bytes([frame.payload[0], frame.payload[1]]),
                OpCode::Binary => terminal.screen.push_str(&String::from_utf8_lossy(&frame.payload)),
                _ => {}
            }
        }
        shown.push(line);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_update_behind_one_address_costs_neither_screen_nor_keys() {
    let place = address();
    let site = Site::new("rolling").await;
    site.create_running("dev1", place).await;
    let ports: [u16; 2] = free_ports();
    let behind = ports.map(|port| format!("127.0.0.1:{port}"));
    let settings = [("GATEWAY_DRAIN_TIMEOUT", "2s")];
    let mut gateways = [
        site.gateway_at(ports[0], &settings).await,
        site.gateway_at(ports[1], &settings).await,
    ];
    let balancer = Balancer::at(site.port(), behind).await;
    assert_eq!(balancer.origin, site.origin());

    let kept = site.directory.path().join("kept");
    let tmux = Tmux(site.directory.path().join("tmux"));
    let program = keeping_lines(&kept);
    let _ttyd = ttyd_with(place, &tmux.attach(&program));

    let (browser, origin) = (Browser::default(), site.origin());
    browser.sign_in(&origin, "dev1").await;
    let mut terminal = browser.own_terminal(&origin, &origin).await;
    terminal.hello().await;
    terminal.until("screen of old").await;
    let (mut typed, mut shown) = (Vec::new(), Vec::new());
    // Both are exchanged, one after the other, beginning with the one that has the terminal. When a terminal moves is by chance, and may be at once:
    // it goes on until something was typed meanwhile.
    let at = |gateways: &[Gateway; 2]| usize::from(gateways[1].audited("ws.session.start").len() == 1);
    let (first, mut meanwhile, mut moves) = (at(&gateways), 0, Vec::new());
    while moves.len() < 2 || meanwhile == 0 {
        assert!(moves.len() < 10, "nothing was typed meanwhile");
        let index = (first + moves.len()) % 2;
        let other = 1 - index;
        let line = format!("before {}", moves.len());
        terminal.type_keys(&format!("{line}\r")).await;
        terminal.until(&format!("kept {line}")).await;
        typed.push(line.clone());
        shown.push(line);
        let before = shown.len();
        let given = balancer.given[other].load(Ordering::Relaxed);
        gateways[index].terminate();
        let code = type_until_closed(&mut terminal, &mut typed, &mut shown).await;
        assert_eq!(code, 1012);
        let moving = Instant::now();
        meanwhile += shown.len() - before;
        // As the page does: again at once, through the one address.
        terminal = browser.own_terminal(&origin, &origin).await;
        assert!(
            balancer.given[other].load(Ordering::Relaxed) > given,
            "the other replica took it"
        );
        terminal.hello().await;
        let last = shown.last().unwrap();
        terminal.until(&format!("kept {last}")).await;
        moves.push(moving.elapsed());
        assert_eq!(gateways[index].exit_code(), Some(0));
        assert!(
            !gateways[index].log().contains("broken off"),
            "{}",
            gateways[index].log()
        );
        gateways[index] = site.gateway_at(ports[index], &settings).await;
    }
    // What the gateways need for it they need each time; a busy machine does not.
    assert!(*moves.iter().min().unwrap() < Duration::from_secs(2), "{moves:?}");
    terminal.type_keys("moved\r").await;
    terminal.until("kept moved").await;
    let written = eventually(async || {
        std::fs::read_to_string(&kept)
            .unwrap()
            .lines()
            .any(|line| line == "moved")
    });
    assert!(written.await);
    let kept = std::fs::read_to_string(&kept).unwrap();
    for line in &shown {
        assert_eq!(kept.lines().filter(|kept| kept == line).count(), 1, "{line} in {kept}");
    }
    let order: Vec<_> = kept
        .lines()
        .filter(|line| shown.iter().any(|shown| shown == line))
        .collect();
    assert_eq!(order, shown, "as they were typed");
    let foreign: Vec<_> = kept
        .lines()
        .filter(|line| *line != "moved" && !typed.iter().any(|typed| typed == line))
        .collect();
    assert_eq!(foreign, Vec::<&str>::new(), "a line that was never typed so");
}
