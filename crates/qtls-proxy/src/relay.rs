//! TCP mode: plaintext between a TLS connection and an upstream socket, both ways at once.
//!
//! One task a connection and no buffers of its own: each turn reads into the worker's buffers, processes, and writes.
//! Only what the other side doesn't take is kept, and while it is kept nothing more is read (back-pressure).

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::AsyncWrite;
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::shutdown::Shutdown;
use crate::stream::{Tls, TlsStream, Traffic, Waiting, poll_drain, poll_read, poll_write, with_scratch};

/// How often one direction goes on before the other, and the other connections of the worker, have their turn.
const TURNS: usize = 8;

/// How a relayed connection ended.
#[derive(Debug)]
pub enum End {
    /// Both directions were closed in order.
    Clean,
    /// The client's TCP connection ended without `close_notify`: what it sent last may be missing.
    Truncated,
    /// The client's socket failed; the upstream was reset.
    Client(io::Error),
    /// The client broke the TLS protocol; the upstream was reset.
    Tls(rustls::Error),
    /// The upstream's socket failed; the client was cut off without `close_notify`.
    Upstream(io::Error),
    /// Nothing went either way for too long.
    Idle,
    /// The server stopped.
    Stopped,
}

impl End {
    /// A short, stable name for logs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Truncated => "truncated",
            Self::Client(_) => "client_error",
            Self::Tls(_) => "tls_error",
            Self::Upstream(_) => "upstream_error",
            Self::Idle => "idle_timeout",
            Self::Stopped => "stopped",
        }
    }
}

/// Relays until both directions are closed, one side fails, nothing happens for `idle`, or the server stops.
pub async fn relay(stream: TlsStream, upstream: TcpStream, idle: Duration, shutdown: &mut Shutdown) -> (End, Traffic) {
    let (client, tls, to_upstream) = stream.into_parts();
    let mut relay = Relay {
        traffic: Traffic { received: to_upstream.len() as u64, sent: 0 },
        client,
        upstream,
        // What the client sends in one go may be here already, up to its close_notify.
        down: if tls.received_close() { Down::Ending } else { Down::Open },
        tls,
        to_upstream,
        up: Up::Open,
        truncated: false,
        idle,
        active: true,
        timer: Box::pin(sleep_until(Instant::now() + idle)),
    };
    let end = tokio::select! {
        biased;
        end = poll_fn(|cx| relay.poll(cx)) => end,
        () = shutdown.closing() => {
            relay.say_goodbye().await;
            End::Stopped
        }
    };
    match &end {
        End::Client(_) | End::Tls(_) => reset_on_close(&relay.upstream),
        End::Upstream(_) => reset_on_close(&relay.client),
        End::Idle => relay.say_goodbye().await,
        _ => {}
    }
    (end, relay.traffic)
}

/// The client's data, on its way to the upstream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Down {
    Open,
    /// The client has closed; the upstream is to be told when it has everything.
    Ending,
    Done,
}

/// The upstream's data, on its way to the client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Up {
    Open,
    /// The upstream has closed; `close_notify` is queued behind its data.
    Ending,
    Done,
}

struct Relay {
    client: TcpStream,
    upstream: TcpStream,
    tls: Tls,
    /// Plaintext that the upstream has not taken.
    to_upstream: Waiting,
    down: Down,
    up: Up,
    truncated: bool,
    traffic: Traffic,
    idle: Duration,
    /// Whether anything went through since the timer was set. It is moved when it fires, not with each byte.
    active: bool,
    timer: Pin<Box<Sleep>>,
}

impl Relay {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if let Poll::Ready(Err(end)) = self.poll_down(cx) {
            // The alert for a broken record is queued: as far as the socket takes it now.
            let _ = poll_drain(&self.client, &mut self.tls.outgoing, cx);
            return Poll::Ready(end);
        }
        if let Poll::Ready(Err(end)) = self.poll_up(cx) {
            return Poll::Ready(end);
        }
        if self.down == Down::Done && self.up == Up::Done {
            return Poll::Ready(if self.truncated { End::Truncated } else { End::Clean });
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if !std::mem::take(&mut self.active) {
                return Poll::Ready(End::Idle);
            }
            self.timer.as_mut().reset(Instant::now() + self.idle);
        }
        Poll::Pending
    }

    /// Client to upstream, as far as it goes now. Ready when this direction is done.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        for _ in 0..TURNS {
            ready!(poll_drain(&self.upstream, &mut self.to_upstream, cx)).map_err(End::Upstream)?;
            match self.down {
                Down::Done => return Poll::Ready(Ok(())),
                Down::Ending => {
                    ready!(Pin::new(&mut self.upstream).poll_shutdown(cx))
                        .or_else(unless_gone)
                        .map_err(End::Upstream)?;
                    self.down = Down::Done;
                }
                Down::Open => {
                    let count = ready!(self.poll_receive(cx))?;
                    if count == 0 {
                        self.truncated = true;
                    }
                    if count == 0 || self.tls.received_close() {
                        self.down = Down::Ending;
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One read from the client, decrypted, and passed on as far as the upstream takes it.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, End>> {
        let Self { client, upstream, tls, to_upstream, traffic, active, .. } = self;
        with_scratch(|scratch| {
            let held = tls.lay_out(&mut scratch.input);
            let count = ready!(poll_read(client, &mut scratch.input[held..], cx)).map_err(End::Client)?;
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
            *active = true;
            let mut length = 0;
            let plain = &mut scratch.plain;
            let outcome = tls.process(&mut scratch.input[..held + count], |payload| {
                plain[length..length + payload.len()].copy_from_slice(payload);
                length += payload.len();
            });
            traffic.received += length as u64;
            // What came before a broken record was authentic, and is passed on.
            let mut rest = &scratch.plain[..length];
            while !rest.is_empty() {
                match poll_write(upstream, rest, cx) {
                    Poll::Ready(written) => rest = &rest[written.map_err(End::Upstream)?..],
                    Poll::Pending => break,
                }
            }
            to_upstream.push(rest);
            outcome.map_err(End::Tls)?;
            // Answers to key updates.
            let _ = poll_drain(client, &mut tls.outgoing, cx).map_err(End::Client)?;
            Poll::Ready(Ok(count))
        })
    }

    /// Upstream to client, as far as it goes now. Ready when this direction is done.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        for _ in 0..TURNS {
            ready!(poll_drain(&self.client, &mut self.tls.outgoing, cx)).map_err(End::Client)?;
            match self.up {
                Up::Done => return Poll::Ready(Ok(())),
                Up::Ending => {
                    ready!(Pin::new(&mut self.client).poll_shutdown(cx)).or_else(unless_gone).map_err(End::Client)?;
                    self.up = Up::Done;
                }
                Up::Open => {
                    if ready!(self.poll_send(cx))? == 0 {
                        self.tls.queue_close_notify();
                        self.up = Up::Ending;
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// One read from the upstream, encrypted, and sent as far as the client takes it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, End>> {
        let Self { client, upstream, tls, traffic, active, .. } = self;
        with_scratch(|scratch| {
            let count = ready!(poll_read(upstream, &mut scratch.plain, cx)).map_err(End::Upstream)?;
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
            *active = true;
            traffic.sent += count as u64;
            let length = tls.encrypt(&scratch.plain[..count], &mut scratch.output).map_err(End::Tls)?;
            let mut rest = &scratch.output[..length];
            // Past the queue only where there is no queue.
            while !rest.is_empty() && tls.outgoing.is_empty() {
                match poll_write(client, rest, cx) {
                    Poll::Ready(written) => rest = &rest[written.map_err(End::Client)?..],
                    Poll::Pending => break,
                }
            }
            tls.outgoing.push(rest);
            Poll::Ready(Ok(count))
        })
    }

    /// `close_notify` behind whatever waits, if the client takes it soon.
    async fn say_goodbye(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        self.tls.queue_close_notify();
        let flushed = poll_fn(|cx| poll_drain(&self.client, &mut self.tls.outgoing, cx));
        let _ = tokio::time::timeout(PATIENCE, flushed).await;
    }
}

/// Shutting down a socket whose peer has gone already is not an error.
fn unless_gone(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotConnected => Ok(()),
        _ => Err(error),
    }
}

/// Makes closing the socket send a reset: its peer must not take a broken stream for a complete one.
fn reset_on_close(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}
