//! The boundary to C for ML-KEM and ML-DSA on their own: the functions and types of `qtls/crypto.h`.
//!
//! As in [`crate::abi`], the documentation here is written for C programmers, and is what the header and the reference show.
#![expect(non_camel_case_types, unsafe_code, reason = "the names of the header, and the pointers of its callers")]
#![expect(clippy::missing_safety_doc, reason = "the rules for pointers stand once, at the head of the header")]

use std::ffi::{c_char, c_int, c_void};
use std::ptr;

use qtls_core::credentials::{Passphrase, Source};
use qtls_core::primitives::ml_dsa::{self, MlDsa, Refusal, SigningKey};
use qtls_core::primitives::ml_kem::{self, DecapsulationKey, MlKem};
use qtls_core::{Error, Fault};
use zeroize::Zeroizing;

use crate::abi::pointers::{OK, answer, data, enter, make, object, optional_characters, output, room};
use crate::abi::{qtls_error, qtls_fault, qtls_status};
use crate::failure::Failure;

/// The parameter sets of ML-KEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum qtls_ml_kem {
    /// ML-KEM-768, category 3.
    QTLS_ML_KEM_768 = 768,
    /// ML-KEM-1024, category 5.
    QTLS_ML_KEM_1024 = 1024,
}

/// The parameter sets of ML-DSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum qtls_ml_dsa {
    /// ML-DSA-44, category 2.
    QTLS_ML_DSA_44 = 44,
    /// ML-DSA-65, category 3.
    QTLS_ML_DSA_65 = 65,
    /// ML-DSA-87, category 5.
    QTLS_ML_DSA_87 = 87,
}

/// A decapsulation key of ML-KEM, with its encapsulation key. It never changes: any number of threads may use it at once.
#[derive(Debug)]
pub struct qtls_ml_kem_key(DecapsulationKey);

/// A private key of ML-DSA, with its public key. It never changes: any number of threads may use it at once.
#[derive(Debug)]
pub struct qtls_ml_dsa_key(SigningKey);

/// The length of an encapsulation key.
///
/// @param set  One of qtls_ml_kem.
/// @return Its length in bytes; 0 where there is no such set.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_ml_kem_encapsulation_key_size(set: c_int) -> usize {
    answer(0, || kem(set).map_or(0, MlKem::encapsulation_key_len))
}

/// The length of a decapsulation key.
///
/// @param set  One of qtls_ml_kem.
/// @return Its length in bytes; 0 where there is no such set.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_ml_kem_decapsulation_key_size(set: c_int) -> usize {
    answer(0, || kem(set).map_or(0, MlKem::decapsulation_key_len))
}

/// The length of a ciphertext.
///
/// @param set  One of qtls_ml_kem.
/// @return Its length in bytes; 0 where there is no such set.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_ml_kem_ciphertext_size(set: c_int) -> usize {
    answer(0, || kem(set).map_or(0, MlKem::ciphertext_len))
}

/// The length of a shared secret.
///
/// @param set  One of qtls_ml_kem.
/// @return Its length in bytes, 32 for all sets; 0 where there is no such set.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_ml_kem_secret_size(set: c_int) -> usize {
    answer(0, || kem(set).map_or(0, |_| ml_kem::SECRET_LEN))
}

/// Makes a key.
///
/// @param set         One of qtls_ml_kem.
/// @param[out] error  What failed; may be NULL.
/// @return The key, to be freed with qtls_ml_kem_key_free(); NULL where it can't be made.
/// @retval QTLS_E_MISUSE  There is no such set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_kem_key_generate(set: c_int, error: *mut *mut qtls_error) -> *mut qtls_ml_kem_key {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { make(error, || Ok(boxed(qtls_ml_kem_key(DecapsulationKey::generate(kem(set)?).map_err(refused)?)))) }
}

/// Reads a decapsulation key as FIPS 203 has it. Its halves are tried together, so that a damaged one is found.
///
/// @param set         One of qtls_ml_kem.
/// @param bytes       The key.
/// @param bytes_len   Its length in bytes: qtls_ml_kem_decapsulation_key_size().
/// @param[out] error  What failed; may be NULL.
/// @return The key, to be freed with qtls_ml_kem_key_free(); NULL where it can't be read.
/// @retval QTLS_E_MISUSE       There is no such set, or the length is another one.
/// @retval QTLS_E_CERTIFICATE  It is damaged.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_kem_key_import(
    set: c_int,
    bytes: *const c_void,
    bytes_len: usize,
    error: *mut *mut qtls_error,
) -> *mut qtls_ml_kem_key {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        make(error, || {
            let key = DecapsulationKey::from_bytes(kem(set)?, data("bytes", bytes, bytes_len)?);
            Ok(boxed(qtls_ml_kem_key(key.map_err(refused)?)))
        })
    }
}

/// Writes a decapsulation key as FIPS 203 has it. It is secret: wipe the memory when it isn't needed any more.
///
/// @param key         The key.
/// @param[out] out    Where it goes.
/// @param out_len     Its length in bytes: qtls_ml_kem_decapsulation_key_size().
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_MISUSE  The length is another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_kem_key_export(
    key: *const qtls_ml_kem_key,
    out: *mut c_void,
    out_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        enter(error, || {
            let key = &object("key", key)?.0;
            let out = Place::new("out", out, out_len, key.set().decapsulation_key_len())?;
            out.put(&key.bytes().map_err(refused)?)
        })
    }
}

/// The parameter set of a key.
///
/// @param key  The key, or NULL.
/// @return One of qtls_ml_kem; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_kem_key_set(key: *const qtls_ml_kem_key) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    answer(0, || match unsafe { key.as_ref() }.map(|key| key.0.set()) {
        Some(MlKem::MlKem768) => qtls_ml_kem::QTLS_ML_KEM_768 as c_int,
        Some(MlKem::MlKem1024) => qtls_ml_kem::QTLS_ML_KEM_1024 as c_int,
        None => 0,
    })
}

/// Frees a key, and wipes it.
///
/// @param key  The key; NULL is let through.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_kem_key_free(key: *mut qtls_ml_kem_key) {
    // SAFETY: it was made by `boxed`, and the caller gives it up.
    answer((), || unsafe { free(key) });
}

/// The encapsulation key of a key, as FIPS 203 has it: what others encapsulate for.
///
/// @param key         The key.
/// @param[out] out    Where it goes.
/// @param out_len     Its length in bytes: qtls_ml_kem_encapsulation_key_size().
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_MISUSE  The length is another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_kem_encapsulation_key(
    key: *const qtls_ml_kem_key,
    out: *mut c_void,
    out_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        enter(error, || {
            let key = &object("key", key)?.0;
            let out = Place::new("out", out, out_len, key.set().encapsulation_key_len())?;
            out.put(key.encapsulation_key())
        })
    }
}

/// Makes a secret, and the ciphertext that gives it to the holder of the decapsulation key and to nobody else.
///
/// @param set                    One of qtls_ml_kem.
/// @param encapsulation_key      The other side's key.
/// @param encapsulation_key_len  Its length in bytes: qtls_ml_kem_encapsulation_key_size().
/// @param[out] ciphertext        Where the ciphertext goes.
/// @param ciphertext_len         Its length in bytes: qtls_ml_kem_ciphertext_size().
/// @param[out] secret            Where the secret goes. Wipe the memory when it isn't needed any more.
/// @param secret_len             Its length in bytes: qtls_ml_kem_secret_size().
/// @param[out] error             What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_MISUSE      There is no such set, or a length is another one.
/// @retval QTLS_E_PUBLIC_KEY  It is no encapsulation key (FIPS 203, section 7.2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_kem_encapsulate(
    set: c_int,
    encapsulation_key: *const c_void,
    encapsulation_key_len: usize,
    ciphertext: *mut c_void,
    ciphertext_len: usize,
    secret: *mut c_void,
    secret_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        enter(error, || {
            let set = kem(set)?;
            let ciphertext = Place::new("ciphertext", ciphertext, ciphertext_len, set.ciphertext_len())?;
            let secret = Place::new("secret", secret, secret_len, ml_kem::SECRET_LEN)?;
            let key = data("encapsulation_key", encapsulation_key, encapsulation_key_len)?;
            let made = ml_kem::encapsulate(set, key).map_err(refused)?;
            ciphertext.put(&made.0)?;
            secret.put(made.1.octets())
        })
    }
}

/// The secret that a ciphertext gives.
///
/// A ciphertext that was changed on its way, or was made for another key, is no error here: it gives a secret that nobody
/// else has, the same each time (implicit rejection: FIPS 203, algorithm 18). That the two sides don't have the same secret
/// shows where it is used, such as in a message that can't be decrypted.
///
/// @param key             The key.
/// @param ciphertext      The ciphertext.
/// @param ciphertext_len  Its length in bytes: qtls_ml_kem_ciphertext_size().
/// @param[out] secret     Where the secret goes. Wipe the memory when it isn't needed any more.
/// @param secret_len      Its length in bytes: qtls_ml_kem_secret_size().
/// @param[out] error      What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_MISUSE  A length is another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_kem_decapsulate(
    key: *const qtls_ml_kem_key,
    ciphertext: *const c_void,
    ciphertext_len: usize,
    secret: *mut c_void,
    secret_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        enter(error, || {
            let key = &object("key", key)?.0;
            let secret = Place::new("secret", secret, secret_len, ml_kem::SECRET_LEN)?;
            let ciphertext = data("ciphertext", ciphertext, ciphertext_len)?;
            secret.put(key.decapsulate(ciphertext).map_err(refused)?.octets())
        })
    }
}

/// The length of a public key.
///
/// @param set  One of qtls_ml_dsa.
/// @return Its length in bytes; 0 where there is no such set.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_ml_dsa_public_key_size(set: c_int) -> usize {
    answer(0, || dsa(set).map_or(0, MlDsa::public_key_len))
}

/// The length of a signature.
///
/// @param set  One of qtls_ml_dsa.
/// @return Its length in bytes; 0 where there is no such set.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_ml_dsa_signature_size(set: c_int) -> usize {
    answer(0, || dsa(set).map_or(0, MlDsa::signature_len))
}

/// The length of the seed that a key follows from.
///
/// @param set  One of qtls_ml_dsa.
/// @return Its length in bytes, 32 for all sets; 0 where there is no such set.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_ml_dsa_seed_size(set: c_int) -> usize {
    answer(0, || dsa(set).map_or(0, |_| ml_dsa::SEED_LEN))
}

/// Makes a key.
///
/// @param set         One of qtls_ml_dsa.
/// @param[out] error  What failed; may be NULL.
/// @return The key, to be freed with qtls_ml_dsa_key_free(); NULL where it can't be made.
/// @retval QTLS_E_MISUSE  There is no such set.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_dsa_key_generate(set: c_int, error: *mut *mut qtls_error) -> *mut qtls_ml_dsa_key {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { make(error, || Ok(boxed(qtls_ml_dsa_key(SigningKey::generate(dsa(set)?).map_err(refused)?)))) }
}

/// The key that follows from a seed (FIPS 204, algorithm 6).
///
/// @param set         One of qtls_ml_dsa.
/// @param seed        The seed: random, and as secret as the key itself.
/// @param seed_len    Its length in bytes: qtls_ml_dsa_seed_size().
/// @param[out] error  What failed; may be NULL.
/// @return The key, to be freed with qtls_ml_dsa_key_free(); NULL where it can't be made.
/// @retval QTLS_E_MISUSE  There is no such set, or the length is another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_dsa_key_from_seed(
    set: c_int,
    seed: *const c_void,
    seed_len: usize,
    error: *mut *mut qtls_error,
) -> *mut qtls_ml_dsa_key {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        make(error, || {
            let key = SigningKey::from_seed(dsa(set)?, data("seed", seed, seed_len)?);
            Ok(boxed(qtls_ml_dsa_key(key.map_err(refused)?)))
        })
    }
}

/// Reads a private key in PKCS#8, in any of the three forms of RFC 9881, section 6: as OpenSSL 3.5 writes it. The parameter
/// set is the key's own: see qtls_ml_dsa_key_set().
///
/// @param pkcs8           The key, in PEM or DER; may be encrypted.
/// @param pkcs8_len       Its length in bytes.
/// @param passphrase      What the key is encrypted with; NULL where it isn't.
/// @param passphrase_len  Its length in bytes, or QTLS_NTS.
/// @param[out] error      What failed; may be NULL.
/// @return The key, to be freed with qtls_ml_dsa_key_free(); NULL where it can't be read.
/// @retval QTLS_E_CERTIFICATE  There is none in it, it is damaged or of something else, or the passphrase is missing or
///     wrong.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_dsa_key_read(
    pkcs8: *const c_void,
    pkcs8_len: usize,
    passphrase: *const c_char,
    passphrase_len: usize,
    error: *mut *mut qtls_error,
) -> *mut qtls_ml_dsa_key {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        make(error, || {
            if pkcs8.is_null() {
                return Err(Failure::null("pkcs8"));
            }
            let source = Source { origin: "the key", bytes: data("pkcs8", pkcs8, pkcs8_len)? };
            let passphrase = optional_characters("passphrase", passphrase, passphrase_len)?
                .map(|bytes| Passphrase::new(Zeroizing::new(bytes.to_vec()), "the passphrase"))
                .transpose()?;
            Ok(boxed(qtls_ml_dsa_key(SigningKey::read(source, passphrase.as_ref())?)))
        })
    }
}

/// The parameter set of a key.
///
/// @param key  The key, or NULL.
/// @return One of qtls_ml_dsa; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_dsa_key_set(key: *const qtls_ml_dsa_key) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    answer(0, || match unsafe { key.as_ref() }.map(|key| key.0.set()) {
        Some(MlDsa::MlDsa44) => qtls_ml_dsa::QTLS_ML_DSA_44 as c_int,
        Some(MlDsa::MlDsa65) => qtls_ml_dsa::QTLS_ML_DSA_65 as c_int,
        Some(MlDsa::MlDsa87) => qtls_ml_dsa::QTLS_ML_DSA_87 as c_int,
        None => 0,
    })
}

/// Frees a key, and wipes it.
///
/// @param key  The key; NULL is let through.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_dsa_key_free(key: *mut qtls_ml_dsa_key) {
    // SAFETY: it was made by `boxed`, and the caller gives it up.
    answer((), || unsafe { free(key) });
}

/// The public key of a key, as FIPS 204 has it.
///
/// @param key         The key.
/// @param[out] out    Where it goes.
/// @param out_len     Its length in bytes: qtls_ml_dsa_public_key_size().
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_MISUSE  The length is another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_dsa_public_key(
    key: *const qtls_ml_dsa_key,
    out: *mut c_void,
    out_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        enter(error, || {
            let key = &object("key", key)?.0;
            let out = Place::new("out", out, out_len, key.set().public_key_len())?;
            out.put(key.public_key())
        })
    }
}

/// The public key of a key as a SubjectPublicKeyInfo in DER (RFC 9881, section 4): as OpenSSL 3.5 reads it.
///
/// @param key         The key.
/// @param[out] out    Where it goes. May be NULL where `capacity` is 0.
/// @param capacity    How many bytes fit.
/// @param[out] len    Its length in bytes, also where it doesn't fit.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_MISUSE  It doesn't fit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_dsa_spki(
    key: *const qtls_ml_dsa_key,
    out: *mut c_void,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        enter(error, || {
            let key = &object("key", key)?.0;
            put_what_fits(out, capacity, len, &key.spki().map_err(refused)?)
        })
    }
}

/// A key as PKCS#8 in DER (RFC 9881, section 6): as its seed where that is known, which it is for every key but those that
/// were read without one; else in its expanded form. As OpenSSL 3.5 reads it. It is secret: wipe the memory when it isn't
/// needed any more.
///
/// @param key         The key.
/// @param[out] out    Where it goes. May be NULL where `capacity` is 0.
/// @param capacity    How many bytes fit.
/// @param[out] len    Its length in bytes, also where it doesn't fit.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_MISUSE  It doesn't fit.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_dsa_pkcs8(
    key: *const qtls_ml_dsa_key,
    out: *mut c_void,
    capacity: usize,
    len: *mut usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        enter(error, || {
            let key = &object("key", key)?.0;
            put_what_fits(out, capacity, len, &key.pkcs8().map_err(refused)?)
        })
    }
}

/// Signs a message: the message itself, not a hash of it, and with an empty context string (FIPS 204, algorithm 2); the
/// cryptographic module offers no other. Two signatures of the same message differ.
///
/// @param key             The key.
/// @param message         The message. May be NULL where `message_len` is 0.
/// @param message_len     Its length in bytes.
/// @param[out] signature  Where the signature goes.
/// @param signature_len   Its length in bytes: qtls_ml_dsa_signature_size().
/// @param[out] error      What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_MISUSE  The length is another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_dsa_sign(
    key: *const qtls_ml_dsa_key,
    message: *const c_void,
    message_len: usize,
    signature: *mut c_void,
    signature_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        enter(error, || {
            let key = &object("key", key)?.0;
            let signature = Place::new("signature", signature, signature_len, key.set().signature_len())?;
            let message = data("message", message, message_len)?;
            signature.put(&key.sign(message).map_err(refused)?)
        })
    }
}

/// Verifies a signature of a message, as qtls_ml_dsa_sign() makes it.
///
/// @param set             One of qtls_ml_dsa.
/// @param public_key      The public key: as FIPS 204 has it, or a SubjectPublicKeyInfo in DER.
/// @param public_key_len  Its length in bytes.
/// @param message         The message. May be NULL where `message_len` is 0.
/// @param message_len     Its length in bytes.
/// @param signature       The signature.
/// @param signature_len   Its length in bytes.
/// @param[out] error      What failed; may be NULL.
/// @return QTLS_OK where the signature is one of this message by this key, or an error: nothing but QTLS_OK means that.
/// @retval QTLS_E_SIGNATURE   It is none.
/// @retval QTLS_E_PUBLIC_KEY  The public key is damaged.
/// @retval QTLS_E_MISUSE      There is no such set, or the public key or the signature is of another one by its length.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_ml_dsa_verify(
    set: c_int,
    public_key: *const c_void,
    public_key_len: usize,
    message: *const c_void,
    message_len: usize,
    signature: *const c_void,
    signature_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        enter(error, || {
            let set = dsa(set)?;
            let public_key = data("public_key", public_key, public_key_len)?;
            let message = data("message", message, message_len)?;
            let signature = data("signature", signature, signature_len)?;
            ml_dsa::verify(set, public_key, message, signature).map_err(|refusal| match refusal {
                Refusal::Shape(error) | Refusal::PublicKey(error) => refused(error),
                Refusal::Signature(error) => as_peers(qtls_status::QTLS_E_SIGNATURE, &error),
            })?;
            Ok(OK)
        })
    }
}

fn kem(set: c_int) -> Result<MlKem, Failure> {
    const ML_KEM_768: c_int = qtls_ml_kem::QTLS_ML_KEM_768 as c_int;
    const ML_KEM_1024: c_int = qtls_ml_kem::QTLS_ML_KEM_1024 as c_int;
    match set {
        ML_KEM_768 => Ok(MlKem::MlKem768),
        ML_KEM_1024 => Ok(MlKem::MlKem1024),
        _ => Err(Failure::misuse(format!("set is {set}: it is no parameter set of ML-KEM")).hint("see qtls_ml_kem")),
    }
}

fn dsa(set: c_int) -> Result<MlDsa, Failure> {
    const ML_DSA_44: c_int = qtls_ml_dsa::QTLS_ML_DSA_44 as c_int;
    const ML_DSA_65: c_int = qtls_ml_dsa::QTLS_ML_DSA_65 as c_int;
    const ML_DSA_87: c_int = qtls_ml_dsa::QTLS_ML_DSA_87 as c_int;
    match set {
        ML_DSA_44 => Ok(MlDsa::MlDsa44),
        ML_DSA_65 => Ok(MlDsa::MlDsa65),
        ML_DSA_87 => Ok(MlDsa::MlDsa87),
        _ => Err(Failure::misuse(format!("set is {set}: it is no parameter set of ML-DSA")).hint("see qtls_ml_dsa")),
    }
}

/// What the core says, by whose fault it is: what it calls configuration was given by the calling program.
fn refused(error: Error) -> Failure {
    match error.fault() {
        Fault::Configuration => {
            let failure = Failure::misuse(error.message());
            match error.hint_text() {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
        Fault::Verification => as_peers(qtls_status::QTLS_E_PUBLIC_KEY, &error),
        _ => error.into(),
    }
}

fn as_peers(code: qtls_status, error: &Error) -> Failure {
    let failure = Failure::new(code, qtls_fault::QTLS_FAULT_PEER, error.message());
    match error.hint_text() {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn boxed<T>(key: T) -> *mut T {
    Box::into_raw(Box::new(key))
}

/// # Safety
/// NULL, or made by [`boxed`] and not freed.
unsafe fn free<T>(key: *mut T) {
    if !key.is_null() {
        // SAFETY: as the caller promises.
        drop(unsafe { Box::from_raw(key) });
    }
}

/// Where something of a known length goes: looked at before any work is done, and written to once all of it is. In between
/// there is no reference to it, since a program may have given the same memory twice.
struct Place {
    pointer: *mut c_void,
    length: usize,
}

impl Place {
    /// # Safety
    /// As of [`room`].
    unsafe fn new(what: &str, pointer: *mut c_void, length: usize, expected: usize) -> Result<Self, Failure> {
        // SAFETY: as the caller promises.
        unsafe { room(what, pointer, length)? };
        if length != expected {
            return Err(Failure::misuse(format!("{what} has {length} bytes, and {expected} are needed"))
                .hint("the functions that end with _size give the lengths"));
        }
        Ok(Self { pointer, length })
    }

    /// # Safety
    /// As of [`Self::new`], still.
    unsafe fn put(self, bytes: &[u8]) -> Result<c_int, Failure> {
        if bytes.len() != self.length {
            return Err(Failure::internal(format!("{} bytes were made in the place of {}", bytes.len(), self.length)));
        }
        // SAFETY: as the caller promises, and the lengths are the same; what was made here overlaps nothing of the caller's.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), self.pointer.cast(), self.length) };
        Ok(OK)
    }
}

/// # Safety
/// As of [`room`] and [`output`].
unsafe fn put_what_fits(out: *mut c_void, capacity: usize, len: *mut usize, bytes: &[u8]) -> Result<c_int, Failure> {
    // SAFETY: as the caller promises.
    unsafe {
        *output("len", len)? = bytes.len();
        let room = room("out", out, capacity)?;
        let Some(room) = room.get_mut(..bytes.len()) else {
            return Err(Failure::misuse(format!("out has {capacity} bytes, and {} are needed", bytes.len()))
                .hint("len says how many"));
        };
        room.copy_from_slice(bytes);
        Ok(OK)
    }
}
