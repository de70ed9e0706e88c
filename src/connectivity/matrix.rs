//! Attempts, each with what was expected and observed, become a verdict. Pure.

use super::dial::Observed;
use serde::{Deserialize, Serialize};

/// What a policy says of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Expected {
    Answer,
    Refusal,
}

/// One line of a matrix: who tried to reach whom, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// In words, such as `the operator to the canary's terminal`; no other attempt of the matrix is called so.
    pub name: String,
    pub expected: Expected,
    pub observed: Observed,
    /// Of a forbidden one: the allowed attempts that show that its target answers, and that whoever tried gets anywhere at all.
    pub shown_by: Vec<String>,
}

/// What a matrix shows.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Every forbidden connection was refused, and all that this rests on was answered.
    Enforced,
    /// These forbidden connections were answered.
    NotEnforced { passed: Vec<String> },
    /// Nothing forbidden was answered, and yet the refusals do not show that policies are the reason.
    Unknown { why: String },
}

/// One answer to what is forbidden is enough to say that policies are not enforced; to say that they are takes every line.
pub fn judge(attempts: &[Attempt]) -> Verdict {
    let forbidden = || attempts.iter().filter(|attempt| attempt.expected == Expected::Refusal);
    let passed: Vec<String> = forbidden()
        .filter(|attempt| attempt.observed == Observed::Answered)
        .map(|attempt| attempt.name.clone())
        .collect();
    if !passed.is_empty() {
        return Verdict::NotEnforced { passed };
    }
    let unclear: Vec<String> = forbidden().filter_map(|attempt| unclear(attempt, attempts)).collect();
    if forbidden().next().is_none() {
        let why = "nothing was tried that is forbidden".to_owned();
        return Verdict::Unknown { why };
    }
    if unclear.is_empty() {
        Verdict::Enforced
    } else {
        Verdict::Unknown {
            why: unclear.join("; "),
        }
    }
}

/// Why a forbidden attempt that was not answered shows nothing.
fn unclear(attempt: &Attempt, attempts: &[Attempt]) -> Option<String> {
    let Attempt {
        name,
        observed,
        shown_by,
        ..
    } = attempt;
    if *observed == Observed::Opened {
        return Some(format!("{name}: a connection was made, and nothing came back on it"));
    }
    if shown_by.is_empty() {
        return Some(format!("{name}: nobody is known to be answered there"));
    }
    let answered = |name: &String| {
        attempts.iter().any(|other| {
            other.name == *name && other.expected == Expected::Answer && other.observed == Observed::Answered
        })
    };
    let silent: Vec<&str> = shown_by
        .iter()
        .filter(|name| !answered(name))
        .map(String::as_str)
        .collect();
    (!silent.is_empty()).then(|| format!("{name}: refused, but so was what is allowed: {}", silent.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn attempt(name: &str, expected: Expected, observed: Observed, shown_by: &[&str]) -> Attempt {
        Attempt {
            name: name.to_owned(),
            expected,
            observed,
            shown_by: shown_by.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn a_refusal_counts_beside_answers_to_what_is_allowed() {
        use Expected::{Answer, Refusal};
        use Observed::{Answered, Opened, Refused};
        let unknown = |why: &str| Verdict::Unknown { why: why.to_owned() };
        let control = |observed| attempt("own", Answer, observed, &[]);
        let table = [
            (vec![], unknown("nothing was tried that is forbidden")),
            (vec![control(Answered)], unknown("nothing was tried that is forbidden")),
            (
                vec![attempt("a", Refusal, Refused, &["own"]), control(Answered)],
                Verdict::Enforced,
            ),
            (
                vec![attempt("a", Refusal, Answered, &["own"]), control(Refused)],
                Verdict::NotEnforced {
                    passed: vec!["a".to_owned()],
                },
            ),
            (
                vec![attempt("a", Refusal, Refused, &["own"]), control(Refused)],
                unknown("a: refused, but so was what is allowed: own"),
            ),
            (
                vec![attempt("a", Refusal, Refused, &["own"]), control(Opened)],
                unknown("a: refused, but so was what is allowed: own"),
            ),
            (
                vec![attempt("a", Refusal, Refused, &["own"])],
                unknown("a: refused, but so was what is allowed: own"),
            ),
            (
                vec![attempt("a", Refusal, Refused, &[]), control(Answered)],
                unknown("a: nobody is known to be answered there"),
            ),
            (
                vec![attempt("a", Refusal, Opened, &["own"]), control(Answered)],
                unknown("a: a connection was made, and nothing came back on it"),
            ),
            (
                vec![
                    attempt("a", Refusal, Refused, &["own"]),
                    attempt("b", Refusal, Opened, &["own"]),
                    control(Answered),
                ],
                unknown("b: a connection was made, and nothing came back on it"),
            ),
        ];
        for (attempts, expected) in table {
            assert_eq!(judge(&attempts), expected, "{attempts:#?}");
        }
    }

    fn observed() -> impl Strategy<Value = Observed> {
        prop_oneof![
            Just(Observed::Answered),
            Just(Observed::Opened),
            Just(Observed::Refused)
        ]
    }

    proptest! {
        #[test]
        fn enforced_is_never_said_of_what_was_not_shown(
            lines in prop::collection::vec((observed(), observed(), any::<bool>()), 0..6),
        ) {
            let mut attempts = Vec::new();
            for (index, (forbidden, control, has_control)) in lines.iter().enumerate() {
                let own = format!("own {index}");
                let shown_by: &[&str] = if *has_control { &[&own] } else { &[] };
                attempts.push(attempt(&format!("line {index}"), Expected::Refusal, *forbidden, shown_by));
                attempts.push(attempt(&own, Expected::Answer, *control, &[]));
            }
            let shown = lines.iter().all(|(forbidden, control, has_control)| {
                (*forbidden, *control, *has_control) == (Observed::Refused, Observed::Answered, true)
            });
            let verdict = judge(&attempts);
            prop_assert_eq!(verdict == Verdict::Enforced, shown && !lines.is_empty());
            let passes = lines.iter().any(|(forbidden, ..)| *forbidden == Observed::Answered);
            prop_assert_eq!(matches!(verdict, Verdict::NotEnforced { .. }), passes);
        }
    }
}
