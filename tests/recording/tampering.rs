//! Someone who can write to the directory changes what is in it, and is found out.

use crate::harness::{begin, converse, ended, keys, options, problems, recorder, say, trusted, verdict};
use devplane::config::recording::{Input, Mode};
use devplane::recording::chain::{Chain, Direction, Record};
use devplane::recording::layout::{Files, ledger};
use devplane::recording::manifest::{Checkpoint, Manifest};
use devplane::recording::seal::TrustedKeys;
use devplane::recording::{Options, verify};
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

#[tokio::test]
async fn what_was_written_verifies_in_every_mode() {
    for (mode, input, compress) in [
        (Mode::Full, Input::All, false),
        (Mode::Full, Input::Lengths, true),
        (Mode::Metadata, Input::All, false),
        (Mode::Metadata, Input::Lengths, false),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let options = Options {
            mode,
            input,
            compress,
            ..options(directory.path(), "g")
        };
        let sessions = ended(options, 2).await;
        if compress {
            let mut tries = 0..100;
            while sessions.iter().any(|files| files.records().exists()) {
                assert!(tries.next().is_some(), "not compressed");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let verdict = verdict(directory.path());
        assert!(verdict.is_sound(), "{mode:?}: {}", problems(&verdict));
        for entry in directory.path().read_dir().unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o137, 0, "others can't read it");
        }
        for session in &verdict.sessions {
            assert_eq!((session.records, session.sealed), (6, 6));
            assert_eq!(session.notes, Vec::<String>::new());
        }
        let text = fs::read_to_string(sessions[0].records()).unwrap_or_default();
        assert_eq!(text.contains("payloadBase64"), mode == Mode::Full && !compress);
    }
}

/// Without a key there is no one to hold it to, and that is said.
#[tokio::test]
async fn what_is_not_signed_is_no_evidence() {
    let directory = tempfile::tempdir().unwrap();
    let unsigned = Options {
        key: None,
        ..options(directory.path(), "g")
    };
    ended(unsigned, 1).await;
    let alone = verify::directory(directory.path(), &TrustedKeys::default()).unwrap();
    assert!(alone.is_sound());
    assert!(alone.sessions[0].notes[0].contains("nothing is signed"));
    let held = verdict(directory.path());
    assert!(problems(&held).contains("it is not signed"));
}

#[tokio::test]
async fn any_byte_that_is_another_one_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let recorder = recorder(options(directory.path(), "g"));
    let recording = begin(&recorder, 1).await.unwrap();
    let session = Files::new(directory.path(), &recording.id);
    for payload in [&b"0$ "[..], b"0l", b"0s", b"0\r\n", b"0$ "] {
        say(&recording, Direction::BackendToClient, payload);
    }
    recording.close("client_closed").await;
    recorder.finish(Duration::from_secs(10)).await;
    let (ledger, trusted) = (ledger(directory.path(), "g"), trusted());
    let files = [session.records(), session.manifest(), session.checkpoints()];
    for path in files.into_iter().chain([ledger.clone()]) {
        let original = fs::read(&path).unwrap();
        for index in 0..original.len() {
            let mut changed = original.clone();
            changed[index] ^= 1;
            fs::write(&path, &changed).unwrap();
            let is_ledger = path == ledger;
            // What a session is, it says itself; a ledger speaks of all.
            let (is_sound, is_torn) = if is_ledger {
                (verdict(directory.path()).is_sound(), true)
            } else {
                let report = verify::session(&session, &trusted);
                let is_torn = report.notes.iter().any(|note| note.contains("torn off"));
                (report.problems.is_empty(), is_torn)
            };
            // A line without its end is what a killed gateway leaves, but nothing else.
            let is_end = index + 1 == original.len() && is_torn;
            assert!(!is_sound || is_end, "{} byte {index}", path.display());
        }
        fs::write(&path, original).unwrap();
    }
    assert!(verdict(directory.path()).is_sound());
}

#[tokio::test]
async fn the_record_that_is_wrong_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let session = ended(options(directory.path(), "g"), 1).await.remove(0);
    let text = fs::read_to_string(session.records()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let write = |lines: &[&str]| fs::write(session.records(), lines.join("\n") + "\n").unwrap();
    let said = || problems(&verdict(directory.path()));

    write(&[&lines[..2], &lines[3..]].concat());
    assert!(said().contains("record 3 has the number 4"), "{}", said());
    write(&[lines[0], lines[2], lines[1], lines[3], lines[4], lines[5]]);
    assert!(said().contains("record 2 has the number 3"), "{}", said());
    let payload = lines[2].replace("MGxzDQ==", "MGxzDA==");
    assert_ne!(payload, lines[2]);
    write(&[lines[0], lines[1], &payload, lines[3], lines[4], lines[5]]);
    assert!(said().contains("record 3 was changed: its payload"), "{}", said());
    write(&[&lines[..], &lines[5..]].concat());
    assert!(said().contains("record 7 has the number 6"), "{}", said());
    write(&lines[..5]);
    assert!(said().contains("records 6 to 6 are missing"), "{}", said());
}

/// Whoever knows how hashes are made can make a chain that holds, but not its signatures.
#[tokio::test]
async fn a_chain_made_anew_is_not_that_of_the_checkpoint() {
    let directory = tempfile::tempdir().unwrap();
    let session = ended(options(directory.path(), "g"), 1).await.remove(0);
    let text = fs::read_to_string(session.records()).unwrap();
    let mut head = String::new();
    let forged: String = text
        .lines()
        .map(|line| {
            let mut record: Record = serde_json::from_str(line).unwrap();
            if record.seq == 3 {
                record.timestamp_utc = "2020-01-01T00:00:00.000000Z".to_owned();
            }
            record.prev_hash = head.clone();
            record.entry_hash = record.computed_hash();
            head = record.entry_hash.clone();
            record.line() + "\n"
        })
        .collect();
    fs::write(session.records(), forged).unwrap();
    let said = problems(&verdict(directory.path()));
    assert!(
        said.contains("records 1 to 4 are not those of the checkpoint"),
        "{said}"
    );

    // The manifest made anew as well: its signature is missing, or is another text's.
    let manifest: Manifest = serde_json::from_slice(&fs::read(session.manifest()).unwrap()).unwrap();
    let mut forged = manifest.clone();
    forged.close(
        &Chain::default(),
        "2026-01-01T00:00:00.000000Z".to_owned(),
        "client_closed",
    );
    for seal in [manifest.seal.clone(), Default::default()] {
        forged.seal = seal;
        fs::write(session.manifest(), forged.text()).unwrap();
        let said = problems(&verdict(directory.path()));
        assert!(said.contains("the manifest is not genuine"), "{said}");
    }
}

#[tokio::test]
async fn a_missing_session_or_ledger_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let first = ended(options(path, "g1"), 2).await;
    let second = ended(options(path, "g2"), 1).await;
    assert!(verdict(path).is_sound());

    let kept: Vec<_> = first[0].all().into_iter().filter(|path| path.exists()).collect();
    let kept: Vec<_> = kept.into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    for (_, path) in &kept {
        fs::remove_file(path).unwrap();
    }
    let said = problems(&verdict(path));
    assert!(
        said.contains(&format!("the session {} is missing", first[0].id)),
        "{said}"
    );
    for (bytes, path) in &kept {
        fs::write(path, bytes).unwrap();
    }

    // The whole of a gateway: a later one has seen it.
    let ledger_path = ledger(path, "g1");
    let whole = fs::read(&ledger_path).unwrap();
    fs::remove_file(&ledger_path).unwrap();
    let said = problems(&verdict(path));
    assert!(
        said.contains("the ledger of g1 is missing or was cut: that of g2"),
        "{said}"
    );
    let cut = whole
        .split_inclusive(|byte| *byte == b'\n')
        .take(3)
        .collect::<Vec<_>>()
        .concat();
    fs::write(&ledger_path, cut).unwrap();
    let said = problems(&verdict(path));
    assert!(said.contains("was cut"), "{said}");
    fs::write(&ledger_path, whole).unwrap();

    // A session of one gateway under the name of another.
    fs::copy(first[0].records(), second[0].records()).unwrap();
    assert!(!verdict(path).is_sound());
}

/// The end is cut off, and the manifest of the beginning put back: the ledger has the other one.
#[tokio::test]
async fn a_session_can_t_be_made_to_look_as_if_it_had_never_ended() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let recorder = recorder(options(path, "g"));
    let recording = begin(&recorder, 1).await.unwrap();
    let session = Files::new(path, &recording.id);
    let opened = fs::read(session.manifest()).unwrap();
    converse(&recording);
    recording.close("client_closed").await;
    recorder.finish(Duration::from_secs(10)).await;
    let text = fs::read_to_string(session.records()).unwrap();
    let four: String = text.split_inclusive('\n').take(4).collect();
    fs::write(session.records(), four).unwrap();
    fs::write(session.manifest(), opened).unwrap();
    let alone = verify::session(&session, &trusted());
    assert_eq!(alone.problems, Vec::<String>::new());
    assert!(alone.notes[0].contains("the session has no end"), "{:?}", alone.notes);
    let said = problems(&verdict(path));
    assert!(said.contains("not the one with which the session ended"), "{said}");
}

/// Of a session whose gateway was killed, records are cut together with the checkpoints that speak of them: the ledger has heard of these.
#[tokio::test]
async fn the_end_of_a_session_that_has_none_can_t_be_cut_unseen() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let recorder = recorder(Options {
        checkpoint_records: 2,
        checkpoint_every: Duration::from_millis(100),
        ..options(path, "g")
    });
    let recording = begin(&recorder, 1).await.unwrap();
    let session = Files::new(path, &recording.id);
    let ledger = ledger(path, "g");
    let mut tries = 0..200;
    for said in 1..=3 {
        converse(&recording);
        let told = format!(r#""{}":{}"#, session.id, said * 6);
        while !fs::read_to_string(&ledger).unwrap().contains(&told) {
            assert!(tries.next().is_some(), "the ledger does not tell of it");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    std::mem::forget((recording, recorder));
    assert!(verdict(path).is_sound(), "{}", problems(&verdict(path)));
    let lines = |path, count| -> String {
        let text = fs::read_to_string(path).unwrap();
        text.split_inclusive('\n').take(count).collect()
    };
    let first: Checkpoint = serde_json::from_str(&lines(session.checkpoints(), 1)).unwrap();
    fs::write(session.checkpoints(), lines(session.checkpoints(), 1)).unwrap();
    fs::write(session.records(), lines(session.records(), first.frame_count as usize)).unwrap();
    assert_eq!(verify::session(&session, &trusted()).problems, Vec::<String>::new());
    let said = problems(&verdict(path));
    let missing = format!(
        "records {} to 18 are missing with their checkpoints",
        first.frame_count + 1
    );
    assert!(said.contains(&missing), "{said}");
}

#[tokio::test]
async fn what_is_removed_by_age_is_not_missing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let old = ended(options(path, "g1"), 3).await;
    let keeping = Options {
        max_bytes: Some(1),
        ..options(path, "g2")
    };
    let recorder = recorder(keeping);
    let mut tries = 0..100;
    while old.iter().any(|files| files.manifest().exists()) {
        assert!(tries.next().is_some(), "nothing is removed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    recorder.finish(Duration::from_secs(10)).await;
    let verdict = verdict(path);
    assert!(
        verdict.is_sound() && verdict.sessions.is_empty(),
        "{}",
        problems(&verdict)
    );
}

/// A user who types nothing for days still has an open session: only one whose gateway is gone too is removed.
#[tokio::test]
async fn a_quiet_session_is_kept_and_one_without_gateway_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let first = recorder(options(path, "g1"));
    let quiet = begin(&first, 1).await.unwrap();
    let session = Files::new(path, &quiet.id);
    let long_ago = |path: &std::path::Path| {
        let file = fs::File::options().append(true).open(path).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
    };
    let files = session.all().into_iter().filter(|path| path.exists());
    files.for_each(|path| long_ago(&path));
    let sweep = async |gateway: &str| {
        // Looks once when it starts, and has looked when an ended session of its own is gone.
        let marker = ended(options(path, &format!("{gateway}-before")), 1).await.remove(0);
        let keeping = Options {
            keep_for: Some(Duration::from_millis(1)),
            ..options(path, gateway)
        };
        let recorder = recorder(keeping);
        let mut tries = 0..100;
        while marker.manifest().exists() {
            assert!(tries.next().is_some(), "nothing is removed");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        recorder.finish(Duration::from_secs(10)).await;
    };
    sweep("g2").await;
    assert!(session.records().exists());
    long_ago(&ledger(path, "g1"));
    sweep("g3").await;
    assert!(!session.manifest().exists());
    std::mem::forget((quiet, first));
    let verdict = verdict(path);
    assert!(verdict.is_sound(), "{}", problems(&verdict));
}

/// What is no file of its own is told of by its name: nobody waits for what never comes, and nothing without an end is read.
#[tokio::test]
async fn planted_pipes_links_and_floods_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let sessions = ended(options(directory.path(), "g"), 4).await;
    let instead = |path: &std::path::Path, plant: &dyn Fn(&std::path::Path)| {
        fs::remove_file(path).unwrap();
        plant(path);
    };
    let pipe = |path: &std::path::Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    };
    let endless = |path: &std::path::Path| std::os::unix::fs::symlink("/dev/zero", path).unwrap();
    let hole = |path: &std::path::Path| fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
    instead(&sessions[0].records(), &pipe);
    instead(&sessions[1].manifest(), &endless);
    instead(&sessions[2].checkpoints(), &pipe);
    instead(&sessions[3].manifest(), &hole);
    pipe(&ledger(directory.path(), "planted"));
    let path = directory.path().to_owned();
    let looked = tokio::task::spawn_blocking(move || problems(&verdict(&path)));
    let said = tokio::time::timeout(Duration::from_secs(60), looked)
        .await
        .unwrap()
        .unwrap();
    for named in [
        format!("{} is no regular file", sessions[0].records().display()),
        format!("{} is no regular file", sessions[1].manifest().display()),
        format!("{} is no regular file", sessions[2].checkpoints().display()),
        format!("{} is larger than", sessions[3].manifest().display()),
        format!("{} is no regular file", ledger(directory.path(), "planted").display()),
    ] {
        assert!(said.contains(&named), "{named}\n{said}");
    }
}

/// A key that was changed: whoever verifies trusts the old and the new one.
#[tokio::test]
async fn another_key_is_not_trusted() {
    let directory = tempfile::tempdir().unwrap();
    ended(options(directory.path(), "g"), 1).await;
    let other = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let file = directory.path().join("other.pem");
    fs::write(&file, other.public_key_pem()).unwrap();
    let mut keys_of_others = TrustedKeys::default();
    keys_of_others.add(&file).unwrap();
    let held = verify::directory(directory.path(), &keys_of_others).unwrap();
    assert!(problems(&held).contains("which is not one of those given"));
    keys_of_others.add(&keys().1).unwrap();
    assert!(verify::directory(directory.path(), &keys_of_others).unwrap().is_sound());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn bytes_that_are_put_in_or_left_out_are_found(at in 0.0..1.0f64, bytes in proptest::collection::vec(any::<u8>(), 0..4), left_out in 0usize..4) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let session = runtime.block_on(ended(options(directory.path(), "g"), 1)).remove(0);
        let original = fs::read(session.records()).unwrap();
        let at = (at * original.len() as f64) as usize;
        let end = (at + left_out).min(original.len());
        let changed = [&original[..at], &bytes, &original[end..]].concat();
        prop_assume!(changed != original);
        fs::write(session.records(), changed).unwrap();
        prop_assert!(!verdict(directory.path()).is_sound());
    }
}
