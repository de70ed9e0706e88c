//! The records of one session become lines of its file, and the state of their chain lines of its checkpoints, as long as the disk takes them.

use super::chain::Chain;
use super::layout::{Files, new_file};
use super::manifest::{Checkpoint, Manifest};
use super::queue::Place;
use super::session::Failure;
use crate::config::recording::Sync;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;
use tokio::sync::watch;

/// A session that is open.
pub struct SessionFile {
    pub files: Files,
    pub manifest: Manifest,
    pub records: File,
    pub checkpoints: File,
    pub failed: watch::Sender<Option<Failure>>,
    /// What is on disk, in whole records and bytes.
    pub on_disk: Chain,
    pub length: u64,
    /// With what is about to be written.
    pub chain: Chain,
    pub buffer: Vec<u8>,
    /// Of the messages in the buffer.
    pub place: Place,
    pub sealed: u64,
    pub sealed_at: Instant,
    pub checkpoints_length: u64,
    /// Messages that came after the disk took no more.
    pub lost: u64,
    pub broken: bool,
}

/// A file that was not there before.
pub fn new(path: &Path) -> io::Result<File> {
    new_file().create_new(true).append(true).open(path)
}

impl SessionFile {
    pub fn write(&mut self, sync: Sync) {
        if self.buffer.is_empty() {
            // One large paste must not hold its memory for hours; and while there is much to write, memory is not given back and
            // asked for again each time.
            self.buffer.shrink_to(0);
            return;
        }
        let result = self.records.write_all(&self.buffer).and_then(|()| match sync {
            Sync::Batch => self.records.sync_data(),
            Sync::Never | Sync::Checkpoint => Ok(()),
        });
        match result {
            Ok(()) => {
                self.length += self.buffer.len() as u64;
                self.on_disk = self.chain.clone();
            }
            Err(error) => self.fail(&error),
        }
        self.place.clear();
        self.buffer.clear();
    }

    /// What is on disk ends with a whole record again, and nothing more is added.
    fn fail(&mut self, error: &io::Error) {
        self.broken = true;
        self.lost += self.chain.count - self.on_disk.count;
        let _ = self.records.set_len(self.length);
        tracing::error!(recording = self.files.id, %error, "a session can't be recorded any more");
        self.failed.send_replace(Some(Failure::Write));
    }

    pub fn write_checkpoint(&mut self, checkpoint: &Checkpoint, sync: Sync) -> io::Result<()> {
        // Strings and numbers always become JSON.
        let line = serde_json::to_string(checkpoint).unwrap_or_default() + "\n";
        if sync != Sync::Never
            && let Err(error) = self.records.sync_data()
        {
            // What a disk has not kept once, it does not tell of again.
            self.fail(&error);
            return Err(error);
        }
        if let Err(error) = self.checkpoints.write_all(line.as_bytes()) {
            self.checkpoints.set_len(self.checkpoints_length)?;
            return Err(error);
        }
        self.checkpoints_length += line.len() as u64;
        self.sealed = checkpoint.frame_count;
        if sync == Sync::Never {
            return Ok(());
        }
        self.checkpoints.sync_data()
    }
}
