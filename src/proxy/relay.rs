//! Frames of one WebSocket become frames of the other, both ways, until one side or `stop` ends it.
//!
//! A frame is passed on as it came: no message is gathered, so memory is bounded by one frame each way, and a reader waits while
//! the other side's writer does (backpressure). Sizes are counted over the fragments of a message.

use super::MAX_MESSAGE;
use super::close::Close;
use super::stop::Stop;
use fastwebsockets::{Frame, OpCode, Payload, WebSocket, WebSocketError, WebSocketRead, WebSocketWrite};
use futures::FutureExt;
use futures::future::FusedFuture;
use std::convert::Infallible;
use std::future::ready;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio::sync::Mutex;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Keeps load balancers from closing a quiet connection, and finds out when the client is gone: two pings without any
/// frame from the client end the conversation.
const PING_EVERY: Duration = Duration::from_secs(25);
/// For the close handshake. A peer that does not answer by then is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// RFC 6455, section 5.5.
const MAX_CONTROL: usize = 125;

/// How a conversation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    ClientClosed(Option<u16>),
    WorkspaceClosed(Option<u16>),
    /// The connection ended without a close frame.
    ClientLost,
    WorkspaceLost,
    /// The client answers no pings.
    ClientSilent,
    ClientTooBig,
    WorkspaceTooBig,
    ClientProtocolError,
    WorkspaceProtocolError,
    Stopped(Stop),
}

impl End {
    /// The word for logs and audit lines.
    pub fn reason(self) -> &'static str {
        match self {
            Self::ClientClosed(_) => "client_closed",
            Self::WorkspaceClosed(_) => "workspace_closed",
            Self::ClientLost => "client_lost",
            Self::WorkspaceLost => "workspace_lost",
            Self::ClientSilent => "client_silent",
            Self::ClientTooBig => "client_message_too_big",
            Self::WorkspaceTooBig => "workspace_message_too_big",
            Self::ClientProtocolError => "client_protocol_error",
            Self::WorkspaceProtocolError => "workspace_protocol_error",
            Self::Stopped(stop) => stop.reason(),
        }
    }

    /// Whether it was the client that ended it, or was lost.
    pub fn is_of_client(self) -> bool {
        matches!(self, Self::ClientClosed(_) | Self::ClientLost | Self::ClientSilent)
    }

    /// The close frames for the client and for the workspace.
    fn closes(self) -> (Close, Close) {
        match self {
            Self::ClientClosed(code) => (Close::same(code), Close::same(code)),
            Self::WorkspaceClosed(code) => (Close::from_workspace(code), Close::same(code)),
            Self::ClientLost | Self::ClientSilent => (Close::GOING_AWAY, Close::GOING_AWAY),
            Self::WorkspaceLost => (Close::BACKEND_LOST, Close::GOING_AWAY),
            Self::ClientTooBig => (Close::TOO_BIG, Close::GOING_AWAY),
            Self::WorkspaceTooBig => (Close::BACKEND_LOST, Close::TOO_BIG),
            Self::ClientProtocolError => (Close::PROTOCOL_ERROR, Close::GOING_AWAY),
            Self::WorkspaceProtocolError => (Close::BACKEND_LOST, Close::PROTOCOL_ERROR),
            Self::Stopped(stop) => (stop.close(), Close::GOING_AWAY),
        }
    }

    /// What the client's terminal shows last.
    fn last_line(self) -> Option<&'static str> {
        match self {
            Self::Stopped(stop) => stop.last_line(),
            _ => None,
        }
    }
}

/// How the reading of one side ended.
enum Ended {
    Closed(Option<u16>),
    Lost,
    TooBig,
    ProtocolError,
    /// The other side takes nothing any more.
    Unwritable,
}

impl Ended {
    fn of_client(self) -> End {
        match self {
            Self::Closed(code) => End::ClientClosed(code),
            Self::Lost => End::ClientLost,
            Self::TooBig => End::ClientTooBig,
            Self::ProtocolError => End::ClientProtocolError,
            Self::Unwritable => End::WorkspaceLost,
        }
    }

    fn of_workspace(self) -> End {
        match self {
            Self::Closed(code) => End::WorkspaceClosed(code),
            Self::Lost => End::WorkspaceLost,
            Self::TooBig => End::WorkspaceTooBig,
            Self::ProtocolError => End::WorkspaceProtocolError,
            Self::Unwritable => End::ClientLost,
        }
    }
}

/// Where the frames for one side go.
struct Outgoing<S> {
    frames: WebSocketWrite<WriteHalf<S>>,
    /// Whether fragments of a message have yet to come: no other message may begin between them (RFC 6455, section 5.4).
    is_amid_message: bool,
}

type Writer<S> = Mutex<Outgoing<S>>;

/// Carries messages until one side ends, or `stop` does. `on_message` sees the first frame of each message of the client, and
/// `on_output` of each message of the workspace.
/// When this returns, both sides were told and closed.
pub async fn relay<C, W>(
    client: WebSocket<C>,
    workspace: WebSocket<W>,
    on_message: impl FnMut(&[u8]),
    on_output: impl FnMut(&[u8]),
    stop: impl Future<Output = Stop>,
) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    W: AsyncRead + AsyncWrite + Unpin,
{
    let (client_reader, client_writer) = halves(client);
    let (workspace_reader, workspace_writer) = halves(workspace);
    let heard = AtomicBool::new(true);
    let from_client = forward(
        client_reader,
        &client_writer,
        &workspace_writer,
        Some(&heard),
        on_message,
    )
    .fuse();
    let from_workspace = forward(workspace_reader, &workspace_writer, &client_writer, None, on_output).fuse();
    tokio::pin!(from_client, from_workspace);
    let end = tokio::select! {
        ended = &mut from_client => ended.of_client(),
        ended = &mut from_workspace => ended.of_workspace(),
        () = ping(&client_writer, &heard) => End::ClientSilent,
        stop = stop => End::Stopped(stop),
    };
    // Both directions go on meanwhile, so that a frame in the middle of being written is finished before the close frame, and
    // the answers to the close frames are read.
    let (to_client, to_workspace) = end.closes();
    let goodbye = async {
        tokio::join!(
            say(&client_writer, end.last_line(), to_client),
            say(&workspace_writer, None, to_workspace),
            unless_ended(from_client),
            unless_ended(from_workspace),
        )
    };
    let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
    end
}

async fn unless_ended<F: FusedFuture>(future: std::pin::Pin<&mut F>) {
    if !future.is_terminated() {
        let _ = future.await;
    }
}

fn halves<S: AsyncRead + AsyncWrite + Unpin>(socket: WebSocket<S>) -> (WebSocketRead<ReadHalf<S>>, Writer<S>) {
    let (mut reader, writer) = socket.split(split);
    // Answers to control frames are given below, one at a time with all other writes.
    reader.set_auto_close(false);
    reader.set_auto_pong(false);
    // The library refuses a frame of exactly its limit.
    reader.set_max_message_size(MAX_MESSAGE + 1);
    let outgoing = Outgoing {
        frames: writer,
        is_amid_message: false,
    };
    (reader, Mutex::new(outgoing))
}

async fn forward<S, T>(
    mut reader: WebSocketRead<ReadHalf<S>>,
    back: &Writer<S>,
    to: &Writer<T>,
    heard: Option<&AtomicBool>,
    mut on_message: impl FnMut(&[u8]),
) -> Ended
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    // The bytes of the message whose last fragment has not come yet.
    let mut unfinished: Option<usize> = None;
    loop {
        let frame = match reader.read_frame(&mut |_| ready(Ok::<_, Infallible>(()))).await {
            Ok(frame) => frame,
            Err(WebSocketError::FrameTooLarge) => return Ended::TooBig,
            Err(WebSocketError::UnexpectedEOF | WebSocketError::IoError(_)) => return Ended::Lost,
            Err(_) => return Ended::ProtocolError,
        };
        if let Some(heard) = heard {
            heard.store(true, Ordering::Relaxed);
        }
        let before = match (frame.opcode, unfinished) {
            (OpCode::Text | OpCode::Binary, None) => {
                on_message(&frame.payload);
                0
            }
            (OpCode::Continuation, Some(bytes)) => bytes,
            (OpCode::Text | OpCode::Binary | OpCode::Continuation, _) => return Ended::ProtocolError,
            (OpCode::Ping, _) => {
                if write(back, Frame::pong(frame.payload)).await.is_err() {
                    return Ended::Lost;
                }
                continue;
            }
            (OpCode::Pong, _) if frame.payload.len() <= MAX_CONTROL => continue,
            (OpCode::Pong, _) => return Ended::ProtocolError,
            (OpCode::Close, _) => {
                return Close::received(&frame.payload).map_or(Ended::ProtocolError, Ended::Closed);
            }
        };
        let bytes = before + frame.payload.len();
        if bytes > MAX_MESSAGE {
            return Ended::TooBig;
        }
        unfinished = (!frame.fin).then_some(bytes);
        // Without the mask that it came with: the writer makes its own when its role wants one.
        let frame = Frame::new(frame.fin, frame.opcode, None, frame.payload);
        if write(to, frame).await.is_err() {
            return Ended::Unwritable;
        }
    }
}

async fn ping<S: AsyncRead + AsyncWrite + Unpin>(client: &Writer<S>, heard: &AtomicBool) {
    let mut ticks = interval(PING_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if !heard.swap(false, Ordering::Relaxed) {
            return;
        }
        let ping = Frame::new(true, OpCode::Ping, None, Payload::Borrowed(&[]));
        // A client that takes nothing is found by the next tick at the latest.
        if !matches!(timeout(PING_EVERY, write(client, ping)).await, Ok(Ok(()))) {
            return;
        }
    }
}

/// Sends a close frame, and before it a line of output. An error is no event: the connection is ended anyway.
async fn say<S: AsyncRead + AsyncWrite + Unpin>(writer: &Writer<S>, line: Option<&str>, close: Close) {
    let mut outgoing = writer.lock().await;
    if let Some(line) = line.filter(|_| !outgoing.is_amid_message) {
        let _ = outgoing
            .write(Frame::binary(Payload::Owned(output(line).into_bytes())))
            .await;
    }
    let _ = outgoing.write(Frame::close(close.code, close.reason.as_bytes())).await;
}

/// A line as ttyd would send it. It comes below whatever the screen shows, in the default colours: the cursor may be anywhere, and
/// scrolling confined to a part of the screen (ECMA-48: SGR, CUP; DEC: DECSTBM).
fn output(line: &str) -> String {
    format!("0\x1b[m\x1b[r\x1b[999;1H\r\n{line}\r\n")
}

async fn write<S: AsyncRead + AsyncWrite + Unpin>(writer: &Writer<S>, frame: Frame<'_>) -> Result<(), WebSocketError> {
    writer.lock().await.write(frame).await
}

impl<S: AsyncRead + AsyncWrite + Unpin> Outgoing<S> {
    async fn write(&mut self, frame: Frame<'_>) -> Result<(), WebSocketError> {
        if matches!(frame.opcode, OpCode::Text | OpCode::Binary | OpCode::Continuation) {
            self.is_amid_message = !frame.fin;
        }
        self.frames.write_frame(frame).await?;
        self.frames.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::status::StopReason;
    use fastwebsockets::Role;
    use std::future::pending;
    use std::sync::Mutex as StdMutex;
    use tokio::io::{DuplexStream, duplex};
    use tokio::task::JoinHandle;

    type Peer = WebSocket<DuplexStream>;

    struct Conversation {
        client: Peer,
        workspace: Peer,
        end: JoinHandle<End>,
    }

    fn conversation(stop: impl Future<Output = Stop> + Send + 'static) -> Conversation {
        let (client, client_side) = duplex(64 * 1024);
        let (workspace, workspace_side) = duplex(64 * 1024);
        let end = tokio::spawn(async move {
            let client = WebSocket::after_handshake(client_side, Role::Server);
            let workspace = WebSocket::after_handshake(workspace_side, Role::Client);
            relay(client, workspace, |_| (), |_| (), stop).await
        });
        let mut peers = [
            WebSocket::after_handshake(client, Role::Client),
            WebSocket::after_handshake(workspace, Role::Server),
        ];
        for peer in &mut peers {
            peer.set_auto_close(false);
        }
        let [client, workspace] = peers;
        Conversation { client, workspace, end }
    }

    fn binary(fin: bool, opcode: OpCode, bytes: usize) -> Frame<'static> {
        Frame::new(fin, opcode, None, Payload::Owned(vec![b'a'; bytes]))
    }

    /// The code of the close frame that a peer gets next.
    async fn closed(peer: &mut Peer) -> Option<u16> {
        loop {
            let frame = peer.read_frame().await.unwrap();
            if frame.opcode == OpCode::Close {
                return Close::received(&frame.payload).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn messages_pass_as_they_came() {
        let mut talk = conversation(pending());
        talk.client
            .write_frame(Frame::new(false, OpCode::Binary, None, Payload::Borrowed(b"0l")))
            .await
            .unwrap();
        talk.client
            .write_frame(Frame::new(true, OpCode::Continuation, None, Payload::Borrowed(b"s\r")))
            .await
            .unwrap();
        let first = talk.workspace.read_frame().await.unwrap();
        assert_eq!(
            (first.fin, first.opcode, &*first.payload),
            (false, OpCode::Binary, &b"0l"[..])
        );
        let second = talk.workspace.read_frame().await.unwrap();
        assert_eq!((second.fin, &*second.payload), (true, &b"s\r"[..]));
        talk.workspace
            .write_frame(Frame::binary(Payload::Borrowed(b"0out")))
            .await
            .unwrap();
        assert_eq!(&*talk.client.read_frame().await.unwrap().payload, b"0out");
        talk.client.write_frame(Frame::close(1000, b"")).await.unwrap();
        assert_eq!(closed(&mut talk.workspace).await, Some(1000));
        assert_eq!(talk.end.await.unwrap(), End::ClientClosed(Some(1000)));
    }

    #[tokio::test]
    async fn a_message_of_one_mebibyte_passes_and_one_byte_more_does_not() {
        let talk = conversation(pending());
        let (mut client, mut workspace) = (talk.client, talk.workspace);
        let writing = tokio::spawn(async move {
            client
                .write_frame(binary(true, OpCode::Binary, MAX_MESSAGE))
                .await
                .unwrap();
            // Counted over the fragments.
            client
                .write_frame(binary(false, OpCode::Binary, MAX_MESSAGE / 2))
                .await
                .unwrap();
            client
                .write_frame(binary(true, OpCode::Continuation, MAX_MESSAGE / 2 + 1))
                .await
                .unwrap();
            closed(&mut client).await
        });
        assert_eq!(workspace.read_frame().await.unwrap().payload.len(), MAX_MESSAGE);
        assert_eq!(closed(&mut workspace).await, Some(1001));
        drop(workspace);
        assert_eq!(writing.await.unwrap(), Some(1009));
        assert_eq!(talk.end.await.unwrap(), End::ClientTooBig);
    }

    #[tokio::test]
    async fn frames_out_of_turn_end_it() {
        for (first, second) in [(None, OpCode::Continuation), (Some(OpCode::Binary), OpCode::Text)] {
            let mut talk = conversation(pending());
            if let Some(first) = first {
                talk.client.write_frame(binary(false, first, 1)).await.unwrap();
            }
            talk.client.write_frame(binary(true, second, 1)).await.unwrap();
            assert_eq!(closed(&mut talk.client).await, Some(1002));
            drop(talk.workspace);
            assert_eq!(talk.end.await.unwrap(), End::ClientProtocolError);
        }
    }

    #[tokio::test]
    async fn a_workspace_can_end_the_conversation_but_no_session() {
        let mut talk = conversation(pending());
        talk.workspace
            .write_frame(Frame::close(4401, b"sign in at other.test"))
            .await
            .unwrap();
        assert_eq!(closed(&mut talk.client).await, Some(1011));
        let Conversation { client, workspace, end } = talk;
        drop((client, workspace));
        assert_eq!(end.await.unwrap(), End::WorkspaceClosed(Some(4401)));
    }

    #[tokio::test]
    async fn an_expired_session_and_a_shutdown_have_their_own_codes() {
        for (stop, code) in [(Stop::SessionExpired, 4401), (Stop::Shutdown, 1012)] {
            let mut talk = conversation(async move { stop });
            assert_eq!(closed(&mut talk.client).await, Some(code));
            let Conversation { client, workspace, end } = talk;
            drop((client, workspace));
            assert_eq!(end.await.unwrap(), End::Stopped(stop));
        }
    }

    #[tokio::test]
    async fn a_stop_of_the_workspace_is_told_in_the_terminal_but_not_amid_a_message() {
        for amid_message in [false, true] {
            let (stop, stopping) = tokio::sync::oneshot::channel();
            let mut talk = conversation(async move { stopping.await.unwrap() });
            talk.workspace
                .write_frame(binary(!amid_message, OpCode::Binary, 3))
                .await
                .unwrap();
            assert_eq!(&*talk.client.read_frame().await.unwrap().payload, b"aaa");
            stop.send(Stop::Workspace(StopReason::Restart)).unwrap();
            if !amid_message {
                let told = talk.client.read_frame().await.unwrap();
                let text = String::from_utf8(told.payload.to_vec()).unwrap();
                assert!(told.fin && told.opcode == OpCode::Binary);
                assert!(
                    text.starts_with("0\x1b[") && text.ends_with("asked for it.\r\n"),
                    "{text:?}"
                );
            }
            let close = talk.client.read_frame().await.unwrap();
            assert_eq!((close.opcode, &close.payload[2..]), (OpCode::Close, &b"restart"[..]));
            assert_eq!(Close::received(&close.payload), Ok(Some(4410)));
            let Conversation { client, workspace, end } = talk;
            drop((client, workspace));
            assert_eq!(end.await.unwrap().reason(), "workspace_restart");
        }
    }

    #[tokio::test]
    async fn pings_are_answered_here_and_messages_seen() {
        let (client, client_side) = duplex(4096);
        let (workspace, workspace_side) = duplex(4096);
        let seen = std::sync::Arc::new(StdMutex::new(Vec::new()));
        let sink = std::sync::Arc::clone(&seen);
        let end = tokio::spawn(async move {
            let client = WebSocket::after_handshake(client_side, Role::Server);
            let workspace = WebSocket::after_handshake(workspace_side, Role::Client);
            relay(
                client,
                workspace,
                |frame| sink.lock().unwrap().push(frame.to_vec()),
                |_| (),
                pending(),
            )
            .await
        });
        let mut client = WebSocket::after_handshake(client, Role::Client);
        client
            .write_frame(Frame::new(true, OpCode::Ping, None, Payload::Borrowed(b"p")))
            .await
            .unwrap();
        let pong = client.read_frame().await.unwrap();
        assert_eq!((pong.opcode, &*pong.payload), (OpCode::Pong, &b"p"[..]));
        client
            .write_frame(Frame::binary(Payload::Borrowed(b"0x")))
            .await
            .unwrap();
        drop(client);
        let mut workspace = WebSocket::after_handshake(workspace, Role::Server);
        assert_eq!(&*workspace.read_frame().await.unwrap().payload, b"0x");
        drop(workspace);
        assert_eq!(end.await.unwrap(), End::ClientLost);
        assert_eq!(*seen.lock().unwrap(), [b"0x".to_vec()]);
    }
}
