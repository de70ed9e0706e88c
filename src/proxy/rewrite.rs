//! One side's messages become others, before they are relayed: for where something in them may not pass.
//!
//! Frames are read whole, changed and written anew; nothing of this runs for a conversation in which everything may pass. What is no
//! frame that may stand here is handed on as it is: the relay then says so.

use super::Side;
use super::buffer::LARGE;
use super::frame::{self, Head, Opcode};
use super::socket::{Reader, Socket};
use bytes::Bytes;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// What is taken out of messages. It keeps what it has to know from one message to the next.
pub trait Filter: Send + Unpin + 'static {
    /// Appends to `kept` what may pass of the next bytes of a message. `begins` says that they are its first ones, of which the
    /// very first is the command byte, and `ends` that they are its last.
    fn keep(&mut self, bytes: &[u8], begins: bool, ends: bool, kept: &mut Vec<u8>);
}

/// The same socket, with what `filter` keeps of what `from` says there.
pub fn rewritten(socket: Socket, from: Side, filter: impl Filter) -> Socket {
    let reader = Rewritten {
        reader: socket.reader,
        from,
        filter,
        raw: socket.buffered.to_vec(),
        ready: Vec::new(),
        given: 0,
        is_broken: false,
        kept: Vec::new(),
    };
    Socket {
        reader: Box::new(reader),
        buffered: Bytes::new(),
        ..socket
    }
}

struct Rewritten<F> {
    reader: Reader,
    from: Side,
    filter: F,
    /// Bytes of frames that are not whole yet.
    raw: Vec<u8>,
    /// Whole frames to be given out, of which `given` bytes were.
    ready: Vec<u8>,
    given: usize,
    /// Whether something came that is no frame.
    is_broken: bool,
    kept: Vec<u8>,
}

impl<F: Filter> Rewritten<F> {
    /// Takes the whole frames that were read.
    fn take(&mut self) {
        let mut taken = 0;
        while !self.is_broken {
            let rest = &mut self.raw[taken..];
            let head = match Head::parse(rest, self.from) {
                Ok(Some(head)) if rest.len() >= head.total() => head,
                Ok(_) => break,
                Err(_) => {
                    self.is_broken = true;
                    break;
                }
            };
            let frame = &mut rest[..head.total()];
            if head.opcode.is_control() {
                self.ready.extend_from_slice(frame);
            } else {
                let payload = &mut frame[head.length..];
                if let Some(mask) = head.mask {
                    frame::unmask(payload, mask);
                }
                self.kept.clear();
                let begins = head.opcode != Opcode::Continuation;
                self.filter.keep(payload, begins, head.fin, &mut self.kept);
                frame::encode_onto(&mut self.ready, head.fin, head.opcode, &self.kept, head.mask);
            }
            taken += head.total();
        }
        if self.is_broken {
            self.ready.extend_from_slice(&self.raw[taken..]);
            taken = self.raw.len();
        }
        self.raw.drain(..taken);
        // A large message is no reason to keep room for the next.
        if self.raw.is_empty() && self.raw.capacity() > LARGE {
            self.raw = Vec::new();
            self.kept = Vec::new();
        }
    }
}

impl<F: Filter> AsyncRead for Rewritten<F> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.given < this.ready.len() {
                let piece = &this.ready[this.given..];
                let piece = &piece[..piece.len().min(into.remaining())];
                into.put_slice(piece);
                this.given += piece.len();
                return Poll::Ready(Ok(()));
            }
            (this.ready, this.given) = (Vec::new(), 0);
            if !this.raw.is_empty() {
                this.take();
                if !this.ready.is_empty() {
                    continue;
                }
            }
            let mut space = [0; 16 * 1024];
            let mut space = ReadBuf::new(&mut space);
            ready!(Pin::new(&mut this.reader).poll_read(context, &mut space))?;
            if space.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.raw.extend_from_slice(space.filled());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::{CopyFilter, PasteFilter};
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    /// What comes of some bytes that are written in pieces of `cut`.
    async fn read(from: Side, filter: impl Filter, bytes: &[u8], cut: usize) -> Vec<u8> {
        let (mut peer, side) = duplex(1 << 22);
        let mut socket = Socket::new(side);
        let (first, rest) = bytes.split_at(1);
        socket.buffered = Bytes::copy_from_slice(first);
        let mut reader = rewritten(socket, from, filter).reader;
        for piece in rest.chunks(cut) {
            peer.write_all(piece).await.unwrap();
        }
        drop(peer);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).await.unwrap();
        all
    }

    #[tokio::test]
    async fn frames_are_changed_and_others_stay() {
        let frames = |messages: &[(Opcode, bool, &[u8])], mask| {
            let mut all = Vec::new();
            for (opcode, fin, payload) in messages {
                frame::encode_onto(&mut all, *fin, *opcode, payload, mask);
            }
            all
        };
        use Opcode::{Binary, Continuation, Ping};
        let large = vec![b'0'; 70_000];
        let said = frames(
            &[
                (Binary, true, b"0a\x1b]52;c;YQ"),
                (Ping, true, b"?"),
                (Binary, true, b"0==\x07b"),
                (Binary, false, b"0\x1b]"),
                (Continuation, true, b"52;c;YQ==\x07c"),
                (Binary, true, &large),
            ],
            None,
        );
        let expected = frames(
            &[
                (Binary, true, b"0a"),
                (Ping, true, b"?"),
                (Binary, true, b"0b"),
                (Binary, false, b"0"),
                (Continuation, true, b"c"),
                (Binary, true, &large),
            ],
            None,
        );
        let mask = Some([1, 2, 3, 4]);
        let pasted = frames(
            &[
                (Binary, true, b"0\x1b[200~rm"),
                (Binary, true, b"0x\x1b[201~ls"),
                (Binary, true, b"h1"),
            ],
            mask,
        );
        let typed = frames(
            &[(Binary, true, b"0"), (Binary, true, b"0ls"), (Binary, true, b"h1")],
            mask,
        );
        for cut in [1, 7, 100_000] {
            assert_eq!(read(Side::Workspace, CopyFilter::default(), &said, cut).await, expected);
            assert_eq!(read(Side::Client, PasteFilter::default(), &pasted, cut).await, typed);
        }
        let broken = [&said[..], &[0xff; 40]].concat();
        let handed_on = read(Side::Workspace, CopyFilter::default(), &broken, 9).await;
        assert_eq!(handed_on, [&expected[..], &[0xff; 40]].concat());
    }
}
