//! Connecting to one server: over TCP, to one address of its name after the other, or to a Unix socket.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::{ConnectErrorKind, Place, Server, Upstream};
use crate::socket::Socket;

impl Upstream {
    /// Connects, within the time for that. Nothing is counted and nothing is logged.
    pub(super) async fn dial(&self, server: &Server) -> Result<Socket, ConnectErrorKind> {
        let patience = self.config.timeouts.connect;
        let deadline = Instant::now() + patience;
        let late = |_| ConnectErrorKind::Timeout(patience);
        let name = match &server.place {
            Place::Address(address) => return self.dial_address(*address).await,
            Place::Unix(path) => {
                return timeout_at(deadline, to_unix(path)).await.map_err(late)?.map_err(|error| kind(error, patience));
            }
            Place::Name(name) => name,
        };
        let addresses = name.addresses(deadline).await?;
        let mut last = ConnectErrorKind::Unresolvable("the name has no address".to_owned());
        for (tried, (place, address)) in addresses.in_turn().enumerate() {
            if let Err(back) = self.refuse_loop(address) {
                last = back;
                continue;
            }
            // A share for each, so that one silent address leaves time for the others.
            let shares = u32::try_from(addresses.len() - tried).unwrap_or(u32::MAX);
            let share = deadline.saturating_duration_since(Instant::now()) / shares;
            let outcome = timeout(share, TcpStream::connect(address)).await;
            addresses.tried(place, matches!(outcome, Ok(Ok(_))));
            last = match outcome {
                Ok(Ok(stream)) => return Ok(ready(stream)),
                Ok(Err(error)) => kind(error, patience),
                Err(elapsed) => late(elapsed),
            };
        }
        Err(last)
    }

    /// The same for one address.
    pub(super) async fn dial_address(&self, address: SocketAddr) -> Result<Socket, ConnectErrorKind> {
        self.refuse_loop(address)?;
        let patience = self.config.timeouts.connect;
        match timeout(patience, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => Ok(ready(stream)),
            Ok(Err(error)) => Err(kind(error, patience)),
            Err(_) => Err(ConnectErrorKind::Timeout(patience)),
        }
    }

    fn refuse_loop(&self, address: SocketAddr) -> Result<(), ConnectErrorKind> {
        match self.own.get() {
            Some(own) if own.includes(address) => Err(ConnectErrorKind::Loop(address)),
            _ => Ok(()),
        }
    }
}

/// A Unix socket whose queue is full says so at once, where TCP would wait.
async fn to_unix(path: &Path) -> io::Result<Socket> {
    const PAUSE: Duration = Duration::from_millis(5);
    loop {
        match UnixStream::connect(path).await {
            Ok(stream) => return Ok(stream.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(PAUSE).await,
            Err(error) => return Err(error),
        }
    }
}

fn kind(error: io::Error, patience: Duration) -> ConnectErrorKind {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectErrorKind::Refused,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => ConnectErrorKind::Unreachable,
        io::ErrorKind::TimedOut => ConnectErrorKind::Timeout(patience),
        _ => ConnectErrorKind::Other(error.to_string()),
    }
}

/// Requests are written whole: waiting for more would only delay them.
fn ready(stream: TcpStream) -> Socket {
    // Fails only on a connection that is already dead, which the first write will tell.
    let _ = stream.set_nodelay(true);
    stream.into()
}
