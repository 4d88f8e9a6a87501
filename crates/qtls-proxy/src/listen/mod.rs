//! Listening sockets: where they come from, and which worker serves which.
//!
//! A socket is bound here, or comes from systemd ([`activation`]), or from the process that serves so far
//! ([`crate::handover`]). What was passed in wins over binding: closing a listening socket resets the connections that
//! wait in its queue, so whoever takes over from somebody else needs the *same* socket, not another one for the same
//! address.

pub mod activation;
mod bind;
mod inherited;
mod shared;

use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use qtls_core::{Error, Result};
use rustix::net::sockopt;
use rustix::net::{AddressFamily, SocketType};
use serde::{Deserialize, Serialize};

pub use bind::bind;
pub use shared::{Accepted, Listeners, distribute};

/// What is served on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// TLS, the server's purpose.
    Tls,
    /// Metrics and health, and the dashboard where that is on the same address.
    Metrics,
    /// The dashboard, where it has an address of its own.
    Dashboard,
    /// The way to https, in plain HTTP.
    Redirect,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls => "TLS",
            Self::Metrics => "the metrics",
            Self::Dashboard => "the dashboard",
            Self::Redirect => "the redirect",
        })
    }
}

/// Where a socket comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This process.
    Bound,
    /// The service manager: socket activation.
    Activated,
    /// The process that served before, which gave it as its descriptor of this index.
    HandedOver(usize),
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    /// What is served on it.
    pub role: Role,
    /// The address that it is bound to.
    pub address: SocketAddr,
    /// Where it comes from.
    pub origin: Origin,
    /// The socket, which doesn't block.
    pub socket: TcpListener,
}

/// What the configuration wants to have served.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// What.
    pub role: Role,
    /// Where.
    pub address: SocketAddr,
    /// The key of the configuration that says where.
    pub key: &'static str,
    /// How many sockets are bound, if none was passed in.
    pub sockets: usize,
}

/// The sockets to serve on, and what is to be told about them.
#[derive(Debug, Default)]
pub struct Assembled {
    /// The sockets, at least one of each role that is wanted.
    pub listeners: Vec<Listener>,
    /// What the operator should know, a sentence each.
    pub warnings: Vec<String>,
    /// What the operator may want to know, a sentence each.
    pub notes: Vec<String>,
}

/// Gets each of `wanted` its sockets: those that systemd passed, whatever their address, else those of the process before
/// that have the wanted address, else new ones.
///
/// # Errors
/// A socket can't be bound, or systemd passed one that nothing is served on. An error about binding has its key.
pub fn assemble(wanted: &[Wanted], activated: Vec<Listener>, handed_over: Vec<Listener>) -> Result<Assembled> {
    let mut assembled = Assembled::default();
    if let Some(lonely) = activated.iter().find(|listener| wanted.iter().all(|wanted| wanted.role != listener.role)) {
        let (role, address) = (lonely.role, lonely.address);
        let (are, section) = if role == Role::Redirect { ("is", "redirect") } else { ("are", "metrics") };
        return Err(activation::error(format!(
            "systemd passed the socket {address} for {role}, which {are} switched off"
        ))
        .hint(format!("add a section `{section}` to the configuration, or remove the socket from the unit")));
    }
    let (mut activated, mut handed_over) = (activated, handed_over);
    for wanted in wanted {
        let passed = take(&mut activated, |listener| listener.role == wanted.role);
        let inherited = take(&mut handed_over, |listener| listener.role == wanted.role);
        if !passed.is_empty() {
            for listener in &passed {
                if !agree(wanted.address, listener.address) {
                    assembled.warnings.push(format!(
                        "{}: systemd passed a socket for {}, which is served; the configuration says {}",
                        wanted.key, listener.address, wanted.address
                    ));
                }
            }
            assembled.listeners.extend(passed);
            leave(inherited, "systemd passed others", &mut assembled.notes);
            continue;
        }
        let (same, others): (Vec<_>, Vec<_>) =
            inherited.into_iter().partition(|listener| same_address(listener.address, wanted.address));
        let clash = others.iter().any(|other| overlap(other.address, wanted.address));
        leave(others, &format!("{} says {}", wanted.key, wanted.address), &mut assembled.notes);
        if !same.is_empty() {
            assembled.listeners.extend(same);
            continue;
        }
        let bound = bind(wanted.address, wanted.sockets).map_err(|error| {
            let error = if clash {
                Error::new(error.fault(), error.message()).hint(
                    "the old process listens on an address that overlaps this one: such a change needs a restart instead of \
                     a hand-over",
                )
            } else {
                error
            };
            error.key(wanted.key)
        })?;
        assembled.listeners.extend(bound.into_iter().map(|socket| Listener {
            role: wanted.role,
            address: socket.local_addr().unwrap_or(wanted.address),
            origin: Origin::Bound,
            socket,
        }));
    }
    leave(handed_over, "it is not configured", &mut assembled.notes);
    Ok(assembled)
}

/// A socket that another process opened, as what it must be: TCP, and listening.
///
/// # Errors
/// What it is instead.
pub fn examine(descriptor: OwnedFd) -> Result<(TcpListener, SocketAddr), &'static str> {
    let kind = sockopt::socket_type(&descriptor).map_err(|_| "it is no socket")?;
    let domain = sockopt::socket_domain(&descriptor).map_err(|_| "it is no socket")?;
    if !matches!(domain, AddressFamily::INET | AddressFamily::INET6) {
        return Err("it is no socket of the internet: it has no address and port");
    }
    if kind != SocketType::STREAM {
        return Err("it is no TCP socket");
    }
    if !sockopt::socket_acceptconn(&descriptor).unwrap_or(false) {
        return Err("it doesn't listen: it is a single connection");
    }
    let socket = TcpListener::from(descriptor);
    socket.set_nonblocking(true).map_err(|_| "it can't be made non-blocking")?;
    let address = socket.local_addr().map_err(|_| "it has no address")?;
    Ok((socket, address))
}

fn take(from: &mut Vec<Listener>, wanted: impl Fn(&Listener) -> bool) -> Vec<Listener> {
    let (taken, rest) = std::mem::take(from).into_iter().partition(wanted);
    *from = rest;
    taken
}

fn leave(listeners: Vec<Listener>, why: &str, notes: &mut Vec<String>) {
    let mut told = Vec::new();
    for Listener { role, address, .. } in listeners {
        if !told.contains(&(role, address)) {
            notes.push(format!("the old process' socket {address} for {role} is not taken over: {why}"));
            told.push((role, address));
        }
    }
}

fn same_address(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && one.ip() == other.ip()
}

/// Whether a socket that systemd passed is what the configuration means. `ListenStream=8443` is `[::]:8443`, which takes
/// IPv4 too.
fn agree(configured: SocketAddr, passed: SocketAddr) -> bool {
    same_address(configured, passed)
        || configured.port() == passed.port() && configured.ip().is_unspecified() && passed.ip().is_unspecified()
}

/// Whether the two can't be bound at the same time.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let covers = |wide: IpAddr, narrow: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || narrow.is_ipv4());
    one.port() == other.port()
        && (one.ip() == other.ip() || covers(one.ip(), other.ip()) || covers(other.ip(), one.ip()))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;

    use super::*;

    fn listener(role: Role, origin: Origin) -> Listener {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        Listener { role, address: socket.local_addr().unwrap(), origin, socket }
    }

    fn wanted(role: Role, address: SocketAddr) -> Wanted {
        let key = if role == Role::Tls { "server.listen_port" } else { "metrics.port" };
        Wanted { role, address, key, sockets: 2 }
    }

    fn free() -> SocketAddr {
        listener(Role::Tls, Origin::Bound).address
    }

    fn origins(assembled: &Assembled) -> Vec<(Role, Origin)> {
        assembled.listeners.iter().map(|listener| (listener.role, listener.origin)).collect()
    }

    #[test]
    fn what_systemd_passed_wins_and_a_difference_is_told() {
        let (tls, metrics) = (free(), free());
        let passed = listener(Role::Tls, Origin::Activated);
        let address = passed.address;
        let old = listener(Role::Tls, Origin::HandedOver(0));
        let left = old.address;
        let wanted = [wanted(Role::Tls, tls), wanted(Role::Metrics, metrics)];
        let assembled = assemble(&wanted, vec![passed], vec![old]).unwrap();
        assert_eq!(
            origins(&assembled),
            [(Role::Tls, Origin::Activated), (Role::Metrics, Origin::Bound), (Role::Metrics, Origin::Bound)]
        );
        assert_eq!(
            assembled.warnings,
            [format!(
                "server.listen_port: systemd passed a socket for {address}, which is served; the configuration says {tls}"
            )]
        );
        assert_eq!(
            assembled.notes,
            [format!("the old process' socket {left} for TLS is not taken over: systemd passed others")]
        );
    }

    #[test]
    fn the_old_process_sockets_are_taken_where_the_address_is_the_same() {
        let old = [listener(Role::Tls, Origin::HandedOver(0)), listener(Role::Metrics, Origin::HandedOver(0))];
        let (same, other) = (old[0].address, free());
        let left = old[1].address;
        let assembled = assemble(&[wanted(Role::Tls, same), wanted(Role::Metrics, other)], Vec::new(), old.into());
        let assembled = assembled.unwrap();
        assert_eq!(
            origins(&assembled),
            [(Role::Tls, Origin::HandedOver(0)), (Role::Metrics, Origin::Bound), (Role::Metrics, Origin::Bound)]
        );
        assert_eq!(
            assembled.notes,
            [format!("the old process' socket {left} for the metrics is not taken over: metrics.port says {other}")]
        );
    }

    #[test]
    fn an_address_that_overlaps_the_old_one_can_not_be_exchanged_for_it() {
        let old = listener(Role::Tls, Origin::HandedOver(0));
        let everywhere = SocketAddr::new("0.0.0.0".parse().unwrap(), old.address.port());
        let _of_the_old_process = old.socket.try_clone().unwrap();
        let error = assemble(&[wanted(Role::Tls, everywhere)], Vec::new(), vec![old]).unwrap_err();
        assert_eq!(error.key_path(), Some("server.listen_port"));
        assert_eq!(error.message(), format!("{everywhere} is in use by another process"));
    }

    #[test]
    fn a_passed_socket_that_nothing_is_served_on_is_an_error() {
        let passed = listener(Role::Metrics, Origin::Activated);
        let address = passed.address;
        let error = assemble(&[wanted(Role::Tls, free())], vec![passed], Vec::new()).unwrap_err();
        assert_eq!(
            error.message(),
            format!("systemd passed the socket {address} for the metrics, which are switched off")
        );
    }

    #[test]
    fn both_wildcards_mean_the_same_port() {
        let as_meant = |one: &str, other: &str| agree(one.parse().unwrap(), other.parse().unwrap());
        assert!(as_meant("0.0.0.0:8443", "[::]:8443"));
        assert!(!as_meant("0.0.0.0:8443", "[::]:443"));
        assert!(!as_meant("127.0.0.1:8443", "[::]:8443"));
    }

    #[test]
    fn only_listening_tcp_sockets_pass() {
        let directory = tempfile::tempdir().unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let refused = |descriptor: OwnedFd| examine(descriptor).unwrap_err();
        assert_eq!(refused(connection.into()), "it doesn't listen: it is a single connection");
        assert_eq!(refused(UdpSocket::bind("127.0.0.1:0").unwrap().into()), "it is no TCP socket");
        let unix = UnixListener::bind(directory.path().join("socket")).unwrap();
        assert_eq!(refused(unix.into()), "it is no socket of the internet: it has no address and port");
        assert_eq!(refused(std::fs::File::open("/dev/null").unwrap().into()), "it is no socket");
        assert!(examine(tcp.into()).is_ok());
    }
}
