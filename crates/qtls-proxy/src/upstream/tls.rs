//! TLS to the servers behind: which configuration and name each of them gets, and what a failure says.

use std::sync::Arc;
use std::time::Duration;

use qtls_core::error::reason;
use qtls_core::{Error, Result};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use tokio::time::{Instant, timeout_at};

use super::error::ConnectErrorKind;
use super::link::Link;
use crate::client_plan::{ClientSide, SYSTEM};
use crate::client_sessions::ClientSessions;
use crate::config::{self, HttpVersion, UpstreamAddress};
use crate::handshake::{self, Failure};
use crate::socket::Socket;
use crate::starttls::{self, Starttls};

/// The reasons for which TLS to a server fails, for metrics: those that an operator acts on by name, and the rest.
pub(super) const REASONS: [&str; 8] = [
    "alert_received",
    "certificate_expired",
    "certificate_refused",
    "certificate_revoked",
    "certificate_unknown_issuer",
    "certificate_wrong_name",
    "no_common_alpn",
    TLS,
];

const TLS: &str = "tls";
const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";
/// As many tickets as rustls keeps for one name.
const TICKETS: usize = 8;

/// TLS to the servers of one upstream.
#[derive(Debug)]
pub struct Tls {
    side: ClientSide,
    /// In the order of the servers.
    servers: Box<[Server]>,
    /// Whether a server that doesn't choose h2 is refused.
    wants_http2: bool,
}

#[derive(Debug)]
struct Server {
    name: ServerName<'static>,
    /// With a store of sessions of its own: servers that share a name need not share their ticket keys.
    config: Arc<ClientConfig>,
    /// The same for HTTP/1.1 alone.
    http1: Arc<ClientConfig>,
    /// Those of both.
    sessions: Arc<ClientSessions>,
}

/// What is spoken within TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// What the configuration has.
    AsConfigured,
    /// HTTP/1.1, whatever the configuration has.
    Http1,
}

/// What is offered by ALPN; in TCP mode, the name of what clients speak, where that is known.
pub(crate) fn alpn(config: &config::Upstream, spoken: Option<Starttls>) -> Vec<Vec<u8>> {
    match (config.protocol, config.http_version) {
        (config::UpstreamProtocol::Tcp, _) => {
            config.starttls.or(spoken).map(|protocol| protocol.alpn().to_vec()).into_iter().collect()
        }
        (config::UpstreamProtocol::Http, HttpVersion::Http1) => vec![HTTP1.to_vec()],
        (config::UpstreamProtocol::Http, HttpVersion::Http2) => vec![H2.to_vec()],
        (config::UpstreamProtocol::Http, HttpVersion::Auto) => vec![H2.to_vec(), HTTP1.to_vec()],
    }
}

impl Tls {
    /// For the servers of `config`. Every one is asked for by `server_name`, or else by the host of its address.
    ///
    /// # Errors
    /// A host that is no name that TLS knows.
    pub fn new(side: ClientSide, config: &config::Upstream, server_name: Option<&str>) -> Result<Self> {
        let server = |server: &config::UpstreamServer| {
            let name = match (server_name, &server.address) {
                (Some(name), _) => self::server_name(name)?,
                (None, UpstreamAddress::Tcp { host, .. }) => self::server_name(host)?,
                (None, UpstreamAddress::Unix(_)) => {
                    return Err(Error::configuration(format!("{server} has no name that a certificate can be for"))
                        .hint("give the name in its certificate as `upstream.tls.server_name`"));
                }
            };
            let mut config = ClientConfig::clone(&side.tls);
            let sessions = ClientSessions::new(TICKETS);
            config.resumption = sessions.resumption();
            let mut http1 = config.clone();
            http1.alpn_protocols = vec![HTTP1.to_vec()];
            Ok(Server { name, config: Arc::new(config), http1: Arc::new(http1), sessions })
        };
        let servers = config.servers.iter().map(server).collect::<Result<_>>()?;
        let wants_http2 = config.http_version == HttpVersion::Http2;
        Ok(Self { side, servers, wants_http2 })
    }

    /// What it was made from.
    pub fn side(&self) -> &ClientSide {
        &self.side
    }

    /// Whether connections and sessions of the one are as good as those of the other.
    pub fn is_the_same(&self, other: &Self) -> bool {
        let names = |tls: &Self| tls.servers.iter().map(|server| server.name.clone()).collect::<Vec<_>>();
        self.side.binding == other.side.binding
            && self.side.tls.alpn_protocols == other.side.tls.alpn_protocols
            && names(self) == names(other)
    }

    /// Does the handshake with a server, asking for it first in the words of `starttls`, until `deadline`, which comes
    /// `limit` after the beginning.
    pub(super) async fn handshake(
        &self,
        server: usize,
        mut socket: Socket,
        starttls: Option<Starttls>,
        spoken: Spoken,
        deadline: Instant,
        limit: Duration,
    ) -> std::result::Result<Link, ConnectErrorKind> {
        let Server { name, config, http1, sessions } = &self.servers[server];
        let config = if spoken == Spoken::Http1 { http1 } else { config };
        let handshake = Box::pin(async {
            if let Some(protocol) = starttls {
                starttls::ask(&mut socket, protocol).await?;
            }
            handshake::connect_signing(socket, config.clone(), name.clone(), self.side.signing.as_deref()).await
        });
        let outcome = timeout_at(deadline, handshake).await.map_err(|_| ConnectErrorKind::HandshakeTimeout(limit))?;
        let established = outcome.map_err(|failure| self.kind(failure))?;
        sessions.completed(&established.facts);
        if self.wants_http2 && spoken == Spoken::AsConfigured && established.facts.alpn.as_deref() != Some(H2) {
            let message = "it did not choose h2 by ALPN, and upstream.http_version is \"2\"".to_owned();
            return Err(ConnectErrorKind::Tls { reason: "no_common_alpn", message });
        }
        Ok(established.into())
    }

    fn kind(&self, failure: Failure) -> ConnectErrorKind {
        match failure {
            Failure::Tls { error, .. } => {
                ConnectErrorKind::Tls { reason: short(&error), message: self.explain(&error) }
            }
            failure => ConnectErrorKind::Tls { reason: TLS, message: Error::from(failure).message().to_owned() },
        }
    }

    /// What failed, and what the operator of this server can do about it.
    pub(crate) fn explain(&self, error: &rustls::Error) -> String {
        let ClientSide { policy, verified_by, credential, .. } = &self.side;
        let told = Error::from(error);
        let told = match told.hint_text() {
            Some(hint) => format!("{} ({hint})", told.message()),
            None => told.message().to_owned(),
        };
        match error {
            rustls::Error::AlertReceived(
                AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity,
            ) => {
                format!("{told}; it was offered the groups {}", policy.group_names())
            }
            rustls::Error::AlertReceived(
                AlertDescription::CertificateRequired | AlertDescription::BadCertificate | AlertDescription::UnknownCA,
            ) => match credential {
                None => format!("{told}; there is no upstream.tls.client_cert"),
                Some(credential) => format!("{told}; it was shown {}", credential.origin),
            },
            rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                format!("{told}; what is trusted: {}", verified_by.as_deref().unwrap_or(SYSTEM))
            }
            _ => told,
        }
    }
}

/// One of [`REASONS`].
pub(super) fn short(error: &rustls::Error) -> &'static str {
    let reason = reason(error);
    match reason {
        "revocation_stale" | "revocation_unknown" | "certificate_not_yet_valid" | "certificate_wrong_purpose" => {
            "certificate_refused"
        }
        reason => REASONS.iter().find(|known| **known == reason).copied().unwrap_or(TLS),
    }
}

fn server_name(host: &str) -> Result<ServerName<'static>> {
    // A name of DNS may end in a dot; that of a certificate and of SNI never does (RFC 6066, section 3).
    let name = host.strip_suffix('.').unwrap_or(host);
    ServerName::try_from(name.to_owned()).map_err(|_| {
        Error::configuration(format!("{host:?} is no name that a certificate can be for"))
            .hint("give the name in the servers' certificates as `upstream.tls.server_name`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_that_an_operator_acts_on_have_names() {
        let of = |error: rustls::Error| short(&error);
        assert_eq!(of(CertificateError::NotValidForName.into()), "certificate_wrong_name");
        assert_eq!(of(CertificateError::Revoked.into()), "certificate_revoked");
        assert_eq!(of(CertificateError::UnknownRevocationStatus.into()), "certificate_refused");
        assert_eq!(of(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)), "alert_received");
        assert_eq!(of(rustls::Error::DecryptError), "tls");
    }

    #[test]
    fn a_name_loses_its_last_dot() {
        assert_eq!(server_name("app.example.").unwrap().to_str(), "app.example");
        assert!(matches!(server_name("::1").unwrap(), ServerName::IpAddress(_)));
        assert!(server_name("a b").unwrap_err().message().contains("no name that a certificate can be for"));
    }
}
