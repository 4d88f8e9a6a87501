//! A connection to an upstream that has its TLS errors told. hyper gives them to nobody who could: a server refuses a
//! client's certificate after the handshake, when there may be no request yet, and of HTTP/2 only a text is left of them.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::upstream::{Leg, Link, Peer, ServerId, Upstream};

/// Where a connection leads.
#[derive(Clone, Debug)]
pub(super) struct Reached {
    /// Which of the server's addresses it goes to.
    pub(super) peer: Option<Peer>,
    /// What was negotiated with it, over TLS.
    pub(super) leg: Option<Leg>,
    pub(super) fate: Fate,
}

/// Whether the TLS of a connection failed. Then that is told and counted, and the requests on it fail for no other reason.
#[derive(Clone, Debug, Default)]
pub(super) struct Fate(Arc<AtomicBool>);

impl Fate {
    pub(super) fn is_told(&self) -> bool {
        self.0.load(Relaxed)
    }
}

#[derive(Debug)]
pub(super) struct Observed {
    link: Link,
    upstream: Arc<Upstream>,
    server: ServerId,
    fate: Fate,
}

impl Observed {
    pub(super) fn new(link: Link, upstream: Arc<Upstream>, server: ServerId) -> (Self, Reached) {
        let fate = Fate::default();
        let reached = Reached { peer: upstream.peer(server, &link), leg: link.leg(), fate: fate.clone() };
        (Self { link, upstream, server, fate }, reached)
    }

    fn observe<T>(&mut self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &outcome
            && let Some(error) = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>())
            && !self.fate.0.swap(true, Relaxed)
        {
            self.upstream.failed_tls(self.server, error, "a connection");
        }
        outcome
    }
}

impl AsyncRead for Observed {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.link).poll_read(cx, buffer);
        this.observe(outcome)
    }
}

impl AsyncWrite for Observed {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.link).poll_write(cx, bytes);
        this.observe(outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.link).poll_write_vectored(cx, slices);
        this.observe(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.link.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().link).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().link).poll_shutdown(cx)
    }
}
