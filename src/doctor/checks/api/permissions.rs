//! `SelfSubjectAccessReview`s become the claim that this identity may do what its role needs.

use super::super::super::access::{Subject, missing};
use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::rights;
use crate::causes::with_causes;
use std::sync::Arc;

pub const CHECK: Check = CLAIM.check(|context| Box::pin(check(context)));

const CLAIM: Claim = Claim::error("DP0203", "this identity may do what its role needs")
    .needs(&["DP0201"])
    .why("What the role is refused it can't do, and users see that their workspace does not start, or can't sign in.")
    .docs(
        "Run as a role (in its pod, or with `--role`), the doctor asks the API server for each right that the role needs. With `--values` it is \
         an administrator who asks, and DP03 looks at the rights of both service accounts.",
    );

async fn check(context: Arc<Context>) -> Status {
    let Ok(client) = context.client() else {
        return Status::skip("there is no client");
    };
    let installation = &context.installation;
    let Some(role) = installation.role() else {
        return Status::skip("values are checked here, not a role that runs");
    };
    let rights = rights::of_installation(installation, role);
    let total = rights.len();
    match missing(client, &Subject::Caller, rights).await {
        Ok(missing) if missing.is_empty() => Status::pass(format!("all {total} rights are there")),
        Ok(missing) => Status::fail(
            format!(
                "not allowed: {}",
                missing.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ),
            format!("{} of {total} rights are missing", missing.len()),
            "the rights of the chart's Roles",
            Fix::words("install the chart's Roles: helm upgrade with rights to make Roles, or ask an administrator to"),
        ),
        Err(error) => Status::fail(
            "permissions can't be asked for",
            with_causes(&error),
            "an answer, which every identity may have about itself",
            Fix::words("check that the API server answers"),
        ),
    }
}
