//! Pods that a check makes for a moment, where workspaces run and under Pod Security's `restricted`.

use super::super::amounts::{milli, text};
use super::super::context::Context;
use super::super::probe::{LABEL, Probes};
use crate::api::pod_settings::PodSettings;
use crate::causes::with_causes;
use crate::config::OperatorConfig;
use crate::labels::{APP, MANAGED_BY, MANAGED_BY_DEVPLANE};
use crate::names::CANARY;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, LimitRange, Pod, ServiceAccount};
use kube::api::ListParams;
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// For an image to be pulled, and a pod to run.
pub const READY_WITHIN: Duration = Duration::from_secs(75);
const CONTAINER: &str = "probe";
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What they are made with.
pub struct Pods<'a> {
    client: &'a Client,
    probes: &'a Probes,
    namespace: &'a str,
    settings: &'a PodSettings,
    image: Image,
    resources: Value,
    /// `None` is the namespace's default.
    account: Option<&'static str>,
}

impl<'a> Pods<'a> {
    /// # Errors
    /// Why none can be made.
    pub async fn new(context: &'a Context, client: &'a Client, operator: &'a OperatorConfig) -> Result<Self, String> {
        let namespace = context.installation.workspaces.as_str();
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
        let account = accounts.get_metadata_opt(CANARY).await;
        let account =
            account.map_err(|error| format!("the ServiceAccount {CANARY} can't be read: {}", with_causes(&error)))?;
        let ranges = Api::<LimitRange>::namespaced(client.clone(), namespace);
        // Who may not know them makes pods as they are where there are none.
        let ranges = ranges.list(&ListParams::default()).await.map(|ranges| ranges.items);
        Ok(Self {
            client,
            resources: resources(&ranges.unwrap_or_default()),
            probes: &context.probes,
            namespace,
            settings: &operator.workspace.common.pod,
            image: image(client, context).await?,
            account: account.map(|_| CANARY),
        })
    }

    /// A name for an object of this run.
    pub fn name(&self, what: &str) -> String {
        self.probes.name(what)
    }

    /// Makes an object, a complete manifest, which goes when the run ends.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn create(&self, object: &Value) -> Result<(), String> {
        let created = self.probes.create(self.client, self.namespace, object.clone()).await;
        created.map(drop).map_err(|error| error.to_string())
    }

    /// One that runs this executable.
    pub fn pod(&self, name: &str, arguments: &[String], readiness: Option<&Value>) -> Value {
        let PodSettings {
            image_pull_secrets,
            node_selector,
            tolerations,
            ..
        } = self.settings;
        let apart = json!({"weight": 100, "podAffinityTerm": {
            "topologyKey": "kubernetes.io/hostname",
            "labelSelector": {"matchExpressions": [{"key": LABEL, "operator": "Exists"}]},
        }});
        let secrets: Vec<Value> = image_pull_secrets.iter().map(|name| json!({"name": name})).collect();
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "labels": labels(name)},
            "spec": {
                "restartPolicy": "Never",
                "serviceAccountName": self.account,
                "automountServiceAccountToken": false,
                "enableServiceLinks": false,
                "terminationGracePeriodSeconds": 1,
                "activeDeadlineSeconds": 360,
                "imagePullSecrets": secrets,
                "nodeSelector": node_selector,
                "tolerations": tolerations,
                "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [apart]}},
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "containers": [{
                    "name": CONTAINER,
                    "image": self.image.reference,
                    "imagePullPolicy": self.image.pull_policy,
                    "args": arguments,
                    "readinessProbe": readiness,
                    "resources": self.resources,
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                    },
                }],
            },
        })
    }

    /// What `has` makes of the pod, as soon as it makes something.
    ///
    /// # Errors
    /// How the pod is, when that takes too long.
    pub async fn until<T>(&self, name: &str, within: Duration, has: impl Fn(&Pod) -> Option<T>) -> Result<T, String> {
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

/// What LimitRanges ask for at least of objects of some types, in thousandths.
pub fn least(ranges: &[LimitRange], types: &[&str], name: &str) -> i128 {
    let items = ranges
        .iter()
        .filter_map(|range| range.spec.as_ref())
        .flat_map(|spec| &spec.limits);
    let least = items
        .filter(|item| types.contains(&item.type_.as_str()))
        .filter_map(|item| milli(&item.min.as_ref()?.get(name)?.0));
    least.max().unwrap_or_default()
}

/// Little for a pod that does little, or what it must have at least.
pub fn resources(ranges: &[LimitRange]) -> Value {
    let amount = |name: &str, own: &str| {
        let least = least(ranges, &["Container", "Pod"], name);
        text(least.max(milli(own).unwrap_or_default()))
    };
    json!({
        "requests": {"cpu": amount("cpu", "10m"), "memory": amount("memory", "16Mi")},
        "limits": {"cpu": amount("cpu", "100m"), "memory": amount("memory", "64Mi")},
    })
}

/// The image of this executable, and how it is pulled.
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

/// By which policies select one.
pub fn labels(app: &str) -> BTreeMap<String, String> {
    [(APP, app), (MANAGED_BY, MANAGED_BY_DEVPLANE)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

/// A pod that is ready.
pub struct Ready {
    /// One of each family.
    pub addresses: Vec<IpAddr>,
    /// Of its node.
    pub node: Option<IpAddr>,
}

pub fn ready(pod: &Pod) -> Option<Ready> {
    let status = pod.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    let addresses = status.pod_ips.iter().flatten();
    Some(Ready {
        addresses: addresses.filter_map(|address| address.ip.parse().ok()).collect(),
        node: status.host_ip.as_ref().and_then(|address| address.parse().ok()),
    })
}

/// What a pod that has ended left behind.
pub fn ended(pod: &Pod) -> Option<String> {
    let ended = container(pod)?.state.as_ref()?.terminated.as_ref()?;
    Some(
        ended
            .message
            .clone()
            .unwrap_or_else(|| format!("it ended with exit code {}", ended.exit_code)),
    )
}

/// How it is, in words.
fn state(pod: &Pod) -> String {
    let waiting = container(pod)
        .and_then(|status| status.state.as_ref()?.waiting.clone())
        .and_then(|waiting| Some(format!("{} {}", waiting.reason?, waiting.message.unwrap_or_default())));
    let phase = || pod.status.as_ref().and_then(|status| status.phase.clone());
    waiting
        .or_else(phase)
        .unwrap_or_else(|| "nothing is known of it".to_owned())
}

/// Its own: others may be put in by whoever admits pods.
fn container(pod: &Pod) -> Option<&ContainerStatus> {
    let mut statuses = pod.status.as_ref()?.container_statuses.iter().flatten();
    statuses.find(|status| status.name == CONTAINER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_has_what_limit_ranges_ask_for_at_least() {
        let range = json!({"spec": {"limits": [
            {"type": "Container", "min": {"cpu": "50m", "memory": "128Mi"}}, {"type": "Pod", "min": {"cpu": "200m"}},
            {"type": "PersistentVolumeClaim", "min": {"storage": "2Gi"}},
        ]}});
        let ranges = [serde_json::from_value(range).unwrap()];
        assert_eq!(
            resources(&ranges),
            json!({"requests": {"cpu": "200m", "memory": "128Mi"}, "limits": {"cpu": "200m", "memory": "128Mi"}})
        );
        assert_eq!(
            resources(&[]),
            json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}})
        );
        assert_eq!(least(&ranges, &["PersistentVolumeClaim"], "storage"), 2000 << 30);
    }
}
