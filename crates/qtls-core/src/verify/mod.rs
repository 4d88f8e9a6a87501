//! Verifying peers: chains up to the trust anchors, depth, key kinds and names.
//!
//! webpki builds and checks the path. What it has no parameter for is checked in its path hook: `verify_depth`
//! (intermediates counted, which is OpenSSL's meaning of depth) and the kinds of key that may have signed.

mod path;
mod peers;

use std::cell::Cell;

use rustls::SignatureScheme;

pub use path::{PathError, TrustAnchors};
pub use peers::{ClientVerifier, DangerousNoVerifier, ServerVerifier};

thread_local! {
    /// rustls shows the scheme of the peer's CertificateVerify to the verifier and to nobody else. A verifier is shared
    /// by all connections; what it saw last *on this thread* belongs to the connection that is being processed here.
    static OBSERVED: Cell<Option<SignatureScheme>> = const { Cell::new(None) };
}

/// The scheme of the CertificateVerify that was verified on this thread since the last call.
///
/// To be called right after the call into rustls that may have verified it, on the same thread.
pub fn take_observed_scheme() -> Option<SignatureScheme> {
    OBSERVED.take()
}
