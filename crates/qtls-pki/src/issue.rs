//! Issuing X.509 version 3 certificates (RFC 5280; RFC 9881 for ML-DSA).

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use der::asn1::{Any, BitString, Ia5String, ObjectIdentifier, OctetString};
use der::flagset::FlagSet;
use der::oid::AssociatedOid;
use der::{DateTime, Decode, Encode, Sequence, Tag};
use qtls_core::credentials::{KeyKind, date, key_identifier, key_kind, random};
use qtls_core::{Error, Result};
use rustls::pki_types::CertificateDer;
use rustls::sign::SigningKey;
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::certificate::Version;
use x509_cert::ext::pkix::crl::dp::DistributionPoint;
use x509_cert::ext::pkix::name::{DistributionPointName, GeneralName};
use x509_cert::ext::pkix::{
    AccessDescription, AuthorityInfoAccessSyntax, AuthorityKeyIdentifier, BasicConstraints, CrlDistributionPoints,
    ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName, SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, Extensions};
use x509_cert::name::{RdnSequence, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};
use x509_cert::time::{Time, Validity};

use crate::names::ServerName;
use crate::signature;

/// How far before «now» new certificates begin, so that peers whose clock is behind accept them.
pub const CLOCK_SKEW: Duration = Duration::from_secs(5 * 60);

/// What a certificate is for; its key usages and constraints follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// A trust anchor.
    Root,
    /// A certification authority below another.
    Intermediate {
        /// How many further authorities may stand below it (RFC 5280, section 4.2.1.9).
        path_len: u8,
    },
    /// The leaf of a TLS server.
    Server,
    /// The leaf of a TLS client.
    Client,
    /// A leaf that signs code and documents, and is of no use in TLS.
    Signing,
}

impl Profile {
    fn is_authority(self) -> bool {
        matches!(self, Self::Root | Self::Intermediate { .. })
    }

    fn basic_constraints(self) -> BasicConstraints {
        let path_len_constraint = match self {
            Self::Intermediate { path_len } => Some(path_len),
            _ => None,
        };
        BasicConstraints { ca: self.is_authority(), path_len_constraint }
    }

    /// TLS 1.3 only ever signs: no algorithm's leaf, RSA's included, needs `keyEncipherment`.
    fn key_usage(self) -> FlagSet<KeyUsages> {
        if self.is_authority() {
            KeyUsages::KeyCertSign | KeyUsages::CRLSign
        } else {
            KeyUsages::DigitalSignature.into()
        }
    }

    fn extended_key_usage(self) -> Option<ObjectIdentifier> {
        match self {
            Self::Root | Self::Intermediate { .. } => None,
            Self::Server => Some(SERVER_AUTH),
            Self::Client => Some(CLIENT_AUTH),
            Self::Signing => Some(CODE_SIGNING),
        }
    }
}

/// Which leaves an authority may stand above; it can't issue for any other purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Servers and clients of TLS.
    Tls,
    /// Signers of code and documents.
    Signing,
}

impl Purpose {
    fn extended_key_usage(self) -> Vec<ObjectIdentifier> {
        match self {
            Self::Tls => vec![SERVER_AUTH, CLIENT_AUTH],
            Self::Signing => vec![CODE_SIGNING],
        }
    }
}

/// What only some certificates say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Additions {
    /// For an authority: what it is restricted to, if to anything.
    pub purpose: Option<Purpose>,
    /// Where its issuer's revocation list and certificate are found.
    pub links: Links,
}

/// Where relying parties find what the certificate itself doesn't say (RFC 5280, sections 4.2.1.13 and 4.2.2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    /// URLs of the issuer's revocation list, in DER.
    pub crl: Vec<String>,
    /// URLs of the issuer's own certificate, in DER.
    pub issuer: Vec<String>,
    /// URLs of an OCSP responder.
    pub ocsp: Vec<String>,
}

/// A name besides the subject (RFC 5280, section 4.2.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlternativeName {
    /// A DNS name in its ASCII form; a wildcard's left-most label is `*`.
    Dns(String),
    /// An IP address.
    Ip(IpAddr),
    /// A URI, such as a SPIFFE ID.
    Uri(String),
    /// A mail address.
    Email(String),
}

impl AlternativeName {
    /// Reads a name out of a certificate or a request; `None` for the kinds that TLS has no use for.
    pub fn from_general_name(name: &GeneralName) -> Option<Self> {
        Some(match name {
            GeneralName::DnsName(name) => Self::Dns(name.as_str().to_owned()),
            GeneralName::UniformResourceIdentifier(uri) => Self::Uri(uri.as_str().to_owned()),
            GeneralName::Rfc822Name(address) => Self::Email(address.as_str().to_owned()),
            GeneralName::IpAddress(octets) => {
                let octets = octets.as_bytes();
                let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
                Self::Ip(v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()?)
            }
            _ => return None,
        })
    }
}

/// As OpenSSL writes them: `DNS:example.com`, `IP:192.0.2.1`.
impl fmt::Display for AlternativeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) => write!(f, "DNS:{name}"),
            Self::Ip(address) => write!(f, "IP:{address}"),
            Self::Uri(uri) => write!(f, "URI:{uri}"),
            Self::Email(address) => write!(f, "email:{address}"),
        }
    }
}

impl FromStr for AlternativeName {
    type Err = Error;

    /// Reads what [`ServerName`] does, and with a prefix the other kinds: `URI:spiffe://a.example/b`,
    /// `email:ops@a.example`.
    fn from_str(given: &str) -> Result<Self> {
        let prefixed = given.split_once(':').map(|(prefix, rest)| (prefix.to_ascii_lowercase(), rest));
        match prefixed {
            Some((prefix, uri)) if prefix == "uri" => match uri.split_once(':') {
                Some((scheme, rest)) if !scheme.is_empty() && !rest.is_empty() && uri.is_ascii() => {
                    Ok(Self::Uri(uri.to_owned()))
                }
                _ => Err(Error::configuration(format!("`{}` is not a URI", uri.escape_debug()))
                    .hint("give it with its scheme, in ASCII: `URI:spiffe://example.com/service`")),
            },
            Some((prefix, address)) if prefix == "email" => match address.split_once('@') {
                Some((user, host)) if !user.is_empty() && !host.is_empty() && address.is_ascii() => {
                    Ok(Self::Email(address.to_owned()))
                }
                _ => Err(Error::configuration(format!("`{}` is not a mail address", address.escape_debug()))
                    .hint("give it as `email:name@example.com`, in ASCII")),
            },
            Some((prefix, name)) if prefix == "dns" || prefix == "ip" => Ok(name.parse::<ServerName>()?.into()),
            _ => Ok(given.parse::<ServerName>()?.into()),
        }
    }
}

impl From<ServerName> for AlternativeName {
    fn from(name: ServerName) -> Self {
        match name {
            ServerName::Dns(name) => Self::Dns(name),
            ServerName::Ip(address) => Self::Ip(address),
        }
    }
}

/// What a certificate is to say, apart from its key and its issuer.
#[derive(Clone, Debug)]
pub struct Template {
    /// What it is for.
    pub profile: Profile,
    /// The common name, in any script; at most 64 characters (RFC 5280, appendix A). Without it the subject is empty,
    /// which only a leaf with alternative names may be.
    pub common_name: Option<String>,
    /// The organization, if it is to be named; at most 64 characters.
    pub organization: Option<String>,
    /// The names that peers check.
    pub names: Vec<AlternativeName>,
    /// The start of validity. Certificates hold whole seconds; the rest is cut off.
    pub not_before: SystemTime,
    /// The end of validity, which still belongs to it.
    pub not_after: SystemTime,
}

/// A certificate with the key that issues under it.
#[derive(Clone)]
pub struct Authority {
    certificate: CertificateDer<'static>,
    key: Arc<dyn SigningKey>,
    subject: RdnSequence,
    identifier: OctetString,
    path_len: Option<u8>,
    not_after: SystemTime,
}

impl Authority {
    /// Makes a trust anchor that `key` signs for itself.
    pub fn root(template: &Template, key: Arc<dyn SigningKey>) -> Result<Self> {
        if template.profile != Profile::Root {
            return Err(Error::internal("a self-signed authority needs the root profile"));
        }
        let spki = public_key(key.as_ref())?;
        let subject = subject(template)?;
        let identifier = octets(&key_identifier(&spki)?)?;
        // A self-signed certificate is its own authority, and so names none (RFC 5280, section 4.2.1.1).
        let certificate = sign(template, &Additions::default(), &spki, &subject, &identifier, None, key.as_ref())?;
        Self::new(certificate, key)
    }

    /// Takes a certificate that may issue, and its key.
    ///
    /// Fails when the certificate is no authority's, or the key is another one's.
    pub fn new(certificate: CertificateDer<'static>, key: Arc<dyn SigningKey>) -> Result<Self> {
        let parsed = Certificate::from_der(&certificate).map_err(encoding)?;
        let tbs = parsed.tbs_certificate();
        let constraints =
            tbs.get_extension::<BasicConstraints>().map_err(encoding)?.map(|(_, constraints)| constraints);
        let usage = tbs.get_extension::<KeyUsage>().map_err(encoding)?.map(|(_, usage)| usage);
        let Some(constraints) = constraints.filter(|constraints| constraints.ca) else {
            return Err(Error::certificate(format!("{} is not a certification authority", tbs.subject()))
                .hint("issue with a certificate whose basicConstraints say CA:TRUE"));
        };
        if usage.is_some_and(|usage| !usage.key_cert_sign()) {
            return Err(Error::certificate(format!("{} may not sign certificates", tbs.subject()))
                .hint("issue with a certificate whose keyUsage has keyCertSign"));
        }
        let spki = tbs.subject_public_key_info().to_der().map_err(encoding)?;
        if spki != public_key(key.as_ref())? {
            return Err(Error::certificate(format!("the key does not belong to {}", tbs.subject())));
        }
        let identifier = match tbs.get_extension::<SubjectKeyIdentifier>().map_err(encoding)? {
            Some((_, identifier)) => identifier.0,
            None => octets(&key_identifier(&spki)?)?,
        };
        Ok(Self {
            subject: tbs.subject().as_ref().clone(),
            path_len: constraints.path_len_constraint,
            not_after: tbs.validity().not_after.to_system_time(),
            certificate,
            key,
            identifier,
        })
    }

    /// Issues a certificate for the public key in `spki`, a DER `SubjectPublicKeyInfo`.
    ///
    /// Fails when this authority may not: an authority below one whose path length is used up, or a certificate that
    /// would outlive its issuer.
    pub fn issue(&self, template: &Template, spki: &[u8]) -> Result<CertificateDer<'static>> {
        self.issue_with(template, &Additions::default(), spki)
    }

    /// As [`Self::issue`], with what only some certificates say.
    pub fn issue_with(
        &self,
        template: &Template,
        additions: &Additions,
        spki: &[u8],
    ) -> Result<CertificateDer<'static>> {
        match (template.profile, self.path_len) {
            (Profile::Root, _) => return Err(Error::internal("a root is signed by itself, not by an authority")),
            (Profile::Intermediate { .. }, Some(0)) => {
                return Err(Error::certificate("the issuer may not issue for authorities: its path length is 0")
                    .hint("issue with an authority further up"));
            }
            (Profile::Intermediate { path_len }, Some(limit)) if path_len >= limit => {
                return Err(Error::certificate(format!(
                    "a path length of {path_len} does not fit below the issuer's, {limit}"
                ))
                .hint(format!("at most {} fits", limit - 1)));
            }
            _ => {}
        }
        // Compared as certificates hold it, in whole seconds.
        let not_after = time(template.not_after)?.to_system_time();
        if not_after > self.not_after {
            return Err(Error::certificate(format!(
                "the certificate would end on {}, after its issuer, which ends on {}",
                date(not_after),
                date(self.not_after)
            ))
            .hint("choose a shorter validity, or renew the issuer first"));
        }
        usable_kind(spki)?;
        let identifier = octets(&key_identifier(spki)?)?;
        sign(template, additions, spki, &self.subject, &identifier, Some(&self.identifier), self.key.as_ref())
    }

    /// The authority's own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The key identifier that what it issues refers to it by.
    pub(crate) fn identifier(&self) -> &OctetString {
        &self.identifier
    }

    /// The authority's key.
    pub fn key(&self) -> &Arc<dyn SigningKey> {
        &self.key
    }
}

/// The kind of a public key, if a certificate for it would be of any use.
pub(crate) fn usable_kind(spki: &[u8]) -> Result<KeyKind> {
    match key_kind(spki)? {
        KeyKind::Rsa(bits) if !(2048..=8192).contains(&bits) => {
            Err(Error::certificate(format!("the key is RSA-{bits}, and no verifier accepts that"))
                .hint("make a key of 2048 to 8192 bits, or of another kind: `qtls keygen --alg ml-dsa-65 --out FILE`"))
        }
        kind => Ok(kind),
    }
}

/// The DER `SubjectPublicKeyInfo` of a key.
pub fn public_key(key: &dyn SigningKey) -> Result<Vec<u8>> {
    key.public_key()
        .map(|spki| spki.to_vec())
        .ok_or_else(|| Error::certificate("the key does not say which public key it belongs to"))
}

/// `TBSCertificate` of RFC 5280, section 4.1.2. The one of x509-cert can't be built without its own signing traits.
#[derive(Sequence)]
struct TbsCertificate {
    #[asn1(context_specific = "0", default = "Default::default")]
    version: Version,
    serial_number: SerialNumber,
    signature: AlgorithmIdentifierOwned,
    issuer: RdnSequence,
    validity: Validity,
    subject: RdnSequence,
    subject_public_key_info: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Extensions>,
}

#[derive(Sequence)]
struct SignedCertificate {
    tbs_certificate: TbsCertificate,
    signature_algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

fn sign(
    template: &Template,
    additions: &Additions,
    spki: &[u8],
    issuer: &RdnSequence,
    identifier: &OctetString,
    authority: Option<&OctetString>,
    key: &dyn SigningKey,
) -> Result<CertificateDer<'static>> {
    let algorithm = signature::algorithm(key)?;
    let subject = subject(template)?;
    if template.not_after <= template.not_before {
        return Err(Error::configuration("the certificate would end before it begins"));
    }
    let tbs_certificate = TbsCertificate {
        version: Version::V3,
        serial_number: serial_number()?,
        signature: algorithm.clone(),
        issuer: issuer.clone(),
        validity: Validity::new(time(template.not_before)?, time(template.not_after)?),
        extensions: Some(extensions(template, additions, subject.is_empty(), identifier, authority)?),
        subject,
        subject_public_key_info: SubjectPublicKeyInfoOwned::from_der(spki).map_err(encoding)?,
    };
    let message = tbs_certificate.to_der().map_err(encoding)?;
    let signature = signature::sign(key, &message)?;
    let signed = SignedCertificate {
        tbs_certificate,
        signature_algorithm: algorithm,
        signature: BitString::from_bytes(&signature).map_err(encoding)?,
    };
    Ok(CertificateDer::from(signed.to_der().map_err(encoding)?))
}

/// 159 random bits: positive, and never longer than the 20 octets of RFC 5280, section 4.1.2.2.
fn serial_number() -> Result<SerialNumber> {
    let mut octets = random::<20>()?;
    octets[0] &= 0x7f;
    // The top bit but one is set so that each serial number is exactly 20 octets, and none is zero.
    octets[0] |= 0x40;
    SerialNumber::new(&octets).map_err(encoding)
}

fn extensions(
    template: &Template,
    additions: &Additions,
    subject_is_empty: bool,
    identifier: &OctetString,
    authority: Option<&OctetString>,
) -> Result<Extensions> {
    let profile = template.profile;
    let mut extensions = vec![
        extension(true, &profile.basic_constraints())?,
        extension(true, &KeyUsage(profile.key_usage()))?,
        extension(false, &SubjectKeyIdentifier(identifier.clone()))?,
    ];
    if let Some(authority) = authority {
        let authority = AuthorityKeyIdentifier { key_identifier: Some(authority.clone()), ..Default::default() };
        extensions.push(extension(false, &authority)?);
    }
    if profile.is_authority() {
        if let Some(purpose) = additions.purpose {
            extensions.push(extension(false, &ExtendedKeyUsage(purpose.extended_key_usage()))?);
        }
    } else if let Some(purpose) = profile.extended_key_usage() {
        extensions.push(extension(false, &ExtendedKeyUsage(vec![purpose]))?);
    }
    extensions.extend(links(&additions.links)?);
    if !template.names.is_empty() {
        let names = template.names.iter().map(general_name).collect::<Result<Vec<_>>>()?;
        // Critical if and only if it is all that names the holder (RFC 5280, section 4.2.1.6).
        extensions.push(extension(subject_is_empty, &SubjectAltName(names))?);
    } else if subject_is_empty {
        return Err(Error::configuration("a certificate needs a common name or an alternative name"));
    }
    if subject_is_empty && profile.is_authority() {
        return Err(Error::configuration("an authority needs a common name (RFC 5280, section 4.1.2.6)"));
    }
    Ok(extensions)
}

fn links(links: &Links) -> Result<Vec<Extension>> {
    let url = |url: &String| {
        let shaped = url.split_once("://").is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty());
        if !shaped || !url.is_ascii() || url.contains(char::is_whitespace) {
            return Err(Error::configuration(format!("`{}` is not a URL", url.escape_debug()))
                .hint("give one such as http://pki.example.com/ca.crl"));
        }
        general_name(&AlternativeName::Uri(url.clone()))
    };
    let mut extensions = Vec::new();
    if !links.crl.is_empty() {
        let names = links.crl.iter().map(url).collect::<Result<Vec<_>>>()?;
        let distribution_point = Some(DistributionPointName::FullName(names));
        let point = DistributionPoint { distribution_point, reasons: None, crl_issuer: None };
        extensions.push(extension(false, &CrlDistributionPoints(vec![point]))?);
    }
    let ocsp = links.ocsp.iter().map(|text| (OCSP, text));
    let issuers = links.issuer.iter().map(|text| (CA_ISSUERS, text));
    let access = ocsp
        .chain(issuers)
        .map(|(access_method, text)| Ok(AccessDescription { access_method, access_location: url(text)? }))
        .collect::<Result<Vec<_>>>()?;
    if !access.is_empty() {
        extensions.push(extension(false, &AuthorityInfoAccessSyntax(access))?);
    }
    Ok(extensions)
}

pub(crate) fn extension<T: AssociatedOid + Encode>(critical: bool, value: &T) -> Result<Extension> {
    Ok(Extension { extn_id: T::OID, critical, extn_value: octets(&value.to_der().map_err(encoding)?)? })
}

pub(crate) fn general_name(name: &AlternativeName) -> Result<GeneralName> {
    let ascii = |text: &str, what: &str| {
        Ia5String::new(text).map_err(|_| {
            Error::configuration(format!("`{text}` can't be {what} in a certificate: it has characters outside ASCII"))
        })
    };
    Ok(match name {
        AlternativeName::Dns(name) => GeneralName::DnsName(ascii(name, "a DNS name")?),
        AlternativeName::Ip(address) => GeneralName::from(*address),
        AlternativeName::Uri(uri) => GeneralName::UniformResourceIdentifier(ascii(uri, "a URI")?),
        AlternativeName::Email(address) => GeneralName::Rfc822Name(ascii(address, "a mail address")?),
    })
}

fn subject(template: &Template) -> Result<RdnSequence> {
    distinguished_name(template.common_name.as_deref(), template.organization.as_deref())
}

pub(crate) fn distinguished_name(common_name: Option<&str>, organization: Option<&str>) -> Result<RdnSequence> {
    let mut subject = RdnSequence::default();
    for (oid, value) in [(ORGANIZATION, organization), (COMMON_NAME, common_name)] {
        let Some(value) = value else { continue };
        let length = value.chars().count();
        if length == 0 || length > 64 || value.chars().any(char::is_control) {
            return Err(Error::configuration(format!(
                "`{}` can't name the subject of a certificate: 1 to 64 characters, none of them a control character",
                value.escape_debug()
            )));
        }
        // UTF8String for every script: RFC 5280, section 4.1.2.4, lets nothing else hold all of them.
        let value = Any::new(Tag::Utf8String, value.as_bytes()).map_err(encoding)?;
        let attribute = AttributeTypeAndValue { oid, value };
        subject.push(RelativeDistinguishedName::try_from(vec![attribute]).map_err(encoding)?);
    }
    Ok(subject)
}

/// UTCTime through 2049 and GeneralizedTime from 2050 on (RFC 5280, section 4.1.2.5).
pub(crate) fn time(at: SystemTime) -> Result<Time> {
    DateTime::from_system_time(at)
        .map(Time::from)
        .map_err(|_| Error::configuration("a certificate can't hold a date before 1970 or after 9999"))
}

pub(crate) fn octets(bytes: &[u8]) -> Result<OctetString> {
    OctetString::new(bytes).map_err(encoding)
}

pub(crate) fn encoding(error: der::Error) -> Error {
    Error::certificate(format!("a certificate can't be encoded or read: {error}"))
}

pub(crate) const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
pub(crate) const ORGANIZATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CODE_SIGNING: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.3");
const OCSP: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1");
const CA_ISSUERS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.2");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

#[cfg(test)]
mod tests;
