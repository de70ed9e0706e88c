//! The queue of messages becomes files: one thread writes all of them, in batches, and signs what it has written.
//!
//! Records first, then the checkpoint that speaks of them; the manifest first, then the ledger. So whatever moment the process dies in,
//! nothing on disk speaks of something that is not there.

use super::chain::{Chain, Message, hex_sha256, written};
use super::layout::{Files, UNFINISHED, new_file, unfinished_file};
use super::ledger::Happened;
use super::ledger_file::LedgerFile;
use super::manifest::{Checkpoint, Manifest, Meta};
use super::queue::{Command, OpenSession, Work};
use super::recorder::{Options, Tell, Trouble};
use super::session::{Closed, Failure};
use crate::clock::Clock;
use crate::config::recording::Sync;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// How often it is looked whether a checkpoint is due, and a ledger's line tried again.
const TICK: Duration = Duration::from_millis(500);
/// What is written of one session at once, at most, in bytes.
const BATCH_BYTES: usize = 256 << 10;

pub struct Writer {
    options: Options,
    clock: Arc<dyn Clock>,
    tell: Tell,
    ledger: LedgerFile,
    sessions: HashMap<u64, Session>,
    /// What the ledger does not tell yet: see [`Happened::Sealed`].
    sealed: BTreeMap<String, u64>,
    sealed_told_at: Instant,
    work: Work,
    closed: Sender<Files>,
}

/// A session that is open.
struct Session {
    files: Files,
    manifest: Manifest,
    records: File,
    checkpoints: File,
    failed: watch::Sender<Option<Failure>>,
    /// What is on disk, in whole records and bytes.
    on_disk: Chain,
    length: u64,
    /// With what is about to be written.
    chain: Chain,
    buffer: Vec<u8>,
    /// Of messages whose bytes may leave the queue's count when the buffer is written.
    weight: usize,
    sealed: u64,
    sealed_at: Instant,
    checkpoints_length: u64,
    /// Messages that came after the disk took no more.
    lost: u64,
    broken: bool,
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
                weight,
            } => self.message(session, &message, weight),
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
        let session = Session {
            files,
            manifest,
            records,
            checkpoints,
            failed,
            on_disk: Chain::default(),
            length: 0,
            chain: Chain::default(),
            buffer: Vec::new(),
            weight: 0,
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

    fn message(&mut self, number: u64, message: &Message, weight: usize) {
        let Some(session) = self.sessions.get_mut(&number).filter(|session| !session.broken) else {
            if let Some(session) = self.sessions.get_mut(&number) {
                session.lost += 1 + message.lost_before;
            }
            self.work.give_back(weight);
            return;
        };
        session.chain.append(message, &mut session.buffer);
        session.weight += weight;
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
            self.work.give_back(std::mem::take(&mut session.weight));
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
    fn close(&mut self, mut session: Session, reason: &str, lost: u64) -> Option<Closed> {
        session.write(self.options.sync);
        self.work.give_back(std::mem::take(&mut session.weight));
        let now = self.now();
        session.manifest.lost_after = session.lost + lost;
        session.manifest.close(&session.on_disk, now.clone(), reason);
        let result = (|| {
            if self.options.sync != Sync::Never {
                session.records.sync_data()?;
            }
            self.work.gets_on();
            self.write_manifest(&session.files, &mut session.manifest)
        })();
        match result {
            Ok(manifest_sha256) => {
                self.sealed.remove(&session.files.id);
                let closed = Happened::Closed {
                    session: session.files.id.clone(),
                    manifest_sha256,
                };
                self.ledger.note(closed, now);
                // The keeper may have ended with an error of its own.
                let _ = self.closed.send(session.files);
                Some(Closed {
                    records: session.on_disk.count,
                    final_hash: session.on_disk.head,
                })
            }
            Err(error) => {
                (self.tell)(Trouble::Manifest, &error.to_string());
                None
            }
        }
    }

    /// Sessions that are still open stay so, and all that is on disk of them is signed.
    fn finish(&mut self) {
        let numbers: Vec<u64> = self.sessions.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.seal(number));
        self.note_sealed();
        let now = self.now();
        self.ledger.note(Happened::Stopped, now);
        let result = self.ledger.write(self.options.key.as_ref());
        self.tell(Trouble::Ledger, result);
    }
}

/// A file that was not there before.
fn new(path: &Path) -> io::Result<File> {
    new_file().create_new(true).append(true).open(path)
}

impl Session {
    fn write(&mut self, sync: Sync) {
        if self.buffer.is_empty() {
            // One large paste must not hold its memory for hours; and while there is much to write, memory is not given back and
            // asked for again each time.
            self.buffer.shrink_to(0);
            return;
        }
        let result = self.records.write_all(&self.buffer).and_then(|()| match sync {
            Sync::Batch => self.records.sync_data(),
            Sync::Never | Sync::Checkpoint => Ok(()),
        });
        match result {
            Ok(()) => {
                self.length += self.buffer.len() as u64;
                self.on_disk = self.chain.clone();
            }
            Err(error) => self.fail(&error),
        }
        self.buffer.clear();
    }

    /// What is on disk ends with a whole record again, and nothing more is added.
    fn fail(&mut self, error: &io::Error) {
        self.broken = true;
        self.lost += self.chain.count - self.on_disk.count;
        let _ = self.records.set_len(self.length);
        tracing::error!(recording = self.files.id, %error, "a session can't be recorded any more");
        self.failed.send_replace(Some(Failure::Write));
    }

    fn write_checkpoint(&mut self, checkpoint: &Checkpoint, sync: Sync) -> io::Result<()> {
        // Strings and numbers always become JSON.
        let line = serde_json::to_string(checkpoint).unwrap_or_default() + "\n";
        if sync != Sync::Never
            && let Err(error) = self.records.sync_data()
        {
            // What a disk has not kept once, it does not tell of again.
            self.fail(&error);
            return Err(error);
        }
        if let Err(error) = self.checkpoints.write_all(line.as_bytes()) {
            self.checkpoints.set_len(self.checkpoints_length)?;
            return Err(error);
        }
        self.checkpoints_length += line.len() as u64;
        self.sealed = checkpoint.frame_count;
        if sync == Sync::Never {
            return Ok(());
        }
        self.checkpoints.sync_data()
    }
}
