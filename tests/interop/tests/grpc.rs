//! gRPC, by Google's own client and server: h2 in front, h2 behind, trailers both ways, all kinds of calls.

use std::time::Duration;

use qtls_interop::process::{Running, run_within};
use qtls_interop::{Algorithm, Pki, Server, peers};
use serde_json::{Value, json};

/// The server, and its port.
fn grpc_server(options: &Value) -> (Running, u16) {
    let server = Running::start(&mut peers::python("python/grpc_server.py", options));
    let line = server.stdout.wait_for_line("port ");
    let port = line.trim().rsplit(' ').next().and_then(|port| port.parse().ok());
    (server, port.expect("it prints its port"))
}

#[track_caller]
fn calls_pass(upstream: Value) -> Server {
    let server = Server::start(json!({ "upstream": upstream }));
    let options = json!({ "target": server.address(), "ca": Pki::shared().ca(), "calls": 300 });
    let mut client = peers::python("python/grpc_client.py", &options);
    let finished = run_within(&mut client, b"", Duration::from_secs(120));
    assert!(finished.status.success(), "{}\n{}", finished.said(), server.log());
    let group = finished.stdout.lines().next().and_then(|line| line.strip_prefix("unary OK ")).unwrap_or_default();
    assert!(["x25519", "X25519MLKEM768"].contains(&group), "the server saw the group {group:?}\n{}", finished.said());
    let rest: Vec<_> = finished.stdout.lines().skip(1).collect();
    assert_eq!(
        rest,
        [
            "fail FAILED_PRECONDITION the message of the error: why failed",
            "server streaming 1000",
            "client streaming 4000000",
            "bidirectional chatted OK",
            "at once 300",
            "cancelled",
        ],
        "{}",
        finished.said()
    );
    server
}

#[test]
fn every_kind_of_call_passes_in_the_clear_behind() {
    let (_grpc, port) = grpc_server(&json!({}));
    let address = format!("127.0.0.1:{port}");
    let server = calls_pass(json!({ "protocol": "http", "servers": [address], "http_version": "2" }));
    let metrics = server.metrics();
    assert_eq!(metrics.sum("qtls_upstream_errors_total", &[]), 0.0, "{}\n{}", metrics.text(), server.log());
    assert!(metrics.sum("qtls_upstream_requests_total", &[]) >= 307.0, "{}", metrics.text());
}

#[test]
fn every_kind_of_call_passes_over_tls_behind() {
    let pki = Pki::shared();
    let (cert, key) = pki.server(Algorithm::EcdsaP384);
    let (_grpc, port) = grpc_server(&json!({ "cert": cert, "key": key }));
    for version in ["2", "auto"] {
        let server = calls_pass(json!({
            "protocol": "http",
            "servers": [format!("127.0.0.1:{port}")],
            "http_version": version,
            "tls": { "ca_bundle": pki.ca(), "server_name": "localhost" }
        }));
        let metrics = server.metrics();
        assert!(metrics.sum("qtls_upstream_handshakes_total", &[]) >= 1.0, "{}", metrics.text());
        assert_eq!(metrics.sum("qtls_upstream_errors_total", &[]), 0.0, "{}\n{}", metrics.text(), server.log());
    }
}
