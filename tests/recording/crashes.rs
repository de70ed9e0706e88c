//! A gateway that is killed while it writes, and a disk that is full or slow: what is on disk verifies up to the last checkpoint.

use crate::harness::{begin, converse, eventually, lines, options, problems, recorder, say, trusted, verdict};
use devplane::recording::chain::Direction;
use devplane::recording::layout::{Contents, Files};
use devplane::recording::{Failure, Options, verify};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

#[tokio::test]
async fn wherever_it_is_cut_the_rest_verifies_up_to_the_last_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = recorder(Options {
        checkpoint_records: 2,
        ..options(directory.path(), "g")
    });
    let recording = begin(&recorder, 1).await.unwrap();
    let session = Files::new(directory.path(), &recording.id);
    // One after the other is on disk, so that there is a checkpoint at each second record.
    for number in 1..=5 {
        say(
            &recording,
            Direction::BackendToClient,
            format!("0line {number}\r\n").as_bytes(),
        );
        eventually("not written", || lines(&session.records()) >= number).await;
    }
    eventually("no checkpoint", || lines(&session.checkpoints()) >= 2).await;
    let whole = fs::read(session.records()).unwrap();
    let checkpoints = fs::read_to_string(session.checkpoints()).unwrap();
    assert_eq!(checkpoints.lines().count(), 2);
    let opened = fs::read(session.manifest()).unwrap();
    drop((recording, recorder));
    eventually("not closed", || fs::read(session.manifest()).unwrap() != opened).await;
    // As if it had been killed before.
    fs::write(session.manifest(), opened).unwrap();
    let ends: Vec<usize> = (0..whole.len())
        .filter(|at| whole[*at] == b'\n')
        .map(|at| at + 1)
        .collect();
    for length in (0..=whole.len()).rev() {
        fs::write(session.records(), &whole[..length]).unwrap();
        let report = verify::session(&session, &trusted());
        let records = ends.iter().filter(|end| **end <= length).count() as u64;
        assert_eq!(report.records, records, "{length}");
        assert_eq!(report.sealed, records / 2 * 2, "{length}");
        if records >= 4 {
            assert_eq!(report.problems, Vec::<String>::new(), "{length}");
            let is_torn = !ends.contains(&length);
            assert_eq!(
                report.notes.iter().any(|note| note.contains("is torn off")),
                is_torn,
                "{length}"
            );
            assert!(report.notes.iter().any(|note| note.contains("has no end")));
        } else {
            let missing = format!("records {} to 4 are missing", records + 1);
            assert!(report.problems.contains(&missing), "{length}: {:?}", report.problems);
        }
    }
}

#[tokio::test]
async fn a_checkpoint_comes_when_its_time_has_come() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = recorder(Options {
        checkpoint_records: 1_000_000,
        checkpoint_every: Duration::from_millis(300),
        ..options(directory.path(), "g")
    });
    let recording = begin(&recorder, 1).await.unwrap();
    let session = Files::new(directory.path(), &recording.id);
    for number in 1..=3 {
        say(&recording, Direction::BackendToClient, b"0said");
        eventually("no checkpoint", || lines(&session.checkpoints()) == number).await;
        let report = verify::session(&session, &trusted());
        assert_eq!((report.problems.len(), report.sealed), (0, number as u64), "{report:?}");
    }
    // Without a new record there is nothing to sign.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(lines(&session.checkpoints()), 3);
}

/// This executable again, for the one test that is the child's part.
fn child(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[expect(clippy::disallowed_methods, reason = "how a test tells its child where to write")]
fn directory_of_the_child() -> PathBuf {
    std::env::var("DEVPLANE_TEST_RECORDINGS").unwrap().into()
}

#[tokio::test]
#[ignore = "the child of the test below: it records until it is killed"]
async fn records_until_it_is_killed() {
    let recorder = recorder(Options {
        checkpoint_records: 50,
        ..options(&directory_of_the_child(), "killed")
    });
    let mut recordings = vec![];
    for random in 0..3 {
        recordings.push(begin(&recorder, random).await.unwrap());
    }
    let closed = begin(&recorder, 3).await.unwrap();
    converse(&closed);
    closed.close("client_closed").await;
    loop {
        for recording in &recordings {
            say(recording, Direction::BackendToClient, &[b'0'; 5000]);
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

#[test]
fn what_a_killed_gateway_leaves_verifies_up_to_the_last_checkpoint() {
    for round in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        let mut child = child("crashes::records_until_it_is_killed")
            .env("DEVPLANE_TEST_RECORDINGS", directory.path())
            .spawn()
            .unwrap();
        let mut tries = 0..2000;
        while checkpoints(directory.path()) < 6 {
            assert!(tries.next().is_some(), "the child does not record");
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(13 * round));
        // SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
        // The child made a key of its own, which nobody knows: what it signed is held to nothing but itself here.
        let verdict = verify::directory(directory.path(), &Default::default()).unwrap();
        assert!(verdict.is_sound(), "{}", problems(&verdict));
        assert_eq!(verdict.sessions.len(), 4);
        for session in verdict.sessions.iter().filter(|session| !session.is_closed()) {
            assert!(session.sealed > 0 && session.sealed <= session.records, "{session:?}");
            assert!(session.notes.iter().any(|note| note.contains("has no end")));
        }
        assert_eq!(verdict.sessions.iter().filter(|session| session.is_closed()).count(), 1);
    }
}

fn checkpoints(directory: &Path) -> usize {
    let Ok(contents) = Contents::of(directory) else {
        return 0;
    };
    let count = |id: &String| {
        fs::read_to_string(Files::new(directory, id).checkpoints()).map_or(0, |text| text.lines().count())
    };
    contents.sessions.iter().map(count).sum()
}

#[tokio::test]
#[ignore = "the child of the test below, on a disk of its own"]
async fn records_until_the_disk_is_full() {
    let directory = directory_of_the_child();
    // What is taken away later to make room.
    fs::write(directory.join("ballast"), vec![0; 64 << 10]).unwrap();
    let recorder = recorder(options(&directory, "full"));
    let recording = begin(&recorder, 1).await.unwrap();
    let session = Files::new(&directory, &recording.id);
    let failure = tokio::time::timeout(Duration::from_secs(30), async {
        let filling = async {
            loop {
                say(&recording, Direction::BackendToClient, &[b'0'; 5000]);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            failure = recording.failed() => failure,
            () = filling => unreachable!(),
        }
    });
    assert_eq!(failure.await.unwrap(), Failure::Write);
    // What comes later is counted, and nothing waits.
    for _ in 0..3 {
        say(&recording, Direction::BackendToClient, b"0more");
    }
    fs::write(directory.join("filler"), vec![0; 1 << 20]).unwrap_err();
    let (closed, _) = recording.close("recording_failed").await;
    assert_eq!(closed, None, "there is no room for its end");
    // No new session begins on it.
    assert!(matches!(begin(&recorder, 2).await, Err(Failure::Open)));
    for name in ["filler", "ballast"] {
        fs::remove_file(directory.join(name)).unwrap();
    }
    // The end is written when there is room.
    eventually("no end", || verify::session(&session, &trusted()).is_closed()).await;
    let manifest = verify::session(&session, &trusted()).manifest.unwrap();
    assert!(manifest.lost_after >= 3, "{manifest:?}");
    recorder.finish(Duration::from_secs(10)).await;
    let verdict = verdict(&directory);
    assert!(verdict.is_sound(), "{}", problems(&verdict));
    let report = &verdict.sessions[0];
    assert!(report.records > 4 && report.sealed == report.records, "{report:?}");
    let text = fs::read_to_string(session.records()).unwrap();
    assert!(text.ends_with('\n'), "the last record is whole");
    fs::write(directory.join("passed"), "").unwrap();
}

/// In a mount namespace of its own there is a disk of 256 KiB, which goes away with the child.
#[test]
fn a_full_disk_ends_the_recording_and_spoils_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let program = child("crashes::records_until_the_disk_is_full");
    let script =
        r#"mount -t tmpfs -o size=256k recordings "$1" && shift && "$@" && test -e "$DEVPLANE_TEST_RECORDINGS/passed""#;
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(directory.path())
        .arg(program.get_program())
        .args(program.get_args())
        .env("DEVPLANE_TEST_RECORDINGS", directory.path())
        .output()
        .unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}\n{err}");
}

/// Many sessions wait for a disk that takes one write in a second: each gets on, and none has failed. Then one write takes longer than a disk may.
#[tokio::test]
#[ignore = "the child of the test below, with a disk that is slow"]
async fn records_while_the_disk_is_slow() {
    const SESSIONS: u64 = 14;
    let directory = directory_of_the_child();
    let slow = |milliseconds: &str| fs::write(directory.join("slow"), milliseconds).unwrap();
    let recorder = recorder(options(&directory, "slow"));
    let mut recordings = vec![];
    for random in 0..SESSIONS {
        recordings.push(begin(&recorder, random).await.unwrap());
    }
    slow("900");
    let ends = tokio::time::Instant::now() + Duration::from_secs(16);
    while tokio::time::Instant::now() < ends {
        for recording in &recordings {
            assert!(say(recording, Direction::BackendToClient, b"0said"));
        }
        let failed = tokio::time::timeout(Duration::from_millis(250), recordings[0].failed()).await;
        assert!(failed.is_err(), "{failed:?}");
    }
    slow("14000");
    say(&recordings[0], Direction::BackendToClient, b"0said");
    let failed = tokio::time::timeout(Duration::from_secs(30), recordings[0].failed()).await;
    assert_eq!(failed, Ok(Failure::Stalled));
    assert!(matches!(begin(&recorder, SESSIONS).await, Err(Failure::Stalled)));
    fs::remove_file(directory.join("slow")).unwrap();
    for recording in recordings {
        while recording.failure().is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        recording.close("client_closed").await;
    }
    recorder.finish(Duration::from_secs(10)).await;
    let verdict = verdict(&directory);
    assert!(verdict.is_sound(), "{}", problems(&verdict));
    for session in &verdict.sessions {
        assert!(session.is_closed() && session.sealed == session.records, "{session:?}");
        assert_eq!(session.notes, Vec::<String>::new(), "nothing is lost");
    }
    fs::write(directory.join("passed"), "").unwrap();
}

#[test]
fn a_slow_disk_is_waited_for_and_a_stuck_one_is_told_of() {
    with_another_disk("crashes::records_while_the_disk_is_slow");
}

/// Runs a child whose disk is `slow_disk.c`.
fn with_another_disk(name: &str) {
    let directory = tempfile::tempdir().unwrap();
    let library = directory.path().join("slow_disk.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recording/slow_disk.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(source)
        .status();
    assert!(compiled.unwrap().success());
    let recordings = directory.path().join("recordings");
    fs::create_dir(&recordings).unwrap();
    let status = child(name)
        .env("DEVPLANE_TEST_RECORDINGS", &recordings)
        .env("LD_PRELOAD", &library)
        .status();
    assert!(status.unwrap().success() && recordings.join("passed").exists());
}
