//! ML-KEM (FIPS 203).

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::kem::{
    Algorithm, AlgorithmId, DecapsulationKey as LibraryKey, EncapsulationKey, ML_KEM_768, ML_KEM_1024,
};
use zeroize::Zeroizing;

use super::expect_length;
use crate::{Error, Result};

/// A parameter set of FIPS 203.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MlKem {
    /// ML-KEM-768, category 3.
    MlKem768,
    /// ML-KEM-1024, category 5.
    MlKem1024,
}

/// Octets of a shared secret, in every parameter set.
pub const SECRET_LEN: usize = 32;

/// What both sides know in the end. Wiped when it is dropped.
pub struct Secret(Zeroizing<[u8; SECRET_LEN]>);

impl Secret {
    /// The octets.
    pub fn octets(&self) -> &[u8; SECRET_LEN] {
        &self.0
    }

    fn copied(secret: &[u8]) -> Self {
        let mut copy = Zeroizing::new([0; SECRET_LEN]);
        copy.copy_from_slice(secret);
        Self(copy)
    }
}

impl PartialEq for Secret {
    /// In a time that tells nothing.
    fn eq(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0[..], &other.0[..]).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl MlKem {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::MlKem768, Self::MlKem1024];

    /// The name in FIPS 203.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MlKem768 => "ML-KEM-768",
            Self::MlKem1024 => "ML-KEM-1024",
        }
    }

    /// Octets of an encapsulation key (FIPS 203, table 3).
    pub const fn encapsulation_key_len(self) -> usize {
        match self {
            Self::MlKem768 => 1184,
            Self::MlKem1024 => 1568,
        }
    }

    /// Octets of a decapsulation key (FIPS 203, table 3).
    pub const fn decapsulation_key_len(self) -> usize {
        match self {
            Self::MlKem768 => 2400,
            Self::MlKem1024 => 3168,
        }
    }

    /// Octets of a ciphertext (FIPS 203, table 3).
    pub const fn ciphertext_len(self) -> usize {
        match self {
            Self::MlKem768 => 1088,
            Self::MlKem1024 => 1568,
        }
    }

    /// Where the encapsulation key begins in a decapsulation key (FIPS 203, algorithm 16): behind the k polynomials of
    /// K-PKE, which are 384 octets each.
    const fn encapsulation_key_offset(self) -> usize {
        match self {
            Self::MlKem768 => 3 * 384,
            Self::MlKem1024 => 4 * 384,
        }
    }

    fn algorithm(self) -> &'static Algorithm<AlgorithmId> {
        match self {
            Self::MlKem768 => &ML_KEM_768,
            Self::MlKem1024 => &ML_KEM_1024,
        }
    }
}

/// Makes a secret, and the ciphertext that gives it to the holder of the decapsulation key.
///
/// # Errors
/// The encapsulation key has another length, or fails the check of FIPS 203, section 7.2.
pub fn encapsulate(set: MlKem, encapsulation_key: &[u8]) -> Result<(Vec<u8>, Secret)> {
    expect_length("an encapsulation key", set.name(), encapsulation_key, set.encapsulation_key_len())?;
    let made = EncapsulationKey::new(set.algorithm(), encapsulation_key)
        .map_err(|_| Unspecified)
        .and_then(|key| key.encapsulate());
    let (ciphertext, secret) = made.map_err(|Unspecified| {
        Error::new(crate::Fault::Verification, format!("this is no encapsulation key of {}", set.name()))
            .hint("it was damaged on its way, or is something else of the same length")
    })?;
    Ok((ciphertext.as_ref().to_vec(), Secret::copied(secret.as_ref())))
}

/// A decapsulation key. Wiped when it is dropped.
#[derive(Debug)]
pub struct DecapsulationKey {
    set: MlKem,
    key: LibraryKey,
    encapsulation_key: Vec<u8>,
}

impl DecapsulationKey {
    /// Makes a key.
    ///
    /// # Errors
    /// The cryptographic library could not.
    pub fn generate(set: MlKem) -> Result<Self> {
        let could_not =
            |_: Unspecified| Error::internal(format!("the cryptographic library could not make an {} key", set.name()));
        let key = LibraryKey::generate(set.algorithm()).map_err(could_not)?;
        let encapsulation_key = key.encapsulation_key().and_then(|key| key.key_bytes()).map_err(could_not)?;
        Ok(Self { set, encapsulation_key: encapsulation_key.as_ref().to_vec(), key })
    }

    /// Reads a key in the form of FIPS 203, which has the encapsulation key in it.
    ///
    /// # Errors
    /// The length is another one, or the halves don't belong together: a secret is encapsulated for it and decapsulated,
    /// since the checks of FIPS 203, section 7.3, see only some of what can be wrong.
    pub fn from_bytes(set: MlKem, bytes: &[u8]) -> Result<Self> {
        expect_length("a decapsulation key", set.name(), bytes, set.decapsulation_key_len())?;
        let damaged = || {
            Error::certificate(format!("this is no decapsulation key of {}", set.name()))
                .hint("it is damaged, or something else of the same length")
        };
        let start = set.encapsulation_key_offset();
        let encapsulation_key = bytes[start..start + set.encapsulation_key_len()].to_vec();
        let key = LibraryKey::new(set.algorithm(), bytes).map_err(|_| damaged())?;
        let key = Self { set, key, encapsulation_key };
        let (ciphertext, secret) = encapsulate(set, &key.encapsulation_key).map_err(|_| damaged())?;
        match key.decapsulate(&ciphertext) {
            Ok(same) if same == secret => Ok(key),
            _ => Err(damaged()),
        }
    }

    /// The parameter set.
    pub fn set(&self) -> MlKem {
        self.set
    }

    /// The key in the form that [`Self::from_bytes`] reads. Wiped when it is dropped.
    ///
    /// # Errors
    /// The cryptographic library could not give it.
    pub fn bytes(&self) -> Result<Zeroizing<Vec<u8>>> {
        let bytes = self.key.key_bytes();
        let bytes = bytes.map_err(|Unspecified| Error::internal("the cryptographic library could not give the key"))?;
        Ok(Zeroizing::new(bytes.as_ref().to_vec()))
    }

    /// What others encapsulate for.
    pub fn encapsulation_key(&self) -> &[u8] {
        &self.encapsulation_key
    }

    /// The secret that a ciphertext gives.
    ///
    /// A ciphertext that was changed, or was made for another key, gives a secret too, which nobody else has and which is
    /// the same each time (implicit rejection, FIPS 203, algorithm 18): that the sides don't agree shows only where the
    /// secret is used.
    ///
    /// # Errors
    /// The length is another one.
    pub fn decapsulate(&self, ciphertext: &[u8]) -> Result<Secret> {
        expect_length("a ciphertext", self.set.name(), ciphertext, self.set.ciphertext_len())?;
        let secret = self.key.decapsulate(ciphertext.into());
        let secret =
            secret.map_err(|Unspecified| Error::internal("the cryptographic library could not decapsulate"))?;
        Ok(Secret::copied(secret.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fault;

    #[test]
    fn the_sizes_are_those_of_the_library_and_both_sides_agree() {
        for set in MlKem::ALL {
            let key = DecapsulationKey::generate(set).unwrap();
            assert_eq!(key.encapsulation_key().len(), set.encapsulation_key_len());
            assert_eq!(key.bytes().unwrap().len(), set.decapsulation_key_len());
            let (ciphertext, secret) = encapsulate(set, key.encapsulation_key()).unwrap();
            assert_eq!(ciphertext.len(), set.ciphertext_len());
            assert_eq!(key.decapsulate(&ciphertext).unwrap(), secret);
            let (_, other) = encapsulate(set, key.encapsulation_key()).unwrap();
            assert_ne!(other, secret);
            assert_eq!(format!("{secret:?}"), "Secret(…)");
        }
    }

    #[test]
    fn a_key_that_was_read_is_the_one_that_was_written() {
        for set in MlKem::ALL {
            let key = DecapsulationKey::generate(set).unwrap();
            let read = DecapsulationKey::from_bytes(set, &key.bytes().unwrap()).unwrap();
            assert_eq!(read.encapsulation_key(), key.encapsulation_key());
            assert_eq!(read.bytes().unwrap(), key.bytes().unwrap());
            let (ciphertext, secret) = encapsulate(set, read.encapsulation_key()).unwrap();
            assert_eq!(key.decapsulate(&ciphertext).unwrap(), secret);
        }
    }

    #[test]
    fn a_changed_ciphertext_is_rejected_implicitly() {
        for set in MlKem::ALL {
            let (key, other) = (DecapsulationKey::generate(set).unwrap(), DecapsulationKey::generate(set).unwrap());
            let (mut ciphertext, secret) = encapsulate(set, key.encapsulation_key()).unwrap();
            assert_ne!(other.decapsulate(&ciphertext).unwrap(), secret);
            ciphertext[7] ^= 1;
            let rejected = key.decapsulate(&ciphertext).unwrap();
            assert_ne!(rejected, secret);
            assert_eq!(key.decapsulate(&ciphertext).unwrap(), rejected);
        }
    }

    #[test]
    fn what_has_another_length_is_told_with_both_lengths() {
        let key = DecapsulationKey::generate(MlKem::MlKem768).unwrap();
        let errors = [
            encapsulate(MlKem::MlKem1024, key.encapsulation_key()).unwrap_err(),
            key.decapsulate(&[0; 1568]).unwrap_err(),
            DecapsulationKey::from_bytes(MlKem::MlKem768, &[]).unwrap_err(),
        ];
        assert_eq!(
            errors.each_ref().map(Error::message),
            [
                "an encapsulation key of ML-KEM-1024 has 1568 bytes, not 1184",
                "a ciphertext of ML-KEM-768 has 1088 bytes, not 1568",
                "a decapsulation key of ML-KEM-768 has 2400 bytes, not 0",
            ]
        );
        assert!(errors.iter().all(|error| error.fault() == Fault::Configuration));
    }

    /// Each of the four parts of a decapsulation key (FIPS 203, algorithm 16), but for the last: any 32 octets are a
    /// value for implicit rejection.
    #[test]
    fn a_damaged_key_is_refused_whichever_part_is_damaged() {
        for set in MlKem::ALL {
            let bytes = DecapsulationKey::generate(set).unwrap().bytes().unwrap();
            let hash = set.decapsulation_key_len() - 64;
            for part in [10, set.encapsulation_key_offset() + 10, hash + 10] {
                let mut damaged = bytes.clone();
                damaged[part] ^= 1;
                let error = DecapsulationKey::from_bytes(set, &damaged).unwrap_err();
                assert_eq!(error.fault(), Fault::Certificate, "{} {part}", set.name());
            }
            let error = encapsulate(set, &vec![0xff; set.encapsulation_key_len()]).unwrap_err();
            assert_eq!(error.fault(), Fault::Verification, "coefficients above the modulus");
        }
    }
}
