//! qtls-server as a process, and what it says about the handshakes it made.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::metrics::Metrics;
use crate::negotiated::Negotiated;
use crate::pki::{Algorithm, Pki};
use crate::process::{PATIENCE, Running};
use crate::programs;

/// A qtls-server that listens on 127.0.0.1.
#[derive(Debug)]
pub struct Server {
    /// The process; its log is on standard error.
    pub process: Running,
    /// The TLS port.
    pub port: u16,
    /// The port of the metrics.
    pub metrics_port: u16,
    directory: TempDir,
}

impl Server {
    /// Starts a server with the P-384 certificate, and `changes` merged into its configuration.
    #[track_caller]
    pub fn start(changes: Value) -> Self {
        Self::with_certificate(Algorithm::EcdsaP384, changes)
    }

    /// Starts a server with a certificate of one kind, and `changes` merged into its configuration.
    #[track_caller]
    pub fn with_certificate(algorithm: Algorithm, changes: Value) -> Self {
        let (cert, key) = Pki::shared().server(algorithm);
        let mut config = json!({ "certificates": { "server_cert": cert, "server_key": key } });
        merge(&mut config, changes);
        Self::with_config(config)
    }

    /// Starts a server as [`Server::start`] does, with its limit of open files at `count`.
    #[track_caller]
    pub fn with_open_files(count: u64, changes: Value) -> Self {
        Self::start_with(changes, || {
            let server = programs::command("qtls-server");
            let mut prlimit = Command::new("prlimit");
            prlimit.arg(format!("--nofile={count}:{count}")).arg(server.get_program());
            for (name, value) in server.get_envs() {
                match value {
                    Some(value) => prlimit.env(name, value),
                    None => prlimit.env_remove(name),
                };
            }
            prlimit
        })
    }

    /// Starts a server with the P-384 certificate, and `changes` merged into its configuration, by a command that becomes
    /// the server (as `exec` does).
    #[track_caller]
    pub fn start_with(changes: Value, command: impl Fn() -> Command) -> Self {
        let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
        let mut config = json!({ "certificates": { "server_cert": cert, "server_key": key } });
        merge(&mut config, changes);
        Self::start_by(config, command)
    }

    /// Starts a server with `config`, which needs no ports and no logging.
    ///
    /// # Panics
    /// When it doesn't listen within [`PATIENCE`].
    #[track_caller]
    pub fn with_config(config: Value) -> Self {
        Self::start_by(config, || programs::command("qtls-server"))
    }

    /// Starts a server with the P-384 certificate, and `changes` merged into its configuration, in a mount namespace where
    /// `script` was run before (see [`programs::command_after`]).
    #[track_caller]
    pub fn start_after(script: &str, changes: Value) -> Self {
        Self::start_with(changes, || programs::command_after(script, "qtls-server"))
    }

    #[track_caller]
    fn start_by(config: Value, command: impl Fn() -> Command) -> Self {
        for _ in 0..5 {
            let (port, metrics_port) = (free_port(), free_port());
            let mut config = config.clone();
            let workers = config["server"]["worker_threads"].as_u64();
            merge(&mut config, base(port, metrics_port));
            if let Some(workers) = workers {
                config["server"]["worker_threads"] = workers.into();
            }
            let directory = tempfile::tempdir().expect("the temporary directory is writable");
            let file = write_config(directory.path(), &config);
            let process = Running::start(command().arg("--config").arg(file));
            let listening = format!("listening on 127.0.0.1:{port}");
            if process.stderr.wait_for(PATIENCE, |line| line.contains(&listening)).is_some() {
                return Self { process, port, metrics_port, directory };
            }
            // Between choosing and binding, another process may have got the port.
            assert!(process.stderr.text().contains("in use"), "no \"{listening}\"\n{}", process.said());
        }
        panic!("five free ports in a row were taken by others");
    }

    /// Starts one more process with the same configuration file, as it is now.
    pub fn start_another(&self) -> Running {
        let file = self.directory.path().join("server.json");
        Running::start(programs::command("qtls-server").arg("--config").arg(file))
    }

    /// Has a new process take over (`server.handover` must be configured), and returns the old one, which drains.
    ///
    /// # Panics
    /// When the new process doesn't serve within [`PATIENCE`].
    #[track_caller]
    pub fn replace(&mut self) -> Running {
        let new = self.start_another();
        let took_over = new.stderr.wait_for(PATIENCE, |line| line.contains(" took over"));
        assert!(took_over.is_some(), "the new process didn't take over\n{}\nthe old one:\n{}", new.said(), self.log());
        std::mem::replace(&mut self.process, new)
    }

    /// Stops the process with SIGTERM and, when it has ended with exit code 0, starts another one with the same
    /// configuration.
    ///
    /// # Panics
    /// When either doesn't happen within a minute.
    #[track_caller]
    pub fn restart(&mut self) {
        self.process.signal(rustix::process::Signal::TERM);
        let status = self.process.ended(Duration::from_secs(60));
        assert_eq!(status.and_then(|status| status.code()), Some(0), "{}", self.log());
        self.process = self.start_another();
        self.wait_for_log(&format!("listening on 127.0.0.1:{}", self.port));
    }

    /// `localhost:PORT`.
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// A directory that ends with the server.
    pub fn directory(&self) -> &Path {
        self.directory.path()
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

    /// The first warning or error in the log with `pattern`, as soon as it is there.
    ///
    /// # Panics
    /// When it isn't there within [`PATIENCE`].
    #[track_caller]
    pub fn wait_for_warning(&self, pattern: &str) -> String {
        let warning = |line: &str| (line.contains(" WARN ") || line.contains(" ERROR ")) && line.contains(pattern);
        let found = self.process.stderr.wait_for(PATIENCE, warning);
        found.unwrap_or_else(|| panic!("no warning with {pattern:?} in\n{}", self.log()))
    }

    /// Merges `changes` into the configuration file, which is replaced in one step. The server isn't told.
    ///
    /// # Panics
    /// When the file can't be replaced.
    pub fn rewrite_config(&self, changes: Value) {
        let path = self.directory().join("server.json");
        let text = std::fs::read(&path).expect("the configuration is there");
        let mut config = serde_json::from_slice(&text).expect("it is JSON");
        merge(&mut config, changes);
        let new = self.directory().join("server.json.new");
        std::fs::write(&new, serde_json::to_vec_pretty(&config).expect("JSON")).expect("the directory is writable");
        std::fs::rename(new, path).expect("the directory is writable");
    }

    /// How many reloads were applied and refused so far.
    #[track_caller]
    pub fn reloads(&self) -> (f64, f64) {
        let metrics = self.metrics();
        let of = |result| metrics.sum("qtls_reloads_total", &[("result", result)]);
        (of("applied"), of("refused"))
    }

    /// Does `act`, and waits until one more reload was applied.
    #[track_caller]
    pub fn applies(&self, act: impl FnOnce()) {
        let (applied, _) = self.reloads();
        act();
        self.metrics_when("a reload that was applied", |metrics| {
            metrics.sum("qtls_reloads_total", &[("result", "applied")]) > applied
        });
    }

    /// Does `act`, waits until one more reload was refused, and returns the line of the log.
    #[track_caller]
    pub fn refuses(&self, act: impl FnOnce()) -> String {
        let refusals = |log: &str| -> Vec<String> {
            log.lines().filter(|line| line.contains("the old state stays in force")).map(str::to_owned).collect()
        };
        let (_, refused) = self.reloads();
        let before = refusals(&self.log()).len();
        act();
        self.metrics_when("a reload that was refused", |metrics| {
            metrics.sum("qtls_reloads_total", &[("result", "refused")]) > refused
        });
        // The metrics may be read before the line is.
        let is_told = |log: &str| refusals(log).len() > before;
        assert!(self.process.stderr.becomes(PATIENCE, is_told), "nothing is said of the refusal:\n{}", self.log());
        refusals(&self.log()).pop().expect("one more than before")
    }

    /// SIGHUP.
    pub fn hang_up(&self) {
        self.process.signal(rustix::process::Signal::HUP);
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
        self.metrics_within(PATIENCE, what, wanted)
    }

    /// The metrics as soon as they are `wanted`.
    ///
    /// # Panics
    /// When they aren't within `patience`.
    #[track_caller]
    pub fn metrics_within(&self, patience: Duration, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        let deadline = Instant::now() + patience;
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

    /// Asserts that the server counted exactly these handshakes since it started, in any order, by its metrics.
    ///
    /// # Panics
    /// When it counted others.
    #[track_caller]
    pub fn expect_handshakes(&self, expected: &[&Negotiated]) {
        let total = expected.len() as f64;
        let metrics = self
            .metrics_when(&format!("{total} handshakes"), |metrics| metrics.sum("qtls_handshakes_total", &[]) >= total);
        assert_eq!(metrics.sum("qtls_handshakes_total", &[]), total, "{}", metrics.text());
        for one in expected {
            let same = expected.iter().filter(|other| *other == one).count() as f64;
            let labels = [
                ("group", one.group.as_str()),
                ("pq", if one.post_quantum() { "true" } else { "false" }),
                ("scheme", one.scheme.as_deref().unwrap_or("none")),
                ("suite", one.suite.as_str()),
                ("resumed", if one.resumed { "true" } else { "false" }),
                ("hrr", if one.hello_retry_request { "true" } else { "false" }),
            ];
            assert_eq!(metrics.sum("qtls_handshakes_total", &labels), same, "{labels:?} in\n{}", metrics.text());
        }
    }

    /// The peak of the resident memory so far, in bytes.
    pub fn peak_memory(&self) -> u64 {
        self.memory("VmHWM:")
    }

    /// The resident memory now, in bytes.
    pub fn resident_memory(&self) -> u64 {
        self.memory("VmRSS:")
    }

    /// The processor time that it has used so far.
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("it runs");
        // User and system time, in hundredths of a second; the second field is a name in parentheses.
        let fields = stat.rsplit_once(')').expect("Linux has a name here").1.split_ascii_whitespace();
        let hundredths: u64 = fields.skip(11).take(2).map(|field| field.parse::<u64>().expect("a number")).sum();
        Duration::from_millis(hundredths * 10)
    }

    fn memory(&self, row: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let row = status.lines().find_map(|line| line.strip_prefix(row)).expect("Linux has this row");
        let kib: u64 = row.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
        kib * 1024
    }
}

/// Writes `config` as `server.json` into `directory`.
pub fn write_config(directory: &Path, config: &Value) -> PathBuf {
    let path = directory.join("server.json");
    std::fs::write(&path, serde_json::to_string_pretty(config).expect("JSON")).expect("the directory is writable");
    path
}

/// Lays `changes` over `config`: objects are merged, everything else is replaced, and null removes a key.
pub fn merge(config: &mut Value, changes: Value) {
    match (config, changes) {
        (Value::Object(config), Value::Object(changes)) => {
            for (key, change) in changes {
                if change.is_null() {
                    config.remove(&key);
                } else {
                    merge(config.entry(key).or_insert(Value::Null), change);
                }
            }
        }
        (config, changes) => *config = changes,
    }
}

/// A port of 127.0.0.1 where nothing listened a moment ago, and another one at each call.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    const FIRST: u16 = 20_000;
    // Those that the kernel gives to nobody by itself: they are still free when they are used. Each process begins at
    // another one.
    let count = u32::from(first_of_the_kernel().saturating_sub(FIRST));
    let begin = std::process::id().wrapping_mul(97);
    for number in 0..count {
        let port = FIRST + (begin.wrapping_add(number) % count) as u16;
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
    loop {
        let port = match TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()) {
            Ok(address) => address.port(),
            Err(error) if error.kind() == ErrorKind::AddrInUse => panic!("there is no free port left"),
            Err(error) => panic!("cannot bind 127.0.0.1: {error}"),
        };
        // The kernel may choose one twice, before whoever asked first listens there.
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
            return port;
        }
    }
}

/// The first of the ports that the kernel gives to who asks for any.
fn first_of_the_kernel() -> u16 {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    range.split_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(0)
}

fn base(port: u16, metrics_port: u16) -> Value {
    json!({
        "server": { "listen_address": "127.0.0.1", "listen_port": port, "worker_threads": 2 },
        "logging": { "level": "debug", "console": true },
        "metrics": { "enabled": true, "address": "127.0.0.1", "port": metrics_port, "path": "/metrics" },
    })
}
