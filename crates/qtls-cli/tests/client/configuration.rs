//! The command line, the environment and client.json: who wins, what has an effect, and what is wrong in which line.

use std::fs;
use std::path::PathBuf;

use qtls_core::policy::KeyAlgorithm;
use qtls_core::policy::{CipherSuite, Group};
use tempfile::TempDir;

use crate::certificates::Ca;
use crate::program::Client;
use crate::server::{Options, close_notify, tls};

struct Config {
    directory: TempDir,
}

impl Config {
    fn new(text: &str) -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("client.json"), text).unwrap();
        Self { directory }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("client.json")
    }

    fn client(&self) -> Client {
        Client::new().arg("--config").arg(self.path())
    }
}

#[test]
fn the_server_comes_from_the_file_the_environment_or_the_command_line() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    let server = tls(Options::new(&leaf).config(), close_notify);
    let port = server.port().to_string();
    let file = |host: &str, port: &str| {
        let ca = ca.file();
        Config::new(&format!(
            "// A comment.\n{{ \"client\": {{ \"server_host\": {host:?}, \"server_port\": {port}, \"max_retries\": 0 }},\n  \
             \"certificates\": {{ \"ca_bundle\": {ca:?} }} }}"
        ))
    };
    file("localhost", &port).client().run().code(0).says(&format!("Connected to localhost:{port} "));

    let wrong = file("nowhere.invalid", "1");
    let from_environment = wrong.client().env("QTLS_SERVER_HOST", "127.0.0.1").env("QTLS_SERVER_PORT", &port);
    from_environment.run().code(0).says(&format!("Connected to 127.0.0.1:{port} "));

    let from_arguments = wrong.client().env("QTLS_SERVER_HOST", "127.0.0.1").env("QTLS_SERVER_PORT", "2");
    from_arguments.arg("localhost").arg(&port).run().code(0).says(&format!("Connected to localhost:{port} "));
}

#[test]
fn modes_and_algorithms_decide_what_is_offered() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    let server = tls(Options::new(&leaf).config(), close_notify);
    let group = |config: &str, arguments: &[&str], environment: &[(&str, &str)]| {
        let config = Config::new(config);
        let mut client = config.client().arg(format!("localhost:{}", server.port())).arg("--json");
        client = client.arg("--ca").arg(ca.file()).args(arguments);
        for (name, value) in environment {
            client = client.env(name, value);
        }
        let finished = client.run().code(0);
        (finished.json()["group"].as_str().unwrap().to_owned(), finished.stderr)
    };
    assert_eq!(group("{}", &[], &[]).0, "X25519MLKEM768");
    // With the specification's list.
    let listed = r#"{"algorithms": {"kem": ["kyber1024", "ecdhe-p384"], "cipher": ["aes-256-gcm"]}}"#;
    let (name, said) = group(listed, &[], &[]);
    assert_eq!(name, "SecP384r1MLKEM1024");
    assert!(
        said.contains("qtls-client: names from before the standards") && said.contains("kyber1024 → ml-kem-1024"),
        "{said}"
    );
    assert!(!said.contains("browsers"), "{said}");
    // Without hybrids: pure or classical.
    let pure = r#"{"tls": {"hybrid_mode": false}, "algorithms": {"kem": ["ml-kem-1024", "x25519"]}}"#;
    assert_eq!(group(pure, &["--pqc-only"], &[]).0, "MLKEM1024");
    let (name, said) = group("{}", &[], &[("QTLS_HYBRID_MODE", "false")]);
    assert_eq!(name, "x25519");
    assert!(said.contains("key exchange is classical only"), "{said}");
    assert_eq!(group("{}", &["--pqc-only", "--quiet"], &[]), ("X25519MLKEM768".to_owned(), String::new()));
}

#[test]
fn suites_and_signatures_are_held_to_the_list() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    let options = Options { suites: &[CipherSuite::Aes256Gcm, CipherSuite::ChaCha20Poly1305], ..Options::new(&leaf) };
    let server = tls(options.config(), close_notify);
    let client =
        |config: &Config| config.client().arg(format!("localhost:{}", server.port())).arg("--ca").arg(ca.file());
    let config = Config::new(r#"{"algorithms": {"cipher": ["chacha20-poly1305"]}}"#);
    assert_eq!(client(&config).arg("--json").run().code(0).json()["suite"], "TLS_CHACHA20_POLY1305_SHA256");
    let config = Config::new(r#"{"algorithms": {"cipher": ["aes-128-gcm"]}}"#);
    client(&config).run().code(5).says("HandshakeFailure").says("TLS_AES_128_GCM_SHA256");
    let config = Config::new(r#"{"algorithms": {"signature": ["ml-dsa-65"]}}"#);
    client(&config).run().code(5).says("HandshakeFailure").says("ml-dsa-65");
    let config = Config::new(r#"{"algorithms": {"signature_chain": ["ml-dsa-65"]}}"#);
    client(&config).run().code(4).says("algorithms.signature_chain lacks");
}

#[test]
fn a_profile_is_what_is_offered_and_what_lists_choose_from() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    let server = tls(Options::new(&leaf).config(), close_notify);
    let client =
        |config: &Config| config.client().arg(format!("localhost:{}", server.port())).arg("--ca").arg(ca.file());
    let config = Config::new(r#"{"tls": {"profile": "fips"}}"#);
    assert_eq!(client(&config).arg("--json").run().code(0).json()["group"], "X25519MLKEM768");
    // The server has no ML-DSA-87 to sign with.
    let config = Config::new(r#"{"tls": {"profile": "cnsa2"}}"#);
    let finished = client(&config).run().code(5).says("HandshakeFailure").says("SecP384r1MLKEM1024, MLKEM1024");
    assert!(!finished.stderr.contains("browsers"), "{}", finished.stderr);
    let config = Config::new(r#"{"tls": {"profile": "fips"}, "algorithms": {"kem": ["kyber768", "x25519"]}}"#);
    client(&config)
        .run()
        .code(2)
        .says("client.json:1:65: algorithms.kem[1]: x25519 is outside of the profile fips, which has X25519MLKEM768, ")
        .says("hint: name what the profile has, or choose the profile \"default\"");
    // What the command line asks for holds within the profile.
    let config = Config::new(r#"{"tls": {"profile": "fips"}, "algorithms": {"kem": ["kyber768", "x25519"]}}"#);
    assert_eq!(
        client(&config).args(["--pqc-only", "--json"]).env("QTLS_HYBRID_MODE", "true").run().code(0).json()["group"],
        "X25519MLKEM768"
    );
}

#[test]
fn without_a_bundle_the_trust_anchors_of_the_system_count() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    let server = tls(Options::new(&leaf).config(), close_notify);
    let client = || Client::new().arg(format!("localhost:{}", server.port()));
    client().env("SSL_CERT_FILE", ca.file()).run().code(0).says("localhost by the system's trust anchors");
    let other = Ca::named("Another CA");
    client().env("SSL_CERT_FILE", other.file()).run().code(4).says("no CA in the system's trust anchors issued it");
}

#[test]
fn the_log_goes_where_the_configuration_says() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    let server = tls(Options::new(&leaf).config(), close_notify);
    let config = Config::new("{}");
    let log = config.directory.path().join("client.log");
    let client =
        || config.client().arg(format!("localhost:{}", server.port())).arg("--ca").arg(ca.file()).arg("--quiet");
    let finished = client().env("QTLS__LOGGING__FILE", &log).env("QTLS_LOG_LEVEL", "info").run().code(0);
    assert_eq!(finished.stderr, "");
    let text = fs::read_to_string(&log).unwrap();
    let line = text.lines().find(|line| line.contains(" connected ")).unwrap_or_else(|| panic!("{text}"));
    for field in ["group=X25519MLKEM768", "pq=true", "suite=TLS_AES_256_GCM_SHA384", "scheme=ecdsa_secp256r1_sha256"] {
        assert!(line.contains(field), "no {field} in {line}");
    }
    let finished = client().env("QTLS__LOGGING__CONSOLE", "true").env("QTLS_LOG_LEVEL", "info").run().code(0);
    assert!(finished.stderr.contains(" connected "), "{}", finished.stderr);
    client().env("QTLS__LOGGING__FILE", "/nowhere/client.log").run().code(2).says("logging.file: ");
}

#[test]
fn a_wrong_configuration_names_its_line_and_the_way_out() {
    let config = |text: &str| Config::new(text);
    let says = |text: &str, expected: &str| {
        let config = config(text);
        let finished = config.client().arg("localhost:1").run().code(2);
        let start = format!("qtls-client: {}:{expected}", config.path().display());
        assert!(finished.stderr.starts_with(&start), "expected {start}\nfound {}", finished.stderr);
    };
    says(
        "{\n  \"tls\": { \"verify_per\": true }\n}",
        "2:12: tls.verify_per: unknown key\n  hint: did you mean \"verify_peer\"?",
    );
    says(
        "{\n \"algorithms\": {\"kem\": [\"x25519\", \"kyber7688\"]}\n}",
        "2:35: algorithms.kem[1]: unknown key exchange algorithm",
    );
    says(
        "{\n \"certificates\": {\"ca_bundle\": \"/nowhere/ca.pem\"}\n}",
        "2:32: certificates.ca_bundle: /nowhere/ca.pem: does not exist: there is no directory /nowhere\n  hint: ",
    );
    says(
        "{ \"certificates\": {\"client_cert\": \"x\"} }",
        "1:35: certificates.client_cert: a certificate without its key",
    );
    Client::new().args(["--config", "/nowhere/client.json", "localhost"]).run().code(2).says("there is no such file");
}

#[test]
fn wrong_usage_is_told_by_the_option() {
    let ca = Ca::new();
    let (first, second) = (ca.client(KeyAlgorithm::EcdsaP256), ca.client(KeyAlgorithm::EcdsaP384));
    let client = || Client::new().arg("localhost:1");
    Client::new().run().code(2).says("qtls-client: which server? None is given\n  hint: qtls-client HOST PORT");
    Client::new().arg("localhost:1").arg("2").run().code(2).says("qtls-client: PORT: the port is given twice");
    Client::new().arg("-1:2").run().code(2);
    Client::new().arg("a_-!:1").run().code(2).says("qtls-client: HOST: \"a_-!\" is not a host");
    client().args(["--ca", "nope.pem"]).run().code(2).says("qtls-client: --ca: nope.pem: does not exist");
    client().arg("--ca").arg(&first.key_file).run().code(2).says("qtls-client: --ca: ");
    client().arg("--cert").arg(&first.cert_file).run().code(2).says("--key");
    let mixed =
        client().arg("--cert").arg(&first.cert_file).arg("--key").arg(&second.key_file).arg("--ca").arg(ca.file());
    mixed.run().code(2).says("qtls-client: --cert: ").says("does not belong to this certificate");
    client()
        .args(["--request", "get"])
        .run()
        .code(2)
        .says("qtls-client: --request: \"get\" is not a method and a path");
    client()
        .args(["--request", "GET /", "--alpn", "redis"])
        .run()
        .code(2)
        .says("--alpn: --request speaks h2 and http/1.1");
    client().args(["--server-name", "a b"]).run().code(2).says("qtls-client: --server-name: ");
    client().arg("--include").run().code(2).says("--request");
    client().arg("--stdio").run().code(2).says("--json");
    client().args(["--insecure", "--ca", "x"]).run().code(2).says("cannot be used with");
    client().arg("--jsn").run().code(2).says("--json");
}

#[test]
fn a_client_certificate_outside_the_list_is_refused_here() {
    let ca = Ca::new();
    let own = ca.client(KeyAlgorithm::EcdsaP256);
    let config = Config::new(r#"{"algorithms": {"signature": ["ml-dsa-65"]}}"#);
    let client = config.client().arg("localhost:1").arg("--ca").arg(ca.file());
    client
        .arg("--cert")
        .arg(&own.cert_file)
        .arg("--key")
        .arg(&own.key_file)
        .run()
        .code(2)
        .says("--cert: ")
        .says("the client certificate's key is ECDSA P-256, which algorithms.signature (ml-dsa-65) doesn't allow");
}

#[test]
fn help_and_version_are_data() {
    let help = Client::new().arg("--help").run().code(0);
    assert!(help.stderr.is_empty());
    let text = String::from_utf8(help.stdout).unwrap();
    for part in ["Exit codes:", "QTLS_SERVER_HOST", "--json", "HOST:PORT", "close_notify"] {
        assert!(text.contains(part), "no {part:?} in --help");
    }
    let version = Client::new().arg("--version").run().code(0);
    assert_eq!(version.text(), format!("qtls-client {}\n", qtls_core::version::VERSION));
}

#[test]
fn pqc_only_refuses_a_classical_server() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    let options = Options { groups: &[Group::X25519, Group::Secp384r1], ..Options::new(&leaf) };
    let server = tls(options.config(), close_notify);
    let client = || Client::to(server.port(), &ca.file());
    client().arg("--pqc-only").run().code(5).says("X25519MLKEM768, SecP384r1MLKEM1024, SecP256r1MLKEM768; TLS_");
    client().run().code(0);
}
