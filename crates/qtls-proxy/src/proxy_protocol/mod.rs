//! The PROXY protocol: who a connection is made for, in a header before its first byte.
//!
//! The text of HAProxy's `doc/proxy-protocol.txt` is the specification; clauses in this room are its sections. The codec
//! ([`decode`], [`encode`]) is functions over bytes; `received` reads a header from a socket, and `sent` says what a
//! server behind is told.

mod malformed;
mod received;
mod sent;
pub mod tlv;
mod v1;
mod v2;

use std::net::SocketAddr;

pub use malformed::{Malformed, REASONS};
pub use received::Refusal;
pub(crate) use received::{Arrival, begins};
pub(crate) use sent::{Told, UniqueId};

use crate::socket::Socket;

/// The version of a header that is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The line of text (2.1).
    V1,
    /// The binary header (2.2).
    V2,
}

/// On whose behalf a connection is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// The sender itself, as for its health checks (LOCAL): the addresses of the connection itself count.
    Sender,
    /// Somebody whom the header doesn't name, or names in no family of TCP: the addresses of the connection itself count.
    Unknown,
    /// A client.
    Client {
        /// Its address.
        source: SocketAddr,
        /// The address that it connected to.
        destination: SocketAddr,
    },
}

/// A header that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who the connection is made for.
    pub party: Party,
    /// What the sender calls the connection (2.2.5): at most [`tlv::MAX_UNIQUE_ID`] octets.
    pub unique_id: Option<Vec<u8>>,
    /// How many octets the header takes. What follows is the connection's.
    pub length: usize,
}

/// Reads the header that `bytes` begin with; `None` where more bytes are needed to tell.
///
/// # Errors
/// They begin with no header, or with one that breaks the specification.
pub fn decode(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    if v2::may_begin(bytes) {
        v2::decode(bytes)
    } else if v1::may_begin(bytes) {
        v1::decode(bytes)
    } else {
        Err(Malformed::Missing)
    }
}

/// The header that tells about `party`; `tlvs`, as [`tlv::Writer`] makes them, are for [`Version::V2`] alone.
///
/// # Errors
/// It would be longer than its length field can say.
pub fn encode(version: Version, party: Party, tlvs: &tlv::Writer) -> Result<Vec<u8>, tlv::TooLong> {
    match version {
        Version::V1 => Ok(v1::encode(party)),
        Version::V2 => v2::encode(party, tlvs),
    }
}

/// The header of a connection that this side makes for itself, such as a health check: LOCAL. Version 1 has no such thing, and
/// receivers may refuse UNKNOWN: it tells the addresses of the connection itself (2.1).
pub fn own_header(version: Version, socket: &Socket) -> Vec<u8> {
    match (version, socket) {
        (Version::V2, _) => v2::local(),
        (Version::V1, Socket::Tcp(stream)) => match (stream.local_addr(), stream.peer_addr()) {
            (Ok(source), Ok(destination)) => v1::encode(Party::Client { source, destination }),
            _ => v1::encode(Party::Unknown),
        },
        (Version::V1, Socket::Unix(_)) => v1::encode(Party::Unknown),
    }
}

/// Both addresses in one family: an IPv4 address stands as it is, unless the other one is of IPv6.
fn in_one_family(source: SocketAddr, destination: SocketAddr) -> Pair {
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    match (canonical(source), canonical(destination)) {
        (SocketAddr::V4(source), SocketAddr::V4(destination)) => Pair::V4(source, destination),
        (source, destination) => Pair::V6(mapped(source), mapped(destination)),
    }
}

enum Pair {
    V4(std::net::SocketAddrV4, std::net::SocketAddrV4),
    V6(std::net::SocketAddrV6, std::net::SocketAddrV6),
}

fn mapped(address: SocketAddr) -> std::net::SocketAddrV6 {
    let ip = match address {
        SocketAddr::V4(address) => address.ip().to_ipv6_mapped(),
        SocketAddr::V6(address) => *address.ip(),
    };
    // Neither version has a place for a flow or a scope.
    std::net::SocketAddrV6::new(ip, address.port(), 0, 0)
}

#[cfg(test)]
mod tests;
