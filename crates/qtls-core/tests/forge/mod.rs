//! Certificates and CRLs of any shape, right or wrong, with real signatures: what an honest issuer refuses to make.
//!
//! Everything is DER written out by hand, so that nothing corrects it on the way.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qtls_core::credentials::{KeyKind, generate, signing_key, signing_key_kind};
use qtls_core::policy::KeyAlgorithm;
use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use rustls::sign::SigningKey;

/// One day, in seconds.
pub(crate) const DAY: i64 = 86_400;

/// A key that signs.
#[derive(Clone)]
pub(crate) struct Key {
    /// PKCS#8.
    pub(crate) der: Vec<u8>,
    signer: Arc<dyn SigningKey>,
}

impl Key {
    /// A new key.
    pub(crate) fn new(algorithm: KeyAlgorithm) -> Self {
        let der = generate(algorithm).expect("the library makes keys of every kind");
        let signer = signing_key(&der).expect("a generated key is valid");
        Self { der: der.secret_der().to_vec(), signer }
    }

    /// DER `SubjectPublicKeyInfo`.
    pub(crate) fn spki(&self) -> Vec<u8> {
        self.signer.public_key().expect("software keys know their public half").to_vec()
    }

    /// DER `AlgorithmIdentifier` of its signatures.
    pub(crate) fn algorithm(&self) -> Vec<u8> {
        self.scheme().1
    }

    fn scheme(&self) -> (SignatureScheme, Vec<u8>) {
        let ml_dsa = |last: u8| oid_algorithm(&[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, last], &[]);
        let ecdsa = |last: u8| oid_algorithm(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, last], &[]);
        match signing_key_kind(self.signer.as_ref()).expect("a known kind") {
            KeyKind::Rsa(_) => (
                SignatureScheme::RSA_PKCS1_SHA256,
                oid_algorithm(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b], &[0x05, 0x00]),
            ),
            KeyKind::EcdsaP256 => (SignatureScheme::ECDSA_NISTP256_SHA256, ecdsa(2)),
            KeyKind::EcdsaP384 => (SignatureScheme::ECDSA_NISTP384_SHA384, ecdsa(3)),
            KeyKind::EcdsaP521 => (SignatureScheme::ECDSA_NISTP521_SHA512, ecdsa(4)),
            KeyKind::Ed25519 => (SignatureScheme::ED25519, oid_algorithm(&[0x2b, 0x65, 0x70], &[])),
            KeyKind::MlDsa44 => (SignatureScheme::ML_DSA_44, ml_dsa(17)),
            KeyKind::MlDsa65 => (SignatureScheme::ML_DSA_65, ml_dsa(18)),
            KeyKind::MlDsa87 => (SignatureScheme::ML_DSA_87, ml_dsa(19)),
        }
    }

    /// Wraps what is to be signed, the algorithm and the signature, as certificates and CRLs are.
    fn sign(&self, tbs: &[u8], outer_algorithm: &[u8]) -> Vec<u8> {
        let (scheme, _) = self.scheme();
        let signer = self.signer.choose_scheme(&[scheme]).expect("the key signs with its own scheme");
        let signature = signer.sign(tbs).expect("software keys sign");
        sequence(&[tbs, outer_algorithm, &tlv(0x03, &[&[0], &signature[..]].concat())])
    }
}

/// A certificate to be: every field can be set to anything.
#[derive(Clone)]
pub(crate) struct Forgery {
    /// The INTEGER's value; `None` leaves it out, which means version 1.
    pub(crate) version: Option<u8>,
    /// The octets of the INTEGER.
    pub(crate) serial: Vec<u8>,
    /// DER `Name`.
    pub(crate) issuer: Vec<u8>,
    /// Seconds from now.
    pub(crate) validity: (i64, i64),
    /// DER `Name`.
    pub(crate) subject: Vec<u8>,
    /// DER `SubjectPublicKeyInfo`.
    pub(crate) spki: Vec<u8>,
    /// DER `Extension`s; none leaves the field out.
    pub(crate) extensions: Vec<Vec<u8>>,
    /// The inner DER `AlgorithmIdentifier`, where it is not the signing key's.
    pub(crate) inner_algorithm: Option<Vec<u8>>,
    /// The outer one.
    pub(crate) outer_algorithm: Option<Vec<u8>>,
}

impl Forgery {
    /// A version 3 certificate that is valid for 90 days, without extensions.
    pub(crate) fn new(subject: &str, issuer: &str, key: &Key) -> Self {
        Self {
            version: Some(2),
            serial: serial_of(subject),
            issuer: name(issuer),
            validity: (-DAY, 90 * DAY),
            subject: name(subject),
            spki: key.spki(),
            extensions: Vec::new(),
            inner_algorithm: None,
            outer_algorithm: None,
        }
    }

    /// A CA's certificate, right in every respect.
    pub(crate) fn ca(subject: &str, issuer: &str, key: &Key) -> Self {
        Self::new(subject, issuer, key).with(vec![basic_constraints(true, None), key_usage(0x06)])
    }

    /// A server's certificate, right in every respect.
    pub(crate) fn server(name: &str, issuer: &str, key: &Key) -> Self {
        Self::new(name, issuer, key).with(vec![
            key_usage(0x80),
            extended_key_usage(&[SERVER_AUTH]),
            alternative_names(&[tlv(0x82, name.as_bytes())]),
        ])
    }

    /// A client's certificate, right in every respect.
    pub(crate) fn client(name: &str, issuer: &str, key: &Key) -> Self {
        Self::new(name, issuer, key).with(vec![
            key_usage(0x80),
            extended_key_usage(&[CLIENT_AUTH]),
            alternative_names(&[tlv(0x82, name.as_bytes())]),
        ])
    }

    /// With more extensions, each put in the place of one of its kind.
    #[must_use]
    pub(crate) fn with(mut self, extensions: Vec<Vec<u8>>) -> Self {
        for new in extensions {
            let kind = |extension: &Vec<u8>| extension_oid(extension).to_vec();
            self.extensions.retain(|old| kind(old) != kind(&new));
            self.extensions.push(new);
        }
        self
    }

    /// Without the extension id-ce `number`.
    #[must_use]
    pub(crate) fn without(mut self, number: u8) -> Self {
        self.extensions.retain(|extension| extension_oid(extension) != [0x06, 0x03, 0x55, 0x1d, number]);
        self
    }

    /// With another period, in seconds from now.
    #[must_use]
    pub(crate) fn valid(mut self, from: i64, to: i64) -> Self {
        self.validity = (from, to);
        self
    }

    /// With any change.
    #[must_use]
    pub(crate) fn but(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The certificate, signed by `key`.
    pub(crate) fn sign(&self, key: &Key) -> CertificateDer<'static> {
        let inner = self.inner_algorithm.clone().unwrap_or_else(|| key.algorithm());
        let outer = self.outer_algorithm.clone().unwrap_or_else(|| inner.clone());
        let version = self.version.map(|version| tlv(0xa0, &tlv(0x02, &[version]))).unwrap_or_default();
        let extensions = match self.extensions.as_slice() {
            [] => Vec::new(),
            list => tlv(0xa3, &tlv(0x30, &list.concat())),
        };
        let tbs = sequence(&[
            &version,
            &tlv(0x02, &self.serial),
            &inner,
            &self.issuer,
            &sequence(&[&time(self.validity.0), &time(self.validity.1)]),
            &self.subject,
            &self.spki,
            &extensions,
        ]);
        key.sign(&tbs, &outer).into()
    }
}

/// A version 2 CRL that revokes `serials`. `validity` is thisUpdate and nextUpdate in seconds from now.
pub(crate) fn crl(
    issuer: &str,
    key: &Key,
    serials: &[Vec<u8>],
    validity: (i64, i64),
    extensions: &[Vec<u8>],
) -> Vec<u8> {
    let revoked: Vec<u8> = serials.iter().flat_map(|serial| sequence(&[&tlv(0x02, serial), &time(-DAY)])).collect();
    let revoked = if revoked.is_empty() { revoked } else { tlv(0x30, &revoked) };
    let number = extension(20, false, &tlv(0x02, &[1]));
    let tbs = sequence(&[
        &tlv(0x02, &[1]),
        &key.algorithm(),
        &name(issuer),
        &time(validity.0),
        &time(validity.1),
        &revoked,
        &tlv(0xa0, &tlv(0x30, &[number, extensions.concat()].concat())),
    ]);
    key.sign(&tbs, &key.algorithm())
}

/// The serial number that a [`Forgery`] for this subject gets.
pub(crate) fn serial_of(subject: &str) -> Vec<u8> {
    let sum = subject
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |sum, octet| (sum ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3));
    [&[0x4a], &sum.to_be_bytes()[..]].concat()
}

/// A name that is one common name, or empty.
pub(crate) fn name(common_name: &str) -> Vec<u8> {
    if common_name.is_empty() {
        return tlv(0x30, &[]);
    }
    let attribute = sequence(&[&[0x06, 0x03, 0x55, 0x04, 0x03], &tlv(0x0c, common_name.as_bytes())]);
    tlv(0x30, &tlv(0x31, &attribute))
}

/// The extension id-ce `number`.
pub(crate) fn extension(number: u8, critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { tlv(0x01, &[0xff]) } else { Vec::new() };
    sequence(&[&[0x06, 0x03, 0x55, 0x1d, number], &critical, &tlv(0x04, value)])
}

/// basicConstraints.
pub(crate) fn basic_constraints(ca: bool, path_len: Option<u8>) -> Vec<u8> {
    let ca = if ca { tlv(0x01, &[0xff]) } else { Vec::new() };
    let path_len = path_len.map(|length| tlv(0x02, &[length])).unwrap_or_default();
    extension(19, true, &sequence(&[&ca, &path_len]))
}

/// keyUsage; 0x80 is digitalSignature, 0x04 keyCertSign, 0x02 cRLSign.
pub(crate) fn key_usage(bits: u8) -> Vec<u8> {
    extension(15, true, &tlv(0x03, &[bits.trailing_zeros() as u8, bits]))
}

/// extendedKeyUsage, of whole object identifiers.
pub(crate) fn extended_key_usage(purposes: &[&[u8]]) -> Vec<u8> {
    extension(37, false, &tlv(0x30, &purposes.iter().flat_map(|oid| tlv(0x06, oid)).collect::<Vec<u8>>()))
}

/// subjectAltName, of whole GeneralNames: 0x81 mail, 0x82 DNS, 0x86 URI, 0x87 IP.
pub(crate) fn alternative_names(names: &[Vec<u8>]) -> Vec<u8> {
    extension(17, false, &tlv(0x30, &names.concat()))
}

/// nameConstraints, of whole GeneralNames.
pub(crate) fn name_constraints(permitted: &[Vec<u8>], excluded: &[Vec<u8>]) -> Vec<u8> {
    let subtrees = |tag: u8, bases: &[Vec<u8>]| match bases {
        [] => Vec::new(),
        bases => tlv(tag, &bases.iter().flat_map(|base| tlv(0x30, base)).collect::<Vec<u8>>()),
    };
    extension(30, true, &sequence(&[&subtrees(0xa0, permitted), &subtrees(0xa1, excluded)]))
}

/// subjectKeyIdentifier.
pub(crate) fn subject_key_identifier(identifier: &[u8]) -> Vec<u8> {
    extension(14, false, &tlv(0x04, identifier))
}

/// authorityKeyIdentifier.
pub(crate) fn authority_key_identifier(identifier: &[u8]) -> Vec<u8> {
    extension(35, false, &tlv(0x30, &tlv(0x80, identifier)))
}

/// One DER element.
pub(crate) fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let mut out = vec![tag];
    match length {
        0..=0x7f => out.push(length as u8),
        _ => {
            let octets: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|octet| *octet == 0).collect();
            out.push(0x80 | octets.len() as u8);
            out.extend(octets);
        }
    }
    out.extend(value);
    out
}

/// A SEQUENCE of these elements.
pub(crate) fn sequence(elements: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &elements.concat())
}

/// As PEM.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in der.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, octet| bits << 8 | u32::from(*octet)) << (8 * (3 - chunk.len()));
        for position in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * position) & 63) as usize];
            text.push(if position <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// id-kp-serverAuth.
pub(crate) const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
/// id-kp-clientAuth.
pub(crate) const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

fn oid_algorithm(oid: &[u8], parameters: &[u8]) -> Vec<u8> {
    sequence(&[&tlv(0x06, oid), parameters])
}

fn extension_oid(extension: &[u8]) -> &[u8] {
    // Both the SEQUENCE's length and the identifier's are told by their first octet here.
    let header = if extension[1] < 0x80 { 2 } else { 2 + usize::from(extension[1] & 0x7f) };
    &extension[header..header + 2 + usize::from(extension[header + 1])]
}

/// GeneralizedTime before 1950 and from 2050 on, else UTCTime (RFC 5280, section 4.1.2.5).
fn time(offset: i64) -> Vec<u8> {
    let now = SystemTime::now();
    let shift = Duration::from_secs(offset.unsigned_abs());
    let at = if offset < 0 { now - shift } else { now + shift };
    let seconds = at.duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Civil from days (H. Hinnant's algorithm), for dates after 1970.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let rest = format!("{month:02}{day:02}{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60);
    if year < 2050 {
        tlv(0x17, format!("{:02}{rest}", year % 100).as_bytes())
    } else {
        tlv(0x18, format!("{year}{rest}").as_bytes())
    }
}
