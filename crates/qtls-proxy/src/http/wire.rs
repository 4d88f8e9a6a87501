//! The client's stream, with a look at what passes.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::activity::Activity;
use super::framing::Framing;

/// A stream that reports to [`Activity`].
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    activity: Rc<Activity>,
    /// HTTP/1.1 only.
    framing: Option<Framing>,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, activity: Rc<Activity>, framing: Option<Framing>) -> Self {
        Self { stream, activity, framing }
    }

    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    fn read(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.activity.moved();
        if let Some(framing) = &mut self.framing {
            framing.feed(bytes);
            self.activity.in_head(framing.in_head());
            if let Some(request) = framing.ambiguous() {
                self.activity.ambiguous(request);
            }
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
        let outcome = Pin::new(&mut this.stream).poll_read(cx, buffer);
        match &outcome {
            Poll::Ready(Ok(())) => this.read(&buffer.filled()[before..]),
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
