//! One port, three certificates: what each real client gets, in either order and by name, the reason that is counted, and
//! that `qtls explain` says the same beforehand.

use std::process::Command;
use std::time::Duration;

use qtls_interop::openssl::text;
use qtls_interop::process::{run, run_within};
use qtls_interop::{Algorithm, Pki, Server, curl, openssl, peers, programs};
use serde_json::{Value, json};

/// A client, and how it is run towards a server.
struct Client {
    /// What `qtls explain` calls it, if it knows it.
    known: Option<&'static str>,
    offers_ml_dsa: bool,
    connect: fn(&Server),
}

const CLIENTS: &[Client] = &[
    Client { known: Some("chromium"), offers_ml_dsa: true, connect: chromium },
    Client { known: Some("openssl-3.5"), offers_ml_dsa: true, connect: |server| openssl_3_5(server, &[]) },
    Client {
        known: None,
        offers_ml_dsa: false,
        connect: |server| openssl_3_5(server, &["-sigalgs", "ecdsa_secp384r1_sha384:rsa_pss_rsae_sha512"]),
    },
    Client { known: Some("node-24"), offers_ml_dsa: true, connect: node },
    Client { known: Some("go-1.26"), offers_ml_dsa: false, connect: go },
    Client { known: Some("curl-openssl-3.0"), offers_ml_dsa: false, connect: classical_curl },
];

const POST_QUANTUM_FIRST: [&str; 3] = ["ml-dsa-65", "ecdsa-p384", "rsa-4096"];
const CLASSICAL_FIRST: [&str; 3] = ["ecdsa-p384", "rsa-4096", "ml-dsa-65"];

fn three_certificates(order: &[&str]) -> Value {
    let pair = |algorithm| {
        let (cert, key) = Pki::shared().server(algorithm);
        json!({ "cert": cert, "key": key })
    };
    let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
    json!({
        "certificates": {
            "server_cert": cert, "server_key": key,
            "additional": [pair(Algorithm::MlDsa65), pair(Algorithm::Rsa4096)],
        },
        "algorithms": { "signature": order },
        "logging": { "level": "debug" },
    })
}

/// Runs every client towards `config`, and holds what is counted to `expected`: a certificate and a reason.
#[track_caller]
fn each_client_gets(config: &Value, expected: impl Fn(&Client) -> (&'static str, &'static str)) {
    for client in CLIENTS {
        let server = Server::start(config.clone());
        (client.connect)(&server);
        let (certificate, reason) = expected(client);
        let name = format!("server-cert-{certificate}");
        let labels = [("certificate", name.as_str()), ("reason", reason)];
        let metrics = server.metrics_when("the certificate", |metrics| metrics.has("qtls_certificate_selected_total"));
        let who = client.known.unwrap_or("OpenSSL 3.5 without ML-DSA");
        let counted = metrics.sum("qtls_certificate_selected_total", &labels);
        assert!(counted >= 1.0, "{who}: no {labels:?} in\n{}", metrics.text());
        let all = metrics.sum("qtls_certificate_selected_total", &[]);
        assert!((all - counted).abs() < 0.5, "{who}: something else was chosen too\n{}", metrics.text());
        if let Some(known) = client.known {
            let told = explain(&server, known);
            assert_eq!((&told["certificate"], &told["reason"]), (&json!(name), &json!(reason)), "{known}");
            let groups = metrics.labels("qtls_handshakes_total", "group");
            assert_eq!(told["group"], json!(groups[0]), "{known}: {groups:?}");
        }
    }
}

fn explain(server: &Server, client: &str) -> Value {
    let mut command = programs::command("qtls");
    command.args(["explain", "--json", "--client", client, "--config"]).arg(server.directory().join("server.json"));
    serde_json::from_str(&run(&mut command, b"").expect_success().stdout).expect("JSON")
}

#[test]
fn post_quantum_certificates_first() {
    each_client_gets(&three_certificates(&POST_QUANTUM_FIRST), |client| match client.offers_ml_dsa {
        true => ("ml-dsa-65", "ml-dsa-65: offered"),
        false => ("ecdsa-p384", "ecdsa-p384: client lacks ml-dsa-65"),
    });
}

#[test]
fn classical_certificates_first() {
    each_client_gets(&three_certificates(&CLASSICAL_FIRST), |_| ("ecdsa-p384", "ecdsa-p384: offered"));
}

/// The order at the top is classical; the host `localhost`, which all clients ask for, has its own.
#[test]
fn a_virtual_host_has_its_own_order() {
    let mut config = three_certificates(&CLASSICAL_FIRST);
    config["virtual_hosts"] = json!([{ "names": ["localhost"], "algorithms": { "signature": POST_QUANTUM_FIRST } }]);
    each_client_gets(&config, |client| match client.offers_ml_dsa {
        true => ("ml-dsa-65", "ml-dsa-65: offered"),
        false => ("ecdsa-p384", "ecdsa-p384: client lacks ml-dsa-65"),
    });
}

/// ML-DSA comes first, and is kept to clients that ask for another name than these do.
#[test]
fn a_certificate_that_is_kept_to_others() {
    let mut config = three_certificates(&POST_QUANTUM_FIRST);
    config["certificates"]["additional"][0]["only_for"] =
        json!({ "names": ["pq.example"], "networks": ["10.0.0.0/8"] });
    each_client_gets(&config, |_| ("ecdsa-p384", "ecdsa-p384: ml-dsa-65 is kept to others"));
}

fn chromium(server: &Server) {
    let options = json!({ "url": format!("https://localhost:{}/", server.port), "ca": Pki::shared().ca() });
    let finished =
        run_within(&mut peers::node("chromium/load.mjs", &options), b"", Duration::from_secs(90)).expect_success();
    let page: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    // Also where the chain is ML-DSA: it is trusted by policy.
    assert_eq!((&page["state"], &page["status"]), (&json!("secure"), &json!(200)), "{page}");
    assert_eq!(page["security"]["keyExchangeGroup"], "X25519MLKEM768", "{page}");
}

fn openssl_3_5(server: &Server, arguments: &[&str]) {
    let exchange = openssl::Client::new(server.port).arguments(arguments).get("/status.json");
    exchange.finished.expect_success();
}

fn node(server: &Server) {
    let options = json!({ "port": server.port, "ca": Pki::shared().ca(), "get": "/status.json" });
    run(&mut peers::node("node/client.mjs", &options), b"").expect_success();
}

fn go(server: &Server) {
    let mut command = peers::go();
    command.args(["client", "-ca", text(&Pki::shared().ca()), "-server-name", "localhost", "-get", "/status.json"]);
    run(command.arg(format!("127.0.0.1:{}", server.port)), b"").expect_success();
}

fn classical_curl(server: &Server) {
    let mut command: Command = peers::classical_curl();
    // It can't read an ML-DSA root.
    curl::towards(&mut command, &Pki::shared().ca_of(Algorithm::EcdsaP384));
    run(command.arg(format!("https://localhost:{}/status.json", server.port)), b"").expect_success();
}
