//! `qtls ca issue`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use qtls_core::credentials::{date, files, generate, signing_key};
use qtls_core::policy::KeyAlgorithm;
use qtls_core::{Error, Result};
use qtls_pki::ca::{Ca, Issued, Role};
use qtls_pki::files::{Readers, create, vacant};
use qtls_pki::issue::{AlternativeName, CLOCK_SKEW, Links, Profile, Template, public_key};
use qtls_pki::keys::private_key_pem;
use qtls_pki::pem;
use qtls_pki::request::Request;

use super::Directory;
use super::subject::{Given, Subject, list};
use crate::qtls::passphrase::PassphraseOptions;
use crate::ui::{print, say};

/// Issue a certificate (1 year): from a request, or with a new key
///
/// Without a request a key is made as well, one for each algorithm of the CA: NAME-cert.pem and NAME-key.pem for the
/// first of them, NAME-cert-ALG.pem and NAME-key-ALG.pem for all where there are several.
#[derive(clap::Args)]
pub(in crate::qtls) struct Arguments {
    /// What the certificate is for
    #[arg(value_enum)]
    purpose: Purpose,
    #[command(flatten)]
    directory: Directory,
    /// The request to answer; its key stays where it is
    #[arg(long, value_name = "FILE")]
    csr: Option<PathBuf>,
    /// A name of the holder: host, IP address, `URI:…` or `email:…`; with --csr, a name of it to grant
    #[arg(long = "name", value_name = "NAME", num_args = 1..)]
    names: Vec<AlternativeName>,
    /// The common name, in any script; the first DNS name by default
    #[arg(long = "cn", value_name = "TEXT")]
    common_name: Option<String>,
    /// The organization, in any script
    #[arg(long = "org", value_name = "TEXT")]
    organization: Option<String>,
    /// Which algorithms of the CA issue; all by default, and for a request the one of its key, or else the first
    #[arg(long = "alg", value_name = "ALG[,ALG…]", value_delimiter = ',')]
    algorithms: Vec<KeyAlgorithm>,
    /// Which CA issues: by default the TLS CA for servers and clients, the signing CA for signers, the root for CAs
    #[arg(long, value_name = "root|tls|signing")]
    issuer: Option<Role>,
    /// For an intermediate: how many further CAs may stand below it
    #[arg(long, value_name = "N", default_value_t = 0)]
    path_length: u8,
    /// How many days the certificate holds
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_525))]
    days: u32,
    /// Where the issuer's revocation list is found, instead of what `ca init` was given; {ca} stands for its file name
    #[arg(long, value_name = "URL")]
    crl_url: Vec<String>,
    /// Where the issuer's certificate is found, instead of what `ca init` was given
    #[arg(long, value_name = "URL")]
    issuer_url: Vec<String>,
    /// Where an OCSP responder is found, instead of what `ca init` was given
    #[arg(long, value_name = "URL")]
    ocsp_url: Vec<String>,
    /// The directory for the certificate; the CA's certs/ by default
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// What the files are called; by default after what the certificate is for
    #[arg(long = "as", value_name = "NAME")]
    file_name: Option<String>,
    #[command(flatten)]
    passphrase: PassphraseOptions,
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Purpose {
    /// A TLS server
    Server,
    /// A TLS client
    Client,
    /// A signer of code and documents
    Signing,
    /// A further CA below this one
    Intermediate,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
            Self::Signing => "signing",
            Self::Intermediate => "intermediate",
        }
    }

    fn issuer(self) -> Role {
        match self {
            Self::Server | Self::Client => Role::Tls,
            Self::Signing => Role::Signing,
            Self::Intermediate => Role::Root,
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);

pub(super) fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<()> {
    let request = arguments.csr.as_deref().map(read_request).transpose()?;
    let profile = arguments.profile()?;
    let given = Given {
        common_name: arguments.common_name.as_deref(),
        organization: arguments.organization.as_deref(),
        names: &arguments.names,
    };
    let subject = match &request {
        Some(request) => Subject::requested(request, &given, profile)?,
        None => Subject::given(&given, profile)?,
    };
    let mut ca = Ca::open(&arguments.directory.dir)?;
    let algorithms = arguments.algorithms(&ca, request.as_ref())?;
    let plan = Plan::new(arguments, &algorithms, request.is_none());
    plan.check()?;
    for withheld in &subject.withheld {
        say("qtls", &format!("not granted: {}", withheld));
    }
    let now = SystemTime::now();
    let template = Template {
        profile,
        common_name: subject.common_name,
        organization: subject.organization,
        names: subject.names,
        not_before: now - CLOCK_SKEW,
        not_after: now + DAY * arguments.days,
    };
    let mut report = String::new();
    for algorithm in algorithms {
        let issued = arguments.issue(&mut ca, &template, algorithm, request.as_ref(), &plan)?;
        report.push_str(&format!("{}: {}", plan.certificate(algorithm).display(), issued.serial));
        report.push_str(&format!(", {algorithm}, until {}, {}\n", date(template.not_after), list(&template.names)));
    }
    print(out, &report)
}

/// Where the files go.
struct Plan {
    dir: PathBuf,
    name: String,
    algorithms: Vec<KeyAlgorithm>,
    with_keys: bool,
}

impl Plan {
    fn new(arguments: &Arguments, algorithms: &[KeyAlgorithm], with_keys: bool) -> Self {
        Self {
            dir: arguments.out.clone().unwrap_or_else(|| arguments.directory.dir.join("certs")),
            name: arguments.file_name.clone().unwrap_or_else(|| arguments.purpose.name().to_owned()),
            algorithms: algorithms.to_vec(),
            with_keys,
        }
    }

    /// Before anything is made: a file that is in the way would leave a certificate without a key, or the reverse.
    fn check(&self) -> Result<()> {
        if self.name.is_empty() || self.name.contains('/') || self.name.starts_with('.') {
            return Err(Error::configuration(format!("`{}` can't begin the names of files", self.name))
                .hint("--as NAME takes a word such as `www`; the directory is --out DIR"));
        }
        for algorithm in &self.algorithms {
            for path in self.certificates(*algorithm) {
                vacant(&path)?;
            }
            if self.with_keys {
                for path in self.keys(*algorithm) {
                    vacant(&path)?;
                }
            }
        }
        Ok(())
    }

    /// The file to name in the report.
    fn certificate(&self, algorithm: KeyAlgorithm) -> PathBuf {
        self.certificates(algorithm).swap_remove(0)
    }

    fn certificates(&self, algorithm: KeyAlgorithm) -> Vec<PathBuf> {
        self.files("cert", algorithm)
    }

    fn keys(&self, algorithm: KeyAlgorithm) -> Vec<PathBuf> {
        self.files("key", algorithm)
    }

    fn files(&self, what: &str, algorithm: KeyAlgorithm) -> Vec<PathBuf> {
        let plain = self.dir.join(format!("{}-{what}.pem", self.name));
        if self.algorithms.len() == 1 {
            return vec![plain];
        }
        let mut files = vec![self.dir.join(format!("{}-{what}-{algorithm}.pem", self.name))];
        if self.algorithms[0] == algorithm {
            files.push(plain);
        }
        files
    }
}

impl Arguments {
    fn profile(&self) -> Result<Profile> {
        if self.purpose != Purpose::Intermediate && self.path_length != 0 {
            return Err(Error::configuration("--path-length is for intermediates only").hint("leave it out"));
        }
        Ok(match self.purpose {
            Purpose::Server => Profile::Server,
            Purpose::Client => Profile::Client,
            Purpose::Signing => Profile::Signing,
            Purpose::Intermediate => Profile::Intermediate { path_len: self.path_length },
        })
    }

    fn algorithms(&self, ca: &Ca, request: Option<&Request>) -> Result<Vec<KeyAlgorithm>> {
        if let Some(missing) = self.algorithms.iter().find(|algorithm| !ca.algorithms().contains(algorithm)) {
            let known = ca.algorithms().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Error::configuration(format!("this CA has no {missing}"))
                .at(self.directory.dir.display())
                .hint(format!("it has {known}; another CA is made with `qtls ca init --dir OTHER --alg {missing}`")));
        }
        if self.algorithms.iter().enumerate().any(|(at, one)| self.algorithms[..at].contains(one)) {
            return Err(Error::configuration("--alg names an algorithm twice").hint("name each of them once"));
        }
        let Some(request) = request else {
            return Ok(if self.algorithms.is_empty() { ca.algorithms().to_vec() } else { self.algorithms.clone() });
        };
        match self.algorithms.as_slice() {
            [] => {
                let same = ca.algorithms().iter().find(|algorithm| algorithm.kind() == request.kind);
                Ok(same.or(ca.algorithms().first()).copied().into_iter().collect())
            }
            [one] => Ok(vec![*one]),
            _ => Err(Error::configuration("a request has one key, and gets one certificate")
                .hint("name one algorithm, or make a request for each key")),
        }
    }

    fn issue(
        &self,
        ca: &mut Ca,
        template: &Template,
        algorithm: KeyAlgorithm,
        request: Option<&Request>,
        plan: &Plan,
    ) -> Result<Issued> {
        let role = self.issuer.unwrap_or_else(|| self.purpose.issuer());
        let links = self.links(ca, role, algorithm);
        let passphrase = self.passphrase.read()?;
        let issued = match request {
            Some(request) => ca.issue((role, algorithm), template, links, &request.spki, passphrase.as_ref())?,
            None => {
                let key = generate(algorithm)?;
                let spki = public_key(signing_key(&key)?.as_ref())?;
                // The key before its certificate: a kill in between leaves a key that nobody trusts, which is no harm.
                let text = private_key_pem(&key, None)?;
                for path in plan.keys(algorithm) {
                    create(&path, text.as_bytes(), Readers::Owner)?;
                }
                ca.issue((role, algorithm), template, links, &spki, passphrase.as_ref()).inspect_err(|_| {
                    // Ours, made a moment ago, and of no use to anybody.
                    for path in plan.keys(algorithm) {
                        let _ = std::fs::remove_file(path);
                    }
                })?
            }
        };
        let chain = issued.pem()?;
        for path in plan.certificates(algorithm) {
            create(&path, chain.as_bytes(), Readers::Everybody).map_err(|error| {
                Error::new(error.fault(), error.message().to_owned()).at(path.display()).hint(format!(
                    "the certificate was issued all the same: `qtls ca show {} --dir {}` prints it",
                    issued.serial,
                    self.directory.dir.display()
                ))
            })?;
        }
        Ok(issued)
    }

    fn links(&self, ca: &Ca, role: Role, algorithm: KeyAlgorithm) -> Links {
        let label = ca.label(role, algorithm);
        let mut links = ca.links(role, algorithm);
        for (link, given) in
            [(&mut links.crl, &self.crl_url), (&mut links.issuer, &self.issuer_url), (&mut links.ocsp, &self.ocsp_url)]
        {
            if !given.is_empty() {
                *link = given.iter().map(|url| url.replace("{ca}", &label)).collect();
            }
        }
        links
    }
}

fn read_request(path: &Path) -> Result<Request> {
    let content = files::read(path)?;
    let sections = pem::sections(&content).map_err(|error| error.at(path.display()))?;
    // `NEW CERTIFICATE REQUEST` is what RFC 7468, section 7, has readers accept.
    let labelled = sections.into_iter().find(|section| section.label.ends_with(pem::REQUEST));
    let der = match labelled {
        Some(section) => section.der,
        None if content.first() == Some(&0x30) => content,
        None => {
            return Err(Error::certificate("holds no certification request")
                .at(path.display())
                .hint("make one with `qtls csr --key FILE --name NAME`, or with `openssl req -new`"));
        }
    };
    Request::parse(&der).map_err(|error| error.at(path.display()))
}
