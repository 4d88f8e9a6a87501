//! The servers behind: whose turn it is, connecting to it, and what the log says when one fails.

mod balance;
mod care;
mod check;
mod dial;
mod error;
mod health;
mod link;
mod names;
mod own;
pub(crate) mod tls;

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout_at};

use balance::{Schedule, Share, Standing};
use health::Health;
pub use link::{Leg, Link};
use names::Name;
use tls::Spoken;
pub use tls::Tls;

pub use balance::Busy;
pub use error::{ConnectError, ConnectErrorKind};
pub use health::State;
pub use own::OwnAddresses;

use crate::config::{self, UpstreamAddress};
use crate::observe::metrics::{Metrics, OpenUpstream, UpstreamMeter};
use crate::proxy_protocol::{self, Version};
use crate::socket::Socket;

/// Every reason for which a server fails a connection or a request, for metrics.
pub const REASONS: &[&str] = &[
    "alert_received",
    "body_timeout",
    "broke_off",
    "certificate_expired",
    "certificate_refused",
    "certificate_revoked",
    "certificate_unknown_issuer",
    "certificate_wrong_name",
    "closed",
    "connect",
    "connect_timeout",
    "invalid_response",
    "loop",
    "no_common_alpn",
    "refused",
    "response_timeout",
    "tls",
    "total_timeout",
    "truncated",
    "unprocessed",
    "unreachable",
    "unresolvable",
];

/// A set of servers that do the same work. Shared by all workers.
#[derive(Debug)]
pub struct Upstream {
    config: config::Upstream,
    servers: Box<[Server]>,
    /// `None` in the clear.
    tls: Option<Tls>,
    /// In the order of the servers.
    shares: Box<[Share]>,
    schedule: ArcSwap<Schedule>,
    /// Counts changes of who is in use.
    epoch: AtomicU64,
    /// In the order of the servers.
    meters: OnceLock<Box<[UpstreamMeter]>>,
    /// Where a connection would come back to this very server.
    own: OnceLock<Arc<OwnAddresses>>,
    /// Counts connections: whose turn it is.
    turn: AtomicUsize,
    /// Whether names are kept up to date, and servers checked.
    cared_for: AtomicBool,
    /// What the times in [`Health`] count from.
    origin: Instant,
}

#[derive(Debug)]
struct Server {
    address: UpstreamAddress,
    /// As configured: `host:port`, or `unix:/path`.
    text: Arc<str>,
    place: Place,
    health: Health,
}

/// Where a server is.
#[derive(Debug)]
enum Place {
    Address(SocketAddr),
    Name(Name),
    Unix(std::path::PathBuf),
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

/// The address at the other end of a connection to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Over TCP.
    Tcp(SocketAddr),
    /// A Unix socket, as `unix:/path`.
    Unix(Arc<str>),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => f.write_str(path),
        }
    }
}

/// A server that took a connection.
#[derive(Debug)]
pub struct Connected {
    /// The connection.
    pub link: Link,
    /// To whom.
    pub server: ServerId,
    /// The server has this much more to do, as long as this lives.
    pub busy: Busy,
}

impl Upstream {
    /// The upstream of a configuration.
    pub fn new(config: &config::Upstream) -> Self {
        let server = |server: &config::UpstreamServer| Server {
            address: server.address.clone(),
            text: server.address.to_string().into(),
            place: match &server.address {
                UpstreamAddress::Tcp { host, port } => match host.parse::<IpAddr>() {
                    Ok(address) => Place::Address(SocketAddr::new(address, *port)),
                    Err(_) => Place::Name(Name::new(host, *port)),
                },
                UpstreamAddress::Unix(path) => Place::Unix(path.clone()),
            },
            health: Health::default(),
        };
        let share =
            |server: &config::UpstreamServer| Share::new(&server.address.to_string(), server.weight, server.backup);
        let shares: Box<[Share]> = config.servers.iter().map(share).collect();
        let schedule = Schedule::new(0, config.balance, &shares, |_| Standing::Up);
        Self {
            config: config.clone(),
            servers: config.servers.iter().map(server).collect(),
            tls: None,
            shares,
            schedule: ArcSwap::from_pointee(schedule),
            epoch: AtomicU64::new(0),
            meters: OnceLock::new(),
            own: OnceLock::new(),
            turn: AtomicUsize::new(0),
            cared_for: AtomicBool::new(false),
            origin: Instant::now(),
        }
    }

    /// The same over TLS.
    #[must_use]
    pub fn over(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// TLS to the servers; `None` in the clear.
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// What it was made from.
    pub fn config(&self) -> &config::Upstream {
        &self.config
    }

    /// Has the servers counted in `metrics` from now on, and connections to `own` refused.
    pub(crate) fn settle_in(&self, metrics: &Metrics, own: &Arc<OwnAddresses>) {
        self.meters.get_or_init(|| self.servers.iter().map(|server| metrics.upstream(&server.text)).collect());
        self.own.get_or_init(|| own.clone());
    }

    /// The servers as configured, and whether they are in use.
    pub(crate) fn states(&self) -> impl Iterator<Item = (&str, State)> {
        let now = self.now();
        self.servers.iter().map(move |server| (&*server.text, server.health.state(now)))
    }

    /// A connection to a server is open, until the value is dropped.
    pub(crate) fn opened(&self, server: ServerId) -> Option<OpenUpstream> {
        self.meter_of(server).map(UpstreamMeter::open)
    }

    /// A request, or in TCP mode a connection, was given to a server.
    pub(crate) fn requested(&self, server: ServerId) {
        self.meter_of(server).inspect(|meter| meter.request());
    }

    /// A request, or in TCP mode a connection, goes on to another server, since this one did not take it.
    pub(crate) fn passed_on(&self, server: ServerId) {
        self.meter_of(server).inspect(|meter| meter.passed_on());
    }

    /// How long a server may take to answer while nothing is sent in either direction.
    pub fn idle_timeout(&self) -> Duration {
        self.config.timeouts.idle
    }

    /// How long a request with its response, or in TCP mode a connection, may last; `None` is for ever.
    pub fn total_timeout(&self) -> Option<Duration> {
        Some(self.config.timeouts.total).filter(|total| !total.is_zero())
    }

    /// Whether its servers get the certificates of verified clients.
    pub fn wants_client_cert(&self) -> bool {
        self.config.client_cert
    }

    /// The version of the PROXY header that its servers get, if they get one.
    pub(crate) fn proxy_protocol(&self) -> Option<Version> {
        self.config.proxy_protocol.map(Version::from)
    }

    /// How many servers there are.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether there is no server at all. A loaded configuration has no such upstream.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Connects to the server whose turn it is for this client, and to the others, in order, as long as one fails. The one
    /// that takes the connection has got the `preamble` when this returns.
    ///
    /// Failures are in the log when this returns, at most one line a second for a server.
    ///
    /// # Errors
    /// None of the servers takes a connection. The error is that of the last one tried.
    pub async fn connect(&self, client: IpAddr, preamble: &[u8]) -> Result<Connected, ConnectError> {
        let mut last: Option<(ServerId, ConnectError)> = None;
        for server in self.order(client) {
            if let Some((before, _)) = last {
                self.passed_on(before);
            }
            let busy = self.occupy(server);
            match self.connect_to(server, "a connection", preamble).await {
                Ok(link) => return Ok(Connected { link, server, busy }),
                Err(error) => last = Some((server, error)),
            }
        }
        Err(last.map_or_else(|| self.none_up(), |(_, error)| error))
    }

    /// The servers in the order in which the next connection should try them, each once: in turn, by what they have to do,
    /// or by the client, as is configured. Those that are out of use come at the end, or not at all.
    pub fn order(&self, client: IpAddr) -> Order<'_> {
        Order { upstream: self, client, turn: self.turn.fetch_add(1, Relaxed), first: None, tried: Vec::new() }
    }

    /// What to say where the order is empty.
    pub fn none_up(&self) -> ConnectError {
        ConnectError::none_up(self)
    }

    /// When the first server may be in use again, if it does well from now on.
    fn back_in(&self) -> Duration {
        /// Where nothing is checked, and so nothing known.
        const UNKNOWN: Duration = Duration::from_secs(1);
        let Some(check) = &self.config.health else { return UNKNOWN };
        let now = self.now();
        self.servers.iter().map(|server| server.health.back_in(now, check)).min().unwrap_or(UNKNOWN)
    }

    /// A server has a request more to do, as long as the value lives.
    pub fn occupy(&self, server: ServerId) -> Busy {
        Busy::on(&self.shares[server.0])
    }

    /// Connects to one server, and sends the `preamble` before anything else. `purpose` is for the log: who has to do
    /// without the connection if this fails.
    ///
    /// # Errors
    /// The name has no address, or no address takes a connection, and the preamble, in time.
    pub async fn connect_to(&self, server: ServerId, purpose: &str, preamble: &[u8]) -> Result<Link, ConnectError> {
        self.connect_as(server, purpose, Some(preamble), Spoken::AsConfigured).await
    }

    async fn connect_as(
        &self,
        server: ServerId,
        purpose: &str,
        preamble: Option<&[u8]>,
        spoken: Spoken,
    ) -> Result<Link, ConnectError> {
        let entry = self.server(server);
        let began = Instant::now();
        match self.link(server, preamble, spoken, began).await {
            Ok(stream) => {
                if entry.health.connected(self.now(), &entry.text) {
                    self.changed();
                }
                if let Some(meter) = self.meter_of(server) {
                    meter.connected(began.elapsed().as_secs_f64());
                    if let Some(facts) = stream.facts() {
                        meter.handshake(facts);
                        let tally = meter.tally(facts.post_quantum());
                        return Ok(stream.counted(tally));
                    }
                }
                Ok(stream)
            }
            Err(kind) => {
                let error = ConnectError::new(&entry.text, kind);
                self.count_error(server, error.reason());
                if entry.health.refused(self.now(), &entry.text, &error.kind(), purpose) {
                    self.meter_of(server).inspect(|meter| meter.out("connect"));
                    self.changed();
                }
                Err(error)
            }
        }
    }

    /// As [`connect_to`](Self::connect_to), for HTTP/1.1 whatever `upstream.http_version` says: HTTP/2 has no upgrades.
    ///
    /// # Errors
    /// As for [`connect_to`](Self::connect_to).
    pub(crate) async fn connect_for_upgrade(&self, server: ServerId, purpose: &str) -> Result<Link, ConnectError> {
        self.connect_as(server, purpose, Some(b""), Spoken::Http1).await
    }

    /// Connects to a server at the address where it was reached before: its name may have others.
    ///
    /// # Errors
    /// It takes no connection in time.
    pub(crate) async fn connect_to_same(
        &self,
        server: ServerId,
        peer: Option<&Peer>,
        purpose: &str,
    ) -> Result<Link, ConnectError> {
        let Some(Peer::Tcp(address)) = peer else {
            return self.connect_as(server, purpose, None, Spoken::AsConfigured).await;
        };
        let began = Instant::now();
        let fail = |kind| ConnectError::new(&address.to_string(), kind);
        let socket = self.dial_address(*address).await.map_err(fail)?;
        self.secured(server, socket, None, Spoken::AsConfigured, began).await.map_err(fail)
    }

    /// Who is at the other end of a connection to a server.
    pub fn peer(&self, server: ServerId, link: &Link) -> Option<Peer> {
        match &self.server(server).place {
            Place::Unix(_) => Some(Peer::Unix(self.server(server).text.clone())),
            Place::Address(_) | Place::Name(_) => link.peer_addr().map(Peer::Tcp),
        }
    }

    /// Whether a connection to `peer` still leads to the server: its name may have moved.
    pub fn leads_to(&self, server: ServerId, peer: Option<&Peer>) -> bool {
        match (&self.server(server).place, peer) {
            (Place::Name(name), Some(Peer::Tcp(address))) => name.includes(*address),
            _ => true,
        }
    }

    /// Counts and logs that a server took a connection, but not the request on it; at most one line a second for a
    /// server. `kind` is one of [`REASONS`], and `reason` the same in words.
    pub fn failed(&self, server: ServerId, kind: &'static str, reason: &dyn fmt::Display, purpose: &str) {
        self.count_error(server, kind);
        let entry = self.server(server);
        let most = self.config.max_failures;
        if entry.health.failed_request(self.now(), &entry.text, most, reason, purpose) {
            self.meter_of(server).inspect(|meter| meter.out("requests"));
            self.changed();
        }
    }

    /// A server answered a request.
    pub fn answered(&self, server: ServerId) {
        let entry = self.server(server);
        if entry.health.answered(self.now(), &entry.text) {
            self.changed();
        }
    }

    /// As [`failed`](Self::failed), for TLS that failed when its handshake was over.
    pub(crate) fn failed_tls(&self, server: ServerId, error: &rustls::Error, purpose: &str) {
        let Some(tls) = &self.tls else { return };
        let message = tls.explain(error);
        self.failed(server, tls::short(error), &format_args!("TLS: {message}"), purpose);
    }

    /// Counts that a server failed what it had begun, for one of [`REASONS`].
    pub(crate) fn count_error(&self, server: ServerId, kind: &'static str) {
        self.meter_of(server).inspect(|meter| meter.error(kind));
    }

    fn meter_of(&self, server: ServerId) -> Option<&UpstreamMeter> {
        self.meters.get()?.get(server.0)
    }

    fn server(&self, id: ServerId) -> &Server {
        &self.servers[id.0]
    }

    /// Milliseconds since this upstream was made.
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Dials, and makes of the socket what the server expects.
    async fn link(
        &self,
        server: ServerId,
        preamble: Option<&[u8]>,
        spoken: Spoken,
        began: Instant,
    ) -> Result<Link, ConnectErrorKind> {
        let socket = self.dial(self.server(server)).await?;
        self.secured(server, socket, preamble, spoken, began).await
    }

    /// Makes of a socket what the server expects: the preamble comes before everything else. Without one, the connection is
    /// this server's own.
    async fn secured(
        &self,
        server: ServerId,
        mut socket: Socket,
        preamble: Option<&[u8]>,
        spoken: Spoken,
        began: Instant,
    ) -> Result<Link, ConnectErrorKind> {
        let limit = self.config.timeouts.connect;
        let deadline = began + limit;
        let own = || self.proxy_protocol().map_or(Vec::new(), |version| proxy_protocol::own_header(version, &socket));
        let preamble = preamble.map_or_else(|| Cow::Owned(own()), Cow::Borrowed);
        if !preamble.is_empty() {
            match timeout_at(deadline, socket.write_all(&preamble)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    return Err(ConnectErrorKind::Other(format!("it didn't take the PROXY header: {error}")));
                }
                Err(_) => return Err(ConnectErrorKind::Timeout(limit)),
            }
        }
        let Some(tls) = &self.tls else { return Ok(socket.into()) };
        tls.handshake(server.0, socket, self.config.starttls, spoken, deadline, limit).await
    }

    /// A server has gone out of use, or has come back.
    fn changed(&self) {
        // After what has changed: who sees the number sees that, too.
        self.epoch.fetch_add(1, Release);
    }

    /// Who is chosen from now.
    fn schedule(&self) -> arc_swap::Guard<Arc<Schedule>> {
        let schedule = self.schedule.load();
        let epoch = self.epoch.load(Acquire);
        if schedule.epoch == epoch {
            return schedule;
        }
        let standing = |index: usize| {
            let health = &self.servers[index].health;
            match () {
                () if health.is_up() => Standing::Up,
                () if health.is_held() => Standing::Held,
                () => Standing::Down,
            }
        };
        // Several workers may do the same. None stores what is older than what it found.
        self.schedule.store(Arc::new(Schedule::new(epoch, self.config.balance, &self.shares, standing)));
        self.schedule.load()
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
    client: IpAddr,
    turn: usize,
    first: Option<u16>,
    /// Those after the first: nearly always nobody.
    tried: Vec<u16>,
}

impl Order<'_> {
    /// One whose time out of use is over, if this connection is to try it.
    fn trial(&self, schedule: &Schedule) -> Option<u16> {
        let Upstream { servers, shares, config, .. } = self.upstream;
        let now = self.upstream.now();
        let patience = u64::try_from(config.timeouts.connect.as_millis()).unwrap_or(u64::MAX);
        let is_for_us = |id: u16| match config.balance {
            config::Balance::ClientAddress => schedule.would_choose(id, shares, self.client),
            config::Balance::RoundRobin | config::Balance::LeastConnections => true,
        };
        schedule.trials.iter().copied().find(|id| {
            let health = &servers[usize::from(*id)].health;
            health.is_due(now) && is_for_us(*id) && health.takes_a_trial(now, patience)
        })
    }
}

impl Iterator for Order<'_> {
    type Item = ServerId;

    fn next(&mut self) -> Option<ServerId> {
        let upstream = self.upstream;
        let schedule = upstream.schedule();
        let pick = |wanted: &dyn Fn(u16) -> bool| {
            schedule.pick(upstream.config.balance, &upstream.shares, self.turn, self.client, wanted)
        };
        let id = match self.first {
            None => {
                let trial = if schedule.trials.is_empty() { None } else { self.trial(&schedule) };
                let id = trial.or_else(|| pick(&|_| true))?;
                self.first = Some(id);
                id
            }
            Some(first) => {
                let id = pick(&|id| id != first && !self.tried.contains(&id))?;
                self.tried.push(id);
                id
            }
        };
        Some(ServerId(usize::from(id)))
    }
}

#[cfg(test)]
pub(crate) mod capture;
#[cfg(test)]
pub(crate) mod sockets;
#[cfg(test)]
pub(crate) mod tests;
