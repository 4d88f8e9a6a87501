//! A configuration that connections use: everything that was set, joined and checked.

use std::sync::Arc;
use std::time::SystemTime;

use qtls_core::credentials::{Credential, Purpose};
use qtls_core::endpoint::{ServerCredential, ServerEndpoint, ServerOptions, ServerTrust, client_config};
use qtls_core::error::Error;
use qtls_core::policy::Policy;
use qtls_core::sessions::{SessionLimits, SessionOptions, TicketKeys};
use qtls_core::verify::{AllowList, ClientVerifier, Revocation, TrustAnchors};
use rustls::ClientConfig;
use rustls::client::Resumption;

use crate::building::{Building, ClientAuth, Role};
use crate::failure::Failure;
use crate::words;

/// What connections are made from.
#[derive(Clone, Debug)]
pub(crate) enum Frozen {
    Client(Arc<ClientConfig>),
    Server(Arc<Server>),
}

/// A server's side.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) endpoint: ServerEndpoint,
    /// Who judges clients, also those who resume.
    pub(crate) verifier: Option<Arc<ClientVerifier>>,
}

/// How many sessions are kept where nothing else was said.
const CLIENT_SESSIONS: usize = 256;
const SERVER_SESSIONS: usize = 10_000;
/// How many intermediates a client's chain may have where nothing else was said.
const CLIENT_CHAIN_DEPTH: usize = 3;

impl Frozen {
    /// Joins what was set, and answers besides with what whoever runs the program should hear.
    pub(crate) fn new(building: &Building) -> Result<(Self, Vec<String>), Failure> {
        let mut notes = building.notes.clone();
        let policy = Policy::resolve(&building.choice)?;
        // Browsers are a server's business.
        let told = policy.notes.iter().filter(|note| building.role == Role::Server || !note.contains("browsers"));
        notes.extend(told.cloned());
        let policy = Arc::new(policy);
        let purpose = match building.role {
            Role::Client => Purpose::Client,
            Role::Server => Purpose::Server,
        };
        for credential in &building.credentials {
            notes.extend(about(credential, purpose, building));
        }
        if building.judge.as_ref().is_some_and(|judge| judge.alone) {
            notes.push("a callback of the program alone decides whom to trust: it can let in anyone".to_owned());
        }
        if building.key_log.is_some() {
            let what =
                "the secrets of all connections are given to the program: whoever gets them can decrypt recordings";
            notes.push(what.to_owned());
        }
        let frozen = match building.role {
            Role::Client => Self::client(building, &policy, &mut notes)?,
            Role::Server => Self::server(building, policy, &mut notes)?,
        };
        Ok((frozen, notes.iter().map(|note| words::of_c(note)).collect()))
    }

    fn client(building: &Building, policy: &Arc<Policy>, notes: &mut Vec<String>) -> Result<Self, Failure> {
        let trust = ServerTrust::Anchors(anchors(building, policy, building.depth, notes)?);
        let credential = building.credentials.first();
        let config = client_config(policy, trust, credential, building.sends_name, building.alpn.clone());
        let mut config = config?;
        let own = Arc::make_mut(&mut config);
        own.resumption = match building.sessions.unwrap_or(CLIENT_SESSIONS) {
            0 => Resumption::disabled(),
            sessions => Resumption::in_memory_sessions(sessions),
        };
        if let Some(key_log) = &building.key_log {
            own.key_log = key_log.clone();
        }
        Ok(Self::Client(config))
    }

    fn server(building: &Building, policy: Arc<Policy>, notes: &mut Vec<String>) -> Result<Self, Failure> {
        if building.credentials.is_empty() {
            return Err(Failure::configuration("a server needs a certificate")
                .hint("give it one with qtls_config_add_key_pair_files() or qtls_config_add_key_pair_pem()"));
        }
        let verifier = client_verifier(building, &policy, notes)?;
        let limits =
            SessionLimits { timeout: building.session_timeout, capacity: building.sessions.unwrap_or(SERVER_SESSIONS) };
        let ticket_keys = building.ticket_keys.as_ref().map(TicketKeys::from_file).transpose()?.map(Arc::new);
        if ticket_keys.is_some() && verifier.is_some() {
            notes.push(
                "the ticket keys have no effect: where clients are verified, their sessions stay in this configuration"
                    .to_owned(),
            );
        } else if ticket_keys.is_some() && limits.timeout.is_zero() {
            notes.push("the ticket keys have no effect: a session timeout of 0 turns resumption off".to_owned());
        }
        let mut endpoint = ServerEndpoint::new(ServerOptions {
            names: Vec::new(),
            policy,
            credentials: building.credentials.iter().cloned().map(ServerCredential::new).collect(),
            client_verifier: verifier.clone(),
            sessions: SessionOptions { ticket_keys, ..limits.into() },
            alpn: building.alpn.clone(),
            previous: None,
        })?;
        notes.extend(endpoint.never_chosen());
        if let Some(key_log) = &building.key_log {
            endpoint.danger_log_keys(key_log);
        }
        Ok(Self::Server(Arc::new(Server { endpoint, verifier })))
    }
}

fn client_verifier(
    building: &Building,
    policy: &Arc<Policy>,
    notes: &mut Vec<String>,
) -> Result<Option<Arc<ClientVerifier>>, Failure> {
    let mandatory = match building.client_auth {
        ClientAuth::None => {
            let unused = [
                (!building.roots.is_empty(), "the CA certificates"),
                (!building.crls.is_empty(), "the CRLs"),
                (!building.pins.is_empty(), "the pins"),
                (!building.allowed.is_empty(), "the allowed identities"),
                (building.judge.is_some(), "the verify callback"),
            ];
            for (_, what) in unused.iter().filter(|(set, _)| *set) {
                notes.push(format!(
                    "{what} have no effect: clients are not asked for certificates; qtls_config_set_client_auth() does that"
                ));
            }
            return Ok(None);
        }
        ClientAuth::Optional => false,
        ClientAuth::Required => true,
    };
    let anchors = anchors(building, policy, Some(building.depth.unwrap_or(CLIENT_CHAIN_DEPTH)), notes)?;
    let rules = building.allowed.iter().map(|(field, value)| [(field.as_str(), value.as_str())]);
    let allow = if building.allowed.is_empty() { None } else { Some(AllowList::parse(rules)?) };
    Ok(Some(ClientVerifier::with_allow(anchors, mandatory, allow)))
}

fn anchors(
    building: &Building,
    policy: &Arc<Policy>,
    depth: Option<usize>,
    notes: &mut Vec<String>,
) -> Result<TrustAnchors, Failure> {
    let own_trust = building.judge.as_ref().is_some_and(|judge| judge.alone);
    let mut anchors = if !building.roots.is_empty() {
        TrustAnchors::new(building.roots.iter().cloned(), depth, policy.clone())?
    } else if own_trust {
        TrustAnchors::none(policy.clone())
    } else {
        return Err(Failure::configuration("there are no CA certificates to verify peers with").hint(
            "add some with qtls_config_add_ca_file() or qtls_config_add_ca_pem(), or qtls_config_use_system_roots()",
        ));
    };
    if !building.crls.is_empty() {
        let revocation = Revocation::new(building.crls.clone(), building.crl_mode);
        let warnings;
        (anchors, warnings) = anchors.with_revocation(revocation, SystemTime::now())?;
        notes.extend(warnings);
    }
    anchors = anchors.with_pins(building.pins.iter().copied());
    if let Some(judge) = &building.judge {
        anchors = anchors.with_opinion(judge.clone());
    }
    Ok(anchors)
}

/// What is noteworthy about one of this side's own certificates.
fn about(credential: &Credential, purpose: Purpose, building: &Building) -> Vec<String> {
    let now = SystemTime::now();
    let mut told: Vec<_> = credential
        .warnings(purpose, now, &building.roots)
        .into_iter()
        .map(|warning| format!("{}: {warning}", credential.origin))
        .collect();
    let validity = credential.validity(now);
    if !validity.is_valid() {
        let error = Error::certificate(format!("the chain is {validity}, and peers refuse it"));
        told.push(format!("{}: {}", credential.origin, error.message()));
    }
    told
}
