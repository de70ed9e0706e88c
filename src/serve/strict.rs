//! Bytes of a connection become bytes that two HTTP parsers can't read differently.
//!
//! hyper is lenient where a proxy in front may not be, or the other way round: it takes a bare line feed for the end of a line, and
//! a request with both a length and a transfer coding. That is what request smuggling is made of (RFC 9112, sections 2.2, 6.3 and
//! 11.2). What is refused here is passed on as a NUL, which can stand nowhere in a head, so that hyper answers 400 and closes.
//!
//! Bodies are not followed: a request that has one, or asks for an upgrade, is the last of its connection ([`is_last`]).

use super::stall::Stalling;
use hyper::header::{CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING, UPGRADE};
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::TokioIo;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Of each line, as much as it takes to know its name and a length; a longer line with a length is refused.
const SEEN: usize = 32;

/// Whether nothing that comes behind this request is looked at any more.
pub fn is_last(headers: &HeaderMap) -> bool {
    let has_length = headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0");
    has_length || headers.contains_key(TRANSFER_ENCODING) || headers.contains_key(UPGRADE)
}

/// Reads heads as they come, in any pieces.
#[derive(Default)]
struct Heads {
    line: [u8; SEEN],
    /// Of the line so far, of which only the beginning is kept.
    length: usize,
    last: u8,
    head: Head,
    /// Behind the last request of the connection.
    is_over: bool,
}

#[derive(Default)]
struct Head {
    lines: usize,
    hosts: usize,
    /// Whether it is another one than zero.
    content_length: Option<bool>,
    transfer_encoding: bool,
    upgrade: bool,
}

impl Heads {
    /// The index of the byte that must not be there.
    fn fault(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() && !self.is_over {
            let rest = &bytes[at..];
            let end = rest.iter().position(|byte| *byte == b'\n');
            self.take(&rest[..end.unwrap_or(rest.len())]);
            let end = end?;
            if self.last != b'\r' || !self.end_line() {
                self.is_over = true;
                return Some(at + end);
            }
            (self.length, self.last) = (0, 0);
            at += end + 1;
        }
        None
    }

    fn is_amid_head(&self) -> bool {
        !self.is_over && (self.length > 0 || self.head.lines > 0)
    }

    fn take(&mut self, part: &[u8]) {
        let kept = self.length.min(SEEN);
        let more = part.len().min(SEEN - kept);
        self.line[kept..kept + more].copy_from_slice(&part[..more]);
        self.length += part.len();
        self.last = part.last().copied().unwrap_or(self.last);
    }

    /// Whether the line may stand where it does.
    fn end_line(&mut self) -> bool {
        let length = self.length - 1;
        let line = &self.line[..length.min(SEEN)];
        let head = &mut self.head;
        if line.is_empty() {
            // Before a request they mean nothing (RFC 9112, section 2.2).
            if head.lines > 0 {
                self.is_over = head.upgrade || head.transfer_encoding || head.content_length == Some(true);
                *head = Head::default();
            }
            return true;
        }
        head.lines += 1;
        if head.lines == 1 {
            head.upgrade = line.starts_with(b"CONNECT ");
            return true;
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return true;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let is_alone = head.content_length.is_none() && !head.transfer_encoding;
            head.content_length = Some(value != b"0");
            return is_alone && length <= SEEN;
        }
        if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let is_alone = head.content_length.is_none() && !head.transfer_encoding;
            head.transfer_encoding = true;
            return is_alone;
        }
        if name.eq_ignore_ascii_case(b"host") {
            head.hosts += 1;
            return head.hosts == 1;
        }
        head.upgrade |= name.eq_ignore_ascii_case(b"upgrade");
        true
    }
}

/// What a connection is in the middle of, for whoever serves it.
#[derive(Clone, Default)]
pub struct AmidHead(Arc<AtomicBool>);

impl AmidHead {
    /// Whether a part of a request's head has come in, and not yet the rest.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A connection whose heads are read along.
pub struct Strict<S> {
    inner: S,
    heads: Heads,
    amid_head: AmidHead,
}

impl<S> Strict<S> {
    pub fn new(inner: S) -> (Self, AmidHead) {
        let amid_head = AmidHead::default();
        let strict = Self {
            inner,
            heads: Heads::default(),
            amid_head: amid_head.clone(),
        };
        (strict, amid_head)
    }
}

/// The connection itself, and what was read of it, when an upgraded one is of this kind.
///
/// # Errors
/// The upgraded one again, when it is of another kind.
pub fn released<S>(upgraded: Upgraded) -> Result<(S, bytes::Bytes), Upgraded>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let Parts { io, read_buf, .. } = upgraded.downcast::<TokioIo<Strict<Stalling<S>>>>()?;
    Ok((io.into_inner().inner.into_inner(), read_buf))
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if !self.heads.is_over {
            let read = &mut buf.filled_mut()[before..];
            if let Some(fault) = self.heads.fault(read) {
                read[fault] = 0;
            }
            self.amid_head.0.store(self.heads.is_amid_head(), Ordering::Relaxed);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
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
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(bytes: &[u8]) -> (Option<usize>, bool) {
        let mut heads = Heads::default();
        (heads.fault(bytes), heads.is_over)
    }

    #[test]
    fn what_two_parsers_may_read_differently_is_refused() {
        for (what, head) in [
            (
                "a bare line feed behind the request line",
                "GET / HTTP/1.1\nHost: a\r\n\r\n",
            ),
            (
                "a bare line feed in a header",
                "GET / HTTP/1.1\r\nHost: a\r\nX: a\nContent-Length: 5\r\n\r\n",
            ),
            ("a bare line feed as an empty line", "GET / HTTP/1.1\r\nHost: a\r\n\n"),
            (
                "both lengths",
                "POST / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
            (
                "both, the other way round",
                "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n",
            ),
            (
                "two lengths",
                "POST / HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\n",
            ),
            (
                "two codings",
                "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n",
            ),
            ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n"),
            (
                "a length far behind its name",
                "GET / HTTP/1.1\r\nContent-Length:                               5\r\n\r\n",
            ),
        ] {
            assert!(of(head.as_bytes()).0.is_some(), "{what}");
        }
    }

    #[test]
    fn requests_follow_each_other_until_one_is_the_last() {
        let get = "GET / HTTP/1.1\r\nHost: a\r\nContent_Length: 5\r\nX-Content-Length: 5\r\n\r\n";
        assert_eq!(of(format!("\r\n{get}{get}").as_bytes()), (None, false));
        for last in [
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 00\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nUPGRADE: websocket\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(of(format!("{get}{last}a\nb").as_bytes()), (None, true), "{last}");
        }
        let empty = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(of(format!("{empty}{get}").as_bytes()), (None, false));
        assert!(of(format!("{empty}GET / HTTP/1.1\n").as_bytes()).0.is_some());
    }

    #[test]
    fn the_server_ends_a_connection_where_its_heads_are_no_longer_read() {
        for (name, value, last) in [
            ("content-length", "0", false),
            ("content-length", "00", true),
            ("content-length", "5", true),
            ("transfer-encoding", "chunked", true),
            ("upgrade", "websocket", true),
            ("accept", "5", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(is_last(&headers), last, "{name}: {value}");
            let head = format!("GET / HTTP/1.1\r\n{name}: {value}\r\n\r\n");
            assert_eq!(of(head.as_bytes()), (None, last), "{name}: {value}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            text in "(GET / HTTP/1.1\r\n|Host: a\r\n|Content-Length: [0-9]{1,30}\r\n|Transfer-Encoding: chunked\r\n|Upgrade: x\r\n|[a-z: ]{0,50}\r?\n|\r\n){0,12}",
            cuts in proptest::collection::vec(1usize..20, 1..40),
        ) {
            let whole = of(text.as_bytes());
            let (mut heads, mut at, mut fault) = (Heads::default(), 0, None);
            let mut cuts = cuts.iter().cycle();
            while at < text.len() && fault.is_none() {
                let end = text.len().min(at + cuts.next().unwrap());
                fault = heads.fault(&text.as_bytes()[at..end]).map(|index| at + index);
                at = end;
            }
            prop_assert_eq!((fault, heads.is_over), whole);
        }
    }
}
