//! Open terminals become the Workspace's `status.sessions` and `status.lastAccessed`.
//!
//! Each gateway applies its own terminals under a field manager of its own (Kubernetes: server-side apply), so that two
//! gateways never write over each other, and what is no longer applied is gone. Coming and going is written at once, use at
//! most once a minute. The operator takes away what a gateway that died has left.

use super::service::Gateway;
use super::workspaces::{ApiSnafu, EnsureError, Workspaces};
use crate::api::Workspace;
use crate::api::status::TerminalSession;
use crate::clock::until;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use snafu::ResultExt;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

/// Between two writes for a workspace that is in use, whichever gateway made the last one.
const WRITE_EVERY: Duration = Duration::from_secs(60);
/// Terminals of one workspace that a gateway lists, the oldest first: what a list costs the API server grows faster than the list.
const LISTED: usize = 256;
/// After a write that failed: doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Writes that fail in a row before a workspace without terminals is forgotten.
const LAST_TRIES: u32 = 5;

/// The terminals of this gateway, by workspace.
#[derive(Default)]
pub struct Presence {
    places: Mutex<HashMap<String, Arc<Place>>>,
}

/// One workspace that somebody is at.
struct Place {
    occupants: watch::Sender<Vec<Arc<Occupant>>>,
    used: Notify,
    /// Milliseconds since 1970; 0 is never.
    last_used: AtomicI64,
}

struct Occupant {
    /// `None` is nobody: only what the terminal prints is listened to.
    session: Option<TerminalSession>,
    /// Milliseconds since 1970; 0 is never.
    last_input: AtomicI64,
}

/// A terminal that is open; it goes off the list when this is dropped.
pub struct Present {
    place: Arc<Place>,
    occupant: Arc<Occupant>,
}

impl Presence {
    /// A terminal opens. That is use where a program opens it; a page connects again by itself. With no session, nobody is listed.
    pub fn enter(&self, gateway: &Arc<Gateway>, workspace: &str, session: Option<TerminalSession>) -> Present {
        let mut places = self.lock();
        let place = places.entry(workspace.to_owned()).or_insert_with(|| {
            let place = Arc::new(Place {
                occupants: watch::Sender::default(),
                used: Notify::new(),
                last_used: AtomicI64::new(0),
            });
            let writing = write(Arc::clone(gateway), workspace.to_owned(), Arc::clone(&place));
            gateway.drain.spawn(writing);
            place
        });
        let occupant = Arc::new(Occupant {
            session,
            last_input: AtomicI64::new(0),
        });
        if let Some(session) = occupant.session.as_ref().filter(|session| session.sign_in.is_empty()) {
            place
                .last_used
                .fetch_max(session.since.0.as_millisecond(), Ordering::Relaxed);
        }
        place
            .occupants
            .send_modify(|occupants| occupants.push(Arc::clone(&occupant)));
        Present {
            place: Arc::clone(place),
            occupant,
        }
    }

    /// Whether a terminal of this workspace is open here.
    pub fn is_occupied(&self, workspace: &str) -> bool {
        self.lock().get(workspace).is_some_and(|place| place.is_occupied())
    }

    /// Whether somebody has a terminal of this workspace open here, or listens to it.
    pub fn is_anybody_at(&self, workspace: &str) -> bool {
        let place = self.lock().get(workspace).cloned();
        place.is_some_and(|place| !place.occupants.borrow().is_empty())
    }

    /// Forgets a workspace, unless somebody has come meanwhile.
    fn leave(&self, workspace: &str) -> bool {
        let mut places = self.lock();
        let is_empty = places
            .get(workspace)
            .is_none_or(|place| place.occupants.borrow().is_empty());
        if is_empty {
            places.remove(workspace);
        }
        is_empty
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Present {
    /// When its user last typed.
    pub fn last_input(&self) -> Option<Timestamp> {
        time(&self.occupant.last_input)
    }

    /// Its user has typed. Costs two stores: it is called for every key.
    pub fn typed(&self, at: Timestamp) {
        self.occupant.last_input.store(at.as_millisecond(), Ordering::Relaxed);
        self.used(at);
    }

    /// Something else has happened that counts.
    pub fn used(&self, at: Timestamp) {
        self.place.last_used.store(at.as_millisecond(), Ordering::Relaxed);
        self.place.used.notify_one();
    }

    /// Ends when somebody opens a terminal of the same workspace.
    pub async fn joined(&self) {
        let mut occupants = self.place.occupants.subscribe();
        // The sender lives as long as `self`.
        let _ = occupants.wait_for(|occupants| has_session(occupants)).await;
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.place
            .occupants
            .send_modify(|occupants| occupants.retain(|other| !Arc::ptr_eq(other, &self.occupant)));
    }
}

impl Place {
    fn is_occupied(&self) -> bool {
        has_session(&self.occupants.borrow())
    }

    /// What `status.sessions` says of this gateway.
    fn sessions(&self) -> Vec<TerminalSession> {
        let occupants = self.occupants.borrow();
        let sessions = occupants.iter().filter_map(|occupant| {
            Some(TerminalSession {
                last_input: time(&occupant.last_input).map(Time),
                ..occupant.session.clone()?
            })
        });
        sessions.take(LISTED).collect()
    }
}

fn has_session(occupants: &[Arc<Occupant>]) -> bool {
    occupants.iter().any(|occupant| occupant.session.is_some())
}

fn time(milliseconds: &AtomicI64) -> Option<Timestamp> {
    let milliseconds = milliseconds.load(Ordering::Relaxed);
    (milliseconds != 0).then(|| Timestamp::from_millisecond(milliseconds).ok())?
}

impl Workspaces {
    /// Writes which terminals of this gateway are open, and when the workspace was last used, unless the status tells of a later time.
    ///
    /// # Errors
    /// When the API server refuses.
    async fn record_presence(&self, name: &str, presence: &PresenceStatus) -> Result<(), EnsureError> {
        let PresenceStatus {
            sessions,
            last_accessed,
            last_connected,
        } = presence;
        let before = self
            .get(name)
            .and_then(|workspace| workspace.status.clone())
            .unwrap_or_default();
        let later = |time: &Option<Timestamp>, before: Option<Time>| time.map(Time).max(before);
        let times = [
            ("lastAccessed", later(last_accessed, before.last_accessed)),
            ("lastConnected", later(last_connected, before.last_connected)),
        ];
        let mut status = json!({"sessions": sessions});
        // A null would take away what another gateway has written a moment ago.
        for (field, time) in times {
            if let Some(time) = time {
                status[field] = json!(time);
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

    /// When activity of this workspace was last written, by whichever gateway.
    fn last_accessed(&self, name: &str) -> Option<Timestamp> {
        let workspace = self.get(name)?;
        let last = workspace.status.as_ref()?.last_accessed.as_ref()?;
        Some(last.0)
    }
}

/// Its user is there, without a terminal: written, unless that was done a moment ago, and nobody is listed.
pub fn note_use(gateway: &Arc<Gateway>, workspace: &str, now: Timestamp) {
    if is_due(gateway.workspaces.last_accessed(workspace), now) {
        gateway.presence.enter(gateway, workspace, None).used(now);
    }
}

/// Whether the last use is so long ago that another one is worth a write, as it would be of keys.
fn is_due(last: Option<Timestamp>, now: Timestamp) -> bool {
    last.is_none_or(|last| until(last + WRITE_EVERY, now).is_zero())
}

/// What the status is to say of one workspace, as far as this gateway knows.
#[derive(Clone, Debug, Default, PartialEq)]
struct PresenceStatus {
    sessions: Vec<TerminalSession>,
    last_accessed: Option<Timestamp>,
    /// When the last of its terminals was closed.
    last_connected: Option<Timestamp>,
}

impl PresenceStatus {
    /// What is to be said after this, if it is anything else: what is said already costs no write.
    fn next(&self, sessions: Vec<TerminalSession>, used: Option<Timestamp>, now: Timestamp) -> Option<Self> {
        let has_left = sessions.is_empty() && !self.sessions.is_empty();
        let next = Self {
            sessions,
            last_accessed: used,
            last_connected: if has_left { Some(now) } else { self.last_connected },
        };
        (next != *self).then_some(next)
    }
}

/// Writes what becomes of one workspace until nobody is there any more.
async fn write(gateway: Arc<Gateway>, workspace: String, place: Arc<Place>) {
    let workspaces = &gateway.workspaces;
    let mut occupants = place.occupants.subscribe();
    occupants.mark_changed();
    let mut tried: Option<Timestamp> = None;
    let mut said = PresenceStatus::default();
    let mut failures = 0;
    loop {
        let in_use = async {
            place.used.notified().await;
            if let Some(last) = workspaces.last_accessed(&workspace).max(tried) {
                sleep(until(last + WRITE_EVERY, gateway.clock.now()).min(WRITE_EVERY)).await;
            }
        };
        let again = async {
            match failures {
                0 => std::future::pending().await,
                _ => sleep(FIRST_PAUSE * 2u32.saturating_pow(failures - 1).min(32)).await,
            }
        };
        tokio::select! {
            _ = occupants.changed() => {}
            () = in_use => {}
            () = again => {}
        }
        let is_empty = occupants.borrow_and_update().is_empty();
        let now = gateway.clock.now();
        let next = said.next(place.sessions(), time(&place.last_used), now);
        if next.is_some() || failures > 0 {
            said = next.unwrap_or(said);
            tried = said.last_accessed.map(|_| now);
            match workspaces.record_presence(&workspace, &said).await {
                Ok(()) => failures = 0,
                // Deleted meanwhile.
                Err(error) if error.is_not_found() => failures = 0,
                Err(error) => {
                    failures += 1;
                    tracing::warn!(workspace, %error, "can't write who uses a workspace; it may stop as idle");
                }
            }
        }
        if is_empty && (failures == 0 || failures >= LAST_TRIES) && gateway.presence.leave(&workspace) {
            return;
        }
    }
}

/// Takes off the lists what an earlier process of this gateway's pod has left there. Ends when that is done.
pub async fn forget_earlier(gateway: &Gateway) {
    for workspace in gateway.workspaces.with_sessions_here().await {
        if gateway.presence.is_occupied(&workspace) {
            continue;
        }
        let nobody = PresenceStatus {
            last_connected: Some(gateway.clock.now()),
            ..PresenceStatus::default()
        };
        if let Err(error) = gateway.workspaces.record_presence(&workspace, &nobody).await {
            tracing::warn!(workspace, %error, "can't take terminals off the list that are no longer open");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn use_is_written_once_a_minute() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        for (last, expected) in [
            (None, true),
            (Some(0), true),
            (Some(40), true),
            (Some(41), false),
            (Some(100), false),
        ] {
            assert_eq!(is_due(last.map(at), at(100)), expected, "{last:?}");
        }
    }

    fn session(id: usize) -> TerminalSession {
        TerminalSession {
            id: id.to_string(),
            sign_in: String::new(),
            since: Time(Timestamp::UNIX_EPOCH),
            last_input: None,
            client_address: String::new(),
            user_agent: String::new(),
            gateway: String::new(),
        }
    }

    #[test]
    fn only_what_is_new_is_said() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let list = |ids: &[usize]| ids.iter().copied().map(session).collect::<Vec<_>>();
        let status = |ids: &[usize], used: Option<i64>, left: Option<i64>| PresenceStatus {
            sessions: list(ids),
            last_accessed: used.map(at),
            last_connected: left.map(at),
        };
        for (said, ids, used, expected) in [
            // Nobody came, or left before anything was said.
            (PresenceStatus::default(), &[][..], None, None),
            (
                PresenceStatus::default(),
                &[],
                Some(9),
                Some(status(&[], Some(9), None)),
            ),
            (PresenceStatus::default(), &[1], None, Some(status(&[1], None, None))),
            (status(&[1], Some(9), None), &[1], Some(9), None),
            (
                status(&[1], Some(9), None),
                &[1],
                Some(10),
                Some(status(&[1], Some(10), None)),
            ),
            (
                status(&[1], Some(9), None),
                &[1, 2],
                Some(9),
                Some(status(&[1, 2], Some(9), None)),
            ),
            (status(&[1, 2], None, None), &[2], None, Some(status(&[2], None, None))),
            // The last one leaves, which is told once.
            (
                status(&[1], Some(9), None),
                &[],
                Some(9),
                Some(status(&[], Some(9), Some(100))),
            ),
            (status(&[], Some(9), Some(50)), &[], Some(9), None),
            (
                status(&[], None, Some(50)),
                &[1],
                None,
                Some(status(&[1], None, Some(50))),
            ),
            (
                status(&[1], None, Some(50)),
                &[],
                None,
                Some(status(&[], None, Some(100))),
            ),
        ] {
            assert_eq!(
                said.next(list(ids), used.map(at), at(100)),
                expected,
                "{said:?} {ids:?} {used:?}"
            );
        }
    }

    #[test]
    fn the_oldest_terminals_are_listed_and_no_more_than_there_may_be() {
        let occupant = |session| {
            Arc::new(Occupant {
                session,
                last_input: AtomicI64::new(0),
            })
        };
        let mut occupants: Vec<_> = (0..LISTED + 50).map(|id| occupant(Some(session(id)))).collect();
        // Who merely listens takes nobody's place.
        occupants.insert(0, occupant(None));
        let place = Place {
            occupants: watch::Sender::new(occupants),
            used: Notify::new(),
            last_used: AtomicI64::new(0),
        };
        let listed: Vec<_> = place.sessions().into_iter().map(|session| session.id).collect();
        let oldest: Vec<_> = (0..LISTED).map(|id| id.to_string()).collect();
        assert_eq!(listed, oldest);
    }
}
