//! What a TLS server sends. It is shown, and not verified: that is its point for a server that others refuse.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use qtls_core::endpoint::{ServerTrust, client_config};
use qtls_core::policy::{Group, Named, Policy};
use qtls_core::{Error, Fault, Result};
use qtls_pki::inspect::{Report, inspect_chain};
use qtls_proxy::handshake::connect;
use qtls_proxy::socket::Socket;
use qtls_proxy::starttls::{self, Starttls};
use rustls::pki_types::ServerName;
use serde::Serialize;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::time::timeout;

/// What was negotiated.
#[derive(Serialize)]
pub(super) struct Connection {
    pub(super) address: String,
    pub(super) group: String,
    pub(super) post_quantum: bool,
    pub(super) suite: &'static str,
    pub(super) scheme: String,
}

/// Longer than any server takes that is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// `HOST:PORT`, unless it is a file.
pub(super) fn address(target: &str) -> Option<(String, u16)> {
    if target == "-" || Path::new(target).exists() {
        return None;
    }
    let (host, port) = target.rsplit_once(':')?;
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    let plausible = !bare.is_empty() && !bare.contains('/') && (bare == host) != bare.contains(':');
    plausible.then(|| port.parse().ok().map(|port| (bare.to_owned(), port))).flatten()
}

/// Makes one handshake, and closes.
pub(super) fn look(host: &str, port: u16, starttls: Option<Starttls>, now: SystemTime) -> Result<(Connection, Report)> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        Error::configuration(format!("`{}` is no host name and no IP address", host.escape_debug()))
            .hint("give a host and a port, such as server.example.com:8443, or a file")
    })?;
    // Everything that there is, so that it is the server's choice that is shown.
    let mut policy = Policy::default();
    policy.groups.extend(Group::ALL.iter().filter(|group| !policy.groups.contains(group)).copied().collect::<Vec<_>>());
    let alpn = starttls.map(|protocol| protocol.alpn().to_vec()).into_iter().collect();
    let config = client_config(&Arc::new(policy), ServerTrust::DangerousAnyone, None, true, alpn)?;
    let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let unreachable = |why: String| {
        Error::new(Fault::Connection, format!("can't reach {address}: {why}"))
            .hint("is the server running, and is this its port?")
    };
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal(format!("no runtime: {error}")))?;
    let facts = runtime.block_on(async {
        let late = |_| unreachable(format!("no answer within {} s", PATIENCE.as_secs()));
        let socket = timeout(PATIENCE, TcpStream::connect((host, port)))
            .await
            .map_err(late)?
            .map_err(|error| unreachable(error.to_string()))?;
        let handshake = async {
            let mut socket = Socket::from(socket);
            if let Some(protocol) = starttls {
                starttls::ask(&mut socket, protocol).await?;
            }
            connect(socket, config, name).await
        };
        let established = timeout(PATIENCE, handshake).await.map_err(late)?;
        established.map(|established| established.facts).map_err(Error::from)
    })?;
    let connection = Connection {
        address: address.clone(),
        group: facts.group_name(),
        post_quantum: facts.post_quantum(),
        suite: facts.suite_name(),
        scheme: facts.scheme_name(),
    };
    Ok((connection, inspect_chain(&facts.peer_chain, host, now)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_from_files() {
        assert_eq!(address("a.example:443"), Some(("a.example".to_owned(), 443)));
        assert_eq!(address("[::1]:8443"), Some(("::1".to_owned(), 8443)));
        for file in ["-", "cert.pem", "::1", "a/b:443", ":443", "a.example:https", "a.example:70000", "[::1]", "[x]:1"]
        {
            assert_eq!(address(file), None, "{file}");
        }
    }
}
