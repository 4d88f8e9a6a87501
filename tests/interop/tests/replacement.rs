//! A new process takes the listening sockets over from the old one: clients notice nothing, and whatever becomes of the
//! new process before it serves changes nothing.

#![allow(clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use qtls_interop::client;
use qtls_interop::handover::Guest;
use qtls_interop::load::Load;
use qtls_interop::metrics::Metrics;
use qtls_interop::openssl::Client;
use qtls_interop::process::{PATIENCE, run};
use qtls_interop::upstreams::echo;
use qtls_interop::{Algorithm, Negotiated, Pki, Running, Server, programs, server, wire};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server that can be replaced, in front of an echo.
struct Replaceable {
    server: Server,
    directory: TempDir,
}

impl Replaceable {
    fn start(changes: Value) -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let mut config = json!({
            "server": { "handover": directory.path().join("socket"), "drain_timeout": 60 },
            "upstream": { "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] },
        });
        server::merge(&mut config, changes);
        Self { server: Server::start(config), directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("socket")
    }
}

/// A handshake in the hybrid group, and a line back and forth.
#[track_caller]
fn serves(port: u16) {
    let finished = client::Client::new(port).send(b"hello\n").expect_success();
    assert_eq!(client::negotiated(&finished), Negotiated::new("X25519MLKEM768", "ecdsa_secp384r1_sha384"));
    assert_eq!(client::received(&finished), "hello\nthat was 6 bytes\n");
}

/// The old process ends by itself, when its last connection has.
#[track_caller]
fn ended_in_peace(old: Running) {
    let finished = old.finish(PATIENCE).expect_success();
    assert!(finished.stderr.contains("another process has taken over"), "{}", finished.said());
    assert!(!finished.stderr.contains("closing what is open"), "{}", finished.said());
    assert!(!finished.stderr.contains("ERROR"), "{}", finished.said());
}

#[test]
fn metrics_and_health_are_the_new_process_from_the_moment_that_it_serves() {
    let mut replaceable = Replaceable::start(json!({}));
    serves(replaceable.server.port);
    let metrics_port = replaceable.server.metrics_port;
    let handshakes = || replaceable.server.metrics().sum("qtls_handshakes_total", &[]);
    assert_eq!(handshakes(), 1.0);
    // A scraper that keeps its connection, and a client that keeps the old process draining.
    let mut scraper = wire::connect(metrics_port);
    scraper.write_all(b"GET /ready HTTP/1.1\r\nHost: x\r\n\r\n").expect("it is open");
    let mut head = [0; 12];
    scraper.read_exact(&mut head).expect("an answer");
    assert_eq!(&head, b"HTTP/1.1 200");
    let mut client = Client::new(replaceable.server.port).start();
    let mut input = client.stdin();
    writeln!(input, "before").expect("the connection is open");
    client.stdout.wait_for_line("before");
    // The one before may be ending yet.
    let one = |metrics: &Metrics| metrics.sum("qtls_connections_active", &[]) == 1.0;
    replaceable.server.metrics_when("one connection", one);

    let old = replaceable.server.replace();
    wire::read_to_end(&mut scraper);
    assert_eq!(replaceable.server.metrics().sum("qtls_handshakes_total", &[]), 0.0, "another process counts");
    let ready = wire::http_get(metrics_port, "/ready");
    assert_eq!((ready.status, ready.body.as_str()), (200, "ready\n"));
    assert!(old.stderr.wait_for_line("another process has taken over").contains("connections=1"));
    writeln!(input, "after").expect("the connection is open");
    client.stdout.wait_for_line("after");
    serves(replaceable.server.port);
    assert_eq!(replaceable.server.metrics().sum("qtls_handshakes_total", &[]), 1.0);

    // The service manager stops both: the old process goes on draining, and a second signal ends it.
    old.signal(Signal::TERM);
    old.stderr.wait_for_line("SIGTERM: stopping already");
    writeln!(input, "still").expect("the connection is open");
    client.stdout.wait_for_line("still");
    old.signal(Signal::TERM);
    let finished = old.finish(PATIENCE).expect_success();
    assert!(finished.stderr.contains("SIGTERM, a second signal: closing what is open"), "{}", finished.said());
}

#[test]
fn a_new_process_with_a_broken_configuration_changes_nothing() {
    let replaceable = Replaceable::start(json!({}));
    let server = &replaceable.server;
    // Before it asks, and after: a port of the metrics that somebody else has.
    server.rewrite_config(json!({ "tls": { "hybrid_mode": "perhaps" } }));
    let refused = server.start_another().finish(PATIENCE).expect_code(2);
    assert!(refused.stderr.contains("tls.hybrid_mode: expected true or false"), "{}", refused.said());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = taken.local_addr().expect("it is bound").port();
    server.rewrite_config(json!({ "tls": { "hybrid_mode": true }, "metrics": { "port": port } }));
    let failed = server.start_another().finish(PATIENCE).expect_code(2);
    let message = format!("metrics.port: 127.0.0.1:{port} is in use by another process");
    assert!(failed.stderr.contains(&message), "{}", failed.said());
    let line = server.wait_for_warning("the hand-over failed");
    assert!(line.contains("this process goes on as before: the new process ended before it served"), "{line}");
    serves(server.port);
    assert_eq!(wire::http_get(server.metrics_port, "/ready").status, 200);
}

#[test]
fn a_new_process_may_die_at_any_moment() {
    let mut replaceable = Replaceable::start(json!({ "logging": { "level": "info" } }));
    let load = Load::start(replaceable.server.port, &Pki::shared().ca(), 2, 1, 100);
    // At each step of the conversation.
    let path = replaceable.path();
    for step in 0..4 {
        let mut guest = Guest::connect(&path);
        if step > 0 {
            guest.hello();
            guest.offer();
        }
        if step > 1 {
            guest.say(&json!({ "message": "ready", "taken": [0, 1] }));
        }
        if step > 2 {
            assert_eq!(guest.hear()["message"], "go");
        }
        drop(guest);
        let told =
            |log: &str| log.matches("the hand-over failed, and this process goes on as before").count() == step + 1;
        assert!(replaceable.server.process.stderr.becomes(PATIENCE, told), "{}", replaceable.server.log());
    }
    // A real one, wherever it happens to be; but not between being let in and saying that it serves.
    let mut killed = 0;
    for delay in (0..40).step_by(2) {
        let new = replaceable.server.start_another();
        new.stderr.wait_for_line("taking over from the process that serves so far");
        std::thread::sleep(Duration::from_micros(delay * 500));
        new.signal(Signal::STOP);
        // What it has said by now has been heard, also by a process that had to wait for a processor.
        if let Some(ready) = replaceable.server.process.stderr.wait_for(Duration::from_millis(1000), |line| {
            line.contains("the new process is ready") && line.contains(&format!("process={}", new.id()))
        }) {
            println!("too late to kill: {ready}");
            new.signal(Signal::CONT);
            new.stderr.wait_for_line(" took over");
            ended_in_peace(std::mem::replace(&mut replaceable.server.process, new));
            continue;
        }
        new.signal(Signal::KILL);
        killed += 1;
    }
    println!("{killed} of 20 were killed before they were ready");
    assert!(killed > 0);
    let report = load.stop();
    report.expect_no_failure(50, 1);
    serves(replaceable.server.port);
}

#[test]
fn two_at_once_are_one_too_many() {
    let mut replaceable = Replaceable::start(json!({}));
    let mut guest = Guest::connect(&replaceable.path());
    guest.hello();
    guest.offer();
    let refused = replaceable.server.start_another().finish(PATIENCE).expect_code(2);
    let own = std::process::id();
    let message = format!("the old process hands nothing over: process {own} is taking over at this moment");
    assert!(refused.stderr.contains(&message), "{}", refused.said());
    assert!(refused.stderr.contains("server.handover"), "{}", refused.said());
    assert!(refused.stderr.contains("hint: "), "{}", refused.said());
    drop(guest);
    replaceable.server.wait_for_warning("the hand-over failed");
    ended_in_peace(replaceable.server.replace());
    serves(replaceable.server.port);
}

#[test]
fn another_address_is_bound_and_the_old_socket_is_left_behind() {
    let mut replaceable = Replaceable::start(json!({}));
    let old_port = replaceable.server.port;
    // A client that is connected, and that the old process has not accepted yet: it is stopped.
    replaceable.server.process.signal(Signal::STOP);
    let mut waiting = Client::new(old_port).start();
    let new_port = server::free_port();
    let begin = Instant::now();
    while !is_waiting(old_port) {
        assert!(begin.elapsed() < PATIENCE, "the client never came\n{}", waiting.said());
        std::thread::sleep(Duration::from_millis(10));
    }
    replaceable.server.process.signal(Signal::CONT);
    replaceable.server.rewrite_config(json!({ "server": { "listen_port": new_port } }));
    let old = replaceable.server.replace();
    let note = format!(
        "the old process' socket 127.0.0.1:{old_port} for TLS is not taken over: server.listen_port says 127.0.0.1:{new_port}"
    );
    replaceable.server.wait_for_log(&note);
    assert_eq!(replaceable.server.log().matches(&note).count(), 1, "once, for both of its sockets");
    let mut input = waiting.stdin();
    writeln!(input, "hello").expect("the connection is open");
    waiting.stdout.wait_for_line("hello");
    serves(new_port);
    assert_eq!(wire::http_get(replaceable.server.metrics_port, "/ready").status, 200);
    drop((input, waiting));
    ended_in_peace(old);
    TcpStream::connect(("127.0.0.1", old_port)).expect_err("nobody listens any more");
}

/// Whether a connection to the port waits to be accepted.
fn is_waiting(port: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has this table");
    let local = format!("0100007F:{port:04X}");
    // The state 0A is LISTEN, and its receive queue counts what waits.
    table.lines().map(str::split_whitespace).any(|mut columns| {
        let (address, state) = (columns.nth(1), columns.nth(1));
        let queue = columns.next().and_then(|queues| queues.split_once(':')).map(|(_, receive)| receive);
        address == Some(&local) && state == Some("0A") && queue.is_some_and(|queue| queue != "00000000")
    })
}

#[test]
fn every_socket_is_served_by_fewer_workers_and_by_more() {
    let mut replaceable = Replaceable::start(json!({ "server": { "worker_threads": 4 } }));
    for workers in [1, 3, 8] {
        replaceable.server.rewrite_config(json!({ "server": { "worker_threads": workers } }));
        ended_in_peace(replaceable.server.replace());
        let line = replaceable.server.wait_for_log("listening on");
        assert!(line.contains(&format!("the socket of the process before, with {workers} workers")), "{line}");
        // The kernel spreads connections over the four sockets: some of 40 go to each, and each is answered.
        let port = replaceable.server.port;
        let clients: Vec<_> = (0..40).map(|_| std::thread::spawn(move || raw_handshake(port))).collect();
        clients.into_iter().for_each(|client| client.join().expect("it is answered"));
    }
}

/// Sends what is no TLS, and is answered: cheaper than forty handshakes.
fn raw_handshake(port: u16) {
    let mut stream = wire::connect(port);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("it is open");
    let answer = wire::read_to_end(&mut stream);
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_process_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can start a process of another user");
        return;
    }
    const NOBODY: u32 = 65534;
    let replaceable = Replaceable::start(json!({}));
    // In the way of others are the mode of the socket, and that of the directory. Both are out of the way for this.
    for (path, mode) in [(replaceable.directory.path(), 0o755), (&replaceable.path(), 0o666)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("it is ours");
    }
    let theirs = tempfile::tempdir().expect("the temporary directory is writable");
    let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
    let give = |from: &Path, name: &str| {
        let to = theirs.path().join(name);
        std::fs::copy(from, &to).expect("it can be copied");
        chown(&to, Some(NOBODY), Some(NOBODY)).expect("root may");
        to
    };
    let config = json!({
        "server": {
            "listen_address": "127.0.0.1", "listen_port": replaceable.server.port, "handover": replaceable.path()
        },
        "certificates": { "server_cert": give(&cert, "cert.pem"), "server_key": give(&key, "key.pem") },
    });
    let config = give(&server::write_config(theirs.path(), &config), "theirs.json");
    let program = give(&programs::directory().join("qtls-server"), "qtls-server");
    chown(theirs.path(), Some(NOBODY), Some(NOBODY)).expect("root may");
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program).arg("--config").arg(config);
    let refused = run(&mut command, b"").expect_code(2);
    let message = "server.handover: the old process hands nothing over: only root, and the user that this process runs as, \
                   may take over";
    assert!(refused.stderr.contains(message), "{}", refused.said());
    let line = replaceable.server.wait_for_warning("refused to hand over to a process of another user");
    assert!(line.contains("user=65534"), "{line}");
    serves(replaceable.server.port);
}

#[test]
#[expect(clippy::print_stdout, reason = "whoever runs the tests should know what was not tested")]
fn a_server_that_gave_up_root_is_replaced_by_one_that_has_yet_to() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: only root can become another user");
        return;
    }
    let mut replaceable = Replaceable::start(json!({ "server": { "user": "nobody" }, "sandbox": "required" }));
    for _ in 0..2 {
        let line = replaceable.server.wait_for_log("sandbox (required): ");
        let status = std::fs::read_to_string(format!("/proc/{}/status", replaceable.server.process.id()));
        assert!(status.is_ok_and(|status| status.contains("Uid:\t65534\t65534\t65534\t65534")), "{line}");
        ended_in_peace(replaceable.server.replace());
        serves(replaceable.server.port);
    }
}

#[test]
fn what_others_can_reach_is_no_place_for_the_socket() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o777)).expect("it is ours");
    let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
    let config = json!({
        "server": { "handover": directory.path().join("socket") },
        "certificates": { "server_cert": cert, "server_key": key },
    });
    let file = server::write_config(directory.path(), &config);
    // The test of the configuration says so, too.
    let mut command = programs::command("qtls-server");
    let refused = run(command.args(["--test-config", "--config"]).arg(&file), b"").expect_code(2);
    let shown = directory.path().display();
    let message = format!(
        "server.handover: others than its owner can write to the directory {shown}\n  hint: chmod go-w {shown}"
    );
    assert!(refused.stderr.contains(&message), "{}", refused.said());
}

#[test]
fn a_socket_that_a_killed_process_left_behind_is_replaced() {
    let replaceable = Replaceable::start(json!({}));
    let path = replaceable.path();
    replaceable.server.process.signal(Signal::KILL);
    let Replaceable { mut server, directory } = replaceable;
    while server.process.is_running() {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(path.exists(), "nobody removed it");
    server.process = server.start_another();
    server.wait_for_log("listening on");
    let mut replaceable = Replaceable { server, directory };
    ended_in_peace(replaceable.server.replace());
    replaceable.server.process.signal(Signal::TERM);
    replaceable.server.process.finish(PATIENCE).expect_success();
    assert!(!path.exists(), "the last one removes it");
}
