//! Findings become what fits into the termination message of a pod, for the doctor that made the pod.

use super::super::check::{Finding, Status};
use serde::{Deserialize, Serialize};

/// Kubernetes: no more is kept of a termination message, in bytes.
const LARGEST: usize = 4096;
/// Of a finding's text, in bytes; less where the line gets too long.
const LONGEST: usize = 600;

/// A finding in brief.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brief {
    pub code: String,
    pub status: Word,
    /// The evidence, the problem, or the reason.
    pub text: String,
    /// Of a failure.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub expected: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    Ok,
    Failed,
    Skipped,
}

/// The findings as one line of JSON.
pub fn report(findings: &[Finding]) -> String {
    let mut longest = LONGEST;
    loop {
        let briefs: Vec<Brief> = findings.iter().map(|finding| brief(finding, longest)).collect();
        // Texts alone: it can't fail.
        let line = serde_json::to_string(&briefs).unwrap_or_default();
        if line.len() <= LARGEST || longest == 0 {
            return line;
        }
        longest /= 2;
    }
}

/// What [`report`] has written.
///
/// # Errors
/// When it is something else.
pub fn parse(line: &str) -> Result<Vec<Brief>, serde_json::Error> {
    serde_json::from_str(line)
}

fn brief(finding: &Finding, longest: usize) -> Brief {
    let (status, text, expected) = match &finding.status {
        Status::Pass { evidence } => (Word::Ok, evidence.as_str(), ""),
        Status::Fail(failure) => (Word::Failed, failure.problem.as_str(), failure.expected.as_str()),
        Status::Skip { why } => (Word::Skipped, why.as_str(), ""),
    };
    let cut = |text: &str| text[..text.floor_char_boundary(longest)].to_owned();
    Brief {
        code: finding.claim.code.to_owned(),
        status,
        text: cut(text),
        expected: cut(expected),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::check::Claim;
    use std::time::Duration;

    #[test]
    fn what_is_written_is_read_and_fits() {
        let finding = |status| Finding {
            claim: Claim::error("DP1001", "t"),
            status,
            took: Duration::ZERO,
        };
        let two = [
            finding(Status::pass("3 models")),
            finding(Status::skip("é".repeat(5000))),
        ];
        let read = parse(&report(&two)).unwrap();
        assert_eq!((read[0].status, read[0].text.as_str()), (Word::Ok, "3 models"));
        assert_eq!((read[1].status, read[1].text.len()), (Word::Skipped, LONGEST));
        let many: Vec<_> = (0..20).map(|_| finding(Status::skip("\u{1}é".repeat(5000)))).collect();
        let line = report(&many);
        assert!(line.len() <= LARGEST && parse(&line).unwrap().len() == 20);
    }
}
