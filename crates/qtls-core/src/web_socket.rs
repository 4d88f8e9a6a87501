//! The one thing in WebSocket's opening handshake that takes a hash.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64ct::{Base64, Encoding};

/// The `Sec-WebSocket-Accept` that answers a `Sec-WebSocket-Key` (RFC 6455, section 4.2.2). It proves nothing but that the
/// other side knows WebSocket, for which SHA-1 is good enough.
pub fn accept(key: &str) -> String {
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes());
    Base64::encode_string(hash.as_ref())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_example_of_the_rfc() {
        // Section 1.3.
        assert_eq!(super::accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }
}
