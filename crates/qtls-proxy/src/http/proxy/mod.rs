//! Passing requests on to an upstream, in HTTP/1.1 or HTTP/2.
//!
//! No `Via` is added, although RFC 9110, section 7.6.3 wants it of gateways: it would tell strangers of the machinery, and
//! upstreams take its presence for a sign of a forward proxy (some stop compressing). nginx and HAProxy don't either.

mod bodies;
mod expectation;
mod fields;
mod heads;
mod multiplexed;
mod observed;
mod pool;
mod request;
mod response;
mod upgrade;
mod visitor;

use std::cell::RefCell;
use std::error::Error as _;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HeaderValue};
use http::uri::Scheme;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout_at};

use super::activity::Exchange;
use super::body::ResponseBody;
use super::reply::Refusal;
use super::{BUFFER, LocalTasks, Settings};
use crate::config::HttpVersion;
use crate::upstream::{ConnectError, ConnectErrorKind, Link, ServerId, Upstream};
use bodies::RequestBody;
pub(super) use bodies::{Interrupted, UpstreamBody};
use heads::{Heads, Watched};
use multiplexed::Turn;
use observed::Observed;
use pool::{Lease, Pool, Sender, Sending};
pub(super) use upgrade::Tunnel;
use upgrade::{Answer, Wanted};
pub(super) use visitor::Visitor;

/// Passes requests on. One for each worker.
#[derive(Debug)]
pub(super) struct Proxy(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    upstream: Arc<Upstream>,
    pool: Pool,
    http1: http1::Builder,
    http2: http2::Builder<LocalTasks>,
    scheme: Scheme,
    /// How much a request body may have.
    body_limit: Option<u64>,
}

/// Why an upstream did not answer.
#[derive(Debug)]
enum Failure {
    Connect(ConnectError),
    /// No head of a response within this time.
    HeadTimeout(Duration),
    /// No part of a body within this time.
    BodyTimeout(Duration),
    /// Not over within this time.
    Total(Duration),
    /// The connection ended before the head of a response did.
    Closed(String),
    /// TLS with it failed, which is in the log and counted.
    Tls,
    /// The server has not begun with the request, and says so: HTTP/2 alone tells (RFC 9113, section 8.7).
    Unprocessed(String),
    /// It answered with something that can't be passed on.
    Invalid(String),
    /// The connection ended before the body did.
    BrokeOff(hyper::Error),
}

/// What came of sending a request.
enum Sent {
    Answered(Response<Incoming>, Lease),
    /// Not a byte of it was sent.
    Unsent(Request<RequestBody>),
    Failed(Failure),
    /// The client did not send its body: in time, or at all.
    Starved,
    Broken,
    /// Its host can't be said in HTTP/2.
    Unspeakable,
    /// The body turned out to be larger than it may be.
    TooLarge,
}

impl Proxy {
    pub(super) fn new(upstream: Arc<Upstream>, settings: Settings) -> Self {
        let mut http1 = http1::Builder::new();
        http1.max_buf_size(BUFFER).max_header_size(BUFFER);
        let http2 = multiplexed::builder();
        let scheme = if upstream.tls().is_some() { Scheme::HTTPS } else { Scheme::HTTP };
        let body_limit = settings.body_limit();
        Self(Rc::new_cyclic(|this: &Weak<Inner>| {
            let pool = Pool::new(upstream.len(), this.clone());
            Inner { pool, upstream, http1, http2, scheme, body_limit }
        }))
    }

    /// What a request needs to be passed on, or the answer to one that isn't.
    #[expect(clippy::result_large_err, reason = "it is an answer like any other, and is handed on once")]
    pub(super) fn accept(
        &self,
        visitor: &Visitor,
        mut request: Request<Incoming>,
        exchange: Rc<Exchange>,
    ) -> Result<Box<Passing>, Response<ResponseBody>> {
        let accept = request.headers().get(ACCEPT).cloned();
        let wanted = Wanted::of(&mut request);
        let method = request.method().clone();
        let end = self.0.upstream.total_timeout().map(|total| Instant::now() + total);
        let outgoing = wanted.and_then(|wanted| {
            let options =
                request::Options { client_cert: self.0.upstream.wants_client_cert(), body_limit: self.0.body_limit };
            Ok((request::prepare(request, visitor, &exchange, options)?, wanted))
        });
        match outgoing {
            Ok((outgoing, wanted)) => {
                let (proxy, client) = (self.0.clone(), visitor.connection.client.ip());
                Ok(Box::new(Passing { proxy, outgoing, wanted, method, accept, end, exchange, client }))
            }
            Err(refusal) => Err(refusal.into_response(&method, accept.as_ref(), exchange)),
        }
    }
}

/// A request that is to be passed on.
pub(super) struct Passing {
    proxy: Rc<Inner>,
    outgoing: request::Outgoing,
    wanted: Option<Wanted>,
    method: Method,
    accept: Option<HeaderValue>,
    end: Option<Instant>,
    exchange: Rc<Exchange>,
    client: IpAddr,
}

impl Passing {
    /// Passes it on, and the response back; and whatever comes behind that, if it switches protocols.
    pub(super) async fn run(self: Box<Self>) -> (Response<ResponseBody>, Option<Tunnel>) {
        let Self { proxy, outgoing, wanted, method, accept, end, exchange, client } = *self;
        exchange.awaits_head(true);
        let outcome = match wanted {
            None => {
                let exchanging = pin!(proxy.exchange(outgoing, &method, client, &exchange));
                proxy.in_time(exchanging, &method, &exchange, end).await.map(Answer::of)
            }
            Some(wanted) => {
                let switching = Box::pin(proxy.switch(wanted, outgoing, &method, client, &exchange));
                proxy.in_time(switching, &method, &exchange, end).await
            }
        };
        exchange.awaits_head(false);
        match outcome {
            Ok(Answer::Passed(response, lease)) => {
                let response = response.map(|body| {
                    let body = UpstreamBody::new(body, lease, proxy, exchange.clone(), method, end);
                    ResponseBody::upstream(body, exchange)
                });
                (response, None)
            }
            Ok(Answer::Switched(response, tunnel)) => {
                (response.map(|()| ResponseBody::whole(Bytes::new(), exchange)), Some(tunnel))
            }
            Err(refusal) => (refusal.into_response(&method, accept.as_ref(), exchange), None),
        }
    }
}

impl Inner {
    /// What ends before its head at the latest when its time is over.
    async fn in_time<T>(
        &self,
        under_way: impl Future<Output = Result<T, Refusal>> + Unpin,
        method: &Method,
        exchange: &Exchange,
        end: Option<Instant>,
    ) -> Result<T, Refusal> {
        let Some(end) = end else { return under_way.await };
        match timeout_at(end, under_way).await {
            Ok(outcome) => outcome,
            Err(_) => {
                let failure = Failure::Total(self.upstream.config().timeouts.total);
                if let Some(server) = exchange.server() {
                    self.report(server, &failure, method);
                }
                Err(failure.refusal())
            }
        }
    }

    #[expect(clippy::manual_async_fn, reason = "an `async fn` would keep the request twice")]
    fn exchange(
        &self,
        request::Outgoing { mut request, repeatable }: request::Outgoing,
        method: &Method,
        client: IpAddr,
        exchange: &Exchange,
    ) -> impl Future<Output = Result<(Response<Incoming>, Lease), Refusal>> {
        async move {
            let replaceable = matches!(request.body(), RequestBody::Empty);
            let mut last: Option<(ServerId, Failure)> = None;
            // Whether a connection of the pool may still be used.
            let mut pooled = true;
            // Whether it was sent to a server that may have begun with it.
            let mut sent_before = false;
            for server in self.upstream.order(client) {
                if let Some((before, _)) = last {
                    self.upstream.passed_on(before);
                }
                exchange.occupies(server, self.upstream.occupy(server));
                while let Some(lease) = pooled.then(|| self.pool.take(server)).flatten() {
                    if !self.upstream.leads_to(server, lease.peer()) {
                        self.pool.discard(lease);
                        continue;
                    }
                    let copy = (repeatable || (replaceable && lease.is_http2())).then(|| request::copy(&request));
                    match (self.send(lease, request, exchange).await, copy) {
                        // It had been closed while it was idle.
                        (Sent::Unsent(unsent), _) => request = unsent,
                        // It was being closed while the request was on its way.
                        (Sent::Failed(failure @ (Failure::Closed(_) | Failure::Tls)), Some(copy)) if repeatable => {
                            tracing::debug!("an idle upstream connection had ended: {failure}; trying a new one");
                            request = copy;
                            pooled = false;
                            sent_before = true;
                        }
                        (Sent::Failed(Failure::Unprocessed(why)), Some(copy)) => {
                            tracing::debug!("an upstream connection took no more requests: {why}; trying a new one");
                            request = copy;
                            pooled = false;
                        }
                        (sent, _) => return self.settle(sent, server, method),
                    }
                }
                let failure = match Box::pin(self.connect(server, method)).await {
                    Ok(Ok(lease)) => {
                        let copy = (replaceable && lease.is_http2()).then(|| request::copy(&request));
                        let failure = match (self.send(lease, request, exchange).await, copy) {
                            (Sent::Unsent(unsent), _) => {
                                request = unsent;
                                Failure::Closed("before the request".to_owned())
                            }
                            (Sent::Failed(failure @ Failure::Unprocessed(_)), Some(copy)) => {
                                request = copy;
                                failure
                            }
                            (sent, _) => return self.settle(sent, server, method),
                        };
                        self.report(server, &failure, method);
                        failure
                    }
                    Ok(Err(error)) => {
                        let failure = Failure::before_head(&error);
                        self.report(server, &failure, method);
                        failure
                    }
                    Err(error) => Failure::Connect(error),
                };
                last = Some((server, failure));
                // It was sent before, though to a connection that had ended: to this server, and so to no other one.
                if sent_before {
                    break;
                }
            }
            let failure = last.map_or_else(|| Failure::Connect(self.upstream.none_up()), |(_, failure)| failure);
            Err(failure.refusal())
        }
    }

    /// A new connection, or a place on one that somebody else has made meanwhile.
    async fn connect(&self, server: ServerId, method: &Method) -> Result<hyper::Result<Lease>, ConnectError> {
        if self.upstream.config().http_version == HttpVersion::Http1 {
            let link = self.upstream.connect_to(server, method.as_str(), b"").await?;
            return Ok(self.open(link, server).await);
        }
        let multiplexed = self.pool.multiplexed(server);
        let _turn = match multiplexed.turn().await {
            Turn::Shared(stream) => return Ok(Ok(Lease::of_stream(stream, server))),
            Turn::Failed(error) => return Err(error),
            Turn::Connect(turn) => turn,
        };
        let link = self.upstream.connect_to(server, method.as_str(), b"").await;
        multiplexed.connected(link.as_ref().map(|link| self.is_http2(link)));
        Ok(self.open(link?, server).await)
    }

    /// What ALPN says; without TLS, what the configuration knows.
    fn is_http2(&self, link: &Link) -> bool {
        match link.facts() {
            Some(facts) => facts.alpn.as_deref() == Some(b"h2"),
            None => self.upstream.config().http_version == HttpVersion::Http2,
        }
    }

    async fn open(&self, link: Link, server: ServerId) -> hyper::Result<Lease> {
        let http2 = self.is_http2(&link);
        let (link, reached) = Observed::new(link, self.upstream.clone(), server);
        if http2 {
            let multiplexed = self.pool.multiplexed(server);
            let mut http2 = self.http2.clone();
            http2.initial_max_send_streams(multiplexed.usual());
            let (sender, connection) = http2.handshake(TokioIo::new(link)).await?;
            // Asked while it runs, since its settings say how many streams there may be, and may do so at any time.
            let connection = Rc::new(RefCell::new(Some(connection)));
            let running = connection.clone();
            let room = move || running.try_borrow().ok()?.as_ref().map(http2::Connection::current_max_send_streams);
            let stream = multiplexed.add(sender, reached, Box::new(room));
            let driven = poll_fn(move |cx| {
                let mut connection = connection.borrow_mut();
                let Some(running) = connection.as_mut() else { return Poll::Ready(Ok(())) };
                let outcome = Pin::new(running).poll(cx);
                if outcome.is_ready() {
                    *connection = None;
                }
                outcome
            });
            self.drive(driven, server);
            let lease = Lease::of_stream(stream, server);
            self.pool.reap();
            return Ok(lease);
        }
        let heads = Heads::default();
        let link = TokioIo::new(Watched::new(link, heads.clone()));
        let (sender, connection) = self.http1.handshake(link).await?;
        let task = self.drive(connection, server);
        Ok(Lease::new(Sender::Http1 { sender, task }, heads, server, reached))
    }

    fn drive(&self, connection: impl Future<Output = hyper::Result<()>> + 'static, server: ServerId) -> AbortHandle {
        let open = self.upstream.opened(server);
        let task = tokio::task::spawn_local(async move {
            let _open = open;
            if let Err(error) = connection.await {
                tracing::debug!("an upstream connection failed: {error}");
            }
        });
        task.abort_handle()
    }

    /// Sends a request and waits for the head of the response.
    fn send(
        &self,
        mut lease: Lease,
        mut request: Request<RequestBody>,
        exchange: &Exchange,
    ) -> impl Future<Output = Sent> {
        let sending = request::speak(&mut request, lease.is_http2(), self.scheme.clone()).then(|| {
            exchange.reaches(lease.peer(), lease.leg());
            if !lease.is_http2() {
                lease.heads.await_one();
            }
            lease.sender.send(request)
        });
        async move {
            let Some(sending) = sending else { return Sent::Unspeakable };
            self.answer(sending, lease, exchange).await
        }
    }

    async fn answer(&self, mut sending: Sending, mut lease: Lease, exchange: &Exchange) -> Sent {
        let idle = self.upstream.idle_timeout();
        let mut count = Count { upstream: &self.upstream, server: lease.server(), sent: true };
        lease.timer.as_mut().reset(Instant::now() + idle);
        let timer = &mut lease.timer;
        let outcome = poll_fn(|cx| {
            loop {
                if let Poll::Ready(outcome) = sending.as_mut().poll(cx) {
                    return Poll::Ready(Some(outcome));
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
                // While a body is being sent, silence of the server is none.
                let Some(later) = exchange.uploaded_within(idle) else { return Poll::Ready(None) };
                timer.as_mut().reset(later);
            }
        })
        .await;
        match outcome {
            Some(Ok(response)) => Sent::Answered(response, lease),
            Some(Err(mut error)) => match error.take_message() {
                Some(request) => {
                    count.sent = false;
                    Sent::Unsent(request)
                }
                None if exchange.is_too_large() => Sent::TooLarge,
                None if exchange.is_broken() => Sent::Broken,
                None if lease.heads.is_flawed() => {
                    Sent::Failed(Failure::Invalid("a line of its head ends with a line feed alone".to_owned()))
                }
                None if lease.fate().is_told() => Sent::Failed(Failure::Tls),
                None => Sent::Failed(Failure::before_head(&error.into_error())),
            },
            None if exchange.is_starved() => Sent::Starved,
            None => Sent::Failed(Failure::HeadTimeout(idle)),
        }
    }

    fn settle(&self, sent: Sent, server: ServerId, method: &Method) -> Result<(Response<Incoming>, Lease), Refusal> {
        let failure = match sent {
            Sent::Answered(response, lease) => {
                let (mut parts, body) = response.into_parts();
                match response::prepare(&mut parts) {
                    Ok(()) => {
                        self.upstream.answered(server);
                        return Ok((Response::from_parts(parts, body), lease));
                    }
                    Err(why) => Failure::Invalid(why.to_owned()),
                }
            }
            Sent::Failed(failure) => failure,
            // Whoever still has the request goes on with it.
            Sent::Unsent(_) => Failure::Closed("before the request".to_owned()),
            Sent::Starved => {
                return Err(
                    Refusal::new(StatusCode::REQUEST_TIMEOUT, "the request body did not come in time").closing()
                );
            }
            Sent::Broken => return Err(Refusal::bad_request("the request body broke off")),
            Sent::Unspeakable => return Err(Refusal::bad_request("the Host can't be passed on in HTTP/2")),
            Sent::TooLarge => return Err(request::TOO_LARGE),
        };
        self.report(server, &failure, method);
        Err(failure.refusal())
    }

    fn report(&self, server: ServerId, failure: &Failure, method: &Method) {
        if !matches!(failure, Failure::Tls) {
            self.upstream.failed(server, failure.reason(), failure, method.as_str());
        }
    }
}

/// Counts a request when it is over, also where its client goes before there is a response.
struct Count<'a> {
    upstream: &'a Upstream,
    server: ServerId,
    sent: bool,
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        if self.sent {
            self.upstream.requested(self.server);
        }
    }
}

const BAD_GATEWAY: Refusal = Refusal::new(StatusCode::BAD_GATEWAY, "the server behind this one can't be reached");

impl Failure {
    fn before_head(error: &hyper::Error) -> Self {
        if let Some(error) = error.source().and_then(|source| source.downcast_ref::<h2::Error>()) {
            // Streams above the last one that a GOAWAY names, and those that were refused (RFC 9113, section 8.7).
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            if error.is_remote() && (error.is_go_away() || refused) {
                return Self::Unprocessed(error.to_string());
            }
            return Self::Closed(error.to_string());
        }
        if error.is_parse() {
            Self::Invalid(format!("its response is not valid HTTP/1.1: {error}"))
        } else {
            Self::Closed(error.to_string())
        }
    }

    /// A short, stable name for the reason, for metrics.
    fn reason(&self) -> &'static str {
        match self {
            Self::Connect(error) => error.reason(),
            Self::HeadTimeout(_) => "response_timeout",
            Self::BodyTimeout(_) => "body_timeout",
            Self::Total(_) => "total_timeout",
            Self::Closed(_) | Self::Tls => "closed",
            Self::Unprocessed(_) => "unprocessed",
            Self::Invalid(_) => "invalid_response",
            Self::BrokeOff(_) => "broke_off",
        }
    }

    /// What the client is told.
    fn refusal(&self) -> Refusal {
        const TIMEOUT: Refusal =
            Refusal::new(StatusCode::GATEWAY_TIMEOUT, "the server behind this one did not answer in time");
        match self {
            Self::Connect(error) if error.is_timeout() => TIMEOUT,
            Self::HeadTimeout(_) | Self::BodyTimeout(_) | Self::Total(_) => TIMEOUT,
            Self::Connect(error) => match error.kind() {
                ConnectErrorKind::NoneUp(back_in) => {
                    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "no server behind this one is up")
                        .again_after(*back_in)
                }
                ConnectErrorKind::Loop(_) => {
                    Refusal::new(StatusCode::BAD_GATEWAY, "the server behind this one is this one itself")
                }
                _ => BAD_GATEWAY,
            },
            Self::Unprocessed(_) => BAD_GATEWAY,
            Self::Closed(_) | Self::Tls | Self::BrokeOff(_) => Refusal::new(
                StatusCode::BAD_GATEWAY,
                "the server behind this one closed the connection without an answer",
            ),
            Self::Invalid(_) => Refusal::new(
                StatusCode::BAD_GATEWAY,
                "the server behind this one gave an answer that can't be passed on",
            ),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => error.kind().fmt(f),
            Self::HeadTimeout(limit) => write!(f, "no response within {limit:?}"),
            Self::BodyTimeout(limit) => write!(f, "no part of a response body within {limit:?}"),
            Self::Total(limit) => write!(f, "a request was not over within {limit:?}"),
            Self::Closed(why) => write!(f, "the connection ended before the response: {why}"),
            Self::Tls => f.write_str("TLS failed"),
            Self::Unprocessed(why) => write!(f, "it did not begin with the request: {why}"),
            Self::Invalid(why) => write!(f, "a response can't be passed on: {why}"),
            Self::BrokeOff(error) => write!(f, "the connection ended within a response body: {error}"),
        }
    }
}
