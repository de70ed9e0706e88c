//! Findings become one JSON document, whose form is `docs/reference/doctor.schema.json`.

use super::super::catalog::group_of;
use super::super::check::{Failure, Finding, Fix, Severity, Status};
use super::Counts;
use schemars::JsonSchema;
use serde::Serialize;

/// The report of `devplane doctor -o json`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "The report of devplane doctor, schema version 1")]
struct Report {
    /// Of this form: one more field is another version.
    schema_version: u32,
    /// Of the executable.
    version: &'static str,
    /// In the order of their codes.
    findings: Vec<Entry>,
    summary: Summary,
}

/// How many findings have each status.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Summary {
    ok: usize,
    failed: usize,
    warnings: usize,
    skipped: usize,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Entry {
    /// Such as DP0201; it never means anything else.
    code: &'static str,
    /// What is claimed.
    title: &'static str,
    group: &'static str,
    severity: Level,
    status: Word,
    /// How long the check took.
    seconds: f64,
    /// What shows that the claim holds; of status ok.
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<String>,
    /// Of status failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<Trouble>,
    /// Why it can't be known; of status skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// The installation does not work.
    Error,
    /// It works, but not as it should.
    Warning,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Word {
    Ok,
    Failed,
    Skipped,
}

/// What is wrong and how to mend it.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Trouble {
    problem: String,
    found: String,
    expected: String,
    fix: Remedy,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Remedy {
    kind: Kind,
    text: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// Shell commands that can be run as they are.
    Command,
    /// YAML to be merged into the values file, before helm upgrade is run with it.
    Values,
    /// What a person has to decide or do elsewhere.
    Words,
}

/// The report.
pub fn report(findings: &[Finding]) -> String {
    let Counts {
        ok,
        warnings,
        failed,
        skipped,
    } = Counts::of(findings);
    pretty(&Report {
        schema_version: 1,
        version: env!("CARGO_PKG_VERSION"),
        findings: findings.iter().map(entry).collect(),
        summary: Summary {
            ok,
            failed,
            warnings,
            skipped,
        },
    })
}

/// The JSON Schema of the report.
pub fn schema() -> String {
    pretty(&schemars::schema_for!(Report))
}

fn pretty(value: &impl Serialize) -> String {
    // Numbers and texts alone: it can't fail.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

fn entry(finding: &Finding) -> Entry {
    let claim = finding.claim;
    let mut entry = Entry {
        code: claim.code,
        title: claim.title,
        group: group_of(&claim).map_or("", |group| group.title),
        severity: match claim.severity {
            Severity::Error => Level::Error,
            Severity::Warning => Level::Warning,
        },
        status: Word::Ok,
        seconds: (finding.took.as_secs_f64() * 1000.0).round() / 1000.0,
        evidence: None,
        failure: None,
        because: None,
    };
    match &finding.status {
        Status::Pass { evidence } => entry.evidence = Some(evidence.clone()),
        Status::Fail(failure) => {
            entry.status = Word::Failed;
            entry.failure = Some(trouble(failure));
        }
        Status::Skip { why } => {
            entry.status = Word::Skipped;
            entry.because = Some(why.clone());
        }
    }
    entry
}

fn trouble(failure: &Failure) -> Trouble {
    let Failure {
        problem,
        found,
        expected,
        fix,
    } = failure.clone();
    let (kind, text) = match fix {
        Fix::Command(text) => (Kind::Command, text),
        Fix::Values(text) => (Kind::Values, text),
        Fix::Words(text) => (Kind::Words, text),
    };
    Trouble {
        problem,
        found,
        expected,
        fix: Remedy { kind, text },
    }
}
