//! Servers that take no connections, in two ways.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// A port on which nobody listens: bound, and never listened on, so that nobody else gets it either.
pub(crate) fn refusing() -> (Socket, u16) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let port = socket.local_addr().unwrap().as_socket().unwrap().port();
    (socket, port)
}

/// A port that gives no answer, because the queue of its listener is full.
pub(crate) fn silent() -> (Socket, Vec<TcpStream>, u16) {
    let (socket, port) = refusing();
    socket.listen(0).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
    }
    (socket, waiting, port)
}
