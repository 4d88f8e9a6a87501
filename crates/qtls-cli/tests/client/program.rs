//! The program itself, with a bound on the time that it may take.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long any run may take.
const LIMIT: Duration = Duration::from_secs(60);

/// `qtls-client`, not yet run, in an environment of its own.
pub(crate) struct Client(Command);

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

/// A run that goes on.
pub(crate) struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: ChildStdout,
    printed: Vec<u8>,
    stderr: Receiver<Vec<u8>>,
}

impl Client {
    pub(crate) fn new() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qtls-client"));
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command)
    }

    /// To `localhost` on `port`, trusting `ca`.
    pub(crate) fn to(port: u16, ca: &Path) -> Self {
        Self::new().arg(format!("localhost:{port}")).arg("--ca").arg(ca)
    }

    pub(crate) fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.0.arg(argument);
        self
    }

    pub(crate) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.0.args(arguments);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(name, value);
        self
    }

    /// One attempt, no repetitions.
    pub(crate) fn once(self) -> Self {
        self.env("QTLS__CLIENT__MAX_RETRIES", "0")
    }

    /// Runs with nothing on standard input.
    pub(crate) fn run(self) -> Finished {
        self.start().finish()
    }

    /// Runs with `input` on standard input, and its end behind it.
    pub(crate) fn run_with(mut self, input: impl Into<Vec<u8>>) -> Finished {
        let input = input.into();
        self.0.stdin(Stdio::piped());
        let mut running = self.start();
        let mut stdin = running.stdin.take().unwrap();
        // A client that has ended takes no more.
        thread::spawn(move || stdin.write_all(&input));
        running.finish()
    }

    /// Runs with a standard input that stays open.
    pub(crate) fn start_open(mut self) -> Running {
        self.0.stdin(Stdio::piped());
        self.start()
    }

    fn start(mut self) -> Running {
        let mut child = self.0.spawn().unwrap();
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().unwrap();
        let stderr = collect(child.stderr.take().unwrap(), Vec::new());
        Running { child, stdin, stdout, printed: Vec::new(), stderr }
    }
}

impl Running {
    /// Writes to standard input.
    pub(crate) fn write(&mut self, data: &[u8]) {
        self.stdin.as_mut().unwrap().write_all(data).unwrap();
    }

    /// Reads that much from standard output. The program has to end by itself where it prints less.
    pub(crate) fn read(&mut self, count: usize) {
        let mut data = vec![0; count];
        self.stdout.read_exact(&mut data).unwrap();
        self.printed.extend(data);
    }

    /// Waits for the end. Standard input stays as it is until then.
    pub(crate) fn finish(self) -> Finished {
        let Self { mut child, stdin, stdout, printed, stderr } = self;
        let stdout = collect(stdout, printed);
        let deadline = Instant::now() + LIMIT;
        let mut wait =
            |what: &Receiver<Vec<u8>>| match what.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(data) => data,
                Err(_) => {
                    child.kill().unwrap();
                    panic!("qtls-client has not ended within {LIMIT:?}");
                }
            };
        let (stdout, stderr) = (wait(&stdout), wait(&stderr));
        let code = child.wait().unwrap().code();
        drop(stdin);
        Finished { code, stdout, stderr: String::from_utf8(stderr).unwrap() }
    }
}

impl Finished {
    /// Expects this exit code.
    #[track_caller]
    pub(crate) fn code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stderr: {}\nstdout: {}", self.stderr, String::from_utf8_lossy(&self.stdout));
        self
    }

    /// Expects these words on standard error.
    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.stderr.contains(words), "no {words:?} in: {}", self.stderr);
        self
    }

    /// Expects standard error to lack these words.
    #[track_caller]
    pub(crate) fn silent_on(self, words: &str) -> Self {
        assert!(!self.stderr.contains(words), "{words:?} in: {}", self.stderr);
        self
    }

    /// Expects exactly this on standard output.
    #[track_caller]
    pub(crate) fn prints(self, data: impl AsRef<[u8]>) -> Self {
        let (printed, data) = (&self.stdout, data.as_ref());
        assert!(printed == data, "expected {} bytes, found {}: {}", data.len(), printed.len(), self.text());
        self
    }

    /// The start of standard output, as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout[..self.stdout.len().min(1000)]).into_owned()
    }

    /// The one line of JSON on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let text = std::str::from_utf8(&self.stdout).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        serde_json::from_str(text).unwrap()
    }
}

fn collect(mut from: impl Read + Send + 'static, mut data: Vec<u8>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let _ = from.read_to_end(&mut data);
        let _ = sender.send(data);
    });
    receiver
}
