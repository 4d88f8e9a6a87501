//! What scripts/install-deps.sh would install on Debian, on the RHEL family and on macOS, and that it installs nothing where
//! everything is there.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use qtls_interop::process::{Finished, run};
use qtls_interop::programs;
use tempfile::TempDir;

/// A system that has these commands and no others, but for those that the script itself is written with.
struct System(TempDir);

impl System {
    fn new(name: &str, commands: &[&str]) -> Self {
        let system = Self(tempfile::tempdir().expect("the temporary directory is writable"));
        for tool in ["sh", "sed", "cut", "sort", "head", "printf", "dirname", "mktemp", "rm", "env", "cat"] {
            let path = ["/bin", "/usr/bin"].iter().map(|bin| Path::new(bin).join(tool)).find(|path| path.exists());
            symlink(path.unwrap_or_else(|| panic!("there is no {tool}")), system.0.path().join(tool))
                .expect("it is new");
        }
        system.command("uname", &format!("case $1 in -s) echo {name} ;; -m) echo x86_64 ;; esac"));
        system.command("id", "echo 1000");
        for command in commands {
            system.command(command, "echo called: $0 \"$@\" >&2; exit 9");
        }
        system
    }

    fn command(&self, name: &str, script: &str) {
        let path = self.0.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("it is writable");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    }

    fn install(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new("/bin/sh");
        command.arg(programs::repository().join("scripts/install-deps.sh")).args(arguments);
        // No directories of the system: what is there on this machine isn't on that one.
        command.env_clear().env("PATH", self.0.path()).env("HOME", self.0.path()).env("QTLS_SYSTEM_PATH", "");
        run(&mut command, b"")
    }
}

const RUSTUP: &str = "https://static.rust-lang.org/rustup/archive/1.29.0/x86_64-unknown-linux-gnu/rustup-init";

/// What a run without changes prints, line by line.
fn planned(system: &System, mode: &str) -> Vec<String> {
    let finished = system.install(&["--dry-run", mode]).expect_success();
    assert!(!finished.stderr.contains("called: "), "{}", finished.said());
    finished.stdout.lines().map(str::to_owned).collect()
}

fn rustup() -> [String; 2] {
    [
        format!("curl --proto =https --tlsv1.2 -fsS -o DIRECTORY/rustup-init {RUSTUP}"),
        "DIRECTORY/rustup-init -y --quiet --no-modify-path --profile minimal --default-toolchain 1.95.0 \
         --component clippy --component rustfmt"
            .to_owned(),
    ]
}

const APT: &str =
    "sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq -o Dpkg::Use-Pty=0 --no-install-recommends";

#[test]
fn debian_is_asked_for_what_is_missing() {
    let bare = System::new("Linux", &["apt-get", "sudo"]);
    let mut lines = vec!["sudo apt-get update -qq".to_owned(), format!("{APT} gcc make curl cmake pkg-config")];
    lines.extend(rustup());
    assert_eq!(planned(&bare, "build"), lines);
    lines[1] = format!("{APT} gcc make curl");
    assert_eq!(planned(&bare, "run"), lines);
    lines[1] = format!(
        "{APT} gcc make curl cmake pkg-config openssl mmdebstrap npm mount logrotate iproute2 systemd postgresql-client \
         python3 valgrind g++ man-db groff-base uidmap python3-venv"
    );
    assert_eq!(planned(&bare, "test"), lines);
    // With some of it there.
    let partly = System::new("Linux", &["apt-get", "sudo", "gcc", "make", "curl", "pkg-config"]);
    partly.command("cargo", "echo cargo 1.95.0");
    assert_eq!(planned(&partly, "build"), ["sudo apt-get update -qq", &format!("{APT} cmake")]);
}

#[test]
fn the_rhel_family_is_asked_by_its_own_names() {
    let bare = System::new("Linux", &["dnf", "sudo"]);
    let mut lines = vec!["sudo dnf install -y gcc make curl cmake pkgconf-pkg-config".to_owned()];
    lines.extend(rustup());
    assert_eq!(planned(&bare, "build"), lines);
    lines[0] = "sudo dnf install -y gcc make curl".to_owned();
    assert_eq!(planned(&bare, "run"), lines);
    let refused = bare.install(&["--dry-run", "test"]).expect_code(1);
    assert_eq!(
        refused.stderr,
        "install-deps: the mode test is for Debian and Ubuntu: the peers of the tests are a Debian\n\
         install-deps: hint: build with CMake, whose make test runs here: install-deps.sh build\n"
    );
}

#[test]
fn macos_is_asked_through_homebrew() {
    let bare = System::new("Darwin", &["brew"]);
    let refused = bare.install(&["--dry-run", "build"]).expect_code(1);
    assert_eq!(
        refused.stderr,
        "install-deps: there is no C compiler\ninstall-deps: hint: install Apple's command line tools: xcode-select --install\n"
    );
    bare.command("cc", "echo clang");
    assert_eq!(planned(&bare, "build"), ["brew install cmake pkgconf", "brew install rust"]);
    assert_eq!(planned(&bare, "run"), ["brew install rust"]);
    let without = System::new("Darwin", &[]);
    without.command("cc", "echo clang");
    let refused = without.install(&["build"]).expect_code(1);
    assert_eq!(
        refused.stderr,
        "install-deps: missing: cmake pkgconf, and there is no Homebrew\ninstall-deps: hint: install it as https://brew.sh says\n"
    );
}

#[test]
fn where_everything_is_there_nothing_is_asked_for() {
    for (system, manager) in [("Linux", "apt-get"), ("Linux", "dnf"), ("Darwin", "brew")] {
        let complete = System::new(system, &[manager, "sudo", "gcc", "make", "curl", "cmake", "pkg-config"]);
        complete.command("cc", "echo cc");
        complete.command("cargo", "echo cargo 1.88.0");
        let finished = complete.install(&["build"]).expect_success();
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("", ""), "{manager}");
    }
}

#[test]
fn without_dry_run_the_commands_are_run_and_a_failure_is_one() {
    let system = System::new("Linux", &["dnf"]);
    system.command("sudo", "exec \"$@\"");
    let failed = system.install(&["build"]).expect_code(9);
    assert!(failed.stderr.contains("/dnf install -y gcc make curl cmake pkgconf-pkg-config\n"), "{}", failed.said());
    // An old Rust with rustup, which gets a newer one.
    let system = System::new("Linux", &["dnf", "sudo", "gcc", "make", "curl", "cmake", "pkg-config"]);
    system.command("cargo", "echo cargo 1.87.0");
    system.command("rustup", "echo rustup \"$@\"");
    let finished = system.install(&["build"]).expect_success();
    assert_eq!(
        finished.stdout,
        "rustup toolchain install 1.95.0 --profile minimal --component clippy --component rustfmt\n\
         rustup override set 1.95.0 --path .\n"
    );
}

#[test]
fn a_system_of_another_kind_and_a_wrong_call_are_told() {
    let unknown = System::new("Linux", &[]).install(&["build"]).expect_code(1);
    assert_eq!(
        unknown.stderr,
        "install-deps: there is neither apt-get nor dnf here\ninstall-deps: hint: install a C compiler, make, cmake, \
         pkg-config and Rust with the package manager of this system\n"
    );
    let system = System::new("Linux", &["dnf"]);
    for arguments in [&[][..], &["everything"], &["run", "build"], &["--dry-run"]] {
        let wrong = system.install(arguments).expect_code(2);
        assert_eq!(wrong.stderr, "usage: install-deps.sh [--dry-run] run|build|test\n", "{arguments:?}");
    }
}
