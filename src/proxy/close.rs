//! How one side ended becomes the close frame of the other (RFC 6455, section 7.4).

use crate::api::close_code;

/// A close code and a reason for people, of at most 123 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Close {
    pub code: u16,
    pub reason: &'static str,
}

impl Close {
    pub const NORMAL: Self = Self::new(1000, "");
    pub const GOING_AWAY: Self = Self::new(1001, "");
    pub const PROTOCOL_ERROR: Self = Self::new(1002, "not a WebSocket frame that is expected here");
    pub const TOO_BIG: Self = Self::new(1009, "a message is larger than 1 MiB");
    pub const BACKEND_LOST: Self = Self::new(1011, "the connection to the workspace was lost");
    /// The client finds another replica by connecting again.
    pub const RESTART: Self = Self::new(1012, "the gateway restarts");
    /// The client tries again later, when this or another replica knows again who may enter.
    pub const LOST_TOUCH: Self = Self::new(1013, "the gateway has lost touch with the cluster");
    /// The session is over, sign in again.
    pub const SIGNED_OUT: Self = Self::new(close_code::SIGNED_OUT, "the session has ended; sign in again");
    /// The same, as nobody has used it for long: who comes back says so, and not the page by itself.
    pub const SESSION_IDLE: Self = Self::new(close_code::SIGNED_OUT, "idle");
    /// Our page says why when it is loaded again.
    pub const FORBIDDEN: Self = Self::new(close_code::FORBIDDEN, "you may not enter; load the page again");
    /// The same, as an administrator has suspended the workspace.
    pub const SUSPENDED: Self = Self::new(close_code::FORBIDDEN, "the workspace was suspended");
    pub const NOT_RECORDED: Self = Self::new(
        close_code::NOT_RECORDED,
        "the session can't be recorded, so it was ended",
    );
    pub const TOO_MANY: Self = Self::new(
        close_code::TOO_MANY,
        "too many terminals of yours are open; close another one",
    );
    /// The gateway has no place for another terminal; the client tries again later.
    pub const FULL: Self = Self::new(1013, "as many terminals are open here as there may be");

    /// There is no terminal yet; the client tries again.
    pub const NOT_READY: Self = Self::new(1013, "the workspace takes no connections at the moment");
    pub const UNAVAILABLE: Self = Self::new(1013, "the cluster does not say where the workspace is");
    pub const RATE_LIMITED: Self = Self::new(1013, "terminals were opened too often; this takes a moment");
    pub const NO_PROVIDER: Self = Self::new(1013, "the identity provider can't be reached");

    /// The workspace is being stopped; `word` says why, for programs.
    pub const fn stopped(word: &'static str) -> Self {
        Self::new(close_code::STOPPED, word)
    }

    const fn new(code: u16, reason: &'static str) -> Self {
        Self { code, reason }
    }

    /// The code of a received close frame's payload; `None` when the frame has none (1005).
    ///
    /// # Errors
    /// When the payload is not one that RFC 6455 allows.
    pub fn received(payload: &[u8]) -> Result<Option<u16>, InvalidClose> {
        match payload {
            [] => Ok(None),
            [high, low, reason @ ..] if payload.len() <= 125 && std::str::from_utf8(reason).is_ok() => {
                let code = u16::from_be_bytes([*high, *low]);
                if matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
                    Ok(Some(code))
                } else {
                    Err(InvalidClose)
                }
            }
            _ => Err(InvalidClose),
        }
    }

    /// What the client is told when the workspace closes with `code`. Codes from 4000 are this program's own: a workspace must
    /// not be able to say that a session has ended. Its reason is not passed on either.
    pub fn from_workspace(code: Option<u16>) -> Self {
        match code {
            None => Self::NORMAL,
            Some(code @ ..=3999) => Self::new(code, ""),
            Some(_) => Self::BACKEND_LOST,
        }
    }

    /// The same code back, or on to the workspace.
    pub fn same(code: Option<u16>) -> Self {
        code.map_or(Self::NORMAL, |code| Self::new(code, ""))
    }
}

/// A close frame that RFC 6455 does not allow.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidClose;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_codes_and_broken_payloads_are_refused() {
        assert_eq!(Close::received(&[]), Ok(None));
        assert_eq!(Close::received(&1000u16.to_be_bytes()), Ok(Some(1000)));
        assert_eq!(Close::received(b"\x0f\xa0bye"), Ok(Some(4000)));
        for code in [0u16, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000] {
            assert_eq!(Close::received(&code.to_be_bytes()), Err(InvalidClose), "{code}");
        }
        assert_eq!(Close::received(&[3]), Err(InvalidClose));
        assert_eq!(Close::received(b"\x03\xe8\xff"), Err(InvalidClose));
        let long = [&1000u16.to_be_bytes()[..], &[b'a'; 124]].concat();
        assert_eq!(Close::received(&long), Err(InvalidClose));
    }

    #[test]
    fn a_workspace_can_t_end_a_session() {
        assert_eq!(Close::from_workspace(Some(4401)), Close::BACKEND_LOST);
        assert_eq!(Close::from_workspace(Some(1000)), Close::NORMAL);
        assert_eq!(Close::from_workspace(None), Close::NORMAL);
    }

    #[test]
    fn every_reason_fits_a_control_frame() {
        for close in [
            Close::PROTOCOL_ERROR,
            Close::TOO_BIG,
            Close::BACKEND_LOST,
            Close::RESTART,
            Close::LOST_TOUCH,
            Close::SIGNED_OUT,
            Close::SESSION_IDLE,
            Close::FORBIDDEN,
            Close::NOT_READY,
            Close::UNAVAILABLE,
            Close::RATE_LIMITED,
            Close::NO_PROVIDER,
            Close::NOT_RECORDED,
            Close::TOO_MANY,
            Close::FULL,
        ] {
            assert!(close.reason.len() <= 123);
        }
    }
}
