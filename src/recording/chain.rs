//! Messages become records, each of which names the hash of the one before: a chain in which nothing can be changed, left out
//! or put in without every later hash being another one.
//!
//! `entryHash` is SHA-256 of `prevHash|seq|direction|messageType|payloadSha256|timestampUtc`, in hexadecimal. The fields that it leaves out
//! are held by [`Chain::records_hash`], which covers every byte of a record but the payload; the payload has a hash of its own.

use jiff::Timestamp;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::fmt::Write;

/// Who said it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    ClientToBackend,
    BackendToClient,
}

impl Direction {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientToBackend => "client_to_backend",
            Self::BackendToClient => "backend_to_client",
        }
    }
}

/// The kind of a WebSocket message (RFC 6455, section 5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageType {
    Text,
    Binary,
}

impl MessageType {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Binary => "binary",
        }
    }
}

/// A SHA-256 in hexadecimal.
pub fn hex_sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// A time as records have it: always with microseconds, so that there is one way to write it.
pub fn written(time: Timestamp) -> String {
    format!("{time:.6}")
}

/// Times of one second after the other, most of which differ by their last digits alone.
#[derive(Clone, Debug, Default)]
struct Written {
    /// Of the last one; as what `text` begins with.
    second: Option<i64>,
    text: String,
}

impl Written {
    /// The same as [`written`].
    fn written(&mut self, time: Timestamp) -> &str {
        let second = time.as_second();
        // Before 1970, the second and what is behind its point go apart.
        if second < 0 || self.second != Some(second) {
            self.text = written(time);
            self.second = Some(second);
        } else {
            let behind_point = self.text.len().saturating_sub("123456Z".len());
            self.text.truncate(behind_point);
            // Writing to a String can't fail.
            let _ = write!(self.text, "{:06}Z", time.subsec_microsecond());
        }
        &self.text
    }
}

/// A whole message, before it has a place in the chain.
#[derive(Clone, Debug)]
pub struct Message {
    pub time: Timestamp,
    pub direction: Direction,
    pub message_type: MessageType,
    pub bytes: u64,
    /// Of the payload; or, when `withheld`, of the payload and a key that nobody keeps.
    pub sha256: [u8; 32],
    /// Only in mode `full`.
    pub payload: Option<Vec<u8>>,
    /// What was typed is kept as a length and a hash that can't be tried out.
    pub withheld: bool,
    /// Messages just before this one that could not be taken.
    pub lost_before: u64,
}

/// One line of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Record {
    pub timestamp_utc: String,
    pub seq: u64,
    pub direction: Direction,
    pub message_type: MessageType,
    pub payload_bytes: u64,
    pub payload_sha256: String,
    pub prev_hash: String,
    pub entry_hash: String,
    #[serde(default)]
    pub withheld: bool,
    #[serde(default)]
    pub lost_before: u64,
    #[serde(default)]
    pub payload_base64: Option<String>,
}

impl Record {
    /// What `entryHash` must be.
    pub fn computed_hash(&self) -> String {
        hex(&self.head().entry_hash(&mut vec![]))
    }

    fn head(&self) -> Head<'_> {
        let Self {
            timestamp_utc,
            seq,
            direction,
            message_type,
            payload_bytes,
            payload_sha256,
            prev_hash,
            entry_hash,
            withheld,
            lost_before,
            payload_base64: _,
        } = self;
        Head {
            timestamp_utc,
            seq: *seq,
            direction: *direction,
            message_type: *message_type,
            payload_bytes: *payload_bytes,
            payload_sha256,
            prev_hash,
            entry_hash,
            withheld: *withheld,
            lost_before: *lost_before,
        }
    }

    /// The one way to write this record, without the line's end.
    pub fn line(&self) -> String {
        let mut line = vec![];
        self.head().write(&mut line);
        if let Some(payload) = &self.payload_base64 {
            line.extend_from_slice(PAYLOAD);
            line.extend_from_slice(payload.as_bytes());
            line.push(b'"');
        }
        line.push(b'}');
        // It was made of text.
        String::from_utf8(line).unwrap_or_default()
    }
}

const PAYLOAD: &[u8] = br#","payloadBase64":""#;

/// Everything of a record but its payload. No field needs escaping: they are numbers, words of ours and hexadecimal; of a record
/// that was read, [`super::verify`] checks that it is the same text again.
struct Head<'a> {
    timestamp_utc: &'a str,
    seq: u64,
    direction: Direction,
    message_type: MessageType,
    payload_bytes: u64,
    payload_sha256: &'a str,
    prev_hash: &'a str,
    entry_hash: &'a str,
    withheld: bool,
    lost_before: u64,
}

impl Head<'_> {
    /// What `entryHash` must be; `scratch` is room for what is hashed.
    fn entry_hash(&self, scratch: &mut Vec<u8>) -> [u8; 32] {
        scratch.clear();
        for field in [
            self.prev_hash,
            Decimal::of(self.seq).as_str(),
            self.direction.as_str(),
            self.message_type.as_str(),
            self.payload_sha256,
        ] {
            scratch.extend_from_slice(field.as_bytes());
            scratch.push(b'|');
        }
        scratch.extend_from_slice(self.timestamp_utc.as_bytes());
        Sha256::digest(scratch).into()
    }

    /// Up to where the payload stands.
    fn write(&self, line: &mut Vec<u8>) {
        let (seq, payload_bytes) = (Decimal::of(self.seq), Decimal::of(self.payload_bytes));
        for piece in [
            r#"{"timestampUtc":""#,
            self.timestamp_utc,
            r#"","seq":"#,
            seq.as_str(),
            r#","direction":""#,
            self.direction.as_str(),
            r#"","messageType":""#,
            self.message_type.as_str(),
            r#"","payloadBytes":"#,
            payload_bytes.as_str(),
            r#","payloadSha256":""#,
            self.payload_sha256,
            r#"","prevHash":""#,
            self.prev_hash,
            r#"","entryHash":""#,
            self.entry_hash,
            r#"""#,
        ] {
            line.extend_from_slice(piece.as_bytes());
        }
        if self.withheld {
            line.extend_from_slice(br#","withheld":true"#);
        }
        if self.lost_before > 0 {
            line.extend_from_slice(br#","lostBefore":"#);
            line.extend_from_slice(Decimal::of(self.lost_before).as_str().as_bytes());
        }
    }
}

/// A number as text, without an allocation.
struct Decimal {
    digits: [u8; 20],
    start: usize,
}

impl Decimal {
    fn of(mut number: u64) -> Self {
        let (mut digits, mut start) = ([b'0'; 20], 20);
        loop {
            start -= 1;
            digits[start] = b'0' + (number % 10) as u8;
            number /= 10;
            if number == 0 {
                return Self { digits, start };
            }
        }
    }

    fn as_str(&self) -> &str {
        // Digits are text.
        std::str::from_utf8(&self.digits[self.start..]).unwrap_or_default()
    }
}

/// A hash in hexadecimal, without an allocation.
struct Hex([u8; 64]);

impl Hex {
    fn of(hash: &[u8; 32]) -> Self {
        let mut text = [0; 64];
        data_encoding::HEXLOWER.encode_mut(hash, &mut text);
        Self(text)
    }

    fn as_str(&self) -> &str {
        // So is hexadecimal.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// The end of a chain: what the next record goes on from.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Records so far; the next one's `seq` is one more.
    pub count: u64,
    /// `entryHash` of the last one; empty before the first.
    pub head: String,
    /// Over the heads of all records.
    records: Sha256,
    clock: Written,
    scratch: Vec<u8>,
}

impl Chain {
    /// Appends the line of the next record to `lines`.
    pub fn append(&mut self, message: &Message, lines: &mut Vec<u8>) {
        self.count += 1;
        let payload_sha256 = Hex::of(&message.sha256);
        let timestamp_utc = self.clock.written(message.time);
        let mut head = Head {
            timestamp_utc,
            seq: self.count,
            direction: message.direction,
            message_type: message.message_type,
            payload_bytes: message.bytes,
            payload_sha256: payload_sha256.as_str(),
            prev_hash: &self.head,
            entry_hash: "",
            withheld: message.withheld,
            lost_before: message.lost_before,
        };
        let entry_hash = Hex::of(&head.entry_hash(&mut self.scratch));
        head.entry_hash = entry_hash.as_str();
        let start = lines.len();
        head.write(lines);
        self.records.update(&lines[start..]);
        self.records.update(b"\n");
        self.head.clear();
        self.head.push_str(entry_hash.as_str());
        if let Some(payload) = &message.payload {
            lines.extend_from_slice(PAYLOAD);
            base64_simd::STANDARD.encode_append(payload, lines);
            lines.push(b'"');
        }
        lines.extend_from_slice(b"}\n");
    }

    /// Goes on to a record that was found to be the next one.
    pub(super) fn accept(&mut self, record: &Record) {
        self.count = record.seq;
        self.head.clone_from(&record.entry_hash);
        self.scratch.clear();
        record.head().write(&mut self.scratch);
        self.records.update(&self.scratch);
        self.records.update(b"\n");
    }

    /// SHA-256 over every record so far, payloads left out.
    pub fn records_hash(&self) -> String {
        hex(&self.records.clone().finalize())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(payload: &[u8]) -> Message {
        Message {
            time: "2026-01-02T03:04:05.123456789Z".parse().unwrap(),
            direction: Direction::ClientToBackend,
            message_type: MessageType::Binary,
            bytes: payload.len() as u64,
            sha256: Sha256::digest(payload).into(),
            payload: Some(payload.to_vec()),
            withheld: false,
            lost_before: 0,
        }
    }

    /// The record of a message, read from its line.
    pub fn appended(chain: &mut Chain, message: &Message) -> Record {
        let mut line = vec![];
        chain.append(message, &mut line);
        let record: Record = serde_json::from_slice(&line).unwrap();
        assert_eq!(format!("{}\n", record.line()).as_bytes(), line);
        record
    }

    /// Computed apart from this program, with `sha256sum`.
    #[test]
    fn a_record_is_what_other_readers_expect() {
        let mut chain = Chain::default();
        let first = appended(&mut chain, &message(b"0ls\r"));
        insta::assert_snapshot!(first.line(), @r#"{"timestampUtc":"2026-01-02T03:04:05.123456Z","seq":1,"direction":"client_to_backend","messageType":"binary","payloadBytes":4,"payloadSha256":"84f0d68c40f810a7a3c22d7d40caa5e7a215ed813f50ded3e9a8737e7658b991","prevHash":"","entryHash":"04017cbface417a437c4331c9f07c1f03360832d7836e1190e17539801d3bdc4","payloadBase64":"MGxzDQ=="}"#);
        let second = appended(&mut chain, &message(b"0"));
        assert_eq!(second.prev_hash, first.entry_hash);
        assert_eq!((second.seq, chain.count), (2, 2));
    }

    #[test]
    fn a_line_is_read_as_the_record_that_it_was_written_from() {
        let mut chain = Chain::default();
        let withheld = Message {
            withheld: true,
            lost_before: 3,
            payload: None,
            ..message(b"0x")
        };
        for message in [message(b""), withheld] {
            let before = chain.clone();
            let record = appended(&mut chain, &message);
            assert_eq!(serde_json::from_str::<Record>(&record.line()).unwrap(), record);
            assert_eq!(record.computed_hash(), record.entry_hash);
            let mut read = Chain {
                head: record.prev_hash.clone(),
                ..before
            };
            read.accept(&record);
            assert_eq!(
                (read.count, &read.head, read.records_hash()),
                (chain.count, &chain.head, chain.records_hash())
            );
        }
    }

    proptest! {
        #[test]
        fn times_are_written_one_way(microseconds in proptest::collection::vec(-3_000_000i64..3_000_000, 1..20), start in 0i64..2_000_000_000) {
            let mut clock = Written::default();
            for micro in microseconds {
                let time = Timestamp::from_microsecond(start * 1_000_000 + micro).unwrap();
                prop_assert_eq!(clock.written(time), written(time));
            }
        }

        #[test]
        fn numbers_are_written_as_usual(number: u64) {
            let decimal = Decimal::of(number);
            prop_assert_eq!(decimal.as_str(), number.to_string());
        }

        #[test]
        fn every_field_is_held_by_a_hash(field in 0usize..8, payload in proptest::collection::vec(any::<u8>(), 1..40)) {
            let original = appended(&mut Chain::default(), &message(&payload));
            let mut changed = original.clone();
            match field {
                0 => changed.timestamp_utc = "2026-01-02T03:04:05.123457Z".into(),
                1 => changed.seq += 1,
                2 => changed.direction = Direction::BackendToClient,
                3 => changed.message_type = MessageType::Text,
                4 => changed.payload_bytes += 1,
                5 => changed.payload_sha256 = hex_sha256(b"other"),
                6 => changed.withheld = true,
                _ => changed.lost_before += 1,
            }
            let heads = [&original, &changed].map(|record| {
                let mut chain = Chain::default();
                chain.accept(record);
                chain.records_hash()
            });
            prop_assert_ne!(&heads[0], &heads[1]);
            let by_the_entry = changed.computed_hash() != original.entry_hash;
            prop_assert_eq!(by_the_entry, matches!(field, 0..=3 | 5));
        }
    }
}
