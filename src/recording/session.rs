//! A session that is being recorded: its messages become commands in the queue, in one order for both directions, and what could not be
//! recorded becomes known.

use super::chain::{Direction, Message};
use super::queue::{Command, Place, Queue, Share};
use super::tap::Tap;
use crate::config::recording::{Input, Mode};
use sha2::{Digest, Sha256};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

/// For a disk to take the first bytes of a session, and the last ones.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a session is not recorded, or not wholly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Its files can't be made.
    Open,
    /// The disk takes nothing more.
    Write,
    /// The disk is slower than what is said.
    QueueFull,
    /// The disk has taken nothing for long, and what waits for it is in memory alone.
    Stalled,
}

/// What a recording was when it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    pub records: u64,
    /// `entryHash` of the last record; empty when there is none.
    pub final_hash: String,
}

/// A session that is being recorded, until [`Recording::close`].
pub struct Recording {
    pub id: String,
    pub(super) number: u64,
    pub(super) queue: Queue,
    pub(super) share: Share,
    pub(super) mode: Mode,
    pub(super) input: Input,
    pub(super) is_strict: bool,
    pub(super) blind: Blind,
    /// Messages since the last one that was taken.
    pub(super) lost: Mutex<u64>,
    pub(super) failed: watch::Sender<Option<Failure>>,
    pub(super) failing: watch::Receiver<Option<Failure>>,
    pub(super) stalled: watch::Receiver<bool>,
    pub(super) has_ended: bool,
}

/// What hides messages that are withheld: a key that nobody keeps, and how many were hidden with it, so that the same message has another
/// hash each time.
pub(super) struct Blind {
    key: [u8; 32],
    hidden: AtomicU64,
}

impl Blind {
    pub(super) fn new(key: [u8; 32]) -> Self {
        let hidden = AtomicU64::default();
        Self { key, hidden }
    }

    /// What the hash of one message begins with.
    pub(super) fn begin(&self, hash: &mut Sha256) {
        hash.update(self.key);
        hash.update(self.hidden.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    }
}

impl Recording {
    /// What gathers the frames of one direction.
    pub fn tap(&self, direction: Direction) -> Tap<'_> {
        Tap::new(self, direction)
    }

    /// Ends when something could not be recorded; never, when all of it is.
    pub async fn failed(&self) -> Failure {
        let (mut failing, mut stalled) = (self.failing.clone(), self.stalled.clone());
        loop {
            if let Some(failure) = self.failure() {
                return failure;
            }
            // When the recorder has ended, nobody tells anything any more.
            tokio::select! {
                Ok(()) = failing.changed() => {}
                Ok(()) = stalled.changed() => {}
                else => std::future::pending().await,
            }
        }
    }

    /// Whether something could not be recorded so far.
    pub fn failure(&self) -> Option<Failure> {
        let stalled = || self.stalled.borrow().then_some(Failure::Stalled);
        self.failing.borrow().or_else(stalled)
    }

    pub(super) fn fail(&self, failure: Failure) {
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert(failure);
            first
        });
    }

    /// Sends a message that has its place.
    pub(super) fn take(&self, mut message: Message, place: Place) -> bool {
        // Held until the message is in the queue, so that the two directions count as one.
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        message.lost_before = *lost;
        let command = Command::Message {
            session: self.number,
            message,
            place,
        };
        let is_taken = self.queue.send(command).is_ok();
        if is_taken {
            *lost = 0;
        } else {
            *lost += 1;
            self.fail(Failure::Write);
        }
        is_taken
    }

    /// Counts a message that passes without being recorded.
    pub(super) fn lose(&self) {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }

    /// Ends the recording, and waits until it is on disk, but not for long: `None`, when it is not by then. What could not be
    /// recorded at the very end is told too.
    pub async fn close(mut self, reason: &'static str) -> (Option<Closed>, Option<Failure>) {
        let closed = match self.end(reason) {
            Some(closed) => timeout(ANSWER_TIMEOUT, closed).await.ok().and_then(Result::ok),
            None => None,
        };
        (closed, self.failure())
    }

    fn end(&mut self, reason: &'static str) -> Option<oneshot::Receiver<Closed>> {
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
        self.queue.send(command).ok().map(|()| closed)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        self.end("dropped");
    }
}
