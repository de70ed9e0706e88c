//! A client's frame becomes a yes or no: does it ask whether all that it sent has arrived? And a workspace's Pong: does it say so? Pure.
//!
//! A browser's script sees neither pings nor pongs, so our page has a message of its own: the command byte [`HEARTBEAT`], which
//! ttyd does not know, and a few bytes that the answer has too. It goes on to ttyd as a Ping with the same bytes, behind all that the
//! client sent before, and is answered when ttyd's Pong comes (RFC 6455, section 5.5.3). What was only written towards a workspace may
//! be lost with it: a kernel takes bytes for a node that is gone.

use super::frame::{Head, Opcode};
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// The command byte of a heartbeat and of its answer.
pub const HEARTBEAT: u8 = b'h';
/// With the command byte, in bytes.
const LONGEST: usize = 17;
/// So many are remembered until they are answered: what a page asks in the time after which it gives a connection up.
const MOST: usize = 16;

/// Whether `frame`, which begins with `head`, is a heartbeat: a short message of one frame, of a client. The workspace's frames,
/// which have no mask, are none.
pub fn is_heartbeat(head: &Head, frame: &[u8]) -> bool {
    let Some(mask) = head.mask else {
        return false;
    };
    let first = frame.get(head.length);
    head.payload <= LONGEST
        && head.fin
        && head.opcode == Opcode::Binary
        && first.is_some_and(|first| first ^ mask[0] == HEARTBEAT)
        && head.payload > 0
}

/// What was asked of a workspace, oldest first. Each is answered once at most, whatever Pongs come, and what is not asked never is.
#[derive(Default)]
pub struct Asked(Mutex<VecDeque<Beat>>);

/// A heartbeat's bytes, the command byte first.
#[derive(Clone, Copy)]
struct Beat {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Asked {
    /// Remembers one of at most [`LONGEST`] bytes. The oldest of too many is forgotten.
    pub fn ask(&self, beat: &[u8]) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.len() == MOST {
            asked.pop_front();
        }
        let mut bytes = [0; LONGEST];
        bytes[..beat.len()].copy_from_slice(beat);
        let length = beat.len();
        asked.push_back(Beat { bytes, length });
    }

    /// Whether a Pong answers one of them. Those before it are forgotten: ttyd leaves out Pings that come while a Pong waits to be sent.
    pub fn is_answered_by(&self, pong: &[u8]) -> bool {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = asked.iter().position(|beat| &beat.bytes[..beat.length] == pong);
        if let Some(answered) = answered {
            asked.drain(..=answered);
        }
        answered.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{Side, frame};

    #[test]
    fn what_was_asked_is_answered_once_and_nothing_else_is() {
        let asked = Asked::default();
        assert!(!asked.is_answered_by(b"") && !asked.is_answered_by(b"h1"));
        for beat in [b"h1", b"h2", b"h3"] {
            asked.ask(beat);
        }
        // The relay's own pings have no bytes.
        assert!(!asked.is_answered_by(b"") && !asked.is_answered_by(b"h") && !asked.is_answered_by(b"h2\0"));
        assert!(asked.is_answered_by(b"h2"));
        assert!(!asked.is_answered_by(b"h2") && !asked.is_answered_by(b"h1"));
        assert!(asked.is_answered_by(b"h3"));
        for serial in 0..100u8 {
            asked.ask(&[HEARTBEAT, serial]);
        }
        assert_eq!(asked.0.lock().unwrap().len(), MOST);
        assert!(!asked.is_answered_by(&[HEARTBEAT, 83]) && asked.is_answered_by(&[HEARTBEAT, 84]));
    }

    #[test]
    fn a_heartbeat_is_short_whole_and_of_a_client() {
        let mask = Some([1, 2, 3, 4]);
        for (payload, mask, expected) in [
            (&b"h"[..], mask, true),
            (b"h12345678", mask, true),
            (b"h0123456789abcdef", mask, true),
            (b"h0123456789abcdefg", mask, false),
            (b"", mask, false),
            (b"0h", mask, false),
            (b"h1", None, false),
        ] {
            let from = if mask.is_some() { Side::Client } else { Side::Workspace };
            let mut bytes = frame::encode(Opcode::Binary, payload, mask);
            let head = Head::parse(&bytes, from).unwrap().unwrap();
            assert_eq!(is_heartbeat(&head, &bytes), expected, "{payload:?}");
            // As one fragment of several it is a message for the workspace.
            bytes[0] &= 0x7f;
            let head = Head::parse(&bytes, from).unwrap().unwrap();
            assert!(!is_heartbeat(&head, &bytes));
        }
    }
}
