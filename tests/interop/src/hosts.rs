//! Hosts that are made up of namespaces: with a network, addresses, ports, names, `/etc` and `/var/log` of their own. Nothing
//! of this machine is changed, whatever is done there.

use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::getuid;
use tempfile::TempDir;

use crate::openssl::text;
use crate::process::{Finished, Running, run};
use crate::{peers, programs};

/// One of them. What runs on it ends with its own value, not with the host's.
#[derive(Debug)]
pub struct Host {
    keeper: Running,
    /// What is laid over the `/etc` of Debian's programs, and where `/etc` is mounted from.
    work: TempDir,
    /// Its address on the network.
    pub address: &'static str,
}

/// Makes two hosts, at 192.0.2.1 and 192.0.2.2. Both find the first one under each of `names`.
///
/// # Panics
/// When this machine doesn't allow it.
#[track_caller]
pub fn pair(names: &[&str]) -> (Host, Host) {
    let known: String = names.iter().map(|name| format!("192.0.2.1 {name}\n")).collect();
    let known = format!("127.0.0.1 localhost\n{known}");
    let first = Host::start("192.0.2.1", &known, None);
    let second = Host::start("192.0.2.2", &known, Some(&first));
    let link = format!("ip link add uplink type veth peer name uplink netns {}", second.keeper.id());
    first.run(Path::new("/"), &link).expect_success();
    for host in [&first, &second] {
        let up = format!("ip address add {}/24 dev uplink\nip link set uplink up", host.address);
        host.run(Path::new("/"), &up).expect_success();
    }
    (first, second)
}

/// Makes a host that has nobody to talk to but itself.
///
/// # Panics
/// When this machine doesn't allow it.
#[track_caller]
pub fn alone() -> Host {
    Host::start("127.0.0.1", "127.0.0.1 localhost\n", None)
}

impl Host {
    fn start(address: &'static str, names: &str, beside: Option<&Self>) -> Self {
        let work = tempfile::tempdir().expect("the temporary directory is writable");
        for directory in ["etc", "over"] {
            std::fs::create_dir(work.path().join(directory)).expect("the temporary directory is writable");
        }
        std::fs::write(work.path().join("over/hosts"), names).expect("the temporary directory is writable");
        // What may not be read is of no use there either.
        let script = r#"
            PATH=$PATH:/usr/sbin:/sbin
            mount -t tmpfs tmpfs "$1/etc"
            cp -a /etc/. "$1/etc" 2>/dev/null || true
            rm -rf "$1/etc/qtls" "$1/etc/qsign" "$1/etc/hosts"
            cp "$1/over/hosts" "$1/etc/hosts"
            mount --bind "$1/etc" /etc
            mount -t tmpfs tmpfs /var/log
            ip link set lo up
            echo ready
            exec cat
        "#;
        let mut command = match beside {
            // Both belong to one user namespace: else neither could reach out to the other's network.
            Some(other) if !getuid().is_root() => {
                let mut nsenter = Command::new("nsenter");
                let target = other.keeper.id().to_string();
                nsenter.args(["--target", &target, "--user", "--preserve-credentials", "unshare"]);
                nsenter
            }
            _ => Command::new("unshare"),
        };
        let fresh = beside.is_none() && !getuid().is_root();
        command.args(fresh.then_some(["--user", "--map-root-user"]).into_iter().flatten());
        command.args(["--net", "--mount", "--propagation", "private", "sh", "-euc", script, "sh", text(work.path())]);
        let keeper = Running::start(&mut command);
        keeper.stdout.wait_for_line("ready");
        Self { keeper, work, address }
    }

    /// `command`, on this host.
    pub fn command(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.args(["--target", &self.keeper.id().to_string(), "--net", "--mount"]);
        let user = (!getuid().is_root()).then_some(["--user", "--preserve-credentials"]);
        inside.args(user.into_iter().flatten());
        // A namespace of mounts begins at its root.
        inside.args(["env", "-C"]).arg(command.get_current_dir().unwrap_or(Path::new("/")));
        inside.arg(command.get_program()).args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(variable, value),
                None => inside.env_remove(variable),
            };
        }
        inside
    }

    /// A shell on this host that runs `script` in `directory`, up to the first command that fails. It finds the programs
    /// of Q-TLS, and else those of this machine.
    pub fn shell(&self, directory: &Path, script: &str) -> Command {
        let mut shell = programs::command_of_system("sh");
        let path = std::env::var("PATH").expect("there is a PATH");
        shell.args(["-euc", script]).current_dir(directory);
        shell.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", programs::directory().display()));
        self.command(&shell)
    }

    /// A shell on this host as [`shell`](Self::shell), which finds the programs of the peers' Debian instead.
    pub fn debian_shell(&self, directory: &Path, script: &str) -> Command {
        let script = format!("cd '{}'\nPATH=/usr/lib/postgresql/17/bin:$PATH\n{script}", directory.display());
        let mut shell = peers::debian_with(&self.work.path().join("over"), "sh", [directory]);
        self.command(shell.args(["-euc", &script]))
    }

    /// Runs [`shell`](Self::shell) to its end.
    pub fn run(&self, directory: &Path, script: &str) -> Finished {
        run(&mut self.shell(directory, script), b"")
    }

    /// Runs [`debian_shell`](Self::debian_shell) to its end.
    pub fn run_debian(&self, directory: &Path, script: &str) -> Finished {
        run(&mut self.debian_shell(directory, script), b"")
    }

    /// What a path of this host is called here.
    pub fn path(&self, path: &Path) -> PathBuf {
        programs::path_beside(self.keeper.id(), path)
    }
}
