//! Connections: what was negotiated.

use std::ffi::{c_char, c_int, c_void};

use std::ptr;

use super::connection::{drive, look};
use super::library::{group_name, scheme_name, suite_name};
use super::pointers::{OK, answer, data, output, room, text};
use super::{qtls_conn, qtls_error, qtls_fault, qtls_status};
use crate::connection::Connection;
use crate::failure::Failure;

/// What was negotiated. Texts and pointers are valid until the connection is freed.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct qtls_info {
    /// To be set to `sizeof(qtls_info)` by the caller: a program that was compiled with an older header has a smaller one,
    /// and gets the fields that it knows. The library sets it to how much it has filled.
    pub size: usize,
    /// The protocol version on the wire: 0x0304, TLS 1.3.
    pub version: u16,
    /// The code point of the key exchange group.
    pub group: u16,
    /// The code point of the signature scheme of the server's CertificateVerify; 0 where a session was resumed, since then
    /// there is none.
    pub scheme: u16,
    /// The code point of the cipher suite.
    pub suite: u16,
    /// 1 where the key exchange withstands a quantum computer that reads a recording of the connection, else 0.
    pub group_post_quantum: u8,
    /// 1 where a session was resumed, else 0.
    pub resumed: u8,
    /// 1 where a HelloRetryRequest was needed, else 0.
    pub hello_retry_request: u8,
    /// 0. For later.
    pub reserved: u8,
    /// The version as people write it: "TLSv1.3".
    pub version_name: *const c_char,
    /// The name of the group in the IANA registry.
    pub group_name: *const c_char,
    /// The name of the scheme in the IANA registry; NULL where there is none.
    pub scheme_name: *const c_char,
    /// The name of the suite in the IANA registry.
    pub suite_name: *const c_char,
    /// The protocol that ALPN agreed on; NULL where it agreed on none. Not NUL-terminated.
    pub alpn: *const u8,
    /// Its length in bytes.
    pub alpn_len: usize,
    /// The server name that the client sent; NULL where it sent none.
    pub server_name: *const c_char,
    /// How many certificates the peer showed, or had shown when the session was made; 0 for clients without.
    pub peer_chain_length: usize,
}

/// What was negotiated.
///
/// @param conn           The connection, after its handshake.
/// @param[in,out] info   Where it goes; its field `size` has to be set.
/// @param[out] error     What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_NOT_YET  The handshake isn't complete.
/// @retval QTLS_E_MISUSE   `info` is NULL, or its `size` is smaller than that field itself.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_info(
    conn: *const qtls_conn,
    info: *mut qtls_info,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header; `info` has so many bytes as its first field says.
    unsafe {
        drive(conn, error, |connection| {
            // Where it is smaller than the structure that is known here, there is no reference to the whole of it.
            let size = *output("info", info.cast::<usize>())?;
            if size < size_of::<usize>() {
                let message = format!("info->size is {size}: set it to sizeof(qtls_info)");
                return Err(Failure::misuse(message));
            }
            let filled = size.min(size_of::<qtls_info>());
            let known = qtls_info { size: filled, ..told(connection)? };
            ptr::copy_nonoverlapping(ptr::from_ref(&known).cast::<u8>(), info.cast::<u8>(), filled);
            Ok(OK)
        })
    }
}

/// One of the certificates that the peer showed, or had shown when the session was made.
///
/// @param conn        The connection, after its handshake.
/// @param index       Which one, from 0, the leaf.
/// @param[out] der    The certificate in DER; valid until the connection is freed.
/// @param[out] len    Its length in bytes.
/// @param[out] error  What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_NOT_YET  The handshake isn't complete.
/// @retval QTLS_E_MISUSE   There is no certificate with this index.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_peer_certificate(
    conn: *const qtls_conn,
    index: usize,
    der: *mut *const u8,
    len: *mut usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        drive(conn, error, |connection| {
            let (der, len) = (output("der", der)?, output("len", len)?);
            let chain = &connection.engine().facts().ok_or_else(not_yet)?.peer_chain;
            let certificate = chain.get(index).ok_or_else(|| {
                Failure::misuse(format!("there is no certificate {index}: the peer showed {}", chain.len()))
            })?;
            (*der, *len) = (certificate.as_ptr(), certificate.len());
            Ok(OK)
        })
    }
}

/// Who the peer is by its certificate, on one line for logs: "CN=worker, DNS worker.example". What comes from the
/// certificate can't break the line. For decisions, take the certificate itself.
///
/// @param conn       The connection, or NULL.
/// @return A text that is valid until the connection is freed; NULL before the handshake is complete, where the peer
///     showed no certificate, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_peer_identity(conn: *const qtls_conn) -> *const c_char {
    answer(ptr::null(), || {
        // SAFETY: the caller keeps the rules of the header.
        let identity = unsafe { look(conn, |connection| Some(connection.texts()?.identity.as_ref()?.as_ptr())) };
        identity.flatten().unwrap_or(ptr::null())
    })
}

/// Derives a secret that only the two sides of this connection know (RFC 9846, section 7.5): both get the same for the
/// same label and context.
///
/// @param conn         The connection, after its handshake.
/// @param label        What the secret is for, such as "EXPORTER-Channel-Binding".
/// @param label_len    Its length in bytes, or QTLS_NTS.
/// @param context      What else it is bound to; may be NULL where `context_len` is 0.
/// @param context_len  Its length in bytes.
/// @param[out] out     Where the secret goes.
/// @param out_len      How many bytes are wanted; at least 1, at most 8160.
/// @param[out] error   What failed; may be NULL.
/// @return QTLS_OK, or an error.
/// @retval QTLS_E_NOT_YET  The handshake isn't complete.
/// @retval QTLS_E_TEXT     The label is empty, has a NUL byte in it, or is not UTF-8.
/// @retval QTLS_E_MISUSE   The length is 0, or too much.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn qtls_conn_export(
    conn: *const qtls_conn,
    label: *const c_char,
    label_len: usize,
    context: *const c_void,
    context_len: usize,
    out: *mut c_void,
    out_len: usize,
    error: *mut *mut qtls_error,
) -> c_int {
    // SAFETY: the caller keeps the rules of the header.
    unsafe {
        drive(conn, error, |connection| {
            let label = text("label", label, label_len)?;
            let context = data("context", context, context_len)?;
            let out = room("out", out, out_len)?;
            if !(1..=MAX_EXPORT).contains(&out.len()) {
                let message = format!("out_len is {out_len}: between 1 and {MAX_EXPORT} bytes can be derived");
                return Err(Failure::misuse(message));
            }
            let exported = connection.engine().export(label.as_bytes(), context, out).ok_or_else(not_yet)?;
            exported.map_err(|error| Failure::of_tls(&error, None))?;
            Ok(OK)
        })
    }
}

/// What HKDF-Expand gives with SHA-256, 255 times 32 bytes (RFC 5869 §2.3): the same for every suite.
const MAX_EXPORT: usize = 255 * 32;

fn told(connection: &mut Connection) -> Result<qtls_info, Failure> {
    let server_name = connection.texts().and_then(|texts| Some(texts.server_name.as_ref()?.as_ptr()));
    let facts = connection.engine().facts().ok_or_else(not_yet)?;
    let scheme = facts.scheme.map_or(0, u16::from);
    let version_name = match u16::from(facts.version) {
        0x0304 => c"TLSv1.3",
        _ => c"unknown",
    };
    Ok(qtls_info {
        size: 0,
        version: facts.version.into(),
        group: facts.group,
        scheme,
        suite: facts.suite,
        group_post_quantum: facts.post_quantum().into(),
        resumed: facts.resumed.into(),
        hello_retry_request: facts.hello_retry_request.into(),
        reserved: 0,
        version_name: version_name.as_ptr(),
        group_name: group_name(facts.group),
        scheme_name: scheme_name(scheme),
        suite_name: suite_name(facts.suite),
        alpn: facts.alpn.as_ref().map_or(ptr::null(), Vec::as_ptr),
        alpn_len: facts.alpn.as_ref().map_or(0, Vec::len),
        server_name: server_name.unwrap_or(ptr::null()),
        peer_chain_length: facts.peer_chain.len(),
    })
}

fn not_yet() -> Failure {
    Failure::new(
        qtls_status::QTLS_E_NOT_YET,
        qtls_fault::QTLS_FAULT_MISUSE,
        "the handshake is not complete, and only then this is known",
    )
}
