//! Three pods that try what a workspace may not, and what they found: a canary that is policed like a workspace, a neighbour that nobody polices, and one
//! that asks the canary.

use super::super::super::context::Context;
use super::super::super::probe::{LABEL, ProbeError, Probes};
use crate::api::egress::Dns;
use crate::api::pod_settings::PodSettings;
use crate::causes::with_causes;
use crate::config::OperatorConfig;
use crate::connectivity::{Outcome, Place};
use crate::labels::{APP, MANAGED_BY, MANAGED_BY_DEVPLANE};
use crate::names::{CANARY, TERMINAL_PORT};
use crate::policy::{self, Egress};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicySpec;
use kube::{Api, Client};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// For an image to be pulled, and a pod to run.
const READY_WITHIN: Duration = Duration::from_secs(75);
const ASKED_WITHIN: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Kubernetes: the kubelet's API on every node.
const KUBELET_PORT: u16 = 10250;
/// The metadata services of Amazon, Google, Microsoft and others.
const METADATA: (Ipv4Addr, u16) = (Ipv4Addr::new(169, 254, 169, 254), 80);

/// What they are made with.
pub struct ProbePods<'a> {
    client: &'a Client,
    probes: &'a Probes,
    namespace: &'a str,
    operator: &'a OperatorConfig,
    image: Image,
    /// `None` is the namespace's default.
    account: Option<&'static str>,
    /// A port of a DNS pod that is not for names, or why there is none to try.
    beside_names: Result<Place, String>,
}

impl<'a> ProbePods<'a> {
    /// # Errors
    /// Why nothing can be tried.
    pub async fn new(context: &'a Context, client: &'a Client, operator: &'a OperatorConfig) -> Result<Self, String> {
        let namespace = context.installation.workspaces.as_str();
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
        let account = accounts.get_metadata_opt(CANARY).await;
        let account =
            account.map_err(|error| format!("the ServiceAccount {CANARY} can't be read: {}", with_causes(&error)))?;
        Ok(Self {
            client,
            probes: &context.probes,
            namespace,
            operator,
            image: image(client, context).await?,
            account: account.map(|_| CANARY),
            beside_names: beside_names(context, &operator.workspace.common.dns).await,
        })
    }

    /// What they found, and which lines are missing, each with its reason.
    ///
    /// # Errors
    /// Why nothing could be tried.
    pub async fn outcome(&self) -> Result<(Outcome, Vec<String>), String> {
        let [neighbour, canary, asker] = ["neighbour", "canary", "asker"].map(|what| self.probes.name(what));
        self.policies(&canary, &asker).await.map_err(told)?;
        let listens = json!({"tcpSocket": {"port": TERMINAL_PORT}, "periodSeconds": 1});
        let serve = vec!["canary".to_owned()];
        self.create(&self.pod(&neighbour, &serve, Some(&listens)))
            .await
            .map_err(told)?;
        let neighbour = self.until(&neighbour, READY_WITHIN, ready).await?;
        let (beside_names, not_tried) = match &self.beside_names {
            Ok(place) => (Some(place.clone()), vec![]),
            Err(why) => (None, vec![why.clone()]),
        };
        let places = places(&neighbour).into_iter().chain(beside_names);
        let places: Vec<String> = places.map(|place| format!("--place={}", String::from(place))).collect();
        let serve = [serve, places.clone()].concat();
        self.create(&self.pod(&canary, &serve, Some(&listens)))
            .await
            .map_err(told)?;
        let canary = self.until(&canary, READY_WITHIN, ready).await?;
        let mut ask = vec!["canary".to_owned(), "--result=/dev/termination-log".to_owned()];
        ask.extend(canary.addresses.iter().map(|address| format!("--ask={address}")));
        ask.extend(places);
        self.create(&self.pod(&asker, &ask, None)).await.map_err(told)?;
        let result = self.until(&asker, ASKED_WITHIN, ended).await?;
        let outcome = serde_json::from_str(&result)
            .map_err(|_| format!("the pod {asker} has not told what it saw, but: {result}"))?;
        Ok((outcome, not_tried))
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
    fn pod(&self, name: &str, arguments: &[String], readiness: Option<&Value>) -> Value {
        let PodSettings {
            image_pull_secrets,
            node_selector,
            tolerations,
            ..
        } = &self.operator.workspace.common.pod;
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

fn labels(app: &str) -> BTreeMap<String, String> {
    [(APP, app), (MANAGED_BY, MANAGED_BY_DEVPLANE)]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn told(error: ProbeError) -> String {
    error.to_string()
}

/// A pod that is ready.
struct Ready {
    /// One of each family.
    addresses: Vec<IpAddr>,
    /// Of its node.
    node: Option<IpAddr>,
}

fn ready(pod: &Pod) -> Option<Ready> {
    let status = pod.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    conditions.find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    let addresses = status.pod_ips.iter().flatten();
    Some(Ready {
        addresses: addresses.filter_map(|address| address.ip.parse().ok()).collect(),
        node: status.host_ip.as_ref().and_then(|address| address.parse().ok()),
    })
}

/// Where no workspace may get, besides the API server and what the canary itself is.
fn places(neighbour: &Ready) -> Vec<Place> {
    let place = |name: &str, address: IpAddr, port: u16| Place {
        name: name.to_owned(),
        address: (address, port).into(),
    };
    let Ready { addresses, node } = neighbour;
    let terminals = addresses
        .iter()
        .map(|address| place("another workspace's terminal port", *address, TERMINAL_PORT));
    let kubelet = node.map(|address| place("a node's kubelet", address, KUBELET_PORT));
    // Who has no address of its family gets nowhere anyway.
    let has_ipv4 = addresses.iter().any(IpAddr::is_ipv4);
    let metadata = has_ipv4.then(|| place("the metadata service", METADATA.0.into(), METADATA.1));
    terminals.chain(kubelet).chain(metadata).collect()
}

async fn beside_names(context: &Context, dns: &Dns) -> Result<Place, String> {
    let what = "another port of the DNS pods";
    let labels: Vec<String> = dns
        .pod_labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    let pods: Vec<Pod> = match context.list(&dns.namespace, &labels.join(",")).await {
        Ok(pods) => pods,
        Err(_) => return Err(format!("{what}, as they can't be listed in {}", dns.namespace)),
    };
    let address = pods.iter().find_map(|pod| {
        let address = *ready(pod)?.addresses.first()?;
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
        let other = ports.find(|port| {
            let is_for_names = port.container_port == i32::from(dns.port.get());
            !is_for_names && port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
        })?;
        Some((address, u16::try_from(other.container_port).ok()?))
    });
    let place = address.map(|address| Place {
        name: what.to_owned(),
        address: address.into(),
    });
    place.ok_or_else(|| format!("{what}, as none that is ready names one"))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Who reaches what on a real node with real packets.
    const MATRIX: &str = include_str!("../../../../tests/cluster/connectivity/matrix.txt");

    #[test]
    fn what_is_tried_is_refused_in_the_matrix_of_the_cluster_s_tests() {
        let neighbour = Ready {
            addresses: vec!["10.244.0.7".parse().unwrap(), "fd00::7".parse().unwrap()],
            node: Some("192.168.7.11".parse().unwrap()),
        };
        let refused: Vec<Vec<&str>> = MATRIX.lines().map(|line| line.split_whitespace().collect()).collect();
        let places = places(&neighbour);
        assert_eq!(places.len(), 4);
        for place in places {
            let to = match place.address.port() {
                TERMINAL_PORT => "dev2",
                KUBELET_PORT => "kubelet",
                _ => "metadata",
            };
            let port = format!("tcp/{}", place.address.port());
            assert!(refused.contains(&vec!["dev1", to, &port, "refused"]), "{place}");
        }
    }
}
