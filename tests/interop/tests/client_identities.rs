//! Clients from a CA of ours that is run with `qtls ca`: revoked ones, allowed ones, and what the configuration refuses.

use std::fs;
use std::process::Command;

use qtls_interop::authority::{Authority, walk};
use qtls_interop::openssl::text;
use qtls_interop::process::run;
use qtls_interop::{Pki, Server, programs};
use serde_json::{Value, json};

/// A server that lets in clients of this CA.
fn server(authority: &Authority, changes: Value) -> Server {
    let mut certificates = json!({ "verify_client": true, "ca_bundle": authority.bundle() });
    qtls_interop::server::merge(&mut certificates, changes);
    Server::start(json!({ "certificates": certificates }))
}

#[track_caller]
fn gets_in(authority: &Authority, server: &Server, name: &str) {
    let exchange = authority.client(server.port, name).get("/status.json");
    assert_eq!(exchange.json()["group"], "X25519MLKEM768", "{}", exchange.finished.said());
}

#[track_caller]
fn is_refused(authority: &Authority, server: &Server, name: &str, alert: &str, reason: &str, log: &str) {
    let exchange = authority.client(server.port, name).get("/status.json");
    assert_eq!(exchange.alert(), Some(alert), "{}", exchange.finished.said());
    assert!(!exchange.finished.stdout.contains("HTTP/1"), "an answer: {}", exchange.finished.said());
    server.metrics_when("the refusal", |metrics| {
        metrics.sum("qtls_handshake_failures_total", &[("reason", reason)]) >= 1.0
    });
    let line = server.wait_for_log("handshake refused");
    assert!(line.contains(log), "{line}");
}

#[test]
fn a_revoked_client_is_refused_and_the_other_gets_in() {
    let authority = Authority::new();
    let before = server(&authority, json!({ "crl": { "paths": [authority.lists()] } }));
    gets_in(&authority, &before, "good");
    gets_in(&authority, &before, "bad");
    authority.qtls(&["ca", "revoke", text(&authority.path("certs/bad-cert.pem")), "--dir", "ca"]);
    let after = server(&authority, json!({ "crl": { "paths": [authority.lists()], "mode": "hard" } }));
    gets_in(&authority, &after, "good");
    is_refused(&authority, &after, "bad", "certificate revoked", "certificate_revoked", "revoked");
}

#[test]
fn without_a_list_hard_refuses_and_soft_lets_in() {
    let authority = Authority::new();
    let lists = authority.lists();
    // The list of the CA that issues to clients is missing; the root's is there.
    for entry in walk(&lists) {
        if !entry.to_string_lossy().contains("root") {
            fs::remove_file(entry).expect("it is there");
        }
    }
    let soft = server(&authority, json!({ "crl": { "paths": [&lists], "mode": "soft" } }));
    gets_in(&authority, &soft, "good");
    let hard = server(&authority, json!({ "crl": { "paths": [&lists], "mode": "hard" } }));
    is_refused(&authority, &hard, "good", "unknown CA", "revocation_unknown", "revocation");
}

#[test]
fn only_who_is_allowed_gets_in() {
    let authority = Authority::new();
    let server = server(&authority, json!({ "allow": [{ "san_dns": "good.example" }] }));
    gets_in(&authority, &server, "good");
    is_refused(&authority, &server, "bad", "access denied", "access_denied", "bad.example");
}

/// What `qtls-server --test-config` says of a server with these certificates.
#[track_caller]
fn is_bad(certificates: &Value, place: &str, message: &str) {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (cert, key) = Pki::shared().server(qtls_interop::Algorithm::EcdsaP384);
    let mut config = json!({ "certificates": { "server_cert": cert, "server_key": key } });
    qtls_interop::server::merge(&mut config["certificates"], certificates.clone());
    let file = directory.path().join("server.json");
    fs::write(&file, serde_json::to_string_pretty(&config).expect("JSON")).expect("it is writable");
    let mut command: Command = programs::command("qtls-server");
    let finished = run(command.arg("--test-config").arg("--config").arg(&file), b"").expect_code(2);
    assert!(finished.stderr.starts_with(&format!("qtls-server: {}:", file.display())), "{}", finished.said());
    assert!(finished.stderr.contains(&format!(" {place}: ")), "{}", finished.said());
    assert!(finished.stderr.contains(message), "{}", finished.said());
    assert!(finished.stderr.contains("\n  hint: "), "{}", finished.said());
}

#[test]
fn bad_configurations_name_file_line_key_and_remedy() {
    let authority = Authority::new();
    let bundle = authority.bundle();
    let verifying = |changes: Value| {
        let mut certificates = json!({ "verify_client": true, "ca_bundle": bundle });
        qtls_interop::server::merge(&mut certificates, changes);
        certificates
    };
    is_bad(
        &verifying(json!({ "allow": [{ "san_dns": "good.example" }, { "san_ip": "good.example" }] })),
        "certificates.allow[1].san_ip",
        "is not an IP address",
    );
    is_bad(&verifying(json!({ "allow": [{}] })), "certificates.allow[0]", "this entry names no identity");
    is_bad(&verifying(json!({ "allow": [] })), "certificates.allow", "nobody would get in");
    is_bad(&json!({ "allow": [{ "san_dns": "a.example" }] }), "certificates.allow", "none are asked for");
    is_bad(
        &verifying(json!({ "crl": { "paths": [authority.path("none.crl")] } })),
        "certificates.crl.paths",
        "does not exist",
    );

    // A list that claims to be of a CA that is trusted, and is signed by another of that name.
    let impostor = Authority::new();
    is_bad(
        &verifying(json!({ "crl": { "paths": [impostor.lists()] } })),
        "certificates.crl.paths",
        "not signed with the key of",
    );

    // An encrypted key: without a passphrase, with a wrong one, with two.
    let at = authority.directory();
    fs::write(at.join("right"), "correct horse\n").expect("it is writable");
    fs::write(at.join("wrong"), "battery staple\n").expect("it is writable");
    authority.qtls(&["keygen", "--alg", "ecdsa-p384", "--out", "locked.key", "--passphrase-file", "right"]);
    let key = at.join("locked.key");
    is_bad(&json!({ "server_key": key }), "certificates.server_key", "encrypted");
    is_bad(
        &json!({ "server_key": key, "server_key_passphrase_file": at.join("wrong") }),
        "certificates.server_key",
        "passphrase",
    );
    is_bad(
        &json!({ "server_key": key, "server_key_passphrase_file": at.join("wrong"), "server_key_passphrase": "x" }),
        "certificates.server_key_passphrase",
        "there are two passphrases",
    );
}
