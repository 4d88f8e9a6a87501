//! Two virtual hosts behind one port, asked by a real curl: each name gets its certificate, and is a wall.

use qtls_interop::client::{self, Client};
use qtls_interop::process::{Finished, run};
use qtls_interop::{Algorithm, Pki, Server, curl, peers, programs};
use serde_json::{Value, json};

/// `localhost` with an ML-DSA certificate, `127.0.0.1` (which asks for no name) and all others with P-384.
fn server() -> Server {
    let (cert, key) = Pki::shared().server(Algorithm::MlDsa65);
    let host = json!({ "names": ["localhost"], "certificates": { "server_cert": cert, "server_key": key } });
    let other = json!({ "names": ["b.example"], "tls": { "pqc_only": true } });
    Server::start(json!({ "virtual_hosts": [host, other] }))
}

fn curl(server: &Server, host: &str, arguments: &[&str]) -> Finished {
    let ca = Pki::shared().ca();
    let mut command = peers::debian("curl", ca.parent());
    curl::towards(&mut command, &ca).args(arguments);
    run(command.arg(format!("https://{host}:{}/status.json", server.port)), b"").expect_success()
}

#[test]
fn each_name_has_its_certificate() {
    let server = server();
    let status = |host: &str| -> Value {
        serde_json::from_str(&curl(&server, host, &[]).stdout).expect("the status page is JSON")
    };
    let (by_name, by_address) = (status("localhost"), status("127.0.0.1"));
    assert_eq!(by_name["certificate"], "server-cert-ml-dsa-65", "{by_name}");
    assert_eq!(by_name["certificate_reason"], "ml-dsa-65: offered", "{by_name}");
    assert_eq!(by_address["certificate"], "server-cert-ecdsa-p384", "{by_address}");
    assert_eq!(by_address["server_name"], Value::Null, "{by_address}");
}

#[test]
fn a_request_for_another_name_than_the_handshake_gets_421() {
    let server = server();
    for protocol in ["--http1.1", "--http2"] {
        for (host, field, status) in [
            ("localhost", "localhost", "200"),
            ("localhost", "b.example", "421"),
            ("localhost", "elsewhere.example", "421"),
            ("127.0.0.1", "elsewhere.example", "200"),
            ("127.0.0.1", "b.example", "421"),
        ] {
            let arguments = [protocol, "-H", &format!("Host: {field}"), "-o", "/dev/null", "-w", "%{http_code}"];
            let finished = curl(&server, host, &arguments);
            assert_eq!(finished.stdout, status, "{protocol} {host} {field}: {}", finished.said());
        }
    }
}

/// A client that is given the key to expect takes that one and no other.
#[test]
fn a_pinned_key_is_the_only_one_that_is_taken() {
    let server = Server::start(json!({}));
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let pin_of = |algorithm| {
        let (cert, _) = Pki::shared().server(algorithm);
        let mut command = programs::command("qtls");
        let shown = run(command.arg("inspect").arg("--json").arg(cert), b"").expect_success().stdout;
        let shown: Value = serde_json::from_str(&shown).expect("it prints JSON");
        shown["items"][0]["key"]["spki_sha256"].as_str().expect("a hash").to_owned()
    };
    let connect = |pin: &str| {
        let config = json!({ "certificates": { "pins": [pin] } });
        Client::new(server.port).config(directory.path(), &config).get("/status.json")
    };
    let right = pin_of(Algorithm::EcdsaP384);
    let facts = client::facts(&connect(&right).expect_success());
    assert_eq!(facts["group"], "X25519MLKEM768", "{facts}");
    let refused = connect(&pin_of(Algorithm::Rsa4096)).expect_code(4);
    let message = format!("no key of the peer's chain is pinned; the leaf's SPKI SHA-256 is {right}");
    assert!(refused.stderr.contains(&message), "{}", refused.said());
}
