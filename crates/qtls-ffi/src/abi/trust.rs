//! Configurations: whom to trust.

use std::ffi::{c_char, c_int, c_void};

use qtls_core::verify::RevocationMode;

use super::config::set;
use super::pointers::{self, data, switch, text};
use super::{qtls_client_auth, qtls_config, qtls_crl_mode, qtls_error};
use crate::building::{Building, ClientAuth, Role};
use crate::failure::Failure;

/// Trusts the CA certificates in a text. May be called several times. Clients need trust anchors, from here or from
/// qtls_config_add_ca_file() or qtls_config_use_system_roots(); servers that ask for certificates do, too.
///
/// @param config      The configuration.
/// @param pem         One or more certificates in PEM, or one in DER.
/// @param pem_len     Its length in bytes.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN       The configuration is frozen.
/// @retval QTLS_E_CERTIFICATE  There is no certificate in it, or one that can't be a trust anchor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_add_ca_pem(
    config: *mut qtls_config,
    pem: *const c_void,
    pem_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { set(config, error, |building| building.add_ca(data("pem", pem, pem_len)?)) }
}

/// Trusts the CA certificates in a file, or in the files of a directory.
///
/// @param config      The configuration.
/// @param path        The file or directory.
/// @param path_len    The length of the path in bytes, or QTLS_NTS.
/// @param[out] error  What failed, with the path; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN         The configuration is frozen.
/// @retval QTLS_E_TEXT           The path is empty or has a NUL byte in it.
/// @retval QTLS_E_FILE           The file doesn't exist, or can't be read.
/// @retval QTLS_E_CERTIFICATE    There is no certificate in it, or one that can't be a trust anchor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_add_ca_file(
    config: *mut qtls_config,
    path: *const c_char,
    path_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { set(config, error, |building| building.add_ca_file(pointers::path("path", path, path_len)?)) }
}

/// Trusts the CA certificates that the operating system trusts.
///
/// @param config      The configuration.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN         The configuration is frozen.
/// @retval QTLS_E_CONFIGURATION  The system has none, or they can't be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_use_system_roots(config: *mut qtls_config, error: *mut *mut qtls_error) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { set(config, error, Building::use_system_roots) }
}

/// Whether clients have to show a certificate. For servers only.
///
/// @param config      The configuration.
/// @param mode        One of qtls_client_auth.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN  The configuration is frozen.
/// @retval QTLS_E_MISUSE  The configuration is a client's, or the value is none of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_set_client_auth(
    config: *mut qtls_config,
    mode: c_int,
    error: *mut *mut qtls_error,
) -> c_int {
    const NONE: c_int = qtls_client_auth::QTLS_CLIENT_AUTH_NONE as c_int;
    const OPTIONAL: c_int = qtls_client_auth::QTLS_CLIENT_AUTH_OPTIONAL as c_int;
    const REQUIRED: c_int = qtls_client_auth::QTLS_CLIENT_AUTH_REQUIRED as c_int;
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        set(config, error, |building| {
            building.only_for(Role::Server)?;
            building.client_auth = match mode {
                NONE => ClientAuth::None,
                OPTIONAL => ClientAuth::Optional,
                REQUIRED => ClientAuth::Required,
                _ => return Err(Failure::misuse(format!("mode is {mode}: it is none of qtls_client_auth"))),
            };
            Ok(())
        })
    }
}

/// How many intermediate certificates may stand between the peer's certificate and a trust anchor. Without this call, a
/// server accepts 3, and a client as many as a path is built with.
///
/// @param config      The configuration.
/// @param depth       How many.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN  The configuration is frozen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_set_verify_depth(
    config: *mut qtls_config,
    depth: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        set(config, error, |building| {
            building.depth = Some(depth);
            Ok(())
        })
    }
}

/// Checks the peer's chain against the certificate revocation lists in a text. May be called several times. All of a chain
/// is checked, but not the trust anchor.
///
/// @param config      The configuration.
/// @param pem         One or more CRLs in PEM, or one in DER.
/// @param pem_len     Its length in bytes.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN       The configuration is frozen.
/// @retval QTLS_E_CERTIFICATE  There is no CRL in it, or one that can't be used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_add_crl_pem(
    config: *mut qtls_config,
    pem: *const c_void,
    pem_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { set(config, error, |building| building.add_crl(data("pem", pem, pem_len)?)) }
}

/// Checks the peer's chain against the certificate revocation lists in a file, or in the files of a directory.
///
/// @param config      The configuration.
/// @param path        The file or directory.
/// @param path_len    The length of the path in bytes, or QTLS_NTS.
/// @param[out] error  What failed, with the path; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN         The configuration is frozen.
/// @retval QTLS_E_TEXT           The path is empty or has a NUL byte in it.
/// @retval QTLS_E_FILE           The file doesn't exist, or can't be read.
/// @retval QTLS_E_CERTIFICATE    There is no CRL in it, or one that can't be used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_add_crl_file(
    config: *mut qtls_config,
    path: *const c_char,
    path_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { set(config, error, |building| building.add_crl_file(pointers::path("path", path, path_len)?)) }
}

/// What happens where the CRLs say nothing about a certificate. Has no effect without CRLs.
///
/// @param config      The configuration.
/// @param mode        One of qtls_crl_mode.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN  The configuration is frozen.
/// @retval QTLS_E_MISUSE  The value is none of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_set_crl_mode(
    config: *mut qtls_config,
    mode: c_int,
    error: *mut *mut qtls_error,
) -> c_int {
    const HARD: c_int = qtls_crl_mode::QTLS_CRL_HARD as c_int;
    const SOFT: c_int = qtls_crl_mode::QTLS_CRL_SOFT as c_int;
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        set(config, error, |building| {
            building.crl_mode = match mode {
                HARD => RevocationMode::Hard,
                SOFT => RevocationMode::Soft,
                _ => return Err(Failure::misuse(format!("mode is {mode}: it is none of qtls_crl_mode"))),
            };
            Ok(())
        })
    }
}

/// Accepts only chains in which the leaf, an intermediate or the trust anchor has a certain public key, or one of those of
/// several calls. The chain has to be valid besides.
///
/// @param config      The configuration.
/// @param sha256      The SHA-256 of the key's SubjectPublicKeyInfo: 64 hexadecimal digits, or 44 characters of base64,
///     with or without "sha256//" before them.
/// @param sha256_len  Its length in bytes, or QTLS_NTS.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN         The configuration is frozen.
/// @retval QTLS_E_TEXT           The text is empty, has a NUL byte in it, or is not UTF-8.
/// @retval QTLS_E_CONFIGURATION  It is not such a hash.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_add_pin(
    config: *mut qtls_config,
    sha256: *const c_char,
    sha256_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { set(config, error, |building| building.add_pin(text("sha256", sha256, sha256_len)?)) }
}

/// Lets in only clients whose certificate has a certain name, or one of those of several calls. The certificate has to be
/// valid besides. For servers that ask for certificates.
///
/// @param config      The configuration.
/// @param field       What is compared, as in `certificates.allow` of server.json: "san_dns", "san_ip", "san_uri",
///     "san_email", "subject", "spki_sha256".
/// @param field_len   Its length in bytes, or QTLS_NTS.
/// @param value       What it has to be.
/// @param value_len   Its length in bytes, or QTLS_NTS.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN         The configuration is frozen.
/// @retval QTLS_E_MISUSE         The configuration is a client's.
/// @retval QTLS_E_TEXT           A text is empty, has a NUL byte in it, or is not UTF-8.
/// @retval QTLS_E_CONFIGURATION  There is no such field, or the value doesn't fit it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_add_allowed(
    config: *mut qtls_config,
    field: *const c_char,
    field_len: usize,
    value: *const c_char,
    value_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        set(config, error, |building| {
            let field = text("field", field, field_len)?;
            building.add_allowed(field, text("value", value, value_len)?)
        })
    }
}

/// Whether a client sends the name of the server that it wants (SNI). Without this call, it does, unless the name is an
/// address. For clients only.
///
/// @param config      The configuration.
/// @param enabled     1 or 0.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN  The configuration is frozen.
/// @retval QTLS_E_MISUSE  The configuration is a server's, or the value is neither 1 nor 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_set_server_name_indication(
    config: *mut qtls_config,
    enabled: c_int,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        set(config, error, |building| {
            building.only_for(Role::Client)?;
            building.sends_name = switch("enabled", enabled)?;
            Ok(())
        })
    }
}
