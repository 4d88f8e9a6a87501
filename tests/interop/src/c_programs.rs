//! Programs in C, compiled against the headers and the shared library that the tests are built with.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::pki::Pki;
use crate::process::{Finished, run_within};
use crate::{process, programs};

/// What every program is compiled with: C11, and as many warnings as the header promises to be without.
const FLAGS: [&str; 7] = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread"];

/// A directory with the library under the names that the linker and the loader look for, and the programs.
#[derive(Debug)]
pub struct Workshop {
    directory: TempDir,
    include: PathBuf,
}

impl Workshop {
    /// A directory without programs.
    ///
    /// # Panics
    /// When the library has not been built.
    pub fn new() -> Self {
        let test = std::env::current_exe().expect("a test knows where it is");
        // A development dependency of this crate, so cargo has built it before the test, beside it.
        let library = test.with_file_name("libqtls.so");
        assert!(library.exists(), "{} is not there", library.display());
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        for name in ["libqtls.so", "libqtls.so.1"] {
            symlink(&library, directory.path().join(name)).expect("the temporary directory is writable");
        }
        Self { directory, include: programs::repository().join("include") }
    }

    /// Where the library and the programs are.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Compiles a program of one file, which may stand anywhere in the repository, with further flags.
    ///
    /// # Panics
    /// When the compiler has anything to say.
    #[track_caller]
    pub fn compile(&self, compiler: &str, source: &str, flags: &[&str]) -> PathBuf {
        let source = programs::repository().join(source);
        let name = source.file_stem().expect("a source has a name").to_string_lossy().into_owned();
        let program = self.path().join(format!("{name}-{compiler}{}", flags.concat().replace(['/', ' '], "_")));
        let mut command = Command::new(compiler);
        command.args(FLAGS).args(flags).arg("-g").arg("-I").arg(&self.include).arg("-o").arg(&program).arg(&source);
        command.arg("-L").arg(self.path()).arg("-lqtls").arg(format!("-Wl,-rpath,{}", self.path().display()));
        let finished = run_within(&mut command, b"", process::PATIENCE * 4).expect_success();
        assert_eq!(finished.stderr, "", "{}", finished.said());
        program
    }

    /// Compiles a program that is given as text.
    ///
    /// # Panics
    /// When the compiler has anything to say.
    #[track_caller]
    pub fn compile_text(&self, name: &str, text: &str, flags: &[&str]) -> PathBuf {
        let source = self.path().join(format!("{name}.c"));
        std::fs::write(&source, text).expect("the temporary directory is writable");
        self.compile("gcc", source.to_str().expect("temporary paths are UTF-8"), flags)
    }
}

impl Default for Workshop {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives a program of `tests/c` what it needs: certificates, and the program `qtls`.
pub fn equip(command: &mut Command) -> &mut Command {
    command
        .env("QTLS_TOOL", programs::directory().join("qtls"))
        .env("QTLS_TEST_PKI", Pki::shared().directory())
        .env("QTLS_TEST_STRANGERS", Pki::stranger().directory())
}

/// A command for valgrind's memcheck, to be followed by a program: any error, and any leak, is its failure.
///
/// Of the memory that is left at the end, only what something still points at is let be: the tables of names that the
/// library makes once. The cryptographic library asks the processor what it can do, and valgrind answers for the processor
/// that it imitates, which has no AVX-512: so other code runs than without valgrind.
pub fn valgrind() -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--error-exitcode=99", "--leak-check=full", "--num-callers=40"]);
    let kinds = "definite,indirect,possible";
    command.arg(format!("--show-leak-kinds={kinds}")).arg(format!("--errors-for-leak-kinds={kinds}"));
    let suppressions = programs::repository().join("tests/interop/c/valgrind.supp");
    command.arg(format!("--suppressions={}", suppressions.display()));
    // Everything takes fifty times as long.
    command.env("QTLS_TEST_SLOW", "1");
    command
}

/// What makes gcc watch for mistakes: any is the program's failure.
pub const SANITIZERS: [&str; 3] =
    ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"];

/// Runs a program to its end, for as long as valgrind may take on a busy machine.
pub fn run_patiently(command: &mut Command) -> Finished {
    run_within(command, b"", process::PATIENCE * 8)
}

/// The sources in a directory of the repository, in order.
pub fn sources(directory: &str) -> Vec<String> {
    let entries = std::fs::read_dir(programs::repository().join(directory)).expect("the directory is there");
    let names = entries.map(|entry| entry.expect("it is readable").file_name().into_string().expect("it is text"));
    let mut names: Vec<_> =
        names.filter(|name| name.ends_with(".c")).map(|name| format!("{directory}/{name}")).collect();
    names.sort();
    names
}
