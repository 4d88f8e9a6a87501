//! Private keys as files hold them: PKCS#8 in PEM, plain or encrypted under a passphrase.

use std::env;
use std::fmt;
use std::path::Path;

use der::Decode;
use der::pem::{LineEnding, encode_string};
use pkcs8::pkcs5::pbes2::{EncryptionScheme, Kdf, Parameters, Pbkdf2Params};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use qtls_core::credentials::{Source, files, private_key, random};
use qtls_core::{Error, Result};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use zeroize::Zeroizing;

/// A private key, wiped from memory when it is dropped.
pub type SecretKey = Zeroizing<PrivateKeyDer<'static>>;

/// What a key is encrypted under. Never shown, and wiped from memory when it is dropped.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl Passphrase {
    /// The first line of a file, without its line ending.
    pub fn from_file(path: &Path) -> Result<Self> {
        let content = files::read_secret(path)?;
        let line = content.split(|octet| *octet == b'\n').next().unwrap_or_default();
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        Self::new(line).map_err(|error| error.at(path.display()))
    }

    /// The value of an environment variable.
    pub fn from_environment(variable: &str) -> Result<Self> {
        let place = format!("environment variable {variable}");
        let value = env::var_os(variable)
            .ok_or_else(|| Error::configuration("is not set, and the passphrase was to come from there").at(&place))?;
        let value = Zeroizing::new(value.into_encoded_bytes());
        Self::new(&value).map_err(|error| error.at(place))
    }

    /// A passphrase of these octets; an empty one protects nothing and is refused.
    pub fn new(octets: &[u8]) -> Result<Self> {
        if octets.is_empty() {
            return Err(Error::configuration("holds an empty passphrase").hint("give one of several random words"));
        }
        Ok(Self(Zeroizing::new(octets.to_vec())))
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// A PKCS#8 key as PEM: `PRIVATE KEY`, or under a passphrase `ENCRYPTED PRIVATE KEY`.
///
/// Encrypted is it with AES-256-CBC under a key from PBKDF2 with HMAC-SHA-256 (PBES2, RFC 8018), which every program
/// reads that reads encrypted keys at all, and whose parts FIPS 140-3 approves.
pub fn private_key_pem(key: &PrivateKeyDer<'_>, passphrase: Option<&Passphrase>) -> Result<Zeroizing<String>> {
    let Some(Passphrase(passphrase)) = passphrase else {
        return pem("PRIVATE KEY", key.secret_der());
    };
    let failed = |error: &dyn fmt::Display| Error::internal(format!("the key can't be encrypted: {error}"));
    let kdf = Pbkdf2Params::hmac_sha256(ITERATIONS, &random::<16>()?).map_err(|error| failed(&error))?;
    let encryption = EncryptionScheme::Aes256Cbc { iv: random::<16>()? };
    let parameters = Parameters { kdf: Kdf::Pbkdf2(kdf), encryption };
    let encrypted = PrivateKeyInfoRef::from_der(key.secret_der())
        .map_err(|error| failed(&error))?
        .encrypt_with_params(parameters, passphrase.as_slice())
        .map_err(|error| failed(&error))?;
    pem(ENCRYPTED_LABEL, encrypted.as_bytes())
}

/// Reads the private key of a PEM file, decrypting it if it must be.
///
/// Errors name the format found, and tell a wrong passphrase from a damaged file. A passphrase for a key that isn't
/// encrypted is not an error: the caller can't know.
pub fn read_private_key(source: Source<'_>, passphrase: Option<&Passphrase>) -> Result<SecretKey> {
    let Some(der) = encrypted_section(source.bytes) else { return private_key(source) };
    let der = der.map_err(|error| Error::certificate(format!("is not well-formed PEM: {error}")).at(source.origin))?;
    let Some(Passphrase(passphrase)) = passphrase else {
        return Err(Error::certificate("the private key is encrypted, and no passphrase was given")
            .at(source.origin)
            .hint("give the file that holds it as --passphrase-file FILE, or a variable as --passphrase-env NAME"));
    };
    let info = EncryptedPrivateKeyInfoRef::from_der(&der).map_err(|error| {
        Error::certificate(format!("the encrypted private key is damaged: {error}")).at(source.origin)
    })?;
    let decrypted = info.decrypt(passphrase.as_slice()).map_err(|error| refusal(&error).at(source.origin))?;
    Ok(Zeroizing::new(PrivatePkcs8KeyDer::from(decrypted.as_bytes().to_vec()).into()))
}

/// Whether a PEM file holds an encrypted PKCS#8 key.
pub fn is_encrypted(pem: &[u8]) -> bool {
    encrypted_section(pem).is_some()
}

/// The first section with an encrypted key, decoded.
fn encrypted_section(bytes: &[u8]) -> Option<Result<Vec<u8>, der::pem::Error>> {
    let text = str::from_utf8(bytes).ok()?;
    let begin = format!("-----BEGIN {ENCRYPTED_LABEL}-----");
    let end = format!("-----END {ENCRYPTED_LABEL}-----");
    let start = text.find(&begin)?;
    let stop = text[start..].find(&end).map_or(text.len(), |length| start + length + end.len());
    Some(der::pem::decode_vec(&text.as_bytes()[start..stop]).map(|(_, der)| der))
}

fn refusal(error: &pkcs8::Error) -> Error {
    match error {
        pkcs8::Error::EncryptedPrivateKey(pkcs8::pkcs5::Error::DecryptFailed) | pkcs8::Error::Asn1(_) => {
            Error::certificate("the passphrase does not fit: the private key can't be decrypted with it")
                .hint("is this the passphrase of this very key? a passphrase is the first line of its file")
        }
        error => Error::certificate(format!("the private key is encrypted in a way that can't be read: {error}")).hint(
            "encrypt it again with PBES2: `openssl pkcs8 -topk8 -v2 aes-256-cbc -v2prf hmacWithSHA256 -in OLD -out NEW`",
        ),
    }
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
    use qtls_core::credentials::{generate, signing_key};
    use qtls_core::policy::{KeyAlgorithm, Named};

    use super::*;

    fn read(pem: &str, passphrase: Option<&str>) -> Result<SecretKey> {
        let passphrase = passphrase.map(|text| Passphrase::new(text.as_bytes()).unwrap());
        read_private_key(Source { origin: "key.pem", bytes: pem.as_bytes() }, passphrase.as_ref())
    }

    #[test]
    fn every_kind_of_key_comes_back_from_under_its_passphrase() {
        let passphrase = Passphrase::new("말 배터리 스테이플".as_bytes()).unwrap();
        for algorithm in KeyAlgorithm::ALL.iter().copied().filter(|algorithm| *algorithm != KeyAlgorithm::Rsa4096) {
            let key = generate(algorithm).unwrap();
            let pem = private_key_pem(&key, Some(&passphrase)).unwrap();
            assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n") && is_encrypted(pem.as_bytes()));
            let back = read(&pem, Some("말 배터리 스테이플")).unwrap();
            assert_eq!(back.secret_der(), key.secret_der(), "{algorithm}");
            signing_key(&back).unwrap();
        }
    }

    #[test]
    fn a_wrong_passphrase_is_told_from_a_missing_one() {
        let key = generate(KeyAlgorithm::EcdsaP256).unwrap();
        let pem = private_key_pem(&key, Some(&Passphrase::new(b"right").unwrap())).unwrap();
        let error = read(&pem, Some("wrong")).unwrap_err();
        assert_eq!(error.place(), Some("key.pem"));
        assert!(error.message().contains("the passphrase does not fit"), "{error}");
        let error = read(&pem, None).unwrap_err();
        assert!(error.message().contains("no passphrase was given"), "{error}");
        assert!(error.hint_text().unwrap().contains("--passphrase-file"), "{error}");
        let plain = private_key_pem(&key, None).unwrap();
        assert_eq!(read(&plain, Some("any")).unwrap().secret_der(), key.secret_der());
        assert_eq!(read(&pem[..pem.len() - 60], Some("right")).unwrap_err().place(), Some("key.pem"));
    }

    #[test]
    fn a_passphrase_is_the_first_line_and_is_never_shown() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("passphrase");
        std::fs::write(&path, "secret words \r\nsecond line\n").unwrap();
        let passphrase = Passphrase::from_file(&path).unwrap();
        assert_eq!(passphrase.0.as_slice(), b"secret words ");
        assert_eq!(format!("{passphrase:?}"), "Passphrase(…)");
        std::fs::write(&path, "\n").unwrap();
        assert!(Passphrase::from_file(&path).unwrap_err().message().contains("empty passphrase"));
        let error = Passphrase::from_environment("QTLS_TEST_THAT_IS_NOT_SET").unwrap_err();
        assert_eq!(error.place(), Some("environment variable QTLS_TEST_THAT_IS_NOT_SET"));
    }
}
