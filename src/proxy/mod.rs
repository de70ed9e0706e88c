//! Two WebSockets become one conversation (RFC 6455): a browser's, and that of a workspace's ttyd.
//!
//! `dial` opens the one to the workspace from nothing that a client sent, `relay` carries messages both ways and ends
//! both, `incoming` is how one side is read from, and `outgoing` how one is written to, and when it is given up. `heartbeat` tells a client
//! what has arrived, `clipboard` takes out what may not be copied or pasted, `frame` says which frames may pass, `close` which close codes, `stop` what is told when
//! it ends from here, and `input` tells typing from what a terminal sends by itself.

mod buffer;
pub mod clipboard;
mod close;
mod dial;
pub mod frame;
mod heartbeat;
mod incoming;
mod input;
mod outgoing;
mod relay;
mod rewrite;
mod seldom;
mod socket;
mod stop;

pub use clipboard::{CopyFilter, PasteFilter};
pub use close::Close;
pub use dial::{DialError, Identity, dial};
pub use input::{is_output, is_typing};
pub use relay::{Cause, End, Kind, OnPiece, Piece, Recorders, listen, refuse, relay};
pub use rewrite::rewritten;
pub use socket::Socket;
pub use stop::Stop;

/// The one subprotocol that is spoken: ttyd's.
pub const SUBPROTOCOL: &str = "tty";

/// The two sides of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Workspace,
}

/// The largest message in bytes, its fragments together.
pub const MAX_MESSAGE: usize = 1 << 20;
