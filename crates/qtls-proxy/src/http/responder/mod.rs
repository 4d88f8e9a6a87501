//! The built-in pages: what answers when there is no upstream.

mod page;

pub(crate) use page::escape;

use std::rc::Rc;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use qtls_core::facts::Facts;

use super::activity::Exchange;
use super::body::ResponseBody;
use super::reply::{JSON, Refusal, TEXT, whole};

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

/// Answers a request with the facts of the connection that it came on.
pub(super) fn respond<B>(facts: &Facts, request: &Request<B>, exchange: Rc<Exchange>) -> Response<ResponseBody> {
    let method = request.method();
    let (kind, content) = match content(facts, method, request.uri().path()) {
        Ok(content) => content,
        Err(refusal) => return refusal.into_response(method, request.headers().get(header::ACCEPT), exchange),
    };
    let is_page = kind == HTML;
    let mut response = whole(StatusCode::OK, kind, content, method, exchange);
    if is_page {
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, page::POLICY);
    }
    response
}

fn content(facts: &Facts, method: &Method, path: &str) -> Result<(HeaderValue, Bytes), Refusal> {
    type Content = fn(&Facts) -> Option<Bytes>;
    let (kind, make): (HeaderValue, Content) = match path {
        "/" => (HTML, |facts| Some(page::render(facts).into())),
        "/status.json" => (JSON, |facts| serde_json::to_vec(facts).ok().map(Bytes::from)),
        "/health" => (TEXT, |_| Some(Bytes::from_static(b"ok\n"))),
        _ => return Err(Refusal::new(StatusCode::NOT_FOUND, "there are /, /status.json and /health")),
    };
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "this can only be read").allowing("GET, HEAD"));
    }
    match make(facts) {
        Some(content) => Ok((kind, content)),
        None => Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "the facts can't be written as JSON")),
    }
}
