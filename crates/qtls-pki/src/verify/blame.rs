//! Which certificate broke the rule. webpki names the rule alone; the path is walked again to find who it means.

use std::time::SystemTime;

use der::asn1::ObjectIdentifier;
use der::{AnyRef, Decode, Encode, Reader, SliceReader};
use qtls_core::credentials::{Purpose, date};
use qtls_core::verify::PathError;
use rustls::CertificateError;
use x509_cert::Certificate;
use x509_cert::ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage, NameConstraints};

use super::{Parsed, subject_of};
use crate::signature;

/// The place in the path, the rule in words, and the way out.
type Blame = (Option<usize>, String, Option<String>);

/// `None` where nothing more can be said than the error itself does.
pub(super) fn find(parsed: &Parsed<'_>, path: &[Certificate], complete: bool, error: &rustls::Error) -> Option<Blame> {
    let rustls::Error::InvalidCertificate(error) = error else { return None };
    let at = parsed.question.at;
    // The anchor is trusted as it is; of what stands below it everything is checked.
    let below = if complete && path.len() > 1 { &path[..path.len() - 1] } else { path };
    let first = |broken: &dyn Fn(&Certificate) -> bool| below.iter().position(broken);
    let some = |step: usize, rule: String, hint: &str| Some((Some(step), rule, Some(hint.to_owned())));
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            let step = first(&|one| at > not_after(one))?;
            let rule = format!("expired on {}", date(not_after(&below[step])));
            some(step, rule, "have it renewed; --at TIME asks about another moment")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            let step = first(&|one| at < not_before(one))?;
            some(step, format!("is not valid before {}", date(not_before(&below[step]))), "is a clock wrong?")
        }
        CertificateError::UnknownIssuer if !complete => {
            let step = path.len() - 1;
            let last = &path[step];
            let issuer = last.tbs_certificate().issuer();
            let everybody = || parsed.chain.iter().chain(&parsed.anchors);
            if last.tbs_certificate().subject() == issuer {
                return some(
                    step,
                    "is self-signed, and is no trust anchor".to_owned(),
                    "trust it as --ca FILE, if it should be",
                );
            }
            if everybody().any(|other| other.tbs_certificate().subject() == issuer) {
                return some(step, not_signed(last), CHANGED);
            }
            let rule = format!("is issued by {issuer}, which is neither in the file nor a trust anchor");
            some(step, rule, "add the intermediate to the file, or give the root as --ca FILE")
        }
        CertificateError::BadSignature => {
            let step = path.len() - 1;
            some(step, not_signed(&path[step]), CHANGED)
        }
        CertificateError::Revoked => {
            let (step, rule) = below.iter().enumerate().find_map(|(step, one)| Some((step, revoked(parsed, one)?)))?;
            some(step, rule, "have a new certificate issued")
        }
        CertificateError::UnknownRevocationStatus => {
            let step = first(&|one| lists_of(parsed, one).next().is_none())?;
            let issuer = below[step].tbs_certificate().issuer();
            some(
                step,
                format!("no revocation list of its issuer, {issuer}, was given"),
                "give one as --crl FILE, for each issuer",
            )
        }
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            let stale = |one: &Certificate| lists_of(parsed, one).find_map(|list| list.staleness(at));
            let (step, why) = below.iter().enumerate().find_map(|(step, one)| Some((step, stale(one)?)))?;
            some(step, format!("the revocation list of its issuer {why}"), "get the issuer's newest list")
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            let names = crate::inspect::names(&path[0]);
            let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(", ") };
            let rule = format!("is not valid for {}: it names {names}", parsed.question.name.unwrap_or_default());
            some(0, rule, "connect by a name that it has, or have one issued with this name")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            let (wanted, word) = match parsed.question.purpose {
                Purpose::Server => (SERVER_AUTH, "serverAuth"),
                Purpose::Client => (CLIENT_AUTH, "clientAuth"),
            };
            let step = first(&|one| read::<ExtendedKeyUsage>(one).is_some_and(|usage| !usage.0.contains(&wanted)))?;
            some(
                step,
                format!("its extended key usage lacks {word}"),
                "use a certificate that was issued for this; --purpose says which side it is on",
            )
        }
        CertificateError::UnhandledCriticalExtension => {
            let known = ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.37"];
            let unknown = |one: &Certificate| {
                let extensions = one.tbs_certificate().extensions().into_iter().flatten();
                let mut unknown = extensions
                    .filter(|extension| extension.critical && !known.contains(&extension.extn_id.to_string().as_str()));
                unknown.next().map(|extension| extension.extn_id)
            };
            let (step, oid) = below.iter().enumerate().find_map(|(step, one)| Some((step, unknown(one)?)))?;
            some(step, format!("its critical extension {oid} is not understood"), "have one issued without it")
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            let step = path.len() - 1;
            let name = signature::name(path[step].signature_algorithm().oid);
            some(
                step,
                format!("it is signed with {name}, which is not accepted"),
                "have it signed with SHA-256 or better",
            )
        }
        CertificateError::Other(other) => {
            let error = other.0.downcast_ref::<PathError>()?;
            let (step, hint) = path_error(parsed, below, path, error)?;
            some(step, error.to_string(), hint)
        }
        _ => None,
    }
}

/// Whether `issuer` has signed `certificate`.
pub(super) fn signed(issuer: &Certificate, certificate: &Certificate) -> bool {
    let check = || {
        let spki = issuer.tbs_certificate().subject_public_key_info().to_der().ok()?;
        let der = certificate.to_der().ok()?;
        let outer = AnyRef::from_der(&der).ok()?;
        let signed = SliceReader::new(outer.value()).ok()?.decode::<AnyRef<'_>>().ok()?.to_der().ok()?;
        let octets = certificate.signature().as_bytes()?;
        signature::verify(&spki, certificate.signature_algorithm(), &signed, octets).ok()
    };
    issuer.tbs_certificate().subject() == certificate.tbs_certificate().issuer() && check().is_some()
}

fn path_error(
    parsed: &Parsed<'_>,
    below: &[Certificate],
    path: &[Certificate],
    error: &PathError,
) -> Option<(usize, &'static str)> {
    let issuer_named = |name: &str| path.iter().position(|one| subject_of(one) == name);
    Some(match error {
        PathError::LeafKind { .. } | PathError::LeafUsage => {
            (0, "have a certificate issued for TLS servers or clients")
        }
        PathError::TooDeep { .. } => {
            let depth = parsed.question.depth.unwrap_or_default();
            (depth + 1, "allow more intermediates as --depth N, or use a certificate of an issuer further up")
        }
        PathError::IssuerUsage { issuer } => {
            (issuer_named(issuer)?, "it may not issue: use a certificate of another issuer")
        }
        PathError::Path(webpki::Error::CaUsedAsEndEntity) => (0, "the leaf comes first in the file"),
        PathError::Path(webpki::Error::EndEntityUsedAsCa) => {
            let step = below.iter().skip(1).position(|one| !authority(one))? + 1;
            (step, "use a certificate that an authority has issued")
        }
        PathError::Path(webpki::Error::PathLenConstraintViolated) => {
            let step = path.iter().enumerate().skip(1).position(|(step, one)| {
                let limit = read::<BasicConstraints>(one).and_then(|constraints| constraints.path_len_constraint);
                // Between it and the leaf stand the others.
                limit.is_some_and(|limit| step - 1 > usize::from(limit))
            })? + 1;
            (step, "have the certificate issued by an authority further up")
        }
        PathError::Path(webpki::Error::NameConstraintViolation) => {
            let step = path.iter().position(|one| read::<NameConstraints>(one).is_some())?;
            (step, "have one issued for a name that its authorities may certify")
        }
        PathError::Path(webpki::Error::IssuerNotCrlSigner) => {
            let step =
                path.iter().skip(1).position(|one| read::<KeyUsage>(one).is_some_and(|usage| !usage.crl_sign()))? + 1;
            (step, "its lists prove nothing: leave them out, or use another issuer")
        }
        PathError::Path(webpki::Error::InvalidCrlSignatureForPublicKey) => {
            let forged = |one: &Certificate| {
                lists_of(parsed, one).any(|list| !path.iter().any(|issuer| list.check_issuer(issuer).is_ok()))
            };
            (
                below.iter().position(forged)?,
                "its issuer's list is of another authority with the same name: fetch it again",
            )
        }
        _ => return None,
    })
}

fn lists_of<'a>(parsed: &'a Parsed<'_>, certificate: &Certificate) -> impl Iterator<Item = &'a crate::crl::List> {
    let issuer = certificate.tbs_certificate().issuer().to_string();
    parsed.lists.iter().filter(move |list| list.issuer == issuer)
}

fn revoked(parsed: &Parsed<'_>, certificate: &Certificate) -> Option<String> {
    let serial = certificate.tbs_certificate().serial_number();
    lists_of(parsed, certificate).flat_map(|list| &list.revoked).find_map(|(revoked, at, reason)| {
        (revoked == serial.as_bytes()).then(|| format!("was revoked on {}: {reason}", date(*at)))
    })
}

fn authority(certificate: &Certificate) -> bool {
    read::<BasicConstraints>(certificate).is_some_and(|constraints| constraints.ca)
}

fn read<T>(certificate: &Certificate) -> Option<T>
where
    T: for<'a> Decode<'a, Error = der::Error> + der::oid::AssociatedOid,
{
    let mut extensions = certificate.tbs_certificate().extensions()?.iter();
    let extension = extensions.find(|extension| extension.extn_id == T::OID)?;
    T::from_der(extension.extn_value.as_bytes()).ok()
}

fn not_after(certificate: &Certificate) -> SystemTime {
    certificate.tbs_certificate().validity().not_after.to_system_time()
}

fn not_before(certificate: &Certificate) -> SystemTime {
    certificate.tbs_certificate().validity().not_before.to_system_time()
}

fn not_signed(certificate: &Certificate) -> String {
    format!("is not signed by {}, whose name it gives as its issuer", certificate.tbs_certificate().issuer())
}

const CHANGED: &str =
    "the issuer was renewed with another key, or a file was changed: take both from their source again";
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");
