//! Reaching the server: the name, the TCP connection, the handshake; and again where the network is at fault.

use std::net::SocketAddr;
use std::time::Duration;

use qtls_core::credentials::random;
use qtls_core::facts::Facts;
use qtls_core::{Error, Fault, Result};
use qtls_proxy::handshake::{self, Failure};
use qtls_proxy::stream::TlsStream;
use rustls::{AlertDescription, CertificateError};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep, timeout_at};

use super::settings::{SYSTEM, Settings};

/// The pause before the first repetition; each is twice as long as the one before, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// A connection whose handshake is complete.
pub(super) struct Connected {
    pub(super) stream: TlsStream,
    pub(super) facts: Facts,
    pub(super) address: SocketAddr,
}

/// An attempt that failed and will be repeated.
pub(super) struct Retry<'a> {
    pub(super) error: &'a Error,
    /// Which repetition comes next, from 1, of how many.
    pub(super) number: u32,
    pub(super) of: u32,
    /// How long until then.
    pub(super) pause: Duration,
}

/// Connects. Every attempt offers the same, and only those that failed by the network's fault are repeated.
///
/// # Errors
/// Those of the last attempt.
pub(super) async fn connect(settings: &Settings, mut retrying: impl FnMut(Retry<'_>)) -> Result<Connected> {
    let mut repetition = 0;
    loop {
        let error = match attempt(settings).await {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        if error.fault() != Fault::Connection {
            return Err(error);
        }
        if repetition == settings.max_retries {
            return Err(after(repetition + 1, error));
        }
        let pause = pause(repetition, u16::from_ne_bytes(random()?));
        repetition += 1;
        retrying(Retry { error: &error, number: repetition, of: settings.max_retries, pause });
        sleep(pause).await;
    }
}

async fn attempt(settings: &Settings) -> Result<Connected> {
    let deadline = Instant::now() + settings.connect_timeout;
    let late = |what: &str| {
        Error::new(Fault::Connection, format!("{what} took longer than {} s", settings.connect_timeout.as_secs()))
            .hint("client.connect_timeout sets how long an attempt may take")
    };
    let addresses: Vec<SocketAddr> = timeout_at(deadline, lookup_host((settings.host.as_str(), settings.port)))
        .await
        .map_err(|_| late(&format!("finding the address of {}", settings.host)))?
        .map_err(|error| {
            Error::new(Fault::Connection, format!("can't find the address of {}: {error}", settings.host))
                .hint("check the name, and how this host resolves names")
        })?
        .collect();
    let (socket, address) = open(&addresses, deadline, settings).await?;
    let handshake = handshake::connect(socket, settings.tls.clone(), settings.server_name.clone());
    let established = timeout_at(deadline, handshake)
        .await
        .map_err(|_| late(&format!("the handshake with {}", settings.address())))?
        .map_err(|failure| explain(failure, settings))?;
    Ok(Connected { stream: established.stream, facts: established.facts, address })
}

/// Tries the addresses in the resolver's order (RFC 6724). None of them gets more than its share of the time.
async fn open(addresses: &[SocketAddr], deadline: Instant, settings: &Settings) -> Result<(TcpStream, SocketAddr)> {
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
        Error::new(Fault::Connection, format!("can't connect to {} ({})", settings.address(), reasons.join("; ")));
    Err(match hint {
        Some(hint) => error.hint(hint),
        None => error,
    })
}

/// What failed, with what this client's operator can do about it.
fn explain(failure: Failure, settings: &Settings) -> Error {
    let hint = match &failure {
        Failure::Tls { error, .. } => hint(error, settings),
        _ => None,
    };
    let error = Error::from(failure);
    match hint {
        Some(hint) => Error::new(error.fault(), error.message()).hint(hint),
        None => error,
    }
}

fn hint(error: &rustls::Error, settings: &Settings) -> Option<String> {
    let Settings { policy, .. } = settings;
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
            let anchors = settings.verified_by.as_deref().unwrap_or(SYSTEM);
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
