//! Making a new authority: the whole directory at once.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use base64ct::{Base64, Encoding};
use qtls_core::credentials::{Passphrase, generate, signing_key};
use qtls_core::policy::KeyAlgorithm;
use qtls_core::{Error, Result};

use super::journal::{self, Event, Record};
use super::settings::{Role, Settings};
use super::{
    BUNDLE, CRL_LIFETIME, DAY, JOURNAL, SETTINGS, certificate_file, crl_file, crl_pem_file, key_file, seconds,
};
use crate::crl;
use crate::directory::{Content, Target};
use crate::issue::{Additions, Authority, CLOCK_SKEW, Links, Profile, Purpose, Template, public_key};
use crate::keys::private_key_pem;
use crate::pem;

/// What to make.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory. It must not exist, or be empty.
    pub dir: PathBuf,
    /// What the common names of the authorities begin with, in any script.
    pub name: String,
    /// The organization in their subjects.
    pub organization: Option<String>,
    /// One tree of authorities is made for each; the first is the default.
    pub algorithms: Vec<KeyAlgorithm>,
    /// What certificates link to; `{ca}` in a URL stands for the issuing authority's file name.
    pub links: Links,
    /// How many further authorities may stand below the TLS authority.
    pub path_len: u8,
    /// What all keys are encrypted under.
    pub passphrase: Option<Passphrase>,
}

const ROOT_LIFETIME: Duration = Duration::from_secs(7_305 * DAY.as_secs());
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3_652 * DAY.as_secs());

/// Makes an authority: for each algorithm a root (20 years), and below it a TLS authority and a signing authority
/// (10 years), each with an empty revocation list. All of it appears at once, or nothing does.
pub fn init(options: &Options) -> Result<PathBuf> {
    let mut algorithms = options.algorithms.clone();
    algorithms.dedup();
    if algorithms.is_empty() || algorithms.len() != options.algorithms.len() {
        return Err(Error::configuration("a CA needs at least one algorithm, and each of them once"));
    }
    let target = Target::new(&options.dir)?;
    let now = SystemTime::now();
    let settings =
        Settings::new(options.name.clone(), options.organization.clone(), &algorithms, options.links.clone());
    let mut made = Made { options, settings, now, contents: Vec::new(), records: Vec::new() };
    let mut bundle = String::new();
    for algorithm in algorithms {
        bundle.push_str(&made.tree(algorithm)?);
    }
    made.contents.push(Content::public(BUNDLE, bundle));
    made.contents.push(Content::public(JOURNAL, journal::text(&made.records)?));
    made.contents.push(Content::public(SETTINGS, made.settings.text()?));
    target.publish(&made.contents)?;
    Ok(target.into_dir())
}

struct Made<'a> {
    options: &'a Options,
    settings: Settings,
    now: SystemTime,
    contents: Vec<Content>,
    records: Vec<Record>,
}

impl Made<'_> {
    /// Makes the authorities for one algorithm; the root in PEM.
    fn tree(&mut self, algorithm: KeyAlgorithm) -> Result<String> {
        let root_key = self.key(&Role::Root.label(algorithm), algorithm)?;
        let root = Authority::root(&self.template(Role::Root, algorithm), root_key)?;
        let root_label = Role::Root.label(algorithm);
        self.keep(&root_label, &root)?;
        for role in [Role::Tls, Role::Signing] {
            let label = role.label(algorithm);
            let key = self.key(&label, algorithm)?;
            let purpose = if role == Role::Tls { Purpose::Tls } else { Purpose::Signing };
            let additions = Additions { purpose: Some(purpose), links: self.settings.links(&root_label) };
            let template = self.template(role, algorithm);
            let certificate = root.issue_with(&template, &additions, &public_key(key.as_ref())?)?;
            self.records.push(self.record(Event::Issued {
                ca: root_label.clone(),
                profile: "intermediate".to_owned(),
                certificate: Base64::encode_string(&certificate),
            }));
            self.keep(&label, &Authority::new(certificate, key)?)?;
        }
        pem::encode(pem::CERTIFICATE, root.certificate())
    }

    fn key(&mut self, label: &str, algorithm: KeyAlgorithm) -> Result<std::sync::Arc<dyn rustls::sign::SigningKey>> {
        let key = generate(algorithm)?;
        let text = private_key_pem(&key, self.options.passphrase.as_ref())?;
        self.contents.push(Content::secret(key_file(label), text.to_string()));
        signing_key(&key)
    }

    /// The certificate, and an empty revocation list: with none, a strict verifier accepts nobody.
    fn keep(&mut self, label: &str, authority: &Authority) -> Result<()> {
        self.contents
            .push(Content::public(certificate_file(label), pem::encode(pem::CERTIFICATE, authority.certificate())?));
        let list = crl::create(authority, &[], 1, self.now - CLOCK_SKEW, self.now + CRL_LIFETIME)?;
        self.contents.push(Content::binary(crl_file(label), list.clone()));
        self.contents.push(Content::public(crl_pem_file(label), pem::encode(pem::CRL, &list)?));
        self.records.push(self.record(Event::Crl { ca: label.to_owned(), number: 1 }));
        Ok(())
    }

    fn record(&self, event: Event) -> Record {
        Record { at: seconds(self.now), event }
    }

    fn template(&self, role: Role, algorithm: KeyAlgorithm) -> Template {
        let (profile, level, lifetime) = match role {
            Role::Root => (Profile::Root, "Root", ROOT_LIFETIME),
            Role::Tls => (Profile::Intermediate { path_len: self.options.path_len }, "TLS", AUTHORITY_LIFETIME),
            Role::Signing => (Profile::Intermediate { path_len: 0 }, "Signing", AUTHORITY_LIFETIME),
        };
        Template {
            profile,
            common_name: Some(format!("{} {level} {}", self.options.name, algorithm.kind())),
            organization: self.options.organization.clone(),
            names: Vec::new(),
            not_before: self.now - CLOCK_SKEW,
            not_after: self.now + lifetime,
        }
    }
}
