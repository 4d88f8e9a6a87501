//! Node 24, client and server: X25519MLKEM768 without doing anything for it.

use qtls_interop::client::{self, Client};
use qtls_interop::process::run;
use qtls_interop::{Algorithm, Negotiated, Pki, Running, Server, peers, trace};
use serde_json::{Value, json};

fn facts(stdout: &str) -> Vec<Value> {
    stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn a_client_of_node_is_served_with_every_kind_of_certificate() {
    for algorithm in Algorithm::ALL {
        let server = Server::with_certificate(algorithm, json!({}));
        let options = json!({ "port": server.port, "ca": Pki::shared().ca_of(algorithm), "get": "/status.json" });
        let finished = run(&mut peers::node("node/client.mjs", &options), b"").expect_success();
        let expected = Negotiated::new("X25519MLKEM768", algorithm.scheme());
        assert_eq!(trace::handshakes(&finished.stderr), std::slice::from_ref(&expected));
        let told = &facts(&finished.stdout)[0];
        assert_eq!((&told["authorized"], &told["suite"]), (&json!(true), &json!(expected.suite)));
        let status: Value = serde_json::from_str(told["body"].as_str().expect("a body")).expect("JSON");
        assert_eq!(Negotiated::from_json(&status), expected);
        server.expect_handshakes(&[&expected]);
    }
}

#[test]
fn node_resumes_its_session() {
    let server = Server::start(json!({}));
    let options = json!({ "port": server.port, "ca": Pki::shared().ca(), "get": "/status.json", "connections": 2 });
    let finished = run(&mut peers::node("node/client.mjs", &options), b"").expect_success();
    let full = Negotiated::new("X25519MLKEM768", "ecdsa_secp384r1_sha384");
    let resumed = full.clone().resumed();
    assert_eq!(trace::handshakes(&finished.stderr), [full.clone(), resumed.clone()]);
    let told = facts(&finished.stdout);
    assert_eq!((&told[0]["resumed"], &told[1]["resumed"]), (&json!(false), &json!(true)));
    server.expect_handshakes(&[&full, &resumed]);
}

#[test]
fn node_is_asked_for_its_certificate() {
    let server = Server::start(json!({ "certificates": { "verify_client": true, "ca_bundle": Pki::shared().ca() } }));
    let (cert, key) = Pki::shared().client(Algorithm::MlDsa65);
    let options =
        json!({ "port": server.port, "ca": Pki::shared().ca(), "cert": cert, "key": key, "get": "/status.json" });
    run(&mut peers::node("node/client.mjs", &options), b"").expect_success();
    server.expect_handshakes(&[&Negotiated::new("X25519MLKEM768", "ecdsa_secp384r1_sha384")]);

    let options = json!({ "port": server.port, "ca": Pki::shared().ca(), "get": "/status.json" });
    let finished = run(&mut peers::node("node/client.mjs", &options), b"");
    assert!(!finished.status.success(), "{}", finished.said());
}

#[test]
fn our_client_reaches_a_server_of_node() {
    for algorithm in Algorithm::ALL {
        let (cert, key) = Pki::shared().server(algorithm);
        let options = json!({ "cert": cert, "key": key });
        let server = Running::start(&mut peers::node("node/server.mjs", &options));
        let listening: Value = serde_json::from_str(&server.stdout.wait_for_line("listening")).expect("JSON");
        let port = listening["listening"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port");
        let finished = Client::trusting(port, &Pki::shared().ca_of(algorithm)).get("/from-qtls").expect_success();
        // Node signs with the least of the hashes that an RSA key may sign with.
        let scheme = if algorithm == Algorithm::Rsa4096 { "rsa_pss_rsae_sha256" } else { algorithm.scheme() };
        let expected = Negotiated::new("X25519MLKEM768", scheme);
        assert_eq!(client::negotiated(&finished), expected);
        assert_eq!(client::body(&client::facts(&finished)), "GET /from-qtls\n");
        trace::expect_handshakes(&server.stderr, &[expected]);
        let told: Value = serde_json::from_str(&server.stdout.wait_for_line("\"server_name\"")).expect("JSON");
        assert_eq!(told["server_name"], "localhost", "{told}");
    }
}
