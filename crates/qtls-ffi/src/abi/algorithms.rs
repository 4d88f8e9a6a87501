//! Configurations: what is offered and accepted.

use std::ffi::{c_char, c_int};

use qtls_core::policy::GroupPreference;

use super::config::set;
use super::pointers::{switch, text};
use super::{qtls_config, qtls_error, qtls_group_preference};
use crate::failure::Failure;

/// Chooses the set of algorithms that everything else chooses from.
///
/// - "default": all; without lists, hybrids and then classical groups,
/// - "cnsa2": CNSA 2.0: ML-KEM-1024 (alone and with P-384), ML-DSA-87, AES-256,
/// - "fips": what FIPS 140-3 approves of,
/// - "compatible": all, also ML-KEM alone.
///
/// @param config      The configuration.
/// @param name        The name of the profile.
/// @param name_len    Its length in bytes, or QTLS_NTS.
/// @param[out] error  What failed, with the nearest name that exists; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN         The configuration is frozen.
/// @retval QTLS_E_TEXT           The name is empty, has a NUL byte in it, or is not UTF-8.
/// @retval QTLS_E_CONFIGURATION  There is no such profile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_set_profile(
    config: *mut qtls_config,
    name: *const c_char,
    name_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { set(config, error, |building| building.set_profile(text("name", name, name_len)?)) }
}

/// Chooses the key exchange groups, the most preferred first: "X25519MLKEM768, SecP384r1MLKEM1024, x25519". Takes also the
/// names of `algorithms.kem` in server.json, where a KEM and a classical group make a hybrid: "ml-kem-1024, ecdhe-p384".
/// What becomes of the list depends on qtls_config_set_hybrid_mode() and qtls_config_set_pqc_only(), and is checked by
/// qtls_config_freeze().
///
/// @param config      The configuration.
/// @param names       Names, with commas or colons between them.
/// @param names_len   Their length in bytes, or QTLS_NTS.
/// @param[out] error  What failed, with the nearest name that exists; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN         The configuration is frozen.
/// @retval QTLS_E_TEXT           The list is empty, has a NUL byte in it, or is not UTF-8.
/// @retval QTLS_E_CONFIGURATION  A name is unknown, or missing between two commas.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_set_groups(
    config: *mut qtls_config,
    names: *const c_char,
    names_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { set(config, error, |building| building.set_groups(text("names", names, names_len)?)) }
}

/// Chooses the kinds of key that may sign handshakes, this side's and the peer's, the most preferred first: "ml-dsa-65,
/// ecdsa-p256, rsa-3072". The number of RSA is the smallest size. Of a server's certificates, clients get the first in
/// this order that they can verify.
///
/// @param config      The configuration.
/// @param names       Names, with commas or colons between them.
/// @param names_len   Their length in bytes, or QTLS_NTS.
/// @param[out] error  What failed, with the nearest name that exists; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN         The configuration is frozen.
/// @retval QTLS_E_TEXT           The list is empty, has a NUL byte in it, or is not UTF-8.
/// @retval QTLS_E_CONFIGURATION  A name is unknown, or missing between two commas.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_set_signatures(
    config: *mut qtls_config,
    names: *const c_char,
    names_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { set(config, error, |building| building.set_signatures(text("names", names, names_len)?)) }
}

/// Chooses the kinds of key whose signatures are accepted in the peer's certificate chain. Names as for
/// qtls_config_set_signatures().
///
/// @param config      The configuration.
/// @param names       Names, with commas or colons between them.
/// @param names_len   Their length in bytes, or QTLS_NTS.
/// @param[out] error  What failed, with the nearest name that exists; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN         The configuration is frozen.
/// @retval QTLS_E_TEXT           The list is empty, has a NUL byte in it, or is not UTF-8.
/// @retval QTLS_E_CONFIGURATION  A name is unknown, or missing between two commas.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_set_chain_signatures(
    config: *mut qtls_config,
    names: *const c_char,
    names_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { set(config, error, |building| building.set_chain_signatures(text("names", names, names_len)?)) }
}

/// Chooses the cipher suites, the most preferred first: "TLS_AES_256_GCM_SHA384, TLS_CHACHA20_POLY1305_SHA256", or by the
/// names of server.json: "aes-256-gcm".
///
/// @param config      The configuration.
/// @param names       Names, with commas or colons between them.
/// @param names_len   Their length in bytes, or QTLS_NTS.
/// @param[out] error  What failed, with the nearest name that exists; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN         The configuration is frozen.
/// @retval QTLS_E_TEXT           The list is empty, has a NUL byte in it, or is not UTF-8.
/// @retval QTLS_E_CONFIGURATION  A name is unknown, or missing between two commas.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_set_suites(
    config: *mut qtls_config,
    names: *const c_char,
    names_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { set(config, error, |building| building.set_suites(text("names", names, names_len)?)) }
}

/// Whether ML-KEM is combined with a classical group (`tls.hybrid_mode` in server.json). Without this call: as the profile
/// has it; yes, in the default profile.
///
/// @param config      The configuration.
/// @param enabled     1 or 0.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN  The configuration is frozen.
/// @retval QTLS_E_MISUSE  The value is neither 1 nor 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_set_hybrid_mode(
    config: *mut qtls_config,
    enabled: c_int,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        set(config, error, |building| {
            building.choice.hybrid_mode = Some(switch("enabled", enabled)?);
            Ok(())
        })
    }
}

/// Whether peers without a post-quantum key exchange are refused (`tls.pqc_only` in server.json). Without this call: as
/// the profile has it; no, in the default profile.
///
/// @param config      The configuration.
/// @param enabled     1 or 0.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN  The configuration is frozen.
/// @retval QTLS_E_MISUSE  The value is neither 1 nor 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_set_pqc_only(
    config: *mut qtls_config,
    enabled: c_int,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        set(config, error, |building| {
            building.choice.pqc_only = Some(switch("enabled", enabled)?);
            Ok(())
        })
    }
}

/// Whose order decides on the group. For servers only.
///
/// @param config      The configuration.
/// @param preference  One of qtls_group_preference.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN  The configuration is frozen.
/// @retval QTLS_E_MISUSE  The configuration is a client's, or the value is none of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_set_group_preference(
    config: *mut qtls_config,
    preference: c_int,
    error: *mut *mut qtls_error,
) -> c_int {
    const POST_QUANTUM: c_int = qtls_group_preference::QTLS_PREFER_POST_QUANTUM as c_int;
    const STRICT: c_int = qtls_group_preference::QTLS_PREFER_STRICT as c_int;
    const CLIENT: c_int = qtls_group_preference::QTLS_PREFER_CLIENT as c_int;
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        set(config, error, |building| {
            let preference = match preference {
                POST_QUANTUM => GroupPreference::PostQuantum,
                STRICT => GroupPreference::Strict,
                CLIENT => GroupPreference::Client,
                _ => {
                    return Err(Failure::misuse(format!(
                        "preference is {preference}: it is none of qtls_group_preference"
                    )));
                }
            };
            building.set_group_preference(preference)
        })
    }
}
