//! What a server takes on: how many connections, from whom, how fast, and within how much memory.
//!
//! One gate for the process. A connection asks it three things, each of which may make it wait or turn it away: whether
//! its address has a place left ([`Gate::visit`], [`Visit::admitted`]), whether the server has ([`Gate::enter`]), and
//! when its handshake may begin ([`Gate::turn`]). What is off costs nothing: nothing is locked and nothing counted for
//! it.
//!
//! Every time in here is measured by the monotonic clock: setting the system's clock moves no limit.

mod descriptors;
mod episode;
mod memory;
mod rate;
mod table;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use qtls_core::Result;
use socket2::SockRef;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tracing::{info, warn};

use crate::config::{ClientConfig, Limits, Origins, ServerConfig, WhenFull};
use crate::hosts::{Hosts, Target};
use crate::observe::metrics::Metrics;
use episode::{Episode, News};
use memory::{Memory, Meter};
use rate::{Rate, Turn};
use table::{Answer, Held, Key, Table};

/// How often the memory is measured, where there is a budget.
const MEASURE: Duration = Duration::from_millis(100);
/// How often everything else is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// The limits that are in force. They change with the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Values {
    max_connections: u32,
    per_address: u32,
    per_network: u32,
    network_prefix_v4: u8,
    network_prefix_v6: u8,
    handshakes_per_second: u32,
    memory_mb: u32,
    when_full: WhenFull,
    workers: u32,
    /// Whether connections may need a second descriptor, for an upstream.
    passed_on: bool,
    /// Where the configuration has `max_connections`.
    section: &'static str,
}

impl Values {
    /// The limits of a configuration with these hosts.
    pub(crate) fn of(config: &ServerConfig, hosts: &Hosts) -> Self {
        let limits = &config.limits;
        Self {
            max_connections: config.server.max_connections,
            per_address: limits.per_address,
            per_network: limits.per_network,
            network_prefix_v4: limits.network_prefix_v4,
            network_prefix_v6: limits.network_prefix_v6,
            handshakes_per_second: limits.handshakes_per_second,
            memory_mb: limits.memory_mb,
            when_full: limits.when_full,
            workers: u32::try_from(config.server.workers()).unwrap_or(u32::MAX),
            passed_on: hosts.iter().any(|host| !matches!(host.target, Target::Responder)),
            section: "server",
        }
    }

    /// The limits of tunnels.
    pub(crate) fn of_tunnels(config: &ClientConfig) -> Self {
        let limits = &config.limits;
        Self {
            max_connections: config.client.max_connections,
            per_address: limits.per_address,
            per_network: limits.per_network,
            network_prefix_v4: limits.network_prefix_v4,
            network_prefix_v6: limits.network_prefix_v6,
            handshakes_per_second: limits.handshakes_per_second,
            memory_mb: limits.memory_mb,
            when_full: limits.when_full,
            workers: config.client.worker_threads.into(),
            passed_on: true,
            section: "client",
        }
    }

    fn queues(&self) -> bool {
        self.when_full == WhenFull::Queue
    }

    fn budget(&self) -> u64 {
        u64::from(self.memory_mb) << 20
    }

    fn network(&self, address: IpAddr) -> Key {
        Key::network(address, self.network_prefix_v4, self.network_prefix_v6)
    }

    /// Who meets a limit, in the log: the address, or its network.
    fn name(&self, limit: Limit, client: IpAddr) -> String {
        if limit != Limit::PerNetwork {
            return client.to_canonical().to_string();
        }
        let first = self.network(client).first();
        format!("{first}/{}", if first.is_ipv4() { self.network_prefix_v4 } else { self.network_prefix_v6 })
    }
}

/// Checks what the types of a configuration can't: whether this system tells how much memory a process takes. To be called
/// before a sandbox hides it. `most` is the section that has `max_connections`, and its value. Returns what the operator should know, a sentence each: limits that have no effect.
///
/// # Errors
/// There is a budget, and the system doesn't tell.
pub(crate) fn check(limits: &Limits, most: (&str, u32), origins: &Origins) -> Result<Vec<String>> {
    if Meter::of_this_process().is_none() && limits.memory_mb > 0 {
        const UNKNOWN: &str =
            "/proc/self/statm can't be read: the system doesn't tell how much memory the process takes";
        return Err(origins
            .error("limits.memory_mb", UNKNOWN)
            .hint("let the process see its own /proc (ProcSubset=pid in a systemd unit suffices), or remove the key"));
    }
    let mut idle = Vec::new();
    let (section, most) = most;
    for (key, limit) in [("per_address", limits.per_address), ("per_network", limits.per_network)] {
        if limit > most {
            idle.push(format!("limits.{key} is {limit}, which is never reached: {section}.max_connections is {most}"));
        }
    }
    let (address, network) = (limits.per_address, limits.per_network);
    if network > 0 && address > network {
        idle.push(format!("limits.per_address is {address}, which is never reached: limits.per_network is {network}"));
    }
    for key in ["limits.network_prefix_v4", "limits.network_prefix_v6"] {
        if network == 0 && origins.is_set(key) {
            idle.push(format!("{key} has no effect: limits.per_network is off"));
        }
    }
    Ok(idle)
}

/// A limit that connections meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Limit {
    MaxConnections,
    Descriptors,
    MemoryMb,
    PerAddress,
    PerNetwork,
    HandshakesPerSecond,
}

impl Limit {
    pub(crate) const ALL: [Self; 6] = [
        Self::MaxConnections,
        Self::Descriptors,
        Self::MemoryMb,
        Self::PerAddress,
        Self::PerNetwork,
        Self::HandshakesPerSecond,
    ];

    /// The label `limit` of metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MaxConnections => "max_connections",
            Self::Descriptors => "descriptors",
            Self::MemoryMb => "memory",
            Self::PerAddress => "per_address",
            Self::PerNetwork => "per_network",
            Self::HandshakesPerSecond => "handshakes_per_second",
        }
    }
}

/// A connection that is turned away, and by which limit. It has been counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) Limit);

impl Refused {
    /// Ends the connection with a reset: nothing of it stays in the kernel, and its client knows at once.
    ///
    /// TLS has no alert for a server that is busy, and its peers tell no such alert from a broken server.
    pub(crate) fn reset(self, socket: impl AsFd) {
        let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
    }
}

/// How long a connection may live (`limits.connection_timeout`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// When it is over: what is under way may be finished, and nothing more is begun.
    pub end: Instant,
    /// How long that may take.
    pub grace: Duration,
}

impl Life {
    /// The life of a connection that was accepted at `accepted`; `None` where `timeout` is zero, which is no limit.
    pub(crate) fn of(timeout: Duration, grace: Duration, accepted: Instant) -> Option<Self> {
        (!timeout.is_zero()).then(|| Self { end: accepted + timeout, grace })
    }
}

/// What all connections of the process pass.
pub(crate) struct Gate {
    values: RwLock<Values>,
    metrics: Arc<Metrics>,
    /// Places that are taken.
    open: AtomicU32,
    /// Places that there are: `server.max_connections`, or fewer where there are no descriptors for so many.
    places: AtomicU32,
    /// Handshakes that may begin in a second.
    per_second: AtomicU32,
    /// A place is free, or there is memory again.
    freed: Notify,
    /// The limits are others.
    changed: Notify,
    addresses: Arc<Table>,
    networks: Arc<Table>,
    rate: Rate,
    memory: Memory,
    episodes: [Episode; Limit::ALL.len()],
    /// Accepting failed for another reason than a limit.
    trouble: Episode,
    origin: Instant,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("values", &self.values()).field("open", &self.open).finish_non_exhaustive()
    }
}

impl Gate {
    /// A gate that nobody has passed yet. Raises the process's limit of open files as far as it may.
    pub(crate) fn new(values: Values, metrics: Arc<Metrics>) -> Arc<Self> {
        if let Err(error) = descriptors::raise() {
            warn!("the limit of open files can't be raised: {error}");
        }
        let gate = Self {
            metrics,
            open: AtomicU32::new(0),
            places: AtomicU32::new(values.max_connections),
            per_second: AtomicU32::new(values.handshakes_per_second),
            freed: Notify::new(),
            changed: Notify::new(),
            addresses: Table::new(values.per_address),
            networks: Table::new(values.per_network),
            rate: Rate::default(),
            memory: Memory::default(),
            episodes: std::array::from_fn(|_| Episode::default()),
            trouble: Episode::default(),
            origin: Instant::now(),
            values: RwLock::new(values),
        };
        gate.count_places();
        gate.warn_of_descriptors();
        gate.publish(&values);
        Arc::new(gate)
    }

    /// From now on these are the limits. Nobody who is in has to leave; who waits is looked at anew.
    pub(crate) fn set(&self, values: Values) {
        let before = std::mem::replace(&mut *self.values.write().unwrap_or_else(PoisonError::into_inner), values);
        self.per_second.store(values.handshakes_per_second, Relaxed);
        self.addresses.set_limit(values.per_address);
        self.networks.set_limit(values.per_network);
        if before.handshakes_per_second != values.handshakes_per_second {
            self.rate.fill();
        }
        self.count_places();
        if (before.max_connections, before.passed_on) != (values.max_connections, values.passed_on) {
            self.warn_of_descriptors();
        }
        self.publish(&values);
        self.changed.notify_waiters();
        self.freed.notify_waiters();
    }

    /// Looks after everything that nobody asks about: memory, descriptors, and what the log is to tell. Never returns.
    pub(crate) async fn watch(self: Arc<Self>) {
        let mut looked: Option<Instant> = None;
        loop {
            let due = looked.is_none_or(|looked| looked.elapsed() >= LOOK);
            if due {
                looked = Some(Instant::now());
                self.count_places();
                self.tell();
            }
            self.measure(due);
            let pause = if self.values().memory_mb > 0 { MEASURE } else { LOOK };
            let _ = timeout(pause, self.changed.notified()).await;
        }
    }

    /// A connection from this address has been accepted.
    pub(crate) fn visit(self: &Arc<Self>, client: IpAddr) -> Result<Visit, Refused> {
        let mut visit = Visit { address: Seat::None, network: Seat::None };
        if !self.addresses.is_on() && !self.networks.is_on() {
            return Ok(visit);
        }
        visit.address = self.ask(Limit::PerAddress, client)?;
        visit.network = match visit.address {
            // It takes no place of its network before it has one of its address.
            Seat::Later(_) => Seat::NotAsked,
            _ => self.ask(Limit::PerNetwork, client)?,
        };
        Ok(visit)
    }

    /// Waits for a place of the server, or says that there is none.
    pub(crate) async fn enter(self: &Arc<Self>) -> Result<Place, Refused> {
        let Err(mut limit) = self.try_enter() else { return Ok(Place(self.clone())) };
        self.hit(limit, None);
        loop {
            if !self.values().queues() {
                return Err(self.refused(limit));
            }
            let mut freed = pin!(self.freed.notified());
            // What is freed from here on is not missed.
            freed.as_mut().enable();
            match self.try_enter() {
                Ok(()) => return Ok(Place(self.clone())),
                Err(other) if other != limit => {
                    limit = other;
                    self.hit(limit, None);
                }
                Err(_) => {}
            }
            freed.await;
        }
    }

    /// Waits until a handshake may begin, but not longer than `until`.
    pub(crate) async fn turn(&self, until: Instant) -> Result<(), Refused> {
        let mut met = false;
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            let values = self.values();
            if values.handshakes_per_second == 0 {
                return Ok(());
            }
            let now = self.nanoseconds(Instant::now());
            let latest = if values.queues() { self.nanoseconds(until) } else { now };
            let turn = self.rate.turn(values.handshakes_per_second, now, latest);
            if turn != Turn::Now && !std::mem::replace(&mut met, true) {
                self.hit(Limit::HandshakesPerSecond, None);
            }
            match turn {
                Turn::Now => return Ok(()),
                Turn::TooLate => return Err(self.refused(Limit::HandshakesPerSecond)),
                Turn::At(at) => {
                    let _waiting = self.metrics.waiting();
                    tokio::select! {
                        biased;
                        () = sleep_until(self.origin + Duration::from_nanos(at)) => return Ok(()),
                        () = changed => {}
                    }
                }
            }
        }
    }

    /// Whether handshakes are limited at all.
    pub(crate) fn has_turns(&self) -> bool {
        self.per_second.load(Relaxed) > 0
    }

    /// Accepting failed, and not because of the connection that was to be accepted.
    pub(crate) fn cannot_accept(&self, error: &io::Error) {
        if descriptors::is_exhausted(error) {
            self.hit(Limit::Descriptors, None);
        } else if self.trouble.hit(self.milliseconds()) {
            tracing::error!("can't accept connections: {error}; trying again");
        }
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> u32 {
        self.open.load(Relaxed)
    }

    fn ask(self: &Arc<Self>, limit: Limit, client: IpAddr) -> Result<Seat, Refused> {
        let values = self.values();
        let (table, key) = match limit {
            Limit::PerNetwork => (&self.networks, values.network(client)),
            _ => (&self.addresses, Key::address(client)),
        };
        match table.ask(key, values.queues()) {
            Answer::Unlimited => Ok(Seat::None),
            Answer::Place(held) => Ok(Seat::Held(held)),
            Answer::Later(later) => {
                self.hit(limit, Some(client));
                Ok(Seat::Later(later))
            }
            Answer::Full => {
                self.hit(limit, Some(client));
                Err(self.refused(limit))
            }
        }
    }

    fn try_enter(&self) -> Result<(), Limit> {
        let places = self.places.load(Relaxed);
        let over = self.memory.is_over();
        let entered = self.open.fetch_update(Relaxed, Relaxed, |open| {
            // One is let in whatever the memory is: a budget below what the process takes by itself would be an outage.
            (open < places && (!over || open == 0)).then_some(open + 1)
        });
        match entered {
            Ok(_) => Ok(()),
            Err(open) if open < places => Err(Limit::MemoryMb),
            Err(_) if places < self.values().max_connections => Err(Limit::Descriptors),
            Err(_) => Err(Limit::MaxConnections),
        }
    }

    fn measure(&self, trim: bool) {
        let values = self.values();
        let budget = values.budget();
        if budget == 0 && !self.memory.is_over() {
            return;
        }
        let Some(meter) = Meter::of_this_process() else { return };
        let Some(mut resident) = meter.resident() else { return };
        let is_too_much = resident > budget && budget > 0;
        if is_too_much && (trim || !self.memory.is_over()) {
            // What was freed counts as taken until it is given back.
            crate::memory::trim();
            resident = meter.resident().unwrap_or(resident);
        }
        if self.memory.judge(resident, budget) {
            self.freed.notify_waiters();
        }
    }

    fn count_places(&self) {
        let values = self.values();
        let places = values.max_connections.min(descriptors::places(values.workers, values.passed_on));
        if places > self.places.swap(places, Relaxed) {
            self.freed.notify_waiters();
        }
    }

    fn warn_of_descriptors(&self) {
        let places = self.places.load(Relaxed);
        let wanted = self.values().max_connections;
        if places < wanted {
            let section = self.values().section;
            warn!(
                "{section}.max_connections is {wanted}, but the limit of open files suffices for {places} connections; \
                 raise it (LimitNOFILE= in a systemd unit), or lower {section}.max_connections"
            );
        }
    }

    fn publish(&self, values: &Values) {
        for (limit, value) in [
            (Limit::MaxConnections, values.max_connections),
            (Limit::MemoryMb, values.memory_mb),
            (Limit::PerAddress, values.per_address),
            (Limit::PerNetwork, values.per_network),
            (Limit::HandshakesPerSecond, values.handshakes_per_second),
        ] {
            self.metrics.limit_value(limit.name(), value.into());
        }
    }

    /// A connection meets a limit: it will wait, or be refused.
    fn hit(&self, limit: Limit, client: Option<IpAddr>) {
        self.metrics.limit_hit(limit.name());
        if self.episodes[limit as usize].hit(self.milliseconds()) {
            let values = self.values();
            let client = client.map(|client| values.name(limit, client));
            warn!(limit = limit.name(), client, "{}", self.reached(limit, &values));
        }
    }

    fn refused(&self, limit: Limit) -> Refused {
        self.metrics.connection_refused(limit.name());
        Refused(limit)
    }

    /// What the log says when a limit is reached: what it is, what happens, and the remedy.
    fn reached(&self, limit: Limit, values: &Values) -> String {
        let queues = values.queues();
        let outside = if queues { "new ones wait in the kernel's queue" } else { "new ones are refused" };
        let within =
            if queues { "more of them wait, and beyond as many again are refused" } else { "more are refused" };
        let section = values.section;
        match limit {
            Limit::MaxConnections => format!(
                "{section}.max_connections is reached: {} connections are open, {outside}; raise it if this machine can \
                 carry more",
                self.open()
            ),
            Limit::Descriptors => format!(
                "no file descriptors are left for more connections: {} are open, {outside}; raise the limit of open \
                 files (LimitNOFILE= in a systemd unit), or lower {section}.max_connections",
                self.open()
            ),
            Limit::MemoryMb => format!(
                "limits.memory_mb is reached: the process takes {} MiB of {} with {} connections open, {outside}; raise \
                 it, or lower {section}.max_connections{}",
                self.memory.resident() >> 20,
                values.memory_mb,
                self.open(),
                if section == "server" { " or tls.session_cache_size" } else { "" }
            ),
            Limit::PerAddress => format!(
                "limits.per_address is reached: {} connections of one address are open, {within}; raise it, or turn it \
                 off, if many clients share an address",
                values.per_address
            ),
            Limit::PerNetwork => format!(
                "limits.per_network is reached: {} connections of one network are open, {within}; raise it, or turn it \
                 off, if many clients share a network",
                values.per_network
            ),
            Limit::HandshakesPerSecond => format!(
                "limits.handshakes_per_second is reached: of more than {} a second, {}; raise it if the processor has \
                 room",
                values.handshakes_per_second,
                if queues { "the others wait for their turn" } else { "the others are refused" }
            ),
        }
    }

    fn tell(&self) {
        let now = self.milliseconds();
        let values = self.values();
        for limit in Limit::ALL {
            match self.episodes[limit as usize].look(now) {
                None => {}
                Some(News::Going { hits }) => {
                    warn!(limit = limit.name(), connections = hits, "still: {}", self.reached(limit, &values));
                }
                Some(News::Over { hits, lasted }) => info!(
                    limit = limit.name(),
                    connections = hits,
                    seconds = lasted.div_ceil(1000),
                    "the limit {} is no longer reached",
                    limit.name()
                ),
            }
        }
        match self.trouble.look(now) {
            None => {}
            Some(News::Going { hits }) => tracing::error!(attempts = hits, "still can't accept connections"),
            Some(News::Over { hits, lasted }) => {
                info!(attempts = hits, seconds = lasted.div_ceil(1000), "connections can be accepted again");
            }
        }
    }

    fn values(&self) -> Values {
        *self.values.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn nanoseconds(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
    }

    fn milliseconds(&self) -> u64 {
        self.nanoseconds(Instant::now()) / 1_000_000
    }
}

/// One of the places of the server, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Place(Arc<Gate>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Relaxed);
        self.0.freed.notify_one();
    }
}

/// What a connection has of the places of its address and its network.
#[derive(Debug)]
pub(crate) struct Visit {
    address: Seat,
    network: Seat,
}

#[derive(Debug)]
enum Seat {
    /// There is no limit.
    None,
    Held(#[expect(dead_code, reason = "held for its drop")] Held),
    Later(oneshot::Receiver<Held>),
    NotAsked,
}

impl Visit {
    /// Whether the connection has to wait before anything is done for it.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.address, Seat::Later(_)) || matches!(self.network, Seat::Later(_))
    }

    /// Whether there is a place to be given back.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.address, Seat::Held(_)) || matches!(self.network, Seat::Held(_))
    }

    /// Waits for the places that are missing, but not longer than `until`. Nothing is to be read before.
    pub(crate) async fn admitted(&mut self, gate: &Arc<Gate>, client: IpAddr, until: Instant) -> Result<(), Refused> {
        let _waiting = gate.metrics.waiting();
        self.address.wait(until).await.map_err(|()| gate.refused(Limit::PerAddress))?;
        if matches!(self.network, Seat::NotAsked) {
            self.network = gate.ask(Limit::PerNetwork, client)?;
        }
        self.network.wait(until).await.map_err(|()| gate.refused(Limit::PerNetwork))
    }
}

impl Seat {
    async fn wait(&mut self, until: Instant) -> Result<(), ()> {
        let Self::Later(later) = self else { return Ok(()) };
        let held = timeout_at(until, later).await.map_err(drop)?.map_err(drop)?;
        *self = Self::Held(held);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
