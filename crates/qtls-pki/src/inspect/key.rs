//! Keys: the kind, how strong it is, and the name that pins and allow-lists know it by.

use der::Decode;
use qtls_core::credentials::{KeyKind, Passphrase, Source, key_kind, private_key, sha256, signing_key};
use rustls::pki_types::PrivateKeyDer;
use serde::Serialize;
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::{Item, hex};
use crate::issue::public_key;
use crate::pem::Section;

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PublicKeyReport {
    /// The kind, such as `ECDSA P-384`; for one that Q-TLS doesn't support, why.
    pub kind: String,
    /// How strong it is, in words.
    pub strength: Option<String>,
    /// Whether it withstands quantum computers.
    pub post_quantum: bool,
    /// The SHA-256 of the DER `SubjectPublicKeyInfo`, in hex.
    pub spki_sha256: String,
    #[serde(skip)]
    pub(super) known: Option<KeyKind>,
}

impl PublicKeyReport {
    /// Reads a DER `SubjectPublicKeyInfo`.
    pub(super) fn of(spki: &[u8]) -> Self {
        let spki_sha256 = hex(&sha256(spki));
        match key_kind(spki) {
            Ok(kind) => Self {
                kind: kind.to_string(),
                strength: Some(strength(kind)),
                post_quantum: is_post_quantum(kind),
                spki_sha256,
                known: Some(kind),
            },
            Err(error) => {
                Self { kind: error.message().to_owned(), strength: None, post_quantum: false, spki_sha256, known: None }
            }
        }
    }
}

/// A key in a file of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyReport {
    /// How it is written: `PKCS#8`, `encrypted PKCS#8`, `PKCS#1`, `SEC1`, `SubjectPublicKeyInfo`.
    pub format: &'static str,
    /// Its public half; absent where the file could not be decrypted or read.
    pub key: Option<PublicKeyReport>,
    /// What is wrong with it.
    pub problems: Vec<String>,
}

pub(super) fn private(section: &Section, source: Source<'_>, passphrase: Option<&Passphrase>) -> KeyReport {
    let format = match section.label.as_str() {
        _ if section.encrypted => "traditionally encrypted key",
        "ENCRYPTED PRIVATE KEY" => "encrypted PKCS#8",
        "RSA PRIVATE KEY" => "PKCS#1",
        "EC PRIVATE KEY" => "SEC1",
        _ => "PKCS#8",
    };
    // Each section by itself, so that every key of a file with several is told. What an encrypted one lacks is in its
    // headers, which only the whole file has.
    let own = if section.encrypted { source } else { Source { origin: source.origin, bytes: &section.der } };
    let read = private_key(own, passphrase).and_then(|key| public_key(signing_key(&key)?.as_ref()));
    of_spki(format, read)
}

pub(super) fn public(spki: &[u8]) -> KeyReport {
    of_spki("SubjectPublicKeyInfo", Ok(spki.to_vec()))
}

pub(super) fn of_der(der: &[u8]) -> Option<Item> {
    if SubjectPublicKeyInfoRef::from_der(der).is_ok() {
        return Some(Item::PublicKey(public(der)));
    }
    let key = PrivateKeyDer::try_from(der).ok()?;
    let format = match key {
        PrivateKeyDer::Pkcs1(_) => "PKCS#1",
        PrivateKeyDer::Sec1(_) => "SEC1",
        _ => "PKCS#8",
    };
    let read = signing_key(&key).and_then(|key| public_key(key.as_ref()));
    Some(Item::PrivateKey(of_spki(format, read)))
}

fn of_spki(format: &'static str, spki: qtls_core::Result<Vec<u8>>) -> KeyReport {
    match spki {
        Ok(spki) => {
            let key = PublicKeyReport::of(&spki);
            let problems = super::problems::weak_key(&key).into_iter().collect();
            KeyReport { format, key: Some(key), problems }
        }
        Err(error) => KeyReport { format, key: None, problems: vec![error.message().to_owned()] },
    }
}

/// NIST SP 800-57 part 1, table 2, and FIPS 204, table 1.
fn strength(kind: KeyKind) -> String {
    match kind {
        KeyKind::Rsa(bits) => {
            let classical = match bits {
                0..2048 => "less than 112",
                2048..3072 => "112",
                3072..7680 => "128",
                _ => "192",
            };
            return format!("{classical}-bit");
        }
        KeyKind::EcdsaP256 | KeyKind::Ed25519 => "128-bit",
        KeyKind::EcdsaP384 => "192-bit",
        KeyKind::EcdsaP521 => "256-bit",
        KeyKind::MlDsa44 => "NIST category 2",
        KeyKind::MlDsa65 => "NIST category 3",
        KeyKind::MlDsa87 => "NIST category 5",
    }
    .to_owned()
}

fn is_post_quantum(kind: KeyKind) -> bool {
    matches!(kind, KeyKind::MlDsa44 | KeyKind::MlDsa65 | KeyKind::MlDsa87)
}
