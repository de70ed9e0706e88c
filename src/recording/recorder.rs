//! Settings become a recorder: two threads, and the beginnings of recordings.

use super::layout;
use super::manifest::Meta;
use super::queue::{Command, OpenSession, Queue, queue};
use super::seal::SigningKey;
use super::session::{ANSWER_TIMEOUT, Blind, Failure, Recording};
use super::{keeper, writer};
use crate::clock::Clock;
use crate::config::recording::{Input, Mode, Sync};
use jiff::Timestamp;
use snafu::{ResultExt, Snafu};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// A disk that takes nothing for so long is stuck.
const STALLED: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How recordings are made.
pub struct Options {
    pub directory: PathBuf,
    /// A name for this process that no other one has.
    pub gateway: String,
    pub mode: Mode,
    pub input: Input,
    pub sync: Sync,
    pub checkpoint_records: u64,
    pub checkpoint_every: Duration,
    pub key: Option<SigningKey>,
    pub compress: bool,
    /// Closed sessions are removed after this long.
    pub keep_for: Option<Duration>,
    /// The oldest closed sessions are removed while all of them together are larger.
    pub max_bytes: Option<u64>,
    /// What may wait for the disk, of all sessions together.
    pub queue_bytes: usize,
    /// Nothing passes that is not taken into the queue: see [`super::Tap::frame`].
    pub is_strict: bool,
}

/// Something that went wrong besides the recording of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Ledger,
    Checkpoint,
    Manifest,
    Compression,
    Retention,
}

/// Who is told of it, with the error's text.
pub type Tell = Arc<dyn Fn(Trouble, &str) + Send + std::marker::Sync>;

/// Why recording can't begin at all.
#[derive(Debug, Snafu)]
pub enum StartError {
    #[snafu(display("can't write recordings to {}: {source}", directory.display()))]
    Directory { directory: PathBuf, source: std::io::Error },
    #[snafu(display("can't start a thread for recordings: {source}"))]
    Thread { source: std::io::Error },
}

/// Records the sessions of one gateway process.
pub struct Recorder {
    queue: Queue,
    mode: Mode,
    input: Input,
    is_strict: bool,
    gateway: String,
    next: AtomicU64,
    stalled: watch::Receiver<bool>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Whose session it is.
pub struct About<'a> {
    pub request_id: &'a str,
    pub issuer: &'a str,
    pub subject: &'a str,
    pub user_id: &'a str,
    pub namespace: &'a str,
    pub workspace: &'a str,
}

impl Recorder {
    /// Begins a ledger in the directory, and two threads: one that writes, one that compresses and removes.
    ///
    /// # Errors
    /// When nothing can be written there.
    pub fn start(options: Options, clock: Arc<dyn Clock>, tell: Tell) -> Result<Self, StartError> {
        let (queue, work) = queue(options.queue_bytes);
        let (mode, input, is_strict) = (options.mode, options.input, options.is_strict);
        let (gateway, directory) = (options.gateway.clone(), options.directory.clone());
        let keeper = keeper::Keeper::new(&options, queue.clone(), Arc::clone(&clock), Arc::clone(&tell));
        let writer = writer::Writer::start(options, clock, tell, work, keeper.closed());
        let writer = writer.context(DirectorySnafu { directory })?;
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        // It ends with the writing thread, which holds the other end of what it waits for.
        named("recording-keeper")
            .spawn(move || keeper.run())
            .context(ThreadSnafu)?;
        let (stall, stalled) = watch::channel(false);
        let watched = queue.clone();
        named("recording-watch")
            .spawn(move || watch_writer(&watched, &stall))
            .context(ThreadSnafu)?;
        let writer = named("recording").spawn(move || writer.run()).context(ThreadSnafu)?;
        Ok(Self {
            queue,
            mode,
            input,
            is_strict,
            gateway,
            next: AtomicU64::default(),
            stalled,
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Begins a recording. `random` makes its id unique, `blind` hides what is withheld.
    ///
    /// # Errors
    /// When its files can't be made, or not in time.
    pub async fn begin(
        &self,
        about: About<'_>,
        now: Timestamp,
        random: u64,
        blind: [u8; 32],
    ) -> Result<Recording, Failure> {
        let About {
            request_id,
            issuer,
            subject,
            user_id,
            namespace,
            workspace,
        } = about;
        // Nobody would open it in time, and all that waits would be begun and ended when the disk is there again.
        if *self.stalled.borrow() {
            return Err(Failure::Stalled);
        }
        let (failed, failing) = watch::channel(None);
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = layout::session_id(now, random);
        let share = self.queue.share();
        let session = OpenSession {
            number,
            share: share.clone(),
            id: id.clone(),
            meta: Meta {
                request_id: request_id.to_owned(),
                issuer: issuer.to_owned(),
                subject: subject.to_owned(),
                user_id: user_id.to_owned(),
                namespace: namespace.to_owned(),
                workspace: workspace.to_owned(),
                gateway: self.gateway.clone(),
                input: self.input,
                opened_at: super::chain::written(now),
            },
            failed: failed.clone(),
        };
        let (done, opened) = oneshot::channel();
        let session = Box::new(session);
        let sent = self.queue.send(Command::Open { session, done });
        sent.map_err(|_| Failure::Open)?;
        match timeout(ANSWER_TIMEOUT, opened).await {
            Ok(Ok(Ok(()))) => Ok(Recording {
                id,
                number,
                share,
                queue: self.queue.clone(),
                mode: self.mode,
                input: self.input,
                is_strict: self.is_strict,
                blind: Blind::new(blind),
                lost: Mutex::default(),
                failed,
                failing,
                stalled: self.stalled.clone(),
                has_ended: false,
            }),
            Ok(Ok(Err(failure))) => Err(failure),
            Ok(Err(_)) | Err(_) => Err(Failure::Open),
        }
    }

    /// Writes what still waits and ends the ledger; recordings that are still open stay so. Not for longer than `limit`.
    pub async fn finish(&self, limit: Duration) {
        let (done, stopped) = oneshot::channel();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some() && self.queue.send(Command::Stop { done }).is_ok() {
            let _ = timeout(limit, stopped).await;
        }
    }
}

/// Tells when the writer does not get on, until it has ended.
fn watch_writer(queue: &Queue, stall: &watch::Sender<bool>) {
    while let Some(busy) = queue.busy_for() {
        let is_stalled = busy >= STALLED;
        stall.send_if_modified(|stalled| std::mem::replace(stalled, is_stalled) != is_stalled);
        std::thread::sleep(LOOK_EVERY);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let running = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if running.is_some() {
            let (done, _) = oneshot::channel();
            // It has ended by itself, or ends now.
            let _ = self.queue.send(Command::Stop { done });
        }
    }
}
