//! Certificate revocation lists: read once, applied to every chain.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, SignatureVerificationAlgorithm, TrustAnchor};
use webpki::{
    CertRevocationList, ExpirationPolicy, OwnedCertRevocationList, RevocationCheckDepth, RevocationOptions,
    RevocationOptionsBuilder, UnknownStatusPolicy,
};
use x509_cert::certificate::Rfc5280;
use x509_cert::crl::CertificateList;
use x509_cert::der::asn1::AnyRef;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{Decode, Reader, SliceReader, Tag, Tagged};
use x509_cert::ext::pkix::AuthorityKeyIdentifier;
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::path::{anchor_spki, extension, name};
use crate::credentials::{Source, date};
use crate::{Error, Result};

/// What happens where CRLs say nothing (`certificates.crl.mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RevocationMode {
    /// A certificate without a CRL of its issuer is refused, and so is one whose CRL is stale.
    #[default]
    Hard,
    /// Such a certificate is let through. What a stale CRL says still counts: revoked stays revoked.
    Soft,
}

/// One certificate revocation list.
#[derive(Clone)]
pub struct Crl {
    /// Where it came from, for messages.
    pub origin: String,
    /// The CA that issued it, as RFC 4514 writes its name.
    pub issuer: String,
    /// When it was issued.
    pub this_update: SystemTime,
    /// When it turns stale.
    pub next_update: SystemTime,
    /// How many certificates it revokes.
    pub revoked: usize,
    authority: Option<Vec<u8>>,
    der: Vec<u8>,
    list: Arc<CertRevocationList<'static>>,
}

impl Crl {
    /// Every CRL in PEM, or the one in DER.
    ///
    /// # Errors
    /// There is none, or one that can't be used: damaged, version 1, without nextUpdate, a delta or an indirect CRL.
    pub fn parse(source: Source<'_>) -> Result<Vec<Self>> {
        let at = |error: Error| error.at(source.origin);
        if AnyRef::from_der(source.bytes).is_ok() {
            return Ok(vec![Self::from_der(source.origin, source.bytes, "the CRL").map_err(at)?]);
        }
        let found = CertificateRevocationListDer::pem_slice_iter(source.bytes)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| at(Error::certificate(format!("is not well-formed PEM: {error}"))))?;
        if found.is_empty() {
            return Err(at(Error::certificate("holds no CRL")
                .hint("a CRL file holds `-----BEGIN X509 CRL-----` sections, or one CRL in DER")));
        }
        found
            .iter()
            .enumerate()
            .map(|(index, der)| Self::from_der(source.origin, der, &format!("CRL {}", index + 1)).map_err(at))
            .collect()
    }

    fn from_der(origin: &str, der: &[u8], what: &str) -> Result<Self> {
        let unusable = |error: &dyn fmt::Display| {
            Error::certificate(format!("{what} can't be used: {error}"))
                .hint("`openssl crl -in FILE -text -noout` shows what OpenSSL makes of it")
        };
        let list = OwnedCertRevocationList::from_der(der).map_err(|error| unusable(&error))?;
        let parsed = CertificateList::<Rfc5280>::from_der(der).map_err(|error| unusable(&error))?;
        let tbs = &parsed.tbs_cert_list;
        let next_update = tbs.next_update.ok_or_else(|| unusable(&"it does not say when it turns stale"))?;
        Ok(Self {
            origin: origin.to_owned(),
            issuer: tbs.issuer.to_string(),
            this_update: tbs.this_update.to_system_time(),
            next_update: next_update.to_system_time(),
            revoked: tbs.revoked_certificates.as_ref().map_or(0, Vec::len),
            authority: tbs
                .crl_extensions
                .iter()
                .flatten()
                .find(|extension| extension.extn_id == AuthorityKeyIdentifier::OID)
                .and_then(|extension| AuthorityKeyIdentifier::from_der(extension.extn_value.as_bytes()).ok())
                .and_then(|authority| authority.key_identifier)
                .map(|identifier| identifier.as_bytes().to_vec()),
            der: der.to_vec(),
            list: Arc::new(list.into()),
        })
    }

    /// As webpki takes it.
    pub(super) fn list(&self) -> &CertRevocationList<'static> {
        &self.list
    }

    fn is_signed_by(&self, anchor: &TrustAnchor<'_>, algorithms: &[&dyn SignatureVerificationAlgorithm]) -> bool {
        let verify = || -> Option<()> {
            let spki = anchor_spki(anchor).ok()?;
            let spki = SubjectPublicKeyInfoRef::from_der(&spki).ok()?;
            let mut parts = SliceReader::new(AnyRef::from_der(&self.der).ok()?.value()).ok()?;
            let signed = parts.tlv_bytes().ok()?;
            let algorithm = parts.decode::<AnyRef<'_>>().ok()?.value();
            // The first octet of a BIT STRING counts the unused bits; signatures have none.
            let signature = parts.decode::<AnyRef<'_>>().ok()?.value().split_first()?.1;
            let key = spki.subject_public_key.as_bytes()?;
            let matching = |one: &&&dyn SignatureVerificationAlgorithm| one.signature_alg_id().as_ref() == algorithm;
            algorithms.iter().filter(matching).find_map(|one| one.verify_signature(key, signed, signature).ok())
        };
        verify().is_some()
    }
}

impl fmt::Debug for Crl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crl")
            .field("origin", &self.origin)
            .field("issuer", &self.issuer)
            .field("next_update", &date(self.next_update))
            .field("revoked", &self.revoked)
            .finish_non_exhaustive()
    }
}

/// CRLs, and what happens where they say nothing.
///
/// Every certificate of a chain is checked, intermediates too, but not the trust anchor: as OpenSSL does with
/// `-crl_check_all`, and nginx with `ssl_crl`. So [`RevocationMode::Hard`] needs a CRL of every CA that issued
/// something in the chain, the root included.
#[derive(Clone, Debug)]
pub struct Revocation {
    crls: Vec<Crl>,
    mode: RevocationMode,
}

impl Revocation {
    /// Joins the two. Where a CA issued several CRLs, the newest counts.
    pub fn new(mut crls: Vec<Crl>, mode: RevocationMode) -> Self {
        // webpki takes the first that is of the right issuer.
        crls.sort_by_key(|crl| std::cmp::Reverse(crl.this_update));
        let mut seen = HashSet::new();
        crls.retain(|crl| seen.insert(crl.der.clone()));
        Self { crls, mode }
    }

    /// What happens where CRLs say nothing.
    pub fn mode(&self) -> RevocationMode {
        self.mode
    }

    /// The CRLs, the newest first.
    pub fn crls(&self) -> &[Crl] {
        &self.crls
    }

    /// The CRLs as they are encoded.
    pub(crate) fn ders(&self) -> Vec<&[u8]> {
        self.crls.iter().map(|crl| crl.der.as_slice()).collect()
    }

    /// The CRLs that are about certificates of a chain.
    ///
    /// webpki goes by the issuer's name alone. Two CAs may share one name (the ECDSA and the ML-DSA half of a pair, or
    /// a CA that renewed its key): there the key identifiers tell whose CRL it is (RFC 5280, section 5.2.1).
    pub(super) fn applicable(&self, leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Vec<&Crl> {
        let issued: Vec<_> = std::iter::once(leaf).chain(intermediates).filter_map(|der| issuer_of(der)).collect();
        let applies = |crl: &&Crl| {
            issued.iter().filter(|(issuer, _)| *issuer == crl.list.issuer()).any(|(_, wanted)| {
                match (wanted, &crl.authority) {
                    (Some(wanted), Some(own)) => wanted == own,
                    _ => true,
                }
            })
        };
        self.crls.iter().filter(applies).collect()
    }

    /// What webpki is told; `None` where no CRL applies.
    pub(super) fn options<'a>(&self, crls: &'a [&'a CertRevocationList<'a>]) -> Option<RevocationOptions<'a>> {
        let (status, expiration) = match self.mode {
            RevocationMode::Hard => (UnknownStatusPolicy::Deny, ExpirationPolicy::Enforce),
            RevocationMode::Soft => (UnknownStatusPolicy::Allow, ExpirationPolicy::Ignore),
        };
        let builder = RevocationOptionsBuilder::new(crls).ok()?;
        let builder = builder.with_depth(RevocationCheckDepth::Chain).with_status_policy(status);
        Some(builder.with_expiration_policy(expiration).build())
    }

    /// See [`TrustAnchors::with_revocation`](super::TrustAnchors::with_revocation).
    pub(super) fn check(
        &self,
        anchors: &[TrustAnchor<'_>],
        algorithms: &[&dyn SignatureVerificationAlgorithm],
        now: SystemTime,
    ) -> Result<Vec<String>> {
        let hard = self.mode == RevocationMode::Hard;
        if hard && self.crls.is_empty() {
            return Err(Error::certificate("there is no CRL, and the mode \"hard\" refuses every certificate without")
                .hint("name the CRLs of the CAs, or choose the mode \"soft\""));
        }
        let mut told = Vec::new();
        for crl in &self.crls {
            let named: Vec<_> = anchors.iter().filter(|anchor| anchor.subject.as_ref() == crl.list.issuer()).collect();
            if named.is_empty() {
                told.push(format!(
                    "{}: this CRL is of {}, which is no trust anchor: it counts only for what an intermediate CA of \
                     that name issued",
                    crl.origin, crl.issuer
                ));
            } else if !named.iter().any(|anchor| crl.is_signed_by(anchor, algorithms)) {
                return Err(Error::certificate(format!(
                    "this CRL names {} as its issuer, but is not signed with the key of that trust anchor",
                    crl.issuer
                ))
                .at(&crl.origin)
                .hint("it is of another CA with the same name, or damaged: get it from the CA again"));
            }
            if crl.next_update <= now {
                let effect =
                    if hard { "everything that CA issued is refused" } else { "the mode \"soft\" uses it still" };
                told.push(format!(
                    "{}: this CRL of {} is stale since {}: {effect}",
                    crl.origin,
                    crl.issuer,
                    date(crl.next_update)
                ));
            }
        }
        if hard {
            let lacking =
                |anchor: &&TrustAnchor<'_>| !self.crls.iter().any(|crl| crl.list.issuer() == anchor.subject.as_ref());
            told.extend(anchors.iter().filter(lacking).map(|anchor| {
                format!("there is no CRL of {}: the mode \"hard\" refuses what it issued", name(&anchor.subject))
            }));
        }
        Ok(told)
    }
}

/// The issuer's name as webpki keeps it, without its outer SEQUENCE, and the issuer's key identifier.
fn issuer_of<'a>(certificate: &'a CertificateDer<'_>) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let tbs = SliceReader::new(AnyRef::from_der(certificate).ok()?.value()).ok()?.decode::<AnyRef<'_>>().ok()?;
    let mut fields = SliceReader::new(tbs.value()).ok()?;
    // Version, serial number and algorithm stand before the issuer; the version may be absent.
    let first = fields.decode::<AnyRef<'_>>().ok()?;
    if first.tag() != Tag::Integer {
        fields.decode::<AnyRef<'_>>().ok()?;
    }
    fields.decode::<AnyRef<'_>>().ok()?;
    let issuer = fields.decode::<AnyRef<'_>>().ok()?.value();
    let authority = extension(certificate, 35).and_then(|value| {
        let mut inner = SliceReader::new(AnyRef::from_der(value).ok()?.value()).ok()?;
        let identifier = inner.decode::<AnyRef<'_>>().ok()?;
        (identifier.tag().number().value() == 0).then(|| identifier.value())
    });
    Some((issuer, authority))
}
