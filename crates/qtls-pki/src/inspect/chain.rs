//! What is wrong between the certificates and keys of one file.

use der::{AnyRef, Decode, Encode, Reader, SliceReader};
use qtls_core::credentials::key_kind;
use x509_cert::Certificate;

use super::Item;
use crate::signature;

/// What is wrong with certificates, read as the chain that a server or client sends. A bundle of authorities has no
/// order.
pub(super) fn problems(certificates: &[Certificate]) -> Vec<String> {
    let Some(leaf) = certificates.iter().position(|certificate| !is_authority(certificate)) else {
        return Vec::new();
    };
    let mut problems = Vec::new();
    if leaf > 0 {
        problems.push(format!("certificate {} is the leaf, and comes first in a chain", leaf + 1));
    }
    let again = |index: usize| certificates[..index].iter().position(|other| *other == certificates[index]);
    for (index, certificate) in certificates.iter().enumerate() {
        let number = index + 1;
        if let Some(first) = again(index) {
            problems.push(format!("certificate {number} is certificate {} again", first + 1));
        }
        // The next that wasn't there before; behind a repeated one its first copy has been judged by it.
        let next = (number..certificates.len()).find(|next| again(*next).is_none());
        let next = next.filter(|_| !is_self_issued(certificate) && again(index).is_none());
        let Some((next_number, next)) = next.map(|next| (next + 1, &certificates[next])) else { continue };
        if issued(next, certificate) {
            problems.extend(bad_signature(certificate, next).map(|why| {
                format!("certificate {number} is not signed by certificate {next_number}, whose name it gives: {why}")
            }));
        } else if let Some(issuer) = certificates.iter().position(|other| issued(other, certificate)) {
            problems.push(format!(
                "certificate {number} is issued by certificate {}: the issuer comes right behind in a chain",
                issuer + 1
            ));
        } else {
            let issuer = certificate.tbs_certificate().issuer();
            problems.push(format!("certificate {number} is issued by {issuer}, which is not here"));
        }
    }
    problems
}

/// A private key that no certificate beside it belongs to.
pub(super) fn key_problems(items: &[Item]) -> Vec<String> {
    let certified: Vec<&str> = items
        .iter()
        .filter_map(|item| match item {
            Item::Certificate(report) => Some(report.key.spki_sha256.as_str()),
            _ => None,
        })
        .collect();
    let keys = items.iter().filter_map(|item| match item {
        Item::PrivateKey(report) => report.key.as_ref(),
        _ => None,
    });
    let mut problems = Vec::new();
    for key in keys.filter(|_| !certified.is_empty()) {
        match certified.iter().position(|other| *other == key.spki_sha256) {
            Some(0) => {}
            Some(index) => problems.push(format!(
                "the private key belongs to certificate {}, not to the first: the leaf comes first",
                index + 1
            )),
            None => problems.push(format!("the private key ({}) belongs to no certificate here", key.kind)),
        }
    }
    problems
}

fn is_self_issued(certificate: &Certificate) -> bool {
    certificate.tbs_certificate().subject() == certificate.tbs_certificate().issuer()
}

fn is_authority(certificate: &Certificate) -> bool {
    let constraints = certificate.tbs_certificate().get_extension::<x509_cert::ext::pkix::BasicConstraints>();
    matches!(constraints, Ok(Some((_, constraints))) if constraints.ca)
}

fn issued(issuer: &Certificate, certificate: &Certificate) -> bool {
    issuer.tbs_certificate().subject() == certificate.tbs_certificate().issuer()
}

fn bad_signature(certificate: &Certificate, issuer: &Certificate) -> Option<String> {
    let spki = issuer.tbs_certificate().subject_public_key_info().to_der().ok()?;
    // What can't be verified here is told as a problem of the issuer's key already.
    key_kind(&spki).ok()?;
    let der = certificate.to_der().ok()?;
    let outer = AnyRef::from_der(&der).ok()?;
    let signed = SliceReader::new(outer.value()).ok()?.decode::<AnyRef<'_>>().ok()?.to_der().ok()?;
    let signature = certificate.signature().as_bytes().unwrap_or_default();
    signature::verify(&spki, certificate.signature_algorithm(), &signed, signature)
        .err()
        .map(|error| error.message().to_owned())
}
