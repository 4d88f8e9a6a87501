//! From a configuration to everything that serving needs, short of sockets: what start-up and `--test-config` share.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use qtls_core::credentials::{Credential, Validity, files};
use qtls_core::endpoint::{ServerEndpoint, ServerOptions, Signing};
use qtls_core::policy::{AlgorithmNames, GroupPreference, Mode, Policy};
use qtls_core::sessions::SessionLimits;
use qtls_core::verify::{ClientVerifier, TrustAnchors};
use qtls_core::{Error, Result};

use crate::config::{self, Loaded, Origins, ServerConfig, UpstreamProtocol, VerifyClient};
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
    /// The TLS side.
    pub endpoint: ServerEndpoint,
    /// Where the plaintext goes.
    pub mode: PlanMode,
    /// What the operator should know, a sentence each.
    pub warnings: Vec<String>,
    /// What makes a test of the configuration fail, but must not keep a server from starting: a crash would turn an
    /// expired certificate into an outage.
    pub problems: Vec<Error>,
}

/// Where the plaintext goes.
#[derive(Debug)]
pub enum PlanMode {
    /// To this program itself: the built-in pages.
    Responder,
    /// To an HTTP server.
    Http(Arc<Upstream>),
    /// To anything, as it comes.
    Tcp(Arc<Upstream>),
}

impl Plan {
    /// Reads the files that the configuration names, and decides everything that can be decided before serving.
    ///
    /// # Errors
    /// The first thing that is wrong, with file, line and key.
    pub fn new(loaded: Loaded<ServerConfig>) -> Result<Self> {
        let Loaded { value: config, mut warnings, origins } = loaded;
        let policy = Arc::new(policy(&config, &origins)?);
        warnings.extend(policy.notes.iter().cloned());

        let credential = credential(&config, &origins)?;
        let now = SystemTime::now();
        let problems = match credential.validity(now) {
            Validity::Valid { .. } => Vec::new(),
            validity => vec![
                origins
                    .locate(
                        "certificates.server_cert",
                        Error::certificate(format!("the chain in {} is {validity}", credential.origin)),
                    )
                    .hint("clients refuse it: renew the certificate, and check this host's clock"),
            ],
        };
        let mode = match &config.upstream {
            None => PlanMode::Responder,
            Some(upstream) => {
                let target = Arc::new(Upstream::new(upstream));
                match upstream.protocol {
                    UpstreamProtocol::Http => PlanMode::Http(target),
                    UpstreamProtocol::Tcp => PlanMode::Tcp(target),
                }
            }
        };
        let alpn = match mode {
            PlanMode::Responder | PlanMode::Http(_) => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            // What is spoken inside isn't known here: nothing is promised about it.
            PlanMode::Tcp(_) => Vec::new(),
        };
        let signing = Signing::of(credential.kind);
        let endpoint = ServerEndpoint::new(ServerOptions {
            client_verifier: client_verifier(&config, &origins, &policy)?,
            policy,
            credentials: vec![(credential, signing)],
            sessions: SessionLimits {
                timeout: config.tls.session_timeout,
                capacity: usize::try_from(config.tls.session_cache_size).unwrap_or(usize::MAX),
            },
            alpn,
        })
        .map_err(|error| origins.locate("certificates.server_cert", error.nested()))?;
        let address = SocketAddr::new(config.server.listen_address, config.server.listen_port);
        Ok(Self { config, origins, address, endpoint, mode, warnings, problems })
    }

    /// One line about what is served, for the log at start and for `--test-config`.
    pub fn summary(&self) -> String {
        let target = match &self.mode {
            PlanMode::Responder => "the built-in page".to_owned(),
            PlanMode::Http(upstream) => format!("http upstream {upstream}"),
            PlanMode::Tcp(upstream) => format!("tcp upstream {upstream}"),
        };
        let certificates: Vec<_> = self
            .endpoint
            .credentials()
            .map(|credential| format!("{} ({})", credential.name, credential.kind))
            .collect();
        format!(
            "{} → {target}; groups: {}; certificate: {}",
            self.address,
            self.endpoint.policy().group_names(),
            certificates.join(", ")
        )
    }
}

/// The policy of a server's configuration.
fn policy(config: &ServerConfig, origins: &Origins) -> Result<Policy> {
    let preference = match config.tls.group_preference {
        config::GroupPreference::PostQuantum => GroupPreference::PostQuantum,
        config::GroupPreference::Strict => GroupPreference::Strict,
        config::GroupPreference::Client => GroupPreference::Client,
    };
    let mode = Mode::new(config.tls.hybrid_mode, config.tls.pqc_only);
    Policy::resolve(mode, preference, &algorithm_names(&config.algorithms)).map_err(|error| located(origins, error))
}

/// The lists of names, as the policy takes them.
pub fn algorithm_names(algorithms: &config::Algorithms) -> AlgorithmNames {
    AlgorithmNames {
        kem: algorithms.kem.clone(),
        signature: algorithms.signature.clone(),
        signature_chain: algorithms.signature_chain.clone(),
        cipher: algorithms.cipher.clone(),
    }
}

/// Adds the place of the key that an error of the policy names.
pub fn located(origins: &Origins, error: Error) -> Error {
    match error.key_path().map(str::to_owned) {
        Some(key) => origins.locate(&key, error),
        None => error,
    }
}

/// Reads a chain and its key from files, and joins them. Errors name the key of the configuration that is at fault.
pub fn credential_from_files(origins: &Origins, cert: (&str, &Path), key: (&str, &Path)) -> Result<Credential> {
    files::credential(cert.1, key.1).map_err(|error| {
        let about_the_key = error.place().is_some_and(|place| Path::new(place) == files::resolve(key.1));
        origins.locate(if about_the_key { key.0 } else { cert.0 }, error.nested())
    })
}

fn credential(config: &ServerConfig, origins: &Origins) -> Result<Credential> {
    const CERT: &str = "certificates.server_cert";
    const KEY: &str = "certificates.server_key";
    let certificates = &config.certificates;
    let by_default = !origins.is_set(CERT) && !origins.is_set(KEY);
    if by_default && !files::resolve(&certificates.server_cert).exists() {
        return Err(origins
            .error(
                CERT,
                format!("no certificate is configured, and there is no {}", certificates.server_cert.display()),
            )
            .hint(
                "give a configuration (--config FILE, or /etc/qtls/config/server.json), or put server-cert.pem and \
             server-key.pem into /etc/qtls/certs; `qtls quickstart` makes both",
            ));
    }
    credential_from_files(origins, (CERT, &certificates.server_cert), (KEY, &certificates.server_key))
}

fn client_verifier(
    config: &ServerConfig,
    origins: &Origins,
    policy: &Arc<Policy>,
) -> Result<Option<Arc<ClientVerifier>>> {
    let mandatory = match config.certificates.verify_client {
        VerifyClient::No => return Ok(None),
        VerifyClient::Optional => false,
        VerifyClient::Required => true,
    };
    const KEY: &str = "certificates.ca_bundle";
    let bundle = config
        .certificates
        .ca_bundle
        .as_deref()
        .ok_or_else(|| origins.error(KEY, "verify_client needs a bundle of CA certificates"))?;
    let roots = files::roots(bundle).map_err(|error| origins.locate(KEY, error.nested()))?;
    let depth = usize::from(config.certificates.verify_depth);
    let anchors = TrustAnchors::new(roots, Some(depth), policy.clone())
        .map_err(|error| origins.locate(KEY, error.at(bundle.display()).nested()))?;
    Ok(Some(ClientVerifier::new(anchors, mandatory)))
}
