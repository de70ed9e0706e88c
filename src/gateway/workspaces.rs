//! A person becomes their Workspace: found, made or woken. Watched, never polled.

use super::departures::{Departures, Whose};
use super::index::{Followed, Index, recorded_owner};
use super::standing::Over;
use crate::api::workspace::{AiConfig, Persistence, Resources, User};
use crate::api::{Workspace, WorkspaceSpec};
use crate::clock::Clock;
use crate::cluster;
use crate::cluster::lean::Lean;
use crate::cluster::watch::Change;
use crate::config::gateway::NewWorkspace;
use crate::config::session::SessionRules;
use crate::identity::{Identity, UserId};
use crate::labels::{self, GATEWAY_MANAGER, LISTEN, REQUESTED_BY};
use crate::oidc::Person;
use crate::units::quantity::Quantity;
use jiff::Timestamp;
use kube::api::{PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use snafu::{ResultExt, Snafu, ensure};
use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Notify, watch};
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
    /// Some may be handed over by a gateway that stops.
    pub(super) handed_over: Notify,
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
            handed_over: Notify::new(),
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
                    self.handed_over.notify_one();
                }
                Change::Applied(object) => {
                    if let Some(workspace) = readable(object) {
                        let is_handed_over = workspace.annotations().contains_key(LISTEN);
                        self.write(|index| self.depart(index.apply(workspace)));
                        if is_handed_over {
                            self.handed_over.notify_one();
                        }
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

    /// The Workspaces whose status tells of a terminal at this gateway, once they are known.
    pub async fn with_sessions_here(&self) -> Vec<String> {
        let mut watched = self.watched.subscribe();
        // The sender lives as long as `self`.
        let _ = watched.wait_for(|watched| *watched == Watched::Yes).await;
        let has_session = |workspace: &Workspace| {
            let mut sessions = workspace.status.iter().flat_map(|status| &status.sessions);
            sessions.any(|session| session.gateway == self.pod_name)
        };
        self.which(has_session)
    }

    /// The names of those for which `holds` is true.
    pub(super) fn which(&self, holds: impl Fn(&Workspace) -> bool) -> Vec<String> {
        self.index.read().unwrap_or_else(PoisonError::into_inner).which(holds)
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
}

/// So that a change is known as one of ours.
pub(super) fn as_gateway() -> PatchParams {
    PatchParams {
        field_manager: Some(GATEWAY_MANAGER.to_owned()),
        ..PatchParams::default()
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
