//! What a terminal says becomes messages in a bounded queue. Nothing here waits for a disk: a message that finds the queue full is counted as
//! lost, and whoever watches the recording is told.

use super::chain::{Direction, Message, MessageType};
use super::layout;
use super::manifest::Meta;
use super::seal::SigningKey;
use super::{keeper, writer};
use crate::clock::Clock;
use crate::config::recording::{Input, Mode, Sync};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use snafu::{ResultExt, Snafu};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// For a disk to take the first bytes of a session, and the last ones.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// What a message weighs in the queue besides its payload.
const OVERHEAD: usize = 256;

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

/// Why a session is not recorded, or not wholly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Its files can't be made.
    Open,
    /// The disk takes nothing more.
    Write,
    /// The disk is slower than what is said.
    QueueFull,
}

/// Why recording can't begin at all.
#[derive(Debug, Snafu)]
pub enum StartError {
    #[snafu(display("can't write recordings to {}: {source}", directory.display()))]
    Directory { directory: PathBuf, source: std::io::Error },
    #[snafu(display("can't start a thread for recordings: {source}"))]
    Thread { source: std::io::Error },
}

/// What the writing thread is asked to do.
pub(super) enum Command {
    Open {
        session: Box<OpenSession>,
        done: oneshot::Sender<Result<(), Failure>>,
    },
    Message {
        session: u64,
        message: Message,
        weight: usize,
    },
    Close {
        session: u64,
        reason: &'static str,
        lost: u64,
        done: oneshot::Sender<()>,
    },
    /// To note in the ledger what the keeper is about to remove.
    Remove {
        removal: super::ledger::Happened,
        done: std::sync::mpsc::Sender<bool>,
    },
    Stop {
        done: oneshot::Sender<()>,
    },
}

pub(super) struct OpenSession {
    pub number: u64,
    pub id: String,
    pub meta: Meta,
    pub failed: watch::Sender<Option<Failure>>,
}

/// The way to the writing thread.
#[derive(Clone)]
pub(super) struct Queue {
    commands: Sender<Command>,
    waiting: Arc<AtomicUsize>,
    limit: usize,
}

impl Queue {
    /// Sends a message unless too much waits already.
    fn offer(&self, session: u64, message: Message) -> bool {
        let weight = OVERHEAD + message.payload.as_ref().map_or(0, Vec::len);
        let before = self.waiting.fetch_add(weight, Ordering::Relaxed);
        let fits = before + weight <= self.limit;
        let taken = fits
            && self
                .commands
                .send(Command::Message {
                    session,
                    message,
                    weight,
                })
                .is_ok();
        if !taken {
            self.waiting.fetch_sub(weight, Ordering::Relaxed);
        }
        taken
    }
}

/// Records the sessions of one gateway process.
pub struct Recorder {
    queue: Queue,
    mode: Mode,
    input: Input,
    gateway: String,
    next: AtomicUsize,
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
        let (commands, received) = channel();
        let queue = Queue {
            commands,
            waiting: Arc::default(),
            limit: options.queue_bytes,
        };
        let (mode, input, gateway) = (options.mode, options.input, options.gateway.clone());
        let keeper = keeper::Keeper::new(&options, queue.commands.clone(), Arc::clone(&clock), Arc::clone(&tell));
        let directory = options.directory.clone();
        let writer = writer::Writer::start(options, clock, tell, Arc::clone(&queue.waiting), keeper.closed());
        let writer = writer.context(DirectorySnafu { directory })?;
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        // It ends with the writing thread, which holds the other end of what it waits for.
        named("recording-keeper")
            .spawn(move || keeper.run())
            .context(ThreadSnafu)?;
        let writer = named("recording")
            .spawn(move || writer.run(&received))
            .context(ThreadSnafu)?;
        Ok(Self {
            queue,
            mode,
            input,
            gateway,
            next: AtomicUsize::default(),
            writer: Mutex::new(Some(writer)),
        })
    }

    /// Begins a recording. `random` makes its id unique, `blind` hides what was typed when that is withheld.
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
        let (failed, failing) = watch::channel(None);
        let number = self.next.fetch_add(1, Ordering::Relaxed) as u64;
        let id = layout::session_id(now, random);
        let session = OpenSession {
            number,
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
        let sent = self.queue.commands.send(Command::Open { session, done });
        sent.map_err(|_| Failure::Open)?;
        match timeout(ANSWER_TIMEOUT, opened).await {
            Ok(Ok(Ok(()))) => Ok(Recording {
                id,
                number,
                queue: self.queue.clone(),
                mode: self.mode,
                input: self.input,
                blind,
                lost: Mutex::default(),
                failed,
                failing,
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
        if writer.is_some() && self.queue.commands.send(Command::Stop { done }).is_ok() {
            let _ = timeout(limit, stopped).await;
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let running = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if running.is_some() {
            let (done, _) = oneshot::channel();
            // It has ended by itself, or ends now.
            let _ = self.queue.commands.send(Command::Stop { done });
        }
    }
}

/// A session that is being recorded, until [`Recording::close`].
pub struct Recording {
    pub id: String,
    number: u64,
    queue: Queue,
    mode: Mode,
    input: Input,
    blind: [u8; 32],
    /// Messages since the last one that was taken.
    lost: Mutex<u64>,
    failed: watch::Sender<Option<Failure>>,
    failing: watch::Receiver<Option<Failure>>,
    has_ended: bool,
}

impl Recording {
    /// What gathers the frames of one direction.
    pub fn tap(&self, direction: Direction) -> Tap<'_> {
        Tap {
            recording: self,
            direction,
            message: None,
        }
    }

    /// Ends when something could not be recorded; never, when all of it is.
    pub async fn failed(&self) -> Failure {
        let mut failing = self.failing.clone();
        if let Ok(failure) = failing.wait_for(Option::is_some).await
            && let Some(failure) = *failure
        {
            return failure;
        }
        std::future::pending().await
    }

    /// Whether something could not be recorded so far.
    pub fn failure(&self) -> Option<Failure> {
        *self.failing.borrow()
    }

    fn take(&self, mut message: Message) {
        // Held until the message is in the queue, so that the two directions count as one.
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        message.lost_before = *lost;
        if self.queue.offer(self.number, message) {
            *lost = 0;
        } else {
            *lost += 1;
            self.failed.send_if_modified(|failed| {
                let first = failed.is_none();
                failed.get_or_insert(Failure::QueueFull);
                first
            });
        }
    }

    /// Ends the recording, and waits until it is on disk, but not for long.
    pub async fn close(mut self, reason: &'static str) {
        if let Some(closed) = self.end(reason) {
            let _ = timeout(ANSWER_TIMEOUT, closed).await;
        }
    }

    fn end(&mut self, reason: &'static str) -> Option<oneshot::Receiver<()>> {
        if std::mem::replace(&mut self.has_ended, true) {
            return None;
        }
        let lost = *self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        let (done, closed) = oneshot::channel();
        let command = Command::Close {
            session: self.number,
            reason,
            lost,
            done,
        };
        self.queue.commands.send(command).ok().map(|()| closed)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.end("dropped");
    }
}

/// Gathers the fragments of the messages of one direction.
pub struct Tap<'a> {
    recording: &'a Recording,
    direction: Direction,
    message: Option<Gathered>,
}

struct Gathered {
    message_type: MessageType,
    bytes: u64,
    hash: Sha256,
    payload: Option<Vec<u8>>,
    withheld: bool,
}

impl Tap<'_> {
    /// Takes a frame: the first of a message has its type, the last one is `fin`.
    pub fn frame(
        &mut self,
        message_type: Option<MessageType>,
        payload: &[u8],
        fin: bool,
        now: impl FnOnce() -> Timestamp,
    ) {
        let Some(mut gathered) = self.message.take().or_else(|| message_type.map(Gathered::new)) else {
            // A continuation of nothing: the relay ends such a conversation.
            return;
        };
        if gathered.bytes == 0 && !payload.is_empty() {
            self.first_bytes(&mut gathered, payload);
        }
        gathered.bytes += payload.len() as u64;
        gathered.hash.update(payload);
        if let Some(kept) = &mut gathered.payload {
            kept.extend_from_slice(payload);
        }
        if !fin {
            self.message = Some(gathered);
            return;
        }
        let Gathered {
            message_type,
            bytes,
            hash,
            payload,
            withheld,
        } = gathered;
        let keeps_payload = self.recording.mode == Mode::Full && !withheld;
        self.recording.take(Message {
            time: now(),
            direction: self.direction,
            message_type,
            bytes,
            sha256: hash.finalize().into(),
            payload: keeps_payload.then(|| payload.unwrap_or_default()),
            withheld,
            lost_before: 0,
        });
    }

    /// What a message is shows in its first byte, which need not be in its first fragment.
    fn first_bytes(&self, gathered: &mut Gathered, payload: &[u8]) {
        let recording = self.recording;
        // What is known not to be typed: the first message (JSON), resizing, pausing and resuming.
        let told = matches!(payload.first(), Some(b'{' | b'1' | b'2' | b'3'));
        if self.direction == Direction::ClientToBackend && recording.input == Input::Lengths && !told {
            gathered.withheld = true;
            gathered.hash.update(recording.blind);
        } else if recording.mode == Mode::Full {
            gathered.payload = Some(Vec::with_capacity(payload.len()));
        }
    }
}

impl Gathered {
    fn new(message_type: MessageType) -> Self {
        Self {
            message_type,
            bytes: 0,
            hash: Sha256::new(),
            payload: None,
            withheld: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::Receiver;

    /// A recording whose disk takes nothing: nobody receives what is queued.
    fn stuck(input: Input, mode: Mode, limit: usize) -> (Recording, Receiver<Command>) {
        let (commands, received) = channel();
        let (failed, failing) = watch::channel(None);
        let queue = Queue {
            commands,
            waiting: Arc::default(),
            limit,
        };
        let recording = Recording {
            id: "s".to_owned(),
            number: 0,
            queue,
            mode,
            input,
            blind: [7; 32],
            lost: Mutex::default(),
            failed,
            failing,
            has_ended: false,
        };
        (recording, received)
    }

    fn messages(received: &Receiver<Command>) -> Vec<Message> {
        received
            .try_iter()
            .filter_map(|command| match command {
                Command::Message { message, .. } => Some(message),
                _ => None,
            })
            .collect()
    }

    fn say(tap: &mut Tap<'_>, fragments: &[&[u8]]) {
        for (index, fragment) in fragments.iter().enumerate() {
            let first = (index == 0).then_some(MessageType::Binary);
            tap.frame(first, fragment, index + 1 == fragments.len(), || Timestamp::UNIX_EPOCH);
        }
    }

    #[test]
    fn fragments_become_one_message() {
        let (recording, received) = stuck(Input::All, Mode::Full, 1 << 20);
        say(
            &mut recording.tap(Direction::BackendToClient),
            &[b"", b"0he", b"", b"llo"],
        );
        say(&mut recording.tap(Direction::ClientToBackend), &[b""]);
        let messages = messages(&received);
        assert_eq!(messages[0].payload.as_deref(), Some(&b"0hello"[..]));
        assert_eq!(messages[0].sha256, <[u8; 32]>::from(Sha256::digest(b"0hello")));
        assert_eq!((messages[0].bytes, messages[1].bytes), (6, 0));
        assert_eq!(messages[1].payload.as_deref(), Some(&b""[..]));
    }

    #[test]
    fn metadata_keeps_no_payload() {
        let (recording, received) = stuck(Input::All, Mode::Metadata, 1 << 20);
        say(&mut recording.tap(Direction::ClientToBackend), &[b"0x"]);
        let messages = messages(&received);
        assert_eq!((messages[0].payload.clone(), messages[0].withheld), (None, false));
    }

    #[test]
    fn what_is_typed_can_be_withheld_and_its_hash_can_t_be_tried_out() {
        for mode in [Mode::Full, Mode::Metadata] {
            let (recording, received) = stuck(Input::Lengths, mode, 1 << 20);
            let mut tap = recording.tap(Direction::ClientToBackend);
            say(&mut tap, &[b"0p"]);
            say(&mut tap, &[b"", b"0", b"p"]);
            say(&mut tap, &[b"1{\"columns\":80,\"rows\":24}"]);
            say(&mut recording.tap(Direction::BackendToClient), &[b"0p"]);
            let messages = messages(&received);
            for typed in &messages[..2] {
                assert!(typed.withheld && typed.payload.is_none());
                assert_ne!(typed.sha256, <[u8; 32]>::from(Sha256::digest(b"0p")));
                assert_eq!(typed.bytes, 2);
            }
            for shown in &messages[2..] {
                assert!(!shown.withheld);
                assert_eq!(shown.payload.is_some(), mode == Mode::Full);
            }
        }
    }

    #[tokio::test]
    async fn a_full_queue_never_waits_and_is_told_of() {
        let (recording, received) = stuck(Input::All, Mode::Full, 3 * OVERHEAD + 6);
        let mut tap = recording.tap(Direction::BackendToClient);
        for _ in 0..3 {
            say(&mut tap, &[b"0x"]);
        }
        assert_eq!(recording.failure(), None);
        say(&mut tap, &[b"0y"]);
        say(&mut tap, &[b"0y"]);
        assert_eq!(recording.failed().await, Failure::QueueFull);
        for _ in messages(&received) {
            recording.queue.waiting.fetch_sub(OVERHEAD + 2, Ordering::Relaxed);
        }
        say(&mut tap, &[b"0z"]);
        say(&mut tap, &[b"0z"]);
        let later: Vec<_> = messages(&received).iter().map(|message| message.lost_before).collect();
        assert_eq!(later, [2, 0]);
    }
}
