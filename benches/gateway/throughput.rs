//! Much output, and a large paste, become gibibytes a second and the CPU time of each.

use crate::browser::{Browser, Terminal};
use crate::process::cpu_seconds;
use crate::{Place, backend, binary, terminal};
use std::time::{Duration, Instant};

/// In one measurement, in bytes.
const BYTES: usize = 256 << 20;
/// At once: a pause after each keeps what takes notes from falling far behind, and costs no CPU time.
const PORTION: usize = 8 << 20;
const PAUSE: Duration = Duration::from_millis(10);
pub const FRAMES: [usize; 2] = [4 << 10, 64 << 10];

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    FromWorkspace,
    ToWorkspace,
}

impl Way {
    pub const BOTH: [Self; 2] = [Self::FromWorkspace, Self::ToWorkspace];

    pub fn name(self) -> &'static str {
        match self {
            Self::FromWorkspace => "from the workspace",
            Self::ToWorkspace => "to the workspace",
        }
    }
}

pub fn gibibytes() -> f64 {
    BYTES as f64 / f64::from(1 << 30)
}

/// Sends all of it one way; it has arrived when this ends.
pub async fn flood(terminal: &mut Terminal, way: Way, frame: usize, pause: Option<Duration>) {
    for _ in 0..BYTES / PORTION {
        match way {
            Way::FromWorkspace => {
                terminal.send(&backend::flood(PORTION, frame)).await;
                let mut received = 0;
                while received < PORTION {
                    received += binary(terminal).await;
                }
            }
            Way::ToWorkspace => {
                let message = vec![backend::SWALLOWED; frame];
                for _ in 0..PORTION / frame {
                    terminal.send(&message).await;
                }
                terminal.send(b"0.").await;
                binary(terminal).await;
            }
        }
        if let Some(pause) = pause {
            tokio::time::sleep(pause).await;
        }
    }
}

pub async fn of_one_session(browser: &Browser, places: &[Place], origin: &str) {
    println!("one session, {} MiB", BYTES >> 20);
    for way in Way::BOTH {
        for frame in FRAMES {
            for Place { name, address, pid } in places {
                let mut terminal = terminal(browser, address, origin).await;
                let (before, started) = (pid.map(cpu_seconds), Instant::now());
                flood(&mut terminal, way, frame, None).await;
                let elapsed = started.elapsed().as_secs_f64();
                let cpu = before
                    .zip(*pid)
                    .map(|(before, pid)| (cpu_seconds(pid) - before) / gibibytes());
                let cpu = cpu.map_or(String::new(), |cpu| format!("{cpu:.2} CPU seconds per GiB"));
                println!(
                    "  {}, {:>2} KiB frames  {name:<10} {:>5.2} GiB/s  {cpu}",
                    way.name(),
                    frame >> 10,
                    gibibytes() / elapsed
                );
            }
        }
    }
}

/// CPU seconds per GiB of the gateway at `address`, all that `settled` waits for included.
pub async fn cpu_per_gibibyte(
    browser: &Browser,
    address: &str,
    origin: &str,
    pid: u32,
    (way, frame): (Way, usize),
    settled: impl AsyncFnOnce(),
) -> f64 {
    let mut terminal = terminal(browser, address, origin).await;
    let before = cpu_seconds(pid);
    flood(&mut terminal, way, frame, Some(PAUSE)).await;
    drop(terminal);
    settled().await;
    (cpu_seconds(pid) - before) / gibibytes()
}
