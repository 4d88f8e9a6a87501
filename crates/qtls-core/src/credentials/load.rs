//! Chains and private keys from PEM and DER, with errors that say what was found instead.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::encoding::AsRawBytes;
use aws_lc_rs::signature::{
    ML_DSA_44_SIGNING, ML_DSA_65_SIGNING, ML_DSA_87_SIGNING, PqdsaKeyPair, PqdsaSigningAlgorithm,
};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use rustls::sign::SigningKey;
use x509_cert::Certificate;
use x509_cert::der::asn1::{AnyRef, ObjectIdentifier};
use x509_cert::der::{Class, Decode, Reader, SliceReader, Tag, Tagged, pem};
use x509_cert::spki::AlgorithmIdentifierRef;
use zeroize::Zeroizing;

use super::KeyKind;
use super::encrypted::{Passphrase, decrypt, reencrypt};
use super::kind::{Algorithm, SUPPORTED, UNNAMED_CURVE, identify, named_curve, rsa_private_modulus_bits};
use crate::{Error, Result};

/// Bytes, and where they came from: the path as configured, or whatever else messages should call them.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// What messages name.
    pub origin: &'a str,
    /// The content.
    pub bytes: &'a [u8],
}

/// Every certificate in PEM or DER, in its order. Fails when there is none, and says what there is instead.
pub fn certificates(source: Source<'_>) -> Result<Vec<CertificateDer<'static>>> {
    if is_der(source.bytes) {
        return der_certificates(source);
    }
    let found = CertificateDer::pem_slice_iter(source.bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::certificate(format!("is not well-formed PEM: {error}")).at(source.origin))?;
    if !found.is_empty() {
        return Ok(found);
    }
    let error = Error::certificate(format!("holds no certificate: {}", found_instead(source.bytes))).at(source.origin);
    Err(match pem_labels(source.bytes).as_slice() {
        labels if labels.iter().any(|label| label == "TRUSTED CERTIFICATE") => {
            error.hint("convert it with `openssl x509 -in FILE -out FILE.pem`")
        }
        labels if labels.iter().any(|label| label == "PKCS7") => {
            error.hint("convert it with `openssl pkcs7 -print_certs -in FILE -out FILE.pem`")
        }
        labels if labels.iter().any(|label| label.ends_with("PRIVATE KEY")) => {
            error.hint("this is a private key: are the certificate and the key interchanged?")
        }
        _ => error.hint("a certificate file holds `-----BEGIN CERTIFICATE-----` sections, the leaf first, or DER"),
    })
}

/// The first private key in PEM, or the one in DER; decrypted with `passphrase` where it is encrypted.
///
/// Fails when there is none and when it can't be decrypted, and says what to do about it. A passphrase for a key that
/// isn't encrypted is not used. The bytes are wiped when the returned value is dropped.
pub fn private_key(source: Source<'_>, passphrase: Option<&Passphrase>) -> Result<Zeroizing<PrivateKeyDer<'static>>> {
    if is_der(source.bytes) {
        return der_private_key(source, passphrase);
    }
    let labels = pem_labels(source.bytes);
    // OpenSSL's traditional encryption keeps the plain label and says so in a header (RFC 1421).
    if contains(source.bytes, b"Proc-Type: 4,ENCRYPTED") {
        return Err(Error::certificate(
            "the private key is encrypted in OpenSSL's traditional way, which derives its key with MD5 \
             and is not read here",
        )
        .at(source.origin)
        .hint(format!("encrypt it again as PKCS#8: {}", reencrypt(source.origin))));
    }
    let malformed = |error: &dyn std::fmt::Display| {
        Error::certificate(format!("is not well-formed PEM: {error}")).at(source.origin)
    };
    if labels.iter().any(|label| PLAIN_LABELS.contains(&label.as_str())) {
        return PrivateKeyDer::from_pem_slice(source.bytes).map(Zeroizing::new).map_err(|error| malformed(&error));
    }
    if let Some(section) = encrypted_section(source.bytes) {
        let mut der = Zeroizing::new(Vec::new());
        pem::Decoder::new_detect_wrap(section)
            .and_then(|mut decoder| decoder.decode_to_end(&mut der).map(|_| ()))
            .map_err(|error| malformed(&error))?;
        return decrypt(&der, passphrase, source.origin);
    }
    let error = Error::certificate(format!("holds no private key: {}", found_instead(source.bytes))).at(source.origin);
    Err(if labels.iter().any(|label| label == "CERTIFICATE") {
        error.hint("this is a certificate: are the certificate and the key interchanged?")
    } else {
        error.hint(format!(
            "a key file holds one of {}, or DER",
            LABELS.map(|label| format!("`-----BEGIN {label}-----`")).join(", ")
        ))
    })
}

/// A private key that can sign: PKCS#8, PKCS#1 (RSA) or SEC1 (ECDSA).
///
/// Errors name the format and the algorithm that were found, and those that are accepted. An ML-DSA key that carries
/// both its seed and its expanded form is refused unless the one follows from the other.
pub fn signing_key(key: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>> {
    let found = match key {
        PrivateKeyDer::Pkcs8(der) => inspect_pkcs8(der.secret_pkcs8_der())?,
        PrivateKeyDer::Pkcs1(der) => {
            check_rsa_size(der.secret_pkcs1_der(), "PKCS#1")?;
            "an RSA key in PKCS#1".to_owned()
        }
        PrivateKeyDer::Sec1(der) => inspect_sec1(der.secret_sec1_der())?,
        _ => "a key in an unknown format".to_owned(),
    };
    any_supported_type(key).map_err(|_| {
        Error::certificate(format!("the private key is damaged: found {found}, but its content is not a valid key"))
            .hint(format!("`openssl pkey -in FILE -check -noout` shows what OpenSSL makes of it; {ACCEPTED}"))
    })
}

const ACCEPTED: &str =
    "accepted are PKCS#8 (`PRIVATE KEY`, and encrypted), PKCS#1 (`RSA PRIVATE KEY`) and SEC1 (`EC PRIVATE KEY`)";
const PLAIN_LABELS: [&str; 3] = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY"];
const ENCRYPTED_LABEL: &str = "ENCRYPTED PRIVATE KEY";
const LABELS: [&str; 4] = [PLAIN_LABELS[0], ENCRYPTED_LABEL, PLAIN_LABELS[1], PLAIN_LABELS[2]];
/// The sizes that the cryptographic library accepts.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2048..=8192;

/// What a PKCS#8 structure holds, in words; an error if it is known already that it can't be used, and why.
fn inspect_pkcs8(der: &[u8]) -> Result<String> {
    let (algorithm, private_key) = open_pkcs8(der).map_err(|error| {
        Error::certificate(format!("the private key is damaged: its PKCS#8 can't be read: {error}")).hint(ACCEPTED)
    })?;
    match identify(&algorithm) {
        Algorithm::Rsa => {
            check_rsa_size(private_key, "PKCS#8")?;
            Ok("an RSA key in PKCS#8".to_owned())
        }
        Algorithm::Known(kind) => {
            if let Some(parameters) = MlDsa::of(kind) {
                parameters.inspect(kind, private_key)?;
            }
            Ok(format!("{kind} in PKCS#8"))
        }
        Algorithm::Other(name) => Err(unsupported(&name, "PKCS#8")),
    }
}

fn open_pkcs8(der: &[u8]) -> Result<(AlgorithmIdentifierRef<'_>, &[u8]), x509_cert::der::Error> {
    // PrivateKeyInfo (RFC 5958): version, algorithm, key; attributes and public key may follow.
    let mut inner = SliceReader::new(AnyRef::from_der(der)?.value())?;
    inner.decode::<AnyRef<'_>>()?;
    let algorithm = inner.decode()?;
    Ok((algorithm, inner.decode::<AnyRef<'_>>()?.value()))
}

fn inspect_sec1(der: &[u8]) -> Result<String> {
    let curve = || -> Result<Option<Algorithm>, x509_cert::der::Error> {
        // ECPrivateKey (RFC 5915): version, key, [0] parameters, [1] public key.
        let mut inner = SliceReader::new(AnyRef::from_der(der)?.value())?;
        inner.decode::<AnyRef<'_>>()?;
        inner.decode::<AnyRef<'_>>()?;
        while !inner.is_finished() {
            let field = inner.decode::<AnyRef<'_>>()?;
            if field.tag().class() == Class::ContextSpecific && field.tag().number().value() == 0 {
                return Ok(Some(
                    ObjectIdentifier::from_der(field.value())
                        .map_or_else(|_| Algorithm::Other(UNNAMED_CURVE.to_owned()), named_curve),
                ));
            }
        }
        Ok(None)
    };
    match curve() {
        Ok(Some(Algorithm::Other(name))) => Err(unsupported(&name, "SEC1")),
        Ok(Some(Algorithm::Known(kind))) => Ok(format!("{kind} in SEC1")),
        Ok(Some(Algorithm::Rsa) | None) => Ok("an ECDSA key in SEC1 that doesn't name its curve".to_owned()),
        Err(error) => {
            Err(Error::certificate(format!("the private key is damaged: its SEC1 can't be read: {error}"))
                .hint(ACCEPTED))
        }
    }
}

fn unsupported(name: &str, format: &str) -> Error {
    Error::certificate(format!("the private key is {name}, in {format}, which Q-TLS does not support"))
        .hint(format!("supported are {SUPPORTED}; {ACCEPTED}"))
}

fn check_rsa_size(private_key: &[u8], format: &str) -> Result<()> {
    match rsa_private_modulus_bits(private_key) {
        Ok(bits) if RSA_BITS.contains(&bits) => Ok(()),
        Ok(bits) => {
            Err(Error::certificate(format!("the private key is RSA-{bits}, in {format}, which is not a usable size"))
                .hint(format!("RSA keys of {} to {} bits are accepted", RSA_BITS.start(), RSA_BITS.end())))
        }
        Err(error) => Err(Error::certificate(format!(
            "the private key is damaged: its RSA key in {format} can't be read: {error}"
        ))
        .hint(ACCEPTED)),
    }
}

/// One parameter set of FIPS 204.
struct MlDsa {
    algorithm: &'static PqdsaSigningAlgorithm,
    /// Octets of the expanded private key (FIPS 204, table 2).
    expanded: usize,
    /// Octets of the public key.
    public: usize,
}

const SEED: usize = 32;

impl MlDsa {
    fn of(kind: KeyKind) -> Option<Self> {
        let (algorithm, expanded, public) = match kind {
            KeyKind::MlDsa44 => (&ML_DSA_44_SIGNING, 2560, 1312),
            KeyKind::MlDsa65 => (&ML_DSA_65_SIGNING, 4032, 1952),
            KeyKind::MlDsa87 => (&ML_DSA_87_SIGNING, 4896, 2592),
            _ => return None,
        };
        Some(Self { algorithm, expanded, public })
    }

    /// `private_key` must be one of the three forms of RFC 9881, section 6; «both» must agree with itself.
    fn inspect(&self, kind: KeyKind, private_key: &[u8]) -> Result<()> {
        // Earlier tools wrote the raw octets without the ASN.1 of RFC 9881. Their length tells: no form of the RFC
        // has it.
        let bare = match private_key.len() {
            SEED => Some("the bare seed"),
            length if length == self.expanded => Some("the bare expanded key"),
            _ if self.is_oqs(private_key) => Some("the expanded key followed by the public key"),
            _ => None,
        };
        if let Some(bare) = bare {
            return Err(Error::certificate(format!(
                "the private key is {kind} in PKCS#8, but in a form from before RFC 9881: \
                 its OCTET STRING holds {bare}, without the structure of the RFC"
            ))
            .hint(
                "rewrite it with OpenSSL 3.5 or later: \
                 `openssl pkey -in FILE -provparam ml-dsa.output_formats=seed-priv,priv-only -out FILE.new`",
            ));
        }
        match both(private_key) {
            Some((seed, expanded)) => self.check_both(kind, seed, expanded),
            None => Ok(()),
        }
    }

    /// The form of the Open Quantum Safe provider: both keys in a row, with or without one OCTET STRING around them.
    fn is_oqs(&self, private_key: &[u8]) -> bool {
        let pair = self.expanded + self.public;
        let wrapped =
            AnyRef::from_der(private_key).is_ok_and(|any| any.tag() == Tag::OctetString && any.value().len() == pair);
        wrapped || private_key.len() == pair
    }

    /// The library compares the public keys of the two halves only, so parts of the expanded half can differ unseen.
    fn check_both(&self, kind: KeyKind, seed: &[u8], expanded: &[u8]) -> Result<()> {
        let matches = PqdsaKeyPair::from_seed(self.algorithm, seed)
            .ok()
            .and_then(|pair| pair.private_key().as_raw_bytes().ok())
            .is_some_and(|derived| verify_slices_are_equal(derived.as_ref(), expanded).is_ok());
        if matches {
            return Ok(());
        }
        Err(Error::certificate(format!(
            "the private key is {kind} in PKCS#8 with both its seed and its expanded form, \
             and the expanded form is not the one of the seed"
        ))
        .hint("the file is damaged or was tampered with: restore it, or make a new key and have it certified"))
    }
}

/// The two OCTET STRINGs of the «both» form, if it is that form.
fn both(private_key: &[u8]) -> Option<(&[u8], &[u8])> {
    let outer = AnyRef::from_der(private_key).ok()?;
    if outer.tag() != Tag::Sequence {
        return None;
    }
    let mut inner = SliceReader::new(outer.value()).ok()?;
    let seed = inner.decode::<AnyRef<'_>>().ok()?.value();
    let expanded = inner.decode::<AnyRef<'_>>().ok()?.value();
    Some((seed, expanded))
}

/// Whether the first octets are a whole DER element, as a certificate or a key is one. Text that begins with `0` can
/// look like that, so a PEM section anywhere tells otherwise.
fn is_der(bytes: &[u8]) -> bool {
    if contains(bytes, b"-----BEGIN ") {
        return false;
    }
    SliceReader::new(bytes)
        .and_then(|mut reader| reader.decode::<AnyRef<'_>>())
        .is_ok_and(|element| element.tag() == Tag::Sequence)
}

/// Certificates one after the other, as `cat` makes of DER files.
fn der_certificates(source: Source<'_>) -> Result<Vec<CertificateDer<'static>>> {
    let read = || -> Result<Vec<CertificateDer<'static>>, x509_cert::der::Error> {
        let mut reader = SliceReader::new(source.bytes)?;
        let mut found = Vec::new();
        while !reader.is_finished() {
            let der = reader.tlv_bytes()?;
            Certificate::from_der(der)?;
            found.push(CertificateDer::from(der.to_vec()));
        }
        Ok(found)
    };
    read().map_err(|error| {
        let error = Error::certificate(format!("holds no certificate: it is DER, but not of a certificate: {error}"))
            .at(source.origin);
        match DerKey::of(source.bytes) {
            Some(_) => error.hint("this is a private key: are the certificate and the key interchanged?"),
            None => error.hint(
                "PKCS#12 is unpacked with `openssl pkcs12 -in FILE -out FILE.pem`, \
                 PKCS#7 with `openssl pkcs7 -inform DER -print_certs -in FILE -out FILE.pem`",
            ),
        }
    })
}

fn der_private_key(source: Source<'_>, passphrase: Option<&Passphrase>) -> Result<Zeroizing<PrivateKeyDer<'static>>> {
    let octets = || source.bytes.to_vec();
    let key = match DerKey::of(source.bytes) {
        Some(DerKey::Encrypted) => return decrypt(source.bytes, passphrase, source.origin),
        Some(DerKey::Pkcs8) => PrivatePkcs8KeyDer::from(octets()).into(),
        Some(DerKey::Pkcs1) => PrivatePkcs1KeyDer::from(octets()).into(),
        Some(DerKey::Sec1) => PrivateSec1KeyDer::from(octets()).into(),
        None => {
            let error = Error::certificate("holds no private key: it is DER, but not of a key").at(source.origin);
            return Err(if Certificate::from_der(source.bytes).is_ok() {
                error.hint("this is a certificate: are the certificate and the key interchanged?")
            } else {
                error.hint(format!("{ACCEPTED}; PKCS#12 is unpacked with `openssl pkcs12 -in FILE -out FILE.pem`"))
            });
        }
    };
    Ok(Zeroizing::new(key))
}

/// The structure of a key in DER, told by its first elements.
enum DerKey {
    Pkcs8,
    Pkcs1,
    Sec1,
    Encrypted,
}

impl DerKey {
    fn of(der: &[u8]) -> Option<Self> {
        let mut inner = SliceReader::new(AnyRef::from_der(der).ok()?.value()).ok()?;
        let mut next = || inner.decode::<AnyRef<'_>>().ok().map(|element| element.tag());
        match (next()?, next()?) {
            (Tag::Integer, Tag::Sequence) => Some(Self::Pkcs8),
            (Tag::Integer, Tag::Integer) => Some(Self::Pkcs1),
            (Tag::Integer, Tag::OctetString) => Some(Self::Sec1),
            (Tag::Sequence, Tag::OctetString) => Some(Self::Encrypted),
            _ => None,
        }
    }
}

/// The first section of an encrypted key, from its first to its last line.
fn encrypted_section(bytes: &[u8]) -> Option<&[u8]> {
    let find = |line: String, from: usize| {
        bytes[from..].windows(line.len()).position(|window| window == line.as_bytes()).map(|at| from + at)
    };
    let begin = find(format!("-----BEGIN {ENCRYPTED_LABEL}-----"), 0)?;
    let last = format!("-----END {ENCRYPTED_LABEL}-----");
    let end = find(last.clone(), begin).map_or(bytes.len(), |end| end + last.len());
    Some(&bytes[begin..end])
}

fn found_instead(bytes: &[u8]) -> String {
    let labels = pem_labels(bytes);
    if !labels.is_empty() {
        return format!(
            "its PEM sections are {}",
            labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ")
        );
    }
    match bytes {
        [] => "it is empty".to_owned(),
        _ if looks_like_der(bytes) => "it begins like DER, but is cut off or damaged".to_owned(),
        _ => "it has no PEM section".to_owned(),
    }
}

/// The labels of the PEM sections, in order, each once.
fn pem_labels(bytes: &[u8]) -> Vec<String> {
    let mut labels = Vec::new();
    for line in bytes.split(|octet| matches!(octet, b'\n' | b'\r')) {
        let label = line.trim_ascii().strip_prefix(b"-----BEGIN ").and_then(|rest| rest.strip_suffix(b"-----"));
        let Some(label) = label.map(|label| String::from_utf8_lossy(label).into_owned()) else {
            continue;
        };
        if !labels.contains(&label) {
            labels.push(label);
        }
    }
    labels
}

fn looks_like_der(bytes: &[u8]) -> bool {
    // SEQUENCE with a length in the long form: nothing of interest is shorter than 128 octets, and no text starts so.
    matches!(bytes, [0x30, 0x81..=0x84, ..])
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::super::test_chain::{certificate, pem, tlv};
    use super::super::{generate, signing_key_kind};
    use super::*;
    use crate::policy::KeyAlgorithm;

    fn source(bytes: &[u8]) -> Source<'_> {
        Source { origin: "file.pem", bytes }
    }

    fn pkcs8(oid: &str, parameters: &[u8], private_key: &[u8]) -> PrivateKeyDer<'static> {
        let oid = ObjectIdentifier::new_unwrap(oid);
        let algorithm = tlv(0x30, &[&tlv(0x06, oid.as_bytes())[..], parameters].concat());
        let version = tlv(0x02, &[0]);
        PrivatePkcs8KeyDer::from(tlv(0x30, &[version, algorithm, tlv(0x04, private_key)].concat())).into()
    }

    fn refusal(key: &PrivateKeyDer<'_>) -> String {
        signing_key(key).unwrap_err().to_string()
    }

    const ML_DSA_44_OID: &str = "2.16.840.1.101.3.4.3.17";

    fn ml_dsa_44() -> ([u8; SEED], Vec<u8>) {
        let seed = [7; SEED];
        let pair = PqdsaKeyPair::from_seed(&ML_DSA_44_SIGNING, &seed).unwrap();
        let expanded = pair.private_key().as_raw_bytes().unwrap().as_ref().to_vec();
        (seed, expanded)
    }

    #[test]
    fn all_three_ml_dsa_forms_load_as_the_same_key() {
        let (seed, expanded) = ml_dsa_44();
        let both = tlv(0x30, &[tlv(0x04, &seed), tlv(0x04, &expanded)].concat());
        let public_keys: Vec<_> = [tlv(0x80, &seed), tlv(0x04, &expanded), both]
            .iter()
            .map(|form| signing_key(&pkcs8(ML_DSA_44_OID, &[], form)).unwrap())
            .map(|key| key.public_key().unwrap().to_vec())
            .collect();
        assert_eq!(public_keys[0], public_keys[1]);
        assert_eq!(public_keys[0], public_keys[2]);
    }

    #[test]
    fn an_expanded_half_that_is_not_the_seeds_is_refused() {
        let (seed, mut expanded) = ml_dsa_44();
        // Octets 32..64 are K (FIPS 204, algorithm 24). The public key doesn't depend on it: the library accepts this.
        expanded[40] ^= 1;
        let both = tlv(0x30, &[tlv(0x04, &seed), tlv(0x04, &expanded)].concat());
        let key = pkcs8(ML_DSA_44_OID, &[], &both);
        assert!(
            any_supported_type(&key).is_ok(),
            "if the library refuses this by itself, our check has become superfluous"
        );
        let error = refusal(&key);
        assert!(error.contains("ML-DSA-44 in PKCS#8 with both its seed and its expanded form"), "{error}");
        assert!(error.contains("is not the one of the seed"), "{error}");
    }

    #[test]
    fn bare_ml_dsa_octets_are_refused_by_their_name() {
        let (seed, expanded) = ml_dsa_44();
        let with_public = [&expanded[..], &[1; 1312]].concat();
        for (bare, name) in [
            (&seed[..], "the bare seed,"),
            (&expanded, "the bare expanded key,"),
            (&with_public, "the expanded key followed by the public key,"),
            (&tlv(0x04, &with_public), "the expanded key followed by the public key,"),
        ] {
            let error = refusal(&pkcs8(ML_DSA_44_OID, &[], bare));
            assert!(error.contains("ML-DSA-44 in PKCS#8") && error.contains(name), "{error}");
            assert!(error.contains("-provparam ml-dsa.output_formats="), "{error}");
        }
    }

    #[test]
    fn damaged_and_unsupported_keys_are_told_apart() {
        let error = refusal(&pkcs8(ML_DSA_44_OID, &[], &tlv(0x80, &[7; 31])));
        assert!(error.contains("damaged: found ML-DSA-44 in PKCS#8"), "{error}");
        let error = refusal(&pkcs8("1.3.101.113", &[], &[0; 59]));
        assert!(error.contains("is Ed448, in PKCS#8") && error.contains("ML-DSA-87"), "{error}");
        let curve = tlv(0x06, ObjectIdentifier::new_unwrap("1.3.132.0.10").as_bytes());
        let error = refusal(&pkcs8("1.2.840.10045.2.1", &curve, &[0; 32]));
        assert!(error.contains("ECDSA over secp256k1, in PKCS#8"), "{error}");
        let sec1 = tlv(0x30, &[tlv(0x02, &[1]), tlv(0x04, &[1; 32]), tlv(0xa0, &curve)].concat());
        let error = refusal(&PrivateKeyDer::Sec1(sec1.into()));
        assert!(error.contains("ECDSA over secp256k1, in SEC1"), "{error}");
        let explicit = tlv(0x30, &[tlv(0x02, &[1]), tlv(0x04, &[1; 32]), tlv(0xa0, &tlv(0x30, &[]))].concat());
        let error = refusal(&PrivateKeyDer::Sec1(explicit.into()));
        assert!(error.contains("is ECDSA without a named curve, in SEC1"), "{error}");
        let error = refusal(&pkcs8("1.2.840.10045.2.1", &tlv(0x30, &[]), &[0; 32]));
        assert!(error.contains("is ECDSA without a named curve, in PKCS#8"), "{error}");
        let error = refusal(&PrivatePkcs8KeyDer::from(vec![0x30, 0x03, 1, 2, 3]).into());
        assert!(error.contains("its PKCS#8 can't be read"), "{error}");
    }

    #[test]
    fn a_small_rsa_key_is_refused_by_its_size() {
        let modulus = [&[0][..], &[0xff; 128]].concat();
        let rsa = tlv(0x30, &[tlv(0x02, &[0]), tlv(0x02, &modulus), tlv(0x02, &[1, 0, 1])].concat());
        let error = refusal(&PrivateKeyDer::Pkcs1(rsa.clone().into()));
        assert!(error.contains("RSA-1024, in PKCS#1") && error.contains("2048 to 8192"), "{error}");
        let error = refusal(&pkcs8("1.2.840.113549.1.1.1", &[0x05, 0x00], &rsa));
        assert!(error.contains("RSA-1024, in PKCS#8"), "{error}");
    }

    #[test]
    fn pkcs1_and_sec1_load() {
        for (algorithm, label) in
            [(KeyAlgorithm::Rsa2048, "RSA PRIVATE KEY"), (KeyAlgorithm::EcdsaP384, "EC PRIVATE KEY")]
        {
            let key = generate(algorithm).unwrap();
            // The content of PKCS#8's OCTET STRING is PKCS#1 for RSA and SEC1, without the curve, for ECDSA.
            let (_, inner) = open_pkcs8(key.secret_der()).unwrap();
            let inner = match algorithm {
                KeyAlgorithm::Rsa2048 => inner.to_vec(),
                _ => with_curve(inner, SECP384R1),
            };
            let loaded = signing_key(&private_key(source(&pem(label, &inner)), None).unwrap()).unwrap();
            assert_eq!(loaded.public_key(), signing_key(&key).unwrap().public_key());
            assert_eq!(signing_key_kind(loaded.as_ref()).unwrap(), algorithm.kind());
        }
    }

    const SECP384R1: &str = "1.3.132.0.34";

    fn with_curve(sec1: &[u8], curve: &str) -> Vec<u8> {
        let curve = tlv(0xa0, &tlv(0x06, ObjectIdentifier::new_unwrap(curve).as_bytes()));
        let fields = AnyRef::from_der(sec1).unwrap().value();
        let mut reader = SliceReader::new(fields).unwrap();
        let version = reader.tlv_bytes().unwrap().to_vec();
        let key = reader.tlv_bytes().unwrap().to_vec();
        tlv(0x30, &[version, key, curve].concat())
    }

    #[test]
    fn der_is_read_like_pem() {
        for algorithm in [KeyAlgorithm::Ed25519, KeyAlgorithm::MlDsa44, KeyAlgorithm::Rsa2048] {
            let key = generate(algorithm).unwrap();
            assert_eq!(*private_key(source(key.secret_der()), None).unwrap(), *key);
        }
        let key = generate(KeyAlgorithm::EcdsaP384).unwrap();
        let (_, inner) = open_pkcs8(key.secret_der()).unwrap();
        let sec1 = private_key(source(&with_curve(inner, SECP384R1)), None).unwrap();
        assert!(matches!(*sec1, PrivateKeyDer::Sec1(_)));
        let signer = signing_key(&key).unwrap();
        let leaf = certificate("leaf", signer.as_ref(), -60, 60, &[]);
        let two = [&leaf[..], &leaf[..]].concat();
        assert_eq!(certificates(source(&two)).unwrap(), [leaf.clone(), leaf.clone()]);
        let told = private_key(source(&leaf), None).unwrap_err().to_string();
        assert!(told.contains("it is DER, but not of a key") && told.contains("interchanged?"), "{told}");
        let told = certificates(source(key.secret_der())).unwrap_err().to_string();
        assert!(told.contains("not of a certificate") && told.contains("interchanged?"), "{told}");
        // What `openssl s_client -showcerts` writes before a certificate, cut out of its output.
        let text = [b"0 s:CN=a.example, O=Example, C=KR\n", &pem("CERTIFICATE", &leaf)[..]].concat();
        assert_eq!(certificates(source(&text)).unwrap(), [leaf.clone()]);
        let cut = certificates(source(&leaf[..leaf.len() - 9])).unwrap_err().to_string();
        assert!(cut.contains("it begins like DER, but is cut off"), "{cut}");
    }

    #[test]
    fn an_encrypted_key_is_told_with_the_way_to_decrypt_it() {
        let scheme = tlv(0x30, &tlv(0x06, &[0x2a, 0x03]));
        let pkcs8 = pem("ENCRYPTED PRIVATE KEY", &tlv(0x30, &[scheme, tlv(0x04, &[0])].concat()));
        let traditional = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\n\
              AAAA\n-----END RSA PRIVATE KEY-----\n";
        for bytes in [&pkcs8[..], traditional] {
            let error = private_key(source(bytes), None).unwrap_err().to_string();
            assert!(error.starts_with("file.pem: the private key is encrypted"), "{error}");
            assert!(error.contains("openssl pkcs8 -topk8 -v2 aes-256-cbc -in file.pem"), "{error}");
        }
    }

    #[test]
    fn a_file_without_what_is_looked_for_says_what_it_holds() {
        let key = pem("PRIVATE KEY", generate(KeyAlgorithm::Ed25519).unwrap().secret_der());
        let certificate = pem("CERTIFICATE", &[0x30, 0x00]);
        let told = |error: Error| error.to_string();
        let error = told(certificates(source(&key)).unwrap_err());
        assert!(error.contains("holds no certificate: its PEM sections are `PRIVATE KEY`"), "{error}");
        assert!(error.contains("interchanged?"), "{error}");
        let error = told(private_key(source(&certificate), None).unwrap_err());
        assert!(error.contains("holds no private key: its PEM sections are `CERTIFICATE`"), "{error}");
        assert!(error.contains("interchanged?"), "{error}");
        let error = told(certificates(source(&tlv(0x30, &[0; 200]))).unwrap_err());
        assert!(error.contains("it is DER, but") && error.contains("openssl pkcs12"), "{error}");
        assert!(told(private_key(source(b""), None).unwrap_err()).contains("it is empty"));
        assert!(told(certificates(source(b"hello\n")).unwrap_err()).contains("it has no PEM section"));
        let error = told(certificates(source(&pem("TRUSTED CERTIFICATE", &[0x30, 0x00]))).unwrap_err());
        assert!(error.contains("openssl x509 -in FILE"), "{error}");
    }

    #[test]
    fn broken_pem_is_told() {
        let mut certificate = pem("CERTIFICATE", &[0x30, 0x00]);
        certificate.truncate(certificate.len() - 10);
        let error = certificates(source(&certificate)).unwrap_err().to_string();
        assert!(error.contains("is not well-formed PEM"), "{error}");
    }

    #[test]
    fn parameters_before_the_key_are_skipped() {
        // `openssl ecparam -genkey` writes them so.
        let key = generate(KeyAlgorithm::EcdsaP256).unwrap();
        let mut file = pem("EC PARAMETERS", &[0x06, 0x00]);
        file.extend(pem("PRIVATE KEY", key.secret_der()));
        assert_eq!(*private_key(source(&file), None).unwrap(), *key);
    }
}
