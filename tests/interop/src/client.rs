//! qtls-client as a process.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::negotiated::Negotiated;
use crate::pki::Pki;
use crate::process::{Finished, run};
use crate::programs;

/// `qtls-client localhost:PORT --json`, not yet run.
#[derive(Debug)]
pub struct Client {
    command: Command,
}

impl Client {
    /// A client that trusts the shared certificates.
    pub fn new(port: u16) -> Self {
        Self::trusting(port, &Pki::shared().ca())
    }

    /// A client with other trust anchors.
    pub fn trusting(port: u16, ca: &Path) -> Self {
        let mut command = programs::command("qtls-client");
        command.arg(format!("localhost:{port}")).arg("--json").arg("--ca").arg(ca);
        Self { command }
    }

    /// A client certificate.
    #[must_use]
    pub fn certificate(mut self, (cert, key): (PathBuf, PathBuf)) -> Self {
        self.command.arg("--cert").arg(cert).arg("--key").arg(key);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn arguments<S: AsRef<std::ffi::OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    /// A configuration file with this content, written into `directory`.
    #[must_use]
    pub fn config(mut self, directory: &Path, config: &Value) -> Self {
        let path = directory.join("client.json");
        std::fs::write(&path, serde_json::to_string_pretty(config).expect("JSON")).expect("the directory is writable");
        self.command.arg("--config").arg(path);
        self
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Requests `path` over HTTP and waits for the end.
    pub fn get(mut self, path: &str) -> Finished {
        self.command.args(["--request", &format!("GET {path}")]);
        run(&mut self.command, b"")
    }

    /// Connects, and closes when the server had its time to refuse.
    pub fn connect(mut self) -> Finished {
        run(&mut self.command, b"")
    }

    /// Sends `input`, and prints what comes back until the server closes.
    pub fn send(mut self, input: &[u8]) -> Finished {
        self.command.arg("--stdio");
        run(&mut self.command, input)
    }
}

/// The facts that `qtls-client --json` printed.
///
/// # Panics
/// When it printed none, with what it said instead.
#[track_caller]
pub fn facts(finished: &Finished) -> Value {
    split(finished).0
}

/// What `qtls-client --json --stdio` printed after the facts: what the server sent.
///
/// # Panics
/// When it printed no facts, with what it said instead.
#[track_caller]
pub fn received(finished: &Finished) -> &str {
    split(finished).1
}

/// The body of the response in the facts of a request.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn body(facts: &Value) -> &str {
    facts["response"]["body"].as_str().unwrap_or_else(|| panic!("no body in {facts}"))
}

/// What `qtls-client --json` says was negotiated.
///
/// # Panics
/// When it says nothing.
#[track_caller]
pub fn negotiated(finished: &Finished) -> Negotiated {
    Negotiated::from_json(&facts(finished))
}

#[track_caller]
fn split(finished: &Finished) -> (Value, &str) {
    let Some((line, rest)) = finished.stdout.split_once('\n') else { panic!("no facts: {}", finished.said()) };
    let facts = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {}", finished.said()));
    (facts, rest)
}
