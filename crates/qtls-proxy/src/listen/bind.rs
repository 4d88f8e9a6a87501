//! Binding: one socket a worker, in one `SO_REUSEPORT` group.

use std::io;
use std::net::{SocketAddr, TcpListener};

use qtls_core::{Error, Fault, Result};
use socket2::{Domain, Protocol, Socket, Type};

/// As many as the kernel allows (`net.core.somaxconn`); it clamps this.
const BACKLOG: i32 = 65_535;

/// Binds `count` sockets to `address`, so that the kernel spreads connections over them.
///
/// # Errors
/// The port is in use, needs a privilege, or the address isn't one of this host. The place and key are the caller's to
/// add.
pub fn bind(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>> {
    // A group of `SO_REUSEPORT` sockets lets another process of the same user join, and connections would be split
    // between the two in silence. A socket without that option can't be bound beside one that listens already.
    open(address, false).and_then(|socket| listen(&socket, address)).map_err(|error| explain(address, &error))?;
    (0..count.max(1))
        .map(|_| {
            let socket = open(address, count > 1)?;
            listen(&socket, address)?;
            socket.set_nonblocking(true)?;
            Ok(TcpListener::from(socket))
        })
        .collect::<io::Result<_>>()
        .map_err(|error| explain(address, &error))
}

fn open(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier process that linger in TIME_WAIT don't keep the port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // `::` means every address, IPv4 too, whatever the system's default is.
        socket.set_only_v6(false)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    Ok(socket)
}

fn listen(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)
}

fn explain(address: SocketAddr, error: &io::Error) -> Error {
    let new = |message: String| Error::new(Fault::Configuration, message);
    match error.kind() {
        io::ErrorKind::AddrInUse => new(format!("{address} is in use by another process"))
            .hint(format!("see which one with `ss -ltnp 'sport = :{}'`, or choose another port", address.port())),
        io::ErrorKind::PermissionDenied => {
            new(format!("this user may not listen on the privileged port {}", address.port())).hint(
                "give the program the capability CAP_NET_BIND_SERVICE (AmbientCapabilities= in a systemd unit), or \
                 choose a port from 1024 on",
            )
        }
        io::ErrorKind::AddrNotAvailable => new(format!("{} is not an address of this host", address.ip()))
            .hint("see its addresses with `ip addr`; 0.0.0.0 or :: listens on all of them"),
        _ => new(format!("can't listen on {address}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn a_port_in_use_is_an_error_even_where_the_other_shares_it() {
        let address = free();
        let first = bind(address, 2).unwrap();
        assert_eq!(first.len(), 2);
        let error = bind(address, 2).unwrap_err();
        assert_eq!(error.message(), format!("{address} is in use by another process"));
        drop(first);
        bind(address, 1).unwrap();
    }

    #[test]
    fn a_foreign_address_says_so() {
        let error = bind("192.0.2.1:8443".parse().unwrap(), 1).unwrap_err();
        assert_eq!(error.message(), "192.0.2.1 is not an address of this host");
    }

    #[test]
    fn every_socket_of_a_group_gets_connections() {
        let address = free();
        let sockets = bind(address, 2).unwrap();
        let clients: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        let accepted: Vec<_> =
            sockets.iter().map(|socket| std::iter::from_fn(|| socket.accept().ok()).count()).collect();
        assert_eq!(accepted.iter().sum::<usize>(), clients.len());
        assert!(accepted.iter().all(|count| *count > 0), "{accepted:?}");
    }
}
