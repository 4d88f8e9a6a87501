//! A steady load from Go's crypto/tls: new handshakes, every other one with a session of before, and long transfers whose
//! every byte is checked.

use std::path::Path;
use std::process::ChildStdin;
use std::time::Duration;

use serde_json::Value;

use crate::openssl::text;
use crate::peers;
use crate::process::Running;

/// The load, for as long as this value lives or until [`Load::stop`].
#[derive(Debug)]
pub struct Load {
    process: Running,
    input: ChildStdin,
}

/// What the load went through.
#[derive(Debug)]
pub struct Report {
    /// Handshakes after which a line came back.
    pub handshakes: u64,
    /// How many of them resumed a session.
    pub resumed: u64,
    /// Transfers that came back whole, with equal SHA-256.
    pub transfers: u64,
    /// Bytes of these transfers, both ways.
    pub bytes: u64,
    /// Connections by group, in Go's notation.
    pub groups: Value,
    /// What failed, each with its time in UTC.
    pub failures: Vec<String>,
}

impl Load {
    /// Starts a load on `port`, behind which is an [`echo`](crate::upstreams::echo), and whose certificate `ca` vouches
    /// for. A transfer has `chunks` of 64 KiB, each 10 ms after the one before.
    pub fn start(port: u16, ca: &Path, handshakers: u32, transferrers: u32, chunks: u32) -> Self {
        let mut command = peers::go();
        command.args(["load", "-ca", text(ca), "-server-name", "localhost"]);
        let counts = [("-handshakers", handshakers), ("-transferrers", transferrers), ("-chunks", chunks)];
        for (name, count) in counts {
            command.args([name, &count.to_string()]);
        }
        let mut process = Running::start(command.arg(format!("127.0.0.1:{port}")));
        let input = process.stdin();
        process.stdout.wait_for_line("running");
        Self { process, input }
    }

    /// Lets what is under way finish, and reports.
    ///
    /// # Panics
    /// When it doesn't end within a minute and a half.
    pub fn stop(self) -> Report {
        let Self { process, input } = self;
        drop(input);
        let finished = process.finish(Duration::from_secs(90)).expect_success();
        let line = finished.stdout.lines().last().unwrap_or_default();
        let report: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {}", finished.said()));
        let count = |name: &str| report[name].as_u64().unwrap_or_else(|| panic!("no {name} in {report}"));
        let failures = report["failures"].as_array().into_iter().flatten();
        Report {
            handshakes: count("handshakes"),
            resumed: count("resumed"),
            transfers: count("transfers"),
            bytes: count("bytes"),
            groups: report["groups"].clone(),
            failures: failures.map(|failure| failure.as_str().unwrap_or_default().to_owned()).collect(),
        }
    }
}

impl Report {
    /// Fails the test unless there was a load worth the name, all of it post-quantum, and nothing of it failed.
    ///
    /// # Panics
    /// When something failed, with what it was.
    #[track_caller]
    pub fn expect_no_failure(&self, handshakes: u64, transfers: u64) {
        assert!(self.failures.is_empty(), "{} failures: {:#?}", self.failures.len(), self.failures);
        assert!(self.handshakes >= handshakes && self.transfers >= transfers, "too little to tell: {self:?}");
        let groups = self.groups.as_object().expect("an object");
        assert!(groups.keys().all(|group| group == "X25519MLKEM768"), "{groups:?}");
    }
}
