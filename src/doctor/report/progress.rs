//! Events become findings in the order of the catalogue as soon as that is known, and one line that says what is being done.

use super::super::check::Finding;
use super::super::run::Event;
use super::super::select::Selection;
use std::collections::BTreeMap;

/// What is under way.
pub struct Progress {
    /// Codes that are not told yet, in order.
    order: Vec<&'static str>,
    total: usize,
    finished: usize,
    running: Vec<&'static str>,
    /// Through, but behind one that is not. `None` is not told.
    held: BTreeMap<&'static str, Option<Finding>>,
}

impl Progress {
    pub fn new(selection: &Selection) -> Self {
        let order: Vec<_> = selection.checks.iter().map(|one| one.check.claim.code).collect();
        Self {
            total: order.len(),
            order,
            finished: 0,
            running: Vec::new(),
            held: BTreeMap::new(),
        }
    }

    /// The findings whose turn it is after `event`.
    pub fn after(&mut self, event: &Event<'_>) -> Vec<Finding> {
        match event {
            Event::Started(check) => self.running.push(check.claim.code),
            Event::Finished(finding, is_told) => {
                self.finished += 1;
                self.running.retain(|code| *code != finding.claim.code);
                self.held
                    .insert(finding.claim.code, is_told.then(|| (*finding).clone()));
            }
        }
        let mut ready = Vec::new();
        while let Some(next) = self.order.first().and_then(|code| self.held.remove(code)) {
            self.order.remove(0);
            ready.extend(next);
        }
        ready
    }

    /// What is being done, such as `[3/20] DP0203 DP0204`.
    pub fn line(&self) -> String {
        const SHOWN: usize = 6;
        let mut line = format!("[{}/{}]", self.finished, self.total);
        for code in self.running.iter().take(SHOWN) {
            line.push(' ');
            line.push_str(code);
        }
        if self.running.len() > SHOWN {
            line.push_str(&format!(" and {} more", self.running.len() - SHOWN));
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::catalog;
    use super::super::super::check::Status;
    use super::*;
    use std::time::Duration;

    #[test]
    fn findings_come_in_order_however_the_checks_end() {
        let selection = Selection::new(&["DP0101".to_owned(), "DP0201".to_owned()], &[]).unwrap();
        let mut progress = Progress::new(&selection);
        let checks: Vec<_> = selection.checks.iter().map(|one| one.check).collect();
        for check in &checks {
            assert!(progress.after(&Event::Started(check)).is_empty());
        }
        assert_eq!(progress.line(), "[0/2] DP0101 DP0201");
        let of = |code: &str| Finding {
            claim: catalog::all().find(|check| check.claim.code == code).unwrap().claim,
            status: Status::pass(""),
            took: Duration::ZERO,
        };
        assert!(progress.after(&Event::Finished(&of("DP0201"), true)).is_empty());
        assert_eq!(progress.line(), "[1/2] DP0101");
        let ready = progress.after(&Event::Finished(&of("DP0101"), true));
        let codes: Vec<_> = ready.iter().map(|finding| finding.claim.code).collect();
        assert_eq!(codes, ["DP0101", "DP0201"]);
    }
}
