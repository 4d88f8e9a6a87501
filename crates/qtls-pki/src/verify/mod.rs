//! Whether a chain would be accepted, by the very rules of the handshake; and if not, which certificate and which rule
//! are at fault.

mod blame;

use std::sync::Arc;
use std::time::SystemTime;

use der::Decode;
use qtls_core::credentials::{Purpose, date};
use qtls_core::error::reason;
use qtls_core::policy::Policy;
use qtls_core::verify::{Crl, Revocation, RevocationMode, TrustAnchors};
use qtls_core::{Error, Fault, Result};
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use serde::Serialize;
use x509_cert::Certificate;

use crate::crl::List;
use crate::inspect::hex;

/// What is to be verified, and against what.
#[derive(Clone, Debug)]
pub struct Question<'a> {
    /// The leaf, and the intermediates that its holder sends; their order does not matter.
    pub chain: &'a [CertificateDer<'static>],
    /// Whom we trust.
    pub anchors: &'a [CertificateDer<'static>],
    /// What the leaf is used as.
    pub purpose: Purpose,
    /// The name that a client asks for.
    pub name: Option<&'a str>,
    /// How many intermediates may stand in between.
    pub depth: Option<usize>,
    /// Revocation lists, each for itself in DER; with any, every certificate but the anchor needs one.
    pub lists: &'a [Vec<u8>],
    /// When.
    pub at: SystemTime,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether the handshake would go on.
    pub verified: bool,
    /// The path from the leaf to the anchor, or as much of it as could be found.
    pub path: Vec<Step>,
    /// Why not.
    pub failure: Option<Failure>,
}

/// One certificate of a path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// `leaf`, `intermediate` or `anchor`.
    pub role: &'static str,
    /// The subject, as RFC 4514 writes it.
    pub subject: String,
    /// The serial number, in hex.
    pub serial: String,
    /// The end of its validity.
    pub not_after: String,
}

/// What is at fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// A short, stable name, as the label `reason` of `qtls_handshake_failures_total`.
    pub reason: &'static str,
    /// Where the certificate at fault stands in the path; absent where it is none in particular.
    pub step: Option<usize>,
    /// Its subject.
    pub certificate: Option<String>,
    /// The rule, in words.
    pub rule: String,
    /// The way out, if one is known.
    pub hint: Option<String>,
}

/// Answers. Only what can't be asked is an error: no anchor, a list that can't be read or is nobody's here.
pub fn verify(question: &Question<'_>) -> Result<Verdict> {
    let policy = Policy::default();
    let mut anchors = TrustAnchors::new(question.anchors.iter().cloned(), question.depth, Arc::new(policy))?;
    let parsed = Parsed::new(question)?;
    if !question.lists.is_empty() {
        parsed.check_lists()?;
        let mut lists = Vec::new();
        for (index, der) in question.lists.iter().enumerate() {
            let origin = format!("revocation list {}", index + 1);
            lists.extend(Crl::parse(qtls_core::credentials::Source { origin: &origin, bytes: der })?);
        }
        // What it warns of is told by the verdict, if it matters.
        (anchors, _) = anchors.with_revocation(Revocation::new(lists, RevocationMode::Hard), question.at)?;
    }
    let (leaf, intermediates) = question.chain.split_first().ok_or_else(|| {
        Error::certificate("there is no certificate to verify").hint("give a file with a certificate, the leaf first")
    })?;
    let since = question
        .at
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|_| Error::configuration("the time is before 1970").hint("give a later one"))?;
    let built = anchors.path(leaf, intermediates, UnixTime::since_unix_epoch(since), question.purpose);
    let outcome = built.and_then(|built| match question.name {
        None => Ok(built),
        Some(text) => {
            let name = ServerName::try_from(text).map_err(|_| rustls::Error::General(format!("bad name {text}")))?;
            verify_server_name(&ParsedCertificate::try_from(leaf)?, &name).map(|()| built)
        }
    });
    Ok(match outcome {
        Ok(built) => {
            let mut path = vec![parsed.chain[0].clone()];
            path.extend(built.intermediates.iter().filter_map(|der| Certificate::from_der(der).ok()));
            let last = path.len() - 1;
            path.extend(parsed.anchor_of(&path[last]).cloned());
            Verdict { verified: true, path: steps(&path, true), failure: None }
        }
        Err(error) => parsed.failed(&error),
    })
}

/// Everything, read once.
struct Parsed<'a> {
    question: &'a Question<'a>,
    chain: Vec<Certificate>,
    anchors: Vec<Certificate>,
    lists: Vec<List>,
}

impl<'a> Parsed<'a> {
    fn new(question: &'a Question<'a>) -> Result<Self> {
        let read = |(index, der): (usize, &CertificateDer<'_>)| {
            Certificate::from_der(der)
                .map_err(|error| Error::certificate(format!("certificate {} is damaged: {error}", index + 1)))
        };
        Ok(Self {
            question,
            chain: question.chain.iter().enumerate().map(read).collect::<Result<_>>()?,
            // The system's anchors are many, and one that is odd must not be in the way of the others.
            anchors: question.anchors.iter().filter_map(|der| Certificate::from_der(der).ok()).collect(),
            lists: question.lists.iter().map(|der| List::parse(der)).collect::<Result<_>>()?,
        })
    }

    /// A list of an authority that has issued nothing here proves nothing, and was given by mistake.
    fn check_lists(&self) -> Result<()> {
        for list in &self.lists {
            let mut issuers = self.chain.iter().map(|certificate| certificate.tbs_certificate().issuer().to_string());
            if !issuers.any(|issuer| issuer == list.issuer) {
                return Err(Error::certificate(format!(
                    "a revocation list is {}'s, who has issued none of these certificates",
                    list.issuer
                ))
                .hint("give the lists of those who have issued the leaf and the intermediates"));
            }
        }
        Ok(())
    }

    fn anchor_of(&self, certificate: &Certificate) -> Option<&Certificate> {
        self.anchors.iter().find(|anchor| blame::signed(anchor, certificate)).or_else(|| {
            // An intermediate may be trusted itself.
            self.anchors.iter().find(|anchor| *anchor == certificate)
        })
    }

    fn failed(&self, error: &rustls::Error) -> Verdict {
        let (path, complete) = self.likely_path();
        let told = Error::from(error);
        let (step, rule, hint) = blame::find(self, &path, complete, error)
            .unwrap_or_else(|| (None, told.message().to_owned(), told.hint_text().map(str::to_owned)));
        let certificate = step.and_then(|step| path.get(step)).map(subject_of);
        let failure = Failure { reason: reason(error), step, certificate, rule, hint };
        Verdict { verified: false, path: steps(&path, complete), failure: Some(failure) }
    }

    /// The path as far as signatures lead, and whether that is up to an anchor.
    fn likely_path(&self) -> (Vec<Certificate>, bool) {
        let mut path = vec![self.chain[0].clone()];
        loop {
            let last = &path[path.len() - 1];
            if let Some(anchor) = self.anchor_of(last) {
                let anchor = anchor.clone();
                if path[path.len() - 1] != anchor {
                    path.push(anchor);
                }
                return (path, true);
            }
            let next = self.chain.iter().find(|other| blame::signed(other, last) && !path.contains(other)).cloned();
            match next {
                Some(next) => path.push(next),
                None => return (path, false),
            }
        }
    }
}

fn steps(path: &[Certificate], complete: bool) -> Vec<Step> {
    path.iter()
        .enumerate()
        .map(|(index, certificate)| {
            let tbs = certificate.tbs_certificate();
            let role = match index {
                0 => "leaf",
                _ if complete && index + 1 == path.len() => "anchor",
                _ => "intermediate",
            };
            Step {
                role,
                subject: subject_of(certificate),
                serial: hex(tbs.serial_number().as_bytes()),
                not_after: date(tbs.validity().not_after.to_system_time()),
            }
        })
        .collect()
}

fn subject_of(certificate: &Certificate) -> String {
    let subject = certificate.tbs_certificate().subject();
    if subject.is_empty() { "a certificate without a subject".to_owned() } else { subject.to_string() }
}

impl Failure {
    /// The failure as an error whose exit code says that a chain did not verify.
    pub fn to_error(&self) -> Error {
        let at = self.certificate.as_deref().unwrap_or("the chain");
        let error = Error::new(Fault::Verification, self.rule.clone()).at(at);
        match &self.hint {
            Some(hint) => error.hint(hint.clone()),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests;
