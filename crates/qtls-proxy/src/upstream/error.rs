//! Why a server could not be connected to.

use std::fmt;
use std::time::Duration;

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
    /// Anything else, in the operating system's words: no free port or descriptor on this side, a firewall.
    Other(String),
}

impl ConnectError {
    pub(super) fn new(server: &str, kind: ConnectErrorKind) -> Self {
        Self { server: server.to_owned(), kind }
    }

    pub(super) fn no_servers() -> Self {
        Self::new("none", ConnectErrorKind::Other("no server is configured".to_owned()))
    }

    /// The server that was tried, as configured.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// What happened.
    pub fn kind(&self) -> &ConnectErrorKind {
        &self.kind
    }

    /// A short, stable name for the reason, for metrics.
    pub fn reason(&self) -> &'static str {
        match self.kind {
            ConnectErrorKind::Refused => "refused",
            ConnectErrorKind::Unreachable => "unreachable",
            ConnectErrorKind::Unresolvable(_) => "unresolvable",
            ConnectErrorKind::Timeout(_) => "connect_timeout",
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
            Self::Other(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for ConnectError {}
