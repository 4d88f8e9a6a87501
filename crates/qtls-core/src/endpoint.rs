//! A policy, credentials and a verifier, made into rustls configurations; and for servers the choice among them.
//!
//! rustls takes the first mutual group in the *client's* order. To make the server's order win, a server endpoint
//! holds one rustls configuration for each pair of group and credential, and the choice is made before rustls sees the
//! ClientHello.

use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoClientAuth, StoresServerSessions};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, ServerConfig, SignatureScheme, version};

use crate::client_hello::{GroupDecision, Offer, decide_group};
use crate::credentials::{Credential, KeyKind};
use crate::error::{Error, Result};
use crate::policy::{Group, Policy};
use crate::provider::provider;
use crate::sessions::SessionLimits;
use crate::verify::{ClientVerifier, DangerousNoVerifier, ServerVerifier, TrustAnchors};

/// How long a credential's signatures take, and so where they are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// Fast enough to be made on the worker's own thread.
    Inline,
    /// Slow enough to hold up the other connections of a worker: to be made elsewhere.
    OffWorker,
}

impl Signing {
    /// What a software key of this kind needs: RSA-4096 takes over a millisecond, everything else far less.
    pub fn of(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Rsa(bits) if bits >= 4096 => Self::OffWorker,
            _ => Self::Inline,
        }
    }
}

/// What a server endpoint is made of.
#[derive(Debug)]
pub struct ServerOptions {
    /// What is offered and accepted.
    pub policy: Arc<Policy>,
    /// Our own certificates. At least one.
    pub credentials: Vec<(Credential, Signing)>,
    /// Who verifies clients; `None` asks no client for a certificate.
    pub client_verifier: Option<Arc<ClientVerifier>>,
    /// How sessions are resumed.
    pub sessions: SessionLimits,
    /// ALPN protocols, most preferred first; empty negotiates none.
    pub alpn: Vec<Vec<u8>>,
}

/// One virtual host's side of every handshake.
#[derive(Debug)]
pub struct ServerEndpoint {
    policy: Arc<Policy>,
    choices: Vec<Choice>,
}

#[derive(Debug)]
struct Choice {
    credential: Credential,
    signing: Signing,
    configs: Vec<(Group, Arc<ServerConfig>)>,
    /// For clients with which no group is in common: rustls sends them the right alert.
    refusing: Arc<ServerConfig>,
}

/// What was decided for one ClientHello.
#[derive(Debug)]
pub struct Decision<'a> {
    /// The rustls configuration that carries the decision out.
    pub config: &'a Arc<ServerConfig>,
    /// The group; `None` where the client and the policy have none in common.
    pub group: Option<GroupDecision>,
    /// The certificate.
    pub credential: &'a Credential,
    /// What will be signed with; `None` where the client offers no scheme that the certificate can sign with.
    pub scheme: Option<SignatureScheme>,
    /// Where the signature has to be made.
    pub signing: Signing,
}

impl ServerEndpoint {
    /// Prepares every configuration that a handshake may need.
    ///
    /// # Errors
    /// No credential, or one whose key `algorithms.signature` doesn't allow.
    pub fn new(options: ServerOptions) -> Result<Self> {
        let ServerOptions { policy, mut credentials, client_verifier, sessions, alpn } = options;
        for (credential, _) in &credentials {
            if !policy.allows_key(credential.kind) {
                return Err(Error::certificate(format!(
                    "the certificate's key is {}, which algorithms.signature ({}) doesn't allow",
                    credential.kind,
                    policy.signature_names()
                ))
                .at(&credential.origin)
                .hint(format!(
                    "add \"{}\" to algorithms.signature, or use another certificate",
                    entry_for(credential.kind)
                )));
            }
        }
        let rank = |credential: &Credential| policy.signatures.iter().position(|entry| entry.covers(credential.kind));
        credentials.sort_by_key(|(credential, _)| rank(credential));
        if credentials.is_empty() {
            return Err(Error::certificate("there is no server certificate"));
        }
        let store = sessions.store();
        let build = |credential: &Credential, groups: &[Group]| {
            let provider = provider(groups, &policy.suites);
            server_config(provider, credential, client_verifier.clone(), store.clone(), &sessions, &alpn)
        };
        let choices = credentials
            .into_iter()
            .map(|(credential, signing)| {
                let configs = policy
                    .groups
                    .iter()
                    .map(|group| Ok((*group, build(&credential, &[*group])?)))
                    .collect::<Result<Vec<_>>>()?;
                let refusing = build(&credential, &policy.groups)?;
                Ok(Choice { credential, signing, configs, refusing })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { policy, choices })
    }

    /// What is offered and accepted.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Our own certificates, most preferred first.
    pub fn credentials(&self) -> impl Iterator<Item = &Credential> {
        self.choices.iter().map(|choice| &choice.credential)
    }

    /// Decides on group and certificate for what a client offers.
    ///
    /// Where there is nothing in common the decision says so, and its configuration makes rustls send the right alert.
    pub fn decide(&self, offer: &Offer) -> Decision<'_> {
        let scheme_of =
            |choice: &Choice| choice.credential.key.key.choose_scheme(&offer.schemes).map(|signer| signer.scheme());
        let chosen = self.choices.iter().find_map(|choice| scheme_of(choice).map(|scheme| (choice, Some(scheme))));
        let (choice, scheme) = chosen.unwrap_or((&self.choices[0], None));
        let group = decide_group(&self.policy, offer);
        let config = group
            .and_then(|decision| choice.configs.iter().find(|(group, _)| *group == decision.group))
            .map_or(&choice.refusing, |(_, config)| config);
        Decision { config, group, credential: &choice.credential, scheme, signing: choice.signing }
    }

    /// The configuration for bytes of which no ClientHello could be made: rustls answers them with the right alert.
    pub fn refusing(&self) -> &Arc<ServerConfig> {
        &self.choices[0].refusing
    }
}

/// Whom a client trusts.
#[derive(Clone, Debug)]
pub enum ServerTrust {
    /// Servers whose chain leads to one of these, and whose name is the one asked for.
    Anchors(TrustAnchors),
    /// Anyone (`tls.verify_peer: false`).
    DangerousAnyone,
}

/// A rustls configuration for a client that offers what `policy` says.
///
/// # Errors
/// A client certificate whose key `algorithms.signature` doesn't allow.
pub fn client_config(
    policy: &Arc<Policy>,
    trust: ServerTrust,
    credential: Option<&Credential>,
    send_server_name: bool,
    alpn: Vec<Vec<u8>>,
) -> Result<Arc<ClientConfig>> {
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        ServerTrust::Anchors(anchors) => ServerVerifier::new(anchors),
        ServerTrust::DangerousAnyone => DangerousNoVerifier::new(policy.clone()),
    };
    let builder = ClientConfig::builder_with_provider(provider(&policy.groups, &policy.suites))
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| Error::internal(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match credential {
        None => builder.with_no_client_auth(),
        Some(credential) if !policy.allows_key(credential.kind) => {
            return Err(Error::certificate(format!(
                "the client certificate's key is {}, which algorithms.signature ({}) doesn't allow",
                credential.kind,
                policy.signature_names()
            ))
            .at(&credential.origin)
            .hint(format!("add \"{}\" to algorithms.signature", entry_for(credential.kind))));
        }
        Some(credential) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(credential.key.clone()))),
    };
    config.enable_sni = send_server_name;
    config.alpn_protocols = alpn;
    Ok(Arc::new(config))
}

fn server_config(
    provider: Arc<CryptoProvider>,
    credential: &Credential,
    client_verifier: Option<Arc<ClientVerifier>>,
    store: Arc<dyn StoresServerSessions>,
    sessions: &SessionLimits,
    alpn: &[Vec<u8>],
) -> Result<Arc<ServerConfig>> {
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|error| Error::internal(error.to_string()))?;
    let builder = match client_verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_client_cert_verifier(Arc::new(NoClientAuth)),
    };
    let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(credential.key.clone())));
    config.ignore_client_order = true;
    config.alpn_protocols = alpn.to_vec();
    config.session_storage = store;
    if !sessions.enabled() {
        config.send_tls13_tickets = 0;
    }
    // 0-RTT stays off (the default of max_early_data_size): replayed requests are not ours to judge.
    Ok(Arc::new(config))
}

/// What to write into `algorithms.signature` so that a key of this kind is allowed.
fn entry_for(kind: KeyKind) -> String {
    match kind {
        KeyKind::Rsa(bits) if bits >= 4096 => "rsa-4096".to_owned(),
        KeyKind::Rsa(bits) if bits >= 3072 => "rsa-3072".to_owned(),
        KeyKind::Rsa(_) => "rsa-2048".to_owned(),
        kind => kind.name(),
    }
}
