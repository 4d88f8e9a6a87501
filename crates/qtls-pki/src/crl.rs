//! Certificate revocation lists, version 2 (RFC 5280, section 5).

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use der::asn1::{BitString, ObjectIdentifier};
use der::oid::AssociatedOid;
use der::{AnyRef, Decode, Encode, Reader, SliceReader};
use qtls_core::credentials::date;
use qtls_core::error::nearest;
use qtls_core::{Error, Result};
use x509_cert::Certificate;
use x509_cert::certificate::Version;
use x509_cert::crl::{CertificateList, RevokedCert, TbsCertList};
use x509_cert::ext::Extensions;
use x509_cert::ext::pkix::{AuthorityKeyIdentifier, CrlNumber, CrlReason};
use x509_cert::serial_number::SerialNumber;

use crate::issue::{Authority, encoding, extension, time};
use crate::signature;

/// Why a certificate was revoked (RFC 5280, section 5.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// No reason is told.
    Unspecified,
    /// Somebody else may have its key.
    KeyCompromise,
    /// Somebody else may have the key of the authority that it is.
    CaCompromise,
    /// What it says about its holder is no longer true.
    AffiliationChanged,
    /// Another has taken its place.
    Superseded,
    /// It is no longer needed.
    CessationOfOperation,
    /// Its holder may no longer do what it allows.
    PrivilegeWithdrawn,
}

impl Reason {
    /// Every reason. Holding and un-holding are not among them: revocations here are final.
    pub const ALL: [Self; 7] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::CaCompromise,
        Self::AffiliationChanged,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
    ];

    /// The name in RFC 5280: `keyCompromise`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
        }
    }

    fn code(self) -> CrlReason {
        match self {
            Self::Unspecified => CrlReason::Unspecified,
            Self::KeyCompromise => CrlReason::KeyCompromise,
            Self::CaCompromise => CrlReason::CaCompromise,
            Self::AffiliationChanged => CrlReason::AffiliationChanged,
            Self::Superseded => CrlReason::Superseded,
            Self::CessationOfOperation => CrlReason::CessationOfOperation,
            Self::PrivilegeWithdrawn => CrlReason::PrivilegeWithdrawn,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Reason {
    type Err = Error;

    /// Reads `keyCompromise`, `key-compromise` and every other way to write it.
    fn from_str(given: &str) -> Result<Self> {
        let plain = |text: &str| text.replace(['-', '_'], "").to_ascii_lowercase();
        Self::ALL.into_iter().find(|reason| plain(reason.name()) == plain(given)).ok_or_else(|| {
            let names = Self::ALL.map(Self::name);
            let hint = match nearest(given, names) {
                Some(name) => format!("did you mean `{name}`?"),
                None => format!("one of {}", names.join(", ")),
            };
            Error::configuration(format!("`{}` is no reason for a revocation", given.escape_debug())).hint(hint)
        })
    }
}

/// One revocation to be listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The serial number, big-endian.
    pub serial: Vec<u8>,
    /// When it was revoked.
    pub at: SystemTime,
    /// Why.
    pub reason: Reason,
}

/// Makes the list with this number, in DER: valid from `this_update` until the next one, due by `next_update`.
pub fn create(
    authority: &Authority,
    revocations: &[Revocation],
    number: u64,
    this_update: SystemTime,
    next_update: SystemTime,
) -> Result<Vec<u8>> {
    let issuer = Certificate::from_der(authority.certificate()).map_err(encoding)?;
    let revoked = revocations.iter().map(entry).collect::<Result<Vec<_>>>()?;
    let issuer_key =
        AuthorityKeyIdentifier { key_identifier: Some(authority.identifier().clone()), ..Default::default() };
    let algorithm = signature::algorithm(authority.key().as_ref())?;
    let tbs_cert_list = TbsCertList {
        version: Version::V2,
        signature: algorithm.clone(),
        issuer: issuer.tbs_certificate().subject().clone(),
        this_update: time(this_update)?,
        next_update: Some(time(next_update)?),
        // An empty list is left out (RFC 5280, section 5.1.2.6).
        revoked_certificates: (!revoked.is_empty()).then_some(revoked),
        crl_extensions: Some(vec![
            extension(false, &issuer_key)?,
            extension(false, &CrlNumber::try_from(number).map_err(encoding)?)?,
        ]),
    };
    let message = tbs_cert_list.to_der().map_err(encoding)?;
    let signature = signature::sign(authority.key().as_ref(), &message)?;
    let list: CertificateList = CertificateList {
        tbs_cert_list,
        signature_algorithm: algorithm,
        signature: BitString::from_bytes(&signature).map_err(encoding)?,
    };
    list.to_der().map_err(encoding)
}

fn entry(revocation: &Revocation) -> Result<RevokedCert> {
    let reason: Option<Extensions> = match revocation.reason {
        // To be left out rather than told (RFC 5280, section 5.3.1).
        Reason::Unspecified => None,
        reason => Some(vec![extension(false, &reason.code())?]),
    };
    Ok(RevokedCert {
        serial_number: SerialNumber::new(&revocation.serial).map_err(encoding)?,
        revocation_date: time(revocation.at)?,
        crl_entry_extensions: reason,
    })
}

/// A list that was read. Whose it is, its signature tells: see [`List::check_issuer`].
#[derive(Clone, Debug)]
pub struct List {
    /// The issuer, as RFC 4514 writes it.
    pub issuer: String,
    /// From when on it is valid.
    pub this_update: SystemTime,
    /// When the next one is due at the latest.
    pub next_update: Option<SystemTime>,
    /// Its number, in decimal.
    pub number: Option<String>,
    /// What it is signed with.
    pub signature_algorithm: String,
    /// Every revoked serial number, big-endian, with the date and the reason as RFC 5280 names it.
    pub revoked: Vec<(Vec<u8>, SystemTime, String)>,
    /// The object identifiers of critical extensions that are not understood here.
    pub unknown_critical: Vec<String>,
    inner: CertificateList,
    signed: Vec<u8>,
}

impl List {
    /// Reads a list in DER.
    pub fn parse(der: &[u8]) -> Result<Self> {
        let damaged = |error: der::Error| Error::certificate(format!("the revocation list can't be read: {error}"));
        let inner: CertificateList = CertificateList::from_der(der).map_err(damaged)?;
        let outer = AnyRef::from_der(der).map_err(damaged)?;
        let mut content = SliceReader::new(outer.value()).map_err(damaged)?;
        let signed = content.decode::<AnyRef<'_>>().and_then(|tbs| tbs.to_der()).map_err(damaged)?;
        let tbs = &inner.tbs_cert_list;
        let extensions = tbs.crl_extensions.as_deref().unwrap_or_default();
        let number = extensions
            .iter()
            .find(|extension| extension.extn_id == CrlNumber::OID)
            .map(|extension| CrlNumber::from_der(extension.extn_value.as_bytes()))
            .transpose()
            .map_err(damaged)?
            .map(|number| decimal(number.0.as_bytes()));
        let unknown_critical = extensions
            .iter()
            .filter(|extension| extension.critical)
            .map(|extension| extension.extn_id.to_string())
            .collect();
        let revoked = tbs
            .revoked_certificates
            .iter()
            .flatten()
            .map(|entry| {
                let serial = entry.serial_number.as_bytes().to_vec();
                (serial, entry.revocation_date.to_system_time(), reason_of(entry.crl_entry_extensions.as_deref()))
            })
            .collect();
        Ok(Self {
            issuer: tbs.issuer.to_string(),
            this_update: tbs.this_update.to_system_time(),
            next_update: tbs.next_update.map(|next| next.to_system_time()),
            number,
            signature_algorithm: signature::name(inner.signature_algorithm.oid),
            revoked,
            unknown_critical,
            signed,
            inner,
        })
    }

    /// Checks that the holder of this certificate issued the list: the name, the right to, and the signature.
    pub fn check_issuer(&self, issuer: &Certificate) -> Result<()> {
        let tbs = issuer.tbs_certificate();
        if *tbs.subject() != self.inner.tbs_cert_list.issuer {
            return Err(Error::certificate(format!(
                "the revocation list is {}'s, and not {}'s",
                self.issuer,
                tbs.subject()
            ))
            .hint("take the list of the authority that issued the certificate"));
        }
        let usage = tbs.get_extension::<x509_cert::ext::pkix::KeyUsage>().map_err(encoding)?;
        if usage.is_some_and(|(_, usage)| !usage.crl_sign()) {
            return Err(Error::certificate(format!("{} may not sign revocation lists", tbs.subject()))
                .hint("its keyUsage lacks cRLSign"));
        }
        let spki = tbs.subject_public_key_info().to_der().map_err(encoding)?;
        let signature = self.inner.signature.as_bytes().unwrap_or_default();
        signature::verify(&spki, &self.inner.signature_algorithm, &self.signed, signature).map_err(|error| {
            Error::certificate(format!("the revocation list is not signed by {}: {}", tbs.subject(), error.message()))
                .hint("a list that another authority of the same name has made proves nothing: fetch it again")
        })
    }

    /// Whether its signature is over a hash that collisions are known for.
    pub fn has_broken_signature(&self) -> bool {
        signature::is_broken(self.inner.signature_algorithm.oid)
    }

    /// Whether the list speaks for `now`; if it doesn't, why.
    pub fn staleness(&self, now: SystemTime) -> Option<String> {
        if now < self.this_update {
            return Some(format!("begins on {}", date(self.this_update)));
        }
        let next = self.next_update.filter(|next| now > *next)?;
        Some(format!("was to be replaced by {}", date(next)))
    }
}

fn reason_of(extensions: Option<&[x509_cert::ext::Extension]>) -> String {
    let code = extensions
        .unwrap_or_default()
        .iter()
        .find(|extension| extension.extn_id == REASON_CODE)
        .and_then(|extension| CrlReason::from_der(extension.extn_value.as_bytes()).ok());
    match code {
        None => Reason::Unspecified.name().to_owned(),
        Some(CrlReason::CertificateHold) => "certificateHold".to_owned(),
        Some(CrlReason::RemoveFromCRL) => "removeFromCRL".to_owned(),
        Some(CrlReason::AaCompromise) => "aACompromise".to_owned(),
        Some(code) => Reason::ALL
            .into_iter()
            .find(|reason| reason.code() == code)
            .map_or_else(|| format!("{code:?}"), |reason| reason.name().to_owned()),
    }
}

/// Numbers of lists have up to 20 octets (RFC 5280, section 5.2.3).
fn decimal(octets: &[u8]) -> String {
    let mut digits = vec![0_u8];
    for octet in octets {
        let mut carry = u32::from(*octet);
        for digit in &mut digits {
            let value = u32::from(*digit) * 256 + carry;
            *digit = (value % 10) as u8;
            carry = value / 10;
        }
        while carry > 0 {
            digits.push((carry % 10) as u8);
            carry /= 10;
        }
    }
    digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect()
}

const REASON_CODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");
