//! HTTP on a connection whose TLS is established: HTTP/1.1 or HTTP/2 as ALPN agreed, answered by the built-in pages or
//! by an upstream.
//!
//! Everything here lives on one worker thread: requests are tasks of its `LocalSet`.

mod activity;
mod body;
mod framing;
mod hsts;
mod proxy;
mod reply;
mod responder;
mod tunnel;
mod wire;

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, HeaderValue, STRICT_TRANSPORT_SECURITY};
use http::uri::Authority;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use qtls_core::client_hello::Alpn;
use qtls_core::facts::Facts;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use crate::config;
use crate::hosts::Names;
use crate::limits::Life;
use crate::memory;
use crate::shutdown::{Phase, Shutdown};
use crate::upstream::{Leg, Peer, Upstream};
pub(crate) use responder::escape;

use activity::{Activity, Exchange, Limits, Overdue};
use body::ResponseBody;
use framing::{Flaw, Framing};
use proxy::{Passing, Proxy, Tunnel, Visitor};
use reply::Refusal;
pub use tunnel::CloseWrite;
use tunnel::Terms;
use wire::Wire;

/// From the first byte of a request head to its last. A head is a packet or two: only an attack takes longer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may be there without a request before a server that stops closes it: whoever was let in last has
/// this long to say why it came.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// How long a client may take to take the last bytes, once its connection is being closed for idleness.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an HTTP/1.1 connection goes without a request before what hyper has for it is given back: longer than between the
/// requests of a page, and so short that few have it at the same time, which is what memory is taken for.
const REST: Duration = Duration::from_millis(200);
/// Bounds what is buffered of a body in either direction, and the head of a response.
const BUFFER: usize = 64 * 1024;
/// A head with more gets 431: in HTTP/1.1 by hyper, whose default this is.
const MAX_FIELDS: usize = 100;
const MAX_STREAMS: u32 = 250;
/// What HTTP/2 clients may send ahead, for all streams of a connection together, and for one.
const WINDOW: u32 = 1024 * 1024;
/// What is buffered for a stream whose client has closed its window. There may be [`MAX_STREAMS`] of them.
const STREAM_BUFFER: usize = 64 * 1024;

/// A connection, and what its handshake settled.
#[derive(Clone, Debug)]
pub struct Connection {
    /// What was negotiated.
    pub facts: Rc<Facts>,
    /// The client's address.
    pub client: SocketAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// Which names belong to which virtual host.
    pub names: Arc<Names>,
    /// The virtual host that the handshake was for.
    pub host: usize,
    /// The protocols that the client offered.
    pub alpn: Alpn,
    /// How long the connection may live.
    pub life: Option<Life>,
}

/// What the configuration says about the requests of all hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long a connection lasts without a request, or a request without a byte in either direction.
    pub idle: Duration,
    /// How much the head of a request may take, in bytes.
    pub head: usize,
    /// How much the body of a request may take, in bytes. 0 is no limit.
    pub body: u64,
}

impl Settings {
    /// Those of a configuration.
    pub fn of(limits: &config::Limits) -> Self {
        let head = usize::try_from(limits.header_bytes).unwrap_or(usize::MAX);
        Self { idle: limits.idle_timeout, head, body: limits.body_bytes }
    }

    fn body_limit(&self) -> Option<u64> {
        (self.body > 0).then_some(self.body)
    }
}

/// What answers requests, for all connections of one worker.
#[derive(Debug)]
pub struct Service {
    answers: Answers,
    limits: Limits,
    /// How much the head of a request may take, in bytes.
    head: usize,
    hsts: Option<HeaderValue>,
    http1: http1::Builder,
    http2: http2::Builder<LocalTasks>,
}

#[derive(Debug)]
enum Answers {
    Pages,
    Proxy(Proxy),
}

impl Service {
    /// The built-in pages: `/` and `/status.json` tell the visitor the facts of their own connection, `/health` is for
    /// probes.
    pub fn responder(settings: Settings) -> Self {
        Self::new(Answers::Pages, None, settings)
    }

    /// Passes requests on to the servers of `upstream`.
    pub fn proxy(upstream: Arc<Upstream>, settings: Settings) -> Self {
        let hsts = upstream.config().hsts.as_ref().map(hsts::value);
        Self::new(Answers::Proxy(Proxy::new(upstream, settings)), hsts, settings)
    }

    fn new(answers: Answers, hsts: Option<HeaderValue>, settings: Settings) -> Self {
        let Settings { idle, head, body: _ } = settings;
        let is_proxy = matches!(answers, Answers::Proxy(_));
        let mut http1 = http1::Builder::new();
        // The time limit is ours: hyper has one for a connection without a request and a request without an end.
        // Its limit on heads leaves room for a request line that is cut off, to be answered.
        http1.header_read_timeout(None).max_buf_size(BUFFER.max(head).saturating_add(1024));
        // A client may end its side when it has asked. The pages answer at once; a request that waits for an upstream is
        // given up instead, since a client that leaves ends its side, too.
        http1.half_close(!is_proxy);
        let mut http2 = http2::Builder::new(LocalTasks);
        http2
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(u32::try_from(head).unwrap_or(u32::MAX))
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .max_send_buf_size(STREAM_BUFFER)
            // What hyper has by default: who takes more requests back than this overdoes it (CVE-2023-44487), and so does
            // who makes the server take back so many.
            .max_pending_accept_reset_streams(20)
            .max_local_error_reset_streams(1024);
        if is_proxy {
            http2.enable_connect_protocol();
        }
        Self { answers, limits: Limits { idle, head: HEAD_TIMEOUT.min(idle) }, head, hsts, http1, http2 }
    }
}

/// How serving a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub cause: Cause,
    /// How many requests there were.
    pub requests: u64,
    /// The address of the upstream server that had the last one of those that had one.
    pub upstream: Option<Peer>,
    /// What was negotiated with it, over TLS.
    pub leg: Option<Leg>,
}

/// Why serving a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Both sides were done.
    Closed,
    /// The server stops; what was under way when it began to was finished.
    Drained,
    /// The server stops, and what was under way was cut off.
    CutOff,
    /// There was no request for too long.
    Idle,
    /// It had lived as long as a connection may; what was under way was finished.
    Expired,
    /// It had lived as long as a connection may, and what was under way took too long after that.
    ExpiredCutOff,
    /// A request head did not end in time.
    HeadTimeout,
    /// The client neither sent nor took anything during a request for too long.
    Stalled,
    /// The client went away in the middle of something, or its connection failed.
    ClientGone,
    /// The client broke the protocol.
    ClientError,
    /// The client took most of very many requests back.
    TakenBack,
    /// The upstream broke off in the middle of a response, and so the response to the client was broken off.
    UpstreamBrokeOff,
}

impl End {
    /// A short, stable name for the cause, for logs.
    pub fn reason(&self) -> &'static str {
        match self.cause {
            Cause::Closed => "closed",
            Cause::Drained => "drained",
            Cause::CutOff => "cut_off",
            Cause::Idle => "idle",
            Cause::Expired => "connection_timeout",
            Cause::ExpiredCutOff => "connection_timeout_cut_off",
            Cause::HeadTimeout => "head_timeout",
            Cause::Stalled => "stalled",
            Cause::ClientGone => "client_gone",
            Cause::ClientError => "client_error",
            Cause::TakenBack => "requests_taken_back",
            Cause::UpstreamBrokeOff => "upstream_broke_off",
        }
    }

    /// The limit of the configuration that ended it, as metrics call it.
    pub fn limit(&self) -> Option<&'static str> {
        match self.cause {
            Cause::Idle | Cause::Stalled => Some("idle_timeout"),
            Cause::Expired | Cause::ExpiredCutOff => Some("connection_timeout"),
            _ => None,
        }
    }
}

/// Serves a connection until it ends.
///
/// When the shutdown drains, what is under way is finished and the client is told to send no more requests here
/// (`Connection: close`, GOAWAY); when it closes, what is left is cut off. Must run inside a `LocalSet`.
pub fn serve<S>(
    stream: S,
    connection: Connection,
    service: Rc<Service>,
    shutdown: Shutdown,
) -> impl Future<Output = End>
where
    S: CloseWrite + Unpin + 'static,
{
    // Not in an `async fn`: that would keep what it is called with twice.
    let activity = Activity::new();
    let is_http2 = connection.facts.alpn.as_deref() == Some(b"h2");
    let framing = (!is_http2).then(|| Framing::new(service.head));
    let mut wire = Wire::new(stream, activity.clone(), framing);
    let visitor = Visitor::new(connection);
    let server = Rc::new(Server { service, visitor, activity, shutdown, tunnel: RefCell::default() });
    let watch = Watch { server: server.clone(), first: Instant::now() + FIRST_REQUEST };
    async move {
        let cause = loop {
            // What came with the handshake, or what hyper had read already, is not waited for.
            if let Err(cause) = watch.quiet(&mut wire).await {
                if says_goodbye(cause) {
                    let _ = timeout(CLOSE_TIMEOUT, wire.into_inner().shutdown()).await;
                }
                break cause;
            }
            if is_http2 {
                break Box::pin(serve_http2(wire, &watch)).await;
            }
            match Box::pin(serve_http1(wire, &watch)).await {
                Served::Resting(rested) => wire = rested,
                Served::Ended(cause) => break cause,
            }
        };
        let activity = &server.activity;
        End { cause, requests: activity.requests(), upstream: activity.upstream(), leg: activity.leg() }
    }
}

/// Whether the client is told that the connection ends.
fn says_goodbye(cause: Cause) -> bool {
    matches!(cause, Cause::Closed | Cause::Drained | Cause::Expired | Cause::Idle | Cause::HeadTimeout)
}

/// How serving an HTTP/1.1 connection ended.
enum Served<S> {
    /// There has been no request for a while.
    Resting(Wire<S>),
    Ended(Cause),
}

fn answers(
    server: &Rc<Server>,
) -> impl HttpService<Incoming, ResBody = ResponseBody, Error = Infallible, Future: 'static> + use<> {
    let server = server.clone();
    service_fn(move |request| server.clone().answer(request))
}

async fn serve_http2<S>(wire: Wire<S>, watch: &Watch) -> Cause
where
    S: CloseWrite + Unpin + 'static,
{
    let server = &watch.server;
    let mut http2 = server.service.http2.serve_connection(TokioIo::new(wire), answers(server));
    let ended = watch.drive(&mut http2, |http2| Pin::new(http2).graceful_shutdown(), |_| None).await;
    ended.unwrap_or(Cause::Closed)
}

async fn serve_http1<S>(wire: Wire<S>, watch: &Watch) -> Served<S>
where
    S: CloseWrite + Unpin + 'static,
{
    let server = &watch.server;
    let mut http1 = server.service.http1.serve_connection(TokioIo::new(wire), answers(server));
    let ended = watch.drive(&mut http1, |http1| Pin::new(http1).graceful_shutdown(), Activity::rests_since).await;
    let Some(cause) = ended else {
        let http1::Parts { io, read_buf, .. } = http1.into_parts();
        let mut wire = io.into_inner();
        wire.rest(&read_buf);
        server.visitor.rest();
        memory::rests();
        return Served::Resting(wire);
    };
    let tunnel = server.tunnel.take().filter(|_| says_goodbye(cause));
    // hyper leaves the stream open behind a request that asked for an upgrade it didn't get.
    if !says_goodbye(cause) || server.activity.is_shut() {
        return Served::Ended(cause);
    }
    let http1::Parts { io, read_buf, .. } = http1.into_parts();
    let mut stream = io.into_inner().into_inner();
    let Some(tunnel) = tunnel else {
        let _ = timeout(CLOSE_TIMEOUT, stream.shutdown()).await;
        return Served::Ended(cause);
    };
    let mut shutdown = server.shutdown.clone();
    Served::Ended(Box::pin(tunnel.run(stream, read_buf, server.terms(), &mut shutdown)).await)
}

/// The clock and the shutdown, for one connection.
struct Watch {
    server: Rc<Server>,
    /// When a server that stops no longer waits for a first request.
    first: Instant,
}

impl Watch {
    /// Waits until something comes. A connection without a request has nothing of hyper's, which is the greater part of
    /// what one with requests has.
    async fn quiet<S>(&self, wire: &mut Wire<S>) -> Result<(), Cause>
    where
        S: AsyncRead + Unpin,
    {
        let Server { activity, shutdown, .. } = &*self.server;
        let mut phase = pin!(shutdown.past(Phase::Draining));
        let mut is_draining = false;
        let mut timer = pin!(sleep_until(self.until()));
        poll_fn(|cx| {
            if let Poll::Ready(read) = wire.poll_ahead(cx) {
                return Poll::Ready(match read {
                    Ok(true) => Ok(()),
                    Ok(false) => Err(Cause::Closed),
                    Err(_) => Err(Cause::ClientGone),
                });
            }
            while phase.as_mut().poll(cx).is_ready() {
                if is_draining {
                    return Poll::Ready(Err(Cause::CutOff));
                }
                is_draining = true;
                phase.set(shutdown.past(Phase::Closing));
                if activity.requests() > 0 {
                    return Poll::Ready(Err(Cause::Drained));
                }
                timer.as_mut().reset(self.first.min(self.until()));
            }
            ready!(timer.as_mut().poll(cx));
            Poll::Ready(Err(match self.server.life() {
                _ if is_draining => Cause::Drained,
                Some(life) if life.end <= Instant::now() => Cause::Expired,
                _ => Cause::Idle,
            }))
        })
        .await
    }

    /// When a connection without a request is closed.
    fn until(&self) -> Instant {
        let idle = self.server.activity.deadline(self.server.service.limits);
        self.server.life().map_or(idle, |life| life.end.min(idle))
    }

    /// Drives hyper's connection. None, if it may rest: when `rests` gives a moment that was [`REST`] ago.
    async fn drive<C>(
        &self,
        connection: &mut C,
        finish: impl Fn(&mut C),
        rests: impl Fn(&Activity) -> Option<Instant>,
    ) -> Option<Cause>
    where
        C: Future<Output = hyper::Result<()>> + Unpin,
    {
        let Server { activity, shutdown, service, .. } = &*self.server;
        let (limits, life) = (service.limits, self.server.life());
        let mut draining = pin!(shutdown.past(Phase::Draining));
        let mut is_draining = false;
        let mut first = pin!(sleep_until(self.first));
        let mut closing = pin!(shutdown.past(Phase::Closing));
        let mut timer = pin!(sleep_until(activity.deadline(limits)));
        let mut expiry = life.map(|life| Box::pin(sleep_until(life.end)));
        let begun = Instant::now();
        // Why the connection is being finished, if it is.
        let mut finishing = None;
        let outcome = poll_fn(|cx| {
            is_draining = is_draining || draining.as_mut().poll(cx).is_ready();
            if finishing.is_none() && is_draining && (activity.requests() > 0 || first.as_mut().poll(cx).is_ready()) {
                finishing = Some(Cause::Drained);
                finish(connection);
            }
            if let (Some(expiry), Some(life)) = (&mut expiry, life) {
                if finishing.is_none() && expiry.as_mut().poll(cx).is_ready() {
                    finishing = Some(Cause::Expired);
                    expiry.as_mut().reset(Instant::now() + life.grace);
                    finish(connection);
                }
                if finishing == Some(Cause::Expired) && expiry.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Err(Some(Cause::ExpiredCutOff)));
                }
            }
            if matches!(finishing, Some(Cause::Drained | Cause::Expired)) && closing.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Err(Some(Cause::CutOff)));
            }
            if activity.takes_back_too_much() {
                return Poll::Ready(Err(Some(Cause::TakenBack)));
            }
            loop {
                if let Poll::Ready(outcome) = Pin::new(&mut *connection).poll(cx) {
                    return Poll::Ready(Ok(outcome));
                }
                if finishing.is_none() && is_draining && activity.requests() > 0 {
                    finishing = Some(Cause::Drained);
                    finish(connection);
                    continue;
                }
                if finishing == Some(Cause::Idle) {
                    // The deadline is that of closing.
                    return timer.as_mut().poll(cx).map(|()| Err(Some(Cause::Idle)));
                }
                let rest = rests(activity).filter(|_| finishing.is_none()).map(|since| since.max(begun) + REST);
                let earlier = activity.earlier_deadline(limits).or(rest);
                if let Some(deadline) = earlier.filter(|earlier| *earlier < timer.deadline()) {
                    timer.as_mut().reset(deadline);
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                match activity.overdue(limits) {
                    None if rest.is_some_and(|rest| rest <= Instant::now()) => return Poll::Ready(Err(None)),
                    None => timer.as_mut().reset(activity.deadline(limits)),
                    Some(Overdue::Head) => return Poll::Ready(Err(Some(Cause::HeadTimeout))),
                    Some(Overdue::Stalled) => return Poll::Ready(Err(Some(Cause::Stalled))),
                    Some(Overdue::Idle) => {
                        finishing = Some(Cause::Idle);
                        timer.as_mut().reset(Instant::now() + CLOSE_TIMEOUT);
                        finish(connection);
                    }
                }
            }
        })
        .await;
        match outcome {
            Err(cause) => cause,
            Ok(Ok(())) => Some(finishing.unwrap_or(Cause::Closed)),
            Ok(Err(error)) => {
                tracing::debug!("an HTTP connection failed: {error}");
                Some(if error.is_user() {
                    Cause::UpstreamBrokeOff
                } else if let Some(cause) = finishing.filter(|_| activity.is_idle()) {
                    // It went as it was told to, and did not wait for the end of the farewell.
                    cause
                } else if activity.has_failed() || error.is_incomplete_message() {
                    Cause::ClientGone
                } else {
                    Cause::ClientError
                })
            }
        }
    }
}

/// A request that is passed on. Dropped while the client waits for the answer, it was taken back.
struct Unanswered<'a>(&'a Activity);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.taken_back();
    }
}

/// What answers the requests of one connection.
struct Server {
    service: Rc<Service>,
    visitor: Visitor,
    activity: Rc<Activity>,
    shutdown: Shutdown,
    /// What the connection becomes when hyper is done with it.
    tunnel: RefCell<Option<Box<Tunnel>>>,
}

impl Server {
    /// How long the connection may live.
    fn life(&self) -> Option<Life> {
        self.visitor.connection.life
    }

    /// For what the connection becomes when it is upgraded.
    fn terms(&self) -> Terms {
        Terms { idle: self.service.limits.idle, life: self.life() }
    }

    #[expect(clippy::manual_async_fn, reason = "an `async fn` would keep the request twice")]
    fn answer(
        self: Rc<Self>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
        async move {
            // Not sooner: hyper gives a connection up whose body nobody wants before it has looked for its end.
            let mut response = match self.accept(request) {
                Err(response) => response,
                Ok(passing) => {
                    let unanswered = Unanswered(&self.activity);
                    let (response, tunnel) = passing.run().await;
                    std::mem::forget(unanswered);
                    if let Some(tunnel) = tunnel {
                        self.dig(tunnel);
                    }
                    response
                }
            };
            if let Some(hsts) = &self.service.hsts {
                // RFC 6797, section 7.1: one such field. The upstream's own is the better informed.
                response.headers_mut().entry(STRICT_TRANSPORT_SECURITY).or_insert_with(|| hsts.clone());
            }
            Ok(response)
        }
    }

    /// What a request needs to be passed on, or the answer to one that isn't.
    #[expect(clippy::result_large_err, reason = "it is an answer like any other, and is handed on once")]
    fn accept(&self, request: Request<Incoming>) -> Result<Box<Passing>, Response<ResponseBody>> {
        let exchange = Exchange::begin(&self.activity);
        if let Some(refusal) = self.refusal(&request, &exchange) {
            return Err(refusal.into_response(request.method(), request.headers().get(ACCEPT), exchange));
        }
        match &self.service.answers {
            Answers::Pages => Err(responder::respond(&self.visitor.connection.facts, &request, exchange)),
            Answers::Proxy(proxy) => proxy.accept(&self.visitor, request, exchange),
        }
    }

    fn refusal(&self, request: &Request<Incoming>, exchange: &Exchange) -> Option<Refusal> {
        let flaw = exchange.flaw().map(refusal_of);
        let crowded = || (request.headers().len() > MAX_FIELDS).then_some(refusal_of(Flaw::Head));
        flaw.or_else(crowded).or_else(|| self.is_misdirected(request).then_some(MISDIRECTED))
    }

    /// Has bytes passed both ways: on the connection itself, when hyper is done with it, or on a stream of it.
    fn dig(&self, mut tunnel: Tunnel) {
        let Some(stream) = tunnel.stream.take() else { return drop(self.tunnel.replace(Some(Box::new(tunnel)))) };
        let terms = self.terms();
        let mut shutdown = self.shutdown.clone();
        tokio::task::spawn_local(async move {
            match stream.await {
                Ok(stream) => {
                    tunnel.run(TokioIo::new(stream), Bytes::new(), terms, &mut shutdown).await;
                }
                Err(error) => tracing::debug!("a client did not wait for its WebSocket: {error}"),
            }
        });
    }
}

impl Server {
    /// Whether the request is for another virtual host than the handshake was: behind one host's policy and client
    /// authentication, another's must not be reached (RFC 9110 §15.5.20).
    fn is_misdirected<B>(&self, request: &Request<B>) -> bool {
        let Connection { names, host, alpn, .. } = &self.visitor.connection;
        if names.is_empty() {
            return false;
        }
        let named = request.headers().get_all(HOST).iter().map(|value| value.to_str().unwrap_or_default());
        let asked = request.uri().authority().map(Authority::as_str).into_iter().chain(named);
        // The same client, asking for that name in its handshake, would have to come to the same host.
        asked.into_iter().any(|authority| names.host_of(Some(host_of(authority)), alpn) != *host)
    }
}

/// The host of `host:port`, where the port may be missing.
fn host_of(authority: &str) -> &str {
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.rsplit_once(':') {
        // The colons of an IPv6 address stand in brackets.
        Some((name, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => name,
        _ => host,
    }
}

/// What a request is answered with that hyper would serve.
fn refusal_of(flaw: Flaw) -> Refusal {
    match flaw {
        Flaw::Lengths => Refusal::bad_request("a request has either Content-Length or Transfer-Encoding"),
        Flaw::Length => Refusal::bad_request("a request has one Content-Length at most, which is a number"),
        Flaw::LineFeed => Refusal::bad_request("a line ends with carriage return and line feed"),
        Flaw::Target => {
            Refusal::new(StatusCode::URI_TOO_LONG, "the request line is longer than this server takes").closing()
        }
        Flaw::Head => Refusal::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "the head of the request is larger, or has more fields, than this server takes",
        )
        .closing(),
    }
}

const MISDIRECTED: Refusal = Refusal::new(
    StatusCode::MISDIRECTED_REQUEST,
    "this connection was made for another host: connect to the one that the request is for",
);

/// Runs what hyper does apart from a connection, which is each request of HTTP/2, on the same thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LocalTasks;

impl<F: Future + 'static> Executor<F> for LocalTasks {
    fn execute(&self, task: F) {
        // Not inside another future: that would hold the task twice.
        tokio::task::spawn_local(task);
    }
}

#[cfg(test)]
mod tests;
