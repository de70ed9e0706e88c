//! DP10: language models and mirrors become the claims that workspaces find what they are set to use.

use super::super::check::{Check, Claim, Fix, Status};
use super::super::context::Context;
use super::super::outside::mirrors::{self, Asked, HERE, below, shown, unanswered, wrong_status};
use super::admitted::ADMITTED;
use super::from_inside::FROM_INSIDE;
use super::outcome;
use crate::api::workspace::Provider;
use crate::http_client::HttpError;
use hyper::StatusCode;
use std::sync::Arc;
use url::Url;

pub const CHECKS: &[Check] = &[
    MODELS_ANSWER.check(|context| Box::pin(models_answer(context))),
    MODELS_LISTED.check(|context| Box::pin(models_listed(context))),
    PIP.check(|context| Box::pin(pip(context))),
    NPM.check(|context| Box::pin(npm(context))),
    ADMITTED,
    FROM_INSIDE,
];

/// PEP 691 with PEP 503 as a way back.
const SIMPLE: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";

const MODELS_ANSWER: Claim = Claim::error("DP1001", "each language model server answers")
    .why("opencode in the workspaces has nobody to talk to.")
    .needs(&["DP0101", "DP0501"])
    .patience(25)
    .docs(
        "`GET /v1/models` below each endpoint of `workspace.ai.providers`, from where the doctor runs and not from a workspace (see DP1005 and DP1006), trusting whom workspaces trust. Names that \
         only the cluster's DNS knows are skipped elsewhere.",
    );

const MODELS_LISTED: Claim = Claim::error(
    "DP1002",
    "each language model server has the models that are configured",
)
.why("Users choose a model and get an error.")
.needs(&["DP1001"])
.patience(25)
.docs("Every model of `workspace.ai.providers[].models` is an `id` of that list, exactly.");

const PIP: Claim = Claim::error("DP1003", "the mirror for pip answers")
    .why("`pip install` fails in every workspace.")
    .needs(&["DP0101", "DP0501"])
    .patience(25)
    .docs(
        "`workspace.packageMirrors.pip.indexUrl` has a page of the project pip, or of all projects (PEP 503, PEP 691). Certificates of the host in \
         `trustedHost` are not looked at, as pip does not.",
    );

const NPM: Claim = Claim::error("DP1004", "the mirror for npm answers")
    .why("`npm install` fails in every workspace.")
    .needs(&["DP0101", "DP0501"])
    .patience(25)
    .docs("`workspace.packageMirrors.npm.registry` has the package npm, or answers `-/ping`.");

async fn models_answer(context: Arc<Context>) -> Status {
    let judged = context
        .models()
        .await
        .iter()
        .map(|(Provider { name, .. }, there)| match there {
            Ok(models) => Status::pass(format!("{name}: {} models, asked from here", models.len())),
            Err(status) => status.clone(),
        });
    outcome::all(
        judged.collect(),
        "no language model is configured (workspace.ai.providers)",
    )
}

async fn models_listed(context: Arc<Context>) -> Status {
    // One that does not answer is DP1001's.
    let answered = context
        .models()
        .await
        .iter()
        .filter_map(|(provider, there)| Some((provider, there.as_ref().ok()?)));
    let judged = answered.map(|(provider, there)| has_what_is_configured(provider, there));
    outcome::all(judged.collect(), "no language model server answers")
}

fn has_what_is_configured(provider: &Provider, there: &[String]) -> Status {
    let Provider {
        name, models: wanted, ..
    } = provider;
    let missing: Vec<_> = wanted.iter().filter(|model| !there.contains(model)).cloned().collect();
    if missing.is_empty() {
        return Status::pass(format!("{name}: {}", wanted.join(", ")));
    }
    let mut kept: Vec<_> = wanted.iter().filter(|model| there.contains(model)).cloned().collect();
    if kept.is_empty() {
        kept = there.to_vec();
    }
    Status::fail(
        format!("language model server {name} has no {}", missing.join(", ")),
        there.join(", "),
        wanted.join(", "),
        Fix::words(format!(
            "load the model at the server, or name in workspace.ai.providers what it has: models: [{}]",
            kept.join(", ")
        )),
    )
}

async fn pip(context: Arc<Context>) -> Status {
    let Some(operator) = context.installation.operator() else {
        return Status::skip("there are no settings of an operator");
    };
    let Some(index) = &operator.workspace.common.pip_index_url else {
        return Status::pass("none is set");
    };
    let trusted_host = operator.workspace.common.pip_trusted_host.as_deref();
    // A mirror may have no pip, but then it has a list of what it has; that list may be larger than anybody wants to read.
    mirror(
        &context,
        "the mirror for pip",
        ("workspace.packageMirrors.pip.indexUrl", index),
        ["pip/", ""],
        SIMPLE,
        trusted_host,
    )
    .await
}

async fn npm(context: Arc<Context>) -> Status {
    let Some(operator) = context.installation.operator() else {
        return Status::skip("there are no settings of an operator");
    };
    match &operator.workspace.common.npm_registry {
        Some(registry) => {
            let registry = ("workspace.packageMirrors.npm.registry", registry.as_str());
            mirror(
                &context,
                "the mirror for npm",
                registry,
                ["npm", "-/ping"],
                mirrors::JSON,
                None,
            )
            .await
        }
        None => Status::pass("none is set"),
    }
}

/// Whether one of two paths below a mirror's address is there.
async fn mirror(
    context: &Context,
    told: &str,
    (key, base): (&str, &str),
    paths: [&str; 2],
    accept: &'static str,
    trusted_host: Option<&str>,
) -> Status {
    // Not the value, which may hold a password.
    let mut last = Status::skip(format!("{key} is no URL"));
    for path in paths {
        let Some(url) = below(base, path) else { continue };
        match mirrors::ask(context, &url, accept).await {
            Asked::Answered(answer) if answer.status().is_success() => {
                return Status::pass(format!("{} answers, asked from here", shown(&url)));
            }
            Asked::Failed(HttpError::TooLarge { .. }) => {
                return Status::pass(format!("{} answers with much", shown(&url)));
            }
            Asked::Answered(answer) if answer.status() == StatusCode::NOT_FOUND => {
                last = wrong_status(told, &url, answer.status())
            }
            Asked::Answered(answer) => return wrong_status(told, &url, answer.status()),
            Asked::Elsewhere => return Status::skip(HERE),
            Asked::Failed(error) => {
                let is_trusted = trusted_host.is_some_and(|host| is_host(host, &url));
                if error.tls().is_some() && is_trusted {
                    return Status::pass(format!(
                        "{} answers with a certificate that pip does not look at",
                        shown(&url)
                    ));
                }
                return unanswered(told, &url, &error);
            }
        }
    }
    last
}

/// Whether pip's `trusted-host` is that of a URL: with its port, or for all ports.
fn is_host(trusted: &str, url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    trusted == host
        || url
            .port_or_known_default()
            .is_some_and(|port| trusted == format!("{host}:{port}"))
}
