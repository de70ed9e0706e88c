//! What terminals say becomes batches for the one thread that writes: a bounded queue that nobody waits for at its full end, and that no
//! session can fill for the others.
//!
//! The writer is woken for what someone waits for, and for much; little waits a moment for more, so that a wake-up and a write are
//! not the price of each message.

use super::chain::Message;
use super::ledger::Happened;
use super::manifest::Meta;
use super::session::{Closed, Failure};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// What a message weighs besides its payload.
pub const OVERHEAD: usize = 256;
/// What a session may always hold, in bytes: what a person types, and what is shown of it.
const LITTLE: usize = 64 << 10;
/// How long messages wait for others.
const GATHER: Duration = Duration::from_millis(5);
/// Unless they are as many as this, or their bytes are.
const MANY: usize = 512;
const MUCH: usize = 1 << 20;

/// What the writing thread is asked to do.
pub enum Command {
    Open {
        session: Box<OpenSession>,
        done: oneshot::Sender<Result<(), Failure>>,
    },
    Message {
        session: u64,
        message: Message,
        place: Place,
    },
    Close {
        session: u64,
        reason: &'static str,
        lost: u64,
        done: oneshot::Sender<Closed>,
    },
    /// To note in the ledger what the keeper is about to remove.
    Remove {
        removal: Happened,
        done: mpsc::Sender<bool>,
    },
    Stop {
        done: oneshot::Sender<()>,
    },
}

pub struct OpenSession {
    pub number: u64,
    pub id: String,
    pub meta: Meta,
    pub share: Share,
    pub failed: watch::Sender<Option<Failure>>,
}

/// The writing thread has ended.
#[derive(Debug)]
pub struct Ended;

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// The weight of all messages that are not written yet, those that only have a place among them.
    waiting: AtomicUsize,
    limit: usize,
    began: Instant,
    /// When the writer last got on with what it took, in milliseconds since `began`; 0 while it has nothing.
    busy_since: AtomicU64,
}

#[derive(Default)]
struct State {
    commands: VecDeque<Command>,
    /// Whether somebody waits for one of them, or they are many.
    is_urgent: bool,
    weight: usize,
    /// What the writer waits for.
    sleeps: Sleeps,
    has_ended: bool,
}

#[derive(Default, PartialEq, Eq)]
enum Sleeps {
    #[default]
    Not,
    /// Until something comes.
    UntilAnything,
    /// Until something urgent comes.
    UntilUrgent,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since it began, and never 0.
    fn milliseconds(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .max(1)
    }
}

/// The way to the writing thread.
#[derive(Clone)]
pub struct Queue(Arc<Shared>);

/// Where it takes its work from. When this is dropped, nothing more is taken.
pub struct Work(Arc<Shared>);

/// A queue in which messages of `limit` bytes together may wait.
pub fn queue(limit: usize) -> (Queue, Work) {
    let shared = Arc::new(Shared {
        state: Mutex::default(),
        wake: Condvar::new(),
        waiting: AtomicUsize::default(),
        limit,
        began: Instant::now(),
        busy_since: AtomicU64::default(),
    });
    (Queue(Arc::clone(&shared)), Work(shared))
}

/// What one session holds of the queue: at most a quarter. And of the last quarter only what is little, so that sessions that say more than
/// the disk takes leave room for those that do not.
#[derive(Clone)]
pub struct Share(Arc<Held>);

struct Held {
    queue: Arc<Shared>,
    bytes: AtomicUsize,
}

impl Share {
    /// For a message that begins.
    pub fn place(&self) -> Place {
        Place {
            share: self.clone(),
            bytes: 0,
        }
    }
}

/// Bytes of the queue, until they are written, or never will be.
pub struct Place {
    share: Share,
    bytes: usize,
}

impl Place {
    /// Makes it so many bytes larger, unless too much waits already.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let Held { queue, bytes: held } = &*self.share.0;
        let held = held.fetch_add(bytes, Ordering::Relaxed);
        let waiting = queue.waiting.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        let (held, waiting, limit) = (held + bytes, waiting + bytes, queue.limit);
        let is_little = held <= LITTLE && waiting <= limit;
        let fits = is_little || (held <= limit / 4 && waiting <= limit / 4 * 3);
        if !fits {
            self.give_back(bytes);
        }
        fits
    }

    /// Adds one of the same session.
    pub fn add(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }

    /// Makes it nothing.
    pub fn clear(&mut self) {
        self.give_back(self.bytes);
    }

    fn give_back(&mut self, bytes: usize) {
        self.bytes -= bytes;
        self.share.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.share.0.queue.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Queue {
    /// For a session that begins.
    pub fn share(&self) -> Share {
        Share(Arc::new(Held {
            queue: Arc::clone(&self.0),
            bytes: AtomicUsize::default(),
        }))
    }

    /// # Errors
    /// When the writing thread has ended; the place of a message is given back.
    pub fn send(&self, command: Command) -> Result<(), Ended> {
        let weight = match &command {
            Command::Message { place, .. } => Some(place.bytes),
            _ => None,
        };
        let mut state = self.0.lock();
        if state.has_ended {
            return Err(Ended);
        }
        state.weight += weight.unwrap_or_default();
        state.commands.push_back(command);
        state.is_urgent |= weight.is_none() || state.weight >= MUCH || state.commands.len() >= MANY;
        let wakes = match state.sleeps {
            Sleeps::Not => false,
            Sleeps::UntilAnything => true,
            Sleeps::UntilUrgent => state.is_urgent,
        };
        if wakes {
            state.sleeps = Sleeps::Not;
            drop(state);
            self.0.wake.notify_one();
        }
        Ok(())
    }
}

impl Queue {
    /// For how long the writer has not got on with what it took last; `None`, when it has ended.
    pub fn busy_for(&self) -> Option<Duration> {
        if self.0.lock().has_ended {
            return None;
        }
        let since = self.0.busy_since.load(Ordering::Relaxed);
        let now = self.0.milliseconds();
        Some(Duration::from_millis(if since == 0 {
            0
        } else {
            now.saturating_sub(since)
        }))
    }
}

impl Work {
    /// Puts what there is to do into `batch`, which is empty: nothing, when nothing comes in `limit`.
    pub fn take(&self, batch: &mut VecDeque<Command>, limit: Duration) {
        self.0.busy_since.store(0, Ordering::Relaxed);
        let mut state = self.0.lock();
        if state.commands.is_empty() {
            state = self.sleep(state, Sleeps::UntilAnything, limit);
        }
        if !state.commands.is_empty() && !state.is_urgent {
            state = self.sleep(state, Sleeps::UntilUrgent, GATHER);
        }
        state.is_urgent = false;
        state.weight = 0;
        std::mem::swap(&mut state.commands, batch);
        self.gets_on();
    }

    /// The disk took something: a slow one is not a stuck one.
    pub fn gets_on(&self) {
        self.0.busy_since.store(self.0.milliseconds(), Ordering::Relaxed);
    }

    /// Until it is woken, which nobody does but for what it waits for.
    fn sleep<'a>(&self, mut state: MutexGuard<'a, State>, until: Sleeps, limit: Duration) -> MutexGuard<'a, State> {
        let deadline = Instant::now() + limit;
        state.sleeps = until;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let (woken, _) = self
                .0
                .wake
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if state.sleeps == Sleeps::Not || deadline <= Instant::now() {
                state.sleeps = Sleeps::Not;
                return state;
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.has_ended = true;
        // Whoever waits for one of them hears that it will not be done.
        state.commands.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::chain::{Direction, MessageType};
    use jiff::Timestamp;

    fn message(session: u64, place: Place) -> Command {
        let message = Message {
            time: Timestamp::UNIX_EPOCH,
            direction: Direction::BackendToClient,
            message_type: MessageType::Binary,
            bytes: 0,
            sha256: [0; 32],
            payload: None,
            withheld: false,
            lost_before: 0,
        };
        Command::Message {
            session,
            message,
            place,
        }
    }

    #[test]
    fn a_session_holds_a_quarter_at_most_and_little_has_room_beside_it() {
        const QUARTER: usize = 4 * LITTLE;
        let (queue, work) = queue(4 * QUARTER);
        let first = queue.share();
        let (mut place, mut other) = (first.place(), first.place());
        assert!(place.grow(QUARTER) && !place.grow(1));
        assert!(!other.grow(1), "all places of a session count together");
        place.clear();
        assert!(other.grow(QUARTER));
        place.add(other);
        let mut floods: Vec<Place> = (0..2).map(|_| queue.share().place()).collect();
        assert!(floods.iter_mut().all(|flood| flood.grow(QUARTER)));
        let mut little: Vec<Place> = (0..4).map(|_| queue.share().place()).collect();
        assert!(little.iter_mut().all(|place| place.grow(LITTLE) && !place.grow(1)));
        assert!(!queue.share().place().grow(1), "and not more than there is");
        drop(little);
        assert!(queue.share().place().grow(LITTLE) && !queue.share().place().grow(LITTLE + 1));
        drop(work);
        assert!(queue.send(message(1, place)).is_err());
        assert!(first.place().grow(QUARTER), "its place is free again");
    }

    #[test]
    fn work_comes_in_its_order_and_little_waits_for_more() {
        let (queue, work) = queue(1 << 20);
        let mut batch = VecDeque::new();
        work.take(&mut batch, Duration::ZERO);
        assert!(batch.is_empty());
        let sending = std::thread::spawn(move || {
            for session in 0..3 {
                queue.send(message(session, queue.share().place())).unwrap();
            }
            let (done, stopped) = oneshot::channel();
            queue.send(Command::Stop { done }).unwrap();
            stopped.blocking_recv()
        });
        let mut taken = Vec::new();
        while !matches!(taken.last(), Some(Command::Stop { .. })) {
            work.take(&mut batch, Duration::from_secs(10));
            assert!(!batch.is_empty());
            taken.extend(batch.drain(..));
        }
        let sessions: Vec<_> = taken
            .iter()
            .filter_map(|command| match command {
                Command::Message { session, .. } => Some(*session),
                _ => None,
            })
            .collect();
        assert_eq!(sessions, [0, 1, 2]);
        drop(taken);
        assert!(sending.join().unwrap().is_err(), "nobody stopped");
    }

    #[test]
    fn it_is_known_for_how_long_the_writer_is_at_it() {
        let (queue, work) = queue(1);
        assert_eq!(queue.busy_for(), Some(Duration::ZERO));
        work.take(&mut VecDeque::new(), Duration::ZERO);
        std::thread::sleep(Duration::from_millis(20));
        assert!(queue.busy_for() >= Some(Duration::from_millis(10)));
        let before = queue.busy_for();
        work.gets_on();
        assert!(queue.busy_for() < before, "it got on");
        work.take(&mut VecDeque::new(), Duration::ZERO);
        drop(work);
        assert_eq!(queue.busy_for(), None);
    }

    #[test]
    fn what_someone_waits_for_is_taken_at_once() {
        let (queue, work) = queue(1 << 20);
        let (done, _stopped) = oneshot::channel();
        queue.send(Command::Stop { done }).unwrap();
        let mut batch = VecDeque::new();
        let began = Instant::now();
        work.take(&mut batch, Duration::from_secs(60));
        assert_eq!(batch.len(), 1);
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
