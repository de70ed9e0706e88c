//! The language model servers of the settings become what they have: all are asked at once, each one time.

use super::mirrors::{self, Asked, HERE, JSON, below, shown, unanswered, wrong_status};
use crate::api::workspace::Provider;
use crate::doctor::check::{Fix, Status};
use crate::doctor::context::Context;
use futures::future::join_all;
use hyper::StatusCode;
use serde_json::Value;

/// Each with the ids of its models, or with what is to be told of it.
pub type Models = Vec<(Provider, Result<Vec<String>, Status>)>;

/// Asks all of them.
pub async fn look(context: &Context) -> Models {
    let gateway = context.installation.gateway();
    let providers = gateway.map_or(&[][..], |gateway| &gateway.workspace.providers);
    let asked = providers
        .iter()
        .map(async |provider| (provider.clone(), ids(context, provider).await));
    join_all(asked).await
}

/// The ids that a server lists.
async fn ids(context: &Context, provider: &Provider) -> Result<Vec<String>, Status> {
    let Provider { name, endpoint, .. } = provider;
    let told = format!("language model server {name}");
    let url = below(endpoint, "v1/models").ok_or_else(|| {
        // Not the value, which may hold a password.
        Status::skip(format!("the endpoint of {name} in workspace.ai.providers is no URL"))
    })?;
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
            format!(
                "{told} answers {} with something else than a list of models",
                shown(&url)
            ),
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
