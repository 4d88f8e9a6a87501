//! A request from a client, as it is passed on: checked, in origin form, with our fields in place of forged ones.

use std::net::Ipv6Addr;
use std::rc::Rc;

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{Method, Request, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};

use super::bodies::RequestBody;
use super::expectation;
use super::fields;
use super::visitor::{Host, Visitor};
use crate::http::Connection;
use crate::http::activity::Exchange;
use crate::http::reply::Refusal;

/// A request that may be passed on.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) request: Request<RequestBody>,
    /// Whether it may be sent twice: its method is idempotent, and there is no body that could be used up
    /// (RFC 9110, section 9.2.2).
    pub(super) repeatable: bool,
}

/// What the configuration says about requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options {
    /// Whether the upstream gets the certificates of verified clients.
    pub(super) client_cert: bool,
    /// How much a body may have.
    pub(super) body_limit: Option<u64>,
}

/// Checks a request and makes it what an HTTP/1.1 upstream expects.
pub(super) fn prepare(
    request: Request<Incoming>,
    visitor: &Visitor,
    exchange: &Rc<Exchange>,
    options: Options,
) -> Result<Outgoing, Refusal> {
    let (mut parts, body) = request.into_parts();
    check_method(&parts.method)?;
    check_framing(&parts, &body)?;
    check_length(&parts.headers, options.body_limit)?;
    let expects = expectation::of(&parts.headers).ok_or(EXPECTATION_FAILED)?;
    let host = host(&parts, visitor)?;
    parts.uri = origin_form(parts.uri)?;

    fields::strip_request(&mut parts.headers);
    if parts.version == Version::HTTP_2 {
        join_cookies(&mut parts.headers);
    }
    visitor.introduce(&mut parts.headers, host, options.client_cert);
    parts.version = Version::HTTP_11;
    // hyper keeps what it needs for an upgrade here, which is none of the upstream's business.
    parts.extensions.clear();

    let empty = body.is_end_stream();
    if !empty && body.size_hint().exact().is_none() {
        // hyper would drop the body of a GET whose length isn't known in advance.
        parts.headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    let repeatable = empty && parts.method.is_idempotent();
    let mut request = Request::from_parts(parts, RequestBody::Empty);
    if !empty {
        let body = |held| RequestBody::new(body, exchange.clone(), options.body_limit, held);
        if expects {
            expectation::pass_on(&mut request, |held| body(Some(held)));
        } else {
            *request.body_mut() = body(None);
        }
    }
    Ok(Outgoing { request, repeatable })
}

/// Makes a prepared request one of HTTP/2, or of HTTP/1.1 again, as what it goes to speaks. False where its host can't be
/// said in HTTP/2.
pub(super) fn speak(request: &mut Request<RequestBody>, http2: bool, scheme: Scheme) -> bool {
    if http2 == (request.version() == Version::HTTP_2) {
        return true;
    }
    if http2 { to_http2(request, scheme).is_some() } else { to_http1(request).is_some() }
}

/// RFC 9113, section 8.3.1: `:authority` says what `Host` says; and section 8.2.2: there are no fields of a connection.
fn to_http2(request: &mut Request<RequestBody>, scheme: Scheme) -> Option<()> {
    let host = request.headers().get(header::HOST)?;
    let mut uri = uri::Parts::default();
    uri.scheme = Some(scheme);
    uri.authority = Some(Authority::try_from(host.as_bytes()).ok()?);
    uri.path_and_query = Some(request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    headers.remove(header::HOST);
    headers.remove(header::CONNECTION);
    headers.remove(header::TRANSFER_ENCODING);
    Some(())
}

/// What [`to_http2`] did, undone: the request was not sent, and the next server speaks HTTP/1.1.
fn to_http1(request: &mut Request<RequestBody>) -> Option<()> {
    let host = HeaderValue::from_str(request.uri().authority()?.as_str()).ok()?;
    let path = request.uri().path_and_query()?.clone();
    *request.uri_mut() = Uri::from(path);
    *request.version_mut() = Version::HTTP_11;
    let unknown_length = !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
    let headers = request.headers_mut();
    headers.insert(header::HOST, host);
    if headers.contains_key(header::TE) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    if unknown_length {
        headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    Some(())
}

/// The same request again.
pub(super) fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::Empty);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

fn check_method(method: &Method) -> Result<(), Refusal> {
    match *method {
        // Tunnels are a forward proxy's business; TRACE would show the sender the fields that are added here.
        Method::CONNECT => {
            Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "CONNECT is not supported: this is not a forward proxy")
                .closing())
        }
        Method::TRACE => Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, "TRACE is not supported")),
        _ => Ok(()),
    }
}

/// Refuses what two programs in a row might take for different lengths. Conflicts of `Content-Length` with itself are
/// refused by hyper and h2, and with `Transfer-Encoding` before this is called.
fn check_framing(parts: &Parts, body: &Incoming) -> Result<(), Refusal> {
    if parts.headers.contains_key(header::TRANSFER_ENCODING) && !is_chunked(&parts.headers) {
        const MESSAGE: &str = "no transfer coding but chunked is supported";
        return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, MESSAGE).closing());
    }
    if let Some(length) = parts.headers.get(header::CONTENT_LENGTH) {
        if content_length(&parts.headers).is_none() {
            return Err(Refusal::bad_request("the Content-Length is not a number"));
        }
        if body.is_end_stream() && length.as_bytes().iter().any(|digit| *digit != b'0') {
            return Err(Refusal::bad_request("the Content-Length announces a body, and there is none"));
        }
    }
    Ok(())
}

/// Whether `chunked` is the transfer coding, once, and the only one.
pub(super) fn is_chunked(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let chunked = codings.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked"));
    chunked && codings.next().is_none()
}

/// The one `Content-Length`, if it is a number.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(header::CONTENT_LENGTH).iter();
    let value = values.next()?.as_bytes();
    if values.next().is_some() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// Refuses what says that it is too large. What doesn't say so is found out while it comes.
fn check_length(headers: &HeaderMap, limit: Option<u64>) -> Result<(), Refusal> {
    match (content_length(headers), limit) {
        (Some(length), Some(limit)) if length > limit => Err(TOO_LARGE),
        _ => Ok(()),
    }
}

pub(super) const TOO_LARGE: Refusal =
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "the request body is larger than this server takes").closing();

const EXPECTATION_FAILED: Refusal =
    Refusal::new(StatusCode::EXPECTATION_FAILED, "no expectation but 100-continue is supported");

/// The host that the request is for. What says it twice must say the same.
fn host(parts: &Parts, visitor: &Visitor) -> Result<Host, Refusal> {
    let mut fields = parts.headers.get_all(header::HOST).iter();
    let field = fields.next();
    if fields.next().is_some() {
        return Err(Refusal::bad_request("there is more than one Host"));
    }
    let named = |text: &str| {
        let make = || is_host(text.as_bytes()).then(|| HeaderValue::from_str(text).ok()).flatten();
        visitor.host(text.as_bytes(), make).ok_or(Refusal::bad_request("the authority is not a host"))
    };
    match (parts.uri.authority(), field) {
        (Some(authority), Some(field)) if !same_host(authority.as_str().as_bytes(), field.as_bytes()) => {
            Err(Refusal::bad_request("the Host is not that of the request target"))
        }
        (_, Some(field)) => {
            let host = visitor.host(field.as_bytes(), || is_host(field.as_bytes()).then(|| field.clone()));
            host.ok_or(Refusal::bad_request("the Host is not a host"))
        }
        // RFC 9113, section 8.3.1: clients send :authority and leave out Host.
        (Some(authority), None) if parts.version != Version::HTTP_11 => named(authority.as_str()),
        (None, None) if parts.version < Version::HTTP_11 => {
            // HTTP/1.0 clients need not name a host. The name in the handshake is what they meant.
            let Connection { facts, local, .. } = &visitor.connection;
            named(facts.server_name.as_deref().unwrap_or(&local.to_string()))
        }
        // RFC 9112, section 3.2: even where the target names one.
        _ => Err(Refusal::bad_request("there is no Host")),
    }
}

/// RFC 3986, section 3.2.2, with a port or without. No user name: a gateway must not pass one on as part of a host.
fn is_host(text: &[u8]) -> bool {
    let (host, port) = match text {
        [b'[', rest @ ..] => match rest.iter().position(|byte| *byte == b']') {
            Some(end) => {
                let address = std::str::from_utf8(&rest[..end]).ok().and_then(|text| text.parse::<Ipv6Addr>().ok());
                match (address, &rest[end + 1..]) {
                    (Some(_), []) => return true,
                    (Some(_), [b':', port @ ..]) => return is_port(port),
                    _ => return false,
                }
            }
            None => return false,
        },
        _ => match text.iter().position(|byte| *byte == b':') {
            Some(colon) => (&text[..colon], Some(&text[colon + 1..])),
            None => (text, None),
        },
    };
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(byte);
    !host.is_empty() && host.iter().all(is_part) && port.is_none_or(is_port)
}

fn is_port(digits: &[u8]) -> bool {
    digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit)
}

/// Whether two spellings name the same host and port. The port of https may be left out.
fn same_host(one: &[u8], other: &[u8]) -> bool {
    strip_default_port(one).eq_ignore_ascii_case(strip_default_port(other))
}

fn strip_default_port(host: &[u8]) -> &[u8] {
    host.strip_suffix(b":443").unwrap_or(host)
}

/// RFC 9112, section 3.2.1: what a server expects that is no proxy.
fn origin_form(uri: Uri) -> Result<Uri, Refusal> {
    if uri.scheme().is_none() {
        if uri.authority().is_some() {
            return Err(Refusal::bad_request("the request target is neither a path nor a URL"));
        }
        return Ok(uri);
    }
    if !matches!(uri.scheme_str(), Some("https" | "http")) {
        return Err(Refusal::bad_request("the scheme of the request target is not http or https"));
    }
    let path = uri.into_parts().path_and_query.unwrap_or(PathAndQuery::from_static("/"));
    Ok(Uri::from(path))
}

/// RFC 9113, section 8.2.3: HTTP/1.1 has them in one field.
fn join_cookies(headers: &mut HeaderMap) {
    let mut cookies = headers.get_all(header::COOKIE).iter();
    if cookies.next().is_none() || cookies.next().is_none() {
        return;
    }
    let parts: Vec<_> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // The parts are valid, and so is what joins them.
    if let Ok(joined) = HeaderValue::from_bytes(&parts.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_from_what_is_none() {
        for host in ["a.example", "a.example:8443", "192.0.2.1", "[::1]", "[2001:db8::1]:443", "under_score", "a:"] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for wrong in [
            "",
            ":443",
            "user@a.example",
            "a.example/",
            "a b",
            "a?b",
            "a#b",
            "a\\b",
            "[::1",
            "[::1]x",
            "[a]",
            "a:b",
            "a:123456",
        ] {
            assert!(!is_host(wrong.as_bytes()), "{wrong}");
        }
    }

    #[test]
    fn hosts_are_compared_without_case_and_default_port() {
        assert!(same_host(b"A.example", b"a.EXAMPLE:443"));
        assert!(!same_host(b"a.example", b"a.example:8443"));
        assert!(!same_host(b"a.example", b"b.example"));
    }

    #[test]
    fn targets_become_paths() {
        let origin = |text: &str| origin_form(text.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(origin("/a?b=c").unwrap(), "/a?b=c");
        assert_eq!(origin("*").unwrap(), "*");
        assert_eq!(origin("https://a.example/b?c").unwrap(), "/b?c");
        assert_eq!(origin("HTTP://a.example").unwrap(), "/");
        assert!(origin("a.example:443").is_err());
        assert!(origin("ftp://a.example/").is_err());
    }

    #[test]
    fn one_number_is_a_length_and_one_coding_is_known() {
        let map = |name, values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(name, HeaderValue::from_static(value));
            }
            headers
        };
        let length = |values: &[&'static str]| content_length(&map(&header::CONTENT_LENGTH, values));
        assert_eq!((length(&["5"]), length(&["005"])), (Some(5), Some(5)));
        for wrong in [&["5", "5"][..], &["5, 5"], &["+5"], &["-1"], &[""], &["0x5"], &[]] {
            assert_eq!(length(wrong), None, "{wrong:?}");
        }
        let chunked = |values: &[&'static str]| is_chunked(&map(&header::TRANSFER_ENCODING, values));
        assert!(chunked(&["Chunked"]));
        for wrong in [&["gzip, chunked"][..], &["chunked", "chunked"], &["chunked, chunked"], &["identity"], &[]] {
            assert!(!chunked(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn a_request_is_told_to_either_version_and_back() {
        let mut request = Request::new(RequestBody::Empty);
        *request.uri_mut() = "/a?b".parse().unwrap();
        for (name, value) in [("host", "a.example:8443"), ("te", "trailers"), ("connection", "te"), ("x", "y")] {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        let before = (request.uri().clone(), request.headers().clone());
        assert!(speak(&mut request, true, Scheme::HTTPS));
        assert_eq!(request.uri(), "https://a.example:8443/a?b");
        assert_eq!(request.version(), Version::HTTP_2);
        let mut names: Vec<_> = request.headers().keys().map(header::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["te", "x"]);
        assert!(speak(&mut request, false, Scheme::HTTPS));
        assert_eq!((request.uri(), request.headers()), (&before.0, &before.1));
        assert_eq!(request.version(), Version::HTTP_11);
    }

    #[test]
    fn cookies_are_joined_in_order() {
        let mut headers = HeaderMap::new();
        for cookie in ["a=1", "b=2", "c=3"] {
            headers.append(header::COOKIE, HeaderValue::from_static(cookie));
        }
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(header::COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c=3"]);
    }
}
