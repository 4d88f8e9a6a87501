//! Each connection is one line of the access log: what was negotiated, with whom, how long, and why it ended; or why
//! there was no handshake, and what the client had offered.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use qtls_interop::authority::Authority;
use qtls_interop::log::{self, refusals};
use qtls_interop::openssl::{Client, text};
use qtls_interop::process::{PATIENCE, run};
use qtls_interop::server::merge;
use qtls_interop::upstreams::{Nginx, echo};
use qtls_interop::{Server, client, peers, wire};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server whose lines about connections are JSON in a file of their own.
struct Logged {
    server: Server,
    access: PathBuf,
    _directory: TempDir,
}

impl Logged {
    fn start(changes: Value) -> Self {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let access = directory.path().join("access.log");
        let mut config = json!({ "logging": { "format": "json", "access_file": access } });
        merge(&mut config, changes);
        Self { server: Server::start(config), access, _directory: directory }
    }

    /// The line of the one connection that there was.
    #[track_caller]
    fn one(&self) -> Value {
        log::connections(&self.access, 1).remove(0)
    }
}

/// Asserts that `line` has exactly these members beside those that differ each time, which have to be plausible.
#[track_caller]
fn assert_line(line: &Value, expected: Value) {
    let mut rest = line.as_object().expect("an object").clone();
    let mut take = |key: &str| rest.remove(key).unwrap_or_else(|| panic!("no {key} in {line}"));
    let timestamp = take("timestamp");
    let timestamp = timestamp.as_str().expect("a string");
    assert!(timestamp.len() == "2026-11-22T10:00:00.123Z".len() && timestamp.ends_with('Z'), "{timestamp}");
    let client = take("client");
    client.as_str().and_then(|client| client.strip_prefix("127.0.0.1:")?.parse::<u16>().ok()).expect("an address");
    let duration = take("duration_ms").as_f64().expect("a number");
    if expected["event"] == "connection" {
        let handshake = take("handshake_ms").as_f64().expect("a number");
        assert!(handshake > 0.0 && handshake <= duration && duration < 60_000.0, "{handshake} {duration}");
    }
    let schemes = take("offered_schemes");
    let schemes: Vec<_> = schemes.as_str().expect("a list").split(',').collect();
    assert!(schemes.contains(&"ecdsa_secp256r1_sha256"), "{schemes:?}");
    let suites = take("offered_suites");
    if expected["event"] == "connection" {
        assert!(suites.as_str().is_some_and(|suites| suites.contains("TLS_AES_256_GCM_SHA384")), "{suites}");
    } else {
        // What TLS 1.2 has means nothing here.
        assert_eq!(suites, "");
    }
    assert_eq!(Value::Object(rest), expected);
}

#[test]
fn the_line_of_a_visitor_of_the_page_says_what_was_negotiated() {
    let logged = Logged::start(json!({}));
    let exchange = Client::new(logged.server.port)
        .groups("*X25519MLKEM768:X25519:P-256")
        .arguments(&["-alpn", "http/1.1", "-sigalgs", "ECDSA+SHA384:ECDSA+SHA256:mldsa65"])
        .get("/status.json");
    let status = exchange.json();
    let line = logged.one();
    // `-ign_eof`: what came in is what `get` sends.
    let request = "GET /status.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_line(
        &line,
        json!({
            "level": "info", "message": "connection ended", "event": "connection",
            "server_name": "localhost", "alpn": "http/1.1",
            "group": "X25519MLKEM768", "pq": true, "scheme": "ecdsa_secp384r1_sha384",
            "suite": "TLS_AES_256_GCM_SHA384", "certificate": "server-cert-ecdsa-p384",
            "certificate_reason": status["certificate_reason"], "resumed": false, "hrr": false,
            "requests": 1, "received": request.len(), "sent": exchange.finished.stdout.len(), "reason": "closed",
            "offered_groups": "X25519MLKEM768,x25519,secp256r1",
        }),
    );
    assert_eq!(line["offered_schemes"], "ecdsa_secp384r1_sha384,ecdsa_secp256r1_sha256,mldsa65");
    assert!(!logged.server.log().contains("connection ended"), "it is in its file:\n{}", logged.server.log());
}

#[test]
fn a_relayed_connection_says_where_it_went_and_how_much_went_through() {
    let port = echo();
    let logged = Logged::start(json!({ "upstream": { "protocol": "tcp", "servers": [format!("127.0.0.1:{port}")] } }));
    let algorithms = json!({ "kem": ["ecdhe-p384", "ecdhe-p256"] });
    let config = json!({ "tls": { "hybrid_mode": false }, "algorithms": algorithms });
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let finished = client::Client::new(logged.server.port).config(directory.path(), &config).send(b"hello\n");
    assert_eq!(client::received(&finished), "hello\nthat was 6 bytes\n", "{}", finished.said());
    assert_line(
        &logged.one(),
        json!({
            "level": "info", "message": "connection ended", "event": "connection", "server_name": "localhost",
            "group": "secp384r1", "pq": false, "scheme": "ecdsa_secp384r1_sha384", "suite": "TLS_AES_256_GCM_SHA384",
            "certificate": "server-cert-ecdsa-p384", "certificate_reason": "ecdsa-p384: offered",
            "resumed": false, "hrr": false, "upstream": format!("127.0.0.1:{port}"),
            "received": 6, "sent": 23, "reason": "clean", "offered_groups": "secp384r1,secp256r1",
        }),
    );
}

#[test]
fn a_proxied_connection_says_which_server_was_asked_and_how_often() {
    let nginx = Nginx::start();
    let logged = Logged::start(json!({ "upstream": { "protocol": "http", "servers": [nginx.address()] } }));
    let one = "GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let last = "GET /b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let exchange = Client::new(logged.server.port).send(format!("{one}{last}").as_bytes());
    assert_eq!(exchange.finished.stdout.matches("HTTP/1.1 200").count(), 2, "{}", exchange.finished.said());
    let line = logged.one();
    assert_eq!((&line["requests"], &line["upstream"]), (&json!(2), &json!(nginx.address())), "{line}");
    assert_eq!(line["received"], json!(one.len() + last.len()), "{line}");
}

#[test]
fn an_upstream_that_is_down_is_the_reason() {
    let port = qtls_interop::server::free_port();
    let logged = Logged::start(json!({ "upstream": { "protocol": "tcp", "servers": [format!("127.0.0.1:{port}")] } }));
    Client::new(logged.server.port).send(b"hello\n");
    let line = logged.one();
    assert_eq!((&line["reason"], &line["upstream"]), (&json!("upstream_unreachable"), &Value::Null), "{line}");
}

#[test]
fn a_retry_and_a_resumption_are_told() {
    let logged = Logged::start(json!({}));
    let first = Client::new(logged.server.port).groups("*X25519:X25519MLKEM768").saving_session();
    first.get("/");
    let line = logged.one();
    assert_eq!(
        (&line["hrr"], &line["resumed"], &line["group"]),
        (&json!(true), &json!(false), &json!("X25519MLKEM768"))
    );
    Client::new(logged.server.port).resuming(&first).get("/");
    let line = log::connections(&logged.access, 2).remove(1);
    assert_eq!((&line["hrr"], &line["resumed"]), (&json!(false), &json!(true)), "{line}");
    // There is no CertificateVerify in a resumption, and so no certificate was chosen.
    assert_eq!(
        (&line["scheme"], &line["certificate"], &line["certificate_reason"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
}

#[test]
fn a_verified_client_is_named_and_a_refused_one_is_one_line() {
    let authority = Authority::new();
    let certificates =
        json!({ "verify_client": true, "ca_bundle": authority.bundle(), "allow": [{ "san_dns": "good.example" }] });
    let logged = Logged::start(json!({ "certificates": certificates, "logging": { "access_file": null } }));
    // In the log itself: there, a refusal is a warning, and no second line.
    let path = authority.directory().join("log");
    authority.client(logged.server.port, "good").get("/");
    // Another worker may be quicker with the next one.
    logged.server.wait_for_log("\"event\":\"connection\"");
    authority.client(logged.server.port, "bad").get("/");
    logged.server.wait_for_log("\"event\":\"handshake_failed\"");
    fs::write(&path, json_of(&logged.server.log())).expect("it is writable");
    let lines = log::connections(&path, 2);
    assert_eq!(lines[0]["identity"], "CN=good.example", "{}", lines[0]);
    let refused = &lines[1];
    assert_eq!((&refused["reason"], &refused["level"]), (&json!("access_denied"), &json!("warn")), "{refused}");
    let message = refused["message"].as_str().expect("a message");
    assert!(message.starts_with("handshake refused: ") && message.contains("bad.example"), "{message}");
    for line in &lines {
        let client = line["client"].as_str().expect("an address");
        assert_eq!(logged.server.log().matches(client).count(), 1, "{}", logged.server.log());
    }
}

#[test]
fn a_refused_client_is_told_with_what_it_offered() {
    let logged = Logged::start(json!({}));
    refusals(logged.server.port, 1);
    assert_line(
        &logged.one(),
        json!({
            "level": "warn", "message": "handshake refused: the peer doesn't speak TLS 1.3",
            "event": "handshake_failed", "reason": "no_common_version", "server_name": "a.example",
            // GREASE is dropped, and what has no name is a number.
            "offered_groups": "secp256r1,0x4242",
        }),
    );
    let line = &logged.one()["offered_schemes"];
    assert_eq!(line, "ecdsa_secp256r1_sha256,rsa_pss_rsae_sha256,0x0808");
    // The log itself has the warning as well.
    let warning = logged.server.wait_for_log("handshake refused: ");
    assert!(warning.contains("\"reason\":\"no_common_version\"") && !warning.contains("offered"), "{warning}");
}

#[test]
fn what_sends_nothing_leaves_no_line_and_what_breaks_off_does() {
    // Long enough for those who are to be in time, also on a busy machine.
    let logged = Logged::start(json!({ "limits": { "handshake_timeout": 5 } }));
    drop(wire::connect(logged.server.port));
    logged.server.metrics_when("the probe", |metrics| metrics.sum("qtls_silent_connections_total", &[]) == 1.0);
    wire::connect(logged.server.port).write_all(b"\x16\x03\x01").expect("it is open");
    let mut slow = wire::connect(logged.server.port);
    slow.write_all(b"\x16\x03\x01").expect("it is open");
    let mut reasons: Vec<_> = log::connections(&logged.access, 2).iter().map(|line| line["reason"].clone()).collect();
    reasons.sort_by_key(ToString::to_string);
    assert_eq!(reasons, ["closed", "timeout"]);
    wire::exchange(logged.server.port, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(log::connections(&logged.access, 3)[2]["reason"], "plain_http");
}

#[test]
fn it_can_be_off_and_then_only_failures_are_logged() {
    let logged = Logged::start(json!({ "logging": { "access": false } }));
    Client::new(logged.server.port).get("/");
    refusals(logged.server.port, 1);
    logged.server.wait_for_log("handshake refused");
    assert!(!logged.access.exists(), "nobody writes it");
    assert!(!logged.server.log().contains("\"event\":"), "{}", logged.server.log());
}

#[test]
fn in_text_it_is_one_line_of_the_log_and_level_warn_keeps_the_good_ones_out() {
    let server = Server::start(json!({}));
    Client::new(server.port).get("/");
    let line = server.wait_for_log("event=connection");
    let start = line.split_once(" INFO  ").expect("its level").1;
    assert!(start.starts_with("connection ended event=connection client=127.0.0.1:"), "{line}");
    for field in [" group=X25519MLKEM768 pq=true ", " hrr=false ", " requests=1 ", " reason=closed "] {
        assert!(line.contains(field), "{field}: {line}");
    }

    let logged = Logged::start(json!({ "logging": { "access_file": null } }));
    logged.server.rewrite_config(json!({ "logging": { "level": "warn" } }));
    logged.server.applies(|| logged.server.hang_up());
    Client::new(logged.server.port).get("/");
    refusals(logged.server.port, 1);
    let refused = logged.server.wait_for_log("\"event\":\"handshake_failed\"");
    assert!(refused.contains("\"level\":\"warn\""), "{refused}");
    assert!(!logged.server.log().contains("\"event\":\"connection\""), "{}", logged.server.log());
}

#[test]
fn many_refusals_are_a_few_warnings_and_a_number_and_each_a_line_all_the_same() {
    const REFUSALS: usize = 40;
    let logged = Logged::start(json!({ "logging": { "access_file": null } }));
    refusals(logged.server.port, REFUSALS);
    // A refusal is counted before its line is written or suppressed.
    let metrics = logged.server.metrics_when("every refusal, and the end of each", |metrics| {
        metrics.sum("qtls_handshake_failures_total", &[("reason", "no_common_version")]) == REFUSALS as f64
            && metrics.sum("qtls_connections_active", &[]) == 0.0
    });
    logged.server.process.signal(Signal::TERM);
    let stderr = logged.server.process.finish(PATIENCE).expect_success().stderr;
    let lines: Vec<Value> = stderr.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let refused: Vec<_> = lines.iter().filter(|line| line["event"] == "handshake_failed").collect();
    assert_eq!(refused.len(), REFUSALS);
    let warnings = refused.iter().filter(|line| line["level"] == "warn").count();
    let summaries: Vec<_> = lines.iter().filter(|line| line["suppressed"].is_u64()).collect();
    let suppressed: u64 = summaries.iter().filter_map(|line| line["suppressed"].as_u64()).sum();
    // One window, unless this machine is very slow.
    assert!((10..REFUSALS).contains(&warnings), "{warnings} warnings");
    assert_eq!(warnings as u64 + suppressed, REFUSALS as u64, "{summaries:?}");
    assert_eq!(metrics.sum("qtls_log_lines_suppressed_total", &[]), suppressed as f64);
    let last = summaries.last().expect("a summary");
    assert_eq!((&last["level"], &last["about"]), (&json!("warn"), &json!("no_common_version")));
    let expected = format!("handshake refused: {} more of the same", last["suppressed"]);
    assert_eq!(last["message"], json!(expected));
}

#[test]
fn a_certificate_can_forge_neither_a_line_nor_a_field() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let forged = "x\"},\n{\"event\":\"connection\"}\nERROR forged event=connection";
    let (ca, cert, key) = named(directory.path(), forged);
    for format in ["json", "text"] {
        let certificates = json!({ "verify_client": true, "ca_bundle": ca });
        let server = Server::start(json!({ "certificates": certificates, "logging": { "format": format } }));
        Client::new(server.port).certificate((cert.clone(), key.clone())).get("/");
        let line = server.wait_for_log("connection ended");
        let log = server.log();
        let lines: Vec<_> = log.lines().filter(|line| line.contains("forged")).collect();
        assert_eq!(lines, [line.as_str()], "{log}");
        if format == "json" {
            let line: Value = serde_json::from_str(&line).expect("JSON");
            let identity = line["identity"].as_str().expect("an identity");
            // As RFC 4514 writes it.
            assert!(identity.starts_with("CN=x\\\"") && identity.contains("forged"), "{identity}");
            assert_eq!(line["event"], "connection");
        }
    }
}

/// The lines of JSON in a log.
fn json_of(log: &str) -> String {
    log.lines().filter(|line| line.starts_with('{')).map(|line| format!("{line}\n")).collect()
}

/// A client certificate with this common name, made by OpenSSL, which asks no questions: its CA, itself, and its key.
fn named(directory: &Path, name: &str) -> (PathBuf, PathBuf, PathBuf) {
    let path = |name: &str| directory.join(name);
    let openssl = |arguments: &[&str]| {
        let mut command: Command = peers::classical_openssl();
        run(command.current_dir(directory).args(arguments), b"").expect_success();
    };
    let new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-utf8"];
    let escaped = name.replace('\\', "\\\\").replace('/', "\\/");
    let subject = format!("/CN={escaped}");
    openssl(
        &[&["req", "-x509", "-subj", "/CN=ca", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem"], &new_key[..]]
            .concat(),
    );
    openssl(&[&["req", "-subj", &subject, "-keyout", "key.pem", "-out", "csr.pem"], &new_key[..]].concat());
    fs::write(path("ext"), "basicConstraints=CA:FALSE\nextendedKeyUsage=clientAuth\n").expect("it is writable");
    openssl(&[
        "x509",
        "-req",
        "-in",
        "csr.pem",
        "-CA",
        "ca.pem",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-days",
        "2",
        "-extfile",
        "ext",
        "-out",
        text(&path("cert.pem")),
    ]);
    (path("ca.pem"), path("cert.pem"), path("key.pem"))
}
