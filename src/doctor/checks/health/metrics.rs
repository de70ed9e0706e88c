//! `/metrics` of pods, asked for through the API server's proxy, become the claims that they can be scraped.

use super::super::super::check::{Check, Claim, Fix, Status};
use super::super::super::context::Context;
use super::super::super::reading::{Read, judged};
use crate::causes::with_causes;
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// Of operator and gateway.
const PORT: i32 = 8080;
/// What is dropped on the way is not answered at all.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

pub const OPERATOR: Check = Claim::warning("DP1106", "the operator's metrics can be read")
    .needs(&["DP1101"])
    .why("Alerts and the dashboard see nothing otherwise.")
    .docs(
        "A running pod of `app=workspace-operator` is asked for `/metrics` on port 8080 through the API server (`pods/proxy`). Where it gets no answer and \
         NetworkPolicies choose who does (`networkPolicy`), that is as it should be, and skipped with this reason.",
    )
    .check(|context| Box::pin(async move { judged(scrape(&context, "workspace-operator", "devplane_operator_").await) }));

pub const GATEWAY: Check = Claim::warning("DP1107", "the gateway's metrics can be read")
    .needs(&["DP1103"])
    .why("Alerts and the dashboard see nothing otherwise.")
    .docs(
        "A running pod of `app=workspace-gateway` is asked for `/metrics` on port 8080 through the API server (`pods/proxy`). Where it gets no answer and \
         NetworkPolicies choose who does (`networkPolicy`), that is as it should be, and skipped with this reason.",
    )
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
        "/api/v1/namespaces/{namespace}/pods/{scheme}{}:{PORT}/proxy/metrics",
        pod.name_any()
    );
    let client = context.client().map_err(|error| Status::skip(error.to_string()))?;
    let request = Request::get(path)
        .body(Vec::new())
        .map_err(|error| Status::skip(error.to_string()))?;
    let refused = match timeout(ANSWER_WITHIN, client.request_text(request)).await {
        Ok(Ok(text)) if text.contains(family) => {
            let samples = text.lines().filter(|line| !line.starts_with('#')).count();
            return Ok(Status::pass(format!("{}: {samples} samples", pod.name_any())));
        }
        Ok(Ok(_)) => {
            return Ok(Status::fail(
                format!("/metrics of {} has none of DevPlane", pod.name_any()),
                format!("nothing that begins with {family}"),
                format!("samples that begin with {family}"),
                Fix::words(format!(
                    "see what listens on port {PORT} of the pod: kubectl describe pod {} -n {namespace}",
                    pod.name_any()
                )),
            ));
        }
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
            return Ok(Status::skip(
                "this identity may not ask pods through the API server (get pods/proxy)",
            ));
        }
        Ok(Err(error)) => with_causes(&error),
        Err(_) => format!("no answer within {} s", ANSWER_WITHIN.as_secs()),
    };
    let policies: Vec<NetworkPolicy> = context.list(namespace, "").await?;
    let closed_by = closed_by(pod.labels(), &policies);
    if !closed_by.is_empty() {
        return Ok(Status::skip(format!(
            "the API server is not let in to {}, by which it is asked here, as {} says who is: look from one of networkPolicy.metricsNamespaces ({refused})",
            pod.name_any(),
            closed_by.join(", ")
        )));
    }
    Ok(Status::fail(
        format!("/metrics of {} can't be read", pod.name_any()),
        refused,
        "samples",
        Fix::words(format!(
            "see whether the API server reaches pods, and what listens on port {PORT} of the pod: kubectl describe pod {} -n {namespace}",
            pod.name_any()
        )),
    ))
}

/// The NetworkPolicies that choose who reaches the port of a pod with these labels; none when everybody does. Whether they are enforced is
/// another question: where they are not, the API server got an answer.
fn closed_by(pod: &BTreeMap<String, String>, policies: &[NetworkPolicy]) -> Vec<String> {
    let selects = |policy: &&NetworkPolicy| {
        let spec = policy.spec.as_ref();
        let is_of_ingress = spec.is_some_and(|spec| spec.policy_types.iter().flatten().any(|kind| kind == "Ingress"));
        let labels = spec.and_then(|spec| spec.pod_selector.as_ref()?.match_labels.as_ref());
        is_of_ingress
            && labels
                .into_iter()
                .flatten()
                .all(|(key, value)| pod.get(key) == Some(value))
    };
    let admits_all = |policy: &NetworkPolicy| {
        let rules = policy.spec.iter().flat_map(|spec| spec.ingress.iter().flatten());
        rules.into_iter().any(|rule| {
            let has_port = |port: &NetworkPolicyPort| port.port == Some(IntOrString::Int(PORT));
            let is_of_port = rule
                .ports
                .as_ref()
                .is_none_or(|ports| ports.is_empty() || ports.iter().any(has_port));
            is_of_port && rule.from.as_ref().is_none_or(Vec::is_empty)
        })
    };
    let selecting: Vec<&NetworkPolicy> = policies.iter().filter(selects).collect();
    if selecting.iter().any(|policy| admits_all(policy)) {
        return vec![];
    }
    selecting
        .iter()
        .map(|policy| format!("NetworkPolicy {}", policy.name_any()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_port_is_closed_where_policies_choose_who_reaches_it() {
        let policy = |name: &str, of: serde_json::Value, ingress: serde_json::Value| -> NetworkPolicy {
            let spec = json!({"podSelector": {"matchLabels": of}, "policyTypes": ["Ingress"], "ingress": ingress});
            serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
        };
        let pod = [("app".to_owned(), "workspace-operator".to_owned())].into();
        let ours = || json!({"app": "workspace-operator"});
        let nobody = policy("a", ours(), json!([]));
        let some = policy(
            "b",
            ours(),
            json!([{"from": [{"namespaceSelector": {}}], "ports": [{"port": 8080}]}]),
        );
        let anybody = policy("c", ours(), json!([{"ports": [{"port": 8080}]}]));
        let other_port = policy("d", ours(), json!([{"ports": [{"port": 8081}]}]));
        let of_all = policy("e", json!({}), json!([]));
        let of_others = policy("f", json!({"app": "workspace-gateway"}), json!([]));
        for (policies, expected) in [
            (vec![], vec![]),
            (vec![of_others.clone()], vec![]),
            (vec![nobody.clone()], vec!["NetworkPolicy a"]),
            (vec![some, other_port], vec!["NetworkPolicy b", "NetworkPolicy d"]),
            (vec![of_all.clone(), of_others], vec!["NetworkPolicy e"]),
            (vec![nobody, of_all, anybody], vec![]),
        ] {
            assert_eq!(closed_by(&pod, &policies), expected);
        }
    }
}
