//! The peers among themselves: what the harness reads from one side is what it reads from the other.
//!
//! Q-TLS has no part in this; the other suites rely on it.

use std::path::{Path, PathBuf};
use std::slice;
use std::sync::LazyLock;

use qtls_interop::openssl::{self, text};
use qtls_interop::process::run;
use qtls_interop::{Negotiated, Running, peers, programs, trace};
use serde_json::{Value, json};

/// One root for each kind of key, and a certificate of it for `localhost`, made by OpenSSL.
///
/// In target, since nothing drops a static: the next run replaces them.
static CERTIFICATES: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = programs::target_directory().join("interop-pki/peers");
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("target is writable");
    let script = r#"
        cd "$1"
        issue() {
            name=$1; shift
            openssl req -x509 -newkey "$@" -nodes -keyout ca-key.pem -out $name-ca.pem -days 2 \
                -subj "/CN=$name root" -addext basicConstraints=critical,CA:TRUE
            openssl req -new -newkey "$@" -nodes -keyout $name-key.pem -out $name.csr -subj /CN=localhost \
                -addext subjectAltName=DNS:localhost,IP:127.0.0.1
            openssl x509 -req -in $name.csr -CA $name-ca.pem -CAkey ca-key.pem -out $name-cert.pem -days 2 \
                -copy_extensions copyall
        }
        set -e
        issue ec ec -pkeyopt ec_paramgen_curve:P-384
        issue mldsa ML-DSA-65
    "#;
    let mut command = peers::debian("sh", [&directory]);
    run(command.args(["-c", script, "sh", text(&directory)]), b"").expect_success();
    directory
});

fn file(name: &str) -> PathBuf {
    CERTIFICATES.join(name)
}

fn pair(name: &str) -> (PathBuf, PathBuf) {
    (file(&format!("{name}-cert.pem")), file(&format!("{name}-key.pem")))
}

fn port(process: &Running) -> u16 {
    let line = process.stdout.wait_for_line("listening");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    line["listening"].as_u64().and_then(|port| u16::try_from(port).ok()).expect("a port")
}

#[test]
fn openssl_with_openssl() {
    let server = openssl::Server::start(pair("mldsa"), &file("mldsa-ca.pem"), &["-groups", "SecP384r1MLKEM1024"]);
    let client = openssl::Client::trusting(server.port, &file("mldsa-ca.pem")).saving_session();
    let exchange = client.groups("*X25519:SecP384r1MLKEM1024").get("/");
    let expected = Negotiated::new("SecP384r1MLKEM1024", "mldsa65").after_retry();
    assert_eq!(exchange.negotiated(), expected);
    server.expect_handshakes(&[expected]);
    assert!(exchange.body().contains("TLS_AES_256_GCM_SHA384"), "{}", exchange.finished.said());
}

#[test]
fn openssl_resumes() {
    let server = openssl::Server::start(pair("ec"), &file("ec-ca.pem"), &[]);
    let first = openssl::Client::trusting(server.port, &file("ec-ca.pem")).groups("X25519MLKEM768").saving_session();
    first.get("/").finished.expect_success();
    let second = openssl::Client::trusting(server.port, &file("ec-ca.pem")).groups("X25519MLKEM768").resuming(&first);
    let expected = Negotiated::new("X25519MLKEM768", "ecdsa_secp384r1_sha384");
    assert_eq!(second.get("/").negotiated(), expected.clone().resumed());
    server.expect_handshakes(&[expected.clone(), expected.resumed()]);
}

#[test]
fn an_unknown_anchor_and_a_refused_group_fail() {
    let server = openssl::Server::start(pair("ec"), &file("ec-ca.pem"), &["-groups", "X25519MLKEM768"]);
    let exchange = openssl::Client::trusting(server.port, &file("mldsa-ca.pem")).get("/");
    assert!(exchange.finished.stderr.contains("verify error"), "{}", exchange.finished.said());
    assert!(!exchange.finished.status.success(), "{}", exchange.finished.said());
    let exchange = openssl::Client::trusting(server.port, &file("ec-ca.pem")).groups("P-256").get("/");
    assert_eq!(exchange.alert(), Some("handshake failure"), "{}", exchange.trace);
}

#[test]
fn node_with_openssl() {
    let server = openssl::Server::start(pair("ec"), &file("ec-ca.pem"), &[]);
    let options = json!({ "port": server.port, "ca": file("ec-ca.pem"), "get": "/" });
    let finished = run(&mut peers::node("node/client.mjs", &options), b"").expect_success();
    let expected = Negotiated::new("X25519MLKEM768", "ecdsa_secp384r1_sha384");
    assert_eq!(trace::handshakes(&finished.stderr), slice::from_ref(&expected));
    server.expect_handshakes(&[expected]);
}

#[test]
fn openssl_with_node() {
    let (cert, key) = pair("mldsa");
    let options = json!({ "cert": cert, "key": key, "groups": "MLKEM1024:X25519" });
    let server = Running::start(&mut peers::node("node/server.mjs", &options));
    let client = openssl::Client::trusting(port(&server), &file("mldsa-ca.pem")).groups("*X25519:*MLKEM1024");
    let exchange = client.get("/from-openssl");
    assert_eq!(exchange.body(), "GET /from-openssl\n");
    trace::expect_handshakes(&server.stderr, &[exchange.negotiated()]);
}

#[test]
fn go_with_openssl() {
    let server = openssl::Server::start(pair("ec"), &file("ec-ca.pem"), &["-groups", "SecP384r1MLKEM1024"]);
    let finished = run(&mut go_client(server.port, &file("ec-ca.pem")), b"").expect_success();
    let facts: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let expected = Negotiated::new("SecP384r1MLKEM1024", "ecdsa_secp384r1_sha384").suite("TLS_AES_128_GCM_SHA256");
    let expected = expected.after_retry();
    assert_eq!(Negotiated::from_json(&facts), expected);
    server.expect_handshakes(&[expected]);
}

#[test]
fn openssl_with_go() {
    let (cert, key) = pair("ec");
    let server = Running::start(peers::go().args(["server", "-cert", text(&cert), "-key", text(&key)]));
    let exchange = openssl::Client::trusting(port(&server), &file("ec-ca.pem")).groups("SecP256r1MLKEM768").get("/x");
    assert_eq!(exchange.body(), "GET /x\n");
    let expected = Negotiated::new("SecP256r1MLKEM768", "ecdsa_secp384r1_sha384").suite("TLS_AES_128_GCM_SHA256");
    assert_eq!(exchange.negotiated(), expected);
    let facts: Value = serde_json::from_str(&server.stdout.wait_for_line("group")).expect("JSON");
    assert_eq!(facts["group"], "SecP256r1MLKEM768");
}

#[test]
fn chromium_with_node() {
    let (cert, key) = pair("ec");
    let server = Running::start(&mut peers::node("node/server.mjs", &json!({ "cert": cert, "key": key })));
    let url = format!("https://localhost:{}/page", port(&server));
    let load = |ca: PathBuf| {
        let options = json!({ "url": url, "ca": ca });
        let finished = run(&mut peers::node("chromium/load.mjs", &options), b"").expect_success();
        serde_json::from_str::<Value>(&finished.stdout).expect("JSON")
    };
    let page = load(file("ec-ca.pem"));
    assert_eq!(page["security"]["keyExchangeGroup"], "X25519MLKEM768", "{page}");
    assert_eq!(page["text"], "GET /page\n", "{page}");
    assert_eq!(load(file("mldsa-ca.pem"))["error"], "net::ERR_CERT_AUTHORITY_INVALID");
}

fn go_client(port: u16, ca: &Path) -> std::process::Command {
    let mut command = peers::go();
    command.args(["client", "-ca", text(ca), "-server-name", "localhost", "-get", "/"]);
    command.arg(format!("127.0.0.1:{port}"));
    command
}
