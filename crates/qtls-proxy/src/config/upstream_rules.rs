//! What no single key of an `upstream` can tell: keys without effect beside the values of others.

use qtls_core::error::Result;

use super::Origins;
use super::health_check::HealthCheckKind;
use super::server::{ServerConfig, VirtualHost};
use super::upstream::{Upstream, UpstreamAddress, UpstreamProtocol};

/// Checks every `upstream` of the configuration.
pub(super) fn check(config: &ServerConfig, origins: &Origins) -> Result<()> {
    let hosts = config.virtual_hosts.iter().enumerate();
    let hosts = hosts.map(|(index, host)| (format!("virtual_hosts[{index}].upstream"), &host.upstream));
    for (section, upstream) in std::iter::once(("upstream".to_owned(), &config.upstream)).chain(hosts) {
        if let Some(upstream) = upstream {
            check_health(upstream, &section, origins)?;
            check_resolver(upstream, &section, origins)?;
        }
    }
    check_alpn(config, origins)
}

/// HTTP is spoken in two versions; anything else would be answered in one that nobody agreed on.
fn check_alpn(config: &ServerConfig, origins: &Origins) -> Result<()> {
    for (index, VirtualHost { alpn, upstream, .. }) in config.virtual_hosts.iter().enumerate() {
        let in_tcp_mode = upstream.as_ref().is_some_and(|upstream| upstream.protocol == UpstreamProtocol::Tcp);
        let other = alpn.iter().position(|protocol| !in_tcp_mode && !matches!(protocol.as_str(), "h2" | "http/1.1"));
        if let Some(other) = other {
            let protocol = &alpn[other];
            return Err(origins
                .error(
                    &format!("virtual_hosts[{index}].alpn[{other}]"),
                    format!("\"{protocol}\" is not spoken here: this host speaks HTTP"),
                )
                .hint("write \"h2\" or \"http/1.1\", or give the host an `upstream` with the `protocol` \"tcp\""));
        }
    }
    Ok(())
}

fn check_health(upstream: &Upstream, section: &str, origins: &Origins) -> Result<()> {
    let Some(health) = &upstream.health else { return Ok(()) };
    let host = format!("{section}.health.host");
    if health.kind == HealthCheckKind::Tls && upstream.tls.is_some() && origins.is_set(&host) {
        return Err(origins
            .error(&host, "`host` has no effect on a check of the type \"tls\" where there is `upstream.tls`: it asks as work does")
            .hint("remove this key; the name that is asked for is `upstream.tls.server_name`"));
    }
    let (kind, idle): (_, &[&str]) = match health.kind {
        HealthCheckKind::Tcp => ("tcp", &["path", "status", "host"]),
        HealthCheckKind::Tls => ("tls", &["path", "status"]),
        HealthCheckKind::Http => return Ok(()),
    };
    match idle.iter().map(|name| (name, format!("{section}.health.{name}"))).find(|(_, key)| origins.is_set(key)) {
        Some((name, key)) => Err(origins
            .error(&key, format!("`{name}` has no effect on a check of the type \"{kind}\""))
            .hint("set `type` to \"http\", or remove this key")),
        None => Ok(()),
    }
}

fn check_resolver(upstream: &Upstream, section: &str, origins: &Origins) -> Result<()> {
    let is_name = |address: &UpstreamAddress| match address {
        UpstreamAddress::Tcp { host, .. } => host.parse::<std::net::IpAddr>().is_err(),
        UpstreamAddress::Unix(_) => false,
    };
    let key = format!("{section}.resolver");
    if upstream.resolver.is_some() && !upstream.servers.iter().any(|server| is_name(&server.address)) {
        return Err(origins
            .error(&key, "`resolver` has no effect: no server is known by a name")
            .hint("remove this key, or write a name in place of an address"));
    }
    Ok(())
}
