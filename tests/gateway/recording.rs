//! Sessions that are recorded: every message of a real terminal is on disk, signed, and what can't be recorded does not go on.

use crate::browser::{Browser, Terminal};
use crate::eventually::eventually;
use crate::harness::{Gateway, Site, address, ttyd};
use devplane::recording::layout::{Contents, Files, ledger};
use devplane::recording::seal::TrustedKeys;
use devplane::recording::verify;
use fastwebsockets::OpCode;
use serde_json::json;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::time::timeout;

struct Keys {
    _directory: tempfile::TempDir,
    private: String,
    trusted: TrustedKeys,
}

fn keys() -> Keys {
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let (private, public) = (directory.path().join("key.pem"), directory.path().join("public.pem"));
    fs::write(&private, key.serialize_pem()).unwrap();
    fs::write(&public, key.public_key_pem()).unwrap();
    let mut trusted = TrustedKeys::default();
    trusted.add(&public).unwrap();
    Keys {
        private: private.to_str().unwrap().to_owned(),
        _directory: directory,
        trusted,
    }
}

async fn recording_gateway(site: &Site, directory: &Path, more: &[(&str, &str)]) -> Gateway {
    let settings = [
        ("SESSION_RECORDING_ENABLED", "true"),
        ("SESSION_RECORDING_DIR", directory.to_str().unwrap()),
    ];
    site.gateway(&[&settings, more].concat()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_on_disk_and_the_user_is_told() {
    let place = address();
    let site = Site::new("recorded").await;
    let (directory, keys) = (tempfile::tempdir().unwrap(), keys());
    let settings = [
        ("SESSION_RECORDING_MODE", "full"),
        ("SESSION_RECORDING_INPUT", "lengths"),
        ("SESSION_RECORDING_KEY_FILE", &keys.private),
    ];
    let mut gateway = recording_gateway(&site, directory.path(), &settings).await;
    let origin = site.origin();
    let _ttyd = ttyd(place);
    site.create_running("dev1", place).await;
    let browser = Browser::default();
    browser.sign_in(&origin, "dev1").await;
    let page = browser.page(&origin).await.body;
    assert!(page.contains("<title>● Recorded · DevPlane</title>"), "{page}");
    assert!(page.contains(r#"class="recorded""#), "{page}");

    let mut terminal = browser.own_shell(&origin).await;
    assert_eq!(terminal.recorded, json!({"bar": true, "title": true, "container": ""}));
    // What is typed while the shell changes how keys are read may be lost: the word comes when nothing is echoed any more.
    terminal
        .type_keys("stty -echo; echo re$((1))dy; read -r secret; stty echo\r")
        .await;
    terminal.until("re1dy").await;
    // The next prompt is to come.
    terminal.screen.clear();
    terminal.type_keys("planted-password\r").await;
    terminal.until("$ ").await;
    terminal.type_keys("echo $((6*7))\r").await;
    terminal.until("\r42\r").await;
    drop(terminal);
    assert!(eventually(async || gateway.audited("ws.session.end").len() == 1).await);
    gateway.terminate();
    assert_eq!(gateway.exit_code(), Some(0), "{}", gateway.log());

    let verdict = verify::directory(directory.path(), &keys.trusted).unwrap();
    assert!(verdict.is_sound(), "{verdict:?}");
    let [session] = &verdict.sessions[..] else {
        panic!("{verdict:?}")
    };
    let manifest = session.manifest.as_ref().unwrap();
    assert_eq!(session.sealed, manifest.frame_count);
    assert_eq!(manifest.close_reason.as_deref(), Some("client_lost"));
    assert_eq!(
        (manifest.meta.subject.as_str(), &manifest.meta.issuer),
        ("dev1", &site.issuer)
    );
    // A request id joins it to the audit lines.
    let started = &gateway.audited("ws.session.start")[0];
    assert_eq!(started["devplane.request_id"], manifest.meta.request_id.as_str());
    assert_eq!(started["recording"], session.id.as_str());
    // And the end in the audit log holds the recording to what it was.
    let ended = &gateway.audited("ws.session.end")[0];
    assert_eq!(
        (&ended["recording"], &ended["recordingFinalHash"], &ended["reason"]),
        (
            &session.id.as_str().into(),
            &manifest.final_hash.as_str().into(),
            &"client_lost".into()
        )
    );
    let loaded = &gateway.audited("config.loaded")[0];
    assert_eq!(loaded["configHash"].as_str().unwrap().len(), 64);

    let export = assert_cmd::Command::new(env!("CARGO_BIN_EXE_devplane"))
        .args(["doctor", "recording", "export", "--format", "text"])
        .arg(Files::new(directory.path(), &session.id).manifest())
        .assert()
        .success();
    let transcript = String::from_utf8_lossy(&export.get_output().stdout).into_owned();
    assert!(
        transcript.contains("$ echo $((6*7))") && transcript.contains("Z  42"),
        "{transcript}"
    );
    // The password is in none of the files, however they are written.
    for entry in directory.path().read_dir().unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        let bytes = if path.extension().is_some_and(|extension| extension == "zst") {
            zstd::decode_all(&bytes[..]).unwrap()
        } else {
            bytes
        };
        let text = String::from_utf8_lossy(&bytes);
        for hidden in ["planted-password", "cGxhbnRlZC1wYXNzd29yZ"] {
            assert!(!text.contains(hidden), "{}", path.display());
        }
    }
}

/// The directory is taken away under the running gateway: nothing new can be recorded in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_can_t_be_recorded_does_not_begin_unless_it_may() {
    let place = address();
    let site = Site::new("unrecorded").await;
    let _ttyd = ttyd(place);
    site.create_running("dev1", place).await;
    let origin = site.origin();
    for (on_failure, is_let_in) in [("closed", false), ("open", true)] {
        let directory = tempfile::tempdir().unwrap();
        let recordings = directory.path().join("recordings");
        let gateway = recording_gateway(&site, &recordings, &[("SESSION_RECORDING_ON_FAILURE", on_failure)]).await;
        let browser = Browser::default();
        browser.sign_in(&origin, "dev1").await;
        fs::remove_dir_all(&recordings).unwrap();
        let opened = browser.terminal(&origin, &[("origin", &origin)]).await;
        match opened {
            Ok(_) => assert!(is_let_in),
            Err(answer) => {
                assert!(!is_let_in);
                assert_eq!(
                    (answer.status, answer.json()["error"].as_str()),
                    (503, Some("not_recorded"))
                );
            }
        }
        // A page is told by a close code, or that it is not recorded.
        let told = browser.own_terminal(&origin, &origin).await;
        match told.refused {
            Some((code, _)) => assert!(!is_let_in && code == 4503),
            None => assert_eq!(
                (is_let_in, told.recorded),
                (true, json!({"bar": false, "title": false, "container": ""}))
            ),
        }
        let failed = gateway.audited("recording.failed");
        assert_eq!(
            (failed[0]["reason"].as_str(), failed[0]["outcome"].as_str()),
            (Some("open_failed"), Some("failure"))
        );
        assert_eq!(failed[0]["workspace"], site.name("dev1"));
        let metrics = browser.get(&format!("{origin}/metrics")).await.unwrap().body;
        let counted = r#"devplane_gateway_recording_failures_total{reason="open_failed"} 2"#;
        assert!(metrics.contains(counted), "{metrics}");
    }
}

/// A disk that is full in the middle of a session, in a mount namespace that the gateway has for itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_session() {
    let place = address();
    let site = Site::new("diskfull").await;
    let _ttyd = ttyd(place);
    site.create_running("dev1", place).await;
    let origin = site.origin();
    let (directory, keys) = (tempfile::tempdir().unwrap(), keys());
    let settings = [
        ("SESSION_RECORDING_MODE", "full"),
        ("SESSION_RECORDING_KEY_FILE", keys.private.as_str()),
        ("SESSION_RECORDING_FSYNC", "never"),
    ];
    let enabled = [
        ("SESSION_RECORDING_ENABLED", "true"),
        ("SESSION_RECORDING_DIR", directory.path().to_str().unwrap()),
    ];
    let gateway = site
        .gateway_with_small_disk(directory.path(), &[&enabled[..], &settings].concat())
        .await;
    // The directory as the gateway sees it.
    let root = format!("/proc/{}/root", gateway.pid());
    let recordings = Path::new(&root).join(directory.path().strip_prefix("/").unwrap());
    let browser = Browser::default();
    browser.sign_in(&origin, "dev1").await;
    let mut terminal = browser.own_shell(&origin).await;
    terminal.type_keys("seq 100000\r").await;
    assert_eq!(terminal.closed().await, 4503);
    assert!(eventually(async || gateway.audited("ws.session.end").len() == 1).await);
    assert_eq!(gateway.audited("ws.session.end")[0]["reason"], "not_recorded");
    assert_eq!(gateway.audited("recording.failed")[0]["reason"], "write_failed");
    let contents = Contents::of(&recordings).unwrap();
    assert_eq!((contents.sessions.len(), contents.gateways.len()), (1, 1));
    let ledger = ledger(&recordings, contents.gateways.first().unwrap());
    // The disk is full: the end of the session may not fit on it any more, but what is there verifies.
    assert!(
        fs::read_to_string(&ledger)
            .unwrap()
            .contains(contents.sessions.first().unwrap())
    );
    let verdict = verify::directory(&recordings, &keys.trusted).unwrap();
    assert!(verdict.is_sound(), "{verdict:?}");
    let session = &verdict.sessions[0];
    assert!(session.records > 2, "{session:?}");
}

/// Longer than a disk may take nothing, and than the end of a recording is waited for.
const BOUND: Duration = Duration::from_secs(25);

/// A site whose gateway records all to a disk that can be frozen, and a terminal of it.
struct Freezable {
    site: Site,
    gateway: Gateway,
    terminal: Terminal,
    directory: tempfile::TempDir,
    keys: Keys,
    _ttyd: crate::harness::Process,
}

async fn freezable(namespace: &str, address: &str, on_failure: &str) -> Freezable {
    let site = Site::new(namespace).await;
    let ttyd = ttyd(address);
    site.create_running("dev1", address).await;
    let (directory, keys) = (tempfile::tempdir().unwrap(), keys());
    let settings = [
        ("SESSION_RECORDING_ENABLED", "true"),
        ("SESSION_RECORDING_DIR", directory.path().to_str().unwrap()),
        ("SESSION_RECORDING_MODE", "full"),
        ("SESSION_RECORDING_KEY_FILE", keys.private.as_str()),
        ("SESSION_RECORDING_ON_FAILURE", on_failure),
    ];
    let gateway = site.gateway_with_freezable_disk(directory.path(), &settings).await;
    let browser = Browser::default();
    browser.sign_in(&site.origin(), "dev1").await;
    let terminal = browser.own_shell(&site.origin()).await;
    Freezable {
        site,
        gateway,
        terminal,
        directory,
        keys,
        _ttyd: ttyd,
    }
}

/// Reads until a frame shows `text` near its end, or the terminal is closed: then the code. Gives how much was shown.
async fn flood(terminal: &mut Terminal, text: &str) -> (usize, Option<u16>) {
    let mut bytes = 0;
    loop {
        let frame = timeout(Duration::from_secs(60), terminal.socket.read_frame()).await;
        let frame = frame.unwrap().unwrap();
        bytes += frame.payload.len();
        match frame.opcode {
            OpCode::Close => return (bytes, Some(u16::from_be_bytes([frame.payload[0], frame.payload[1]]))),
            _ if String::from_utf8_lossy(&frame.payload[frame.payload.len().saturating_sub(64)..]).contains(text) => {
                return (bytes, None);
            }
            _ => {}
        }
    }
}

fn resident_kib(gateway: &Gateway) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// The sessions of a directory, and how large their records are.
fn records(directory: &Path) -> Vec<(Files, u64)> {
    let sessions = Contents::of(directory).unwrap().sessions;
    let files = sessions.iter().map(|id| Files::new(directory, id));
    files
        .map(|files| {
            (
                files.clone(),
                fs::metadata(files.records()).map_or(0, |file| file.len()),
            )
        })
        .collect()
}

/// SIGKILL while two terminals are written: what is on disk verifies, with its signatures.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_gateway_that_is_killed_leaves_verifies_with_its_signatures() {
    let place = address();
    let site = Site::new("killed").await;
    let (directory, keys) = (tempfile::tempdir().unwrap(), keys());
    let settings = [
        ("SESSION_RECORDING_MODE", "full"),
        ("SESSION_RECORDING_CHECKPOINT_RECORDS", "20"),
        ("SESSION_RECORDING_KEY_FILE", keys.private.as_str()),
    ];
    let gateway = recording_gateway(&site, directory.path(), &settings).await;
    let _ttyd = ttyd(place);
    site.create_running("dev1", place).await;
    let browser = Browser::default();
    browser.sign_in(&site.origin(), "dev1").await;
    let mut terminals = vec![];
    for _ in 0..2 {
        let mut terminal = browser.own_shell(&site.origin()).await;
        terminal.type_keys("while :; do seq 500; done\r").await;
        terminals.push(tokio::spawn(async move {
            while terminal
                .socket
                .read_frame()
                .await
                .is_ok_and(|frame| frame.opcode != OpCode::Close)
            {}
        }));
    }
    let is_written = || {
        records(directory.path())
            .iter()
            .filter(|(_, bytes)| *bytes > 1 << 18)
            .count()
            == 2
    };
    assert!(eventually(async || is_written()).await);
    let killed = std::process::Command::new("kill")
        .args(["-s", "KILL", &gateway.pid().to_string()])
        .status();
    assert!(killed.unwrap().success());
    for terminal in terminals {
        timeout(Duration::from_secs(30), terminal).await.unwrap().unwrap();
    }
    let verdict = verify::directory(directory.path(), &keys.trusted).unwrap();
    assert!(verdict.is_sound(), "{verdict:?}");
    assert_eq!(verdict.sessions.len(), 2);
    for session in &verdict.sessions {
        assert!(
            !session.is_closed() && session.sealed > 20 && session.records >= session.sealed,
            "{session:?}"
        );
        assert!(
            session.notes.iter().all(|note| !note.contains("not checked")),
            "{session:?}"
        );
    }
}

/// More than the queue takes.
const MUCH: &str = "head -c 48000000 /dev/zero | tr '\\0' x; echo; echo e$((1+1))d\r";

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_nothing_blocks_no_terminal_and_what_is_lost_is_told() {
    let mut it = freezable("frozen-open", address(), "open").await;
    let before = resident_kib(&it.gateway);
    let frozen = it.gateway.freeze(it.directory.path());
    let asked = Instant::now();
    it.terminal.type_keys("echo $((6*7))\r").await;
    it.terminal.until("\r42\r").await;
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    it.terminal.type_keys(MUCH).await;
    let (shown, closed) = flood(&mut it.terminal, "e2d").await;
    assert!(shown > 48_000_000 && closed.is_none(), "{shown} {closed:?}");
    let grown = resident_kib(&it.gateway).saturating_sub(before);
    assert!(grown < 96 << 10, "the queue is bounded: {grown} KiB more");
    let failed = it.gateway.audited("recording.failed");
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(["queue_full", "stalled"].contains(&failed[0]["reason"].as_str().unwrap()));
    let metrics = format!("{}/metrics", it.site.origin());
    let metrics = Browser::default().get(&metrics).await.unwrap().body;
    let counted = format!("reason=\"{}\"}} 1", failed[0]["reason"].as_str().unwrap());
    assert!(metrics.contains(&counted), "{metrics}");

    // The disk is there again, and so is the recording, with what it lacks.
    let root = format!("/proc/{}/root", it.gateway.pid());
    let recordings = Path::new(&root).join(it.directory.path().strip_prefix("/").unwrap());
    let written = || records(&recordings).iter().map(|(_, bytes)| bytes).sum::<u64>();
    let before = written();
    drop(frozen);
    assert!(eventually(async || written() > before).await);
    it.terminal.screen.clear();
    it.terminal.type_keys("echo $((7*7))\r").await;
    it.terminal.until("\r49\r").await;
    drop(it.terminal);
    assert!(eventually(async || it.gateway.audited("ws.session.end").len() == 1).await);
    assert!(it.gateway.audited("ws.session.end")[0]["recordingFinalHash"].is_string());
    let verdict = verify::directory(&recordings, &it.keys.trusted).unwrap();
    assert!(verdict.is_sound(), "{verdict:?}");
    let notes = verdict.sessions[0].notes.join("\n");
    assert!(notes.contains("were not recorded"), "{notes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_must_be_recorded_ends_soon_when_the_disk_takes_nothing() {
    // With much to be recorded, and with hardly anything.
    for (namespace, address, typed) in [("frozen-much", address(), MUCH), ("frozen-little", address(), "# ")] {
        let mut it = freezable(namespace, address, "closed").await;
        let frozen = it.gateway.freeze(it.directory.path());
        let began = Instant::now();
        it.terminal.type_keys(typed).await;
        let (shown, closed) = flood(&mut it.terminal, "e2d").await;
        assert_eq!(closed, Some(4503), "{shown} {:?}", began.elapsed());
        assert!(shown < 40_000_000, "what is not recorded is not shown: {shown}");
        let ended = || it.gateway.audited("ws.session.end").pop();
        assert!(eventually(async || ended().is_some()).await);
        assert!(began.elapsed() < BOUND, "{:?}", began.elapsed());
        let line = ended().unwrap();
        assert_eq!(line["reason"], "not_recorded");
        assert!(line["recording"].is_string() && line.get("recordingFinalHash").is_none());
        assert_eq!(it.gateway.audited("recording.failed").len(), 1);
        drop(frozen);
    }
}
