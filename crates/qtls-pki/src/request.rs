//! Certification requests: PKCS#10 (RFC 2986).

use der::asn1::{Any, BitString, ObjectIdentifier, SetOfVec};
use der::oid::AssociatedOid;
use der::{AnyRef, Decode, Encode, Reader, Sequence, SliceReader};
use qtls_core::credentials::KeyKind;
use qtls_core::{Error, Result};
use rustls::sign::SigningKey;
use x509_cert::attr::{Attribute, Attributes};
use x509_cert::ext::Extensions;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::{Name, RdnSequence};
use x509_cert::request::{CertReq, Version};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

use crate::issue::{
    AlternativeName, COMMON_NAME, ORGANIZATION, distinguished_name, encoding, extension, general_name, public_key,
    usable_kind,
};
use crate::signature;

/// What somebody asks a certification authority for. The holder of the key has signed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The common name.
    pub common_name: Option<String>,
    /// The organization.
    pub organization: Option<String>,
    /// The whole subject, as RFC 4514 writes it.
    pub subject: String,
    /// The alternative names.
    pub names: Vec<AlternativeName>,
    /// What is asked for and not understood here, in words.
    pub ignored: Vec<String>,
    /// The DER `SubjectPublicKeyInfo`.
    pub spki: Vec<u8>,
    /// The kind of its key.
    pub kind: KeyKind,
    /// What it is signed with.
    pub signature_algorithm: String,
}

impl Request {
    /// Reads a request and checks that the holder of its key has signed it (RFC 2986, section 3).
    pub fn parse(der: &[u8]) -> Result<Self> {
        let (request, signed) = read(der)?;
        let spki = request.info.public_key.to_der().map_err(encoding)?;
        let kind = usable_kind(&spki)?;
        let signature = request.signature.as_bytes().unwrap_or_default();
        signature::verify(&spki, &request.algorithm, &signed, signature).map_err(|error| {
            Error::certificate(format!("the request's own signature does not hold: {}", error.message()))
                .hint("have the holder of the key make the request again: a request is never edited")
        })?;
        let mut ignored = Vec::new();
        let subject = &request.info.subject;
        let known = [COMMON_NAME, ORGANIZATION];
        for attribute in subject.iter().filter(|attribute| !known.contains(&attribute.oid)) {
            ignored.push(format!("{attribute} in the subject"));
        }
        let names = requested_names(&request.info.attributes, &mut ignored)?;
        Ok(Self {
            common_name: text_of(subject, COMMON_NAME)?,
            organization: text_of(subject, ORGANIZATION)?,
            subject: subject.to_string(),
            names,
            ignored,
            kind,
            signature_algorithm: signature::name(request.algorithm.oid),
            spki,
        })
    }
}

/// Makes a request, in DER, for the public half of `key`, which signs it.
pub fn create(
    common_name: Option<&str>,
    organization: Option<&str>,
    names: &[AlternativeName],
    key: &dyn SigningKey,
) -> Result<Vec<u8>> {
    let subject = distinguished_name(common_name, organization)?;
    if subject.is_empty() && names.is_empty() {
        return Err(Error::configuration("a request needs a common name or an alternative name"));
    }
    let mut attributes = Attributes::new();
    if !names.is_empty() {
        let critical = subject.is_empty();
        let names = names.iter().map(general_name).collect::<Result<Vec<_>>>()?;
        let extensions: Extensions = vec![extension(critical, &SubjectAltName(names))?];
        let mut values = SetOfVec::new();
        values.insert(Any::encode_from(&extensions).map_err(encoding)?).map_err(encoding)?;
        attributes.insert(Attribute { oid: EXTENSION_REQUEST, values }).map_err(encoding)?;
    }
    let info = RequestInfo {
        version: Version::V1,
        subject,
        public_key: SubjectPublicKeyInfoOwned::from_der(&public_key(key)?).map_err(encoding)?,
        attributes,
    };
    let algorithm = signature::algorithm(key)?;
    let signature = signature::sign(key, &info.to_der().map_err(encoding)?)?;
    let signed = SignedRequest { info, algorithm, signature: BitString::from_bytes(&signature).map_err(encoding)? };
    signed.to_der().map_err(encoding)
}

/// `CertificationRequestInfo` of RFC 2986, section 4.1. The one of x509-cert can't be built without its builder.
#[derive(Sequence)]
struct RequestInfo {
    version: Version,
    subject: RdnSequence,
    public_key: SubjectPublicKeyInfoOwned,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    attributes: Attributes,
}

#[derive(Sequence)]
struct SignedRequest {
    info: RequestInfo,
    algorithm: AlgorithmIdentifierOwned,
    signature: BitString,
}

/// The request, and the octets that its signature is over.
fn read(der: &[u8]) -> Result<(CertReq, Vec<u8>)> {
    let damaged = |error: der::Error| Error::certificate(format!("the certification request can't be read: {error}"));
    let request = CertReq::from_der(der).map_err(damaged)?;
    let outer = AnyRef::from_der(der).map_err(damaged)?;
    let mut inner = SliceReader::new(outer.value()).map_err(damaged)?;
    let signed = inner.decode::<AnyRef<'_>>().and_then(|info| info.to_der()).map_err(damaged)?;
    Ok((request, signed))
}

fn requested_names(attributes: &Attributes, ignored: &mut Vec<String>) -> Result<Vec<AlternativeName>> {
    let mut names = Vec::new();
    for attribute in attributes.iter() {
        if attribute.oid != EXTENSION_REQUEST {
            ignored.push(format!("the attribute {}", attribute.oid));
            continue;
        }
        for value in attribute.values.iter() {
            let extensions: Extensions = value.decode_as().map_err(encoding)?;
            for extension in extensions {
                if extension.extn_id != SubjectAltName::OID {
                    ignored.push(format!("the extension {}", extension.extn_id));
                    continue;
                }
                for name in SubjectAltName::from_der(extension.extn_value.as_bytes()).map_err(encoding)?.0 {
                    match AlternativeName::from_general_name(&name) {
                        Some(name) => names.push(name),
                        None => ignored.push(format!("an alternative name that is {}", what(&name))),
                    }
                }
            }
        }
    }
    Ok(names)
}

fn what(name: &GeneralName) -> &'static str {
    match name {
        GeneralName::OtherName(_) => "an otherName",
        GeneralName::DirectoryName(_) => "a directory name",
        GeneralName::EdiPartyName(_) => "an EDI party name",
        GeneralName::RegisteredId(_) => "a registered ID",
        GeneralName::IpAddress(_) => "an IP address of neither 4 nor 16 octets",
        _ => "unknown",
    }
}

fn text_of(subject: &Name, oid: ObjectIdentifier) -> Result<Option<String>> {
    let Some(attribute) = subject.iter().find(|attribute| attribute.oid == oid) else { return Ok(None) };
    // Every string type of a DirectoryString but the wide ones is, for what people use, a subset of UTF-8.
    str::from_utf8(attribute.value.value()).map(|text| Some(text.to_owned())).map_err(|_| {
        Error::certificate(format!("the subject of the request has {oid} in an encoding other than UTF-8"))
            .hint("make the request with UTF-8 strings, as OpenSSL does by `-utf8`")
    })
}

/// `extensionRequest` of RFC 2985, section 5.4.2.
const EXTENSION_REQUEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");

#[cfg(test)]
mod tests {
    use qtls_core::credentials::{generate, signing_key};
    use qtls_core::policy::{KeyAlgorithm, Named};

    use super::*;

    fn names() -> Vec<AlternativeName> {
        ["a.example", "*.b.example", "192.0.2.7", "URI:spiffe://a.example/s", "email:ops@a.example"]
            .map(|name| name.parse().unwrap())
            .to_vec()
    }

    #[test]
    fn every_kind_of_key_makes_a_request_that_it_has_signed() {
        for algorithm in KeyAlgorithm::ALL.iter().copied().filter(|algorithm| *algorithm != KeyAlgorithm::Rsa4096) {
            let key = signing_key(&generate(algorithm).unwrap()).unwrap();
            let der = create(Some("시험 서버"), Some("양자 보안"), &names(), key.as_ref()).unwrap();
            let request = Request::parse(&der).unwrap();
            assert_eq!(request.subject, "CN=시험 서버,O=양자 보안");
            assert_eq!(request.common_name.as_deref(), Some("시험 서버"));
            assert_eq!(request.organization.as_deref(), Some("양자 보안"));
            assert_eq!(request.names, names());
            assert_eq!(request.kind, algorithm.kind());
            assert_eq!(request.spki, public_key(key.as_ref()).unwrap());
            assert_eq!(request.ignored, [""; 0]);
        }
    }

    #[test]
    fn a_request_that_was_changed_is_refused() {
        let key = signing_key(&generate(KeyAlgorithm::EcdsaP256).unwrap()).unwrap();
        let der = create(Some("honest"), None, &names(), key.as_ref()).unwrap();
        let at = der.windows(6).position(|window| window == b"honest").unwrap();
        let mut changed = der.clone();
        changed[at] = b'H';
        let error = Request::parse(&changed).unwrap_err();
        assert!(error.message().starts_with("the request's own signature does not hold"), "{error}");
        assert!(Request::parse(&der[..der.len() - 1]).unwrap_err().message().contains("can't be read"));
        assert!(create(None, None, &[], key.as_ref()).unwrap_err().message().contains("needs a common name"));
    }

    #[test]
    fn names_without_a_subject_are_critical_and_come_back() {
        let key = signing_key(&generate(KeyAlgorithm::Ed25519).unwrap()).unwrap();
        let request = Request::parse(&create(None, None, &names(), key.as_ref()).unwrap()).unwrap();
        assert_eq!((request.subject.as_str(), request.common_name), ("", None));
        assert_eq!(request.names.len(), 5);
    }
}
