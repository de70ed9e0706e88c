//! Bytes become the head of a frame (RFC 6455, section 5.2), and heads a yes or no: may this frame stand here? Pure.
//!
//! A relay needs no more than heads: a frame that may pass is passed on with the very bytes that it came with, its mask
//! included, because what a client masks for a server is masked for a server here too.

use super::{MAX_MESSAGE, Side};

/// RFC 6455, section 5.5.
pub const MAX_CONTROL: usize = 125;
/// The largest head: two bytes, eight of length, four of mask.
pub const MAX_HEAD: usize = 14;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Continuation,
    Text,
    Binary,
    Close,
    Ping,
    Pong,
}

impl Opcode {
    fn of(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0x0,
            Self::Text => 0x1,
            Self::Binary => 0x2,
            Self::Close => 0x8,
            Self::Ping => 0x9,
            Self::Pong => 0xa,
        }
    }

    pub fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// What stands before a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    pub fin: bool,
    pub opcode: Opcode,
    pub mask: Option<[u8; 4]>,
    /// Of the head itself, in bytes.
    pub length: usize,
    /// Of the payload, in bytes; at most [`MAX_MESSAGE`].
    pub payload: usize,
}

/// Why a peer is not listened to any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    Protocol,
    /// A message is larger than [`MAX_MESSAGE`].
    TooBig,
}

impl Head {
    /// The head that `bytes` begin with, of a frame that `from` sends; `None` while there are too few of them.
    ///
    /// # Errors
    /// When no such frame may stand on the wire: reserved bits or opcodes (no extension was agreed on), a length that is
    /// written longer than need be, a control frame that is fragmented or too long, a mask where there must be none or none
    /// where there must be one (section 5.1).
    pub fn parse(bytes: &[u8], from: Side) -> Result<Option<Self>, Violation> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        let (fin, reserved) = (first & 0x80 != 0, first & 0x70);
        let is_masked = second & 0x80 != 0;
        let opcode = Opcode::of(first & 0x0f).ok_or(Violation::Protocol)?;
        if reserved != 0 || is_masked != (from == Side::Client) {
            return Err(Violation::Protocol);
        }
        let (payload, behind_length) = match second & 0x7f {
            126 => {
                let Some((length, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                let length = u64::from(u16::from_be_bytes(*length));
                (length.checked_sub(126).map(|_| length), rest)
            }
            127 => {
                let Some((length, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                let length = u64::from_be_bytes(*length);
                (((1 << 16)..1 << 63).contains(&length).then_some(length), rest)
            }
            short => (Some(u64::from(short)), rest),
        };
        let payload = payload.ok_or(Violation::Protocol)?;
        if opcode.is_control() && (!fin || payload > MAX_CONTROL as u64) {
            return Err(Violation::Protocol);
        }
        let payload = usize::try_from(payload).map_err(|_| Violation::TooBig)?;
        if payload > MAX_MESSAGE {
            return Err(Violation::TooBig);
        }
        let mut behind = behind_length;
        let mask = if is_masked {
            let Some((mask, rest)) = behind.split_first_chunk() else {
                return Ok(None);
            };
            behind = rest;
            Some(*mask)
        } else {
            None
        };
        Ok(Some(Self {
            fin,
            opcode,
            mask,
            length: bytes.len() - behind.len(),
            payload,
        }))
    }

    /// Of the whole frame, in bytes.
    pub fn total(&self) -> usize {
        self.length + self.payload
    }
}

/// Which message of a peer is under way.
#[derive(Debug, Default)]
pub struct Sequence {
    /// The bytes of the message whose last fragment has not come yet.
    unfinished: Option<usize>,
}

impl Sequence {
    /// Whether fragments have yet to come.
    pub fn is_amid_message(&self) -> bool {
        self.unfinished.is_some()
    }

    /// Takes the next data frame; true when a message begins with it.
    ///
    /// # Errors
    /// When a fragment has no message, a message begins inside of another one (section 5.4), or a message gets too big.
    pub fn take(&mut self, head: &Head) -> Result<bool, Violation> {
        let before = match (head.opcode, self.unfinished) {
            (Opcode::Text | Opcode::Binary, None) => None,
            (Opcode::Continuation, Some(bytes)) => Some(bytes),
            _ => return Err(Violation::Protocol),
        };
        let bytes = before.unwrap_or_default() + head.payload;
        if bytes > MAX_MESSAGE {
            return Err(Violation::TooBig);
        }
        self.unfinished = (!head.fin).then_some(bytes);
        Ok(before.is_none())
    }
}

/// Applies a mask, or takes it off again (section 5.3). `payload` begins where the mask does.
pub fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    // Whole blocks at a time, which is what vector instructions are for.
    let (blocks, rest) = payload.as_chunks_mut::<16>();
    for block in blocks {
        for (index, byte) in block.iter_mut().enumerate() {
            *byte ^= mask[index % 4];
        }
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// A whole frame, masked when there is a mask.
pub fn encode(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut frame = Vec::with_capacity(MAX_HEAD + payload.len());
    encode_onto(&mut frame, true, opcode, payload, mask);
    frame
}

/// The same, behind what is in `frames` already; `fin` is false for a fragment that others follow.
pub fn encode_onto(frames: &mut Vec<u8>, fin: bool, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    frames.push(if fin { 0x80 } else { 0 } | opcode.bits());
    let is_masked = if mask.is_some() { 0x80 } else { 0 };
    match (payload.len(), u16::try_from(payload.len())) {
        (short @ 0..126, _) => frames.push(is_masked | short as u8),
        (_, Ok(long)) => {
            frames.push(is_masked | 126);
            frames.extend(long.to_be_bytes());
        }
        (longer, Err(_)) => {
            frames.push(is_masked | 127);
            frames.extend((longer as u64).to_be_bytes());
        }
    }
    frames.extend(mask.into_iter().flatten());
    let behind = frames.len();
    frames.extend(payload);
    if let Some(mask) = mask {
        unmask(&mut frames[behind..], mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of_workspace(bytes: &[u8]) -> Result<Option<Head>, Violation> {
        Head::parse(bytes, Side::Workspace)
    }

    #[test]
    fn heads_are_read_as_they_are_written() {
        // RFC 6455, section 5.7.
        let hello = of_workspace(&[0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f])
            .unwrap()
            .unwrap();
        assert_eq!(
            (hello.opcode, hello.fin, hello.length, hello.payload),
            (Opcode::Text, true, 2, 5)
        );
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let head = Head::parse(&masked, Side::Client).unwrap().unwrap();
        let mut payload = masked[head.length..].to_vec();
        unmask(&mut payload, head.mask.unwrap());
        assert_eq!(payload, b"Hello");
        assert_eq!(of_workspace(&[0x82, 0x7e, 0x01, 0x00]).unwrap().unwrap().payload, 256);
        let large = of_workspace(&[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]).unwrap().unwrap();
        assert_eq!((large.payload, large.total()), (65536, 65546));
        for few in [
            &[][..],
            &[0x82],
            &[0x82, 0x7e, 0x01],
            &[0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0],
        ] {
            assert_eq!(of_workspace(few), Ok(None), "{few:?}");
        }
        assert_eq!(Head::parse(&masked[..5], Side::Client), Ok(None));
    }

    #[test]
    fn what_may_not_be_on_the_wire_is_refused() {
        for (what, bytes) in [
            ("a reserved bit", &[0xc2, 0x00][..]),
            ("a reserved opcode", &[0x83, 0x00]),
            ("a reserved control opcode", &[0x8b, 0x00]),
            ("a fragmented ping", &[0x09, 0x00]),
            ("a long ping", &[0x89, 0x7e, 0x00, 0x7e]),
            ("a length in two bytes that one holds", &[0x82, 0x7e, 0x00, 0x7d]),
            (
                "a length in eight bytes that two hold",
                &[0x82, 0x7f, 0, 0, 0, 0, 0, 0, 0xff, 0xff],
            ),
            (
                "a length with the highest bit",
                &[0x82, 0x7f, 0x80, 0, 0, 0, 0, 1, 0, 0],
            ),
            ("a mask of a server", &[0x82, 0x80, 0, 0, 0, 0]),
        ] {
            assert_eq!(of_workspace(bytes), Err(Violation::Protocol), "{what}");
        }
        assert_eq!(
            Head::parse(&[0x82, 0x00], Side::Client),
            Err(Violation::Protocol),
            "no mask of a client"
        );
        let big = [&[0x82, 0x7f][..], &(MAX_MESSAGE as u64 + 1).to_be_bytes()].concat();
        assert_eq!(of_workspace(&big), Err(Violation::TooBig));
        let just = [&[0x82, 0x7f][..], &(MAX_MESSAGE as u64).to_be_bytes()].concat();
        assert_eq!(of_workspace(&just).unwrap().unwrap().payload, MAX_MESSAGE);
    }

    fn data(opcode: Opcode, fin: bool, payload: usize) -> Head {
        Head {
            fin,
            opcode,
            mask: None,
            length: 2,
            payload,
        }
    }

    #[test]
    fn messages_follow_each_other_and_their_fragments_are_counted_together() {
        use Opcode::{Binary, Continuation, Text};
        let half = MAX_MESSAGE / 2;
        let mut sequence = Sequence::default();
        assert_eq!(sequence.take(&data(Binary, true, MAX_MESSAGE)), Ok(true));
        assert_eq!(sequence.take(&data(Binary, false, half)), Ok(true));
        assert_eq!(sequence.take(&data(Continuation, false, half)), Ok(false));
        assert_eq!(sequence.take(&data(Continuation, true, 1)), Err(Violation::TooBig));
        assert_eq!(
            Sequence::default().take(&data(Continuation, true, 1)),
            Err(Violation::Protocol)
        );
        let mut sequence = Sequence::default();
        sequence.take(&data(Text, false, 1)).unwrap();
        assert_eq!(sequence.take(&data(Text, true, 1)), Err(Violation::Protocol));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_read_again(payload in proptest::collection::vec(any::<u8>(), 0..70_000), mask: Option<[u8; 4]>) {
            let frame = encode(Opcode::Binary, &payload, mask);
            let from = if mask.is_some() { Side::Client } else { Side::Workspace };
            let head = Head::parse(&frame, from).unwrap().unwrap();
            let mut read = frame[head.length..].to_vec();
            prop_assert_eq!(head.total(), frame.len());
            if let Some(mask) = head.mask {
                unmask(&mut read, mask);
            }
            prop_assert_eq!(&read[..], &payload[..]);
        }

        #[test]
        fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..32), of_client: bool) {
            let from = if of_client { Side::Client } else { Side::Workspace };
            if let Ok(Some(head)) = Head::parse(&bytes, from) {
                prop_assert!(head.length <= bytes.len().min(MAX_HEAD) && head.payload <= MAX_MESSAGE);
            }
        }
    }
}
