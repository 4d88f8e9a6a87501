//! Connections: their life and their descriptor.

use std::ffi::{c_char, c_int, c_void};

use std::os::fd::BorrowedFd;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Mutex, TryLockError};

use rustls::pki_types::ServerName;

use super::callbacks::driving;
use super::pointers::{OK, answer, enter, make, object, text};
use super::{qtls_config, qtls_error};
use crate::connection::Connection;
use crate::engine::Engine;
use crate::failure::Failure;
use crate::frozen::Frozen;
use crate::socket::Socket;

/// One TLS connection. One thread at a time may use it; a call while another one is under way is refused with
/// QTLS_E_BUSY.
///
/// Either the program carries the bytes (qtls_conn_feed() and qtls_conn_drain()), or the connection has a descriptor
/// (qtls_conn_set_fd()) and does it itself.
///
/// After an error the connection is of no more use: what was received before can still be read, and the alert for the peer
/// be drained; then every call ends with the same error again.
pub struct qtls_conn {
    /// Locked by every call, and never waited for: who finds it locked uses it in a way that the header excludes. A panic
    /// leaves it poisoned.
    connection: Mutex<Connection>,
    user: AtomicPtr<c_void>,
}

impl qtls_conn {
    fn into_raw(engine: Engine) -> *mut Self {
        let user = AtomicPtr::new(ptr::null_mut());
        Box::into_raw(Box::new(Self { connection: Mutex::new(Connection::new(engine)), user }))
    }

    fn with<T>(&self, body: impl FnOnce(&mut Connection) -> T) -> Result<T, Failure> {
        match self.connection.try_lock() {
            Ok(mut connection) => Ok(driving(self.user.load(Ordering::Relaxed), || body(&mut connection))),
            Err(TryLockError::WouldBlock) => Err(Failure::busy("the connection")),
            Err(TryLockError::Poisoned(_)) => Err(Failure::panicked("it has made the connection unusable")),
        }
    }
}

/// Has a connection do something that can fail.
///
/// # Safety
/// As the header has it for `conn` and `error`.
pub(super) unsafe fn drive(
    conn: *const qtls_conn,
    error: *mut *mut qtls_error,
    body: impl FnOnce(&mut Connection) -> Result<c_int, Failure>,
) -> c_int {
    // SAFETY: as the caller promises.
    unsafe { enter(error, || object("conn", conn)?.with(body)?) }
}

/// Looks at a connection; `None` where there is none, or where it can't be looked at.
///
/// # Safety
/// As the header has it for `conn`.
pub(super) unsafe fn look<T>(conn: *const qtls_conn, body: impl FnOnce(&mut Connection) -> T) -> Option<T> {
    // SAFETY: as the caller promises.
    unsafe { conn.as_ref() }.and_then(|conn| conn.with(body).ok())
}

/// Makes the client's side of a connection.
///
/// @param config           A frozen configuration of role QTLS_CLIENT. The connection takes a reference of its own.
/// @param server_name      The name that the server's certificate has to be valid for: a DNS name, or an IP address.
/// @param server_name_len  Its length in bytes, or QTLS_NTS.
/// @param[out] error       What failed; may be NULL.
/// @return The connection; NULL where it can't be made.
/// @retval QTLS_E_NOT_FROZEN     The configuration is not frozen.
/// @retval QTLS_E_MISUSE         The configuration is a server's.
/// @retval QTLS_E_TEXT           The name is empty, has a NUL byte in it, or is not UTF-8.
/// @retval QTLS_E_CONFIGURATION  It is neither a DNS name nor an address.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_new_client(
    config: *mut qtls_config,
    server_name: *const c_char,
    server_name_len: usize,
    error: *mut *mut qtls_error,
) -> *mut qtls_conn {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        make(error, || {
            let config = object("config", config)?;
            let Frozen::Client(tls) = config.frozen()? else {
                return Err(Failure::misuse("the configuration is a server's, and this is for clients"));
            };
            let name = text("server_name", server_name, server_name_len)?;
            let parsed = ServerName::try_from(name.to_owned()).map_err(|_| {
                Failure::configuration(format!("\"{name}\" is neither a DNS name nor an IP address"))
                    .hint("give the name that is in the server's certificate, in ASCII (xn--… for other scripts), without a port")
            })?;
            Ok(qtls_conn::into_raw(Engine::client(tls, parsed)?))
        })
    }
}

/// Makes the server's side of a connection.
///
/// @param config      A frozen configuration of role QTLS_SERVER. The connection takes a reference of its own.
/// @param[out] error  What failed; may be NULL.
/// @return The connection; NULL where it can't be made.
/// @retval QTLS_E_NOT_FROZEN  The configuration is not frozen.
/// @retval QTLS_E_MISUSE      The configuration is a client's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_new_server(config: *mut qtls_config, error: *mut *mut qtls_error) -> *mut qtls_conn {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        make(error, || {
            let config = object("config", config)?;
            let Frozen::Server(server) = config.frozen()? else {
                return Err(Failure::misuse("the configuration is a client's, and this is for servers"));
            };
            Ok(qtls_conn::into_raw(Engine::server(server.clone())))
        })
    }
}

/// Frees a connection. Nothing is sent, and the descriptor stays open: call qtls_conn_shutdown() before, and close the
/// descriptor after. In a callback that the connection is calling, this does nothing.
///
/// @param conn  The connection; NULL is let through.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_free(conn: *mut qtls_conn) {
    answer((), || {
        // SAFETY: the caller keeps the rules of the header.
        let Some(alive) = (unsafe { conn.as_ref() }) else { return };
        // A call that is under way goes on using it.
        if matches!(alive.connection.try_lock(), Err(TryLockError::WouldBlock)) {
            return;
        }
        // SAFETY: it was made by `into_raw`, and the caller gives it up.
        drop(unsafe { Box::from_raw(conn) });
    });
}

/// Keeps a pointer of the program's with a connection.
///
/// @param conn        The connection.
/// @param user        The pointer. The library doesn't look behind it.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_set_user(
    conn: *mut qtls_conn,
    user: *mut c_void,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        enter(error, || {
            object("conn", conn)?.user.store(user, Ordering::Relaxed);
            Ok(OK)
        })
    }
}

/// The pointer that was given to qtls_conn_set_user().
///
/// @param conn  The connection, or NULL.
/// @return The pointer; NULL where none was given, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_user(conn: *const qtls_conn) -> *mut c_void {
    answer(ptr::null_mut(), || {
        // SAFETY: the caller keeps the rules of the header.
        unsafe { conn.as_ref() }.map_or(ptr::null_mut(), |conn| conn.user.load(Ordering::Relaxed))
    })
}

/// Gives a connection the descriptor of a connected stream socket. From then on, qtls_conn_handshake(), qtls_conn_read(),
/// qtls_conn_write(), qtls_conn_flush() and qtls_conn_shutdown() read from it and write to it themselves. Where the
/// descriptor is non-blocking, they return QTLS_WANT_READ and QTLS_WANT_WRITE instead of waiting. No call raises SIGPIPE,
/// and interrupted system calls are made again.
///
/// The descriptor stays the program's: the library doesn't close it, and doesn't change it.
///
/// @param conn        The connection, to which nothing has been fed yet.
/// @param fd          The descriptor.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_MISUSE  `fd` is no stream socket, or the connection has a descriptor, or was fed already.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_set_fd(conn: *mut qtls_conn, fd: c_int, error: *mut *mut qtls_error) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        drive(conn, error, |connection| {
            if fd < 0 {
                return Err(Failure::misuse(format!("the descriptor is {fd}")));
            }
            // The header has the program keep it open as long as the connection uses it.
            connection.set_socket(Socket::new(BorrowedFd::borrow_raw(fd))?)?;
            Ok(OK)
        })
    }
}

/// What the connection waits for: which events of its descriptor to poll for, or whether to feed or drain.
///
/// @param conn  The connection, or NULL.
/// @return QTLS_WANT_READ and QTLS_WANT_WRITE, combined; 0 where nothing can come any more and nothing has to leave, and
///     for NULL. QTLS_WANT_READ is missing while there is plaintext that has to be read first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_want(conn: *const qtls_conn) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    answer(0, || unsafe { look(conn, |connection| connection.want()) }.unwrap_or(0))
}

/// How many bytes qtls_conn_read() gives without any from the peer. Look here before polling the descriptor: what was
/// decrypted already makes it not readable.
///
/// @param conn  The connection, or NULL.
/// @return The number of bytes; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_pending(conn: *const qtls_conn) -> usize {
    // SAFETY: the caller keeps the rules of the header.
    answer(0, || unsafe { look(conn, |connection| connection.pending()) }.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;
    use std::sync::Arc;

    use qtls_core::endpoint::{ServerTrust, client_config};
    use qtls_core::policy::Policy;

    use super::*;
    use crate::abi::{qtls_conn_handshake, qtls_error_code, qtls_error_free, qtls_error_message};

    #[test]
    fn a_bug_makes_a_connection_unusable_and_nothing_else() {
        let policy = Arc::new(Policy::default());
        let tls = client_config(&policy, ServerTrust::DangerousAnyone, None, true, Vec::new()).unwrap();
        let engine = || Engine::client(&tls, ServerName::try_from("a.example").unwrap()).unwrap();
        let (conn, other) = (qtls_conn::into_raw(engine()), qtls_conn::into_raw(engine()));
        let mut error = ptr::null_mut();
        // SAFETY: both are connections until they are freed, and `error` is freed before it is set again.
        unsafe {
            assert_eq!(drive(conn, ptr::null_mut(), |_| panic!("on purpose")), -1);
            assert_eq!(qtls_conn_handshake(conn, &mut error), -1);
            assert_eq!(qtls_error_code(error), -1);
            let message = CStr::from_ptr(qtls_error_message(error)).to_str().unwrap();
            assert_eq!(message, "a bug of the library: it has made the connection unusable");
            qtls_error_free(error);
            assert_eq!((qtls_conn_want(conn), qtls_conn_pending(conn)), (0, 0));
            assert_eq!(qtls_conn_handshake(other, ptr::null_mut()), 3, "it goes on");
            qtls_conn_free(conn);
            qtls_conn_free(other);
        }
    }
}
