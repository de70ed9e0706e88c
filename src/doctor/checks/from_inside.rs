//! What a pod that is policed like a workspace finds of language models and mirrors becomes the claim that workspaces reach them.

use super::super::check::{Check, Claim, Fix, Status};
use super::super::context::Context;
use super::super::outside::authorities::Given;
use super::super::outside::mirrors::TRUSTED;
use super::super::report::brief::{self, Brief, Word};
use super::super::values::Values;
use super::admitted;
use super::network::ranges;
use super::pods::{Pods, ended, labels};
use crate::api::egress::PolicyBackend;
use crate::config::OperatorConfig;
use crate::policy::{self, Egress, cilium};
use kube::Client;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

pub const FROM_INSIDE: Check = Claim::error("DP1006", "workspaces reach language models and mirrors")
    .why("Whatever they say elsewhere: from a workspace, with its policies, its DNS and its authorities, nobody gets to them.")
    .needs(&["DP0101", "DP0201", "DP0501"])
    .docs(
        "A pod runs for a moment in the namespace of the workspaces, under Pod Security's `restricted`, with the policies that a workspace of no class gets and its settings of names, and checks \
         DP1001 to DP1004 from there once it is policed: every model server answers and has its models, every mirror answers. Only what `--values` says is asked. What it needs to know is in a Secret beside it; all of it is \
         removed afterwards, also after Ctrl-C. A server that lets in pods by their label must know this one's, `app: devplane-doctor-workspace-…`. Of certificates only those \
         are judged that `customCA` is for: the pod has no other authorities, as workspaces have in their image. It takes the rights of DP0810, and to make and delete Secrets and, with that backend, CiliumNetworkPolicies \
         there; without `clusterCIDRs` those of DP0803. Skipped are `workspace.ceilings`, which narrow what workspaces may reach, and a proxy (`workspace.pod.proxy`).",
    )
    .probe()
    .patience(240)
    .check(|context| Box::pin(from_inside(context)));

/// What is asked from there of models, and of mirrors.
const OF_MODELS: [&str; 2] = ["DP1001", "DP1002"];
const OF_MIRRORS: [&str; 2] = ["DP1003", "DP1004"];
/// For the image to be pulled, and for all that is asked.
const ENDED_WITHIN: Duration = Duration::from_secs(190);
/// Where the pod has the values.
const DIRECTORY: &str = "/etc/devplane-doctor";
const FILE: &str = "values.json";

async fn from_inside(context: Arc<Context>) -> Status {
    let (Ok(client), Some(operator), Some(values)) = (
        context.client(),
        context.installation.operator(),
        &context.installation.values,
    ) else {
        return Status::skip("it takes --values to know language models and mirrors");
    };
    let common = &operator.workspace.common;
    if let Some(why) = admitted::depends_on_more(common) {
        return Status::skip(why);
    }
    let used = admitted::used(&context, common);
    if used.is_empty() {
        return Status::skip("workspaces are set to use nothing");
    }
    let mut egress = admitted::egress(common, &operator.cluster_cidrs);
    if egress.cluster_cidrs.is_empty() && egress.wants_outside() {
        match ranges::found(&context).await {
            Ok(Ok(found)) => egress.cluster_cidrs = found.into(),
            Ok(Err(why)) if used.iter().any(|used| !used.is_inside()) => {
                return Status::skip(format!("the cluster's own ranges are not known (DP0803): {why}"));
            }
            Ok(Err(_)) => {}
            Err(status) => return status,
        }
    }
    let pem = match context.workspace_authorities().await {
        Given::Authorities(given) => given.pem.as_str(),
        _ => "",
    };
    let has_models = values
        .get("workspace.ai.providers")
        .as_array()
        .is_some_and(|all| !all.is_empty());
    let codes = [if has_models { &OF_MODELS[..] } else { &[] }, &OF_MIRRORS].concat();
    let told = told_by_pod(&context, client, operator, &egress, &asked(values, pem), &codes).await;
    told.map_or_else(Status::skip, |briefs| judged(&briefs, &codes))
}

/// Of the values what the pod is to ask for. Nothing of the provider's client is in it.
fn asked(values: &Values, pem: &str) -> Value {
    let nobody = "https://unknown.invalid";
    json!({
        "gateway": {"oidc": {
            "issuerURL": nobody, "clientID": "unknown", "clientSecret": "unknown", "redirectURL": format!("{nobody}/callback"),
        }},
        "workspace": {
            "ai": {"providers": values.get("workspace.ai.providers")},
            "packageMirrors": values.get("workspace.packageMirrors"),
        },
        "customCA": {"pem": pem},
    })
}

async fn told_by_pod(
    context: &Context,
    client: &Client,
    operator: &OperatorConfig,
    egress: &Egress,
    values: &Value,
    codes: &[&str],
) -> Result<Vec<Brief>, String> {
    let pods = Pods::new(context, client, operator).await?;
    let name = pods.name("workspace");
    for policy in policies(&pods, &name, operator.workspace.common.policy_backend, egress) {
        pods.create(&policy).await?;
    }
    pods.create(&json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": {FILE: values.to_string()},
    }))
    .await?;
    let arguments = [
        "doctor".to_owned(),
        format!("--values={DIRECTORY}/{FILE}"),
        format!("--only={}", codes.join(",")),
        "--brief=/dev/termination-log".to_owned(),
        "--once-policed".to_owned(),
    ];
    let mut pod = pods.pod(&name, &arguments, None);
    let settings = &operator.workspace.common.pod;
    for (key, value) in &settings.labels {
        let labels = &mut pod["metadata"]["labels"][key];
        if labels.is_null() {
            *labels = json!(value);
        }
    }
    let spec = &mut pod["spec"];
    spec["dnsConfig"] = json!(settings.dns_config);
    spec["runtimeClassName"] = json!(settings.runtime_class_name);
    spec["volumes"] = json!([{"name": "values", "secret": {"secretName": name, "defaultMode": 0o444}}]);
    spec["containers"][0]["volumeMounts"] = json!([{"name": "values", "mountPath": DIRECTORY, "readOnly": true}]);
    pods.create(&pod).await?;
    let message = pods.until(&name, ENDED_WITHIN, ended).await?;
    brief::parse(&message).map_err(|_| format!("the pod {name} has not told what it found, but: {message}"))
}

/// A workspace's, but for the gateway's way to its terminal.
fn policies(pods: &Pods<'_>, pod: &str, backend: PolicyBackend, egress: &Egress) -> Vec<Value> {
    let selected = labels(pod);
    let policy = |what: &str, (version, kind): (&str, &str), spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": pods.name(what)}, "spec": spec});
    let network_policy = ("networking.k8s.io/v1", "NetworkPolicy");
    let of_workspace = match backend {
        PolicyBackend::Kubernetes => (network_policy, json!(policy::egress(&selected, egress))),
        PolicyBackend::Cilium => (
            ("cilium.io/v2", "CiliumNetworkPolicy"),
            json!(cilium::egress(&selected, egress)),
        ),
    };
    vec![
        policy("workspace-deny-all", network_policy, json!(policy::deny_all(&selected))),
        policy("workspace-egress", of_workspace.0, of_workspace.1),
    ]
}

/// What the pod does not know counts as not reached: it is where workspaces are. But it knows no other authorities than those it was given.
fn judged(briefs: &[Brief], codes: &[&str]) -> Status {
    let mut told = Vec::new();
    let (mut wrong, mut unjudged) = (Vec::new(), Vec::new());
    for code in codes {
        let Some(brief) = briefs.iter().find(|brief| brief.code == *code) else {
            return Status::skip(format!("the pod has told nothing of {code}"));
        };
        let words = format!("{code}: {}", brief.text);
        match brief.status {
            Word::Ok => told.push(words),
            Word::Failed if brief.expected == TRUSTED => unjudged.push(words),
            // What rests on another claim has no word of its own.
            Word::Skipped if *code == "DP1002" => {}
            Word::Failed | Word::Skipped => wrong.push(words),
        }
    }
    if !wrong.is_empty() {
        return Status::fail(
            "from a pod with a workspace's policies, something that workspaces are set to use is not reached",
            wrong.join("; "),
            "what DP1001 to DP1004 find from where the doctor runs",
            Fix::words(
                "see DP1005 for the policies, DP0801 and DP0810 for DNS, DP0803 for the cluster's ranges, and whether the other side lets the pods of workspaces in; where DP1001 to DP1004 fail too, mend that first",
            ),
        );
    }
    if !unjudged.is_empty() {
        return Status::skip(format!(
            "the pod knows no authorities but those of the values: {}",
            unjudged.join("; ")
        ));
    }
    Status::pass(told.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::installation::{Installation, OidcSource};

    #[test]
    fn what_the_pod_is_told_is_complete_and_holds_no_secret_of_the_gateway() {
        let given = include_str!("../../../tests/chart/values/full.yaml");
        let values = Values::try_from(given).unwrap();
        let asked = asked(&values, "").to_string();
        assert!(!asked.contains("planted"), "{asked}");
        let read = Values::try_from(asked.as_str()).unwrap();
        assert_eq!(read.get("workspace.ai.providers"), values.get("workspace.ai.providers"));
        let installation = Installation::of_values(read, "control", OidcSource::Values);
        assert!(installation.operator().is_some() && installation.gateway().is_some());
    }

    #[test]
    fn what_is_not_known_there_is_not_reached() {
        let brief = |code: &str, status| Brief {
            code: code.to_owned(),
            status,
            text: format!("{code} said"),
            expected: String::new(),
        };
        let codes = [OF_MODELS, OF_MIRRORS].concat();
        let all = |first, second| {
            let rest = OF_MIRRORS.map(|code| brief(code, Word::Ok));
            [vec![brief("DP1001", first), brief("DP1002", second)], rest.to_vec()].concat()
        };
        assert!(matches!(judged(&all(Word::Ok, Word::Ok), &codes), Status::Pass { .. }));
        for (first, second, found) in [
            (Word::Failed, Word::Skipped, "DP1001: DP1001 said"),
            (Word::Skipped, Word::Skipped, "DP1001: DP1001 said"),
            (Word::Ok, Word::Failed, "DP1002: DP1002 said"),
        ] {
            let Status::Fail(failure) = judged(&all(first, second), &codes) else {
                panic!()
            };
            assert_eq!(failure.found, found);
        }
        assert!(matches!(
            judged(&all(Word::Ok, Word::Ok)[..3], &codes),
            Status::Skip { .. }
        ));
        let mirrors_alone = &all(Word::Ok, Word::Ok)[2..];
        assert!(matches!(judged(mirrors_alone, &OF_MIRRORS), Status::Pass { .. }));
        let mut untrusted = all(Word::Failed, Word::Skipped);
        untrusted[0].expected = TRUSTED.to_owned();
        assert!(matches!(judged(&untrusted, &codes), Status::Skip { .. }));
    }
}
