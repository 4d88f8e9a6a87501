//! TCP mode: plaintext between a TLS connection and an upstream, both ways at once.
//!
//! One task a connection and no buffers of its own: each turn reads into the worker's buffers, processes, and writes.
//! Only what the other side doesn't take is kept, and while it is kept nothing more is read (back-pressure); a socket that
//! is not read from is still watched for its failure.

mod failing;
mod far;

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use crate::handshake::Established;
use crate::limits::Life;
use crate::observe::metrics::Tally;
use crate::shutdown::Shutdown;
use crate::socket::Socket;
use crate::stream::{Tls, TlsStream, Traffic, Waiting, come_back, poll_drain, poll_read, poll_write, with_scratch};
use crate::upstream::Link;
use failing::Failing;
use far::{Far, Outcome, Plain, Secured, Taken};

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
    /// TLS with the upstream failed; the client was cut off without `close_notify`.
    UpstreamTls(rustls::Error),
    /// The upstream's TCP connection ended without `close_notify`, and so did the client's.
    UpstreamTruncated,
    /// Nothing went either way for too long.
    Idle,
    /// It has lived as long as a connection may.
    Expired,
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
            Self::UpstreamTls(_) => "upstream_tls_error",
            Self::UpstreamTruncated => "upstream_truncated",
            Self::Idle => "idle_timeout",
            Self::Expired => "connection_timeout",
            Self::Stopped => "stopped",
        }
    }

    /// The limit that ended it, as metrics call it.
    pub fn limit(&self) -> Option<&'static str> {
        match self {
            Self::Idle => Some("idle_timeout"),
            Self::Expired => Some("connection_timeout"),
            _ => None,
        }
    }
}

/// Relays until both directions are closed, one side fails, nothing happens for `idle`, the connection's `life` is over,
/// or the server stops.
pub fn relay<'a>(
    stream: TlsStream,
    upstream: impl Into<Link>,
    idle: Duration,
    life: Option<Life>,
    shutdown: &'a mut Shutdown,
) -> impl Future<Output = (End, Traffic)> + 'a {
    carry(stream, upstream.into(), idle, life, None, false, shutdown)
}

/// [`relay`] for a socket whose owner has no other way to tell a stream that was cut off from a whole one: an end without
/// `close_notify` resets it, after what came before.
pub(crate) fn strictly<'a>(
    stream: TlsStream,
    socket: Socket,
    idle: Duration,
    life: Option<Life>,
    shutdown: &'a mut Shutdown,
) -> impl Future<Output = (End, Traffic)> + 'a {
    carry(stream, socket.into(), idle, life, None, true, shutdown)
}

/// [`relay`], while somebody looks on.
pub(crate) fn watched<'a>(
    stream: TlsStream,
    upstream: impl Into<Link>,
    idle: Duration,
    life: Option<Life>,
    watch: &'a mut dyn Watch,
    shutdown: &'a mut Shutdown,
) -> impl Future<Output = (End, Traffic)> + 'a {
    carry(stream, upstream.into(), idle, life, Some(watch), false, shutdown)
}

/// Somebody who looks at the plaintext that passes by, before it goes on, and changes nothing.
pub(crate) trait Watch {
    /// The upstream sent this. Whether to look at more, from either side.
    fn sent(&mut self, bytes: &[u8]) -> bool;

    /// The client sent this. Whether to look at more, from either side.
    fn received(&mut self, bytes: &[u8]) -> bool;
}

/// No `async fn`: such a one keeps what it is called with twice, for as long as a connection is there.
fn carry<'a>(
    stream: TlsStream,
    upstream: Link,
    idle: Duration,
    life: Option<Life>,
    mut watch: Option<&'a mut dyn Watch>,
    strict: bool,
    shutdown: &'a mut Shutdown,
) -> impl Future<Output = (End, Traffic)> + 'a {
    let (client, tls, to_upstream, tally) = stream.into_parts();
    let received = to_upstream.len() as u64;
    if watch.as_mut().is_some_and(|watch| !to_upstream.is_empty() && !watch.received(to_upstream.as_slice())) {
        watch = None;
    }
    let near = Near { tls, tally, watch, strict, received, idle, expires: life.map(|life| life.end) };
    async move {
        match upstream {
            Link::Plain(socket) => {
                near.with(&client, Plain { socket: &socket, waiting: to_upstream }, &socket).run(shutdown).await
            }
            Link::Tls(established) => {
                Box::pin(carry_over_tls(near, &client, *established, to_upstream, shutdown)).await
            }
        }
    }
}

async fn carry_over_tls(
    near: Near<'_>,
    client: &Socket,
    Established { stream, .. }: Established,
    to_upstream: Waiting,
    shutdown: &mut Shutdown,
) -> (End, Traffic) {
    let (socket, tls, from_upstream, tally) = stream.into_parts();
    let closed = tls.received_close();
    let mut relay = near.with(client, Secured { socket: &socket, tls, tally }, &socket);
    // Servers that speak first may have done so with the end of the handshake.
    match relay.begin(to_upstream.as_slice(), from_upstream.as_slice(), closed) {
        Ok(()) => relay.run(shutdown).await,
        Err(end) => relay.finish(end).await,
    }
}

/// What a relay has before it has an upstream.
struct Near<'w> {
    tls: Tls,
    tally: Arc<Tally>,
    watch: Option<&'w mut dyn Watch>,
    strict: bool,
    /// Plaintext that came with the handshake.
    received: u64,
    idle: Duration,
    expires: Option<Instant>,
}

impl<'w> Near<'w> {
    fn with<'s, F: Far>(self, client: &'s Socket, far: F, upstream: &'s Socket) -> Relay<'s, 'w, F> {
        let Self { tls, tally, watch, strict, received, idle, expires } = self;
        Relay {
            traffic: Traffic { received, sent: 0 },
            tally,
            client,
            client_failing: Failing::new(client),
            far,
            far_failing: Failing::new(upstream),
            watch,
            // What the client sends in one go may be here already, up to its close_notify.
            down: if tls.received_close() { Down::Ending } else { Down::Open },
            tls,
            up: Up::Open,
            truncated: false,
            strict,
            upstream_truncated: false,
            idle,
            expires,
            active: true,
            timer: Box::pin(sleep_until(next_look(idle, expires))),
        }
    }
}

/// The client's data, on its way to the upstream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Down {
    Open,
    /// The client has closed; the upstream is to be told when it has everything.
    Ending,
    /// The client was cut off, and the upstream is to be reset when it has everything.
    Cut,
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

/// What one read from the client brought.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Received {
    Data,
    /// Mostly overhead: the other connections of the worker have their turn.
    Crumbs,
    End,
}

struct Relay<'s, 'w, F> {
    client: &'s Socket,
    client_failing: Failing<'s>,
    far: F,
    far_failing: Failing<'s>,
    /// Gone when it has seen enough.
    watch: Option<&'w mut dyn Watch>,
    tls: Tls,
    down: Down,
    up: Up,
    truncated: bool,
    /// Whether the upstream is reset where the client was cut off.
    strict: bool,
    upstream_truncated: bool,
    traffic: Traffic,
    tally: Arc<Tally>,
    idle: Duration,
    expires: Option<Instant>,
    /// Whether anything went through since the timer was set. It is moved when it fires, not with each byte.
    active: bool,
    timer: Pin<Box<Sleep>>,
}

impl<F: Far> Relay<'_, '_, F> {
    /// Passes on what came with the handshakes: `closed` is whether the upstream has said that there will be no more.
    fn begin(&mut self, to_upstream: &[u8], from_upstream: &[u8], closed: bool) -> Result<(), End> {
        with_scratch(|scratch| {
            // Written when the relay begins to run.
            let mut nobody = Context::from_waker(std::task::Waker::noop());
            self.far.pass(to_upstream, &mut scratch.output, &mut nobody)?;
            if self.down == Down::Ending {
                self.far.queue_end();
            }
            if !from_upstream.is_empty() {
                if self.watch.as_mut().is_some_and(|watch| !watch.sent(from_upstream)) {
                    self.watch = None;
                }
                let length = self.tls.encrypt(from_upstream, &mut scratch.output).map_err(End::Tls)?;
                self.tls.outgoing.push(&scratch.output[..length]);
                self.traffic.sent += from_upstream.len() as u64;
                self.tally.sent(from_upstream.len());
            }
            if closed {
                self.tls.queue_close_notify();
                self.up = Up::Ending;
            }
            Ok(())
        })
    }

    async fn run(&mut self, shutdown: &mut Shutdown) -> (End, Traffic) {
        let end = tokio::select! {
            biased;
            end = poll_fn(|cx| self.poll(cx)) => Some(end),
            () = shutdown.closing() => None,
        };
        if end.is_none() {
            Box::pin(self.say_goodbye()).await;
        }
        Box::pin(self.finish(end.unwrap_or(End::Stopped))).await
    }

    async fn finish(&mut self, end: End) -> (End, Traffic) {
        match &end {
            End::Client(_) | End::Tls(_) => self.far.socket().reset_on_close(),
            End::Truncated if self.strict => self.far.socket().reset_on_close(),
            End::Upstream(_) | End::UpstreamTls(_) => self.client.reset_on_close(),
            End::Idle | End::Expired => self.say_goodbye().await,
            _ => {}
        }
        if !self.tls.outgoing.is_empty() {
            // It took not even the farewell. What is in the socket's buffer would stay in the kernel for minutes, for a
            // peer that reads nothing.
            self.client.reset_on_close();
        }
        (end, self.traffic)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        if let Poll::Ready(Err(end)) = self.poll_down(cx) {
            // The alert for a broken record is queued: as far as the socket takes it now.
            let _ = poll_drain(self.client, &mut self.tls.outgoing, cx);
            return Poll::Ready(end);
        }
        if let Poll::Ready(Err(end)) = self.poll_up(cx) {
            return Poll::Ready(end);
        }
        if self.down == Down::Done && self.up == Up::Done {
            return Poll::Ready(match (self.truncated, self.upstream_truncated) {
                (true, _) => End::Truncated,
                (false, true) => End::UpstreamTruncated,
                (false, false) => End::Clean,
            });
        }
        // A peer that has said all it had to say may go: what it said is still passed on.
        if self.up == Up::Open
            && !self.tls.outgoing.is_empty()
            && let Poll::Ready(error) = self.far_failing.poll(cx)
        {
            return Poll::Ready(End::Upstream(error));
        }
        if self.down == Down::Open
            && self.far.is_stalled()
            && let Poll::Ready(error) = self.client_failing.poll(cx)
        {
            return Poll::Ready(End::Client(error));
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if self.expires.is_some_and(|expires| expires <= Instant::now()) {
                return Poll::Ready(End::Expired);
            }
            if !std::mem::take(&mut self.active) {
                return Poll::Ready(End::Idle);
            }
            self.timer.as_mut().reset(next_look(self.idle, self.expires));
        }
        Poll::Pending
    }

    /// Client to upstream, as far as it goes now. Ready when this direction is done.
    fn poll_down(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        for _ in 0..TURNS {
            ready!(self.far.poll_drain(cx))?;
            match self.down {
                Down::Done => return Poll::Ready(Ok(())),
                Down::Cut => return Poll::Ready(Err(End::Truncated)),
                Down::Ending => {
                    self.far.socket().end_writing().map_err(End::Upstream)?;
                    self.down = Down::Done;
                }
                Down::Open => {
                    let received = ready!(self.poll_receive(cx))?;
                    if received == Received::End {
                        // To an upstream over TLS, this too is passed on as what it is: without close_notify.
                        self.truncated = true;
                    }
                    if self.tls.received_close() {
                        self.far.queue_end();
                    }
                    if received == Received::End || self.tls.received_close() {
                        self.down = if self.truncated && self.strict { Down::Cut } else { Down::Ending };
                    }
                    if received == Received::Crumbs {
                        break;
                    }
                }
            }
        }
        come_back(cx);
        Poll::Pending
    }

    /// One read from the client, decrypted, and passed on as far as the upstream takes it.
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, End>> {
        let Self { client, far, watch, tls, traffic, tally, active, .. } = self;
        with_scratch(|scratch| {
            let held = tls.lay_out(&mut scratch.input);
            let end = tls.appetite(scratch.input.len());
            let count = ready!(poll_read(client, &mut scratch.input[held..end], cx)).map_err(End::Client)?;
            if count == 0 {
                return Poll::Ready(Ok(Received::End));
            }
            *active = true;
            let mut length = 0;
            let plain = &mut scratch.plain;
            let outcome = tls.process(&mut scratch.input[..held + count], |payload| {
                plain[length..length + payload.len()].copy_from_slice(payload);
                length += payload.len();
            });
            traffic.received += length as u64;
            tally.received(length);
            // What came before a broken record was authentic, and is passed on.
            if watch.as_mut().is_some_and(|watch| !watch.received(&scratch.plain[..length])) {
                *watch = None;
            }
            far.pass(&scratch.plain[..length], &mut scratch.output, cx)?;
            outcome.map_err(End::Tls)?;
            // Answers to key updates.
            let _ = poll_drain(client, &mut tls.outgoing, cx).map_err(End::Client)?;
            Poll::Ready(Ok(if tls.judge(count, length) { Received::Crumbs } else { Received::Data }))
        })
    }

    /// Upstream to client, as far as it goes now. Ready when this direction is done.
    fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), End>> {
        for _ in 0..TURNS {
            ready!(poll_drain(self.client, &mut self.tls.outgoing, cx)).map_err(End::Client)?;
            match self.up {
                Up::Done => return Poll::Ready(Ok(())),
                Up::Ending => {
                    self.client.end_writing().map_err(End::Client)?;
                    self.up = Up::Done;
                }
                Up::Open => match ready!(self.poll_send(cx))? {
                    Outcome::More => {}
                    Outcome::Crumbs => break,
                    Outcome::Closed => {
                        self.tls.queue_close_notify();
                        self.up = Up::Ending;
                    }
                    // The client is to see that something may be missing: its connection ends without close_notify, too.
                    Outcome::Truncated => {
                        self.upstream_truncated = true;
                        self.up = Up::Ending;
                    }
                    Outcome::Broken(end) => {
                        // What came before was genuine.
                        let _ = poll_drain(self.client, &mut self.tls.outgoing, cx);
                        return Poll::Ready(Err(end));
                    }
                },
            }
        }
        come_back(cx);
        Poll::Pending
    }

    /// One read from the upstream, encrypted, and sent as far as the client takes it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<Outcome, End>> {
        let Self { client, far, watch, tls, traffic, tally, active, .. } = self;
        with_scratch(|scratch| {
            let Taken { plain: count, outcome } = ready!(far.poll_take(scratch, cx))?;
            if count == 0 {
                return Poll::Ready(Ok(outcome));
            }
            *active = true;
            traffic.sent += count as u64;
            tally.sent(count);
            if watch.as_mut().is_some_and(|watch| !watch.sent(&scratch.plain[..count])) {
                *watch = None;
            }
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
            Poll::Ready(Ok(outcome))
        })
    }

    /// `close_notify` behind whatever waits, if the client takes it soon; and to an upstream over TLS, too.
    async fn say_goodbye(&mut self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        self.tls.queue_close_notify();
        if self.down == Down::Open {
            self.far.queue_end();
        }
        let flushed = poll_fn(|cx| {
            let near = poll_drain(self.client, &mut self.tls.outgoing, cx).map_err(End::Client);
            // Plaintext that an upstream in the clear doesn't take is none of the farewell's business.
            let far = if F::SAYS_GOODBYE { self.far.poll_drain(cx) } else { Poll::Ready(Ok(())) };
            if near.is_ready() && far.is_ready() { Poll::Ready(()) } else { Poll::Pending }
        });
        let _ = tokio::time::timeout(PATIENCE, flushed).await;
    }
}

/// When a connection may be idle or expired, seen from now.
fn next_look(idle: Duration, expires: Option<Instant>) -> Instant {
    let idle = Instant::now() + idle;
    expires.map_or(idle, |expires| expires.min(idle))
}
