//! PostgreSQL's words before the handshake, and what this server has to understand of those within it.
//!
//! PostgreSQL 17, chapter 53 ("Frontend/Backend Protocol"): 53.2.10 SSL and 53.2.11 GSSAPI Session Encryption, 53.2.9
//! Canceling Requests in Progress, 53.7 Message Formats.

use std::borrow::Cow;
use std::fmt;

use qtls_core::credentials::sha256;

use super::{Preamble, Refusal, Starttls, Step};

/// The registered application protocol, which clients name that begin with TLS at once (`sslnegotiation=direct`).
pub const ALPN: &[u8] = b"postgresql";

const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// Request codes have this as the major version of the protocol.
const REQUESTS: u32 = 1234;
/// The content type of a handshake record, with which no packet begins: it would be hundreds of megabytes long.
const HANDSHAKE_RECORD: u8 = 22;
/// The longest first packet that PostgreSQL takes (`MAX_STARTUP_PACKET_LENGTH`).
const MAX_PACKET: usize = 10_000;
/// The longest secret of a session, from protocol 3.2 on; it was 4 bytes before.
const MAX_SECRET: usize = 256;

/// What a server says before the handshake: consent to TLS, and no to anything else.
#[derive(Debug, Default)]
pub struct Server {
    /// Whether the client has asked for encryption by GSSAPI already. It may ask once.
    asked_for_gss: bool,
}

impl Preamble for Server {
    fn receive(&mut self, received: &[u8]) -> Step {
        if received.first() == Some(&HANDSHAKE_RECORD) && !self.asked_for_gss {
            return Step::Direct;
        }
        let packet = match Packet::parse(received) {
            Ok(Some(packet)) => packet,
            Ok(None) => return Step::More,
            Err(what) => return malformed(what),
        };
        match packet.code {
            SSL_REQUEST | GSSENC_REQUEST if packet.length != 8 => malformed("a request of a wrong length"),
            // CVE-2021-23214: what came with the request was sent before there was a key.
            SSL_REQUEST | GSSENC_REQUEST if received.len() > 8 => Step::Refuse {
                refusal: Refusal::Smuggled(received.len() - 8),
                answer: error(
                    "08P01",
                    "received unencrypted data after SSL request",
                    "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
                ),
            },
            SSL_REQUEST => Step::Tls(b"S"),
            GSSENC_REQUEST if self.asked_for_gss => malformed("it asks for GSSAPI encryption again"),
            GSSENC_REQUEST => {
                self.asked_for_gss = true;
                Step::Answer(b"N")
            }
            CANCEL_REQUEST => match CancelRequest::parse(received, packet) {
                Ok(Some(request)) => Step::Cancel(request),
                Ok(None) => Step::More,
                Err(what) => malformed(what),
            },
            _ if packet.is_startup() => Step::Refuse {
                refusal: Refusal::Plain(Starttls::Postgres),
                answer: error(
                    "28000",
                    "this server takes no connections without TLS: use sslmode=require",
                    "sslmode=verify-full also makes sure that it is the right server.",
                ),
            },
            _ => malformed("an unknown request code"),
        }
    }
}

/// What a server says that has no encryption: no, once to each kind. Whatever else a client begins with isn't judged here.
#[derive(Debug, Default)]
pub struct Decliner {
    /// What was asked for already.
    asked_for: Vec<u32>,
}

impl Preamble for Decliner {
    fn receive(&mut self, received: &[u8]) -> Step {
        if received.first() == Some(&HANDSHAKE_RECORD) {
            return malformed(
                "it begins with TLS, and is to speak plain here: sslmode=disable, or sslnegotiation=postgres",
            );
        }
        let packet = match Packet::parse(received) {
            Ok(Some(packet)) => packet,
            Ok(None) => return Step::More,
            Err(what) => return malformed(what),
        };
        match packet.code {
            code @ (SSL_REQUEST | GSSENC_REQUEST) => {
                if packet.length != 8 {
                    return malformed("a request of a wrong length");
                }
                if received.len() > 8 {
                    return Step::refuse(Refusal::Smuggled(received.len() - 8));
                }
                if self.asked_for.contains(&code) {
                    return malformed("it asks for the same encryption again");
                }
                self.asked_for.push(code);
                Step::Answer(b"N")
            }
            _ => Step::Direct,
        }
    }
}

/// Looks at what a server answers to the first packet within TLS, for a client that has no TLS itself. What that client is
/// to get goes to `told`. Returns how much of `received` is in it, and whether more is to be looked at.
///
/// The offer of SCRAM-SHA-256-PLUS, which binds the login to the TLS connection, is left out: libpq takes it for a sign that
/// TLS was stripped on the way, and gives up. Whoever verified the server is the one with the TLS connection.
pub(crate) fn for_the_plain(received: &[u8], told: &mut Vec<u8>) -> (usize, bool) {
    /// `NegotiateProtocolVersion`, which comes before the one that is looked for.
    const NEGOTIATE_VERSION: u8 = b'v';
    const AUTHENTICATION: u8 = b'R';
    const SASL: [u8; 4] = [0, 0, 0, 10];
    let mut taken = 0;
    loop {
        let rest = &received[taken..];
        let Some(([kind, length @ ..], _)) = rest.split_first_chunk::<5>() else { return (taken, true) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if !(4..=MAX_PACKET).contains(&length) || ![NEGOTIATE_VERSION, AUTHENTICATION].contains(kind) {
            return (taken, false);
        }
        let Some(message) = rest.get(..=length) else { return (taken, true) };
        taken += message.len();
        match message[5..].strip_prefix(&SASL) {
            Some(names) if *kind == AUTHENTICATION => {
                let kept = names.split(|byte| *byte == 0).filter(|name| !name.is_empty() && !name.ends_with(b"-PLUS"));
                let body: Vec<u8> = kept.flat_map(|name| [name, b"\0"].concat()).chain([0]).collect();
                // No longer than it came.
                let length = u32::try_from(body.len() + 8).unwrap_or(u32::MAX);
                told.extend_from_slice(&[&[AUTHENTICATION][..], &length.to_be_bytes(), &SASL, &body].concat());
            }
            _ => told.extend_from_slice(message),
        }
        if *kind == AUTHENTICATION {
            return (taken, false);
        }
    }
}

/// What a client says before the handshake: that it wants TLS.
#[derive(Debug)]
pub struct Client;

impl Preamble for Client {
    fn opening(&self) -> &'static [u8] {
        const {
            &[
                0,
                0,
                0,
                8,
                (SSL_REQUEST >> 24) as u8,
                (SSL_REQUEST >> 16) as u8,
                (SSL_REQUEST >> 8) as u8,
                SSL_REQUEST as u8,
            ]
        }
    }

    fn receive(&mut self, received: &[u8]) -> Step {
        match received {
            [b'S'] => Step::Tls(b""),
            // CVE-2021-23222: what came with the answer was sent before there was a key.
            [b'S', rest @ ..] => Step::refuse(Refusal::Smuggled(rest.len())),
            [b'N', ..] => Step::refuse(Refusal::NoTls(Starttls::Postgres)),
            // What the error says is not to be shown: anyone may have sent it (CVE-2024-10977).
            [b'E', ..] => malformed("it answers the request for TLS with an error"),
            [] => Step::More,
            _ => malformed("it doesn't answer the request for TLS"),
        }
    }
}

/// The first packet within TLS.
#[derive(Debug, PartialEq, Eq)]
pub enum First {
    /// The bytes are too few to tell.
    More,
    /// A session is to begin. The bytes are for the server.
    Startup,
    /// A session's query is to be cancelled.
    Cancel(CancelRequest),
    /// What comes is no word of the protocol.
    Malformed(&'static str),
}

impl First {
    /// Looks at all that came within TLS.
    pub fn parse(received: &[u8]) -> Self {
        let packet = match Packet::parse(received) {
            Ok(Some(packet)) => packet,
            Ok(None) => return Self::More,
            Err(what) => return Self::Malformed(what),
        };
        match packet.code {
            CANCEL_REQUEST => match CancelRequest::parse(received, packet) {
                Ok(Some(request)) => Self::Cancel(request),
                Ok(None) => Self::More,
                Err(what) => Self::Malformed(what),
            },
            // PostgreSQL refuses the first. Neither may reach a server that would take it, and encrypt once more.
            SSL_REQUEST | GSSENC_REQUEST => Self::Malformed("it asks for encryption within TLS"),
            _ if packet.is_startup() => Self::Startup,
            _ => Self::Malformed("an unknown request code"),
        }
    }
}

/// The head of a first packet: those have no type.
#[derive(Clone, Copy, Debug)]
struct Packet {
    /// With the head.
    length: usize,
    /// A request code, or the version of the protocol.
    code: u32,
}

impl Packet {
    /// `None` where the head is not complete.
    fn parse(received: &[u8]) -> Result<Option<Self>, &'static str> {
        const LENGTH: &str = "no first packet has such a length";
        // The first byte of a length that is not too large; other protocols have letters there.
        if received.first().is_some_and(|first| *first != 0) {
            return Err(LENGTH);
        }
        let Some((length, rest)) = received.split_first_chunk::<4>() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if !(8..=MAX_PACKET).contains(&length) {
            return Err(LENGTH);
        }
        Ok(rest.first_chunk::<4>().map(|code| Self { length, code: u32::from_be_bytes(*code) }))
    }

    /// Versions 2 and 3 of the protocol. What this server does without is for the server behind to say.
    fn is_startup(self) -> bool {
        let major = self.code >> 16;
        major != REQUESTS && (2..=3).contains(&major)
    }
}

/// A request to cancel the query of another session. Whoever has one can cancel that session's queries: it is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct CancelRequest(Box<[u8]>);

impl CancelRequest {
    /// `None` where it is not complete.
    fn parse(received: &[u8], packet: Packet) -> Result<Option<Self>, &'static str> {
        // The head, the process identifier, and the secret.
        if !(13..=12 + MAX_SECRET).contains(&packet.length) {
            return Err("a request to cancel of a wrong length");
        }
        if received.len() > packet.length {
            return Err("more than a request to cancel");
        }
        Ok((received.len() == packet.length).then(|| Self(received.into())))
    }

    /// The request, as it came.
    pub(crate) fn packet(&self) -> &[u8] {
        &self.0
    }

    /// By what the session is known.
    pub(crate) fn key(&self) -> SessionKey {
        SessionKey::of(&self.0[8..])
    }
}

impl fmt::Debug for CancelRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CancelRequest(…)")
    }
}

/// By what a session is known to those who may cancel its queries. Only the hash of the process identifier and the secret
/// is kept: the secret itself isn't needed, and comparing hashes tells nothing about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey([u8; 32]);

impl SessionKey {
    fn of(identifier_and_secret: &[u8]) -> Self {
        Self(sha256(identifier_and_secret))
    }

    /// From the body of a BackendKeyData message, where that is one.
    pub(crate) fn announced(body: &[u8]) -> Option<Self> {
        (5..=4 + MAX_SECRET).contains(&body.len()).then(|| Self::of(body))
    }
}

/// A stream of messages, as it comes in pieces. Of each message, no more than the first [`Messages::KEPT`] bytes are kept.
#[derive(Debug, Default)]
pub struct Messages {
    /// The type and the length, as far as they came.
    head: [u8; 5],
    held: usize,
    /// What is to come of the body.
    left: usize,
    body: Vec<u8>,
}

impl Messages {
    /// More than any message has that is looked at.
    const KEPT: usize = 512;

    /// Has `message` look at every message that is complete by now, by its type and the beginning of its body, until it
    /// returns false. Whether to go on: not if it returned false, or what came is no message.
    pub fn push(&mut self, mut bytes: &[u8], mut message: impl FnMut(u8, &[u8]) -> bool) -> bool {
        loop {
            if self.held < self.head.len() {
                let (now, later) = bytes.split_at(bytes.len().min(self.head.len() - self.held));
                self.head[self.held..self.held + now.len()].copy_from_slice(now);
                self.held += now.len();
                bytes = later;
                if self.held < self.head.len() {
                    return true;
                }
                let [kind, length @ ..] = self.head;
                // The length counts itself.
                let Some(left) = u32::from_be_bytes(length).checked_sub(4) else { return false };
                if !kind.is_ascii_alphanumeric() {
                    return false;
                }
                self.left = usize::try_from(left).unwrap_or(usize::MAX);
            }
            let (now, later) = bytes.split_at(bytes.len().min(self.left));
            self.left -= now.len();
            bytes = later;
            let room = Self::KEPT - self.body.len();
            self.body.extend_from_slice(&now[..now.len().min(room)]);
            if self.left > 0 {
                return true;
            }
            self.held = 0;
            if !message(self.head[0], &self.body) {
                self.body = Vec::new();
                return false;
            }
            self.body.clear();
        }
    }
}

/// The SQLSTATE of an ErrorResponse, from its body.
pub fn sqlstate(body: &[u8]) -> Option<&[u8]> {
    body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"))
}

/// A fatal ErrorResponse.
pub(crate) fn error(sqlstate: &str, message: &str, hint: &str) -> Cow<'static, [u8]> {
    let mut body = Vec::new();
    for (field, value) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', sqlstate), (b'M', message), (b'H', hint)] {
        body.push(field);
        body.extend_from_slice(value.as_bytes());
        body.push(0);
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    Cow::Owned([&b"E"[..], &length.to_be_bytes(), &body].concat())
}

fn malformed(what: &'static str) -> Step {
    Step::refuse(Refusal::Malformed(Starttls::Postgres, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(code: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(8 + body.len()).unwrap();
        [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
    }

    fn refusal(step: Step) -> (Refusal, Vec<u8>) {
        match step {
            Step::Refuse { refusal, answer } => (refusal, answer.into_owned()),
            other => panic!("{other:?}"),
        }
    }

    const BAD_LENGTH: Refusal = Refusal::Malformed(Starttls::Postgres, "no first packet has such a length");

    #[test]
    fn tls_is_granted_however_the_request_is_cut_and_gssapi_is_not() {
        let (tls, gss) = (packet(SSL_REQUEST, b""), packet(GSSENC_REQUEST, b""));
        let mut server = Server::default();
        for end in 1..8 {
            assert_eq!(server.receive(&tls[..end]), Step::More, "{end}");
        }
        assert_eq!(server.receive(&tls), Step::Tls(b"S"));
        let mut server = Server::default();
        assert_eq!(server.receive(&gss), Step::Answer(b"N"));
        assert_eq!(refusal(server.receive(&gss)).0.reason(), "starttls_malformed");
        assert_eq!(server.receive(&tls), Step::Tls(b"S"));
    }

    #[test]
    fn a_handshake_at_once_is_told_by_its_first_byte_but_not_behind_a_request() {
        assert_eq!(Server::default().receive(&[22]), Step::Direct);
        let mut server = Server::default();
        server.receive(&packet(GSSENC_REQUEST, b""));
        assert_eq!(refusal(server.receive(&[22, 3, 1])).0, BAD_LENGTH);
    }

    #[test]
    fn what_comes_behind_a_request_is_refused() {
        for code in [SSL_REQUEST, GSSENC_REQUEST] {
            let (refused, answer) = refusal(Server::default().receive(&[packet(code, b""), b"Q".to_vec()].concat()));
            assert_eq!(refused, Refusal::Smuggled(1));
            assert_eq!((answer[0], sqlstate(&answer[5..])), (b'E', Some(&b"08P01"[..])));
        }
        assert_eq!(Client.receive(b"S"), Step::Tls(b""));
        assert_eq!(refusal(Client.receive(b"SZ\0\0")).0, Refusal::Smuggled(3));
    }

    #[test]
    fn a_session_without_tls_is_told_what_to_do() {
        let startup = packet(3 << 16, b"user\0postgres\0\0");
        let (refused, answer) = refusal(Server::default().receive(&startup[..8]));
        assert_eq!(refused, Refusal::Plain(Starttls::Postgres));
        assert_eq!(usize::try_from(u32::from_be_bytes(answer[1..5].try_into().unwrap())).unwrap(), answer.len() - 1);
        assert_eq!(sqlstate(&answer[5..]), Some(&b"28000"[..]));
        assert!(String::from_utf8_lossy(&answer).contains("use sslmode=require"), "{answer:?}");
    }

    #[test]
    fn other_protocols_and_lengths_are_refused_by_their_first_bytes() {
        for bytes in [&b"G"[..], b"\0\xff", b"\x15\x03\x01", b"\0\0\0\x07", b"\0\0\x27\x11", b"\0\0\0\0"] {
            if bytes.len() == 2 {
                assert_eq!(Server::default().receive(bytes), Step::More, "{bytes:?}");
            } else {
                assert_eq!(refusal(Server::default().receive(bytes)), (BAD_LENGTH, Vec::new()), "{bytes:?}");
            }
        }
        for (code, body) in [(SSL_REQUEST, &b"x"[..]), (1234 << 16 | 1, b""), (9 << 16, b""), (CANCEL_REQUEST, b"1234")]
        {
            let step = Server::default().receive(&packet(code, body));
            assert_eq!(refusal(step).0.reason(), "starttls_malformed", "{code}");
        }
    }

    #[test]
    fn a_request_to_cancel_finds_the_key_that_the_server_announced() {
        for secret in [&b"1234"[..], &[7; 256]] {
            let body = [&b"\0\0\x12\x34"[..], secret].concat();
            let whole = packet(CANCEL_REQUEST, &body);
            for end in 1..whole.len() {
                assert_eq!(Server::default().receive(&whole[..end]), Step::More);
                assert_eq!(First::parse(&whole[..end]), First::More);
            }
            let Step::Cancel(request) = Server::default().receive(&whole) else { panic!("it is one") };
            assert_eq!(First::parse(&whole), First::Cancel(request.clone()));
            assert_eq!((request.packet(), Some(request.key())), (&whole[..], SessionKey::announced(&body)));
            assert!(!format!("{request:?}").contains("52"), "{request:?}");
            let more = [whole, b"x".to_vec()].concat();
            assert_eq!(refusal(Server::default().receive(&more)).0.reason(), "starttls_malformed");
        }
        let other = |body: &[u8]| SessionKey::announced(body);
        assert_ne!(other(b"\0\0\0\x011234"), other(b"\0\0\0\x021234"));
        assert_eq!((other(b"\0\0\0\x01"), other(&[0; 261])), (None, None));
    }

    #[test]
    fn within_tls_there_is_no_second_encryption() {
        assert_eq!(First::parse(&packet(3 << 16 | 2, b"")[..8]), First::Startup);
        for code in [SSL_REQUEST, GSSENC_REQUEST] {
            assert_eq!(First::parse(&packet(code, b"")), First::Malformed("it asks for encryption within TLS"));
        }
    }

    #[test]
    fn a_server_that_takes_no_tls_is_told_from_one_that_speaks_something_else() {
        assert_eq!(refusal(Client.receive(b"N")).0, Refusal::NoTls(Starttls::Postgres));
        for other in [&b"E\0\0"[..], b"HTTP/1.1 400", b"\x15\x03"] {
            assert_eq!(refusal(Client.receive(other)).0.reason(), "starttls_malformed");
        }
        assert_eq!(Client.opening(), packet(SSL_REQUEST, b""));
    }

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(4 + body.len()).unwrap();
        [&[kind][..], &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn messages_are_the_same_however_they_are_cut() {
        let long = vec![b'x'; 3000];
        let stream = [message(b'R', b"\0\0\0\0"), message(b'S', &long), message(b'K', b"12345678"), message(b'1', b"")];
        let stream = stream.concat();
        let expected = [(b'R', 4), (b'S', Messages::KEPT), (b'K', 8), (b'1', 0)];
        for size in [1, 2, 3, 5, 7, 64, 1000, stream.len()] {
            let (mut messages, mut seen) = (Messages::default(), Vec::new());
            for piece in stream.chunks(size) {
                let on = messages.push(piece, |kind, body| {
                    seen.push((kind, body.len()));
                    true
                });
                assert!(on);
            }
            assert_eq!(seen, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_message_ends_the_watching() {
        let mut never = |_: u8, _: &[u8]| panic!("there is no message");
        for bytes in [&b"K\0\0\0\x03"[..], b"\0\0\0\0\x08", b"HTTP/1.1 200 OK"] {
            let mut messages = Messages::default();
            // A length of a gigabyte is a message that doesn't end.
            assert_eq!(messages.push(bytes, &mut never), bytes[0] == b'H', "{bytes:?}");
        }
        let mut count = 0;
        let on = Messages::default().push(&message(b'Z', b"I").repeat(2), |_, _| {
            count += 1;
            false
        });
        assert_eq!((on, count), (false, 1));
    }

    #[test]
    fn a_decliner_says_no_once_to_each_kind_of_encryption() {
        let request = |code: u32| [8_u32.to_be_bytes(), code.to_be_bytes()].concat();
        let mut decliner = Decliner::default();
        assert_eq!(decliner.receive(&request(GSSENC_REQUEST)[..3]), Step::More);
        assert_eq!(decliner.receive(&request(GSSENC_REQUEST)), Step::Answer(b"N"));
        assert_eq!(decliner.receive(&request(SSL_REQUEST)), Step::Answer(b"N"));
        assert!(matches!(decliner.receive(&request(SSL_REQUEST)), Step::Refuse { .. }), "again and again");
        assert_eq!(decliner.receive(&request(0x0003_0000)), Step::Direct, "the server judges the rest");
        let smuggled = [request(SSL_REQUEST), b"x".to_vec()].concat();
        assert_eq!(Decliner::default().receive(&smuggled), Step::refuse(Refusal::Smuggled(1)));
        assert!(matches!(Decliner::default().receive(&[HANDSHAKE_RECORD]), Step::Refuse { .. }));
    }

    #[test]
    fn channel_binding_is_not_offered_to_who_has_no_channel() {
        let offer = b"R\0\0\0\x2a\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
        let plain = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
        let version = b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0";
        let look = |received: &[u8]| {
            let mut told = Vec::new();
            let (taken, more) = for_the_plain(received, &mut told);
            (told, taken, more)
        };
        assert_eq!(look(offer), (plain.to_vec(), offer.len(), false));
        assert_eq!(
            look(&[version, &offer[..]].concat()),
            ([version, &plain[..]].concat(), version.len() + offer.len(), false)
        );
        for short in 0..offer.len() {
            assert_eq!(look(&offer[..short]), (Vec::new(), 0, true), "{short} bytes are too few to tell");
        }
        for other in [&b"R\0\0\0\x08\0\0\0\0"[..], b"R\0\0\0\x0c\0\0\0\x05salt", plain] {
            let behind = [other, b"more"].concat();
            assert_eq!(look(&behind), (other.to_vec(), other.len(), false));
        }
        for other in [&b"E\0\0\0\x05\0"[..], b"R\xff\xff\xff\xff", b"HTTP/1.1 400"] {
            assert_eq!(look(other), (Vec::new(), 0, false), "passed on as it is");
        }
    }
}
