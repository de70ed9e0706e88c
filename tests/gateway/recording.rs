//! Sessions that are recorded: every message of a real terminal is on disk, signed, and what can't be recorded does not go on.

use crate::browser::Browser;
use crate::eventually::eventually;
use crate::harness::{Gateway, Site, ttyd};
use devplane::recording::layout::{Contents, Files, ledger};
use devplane::recording::seal::TrustedKeys;
use devplane::recording::verify;
use std::fs;
use std::path::Path;

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
    let site = Site::new("recorded").await;
    let (directory, keys) = (tempfile::tempdir().unwrap(), keys());
    let settings = [
        ("SESSION_RECORDING_MODE", "full"),
        ("SESSION_RECORDING_INPUT", "lengths"),
        ("SESSION_RECORDING_KEY_FILE", &keys.private),
    ];
    let mut gateway = recording_gateway(&site, directory.path(), &settings).await;
    let origin = site.origin();
    let _ttyd = ttyd("127.0.7.21");
    site.create_running("dev1", "127.0.7.21").await;
    let browser = Browser::default();
    browser.sign_in(&origin, "dev1").await;
    let page = browser.page(&origin).await.body;
    assert!(page.contains("<title>● Recorded · DevPlane</title>"), "{page}");
    assert!(page.contains(r#"class="recorded""#), "{page}");

    let mut terminal = browser.own_shell(&origin).await;
    terminal.type_keys("read -rs secret\r").await;
    terminal.until("secret\r\n").await;
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
    let site = Site::new("unrecorded").await;
    let _ttyd = ttyd("127.0.7.22");
    site.create_running("dev1", "127.0.7.22").await;
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
        let failed = gateway.audited("recording.failed");
        assert_eq!(
            (failed[0]["reason"].as_str(), failed[0]["outcome"].as_str()),
            (Some("open_failed"), Some("failure"))
        );
        assert_eq!(failed[0]["workspace"], site.name("dev1"));
        let metrics = browser.get(&format!("{origin}/metrics")).await.unwrap().body;
        let counted = r#"devplane_gateway_recording_failures_total{reason="open_failed"} 1"#;
        assert!(metrics.contains(counted), "{metrics}");
    }
}

/// A disk that is full in the middle of a session, in a mount namespace that the gateway has for itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_ends_the_session() {
    let site = Site::new("diskfull").await;
    let _ttyd = ttyd("127.0.7.23");
    site.create_running("dev1", "127.0.7.23").await;
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
