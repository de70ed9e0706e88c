//! A client's frame becomes a yes or no: does it ask whether the way to the gateway is open? Pure.
//!
//! A browser's script sees neither pings nor pongs, so our page has a message of its own: the command byte [`HEARTBEAT`], which
//! ttyd does not know, and a few bytes that the answer has too. The gateway answers it where it reads it, behind all that the
//! client sent before and that has been passed on: an answer says that it was.

use super::frame::{Head, Opcode};

/// The command byte of a heartbeat and of its answer.
pub const HEARTBEAT: u8 = b'h';
/// With the command byte, in bytes.
const LONGEST: usize = 17;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{Side, frame};

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
