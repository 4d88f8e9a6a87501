//! Configurations: resumption.

use std::ffi::{c_char, c_int};

use super::config::set;
use super::pointers::optional_characters;
use super::{qtls_config, qtls_error};
use crate::failure::Failure;

/// How many sessions are kept for resumption. Without this call, 256 for a client and 10000 for a server. Sessions are
/// resumed only by connections of the same configuration, or, with ticket keys, of servers with the same ones.
///
/// @param config      The configuration.
/// @param sessions    How many; 0 turns resumption off (a server with ticket keys needs no place for sessions, and goes on
///     resuming).
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN  The configuration is frozen.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_set_session_cache(
    config: *mut qtls_config,
    sessions: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        set(config, error, |building| {
            building.sessions = Some(sessions);
            Ok(())
        })
    }
}

/// For how long a session can be resumed. Without this call, an hour. For servers only: clients are told.
///
/// @param config      The configuration.
/// @param seconds     How long; at most 604800, seven days (RFC 9846, section 4.6.1). 0 turns resumption off.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN         The configuration is frozen.
/// @retval QTLS_E_MISUSE         The configuration is a client's.
/// @retval QTLS_E_CONFIGURATION  More than seven days.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_set_session_timeout(
    config: *mut qtls_config,
    seconds: u32,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { set(config, error, |building| building.set_session_timeout(seconds)) }
}

/// Keeps no sessions, but gives them to the clients as tickets, sealed with these keys; every server with the same keys
/// and the same policy resumes them. For servers only; has no effect where clients are asked for certificates.
///
/// Whoever has the keys can read what was sent in resumed connections that made no new key exchange; rotate them. To
/// change keys, make a new configuration: sessions go on as long as it has the old key, too.
///
/// @param config      The configuration.
/// @param text        The content of a file of ticket keys, as `qtls ticket-keys generate` writes it: a key in 64
///     hexadecimal digits on each line; the first seals, all of them open.
/// @param text_len    Its length in bytes, or QTLS_NTS.
/// @param[out] error  What failed, with the line, and nothing of the keys; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_FROZEN         The configuration is frozen.
/// @retval QTLS_E_MISUSE         The configuration is a client's.
/// @retval QTLS_E_CONFIGURATION  Something in it is no key, or there is none.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_config_set_ticket_keys(
    config: *mut qtls_config,
    text: *const c_char,
    text_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        set(config, error, |building| {
            let text = optional_characters("text", text, text_len)?.ok_or_else(|| Failure::null("text"))?;
            building.set_ticket_keys(text)
        })
    }
}
