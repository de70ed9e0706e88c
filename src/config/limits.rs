//! Settings become how much is let in at once, and how often.

use super::reader::Reader;
use super::setting::{Setting, setting};
use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

/// How often what costs something may be asked for: starting workspaces, opening terminals, signing in.
#[derive(Clone, Copy, Debug)]
pub struct RateLimits {
    pub lifecycle: RateLimit,
    pub websocket: RateLimit,
    /// Of one client address; `None` is unlimited.
    pub sign_in_per_address: Option<Rate>,
}

/// Requests per second and burst, for everyone together and for each user; `None` is unlimited.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit {
    pub global: Option<Rate>,
    pub per_user: Option<Rate>,
}

/// A token bucket: one token each `period`, at most `burst` of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub period: Duration,
    pub burst: NonZeroU32,
}

/// What may be open at once, at this replica but for the terminals of a user; `None` is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Connections that carry requests. A terminal is none any more: many terminals leave room for pages.
    pub connections: Option<NonZeroUsize>,
    pub terminals: Option<NonZeroUsize>,
    pub terminals_per_user: Option<NonZeroUsize>,
}

macro_rules! rate_settings {
    ($($name:ident $path:literal $default:literal $help:literal)+) => {
        $(pub const $name: Setting = setting(stringify!($name), $path).default($default).help($help);)+
    };
}

rate_settings! {
    GATEWAY_RL_LIFECYCLE_GLOBAL_RPS "rateLimit.lifecycle.globalRPS" "0" "workspace requests per second, everyone together; 0 is unlimited"
    GATEWAY_RL_LIFECYCLE_GLOBAL_BURST "rateLimit.lifecycle.globalBurst" "0" "how many of them may come at once; 0 is one second's worth"
    GATEWAY_RL_LIFECYCLE_PER_USER_RPS "rateLimit.lifecycle.perUserRPS" "0" "workspace requests per second of one user; 0 is unlimited"
    GATEWAY_RL_LIFECYCLE_PER_USER_BURST "rateLimit.lifecycle.perUserBurst" "0" "how many of them may come at once; 0 is one second's worth"
    GATEWAY_RL_WS_GLOBAL_RPS "rateLimit.websocket.globalRPS" "0" "terminals opened per second, everyone together; 0 is unlimited"
    GATEWAY_RL_WS_GLOBAL_BURST "rateLimit.websocket.globalBurst" "0" "how many of them may come at once; 0 is one second's worth"
    GATEWAY_RL_WS_PER_USER_RPS "rateLimit.websocket.perUserRPS" "0" "terminals opened per second by one user; 0 is unlimited"
    GATEWAY_RL_WS_PER_USER_BURST "rateLimit.websocket.perUserBurst" "0" "how many of them may come at once; 0 is one second's worth"
    GATEWAY_RL_SIGN_IN_PER_ADDRESS_RPS "rateLimit.signIn.perAddressRPS" "10" "sign-ins and bearer tokens that fail, per second from one client address (of IPv6, one /64); 0 is unlimited"
    GATEWAY_RL_SIGN_IN_PER_ADDRESS_BURST "rateLimit.signIn.perAddressBurst" "200" "how many of them may come at once; a sign-in counts two. 0 is one second's worth"
}

pub const GATEWAY_MAX_CONNECTIONS: Setting = setting("GATEWAY_MAX_CONNECTIONS", "limits.connections")
    .default("8192")
    .help("connections of one replica that carry requests; more are answered with 503. Terminals have a limit of their own. 0 is unlimited");
pub const GATEWAY_MAX_TERMINALS: Setting = setting("GATEWAY_MAX_TERMINALS", "limits.terminals")
    .default("16384")
    .help("terminals open at one replica; 0 is unlimited");
pub const GATEWAY_MAX_TERMINALS_PER_USER: Setting =
    setting("GATEWAY_MAX_TERMINALS_PER_USER", "limits.terminalsPerUser")
        .default("32")
        .help("terminals that one user has open, at all replicas together as far as status.sessions lists them (256 of each); 0 is unlimited");

impl RateLimits {
    pub(super) fn read(r: &mut Reader<'_>) -> Option<Self> {
        let lifecycle_global = rate(r, &GATEWAY_RL_LIFECYCLE_GLOBAL_RPS, &GATEWAY_RL_LIFECYCLE_GLOBAL_BURST);
        let lifecycle_user = rate(
            r,
            &GATEWAY_RL_LIFECYCLE_PER_USER_RPS,
            &GATEWAY_RL_LIFECYCLE_PER_USER_BURST,
        );
        let websocket_global = rate(r, &GATEWAY_RL_WS_GLOBAL_RPS, &GATEWAY_RL_WS_GLOBAL_BURST);
        let websocket_user = rate(r, &GATEWAY_RL_WS_PER_USER_RPS, &GATEWAY_RL_WS_PER_USER_BURST);
        let sign_in = rate(
            r,
            &GATEWAY_RL_SIGN_IN_PER_ADDRESS_RPS,
            &GATEWAY_RL_SIGN_IN_PER_ADDRESS_BURST,
        );
        Some(Self {
            lifecycle: RateLimit {
                global: lifecycle_global?,
                per_user: lifecycle_user?,
            },
            websocket: RateLimit {
                global: websocket_global?,
                per_user: websocket_user?,
            },
            sign_in_per_address: sign_in?,
        })
    }
}

impl Places {
    pub(super) fn read(r: &mut Reader<'_>) -> Option<Self> {
        let connections = r.parse(&GATEWAY_MAX_CONNECTIONS, places);
        let terminals = r.parse(&GATEWAY_MAX_TERMINALS, places);
        let terminals_per_user = r.parse(&GATEWAY_MAX_TERMINALS_PER_USER, places);
        Some(Self {
            connections: connections?,
            terminals: terminals?,
            terminals_per_user: terminals_per_user?,
        })
    }
}

/// What a process could ever hold open.
const MOST_PLACES: usize = 1_000_000;

fn places(text: &str) -> Result<Option<NonZeroUsize>, String> {
    match text.parse() {
        Ok(places @ 0..=MOST_PLACES) => Ok(NonZeroUsize::new(places)),
        _ => Err(format!("a whole number of at most {MOST_PLACES}, or 0 for no limit")),
    }
}

fn rate(r: &mut Reader<'_>, per_second: &Setting, burst: &Setting) -> Option<Option<Rate>> {
    let per_second = r.parse(per_second, |text| match text.parse::<f64>() {
        Ok(rate) if rate == 0.0 || (0.001..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("requests per second between 0.001 and 1000000, or 0 for no limit".to_owned()),
    });
    let burst = r.parse(burst, |text| {
        text.parse::<u32>().map_err(|_| "a whole number, or 0".to_owned())
    });
    let (per_second, burst) = (per_second?, burst?);
    if per_second == 0.0 {
        return Some(None);
    }
    let one_second = NonZeroU32::new(per_second.ceil() as u32).unwrap_or(NonZeroU32::MIN);
    Some(Some(Rate {
        period: Duration::from_secs_f64(1.0 / per_second),
        burst: NonZeroU32::new(burst).unwrap_or(one_second),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_a_number_or_unlimited() {
        assert_eq!(places("0"), Ok(None));
        assert_eq!(places("32"), Ok(NonZeroUsize::new(32)));
        for wrong in ["", "-1", "1.5", "many", "1000001", "18446744073709551616"] {
            assert!(places(wrong).is_err(), "{wrong}");
        }
    }
}
