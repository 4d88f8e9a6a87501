//! Where standard error is the journal, a real systemd-journald gets each event once, with its priority and its fields; and
//! where there is none, nothing is lost.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use qtls_interop::log::refusals;
use qtls_interop::openssl::Client;
use qtls_interop::process::{PATIENCE, Running, run};
use qtls_interop::server::{free_port, write_config};
use qtls_interop::{Algorithm, Pki, programs};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Starts a journal, and sends standard error there, as systemd does it for its services.
const JOURNAL: &str = r#"
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/log/journal
echo 0123456789abcdef0123456789abcdef >/run/machine-id
[ ! -e /etc/machine-id ] || mount --bind /run/machine-id /etc/machine-id
PATH=/usr/lib/systemd:/lib/systemd:$PATH systemd-journald 2>/dev/null &
echo $! >/run/journald.pid
while [ ! -S /run/systemd/journal/stdout ]; do kill -0 $!; sleep 0.1; done
exec systemd-cat sh -euc 'export JOURNAL_STREAM=$(stat -L -c %d:%i /dev/fd/2); exec "$0" "$@"' "$0" "$@"
"#;

struct Journaled {
    running: Running,
    /// Its process identifier.
    journald: u32,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Journaled {
    /// A server behind `script`.
    fn start(script: &str) -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let (port, file) = config(directory.path());
        let running = Running::start(
            programs::command_after(script, "qtls-server").arg("--config").arg(file).env("LANG", "C.UTF-8"),
        );
        let pid = programs::path_beside(running.id(), Path::new("/run/journald.pid"));
        let journald = wait(|| fs::read_to_string(&pid).ok()?.trim().parse().ok(), || running.said());
        Self { running, journald, port, _directory: directory }
    }

    /// A file of the journal's file system, also after the end of the server.
    fn path(&self, path: &str) -> PathBuf {
        programs::path_beside(self.journald, Path::new(path))
    }

    /// The entries of the journal so far.
    fn entries(&self) -> Vec<Value> {
        let directory = self.path("/run/log/journal");
        let mut journalctl = Command::new("journalctl");
        let finished = run(journalctl.args(["--no-pager", "--all", "-o", "json", "-D"]).arg(directory), b"");
        finished.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The entry of the server that is `wanted`, as soon as it is there.
    #[track_caller]
    fn entry(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let pid = self.running.id().to_string();
        let found = || self.entries().into_iter().find(|entry| entry["_PID"] == pid.as_str() && wanted(entry));
        wait(found, || format!("{what} isn't there: {:#?}\n{}", self.entries(), self.running.said()))
    }
}

/// What `look` finds, as soon as it finds something.
#[track_caller]
fn wait<T>(look: impl Fn() -> Option<T>, said: impl Fn() -> String) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{}", said());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until the text of a file tells that the server listens.
#[track_caller]
fn wait_for_text(path: &Path) {
    let text = || fs::read_to_string(path).unwrap_or_default();
    wait(|| text().contains("\"message\":\"listening on").then_some(()), text);
}

fn config(directory: &Path) -> (u16, PathBuf) {
    let port = free_port();
    let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
    let config = json!({
        "server": { "listen_address": "127.0.0.1", "listen_port": port, "worker_threads": 1 },
        "certificates": { "server_cert": cert, "server_key": key },
        "logging": { "console": true, "format": "json" },
    });
    (port, write_config(directory, &config))
}

fn message(entry: &Value) -> &str {
    entry["MESSAGE"].as_str().unwrap_or_default()
}

#[test]
fn the_journal_has_each_event_once_with_priority_and_fields() {
    let journaled = Journaled::start(JOURNAL);
    let listening = journaled.entry("the start", |entry| message(entry).starts_with("listening on 127.0.0.1:"));
    assert_eq!((&listening["PRIORITY"], &listening["_TRANSPORT"]), (&json!("6"), &json!("journal")));
    assert_eq!((&listening["SYSLOG_IDENTIFIER"], &listening["_COMM"]), (&json!("qtls-server"), &json!("qtls-server")));

    Client::new(journaled.port).get("/");
    let connection = journaled.entry("the connection", |entry| entry["QTLS_EVENT"] == "connection");
    for (field, value) in [
        ("PRIORITY", "6"),
        ("QTLS_GROUP", "X25519MLKEM768"),
        ("QTLS_PQ", "true"),
        ("QTLS_SERVER_NAME", "localhost"),
        ("QTLS_REQUESTS", "1"),
        ("QTLS_REASON", "closed"),
    ] {
        assert_eq!(connection[field], value, "{field} in {connection:#}");
    }
    // What people see has the fields as well, and no time and level: the journal shows its own.
    assert!(message(&connection).starts_with("connection ended event=connection client=127.0.0.1:"), "{connection:#}");

    refusals(journaled.port, 1);
    let refusal = journaled.entry("the refusal", |entry| entry["QTLS_EVENT"] == "handshake_failed");
    assert_eq!((&refusal["PRIORITY"], &refusal["QTLS_REASON"]), (&json!("4"), &json!("no_common_version")));

    journaled.running.signal(Signal::TERM);
    journaled.entry("the end", |entry| message(entry) == "stopped");
    let entries = journaled.entries();
    let ours: Vec<_> = entries.iter().filter(|entry| entry["_COMM"] == "qtls-server").collect();
    assert!(ours.iter().all(|entry| entry["_TRANSPORT"] == "journal"), "{ours:#?}");
    for event in ["connection", "handshake_failed"] {
        assert_eq!(ours.iter().filter(|entry| entry["QTLS_EVENT"] == event).count(), 1, "{ours:#?}");
    }
}

#[test]
fn standard_error_that_was_sent_elsewhere_is_text() {
    let elsewhere = r#"exec systemd-cat sh -euc 'export JOURNAL_STREAM=$(stat -L -c %d:%i /dev/fd/2); exec "$0" "$@" 2>/run/stderr' "$0" "$@""#;
    let journal = JOURNAL.split_once("exec systemd-cat").expect("its last line").0;
    let journaled = Journaled::start(&format!("{journal}{elsewhere}"));
    wait_for_text(&journaled.path("/run/stderr"));
    let entries = journaled.entries();
    assert!(!entries.iter().any(|entry| entry["_COMM"] == "qtls-server"), "{entries:#?}");
}

#[test]
fn without_a_journal_its_stream_has_the_text() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (_, config) = config(directory.path());
    let path = directory.path().join("stderr");
    let stderr = File::create(&path).expect("it is writable");
    let found = stderr.metadata().expect("it is there");
    // As if it were the journal's, where nobody listens.
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2>\"$STDERR\""]).env("STDERR", &path);
    command.arg(programs::directory().join("qtls-server")).arg("--config").arg(config);
    let _running = Running::start(command.env("JOURNAL_STREAM", format!("{}:{}", found.dev(), found.ino())));
    wait_for_text(&path);
}
