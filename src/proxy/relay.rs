//! Frames of one WebSocket become frames of the other, both ways, until one side or `stop` ends it.
//!
//! Control frames end here, at either side, and sizes are counted over the fragments of a message. A client's heartbeats become Pings
//! for the workspace: see [`super::heartbeat`].

use super::Side;
use super::close::Close;
use super::frame::Opcode;
use super::incoming::Incoming;
use super::outgoing::{Outgoing, PING_EVERY};
use super::seldom::seldom;
use super::socket::{Reader, Socket};
use super::stop::Stop;
use futures::FutureExt;
use futures::future::FusedFuture;
use std::pin::{Pin, pin};
use std::time::Duration;
use tokio::io::sink;
use tokio::time::timeout;

/// For the close handshake. A peer that does not answer by then is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Some bytes of a message, in their order and without their mask.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// What kind of message begins with it.
    pub begins: Option<Kind>,
    pub payload: &'a [u8],
    /// How many bytes of the same frame have yet to come.
    pub ahead: usize,
    /// Whether the message ends with it.
    pub is_last: bool,
}

/// RFC 6455, section 5.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Binary,
}

/// Is shown every piece of every message, before it is passed on, and says whether its frame may pass: false ends the
/// conversation, and is heard at the beginning of a frame alone.
pub type OnPiece<'a> = Box<dyn FnMut(Piece<'_>) -> bool + Send + 'a>;

/// Who is to see all that is said. Nobody costs nothing.
#[derive(Default)]
pub struct Recorders<'a> {
    pub from_client: Option<OnPiece<'a>>,
    pub from_workspace: Option<OnPiece<'a>>,
}

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    By(Side, Cause),
    Stopped(Stop),
}

/// What a side did, so that the conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It said so, with a close code or without.
    Closed(Option<u16>),
    /// Its connection ended without a close frame.
    Lost,
    /// It answers no pings.
    Silent,
    /// It takes nothing of what is sent to it.
    Stalled,
    TooBig,
    ProtocolError,
}

impl End {
    /// The word for logs and audit lines.
    pub fn reason(self) -> &'static str {
        use Cause::{Closed, Lost, ProtocolError, Silent, Stalled, TooBig};
        use Side::{Client, Workspace};
        match self {
            Self::By(Client, Closed(_)) => "client_closed",
            Self::By(Client, Lost) => "client_lost",
            Self::By(Client, Silent) => "client_silent",
            Self::By(Client, Stalled) => "client_stalled",
            Self::By(Client, TooBig) => "client_message_too_big",
            Self::By(Client, ProtocolError) => "client_protocol_error",
            Self::By(Workspace, Closed(_)) => "workspace_closed",
            Self::By(Workspace, Lost) => "workspace_lost",
            Self::By(Workspace, Silent) => "workspace_silent",
            Self::By(Workspace, Stalled) => "workspace_stalled",
            Self::By(Workspace, TooBig) => "workspace_message_too_big",
            Self::By(Workspace, ProtocolError) => "workspace_protocol_error",
            Self::Stopped(stop) => stop.reason(),
        }
    }

    /// Every word that [`Self::reason`] may give.
    pub fn reasons() -> impl Iterator<Item = &'static str> {
        let causes = [
            Cause::Closed(None),
            Cause::Lost,
            Cause::Silent,
            Cause::Stalled,
            Cause::TooBig,
            Cause::ProtocolError,
        ];
        let by = [Side::Client, Side::Workspace].map(|side| causes.map(|cause| Self::By(side, cause)));
        let ends = by.into_iter().flatten().chain(Stop::all().map(Self::Stopped));
        ends.map(Self::reason)
    }

    /// Whether the client left, or was lost.
    pub fn is_departure(self) -> bool {
        matches!(
            self,
            Self::By(
                Side::Client,
                Cause::Closed(_) | Cause::Lost | Cause::Silent | Cause::Stalled
            )
        )
    }

    /// The close frames for the client and for the workspace.
    fn closes(self) -> (Close, Close) {
        match self {
            Self::By(side, cause) => {
                let to_itself = match cause {
                    Cause::Closed(code) => Close::same(code),
                    Cause::Lost | Cause::Silent | Cause::Stalled => Close::GOING_AWAY,
                    Cause::TooBig => Close::TOO_BIG,
                    Cause::ProtocolError => Close::PROTOCOL_ERROR,
                };
                match (side, cause) {
                    (Side::Client, Cause::Closed(code)) => (to_itself, Close::same(code)),
                    (Side::Client, _) => (to_itself, Close::GOING_AWAY),
                    (Side::Workspace, Cause::Closed(code)) => (Close::from_workspace(code), to_itself),
                    (Side::Workspace, _) => (Close::BACKEND_LOST, to_itself),
                }
            }
            Self::Stopped(stop) => (stop.close(), Close::GOING_AWAY),
        }
    }

    /// What the client's terminal shows last.
    fn last_line(self) -> Option<&'static str> {
        match self {
            Self::Stopped(stop) => stop.last_line(),
            Self::By(..) => None,
        }
    }
}

/// Carries messages until one side ends, or `stop` does. `on_message` sees how each message of the client begins, and
/// `on_output` each of the workspace; `recorders` see all of it. When this returns, both sides were told and closed.
///
/// Most conversations are quiet most of the time: what is rare has memory of its own while it lasts.
pub async fn relay(
    client: Socket,
    workspace: Socket,
    on_message: impl FnMut(&[u8]),
    on_output: impl FnMut(&[u8]),
    recorders: Recorders<'_>,
    stop: impl Future<Output = Stop>,
) -> End {
    let to_client = Outgoing::new(Side::Client, client.writer);
    let to_workspace = Outgoing::new(Side::Workspace, workspace.writer);
    let mut from_client = Incoming::new(
        client.reader,
        client.buffered,
        client.received,
        &to_client,
        &to_workspace,
    );
    from_client.record = recorders.from_client;
    let mut from_workspace = Incoming::new(
        workspace.reader,
        workspace.buffered,
        workspace.received,
        &to_workspace,
        &to_client,
    );
    from_workspace.record = recorders.from_workspace;
    let from_client = from_client.forward(on_message).fuse();
    let from_workspace = from_workspace.forward(on_output).fuse();
    let ended = async {
        tokio::select! {
            cause = to_client.ping(PING_EVERY) => End::By(Side::Client, cause),
            cause = to_workspace.ping(PING_EVERY) => End::By(Side::Workspace, cause),
            stop = stop => End::Stopped(stop),
        }
    };
    tokio::pin!(from_client, from_workspace);
    let (end, unheard) = {
        // It may hold a writer until it is dropped.
        let ended = pin!(ended);
        tokio::select! {
            (reader, end) = &mut from_client => (end, Some(reader)),
            (reader, end) = &mut from_workspace => (end, Some(reader)),
            end = seldom(ended) => (end, None),
        }
    };
    // A connection that is closed while its peer still sends is reset, and the close frame lost.
    let unheard = unheard.filter(|_| matches!(end, End::By(_, Cause::TooBig | Cause::ProtocolError) | End::Stopped(_)));
    // Both directions go on meanwhile, so that a frame in the middle of being written is finished before the close frame, and
    // the answers to the close frames are read.
    let (client_close, workspace_close) = end.closes();
    let goodbye = async {
        tokio::join!(
            to_client.close(end.last_line(), client_close),
            to_workspace.close(None, workspace_close),
            unless_ended(from_client),
            unless_ended(from_workspace),
            discard(unheard),
        )
    };
    let _ = Box::pin(timeout(CLOSE_TIMEOUT, goodbye)).await;
    end
}

/// Hears what a workspace says, in nobody's place, until one of them ends it: `hello` is its first message, and `on_output` sees how
/// each of the workspace's begins. The same rules hold for its frames as in [`relay`].
pub async fn listen(workspace: Socket, hello: &[u8], on_output: impl FnMut(&[u8])) -> End {
    let nobody = Outgoing::new(Side::Client, Box::new(sink()));
    let to_workspace = Outgoing::new(Side::Workspace, workspace.writer);
    if let Err(cause) = to_workspace.send(Opcode::Text, hello).await {
        return End::By(Side::Workspace, cause);
    }
    let from_workspace = Incoming::new(
        workspace.reader,
        workspace.buffered,
        workspace.received,
        &to_workspace,
        &nobody,
    );
    let end = tokio::select! {
        (_, end) = from_workspace.forward(on_output) => end,
        cause = to_workspace.ping(PING_EVERY) => End::By(Side::Workspace, cause),
    };
    let (_, close) = end.closes();
    let _ = timeout(CLOSE_TIMEOUT, to_workspace.close(None, close)).await;
    end
}

/// Says why there is no conversation, and ends the connection.
pub async fn refuse(client: Socket, close: Close) {
    let to_client = Outgoing::new(Side::Client, client.writer);
    let goodbye = async { tokio::join!(to_client.close(None, close), discard(Some(client.reader))) };
    let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
}

async fn unless_ended<F: FusedFuture>(future: Pin<&mut F>) {
    if !future.is_terminated() {
        let _ = future.await;
    }
}

/// Reads to the end, for nobody.
async fn discard(reader: Option<Reader>) {
    if let Some(mut reader) = reader {
        let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
