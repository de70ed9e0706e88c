//! What ends sessions and no Workspace can record becomes the end of those sessions, at this gateway, for an hour.
//!
//! A revocation is an annotation of the Workspace, which is of no use when that is deleted, and has no place where there never was one.
//! Sessions end with the Workspace that tells of them ([`super::standing`]); what is kept here closes the two minutes in which one
//! needs none, and bars tokens, of which no Workspace tells. It is a memory of each gateway's own: all of them watch a Workspace
//! go, a logout token reaches one.

use super::session::Session;
use super::sign_ins::is_registered;
use super::standing::{Over, Standing, after, of_session, of_token};
use super::workspaces::Workspaces;
use crate::api::Workspace;
use crate::identity::Identity;
use crate::oidc::Person;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Longer than most ID tokens last.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Below this, nothing is looked through for what may be forgotten.
const FEW: usize = 1024;

/// Whose sessions are over.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Whose {
    /// Everything of a person that began before.
    Owner(Identity),
    /// The same, but for what the Workspace tells of that took the place of the deleted one: we may have heard of it late.
    Deleted(Identity),
    /// The session of this id, ours or the provider's.
    Session(String),
}

/// The sessions that ended within the last hour.
#[derive(Default)]
pub struct Departures(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    over: HashMap<Whose, (Timestamp, Over)>,
    /// With how many it is looked through the next time: a share of the entries each time, however many come at once.
    tidied_at: usize,
}

impl Departures {
    /// What is `whose` is over: of a person, what began before `before`.
    pub fn note(&self, whose: Whose, before: Timestamp, why: Over, now: Timestamp) {
        let mut memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.over.len() >= memory.tidied_at.max(FEW) {
            memory.over.retain(|_, (at, _)| after(*at, REMEMBERED) > now);
            memory.tidied_at = 2 * memory.over.len();
        }
        let noted = memory.over.entry(whose).or_insert((before, why));
        if noted.0 < before {
            *noted = (before, why);
        }
    }

    fn check<'a>(
        &self,
        owner: &Identity,
        names: impl IntoIterator<Item = &'a str>,
        began: Timestamp,
        is_told_of: bool,
    ) -> Result<(), Over> {
        let memory = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if memory.over.is_empty() {
            return Ok(());
        }
        let named = names.into_iter().map(|name| Whose::Session(name.to_owned()));
        let deleted = Some(Whose::Deleted(owner.clone())).filter(|_| !is_told_of);
        let mut known = std::iter::once(Whose::Owner(owner.clone())).chain(deleted).chain(named);
        let is_over = |whose: &Whose, before| matches!(whose, Whose::Session(_)) || began < before;
        match known.find_map(|whose| memory.over.get(&whose).filter(|(before, _)| is_over(&whose, *before))) {
            Some((_, why)) => Err(*why),
            None => Ok(()),
        }
    }
}

impl Workspaces {
    /// How a session stands, `workspace` being its owner's and `used` its last use as far as the caller knows.
    ///
    /// # Errors
    /// When it is over.
    pub fn session_stands(
        &self,
        session: &Session,
        workspace: Option<&Workspace>,
        used: Timestamp,
        now: Timestamp,
    ) -> Result<Standing, Over> {
        let provider_session = session.person.provider_session.as_deref();
        let names = [session.id.as_str()].into_iter().chain(provider_session);
        let is_told_of = workspace.is_some_and(|workspace| is_registered(workspace, session));
        self.departures
            .check(&session.person.identity, names, session.began, is_told_of)?;
        of_session(session, workspace, used, &self.session_rules, now)
    }

    /// How a token stands that a program came with.
    ///
    /// # Errors
    /// When it has ended, or its person's sessions were revoked after it was made.
    pub fn token_stands(
        &self,
        person: &Person,
        workspace: Option<&Workspace>,
        now: Timestamp,
    ) -> Result<Standing, Over> {
        let provider_session = person.provider_session.as_deref();
        self.departures
            .check(&person.identity, provider_session, person.issued, false)?;
        of_token(person, workspace, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn owner(subject: &str) -> Identity {
        Identity {
            issuer: "https://idp.test".into(),
            subject: subject.into(),
        }
    }

    #[test]
    fn what_began_before_is_over_and_the_memory_is_bounded() {
        let departures = Departures::default();
        let over = |subject, session, began| departures.check(&owner(subject), [session], at(began), false).err();
        assert_eq!(over("dev1", "s1", 0), None);
        departures.note(Whose::Deleted(owner("dev1")), at(10), Over::Gone, at(10));
        departures.note(Whose::Session("s2".into()), at(20), Over::Revoked, at(20));
        // The later time counts, whenever it is told of.
        departures.note(Whose::Deleted(owner("dev1")), at(5), Over::Gone, at(20));
        assert_eq!(over("dev1", "s1", 9), Some(Over::Gone));
        let told = |session| departures.check(&owner("dev1"), [session], at(9), true).err();
        assert_eq!(
            (told("s1"), told("s2")),
            (None, Some(Over::Revoked)),
            "the next Workspace tells of them"
        );
        assert_eq!(over("dev1", "s1", 10), None);
        assert_eq!(over("dev2", "s2", 30), Some(Over::Revoked));
        assert_eq!(over("dev2", "s1", 9), None);
        for hour in 0..4 {
            for number in 0..FEW {
                let whose = Whose::Session(format!("{hour}-{number}"));
                departures.note(whose, at(30 + hour * 3600), Over::Revoked, at(30 + hour * 3600));
            }
        }
        let memory = departures.0.lock().unwrap();
        assert!(memory.over.len() <= 2 * FEW, "{}", memory.over.len());
        assert!(memory.over.contains_key(&Whose::Session("3-0".into())));
        assert!(!memory.over.contains_key(&Whose::Session("0-0".into())));
    }
}
