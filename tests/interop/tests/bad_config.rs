//! Each wrong configuration gets one message that names file, line, key and remedy, exit code 2, and nothing listens.

use std::fs::Permissions;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use qtls_interop::openssl::text;
use qtls_interop::process::{Finished, run};
use qtls_interop::server::free_port;
use qtls_interop::{Algorithm, Pki, Server, peers, programs};
use serde_json::json;
use tempfile::TempDir;

/// A server.json with known lines, to be spoiled.
struct Config {
    directory: TempDir,
    text: String,
    port: u16,
}

impl Config {
    fn new() -> Self {
        let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
        let port = free_port();
        let text = format!(
            r#"{{
  "server": {{ "listen_address": "127.0.0.1", "listen_port": {port} }},
  "tls": {{ "hybrid_mode": true, "pqc_only": false }},
  "certificates": {{
    "server_cert": "{}",
    "server_key": "{}"
  }},
  "algorithms": {{
    "kem": ["x25519mlkem768", "x25519"]
  }},
  // Comments are allowed.
  "metrics": {{ "enabled": false }}
}}
"#,
            text(&cert),
            text(&key)
        );
        Self { directory: tempfile::tempdir().expect("the temporary directory is writable"), text, port }
    }

    /// The same with one thing spoiled.
    #[track_caller]
    fn with(mut self, right: &str, wrong: &str) -> Self {
        assert_eq!(self.text.matches(right).count(), 1, "{right} in {}", self.text);
        self.text = self.text.replace(right, wrong);
        self
    }

    fn path(&self) -> PathBuf {
        let path = self.directory.path().join("server.json");
        std::fs::write(&path, &self.text).expect("the temporary directory is writable");
        path
    }

    /// The check and the start both have to refuse, with one message that has all of `words`.
    #[track_caller]
    fn is_refused(&self, words: &[&str]) {
        self.is_refused_by(programs::command, words);
    }

    #[track_caller]
    fn is_refused_by(&self, program: impl Fn(&str) -> Command, words: &[&str]) {
        for check in [true, false] {
            let mut command = program("qtls-server");
            command.arg("--config").arg(self.path());
            if check {
                command.arg("--test-config");
            }
            expect_refusal(run(&mut command, b""), words, self.port);
        }
    }
}

#[track_caller]
fn expect_refusal(finished: Finished, words: &[&str], port: u16) {
    let finished = finished.expect_code(2);
    for word in words {
        assert!(finished.stderr.contains(word), "no {word:?} in: {}", finished.said());
    }
    // A message that says what was expected instead says the remedy, too.
    let remedies = finished.stderr.matches("hint:").count() + finished.stderr.matches("expected").count();
    assert_eq!(remedies, 1, "one message with one remedy: {}", finished.said());
    assert!(!finished.stderr.contains("panicked"), "{}", finished.said());
    assert!(!finished.stderr.contains("listening on"), "{}", finished.said());
    TcpStream::connect(("127.0.0.1", port)).expect_err("nothing listens");
}

#[test]
fn the_configuration_that_the_tests_spoil_is_right() {
    let mut command = programs::command("qtls-server");
    run(command.arg("--test-config").arg("--config").arg(Config::new().path()), b"").expect_success();
}

#[test]
fn a_misspelt_key() {
    let config = Config::new().with("\"hybrid_mode\": true", "\"hybrid_mod\": true");
    config.is_refused(&["server.json:3:", "tls.hybrid_mod", "hybrid_mode"]);
    Config::new().with("\"tls\"", "\"tsl\"").is_refused(&["server.json:3:", "tsl", "tls"]);
}

#[test]
fn a_wrong_type_and_a_wrong_value() {
    Config::new().with("\"pqc_only\": false", "\"pqc_only\": \"no\"").is_refused(&[
        "server.json:3:",
        "tls.pqc_only",
        "true or false",
    ]);
    let config = Config::new();
    let port = format!("\"listen_port\": {}", config.port);
    config.with(&port, "\"listen_port\": 70000").is_refused(&["server.json:2:", "server.listen_port", "65535"]);
    let config = Config::new().with("\"hybrid_mode\": true", "\"protocol_version\": \"1.2\"");
    config.is_refused(&["server.json:3:", "tls.protocol_version", "1.3"]);
}

#[test]
fn broken_json() {
    Config::new().with("// Comments are allowed.", "/* a comment without end").is_refused(&["server.json:11:"]);
    Config::new().with("\"pqc_only\": false }", "\"pqc_only\": false").is_refused(&["server.json:"]);
    Config::new().with("true, \"pqc_only\"", "true \"pqc_only\"").is_refused(&["server.json:3:"]);
}

#[test]
fn a_key_that_is_there_twice() {
    let config = Config::new().with("\"pqc_only\": false", "\"hybrid_mode\": false");
    config.is_refused(&["server.json:3:", "hybrid_mode"]);
}

#[test]
fn no_such_configuration() {
    let missing = Config::new().directory.path().join("none.json");
    let mut command = programs::command("qtls-server");
    expect_refusal(run(command.arg("--config").arg(&missing), b""), &["none.json"], free_port());
}

#[test]
fn a_missing_certificate_and_a_missing_key() {
    let config = Config::new().with("/server-cert-ecdsa-p384.pem", "/none.pem");
    config.is_refused(&["none.pem", "server.json:5:", "certificates.server_cert"]);
    let config = Config::new().with("/server-key-ecdsa-p384.pem", "/none.pem");
    config.is_refused(&["none.pem", "server.json:6:", "certificates.server_key"]);
}

#[test]
fn a_certificate_file_without_a_certificate() {
    let config = Config::new().with("/server-cert-ecdsa-p384.pem", "/server-key-rsa-4096.pem");
    config.is_refused(&["server-key-rsa-4096.pem", "certificates.server_cert"]);
}

#[test]
fn a_key_of_another_certificate() {
    let config = Config::new().with("/server-key-ecdsa-p384.pem", "/client-key-ecdsa-p384.pem");
    config.is_refused(&["server.json:", "client-key-ecdsa-p384.pem", "certificates.server_", "does not belong"]);
    let config = Config::new().with("/server-key-ecdsa-p384.pem", "/server-key-ml-dsa-65.pem");
    config.is_refused(&["server.json:", "server-key-ml-dsa-65.pem", "certificates.server_", "does not belong"]);
}

#[test]
fn a_leaf_outside_the_listed_signatures() {
    let config = Config::new().with("\"kem\": [", "\"signature\": [\"ml-dsa-65\"], \"kem\": [");
    config.is_refused(&["certificates.server_cert", "ecdsa-p384"]);
}

#[test]
fn an_unreadable_key() {
    let config = Config::new();
    let (_, key) = Pki::shared().server(Algorithm::EcdsaP384);
    let unreadable = config.directory.path().join("unreadable.pem");
    std::fs::copy(&key, &unreadable).unwrap();
    std::fs::set_permissions(&unreadable, Permissions::from_mode(0o000)).unwrap();
    let config = config.with(text(&key), text(&unreadable));
    config.is_refused_by(unprivileged, &["unreadable.pem", "certificates.server_key", "may not be read"]);
}

#[test]
fn an_encrypted_key() {
    let config = Config::new();
    let (_, key) = Pki::shared().server(Algorithm::EcdsaP384);
    let encrypted = config.directory.path().join("encrypted.pem");
    let mut command = peers::debian("openssl", [config.directory.path(), Pki::shared().directory()]);
    command.args(["pkcs8", "-topk8", "-passout", "pass:secret", "-in", text(&key), "-out", text(&encrypted)]);
    run(&mut command, b"").expect_success();
    let config = config.with(text(&key), text(&encrypted));
    config.is_refused(&["encrypted.pem", "certificates.server_key", "encrypted"]);
}

/// A leaf of its own, valid between two times of OpenSSL's form.
fn self_signed(directory: &Path, from: &str, to: &str) -> (PathBuf, PathBuf) {
    let (cert, key) = (directory.join("own-cert.pem"), directory.join("own-key.pem"));
    let mut command = peers::debian("openssl", [directory]);
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=localhost",
    ]);
    command.args(["-addext", "subjectAltName=DNS:localhost", "-not_before", from, "-not_after", to]);
    run(command.args(["-keyout", text(&key), "-out", text(&cert)]), b"").expect_success();
    (cert, key)
}

#[test]
fn a_leaf_outside_its_time_fails_the_check_and_warns_at_start() {
    for (from, to, word) in
        [("20200101000000Z", "20210101000000Z", "expired"), ("20500101000000Z", "20510101000000Z", "not valid before")]
    {
        let directory = tempfile::tempdir().unwrap();
        let (cert, key) = self_signed(directory.path(), from, to);
        let certificates = json!({ "server_cert": cert, "server_key": key });
        let port = free_port();
        let config =
            json!({ "server": { "listen_address": "127.0.0.1", "listen_port": port }, "certificates": certificates });
        let file = qtls_interop::server::write_config(directory.path(), &config);
        let mut command = programs::command("qtls-server");
        command.arg("--test-config").arg("--config").arg(file);
        expect_refusal(run(&mut command, b""), &["own-cert.pem", "certificates.server_cert", word], port);

        let server = Server::with_config(json!({ "certificates": certificates }));
        server.wait_for_warning(word);
        assert!(server.metrics().has("qtls_certificate_expiry_seconds"), "{}", server.metrics().text());
    }
}

#[test]
fn a_port_in_use() {
    let config = Config::new();
    let _taken = TcpListener::bind(("127.0.0.1", config.port)).unwrap();
    // The check passes: the server may be running.
    let mut command = programs::command("qtls-server");
    run(command.arg("--test-config").arg("--config").arg(config.path()), b"").expect_success();
    let mut command = programs::command("qtls-server");
    let finished = run(command.arg("--config").arg(config.path()), b"").expect_code(2);
    for word in ["server.json:2:", "server.listen_port", "in use", "hint:"] {
        assert!(finished.stderr.contains(word), "no {word:?} in: {}", finished.said());
    }
}

#[test]
fn a_port_of_another_server_with_workers() {
    // SO_REUSEPORT must not make two servers share a port by accident.
    let first = Server::start(json!({}));
    let config = Config::new();
    let port = format!("\"listen_port\": {}", config.port);
    let config = config.with(&port, &format!("\"listen_port\": {}", first.port));
    let mut command = programs::command("qtls-server");
    let finished = run(command.arg("--config").arg(config.path()), b"").expect_code(2);
    assert!(finished.stderr.contains("in use"), "{}", finished.said());
}

#[test]
fn a_port_without_the_right_to_it() {
    let config = Config::new();
    let port = config.port;
    let config = config.with(&format!("\"listen_port\": {port}"), "\"listen_port\": 443").with("127.0.0.1", "0.0.0.0");
    let mut command = unprivileged("qtls-server");
    let finished = run(command.arg("--config").arg(config.path()), b"").expect_code(2);
    for word in ["server.json:2:", "server.listen_port", "443", "hint:"] {
        assert!(finished.stderr.contains(word), "no {word:?} in: {}", finished.said());
    }
}

#[test]
fn an_unknown_algorithm() {
    let config = Config::new().with("\"x25519mlkem768\"", "\"x25519mlkem786\"");
    config.is_refused(&["server.json:9:", "algorithms.kem", "x25519mlkem768"]);
    let config = Config::new().with("\"kem\": [", "\"cipher\": [\"aes-256-cbc\"], \"kem\": [");
    config.is_refused(&["server.json:9:", "algorithms.cipher", "aes-256-gcm"]);
}

#[test]
fn a_kem_without_a_partner() {
    let config = Config::new().with("\"x25519mlkem768\", \"x25519\"", "\"kyber1024\", \"x25519\"");
    config.is_refused(&["server.json:9:", "algorithms.kem", "ecdhe-p384"]);
    let config = Config::new()
        .with("\"x25519mlkem768\", \"x25519\"", "\"x25519\"")
        .with("\"pqc_only\": false", "\"pqc_only\": true");
    config.is_refused(&["server.json:9:", "algorithms.kem"]);
}

#[test]
fn an_unset_variable_in_an_enabled_section() {
    let config = Config::new().with("\"server_key\": \"", "\"server_key\": \"${QTLS_TEST_UNSET}");
    config.is_refused(&["server.json:6:", "certificates.server_key", "QTLS_TEST_UNSET"]);
    // In a section that is off, it is none.
    let config =
        Config::new().with("\"tls\"", "\"hsm\": { \"enabled\": false, \"pin\": \"${QTLS_TEST_UNSET}\" }, \"tls\"");
    let mut command = programs::command("qtls-server");
    run(command.arg("--test-config").arg("--config").arg(config.path()), b"").expect_success();
}

#[test]
fn the_variable_of_a_kubernetes_service_is_ignored_and_said_so() {
    let config = Config::new();
    let mut command = programs::command("qtls-server");
    command.env("QTLS_SERVER_PORT", "tcp://10.0.0.1:8443").arg("--test-config").arg("--config").arg(config.path());
    let finished = run(&mut command, b"").expect_success();
    assert!(finished.stderr.contains("enableServiceLinks"), "{}", finished.said());

    let mut command = programs::command("qtls-server");
    command.env("QTLS_SERVER_PORT", "eight").arg("--test-config").arg("--config").arg(config.path());
    expect_refusal(run(&mut command, b""), &["QTLS_SERVER_PORT", "eight"], config.port);
}

#[test]
fn the_environment_wins_over_the_file() {
    let config = Config::new();
    let port = free_port();
    let mut command = programs::command("qtls-server");
    command.env("QTLS_SERVER_PORT", port.to_string()).arg("--config").arg(config.path());
    let server = qtls_interop::Running::start(&mut command);
    server.stderr.wait_for_line(&format!("listening on 127.0.0.1:{port}"));
}

#[test]
fn metrics_on_the_port_of_the_server() {
    let config = Config::new();
    let port = config.port;
    let metrics = format!("\"enabled\": true, \"address\": \"127.0.0.1\", \"port\": {port}");
    config.with("\"enabled\": false", &metrics).is_refused(&["server.json:12:", "metrics.port"]);
}

#[test]
fn usage_errors_are_exit_code_2() {
    for (program, arguments) in [
        ("qtls-server", vec!["--no-such-option"]),
        ("qtls-client", vec![]),
        ("qtls-client", vec!["localhost:99999"]),
        ("qtls", vec!["quickstart", "--dir", "/dev/null/x", "--name", "x"]),
    ] {
        let finished = run(programs::command(program).args(&arguments), b"").expect_code(2);
        assert!(!finished.stderr.trim().is_empty() && finished.stdout.is_empty(), "{}", finished.said());
    }
}

#[test]
fn without_any_configuration_both_ways_are_told() {
    // In the container of an installation, `/etc/qtls` may be there; here it must not be.
    assert!(!Path::new("/etc/qtls").exists(), "this machine has /etc/qtls");
    let finished = run(&mut programs::command("qtls-server"), b"").expect_code(2);
    for word in ["/etc/qtls/config/server.json", "/etc/qtls/certs", "--config"] {
        assert!(finished.stderr.contains(word), "no {word:?} in: {}", finished.said());
    }
}

/// One of our programs without the capabilities that let root read every file and take every port.
fn unprivileged(name: &str) -> Command {
    if !rustix::process::geteuid().is_root() {
        return programs::command(name);
    }
    // A network of its own: containers often let everybody take every port.
    let mut command = Command::new("unshare");
    command.args(["--net", "setpriv", "--bounding-set", "-dac_override,-dac_read_search,-net_bind_service"]);
    command.arg(programs::directory().join(name));
    command
}

/// A `server.json` whose ticket keys come from `file`, which holds `content`.
fn with_ticket_keys(key: &str, content: Option<&str>) -> Config {
    let config = Config::new();
    let file = config.directory.path().join("ticket.keys");
    if let Some(content) = content {
        std::fs::write(&file, content).expect("the temporary directory is writable");
        std::fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("it is ours");
    }
    let ticket_keys = format!("\"hybrid_mode\": true, \"ticket_keys\": {{ \"{key}\": \"{}\" }}", text(&file));
    config.with("\"hybrid_mode\": true", &ticket_keys)
}

#[test]
fn ticket_keys_that_are_none() {
    let digits = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    for (content, line, words) in [
        (Some(format!("# ours\n{}\n", &digits[1..])), ":2: ", "has 63 hexadecimal digits, and a key has 64"),
        (Some(format!("{}x\n", &digits[1..])), ":1: ", "has a character that is no hexadecimal digit"),
        (Some(format!("{digits}\n\n{digits}\n")), ":3: ", "is the same key as in line 1"),
        (Some("# none yet\n".to_owned()), ": ", "holds no ticket key"),
        (None, ": ", "does not exist"),
    ] {
        let told = format!("ticket.keys{line}{words}");
        let config = with_ticket_keys("file", content.as_deref());
        config.is_refused(&["server.json:3:", ": tls.ticket_keys.file: ", &told]);
    }
    for (content, words) in [
        (Some("thirty-one bytes and a line end.".trim_end_matches('.')), "holds 31 bytes, and a secret"),
        (Some("0000000000000000000000000000000000000000"), "holds fewer than 8 different bytes"),
        (None, "does not exist"),
    ] {
        let config = with_ticket_keys("secret_file", content);
        config.is_refused(&["server.json:3:", ": tls.ticket_keys.secret_file: ", &format!("ticket.keys: {words}")]);
    }
    let right = with_ticket_keys("file", Some(digits));
    let mut command = programs::command("qtls-server");
    command.arg("--test-config").arg("--config").arg(right.path());
    let finished = run(&mut command, b"").expect_success();
    assert!(!finished.stderr.contains("every user of this machine"), "{}", finished.said());
    let file = right.directory.path().join("ticket.keys");
    std::fs::set_permissions(&file, Permissions::from_mode(0o644)).expect("it is ours");
    let finished = run(&mut command, b"").expect_success();
    let warning = format!("{}: every user of this machine may read this secret file (mode 0644)", text(&file));
    assert!(finished.stderr.contains(&warning), "{}", finished.said());
}
