//! What rustls says, in the words of an operator: who is at fault, what happened, what to try.

use std::time::{Duration, UNIX_EPOCH};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, PeerIncompatible};

use super::{Error, Fault};
use crate::credentials::date;

impl From<&rustls::Error> for Error {
    fn from(error: &rustls::Error) -> Self {
        match error {
            rustls::Error::InvalidCertificate(error) => certificate(error),
            rustls::Error::AlertReceived(alert) => received(*alert),
            rustls::Error::PeerIncompatible(error) => incompatible(error),
            rustls::Error::NoApplicationProtocol => {
                Self::new(Fault::Policy, "the peer offers no ALPN protocol that is spoken here")
            }
            rustls::Error::NoCertificatesPresented => {
                Self::new(Fault::Verification, "the peer showed no certificate, and one is required")
            }
            rustls::Error::PeerMisbehaved(error) => {
                Self::new(Fault::Handshake, format!("the peer broke the protocol: {error:?}"))
            }
            rustls::Error::InvalidMessage(error) => {
                Self::new(Fault::Handshake, format!("the peer sent something that is not valid TLS: {error:?}"))
            }
            rustls::Error::InappropriateMessage { .. } | rustls::Error::InappropriateHandshakeMessage { .. } => {
                Self::new(Fault::Handshake, format!("the peer sent a message out of order: {error}"))
            }
            rustls::Error::DecryptError => Self::new(Fault::Handshake, "a record from the peer can't be decrypted"),
            rustls::Error::PeerSentOversizedRecord => {
                Self::new(Fault::Handshake, "the peer sent a record that is too large")
            }
            error => Self::internal(error.to_string()),
        }
    }
}

/// Every name that [`reason`] gives.
pub const REASONS: &[&str] = &[
    "alert_received",
    "certificate_expired",
    "certificate_missing",
    "certificate_not_yet_valid",
    "certificate_refused",
    "certificate_revoked",
    "certificate_unknown_issuer",
    "certificate_wrong_name",
    "certificate_wrong_purpose",
    "decrypt_error",
    "identity_not_allowed",
    "incompatible",
    "internal",
    "no_common_alpn",
    "no_common_group",
    "no_common_scheme",
    "no_common_suite",
    "no_common_version",
    "not_tls",
    "protocol_violation",
    "revocation_stale",
    "revocation_unknown",
];

/// A short, stable name for why a handshake failed, one of [`REASONS`]: the label `reason` of
/// `qtls_handshake_failures_total`.
pub fn reason(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "certificate_expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "certificate_not_yet_valid",
            CertificateError::UnknownIssuer => "certificate_unknown_issuer",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "certificate_wrong_name"
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                "certificate_wrong_purpose"
            }
            CertificateError::Revoked => "certificate_revoked",
            CertificateError::UnknownRevocationStatus => "revocation_unknown",
            CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
                "revocation_stale"
            }
            CertificateError::ApplicationVerificationFailure => "identity_not_allowed",
            _ => "certificate_refused",
        },
        rustls::Error::NoCertificatesPresented => "certificate_missing",
        rustls::Error::AlertReceived(_) => "alert_received",
        rustls::Error::PeerIncompatible(error) => match error {
            PeerIncompatible::NoKxGroupsInCommon => "no_common_group",
            PeerIncompatible::NoCipherSuitesInCommon => "no_common_suite",
            PeerIncompatible::NoSignatureSchemesInCommon
            | PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => "no_common_scheme",
            PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::SupportedVersionsExtensionRequired
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => "no_common_version",
            _ => "incompatible",
        },
        rustls::Error::NoApplicationProtocol => "no_common_alpn",
        rustls::Error::PeerMisbehaved(_)
        | rustls::Error::InappropriateMessage { .. }
        | rustls::Error::InappropriateHandshakeMessage { .. } => "protocol_violation",
        rustls::Error::InvalidMessage(_) | rustls::Error::PeerSentOversizedRecord => "not_tls",
        rustls::Error::DecryptError => "decrypt_error",
        _ => "internal",
    }
}

fn certificate(error: &CertificateError) -> Error {
    let new = |message: String| Error::new(Fault::Verification, message);
    match error {
        CertificateError::ExpiredContext { not_after, .. } => {
            new(format!("the peer's certificate chain expired on {}", time(*not_after)))
        }
        CertificateError::NotValidYetContext { not_before, .. } => {
            new(format!("the peer's certificate chain is not valid before {}", time(*not_before)))
                .hint("is a clock wrong?")
        }
        CertificateError::Expired => new("a certificate of the peer's chain ends before it begins".to_owned()),
        CertificateError::UnknownIssuer => new("the peer's certificate chain leads to no trust anchor".to_owned())
            .hint("trust the root that issued it, and have the peer send its intermediates"),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented: Vec<_> = presented.iter().map(|name| bare_name(name)).collect();
            let presented = if presented.is_empty() { "no name at all".to_owned() } else { presented.join(", ") };
            new(format!("the peer's certificate is not valid for {}; it is valid for {presented}", expected.to_str()))
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            new("the peer's certificate is not made for this side of TLS (extended key usage)".to_owned())
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            new("the peer's certificate chain is signed with an algorithm that algorithms.signature_chain lacks"
                .to_owned())
        }
        CertificateError::Revoked => new("the peer's certificate is revoked".to_owned()),
        CertificateError::UnknownRevocationStatus => {
            new("there is no CRL that says whether a certificate of the peer's chain is revoked".to_owned())
                .hint("have a CRL of every CA in the chain, the root included, or choose the mode \"soft\"")
        }
        CertificateError::ExpiredRevocationListContext { next_update, .. } => {
            new(format!("the CRL for a certificate of the peer's chain is stale since {}", time(*next_update)))
                .hint("get the CA's newest CRL, or choose the mode \"soft\"")
        }
        CertificateError::ApplicationVerificationFailure => {
            new("the peer's certificate is valid, but certificates.allow doesn't name its holder".to_owned())
        }
        CertificateError::BadSignature => new("a signature in the peer's certificate chain is wrong".to_owned()),
        CertificateError::BadEncoding => new("the peer's certificate can't be parsed".to_owned()),
        CertificateError::UnhandledCriticalExtension => {
            new("the peer's certificate chain has a critical extension that is not understood here".to_owned())
        }
        CertificateError::Other(error) => new(error.0.to_string()),
        error => new(format!("the peer's certificate was refused: {error:?}")),
    }
}

fn received(alert: AlertDescription) -> Error {
    let name =
        alert.as_str().map_or_else(|| format!("{}", u8::from(alert)), |name| format!("{name} ({})", u8::from(alert)));
    let error = Error::new(Fault::Handshake, format!("the peer ended the handshake with the alert {name}"));
    match alert {
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            error.hint("it may support none of the offered groups, suites or signature schemes")
        }
        AlertDescription::ProtocolVersion => error.hint("it doesn't speak TLS 1.3"),
        AlertDescription::CertificateRequired => error.hint("it requires a client certificate"),
        AlertDescription::BadCertificate
        | AlertDescription::UnknownCA
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::UnsupportedCertificate => error.hint("it doesn't accept the certificate of this side"),
        AlertDescription::AccessDenied => error.hint("it verified the certificate, and doesn't let its holder in"),
        AlertDescription::UnrecognisedName => error.hint("it doesn't know the name that was asked for"),
        _ => error,
    }
}

fn incompatible(error: &PeerIncompatible) -> Error {
    let new = |message: &str| Error::new(Fault::Policy, message);
    match error {
        PeerIncompatible::NoKxGroupsInCommon => new("the peer offers no key exchange group that the policy allows"),
        PeerIncompatible::NoCipherSuitesInCommon => new("the peer offers no cipher suite that the policy allows"),
        PeerIncompatible::NoSignatureSchemesInCommon => {
            new("the peer offers no signature scheme that the certificate of this side can sign with")
        }
        PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon => {
            new("the peer accepts no signature scheme that the client certificate can sign with")
        }
        PeerIncompatible::Tls12NotOfferedOrEnabled
        | PeerIncompatible::Tls12NotOffered
        | PeerIncompatible::SupportedVersionsExtensionRequired
        | PeerIncompatible::ServerDoesNotSupportTls12Or13
        | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => new("the peer doesn't speak TLS 1.3"),
        error => new(&format!("the peer is incompatible: {error:?}")),
    }
}

/// webpki shows a name as `DnsName("a.example")`; people know what it is.
fn bare_name(shown: &str) -> &str {
    shown.split('"').nth(1).or_else(|| shown.split_once('(')?.1.strip_suffix(')')).unwrap_or(shown)
}

fn time(time: UnixTime) -> String {
    date(UNIX_EPOCH + Duration::from_secs(time.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_reasons_is_what_the_function_gives() {
        let source = include_str!("tls.rs");
        let body = source.split_once("pub fn reason(").unwrap().1.split_once("\n}\n").unwrap().0;
        let mut given: Vec<_> = body.split('"').skip(1).step_by(2).collect();
        given.sort();
        assert_eq!(given, REASONS);
    }

    #[test]
    fn each_fault_has_its_exit_code() {
        let code = |error: rustls::Error| Error::from(&error).exit_code();
        assert_eq!(code(CertificateError::UnknownIssuer.into()), 4);
        assert_eq!(code(rustls::Error::AlertReceived(AlertDescription::HandshakeFailure)), 5);
        assert_eq!(code(PeerIncompatible::NoKxGroupsInCommon.into()), 6);
        assert_eq!(code(rustls::Error::General("bug".into())), 1);
    }

    #[test]
    fn alerts_say_what_to_try() {
        let error = Error::from(&rustls::Error::AlertReceived(AlertDescription::ProtocolVersion));
        assert_eq!(
            error.to_string(),
            "the peer ended the handshake with the alert ProtocolVersion (70)\n  hint: it doesn't speak TLS 1.3"
        );
    }
}
