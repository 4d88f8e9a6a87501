//! Certificates, made when they are needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use qtls_core::credentials::{Passphrase, generate, signing_key};
use qtls_core::policy::KeyAlgorithm;
use qtls_pki::crl::{self, Reason, Revocation};
use qtls_pki::issue::{AlternativeName, Authority, Profile, Template, public_key};
use qtls_pki::keys::private_key_pem;
use qtls_pki::pem;
use rustls::sign::SigningKey;

/// A root that issues leaves itself.
pub struct Ca {
    root: Authority,
    algorithm: KeyAlgorithm,
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Pair {
    pub cert: String,
    pub key: String,
    pub der: Vec<u8>,
}

impl Ca {
    pub fn new(algorithm: KeyAlgorithm) -> Self {
        let key = signing_key(&generate(algorithm).unwrap()).unwrap();
        // Not two of one name: then only a signature would tell whose certificate it is.
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        let name = format!("Root {}", COUNT.fetch_add(1, Ordering::Relaxed));
        Self { root: Authority::root(&template(Profile::Root, &name, Vec::new(), 7200), key).unwrap(), algorithm }
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        pem::encode(pem::CERTIFICATE, self.root.certificate()).unwrap()
    }

    /// A server's, for these names.
    pub fn server(&self, names: &[&str]) -> Pair {
        self.leaf(Profile::Server, names, 3600, None)
    }

    /// A client's, with this name.
    pub fn client(&self, name: &str) -> Pair {
        self.leaf(Profile::Client, &[name], 3600, None)
    }

    /// A server's whose key is encrypted.
    pub fn encrypted(&self, name: &str, passphrase: &str) -> Pair {
        self.leaf(Profile::Server, &[name], 3600, Some(passphrase))
    }

    pub fn leaf(&self, profile: Profile, names: &[&str], seconds: i64, passphrase: Option<&str>) -> Pair {
        let secret = generate(self.algorithm).unwrap();
        let key: Arc<dyn SigningKey> = signing_key(&secret).unwrap();
        let alternative = names.iter().map(|name| name.parse::<AlternativeName>().unwrap()).collect();
        let template = template(profile, names[0], alternative, seconds);
        let der = self.root.issue(&template, &public_key(key.as_ref()).unwrap()).unwrap();
        let passphrase =
            passphrase.map(|text| Passphrase::new(text.as_bytes().to_vec().into(), "a test's passphrase").unwrap());
        Pair {
            cert: pem::encode(pem::CERTIFICATE, &der).unwrap(),
            key: private_key_pem(&secret, passphrase.as_ref()).unwrap().to_string(),
            der: der.to_vec(),
        }
    }

    /// Its revocation list, with these certificates on it.
    pub fn crl(&self, revoked: &[&Pair]) -> String {
        let now = SystemTime::now();
        let entries: Vec<_> = revoked
            .iter()
            .map(|pair| Revocation { serial: serial(&pair.der), at: now, reason: Reason::Unspecified })
            .collect();
        let day = Duration::from_secs(86_400);
        pem::encode(pem::CRL, &crl::create(&self.root, &entries, 1, now, now + day).unwrap()).unwrap()
    }
}

fn serial(der: &[u8]) -> Vec<u8> {
    let hex = qtls_core::verify::Identity::of(der).unwrap().serial;
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn template(profile: Profile, name: &str, names: Vec<AlternativeName>, seconds: i64) -> Template {
    let now = SystemTime::now();
    let end = Duration::from_secs(seconds.unsigned_abs());
    Template {
        profile,
        common_name: Some(name.to_owned()),
        organization: None,
        names,
        not_before: now - Duration::from_secs(600),
        not_after: if seconds < 0 { now - end } else { now + end },
    }
}
