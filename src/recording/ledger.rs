//! The sessions of one gateway process become its ledger: a chain of signed lines, one for each manifest that was written and each
//! session that was removed, and now and then one that says how far the open ones are signed. A session that is missing, that was made to
//! look as if it had never ended, or that was cut together with its last checkpoints, is found by it.
//!
//! A ledger begins with the ends of all others that were there, so that a later one tells when an earlier one was cut or taken away.

use super::chain::hex_sha256;
use super::seal::{Seal, Sealed};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum Happened {
    /// The gateway began. `seen` are the ledgers of others.
    Started { seen: Vec<Seen> },
    /// A session was opened, and its manifest is this.
    #[serde(rename_all = "camelCase")]
    Opened { session: String, manifest_sha256: String },
    /// Open sessions have checkpoints since the last such line: of each, the number of records that its newest one speaks of.
    Sealed { records: BTreeMap<String, u64> },
    /// It has ended, and its manifest is this.
    #[serde(rename_all = "camelCase")]
    Closed { session: String, manifest_sha256: String },
    /// A session, maybe of another gateway, was removed because it was too old or there were too many.
    Removed { session: String, reason: String },
    /// The ledger of a gateway none of whose sessions is left.
    LedgerRemoved { ledger: String },
    /// The gateway stopped as it should.
    Stopped,
}

/// How far the ledger of another gateway had come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    pub gateway: String,
    pub seq: u64,
    pub entry_hash: String,
}

/// A line of `ledger-<gateway>.ndjson`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub gateway: String,
    pub seq: u64,
    pub timestamp_utc: String,
    #[serde(flatten)]
    pub happened: Happened,
    pub prev_hash: String,
    #[serde(flatten)]
    pub seal: Seal,
}

impl Entry {
    /// The one way to write it, without the line's end.
    pub fn line(&self) -> String {
        // Strings and numbers always become JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// What the next entry names as the one before.
    pub fn hash(&self) -> String {
        hex_sha256(self.line().as_bytes())
    }
}

impl Sealed for Entry {
    const KIND: &'static str = "devplane recording ledger 1";

    fn seal(&mut self) -> &mut Seal {
        &mut self.seal
    }
}
