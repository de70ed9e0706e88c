//! A claim and what came of it.

/// What is claimed to hold. Codes are never used again for something else.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub code: &'static str,
    pub title: &'static str,
    pub severity: Severity,
}

/// What a claim that does not hold means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The installation does not work.
    Error,
    /// It works, but not as it should.
    Warning,
}

/// What came of a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    Pass { evidence: String },
    Fail { problem: String, fix: String },
    Skip { why: String },
}

/// A claim with what came of it.
#[derive(Clone, Debug)]
pub struct Finding {
    pub claim: Claim,
    pub status: Status,
}

impl Claim {
    pub fn finding(self, status: Status) -> Finding {
        Finding { claim: self, status }
    }
}
