//! One connection of a tunnel, from being accepted to its end.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use qtls_core::{Error, Fault};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::access::{Carried, Failed, Local};
use super::audit;
use super::live::Live;
use super::plan::Route;
use super::standing::Standing;
use super::worker::Worker;
use crate::config::{ListenAddress, covers};
use crate::handshake::Failure;
use crate::limits::{Life, Visit};
use crate::reach::{self, Connected, Patience};
use crate::relay::{self, End};
use crate::shutdown::Shutdown;
use crate::socket::Socket;
use crate::starttls::{self, Starttls, postgres};
use crate::stream::{TlsStream, Traffic};

/// Why a connection was not carried.
struct Refusal {
    reason: &'static str,
    error: Error,
}

/// Serves one connection.
pub(super) async fn serve(
    mut socket: Socket,
    tunnel: usize,
    mut visit: Option<Visit>,
    worker: Rc<Worker>,
    mut shutdown: Shutdown,
) {
    let accepted = Instant::now();
    let (common, live) = (&worker.common, worker.live());
    let route = &live.routes[tunnel];
    let standing = &common.standings[tunnel];
    let _open = (common.metrics.connection(), standing.meter.open());
    if let Socket::Tcp(socket) = &socket {
        // What is read in one go is written in one go: waiting for more would only delay it.
        let _ = socket.set_nodelay(true);
    }
    let local = Local::of(&socket);
    let until = accepted + live.config.client.connect_timeout;
    if let (Some(visit), Some(Local::Tcp(client))) = (&mut visit, local)
        && visit.waits()
    {
        let admitted = tokio::select! {
            biased;
            admitted = Box::pin(visit.admitted(&common.gate, client.ip(), until)) => admitted,
            () = shutdown.closing() => return,
        };
        if let Err(refused) = admitted {
            return refused.reset(socket);
        }
    }
    if common.gate.has_turns() {
        let turn = tokio::select! {
            biased;
            turn = Box::pin(common.gate.turn(until)) => turn,
            () = shutdown.closing() => return,
        };
        if let Err(refused) = turn {
            return refused.reset(socket);
        }
    }
    let retries = Cell::new(0);
    let mut heard = Vec::new();
    let reached = {
        let greeted = async {
            if let Some(protocol) = route.local {
                heard = greet(&mut socket, protocol, until).await?;
            }
            tokio::select! {
                biased;
                reached = Box::pin(reach(route, standing, &live, until, &retries)) => reached,
                error = gone(&socket) => Err(Refusal { reason: "abandoned", error }),
            }
        };
        tokio::select! {
            biased;
            reached = greeted => reached,
            () = shutdown.closing() => {
                Err(Refusal { reason: "stopped", error: Error::new(Fault::Connection, "this side stopped") })
            }
        }
    };
    let Connected { mut stream, facts, address } = match reached {
        Ok(connected) => connected,
        Err(Refusal { reason, error }) => {
            standing.meter.failure(reason);
            if !matches!(reason, "abandoned" | "local_error" | "stopped") {
                standing.failed(route, &error);
            }
            if matches!(reason, "policy" | "verification") {
                audit::refused(route, reason, error.message());
            }
            match route.local.filter(|_| !matches!(reason, "abandoned" | "local_error")) {
                Some(protocol) => complain(socket, protocol, error.message()).await,
                // Not an end in order: the program must not take it for an answer without content.
                None => socket.reset_on_close(),
            }
            let duration = accepted.elapsed();
            return Failed { route, local, retries: retries.get(), duration, reason, message: error.message() }.log();
        }
    };
    let connect = accepted.elapsed();
    standing.reached(route, &facts);
    worker.metrics.negotiated(&facts, connect);
    let limits = &live.config.limits;
    let life = Life::of(limits.connection_timeout, live.config.client.drain_timeout, accepted);
    stream = stream.counted(worker.metrics.tally(facts.post_quantum(), &route.name));
    let passed = match route.local {
        None => Traffic::default(),
        Some(protocol) => introduce(&mut stream, &mut socket, &heard, protocol, until).await,
    };
    let (end, mut traffic) = Box::pin(relay::strictly(stream, socket, limits.idle_timeout, life, &mut shutdown)).await;
    traffic.sent += passed.sent;
    traffic.received += passed.received;
    if let Some(limit) = end.limit() {
        common.metrics.limit_hit(limit);
    }
    let (retries, duration, reason) = (retries.get(), accepted.elapsed(), reason(&end));
    Carried { route, local, server: address, facts: &facts, retries, traffic, connect, duration, reason }.log();
}

/// Asks the server whether it answers, and says so where that is news.
pub(super) async fn ask(tunnel: usize, worker: &Worker) {
    let live = worker.live();
    let route = &live.routes[tunnel];
    let patience = Patience { attempt: live.config.client.connect_timeout, retries: 0, until: None };
    let standing = &worker.common.standings[tunnel];
    match reach::connect(&route.remote, patience, |socket| leads_here(socket, &live), |_| {}).await {
        Ok(connected) => {
            standing.reached(route, &connected.facts);
            connected.stream.close().await;
        }
        Err(error) => standing.failed(route, &error),
    }
}

/// Lets the local program say what it begins with, and tells it to go on without encryption if that is what it asks for.
/// Returns what the server is to hear.
async fn greet(socket: &mut Socket, protocol: Starttls, until: Instant) -> Result<Vec<u8>, Refusal> {
    let local = |error: Error| Refusal { reason: "local_error", error };
    match timeout_at(until, starttls::decline(socket, protocol)).await {
        Ok(Ok(heard)) => Ok(heard),
        Ok(Err(Failure::Silent)) => {
            Err(Refusal { reason: "abandoned", error: Error::new(Fault::Connection, "the program here said nothing") })
        }
        Ok(Err(failure)) => Err(local(failure.into())),
        Err(_) => Err(local(Error::new(Fault::Connection, "the program here said nothing for client.connect_timeout"))),
    }
}

/// Passes on what the local program began with, and the first of the server's answer, as that is for somebody without TLS.
/// Returns how much went through. Whatever goes wrong shows again as soon as the relay looks at the same sockets.
async fn introduce(
    stream: &mut TlsStream,
    socket: &mut Socket,
    heard: &[u8],
    protocol: Starttls,
    until: Instant,
) -> Traffic {
    let Starttls::Postgres = protocol;
    if stream.write_all(heard).await.is_err() || stream.flush().await.is_err() {
        return Traffic::default();
    }
    let (mut unread, mut told) = (Vec::new(), Vec::new());
    let (mut received, mut sent) = (0, heard.len() as u64);
    loop {
        let (taken, more) = postgres::for_the_plain(&unread, &mut told);
        unread.drain(..taken);
        if !more {
            break;
        }
        let mut more = [0; 1024];
        tokio::select! {
            read = stream.read_buf(&mut unread) => match read {
                Ok(count @ 1..) => received += count as u64,
                _ => break,
            },
            // Of what it began with, only the head was looked at.
            read = socket.read(&mut more) => match read {
                Ok(count @ 1..) => {
                    sent += count as u64;
                    let written = stream.write_all(&more[..count]).await;
                    if written.is_err() || stream.flush().await.is_err() {
                        break;
                    }
                }
                _ => break,
            },
            () = sleep_until(until) => break,
        }
    }
    told.append(&mut unread);
    let _ = socket.write_all(&told).await;
    Traffic { received, sent }
}

/// Tells the local program what is wrong, in its own protocol, if it listens.
async fn complain(mut socket: Socket, protocol: Starttls, message: &str) {
    const PATIENCE: Duration = Duration::from_secs(1);
    let told = async {
        let _ = socket.write_all(&protocol.complaint(message)).await;
        let _ = socket.shutdown().await;
    };
    let _ = timeout(PATIENCE, told).await;
}

async fn reach(
    route: &Route,
    standing: &Standing,
    live: &Live,
    until: Instant,
    retries: &Cell<u32>,
) -> Result<Connected, Refusal> {
    let client = &live.config.client;
    let patience = Patience { attempt: client.connect_timeout, retries: client.max_retries, until: Some(until) };
    let looped = Cell::new(false);
    let refuse = |socket: &TcpStream| {
        let error = leads_here(socket, live);
        looped.set(error.is_some());
        error
    };
    let retrying = |retry: reach::Retry<'_>| {
        standing.meter.retry();
        standing.failed(route, retry.error);
        retries.set(retry.number);
    };
    reach::connect(&route.remote, patience, refuse, retrying).await.map_err(|error| {
        let reason = if looped.get() { "loop" } else { reason_of(error.fault()) };
        Refusal { reason, error }
    })
}

/// The error for a connection that this process would accept itself.
fn leads_here(socket: &TcpStream, live: &Live) -> Option<Error> {
    let (peer, own) = (socket.peer_addr().ok()?, socket.local_addr().ok()?);
    // The same address at both ends, or a loopback one: the peer is on this host.
    if peer.ip() != own.ip() && !peer.ip().is_loopback() {
        return None;
    }
    let listens = |route: &&std::sync::Arc<Route>| match &route.listen {
        ListenAddress::Tcp(address) => address.port() == peer.port() && covers(address.ip(), peer.ip().to_canonical()),
        ListenAddress::Unix(_) => false,
    };
    let route = live.routes.iter().find(listens)?;
    let message = format!("{peer} is where the tunnel {} of this process listens: it leads in a circle", route.name);
    Some(Error::configuration(message).hint("connect to the TLS server itself"))
}

/// Waits until the local program has left, without having said anything.
///
/// What it has said waits in the socket until the server is reached; whether it has left behind that shows then.
async fn gone(socket: &Socket) -> Error {
    let closed = "the program here closed the connection before the server was reached";
    loop {
        if std::future::poll_fn(|cx| socket.poll_read_ready(cx)).await.is_err() {
            return Error::new(Fault::Connection, closed);
        }
        match socket.try_peek(&mut [0]) {
            Ok(0) => return Error::new(Fault::Connection, closed),
            Ok(_) => return std::future::pending().await,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Error::new(Fault::Connection, format!("{closed}: {error}")),
        }
    }
}

fn reason_of(fault: Fault) -> &'static str {
    match fault {
        Fault::Connection => "unreachable",
        Fault::Verification => "verification",
        Fault::Handshake => "handshake",
        Fault::Policy => "policy",
        Fault::Configuration | Fault::Certificate => "configuration",
        Fault::Internal => "internal",
    }
}

/// The end of a relay, in which the server is what a client is to a server.
fn reason(end: &End) -> &'static str {
    match end {
        End::Client(_) => "server_error",
        End::Upstream(_) => "local_error",
        end => end.reason(),
    }
}
