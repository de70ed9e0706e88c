//! Messages become records, each of which names the hash of the one before: a chain in which nothing can be changed, left out
//! or put in without every later hash being another one.
//!
//! `entryHash` is SHA-256 of `prevHash|seq|direction|messageType|payloadSha256|timestampUtc`, in hexadecimal. The fields that it leaves out
//! are held by [`Chain::records_hash`], which covers every byte of a record but the payload; the payload has a hash of its own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
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
        entry_hash(
            &self.prev_hash,
            self.seq,
            self.direction,
            self.message_type,
            &self.payload_sha256,
            &self.timestamp_utc,
        )
    }

    /// Everything but the payload, up to where that stands. No field needs escaping: they are numbers, words of ours and hexadecimal;
    /// of a record that was read, [`super::verify`] checks that it is the same text again.
    fn head(&self) -> String {
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
        let (direction, message_type) = (direction.as_str(), message_type.as_str());
        let mut head = format!(
            r#"{{"timestampUtc":"{timestamp_utc}","seq":{seq},"direction":"{direction}","messageType":"{message_type}","payloadBytes":{payload_bytes},"payloadSha256":"{payload_sha256}","prevHash":"{prev_hash}","entryHash":"{entry_hash}""#
        );
        if *withheld {
            head.push_str(r#","withheld":true"#);
        }
        if *lost_before > 0 {
            // Writing to a String can't fail.
            let _ = write!(head, r#","lostBefore":{lost_before}"#);
        }
        head
    }

    /// The one way to write this record, without the line's end.
    pub fn line(&self) -> String {
        let mut line = self.head();
        if let Some(payload) = &self.payload_base64 {
            line.reserve(payload.len() + 24);
            line.push_str(r#","payloadBase64":""#);
            line.push_str(payload);
            line.push('"');
        }
        line.push('}');
        line
    }
}

fn entry_hash(
    prev_hash: &str,
    seq: u64,
    direction: Direction,
    message_type: MessageType,
    payload_sha256: &str,
    timestamp_utc: &str,
) -> String {
    let (direction, message_type) = (direction.as_str(), message_type.as_str());
    hex_sha256(format!("{prev_hash}|{seq}|{direction}|{message_type}|{payload_sha256}|{timestamp_utc}").as_bytes())
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
}

impl Chain {
    /// The next record.
    pub fn append(&mut self, message: &Message) -> Record {
        let timestamp_utc = written(message.time);
        let payload_sha256 = hex(&message.sha256);
        let prev_hash = std::mem::take(&mut self.head);
        let seq = self.count + 1;
        let (direction, message_type) = (message.direction, message.message_type);
        let hash = entry_hash(
            &prev_hash,
            seq,
            direction,
            message_type,
            &payload_sha256,
            &timestamp_utc,
        );
        let record = Record {
            timestamp_utc,
            seq,
            direction,
            message_type,
            payload_bytes: message.bytes,
            payload_sha256,
            prev_hash,
            entry_hash: hash,
            withheld: message.withheld,
            lost_before: message.lost_before,
            payload_base64: message.payload.as_ref().map(|payload| STANDARD.encode(payload)),
        };
        self.accept(&record);
        record
    }

    /// Goes on to a record that was found to be the next one.
    pub(super) fn accept(&mut self, record: &Record) {
        self.count = record.seq;
        self.head.clone_from(&record.entry_hash);
        self.records.update(record.head().as_bytes());
        self.records.update(b"\n");
    }

    /// SHA-256 over every record so far, payloads left out.
    pub fn records_hash(&self) -> String {
        hex(&self.records.clone().finalize())
    }
}

#[cfg(test)]
mod tests {
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

    /// Computed apart from this program, with `sha256sum`.
    #[test]
    fn a_record_is_what_other_readers_expect() {
        let mut chain = Chain::default();
        let first = chain.append(&message(b"0ls\r"));
        insta::assert_snapshot!(first.line(), @r#"{"timestampUtc":"2026-01-02T03:04:05.123456Z","seq":1,"direction":"client_to_backend","messageType":"binary","payloadBytes":4,"payloadSha256":"84f0d68c40f810a7a3c22d7d40caa5e7a215ed813f50ded3e9a8737e7658b991","prevHash":"","entryHash":"04017cbface417a437c4331c9f07c1f03360832d7836e1190e17539801d3bdc4","payloadBase64":"MGxzDQ=="}"#);
        let second = chain.append(&message(b"0"));
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
            let record = chain.append(&message);
            assert_eq!(serde_json::from_str::<Record>(&record.line()).unwrap(), record);
        }
    }

    proptest! {
        #[test]
        fn every_field_is_held_by_a_hash(field in 0usize..8, payload in proptest::collection::vec(any::<u8>(), 1..40)) {
            let original = Chain::default().append(&message(&payload));
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
