//! Recordings that have ended become smaller, and in the end none: compression, and removal by age and by size.
//!
//! A session of its own is compressed when it has ended. What a gateway that was killed left is made good by the others, when they look
//! around. What is removed is noted in the ledger first. Recordings of other gateways in the same directory are removed too, once they have ended.

use super::layout::{Contents, Files, UNFINISHED, is_unfinished, ledger, open_plain, unfinished_file};
use super::ledger::Happened;
use super::manifest::Manifest;
use super::queue::{Command, Queue};
use super::recorder::{Options, Tell, Trouble};
use super::said::Said;
use crate::clock::Clock;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_secs(600);
/// A session that has no end has lost its gateway when neither it nor the gateway's ledger was touched for this long. A gateway
/// that is there touches its ledger whenever it looks.
const ABANDONED_AFTER: SignedDuration = SignedDuration::from_hours(24);
/// After a session has ended, when there is a limit of size: sessions that end one after the other cost one look.
const LOOK_AFTER_END: Duration = Duration::from_secs(5);
/// By then its own gateway has compressed it, if that is there.
const PACKED_AFTER: SignedDuration = SignedDuration::from_hours(1);
const LEVEL: i32 = 3;

pub struct Keeper {
    directory: PathBuf,
    gateway: String,
    compress: bool,
    keep_for: Option<Duration>,
    max_bytes: Option<u64>,
    queue: Queue,
    clock: Arc<dyn Clock>,
    tell: Tell,
    closed: Sender<Files>,
    sessions: Receiver<Files>,
}

/// A session that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ended {
    id: String,
    at: Timestamp,
    bytes: u64,
}

impl Keeper {
    pub fn new(options: &Options, queue: Queue, clock: Arc<dyn Clock>, tell: Tell) -> Self {
        let (closed, sessions) = channel();
        Self {
            directory: options.directory.clone(),
            gateway: options.gateway.clone(),
            compress: options.compress,
            keep_for: options.keep_for,
            max_bytes: options.max_bytes,
            queue,
            clock,
            tell,
            closed,
            sessions,
        }
    }

    /// Where sessions that have ended are named.
    pub fn closed(&self) -> Sender<Files> {
        self.closed.clone()
    }

    /// Until nobody names sessions any more.
    pub fn run(self) {
        let Self {
            closed,
            sessions,
            directory,
            gateway,
            compress,
            keep_for,
            max_bytes,
            queue,
            clock,
            tell,
        } = self;
        // Its own end would keep it waiting.
        drop(closed);
        let look_around = || {
            let now = clock.now();
            // A gateway that had nothing to write for long is not gone.
            if let Err(error) = touch(&ledger(&directory, &gateway), now) {
                tell(Trouble::Retention, &error.to_string());
            }
            if let Err(error) = remove_unfinished(&directory, now) {
                tell(Trouble::Compression, &error.to_string());
            }
            let is_limited = keep_for.is_some() || max_bytes.is_some();
            if !is_limited && !compress {
                return;
            }
            let mut said = match Said::of(&directory) {
                Ok(said) => said,
                Err(error) => return tell(Trouble::Retention, &error.to_string()),
            };
            if is_limited && let Err(error) = sweep(&directory, &gateway, keep_for, max_bytes, now, &queue, &mut said) {
                tell(Trouble::Retention, &error.to_string());
            }
            if compress && let Err(error) = pack_left(&directory, &gateway, &said, now) {
                tell(Trouble::Compression, &error.to_string());
            }
        };
        let mut next_look = Instant::now();
        loop {
            let left = next_look.saturating_duration_since(Instant::now());
            if left.is_zero() {
                look_around();
                next_look = Instant::now() + LOOK_EVERY;
                continue;
            }
            match sessions.recv_timeout(left) {
                Ok(files) => {
                    if compress && let Err(error) = pack(&files, &gateway) {
                        tell(Trouble::Compression, &error.to_string());
                    }
                    if max_bytes.is_some() {
                        next_look = next_look.min(Instant::now() + LOOK_AFTER_END);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

fn touch(path: &Path, now: Timestamp) -> io::Result<()> {
    File::options().append(true).open(path)?.set_modified(now.into())
}

/// Does all of it, and gives the first error: what is in the way of one file is not in the way of the others.
fn each<T>(all: impl IntoIterator<Item = T>, mut act: impl FnMut(T) -> io::Result<()>) -> io::Result<()> {
    let mut first = Ok(());
    for one in all {
        let done = act(one);
        first = first.and(done);
    }
    first
}

/// Removes files that were never finished.
fn remove_unfinished(directory: &Path, now: Timestamp) -> io::Result<()> {
    let mut unfinished = vec![];
    for entry in directory.read_dir()? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(is_unfinished) {
            unfinished.push(entry.path());
        }
    }
    let is_abandoned = |path: &PathBuf| modified(path).is_some_and(|at| now.duration_since(at) > ABANDONED_AFTER);
    each(unfinished.into_iter().filter(is_abandoned), |path| remove(&path))
}

/// Compresses what its own gateway did not.
fn pack_left(directory: &Path, gateway: &str, said: &Said, now: Timestamp) -> io::Result<()> {
    let contents = Contents::of(directory)?;
    let left = contents
        .sessions
        .iter()
        .map(|id| Files::new(directory, id))
        .filter(|files| {
            let ended = || ended_at(directory, files, said, now);
            files.records().exists() && ended().is_some_and(|at| now.duration_since(at) > PACKED_AFTER)
        });
    each(left, |files| pack(&files, gateway))
}

/// Puts a compressed file in the place of the records, unless another gateway was quicker, or has removed the session.
fn pack(files: &Files, gateway: &str) -> io::Result<()> {
    let path = files.compressed();
    let mut unfinished = path.clone().into_os_string();
    unfinished.push(format!(".{gateway}{UNFINISHED}"));
    let unfinished = PathBuf::from(unfinished);
    let result = (|| {
        let records = match open_plain(&files.records()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            opened => opened?,
        };
        let target = unfinished_file(&unfinished)?;
        zstd::stream::copy_encode(records, &target, LEVEL)?;
        target.sync_all()?;
        put_in_place(files, &unfinished)
    })();
    if result.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    result
}

/// The records go when what takes their place is there; and that goes too when another gateway has removed the session meanwhile.
fn put_in_place(files: &Files, unfinished: &Path) -> io::Result<()> {
    let path = files.compressed();
    fs::rename(unfinished, &path)?;
    remove(&files.records())?;
    match files.manifest().symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => remove(&path),
        _ => Ok(()),
    }
}

fn sweep(
    directory: &Path,
    gateway: &str,
    keep_for: Option<Duration>,
    max_bytes: Option<u64>,
    now: Timestamp,
    queue: &Queue,
    said: &mut Said,
) -> io::Result<()> {
    let contents = Contents::of(directory)?;
    let mut ended: Vec<Ended> = vec![];
    let mut open_bytes = 0;
    for id in &contents.sessions {
        let files = Files::new(directory, id);
        match ended_at(directory, &files, said, now) {
            Some(at) => ended.push(Ended {
                id: id.clone(),
                at,
                bytes: bytes(&files),
            }),
            None => open_bytes += bytes(&files),
        }
    }
    let to_remove = to_remove(ended, open_bytes, keep_for, max_bytes, now);
    let removed = each(to_remove, |(id, reason)| {
        let files = Files::new(directory, &id);
        // Of what was noted before and could not be removed, it is tried again.
        let is_noted = said.is_removed(&id) || {
            let reason = reason.to_owned();
            noted(
                queue,
                Happened::Removed {
                    session: id.clone(),
                    reason,
                },
            )
        };
        if !is_noted {
            return Ok(());
        }
        said.remove(gateway, &id);
        files.all().iter().try_for_each(|path| remove(path))
    });
    removed.and(forget_ledgers(directory, gateway, keep_for, now, queue, said))
}

/// The sessions that must go, oldest first, each with the reason.
fn to_remove(
    mut ended: Vec<Ended>,
    open_bytes: u64,
    keep_for: Option<Duration>,
    max_bytes: Option<u64>,
    now: Timestamp,
) -> Vec<(String, &'static str)> {
    ended.sort_by(|a, b| (a.at, &a.id).cmp(&(b.at, &b.id)));
    let mut bytes = open_bytes + ended.iter().map(|session| session.bytes).sum::<u64>();
    let mut removed = vec![];
    for session in ended {
        let too_old = keep_for.is_some_and(|limit| is_older(session.at, limit, now));
        let too_much = max_bytes.is_some_and(|limit| bytes > limit);
        let reason = match (too_old, too_much) {
            (true, _) => "age",
            (false, true) => "size",
            (false, false) => continue,
        };
        bytes -= session.bytes;
        removed.push((session.id, reason));
    }
    removed
}

fn is_older(at: Timestamp, limit: Duration, now: Timestamp) -> bool {
    SignedDuration::try_from(limit).is_ok_and(|limit| now.duration_since(at) > limit)
}

/// Asks the writing thread to note a removal.
fn noted(queue: &Queue, removal: Happened) -> bool {
    let (done, answer) = channel();
    queue.send(Command::Remove { removal, done }).is_ok() && answer.recv().unwrap_or(false)
}

/// When a session ended, by its gateway's ledger; `None` while it may still go on.
fn ended_at(directory: &Path, files: &Files, said: &Said, now: Timestamp) -> Option<Timestamp> {
    if let Some(at) = said.closed_at(&files.id) {
        return Some(at);
    }
    let ledger = manifest(files).map(|manifest| ledger(directory, &manifest.meta.gateway));
    let touched = files.all().into_iter().chain(ledger);
    let written = touched.filter_map(|path| modified(&path)).max()?;
    (now.duration_since(written) > ABANDONED_AFTER).then_some(written)
}

/// As far as it can be read.
fn manifest(files: &Files) -> Option<Manifest> {
    serde_json::from_slice(&files.read_manifest().ok()?).ok()
}

fn modified(path: &Path) -> Option<Timestamp> {
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    Timestamp::try_from(modified).ok()
}

/// What it takes of the disk: a file with a hole in it is not as large as it looks.
fn bytes(files: &Files) -> u64 {
    let taken = |metadata: fs::Metadata| metadata.len().min(metadata.blocks().saturating_mul(512));
    let lengths = files.all().map(|path| fs::symlink_metadata(path).map_or(0, taken));
    lengths.iter().sum()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the ledgers of gateways that have no session left, are silent for as long as sessions are kept, and on which nothing rests.
fn forget_ledgers(
    directory: &Path,
    own: &str,
    keep_for: Option<Duration>,
    now: Timestamp,
    queue: &Queue,
    said: &mut Said,
) -> io::Result<()> {
    let Some(keep_for) = keep_for else { return Ok(()) };
    let contents = Contents::of(directory)?;
    let in_use: BTreeSet<String> = contents
        .sessions
        .iter()
        .filter_map(|id| manifest(&Files::new(directory, id)))
        .map(|manifest| manifest.meta.gateway)
        .collect();
    let limit = keep_for.max(ABANDONED_AFTER.unsigned_abs());
    let unused = contents.gateways.difference(&in_use).filter(|gateway| *gateway != own);
    each(unused, |gateway| {
        let path = ledger(directory, gateway);
        let is_silent = modified(&path).is_some_and(|at| is_older(at, limit, now));
        let removal = Happened::LedgerRemoved {
            ledger: gateway.clone(),
        };
        if !is_silent || !said.can_do_without(gateway) || !noted(queue, removal) {
            return Ok(());
        }
        said.forget(own, gateway);
        remove(&path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::recording::{Input, Mode, Sync};
    use crate::recording::chain::Chain;
    use crate::recording::ledger_file::LedgerFile;
    use crate::recording::manifest::Meta;

    #[test]
    fn what_a_killed_gateway_left_is_made_good_by_another_one() {
        let temporary = tempfile::tempdir().unwrap();
        let directory = temporary.path();
        let now: Timestamp = "2026-02-01T12:00:00Z".parse().unwrap();
        let ended_before = |id: &str, hours| {
            let files = Files::new(directory, id);
            let closed_at = now - SignedDuration::from_hours(hours);
            let mut manifest = Manifest::open(
                id,
                Mode::Metadata,
                Meta {
                    request_id: String::new(),
                    issuer: String::new(),
                    subject: String::new(),
                    user_id: String::new(),
                    namespace: String::new(),
                    workspace: String::new(),
                    gateway: "g1".to_owned(),
                    input: Input::All,
                    opened_at: closed_at.to_string(),
                },
            );
            manifest.close(&Chain::default(), closed_at.to_string(), "client_closed");
            fs::write(files.manifest(), manifest.text()).unwrap();
            fs::write(files.records(), "records").unwrap();
            let mut own = LedgerFile::start(directory, id, None, Sync::Never, closed_at.to_string()).unwrap();
            let (session, manifest_sha256) = (id.to_owned(), String::new());
            own.note(
                Happened::Closed {
                    session,
                    manifest_sha256,
                },
                closed_at.to_string(),
            );
            own.write(None).unwrap();
            files
        };
        let (left, fresh) = (ended_before("session-left", 2), ended_before("session-fresh", 0));
        let unfinished_for = |name: &str, hours| {
            let path = directory.join(name);
            let at = now - SignedDuration::from_hours(hours);
            File::create(&path).unwrap().set_modified(at.into()).unwrap();
            path
        };
        let abandoned = unfinished_for("session-a.ndjson.zst.g1.tmp", 25);
        let being_written = unfinished_for("session-b.ndjson.zst.g1.tmp", 1);
        let pack_left = || pack_left(directory, "g2", &Said::of(directory).unwrap(), now);
        remove_unfinished(directory, now).unwrap();
        assert_eq!((left.records().exists(), left.compressed().exists()), (true, false));
        pack_left().unwrap();
        assert_eq!((left.records().exists(), left.compressed().exists()), (false, true));
        assert!(fresh.records().exists() && !fresh.compressed().exists());
        // Whoever can write here, and not read the key, has it read by nobody.
        let secret = directory.join("key.pem");
        fs::write(&secret, "secret").unwrap();
        let linked = ended_before("session-linked", 2);
        fs::remove_file(linked.records()).unwrap();
        std::os::unix::fs::symlink(&secret, linked.records()).unwrap();
        let other = ended_before("session-other", 2);
        pack_left().unwrap_err();
        assert!(!linked.compressed().exists());
        assert!(other.compressed().exists(), "the others are compressed all the same");
        assert!(!abandoned.exists() && being_written.exists());
    }

    #[test]
    fn nothing_is_left_of_a_session_that_another_gateway_removes_while_it_is_compressed() {
        let temporary = tempfile::tempdir().unwrap();
        let files = Files::new(temporary.path(), "session-a");
        let unfinished = temporary.path().join("session-a.ndjson.zst.g.tmp");
        fs::write(&unfinished, "compressed").unwrap();
        // Records and manifest are gone.
        put_in_place(&files, &unfinished).unwrap();
        assert_eq!(temporary.path().read_dir().unwrap().count(), 0);
        // Another gateway was quicker: what it has put there stays.
        fs::write(files.manifest(), "{}").unwrap();
        fs::write(files.compressed(), "compressed").unwrap();
        pack(&files, "g").unwrap();
        assert!(files.compressed().exists());
    }

    #[test]
    fn the_oldest_go_first_and_no_more_than_must() {
        let now: Timestamp = "2026-02-01T00:00:00Z".parse().unwrap();
        let day = |day: u64| now - SignedDuration::from_hours(24 * day as i64);
        let session = |id: &str, age, bytes| Ended {
            id: id.to_owned(),
            at: day(age),
            bytes,
        };
        let all = || vec![session("c", 1, 30), session("a", 40, 10), session("b", 5, 20)];
        let days = |days: u64| Some(Duration::from_secs(days * 86400));
        for (keep_for, max_bytes, open, expected) in [
            (None, None, 0, &[][..]),
            (days(30), None, 0, &[("a", "age")]),
            (days(40), None, 0, &[]),
            (None, Some(60), 0, &[]),
            (None, Some(59), 0, &[("a", "size")]),
            (None, Some(50), 5, &[("a", "size"), ("b", "size")]),
            (days(30), Some(50), 0, &[("a", "age")]),
            (days(30), Some(1), 9, &[("a", "age"), ("b", "size"), ("c", "size")]),
        ] {
            let removed = to_remove(all(), open, keep_for, max_bytes, now);
            let removed: Vec<_> = removed.iter().map(|(id, reason)| (id.as_str(), *reason)).collect();
            assert_eq!(removed, expected, "{keep_for:?} {max_bytes:?} {open}");
        }
    }
}
