//! A CA of ours that is run with `qtls ca`, and two clients of it.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::openssl::Client;
use crate::process::run;
use crate::programs;

/// A CA, and the certificates of two clients of it: `good` and `bad`.
#[derive(Debug)]
pub struct Authority(TempDir);

impl Authority {
    /// A new CA.
    #[expect(clippy::new_without_default, reason = "it runs programs")]
    pub fn new() -> Self {
        let authority = Self(tempfile::tempdir().expect("the temporary directory is writable"));
        authority.qtls(&["ca", "init", "--dir", "ca", "--alg", "ecdsa-p384", "--name", "Test CA"]);
        for name in ["good", "bad"] {
            let dns = format!("{name}.example");
            authority.qtls(&["ca", "issue", "client", "--dir", "ca", "--name", &dns, "--as", name]);
        }
        authority
    }

    /// Runs `qtls` beside the CA's directory, `ca`.
    pub fn qtls(&self, arguments: &[&str]) -> String {
        run(programs::command("qtls").current_dir(self.0.path()).args(arguments), b"").expect_success().stdout
    }

    /// The directory around the CA's.
    pub fn directory(&self) -> &Path {
        self.0.path()
    }

    /// A file of the CA.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("ca").join(name)
    }

    /// The trust anchors.
    pub fn bundle(&self) -> PathBuf {
        self.path("certs/qsign-ca-bundle.pem")
    }

    /// Its lists as they are now, in a directory of their own.
    pub fn lists(&self) -> PathBuf {
        let lists = self.0.path().join("lists");
        fs::create_dir_all(&lists).expect("it is writable");
        for entry in walk(&self.path(".")) {
            if entry.extension().is_some_and(|extension| extension == "crl") {
                fs::copy(&entry, lists.join(entry.file_name().expect("it has a name"))).expect("it can be copied");
            }
        }
        lists
    }

    /// OpenSSL with the certificate of one of the clients.
    pub fn client(&self, port: u16, name: &str) -> Client {
        let pair = (self.path(&format!("certs/{name}-cert.pem")), self.path(&format!("certs/{name}-key.pem")));
        Client::new(port).certificate(pair)
    }
}

/// All files below `directory`.
pub fn walk(directory: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory).expect("it is a directory").map(|entry| entry.expect("it can be read").path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
