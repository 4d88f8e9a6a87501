//! What the library is, and the names of what it negotiates.

use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::sync::LazyLock;

use qtls_core::policy::{CipherSuite, Group, Named, SCHEMES, lookup};
use qtls_core::provider::provider;
use qtls_core::version;

use super::pointers::{answer, text};

/// The version of the library that is running, such as "1.0.0". QTLS_VERSION is the one that the program was compiled
/// with.
///
/// @return A text that is valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_version() -> *const c_char {
    answer(c"".as_ptr(), || TEXTS.version.as_ptr())
}

/// The version of the library that is running as a number that can be compared: major, minor and patch version, a byte
/// each; 0x010203 is 1.2.3. QTLS_VERSION_NUMBER is the one that the program was compiled with.
///
/// @return The number.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_version_number() -> u32 {
    answer(0, || {
        let part = |part: &str| part.parse::<u32>().unwrap_or_default();
        version::VERSION.split('.').take(3).fold(0, |number, next| (number << 8) | part(next))
    })
}

/// The cryptographic module that does all cryptography, such as "aws-lc".
///
/// @return A text that is valid for ever.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_crypto_module() -> *const c_char {
    answer(c"".as_ptr(), || TEXTS.crypto_module.as_ptr())
}

/// Whether the cryptographic module is one that is validated by FIPS 140-3.
///
/// @return 1 or 0.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_fips() -> c_int {
    answer(0, is_validated)
}

/// Whether this build has a part that not every build has: "hsm" (keys in PKCS#11 modules) or "fips" (a validated
/// cryptographic module).
///
/// @param name      The name of the part.
/// @param name_len  Its length in bytes, or QTLS_NTS.
/// @return 1 where it has; 0 where it hasn't, and for names that it doesn't know.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_has_feature(name: *const c_char, name_len: usize) -> c_int {
    answer(0, || {
        // SAFETY: the caller keeps the rules of the header.
        match unsafe { text("name", name, name_len) } {
            Ok("fips") => is_validated(),
            // Keys in PKCS#11 modules are not supported yet.
            _ => 0,
        }
    })
}

/// How many key exchange groups the library knows. With qtls_group_at(), for listing them.
///
/// @return Their number.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_group_count() -> usize {
    answer(0, || Group::ALL.len())
}

/// One of the key exchange groups that the library knows, the most preferred first.
///
/// @param index  Which one, from 0.
/// @return Its code point in the IANA registry "TLS Supported Groups"; 0 where the index is too large.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_group_at(index: usize) -> u16 {
    answer(0, || Group::ALL.get(index).map_or(0, |group| group.code_point()))
}

/// The name of a key exchange group in the IANA registry, such as "X25519MLKEM768".
///
/// @param group  Its code point.
/// @return A text that is valid for ever; NULL where the library doesn't know the group.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_group_name(group: u16) -> *const c_char {
    answer(ptr::null(), || group_name(group))
}

/// The code point of a key exchange group, by any of the names that qtls_config_set_groups() takes.
///
/// @param name      The name; upper and lower case are the same.
/// @param name_len  Its length in bytes, or QTLS_NTS.
/// @return Its code point in the IANA registry; 0 where there is no such group.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_group_code(name: *const c_char, name_len: usize) -> u16 {
    answer(0, || {
        // SAFETY: the caller keeps the rules of the header.
        let name = unsafe { text("name", name, name_len) };
        name.ok().and_then(|name| lookup::<Group>(name).ok()).map_or(0, |(group, _)| group.code_point())
    })
}

/// Whether what is agreed with a key exchange group withstands a quantum computer that reads a recording of it: whether
/// there is ML-KEM in it.
///
/// @param group  Its code point.
/// @return 1 or 0; 0 where the library doesn't know the group.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_group_is_post_quantum(group: u16) -> c_int {
    answer(0, || Group::from_code_point(group).is_some_and(Group::is_post_quantum).into())
}

/// The name of a signature scheme in the IANA registry, such as "mldsa65" or "ecdsa_secp256r1_sha256".
///
/// @param scheme  Its code point.
/// @return A text that is valid for ever; NULL where the library doesn't know the scheme.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_scheme_name(scheme: u16) -> *const c_char {
    answer(ptr::null(), || scheme_name(scheme))
}

/// The name of a cipher suite in the IANA registry, such as "TLS_AES_256_GCM_SHA384".
///
/// @param suite  Its code point.
/// @return A text that is valid for ever; NULL where the library doesn't know the suite.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_suite_name(suite: u16) -> *const c_char {
    answer(ptr::null(), || suite_name(suite))
}

/// The name of a group, for ever; NULL where there is none.
pub(super) fn group_name(group: u16) -> *const c_char {
    named(&TEXTS.groups, group)
}

/// The name of a scheme, for ever; NULL where there is none.
pub(super) fn scheme_name(scheme: u16) -> *const c_char {
    named(&TEXTS.schemes, scheme)
}

/// The name of a suite, for ever; NULL where there is none.
pub(super) fn suite_name(suite: u16) -> *const c_char {
    named(&TEXTS.suites, suite)
}

/// Texts that are valid for ever, with the NUL byte that C wants.
struct Texts {
    version: CString,
    crypto_module: CString,
    groups: Vec<(u16, CString)>,
    schemes: Vec<(u16, CString)>,
    suites: Vec<(u16, CString)>,
}

static TEXTS: LazyLock<Texts> = LazyLock::new(|| {
    let text = |text: &str| CString::new(text).unwrap_or_default();
    Texts {
        version: text(version::VERSION),
        crypto_module: text(version::CRYPTO_MODULE),
        groups: Group::ALL.iter().map(|group| (group.code_point(), text(group.iana_name()))).collect(),
        schemes: SCHEMES.iter().map(|(scheme, name)| (u16::from(*scheme), text(name))).collect(),
        suites: CipherSuite::ALL.iter().map(|suite| (suite.code_point(), text(suite.iana_name()))).collect(),
    }
});

fn named(names: &[(u16, CString)], code_point: u16) -> *const c_char {
    names.iter().find(|(known, _)| *known == code_point).map_or(ptr::null(), |(_, name)| name.as_ptr())
}

/// The minimum of all parts, as rustls computes it.
fn is_validated() -> c_int {
    provider(Group::ALL, CipherSuite::ALL).fips().into()
}
