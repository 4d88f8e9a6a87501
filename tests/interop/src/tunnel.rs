//! qtls-client with tunnels as a process.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::metrics::Metrics;
use crate::pki::Pki;
use crate::process::{Finished, PATIENCE, Running, run};
use crate::programs;
use crate::server::{free_port, merge};

/// A qtls-client that runs tunnels. Its log is JSON on standard error, its lines about connections are in a file.
#[derive(Debug)]
pub struct Tunnel {
    /// The process.
    pub process: Running,
    /// The port of the metrics.
    pub metrics_port: u16,
    directory: TempDir,
}

impl Tunnel {
    /// Starts one with these tunnels, which trusts the shared certificates, and `changes` merged into its configuration.
    ///
    /// # Panics
    /// When it doesn't listen within [`PATIENCE`].
    #[track_caller]
    pub fn start(tunnels: Value, changes: Value) -> Self {
        Self::start_in(tempfile::tempdir().expect("the temporary directory is writable"), tunnels, changes)
    }

    /// As [`start`](Self::start), with its files in `directory`.
    #[track_caller]
    pub fn start_in(directory: TempDir, tunnels: Value, changes: Value) -> Self {
        let metrics_port = free_port();
        let mut config = json!({
            "tunnels": tunnels,
            "certificates": { "ca_bundle": Pki::shared().ca() },
            "metrics": { "port": metrics_port },
            "logging": { "format": "json", "access_file": directory.path().join("access.log") },
        });
        merge(&mut config, changes);
        let file = write_config(directory.path(), &config);
        let process = Running::start(programs::command("qtls-client").arg("--config").arg(file));
        let tunnel = Self { process, metrics_port, directory };
        let last = config["tunnels"].as_array().and_then(|tunnels| tunnels.last()).expect("there are tunnels");
        tunnel.wait_for_log(&format!("listening on {}", last["listen"].as_str().expect("it is text")));
        tunnel
    }

    /// A directory that ends with the tunnel.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The file of lines about connections.
    pub fn access_log(&self) -> PathBuf {
        self.directory().join("access.log")
    }

    /// The log so far.
    pub fn log(&self) -> String {
        self.process.stderr.text()
    }

    /// The first line of the log with `pattern`, as soon as it is there.
    #[track_caller]
    pub fn wait_for_log(&self, pattern: &str) -> String {
        self.process.stderr.wait_for_line(pattern)
    }

    /// Merges `changes` into the configuration file, which is replaced in one step. The process isn't told.
    ///
    /// # Panics
    /// When the file can't be replaced.
    pub fn rewrite_config(&self, changes: Value) {
        let path = self.directory().join("client.json");
        let text = std::fs::read(&path).expect("the configuration is there");
        let mut config = serde_json::from_slice(&text).expect("it is JSON");
        merge(&mut config, changes);
        let new = self.directory().join("client.json.new");
        std::fs::write(&new, serde_json::to_vec_pretty(&config).expect("JSON")).expect("the directory is writable");
        std::fs::rename(new, path).expect("the directory is writable");
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.process.signal(Signal::HUP);
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Does `act`, and waits until one more reload had the `result`.
    #[track_caller]
    pub fn reloads(&self, result: &str, act: impl FnOnce()) {
        let count = |metrics: &Metrics| metrics.sum("qtls_reloads_total", &[("result", result)]);
        let before = count(&self.metrics());
        act();
        self.metrics_when(&format!("a reload that was {result}"), |metrics| count(metrics) > before);
    }

    /// The metrics now.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        Metrics::scrape(self.metrics_port)
    }

    /// The metrics as soon as they are `wanted`.
    ///
    /// # Panics
    /// When they aren't within [`PATIENCE`].
    #[track_caller]
    pub fn metrics_when(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let metrics = self.metrics();
            if wanted(&metrics) {
                return metrics;
            }
            assert!(Instant::now() < deadline, "the metrics never said {what}:\n{}\n{}", metrics.text(), self.log());
            // A counter can't be awaited over HTTP.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Writes `config` as `client.json` into `directory`.
pub fn write_config(directory: &Path, config: &Value) -> PathBuf {
    let path = directory.join("client.json");
    std::fs::write(&path, serde_json::to_string_pretty(config).expect("JSON")).expect("the directory is writable");
    path
}

/// Runs qtls-client with these arguments to its end.
pub fn client(arguments: &[&str]) -> Finished {
    run(programs::command("qtls-client").args(arguments), b"")
}

/// The lines about connections that were carried, as soon as there are `count`.
///
/// # Panics
/// When they don't come in time.
#[track_caller]
pub fn carried(tunnel: &Tunnel, count: usize) -> Vec<Value> {
    crate::log::wait_for(&tunnel.access_log(), count, |line| line["event"] == "tunnel")
}

/// The lines about connections that were not, as soon as there are `count`.
///
/// # Panics
/// When they don't come in time.
#[track_caller]
pub fn failed(tunnel: &Tunnel, count: usize) -> Vec<Value> {
    crate::log::wait_for(&tunnel.access_log(), count, |line| line["event"] == "tunnel_failed")
}
