//! Passing requests on to an HTTP/1.1 upstream.
//!
//! No `Via` is added, although RFC 9110, section 7.6.3 wants it of gateways: it would tell strangers of the machinery, and
//! upstreams take its presence for a sign of a forward proxy (some stop compressing). nginx and HAProxy don't either.

mod bodies;
mod fields;
mod pool;
mod request;
mod response;
mod visitor;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use http::header::ACCEPT;
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::activity::Exchange;
use super::body::ResponseBody;
use super::reply::Refusal;
use super::{MAX_HEAD, Observer};
use crate::upstream::{ConnectError, ConnectErrorKind, ServerId, Upstream};
use bodies::RequestBody;
pub(super) use bodies::{Interrupted, UpstreamBody};
use pool::{Lease, Pool};
pub(super) use visitor::Visitor;

/// Passes requests on. One for each worker.
#[derive(Debug)]
pub(super) struct Proxy(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    upstream: Arc<Upstream>,
    pool: Pool,
    observer: Arc<dyn Observer>,
    http1: http1::Builder,
}

/// Why an upstream did not answer.
#[derive(Debug)]
enum Failure {
    Connect(ConnectError),
    /// No head of a response within this time.
    HeadTimeout(Duration),
    /// No part of a body within this time.
    BodyTimeout(Duration),
    /// The connection ended before the head of a response did.
    Closed(String),
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
}

impl Proxy {
    pub(super) fn new(upstream: Arc<Upstream>, observer: Arc<dyn Observer>) -> Self {
        let mut http1 = http1::Builder::new();
        http1.max_buf_size(MAX_HEAD);
        Self(Rc::new_cyclic(|this| Inner { pool: Pool::new(upstream.len(), this.clone()), upstream, observer, http1 }))
    }

    /// Passes a request on, and the response back.
    pub(super) async fn forward(
        &self,
        visitor: &Visitor,
        request: Request<Incoming>,
        exchange: Rc<Exchange>,
    ) -> Response<ResponseBody> {
        let method = request.method().clone();
        let accept = request.headers().get(ACCEPT).cloned();
        let outcome = match request::prepare(request, visitor, &exchange) {
            Ok(outgoing) => {
                exchange.awaits_head(true);
                let outcome = self.0.exchange(outgoing, &method, &exchange).await;
                exchange.awaits_head(false);
                outcome
            }
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok((response, lease)) => {
                let proxy = self.0.clone();
                response.map(|body| {
                    let body = UpstreamBody::new(body, lease, proxy, exchange.clone(), method);
                    ResponseBody::upstream(body, exchange)
                })
            }
            Err(refusal) => refusal.into_response(&method, accept.as_ref(), exchange),
        }
    }
}

impl Inner {
    async fn exchange(
        &self,
        outgoing: request::Outgoing,
        method: &Method,
        exchange: &Exchange,
    ) -> Result<(Response<Incoming>, Lease), Refusal> {
        let request::Outgoing { mut request, repeatable } = outgoing;
        let mut last = None;
        // Whether a connection of the pool may still be used.
        let mut pooled = true;
        for server in self.upstream.order() {
            while let Some(lease) = pooled.then(|| self.pool.take(server)).flatten() {
                let copy = repeatable.then(|| request::copy(&request));
                match (self.send(lease, request, exchange).await, copy) {
                    // It had been closed while it was idle.
                    (Sent::Unsent(unsent), _) => request = unsent,
                    // It was being closed while the request was on its way.
                    (Sent::Failed(Failure::Closed(why)), Some(copy)) => {
                        tracing::debug!("an idle upstream connection had ended: {why}; trying a new one");
                        request = copy;
                        pooled = false;
                    }
                    (sent, _) => return self.settle(sent, server, method),
                }
            }
            match self.upstream.connect_to(server, method.as_str()).await {
                Ok(stream) => {
                    let sent = match self.open(stream, server).await {
                        Ok(lease) => self.send(lease, request, exchange).await,
                        Err(error) => Sent::Failed(Failure::Closed(error.to_string())),
                    };
                    return self.settle(sent, server, method);
                }
                Err(error) => {
                    self.observer.upstream_error(error.reason());
                    last = Some(Failure::Connect(error));
                }
            }
        }
        Err(last.as_ref().map_or(BAD_GATEWAY, Failure::refusal))
    }

    async fn open(&self, stream: TcpStream, server: ServerId) -> hyper::Result<Lease> {
        let (sender, connection) = self.http1.handshake(TokioIo::new(stream)).await?;
        let task = tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!("an upstream connection failed: {error}");
            }
        });
        Ok(Lease::new(sender, server, task.abort_handle()))
    }

    /// Sends a request and waits for the head of the response.
    async fn send(&self, mut lease: Lease, request: Request<RequestBody>, exchange: &Exchange) -> Sent {
        let idle = self.upstream.idle_timeout();
        let mut sending = pin!(lease.sender.try_send_request(request));
        let timer = &mut lease.timer;
        timer.as_mut().reset(Instant::now() + idle);
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
                Some(request) => Sent::Unsent(request),
                None if exchange.is_broken() => Sent::Broken,
                None => Sent::Failed(Failure::before_head(error.into_error())),
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
                    Ok(()) => return Ok((Response::from_parts(parts, body), lease)),
                    Err(why) => Failure::Invalid(why.to_owned()),
                }
            }
            Sent::Failed(failure) => failure,
            Sent::Unsent(_) => Failure::Closed("before the request".to_owned()),
            Sent::Starved => {
                return Err(
                    Refusal::new(StatusCode::REQUEST_TIMEOUT, "the request body did not come in time").closing()
                );
            }
            Sent::Broken => return Err(Refusal::bad_request("the request body broke off")),
        };
        self.report(server, &failure, method);
        Err(failure.refusal())
    }

    fn report(&self, server: ServerId, failure: &Failure, method: &Method) {
        self.observer.upstream_error(failure.reason());
        self.upstream.failed(server, failure, method.as_str());
    }
}

const BAD_GATEWAY: Refusal = Refusal::new(StatusCode::BAD_GATEWAY, "the server behind this one can't be reached");

impl Failure {
    fn before_head(error: hyper::Error) -> Self {
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
            Self::Closed(_) => "closed",
            Self::Invalid(_) => "invalid_response",
            Self::BrokeOff(_) => "broke_off",
        }
    }

    /// What the client is told.
    fn refusal(&self) -> Refusal {
        const TIMEOUT: Refusal =
            Refusal::new(StatusCode::GATEWAY_TIMEOUT, "the server behind this one did not answer in time");
        match self {
            Self::Connect(error) if matches!(error.kind(), ConnectErrorKind::Timeout(_)) => TIMEOUT,
            Self::HeadTimeout(_) | Self::BodyTimeout(_) => TIMEOUT,
            Self::Connect(_) => BAD_GATEWAY,
            Self::Closed(_) | Self::BrokeOff(_) => Refusal::new(
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
            Self::Closed(why) => write!(f, "the connection ended before the response: {why}"),
            Self::Invalid(why) => write!(f, "a response can't be passed on: {why}"),
            Self::BrokeOff(error) => write!(f, "the connection ended within a response body: {error}"),
        }
    }
}
