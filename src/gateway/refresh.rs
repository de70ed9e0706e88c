//! A session that is due becomes one question to the provider, whoever of many gateways and tabs comes first.
//!
//! A provider that rotates refresh tokens ends the whole session when one is used twice. So a gateway first writes its claim into
//! the session's entry of `status.signIns` ([`super::sign_ins`]): of several that try at once one succeeds, and the others wait for
//! the watch to show what became of it. The winner asks the provider and writes the new token there, sealed with a key that
//! only the session's own cookie holds. Whichever request comes next, with however old a cookie, to whichever gateway, gets the
//! new token from there, so that an answer that was lost on its way to the browser costs nothing.
//!
//! When the provider says no, the session is revoked, which ends its terminals everywhere. When it can't be reached, the question
//! is put again after a while; the session goes on until the time to which the provider has last confirmed it, which is an
//! interval and a grace. Then its terminals end, and a request is refused until the provider has said yes: a session that nobody
//! used for long is no other case. A claim that is left is taken over, but not used before its gateway, which may merely have been
//! cut off from the API server, had time to write its answer down. A gateway that dies between the provider's answer and its own write takes the new token with it:
//! the next one to ask is told no, and the user signs in again.

use super::service::Gateway;
use super::session::{Refresh, Session};
use super::sign_ins::{Change, entry, known, valid_until};
use super::standing::{after, record};
use super::workspaces::{EnsureError, NotWatchedSnafu};
use crate::api::Workspace;
use crate::api::status::{Refreshing, SignIn};
use crate::audit::{self, Actor, Event};
use crate::identity::UserId;
use crate::oidc::{Person, RefreshError, Refreshed};
use crate::telemetry::metrics::{RefreshOutcome, SessionRefresh};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use secrecy::SecretString;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

/// After which a claim is void: its gateway has died, or can't reach the API server. Longer than the provider may take to answer, and
/// once more to tell its keys.
const CLAIM: Duration = Duration::from_secs(60);
/// Before who takes a void claim over asks: several times as long as a gateway waits that has an answer to write.
const TAKEOVER: Duration = Duration::from_secs(10);
/// How long a request waits before it goes on with what is known.
const WAIT: Duration = Duration::from_secs(3);
/// And where that is not enough to go on.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two questions to a provider that does not answer, unless the interval is shorter.
const AGAIN: Duration = Duration::from_secs(30);
/// After an answer that was lost: the provider may have made a new token, and takes the old one again for a moment if at all
/// (RFC 9700, section 4.14.2, leaves that to it).
const SOON: Duration = Duration::from_secs(5);
/// For writing down what the provider answered: without it the new token is lost. Some minutes.
const WRITES: u32 = 180;
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
const WRITTEN_WITHIN: Duration = Duration::from_secs(2);

/// Has the provider asked, by this gateway or another one, and waits for it a moment; longer when the session is not `confirmed`. Gives
/// the Workspace as it is then, when that is known.
pub async fn refresh(
    gateway: &Arc<Gateway>,
    session: &Session,
    name: &str,
    used: Timestamp,
    confirmed: bool,
) -> Option<Arc<Workspace>> {
    let (tell, told) = oneshot::channel();
    let (own, session, name) = (Arc::clone(gateway), session.clone(), name.to_owned());
    // On its own: a browser that goes away must not take the provider's answer with it.
    gateway.drain.spawn(async move {
        let result = ask(&own, &session, &name, used).await;
        let workspace = result.inspect_err(|error| {
            tracing::warn!(session_id = session.id, %error, "a session can't be refreshed now");
        });
        let _ = tell.send(workspace.ok());
    });
    let wait = if confirmed { WAIT } else { PATIENCE };
    timeout(wait, told).await.ok()?.ok()?
}

/// What became of a claim.
enum Claim {
    /// It is not due.
    Fresh,
    /// Another gateway asks.
    Taken,
    Own(Box<SignIn>),
    /// One that was left.
    TakenOver(Box<SignIn>),
}

async fn ask(
    gateway: &Arc<Gateway>,
    session: &Session,
    name: &str,
    used: Timestamp,
) -> Result<Arc<Workspace>, EnsureError> {
    let Some(refresh) = &session.refresh else {
        return Ok(gateway
            .workspaces
            .change_sign_ins(name, used, |_| Change::Leave(()))
            .await?
            .1);
    };
    let now = gateway.clock.now();
    // As the API server keeps it: the claim is known again by it.
    let claimed_at = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
    let claim = |entries: &mut Vec<SignIn>| {
        let entry = entry(entries, session);
        if entry.refresh_at.as_ref().map_or(refresh.at, |at| at.0) > now {
            return Change::Leave(Claim::Fresh);
        }
        let left = match &entry.refreshing {
            Some(other) if after(other.since.0, CLAIM) > now => return Change::Leave(Claim::Taken),
            other => other.is_some(),
        };
        entry.refreshing = Some(Refreshing {
            gateway: gateway.workspaces.pod_name.clone(),
            since: MicroTime(claimed_at),
        });
        let claimed = Box::new(entry.clone());
        Change::Write(if left {
            Claim::TakenOver(claimed)
        } else {
            Claim::Own(claimed)
        })
    };
    let (claim, workspace) = gateway.workspaces.change_sign_ins(name, now, claim).await?;
    let claimed = match claim {
        Claim::Fresh => return Ok(workspace),
        Claim::Taken => return Ok(others(gateway, session, name).await.unwrap_or(workspace)),
        Claim::Own(claimed) => *claimed,
        Claim::TakenOver(claimed) => match still_own(gateway, session, name, &claimed).await? {
            (true, _) => *claimed,
            (false, workspace) => return Ok(workspace),
        },
    };
    // The newest token: the cookie's own, unless others have asked since.
    let token = if claimed.refreshes > refresh.count {
        session.open(&claimed.sealed).map(|(token, _)| token)
    } else {
        Some(refresh.token.clone())
    };
    let answer = match &token {
        Some(token) => gateway.provider.refresh(token, &session.person.identity).await,
        None => Err(RefreshError::Refused),
    };
    settle(gateway, session, name, &claimed, answer, used).await
}

/// Gives the gateway whose claim was taken over time to write down what it knows; whether it did not.
async fn still_own(
    gateway: &Gateway,
    session: &Session,
    name: &str,
    claimed: &SignIn,
) -> Result<(bool, Arc<Workspace>), EnsureError> {
    sleep(TAKEOVER).await;
    let is_ours = |entry: &SignIn| entry.refreshing == claimed.refreshing && entry.refreshes == claimed.refreshes;
    let (now, workspaces) = (gateway.clock.now(), &gateway.workspaces);
    let (ours, workspace) = workspaces.touch(name, session, session.seen, now, is_ours).await?;
    Ok((ours == Some(true), workspace))
}

/// Whether the token that was refused is still the session's: whose claim was taken over may have written a newer one down meanwhile.
async fn was_current(
    gateway: &Gateway,
    session: &Session,
    name: &str,
    claimed: &SignIn,
    now: Timestamp,
) -> Result<(bool, Arc<Workspace>), EnsureError> {
    let is_same = |entry: &SignIn| entry.refreshes == claimed.refreshes;
    let touch = || gateway.workspaces.touch(name, session, session.seen, now, is_same);
    let (same, workspace) = persist(touch).await?;
    Ok((same != Some(false), workspace))
}

/// Waits until another gateway's question is answered.
async fn others(gateway: &Gateway, session: &Session, name: &str) -> Option<Arc<Workspace>> {
    let mut followed = gateway.workspaces.follow(name);
    let answered = followed.wait_for(|workspace| {
        let entry = workspace
            .as_deref()
            .and_then(|workspace| record(workspace, &session.id));
        entry.is_none_or(|entry| entry.refreshing.is_none())
    });
    timeout(CLAIM, answered).await.ok()?.ok()?.clone()
}

/// Writes down what the provider said.
async fn settle(
    gateway: &Gateway,
    session: &Session,
    name: &str,
    claimed: &SignIn,
    answer: Result<Refreshed, RefreshError>,
    used: Timestamp,
) -> Result<Arc<Workspace>, EnsureError> {
    let (now, rules) = (gateway.clock.now(), &gateway.session_rules);
    let pause = match &answer {
        Err(error) if error.is_lost() => SOON,
        _ => AGAIN,
    };
    let again = after(now, pause.min(rules.refresh_every));
    let mut provider_session = None;
    let (outcome, sealed) = match answer {
        Ok(Refreshed {
            token,
            person: Ok(person),
        }) => {
            let person = confirmed(person, &session.person, &claimed.provider_session);
            provider_session = person.provider_session.clone();
            (RefreshOutcome::Confirmed, session.seal(&token, &person))
        }
        Ok(Refreshed { person: Err(error), .. }) if error.is_about_person() => {
            tracing::warn!(session_id = session.id, %error, "a session ends");
            (RefreshOutcome::Refused, None)
        }
        Ok(Refreshed {
            token,
            person: Err(error),
        }) => {
            tracing::warn!(session_id = session.id, %error, "the provider's answer to a refresh can't be used");
            (RefreshOutcome::Unavailable, session.seal(&token, &session.person))
        }
        Err(RefreshError::Refused) => (RefreshOutcome::Refused, None),
        Err(error) => {
            tracing::warn!(session_id = session.id, %error, "a session can't be refreshed now");
            (RefreshOutcome::Unavailable, None)
        }
    };
    gateway
        .metrics
        .session_refreshes
        .get_or_create(&SessionRefresh { outcome })
        .inc();
    if outcome == RefreshOutcome::Refused {
        let (was_current, workspace) = was_current(gateway, session, name, claimed, now).await?;
        if !was_current {
            return Ok(workspace);
        }
        let user_id = UserId::of(&session.person.identity);
        // No request is behind it: whichever came first has asked for all.
        let actor = Actor {
            request_id: "",
            subject: Some(&session.person.identity.subject),
            user_id: Some(user_id.as_str()),
        };
        audit::emit(&Event::TokenRejected {
            actor,
            reason: "refresh_refused",
        });
        tracing::info!(session_id = session.id, "the provider ends a session");
        let revoked = [session.id.as_str()];
        persist(|| gateway.workspaces.revoke(name, &revoked, now)).await?;
        audit::emit(&Event::SessionRevoked {
            actor,
            target: gateway.target(name),
            session: Some(&session.id),
            reason: "refresh_refused",
        });
    }
    let write = |entries: &mut Vec<SignIn>| {
        let Some(entry) = known(entries, session) else {
            return Change::Leave(());
        };
        let is_own = entry.refreshing == claimed.refreshing;
        // A new token has no other place: it is written even where the claim was taken over, as long as there is no newer one.
        let is_newer = sealed.is_some() && entry.refreshes == claimed.refreshes;
        if !is_own && !is_newer {
            return Change::Leave(());
        }
        entry.refreshing = None;
        if let Some(sealed) = &sealed {
            entry.refreshes = claimed.refreshes.max(count(session)) + 1;
            entry.sealed.clone_from(sealed);
        }
        match outcome {
            RefreshOutcome::Confirmed => {
                entry.refresh_at = Some(Time(after(now, rules.refresh_every)));
                entry.valid_until = Some(Time(valid_until(session.began, rules, now)));
                entry.last_active = Some(Time(used)).max(entry.last_active.take());
                entry.provider_session = provider_session.clone().unwrap_or_default();
            }
            RefreshOutcome::Unavailable => entry.refresh_at = Some(Time(again)),
            RefreshOutcome::Refused => entries.retain(|entry| entry.id != session.id),
        }
        Change::Write(())
    };
    let ((), workspace) = persist(|| gateway.workspaces.change_sign_ins(name, now, write)).await?;
    Ok(workspace)
}

/// Who it is now. What the provider calls its session is kept where it does not say: an ID token of a refresh need not repeat `sid`, and
/// a logout token may name nothing else.
fn confirmed(told: Option<Person>, before: &Person, recorded: &str) -> Person {
    let named = told.as_ref().and_then(|person| person.provider_session.clone());
    let recorded = Some(recorded.to_owned()).filter(|name| !name.is_empty());
    let provider_session = named.or(recorded).or_else(|| before.provider_session.clone());
    Person {
        provider_session,
        ..told.unwrap_or_else(|| before.clone())
    }
}

fn count(session: &Session) -> u32 {
    session.refresh.as_ref().map_or(0, |refresh| refresh.count)
}

/// Tries a write again that must not be lost.
async fn persist<T, F: Future<Output = Result<T, EnsureError>>>(
    mut write: impl FnMut() -> F,
) -> Result<T, EnsureError> {
    let mut tries = 0;
    loop {
        match timeout(WRITTEN_WITHIN, write()).await {
            Ok(Err(error)) if tries < WRITES && !error.is_not_found() => {
                if tries == 0 {
                    tracing::warn!(%error, "what became of a session is written again and again");
                }
            }
            Err(_) if tries < WRITES => {}
            Ok(result) => return result,
            Err(_) => return NotWatchedSnafu.fail(),
        }
        sleep((FIRST_PAUSE * 2u32.saturating_pow(tries)).min(LONGEST_PAUSE)).await;
        tries += 1;
    }
}

/// Brings a session up to what its Workspace records of it; whether anything was newer there.
pub fn catch_up(session: &mut Session, workspace: &Workspace) -> bool {
    let Some(entry) = record(workspace, &session.id).filter(|entry| entry.refreshes > count(session)) else {
        return false;
    };
    let opened: Option<(SecretString, Person)> = session.open(&entry.sealed);
    let (Some((token, person)), Some(refresh_at)) = (opened, &entry.refresh_at) else {
        return false;
    };
    session.person = person;
    session.refresh = Some(Refresh {
        token,
        at: refresh_at.0,
        count: entry.refreshes,
    });
    if let Some(valid_until) = &entry.valid_until {
        session.valid_until = session.valid_until.max(valid_until.0);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::session::tests::session;

    #[test]
    fn the_provider_s_session_is_known_for_as_long_as_no_other_is_named() {
        let before = session(90).person;
        let told = |sid: Option<&str>| Person {
            email: "new@example.test".into(),
            provider_session: sid.map(str::to_owned),
            ..before.clone()
        };
        for (person, recorded, expected) in [
            (Some(told(None)), "p1", "p1"),
            (Some(told(None)), "p2", "p2"),
            (Some(told(None)), "", "p1"),
            (Some(told(Some("p3"))), "p2", "p3"),
            (None, "p2", "p2"),
            (None, "", "p1"),
        ] {
            let is_told = person.is_some();
            let now = confirmed(person, &before, recorded);
            assert_eq!(now.provider_session.as_deref(), Some(expected));
            assert_eq!(now.email == "new@example.test", is_told);
        }
    }
}
