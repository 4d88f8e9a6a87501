//! New keys, and the few other things that issuing needs from the cryptographic library.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, ML_DSA_44_SIGNING, ML_DSA_65_SIGNING, ML_DSA_87_SIGNING, PqdsaKeyPair,
    PqdsaSigningAlgorithm, RsaKeyPair,
};
use aws_lc_rs::{digest, error::Unspecified, rand};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_cert::der::Decode;
use x509_cert::spki::SubjectPublicKeyInfoRef;
use zeroize::Zeroizing;

use crate::policy::KeyAlgorithm;
use crate::{Error, Result};

/// Makes a key, as PKCS#8 version 1: the form that OpenSSL reads for every algorithm (3.5 or later for ML-DSA, which is
/// written as its 32-octet seed, RFC 9881 section 6).
///
/// The bytes are wiped when the returned value is dropped. RSA-4096 takes seconds.
pub fn generate(algorithm: KeyAlgorithm) -> Result<Zeroizing<PrivateKeyDer<'static>>> {
    let made = match algorithm {
        KeyAlgorithm::EcdsaP256 => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING),
        KeyAlgorithm::EcdsaP384 => ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING),
        KeyAlgorithm::EcdsaP521 => ecdsa(&ECDSA_P521_SHA512_ASN1_SIGNING),
        KeyAlgorithm::Ed25519 => {
            Ed25519KeyPair::generate().and_then(|pair| pair.to_pkcs8v1()).map(|der| pkcs8(der.as_ref()))
        }
        KeyAlgorithm::Rsa2048 => rsa(KeySize::Rsa2048),
        KeyAlgorithm::Rsa3072 => rsa(KeySize::Rsa3072),
        KeyAlgorithm::Rsa4096 => rsa(KeySize::Rsa4096),
        KeyAlgorithm::MlDsa44 => ml_dsa(&ML_DSA_44_SIGNING),
        KeyAlgorithm::MlDsa65 => ml_dsa(&ML_DSA_65_SIGNING),
        KeyAlgorithm::MlDsa87 => ml_dsa(&ML_DSA_87_SIGNING),
    };
    made.map_err(|Unspecified| Error::internal(format!("the cryptographic library could not make a {algorithm} key")))
}

/// The key identifier for a DER `SubjectPublicKeyInfo`: the leftmost 160 bits of the SHA-256 of the public key's bits
/// (RFC 7093, section 2, method 1), which keeps SHA-1 out of issuing.
pub fn key_identifier(spki: &[u8]) -> Result<[u8; 20]> {
    let parsed = SubjectPublicKeyInfoRef::from_der(spki)
        .map_err(|error| Error::certificate(format!("the public key is damaged: {error}")))?;
    let hash = digest::digest(&digest::SHA256, parsed.subject_public_key.raw_bytes());
    let mut identifier = [0; 20];
    identifier.copy_from_slice(&hash.as_ref()[..20]);
    Ok(identifier)
}

/// The SHA-256 of some octets: a certificate's fingerprint, or the pin of a `SubjectPublicKeyInfo`.
pub fn sha256(octets: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, octets).as_ref());
    hash
}

/// `N` octets from the cryptographic library's generator.
pub fn random<const N: usize>() -> Result<[u8; N]> {
    let mut octets = [0; N];
    rand::fill(&mut octets).map_err(|Unspecified| Error::internal("the random number generator failed"))?;
    Ok(octets)
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm) -> Result<Zeroizing<PrivateKeyDer<'static>>, Unspecified> {
    Ok(pkcs8(EcdsaKeyPair::generate(algorithm)?.to_pkcs8v1()?.as_ref()))
}

fn rsa(size: KeySize) -> Result<Zeroizing<PrivateKeyDer<'static>>, Unspecified> {
    let der: Pkcs8V1Der<'static> = RsaKeyPair::generate(size)?.as_der()?;
    Ok(pkcs8(der.as_ref()))
}

fn ml_dsa(algorithm: &'static PqdsaSigningAlgorithm) -> Result<Zeroizing<PrivateKeyDer<'static>>, Unspecified> {
    Ok(pkcs8(PqdsaKeyPair::generate(algorithm)?.to_pkcs8v1()?.as_ref()))
}

fn pkcs8(der: &[u8]) -> Zeroizing<PrivateKeyDer<'static>> {
    Zeroizing::new(PrivatePkcs8KeyDer::from(der.to_vec()).into())
}

#[cfg(test)]
mod tests {
    use rustls::SignatureScheme;
    use rustls::crypto::aws_lc_rs::default_provider;

    use super::super::{signing_key, signing_key_kind};
    use super::*;
    use crate::policy::Named;

    fn scheme(algorithm: KeyAlgorithm) -> SignatureScheme {
        match algorithm {
            KeyAlgorithm::EcdsaP256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            KeyAlgorithm::EcdsaP384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            KeyAlgorithm::EcdsaP521 => SignatureScheme::ECDSA_NISTP521_SHA512,
            KeyAlgorithm::Ed25519 => SignatureScheme::ED25519,
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => SignatureScheme::RSA_PSS_SHA256,
            KeyAlgorithm::MlDsa44 => SignatureScheme::ML_DSA_44,
            KeyAlgorithm::MlDsa65 => SignatureScheme::ML_DSA_65,
            KeyAlgorithm::MlDsa87 => SignatureScheme::ML_DSA_87,
        }
    }

    #[test]
    fn every_algorithm_generates_reloads_signs_and_verifies() {
        let algorithms = default_provider().signature_verification_algorithms;
        for algorithm in KeyAlgorithm::ALL.iter().copied() {
            let key = signing_key(&generate(algorithm).unwrap()).unwrap();
            assert_eq!(signing_key_kind(key.as_ref()).unwrap(), algorithm.kind());
            assert_eq!(algorithm.kind().name(), algorithm.name());
            let scheme = scheme(algorithm);
            let signature = key.choose_scheme(&[scheme]).unwrap().sign(b"message").unwrap();
            let spki = key.public_key().unwrap();
            let public_key = SubjectPublicKeyInfoRef::from_der(&spki).unwrap().subject_public_key.raw_bytes();
            let (_, verifiers) = algorithms.mapping.iter().find(|(known, _)| *known == scheme).unwrap();
            // A scheme maps to several verifiers where TLS 1.2 left the curve open.
            let verifies = |message: &[u8], signature: &[u8]| {
                verifiers.iter().any(|verifier| verifier.verify_signature(public_key, message, signature).is_ok())
            };
            assert!(verifies(b"message", &signature), "{algorithm}");
            assert!(!verifies(b"massage", &signature), "{algorithm}");
            let mut flipped = signature.clone();
            flipped[signature.len() / 2] ^= 1;
            assert!(!verifies(b"message", &flipped), "{algorithm}");
        }
    }

    #[test]
    fn ml_dsa_keys_are_written_as_their_seed() {
        for algorithm in [KeyAlgorithm::MlDsa44, KeyAlgorithm::MlDsa65, KeyAlgorithm::MlDsa87] {
            let key = generate(algorithm).unwrap();
            // RFC 9881, section 6: seed [0] IMPLICIT OCTET STRING (SIZE (32)), the last element of PKCS#8.
            let der = key.secret_der();
            assert_eq!(der[der.len() - 36..][..4], [0x04, 34, 0x80, 32], "{algorithm}");
        }
    }

    #[test]
    fn two_keys_differ() {
        let (one, other) = (generate(KeyAlgorithm::MlDsa44).unwrap(), generate(KeyAlgorithm::MlDsa44).unwrap());
        assert_ne!(one.secret_der(), other.secret_der());
    }

    #[test]
    fn the_key_identifier_is_rfc_7093_method_1() {
        // RFC 7093 has no test vector; this is SHA-256 of one octet 0x61 ("a"), from FIPS 180-4's examples of use.
        let spki = [0x30, 0x0b, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x02, 0x00, 0x61];
        let expected = [
            0xca, 0x97, 0x81, 0x12, 0xca, 0x1b, 0xbd, 0xca, 0xfa, 0xc2, 0x31, 0xb3, 0x9a, 0x23, 0xdc, 0x4d, 0xa7, 0x86,
            0xef, 0xf8,
        ];
        assert_eq!(key_identifier(&spki).unwrap(), expected);
        assert!(key_identifier(b"no public key").is_err());
    }
}
