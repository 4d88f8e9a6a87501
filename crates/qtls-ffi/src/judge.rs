//! The program's own word on peers, between the verifiers of qtls-core and a function in C.

use std::ffi::c_int;
use std::fmt;
use std::sync::Arc;

use qtls_core::verify::{SecondOpinion, Shown};
use rustls::pki_types::CertificateDer;
use rustls::{CertificateError, Error, OtherError};

use crate::abi::VerifyCallback;
use crate::abi::qtls_verify_answer::{QTLS_VERIFY_ACCEPT, QTLS_VERIFY_REFUSE};
use crate::failure::Failure;

/// What a function in C is asked.
#[derive(Debug)]
pub(crate) struct Question<'a> {
    /// The chain as it was sent, the leaf first.
    pub(crate) chain: Vec<&'a CertificateDer<'a>>,
    /// The name that was asked for.
    pub(crate) server_name: Option<String>,
    /// What the library itself refuses the peer for.
    pub(crate) verdict: Option<Failure>,
}

/// Asks a function in C.
#[derive(Debug)]
pub(crate) struct Judge {
    pub(crate) callback: VerifyCallback,
    /// Whether its answer counts also where the library refuses.
    pub(crate) alone: bool,
}

impl SecondOpinion for Judge {
    fn judge(&self, shown: &Shown<'_>, verdict: Result<(), Error>) -> Result<(), Error> {
        const REFUSE: c_int = QTLS_VERIFY_REFUSE as c_int;
        const ACCEPT: c_int = QTLS_VERIFY_ACCEPT as c_int;

        let answer = self.callback.ask(&Question {
            chain: std::iter::once(shown.leaf).chain(shown.intermediates).collect(),
            server_name: shown.server_name.map(|name| name.to_str().into_owned()),
            verdict: verdict.as_ref().err().map(|error| Failure::of_tls(error, None)),
        });
        if !self.alone {
            verdict?;
        }
        match answer {
            ACCEPT => Ok(()),
            // rustls has no other error that becomes the alert access_denied.
            REFUSE => Err(CertificateError::ApplicationVerificationFailure.into()),
            other => Err(CertificateError::Other(OtherError(Arc::new(CallbackFailed(other)))).into()),
        }
    }
}

/// A verify callback returned something that is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CallbackFailed(c_int);

impl CallbackFailed {
    /// Whether that is what a handshake ended with.
    pub(crate) fn caused(error: &Error) -> bool {
        match error {
            Error::InvalidCertificate(CertificateError::Other(OtherError(cause))) => cause.is::<Self>(),
            _ => false,
        }
    }
}

impl fmt::Display for CallbackFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the verify callback failed: it returned {}, which is none of its answers", self.0)
    }
}

impl std::error::Error for CallbackFailed {}
