//! One client connection, from being accepted to its end.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use qtls_core::client_hello::{Alpn, Offer};
use qtls_core::credentials::Credential;
use qtls_core::{Error, Fault};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tracing::{Level, warn};

use crate::handshake::{self, Established, Failure};
use crate::http;
use crate::limits::{Gate, Life, Refused, Visit};
use crate::listen::Accepted;
use crate::observe::access::{self, Offered};
use crate::observe::{audit, repeats};
use crate::proxy_protocol::tlv::TooLong;
use crate::proxy_protocol::{self, Arrival, Told, UniqueId, Version};
use crate::relay;
use crate::report::Trial;
use crate::shutdown::Shutdown;
use crate::socket::Socket;
use crate::starttls::postgres::CancelRequest;
use crate::starttls::{self, Beginning, Opened, cancel, session};
use crate::stream::{TlsStream, Traffic};
use crate::upstream::{ConnectError, ConnectErrorKind, Connected, Leg, Peer, ServerId, Upstream};
use crate::worker::{Entered, Service, Shared};

/// Serves one connection. Without a `visit`, its limits are asked when it is known whose connection it is.
///
/// In parts, each of which is in a box that is gone when the part is over: a connection takes what it needs at the time. The
/// futures are made by functions that are not `async` themselves, since those keep what they are called with twice.
pub(crate) fn serve(
    connection: Accepted,
    visit: Option<Visit>,
    entered: Entered,
    shared: Rc<Shared>,
    mut shutdown: Shutdown,
) -> impl Future<Output = ()> {
    let accepted = Instant::now();
    let times = Times { accepted, until: accepted + shared.live.config.limits.handshake_timeout };
    let counted = (shared.common.metrics.connection(), entered);
    let begun = Box::pin(begin(connection, visit, times, shared.clone(), shutdown.clone()));
    async move {
        let Some(Begun { socket, received, arrival, _visit }) = begun.await else { return };
        let negotiated = Box::pin(negotiate(socket, received, &arrival, times, &shared, &mut shutdown)).await;
        if let Some(negotiated) = negotiated {
            Box::pin(pass_on(negotiated, arrival, times, &shared, shutdown)).await;
        }
        drop(counted);
    }
}

/// A connection whose handshake may begin.
struct Begun {
    socket: TcpStream,
    /// What has been read of its handshake already.
    received: Vec<u8>,
    arrival: Box<Arrival>,
    /// Its place among those of its address and network, as long as it is open, where these are limited.
    _visit: Option<Box<Visit>>,
}

/// Finds out whose connection it is, and waits until its handshake may begin. Where it may not, all is done and told.
async fn begin(
    connection: Accepted,
    visit: Option<Visit>,
    Times { accepted, until }: Times,
    shared: Rc<Shared>,
    mut shutdown: Shutdown,
) -> Option<Begun> {
    let Accepted { socket, peer, local } = connection;
    let (common, live) = (&shared.common, &shared.live);
    let limits = &live.config.limits;
    let mut arrival = Box::new(Arrival::new(peer, local));
    if shared.expects_header(peer.ip()) {
        let read = tokio::select! {
            biased;
            read = timeout_at(until, Box::pin(arrival.read_header(&socket))) => read,
            () = shutdown.closing() => return None,
        };
        match read.unwrap_or(Err(proxy_protocol::Refusal::Late(limits.handshake_timeout))) {
            Ok(true) => {}
            Ok(false) => {
                common.metrics.silent_connection();
                return None;
            }
            Err(refusal) => {
                let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
                refuse(&shared, &arrival, None, None, Failure::ProxyHeader(refusal), accepted.elapsed());
                return None;
            }
        }
    }
    let client = arrival.client;
    let refused = |refused: Refused, socket: TcpStream| {
        refused.reset(socket);
        None
    };
    // Also where the one that it has is for the load balancer, by the configuration before.
    let mut visit = match visit.filter(|_| arrival.peer.is_none()) {
        Some(visit) => visit,
        None => match common.gate.visit(client.ip()) {
            Ok(visit) => visit,
            Err(why) => return refused(why, socket),
        },
    };
    if visit.waits() {
        let admitted = tokio::select! {
            biased;
            admitted = Box::pin(visit.admitted(&common.gate, client.ip(), until)) => admitted,
            () = shutdown.closing() => return None,
        };
        if let Err(why) = admitted {
            return refused(why, socket);
        }
    }
    let begun = tokio::select! {
        biased;
        begun = timeout_at(until, turn(&socket, !arrival.received.is_empty(), &common.gate, until)) => begun,
        () = shutdown.closing() => return None,
    };
    match begun {
        Ok(Ok(())) => {
            let received = std::mem::take(&mut arrival.received);
            Some(Begun { socket, received, arrival, _visit: visit.is_held().then(|| Box::new(visit)) })
        }
        Ok(Err(why)) => refused(why, socket),
        Err(_) => {
            let starttls = live.config.server.starttls.map(starttls::Starttls::name);
            let late = Failure::Timeout(limits.handshake_timeout);
            refuse(&shared, &arrival, starttls, None, late, accepted.elapsed());
            None
        }
    }
}

/// When a connection came, and when its handshake has to be complete.
#[derive(Clone, Copy)]
struct Times {
    accepted: Instant,
    until: Instant,
}

/// A connection whose handshake is complete.
struct Negotiated<'a> {
    established: Established,
    /// What the client offered, where a log will tell.
    offered: Option<Box<Offered>>,
    /// The virtual host, by its index.
    host: usize,
    /// The certificate that was shown.
    shown: Option<&'a Credential>,
    alpn: Alpn,
    /// What came before the handshake, in protocols that begin in plain text.
    began: Option<Beginning>,
    starttls: Option<&'static str>,
    /// How long it took, from being accepted.
    handshake: Duration,
}

/// Does the handshake. Where there is nothing to be passed on, all is done and told.
async fn negotiate<'a>(
    socket: TcpStream,
    received: Vec<u8>,
    arrival: &Arrival,
    Times { accepted, until }: Times,
    shared: &'a Shared,
    shutdown: &mut Shutdown,
) -> Option<Box<Negotiated<'a>>> {
    let (common, live) = (&shared.common, &shared.live);
    let client = arrival.client;
    let reached = Cell::new(0);
    let (tried, offered) = (Cell::new(None), Cell::new(None));
    let (shown, began) = (Cell::new(None), Cell::new(None));
    let alpn = Cell::new(Alpn::default());
    let decide = |offer: &Offer| {
        shared.metrics.offer(offer);
        offered.set(Some(Box::new(Offered::new(offer))));
        if !live.hosts.names().is_empty() {
            alpn.set(offer.alpn.clone());
        }
        let decision = live.hosts.decide(offer, Some(client.ip()), &reached);
        tried.set(Trial::of(live.hosts.host(reached.get()), offer, client.ip()));
        shown.set(Some(decision.credential));
        decision
    };
    let handshake = async {
        let socket = Socket::from(socket);
        let (socket, received) = match live.config.server.starttls {
            None => (socket, received),
            Some(protocol) => match Box::pin(starttls::open(socket, received, protocol)).await? {
                Opened::Cancel { socket, request } => return Ok(Came::Cancel(socket, request)),
                Opened::Tls { socket, received, beginning } => {
                    common.metrics.starttls(beginning);
                    began.set(Some(beginning));
                    (socket, received)
                }
            },
        };
        let outcome = handshake::accept(socket, received, decide, &common.signing).await;
        starttls::conclude(began.get(), outcome).await.map(Came::Handshake)
    };
    let outcome = tokio::select! {
        biased;
        outcome = timeout_at(until, handshake) => {
            outcome.unwrap_or_else(|_| Err(Failure::Timeout(live.config.limits.handshake_timeout)))
        }
        () = shutdown.closing() => Err(Failure::Stopped),
    };
    let offered = offered.take();
    let starttls = live.config.server.starttls.map(|protocol| began.get().map_or(protocol.name(), Beginning::name));
    let established = match outcome {
        Ok(Came::Handshake(established)) => established,
        Ok(Came::Cancel(socket, request)) => {
            let passing = cancel::pass_on(&request, false, client, &common.sessions, &common.metrics);
            tokio::select! {
                biased;
                // Closing the socket tells the client that the server has looked at it.
                _ = Box::pin(passing) => {}
                () = shutdown.closing() => {}
            }
            drop(socket);
            return None;
        }
        Err(failure) => {
            refuse(shared, arrival, starttls, offered.as_deref(), failure, accepted.elapsed());
            return None;
        }
    };
    let handshake = accepted.elapsed();
    shared.metrics.handshake(&established.facts, client.ip(), handshake);
    if let Some(trial) = tried.take() {
        trial.conclude(live.hosts.host(reached.get()), &established.facts, client, &common.metrics);
    }
    Some(Box::new(Negotiated {
        established,
        // Kept only where somebody will read it.
        offered: offered.filter(|_| access::is_on()),
        host: reached.get(),
        shown: shown.get(),
        alpn: alpn.take(),
        began: began.get(),
        starttls,
        handshake,
    }))
}

/// Passes on what a client sends and gets, to the end.
async fn pass_on(
    negotiated: Box<Negotiated<'_>>,
    mut arrival: Box<Arrival>,
    Times { accepted, until }: Times,
    shared: &Rc<Shared>,
    mut shutdown: Shutdown,
) {
    let Negotiated { established, offered, host, shown, alpn, began, starttls, handshake } = *negotiated;
    let Established { stream, facts } = established;
    let (common, live, client) = (&shared.common, &shared.live, arrival.client);
    let facts = Rc::new(facts);
    let life = Life::of(live.config.limits.connection_timeout, live.config.server.drain_timeout, accepted);
    let name = live.names.label(facts.server_name.as_deref());
    let stream = stream.counted(shared.metrics.tally(facts.post_quantum(), name));
    let End { reason, limit, traffic, upstream, leg, requests } = match &shared.services[host] {
        Service::Tcp(upstream) => {
            if arrival.unique_id.is_none() && upstream.proxy_protocol() == Some(Version::V2) {
                arrival.unique_id = UniqueId::fresh().ok();
            }
            let told = Told {
                arrival: &arrival,
                facts: &facts,
                certificate: shown,
                client_cert: upstream.wants_client_cert(),
            };
            match upstream.proxy_protocol().map_or(Ok(Vec::new()), |version| told.header(version)) {
                Err(too_long) => Box::pin(not_passed_on(upstream, stream, &too_long)).await,
                Ok(header) if began.is_some() => {
                    let session = session::serve(upstream, stream, client, &header, until, life, shared, &mut shutdown);
                    Box::pin(session).await
                }
                Ok(header) => Box::pin(relay_to(upstream, stream, client, &header, life, shared, &mut shutdown)).await,
            }
        }
        Service::Http(service) => {
            let traffic = stream.traffic();
            let connection = http::Connection {
                facts: facts.clone(),
                client,
                local: arrival.local,
                names: live.hosts.names().clone(),
                host,
                alpn,
                life,
            };
            let end = Box::pin(http::serve(stream.lingering(), connection, service.clone(), shutdown)).await;
            let (reason, limit, traffic) = (end.reason(), end.limit(), traffic.get());
            let http::End { upstream, leg, requests, .. } = end;
            End { reason, limit, traffic, upstream, leg, requests: Some(requests) }
        }
    };
    if let Some(limit) = limit {
        common.metrics.limit_hit(limit);
    }
    if let Some(offered) = &offered {
        let (facts, duration) = (&*facts, accepted.elapsed());
        let Arrival { peer, unique_id, .. } = &*arrival;
        let (peer, unique_id) = (*peer, unique_id.as_ref());
        let ended = access::Ended {
            client,
            peer,
            unique_id,
            facts,
            offered,
            starttls,
            upstream,
            leg,
            requests,
            traffic,
            handshake,
            duration,
            reason,
        };
        ended.log();
    }
}

/// What a client came for.
enum Came {
    Handshake(Established),
    /// To cancel a query, without TLS.
    Cancel(Socket, CancelRequest),
}

/// How a connection ended whose handshake was completed.
pub(crate) struct End {
    pub(crate) reason: &'static str,
    /// The limit that ended it.
    pub(crate) limit: Option<&'static str>,
    pub(crate) traffic: Traffic,
    /// The server behind that it was passed on to.
    pub(crate) upstream: Option<Peer>,
    /// What was negotiated with it, over TLS.
    pub(crate) leg: Option<Leg>,
    /// In HTTP mode.
    pub(crate) requests: Option<u64>,
}

/// Waits until there is a handshake to be done and it may begin.
async fn turn(socket: &TcpStream, has_begun: bool, gate: &Gate, until: Instant) -> Result<(), Refused> {
    if !has_begun {
        // A socket that failed is told by the first read.
        let _ = socket.readable().await;
    }
    if !gate.has_turns() {
        return Ok(());
    }
    // Who has nothing to say, as a TCP probe, takes nobody's turn.
    if !has_begun && matches!(socket.peek(&mut [0]).await, Ok(0) | Err(_)) {
        return Ok(());
    }
    Box::pin(gate.turn(until)).await
}

async fn relay_to(
    upstream: &Upstream,
    stream: TlsStream,
    client: SocketAddr,
    header: &[u8],
    life: Option<Life>,
    shared: &Shared,
    shutdown: &mut Shutdown,
) -> End {
    // As in HTTP mode, connecting is a part of it.
    let span = Span::begin(upstream, life);
    match Box::pin(upstream.connect(client.ip(), header)).await {
        Ok(Connected { link, server, busy: _busy }) => {
            upstream.requested(server);
            let _open = upstream.opened(server);
            let (peer, leg) = (upstream.peer(server, &link), link.leg());
            let idle = shared.live.config.limits.idle_timeout.min(upstream.idle_timeout());
            let (end, traffic) = relay::relay(stream, link, idle, span.life, shutdown).await;
            let (reason, limit) = span.conclude(upstream, server, &end);
            End { reason, limit, traffic, upstream: peer, leg, requests: None }
        }
        // It is in the log already, with all others of this second.
        Err(error) => given_up(stream, unreached(&error)).await,
    }
}

/// Why a connection ends that no server took.
pub(crate) fn unreached(error: &ConnectError) -> &'static str {
    match error.kind() {
        ConnectErrorKind::Loop(_) => "upstream_loop",
        ConnectErrorKind::NoneUp(_) => "upstream_down",
        _ => "upstream_unreachable",
    }
}

/// A connection whose PROXY header can't be written.
async fn not_passed_on(upstream: &Upstream, stream: TlsStream, why: &TooLong) -> End {
    const WHAT: &str = "the connection is not passed on";
    if repeats::admit(WHAT, upstream.to_string()) {
        warn!(upstream = %upstream, "{WHAT}: {why}; its client's certificate is in it by upstream.client_cert");
    }
    given_up(stream, "proxy_header_too_long").await
}

async fn given_up(stream: TlsStream, reason: &'static str) -> End {
    let traffic = stream.traffic();
    stream.close().await;
    End { reason, limit: None, traffic: traffic.get(), upstream: None, leg: None, requests: None }
}

/// How long a connection in TCP mode may go on: as long as any, or as long as its upstream allows, whichever ends first.
pub(crate) struct Span {
    pub(crate) life: Option<Life>,
    /// Whether it is the upstream's.
    total: bool,
}

impl Span {
    pub(crate) fn begin(upstream: &Upstream, life: Option<Life>) -> Self {
        let total = upstream.total_timeout().map(|total| Instant::now() + total);
        match total.filter(|total| life.is_none_or(|life| *total < life.end)) {
            Some(end) => Self { life: Some(Life { end, grace: Duration::ZERO }), total: true },
            None => Self { life, total: false },
        }
    }

    /// Counts what a server failed whose connection was relayed. The reason for which it ended, and the limit of the
    /// configuration that ended it.
    pub(crate) fn conclude(
        &self,
        upstream: &Upstream,
        server: ServerId,
        end: &relay::End,
    ) -> (&'static str, Option<&'static str>) {
        /// Also the reason in metrics.
        const TOTAL: &str = "total_timeout";
        match end {
            relay::End::Expired if self.total => {
                upstream.count_error(server, TOTAL);
                return (TOTAL, None);
            }
            relay::End::Upstream(_) => upstream.count_error(server, "broke_off"),
            relay::End::UpstreamTruncated => upstream.count_error(server, "truncated"),
            // It may be the answer to the handshake: a server refuses a client's certificate when that is over.
            relay::End::UpstreamTls(error) => upstream.failed_tls(server, error, "a connection"),
            _ => {}
        }
        (end.reason(), end.limit())
    }
}

fn refuse(
    shared: &Shared,
    arrival: &Arrival,
    starttls: Option<&'static str>,
    offered: Option<&Offered>,
    failure: Failure,
    duration: Duration,
) {
    let Arrival { client, peer, .. } = *arrival;
    let metrics = &shared.common.metrics;
    let reason = failure.reason();
    let smuggled = matches!(failure, Failure::Starttls(starttls::Refusal::Smuggled(_)));
    match failure {
        Failure::Silent => return metrics.silent_connection(),
        // Nothing came of it, and nobody is to blame.
        Failure::Stopped if offered.is_none() => return,
        Failure::Stopped => {}
        Failure::Timeout(_) => {
            metrics.handshake_failure(reason);
            metrics.limit_hit("handshake_timeout");
        }
        Failure::ProxyHeader(refusal) => {
            metrics.handshake_failure(reason);
            metrics.proxy_header_refused(refusal.reason());
            if let proxy_protocol::Refusal::Late(_) = refusal {
                metrics.limit_hit("handshake_timeout");
            }
        }
        _ => metrics.handshake_failure(reason),
    }
    let error = Error::from(failure);
    let message = error.message();
    let (level, what) = match error.fault() {
        // Ours to mend.
        Fault::Internal => (Level::ERROR, "handshake failed"),
        fault if smuggled || matches!(fault, Fault::Policy | Fault::Verification) => {
            audit::refused(client, offered.and_then(Offered::server_name), reason, message);
            (Level::WARN, "handshake refused")
        }
        // The load balancer and this server have to agree, and somebody who is neither may be at work.
        _ if reason == "proxy_header" => (Level::WARN, "PROXY header refused"),
        Fault::Connection if reason == "closed" => (Level::DEBUG, "handshake not completed"),
        _ => (Level::INFO, "handshake not completed"),
    };
    access::Failed { client, peer, starttls, offered, what, level, reason, message, duration }.log();
}
