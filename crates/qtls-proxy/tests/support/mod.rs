//! A CA, endpoints and pairs of connected sockets for tests. Not every test file uses all of it.
#![allow(dead_code, missing_docs, unreachable_pub)]

pub mod uneven;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use qtls_core::credentials::{Credential, generate, signing_key};
use qtls_core::endpoint::{ServerCredential, ServerEndpoint, ServerOptions, ServerTrust, Signing, client_config};
use qtls_core::policy::{AlgorithmNames, KeyAlgorithm, Policy, PolicyChoice};
use qtls_core::sessions::SessionLimits;
use qtls_core::verify::{ClientVerifier, TrustAnchors};
use qtls_pki::issue::{AlternativeName, Authority, Profile, Template, public_key};
use qtls_proxy::handshake::{self, Established, Failure};
use qtls_proxy::signing::SigningPool;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::SigningKey;
use tokio::net::{TcpListener, TcpStream};

/// A root and an intermediate.
pub struct Ca {
    pub root: Authority,
    pub intermediate: Authority,
}

pub fn template(profile: Profile, name: &str) -> Template {
    let now = SystemTime::now();
    Template {
        profile,
        common_name: Some(name.to_owned()),
        organization: None,
        names: match profile {
            Profile::Server | Profile::Client => vec![AlternativeName::Dns(name.to_owned())],
            _ => Vec::new(),
        },
        not_before: now - Duration::from_secs(60),
        // A leaf may not outlive its issuer.
        not_after: now
            + match profile {
                Profile::Root => Duration::from_secs(7200),
                Profile::Intermediate { .. } | Profile::Signing => Duration::from_secs(6000),
                Profile::Server | Profile::Client => Duration::from_secs(3600),
            },
    }
}

pub fn new_key(algorithm: KeyAlgorithm) -> Arc<dyn SigningKey> {
    signing_key(&generate(algorithm).unwrap()).unwrap()
}

impl Ca {
    pub fn new(algorithm: KeyAlgorithm) -> Self {
        Self::named("Test Root", algorithm)
    }

    pub fn named(name: &str, algorithm: KeyAlgorithm) -> Self {
        let root = Authority::root(&template(Profile::Root, name), new_key(algorithm)).unwrap();
        let key = new_key(algorithm);
        let profile = Profile::Intermediate { path_len: 1 };
        let certificate = root
            .issue(&template(profile, &format!("{name}, Intermediate")), &public_key(key.as_ref()).unwrap())
            .unwrap();
        Self { root, intermediate: Authority::new(certificate, key).unwrap() }
    }

    pub fn anchors(&self, policy: &Arc<Policy>, depth: usize) -> TrustAnchors {
        TrustAnchors::new([self.root.certificate().clone()], Some(depth), policy.clone()).unwrap()
    }

    pub fn chain(&self, profile: Profile, name: &str, key: &dyn SigningKey) -> Vec<CertificateDer<'static>> {
        let leaf = self.intermediate.issue(&template(profile, name), &public_key(key).unwrap()).unwrap();
        vec![leaf, self.intermediate.certificate().clone()]
    }

    pub fn credential(&self, profile: Profile, name: &str, algorithm: KeyAlgorithm) -> Credential {
        self.credential_with(profile, name, new_key(algorithm))
    }

    pub fn credential_with(&self, profile: Profile, name: &str, key: Arc<dyn SigningKey>) -> Credential {
        let chain = self.chain(profile, name, key.as_ref());
        Credential::from_chain(name, "a test's chain", chain, key, "a test's key").unwrap()
    }
}

pub fn policy(hybrid_mode: bool, pqc_only: bool, kem: Option<&[&str]>) -> Arc<Policy> {
    let names = AlgorithmNames {
        kem: kem.map(|names| names.iter().map(|&name| name.to_owned()).collect()),
        ..AlgorithmNames::default()
    };
    let (hybrid_mode, pqc_only) = (Some(hybrid_mode), Some(pqc_only));
    Arc::new(Policy::resolve(&PolicyChoice { hybrid_mode, pqc_only, names, ..PolicyChoice::default() }).unwrap())
}

pub fn endpoint(
    policy: &Arc<Policy>,
    credential: Credential,
    signing: Signing,
    client_verifier: Option<Arc<ClientVerifier>>,
) -> Arc<ServerEndpoint> {
    // Without tickets: a client that closes with something unread resets the connection.
    let sessions = SessionLimits { timeout: Duration::ZERO, capacity: 0 }.into();
    Arc::new(
        ServerEndpoint::new(ServerOptions {
            names: Vec::new(),
            policy: policy.clone(),
            credentials: vec![ServerCredential { signing, ..ServerCredential::new(credential) }],
            client_verifier,
            sessions,
            alpn: Vec::new(),
            previous: None,
        })
        .unwrap(),
    )
}

pub fn client(policy: &Arc<Policy>, ca: &Ca, credential: Option<&Credential>) -> Arc<ClientConfig> {
    client_config(policy, ServerTrust::Anchors(ca.anchors(policy, 3)), credential, true, Vec::new()).unwrap()
}

/// Two ends of one TCP connection.
pub async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
    (client.unwrap(), server.unwrap().0)
}

pub fn name(name: &str) -> ServerName<'static> {
    ServerName::try_from(name.to_owned()).unwrap()
}

pub fn pool() -> Arc<SigningPool> {
    Arc::new(SigningPool::new(4).unwrap())
}

/// Both sides of a handshake for `a.example`.
pub async fn handshake(
    endpoint: &ServerEndpoint,
    config: &Arc<ClientConfig>,
) -> (Result<Established, Failure>, Result<Established, Failure>) {
    let (client, server) = sockets().await;
    let pool = pool();
    tokio::join!(
        handshake::connect(client, config.clone(), name("a.example")),
        handshake::accept(server, Vec::new(), |offer| endpoint.decide(offer, None), &pool)
    )
}

/// Runs a test on one thread, as a worker does.
pub fn on_one_thread<T>(test: impl Future<Output = T>) -> T {
    on_one_thread_within(Duration::from_secs(60), test)
}

/// Runs a test on one thread, as a worker does, for at most `patience`.
pub fn on_one_thread_within<T>(patience: Duration, test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async { tokio::time::timeout(patience, test).await.expect("in time") })
}
