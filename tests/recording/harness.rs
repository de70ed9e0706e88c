//! A directory becomes one with recordings in it, made by the real recorder.

use devplane::clock::{Clock, SystemClock};
use devplane::config::recording::{Input, Mode, Sync};
use devplane::recording::chain::{Direction, MessageType};
use devplane::recording::layout::Files;
use devplane::recording::seal::{SigningKey, TrustedKeys};
use devplane::recording::verify::{self, Verdict};
use devplane::recording::{About, Failure, Options, Part, Recorder, Recording};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// A key pair as files, made once.
pub fn keys() -> &'static (PathBuf, PathBuf) {
    static KEYS: OnceLock<(tempfile::TempDir, (PathBuf, PathBuf))> = OnceLock::new();
    let (_, paths) = KEYS.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let paths = (directory.path().join("key.pem"), directory.path().join("public.pem"));
        std::fs::write(&paths.0, key.serialize_pem()).unwrap();
        std::fs::write(&paths.1, key.public_key_pem()).unwrap();
        (directory, paths)
    });
    paths
}

pub fn trusted() -> TrustedKeys {
    let mut trusted = TrustedKeys::default();
    trusted.add(&keys().1).unwrap();
    trusted
}

pub fn options(directory: &Path, gateway: &str) -> Options {
    Options {
        directory: directory.to_owned(),
        gateway: gateway.to_owned(),
        mode: Mode::Full,
        input: Input::All,
        sync: Sync::Checkpoint,
        checkpoint_records: 4,
        checkpoint_every: Duration::from_secs(3600),
        key: Some(SigningKey::read(&keys().0).unwrap()),
        compress: false,
        keep_for: None,
        max_bytes: None,
        queue_bytes: 32 << 20,
        is_strict: false,
    }
}

pub fn recorder(options: Options) -> Recorder {
    Recorder::start(options, Arc::new(SystemClock), Arc::new(|_, _| ())).unwrap()
}

pub async fn begin(recorder: &Recorder, random: u64) -> Result<Recording, Failure> {
    begin_as(recorder, random, "alice").await
}

pub async fn begin_as(recorder: &Recorder, random: u64, user: &str) -> Result<Recording, Failure> {
    let about = About {
        request_id: "request-1",
        issuer: "https://idp.test",
        subject: user,
        user_id: user,
        namespace: "workspaces",
        workspace: user,
    };
    recorder.begin(about, SystemClock.now(), random, [7; 32]).await
}

/// Whether it may pass.
pub fn say(recording: &Recording, direction: Direction, payload: &[u8]) -> bool {
    let part = Part {
        begins: Some(MessageType::Binary),
        payload,
        ahead: 0,
        is_last: true,
    };
    recording.tap(direction).frame(part, || SystemClock.now())
}

/// A short conversation: six records.
pub fn converse(recording: &Recording) {
    use Direction::{BackendToClient as Out, ClientToBackend as In};
    say(recording, In, br#"{"AuthToken":"","columns":100,"rows":30}"#);
    say(recording, Out, b"0$ ");
    say(recording, In, b"0ls\r");
    say(recording, Out, b"0ls\r\na.txt\r\n$ ");
    say(recording, In, b"0exit\r");
    say(recording, Out, b"0exit\r\n");
}

/// Sessions that have ended, of a gateway that has stopped; their files.
pub async fn ended(options: Options, sessions: u64) -> Vec<Files> {
    let directory = options.directory.clone();
    let recorder = recorder(options);
    let mut all = vec![];
    for _ in 0..sessions {
        let recording = begin(&recorder, rand::random()).await.unwrap();
        converse(&recording);
        all.push(Files::new(&directory, &recording.id));
        recording.close("client_closed").await;
    }
    recorder.finish(Duration::from_secs(10)).await;
    all
}

pub fn verdict(directory: &Path) -> Verdict {
    verify::directory(directory, &trusted()).unwrap()
}

/// Waits for something that a disk takes its time for.
pub async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let ends = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < ends, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whole lines of a file.
pub fn lines(path: &Path) -> usize {
    std::fs::read(path).map_or(0, |bytes| bytes.iter().filter(|byte| **byte == b'\n').count())
}

/// Everything that is wrong, in one text.
pub fn problems(verdict: &Verdict) -> String {
    let sessions = verdict.sessions.iter().flat_map(|session| &session.problems);
    let all: Vec<&str> = verdict.problems.iter().chain(sessions).map(String::as_str).collect();
    all.join("\n")
}
