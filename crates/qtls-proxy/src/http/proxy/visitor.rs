//! Who visits, in the fields that tell an upstream. Made once for a connection, when it has its first request.

use std::cell::{OnceCell, RefCell};
use std::net::IpAddr;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::http::Connection;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_QTLS_GROUP: HeaderName = HeaderName::from_static("x-qtls-group");
const X_QTLS_SIGNATURE: HeaderName = HeaderName::from_static("x-qtls-signature");
const X_QTLS_CIPHER: HeaderName = HeaderName::from_static("x-qtls-cipher");
const X_QTLS_PQ: HeaderName = HeaderName::from_static("x-qtls-pq");
const X_QTLS_RESUMED: HeaderName = HeaderName::from_static("x-qtls-resumed");

/// The client of a connection, and what an upstream is told about it.
#[derive(Debug)]
pub(in crate::http) struct Visitor {
    pub(in crate::http) connection: Connection,
    fields: OnceCell<Fields>,
    /// Clients rarely change the host from one request to the next.
    host: RefCell<Option<Host>>,
}

#[derive(Debug)]
struct Fields {
    client: HeaderValue,
    group: HeaderValue,
    signature: HeaderValue,
    cipher: HeaderValue,
    post_quantum: HeaderValue,
    resumed: HeaderValue,
}

/// A host that a request is for, in the fields that name it.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) host: HeaderValue,
    forwarded: HeaderValue,
}

impl Visitor {
    pub(in crate::http) fn new(connection: Connection) -> Self {
        Self { connection, fields: OnceCell::new(), host: RefCell::new(None) }
    }

    /// The fields that name `host`, which must be a valid `Host`: those of the last request if it is the same again.
    pub(super) fn host(&self, host: &[u8], make: impl FnOnce() -> Option<HeaderValue>) -> Option<Host> {
        let mut known = self.host.borrow_mut();
        if let Some(known) = known.as_ref().filter(|known| known.host.as_bytes() == host) {
            return Some(known.clone());
        }
        let host = make()?;
        let forwarded = forwarded(self.address(), &host)?;
        Some(known.insert(Host { host, forwarded }).clone())
    }

    /// Says who visits.
    pub(super) fn introduce(&self, headers: &mut HeaderMap, host: Host) {
        let fields = self.fields.get_or_init(|| self.fields());
        headers.insert(header::HOST, host.host.clone());
        headers.insert(header::FORWARDED, host.forwarded);
        headers.insert(X_FORWARDED_FOR, fields.client.clone());
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static("https"));
        headers.insert(X_FORWARDED_HOST, host.host);
        headers.insert(X_QTLS_GROUP, fields.group.clone());
        headers.insert(X_QTLS_SIGNATURE, fields.signature.clone());
        headers.insert(X_QTLS_CIPHER, fields.cipher.clone());
        headers.insert(X_QTLS_PQ, fields.post_quantum.clone());
        headers.insert(X_QTLS_RESUMED, fields.resumed.clone());
    }

    fn fields(&self) -> Fields {
        let facts = &self.connection.facts;
        let value = |text: String| {
            // Names from the registries are ASCII; a value is never left out, or an upstream might take a forged one.
            HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("unknown"))
        };
        let yes_no = |yes| HeaderValue::from_static(if yes { "yes" } else { "no" });
        Fields {
            client: value(self.address().to_string()),
            group: value(facts.group_name()),
            signature: value(facts.scheme_name()),
            cipher: HeaderValue::from_static(facts.suite_name()),
            post_quantum: yes_no(facts.post_quantum()),
            resumed: yes_no(facts.resumed),
        }
    }

    /// A socket that takes both families shows IPv4 clients as IPv6 ones.
    fn address(&self) -> IpAddr {
        self.connection.client.ip().to_canonical()
    }
}

/// RFC 7239, section 4: what is no token is quoted, and IPv6 addresses are in brackets.
fn forwarded(client: IpAddr, host: &HeaderValue) -> Option<HeaderValue> {
    let mut text = match client {
        IpAddr::V4(client) => format!("for={client};proto=https;host="),
        IpAddr::V6(client) => format!("for=\"[{client}]\";proto=https;host="),
    };
    let host = host.to_str().ok()?;
    // Of what a valid host has in it, only these are in no token.
    if host.contains([':', '[', ']', '(', ')', ',', ';', '=']) {
        text.extend(["\"", host, "\""]);
    } else {
        text.push_str(host);
    }
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_quotes_what_is_no_token() {
        let element = |client: &str, host: &'static str| {
            let value = forwarded(client.parse().unwrap(), &HeaderValue::from_static(host)).unwrap();
            value.to_str().unwrap().to_owned()
        };
        assert_eq!(element("192.0.2.43", "a.example"), "for=192.0.2.43;proto=https;host=a.example");
        assert_eq!(element("192.0.2.43", "a.example:8443"), "for=192.0.2.43;proto=https;host=\"a.example:8443\"");
        assert_eq!(element("2001:db8::17", "[::1]:8443"), "for=\"[2001:db8::17]\";proto=https;host=\"[::1]:8443\"");
    }
}
