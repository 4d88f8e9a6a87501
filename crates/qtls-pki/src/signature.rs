//! Signatures over what is issued and requested: which algorithm goes with which key, making one, checking one.

use der::asn1::{Any, AnyRef, ObjectIdentifier};
use der::{Decode, Encode};
use qtls_core::credentials::{KeyKind, key_kind, signing_key_kind};
use qtls_core::{Error, Result};
use rustls::SignatureScheme;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::sign::SigningKey;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoRef};

/// The identifier of the algorithm that a key signs certificates, requests and revocation lists with.
pub(crate) fn algorithm(key: &dyn SigningKey) -> Result<AlgorithmIdentifierOwned> {
    Ok(signature_algorithm(signing_key_kind(key)?).1)
}

/// Signs with the algorithm that [`algorithm`] names.
pub(crate) fn sign(key: &dyn SigningKey, message: &[u8]) -> Result<Vec<u8>> {
    let (scheme, _) = signature_algorithm(signing_key_kind(key)?);
    key.choose_scheme(&[scheme])
        .ok_or_else(|| Error::certificate(format!("the key can't sign with {scheme:?}")))?
        .sign(message)
        .map_err(|error| Error::certificate(format!("the key could not sign: {error}")))
}

/// Checks a signature made by the holder of the public key in `spki`, a DER `SubjectPublicKeyInfo`.
///
/// Fails when it is wrong, and when its algorithm is none that is trusted: SHA-1 never is.
pub(crate) fn verify(
    spki: &[u8],
    algorithm: &AlgorithmIdentifierOwned,
    message: &[u8],
    signature: &[u8],
) -> Result<()> {
    let damaged = |error: der::Error| Error::certificate(format!("the public key is damaged: {error}"));
    key_kind(spki)?;
    let key = SubjectPublicKeyInfoRef::from_der(spki).map_err(damaged)?;
    // pki-types compares identifiers without their outer SEQUENCE.
    let contents = |der: Vec<u8>| AnyRef::from_der(&der).map(|any| any.value().to_vec()).map_err(damaged);
    let key_id = contents(key.algorithm.to_der().map_err(damaged)?)?;
    let signature_id = contents(algorithm.to_der().map_err(damaged)?)?;
    let verifier = default_provider()
        .signature_verification_algorithms
        .all
        .iter()
        .find(|known| *known.public_key_alg_id() == *key_id && *known.signature_alg_id() == *signature_id)
        .ok_or_else(|| {
            Error::certificate(format!("it is signed with {}, which is not accepted here", name(algorithm.oid)))
                .hint("sign with SHA-256 or better")
        })?;
    verifier
        .verify_signature(key.subject_public_key.raw_bytes(), message, signature)
        .map_err(|_| Error::certificate("the signature is wrong: the content was changed, or another key signed it"))
}

/// What a signature algorithm is called; its object identifier where it has no name here.
pub(crate) fn name(oid: ObjectIdentifier) -> String {
    NAMES.iter().find(|(known, _)| *known == oid).map_or_else(|| oid.to_string(), |(_, name)| (*name).to_owned())
}

/// Whether the algorithm signs a hash that collisions are known for.
pub(crate) fn is_broken(oid: ObjectIdentifier) -> bool {
    [MD5_WITH_RSA, SHA1_WITH_RSA, ECDSA_WITH_SHA1].contains(&oid)
}

/// How a key of this kind signs certificates. The hash is as strong as the key.
fn signature_algorithm(kind: KeyKind) -> (SignatureScheme, AlgorithmIdentifierOwned) {
    let (scheme, oid, parameters) = match kind {
        // RFC 4055, section 5: parameters are NULL.
        KeyKind::Rsa(bits) if bits >= 4096 => (SignatureScheme::RSA_PKCS1_SHA384, SHA384_WITH_RSA, Some(Any::null())),
        KeyKind::Rsa(_) => (SignatureScheme::RSA_PKCS1_SHA256, SHA256_WITH_RSA, Some(Any::null())),
        // RFC 5758, section 3.2: parameters are absent.
        KeyKind::EcdsaP256 => (SignatureScheme::ECDSA_NISTP256_SHA256, ECDSA_WITH_SHA256, None),
        KeyKind::EcdsaP384 => (SignatureScheme::ECDSA_NISTP384_SHA384, ECDSA_WITH_SHA384, None),
        KeyKind::EcdsaP521 => (SignatureScheme::ECDSA_NISTP521_SHA512, ECDSA_WITH_SHA512, None),
        // RFC 8410, section 3, and RFC 9881, section 2: parameters are absent.
        KeyKind::Ed25519 => (SignatureScheme::ED25519, ED25519, None),
        KeyKind::MlDsa44 => (SignatureScheme::ML_DSA_44, ML_DSA_44, None),
        KeyKind::MlDsa65 => (SignatureScheme::ML_DSA_65, ML_DSA_65, None),
        KeyKind::MlDsa87 => (SignatureScheme::ML_DSA_87, ML_DSA_87, None),
    };
    (scheme, AlgorithmIdentifierOwned { oid, parameters })
}

const MD5_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.4");
const SHA1_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.5");
const ECDSA_WITH_SHA1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.1");
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const SHA256_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const SHA384_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const SHA512_WITH_RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ECDSA_WITH_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
const ECDSA_WITH_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.4");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const ML_DSA_44: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.17");
const ML_DSA_65: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.18");
const ML_DSA_87: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.3.19");

const NAMES: [(ObjectIdentifier, &str); 14] = [
    (MD5_WITH_RSA, "RSA with MD5"),
    (SHA1_WITH_RSA, "RSA with SHA-1"),
    (ECDSA_WITH_SHA1, "ECDSA with SHA-1"),
    (RSA_PSS, "RSA-PSS"),
    (SHA256_WITH_RSA, "RSA with SHA-256"),
    (SHA384_WITH_RSA, "RSA with SHA-384"),
    (SHA512_WITH_RSA, "RSA with SHA-512"),
    (ECDSA_WITH_SHA256, "ECDSA with SHA-256"),
    (ECDSA_WITH_SHA384, "ECDSA with SHA-384"),
    (ECDSA_WITH_SHA512, "ECDSA with SHA-512"),
    (ED25519, "Ed25519"),
    (ML_DSA_44, "ML-DSA-44"),
    (ML_DSA_65, "ML-DSA-65"),
    (ML_DSA_87, "ML-DSA-87"),
];
