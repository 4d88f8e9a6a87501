//! PEM (RFC 7468): what the sections are called, and finding them.

use base64ct::{Base64, Encoding};
use der::pem::{LineEnding, encode_string};
use qtls_core::{Error, Result};

/// The label of a certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// The label of a certification request.
pub const REQUEST: &str = "CERTIFICATE REQUEST";
/// The label of a revocation list.
pub const CRL: &str = "X509 CRL";

/// One section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its label.
    pub label: String,
    /// Its content.
    pub der: Vec<u8>,
    /// Whether it is encrypted by its headers (RFC 1421), as OpenSSL once did with keys; the content is no DER then.
    pub encrypted: bool,
}

/// Writes one section.
pub fn encode(label: &'static str, der: &[u8]) -> Result<String> {
    encode_string(label, LineEnding::LF, der).map_err(|error| Error::internal(format!("PEM can't be written: {error}")))
}

/// Reads every section, in its order; the text around them is skipped, as RFC 7468, section 2, allows.
pub fn sections(bytes: &[u8]) -> Result<Vec<Section>> {
    let text = String::from_utf8_lossy(bytes);
    let mut sections = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(label) = line.trim().strip_prefix("-----BEGIN ").and_then(|rest| rest.strip_suffix("-----")) else {
            continue;
        };
        let end = format!("-----END {label}-----");
        let mut body = String::new();
        let mut encrypted = false;
        let mut closed = false;
        for (_, line) in lines.by_ref() {
            let line = line.trim();
            if line == end {
                closed = true;
                break;
            }
            if line.contains(':') {
                encrypted |= line.starts_with("Proc-Type:") && line.contains("ENCRYPTED");
            } else {
                body.push_str(line);
            }
        }
        let damaged = |what: &str| {
            Error::certificate(format!("the PEM section {label} that begins in line {} {what}", number + 1))
                .hint("take the file from its maker again")
        };
        if !closed {
            return Err(damaged("has no end"));
        }
        let der = Base64::decode_vec(&body).map_err(|_| damaged("is not valid base64"))?;
        sections.push(Section { label: label.to_owned(), der, encrypted });
    }
    Ok(sections)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_found_among_text_and_damage_is_placed() {
        let text = format!("notes\n{}\r\nmore\n{}", encode(CERTIFICATE, b"one").unwrap(), encode(CRL, b"two").unwrap());
        let found = sections(text.as_bytes()).unwrap();
        assert_eq!(found.iter().map(|section| section.label.as_str()).collect::<Vec<_>>(), [CERTIFICATE, CRL]);
        assert_eq!(found[1].der, b"two");
        let error = sections(b"\n-----BEGIN X509 CRL-----\nAAAA\n").unwrap_err();
        assert!(error.message().contains("begins in line 2 has no end"), "{error}");
        let error = sections(b"-----BEGIN X509 CRL-----\n!!!\n-----END X509 CRL-----\n").unwrap_err();
        assert!(error.message().contains("not valid base64"), "{error}");
        let old = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: X,00\n\nAAAA\n-----END RSA PRIVATE KEY-----";
        assert!(sections(old).unwrap()[0].encrypted);
        assert!(sections(b"no PEM").unwrap().is_empty());
    }
}
