//! The one place that may read the time: everything else is given `now`.

use jiff::Timestamp;
use std::time::Duration;

/// A source of the current time, a setting of tests.
pub trait Clock: Send + Sync + 'static {
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one reader of the system clock")]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// The time from `now` until `then`; nothing when that has passed.
pub fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}
