//! Frames of one WebSocket become frames of the other, both ways, until one side or `stop` ends it.
//!
//! Only heads of frames are read: whole frames pass as the bytes that they came as, many in one write. Memory is bounded by
//! a buffer each way, whatever the size of a frame, and a reader waits while the other side's writer does (backpressure).
//! Control frames end here, at either side, and sizes are counted over the fragments of a message. So do a client's heartbeats,
//! which no workspace sees: see [`is_heartbeat`].

use super::Side;
use super::buffer::{self, Buffer};
use super::close::Close;
use super::frame::{self, Head, MAX_CONTROL, Opcode, Sequence, Violation};
use super::heartbeat::is_heartbeat;
use super::socket::{OnBytes, Reader, Socket, Writer};
use super::stop::Stop;
use futures::FutureExt;
use futures::future::FusedFuture;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Keeps load balancers from closing a quiet connection, and finds out when a side is gone: two pings without any
/// frame from it end the conversation.
const PING_EVERY: Duration = Duration::from_secs(25);
/// For the close handshake. A peer that does not answer by then is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Control frames and heartbeats of one side in one second. They cost work and move nothing.
const MAX_CONTROLS: u32 = 100;
/// Of each message, how many bytes an observer sees.
const SEEN: usize = 1024;

/// Some bytes of a message, in their order and without their mask.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// What kind of message begins with it.
    pub begins: Option<Kind>,
    pub payload: &'a [u8],
    /// Whether the message ends with it.
    pub is_last: bool,
}

/// RFC 6455, section 5.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    Binary,
}

/// Is shown every piece of every message, before it is passed on.
pub type OnPiece<'a> = Box<dyn FnMut(Piece<'_>) + Send + 'a>;

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
    TooBig,
    ProtocolError,
}

impl End {
    /// The word for logs and audit lines.
    pub fn reason(self) -> &'static str {
        use Cause::{Closed, Lost, ProtocolError, Silent, TooBig};
        use Side::{Client, Workspace};
        match self {
            Self::By(Client, Closed(_)) => "client_closed",
            Self::By(Client, Lost) => "client_lost",
            Self::By(Client, Silent) => "client_silent",
            Self::By(Client, TooBig) => "client_message_too_big",
            Self::By(Client, ProtocolError) => "client_protocol_error",
            Self::By(Workspace, Closed(_)) => "workspace_closed",
            Self::By(Workspace, Lost) => "workspace_lost",
            Self::By(Workspace, Silent) => "workspace_silent",
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
            Self::By(Side::Client, Cause::Closed(_) | Cause::Lost | Cause::Silent)
        )
    }

    /// The close frames for the client and for the workspace.
    fn closes(self) -> (Close, Close) {
        match self {
            Self::By(side, cause) => {
                let to_itself = match cause {
                    Cause::Closed(code) => Close::same(code),
                    Cause::Lost | Cause::Silent => Close::GOING_AWAY,
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

/// One side as it is written to, a whole frame at a time.
struct Outgoing {
    to: Side,
    writer: Mutex<Writer>,
    /// Whether fragments of a message have yet to come: no other message may begin between them (RFC 6455, section 5.4).
    is_amid_message: AtomicBool,
    /// Whether it has sent anything since the last ping.
    heard: AtomicBool,
}

impl Outgoing {
    fn new(to: Side, writer: Writer) -> Self {
        Self {
            to,
            writer: Mutex::new(writer),
            is_amid_message: AtomicBool::new(false),
            heard: AtomicBool::new(true),
        }
    }

    /// A control frame of our own, which may stand between the fragments of a message.
    async fn send(&self, opcode: Opcode, payload: &[u8]) -> io::Result<()> {
        let frame = self.encode(opcode, payload);
        let mut writer = self.writer.lock().await;
        writer.write_all(&frame).await?;
        writer.flush().await
    }

    /// Sends a heartbeat back. Not while something else is being sent, or is half sent: that is a sign of life too, and the side
    /// that asks must not wait for it.
    async fn echo(&self, payload: &[u8]) -> io::Result<()> {
        let Ok(mut writer) = self.writer.try_lock() else {
            return Ok(());
        };
        if self.is_amid_message.load(Ordering::Relaxed) {
            return Ok(());
        }
        writer.write_all(&self.encode(Opcode::Binary, payload)).await?;
        writer.flush().await
    }

    /// To a server frames are masked (RFC 6455, section 5.3).
    fn encode(&self, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        frame::encode(opcode, payload, (self.to == Side::Workspace).then(rand::random))
    }

    /// Sends a close frame, and before it a line of output. An error is no event: the connection is ended anyway.
    async fn close(&self, line: Option<&str>, close: Close) {
        let mut writer = self.writer.lock().await;
        let mut frames = Vec::new();
        // Asked with the lock held: a message may just have begun.
        if let Some(line) = line.filter(|_| !self.is_amid_message.load(Ordering::Relaxed)) {
            frames.extend(self.encode(Opcode::Binary, output(line).as_bytes()));
        }
        let payload = [&close.code.to_be_bytes(), close.reason.as_bytes()].concat();
        frames.extend(self.encode(Opcode::Close, &payload));
        let _ = writer.write_all(&frames).await;
        // Nothing may follow.
        let _ = writer.shutdown().await;
    }

    /// Ends when the side does not answer.
    async fn ping(&self, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if !self.heard.swap(false, Ordering::Relaxed) {
                return;
            }
            // A side that takes nothing is found by the next tick at the latest.
            if !matches!(timeout(every, self.send(Opcode::Ping, &[])).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}

/// Carries messages until one side ends, or `stop` does. `on_message` sees how each message of the client begins, and
/// `on_output` each of the workspace; `recorders` see all of it. When this returns, both sides were told and closed.
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
        &client.buffered,
        client.received,
        &to_client,
        &to_workspace,
    );
    from_client.record = recorders.from_client;
    let mut from_workspace = Incoming::new(
        workspace.reader,
        &workspace.buffered,
        workspace.received,
        &to_workspace,
        &to_client,
    );
    from_workspace.record = recorders.from_workspace;
    let from_client = from_client.forward(on_message).fuse();
    let from_workspace = from_workspace.forward(on_output).fuse();
    tokio::pin!(from_client, from_workspace);
    let (end, unheard) = tokio::select! {
        (reader, side, cause) = &mut from_client => (End::By(side, cause), Some(reader)),
        (reader, side, cause) = &mut from_workspace => (End::By(side, cause), Some(reader)),
        () = to_client.ping(PING_EVERY) => (End::By(Side::Client, Cause::Silent), None),
        () = to_workspace.ping(PING_EVERY) => (End::By(Side::Workspace, Cause::Silent), None),
        stop = stop => (End::Stopped(stop), None),
    };
    // A connection that is closed while its peer still sends is reset, and the close frame lost.
    let unheard = unheard.filter(|_| matches!(end, End::By(_, Cause::TooBig | Cause::ProtocolError)));
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
    let _ = timeout(CLOSE_TIMEOUT, goodbye).await;
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

/// A line as ttyd would send it. It comes below whatever the screen shows, in the default colours: the cursor may be anywhere, and
/// scrolling confined to a part of the screen (ECMA-48: SGR, CUP; DEC: DECSTBM).
fn output(line: &str) -> String {
    format!("0\x1b[m\x1b[r\x1b[999;1H\r\n{line}\r\n")
}

/// Reads to the end, for nobody.
async fn discard(reader: Option<Reader>) {
    if let Some(mut reader) = reader {
        let _ = tokio::io::copy(&mut reader, &mut tokio::io::sink()).await;
    }
}

/// One side as it is read from.
struct Incoming<'a> {
    reader: Reader,
    received: Option<OnBytes>,
    buffer: Buffer,
    sequence: Sequence,
    record: Option<OnPiece<'a>>,
    back: &'a Outgoing,
    to: &'a Outgoing,
    controls: u32,
    controls_since: Instant,
}

/// What stands behind the whole data frames that were read.
enum Next {
    /// Too little of a frame to do anything about.
    Part,
    /// What ends here: a control frame, or a heartbeat.
    Control(Head),
    /// A data frame that is larger than a buffer.
    Large(Head),
    Violation(Violation),
}

impl<'a> Incoming<'a> {
    fn new(reader: Reader, buffered: &[u8], received: Option<OnBytes>, back: &'a Outgoing, to: &'a Outgoing) -> Self {
        if let Some(received) = &received {
            received(buffered.len() as u64);
        }
        Self {
            reader,
            received,
            buffer: Buffer::new(buffered),
            sequence: Sequence::default(),
            record: None,
            back,
            to,
            controls: 0,
            controls_since: Instant::now(),
        }
    }

    /// Passes on what comes; gives who ended it, and how, and what is left to read.
    async fn forward(mut self, mut seen: impl FnMut(&[u8])) -> (Reader, Side, Cause) {
        let (from, to) = (self.back.to, self.to.to);
        loop {
            let (whole, next) = self.scan(&mut seen);
            if whole > 0 {
                // A large frame may belong to the same message.
                let amid_message = matches!(next, Next::Large(_)) || self.sequence.is_amid_message();
                if self.pass(whole, amid_message).await.is_err() {
                    return (self.reader, to, Cause::Lost);
                }
            }
            let done = match next {
                Next::Part => self.read().await,
                Next::Large(head) => self.pass_large(&head).await,
                Next::Control(head) => self.answer(&head).await.map_err(|cause| (from, cause)),
                Next::Violation(Violation::Protocol) => Err((from, Cause::ProtocolError)),
                Next::Violation(Violation::TooBig) => Err((from, Cause::TooBig)),
            };
            if let Err((side, cause)) = done {
                return (self.reader, side, cause);
            }
        }
    }

    /// How many bytes of whole data frames were read, and what comes behind them.
    fn scan(&mut self, seen: &mut impl FnMut(&[u8])) -> (usize, Next) {
        let mut whole = 0;
        loop {
            let rest = &self.buffer.filled()[whole..];
            let head = match Head::parse(rest, self.back.to) {
                Ok(Some(head)) => head,
                Ok(None) => return (whole, Next::Part),
                Err(violation) => return (whole, Next::Violation(violation)),
            };
            let is_large = head.total() > buffer::LARGE;
            let needed = if is_large { head.length + SEEN } else { head.total() };
            if rest.len() < needed {
                return (whole, Next::Part);
            }
            if head.opcode.is_control() || (is_heartbeat(&head, rest) && !self.sequence.is_amid_message()) {
                return (whole, Next::Control(head));
            }
            match self.sequence.take(&head) {
                Ok(true) => show(&head, rest, seen),
                Ok(false) => {}
                Err(violation) => return (whole, Next::Violation(violation)),
            }
            if is_large {
                return (whole, Next::Large(head));
            }
            if let Some(record) = &mut self.record {
                hand_over(record, &head, &rest[..head.total()], 0);
            }
            whole += head.total();
        }
    }

    /// Passes on whole frames.
    async fn pass(&mut self, bytes: usize, amid_message: bool) -> io::Result<()> {
        let mut writer = self.to.writer.lock().await;
        writer.write_all(&self.buffer.filled()[..bytes]).await?;
        writer.flush().await?;
        self.to.is_amid_message.store(amid_message, Ordering::Relaxed);
        drop(writer);
        self.buffer.consume(bytes);
        Ok(())
    }

    async fn read(&mut self) -> Result<(), (Side, Cause)> {
        match self.buffer.fill(&mut self.reader).await {
            Ok(read @ 1..) => {
                if let Some(received) = &self.received {
                    received(read as u64);
                }
                self.back.heard.store(true, Ordering::Relaxed);
                Ok(())
            }
            Ok(0) | Err(_) => Err((self.back.to, Cause::Lost)),
        }
    }

    /// Passes a frame on piece by piece. Nothing else is written meanwhile: frames don't stand inside of each other.
    async fn pass_large(&mut self, head: &Head) -> Result<(), (Side, Cause)> {
        let to = self.to;
        let mut writer = to.writer.lock().await;
        let mut left = head.total();
        loop {
            let piece = self.buffer.filled().len().min(left);
            if let Some(record) = &mut self.record {
                hand_over(record, head, &self.buffer.filled()[..piece], head.total() - left);
            }
            if writer.write_all(&self.buffer.filled()[..piece]).await.is_err() {
                return Err((to.to, Cause::Lost));
            }
            self.buffer.consume(piece);
            left -= piece;
            if left == 0 {
                to.is_amid_message
                    .store(self.sequence.is_amid_message(), Ordering::Relaxed);
                return writer.flush().await.map_err(|_| (to.to, Cause::Lost));
            }
            self.read().await?;
        }
    }

    async fn answer(&mut self, head: &Head) -> Result<(), Cause> {
        let mut payload = [0; MAX_CONTROL];
        let payload = &mut payload[..head.payload];
        payload.copy_from_slice(&self.buffer.filled()[head.length..head.total()]);
        if let Some(mask) = head.mask {
            frame::unmask(payload, mask);
        }
        self.buffer.consume(head.total());
        if self.controls_since.elapsed() > Duration::from_secs(1) {
            (self.controls, self.controls_since) = (0, Instant::now());
        }
        self.controls += 1;
        if self.controls > MAX_CONTROLS {
            return Err(Cause::ProtocolError);
        }
        match head.opcode {
            Opcode::Close => Err(Close::received(payload).map_or(Cause::ProtocolError, Cause::Closed)),
            Opcode::Ping => self.back.send(Opcode::Pong, payload).await.map_err(|_| Cause::Lost),
            Opcode::Binary => self.back.echo(payload).await.map_err(|_| Cause::Lost),
            _ => Ok(()),
        }
    }
}

/// Shows the beginning of a frame's payload, without its mask.
fn show(head: &Head, frame: &[u8], seen: &mut impl FnMut(&[u8])) {
    let payload = &frame[head.length..frame.len().min(head.total())];
    let payload = &payload[..payload.len().min(SEEN)];
    match head.mask {
        None => seen(payload),
        Some(mask) => {
            let mut unmasked = [0; SEEN];
            let unmasked = &mut unmasked[..payload.len()];
            unmasked.copy_from_slice(payload);
            frame::unmask(unmasked, mask);
            seen(unmasked);
        }
    }
}

/// Hands the bytes of a frame over to its recorder; the frame's first one is `offset` before them.
fn hand_over(record: &mut OnPiece<'_>, head: &Head, bytes: &[u8], offset: usize) {
    let before = offset.saturating_sub(head.length);
    let payload = &bytes[head.length.saturating_sub(offset).min(bytes.len())..];
    let kind = match head.opcode {
        Opcode::Text => Some(Kind::Text),
        Opcode::Binary => Some(Kind::Binary),
        _ => None,
    };
    let mut piece = Piece {
        begins: kind.filter(|_| offset == 0),
        payload,
        is_last: head.fin && offset + bytes.len() == head.total(),
    };
    let Some(mut mask) = head.mask else {
        return record(piece);
    };
    let mut unmasked = payload.to_vec();
    mask.rotate_left(before % 4);
    frame::unmask(&mut unmasked, mask);
    piece.payload = &unmasked;
    record(piece);
}

#[cfg(test)]
mod tests {
    use super::super::MAX_MESSAGE;
    use super::*;
    use crate::api::status::StopReason;
    use fastwebsockets::{Frame, OpCode, Payload, Role, WebSocket};
    use std::future::pending;
    use std::sync::Mutex as StdMutex;
    use tokio::io::{AsyncReadExt, DuplexStream, duplex};
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
            let (client, workspace) = (Socket::new(client_side), Socket::new(workspace_side));
            relay(client, workspace, |_| (), |_| (), Recorders::default(), stop).await
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
        assert_eq!(
            talk.end.await.unwrap(),
            End::By(Side::Client, Cause::Closed(Some(1000)))
        );
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
        assert_eq!(talk.end.await.unwrap(), End::By(Side::Client, Cause::TooBig));
    }

    #[tokio::test]
    async fn a_heartbeat_is_answered_and_told_to_nobody() {
        let (client, client_side) = duplex(64 * 1024);
        let (workspace, workspace_side) = duplex(64 * 1024);
        let seen = std::sync::Arc::new(StdMutex::new(Vec::new()));
        let (shown, recorded) = (seen.clone(), seen.clone());
        let recorders = Recorders {
            from_client: Some(Box::new(move |piece| {
                recorded.lock().unwrap().push(piece.payload.to_vec())
            })),
            from_workspace: None,
        };
        let end = tokio::spawn(async move {
            let (client, workspace) = (Socket::new(client_side), Socket::new(workspace_side));
            let typed = |frame: &[u8]| shown.lock().unwrap().push(frame.to_vec());
            relay(client, workspace, typed, |_| (), recorders, pending()).await
        });
        let mut client: Peer = WebSocket::after_handshake(client, Role::Client);
        let mut workspace: Peer = WebSocket::after_handshake(workspace, Role::Server);
        client.set_auto_close(false);
        for message in [&b"h1"[..], b"0ls", b"h2", b"hello, but too long to be a heartbeat"] {
            client
                .write_frame(Frame::binary(Payload::Borrowed(message)))
                .await
                .unwrap();
        }
        for answer in [b"h1", b"h2"] {
            assert_eq!(&*client.read_frame().await.unwrap().payload, answer);
        }
        // A workspace has no heartbeats: what it sends is passed on.
        workspace
            .write_frame(Frame::binary(Payload::Borrowed(b"h3")))
            .await
            .unwrap();
        assert_eq!(&*client.read_frame().await.unwrap().payload, b"h3");
        assert_eq!(&*workspace.read_frame().await.unwrap().payload, b"0ls");
        assert!(workspace.read_frame().await.unwrap().payload.starts_with(b"hello"));
        let seen = seen.lock().unwrap().clone();
        assert!(
            seen.iter().all(|bytes| !bytes.starts_with(b"h1")) && seen.len() == 4,
            "{seen:?}"
        );
        // As many as control frames at the most.
        for _ in 0..=MAX_CONTROLS {
            let _ = client.write_frame(Frame::binary(Payload::Borrowed(b"h"))).await;
        }
        assert_eq!(closed(&mut client).await, Some(1002));
        drop((client, workspace));
        assert_eq!(end.await.unwrap(), End::By(Side::Client, Cause::ProtocolError));
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
            assert_eq!(talk.end.await.unwrap(), End::By(Side::Client, Cause::ProtocolError));
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
        assert_eq!(end.await.unwrap(), End::By(Side::Workspace, Cause::Closed(Some(4401))));
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
            relay(
                Socket::new(client_side),
                Socket::new(workspace_side),
                |frame| sink.lock().unwrap().push(frame.to_vec()),
                |_| (),
                Recorders::default(),
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
        assert_eq!(end.await.unwrap(), End::By(Side::Client, Cause::Lost));
        assert_eq!(*seen.lock().unwrap(), [b"0x".to_vec()]);
    }

    /// Writes raw bytes in the client's place, and gives how the conversation ends.
    async fn end_after(bytes: &[u8]) -> End {
        let (mut client, client_side) = duplex(1 << 20);
        let (_workspace, workspace_side) = duplex(1 << 20);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let (client_side, workspace_side) = (Socket::new(client_side), Socket::new(workspace_side));
        relay(
            client_side,
            workspace_side,
            |_| (),
            |_| (),
            Recorders::default(),
            pending(),
        )
        .await
    }

    #[tokio::test]
    async fn what_is_no_frame_of_a_client_ends_it() {
        let unmasked = frame::encode(Opcode::Binary, b"0l", None);
        assert_eq!(end_after(&unmasked).await, End::By(Side::Client, Cause::ProtocolError));
        assert_eq!(
            end_after(b"GET / HTTP/1.1\r\n\r\n").await,
            End::By(Side::Client, Cause::ProtocolError)
        );
        assert_eq!(end_after(&[0x82]).await, End::By(Side::Client, Cause::Lost));
        let ping = frame::encode(Opcode::Ping, b"", Some([1, 2, 3, 4]));
        let few = ping.repeat(MAX_CONTROLS as usize);
        assert_eq!(end_after(&few).await, End::By(Side::Client, Cause::Lost));
        let many = ping.repeat(MAX_CONTROLS as usize + 1);
        assert_eq!(end_after(&many).await, End::By(Side::Client, Cause::ProtocolError));
    }

    #[tokio::test]
    async fn a_side_that_answers_no_ping_is_gone() {
        let (mut peer, side) = duplex(4096);
        let outgoing = Outgoing::new(Side::Client, Socket::new(side).writer);
        outgoing.ping(Duration::from_millis(20)).await;
        assert!(!outgoing.heard.load(Ordering::Relaxed));
        let mut ping = [0; 2];
        peer.read_exact(&mut ping).await.unwrap();
        assert_eq!(ping, [0x89, 0x00]);
    }

    /// However the bytes are cut into pieces, the same frames come out.
    #[tokio::test]
    async fn pieces_do_not_matter() {
        let sizes = [0usize, 1, 125, 126, 1000, 1024, 65_523, 65_536, 70_000, 200_000];
        for piece in [1usize, 7, 1023, 64 * 1024] {
            let (client, client_side) = duplex(1 << 16);
            let (mut workspace, workspace_side) = duplex(1 << 16);
            let relaying = tokio::spawn(async move {
                relay(
                    Socket::new(client_side),
                    Socket::new(workspace_side),
                    |_| (),
                    |_| (),
                    Recorders::default(),
                    pending(),
                )
                .await
            });
            let sizes = if piece == 1 { &sizes[..6] } else { &sizes[..] };
            let mut wire = Vec::new();
            for size in sizes {
                let mut frame = Frame::binary(Payload::Owned(vec![b'x'; *size]));
                let mut encoded = Vec::new();
                wire.extend_from_slice(frame.write(&mut encoded));
                wire.extend(frame::encode(Opcode::Ping, b"p", None));
            }
            let writing = tokio::spawn(async move {
                for piece in wire.chunks(piece) {
                    workspace.write_all(piece).await.unwrap();
                }
                workspace
            });
            let mut client = WebSocket::after_handshake(client, Role::Client);
            client.set_max_message_size(MAX_MESSAGE + 1);
            for size in sizes {
                let frame = client.read_frame().await.unwrap();
                assert_eq!(
                    (frame.opcode, frame.payload.len()),
                    (OpCode::Binary, *size),
                    "pieces of {piece}"
                );
            }
            drop(writing.await.unwrap());
            assert_eq!(relaying.await.unwrap(), End::By(Side::Workspace, Cause::Lost));
        }
    }

    #[tokio::test]
    async fn a_recorder_sees_all_that_is_said() {
        let (client, client_side) = duplex(4096);
        let (workspace, workspace_side) = duplex(4096);
        type Messages = StdMutex<Vec<(Option<Kind>, Vec<u8>)>>;
        let told: [std::sync::Arc<Messages>; 2] = Default::default();
        let recorder = |index: usize| -> Option<OnPiece<'static>> {
            let told = std::sync::Arc::clone(&told[index]);
            let mut is_over = true;
            Some(Box::new(move |piece: Piece<'_>| {
                let mut told = told.lock().unwrap();
                assert_eq!(
                    piece.begins.is_some(),
                    is_over,
                    "a message begins where the one before ended"
                );
                if is_over {
                    told.push((piece.begins, vec![]));
                }
                told.last_mut().unwrap().1.extend_from_slice(piece.payload);
                is_over = piece.is_last;
            }))
        };
        let recorders = Recorders {
            from_client: recorder(0),
            from_workspace: recorder(1),
        };
        let end = tokio::spawn(async move {
            let (client, workspace) = (Socket::new(client_side), Socket::new(workspace_side));
            relay(client, workspace, |_| (), |_| (), recorders, pending()).await
        });
        let mut client = WebSocket::after_handshake(client, Role::Client);
        let mut workspace = WebSocket::after_handshake(workspace, Role::Server);
        let long: Vec<u8> = (0..300_001u32).map(|number| (number % 251) as u8).collect();
        let frames = |long: &[u8]| {
            [
                (true, OpCode::Text, b"{}".to_vec()),
                (false, OpCode::Binary, b"0l".to_vec()),
                (false, OpCode::Continuation, vec![]),
                (true, OpCode::Continuation, long.to_vec()),
                (true, OpCode::Binary, vec![]),
                (true, OpCode::Binary, long.to_vec()),
            ]
        };
        let expected = vec![
            (Some(Kind::Text), b"{}".to_vec()),
            (Some(Kind::Binary), [&b"0l"[..], &long].concat()),
            (Some(Kind::Binary), vec![]),
            (Some(Kind::Binary), long.clone()),
        ];
        for (fin, opcode, payload) in frames(&long) {
            let frame = Frame::new(fin, opcode, None, Payload::Owned(payload));
            let (sent, _) = tokio::join!(client.write_frame(frame), workspace.read_frame());
            sent.unwrap();
        }
        for (fin, opcode, payload) in frames(&long) {
            let frame = Frame::new(fin, opcode, None, Payload::Owned(payload));
            let (sent, _) = tokio::join!(workspace.write_frame(frame), client.read_frame());
            sent.unwrap();
        }
        drop((client, workspace));
        end.await.unwrap();
        for told in &told {
            assert_eq!(*told.lock().unwrap(), expected);
        }
    }

    /// What both sides get, and how it ends, when the client sends `pieces`.
    async fn outcome(pieces: &[&[u8]]) -> (End, Vec<u8>) {
        let (client, client_side) = duplex(1 << 20);
        let (workspace, workspace_side) = duplex(1 << 20);
        let relaying = tokio::spawn(async move {
            let (client, workspace) = (Socket::new(client_side), Socket::new(workspace_side));
            relay(client, workspace, |_| (), |_| (), Recorders::default(), pending()).await
        });
        let (mut from_gateway, mut to_gateway) = tokio::io::split(client);
        let (mut at_workspace, from_workspace) = tokio::io::split(workspace);
        let draining = tokio::spawn(async move { tokio::io::copy(&mut from_gateway, &mut tokio::io::sink()).await });
        let reading = tokio::spawn(async move {
            let mut got = Vec::new();
            let _ = at_workspace.read_to_end(&mut got).await;
            // It hangs up, as the gateway has.
            drop(from_workspace);
            got
        });
        for piece in pieces {
            let _ = to_gateway.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        let _ = to_gateway.shutdown().await;
        let end = relaying.await.unwrap();
        let mut got = reading.await.unwrap();
        draining.abort();
        // The close frame that ends it is masked with what chance gives: two bytes of head, four of mask, two of code.
        got.truncate(got.len().saturating_sub(8));
        (end, got)
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

        /// Frames and what is none, cut anywhere: the same comes out as from one piece.
        #[test]
        fn any_bytes_in_any_pieces_end_the_same(
            frames in proptest::collection::vec((0u8..=255, proptest::collection::vec(0u8..=255, 0..200)), 0..6),
            garbage in proptest::collection::vec(0u8..=255, 0..20),
            cuts in proptest::collection::vec(1usize..60, 1..20),
        ) {
            let mut wire = Vec::new();
            for (first, payload) in &frames {
                let mut frame = frame::encode(Opcode::Binary, payload, Some([1, 2, 3, 4]));
                // Mostly whole messages, now and then anything at all.
                if first % 4 == 0 {
                    frame[0] = *first;
                }
                wire.extend(frame);
            }
            wire.extend(&garbage);
            let (mut pieces, mut rest, mut cuts) = (Vec::new(), &wire[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                pieces.push(piece);
                rest = behind;
            }
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            let (in_pieces, at_once) = runtime.block_on(async { (outcome(&pieces).await, outcome(&[&wire]).await) });
            proptest::prop_assert_eq!(in_pieces, at_once);
        }
    }
}
