//! From a configuration to everything that serving needs, short of sockets: what start-up and `--test-config` share.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use qtls_core::credentials::files::{self, Crls};
use qtls_core::credentials::{Credential, Passphrase, Purpose, Validity};
use qtls_core::endpoint::{OnlyFor, ServerCredential, ServerEndpoint, ServerOptions};
use qtls_core::policy::{AlgorithmNames, GroupPreference, Mode, Policy};
use qtls_core::sessions::SessionLimits;
use qtls_core::verify::{AllowList, ClientVerifier, Revocation, RevocationMode, TrustAnchors};
use qtls_core::{Error, Result};

use zeroize::Zeroizing;

use crate::config::{
    self, Algorithms, AllowEntry, CrlFiles, CrlMode, Loaded, Origins, Secret, ServerCertificates, ServerConfig,
    ServerTls, UpstreamProtocol, VerifyClient,
};
use crate::hosts::{Host, Hosts, Target};
use crate::upstream::Upstream;

/// What a server does, decided and checked, with nothing opened yet.
#[derive(Debug)]
pub struct Plan {
    /// The configuration.
    pub config: ServerConfig,
    /// Where its values came from.
    pub origins: Origins,
    /// The address to listen on.
    pub address: SocketAddr,
    /// The servers behind that address.
    pub hosts: Hosts,
    /// What the operator should know, a sentence each.
    pub warnings: Vec<String>,
    /// What makes a test of the configuration fail, but must not keep a server from starting: a crash would turn an
    /// expired certificate into an outage.
    pub problems: Vec<Error>,
}

impl Plan {
    /// Reads the files that the configuration names, and decides everything that can be decided before serving.
    ///
    /// # Errors
    /// The first thing that is wrong, with file, line and key.
    pub fn new(loaded: Loaded<ServerConfig>) -> Result<Self> {
        let Loaded { value: config, warnings, origins } = loaded;
        let mut planner = Planner { origins: &origins, warnings, problems: Vec::new() };
        let top = planner.host(&Section {
            prefix: String::new(),
            name: None,
            certificates: &config.certificates,
            tls: &config.tls,
            algorithms: &config.algorithms,
            upstream: config.upstream.as_ref(),
        })?;
        let virtual_hosts = config
            .virtual_hosts
            .iter()
            .enumerate()
            .map(|(index, host)| {
                let section = Section {
                    prefix: format!("virtual_hosts[{index}]."),
                    name: host.names.first().map(config::HostName::as_str),
                    certificates: &host.certificates,
                    tls: &host.tls,
                    algorithms: &host.algorithms,
                    upstream: host.upstream.as_ref(),
                };
                Ok((host.names.clone(), planner.host(&section)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let Planner { warnings, problems, .. } = planner;
        let address = SocketAddr::new(config.server.listen_address, config.server.listen_port);
        Ok(Self { hosts: Hosts::new(top, virtual_hosts), config, origins, address, warnings, problems })
    }

    /// What is served, a line for each host, for the log at start and for `--test-config`.
    pub fn summary(&self) -> Vec<String> {
        let names = self.config.virtual_hosts.iter().map(|host| {
            let names: Vec<_> = host.names.iter().map(config::HostName::as_str).collect();
            names.join(", ")
        });
        let names = std::iter::once(self.address.to_string()).chain(names);
        names.zip(self.hosts.iter()).map(|(name, host)| format!("{name} → {}", describe(host))).collect()
    }
}

fn describe(host: &Host) -> String {
    let target = match &host.target {
        Target::Responder => "the built-in page".to_owned(),
        Target::Http(upstream) => format!("http upstream {upstream}"),
        Target::Tcp(upstream) => format!("tcp upstream {upstream}"),
    };
    let certificates: Vec<_> =
        host.endpoint.credentials().map(|credential| format!("{} ({})", credential.name, credential.kind)).collect();
    format!(
        "{target}; groups: {}; certificate{}: {}",
        host.endpoint.policy().group_names(),
        if certificates.len() > 1 { "s" } else { "" },
        certificates.join(", ")
    )
}

/// One host's part of the configuration.
struct Section<'a> {
    /// What stands before `certificates.server_cert` and the like in messages.
    prefix: String,
    /// Its first name; `None` at the top.
    name: Option<&'a str>,
    certificates: &'a ServerCertificates,
    tls: &'a ServerTls,
    algorithms: &'a Algorithms,
    upstream: Option<&'a config::Upstream>,
}

impl Section<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Which host a sentence is about, where there are several.
    fn about(&self, sentence: &str) -> String {
        self.name.map_or_else(|| sentence.to_owned(), |name| format!("{name}: {sentence}"))
    }
}

struct Planner<'a> {
    origins: &'a Origins,
    warnings: Vec<String>,
    problems: Vec<Error>,
}

impl Planner<'_> {
    fn host(&mut self, section: &Section<'_>) -> Result<Host> {
        let policy = Arc::new(self.policy(section)?);
        for note in &policy.notes {
            let note = section.about(note);
            // What a virtual host has from the top is told once.
            if !self.warnings.iter().any(|told| note.ends_with(told.as_str())) {
                self.warnings.push(note);
            }
        }
        let credentials = self.credentials(section)?;
        let target = match section.upstream {
            None => Target::Responder,
            Some(upstream) => {
                let target = Arc::new(Upstream::new(upstream));
                match upstream.protocol {
                    UpstreamProtocol::Http => Target::Http(target),
                    UpstreamProtocol::Tcp => Target::Tcp(target),
                }
            }
        };
        let alpn = match target {
            Target::Responder | Target::Http(_) => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            // What is spoken inside isn't known here: nothing is promised about it.
            Target::Tcp(_) => Vec::new(),
        };
        let endpoint = ServerEndpoint::new(ServerOptions {
            client_verifier: self.client_verifier(section, &policy)?,
            policy,
            credentials,
            sessions: SessionLimits {
                timeout: section.tls.session_timeout,
                capacity: usize::try_from(section.tls.session_cache_size).unwrap_or(usize::MAX),
            },
            alpn,
        })
        .map_err(|error| self.origins.locate(&section.key("certificates.server_cert"), error.nested()))?;
        self.warnings.extend(endpoint.never_chosen().iter().map(|sentence| section.about(sentence)));
        if !matches!(target, Target::Tcp(_))
            && let Some(credential) = endpoint.preferred().filter(|credential| credential.kind.is_post_quantum())
        {
            self.warnings.push(section.about(&format!(
                "browsers are given the certificate {} ({}), since they offer its algorithm, and refuse it, since they \
                 trust no such root unless told to; put another algorithm before it in algorithms.signature, or keep it to \
                 its clients with `only_for`",
                credential.name, credential.kind
            )));
        }
        Ok(Host { endpoint, target })
    }

    fn policy(&self, section: &Section<'_>) -> Result<Policy> {
        let preference = match section.tls.group_preference {
            config::GroupPreference::PostQuantum => GroupPreference::PostQuantum,
            config::GroupPreference::Strict => GroupPreference::Strict,
            config::GroupPreference::Client => GroupPreference::Client,
        };
        let mode = Mode::new(section.tls.hybrid_mode, section.tls.pqc_only);
        Policy::resolve(mode, preference, &algorithm_names(section.algorithms))
            .map_err(|error| located_under(self.origins, &section.prefix, error))
    }

    fn credentials(&mut self, section: &Section<'_>) -> Result<Vec<ServerCredential>> {
        let certificates = section.certificates;
        let (cert, key) = (section.key("certificates.server_cert"), section.key("certificates.server_key"));
        let by_default = !self.origins.is_set(&cert) && !self.origins.is_set(&key);
        if by_default && !files::resolve(&certificates.server_cert).exists() {
            let message =
                format!("no certificate is configured, and there is no {}", certificates.server_cert.display());
            return Err(self.origins.error(&cert, message).hint(
                "give a configuration (--config FILE, or /etc/qtls/config/server.json), or put server-cert.pem and \
                 server-key.pem into /etc/qtls/certs; `qtls quickstart` makes both",
            ));
        }
        let files = CredentialFiles {
            cert: (&cert, &certificates.server_cert),
            key: (&key, &certificates.server_key),
            passphrase: (
                &section.key("certificates.server_key_passphrase"),
                certificates.server_key_passphrase.as_ref(),
            ),
            passphrase_file: (
                &section.key("certificates.server_key_passphrase_file"),
                certificates.server_key_passphrase_file.as_deref(),
            ),
        };
        let first = files.read(self.origins)?;
        self.judge(&cert, &first);
        let mut credentials = vec![ServerCredential::new(first)];
        for (index, additional) in certificates.additional.iter().enumerate() {
            let key = |name: &str| section.key(&format!("certificates.additional[{index}].{name}"));
            let files = CredentialFiles {
                cert: (&key("cert"), &additional.cert),
                key: (&key("key"), &additional.key),
                passphrase: (&key("passphrase"), additional.passphrase.as_ref()),
                passphrase_file: (&key("passphrase_file"), additional.passphrase_file.as_deref()),
            };
            let credential = files.read(self.origins)?;
            self.judge(&key("cert"), &credential);
            let only_for = additional.only_for.as_ref().map(|only_for| OnlyFor {
                names: only_for.names.iter().map(|name| name.as_str().to_owned()).collect(),
                networks: only_for.networks.clone(),
            });
            if only_for == Some(OnlyFor::default()) {
                return Err(self
                    .origins
                    .error(&key("only_for"), "keeps the certificate to nobody")
                    .hint("give it `names` or `networks`, or remove it"));
            }
            credentials.push(ServerCredential { only_for, ..ServerCredential::new(credential) });
        }
        Ok(credentials)
    }

    fn judge(&mut self, key: &str, credential: &Credential) {
        let now = SystemTime::now();
        // The roots of those who will connect aren't known here.
        for warning in credential.warnings(Purpose::Server, now, &[]) {
            self.warnings.push(format!("{}: {warning}", credential.origin));
        }
        let validity = credential.validity(now);
        if !matches!(validity, Validity::Valid { .. }) {
            let error = Error::certificate(format!("the chain in {} is {validity}", credential.origin));
            self.problems.push(
                self.origins
                    .locate(key, error)
                    .hint("clients refuse it: renew the certificate, and check this host's clock"),
            );
        }
    }

    fn client_verifier(&mut self, section: &Section<'_>, policy: &Arc<Policy>) -> Result<Option<Arc<ClientVerifier>>> {
        let mandatory = match section.certificates.verify_client {
            VerifyClient::No => return Ok(None),
            VerifyClient::Optional => false,
            VerifyClient::Required => true,
        };
        let key = section.key("certificates.ca_bundle");
        let bundle = section
            .certificates
            .ca_bundle
            .as_deref()
            .ok_or_else(|| self.origins.error(&key, "verify_client needs a bundle of CA certificates"))?;
        let anchors = files::anchors(bundle).map_err(|error| self.origins.locate(&key, error.nested()))?;
        self.warnings.extend(anchors.warnings);
        let depth = usize::from(section.certificates.verify_depth);
        let anchors = TrustAnchors::new(anchors.certificates, Some(depth), policy.clone())
            .map_err(|error| self.origins.locate(&key, error.at(bundle.display()).nested()))?;
        let crl = section.certificates.crl.as_ref();
        let anchors =
            with_revocation(self.origins, &section.key("certificates.crl"), anchors, crl, &mut self.warnings)?;
        let allow = section.certificates.allow.as_ref().map(|entries| {
            let key = section.key("certificates.allow");
            AllowList::parse(entries.iter().map(AllowEntry::pairs))
                .map_err(|error| located_under(self.origins, &key, error))
        });
        Ok(Some(ClientVerifier::with_allow(anchors, mandatory, allow.transpose()?)))
    }
}

/// The lists of names, as the policy takes them.
pub fn algorithm_names(algorithms: &Algorithms) -> AlgorithmNames {
    AlgorithmNames {
        kem: algorithms.kem.clone(),
        signature: algorithms.signature.clone(),
        signature_chain: algorithms.signature_chain.clone(),
        cipher: algorithms.cipher.clone(),
    }
}

/// Adds the place of the key that an error of the policy names.
pub fn located(origins: &Origins, error: Error) -> Error {
    located_under(origins, "", error)
}

fn located_under(origins: &Origins, prefix: &str, error: Error) -> Error {
    match error.key_path().map(|key| format!("{prefix}{key}")) {
        Some(key) => origins.locate(&key, error.rekeyed(&key)),
        None => error,
    }
}

/// Where a chain and its key are, each with the key of the configuration that says so.
#[derive(Clone, Copy, Debug)]
pub struct CredentialFiles<'a> {
    /// The chain.
    pub cert: (&'a str, &'a Path),
    /// The key.
    pub key: (&'a str, &'a Path),
    /// What decrypts the key, as it is.
    pub passphrase: (&'a str, Option<&'a Secret>),
    /// What decrypts the key, in a file.
    pub passphrase_file: (&'a str, Option<&'a Path>),
}

impl CredentialFiles<'_> {
    /// Reads the two, and joins them. Errors name the key of the configuration that is at fault.
    ///
    /// # Errors
    /// A file that can't be read, or doesn't fit the others.
    pub fn read(&self, origins: &Origins) -> Result<Credential> {
        let passphrase = self.passphrase(origins)?;
        files::credential_with(self.cert.1, self.key.1, passphrase.as_ref()).map_err(|error| {
            let about_the_key = error.place().is_some_and(|place| Path::new(place) == files::resolve(self.key.1));
            origins.locate(if about_the_key { self.key.0 } else { self.cert.0 }, error.nested())
        })
    }

    fn passphrase(&self, origins: &Origins) -> Result<Option<Passphrase>> {
        let (key, file_key) = (self.passphrase.0, self.passphrase_file.0);
        match (self.passphrase.1, self.passphrase_file.1) {
            (Some(_), Some(_)) => Err(origins
                .error(key, format!("there are two passphrases: this one and `{file_key}`"))
                .hint("remove one of the two")),
            (Some(secret), None) => {
                let octets = Zeroizing::new(secret.reveal().as_bytes().to_vec());
                Passphrase::new(octets, key).map(Some).map_err(|error| origins.locate(key, error.nested()))
            }
            (None, Some(path)) => {
                files::passphrase(path).map(Some).map_err(|error| origins.locate(file_key, error.nested()))
            }
            (None, None) => Ok(None),
        }
    }
}

/// Adds revocation lists to `anchors`, and to `warnings` what an operator should hear of them.
///
/// # Errors
/// A list that can't be used; `key` is the section of the configuration that names the lists.
pub fn with_revocation(
    origins: &Origins,
    key: &str,
    anchors: TrustAnchors,
    crl: Option<&CrlFiles>,
    warnings: &mut Vec<String>,
) -> Result<TrustAnchors> {
    let Some(crl) = crl else { return Ok(anchors) };
    let mode = match crl.mode {
        CrlMode::Hard => RevocationMode::Hard,
        CrlMode::Soft => RevocationMode::Soft,
    };
    let paths = format!("{key}.paths");
    let Crls { crls, warnings: skipped } =
        files::crls(&crl.paths).map_err(|error| origins.locate(&paths, error.nested()))?;
    warnings.extend(skipped);
    let (anchors, told) = anchors
        .with_revocation(Revocation::new(crls, mode), SystemTime::now())
        .map_err(|error| origins.locate(&paths, error.nested()))?;
    warnings.extend(told);
    Ok(anchors)
}
