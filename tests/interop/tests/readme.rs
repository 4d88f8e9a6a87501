//! The commands of README.md do what stands beside them, on a host with its ports and its home.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use qtls_interop::documents::{Document, document};
use qtls_interop::hosts::{self, Host};
use qtls_interop::openssl::text;
use qtls_interop::process::{Finished, PATIENCE, Running, run_within};
use qtls_interop::{peers, programs};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

/// How long it may take to make keys of RSA-4096 on a busy machine: they are found by trial.
const LONG: Duration = Duration::from_secs(120);

/// A host whose reader has cloned the repository and built it: the programs are in `target/release`.
struct Reader {
    host: Host,
    directory: TempDir,
}

impl Reader {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        fs::create_dir(directory.path().join("target")).expect("the directory is writable");
        symlink(programs::directory(), directory.path().join("target/release")).expect("the directory is writable");
        Self { host: hosts::alone(), directory }
    }

    fn shell(&self, script: &str) -> Command {
        let mut shell = self.host.shell(self.directory.path(), script);
        shell.env("HOME", self.directory.path()).env_remove("XDG_STATE_HOME");
        shell
    }

    /// Runs a line of the document, with this as its standard input.
    #[track_caller]
    fn run(&self, line: &str, input: &str) -> Finished {
        run_within(&mut self.shell(line), input.as_bytes(), LONG).expect_success()
    }

    /// Runs `make run`, as far as it has to do with what was built, and waits until it serves.
    #[track_caller]
    fn make_run(&self, line: &str) -> Running {
        let makefile = fs::read_to_string(programs::repository().join("Makefile")).expect("there is a Makefile");
        assert!(makefile.contains("\nrun: build\n\t@scripts/demo.sh\n"), "make run does something else");
        let script = programs::repository().join("scripts/demo.sh");
        let line = line.trim_end().strip_suffix("make run").unwrap_or_else(|| panic!("{line} isn't make run"));
        let mut shell = self.shell(&format!("exec env {line} {}", script.display()));
        let demo = Running::start(shell.env("QTLS_BIN_DIR", programs::directory()));
        let ready = demo.stdout.wait_for(LONG, |line| line == "Ctrl-C stops the server.");
        assert!(ready.is_some(), "{}", demo.said());
        demo
    }
}

/// The blocks below a heading, which are of these kinds and no others.
#[track_caller]
fn blocks<const N: usize>(heading: &str, kinds: [&str; N]) -> [String; N] {
    let readme = document("README.md");
    let section = Document { text: readme.section(heading).to_owned(), ..readme };
    let blocks = section.blocks();
    let found: Vec<_> = blocks.iter().map(|block| block.info.as_str()).collect();
    assert_eq!(found, kinds, "{heading}");
    let texts: Vec<_> = blocks.into_iter().map(|block| block.text).collect();
    texts.try_into().expect("there are as many")
}

fn lines<const N: usize>(block: &str) -> [&str; N] {
    let lines: Vec<_> = block.lines().collect();
    lines.try_into().unwrap_or_else(|lines| panic!("{N} commands, and not {lines:?}"))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn it_begins_with_what_it_is_and_two_commands() {
    for (path, heading) in [("README.md", "## Two commands"), ("README.ko.md", "## 명령 두 개")] {
        let readme = document(path);
        let parts = readme.parts();
        assert_eq!([parts[0].heading.as_str(), parts[1].heading.as_str()], ["# Q-TLS", heading]);
        let first = parts[0].text.trim().split("\n\n").next().expect("it begins").replace('\n', " ");
        let sentences = first.split(". ").count();
        assert_eq!(sentences, 3, "{first}");
        assert_eq!(readme.blocks()[0].text, "make run\nmake test\n");
    }
}

#[test]
fn the_demonstration_shows_what_was_negotiated_and_stands_in_front_of_services() {
    let reader = Reader::new();
    let [two, in_front] = blocks("## Two commands", ["sh", "sh"]);
    let [look] = blocks("## Looking at it", ["sh"]);
    let demo = reader.make_run(lines::<2>(&two)[0]);
    assert!(demo.stderr.text().contains("X25519MLKEM768"), "{}", demo.said());
    // Which curl it is decides: that of this machine has OpenSSL 3.0.
    drop(peers::classical_curl());
    let [curl, client] = lines(&look);
    let answer = json(&reader.run(&curl.replace("curl ", "curl --silent --noproxy '*' "), "").stdout);
    assert_eq!((&answer["group"], &answer["post_quantum"]), (&"x25519".into(), &false.into()), "{answer}");
    let answer = json(&reader.run(client, "").stdout);
    assert_eq!((&answer["group"], &answer["post_quantum"]), (&"X25519MLKEM768".into(), &true.into()), "{answer}");
    let metrics = reader.run("curl --silent --noproxy '*' http://127.0.0.1:9091/metrics", "").stdout;
    assert!(metrics.contains("\nqtls_handshakes_total{"), "{metrics}");
    demo.signal(Signal::INT);
    demo.finish(PATIENCE).expect_success();

    // In front of a service, with the certificates that are there.
    let directory = reader.directory.path();
    fs::write(directory.join("index.html"), "the service itself\n").expect("the directory is writable");
    let _service = nginx(&reader.host, directory);
    let demo = reader.make_run(&in_front);
    let fetch = "target/release/qtls-client localhost:8443 --ca .local/state/qtls/demo/ca-bundle.pem --request 'GET /'";
    assert_eq!(reader.run(fetch, "").stdout, "the service itself\n");
    demo.signal(Signal::INT);
    demo.finish(PATIENCE).expect_success();

    // The same for any protocol over TCP, in the words of the next sentence.
    let mut redis = peers::debian("redis-server", [directory]);
    redis.args(["--bind", "127.0.0.1", "--port", "6379", "--save", "", "--appendonly", "no", "--daemonize", "no"]);
    let redis = Running::start(&mut reader.host.command(&redis));
    redis.stdout.wait_for_line("Ready to accept connections");
    let span = "UPSTREAM=tcp://127.0.0.1:6379";
    assert!(document("README.md").code_spans().iter().any(|shown| shown == span));
    let _demo = reader.make_run(&format!("{span} make run"));
    let ping = "target/release/qtls-client localhost:8443 --ca .local/state/qtls/demo/ca-bundle.pem";
    assert_eq!(reader.run(ping, "PING\r\nQUIT\r\n").stdout, "+PONG\r\n+OK\r\n");
}

#[test]
fn a_server_of_one_s_own_and_its_clients() {
    let reader = Reader::new();
    let [serve, _] = blocks("## Your own server", ["sh", "jsonc"]);
    let [clients] = blocks("## The client", ["sh"]);
    let [make, check, start] = lines(&serve);
    reader.run(make, "");
    let said = reader.run(check, "").stdout;
    assert!(said.starts_with("the configuration is good: "), "{said}");
    let server = Running::start(&mut reader.shell(&format!("exec {start}")));
    server.stderr.wait_for_line(" listening on ");

    let [stdio, request, facts, strict] = lines(&clients);
    let exchange = reader.run(stdio, "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(exchange.stdout.starts_with("HTTP/1.1 200 OK\r\n"), "{}", exchange.said());
    assert!(exchange.stderr.contains("X25519MLKEM768 (post-quantum)"), "{}", exchange.said());
    let answer = reader.run(request, "");
    assert_eq!(answer.stdout, "ok\n", "{}", answer.said());
    let facts = json(&reader.run(facts, "").stdout);
    assert_eq!((&facts["group"], &facts["verified"]), (&"X25519MLKEM768".into(), &true.into()), "{facts}");
    let exchange = reader.run(strict, "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(exchange.stdout.starts_with("HTTP/1.1 200 OK\r\n"), "{}", exchange.said());
    server.signal(Signal::TERM);
    server.finish(PATIENCE).expect_success();
}

/// nginx with the files of a directory, on port 3000 of the host.
fn nginx(host: &Host, directory: &Path) -> Running {
    let config = directory.join("nginx.conf");
    let written = format!(
        "daemon off; user root; worker_processes 1; pid /run/nginx.pid; error_log stderr notice;
         events {{ worker_connections 64; }}
         http {{ access_log off; server {{ listen 127.0.0.1:3000; root {}; }} }}",
        directory.display()
    );
    fs::write(&config, written).expect("the directory is writable");
    let mut command = peers::debian("nginx", [directory]);
    let nginx = Running::start(&mut host.command(command.args(["-c", text(&config)])));
    nginx.stderr.wait_for_line("start worker process ");
    nginx
}
