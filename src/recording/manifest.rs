//! What is known of a session becomes its manifest, and the state of its chain a checkpoint: the documents that are signed.

use super::chain::Chain;
use super::seal::{Seal, Sealed};
use crate::config::recording::{Input, Mode};
use serde::{Deserialize, Serialize};

pub const SCHEMA_VERSION: &str = "1";

/// Whose session, where, and what joins it to logs and audit lines. No field can hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Meta {
    pub request_id: String,
    pub issuer: String,
    pub subject: String,
    pub user_id: String,
    pub namespace: String,
    pub workspace: String,
    /// The gateway process whose ledger tells of this session.
    pub gateway: String,
    pub input: Input,
    pub opened_at: String,
}

/// `<id>.manifest.json`: written when a session opens, and again when it has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: String,
    pub id: String,
    pub mode: Mode,
    pub meta: Meta,
    pub frame_count: u64,
    pub final_hash: String,
    pub records_hash: String,
    /// Messages after the last record that could not be taken.
    pub lost_after: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub close_reason: Option<String>,
    #[serde(flatten)]
    pub seal: Seal,
}

impl Manifest {
    /// Of a session that begins.
    pub fn open(id: &str, mode: Mode, meta: Meta) -> Self {
        Self {
            schema_version: SCHEMA_VERSION.to_owned(),
            id: id.to_owned(),
            mode,
            meta,
            frame_count: 0,
            final_hash: String::new(),
            records_hash: Chain::default().records_hash(),
            lost_after: 0,
            closed_at: None,
            close_reason: None,
            seal: Seal::default(),
        }
    }

    /// The same session when it has ended.
    pub fn close(&mut self, chain: &Chain, closed_at: String, reason: &str) {
        self.frame_count = chain.count;
        self.final_hash.clone_from(&chain.head);
        self.records_hash = chain.records_hash();
        self.closed_at = Some(closed_at);
        self.close_reason = Some(reason.to_owned());
        self.seal = Seal::default();
    }

    /// The one way to write it.
    pub fn text(&self) -> String {
        // Strings and numbers always become JSON.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

impl Sealed for Manifest {
    const KIND: &'static str = "devplane recording manifest 1";

    fn seal(&mut self) -> &mut Seal {
        &mut self.seal
    }
}

/// A line of `<id>.checkpoints.ndjson`: so far the recording was this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Checkpoint {
    pub session: String,
    pub timestamp_utc: String,
    pub frame_count: u64,
    pub head_hash: String,
    pub records_hash: String,
    #[serde(flatten)]
    pub seal: Seal,
}

impl Checkpoint {
    pub fn of(session: &str, chain: &Chain, timestamp_utc: String) -> Self {
        Self {
            session: session.to_owned(),
            timestamp_utc,
            frame_count: chain.count,
            head_hash: chain.head.clone(),
            records_hash: chain.records_hash(),
            seal: Seal::default(),
        }
    }
}

impl Sealed for Checkpoint {
    const KIND: &'static str = "devplane recording checkpoint 1";

    fn seal(&mut self) -> &mut Seal {
        &mut self.seal
    }
}
