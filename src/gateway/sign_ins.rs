//! Sessions become entries of `status.signIns`, and revocations annotations: what gateways tell each other through the Workspace.
//!
//! There is no database. An entry is changed by a patch that names the `resourceVersion` that was read, so that of two gateways
//! which want to change it at once one is told of a conflict (409), and reads again.

use super::session::Session;
use super::standing::{after, record, revoked_before, tidied};
use super::workspaces::{ApiSnafu, DeletingSnafu, EnsureError, Workspaces, as_gateway};
use crate::api::Workspace;
use crate::api::status::SignIn;
use crate::config::session::SessionRules;
use crate::labels::{REVOKED_SESSION, SESSIONS_REVOKED_BEFORE};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Map, Value, json};
use snafu::{ResultExt, ensure};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Of one user. With more, those are forgotten that the provider has confirmed the longest ago.
const MOST: usize = 32;
/// Conflicts in a row, each with another writer that got on.
const TRIES: u32 = 12;

/// What becomes of the entries.
pub enum Change<T> {
    Write(T),
    Leave(T),
}

impl Workspaces {
    /// Changes the entries of a Workspace as `change` says; it may be asked several times. Gives the Workspace as it then is.
    ///
    /// # Errors
    /// When the API server refuses, or others get in between all the time.
    pub async fn change_sign_ins<T>(
        &self,
        name: &str,
        now: Timestamp,
        mut change: impl FnMut(&mut Vec<SignIn>) -> Change<T>,
    ) -> Result<(T, Arc<Workspace>), EnsureError> {
        let mut workspace = match self.get(name) {
            Some(known) => known,
            None => Arc::new(self.api.get(name).await.context(ApiSnafu {
                operation: "read",
                name,
            })?),
        };
        let mut tries = 0;
        loop {
            let mut entries = workspace
                .status
                .as_ref()
                .map(|status| status.sign_ins.clone())
                .unwrap_or_default();
            let told = match change(&mut entries) {
                Change::Leave(told) => return Ok((told, workspace)),
                Change::Write(told) => told,
            };
            tidy(&mut entries, &self.session_rules, now);
            let patch = Patch::Merge(json!({
                "metadata": {"resourceVersion": workspace.resource_version()},
                "status": {"signIns": entries},
            }));
            match self.api.patch_status(name, &PatchParams::default(), &patch).await {
                Ok(written) => return Ok((told, Arc::new(written))),
                Err(kube::Error::Api(status)) if status.code == 409 && tries < TRIES => {
                    tries += 1;
                    sleep(Duration::from_millis(rand::random_range(5..20 * u64::from(tries)))).await;
                    let read = self.api.get(name).await;
                    let read = read.context(ApiSnafu {
                        operation: "read",
                        name,
                    })?;
                    // Another one of this name has nothing to do with these sessions.
                    ensure!(read.uid() == workspace.uid(), DeletingSnafu { name });
                    workspace = Arc::new(read);
                }
                Err(source) => {
                    return Err(source).context(ApiSnafu {
                        operation: "write the sessions of",
                        name,
                    });
                }
            }
        }
    }

    /// Notes a session that the Workspace does not tell of yet, and forgets revocations that no session can be left for.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn register(&self, name: &str, session: &Session, now: Timestamp) -> Result<(), EnsureError> {
        let noted = |entries: &mut Vec<SignIn>| {
            if known(entries, session).is_some() {
                return Change::Leave(());
            }
            entry(entries, session);
            Change::Write(())
        };
        let ((), workspace) = self.change_sign_ins(name, now, noted).await?;
        let tidied = tidied(workspace.annotations(), self.session_rules.lifetime, now);
        if tidied.is_empty() {
            return Ok(());
        }
        let annotations = json!(tidied);
        self.annotate(name, annotations).await
    }

    /// Notes that a session was used, unless that was done a moment ago: of many terminals that close together, one does.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn note_use(
        &self,
        name: &str,
        session: &Session,
        used: Timestamp,
        now: Timestamp,
    ) -> Result<(), EnsureError> {
        let noted_every = self.session_rules.use_noted_every();
        let is_due = |entry: &SignIn| {
            let noted = entry.last_active.as_ref().or(entry.since.as_ref());
            noted.is_none_or(|noted| after(noted.0, noted_every) <= used)
        };
        self.touch(name, session, used, now, is_due).await.map(drop)
    }

    /// Notes that a session was used at a time, if its entry is as `expected`; whether it was. `None` says that there is no entry: the
    /// session is over. What the watch has shown may be late, and the write that comes of this proves that it was not.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn touch(
        &self,
        name: &str,
        session: &Session,
        used: Timestamp,
        now: Timestamp,
        expected: impl Fn(&SignIn) -> bool,
    ) -> Result<(Option<bool>, Arc<Workspace>), EnsureError> {
        let touched = |entries: &mut Vec<SignIn>| match known(entries, session) {
            None => Change::Leave(None),
            Some(entry) if !expected(entry) => Change::Leave(Some(false)),
            Some(entry) => {
                entry.last_active = Some(Time(used)).max(entry.last_active.take());
                Change::Write(Some(true))
            }
        };
        self.change_sign_ins(name, now, touched).await
    }

    /// Ends sessions, on every gateway: by their ids, or by what the provider calls them.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn revoke(&self, name: &str, ids: &[&str], now: Timestamp) -> Result<(), EnsureError> {
        let keys = ids
            .iter()
            .map(|id| (format!("{REVOKED_SESSION}{id}"), Value::from(now.to_string())));
        self.annotate(name, Value::Object(keys.collect::<Map<_, _>>())).await
    }

    /// Ends every session that began before a time.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn revoke_before(&self, workspace: &Workspace, before: Timestamp) -> Result<(), EnsureError> {
        // What an administrator has written is never taken back, a time to come or none at all.
        if revoked_before(workspace.annotations()) >= before {
            return Ok(());
        }
        let annotations = json!({SESSIONS_REVOKED_BEFORE: before.to_string()});
        self.annotate(&workspace.name_any(), annotations).await
    }

    async fn annotate(&self, name: &str, annotations: Value) -> Result<(), EnsureError> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
        let patched = self.api.patch(name, &as_gateway(), &patch).await;
        patched.map(drop).context(ApiSnafu {
            operation: "revoke sessions of",
            name,
        })
    }
}

/// The entry of a session, unless that is over, or was of an earlier Workspace of the same name.
pub fn known<'a>(entries: &'a mut [SignIn], session: &Session) -> Option<&'a mut SignIn> {
    entries.iter_mut().find(|entry| entry.id == session.id)
}

/// The entry of a session, made when there is none.
pub fn entry<'a>(entries: &'a mut Vec<SignIn>, session: &Session) -> &'a mut SignIn {
    let index = entries
        .iter()
        .position(|entry| entry.id == session.id)
        .unwrap_or_else(|| {
            entries.push(SignIn {
                id: session.id.clone(),
                since: Some(Time(session.began)),
                valid_until: Some(Time(session.valid_until)),
                last_active: Some(Time(session.seen)),
                provider_session: session.person.provider_session.clone().unwrap_or_default(),
                refresh_at: session.refresh.as_ref().map(|refresh| Time(refresh.at)),
                ..SignIn::default()
            });
            entries.len() - 1
        });
    &mut entries[index]
}

/// Without sessions that are over, and with no more than there may be. One for which the provider is being asked stays: its new token
/// has no other place.
fn tidy(entries: &mut Vec<SignIn>, rules: &SessionRules, now: Timestamp) {
    entries.retain(|entry| last(entry, rules) > now);
    while entries.len() > MOST {
        let first = entries
            .iter()
            .enumerate()
            .min_by_key(|(_, entry)| (entry.refreshing.is_some(), valid(entry)))
            .map(|(index, _)| index);
        entries.remove(first.unwrap_or_default());
    }
}

fn valid(entry: &SignIn) -> Timestamp {
    entry.valid_until.as_ref().map_or(Timestamp::MIN, |time| time.0)
}

/// When nobody can have the session any more. One that can be confirmed again may have its newest token here alone, however long it was
/// not used within its lifetimes. Its last use is noted when it is confirmed, and may be as much later.
fn last(entry: &SignIn, rules: &SessionRules) -> Timestamp {
    let (Some(_), Some(since)) = (&entry.refresh_at, &entry.since) else {
        return valid(entry);
    };
    let used = entry.last_active.as_ref().unwrap_or(since);
    let noted_every = rules.refresh_every + rules.refresh_grace;
    let idle = rules.idle_lifetime.map(|idle| after(used.0, idle + noted_every));
    after(since.0, rules.lifetime).min(idle.unwrap_or(Timestamp::MAX))
}

/// Whether the Workspace tells of this session.
pub fn is_registered(workspace: &Workspace, session: &Session) -> bool {
    record(workspace, &session.id).is_some()
}

/// Until when the provider's word of `now` is believed.
pub fn valid_until(session_began: Timestamp, rules: &SessionRules, now: Timestamp) -> Timestamp {
    after(now, rules.refresh_every + rules.refresh_grace).min(after(session_began, rules.lifetime))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::Refreshing;
    use crate::gateway::standing::tests::RULES;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn the_list_is_bounded_and_forgets_what_is_over() {
        let of = |id: i64| SignIn {
            id: id.to_string(),
            valid_until: Some(Time(at(id))),
            ..SignIn::default()
        };
        let mut entries: Vec<_> = (0..100).rev().map(of).collect();
        tidy(&mut entries, &RULES, at(10));
        assert_eq!(
            (entries.len(), entries[0].id.as_str(), entries[MOST - 1].id.as_str()),
            (MOST, "99", "68")
        );
        entries.retain(|entry| entry.id != "70");
        tidy(&mut entries, &RULES, at(70));
        assert_eq!(entries.last().unwrap().id, "71");
    }

    #[test]
    fn what_can_be_confirmed_again_is_kept_to_the_end_of_its_lifetimes() {
        let of = |used: i64| SignIn {
            id: used.to_string(),
            since: Some(Time(at(0))),
            valid_until: Some(Time(at(90))),
            last_active: Some(Time(at(used))),
            refresh_at: Some(Time(at(60))),
            ..SignIn::default()
        };
        let kept = |used, now| {
            let mut entries = vec![of(used)];
            tidy(&mut entries, &RULES, at(now));
            !entries.is_empty()
        };
        // Not used for 300 s, which may have been noted 90 s late.
        assert!(kept(0, 389) && !kept(0, 390));
        assert!(kept(900, 999) && !kept(900, 1000));
        // Of too many, those stay for which the provider is being asked.
        let mut entries: Vec<_> = (0..100).map(of).collect();
        entries[99].valid_until = None;
        entries[99].refreshing = Some(Refreshing {
            gateway: "gateway-1".into(),
            since: MicroTime(at(90)),
        });
        tidy(&mut entries, &RULES, at(100));
        assert_eq!((entries.len(), entries[MOST - 1].id.as_str()), (MOST, "99"));
    }
}
