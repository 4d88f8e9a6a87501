//! What an error object holds, and the one way from the errors of qtls-core and rustls to the numbers of the header.

use std::ffi::{CStr, CString, c_int};
use std::path::Path;

use qtls_core::error::reason;
use qtls_core::{Error, Fault};
use rustls::{AlertDescription, CertificateError, PeerIncompatible};

use crate::abi::{qtls_fault, qtls_status};
use crate::judge::CallbackFailed;
use crate::words;
use qtls_fault::*;
use qtls_status::*;

/// An error on its way to the caller.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    code: qtls_status,
    fault: qtls_fault,
    sent: Option<u8>,
    received: Option<u8>,
    message: CString,
    hint: Option<CString>,
}

impl Failure {
    pub(crate) fn new(code: qtls_status, fault: qtls_fault, message: impl Into<String>) -> Self {
        Self { code, fault, sent: None, received: None, message: line(message.into()), hint: None }
    }

    /// The calling program did what the header excludes.
    pub(crate) fn misuse(message: impl Into<String>) -> Self {
        Self::new(QTLS_E_MISUSE, QTLS_FAULT_MISUSE, message)
    }

    /// A NULL where `what` is needed.
    pub(crate) fn null(what: &str) -> Self {
        Self::misuse(format!("{what} is NULL"))
    }

    /// What the user of the program configured is at fault.
    pub(crate) fn configuration(message: impl Into<String>) -> Self {
        Self::new(QTLS_E_CONFIGURATION, QTLS_FAULT_CONFIGURATION, message)
    }

    /// A bug of ours.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(QTLS_E_INTERNAL, QTLS_FAULT_INTERNAL, message)
    }

    /// Somebody else uses `what`.
    pub(crate) fn busy(what: &str) -> Self {
        Self::new(QTLS_E_BUSY, QTLS_FAULT_MISUSE, format!("{what} is in use by another call"))
            .hint("use it on one thread at a time, and not in the callbacks that it calls")
    }

    /// What a panic left behind.
    pub(crate) fn panicked(what: &str) -> Self {
        Self::internal(format!("a bug of the library: {what}")).hint("please report it, with what the program did")
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(line(hint.into()));
        self
    }

    /// The error that rustls ended a connection with, of which `sent` is known to have been told the peer.
    pub(crate) fn of_tls(error: &rustls::Error, sent: Option<u8>) -> Self {
        let (code, fault) = classified(error);
        let described = Error::from(error);
        let received = match error {
            rustls::Error::AlertReceived(alert) => Some(u8::from(*alert)),
            _ => None,
        };
        Self { code, fault, sent, received, ..Self::from(described) }
    }

    /// The verify callback has said no.
    pub(crate) fn refused(sent: Option<u8>) -> Self {
        Self { sent, ..Self::new(QTLS_E_PEER_REFUSED, QTLS_FAULT_VERIFICATION, "the verify callback refused the peer") }
    }

    /// Says more about what failed.
    #[must_use]
    pub(crate) fn with_message(mut self, message: String) -> Self {
        self.message = line(message);
        self
    }

    /// Is about a file: that it can't be read is another error than what is wrong in it.
    #[must_use]
    pub(crate) fn about_file(mut self, path: &Path) -> Self {
        if std::fs::File::open(path).is_err() {
            (self.code, self.fault) = (QTLS_E_FILE, QTLS_FAULT_CONFIGURATION);
        }
        self
    }

    /// The same again, for those who go on with a connection that has failed.
    pub(crate) fn again(&self) -> Self {
        let before = "the connection has failed before: ";
        let message = self.message.to_string_lossy();
        if message.starts_with(before) { self.clone() } else { self.clone().with_message(format!("{before}{message}")) }
    }

    pub(crate) fn code(&self) -> c_int {
        self.code as c_int
    }

    pub(crate) fn fault(&self) -> c_int {
        self.fault as c_int
    }

    pub(crate) fn alert_sent(&self) -> Option<u8> {
        self.sent
    }

    pub(crate) fn alert_received(&self) -> Option<u8> {
        self.received
    }

    pub(crate) fn message(&self) -> &CStr {
        &self.message
    }

    pub(crate) fn hint_text(&self) -> Option<&CStr> {
        self.hint.as_deref()
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (code, fault) = match error.fault() {
            Fault::Internal => (QTLS_E_INTERNAL, QTLS_FAULT_INTERNAL),
            Fault::Configuration => (QTLS_E_CONFIGURATION, QTLS_FAULT_CONFIGURATION),
            Fault::Certificate => (QTLS_E_CERTIFICATE, QTLS_FAULT_CERTIFICATE),
            Fault::Connection => (QTLS_E_NETWORK, QTLS_FAULT_NETWORK),
            Fault::Verification => (QTLS_E_PEER_CERTIFICATE, QTLS_FAULT_VERIFICATION),
            Fault::Handshake => (QTLS_E_PROTOCOL, QTLS_FAULT_PEER),
            Fault::Policy => (QTLS_E_INCOMPATIBLE, QTLS_FAULT_POLICY),
        };
        let place = error.place().map(|place| format!("{place}: ")).unwrap_or_default();
        let key = error.key_path().map(|key| format!("{key}: ")).unwrap_or_default();
        let failure = Self::new(code, fault, format!("{place}{}", words::of_c(&format!("{key}{}", error.message()))));
        match error.hint_text() {
            Some(hint) => failure.hint(words::of_c(hint)),
            None => failure,
        }
    }
}

/// The number of what rustls ended a connection with, and who is at fault.
fn classified(error: &rustls::Error) -> (qtls_status, qtls_fault) {
    if CallbackFailed::caused(error) {
        return (QTLS_E_CALLBACK, QTLS_FAULT_MISUSE);
    }
    let reason = reason(error);
    let entry = REASONS.iter().find(|(known, ..)| *known == reason);
    entry.map_or((QTLS_E_INTERNAL, QTLS_FAULT_INTERNAL), |(_, code, fault)| (*code, *fault))
}

/// For each of [`qtls_core::error::REASONS`].
const REASONS: &[(&str, qtls_status, qtls_fault)] = &[
    ("alert_received", QTLS_E_ALERT, QTLS_FAULT_PEER),
    ("certificate_expired", QTLS_E_PEER_EXPIRED, QTLS_FAULT_VERIFICATION),
    ("certificate_missing", QTLS_E_PEER_NO_CERTIFICATE, QTLS_FAULT_VERIFICATION),
    ("certificate_not_yet_valid", QTLS_E_PEER_NOT_YET_VALID, QTLS_FAULT_VERIFICATION),
    ("certificate_refused", QTLS_E_PEER_CERTIFICATE, QTLS_FAULT_VERIFICATION),
    ("certificate_revoked", QTLS_E_PEER_REVOKED, QTLS_FAULT_VERIFICATION),
    ("certificate_unknown_issuer", QTLS_E_PEER_UNKNOWN_ISSUER, QTLS_FAULT_VERIFICATION),
    ("certificate_wrong_name", QTLS_E_PEER_WRONG_NAME, QTLS_FAULT_VERIFICATION),
    ("certificate_wrong_purpose", QTLS_E_PEER_WRONG_PURPOSE, QTLS_FAULT_VERIFICATION),
    ("decrypt_error", QTLS_E_DECRYPT, QTLS_FAULT_PEER),
    ("identity_not_allowed", QTLS_E_PEER_NOT_ALLOWED, QTLS_FAULT_VERIFICATION),
    ("incompatible", QTLS_E_INCOMPATIBLE, QTLS_FAULT_POLICY),
    ("internal", QTLS_E_INTERNAL, QTLS_FAULT_INTERNAL),
    ("no_common_alpn", QTLS_E_NO_COMMON_ALPN, QTLS_FAULT_POLICY),
    ("no_common_group", QTLS_E_NO_COMMON_GROUP, QTLS_FAULT_POLICY),
    ("no_common_scheme", QTLS_E_NO_COMMON_SCHEME, QTLS_FAULT_POLICY),
    ("no_common_suite", QTLS_E_NO_COMMON_SUITE, QTLS_FAULT_POLICY),
    ("no_common_version", QTLS_E_NO_COMMON_VERSION, QTLS_FAULT_POLICY),
    ("not_tls", QTLS_E_NOT_TLS, QTLS_FAULT_PEER),
    ("protocol_violation", QTLS_E_PROTOCOL, QTLS_FAULT_PEER),
    ("revocation_stale", QTLS_E_PEER_REVOCATION_STALE, QTLS_FAULT_VERIFICATION),
    ("revocation_unknown", QTLS_E_PEER_REVOCATION_UNKNOWN, QTLS_FAULT_VERIFICATION),
];

/// The alert that rustls sends with an error, where that follows from the error alone.
pub(crate) fn alert_of(error: &rustls::Error) -> Option<AlertDescription> {
    Some(match error {
        rustls::Error::InvalidCertificate(error) => match error {
            // Only rustls' own judgement of chains gets here with an alert of its own.
            CertificateError::Other(_) => AlertDescription::CertificateUnknown,
            error => error.clone().into(),
        },
        rustls::Error::NoCertificatesPresented => AlertDescription::CertificateRequired,
        rustls::Error::PeerIncompatible(PeerIncompatible::NoSignatureSchemesInCommon) => {
            AlertDescription::HandshakeFailure
        }
        rustls::Error::DecryptError => AlertDescription::BadRecordMac,
        rustls::Error::PeerSentOversizedRecord => AlertDescription::RecordOverflow,
        rustls::Error::NoApplicationProtocol => AlertDescription::NoApplicationProtocol,
        rustls::Error::InappropriateMessage { .. } | rustls::Error::InappropriateHandshakeMessage { .. } => {
            AlertDescription::UnexpectedMessage
        }
        _ => return None,
    })
}

/// Texts for C have no NUL byte in them, and messages no end of line.
fn line(text: String) -> CString {
    let text = text.replace("\n  ", "; ").replace(['\n', '\r', '\0'], " ");
    CString::new(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_number_of_its_own() {
        let mut names: Vec<_> = REASONS.iter().map(|(name, ..)| *name).collect();
        assert_eq!(names, qtls_core::error::REASONS);
        names.dedup();
        let mut codes: Vec<_> = REASONS.iter().map(|(_, code, _)| *code as c_int).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), names.len());
    }

    #[test]
    fn fault_and_number_agree() {
        for (name, code, fault) in REASONS {
            let by_range = match *code as c_int {
                -1 => QTLS_FAULT_INTERNAL,
                -79..=-60 => QTLS_FAULT_VERIFICATION,
                -99..=-80 => QTLS_FAULT_PEER,
                _ => QTLS_FAULT_POLICY,
            };
            assert_eq!(*fault, by_range, "{name}");
        }
    }

    #[test]
    fn an_alert_from_the_peer_is_told_apart_from_one_to_the_peer() {
        let received = Failure::of_tls(&rustls::Error::AlertReceived(AlertDescription::UnknownCA), None);
        assert_eq!((received.code(), received.alert_received(), received.alert_sent()), (-80, Some(48), None));
        let sent = Failure::of_tls(&PeerIncompatible::NoKxGroupsInCommon.into(), Some(40));
        assert_eq!((sent.code(), sent.alert_received(), sent.alert_sent()), (-101, None, Some(40)));
        assert_eq!(
            sent.again().message().to_str().unwrap(),
            "the connection has failed before: the peer offers no key exchange group that the policy allows"
        );
        assert_eq!(sent.again().again().message(), sent.again().message(), "once is enough");
    }

    #[test]
    fn no_text_can_break_a_line_or_end_early() {
        let failure = Failure::misuse("a\0b\nc").hint("d\r\n  e");
        assert_eq!(failure.message(), c"a b c");
        assert_eq!(failure.hint_text(), Some(c"d ; e"));
    }
}
