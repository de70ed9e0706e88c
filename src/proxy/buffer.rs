//! What was read and not yet passed on. Small while nothing much is said, so that many quiet connections cost little.

use super::Side;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// While little is said, in bytes: a client's keys are a few, and what a workspace answers with is a line.
const SMALL_OF_CLIENT: usize = 1 << 8;
const SMALL_OF_WORKSPACE: usize = 1 << 9;
/// While much is said, in bytes.
pub const LARGE: usize = 1 << 16;

pub struct Buffer {
    bytes: Vec<u8>,
    /// Its size while little is said.
    small: usize,
    start: usize,
    end: usize,
}

impl Buffer {
    /// For what `from` says, with `begun` in it already.
    pub fn new(from: Side, begun: &[u8]) -> Self {
        Self {
            bytes: begun.to_vec(),
            small: match from {
                Side::Client => SMALL_OF_CLIENT,
                Side::Workspace => SMALL_OF_WORKSPACE,
            },
            start: 0,
            end: begun.len(),
        }
    }

    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// Reads more; 0 is the end. There is room for [`LARGE`] bytes at least.
    pub async fn fill(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> io::Result<usize> {
        self.make_room();
        let read = reader.read(&mut self.bytes[self.end..]).await?;
        self.end += read;
        Ok(read)
    }

    fn make_room(&mut self) {
        let (was_full, is_empty) = (self.end == self.bytes.len(), self.start == self.end);
        let wanted = match (is_empty, was_full) {
            // More came than there was room for, or less than would fill a small one.
            (_, true) if self.end > 0 => LARGE,
            (true, _) if self.end < self.small => self.small,
            _ => self.bytes.len(),
        };
        let wanted = wanted.max(self.filled().len());
        if is_empty && wanted != self.bytes.len() {
            self.bytes = vec![0; wanted];
        } else {
            self.bytes.copy_within(self.start..self.end, 0);
            self.bytes.resize(wanted.max(self.bytes.len()), 0);
        }
        self.end -= self.start;
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_grows_with_what_comes_and_shrinks_again() {
        let much = vec![1; 100_000];
        let mut reader = &much[..];
        const SMALL: usize = SMALL_OF_WORKSPACE;
        let mut buffer = Buffer::new(Side::Workspace, &[]);
        assert_eq!(buffer.fill(&mut reader).await.unwrap(), SMALL);
        buffer.consume(SMALL - 1);
        assert_eq!(buffer.fill(&mut reader).await.unwrap(), LARGE - 1);
        assert_eq!(buffer.filled().len(), LARGE);
        buffer.consume(LARGE);
        assert_eq!(buffer.fill(&mut reader).await.unwrap(), 100_000 - SMALL - LARGE + 1);
        buffer.consume(LARGE);
        assert_eq!(buffer.fill(&mut &b"a"[..]).await.unwrap(), 1);
        buffer.consume(1);
        assert_eq!(buffer.fill(&mut &b"b"[..]).await.unwrap(), 1);
        assert_eq!((buffer.bytes.len(), buffer.filled()), (SMALL, &b"b"[..]));
    }

    #[tokio::test]
    async fn what_was_read_with_the_handshake_comes_first() {
        let mut buffer = Buffer::new(Side::Client, b"ab");
        assert_eq!(buffer.fill(&mut &b"cd"[..]).await.unwrap(), 2);
        assert_eq!(buffer.filled(), b"abcd");
    }
}
