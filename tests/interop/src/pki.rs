//! Certificates as `qtls quickstart` issues them: made once a build, shared by all suites.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use crate::process::run_within;
use crate::programs;

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-384, which `qtls quickstart` gives the plain names unless told otherwise.
    EcdsaP384,
    /// RSA of 4096 bits.
    Rsa4096,
    /// ML-DSA-65.
    MlDsa65,
}

impl Algorithm {
    /// All three.
    pub const ALL: [Self; 3] = [Self::EcdsaP384, Self::Rsa4096, Self::MlDsa65];

    /// The name that `--alg` takes, and that is in the file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::EcdsaP384 => "ecdsa-p384",
            Self::Rsa4096 => "rsa-4096",
            Self::MlDsa65 => "ml-dsa-65",
        }
    }

    /// The signature scheme of a server with such a key, towards a peer that takes every scheme with equal liking.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::EcdsaP384 => "ecdsa_secp384r1_sha384",
            Self::Rsa4096 => "rsa_pss_rsae_sha512",
            Self::MlDsa65 => "mldsa65",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A directory of certificates for `localhost` and `127.0.0.1`.
#[derive(Clone, Debug)]
pub struct Pki {
    directory: PathBuf,
}

/// How old shared certificates may get. Far less than they are valid for.
const SHELF_LIFE: Duration = Duration::from_secs(12 * 3600);

impl Pki {
    /// The certificates that all suites share.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Pki> = LazyLock::new(|| Pki::prepared("shared"));
        &SHARED
    }

    /// Certificates of another authority, under the same names.
    pub fn stranger() -> &'static Self {
        static STRANGER: LazyLock<Pki> = LazyLock::new(|| Pki::prepared("stranger"));
        &STRANGER
    }

    /// Runs `qtls quickstart` into `directory`.
    pub fn quickstart(directory: &Path, arguments: &[&str]) -> Self {
        let mut command = programs::command("qtls");
        command.arg("quickstart").arg("--dir").arg(directory);
        command.args(["--name", "localhost", "--name", "127.0.0.1"]).args(arguments);
        // Three RSA-4096 keys may take their time on a busy machine.
        run_within(&mut command, b"", Duration::from_secs(180)).expect_success();
        Self { directory: directory.to_owned() }
    }

    /// Where the files are.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// One of the files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// All trust anchors.
    pub fn ca(&self) -> PathBuf {
        self.file("ca-bundle.pem")
    }

    /// The trust anchor of one kind.
    pub fn ca_of(&self, algorithm: Algorithm) -> PathBuf {
        self.file(&format!("ca/root-{algorithm}.pem"))
    }

    /// The server's chain and key.
    pub fn server(&self, algorithm: Algorithm) -> (PathBuf, PathBuf) {
        (self.file(&format!("server-cert-{algorithm}.pem")), self.file(&format!("server-key-{algorithm}.pem")))
    }

    /// The client's chain and key.
    pub fn client(&self, algorithm: Algorithm) -> (PathBuf, PathBuf) {
        (self.file(&format!("client-cert-{algorithm}.pem")), self.file(&format!("client-key-{algorithm}.pem")))
    }

    /// Takes the directory that this build of `qtls` made before, or makes it.
    fn prepared(name: &str) -> Self {
        let made_by = std::fs::metadata(programs::directory().join("qtls")).and_then(|file| file.modified());
        let made_by = made_by.expect("qtls has been built").duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
        let parent = programs::target_directory().join("interop-pki");
        let directory = parent.join(format!("{name}-{}", made_by.as_millis()));
        remove_old(&parent);
        if directory.exists() {
            return Self { directory };
        }
        std::fs::create_dir_all(&parent).expect("target is writable");
        let new = tempfile::Builder::new().prefix(".new-").tempdir_in(&parent).expect("target is writable");
        Self::quickstart(&new.path().join("pki"), &[]);
        // Another suite may have been faster: then its certificates are as good.
        let _ = std::fs::rename(new.path().join("pki"), &directory);
        assert!(directory.join("ca-bundle.pem").exists(), "{} has no ca-bundle.pem", directory.display());
        Self { directory }
    }
}

/// Removes certificates that are too old, of this build of `qtls` and of earlier ones.
fn remove_old(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let age = entry.metadata().and_then(|found| found.modified()).map(|made| made.elapsed().unwrap_or_default());
        if age.is_ok_and(|age| age > SHELF_LIFE) {
            // Another suite may be removing them, too.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
