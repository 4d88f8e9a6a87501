//! TCP services behind Q-TLS: Redis' own client over TLS, an echo through half-closed connections, an upstream that is
//! down.

use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use qtls_interop::client::{self, Client};
use qtls_interop::openssl::{self, text};
use qtls_interop::process::{run, run_within};
use qtls_interop::rogue::Rogue;
use qtls_interop::upstreams::{Redis, echo};
use qtls_interop::{Algorithm, Negotiated, Pki, Server, log, peers, server, wire};
use serde_json::{Value, json};

const P384: &str = "ecdsa_secp384r1_sha384";

fn start(address: String) -> Server {
    Server::start(json!({ "upstream": { "protocol": "tcp", "servers": [address] } }))
}

/// A program of Redis that speaks TLS to the server.
fn redis_tool(program: &str, server: &Server) -> Command {
    let pki = Pki::shared();
    let mut command = peers::debian(program, [pki.directory()]);
    let port = server.port.to_string();
    command.args(["-h", "localhost", "-p", &port, "--tls", "--sni", "localhost", "--cacert", text(&pki.ca())]);
    command
}

#[test]
fn redis_is_used_by_its_own_client() {
    let redis = Redis::start();
    let server = start(redis.address());
    let value = "v".repeat(100_000);
    let commands = format!("SET key {value}\nSTRLEN key\nGET key\nINCR counter\n");
    let finished = run(&mut redis_tool("redis-cli", &server), commands.as_bytes()).expect_success();
    assert_eq!(finished.stdout, format!("OK\n100000\n{value}\n1\n"), "{}", finished.stderr);
    server.expect_handshakes(&[&Negotiated::new("X25519MLKEM768", P384)]);
}

#[test]
fn redis_answers_many_pipelined_requests() {
    let redis = Redis::start();
    let server = start(redis.address());
    let mut command = redis_tool("redis-benchmark", &server);
    command.args(["-n", "20000", "-c", "20", "-P", "16", "-d", "200", "-t", "set,get", "--csv"]);
    let finished = run_within(&mut command, b"", Duration::from_secs(120)).expect_success();
    for test in ["\"SET\"", "\"GET\""] {
        assert!(finished.stdout.contains(test), "{}", finished.said());
    }
    let hybrid = [("group", "X25519MLKEM768"), ("pq", "true"), ("scheme", P384)];
    let metrics =
        server.metrics_when("forty handshakes", |metrics| metrics.sum("qtls_handshakes_total", &hybrid) >= 40.0);
    assert_eq!(metrics.sum("qtls_handshake_failures_total", &[]), 0.0, "{}", metrics.text());
}

#[test]
fn a_half_closed_connection_stays_open_the_other_way() {
    let server = start(format!("127.0.0.1:{}", echo()));
    let input = "line\n".repeat(50_000);
    let finished = Client::new(server.port).send(input.as_bytes()).expect_success();
    assert_eq!(client::negotiated(&finished), Negotiated::new("X25519MLKEM768", P384));
    assert!(client::received(&finished) == format!("{input}that was {} bytes\n", input.len()), "{}", finished.stderr);
    server.expect_handshakes(&[&Negotiated::new("X25519MLKEM768", P384)]);
}

#[test]
fn data_and_end_may_come_with_the_end_of_the_handshake() {
    let server = start(format!("127.0.0.1:{}", echo()));
    let port = wire::relay(server.port, wire::Rearrange::Together);
    let finished = Client::new(port).send(b"all at once\n").expect_success();
    assert_eq!(client::received(&finished), "all at once\nthat was 12 bytes\n");
    server.expect_handshakes(&[&Negotiated::new("X25519MLKEM768", P384)]);
}

#[test]
fn bytes_pass_as_they_come() {
    let server = start(format!("127.0.0.1:{}", echo()));
    let mut client = openssl::Client::new(server.port).groups("SecP384r1MLKEM1024").start();
    let mut input = client.stdin();
    for word in ["one", "two", "three"] {
        writeln!(input, "{word}").expect("the connection is open");
        assert_eq!(client.stdout.wait_for_line(word), word);
    }
    server.expect_handshakes(&[&Negotiated::new("SecP384r1MLKEM1024", P384)]);
    let open = server.metrics();
    assert_eq!(open.sum("qtls_connections_active", &[]), 1.0, "{}", open.text());
    drop((input, client));
    server.metrics_when("no connection", |metrics| metrics.sum("qtls_connections_active", &[]) == 0.0);
}

#[test]
fn traffic_is_counted_by_whether_it_was_post_quantum() {
    let server = start(format!("127.0.0.1:{}", echo()));
    Client::new(server.port).send(&[b'p'; 10_000]).expect_success();
    let mut classical = openssl::Client::new(server.port).groups("X25519").start();
    classical.stdin().write_all(&[b"c".repeat(99).as_slice(), b"\n"].concat()).expect("the connection is open");
    classical.stdout.wait_for_line("c");
    drop(classical);
    let metrics = server.metrics_when("both connections", |metrics| {
        metrics.sum("qtls_bytes_total", &[("pq", "false"), ("direction", "received")]) >= 100.0
            && metrics.sum("qtls_bytes_total", &[("pq", "true"), ("direction", "received")]) >= 10_000.0
    });
    assert_eq!(metrics.sum("qtls_bytes_total", &[("pq", "true"), ("direction", "received")]), 10_000.0);
    assert_eq!(metrics.sum("qtls_bytes_total", &[("pq", "false"), ("direction", "received")]), 100.0);
}

/// However busy it is. To the client it is an end in order, not a cut.
#[test]
fn a_connection_lasts_no_longer_than_it_may() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let access = directory.path().join("access.log");
    let address = format!("127.0.0.1:{}", echo());
    let server = Server::start(json!({
        "upstream": { "protocol": "tcp", "servers": [address], "timeouts": { "total": 5 } },
        "logging": { "format": "json", "access_file": access },
    }));
    let mut client = Rogue::over(wire::connect(server.port), &[]).expect("a handshake");
    let mut rounds = 0;
    let end = loop {
        if client.send(b"and on").is_err() {
            break "sending failed".to_owned();
        }
        match client.read(&mut [0; 64]) {
            Ok(0) => break "close_notify".to_owned(),
            Ok(_) => rounds += 1,
            Err(error) => break error.to_string(),
        }
    };
    assert!(end == "close_notify" && rounds > 10, "{end} after {rounds}");
    let line = log::connections(&access, 1).remove(0);
    assert_eq!((&line["reason"], &line["upstream"]), (&json!("total_timeout"), &json!(address)), "{line}");
    let metrics = server.metrics();
    let labels = [("upstream", address.as_str()), ("reason", "total_timeout")];
    assert_eq!(metrics.sum("qtls_upstream_errors_total", &labels), 1.0, "{}", metrics.text());
    // It is the upstream's limit, and no limit of this server's.
    assert_eq!(metrics.sum("qtls_limit_hits_total", &[]), 0.0, "{}", metrics.text());
}

#[test]
fn an_upstream_that_is_down_closes_the_connection_until_it_is_back() {
    let port = server::free_port();
    let server = start(format!("127.0.0.1:{port}"));
    let exchange = openssl::Client::new(server.port).send(b"PING\r\n");
    assert_eq!(exchange.finished.stdout, "", "{}", exchange.finished.said());
    server.wait_for_warning(&format!("127.0.0.1:{port}"));
    assert!(server.metrics().sum("qtls_upstream_errors_total", &[]) >= 1.0);

    let mut command = peers::debian("redis-server", [] as [&Path; 0]);
    command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--dir", "/tmp"]);
    let redis = qtls_interop::Running::start(&mut command);
    redis.stdout.wait_for_line("Ready to accept connections");
    let finished = run(redis_tool("redis-cli", &server).arg("PING"), b"").expect_success();
    assert_eq!(finished.stdout, "PONG\n");
}

#[test]
fn every_kind_of_certificate_serves_redis() {
    let redis = Redis::start();
    for algorithm in Algorithm::ALL {
        let upstream: Value = json!({ "upstream": { "protocol": "tcp", "servers": [redis.address()] } });
        let server = Server::with_certificate(algorithm, upstream);
        let finished = run(redis_tool("redis-cli", &server).arg("PING"), b"").expect_success();
        assert_eq!(finished.stdout, "PONG\n", "{algorithm}");
        server.expect_handshakes(&[&Negotiated::new("X25519MLKEM768", algorithm.scheme())]);
    }
}
