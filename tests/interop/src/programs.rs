//! The binaries of Q-TLS itself.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A command for one of our binaries, without the environment variables that would configure it.
///
/// # Panics
/// When it has not been built.
pub fn command(name: &str) -> Command {
    let path = directory().join(name);
    assert!(path.exists(), "{} is not there: run `cargo build --workspace` first", path.display());
    let mut command = Command::new(path);
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("QTLS_") {
            command.env_remove(variable);
        }
    }
    command
}

/// Where the binaries are: `QTLS_BIN_DIR`, or beside the running test.
pub fn directory() -> PathBuf {
    std::env::var_os("QTLS_BIN_DIR").map_or_else(profile_directory, PathBuf::from)
}

/// Where tests leave what people want to look at: `target/interop-artifacts`.
pub fn artifacts() -> PathBuf {
    let directory = target_directory().join("interop-artifacts");
    std::fs::create_dir_all(&directory).expect("target is writable");
    directory
}

/// Cargo's target directory.
pub fn target_directory() -> PathBuf {
    profile_directory().parent().map(Path::to_path_buf).expect("the profile's directory is inside target")
}

/// The root of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("this is where it was built")
}

/// `target/debug`, from `target/debug/deps/SUITE-HASH`.
fn profile_directory() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows where it is");
    test.ancestors().nth(2).map(Path::to_path_buf).expect("a test lies in target/PROFILE/deps")
}
