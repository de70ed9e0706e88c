//! A directory becomes a verdict on all of it: each session by itself, each ledger, and whether they speak of the same.

use super::{SessionReport, exactly, session, signature};
use crate::recording::layout::{Contents, Files, ledger, open_plain};
use crate::recording::ledger::{Entry, Happened};
use crate::recording::read::{Line, Lines};
use crate::recording::seal::TrustedKeys;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// What was found of a directory.
#[derive(Debug, Default)]
pub struct Verdict {
    pub sessions: Vec<SessionReport>,
    pub ledgers: usize,
    /// Of ledgers, and of sessions that are missing.
    pub problems: Vec<String>,
    pub notes: Vec<String>,
}

impl Verdict {
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty() && self.sessions.iter().all(|session| session.problems.is_empty())
    }
}

/// Verifies all sessions and ledgers of a directory.
///
/// # Errors
/// When the directory can't be read.
pub fn directory(path: &Path, keys: &TrustedKeys) -> io::Result<Verdict> {
    let contents = Contents::of(path)?;
    let mut verdict = Verdict {
        ledgers: contents.gateways.len(),
        ..Verdict::default()
    };
    let mut told = Told::default();
    for gateway in &contents.gateways {
        let entries = read_ledger(path, gateway, keys, &mut verdict);
        told.add(gateway, entries);
    }
    verdict.sessions = contents
        .sessions
        .iter()
        .map(|id| session(&Files::new(path, id), keys))
        .collect();
    told.compare(&mut verdict);
    Ok(verdict)
}

fn read_ledger(directory: &Path, gateway: &str, keys: &TrustedKeys, verdict: &mut Verdict) -> Vec<Read> {
    let mut entries: Vec<Read> = vec![];
    let mut wrong = |number: usize, problem: String| {
        verdict
            .problems
            .push(format!("line {number} of the ledger of {gateway} {problem}"));
    };
    let result = open_plain(&ledger(directory, gateway))
        .map(Lines::of)
        .and_then(|mut lines| {
            let mut head = String::new();
            while let Some(line) = lines.next_line()? {
                let number = entries.len() + 1;
                // What a killed gateway was writing. Nothing speaks of it yet.
                let Line::Whole(text) = line else { break };
                let entry = match exactly(text, Entry::line) {
                    Ok(entry) => entry,
                    Err(problem) => {
                        wrong(number, problem);
                        break;
                    }
                };
                if entry.gateway != gateway || entry.seq != number as u64 || entry.prev_hash != head {
                    wrong(number, "does not follow on the one before".to_owned());
                    break;
                }
                if let Err(problem) = signature(&entry, keys) {
                    wrong(number, format!("is not genuine: {problem}"));
                }
                head = entry.hash();
                let hash = head.clone();
                entries.push(Read { hash, entry });
            }
            Ok(())
        });
    if let Err(error) = result {
        verdict
            .problems
            .push(format!("the ledger of {gateway} can't be read: {error}"));
    }
    entries
}

/// A line of a ledger. Of what was sealed nothing is kept with it, as it is much.
struct Read {
    hash: String,
    entry: Entry,
}

/// What the ledgers say of sessions, and of each other.
#[derive(Default)]
struct Told {
    ledgers: BTreeMap<String, Vec<Read>>,
    opened: BTreeMap<String, String>,
    /// How many records were signed.
    sealed: BTreeMap<String, u64>,
    closed: BTreeMap<String, String>,
    /// Each with the reason.
    removed: BTreeMap<String, String>,
    forgotten: BTreeSet<String>,
}

impl Told {
    fn add(&mut self, gateway: &str, mut entries: Vec<Read>) {
        for Read { entry, .. } in &mut entries {
            if let Happened::Sealed { records } = &mut entry.happened {
                self.sealed.append(records);
                continue;
            }
            match entry.happened.clone() {
                Happened::Opened {
                    session,
                    manifest_sha256,
                } => drop(self.opened.insert(session, manifest_sha256)),
                Happened::Closed {
                    session,
                    manifest_sha256,
                } => drop(self.closed.insert(session, manifest_sha256)),
                Happened::Removed { session, reason } => drop(self.removed.insert(session, reason)),
                Happened::LedgerRemoved { ledger } => drop(self.forgotten.insert(ledger)),
                Happened::Started { .. } | Happened::Sealed { .. } | Happened::Stopped => {}
            }
        }
        self.ledgers.insert(gateway.to_owned(), entries);
    }

    fn compare(&self, verdict: &mut Verdict) {
        let present: BTreeSet<&str> = verdict.sessions.iter().map(|session| session.id.as_str()).collect();
        for session in self.opened.keys() {
            if !present.contains(session.as_str()) && !self.removed.contains_key(session) {
                let problem = format!("the session {session} is missing: its gateway's ledger speaks of it");
                verdict.problems.push(problem);
            }
        }
        verdict.problems.extend(self.missing_ledgers());
        verdict.notes.extend(self.removals());
        for session in &mut verdict.sessions {
            self.session(session);
        }
    }

    /// How many sessions and ledgers are gone, and why: whether so many were that old is for the reader to know.
    fn removals(&self) -> Vec<String> {
        let mut by_reason: BTreeMap<&str, usize> = BTreeMap::new();
        for reason in self.removed.values() {
            *by_reason.entry(reason.as_str()).or_default() += 1;
        }
        let sessions = by_reason.iter().map(|(reason, count)| match *reason {
            "age" => format!("removed because of their age: {count} sessions"),
            "size" => format!("removed because there were too many: {count} sessions"),
            reason => format!("removed ({reason}): {count} sessions"),
        });
        let ledgers = (!self.forgotten.is_empty()).then(|| {
            format!(
                "removed with the last of their sessions: {} ledgers",
                self.forgotten.len()
            )
        });
        sessions.chain(ledgers).collect()
    }

    /// What a later ledger has seen of an earlier one.
    fn missing_ledgers(&self) -> Vec<String> {
        let mut problems = vec![];
        for (later, entries) in &self.ledgers {
            for Read { entry, .. } in entries {
                let Happened::Started { seen } = &entry.happened else {
                    continue;
                };
                for seen in seen.iter().filter(|seen| !self.forgotten.contains(&seen.gateway)) {
                    let entries = self.ledgers.get(&seen.gateway);
                    let same = entries
                        .and_then(|entries| entries.get(usize::try_from(seen.seq).ok()?.checked_sub(1)?))
                        .is_some_and(|read| read.hash == seen.entry_hash);
                    if !same {
                        problems.push(format!(
                            "the ledger of {} is missing or was cut: that of {later} has seen its line {}",
                            seen.gateway, seen.seq
                        ));
                    }
                }
            }
        }
        problems
    }

    fn session(&self, session: &mut SessionReport) {
        if self.removed.contains_key(&session.id) {
            if session.has_records {
                let note = "its removal is noted, and it is still there".to_owned();
                session.notes.push(note);
            } else {
                session.problems.clear();
                session.notes.push("it was removed, and this is left of it".to_owned());
                return;
            }
        }
        let Some(manifest) = &session.manifest else { return };
        let gateway = &manifest.meta.gateway;
        let Some(entries) = self.ledgers.get(gateway) else {
            if !self.forgotten.contains(gateway) {
                let problem = format!("the ledger of its gateway, {gateway}, is missing");
                session.problems.push(problem);
            }
            return;
        };
        let sealed = self.sealed.get(&session.id).copied().unwrap_or_default();
        if session.sealed < sealed && session.problems.is_empty() {
            let problem = format!(
                "records {} to {sealed} are missing with their checkpoints: its gateway's ledger tells of them",
                session.sealed + 1
            );
            session.problems.push(problem);
        }
        let is = |told: Option<&String>| told.is_some_and(|sha256| *sha256 == session.manifest_sha256);
        let stopped = entries
            .last()
            .is_some_and(|last| last.entry.happened == Happened::Stopped);
        match (self.opened.get(&session.id), self.closed.get(&session.id)) {
            (_, Some(closed)) if is(Some(closed)) => {}
            (_, Some(_)) => session.problems.push(
                "the manifest is not the one with which the session ended, as its gateway's ledger tells".to_owned(),
            ),
            (Some(opened), None) if is(Some(opened)) => {}
            // The gateway was killed, or this was copied, between the two writes.
            (Some(_), None) if session.is_closed() && !stopped => {
                session
                    .notes
                    .push("its gateway's ledger does not tell of its end yet".to_owned());
            }
            (None, None)
                if !stopped
                    && entries
                        .last()
                        .is_some_and(|last| last.entry.timestamp_utc <= manifest.meta.opened_at) =>
            {
                session
                    .notes
                    .push("its gateway's ledger does not tell of it yet".to_owned());
            }
            (Some(_), None) => session
                .problems
                .push("the manifest is not the one that its gateway's ledger tells of".to_owned()),
            (None, None) => session
                .problems
                .push("its gateway's ledger does not know it".to_owned()),
        }
    }
}
