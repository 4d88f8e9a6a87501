//! Configurations: their life, their own certificates, and what they have to say.

use std::ffi::{CString, c_char, c_int, c_void};

use std::ptr;
use std::sync::{Arc, Mutex, OnceLock, TryLockError};

use qtls_core::credentials::Passphrase;
use zeroize::Zeroizing;

use super::pointers::{OK, answer, data, enter, make, object, optional_characters, path};
use super::{qtls_error, qtls_fault, qtls_role, qtls_status};
use crate::building::{Building, Role};
use crate::failure::Failure;
use crate::frozen::Frozen;

/// What all connections of one side have in common: algorithms, certificates, whom to trust. It is built, then frozen
/// with qtls_config_freeze(), then used by any number of connections on any threads.
///
/// While it is built, one thread at a time may use it. Once frozen it never changes, and all threads may use it. It lives
/// as long as anybody has a reference to it, connections included.
#[derive(Debug)]
pub struct qtls_config {
    stage: Mutex<Stage>,
    frozen: OnceLock<Frozen>,
}

/// What is still changed.
#[derive(Debug)]
struct Stage {
    building: Building,
    notes: Vec<CString>,
}

impl qtls_config {
    /// What connections are made from.
    pub(super) fn frozen(&self) -> Result<&Frozen, Failure> {
        self.frozen.get().ok_or_else(|| {
            Failure::new(
                qtls_status::QTLS_E_NOT_FROZEN,
                qtls_fault::QTLS_FAULT_MISUSE,
                "the configuration is not frozen",
            )
            .hint("call qtls_config_freeze() once everything is set")
        })
    }

    fn change(&self, change: impl FnOnce(&mut Stage) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut stage = self.stage.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => Failure::busy("the configuration"),
            TryLockError::Poisoned(_) => Failure::panicked("the configuration was left unfinished"),
        })?;
        if self.frozen.get().is_some() {
            return Err(Failure::new(
                qtls_status::QTLS_E_FROZEN,
                qtls_fault::QTLS_FAULT_MISUSE,
                "the configuration is frozen already",
            )
            .hint("make another one with qtls_config_new()"));
        }
        change(&mut stage)
    }
}

/// Changes a configuration that is being built.
///
/// # Safety
/// As the header has it for `config` and `error`.
pub(super) unsafe fn set(
    config: *mut qtls_config,
    error: *mut *mut qtls_error,
    change: impl FnOnce(&mut Building) -> Result<(), Failure>,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe {
        enter(error, || {
            object("config", config)?.change(|stage| {
                change(&mut stage.building)?;
                stage.notes = texts(&stage.building.notes);
                Ok(())
            })?;
            Ok(OK)
        })
    }
}

fn texts(notes: &[String]) -> Vec<CString> {
    notes.iter().map(|note| CString::new(note.replace(['\n', '\0'], " ")).unwrap_or_default()).collect()
}

/// A passphrase, where there is one.
///
/// # Safety
/// As the header has it for texts.
unsafe fn secret(passphrase: *const c_char, length: usize) -> Result<Option<Passphrase>, Failure> {
    // SAFETY: as the caller promises.
    let bytes = unsafe { optional_characters("passphrase", passphrase, length)? };
    bytes.map(|bytes| Ok(Passphrase::new(Zeroizing::new(bytes.to_vec()), "the passphrase")?)).transpose()
}

/// Makes a configuration with the library's defaults: TLS 1.3, hybrid groups first (X25519MLKEM768 leads) and classical
/// ones behind them, nobody trusted, no certificate.
///
/// @param role        QTLS_CLIENT or QTLS_SERVER.
/// @param[out] error  What failed; may be NULL.
/// @return The configuration, with one reference that belongs to the caller; NULL where `role` is neither (the error's
///     code is QTLS_E_MISUSE).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_new(role: c_int, error: *mut *mut qtls_error) -> *mut qtls_config {
    const CLIENT: c_int = qtls_role::QTLS_CLIENT as c_int;
    const SERVER: c_int = qtls_role::QTLS_SERVER as c_int;
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        make(error, || {
            let role = match role {
                CLIENT => Role::Client,
                SERVER => Role::Server,
                _ => return Err(Failure::misuse(format!("role is {role}: it is neither QTLS_CLIENT nor QTLS_SERVER"))),
            };
            let building = Mutex::new(Stage { building: Building::new(role), notes: Vec::new() });
            Ok(Arc::into_raw(Arc::new(qtls_config { stage: building, frozen: OnceLock::new() })).cast_mut())
        })
    }
}

/// Takes one more reference to a configuration.
///
/// @param config  The configuration, or NULL.
/// @return The same configuration; each reference has to be given back with qtls_config_free().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_ref(config: *mut qtls_config) -> *mut qtls_config {
    answer(ptr::null_mut(), || {
        if !config.is_null() {
            // SAFETY: it was made by `Arc::into_raw`, and the caller has a reference.
            unsafe { Arc::increment_strong_count(config) };
        }
        config
    })
}

/// Gives a reference back. With the last one, the configuration is freed, and its keys are wiped. Connections have
/// references of their own: they go on.
///
/// @param config  The configuration; NULL is let through.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_free(config: *mut qtls_config) {
    answer((), || {
        if !config.is_null() {
            // SAFETY: it was made by `Arc::into_raw`, and the caller gives a reference up.
            drop(unsafe { Arc::from_raw(config) });
        }
    });
}

/// Joins everything that was set into something that connections can use, and checks that it fits together. Where it
/// fails, the configuration can be changed and frozen again.
///
/// @param config      The configuration.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN         It is frozen already.
/// @retval QTLS_E_CONFIGURATION  Something is missing (a server's certificate, trust anchors) or contradicts itself.
/// @retval QTLS_E_CERTIFICATE    The policy doesn't allow one of this side's own certificates.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_freeze(config: *mut qtls_config, error: *mut *mut qtls_error) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        enter(error, || {
            let config = object("config", config)?;
            config.change(|stage| {
                let (frozen, notes) = Frozen::new(&stage.building)?;
                stage.notes = texts(&notes);
                // Nobody else can have set it: the stage is locked.
                let _ = config.frozen.set(frozen);
                // Keys that connections need are in what is frozen.
                stage.building = Building::new(stage.building.role);
                Ok(())
            })?;
            Ok(OK)
        })
    }
}

/// How many notes there are: what whoever runs the program should hear, such as a certificate that soon expires, a name
/// from before the standard, or a setting that has no effect. Most of them are known after qtls_config_freeze().
///
/// @param config  The configuration, or NULL.
/// @return Their number; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_note_count(config: *const qtls_config) -> usize {
    answer(0, || {
        // SAFETY: the caller keeps the rules of the header.
        let config = unsafe { config.as_ref() };
        config.and_then(|config| config.stage.try_lock().ok()).map_or(0, |stage| stage.notes.len())
    })
}

/// One of the notes, in English, on one line.
///
/// @param config  The configuration, or NULL.
/// @param index   Which one, from 0.
/// @return A text that is valid until the configuration is changed, frozen or freed; NULL where the index is too large,
///     and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_note(config: *const qtls_config, index: usize) -> *const c_char {
    answer(ptr::null(), || {
        // SAFETY: the caller keeps the rules of the header.
        let config = unsafe { config.as_ref() };
        let stage = config.and_then(|config| config.stage.try_lock().ok());
        stage.and_then(|stage| stage.notes.get(index).map(|note| note.as_ptr())).unwrap_or(ptr::null())
    })
}

/// Adds one of this side's own certificates with its key, from memory. A server may have several of different kinds: each
/// client gets the first, in the order of qtls_config_set_signatures(), that it can verify. A client has one at most.
///
/// @param config          The configuration.
/// @param cert            The chain, the leaf first, in PEM; or one certificate in DER.
/// @param cert_len        Its length in bytes.
/// @param key             The private key, in PEM or DER: PKCS#8 (may be encrypted), PKCS#1 or SEC1.
/// @param key_len         Its length in bytes.
/// @param passphrase      What the key is encrypted with; NULL where it isn't.
/// @param passphrase_len  Its length in bytes, or QTLS_NTS.
/// @param[out] error      What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN       The configuration is frozen.
/// @retval QTLS_E_MISUSE       A client's configuration has one already.
/// @retval QTLS_E_CERTIFICATE  Either can't be used, the two don't belong together, or the passphrase is missing or
///     wrong.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_add_key_pair_pem(
    config: *mut qtls_config,
    cert: *const c_void,
    cert_len: usize,
    key: *const c_void,
    key_len: usize,
    passphrase: *const c_char,
    passphrase_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        set(config, error, |building| {
            let (cert, key) = (data("cert", cert, cert_len)?, data("key", key, key_len)?);
            building.add_key_pair(cert, key, secret(passphrase, passphrase_len)?)
        })
    }
}

/// Adds one of this side's own certificates with its key, from files: as qtls_config_add_key_pair_pem() does.
///
/// @param config          The configuration.
/// @param cert_path       The file with the chain.
/// @param cert_path_len   The length of the path in bytes, or QTLS_NTS.
/// @param key_path        The file with the private key.
/// @param key_path_len    The length of the path in bytes, or QTLS_NTS.
/// @param passphrase      What the key is encrypted with; NULL where it isn't.
/// @param passphrase_len  Its length in bytes, or QTLS_NTS.
/// @param[out] error      What failed, with the path; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN         The configuration is frozen.
/// @retval QTLS_E_MISUSE         A client's configuration has one already.
/// @retval QTLS_E_TEXT           A path is empty or has a NUL byte in it.
/// @retval QTLS_E_FILE           A file doesn't exist, or can't be read.
/// @retval QTLS_E_CERTIFICATE    Either can't be used, the two don't belong together, or the passphrase is missing or
///     wrong.
/// @retval QTLS_E_UNSUPPORTED    A path is a `pkcs11:` URI, and this build has no HSM support.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_add_key_pair_files(
    config: *mut qtls_config,
    cert_path: *const c_char,
    cert_path_len: usize,
    key_path: *const c_char,
    key_path_len: usize,
    passphrase: *const c_char,
    passphrase_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        set(config, error, |building| {
            let cert = path("cert_path", cert_path, cert_path_len)?;
            let key = path("key_path", key_path, key_path_len)?;
            building.add_key_pair_files(cert, key, secret(passphrase, passphrase_len)?)
        })
    }
}

/// Adds a protocol to those that are negotiated by ALPN (RFC 7301), the most preferred first. Without any, none is
/// negotiated. A server refuses clients that offer some, but none of these.
///
/// @param config        The configuration.
/// @param protocol      The identifier of the protocol, such as "h2"; any bytes.
/// @param protocol_len  Its length in bytes: 1 to 255.
/// @param[out] error    What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN         The configuration is frozen.
/// @retval QTLS_E_CONFIGURATION  The length is not from 1 to 255, or the protocol has been added before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_add_alpn(
    config: *mut qtls_config,
    protocol: *const c_void,
    protocol_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { set(config, error, |building| building.add_alpn(data("protocol", protocol, protocol_len)?)) }
}
