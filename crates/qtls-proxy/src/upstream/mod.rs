//! The servers behind: whose turn it is, connecting to it, and what the log says when one fails.

mod error;
mod health;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

pub use error::{ConnectError, ConnectErrorKind};
use health::Health;

use crate::config;

/// A set of servers that do the same work. Shared by all workers.
#[derive(Debug)]
pub struct Upstream {
    servers: Box<[Server]>,
    /// Counts connections: its remainder is whose turn it is.
    turn: AtomicUsize,
    connect_timeout: Duration,
    idle_timeout: Duration,
    client_cert: bool,
    /// What the times in [`Health`] count from.
    origin: Instant,
}

#[derive(Debug)]
struct Server {
    /// As configured: `host:port`.
    text: String,
    host: String,
    port: u16,
    /// The address, where the host is one and no name.
    literal: Option<SocketAddr>,
    health: Health,
}

/// One of the servers of an [`Upstream`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerId(usize);

impl ServerId {
    /// Its place in the configuration.
    pub fn index(self) -> usize {
        self.0
    }
}

impl Upstream {
    /// The upstream of a configuration.
    pub fn new(config: &config::Upstream) -> Self {
        let server = |address: &config::UpstreamAddress| Server {
            text: address.to_string(),
            host: address.host.clone(),
            port: address.port,
            literal: address.host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, address.port)),
            health: Health::default(),
        };
        Self {
            servers: config.servers.iter().map(server).collect(),
            turn: AtomicUsize::new(0),
            connect_timeout: config.timeouts.connect,
            idle_timeout: config.timeouts.idle,
            client_cert: config.client_cert,
            origin: Instant::now(),
        }
    }

    /// How long a server may take to answer while nothing is sent in either direction.
    pub fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// Whether its servers get the certificates of verified clients.
    pub fn wants_client_cert(&self) -> bool {
        self.client_cert
    }

    /// How many servers there are.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether there is no server at all. A loaded configuration has no such upstream.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Connects to the server whose turn it is, and to the others, in order, as long as one fails.
    ///
    /// Failures are in the log when this returns, at most one line a second for a server.
    ///
    /// # Errors
    /// None of the servers takes a connection. The error is that of the last one tried.
    pub async fn connect(&self) -> Result<TcpStream, ConnectError> {
        let mut last = ConnectError::no_servers();
        for server in self.order() {
            match self.connect_to(server, "a connection").await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The servers in the order in which the next connection should try them: in turn, and those that refused
    /// connections lately at the end.
    pub fn order(&self) -> Order<'_> {
        Order {
            upstream: self,
            first: self.turn.fetch_add(1, Ordering::Relaxed),
            taken: 0,
            deferred: Vec::new(),
            now: self.now(),
        }
    }

    /// Connects to one server. `purpose` is for the log: who has to do without the connection if this fails.
    ///
    /// # Errors
    /// The name has no address, or no address takes a connection in time.
    pub async fn connect_to(&self, server: ServerId, purpose: &str) -> Result<TcpStream, ConnectError> {
        let entry = self.server(server);
        match self.dial(entry).await {
            Ok(stream) => {
                entry.health.connected(&entry.text);
                Ok(stream)
            }
            Err(error) => {
                entry.health.refused(self.now(), &entry.text, &error.kind(), purpose);
                Err(error)
            }
        }
    }

    /// Logs that a server took a connection, but not the request on it; at most one line a second for a server.
    pub fn failed(&self, server: ServerId, reason: &dyn fmt::Display, purpose: &str) {
        let entry = self.server(server);
        entry.health.failed(self.now(), &entry.text, reason, purpose);
    }

    fn server(&self, id: ServerId) -> &Server {
        &self.servers[id.0]
    }

    /// Milliseconds since this upstream was made.
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    async fn dial(&self, server: &Server) -> Result<TcpStream, ConnectError> {
        let deadline = Instant::now() + self.connect_timeout;
        let fail = |kind| ConnectError::new(&server.text, kind);
        let late = || fail(ConnectErrorKind::Timeout(self.connect_timeout));
        if let Some(address) = server.literal {
            let stream = timeout_at(deadline, TcpStream::connect(address)).await.map_err(|_| late())?;
            return stream.map(ready).map_err(|error| fail(self.kind(error)));
        }
        let found = timeout_at(deadline, lookup_host((server.host.as_str(), server.port))).await.map_err(|_| late())?;
        let addresses: Vec<_> =
            found.map_err(|error| fail(ConnectErrorKind::Unresolvable(error.to_string())))?.collect();
        let mut last = ConnectErrorKind::Unresolvable("the name has no address".to_owned());
        for (tried, address) in addresses.iter().enumerate() {
            // A share for each, so that one silent address leaves time for the others.
            let shares = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let share = deadline.saturating_duration_since(Instant::now()) / shares;
            last = match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => return Ok(ready(stream)),
                Ok(Err(error)) => self.kind(error),
                Err(_) => ConnectErrorKind::Timeout(self.connect_timeout),
            };
        }
        Err(fail(last))
    }

    fn kind(&self, error: io::Error) -> ConnectErrorKind {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => ConnectErrorKind::Refused,
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ConnectErrorKind::Unreachable,
            io::ErrorKind::TimedOut => ConnectErrorKind::Timeout(self.connect_timeout),
            _ => ConnectErrorKind::Other(error.to_string()),
        }
    }
}

/// The servers, as the configuration writes them.
impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, server) in self.servers.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}{}", server.text)?;
        }
        Ok(())
    }
}

/// The order in which a connection tries the servers. Each comes once.
#[derive(Debug)]
pub struct Order<'a> {
    upstream: &'a Upstream,
    first: usize,
    taken: usize,
    /// Passed over the first time around.
    deferred: Vec<ServerId>,
    now: u64,
}

impl Iterator for Order<'_> {
    type Item = ServerId;

    fn next(&mut self) -> Option<ServerId> {
        let count = self.upstream.servers.len();
        while self.taken < count {
            let id = ServerId(self.first.wrapping_add(self.taken) % count);
            self.taken += 1;
            if count > 1 && self.upstream.server(id).health.refused_lately(self.now) {
                self.deferred.push(id);
            } else {
                return Some(id);
            }
        }
        (!self.deferred.is_empty()).then(|| self.deferred.remove(0))
    }
}

/// Requests are written whole: waiting for more would only delay them.
fn ready(stream: TcpStream) -> TcpStream {
    // Fails only on a connection that is already dead, which the first write will tell.
    let _ = stream.set_nodelay(true);
    stream
}

#[cfg(test)]
pub(crate) mod capture;
#[cfg(test)]
pub(crate) mod sockets;
#[cfg(test)]
mod tests;
