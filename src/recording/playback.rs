//! Records become what was seen and typed: ttyd's messages without ttyd.

use super::chain::{Direction, Record};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::Deserialize;

/// Something at a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Timestamp,
    pub what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    Output(Vec<u8>),
    Input(Vec<u8>),
    Resize(Size),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Size {
    pub columns: u16,
    pub rows: u16,
}

impl Default for Size {
    fn default() -> Self {
        Self { columns: 80, rows: 24 }
    }
}

/// A size that a client sent is whatever it liked to send: what no screen has is brought to what one can have.
const SMALLEST: Size = Size { columns: 4, rows: 2 };
const LARGEST: Size = Size {
    columns: 1000,
    rows: 500,
};

/// What a record shows; `None` when it shows nothing, or its payload is not there.
pub fn event(record: &Record) -> Option<Event> {
    let at = record.timestamp_utc.parse().ok()?;
    let payload = STANDARD.decode(record.payload_base64.as_ref()?).ok()?;
    let what = match (record.direction, payload.as_slice()) {
        (Direction::BackendToClient, [b'0', output @ ..]) => What::Output(output.to_vec()),
        (Direction::ClientToBackend, [b'0', input @ ..]) => What::Input(input.to_vec()),
        (Direction::ClientToBackend, [b'1', size @ ..]) => What::Resize(read_size(size)?),
        // The first message has a size among others.
        (Direction::ClientToBackend, size @ [b'{', ..]) => What::Resize(read_size(size)?),
        _ => return None,
    };
    Some(Event { at, what })
}

fn read_size(json: &[u8]) -> Option<Size> {
    let size: Size = serde_json::from_slice(json).ok()?;
    Some(Size {
        columns: size.columns.clamp(SMALLEST.columns, LARGEST.columns),
        rows: size.rows.clamp(SMALLEST.rows, LARGEST.rows),
    })
}

/// Bytes that come in pieces become text: a character that is cut in two waits for its other half.
#[derive(Debug, Default)]
pub struct Utf8 {
    rest: Vec<u8>,
}

impl Utf8 {
    pub fn text(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let mut text = String::new();
        let mut kept = 0;
        for chunk in self.rest.utf8_chunks() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let used = chunk.valid().len() + invalid.len();
            let is_last = kept + used == self.rest.len();
            let begins = std::str::from_utf8(invalid).is_err_and(|error| error.error_len().is_none());
            if is_last && begins && !invalid.is_empty() {
                kept += chunk.valid().len();
                break;
            }
            if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
            kept += used;
        }
        self.rest.drain(..kept);
        text
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::recording::chain::tests::appended;
    use crate::recording::chain::{Chain, Message, MessageType};
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    /// Events as they come out of records of these messages, a second apart.
    pub(in crate::recording) fn played(messages: &[(Direction, &[u8])]) -> Vec<Event> {
        let mut chain = Chain::default();
        let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let records = messages.iter().enumerate().map(|(index, (direction, payload))| {
            let message = Message {
                time: start + jiff::SignedDuration::from_secs(index as i64),
                direction: *direction,
                message_type: MessageType::Binary,
                bytes: payload.len() as u64,
                sha256: Sha256::digest(payload).into(),
                payload: Some(payload.to_vec()),
                withheld: false,
                lost_before: 0,
            };
            appended(&mut chain, &message)
        });
        records.filter_map(|record| event(&record)).collect()
    }

    #[test]
    fn messages_of_ttyd_are_what_they_show() {
        use Direction::{BackendToClient as Out, ClientToBackend as In};
        let what: Vec<_> = played(&[
            (In, b"{\"AuthToken\":\"\",\"columns\":100,\"rows\":30}"),
            (Out, b"1title"),
            (Out, b"2{}"),
            (Out, b"0$ "),
            (In, b"0ls\r"),
            (In, b"1{\"columns\":0,\"rows\":65535}"),
            (In, b"2"),
            (In, b""),
        ])
        .into_iter()
        .map(|event| event.what)
        .collect();
        assert_eq!(
            what,
            [
                What::Resize(Size { columns: 100, rows: 30 }),
                What::Output(b"$ ".to_vec()),
                What::Input(b"ls\r".to_vec()),
                What::Resize(Size { columns: 4, rows: 500 }),
            ]
        );
    }

    #[test]
    fn a_character_in_two_pieces_is_one() {
        let mut utf8 = Utf8::default();
        let pieces: [&[u8]; 4] = [b"a\xe2\x82", b"\xac\xff", b"b\xf0\x9f", b"c"];
        let text: Vec<String> = pieces.iter().map(|piece| utf8.text(piece)).collect();
        assert_eq!(text, ["a", "€\u{fffd}", "b", "\u{fffd}c"]);
    }

    proptest! {
        #[test]
        fn text_is_the_same_however_it_is_cut(text in "\\PC{0,40}", cuts in proptest::collection::vec(1usize..5, 0..60)) {
            let mut utf8 = Utf8::default();
            let mut rest = text.as_bytes();
            let mut joined = String::new();
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                joined.push_str(&utf8.text(piece));
                rest = after;
            }
            joined.push_str(&utf8.text(rest));
            prop_assert_eq!(joined, text);
        }
    }
}
