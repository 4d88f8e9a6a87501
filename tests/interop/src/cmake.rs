//! The build with CMake: configuring, building and installing as users do, in directories of the test's own.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::process::{Finished, run_within};
use crate::programs;

/// How long a build may take, also where nothing is built yet.
const PATIENCE: Duration = Duration::from_secs(1500);

/// A build directory, with a space in its path, of some sources.
#[derive(Debug)]
pub struct Build {
    /// Everything that the test makes.
    pub scratch: TempDir,
    /// The build directory.
    pub directory: PathBuf,
    source: PathBuf,
}

impl Build {
    /// A build directory, empty so far, of the sources in the repository.
    pub fn new() -> Self {
        Self::of(programs::repository())
    }

    /// A build directory, empty so far, of other sources.
    pub fn of(source: PathBuf) -> Self {
        let scratch = tempfile::tempdir().expect("the temporary directory is writable");
        let directory = scratch.path().join("a build");
        fs::create_dir(&directory).expect("it is writable");
        Self { scratch, directory, source }
    }

    /// Configures with these arguments.
    pub fn configure(&self, arguments: &[&str]) -> Finished {
        run_within(self.command("cmake").arg(&self.source).args(arguments), b"", PATIENCE)
    }

    /// Configures with these arguments and the profile and directory in which the programs of this test were built, so that
    /// what is built already isn't built again.
    pub fn configure_shared(&self, arguments: &[&str]) -> Finished {
        self.configure_with(&programs::target_directory(), arguments)
    }

    /// Configures with these arguments, the profile in which the programs of this test were built, and a directory for cargo.
    pub fn configure_with(&self, target: &Path, arguments: &[&str]) -> Finished {
        let target = format!("-DQTLS_CARGO_TARGET_DIR={}", target.display());
        let ours = ["-DCMAKE_BUILD_TYPE=Debug", "-DQTLS_CARGO_FLAGS=--offline", &target];
        self.configure(&[&ours, arguments].concat())
    }

    /// Runs make with these arguments.
    pub fn make(&self, arguments: &[&str]) -> Finished {
        run_within(self.command("make").args(arguments), b"", PATIENCE)
    }

    /// A command in the build directory, without what cargo and make tell the programs that they start.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.directory).env_remove("DESTDIR").env_remove("LD_LIBRARY_PATH");
        for (name, _) in std::env::vars_os() {
            let shown = name.to_string_lossy();
            let of_cargo = shown.starts_with("CARGO") && !["CARGO_HOME", "CARGO_BUILD_JOBS"].contains(&&*shown);
            if of_cargo || ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "VERBOSE", "RUSTC", "RUSTDOC"].contains(&&*shown) {
                command.env_remove(name);
            }
        }
        command
    }
}

impl Default for Build {
    fn default() -> Self {
        Self::new()
    }
}

/// The paths of all files and links below a directory, from there, in order.
///
/// # Panics
/// When it can't be read.
pub fn files_below(directory: &Path) -> Vec<String> {
    fn collect(directory: &Path, root: &Path, files: &mut Vec<String>) {
        for entry in fs::read_dir(directory).expect("the directory is readable") {
            let entry = entry.expect("the directory is readable");
            if entry.file_type().expect("it has a type").is_dir() {
                collect(&entry.path(), root, files);
            } else {
                let path = entry.path();
                files.push(path.strip_prefix(root).expect("it is below").display().to_string());
            }
        }
    }
    let mut files = Vec::new();
    collect(directory, directory, &mut files);
    files.sort();
    files
}
