//! A person becomes their Workspace: found, made or woken. Watched, never polled.

use super::departures::{Departures, Whose};
use super::index::{Followed, Index, recorded_owner};
use super::standing::Over;
use crate::api::status::TerminalSession;
use crate::api::workspace::{AiConfig, Persistence, Resources, User};
use crate::api::{Phase, Workspace, WorkspaceSpec};
use crate::clock::{Clock, is_ahead};
use crate::cluster;
use crate::cluster::lean::Lean;
use crate::cluster::watch::Change;
use crate::config::gateway::NewWorkspace;
use crate::config::session::SessionRules;
use crate::identity::{Identity, UserId};
use crate::labels::{self, GATEWAY_MANAGER, REQUESTED_BY, RESTART_REQUESTED_AT, WAKE_REQUESTED_AT};
use crate::oidc::Person;
use crate::units::quantity::Quantity;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use snafu::{ResultExt, Snafu, ensure};
use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Why a person has no Workspace to enter.
#[derive(Debug, Snafu)]
#[snafu(visibility(pub(super)))]
pub enum EnsureError {
    #[snafu(display("the Workspaces are not known: the watch has not begun, or is lost"))]
    NotWatched,
    #[snafu(display("several Workspaces record this user: {}", names.join(", ")))]
    Ambiguous { names: Vec<String> },
    #[snafu(display("the Workspace {name} belongs to another user"))]
    OtherOwner { name: String },
    #[snafu(display("the Workspace {name} records no owner"))]
    NoOwner { name: String },
    #[snafu(display("the Workspace {name} is being deleted"))]
    Deleting { name: String },
    #[snafu(display("the Workspace {name} is suspended"))]
    Suspended { name: String },
    #[snafu(display("none of the user's groups may have a workspace of its class"))]
    NotOffered,
    #[snafu(display("can't {operation} the Workspace {name}: {source}"))]
    Api {
        operation: &'static str,
        name: String,
        source: kube::Error,
    },
}

impl EnsureError {
    /// Whether the API server says that there is no such Workspace.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { source: kube::Error::Api(status), .. } if status.code == 404)
    }
}

/// A Workspace, and what was done to have it.
pub struct Ensured {
    pub workspace: Arc<Workspace>,
    pub created: bool,
    pub woken: bool,
}

/// The Workspaces of one namespace.
pub struct Workspaces {
    pub(super) api: Api<Workspace>,
    pub namespace: String,
    /// This gateway's pod, as `status.sessions` names it.
    pub pod_name: String,
    template: NewWorkspace,
    index: RwLock<Index>,
    watched: watch::Sender<Watched>,
    pub(super) session_rules: SessionRules,
    pub departures: Departures,
    clock: Arc<dyn Clock>,
}

/// Whether the watch tells of changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    NotYet,
    Yes,
    Lost,
}

impl Workspaces {
    pub fn new(
        client: Client,
        namespace: String,
        pod_name: String,
        template: NewWorkspace,
        session_rules: SessionRules,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            api: Api::namespaced(client, &namespace),
            namespace,
            pod_name,
            template,
            index: RwLock::default(),
            watched: watch::Sender::new(Watched::NotYet),
            session_rules,
            departures: Departures::default(),
            clock,
        }
    }

    /// Keeps the index as the API server has it. Ends only with the program.
    pub async fn watch(&self) {
        let api: Api<Lean<Workspace>> = Api::namespaced(self.api.clone().into_client(), &self.namespace);
        let alive = watch::Sender::new(Instant::now());
        let follow = cluster::watch::follow(&api, |change| {
            match change {
                Change::All(objects) => {
                    let names: HashSet<String> = objects.iter().map(ResourceExt::name_any).collect();
                    let workspaces = objects.into_iter().filter_map(readable).collect();
                    // What can't be read is there all the same.
                    let is_gone = |workspace: &Arc<Workspace>| !names.contains(&workspace.name_any());
                    self.write(|index| self.depart(index.replace(workspaces).into_iter().filter(is_gone)));
                }
                Change::Applied(object) => {
                    if let Some(workspace) = readable(object) {
                        self.write(|index| self.depart(index.apply(workspace)));
                    }
                }
                Change::Deleted(object) => self.write(|index| self.depart(index.remove(&object.name_any()))),
                Change::Alive => {}
            }
            alive.send_replace(Instant::now());
            if self.watched.send_replace(Watched::Yes) != Watched::Yes {
                tracing::info!(namespace = self.namespace, "the Workspaces are watched");
            }
        });
        let mut heard = alive.subscribe();
        let watch_loss = self.session_rules.watch_loss;
        let silence = async {
            loop {
                let last = *heard.borrow_and_update();
                tokio::select! {
                    // The sender lives as long as this.
                    _ = heard.changed() => {}
                    () = sleep_until(last + watch_loss) => {
                        if self.watched.send_if_modified(|watched| std::mem::replace(watched, Watched::Lost) == Watched::Yes) {
                            let seconds = watch_loss.as_secs();
                            tracing::error!(namespace = self.namespace, seconds, "nothing is heard of the Workspaces: terminals are closed, as nobody knows which sessions are revoked");
                        }
                        // The sender lives as long as this.
                        let _ = heard.changed().await;
                    }
                }
            }
        };
        tokio::join!(follow, silence);
    }

    /// What was revoked by annotations of Workspaces that are deleted is known no more: the sessions that were for them are over. Called
    /// while the index is changed, so that nobody sees that one is gone who does not see this too.
    fn depart(&self, deleted: impl IntoIterator<Item = Arc<Workspace>>) {
        let now = self.clock.now();
        for owner in deleted.into_iter().filter_map(|workspace| recorded_owner(&workspace)) {
            self.departures.note(Whose::Deleted(owner), now, Over::Gone, now);
        }
    }

    /// Whether revocations are heard of.
    pub fn is_watched(&self) -> bool {
        *self.watched.borrow() == Watched::Yes
    }

    /// Ends when nothing was heard of the Workspaces for too long.
    pub async fn lost(&self) {
        let mut watched = self.watched.subscribe();
        // The sender lives as long as `self`.
        let _ = watched.wait_for(|watched| *watched == Watched::Lost).await;
    }

    pub fn get(&self, name: &str) -> Option<Arc<Workspace>> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).get(name)
    }

    /// Every later change of the Workspace `name`, beginning with how it is now.
    pub fn follow(&self, name: &str) -> Followed {
        self.write(|index| index.follow(name))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Index) -> T) -> T {
        change(&mut self.index.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The Workspace that records this person, whatever its name.
    ///
    /// # Errors
    /// When there are several, or it is not known yet whether there is one.
    pub fn find(&self, owner: &Identity) -> Result<Option<Arc<Workspace>>, EnsureError> {
        ensure!(self.is_watched(), NotWatchedSnafu);
        let mut found = self
            .index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .owned_by(owner);
        ensure!(
            found.len() <= 1,
            AmbiguousSnafu {
                names: found.iter().map(|workspace| workspace.name_any()).collect::<Vec<_>>()
            }
        );
        Ok(found.pop())
    }

    /// The Workspace of whom the provider's session is, as far as sessions are noted.
    ///
    /// # Errors
    /// When the Workspaces are not known.
    pub fn with_provider_session(&self, session: &str) -> Result<Option<Arc<Workspace>>, EnsureError> {
        ensure!(self.is_watched(), NotWatchedSnafu);
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        Ok(index.with_provider_session(session))
    }

    /// The person's Workspace, made if there is none and woken if it is stopped.
    ///
    /// # Errors
    /// When it belongs to someone else, or the API server refuses.
    pub async fn ensure(&self, person: &Person, request_id: &str, now: Timestamp) -> Result<Ensured, EnsureError> {
        let (workspace, created) = match self.find(&person.identity)? {
            Some(workspace) => (workspace, false),
            None => self.create(person, request_id).await?,
        };
        let name = workspace.name_any();
        ensure!(workspace.metadata.deletion_timestamp.is_none(), DeletingSnafu { name });
        ensure!(!workspace.spec.suspended, SuspendedSnafu { name });
        // An administrator may have chosen it, or the person have left a group.
        let mut classes = self.template.classes.iter();
        let class = classes.find(|class| class.class_name == workspace.spec.class_name);
        ensure!(class.is_none_or(|class| class.is_for(&person.groups)), NotOfferedSnafu);
        let woken = self.wake(&workspace, request_id, now).await?;
        Ok(Ensured {
            workspace,
            created,
            woken,
        })
    }

    async fn create(&self, person: &Person, request_id: &str) -> Result<(Arc<Workspace>, bool), EnsureError> {
        let mut workspace = self.new_workspace(person)?;
        let annotations = workspace.annotations_mut();
        annotations.insert(REQUESTED_BY.to_owned(), request_id.to_owned());
        let parameters = PostParams {
            field_manager: Some(GATEWAY_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let name = workspace.name_any();
        let created = match self.api.create(&parameters, &workspace).await {
            Ok(created) => return Ok((Arc::new(created), true)),
            // There is one of this name that the watch has not shown yet, or that records no owner or another one.
            Err(kube::Error::Api(status)) if status.code == 409 => self.api.get(&name).await,
            Err(error) => Err(error),
        };
        let found = created.with_context(|_| ApiSnafu {
            operation: "create",
            name: &name,
        })?;
        match recorded_owner(&found) {
            Some(owner) if owner == person.identity => Ok((Arc::new(found), false)),
            Some(_) => OtherOwnerSnafu { name }.fail(),
            None => NoOwnerSnafu { name }.fail(),
        }
    }

    /// What a person gets who has none; an error when nothing is for them.
    fn new_workspace(&self, person: &Person) -> Result<Workspace, EnsureError> {
        let Person {
            identity,
            email,
            groups,
            is_admin: _,
            provider_session: _,
            issued: _,
            expires: _,
        } = person;
        let NewWorkspace {
            providers,
            cpu,
            memory,
            storage,
            storage_class,
            classes,
        } = &self.template;
        let class = classes.iter().find(|class| class.is_for(groups));
        ensure!(class.is_some() || classes.is_empty(), NotOfferedSnafu);
        let given = class.map(|class| &class.resources);
        // What a class says is left to it, and changes with it.
        let unless =
            |given: Option<&Quantity>, default: &Quantity| given.map_or_else(|| default.to_string(), |_| String::new());
        let user = UserId::of(identity);
        let spec = WorkspaceSpec {
            user: User {
                id: user.to_string(),
                email: email.clone(),
                issuer: Some(identity.issuer.clone()),
                subject: Some(identity.subject.clone()),
            },
            resources: Resources {
                cpu: unless(given.and_then(|given| given.cpu.as_ref()), cpu),
                memory: unless(given.and_then(|given| given.memory.as_ref()), memory),
                storage: unless(given.and_then(|given| given.storage.as_ref()), storage),
            },
            class_name: class.map(|class| class.class_name.clone()).unwrap_or_default(),
            ai_config: AiConfig {
                providers: providers.clone(),
                ..AiConfig::default()
            },
            persistence: Persistence {
                storage_class: storage_class.clone().unwrap_or_default(),
                ..Persistence::default()
            },
            ..WorkspaceSpec::default()
        };
        let mut workspace = Workspace::new(user.as_str(), spec);
        workspace.metadata.labels = Some(labels::of(&user));
        // The operator would put it on in its first pass, by a request more.
        workspace.metadata.finalizers = Some(vec![labels::FINALIZER.to_owned()]);
        Ok(workspace)
    }

    /// Asks the operator for a new pod, as the documented annotation does.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn request_restart(&self, name: &str, request_id: &str, now: Timestamp) -> Result<(), EnsureError> {
        let done = self.get(name).and_then(|workspace| restarted_at(&workspace));
        let asked = self.request(name, RESTART_REQUESTED_AT, request_id, done, now).await;
        asked.context(ApiSnafu {
            operation: "restart",
            name,
        })
    }

    /// Asks the operator to start a stopped workspace; `false` when that is not needed, or was asked already.
    async fn wake(&self, workspace: &Workspace, request_id: &str, now: Timestamp) -> Result<bool, EnsureError> {
        if !is_to_be_woken(workspace, now) {
            return Ok(false);
        }
        let name = workspace.name_any();
        let asked = self.request(&name, WAKE_REQUESTED_AT, request_id, stopped_at(workspace), now);
        asked.await.context(ApiSnafu {
            operation: "wake",
            name,
        })?;
        Ok(true)
    }

    /// Writes down that something is asked for, and by which request. Our clock may be fast, and what is dated ahead counts for nothing until
    /// then: the API server's, which stamps every write, is taken instead.
    async fn request(
        &self,
        name: &str,
        what: &str,
        request_id: &str,
        done: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), kube::Error> {
        let write = async |at: Timestamp| {
            let at = at.to_string();
            let patch = json!({"metadata": {"annotations": {REQUESTED_BY: format!("{request_id}@{at}"), what: at}}});
            self.api.patch(name, &as_gateway(), &Patch::Merge(patch)).await
        };
        let at = later_than(done, now);
        let stamps = write(at).await?.metadata.managed_fields.unwrap_or_default();
        let written_at = stamps.into_iter().filter_map(|stamp| stamp.time).max();
        let Some(Time(written_at)) = written_at.filter(|written_at| is_ahead(at, written_at.0)) else {
            return Ok(());
        };
        let ahead = at.duration_since(written_at).as_secs();
        tracing::warn!(
            seconds = ahead,
            "the clock is ahead of the API server's, whose time is taken for what is asked for"
        );
        match later_than(done, written_at) {
            // The operator's is ahead as well.
            same if same == at => Ok(()),
            earlier => {
                let corrected = write(earlier).await.map(drop);
                if corrected.is_err() {
                    // Nothing may come of it later.
                    let nothing = json!({"metadata": {"annotations": {what: null}}});
                    let _ = self.api.patch(name, &as_gateway(), &Patch::Merge(nothing)).await;
                }
                corrected
            }
        }
    }

    /// Writes which terminals of this gateway are open, and when the workspace was last used, unless the status tells of a later time.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn record_presence(
        &self,
        name: &str,
        sessions: &[TerminalSession],
        used: Option<Timestamp>,
        left: Option<Timestamp>,
    ) -> Result<(), EnsureError> {
        let times = [
            ("lastAccessed", used.max(self.last_accessed(name))),
            ("lastConnected", left.max(self.last_connected(name))),
        ];
        let mut status = json!({"sessions": sessions});
        // A null would take away what another gateway has written a moment ago.
        for (field, time) in times {
            if let Some(time) = time {
                status[field] = json!(Time(time));
            }
        }
        let patch = json!({
            "apiVersion": Workspace::api_version(&()),
            "kind": Workspace::kind(&()),
            "metadata": {"name": name},
            "status": status,
        });
        // Forced: of the times, two gateways may be owners.
        let parameters = PatchParams::apply(&format!("devplane-gateway-{}", self.pod_name)).force();
        let patched = self.api.patch_status(name, &parameters, &Patch::Apply(patch)).await;
        patched.map(drop).context(ApiSnafu {
            operation: "write the terminals of",
            name,
        })
    }

    /// The Workspaces whose status tells of a terminal at this gateway, once they are known.
    pub async fn with_sessions_here(&self) -> Vec<String> {
        let mut watched = self.watched.subscribe();
        // The sender lives as long as `self`.
        let _ = watched.wait_for(|watched| *watched == Watched::Yes).await;
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.with_session_at(&self.pod_name)
    }

    /// When activity of this workspace was last written, by whichever gateway.
    pub fn last_accessed(&self, name: &str) -> Option<Timestamp> {
        let workspace = self.get(name)?;
        let last = workspace.status.as_ref()?.last_accessed.as_ref()?;
        Some(last.0)
    }

    /// Until when a terminal of this workspace was open, as it was last written, by whichever gateway.
    fn last_connected(&self, name: &str) -> Option<Timestamp> {
        let workspace = self.get(name)?;
        let last = workspace.status.as_ref()?.last_connected.as_ref()?;
        Some(last.0)
    }
}

/// So that a change is known as one of ours.
pub(super) fn as_gateway() -> PatchParams {
    PatchParams {
        field_manager: Some(GATEWAY_MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// When a request is dated: later than what was last done, so that clocks that differ lose none.
fn later_than(done: Option<Timestamp>, now: Timestamp) -> Timestamp {
    done.map_or(now, |done| now.max(done + SignedDuration::from_secs(1)))
}

fn stopped_at(workspace: &Workspace) -> Option<Timestamp> {
    let stopped = workspace.status.as_ref()?.stopped_at.as_ref();
    stopped.map(|at| at.0)
}

fn restarted_at(workspace: &Workspace) -> Option<Timestamp> {
    let restarted = workspace.status.as_ref()?.restarted_at.as_ref();
    restarted.map(|at| at.0)
}

/// Whether it is stopped, and nobody has asked for its start since.
fn is_to_be_woken(workspace: &Workspace, now: Timestamp) -> bool {
    if workspace.status.as_ref().and_then(|status| status.phase) != Some(Phase::Stopped) {
        return false;
    }
    let requested = workspace.annotations().get(WAKE_REQUESTED_AT);
    let requested: Option<Timestamp> = requested.and_then(|text| text.parse().ok());
    match (stopped_at(workspace), requested) {
        // One that is dated ahead counts for nothing until then.
        (Some(stopped), Some(requested)) => requested <= stopped || is_ahead(requested, now),
        _ => true,
    }
}

/// `None`, and a log line, for one that is no Workspace.
fn readable(object: Lean<Workspace>) -> Option<Workspace> {
    match object.object {
        Ok(workspace) => Some(workspace),
        Err(unreadable) => {
            tracing::warn!(
                workspace = unreadable.metadata.name.as_deref().unwrap_or_default(),
                error = unreadable.error,
                "a Workspace can't be read and is left out"
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::WorkspaceStatus;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn workspace(phase: Phase, stopped: Option<i64>, requested: Option<&str>) -> Workspace {
        let mut workspace = Workspace::new("a", WorkspaceSpec::default());
        workspace.status = Some(WorkspaceStatus {
            phase: Some(phase),
            stopped_at: stopped.map(|seconds| Time(at(seconds))),
            ..WorkspaceStatus::default()
        });
        if let Some(requested) = requested {
            workspace
                .annotations_mut()
                .insert(WAKE_REQUESTED_AT.into(), requested.into());
        }
        workspace
    }

    #[test]
    fn only_a_stopped_workspace_is_woken_and_only_once() {
        let ahead = Some("2100-01-01T00:00:00Z");
        let [before, since] = [5, 11].map(|seconds| at(seconds).to_string());
        for (phase, stopped, requested, woken) in [
            (Phase::Running, None, None, false),
            (Phase::Failed, Some(10), None, false),
            (Phase::Stopped, Some(10), None, true),
            (Phase::Stopped, Some(10), Some(before.as_str()), true),
            (Phase::Stopped, Some(10), Some(since.as_str()), false),
            (Phase::Stopped, Some(10), Some("yesterday"), true),
            (Phase::Stopped, None, None, true),
            (Phase::Stopped, Some(10), ahead, true),
        ] {
            let workspace = workspace(phase, stopped, requested);
            assert_eq!(
                is_to_be_woken(&workspace, at(100)),
                woken,
                "{phase} {stopped:?} {requested:?}"
            );
        }
    }

    #[test]
    fn a_request_is_dated_later_than_what_was_done() {
        for (done, expected) in [(None, 100), (Some(10), 100), (Some(100), 101), (Some(200), 201)] {
            assert_eq!(later_than(done.map(at), at(100)), at(expected), "{done:?}");
        }
    }
}
