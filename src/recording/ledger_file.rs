//! What happened to the sessions of this process becomes lines of its ledger. A line that the disk does not take is tried again.

use super::chain::hex_sha256;
use super::layout::{self, Contents};
use super::ledger::{Entry, Happened, Seen};
use super::seal::{Seal, SigningKey};
use crate::config::recording::Sync;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

pub struct LedgerFile {
    file: File,
    gateway: String,
    /// Lines that are wholly on disk, and the bytes of them.
    seq: u64,
    length: u64,
    head: String,
    waiting: VecDeque<(Happened, String)>,
    sync: Sync,
}

impl LedgerFile {
    /// Begins the ledger of `gateway`, with the ends of all others in the directory.
    pub fn start(
        directory: &Path,
        gateway: &str,
        key: Option<&SigningKey>,
        sync: Sync,
        now: String,
    ) -> io::Result<Self> {
        let seen = Contents::of(directory)?
            .gateways
            .iter()
            .filter_map(|other| seen(directory, other))
            .collect();
        let path = layout::ledger(directory, gateway);
        let mut ledger = Self {
            file: layout::new_file().create_new(true).append(true).open(path)?,
            gateway: gateway.to_owned(),
            seq: 0,
            length: 0,
            head: String::new(),
            waiting: VecDeque::new(),
            sync,
        };
        ledger.note(Happened::Started { seen }, now);
        ledger.write(key)?;
        Ok(ledger)
    }

    /// Adds what happened, to be written next.
    pub fn note(&mut self, happened: Happened, now: String) {
        self.waiting.push_back((happened, now));
    }

    /// Whether the disk has not taken what was noted.
    pub fn is_behind(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Takes back what was noted last, unless it is written.
    pub fn take_back(&mut self) -> bool {
        self.waiting.pop_back().is_some()
    }

    /// Writes what waits, all at once.
    ///
    /// # Errors
    /// When the disk does not take it, or does not keep what it took.
    pub fn write(&mut self, key: Option<&SigningKey>) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let (mut seq, mut head, mut lines) = (self.seq, self.head.clone(), String::new());
        for (happened, now) in &self.waiting {
            seq += 1;
            let mut entry = Entry {
                gateway: self.gateway.clone(),
                seq,
                timestamp_utc: now.clone(),
                happened: happened.clone(),
                prev_hash: head,
                seal: Seal::default(),
            };
            if let Some(key) = key {
                key.sign(&mut entry);
            }
            let line = entry.line();
            head = hex_sha256(line.as_bytes());
            lines.push_str(&line);
            lines.push('\n');
        }
        if let Err(error) = self.file.write_all(lines.as_bytes()) {
            // Half a line would make the next one unreadable.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        (self.seq, self.head) = (seq, head);
        self.length += lines.len() as u64;
        self.waiting.clear();
        if self.sync == Sync::Never {
            return Ok(());
        }
        self.file.sync_data()
    }
}

/// Of another ledger, no more is read than a line of it may be long, in bytes.
const LONGEST_LINE: u64 = 2 << 20;

/// The last whole line of another gateway's ledger, which may be in use.
fn seen(directory: &Path, gateway: &str) -> Option<Seen> {
    let mut file = layout::open_plain(&layout::ledger(directory, gateway)).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LONGEST_LINE))).ok()?;
    let mut text = Vec::new();
    file.take(LONGEST_LINE).read_to_end(&mut text).ok()?;
    let end = text.iter().rposition(|byte| *byte == b'\n')?;
    let start = text[..end]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let entry: Entry = serde_json::from_slice(&text[start..end]).ok()?;
    Some(Seen {
        gateway: gateway.to_owned(),
        seq: entry.seq,
        entry_hash: hex_sha256(&text[start..end]),
    })
}
