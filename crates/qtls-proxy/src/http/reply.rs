//! Responses that are made here.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};

use super::activity::Exchange;
use super::body::ResponseBody;

/// A request that gets an error for an answer: what the status is, and one sentence about why.
///
/// The sentence is for strangers: it names nothing inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: &'static str,
    /// The methods that are allowed, for status 405.
    pub(super) allow: Option<&'static str>,
    /// Whether the client can't be trusted to know where its next request begins.
    pub(super) close: bool,
    /// When to ask again, in seconds.
    pub(super) retry_after: Option<u32>,
}

impl Refusal {
    pub(super) const fn new(status: StatusCode, message: &'static str) -> Self {
        Self { status, message, allow: None, close: false, retry_after: None }
    }

    /// The request is malformed. The connection doesn't outlive it.
    pub(super) const fn bad_request(message: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, message, allow: None, close: true, retry_after: None }
    }

    pub(super) const fn allowing(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    pub(super) const fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// Asking again is of use after this long (RFC 9110 §10.2.3).
    pub(super) fn again_after(mut self, pause: Duration) -> Self {
        let seconds = pause.as_millis().div_ceil(1000).max(1);
        self.retry_after = Some(u32::try_from(seconds).unwrap_or(u32::MAX));
        self
    }

    /// The answer, in JSON where the client asked for that, else in plain text.
    pub(super) fn into_response(
        self,
        method: &Method,
        accept: Option<&HeaderValue>,
        exchange: Rc<Exchange>,
    ) -> Response<ResponseBody> {
        let Self { status, message, allow, close, retry_after } = self;
        let reason = status.canonical_reason().unwrap_or("error");
        let (kind, content) = if accept.is_some_and(accepts_json) {
            let error = serde_json::json!({ "status": status.as_u16(), "error": reason, "message": message });
            (JSON, format!("{error}\n"))
        } else {
            (TEXT, format!("{} {reason}: {message}\n", status.as_u16()))
        };
        let mut response = whole(status, kind, content.into(), method, exchange);
        let headers = response.headers_mut();
        if let Some(methods) = allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(methods));
        }
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if close {
            // HTTP/2 has no such field; hyper takes it out there.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

pub(super) const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

const EVERY: [(HeaderName, HeaderValue); 3] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// A response with all of its content; to HEAD, with everything but the content.
pub(super) fn whole(
    status: StatusCode,
    kind: HeaderValue,
    content: Bytes,
    method: &Method,
    exchange: Rc<Exchange>,
) -> Response<ResponseBody> {
    let length = content.len();
    let content = if *method == Method::HEAD { Bytes::new() } else { content };
    let mut response = Response::new(ResponseBody::whole(content, exchange));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    headers.extend(EVERY);
    response
}

/// Whether JSON is asked for by name: wildcards also match plain text, which people read more easily.
fn accepts_json(accept: &HeaderValue) -> bool {
    let Ok(accept) = accept.to_str() else { return false };
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let refused = parts.any(|parameter| {
            let weight = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="));
            weight.is_some_and(|weight| weight.chars().all(|digit| matches!(digit, '0' | '.')))
        });
        kind.eq_ignore_ascii_case("application/json") && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_must_be_asked_for() {
        let accepts = |text| accepts_json(&HeaderValue::from_static(text));
        assert!(accepts("application/json"));
        assert!(accepts("text/html, Application/JSON;q=0.9"));
        assert!(accepts("application/json; q=1.000"));
        for text in ["*/*", "text/html", "application/*", "application/json;q=0", "application/json; q=0.000", ""] {
            assert!(!accepts(text), "{text}");
        }
    }
}
