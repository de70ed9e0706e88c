//! Findings become what people and programs read.

pub mod brief;
pub mod json;
pub mod junit;
pub mod progress;
pub mod reference;
pub mod text;

use super::check::{Finding, Severity, Status};

/// How many findings came out how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub ok: usize,
    pub warnings: usize,
    pub failed: usize,
    pub skipped: usize,
}

impl Counts {
    pub fn of(findings: &[Finding]) -> Self {
        let mut counts = Self::default();
        for finding in findings {
            *match (&finding.status, finding.claim.severity) {
                (Status::Pass { .. }, _) => &mut counts.ok,
                (Status::Fail(_), Severity::Warning) => &mut counts.warnings,
                (Status::Fail(_), Severity::Error) => &mut counts.failed,
                (Status::Skip { .. }, _) => &mut counts.skipped,
            } += 1;
        }
        counts
    }
}
