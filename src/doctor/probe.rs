//! Objects that checks make for a moment are remembered before they are made, and removed however the run ends.
//!
//! Each has the label [`LABEL`]. What a run that was killed has left is removed by the next one, when it is older than [`ORPHAN_AFTER`].

use crate::causes::with_causes;
use jiff::Timestamp;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams, PropagationPolicy};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::Value;
use snafu::{OptionExt, ResultExt, Snafu};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

/// On everything that a probe makes; its value is the run's.
pub const LABEL: &str = "workspace.devplane.io/doctor-probe";
/// Longer than any run lasts.
pub const ORPHAN_AFTER: Duration = Duration::from_secs(15 * 60);
/// For all deletions at the end together.
const SWEEP_WITHIN: Duration = Duration::from_secs(15);

/// What this run has made, and whether it may make anything.
pub struct Probes {
    pub allowed: bool,
    /// Letters and digits that no other run has.
    run: String,
    made: Mutex<Vec<Made>>,
}

struct Made {
    api: Api<DynamicObject>,
    name: String,
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
}

impl Probes {
    /// `run` are lower-case letters and digits that tell this run from others.
    pub fn new(allowed: bool, run: String) -> Self {
        Self {
            allowed,
            run,
            made: Mutex::new(Vec::new()),
        }
    }

    /// A name for an object of this run.
    pub fn name(&self, what: &str) -> String {
        format!("devplane-doctor-{what}-{}", self.run)
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
        let text = |at: &str| object.pointer(at).and_then(Value::as_str).map(str::to_owned);
        let (version, kind) = text("/apiVersion").zip(text("/kind")).context(NamelessSnafu)?;
        let name = text("/metadata/name").context(NamelessSnafu)?;
        object["metadata"]["labels"][LABEL] = self.run.clone().into();
        let api = api(client, namespace, &version, &kind);
        let object: DynamicObject = serde_json::from_value(object).ok().context(NamelessSnafu)?;
        // Before it is made: an answer may be lost.
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(Made {
            api: api.clone(),
            name: name.clone(),
        });
        let made = api.create(&PostParams::default(), &object).await;
        made.context(CreateSnafu { kind, name })
    }

    /// Deletes what was made, the last first. What is gone already is fine; what can't be deleted is left to the next run.
    pub async fn sweep(&self) {
        let made = std::mem::take(&mut *self.made.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async {
            for Made { api, name } in made.iter().rev() {
                let _ = api.delete(name, &at_once()).await;
            }
        };
        let _ = timeout(SWEEP_WITHIN, all).await;
    }

    /// Deletes what earlier runs have left of `kinds` (`apiVersion`, `kind`), and gives their names. `now` is the present time.
    pub async fn remove_orphans(
        &self,
        client: &Client,
        namespace: &str,
        kinds: &[(&str, &str)],
        now: Timestamp,
    ) -> Vec<String> {
        let mut removed = Vec::new();
        for (version, kind) in kinds {
            let api = api(client, namespace, version, kind);
            let Ok(found) = api.list(&ListParams::default().labels(LABEL)).await else {
                continue;
            };
            for object in found {
                let age = object
                    .creation_timestamp()
                    .map(|made| now.duration_since(made.0).unsigned_abs());
                let is_ours = object.labels().get(LABEL) == Some(&self.run);
                if !is_ours
                    && age.is_some_and(|age| age > ORPHAN_AFTER)
                    && api.delete(&object.name_any(), &at_once()).await.is_ok()
                {
                    removed.push(format!("{kind} {}", object.name_any()));
                }
            }
        }
        removed
    }
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
