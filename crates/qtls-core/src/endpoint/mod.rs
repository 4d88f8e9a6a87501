//! A policy, credentials and a verifier, made into rustls configurations; and for servers the choice among them.
//!
//! rustls takes the first mutual group in the *client's* order. To make the server's order win, a server endpoint
//! holds one rustls configuration for each pair of group and credential, and the choice is made before rustls sees the
//! ClientHello.

mod binding;
mod chain;
mod trial;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoClientAuth, NoServerSessionStorage};
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConfig, KeyLog, ServerConfig, SignatureScheme, version};

pub use binding::Binding;

use crate::client_hello::{GroupDecision, Offer, decide_group};
use crate::credentials::{Credential, KeyKind};
use crate::error::{Error, Result};
use crate::policy::{Group, Named, Policy, scheme_name};
use crate::provider::provider;
use crate::sessions::{SessionCounters, SessionOptions, Sessions, TicketKeys};
use crate::verify::{ClientVerifier, DangerousNoVerifier, ServerVerifier, TrustAnchors};

pub use chain::schemes as chain_schemes;
use trial::Trial;

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
pub struct ServerOptions<'a> {
    /// The names of the virtual host; none for the server at the top. Its sessions are bound to them.
    pub names: Vec<String>,
    /// What is offered and accepted.
    pub policy: Arc<Policy>,
    /// Our own certificates. At least one.
    pub credentials: Vec<ServerCredential>,
    /// Who verifies clients; `None` asks no client for a certificate.
    pub client_verifier: Option<Arc<ClientVerifier>>,
    /// How sessions are resumed.
    pub sessions: SessionOptions,
    /// ALPN protocols, most preferred first; empty negotiates none.
    pub alpn: Vec<Vec<u8>>,
    /// What this endpoint takes the place of. If the two are of one [`Binding`], its sessions stay; else there are none.
    pub previous: Option<&'a ServerEndpoint>,
}

/// One of a server's own certificates.
#[derive(Debug)]
pub struct ServerCredential {
    /// The chain and its key.
    pub credential: Credential,
    /// Where its signatures are made.
    pub signing: Signing,
    /// Which clients it is kept to; `None` is for all.
    pub only_for: Option<OnlyFor>,
}

impl ServerCredential {
    /// A certificate for all clients, whose signatures are made where their cost demands.
    pub fn new(credential: Credential) -> Self {
        let signing = Signing::of(credential.kind);
        Self { credential, signing, only_for: None }
    }
}

/// Keeps a certificate to the clients that trust it: today's browsers offer ML-DSA without trusting any ML-DSA root.
///
/// A client meets it by one of the names, or by one of the networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnlyFor {
    /// Server names that such clients ask for, in lower case.
    pub names: Vec<String>,
    /// Networks that such clients come from.
    pub networks: Vec<Network>,
}

impl OnlyFor {
    pub(crate) fn meets(&self, server_name: Option<&str>, client: Option<IpAddr>) -> bool {
        server_name.is_some_and(|asked| self.names.iter().any(|name| name.eq_ignore_ascii_case(asked)))
            || client.is_some_and(|client| self.networks.iter().any(|network| network.contains(client)))
    }
}

/// A network in CIDR notation: `10.0.0.0/8`, `fd00::/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether `address` is in this network. An IPv4 address is also recognised inside IPv6 (`::ffff:10.0.0.1`).
    pub fn contains(self, address: IpAddr) -> bool {
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
            IpAddr::V6(address) => (address.to_bits(), 128),
        };
        let ((network, width), (address, other)) = (bits(self.address), bits(address.to_canonical()));
        let shift = u32::from(width - self.prefix);
        width == other && network.checked_shr(shift).unwrap_or(0) == address.checked_shr(shift).unwrap_or(0)
    }
}

impl std::str::FromStr for Network {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Error::configuration(format!("\"{text}\" is no network: {why}"))
                .hint("write an address, a slash and the length of the prefix: 10.0.0.0/8, fd00::/8, 192.0.2.7/32")
        };
        let (address, prefix) = text.split_once('/').ok_or_else(|| wrong("the length of the prefix is missing"))?;
        let address: IpAddr = address.parse().map_err(|_| wrong("the address can't be read"))?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.parse().ok().filter(|prefix| *prefix <= width);
        let prefix = prefix.ok_or_else(|| wrong(&format!("the length of the prefix is not from 0 to {width}")))?;
        Ok(Self { address, prefix })
    }
}

/// Why a certificate was chosen, in words that stay the same, so that they can be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(String);

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One virtual host's side of every handshake.
#[derive(Debug)]
pub struct ServerEndpoint {
    policy: Arc<Policy>,
    client_verifier: Option<Arc<ClientVerifier>>,
    choices: Vec<Choice>,
    binding: Binding,
    sessions: Sessions,
    counters: Arc<SessionCounters>,
    trial: Option<Trial>,
}

#[derive(Debug)]
struct Choice {
    credential: Credential,
    signing: Signing,
    only_for: Option<OnlyFor>,
    /// What a client has to accept in this chain.
    chain_schemes: Vec<SignatureScheme>,
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
    /// Why it is this certificate.
    pub reason: Reason,
    /// Who verifies the client, also again where a session is resumed.
    pub client_verifier: Option<&'a ClientVerifier>,
}

impl ServerEndpoint {
    /// Prepares every configuration that a handshake may need.
    ///
    /// # Errors
    /// No credential, or one whose key `algorithms.signature` doesn't allow, or whose chain the profile doesn't.
    pub fn new(options: ServerOptions<'_>) -> Result<Self> {
        let ServerOptions { names, policy, mut credentials, client_verifier, sessions, alpn, previous } = options;
        for ServerCredential { credential, .. } in &credentials {
            is_allowed(&policy, credential, "the certificate's key")?;
        }
        let rank = |credential: &Credential| policy.signatures.iter().position(|entry| entry.covers(credential.kind));
        // A stable order: of two certificates of one kind, the one that was named first.
        credentials.sort_by_key(|own| rank(&own.credential));
        if credentials.iter().all(|own| own.only_for.is_some()) {
            return Err(Error::certificate("there is no certificate for every client")
                .hint("remove `only_for` from one of the certificates"));
        }
        let binding = Binding::of(&names, &policy, client_verifier.as_deref(), &alpn);
        let previous = previous.filter(|previous| previous.binding == binding);
        let previous = previous.map(|previous| &previous.sessions);
        let counters = sessions.counters.clone();
        let sessions = Sessions::new(sessions, binding, client_verifier.is_some(), previous);
        let build = |credential: &Credential, groups: &[Group]| {
            let provider = provider(groups, &policy.suites);
            server_config(provider, credential, client_verifier.clone(), &sessions, &alpn)
        };
        let choices = credentials
            .into_iter()
            .map(|ServerCredential { credential, signing, only_for }| {
                let chain_schemes = chain::schemes(&credential.key.cert);
                let configs = policy
                    .groups
                    .iter()
                    .map(|group| Ok((*group, build(&credential, &[*group])?)))
                    .collect::<Result<Vec<_>>>()?;
                let refusing = build(&credential, &policy.groups)?;
                Ok(Choice { credential, signing, only_for, chain_schemes, configs, refusing })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { policy, client_verifier, choices, binding, sessions, counters, trial: None })
    }

    /// Gives the secrets of every connection to `key_log`, and so recordings of them to whoever reads it.
    pub fn danger_log_keys(&mut self, key_log: &Arc<dyn KeyLog>) {
        for choice in &mut self.choices {
            let configs = choice.configs.iter_mut().map(|(_, config)| config);
            for config in configs.chain(std::iter::once(&mut choice.refusing)) {
                Arc::make_mut(config).key_log = key_log.clone();
            }
        }
    }

    /// What is offered and accepted.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What its sessions are bound to.
    pub fn binding(&self) -> Binding {
        self.binding
    }

    /// How sessions are resumed, in a few words: `tickets under key 1f2e3d4c, 3 known`.
    pub fn resumption(&self) -> String {
        self.sessions.to_string()
    }

    /// The keys of its tickets, if it gives any.
    pub fn ticket_keys(&self) -> Option<&TicketKeys> {
        self.sessions.ticket_keys()
    }

    /// What is counted of its sessions, and of those of the endpoints that count in the same place.
    pub fn session_counters(&self) -> &Arc<SessionCounters> {
        &self.counters
    }

    /// Our own certificates, most preferred first.
    pub fn credentials(&self) -> impl Iterator<Item = &Credential> {
        self.choices.iter().map(|choice| &choice.credential)
    }

    /// The certificate that a client gets who takes any.
    pub fn preferred(&self) -> Option<&Credential> {
        self.choices.iter().find(|choice| choice.only_for.is_none()).map(|choice| &choice.credential)
    }

    /// The names of certificates that no client can ever be given, each with the reason.
    pub fn never_chosen(&self) -> Vec<String> {
        let mut never = Vec::new();
        for (index, choice) in self.choices.iter().enumerate() {
            let before = self.choices[..index].iter().find(|before| {
                before.only_for.is_none()
                    && before.credential.kind == choice.credential.kind
                    && before.chain_schemes.iter().all(|scheme| choice.chain_schemes.contains(scheme))
            });
            if let Some(before) = before {
                never.push(format!(
                    "the certificate {} can never be chosen: {} is of the same kind ({}) and comes first",
                    choice.credential.name, before.credential.name, choice.credential.kind
                ));
            }
        }
        never
    }

    /// Decides on group and certificate for what a client offers, coming from `client` if that is known.
    ///
    /// Where there is nothing in common the decision says so, and its configuration makes rustls send the right alert.
    pub fn decide(&self, offer: &Offer, client: Option<IpAddr>) -> Decision<'_> {
        let (choice, scheme, reason) = self.choose(offer, client);
        let group = decide_group(&self.policy, offer);
        let config = group
            .and_then(|decision| choice.configs.iter().find(|(group, _)| *group == decision.group))
            .map_or(&choice.refusing, |(_, config)| config);
        let (credential, signing) = (&choice.credential, choice.signing);
        let client_verifier = self.client_verifier.as_deref();
        Decision { config, group, credential, scheme, signing, reason, client_verifier }
    }

    /// The first certificate, in the order of `algorithms.signature`, that the client can verify as a whole; else, since
    /// the RFC has servers go on with a chain of their choice (RFC 9846 §4.4.2.2), the first whose leaf it can verify.
    fn choose(&self, offer: &Offer, client: Option<IpAddr>) -> (&Choice, Option<SignatureScheme>, Reason) {
        let in_chains = offer.schemes_in_chains();
        // Why the ones before were passed over: the first of these is what people ask for.
        let mut passed_over: Option<String> = None;
        let mut chain_unknown = None;
        for choice in &self.choices {
            let kind = choice.credential.kind.name();
            if let Some(only_for) = &choice.only_for
                && !only_for.meets(offer.server_name.as_deref(), client)
            {
                passed_over.get_or_insert_with(|| format!("{kind} is kept to others"));
                continue;
            }
            let Some(signer) = choice.credential.key.key.choose_scheme(&offer.schemes) else {
                passed_over.get_or_insert_with(|| format!("client lacks {kind}"));
                continue;
            };
            if let Some(missing) = choice.chain_schemes.iter().find(|scheme| !in_chains.contains(scheme)) {
                let missing = scheme_name(*missing);
                passed_over.get_or_insert_with(|| format!("client lacks {missing} for the chain of {kind}"));
                chain_unknown.get_or_insert((choice, signer.scheme()));
                continue;
            }
            let why = passed_over.unwrap_or_else(|| "offered".to_owned());
            return (choice, Some(signer.scheme()), Reason(format!("{kind}: {why}")));
        }
        let why = passed_over.unwrap_or_default();
        match chain_unknown {
            Some((choice, scheme)) => {
                let kind = choice.credential.kind.name();
                (choice, Some(scheme), Reason(format!("{kind}: nothing better, {why}")))
            }
            None => {
                let for_all = self.choices.iter().find(|choice| choice.only_for.is_none());
                let choice = for_all.unwrap_or(&self.choices[0]);
                (choice, None, Reason(format!("{}: nothing fits, {why}", choice.credential.kind.name())))
            }
        }
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
/// A client certificate whose key `algorithms.signature` doesn't allow, or whose chain the profile doesn't.
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
        Some(credential) => {
            is_allowed(policy, credential, "the client certificate's key")?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(credential.key.clone())))
        }
    };
    config.enable_sni = send_server_name;
    config.alpn_protocols = alpn;
    Ok(Arc::new(config))
}

fn server_config(
    provider: Arc<CryptoProvider>,
    credential: &Credential,
    client_verifier: Option<Arc<ClientVerifier>>,
    sessions: &Sessions,
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
    // Also the sessions that are kept here stand behind the ticketer; rustls' own store is never in use.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    match sessions.ticketer() {
        Some(ticketer) => config.ticketer = ticketer,
        None => config.send_tls13_tickets = 0,
    }
    // 0-RTT stays off (the default of max_early_data_size): replayed requests are not ours to judge.
    Ok(Arc::new(config))
}

/// Whether one of our own certificates may be shown; `key` is what its key is called in the message.
fn is_allowed(policy: &Policy, credential: &Credential, key: &str) -> Result<()> {
    let Credential { kind, origin, .. } = credential;
    let profile = policy.profile;
    if !policy.allows_key(*kind) {
        let names = policy.signature_names();
        let (what, hint) = if profile.signatures().iter().any(|entry| entry.covers(*kind)) {
            let entry = entry_for(*kind);
            (
                format!("algorithms.signature ({names}) doesn't allow"),
                format!("add \"{entry}\" to algorithms.signature, or use another certificate"),
            )
        } else {
            (
                format!("the profile {profile} ({names}) doesn't allow"),
                format!("use a certificate with a key that {profile} has, or choose another tls.profile"),
            )
        };
        return Err(Error::certificate(format!("{key} is {kind}, which {what}")).at(origin).hint(hint));
    }
    policy.allows_own_chain(&chain_schemes(&credential.key.cert)).map_err(|scheme| {
        let members: Vec<_> = profile.chain_signatures().iter().map(|kind| kind.name()).collect();
        Error::certificate(format!(
            "the chain has a certificate that is signed with {}, and the profile {profile} has {} for the whole chain",
            scheme_name(scheme),
            members.join(", ")
        ))
        .at(origin)
        .hint(format!("have it issued by a CA whose keys {profile} has, or choose another tls.profile"))
    })
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
