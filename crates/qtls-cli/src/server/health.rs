//! `--health` and `--ready`: asks the server of the same configuration how it is, for containers without a shell.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use qtls_core::endpoint::{ServerTrust, client_config};
use qtls_core::{Error, Fault, Result};
use qtls_proxy::config::{Loaded, ServerConfig};
use qtls_proxy::handshake;
use qtls_proxy::observe::health::{HEALTH, READY};
use qtls_proxy::plan;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::ui;

/// Orchestrators give a check some seconds, and take its silence for a failure.
const PATIENCE: Duration = Duration::from_secs(3);

/// An answer is a line.
const LONGEST: usize = 4096;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    /// Whether the process works.
    Health,
    /// Whether it wants new clients.
    Ready,
}

/// Asks, and prints one line. Where the metrics are off, a handshake is the answer to both questions.
///
/// # Errors
/// The answer is no, or there is none.
pub(super) fn ask(question: Question, loaded: &Loaded<ServerConfig>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::internal(error.to_string()))?;
    let answer = runtime.block_on(async {
        match &loaded.value.metrics {
            Some(metrics) => {
                let path = if question == Question::Ready { READY } else { HEALTH };
                within(http(reachable(metrics.address, metrics.port), path)).await
            }
            None => {
                let server = &loaded.value.server;
                within(tls(reachable(server.listen_address, server.listen_port), loaded)).await
            }
        }
    })?;
    ui::print(&mut io::stdout().lock(), &format!("{answer}\n"))
}

async fn within(asked: impl Future<Output = Result<String>>) -> Result<String> {
    let late = |_| Err(unwell(format!("no answer within {} s", PATIENCE.as_secs())));
    timeout(PATIENCE, asked).await.unwrap_or_else(late)
}

async fn http(address: SocketAddr, path: &str) -> Result<String> {
    let shown = format!("http://{address}{path}");
    let failed = |error: &dyn std::fmt::Display| unwell(format!("{shown} doesn't answer: {error}"));
    let socket = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|error| failed(&error))?;
    let connection = tokio::spawn(connection);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = path.parse().map_err(|error| failed(&error))?;
    let host = HeaderValue::from_str(&address.to_string()).map_err(|error| failed(&error))?;
    request.headers_mut().insert(HOST, host);
    let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LONGEST).collect().await;
    let body = body.map_err(|error| failed(&error))?.to_bytes();
    connection.abort();
    let text = String::from_utf8_lossy(&body);
    let line = format!("{} ({shown})", text.lines().next().unwrap_or_default());
    match status {
        StatusCode::OK => Ok(line),
        StatusCode::SERVICE_UNAVAILABLE => Err(unwell(line)),
        other => Err(unwell(format!("{shown} answers {other}: is this the server's metrics port?"))),
    }
}

/// Without metrics, there is nothing that could tell more than a handshake does.
async fn tls(address: SocketAddr, loaded: &Loaded<ServerConfig>) -> Result<String> {
    let failed = |error: &dyn std::fmt::Display| unwell(format!("no handshake with {address}: {error}"));
    let policy = Arc::new(plan::policy(&loaded.value, &loaded.origins)?);
    // Whoever serves this port of this host is asked how it is, and told nothing.
    let config = client_config(&policy, ServerTrust::DangerousAnyone, None, false, Vec::new())?;
    let name = ServerName::try_from("localhost").map_err(|error| failed(&error))?;
    let socket = TcpStream::connect(address).await.map_err(|error| failed(&error))?;
    let established = handshake::connect(socket, config, name).await;
    let established = established.map_err(|failure| failed(&Error::from(failure).message()))?;
    let group = established.facts.group_name();
    established.stream.close().await;
    Ok(format!("a handshake with {address} succeeds, {group} (the metrics are off: there is no {HEALTH} to ask)"))
}

/// Where the server is reached that listens on this address.
fn reachable(address: IpAddr, port: u16) -> SocketAddr {
    let address = match address {
        IpAddr::V4(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(address) if address.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    };
    SocketAddr::new(address, port)
}

fn unwell(message: String) -> Error {
    Error::new(Fault::Internal, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_reached_over_loopback() {
        let reached = |address: &str| reachable(address.parse().unwrap(), 9091).to_string();
        assert_eq!(reached("0.0.0.0"), "127.0.0.1:9091");
        assert_eq!(reached("::"), "[::1]:9091");
        assert_eq!(reached("192.0.2.1"), "192.0.2.1:9091");
    }
}
