//! Which worker serves which socket.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::task::Poll;

use socket2::SockRef;
use tokio::net::TcpStream;

/// Gives each of `workers` workers the sockets that it serves: every socket has a worker, and every worker has a socket.
/// Workers that share one have a descriptor each for the same socket and its one queue: whoever has time accepts.
///
/// # Errors
/// The process has no descriptor left.
pub fn distribute(sockets: Vec<TcpListener>, workers: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let (count, workers) = (sockets.len().max(1), workers.max(1));
    let mut shares: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for (index, socket) in sockets.into_iter().enumerate() {
        for sharer in (index % workers..workers).step_by(count).skip(1) {
            shares[sharer].push(socket.try_clone()?);
        }
        shares[index % workers].push(socket);
    }
    Ok(shares)
}

/// The sockets of one worker, which are accepted from by turns.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<Listening>,
    /// Whose turn is next.
    turn: Cell<usize>,
}

#[derive(Debug)]
struct Listening {
    socket: tokio::net::TcpListener,
    /// Where it listens, which may be on all addresses of the host.
    address: SocketAddr,
}

/// A connection that came in.
#[derive(Debug)]
pub struct Accepted {
    /// The connection. What is written to it is sent at once (`TCP_NODELAY`).
    pub socket: TcpStream,
    /// The address that it comes from.
    pub peer: SocketAddr,
    /// The address that it came to.
    pub local: SocketAddr,
}

impl Listeners {
    /// Puts the sockets, which don't block, into the current runtime.
    ///
    /// # Errors
    /// The runtime can't watch them.
    pub fn new(sockets: Vec<TcpListener>) -> io::Result<Self> {
        let sockets = sockets.into_iter().map(Listening::new).collect::<io::Result<_>>()?;
        Ok(Self { sockets, turn: Cell::new(0) })
    }

    /// The next connection of any of the sockets. May be dropped and called again; used by one task.
    ///
    /// # Errors
    /// Those of accept(2) of the socket whose turn it is.
    pub async fn accept(&self) -> io::Result<Accepted> {
        poll_fn(|cx| {
            let count = self.sockets.len();
            for offset in 0..count {
                let index = (self.turn.get() + offset) % count;
                let Listening { socket, address } = &self.sockets[index];
                if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                    self.turn.set((index + 1) % count);
                    return Poll::Ready(accepted.map(|(socket, peer)| {
                        let any = address.ip().is_unspecified();
                        let local = if any { socket.local_addr().unwrap_or(*address) } else { *address };
                        Accepted { socket, peer, local }
                    }));
                }
            }
            Poll::Pending
        })
        .await
    }
}

impl Listening {
    fn new(socket: TcpListener) -> io::Result<Self> {
        // Connections inherit it, which spares each of them a call: answers are written whole, and waiting for more
        // would only delay them.
        SockRef::from(&socket).set_tcp_nodelay(true)?;
        let address = socket.local_addr()?;
        Ok(Self { socket: tokio::net::TcpListener::from_std(socket)?, address })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream as Client;

    use super::*;

    fn sockets(count: usize) -> Vec<TcpListener> {
        let socket = || {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        (0..count).map(|_| socket()).collect()
    }

    /// The index of the socket behind each of a worker's descriptors.
    fn shares(count: usize, workers: usize) -> Vec<Vec<usize>> {
        let sockets = sockets(count);
        let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let index = |socket: &TcpListener| {
            let address = socket.local_addr().unwrap();
            addresses.iter().position(|one| *one == address).unwrap()
        };
        distribute(sockets, workers).unwrap().iter().map(|share| share.iter().map(index).collect()).collect()
    }

    #[test]
    fn every_socket_has_a_worker_and_every_worker_a_socket() {
        assert_eq!(shares(1, 1), [[0]]);
        assert_eq!(shares(1, 3), [[0], [0], [0]]);
        assert_eq!(shares(2, 2), [[0], [1]]);
        assert_eq!(shares(2, 3), [[0], [1], [0]]);
        assert_eq!(shares(3, 2), [vec![0, 2], vec![1]]);
        assert_eq!(shares(5, 2), [vec![0, 2, 4], vec![1, 3]]);
        assert_eq!(shares(4, 1), [vec![0, 1, 2, 3]]);
    }

    #[test]
    fn the_address_that_a_client_connected_to_is_told_where_there_are_several() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = TcpListener::bind("0.0.0.0:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            let port = socket.local_addr().unwrap().port();
            let listeners = Listeners::new(vec![socket]).unwrap();
            for address in ["127.0.0.1", "127.0.0.2"].map(|ip| SocketAddr::new(ip.parse().unwrap(), port)) {
                let _client = Client::connect(address).unwrap();
                assert_eq!(listeners.accept().await.unwrap().local, address);
            }
        });
    }

    #[test]
    fn a_worker_accepts_from_all_its_sockets_by_turns() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let sockets = sockets(2);
            let addresses: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
            let listeners = Listeners::new(sockets).unwrap();
            let clients: Vec<_> =
                [0, 0, 0, 1, 1].into_iter().map(|index: usize| Client::connect(addresses[index]).unwrap()).collect();
            // The runtime has to hear of both sockets first.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            let mut reached = Vec::new();
            for _ in &clients {
                let Accepted { socket, peer, local } = listeners.accept().await.unwrap();
                assert!(socket.nodelay().unwrap());
                assert_eq!(socket.peer_addr().unwrap(), peer);
                reached.push(socket.local_addr().unwrap());
                assert_eq!(reached.last(), Some(&local));
            }
            assert_eq!(reached.iter().filter(|address| **address == addresses[0]).count(), 3);
            assert!(reached[..4].windows(2).all(|pair| pair[0] != pair[1]), "{reached:?} of {addresses:?}");
        });
    }
}
