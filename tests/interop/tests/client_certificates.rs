//! `verify_client` lets in exactly the clients whose chain leads to `ca_bundle` within `verify_depth`.

use qtls_interop::openssl::Client;
use qtls_interop::{Algorithm, Negotiated, Pki, Server};
use serde_json::{Value, json};

fn start(changes: Value) -> Server {
    let mut certificates = json!({ "verify_client": true, "ca_bundle": Pki::shared().ca() });
    qtls_interop::server::merge(&mut certificates, changes);
    Server::start(json!({ "certificates": certificates }))
}

/// The refusal that the client and the operator see.
#[track_caller]
fn refused(server: &Server, client: &Client, alert: &str, reason: &str, log: &str) {
    let exchange = client.get("/status.json");
    assert_eq!(exchange.alert(), Some(alert), "{}", exchange.finished.said());
    assert!(!exchange.finished.stdout.contains("HTTP/1"), "an answer: {}", exchange.finished.said());
    let metrics = server.metrics_when("the refusal", |metrics| {
        metrics.sum("qtls_handshake_failures_total", &[("reason", reason)]) >= 1.0
    });
    assert_eq!(metrics.sum("qtls_handshakes_total", &[]), 0.0, "{}", metrics.text());
    let line = server.wait_for_warning("handshake refused");
    assert!(line.contains(log), "{line}");
}

#[test]
fn clients_with_every_kind_of_certificate_get_in() {
    for algorithm in Algorithm::ALL {
        let server = start(json!({}));
        let client = Client::new(server.port).certificate(Pki::shared().client(algorithm));
        let exchange = client.get("/status.json");
        let expected = Negotiated::new("X25519MLKEM768", "ecdsa_secp384r1_sha384");
        assert_eq!(exchange.negotiated(), expected);
        assert_eq!(Negotiated::from_json(&exchange.json()), expected);
        server.expect_handshakes(&[&expected]);
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let server = start(json!({}));
    refused(&server, &Client::new(server.port), "unknown", "certificate_missing", "no certificate");
}

#[test]
fn a_client_of_another_authority_is_refused() {
    let server = start(json!({}));
    let client = Client::new(server.port).certificate(Pki::stranger().client(Algorithm::EcdsaP384));
    refused(&server, &client, "unknown CA", "certificate_unknown_issuer", "trust anchor");
}

#[test]
fn a_server_certificate_is_no_client_certificate() {
    let server = start(json!({}));
    let client = Client::new(server.port).certificate(Pki::shared().server(Algorithm::EcdsaP384));
    refused(&server, &client, "unsupported certificate", "certificate_wrong_purpose", "extended key usage");
}

#[test]
fn depth_counts_intermediates() {
    let certificate = Pki::shared().client(Algorithm::EcdsaP384);
    let server = start(json!({ "verify_depth": 1 }));
    let exchange = Client::new(server.port).certificate(certificate.clone()).get("/status.json");
    assert_eq!(exchange.json()["group"], "X25519MLKEM768", "{}", exchange.finished.said());

    let server = start(json!({ "verify_depth": 0 }));
    let client = Client::new(server.port).certificate(certificate);
    refused(&server, &client, "certificate unknown", "certificate_refused", "verify_depth");
}

#[test]
fn an_optional_certificate_may_be_missing_but_not_wrong() {
    let server = start(json!({ "verify_client": "optional" }));
    let exchange = Client::new(server.port).get("/status.json");
    assert_eq!(exchange.json()["group"], "X25519MLKEM768", "{}", exchange.finished.said());
    let stranger = Client::new(server.port).certificate(Pki::stranger().client(Algorithm::EcdsaP384));
    let exchange = stranger.get("/status.json");
    assert_eq!(exchange.alert(), Some("unknown CA"), "{}", exchange.finished.said());
}

#[test]
fn a_session_of_mutual_tls_is_resumed_with_the_chain_that_was_verified() {
    let server = start(json!({}));
    let certificate = Pki::shared().client(Algorithm::MlDsa65);
    let full = Negotiated::new("X25519MLKEM768", "ecdsa_secp384r1_sha384");
    let first = Client::new(server.port).certificate(certificate.clone()).saving_session();
    assert_eq!(first.get("/status.json").negotiated(), full);
    let second = Client::new(server.port).certificate(certificate).resuming(&first).get("/status.json");
    assert_eq!(second.negotiated(), full.clone().resumed());
    assert_eq!(second.json()["resumed"], true);
    server.expect_handshakes(&[&full, &full.clone().resumed()]);
}
