//! PROXY headers, read and written after the specification alone, and a server that tells which one it got.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use crate::process::PATIENCE;

/// What every header of version 2 begins with.
pub const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// A server that takes one PROXY header a connection, sends back what comes first behind it, and closes.
#[derive(Debug)]
pub struct Behind {
    /// Its port.
    pub port: u16,
    headers: Receiver<Vec<u8>>,
}

impl Behind {
    /// Starts it.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let (sender, headers) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let sender = sender.clone();
                thread::spawn(move || -> std::io::Result<()> {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    let header = read(&mut stream)?;
                    let _ = sender.send(header);
                    let mut chunk = [0; 1024];
                    let count = stream.read(&mut chunk)?;
                    stream.write_all(&chunk[..count])?;
                    stream.shutdown(std::net::Shutdown::Write)?;
                    std::io::copy(&mut stream, &mut std::io::sink()).map(|_| ())
                });
            }
        });
        Self { port, headers }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The next header, as it came.
    ///
    /// # Panics
    /// When none comes within [`PATIENCE`].
    #[track_caller]
    pub fn header(&self) -> Vec<u8> {
        self.headers.recv_timeout(PATIENCE).expect("no connection with a header")
    }
}

/// Reads a header of either version, and nothing behind it.
fn read(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut header = vec![0; 12];
    stream.read_exact(&mut header)?;
    if header == SIGNATURE {
        header.resize(16, 0);
        stream.read_exact(&mut header[12..])?;
        let length = usize::from(header[14]) << 8 | usize::from(header[15]);
        header.resize(16 + length, 0);
        stream.read_exact(&mut header[16..])?;
    } else {
        while !header.ends_with(b"\r\n") {
            let mut next = [0];
            stream.read_exact(&mut next)?;
            header.push(next[0]);
        }
    }
    Ok(header)
}

/// A header of version 2, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The command: 0 is LOCAL, 1 is PROXY.
    pub command: u8,
    /// The source and the destination, where there are any.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Type and value, in order.
    pub tlvs: Vec<(u8, Vec<u8>)>,
}

/// The TLV about TLS, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssl {
    /// What is there: 1 for TLS, 2 for a certificate on this connection, 4 for one in its session.
    pub client: u8,
    /// 0 where a certificate was verified.
    pub verify: u32,
    /// Type and value, in order.
    pub tlvs: Vec<(u8, Vec<u8>)>,
}

impl Header {
    /// Takes a header apart, whose checksum must be right where it has one.
    ///
    /// # Panics
    /// When it breaks the specification.
    #[track_caller]
    pub fn parse(bytes: &[u8]) -> Self {
        assert_eq!(&bytes[..12], SIGNATURE);
        assert_eq!(bytes[12] >> 4, 2, "the version");
        assert_eq!(usize::from(bytes[14]) << 8 | usize::from(bytes[15]), bytes.len() - 16, "the length");
        let (addresses, at) = match bytes[13] {
            0x00 => (None, 16),
            0x11 => (Some(addresses::<4>(&bytes[16..])), 28),
            0x21 => (Some(addresses::<16>(&bytes[16..])), 52),
            other => panic!("the family {other:#x}"),
        };
        let tlvs = tlvs(&bytes[at..]);
        let mut offset = at;
        for (kind, value) in &tlvs {
            if *kind == 3 {
                let mut zeroed = bytes.to_vec();
                zeroed[offset + 3..offset + 7].fill(0);
                assert_eq!(value[..], crc32c(&zeroed).to_be_bytes(), "the checksum");
            }
            offset += 3 + value.len();
        }
        Self { command: bytes[12] & 15, addresses, tlvs }
    }

    /// The value of the one TLV of this type; `None` where there is none.
    #[track_caller]
    pub fn value(&self, kind: u8) -> Option<&[u8]> {
        one(&self.tlvs, kind)
    }

    /// What it says of TLS.
    ///
    /// # Panics
    /// When it says nothing of TLS.
    #[track_caller]
    pub fn ssl(&self) -> Ssl {
        Ssl::parse(self.value(0x20).expect("nothing is said of TLS"))
    }
}

impl Ssl {
    /// Takes the value of the TLV apart.
    ///
    /// # Panics
    /// When it breaks the specification.
    #[track_caller]
    pub fn parse(value: &[u8]) -> Self {
        let verify = u32::from_be_bytes(value[1..5].try_into().expect("four octets"));
        Self { client: value[0], verify, tlvs: tlvs(&value[5..]) }
    }

    /// The value of the one TLV of this type, which must be text; empty where there is none.
    #[track_caller]
    pub fn text(&self, kind: u8) -> String {
        String::from_utf8(one(&self.tlvs, kind).unwrap_or_default().to_vec()).expect("text")
    }

    /// The value of the one TLV of this type; `None` where there is none.
    #[track_caller]
    pub fn value(&self, kind: u8) -> Option<&[u8]> {
        one(&self.tlvs, kind)
    }
}

/// A header of version 2 for PROXY over IPv4, with these TLVs as they are.
pub fn v2(source: &str, destination: &str, tlvs: &[u8]) -> Vec<u8> {
    let address = |text: &str| -> ([u8; 4], [u8; 2]) {
        let (ip, port) = text.split_once(':').expect("an address and a port");
        let ip: std::net::Ipv4Addr = ip.parse().expect("an IPv4 address");
        (ip.octets(), port.parse::<u16>().expect("a port").to_be_bytes())
    };
    let ((from, from_port), (to, to_port)) = (address(source), address(destination));
    raw(0x21, 0x11, &[&from[..], &to, &from_port, &to_port, tlvs].concat())
}

/// A header of version 2 from its parts; only the length is computed.
///
/// # Panics
/// When it would be too long.
pub fn raw(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).expect("a short header").to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, block].concat()
}

/// One TLV.
///
/// # Panics
/// When the value is too long.
pub fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("a short value").to_be_bytes();
    [&[kind][..], &length, value].concat()
}

/// The CRC-32C of `bytes`.
pub fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = !0u32;
    for byte in bytes {
        for bit in 0..8 {
            let carry = (sum ^ u32::from(byte >> bit)) & 1;
            sum = (sum >> 1) ^ (carry * 0x82f6_3b78);
        }
    }
    !sum
}

/// A client of a server that expects a header: connects to a port of 127.0.0.1 and sends `header`.
///
/// # Panics
/// When the server takes no connection.
#[track_caller]
pub fn connect(port: u16, header: &[u8]) -> TcpStream {
    let mut socket = crate::wire::connect(port);
    socket.write_all(header).expect("the server reads");
    socket
}

fn addresses<const N: usize>(block: &[u8]) -> (SocketAddr, SocketAddr) {
    let ip = |at: usize| -> IpAddr {
        let octets = &block[at..at + N];
        match <[u8; 4]>::try_from(octets) {
            Ok(octets) => octets.into(),
            Err(_) => <[u8; 16]>::try_from(octets).expect("16 octets").into(),
        }
    };
    let port = |at: usize| u16::from_be_bytes([block[at], block[at + 1]]);
    (SocketAddr::new(ip(0), port(2 * N)), SocketAddr::new(ip(N), port(2 * N + 2)))
}

fn tlvs(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut found = Vec::new();
    while let [kind, high, low, rest @ ..] = bytes {
        let (value, rest) = rest.split_at(usize::from(*high) << 8 | usize::from(*low));
        found.push((*kind, value.to_vec()));
        bytes = rest;
    }
    assert!(bytes.is_empty(), "a TLV is cut off: {bytes:x?}");
    found
}

#[track_caller]
fn one(tlvs: &[(u8, Vec<u8>)], kind: u8) -> Option<&[u8]> {
    let mut found = tlvs.iter().filter(|(other, _)| *other == kind).map(|(_, value)| value.as_slice());
    let first = found.next();
    assert_eq!(found.next(), None, "{kind:#x} stands there twice");
    first
}
