//! The binaries of Q-TLS itself.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::run;

/// A command for one of our binaries, without the environment variables that would configure it.
///
/// # Panics
/// When it has not been built.
pub fn command(name: &str) -> Command {
    without_ours(Command::new(path(name)))
}

/// A command for a program of this machine, without the environment variables that would configure ours.
pub fn command_of_system(program: &str) -> Command {
    without_ours(Command::new(program))
}

/// A command for one of our binaries in a mount namespace of its own, after a shell has run `script` there, which ends at
/// the first failure. The program has the process identifier of the command.
///
/// # Panics
/// When the binary has not been built.
pub fn command_after(script: &str, name: &str) -> Command {
    let mut command = Command::new("unshare");
    // Without root, a user namespace gives the right to mount.
    command.args((!rustix::process::getuid().is_root()).then_some(["--user", "--map-root-user"]).into_iter().flatten());
    command.args(["--mount", "--propagation", "private", "sh", "-euc"]);
    command.arg(format!("{script}\nexec \"$0\" \"$@\"")).arg(path(name));
    without_ours(command)
}

/// Runs `command` in the namespaces that the process with this identifier has of its own, and waits for its end.
///
/// # Panics
/// When it fails.
#[track_caller]
pub fn run_beside(process: u32, command: &[&str]) {
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", &process.to_string(), "--mount"]);
    nsenter.args(
        (!rustix::process::getuid().is_root()).then_some(["--user", "--preserve-credentials"]).into_iter().flatten(),
    );
    run(nsenter.args(command), b"").expect_success();
}

/// What a path of the namespaces of the process with this identifier is called here.
pub fn path_beside(process: u32, path: &Path) -> PathBuf {
    Path::new(&format!("/proc/{process}/root")).join(path.strip_prefix("/").expect("the path is absolute"))
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

fn path(name: &str) -> PathBuf {
    let path = directory().join(name);
    assert!(path.exists(), "{} is not there: run `cargo build --workspace` first", path.display());
    path
}

/// Without the variables that would configure our programs.
fn without_ours(mut command: Command) -> Command {
    for (variable, _) in std::env::vars_os() {
        if variable.to_string_lossy().starts_with("QTLS_") {
            command.env_remove(variable);
        }
    }
    command
}

/// `target/debug`, from `target/debug/deps/SUITE-HASH`.
fn profile_directory() -> PathBuf {
    let program = std::env::current_exe().expect("a program knows where it is");
    let directory = program.parent().expect("it lies in a directory");
    // Tests lie in target/PROFILE/deps, and bench-peers in target/PROFILE.
    let is_deps = directory.ends_with("deps");
    directory.ancestors().nth(usize::from(is_deps)).map(Path::to_path_buf).expect("it lies in target")
}
