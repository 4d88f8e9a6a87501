//! What was negotiated, for people and for programs.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use base64ct::{Base64, Encoding};
use qtls_core::facts::Facts;
use qtls_core::{Error, Result};
use serde::Serialize;

use super::http::Exchange;
use super::peer::Peer;
use super::settings::Settings;

/// The largest body that `--json` takes, in octets.
const LARGEST_BODY: usize = 16 * 1024 * 1024;

/// What there is to say about a connection. Serialized it is the object of `--json`.
#[derive(Serialize)]
pub(super) struct Report<'a> {
    #[serde(flatten)]
    facts: &'a Facts,
    address: SocketAddr,
    verified: bool,
    peer: Option<Peer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<HttpResponse>,
    #[serde(skip)]
    settings: &'a Settings,
}

impl<'a> Report<'a> {
    pub(super) fn new(facts: &'a Facts, address: SocketAddr, settings: &'a Settings) -> Self {
        let peer = Peer::of(&facts.peer_chain);
        Self { facts, address, verified: settings.remote.verified_by.is_some(), peer, response: None, settings }
    }

    /// Adds the response of an HTTP exchange.
    #[must_use]
    pub(super) fn with(self, response: HttpResponse) -> Self {
        Self { response: Some(response), ..self }
    }

    /// One line of JSON.
    ///
    /// # Errors
    /// A bug of ours.
    pub(super) fn json(&self) -> Result<String> {
        serde_json::to_string(self).map(|line| line + "\n").map_err(|error| Error::internal(error.to_string()))
    }

    /// A few lines of text.
    pub(super) fn text(&self) -> String {
        let Self { facts, settings, .. } = self;
        let strength = if facts.post_quantum() {
            "post-quantum"
        } else {
            "classical: a recording can be decrypted by a future quantum computer"
        };
        let mut text = format!("Connected to {} ({})\n", settings.remote.address(), self.address);
        let mut line = |name: &str, value: &str| {
            // Writing to a String can't fail.
            let _ = writeln!(text, "  {name:<12} {value}");
        };
        line("protocol", facts.version_name());
        line("group", &format!("{} ({strength})", facts.group_name()));
        line("suite", facts.suite_name());
        line("signature", &facts.scheme_name());
        if let Some(protocol) = facts.alpn_name() {
            line("alpn", &protocol);
        }
        line("resumed", if facts.resumed { "yes" } else { "no" });
        if facts.hello_retry_request {
            line("round trips", "one more, by a HelloRetryRequest");
        }
        match &self.peer {
            Some(peer) => {
                line("certificate", &format!("{} ({})", named(&peer.subject), peer.key));
                line("issuer", named(&peer.issuer));
                line("valid until", &peer.not_after);
                line("names", &peer.names());
            }
            None => line("certificate", "can't be read"),
        }
        match &settings.remote.verified_by {
            Some(anchors) => line("verified", &format!("{} by {anchors}", settings.remote.server_name.to_str())),
            None => line("verified", "NO: anyone can pretend to be this server"),
        }
        text
    }
}

/// A whole response, as `--json` shows it.
#[derive(Serialize)]
pub(super) struct HttpResponse {
    status: u16,
    version: &'static str,
    headers: BTreeMap<String, Vec<String>>,
    #[serde(flatten)]
    body: Body,
}

#[derive(Serialize)]
enum Body {
    #[serde(rename = "body")]
    Text(String),
    #[serde(rename = "body_base64")]
    Binary(String),
}

impl HttpResponse {
    /// Reads the response to its end.
    ///
    /// # Errors
    /// The connection failed, or the body is too large.
    pub(super) async fn read(exchange: &mut Exchange) -> Result<Self> {
        let mut headers = BTreeMap::<String, Vec<String>>::new();
        for (name, value) in exchange.headers() {
            let values = headers.entry(name.to_string()).or_default();
            values.push(String::from_utf8_lossy(value.as_bytes()).into_owned());
        }
        let (status, version) = (exchange.status().as_u16(), exchange.version());
        let mut body = Vec::new();
        while let Some(part) = exchange.next().await? {
            if body.len() + part.len() > LARGEST_BODY {
                return Err(Error::configuration("the response's body is larger than the 16 MiB that --json takes")
                    .hint("without --json it is printed as it comes"));
            }
            body.extend_from_slice(&part);
        }
        Ok(Self { status, version, headers, body: Body::of(body) })
    }
}

impl Body {
    fn of(body: Vec<u8>) -> Self {
        String::from_utf8(body).map_or_else(|error| Self::Binary(Base64::encode_string(error.as_bytes())), Self::Text)
    }
}

/// The status line and the header, as HTTP/1.1 writes them.
pub(super) fn head(exchange: &Exchange) -> Vec<u8> {
    let status = exchange.status();
    let mut head = exchange.version().as_bytes().to_vec();
    head.extend_from_slice(format!(" {}", status.as_str()).as_bytes());
    // HTTP/2 has no words for its numbers (RFC 9113, section 8.3.2).
    if let Some(reason) = status.canonical_reason().filter(|_| exchange.version() != "HTTP/2") {
        head.extend_from_slice(format!(" {reason}").as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    for (name, value) in exchange.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// A distinguished name, which may be empty.
fn named(name: &str) -> &str {
    if name.is_empty() { "no name" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_that_are_no_text_are_base64() {
        let json = |body: &[u8]| serde_json::to_string(&Body::of(body.to_vec())).unwrap();
        assert_eq!(json("시험".as_bytes()), "{\"body\":\"시험\"}");
        assert_eq!(json(&[0xff, 0x00]), "{\"body_base64\":\"/wA=\"}");
    }
}
