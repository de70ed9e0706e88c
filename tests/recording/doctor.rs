//! `devplane doctor recording` as a person meets it, and its casts as the real player does.

use crate::harness::{begin, begin_as, converse, ended, keys, options, recorder};
use assert_cmd::Command;
use devplane::config::recording::Mode;
use devplane::recording::Options;
use std::fs;
use std::path::Path;
use std::time::Duration;

fn doctor(command: &str, path: &Path) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_devplane"));
    program.env_clear().args(["doctor", "recording", command]).arg(path);
    program
}

fn verify(path: &Path) -> Command {
    let mut program = doctor("verify", path);
    program.arg("--public-key").arg(&keys().1);
    program
}

fn said(output: &assert_cmd::assert::Assert) -> String {
    String::from_utf8(output.get_output().stdout.clone()).unwrap()
}

#[tokio::test]
async fn verify_says_which_record_is_wrong_and_exits_by_it() {
    let directory = tempfile::tempdir().unwrap();
    let sessions = ended(options(directory.path(), "g"), 2).await;
    let all = said(&verify(directory.path()).assert().code(0));
    assert!(
        all.contains("6 records, 6 of them under a checkpoint; ended: client_closed"),
        "{all}"
    );
    assert!(
        all.ends_with("2 sessions: 2 ok, 0 failed; 1 ledgers, 0 problems between sessions\n"),
        "{all}"
    );
    for file in [sessions[0].manifest(), sessions[0].records()] {
        let one = said(&verify(&file).assert().code(0));
        assert!(one.contains("one session alone"), "{one}");
    }

    let text = fs::read_to_string(sessions[1].records()).unwrap();
    fs::write(
        sessions[1].records(),
        text.replacen("client_to_backend", "backend_to_client", 1),
    )
    .unwrap();
    let wrong = said(&verify(directory.path()).assert().code(1));
    assert!(
        wrong.contains(&format!("FAIL {}", sessions[1].id)) && wrong.contains("problem: record 1 was changed"),
        "{wrong}"
    );

    verify(&directory.path().join("nothing")).assert().code(64);
    let private = doctor("verify", directory.path())
        .arg("--public-key")
        .arg(&keys().0)
        .assert()
        .code(64);
    let error = String::from_utf8_lossy(&private.get_output().stderr).into_owned();
    assert!(error.contains("public key") && !error.contains("PRIVATE"), "{error}");
}

#[tokio::test]
async fn list_finds_a_user_s_sessions() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = recorder(options(directory.path(), "g"));
    for (random, user) in ["alice", "bob", "eve\u{1b}[2J"].iter().enumerate() {
        let recording = begin_as(&recorder, random as u64, user).await.unwrap();
        converse(&recording);
        recording.close("client_closed").await;
    }
    let open = begin(&recorder, 9).await.unwrap();
    let all = said(&doctor("list", directory.path()).assert().code(0));
    assert_eq!(all.lines().count(), 5, "{all}");
    assert!(!all.contains('\u{1b}'), "a name is not for the terminal to act on");
    let alice = said(
        &doctor("list", directory.path())
            .args(["--user", "alice"])
            .assert()
            .code(0),
    );
    assert_eq!(alice.lines().count(), 3, "{alice}");
    assert!(alice.contains(&open.id) && alice.contains("client_closed") && !alice.contains("bob"));
    let never = said(
        &doctor("list", directory.path())
            .args(["--until", "2020-01-01T00:00:00Z"])
            .assert()
            .code(0),
    );
    assert_eq!(never.lines().count(), 1, "{never}");
    let later = said(
        &doctor("list", directory.path())
            .args(["--since", "2999-01-01T00:00:00Z"])
            .assert()
            .code(0),
    );
    assert_eq!(later.lines().count(), 2, "one is still open: {later}");
    doctor("list", directory.path())
        .args(["--since", "yesterday"])
        .assert()
        .code(64);
    open.close("client_closed").await;
}

/// The real player, of this major version.
fn asciinema(version: &str) -> String {
    let mut program = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recording/asciinema.sh"));
    said(&program.arg(version).assert().success()).trim().to_owned()
}

#[tokio::test]
async fn the_real_asciinema_plays_what_is_exported() {
    let directory = tempfile::tempdir().unwrap();
    let compressed = Options {
        compress: true,
        ..options(directory.path(), "g")
    };
    let session = ended(compressed, 1).await.remove(0);
    let asciinema = asciinema("2");
    let cast = said(
        &doctor("export", &session.manifest())
            .args(["--format", "asciicast"])
            .assert()
            .code(0),
    );
    let file = directory.path().join("a.cast");
    fs::write(&file, &cast).unwrap();
    let run = |arguments: &[&str]| {
        let mut program = Command::new(&asciinema);
        program
            .env("HOME", directory.path())
            .env("TERM", "xterm")
            .args(arguments)
            .arg(&file);
        program.timeout(Duration::from_secs(60)).assert().success()
    };
    assert_eq!(said(&run(&["cat"])), "$ ls\r\na.txt\r\n$ exit\r\n");
    assert_eq!(
        said(&run(&["play", "-s", "100", "-i", "0.1"])),
        "$ ls\r\na.txt\r\n$ exit\r\n"
    );

    let third = said(
        &doctor("export", &session.manifest())
            .args(["--format", "asciicast-v3"])
            .assert()
            .code(0),
    );
    let header: serde_json::Value = serde_json::from_str(third.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&header["version"], &header["term"]["cols"], &header["term"]["rows"]),
        (&3.into(), &100.into(), &30.into())
    );
    assert_eq!(third.lines().count(), cast.lines().count());

    // The one that knows version 3 makes the same of it as of version 2, and plays it on a terminal.
    let asciinema = self::asciinema("3");
    let converted = |name: &str, cast: &str, format: &str| {
        let (from, to) = (
            directory.path().join(name),
            directory.path().join(format!("{name}.{format}")),
        );
        fs::write(&from, cast).unwrap();
        let mut program = Command::new(&asciinema);
        program
            .env("HOME", directory.path())
            .args(["convert", "--quiet", "--output-format", format]);
        program
            .arg(from)
            .arg(&to)
            .timeout(Duration::from_secs(60))
            .assert()
            .success();
        fs::read_to_string(to).unwrap()
    };
    assert!(converted("3.cast", &third, "raw").ends_with("$ ls\r\na.txt\r\n$ exit\r\n"));
    let events = |text: String| -> Vec<(f64, String, String)> {
        let events = text.lines().skip(1).map(|line| serde_json::from_str(line).unwrap());
        events.collect()
    };
    let (of_second, of_third) = (
        events(converted("2.cast", &cast, "asciicast-v2")),
        events(converted("3.cast", &third, "asciicast-v2")),
    );
    assert_eq!(of_second.len(), of_third.len());
    for (second, third) in of_second.iter().zip(&of_third) {
        assert!((second.0 - third.0).abs() < 0.01, "{second:?} {third:?}");
        assert_eq!((&second.1, &second.2), (&third.1, &third.2));
    }
    let play = format!(
        "{asciinema} play -s 100 -i 0.1 {}",
        directory.path().join("3.cast").display()
    );
    let mut program = Command::new("script");
    program.env("HOME", directory.path()).env("TERM", "xterm");
    program.args(["--quiet", "--return", "--command", &play, "/dev/null"]);
    let played = said(&program.timeout(Duration::from_secs(60)).assert().success());
    assert!(played.contains("$ ls\r\na.txt\r\n$ exit"), "{played:?}");
}

#[tokio::test]
async fn a_transcript_can_be_searched_and_what_is_not_genuine_is_not_exported() {
    let directory = tempfile::tempdir().unwrap();
    let session = ended(options(directory.path(), "g"), 1).await.remove(0);
    let export = |more: &[&str]| {
        let mut program = doctor("export", &session.records());
        program.args(["--format", "text"]).args(more);
        program
    };
    let text = said(&export(&[]).assert().code(0));
    assert!(
        text.lines().any(|line| line.ends_with("Z  a.txt")) && text.contains("$ ls"),
        "{text}"
    );

    let records = fs::read_to_string(session.records()).unwrap();
    let cut: String = records.split_inclusive('\n').take(5).collect();
    fs::write(session.records(), cut).unwrap();
    let refused = export(&[]).assert().code(1);
    let error = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(
        error.contains("records 6 to 6 are missing") && error.contains("--unverified"),
        "{error}"
    );
    assert!(said(&export(&["--unverified"]).assert().code(0)).contains("a.txt"));
}

#[tokio::test]
async fn metadata_has_nothing_to_show() {
    let directory = tempfile::tempdir().unwrap();
    let metadata = Options {
        mode: Mode::Metadata,
        ..options(directory.path(), "g")
    };
    let session = ended(metadata, 1).await.remove(0);
    let refused = doctor("export", &session.records())
        .args(["--format", "asciicast"])
        .assert()
        .code(1);
    let error = String::from_utf8_lossy(&refused.get_output().stderr).into_owned();
    assert!(error.contains("mode `metadata`"), "{error}");
}
