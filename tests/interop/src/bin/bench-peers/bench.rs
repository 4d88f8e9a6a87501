//! One run of `qtls-bench` after the other, and what stands behind the servers.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use qtls_interop::process::{Running, run, run_within};
use qtls_interop::{peers, programs};
use serde_json::Value;
use tempfile::TempDir;

use crate::subjects::Started;

/// How many times each figure is measured; the median counts.
pub(crate) const ROUNDS: usize = 3;
/// A run that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(600);

/// What all measurements share.
pub(crate) struct Bench {
    /// How much of the usual amount is measured.
    pub(crate) scale: f64,
    /// What `qtls-bench crypto` printed: the floor.
    pub(crate) floor: Value,
    /// The port of the server behind.
    pub(crate) backend: u16,
    pki: TempDir,
    _backend: Running,
}

impl Bench {
    /// Makes certificates, measures the floor, starts the server behind.
    pub(crate) fn new(scale: f64) -> Result<Self, String> {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        if processors < 2 {
            return Err("this machine has one processor: the server and the generator need one each".to_owned());
        }
        let pki = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
        for key in KEYS {
            let qtls = |arguments: &[&str]| {
                run(programs::command("qtls").args(arguments).current_dir(pki.path()), b"").expect_success();
            };
            qtls(&["ca", "init", "--dir", key, "--alg", key]);
            // By the root: a chain of one, as benchmarks have it.
            qtls(&["ca", "issue", "server", "--dir", key, "--issuer", "root", "--name", "localhost"]);
        }
        let floor = json(pinned(0, "qtls-bench").args(["crypto", "--json", "--count", "1000"]));
        let backend = Running::start(pinned(1, "qtls-bench").arg("backend"));
        let line = backend.stdout.wait_for_line("127.0.0.1:");
        let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| format!("the server behind said {line:?}"))?;
        Ok(Self { scale, floor, backend: port, pki, _backend: backend })
    }

    /// The chain and the key of a server.
    pub(crate) fn server(&self, key: &str) -> (PathBuf, PathBuf) {
        let directory = self.pki.path().join(key).join("certs");
        (directory.join("server-cert.pem"), directory.join("server-key.pem"))
    }

    /// The directory of all certificates.
    pub(crate) fn directory(&self) -> &Path {
        self.pki.path()
    }

    /// So many, by the scale.
    pub(crate) fn count(&self, usual: u32) -> String {
        ((f64::from(usual) * self.scale).ceil() as u64).max(50).to_string()
    }

    /// Measures a server once.
    pub(crate) fn measure(&self, server: &Started, key: &str, arguments: &[&str]) -> Value {
        json(&mut self.measuring(pinned(1, "qtls-bench"), (server.port, server.id()), key, arguments))
    }

    /// The command that measures a server: its port and its process.
    pub(crate) fn measuring(
        &self,
        mut command: Command,
        (port, process): (u16, u32),
        key: &str,
        arguments: &[&str],
    ) -> Command {
        let certs = self.pki.path().join(key).join("certs");
        command.args(arguments).arg(format!("localhost:{port}"));
        command
            .arg("--ca")
            .arg(certs.join("qsign-ca-bundle.pem"))
            .arg("--certificate")
            .arg(certs.join("server-cert.pem"))
            .args(["--json", "--pid", &process.to_string()]);
        command
    }

    /// The median of one figure for each server: all of them are measured once, then again, so that what disturbs the
    /// machine disturbs them all.
    pub(crate) fn medians(&self, servers: &[Started], key: &str, figure: &str, arguments: &[&str]) -> Vec<f64> {
        self.medians_beside(servers, key, figure, arguments, || {})
    }

    /// [`medians`](Self::medians), with something else to be measured in each of the rounds.
    pub(crate) fn medians_beside(
        &self,
        servers: &[Started],
        key: &str,
        figure: &str,
        arguments: &[&str],
        mut beside: impl FnMut(),
    ) -> Vec<f64> {
        let mut all = vec![Vec::new(); servers.len()];
        for _ in 0..ROUNDS {
            beside();
            for (server, figures) in servers.iter().zip(&mut all) {
                let value = self.measure(server, key, arguments);
                figures.push(value[figure].as_f64().unwrap_or_else(|| panic!("no {figure} in {value}")));
            }
        }
        all.into_iter().map(median).collect()
    }

    /// The floor of a full handshake, in µs of processor time, at this moment, on the processor of the servers. The other
    /// processor is as busy as it is with the generator: on many machines, two of them are one core.
    pub(crate) fn floor(&self, group: &str, key: &str) -> f64 {
        let only = ["--group", "x25519mlkem768", "--signature", "ecdsa-p256"];
        // It ends with this function.
        let _busy = Running::start(pinned(1, "qtls-bench").args(["crypto", "--count", "100000000"]).args(only));
        let count = self.count(if key == "rsa-4096" { 200 } else { 1000 });
        let mut command = pinned(0, "qtls-bench");
        command.args(["crypto", "--json", "--group", group, "--signature", key, "--count", &count]);
        let value = json(&mut command);
        let of = |kind: &str| value[kind].as_object().into_iter().flatten().filter_map(|(_, cost)| cost.as_f64());
        let connection = value["tcp_connection_us"].as_f64();
        connection.into_iter().chain(of("exchange_us")).chain(of("signature_us")).sum()
    }
}

/// The keys of servers, as `--alg` has them.
const KEYS: [&str; 4] = ["ecdsa-p256", "rsa-2048", "rsa-4096", "ml-dsa-65"];

/// A command for one of our programs, on one processor.
pub(crate) fn pinned(processor: u32, program: &str) -> Command {
    on(processor, programs::command(program))
}

/// A command for one of the peers' programs, on the servers' processor.
pub(crate) fn peer<P: AsRef<Path>>(program: &str, shares: impl IntoIterator<Item = P>) -> Command {
    on(0, peers::debian(program, shares))
}

/// The same command, kept to one processor.
fn on(processor: u32, command: Command) -> Command {
    through(&["taskset", "--cpu-list", &processor.to_string()], bound(command))
}

/// The same command, which ends with this process: who interrupts half an hour of measuring is left no servers.
pub(crate) fn bound(command: Command) -> Command {
    through(&["setpriv", "--pdeathsig", "KILL"], command)
}

/// The same command, executed by another one.
fn through(first: &[&str], command: Command) -> Command {
    let mut whole = Command::new(first[0]);
    whole.args(&first[1..]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => whole.env(name, value),
            None => whole.env_remove(name),
        };
    }
    whole
}

/// What a command prints, which has to succeed.
pub(crate) fn json(command: &mut Command) -> Value {
    let finished = run_within(command, b"", PATIENCE).expect_success();
    serde_json::from_str(finished.stdout.trim()).unwrap_or_else(|error| panic!("{error}: {}", finished.said()))
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}
