//! The same gateway becomes one that records: what that adds to its CPU time, as ratios of one run.

use crate::Place;
use crate::browser::Browser;
use crate::eventually::eventually;
use crate::harness::{Gateway, Site};
use crate::process::median;
use crate::throughput::{FRAMES, Way, cpu_per_gibibyte};
use std::path::Path;

/// Each measurement is the median of so many, taken in turns.
const ROUNDS: usize = 3;

/// Records all of it on the disk of the temporary directory, unsynced, so that CPU time is measured and not the disk; and compresses
/// nothing, which comes behind the end of a session.
async fn recording(site: &Site, directory: &Path, mode: &str) -> Gateway {
    let settings = [
        ("SESSION_RECORDING_ENABLED", "true"),
        ("SESSION_RECORDING_MODE", mode),
        ("SESSION_RECORDING_DIR", directory.to_str().unwrap()),
        ("SESSION_RECORDING_FSYNC", "never"),
        ("SESSION_RECORDING_COMPRESS", "false"),
    ];
    site.second_gateway_with(&[&crate::UNLIMITED[..], &settings].concat())
        .await
}

pub async fn ratios(site: &Site, browser: &Browser, plain: &Place) {
    println!("recording, CPU seconds per GiB, median of {ROUNDS}");
    for way in Way::BOTH {
        for frame in FRAMES {
            let mut found: [Vec<f64>; 3] = Default::default();
            for _ in 0..ROUNDS {
                let (origin, pid) = (&plain.address, plain.pid.unwrap());
                found[0].push(cpu_per_gibibyte(browser, origin, origin, pid, (way, frame), async || ()).await);
                for (mode, found) in ["metadata", "full"].into_iter().zip(&mut found[1..]) {
                    let directory = tempfile::tempdir().unwrap();
                    let gateway = recording(site, directory.path(), mode).await;
                    browser.copy(origin, &gateway.origin);
                    let ended = async || assert!(eventually(async || is_whole(&gateway)).await, "{}", gateway.log());
                    let at = (way, frame);
                    found.push(cpu_per_gibibyte(browser, &gateway.origin, origin, gateway.pid(), at, ended).await);
                }
            }
            let [off, metadata, full] = found.map(median);
            let added = |with: f64| (with / off - 1.0) * 100.0;
            println!(
                "  {}, {:>2} KiB frames  off {off:.2}  metadata {metadata:.2} ({:+.0}%)  full {full:.2} ({:+.0}%)",
                way.name(),
                frame >> 10,
                added(metadata),
                added(full),
            );
        }
    }
}

/// Its one session has ended, and was recorded from beginning to end.
fn is_whole(gateway: &Gateway) -> bool {
    let ended = gateway.audited("ws.session.end");
    let is_whole = ended.iter().all(|line| line["recordingFinalHash"].is_string());
    assert!(is_whole && gateway.audited("recording.failed").is_empty(), "{ended:?}");
    ended.len() == 1
}
