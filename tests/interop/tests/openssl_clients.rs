//! OpenSSL 3.5 as a client gets the group, the scheme and the suite that the server's policy says, and both sides agree.

use qtls_interop::openssl::{Client, Exchange};
use qtls_interop::{Algorithm, Negotiated, Pki, Server};
use serde_json::json;

const P384: &str = "ecdsa_secp384r1_sha384";

/// One request, after which the client, the status page and the metrics have to say `expected`.
#[track_caller]
fn check(server: &Server, client: &Client, expected: &Negotiated) {
    let exchange = agree(client, expected);
    assert_eq!(exchange.json()["post_quantum"], expected.post_quantum(), "{}", exchange.finished.said());
    server.expect_handshakes(&[expected]);
}

/// One request, after which the client and the status page have to say `expected`.
#[track_caller]
fn agree(client: &Client, expected: &Negotiated) -> Exchange {
    let exchange = client.get("/status.json");
    assert_eq!(Negotiated::from_json(&exchange.json()), *expected, "the server");
    assert_eq!(exchange.negotiated(), *expected, "the client");
    exchange
}

#[test]
fn every_hybrid_and_every_classical_group_of_the_default_policy() {
    for group in ["X25519MLKEM768", "SecP384r1MLKEM1024", "SecP256r1MLKEM768", "x25519", "secp384r1", "secp256r1"] {
        let server = Server::start(json!({}));
        check(&server, &Client::new(server.port).groups(group), &Negotiated::new(group, P384));
    }
}

#[test]
fn pure_ml_kem_where_it_is_asked_for() {
    let tls = json!({ "hybrid_mode": false, "pqc_only": true });
    for group in ["MLKEM1024", "MLKEM768"] {
        let server = Server::start(json!({ "tls": tls, "algorithms": { "kem": ["ml-kem-1024", "ml-kem-768"] } }));
        check(&server, &Client::new(server.port).groups(group), &Negotiated::new(group, P384));
        let refused = Client::new(server.port).groups("X25519MLKEM768:X25519").get("/");
        assert_eq!(refused.alert(), Some("handshake failure"), "{}", refused.finished.said());
    }
}

#[test]
fn every_kind_of_certificate_under_every_hybrid() {
    for algorithm in Algorithm::ALL {
        let server = Server::with_certificate(algorithm, json!({}));
        let mut made = Vec::new();
        for group in ["X25519MLKEM768", "SecP384r1MLKEM1024", "SecP256r1MLKEM768"] {
            let client = Client::trusting(server.port, &Pki::shared().ca_of(algorithm)).groups(group);
            let expected = Negotiated::new(group, algorithm.scheme());
            agree(&client, &expected);
            made.push(expected);
        }
        server.expect_handshakes(&made.iter().collect::<Vec<_>>());
    }
}

#[test]
fn every_cipher_suite_in_the_order_of_the_server() {
    let server =
        Server::start(json!({ "algorithms": { "cipher": ["chacha20-poly1305", "aes-256-gcm", "aes-128-gcm"] } }));
    let aes = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384";
    let both = format!("{aes}:TLS_CHACHA20_POLY1305_SHA256");
    let expected = Negotiated::new("X25519MLKEM768", P384);
    let chacha = expected.clone().suite("TLS_CHACHA20_POLY1305_SHA256");
    let small = expected.clone().suite("TLS_AES_128_GCM_SHA256");
    agree(&Client::new(server.port).arguments(&["-ciphersuites", &both]), &chacha);
    agree(&Client::new(server.port).arguments(&["-ciphersuites", aes]), &expected);
    agree(&Client::new(server.port).arguments(&["-ciphersuites", "TLS_AES_128_GCM_SHA256"]), &small);
    server.expect_handshakes(&[&chacha, &expected, &small]);
}

#[test]
fn a_classical_share_ends_on_the_hybrid_by_one_retry() {
    for (groups, group) in [
        ("*X25519:X25519MLKEM768", "X25519MLKEM768"),
        ("*P-384:SecP384r1MLKEM1024", "SecP384r1MLKEM1024"),
        ("*P-256:SecP256r1MLKEM768:P-384", "SecP256r1MLKEM768"),
    ] {
        let server = Server::start(json!({}));
        check(&server, &Client::new(server.port).groups(groups), &Negotiated::new(group, P384).after_retry());
    }
}

#[test]
fn a_post_quantum_share_is_taken_before_a_better_group_without_one() {
    let kem = json!({ "kem": ["secp384r1mlkem1024", "x25519mlkem768", "x25519"] });
    let server = Server::start(json!({ "algorithms": kem }));
    let client = Client::new(server.port).groups("SecP384r1MLKEM1024:*X25519MLKEM768");
    check(&server, &client, &Negotiated::new("X25519MLKEM768", P384));

    let server = Server::start(json!({ "algorithms": kem, "tls": { "group_preference": "strict" } }));
    check(&server, &client_of(&server), &Negotiated::new("SecP384r1MLKEM1024", P384).after_retry());

    let server = Server::start(json!({ "algorithms": kem, "tls": { "group_preference": "client" } }));
    let client = Client::new(server.port).groups("*X25519:*X25519MLKEM768");
    check(&server, &client, &Negotiated::new("x25519", P384));
}

fn client_of(server: &Server) -> Client {
    Client::new(server.port).groups("SecP384r1MLKEM1024:*X25519MLKEM768")
}

#[test]
fn without_hybrids_only_classical_groups_are_left_and_the_start_says_so() {
    let server = Server::start(json!({ "tls": { "hybrid_mode": false, "pqc_only": false } }));
    check(&server, &Client::new(server.port).groups("X25519MLKEM768:*X25519"), &Negotiated::new("x25519", P384));
    server.wait_for_warning("classical");
}

#[test]
fn a_session_is_resumed() {
    let server = Server::start(json!({}));
    let full = Negotiated::new("SecP384r1MLKEM1024", P384);
    let first = Client::new(server.port).groups("SecP384r1MLKEM1024").saving_session();
    agree(&first, &full);
    let second = Client::new(server.port).groups("SecP384r1MLKEM1024").resuming(&first);
    let resumed = full.clone().resumed();
    agree(&second, &resumed);
    server.expect_handshakes(&[&full, &resumed]);
}

#[test]
fn no_session_is_resumed_where_resumption_is_off_or_the_session_is_too_old() {
    let full = Negotiated::new("X25519MLKEM768", P384);
    let server = Server::start(json!({ "tls": { "session_timeout": 1 } }));
    let first = Client::new(server.port).saving_session();
    agree(&first, &full);
    // The age of a session is what is tested.
    std::thread::sleep(std::time::Duration::from_millis(2100));
    agree(&Client::new(server.port).resuming(&first), &full);
    server.expect_handshakes(&[&full, &full]);

    for off in [json!({ "session_timeout": 0 }), json!({ "session_cache_size": 0 })] {
        let server = Server::start(json!({ "tls": off }));
        let client = Client::new(server.port);
        let exchange = agree(&client, &full);
        assert!(!exchange.trace.contains("NewSessionTicket"), "a session was offered under {off}");
    }
}

#[test]
fn a_client_of_tls_1_2_is_told_the_version() {
    let server = Server::start(json!({}));
    let exchange = Client::new(server.port).arguments(&["-tls1_2"]).get("/");
    assert_eq!(exchange.alert(), Some("protocol version"), "{}", exchange.finished.said());
    server.metrics_when("the refusal", |metrics| {
        metrics.sum("qtls_handshake_failures_total", &[("reason", "no_common_version")]) == 1.0
    });
    let refused = server.wait_for_warning("handshake refused");
    assert!(refused.contains("TLS 1.3"), "{refused}");
}

#[test]
fn alpn_chooses_the_protocol() {
    let server = Server::start(json!({}));
    let exchange = Client::new(server.port).arguments(&["-alpn", "http/1.1"]).get("/status.json");
    assert_eq!(exchange.json()["alpn"], "http/1.1", "{}", exchange.finished.said());
    assert_eq!(exchange.json()["server_name"], "localhost", "{}", exchange.finished.said());
    let none = Client::new(server.port).arguments(&["-alpn", "none-of-ours"]).get("/");
    assert_eq!(none.alert(), Some("no application protocol"), "{}", none.finished.said());
}
