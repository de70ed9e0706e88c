//! An upgraded HTTP connection becomes two halves, one to read and one to write, each used by itself.

use super::frame::{self, Opcode};
use bytes::Bytes;
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, split};
use tokio::net::TcpStream;

pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub type OnBytes = Box<dyn Fn(u64) + Send + Sync>;
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// One side of a conversation.
pub struct Socket {
    pub reader: Reader,
    pub writer: Writer,
    /// What was read together with the handshake.
    pub buffered: Bytes,
    pub(super) received: Option<OnBytes>,
}

impl Socket {
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (reader, writer) = split(stream);
        Self {
            reader: Box::new(reader),
            writer: Box::new(writer),
            buffered: Bytes::new(),
            received: None,
        }
    }

    /// A plain connection has halves of its own; `buffered` was read of it already.
    pub fn of_tcp(stream: TcpStream, buffered: Bytes) -> Self {
        let (reader, writer) = stream.into_split();
        Self {
            reader: Box::new(reader),
            writer: Box::new(writer),
            buffered,
            received: None,
        }
    }

    /// Says something of our own, before the conversation begins. That the other side is gone shows there.
    pub async fn announce(&mut self, message: &[u8]) {
        let frame = frame::encode(Opcode::Binary, message, None);
        if self.writer.write_all(&frame).await.is_ok() {
            let _ = self.writer.flush().await;
        }
    }

    /// `received` is told of what is read of it, in bytes: once for each read, not for each frame.
    pub fn counted(mut self, received: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.received = Some(Box::new(received));
        self
    }
}

impl From<Upgraded> for Socket {
    /// Any other than a plain connection is split by a lock.
    fn from(upgraded: Upgraded) -> Self {
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(Parts { io, read_buf, .. }) => Self::of_tcp(io.into_inner(), read_buf),
            Err(upgraded) => Self::new(TokioIo::new(upgraded)),
        }
    }
}
