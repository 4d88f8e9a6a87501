//! Version 2: the binary header (2.2).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::tlv::{self, CRC32C, TooLong, UNIQUE_ID, Writer};
use super::{Header, Malformed, Pair, Party, in_one_family};

/// What every header begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family and protocol, length.
const FIXED: usize = 16;
/// Version 2 and LOCAL; with PROXY, it is one more.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

const UNSPECIFIED: u8 = 0x00;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// Whether these may be the first bytes of a header; also where they are too few to tell.
pub(super) fn may_begin(bytes: &[u8]) -> bool {
    let known = bytes.len().min(SIGNATURE.len());
    bytes[..known] == SIGNATURE[..known]
}

pub(super) fn encode(party: Party, tlvs: &Writer) -> Result<Vec<u8>, TooLong> {
    let (command, family, addresses) = match party {
        Party::Sender => (LOCAL, UNSPECIFIED, Vec::new()),
        Party::Unknown => (PROXY, UNSPECIFIED, Vec::new()),
        Party::Client { source, destination } => match in_one_family(source, destination) {
            Pair::V4(source, destination) => (
                PROXY,
                TCP4,
                block(&source.ip().octets(), &destination.ip().octets(), source.port(), destination.port()),
            ),
            Pair::V6(source, destination) => (
                PROXY,
                TCP6,
                block(&source.ip().octets(), &destination.ip().octets(), source.port(), destination.port()),
            ),
        },
    };
    let length = u16::try_from(addresses.len() + tlvs.bytes().len()).map_err(|_| TooLong)?;
    let mut header = Vec::with_capacity(FIXED + usize::from(length));
    header.extend_from_slice(SIGNATURE);
    header.extend_from_slice(&[command, family]);
    header.extend_from_slice(&length.to_be_bytes());
    header.extend_from_slice(&addresses);
    let at = header.len();
    header.extend_from_slice(tlvs.bytes());
    if let Some(offset) = tlvs.checksum() {
        let sum = tlv::crc32c([&header[..]]);
        header[at + offset..][..4].copy_from_slice(&sum.to_be_bytes());
    }
    Ok(header)
}

/// The header of a connection that is the sender's own.
pub(super) fn local() -> Vec<u8> {
    [&SIGNATURE[..], &[LOCAL, UNSPECIFIED, 0, 0]].concat()
}

pub(super) fn decode(bytes: &[u8]) -> Result<Option<Header>, Malformed> {
    let Some((command, family)) = bytes.get(12).zip(bytes.get(13)) else {
        // Known a little earlier than the rest.
        return bytes.get(12).map_or(Ok(()), |command| version(*command)).map(|()| None);
    };
    version(*command)?;
    let is_local = match command & 0x0f {
        0 => true,
        1 => false,
        _ => return Err(Malformed::Command),
    };
    let kinds = (family >> 4, family & 0x0f);
    // With LOCAL, the family is to be ignored with everything else.
    if !is_local && (kinds.0 > 3 || kinds.1 > 2) {
        return Err(Malformed::Family);
    }
    let addresses = match kinds {
        _ if is_local => 0,
        (0, _) | (_, 0) => 0,
        (1, _) => 12,
        (2, _) => 36,
        _ => 216,
    };
    let Some(&[high, low]) = bytes.get(14..FIXED) else { return Ok(None) };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length < FIXED + addresses {
        return Err(Malformed::Length);
    }
    let Some(header) = bytes.get(..length) else { return Ok(None) };
    let (block, tlvs) = header[FIXED..].split_at(addresses);
    let party = match *family {
        _ if is_local => Party::Sender,
        TCP4 => client::<4>(block).ok_or(Malformed::Length)?,
        TCP6 => client::<16>(block).ok_or(Malformed::Length)?,
        _ => Party::Unknown,
    };
    // Where no addresses are expected, there may be some all the same, and nothing says how long they are: what stands
    // there is to be skipped.
    let unique_id = if addresses == 0 { None } else { read_tlvs(header, tlvs)? };
    Ok(Some(Header { party, unique_id, length }))
}

fn version(command: u8) -> Result<(), Malformed> {
    if command >> 4 == 2 { Ok(()) } else { Err(Malformed::Version) }
}

fn block(source: &[u8], destination: &[u8], from: u16, to: u16) -> Vec<u8> {
    [source, destination, &from.to_be_bytes(), &to.to_be_bytes()].concat()
}

/// Two addresses of `N` octets, and two ports.
fn client<const N: usize>(block: &[u8]) -> Option<Party> {
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let &[a, b, c, d] = rest else { return None };
    let address = |octets: &[u8; N], port| {
        let ip = match <[u8; 4]>::try_from(octets.as_slice()) {
            Ok(octets) => Ipv4Addr::from(octets).into(),
            Err(_) => Ipv6Addr::from(<[u8; 16]>::try_from(octets.as_slice()).ok()?).into(),
        };
        Some(SocketAddr::new(ip, u16::from_be_bytes(port)))
    };
    Some(Party::Client { source: address(source, [a, b])?, destination: address(destination, [c, d])? })
}

/// Looks through the TLVs of a whole header for what counts here. What is unknown is ignored, but must be well-formed.
fn read_tlvs(header: &[u8], tlvs: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    let (mut unique_id, mut sum) = (None, None);
    for item in tlv::Reader::new(tlvs) {
        let tlv::Tlv { kind, value, offset } = item.map_err(|tlv::Truncated| Malformed::Tlv)?;
        match kind {
            UNIQUE_ID if value.len() > tlv::MAX_UNIQUE_ID => return Err(Malformed::UniqueId),
            UNIQUE_ID => unique_id = Some(value.to_vec()),
            CRC32C => {
                let told = <[u8; 4]>::try_from(value).map_err(|_| Malformed::Checksum)?;
                let told = (u32::from_be_bytes(told), header.len() - tlvs.len() + offset);
                if sum.replace(told).is_some() {
                    return Err(Malformed::Checksum);
                }
            }
            _ => {}
        }
    }
    match sum {
        Some((told, at)) if tlv::crc32c([&header[..at], &[0; 4], &header[at + 4..]]) != told => {
            Err(Malformed::Checksum)
        }
        _ => Ok(unique_id),
    }
}
