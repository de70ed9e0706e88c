//! The files of one session become a report: the chain record by record, held to its checkpoints and its manifest.

use super::{SessionReport, exactly, signature};
use crate::config::recording::Mode;
use crate::recording::chain::{Chain, Record, hex_sha256};
use crate::recording::layout::{Files, open_plain};
use crate::recording::manifest::{Checkpoint, Manifest};
use crate::recording::read::{Line, Lines};
use crate::recording::seal::TrustedKeys;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::collections::VecDeque;
use std::io;

/// Verifies a session by itself. Whether sessions are missing beside it only its gateway's ledger says.
pub fn session(files: &Files, keys: &TrustedKeys) -> SessionReport {
    let mut report = SessionReport::new(&files.id);
    report.has_records = [files.records(), files.compressed()]
        .iter()
        .any(|path| path.symlink_metadata().is_ok());
    read_manifest(files, keys, &mut report);
    let checkpoints = read_checkpoints(files, keys, &mut report);
    let mut walk = Walk {
        report: &mut report,
        chain: Chain::default(),
        checkpoints,
    };
    match Lines::of_records(files) {
        Ok(lines) => walk.records(lines),
        Err(error) => walk.report.problems.push(format!("the records can't be read: {error}")),
    }
    walk.end();
    report
}

fn read_manifest(files: &Files, keys: &TrustedKeys, report: &mut SessionReport) {
    let text = match files.read_manifest() {
        Ok(text) => text,
        Err(error) => return report.problems.push(format!("the manifest can't be read: {error}")),
    };
    report.manifest_sha256 = hex_sha256(&text);
    let manifest = match exactly(&text, Manifest::text) {
        Ok(manifest) => manifest,
        Err(problem) => return report.problems.push(format!("the manifest {problem}")),
    };
    if manifest.id != files.id {
        let problem = format!("the manifest is that of the session {}", manifest.id);
        report.problems.push(problem);
    }
    match signature(&manifest, keys) {
        Ok(true) => {}
        Ok(false) => report.notes.push(match &manifest.seal.key_id {
            Some(key) => format!("signatures of the key {key} are not checked: no public key was given"),
            None => "nothing is signed: this shows damage, but not what someone changed on purpose".to_owned(),
        }),
        Err(problem) => report.problems.push(format!("the manifest is not genuine: {problem}")),
    }
    report.manifest = Some(manifest);
}

fn read_checkpoints(files: &Files, keys: &TrustedKeys, report: &mut SessionReport) -> VecDeque<Checkpoint> {
    let mut checkpoints = VecDeque::new();
    let mut number = 0u64;
    let result = open_plain(&files.checkpoints()).map(Lines::of).and_then(|mut lines| {
        let mut last = 0;
        while let Some(line) = lines.next_line()? {
            number += 1;
            let Line::Whole(text) = line else {
                report
                    .notes
                    .push(format!("checkpoint {number} is torn off: it was being written"));
                break;
            };
            let written = |checkpoint: &Checkpoint| serde_json::to_string(checkpoint).unwrap_or_default();
            match exactly(text, written) {
                Ok(checkpoint) if checkpoint.session != files.id || checkpoint.frame_count <= last => {
                    let problem = format!("checkpoint {number} does not belong where it stands");
                    report.problems.push(problem);
                }
                Ok(checkpoint) => {
                    last = checkpoint.frame_count;
                    if let Err(problem) = signature(&checkpoint, keys) {
                        report
                            .problems
                            .push(format!("checkpoint {number} is not genuine: {problem}"));
                    }
                    checkpoints.push_back(checkpoint);
                }
                Err(problem) => report.problems.push(format!("checkpoint {number} {problem}")),
            }
        }
        io::Result::Ok(())
    });
    if let Err(error) = result {
        report.problems.push(format!("the checkpoints can't be read: {error}"));
    }
    checkpoints
}

/// How far the records have been followed.
struct Walk<'a> {
    report: &'a mut SessionReport,
    chain: Chain,
    checkpoints: VecDeque<Checkpoint>,
}

impl Walk<'_> {
    fn problem(&mut self, problem: String) {
        self.report.problems.push(problem);
    }

    fn records(&mut self, mut lines: Lines) {
        let mode = self.report.manifest.as_ref().map(|manifest| manifest.mode);
        let is_closed = self.report.is_closed();
        loop {
            let number = self.chain.count + 1;
            match lines.next_line() {
                Ok(None) => return,
                Ok(Some(Line::Whole(line))) => {
                    let result = exactly(line, Record::line).and_then(|record| {
                        follows(&record, &self.chain, mode)?;
                        Ok(record)
                    });
                    match result {
                        Ok(record) => self.accept(&record),
                        Err(problem) => {
                            return self.problem(format!(
                                "record {number} {problem}; nothing from it on can be relied on"
                            ));
                        }
                    }
                }
                Ok(Some(Line::Torn(rest))) => {
                    let torn = format!("record {number} is torn off after {} bytes", rest.len());
                    if is_closed {
                        self.problem(torn);
                    } else {
                        self.report.notes.push(format!("{torn}: it was being written"));
                    }
                    return;
                }
                Err(error) => return self.problem(format!("record {number} can't be read: {error}")),
            }
        }
    }

    fn accept(&mut self, record: &Record) {
        if record.lost_before > 0 {
            let note = format!(
                "{} messages before record {} were not recorded: the disk was too slow",
                record.lost_before, record.seq
            );
            self.report.notes.push(note);
        }
        self.chain.accept(record);
        self.report.records = self.chain.count;
        let due = |checkpoint: &Checkpoint| checkpoint.frame_count == record.seq;
        let Some(checkpoint) = self.checkpoints.pop_front_if(|checkpoint| due(checkpoint)) else {
            return;
        };
        if checkpoint.head_hash == self.chain.head && checkpoint.records_hash == self.chain.records_hash() {
            self.report.sealed = record.seq;
        } else {
            self.problem(format!(
                "records {} to {} are not those of the checkpoint at {}: one of them was changed, and the chain after it made anew",
                self.report.sealed + 1,
                record.seq,
                checkpoint.timestamp_utc
            ));
        }
    }

    /// What should be there behind the last record, and is not.
    fn end(mut self) {
        let count = self.chain.count;
        let expected = self.checkpoints.back().map_or(0, |checkpoint| checkpoint.frame_count);
        let manifest = self
            .report
            .manifest
            .clone()
            .filter(|manifest| manifest.closed_at.is_some());
        let expected = manifest
            .as_ref()
            .map_or(expected, |manifest| expected.max(manifest.frame_count));
        if expected > count {
            self.problem(format!("records {} to {expected} are missing", count + 1));
        }
        let Some(manifest) = manifest else {
            if self.report.manifest.is_some() {
                let unsealed = count - self.report.sealed.min(count);
                self.report.notes.push(format!(
                    "the session has no end: it is still open, or its gateway was killed; {unsealed} records behind the last checkpoint are not signed"
                ));
            }
            return;
        };
        if manifest.lost_after > 0 {
            let note = format!("{} messages at the end were not recorded", manifest.lost_after);
            self.report.notes.push(note);
        }
        if count > manifest.frame_count {
            self.problem(format!(
                "records {} to {count} were added: the manifest speaks of {}",
                manifest.frame_count + 1,
                manifest.frame_count
            ));
        } else if count == manifest.frame_count {
            if manifest.final_hash == self.chain.head && manifest.records_hash == self.chain.records_hash() {
                self.report.sealed = count;
            } else {
                self.problem(format!(
                    "records {} to {count} are not those of the manifest: one of them was changed, and the chain after it made anew",
                    self.report.sealed + 1
                ));
            }
        }
    }
}

/// Whether a record is the next one of a chain, and what it says of its payload is so.
fn follows(record: &Record, chain: &Chain, mode: Option<Mode>) -> Result<(), String> {
    if record.seq != chain.count + 1 {
        return Err(format!("has the number {}", record.seq));
    }
    if record.prev_hash != chain.head {
        return Err("does not follow on the one before: prevHash is another one".to_owned());
    }
    if record.computed_hash() != record.entry_hash {
        return Err("was changed: entryHash is another one".to_owned());
    }
    let Some(payload) = &record.payload_base64 else {
        let complete = record.withheld || mode != Some(Mode::Full);
        return if complete {
            Ok(())
        } else {
            Err("has no payload".to_owned())
        };
    };
    if record.withheld || mode == Some(Mode::Metadata) {
        return Err("has a payload that must not be there".to_owned());
    }
    let payload = STANDARD
        .decode(payload)
        .map_err(|error| format!("has a payload that is no base64 ({error})"))?;
    if payload.len() as u64 != record.payload_bytes || hex_sha256(&payload) != record.payload_sha256 {
        return Err("was changed: its payload is another one".to_owned());
    }
    Ok(())
}
