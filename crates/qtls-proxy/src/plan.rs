//! From a configuration to everything that serving needs, short of sockets: what start-up and `--test-config` share.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use qtls_core::credentials::files::{self, Crls};
use qtls_core::credentials::{Credential, Passphrase, Purpose, Validity};
use qtls_core::endpoint::{OnlyFor, ServerCredential, ServerEndpoint, ServerOptions};
use qtls_core::policy::{AlgorithmNames, Named, Policy, Profile};
use qtls_core::sessions::{SessionCounters, SessionLimits, SessionOptions};
use qtls_core::verify::{AllowList, ClientVerifier, Revocation, RevocationMode, TrustAnchors};
use qtls_core::{Error, Result};

use zeroize::Zeroizing;

use crate::client_plan::{self, ClientSections, ClientSide};
use crate::config::{
    self, Algorithms, AllowEntry, AlpnProtocol, CrlFiles, CrlMode, Loaded, Origins, Secret, ServerCertificates,
    ServerConfig, ServerTls, UpstreamAddress, UpstreamProtocol, VerifyClient,
};
use crate::handover;
use crate::hosts::{Host, Hosts, Reach, Target};
use crate::key_log::KeyLog;
use crate::limits;
use crate::policies;
use crate::sandbox::{Needs, Role};
use crate::starttls::Starttls;
use crate::ticket_keys::TicketKeyFiles;
use crate::upstream::{self, OwnAddresses, Upstream};
use crate::watch::Watched;

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
    /// The files that it was read from, as far as `reload` has them watched.
    pub watched: Watched,
    /// What the server goes on needing.
    pub needs: Needs,
}

impl Plan {
    /// Reads the files that the configuration names, and decides everything that can be decided before serving.
    ///
    /// # Errors
    /// The first thing that is wrong, with file, line and key.
    pub fn new(loaded: Loaded<ServerConfig>) -> Result<Self> {
        Self::after(loaded, None)
    }

    /// [`Plan::new`] for a server that is running with `hosts`: takes over what is the same, such as what is known of
    /// upstream servers.
    ///
    /// # Errors
    /// As for [`Plan::new`].
    pub fn succeeding(loaded: Loaded<ServerConfig>, hosts: &Hosts) -> Result<Self> {
        Self::after(loaded, Some(hosts))
    }

    fn after(loaded: Loaded<ServerConfig>, previous: Option<&Hosts>) -> Result<Self> {
        let Loaded { value: config, mut warnings, origins, file } = loaded;
        // Before they are read: what changes from here on is seen as a change.
        let needs = Needs::of(&config, file.as_deref());
        let watched = Watched::new(watched_paths(&config, &needs));
        warnings.extend(limits::check(&config.limits, ("server", config.server.max_connections), &origins)?);
        let mut planner = Planner {
            origins: &origins,
            key_log_file: config.key_log_file.clone(),
            starttls: config.server.starttls,
            previous,
            upstreams: Vec::new(),
            ticket_keys: TicketKeyFiles::default(),
            counters: previous.map(|hosts| hosts.session_counters().clone()).unwrap_or_default(),
            warnings,
            problems: Vec::new(),
        };
        let top = planner.host(&Section {
            prefix: String::new(),
            names: &[],
            alpn: &[],
            previous: previous.map(Hosts::top),
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
                let reach = Reach::of(host);
                let section = Section {
                    prefix: format!("virtual_hosts[{index}]."),
                    names: &host.names,
                    alpn: &host.alpn,
                    previous: previous.and_then(|hosts| hosts.same(&reach)),
                    certificates: &host.certificates,
                    tls: &host.tls,
                    algorithms: &host.algorithms,
                    upstream: host.upstream.as_ref(),
                };
                let host = planner.host(&section)?;
                Ok((reach, host))
            })
            .collect::<Result<Vec<_>>>()?;
        let Planner { mut warnings, problems, .. } = planner;
        let address = SocketAddr::new(config.server.listen_address, config.server.listen_port);
        refuse_loops(&config, &origins, address)?;
        if let Some(path) = &config.server.handover {
            let located = |error| origins.locate("server.handover", error);
            if handover::check(path).map_err(located)? == handover::Place::Missing {
                // `RuntimeDirectory=` makes one at each start, and takes it away at each stop.
                warnings.push(located(handover::missing(path)).one_line());
            }
        }
        Ok(Self { hosts: Hosts::new(top, virtual_hosts), config, origins, address, warnings, problems, watched, needs })
    }

    /// What is served, a line for each host, for the log at start and for `--test-config`.
    pub fn summary(&self) -> Vec<String> {
        let names = self.config.virtual_hosts.iter().map(|host| Reach::of(host).to_string());
        let top = match self.config.server.starttls {
            None => self.address.to_string(),
            Some(protocol) => format!("{} (starttls {protocol})", self.address),
        };
        let names = std::iter::once(top).chain(names);
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
    let profile = match host.endpoint.policy().profile {
        Profile::Default => String::new(),
        profile => format!("profile {}; ", profile.name()),
    };
    let report = match host.endpoint.stricter() {
        Some(stricter) if stricter.is_stricter() => format!("; tls.report tries it {stricter}"),
        _ => String::new(),
    };
    format!(
        "{target}; {profile}groups: {}; certificate{}: {}; sessions: {}{report}",
        host.endpoint.policy().group_names(),
        if certificates.len() > 1 { "s" } else { "" },
        certificates.join(", "),
        host.endpoint.resumption()
    )
}

/// One host's part of the configuration.
struct Section<'a> {
    /// What stands before `certificates.server_cert` and the like in messages.
    prefix: String,
    /// Its names; none at the top.
    names: &'a [config::HostName],
    /// The protocols that it is for; none is any.
    alpn: &'a [AlpnProtocol],
    /// The same host in the state before.
    previous: Option<&'a Host>,
    certificates: &'a ServerCertificates,
    tls: &'a ServerTls,
    algorithms: &'a Algorithms,
    upstream: Option<&'a config::Upstream>,
}

impl Section<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// What its sessions are bound to.
    fn binding_names(&self) -> Vec<String> {
        match (self.names, self.alpn) {
            // Not those of the host at the top: no name has a space.
            ([], [first, ..]) => vec![format!("any name, {first}")],
            (names, _) => names.iter().map(|name| name.as_str().to_owned()).collect(),
        }
    }

    /// Which host a sentence is about, where there are several.
    fn about(&self, sentence: &str) -> String {
        match (self.names, self.alpn) {
            ([], []) => sentence.to_owned(),
            ([], [protocol, ..]) => format!("any name ({protocol}): {sentence}"),
            ([name, ..], []) => format!("{name}: {sentence}"),
            ([name, ..], [protocol, ..]) => format!("{name} ({protocol}): {sentence}"),
        }
    }
}

struct Planner<'a> {
    origins: &'a Origins,
    key_log_file: Option<PathBuf>,
    /// What clients begin with, whatever host they come to.
    starttls: Option<Starttls>,
    /// The hosts of the state before.
    previous: Option<&'a Hosts>,
    /// Those of this state so far.
    upstreams: Vec<Arc<Upstream>>,
    ticket_keys: TicketKeyFiles,
    counters: Arc<SessionCounters>,
    warnings: Vec<String>,
    problems: Vec<Error>,
}

impl Planner<'_> {
    fn host(&mut self, section: &Section<'_>) -> Result<Host> {
        let policy = Arc::new(policies::in_force(self.origins, &section.prefix, section.tls, section.algorithms)?);
        for note in &policy.notes {
            self.warn(section, note);
        }
        let credentials = self.credentials(section)?;
        let target = match section.upstream {
            None => Target::Responder,
            Some(upstream) => {
                let target = self.upstream(section, upstream)?;
                match upstream.protocol {
                    UpstreamProtocol::Http => Target::Http(target),
                    UpstreamProtocol::Tcp => Target::Tcp(target),
                }
            }
        };
        let own = section.alpn.iter().map(|protocol| protocol.as_str().as_bytes().to_vec());
        let alpn = match target {
            _ if !section.alpn.is_empty() => own.collect(),
            Target::Responder | Target::Http(_) => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            // What is spoken inside isn't known here, unless it begins outside: nothing is promised about it.
            Target::Tcp(_) => self.starttls.map(|protocol| protocol.alpn().to_vec()).into_iter().collect(),
        };
        let endpoint = ServerEndpoint::new(ServerOptions {
            names: section.binding_names(),
            client_verifier: self.client_verifier(section, &policy)?,
            policy,
            credentials,
            sessions: self.sessions(section)?,
            alpn,
            previous: section.previous.map(|host| &host.endpoint),
        })
        .map_err(|error| self.origins.locate(&section.key("certificates.server_cert"), error.nested()))?;
        let endpoint = self.logging_keys(section, endpoint)?;
        let endpoint = self.trying(section, endpoint)?;
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

    /// With its secrets in a file, if they are to be.
    fn logging_keys(&mut self, section: &Section<'_>, mut endpoint: ServerEndpoint) -> Result<ServerEndpoint> {
        let Some(path) = self.key_log_file.as_deref().filter(|_| section.tls.dangerous_key_log) else {
            return Ok(endpoint);
        };
        let key_log = KeyLog::at(path);
        key_log.check().map_err(|error| self.origins.locate(&section.key("tls.dangerous_key_log"), error))?;
        let warning = format!(
            "tls.dangerous_key_log: the secrets of connections are written to {}: whoever reads it can decrypt recordings of \
             them",
            path.display()
        );
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
        let key_log: Arc<dyn rustls::KeyLog> = key_log;
        endpoint.danger_log_keys(&key_log);
        Ok(endpoint)
    }

    /// What a virtual host has from the top is told once.
    fn warn(&mut self, section: &Section<'_>, sentence: &str) {
        let sentence = section.about(sentence);
        if !self.warnings.iter().any(|told| sentence.ends_with(told.as_str())) {
            self.warnings.push(sentence);
        }
    }

    fn sessions(&mut self, section: &Section<'_>) -> Result<SessionOptions> {
        let limits = SessionLimits {
            timeout: section.tls.session_timeout,
            capacity: usize::try_from(section.tls.session_cache_size).unwrap_or(usize::MAX),
        };
        let ticket_keys = match &section.tls.ticket_keys {
            None => None,
            Some(from) => {
                let key = section.key("tls.ticket_keys");
                let named = (key.as_str(), self.origins);
                Some(self.ticket_keys.read(from, limits.timeout, named, &mut self.warnings)?)
            }
        };
        if ticket_keys.is_some() && limits.timeout.is_zero() {
            self.warn(section, "tls.ticket_keys has no effect: `session_timeout` 0 turns resumption off");
        } else if ticket_keys.is_some() && section.certificates.verify_client != VerifyClient::No {
            self.warn(
                section,
                "tls.ticket_keys has no effect where clients are verified: their sessions stay in this process, and other \
                 servers don't resume them (`session_cache_size` holds)",
            );
        }
        Ok(SessionOptions { limits, ticket_keys, counters: self.counters.clone() })
    }

    /// With the policy that is to be tried, if there is one.
    fn trying(&mut self, section: &Section<'_>, endpoint: ServerEndpoint) -> Result<ServerEndpoint> {
        let tried = policies::tried(self.origins, &section.prefix, section.tls, section.algorithms)?;
        let Some(tried) = tried else { return Ok(endpoint) };
        let from_the_top = !section.prefix.is_empty() && {
            let own = section.key(policies::REPORT);
            self.origins.are_the_same(&own, policies::REPORT)
        };
        let endpoint = endpoint.trying(Arc::new(tried));
        // That a host is already as strict as what is tried at the top needs no word.
        if !(from_the_top && endpoint.stricter().is_some_and(|stricter| !stricter.is_stricter())) {
            self.warnings.extend(endpoint.about_trial().iter().map(|sentence| section.about(sentence)));
        }
        Ok(endpoint)
    }

    /// The one of the state before where nothing about it has changed: whose turn it is and who was down goes on. Other
    /// certificates make another one, so that no connection that was made with the old ones is used again.
    fn upstream(&mut self, section: &Section<'_>, config: &config::Upstream) -> Result<Arc<Upstream>> {
        let tls = config.tls.as_ref().map(|tls| self.upstream_tls(section, config, tls)).transpose()?;
        let same_tls = |upstream: &Upstream| match (upstream.tls(), &tls) {
            (None, None) => true,
            (Some(known), Some(tls)) => known.is_the_same(tls),
            _ => false,
        };
        let same_host = section.previous.into_iter();
        let known =
            same_host.chain(self.previous.into_iter().flat_map(Hosts::iter)).filter_map(|host| match &host.target {
                Target::Http(upstream) | Target::Tcp(upstream) => Some(upstream),
                Target::Responder => None,
            });
        // Hosts that have one from the top have one together: servers are checked, and requests counted, once.
        let mut known = self.upstreams.iter().chain(known);
        let known = known.find(|upstream| upstream.config() == config && same_tls(upstream)).cloned();
        let upstream = known.unwrap_or_else(|| Arc::new(Upstream::new(config).over(tls)));
        self.upstreams.push(upstream.clone());
        Ok(upstream)
    }

    fn upstream_tls(
        &mut self,
        section: &Section<'_>,
        upstream: &config::Upstream,
        tls: &config::UpstreamTls,
    ) -> Result<upstream::Tls> {
        let key = section.key(policies::UPSTREAM_TLS);
        let policy = policies::of_upstream(self.origins, &section.prefix, tls, section.tls, section.algorithms)?;
        for note in client_plan::about_offering(&policy) {
            self.warn(section, &format!("upstream.tls: {note}"));
        }
        let sections = ClientSections {
            prefix: format!("{key}."),
            certificates: &tls.certificates(),
            verify_depth: Some(usize::from(tls.verify_depth)),
            verify_peer: !tls.dangerous_accept_any_certificate,
            server_name_indication: tls.server_name_indication,
        };
        let side =
            ClientSide::new(self.origins, &sections, Arc::new(policy), upstream::tls::alpn(upstream, self.starttls))?;
        self.warnings.extend(side.warnings.iter().cloned());
        self.problems.extend(side.problem.clone());
        if let Some(credential) = &side.credential {
            let told = credential.warnings(Purpose::Client, SystemTime::now(), &[]);
            self.warnings.extend(told.iter().map(|warning| format!("{}: {warning}", credential.origin)));
        }
        if self.starttls.or(upstream.starttls) == Some(Starttls::Postgres) {
            self.warn(
                section,
                "upstream.tls: PostgreSQL offers channel binding over TLS, and clients that take it, as libpq does unless \
                 told otherwise, bind their passwords to the certificate of this server: logins by SCRAM fail, unless \
                 PostgreSQL has the same certificate, or the clients have channel_binding=disable",
            );
        }
        if side.verified_by.is_none() {
            self.warn(
                section,
                "upstream.tls.dangerous_accept_any_certificate: no server behind is verified, and anyone on the way can \
                 pretend to be one, and read and change everything",
            );
        }
        upstream::Tls::new(side, upstream, tls.server_name.as_deref()).map_err(|error| self.origins.locate(&key, error))
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

/// Refuses upstream servers that are this server itself, as far as their addresses can be told without asking anybody.
fn refuse_loops(config: &ServerConfig, origins: &Origins, address: SocketAddr) -> Result<()> {
    let own = OwnAddresses::new([address]);
    let hosts = config.virtual_hosts.iter().enumerate();
    let hosts = hosts.map(|(index, host)| (format!("virtual_hosts[{index}].upstream"), &host.upstream));
    for (section, upstream) in std::iter::once(("upstream".to_owned(), &config.upstream)).chain(hosts) {
        for (index, server) in upstream.iter().flat_map(|upstream| &upstream.servers).enumerate() {
            let UpstreamAddress::Tcp { host, port } = &server.address else { continue };
            if own.includes_host(host, *port) {
                let message = format!(
                    "{server} is this server itself ({address}): each connection would make another one, without end"
                );
                return Err(origins
                    .error(&format!("{section}.servers[{index}]"), message)
                    .hint("name the server behind this one, or have one of the two listen on another port"));
            }
        }
    }
    Ok(())
}

/// What has to be read again when it changes.
fn watched_paths(config: &ServerConfig, needs: &Needs) -> Vec<PathBuf> {
    let config::Reload { watch_credentials, watch_config } = config.reload;
    let paths = |wanted: bool, role| needs.paths(role).filter(move |_| wanted).map(Path::to_owned);
    paths(watch_config, Role::Configuration).chain(paths(watch_credentials, Role::Credential)).collect()
}

/// The policy in force for clients that ask for no virtual host.
///
/// # Errors
/// What is wrong with it, with file, line and key.
pub fn policy(config: &ServerConfig, origins: &Origins) -> Result<Policy> {
    policies::in_force(origins, "", &config.tls, &config.algorithms)
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

pub(crate) fn located_under(origins: &Origins, prefix: &str, error: Error) -> Error {
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
