//! The keys and the chains.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime};

use der::pem::{LineEnding, encode_string};
use qtls_core::credentials::{generate, random, signing_key};
use qtls_core::policy::{KeyAlgorithm, Named};
use qtls_core::{Error, Result};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::{ALGORITHMS, CA_BUNDLE};
use crate::directory::Content;
use crate::issue::{AlternativeName, Authority, CLOCK_SKEW, Profile, Template, public_key};
use crate::names::ServerName;

/// One tree for each algorithm.
pub(super) struct Material {
    /// The end of the leaves' validity.
    pub(super) not_after: SystemTime,
    trees: Vec<Tree>,
}

struct Tree {
    algorithm: KeyAlgorithm,
    keys: Keys,
    root: CertificateDer<'static>,
    intermediate: CertificateDer<'static>,
    server: CertificateDer<'static>,
    client: CertificateDer<'static>,
}

struct Keys {
    root: SecretKey,
    intermediate: SecretKey,
    server: SecretKey,
    client: SecretKey,
}

type SecretKey = Zeroizing<PrivateKeyDer<'static>>;

const DAY: Duration = Duration::from_secs(86_400);
const LEAF: Duration = Duration::from_secs(365 * DAY.as_secs());
const INTERMEDIATE: Duration = Duration::from_secs(3_652 * DAY.as_secs());
const ROOT: Duration = Duration::from_secs(7_305 * DAY.as_secs());
const ORGANIZATION: &str = "Q-TLS quickstart";
const CLIENT_NAME: &str = "qtls-client";

impl Material {
    /// Makes all keys, in parallel, and certifies them from `now` on.
    pub(super) fn generate(names: &[ServerName], now: SystemTime) -> Result<Self> {
        // Told apart from the roots of other runs: certificate stores keep them by their name.
        let tag = random::<4>()?.map(|octet| format!("{octet:02x}")).concat();
        let keys = thread::scope(|scope| {
            let spawned =
                ALGORITHMS.map(|algorithm| (algorithm, [(); 4].map(|()| scope.spawn(move || generate(algorithm)))));
            spawned
                .into_iter()
                .map(|(algorithm, threads)| {
                    let [root, intermediate, server, client] = threads.map(join);
                    let keys = Keys { root: root?, intermediate: intermediate?, server: server?, client: client? };
                    Ok((algorithm, keys))
                })
                .collect::<Result<Vec<_>>>()
        })?;
        let trees = keys
            .into_iter()
            .map(|(algorithm, keys)| Tree::issue(algorithm, keys, names, now, &tag))
            .collect::<Result<_>>()?;
        Ok(Self { trees, not_after: now + LEAF })
    }

    /// Every file with a certificate or a key; `plain` is the algorithm whose leaves have the plain names, too.
    pub(super) fn contents(&self, plain: KeyAlgorithm) -> Result<Vec<Content>> {
        let mut contents = Vec::new();
        let bundle = self.trees.iter().map(|tree| certificate_pem(&tree.root)).collect::<Result<String>>()?;
        contents.push(Content::public(CA_BUNDLE, bundle));
        for tree in &self.trees {
            let name = tree.algorithm.name();
            let mut suffixes = vec![format!("-{name}")];
            if tree.algorithm == plain {
                suffixes.push(String::new());
            }
            for suffix in suffixes {
                for (role, leaf, key) in
                    [("server", &tree.server, &tree.keys.server), ("client", &tree.client, &tree.keys.client)]
                {
                    let chain = certificate_pem(leaf)? + &certificate_pem(&tree.intermediate)?;
                    contents.push(Content::public(format!("{role}-cert{suffix}.pem"), chain));
                    contents.push(Content::secret(format!("{role}-key{suffix}.pem"), key_pem(key)?));
                }
            }
            for (role, certificate, key) in
                [("root", &tree.root, &tree.keys.root), ("intermediate", &tree.intermediate, &tree.keys.intermediate)]
            {
                contents.push(Content::public(format!("ca/{role}-{name}.pem"), certificate_pem(certificate)?));
                contents.push(Content::secret(format!("ca/{role}-{name}.key.pem"), key_pem(key)?));
            }
        }
        contents.sort_by(|one, other| one.path().cmp(other.path()));
        Ok(contents)
    }
}

impl Tree {
    fn issue(algorithm: KeyAlgorithm, keys: Keys, names: &[ServerName], now: SystemTime, tag: &str) -> Result<Self> {
        let kind = algorithm.kind();
        let template = |profile, common_name: Option<String>, names, lifetime| Template {
            profile,
            common_name,
            organization: Some(ORGANIZATION.to_owned()),
            names,
            not_before: now - CLOCK_SKEW,
            not_after: now + lifetime,
        };
        let ca = |profile, level: &str, lifetime| {
            template(profile, Some(format!("Q-TLS {level} CA {kind} {tag}")), Vec::new(), lifetime)
        };
        let root = Authority::root(&ca(Profile::Root, "Root", ROOT), signing_key(&keys.root)?)?;
        let intermediate_key = signing_key(&keys.intermediate)?;
        let intermediate = root.issue(
            &ca(Profile::Intermediate { path_len: 0 }, "Intermediate", INTERMEDIATE),
            &public_key(intermediate_key.as_ref())?,
        )?;
        let issuer = Authority::new(intermediate, Arc::clone(&intermediate_key))?;
        let leaf =
            |template: &Template, key: &SecretKey| issuer.issue(template, &public_key(signing_key(key)?.as_ref())?);
        // A longer name does not fit into a common name (RFC 5280, appendix A); the alternative names hold them all.
        let common_name = names.first().map(ToString::to_string).filter(|name| name.len() <= 64);
        let alternative = names.iter().map(alternative_name).collect();
        let server = leaf(&template(Profile::Server, common_name, alternative, LEAF), &keys.server)?;
        let client_names = vec![AlternativeName::Dns(CLIENT_NAME.to_owned())];
        let client = leaf(&template(Profile::Client, Some(CLIENT_NAME.to_owned()), client_names, LEAF), &keys.client)?;
        Ok(Self {
            algorithm,
            root: root.certificate().clone(),
            intermediate: issuer.certificate().clone(),
            server,
            client,
            keys,
        })
    }
}

fn join<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread.join().unwrap_or_else(|_| Err(Error::internal("a thread that makes a key panicked")))
}

fn alternative_name(name: &ServerName) -> AlternativeName {
    match name {
        ServerName::Dns(name) => AlternativeName::Dns(name.clone()),
        ServerName::Ip(address) => AlternativeName::Ip(*address),
    }
}

fn certificate_pem(certificate: &CertificateDer<'_>) -> Result<String> {
    pem("CERTIFICATE", certificate)
}

fn key_pem(key: &PrivateKeyDer<'_>) -> Result<String> {
    pem("PRIVATE KEY", key.secret_der())
}

fn pem(label: &str, der: &[u8]) -> Result<String> {
    encode_string(label, LineEnding::LF, der).map_err(|error| Error::internal(format!("PEM can't be written: {error}")))
}
