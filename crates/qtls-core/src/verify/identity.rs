//! Who a peer is, by the leaf it showed.

use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use aws_lc_rs::digest;
use base64ct::{Base64, Encoding};
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::{Name, RelativeDistinguishedName};

use super::allow;
use crate::{Error, Result};

/// The SHA-256 of a DER `SubjectPublicKeyInfo`: a key's name, which survives the renewal of its certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpkiHash([u8; 32]);

impl SpkiHash {
    /// The hash of a DER `SubjectPublicKeyInfo`.
    pub fn of(spki: &[u8]) -> Self {
        let mut octets = [0; 32];
        octets.copy_from_slice(digest::digest(&digest::SHA256, spki).as_ref());
        Self(octets)
    }

    /// Reads 64 hexadecimal digits, with or without colons, or base64, with or without `sha256/` or `sha256//` before
    /// it, as curl and HTTP pins are written.
    pub fn parse(text: &str) -> Result<Self> {
        let wrong = || {
            Error::configuration(format!("\"{text}\" is not the SHA-256 of a public key")).hint(
                "it is 64 hexadecimal digits or 44 characters of base64: `openssl x509 -in CERT -noout -pubkey | \
                 openssl pkey -pubin -outform DER | openssl dgst -sha256`",
            )
        };
        let bare = text.strip_prefix("sha256/").map_or(text, |rest| rest.strip_prefix('/').unwrap_or(rest));
        let mut octets = [0; 32];
        let digits: String = bare.chars().filter(|character| *character != ':').collect();
        if digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            for (octet, pair) in octets.iter_mut().zip(digits.as_bytes().chunks(2)) {
                let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
                *octet = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
            }
            return Ok(Self(octets));
        }
        match Base64::decode(bare, &mut octets) {
            Ok(decoded) if decoded.len() == 32 => Ok(Self(octets)),
            _ => Err(wrong()),
        }
    }

    /// The 32 octets.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// In hexadecimal digits.
impl fmt::Display for SpkiHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(f, &self.0)
    }
}

impl fmt::Debug for SpkiHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a leaf says of its holder. Worth something only after the chain was verified.
///
/// Displayed as one line for logs: `CN=worker, DNS worker.example, URI spiffe://example/worker`. What comes from the
/// certificate can't break the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The subject as RFC 4514 writes it; empty where there is none.
    pub subject: String,
    /// The alternative names of kind DNS, as written.
    pub dns_names: Vec<String>,
    /// The alternative names of kind IP.
    pub ip_addresses: Vec<IpAddr>,
    /// The alternative names of kind URI, as written.
    pub uris: Vec<String>,
    /// The alternative names of kind mail address, as written.
    pub emails: Vec<String>,
    /// The hash of the public key.
    pub spki_sha256: SpkiHash,
    /// The serial number in hexadecimal digits, two for each octet.
    pub serial: String,
    /// The issuer as RFC 4514 writes it.
    pub issuer: String,
    /// The end of validity.
    pub not_after: SystemTime,
    pub(super) name: Name,
}

impl Identity {
    /// Reads a certificate.
    ///
    /// # Errors
    /// What is no certificate, or breaks RFC 5280 so far that its names can't be read.
    pub fn of(leaf: &[u8]) -> Result<Self> {
        let damaged = |error| Error::certificate(format!("the certificate can't be read: {error}"));
        let certificate = Certificate::from_der(leaf).map_err(damaged)?;
        let tbs = certificate.tbs_certificate();
        let spki = tbs.subject_public_key_info().to_der().map_err(damaged)?;
        let names =
            tbs.get_extension::<SubjectAltName>().map_err(damaged)?.map(|(_, names)| names.0).unwrap_or_default();
        let mut identity = Self {
            subject: tbs.subject().to_string(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            uris: Vec::new(),
            emails: Vec::new(),
            spki_sha256: SpkiHash::of(&spki),
            serial: tbs.serial_number().as_bytes().iter().map(|octet| format!("{octet:02x}")).collect(),
            issuer: tbs.issuer().to_string(),
            not_after: tbs.validity().not_after.to_system_time(),
            name: tbs.subject().clone(),
        };
        for name in names {
            match name {
                GeneralName::DnsName(name) => identity.dns_names.push(name.as_str().to_owned()),
                GeneralName::UniformResourceIdentifier(uri) => identity.uris.push(uri.as_str().to_owned()),
                GeneralName::Rfc822Name(address) => identity.emails.push(address.as_str().to_owned()),
                GeneralName::IpAddress(octets) => identity.ip_addresses.extend(ip_address(octets.as_bytes())),
                _ => {}
            }
        }
        Ok(identity)
    }

    /// The first common name of the subject.
    pub fn common_name(&self) -> Option<String> {
        let mut attributes = self.name.iter_rdn().flat_map(RelativeDistinguishedName::iter);
        attributes.find(|attribute| attribute.oid == COMMON_NAME).and_then(allow::text)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if !self.subject.is_empty() {
            parts.push(self.subject.clone());
        }
        parts.extend(self.dns_names.iter().map(|name| format!("DNS {name}")));
        parts.extend(self.ip_addresses.iter().map(|address| format!("IP {address}")));
        parts.extend(self.uris.iter().map(|uri| format!("URI {uri}")));
        parts.extend(self.emails.iter().map(|address| format!("email {address}")));
        if parts.is_empty() {
            return write!(f, "a certificate without names, SPKI SHA-256 {}", self.spki_sha256);
        }
        // A name may hold any ASCII, control characters included, and many of them.
        const MOST: usize = 8;
        for (index, part) in parts.iter().take(MOST).enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{}", part.escape_debug().to_string().replace("\\\\", "\\").replace("\\'", "'"))?;
        }
        match parts.len().saturating_sub(MOST) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// 4 octets or 16.
pub(crate) fn ip_address(octets: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(octets).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// RFC 5280, appendix A.1.
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

fn hex(f: &mut fmt::Formatter<'_>, octets: &[u8]) -> fmt::Result {
    octets.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::test_chain::{build, certificate, extension, tlv};
    use crate::credentials::{generate, signing_key};
    use crate::policy::KeyAlgorithm;

    #[test]
    fn a_hash_is_read_in_every_customary_notation() {
        let hash = SpkiHash::of(b"");
        let hex = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(hash.to_string(), hex);
        let colons: Vec<_> = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
        let base64 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        for text in [
            hex,
            &hex.to_uppercase(),
            &colons.join(":"),
            base64,
            &format!("sha256/{base64}"),
            &format!("sha256//{base64}"),
        ] {
            assert_eq!(SpkiHash::parse(text).unwrap(), hash, "{text}");
        }
        for wrong in ["", &hex[1..], &hex.replace('e', "g"), &base64[4..], "sha1/AAAA", "é3b0"] {
            let error = SpkiHash::parse(wrong).unwrap_err().to_string();
            assert!(error.contains("is not the SHA-256 of a public key") && error.contains("openssl dgst"), "{error}");
        }
    }

    #[test]
    fn an_identity_has_every_kind_of_name() {
        let key = signing_key(&generate(KeyAlgorithm::EcdsaP256).unwrap()).unwrap();
        let names = [
            tlv(0x82, b"a.example"),
            tlv(0x81, b"who@example.org"),
            tlv(0x86, b"spiffe://example/a"),
            tlv(0x87, &[192, 0, 2, 1]),
            tlv(0x87, &[0x20; 16]),
        ]
        .concat();
        let leaf = build("일꾼", "CA", key.as_ref(), (-60, 60), &[extension(0x11, &tlv(0x30, &names))]);
        let identity = Identity::of(&leaf).unwrap();
        assert_eq!(identity.spki_sha256, SpkiHash::of(&key.public_key().unwrap()));
        assert_eq!((identity.serial.as_str(), identity.issuer.as_str()), ("01", "CN=CA"));
        assert_eq!(
            identity.to_string(),
            "CN=일꾼, DNS a.example, IP 192.0.2.1, IP 2020:2020:2020:2020:2020:2020:2020:2020, \
             URI spiffe://example/a, email who@example.org"
        );
        assert_eq!(identity.common_name().as_deref(), Some("일꾼"));
        assert!(Identity::of(&leaf[1..]).is_err());
    }

    #[test]
    fn names_that_would_break_a_log_line_are_escaped() {
        let key = signing_key(&generate(KeyAlgorithm::EcdsaP256).unwrap()).unwrap();
        let many: Vec<String> = (0..20).map(|number| format!("n{number}\n{}", "x".repeat(3))).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let shown = Identity::of(&certificate("a\nb", key.as_ref(), -60, 60, &many)).unwrap().to_string();
        assert!(!shown.contains('\n') && shown.starts_with("CN=a\\0ab, DNS n0\\nxxx, "), "{shown}");
        assert!(shown.ends_with(" and 13 more"), "{shown}");
    }
}
