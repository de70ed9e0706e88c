//! DP01: settings and values become the claim that they are complete, by the very reader that the roles themselves use.

use super::super::check::{Check, Claim, Fix, Status};
use super::super::context::Context;
use super::super::installation::Installation;
use super::super::values::settings::values_key;
use crate::config::{Problem, Problems};
use std::sync::Arc;

pub const CHECKS: &[Check] = &[VALID.check(|context| Box::pin(valid(context)))];

const VALID: Claim = Claim::error("DP0101", "the configuration is complete and valid")
    .why("A role with a setting that is missing or wrong does not start.")
    .docs(
        "The settings are read as operator and gateway read them: from the environment and `--config`, or from the values files with the \
         chart's defaults under them. Every setting that is missing or not what it must be is told at once.",
    );

async fn valid(context: Arc<Context>) -> Status {
    let installation = &context.installation;
    let problems: Vec<_> = [
        installation.operator.as_ref().and_then(|read| read.as_ref().err()),
        installation.gateway.as_ref().and_then(|read| read.as_ref().err()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if problems.is_empty() {
        return Status::pass(evidence(installation));
    }
    let fix = if installation.values.is_some() {
        "correct each key in the values file as said above"
    } else {
        "correct each setting as said above; the chart sets them all from its values"
    };
    let found = problems.iter().map(|problems| problems.0.len()).sum::<usize>();
    Status::fail(
        told(&problems, installation.values.is_some()),
        format!("{found} that can't be used"),
        "settings that the roles can start with",
        Fix::words(fix),
    )
}

fn evidence(installation: &Installation) -> String {
    let mut text = format!(
        "operator and gateway are in namespace {}, Workspaces in {}",
        installation.namespace, installation.workspaces
    );
    if let Some(why) = &installation.oidc_unknown {
        text.push_str(&format!("; the OIDC client is not known: {why}"));
    }
    if installation.oidc_of_environment {
        text.push_str("; issuer, client and redirect URL are those of OIDC_ISSUER_URL and the like in the environment");
    }
    text
}

/// As the roles tell them; with the keys of the values, if it is those that are given.
fn told(problems: &[&Problems], are_values: bool) -> String {
    if !are_values {
        return problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    }
    let mut lines: Vec<String> = Vec::new();
    for Problem {
        key, found, expected, ..
    } in problems.iter().flat_map(|problems| &problems.0)
    {
        let variable = key.split(' ').next().unwrap_or_default();
        let key = values_key(variable).unwrap_or(key);
        let found = found
            .as_deref()
            .map(|found| found.split(" from the ").next().unwrap_or(found));
        let line = format!("{key} is {}; expected: {expected}", found.unwrap_or("not set"));
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines.join("\n")
}
