//! Reaching a TLS server: its name, the TCP connection, the handshake; and again where the network is at fault.
//!
//! What qtls-client does once, and its tunnels for each connection.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use qtls_core::credentials::random;
use qtls_core::facts::Facts;
use qtls_core::policy::Policy;
use qtls_core::{Error, Fault, Result};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::client_plan::{ClientSide, SYSTEM};
use crate::client_sessions::ClientSessions;
use crate::handshake::{self, Failure};
use crate::signing::SigningPool;
use crate::socket::Socket;
use crate::starttls::{self, Refusal, Starttls};
use crate::stream::TlsStream;

/// The pause before the first repetition; each is twice as long as the one before, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// A TLS server, and how it is asked.
#[derive(Clone, Debug)]
pub struct Remote {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// What is asked for and verified.
    pub server_name: ServerName<'static>,
    /// What is asked before the handshake, where the protocol begins without TLS.
    pub starttls: Option<Starttls>,
    /// What is offered and accepted.
    pub policy: Arc<Policy>,
    /// What rustls takes.
    pub tls: Arc<rustls::ClientConfig>,
    /// What the server is verified against; `None` where it isn't.
    pub verified_by: Option<String>,
    /// Where the client's key signs, if that takes long.
    pub signing: Option<Arc<SigningPool>>,
    /// The sessions that it resumes.
    pub sessions: Arc<ClientSessions>,
}

impl Remote {
    /// The server at `host` and `port`, under `server_name`.
    pub fn new(host: String, port: u16, server_name: ServerName<'static>, side: ClientSide) -> Self {
        let ClientSide { policy, tls, verified_by, signing, sessions, .. } = side;
        Self { host, port, server_name, starttls: None, policy, tls, verified_by, signing, sessions }
    }

    /// `host:port`, with IPv6 addresses in brackets.
    pub fn address(&self) -> String {
        authority(&self.host, self.port)
    }
}

/// `host:port`, with IPv6 addresses in brackets.
pub fn authority(host: &str, port: impl Into<Option<u16>>) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match port.into() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

/// How long to try.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For one attempt.
    pub attempt: Duration,
    /// How many times one that failed is repeated.
    pub retries: u32,
    /// When all is over, whatever is left of these.
    pub until: Option<Instant>,
}

/// A connection whose handshake is complete.
#[derive(Debug)]
pub struct Connected {
    /// The plaintext.
    pub stream: TlsStream,
    /// What was negotiated.
    pub facts: Facts,
    /// The server's address.
    pub address: SocketAddr,
}

/// An attempt that failed and will be repeated.
#[derive(Debug)]
pub struct Retry<'a> {
    /// Why it failed.
    pub error: &'a Error,
    /// Which repetition comes next, from 1, of how many.
    pub number: u32,
    /// How many there may be.
    pub of: u32,
    /// How long until then.
    pub pause: Duration,
}

/// Connects. Every attempt offers the same, and only those that failed by the network's fault are repeated.
///
/// `refuse` may turn a connection down before anything is sent on it.
///
/// # Errors
/// Those of the last attempt.
pub async fn connect(
    remote: &Remote,
    patience: Patience,
    refuse: impl Fn(&TcpStream) -> Option<Error>,
    mut retrying: impl FnMut(Retry<'_>),
) -> Result<Connected> {
    let mut repetition = 0;
    loop {
        let error = match attempt(remote, patience, &refuse).await {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        if error.fault() != Fault::Connection {
            return Err(error);
        }
        let pause = pause(repetition, u16::from_ne_bytes(random()?));
        let next = Instant::now() + pause;
        if repetition == patience.retries || patience.until.is_some_and(|until| until <= next) {
            return Err(after(repetition + 1, error));
        }
        repetition += 1;
        retrying(Retry { error: &error, number: repetition, of: patience.retries, pause });
        sleep_until(next).await;
    }
}

async fn attempt(
    remote: &Remote,
    patience: Patience,
    refuse: impl Fn(&TcpStream) -> Option<Error>,
) -> Result<Connected> {
    let begun = Instant::now();
    let deadline = begun + patience.attempt;
    let deadline = patience.until.map_or(deadline, |until| until.min(deadline));
    let late = |what: &str| {
        let given = (deadline - begun).as_secs_f64().round();
        Error::new(Fault::Connection, format!("{what} took longer than {given} s"))
            .hint("client.connect_timeout sets how long an attempt may take")
    };
    let addresses: Vec<SocketAddr> = timeout_at(deadline, lookup_host((remote.host.as_str(), remote.port)))
        .await
        .map_err(|_| late(&format!("finding the address of {}", remote.host)))?
        .map_err(|error| {
            Error::new(Fault::Connection, format!("can't find the address of {}: {error}", remote.host))
                .hint("check the name, and how this host resolves names")
        })?
        .collect();
    let (socket, address) = open(&addresses, deadline, remote).await?;
    if let Some(error) = refuse(&socket) {
        return Err(error);
    }
    let handshake = async {
        let mut socket = Socket::from(socket);
        if let Some(protocol) = remote.starttls {
            starttls::ask(&mut socket, protocol).await?;
        }
        handshake::connect_signing(socket, remote.tls.clone(), remote.server_name.clone(), remote.signing.as_deref())
            .await
    };
    let established = timeout_at(deadline, handshake)
        .await
        .map_err(|_| late(&format!("the handshake with {}", remote.address())))?
        .map_err(|failure| explain(failure, remote))?;
    remote.sessions.completed(&established.facts);
    Ok(Connected { stream: established.stream, facts: established.facts, address })
}

/// Tries the addresses in the resolver's order (RFC 6724). None of them gets more than its share of the time.
async fn open(addresses: &[SocketAddr], deadline: Instant, remote: &Remote) -> Result<(TcpStream, SocketAddr)> {
    let mut reasons = Vec::new();
    let mut hint = None;
    for (index, address) in addresses.iter().enumerate() {
        let now = Instant::now();
        let left = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
        let until = now + deadline.saturating_duration_since(now) / left;
        match timeout_at(until, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => {
                // What is sent is sent in whole records: waiting for more would only delay it.
                let _ = socket.set_nodelay(true);
                return Ok((socket, *address));
            }
            Ok(Err(error)) => {
                if error.kind() == std::io::ErrorKind::ConnectionRefused {
                    hint.get_or_insert("is the server running, and is this its port?");
                }
                reasons.push(format!("{address}: {error}"));
            }
            Err(_) => {
                hint.get_or_insert("a firewall may be on the way; client.connect_timeout sets how long to wait");
                reasons.push(format!("{address}: no answer within {:.0?}", until - now));
            }
        }
    }
    if reasons.is_empty() {
        reasons.push("the name has no address".to_owned());
    }
    let error =
        Error::new(Fault::Connection, format!("can't connect to {} ({})", remote.address(), reasons.join("; ")));
    Err(match hint {
        Some(hint) => error.hint(hint),
        None => error,
    })
}

/// What failed, with what this client's operator can do about it.
fn explain(failure: Failure, remote: &Remote) -> Error {
    let hint = match &failure {
        Failure::Tls { error, .. } => hint(error, remote),
        Failure::Starttls(Refusal::NoTls(_)) => {
            Some("it takes them with `ssl = on` in its postgresql.conf, and a certificate".to_owned())
        }
        Failure::Starttls(Refusal::Malformed(protocol, _)) => Some(format!("is this the port of a {protocol} server?")),
        _ => None,
    };
    let error = Error::from(failure);
    match hint {
        Some(hint) => Error::new(error.fault(), error.message()).hint(hint),
        None => error,
    }
}

fn hint(error: &rustls::Error, remote: &Remote) -> Option<String> {
    let Remote { policy, .. } = remote;
    match error {
        rustls::Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity) => {
            let suites: Vec<_> = policy.suites.iter().map(|suite| suite.iana_name()).collect();
            Some(format!(
                "it may support none of the groups, none of the suites or none of the signatures that are offered: {}; {}; {}",
                policy.group_names(),
                suites.join(", "),
                policy.signature_names()
            ))
        }
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            Some("it speaks none of the offered application protocols: offer another with --alpn".to_owned())
        }
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            let anchors = remote.verified_by.as_deref().unwrap_or(SYSTEM);
            Some(format!(
                "no CA in {anchors} issued it: name the file with the right one as --ca FILE, and have the server send \
                 its intermediates"
            ))
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Some("connect by a name that it is valid for, or give that name as --server-name NAME".to_owned()),
        rustls::Error::InvalidMessage(_) => Some("is this a port that speaks TLS?".to_owned()),
        _ => None,
    }
}

/// The pause before a repetition: growing, bounded, and not the same for all clients that lost a server at once.
fn pause(repetition: u32, chance: u16) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1_u32.checked_shl(repetition).unwrap_or(u32::MAX)).min(LONGEST_PAUSE);
    full - full.mul_f64(f64::from(chance) / f64::from(u16::MAX) / 2.0)
}

fn after(attempts: u32, error: Error) -> Error {
    if attempts == 1 {
        return error;
    }
    let counted = Error::new(error.fault(), format!("{}, after {attempts} attempts", error.message()));
    match error.hint_text() {
        Some(hint) => counted.hint(hint),
        None => counted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let without_chance = |repetition| pause(repetition, 0);
        assert_eq!(without_chance(0), Duration::from_millis(250));
        assert_eq!(without_chance(1), Duration::from_millis(500));
        assert_eq!(without_chance(4), Duration::from_secs(4));
        for repetition in [5, 6, 31, 32, 33, 999] {
            assert_eq!(without_chance(repetition), LONGEST_PAUSE, "{repetition}");
        }
    }

    #[test]
    fn chance_takes_at_most_a_half() {
        assert_eq!(pause(1, u16::MAX), Duration::from_millis(250));
        let halfway = pause(1, u16::MAX / 2);
        assert!(halfway > Duration::from_millis(374) && halfway < Duration::from_millis(376), "{halfway:?}");
    }

    #[test]
    fn the_last_error_counts_the_attempts() {
        let error = Error::new(Fault::Connection, "can't connect").hint("is it running?");
        assert_eq!(after(1, error.clone()), error);
        assert_eq!(after(4, error).to_string(), "can't connect, after 4 attempts\n  hint: is it running?");
    }
}
