//! A session, and what its owner's Workspace records of it, become how long it stands, or why it is over. Pure.
//!
//! A session ends with its lifetime, when it was not used for long, and when it is revoked. One that the provider can be asked about is
//! confirmed for a while: after that it is of no use until the provider has confirmed it again, and not over. Revocations are annotations of the Workspace, so the watch tells them to every gateway: one for each session that
//! was revoked, and one time before which every session is over. They vanish with the Workspace, so a session ends with it: a
//! moment after it began it stands by a Workspace that tells of it alone.

use super::session::Session;
use crate::api::Workspace;
use crate::api::status::SignIn;
use crate::config::session::SessionRules;
use crate::labels::{REVOKED_SESSION, SESSIONS_REVOKED_BEFORE};
use crate::oidc::Person;
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use std::collections::BTreeMap;
use std::time::Duration;

/// For the browser of someone who signs in to get to where their Workspace is made, and for that to tell of the session.
const UNTOLD: Duration = Duration::from_secs(120);

/// Why a session is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// By an administrator, by the provider, or by signing out.
    Revoked,
    Expired,
    Idle,
    /// The Workspace that it was for was deleted.
    Gone,
    /// Only until the provider confirms it again.
    Unconfirmed,
}

impl Over {
    /// The word for logs and audit lines.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Revoked => "session_revoked",
            Self::Expired => "session_expired",
            Self::Idle => "session_idle",
            Self::Gone => "workspace_gone",
            Self::Unconfirmed => "session_unconfirmed",
        }
    }
}

/// A session that is not over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// When it is, if nothing happens before.
    pub ends: Timestamp,
    /// How long the provider's word is believed. Not later than the end.
    pub confirmed_until: Timestamp,
    /// When the provider is to be asked; `None` when it can't be.
    pub refresh_at: Option<Timestamp>,
}

impl Standing {
    /// As long as the provider's word is believed.
    ///
    /// # Errors
    /// When it is to be asked before anything else.
    pub fn confirmed(self, now: Timestamp) -> Result<Self, Over> {
        if self.confirmed_until <= now {
            return Err(Over::Unconfirmed);
        }
        Ok(self)
    }
}

/// How a session stands. `workspace` is its owner's, `used` its last use as far as the caller knows.
///
/// # Errors
/// When it is over.
pub fn of_session(
    session: &Session,
    workspace: Option<&Workspace>,
    used: Timestamp,
    rules: &SessionRules,
    now: Timestamp,
) -> Result<Standing, Over> {
    let record = workspace.and_then(|workspace| record(workspace, &session.id));
    // The provider may call its session otherwise by now than the cookie knows.
    let recorded = record.map(|record| record.provider_session.as_str());
    let known = session.person.provider_session.as_deref();
    let names = [
        Some(session.id.as_str()),
        known,
        recorded.filter(|name| !name.is_empty()),
    ];
    if workspace.is_some_and(|workspace| is_revoked(workspace.annotations(), names, session.began)) {
        return Err(Over::Revoked);
    }
    let time = |of: fn(&SignIn) -> Option<Timestamp>| record.and_then(of);
    let valid_until = session
        .valid_until
        .max(time(|record| Some(record.valid_until.as_ref()?.0)).unwrap_or(Timestamp::MIN));
    let lifetime = after(session.began, rules.lifetime);
    let expires = match session.refresh {
        Some(_) => lifetime,
        None => valid_until.min(lifetime),
    };
    if expires <= now {
        return Err(Over::Expired);
    }
    let untold = match record {
        Some(_) => Timestamp::MAX,
        None => after(session.began, UNTOLD),
    };
    if untold <= now {
        return Err(if workspace.is_none() { Over::Gone } else { Over::Expired });
    }
    let used = used
        .max(session.seen)
        .max(time(|record| Some(record.last_active.as_ref()?.0)).unwrap_or(Timestamp::MIN));
    let used = used.max(
        workspace
            .and_then(|workspace| typed_elsewhere(workspace, &session.id))
            .unwrap_or(Timestamp::MIN),
    );
    let idle = rules.idle_lifetime.map_or(Timestamp::MAX, |idle| after(used, idle));
    if idle <= now {
        return Err(Over::Idle);
    }
    let due = time(|record| Some(record.refresh_at.as_ref()?.0));
    let ends = expires.min(idle).min(untold);
    Ok(Standing {
        ends,
        confirmed_until: valid_until.min(ends),
        refresh_at: session.refresh.as_ref().map(|refresh| due.unwrap_or(refresh.at)),
    })
}

/// How a token stands that a program came with.
///
/// # Errors
/// When it has ended, or its person's sessions were revoked after it was made.
pub fn of_token(person: &Person, workspace: Option<&Workspace>, now: Timestamp) -> Result<Standing, Over> {
    let name = person.provider_session.as_deref();
    if workspace.is_some_and(|workspace| is_revoked(workspace.annotations(), [name], person.issued)) {
        return Err(Over::Revoked);
    }
    if person.expires <= now {
        return Err(Over::Expired);
    }
    Ok(Standing {
        ends: person.expires,
        confirmed_until: person.expires,
        refresh_at: None,
    })
}

/// When someone last typed in a terminal of this session, at whichever gateway.
fn typed_elsewhere(workspace: &Workspace, id: &str) -> Option<Timestamp> {
    let terminals = workspace
        .status
        .as_ref()?
        .sessions
        .iter()
        .filter(|terminal| terminal.sign_in == id);
    terminals
        .filter_map(|terminal| Some(terminal.last_input.as_ref()?.0))
        .max()
}

/// What the Workspace records of a session.
pub fn record<'a>(workspace: &'a Workspace, id: &str) -> Option<&'a SignIn> {
    workspace
        .status
        .as_ref()?
        .sign_ins
        .iter()
        .find(|record| record.id == id)
}

/// Whether what is known by one of `names` is over. A time that can't be read revokes everything: it was meant to revoke something.
fn is_revoked<'a>(
    annotations: &BTreeMap<String, String>,
    names: impl IntoIterator<Item = Option<&'a str>>,
    began: Timestamp,
) -> bool {
    let is_named = |name: &str| annotations.contains_key(&format!("{REVOKED_SESSION}{name}"));
    if names.into_iter().flatten().any(is_named) {
        return true;
    }
    began < revoked_before(annotations)
}

/// The time before which every session is over; it may be to come, and is the last that there is when it can't be read.
pub fn revoked_before(annotations: &BTreeMap<String, String>) -> Timestamp {
    match annotations
        .get(SESSIONS_REVOKED_BEFORE)
        .map(|text| text.parse::<Timestamp>())
    {
        None => Timestamp::MIN,
        Some(Err(_)) => Timestamp::MAX,
        // A time in whole seconds means all of its second.
        Some(Ok(before)) if before.subsec_nanosecond() == 0 => after(before, Duration::from_secs(1)),
        Some(Ok(before)) => before,
    }
}

/// The annotations of revocations as they are to become: `None` takes one away that no session can be left for, and a value that
/// is no time becomes `now`. Empty when all is well.
pub fn tidied(
    annotations: &BTreeMap<String, String>,
    lifetime: Duration,
    now: Timestamp,
) -> BTreeMap<String, Option<String>> {
    let revoked = annotations.iter().filter(|(key, _)| key.starts_with(REVOKED_SESSION));
    revoked
        .filter_map(|(key, value)| match value.parse::<Timestamp>() {
            Ok(at) if after(at, lifetime) <= now => Some((key.clone(), None)),
            Ok(_) => None,
            Err(_) => Some((key.clone(), Some(now.to_string()))),
        })
        .collect()
}

/// `time` and a duration; the latest time that there is when that is none.
pub fn after(time: Timestamp, duration: Duration) -> Timestamp {
    let duration = SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::api::{WorkspaceSpec, WorkspaceStatus};
    use crate::gateway::session::tests::session;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    pub const RULES: SessionRules = SessionRules {
        lifetime: Duration::from_secs(1000),
        idle_lifetime: Some(Duration::from_secs(300)),
        refresh_every: Duration::from_secs(60),
        refresh_grace: Duration::from_secs(30),
        watch_loss: Duration::from_secs(30),
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn annotated(pairs: &[(&str, &str)]) -> Workspace {
        let mut workspace = Workspace::new("a", WorkspaceSpec::default());
        for (key, value) in pairs {
            workspace.annotations_mut().insert((*key).into(), (*value).into());
        }
        workspace
    }

    fn recorded(valid_until: i64, last_active: Option<i64>, refresh_at: Option<i64>) -> Workspace {
        let mut workspace = annotated(&[]);
        workspace.status = Some(WorkspaceStatus {
            sign_ins: vec![SignIn {
                id: "s1".into(),
                valid_until: Some(Time(at(valid_until))),
                last_active: last_active.map(|seconds| Time(at(seconds))),
                refresh_at: refresh_at.map(|seconds| Time(at(seconds))),
                ..SignIn::default()
            }],
            ..WorkspaceStatus::default()
        });
        workspace
    }

    fn stands(workspace: Option<&Workspace>, now: i64) -> Result<(Timestamp, Option<Timestamp>), Over> {
        // Began at 0, valid until 90, to be refreshed at 60.
        let standing = of_session(&session(90), workspace, at(0), &RULES, at(now))?.confirmed(at(now))?;
        Ok((standing.confirmed_until, standing.refresh_at))
    }

    #[test]
    fn a_session_stands_as_long_as_the_provider_confirms_it() {
        assert_eq!(stands(None, 10), Ok((at(90), Some(at(60)))));
        assert_eq!(stands(None, 90), Err(Over::Unconfirmed));
        let workspace = recorded(150, None, Some(120));
        assert_eq!(stands(Some(&workspace), 100), Ok((at(150), Some(at(120)))));
        assert_eq!(stands(Some(&workspace), 150), Err(Over::Unconfirmed));
        // Which is no end: the provider is asked, as long as the session may last at all.
        let unconfirmed = of_session(&session(90), Some(&workspace), at(0), &RULES, at(299)).unwrap();
        assert_eq!((unconfirmed.ends, unconfirmed.refresh_at), (at(300), Some(at(120))));
        // Without a refresh token nobody can be asked.
        let mut unasked = session(90);
        unasked.refresh = None;
        let standing = |now| of_session(&unasked, None, at(0), &RULES, at(now));
        assert_eq!(standing(89).map(|standing| standing.ends), Ok(at(90)));
        assert_eq!(standing(90), Err(Over::Expired));
        // A record of another session has no part in it.
        let mut other = recorded(150, None, Some(120));
        other.status.as_mut().unwrap().sign_ins[0].id = "s2".into();
        assert_eq!(stands(Some(&other), 90), Err(Over::Unconfirmed));
    }

    #[test]
    fn a_session_ends_when_it_is_old_or_not_used() {
        let workspace = recorded(5000, Some(900), Some(2000));
        assert_eq!(stands(Some(&workspace), 999), Ok((at(1000), Some(at(2000)))));
        assert_eq!(stands(Some(&workspace), 1000), Err(Over::Expired));
        let workspace = recorded(5000, Some(100), None);
        assert_eq!(stands(Some(&workspace), 399), Ok((at(400), Some(at(60)))));
        assert_eq!(stands(Some(&workspace), 400), Err(Over::Idle));
        let never = SessionRules {
            idle_lifetime: None,
            ..RULES
        };
        let standing = of_session(&session(90), Some(&workspace), at(0), &never, at(999)).unwrap();
        assert_eq!(standing.ends, at(1000));
    }

    #[test]
    fn a_session_ends_with_the_workspace_that_tells_of_it() {
        let mut session = session(900);
        session.refresh = None;
        let stands = |workspace: Option<&Workspace>, now| {
            let standing = of_session(&session, workspace, at(0), &RULES, at(now));
            standing.map(|standing| standing.ends)
        };
        // Until there is one that does.
        assert_eq!(stands(None, 119), Ok(at(120)));
        assert_eq!(stands(None, 120), Err(Over::Gone));
        let told = recorded(900, None, None);
        assert_eq!(stands(Some(&told), 120), Ok(at(300)));
        // Another one was made since.
        let other = annotated(&[]);
        assert_eq!(stands(Some(&other), 119), Ok(at(120)));
        assert_eq!(stands(Some(&other), 120), Err(Over::Expired));
    }

    #[test]
    fn revoked_sessions_are_over() {
        let key = |id: &str| format!("{REVOKED_SESSION}{id}");
        for (annotation, value, is_over) in [
            (key("s1").as_str(), "", true),
            (&key("p1"), "x", true),
            (&key("s2"), "now", false),
            (SESSIONS_REVOKED_BEFORE, &at(0).to_string(), true),
            (SESSIONS_REVOKED_BEFORE, &at(-1).to_string(), false),
            (SESSIONS_REVOKED_BEFORE, "2027-01-15T08:00:00.001Z", true),
            (SESSIONS_REVOKED_BEFORE, "yesterday", true),
        ] {
            let workspace = annotated(&[(annotation, value)]);
            let over = stands(Some(&workspace), 1).err();
            assert_eq!(over == Some(Over::Revoked), is_over, "{annotation} {value}");
            // A token was made when the session began, and is named by the provider's session alone.
            let over = of_token(&session(90).person, Some(&workspace), at(1)).err();
            assert_eq!(
                over == Some(Over::Revoked),
                is_over && !annotation.ends_with("s1"),
                "{annotation} {value}"
            );
        }
        assert_eq!(of_token(&session(90).person, None, at(90)), Err(Over::Expired));
        // What the provider calls it may be recorded alone.
        let mut workspace = recorded(90, None, None);
        workspace.annotations_mut().insert(key("p2"), "x".into());
        workspace.status.as_mut().unwrap().sign_ins[0].provider_session = "p2".into();
        assert_eq!(stands(Some(&workspace), 1), Err(Over::Revoked));
    }

    #[test]
    fn revocations_vanish_when_no_session_can_be_left() {
        let key = |id: &str| format!("{REVOKED_SESSION}{id}");
        let workspace = annotated(&[
            (&key("old"), &at(0).to_string()),
            (&key("new"), &at(500).to_string()),
            (&key("odd"), "now"),
            ("other", "x"),
        ]);
        let tidied = tidied(workspace.annotations(), RULES.lifetime, at(1000));
        assert_eq!(
            tidied,
            [(key("old"), None), (key("odd"), Some(at(1000).to_string()))].into()
        );
    }
}
