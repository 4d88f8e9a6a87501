//! What a person should know before trusting or serving a certificate.

use std::time::SystemTime;

use qtls_core::credentials::{KeyKind, date};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;
use x509_cert::Certificate;
use x509_cert::certificate::Version;

use super::certificate::CertificateReport;
use super::key::PublicKeyReport;
use crate::signature;

/// From when on an expiry is told.
const EXPIRES_SOON: i64 = 30;

pub(super) fn of_certificate(report: &CertificateReport, certificate: &Certificate, now: SystemTime) -> Vec<String> {
    let tbs = certificate.tbs_certificate();
    let mut problems = Vec::new();
    let not_before = tbs.validity().not_before.to_system_time();
    if report.days_left < 0 {
        problems.push(format!("expired on {}", report.not_after));
    } else if now < not_before {
        problems.push(format!("is not valid before {}", date(not_before)));
    } else if report.days_left < EXPIRES_SOON {
        problems.push(format!("expires in {} days", report.days_left));
    }
    if not_before > tbs.validity().not_after.to_system_time() {
        problems.push("ends before it begins".to_owned());
    }
    // Nobody relies on the signature of a root.
    if signature::is_broken(certificate.signature_algorithm().oid) && !report.self_issued {
        problems.push(format!("is signed with {}, which can be forged", report.signature_algorithm));
    }
    problems.extend(weak_key(&report.key));
    if tbs.version() != Version::V3 {
        problems.push("is no version 3 certificate: it can't say what it is for, and verifiers refuse it".to_owned());
    }
    let usage = |name| report.key_usage.as_ref().is_none_or(|usage| usage.contains(&name));
    if report.authority {
        if !usage("keyCertSign") {
            problems.push("is a CA whose keyUsage lacks keyCertSign: it can't issue".to_owned());
        }
        if report.subject.is_empty() {
            problems.push("is a CA without a subject".to_owned());
        }
    } else {
        problems.extend(of_leaf(report));
        if !usage("digitalSignature") {
            problems.push("has a keyUsage without digitalSignature: TLS 1.3 can't use it".to_owned());
        }
    }
    let serial = tbs.serial_number().as_bytes();
    if serial.iter().all(|octet| *octet == 0) || serial.len() > 20 {
        problems.push("has a serial number that is zero or too long (RFC 5280, section 4.1.2.2)".to_owned());
    }
    let unknown =
        tbs.extensions().into_iter().flatten().filter(|extension| {
            extension.critical && !KNOWN_CRITICAL.contains(&extension.extn_id.to_string().as_str())
        });
    problems.extend(unknown.map(|extension| {
        format!("has the critical extension {}, which is not known: verifiers refuse it", extension.extn_id)
    }));
    problems
}

/// The weakness of a key, if it has one.
pub(super) fn weak_key(key: &PublicKeyReport) -> Option<String> {
    match key.known {
        None => Some(format!("its key can't be used: {}", key.kind)),
        Some(KeyKind::Rsa(bits)) if bits < 2048 => Some(format!("its key is RSA-{bits}: too short, and refused")),
        Some(_) => None,
    }
}

/// Why the leaf isn't valid for this host.
pub(super) fn wrong_name(leaf: &CertificateDer<'_>, host: &str) -> Option<String> {
    let name = ServerName::try_from(host).ok()?;
    let parsed = ParsedCertificate::try_from(leaf).ok()?;
    verify_server_name(&parsed, &name).err().map(|_| format!("the first certificate is not valid for {host}"))
}

fn of_leaf(report: &CertificateReport) -> Option<String> {
    let purposes = report.extended_key_usage.as_ref();
    let for_servers = purposes.is_none_or(|purposes| {
        purposes.iter().any(|purpose| purpose == "serverAuth" || purpose == "anyExtendedKeyUsage")
    });
    let named = report.names.iter().any(|name| name.starts_with("DNS:") || name.starts_with("IP:"));
    if !for_servers || named || report.self_issued {
        return None;
    }
    let common_name = if report.subject.contains("CN=") { ": clients ignore the common name" } else { "" };
    Some(format!("has no DNS name and no IP address as alternative name{common_name}"))
}

/// Those that webpki and OpenSSL act upon, and that are critical in practice.
const KNOWN_CRITICAL: [&str; 8] =
    ["2.5.29.14", "2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.30", "2.5.29.31", "2.5.29.35", "2.5.29.37"];
