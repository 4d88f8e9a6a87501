//! The verifiers that rustls calls: for clients (on a server) and for servers (on a client).

use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, SignatureScheme};
use webpki::KeyUsage;

use super::allow::AllowList;
use super::path::{PathError, TrustAnchors, client_verified, other};
use super::{OBSERVED, REFUSED};
use crate::credentials::key_kind;
use crate::policy::Policy;

/// Verifies clients on a server (`certificates.verify_client`).
#[derive(Debug)]
pub struct ClientVerifier {
    anchors: TrustAnchors,
    subjects: Vec<DistinguishedName>,
    mandatory: bool,
    allow: Option<AllowList>,
}

impl ClientVerifier {
    /// Verifies clients against `anchors`; where not `mandatory`, a client may also show no certificate.
    pub fn new(anchors: TrustAnchors, mandatory: bool) -> Arc<Self> {
        Self::with_allow(anchors, mandatory, None)
    }

    /// As [`new`](Self::new), and lets in only the identities of `allow`, where there is such a list.
    ///
    /// Others get the alert access_denied, and [`take_refused_identity`](super::take_refused_identity) says who it was.
    pub fn with_allow(anchors: TrustAnchors, mandatory: bool, allow: Option<AllowList>) -> Arc<Self> {
        let subjects = anchors.subjects();
        Arc::new(Self { anchors, subjects, mandatory, allow })
    }

    /// As this one, but for `policy`, and without what is not about it: revocation and the list of allowed clients. To
    /// try that policy on chains that this one has let in.
    #[must_use]
    pub fn under(&self, policy: Arc<Policy>) -> Self {
        let Self { anchors, subjects, mandatory, .. } = self;
        Self { anchors: anchors.under(policy), subjects: subjects.clone(), mandatory: *mandatory, allow: None }
    }

    /// Whether any client could get in: a certificate is not required, or a chain may lead to some anchor.
    pub fn lets_anyone_in(&self) -> bool {
        !self.mandatory || self.anchors.is_reachable()
    }

    /// Verifies a stored chain, leaf first, as if it were shown now: for sessions that are to be resumed, in which the
    /// client shows nothing.
    ///
    /// # Errors
    /// What a full handshake would end with: no chain where one is required, and everything that is wrong with one.
    pub fn recheck(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> Result<(), Error> {
        match chain.split_first() {
            Some((leaf, intermediates)) => self.verify(leaf, intermediates, now),
            None if self.mandatory => Err(Error::NoCertificatesPresented),
            None => Ok(()),
        }
    }

    /// What a session is bound to, of all that clients are judged by.
    pub(crate) fn trust(&self) -> Trust<'_> {
        // Revocation, pins and the list of allowed clients are missing: they are asked again at each resumption.
        let Self { anchors, subjects: _, mandatory, allow: _ } = self;
        Trust { mandatory: *mandatory, depth: anchors.depth(), policy: anchors.policy(), anchors: anchors.identities() }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let valid = self.anchors.verify(leaf, intermediates, now, KeyUsage::client_auth());
        let verdict = valid.and_then(|()| match &self.allow {
            None => Ok(()),
            Some(allow) => allow.permits(leaf).map(|_| ()).map_err(|refused| {
                REFUSED.set(Some(refused));
                CertificateError::ApplicationVerificationFailure.into()
            }),
        });
        self.anchors.concluded(verdict, leaf, intermediates, None)
    }
}

/// Whom a server trusts, and how far.
pub(crate) struct Trust<'a> {
    /// Whether a client must show a certificate.
    pub(crate) mandatory: bool,
    /// How many intermediates a chain may have.
    pub(crate) depth: Option<usize>,
    /// What chains and signatures are held to.
    pub(crate) policy: &'a Policy,
    /// The anchors, in any order.
    pub(crate) anchors: Vec<Vec<u8>>,
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.verify(end_entity, intermediates, now)?;
        Ok(client_verified())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(never_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        certificate_verify(self.anchors.policy(), message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        advertised_schemes(self.anchors.policy())
    }
}

/// Verifies servers on a client: the chain, and the name that was asked for.
#[derive(Debug)]
pub struct ServerVerifier {
    anchors: TrustAnchors,
}

impl ServerVerifier {
    /// Verifies servers against `anchors`.
    pub fn new(anchors: TrustAnchors) -> Arc<Self> {
        Arc::new(Self { anchors })
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let valid = self.anchors.verify(end_entity, intermediates, now, KeyUsage::server_auth());
        let verdict = valid.and_then(|()| verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name));
        self.anchors.concluded(verdict, end_entity, intermediates, Some(server_name))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(never_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        certificate_verify(self.anchors.policy(), message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        advertised_schemes(self.anchors.policy())
    }
}

/// Accepts any chain for any name (`tls.verify_peer: false`): the connection is encrypted, but to whom is not known.
///
/// The signature over the handshake is verified all the same, so that the facts are true.
#[derive(Debug)]
pub struct DangerousNoVerifier {
    policy: Arc<Policy>,
}

impl DangerousNoVerifier {
    /// Verifies nothing but that the peer holds the key of the certificate it shows.
    pub fn new(policy: Arc<Policy>) -> Arc<Self> {
        Arc::new(Self { policy })
    }
}

impl ServerCertVerifier for DangerousNoVerifier {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(never_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        certificate_verify(&self.policy, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        advertised_schemes(&self.policy)
    }
}

/// The policy's schemes, and RSA PKCS#1 v1.5 behind them where chains may be signed by RSA: rustls sends no
/// `signature_algorithms_cert`, so this list speaks for chains too (RFC 9846 §4.2.3). TLS 1.3 forbids PKCS#1 in a
/// CertificateVerify, and [`certificate_verify`] holds peers to the policy's own list.
fn advertised_schemes(policy: &Policy) -> Vec<SignatureScheme> {
    let mut schemes = policy.schemes();
    if policy.chain_signatures.iter().any(|kind| matches!(kind.kind(), crate::credentials::KeyKind::Rsa(_))) {
        schemes.extend([
            SignatureScheme::RSA_PKCS1_SHA512,
            SignatureScheme::RSA_PKCS1_SHA384,
            SignatureScheme::RSA_PKCS1_SHA256,
        ]);
    }
    schemes
}

/// Asked for once: a provider is made anew each time, with its lists.
static ALGORITHMS: LazyLock<WebPkiSupportedAlgorithms> =
    LazyLock::new(|| default_provider().signature_verification_algorithms);

fn certificate_verify(
    policy: &Policy,
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    if !policy.schemes().contains(&dss.scheme) {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    }
    let leaf = webpki::EndEntityCert::try_from(cert).map_err(|_| CertificateError::BadEncoding)?;
    let kind =
        key_kind(&leaf.subject_public_key_info()).map_err(|error| other(PathError::Key(error.message().to_owned())))?;
    if !policy.allows_key(kind) {
        return Err(other(PathError::LeafKind { kind, allowed: policy.signature_names() }));
    }
    let valid = verify_tls13_signature(message, cert, dss, &ALGORITHMS)?;
    OBSERVED.set(Some(dss.scheme));
    Ok(valid)
}

fn never_tls12() -> Error {
    Error::General("TLS 1.2 is not built in".to_owned())
}
