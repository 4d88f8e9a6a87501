//! What a server behind is told.

use std::fmt;

use qtls_core::credentials::{self, Credential};
use qtls_core::facts::Facts;
use qtls_core::verify::Identity;

use super::tlv::{self, TooLong, Writer};
use super::{Arrival, Party, Version, encode};

/// What a connection is called by those who pass it on, in their logs and in headers (2.2.5).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct UniqueId(Vec<u8>);

impl UniqueId {
    /// A new one: 32 hexadecimal digits of 128 random bits. As text, so that every log can show it.
    ///
    /// # Errors
    /// The random number generator failed.
    pub(crate) fn fresh() -> qtls_core::Result<Self> {
        let octets = credentials::random::<16>()?;
        Ok(Self(format!("{:032x}", u128::from_be_bytes(octets)).into_bytes()))
    }
}

impl From<Vec<u8>> for UniqueId {
    fn from(octets: Vec<u8>) -> Self {
        Self(octets)
    }
}

/// As it is where it is printable ASCII without spaces, else in hexadecimal digits behind `0x`.
impl fmt::Display for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) => f.write_str(text),
            _ => {
                f.write_str("0x")?;
                self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
            }
        }
    }
}

impl fmt::Debug for UniqueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is known of a client's connection, for a server behind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told<'a> {
    /// Who it is, and what the connection is called.
    pub(crate) arrival: &'a Arrival,
    pub(crate) facts: &'a Facts,
    /// Our certificate, unless the client saw none.
    pub(crate) certificate: Option<&'a Credential>,
    /// Whether the client's certificate goes along.
    pub(crate) client_cert: bool,
}

impl Told<'_> {
    /// The header that tells it.
    ///
    /// # Errors
    /// It would be too long, with the client's certificate in it.
    pub(crate) fn header(&self, version: Version) -> Result<Vec<u8>, TooLong> {
        let party = Party::Client { source: self.arrival.client, destination: self.arrival.local };
        let tlvs = match version {
            Version::V1 => Writer::default(),
            Version::V2 => self.tlvs()?,
        };
        encode(version, party, &tlvs)
    }

    fn tlvs(&self) -> Result<Writer, TooLong> {
        let Self { arrival, facts, .. } = self;
        let mut tlvs = Writer::default();
        tlvs.add_checksum();
        if let Some(alpn) = &facts.alpn {
            tlvs.add(tlv::ALPN, alpn)?;
        }
        if let Some(name) = &facts.server_name {
            tlvs.add(tlv::AUTHORITY, name.as_bytes())?;
        }
        if let Some(UniqueId(octets)) = &arrival.unique_id {
            tlvs.add(tlv::UNIQUE_ID, octets)?;
        }
        let leaf = facts.peer_chain.first();
        let mut flags = tlv::CLIENT_SSL;
        if leaf.is_some() {
            // In a resumed session, none is shown again.
            let shown = if facts.resumed { 0 } else { tlv::CLIENT_CERT_CONN };
            flags |= shown | tlv::CLIENT_CERT_SESS;
        }
        // A chain that doesn't verify ends the handshake: what is here was verified.
        tlvs.add_ssl(flags, leaf.is_some(), &self.ssl()?)?;
        Ok(tlvs)
    }

    fn ssl(&self) -> Result<Writer, TooLong> {
        let Self { facts, certificate, client_cert, .. } = self;
        let leaf = facts.peer_chain.first();
        let common_name = leaf.and_then(|leaf| Identity::of(leaf).ok()?.common_name());
        // What is only in a handshake that isn't resumed is left out of the others: nothing of it was seen.
        let certificate = certificate.filter(|_| !facts.resumed);
        let mut ssl = Writer::default();
        let mut text = |kind, text: Option<&str>| text.map_or(Ok(()), |text| ssl.add(kind, text.as_bytes()));
        text(tlv::SSL_VERSION, Some(facts.version_name()))?;
        text(tlv::SSL_CN, common_name.as_deref())?;
        text(tlv::SSL_CIPHER, Some(facts.suite_name()))?;
        text(tlv::SSL_SIG_ALG, certificate.and_then(|certificate| certificate.signed_with))?;
        text(tlv::SSL_KEY_ALG, certificate.map(|certificate| certificate.kind.compact_name()).as_deref())?;
        text(tlv::SSL_GROUP, Some(&facts.group_name()))?;
        text(tlv::SSL_SIG_SCHEME, facts.scheme.map(|_| facts.scheme_name()).as_deref())?;
        if let Some(leaf) = leaf.filter(|_| *client_cert) {
            ssl.add(tlv::SSL_CLIENT_CERT, leaf)?;
        }
        Ok(ssl)
    }
}

#[cfg(test)]
mod tests {
    use qtls_core::credentials::{generate, signing_key};
    use qtls_core::policy::KeyAlgorithm;
    use qtls_pki::issue::{Authority, Profile, Template};
    use rustls::pki_types::CertificateDer;
    use rustls::{ProtocolVersion, SignatureScheme};

    use super::super::tlv::{Reader, SSL_FIXED};
    use super::*;

    fn facts() -> Facts {
        Facts {
            version: ProtocolVersion::TLSv1_3,
            group: 0x11ed,
            suite: 0x1302,
            scheme: Some(SignatureScheme::ML_DSA_65),
            certificate: Some("server-cert-ml-dsa-65".to_owned()),
            reason: None,
            alpn: Some(b"postgresql".to_vec()),
            server_name: Some("db.example".to_owned()),
            resumed: false,
            hello_retry_request: false,
            peer_chain: Vec::new(),
        }
    }

    fn arrival(unique_id: &[u8]) -> Arrival {
        let (client, local) = ("192.0.2.7:56020".parse().unwrap(), "198.51.100.1:443".parse().unwrap());
        Arrival { unique_id: Some(unique_id.to_vec().into()), ..Arrival::new(client, local) }
    }

    /// A certificate that signs itself.
    fn credential(algorithm: KeyAlgorithm, name: &str) -> Credential {
        let key = signing_key(&generate(algorithm).unwrap()).unwrap();
        let now = std::time::SystemTime::now();
        let template = Template {
            profile: Profile::Root,
            common_name: Some(name.to_owned()),
            organization: None,
            names: Vec::new(),
            not_before: now,
            not_after: now + std::time::Duration::from_secs(3600),
        };
        let root = Authority::root(&template, key.clone()).unwrap();
        Credential::from_chain("x", "a chain", vec![root.certificate().clone()], key, "a key").unwrap()
    }

    fn tlvs(header: &[u8]) -> Vec<(u8, Vec<u8>)> {
        read(&header[28..])
    }

    fn read(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        Reader::new(bytes).map(|tlv| tlv.map(|tlv| (tlv.kind, tlv.value.to_vec())).unwrap()).collect()
    }

    #[test]
    fn everything_that_is_known_is_told_octet_for_octet() {
        let certificate = credential(KeyAlgorithm::MlDsa65, "db.example");
        let client = CertificateDer::from(credential(KeyAlgorithm::EcdsaP256, "일꾼").key.cert[0].to_vec());
        let facts = Facts { peer_chain: vec![client.clone()], ..facts() };
        let arrival = arrival(b"a-name");
        let told = Told { arrival: &arrival, facts: &facts, certificate: Some(&certificate), client_cert: true };
        let header = told.header(Version::V2).unwrap();
        let ssl = [
            &b"\x07\0\0\0\0"[..],
            b"\x21\0\x07TLSv1.3",
            b"\x22\0\x06\xec\x9d\xbc\xea\xbe\xbc",
            b"\x23\0\x16TLS_AES_256_GCM_SHA384",
            b"\x24\0\x0cid-ml-dsa-65",
            b"\x25\0\x09ML-DSA-65",
            b"\x26\0\x12SecP384r1MLKEM1024",
            b"\x27\0\x07mldsa65",
            b"\x28",
            &u16::try_from(client.len()).unwrap().to_be_bytes(),
            &client,
        ]
        .concat();
        let tlvs = [
            &b"\x03\0\x04"[..],
            &header[31..35],
            b"\x01\0\x0apostgresql",
            b"\x02\0\x0adb.example",
            b"\x05\0\x06a-name",
            b"\x20",
            &u16::try_from(ssl.len()).unwrap().to_be_bytes(),
            &ssl,
        ]
        .concat();
        let expected = [
            &b"\r\n\r\n\0\r\nQUIT\n\x21\x11"[..],
            &u16::try_from(12 + tlvs.len()).unwrap().to_be_bytes(),
            &[192, 0, 2, 7, 198, 51, 100, 1, 0xda, 0xd4, 0x01, 0xbb],
            &tlvs,
        ]
        .concat();
        assert_eq!(header.escape_ascii().to_string(), expected.escape_ascii().to_string());
        assert!(super::super::decode(&header).unwrap().is_some(), "its checksum is right");
        assert_eq!(told.header(Version::V1).unwrap(), b"PROXY TCP4 192.0.2.7 198.51.100.1 56020 443\r\n");
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        let facts = Facts { alpn: None, server_name: None, scheme: None, resumed: true, ..facts() };
        let arrival = Arrival { unique_id: None, ..arrival(b"") };
        let told = Told { arrival: &arrival, facts: &facts, certificate: None, client_cert: true };
        let header = told.header(Version::V2).unwrap();
        let [(tlv::CRC32C, _), (tlv::SSL, ssl)] = &tlvs(&header)[..] else { panic!("{}", header.escape_ascii()) };
        assert_eq!(ssl[..SSL_FIXED], [1, 0, 0, 0, 1], "no certificate, and so none that was verified");
        let kinds: Vec<_> = read(&ssl[SSL_FIXED..]).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [tlv::SSL_VERSION, tlv::SSL_CIPHER, tlv::SSL_GROUP]);
    }

    #[test]
    fn a_certificate_that_leaves_no_room_is_an_error() {
        let arrival = arrival(b"");
        for (length, fits) in [(60_000, true), (65_410, true), (65_411, false), (65_535, false), (65_536, false)] {
            let facts = Facts { peer_chain: vec![vec![0; length].into()], ..facts() };
            let told = Told { arrival: &arrival, facts: &facts, certificate: None, client_cert: true };
            assert_eq!(told.header(Version::V2).is_ok(), fits, "{length}");
            let told = Told { client_cert: false, ..told };
            assert!(told.header(Version::V2).is_ok(), "{length}");
        }
    }

    #[test]
    fn names_of_connections_are_fresh_and_survive_the_log() {
        let [one, other] = [(); 2].map(|()| UniqueId::fresh().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.to_string().len(), 32);
        assert_eq!(one.0, one.to_string().as_bytes(), "the log has what is sent");
        for (octets, shown) in [
            (&b"3f0e-7A_/+:"[..], "3f0e-7A_/+:"),
            (b"two words", "0x74776f20776f726473"),
            (b"line\n", "0x6c696e650a"),
            (b"\xff\x00", "0xff00"),
            (b"", "0x"),
        ] {
            assert_eq!(UniqueId::from(octets.to_vec()).to_string(), shown);
        }
    }
}
