//! ML-DSA (FIPS 204), over the message itself and with the empty context string: the cryptographic library takes no other.

use std::fmt;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::signature::{
    KeyPair, ML_DSA_44, ML_DSA_44_SIGNING, ML_DSA_65, ML_DSA_65_SIGNING, ML_DSA_87, ML_DSA_87_SIGNING, ParsedPublicKey,
    PqdsaKeyPair, PqdsaSigningAlgorithm, PqdsaVerificationAlgorithm,
};
use rustls::pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

use super::expect_length;
use crate::credentials::{KeyKind, Passphrase, Source, key_kind, private_key, signing_key, signing_key_kind};
use crate::{Error, Fault, Result};

/// A parameter set of FIPS 204.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MlDsa {
    /// ML-DSA-44, category 2.
    MlDsa44,
    /// ML-DSA-65, category 3.
    MlDsa65,
    /// ML-DSA-87, category 5.
    MlDsa87,
}

/// Octets of a seed, in every parameter set.
pub const SEED_LEN: usize = 32;

impl MlDsa {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::MlDsa44, Self::MlDsa65, Self::MlDsa87];

    /// The name in FIPS 204.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MlDsa44 => "ML-DSA-44",
            Self::MlDsa65 => "ML-DSA-65",
            Self::MlDsa87 => "ML-DSA-87",
        }
    }

    /// Octets of a public key (FIPS 204, table 2).
    pub fn public_key_len(self) -> usize {
        self.signing().public_key_len()
    }

    /// Octets of a signature (FIPS 204, table 2).
    pub fn signature_len(self) -> usize {
        self.signing().signature_len()
    }

    fn of(kind: KeyKind) -> Option<Self> {
        Self::ALL.into_iter().find(|set| set.kind() == kind)
    }

    fn kind(self) -> KeyKind {
        match self {
            Self::MlDsa44 => KeyKind::MlDsa44,
            Self::MlDsa65 => KeyKind::MlDsa65,
            Self::MlDsa87 => KeyKind::MlDsa87,
        }
    }

    fn signing(self) -> &'static PqdsaSigningAlgorithm {
        match self {
            Self::MlDsa44 => &ML_DSA_44_SIGNING,
            Self::MlDsa65 => &ML_DSA_65_SIGNING,
            Self::MlDsa87 => &ML_DSA_87_SIGNING,
        }
    }

    fn verification(self) -> &'static PqdsaVerificationAlgorithm {
        match self {
            Self::MlDsa44 => &ML_DSA_44,
            Self::MlDsa65 => &ML_DSA_65,
            Self::MlDsa87 => &ML_DSA_87,
        }
    }
}

/// Why a signature was not found valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What was given has the shape of nothing in this parameter set.
    Shape(Error),
    /// The public key is damaged, or one of something else.
    PublicKey(Error),
    /// The signature is not one of this message by this key.
    Signature(Error),
}

/// Verifies a signature of `message`. The public key is the octets of FIPS 204, or a DER `SubjectPublicKeyInfo` (RFC 9881,
/// section 4).
///
/// # Errors
/// It isn't valid, or can't be judged.
pub fn verify(set: MlDsa, public_key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), Refusal> {
    expect_length("a signature", set.name(), signature, set.signature_len()).map_err(Refusal::Shape)?;
    if public_key.len() != set.public_key_len() {
        let other = |found: &dyn fmt::Display| {
            Refusal::Shape(
                Error::configuration(format!("this is no public key of {}: {found}", set.name()))
                    .hint(format!("it has {} bytes, or is a SubjectPublicKeyInfo in DER", set.public_key_len())),
            )
        };
        match key_kind(public_key) {
            Ok(kind) if kind == set.kind() => {}
            Ok(kind) => return Err(other(&format_args!("it is for {kind}"))),
            Err(_) => return Err(other(&format_args!("{} bytes", public_key.len()))),
        }
    }
    let key = ParsedPublicKey::new(set.verification(), public_key).map_err(|_| {
        Refusal::PublicKey(Error::new(Fault::Verification, format!("the public key of {} is damaged", set.name())))
    })?;
    key.verify_sig(message, signature).map_err(|Unspecified| {
        Refusal::Signature(Error::new(Fault::Verification, "the signature is not one of this message by this key"))
    })
}

/// A key that signs. Wiped when it is dropped.
#[derive(Debug)]
pub struct SigningKey {
    set: MlDsa,
    pair: PqdsaKeyPair,
}

impl SigningKey {
    /// Makes a key.
    ///
    /// # Errors
    /// The cryptographic library could not.
    pub fn generate(set: MlDsa) -> Result<Self> {
        let pair = PqdsaKeyPair::generate(set.signing()).map_err(|Unspecified| {
            Error::internal(format!("the cryptographic library could not make an {} key", set.name()))
        })?;
        Ok(Self { set, pair })
    }

    /// The key that follows from a seed (FIPS 204, algorithm 6), which has to be secret and random.
    ///
    /// # Errors
    /// The length is another one than [`SEED_LEN`].
    pub fn from_seed(set: MlDsa, seed: &[u8]) -> Result<Self> {
        expect_length("a seed", set.name(), seed, SEED_LEN)?;
        let pair = PqdsaKeyPair::from_seed(set.signing(), seed)
            .map_err(|_| Error::internal("the cryptographic library could not expand the seed"))?;
        Ok(Self { set, pair })
    }

    /// Reads a key in PKCS#8, PEM or DER, encrypted or not, in any of the three forms of RFC 9881, section 6. Which
    /// parameter set it is of stands in it.
    ///
    /// # Errors
    /// There is none, it is damaged, of something else, or can't be decrypted.
    pub fn read(source: Source<'_>, passphrase: Option<&Passphrase>) -> Result<Self> {
        let der = private_key(source, passphrase)?;
        let signer = signing_key(&der).map_err(|error| error.at(source.origin))?;
        let kind = signing_key_kind(signer.as_ref())?;
        let (Some(set), PrivateKeyDer::Pkcs8(pkcs8)) = (MlDsa::of(kind), &*der) else {
            return Err(Error::certificate(format!("the private key is {kind}, not ML-DSA")).at(source.origin));
        };
        let pair = PqdsaKeyPair::from_pkcs8(set.signing(), pkcs8.secret_pkcs8_der())
            .map_err(|error| Error::certificate(format!("the private key is damaged: {error}")).at(source.origin))?;
        Ok(Self { set, pair })
    }

    /// The parameter set.
    pub fn set(&self) -> MlDsa {
        self.set
    }

    /// The public key as FIPS 204 has it.
    pub fn public_key(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    /// The public key as a DER `SubjectPublicKeyInfo` (RFC 9881, section 4).
    ///
    /// # Errors
    /// The cryptographic library could not give it.
    pub fn spki(&self) -> Result<Vec<u8>> {
        let der = self.pair.public_key().as_der();
        let der = der.map_err(|Unspecified| Error::internal("the cryptographic library could not give the key"))?;
        Ok(der.as_ref().to_vec())
    }

    /// The key as PKCS#8 in DER: as its seed where that is known, or else in its expanded form (RFC 9881, section 6).
    /// Wiped when it is dropped.
    ///
    /// # Errors
    /// The cryptographic library could not give it.
    pub fn pkcs8(&self) -> Result<Zeroizing<Vec<u8>>> {
        let der = self.pair.to_pkcs8v1();
        let der = der.map_err(|Unspecified| Error::internal("the cryptographic library could not give the key"))?;
        Ok(Zeroizing::new(der.as_ref().to_vec()))
    }

    /// Signs a message. Two signatures of the same message differ (FIPS 204, the hedged variant).
    ///
    /// # Errors
    /// The cryptographic library could not.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let mut signature = vec![0; self.set.signature_len()];
        match self.pair.sign(message, &mut signature) {
            Ok(length) if length == signature.len() => Ok(signature),
            _ => Err(Error::internal("the cryptographic library could not sign")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::generate;
    use crate::policy::KeyAlgorithm;

    fn read(bytes: &[u8]) -> Result<SigningKey> {
        SigningKey::read(Source { origin: "the key", bytes }, None)
    }

    #[test]
    fn what_was_signed_verifies_and_nothing_else() {
        for set in MlDsa::ALL {
            let (key, other) = (SigningKey::generate(set).unwrap(), SigningKey::generate(set).unwrap());
            let mut signature = key.sign(b"message").unwrap();
            assert_ne!(key.sign(b"message").unwrap(), signature, "signatures are randomized");
            for public_key in [key.public_key(), &key.spki().unwrap()] {
                verify(set, public_key, b"message", &signature).unwrap();
                let refused = verify(set, public_key, b"massage", &signature);
                assert!(matches!(refused, Err(Refusal::Signature(_))), "{refused:?}");
            }
            let refused = verify(set, other.public_key(), b"message", &signature);
            assert!(matches!(refused, Err(Refusal::Signature(_))), "{refused:?}");
            signature[100] ^= 1;
            let refused = verify(set, key.public_key(), b"message", &signature);
            assert!(matches!(refused, Err(Refusal::Signature(_))), "{refused:?}");
        }
    }

    #[test]
    fn a_key_that_was_read_is_the_one_that_was_written() {
        for set in MlDsa::ALL {
            let key = SigningKey::generate(set).unwrap();
            assert_eq!(key.public_key().len(), set.public_key_len());
            let pkcs8 = key.pkcs8().unwrap();
            let same = read(&pkcs8).unwrap();
            assert_eq!((same.set(), same.public_key()), (set, key.public_key()));
            // RFC 9881, section 6: seed [0] IMPLICIT OCTET STRING (SIZE (32)), the last element of PKCS#8.
            let seed = &pkcs8[pkcs8.len() - SEED_LEN..];
            assert_eq!(SigningKey::from_seed(set, seed).unwrap().public_key(), key.public_key());
        }
    }

    #[test]
    fn mix_ups_are_told_from_damage() {
        let key = SigningKey::generate(MlDsa::MlDsa65).unwrap();
        let signature = key.sign(b"").unwrap();
        let shape = |refused: Result<(), Refusal>| match refused {
            Err(Refusal::Shape(error)) => error.message().to_owned(),
            other => panic!("{other:?}"),
        };
        assert_eq!(
            shape(verify(MlDsa::MlDsa44, key.public_key(), b"", &signature)),
            "a signature of ML-DSA-44 has 2420 bytes, not 3309"
        );
        assert_eq!(
            shape(verify(MlDsa::MlDsa65, &key.public_key()[1..], b"", &signature)),
            "this is no public key of ML-DSA-65: 1951 bytes"
        );
        let other = SigningKey::generate(MlDsa::MlDsa44).unwrap().spki().unwrap();
        assert_eq!(
            shape(verify(MlDsa::MlDsa65, &other, b"", &signature)),
            "this is no public key of ML-DSA-65: it is for ML-DSA-44"
        );
        assert_eq!(
            SigningKey::from_seed(MlDsa::MlDsa65, &[0; 31]).unwrap_err().message(),
            "a seed of ML-DSA-65 has 32 bytes, not 31"
        );
        let ecdsa = generate(KeyAlgorithm::EcdsaP256).unwrap();
        let error = read(ecdsa.secret_der()).unwrap_err();
        assert_eq!(error.to_string(), "the key: the private key is ECDSA P-256, not ML-DSA");
        assert_eq!(read(b"nothing").unwrap_err().fault(), Fault::Certificate);
    }
}
