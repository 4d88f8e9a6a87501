//! A response from an upstream, as it is passed on.

use http::header;
use http::response::Parts;
use http::{StatusCode, Version};

use super::fields;
use super::request::{content_length, is_chunked};

/// Checks a response and takes out what is not for the client.
///
/// # Errors
/// Why it can't be passed on: what two programs in a row might take for different lengths, or a protocol that nobody
/// asked for.
pub(super) fn prepare(parts: &mut Parts) -> Result<(), &'static str> {
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err("it switches protocols without being asked to");
    }
    let has_length = parts.headers.contains_key(header::CONTENT_LENGTH);
    if parts.headers.contains_key(header::TRANSFER_ENCODING) {
        if !is_chunked(&parts.headers) {
            return Err("it has a transfer coding that was not asked for");
        }
        if has_length {
            return Err("it has both Content-Length and Transfer-Encoding");
        }
    }
    if has_length && content_length(&parts.headers).is_none() {
        return Err("its Content-Length is not one number");
    }
    fields::strip_response(&mut parts.headers);
    parts.version = Version::HTTP_11;
    Ok(())
}
