//! Active health checks: each server is asked in its turn, by one task for the process.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use qtls_core::endpoint::{ServerTrust, client_config};
use qtls_core::policy::Policy;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use super::tls::Spoken;
use super::{Link, Server, ServerId, Upstream};
use crate::config::{HealthCheck, HealthCheckKind, UpstreamAddress};
use crate::proxy_protocol;
use crate::socket::Socket;

/// Checks one server, within the time that a check may take.
///
/// # Errors
/// Why it failed, in words.
pub(super) async fn check(upstream: &Upstream, id: ServerId, check: &HealthCheck) -> Result<(), String> {
    let late = |_| format!("nothing within {:?}", check.timeout);
    timeout(check.timeout, run(upstream, id, check)).await.map_err(late)?
}

async fn run(upstream: &Upstream, id: ServerId, check: &HealthCheck) -> Result<(), String> {
    let server = upstream.server(id);
    let mut socket = upstream.dial(server).await.map_err(|kind| kind.to_string())?;
    if let Some(version) = upstream.proxy_protocol() {
        let told = socket.write_all(&proxy_protocol::own_header(version, &socket)).await;
        told.map_err(|error| format!("it didn't take the PROXY header: {error}"))?;
    }
    match check.kind {
        HealthCheckKind::Tcp => Ok(()),
        HealthCheckKind::Http => {
            let link = secured(upstream, id, socket, check, Spoken::Http1).await?;
            ask(link, server, check).await
        }
        HealthCheckKind::Tls if upstream.tls.is_some() => {
            let mut link = secured(upstream, id, socket, check, Spoken::AsConfigured).await?;
            let _ = link.shutdown().await;
            Ok(())
        }
        HealthCheckKind::Tls => shake_hands(socket, server, check).await,
    }
}

/// As the server is connected to for work.
async fn secured(
    upstream: &Upstream,
    id: ServerId,
    socket: Socket,
    check: &HealthCheck,
    spoken: Spoken,
) -> Result<Link, String> {
    let Some(tls) = &upstream.tls else { return Ok(socket.into()) };
    let deadline = Instant::now() + check.timeout;
    let handshake = tls.handshake(id.0, socket, upstream.config.starttls, spoken, deadline, check.timeout);
    handshake.await.map_err(|kind| kind.to_string())
}

async fn ask(socket: Link, server: &Server, check: &HealthCheck) -> Result<(), String> {
    let failed = |error: hyper::Error| format!("no answer to GET {}: {error}", check.path);
    let host = match (&check.host, &server.address) {
        (Some(host), _) => host.clone(),
        (None, UpstreamAddress::Tcp { .. }) => server.text.to_string(),
        (None, UpstreamAddress::Unix(_)) => "localhost".to_owned(),
    };
    let request = Request::get(&check.path)
        .header(HOST, host)
        .header(USER_AGENT, HeaderValue::from_static("qtls-server (health check)"))
        .header(CONNECTION, HeaderValue::from_static("close"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(failed)?;
    let mut connection = std::pin::pin!(connection);
    let mut response = std::pin::pin!(sender.send_request(request));
    let status = std::future::poll_fn(|cx| {
        // What drives the connection; how it ends is told by the response.
        let _ = connection.as_mut().poll(cx);
        response.as_mut().poll(cx)
    })
    .await
    .map_err(failed)?
    .status();
    if check.status.contains(status.as_u16()) {
        Ok(())
    } else {
        Err(format!("GET {} got {}, and not {}", check.path, status.as_u16(), check.status))
    }
}

/// A handshake that shows that there is a TLS server. Whom it belongs to is not asked: nothing is sent to it.
async fn shake_hands(mut socket: Socket, server: &Server, check: &HealthCheck) -> Result<(), String> {
    let failed = |error: io::Error| format!("no TLS handshake: {error}");
    let host = match (&check.host, &server.address) {
        (Some(host), _) | (None, UpstreamAddress::Tcp { host, .. }) => host.clone(),
        // No name is sent then.
        (None, UpstreamAddress::Unix(_)) => Ipv4Addr::LOCALHOST.to_string(),
    };
    let name = match host.parse::<IpAddr>() {
        Ok(address) => ServerName::IpAddress(address.into()),
        Err(_) => ServerName::try_from(host.trim_end_matches('.').to_owned())
            .map_err(|error| format!("no TLS handshake: {host} is no server name: {error}"))?,
    };
    let broken = |error: rustls::Error| failed(io::Error::other(error));
    let mut tls = ClientConnection::new(anyone()?, name).map_err(broken)?;
    let mut buffer = vec![0; 16 * 1024];
    while tls.is_handshaking() || tls.wants_write() {
        if tls.wants_write() {
            let mut records = Vec::new();
            tls.write_tls(&mut records).map_err(failed)?;
            socket.write_all(&records).await.map_err(failed)?;
            continue;
        }
        let count = socket.read(&mut buffer).await.map_err(failed)?;
        if count == 0 {
            return Err("no TLS handshake: the server closed the connection".to_owned());
        }
        let mut records = &buffer[..count];
        while !records.is_empty() {
            tls.read_tls(&mut records).map_err(failed)?;
            if let Err(error) = tls.process_new_packets() {
                let mut alert = Vec::new();
                if tls.write_tls(&mut alert).is_ok() {
                    let _ = socket.write_all(&alert).await;
                }
                return Err(broken(error));
            }
        }
    }
    tls.send_close_notify();
    let mut farewell = Vec::new();
    if tls.write_tls(&mut farewell).is_ok() {
        let _ = socket.write_all(&farewell).await;
    }
    Ok(())
}

fn anyone() -> Result<Arc<ClientConfig>, String> {
    static CONFIG: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config.clone());
    }
    let policy = Arc::new(Policy::default());
    let config = client_config(&policy, ServerTrust::DangerousAnyone, None, true, Vec::new())
        .map_err(|error| error.one_line())?;
    Ok(CONFIG.get_or_init(|| config).clone())
}
