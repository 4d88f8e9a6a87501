//! What no single key can tell: contradictions, and defaults that depend on other keys.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use qtls_core::credentials::files;
use qtls_core::error::Result;
use qtls_core::sessions::MAX_STEPS;

use super::client::{ClientCertificates, ClientConfig};
use super::policy::Report;
use super::proxy_protocol;
use super::sections::Logging;
use super::server::{
    Metrics, ServerCertificates, ServerConfig, ServerTls, TicketKeys, VerifyClient, VirtualHost, covers,
};
use super::upstream::{Upstream, UpstreamProtocol};
use super::upstream_tls::HttpVersion;
use super::{CA_BUNDLE, Origins, SERVER_CERT, SERVER_KEY, upstream_rules};
use crate::key_log;

/// Checks the server's configuration, and fills in the defaults that depend on other keys or on the directory of
/// certificates.
pub(super) fn server(config: &mut ServerConfig, origins: &Origins, directory: &Path) -> Result<()> {
    refuse_later_subsystems(config, origins)?;
    settle_certificates(&mut config.certificates, "certificates", origins, directory)?;
    for (index, host) in config.virtual_hosts.iter_mut().enumerate() {
        let section = format!("virtual_hosts[{index}].certificates");
        settle_certificates(&mut host.certificates, &section, origins, directory)?;
    }
    check_ticket_keys(&config.tls, "tls", origins)?;
    for (index, host) in config.virtual_hosts.iter().enumerate() {
        check_ticket_keys(&host.tls, &format!("virtual_hosts[{index}].tls"), origins)?;
    }
    check_upstream(config.upstream.as_ref(), "upstream", origins)?;
    for (index, host) in config.virtual_hosts.iter().enumerate() {
        check_upstream(host.upstream.as_ref(), &format!("virtual_hosts[{index}].upstream"), origins)?;
    }
    refuse_names_twice(config, origins)?;
    refuse_lost_secrets(config, origins)?;
    refuse_empty_reports(config, origins)?;
    refuse_starttls_elsewhere(config, origins)?;
    proxy_protocol::check(config, origins)?;
    upstream_rules::check(config, origins)?;
    if !config.logging.console && config.logging.file.is_none() {
        return Err(origins
            .error("logging.console", "nothing would be logged: `console` is false and there is no `file`")
            .hint("set `logging.console` to true, or name a `logging.file`"));
    }
    refuse_shared_logs(&config.logging, origins)?;
    check_hsts(config.upstream.as_ref(), "upstream", origins)?;
    for (index, host) in config.virtual_hosts.iter().enumerate() {
        check_hsts(host.upstream.as_ref(), &format!("virtual_hosts[{index}].upstream"), origins)?;
    }
    config.metrics = config.metrics.take().filter(|metrics| metrics.enabled);
    if let Some(metrics) = &config.metrics
        && metrics.port == config.server.listen_port
    {
        let listen_address = config.server.listen_address;
        if overlap(metrics.address, listen_address) {
            let message = format!("port {} is already `server.listen_port` on the same address", metrics.port);
            return Err(origins.error("metrics.port", message).hint("choose another port: the usual one is 9091"));
        }
        if let Some(address) = metrics.dashboard_address.filter(|address| overlap(*address, listen_address)) {
            let message = format!("port {} of {address} is already `server.listen_port`", metrics.port);
            return Err(origins
                .error("metrics.dashboard_address", message)
                .hint("choose another `metrics.port` or address, or write null for no dashboard"));
        }
    }
    refuse_shared_redirect(config, origins)
}

/// The port of plain HTTP is nothing else's.
fn refuse_shared_redirect(config: &ServerConfig, origins: &Origins) -> Result<()> {
    let Some(redirect) = &config.redirect else { return Ok(()) };
    let socket = redirect.socket(&config.server);
    let tls = ("server.listen_port", SocketAddr::new(config.server.listen_address, config.server.listen_port));
    for (key, taken) in std::iter::once(tls).chain(config.metrics.iter().flat_map(Metrics::sockets)) {
        if taken.port() == socket.port() && overlap(taken.ip(), socket.ip()) {
            let message = format!("port {} is already `{key}` on the same address", socket.port());
            return Err(origins.error("redirect.port", message).hint("choose another port: the usual one is 80"));
        }
    }
    Ok(())
}

/// What browsers would not understand, or keep for longer than anybody meant.
fn check_hsts(upstream: Option<&Upstream>, section: &str, origins: &Origins) -> Result<()> {
    const YEAR: u64 = 31_536_000;
    let Some(Upstream { protocol, hsts: Some(hsts), .. }) = upstream else { return Ok(()) };
    if *protocol == UpstreamProtocol::Tcp {
        return Err(origins
            .error(&format!("{section}.hsts"), "`hsts` adds a field to HTTP responses, and TCP has none")
            .hint("set `protocol` to \"http\", or remove this key"));
    }
    if hsts.preload && !(hsts.include_subdomains && hsts.max_age.as_secs() >= YEAR) {
        return Err(origins
            .error(
                &format!("{section}.hsts.preload"),
                "the lists of browsers take no host with less than a year for all names below it",
            )
            .hint(format!("set `include_subdomains` to true and `max_age` to {YEAR} or more, or remove `preload`")));
    }
    Ok(())
}

/// Checks the client's configuration.
pub(super) fn client(config: &ClientConfig, origins: &Origins) -> Result<()> {
    refuse_shared_logs(&config.logging, origins)?;
    let verified = (config.tls.verify_peer, "tls.verify_peer", "true");
    check_client_certificates(&config.certificates, "certificates", verified, origins)
}

/// `verified` is whether servers are verified, the key that says so, and with which value they are.
fn check_client_certificates(
    certificates: &ClientCertificates,
    section: &str,
    (verified, by, value): (bool, &str, &str),
    origins: &Origins,
) -> Result<()> {
    let lonely = match (&certificates.client_cert, &certificates.client_key) {
        (Some(_), None) => Some(("client_cert", "client_key", "a certificate without its key")),
        (None, Some(_)) => Some(("client_key", "client_cert", "a key without its certificate")),
        _ => None,
    };
    if let Some((there, missing, message)) = lonely {
        let hint = format!("add `{section}.{missing}`, or remove `{section}.{there}`");
        return Err(origins.error(&format!("{section}.{there}"), message).hint(hint));
    }
    if !verified {
        for (name, is_there) in [("pins", !certificates.pins.is_empty()), ("crl", certificates.crl.is_some())] {
            if is_there {
                let message = format!("`{name}` is about the server's certificate, which `{by}` says not to verify");
                return Err(origins
                    .error(&format!("{section}.{name}"), message)
                    .hint(format!("set `{by}` to {value}, or remove this key")));
            }
        }
    }
    Ok(())
}

fn check_upstream(upstream: Option<&Upstream>, section: &str, origins: &Origins) -> Result<()> {
    let Some(upstream) = upstream else { return Ok(()) };
    let http_version = format!("{section}.http_version");
    if upstream.protocol == UpstreamProtocol::Tcp && origins.is_set(&http_version) {
        return Err(origins
            .error(&http_version, "bytes are relayed as they come, whatever HTTP is in them")
            .hint(format!("set `{section}.protocol` to \"http\", or remove this key")));
    }
    if let Some(protocol) = upstream.starttls {
        let error = |message: &str| origins.error(&format!("{section}.starttls"), message);
        if upstream.protocol == UpstreamProtocol::Http {
            return Err(error(&format!("HTTP servers don't speak {protocol}"))
                .hint(format!("set `{section}.protocol` to \"tcp\", or remove this key")));
        }
        if upstream.tls.is_none() {
            return Err(error("the servers are to be asked for TLS, and there is no `tls` for them")
                .hint(format!("add `{section}.tls`, such as {{}}, or remove this key")));
        }
    }
    let Some(tls) = &upstream.tls else {
        if upstream.http_version == HttpVersion::Auto {
            return Err(origins
                .error(&http_version, "without TLS there is no ALPN by which a server could choose")
                .hint(format!("set \"1.1\" or \"2\", or give the upstream `{section}.tls`")));
        }
        return Ok(());
    };
    let section = format!("{section}.tls");
    let any = format!("{section}.dangerous_accept_any_certificate");
    let verified = (!tls.dangerous_accept_any_certificate, any.as_str(), "false");
    check_client_certificates(&tls.certificates(), &section, verified, origins)
}

fn refuse_later_subsystems(config: &ServerConfig, origins: &Origins) -> Result<()> {
    if config.hsm.enabled {
        return Err(origins
            .error("hsm.enabled", "keys in an HSM are not supported in this version; they arrive with a later release")
            .hint("set `hsm.enabled` to false, and name a key file in `certificates.server_key`"));
    }
    if config.fips.enabled {
        return Err(origins
            .error("fips.enabled", "the FIPS mode is not supported in this version; it arrives with a later release")
            .hint("set `fips.enabled` to false, and leave QTLS_FIPS_MODE unset or false"));
    }
    Ok(())
}

fn settle_certificates(
    certificates: &mut ServerCertificates,
    section: &str,
    origins: &Origins,
    directory: &Path,
) -> Result<()> {
    let key = |name: &str| format!("{section}.{name}");
    if certificates.server_key_uri.is_some() {
        let uri = key("server_key_uri");
        if origins.is_set(&key("server_key")) {
            return Err(origins
                .error(&uri, "there are two keys: `server_key_uri` and `server_key`")
                .hint("remove `server_key_uri`: keys in an HSM arrive with a later release"));
        }
        return Err(origins
            .error(&uri, "keys in an HSM are not supported in this version; they arrive with a later release")
            .hint("name a key file in `certificates.server_key` instead"));
    }
    if !origins.is_set(&key("server_cert")) {
        certificates.server_cert = directory.join(SERVER_CERT);
    }
    if !origins.is_set(&key("server_key")) {
        certificates.server_key = directory.join(SERVER_KEY);
    }
    if certificates.verify_client == VerifyClient::No {
        for (name, is_there) in [("crl", certificates.crl.is_some()), ("allow", certificates.allow.is_some())] {
            if is_there {
                let message = format!("`{name}` is about client certificates, and none are asked for");
                return Err(origins
                    .error(&key(name), message)
                    .hint("set `verify_client` to true or \"optional\", or remove this key"));
            }
        }
    }
    if certificates.allow.as_ref().is_some_and(Vec::is_empty) {
        return Err(origins
            .error(&key("allow"), "the list is empty: nobody would get in")
            .hint("name at least one identity, or remove the key to let in everyone whose certificate verifies"));
    }
    if certificates.verify_client != VerifyClient::No && certificates.ca_bundle.is_none() {
        let default = directory.join(CA_BUNDLE);
        if !files::resolve(&default).is_file() {
            let message = "clients are to be verified, but there is no `ca_bundle` to verify them against";
            return Err(origins.error(&key("verify_client"), message).hint(format!(
                "name the trust anchors in `certificates.ca_bundle`, or put them at {}",
                default.display()
            )));
        }
        certificates.ca_bundle = Some(default);
    }
    Ok(())
}

/// Two writers that know nothing of each other would rotate and count one file.
fn refuse_shared_logs(logging: &Logging, origins: &Origins) -> Result<()> {
    let logs = [("file", &logging.file), ("access_file", &logging.access_file), ("audit_file", &logging.audit_file)];
    // Also where one is written with `./` in it.
    let same = |one: &Path, other: &Path| one.components().eq(other.components());
    for (index, (name, path)) in logs.iter().enumerate() {
        let Some(path) = path else { continue };
        let before =
            logs[..index].iter().find(|(_, before)| before.as_deref().is_some_and(|before| same(before, path)));
        if let Some((before, _)) = before {
            return Err(origins
                .error(&format!("logging.{name}"), format!("the same file as `logging.{before}`"))
                .hint("give each log a file of its own, or remove this key"));
        }
    }
    Ok(())
}

fn refuse_lost_secrets(config: &ServerConfig, origins: &Origins) -> Result<()> {
    if config.key_log_file.is_some() {
        return Ok(());
    }
    let hosts = config.virtual_hosts.iter().enumerate();
    let hosts = hosts.map(|(index, host)| (format!("virtual_hosts[{index}].tls.dangerous_key_log"), &host.tls));
    for (key, tls) in std::iter::once(("tls.dangerous_key_log".to_owned(), &config.tls)).chain(hosts) {
        if tls.dangerous_key_log {
            return Err(origins
                .error(
                    &key,
                    format!("the secrets of connections are to be logged, but {} isn't set", key_log::VARIABLE),
                )
                .hint("set this variable to the path of the file, or remove the key"));
        }
    }
    Ok(())
}

fn check_ticket_keys(tls: &ServerTls, section: &str, origins: &Origins) -> Result<()> {
    let Some(TicketKeys { file, secret_file, step }) = &tls.ticket_keys else { return Ok(()) };
    let key = |name: &str| format!("{section}.ticket_keys{name}");
    match (file, secret_file) {
        (None, None) => Err(origins.error(&key(""), "there are no keys: neither `file` nor `secret_file` is named").hint(
            "name a `file` that `qtls ticket-keys generate FILE` has made, or a `secret_file` that all servers have, or \
             remove `ticket_keys` to keep sessions in this process",
        )),
        (Some(_), Some(_)) => Err(origins
            .error(&key(".secret_file"), "the keys have two sources: this one and `file`")
            .hint("remove one of the two")),
        (Some(_), None) if origins.is_set(&key(".step")) => Err(origins
            .error(&key(".step"), "the keys of a `file` don't follow from the time")
            .hint("remove `step`, or name a `secret_file` instead of `file`")),
        (Some(_), None) => Ok(()),
        (None, Some(_)) => {
            let (step, timeout) = (step.as_secs(), tls.session_timeout.as_secs());
            if timeout.div_ceil(step.max(1)) <= MAX_STEPS {
                return Ok(());
            }
            let message = format!(
                "{step} s are too short: more than {MAX_STEPS} such steps lie within `session_timeout` ({timeout} s)"
            );
            let least = timeout.div_ceil(MAX_STEPS);
            Err(origins
                .error(&key(".step"), message)
                .hint(format!("choose {least} or more, on all servers the same; the usual step is 3600")))
        }
    }
}

/// A name belongs to one virtual host for each protocol.
fn refuse_names_twice(config: &ServerConfig, origins: &Origins) -> Result<()> {
    let mut seen = BTreeMap::new();
    for (host, VirtualHost { names, alpn, .. }) in config.virtual_hosts.iter().enumerate() {
        let place = format!("virtual_hosts[{host}]");
        if names.is_empty() && alpn.is_empty() {
            return Err(origins
                .error(&format!("{place}.names"), "the key is missing")
                .hint("name those that clients ask for, or, for all of them, the protocols of this host in `alpn`"));
        }
        let each = |count: usize| (0..count.max(1)).map(move |index| (count > 0).then_some(index));
        for (name, protocol) in each(names.len()).flat_map(|name| each(alpn.len()).map(move |one| (name, one))) {
            let both = (name.map(|index| &names[index]), protocol.map(|index| &alpn[index]));
            let Some(first) = seen.insert(both, host) else { continue };
            let (key, message, hint) = match (name, protocol, both) {
                (Some(index), None, (Some(name), _)) => (
                    format!("{place}.names[{index}]"),
                    format!("\"{name}\" is already a name of virtual_hosts[{first}]"),
                    "a name belongs to one virtual host: remove it from the other, or give one of them `alpn`",
                ),
                (_, Some(index), (name, Some(protocol))) => (
                    format!("{place}.alpn[{index}]"),
                    match name {
                        Some(name) => format!("\"{protocol}\" of \"{name}\" is already that of virtual_hosts[{first}]"),
                        None => format!("\"{protocol}\" is already that of virtual_hosts[{first}]"),
                    },
                    "of one name, a protocol belongs to one virtual host: remove it from the other",
                ),
                _ => continue,
            };
            return Err(origins.error(&key, message).hint(hint));
        }
    }
    Ok(())
}

fn refuse_empty_reports(config: &ServerConfig, origins: &Origins) -> Result<()> {
    let of_hosts = config.virtual_hosts.iter().enumerate();
    let of_hosts = of_hosts.map(|(index, host)| (format!("virtual_hosts[{index}]."), &host.tls.report));
    for (prefix, report) in std::iter::once((String::new(), &config.tls.report)).chain(of_hosts) {
        if report.as_ref().is_some_and(Report::is_empty) {
            return Err(origins
                .error(&format!("{prefix}tls.report"), "an empty report tries nothing")
                .hint("say what to try, such as `\"pqc_only\": true`, or remove it"));
        }
    }
    Ok(())
}

/// What is spoken before the handshake goes on behind it.
fn refuse_starttls_elsewhere(config: &ServerConfig, origins: &Origins) -> Result<()> {
    let Some(protocol) = config.server.starttls else { return Ok(()) };
    let hosts = config.virtual_hosts.iter().enumerate();
    let hosts = hosts.map(|(index, host)| (format!("virtual_hosts[{index}].upstream"), host.upstream.as_ref()));
    for (key, upstream) in std::iter::once(("upstream".to_owned(), config.upstream.as_ref())).chain(hosts) {
        let (key, message) = match upstream.map(|upstream| upstream.protocol) {
            Some(UpstreamProtocol::Tcp) => continue,
            Some(UpstreamProtocol::Http) => (
                format!("{key}.protocol"),
                format!("clients speak {protocol} (`server.starttls`), and this upstream HTTP"),
            ),
            None => ("server.starttls".to_owned(), format!("clients speak {protocol}, and there is no `{key}` for it")),
        };
        return Err(origins
            .error(&key, message)
            .hint("give every host an upstream with \"protocol\": \"tcp\", or remove `server.starttls`"));
    }
    Ok(())
}

/// Whether listening on both addresses with one port would collide.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    covers(one, other) || covers(other, one)
}
