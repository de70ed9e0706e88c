//! All ledgers of a directory become what they say of sessions and of each other, for whoever removes what is old. Their signatures are for
//! who verifies.

use super::layout::{Contents, ledger, open_plain};
use super::ledger::{Entry, Happened};
use super::read::{Line, Lines};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// What the ledgers of a directory say.
#[derive(Debug, Default)]
pub struct Said(BTreeMap<String, Ledger>);

/// What one ledger says.
#[derive(Debug, Default)]
struct Ledger {
    opened: BTreeSet<String>,
    closed: BTreeMap<String, Timestamp>,
    removed: BTreeSet<String>,
    /// Ledgers that were there before, and those that it has seen removed.
    seen: BTreeSet<String>,
    forgotten: BTreeSet<String>,
}

impl Said {
    /// # Errors
    /// When the directory can't be read. What is wrong with a ledger leaves out what stands behind it.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let mut said = Self::default();
        for gateway in Contents::of(directory)?.gateways {
            let mut known = Ledger::default();
            if let Ok(file) = open_plain(&ledger(directory, &gateway)) {
                known.read(Lines::of(file));
            }
            said.0.insert(gateway, known);
        }
        Ok(said)
    }

    /// When a session has ended.
    pub fn closed_at(&self, session: &str) -> Option<Timestamp> {
        self.0.values().find_map(|ledger| ledger.closed.get(session).copied())
    }

    pub fn is_removed(&self, session: &str) -> bool {
        self.0.values().any(|ledger| ledger.removed.contains(session))
    }

    /// Whether the directory's evidence is as whole without the ledger of `gateway` as with it: all of its sessions are known to be removed, and
    /// no other ledger speaks of something that this one alone knows to be removed.
    pub fn can_do_without(&self, gateway: &str) -> bool {
        let Some(own) = self.0.get(gateway) else { return false };
        let others = || {
            self.0
                .iter()
                .filter(|(name, _)| *name != gateway)
                .map(|(_, ledger)| ledger)
        };
        let is_removed = |session: &String| others().any(|ledger| ledger.removed.contains(session));
        let is_opened = |session: &String| others().any(|ledger| ledger.opened.contains(session));
        let is_forgotten = |name: &String| others().any(|ledger| ledger.forgotten.contains(name));
        let is_seen = |name: &String| others().any(|ledger| ledger.seen.contains(name));
        own.opened
            .iter()
            .all(|session| is_removed(session) || own.removed.contains(session))
            && own
                .removed
                .iter()
                .all(|session| is_removed(session) || !is_opened(session))
            && own.forgotten.iter().all(|name| is_forgotten(name) || !is_seen(name))
    }

    /// Notes that a session was removed.
    pub fn remove(&mut self, by: &str, session: &str) {
        self.0
            .entry(by.to_owned())
            .or_default()
            .removed
            .insert(session.to_owned());
    }

    /// Notes that the ledger of a gateway was removed.
    pub fn forget(&mut self, by: &str, gateway: &str) {
        self.0.remove(gateway);
        self.0
            .entry(by.to_owned())
            .or_default()
            .forgotten
            .insert(gateway.to_owned());
    }
}

impl Ledger {
    fn read(&mut self, mut lines: Lines) {
        while let Ok(Some(Line::Whole(line))) = lines.next_line() {
            let Ok(Entry {
                happened,
                timestamp_utc,
                ..
            }) = serde_json::from_slice(line)
            else {
                return;
            };
            match happened {
                Happened::Started { seen } => self.seen.extend(seen.into_iter().map(|seen| seen.gateway)),
                Happened::Opened { session, .. } => drop(self.opened.insert(session)),
                Happened::Closed { session, .. } => {
                    if let Ok(at) = timestamp_utc.parse() {
                        self.closed.insert(session, at);
                    }
                }
                Happened::Removed { session, .. } => drop(self.removed.insert(session)),
                Happened::LedgerRemoved { ledger } => drop(self.forgotten.insert(ledger)),
                Happened::Sealed { .. } | Happened::Stopped => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ledger's name, and what it has opened, removed, seen and forgotten.
    type Row<'a> = (&'a str, [&'a [&'a str]; 4]);

    fn said(ledgers: [Row<'_>; 2]) -> Said {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let ledger = |(gateway, [opened, removed, seen, forgotten]): Row<'_>| {
            let ledger = Ledger {
                opened: set(opened),
                removed: set(removed),
                seen: set(seen),
                forgotten: set(forgotten),
                ..Ledger::default()
            };
            (gateway.to_owned(), ledger)
        };
        Said(ledgers.into_iter().map(ledger).collect())
    }

    #[test]
    fn a_ledger_goes_when_nothing_rests_on_it() {
        let none: &[&str] = &[];
        let (session, ledger): (&[&str], &[&str]) = (&["s"], &["c"]);
        for (what, own, other, expected) in [
            ("it tells of nothing", [none; 4], [none; 4], true),
            (
                "its own session is gone unseen",
                [session, none, none, none],
                [none; 4],
                false,
            ),
            (
                "it has removed its own session",
                [session, session, none, none],
                [none; 4],
                true,
            ),
            (
                "another one has removed it",
                [session, none, none, none],
                [none, session, none, none],
                true,
            ),
            (
                "it alone has removed another one's",
                [none, session, none, none],
                [session, none, none, none],
                false,
            ),
            (
                "both have",
                [none, session, none, none],
                [session, session, none, none],
                true,
            ),
            (
                "it alone has forgotten what another one has seen",
                [none, none, none, ledger],
                [none, none, ledger, none],
                false,
            ),
            (
                "nobody has seen what it has forgotten",
                [none, none, none, ledger],
                [none; 4],
                true,
            ),
        ] {
            assert_eq!(said([("b", own), ("a", other)]).can_do_without("b"), expected, "{what}");
        }
    }
}
