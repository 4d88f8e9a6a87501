//! The handshake: read the ClientHello, decide, let rustls do the rest; slow signatures elsewhere.
//!
//! rustls' `Acceptor` parses the ClientHello. Its unbuffered API, which carries the connection afterwards, has no
//! `Acceptor`: the bytes are kept, and replayed to the connection with the chosen configuration.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use qtls_core::client_hello::Offer;
use qtls_core::endpoint::{ServerEndpoint, Signing};
use qtls_core::error::reason;
use qtls_core::facts::Facts;
use qtls_core::{Error, Fault};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::{Acceptor, UnbufferedServerConnection};
use rustls::{ClientConfig, SignatureScheme};
use tokio::net::TcpStream;

use crate::signing::{SigningError, SigningPool};
use crate::stream::{Session, Tls, TlsStream, either, poll_drain, poll_read, send_and_close, with_scratch};

/// A connection whose handshake is complete.
#[derive(Debug)]
pub struct Established {
    /// The plaintext.
    pub stream: TlsStream,
    /// What was negotiated.
    pub facts: Facts,
}

/// A handshake that did not complete.
#[derive(Debug)]
pub enum Failure {
    /// The peer closed before it sent a byte, as TCP probes do. Not an error.
    Silent,
    /// The peer closed or reset the connection in the middle.
    Closed(io::Error),
    /// Plain HTTP on the TLS port.
    PlainHttp,
    /// rustls refused; the alert has been sent.
    Tls {
        /// Why.
        error: rustls::Error,
        /// What the client offered, if it got that far.
        offer: Option<Box<Offer>>,
    },
    /// The key could not sign.
    Signing(SigningError),
    /// It took longer than the configuration allows.
    Timeout(Duration),
}

impl Failure {
    /// A short, stable name: the label `reason` of `qtls_handshake_failures_total`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Closed(_) => "closed",
            Self::PlainHttp => "plain_http",
            Self::Tls { error, .. } => reason(error),
            Self::Signing(_) => "signing",
            Self::Timeout(_) => "timeout",
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Silent => Self::new(Fault::Connection, "the peer closed the connection without a word"),
            Failure::Closed(error) => {
                Self::new(Fault::Connection, format!("the connection ended in the middle of the handshake: {error}"))
            }
            Failure::PlainHttp => Self::new(Fault::Handshake, "the peer speaks plain HTTP on the TLS port"),
            Failure::Tls { error, offer } => {
                let described = Self::from(&error);
                match (error, offer) {
                    (rustls::Error::PeerIncompatible(rustls::PeerIncompatible::NoKxGroupsInCommon), Some(offer)) => {
                        Self::new(
                            described.fault(),
                            format!("{}; it offered: {}", described.message(), offer.group_names()),
                        )
                    }
                    _ => described,
                }
            }
            Failure::Signing(error) => Self::internal(format!("the server's key could not sign: {error}")),
            Failure::Timeout(after) => {
                Self::new(Fault::Connection, format!("the handshake took longer than {} s", after.as_secs()))
            }
        }
    }
}

/// The longest ClientHello that is read: more than any handshake message that rustls accepts.
const MAX_CLIENT_HELLO: usize = 0x1_0000 + 1024;
/// The content type of a handshake record (RFC 9846 §5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// A record with the fatal alert unexpected_message (RFC 9846 §6.2).
const UNEXPECTED_MESSAGE: [u8; 7] = [21, 3, 3, 0, 2, 2, 10];

/// Does the server's side of a handshake. A refusal has been answered with its alert when this returns.
pub async fn accept(socket: TcpStream, endpoint: &ServerEndpoint, pool: &SigningPool) -> Result<Established, Failure> {
    // No buffer before there is something to put into it: a silent connection costs a socket and a timer.
    let mut received = Vec::new();
    let mut acceptor = None;
    let mut fed = 0;
    let accepted = loop {
        if read_more(&socket, &mut received).await? == 0 {
            return Err(if received.is_empty() {
                Failure::Silent
            } else {
                Failure::Closed(io::ErrorKind::UnexpectedEof.into())
            });
        }
        if received[0] != HANDSHAKE_RECORD {
            if looks_undecided(&received) {
                continue;
            }
            if looks_like_http(&received) {
                send_and_close(socket, PLAIN_HTTP_ANSWER).await;
                return Err(Failure::PlainHttp);
            }
        }
        let acceptor = acceptor.get_or_insert_with(Acceptor::default);
        let mut unread = &received[fed..];
        fed = received.len();
        let outcome = loop {
            // It takes the bytes in portions.
            let taken = acceptor.read_tls(&mut unread);
            match acceptor.accept() {
                Ok(None) if matches!(taken, Ok(count) if count > 0) && !unread.is_empty() => {}
                outcome => break outcome,
            }
        };
        match outcome {
            Ok(Some(accepted)) => break accepted,
            Ok(None) if received.len() <= MAX_CLIENT_HELLO => {}
            Ok(None) => {
                return Err(Failure::Tls {
                    error: rustls::InvalidMessage::HandshakePayloadTooLarge.into(),
                    offer: None,
                });
            }
            Err((error, mut alert)) => {
                let mut bytes = Vec::new();
                let _ = alert.write_all(&mut bytes);
                if bytes.is_empty() {
                    // The acceptor has no alert for a message that is no ClientHello.
                    bytes.extend_from_slice(&UNEXPECTED_MESSAGE);
                }
                send_and_close(socket, &bytes).await;
                return Err(Failure::Tls { error, offer: None });
            }
        }
    };
    let offer = Offer::new(&accepted.client_hello(), &received);
    drop(accepted);

    let decision = endpoint.decide(&offer);
    let connection = UnbufferedServerConnection::new(decision.config.clone()).map_err(internal)?;
    let mut handshake = Handshake { unread: received, ..Handshake::new(Session::Server(connection)) };
    // The answer to a ClientHello that only asks for another one has no signature in it.
    let retry = decision.group.is_some_and(|group| group.retry);
    let mut offloads = match decision.signing {
        Signing::OffWorker => 1 + usize::from(retry),
        Signing::Inline => 0,
    };
    loop {
        let outcome = if offloads == 1 {
            let (back, outcome) = pool.run(handshake, Handshake::advance).await.map_err(Failure::Signing)?;
            handshake = back;
            outcome
        } else {
            handshake.advance()
        };
        offloads = offloads.saturating_sub(1);
        if let Err(error) = outcome {
            send_and_close(socket, handshake.tls.outgoing.as_slice()).await;
            return Err(Failure::Tls { error, offer: Some(Box::new(offer)) });
        }
        flush(&socket, &mut handshake.tls).await?;
        if !handshake.tls.is_handshaking() {
            break;
        }
        if read_more(&socket, &mut handshake.unread).await? == 0 {
            return Err(Failure::Closed(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    let Handshake { tls, plain, .. } = handshake;
    let facts = either!(&tls.session, conn => Facts::of(conn)).ok_or_else(incomplete)?;
    let facts = Facts {
        scheme: if facts.resumed { None } else { decision.scheme },
        certificate: (!facts.resumed).then(|| decision.credential.name.clone()),
        server_name: offer.server_name,
        ..facts
    };
    Ok(Established { stream: TlsStream::new(socket, tls, plain), facts })
}

/// Does the client's side of a handshake.
pub async fn connect(
    socket: TcpStream,
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
) -> Result<Established, Failure> {
    // An address is never sent (RFC 6066, section 3).
    let is_sent = config.enable_sni && matches!(server_name, ServerName::DnsName(_));
    let name = is_sent.then(|| server_name.to_str().into_owned());
    let connection = UnbufferedClientConnection::new(config, server_name).map_err(internal)?;
    let mut handshake = Handshake::new(Session::Client(connection));
    loop {
        if let Err(error) = handshake.advance() {
            send_and_close(socket, handshake.tls.outgoing.as_slice()).await;
            return Err(Failure::Tls { error, offer: None });
        }
        flush(&socket, &mut handshake.tls).await?;
        if !handshake.tls.is_handshaking() {
            break;
        }
        if read_more(&socket, &mut handshake.unread).await? == 0 {
            return Err(Failure::Closed(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    let Handshake { tls, plain, observed, .. } = handshake;
    let facts = either!(&tls.session, conn => Facts::of(conn)).ok_or_else(incomplete)?;
    let facts = Facts { scheme: observed, server_name: name, ..facts };
    Ok(Established { stream: TlsStream::new(socket, tls, plain), facts })
}

/// A handshake between two reads; it can travel to another thread and back.
struct Handshake {
    tls: Tls,
    /// What the peer's CertificateVerify was signed with.
    observed: Option<SignatureScheme>,
    /// Ciphertext that has not been processed.
    unread: Vec<u8>,
    /// Plaintext that came with the last handshake message.
    plain: Vec<u8>,
}

impl Handshake {
    fn new(session: Session) -> Self {
        Self { tls: Tls::new(session), observed: None, unread: Vec::new(), plain: Vec::new() }
    }

    fn advance(&mut self) -> Result<(), rustls::Error> {
        let Self { tls, observed, unread, plain } = self;
        let held = tls.held();
        unread.splice(..0, std::iter::repeat_n(0, held));
        tls.lay_out(unread);
        let outcome = tls.process(unread, |payload| plain.extend_from_slice(payload));
        unread.clear();
        *observed = qtls_core::verify::take_observed_scheme().or(*observed);
        outcome
    }
}

async fn read_more(socket: &TcpStream, buffer: &mut Vec<u8>) -> Result<usize, Failure> {
    std::future::poll_fn(|cx| {
        with_scratch(|scratch| {
            poll_read(socket, &mut scratch.input, cx).map_ok(|count| {
                buffer.extend_from_slice(&scratch.input[..count]);
                count
            })
        })
    })
    .await
    .map_err(Failure::Closed)
}

async fn flush(socket: &TcpStream, tls: &mut Tls) -> Result<(), Failure> {
    std::future::poll_fn(|cx| poll_drain(socket, &mut tls.outgoing, cx)).await.map_err(Failure::Closed)
}

fn internal(error: rustls::Error) -> Failure {
    Failure::Tls { error, offer: None }
}

fn incomplete() -> Failure {
    internal(rustls::Error::HandshakeNotComplete)
}

const METHODS: [&[u8]; 9] =
    [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"PATCH ", b"CONNECT ", b"PRI * HTTP/2.0"];

const PLAIN_HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Content-Type: text/plain; charset=utf-8\r\n\
    Content-Length: 89\r\n\
    Connection: close\r\n\
    \r\n\
    This port speaks HTTPS, and the request came in plain HTTP. Use https:// in the address.\n";

fn looks_like_http(bytes: &[u8]) -> bool {
    METHODS.iter().any(|method| bytes.starts_with(method))
}

/// Whether these are too few bytes to tell.
fn looks_undecided(bytes: &[u8]) -> bool {
    METHODS.iter().any(|method| bytes.len() < method.len() && method.starts_with(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_told_from_tls_and_from_garbage() {
        assert!(looks_like_http(b"GET / HTTP/1.1\r\n"));
        assert!(looks_undecided(b"GE"));
        assert!(!looks_like_http(b"\x16\x03\x01") && !looks_undecided(b"\x16\x03\x01"));
        assert!(!looks_like_http(b"GARBAGE") && !looks_undecided(b"GARBAGE"));
    }

    #[test]
    fn the_answer_to_plain_http_says_its_own_length() {
        let text = std::str::from_utf8(PLAIN_HTTP_ANSWER).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{} bytes", body.len());
    }
}
