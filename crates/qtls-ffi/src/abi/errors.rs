//! Error objects.

use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::sync::LazyLock;

use super::pointers::answer;
use super::qtls_status;
use crate::failure::Failure;

/// What failed, who is at fault, and what to try. Made by the function that fails, freed by its caller with
/// qtls_error_free().
#[derive(Debug)]
pub struct qtls_error(Failure);

impl qtls_error {
    /// For a caller who frees it.
    pub(super) fn into_raw(failure: Failure) -> *mut Self {
        Box::into_raw(Box::new(Self(failure)))
    }
}

/// The number of an error: what the function that failed has returned.
///
/// @param error  The error, or NULL.
/// @return One of the negative values of qtls_status; QTLS_OK for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_error_code(error: *const qtls_error) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    answer(0, || unsafe { error.as_ref() }.map_or(0, |error| error.0.code()))
}

/// Who is at fault.
///
/// @param error  The error, or NULL.
/// @return One of qtls_fault; QTLS_FAULT_NONE for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_error_fault(error: *const qtls_error) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    answer(0, || unsafe { error.as_ref() }.map_or(0, |error| error.0.fault()))
}

/// The alert that this side sends to the peer because of the error. In the I/O-free mode it is sent once it is drained.
///
/// @param error  The error, or NULL.
/// @return The number of the alert (RFC 9846, section 6); -1 where none is sent, or where the library can't tell.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_error_alert_sent(error: *const qtls_error) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    answer(-1, || unsafe { error.as_ref() }.and_then(|error| error.0.alert_sent()).map_or(-1, c_int::from))
}

/// The alert by which the peer ended the connection.
///
/// @param error  The error, or NULL.
/// @return The number of the alert (RFC 9846, section 6); -1 where the error is another one.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_error_alert_received(error: *const qtls_error) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    answer(-1, || unsafe { error.as_ref() }.and_then(|error| error.0.alert_received()).map_or(-1, c_int::from))
}

/// What failed and where, in English, on one line, without a full stop. For people: the wording may change.
///
/// @param error  The error, or NULL.
/// @return A text that is valid until the error is freed; NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_error_message(error: *const qtls_error) -> *const c_char {
    // SAFETY: the caller keeps the rules of the header.
    answer(ptr::null(), || unsafe { error.as_ref() }.map_or(ptr::null(), |error| error.0.message().as_ptr()))
}

/// The way out, in English, where one is known.
///
/// @param error  The error, or NULL.
/// @return A text that is valid until the error is freed; NULL where no way out is known, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_error_hint(error: *const qtls_error) -> *const c_char {
    answer(ptr::null(), || {
        // SAFETY: the caller keeps the rules of the header.
        let hint = unsafe { error.as_ref() }.and_then(|error| error.0.hint_text());
        hint.map_or(ptr::null(), std::ffi::CStr::as_ptr)
    })
}

/// Frees an error.
///
/// @param error  The error; NULL is let through.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_error_free(error: *mut qtls_error) {
    answer((), || {
        if !error.is_null() {
            // SAFETY: it was made by `into_raw`, and the caller gives it up.
            drop(unsafe { Box::from_raw(error) });
        }
    });
}

/// The name of a status as the header has it, such as "QTLS_E_PEER_EXPIRED". A combination of QTLS_WANT_READ and
/// QTLS_WANT_WRITE has a name, too.
///
/// @param status  What a function returned.
/// @return A text that is valid for ever; "unknown" for a number that is none.
#[unsafe(no_mangle)]
pub extern "C" fn qtls_status_name(status: c_int) -> *const c_char {
    answer(c"unknown".as_ptr(), || {
        let known = NAMES.iter().find(|(known, _)| *known == status);
        known.map_or(c"unknown".as_ptr(), |(_, name)| name.as_ptr())
    })
}

static NAMES: LazyLock<Vec<(c_int, CString)>> = LazyLock::new(|| {
    let both = qtls_status::QTLS_WANT_READ as c_int | qtls_status::QTLS_WANT_WRITE as c_int;
    let names = qtls_status::ALL.iter().map(|status| (*status as c_int, format!("{status:?}")));
    let names = names.chain([(both, "QTLS_WANT_READ|QTLS_WANT_WRITE".to_owned())]);
    names.map(|(status, name)| (status, CString::new(name).unwrap_or_default())).collect()
});
