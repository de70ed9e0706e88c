//! DP08: what polices workspaces, and whether it does.

use super::super::check::{Check, Claim, Fix, Status};
use super::super::context::Context;
use super::super::probe::{ProbeError, Probes};
use crate::api::pod_settings::PodSettings;
use crate::causes::with_causes;
use crate::clock::{Clock, SystemClock};
use crate::config::OperatorConfig;
use crate::connectivity::Verdict;
use crate::labels::{APP, MANAGED_BY, MANAGED_BY_DEVPLANE};
use crate::names::TERMINAL_PORT;
use crate::policy::{self, Egress};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicySpec;
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

pub const ENFORCED: Check = Claim::error("DP0810", "NetworkPolicies are enforced")
    .needs(&["DP0201"])
    .why("Where they are not, every workspace reaches the API server, other workspaces and whatever else the network lets it, whatever the settings say.")
    .docs(
        "Two pods run for a moment in the namespace of the workspaces, under Pod Security's `restricted`: a canary that is policed like a workspace, and one that \
         asks it and tries to get into it. The matrix is that of the canary that the operator watches ([security](../topics/security.md)): a refusal \
         counts only beside allowed connections that get an answer, else the claim is skipped. Everything is removed afterwards, also after \
         Ctrl-C, and what an earlier run has left. It takes the right to make and delete pods and NetworkPolicies there.",
    )
    .probe()
    .patience(180)
    .check(|context| Box::pin(enforced(context)));

/// For an image to be pulled, and a pod to run.
const READY_WITHIN: Duration = Duration::from_secs(75);
const ASKED_WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(500);

async fn enforced(context: Arc<Context>) -> Status {
    let (Ok(client), Some(operator)) = (context.client(), context.installation.operator()) else {
        return Status::skip("the operator's settings are not known");
    };
    let namespace = &context.installation.workspaces;
    let image = match image(client, &context).await {
        Ok(image) => image,
        Err(why) => return Status::skip(why),
    };
    let kinds = [("v1", "Pod"), ("networking.k8s.io/v1", "NetworkPolicy")];
    context
        .probes
        .remove_orphans(client, namespace, &kinds, SystemClock.now())
        .await;
    let probe = Probe {
        client,
        probes: &context.probes,
        namespace,
        operator,
        image,
    };
    match probe.verdict().await {
        Ok(Verdict::Enforced) => {
            Status::pass("what they refuse was refused, and what they allow was answered, into a pod and out of it")
        }
        Ok(Verdict::NotEnforced { passed }) => Status::fail(
            "NetworkPolicies are not enforced",
            format!("an answer to what they refuse: {}", passed.join("; ")),
            "no answer",
            Fix::words(
                "install a network plugin that enforces NetworkPolicies (such as Calico, Cilium or OVN-Kubernetes), or switch its enforcement on; see that its pods are well on every node",
            ),
        ),
        Ok(Verdict::Unknown { why }) => Status::skip(format!("nothing was shown: {why}")),
        Err(why) => Status::skip(why),
    }
}

/// The image that has `devplane canary`, and how it is pulled.
struct Image {
    reference: String,
    pull_policy: Option<String>,
}

/// Of the operator that is installed; before that, of the values.
async fn image(client: &Client, context: &Context) -> Result<Image, String> {
    let name = "workspace-operator";
    let deployments = Api::<Deployment>::namespaced(client.clone(), &context.installation.namespace);
    let installed = match deployments.get_opt(name).await {
        Ok(installed) => installed,
        Err(error) => return Err(format!("the Deployment {name} can't be read: {}", with_causes(&error))),
    };
    let container = installed.and_then(|deployment| deployment.spec?.template.spec?.containers.into_iter().next());
    if let Some((reference, container)) = container.and_then(|container| Some((container.image.clone()?, container))) {
        return Ok(Image {
            reference,
            pull_policy: container.image_pull_policy,
        });
    }
    match &context.installation.values {
        Some(values) => Ok(Image {
            reference: values.operator_image(),
            pull_policy: Some(values.text("imagePullPolicy")).filter(|policy| !policy.is_empty()),
        }),
        None => Err(format!(
            "there is no Deployment {name}, and no values say which image to run"
        )),
    }
}

struct Probe<'a> {
    client: &'a Client,
    probes: &'a Probes,
    namespace: &'a str,
    operator: &'a OperatorConfig,
    image: Image,
}

impl Probe<'_> {
    /// # Errors
    /// Why nothing could be tried.
    async fn verdict(&self) -> Result<Verdict, String> {
        let (canary, asker) = (self.probes.name("canary"), self.probes.name("asker"));
        self.policies(&canary, &asker).await.map_err(told)?;
        let probe = json!({"tcpSocket": {"port": TERMINAL_PORT}, "periodSeconds": 1});
        self.create(&self.pod(&canary, &["canary".to_owned()], Some(probe)))
            .await
            .map_err(told)?;
        let addresses = self.until(&canary, READY_WITHIN, ready).await?;
        let mut arguments = vec!["canary".to_owned(), "--result=/dev/termination-log".to_owned()];
        arguments.extend(addresses.iter().map(|address| format!("--ask={address}")));
        self.create(&self.pod(&asker, &arguments, None)).await.map_err(told)?;
        let result = self.until(&asker, ASKED_WITHIN, ended).await?;
        serde_json::from_str(&result).map_err(|_| format!("the pod {asker} has not told what it saw, but: {result}"))
    }

    /// Those of a workspace that may ask for names alone, and one that lets the other pod ask.
    async fn policies(&self, canary: &str, asker: &str) -> Result<(), ProbeError> {
        let common = &self.operator.workspace.common;
        let pods = labels(canary);
        let names_alone = Egress {
            dns: common.dns.clone(),
            namespaces: vec![],
            ports: vec![],
            cidrs: vec![],
            fqdns: vec![],
            cluster_cidrs: Arc::default(),
        };
        let policies: [(&str, NetworkPolicySpec); 4] = [
            ("deny-all", policy::deny_all(&pods)),
            ("egress", policy::egress(&pods, &names_alone)),
            ("gateway", policy::ingress_gateway(&pods, &common.gateway_namespace)),
            ("report", policy::ingress_report(&pods, self.namespace, asker)),
        ];
        for (name, spec) in policies {
            self.create(&json!({
                "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                "metadata": {"name": self.probes.name(name)}, "spec": spec,
            }))
            .await?;
        }
        Ok(())
    }

    async fn create(&self, object: &Value) -> Result<(), ProbeError> {
        self.probes
            .create(self.client, self.namespace, object.clone())
            .await
            .map(drop)
    }

    /// Where workspaces run, and under `restricted`.
    fn pod(&self, name: &str, arguments: &[String], readiness: Option<Value>) -> Value {
        let PodSettings {
            image_pull_secrets,
            node_selector,
            tolerations,
            ..
        } = &self.operator.workspace.common.pod;
        let secrets: Vec<Value> = image_pull_secrets.iter().map(|name| json!({"name": name})).collect();
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": labels(name)},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 1,
                "activeDeadlineSeconds": 300,
                "imagePullSecrets": secrets,
                "nodeSelector": node_selector,
                "tolerations": tolerations,
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": "probe",
                    "image": self.image.reference,
                    "imagePullPolicy": self.image.pull_policy,
                    "args": arguments,
                    "readinessProbe": readiness,
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}},
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                    },
                }],
            },
        })
    }

    /// What `has` makes of the pod, as soon as it makes something.
    async fn until<T>(&self, name: &str, within: Duration, has: impl Fn(&Pod) -> Option<T>) -> Result<T, String> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), self.namespace);
        let until = Instant::now() + within;
        loop {
            let pod = pods
                .get(name)
                .await
                .map_err(|error| format!("the pod {name} can't be read: {}", with_causes(&error)))?;
            if let Some(found) = has(&pod) {
                return Ok(found);
            }
            if Instant::now() > until {
                return Err(format!(
                    "the pod {name} did not get on within {} s: {}",
                    within.as_secs(),
                    state(&pod)
                ));
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

fn labels(app: &str) -> BTreeMap<String, String> {
    [(APP, app), (MANAGED_BY, MANAGED_BY_DEVPLANE)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn told(error: ProbeError) -> String {
    error.to_string()
}

/// The addresses of a pod that is ready.
fn ready(pod: &Pod) -> Option<Vec<String>> {
    let status = pod.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    let addresses = status.pod_ips.iter().flatten();
    Some(addresses.map(|address| address.ip.clone()).collect())
}

/// What a pod that has ended left behind.
fn ended(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
    let ended = status.state.as_ref()?.terminated.as_ref()?;
    Some(
        ended
            .message
            .clone()
            .unwrap_or_else(|| format!("it ended with exit code {}", ended.exit_code)),
    )
}

/// How it is, in words.
fn state(pod: &Pod) -> String {
    let status = pod.status.as_ref();
    let waiting = status
        .and_then(|status| {
            status
                .container_statuses
                .as_ref()?
                .first()?
                .state
                .as_ref()?
                .waiting
                .clone()
        })
        .and_then(|waiting| Some(format!("{} {}", waiting.reason?, waiting.message.unwrap_or_default())));
    let phase = || status.and_then(|status| status.phase.clone());
    waiting
        .or_else(phase)
        .unwrap_or_else(|| "nothing is known of it".to_owned())
}
