//! TLS to the upstream: what is negotiated there and with whom, by the word of both sides, and every refusal by its name.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qtls_interop::authority::Authority;
use qtls_interop::client::{self, Client};
use qtls_interop::openssl::{self, text};
use qtls_interop::process::{Finished, run, run_within};
use qtls_interop::tls_nginx::TlsNginx;
use qtls_interop::upstreams::{Nginx, Redis, echo, marked_file};
use qtls_interop::{Algorithm, Negotiated, Pki, Server, log, peers, programs};
use rustix::process::Signal;
use serde_json::{Value, json};

const P384: &str = "ecdsa_secp384r1_sha384";
const HYBRID: &str = "X25519MLKEM768";
/// The same in the words of nginx, which asks OpenSSL for the number and has no name for it (RFC 10024).
const NGINX_HYBRID: &str = "0x11ec";
const PATIENCE: Duration = Duration::from_secs(240);

/// A server in front of `address` over TLS, with an access log that [`log`] reads.
fn start(protocol: &str, address: &str, tls: Value, more: Value) -> (Server, tempfile::TempDir) {
    let logs = tempfile::tempdir().expect("the temporary directory is writable");
    let mut upstream = json!({ "protocol": protocol, "servers": [address], "tls": tls });
    for (key, value) in more.as_object().into_iter().flatten() {
        upstream[key] = value.clone();
    }
    let logging = json!({ "access_file": access(logs.path()), "format": "json" });
    // One worker, whose connections to the upstream every request finds.
    let server = Server::start(json!({ "server": { "worker_threads": 1 }, "upstream": upstream, "logging": logging }));
    (server, logs)
}

fn access(directory: &Path) -> PathBuf {
    directory.join("access.log")
}

/// TLS with our own certificate, to those of the shared CA.
fn mutual() -> Value {
    let pki = Pki::shared();
    let (cert, key) = pki.client(Algorithm::EcdsaP384);
    json!({ "ca_bundle": pki.ca(), "client_cert": cert, "client_key": key })
}

fn trusting(ca: &Path) -> Value {
    json!({ "ca_bundle": ca })
}

/// nginx with one group only, which wants the client's certificate.
fn strict_nginx(group: &str, more: &str) -> TlsNginx {
    let pki = Pki::shared();
    let ca = pki.ca();
    let directives = format!(
        "ssl_ecdh_curve {group}; ssl_verify_client on; ssl_verify_depth 3; ssl_client_certificate {}; {more}",
        ca.display()
    );
    TlsNginx::start(pki.server(Algorithm::EcdsaP384), &directives, &[pki.directory()])
}

/// What nginx said of the connection, by name.
#[track_caller]
fn seen(finished: &Finished) -> impl Fn(&str) -> String + use<> {
    let facts = client::facts(finished);
    assert_eq!(facts["response"]["status"], 200, "{facts}");
    let body = client::body(&facts).to_owned();
    move |name: &str| {
        let line = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {name} in {body}")).to_owned()
    }
}

#[test]
fn nginx_on_openssl_agrees_on_the_hybrid_with_mutual_tls() {
    let nginx = strict_nginx(HYBRID, "");
    let (server, logs) = start("http", &nginx.address(), mutual(), json!({}));
    let said = seen(&Client::new(server.port).get("/").expect_success());
    assert_eq!(
        [said("curve"), said("protocol"), said("verify"), said("http"), said("sni")],
        [NGINX_HYBRID, "TLSv1.3", "SUCCESS", "HTTP/1.1", "localhost"]
    );
    assert!(!said("client").is_empty() && said("host") == server.address(), "{}", said("client"));
    let line = &log::connections(&access(logs.path()), 1)[0];
    assert_eq!(
        [&line["upstream_group"], &line["upstream_scheme"], &line["upstream_suite"], &line["upstream_pq"]],
        [&json!(HYBRID), &json!(P384), &json!("TLS_AES_256_GCM_SHA384"), &json!(true)],
        "{line}"
    );
    let labels = [("group", HYBRID), ("pq", "true"), ("scheme", P384), ("resumed", "false")];
    let metrics = server.metrics();
    assert_eq!(metrics.sum("qtls_upstream_handshakes_total", &labels), 1.0, "{}", metrics.text());
}

#[test]
fn the_version_of_http_is_chosen_by_alpn() {
    for (http2, version, expected) in [
        ("http2 on;", "2", "HTTP/2.0"),
        ("http2 on;", "auto", "HTTP/2.0"),
        ("", "auto", "HTTP/1.1"),
        ("http2 on;", "1.1", "HTTP/1.1"),
    ] {
        let nginx = strict_nginx(HYBRID, http2);
        let (server, _logs) = start("http", &nginx.address(), mutual(), json!({ "http_version": version }));
        for request in 1..=2 {
            let said = seen(&Client::new(server.port).get("/").expect_success());
            assert_eq!([said("curve"), said("http")], [NGINX_HYBRID, expected], "{version} with {http2:?}");
            assert_eq!((said("host"), said("requests")), (server.address(), request.to_string()), "one connection");
        }
    }
}

#[test]
fn a_server_without_h2_is_refused_where_nothing_else_is_to_be_spoken() {
    let nginx = strict_nginx(HYBRID, "");
    let (server, _logs) = start("http", &nginx.address(), mutual(), json!({ "http_version": "2" }));
    is_refused(&server, "no_common_alpn|alert_received", "h2|ALPN|NoApplicationProtocol");
}

#[test]
fn openssl_agrees_on_the_hybrid_of_p_384_and_ml_kem_1024() {
    let pki = Pki::shared();
    let peer = openssl::Server::start(
        pki.server(Algorithm::MlDsa65),
        &pki.ca(),
        &["-groups", "SecP384r1MLKEM1024", "-Verify", "3", "-verify_return_error"],
    );
    let mut tls = mutual();
    tls["algorithms"] = json!({ "kem": ["kyber1024", "ecdhe-p384"] });
    let (server, logs) = start("http", &format!("localhost:{}", peer.port), tls, json!({}));
    Client::new(server.port).get("/").expect_success();
    peer.expect_handshakes(&[Negotiated::new("SecP384r1MLKEM1024", "mldsa65")]);
    let line = &log::connections(&access(logs.path()), 1)[0];
    assert_eq!([&line["upstream_group"], &line["upstream_scheme"]], [&json!("SecP384r1MLKEM1024"), &json!("mldsa65")]);
}

#[test]
fn sessions_are_resumed() {
    // Without keep-alive, every request is a connection.
    let nginx = strict_nginx(HYBRID, "keepalive_timeout 0;");
    let (server, _logs) = start("http", &nginx.address(), mutual(), json!({}));
    let reused: Vec<_> = (0..3)
        .map(|_| {
            let said = seen(&Client::new(server.port).get("/").expect_success());
            assert_eq!([said("curve"), said("verify")], [NGINX_HYBRID, "SUCCESS"]);
            said("reused")
        })
        .collect();
    assert_eq!(reused[0], ".", "{reused:?}");
    let resumed = reused.iter().filter(|reused| *reused == "r").count();
    assert!(resumed >= 1, "{reused:?}\n{}", server.log());
    let metrics = server.metrics();
    assert_eq!(metrics.sum("qtls_upstream_handshakes_total", &[("resumed", "true")]), resumed as f64);
}

/// The one in front, over TLS to the one behind, which lets in only those with a certificate, and passes on to `address`.
fn two_of_ours(protocol: &str, address: &str) -> [(Server, tempfile::TempDir); 2] {
    let logs = tempfile::tempdir().expect("the temporary directory is writable");
    let behind = Server::start(json!({
        "certificates": { "verify_client": true, "ca_bundle": Pki::shared().ca() },
        "tls": { "pqc_only": true },
        "upstream": { "protocol": protocol, "servers": [address] },
        "logging": { "access_file": access(logs.path()), "format": "json" }
    }));
    let front = start(protocol, &behind.address(), mutual(), json!({}));
    [front, (behind, logs)]
}

/// Ends them in order, so that what they have to say of their connections is in their logs.
#[track_caller]
fn stop(servers: [Server; 2]) {
    for server in servers {
        server.process.signal(Signal::TERM);
        server.process.finish(PATIENCE).expect_success();
    }
}

/// Asserts that the two agree on what was negotiated between them, in their logs.
#[track_caller]
fn agree(front: &tempfile::TempDir, behind: &tempfile::TempDir) {
    let front = &log::connections(&access(front.path()), 1)[0];
    let behind = &log::connections(&access(behind.path()), 1)[0];
    for (name, expected) in [("group", HYBRID), ("scheme", P384), ("suite", "TLS_AES_256_GCM_SHA384")] {
        assert_eq!((&front[name], &behind[name]), (&json!(expected), &json!(expected)), "{front}\n{behind}");
        assert_eq!(front[format!("upstream_{name}")], expected, "{front}");
    }
    assert!(behind["identity"].is_string(), "{behind}");
}

#[test]
fn two_of_ours_make_a_post_quantum_link_for_any_protocol() {
    let input: String = (0..(64 << 20) / 16).map(|line| format!("{line:015}\n")).collect();
    let [(server, front), (behind, back)] = two_of_ours("tcp", &format!("127.0.0.1:{}", echo()));
    let mut command = programs::command("qtls-client");
    command.arg(server.address()).args(["--json", "--stdio", "--ca"]).arg(Pki::shared().ca());
    let finished = run_within(&mut command, input.as_bytes(), PATIENCE).expect_success();
    // The echo's last line comes behind the client's end: half-closed connections stay open over both legs.
    let expected = format!("{input}that was {} bytes\n", input.len());
    assert!(client::received(&finished) == expected, "{}", finished.stderr);
    // Each byte was counted on the second leg, too.
    let metrics = server.metrics();
    for (direction, count) in [("sent", input.len()), ("received", expected.len())] {
        for (pq, count) in [("true", count as f64), ("false", 0.0)] {
            let labels = [("direction", direction), ("pq", pq), ("upstream", &behind.address())];
            assert_eq!(metrics.sum("qtls_upstream_bytes_total", &labels), count, "{labels:?}\n{}", metrics.text());
        }
    }
    stop([server, behind]);
    agree(&front, &back);
}

#[test]
fn redis_is_reached_over_two_of_ours() {
    let redis = Redis::start();
    let [(server, front), (behind, back)] = two_of_ours("tcp", &redis.address());
    let pki = Pki::shared();
    let mut command = peers::debian("redis-cli", [pki.directory()]);
    let port = server.port.to_string();
    command.args(["-h", "localhost", "-p", &port, "--tls", "--sni", "localhost", "--cacert", text(&pki.ca())]);
    let value = "v".repeat(100_000);
    let commands = format!("SET key {value}\nSTRLEN key\nGET key\n");
    let finished = run(&mut command, commands.as_bytes()).expect_success();
    assert_eq!(finished.stdout, format!("OK\n100000\n{value}\n"), "{}", finished.stderr);
    stop([server, behind]);
    agree(&front, &back);
}

#[test]
fn two_of_ours_make_a_post_quantum_link_for_http() {
    let nginx = Nginx::start();
    let [(server, front), (behind, back)] = two_of_ours("http", &nginx.address());
    let sum = marked_file(&nginx.files().join("large"), 64 << 20);
    let pki = Pki::shared();
    let mut command = peers::debian("curl", [pki.directory(), &nginx.files()]);
    let file = nginx.files().join("large");
    command.args(["--silent", "--show-error", "--ipv4", "--noproxy", "*", "--http1.1", "--cacert", text(&pki.ca())]);
    let upload = format!("@{}", file.display());
    command.args(["--data-binary", &upload, &format!("https://localhost:{}/sink", server.port)]);
    command.args(["--next", "--silent", "--show-error", "--ipv4", "--noproxy", "*", "--http1.1"]);
    command.args(["--cacert", text(&pki.ca()), "--output", text(&nginx.files().join("back"))]);
    command.arg(format!("https://localhost:{}/files/large", server.port));
    let finished = run_within(&mut command, b"", PATIENCE).expect_success();
    assert_eq!(finished.stdout, format!("{sum} {}\n", 64 << 20), "{}", finished.said());
    let mut sha = std::process::Command::new("sha256sum");
    let back_sum = run(sha.arg(nginx.files().join("back")), b"").expect_success().stdout;
    assert!(back_sum.starts_with(&sum), "{back_sum}");
    stop([server, behind]);
    agree(&front, &back);
}

/// A request is answered 502, for one of `reasons` in the metrics, and the log has one of `words`; both separated by `|`.
#[track_caller]
fn is_refused(server: &Server, reasons: &str, words: &str) {
    let facts = client::facts(&Client::new(server.port).get("/"));
    assert_eq!(facts["response"]["status"], 502, "{facts}");
    let line = server.process.stderr.wait_for(Duration::from_secs(30), |line| {
        line.contains("upstream localhost:") && words.split('|').any(|word| line.contains(word))
    });
    assert!(line.is_some(), "no {words:?} in\n{}", server.log());
    let metrics = server.metrics();
    let counted: f64 =
        reasons.split('|').map(|reason| metrics.sum("qtls_upstream_errors_total", &[("reason", reason)])).sum();
    // Also where the refusal comes when the handshake is over, with the request on its way.
    let all = metrics.sum("qtls_upstream_errors_total", &[]);
    assert_eq!((counted, all), (1.0, 1.0), "{reasons} in\n{}", metrics.text());
}

#[test]
fn every_refusal_has_its_name() {
    let pki = Pki::shared();
    let nginx = strict_nginx(HYBRID, "");
    let address = nginx.address();
    let with = |changes: Value| {
        let mut tls = mutual();
        for (key, value) in changes.as_object().into_iter().flatten() {
            tls[key] = value.clone();
        }
        start("http", &address, tls, json!({})).0
    };
    let server = with(json!({ "server_name": "other.example" }));
    is_refused(
        &server,
        "certificate_wrong_name",
        "the peer's certificate is not valid for other.example; it is valid for localhost, 127.0.0.1",
    );
    let server = with(json!({ "ca_bundle": Pki::stranger().ca() }));
    is_refused(&server, "certificate_unknown_issuer", "leads to no trust anchor");
    let pin = "0".repeat(64);
    let server = with(json!({ "pins": [pin] }));
    is_refused(&server, "certificate_refused", "pin");
    let server = with(json!({ "verify_depth": 0 }));
    is_refused(&server, "certificate_refused", "intermediate");
    // nginx answers a missing certificate of the client with 400, in its own words; OpenSSL refuses the handshake.
    let peer = openssl::Server::start(
        pki.server(Algorithm::EcdsaP384),
        &pki.ca(),
        &["-groups", HYBRID, "-Verify", "3", "-verify_return_error"],
    );
    let (server, _logs) = start("http", &format!("localhost:{}", peer.port), trusting(&pki.ca()), json!({}));
    // OpenSSL closes with the request unread, and the reset of that may overtake its alert: then nobody can say more than
    // that the connection was closed.
    let counted = |reason| server.metrics().sum("qtls_upstream_errors_total", &[("reason", reason)]);
    for _ in 0..20 {
        let facts = client::facts(&Client::new(server.port).get("/"));
        assert!([502, 503].map(Value::from).contains(&facts["response"]["status"]), "{facts}");
        if counted("alert_received") > 0.0 {
            break;
        }
    }
    server.wait_for_log("there is no upstream.tls.client_cert");
    let all = server.metrics().sum("qtls_upstream_errors_total", &[]);
    assert_eq!((counted("alert_received"), counted("alert_received") + counted("closed")), (1.0, all));
}

/// The certificate is for a name, which a path is not.
#[test]
fn a_unix_socket_speaks_tls_as_a_port_does() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let socket = directory.path().join("app.sock");
    let pki = Pki::shared();
    let directives = format!(
        "listen unix:{} ssl; ssl_ecdh_curve {HYBRID}; ssl_verify_client on; ssl_verify_depth 3; ssl_client_certificate {};",
        socket.display(),
        pki.ca().display()
    );
    let server_pki = pki.server(Algorithm::EcdsaP384);
    let _nginx = TlsNginx::start(server_pki, &directives, &[pki.directory(), directory.path()]);
    let mut tls = mutual();
    tls["server_name"] = json!("localhost");
    let address = format!("unix:{}", socket.display());
    let (server, logs) = start("http", &address, tls.clone(), json!({}));
    let said = seen(&Client::new(server.port).get("/").expect_success());
    assert_eq!([said("curve"), said("verify"), said("sni")], [NGINX_HYBRID, "SUCCESS", "localhost"]);
    let line = &log::connections(&access(logs.path()), 1)[0];
    assert_eq!((&line["upstream"], &line["upstream_group"]), (&json!(address), &json!(HYBRID)), "{line}");
    // Another name is another server.
    tls["server_name"] = json!("other.example");
    let (server, _logs) = start("http", &address, tls, json!({}));
    assert_eq!(client::facts(&Client::new(server.port).get("/"))["response"]["status"], 502);
    server.wait_for_log("the peer's certificate is not valid for other.example");
}

#[test]
fn a_policy_without_classical_groups_refuses_a_classical_server() {
    let nginx = strict_nginx("X25519", "");
    let mut tls = mutual();
    tls["pqc_only"] = json!(true);
    let (server, _logs) = start("http", &nginx.address(), tls, json!({}));
    is_refused(&server, "alert_received", "it was offered the groups X25519MLKEM768");
    // As by default, it is let through and counted.
    let (server, _logs) = start("http", &nginx.address(), mutual(), json!({}));
    let said = seen(&Client::new(server.port).get("/").expect_success());
    assert_eq!(said("curve"), "X25519");
    let metrics = server.metrics();
    assert_eq!(metrics.sum("qtls_upstream_handshakes_total", &[("group", "x25519"), ("pq", "false")]), 1.0);
    // In HTTP mode: the request's head, and the response.
    for direction in ["sent", "received"] {
        let bytes = |pq| metrics.sum("qtls_upstream_bytes_total", &[("direction", direction), ("pq", pq)]);
        assert!(bytes("false") > 50.0 && bytes("true") == 0.0, "{direction}\n{}", metrics.text());
    }
}

#[test]
fn a_revoked_server_is_refused_by_its_name() {
    let authority = Authority::new();
    authority.qtls(&["ca", "issue", "server", "--dir", "ca", "--name", "localhost", "--as", "up"]);
    let pair = (authority.path("certs/up-cert.pem"), authority.path("certs/up-key.pem"));
    let nginx = TlsNginx::start(pair, "", &[]);
    let with_lists = || {
        let crl = json!({ "paths": [authority.lists()] });
        start("http", &nginx.address(), json!({ "ca_bundle": authority.bundle(), "crl": crl }), json!({})).0
    };
    authority.qtls(&["crl", "--dir", "ca"]);
    let said = seen(&Client::new(with_lists().port).get("/").expect_success());
    assert_eq!(said("protocol"), "TLSv1.3");
    authority.qtls(&["ca", "revoke", text(&authority.path("certs/up-cert.pem")), "--dir", "ca"]);
    let server = with_lists();
    is_refused(&server, "certificate_revoked", "the peer's certificate is revoked");
}

/// A root and a leaf for `localhost` with this validity, in `directory`.
fn issue(directory: &Path, name: &str, from: &str, to: &str) -> (PathBuf, PathBuf) {
    let at = |name: &str| directory.join(name);
    let openssl = |arguments: &[&str]| {
        let mut command = peers::debian("openssl", [directory]);
        run(command.args(arguments), b"").expect_success();
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"];
    if !at("root.pem").exists() {
        let root = ["-subj", "/CN=Test Root", "-keyout", text(&at("root.key")), "-out", text(&at("root.pem"))]
            .map(str::to_owned);
        let root: Vec<_> = root.iter().map(String::as_str).collect();
        openssl(&[&["req", "-x509"][..], &key, &root].concat());
    }
    let (cert, private) = (at(&format!("{name}.pem")), at(&format!("{name}.key")));
    let (root, root_key) = (at("root.pem"), at("root.key"));
    let leaf = [
        "-CA",
        text(&root),
        "-CAkey",
        text(&root_key),
        "-subj",
        "/CN=localhost",
        "-addext",
        "subjectAltName=DNS:localhost",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-not_before",
        from,
        "-not_after",
        to,
        "-keyout",
        text(&private),
        "-out",
        text(&cert),
    ];
    openssl(&[&["req", "-x509"][..], &key, &leaf].concat());
    (cert, private)
}

#[test]
fn an_expired_server_is_refused_by_its_name() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let pair = issue(directory.path(), "old", "20200101000000Z", "20210101000000Z");
    let nginx = TlsNginx::start(pair, "", &[]);
    let (server, _logs) = start("http", &nginx.address(), trusting(&directory.path().join("root.pem")), json!({}));
    is_refused(&server, "certificate_expired", "expired on 2021-01-01");
}

#[test]
fn in_tcp_mode_a_refusal_closes_the_connection() {
    let nginx = strict_nginx(HYBRID, "");
    let mut tls = mutual();
    tls["server_name"] = json!("other.example");
    let (server, _logs) = start("tcp", &nginx.address(), tls, json!({}));
    let finished = Client::new(server.port).send(b"GET / HTTP/1.0\r\n\r\n");
    assert_eq!(client::received(&finished), "", "{}", finished.said());
    server.wait_for_log("is not valid for other.example");
    assert!(server.metrics().sum("qtls_upstream_errors_total", &[("reason", "certificate_wrong_name")]) >= 1.0);
}

#[test]
fn only_a_name_that_says_danger_takes_any_certificate() {
    let nginx = strict_nginx(HYBRID, "");
    let mut tls = mutual();
    tls["server_name"] = json!("other.example");
    tls["dangerous_accept_any_certificate"] = json!(true);
    tls["ca_bundle"] = json!(null);
    let (server, _logs) = start("http", &nginx.address(), tls, json!({}));
    let said = seen(&Client::new(server.port).get("/").expect_success());
    assert_eq!([said("curve"), said("sni")], [NGINX_HYBRID, "other.example"]);
    server.wait_for_log("no server behind is verified");
}

#[test]
fn a_reload_takes_the_new_certificate_for_the_very_next_request() {
    let nginx = strict_nginx(HYBRID, "");
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let install = |(cert, key): (PathBuf, PathBuf)| {
        for (from, name) in [(cert, "cert.pem"), (key, "key.pem")] {
            let new = directory.path().join(format!("{name}.new"));
            fs::copy(from, &new).expect("it can be copied");
            fs::rename(new, directory.path().join(name)).expect("the directory is writable");
        }
    };
    install(Pki::shared().client(Algorithm::EcdsaP384));
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let tls = json!({ "ca_bundle": Pki::shared().ca(), "client_cert": cert, "client_key": key });
    let (server, _logs) = start("http", &nginx.address(), tls, json!({}));
    let get = || seen(&Client::new(server.port).get("/").expect_success())("serial");
    let first = get();
    assert_eq!(get(), first);
    // Nobody is told: the files are watched.
    server.applies(|| install(Pki::shared().client(Algorithm::MlDsa65)));
    assert_ne!(get(), first, "a connection that was made with the old certificate was used");
    // Half of a pair is refused, and the old state stays.
    let key = Pki::shared().client(Algorithm::Rsa4096).1;
    fs::copy(key, directory.path().join("key.pem")).expect("it can be copied");
    let line = server.wait_for_log("the old state stays in force");
    assert!(line.contains("upstream.tls.client_key") || line.contains("upstream.tls.client_cert"), "{line}");
    get();
}

#[test]
fn the_test_of_a_configuration_finds_what_is_wrong() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (old_cert, old_key) = issue(directory.path(), "old", "20200101000000Z", "20210101000000Z");
    let pki = Pki::shared();
    let ((cert, key), (_, other_key)) = (pki.client(Algorithm::EcdsaP384), pki.client(Algorithm::Rsa4096));
    let (server_cert, server_key) = pki.server(Algorithm::EcdsaP384);
    let test = |tls: Value, more: Value| {
        let mut upstream = json!({ "protocol": "http", "servers": ["localhost:1"], "tls": tls });
        for (name, value) in more.as_object().into_iter().flatten() {
            upstream[name] = value.clone();
        }
        let config = json!({
            "certificates": { "server_cert": server_cert, "server_key": server_key },
            "upstream": upstream
        });
        let file = directory.path().join("server.json");
        fs::write(&file, serde_json::to_vec_pretty(&config).expect("JSON")).expect("the directory is writable");
        run(programs::command("qtls-server").arg("--test-config").arg("--config").arg(file), b"")
    };
    let good = json!({ "ca_bundle": pki.ca(), "client_cert": cert, "client_key": key });
    test(good.clone(), json!({})).expect_success();
    for (changes, more, words) in [
        (json!({ "ca_bundle": "/nowhere/ca.pem" }), json!({}), "/nowhere/ca.pem"),
        (json!({ "client_key": other_key }), json!({}), "does not belong to this certificate"),
        (json!({ "client_key": null }), json!({}), "a certificate without its key"),
        (json!({ "client_cert": old_cert, "client_key": old_key }), json!({}), "servers refuse it"),
        (json!({ "algorithms": { "kem": ["kyber4096"] } }), json!({}), "upstream.tls.algorithms.kem"),
        (json!({ "algorithms": { "signature": ["ml-dsa-65"] } }), json!({}), "upstream.tls.client_cert"),
        (json!({ "pins": ["x"] }), json!({}), "upstream.tls.pins[0]"),
        (json!({ "verify_peer": false }), json!({}), "verify_peer"),
        (json!({}), json!({ "protocol": "tcp", "http_version": "2" }), "upstream.http_version"),
    ] {
        let mut tls = good.clone();
        for (name, value) in changes.as_object().into_iter().flatten() {
            tls[name] = value.clone();
        }
        let finished = test(tls, more);
        assert!(!finished.status.success(), "{words}: {}", finished.said());
        assert!(finished.stderr.contains(words), "no {words:?} in {}", finished.said());
    }
}
