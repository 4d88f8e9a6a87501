//! Verifying peers: chains up to the trust anchors, depth, key kinds and names.
//!
//! webpki builds and checks the path. What it has no parameter for is checked in its path hook: `verify_depth`
//! (intermediates counted, which is OpenSSL's meaning of depth), the kinds of key that may have signed, key usage, and
//! pins.

mod allow;
mod identity;
mod opinion;
mod path;
mod peers;
mod revocation;

use std::cell::{Cell, RefCell};

use rustls::SignatureScheme;

pub use allow::{AllowList, AllowRule, Matched, Refused, Subject};
pub(crate) use identity::ip_address;
pub use identity::{Identity, SpkiHash};
pub use opinion::{SecondOpinion, Shown};
pub use path::{BuiltPath, PathError, TrustAnchors};
pub use peers::{ClientVerifier, DangerousNoVerifier, ServerVerifier};
pub use revocation::{Crl, Revocation, RevocationMode};

thread_local! {
    /// rustls shows the scheme of the peer's CertificateVerify to the verifier and to nobody else. A verifier is shared
    /// by all connections; what it saw last *on this thread* belongs to the connection that is being processed here.
    static OBSERVED: Cell<Option<SignatureScheme>> = const { Cell::new(None) };
    /// The one error of rustls that becomes the alert access_denied carries no text; who was refused is kept here, in
    /// the same way and for the same reason.
    static REFUSED: RefCell<Option<Refused>> = const { RefCell::new(None) };
}

/// The scheme of the CertificateVerify that was verified on this thread since the last call.
///
/// To be called right after the call into rustls that may have verified it, on the same thread.
pub fn take_observed_scheme() -> Option<SignatureScheme> {
    OBSERVED.take()
}

/// The identity that `certificates.allow` refused on this thread since the last call.
///
/// To be called, on the same thread, right after rustls has answered with
/// [`ApplicationVerificationFailure`](rustls::CertificateError::ApplicationVerificationFailure).
pub fn take_refused_identity() -> Option<Refused> {
    REFUSED.take()
}
