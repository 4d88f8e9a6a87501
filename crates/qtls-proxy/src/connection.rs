//! One client connection, from being accepted to its end.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use qtls_core::client_hello::Offer;
use qtls_core::{Error, Fault};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::handshake::{self, Established, Failure};
use crate::http::{self, Observer};
use crate::relay;
use crate::shutdown::Shutdown;
use crate::stream::{TlsStream, Traffic};
use crate::upstream::Upstream;
use crate::worker::{Service, Shared};

/// Serves one connection.
pub(crate) async fn serve(socket: TcpStream, client: SocketAddr, shared: Rc<Shared>, mut shutdown: Shutdown) {
    let accepted = Instant::now();
    let common = &shared.common;
    let _open = common.metrics.connection();
    // Answers are written whole: waiting for more would only delay them.
    let _ = socket.set_nodelay(true);
    let local = socket.local_addr().unwrap_or(common.address);
    let deadline = common.limits.handshake_timeout;
    let reached = Cell::new(0);
    let decide = |offer: &Offer| common.hosts.decide(offer, Some(client.ip()), &reached);
    let handshake = async {
        // A silent connection takes no more than its socket and a timer. What comes after is in boxes, each of which is
        // gone when its part is over. A socket that failed is told by the first read.
        let _ = socket.readable().await;
        Box::pin(handshake::accept(socket, decide, &common.signing)).await
    };
    let outcome = tokio::select! {
        biased;
        outcome = timeout(deadline, handshake) => outcome.unwrap_or(Err(Failure::Timeout(deadline))),
        () = shutdown.closing() => return,
    };
    let Established { stream, facts } = match outcome {
        Ok(established) => established,
        Err(failure) => return refuse(&shared, client, failure),
    };
    common.metrics.handshake(&facts, accepted.elapsed());
    debug!(
        client = %client,
        group = facts.group_name(),
        scheme = facts.scheme_name(),
        suite = facts.suite_name(),
        resumed = facts.resumed,
        hrr = facts.hello_retry_request,
        certificate = facts.certificate.as_deref().unwrap_or("none"),
        certificate_reason = facts.reason.as_deref().unwrap_or("none"),
        server_name = facts.server_name.as_deref().unwrap_or("none"),
        alpn = facts.alpn_name().as_deref().unwrap_or("none"),
        client_certificate = !facts.peer_chain.is_empty(),
        "handshake complete"
    );
    let name = common.names.label(facts.server_name.as_deref());
    let post_quantum = facts.post_quantum();
    let (reason, traffic) = match &shared.services[reached.get()] {
        Service::Tcp(upstream) => Box::pin(relay_to(upstream, stream, &shared, &mut shutdown)).await,
        Service::Http(service) => {
            let traffic = stream.traffic();
            let connection = http::Connection {
                facts: Rc::new(facts),
                client,
                local,
                names: common.hosts.names().clone(),
                host: reached.get(),
            };
            let end = Box::pin(http::serve(stream.lingering(), connection, service.clone(), shutdown)).await;
            (end.reason(), traffic.get())
        }
    };
    common.metrics.traffic(traffic, post_quantum, name);
    debug!(
        client = %client,
        received = traffic.received,
        sent = traffic.sent,
        milliseconds = accepted.elapsed().as_millis(),
        reason,
        "connection ended"
    );
}

async fn relay_to(
    upstream: &Upstream,
    stream: TlsStream,
    shared: &Shared,
    shutdown: &mut Shutdown,
) -> (&'static str, Traffic) {
    let common = &shared.common;
    match upstream.connect().await {
        Ok(server) => {
            let idle = common.limits.idle_timeout.min(upstream.idle_timeout());
            let (end, traffic) = relay::relay(stream, server, idle, shutdown).await;
            (end.reason(), traffic)
        }
        // It is in the log already, with all others of this second.
        Err(error) => {
            common.metrics.upstream_error(error.reason());
            let traffic = stream.traffic();
            stream.close().await;
            ("upstream_unreachable", traffic.get())
        }
    }
}

fn refuse(shared: &Shared, client: SocketAddr, failure: Failure) {
    let metrics = &shared.common.metrics;
    if matches!(failure, Failure::Silent) {
        metrics.silent_connection();
        return;
    }
    let reason = failure.reason();
    metrics.handshake_failure(reason);
    let hello = match &failure {
        Failure::Tls { offer, .. } => offer.as_deref(),
        _ => None,
    };
    let server_name = hello.and_then(|offer| offer.server_name.clone()).unwrap_or_else(|| "none".to_owned());
    let error = Error::from(failure);
    match error.fault() {
        // Ours to mend.
        Fault::Internal => {
            tracing::error!(client = %client, reason, server_name, "handshake failed: {}", error.message());
        }
        Fault::Policy | Fault::Verification => {
            warn!(client = %client, reason, server_name, "handshake refused: {}", error.message());
        }
        Fault::Connection if reason == "closed" => {
            debug!(client = %client, reason, "handshake not completed: {}", error.message());
        }
        _ => info!(client = %client, reason, server_name, "handshake not completed: {}", error.message()),
    }
}
