//! What no single key can tell: contradictions, and defaults that depend on other keys.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use qtls_core::credentials::files;
use qtls_core::error::Result;

use super::client::ClientConfig;
use super::server::{ServerCertificates, ServerConfig, VerifyClient};
use super::{CA_BUNDLE, Origins, SERVER_CERT, SERVER_KEY};

/// Checks the server's configuration, and fills in the defaults that depend on other keys or on the directory of
/// certificates.
pub(super) fn server(config: &mut ServerConfig, origins: &Origins, directory: &Path) -> Result<()> {
    refuse_later_subsystems(config, origins)?;
    settle_certificates(&mut config.certificates, "certificates", origins, directory)?;
    for (index, host) in config.virtual_hosts.iter_mut().enumerate() {
        let section = format!("virtual_hosts[{index}].certificates");
        settle_certificates(&mut host.certificates, &section, origins, directory)?;
    }
    refuse_names_twice(config, origins)?;
    if !config.logging.console && config.logging.file.is_none() {
        return Err(origins
            .error("logging.console", "nothing would be logged: `console` is false and there is no `file`")
            .hint("set `logging.console` to true, or name a `logging.file`"));
    }
    config.metrics = config.metrics.take().filter(|metrics| metrics.enabled);
    if let Some(metrics) = &config.metrics
        && metrics.port == config.server.listen_port
        && overlap(metrics.address, config.server.listen_address)
    {
        let message = format!("port {} is already `server.listen_port` on the same address", metrics.port);
        return Err(origins.error("metrics.port", message).hint("choose another port: the usual one is 9091"));
    }
    Ok(())
}

/// Checks the client's configuration.
pub(super) fn client(config: &ClientConfig, origins: &Origins) -> Result<()> {
    let certificates = &config.certificates;
    let lonely = match (&certificates.client_cert, &certificates.client_key) {
        (Some(_), None) => Some(("client_cert", "client_key", "a certificate without its key")),
        (None, Some(_)) => Some(("client_key", "client_cert", "a key without its certificate")),
        _ => None,
    };
    if let Some((there, missing, message)) = lonely {
        let hint = format!("add `certificates.{missing}`, or remove `certificates.{there}`");
        return Err(origins.error(&format!("certificates.{there}"), message).hint(hint));
    }
    if !config.tls.verify_peer {
        for (name, is_there) in [("pins", !certificates.pins.is_empty()), ("crl", certificates.crl.is_some())] {
            if is_there {
                let message =
                    format!("`{name}` is about the server's certificate, which `tls.verify_peer` says not to verify");
                return Err(origins
                    .error(&format!("certificates.{name}"), message)
                    .hint("set `tls.verify_peer` to true, or remove this key"));
            }
        }
    }
    Ok(())
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

fn refuse_names_twice(config: &ServerConfig, origins: &Origins) -> Result<()> {
    let mut seen = BTreeMap::new();
    for (host, name, key) in config.virtual_hosts.iter().enumerate().flat_map(|(host, virtual_host)| {
        let names = virtual_host.names.iter().enumerate();
        names.map(move |(index, name)| (host, name, format!("virtual_hosts[{host}].names[{index}]")))
    }) {
        if let Some(first) = seen.insert(name, host) {
            return Err(origins
                .error(&key, format!("\"{name}\" is already a name of virtual_hosts[{first}]"))
                .hint("a name belongs to one virtual host: remove it from the other"));
        }
    }
    Ok(())
}

/// Whether listening on both addresses with one port would collide.
fn overlap(one: IpAddr, other: IpAddr) -> bool {
    // `::` takes IPv4 connections too.
    let covers = |wide: IpAddr, narrow: IpAddr| match wide {
        IpAddr::V4(wide) => wide.is_unspecified() && narrow.is_ipv4(),
        IpAddr::V6(wide) => wide.is_unspecified(),
    };
    one == other || covers(one, other) || covers(other, one)
}
