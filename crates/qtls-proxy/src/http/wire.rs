//! The client's stream, with a look at what passes.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use super::framing::{Cut, Framing};
use crate::stream::Waiting;

/// What is read to see whether a request begins: most heads.
pub(super) const BEGINNING: usize = 1024;

/// A stream that reports to [`Activity`].
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    activity: Rc<Activity>,
    /// HTTP/1.1 only.
    framing: Option<Framing>,
    /// What hyper reads instead of what comes, once it is to see no more of that.
    substitute: Option<&'static [u8]>,
    /// What has been read and looked at, and hyper has not.
    ahead: Waiting,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, activity: Rc<Activity>, framing: Option<Framing>) -> Self {
        Self { stream, activity, framing, substitute: None, ahead: Waiting::default() }
    }

    /// Reads ahead: whether something has come, or the end.
    pub(super) fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>>
    where
        S: AsyncRead + Unpin,
    {
        if self.ahead.is_empty() {
            let mut bytes = [MaybeUninit::uninit(); BEGINNING];
            let mut buffer = ReadBuf::uninit(&mut bytes);
            ready!(Pin::new(&mut *self).poll_read(cx, &mut buffer))?;
            self.ahead.push(buffer.filled());
        }
        Poll::Ready(Ok(!self.ahead.is_empty()))
    }

    /// Takes back what hyper has read and not used of a connection that rests: empty lines, which are a part of no request
    /// (RFC 9112, section 2.2), and nothing else.
    pub(super) fn rest(&mut self, unused: &[u8]) {
        debug_assert!(self.ahead.is_empty(), "hyper reads what is ahead first");
        if !unused.iter().all(|octet| b"\r\n".contains(octet)) {
            self.ahead.push(unused);
        }
        if let Some(framing) = &mut self.framing {
            framing.shrink();
        }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    /// Looks at what has been read, from `before` on.
    fn read(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let bytes = &buffer.filled()[before..];
        if bytes.is_empty() {
            return;
        }
        self.activity.moved();
        let Some(framing) = &mut self.framing else { return };
        let cut = framing.feed(bytes);
        self.activity.in_head(framing.in_head());
        self.activity.whole(framing.is_whole());
        if let Some((request, flaw)) = framing.first_flaw() {
            self.activity.flawed(request, flaw);
        }
        if let Some(Cut { at, substitute }) = cut {
            buffer.set_filled(before + at);
            self.substitute = Some(substitute);
            self.substitute(buffer);
        }
    }

    /// Reads from the substitute. It has no end: an answer is on its way.
    fn substitute(&mut self, buffer: &mut ReadBuf<'_>) {
        if let Some(substitute) = &mut self.substitute {
            let (now, later) = substitute.split_at(substitute.len().min(buffer.remaining()));
            buffer.put_slice(now);
            *substitute = later;
        }
    }

    fn wrote<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match &outcome {
            Poll::Ready(Ok(_)) => self.activity.moved(),
            Poll::Ready(Err(_)) => self.activity.failed(),
            Poll::Pending => self.activity.blocked(true),
        }
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        if !this.ahead.is_empty() {
            let count = this.ahead.len().min(buffer.remaining());
            buffer.put_slice(&this.ahead.as_slice()[..count]);
            this.ahead.advance(count);
            return Poll::Ready(Ok(()));
        }
        if this.substitute.is_some() {
            this.substitute(buffer);
            return if buffer.filled().len() > before { Poll::Ready(Ok(())) } else { Poll::Pending };
        }
        let outcome = Pin::new(&mut this.stream).poll_read(cx, buffer);
        match &outcome {
            Poll::Ready(Ok(())) => this.read(buffer, before),
            Poll::Ready(Err(_)) => this.activity.failed(),
            Poll::Pending => {}
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(cx, bytes);
        this.wrote(outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(cx, slices);
        this.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_flush(cx);
        match &outcome {
            Poll::Ready(Ok(())) => this.activity.blocked(false),
            Poll::Ready(Err(_)) => this.activity.failed(),
            Poll::Pending => this.activity.blocked(true),
        }
        outcome
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.activity.shut();
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }
}
