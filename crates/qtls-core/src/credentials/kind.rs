//! What kind of key a public key is: the algorithm, and for RSA the size.

use std::fmt;

use rustls::sign::SigningKey;
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier};
use x509_cert::der::{Decode, Reader, SliceReader};
use x509_cert::spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef};

use crate::{Error, Result};

/// The algorithm of a key, and its strength where the algorithm alone doesn't say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// RSA with a modulus of this many bits.
    Rsa(u32),
    /// ECDSA over NIST P-256 (secp256r1).
    EcdsaP256,
    /// ECDSA over NIST P-384 (secp384r1).
    EcdsaP384,
    /// ECDSA over NIST P-521 (secp521r1).
    EcdsaP521,
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// ML-DSA-44 (FIPS 204).
    MlDsa44,
    /// ML-DSA-65 (FIPS 204).
    MlDsa65,
    /// ML-DSA-87 (FIPS 204).
    MlDsa87,
}

impl KeyKind {
    /// The name in a configuration: `ecdsa-p384`, `rsa-4096`, `ml-dsa-65`.
    pub fn name(self) -> String {
        match self {
            Self::Rsa(bits) => format!("rsa-{bits}"),
            Self::EcdsaP256 => "ecdsa-p256".to_owned(),
            Self::EcdsaP384 => "ecdsa-p384".to_owned(),
            Self::EcdsaP521 => "ecdsa-p521".to_owned(),
            Self::Ed25519 => "ed25519".to_owned(),
            Self::MlDsa44 => "ml-dsa-44".to_owned(),
            Self::MlDsa65 => "ml-dsa-65".to_owned(),
            Self::MlDsa87 => "ml-dsa-87".to_owned(),
        }
    }
}

impl KeyKind {
    /// The name that OpenSSL gives such keys, in one word with the size: `RSA2048`, `EC384`, `ML-DSA-65`.
    pub fn compact_name(self) -> String {
        match self {
            Self::Rsa(bits) => format!("RSA{bits}"),
            Self::EcdsaP256 => "EC256".to_owned(),
            Self::EcdsaP384 => "EC384".to_owned(),
            Self::EcdsaP521 => "EC521".to_owned(),
            Self::Ed25519 => "ED25519".to_owned(),
            Self::MlDsa44 => "ML-DSA-44".to_owned(),
            Self::MlDsa65 => "ML-DSA-65".to_owned(),
            Self::MlDsa87 => "ML-DSA-87".to_owned(),
        }
    }

    /// Whether signatures by this key withstand a quantum computer.
    pub const fn is_post_quantum(self) -> bool {
        matches!(self, Self::MlDsa44 | Self::MlDsa65 | Self::MlDsa87)
    }
}

impl fmt::Display for KeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa(bits) => write!(f, "RSA-{bits}"),
            Self::EcdsaP256 => f.write_str("ECDSA P-256"),
            Self::EcdsaP384 => f.write_str("ECDSA P-384"),
            Self::EcdsaP521 => f.write_str("ECDSA P-521"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::MlDsa44 => f.write_str("ML-DSA-44"),
            Self::MlDsa65 => f.write_str("ML-DSA-65"),
            Self::MlDsa87 => f.write_str("ML-DSA-87"),
        }
    }
}

/// The kind of key in a DER `SubjectPublicKeyInfo`.
///
/// Fails for algorithms that Q-TLS doesn't know, and names them.
pub fn key_kind(spki: &[u8]) -> Result<KeyKind> {
    let damaged = |error| Error::certificate(format!("the public key is damaged: {error}"));
    let spki = SubjectPublicKeyInfoRef::from_der(spki).map_err(damaged)?;
    match identify(&spki.algorithm) {
        Algorithm::Rsa => {
            let key = spki.subject_public_key.as_bytes().unwrap_or_default();
            Ok(KeyKind::Rsa(rsa_modulus_bits(key).map_err(damaged)?))
        }
        Algorithm::Known(kind) => Ok(kind),
        Algorithm::Other(name) => Err(Error::certificate(format!("the key is {name}, which Q-TLS does not support"))
            .hint(format!("use one of {SUPPORTED}"))),
    }
}

/// The kind of a key that can sign, wherever it is held.
pub fn signing_key_kind(key: &dyn SigningKey) -> Result<KeyKind> {
    let spki =
        key.public_key().ok_or_else(|| Error::certificate("the key does not say which public key it belongs to"))?;
    key_kind(&spki)
}

/// The supported algorithms, for messages.
pub(super) const SUPPORTED: &str =
    "RSA (2048 to 8192 bits), ECDSA over P-256, P-384 or P-521, Ed25519, ML-DSA-44, ML-DSA-65, ML-DSA-87";

/// What a key is whose curve is given by its parameters (RFC 5480 forbids that), or not at all.
pub(super) const UNNAMED_CURVE: &str = "ECDSA without a named curve";

/// What an `AlgorithmIdentifier` of a key means.
pub(super) enum Algorithm {
    /// RSA; how large, the key itself says.
    Rsa,
    /// Everything else that is supported.
    Known(KeyKind),
    /// Not supported; the name, or the object identifier where no name is known.
    Other(String),
}

/// Reads an `AlgorithmIdentifier` as it stands in a public key or in PKCS#8.
pub(super) fn identify(algorithm: &AlgorithmIdentifierRef<'_>) -> Algorithm {
    let curve = || algorithm.parameters.and_then(|parameters| parameters.decode_as::<ObjectIdentifier>().ok());
    match algorithm.oid {
        RSA_ENCRYPTION => Algorithm::Rsa,
        EC_PUBLIC_KEY => curve().map_or_else(|| Algorithm::Other(UNNAMED_CURVE.to_owned()), named_curve),
        oid => KINDS
            .iter()
            .find(|(known, _)| *known == oid)
            .map_or_else(|| Algorithm::Other(other_name(oid, "an algorithm")), |(_, kind)| Algorithm::Known(*kind)),
    }
}

/// OpenSSL's short name of the algorithm that a certificate is signed with; `None` for one that is not known here.
pub(super) fn signature_name(oid: ObjectIdentifier) -> Option<&'static str> {
    SIGNATURES.iter().find(|(known, _)| *known == oid).map(|(_, name)| *name)
}

/// What an EC curve's object identifier means.
pub(super) fn named_curve(oid: ObjectIdentifier) -> Algorithm {
    match oid {
        SECP256R1 => Algorithm::Known(KeyKind::EcdsaP256),
        SECP384R1 => Algorithm::Known(KeyKind::EcdsaP384),
        SECP521R1 => Algorithm::Known(KeyKind::EcdsaP521),
        oid => Algorithm::Other(format!("ECDSA over {}", other_name(oid, "a curve"))),
    }
}

/// The bits of the first INTEGER after `skip` others in a PKCS#1 structure, whose modulus it is.
pub(super) fn rsa_modulus_bits(public_key: &[u8]) -> Result<u32, x509_cert::der::Error> {
    leading_integer_bits(public_key, 0)
}

/// As [`rsa_modulus_bits`], for a PKCS#1 private key: the modulus follows the version.
pub(super) fn rsa_private_modulus_bits(private_key: &[u8]) -> Result<u32, x509_cert::der::Error> {
    leading_integer_bits(private_key, 1)
}

fn leading_integer_bits(der: &[u8], skip: usize) -> Result<u32, x509_cert::der::Error> {
    // The rest of the structure is the cryptographic library's to judge; here only the size is asked for.
    let mut inner = SliceReader::new(AnyRef::from_der(der)?.value())?;
    for _ in 0..skip {
        inner.decode::<AnyRef<'_>>()?;
    }
    let modulus = inner.decode::<AnyRef<'_>>()?.value();
    let significant = &modulus[modulus.iter().take_while(|octet| **octet == 0).count()..];
    let unused = significant.first().map_or(0, |octet| octet.leading_zeros());
    Ok((significant.len() * 8) as u32 - unused)
}

fn other_name(oid: ObjectIdentifier, what: &str) -> String {
    if let Some((_, name)) = OTHERS.iter().find(|(known, _)| *known == oid) {
        return (*name).to_owned();
    }
    // The twelve parameter sets of SLH-DSA have consecutive numbers (RFC 9909, section 3).
    let number = oid.to_string().strip_prefix("2.16.840.1.101.3.4.3.").and_then(|number| number.parse().ok());
    if number.is_some_and(|number: u32| (20..=31).contains(&number)) {
        return "SLH-DSA".to_owned();
    }
    format!("{what} with the object identifier {oid}")
}

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const SECP521R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");

const KINDS: [(ObjectIdentifier, KeyKind); 4] = [
    (ObjectIdentifier::new_unwrap("1.3.101.112"), KeyKind::Ed25519),
    // RFC 9881, section 2.
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.17"), KeyKind::MlDsa44),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.18"), KeyKind::MlDsa65),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.19"), KeyKind::MlDsa87),
];

const SIGNATURES: [(ObjectIdentifier, &str); 14] = [
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5"), "RSA-SHA1"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11"), "RSA-SHA256"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12"), "RSA-SHA384"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13"), "RSA-SHA512"),
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10"), "RSASSA-PSS"),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.1"), "ecdsa-with-SHA1"),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2"), "ecdsa-with-SHA256"),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3"), "ecdsa-with-SHA384"),
    (ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4"), "ecdsa-with-SHA512"),
    (ObjectIdentifier::new_unwrap("1.3.101.112"), "ED25519"),
    (ObjectIdentifier::new_unwrap("1.3.101.113"), "ED448"),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.17"), "id-ml-dsa-44"),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.18"), "id-ml-dsa-65"),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.19"), "id-ml-dsa-87"),
];

/// Keys that operators do have, so that the message can name them.
const OTHERS: [(ObjectIdentifier, &str); 10] = [
    (ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10"), "RSA restricted to PSS (id-RSASSA-PSS)"),
    (ObjectIdentifier::new_unwrap("1.2.840.10040.4.1"), "DSA"),
    (ObjectIdentifier::new_unwrap("1.3.101.113"), "Ed448"),
    (ObjectIdentifier::new_unwrap("1.3.101.110"), "X25519 (a key agreement key, which can't sign)"),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.4.2"), "ML-KEM-768 (a key encapsulation key, which can't sign)"),
    (ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.4.3"), "ML-KEM-1024 (a key encapsulation key, which can't sign)"),
    (ObjectIdentifier::new_unwrap("1.3.132.0.33"), "P-224"),
    (ObjectIdentifier::new_unwrap("1.3.132.0.10"), "secp256k1"),
    (ObjectIdentifier::new_unwrap("1.3.36.3.3.2.8.1.1.7"), "brainpoolP256r1"),
    (ObjectIdentifier::new_unwrap("1.3.36.3.3.2.8.1.1.11"), "brainpoolP384r1"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::test_chain::tlv;

    fn spki(oid: &str, parameters: &[u8], key: &[u8]) -> Vec<u8> {
        let oid = ObjectIdentifier::new_unwrap(oid);
        let algorithm = tlv(0x30, &[&tlv(0x06, oid.as_bytes())[..], parameters].concat());
        tlv(0x30, &[algorithm, tlv(0x03, &[&[0][..], key].concat())].concat())
    }

    #[test]
    fn rsa_is_measured_by_the_bits_of_its_modulus() {
        let rsa = |modulus: &[u8]| {
            let key = tlv(0x30, &[tlv(0x02, modulus), tlv(0x02, &[1, 0, 1])].concat());
            key_kind(&spki("1.2.840.113549.1.1.1", &[0x05, 0x00], &key)).unwrap()
        };
        let mut modulus = vec![0xff; 257];
        modulus[0] = 0;
        assert_eq!(rsa(&modulus), KeyKind::Rsa(2048));
        // One bit short of a whole octet is not rounded up: a minimum size must hold exactly.
        modulus[1] = 0x7f;
        assert_eq!(rsa(&modulus[1..]), KeyKind::Rsa(2047));
    }

    #[test]
    fn an_unsupported_key_is_named() {
        let curve = tlv(0x06, ObjectIdentifier::new_unwrap("1.3.132.0.10").as_bytes());
        let error = key_kind(&spki("1.2.840.10045.2.1", &curve, &[4])).unwrap_err();
        assert!(error.message().contains("ECDSA over secp256k1"), "{error}");
        let error = key_kind(&spki("2.16.840.1.101.3.4.4.2", &[], &[4])).unwrap_err();
        assert!(error.message().contains("ML-KEM-768 (a key encapsulation key, which can't sign)"), "{error}");
        let error = key_kind(&spki("2.16.840.1.101.3.4.3.31", &[], &[4])).unwrap_err();
        assert!(error.message().contains("the key is SLH-DSA,"), "{error}");
        let error = key_kind(&spki("1.2.3.4", &[], &[4])).unwrap_err();
        assert!(error.message().contains("1.2.3.4"), "{error}");
    }

    #[test]
    fn garbage_is_an_error() {
        assert!(key_kind(b"").is_err());
        assert!(key_kind(&spki("1.2.840.113549.1.1.1", &[0x05, 0x00], &[0x30, 0x7f])).is_err());
    }
}
