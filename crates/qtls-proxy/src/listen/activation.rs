//! Sockets that systemd opened: the protocol of sd_listen_fds(3).
//!
//! systemd keeps its own descriptor of each socket: connections wait in the queue while the service is restarted.

use std::env;
use std::net::SocketAddr;

use qtls_core::{Error, Result};

use super::{Listener, Origin, Role, examine, inherited};

/// More descriptors than any unit has; a number above this is no number of descriptors.
const MOST: usize = 4096;

/// The sockets that systemd passed to this process, with what is served on them: what `FileDescriptorName=` says (`tls`,
/// `metrics` or `redirect`), else what is configured for the port, else TLS.
///
/// # Errors
/// A descriptor is no listening TCP socket.
pub fn take(ports: Ports) -> Result<Vec<Listener>> {
    let variable = |name: &str| env::var(name).ok();
    let Some(names) = names(variable, std::process::id())? else { return Ok(Vec::new()) };
    let role = |name: &str, address: SocketAddr| role(name, address.port(), ports);
    names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let wrong = |what: &str| {
                error(format!("descriptor {} ({name}), which systemd passed, can't be served: {what}", inherited::FIRST + index)).hint(
                    "in the socket unit, `ListenStream=` must be an address with a port, and `Accept=` must not be true",
                )
            };
            let descriptor = inherited::take(index).ok_or_else(|| wrong("it is no socket"))?;
            let (socket, address) = examine(descriptor).map_err(wrong)?;
            Ok(Listener { role: role(name, address), address, origin: Origin::Activated, socket })
        })
        .collect()
}

/// The ports of the configuration, by which a socket without a name is known.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// Of TLS.
    pub tls: u16,
    /// Of the metrics.
    pub metrics: Option<u16>,
    /// Of the redirect to https.
    pub redirect: Option<u16>,
}

/// An error of socket activation.
pub(super) fn error(message: String) -> Error {
    Error::configuration(message).at("socket activation")
}

/// The names of the descriptors that are meant for this process; `None` where there are none.
fn names(variable: impl Fn(&str) -> Option<String>, pid: u32) -> Result<Option<Vec<String>>> {
    // A process that was started by another one of the service has the variables, and not the descriptors.
    if variable("LISTEN_PID").and_then(|text| text.parse().ok()) != Some(pid) {
        return Ok(None);
    }
    let Some(text) = variable("LISTEN_FDS") else { return Ok(None) };
    let count = text.parse().ok().filter(|count| *count <= MOST).ok_or_else(|| {
        error(format!("LISTEN_FDS is {text:?}, which is no number of descriptors"))
            .hint("the service manager sets it; start the program without it otherwise")
    })?;
    let given = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = given.split(':').map(str::to_owned);
    let unnamed = || "unknown".to_owned();
    let names: Vec<_> =
        (0..count).map(|_| names.next().filter(|name| !name.is_empty()).unwrap_or_else(unnamed)).collect();
    Ok(Some(names).filter(|names| !names.is_empty()))
}

fn role(name: &str, port: u16, ports: Ports) -> Role {
    match name {
        "tls" => Role::Tls,
        "metrics" => Role::Metrics,
        "redirect" => Role::Redirect,
        // Unless it is named, systemd gives a socket the name of its unit.
        _ if port == ports.tls => Role::Tls,
        _ if Some(port) == ports.metrics => Role::Metrics,
        _ if Some(port) == ports.redirect => Role::Redirect,
        _ => Role::Tls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names_of(variables: &[(&str, &str)]) -> Result<Option<Vec<String>>> {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        names(variable, 17)
    }

    #[test]
    fn descriptors_are_counted_and_named() {
        let of = |variables: &[(&str, &str)]| names_of(variables).unwrap();
        let strings = |names: &[&str]| Some(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[("LISTEN_FDS", "1")]), None, "meant for nobody");
        assert_eq!(of(&[("LISTEN_PID", "18"), ("LISTEN_FDS", "1")]), None, "meant for another");
        assert_eq!(of(&[("LISTEN_PID", "17"), ("LISTEN_FDS", "0")]), None);
        assert_eq!(of(&[("LISTEN_PID", "17"), ("LISTEN_FDS", "2")]), strings(&["unknown", "unknown"]));
        let named = [("LISTEN_PID", "17"), ("LISTEN_FDS", "3"), ("LISTEN_FDNAMES", "qtls.socket:metrics")];
        assert_eq!(of(&named), strings(&["qtls.socket", "metrics", "unknown"]));
        let error = names_of(&[("LISTEN_PID", "17"), ("LISTEN_FDS", "many")]).unwrap_err();
        assert_eq!(error.message(), "LISTEN_FDS is \"many\", which is no number of descriptors");
    }

    #[test]
    fn a_name_decides_and_else_the_port() {
        let ports = Ports { tls: 8443, metrics: Some(9091), redirect: Some(80) };
        assert_eq!(role("metrics", 1, ports), Role::Metrics);
        assert_eq!(role("redirect", 1, ports), Role::Redirect);
        assert_eq!(role("tls", 9091, ports), Role::Tls);
        assert_eq!(role("qtls.socket", 9091, ports), Role::Metrics);
        assert_eq!(role("qtls.socket", 80, ports), Role::Redirect);
        assert_eq!(role("qtls.socket", 443, ports), Role::Tls);
        assert_eq!(role("qtls.socket", 9091, Ports { metrics: None, redirect: None, ..ports }), Role::Tls);
    }
}
