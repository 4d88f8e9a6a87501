//! The peers: where they are and how they are run. `peers/setup.sh` puts them there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use crate::process::run;

static ROOT: LazyLock<PathBuf> = LazyLock::new(|| installed("--print-root"));

/// A command for a program of the peers' own Debian: OpenSSL 3.5, curl, nginx, Redis. The directories of `shares` are
/// visible to it at the same path; nothing else of this machine is, but the network.
pub fn debian<P: AsRef<Path>>(program: &str, shares: impl IntoIterator<Item = P>) -> Command {
    let mut command = Command::new(script("run"));
    command.env("QTLS_PEERS_ROOT", &*ROOT);
    for share in shares {
        command.arg("--share").arg(share.as_ref());
    }
    command.arg(program);
    command
}

/// [`debian`], with the files of `etc` laid over the program's `/etc`.
pub fn debian_with<P: AsRef<Path>>(etc: &Path, program: &str, shares: impl IntoIterator<Item = P>) -> Command {
    let mut command = Command::new(script("run"));
    command.env("QTLS_PEERS_ROOT", &*ROOT).arg("--etc").arg(etc);
    for share in shares {
        command.arg("--share").arg(share.as_ref());
    }
    command.arg(program);
    command
}

/// [`debian`], for a program that refuses to run as root: it sees itself as `user` of that Debian.
pub fn debian_as<P: AsRef<Path>>(user: &str, program: &str, shares: impl IntoIterator<Item = P>) -> Command {
    let mut command = Command::new(script("run"));
    command.env("QTLS_PEERS_ROOT", &*ROOT).args(["--user", user]);
    for share in shares {
        command.arg("--share").arg(share.as_ref());
    }
    command.arg(program);
    command
}

/// A command that boots the systemd of that Debian.
pub(crate) fn boot() -> Command {
    let mut command = Command::new(script("boot"));
    command.env("QTLS_PEERS_ROOT", &*ROOT);
    command
}

/// A command for Node 24 with one of the scripts of `peers/`, which takes its options as one JSON object.
pub fn node(script_path: &str, options: &serde_json::Value) -> Command {
    static NODE: LazyLock<PathBuf> = LazyLock::new(|| installed("--print-node"));
    let mut command = Command::new(&*NODE);
    // Node would trust these in addition to the `ca` that a test gives.
    command.env_remove("NODE_EXTRA_CA_CERTS").arg(script(script_path)).arg(options.to_string());
    command
}

/// A command for the Go peer.
pub fn go() -> Command {
    static GO: LazyLock<PathBuf> = LazyLock::new(|| installed("--print-go"));
    Command::new(&*GO)
}

/// A command for a Python that has curl_cffi, grpcio, psycopg and websockets, with one of the scripts of `peers/`, which
/// takes its options as one JSON object.
pub fn python(script_path: &str, options: &serde_json::Value) -> Command {
    static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| installed("--print-python"));
    let mut command = Command::new(&*PYTHON);
    // What it prints is awaited line by line.
    command.arg("-u").arg(script(script_path)).arg(options.to_string());
    command
}

/// A command for OpenSSL 3.0 of this machine, which knows no post-quantum algorithm.
///
/// # Panics
/// When this machine has another OpenSSL: the suites of classical peers would prove nothing.
pub fn classical_openssl() -> Command {
    static CHECKED: LazyLock<()> = LazyLock::new(|| {
        let version = run(Command::new("openssl").arg("version"), b"").expect_success().stdout;
        assert!(version.starts_with("OpenSSL 3.0."), "needs OpenSSL 3.0 as in Debian 12; this is {version}");
    });
    LazyLock::force(&CHECKED);
    Command::new("openssl")
}

/// A command for curl of this machine, with OpenSSL 3.0.
///
/// # Panics
/// When this machine has another OpenSSL: the suites of classical peers would prove nothing.
pub fn classical_curl() -> Command {
    static CHECKED: LazyLock<()> = LazyLock::new(|| {
        let version = run(Command::new("curl").arg("--version"), b"").expect_success().stdout;
        assert!(version.contains("OpenSSL/3.0."), "needs curl with OpenSSL 3.0 as in Debian 12; this is {version}");
    });
    LazyLock::force(&CHECKED);
    Command::new("curl")
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(name)
}

fn installed(what: &str) -> PathBuf {
    let path = run(Command::new(script("setup.sh")).arg(what), b"").expect_success().stdout;
    let path = PathBuf::from(path.trim());
    assert!(path.exists(), "{} is not there: run tests/interop/peers/setup.sh first", path.display());
    path
}
