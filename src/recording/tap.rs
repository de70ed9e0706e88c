//! The frames of one terminal become messages, each with its place in the queue. Nothing here waits for a disk: what finds no place is told
//! of, and does not pass when everything that passes must be recorded.

use super::chain::{Direction, Message, MessageType};
use super::queue::{OVERHEAD, Place};
use super::session::{Failure, Recording};
use crate::config::recording::{Input, Mode};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

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
    /// Its place in the queue; `None` when it has none.
    place: Option<Place>,
}

impl<'a> Tap<'a> {
    pub(super) fn new(recording: &'a Recording, direction: Direction) -> Self {
        Self {
            recording,
            direction,
            ahead: 0,
            message: None,
        }
    }
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
        let Some(mut gathered) = self
            .message
            .take()
            .or_else(|| begins.map(|kind| Gathered::new(kind, recording.share.place())))
        else {
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
            gathered.lose_place();
            return false;
        }
        let kept = if recording.mode == Mode::Full { bytes } else { 0 };
        let weight = kept + if begins { OVERHEAD } else { 0 };
        if gathered.place.as_mut().is_some_and(|place| !place.grow(weight)) {
            gathered.lose_place();
            recording.fail(Failure::QueueFull);
        }
        gathered.place.is_some()
    }

    /// What a message is shows in its first byte, which need not be in its first fragment.
    fn first_bytes(&self, gathered: &mut Gathered, payload: &[u8], ahead: usize) {
        let recording = self.recording;
        if recording.input == Input::Lengths && self.tells_what_is_typed(payload) {
            gathered.withheld = true;
            recording.blind.begin(&mut gathered.hash);
        } else if recording.mode == Mode::Full && gathered.place.is_some() {
            gathered.payload = Some(Vec::with_capacity(payload.len() + ahead));
        }
    }

    /// Whether the hash of a message would tell it to whoever tries keys. Without the payloads, that of an echo would, too.
    fn tells_what_is_typed(&self, payload: &[u8]) -> bool {
        match (self.recording.mode, self.direction) {
            (Mode::Metadata, _) => true,
            (Mode::Full, Direction::BackendToClient) => false,
            // What is known not to be typed: the first message (JSON), resizing, pausing and resuming.
            (Mode::Full, Direction::ClientToBackend) => !matches!(payload.first(), Some(b'{' | b'1' | b'2' | b'3')),
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
        let Some(place) = place else {
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
        self.recording.take(message, place);
    }
}

impl Gathered {
    fn new(message_type: MessageType, place: Place) -> Self {
        Self {
            message_type,
            bytes: 0,
            hash: Sha256::new(),
            payload: None,
            withheld: false,
            place: Some(place),
        }
    }

    fn lose_place(&mut self) {
        self.place = None;
        self.payload = None;
    }
}

#[cfg(test)]
mod tests {
    use super::super::queue::{Command, Queue, Work, queue};
    use super::super::session::Blind;
    use super::*;
    use std::collections::{HashSet, VecDeque};
    use std::sync::Mutex;
    use std::time::Duration;
    use tokio::sync::watch;

    /// A recording whose disk takes nothing: nobody receives what is queued.
    fn stuck(input: Input, mode: Mode, limit: usize) -> (Recording, Work) {
        let (queue, work) = queue(limit);
        (recording(&queue, 0, input, mode), work)
    }

    fn recording(queue: &Queue, number: u64, input: Input, mode: Mode) -> Recording {
        let (failed, failing) = watch::channel(None);
        Recording {
            id: "s".to_owned(),
            number,
            share: queue.share(),
            queue: queue.clone(),
            mode,
            input,
            is_strict: false,
            blind: Blind::new([7; 32]),
            lost: Mutex::default(),
            failed,
            failing,
            stalled: watch::channel(false).1,
            has_ended: false,
        }
    }

    /// What is queued; its places are free afterwards.
    fn messages(work: &Work) -> Vec<Message> {
        let mut batch = VecDeque::new();
        work.take(&mut batch, Duration::ZERO);
        batch
            .into_iter()
            .filter_map(|command| match command {
                Command::Message { message, .. } => Some(message),
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
                // Without payloads, an echo would tell what was typed.
                assert_eq!(shown.withheld, mode == Mode::Metadata);
                assert_eq!(shown.payload.is_some(), mode == Mode::Full);
            }
        }
    }

    /// Otherwise the hashes of what is typed, beside what is shown, would be read as a cipher, and then those of a password.
    #[test]
    fn the_same_key_never_has_the_same_hash_when_it_is_withheld() {
        for mode in [Mode::Full, Mode::Metadata] {
            let (recording, work) = stuck(Input::Lengths, mode, 1 << 20);
            let (mut typed, mut shown) = (
                recording.tap(Direction::ClientToBackend),
                recording.tap(Direction::BackendToClient),
            );
            for _ in 0..20 {
                say(&mut typed, &[b"0p"]);
                say(&mut shown, &[b"0p"]);
            }
            let messages = messages(&work);
            let withheld: Vec<_> = messages.iter().filter(|message| message.withheld).collect();
            let hashes: HashSet<_> = withheld.iter().map(|message| message.sha256).collect();
            assert_eq!(hashes.len(), withheld.len());
            assert_eq!(withheld.len(), if mode == Mode::Full { 20 } else { 40 });
            assert!(!hashes.contains(&<[u8; 32]>::from(Sha256::digest(b"0p"))));
        }
    }

    /// One terminal that says more than the disk takes ends, or has a gap, and no other one.
    #[test]
    fn a_flood_fails_its_own_session_alone() {
        for is_strict in [true, false] {
            let (queue, _work) = queue(1 << 20);
            let [mut floods, mut types] = [0, 1].map(|number| recording(&queue, number, Input::All, Mode::Full));
            (floods.is_strict, types.is_strict) = (is_strict, is_strict);
            let (mut flood, mut keys) = (
                floods.tap(Direction::BackendToClient),
                types.tap(Direction::ClientToBackend),
            );
            for _ in 0..100 {
                let passes = say(&mut flood, &[&[b'0'; 32 << 10]]);
                assert!(passes || (is_strict && floods.failure().is_some()));
                assert!(say(&mut keys, &[b"0x"]));
            }
            assert_eq!(floods.failure(), Some(Failure::QueueFull));
            assert_eq!(types.failure(), None);
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
        assert!(recording.share.place().grow(2 * OVERHEAD + 8), "no place is kept");
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
