//! HTTP on a connection whose TLS is established: HTTP/1.1 or HTTP/2 as ALPN agreed, answered by the built-in pages or
//! by an upstream.
//!
//! Everything here lives on one worker thread: requests are tasks of its `LocalSet`.

mod activity;
mod body;
mod framing;
mod proxy;
mod reply;
mod responder;
mod wire;

use std::convert::Infallible;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::{ACCEPT, HOST};
use http::uri::Authority;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use qtls_core::facts::Facts;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, sleep_until, timeout};

use crate::hosts::Names;
use crate::shutdown::Shutdown;
use crate::upstream::Upstream;
use activity::{Activity, Exchange, Limits, Overdue};
use body::ResponseBody;
use framing::Framing;
use proxy::{Proxy, Visitor};
use reply::Refusal;
use wire::Wire;

/// From the first byte of a request head to its last. A head is a packet or two: only an attack takes longer.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to take the last bytes, once its connection is being closed for idleness.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// A head that is larger gets 431. It also bounds what is buffered of a body in either direction.
const MAX_HEAD: usize = 64 * 1024;
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
}

/// Where errors of upstream servers are counted.
pub trait Observer: fmt::Debug {
    /// An upstream server failed a connection or a request, for one of a fixed set of reasons.
    fn upstream_error(&self, reason: &'static str);
}

/// What answers requests, for all connections of one worker.
#[derive(Debug)]
pub struct Service {
    answers: Answers,
    limits: Limits,
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
    /// probes. Connections end after `idle` without a request.
    pub fn responder(idle: Duration) -> Self {
        Self::new(Answers::Pages, idle)
    }

    /// Passes requests on to the HTTP/1.1 servers of `upstream`. Connections end after `idle` without a request.
    pub fn proxy(upstream: Arc<Upstream>, idle: Duration, observer: Arc<dyn Observer>) -> Self {
        Self::new(Answers::Proxy(Proxy::new(upstream, observer)), idle)
    }

    fn new(answers: Answers, idle: Duration) -> Self {
        let mut http1 = http1::Builder::new();
        // The time limit is ours: hyper has one for a connection without a request and a request without an end.
        http1.header_read_timeout(None).max_buf_size(MAX_HEAD);
        // A client may end its side when it has asked. The pages answer at once; a request that waits for an upstream is
        // given up instead, since a client that leaves ends its side, too.
        http1.half_close(matches!(answers, Answers::Pages));
        let mut http2 = http2::Builder::new(LocalTasks);
        http2
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD as u32)
            .initial_connection_window_size(WINDOW)
            .initial_stream_window_size(WINDOW)
            .max_send_buf_size(STREAM_BUFFER);
        Self { answers, limits: Limits { idle, head: HEAD_TIMEOUT.min(idle) }, http1, http2 }
    }
}

/// How serving a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub cause: Cause,
    /// How many requests there were.
    pub requests: u64,
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
    /// A request head did not end in time.
    HeadTimeout,
    /// The client neither sent nor took anything during a request for too long.
    Stalled,
    /// The client went away in the middle of something, or its connection failed.
    ClientGone,
    /// The client broke the protocol.
    ClientError,
    /// The upstream broke off in the middle of a response, and so the response to the client was broken off.
    UpstreamBrokeOff,
}

impl End {
    /// A short, stable name for the cause, for logs.
    pub fn reason(self) -> &'static str {
        match self.cause {
            Cause::Closed => "closed",
            Cause::Drained => "drained",
            Cause::CutOff => "cut_off",
            Cause::Idle => "idle",
            Cause::HeadTimeout => "head_timeout",
            Cause::Stalled => "stalled",
            Cause::ClientGone => "client_gone",
            Cause::ClientError => "client_error",
            Cause::UpstreamBrokeOff => "upstream_broke_off",
        }
    }
}

/// Serves a connection until it ends.
///
/// When the shutdown drains, what is under way is finished and the client is told to send no more requests here
/// (`Connection: close`, GOAWAY); when it closes, what is left is cut off. Must run inside a `LocalSet`.
pub async fn serve<S>(stream: S, connection: Connection, service: Rc<Service>, shutdown: Shutdown) -> End
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let activity = Activity::new();
    let is_http2 = connection.facts.alpn.as_deref() == Some(b"h2");
    let framing = (!is_http2).then(Framing::default);
    let stream = TokioIo::new(Wire::new(stream, activity.clone(), framing));
    let limits = service.limits;
    let server = Rc::new(Server { service: service.clone(), visitor: Visitor::new(connection), activity });
    let answer = {
        let server = server.clone();
        service_fn(move |request| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        })
    };
    let activity = &server.activity;
    let cause = if is_http2 {
        let mut http2 = service.http2.serve_connection(stream, answer);
        drive(&mut http2, |http2| Pin::new(http2).graceful_shutdown(), activity, limits, shutdown).await
    } else {
        let mut http1 = service.http1.serve_connection(stream, answer);
        let cause = drive(&mut http1, |http1| Pin::new(http1).graceful_shutdown(), activity, limits, shutdown).await;
        let says_goodbye = matches!(cause, Cause::Closed | Cause::Drained | Cause::Idle | Cause::HeadTimeout);
        // hyper leaves the stream open behind a request that asked for an upgrade it didn't get.
        if says_goodbye && !activity.is_shut() {
            let mut stream = http1.into_parts().io.into_inner().into_inner();
            let _ = timeout(CLOSE_TIMEOUT, stream.shutdown()).await;
        }
        cause
    };
    End { cause, requests: activity.requests() }
}

/// Drives hyper's connection, with an eye on the clock and on the shutdown.
async fn drive<C>(
    connection: &mut C,
    finish: impl Fn(&mut C),
    activity: &Activity,
    limits: Limits,
    shutdown: Shutdown,
) -> Cause
where
    C: Future<Output = hyper::Result<()>> + Unpin,
{
    let (mut drains, mut closes) = (shutdown.clone(), shutdown);
    let mut draining = pin!(drains.draining());
    let mut closing = pin!(closes.closing());
    let mut timer = pin!(sleep_until(activity.deadline(limits)));
    // Why the connection is being finished, if it is.
    let mut finishing = None;
    let outcome = poll_fn(|cx| {
        if finishing.is_none() && draining.as_mut().poll(cx).is_ready() {
            finishing = Some(Cause::Drained);
            finish(connection);
        }
        if finishing == Some(Cause::Drained) && closing.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(Cause::CutOff));
        }
        loop {
            if let Poll::Ready(outcome) = Pin::new(&mut *connection).poll(cx) {
                return Poll::Ready(Ok(outcome));
            }
            if finishing == Some(Cause::Idle) {
                // The deadline is that of closing.
                return timer.as_mut().poll(cx).map(|()| Err(Cause::Idle));
            }
            if let Some(deadline) = activity.earlier_deadline(limits).filter(|earlier| *earlier < timer.deadline()) {
                timer.as_mut().reset(deadline);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            match activity.overdue(limits) {
                None => timer.as_mut().reset(activity.deadline(limits)),
                Some(Overdue::Head) => return Poll::Ready(Err(Cause::HeadTimeout)),
                Some(Overdue::Stalled) => return Poll::Ready(Err(Cause::Stalled)),
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
        Ok(Ok(())) => finishing.unwrap_or(Cause::Closed),
        Ok(Err(error)) => {
            tracing::debug!("an HTTP connection failed: {error}");
            if error.is_user() {
                Cause::UpstreamBrokeOff
            } else if let Some(cause) = finishing.filter(|_| activity.is_idle()) {
                // It went as it was told to, and did not wait for the end of the farewell.
                cause
            } else if activity.has_failed() || error.is_incomplete_message() {
                Cause::ClientGone
            } else {
                Cause::ClientError
            }
        }
    }
}

/// What answers the requests of one connection.
struct Server {
    service: Rc<Service>,
    visitor: Visitor,
    activity: Rc<Activity>,
}

impl Server {
    async fn answer(&self, request: Request<Incoming>) -> Response<ResponseBody> {
        let exchange = Exchange::begin(&self.activity);
        if exchange.is_ambiguous() {
            const AMBIGUOUS: Refusal = Refusal::bad_request("a request has either Content-Length or Transfer-Encoding");
            return AMBIGUOUS.into_response(request.method(), request.headers().get(ACCEPT), exchange);
        }
        if self.is_misdirected(&request) {
            return MISDIRECTED.into_response(request.method(), request.headers().get(ACCEPT), exchange);
        }
        match &self.service.answers {
            Answers::Pages => responder::respond(&self.visitor.connection.facts, &request, exchange),
            Answers::Proxy(proxy) => proxy.forward(&self.visitor, request, exchange).await,
        }
    }
}

impl Server {
    /// Whether the request is for another virtual host than the handshake was: behind one host's policy and client
    /// authentication, another's must not be reached (RFC 9110 §15.5.20).
    fn is_misdirected<B>(&self, request: &Request<B>) -> bool {
        let Connection { names, host, .. } = &self.visitor.connection;
        if names.is_empty() {
            return false;
        }
        let named = request.headers().get_all(HOST).iter().map(|value| value.to_str().unwrap_or_default());
        let asked = request.uri().authority().map(Authority::as_str).into_iter().chain(named);
        asked.into_iter().any(|authority| names.host_of(Some(host_of(authority))) != *host)
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

const MISDIRECTED: Refusal = Refusal::new(
    StatusCode::MISDIRECTED_REQUEST,
    "this connection was made for another host: connect to the one that the request is for",
);

/// Runs what hyper does apart from a connection, which is each request of HTTP/2, on the same thread.
#[derive(Clone, Copy, Debug)]
struct LocalTasks;

impl<F: Future + 'static> Executor<F> for LocalTasks {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(async move {
            task.await;
        });
    }
}

#[cfg(test)]
mod tests;
