//! `Expect: 100-continue`, end to end: the client's body is asked for when the upstream asks for it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, StatusCode};
use tokio::sync::oneshot;
use tokio::time::{Sleep, sleep};

/// A server that says nothing to an expectation doesn't know it (RFC 9110, section 10.1.1), and is given the body.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) const CONTINUE: HeaderValue = HeaderValue::from_static("100-continue");

/// A body that waits for the upstream's 100.
#[derive(Debug)]
pub(super) struct Held {
    /// `None` once there is an answer without it.
    wanted: Option<oneshot::Receiver<()>>,
    patience: Pin<Box<Sleep>>,
}

impl Held {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(wanted) = &mut self.wanted else { return Poll::Pending };
        match Pin::new(wanted).poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(_)) => {
                self.wanted = None;
                Poll::Pending
            }
            Poll::Pending => self.patience.as_mut().poll(cx),
        }
    }
}

/// Whether a request says that its body comes when it is asked for. `None` where it expects anything else.
pub(super) fn of(headers: &HeaderMap) -> Option<bool> {
    let mut expectations = headers.get_all(header::EXPECT).iter();
    let expects = headers.contains_key(header::EXPECT);
    expectations.all(|value| value.as_bytes().eq_ignore_ascii_case(CONTINUE.as_bytes())).then_some(expects)
}

/// Has the upstream asked, and the body released by its answer.
pub(super) fn pass_on<B>(request: &mut Request<B>, hold: impl FnOnce(Held) -> B) {
    let (want, wanted) = oneshot::channel();
    let want = std::sync::Mutex::new(Some(want));
    request.headers_mut().insert(header::EXPECT, CONTINUE);
    hyper::ext::on_informational(request, move |response| {
        if response.status() == StatusCode::CONTINUE
            && let Ok(mut want) = want.lock()
            && let Some(want) = want.take()
        {
            // Whoever was to be told may be gone.
            let _ = want.send(());
        }
    });
    *request.body_mut() = hold(Held { wanted: Some(wanted), patience: Box::pin(sleep(PATIENCE)) });
}
