//! What the operator remembers of each Workspace from one pass to the next: failures in a row, and its own last writes.
//!
//! All of it may be lost at any time: it only spaces out attempts and waits for a cache that lags.

use super::backoff;
use super::plan::Step;
use super::seen::SeenPod;
use super::volume::Refusal;
use super::wanted::Wanted;
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(300);

/// A watch that has not told of what was done after this long may not do so any more: a new object is gone again.
const LONGEST_LAG: SignedDuration = SignedDuration::from_secs(10);

#[derive(Default)]
pub struct Memory {
    workspaces: Mutex<HashMap<String, Remembered>>,
    /// Those on their way, and since when.
    starting: Mutex<HashMap<String, Timestamp>>,
}

#[derive(Default)]
struct Remembered {
    failures: u32,
    try_again_at: Option<Timestamp>,
    written: Option<u64>,
    written_at: Option<Timestamp>,
    /// The watch has not shown our own last write yet.
    echo_expected: bool,
    told_at: Option<Timestamp>,
    created: Vec<(Step, Timestamp)>,
    /// The `metadata.uid` of the pod that was deleted last.
    deleted_pod: Option<(String, Timestamp)>,
    growth_refused: Option<Refusal>,
    wanted: Option<(WantedOf, Arc<Wanted>)>,
}

/// What a [`Wanted`] is made from, besides the settings of this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedOf {
    /// Changes with every change of the spec (Kubernetes API: `metadata.generation`).
    pub generation: Option<i64>,
    pub ca_digest: Option<Arc<str>>,
    pub authority: Option<String>,
    /// Of the cluster's own ranges.
    pub ranges: u64,
}

impl Memory {
    /// Counts a failure and says when to try again.
    pub fn failed(&self, uid: &str, now: Timestamp) -> Timestamp {
        let mut workspaces = self.lock();
        let remembered = workspaces.entry(uid.to_owned()).or_default();
        remembered.failures = remembered.failures.saturating_add(1);
        let at = now + backoff::delay(FIRST_DELAY, LONGEST_DELAY, remembered.failures, uid);
        remembered.try_again_at = Some(at);
        at
    }

    pub fn succeeded(&self, uid: &str) {
        if let Some(remembered) = self.lock().get_mut(uid) {
            remembered.failures = 0;
            remembered.try_again_at = None;
        }
    }

    /// When to try again, if nothing but our own telling of the failure has brought this pass about. Said once for each such
    /// write. Some failures are worded differently each time, and would otherwise be tried again without pause.
    pub fn is_echo(&self, uid: &str, resource_version: Option<&str>) -> Option<Timestamp> {
        let mut workspaces = self.lock();
        let remembered = workspaces.get_mut(uid)?;
        let version = resource_version.and_then(|version| version.parse().ok());
        if remembered.echo_expected && version == remembered.written {
            remembered.echo_expected = false;
            return remembered.try_again_at;
        }
        None
    }

    /// What was made from the same before, or what `make` makes of it.
    pub fn wanted(&self, uid: &str, of: WantedOf, make: impl FnOnce() -> Wanted) -> Arc<Wanted> {
        let known = |memory: &Self| {
            let (known_of, wanted) = memory.lock().get(uid)?.wanted.clone()?;
            (known_of == of).then_some(wanted)
        };
        known(self).unwrap_or_else(|| {
            let wanted = Arc::new(make());
            self.lock().entry(uid.to_owned()).or_default().wanted = Some((of, Arc::clone(&wanted)));
            wanted
        })
    }

    pub fn refuse_growth(&self, uid: &str, refusal: Refusal) {
        self.lock().entry(uid.to_owned()).or_default().growth_refused = Some(refusal);
    }

    /// The last refusal to let the volume grow.
    pub fn growth_refused(&self, uid: &str) -> Option<Refusal> {
        self.lock().get(uid)?.growth_refused.clone()
    }

    /// Notes the version that our own write has made.
    pub fn wrote(&self, uid: &str, resource_version: Option<&str>, now: Timestamp) {
        let version = resource_version.and_then(|version| version.parse().ok());
        let mut workspaces = self.lock();
        let remembered = workspaces.entry(uid.to_owned()).or_default();
        remembered.written = version;
        remembered.written_at = Some(now);
        remembered.echo_expected = true;
    }

    /// Notes that the status was written.
    pub fn told(&self, uid: &str, now: Timestamp) {
        self.lock().entry(uid.to_owned()).or_default().told_at = Some(now);
    }

    pub fn told_at(&self, uid: &str) -> Option<Timestamp> {
        self.lock().get(uid)?.told_at
    }

    /// Until when a cached version is to be taken for older than our own last write. Versions that are no numbers are never old; and
    /// where etcd was restored from a backup, versions go back, so that this is not believed for ever.
    pub fn stale_until(&self, uid: &str, resource_version: Option<&str>, now: Timestamp) -> Option<Timestamp> {
        let workspaces = self.lock();
        let remembered = workspaces.get(uid)?;
        let cached: u64 = resource_version?.parse().ok()?;
        let until = remembered.written_at? + LONGEST_LAG;
        (cached < remembered.written? && now < until).then_some(until)
    }

    /// Notes objects that were created now, of which the watches have not told yet.
    pub fn created(&self, uid: &str, steps: impl Iterator<Item = Step>, now: Timestamp) {
        let created = steps.map(|step| (step, now));
        self.lock().entry(uid.to_owned()).or_default().created.extend(created);
    }

    /// Whether one of these creations was done a moment ago, so that the caches lag; and until when at most.
    pub fn creation_lag(&self, uid: &str, creations: &[Step], now: Timestamp) -> Option<Timestamp> {
        let mut workspaces = self.lock();
        let created = &mut workspaces.get_mut(uid)?.created;
        created.retain(|(step, at)| creations.contains(step) && now < *at + LONGEST_LAG);
        created.iter().map(|(_, at)| *at + LONGEST_LAG).min()
    }

    /// Notes a pod that was deleted now, of whose end the watch has not told yet.
    pub fn deleted_pod(&self, uid: &str, pod: &SeenPod, now: Timestamp) {
        self.lock().entry(uid.to_owned()).or_default().deleted_pod = Some((pod.uid.clone(), now));
    }

    /// Whether this pod was deleted a moment ago, so that the cache lags; and until when at most. What it shows of the pod is what
    /// was there before: an address that another pod may have next.
    pub fn deletion_lag(&self, uid: &str, pod: &SeenPod, now: Timestamp) -> Option<Timestamp> {
        let workspaces = self.lock();
        let (deleted, at) = workspaces.get(uid)?.deleted_pod.as_ref()?;
        let until = *at + LONGEST_LAG;
        (*deleted == pod.uid && !pod.state.is_ending() && now < until).then_some(until)
    }

    /// Notes whether the workspace is on its way, and gives since when it is.
    pub fn starts(&self, uid: &str, starts: bool, now: Timestamp) -> Option<Timestamp> {
        let mut starting = self.lock_starting();
        if starts {
            return Some(*starting.entry(uid.to_owned()).or_insert(now));
        }
        starting.remove(uid);
        None
    }

    /// How many workspaces are on their way.
    pub fn starting(&self) -> usize {
        self.lock_starting().len()
    }

    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
        self.lock_starting().remove(uid);
    }

    fn lock_starting(&self) -> MutexGuard<'_, HashMap<String, Timestamp>> {
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn delays_grow_and_start_anew_after_a_success() {
        let memory = Memory::default();
        let now = Timestamp::UNIX_EPOCH;
        let delays: Vec<i64> = (0..20).map(|_| memory.failed("a", now).as_second()).collect();
        assert!(delays[0] <= 1 && delays[5] > 20 && delays[19] > 200, "{delays:?}");
        memory.succeeded("a");
        assert!(memory.failed("a", now).as_second() <= 1);
    }

    #[test]
    fn what_we_said_of_a_failure_ourselves_brings_no_pass_about() {
        let memory = Memory::default();
        let now = Timestamp::UNIX_EPOCH;
        memory.wrote("a", Some("7"), now);
        assert_eq!(memory.is_echo("a", Some("7")), None, "no failure");
        memory.wrote("a", Some("8"), now);
        let at = memory.failed("a", now);
        assert_eq!(memory.is_echo("a", Some("9")), None, "someone changed it");
        assert_eq!(memory.is_echo("a", Some("8")), Some(at));
        assert_eq!(memory.is_echo("a", Some("8")), None, "something else has changed");
    }

    #[test]
    fn a_cache_behind_our_own_write_is_stale() {
        let memory = Memory::default();
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(memory.stale_until("a", Some("5"), at(0)), None);
        memory.wrote("a", Some("7"), at(0));
        assert_eq!(memory.stale_until("a", Some("5"), at(1)), Some(at(10)));
        assert_eq!(
            memory.stale_until("a", Some("5"), at(10)),
            None,
            "a watch that lags so long has gone back"
        );
        for version in ["7", "9", "opaque"] {
            assert_eq!(memory.stale_until("a", Some(version), at(1)), None);
        }
        memory.forget("a");
        assert_eq!(memory.stale_until("a", Some("5"), at(1)), None);
    }

    #[test]
    fn those_on_their_way_are_counted_once() {
        let memory = Memory::default();
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        for (uid, now, since) in [("a", 0, 0), ("b", 1, 1), ("c", 2, 2), ("a", 3, 0)] {
            assert_eq!(memory.starts(uid, true, at(now)), Some(at(since)), "{uid}");
        }
        assert_eq!(memory.starting(), 3);
        assert_eq!(memory.starts("b", false, at(4)), None);
        memory.forget("c");
        assert_eq!(memory.starting(), 1);
    }

    #[test]
    fn what_was_created_is_waited_for_until_it_is_seen_or_must_be_gone() {
        let memory = Memory::default();
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        assert_eq!(memory.creation_lag("a", &[Step::CreatePod], at(0)), None);
        memory.created("a", [Step::ApplyService, Step::CreatePod].into_iter(), at(0));
        assert_eq!(memory.creation_lag("a", &[Step::CreatePod], at(1)), Some(at(10)));
        assert_eq!(
            memory.creation_lag("a", &[Step::ApplyService], at(1)),
            None,
            "it was seen, and is gone again"
        );
        memory.created("a", [Step::CreatePod].into_iter(), at(20));
        assert_eq!(memory.creation_lag("a", &[Step::CreatePod], at(29)), Some(at(30)));
        assert_eq!(memory.creation_lag("a", &[Step::CreatePod], at(30)), None);
    }

    #[test]
    fn a_pod_that_was_deleted_is_not_believed_until_its_end_is_seen() {
        let memory = Memory::default();
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let pod = |uid, ends: Option<&str>| {
            let metadata = json!({"name": "p", "uid": uid, "deletionTimestamp": ends});
            SeenPod::of(&serde_json::from_value(json!({"metadata": metadata})).unwrap())
        };
        let (old, new) = (pod("old", None), pod("new", None));
        assert_eq!(memory.deletion_lag("a", &old, at(0)), None);
        memory.deleted_pod("a", &old, at(0));
        assert_eq!(memory.deletion_lag("a", &old, at(1)), Some(at(10)));
        assert_eq!(memory.deletion_lag("b", &old, at(1)), None, "of another workspace");
        let ending = pod("old", Some("1970-01-01T00:00:30Z"));
        assert_eq!(memory.deletion_lag("a", &ending, at(1)), None);
        assert_eq!(memory.deletion_lag("a", &new, at(1)), None);
        assert_eq!(
            memory.deletion_lag("a", &old, at(10)),
            None,
            "it was not deleted after all"
        );
    }
}
