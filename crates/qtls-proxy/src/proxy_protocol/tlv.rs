//! Type, length and value: what version 2 says beside the addresses (2.2.1 to 2.2.7).

/// The protocol that was agreed on by ALPN (2.2.1).
pub const ALPN: u8 = 0x01;
/// The name that the client asked for (2.2.2).
pub const AUTHORITY: u8 = 0x02;
/// The checksum of the header (2.2.3).
pub const CRC32C: u8 = 0x03;
/// Padding (2.2.4).
pub const NOOP: u8 = 0x04;
/// The sender's name for the connection (2.2.5).
pub const UNIQUE_ID: u8 = 0x05;
/// What is known of the client's TLS (2.2.6): [`SSL_FIXED`] octets, and TLVs of its own.
pub const SSL: u8 = 0x20;
/// In [`SSL`]: the version, as text.
pub const SSL_VERSION: u8 = 0x21;
/// In [`SSL`]: the common name of the client's certificate, in UTF-8.
pub const SSL_CN: u8 = 0x22;
/// In [`SSL`]: the cipher suite, as text.
pub const SSL_CIPHER: u8 = 0x23;
/// In [`SSL`]: what the certificate that the client saw is signed with, as text.
pub const SSL_SIG_ALG: u8 = 0x24;
/// In [`SSL`]: the algorithm of the key of the certificate that the client saw, as text.
pub const SSL_KEY_ALG: u8 = 0x25;
/// In [`SSL`]: the key exchange group, as text.
pub const SSL_GROUP: u8 = 0x26;
/// In [`SSL`]: what the handshake was signed with, as text.
pub const SSL_SIG_SCHEME: u8 = 0x27;
/// In [`SSL`]: the client's certificate, in DER.
pub const SSL_CLIENT_CERT: u8 = 0x28;

/// In the first octet of [`SSL`]: the client came over TLS.
pub const CLIENT_SSL: u8 = 0x01;
/// In the first octet of [`SSL`]: it showed a certificate on this connection.
pub const CLIENT_CERT_CONN: u8 = 0x02;
/// In the first octet of [`SSL`]: it showed a certificate in the session that this connection belongs to.
pub const CLIENT_CERT_SESS: u8 = 0x04;
/// The flags, and the result of verifying.
pub const SSL_FIXED: usize = 5;
/// The longest unique ID (2.2.5).
pub const MAX_UNIQUE_ID: usize = 128;

/// A value, or a header, that is longer than its length field can say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

impl std::fmt::Display for TooLong {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the PROXY header would be longer than 65535 octets")
    }
}

impl std::error::Error for TooLong {}

/// TLVs that are to be sent, one behind the other.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    checksum: Option<usize>,
}

impl Writer {
    /// Adds one.
    ///
    /// # Errors
    /// The value is too long.
    pub fn add(&mut self, kind: u8, value: &[u8]) -> Result<(), TooLong> {
        let length = u16::try_from(value.len()).map_err(|_| TooLong)?;
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(value);
        Ok(())
    }

    /// Adds the place of a checksum, which is computed when the header is made. To be called once.
    pub fn add_checksum(&mut self) {
        self.bytes.extend_from_slice(&[CRC32C, 0, 4]);
        self.checksum = Some(self.bytes.len());
        self.bytes.extend_from_slice(&[0; 4]);
    }

    /// Adds an [`SSL`] with these flags. `verified` is whether the client showed a certificate that was verified; `inner`
    /// are its own TLVs.
    ///
    /// # Errors
    /// They are too long together.
    pub fn add_ssl(&mut self, flags: u8, verified: bool, inner: &Self) -> Result<(), TooLong> {
        let result = u32::from(!verified).to_be_bytes();
        self.add(SSL, &[&[flags][..], &result, &inner.bytes].concat())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Where the checksum is to stand.
    pub(super) fn checksum(&self) -> Option<usize> {
        self.checksum
    }
}

/// A TLV that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    /// What it is.
    pub kind: u8,
    /// What it says.
    pub value: &'a [u8],
    /// Where the value begins.
    pub offset: usize,
}

/// A TLV that reaches beyond the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated;

/// Reads one TLV after the other.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// A reader of these TLVs.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = Result<Tlv<'a>, Truncated>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let read = || {
            let (&[kind, high, low], rest) = rest.split_first_chunk::<3>()?;
            Some((kind, rest.get(..usize::from(u16::from_be_bytes([high, low])))?))
        };
        let Some((kind, value)) = read() else {
            self.at = self.bytes.len();
            return Some(Err(Truncated));
        };
        let offset = self.at + 3;
        self.at = offset + value.len();
        Some(Ok(Tlv { kind, value, offset }))
    }
}

/// The checksum of RFC 4960, Appendix B, over several parts as if they were one.
pub(super) fn crc32c<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u32 {
    let octets = parts.into_iter().flatten();
    !octets.fold(!0, |sum: u32, octet| TABLE[usize::from(sum as u8 ^ octet)] ^ (sum >> 8))
}

/// What each octet does to a checksum: division by the Castagnoli polynomial, least significant bit first.
const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut octet = 0;
    while octet < table.len() {
        let mut sum = octet as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ 0x82f6_3b78 } else { sum >> 1 };
            bit += 1;
        }
        table[octet] = sum;
        octet += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of CRC-32C, and the examples of RFC 3720, B.4.
    #[test]
    fn the_checksum_is_that_of_the_standards() {
        assert_eq!(crc32c([&b"123456789"[..]]), 0xe306_9283);
        assert_eq!(crc32c([&b"1234"[..], b"", b"56789"]), 0xe306_9283);
        assert_eq!(crc32c([&[0; 32][..]]), 0x8a91_36aa);
        assert_eq!(crc32c([&[0xff; 32][..]]), 0x62a8_ab43);
        assert_eq!(crc32c([]), 0);
    }
}
