//! Keys and certificate chains from bytes: what they are, whether they belong together, and until when they hold.
//!
//! Expiry is data here, never an error: whether an expired leaf stops a test or only warns at start is for the caller
//! to decide.
//! Nothing but [`files`] touches the file system.

mod chain;
mod encrypted;
pub mod files;
mod generate;
mod kind;
mod load;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use rustls::sign::{CertifiedKey, SigningKey};
use x509_cert::Certificate;
use x509_cert::der::{DateTime, Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::name::Name;

pub use chain::{EXPIRY_NOTICE, Purpose};
pub use encrypted::Passphrase;
pub use generate::{generate, key_identifier, random, sha256};
pub use kind::{KeyKind, key_kind, signing_key_kind};
pub use load::{Source, certificates, private_key, signing_key};

use chain::Findings;

use crate::{Error, Result};

/// One of our own chains with the key that signs for its leaf.
///
/// The key may live elsewhere (an HSM): it is whatever implements rustls' [`SigningKey`].
#[derive(Clone)]
pub struct Credential {
    /// What logs and metrics call it: the file stem, such as `server-cert-ml-dsa-65`.
    pub name: String,
    /// Where the chain came from, for messages: a path as configured.
    pub origin: String,
    /// The chain, leaf first, and the key.
    pub key: Arc<CertifiedKey>,
    /// Algorithm and strength of the leaf's key.
    pub kind: KeyKind,
    /// What the leaf is signed with, by OpenSSL's short name (`RSA-SHA256`); `None` for an algorithm that is not known.
    pub signed_with: Option<&'static str>,
    /// The leaf's subject, as RFC 4514 writes it (`CN=example.com`); empty when the leaf has none.
    pub subject: String,
    /// The leaf's issuer, as RFC 4514 writes it.
    pub issuer: String,
    /// The DNS names of the leaf, as they are written in it: wildcards and punycode included.
    pub dns_names: Vec<String>,
    /// The IP addresses of the leaf.
    pub ip_addresses: Vec<IpAddr>,
    /// The start of the leaf's validity.
    pub not_before: SystemTime,
    /// The end of the leaf's validity. The leaf is still valid in this second.
    pub not_after: SystemTime,
    periods: Vec<Period>,
    findings: Findings,
}

impl Credential {
    /// Joins a chain and a private key, each in PEM or DER; the key may be encrypted.
    ///
    /// Fails, naming the file, when either holds nothing usable, when the key can't be decrypted, and when it is the
    /// key of no certificate of the chain. A chain in another order is put in order, with a [warning](Self::warnings).
    pub fn from_sources(
        name: impl Into<String>,
        cert: Source<'_>,
        key: Source<'_>,
        passphrase: Option<&Passphrase>,
    ) -> Result<Self> {
        let chain = certificates(cert)?;
        let key_der = private_key(key, passphrase)?;
        let signer = signing_key(&key_der).map_err(|error| error.at(key.origin))?;
        Self::join(name.into(), cert.origin, chain, signer, key.origin)
    }

    /// Joins a chain and a key that is held elsewhere.
    ///
    /// `origin` and `key_origin` say in messages where the two came from: a path, or a PKCS#11 URI without its PIN.
    pub fn from_chain(
        name: impl Into<String>,
        origin: &str,
        chain: Vec<CertificateDer<'static>>,
        key: Arc<dyn SigningKey>,
        key_origin: &str,
    ) -> Result<Self> {
        Self::join(name.into(), origin, chain, key, key_origin)
    }

    /// Whether the leaf and every intermediate behind it are valid at `now`.
    pub fn validity(&self, now: SystemTime) -> Validity {
        let trouble = |period: &Period| {
            let subject = period.subject.clone();
            if now > period.not_after {
                Some(Validity::Expired { subject, not_after: period.not_after })
            } else if now < period.not_before {
                Some(Validity::NotYetValid { subject, not_before: period.not_before })
            } else {
                None
            }
        };
        self.periods.iter().find_map(trouble).unwrap_or(Validity::Valid { not_after: self.chain_not_after() })
    }

    /// The earliest end of validity in the chain: the moment from which peers refuse it.
    pub fn chain_not_after(&self) -> SystemTime {
        self.periods.iter().map(|period| period.not_after).fold(self.not_after, SystemTime::min)
    }

    /// What an operator should hear at start, in sentences about the chain: that its order was repaired, that an
    /// intermediate seems to be missing, that the leaf is not made for `purpose` or has no name, that certificates are
    /// superfluous, and that the chain ends within [`EXPIRY_NOTICE`] after `now`.
    ///
    /// `anchors` are trust anchors known here, under which a leaf without intermediates may stand; none are needed.
    /// Whether the chain is valid at all, [`validity`](Self::validity) says.
    pub fn warnings(&self, purpose: Purpose, now: SystemTime, anchors: &[CertificateDer<'_>]) -> Vec<String> {
        let mut told = self.findings.sentences(purpose, anchors);
        if self.validity(now).is_valid()
            && let Some(first) = self.periods.iter().min_by_key(|period| period.not_after)
        {
            told.extend(chain::expires_soon(&first.subject, first.not_after, now));
        }
        told
    }

    fn join(
        name: String,
        origin: &str,
        mut chain: Vec<CertificateDer<'static>>,
        signer: Arc<dyn SigningKey>,
        key_origin: &str,
    ) -> Result<Self> {
        let mut parsed = parse_chain(&chain, origin)?;
        if parsed.is_empty() {
            return Err(Error::certificate("holds no certificate").at(origin));
        }
        let (kind, owner) = check_key_match(&parsed, signer.as_ref(), origin, key_origin)?;
        let (order, linked) = chain::order(&parsed, owner);
        // What has no place in the chain may stand anywhere.
        let in_order = order[..linked].is_sorted() && owner == 0;
        let given = (!in_order)
            .then(|| parsed.iter().map(|certificate| display_name(certificate.tbs_certificate().subject())).collect());
        parsed = order.iter().map(|index| parsed[*index].clone()).collect();
        chain = order.iter().map(|index| chain[*index].clone()).collect();
        let findings = Findings::of(&parsed, linked, given);
        let leaf = parsed[0].tbs_certificate();
        let alternative = leaf
            .get_extension::<SubjectAltName>()
            .map_err(|error| {
                Error::certificate(format!("the leaf's subject alternative names can't be read: {error}")).at(origin)
            })?
            .map(|(_, names)| names.0)
            .unwrap_or_default();
        let periods: Vec<Period> = parsed.iter().map(Period::of).collect();
        Ok(Self {
            name,
            origin: origin.to_owned(),
            kind,
            signed_with: kind::signature_name(parsed[0].signature_algorithm().oid),
            subject: leaf.subject().to_string(),
            issuer: leaf.issuer().to_string(),
            dns_names: alternative.iter().filter_map(dns_name).collect(),
            ip_addresses: alternative.iter().filter_map(ip_address).collect(),
            not_before: leaf.validity().not_before.to_system_time(),
            not_after: leaf.validity().not_after.to_system_time(),
            periods,
            findings,
            key: Arc::new(CertifiedKey::new(chain, signer)),
        })
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential")
            .field("name", &self.name)
            .field("origin", &self.origin)
            .field("kind", &self.kind)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// How a chain stands at one moment.
///
/// Displayed as the rest of a sentence about the chain: `expired on 2026-01-01T00:00:00Z (CN=example.com)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Every certificate of the chain is valid.
    Valid {
        /// When the first of them stops being so.
        not_after: SystemTime,
    },
    /// A certificate of the chain is past its end.
    Expired {
        /// The subject of that certificate; a chain can die by its intermediate.
        subject: String,
        /// When it ended.
        not_after: SystemTime,
    },
    /// A certificate of the chain has not begun.
    NotYetValid {
        /// The subject of that certificate.
        subject: String,
        /// When it begins.
        not_before: SystemTime,
    },
}

impl Validity {
    /// Whether peers with a right clock accept the chain.
    pub fn is_valid(&self) -> bool {
        matches!(self, Self::Valid { .. })
    }
}

impl fmt::Display for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid { not_after } => write!(f, "valid until {}", date(*not_after)),
            Self::Expired { subject, not_after } => write!(f, "expired on {} ({subject})", date(*not_after)),
            Self::NotYetValid { subject, not_before } => {
                write!(f, "not valid before {} ({subject})", date(*not_before))
            }
        }
    }
}

/// A moment as messages write it: `2026-11-22T09:30:00Z`.
pub fn date(time: SystemTime) -> String {
    DateTime::from_system_time(time).map_or_else(|_| "a date beyond the year 9999".to_owned(), |date| date.to_string())
}

/// When the first certificate of a chain expires; `None` where there is none, or one that can't be read.
pub fn chain_end(chain: &[CertificateDer<'_>]) -> Option<SystemTime> {
    let certificates = parse_chain(chain, "a peer's chain").ok()?;
    certificates.iter().map(|certificate| Period::of(certificate).not_after).min()
}

#[derive(Clone)]
struct Period {
    subject: String,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Period {
    fn of(certificate: &Certificate) -> Self {
        let tbs = certificate.tbs_certificate();
        Self {
            subject: display_name(tbs.subject()),
            not_before: tbs.validity().not_before.to_system_time(),
            not_after: tbs.validity().not_after.to_system_time(),
        }
    }
}

fn display_name(name: &Name) -> String {
    if name.is_empty() { "a certificate without a subject".to_owned() } else { name.to_string() }
}

fn parse_chain(chain: &[CertificateDer<'_>], origin: &str) -> Result<Vec<Certificate>> {
    chain
        .iter()
        .enumerate()
        .map(|(index, der)| {
            Certificate::from_der(der).map_err(|error| {
                Error::certificate(format!("certificate {} is damaged: {error}", index + 1))
                    .at(origin)
                    .hint("take the file from its issuer again; `openssl x509 -in FILE -text` shows what OpenSSL reads")
            })
        })
        .collect()
}

/// The kind of the key, and which certificate of the chain is the key's: that one is the leaf.
fn check_key_match(
    chain: &[Certificate],
    signer: &dyn SigningKey,
    origin: &str,
    key_origin: &str,
) -> Result<(KeyKind, usize)> {
    let public_keys = chain
        .iter()
        .map(|certificate| certificate.tbs_certificate().subject_public_key_info().to_der())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| {
            Error::certificate(format!("a public key of the chain can't be encoded: {error}")).at(origin)
        })?;
    let key_spki = signer
        .public_key()
        .ok_or_else(|| Error::certificate("the key does not say which public key it belongs to").at(key_origin))?;
    let key_kind = key_kind(&key_spki).map_err(|error| error.at(key_origin))?;
    if let Some(owner) = public_keys.iter().position(|spki| spki.as_slice() == key_spki.as_ref()) {
        return Ok((key_kind, owner));
    }
    let leaf_kind = kind::key_kind(&public_keys[0]).map_err(|error| error.at(origin))?;
    let message = if leaf_kind == key_kind {
        format!(
            "the key in {key_origin} does not belong to this certificate: both are {key_kind}, \
             but the public keys differ"
        )
    } else {
        format!(
            "the key in {key_origin} does not belong to this certificate: the certificate is for {leaf_kind}, \
             the key is {key_kind}"
        )
    };
    Err(Error::certificate(message).at(origin).hint(
        "a renewed certificate goes with the key that its request was made with: \
         `openssl x509 -in CERT -noout -pubkey` and `openssl pkey -in KEY -pubout` must print the same",
    ))
}

fn dns_name(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
        _ => None,
    }
}

fn ip_address(name: &GeneralName) -> Option<IpAddr> {
    match name {
        GeneralName::IpAddress(octets) => crate::verify::ip_address(octets.as_bytes()),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod test_chain;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::test_chain::{certificate, chain_pem, pem};
    use super::*;
    use crate::policy::KeyAlgorithm;

    const DAY: i64 = 86_400;

    struct Key {
        pem: Vec<u8>,
        signer: Arc<dyn SigningKey>,
    }

    fn key(algorithm: KeyAlgorithm) -> Key {
        let der = generate(algorithm).unwrap();
        Key { pem: pem("PRIVATE KEY", der.secret_der()), signer: signing_key(&der).unwrap() }
    }

    fn join(chain: &[CertificateDer<'_>], key: &Key) -> Result<Credential> {
        let chain = chain_pem(chain);
        Credential::from_sources(
            "server",
            Source { origin: "server-cert.pem", bytes: &chain },
            Source { origin: "server-key.pem", bytes: &key.pem },
            None,
        )
    }

    #[test]
    fn a_credential_says_what_its_leaf_says() {
        let own = key(KeyAlgorithm::EcdsaP384);
        let leaf = certificate("시험 서버", own.signer.as_ref(), -DAY, 30 * DAY, &["a.example", "*.b.example"]);
        let ca = certificate("Intermediate", key(KeyAlgorithm::EcdsaP256).signer.as_ref(), -DAY, 10 * DAY, &[]);
        let credential = join(&[leaf.clone(), ca], &own).unwrap();
        assert_eq!(credential.name, "server");
        assert_eq!(credential.kind, KeyKind::EcdsaP384);
        assert_eq!(credential.subject, "CN=시험 서버");
        assert_eq!(credential.dns_names, ["a.example", "*.b.example"]);
        assert_eq!(credential.key.cert.len(), 2);
        assert_eq!(credential.key.cert[0], leaf);
        // The intermediate ends first, and with it the chain.
        assert!(credential.chain_not_after() < credential.not_after);
    }

    #[test]
    fn validity_is_told_for_the_whole_chain_and_is_no_error() {
        let own = key(KeyAlgorithm::EcdsaP256);
        let leaf = certificate("leaf", own.signer.as_ref(), -DAY, 30 * DAY, &[]);
        let ca = certificate("tired CA", own.signer.as_ref(), -2 * DAY, 10 * DAY, &[]);
        let credential = join(&[leaf, ca], &own).unwrap();
        let at = |days: i64| {
            let shift = Duration::from_secs((days.abs() * DAY) as u64);
            if days < 0 { SystemTime::now() - shift } else { SystemTime::now() + shift }
        };
        assert!(credential.validity(at(0)).is_valid());
        assert!(matches!(credential.validity(at(11)), Validity::Expired { subject, .. } if subject == "CN=tired CA"));
        assert!(matches!(credential.validity(at(31)), Validity::Expired { subject, .. } if subject == "CN=leaf"));
        assert!(matches!(credential.validity(at(-3)), Validity::NotYetValid { subject, .. } if subject == "CN=leaf"));
        let expired = join(&[certificate("old", own.signer.as_ref(), -3 * DAY, -DAY, &[])], &own).unwrap();
        let told = expired.validity(SystemTime::now()).to_string();
        assert!(told.starts_with("expired on 20") && told.ends_with("(CN=old)"), "{told}");
    }

    #[test]
    fn a_key_of_another_algorithm_is_named_with_both_algorithms() {
        let leaf = certificate("x", key(KeyAlgorithm::EcdsaP384).signer.as_ref(), -DAY, DAY, &[]);
        let error = join(&[leaf], &key(KeyAlgorithm::MlDsa65)).unwrap_err().to_string();
        assert!(error.starts_with("server-cert.pem: the key in server-key.pem does not belong"), "{error}");
        assert!(error.contains("is for ECDSA P-384, the key is ML-DSA-65"), "{error}");
    }

    #[test]
    fn another_key_of_the_same_algorithm_is_refused() {
        let leaf = certificate("x", key(KeyAlgorithm::Ed25519).signer.as_ref(), -DAY, DAY, &[]);
        let error = join(&[leaf], &key(KeyAlgorithm::Ed25519)).unwrap_err();
        assert!(error.message().contains("both are Ed25519, but the public keys differ"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn a_damaged_certificate_is_told_by_its_number() {
        let own = key(KeyAlgorithm::EcdsaP256);
        let leaf = certificate("leaf", own.signer.as_ref(), -DAY, DAY, &[]);
        let cut = CertificateDer::from(leaf[..leaf.len() - 40].to_vec());
        let error = join(&[leaf, cut], &own).unwrap_err();
        assert!(error.to_string().starts_with("server-cert.pem: certificate 2 is damaged"), "{error}");
    }

    #[test]
    fn a_key_that_is_held_elsewhere_is_checked_too() {
        let own = key(KeyAlgorithm::EcdsaP256);
        let other = key(KeyAlgorithm::EcdsaP256);
        let chain = vec![certificate("leaf", own.signer.as_ref(), -DAY, DAY, &[])];
        assert!(Credential::from_chain("hsm", "leaf.pem", chain.clone(), own.signer, "pkcs11:object=a").is_ok());
        let error = Credential::from_chain("hsm", "leaf.pem", chain, other.signer, "pkcs11:object=b").unwrap_err();
        assert!(error.message().contains("pkcs11:object=b"), "{error}");
    }
}
