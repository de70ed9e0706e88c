//! Bytes that nobody takes become the end of a connection.
//!
//! A peer that asks and then reads nothing would hold its connection, and what is written to it, for as long as it likes. What counts
//! is that the kernel takes more of it, which it does as soon as a good part of its own buffer is read: who is slow, and goes on, is not cut
//! off. A connection with nothing to write, such as a quiet stream of events, waits for nobody.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The limit of one connection, for whoever serves it.
#[derive(Clone, Default)]
pub struct Limit(Arc<State>);

#[derive(Default)]
struct State {
    lifted: AtomicBool,
    met: AtomicBool,
}

impl Limit {
    /// From now on others watch over the connection.
    pub fn lift(&self) {
        self.0.lifted.store(true, Ordering::Relaxed);
    }

    /// Whether the connection has ended by it.
    pub fn is_met(&self) -> bool {
        self.0.met.load(Ordering::Relaxed)
    }
}

/// A connection that ends when nothing of what is written to it is taken for a while.
pub struct Stalling<S> {
    inner: S,
    after: Duration,
    limit: Limit,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Stalling<S> {
    pub fn new(inner: S, after: Duration) -> (Self, Limit) {
        let limit = Limit::default();
        let stalling = Self {
            inner,
            after,
            limit: limit.clone(),
            waiting: None,
        };
        (stalling, limit)
    }

    pub fn into_inner(self) -> S {
        self.inner
    }

    /// What became of a write: an error when it has waited for too long.
    fn watched<T>(&mut self, polled: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if polled.is_ready() || self.limit.0.lifted.load(Ordering::Relaxed) {
            self.waiting = None;
            return polled;
        }
        let after = self.after;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(after)));
        ready!(waiting.as_mut().poll(cx));
        self.limit.0.met.store(true, Ordering::Relaxed);
        let error = io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing of what is sent to it");
        Poll::Ready(Err(error))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.watched(polled, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A socket has nothing to flush: that this is ready says nothing of the peer.
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.watched(polled, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::{Instant, timeout};

    const AFTER: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_cut_off_and_who_is_slow_is_not() {
        let (near, mut far) = duplex(16);
        let (mut near, limit) = Stalling::new(near, AFTER);
        let slow = async {
            for _ in 0..10 {
                sleep(AFTER - Duration::from_secs(1)).await;
                far.read_exact(&mut [0; 8]).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(near.write_all(&[0; 96]), slow);
        assert!(written.is_ok() && !limit.is_met());
        let began = Instant::now();
        let error = near.write_all(&[0; 96]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed()), (io::ErrorKind::TimedOut, AFTER));
        assert!(limit.is_met());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_to_write_waits_for_nobody_and_the_limit_can_be_lifted() {
        let (near, _far) = duplex(16);
        let (mut near, limit) = Stalling::new(near, AFTER);
        near.write_all(&[0; 16]).await.unwrap();
        sleep(AFTER * 10).await;
        near.flush().await.unwrap();
        limit.lift();
        assert!(timeout(AFTER * 10, near.write_all(&[0; 96])).await.is_err());
        assert!(!limit.is_met());
    }
}
