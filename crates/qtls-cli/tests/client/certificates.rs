//! Certificates for one test: a CA, and what it issues.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use qtls_core::credentials::{generate, signing_key};
use qtls_core::policy::KeyAlgorithm;
use qtls_pki::issue::{AlternativeName, Authority, Profile, Template, public_key};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(86_400);

/// A CA with a directory for the files that it makes.
pub(crate) struct Ca {
    authority: Authority,
    directory: TempDir,
}

/// A leaf that a [`Ca`] issued, in memory and as files.
pub(crate) struct Leaf {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) cert_file: PathBuf,
    pub(crate) key_file: PathBuf,
}

impl Ca {
    pub(crate) fn new() -> Self {
        Self::named("Test CA")
    }

    /// A CA under a name of its own, so that a chain to it leads nowhere else.
    pub(crate) fn named(name: &str) -> Self {
        let key = signing_key(&generate(KeyAlgorithm::EcdsaP256).unwrap()).unwrap();
        let authority = Authority::root(&template(Profile::Root, name, &[], 3650), key).unwrap();
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("ca.pem"), pem("CERTIFICATE", authority.certificate())).unwrap();
        Self { authority, directory }
    }

    /// The trust anchor, in PEM.
    pub(crate) fn file(&self) -> PathBuf {
        self.directory.path().join("ca.pem")
    }

    /// The trust anchor.
    pub(crate) fn certificate(&self) -> CertificateDer<'static> {
        self.authority.certificate().clone()
    }

    /// A server's leaf for `localhost`, `127.0.0.1` and `::1`.
    pub(crate) fn server(&self, algorithm: KeyAlgorithm) -> Leaf {
        self.server_for(algorithm, &["localhost"], 30)
    }

    /// A server's leaf for other names, that ends in `days` days.
    pub(crate) fn server_for(&self, algorithm: KeyAlgorithm, names: &[&str], days: i64) -> Leaf {
        let mut template = template(Profile::Server, "Test server", names, days);
        template.names.push(AlternativeName::Ip("127.0.0.1".parse().unwrap()));
        template.names.push(AlternativeName::Ip("::1".parse().unwrap()));
        self.leaf("server", &template, algorithm)
    }

    /// A client's leaf.
    pub(crate) fn client(&self, algorithm: KeyAlgorithm) -> Leaf {
        self.leaf("client", &template(Profile::Client, "Test client", &[], 30), algorithm)
    }

    fn leaf(&self, name: &str, template: &Template, algorithm: KeyAlgorithm) -> Leaf {
        let der = generate(algorithm).unwrap();
        let key = signing_key(&der).unwrap();
        let certificate = self.authority.issue(template, &public_key(key.as_ref()).unwrap()).unwrap();
        let file = |suffix: &str| self.directory.path().join(format!("{name}-{algorithm}-{suffix}.pem"));
        let (cert_file, key_file) = (file("cert"), file("key"));
        fs::write(&cert_file, pem("CERTIFICATE", &certificate)).unwrap();
        fs::write(&key_file, pem("PRIVATE KEY", der.secret_der())).unwrap();
        // What is written is what is served.
        assert_eq!(CertificateDer::from_pem_file(&cert_file).unwrap(), certificate);
        assert_eq!(PrivateKeyDer::from_pem_file(&key_file).unwrap().secret_der(), der.secret_der());
        Leaf { key: Arc::new(CertifiedKey::new(vec![certificate], key)), cert_file, key_file }
    }
}

fn template(profile: Profile, name: &str, names: &[&str], days: i64) -> Template {
    let now = SystemTime::now();
    let not_after = if days < 0 { now - DAY * days.unsigned_abs() as u32 } else { now + DAY * days as u32 };
    Template {
        profile,
        common_name: Some(name.to_owned()),
        organization: None,
        names: names.iter().map(|name| AlternativeName::Dns((*name).to_owned())).collect(),
        not_before: now - DAY * 60,
        not_after,
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    x509_cert::der::pem::encode_string(label, x509_cert::der::pem::LineEnding::LF, der).unwrap()
}
