//! Frames become bytes that one side takes, a whole frame at a time, or the cause for which it is given up.
//!
//! Whoever writes to a side waits while it takes nothing (backpressure), as long as it goes on taking: a slow reader is never cut, one
//! that has stopped is after [`STALLED_AFTER`]. While one side is waited for, the other is not read from, so it is not called silent.

use super::Side;
use super::close::Close;
use super::frame::{self, Opcode};
use super::heartbeat::Asked;
use super::relay::Cause;
use super::socket::Writer;
use futures::poll;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Keeps load balancers from closing a quiet connection, and finds out when a side is gone: two pings without any
/// frame from it end the conversation.
pub(super) const PING_EVERY: Duration = Duration::from_secs(25);
/// For a side to take the next byte of what is being sent to it. It may be alive and even talk, but it keeps a place and memory.
pub(super) const STALLED_AFTER: Duration = Duration::from_secs(60);

/// One side as it is written to.
pub(super) struct Outgoing {
    pub to: Side,
    writer: Mutex<Writer>,
    /// Whether fragments of a message have yet to come: no other message may begin between them (RFC 6455, section 5.4).
    pub is_amid_message: AtomicBool,
    /// Whether it has sent anything, or taken what it was waited for with, since the last ping.
    pub heard: AtomicBool,
    /// The heartbeats that it was sent as Pings.
    pub asked: Asked,
    /// Whether it is not read from at the moment, because the other side has yet to take what it said.
    is_unread: AtomicBool,
}

impl Outgoing {
    pub fn new(to: Side, writer: Writer) -> Self {
        Self {
            to,
            writer: Mutex::new(writer),
            is_amid_message: AtomicBool::new(false),
            heard: AtomicBool::new(true),
            asked: Asked::default(),
            is_unread: AtomicBool::new(false),
        }
    }

    /// For what `back` said, which is not read from meanwhile.
    pub async fn lock(&self, back: &Self) -> MutexGuard<'_, Writer> {
        if let Ok(writer) = self.writer.try_lock() {
            return writer;
        }
        back.is_unread.store(true, Ordering::Relaxed);
        let writer = self.writer.lock().await;
        back.is_read_again();
        writer
    }

    /// Writes what `back` said, or what is our own.
    ///
    /// # Errors
    /// When the side is gone, or takes nothing for [`STALLED_AFTER`].
    pub async fn write(&self, writer: &mut Writer, bytes: &[u8], back: Option<&Self>) -> Result<(), Cause> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let written = self.moving(writer.write(rest), back).await?;
            if written == 0 {
                return Err(Cause::Lost);
            }
            rest = &rest[written..];
        }
        Ok(())
    }

    /// The same for what the writer itself still holds, as with TLS.
    pub async fn flush(&self, writer: &mut Writer, back: Option<&Self>) -> Result<(), Cause> {
        self.moving(writer.flush(), back).await
    }

    /// A step of writing. Only one that has to wait costs a timer.
    async fn moving<T>(&self, step: impl Future<Output = io::Result<T>>, back: Option<&Self>) -> Result<T, Cause> {
        let mut step = pin!(step);
        if let Poll::Ready(done) = poll!(&mut step) {
            return done.map_err(|_| Cause::Lost);
        }
        if let Some(back) = back {
            back.is_unread.store(true, Ordering::Relaxed);
        }
        let done = Box::pin(timeout(STALLED_AFTER, step)).await;
        if let Some(back) = back {
            back.is_read_again();
        }
        let done = done.map_err(|_| Cause::Stalled)?.map_err(|_| Cause::Lost)?;
        self.heard.store(true, Ordering::Relaxed);
        Ok(done)
    }

    fn is_read_again(&self) {
        self.heard.store(true, Ordering::Relaxed);
        self.is_unread.store(false, Ordering::Relaxed);
    }

    /// A control frame of our own, which may stand between the fragments of a message.
    pub async fn send(&self, opcode: Opcode, payload: &[u8]) -> Result<(), Cause> {
        let frame = self.encode(opcode, payload);
        let mut writer = self.writer.lock().await;
        self.write(&mut writer, &frame, None).await?;
        self.flush(&mut writer, None).await
    }

    /// Passes a heartbeat of `back` on.
    pub async fn ask(&self, beat: &[u8], back: &Self) -> Result<(), Cause> {
        let frame = self.encode(Opcode::Ping, beat);
        let mut writer = self.lock(back).await;
        self.asked.ask(beat);
        self.write(&mut writer, &frame, Some(back)).await?;
        self.flush(&mut writer, Some(back)).await
    }

    /// Answers a heartbeat, because `back` has. Not amid a message: the next one is answered.
    pub async fn echo(&self, beat: &[u8], back: &Self) -> Result<(), Cause> {
        let mut writer = self.lock(back).await;
        if self.is_amid_message.load(Ordering::Relaxed) {
            return Ok(());
        }
        let frame = self.encode(Opcode::Binary, beat);
        self.write(&mut writer, &frame, Some(back)).await?;
        self.flush(&mut writer, Some(back)).await
    }

    /// To a server frames are masked (RFC 6455, section 5.3).
    fn encode(&self, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        frame::encode(opcode, payload, (self.to == Side::Workspace).then(rand::random))
    }

    /// Sends a close frame, and before it a line of output. An error is no event: the connection is ended anyway.
    pub async fn close(&self, line: Option<&str>, close: Close) {
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

    /// Ends when the side does not answer, with the cause.
    pub async fn ping(&self, every: Duration) -> Cause {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            if !self.is_there() {
                return Cause::Silent;
            }
            // It may take long: a large frame comes first, and whoever sends that finds out whether it still moves.
            if let Err(cause) = Box::pin(self.send(Opcode::Ping, &[])).await {
                return cause;
            }
            ticks.reset();
        }
    }

    /// Whether there was any sign of life since this was asked the last time, or could have been none.
    fn is_there(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed) || self.is_unread.load(Ordering::Relaxed)
    }
}

/// A line as ttyd would send it. It comes below whatever the screen shows, in the default colours: the cursor may be anywhere, and
/// scrolling confined to a part of the screen (ECMA-48: SGR, CUP; DEC: DECSTBM).
fn output(line: &str) -> String {
    format!("0\x1b[m\x1b[r\x1b[999;1H\r\n{line}\r\n")
}
