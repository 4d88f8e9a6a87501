//! An upstream's stream, with a look at the heads of its responses.
//!
//! The parser in hyper takes a line feed alone for the end of a line (RFC 9112, section 2.2 allows it), and doesn't tell.
//! An upstream that sends one is misled by what it puts into its fields, more often than not.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is known of the head that is awaited on a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Heads(Rc<Cell<Head>>);

#[derive(Clone, Copy, Debug, Default)]
struct Head {
    /// Whether what comes next is a head, or the rest of one.
    awaited: bool,
    flawed: bool,
    /// How many bytes it has so far.
    size: usize,
    /// How many of them are of the line that has begun.
    line: usize,
    /// Whether the last one was a carriage return.
    returned: bool,
    status: [u8; 3],
}

/// Where the status stands: behind `HTTP/1.1 `.
const STATUS: usize = 9;

impl Heads {
    /// A request is being sent: a head comes.
    pub(super) fn await_one(&self) {
        self.0.set(Head { awaited: true, ..Head::default() });
    }

    /// Whether a line of the head ended with a line feed alone.
    pub(super) fn is_flawed(&self) -> bool {
        self.0.get().flawed
    }

    fn feed(&self, bytes: &[u8]) {
        let mut head = self.0.get();
        if !head.awaited {
            return;
        }
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !head.feed(line) {
                break;
            }
        }
        self.0.set(head);
    }
}

impl Head {
    /// Follows a line, or a part of it. Whether there is more to follow.
    fn feed(&mut self, line: &[u8]) -> bool {
        if self.size < STATUS + 3 {
            for (position, byte) in (self.size..).zip(line).skip_while(|(position, _)| *position < STATUS).take(3) {
                if let Some(digit) = self.status.get_mut(position - STATUS) {
                    *digit = *byte;
                }
            }
        }
        self.size += line.len();
        let Some(rest) = line.strip_suffix(b"\n") else {
            self.line += line.len();
            self.returned = line.last() == Some(&b'\r');
            return true;
        };
        let returned = rest.last().map_or(self.returned, |last| *last == b'\r');
        let length = std::mem::take(&mut self.line) + rest.len();
        self.returned = false;
        if !returned {
            self.flawed = true;
            self.awaited = false;
        } else if length == 1 && self.size > 2 {
            // Behind an interim response comes another one, but for the one that ends HTTP.
            let is_interim = self.status[0] == b'1' && self.status != *b"101";
            *self = Self { awaited: is_interim, ..Self::default() };
        }
        self.awaited
    }
}

/// A stream that is looked at.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    heads: Heads,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, heads: Heads) -> Self {
        Self { stream, heads }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut this.stream).poll_read(cx, buffer);
        this.heads.feed(&buffer.filled()[before..]);
        if this.heads.is_flawed() {
            buffer.set_filled(before);
            return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is flawed, and whether more of a head is awaited: however reads fall.
    fn outcome(bytes: &[u8]) -> (bool, bool) {
        let whole = Heads::default();
        whole.await_one();
        whole.feed(bytes);
        let split = Heads::default();
        split.await_one();
        bytes.iter().for_each(|byte| split.feed(std::slice::from_ref(byte)));
        let outcome = |heads: &Heads| (heads.is_flawed(), heads.0.get().awaited);
        assert_eq!(outcome(&whole), outcome(&split), "{}", String::from_utf8_lossy(bytes));
        outcome(&whole)
    }

    #[test]
    fn only_heads_are_looked_at() {
        assert_eq!(outcome(b"HTTP/1.1 200 OK\r\nX: y\r\n\r\na\nb\n\n"), (false, false));
        assert_eq!(outcome(b"HTTP/1.1 101 Switching Protocols\r\nX: y\r\n\r\na\nb\n\n"), (false, false));
        assert_eq!(outcome(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n\n"), (false, false));
        assert_eq!(outcome(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n"), (false, true));
        for flawed in [
            "HTTP/1.1 200 OK\n",
            "HTTP/1.1 200 OK\r\nX: y\n\r\n",
            "HTTP/1.1 200 OK\r\nX: y\r\n\n",
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\nX: y\r\n\r\n",
        ] {
            assert_eq!(outcome(flawed.as_bytes()), (true, false), "{flawed:?}");
        }
        let unawaited = Heads::default();
        unawaited.feed(b"\n");
        assert!(!unawaited.is_flawed());
    }
}
