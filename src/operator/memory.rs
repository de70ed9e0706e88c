//! What the operator remembers of each Workspace from one pass to the next: failures in a row, and its last own write.
//!
//! All of it may be lost at any time: it only spaces out attempts and waits for a cache that lags.

use super::volume::Refusal;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(300);

#[derive(Default)]
pub struct Memory {
    workspaces: Mutex<HashMap<String, Remembered>>,
}

#[derive(Default)]
struct Remembered {
    failures: u32,
    written: Option<u64>,
    growth_refused: Option<Refusal>,
}

impl Memory {
    /// Counts a failure and says how long to wait: twice as long each time, up to five minutes, spread by up to a quarter
    /// so that many Workspaces that fail together do not come back together.
    pub fn failed(&self, uid: &str) -> Duration {
        let mut workspaces = self.lock();
        let remembered = workspaces.entry(uid.to_owned()).or_default();
        let delay = FIRST_DELAY
            .saturating_mul(2u32.saturating_pow(remembered.failures))
            .min(LONGEST_DELAY);
        remembered.failures = remembered.failures.saturating_add(1).min(30);
        let mut hasher = DefaultHasher::new();
        (uid, remembered.failures).hash(&mut hasher);
        delay.mul_f64(1.0 - 0.25 * f64::from(hasher.finish() as u8) / 255.0)
    }

    pub fn succeeded(&self, uid: &str) {
        if let Some(remembered) = self.lock().get_mut(uid) {
            remembered.failures = 0;
        }
    }

    pub fn refuse_growth(&self, uid: &str, refusal: Refusal) {
        self.lock().entry(uid.to_owned()).or_default().growth_refused = Some(refusal);
    }

    /// The last refusal to let the volume grow.
    pub fn growth_refused(&self, uid: &str) -> Option<Refusal> {
        self.lock().get(uid)?.growth_refused.clone()
    }

    /// Notes the version that our own write has made.
    pub fn wrote(&self, uid: &str, resource_version: Option<&str>) {
        let version = resource_version.and_then(|version| version.parse().ok());
        self.lock().entry(uid.to_owned()).or_default().written = version;
    }

    /// Whether a cached version is older than our own last write. Versions that are no numbers are never old.
    pub fn is_stale(&self, uid: &str, resource_version: Option<&str>) -> bool {
        let written = self.lock().get(uid).and_then(|remembered| remembered.written);
        let cached = resource_version.and_then(|version| version.parse::<u64>().ok());
        matches!((cached, written), (Some(cached), Some(written)) if cached < written)
    }

    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Remembered>> {
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_start_anew_after_a_success() {
        let memory = Memory::default();
        let delays: Vec<Duration> = (0..20).map(|_| memory.failed("a")).collect();
        for (index, delay) in delays.iter().enumerate() {
            let full = FIRST_DELAY
                .saturating_mul(2u32.saturating_pow(index as u32))
                .min(LONGEST_DELAY);
            assert!(
                *delay <= full && *delay >= full.mul_f64(0.75),
                "{index}: {delay:?} of {full:?}"
            );
        }
        memory.succeeded("a");
        assert!(memory.failed("a") <= FIRST_DELAY);
    }

    #[test]
    fn a_cache_behind_our_own_write_is_stale() {
        let memory = Memory::default();
        assert!(!memory.is_stale("a", Some("5")));
        memory.wrote("a", Some("7"));
        assert!(memory.is_stale("a", Some("5")));
        assert!(!memory.is_stale("a", Some("7")) && !memory.is_stale("a", Some("9")));
        assert!(!memory.is_stale("a", Some("opaque")));
        memory.forget("a");
        assert!(!memory.is_stale("a", Some("5")));
    }
}
