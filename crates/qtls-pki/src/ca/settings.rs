//! `ca.json`: what an authority is, written once when it is made. Its presence says that the directory is complete.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use qtls_core::credentials::files;
use qtls_core::policy::{KeyAlgorithm, Named};
use qtls_core::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::issue::Links;

/// One of the authorities that stand for each algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// The trust anchor.
    Root,
    /// Issues for servers and clients of TLS.
    Tls,
    /// Issues for signers of code and documents.
    Signing,
}

impl Role {
    /// All of them, from the top.
    pub const ALL: [Self; 3] = [Self::Root, Self::Tls, Self::Signing];

    /// The name on the command line: `root`, `tls`, `signing`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Tls => "tls",
            Self::Signing => "signing",
        }
    }

    /// What files and the journal call it: `tls-ca-ecdsa-p384`.
    pub(super) fn label(self, algorithm: KeyAlgorithm) -> String {
        match self {
            Self::Root => format!("root-{algorithm}"),
            Self::Tls => format!("tls-ca-{algorithm}"),
            Self::Signing => format!("signing-ca-{algorithm}"),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = Error;

    fn from_str(given: &str) -> Result<Self> {
        Self::ALL.into_iter().find(|role| role.name() == given).ok_or_else(|| {
            Error::configuration(format!("`{}` is no authority of this CA", given.escape_debug()))
                .hint("one of root, tls, signing")
        })
    }
}

/// The content of `ca.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    format: u32,
    pub(super) name: String,
    pub(super) organization: Option<String>,
    algorithms: Vec<String>,
    #[serde(default)]
    crl_urls: Vec<String>,
    #[serde(default)]
    issuer_urls: Vec<String>,
    #[serde(default)]
    ocsp_urls: Vec<String>,
}

impl Settings {
    pub(super) fn new(name: String, organization: Option<String>, algorithms: &[KeyAlgorithm], links: Links) -> Self {
        Self {
            format: FORMAT,
            name,
            organization,
            algorithms: algorithms.iter().map(|algorithm| algorithm.name().to_owned()).collect(),
            crl_urls: links.crl,
            issuer_urls: links.issuer,
            ocsp_urls: links.ocsp,
        }
    }

    pub(super) fn read(path: &Path) -> Result<Self> {
        let settings: Self = serde_json::from_slice(&files::read(path)?).map_err(|error| {
            Error::configuration(format!("is damaged: {error}"))
                .at(path.display())
                .hint("restore the directory from a backup: `qtls ca restore --dir DIR BACKUP`")
        })?;
        if settings.format != FORMAT {
            return Err(Error::configuration(format!(
                "the CA directory has format {}, and this program knows format {FORMAT}",
                settings.format
            ))
            .at(path.display())
            .hint("use the version of qtls that made it, or a later one"));
        }
        Ok(settings)
    }

    pub(super) fn text(&self) -> Result<String> {
        serde_json::to_string_pretty(self)
            .map(|text| text + "\n")
            .map_err(|error| Error::internal(format!("ca.json can't be written: {error}")))
    }

    pub(super) fn algorithms(&self) -> Result<Vec<KeyAlgorithm>> {
        self.algorithms.iter().map(|name| name.parse()).collect()
    }

    /// The links in what the authority with this label issues: `{ca}` in a URL stands for the label.
    pub(super) fn links(&self, label: &str) -> Links {
        let fill = |urls: &[String]| urls.iter().map(|url| url.replace("{ca}", label)).collect();
        Links { crl: fill(&self.crl_urls), issuer: fill(&self.issuer_urls), ocsp: fill(&self.ocsp_urls) }
    }
}

const FORMAT: u32 = 1;
