//! A connection without I/O: ciphertext in and out, plaintext in and out.
//!
//! rustls' buffered connections carry it. For servers, `Acceptor` reads the ClientHello, qtls-core decides, and the
//! connection goes on under the configuration that it chose.

use std::io::{BufRead, Read, Write};
use std::sync::Arc;

use qtls_core::client_hello::Offer;
use qtls_core::facts::Facts;
use qtls_core::verify::{take_observed_scheme, take_refused_identity};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::server::{Accepted, Acceptor};
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, Connection, SignatureScheme};

use crate::abi::qtls_fault::{QTLS_FAULT_MISUSE, QTLS_FAULT_NETWORK, QTLS_FAULT_PEER};
use crate::abi::qtls_status::{QTLS_E_NOT_TLS, QTLS_E_SHUT_DOWN, QTLS_E_TRUNCATED};
use crate::failure::{Failure, alert_of};
use crate::frozen::Server;

/// What a call came to that is no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// So many bytes went through.
    Moved(usize),
    /// Something has to come or to leave first: see [`Engine::want`].
    Blocked,
    /// The peer has said that it sends no more.
    End,
}

/// The longest ClientHello that is read: more than any handshake message that rustls accepts.
const MAX_CLIENT_HELLO: usize = 0x1_0000 + 1024;
/// A record with the fatal alert unexpected_message (RFC 9846 §6.2).
const UNEXPECTED_MESSAGE: [u8; 7] = [21, 3, 3, 0, 2, 2, 10];

/// One side of one connection.
pub(crate) struct Engine {
    state: State,
    /// Ciphertext that leaves before what rustls still holds.
    outgoing: Vec<u8>,
    /// How much of it has left.
    left: usize,
    /// Plaintext that waits to be read.
    plaintext: usize,
    /// The server name that a client sent, or has sent.
    server_name: Option<String>,
    /// What the server signed with.
    scheme: Option<SignatureScheme>,
    facts: Option<Facts>,
    /// The peer's close_notify has come.
    closed: bool,
    /// The transport has ended.
    ended: bool,
    shut_down: bool,
    failure: Option<Failure>,
}

enum State {
    /// A server that waits for the whole ClientHello.
    Accepting {
        acceptor: Box<Acceptor>,
        server: Arc<Server>,
        received: Vec<u8>,
    },
    Connected(Box<Connection>, Option<Arc<Server>>),
    /// Ended before there was a connection.
    Over,
}

impl Engine {
    /// A client's side.
    pub(crate) fn client(config: &Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Failure> {
        // An address is never sent (RFC 6066, section 3).
        let is_sent = config.enable_sni && matches!(name, ServerName::DnsName(_));
        let server_name = is_sent.then(|| name.to_str().into_owned());
        let connection = ClientConnection::new(config.clone(), name);
        let connection = connection.map_err(|error| Failure::of_tls(&error, None))?;
        let state = State::Connected(Box::new(connection.into()), None);
        Ok(Self { server_name, ..Self::new(state) })
    }

    /// A server's side.
    pub(crate) fn server(server: Arc<Server>) -> Self {
        Self::new(State::Accepting { acceptor: Box::default(), server, received: Vec::new() })
    }

    fn new(state: State) -> Self {
        Self {
            state,
            outgoing: Vec::new(),
            left: 0,
            plaintext: 0,
            server_name: None,
            scheme: None,
            facts: None,
            closed: false,
            ended: false,
            shut_down: false,
            failure: None,
        }
    }

    /// Takes ciphertext from the peer, and answers with how much, also where it fails.
    pub(crate) fn feed(&mut self, data: &[u8]) -> (usize, Result<(), Failure>) {
        let mut rest = data;
        let mut outcome = self.usable();
        while outcome.is_ok() && !rest.is_empty() {
            if self.closed {
                // RFC 9846 §6.1: whatever comes after it is ignored.
                rest = &[];
                break;
            }
            let before = rest.len();
            outcome = match &mut self.state {
                State::Accepting { .. } => self.accept(&mut rest),
                State::Connected(connection, _) => match connection.read_tls(&mut rest) {
                    Ok(_) => self.process(),
                    // It has no room for more plaintext.
                    Err(_) if self.plaintext > 0 => break,
                    Err(error) => Err(self.fail(Failure::internal(error.to_string()))),
                },
                State::Over => Err(self.fail(Failure::internal("there is no connection"))),
            };
            if outcome.is_ok() && rest.len() == before {
                break;
            }
        }
        (data.len() - rest.len(), outcome)
    }

    /// Takes the end of the transport.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        self.usable()?;
        self.ended = true;
        if self.closed {
            return Ok(());
        }
        let message = if self.is_handshaking() {
            "the peer closed the connection in the middle of the handshake"
        } else {
            "the peer closed the connection without a close_notify: what it sent may be incomplete"
        };
        Err(self.fail(Failure::new(QTLS_E_TRUNCATED, QTLS_FAULT_NETWORK, message)))
    }

    /// Gives ciphertext for the peer.
    pub(crate) fn drain(&mut self, buffer: &mut [u8]) -> usize {
        let capacity = buffer.len();
        let own = capacity.min(self.outgoing.len() - self.left);
        let (first, mut room) = buffer.split_at_mut(own);
        first.copy_from_slice(&self.outgoing[self.left..self.left + own]);
        self.sent(own);
        if let State::Connected(connection, _) = &mut self.state {
            while !room.is_empty() && connection.wants_write() {
                match connection.write_tls(&mut room) {
                    Ok(count) if count > 0 => {}
                    _ => break,
                }
            }
        }
        capacity - room.len()
    }

    /// Writes ciphertext for the peer to where it belongs, as far as that takes it.
    pub(crate) fn drain_to(&mut self, to: &mut impl Write) -> std::io::Result<()> {
        while self.left < self.outgoing.len() {
            let count = to.write(&self.outgoing[self.left..])?;
            self.sent(count);
        }
        if let State::Connected(connection, _) = &mut self.state {
            while connection.wants_write() {
                connection.write_tls(to)?;
            }
        }
        Ok(())
    }

    /// Gives plaintext from the peer.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<Progress, Failure> {
        if let State::Connected(connection, _) = &mut self.state
            && let Ok(count) = connection.reader().read(buffer)
            && count > 0
        {
            self.plaintext = self.plaintext.saturating_sub(count);
            return Ok(Progress::Moved(count));
        }
        self.usable()?;
        Ok(if self.closed { Progress::End } else { Progress::Blocked })
    }

    /// Takes plaintext for the peer.
    pub(crate) fn write(&mut self, data: &[u8]) -> Result<Progress, Failure> {
        self.usable()?;
        self.sendable()?;
        match &mut self.state {
            State::Connected(connection, _) if !connection.is_handshaking() => {
                let count = connection.writer().write(data).map_err(|error| Failure::internal(error.to_string()))?;
                Ok(if count == 0 { Progress::Blocked } else { Progress::Moved(count) })
            }
            _ => Ok(Progress::Blocked),
        }
    }

    /// Puts close_notify into what has to be sent.
    pub(crate) fn shut_down(&mut self) -> Result<(), Failure> {
        self.usable()?;
        if !std::mem::replace(&mut self.shut_down, true)
            && let State::Connected(connection, _) = &mut self.state
        {
            connection.send_close_notify();
        }
        Ok(())
    }

    /// Whether what it does goes on: it hasn't failed.
    pub(crate) fn usable(&self) -> Result<(), Failure> {
        self.failure.as_ref().map_or(Ok(()), |failure| Err(failure.again()))
    }

    /// Whether something can be sent: this side hasn't said that it sends no more.
    pub(crate) fn sendable(&self) -> Result<(), Failure> {
        if self.shut_down {
            return Err(Failure::new(QTLS_E_SHUT_DOWN, QTLS_FAULT_MISUSE, "the connection was shut down before"));
        }
        Ok(())
    }

    /// Ends the connection for another reason than what the peer sent.
    pub(crate) fn fail(&mut self, failure: Failure) -> Failure {
        self.failure.get_or_insert(failure).clone()
    }

    /// What was negotiated, once the handshake is complete.
    pub(crate) fn facts(&self) -> Option<&Facts> {
        self.facts.as_ref()
    }

    /// The exporter; `None` before the handshake is complete.
    pub(crate) fn export(&self, label: &[u8], context: &[u8], out: &mut [u8]) -> Option<Result<(), rustls::Error>> {
        match &self.state {
            State::Connected(connection, _) if self.facts.is_some() => {
                Some(connection.export_keying_material(out, label, Some(context)).map(|_| ()))
            }
            _ => None,
        }
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        match &self.state {
            State::Accepting { .. } => true,
            State::Connected(connection, _) => connection.is_handshaking(),
            State::Over => false,
        }
    }

    /// Whether there is ciphertext for the peer.
    pub(crate) fn wants_to_send(&self) -> bool {
        self.left < self.outgoing.len()
            || matches!(&self.state, State::Connected(connection, _) if connection.wants_write())
    }

    /// Whether ciphertext from the peer is of use.
    pub(crate) fn wants_to_receive(&self) -> bool {
        self.failure.is_none() && !self.closed && !self.ended && self.plaintext == 0
    }

    /// How much plaintext waits to be read.
    pub(crate) fn pending(&self) -> usize {
        self.plaintext
    }

    fn sent(&mut self, count: usize) {
        self.left += count;
        if self.left == self.outgoing.len() {
            (self.outgoing, self.left) = (Vec::new(), 0);
        }
    }

    fn accept(&mut self, rest: &mut &[u8]) -> Result<(), Failure> {
        let State::Accepting { acceptor, received, .. } = &mut self.state else { return Ok(()) };
        let before = *rest;
        let taken = acceptor.read_tls(rest);
        received.extend_from_slice(&before[..before.len() - rest.len()]);
        let too_long = taken.is_err() || received.len() > MAX_CLIENT_HELLO;
        match acceptor.accept() {
            Ok(Some(accepted)) => self.accepted(accepted),
            Ok(None) if too_long => {
                self.state = State::Over;
                let message = "the peer sent a ClientHello that is longer than any can be";
                Err(self.fail(Failure::new(QTLS_E_NOT_TLS, QTLS_FAULT_PEER, message)))
            }
            Ok(None) => Ok(()),
            Err((error, mut alert)) => {
                let _ = alert.write_all(&mut self.outgoing);
                if self.outgoing.is_empty() {
                    // The acceptor has no alert for a message that is no ClientHello.
                    self.outgoing.extend_from_slice(&UNEXPECTED_MESSAGE);
                }
                self.state = State::Over;
                Err(self.failed(&error, None))
            }
        }
    }

    fn accepted(&mut self, accepted: Accepted) -> Result<(), Failure> {
        let State::Accepting { server, received, .. } = std::mem::replace(&mut self.state, State::Over) else {
            return Ok(());
        };
        let offer = Offer::new(&accepted.client_hello(), &received);
        let decision = server.endpoint.decide(&offer, None);
        self.scheme = decision.scheme;
        self.server_name = offer.server_name.clone();
        match accepted.into_connection(decision.config.clone()) {
            Ok(connection) => {
                self.state = State::Connected(Box::new(connection.into()), Some(server));
                self.process()
            }
            Err((error, mut alert)) => {
                let _ = alert.write_all(&mut self.outgoing);
                Err(self.failed(&error, Some(&offer)))
            }
        }
    }

    fn process(&mut self) -> Result<(), Failure> {
        let State::Connected(connection, server) = &mut self.state else { return Ok(()) };
        // What another connection left behind on this thread is not about this one.
        let _ = (take_observed_scheme(), take_refused_identity());
        match connection.process_new_packets() {
            Ok(state) => {
                self.plaintext = state.plaintext_bytes_to_read();
                self.closed = state.peer_has_closed();
            }
            Err(error) => {
                self.plaintext = connection.reader().fill_buf().map_or(0, <[u8]>::len);
                while connection.wants_write() && connection.write_tls(&mut self.outgoing).is_ok() {}
                return Err(self.failed(&error, None));
            }
        }
        if server.is_none() {
            self.scheme = take_observed_scheme().or(self.scheme);
        }
        if self.facts.is_none() && !connection.is_handshaking() {
            return self.complete();
        }
        Ok(())
    }

    fn complete(&mut self) -> Result<(), Failure> {
        let State::Connected(connection, server) = &mut self.state else { return Ok(()) };
        let Some(facts) = Facts::of(connection) else { return Ok(()) };
        // Resumption skips the verifier. What was true when the session was made may not be any more.
        if facts.resumed
            && let Some(verifier) = server.as_ref().and_then(|server| server.verifier.as_deref())
            && let Err(error) = verifier.recheck(&facts.peer_chain, UnixTime::now())
        {
            connection.send_close_notify();
            while connection.wants_write() && connection.write_tls(&mut self.outgoing).is_ok() {}
            self.state = State::Over;
            self.plaintext = 0;
            let failure = judged(&error, None);
            let message = format!("the session can't be resumed: {}", failure.message().to_string_lossy());
            return Err(self.fail(failure.with_message(message)));
        }
        let scheme = if facts.resumed { None } else { self.scheme };
        self.facts = Some(Facts { scheme, server_name: self.server_name.clone(), ..facts });
        Ok(())
    }

    /// The connection has failed, and whatever rustls has to say to the peer is in `outgoing`.
    fn failed(&mut self, error: &rustls::Error, offer: Option<&Offer>) -> Failure {
        let sent = sent_alert(&self.outgoing).or_else(|| {
            // An encrypted alert can't be read any more.
            let anything = self.outgoing.len() > self.left;
            alert_of(error).filter(|_| anything).map(u8::from)
        });
        let failure = judged(error, sent);
        let failure = match (error, offer) {
            (rustls::Error::PeerIncompatible(rustls::PeerIncompatible::NoKxGroupsInCommon), Some(offer)) => {
                let message = format!("{}; it offered: {}", failure.message().to_string_lossy(), offer.group_names());
                failure.with_message(message)
            }
            _ => failure,
        };
        self.fail(failure)
    }
}

/// What is behind an error that may have come from a verifier on this thread.
fn judged(error: &rustls::Error, sent: Option<u8>) -> Failure {
    match (error, take_refused_identity()) {
        (_, Some(refused)) => Failure::of_tls(error, sent).with_message(crate::words::of_c(&refused.to_string())),
        (rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure), None) => {
            Failure::refused(sent)
        }
        (error, None) => Failure::of_tls(error, sent),
    }
}

/// The alert at the end of what is sent, where it isn't encrypted.
fn sent_alert(outgoing: &[u8]) -> Option<u8> {
    match outgoing {
        [.., 21, 3, _, 0, 2, 1 | 2, alert] if *alert != u8::from(AlertDescription::CloseNotify) => Some(*alert),
        _ => None,
    }
}
