//! Configurations: functions of the program that the library calls.

use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use super::config::set;
use super::pointers::OK;
use super::{qtls_config, qtls_error};
use crate::failure::Failure;
use crate::judge::{Judge, Question};
use crate::key_log::Lines;

/// What a verify callback is told. Everything in it is valid during the call only. Later versions may have more fields
/// behind these.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct qtls_chain {
    /// The size of this structure as the library has it.
    pub size: usize,
    /// The peer's certificates in DER, the leaf first.
    pub certificates: *const *const u8,
    /// Their lengths in bytes.
    pub lengths: *const usize,
    /// How many there are; at least one.
    pub count: usize,
    /// The name that the server should have; NULL on servers.
    pub server_name: *const c_char,
    /// What the library itself thinks of the chain: QTLS_OK, or the error that the handshake would end with.
    pub verdict: c_int,
    /// That error in words; NULL where there is none.
    pub verdict_message: *const c_char,
    /// What was given to qtls_conn_set_user() for this connection; NULL without that.
    pub conn_user: *mut c_void,
}

/// A function that is asked about a peer's certificates. It is called in the middle of a handshake, on the thread that
/// drives it: it should answer fast, and it must not use the connection that it is asked about: calls that do are refused
/// with QTLS_E_BUSY.
///
/// It returns one of qtls_verify_answer. Any other value is a failure: the handshake ends with QTLS_E_CALLBACK, and the
/// peer is sent the alert certificate_unknown. No exception and no longjmp() may leave it.
pub type qtls_verify_callback = Option<unsafe extern "C" fn(user: *mut c_void, chain: *const qtls_chain) -> c_int>;

/// A function that is given the secrets of connections: a line in the NSS key log format, without an end of line, which is
/// valid during the call only. It may be called by several threads at once.
pub type qtls_key_log_callback = Option<unsafe extern "C" fn(user: *mut c_void, line: *const c_char, line_len: usize)>;

/// Has a function of the program asked about each peer, after the library's own verification. It can refuse what the
/// library accepts; it can't accept what the library refuses: then it is called, too, and its answer changes nothing.
///
/// A client's resumed sessions are not asked about again: they were when they were made, with this very configuration. A
/// server's are.
///
/// @param config      The configuration.
/// @param callback    The function; NULL takes it away again.
/// @param user        What it is given as its first argument. It has to live as long as the configuration, and may be used
///     by several threads at once.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN  The configuration is frozen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_set_verify_callback(
    config: *mut qtls_config,
    callback: qtls_verify_callback,
    user: *mut c_void,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        set(config, error, |building| {
            building.judge = callback.map(|function| judge(function, user, false));
            Ok(())
        })
    }
}

/// DANGER: has a function of the program decide alone whom to trust. The library still checks that the peer holds the key
/// of the certificate that it shows. What the library thinks of the chain is in `verdict`; without trust anchors, which
/// are not needed then, that is always QTLS_E_PEER_UNKNOWN_ISSUER. A function that always accepts makes a connection to
/// anyone.
///
/// Takes the place of qtls_config_set_verify_callback(). The configuration gets a note.
///
/// @param config      The configuration.
/// @param callback    The function; NULL takes it away again.
/// @param user        What it is given as its first argument. It has to live as long as the configuration, and may be used
///     by several threads at once.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN  The configuration is frozen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_danger_set_trust_callback(
    config: *mut qtls_config,
    callback: qtls_verify_callback,
    user: *mut c_void,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        set(config, error, |building| {
            building.judge = callback.map(|function| judge(function, user, true));
            Ok(())
        })
    }
}

/// DANGER: has the secrets of all connections given to a function of the program. Whoever gets to see them can decrypt
/// recordings of these connections; Wireshark does. The configuration gets a note.
///
/// @param config      The configuration.
/// @param callback    The function; NULL takes it away again.
/// @param user        What it is given as its first argument. It has to live as long as the configuration, and may be used
///     by several threads at once.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN  The configuration is frozen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_danger_set_key_log_callback(
    config: *mut qtls_config,
    callback: qtls_key_log_callback,
    user: *mut c_void,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        set(config, error, |building| {
            building.key_log = callback.map(|function| Arc::new(Lines(KeyLogCallback { function, user })) as _);
            Ok(())
        })
    }
}

/// A function that judges peers, and what it is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct VerifyCallback {
    function: unsafe extern "C" fn(user: *mut c_void, chain: *const qtls_chain) -> c_int,
    user: *mut c_void,
}

/// A function that takes secrets, and what it is given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyLogCallback {
    function: unsafe extern "C" fn(user: *mut c_void, line: *const c_char, line_len: usize),
    user: *mut c_void,
}

// SAFETY: the header has those who give `user` see to it that any thread may use it, several at once.
unsafe impl Send for VerifyCallback {}
// SAFETY: as above.
unsafe impl Sync for VerifyCallback {}
// SAFETY: as above.
unsafe impl Send for KeyLogCallback {}
// SAFETY: as above.
unsafe impl Sync for KeyLogCallback {}

thread_local! {
    /// What belongs to the connection that is being driven on this thread: rustls doesn't tell a verifier which one it is.
    static CONN_USER: Cell<*mut c_void> = const { Cell::new(ptr::null_mut()) };
}

/// Runs what drives a connection, with the pointer that was given to qtls_conn_set_user() for it.
pub(super) fn driving<T>(user: *mut c_void, body: impl FnOnce() -> T) -> T {
    /// Puts back what was there: a callback may drive another connection.
    struct Restore(*mut c_void);
    impl Drop for Restore {
        fn drop(&mut self) {
            CONN_USER.set(self.0);
        }
    }
    let _restore = Restore(CONN_USER.replace(user));
    body()
}

impl VerifyCallback {
    /// What the function answers.
    pub(crate) fn ask(&self, question: &Question<'_>) -> c_int {
        let certificates: Vec<_> = question.chain.iter().map(|der| der.as_ptr()).collect();
        let lengths: Vec<_> = question.chain.iter().map(|der| der.len()).collect();
        let server_name = question.server_name.as_deref().and_then(|name| CString::new(name).ok());
        let verdict = question.verdict.as_ref();
        let chain = qtls_chain {
            size: size_of::<qtls_chain>(),
            certificates: certificates.as_ptr(),
            lengths: lengths.as_ptr(),
            count: certificates.len(),
            server_name: server_name.as_ref().map_or(ptr::null(), |name| name.as_ptr()),
            verdict: verdict.map_or(OK, Failure::code),
            verdict_message: verdict.map_or(ptr::null(), |failure| failure.message().as_ptr()),
            conn_user: CONN_USER.get(),
        };
        // SAFETY: the header has those who give the function see to it that it can be called, and everything that it is
        // shown lives until it returns.
        unsafe { (self.function)(self.user, &chain) }
    }
}

impl KeyLogCallback {
    /// Gives the function a line.
    pub(crate) fn tell(&self, line: &str) {
        // SAFETY: as for verify callbacks.
        unsafe { (self.function)(self.user, line.as_ptr().cast(), line.len()) }
    }
}

fn judge(
    function: unsafe extern "C" fn(user: *mut c_void, chain: *const qtls_chain) -> c_int,
    user: *mut c_void,
    alone: bool,
) -> Arc<Judge> {
    Arc::new(Judge { callback: VerifyCallback { function, user }, alone })
}
