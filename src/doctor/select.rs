//! Codes and prefixes of codes become the checks to run.

use super::catalog;
use super::check::Check;
use snafu::Snafu;
use std::collections::BTreeSet;

/// What to run, and what of it to tell.
pub struct Selection {
    /// In the order of the catalogue.
    pub checks: Vec<Selected>,
}

#[derive(Clone, Copy)]
pub struct Selected {
    pub check: &'static Check,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Wanted,
    /// Another one needs it: told only when it does not hold.
    Needed,
    /// Left out by `--skip`.
    Skipped,
}

/// A code that no claim has.
#[derive(Debug, Snafu)]
#[snafu(display(
    "{option} {given:?} is neither a code nor the beginning of one; there are:\n{}",
    existing()
))]
pub struct UnknownCode {
    option: &'static str,
    given: String,
}

impl Selection {
    /// `only` empty is everything. Each item is a code (`DP0201`) or the beginning of codes (`DP02`), in any case of letters.
    ///
    /// # Errors
    /// When an item matches no code.
    pub fn new(only: &[String], skip: &[String]) -> Result<Self, UnknownCode> {
        let wanted = matching("--only", only)?;
        let skipped = matching("--skip", skip)?;
        let is_wanted = |code| only.is_empty() || wanted.contains(code);
        let mut needed: BTreeSet<&'static str> = BTreeSet::new();
        // Needs come earlier, so that one way back finds those of those, too.
        let all: Vec<_> = catalog::all().collect();
        for check in all.iter().rev() {
            let code = check.claim.code;
            if !skipped.contains(code) && (is_wanted(code) || needed.contains(code)) {
                needed.extend(check.claim.needs);
            }
        }
        let selected = all.into_iter().filter_map(|check| {
            let code = check.claim.code;
            let kind = match () {
                () if skipped.contains(code) => Kind::Skipped,
                () if is_wanted(code) => Kind::Wanted,
                () if needed.contains(code) => Kind::Needed,
                () => return None,
            };
            // What is left out is told where it would have been.
            let is_told = kind != Kind::Skipped || is_wanted(code) || needed.contains(code);
            is_told.then_some(Selected { check, kind })
        });
        Ok(Self {
            checks: selected.collect(),
        })
    }
}

fn matching(option: &'static str, items: &[String]) -> Result<BTreeSet<&'static str>, UnknownCode> {
    let mut found = BTreeSet::new();
    for item in items {
        let prefix = item.trim().to_ascii_uppercase();
        let codes = catalog::all()
            .map(|check| check.claim.code)
            .filter(|code| prefix.len() > 2 && code.starts_with(&prefix));
        let before = found.len();
        let mut count = 0;
        for code in codes {
            count += 1;
            found.insert(code);
        }
        if count == 0 && before == found.len() {
            return UnknownCodeSnafu { option, given: item }.fail();
        }
    }
    Ok(found)
}

fn existing() -> String {
    let mut text = String::new();
    for group in catalog::GROUPS {
        text.push_str(&format!("  {}    {}\n", group.prefix, group.title));
        for check in group.checks {
            text.push_str(&format!("  {}  {}\n", check.claim.code, check.claim.title));
        }
    }
    text.truncate(text.trim_end().len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selected(only: &[&str], skip: &[&str]) -> Vec<(&'static str, Kind)> {
        let owned = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>();
        let selection = Selection::new(&owned(only), &owned(skip)).unwrap();
        let checks = selection.checks.iter();
        checks.map(|one| (one.check.claim.code, one.kind)).collect()
    }

    #[test]
    fn what_is_needed_runs_too() {
        assert_eq!(
            selected(&["dp0202"], &[]),
            [("DP0201", Kind::Needed), ("DP0202", Kind::Wanted)]
        );
        assert_eq!(
            selected(&["DP0202"], &["DP0201"]),
            [("DP0201", Kind::Skipped), ("DP0202", Kind::Wanted)]
        );
        assert!(selected(&["DP02"], &[]).len() >= 3);
        assert_eq!(selected(&[], &[]).len(), catalog::all().count());
    }

    #[test]
    fn an_unknown_code_is_told_with_those_that_there_are() {
        for wrong in ["DP9999", "", "DP", "X", "DP02011"] {
            let error = Selection::new(&[wrong.to_owned()], &[]).err().unwrap().to_string();
            assert!(
                error.contains("--only") && error.contains("DP0201  the API server"),
                "{error}"
            );
        }
    }
}
