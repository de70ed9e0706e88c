//! An upgraded HTTP connection becomes two halves, one to read and one to write, each used by itself.

use bytes::Bytes;
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, split};
use tokio::net::TcpStream;

pub type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// One side of a conversation.
pub struct Socket {
    pub reader: Reader,
    pub writer: Writer,
    /// What was read together with the handshake.
    pub buffered: Bytes,
}

impl Socket {
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (reader, writer) = split(stream);
        Self {
            reader: Box::new(reader),
            writer: Box::new(writer),
            buffered: Bytes::new(),
        }
    }
}

impl From<Upgraded> for Socket {
    /// A plain connection has halves of its own; any other is split by a lock.
    fn from(upgraded: Upgraded) -> Self {
        match upgraded.downcast::<TokioIo<TcpStream>>() {
            Ok(Parts { io, read_buf, .. }) => {
                let (reader, writer) = io.into_inner().into_split();
                Self {
                    reader: Box::new(reader),
                    writer: Box::new(writer),
                    buffered: read_buf,
                }
            }
            Err(upgraded) => Self::new(TokioIo::new(upgraded)),
        }
    }
}
