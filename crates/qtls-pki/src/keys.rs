//! Private keys as files hold them: PKCS#8 in PEM, plain or encrypted under a passphrase.

use std::fmt;

use der::Decode;
use der::pem::{LineEnding, encode_string};
use pkcs8::PrivateKeyInfoRef;
use pkcs8::pkcs5::pbes2::{EncryptionScheme, Kdf, Parameters, Pbkdf2Params};
use qtls_core::credentials::{Passphrase, random};
use qtls_core::{Error, Result};
use rustls::pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

/// A private key, wiped from memory when it is dropped.
pub type SecretKey = Zeroizing<PrivateKeyDer<'static>>;

/// A PKCS#8 key as PEM: `PRIVATE KEY`, or under a passphrase `ENCRYPTED PRIVATE KEY`.
///
/// Encrypted is it with AES-256-CBC under a key from PBKDF2 with HMAC-SHA-256 (PBES2, RFC 8018), which every program
/// reads that reads encrypted keys at all, and whose parts FIPS 140-3 approves.
pub fn private_key_pem(key: &PrivateKeyDer<'_>, passphrase: Option<&Passphrase>) -> Result<Zeroizing<String>> {
    let Some(passphrase) = passphrase else {
        return pem("PRIVATE KEY", key.secret_der());
    };
    let failed = |error: &dyn fmt::Display| Error::internal(format!("the key can't be encrypted: {error}"));
    let kdf = Pbkdf2Params::hmac_sha256(ITERATIONS, &random::<16>()?).map_err(|error| failed(&error))?;
    let encryption = EncryptionScheme::Aes256Cbc { iv: random::<16>()? };
    let parameters = Parameters { kdf: Kdf::Pbkdf2(kdf), encryption };
    let encrypted = PrivateKeyInfoRef::from_der(key.secret_der())
        .map_err(|error| failed(&error))?
        .encrypt_with_params(parameters, passphrase.octets())
        .map_err(|error| failed(&error))?;
    pem(ENCRYPTED_LABEL, encrypted.as_bytes())
}

/// Whether a PEM file holds an encrypted PKCS#8 key.
pub fn is_encrypted(pem: &[u8]) -> bool {
    let begin = format!("-----BEGIN {ENCRYPTED_LABEL}-----");
    pem.windows(begin.len()).any(|window| window == begin.as_bytes())
}

fn pem(label: &'static str, der: &[u8]) -> Result<Zeroizing<String>> {
    encode_string(label, LineEnding::LF, der)
        .map(Zeroizing::new)
        .map_err(|error| Error::internal(format!("PEM can't be written: {error}")))
}

const ENCRYPTED_LABEL: &str = "ENCRYPTED PRIVATE KEY";
/// What OWASP asks of PBKDF2 with HMAC-SHA-256; a fraction of a second here.
const ITERATIONS: u32 = 600_000;

#[cfg(test)]
mod tests {
    use qtls_core::credentials::{Source, generate, private_key, signing_key};
    use qtls_core::policy::{KeyAlgorithm, Named};

    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.as_bytes().to_vec()), "passphrase.txt").unwrap()
    }

    fn read(pem: &str, passphrase: Option<&Passphrase>) -> Result<SecretKey> {
        private_key(Source { origin: "key.pem", bytes: pem.as_bytes() }, passphrase)
    }

    #[test]
    fn every_kind_of_key_comes_back_from_under_its_passphrase() {
        let right = passphrase("말 배터리 스테이플");
        for algorithm in KeyAlgorithm::ALL.iter().copied().filter(|algorithm| *algorithm != KeyAlgorithm::Rsa4096) {
            let key = generate(algorithm).unwrap();
            let pem = private_key_pem(&key, Some(&right)).unwrap();
            assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n") && is_encrypted(pem.as_bytes()));
            let back = read(&pem, Some(&right)).unwrap();
            assert_eq!(back.secret_der(), key.secret_der(), "{algorithm}");
            signing_key(&back).unwrap();
        }
    }

    #[test]
    fn another_passphrase_or_none_does_not_open_it() {
        let key = generate(KeyAlgorithm::EcdsaP256).unwrap();
        let pem = private_key_pem(&key, Some(&passphrase("right"))).unwrap();
        let error = read(&pem, Some(&passphrase("wrong"))).unwrap_err();
        assert_eq!(error.place(), Some("key.pem"));
        assert!(error.message().contains("does not decrypt this private key"), "{error}");
        assert!(read(&pem, None).unwrap_err().message().contains("is encrypted"));
        let plain = private_key_pem(&key, None).unwrap();
        assert!(!is_encrypted(plain.as_bytes()));
        assert_eq!(read(&plain, None).unwrap().secret_der(), key.secret_der());
        // Salt and vector are new each time.
        assert_ne!(*private_key_pem(&key, Some(&passphrase("right"))).unwrap(), *pem);
    }
}
