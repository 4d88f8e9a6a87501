//! What stands in a file of certificates, requests, revocation lists or keys, and what is wrong with it.
//!
//! This is for people: it reads what it can, says what it can't, and verifies no path (see [`crate::verify`]).

mod certificate;
mod chain;
mod key;
mod problems;

use std::time::SystemTime;

use der::Decode;
use qtls_core::credentials::{Passphrase, Source, date};
use qtls_core::{Error, Result};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use x509_cert::Certificate;

pub use certificate::CertificateReport;
pub use key::{KeyReport, PublicKeyReport};

use crate::crl::List;
use crate::pem;
use crate::request::Request;

/// Everything that was found, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// One for each section of the file.
    pub items: Vec<Item>,
    /// What is wrong between them: the order of a chain, a key of another certificate.
    pub problems: Vec<String>,
}

impl Report {
    /// Whether anything at all is wrong.
    pub fn has_problems(&self) -> bool {
        !self.problems.is_empty() || self.items.iter().any(|item| !item.problems().is_empty())
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Item {
    /// A certificate.
    Certificate(Box<CertificateReport>),
    /// A certification request.
    Request(RequestReport),
    /// A revocation list.
    Crl(CrlReport),
    /// A private key.
    PrivateKey(KeyReport),
    /// A public key by itself.
    PublicKey(KeyReport),
    /// Something else, or something damaged.
    Unreadable(Unreadable),
}

impl Item {
    /// What is wrong with it.
    pub fn problems(&self) -> &[String] {
        match self {
            Self::Certificate(report) => &report.problems,
            Self::Request(report) => &report.problems,
            Self::Crl(report) => &report.problems,
            Self::PrivateKey(report) | Self::PublicKey(report) => &report.problems,
            Self::Unreadable(report) => &report.problems,
        }
    }
}

/// A section of which nothing can be told but why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// What it claims to be: the label of its PEM section.
    pub label: String,
    /// Why it can't be read.
    pub problems: Vec<String>,
}

/// A certification request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RequestReport {
    /// The subject, as RFC 4514 writes it.
    pub subject: String,
    /// The alternative names.
    pub names: Vec<String>,
    /// Its public key.
    pub key: PublicKeyReport,
    /// What it is signed with; the signature holds.
    pub signature_algorithm: String,
    /// What else it asks for.
    pub ignored: Vec<String>,
    /// What is wrong with it.
    pub problems: Vec<String>,
}

/// A revocation list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CrlReport {
    /// The issuer, as RFC 4514 writes it.
    pub issuer: String,
    /// Its number.
    pub number: Option<String>,
    /// From when on it is valid.
    pub this_update: String,
    /// When the next one is due at the latest.
    pub next_update: Option<String>,
    /// What it is signed with.
    pub signature_algorithm: String,
    /// What it revokes.
    pub revoked: Vec<RevokedReport>,
    /// What is wrong with it.
    pub problems: Vec<String>,
}

/// One entry of a revocation list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RevokedReport {
    /// The serial number, in hex.
    pub serial: String,
    /// When it was revoked.
    pub at: String,
    /// Why.
    pub reason: String,
}

/// Reads a file in PEM or DER. Sections that can't be read are told as such; only a file with nothing in it that is
/// known here is an error.
pub fn inspect(source: Source<'_>, now: SystemTime, passphrase: Option<&Passphrase>) -> Result<Report> {
    let sections = pem::sections(source.bytes).map_err(|error| error.at(source.origin))?;
    let mut certificates = Vec::new();
    let mut items = Vec::new();
    if sections.is_empty() {
        let (item, certificate) = der_item(source.bytes, now).ok_or_else(|| unknown(source))?;
        certificates.extend(certificate);
        items.push(item);
    }
    for section in &sections {
        let (item, certificate) = section_item(section, source, now, passphrase);
        certificates.extend(certificate);
        items.extend(item);
    }
    let mut problems = chain::problems(&certificates);
    problems.extend(chain::key_problems(&items));
    Ok(Report { items, problems })
}

/// Reads the chain that a server has sent, and says where it isn't one, or not for `server_name`.
pub fn inspect_chain(chain: &[CertificateDer<'_>], server_name: &str, now: SystemTime) -> Report {
    let mut certificates = Vec::new();
    let mut items = Vec::new();
    for der in chain {
        let (item, certificate) = certificate_item(der, now);
        certificates.extend(certificate);
        items.push(item);
    }
    let mut problems = chain::problems(&certificates);
    problems.extend(chain.first().and_then(|leaf| problems::wrong_name(leaf, server_name)));
    if chain.is_empty() {
        problems.push("the server sent no certificate".to_owned());
    }
    Report { items, problems }
}

fn section_item(
    section: &pem::Section,
    source: Source<'_>,
    now: SystemTime,
    passphrase: Option<&Passphrase>,
) -> (Option<Item>, Option<Certificate>) {
    match section.label.as_str() {
        pem::CERTIFICATE | "X509 CERTIFICATE" => {
            let (item, certificate) = certificate_item(&section.der, now);
            (Some(item), certificate)
        }
        label if label.ends_with(pem::REQUEST) => (Some(request_item(&section.der)), None),
        pem::CRL => (Some(crl_item(&section.der, now)), None),
        label if label.ends_with("PRIVATE KEY") => {
            (Some(Item::PrivateKey(key::private(section, source, passphrase))), None)
        }
        "PUBLIC KEY" => (Some(Item::PublicKey(key::public(&section.der))), None),
        // Parameters of an EC key, as OpenSSL writes them before the key: they say nothing that the key doesn't.
        "EC PARAMETERS" => (None, None),
        label => (Some(unreadable(label, "is nothing that is known here".to_owned())), None),
    }
}

/// Tells by its structure what a DER file is.
fn der_item(der: &[u8], now: SystemTime) -> Option<(Item, Option<Certificate>)> {
    if Certificate::from_der(der).is_ok() {
        return Some(certificate_item(der, now));
    }
    if List::parse(der).is_ok() {
        return Some((crl_item(der, now), None));
    }
    if x509_cert::request::CertReq::from_der(der).is_ok() {
        return Some((request_item(der), None));
    }
    key::of_der(der).map(|item| (item, None))
}

fn certificate_item(der: &[u8], now: SystemTime) -> (Item, Option<Certificate>) {
    match Certificate::from_der(der) {
        Ok(certificate) => {
            (Item::Certificate(Box::new(certificate::report(der, &certificate, now))), Some(certificate))
        }
        Err(error) => (unreadable(pem::CERTIFICATE, format!("is damaged: {error}")), None),
    }
}

fn request_item(der: &[u8]) -> Item {
    match Request::parse(der) {
        Ok(request) => {
            let mut problems = Vec::new();
            if request.names.is_empty() {
                problems.push("asks for no alternative name: a server's certificate needs one".to_owned());
            }
            let key = PublicKeyReport::of(&request.spki);
            problems.extend(problems::weak_key(&key));
            Item::Request(RequestReport {
                subject: request.subject,
                names: request.names.iter().map(ToString::to_string).collect(),
                key,
                signature_algorithm: request.signature_algorithm,
                ignored: request.ignored,
                problems,
            })
        }
        Err(error) => unreadable(pem::REQUEST, error.message().to_owned()),
    }
}

fn crl_item(der: &[u8], now: SystemTime) -> Item {
    let list = match List::parse(der) {
        Ok(list) => list,
        Err(error) => return unreadable(pem::CRL, error.message().to_owned()),
    };
    let mut problems: Vec<String> = list.staleness(now).into_iter().collect();
    if list.next_update.is_none() {
        problems.push("doesn't say when the next one is due: it can't be told when it is stale".to_owned());
    }
    if list.has_broken_signature() {
        problems.push(format!("is signed with {}, which can be forged", list.signature_algorithm));
    }
    problems.extend(list.unknown_critical.iter().map(|oid| format!("has the critical extension {oid}")));
    Item::Crl(CrlReport {
        issuer: list.issuer.clone(),
        number: list.number.clone(),
        this_update: date(list.this_update),
        next_update: list.next_update.map(date),
        signature_algorithm: list.signature_algorithm.clone(),
        revoked: list
            .revoked
            .iter()
            .map(|(serial, at, reason)| RevokedReport { serial: hex(serial), at: date(*at), reason: reason.clone() })
            .collect(),
        problems,
    })
}

fn unreadable(label: &str, problem: String) -> Item {
    Item::Unreadable(Unreadable { label: label.to_owned(), problems: vec![problem] })
}

fn unknown(source: Source<'_>) -> Error {
    let what = if source.bytes.is_empty() { "is empty" } else { "holds nothing that is known here" };
    Error::certificate(what).at(source.origin).hint(
        "certificates, requests, revocation lists and keys are read, in PEM or DER; out of PKCS#12 they are taken by \
         `openssl pkcs12 -in FILE -nodes -out FILE.pem`",
    )
}

/// The alternative names of a certificate, as a report shows them.
pub(crate) fn names(certificate: &Certificate) -> Vec<String> {
    certificate::alternative_names(certificate)
}

pub(crate) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests;
