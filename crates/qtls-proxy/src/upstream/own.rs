//! Connections that would come back to this very server: each would make another one, without end.

use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Socket, Type};

use crate::config::covers;

/// The addresses that this server listens on.
#[derive(Clone, Debug, Default)]
pub struct OwnAddresses(Vec<SocketAddr>);

impl OwnAddresses {
    /// These addresses.
    pub fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let mut all: Vec<_> = addresses.into_iter().collect();
        all.sort();
        all.dedup();
        Self(all)
    }

    /// Whether a connection to `target` would reach this server.
    pub fn includes(&self, target: SocketAddr) -> bool {
        // Ports differ nearly always: nothing is asked of the system then.
        self.0.iter().any(|own| own.port() == target.port() && leads_to(own.ip(), target.ip()))
    }

    /// Whether a connection to `host` and `port` would, as far as this can be said without resolving a name.
    pub fn includes_host(&self, host: &str, port: u16) -> bool {
        match host.parse::<IpAddr>() {
            Ok(address) => self.includes(SocketAddr::new(address, port)),
            // The one name whose addresses are known (RFC 6761, section 6.3).
            Err(_) if is_localhost(host) => {
                LOOPBACK.iter().any(|address| self.includes(SocketAddr::new(*address, port)))
            }
            Err(_) => false,
        }
    }
}

/// Both addresses of `localhost`.
pub(super) const LOOPBACK: [IpAddr; 2] =
    [IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)];

pub(super) fn is_localhost(host: &str) -> bool {
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost")
}

fn leads_to(own: IpAddr, target: IpAddr) -> bool {
    let target = target.to_canonical();
    // A connection to the unspecified address goes to this host, by the loopback interface.
    let target = match target {
        IpAddr::V4(address) if address.is_unspecified() => LOOPBACK[0],
        IpAddr::V6(address) if address.is_unspecified() => LOOPBACK[1],
        target => target,
    };
    if own.is_unspecified() { covers(own, target) && is_of_this_host(target) } else { own.to_canonical() == target }
}

/// Whether the system would use `address` itself as the source of what it sends there: so it does with its own addresses
/// alone. Nothing is sent.
fn is_of_this_host(address: IpAddr) -> bool {
    const ANY: u16 = 9;
    if address.is_loopback() {
        return true;
    }
    let target = SocketAddr::new(address, ANY);
    let source = Socket::new(Domain::for_address(target), Type::DGRAM, None).and_then(|socket| {
        socket.connect(&target.into())?;
        socket.local_addr()
    });
    source.is_ok_and(|source| source.as_socket().is_some_and(|source| source.ip() == address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(address: &str) -> OwnAddresses {
        OwnAddresses::new([address.parse().unwrap()])
    }

    #[test]
    fn every_way_back_is_seen_and_no_other() {
        for (own_address, target, back) in [
            ("127.0.0.1:8443", "127.0.0.1:8443", true),
            ("127.0.0.1:8443", "[::ffff:127.0.0.1]:8443", true),
            ("127.0.0.1:8443", "0.0.0.0:8443", true),
            ("127.0.0.1:8443", "127.0.0.1:8080", false),
            ("127.0.0.1:8443", "127.0.0.2:8443", false),
            ("127.0.0.1:8443", "[::1]:8443", false),
            ("0.0.0.0:8443", "127.0.0.2:8443", true),
            ("0.0.0.0:8443", "[::1]:8443", false),
            ("0.0.0.0:8443", "192.0.2.1:8443", false),
            ("[::]:8443", "127.0.0.1:8443", true),
            ("[::]:8443", "[::1]:8443", true),
            ("[::]:8443", "[::]:8443", true),
            ("[::]:8443", "[2001:db8::1]:8443", false),
            ("192.0.2.1:8443", "192.0.2.1:8443", true),
        ] {
            assert_eq!(own(own_address).includes(target.parse().unwrap()), back, "{own_address} {target}");
        }
    }

    #[test]
    fn other_addresses_of_this_host_are_seen() {
        // The address from which the outside is reached, where there is an outside.
        let route = std::net::UdpSocket::bind("0.0.0.0:0").and_then(|socket| {
            socket.connect("192.0.2.1:9")?;
            socket.local_addr()
        });
        if let Ok(address) = route {
            assert!(own("0.0.0.0:8443").includes(SocketAddr::new(address.ip(), 8443)), "{address}");
        }
    }

    #[test]
    fn localhost_is_both_of_its_addresses() {
        assert!(own("127.0.0.1:8443").includes_host("localhost", 8443));
        assert!(own("[::1]:8443").includes_host("LocalHost.", 8443));
        assert!(own("0.0.0.0:8443").includes_host("app.localhost", 8443));
        assert!(!own("0.0.0.0:8443").includes_host("localhost", 8080));
        assert!(!own("0.0.0.0:8443").includes_host("localhost.example", 8443));
        assert!(own("0.0.0.0:8443").includes_host("127.0.0.1", 8443));
    }
}
