//! A number of failures in a row becomes how long to wait. Pure.

use kube::runtime::utils::{Backoff, ResetTimerBackoff};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Twice as long after each failure, up to `longest`, spread by up to a quarter so that many that fail together do not come back
/// together. `whose` decides where in the spread: the same gives the same.
pub fn delay(first: Duration, longest: Duration, failures: u32, whose: &str) -> Duration {
    let earlier = failures.saturating_sub(1);
    let full = first.saturating_mul(2u32.saturating_pow(earlier)).min(longest);
    let mut hasher = DefaultHasher::new();
    (whose, failures).hash(&mut hasher);
    full.mul_f64(1.0 - 0.25 * f64::from(hasher.finish() as u8) / 255.0)
}

/// When a watch that failed is started again.
pub fn of_watch(whose: &str) -> impl Backoff + use<> {
    let watch = Watch {
        failures: 0,
        whose: whose.to_owned(),
    };
    ResetTimerBackoff::new(watch, SOUND_AFTER)
}

/// A watch that has failed some times. The longest delay is also how long an API server may be back before we notice.
struct Watch {
    failures: u32,
    whose: String,
}

const FIRST_WATCH_DELAY: Duration = Duration::from_millis(800);
const LONGEST_WATCH_DELAY: Duration = Duration::from_secs(10);
/// A watch that has held for so long begins anew.
const SOUND_AFTER: Duration = Duration::from_secs(120);

impl Iterator for Watch {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        Some(delay(
            FIRST_WATCH_DELAY,
            LONGEST_WATCH_DELAY,
            self.failures,
            &self.whose,
        ))
    }
}

impl Backoff for Watch {
    fn reset(&mut self) {
        self.failures = 0;
    }
}

/// For what waits by itself already.
pub struct NoPause;

impl Iterator for NoPause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

impl Backoff for NoPause {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_is_started_again_within_ten_seconds_and_never_at_once() {
        let delays: Vec<Duration> = of_watch("Pod").take(50).collect();
        assert!(
            delays.iter().all(|delay| (0.6..=10.0).contains(&delay.as_secs_f64())),
            "{delays:?}"
        );
        assert!(delays[49] > Duration::from_secs(7));
    }

    #[test]
    fn delays_double_up_to_the_cap_and_are_spread() {
        let (first, longest) = (Duration::from_secs(1), Duration::from_secs(300));
        for failures in 1..100 {
            let full = first.saturating_mul(2u32.saturating_pow(failures - 1)).min(longest);
            let delay = delay(first, longest, failures, "a");
            assert!(
                delay <= full && delay >= full.mul_f64(0.75),
                "{failures}: {delay:?} of {full:?}"
            );
        }
        let many = (0..20).map(|whose| delay(first, longest, 20, &whose.to_string()));
        assert!(many.collect::<std::collections::HashSet<_>>().len() > 10);
    }
}
