//! Findings become JUnit's XML, one suite for each group, for pipelines that show such.

use super::super::catalog;
use super::super::check::{Failure, Finding, Fix, Status};
use std::fmt::Write;

/// The report. A warning is a failure here as an error is: JUnit knows no other.
pub fn report(findings: &[Finding]) -> String {
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(out, "<testsuites name=\"devplane doctor\"{}>", counts(findings.iter()));
    for group in catalog::GROUPS {
        let of_group = || {
            findings
                .iter()
                .filter(|finding| finding.claim.code.starts_with(group.prefix))
        };
        if of_group().next().is_none() {
            continue;
        }
        let name = escaped(&format!("{} {}", group.prefix, group.title));
        let _ = writeln!(out, "  <testsuite name=\"{name}\"{}>", counts(of_group()));
        for finding in of_group() {
            case(&mut out, finding);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn counts<'a>(findings: impl Iterator<Item = &'a Finding>) -> String {
    let (mut tests, mut failures, mut skipped, mut time) = (0, 0, 0, 0.0);
    for finding in findings {
        tests += 1;
        failures += usize::from(matches!(finding.status, Status::Fail(_)));
        skipped += usize::from(matches!(finding.status, Status::Skip { .. }));
        time += finding.took.as_secs_f64();
    }
    format!(" tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\" time=\"{time:.3}\"")
}

fn case(out: &mut String, finding: &Finding) {
    let claim = finding.claim;
    let name = escaped(&format!("{} {}", claim.code, claim.title));
    let _ = write!(
        out,
        "    <testcase classname=\"devplane.doctor.{}\" name=\"{name}\" time=\"{:.3}\"",
        claim.code,
        finding.took.as_secs_f64()
    );
    match &finding.status {
        Status::Pass { evidence } => {
            let _ = writeln!(out, "><system-out>{}</system-out></testcase>", escaped(evidence));
        }
        Status::Skip { why } => {
            let _ = writeln!(out, "><skipped message=\"because {}\"/></testcase>", escaped(why));
        }
        Status::Fail(Failure {
            problem,
            found,
            expected,
            fix,
        }) => {
            let (Fix::Command(fix) | Fix::Values(fix) | Fix::Words(fix)) = fix;
            let body = format!("found: {found}\nexpected: {expected}\nfix: {fix}");
            let _ = writeln!(
                out,
                "><failure type=\"{}\" message=\"{}\">{}</failure></testcase>",
                claim.code,
                escaped(problem),
                escaped(&body)
            );
        }
    }
}

/// For attributes and text. Characters that XML 1.0 (section 2.2) has no place for are replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\t' => out.push('\t'),
            c if c < ' ' || c == '\u{fffe}' || c == '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_status_is_a_case_of_its_group() {
        let statuses = [
            Status::pass("a < b"),
            Status::fail("\"quoted\" & \u{1b}[1m", "x\ny", "z", Fix::words("do it")),
            Status::skip("DP0101 failed"),
        ];
        let checks = catalog::all().take(3);
        let findings: Vec<_> = checks
            .zip(statuses)
            .map(|(check, status)| Finding {
                claim: check.claim,
                status,
                took: Duration::from_millis(1500),
            })
            .collect();
        let text = report(&findings);
        // What reads it here has attributes' entities, and loses those of text.
        assert!(text.contains("<system-out>a &lt; b</system-out>"), "{text}");
        let report = junit_parser::from_reader(text.as_bytes()).unwrap();
        assert_eq!(
            (
                report.name.as_str(),
                report.tests,
                report.failures,
                report.errors,
                report.skipped,
                report.time
            ),
            ("devplane doctor", 3, 1, 0, 1, 4.5)
        );
        let cases: Vec<_> = report.suites.iter().flat_map(|suite| &suite.cases).collect();
        for (case, finding) in cases.iter().zip(&findings) {
            assert_eq!(
                case.original_name,
                format!("{} {}", finding.claim.code, finding.claim.title)
            );
            assert_eq!(case.time, 1.5);
        }
        let failure = cases[1].status.failure_as_ref();
        assert_eq!(failure.failure_type, findings[1].claim.code);
        assert_eq!(failure.message, "\"quoted\" & \u{fffd}[1m");
        assert_eq!(cases[2].status.skipped_as_ref().message, "because DP0101 failed");
    }
}
