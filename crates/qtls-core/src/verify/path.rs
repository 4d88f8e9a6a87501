//! From a leaf to a trust anchor.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::{CertificateDer, Der, ServerName, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use rustls::server::danger::ClientCertVerified;
use rustls::{CertificateError, DistinguishedName, OtherError, RootCertStore};
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, VerifiedPath};
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::{Class, Decode, Encode, Reader, SliceReader, Tag, Tagged};
use x509_cert::name::Name;

use super::identity::SpkiHash;
use super::opinion::{SecondOpinion, Shown};
use super::revocation::{Revocation, RevocationMode};
use crate::credentials::{KeyKind, Purpose, key_kind};
use crate::error::{Error, Result};
use crate::policy::{KeyAlgorithm, Policy};

/// Trust anchors, and the rules that a chain up to one of them has to meet.
#[derive(Clone, Debug)]
pub struct TrustAnchors {
    roots: Arc<RootCertStore>,
    depth: Option<usize>,
    policy: Arc<Policy>,
    algorithms: Vec<&'static dyn SignatureVerificationAlgorithm>,
    revocation: Option<Arc<Revocation>>,
    pins: Arc<[SpkiHash]>,
    opinion: Option<Arc<dyn SecondOpinion>>,
}

impl TrustAnchors {
    /// Trusts `roots`, for chains of at most `depth` intermediates (`None`: as many as webpki builds) signed by the
    /// kinds of key of the policy's `signature_chain`.
    ///
    /// # Errors
    /// A root that is no certificate, or no root at all.
    pub fn new(
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
        depth: Option<usize>,
        policy: Arc<Policy>,
    ) -> Result<Self> {
        let mut store = RootCertStore::empty();
        for (index, root) in roots.into_iter().enumerate() {
            store.add(root).map_err(|error| {
                Error::certificate(format!("certificate {} can't be a trust anchor: {error}", index + 1))
            })?;
        }
        if store.is_empty() {
            return Err(Error::certificate("there is no trust anchor")
                .hint("put at least one CA certificate in PEM form into the bundle"));
        }
        Ok(Self { roots: Arc::new(store), depth, ..Self::none(policy) })
    }

    /// Trusts nobody: every chain is refused, but by a [second opinion](Self::with_opinion) that lets it in.
    pub fn none(policy: Arc<Policy>) -> Self {
        let algorithms = chain_algorithms(&policy.chain_signatures);
        let roots = Arc::new(RootCertStore::empty());
        Self { roots, depth: None, policy, algorithms, revocation: None, pins: Arc::default(), opinion: None }
    }

    /// Checks every certificate of a chain, but not the anchor, against CRLs.
    ///
    /// Answers, besides, what an operator should hear: CRLs that are stale at `now`, that belong to no anchor, and with
    /// [`RevocationMode::Hard`] anchors without a CRL.
    ///
    /// # Errors
    /// A CRL that names an anchor as its issuer and is not signed by it; no CRL at all with [`RevocationMode::Hard`].
    pub fn with_revocation(mut self, revocation: Revocation, now: SystemTime) -> Result<(Self, Vec<String>)> {
        let warnings = revocation.check(&self.roots.roots, &self.algorithms, now)?;
        self.revocation = Some(Arc::new(revocation));
        Ok((self, warnings))
    }

    /// Accepts only chains in which the leaf, an intermediate or the anchor has one of these keys. None: any chain.
    #[must_use]
    pub fn with_pins(mut self, pins: impl IntoIterator<Item = SpkiHash>) -> Self {
        self.pins = pins.into_iter().collect();
        self
    }

    /// Asks `opinion` about every peer, after everything else. What a client's sessions are bound to doesn't show whom
    /// that is: they must not be shared between anchors with different ones.
    #[must_use]
    pub fn with_opinion(mut self, opinion: Arc<dyn SecondOpinion>) -> Self {
        self.opinion = Some(opinion);
        self
    }

    /// The last word on a peer.
    pub(super) fn concluded(
        &self,
        verdict: Result<(), rustls::Error>,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: Option<&ServerName<'_>>,
    ) -> Result<(), rustls::Error> {
        match &self.opinion {
            None => verdict,
            Some(opinion) => opinion.judge(&Shown { leaf, intermediates, server_name }, verdict),
        }
    }

    /// The same anchors under another policy, and without revocation, pins and second opinion: to try that policy on
    /// chains that have passed already.
    pub(super) fn under(&self, policy: Arc<Policy>) -> Self {
        let algorithms = chain_algorithms(&policy.chain_signatures);
        Self { policy, algorithms, revocation: None, pins: Arc::default(), opinion: None, ..self.clone() }
    }

    /// Whether a chain may lead to any of the anchors: to one whose key may sign in chains.
    pub(super) fn is_reachable(&self) -> bool {
        let kind = |anchor| anchor_spki(anchor).ok().and_then(|spki| key_kind(&spki).ok());
        self.roots.roots.iter().filter_map(kind).any(|kind| self.policy.allows_chain_key(kind))
    }

    /// The policy that peers are held to.
    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How many intermediates a chain may have.
    pub(crate) fn depth(&self) -> Option<usize> {
        self.depth
    }

    /// The pins, as octets.
    pub(crate) fn pins(&self) -> impl ExactSizeIterator<Item = &[u8; 32]> {
        self.pins.iter().map(SpkiHash::as_bytes)
    }

    /// The CRLs, and what happens where they say nothing.
    pub(crate) fn revocation(&self) -> Option<&Revocation> {
        self.revocation.as_deref()
    }

    /// Each anchor as what a chain is judged by (subject, key, name constraints), in one piece.
    pub(crate) fn identities(&self) -> Vec<Vec<u8>> {
        let identity = |anchor: &TrustAnchor<'static>| {
            let TrustAnchor { subject, subject_public_key_info, name_constraints } = anchor;
            let parts = [Some(subject), Some(subject_public_key_info), name_constraints.as_ref()];
            let part = |part: Option<&Der<'static>>| match part {
                None => vec![0],
                Some(part) => [&[1][..], &(part.len() as u64).to_be_bytes(), part].concat(),
            };
            parts.map(part).concat()
        };
        self.roots.roots.iter().map(identity).collect()
    }

    /// The subjects of the anchors, which a server hints to its clients.
    pub(super) fn subjects(&self) -> Vec<DistinguishedName> {
        self.roots.subjects()
    }

    /// Verifies a chain as a handshake would, all but the name, and answers with the path: for those who show it.
    ///
    /// # Errors
    /// Those of the handshake.
    pub fn path(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        purpose: Purpose,
    ) -> Result<BuiltPath, rustls::Error> {
        let usage = match purpose {
            Purpose::Server => webpki::KeyUsage::server_auth(),
            Purpose::Client => webpki::KeyUsage::client_auth(),
        };
        self.verify_then(leaf, intermediates, now, usage, |path| BuiltPath {
            intermediates: path.intermediate_certificates().map(|issuer| issuer.der().into_owned()).collect(),
            anchor: name(&path.anchor().subject),
        })
    }

    /// Verifies `leaf` for `usage`: signatures, validity, constraints, purpose, depth, and the kinds of key.
    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: impl ExtendedKeyUsageValidator,
    ) -> Result<(), rustls::Error> {
        self.verify_then(leaf, intermediates, now, usage, |_| ())
    }

    fn verify_then<T>(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: impl ExtendedKeyUsageValidator,
        answer: impl FnOnce(&VerifiedPath<'_>) -> T,
    ) -> Result<T, rustls::Error> {
        let end_entity = EndEntityCert::try_from(leaf).map_err(translate)?;
        let kind = key_kind(&end_entity.subject_public_key_info())
            .map_err(|error| other(PathError::Key(error.message().to_owned())))?;
        if !self.policy.allows_key(kind) {
            return Err(other(PathError::LeafKind { kind, allowed: self.policy.signature_names() }));
        }
        // The hook can only answer with an error of webpki's; ours is kept beside it.
        let reason = RefCell::new(None);
        let hook = |path: &VerifiedPath<'_>| {
            self.check_path(path).map_err(|error| {
                *reason.borrow_mut() = Some(error);
                webpki::Error::MaximumPathDepthExceeded
            })
        };
        let crls = self.revocation.as_ref().map(|revocation| revocation.applicable(leaf, intermediates));
        let crls: Vec<_> = crls.iter().flatten().map(|crl| crl.list()).collect();
        let options = self.revocation.as_ref().and_then(|revocation| revocation.options(&crls));
        let path = end_entity
            .verify_for_usage(&self.algorithms, &self.roots.roots, intermediates, now, usage, options, Some(&hook))
            .map_err(|error| match (reason.take(), error) {
                (Some(reason), webpki::Error::MaximumPathDepthExceeded) => other(reason),
                (_, error) => translate(error),
            })?;
        match &self.revocation {
            // webpki can't be told that there is no CRL for any certificate of the chain.
            Some(revocation) if revocation.mode() == RevocationMode::Hard && crls.is_empty() => {
                Err(CertificateError::UnknownRevocationStatus.into())
            }
            _ => Ok(answer(&path)),
        }
    }

    fn check_path(&self, path: &VerifiedPath<'_>) -> Result<(), PathError> {
        let intermediates = path.intermediate_certificates().count();
        if let Some(depth) = self.depth.filter(|depth| intermediates > *depth) {
            return Err(PathError::TooDeep { intermediates, depth });
        }
        // webpki leaves key usage alone (RFC 5280, sections 4.2.1.3 and 6.1.4 (n)).
        if key_usage(&path.end_entity().der()).is_some_and(|usage| !usage.contains(DIGITAL_SIGNATURE)) {
            return Err(PathError::LeafUsage);
        }
        for issuer in path.intermediate_certificates() {
            if key_usage(&issuer.der()).is_some_and(|usage| !usage.contains(KEY_CERT_SIGN)) {
                return Err(PathError::IssuerUsage { issuer: name(issuer.subject()) });
            }
        }
        let issuers = path.intermediate_certificates().map(|issuer| issuer.subject_public_key_info().to_vec());
        let issuers: Vec<_> = issuers.chain([anchor_spki(path.anchor())?]).collect();
        for spki in &issuers {
            let kind = key_kind(spki).map_err(|error| PathError::Key(error.message().to_owned()))?;
            if !self.policy.allows_chain_key(kind) {
                return Err(PathError::IssuerKind { kind });
            }
        }
        if !self.pins.is_empty() {
            let leaf = SpkiHash::of(&path.end_entity().subject_public_key_info());
            let shown = || std::iter::once(leaf).chain(issuers.iter().map(|spki| SpkiHash::of(spki)));
            if !shown().any(|hash| self.pins.contains(&hash)) {
                return Err(PathError::Pins { leaf });
            }
        }
        Ok(())
    }
}

/// The way from a leaf to a trust anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuiltPath {
    /// What stands between the leaf and the anchor, from the leaf on; superfluous certificates are not among it.
    pub intermediates: Vec<CertificateDer<'static>>,
    /// The subject of the anchor, as RFC 4514 writes it.
    pub anchor: String,
}

/// Why a chain was refused, where neither rustls nor webpki has a name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathError {
    /// More intermediates than `verify_depth` allows.
    TooDeep {
        /// How many the path has.
        intermediates: usize,
        /// How many are allowed.
        depth: usize,
    },
    /// The leaf's key is of a kind that `algorithms.signature` doesn't have.
    LeafKind {
        /// The kind.
        kind: KeyKind,
        /// What the policy has.
        allowed: String,
    },
    /// An issuer's key is of a kind that `algorithms.signature_chain` doesn't have.
    IssuerKind {
        /// The kind.
        kind: KeyKind,
    },
    /// The leaf's key usage forbids signatures, and TLS 1.3 knows nothing else.
    LeafUsage,
    /// An intermediate's key usage forbids signing certificates.
    IssuerUsage {
        /// Its subject.
        issuer: String,
    },
    /// No key of the chain is pinned.
    Pins {
        /// The leaf's key.
        leaf: SpkiHash,
    },
    /// A public key can't be read.
    Key(String),
    /// What webpki said and rustls has no name for.
    Path(webpki::Error),
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooDeep { intermediates, depth } => {
                write!(f, "the chain has {intermediates} intermediates, and verify_depth allows {depth}")
            }
            Self::LeafKind { kind, allowed } => {
                write!(f, "the certificate's key is {kind}, and algorithms.signature allows {allowed}")
            }
            Self::IssuerKind { kind } => {
                write!(f, "a certificate of the chain is signed with {kind}, which algorithms.signature_chain lacks")
            }
            Self::LeafUsage => f.write_str("the leaf's key usage lacks digitalSignature"),
            Self::IssuerUsage { issuer } => {
                write!(f, "{issuer} has signed a certificate of the chain, and its key usage lacks keyCertSign")
            }
            Self::Pins { leaf } => {
                write!(f, "no key of the peer's chain is pinned; the leaf's SPKI SHA-256 is {leaf}")
            }
            Self::Key(message) => f.write_str(message),
            Self::Path(error) => match error {
                webpki::Error::CaUsedAsEndEntity => f.write_str("a CA certificate is used as the leaf"),
                webpki::Error::EndEntityUsedAsCa => f.write_str("a certificate that is no CA has signed another"),
                webpki::Error::PathLenConstraintViolated => f.write_str("a CA's path length constraint is exceeded"),
                webpki::Error::NameConstraintViolation => f.write_str("a CA's name constraints forbid this name"),
                webpki::Error::MaximumPathDepthExceeded => f.write_str("the chain is too long"),
                webpki::Error::IssuerNotCrlSigner => {
                    f.write_str("the issuer of a CRL may not sign CRLs (its key usage lacks cRLSign)")
                }
                webpki::Error::InvalidCrlSignatureForPublicKey => {
                    f.write_str("a CRL is not signed by the CA that it names")
                }
                webpki::Error::InvalidNetworkMaskConstraint | webpki::Error::MalformedNameConstraint => {
                    f.write_str("a CA's name constraints are malformed")
                }
                webpki::Error::EmptyEkuExtension => {
                    f.write_str("a certificate of the chain is made for no purpose at all")
                }
                webpki::Error::UnsupportedCertVersion => {
                    f.write_str("a certificate of the chain is not of version 3 (RFC 5280, section 4.1.2.1)")
                }
                webpki::Error::SignatureAlgorithmMismatch => {
                    f.write_str("a certificate of the chain names two different signature algorithms")
                }
                webpki::Error::ExtensionValueInvalid => {
                    f.write_str("a certificate of the chain has an extension twice, or an invalid one")
                }
                webpki::Error::MaximumSignatureChecksExceeded
                | webpki::Error::MaximumPathBuildCallsExceeded
                | webpki::Error::MaximumNameConstraintComparisonsExceeded => {
                    f.write_str("the chain takes more work to verify than any honest one")
                }
                error => write!(f, "{error:?}"),
            },
        }
    }
}

impl std::error::Error for PathError {}

pub(super) fn other(error: PathError) -> rustls::Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

/// As rustls translates them, so that each gets the alert that rustls would send.
fn translate(error: webpki::Error) -> rustls::Error {
    use webpki::Error as E;
    match error {
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding,
        E::CertNotValidYet { time, not_before } => CertificateError::NotValidYetContext { time, not_before },
        E::CertExpired { time, not_after } => CertificateError::ExpiredContext { time, not_after },
        E::InvalidCertValidity => CertificateError::Expired,
        E::UnknownIssuer => CertificateError::UnknownIssuer,
        E::CertRevoked => CertificateError::Revoked,
        E::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        E::CrlExpired { time, next_update } => CertificateError::ExpiredRevocationListContext { time, next_update },
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature,
        E::UnsupportedCriticalExtension => CertificateError::UnhandledCriticalExtension,
        E::UnsupportedSignatureAlgorithmContext(context) => CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: context.signature_algorithm_id,
            supported_algorithms: context.supported_algorithms,
        },
        E::UnsupportedSignatureAlgorithmForPublicKeyContext(context) => {
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: context.signature_algorithm_id,
                public_key_algorithm_id: context.public_key_algorithm_id,
            }
        }
        E::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose,
        error => return other(PathError::Path(error)),
    }
    .into()
}

/// A name as webpki keeps it, without its outer SEQUENCE, as RFC 4514 writes it.
pub(super) fn name(contents: &[u8]) -> String {
    AnyRef::new(Tag::Sequence, contents)
        .and_then(AnyRef::decode_as::<Name>)
        .map_or_else(|_| "a certificate with an unreadable name".to_owned(), |name| name.to_string())
}

/// The value of the extension id-ce `number` (RFC 5280, section 4.2.1), looked for without judging the rest of the
/// certificate: that is webpki's part.
pub(super) fn extension(certificate: &[u8], number: u8) -> Option<&[u8]> {
    let mut tbs = SliceReader::new(AnyRef::from_der(certificate).ok()?.value()).ok()?;
    let mut fields = SliceReader::new(tbs.decode::<AnyRef<'_>>().ok()?.value()).ok()?;
    let extensions = loop {
        let field = fields.decode::<AnyRef<'_>>().ok()?;
        if field.tag().class() == Class::ContextSpecific && field.tag().number().value() == 3 {
            break field;
        }
    };
    let mut list = SliceReader::new(AnyRef::from_der(extensions.value()).ok()?.value()).ok()?;
    while !list.is_finished() {
        let mut entry = SliceReader::new(list.decode::<AnyRef<'_>>().ok()?.value()).ok()?;
        if entry.decode::<AnyRef<'_>>().ok()?.value() == [0x55, 0x1d, number] {
            // Whether it is critical may stand between.
            let mut value = entry.decode::<AnyRef<'_>>().ok()?;
            if value.tag() == Tag::Boolean {
                value = entry.decode().ok()?;
            }
            return Some(value.value());
        }
    }
    None
}

/// The first octet of keyUsage, which has every bit that is asked for here (RFC 5280, section 4.2.1.3).
struct Usage(u8);

const DIGITAL_SIGNATURE: u8 = 0x80;
const KEY_CERT_SIGN: u8 = 0x04;

impl Usage {
    fn contains(&self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// `None` where the certificate has no such extension, and so allows all.
fn key_usage(certificate: &[u8]) -> Option<Usage> {
    let bits = extension(certificate, 15)?;
    let bits = AnyRef::from_der(bits).ok().filter(|bits| bits.tag() == Tag::BitString);
    // The first octet counts the unused bits. What can't be read allows nothing.
    Some(Usage(bits.and_then(|bits| bits.value().get(1).copied()).unwrap_or(0)))
}

/// webpki keeps an anchor's public key without its outer SEQUENCE.
pub(super) fn anchor_spki(anchor: &TrustAnchor<'_>) -> Result<Vec<u8>, PathError> {
    AnyRef::new(Tag::Sequence, &anchor.subject_public_key_info)
        .and_then(|spki| spki.to_der())
        .map_err(|error| PathError::Key(error.to_string()))
}

/// The verification algorithms for signatures made by these kinds of key. None of them is SHA-1.
fn chain_algorithms(kinds: &[KeyAlgorithm]) -> Vec<&'static dyn SignatureVerificationAlgorithm> {
    use webpki::aws_lc_rs as algorithms;
    let mut list: Vec<&'static dyn SignatureVerificationAlgorithm> = Vec::new();
    let mut rsa = false;
    for kind in kinds {
        match kind {
            KeyAlgorithm::MlDsa44 => list.push(algorithms::ML_DSA_44),
            KeyAlgorithm::MlDsa65 => list.push(algorithms::ML_DSA_65),
            KeyAlgorithm::MlDsa87 => list.push(algorithms::ML_DSA_87),
            KeyAlgorithm::EcdsaP256 => list.extend([
                algorithms::ECDSA_P256_SHA256,
                algorithms::ECDSA_P256_SHA384,
                algorithms::ECDSA_P256_SHA512,
            ]),
            KeyAlgorithm::EcdsaP384 => list.extend([
                algorithms::ECDSA_P384_SHA384,
                algorithms::ECDSA_P384_SHA256,
                algorithms::ECDSA_P384_SHA512,
            ]),
            KeyAlgorithm::EcdsaP521 => list.extend([
                algorithms::ECDSA_P521_SHA512,
                algorithms::ECDSA_P521_SHA384,
                algorithms::ECDSA_P521_SHA256,
            ]),
            KeyAlgorithm::Ed25519 => list.push(algorithms::ED25519),
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 if rsa => {}
            KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 | KeyAlgorithm::Rsa4096 => {
                rsa = true;
                list.extend([
                    algorithms::RSA_PKCS1_2048_8192_SHA256,
                    algorithms::RSA_PKCS1_2048_8192_SHA384,
                    algorithms::RSA_PKCS1_2048_8192_SHA512,
                    algorithms::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
                    algorithms::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
                    algorithms::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
                    algorithms::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
                    algorithms::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
                    algorithms::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
                ]);
            }
        }
    }
    list
}

/// The proof that rustls asks of a client verifier, made in one place.
pub(super) fn client_verified() -> ClientCertVerified {
    ClientCertVerified::assertion()
}
