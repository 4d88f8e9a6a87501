//! What stands in one certificate.

use std::time::SystemTime;

use der::asn1::ObjectIdentifier;
use der::oid::AssociatedOid;
use der::{Decode, Encode};
use qtls_core::credentials::{date, sha256};
use serde::Serialize;
use x509_cert::Certificate;
use x509_cert::ext::pkix::constraints::name::GeneralSubtrees;
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints, ExtendedKeyUsage,
    KeyUsage, NameConstraints, SubjectAltName, SubjectKeyIdentifier,
};

use super::key::PublicKeyReport;
use super::{hex, problems};
use crate::issue::AlternativeName;
use crate::signature;

/// What stands in a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CertificateReport {
    /// The subject, as RFC 4514 writes it; may be empty.
    pub subject: String,
    /// The alternative names: `DNS:example.com`.
    pub names: Vec<String>,
    /// The issuer, as RFC 4514 writes it.
    pub issuer: String,
    /// Whether the issuer is the subject.
    pub self_issued: bool,
    /// The serial number, in hex.
    pub serial: String,
    /// The start of validity.
    pub not_before: String,
    /// The end of validity.
    pub not_after: String,
    /// Whole days until the end; negative after it.
    pub days_left: i64,
    /// The public key.
    pub key: PublicKeyReport,
    /// What its issuer signed it with.
    pub signature_algorithm: String,
    /// Whether it may issue others.
    pub authority: bool,
    /// How many authorities may stand below it.
    pub path_length: Option<u8>,
    /// `keyUsage`, as RFC 5280 names its bits; absent: everything.
    pub key_usage: Option<Vec<&'static str>>,
    /// `extKeyUsage`, by name where it is known; absent: everything.
    pub extended_key_usage: Option<Vec<String>>,
    /// The only names that certificates below it may have.
    pub permitted_names: Vec<String>,
    /// Names that certificates below it may not have.
    pub excluded_names: Vec<String>,
    /// Where its issuer's revocation list is.
    pub crl_urls: Vec<String>,
    /// Where its issuer's certificate is.
    pub issuer_urls: Vec<String>,
    /// Where an OCSP responder is.
    pub ocsp_urls: Vec<String>,
    /// The subject key identifier, in hex.
    pub subject_key_id: Option<String>,
    /// The key identifier of its issuer, in hex.
    pub authority_key_id: Option<String>,
    /// The SHA-256 of the whole certificate, in hex: its fingerprint.
    pub sha256: String,
    /// What is wrong with it.
    pub problems: Vec<String>,
}

pub(super) fn report(der: &[u8], certificate: &Certificate, now: SystemTime) -> CertificateReport {
    let tbs = certificate.tbs_certificate();
    let mut reader = Reader { certificate, problems: Vec::new() };
    let constraints = reader.read::<BasicConstraints>("basicConstraints");
    let usage = reader.read::<KeyUsage>("keyUsage");
    let purposes = reader.read::<ExtendedKeyUsage>("extKeyUsage");
    let names = reader.read::<SubjectAltName>("subjectAltName").map(|names| names.0).unwrap_or_default();
    let limits = reader.read::<NameConstraints>("nameConstraints");
    let points = reader.read::<CrlDistributionPoints>("cRLDistributionPoints").map(|points| points.0);
    let access = reader.read::<AuthorityInfoAccessSyntax>("authorityInfoAccess").map(|access| access.0);
    let own_id = reader.read::<SubjectKeyIdentifier>("subjectKeyIdentifier");
    let issuer_id = reader.read::<AuthorityKeyIdentifier>("authorityKeyIdentifier");
    let unread = reader.problems;
    let spki = tbs.subject_public_key_info().to_der().unwrap_or_default();
    let validity = tbs.validity();
    let (not_before, not_after) = (validity.not_before.to_system_time(), validity.not_after.to_system_time());
    let links = |method: ObjectIdentifier| {
        let described = access.iter().flatten().filter(|description| description.access_method == method);
        described.map(|description| url(&description.access_location)).collect()
    };
    let mut report = CertificateReport {
        subject: tbs.subject().to_string(),
        names: names.iter().map(general_name).collect(),
        issuer: tbs.issuer().to_string(),
        self_issued: tbs.subject() == tbs.issuer(),
        serial: hex(tbs.serial_number().as_bytes()),
        not_before: date(not_before),
        not_after: date(not_after),
        days_left: days_between(now, not_after),
        key: PublicKeyReport::of(&spki),
        signature_algorithm: signature::name(certificate.signature_algorithm().oid),
        authority: constraints.as_ref().is_some_and(|constraints| constraints.ca),
        path_length: constraints.and_then(|constraints| constraints.path_len_constraint),
        key_usage: usage.as_ref().map(usage_names),
        extended_key_usage: purposes.map(|purposes| purposes.0.iter().map(|oid| purpose_name(*oid)).collect()),
        permitted_names: subtrees(limits.as_ref().and_then(|limits| limits.permitted_subtrees.as_ref())),
        excluded_names: subtrees(limits.as_ref().and_then(|limits| limits.excluded_subtrees.as_ref())),
        crl_urls: points.iter().flatten().flat_map(point_urls).collect(),
        issuer_urls: links(CA_ISSUERS),
        ocsp_urls: links(OCSP),
        subject_key_id: own_id.map(|id| hex(id.0.as_bytes())),
        authority_key_id: issuer_id.and_then(|id| id.key_identifier).map(|id| hex(id.as_bytes())),
        sha256: hex(&sha256(der)),
        problems: unread,
    };
    report.problems.extend(problems::of_certificate(&report, certificate, now));
    report
}

pub(super) fn alternative_names(certificate: &Certificate) -> Vec<String> {
    let mut reader = Reader { certificate, problems: Vec::new() };
    reader
        .read::<SubjectAltName>("subjectAltName")
        .map(|names| names.0.iter().map(general_name).collect())
        .unwrap_or_default()
}

/// Reads extensions, and keeps what is wrong with those that it can't read.
struct Reader<'a> {
    certificate: &'a Certificate,
    problems: Vec<String>,
}

impl Reader<'_> {
    fn read<T>(&mut self, name: &str) -> Option<T>
    where
        T: for<'a> Decode<'a, Error = der::Error> + AssociatedOid,
    {
        let extensions = self.certificate.tbs_certificate().extensions()?;
        let mut found = extensions.iter().filter(|extension| extension.extn_id == T::OID);
        let extension = found.next()?;
        if found.next().is_some() {
            self.problems.push(format!("has the extension {name} twice"));
        }
        match T::from_der(extension.extn_value.as_bytes()) {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems.push(format!("has an extension {name} that can't be read: {error}"));
                None
            }
        }
    }
}

/// Rounded down, so that a certificate with less than a day left has 0, and one that ended has less.
fn days_between(now: SystemTime, end: SystemTime) -> i64 {
    const DAY: i64 = 86_400;
    let seconds = match end.duration_since(now) {
        Ok(left) => i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        Err(error) => -i64::try_from(error.duration().as_secs()).unwrap_or(i64::MAX) - 1,
    };
    seconds.div_euclid(DAY)
}

fn usage_names(usage: &KeyUsage) -> Vec<&'static str> {
    [
        (usage.digital_signature(), "digitalSignature"),
        (usage.non_repudiation(), "nonRepudiation"),
        (usage.key_encipherment(), "keyEncipherment"),
        (usage.data_encipherment(), "dataEncipherment"),
        (usage.key_agreement(), "keyAgreement"),
        (usage.key_cert_sign(), "keyCertSign"),
        (usage.crl_sign(), "cRLSign"),
    ]
    .into_iter()
    .filter_map(|(set, name)| set.then_some(name))
    .collect()
}

fn purpose_name(oid: ObjectIdentifier) -> String {
    let text = oid.to_string();
    let name = match text.as_str() {
        "1.3.6.1.5.5.7.3.1" => "serverAuth",
        "1.3.6.1.5.5.7.3.2" => "clientAuth",
        "1.3.6.1.5.5.7.3.3" => "codeSigning",
        "1.3.6.1.5.5.7.3.4" => "emailProtection",
        "1.3.6.1.5.5.7.3.8" => "timeStamping",
        "1.3.6.1.5.5.7.3.9" => "OCSPSigning",
        "2.5.29.37.0" => "anyExtendedKeyUsage",
        _ => return text,
    };
    name.to_owned()
}

fn general_name(name: &GeneralName) -> String {
    match (AlternativeName::from_general_name(name), name) {
        (Some(name), _) => name.to_string(),
        (None, GeneralName::DirectoryName(name)) => format!("directory name {name}"),
        (None, GeneralName::OtherName(other)) => format!("other name {}", other.type_id),
        (None, GeneralName::RegisteredId(oid)) => format!("registered ID {oid}"),
        (None, GeneralName::IpAddress(octets)) => address_range(octets.as_bytes()),
        (None, _) => "a name of another kind".to_owned(),
    }
}

/// A name that is expected to be a URI, without the word that says so.
fn url(name: &GeneralName) -> String {
    match name {
        GeneralName::UniformResourceIdentifier(uri) => uri.as_str().to_owned(),
        other => general_name(other),
    }
}

/// An address and a mask, as name constraints have them.
fn address_range(octets: &[u8]) -> String {
    let address = |octets: &[u8]| {
        <[u8; 4]>::try_from(octets)
            .map(std::net::IpAddr::from)
            .or_else(|_| <[u8; 16]>::try_from(octets).map(std::net::IpAddr::from))
    };
    let (base, mask) = octets.split_at(octets.len() / 2);
    match (address(base), mask.iter().map(|octet| octet.count_ones()).sum::<u32>()) {
        (Ok(base), bits) => format!("IP:{base}/{bits}"),
        (Err(_), _) => format!("an IP address of {} octets", octets.len()),
    }
}

fn subtrees(trees: Option<&GeneralSubtrees>) -> Vec<String> {
    trees.into_iter().flatten().map(|tree| general_name(&tree.base)).collect()
}

fn point_urls(point: &DistributionPoint) -> Vec<String> {
    match &point.distribution_point {
        Some(DistributionPointName::FullName(names)) => names.iter().map(url).collect(),
        _ => Vec::new(),
    }
}

const OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
const CA_ISSUERS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.2");
