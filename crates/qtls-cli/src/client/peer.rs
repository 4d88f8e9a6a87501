//! Who the server says it is: what stands in its leaf certificate.

use std::net::IpAddr;

use qtls_core::credentials::{date, key_kind};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// What stands in a server's leaf certificate.
#[derive(Debug, Serialize)]
pub(super) struct Peer {
    /// As RFC 4514 writes it; empty where there is none.
    pub(super) subject: String,
    pub(super) issuer: String,
    /// The end of validity, as RFC 3339 writes it.
    pub(super) not_after: String,
    pub(super) dns_names: Vec<String>,
    pub(super) ip_addresses: Vec<IpAddr>,
    /// The kind of key, such as `ECDSA P-384`; `unknown` for one that the policy table lacks.
    pub(super) key: String,
}

impl Peer {
    /// Reads the leaf of a chain; `None` where there is none, or it can't be read.
    ///
    /// What was verified was verified by webpki. This is for people, and for a server that isn't verified it may fail.
    pub(super) fn of(chain: &[CertificateDer<'_>]) -> Option<Self> {
        let certificate = Certificate::from_der(chain.first()?).ok()?;
        let tbs = certificate.tbs_certificate();
        let names = tbs.get_extension::<SubjectAltName>().ok()?.map(|(_, names)| names.0).unwrap_or_default();
        let spki = tbs.subject_public_key_info().to_der().ok()?;
        Some(Self {
            subject: tbs.subject().to_string(),
            issuer: tbs.issuer().to_string(),
            not_after: date(tbs.validity().not_after.to_system_time()),
            dns_names: names.iter().filter_map(dns_name).collect(),
            ip_addresses: names.iter().filter_map(ip_address).collect(),
            key: key_kind(&spki).map_or_else(|_| "unknown".to_owned(), |kind| kind.to_string()),
        })
    }

    /// Every name, for people.
    pub(super) fn names(&self) -> String {
        let addresses = self.ip_addresses.iter().map(ToString::to_string);
        let names: Vec<String> = self.dns_names.iter().cloned().chain(addresses).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}

fn dns_name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        _ => None,
    }
}

fn ip_address(name: &GeneralName) -> Option<IpAddr> {
    let GeneralName::IpAddress(octets) = name else { return None };
    let octets = octets.as_bytes();
    <[u8; 4]>::try_from(octets).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_certificate_is_nobody() {
        assert!(Peer::of(&[]).is_none());
        assert!(Peer::of(&[CertificateDer::from(vec![0x30, 0x00])]).is_none());
    }
}
