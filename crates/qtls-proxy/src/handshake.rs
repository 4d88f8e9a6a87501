//! The handshake: read the ClientHello, decide, let rustls do the rest; slow signatures elsewhere.
//!
//! rustls' `Acceptor` parses the ClientHello. Its unbuffered API, which carries the connection afterwards, has no
//! `Acceptor`: the bytes are kept, and replayed to the connection with the chosen configuration.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use qtls_core::client_hello::Offer;
use qtls_core::endpoint::{Decision, Signing};
use qtls_core::error::reason;
use qtls_core::facts::Facts;
use qtls_core::verify::{Refused, take_observed_scheme, take_refused_identity};
use qtls_core::{Error, Fault};
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::{Acceptor, UnbufferedServerConnection};
use rustls::{ClientConfig, SignatureScheme};

use crate::proxy_protocol::{self, Refusal};
use crate::signing::{SigningError, SigningPool};
use crate::socket::Socket;
use crate::starttls;
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
    /// The peer closed or reset the connection before it sent a byte, as TCP probes do. Not an error.
    Silent,
    /// The peer closed or reset the connection in the middle.
    Closed(io::Error),
    /// Plain HTTP on the TLS port.
    PlainHttp,
    /// What comes before the handshake didn't lead to it; the peer has been told, where the protocol has words for it.
    Starttls(starttls::Refusal),
    /// A PROXY header that is damaged, or missing, or that the peer had no business to send; the connection is reset.
    ProxyHeader(Refusal),
    /// rustls refused; the alert has been sent.
    Tls {
        /// Why.
        error: rustls::Error,
        /// What the client offered, if it got that far.
        offer: Option<Box<Offer>>,
    },
    /// The client's certificate verifies, but `certificates.allow` doesn't let its holder in; the alert has been sent.
    Denied(Refused),
    /// A session that must not be resumed: its client would not get in any more. Nothing was sent or taken under it.
    Session(rustls::Error),
    /// The key could not sign.
    Signing(SigningError),
    /// It took longer than the configuration allows.
    Timeout(Duration),
    /// The server stopped in the middle of it.
    Stopped,
}

impl Failure {
    /// The reasons that are not rustls' ([`qtls_core::error::REASONS`]), but those of silent connections, which are no
    /// failures.
    pub const REASONS: &[&str] =
        &["access_denied", "closed", "plain_http", "proxy_header", "session_refused", "signing", "timeout"];

    /// A short, stable name: the label `reason` of `qtls_handshake_failures_total`.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Silent => "silent",
            Self::Closed(_) => "closed",
            Self::PlainHttp => "plain_http",
            Self::Starttls(refusal) => refusal.reason(),
            Self::ProxyHeader(_) => "proxy_header",
            Self::Tls { error, .. } => reason(error),
            Self::Denied(_) => "access_denied",
            Self::Session(_) => "session_refused",
            Self::Signing(_) => "signing",
            Self::Timeout(_) => "timeout",
            Self::Stopped => "stopped",
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
            Failure::Starttls(refusal) => refusal.into(),
            Failure::PlainHttp => Self::new(Fault::Handshake, "the peer speaks plain HTTP on the TLS port"),
            Failure::ProxyHeader(refusal) => Self::new(Fault::Handshake, refusal.to_string()),
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
            Failure::Denied(refused) => Self::new(Fault::Verification, refused.to_string()),
            Failure::Session(error) => {
                let described = Self::from(&error);
                Self::new(Fault::Verification, format!("the session can't be resumed: {}", described.message()))
            }
            Failure::Signing(error) => Self::internal(format!("the key could not sign: {error}")),
            Failure::Timeout(after) => {
                Self::new(Fault::Connection, format!("the handshake took longer than {} s", after.as_secs()))
            }
            Failure::Stopped => Self::new(Fault::Connection, "this side stopped"),
        }
    }
}

/// The longest ClientHello that is read: more than any handshake message that rustls accepts.
const MAX_CLIENT_HELLO: usize = 0x1_0000 + 1024;
/// The content type of a handshake record (RFC 9846 §5.1).
const HANDSHAKE_RECORD: u8 = 22;
/// A record with the fatal alert unexpected_message (RFC 9846 §6.2).
const UNEXPECTED_MESSAGE: [u8; 7] = [21, 3, 3, 0, 2, 2, 10];

/// Does the server's side of a handshake, as `decide` says. A refusal has been answered with its alert when this returns.
///
/// `received` is what was read of the handshake already: behind a header, or what another protocol begins with.
pub async fn accept<'a>(
    socket: impl Into<Socket>,
    mut received: Vec<u8>,
    decide: impl FnOnce(&Offer) -> Decision<'a>,
    pool: &SigningPool,
) -> Result<Established, Failure> {
    let socket = socket.into();
    let mut acceptor = None;
    let (mut seen, mut fed) = (0, 0);
    let accepted = loop {
        // No buffer before there is something to put into it: a silent connection costs a socket and a timer.
        if received.len() == seen {
            match read_more(&socket, &mut received).await {
                Ok(count) if count > 0 => {}
                // Some end their probes with a reset.
                _ if received.is_empty() => return Err(Failure::Silent),
                Ok(_) => return Err(Failure::Closed(io::ErrorKind::UnexpectedEof.into())),
                Err(failure) => return Err(failure),
            }
        }
        seen = received.len();
        if received[0] != HANDSHAKE_RECORD {
            let header = proxy_protocol::begins(&received);
            if header == Some(true) {
                socket.reset_on_close();
                return Err(Failure::ProxyHeader(Refusal::Untrusted));
            }
            if header.is_none() || looks_undecided(&received) {
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

    let decision = decide(&offer);
    let connection = UnbufferedServerConnection::new(decision.config.clone()).map_err(internal)?;
    let mut handshake = Handshake { unread: received, ..Handshake::new(Session::Server(Box::new(connection))) };
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
            return Err(match handshake.refused {
                Some(refused) => Failure::Denied(refused),
                None => Failure::Tls { error, offer: Some(Box::new(offer)) },
            });
        }
        flush(&socket, &mut handshake.tls).await?;
        if !handshake.tls.is_handshaking() {
            break;
        }
        if read_more(&socket, &mut handshake.unread).await? == 0 {
            return Err(Failure::Closed(io::ErrorKind::UnexpectedEof.into()));
        }
    }
    let Handshake { mut tls, plain, .. } = handshake;
    let facts = either!(&tls.session, conn => Facts::of(conn)).ok_or_else(incomplete)?;
    // Resumption skips the verifier. What was true when the session was made may not be any more.
    if facts.resumed
        && let Some(verifier) = decision.client_verifier
        && let Err(error) = verifier.recheck(&facts.peer_chain, UnixTime::now())
    {
        let refused = take_refused_identity();
        tls.queue_close_notify();
        send_and_close(socket, tls.outgoing.as_slice()).await;
        return Err(refused.map_or(Failure::Session(error), Failure::Denied));
    }
    let facts = Facts {
        scheme: if facts.resumed { None } else { decision.scheme },
        certificate: (!facts.resumed).then(|| decision.credential.name.clone()),
        reason: (!facts.resumed).then(|| decision.reason.to_string()),
        server_name: offer.server_name,
        ..facts
    };
    Ok(Established { stream: TlsStream::new(socket, tls, plain), facts })
}

/// Does the client's side of a handshake.
pub async fn connect(
    socket: impl Into<Socket>,
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
) -> Result<Established, Failure> {
    connect_signing(socket, config, server_name, None).await
}

/// [`connect`], with the client's signature made on a thread of `pool`, if there is one.
pub async fn connect_signing(
    socket: impl Into<Socket>,
    config: Arc<ClientConfig>,
    server_name: ServerName<'static>,
    pool: Option<&SigningPool>,
) -> Result<Established, Failure> {
    let socket = socket.into();
    // An address is never sent (RFC 6066, section 3).
    let is_sent = config.enable_sni && matches!(server_name, ServerName::DnsName(_));
    let name = is_sent.then(|| server_name.to_str().into_owned());
    let connection = UnbufferedClientConnection::new(config, server_name).map_err(internal)?;
    let mut handshake = Handshake::new(Session::Client(Box::new(connection)));
    // The ClientHello has no signature in it. Which of the server's messages asks for one is not known before it is read.
    let mut signs = false;
    loop {
        let outcome = match pool.filter(|_| signs) {
            Some(pool) => {
                let (back, outcome) = pool.run(handshake, Handshake::advance).await.map_err(Failure::Signing)?;
                handshake = back;
                outcome
            }
            None => handshake.advance(),
        };
        signs = true;
        if let Err(error) = outcome {
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
    /// Whom `certificates.allow` doesn't let in.
    refused: Option<Refused>,
    /// Ciphertext that has not been processed.
    unread: Vec<u8>,
    /// Plaintext that came with the last handshake message.
    plain: Vec<u8>,
}

impl Handshake {
    fn new(session: Session) -> Self {
        Self { tls: Tls::new(session), observed: None, refused: None, unread: Vec::new(), plain: Vec::new() }
    }

    fn advance(&mut self) -> Result<(), rustls::Error> {
        let Self { tls, observed, refused, unread, plain } = self;
        let held = tls.held();
        unread.splice(..0, std::iter::repeat_n(0, held));
        tls.lay_out(unread);
        let outcome = tls.process(unread, |payload| plain.extend_from_slice(payload));
        unread.clear();
        *observed = take_observed_scheme().or(*observed);
        *refused = take_refused_identity().or(refused.take());
        outcome
    }
}

async fn read_more(socket: &Socket, buffer: &mut Vec<u8>) -> Result<usize, Failure> {
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

async fn flush(socket: &Socket, tls: &mut Tls) -> Result<(), Failure> {
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
