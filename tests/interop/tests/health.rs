//! Whether a server works, and whether it wants clients, is told to whoever asks: over HTTP, and by `--health` where there
//! is no shell.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use qtls_interop::openssl::Client;
use qtls_interop::process::{PATIENCE, run};
use qtls_interop::systemd::hold;
use qtls_interop::upstreams::echo;
use qtls_interop::{Pki, Server, programs, wire};
use rustix::process::Signal;
use serde_json::json;

/// `qtls-server` with the configuration of this server.
fn asking(server: &Server, question: &str) -> Command {
    let mut command = programs::command("qtls-server");
    command.arg("--config").arg(server.directory().join("server.json")).arg(question);
    command
}

#[track_caller]
fn answers(server: &Server, question: &str, code: i32, line: &str) {
    let finished = run(&mut asking(server, question), b"").expect_code(code);
    let (said, silent) =
        if code == 0 { (&finished.stdout, &finished.stderr) } else { (&finished.stderr, &finished.stdout) };
    assert_eq!(said, &format!("{line}\n"), "{}", finished.said());
    assert_eq!(silent, "", "{}", finished.said());
}

#[track_caller]
fn get(server: &Server, path: &str) -> (u16, String) {
    let response = wire::http_get(server.metrics_port, path);
    (response.status, response.body)
}

#[test]
fn a_server_is_healthy_for_as_long_as_it_lives_and_ready_until_it_leaves() {
    let upstream = json!({ "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] });
    let server = Server::start(json!({ "server": { "drain_delay": 600, "drain_timeout": 60 }, "upstream": upstream }));
    let port = server.metrics_port;
    assert_eq!(get(&server, "/health"), (200, "healthy\n".to_owned()));
    assert_eq!(get(&server, "/ready"), (200, "ready\n".to_owned()));
    answers(&server, "--health", 0, &format!("healthy (http://127.0.0.1:{port}/health)"));
    answers(&server, "--ready", 0, &format!("ready (http://127.0.0.1:{port}/ready)"));
    let json = wire::exchange(
        port,
        b"GET /ready HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nConnection: close\r\n\r\n",
    );
    assert!(json.head.contains("content-type: application/json"), "{}", json.head);
    assert_eq!(json.body, "{\"phase\":\"running\",\"ready\":true}\n");
    let post = wire::exchange(port, b"POST /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(post.status, 405);

    let mut client = Client::new(server.port).start();
    let mut input = client.stdin();
    writeln!(input, "hello").expect("the connection is open");
    client.stdout.wait_for_line("hello");
    server.process.signal(Signal::TERM);
    server.wait_for_log("no longer ready; new connections are accepted");
    let leaving = "not ready: stopping, and still accepting for server.drain_delay";
    assert_eq!(get(&server, "/ready"), (503, format!("{leaving}\n")));
    assert_eq!(get(&server, "/health"), (200, "healthy\n".to_owned()), "or it would be killed while it drains");
    answers(&server, "--ready", 1, &format!("qtls-server: {leaving} (http://127.0.0.1:{port}/ready)"));
    answers(&server, "--health", 0, &format!("healthy (http://127.0.0.1:{port}/health)"));
    // Still accepted.
    let mut late = Client::new(server.port).start();
    writeln!(late.stdin(), "late").expect("the connection is open");
    late.stdout.wait_for_line("late");
    server.process.signal(Signal::TERM);
    let finished = server.process.finish(PATIENCE).expect_success();
    assert!(finished.stderr.contains("SIGTERM, a second signal: closing what is open"), "{}", finished.said());
}

#[test]
fn a_worker_that_hangs_makes_the_server_ill() {
    let server = Server::start(json!({}));
    let held = hold(server.process.id(), "qtls-worker-0");
    let ill = "unhealthy: no sign of life for 10 s from worker 0";
    let deadline = Instant::now() + PATIENCE;
    while get(&server, "/health") != (503, format!("{ill}\n")) {
        assert!(Instant::now() < deadline, "still healthy");
        std::thread::sleep(Duration::from_millis(100));
    }
    let port = server.metrics_port;
    answers(&server, "--health", 1, &format!("qtls-server: {ill} (http://127.0.0.1:{port}/health)"));
    held.release();
    let deadline = Instant::now() + PATIENCE;
    while get(&server, "/health") != (200, "healthy\n".to_owned()) {
        assert!(Instant::now() < deadline, "still ill");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn without_metrics_a_handshake_is_the_answer() {
    let ca = Pki::shared().ca();
    for (changes, group) in [
        (json!({}), "X25519MLKEM768"),
        // A server that asks for certificates, and one that takes one group only, are no less alive.
        (json!({ "certificates": { "verify_client": true, "ca_bundle": ca } }), "X25519MLKEM768"),
        (json!({ "algorithms": { "kem": ["secp384r1mlkem1024"] }, "tls": { "pqc_only": true } }), "SecP384r1MLKEM1024"),
    ] {
        let server = Server::start(changes);
        server.rewrite_config(json!({ "metrics": { "enabled": false } }));
        let line = format!(
            "a handshake with 127.0.0.1:{} succeeds, {group} (the metrics are off: there is no /health to ask)",
            server.port
        );
        answers(&server, "--health", 0, &line);
        // It was really made: the server, which still has its metrics, knows.
        server.metrics_when("a handshake", |metrics| {
            metrics.sum("qtls_handshakes_total", &[("group", group)])
                + metrics.sum("qtls_handshake_failures_total", &[("reason", "certificate_missing")])
                == 1.0
        });
    }
}

#[test]
fn whoever_can_not_be_asked_is_ill() {
    let mut server = Server::start(json!({}));
    let (port, metrics_port) = (server.port, server.metrics_port);
    let url = format!("http://127.0.0.1:{metrics_port}/health");
    // A server that hangs as a whole.
    server.process.signal(Signal::STOP);
    answers(&server, "--health", 1, "qtls-server: no answer within 3 s");
    server.process.kill();
    answers(&server, "--health", 1, &format!("qtls-server: {url} doesn't answer: Connection refused (os error 111)"));
    server.rewrite_config(json!({ "metrics": { "enabled": false } }));
    let refused = format!("qtls-server: no handshake with 127.0.0.1:{port}: Connection refused (os error 111)");
    answers(&server, "--health", 1, &refused);
    // Somebody else's port. The environment counts as it does for the server.
    let other = echo();
    let mut command = asking(&server, "--health");
    command.env("QTLS__METRICS__ENABLED", "true").env("QTLS__METRICS__PORT", other.to_string());
    let finished = run(&mut command, b"").expect_code(1);
    assert!(
        finished.stderr.contains(&format!("http://127.0.0.1:{other}/health doesn't answer: ")),
        "{}",
        finished.said()
    );
    // A configuration that is wrong: 2 is reserved where containers are checked.
    server.rewrite_config(json!({ "server": { "listen_prot": 1 } }));
    let finished = run(&mut asking(&server, "--health"), b"").expect_code(1);
    assert!(finished.stderr.contains("server.listen_prot: unknown key; hint: did you mean"), "{}", finished.said());
    assert_eq!(finished.stderr.lines().count(), 1, "{}", finished.said());
}
