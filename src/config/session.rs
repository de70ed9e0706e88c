//! Settings become how long a session lasts.

use super::reader::Reader;
use super::setting::{Setting, setting};
use crate::units::go_duration::GoDuration;
use std::time::Duration;

/// When a session ends, whatever its user does or leaves.
#[derive(Clone, Copy, Debug)]
pub struct SessionRules {
    /// From the sign-in on.
    pub lifetime: Duration,
    /// From the last use on; `None` is as long as the lifetime.
    pub idle_lifetime: Option<Duration>,
    /// How often the provider is asked whether it still stands.
    pub refresh_every: Duration,
    /// How much longer it stands while the provider does not answer.
    pub refresh_grace: Duration,
    /// How long a gateway believes what it knows of Workspaces while it hears nothing of the API server.
    pub watch_loss: Duration,
}

pub const SESSION_LIFETIME: Setting = setting("SESSION_LIFETIME", "session.lifetime")
    .default("24h")
    .help("how long after signing in a session ends, whatever happens");
pub const SESSION_IDLE_LIFETIME: Setting = setting("SESSION_IDLE_LIFETIME", "session.idleLifetime")
    .default("8h")
    .help("how long after the last page or key a session ends, or up to a sixteenth of that earlier, as uses are noted that often; 0 is never");
pub const SESSION_REFRESH_INTERVAL: Setting = setting("SESSION_REFRESH_INTERVAL", "session.refreshInterval")
    .default("5m")
    .help("how often the provider is asked whether a session still stands, where it gives refresh tokens");
pub const SESSION_REFRESH_GRACE: Setting = setting("SESSION_REFRESH_GRACE", "session.refreshGrace")
    .default("10m")
    .help("how much longer a session stands while the provider does not answer");
pub const SESSION_WATCH_LOSS: Setting = setting("SESSION_WATCH_LOSS", "session.watchLoss")
    .default("30s")
    .help("how long the gateway goes on without word from the API server, from where it hears of revoked sessions, before it closes its terminals");

impl SessionRules {
    pub(super) fn read(r: &mut Reader<'_>) -> Option<Self> {
        let lifetime = r.parse(&SESSION_LIFETIME, |text| at_least(text, Duration::from_secs(1)));
        let idle_lifetime = r.parse(&SESSION_IDLE_LIFETIME, duration);
        let refresh_every = r.parse(&SESSION_REFRESH_INTERVAL, |text| at_least(text, Duration::from_secs(1)));
        let refresh_grace = r.parse(&SESSION_REFRESH_GRACE, duration);
        let watch_loss = r.parse(&SESSION_WATCH_LOSS, |text| at_least(text, Duration::from_secs(15)));
        Some(Self {
            lifetime: lifetime?,
            idle_lifetime: Some(idle_lifetime?).filter(|idle| !idle.is_zero()),
            refresh_every: refresh_every?,
            refresh_grace: refresh_grace?,
            watch_loss: watch_loss?,
        })
    }

    /// How long a use is not noted after one that was: the idle lifetime is kept to this. Without one, no use matters.
    pub fn use_noted_every(&self) -> Duration {
        self.idle_lifetime.map_or(Duration::MAX, |idle| idle / NOTED)
    }
}

/// How often in its idle lifetime the use of a session is noted, in its cookie or in its Workspace's status.
const NOTED: u32 = 16;

/// No longer than a year, so that a time and a duration always make a time.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

fn duration(text: &str) -> Result<Duration, String> {
    let GoDuration(duration) = text.parse::<GoDuration>().map_err(|error| error.to_string())?;
    if duration > LONGEST {
        return Err("a duration of at most a year, such as 24h".to_owned());
    }
    Ok(duration)
}

fn at_least(text: &str, least: Duration) -> Result<Duration, String> {
    match duration(text)? {
        shorter if shorter < least => Err(format!("a duration of at least {} s, such as 5m", least.as_secs())),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_are_bounded() {
        assert_eq!(at_least("5m", Duration::from_secs(1)), Ok(Duration::from_secs(300)));
        for wrong in ["0", "500ms", "9000h", "soon", "-5m"] {
            assert!(at_least(wrong, Duration::from_secs(1)).is_err(), "{wrong}");
        }
        assert_eq!(duration("0"), Ok(Duration::ZERO));
    }
}
