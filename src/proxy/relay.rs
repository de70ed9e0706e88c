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
use super::outgoing::{Outgoing, PING_EVERY};
use super::socket::{OnBytes, Reader, Socket};
use super::stop::Stop;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::FusedFuture;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// For the close handshake. A peer that does not answer by then is dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Control frames and heartbeats of one side in one second. They cost work and move nothing.
const MAX_CONTROLS: u32 = 100;
/// Of each message, how many bytes an observer sees.
const SEEN: usize = 1024;
/// Room for what a recorder is shown, from one frame to the next.
const KEPT: usize = 16 << 10;

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
    tokio::pin!(from_client, from_workspace);
    let (end, unheard) = tokio::select! {
        (reader, end) = &mut from_client => (end, Some(reader)),
        (reader, end) = &mut from_workspace => (end, Some(reader)),
        cause = to_client.ping(PING_EVERY) => (End::By(Side::Client, cause), None),
        cause = to_workspace.ping(PING_EVERY) => (End::By(Side::Workspace, cause), None),
        stop = stop => (End::Stopped(stop), None),
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

/// One side as it is read from.
struct Incoming<'a> {
    reader: Reader,
    received: Option<OnBytes>,
    buffer: Buffer,
    sequence: Sequence,
    record: Option<OnPiece<'a>>,
    /// Room for what a recorder is shown.
    unmasked: Vec<u8>,
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
    /// A frame that its recorder does not take, maybe in the middle of a message.
    Refused {
        amid_message: bool,
    },
}

impl<'a> Incoming<'a> {
    /// `buffered` is copied, however little it is, and dropped: it keeps the whole room that the handshake was read into.
    fn new(reader: Reader, buffered: Bytes, received: Option<OnBytes>, back: &'a Outgoing, to: &'a Outgoing) -> Self {
        if let Some(received) = &received {
            received(buffered.len() as u64);
        }
        Self {
            reader,
            received,
            buffer: Buffer::new(back.to, &buffered),
            sequence: Sequence::default(),
            record: None,
            unmasked: Vec::new(),
            back,
            to,
            controls: 0,
            controls_since: Instant::now(),
        }
    }

    /// Passes on what comes; gives how that ended, and what is left to read.
    #[expect(clippy::manual_async_fn, reason = "an async fn has room for its arguments twice")]
    fn forward(mut self, mut seen: impl FnMut(&[u8])) -> impl Future<Output = (Reader, End)> {
        async move {
            let (from, to) = (self.back.to, self.to.to);
            loop {
                let (whole, next) = self.scan(&mut seen);
                if whole > 0 {
                    // A large frame may belong to the same message.
                    let amid_message = match next {
                        Next::Large(_) => true,
                        Next::Refused { amid_message } => amid_message,
                        _ => self.sequence.is_amid_message(),
                    };
                    if let Err(cause) = self.pass(whole, amid_message).await {
                        return (self.reader, End::By(to, cause));
                    }
                }
                let done = match next {
                    Next::Part => self.read().await,
                    Next::Large(head) => Box::pin(self.pass_large(&head)).await,
                    Next::Control(head) => Box::pin(self.answer(&head)).await.map_err(|cause| End::By(from, cause)),
                    Next::Violation(Violation::Protocol) => Err(End::By(from, Cause::ProtocolError)),
                    Next::Violation(Violation::TooBig) => Err(End::By(from, Cause::TooBig)),
                    Next::Refused { .. } => Err(End::Stopped(Stop::NotRecorded)),
                };
                if let Err(end) = done {
                    return (self.reader, end);
                }
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
            let amid_message = self.sequence.is_amid_message();
            match self.sequence.take(&head) {
                Ok(true) => show(&head, rest, seen),
                Ok(false) => {}
                Err(violation) => return (whole, Next::Violation(violation)),
            }
            if is_large {
                return (whole, Next::Large(head));
            }
            if let Some(record) = &mut self.record
                && !hand_over(record, &mut self.unmasked, &head, &rest[..head.total()], 0)
            {
                return (whole, Next::Refused { amid_message });
            }
            whole += head.total();
        }
    }

    /// Passes on whole frames.
    async fn pass(&mut self, bytes: usize, amid_message: bool) -> Result<(), Cause> {
        let mut writer = self.to.lock(self.back).await;
        self.to
            .write(&mut writer, &self.buffer.filled()[..bytes], Some(self.back))
            .await?;
        self.to.flush(&mut writer, Some(self.back)).await?;
        self.to.is_amid_message.store(amid_message, Ordering::Relaxed);
        drop(writer);
        self.buffer.consume(bytes);
        Ok(())
    }

    async fn read(&mut self) -> Result<(), End> {
        match self.buffer.fill(&mut self.reader).await {
            Ok(read @ 1..) => {
                if let Some(received) = &self.received {
                    received(read as u64);
                }
                self.back.heard.store(true, Ordering::Relaxed);
                Ok(())
            }
            Ok(0) | Err(_) => Err(End::By(self.back.to, Cause::Lost)),
        }
    }

    /// Passes a frame on piece by piece. Nothing else is written meanwhile: frames don't stand inside of each other.
    async fn pass_large(&mut self, head: &Head) -> Result<(), End> {
        let (to, back) = (self.to, self.back);
        let mut writer = to.lock(back).await;
        let mut left = head.total();
        loop {
            let piece = self.buffer.filled().len().min(left);
            let offset = head.total() - left;
            if let Some(record) = &mut self.record
                && !hand_over(record, &mut self.unmasked, head, &self.buffer.filled()[..piece], offset)
                && offset == 0
            {
                return Err(End::Stopped(Stop::NotRecorded));
            }
            let passing = to.write(&mut writer, &self.buffer.filled()[..piece], Some(back));
            passing.await.map_err(|cause| End::By(to.to, cause))?;
            self.buffer.consume(piece);
            left -= piece;
            if left == 0 {
                to.is_amid_message
                    .store(self.sequence.is_amid_message(), Ordering::Relaxed);
                let flushing = to.flush(&mut writer, Some(back));
                return flushing.await.map_err(|cause| End::By(to.to, cause));
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
            Opcode::Ping => self.back.send(Opcode::Pong, payload).await,
            Opcode::Binary => self.back.echo(payload).await,
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

/// Hands the bytes of a frame over to its recorder, without their mask; the frame's first one is `offset` before them. Says whether the
/// frame may pass.
fn hand_over(record: &mut OnPiece<'_>, unmasked: &mut Vec<u8>, head: &Head, bytes: &[u8], offset: usize) -> bool {
    let before = offset.saturating_sub(head.length);
    let payload = &bytes[head.length.saturating_sub(offset).min(bytes.len())..];
    let kind = match head.opcode {
        Opcode::Text => Some(Kind::Text),
        Opcode::Binary => Some(Kind::Binary),
        _ => None,
    };
    let ahead = head.total() - offset - bytes.len();
    let mut piece = Piece {
        begins: kind.filter(|_| offset == 0),
        payload,
        ahead,
        is_last: head.fin && ahead == 0,
    };
    let Some(mut mask) = head.mask else {
        return record(piece);
    };
    // Room for a large frame is not kept for small ones.
    if unmasked.capacity() > KEPT {
        *unmasked = Vec::new();
    }
    unmasked.clear();
    unmasked.extend_from_slice(payload);
    mask.rotate_left(before % 4);
    frame::unmask(unmasked, mask);
    piece.payload = unmasked;
    record(piece)
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
