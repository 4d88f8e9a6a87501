//! A certification authority in a directory.
//!
//! ```text
//! ca.json                     what it is; written last, once
//! journal                     everything issued and revoked: the truth that all else follows from
//! lock                        held by the one writer
//! certs/root-ALG.pem          the certificates of the authorities: root, tls-ca, signing-ca
//! certs/qsign-ca-bundle.pem   the roots
//! private/root-ALG.key.pem    their keys; may be moved elsewhere, and are asked for when they are needed
//! crl/tls-ca-ALG.crl, .pem    their newest revocation lists, in DER and in PEM
//! ```
//!
//! What was issued or revoked is in the journal before anybody gets to see it, so that a kill at any moment loses no
//! serial number and no revocation.

mod backup;
mod init;
mod journal;
mod lock;
mod settings;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64ct::{Base64, Encoding};
use der::{Decode, Encode};
use qtls_core::credentials::{
    Passphrase, Source, certificates, date, files as reading, key_kind, private_key, signing_key,
};
use qtls_core::policy::KeyAlgorithm;
use qtls_core::{Error, Result};
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;

pub use backup::{Summary, backup, restore};
pub use init::{Options, init};
pub use settings::Role;

use crate::crl::{self, Reason, Revocation};
use crate::files::{Readers, replace};
use crate::issue::{Additions, Authority, CLOCK_SKEW, Links, Profile, Template, encoding};
use crate::pem;
use journal::{Event, Journal, Record};
use lock::Lock;
use settings::Settings;

/// The file with the roots, as the deployment guide names it.
pub const BUNDLE: &str = "certs/qsign-ca-bundle.pem";
/// How long a revocation list holds unless another validity is asked for.
pub const CRL_LIFETIME: Duration = Duration::from_secs(30 * DAY.as_secs());

const DAY: Duration = Duration::from_secs(86_400);
const SETTINGS: &str = "ca.json";
const JOURNAL: &str = "journal";
const LOCK: &str = "lock";

/// An authority that was opened.
#[derive(Debug)]
pub struct Ca {
    dir: PathBuf,
    settings: Settings,
    algorithms: Vec<KeyAlgorithm>,
    state: State,
    writing: Option<(Journal, Lock)>,
}

/// One certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its serial number, in hex.
    pub serial: String,
    /// Who issued it: the name of the authority's files, such as `tls-ca-ecdsa-p384`.
    pub ca: String,
    /// What it is for: `server`, `client`, `signing` or `intermediate`.
    pub profile: String,
    /// The subject, as RFC 4514 writes it.
    pub subject: String,
    /// The alternative names.
    pub names: Vec<String>,
    /// The kind of its key.
    pub key: String,
    /// The start of its validity.
    pub not_before: SystemTime,
    /// The end of its validity.
    pub not_after: SystemTime,
    /// When it was revoked and why, if it was.
    pub revoked: Option<(SystemTime, Reason)>,
    /// The certificate.
    pub certificate: CertificateDer<'static>,
}

/// A certificate that was just issued.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Its serial number, in hex.
    pub serial: String,
    /// The certificate, and the intermediates up to the root, which is left out.
    pub chain: Vec<CertificateDer<'static>>,
}

impl Issued {
    /// The chain in PEM, the leaf first.
    pub fn pem(&self) -> Result<String> {
        self.chain.iter().map(|certificate| pem::encode(pem::CERTIFICATE, certificate)).collect()
    }
}

/// A revocation list that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Whose it is: `tls-ca-ecdsa-p384`.
    pub ca: String,
    /// Its number.
    pub number: u64,
    /// How many revocations it lists.
    pub revoked: usize,
    /// When it has to be made anew.
    pub next_update: SystemTime,
    /// The file in DER; the one in PEM stands beside it.
    pub path: PathBuf,
}

#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    /// Where each serial number stands in them.
    index: BTreeMap<String, usize>,
    /// The number of the newest list of each authority, and whether a revocation came after it.
    lists: BTreeMap<String, (u64, bool)>,
}

impl Ca {
    /// Opens an authority for issuing and revoking. No other process can do so meanwhile.
    pub fn open(dir: &Path) -> Result<Self> {
        check_complete(dir)?;
        let lock = Lock::take(&dir.join(LOCK))?;
        let (journal, records) = Journal::open(&dir.join(JOURNAL))?;
        Self::with(dir, records, Some((journal, lock)))
    }

    /// Opens an authority for looking at it, also while another process writes to it.
    pub fn open_to_read(dir: &Path) -> Result<Self> {
        check_complete(dir)?;
        let records = Journal::read(&dir.join(JOURNAL))?;
        Self::with(dir, records, None)
    }

    fn with(dir: &Path, records: Vec<Record>, writing: Option<(Journal, Lock)>) -> Result<Self> {
        let settings = Settings::read(&dir.join(SETTINGS))?;
        let algorithms = settings.algorithms().map_err(|error| error.at(dir.join(SETTINGS).display()))?;
        let mut state = State::default();
        for record in records {
            state.apply(record).map_err(|error| error.at(dir.join(JOURNAL).display()))?;
        }
        let ca = Self { dir: dir.to_owned(), settings, algorithms, state, writing };
        for algorithm in &ca.algorithms {
            for role in Role::ALL {
                ca.certificate(&role.label(*algorithm))?;
            }
        }
        Ok(ca)
    }

    /// The algorithms that there are authorities for, the default first.
    pub fn algorithms(&self) -> &[KeyAlgorithm] {
        &self.algorithms
    }

    /// What the common names of its authorities begin with.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Everything that was issued, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.state.entries
    }

    /// The authorities whose newest revocation list lacks a revocation, or is missing.
    pub fn outdated_lists(&self) -> Vec<String> {
        let outdated = |label: &&String| {
            self.state.lists.get(*label).is_none_or(|(_, outdated)| *outdated)
                || !self.dir.join(crl_file(label)).exists()
        };
        self.labels().iter().filter(outdated).cloned().collect()
    }

    /// The links that go into what an authority issues, unless others are asked for.
    pub fn links(&self, role: Role, algorithm: KeyAlgorithm) -> Links {
        self.settings.links(&role.label(algorithm))
    }

    /// Issues a certificate for the public key in `spki`. It is in the journal, on the disk, when this returns.
    pub fn issue(
        &mut self,
        (role, algorithm): (Role, KeyAlgorithm),
        template: &Template,
        links: Links,
        spki: &[u8],
        passphrase: Option<&Passphrase>,
    ) -> Result<Issued> {
        let label = role.label(algorithm);
        self.check_issuer(&label)?;
        let authority = self.authority(&label, passphrase)?;
        let certificate = authority
            .issue_with(template, &Additions { purpose: None, links }, spki)
            .map_err(|error| error.at(self.dir.join(certificate_file(&label)).display()))?;
        let event = Event::Issued {
            ca: label.clone(),
            profile: profile_name(template.profile).to_owned(),
            certificate: Base64::encode_string(&certificate),
        };
        self.record(event)?;
        let serial = self.state.entries.last().map(|entry| entry.serial.clone()).unwrap_or_default();
        Ok(Issued { serial, chain: self.chain(certificate, &label)? })
    }

    /// A certificate that was issued earlier, with its chain.
    pub fn issued(&self, entry: &Entry) -> Result<Issued> {
        Ok(Issued { serial: entry.serial.clone(), chain: self.chain(entry.certificate.clone(), &entry.ca)? })
    }

    /// Revokes a certificate. It is in the journal, on the disk, when this returns; [`Self::publish`] tells the world.
    pub fn revoke(&mut self, serial: &str, reason: Reason) -> Result<Entry> {
        let entry = self.find(serial)?;
        if let Some((at, reason)) = entry.revoked {
            return Err(Error::configuration(format!(
                "certificate {} ({}) was revoked on {} already: {reason}",
                entry.serial,
                entry.subject,
                date(at)
            )));
        }
        let serial = entry.serial.clone();
        self.record(Event::Revoked { serial: serial.clone(), reason: reason.name().to_owned() })?;
        self.find(&serial).cloned()
    }

    /// Makes and writes the next revocation list of an authority, valid for `lifetime`.
    pub fn publish(&mut self, label: &str, lifetime: Duration, passphrase: Option<&Passphrase>) -> Result<Published> {
        let authority = self.authority(label, passphrase)?;
        let now = SystemTime::now();
        let number = self.state.lists.get(label).map_or(1, |(number, _)| number + 1);
        let revocations: Vec<Revocation> = self
            .state
            .entries
            .iter()
            .filter(|entry| entry.ca == label)
            .filter_map(|entry| {
                let (at, reason) = entry.revoked?;
                Some(Revocation { serial: from_hex(&entry.serial)?, at, reason })
            })
            .collect();
        let next_update = now + lifetime;
        let list = crl::create(&authority, &revocations, number, now - CLOCK_SKEW, next_update)?;
        // The number first: one that is taken and never seen is no harm, one that is given twice would be.
        self.record(Event::Crl { ca: label.to_owned(), number })?;
        let path = self.dir.join(crl_file(label));
        replace(&path, &list, Readers::Everybody)?;
        replace(&self.dir.join(crl_pem_file(label)), pem::encode(pem::CRL, &list)?.as_bytes(), Readers::Everybody)?;
        Ok(Published { ca: label.to_owned(), number, revoked: revocations.len(), next_update, path })
    }

    /// The names of all authorities' files: `root-ecdsa-p384`, `tls-ca-ecdsa-p384`, …
    pub fn labels(&self) -> Vec<String> {
        self.algorithms.iter().flat_map(|algorithm| Role::ALL.map(|role| role.label(*algorithm))).collect()
    }

    /// The name of one authority's files.
    pub fn label(&self, role: Role, algorithm: KeyAlgorithm) -> String {
        role.label(algorithm)
    }

    /// The certificate with this serial number, in hex with or without colons, or an unambiguous beginning of it.
    pub fn find(&self, serial: &str) -> Result<&Entry> {
        let wanted = serial.replace(':', "").to_ascii_lowercase();
        let mut matching = self.state.entries.iter().filter(|entry| entry.serial.starts_with(&wanted));
        match (matching.next(), matching.next()) {
            (Some(entry), None) if wanted.len() >= 8 => Ok(entry),
            (Some(_), _) => Err(Error::configuration(format!("the serial number `{wanted}` is not unambiguous"))
                .hint("give all of it, as `qtls ca list` shows it")),
            _ => Err(Error::configuration(format!(
                "no certificate with the serial number `{}` was issued here",
                wanted.escape_debug()
            ))
            .at(self.dir.display())
            .hint("`qtls ca list` shows all that were")),
        }
    }

    fn record(&mut self, event: Event) -> Result<()> {
        let Some((journal, _)) = &mut self.writing else {
            return Err(Error::internal("the CA directory was opened for reading only"));
        };
        let record = Record { at: seconds(SystemTime::now()), event };
        journal.append(&record)?;
        self.state.apply(record)
    }

    /// An authority that was revoked issues nothing any more.
    fn check_issuer(&self, label: &str) -> Result<()> {
        let certificate = self.certificate(label)?;
        let revoked =
            self.state.entries.iter().find(|entry| entry.certificate == certificate && entry.revoked.is_some());
        match revoked.and_then(|entry| entry.revoked) {
            Some((at, reason)) => Err(Error::certificate(format!("{label} was revoked on {}: {reason}", date(at)))
                .at(self.dir.display())
                .hint("make a new CA: `qtls ca init --dir OTHER`")),
            None => Ok(()),
        }
    }

    fn authority(&self, label: &str, passphrase: Option<&Passphrase>) -> Result<Authority> {
        if !self.labels().iter().any(|known| known == label) {
            return Err(Error::configuration(format!("there is no {label} in this CA"))
                .at(self.dir.display())
                .hint(format!("there are {}", self.labels().join(", "))));
        }
        let path = self.dir.join(key_file(label));
        if !path.exists() {
            return Err(Error::certificate("the authority's key is not here")
                .at(path.display())
                .hint("if it is kept elsewhere, put it back for this one command, or leave it out with --issuer; if it is lost, \
                 restore a backup"));
        }
        let content = reading::read_secret(&path)?;
        let origin = path.to_string_lossy();
        let key = private_key(Source { origin: &origin, bytes: &content }, passphrase)?;
        let signer = signing_key(&key).map_err(|error| error.at(&origin))?;
        Authority::new(self.certificate(label)?, signer).map_err(|error| error.at(&origin))
    }

    fn certificate(&self, label: &str) -> Result<CertificateDer<'static>> {
        let path = self.dir.join(certificate_file(label));
        if !path.exists() {
            return Err(incomplete(&self.dir, &certificate_file(label)));
        }
        let found = certificates(Source { origin: &path.to_string_lossy(), bytes: &reading::read(&path)? })?;
        found.into_iter().next().ok_or_else(|| incomplete(&self.dir, &certificate_file(label)))
    }

    fn chain(&self, leaf: CertificateDer<'static>, label: &str) -> Result<Vec<CertificateDer<'static>>> {
        let mut chain = vec![leaf];
        if !label.starts_with("root-") {
            chain.push(self.certificate(label)?);
        }
        Ok(chain)
    }
}

impl State {
    fn apply(&mut self, record: Record) -> Result<()> {
        let at = UNIX_EPOCH + Duration::from_secs(record.at);
        match record.event {
            Event::Issued { ca, profile, certificate } => {
                let der = Base64::decode_vec(&certificate)
                    .map_err(|_| Error::certificate("a certificate in the journal is damaged"))?;
                let entry = entry(ca, profile, der)?;
                if self.index.insert(entry.serial.clone(), self.entries.len()).is_some() {
                    return Err(Error::internal(format!("the serial number {} was given twice", entry.serial)));
                }
                self.entries.push(entry);
            }
            Event::Revoked { serial, reason } => {
                let reason = reason.parse()?;
                let index = self.index.get(&serial).ok_or_else(|| {
                    Error::certificate(format!("the journal revokes {serial}, which it never issued"))
                })?;
                let entry = &mut self.entries[*index];
                entry.revoked = Some((at, reason));
                if let Some((_, outdated)) = self.lists.get_mut(&entry.ca) {
                    *outdated = true;
                }
            }
            Event::Crl { ca, number } => {
                self.lists.insert(ca, (number, false));
            }
        }
        Ok(())
    }
}

fn entry(ca: String, profile: String, der: Vec<u8>) -> Result<Entry> {
    let parsed = Certificate::from_der(&der).map_err(encoding)?;
    let tbs = parsed.tbs_certificate();
    let names = tbs
        .get_extension::<x509_cert::ext::pkix::SubjectAltName>()
        .map_err(encoding)?
        .map(|(_, names)| names.0)
        .unwrap_or_default();
    let spki = tbs.subject_public_key_info().to_der().map_err(encoding)?;
    Ok(Entry {
        serial: to_hex(tbs.serial_number().as_bytes()),
        ca,
        profile,
        subject: tbs.subject().to_string(),
        names: names
            .iter()
            .filter_map(crate::issue::AlternativeName::from_general_name)
            .map(|name| name.to_string())
            .collect(),
        key: key_kind(&spki)?.to_string(),
        not_before: tbs.validity().not_before.to_system_time(),
        not_after: tbs.validity().not_after.to_system_time(),
        revoked: None,
        certificate: CertificateDer::from(der),
    })
}

/// Says what is wrong with a directory that is no complete CA.
fn check_complete(dir: &Path) -> Result<()> {
    if dir.join(SETTINGS).is_file() {
        return match [JOURNAL, BUNDLE].into_iter().find(|file| !dir.join(file).is_file()) {
            Some(missing) => Err(incomplete(dir, missing)),
            None => Ok(()),
        };
    }
    if [JOURNAL, "certs", "private", "crl"].iter().any(|part| dir.join(part).exists()) {
        return Err(incomplete(dir, SETTINGS));
    }
    let none = Error::configuration("there is no CA in this directory").at(dir.display());
    Err(match abandoned_draft(dir) {
        Some(draft) => none.hint(format!(
            "an interrupted `qtls ca init` left {}: remove that, and run `qtls ca init` again",
            draft.display()
        )),
        None => none.hint(format!("make one with `qtls ca init --dir {}`", dir.display())),
    })
}

/// What a killed `init` leaves beside the directory that it was going to make.
fn abandoned_draft(dir: &Path) -> Option<PathBuf> {
    let absolute = std::path::absolute(dir).ok()?;
    let prefix = format!(".{}.new-", absolute.file_name()?.to_string_lossy());
    let siblings = fs::read_dir(absolute.parent()?).ok()?;
    siblings
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix)))
}

fn incomplete(dir: &Path, missing: &str) -> Error {
    Error::certificate(format!("the CA directory is incomplete: it lacks {missing}")).at(dir.display()).hint(
        "it was copied or removed by halves; restore a backup into another place: `qtls ca restore --dir DIR BACKUP`",
    )
}

fn profile_name(profile: Profile) -> &'static str {
    match profile {
        Profile::Root => "root",
        Profile::Intermediate { .. } => "intermediate",
        Profile::Server => "server",
        Profile::Client => "client",
        Profile::Signing => "signing",
    }
}

fn certificate_file(label: &str) -> String {
    format!("certs/{label}.pem")
}

fn key_file(label: &str) -> String {
    format!("private/{label}.key.pem")
}

fn crl_file(label: &str) -> String {
    format!("crl/{label}.crl")
}

fn crl_pem_file(label: &str) -> String {
    format!("crl/{label}.pem")
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn to_hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests;
