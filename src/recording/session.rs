//! The frames of one terminal become messages in the queue, in one order for both directions. Nothing here waits for a disk: what
//! finds no place is told of, and does not pass when everything that passes must be recorded.

use super::chain::{Direction, Message, MessageType};
use super::queue::{Command, OVERHEAD, Queue};
use crate::config::recording::{Input, Mode};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
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
    pub(super) mode: Mode,
    pub(super) input: Input,
    pub(super) is_strict: bool,
    pub(super) blind: [u8; 32],
    /// Messages since the last one that was taken.
    pub(super) lost: Mutex<u64>,
    pub(super) failed: watch::Sender<Option<Failure>>,
    pub(super) failing: watch::Receiver<Option<Failure>>,
    pub(super) stalled: watch::Receiver<bool>,
    pub(super) has_ended: bool,
}

impl Recording {
    /// What gathers the frames of one direction.
    pub fn tap(&self, direction: Direction) -> Tap<'_> {
        Tap {
            recording: self,
            direction,
            ahead: 0,
            message: None,
        }
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

    fn fail(&self, failure: Failure) {
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            failed.get_or_insert(failure);
            first
        });
    }

    /// Sends a message that has its place.
    fn take(&self, mut message: Message, weight: usize) -> bool {
        // Held until the message is in the queue, so that the two directions count as one.
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        message.lost_before = *lost;
        let command = Command::Message {
            session: self.number,
            message,
            weight,
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
    fn lose(&self) {
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

/// A part of a frame.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// The type of the message that begins with it.
    pub begins: Option<MessageType>,
    pub payload: &'a [u8],
    /// How many bytes of the same frame have yet to come.
    pub ahead: usize,
    /// Whether the message ends with it.
    pub is_last: bool,
}

/// Gathers the fragments of the messages of one direction.
pub struct Tap<'a> {
    recording: &'a Recording,
    direction: Direction,
    /// Bytes of the present frame that have yet to come.
    ahead: usize,
    message: Option<Gathered>,
}

struct Gathered {
    message_type: MessageType,
    bytes: u64,
    hash: Sha256,
    payload: Option<Vec<u8>>,
    withheld: bool,
    /// Its place in the queue, in bytes; `None` when it has none.
    place: Option<usize>,
}

impl Tap<'_> {
    /// Takes a part of a frame, and says whether it may pass. A frame that may begin to may pass as a whole.
    pub fn frame(&mut self, part: Part<'_>, now: impl FnOnce() -> Timestamp) -> bool {
        let Part {
            begins,
            payload,
            ahead,
            is_last,
        } = part;
        let recording = self.recording;
        let begins_frame = self.ahead == 0;
        self.ahead = ahead;
        let Some(mut gathered) = self.message.take().or_else(|| begins.map(Gathered::new)) else {
            // A continuation of nothing: the relay ends such a conversation.
            return true;
        };
        if begins_frame {
            let has_place = self.has_place(&mut gathered, begins.is_some(), payload.len() + ahead);
            if !has_place && recording.is_strict {
                return false;
            }
        }
        if gathered.bytes == 0 && !payload.is_empty() {
            self.first_bytes(&mut gathered, payload, ahead);
        }
        gathered.bytes += payload.len() as u64;
        if gathered.place.is_some() {
            gathered.hash.update(payload);
            if let Some(kept) = &mut gathered.payload {
                kept.extend_from_slice(payload);
            }
        }
        if !is_last {
            self.message = Some(gathered);
            return true;
        }
        self.whole(gathered, now());
        true
    }

    /// Takes room for the bytes of a frame; what has none loses what it had.
    fn has_place(&self, gathered: &mut Gathered, begins: bool, bytes: usize) -> bool {
        let recording = self.recording;
        // Whatever is accepted after the disk took no more is lost.
        if recording.is_strict && recording.failure().is_some() {
            self.give_back(gathered);
            return false;
        }
        let kept = if recording.mode == Mode::Full { bytes } else { 0 };
        let weight = kept + if begins { OVERHEAD } else { 0 };
        match gathered.place {
            Some(place) if recording.queue.reserve(weight) => gathered.place = Some(place + weight),
            Some(_) => {
                self.give_back(gathered);
                recording.fail(Failure::QueueFull);
            }
            None => {}
        }
        gathered.place.is_some()
    }

    fn give_back(&self, gathered: &mut Gathered) {
        self.recording
            .queue
            .give_back(gathered.place.take().unwrap_or_default());
        gathered.payload = None;
    }

    /// What a message is shows in its first byte, which need not be in its first fragment.
    fn first_bytes(&self, gathered: &mut Gathered, payload: &[u8], ahead: usize) {
        let recording = self.recording;
        // What is known not to be typed: the first message (JSON), resizing, pausing and resuming.
        let told = matches!(payload.first(), Some(b'{' | b'1' | b'2' | b'3'));
        if self.direction == Direction::ClientToBackend && recording.input == Input::Lengths && !told {
            gathered.withheld = true;
            gathered.hash.update(recording.blind);
        } else if recording.mode == Mode::Full && gathered.place.is_some() {
            gathered.payload = Some(Vec::with_capacity(payload.len() + ahead));
        }
    }

    fn whole(&self, gathered: Gathered, time: Timestamp) {
        let Gathered {
            message_type,
            bytes,
            hash,
            payload,
            withheld,
            place,
        } = gathered;
        let Some(weight) = place else {
            return self.recording.lose();
        };
        let keeps_payload = self.recording.mode == Mode::Full && !withheld;
        let message = Message {
            time,
            direction: self.direction,
            message_type,
            bytes,
            sha256: hash.finalize().into(),
            payload: keeps_payload.then(|| payload.unwrap_or_default()),
            withheld,
            lost_before: 0,
        };
        self.recording.take(message, weight);
    }
}

impl Drop for Tap<'_> {
    /// A message whose end never came was never one.
    fn drop(&mut self) {
        if let Some(mut gathered) = self.message.take() {
            self.give_back(&mut gathered);
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
            place: Some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::{Work, queue};
    use super::*;
    use std::collections::VecDeque;

    /// A recording whose disk takes nothing: nobody receives what is queued.
    fn stuck(input: Input, mode: Mode, limit: usize) -> (Recording, Work) {
        let (queue, work) = queue(limit);
        let (failed, failing) = watch::channel(None);
        let recording = Recording {
            id: "s".to_owned(),
            number: 0,
            queue,
            mode,
            input,
            is_strict: false,
            blind: [7; 32],
            lost: Mutex::default(),
            failed,
            failing,
            stalled: watch::channel(false).1,
            has_ended: false,
        };
        (recording, work)
    }

    /// What is queued; its places are free afterwards.
    fn messages(work: &Work) -> Vec<Message> {
        let mut batch = VecDeque::new();
        work.take(&mut batch, Duration::ZERO);
        batch
            .into_iter()
            .filter_map(|command| match command {
                Command::Message { message, weight, .. } => {
                    work.give_back(weight);
                    Some(message)
                }
                _ => None,
            })
            .collect()
    }

    /// Whether all of a message may pass.
    fn say(tap: &mut Tap<'_>, fragments: &[&[u8]]) -> bool {
        fragments.iter().enumerate().all(|(index, fragment)| {
            let part = Part {
                begins: (index == 0).then_some(MessageType::Binary),
                payload: fragment,
                ahead: 0,
                is_last: index + 1 == fragments.len(),
            };
            tap.frame(part, || Timestamp::UNIX_EPOCH)
        })
    }

    #[test]
    fn fragments_become_one_message() {
        let (recording, work) = stuck(Input::All, Mode::Full, 1 << 20);
        say(
            &mut recording.tap(Direction::BackendToClient),
            &[b"", b"0he", b"", b"llo"],
        );
        say(&mut recording.tap(Direction::ClientToBackend), &[b""]);
        let messages = messages(&work);
        assert_eq!(messages[0].payload.as_deref(), Some(&b"0hello"[..]));
        assert_eq!(messages[0].sha256, <[u8; 32]>::from(Sha256::digest(b"0hello")));
        assert_eq!((messages[0].bytes, messages[1].bytes), (6, 0));
        assert_eq!(messages[1].payload.as_deref(), Some(&b""[..]));
    }

    #[test]
    fn metadata_keeps_no_payload() {
        let (recording, work) = stuck(Input::All, Mode::Metadata, 1 << 20);
        say(&mut recording.tap(Direction::ClientToBackend), &[b"0x"]);
        let messages = messages(&work);
        assert_eq!((messages[0].payload.clone(), messages[0].withheld), (None, false));
    }

    #[test]
    fn what_is_typed_can_be_withheld_and_its_hash_can_t_be_tried_out() {
        for mode in [Mode::Full, Mode::Metadata] {
            let (recording, work) = stuck(Input::Lengths, mode, 1 << 20);
            let mut tap = recording.tap(Direction::ClientToBackend);
            say(&mut tap, &[b"0p"]);
            say(&mut tap, &[b"", b"0", b"p"]);
            say(&mut tap, &[b"1{\"columns\":80,\"rows\":24}"]);
            say(&mut recording.tap(Direction::BackendToClient), &[b"0p"]);
            let messages = messages(&work);
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
        let (recording, work) = stuck(Input::All, Mode::Full, 3 * OVERHEAD + 6);
        let mut tap = recording.tap(Direction::BackendToClient);
        for _ in 0..3 {
            assert!(say(&mut tap, &[b"0x"]));
        }
        assert_eq!(recording.failure(), None);
        assert!(say(&mut tap, &[b"0y"]) && say(&mut tap, &[b"0y"]));
        assert_eq!(recording.failed().await, Failure::QueueFull);
        assert_eq!(messages(&work).len(), 3);
        say(&mut tap, &[b"0z"]);
        say(&mut tap, &[b"0z"]);
        let later: Vec<_> = messages(&work).iter().map(|message| message.lost_before).collect();
        assert_eq!(later, [2, 0]);
    }

    #[test]
    fn what_has_no_place_does_not_pass_when_it_must_be_recorded() {
        let (mut recording, work) = stuck(Input::All, Mode::Full, 2 * OVERHEAD + 8);
        recording.is_strict = true;
        let mut tap = recording.tap(Direction::BackendToClient);
        assert!(say(&mut tap, &[b"0x"]));
        // The second fragment has no place.
        assert!(!say(&mut tap, &[b"0y", b"yyyyyyyy"]));
        assert_eq!(recording.failure(), Some(Failure::QueueFull));
        assert_eq!(messages(&work).len(), 1);
        // From then on nothing passes, whatever place there is.
        assert!(!say(&mut tap, &[b"0z"]));
        assert!(!say(&mut recording.tap(Direction::ClientToBackend), &[b"0z"]));
        assert!(messages(&work).is_empty());
        drop(tap);
        assert!(recording.queue.reserve(2 * OVERHEAD + 8), "no place is kept");
        assert_eq!(*recording.lost.lock().unwrap(), 0, "nothing passed unrecorded");
    }

    #[test]
    fn a_frame_that_begins_to_pass_may_pass_as_a_whole() {
        for (bytes, passes) in [(10, true), (11, false)] {
            let (mut recording, work) = stuck(Input::All, Mode::Full, OVERHEAD + 10);
            recording.is_strict = true;
            let mut tap = recording.tap(Direction::BackendToClient);
            let mut part = Part {
                begins: Some(MessageType::Binary),
                payload: b"0aaaa",
                ahead: bytes - 5,
                is_last: false,
            };
            assert_eq!(tap.frame(part, || Timestamp::UNIX_EPOCH), passes);
            if passes {
                recording.fail(Failure::Write);
                part = Part {
                    begins: None,
                    payload: b"bbbbb",
                    ahead: 0,
                    is_last: true,
                };
                assert!(tap.frame(part, || Timestamp::UNIX_EPOCH));
                assert_eq!(messages(&work)[0].payload.as_deref(), Some(&b"0aaaabbbbb"[..]));
            }
        }
    }
}
