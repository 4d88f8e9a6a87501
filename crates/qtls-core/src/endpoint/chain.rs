//! What the certificates of a chain are signed with, in the words of `signature_algorithms_cert`.

use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;

/// The schemes that a client has to accept for this chain, each once. The signature of a certificate by itself is not
/// among them: nobody verifies it (RFC 9846 §4.4.2.2).
///
/// A certificate signed in a way that has no scheme in TLS 1.3 gives one that no client offers.
pub fn schemes(chain: &[CertificateDer<'_>]) -> Vec<SignatureScheme> {
    let mut schemes = Vec::new();
    for certificate in chain.iter().filter_map(|certificate| Certificate::from_der(certificate).ok()) {
        let tbs = certificate.tbs_certificate();
        if tbs.issuer() == tbs.subject() {
            continue;
        }
        let scheme = scheme(certificate.signature_algorithm().oid);
        if !schemes.contains(&scheme) {
            schemes.push(scheme);
        }
    }
    schemes
}

/// ECDSA by its hash alone: TLS 1.3 names the curve too, but curves and hashes mix in chains, and clients that verify a
/// hash with one of the NIST curves do so with all that they have.
fn scheme(oid: ObjectIdentifier) -> SignatureScheme {
    SCHEMES.iter().find(|(known, _)| *known == oid).map_or(SignatureScheme::Unknown(0), |(_, scheme)| *scheme)
}

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

const SCHEMES: [(ObjectIdentifier, SignatureScheme); 12] = [
    (oid("1.2.840.10045.4.3.2"), SignatureScheme::ECDSA_NISTP256_SHA256),
    (oid("1.2.840.10045.4.3.3"), SignatureScheme::ECDSA_NISTP384_SHA384),
    (oid("1.2.840.10045.4.3.4"), SignatureScheme::ECDSA_NISTP521_SHA512),
    (oid("1.2.840.113549.1.1.11"), SignatureScheme::RSA_PKCS1_SHA256),
    (oid("1.2.840.113549.1.1.12"), SignatureScheme::RSA_PKCS1_SHA384),
    (oid("1.2.840.113549.1.1.13"), SignatureScheme::RSA_PKCS1_SHA512),
    // RSASSA-PSS: the hash stands in the parameters; with SHA-256, which is what is used.
    (oid("1.2.840.113549.1.1.10"), SignatureScheme::RSA_PSS_SHA256),
    (oid("1.3.101.112"), SignatureScheme::ED25519),
    (oid("2.16.840.1.101.3.4.3.17"), SignatureScheme::ML_DSA_44),
    (oid("2.16.840.1.101.3.4.3.18"), SignatureScheme::ML_DSA_65),
    (oid("2.16.840.1.101.3.4.3.19"), SignatureScheme::ML_DSA_87),
    // Kept so that it is told as what it is: clients of TLS 1.3 refuse it.
    (oid("1.2.840.113549.1.1.5"), SignatureScheme::RSA_PKCS1_SHA1),
];
