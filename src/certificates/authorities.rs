//! Authorities, the oldest first, become the one that does a thing at a time, and what is to become of them. Pure, but for the keys of a new one.
//!
//! A second authority is made when the first has half of its time behind it. From then on all pods that start trust both; gateways go
//! on with a certificate of the first until it ends. So whatever has been started in the last half of an authority's time can be
//! reached all the time, and what is older was told to be replaced long before.

use super::authority::{Authority, CertificateError, VALID_FOR};
use jiff::{SignedDuration, Timestamp};

/// A new authority signs for workspaces when every gateway must have heard of it.
const HEARD_OF_AFTER: SignedDuration = SignedDuration::from_mins(2);

/// Before its end an authority is no longer used.
const RESERVE: SignedDuration = SignedDuration::from_hours(7 * 24);

/// All that are valid; the oldest first, and at least one.
#[derive(Clone, Debug)]
pub struct Authorities(Vec<Authority>);

impl Authorities {
    /// # Errors
    /// When the system gives no random numbers.
    pub fn make(now: Timestamp) -> Result<Self, CertificateError> {
        Ok(Self(vec![Authority::make(now)?]))
    }

    /// # Errors
    /// When it is not what [`Self::write`] wrote.
    pub fn read(json: &[u8]) -> Result<Self, CertificateError> {
        let all: Vec<Authority> = serde_json::from_slice(json).map_err(|_| CertificateError::Unreadable)?;
        if all.is_empty() {
            return Err(CertificateError::Missing);
        }
        if !all.iter().all(Authority::is_sound) {
            return Err(CertificateError::Unreadable);
        }
        Ok(Self(all))
    }

    /// As JSON, with the keys.
    ///
    /// # Errors
    /// Never with what was made or read here.
    pub fn write(&self) -> Result<Vec<u8>, CertificateError> {
        serde_json::to_vec(&self.0).map_err(|source| CertificateError::Unwritable { source })
    }

    /// What they are to become: a new one is added when the last is half through, or older than a rotation that was asked for; those
    /// at their end go. `None` when all is as it should be.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn tended(&self, rotate: Option<Timestamp>, now: Timestamp) -> Result<Option<Self>, CertificateError> {
        let ends = |authority: &Authority| authority.valid_until() - RESERVE <= now;
        let mut all: Vec<Authority> = self.0.iter().filter(|authority| !ends(authority)).cloned().collect();
        let is_asked = |last: &Authority| rotate.is_some_and(|asked| asked <= now && last.made_at < asked);
        if all
            .last()
            .is_none_or(|last| last.made_at + VALID_FOR / 2 <= now || is_asked(last))
        {
            all.push(Authority::make(now)?);
        } else if all.len() == self.0.len() {
            return Ok(None);
        }
        Ok(Some(Self(all)))
    }

    /// The one that vouches for a workspace that starts now: the newest that all gateways know.
    pub fn for_workspaces(&self, now: Timestamp) -> &Authority {
        let known = |authority: &&Authority| authority.made_at + HEARD_OF_AFTER <= now;
        self.0.iter().rev().find(known).unwrap_or(&self.0[0])
    }

    /// Which authority a pod is to be of: its own while that is good for long enough, else the one that signs now.
    pub fn wanted(&self, of_pod: Option<&str>, now: Timestamp) -> &str {
        let good = |authority: &&Authority| {
            Some(authority.id.as_str()) == of_pod && now < authority.valid_until() - VALID_FOR / 4
        };
        let found = self.0.iter().find(good);
        &found.unwrap_or_else(|| self.for_workspaces(now)).id
    }

    /// The one that vouches for gateways: the oldest, which every pod trusts that was started in its time or later.
    pub fn for_gateways(&self) -> &Authority {
        &self.0[0]
    }

    /// What gateways trust, in PEM form.
    pub fn of_workspaces(&self) -> String {
        self.0.iter().map(Authority::of_workspaces).collect()
    }

    /// What workspaces trust, in PEM form.
    pub fn of_gateways(&self) -> String {
        self.0.iter().map(Authority::of_gateways).collect()
    }

    /// When they have to be looked at again.
    pub fn look_again_at(&self, now: Timestamp) -> Timestamp {
        let turns = self.0.iter().flat_map(|authority| {
            [
                authority.made_at + HEARD_OF_AFTER,
                authority.made_at + VALID_FOR / 2,
                authority.valid_until() - VALID_FOR / 4,
                authority.valid_until() - RESERVE,
            ]
        });
        turns.filter(|at| *at > now).min().unwrap_or(now + RESERVE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 24 * 3600;

    fn day(day: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + day * DAY).unwrap()
    }

    fn ids(all: &Authorities) -> Vec<&str> {
        all.0.iter().map(|authority| authority.id.as_str()).collect()
    }

    #[test]
    fn a_new_one_is_added_at_half_time_and_the_old_one_goes_at_its_end() {
        let first = Authorities::make(day(0)).unwrap();
        for (at, changes) in [
            (0, false),
            (364, false),
            (365, true),
            (722, true),
            (729, true),
            (800, true),
        ] {
            assert_eq!(first.tended(None, day(at)).unwrap().is_some(), changes, "day {at}");
        }
        let both = first.tended(None, day(365)).unwrap().unwrap();
        assert_eq!(ids(&both)[0], ids(&first)[0]);
        assert_eq!(both.0.len(), 2);
        assert!(both.tended(None, day(722)).unwrap().is_none());
        let second = both.tended(None, day(723)).unwrap().unwrap();
        assert_eq!(ids(&second), ids(&both)[1..]);
        let anew = first.tended(None, day(2000)).unwrap().unwrap();
        assert_eq!(anew.0.len(), 1, "one that was asleep begins anew");
    }

    #[test]
    fn a_rotation_that_was_asked_for_is_done_once() {
        let first = Authorities::make(day(0)).unwrap();
        assert!(first.tended(Some(day(-1)), day(1)).unwrap().is_none(), "asked before");
        assert!(first.tended(Some(day(5)), day(1)).unwrap().is_none(), "not yet");
        let both = first.tended(Some(day(1)), day(1)).unwrap().unwrap();
        assert_eq!(both.0.len(), 2);
        assert!(both.tended(Some(day(1)), day(2)).unwrap().is_none());
    }

    #[test]
    fn a_new_one_signs_when_all_have_heard_of_it_and_gateways_keep_the_old() {
        let first = Authorities::make(day(0)).unwrap();
        assert_eq!(first.for_workspaces(day(0)).id, ids(&first)[0], "there is no other");
        let both = first.tended(Some(day(1)), day(1)).unwrap().unwrap();
        let [old, new] = ids(&both)[..] else { panic!() };
        assert_eq!(both.for_workspaces(day(1)).id, old);
        assert_eq!(both.look_again_at(day(1)), day(1) + HEARD_OF_AFTER);
        assert_eq!(both.for_workspaces(day(1) + HEARD_OF_AFTER).id, new);
        assert_eq!(both.for_gateways().id, old);
    }

    #[test]
    fn pods_keep_their_authority_until_its_last_quarter() {
        let first = Authorities::make(day(0)).unwrap();
        let both = first.tended(None, day(365)).unwrap().unwrap();
        let [old, new] = ids(&both)[..] else { panic!() };
        assert_eq!(both.wanted(Some(old), day(366)), old);
        assert_eq!(both.wanted(Some(old), day(547)), old);
        assert_eq!(both.wanted(Some(old), day(548)), new);
        assert_eq!(both.wanted(Some("of before"), day(366)), new);
        assert_eq!(both.wanted(None, day(366)), new);
    }

    #[test]
    fn what_was_written_is_read_and_no_key_is_shown() {
        let all = Authorities::make(day(0)).unwrap();
        let json = all.write().unwrap();
        let read = Authorities::read(&json).unwrap();
        assert_eq!(read.write().unwrap(), json);
        assert!(!format!("{all:?}").contains("PRIVATE"));
        let text = String::from_utf8(json.clone()).unwrap();
        let other = Authorities::make(day(1)).unwrap().write().unwrap();
        let [mut mixed, other]: [serde_json::Value; 2] =
            [&json, &other].map(|json| serde_json::from_slice(json).unwrap());
        mixed[0]["gateways"]["key"] = other[0]["gateways"]["key"].clone();
        let (mixed, cut) = (mixed.to_string(), text.replace("-----END PRIVATE", ""));
        let (renamed, edited) = (text.replace(&all.0[0].id, "other"), text.replace("-----END CERT", ""));
        let by_hand = [&mixed, &cut, &renamed, &edited].map(|text| text.as_bytes());
        for broken in [&b""[..], b"[]", b"{}", &json[..json.len() - 1]]
            .into_iter()
            .chain(by_hand)
        {
            let error = Authorities::read(broken).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("PRIVATE"), "{error:?}");
        }
    }
}
