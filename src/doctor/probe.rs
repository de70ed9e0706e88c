//! Objects that checks make for a moment are remembered before they are made, and removed however the run ends.
//!
//! Each has the label [`LABEL`]. A creation that was begun is waited for before anything is removed, so that none arrives afterwards. What a
//! run that was killed has left is removed by the next one before it makes anything, when it is older than [`ORPHAN_AFTER`] by the API
//! server's own clock. What can't be removed is told, with the command that does it.

use crate::causes::with_causes;
use crate::http_client;
use futures::future::join_all;
use http::Request;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::client::Body;
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use snafu::{OptionExt, ResultExt, Snafu};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::{sleep, timeout};
use tokio_util::task::TaskTracker;

/// On everything that a probe makes; its value is the run's.
pub const LABEL: &str = "workspace.devplane.io/doctor-probe";
/// Longer than any run lasts.
pub const ORPHAN_AFTER: Duration = Duration::from_secs(15 * 60);
/// For the answers to creations that are under way when the run ends.
const ANSWERED_WITHIN: Duration = Duration::from_secs(10);
/// Until one that was not answered is looked for once more.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// For one deletion.
const REMOVED_WITHIN: Duration = Duration::from_secs(10);
/// What probes make (`apiVersion`, `kind`).
const KINDS: [(&str, &str); 5] = [
    ("v1", "Pod"),
    ("v1", "Secret"),
    (CLAIM.0, CLAIM.1),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("cilium.io/v2", "CiliumNetworkPolicy"),
];
/// Of a class whose volumes stay when their claims go.
const RETAIN: &str = "Retain";
const CLAIM: (&str, &str) = ("v1", "PersistentVolumeClaim");

/// What this run has made, and whether it may make anything.
pub struct Probes {
    pub allowed: bool,
    /// Letters and digits that no other run has.
    run: String,
    made: Mutex<Vec<Made>>,
    creations: TaskTracker,
    earlier: OnceCell<()>,
    left: Mutex<Vec<Left>>,
}

#[derive(Clone)]
struct Made {
    client: Client,
    namespace: String,
    version: String,
    kind: String,
    name: String,
    /// The API server has said whether it has made it.
    is_answered: Arc<AtomicBool>,
}

/// Something of a probe's that stays in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its kind, name and namespace.
    pub what: String,
    pub why: String,
    /// What removes it.
    pub command: String,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is left: {}; by hand: {}", self.what, self.why, self.command)
    }
}

/// Why there is no probe.
#[derive(Debug, Snafu)]
pub enum ProbeError {
    #[snafu(display("a probe has neither apiVersion, kind nor name"))]
    Nameless,
    #[snafu(display("can't make {kind} {name}: {}", with_causes(source)))]
    Create {
        kind: String,
        name: String,
        source: kube::Error,
    },
    #[snafu(display("the creation of {kind} {name} broke off"))]
    BrokenOff { kind: String, name: String },
}

impl Probes {
    /// `run` are lower-case letters and digits that tell this run from others.
    pub fn new(allowed: bool, run: String) -> Self {
        Self {
            allowed,
            run,
            made: Mutex::default(),
            creations: TaskTracker::new(),
            earlier: OnceCell::new(),
            left: Mutex::default(),
        }
    }

    /// A name for an object of this run.
    pub fn name(&self, what: &str) -> String {
        format!("devplane-doctor-{what}-{}", self.run)
    }

    /// Letters and digits that no other run has.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// Makes `object`, a complete manifest, with the label. It is deleted at the end of the run at the latest.
    ///
    /// # Errors
    /// When the API server refuses it.
    pub async fn create(
        &self,
        client: &Client,
        namespace: &str,
        mut object: Value,
    ) -> Result<DynamicObject, ProbeError> {
        self.earlier
            .get_or_init(|| self.remove_earlier(client, namespace))
            .await;
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let (version, kind) = text("/apiVersion").zip(text("/kind")).context(NamelessSnafu)?;
        let name = text("/metadata/name").context(NamelessSnafu)?;
        object["metadata"]["labels"][LABEL] = self.run.clone().into();
        let object: DynamicObject = serde_json::from_value(object).ok().context(NamelessSnafu)?;
        let made = Made {
            client: client.clone(),
            namespace: namespace.to_owned(),
            version,
            kind: kind.clone(),
            name: name.clone(),
            is_answered: Arc::default(),
        };
        locked(&self.made).push(made.clone());
        // Its own task: whoever waits for it may be given up, and the request goes on to its answer, which the end of the run waits for.
        let creation = self.creations.spawn(async move {
            let answer = made.api().create(&PostParams::default(), &object).await;
            let is_answer = !matches!(answer, Err(ref error) if !matches!(error, kube::Error::Api(_)));
            made.is_answered.store(is_answer, Ordering::Relaxed);
            answer
        });
        let answer = creation.await.ok();
        let answer = answer.with_context(|| BrokenOffSnafu {
            kind: kind.as_str(),
            name: name.as_str(),
        })?;
        answer.context(CreateSnafu { kind, name })
    }

    /// Deletes what was made, once the creations that are under way are through. What is gone already is fine.
    pub async fn sweep(&self) {
        self.creations.close();
        let _ = timeout(ANSWERED_WITHIN, self.creations.wait()).await;
        let made = std::mem::take(&mut *locked(&self.made));
        let left = join_all(made.iter().rev().map(Made::remove)).await.concat();
        locked(&self.left).extend(left);
        let unanswered = || made.iter().filter(|made| !made.is_answered.load(Ordering::Relaxed));
        if unanswered().next().is_none() {
            return;
        }
        sleep(LOOK_AGAIN_AFTER).await;
        let left = join_all(unanswered().map(Made::remove)).await.concat();
        locked(&self.left).extend(left);
        let late =
            unanswered().map(|made| made.left("the API server has not answered its creation, and may still make it"));
        locked(&self.left).extend(late);
    }

    /// What could not be removed so far.
    pub fn left(&self) -> Vec<Left> {
        let mut left = locked(&self.left).clone();
        left.dedup();
        left
    }

    /// Deletes what earlier runs have left.
    async fn remove_earlier(&self, client: &Client, namespace: &str) {
        // The clock here may be another one than that by which objects are made.
        let Some(now) = server_time(client).await else { return };
        let of_kind = |(version, kind): (&'static str, &'static str)| async move {
            let api = api(client, namespace, version, kind);
            // A kind that is not there, or that this identity has nothing to do with.
            let found = api.list(&ListParams::default().labels(LABEL)).await;
            let found = found.map(|found| found.items).unwrap_or_default();
            let orphans = found.into_iter().filter(|object| {
                let made = object.creation_timestamp();
                made.is_some_and(|made| is_orphan(made.0, now)) && object.labels().get(LABEL) != Some(&self.run)
            });
            let orphans = orphans.map(|object| Made {
                client: client.clone(),
                namespace: namespace.to_owned(),
                version: version.to_owned(),
                kind: kind.to_owned(),
                name: object.name_any(),
                is_answered: Arc::new(AtomicBool::new(true)),
            });
            let orphans: Vec<_> = orphans.collect();
            join_all(orphans.iter().map(Made::remove)).await.concat()
        };
        let left = join_all(KINDS.map(of_kind)).await.concat();
        locked(&self.left).extend(left);
    }
}

impl Made {
    fn api(&self) -> Api<DynamicObject> {
        api(&self.client, &self.namespace, &self.version, &self.kind)
    }

    /// Deletes it, and the volume of a claim with it. Gives what stays.
    async fn remove(&self) -> Vec<Left> {
        let mut left = Vec::new();
        if self.kind == CLAIM.1 {
            left.extend(timeout(REMOVED_WITHIN, self.let_go()).await.ok().flatten());
        }
        let deleted = match timeout(REMOVED_WITHIN, self.api().delete(&self.name, &at_once())).await {
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => Ok(()),
            Ok(Err(error)) => Err(with_causes(&error)),
            Ok(Ok(_)) => Ok(()),
            Err(_) => Err(format!("no answer within {} s", REMOVED_WITHIN.as_secs())),
        };
        left.extend(deleted.err().map(|why| self.left(&why)));
        left
    }

    /// Has the volume that was made for a claim go with it, where its class would keep it. One that was there before may hold somebody's
    /// files: nothing of it is changed. Gives the volume when it stays.
    async fn let_go(&self) -> Option<Left> {
        let claim = self.api().get_opt(&self.name).await.ok().flatten()?;
        let spec = &claim.data["spec"];
        let name = spec["volumeName"].as_str().filter(|name| !name.is_empty())?;
        let stays = |why: String, command: String| {
            Some(Left {
                what: format!("PersistentVolume {name}"),
                why,
                command,
            })
        };
        let patch_by_hand = |patch: &Value| format!("kubectl patch persistentvolume {name} --type merge -p '{patch}'");
        let volumes = Api::<PersistentVolume>::all(self.client.clone());
        let volume = match volumes.get_opt(name).await {
            Ok(volume) => volume?,
            Err(error) if self.policy_of_class(spec["storageClassName"].as_str()?).await? == RETAIN => {
                let why = format!(
                    "its StorageClass keeps volumes (reclaimPolicy {RETAIN}), and whether it was made for the trial can't be seen: {}",
                    with_causes(&error)
                );
                return stays(why, format!("kubectl get persistentvolume {name}"));
            }
            Err(_) => return None,
        };
        if volume.creation_timestamp() < claim.creation_timestamp() {
            let why = "it was there before the trial, whose claim was bound to it; nothing of it was changed";
            return stays(why.to_owned(), patch_by_hand(&json!({"spec": {"claimRef": null}})));
        }
        if volume.spec?.persistent_volume_reclaim_policy.as_deref() != Some(RETAIN) {
            return None;
        }
        let patch = json!({"spec": {"persistentVolumeReclaimPolicy": "Delete"}});
        let patched = volumes
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        let error = patched.err()?;
        let why = format!(
            "its StorageClass keeps volumes (reclaimPolicy {RETAIN}), and this one can't be told otherwise: {}",
            with_causes(&error)
        );
        stays(why, patch_by_hand(&patch))
    }

    async fn policy_of_class(&self, name: &str) -> Option<String> {
        let classes = Api::<StorageClass>::all(self.client.clone());
        classes.get_opt(name).await.ok().flatten()?.reclaim_policy
    }

    fn left(&self, why: &str) -> Left {
        let Self {
            namespace, kind, name, ..
        } = self;
        Left {
            what: format!("{kind} {name} of namespace {namespace}"),
            why: why.to_owned(),
            command: format!("kubectl delete {} {name} -n {namespace}", kind.to_lowercase()),
        }
    }
}

/// Whether a run that made something then has ended by now.
fn is_orphan(made: Timestamp, now: Timestamp) -> bool {
    // What is younger than now is another run's that goes on.
    Duration::try_from(now.duration_since(made)).is_ok_and(|age| age > ORPHAN_AFTER)
}

/// What time it is at the API server; `None` when it does not tell.
async fn server_time(client: &Client) -> Option<Timestamp> {
    let request = Request::get("/version").body(Body::empty()).ok()?;
    let answer = timeout(REMOVED_WITHIN, client.send(request)).await.ok()?.ok()?;
    http_client::date(answer.headers())
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn at_once() -> DeleteParams {
    DeleteParams {
        grace_period_seconds: Some(0),
        propagation_policy: Some(PropagationPolicy::Background),
        ..DeleteParams::default()
    }
}

fn api(client: &Client, namespace: &str, version: &str, kind: &str) -> Api<DynamicObject> {
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_old_by_the_server_s_clock_is_an_orphan() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-28T12:00:00Z");
        for (made, expected) in [
            ("2026-11-28T11:44:59Z", true),
            ("2026-11-28T11:45:00Z", false),
            ("2026-11-28T12:00:00Z", false),
            // Another API server's clock is ahead.
            ("2026-11-28T12:30:00Z", false),
        ] {
            assert_eq!(is_orphan(at(made), now), expected, "{made}");
        }
    }
}
