//! Small certificates for this crate's own tests: the room that issues real ones may not be imported here.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use rustls::sign::SigningKey;
use x509_cert::der::asn1::{BitString, GeneralizedTime};
use x509_cert::der::{Encode, pem::LineEnding};

/// A self-signed version 3 certificate without a real signature: nothing here verifies one.
///
/// `from` and `to` are seconds relative to now.
pub(crate) fn certificate(
    common_name: &str,
    key: &dyn SigningKey,
    from: i64,
    to: i64,
    dns: &[&str],
) -> CertificateDer<'static> {
    build(common_name, common_name, key, (from, to), &[dns_names(dns)])
}

/// A certificate as [`certificate`] makes them, with another issuer and any extensions.
pub(crate) fn build(
    common_name: &str,
    issuer: &str,
    key: &dyn SigningKey,
    (from, to): (i64, i64),
    extensions: &[Vec<u8>],
) -> CertificateDer<'static> {
    let algorithm = tlv(0x30, &[0x06, 0x03, 0x2b, 0x65, 0x70]);
    let validity = tlv(0x30, &[time(from), time(to)].concat());
    let extensions = tlv(0xa3, &tlv(0x30, &extensions.concat()));
    let spki = key.public_key().unwrap();
    let version = tlv(0xa0, &[0x02, 0x01, 0x02]);
    let serial = tlv(0x02, &[0x01]);
    let (issuer, subject) = (name(issuer), name(common_name));
    let tbs = [&version[..], &serial, &algorithm, &issuer, &validity, &subject, &spki, &extensions].concat();
    let signature = BitString::from_bytes(&[0; 64]).unwrap().to_der().unwrap();
    CertificateDer::from(tlv(0x30, &[tlv(0x30, &tbs), algorithm, signature].concat()))
}

/// The extension subjectAltName.
pub(crate) fn dns_names(dns: &[&str]) -> Vec<u8> {
    extension(0x11, &tlv(0x30, &dns.iter().flat_map(|name| tlv(0x82, name.as_bytes())).collect::<Vec<u8>>()))
}

/// The extension id-ce `number` (RFC 5280, section 4.2.1), not critical.
pub(crate) fn extension(number: u8, value: &[u8]) -> Vec<u8> {
    tlv(0x30, &[&[0x06, 0x03, 0x55, 0x1d, number][..], &tlv(0x04, value)].concat())
}

/// `der` as PEM.
pub(crate) fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    x509_cert::der::pem::encode_string(label, LineEnding::LF, der).unwrap().into_bytes()
}

/// The chain as a PEM file.
pub(crate) fn chain_pem(chain: &[CertificateDer<'_>]) -> Vec<u8> {
    chain.iter().flat_map(|certificate| pem("CERTIFICATE", certificate)).collect()
}

/// One DER element.
pub(crate) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let mut out = vec![tag];
    match length {
        0..=0x7f => out.push(length as u8),
        0x80..=0xff => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend(value);
    out
}

fn name(common_name: &str) -> Vec<u8> {
    let attribute = tlv(0x30, &[&[0x06, 0x03, 0x55, 0x04, 0x03][..], &tlv(0x0c, common_name.as_bytes())].concat());
    tlv(0x30, &tlv(0x31, &attribute))
}

fn time(offset: i64) -> Vec<u8> {
    let shift = Duration::from_secs(offset.unsigned_abs());
    let now = SystemTime::now();
    let at = if offset < 0 { now - shift } else { now + shift };
    GeneralizedTime::from_system_time(at).unwrap().to_der().unwrap()
}
