//! Findings become text for people: a line each, and for what fails the problem and the fix under it. It needs no colour.

use super::super::check::{Failure, Finding, Fix, Severity, Status};
use super::Counts;
use std::fmt::Write;

/// Before what stands under the line of a finding.
const INDENT: &str = "             ";

/// One finding.
pub fn finding(finding: &Finding) -> String {
    let claim = finding.claim;
    let (word, below) = match &finding.status {
        Status::Pass { evidence } => ("ok", evidence.clone()),
        Status::Fail(failure) => {
            let word = match claim.severity {
                Severity::Error => "FAIL",
                Severity::Warning => "warn",
            };
            (word, failed(failure))
        }
        Status::Skip { why } => ("skip", format!("because {why}")),
    };
    let below = below.trim_end().replace('\n', &format!("\n{INDENT}"));
    format!("{word:<5}{}  {}\n{INDENT}{below}\n", claim.code, claim.title)
}

/// The line at the end.
pub fn summary(findings: &[Finding]) -> String {
    let Counts {
        ok,
        warnings,
        failed,
        skipped,
    } = Counts::of(findings);
    let plural = if warnings == 1 { "" } else { "s" };
    format!("{ok} ok, {failed} failed, {warnings} warning{plural}, {skipped} skipped\n")
}

fn failed(failure: &Failure) -> String {
    let Failure {
        problem,
        found,
        expected,
        fix,
    } = failure;
    let mut text = String::new();
    let (lead, fix) = match fix {
        Fix::Words(words) => ("fix: ", format!("{words}\n")),
        Fix::Command(command) => ("fix: run\n", indented(command)),
        Fix::Values(values) => ("fix: in the values file, and upgrade with it\n", indented(values)),
    };
    // Writing to a String can't fail.
    let _ = write!(
        text,
        "problem: {problem}\nfound: {found}\nexpected: {expected}\n{lead}{fix}"
    );
    text
}

fn indented(lines: &str) -> String {
    lines.trim_end().lines().map(|line| format!("  {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::check::Claim;
    use super::*;
    use std::time::Duration;

    fn of(claim: Claim, status: Status) -> Finding {
        Finding {
            claim,
            status,
            took: Duration::ZERO,
        }
    }

    #[test]
    fn a_failure_says_what_and_how_to_mend_it() {
        let error = Claim::error("DP0201", "the API server answers");
        let findings = [
            of(error, Status::pass("v1.36.0")),
            of(
                error,
                Status::fail("no answer", "nothing", "an answer", Fix::words("start it")),
            ),
            of(
                Claim::warning("DP0999", "a class is there"),
                Status::fail(
                    "there is no class\nnot one",
                    "none",
                    "fast",
                    Fix::values("workspace:\n  storageClass: fast\n"),
                ),
            ),
            of(
                error,
                Status::fail("it is off", "off", "on", Fix::command("kubectl on it")),
            ),
            of(error, Status::skip("DP0201 failed")),
        ];
        let text: String = findings.iter().map(finding).collect();
        insta::assert_snapshot!(text + &summary(&findings));
    }
}
