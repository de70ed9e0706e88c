//! One side's frames become what the other is written, or what is done about them here.
//!
//! Only heads of frames are read: whole frames pass as the bytes that they came as, many in one write. Memory is bounded by
//! a buffer, whatever the size of a frame, and a reader waits while the other side's writer does (backpressure).

use super::buffer::{self, Buffer};
use super::close::Close;
use super::frame::{self, Head, MAX_CONTROL, Opcode, Sequence, Violation};
use super::heartbeat::is_heartbeat;
use super::outgoing::{Outgoing, PING_EVERY};
use super::relay::{Cause, End, Kind, OnPiece, Piece};
use super::socket::{OnBytes, Reader};
use super::stop::Stop;
use bytes::Bytes;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Control frames and heartbeats of one side in one second. They cost work and move nothing. What answers a heartbeat is not counted:
/// there are no more of them than were asked, and they may have waited for each other.
pub(super) const MAX_CONTROLS: u32 = 100;
/// Of each message, how many bytes an observer sees.
const SEEN: usize = 1024;
/// Without a byte amid a frame, a side is as silent as one that answers no ping.
const SILENT_AFTER: Duration = PING_EVERY.saturating_mul(2);
/// Room for what a recorder is shown, from one frame to the next.
const KEPT: usize = 16 << 10;

/// One side as it is read from.
pub(super) struct Incoming<'a> {
    reader: Reader,
    received: Option<OnBytes>,
    buffer: Buffer,
    sequence: Sequence,
    pub record: Option<OnPiece<'a>>,
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
    pub fn new(
        reader: Reader,
        buffered: Bytes,
        received: Option<OnBytes>,
        back: &'a Outgoing,
        to: &'a Outgoing,
    ) -> Self {
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
    pub fn forward(mut self, mut seen: impl FnMut(&[u8])) -> impl Future<Output = (Reader, End)> {
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
                    Next::Control(head) => Box::pin(self.answer(&head)).await,
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
            // Nothing else can be told apart meanwhile, on either side.
            match timeout(SILENT_AFTER, self.read()).await {
                Ok(read) => read?,
                Err(_) => return Err(End::By(back.to, Cause::Silent)),
            }
        }
    }

    async fn answer(&mut self, head: &Head) -> Result<(), End> {
        let (from, to) = (self.back.to, self.to.to);
        let mut payload = [0; MAX_CONTROL];
        let payload = &mut payload[..head.payload];
        payload.copy_from_slice(&self.buffer.filled()[head.length..head.total()]);
        if let Some(mask) = head.mask {
            frame::unmask(payload, mask);
        }
        self.buffer.consume(head.total());
        if head.opcode == Opcode::Pong && self.back.asked.is_answered_by(payload) {
            let answering = self.to.echo(payload, self.back).await;
            return answering.map_err(|cause| End::By(to, cause));
        }
        if self.controls_since.elapsed() > Duration::from_secs(1) {
            (self.controls, self.controls_since) = (0, Instant::now());
        }
        self.controls += 1;
        if self.controls > MAX_CONTROLS {
            return Err(End::By(from, Cause::ProtocolError));
        }
        match head.opcode {
            Opcode::Close => {
                let cause = Close::received(payload).map_or(Cause::ProtocolError, Cause::Closed);
                Err(End::By(from, cause))
            }
            Opcode::Ping => {
                let answering = self.back.send(Opcode::Pong, payload).await;
                answering.map_err(|cause| End::By(from, cause))
            }
            Opcode::Binary => {
                let asking = self.to.ask(payload, self.back).await;
                asking.map_err(|cause| End::By(to, cause))
            }
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
