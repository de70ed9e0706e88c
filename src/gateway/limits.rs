//! A request becomes a token taken from a bucket, or the time until there is one.

use crate::config::gateway::{Rate, RateLimit, RateLimits};
use crate::telemetry::metrics::{RateLimitEndpoint, RateLimitScope};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::time::Duration;

/// How often the buckets of users who have been away are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// The buckets of both endpoints.
pub struct Limits {
    lifecycle: Buckets,
    websocket: Buckets,
}

struct Buckets {
    global: Option<DefaultDirectRateLimiter>,
    per_user: Option<DefaultKeyedRateLimiter<String>>,
}

/// Whose bucket is empty, and for how long.
#[derive(Debug, PartialEq, Eq)]
pub struct Limited {
    pub scope: RateLimitScope,
    pub wait: Duration,
}

impl Limits {
    pub fn new(limits: &RateLimits) -> Self {
        Self {
            lifecycle: Buckets::new(&limits.lifecycle),
            websocket: Buckets::new(&limits.websocket),
        }
    }

    /// Takes a token for `subject`.
    ///
    /// # Errors
    /// When there is none.
    pub fn take(&self, endpoint: RateLimitEndpoint, subject: &str) -> Result<(), Limited> {
        match endpoint {
            RateLimitEndpoint::Lifecycle => self.lifecycle.take(subject),
            RateLimitEndpoint::Websocket => self.websocket.take(subject),
        }
    }

    /// Keeps the memory bounded by the users of the last minutes. Never ends.
    pub async fn forget(&self) {
        loop {
            tokio::time::sleep(FORGET_EVERY).await;
            for buckets in [&self.lifecycle, &self.websocket] {
                if let Some(per_user) = &buckets.per_user {
                    per_user.retain_recent();
                    per_user.shrink_to_fit();
                }
            }
        }
    }
}

impl Buckets {
    fn new(limit: &RateLimit) -> Self {
        Self {
            global: limit.global.and_then(quota).map(RateLimiter::direct),
            per_user: limit.per_user.and_then(quota).map(RateLimiter::keyed),
        }
    }

    /// The user's own bucket first: one who asks too often takes nothing from everyone's.
    fn take(&self, subject: &str) -> Result<(), Limited> {
        let now = DefaultClock::default().now();
        if let Some(per_user) = &self.per_user {
            per_user.check_key(&subject.to_owned()).map_err(|not_until| Limited {
                scope: RateLimitScope::User,
                wait: not_until.wait_time_from(now),
            })?;
        }
        if let Some(global) = &self.global {
            global.check().map_err(|not_until| Limited {
                scope: RateLimitScope::Global,
                wait: not_until.wait_time_from(now),
            })?;
        }
        Ok(())
    }
}

fn quota(rate: Rate) -> Option<Quota> {
    Quota::with_period(rate.period).map(|quota| quota.allow_burst(rate.burst))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    fn rate(burst: u32) -> Option<Rate> {
        Some(Rate {
            period: Duration::from_secs(3600),
            burst: NonZeroU32::new(burst).unwrap(),
        })
    }

    #[test]
    fn a_user_who_asks_too_often_takes_nothing_from_others() {
        let limit = RateLimit {
            global: rate(3),
            per_user: rate(2),
        };
        let none = RateLimit {
            global: None,
            per_user: None,
        };
        let limits = Limits::new(&RateLimits {
            lifecycle: limit,
            websocket: none,
        });
        let take = |subject| {
            limits
                .take(RateLimitEndpoint::Lifecycle, subject)
                .map_err(|limited| limited.scope)
        };
        assert_eq!((take("dev1"), take("dev1")), (Ok(()), Ok(())));
        assert_eq!(
            (take("dev1"), take("dev1")),
            (Err(RateLimitScope::User), Err(RateLimitScope::User))
        );
        assert_eq!(take("dev2"), Ok(()));
        assert_eq!(take("dev2"), Err(RateLimitScope::Global));
        for _ in 0..100 {
            assert_eq!(limits.take(RateLimitEndpoint::Websocket, "dev1"), Ok(()));
        }
    }
}
