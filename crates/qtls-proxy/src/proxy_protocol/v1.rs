//! Version 1: one line of text (2.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{Header, Malformed, Pair, Party, in_one_family};

/// What every line begins with.
pub(super) const PREFIX: &[u8] = b"PROXY ";
/// The longest line, with its end.
pub(super) const MAX_LINE: usize = 107;

/// Whether these may be the first bytes of a line; also where they are too few to tell.
pub(super) fn may_begin(bytes: &[u8]) -> bool {
    let known = bytes.len().min(PREFIX.len());
    bytes[..known] == PREFIX[..known]
}

pub(super) fn encode(party: Party) -> Vec<u8> {
    match party {
        Party::Sender | Party::Unknown => b"PROXY UNKNOWN\r\n".to_vec(),
        Party::Client { source, destination } => {
            let (family, source, destination) = match in_one_family(source, destination) {
                Pair::V4(source, destination) => ("TCP4", SocketAddr::V4(source), SocketAddr::V4(destination)),
                Pair::V6(source, destination) => ("TCP6", SocketAddr::V6(source), SocketAddr::V6(destination)),
            };
            let (from, to) = (text(source.ip()), text(destination.ip()));
            format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes()
        }
    }
}

pub(super) fn decode(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let visible = &bytes[..bytes.len().min(MAX_LINE)];
    let Some(end) = visible.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return if visible.len() < MAX_LINE { Ok(None) } else { Err(Malformed::TooLong) };
    };
    match visible[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] if visible.len() < MAX_LINE => return Ok(None),
        [b'\r'] => return Err(Malformed::TooLong),
        _ => return Err(Malformed::LineEnd),
    }
    let line = visible.get(PREFIX.len()..end).ok_or(Malformed::Line)?;
    Ok(Some(Header { party: parse(line)?, unique_id: None, length: end + 2 }))
}

/// What stands behind the first space.
fn parse(line: &[u8]) -> Result<Party, Malformed> {
    // What follows this word means nothing.
    if line == b"UNKNOWN" || line.starts_with(b"UNKNOWN ") {
        return Ok(Party::Unknown);
    }
    let line = std::str::from_utf8(line).map_err(|_| Malformed::Line)?;
    let mut words = line.split(' ');
    let mut next = || words.next().filter(|word| !word.is_empty()).ok_or(Malformed::Line);
    let (family, from, to, from_port, to_port) = (next()?, next()?, next()?, next()?, next()?);
    if words.next().is_some() {
        return Err(Malformed::Line);
    }
    let address = match family {
        "TCP4" => |text: &str| Ipv4Addr::from_str(text).map(IpAddr::V4),
        "TCP6" => |text: &str| Ipv6Addr::from_str(text).map(IpAddr::V6),
        _ => return Err(Malformed::Line),
    };
    let address = |text| address(text).map_err(|_| Malformed::Address);
    Ok(Party::Client {
        source: SocketAddr::new(address(from)?, port(from_port)?),
        destination: SocketAddr::new(address(to)?, port(to_port)?),
    })
}

/// A port without zeros in front, which could be taken for the mark of an octal number.
fn port(text: &str) -> Result<u16, Malformed> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if canonical { text.parse().map_err(|_| Malformed::Port) } else { Err(Malformed::Port) }
}

/// The specification knows hexadecimal digits and colons alone, where Rust writes the end of some addresses with dots.
fn text(address: IpAddr) -> String {
    match address {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_some() => {
            let [.., high, low] = address.segments();
            format!("::ffff:{high:x}:{low:x}")
        }
        address => address.to_string(),
    }
}
