//! Headers octet by octet, and everything that is none.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::tlv::{self, Reader, Tlv, TooLong, Writer};
use super::{Header, Malformed, Party, REASONS, Refusal, Version, begins, decode, encode, own_header};

fn client(source: &str, destination: &str) -> Party {
    Party::Client { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn v1(party: Party) -> String {
    String::from_utf8(encode(Version::V1, party, &Writer::default()).unwrap()).unwrap()
}

fn v2(party: Party, tlvs: &Writer) -> Vec<u8> {
    encode(Version::V2, party, tlvs).unwrap()
}

fn plain(party: Party, length: usize) -> Result<Option<Header>, Malformed> {
    Ok(Some(Header { party, unique_id: None, length }))
}

const SIGNATURE: [u8; 12] = [0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a];

/// A header of version 2 from its parts; its length is right.
fn raw(command: u8, family: u8, parts: &[&[u8]]) -> Vec<u8> {
    let block = parts.concat();
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [&SIGNATURE[..], &[command, family], &length, &block].concat()
}

const V4: [u8; 12] = [192, 0, 2, 7, 198, 51, 100, 1, 0xda, 0xd4, 0x01, 0xbb];

#[test]
fn lines_of_version_1_are_those_of_the_specification() {
    for (party, line) in [
        (client("192.168.0.1:56324", "192.168.0.11:443"), "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n"),
        (client("255.255.255.255:65535", "255.255.255.255:65535"), {
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"
        }),
        (client("[2001:db8::1]:1", "[2001:db8::2]:443"), "PROXY TCP6 2001:db8::1 2001:db8::2 1 443\r\n"),
        // As a socket of both families tells it.
        (client("[::ffff:192.0.2.7]:1", "[::ffff:192.0.2.8]:2"), "PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n"),
        // The one in the other's family, without dots.
        (client("192.0.2.7:1", "[2001:db8::2]:2"), "PROXY TCP6 ::ffff:c000:207 2001:db8::2 1 2\r\n"),
        (client("[2001:db8::2]:2", "192.0.2.7:1"), "PROXY TCP6 2001:db8::2 ::ffff:c000:207 2 1\r\n"),
        (client("[fe80::1%7]:0", "[::1]:2"), "PROXY TCP6 fe80::1 ::1 0 2\r\n"),
        (Party::Unknown, "PROXY UNKNOWN\r\n"),
        (Party::Sender, "PROXY UNKNOWN\r\n"),
    ] {
        assert_eq!(v1(party), line);
        let Ok(Some(header)) = decode(line.as_bytes()) else { panic!("{line:?}") };
        assert_eq!((header.length, v1(header.party)), (line.len(), line.to_owned()));
    }
    let all = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let longest = format!("PROXY UNKNOWN {all} {all} 65535 65535\r\n");
    assert_eq!(longest.len(), 107);
    assert_eq!(decode(longest.as_bytes()), plain(Party::Unknown, 107));
}

#[test]
fn a_line_is_read_only_when_it_is_whole() {
    let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 56020 443\r\n";
    for end in 0..line.len() {
        assert_eq!(decode(&line[..end]), Ok(None), "{end}");
    }
    let followed = [&line[..], b"\x16\x03\x01\r\n"].concat();
    assert_eq!(decode(&followed), plain(client("192.0.2.7:56020", "198.51.100.1:443"), line.len()));
}

#[test]
fn what_is_not_exactly_a_line_is_refused() {
    use Malformed::{Address, Line, LineEnd, Missing, Port, TooLong};
    for (line, why) in [
        // Other beginnings.
        ("", None),
        ("PROX", None),
        ("proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n", Some(Missing)),
        ("PROXYTCP4 1.1.1.1 1.1.1.1 1 1\r\n", Some(Missing)),
        ("\r\nPROXY TCP4 1.1.1.1 1.1.1.1 1 1\r\n", Some(Missing)),
        ("GET / HTTP/1.1\r\n", Some(Missing)),
        ("PROXY\r\n", Some(Missing)),
        // Other ends.
        ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n", Some(LineEnd)),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\r", None),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1\rX", Some(LineEnd)),
        ("PROXY TCP4 1.1.1.1\n1.1.1.1 1 1\r\n", Some(LineEnd)),
        ("PROXY UNKNOWN x\rx\r\n", Some(LineEnd)),
        // Other parts.
        ("PROXY \r\n", Some(Line)),
        ("PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n", Some(Line)),
        ("PROXY TCP4  1.1.1.1 1.1.1.1 1 1\r\n", Some(Line)),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n", Some(Line)),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 1 1 1\r\n", Some(Line)),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n", Some(Line)),
        ("PROXY TCP4\t1.1.1.1 1.1.1.1 1 1\r\n", Some(Line)),
        ("PROXY TCP5 1.1.1.1 1.1.1.1 1 1\r\n", Some(Line)),
        ("PROXY tcp4 1.1.1.1 1.1.1.1 1 1\r\n", Some(Line)),
        ("PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n", Some(Line)),
        ("PROXY UNKNOWNS\r\n", Some(Line)),
        ("PROXY \u{e9} 1.1.1.1 1.1.1.1 1 1\r\n", Some(Line)),
        // Addresses that are none, or of the other family.
        ("PROXY TCP4 01.1.1.1 1.1.1.1 1 1\r\n", Some(Address)),
        ("PROXY TCP4 1.1.1 1.1.1.1 1 1\r\n", Some(Address)),
        ("PROXY TCP4 1.1.1.256 1.1.1.1 1 1\r\n", Some(Address)),
        ("PROXY TCP4 1.1.1.1 0x1.1.1.1 1 1\r\n", Some(Address)),
        ("PROXY TCP4 ::1 ::1 1 1\r\n", Some(Address)),
        ("PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n", Some(Address)),
        ("PROXY TCP6 ::1::1 ::1 1 1\r\n", Some(Address)),
        ("PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n", Some(Address)),
        ("PROXY TCP6 [::1] ::1 1 1\r\n", Some(Address)),
        ("PROXY TCP6 00001::1 ::1 1 1\r\n", Some(Address)),
        // Ports that are none.
        ("PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n", Some(Port)),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 00 1\r\n", Some(Port)),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 1 65536\r\n", Some(Port)),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n", Some(Port)),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 -1 1\r\n", Some(Port)),
        ("PROXY TCP4 1.1.1.1 1.1.1.1 1 99999999999999999999\r\n", Some(Port)),
    ] {
        let expected = why.map_or(Ok(None), Err);
        assert_eq!(decode(line.as_bytes()), expected, "{line:?}");
    }
    let endless = |length: usize| [&b"PROXY UNKNOWN "[..], &vec![b'x'; length - 14]].concat();
    assert_eq!(decode(&endless(106)), Ok(None));
    assert_eq!(decode(&endless(107)), Err(TooLong));
    assert_eq!(decode(&[&endless(105)[..], b"\r\n"].concat()), plain(Party::Unknown, 107));
    // The end begins within the limit, and ends behind it.
    assert_eq!(decode(&[&endless(106)[..], b"\r\n"].concat()), Err(TooLong));
    assert_eq!(decode(&endless(100_000)), Err(TooLong));
    let zero = "PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n";
    assert_eq!(decode(zero.as_bytes()), plain(client("0.0.0.0:0", "0.0.0.0:0"), zero.len()));
}

#[test]
fn headers_of_version_2_are_those_of_the_specification() {
    let none = Writer::default();
    assert_eq!(v2(client("192.0.2.7:56020", "198.51.100.1:443"), &none), raw(0x21, 0x11, &[&V4]));
    let six = [
        &[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1][..],
        &[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
        &[0x00, 0x01, 0x01, 0xbb],
    ];
    assert_eq!(v2(client("[2001:db8::1]:1", "[2001:db8::2]:443"), &none), raw(0x21, 0x21, &six));
    let mixed = [
        &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 7][..],
        &[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
        &[0x00, 0x01, 0x01, 0xbb],
    ];
    assert_eq!(v2(client("192.0.2.7:1", "[2001:db8::2]:443"), &none), raw(0x21, 0x21, &mixed));
    assert_eq!(
        v2(client("[::ffff:192.0.2.7]:56020", "198.51.100.1:443"), &none),
        raw(0x21, 0x11, &[&V4]),
        "as a socket of both families tells it"
    );
    assert_eq!(v2(Party::Sender, &none), raw(0x20, 0x00, &[]));
    assert_eq!(v2(Party::Unknown, &none), raw(0x21, 0x00, &[]));
}

/// Everything at once, written out.
#[test]
fn tlvs_stand_behind_the_addresses_in_order() {
    let mut ssl = Writer::default();
    ssl.add(tlv::SSL_VERSION, b"TLSv1.3").unwrap();
    ssl.add(tlv::SSL_GROUP, b"X25519MLKEM768").unwrap();
    let mut tlvs = Writer::default();
    tlvs.add_checksum();
    tlvs.add(tlv::ALPN, b"h2").unwrap();
    tlvs.add(tlv::UNIQUE_ID, b"").unwrap();
    tlvs.add_ssl(tlv::CLIENT_SSL | tlv::CLIENT_CERT_CONN | tlv::CLIENT_CERT_SESS, true, &ssl).unwrap();
    let header = v2(client("192.0.2.7:56020", "198.51.100.1:443"), &tlvs);
    let expected = [
        &SIGNATURE[..],
        &[0x21, 0x11, 0x00, 0x3e],
        &V4,
        &[0x03, 0x00, 0x04],
        &header[31..35],
        &[0x01, 0x00, 0x02, b'h', b'2'],
        &[0x05, 0x00, 0x00],
        &[0x20, 0x00, 0x20, 0x07, 0, 0, 0, 0],
        b"\x21\x00\x07TLSv1.3",
        b"\x26\x00\x0eX25519MLKEM768",
    ]
    .concat();
    assert_eq!(header, expected);
    // By another implementation of the same checksum, bit by bit.
    let mut zeroed = header.clone();
    zeroed[31..35].fill(0);
    assert_eq!(u32::from_be_bytes(header[31..35].try_into().unwrap()), bit_by_bit(&zeroed));
    let unique_id = Some(Vec::new());
    let party = client("192.0.2.7:56020", "198.51.100.1:443");
    assert_eq!(decode(&header), Ok(Some(Header { party, unique_id, length: header.len() })));
    // The type of the checksum is another TLV's then, which leaves it without one.
    for bit in (0..header.len() * 8).filter(|bit| bit / 8 != 28) {
        let mut flipped = header.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // What reads as a longer header is waited for.
        let is_right = matches!(decode(&flipped), Ok(Some(header)) if header.party == party);
        assert!(!is_right, "bit {bit}");
    }
}

fn bit_by_bit(bytes: &[u8]) -> u32 {
    let mut sum = !0u32;
    for byte in bytes {
        for bit in 0..8 {
            let carry = (sum ^ u32::from(byte >> bit)) & 1;
            sum = (sum >> 1) ^ (carry * 0x82f6_3b78);
        }
    }
    !sum
}

#[test]
fn what_is_too_long_for_its_length_is_not_sent() {
    let mut tlvs = Writer::default();
    assert_eq!(tlvs.add(tlv::NOOP, &vec![0; 65_536]), Err(TooLong));
    let party = client("192.0.2.7:1", "192.0.2.8:2");
    // 12 for the addresses, 3 for the type and the length.
    tlvs.add(tlv::NOOP, &vec![0; 65_535 - 15]).unwrap();
    let header = v2(party, &tlvs);
    assert_eq!(header.len(), 16 + 65_535);
    assert_eq!(decode(&header), plain(party, header.len()));
    assert_eq!(encode(Version::V2, client("[::1]:1", "[::1]:2"), &tlvs), Err(TooLong));
    let mut ssl = Writer::default();
    ssl.add(tlv::SSL_CLIENT_CERT, &vec![0; 65_531]).unwrap();
    assert_eq!(Writer::default().add_ssl(1, true, &ssl), Err(TooLong));
}

#[test]
fn what_is_not_exactly_a_header_of_version_2_is_refused() {
    use Malformed::{Checksum, Command, Family, Length, Missing, Tlv, UniqueId, Version};
    let v6 = [1; 36];
    let long = vec![b'x'; 129];
    let tlv = |kind: u8, value: &[u8]| [&[kind, 0, value.len() as u8][..], value].concat();
    for (header, why) in [
        (raw(0x11, 0x11, &[&V4]), Version),
        (raw(0x31, 0x11, &[&V4]), Version),
        (raw(0x01, 0x11, &[&V4]), Version),
        (raw(0x22, 0x11, &[&V4]), Command),
        (raw(0x2f, 0x11, &[&V4]), Command),
        (raw(0x21, 0x41, &[&V4]), Family),
        (raw(0x21, 0x13, &[&V4]), Family),
        (raw(0x21, 0xff, &[&V4]), Family),
        (raw(0x21, 0x11, &[&V4[..11]]), Length),
        (raw(0x21, 0x11, &[]), Length),
        (raw(0x21, 0x21, &[&v6[..35]]), Length),
        (raw(0x21, 0x31, &[&[0; 215]]), Length),
        (raw(0x21, 0x12, &[&V4[..11]]), Length),
        (raw(0x21, 0x11, &[&V4, &[4]]), Tlv),
        (raw(0x21, 0x11, &[&V4, &[4, 0]]), Tlv),
        (raw(0x21, 0x11, &[&V4, &[4, 0, 1]]), Tlv),
        (raw(0x21, 0x11, &[&V4, &[4, 0xff, 0xff, 0]]), Tlv),
        (raw(0x21, 0x11, &[&V4, &tlv(4, b""), &[1]]), Tlv),
        (raw(0x21, 0x21, &[&v6, &[0xea, 0, 2, 1]]), Tlv),
        (raw(0x21, 0x31, &[&[0; 216], &[1]]), Tlv),
        (raw(0x21, 0x11, &[&V4, &tlv(tlv::UNIQUE_ID, &long)]), UniqueId),
        (raw(0x21, 0x11, &[&V4, &tlv(tlv::CRC32C, b"")]), Checksum),
        (raw(0x21, 0x11, &[&V4, &tlv(tlv::CRC32C, &[0; 3])]), Checksum),
        (raw(0x21, 0x11, &[&V4, &tlv(tlv::CRC32C, &[0; 5])]), Checksum),
        (raw(0x21, 0x11, &[&V4, &tlv(tlv::CRC32C, &[0; 4])]), Checksum),
    ] {
        assert_eq!(decode(&header), Err(why), "{header:x?}");
        // With anything behind it, too.
        assert_eq!(decode(&[&header[..], &[0; 300]].concat()), Err(why), "{header:x?}");
    }
    let mut twice = Writer::default();
    twice.add_checksum();
    let mut twice = v2(client("192.0.2.7:1", "192.0.2.8:2"), &twice);
    twice[15] += 7;
    twice.extend_from_slice(&[3, 0, 4, 0, 0, 0, 0]);
    assert_eq!(decode(&twice), Err(Checksum));
    // The signature, and not quite.
    for index in 0..12 {
        let mut header = raw(0x21, 0x11, &[&V4]);
        header[index] ^= 1;
        assert_eq!(decode(&header), Err(Missing), "{index}");
    }
}

#[test]
fn what_names_no_client_of_ours_leaves_the_connection_as_it_is() {
    let garbage = [0xff; 40];
    for (header, party) in [
        // LOCAL is to be skipped, whatever is in it.
        (raw(0x20, 0x00, &[]), Party::Sender),
        (raw(0x20, 0x00, &[&garbage]), Party::Sender),
        (raw(0x20, 0x11, &[&V4]), Party::Sender),
        (raw(0x20, 0xff, &[&garbage]), Party::Sender),
        (raw(0x20, 0x11, &[]), Party::Sender),
        // Without a family, nothing says how long the addresses are.
        (raw(0x21, 0x00, &[]), Party::Unknown),
        (raw(0x21, 0x00, &[&garbage]), Party::Unknown),
        (raw(0x21, 0x10, &[&garbage]), Party::Unknown),
        (raw(0x21, 0x01, &[&garbage]), Party::Unknown),
        // Datagrams and sockets of a host.
        (raw(0x21, 0x12, &[&V4]), Party::Unknown),
        (raw(0x21, 0x22, &[&[0; 36]]), Party::Unknown),
        (raw(0x21, 0x31, &[&[b'/'; 216], &[4, 0, 0]]), Party::Unknown),
        (raw(0x21, 0x32, &[&[b'/'; 216]]), Party::Unknown),
    ] {
        assert_eq!(decode(&header), plain(party, header.len()), "{header:x?}");
    }
}

#[test]
fn a_header_of_version_2_is_read_only_when_it_is_whole() {
    let mut tlvs = Writer::default();
    tlvs.add_checksum();
    tlvs.add(tlv::UNIQUE_ID, &[b'u'; 128]).unwrap();
    tlvs.add(0xe0, b"whatever").unwrap();
    let party = client("[2001:db8::1]:1", "[2001:db8::2]:443");
    let header = v2(party, &tlvs);
    for end in 0..header.len() {
        assert_eq!(decode(&header[..end]), Ok(None), "{end}");
    }
    let whole = Header { party, unique_id: Some(vec![b'u'; 128]), length: header.len() };
    assert_eq!(decode(&[&header[..], b"\x16\x03\x01"].concat()), Ok(Some(whole)));
}

#[test]
fn a_beginning_is_known_as_early_as_it_can_be() {
    for (bytes, begun) in [
        (&b""[..], None),
        (b"P", None),
        (b"PROXY", None),
        (b"PROXY ", Some(true)),
        (b"PROXY TCP4", Some(true)),
        (b"POST / ", Some(false)),
        (b"PROX/", Some(false)),
        (b"\r\n\r\n\0", None),
        (b"\r\n\r\n\0\r", Some(true)),
        (b"\r\n\r\nGET", Some(false)),
        (b"\x16\x03\x01", Some(false)),
    ] {
        assert_eq!(begins(bytes), begun, "{bytes:?}");
    }
}

#[test]
fn every_reason_is_in_the_list_of_metrics() {
    use Malformed as M;
    let damaged = [
        M::Missing,
        M::TooLong,
        M::LineEnd,
        M::Line,
        M::Address,
        M::Port,
        M::Version,
        M::Command,
        M::Family,
        M::Length,
        M::Tlv,
        M::UniqueId,
        M::Checksum,
    ];
    let others = [Refusal::Untrusted, Refusal::Closed, Refusal::Late(std::time::Duration::ZERO)];
    let mut reasons: Vec<_> = damaged.map(Refusal::Malformed).into_iter().chain(others).map(Refusal::reason).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, REASONS);
}

/// A small generator of reproducible numbers (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.below(256) as u8).collect()
    }

    fn address(&mut self) -> SocketAddr {
        let port = self.below(65_536) as u16;
        let ip: IpAddr = match self.below(3) {
            0 => Ipv4Addr::from_bits(self.below(1 << 32) as u32).into(),
            1 => Ipv6Addr::from_bits(self.below(usize::MAX) as u128).into(),
            _ => Ipv6Addr::from_bits((self.below(usize::MAX) as u128) << 64 | self.below(usize::MAX) as u128).into(),
        };
        SocketAddr::new(ip, port)
    }
}

/// What another reading of the specification finds in a header, written for tests: addresses by offsets, TLVs by recursion.
fn read_otherwise(header: &[u8]) -> (SocketAddr, SocketAddr, Vec<(u8, Vec<u8>)>) {
    assert_eq!(&header[..13], b"\r\n\r\n\0\r\nQUIT\n\x21");
    assert_eq!(header.len() - 16, usize::from(header[14]) * 256 + usize::from(header[15]));
    let width = match header[13] {
        0x11 => 4,
        0x21 => 16,
        other => panic!("{other:x}"),
    };
    let ip = |at: usize| -> IpAddr {
        match width {
            4 => <[u8; 4]>::try_from(&header[at..at + 4]).unwrap().into(),
            _ => <[u8; 16]>::try_from(&header[at..at + 16]).unwrap().into(),
        }
    };
    let port = |at: usize| u16::from(header[at]) << 8 | u16::from(header[at + 1]);
    let ports = 16 + 2 * width;
    let source = SocketAddr::new(ip(16), port(ports));
    let destination = SocketAddr::new(ip(16 + width), port(ports + 2));
    fn tlvs(bytes: &[u8], found: &mut Vec<(u8, Vec<u8>)>) {
        if bytes.is_empty() {
            return;
        }
        let length = usize::from(bytes[1]) * 256 + usize::from(bytes[2]);
        found.push((bytes[0], bytes[3..3 + length].to_vec()));
        tlvs(&bytes[3 + length..], found);
    }
    let mut found = Vec::new();
    tlvs(&header[ports + 4..], &mut found);
    (source, destination, found)
}

#[test]
fn what_is_written_is_read_by_this_and_by_another_reader() {
    for seed in 1..=3000u64 {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let party = Party::Client { source: numbers.address(), destination: numbers.address() };
        let mut tlvs = Writer::default();
        let mut added = Vec::new();
        let checksum = numbers.below(2) == 0;
        if checksum {
            tlvs.add_checksum();
        }
        let unique_id = (numbers.below(2) == 0).then(|| numbers.bytes(128));
        if let Some(unique_id) = &unique_id {
            tlvs.add(tlv::UNIQUE_ID, unique_id).unwrap();
            added.push((tlv::UNIQUE_ID, unique_id.clone()));
        }
        for _ in 0..numbers.below(8) {
            let kind = 0x20 + numbers.below(0xe0) as u8;
            let value = numbers.bytes(700);
            tlvs.add(kind, &value).unwrap();
            added.push((kind, value));
        }
        let header = v2(party, &tlvs);
        let Ok(Some(read)) = decode(&header) else { panic!("seed {seed}") };
        assert_eq!((&read.unique_id, read.length), (&unique_id, header.len()), "seed {seed}");
        let (source, destination, mut found) = read_otherwise(&header);
        assert_eq!(read.party, Party::Client { source, destination }, "seed {seed}");
        let canonical = |party| {
            let Party::Client { source, destination } = party else { unreachable!() };
            [source, destination].map(|address| (address.ip().to_canonical(), address.port()))
        };
        assert_eq!(canonical(read.party), canonical(party), "seed {seed}");
        if checksum {
            assert_eq!(found.remove(0).0, tlv::CRC32C, "seed {seed}");
        }
        assert_eq!(found, added, "seed {seed}");
        let line = v1(party);
        let Ok(Some(Header { party: told, length, .. })) = decode(line.as_bytes()) else {
            panic!("seed {seed}: {line}")
        };
        assert_eq!((length, canonical(told)), (line.len(), canonical(party)), "seed {seed}: {line}");
        // Mutated, it is anything but a panic, and never longer than what there is.
        let mut mutated = [header, line.into_bytes()][numbers.below(2)].clone();
        for _ in 0..1 + numbers.below(4) {
            let at = numbers.below(mutated.len());
            match numbers.below(3) {
                0 => mutated[at] = numbers.below(256) as u8,
                1 => mutated.truncate(at + 1),
                _ => mutated.insert(at, numbers.below(256) as u8),
            }
        }
        if let Ok(Some(header)) = decode(&mutated) {
            assert!(header.length <= mutated.len(), "seed {seed}");
        }
    }
}

#[tokio::test]
async fn a_connection_of_our_own_is_told_as_such() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (own, other) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    let tcp = stream.into();
    assert_eq!(own_header(Version::V2, &tcp), raw(0x20, 0x00, &[]));
    let line = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r\n", own.port(), other.port());
    assert_eq!(own_header(Version::V1, &tcp), line.as_bytes());
    let unix = tokio::net::UnixStream::pair().unwrap().0.into();
    assert_eq!(own_header(Version::V2, &unix), raw(0x20, 0x00, &[]));
    assert_eq!(own_header(Version::V1, &unix), b"PROXY UNKNOWN\r\n");
}

#[test]
fn a_reader_ends_at_the_first_tlv_that_is_cut_off() {
    let read: Vec<_> = Reader::new(&[1, 0, 1, 7, 2, 0, 0, 3, 0, 9, 0]).collect();
    assert_eq!(
        read,
        [Ok(Tlv { kind: 1, value: &[7], offset: 3 }), Ok(Tlv { kind: 2, value: &[], offset: 7 }), Err(tlv::Truncated)]
    );
}
