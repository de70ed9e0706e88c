//! Findings become text for people: a line each, and for what fails the problem and the fix under it.

use super::check::{Finding, Status};
use std::fmt::Write;

/// The report, ending with a line that counts.
pub fn text(findings: &[Finding]) -> String {
    let mut out = String::new();
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    for Finding { claim, status } in findings {
        let (word, lines) = match status {
            Status::Pass { evidence } => {
                passed += 1;
                ("ok", vec![evidence.clone()])
            }
            Status::Fail { problem, fix } => {
                failed += 1;
                ("FAIL", vec![format!("problem: {problem}"), format!("fix: {fix}")])
            }
            Status::Skip { why } => {
                skipped += 1;
                ("skip", vec![format!("because {why}")])
            }
        };
        // Writing to a String can't fail.
        let _ = writeln!(out, "{word:<5}{}  {}", claim.code, claim.title);
        for line in lines {
            let _ = writeln!(out, "             {}", line.replace('\n', "\n             "));
        }
    }
    let _ = writeln!(out, "{passed} ok, {failed} failed, {skipped} skipped");
    out
}

#[cfg(test)]
mod tests {
    use super::super::catalog;
    use super::*;

    #[test]
    fn a_failure_says_what_and_how_to_mend_it() {
        let findings = [
            catalog::CONFIGURATION.finding(Status::Pass {
                evidence: "12 settings".into(),
            }),
            catalog::API_SERVER.finding(Status::Fail {
                problem: "no answer".into(),
                fix: "start it".into(),
            }),
            catalog::CRD.finding(Status::Skip {
                why: "the API server does not answer".into(),
            }),
        ];
        insta::assert_snapshot!(text(&findings), @r"
        ok   DP0101  the configuration is complete and valid
                     12 settings
        FAIL DP0201  the API server answers and is Kubernetes 1.27 or newer
                     problem: no answer
                     fix: start it
        skip DP0202  the CustomResourceDefinition is installed and is this version's
                     because the API server does not answer
        1 ok, 1 failed, 1 skipped
        ");
    }
}
