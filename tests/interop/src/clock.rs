//! A wall clock that a test sets, as an operator or a time server sets that of a machine: for one program, while it runs.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use tempfile::TempDir;

use crate::process::run;
use crate::programs;

/// The clock of a program. At first it is right.
#[derive(Debug)]
pub struct Clock {
    shift: File,
    directory: TempDir,
}

impl Clock {
    /// A clock for one program, or several that are to have the same.
    ///
    /// # Panics
    /// When the temporary directory can't be written.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        std::fs::write(directory.path().join("shift"), [0; 8]).expect("the temporary directory is writable");
        let shift = File::options().write(true).open(directory.path().join("shift")).expect("it was just made");
        Self { shift, directory }
    }

    /// A command for one of our binaries, with this clock.
    pub fn command(&self, name: &str) -> Command {
        static LIBRARY: LazyLock<PathBuf> = LazyLock::new(library);
        let mut command = programs::command(name);
        command.env("LD_PRELOAD", &*LIBRARY).env("QTLS_TEST_CLOCK", self.directory.path().join("shift"));
        command
    }

    /// Sets it to so many hours from the right time.
    ///
    /// # Panics
    /// When the file that says so can't be written.
    pub fn set(&self, hours: i64) {
        self.shift.write_all_at(&(hours * 3600).to_ne_bytes(), 0).expect("the temporary directory is writable");
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// `peers/clock.c`, compiled by the compiler that the cryptographic library was built with.
fn library() -> PathBuf {
    let source = programs::repository().join("tests/interop/peers/clock.c");
    let directory = programs::target_directory().join("interop-clock");
    std::fs::create_dir_all(&directory).expect("target is writable");
    let library = directory.join("clock.so");
    // Several suites at the same time: each makes its own, and puts it in place at once.
    let own = directory.join(format!("clock.so.{}", std::process::id()));
    run(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&own).arg(source), b"")
        .expect_success();
    std::fs::rename(own, &library).expect("target is writable");
    library
}
