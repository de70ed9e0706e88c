//! Several gateways and one directory: they record, compress and remove at once.

use crate::harness::{begin, converse, eventually, options, problems, recorder, verdict};
use devplane::recording::layout::Files;
use devplane::recording::{Options, Recorder};
use std::time::{Duration, Instant};

/// Sessions that begin and end, one of them always open, until it is time.
async fn record(recorder: &Recorder, until: Instant) {
    let open = begin(recorder, rand::random()).await.unwrap();
    while Instant::now() < until {
        let recording = begin(recorder, rand::random()).await.unwrap();
        converse(&open);
        converse(&recording);
        assert!(recording.close("client_closed").await.0.is_some());
    }
    assert!(open.close("client_closed").await.0.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_compress_and_remove_in_one_directory_spoil_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let limited = |gateway: &str| Options {
        compress: true,
        max_bytes: Some(20 << 10),
        ..options(directory.path(), gateway)
    };
    let [first, second] = ["g1", "g2"].map(|gateway| recorder(limited(gateway)));
    // Long enough for both to remove what the other one has made.
    let until = Instant::now() + Duration::from_secs(12);
    tokio::join!(record(&first, until), record(&second, until));
    let names = || -> Vec<String> {
        let entries = directory.path().read_dir().unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    };
    let is_packed = || {
        names()
            .iter()
            .filter_map(|name| name.strip_suffix(".manifest.json"))
            .all(|id| {
                let files = Files::new(directory.path(), id);
                files.compressed().exists() && !files.records().exists()
            })
    };
    eventually("not compressed", is_packed).await;
    first.finish(Duration::from_secs(10)).await;
    second.finish(Duration::from_secs(10)).await;
    drop((first, second));
    let verdict = verdict(directory.path());
    assert!(verdict.is_sound(), "{}", problems(&verdict));
    assert!(
        verdict
            .notes
            .iter()
            .any(|note| note.contains("removed because there were too many")),
        "{verdict:?}"
    );
    // Nothing is left of a session but all of it.
    for name in names().iter().filter(|name| name.ends_with(".zst")) {
        let id = name.strip_suffix(".ndjson.zst").unwrap();
        assert!(Files::new(directory.path(), id).manifest().exists(), "{name} is left");
    }
}
