//! Bodies on their way through, both ways. Nothing is buffered: a part is asked for when there is room for it.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Method;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::Instant;

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
    Incoming { body: Incoming, upload: Upload },
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
    pub(super) fn new(body: Incoming, exchange: Rc<Exchange>) -> Self {
        exchange.uploading(true);
        Self::Incoming { body, upload: Upload(exchange) }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        let Self::Incoming { body, upload: Upload(exchange) } = self.get_mut() else { return Poll::Ready(None) };
        let frame = Pin::new(body).poll_frame(cx);
        exchange.awaits_client(frame.is_pending());
        frame.map(|frame| {
            frame.map(|frame| match frame {
                Ok(frame) => Ok(without_forgeries(frame, fields::strip_request_trailers)),
                Err(error) => {
                    tracing::debug!("a request body broke off: {error}");
                    exchange.broke_off();
                    Err(Interrupted)
                }
            })
        })
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

impl UpstreamBody {
    pub(super) fn new(body: Incoming, lease: Lease, proxy: Rc<Inner>, exchange: Rc<Exchange>, method: Method) -> Self {
        let mut this = Self { body, lease: Some(lease), proxy, exchange, method, state: State::Flowing };
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
        if let Some(lease) = self.lease.take() {
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
