//! Why a server could not be connected to.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use super::Upstream;

/// Why a server could not be connected to, and which one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectError {
    server: String,
    kind: ConnectErrorKind,
}

/// Why a server could not be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectErrorKind {
    /// Nobody listens there.
    Refused,
    /// There is no way to the host or its network.
    Unreachable,
    /// The name has no address; in the resolver's words.
    Unresolvable(String),
    /// No answer within this time.
    Timeout(Duration),
    /// It took the connection, and the TLS handshake had no end within this time.
    HandshakeTimeout(Duration),
    /// TLS with it failed.
    Tls {
        /// One of the reasons in metrics.
        reason: &'static str,
        /// The same in words.
        message: String,
    },
    /// The address is one of this very server's: a connection would come back, and make another one, without end.
    Loop(SocketAddr),
    /// No server is in use: the health checks of all of them fail, and may bring the first of them back in this time.
    NoneUp(Duration),
    /// Anything else, in the operating system's words: no free port or descriptor on this side, a firewall.
    Other(String),
}

impl ConnectError {
    pub(super) fn new(server: &str, kind: ConnectErrorKind) -> Self {
        Self { server: server.to_owned(), kind }
    }

    pub(super) fn none_up(upstream: &Upstream) -> Self {
        Self::new(&upstream.to_string(), ConnectErrorKind::NoneUp(upstream.back_in()))
    }

    /// The server that was tried, as configured.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// What happened.
    pub fn kind(&self) -> &ConnectErrorKind {
        &self.kind
    }

    /// Whether it took too long.
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, ConnectErrorKind::Timeout(_) | ConnectErrorKind::HandshakeTimeout(_))
    }

    /// A short, stable name for the reason, for metrics.
    pub fn reason(&self) -> &'static str {
        match self.kind {
            ConnectErrorKind::Refused => "refused",
            ConnectErrorKind::Unreachable => "unreachable",
            ConnectErrorKind::Unresolvable(_) => "unresolvable",
            ConnectErrorKind::Timeout(_) | ConnectErrorKind::HandshakeTimeout(_) => "connect_timeout",
            ConnectErrorKind::Tls { reason, .. } => reason,
            ConnectErrorKind::Loop(_) => "loop",
            ConnectErrorKind::NoneUp(_) => "none_up",
            ConnectErrorKind::Other(_) => "connect",
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.server, self.kind)
    }
}

impl fmt::Display for ConnectErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Unresolvable(why) => write!(f, "the name can't be resolved: {why}"),
            Self::Timeout(limit) => write!(f, "no connection within {limit:?}"),
            Self::HandshakeTimeout(limit) => write!(f, "no end of the TLS handshake within {limit:?}"),
            Self::Tls { message, .. } => write!(f, "TLS: {message}"),
            Self::Loop(address) => write!(f, "{address} is an address of this server itself: not connected to"),
            Self::NoneUp(_) => f.write_str("no server is up"),
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ConnectError {}
