//! What becomes of a request that switched to another protocol: bytes both ways, as they come.
//!
//! As in TCP mode, nothing is kept but what the other side doesn't take, and while it is kept nothing more is read.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};

use super::{CLOSE_TIMEOUT, Cause};
use crate::limits::Life;
use crate::shutdown::Shutdown;
use crate::stream::{TlsStream, Waiting, come_back};

/// What is read in one go: a full TLS record.
const PART: usize = 16 * 1024;
/// How often one direction goes on before the other, and the other connections of the worker, have their turn.
const TURNS: usize = 8;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; PART].into());
}

/// A stream whose directions end apart.
pub trait CloseWrite: AsyncRead + AsyncWrite {
    /// Tells the peer that nothing more comes. Reading goes on.
    fn poll_close_write(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl CloseWrite for TlsStream {
    fn poll_close_write(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_close_write(cx)
    }
}

/// A stream of HTTP/2 that was handed over.
impl CloseWrite for TokioIo<Upgraded> {
    fn poll_close_write(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_shutdown(cx)
    }
}

/// How long a tunnel may last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Without a byte in either direction.
    pub(super) idle: Duration,
    pub(super) life: Option<Life>,
}

/// Passes bytes on until both directions are closed, one side fails, nothing happens for too long, or the server stops.
/// `up` and `down` are what has come already, for the upstream and for the client.
pub(super) async fn run<C, U>(
    mut client: C,
    mut upstream: U,
    up: Bytes,
    down: Bytes,
    terms: Terms,
    shutdown: &mut Shutdown,
) -> Cause
where
    C: CloseWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let (mut up, mut down) = (Half::new(&up), Half::new(&down));
    let expires = terms.life.map(|life| life.end);
    let next_look = || {
        let idle = Instant::now() + terms.idle;
        expires.map_or(idle, |expires| expires.min(idle))
    };
    let mut timer = Box::pin(sleep_until(next_look()));
    let mut active = false;
    let relaying = poll_fn(|cx| {
        let upward = up.poll(&mut client, &mut Plain(&mut upstream), &mut active, cx);
        let downward = down.poll(&mut Plain(&mut upstream), &mut client, &mut active, cx);
        match (upward, downward) {
            (Poll::Ready(Err(Failed::From)), _) | (_, Poll::Ready(Err(Failed::To))) => {
                return Poll::Ready(Cause::ClientGone);
            }
            (Poll::Ready(Err(Failed::To)), _) | (_, Poll::Ready(Err(Failed::From))) => {
                return Poll::Ready(Cause::UpstreamBrokeOff);
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(Cause::Closed),
            _ => {}
        }
        while timer.as_mut().poll(cx).is_ready() {
            if expires.is_some_and(|expires| expires <= Instant::now()) {
                return Poll::Ready(Cause::Expired);
            }
            if !std::mem::take(&mut active) {
                return Poll::Ready(Cause::Idle);
            }
            timer.as_mut().reset(next_look());
        }
        Poll::Pending
    });
    let cause = tokio::select! {
        biased;
        cause = relaying => cause,
        () = shutdown.closing() => Cause::CutOff,
    };
    // A side that broke off is told of by the other's lacking farewell.
    if !matches!(cause, Cause::ClientGone | Cause::UpstreamBrokeOff) {
        let _ = timeout(CLOSE_TIMEOUT, async { tokio::join!(client.shutdown(), upstream.shutdown()) }).await;
    }
    cause
}

/// Which side of a direction failed.
enum Failed {
    From,
    To,
}

/// One direction.
struct Half {
    waiting: Waiting,
    state: State,
    /// Whether something was written that may still be on this side.
    unflushed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// The end has come, and is to be passed on behind what waits.
    Ending,
    Done,
}

impl Half {
    fn new(early: &[u8]) -> Self {
        let mut waiting = Waiting::default();
        waiting.push(early);
        Self { waiting, state: State::Open, unflushed: false }
    }

    /// As far as it goes now. Ready when this direction is done.
    fn poll<R, W>(
        &mut self,
        from: &mut R,
        to: &mut W,
        active: &mut bool,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Failed>>
    where
        R: AsyncRead + Unpin,
        W: CloseWrite + Unpin,
    {
        for _ in 0..TURNS {
            while !self.waiting.is_empty() {
                let count = ready!(Pin::new(&mut *to).poll_write(cx, self.waiting.as_slice()));
                self.waiting.advance(count.and_then(some).map_err(|_| Failed::To)?);
                (*active, self.unflushed) = (true, true);
            }
            match self.state {
                State::Done => return Poll::Ready(Ok(())),
                State::Ending => {
                    ready!(Pin::new(&mut *to).poll_close_write(cx)).map_err(|_| Failed::To)?;
                    self.state = State::Done;
                }
                State::Open => match self.poll_part(from, to, cx)? {
                    Poll::Ready(0) => self.state = State::Ending,
                    Poll::Ready(_) => *active = true,
                    Poll::Pending => {
                        if self.unflushed {
                            ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(|_| Failed::To)?;
                            self.unflushed = false;
                        }
                        return Poll::Pending;
                    }
                },
            }
        }
        come_back(cx);
        Poll::Pending
    }

    /// Reads once, and writes as much of it as is taken. How much was read.
    fn poll_part<R, W>(&mut self, from: &mut R, to: &mut W, cx: &mut Context<'_>) -> Result<Poll<usize>, Failed>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(from).poll_read(cx, &mut buffer) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(outcome) => outcome.map_err(|_| Failed::From)?,
            }
            let mut rest = buffer.filled();
            while !rest.is_empty() {
                let Poll::Ready(count) = Pin::new(&mut *to).poll_write(cx, rest) else { break };
                rest = &rest[count.and_then(some).map_err(|_| Failed::To)?..];
                self.unflushed = true;
            }
            self.waiting.push(rest);
            Ok(Poll::Ready(buffer.filled().len()))
        })
    }
}

fn some(count: usize) -> io::Result<usize> {
    if count > 0 { Ok(count) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// A stream whose shutting down ends one direction only, as with sockets.
struct Plain<'a, S>(&'a mut S);

impl<S: AsyncRead + Unpin> AsyncRead for Plain<'_, S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().0).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Plain<'_, S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().0).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> CloseWrite for Plain<'_, S> {
    fn poll_close_write(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.poll_shutdown(cx)) {
            // Its peer has gone already.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Poll::Ready(Ok(())),
            outcome => Poll::Ready(outcome),
        }
    }
}
