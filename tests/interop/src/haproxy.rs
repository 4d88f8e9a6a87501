//! HAProxy: in front of replicas, as a load balancer that asks each of them whether it is ready; or as a test has it.

use std::fmt::Write;
use std::net::TcpStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::openssl::text;
use crate::peers;
use crate::process::{PATIENCE, Running};
use crate::server::{Server, free_port};

/// Debian's HAProxy, which passes TCP connections on.
#[derive(Debug)]
pub struct HaProxy {
    process: Running,
    _work: TempDir,
    /// The port that it listens on.
    pub port: u16,
}

impl HaProxy {
    /// Starts it in front of `servers`, each of which it asks ten times a second for `/ready` on its metrics port. One
    /// that says no gets no further connection; the connections that it has go on. One that is slow to answer, as on a busy
    /// machine, has not said no.
    ///
    /// # Panics
    /// When it doesn't start.
    pub fn before(servers: &[Server]) -> Self {
        let port = free_port();
        let mut config = format!(
            "global\n    log stderr format raw daemon\n    maxconn 1000\n\
             defaults\n    mode tcp\n    log global\n    balance roundrobin\n    retries 0\n    \
             timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n    \
             timeout check 10s\n\
             listen replicas\n    bind 127.0.0.1:{port}\n    option httpchk GET /ready\n    http-check expect status 200\n"
        );
        for (index, server) in servers.iter().enumerate() {
            let Server { port, metrics_port, .. } = server;
            let _ = writeln!(
                config,
                "    server replica{index} 127.0.0.1:{port} check port {metrics_port} inter 100ms fall 1 rise 1"
            );
        }
        Self::with(port, &config)
    }

    /// Starts it with a configuration, by which it listens on `port` of 127.0.0.1.
    ///
    /// # Panics
    /// When it doesn't start.
    pub fn with(port: u16, config: &str) -> Self {
        Self::sharing([], port, config)
    }

    /// [`HaProxy::with`], where these directories are visible to it.
    ///
    /// # Panics
    /// When it doesn't start.
    pub fn sharing<const N: usize>(directories: [&Path; N], port: u16, config: &str) -> Self {
        let work = tempfile::tempdir().expect("the temporary directory is writable");
        let file = work.path().join("haproxy.cfg");
        std::fs::write(&file, config).expect("the temporary directory is writable");
        let shared = directories.into_iter().chain([work.path()]);
        let process = Running::start(peers::debian("haproxy", shared).args(["-db", "-f", text(&file)]));
        let begin = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begin.elapsed() < PATIENCE, "HAProxy doesn't listen\n{}", process.said());
            thread::sleep(Duration::from_millis(20));
        }
        Self { process, _work: work, port }
    }

    /// Everything that it printed, for messages.
    pub fn said(&self) -> String {
        self.process.said()
    }

    /// Whether it prints this, for which it gets some time.
    pub fn says(&self, words: &str) -> bool {
        self.process.stderr.becomes(PATIENCE, |text| text.contains(words))
    }

    /// Waits until it says that a replica is `UP` or `DOWN`, for the `times`th time.
    ///
    /// # Panics
    /// When it doesn't say so in time.
    #[track_caller]
    pub fn wait_for(&self, replica: usize, state: &str, times: usize) {
        let line = format!("replicas/replica{replica} is {state}");
        let said = self.process.stderr.becomes(PATIENCE, |text| text.matches(&line).count() >= times);
        assert!(said, "HAProxy never said {line:?} {times} times:\n{}", self.process.said());
    }
}
