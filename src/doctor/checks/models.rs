//! DP10: language models and mirrors become the claims that workspaces find what they are set to use.

use super::super::check::{Check, Claim, Fix, Status};
use super::super::context::Context;
use super::super::outside::mirrors::{self, Asked};
use super::outcome;
use crate::api::workspace::Provider;
use crate::http_client::HttpError;
use hyper::StatusCode;
use serde_json::Value;
use std::sync::Arc;
use url::Url;

pub const CHECKS: &[Check] = &[
    MODELS_ANSWER.check(|context| Box::pin(models_answer(context))),
    MODELS_LISTED.check(|context| Box::pin(models_listed(context))),
    PIP.check(|context| Box::pin(pip(context))),
    NPM.check(|context| Box::pin(npm(context))),
];

const JSON: &str = "application/json";
/// PEP 691 with PEP 503 as a way back.
const SIMPLE: &str = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1";
const HERE: &str = "it is a name of the cluster's, which does not resolve here: run the doctor in the cluster";

const MODELS_ANSWER: Claim = Claim::error("DP1001", "each language model server answers")
    .why("opencode in the workspaces has nobody to talk to.")
    .needs(&["DP0101", "DP0501"])
    .patience(25)
    .docs(
        "`GET /v1/models` below each endpoint of `workspace.ai.providers`, from where the doctor runs, trusting whom workspaces trust. Names that \
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

fn providers(context: &Context) -> &[Provider] {
    context
        .installation
        .gateway()
        .map_or(&[], |gateway| &gateway.workspace.providers)
}

async fn models_answer(context: Arc<Context>) -> Status {
    let mut statuses = vec![];
    for provider in providers(&context) {
        statuses.push(match models(&context, provider).await {
            Ok(models) => Status::pass(format!("{}: {} models", provider.name, models.len())),
            Err(status) => status,
        });
    }
    outcome::all(statuses, "no language model is configured (workspace.ai.providers)")
}

async fn models_listed(context: Arc<Context>) -> Status {
    let mut statuses = vec![];
    for provider in providers(&context) {
        let Provider {
            name, models: wanted, ..
        } = provider;
        // One that does not answer is DP1001's.
        let Ok(there) = models(&context, provider).await else {
            continue;
        };
        let missing: Vec<_> = wanted.iter().filter(|model| !there.contains(model)).cloned().collect();
        if missing.is_empty() {
            statuses.push(Status::pass(format!("{name}: {}", wanted.join(", "))));
            continue;
        }
        let mut kept: Vec<_> = wanted.iter().filter(|model| there.contains(model)).cloned().collect();
        if kept.is_empty() {
            kept.clone_from(&there);
        }
        statuses.push(Status::fail(
            format!("language model server {name} has no {}", missing.join(", ")),
            there.join(", "),
            wanted.join(", "),
            Fix::words(format!(
                "load the model at the server, or name in workspace.ai.providers what it has: models: [{}]",
                kept.join(", ")
            )),
        ));
    }
    outcome::all(statuses, "no language model server answers")
}

/// The ids that a server lists.
async fn models(context: &Context, provider: &Provider) -> Result<Vec<String>, Status> {
    let Provider { name, endpoint, .. } = provider;
    let told = format!("language model server {name}");
    let url = below(endpoint, "v1/models").ok_or_else(|| Status::skip(format!("{endpoint} is no URL")))?;
    let answer = match mirrors::ask(context, &url, JSON).await {
        Asked::Answered(answer) => answer,
        Asked::Elsewhere => return Err(Status::skip(HERE)),
        Asked::Failed(error) => return Err(unanswered(&told, &url, &error)),
    };
    if answer.status() != StatusCode::OK {
        return Err(wrong_status(&told, &url, answer.status()));
    }
    let list = serde_json::from_slice::<Value>(answer.body()).unwrap_or_default();
    let Some(list) = list["data"].as_array() else {
        return Err(Status::fail(
            format!("{told} answers {url} with something else than a list of models"),
            "no JSON with a list data",
            "an OpenAI-compatible server",
            Fix::words("set the endpoint to the server's address without /v1"),
        ));
    };
    Ok(list
        .iter()
        .filter_map(|model| model["id"].as_str())
        .map(str::to_owned)
        .collect())
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
        index,
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
        Some(registry) => mirror(&context, "the mirror for npm", registry, ["npm", "-/ping"], JSON, None).await,
        None => Status::pass("none is set"),
    }
}

/// Whether one of two paths below a mirror's address is there.
async fn mirror(
    context: &Context,
    told: &str,
    base: &str,
    paths: [&str; 2],
    accept: &'static str,
    trusted_host: Option<&str>,
) -> Status {
    let mut last = Status::skip(format!("{base} is no URL"));
    for path in paths {
        let Some(url) = below(base, path) else { continue };
        match mirrors::ask(context, &url, accept).await {
            Asked::Answered(answer) if answer.status().is_success() => {
                return Status::pass(format!("{} answers", shown(&url)));
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

fn below(base: &str, path: &str) -> Option<Url> {
    Url::parse(&format!("{}/{path}", base.trim_end_matches('/'))).ok()
}

fn unanswered(told: &str, url: &Url, error: &HttpError) -> Status {
    let fix = if error.tls().is_some() {
        "put the authority that signed its certificate into customCA.pem, or into the ConfigMap of workspace.defaultCABundle"
    } else {
        "see that it is up, that its name resolves here, and that nothing between refuses the connection"
    };
    Status::fail(
        format!("{told} does not answer at {}: {error}", shown(url)),
        error.to_string(),
        "an answer",
        Fix::words(fix),
    )
}

fn wrong_status(told: &str, url: &Url, status: StatusCode) -> Status {
    let fix = match status.as_u16() {
        _ if status.is_redirection() => "set the address that it sends to: redirects are not followed",
        401 | 403 => "let workspaces in without credentials, or give them credentials by workspace.pod.env or mounts",
        404 => "correct the address in the values: nothing is there",
        _ => "see the server's log",
    };
    Status::fail(
        format!("{told} answers {} with the HTTP status {status}", shown(url)),
        status.to_string(),
        "200",
        Fix::words(fix),
    )
}

/// Without a user and a password, which an index's address may have.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Both can't fail for http.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}
