//! Connections: bytes in, bytes out.

use std::ffi::{c_int, c_void};

use super::connection::drive;
use super::pointers::{self, OK, output, room};
use super::{qtls_conn, qtls_error};
use crate::connection::Connection;

/// Takes bytes that came from the peer. For connections without a descriptor.
///
/// Takes less than all of them only where plaintext has to be read first (at most 16 KiB and a record are kept); nothing
/// is lost: feed the rest again after qtls_conn_read(). What comes after the peer's close_notify is taken and ignored.
///
/// @param conn           The connection.
/// @param data           The bytes; any portion of the stream, down to single bytes. May be NULL where `len` is 0.
/// @param len            How many.
/// @param[out] consumed  How many were taken, also where the call fails.
/// @param[out] error     What failed; may be NULL. There may be an alert to drain.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_MISUSE  The connection has a descriptor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_feed(
    conn: *mut qtls_conn,
    data: *const c_void,
    len: usize,
    consumed: *mut usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        drive(conn, error, |connection| {
            let consumed = output("consumed", consumed)?;
            *consumed = 0;
            let outcome;
            (*consumed, outcome) = connection.feed(pointers::data("data", data, len)?);
            outcome.map(|()| OK)
        })
    }
}

/// Says that the transport has ended: no more will be fed. For connections without a descriptor.
///
/// @param conn        The connection.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK where the peer had sent its close_notify, or an error.
/// @retval QTLS_E_TRUNCATED  It hadn't. What was received before can still be read.
/// @retval QTLS_E_MISUSE     The connection has a descriptor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_feed_eof(conn: *mut qtls_conn, error: *mut *mut qtls_error) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { drive(conn, error, |connection| connection.feed_eof().map(|()| OK)) }
}

/// Gives bytes that have to be sent to the peer. For connections without a descriptor. Works also after an error: then it
/// gives the alert.
///
/// @param conn           The connection.
/// @param[out] buffer    Where they go. May be NULL where `capacity` is 0.
/// @param capacity       How many fit.
/// @param[out] produced  How many were given; 0 where there are none.
/// @param[out] error     What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_MISUSE  The connection has a descriptor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_drain(
    conn: *mut qtls_conn,
    buffer: *mut c_void,
    capacity: usize,
    produced: *mut usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        drive(conn, error, |connection| {
            let produced = output("produced", produced)?;
            *produced = 0;
            *produced = connection.drain(room("buffer", buffer, capacity)?)?;
            Ok(OK)
        })
    }
}

/// Does the handshake, as far as it gets. To be called again until it returns QTLS_OK; qtls_conn_read() and
/// qtls_conn_write() do it, too.
///
/// @param conn        The connection.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK where the handshake is complete and everything that belongs to it has left; QTLS_WANT_READ and
///     QTLS_WANT_WRITE where it isn't; or an error.
/// @retval QTLS_E_PEER_...     The peer's certificate was refused (QTLS_E_PEER_WRONG_NAME and its like).
/// @retval QTLS_E_ALERT        The peer refused.
/// @retval QTLS_E_NO_COMMON_...  The two sides have no algorithm in common (QTLS_E_NO_COMMON_GROUP and its like).
/// @retval QTLS_E_SHUT_DOWN    qtls_conn_shutdown() was called before.
/// @retval QTLS_E_TRUNCATED    The transport ended in the middle of it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_handshake(conn: *mut qtls_conn, error: *mut *mut qtls_error) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { drive(conn, error, Connection::handshake) }
}

/// Gives plaintext from the peer.
///
/// @param conn         The connection.
/// @param[out] buffer  Where it goes. May be NULL where `capacity` is 0; then the call does nothing.
/// @param capacity     How many bytes fit.
/// @param[out] count   How many bytes were given; more than 0 with QTLS_OK, unless `capacity` is 0.
/// @param[out] error   What failed; may be NULL.
/// @return QTLS_OK; QTLS_EOF where the peer has said that it sends no more; QTLS_WANT_READ and QTLS_WANT_WRITE where there
///     is nothing yet; or an error.
/// @retval QTLS_E_TRUNCATED  The transport ended, and the peer hadn't said so: what was received may be incomplete.
/// @retval QTLS_E_ALERT      The peer ended the connection with an alert.
/// @retval QTLS_E_DECRYPT    Something was changed on the way.
/// @retval QTLS_E_NETWORK    Reading from the descriptor failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_read(
    conn: *mut qtls_conn,
    buffer: *mut c_void,
    capacity: usize,
    count: *mut usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        drive(conn, error, |connection| {
            let count = output("count", count)?;
            *count = 0;
            let status;
            (*count, status) = connection.read(room("buffer", buffer, capacity)?)?;
            Ok(status)
        })
    }
}

/// Takes plaintext for the peer.
///
/// With a descriptor that blocks, all of it is sent. With one that doesn't, and in the I/O-free mode, it takes what fits
/// (at least 64 KiB can wait to be sent); what it has taken need not have left yet: qtls_conn_want() has QTLS_WANT_WRITE
/// until qtls_conn_flush() or qtls_conn_drain() have seen to that. Don't pass again what was taken.
///
/// @param conn        The connection.
/// @param data        The bytes. May be NULL where `len` is 0; then the call does nothing.
/// @param len         How many.
/// @param[out] count  How many bytes were taken; more than 0 with QTLS_OK, unless `len` is 0.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK; QTLS_WANT_READ and QTLS_WANT_WRITE where nothing could be taken; or an error.
/// @retval QTLS_E_SHUT_DOWN  qtls_conn_shutdown() was called before.
/// @retval QTLS_E_ALERT      The peer ended the connection with an alert.
/// @retval QTLS_E_NETWORK    Writing to the descriptor failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_write(
    conn: *mut qtls_conn,
    data: *const c_void,
    len: usize,
    count: *mut usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        drive(conn, error, |connection| {
            let count = output("count", count)?;
            *count = 0;
            let status;
            (*count, status) = connection.write(pointers::data("data", data, len)?)?;
            Ok(status)
        })
    }
}

/// Sends what waits to be sent. With a descriptor only; in the I/O-free mode it says whether something waits.
///
/// @param conn        The connection.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK where nothing waits any more; QTLS_WANT_WRITE where something does; or an error.
/// @retval QTLS_E_NETWORK  Writing to the descriptor failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_flush(conn: *mut qtls_conn, error: *mut *mut qtls_error) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { drive(conn, error, Connection::flush) }
}

/// Says to the peer that this side sends no more (close_notify). What the peer sends can be read until QTLS_EOF. May be
/// called again, to go on where it returned QTLS_WANT_WRITE. Doesn't wait for the peer's own close_notify.
///
/// @param conn        The connection.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK where it has left; QTLS_WANT_WRITE where it hasn't yet; or an error.
/// @retval QTLS_E_NETWORK  Writing to the descriptor failed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_shutdown(conn: *mut qtls_conn, error: *mut *mut qtls_error) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe { drive(conn, error, Connection::shut_down) }
}
