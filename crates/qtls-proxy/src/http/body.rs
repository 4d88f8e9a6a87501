//! Bodies of responses: made here, or passed on from an upstream.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

use super::activity::Exchange;
use super::proxy::{Interrupted, UpstreamBody};

/// The body of a response. The exchange lasts as long as it does.
#[derive(Debug)]
pub(super) struct ResponseBody {
    content: Content,
    /// Held, so that the exchange counts as under way.
    _exchange: Rc<Exchange>,
}

#[derive(Debug)]
enum Content {
    Whole(Bytes),
    Upstream(UpstreamBody),
}

impl ResponseBody {
    pub(super) fn whole(content: Bytes, exchange: Rc<Exchange>) -> Self {
        Self { content: Content::Whole(content), _exchange: exchange }
    }

    pub(super) fn upstream(body: UpstreamBody, exchange: Rc<Exchange>) -> Self {
        Self { content: Content::Upstream(body), _exchange: exchange }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Interrupted;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
        match &mut self.get_mut().content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Content::Upstream(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Upstream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Upstream(body) => body.size_hint(),
        }
    }
}
