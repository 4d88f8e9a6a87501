//! Bodies on their way through, both ways. Nothing is buffered: a part is asked for when there is room for it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Method;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::expectation::Held;
use super::fields;
use super::pool::Lease;
use super::{Failure, Inner};
use crate::http::activity::Exchange;

/// A body that did not come to its end.
#[derive(Debug)]
pub(in crate::http) struct Interrupted;

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the other side broke off")
    }
}

impl std::error::Error for Interrupted {}

/// The body of a request, for the upstream.
#[derive(Debug)]
pub(super) enum RequestBody {
    Empty,
    Incoming {
        body: Incoming,
        upload: Upload,
        /// How much of it may still come, where there is a limit.
        left: Option<u64>,
        /// Held back until the upstream wants it, where the client waits for that.
        held: Option<Held>,
    },
}

/// Lasts as long as the body of a request is being passed on.
#[derive(Debug)]
pub(super) struct Upload(Rc<Exchange>);

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.uploading(false);
    }
}

impl RequestBody {
    /// At most `limit` bytes are passed on, and none as long as it is held.
    pub(super) fn new(body: Incoming, exchange: Rc<Exchange>, limit: Option<u64>, held: Option<Held>) -> Self {
        exchange.uploading(true);
        Self::Incoming { body, upload: Upload(exchange), left: limit, held }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        let Self::Incoming { body, upload: Upload(exchange), left, held } = self.get_mut() else {
            return Poll::Ready(None);
        };
        if let Some(waiting) = held {
            ready!(waiting.poll(cx));
            *held = None;
        }
        let frame = Pin::new(body).poll_frame(cx);
        exchange.awaits_client(frame.is_pending());
        let frame = ready!(frame);
        Poll::Ready(frame.map(|frame| match frame {
            Ok(frame) => {
                if let (Some(left), Some(data)) = (left, frame.data_ref()) {
                    let Some(rest) = left.checked_sub(data.len() as u64) else {
                        exchange.exceeds();
                        return Err(Interrupted);
                    };
                    *left = rest;
                }
                Ok(without_forgeries(frame, fields::strip_request_trailers))
            }
            Err(error) => {
                tracing::debug!("a request body broke off: {error}");
                exchange.broke_off();
                Err(Interrupted)
            }
        }))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Incoming { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Incoming { body, .. } => body.size_hint(),
        }
    }
}

/// The body of a response, for the client. With its end, the connection that it came on is free for the next request.
#[derive(Debug)]
pub(in crate::http) struct UpstreamBody {
    body: Incoming,
    lease: Option<Lease>,
    proxy: Rc<Inner>,
    exchange: Rc<Exchange>,
    method: Method,
    state: State,
    /// When the exchange has lasted as long as it may.
    end: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Flowing,
    /// Asked for a part, which has not come yet.
    Waiting,
    /// To be told with the next question.
    Failed,
    Over,
}

/// The client no longer wants the rest, and the connection that it would come on is of no further use.
impl Drop for UpstreamBody {
    fn drop(&mut self) {
        if self.lease.is_some() {
            self.exchange.taken_back();
        }
    }
}

impl UpstreamBody {
    pub(super) fn new(
        body: Incoming,
        lease: Lease,
        proxy: Rc<Inner>,
        exchange: Rc<Exchange>,
        method: Method,
        end: Option<Instant>,
    ) -> Self {
        let end = end.map(|end| Box::pin(sleep_until(end)));
        let mut this = Self { body, lease: Some(lease), proxy, exchange, method, state: State::Flowing, end };
        this.release_at_end();
        this
    }

    fn release_at_end(&mut self) {
        if self.body.is_end_stream() {
            self.release();
        }
    }

    fn release(&mut self) {
        self.state = State::Over;
        self.exchange.awaits_upstream(false);
        let Some(lease) = self.lease.take() else { return };
        if self.exchange.is_uploading() {
            // It has answered without waiting for the rest, which now is of no use to anyone.
            lease.close();
        } else {
            self.proxy.pool.put_back(lease);
        }
    }

    /// What has arrived before the failure is sent before the failure is told: hyper gives up what it still holds.
    fn fail(&mut self, failure: &Failure, cx: &Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        if let Some(lease) = self.lease.take()
            && !self.exchange.is_broken()
        {
            self.proxy.report(lease.server(), failure, &self.method);
        }
        self.exchange.awaits_upstream(false);
        self.state = State::Failed;
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        let idle = self.proxy.upstream.idle_timeout();
        let Some(lease) = &mut self.lease else { return Poll::Pending };
        if self.state != State::Waiting {
            self.state = State::Waiting;
            self.exchange.awaits_upstream(true);
            lease.timer.as_mut().reset(Instant::now() + idle);
        }
        while lease.timer.as_mut().poll(cx).is_ready() {
            // While the rest of the request is being sent, silence of the server is none.
            let Some(later) = self.exchange.uploaded_within(idle) else {
                return self.fail(&Failure::BodyTimeout(idle), cx);
            };
            lease.timer.as_mut().reset(later);
        }
        Poll::Pending
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        let this = self.get_mut();
        match this.state {
            State::Flowing | State::Waiting => {}
            State::Failed => return Poll::Ready(Some(Err(Interrupted))),
            State::Over => return Poll::Ready(None),
        }
        if this.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready()) {
            let total = this.proxy.upstream.config().timeouts.total;
            return this.fail(&Failure::Total(total), cx);
        }
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if this.state == State::Waiting {
                    this.state = State::Flowing;
                    this.exchange.awaits_upstream(false);
                }
                this.release_at_end();
                Poll::Ready(Some(Ok(without_forgeries(frame, fields::strip_response_trailers))))
            }
            Poll::Ready(Some(Err(error))) => this.fail(&Failure::BrokeOff(error), cx),
            Poll::Ready(None) => {
                this.release();
                Poll::Ready(None)
            }
            Poll::Pending => this.poll_patience(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == State::Over
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn without_forgeries(frame: Frame<Bytes>, strip: impl Fn(&mut http::HeaderMap)) -> Frame<Bytes> {
    match frame.into_trailers() {
        Ok(mut trailers) => {
            strip(&mut trailers);
            Frame::trailers(trailers)
        }
        Err(frame) => frame,
    }
}
