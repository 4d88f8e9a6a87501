//! Clients without post-quantum algorithms (OpenSSL 3.0 and curl of Debian 12) connect by default and are counted as
//! classical; under `pqc_only` they are refused, with the groups that they offered in the log.

use std::process::Command;

use qtls_interop::openssl::text;
use qtls_interop::process::{Finished, run};
use qtls_interop::{Algorithm, Negotiated, Pki, Server, curl, peers};
use serde_json::{Value, json};

const REQUEST: &[u8] = b"GET /status.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn classical_s_client(server: &Server, arguments: &[&str]) -> Command {
    let mut command = peers::classical_openssl();
    let address = format!("127.0.0.1:{}", server.port);
    // OpenSSL 3.0 cannot read an ML-DSA root, and would stop at it.
    let ca = Pki::shared().ca_of(Algorithm::EcdsaP384);
    command.args(["s_client", "-showcerts", "-ign_eof", "-connect", &address, "-servername", "localhost"]);
    command.args(["-verify_return_error", "-CAfile", text(&ca)]).args(arguments);
    command
}

fn classical_curl(server: &Server) -> Finished {
    let mut command = peers::classical_curl();
    curl::towards(&mut command, &Pki::shared().ca_of(Algorithm::EcdsaP384));
    run(command.arg(format!("https://localhost:{}/status.json", server.port)), b"")
}

#[test]
fn openssl_3_0_falls_back_to_a_classical_group() {
    for (groups, group, key) in
        [("X25519:P-384", "x25519", "X25519, 253 bits"), ("P-384", "secp384r1", "ECDH, secp384r1, 384 bits")]
    {
        let server = Server::start(json!({}));
        let finished = run(&mut classical_s_client(&server, &["-groups", groups]), REQUEST).expect_success();
        assert!(finished.stdout.contains(&format!("Server Temp Key: {key}")), "{}", finished.said());
        assert!(finished.stdout.contains("Cipher is TLS_AES_256_GCM_SHA384"), "{}", finished.said());
        assert!(finished.stdout.contains("Verify return code: 0 (ok)"), "{}", finished.said());
        assert_eq!(finished.stdout.matches("-----BEGIN CERTIFICATE-----").count(), 2, "leaf and intermediate");
        assert!(finished.stdout.contains("\"post_quantum\":false"), "{}", finished.said());
        server.expect_handshakes(&[&Negotiated::new(group, "ecdsa_secp384r1_sha384")]);
    }
}

#[test]
fn curl_of_debian_12_falls_back_to_a_classical_group() {
    let server = Server::start(json!({}));
    let finished = classical_curl(&server).expect_success();
    let expected = Negotiated::new("x25519", "ecdsa_secp384r1_sha384");
    assert_eq!(curl::connection(&finished.stderr), (expected.suite.clone(), None));
    let status: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(Negotiated::from_json(&status), expected);
    assert_eq!((&status["post_quantum"], &status["alpn"]), (&json!(false), &json!("h2")));
    server.expect_handshakes(&[&expected]);
}

#[test]
fn under_pqc_only_they_are_refused_and_the_log_names_what_they_offered() {
    let server = Server::start(json!({ "tls": { "pqc_only": true } }));
    let finished = run(&mut classical_s_client(&server, &["-groups", "X25519:P-384"]), REQUEST);
    assert!(finished.stderr.contains("alert handshake failure"), "{}", finished.said());
    assert!(!finished.status.success(), "{}", finished.said());
    let line = server.wait_for_warning("handshake refused");
    assert!(line.contains("x25519") && line.contains("secp384r1"), "{line}");

    // 35: the TLS handshake failed.
    let finished = classical_curl(&server).expect_code(35);
    assert!(finished.stderr.contains("handshake failure"), "{}", finished.said());
    let metrics = server.metrics_when("two refusals", |metrics| {
        metrics.sum("qtls_handshake_failures_total", &[("reason", "no_common_group")]) == 2.0
    });
    assert_eq!(metrics.sum("qtls_handshakes_total", &[]), 0.0, "{}", metrics.text());
}
