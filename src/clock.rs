//! The one place that may read the time: everything else is given `now`.

use jiff::{SignedDuration, Timestamp};
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

/// Clocks of a cluster differ; a time that is further ahead than this is none at which something has happened.
pub const CLOCKS_DIFFER_BY: SignedDuration = SignedDuration::from_mins(1);

/// Whether a time that somebody has written down lies ahead of `now`, as no clock that is about right would have it.
pub fn is_ahead(time: Timestamp, now: Timestamp) -> bool {
    time.duration_since(now) > CLOCKS_DIFFER_BY
}

/// The time from `now` until `then`; nothing when that has passed.
pub fn until(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(then.duration_since(now)).unwrap_or_default()
}
