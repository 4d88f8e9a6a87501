//! Go's crypto/tls, client and server: hybrids with one request and, where Go sends no share for them, one retry.

use std::process::Command;

use qtls_interop::client::{self, Client};
use qtls_interop::openssl::text;
use qtls_interop::process::run;
use qtls_interop::{Algorithm, Negotiated, Pki, Running, Server, peers};
use serde_json::{Value, json};

/// The kinds of certificate that crypto/tls of Go 1.26 knows.
const KNOWN: [Algorithm; 2] = [Algorithm::EcdsaP384, Algorithm::Rsa4096];

fn go_client(server: &Server, arguments: &[&str]) -> Command {
    let mut command = peers::go();
    command.args(["client", "-ca", text(&Pki::shared().ca()), "-server-name", "localhost", "-get", "/status.json"]);
    command.args(arguments).arg(format!("127.0.0.1:{}", server.port));
    command
}

/// What Go says of its connections, each checked against the status page that it was sent.
#[track_caller]
fn connections(stdout: &str) -> Vec<Negotiated> {
    let connection = |line: &str| {
        let facts: Value = serde_json::from_str(line).expect("JSON");
        let status: Value = serde_json::from_str(facts["body"].as_str().expect("a body")).expect("JSON");
        let negotiated = Negotiated::from_json(&facts);
        assert_eq!(negotiated, Negotiated::from_json(&status), "Go and the server");
        negotiated
    };
    stdout.lines().map(connection).collect()
}

#[test]
fn a_client_of_go_is_served() {
    for algorithm in KNOWN {
        let server = Server::with_certificate(algorithm, json!({}));
        let finished = run(&mut go_client(&server, &[]), b"").expect_success();
        let expected = Negotiated::new("X25519MLKEM768", algorithm.scheme());
        assert_eq!(connections(&finished.stdout), std::slice::from_ref(&expected));
        server.expect_handshakes(&[&expected]);
    }
}

#[test]
fn each_hybrid_alone() {
    for group in ["X25519MLKEM768", "SecP256r1MLKEM768", "SecP384r1MLKEM1024"] {
        let server = Server::start(json!({}));
        let finished = run(&mut go_client(&server, &["-groups", group]), b"").expect_success();
        let expected = Negotiated::new(group, "ecdsa_secp384r1_sha384");
        assert_eq!(connections(&finished.stdout), std::slice::from_ref(&expected));
        server.expect_handshakes(&[&expected]);
    }
}

#[test]
fn a_hybrid_without_a_share_costs_one_retry() {
    let server = Server::start(json!({ "algorithms": { "kem": ["secp384r1mlkem1024", "secp384r1"] } }));
    let finished = run(&mut go_client(&server, &[]), b"").expect_success();
    let expected = Negotiated::new("SecP384r1MLKEM1024", "ecdsa_secp384r1_sha384").after_retry();
    assert_eq!(connections(&finished.stdout), std::slice::from_ref(&expected));
    server.expect_handshakes(&[&expected]);
}

#[test]
fn go_resumes_its_session() {
    let server = Server::start(json!({}));
    let finished = run(&mut go_client(&server, &["-resume"]), b"").expect_success();
    let full = Negotiated::new("X25519MLKEM768", "ecdsa_secp384r1_sha384");
    let expected = [full.clone(), full.resumed()];
    assert_eq!(connections(&finished.stdout), expected);
    server.expect_handshakes(&[&expected[0], &expected[1]]);
}

#[test]
fn our_client_reaches_a_server_of_go() {
    for (algorithm, group, retry) in
        [(Algorithm::EcdsaP384, "X25519MLKEM768", false), (Algorithm::Rsa4096, "SecP384r1MLKEM1024", true)]
    {
        let (cert, key) = Pki::shared().server(algorithm);
        let mut command = peers::go();
        command.args(["server", "-cert", text(&cert), "-key", text(&key), "-groups", group]);
        let server = Running::start(&mut command);
        let listening: Value = serde_json::from_str(&server.stdout.wait_for_line("listening")).expect("JSON");
        let port = listening["listening"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
        let finished = Client::new(port).get("/from-qtls").expect_success();
        let told = client::negotiated(&finished);
        // Go's server prefers by its own measure; the suite is compared below.
        let expected = Negotiated {
            suite: told.suite.clone(),
            hello_retry_request: retry,
            ..Negotiated::new(group, algorithm.scheme())
        };
        assert_eq!(told, expected);
        assert_eq!(client::body(&client::facts(&finished)), "GET /from-qtls\n");
        let facts: Value = serde_json::from_str(&server.stdout.wait_for_line("\"group\"")).expect("JSON");
        assert_eq!(facts["group"], group, "{facts}");
        assert_eq!(facts["suite"], told.suite, "{facts}");
        assert_eq!(facts["hello_retry_request"], retry, "{facts}");
    }
}

#[test]
fn go_verifies_our_client() {
    let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
    let mut command = peers::go();
    command.args([
        "server",
        "-require-client",
        "-ca",
        text(&Pki::shared().ca()),
        "-cert",
        text(&cert),
        "-key",
        text(&key),
    ]);
    let server = Running::start(&mut command);
    let listening: Value = serde_json::from_str(&server.stdout.wait_for_line("listening")).expect("JSON");
    let port = listening["listening"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
    Client::new(port).get("/").expect_code(5);
    Client::new(port).certificate(Pki::shared().client(Algorithm::Rsa4096)).get("/").expect_success();
    let facts: Value = serde_json::from_str(&server.stdout.wait_for_line("\"group\"")).expect("JSON");
    assert_eq!(facts["scheme"], "PSSWithSHA512", "{facts}");
}
