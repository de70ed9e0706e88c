//! A request becomes a token taken from a bucket, or the time until there is one.

use super::client_address::limited_as;
use crate::config::limits::{Rate, RateLimit, RateLimits};
use crate::telemetry::metrics::{RateLimitEndpoint, RateLimitScope};
use governor::clock::{Clock, DefaultClock, QuantaInstant, Reference};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often the buckets of users who have been away are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// Client addresses that have buckets of their own; more than that share one, so that memory is bounded.
const MOST_ADDRESSES: usize = 1 << 16;
const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// The buckets of all endpoints.
pub struct Limits {
    lifecycle: Buckets,
    websocket: Buckets,
    sign_in: Addresses,
    /// Of their own: who only shows bad Bearer tokens must not keep the provider from telling who signed out.
    logout: Addresses,
}

/// What tokens are shown for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tokens {
    Bearer,
    Logout,
}

impl Tokens {
    pub fn endpoint(self) -> RateLimitEndpoint {
        match self {
            Self::Bearer => RateLimitEndpoint::SignIn,
            Self::Logout => RateLimitEndpoint::BackchannelLogout,
        }
    }
}

/// Buckets by client address.
struct Addresses {
    /// `None` is unlimited.
    buckets: Option<DefaultKeyedRateLimiter<IpAddr>>,
    /// Those with an empty bucket that showed a bad token, and until when nothing that they show is looked at.
    barred: Mutex<HashMap<IpAddr, QuantaInstant>>,
}

struct Buckets {
    global: Option<DefaultDirectRateLimiter>,
    per_user: Option<DefaultKeyedRateLimiter<String>>,
}

/// What a user who is signed in asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdmittedTo {
    Lifecycle,
    Terminal,
}

impl AdmittedTo {
    pub fn endpoint(self) -> RateLimitEndpoint {
        match self {
            Self::Lifecycle => RateLimitEndpoint::Lifecycle,
            Self::Terminal => RateLimitEndpoint::Websocket,
        }
    }
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
            sign_in: Addresses::new(limits.sign_in_per_address),
            logout: Addresses::new(limits.sign_in_per_address),
        }
    }

    /// Takes a token for a try to sign in from `address`.
    ///
    /// # Errors
    /// When there is none.
    pub fn take_sign_in(&self, address: IpAddr) -> Result<(), Limited> {
        self.sign_in.take(address)
    }

    /// Whether a Bearer token that `address` shows may be looked at. Costs no token of a bucket: good ones may come as often as they like.
    ///
    /// # Errors
    /// When bad ones came until the bucket was empty, and it still is.
    pub fn may_show_bearer(&self, address: IpAddr) -> Result<(), Limited> {
        self.sign_in.may_show(address)
    }

    /// Takes a token for a bad one that `address` showed.
    ///
    /// # Errors
    /// When there is none. Then no Bearer token of the address is looked at until there is; a logout token always is.
    pub fn take_bad(&self, tokens: Tokens, address: IpAddr) -> Result<(), Limited> {
        match tokens {
            Tokens::Bearer => self.sign_in.take_bad(address),
            Tokens::Logout => self.logout.take(address),
        }
    }

    /// Takes a token for `subject`.
    ///
    /// # Errors
    /// When there is none.
    pub fn take(&self, admitted_to: AdmittedTo, subject: &str) -> Result<(), Limited> {
        match admitted_to {
            AdmittedTo::Lifecycle => self.lifecycle.take(subject),
            AdmittedTo::Terminal => self.websocket.take(subject),
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
            self.sign_in.forget();
            self.logout.forget();
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

impl Addresses {
    fn new(rate: Option<Rate>) -> Self {
        Self {
            buckets: rate.and_then(quota).map(RateLimiter::keyed),
            barred: Mutex::default(),
        }
    }

    fn take(&self, address: IpAddr) -> Result<(), Limited> {
        let Some((buckets, key)) = self.bucket(address) else {
            return Ok(());
        };
        buckets.check_key(&key).map_err(|not_until| Limited {
            scope: RateLimitScope::Address,
            wait: not_until.wait_time_from(DefaultClock::default().now()),
        })
    }

    fn may_show(&self, address: IpAddr) -> Result<(), Limited> {
        let Some((_, key)) = self.bucket(address) else {
            return Ok(());
        };
        let now = DefaultClock::default().now();
        let mut barred = self.barred();
        let Some(until) = barred.get(&key) else {
            return Ok(());
        };
        let wait = Duration::from(until.duration_since(now));
        if wait.is_zero() {
            barred.remove(&key);
            return Ok(());
        }
        Err(Limited {
            scope: RateLimitScope::Address,
            wait,
        })
    }

    fn take_bad(&self, address: IpAddr) -> Result<(), Limited> {
        let Some((buckets, key)) = self.bucket(address) else {
            return Ok(());
        };
        buckets.check_key(&key).map_err(|not_until| {
            // The bucket that many share bars nobody: who has very many addresses could lock out all others with it.
            if key != OTHERS {
                self.barred().insert(key, not_until.earliest_possible());
            }
            Limited {
                scope: RateLimitScope::Address,
                wait: not_until.wait_time_from(DefaultClock::default().now()),
            }
        })
    }

    /// The buckets of client addresses, and the key of this one's.
    fn bucket(&self, address: IpAddr) -> Option<(&DefaultKeyedRateLimiter<IpAddr>, IpAddr)> {
        let buckets = self.buckets.as_ref()?;
        let key = match buckets.len() {
            0..MOST_ADDRESSES => limited_as(address),
            _ => OTHERS,
        };
        Some((buckets, key))
    }

    fn barred(&self) -> MutexGuard<'_, HashMap<IpAddr, QuantaInstant>> {
        self.barred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self) {
        if let Some(buckets) = &self.buckets {
            buckets.retain_recent();
            buckets.shrink_to_fit();
        }
        let now = DefaultClock::default().now();
        self.barred().retain(|_, until| *until > now);
    }
}

fn quota(rate: Rate) -> Option<Quota> {
    Quota::with_period(rate.period).map(|quota| quota.allow_burst(rate.burst))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroU32;

    const NONE: RateLimit = RateLimit {
        global: None,
        per_user: None,
    };

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
        let limits = Limits::new(&RateLimits {
            lifecycle: limit,
            websocket: NONE,
            sign_in_per_address: None,
        });
        let take = |subject| {
            limits
                .take(AdmittedTo::Lifecycle, subject)
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
            assert_eq!(limits.take(AdmittedTo::Terminal, "dev1"), Ok(()));
        }
    }

    #[test]
    fn addresses_are_limited_by_themselves_and_their_number_is_bounded() {
        let limits = Limits::new(&RateLimits {
            lifecycle: NONE,
            websocket: NONE,
            sign_in_per_address: rate(2),
        });
        let take = |address: &str| {
            let taken = limits.take_sign_in(address.parse().unwrap());
            taken.map_err(|limited| limited.scope)
        };
        let limited = Err(RateLimitScope::Address);
        assert_eq!([(); 3].map(|()| take("203.0.113.7")), [Ok(()), Ok(()), limited]);
        assert_eq!(take("203.0.113.8"), Ok(()));
        // Of IPv6 a client has a whole network.
        assert_eq!(
            ["2001:db8::1", "2001:db8::2", "2001:db8::3"].map(take),
            [Ok(()), Ok(()), Err(RateLimitScope::Address)]
        );
        assert_eq!(take("2001:db8:0:1::1"), Ok(()));
        for number in 0..MOST_ADDRESSES as u32 + 1000 {
            let _ = limits.take_sign_in(IpAddr::V4(number.into()));
        }
        assert!(limits.sign_in.buckets.unwrap().len() <= MOST_ADDRESSES + 1);
    }

    #[test]
    fn who_shows_bad_tokens_is_not_looked_at_any_more_and_others_are() {
        let limits = Limits::new(&RateLimits {
            lifecycle: NONE,
            websocket: NONE,
            sign_in_per_address: rate(2),
        });
        let [flood, other, neighbour] = ["2001:db8::1", "203.0.113.8", "2001:db8::2"].map(|text| text.parse().unwrap());
        // Good ones cost nothing.
        for _ in 0..100 {
            assert_eq!(limits.may_show_bearer(flood), Ok(()));
        }
        for _ in 0..2 {
            assert_eq!(limits.take_bad(Tokens::Bearer, flood), Ok(()));
            assert_eq!(limits.may_show_bearer(flood), Ok(()));
        }
        assert!(limits.take_bad(Tokens::Bearer, flood).is_err());
        let limited = limits.may_show_bearer(flood).unwrap_err();
        assert_eq!(limited.scope, RateLimitScope::Address);
        assert!(limited.wait > Duration::from_secs(3500), "{limited:?}");
        assert!(limits.may_show_bearer(neighbour).is_err(), "of the same network");
        assert_eq!(limits.take_bad(Tokens::Logout, flood), Ok(()), "the provider's word");
        assert_eq!(
            (limits.may_show_bearer(other), limits.take_bad(Tokens::Bearer, other)),
            (Ok(()), Ok(()))
        );
        // Who only signs in too often may still show a token.
        for _ in 0..3 {
            let _ = limits.take_sign_in(other);
        }
        assert_eq!(limits.may_show_bearer(other), Ok(()));
    }

    #[test]
    fn the_wait_ends() {
        let limits = Limits::new(&RateLimits {
            lifecycle: NONE,
            websocket: NONE,
            sign_in_per_address: Some(Rate {
                period: Duration::from_millis(50),
                burst: NonZeroU32::new(1).unwrap(),
            }),
        });
        let address = "203.0.113.7".parse().unwrap();
        while limits.take_bad(Tokens::Bearer, address).is_ok() {}
        while limits.may_show_bearer(address).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(limits.sign_in.barred().is_empty());
    }
}
