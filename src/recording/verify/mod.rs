//! What is on disk becomes a verdict: which record, checkpoint, manifest or ledger line is not what was written.

mod directory;
mod session;

pub use directory::{Verdict, directory};
pub use session::session;

use super::manifest::Manifest;
use super::seal::{Sealed, Trust, TrustedKeys};
use serde::de::DeserializeOwned;

/// What was found of one session.
#[derive(Debug)]
pub struct SessionReport {
    pub id: String,
    /// Unless it is missing or can't be read.
    pub manifest: Option<Manifest>,
    /// SHA-256 of the manifest's text.
    pub manifest_sha256: String,
    /// Whether there is a file of records, whatever is in it.
    pub has_records: bool,
    /// Whole records whose chain holds.
    pub records: u64,
    /// Those of them that a checkpoint or the manifest speaks of.
    pub sealed: u64,
    /// Evidence of change or loss.
    pub problems: Vec<String>,
    /// What an end that was not in order leaves, and what could not be checked.
    pub notes: Vec<String>,
}

impl SessionReport {
    fn new(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            manifest: None,
            manifest_sha256: String::new(),
            has_records: false,
            records: 0,
            sealed: 0,
            problems: vec![],
            notes: vec![],
        }
    }

    pub fn is_closed(&self) -> bool {
        self.manifest
            .as_ref()
            .is_some_and(|manifest| manifest.closed_at.is_some())
    }
}

/// Reads a document that must be written in the one way that it can be.
fn exactly<T: DeserializeOwned>(text: &[u8], write: impl Fn(&T) -> String) -> Result<T, String> {
    let document: T = serde_json::from_slice(text).map_err(|error| format!("can't be read ({error})"))?;
    if write(&document).as_bytes() == text {
        Ok(document)
    } else {
        Err("is not written as this program writes it".to_owned())
    }
}

/// What is wrong with the signature of a document; `Ok(false)` when there is nothing to hold it to.
fn signature<T: Sealed>(document: &T, keys: &TrustedKeys) -> Result<bool, String> {
    match keys.check(document) {
        Trust::Good => Ok(true),
        Trust::Unsigned if keys.is_empty() => Ok(false),
        Trust::Unsigned => Err("it is not signed".to_owned()),
        Trust::Unchecked => Ok(false),
        Trust::Bad(problem) => Err(problem),
    }
}
