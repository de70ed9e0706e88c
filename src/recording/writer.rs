//! The queue of messages becomes files: one thread writes all of them, in batches, and signs what it has written.
//!
//! Records first, then the checkpoint that speaks of them; the manifest first, then the ledger. So whatever moment the process dies in,
//! nothing on disk speaks of something that is not there.

use super::chain::{Chain, Message, hex_sha256, written};
use super::layout::{Files, UNFINISHED, unfinished_file};
use super::ledger::Happened;
use super::ledger_file::LedgerFile;
use super::manifest::{Checkpoint, Manifest, Meta};
use super::queue::{Command, OpenSession, Place, Work};
use super::recorder::{Options, Tell, Trouble};
use super::session::{Closed, Failure};
use super::session_file::{SessionFile, new};
use crate::clock::Clock;
use crate::config::recording::Sync;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How often it is looked whether a checkpoint is due, and a ledger's line tried again.
const TICK: Duration = Duration::from_millis(500);
/// How often the ends of sessions are tried again that the disk did not take.
const ENDINGS_TRIED_EVERY: Duration = Duration::from_secs(5);
/// And for how long at once.
const ENDINGS_TRIED_FOR: Duration = Duration::from_millis(500);
/// Of so many sessions. Those before them stay without an end.
const MOST_ENDINGS: usize = 1000;
/// What is written of one session at once, at most, in bytes.
const BATCH_BYTES: usize = 256 << 10;

pub struct Writer {
    options: Options,
    clock: Arc<dyn Clock>,
    tell: Tell,
    ledger: LedgerFile,
    sessions: HashMap<u64, SessionFile>,
    /// What the ledger does not tell yet: see [`Happened::Sealed`].
    sealed: BTreeMap<String, u64>,
    sealed_told_at: Instant,
    endings: VecDeque<Ending>,
    endings_tried_at: Instant,
    work: Work,
    closed: Sender<Files>,
}

/// A session that has ended, and whose last manifest is not on disk.
struct Ending {
    files: Files,
    manifest: Manifest,
}

impl Writer {
    pub fn start(
        options: Options,
        clock: Arc<dyn Clock>,
        tell: Tell,
        work: Work,
        closed: Sender<Files>,
    ) -> io::Result<Self> {
        fs::create_dir_all(&options.directory)?;
        let now = written(clock.now());
        let ledger = LedgerFile::start(
            &options.directory,
            &options.gateway,
            options.key.as_ref(),
            options.sync,
            now,
        )?;
        Ok(Self {
            options,
            clock,
            tell,
            ledger,
            sessions: HashMap::new(),
            sealed: BTreeMap::new(),
            sealed_told_at: Instant::now(),
            endings: VecDeque::new(),
            endings_tried_at: Instant::now(),
            work,
            closed,
        })
    }

    /// Until it is told to stop.
    pub fn run(mut self) {
        let mut batch = VecDeque::new();
        loop {
            self.work.take(&mut batch, TICK);
            let mut stop = None;
            for command in batch.drain(..) {
                let asks_the_disk = !matches!(command, Command::Message { .. });
                stop = stop.or(self.handle(command));
                if asks_the_disk {
                    self.work.gets_on();
                }
            }
            self.write_all();
            if let Some(done) = stop {
                self.finish();
                let _ = done.send(());
                return;
            }
        }
    }

    fn now(&self) -> String {
        written(self.clock.now())
    }

    fn tell(&self, trouble: Trouble, result: io::Result<()>) -> bool {
        result.map_err(|error| (self.tell)(trouble, &error.to_string())).is_ok()
    }

    /// What to answer when it was the last one.
    fn handle(&mut self, command: Command) -> Option<oneshot::Sender<()>> {
        match command {
            // Whoever asked has given up meanwhile.
            Command::Open { done, .. } if done.is_closed() => {}
            Command::Open { session, done } => {
                let number = session.number;
                let opened = self.open(*session);
                // Then nothing will ever come.
                if done.send(opened).is_err()
                    && let Some(session) = self.sessions.remove(&number)
                {
                    self.close(session, "not_begun", 0);
                }
            }
            Command::Message {
                session,
                message,
                place,
            } => self.message(session, &message, place),
            Command::Close {
                session,
                reason,
                lost,
                done,
            } => {
                if let Some(session) = self.sessions.remove(&session)
                    && let Some(closed) = self.close(session, reason, lost)
                {
                    let _ = done.send(closed);
                }
            }
            Command::Remove { removal, done } => {
                let now = self.now();
                self.ledger.note(removal, now);
                let noted = self.ledger.write(self.options.key.as_ref());
                let noted = self.tell(Trouble::Ledger, noted) || !self.ledger.take_back();
                let _ = done.send(noted);
            }
            Command::Stop { done } => return Some(done),
        }
        None
    }

    fn open(&mut self, session: OpenSession) -> Result<(), Failure> {
        let OpenSession {
            number,
            id,
            meta,
            share,
            failed,
        } = session;
        let files = Files::new(&self.options.directory, &id);
        let opened_at = self.now();
        let mut manifest = Manifest::open(&id, self.options.mode, Meta { opened_at, ..meta });
        // Whatever is there under this name already is not ours to take away.
        let records = new(&files.records()).map_err(|error| {
            (self.tell)(Trouble::Manifest, &error.to_string());
            Failure::Open
        })?;
        let checkpoints = match self.make_files(&files, &mut manifest) {
            Ok(checkpoints) => checkpoints,
            Err(error) => {
                for path in files.all() {
                    let _ = fs::remove_file(path);
                }
                (self.tell)(Trouble::Manifest, &error.to_string());
                return Err(Failure::Open);
            }
        };
        let session = SessionFile {
            files,
            manifest,
            records,
            checkpoints,
            failed,
            on_disk: Chain::default(),
            length: 0,
            chain: Chain::default(),
            buffer: Vec::new(),
            place: share.place(),
            sealed: 0,
            sealed_at: Instant::now(),
            checkpoints_length: 0,
            lost: 0,
            broken: false,
        };
        self.sessions.insert(number, session);
        Ok(())
    }

    fn make_files(&mut self, files: &Files, manifest: &mut Manifest) -> io::Result<File> {
        let checkpoints = new(&files.checkpoints())?;
        self.work.gets_on();
        let manifest_sha256 = self.write_manifest(files, manifest)?;
        self.work.gets_on();
        let session = files.id.clone();
        let now = self.now();
        let opened = Happened::Opened {
            session: session.clone(),
            manifest_sha256,
        };
        self.ledger.note(opened, now.clone());
        let written = self.ledger.write(self.options.key.as_ref());
        if written.is_err() && !self.ledger.take_back() {
            // The ledger tells of it already.
            let reason = "not_begun".to_owned();
            self.ledger.note(Happened::Removed { session, reason }, now);
        }
        written.map(|()| checkpoints)
    }

    /// Puts the manifest in the place of the one before, and gives the hash of its text.
    fn write_manifest(&self, files: &Files, manifest: &mut Manifest) -> io::Result<String> {
        if let Some(key) = &self.options.key {
            key.sign(manifest);
        }
        let text = manifest.text();
        let path = files.manifest();
        let mut unfinished = path.clone().into_os_string();
        unfinished.push(UNFINISHED);
        let result = (|| {
            let mut file = unfinished_file(Path::new(&unfinished))?;
            file.write_all(text.as_bytes())?;
            if self.options.sync != Sync::Never {
                file.sync_all()?;
            }
            fs::rename(&unfinished, path)?;
            if self.options.sync != Sync::Never {
                File::open(&self.options.directory)?.sync_all()?;
            }
            Ok(())
        })();
        if result.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        result.map(|()| hex_sha256(text.as_bytes()))
    }

    fn message(&mut self, number: u64, message: &Message, place: Place) {
        let Some(session) = self.sessions.get_mut(&number).filter(|session| !session.broken) else {
            if let Some(session) = self.sessions.get_mut(&number) {
                session.lost += 1 + message.lost_before;
            }
            return;
        };
        session.chain.append(message, &mut session.buffer);
        session.place.add(place);
        let unsealed = session.chain.count - session.sealed;
        if session.buffer.len() >= BATCH_BYTES || unsealed >= self.options.checkpoint_records {
            self.write(number);
            self.seal_when_due(number);
        }
    }

    /// Writes what is gathered, and the checkpoints that are due.
    fn write_all(&mut self) {
        let numbers: Vec<u64> = self.sessions.keys().copied().collect();
        for number in numbers {
            self.write(number);
            self.seal_when_due(number);
        }
        if self.sealed_told_at.elapsed() >= self.options.checkpoint_every && !self.ledger.is_behind() {
            self.note_sealed();
        }
        if self.endings_tried_at.elapsed() >= ENDINGS_TRIED_EVERY {
            self.try_endings();
        }
        let ledger = self.ledger.write(self.options.key.as_ref());
        self.work.gets_on();
        self.tell(Trouble::Ledger, ledger);
    }

    fn note_sealed(&mut self) {
        let records = std::mem::take(&mut self.sealed);
        self.sealed_told_at = Instant::now();
        if !records.is_empty() {
            let now = self.now();
            self.ledger.note(Happened::Sealed { records }, now);
        }
    }

    fn write(&mut self, number: u64) {
        if let Some(session) = self.sessions.get_mut(&number) {
            session.write(self.options.sync);
            self.work.gets_on();
        }
    }

    fn seal_when_due(&mut self, number: u64) {
        let (records, every) = (self.options.checkpoint_records, self.options.checkpoint_every);
        let Some(session) = self.sessions.get(&number) else {
            return;
        };
        let unsealed = session.on_disk.count - session.sealed;
        if unsealed >= records || session.sealed_at.elapsed() >= every {
            self.seal(number);
        }
    }

    fn seal(&mut self, number: u64) {
        let Some(session) = self.sessions.get_mut(&number) else {
            return;
        };
        if session.on_disk.count == session.sealed {
            return;
        }
        let now = written(self.clock.now());
        let mut checkpoint = Checkpoint::of(&session.files.id, &session.on_disk, now);
        if let Some(key) = &self.options.key {
            key.sign(&mut checkpoint);
        }
        // Tried again when the next one is due.
        session.sealed_at = Instant::now();
        let result = session.write_checkpoint(&checkpoint, self.options.sync);
        if session.sealed == checkpoint.frame_count {
            self.sealed.insert(checkpoint.session, checkpoint.frame_count);
        }
        self.work.gets_on();
        self.tell(Trouble::Checkpoint, result);
    }

    /// What the recording was; `None` when its end is not on disk.
    fn close(&mut self, mut session: SessionFile, reason: &str, lost: u64) -> Option<Closed> {
        session.write(self.options.sync);
        let now = self.now();
        session.manifest.lost_after = session.lost + lost;
        session.manifest.close(&session.on_disk, now, reason);
        if self.options.sync != Sync::Never
            && let Err(error) = session.records.sync_data()
        {
            // How much of it the disk has kept nobody can say: it has no end, and verifies up to its last checkpoint.
            (self.tell)(Trouble::Manifest, &error.to_string());
            return None;
        }
        self.work.gets_on();
        let SessionFile {
            files,
            manifest,
            on_disk: Chain { count, head, .. },
            ..
        } = session;
        let mut ending = Ending { files, manifest };
        if !self.end(&mut ending) {
            self.endings.push_back(ending);
            if self.endings.len() > MOST_ENDINGS {
                self.endings.pop_front();
                (self.tell)(
                    Trouble::Manifest,
                    "too many sessions wait for their end to be written, and the first has none",
                );
            }
            return None;
        }
        Some(Closed {
            records: count,
            final_hash: head,
        })
    }

    /// Whether the disk has taken the end of a session.
    fn end(&mut self, ending: &mut Ending) -> bool {
        let manifest_sha256 = match self.write_manifest(&ending.files, &mut ending.manifest) {
            Ok(sha256) => sha256,
            Err(error) => {
                (self.tell)(Trouble::Manifest, &error.to_string());
                return false;
            }
        };
        let session = ending.files.id.clone();
        self.sealed.remove(&session);
        let now = self.now();
        self.ledger.note(
            Happened::Closed {
                session,
                manifest_sha256,
            },
            now,
        );
        // The keeper may have ended with an error of its own.
        let _ = self.closed.send(ending.files.clone());
        true
    }

    /// A disk that was full when they ended may have room now. Where one still has none, the others are not tried; and where all have, what is
    /// said meanwhile is not kept waiting for all of them.
    fn try_endings(&mut self) {
        self.endings_tried_at = Instant::now();
        while self.endings_tried_at.elapsed() < ENDINGS_TRIED_FOR
            && let Some(mut ending) = self.endings.pop_front()
        {
            // As abandoned, it may have been removed meanwhile.
            if !ending.files.records().exists() && !ending.files.compressed().exists() {
                continue;
            }
            let has_ended = self.end(&mut ending);
            self.work.gets_on();
            if !has_ended {
                return self.endings.push_back(ending);
            }
        }
    }

    /// Sessions that are still open stay so, and all that is on disk of them is signed.
    fn finish(&mut self) {
        let numbers: Vec<u64> = self.sessions.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.seal(number));
        self.try_endings();
        self.note_sealed();
        let now = self.now();
        self.ledger.note(Happened::Stopped, now);
        let result = self.ledger.write(self.options.key.as_ref());
        self.tell(Trouble::Ledger, result);
    }
}
