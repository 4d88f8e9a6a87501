//! OpenSSL 3.5 as a client and as a server.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::negotiated::Negotiated;
use crate::pki::Pki;
use crate::process::{Finished, PATIENCE, Running, run};
use crate::{peers, trace};

/// `openssl s_client` towards a port of 127.0.0.1, which asks for `localhost` and verifies it.
#[derive(Debug)]
pub struct Client {
    port: u16,
    arguments: Vec<String>,
    /// The directories of the files that it is given.
    shares: Vec<PathBuf>,
    work: TempDir,
}

/// What `s_client` did.
#[derive(Debug)]
pub struct Exchange {
    /// How it ended, and what it printed: standard output is what the server sent.
    pub finished: Finished,
    /// The trace of every message.
    pub trace: String,
}

impl Client {
    /// A client that trusts the shared certificates.
    pub fn new(port: u16) -> Self {
        Self::trusting(port, &Pki::shared().ca())
    }

    /// A client with other trust anchors.
    pub fn trusting(port: u16, ca: &Path) -> Self {
        let work = tempfile::tempdir().expect("the temporary directory is writable");
        let shares = vec![directory(ca)];
        Self { port, arguments: Vec::new(), shares, work }.arguments(&["-CAfile", text(ca)])
    }

    /// Groups in OpenSSL's notation: with `*` before those to send a key share for.
    #[must_use]
    pub fn groups(self, groups: &str) -> Self {
        self.arguments(&["-groups", groups])
    }

    /// More arguments.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Makes a directory visible to the client, at the same path.
    #[must_use]
    pub fn sharing(mut self, directory: &Path) -> Self {
        self.shares.push(directory.to_owned());
        self
    }

    /// A client certificate.
    #[must_use]
    pub fn certificate(mut self, (cert, key): (PathBuf, PathBuf)) -> Self {
        self.shares.extend([directory(&cert), directory(&key)]);
        self.arguments(&["-cert", text(&cert), "-cert_chain", text(&cert), "-key", text(&key)])
    }

    /// Sends `input`, then waits until the server closes the connection.
    pub fn send(&self, input: &[u8]) -> Exchange {
        let trace = self.work.path().join("trace");
        let mut command = self.command(Some(self.work.path()));
        command.args(["-trace", "-msgfile", text(&trace)]);
        let finished = run(&mut command, input);
        // Without a connection there is no trace.
        let trace =
            std::fs::read(trace).map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned());
        Exchange { finished, trace }
    }

    /// Makes one HTTP request.
    pub fn get(&self, path: &str) -> Exchange {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
    }

    /// Connects and stays connected: what is written to it is sent, what it prints was received.
    pub fn start(&self) -> Running {
        Running::start(&mut self.command(None))
    }

    /// Makes the client keep the session that the server gives it.
    #[must_use]
    pub fn saving_session(self) -> Self {
        let file = self.session_file();
        self.arguments(&["-sess_out", text(&file)])
    }

    /// A client that offers the session which `other` kept.
    #[must_use]
    pub fn resuming(self, other: &Self) -> Self {
        let kept = std::fs::read(other.session_file()).expect("the other client was given a session");
        std::fs::write(self.session_file(), kept).expect("the temporary directory is writable");
        let file = self.session_file();
        self.arguments(&["-sess_in", text(&file)])
    }

    fn session_file(&self) -> PathBuf {
        self.work.path().join("session")
    }

    fn command(&self, work: Option<&Path>) -> Command {
        // Line by line, so that a test sees what was received while the connection is open.
        let mut command = peers::debian("stdbuf", self.shares.iter().map(PathBuf::as_path).chain(work));
        let address = format!("127.0.0.1:{}", self.port);
        command.args(["-oL", "openssl", "s_client", "-quiet", "-connect", &address, "-servername", "localhost"]);
        command.args(["-verify_hostname", "localhost", "-verify_return_error"]);
        command.args(&self.arguments);
        command
    }
}

impl Exchange {
    /// What was negotiated, by the messages that OpenSSL saw.
    ///
    /// # Panics
    /// When there was not exactly one handshake.
    #[track_caller]
    pub fn negotiated(&self) -> Negotiated {
        let mut handshakes = trace::handshakes(&self.trace);
        assert_eq!(handshakes.len(), 1, "{}", self.finished.said());
        handshakes.remove(0)
    }

    /// The body of an HTTP answer.
    ///
    /// # Panics
    /// When there was none, with what OpenSSL said instead.
    #[track_caller]
    pub fn body(&self) -> &str {
        let answer = self.finished.stdout.split_once("HTTP/1.").unwrap_or_else(|| panic!("{}", self.finished.said())).1;
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{}", self.finished.said())).1
    }

    /// The body of an HTTP answer as JSON.
    ///
    /// # Panics
    /// When it isn't.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(self.body()).unwrap_or_else(|error| panic!("{error}: {}", self.finished.said()))
    }

    /// The description of the fatal alert that OpenSSL received: `protocol version`.
    pub fn alert(&self) -> Option<&str> {
        let received = self.trace.rsplit_once("Received TLS Record")?.1;
        received.split_once("Level=fatal(2), description=")?.1.split('(').next()
    }
}

/// `openssl s_server -www`, which answers HTTP requests with a page about the connection.
#[derive(Debug)]
pub struct Server {
    process: Running,
    /// The port that it listens on.
    pub port: u16,
}

impl Server {
    /// Starts a server with a chain and a key, which verifies clients, if `arguments` make it, against `ca`.
    ///
    /// # Panics
    /// When it doesn't listen within [`PATIENCE`].
    #[track_caller]
    pub fn start((cert, key): (PathBuf, PathBuf), ca: &Path, arguments: &[&str]) -> Self {
        // Line by line, or the end of the trace would stay in a buffer of the program.
        let mut command = peers::debian("stdbuf", [directory(&cert), directory(&key), directory(ca)]);
        command.args(["-oL", "openssl", "s_server", "-accept", "127.0.0.1:0", "-www", "-trace", "-CAfile", text(ca)]);
        command.args(["-cert", text(&cert), "-cert_chain", text(&cert), "-key", text(&key)]).args(arguments);
        let process = Running::start(&mut command);
        let accepting = process.stdout.wait_for(PATIENCE, |line| line.starts_with("ACCEPT 127.0.0.1:"));
        let Some(accepting) = accepting else { panic!("s_server doesn't listen\n{}", process.said()) };
        let port = accepting.rsplit(':').next().and_then(|port| port.trim().parse().ok());
        Self { process, port: port.unwrap_or_else(|| panic!("no port in {accepting:?}")) }
    }

    /// Asserts that OpenSSL saw exactly these handshakes.
    ///
    /// # Panics
    /// When it saw others.
    #[track_caller]
    pub fn expect_handshakes(&self, expected: &[Negotiated]) {
        trace::expect_handshakes(&self.process.stdout, expected);
    }

    /// Everything that it printed, for messages.
    pub fn said(&self) -> String {
        self.process.said()
    }
}

fn directory(file: &Path) -> PathBuf {
    file.parent().map(Path::to_owned).expect("a file lies in a directory")
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary paths are UTF-8")
}
