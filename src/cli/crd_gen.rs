//! The Workspace type becomes its CustomResourceDefinition in YAML on standard output.

use super::{Failure, printer};
use crate::api::Workspace;
use anyhow::Context;
use kube::CustomResourceExt;

pub fn run() -> Result<(), Failure> {
    printer::data(&yaml()?);
    Ok(())
}

/// The definition as `kubectl apply` takes it.
fn yaml() -> anyhow::Result<String> {
    // By way of a JSON value: it drops what is absent, which YAML writers show as null and strict validation refuses.
    let value = serde_json::to_value(Workspace::crd()).context("can't serialize the CustomResourceDefinition")?;
    serde_saphyr::to_string(&value).context("can't write the CustomResourceDefinition as YAML")
}
