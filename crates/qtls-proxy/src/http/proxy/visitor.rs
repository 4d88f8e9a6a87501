//! Who visits, in the fields that tell an upstream. Made once for a connection, when it has its first request.

use std::fmt::{self, Write};

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use base64ct::{Base64, Encoding};
use qtls_core::verify::Identity;
use rustls::pki_types::CertificateDer;

use crate::http::Connection;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_QTLS_GROUP: HeaderName = HeaderName::from_static("x-qtls-group");
const X_QTLS_SIGNATURE: HeaderName = HeaderName::from_static("x-qtls-signature");
const X_QTLS_CIPHER: HeaderName = HeaderName::from_static("x-qtls-cipher");
const X_QTLS_PQ: HeaderName = HeaderName::from_static("x-qtls-pq");
const X_QTLS_RESUMED: HeaderName = HeaderName::from_static("x-qtls-resumed");
const X_QTLS_CLIENT_SUBJECT: HeaderName = HeaderName::from_static("x-qtls-client-subject");
const X_QTLS_CLIENT_SAN: HeaderName = HeaderName::from_static("x-qtls-client-san");
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");
const CLIENT_CERT_CHAIN: HeaderName = HeaderName::from_static("client-cert-chain");

/// The client of a connection, and what an upstream is told about it.
#[derive(Debug)]
pub(in crate::http) struct Visitor {
    pub(in crate::http) connection: Connection,
    /// Made with the first request, and again after a rest.
    fields: RefCell<Option<Rc<Fields>>>,
    /// Clients rarely change the host from one request to the next.
    host: RefCell<Option<Box<Host>>>,
}

#[derive(Debug)]
struct Fields {
    client: HeaderValue,
    group: HeaderValue,
    signature: HeaderValue,
    cipher: HeaderValue,
    post_quantum: HeaderValue,
    resumed: HeaderValue,
    identity: Option<IdentityFields>,
}

/// Whom a client's certificate, which was verified, names.
#[derive(Debug)]
struct IdentityFields {
    subject: HeaderValue,
    names: HeaderValue,
    /// The certificates themselves (RFC 9440), as structured fields of byte sequences.
    leaf: HeaderValue,
    issuers: Option<HeaderValue>,
}

/// A host that a request is for, in the fields that name it.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) host: HeaderValue,
    forwarded: HeaderValue,
}

impl Visitor {
    pub(in crate::http) fn new(connection: Connection) -> Self {
        Self { connection, fields: RefCell::new(None), host: RefCell::new(None) }
    }

    /// The fields that name `host`, which must be a valid `Host`: those of the last request if it is the same again.
    pub(super) fn host(&self, host: &[u8], make: impl FnOnce() -> Option<HeaderValue>) -> Option<Host> {
        let mut known = self.host.borrow_mut();
        if let Some(known) = known.as_ref().filter(|known| known.host.as_bytes() == host) {
            return Some((**known).clone());
        }
        // A copy of its own: as a part of the request, it would keep the buffer that the request was read into.
        let host = HeaderValue::from_bytes(make()?.as_bytes()).ok()?;
        let forwarded = forwarded(self.address(), self.connection.local.ip().to_canonical(), &host)?;
        Some((**known.insert(Box::new(Host { host, forwarded }))).clone())
    }

    /// Gives back what can be made again.
    pub(in crate::http) fn rest(&self) {
        self.fields.take();
        self.host.take();
    }

    /// Says who visits.
    ///
    /// What came from outside under these names must be gone already. The certificates themselves are large, and for
    /// upstreams only that want them.
    pub(super) fn introduce(&self, headers: &mut HeaderMap, host: Host, wants_client_cert: bool) {
        let fields = self.fields.borrow_mut().get_or_insert_with(|| Rc::new(self.fields())).clone();
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
        let Some(identity) = &fields.identity else { return };
        headers.insert(X_QTLS_CLIENT_SUBJECT, identity.subject.clone());
        headers.insert(X_QTLS_CLIENT_SAN, identity.names.clone());
        if wants_client_cert {
            headers.insert(CLIENT_CERT, identity.leaf.clone());
            if let Some(issuers) = &identity.issuers {
                headers.insert(CLIENT_CERT_CHAIN, issuers.clone());
            }
        }
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
            identity: IdentityFields::of(&facts.peer_chain),
        }
    }

    /// A socket that takes both families shows IPv4 clients as IPv6 ones.
    fn address(&self) -> IpAddr {
        self.connection.client.ip().to_canonical()
    }
}

impl IdentityFields {
    /// `None` where the client showed no certificate.
    fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let (leaf, issuers) = chain.split_first()?;
        let identity = Identity::of(leaf);
        let value = |text: String| {
            HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("unknown"))
        };
        // The certificate was verified; one that can't be read after that names nobody.
        let (subject, names) = identity.map_or_else(
            |_| (String::new(), String::new()),
            |identity| (ascii(&identity.subject), alternative_names(&identity)),
        );
        let bytes = |certificate: &CertificateDer<'_>| format!(":{}:", Base64::encode_string(certificate));
        let issuers: Vec<_> = issuers.iter().map(bytes).collect();
        Some(Self {
            subject: value(subject),
            names: value(names),
            leaf: value(bytes(leaf)),
            issuers: (!issuers.is_empty()).then(|| value(issuers.join(", "))),
        })
    }
}

/// `DNS:a.example, IP:192.0.2.1, URI:spiffe://a/b, email:a@b.example`. A comma inside a name is `%2C`.
fn alternative_names(identity: &Identity) -> String {
    let named = |kind: &str, name: &str| format!("{kind}:{}", percent(name));
    let dns = identity.dns_names.iter().map(|name| named("DNS", name));
    let ips = identity.ip_addresses.iter().map(|address| format!("IP:{address}"));
    let uris = identity.uris.iter().map(|uri| named("URI", uri));
    let emails = identity.emails.iter().map(|email| named("email", email));
    dns.chain(ips).chain(uris).chain(emails).collect::<Vec<_>>().join(", ")
}

/// A distinguished name in printable ASCII: other octets as `\EC\B0`, which RFC 4514 has for them.
fn ascii(name: &str) -> String {
    escaped(name, '\\', |octet| matches!(octet, b' '..=b'~'))
}

fn percent(name: &str) -> String {
    escaped(name, '%', |octet| matches!(octet, b'!'..=b'~') && !matches!(octet, b',' | b'%'))
}

fn escaped(text: &str, mark: char, plain: impl Fn(u8) -> bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for octet in text.bytes() {
        if plain(octet) {
            escaped.push(char::from(octet));
        } else {
            // Writing to a string never fails.
            let _ = write!(escaped, "{mark}{octet:02X}");
        }
    }
    escaped
}

/// Who asked, by whom, at which of our addresses, and for which host (RFC 7239, section 5).
fn forwarded(client: IpAddr, local: IpAddr, host: &HeaderValue) -> Option<HeaderValue> {
    let host = host.to_str().ok()?;
    let mut text = String::with_capacity(64 + host.len());
    // Writing to a string never fails.
    let _ = write!(text, "for={};by={};proto=https;host=", Node(client), Node(local));
    // Section 4: what is no token is quoted. Of what a valid host has in it, only these are in none.
    if host.contains([':', '[', ']', '(', ')', ',', ';', '=']) {
        text.extend(["\"", host, "\""]);
    } else {
        text.push_str(host);
    }
    HeaderValue::from_maybe_shared(Bytes::from(text)).ok()
}

/// An address in `Forwarded`: IPv6 addresses are in brackets, and so no tokens (section 6).
struct Node(IpAddr);

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpAddr::V4(address) => address.fmt(f),
            IpAddr::V6(address) => write!(f, "\"[{address}]\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_clients_stay_in_their_field() {
        assert_eq!(ascii("CN=가,O=A\r\nX: y"), "CN=\\EA\\B0\\80,O=A\\0D\\0AX: y");
        assert_eq!(percent("a,b%c\nd"), "a%2Cb%25c%0Ad");
    }

    #[test]
    fn forwarded_quotes_what_is_no_token() {
        let element = |client: &str, host: &'static str| {
            let local = if client.contains(':') { "2001:db8::1" } else { "192.0.2.1" };
            let host = HeaderValue::from_static(host);
            let value = forwarded(client.parse().unwrap(), local.parse().unwrap(), &host).unwrap();
            value.to_str().unwrap().to_owned()
        };
        assert_eq!(element("192.0.2.43", "a.example"), "for=192.0.2.43;by=192.0.2.1;proto=https;host=a.example");
        assert_eq!(
            element("192.0.2.43", "a.example:8443"),
            "for=192.0.2.43;by=192.0.2.1;proto=https;host=\"a.example:8443\""
        );
        assert_eq!(
            element("2001:db8::17", "[::1]:8443"),
            "for=\"[2001:db8::17]\";by=\"[2001:db8::1]\";proto=https;host=\"[::1]:8443\""
        );
    }
}
