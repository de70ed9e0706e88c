//! `/metrics` of pods, asked for through the API server's proxy, become the claims that they can be scraped.

use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::reading::{Read, judged};
use crate::causes::with_causes;
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use std::sync::Arc;

pub const OPERATOR: Check = Claim::warning("DP1106", "the operator's metrics can be read")
    .needs(&["DP1101"])
    .why("Alerts and the dashboard see nothing otherwise.")
    .docs("A ready pod of `app=workspace-operator` is asked for `/metrics` on port 8080 through the API server (`pods/proxy`).")
    .check(|context| Box::pin(async move { judged(scrape(&context, "workspace-operator", "devplane_operator_").await) }));

pub const GATEWAY: Check = Claim::warning("DP1107", "the gateway's metrics can be read")
    .needs(&["DP1103"])
    .why("Alerts and the dashboard see nothing otherwise.")
    .docs("A ready pod of `app=workspace-gateway` is asked for `/metrics` on port 8080 through the API server (`pods/proxy`).")
    .check(|context| Box::pin(async move { judged(scrape(&context, "workspace-gateway", "devplane_gateway_").await) }));

async fn scrape(context: &Arc<Context>, app: &str, family: &str) -> Read<Status> {
    let installation = &context.installation;
    let namespace = &installation.namespace;
    let pods: Vec<Pod> = context.list(namespace, &format!("app={app}")).await?;
    let Some(pod) = pods.iter().find(|pod| {
        pod.status
            .as_ref()
            .is_some_and(|status| status.phase.as_deref() == Some("Running"))
    }) else {
        return Ok(Status::skip(format!("no pod of {app} runs in {namespace}")));
    };
    let serves_tls = app == "workspace-gateway"
        && installation
            .values
            .as_ref()
            .is_some_and(|values| !values.text("gateway.tls.secretName").is_empty());
    let scheme = if serves_tls { "https:" } else { "" };
    let path = format!(
        "/api/v1/namespaces/{namespace}/pods/{scheme}{}:8080/proxy/metrics",
        pod.name_any()
    );
    let client = context.client().map_err(|error| Status::skip(error.to_string()))?;
    let request = Request::get(path)
        .body(Vec::new())
        .map_err(|error| Status::skip(error.to_string()))?;
    match client.request_text(request).await {
        Ok(text) if text.contains(family) => {
            let samples = text.lines().filter(|line| !line.starts_with('#')).count();
            Ok(Status::pass(format!("{}: {samples} samples", pod.name_any())))
        }
        Ok(_) => Ok(Status::fail(
            format!("/metrics of {} has none of DevPlane", pod.name_any()),
            format!("nothing that begins with {family}"),
            format!("samples that begin with {family}"),
            Fix::words(format!(
                "see what listens on port 8080 of the pod: kubectl describe pod {} -n {namespace}",
                pod.name_any()
            )),
        )),
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(Status::skip(
            "this identity may not ask pods through the API server (get pods/proxy)",
        )),
        Err(error) => Ok(Status::fail(
            format!("/metrics of {} can't be read", pod.name_any()),
            with_causes(&error),
            "samples",
            Fix::words(
                "see whether the API server reaches pods, and whether a NetworkPolicy is in between (networkPolicy.metricsNamespaces)",
            ),
        )),
    }
}
