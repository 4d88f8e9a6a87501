//! qtls-client with OpenSSL 3.5 as the server: both sides agree on what was negotiated, and refusals have their exit code.

use qtls_interop::client::{self, Client};
use qtls_interop::openssl::Server;
use qtls_interop::{Algorithm, Negotiated, Pki};
use serde_json::json;

const P384: &str = "ecdsa_secp384r1_sha384";

fn start(algorithm: Algorithm, arguments: &[&str]) -> Server {
    Server::start(Pki::shared().server(algorithm), &Pki::shared().ca(), arguments)
}

/// One request, after which both sides have to say `expected`.
#[track_caller]
fn check(server: &Server, client: Client, expected: &Negotiated) {
    let finished = client.get("/").expect_success();
    let facts = client::facts(&finished);
    assert_eq!(Negotiated::from_json(&facts), *expected, "the client");
    assert_eq!(facts["post_quantum"], expected.post_quantum(), "{facts}");
    assert_eq!(facts["version"], "TLSv1.3", "{facts}");
    let page = client::body(&facts);
    assert!(page.contains(&format!("Cipher is {}", expected.suite)), "{page}");
    assert_eq!(facts["verified"], true, "{facts}");
    server.expect_handshakes(std::slice::from_ref(expected));
}

#[test]
fn the_first_post_quantum_group_needs_no_retry_and_the_others_one() {
    for (group, retry) in [
        ("X25519MLKEM768", false),
        ("SecP384r1MLKEM1024", true),
        ("SecP256r1MLKEM768", true),
        // The classical half of the first hybrid is a share of its own.
        ("x25519", false),
        ("secp384r1", true),
        ("secp256r1", true),
    ] {
        let server = start(Algorithm::EcdsaP384, &["-groups", group]);
        let expected = Negotiated { hello_retry_request: retry, ..Negotiated::new(group, P384) };
        check(&server, Client::new(server.port), &expected);
    }
}

#[test]
fn pure_ml_kem_where_it_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({
        "tls": { "hybrid_mode": false, "pqc_only": true },
        "algorithms": { "kem": ["ml-kem-1024", "ml-kem-768"] },
    });
    for (group, retry) in [("MLKEM1024", false), ("MLKEM768", true)] {
        let server = start(Algorithm::EcdsaP384, &["-groups", group]);
        let expected = Negotiated { hello_retry_request: retry, ..Negotiated::new(group, P384) };
        check(&server, Client::new(server.port).config(directory.path(), &config), &expected);
    }
}

#[test]
fn every_kind_of_certificate_and_every_suite() {
    for algorithm in Algorithm::ALL {
        let server = start(algorithm, &[]);
        let client = Client::trusting(server.port, &Pki::shared().ca_of(algorithm));
        check(&server, client, &Negotiated::new("X25519MLKEM768", algorithm.scheme()));
    }
    for suite in ["TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"] {
        let server = start(Algorithm::EcdsaP384, &["-ciphersuites", suite]);
        check(&server, Client::new(server.port), &Negotiated::new("X25519MLKEM768", P384).suite(suite));
    }
}

#[test]
fn a_client_certificate_is_shown_where_it_is_asked_for() {
    for algorithm in Algorithm::ALL {
        let server = start(Algorithm::EcdsaP384, &["-Verify", "3", "-verify_return_error"]);
        let client = Client::new(server.port).certificate(Pki::shared().client(algorithm));
        check(&server, client, &Negotiated::new("X25519MLKEM768", P384));
    }
    let server = start(Algorithm::EcdsaP384, &["-Verify", "3", "-verify_return_error"]);
    let finished = Client::new(server.port).get("/").expect_code(5);
    assert!(finished.stderr.contains("client certificate"), "{}", finished.said());
}

#[test]
fn an_unknown_authority_is_exit_code_4() {
    let server = start(Algorithm::EcdsaP384, &[]);
    let finished = Client::trusting(server.port, &Pki::stranger().ca()).get("/").expect_code(4);
    assert!(finished.stderr.contains("trust anchor"), "{}", finished.said());
    assert_eq!(finished.stdout, "", "no facts of a connection that was not made");
}

#[test]
fn a_wrong_name_is_exit_code_4() {
    let server = start(Algorithm::EcdsaP384, &[]);
    let finished = Client::new(server.port).arguments(["--server-name", "other.example"]).get("/").expect_code(4);
    assert!(finished.stderr.contains("other.example") && finished.stderr.contains("localhost"), "{}", finished.said());
}

#[test]
fn a_classical_server_is_refused_where_only_post_quantum_will_do() {
    let directory = tempfile::tempdir().unwrap();
    let config = json!({ "tls": { "pqc_only": true } });
    let server = start(Algorithm::EcdsaP384, &["-groups", "X25519:P-384:P-256"]);
    let client = Client::new(server.port).config(directory.path(), &config);
    let finished = client.get("/").expect_code(5);
    assert!(finished.stderr.contains("handshake"), "{}", finished.said());
    server.expect_handshakes(&[]);
    check(&server, Client::new(server.port), &Negotiated::new("x25519", P384));
}

#[test]
fn retries_do_not_weaken_the_offer() {
    let directory = tempfile::tempdir().unwrap();
    // A port where nothing listens is tried again, and stays a connection error.
    let config = json!({ "client": { "max_retries": 1, "connect_timeout": 5 }, "tls": { "pqc_only": true } });
    let port = qtls_interop::server::free_port();
    let finished = Client::new(port).config(directory.path(), &config).get("/").expect_code(3);
    assert!(finished.stderr.contains(&port.to_string()), "{}", finished.said());
}

#[test]
fn the_environment_turns_hybrids_off() {
    let server = start(Algorithm::EcdsaP384, &[]);
    let client = Client::new(server.port).env("QTLS_HYBRID_MODE", "false");
    check(&server, client, &Negotiated::new("x25519", P384));
}

#[test]
fn the_facts_name_the_peer() {
    let server = start(Algorithm::EcdsaP384, &[]);
    let finished = Client::new(server.port).get("/").expect_success();
    let facts = client::facts(&finished);
    assert_eq!(facts["server_name"], "localhost", "{facts}");
    assert_eq!(facts["peer"]["dns_names"], json!(["localhost"]), "{facts}");
    assert_eq!(facts["address"], format!("127.0.0.1:{}", server.port), "{facts}");
}
