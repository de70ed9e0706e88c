//! The canary is policed like a workspace and asked, round after round; what it shows becomes what is known of the enforcement of policies.
//!
//! A round costs the API server three requests, however many Workspaces there are: for the canary's account, its policies and its pods. A policy that
//! someone has changed or taken away is put right before, as that would look like what is not enforced.

use super::apply::FIELD_MANAGER;
use super::content::Decided;
use super::egress;
use super::enforcement::{Enforcement, Gate, Tracker};
use super::failure::error_text;
use super::pod_state::shortened;
use super::range_watches::Ranges;
use super::watches;
use crate::api::{Reason, hint};
use crate::clock::Clock;
use crate::config::OperatorConfig;
use crate::config::canary::Watching;
use crate::connectivity::Verdict;
use crate::connectivity::canary::{Ports, Question, Round, ask};
use crate::labels::CANARY_SELECTOR;
use crate::names::{CANARY, CANARY_REPORT_PORT, TERMINAL_PORT};
use crate::policy::cilium::CiliumNetworkPolicy;
use crate::render::{CanaryPlace, canary_policies};
use crate::telemetry::metrics::OperatorMetrics;
use futures::Stream;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::events::{Event, EventType, Recorder};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use snafu::{OptionExt, ResultExt, Snafu};
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Attempts and requests; a round that takes longer has lost an answer.
const ROUND_TIMEOUT: Duration = Duration::from_secs(30);

/// What is known of the enforcement of policies, as it changes; clones follow the same.
#[derive(Clone)]
pub struct Canary {
    known: watch::Receiver<Enforcement>,
    required: bool,
}

/// Why a canary could not be asked.
#[derive(Debug, Snafu)]
enum AskError {
    #[snafu(display("can't read the ServiceAccount {CANARY}: {}", error_text(source)))]
    Account { source: kube::Error },
    #[snafu(display(
        "there is no ServiceAccount {CANARY} in the namespace of the Workspaces: the chart makes it, with the canary itself (canary.enabled)"
    ))]
    NoAccount,
    #[snafu(display("can't list the canary's policies: {}", error_text(source)))]
    Policies { source: kube::Error },
    #[snafu(display("can't apply the policy {name}: {}", error_text(source)))]
    Policy { name: String, source: kube::Error },
    #[snafu(display("can't list the canary's pods: {}", error_text(source)))]
    Pods { source: kube::Error },
    #[snafu(display("KUBERNETES_SERVICE_HOST is not set, as Kubernetes sets it in every pod"))]
    NoApiServer,
    #[snafu(display("no pod of the canary is ready (kubectl get pods -l {CANARY_SELECTOR})"))]
    NoPod,
}

impl Canary {
    /// Nobody looks.
    pub fn off() -> Self {
        Self {
            known: watch::channel(Enforcement::Unwatched).1,
            required: false,
        }
    }

    /// Asks from now on.
    pub fn follow(
        client: &Client,
        config: &OperatorConfig,
        watching: Watching,
        ranges: Ranges,
        clock: Arc<dyn Clock>,
        recorder: Recorder,
        metrics: Arc<OperatorMetrics>,
    ) -> Self {
        let (publish, known) = watch::channel(Enforcement::Pending);
        let watcher = Watcher {
            accounts: Api::namespaced(client.clone(), &config.namespace),
            policies: Api::namespaced(client.clone(), &config.namespace),
            cilium_policies: Api::namespaced(client.clone(), &config.namespace),
            pods: Api::namespaced(client.clone(), &config.namespace),
            config: config.clone(),
            watching,
            ranges,
            clock,
            recorder,
            metrics,
            publish,
        };
        tokio::spawn(watcher.watch());
        Self {
            known,
            required: watching.required,
        }
    }

    pub fn now(&self) -> (Enforcement, Gate) {
        let known = self.known.borrow().clone();
        let gate = Gate::of(&known, self.required);
        (known, gate)
    }

    /// An item each time that all Workspaces have to be told something else.
    pub fn changes(&self) -> impl Stream<Item = ()> + Send + use<> {
        watches::changes(&self.known)
    }
}

struct Watcher {
    accounts: Api<ServiceAccount>,
    policies: Api<NetworkPolicy>,
    cilium_policies: Api<CiliumNetworkPolicy>,
    pods: Api<Pod>,
    config: OperatorConfig,
    watching: Watching,
    ranges: Ranges,
    clock: Arc<dyn Clock>,
    recorder: Recorder,
    metrics: Arc<OperatorMetrics>,
    publish: watch::Sender<Enforcement>,
}

impl Watcher {
    async fn watch(self) {
        // Without the ranges the canary's policies would not be a workspace's.
        if self.ranges.answered().await.is_err() {
            return;
        }
        self.metrics.set_enforcement(Enforcement::Pending.word());
        let mut tracker = Tracker::new(self.watching.interval, self.clock.now());
        let mut last = None;
        loop {
            let (verdict, pod) = match timeout(ROUND_TIMEOUT, self.ask()).await {
                Ok(Ok((round, pod))) => (round.verdict(), Some(pod)),
                Ok(Err(error)) => (Verdict::Unknown { why: error.to_string() }, None),
                Err(_) => {
                    let why = "the API server has not answered in time".to_owned();
                    (Verdict::Unknown { why }, None)
                }
            };
            if last.as_ref() != Some(&verdict) {
                log(&verdict);
            }
            let wait = tracker.take(&verdict, self.clock.now());
            let changed = self.publish.send_if_modified(|known| {
                let differs = known != tracker.known();
                known.clone_from(tracker.known());
                differs
            });
            if changed {
                self.tell(tracker.known(), &verdict, pod.as_ref()).await;
            }
            last = Some(verdict);
            sleep(wait).await;
        }
    }

    /// One round.
    async fn ask(&self) -> Result<(Round, ObjectReference), AskError> {
        let account = self.accounts.get_metadata_opt(CANARY).await.context(AccountSnafu)?;
        let account_uid = account.and_then(|account| account.uid()).context(NoAccountSnafu)?;
        let (policies, cilium_policy) = canary_policies(&self.place(account_uid));
        keep(&self.policies, &policies).await?;
        if let Some(policy) = cilium_policy {
            keep(&self.cilium_policies, &[policy]).await?;
        }
        let pods = self.pods.list(&of_canary()).await;
        let pods = pods.context(PodsSnafu)?.items;
        let pod = pods.iter().find(|pod| is_ready(pod)).context(NoPodSnafu)?;
        let api_server = self.watching.api_server.context(NoApiServerSnafu)?;
        let ports = Ports {
            terminal: TERMINAL_PORT,
            report: CANARY_REPORT_PORT,
        };
        let round = ask(Question {
            who: "the operator",
            addresses: &addresses(pod),
            ports,
            api_server,
            places: &[],
            name_server: None,
        })
        .await;
        Ok((round, pod.object_ref(&())))
    }

    fn place(&self, account_uid: String) -> CanaryPlace {
        let common = &self.config.workspace.common;
        let mut egress = egress::common(common);
        egress.cluster_cidrs = Arc::clone(&self.ranges.now().all);
        CanaryPlace {
            namespace: self.config.namespace.clone(),
            account_uid,
            egress,
            policy_backend: common.policy_backend,
            gateway_namespace: common.gateway_namespace.clone(),
            operator_namespace: self.config.pod_namespace.clone(),
        }
    }

    /// Everybody but the Workspaces, whose conditions are written by their own passes.
    async fn tell(&self, known: &Enforcement, verdict: &Verdict, pod: Option<&ObjectReference>) {
        self.metrics.set_enforcement(known.word());
        let (type_, reason, note) = match (known, verdict) {
            (Enforcement::NotEnforced { passed }, _) => {
                tracing::error!(%passed, "NetworkPolicies are not enforced");
                let hint = hint::remediation(Reason::PoliciesNotEnforced);
                let note = format!("NetworkPolicies are not enforced, as this got an answer: {passed}. {hint}");
                (EventType::Warning, Reason::PoliciesNotEnforced.as_str(), note)
            }
            (Enforcement::Unknown, Verdict::Unknown { why }) => {
                tracing::warn!(why, "it is not known whether NetworkPolicies are enforced");
                let note = format!("It is not known whether NetworkPolicies are enforced: {why}");
                (EventType::Warning, "PolicyEnforcementUnknown", note)
            }
            (Enforcement::Enforced, _) => {
                let note = "NetworkPolicies are enforced".to_owned();
                (EventType::Normal, "PoliciesEnforced", note)
            }
            _ => return,
        };
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(shortened(&note)),
            action: "Probe".to_owned(),
            secondary: None,
        };
        let account = || ObjectReference {
            api_version: Some(ServiceAccount::api_version(&()).into_owned()),
            kind: Some(ServiceAccount::kind(&()).into_owned()),
            name: Some(CANARY.to_owned()),
            namespace: Some(self.config.namespace.clone()),
            ..ObjectReference::default()
        };
        let about = pod.cloned().unwrap_or_else(account);
        if let Err(error) = self.recorder.publish(&event, &about).await {
            tracing::warn!(error = error_text(&error), "can't record an Event");
        }
    }
}

fn log(verdict: &Verdict) {
    match verdict {
        Verdict::Enforced => tracing::info!("the canary finds that NetworkPolicies are enforced"),
        Verdict::NotEnforced { passed } => {
            tracing::warn!(passed = passed.join("; "), "what no workspace may reach got an answer");
        }
        Verdict::Unknown { why } => tracing::warn!(why, "this round of the canary shows nothing"),
    }
}

/// Writes those that are not there as they should be.
async fn keep<K>(api: &Api<K>, policies: &[K]) -> Result<(), AskError>
where
    K: Decided + Clone + Debug + DeserializeOwned + Serialize,
{
    let there = api.list(&of_canary()).await.context(PoliciesSnafu)?.items;
    for policy in policies {
        let name = policy.name_any();
        let same = |there: &K| {
            there.name_any() == name
                && there.content() == policy.content()
                && there.owner_references() == policy.owner_references()
        };
        if there.iter().any(same) {
            continue;
        }
        // Forced: nobody else decides what polices the canary.
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let applied = api.patch(&name, &parameters, &Patch::Apply(policy)).await;
        applied.context(PolicySnafu { name })?;
    }
    Ok(())
}

fn of_canary() -> ListParams {
    ListParams::default().labels(CANARY_SELECTOR)
}

/// Kubernetes: a pod is ready when its readiness probes say so, here that both ports are open to the node.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    pod.metadata.deletion_timestamp.is_none()
        && conditions
            .into_iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// One of each family that the cluster has.
fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let addresses = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    addresses.filter_map(|address| address.ip.parse().ok()).collect()
}
