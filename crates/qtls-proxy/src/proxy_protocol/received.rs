//! A header that comes in, and what it changes about its connection.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;

use super::{Malformed, Party, UniqueId, decode, v1, v2};
use crate::stream::with_scratch;

/// Why a connection is refused for the header that it begins with, or doesn't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is one, and its sender isn't among `server.proxy_protocol.from`.
    Untrusted,
    /// The connection ended in the middle of it.
    Closed,
    /// It was not there after so long.
    Late(Duration),
    /// It breaks the specification, or isn't there at all.
    Malformed(Malformed),
}

impl Refusal {
    /// A short, stable name: the label `reason` of `qtls_proxy_protocol_errors_total`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Closed => "closed",
            Self::Late(_) => "timeout",
            Self::Malformed(malformed) => malformed.reason(),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Untrusted => f.write_str(
                "the connection begins with a PROXY header, and its address is in no network of \
                 server.proxy_protocol.from: add it there if it is a load balancer of yours",
            ),
            Self::Closed => f.write_str("the connection ended in the middle of its PROXY header"),
            Self::Late(after) => {
                write!(f, "the PROXY header was not complete after {} s", after.as_secs())
            }
            Self::Malformed(Malformed::Missing) => write!(
                f,
                "{}, which server.proxy_protocol expects of this address: have the load balancer send one (send-proxy-v2 \
                 in HAProxy, proxy_protocol in nginx), or take its network out of `from`",
                Malformed::Missing
            ),
            Self::Malformed(malformed) => write!(f, "the PROXY header is damaged: {malformed}"),
        }
    }
}

/// Where a connection comes from.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    /// The client: the peer of the socket, or whom its header names.
    pub(crate) client: SocketAddr,
    /// The address that the client connected to.
    pub(crate) local: SocketAddr,
    /// Who sent the header, where there was one: the peer of the socket.
    pub(crate) peer: Option<SocketAddr>,
    /// What the sender of the header calls the connection.
    pub(crate) unique_id: Option<UniqueId>,
    /// What was read behind the header.
    pub(crate) received: Vec<u8>,
}

impl Arrival {
    /// A connection of which nothing was read.
    pub(crate) fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        Self { client: peer, local, peer: None, unique_id: None, received: Vec::new() }
    }

    /// Reads the header that the connection has to begin with. False where the peer closes before it has sent a byte.
    ///
    /// # Errors
    /// There is no header, or a damaged one.
    pub(crate) async fn read_header(&mut self, socket: &TcpStream) -> Result<bool, Refusal> {
        let mut bytes = Vec::new();
        loop {
            // A socket that failed is told by the read.
            let _ = socket.readable().await;
            let read = with_scratch(|scratch| {
                let count = socket.try_read(&mut scratch.input)?;
                bytes.extend_from_slice(&scratch.input[..count]);
                Ok::<_, std::io::Error>(count)
            });
            match read {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Ok(count) if count > 0 => {}
                _ if bytes.is_empty() => return Ok(false),
                _ => return Err(Refusal::Closed),
            }
            let Some(header) = decode(&bytes).map_err(Refusal::Malformed)? else { continue };
            self.peer = Some(self.client);
            if let Party::Client { source, destination } = header.party {
                (self.client, self.local) = (source, destination);
            }
            self.unique_id = header.unique_id.map(UniqueId::from);
            bytes.drain(..header.length);
            self.received = bytes;
            return Ok(true);
        }
    }
}

/// Whether a connection that should have none begins with a header. With `None`, more bytes are needed to tell.
pub(crate) fn begins(bytes: &[u8]) -> Option<bool> {
    let may = v2::may_begin(bytes) || v1::may_begin(bytes);
    if !may { Some(false) } else { (bytes.len() >= v1::PREFIX.len()).then_some(true) }
}
