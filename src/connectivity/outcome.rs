//! Rounds of asking a canary become what a probe tells of them, in so few bytes that they fit into a container's last words.

use super::canary::Round;
use super::dial::Observed;
use super::matrix::{Expected, Verdict};
use serde::{Deserialize, Serialize};

/// What a probe has found. Kubernetes keeps 4096 bytes of what a container leaves behind.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Outcome {
    pub verdict: Verdict,
    pub lines: Vec<Line>,
    /// Where nobody answers anybody, so that nothing is shown.
    pub not_shown: Vec<String>,
    /// What policies allow and the canary did not get, although another pod did.
    pub refused_too_much: Vec<String>,
}

/// A connection that policies refuse.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Line {
    pub name: String,
    pub observed: Observed,
}

impl Outcome {
    pub fn of(round: Round) -> Self {
        let verdict = round.verdict();
        let Round {
            attempts,
            trouble: _,
            not_shown,
            refused_too_much,
        } = round;
        // The others are there for these.
        let lines = attempts
            .into_iter()
            .filter(|attempt| attempt.expected == Expected::Refusal);
        Self {
            verdict,
            lines: lines
                .map(|attempt| Line {
                    name: attempt.name,
                    observed: attempt.observed,
                })
                .collect(),
            not_shown,
            refused_too_much,
        }
    }
}
