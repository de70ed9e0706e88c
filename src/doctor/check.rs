//! A claim, how it is proved, and what came of it.

use super::context::Context;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// How long a check may take that does not say otherwise.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What is claimed to hold. Codes are never used again for something else.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// `DP`, two digits of its group, two of its own.
    pub code: &'static str,
    /// What holds when it passes, as a sentence without a full stop.
    pub title: &'static str,
    pub severity: Severity,
    /// What users or administrators meet when it does not hold.
    pub why: &'static str,
    /// Claims that must hold before this one can be judged; they come earlier in the catalogue.
    pub needs: &'static [&'static str],
    /// What is looked at, and what to do, for the reference page; Markdown.
    pub docs: &'static str,
    /// It makes objects in the cluster, so it runs with `--probe` alone.
    pub probe: bool,
    pub patience: Duration,
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
    Fail(Failure),
    Skip { why: String },
}

/// What is wrong, and how to mend it. No text here may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In words, with the names of what it is about.
    pub problem: String,
    pub found: String,
    pub expected: String,
    pub fix: Fix,
}

/// How to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fix {
    /// Shell commands that can be run as they are.
    Command(String),
    /// YAML to be merged into the values file, before `helm upgrade --install` is run with it.
    Values(String),
    /// What a person has to decide or do elsewhere.
    Words(String),
}

/// A claim with its proof.
#[derive(Clone, Copy)]
pub struct Check {
    pub claim: Claim,
    pub run: Run,
}

/// A proof. It is given up when the claim's patience is at its end; what it made, it must have told the [`super::probe::Probes`] before.
pub type Run = fn(Arc<Context>) -> BoxFuture<'static, Status>;

/// A claim with what came of it.
#[derive(Clone, Debug)]
pub struct Finding {
    pub claim: Claim,
    pub status: Status,
    pub took: Duration,
}

impl Claim {
    /// A claim that means that the installation does not work when it does not hold.
    pub const fn error(code: &'static str, title: &'static str) -> Self {
        Self {
            code,
            title,
            severity: Severity::Error,
            why: "",
            needs: &[],
            docs: "",
            probe: false,
            patience: PATIENCE,
        }
    }

    /// A claim that is good to hold.
    pub const fn warning(code: &'static str, title: &'static str) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, title)
        }
    }

    #[must_use]
    pub const fn why(self, why: &'static str) -> Self {
        Self { why, ..self }
    }

    #[must_use]
    pub const fn needs(self, needs: &'static [&'static str]) -> Self {
        Self { needs, ..self }
    }

    #[must_use]
    pub const fn docs(self, docs: &'static str) -> Self {
        Self { docs, ..self }
    }

    #[must_use]
    pub const fn probe(self) -> Self {
        Self { probe: true, ..self }
    }

    #[must_use]
    pub const fn patience(self, seconds: u64) -> Self {
        Self {
            patience: Duration::from_secs(seconds),
            ..self
        }
    }

    pub const fn check(self, run: Run) -> Check {
        Check { claim: self, run }
    }
}

impl Status {
    pub fn pass(evidence: impl Into<String>) -> Self {
        Self::Pass {
            evidence: evidence.into(),
        }
    }

    /// `why` follows the word "because".
    pub fn skip(why: impl Into<String>) -> Self {
        Self::Skip { why: why.into() }
    }

    pub fn fail(problem: impl Into<String>, found: impl Into<String>, expected: impl Into<String>, fix: Fix) -> Self {
        Self::Fail(Failure {
            problem: problem.into(),
            found: found.into(),
            expected: expected.into(),
            fix,
        })
    }
}

impl Fix {
    pub fn command(text: impl Into<String>) -> Self {
        Self::Command(text.into())
    }

    pub fn values(text: impl Into<String>) -> Self {
        Self::Values(text.into())
    }

    pub fn words(text: impl Into<String>) -> Self {
        Self::Words(text.into())
    }

    /// The same behind commands that come first; they end with a line break, unless there is none.
    pub fn after(self, commands: &str) -> Self {
        match self {
            Self::Command(text) => Self::Command(format!("{commands}{text}")),
            Self::Words(text) => Self::Words(format!("{commands}{text}")),
            values @ Self::Values(_) => values,
        }
    }
}
