//! Private keys behind a passphrase: encrypted PKCS#8 with PBES2 (RFC 8018), as OpenSSL writes it.

use std::fmt;

use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::pkcs5::pbes2::{Kdf, Parameters};
use pkcs8::pkcs5::{EncryptionScheme, Error as Pkcs5Error};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::{Decode, Tag, Tagged};
use zeroize::Zeroizing;

use crate::{Error, Result};

/// What decrypts a private key. Never shown, and wiped when dropped.
#[derive(Clone)]
pub struct Passphrase {
    octets: Zeroizing<Vec<u8>>,
    origin: String,
}

impl Passphrase {
    /// A passphrase, and where it came from, for messages: a path, or `environment variable NAME`.
    ///
    /// One line end after it is no part of it: editors and `echo` add one.
    ///
    /// # Errors
    /// Nothing is left, or it goes over several lines.
    pub fn new(octets: Zeroizing<Vec<u8>>, origin: impl Into<String>) -> Result<Self> {
        let origin = origin.into();
        let line = octets.strip_suffix(b"\n").unwrap_or(&octets);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.is_empty() {
            return Err(Error::configuration("the passphrase is empty").at(origin));
        }
        if line.iter().any(|octet| matches!(octet, b'\n' | b'\r' | 0)) {
            return Err(Error::configuration("is no passphrase: that is one line of text")
                .at(origin)
                .hint("are the passphrase and the key interchanged?"));
        }
        Ok(Self { octets: Zeroizing::new(line.to_vec()), origin })
    }

    /// What goes into a key derivation. Not to be shown or kept.
    pub fn octets(&self) -> &[u8] {
        &self.octets
    }

    /// Where it came from.
    pub fn origin(&self) -> &str {
        &self.origin
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Passphrase").field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// Decrypts a DER `EncryptedPrivateKeyInfo`. `origin` names the file.
pub(super) fn decrypt(
    der: &[u8],
    passphrase: Option<&Passphrase>,
    origin: &str,
) -> Result<Zeroizing<PrivateKeyDer<'static>>> {
    let info = EncryptedPrivateKeyInfoRef::from_der(der).map_err(|error| {
        Error::certificate(format!("the private key is encrypted in a way that is not read here: {error}"))
            .at(origin)
            .hint(format!("encrypt it again as OpenSSL does today: {}", reencrypt(origin)))
    })?;
    let EncryptionScheme::Pbes2(parameters) = &info.encryption_algorithm else {
        return Err(Error::certificate(
            "the private key is encrypted with PBES1 (DES or RC2), which gives no protection and is not read here",
        )
        .at(origin)
        .hint(format!("encrypt it again: {}", reencrypt(origin))));
    };
    check_cost(parameters).map_err(|error| error.at(origin))?;
    let Some(passphrase) = passphrase else {
        return Err(needs_passphrase(origin));
    };
    let wrong = || {
        Error::certificate(format!(
            "the passphrase from {} does not decrypt this private key: it is the wrong one, or the file is damaged",
            passphrase.origin
        ))
        .at(origin)
        .hint(format!("`openssl pkey -in {origin} -noout` asks for the passphrase and tries it"))
    };
    // Decrypted in place, in one allocation, so that no copy of the key stays behind.
    let mut buffer = Zeroizing::new(info.encrypted_data.as_bytes().to_vec());
    let length = parameters
        .decrypt_in_place(passphrase.octets.as_slice(), &mut buffer)
        .map_err(|error| match error {
            Pkcs5Error::DecryptFailed => wrong(),
            error => {
                Error::certificate(format!("the private key is encrypted in a way that is not read here: {error}"))
                    .at(origin)
                    .hint(format!("encrypt it again as OpenSSL does today: {}", reencrypt(origin)))
            }
        })?
        .len();
    buffer.truncate(length);
    // One wrong passphrase in 256 leaves octets that look like the padding.
    if !AnyRef::from_der(&buffer).is_ok_and(|plain| plain.tag() == Tag::Sequence) {
        return Err(wrong());
    }
    Ok(Zeroizing::new(PrivatePkcs8KeyDer::from(std::mem::take(&mut *buffer)).into()))
}

/// The error for an encrypted key where no passphrase was given.
pub(super) fn needs_passphrase(origin: &str) -> Error {
    Error::certificate("the private key is encrypted: reading it needs a passphrase, and none is configured")
        .at(origin)
        .hint(format!(
            "give the passphrase in a file or an environment variable, or decrypt the key once into a file that only \
             the service can read: `(umask 077; openssl pkey -in {origin} -out {})`",
            decrypted_name(origin)
        ))
}

/// How to make of a key that is encrypted in an old way one that can be read here, as a command.
pub(super) fn reencrypt(origin: &str) -> String {
    format!("`openssl pkcs8 -topk8 -v2 aes-256-cbc -in {origin} -out {}`", renamed(origin, "reencrypted"))
}

/// Far above what any tool writes (OpenSSL: 2048 rounds, or 16 MiB), and low enough that a damaged or hostile file
/// costs seconds, not the machine.
const MAX_ROUNDS: u32 = 10_000_000;
const MAX_SCRYPT_MEMORY: u64 = 256 << 20;
const MAX_SCRYPT_WORK: u64 = 4 * MAX_SCRYPT_MEMORY;

fn check_cost(parameters: &Parameters) -> Result<()> {
    let excessive = match &parameters.kdf {
        Kdf::Pbkdf2(kdf) => kdf.iteration_count > MAX_ROUNDS,
        Kdf::Scrypt(kdf) => {
            let memory = kdf.cost_parameter.saturating_mul(128 * u64::from(kdf.block_size));
            memory > MAX_SCRYPT_MEMORY || memory.saturating_mul(kdf.parallelization.into()) > MAX_SCRYPT_WORK
        }
        _ => false,
    };
    if !excessive {
        return Ok(());
    }
    Err(Error::certificate("the private key's encryption asks for more time or memory than reading a key may take")
        .hint("accepted are up to 10,000,000 rounds of PBKDF2, and scrypt in up to 256 MiB"))
}

fn decrypted_name(origin: &str) -> String {
    renamed(origin, "decrypted")
}

fn renamed(origin: &str, suffix: &str) -> String {
    match origin.strip_suffix(".pem") {
        Some(stem) => format!("{stem}-{suffix}.pem"),
        None => format!("{origin}-{suffix}"),
    }
}

#[cfg(test)]
mod tests {
    use pkcs8::pkcs5::pbes2::{Pbkdf2Params, Pbkdf2Prf, ScryptParams};
    use pkcs8::pkcs5::scrypt;
    use x509_cert::der::Encode;

    use super::super::test_chain::tlv;
    use super::super::{Source, generate, private_key, random};
    use super::*;
    use crate::policy::KeyAlgorithm;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.as_bytes().to_vec()), "passphrase.txt").unwrap()
    }

    fn encrypted(parameters: &Parameters, plain: &[u8]) -> Vec<u8> {
        let data = parameters.encrypt("옳은 passphrase", plain).unwrap();
        let scheme = EncryptionScheme::from(parameters.clone()).to_der().unwrap();
        tlv(0x30, &[scheme, tlv(0x04, &data)].concat())
    }

    fn pbkdf2() -> Parameters {
        Parameters::generate_pbkdf2_sha256_aes256cbc(2048, &random::<16>().unwrap(), random().unwrap()).unwrap()
    }

    #[test]
    fn both_derivations_decrypt_in_pem_and_der() {
        let key = generate(KeyAlgorithm::MlDsa65).unwrap();
        let cost = scrypt::Params::new(4, 8, 1).unwrap();
        let scrypt = Parameters::generate_scrypt_aes256cbc(cost, &random::<8>().unwrap(), random().unwrap()).unwrap();
        for parameters in [pbkdf2(), scrypt] {
            let der = encrypted(&parameters, key.secret_der());
            let pem = super::super::test_chain::pem("ENCRYPTED PRIVATE KEY", &der);
            for bytes in [der, pem] {
                let source = Source { origin: "key.pem", bytes: &bytes };
                let read = private_key(source, Some(&passphrase("옳은 passphrase\n"))).unwrap();
                assert_eq!(*read, *key);
                let error = private_key(source, None).unwrap_err().to_string();
                assert!(error.starts_with("key.pem: the private key is encrypted"), "{error}");
            }
        }
    }

    #[test]
    fn a_wrong_passphrase_is_told_also_when_the_padding_happens_to_fit() {
        let der = encrypted(&pbkdf2(), generate(KeyAlgorithm::Ed25519).unwrap().secret_der());
        // Some of these decrypt into valid padding: one in 256 does.
        for attempt in 0..600 {
            let wrong = passphrase(&format!("wrong {attempt}"));
            let mut cheap = der.clone();
            // 2048 rounds make the loop slow; with 1 the derived key is as wrong.
            let rounds = cheap.windows(4).position(|window| window == [0x02, 0x02, 0x08, 0x00]).unwrap();
            cheap[rounds + 2..rounds + 4].copy_from_slice(&[0x00, 0x80]);
            let error = decrypt(&cheap, Some(&wrong), "key.pem").unwrap_err().to_string();
            assert!(error.starts_with("key.pem: the passphrase from passphrase.txt does not decrypt"), "{error}");
        }
    }

    #[test]
    fn a_costly_derivation_is_refused_before_it_is_done() {
        let costly = |kdf: Kdf| encrypted_with(kdf);
        let rounds = Pbkdf2Params { iteration_count: MAX_ROUNDS + 1, ..*pbkdf2().kdf.pbkdf2().unwrap() };
        assert_eq!(rounds.prf, Pbkdf2Prf::HmacWithSha256);
        let salt = rounds.salt;
        let scrypt =
            ScryptParams { salt, cost_parameter: 1 << 20, block_size: 8, parallelization: 1, key_length: None };
        for der in [costly(rounds.into()), costly(scrypt.into())] {
            let error = decrypt(&der, Some(&passphrase("x")), "key.pem").unwrap_err().to_string();
            assert!(error.contains("more time or memory"), "{error}");
        }
    }

    fn encrypted_with(kdf: Kdf) -> Vec<u8> {
        let scheme = EncryptionScheme::from(Parameters { kdf, encryption: pbkdf2().encryption }).to_der().unwrap();
        tlv(0x30, &[scheme, tlv(0x04, &[0; 64])].concat())
    }

    #[test]
    fn old_encryption_is_refused_with_the_way_out() {
        // pbeWithSHA1AndDES-CBC (RFC 8018, appendix A.3).
        let pbes1 = tlv(
            0x30,
            &[
                tlv(0x06, &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, 0x0a]),
                tlv(0x30, &[tlv(0x04, &[0; 8]), tlv(0x02, &[0x08, 0x00])].concat()),
            ]
            .concat(),
        );
        let unknown = tlv(0x30, &tlv(0x06, &[0x2a, 0x03]));
        for scheme in [pbes1, unknown] {
            let der = tlv(0x30, &[scheme, tlv(0x04, &[0; 64])].concat());
            let error = decrypt(&der, None, "old.pem").unwrap_err().to_string();
            assert!(error.contains("not read here") && error.contains("-out old-reencrypted.pem"), "{error}");
        }
    }

    #[test]
    fn a_passphrase_is_one_line_and_is_never_shown() {
        let shown = format!("{:?}", passphrase("sesame"));
        assert!(shown.contains("passphrase.txt") && !shown.contains("sesame"), "{shown}");
        let refused = |text: &str| Passphrase::new(Zeroizing::new(text.as_bytes().to_vec()), "p").unwrap_err();
        assert_eq!(refused("\r\n").to_string(), "p: the passphrase is empty");
        assert!(refused("-----BEGIN X-----\nAAAA\n").to_string().contains("interchanged?"));
    }
}
