//! Health checks against nginx and a server that says it is unwell: who fails them gets nothing, each change is said once,
//! and one that flaps stays out.

use std::process::Command;
use std::time::{Duration, Instant};

use qtls_interop::backends::{Backend, Nginx};
use qtls_interop::metrics::Metrics;
use qtls_interop::openssl::text;
use qtls_interop::process::{PATIENCE, run};
use qtls_interop::server::free_port;
use qtls_interop::{Algorithm, Pki, Server, curl, peers};
use serde_json::{Value, json};

fn start(servers: &[String], health: Value) -> Server {
    Server::start(json!({ "upstream": { "protocol": "http", "servers": servers, "health": health } }))
}

fn command(server: &Server, arguments: &[&str]) -> Command {
    let ca = Pki::shared().ca();
    let mut command = peers::debian("curl", ca.parent());
    curl::towards(&mut command, &ca).args(arguments).arg(format!("https://localhost:{}/", server.port));
    command
}

fn ask(server: &Server) -> String {
    run(&mut command(server, &["--write-out", "%{http_code}"]), b"").expect_success().stdout
}

fn up(metrics: &Metrics, server: &str) -> f64 {
    metrics.sum("qtls_upstream_up", &[("upstream", server)])
}

fn count(server: &Server, line: &str) -> usize {
    server.log().lines().filter(|said| said.contains(line)).count()
}

#[test]
fn who_says_it_is_unwell_gets_nothing_until_it_is_well() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let health = json!({ "type": "http", "path": "/healthz", "status": 200, "interval": 1, "rise": 2, "fall": 2 });
    let server = start(&[a.text(), b.text()], health);
    server.metrics_when("checks", |metrics| metrics.sum("qtls_upstream_checks_total", &[("result", "passed")]) >= 2.0);
    a.answer_checks_with(503);
    let down = format!("upstream {} is down: 2 checks in a row failed: GET /healthz got 503, and not 200", a.address);
    server.wait_for_warning(&down);
    // The log says so a moment before it is so.
    let becomes = |backend: &Backend, state: f64| {
        server.metrics_when("the state", |metrics| up(metrics, &backend.text()) == state);
    };
    becomes(&a, 0.0);
    let before = a.requests();
    for _ in 0..10 {
        assert_eq!(ask(&server), "b\n200");
    }
    assert_eq!(a.requests(), before, "it takes connections, and gets none");
    let metrics = server.metrics();
    assert_eq!((up(&metrics, &a.text()), up(&metrics, &b.text())), (0.0, 1.0));
    assert_eq!(metrics.sum("qtls_upstream_out_total", &[("upstream", &a.text()), ("cause", "checks")]), 1.0);
    // Nobody is left.
    b.answer_checks_with(500);
    server.wait_for_warning(&format!("upstream {} is down", b.address));
    becomes(&b, 0.0);
    assert_eq!(ask(&server), "503 Service Unavailable: no server behind this one is up\n503");
    // When two checks can have passed.
    let answered =
        |arguments: &[&str]| run(&mut command(&server, arguments), b"").expect_success().stdout.to_lowercase();
    let text = answered(&["--include"]);
    assert!(text.contains("\nretry-after: 2\r\n"), "{text}");
    let json = answered(&["--include", "--header", "Accept: application/json"]);
    assert!(json.contains("\nretry-after: 2\r\n") && json.contains("content-type: application/json"), "{json}");
    assert!(
        json.contains(r#""message":"no server behind this one is up""#) && json.contains(r#""status":503"#),
        "{json}"
    );
    a.answer_checks_with(200);
    server.wait_for_log(&format!("upstream {} is up: 2 checks in a row passed", a.address));
    becomes(&a, 1.0);
    assert_eq!(ask(&server), "a\n200");
    assert_eq!(count(&server, &down), 1, "{}", server.log());
    // A check is no request.
    assert!(a.checks() >= 5 && server.metrics().sum("qtls_upstream_requests_total", &[("upstream", &a.text())]) <= 2.0);
}

#[test]
fn one_that_flaps_is_kept_out_longer_each_time() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let health = json!({ "type": "http", "path": "/healthz", "interval": 1, "rise": 1, "fall": 1 });
    let server = start(&[a.text(), b.text()], health);
    let name = a.text();
    let back = format!("upstream {name} is up: ");
    // For how many seconds it was down, by the server's clock: until a test sees it, time passes.
    let flap = |times: usize| -> u64 {
        a.answer_checks_with(503);
        server.metrics_when("it is down", |metrics| up(metrics, &name) == 0.0);
        a.answer_checks_with(200);
        server.metrics_when("it is up", |metrics| up(metrics, &name) == 1.0);
        let said = |log: &str| -> Option<u64> {
            let line = log.lines().filter(|line| line.contains(&back)).nth(times - 1)?;
            line.split_once(" in a row passed, after ")?.1.strip_suffix(" s")?.parse().ok()
        };
        assert!(server.process.stderr.becomes(PATIENCE, |log| said(log).is_some()), "{}", server.log());
        assert_eq!(count(&server, &format!("upstream {name} is down")), times, "{}", server.log());
        said(&server.log()).expect("it was there")
    };
    flap(1);
    let (second, third) = (flap(2), flap(3));
    assert!(second >= 2 && third >= 4, "{second} s, {third} s\n{}", server.log());
    server.wait_for_log("it flaps: down for the 3rd time, it stays down for 4 s at least");
    a.answer_checks_with(503);
    server.metrics_when("it is kept out", |metrics| {
        metrics.sum("qtls_upstream_held_seconds", &[("upstream", &name)]) > 4.0
    });
    assert_eq!(server.metrics().sum("qtls_upstream_held_seconds", &[("upstream", &b.text())]), 0.0);
}

#[test]
fn nginx_passes_checks_of_each_type_and_fails_what_it_does_not_speak() {
    let pki = Pki::shared();
    let (cert, key) = pki.server(Algorithm::EcdsaP384);
    let (plain, tls, nobody) = (free_port(), free_port(), free_port());
    let http = format!(
        "server {{ listen 127.0.0.1:{plain}; location / {{ if ($http_host != app.test) {{ return 404; }} return 204; }} }}\n\
         server {{ listen 127.0.0.1:{tls} ssl; ssl_protocols TLSv1.3; ssl_ecdh_curve X25519MLKEM768; ssl_certificate {}; \
         ssl_certificate_key {}; location / {{ return 200; }} }}",
        text(&cert),
        text(&key)
    );
    let _nginx = Nginx::with(&http, &[pki.directory()]);
    let servers = [plain, tls, nobody].map(|port| format!("127.0.0.1:{port}"));
    for (health, expected) in [
        (json!({ "type": "tcp" }), [1.0, 1.0, 0.0]),
        (json!({ "type": "http", "host": "app.test", "status": [200, "204-205"] }), [1.0, 0.0, 0.0]),
        (json!({ "type": "http", "host": "other.test" }), [0.0, 0.0, 0.0]),
        (json!({ "type": "tls" }), [0.0, 1.0, 0.0]),
    ] {
        let server = start(&servers, health.clone());
        let metrics = server.metrics_when("a check of each", |metrics| {
            servers.iter().all(|name| metrics.sum("qtls_upstream_checks_total", &[("upstream", name)]) >= 1.0)
        });
        let states: Vec<_> = servers.iter().map(|name| up(&metrics, name)).collect();
        assert_eq!(states, expected, "{health}\n{}", server.log());
    }
}

/// Checks are made as work is: nginx wants a PROXY header, and within TLS a certificate.
#[test]
fn checks_come_with_the_header_and_the_tls_that_the_server_wants() {
    let pki = Pki::shared();
    let ((cert, key), (own, own_key)) = (pki.server(Algorithm::EcdsaP384), pki.client(Algorithm::EcdsaP384));
    let port = free_port();
    let http = format!(
        "server {{ listen 127.0.0.1:{port} ssl proxy_protocol; ssl_protocols TLSv1.3; ssl_ecdh_curve X25519MLKEM768; \
         ssl_certificate {}; ssl_certificate_key {}; ssl_verify_client on; ssl_verify_depth 3; \
         ssl_client_certificate {}; location / {{ return 204; }} }}",
        text(&cert),
        text(&key),
        text(&pki.ca())
    );
    let _nginx = Nginx::with(&http, &[pki.directory()]);
    let name = format!("localhost:{port}");
    let mutual = json!({ "ca_bundle": pki.ca(), "client_cert": own, "client_key": own_key });
    let nobody = json!({ "ca_bundle": pki.ca() });
    let http = json!({ "type": "http", "status": 204 });
    for (tls, header, health, expected) in [
        (&mutual, json!("v2"), &http, 1.0),
        (&mutual, json!("v1"), &http, 1.0),
        (&mutual, json!("v2"), &json!({ "type": "tls" }), 1.0),
        (&mutual, json!(null), &http, 0.0),
        (&nobody, json!("v2"), &http, 0.0),
        (&json!({ "ca_bundle": pki.ca(), "server_name": "other.test" }), json!("v2"), &json!({ "type": "tls" }), 0.0),
    ] {
        let said = format!("{tls} {header} {health}");
        let server = Server::start(json!({ "upstream": {
            "protocol": "tcp", "servers": [name], "tls": tls, "proxy_protocol": header, "health": health
        } }));
        let metrics = server.metrics_when("a check", |metrics| {
            metrics.sum("qtls_upstream_checks_total", &[("upstream", &name)]) >= 1.0
        });
        assert_eq!(up(&metrics, &name), expected, "{said}\n{}", server.log());
        // None of them is work.
        assert_eq!(metrics.sum("qtls_upstream_handshakes_total", &[]), 0.0, "{}", metrics.text());
    }
}

/// The checks of an upstream that a reload leaves alone go on, and those of one that it takes away end.
#[test]
fn what_is_known_of_a_server_survives_a_reload_and_checks_end_with_their_upstream() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let health = json!({ "type": "http", "path": "/healthz", "interval": 1, "fall": 1 });
    let server = start(&[a.text(), b.text()], health);
    a.answer_checks_with(503);
    server.wait_for_warning(&format!("upstream {} is down", a.address));
    server.applies(|| {
        server.rewrite_config(json!({ "limits": { "idle_timeout": 77 } }));
        server.hang_up();
    });
    assert_eq!(up(&server.metrics(), &a.text()), 0.0);
    assert_eq!(ask(&server), "b\n200");
    assert_eq!(count(&server, &format!("upstream {} is down", a.address)), 1, "{}", server.log());
    server.applies(|| {
        server.rewrite_config(json!({ "upstream": { "servers": [b.text()], "health": null } }));
        server.hang_up();
    });
    // For three intervals, none comes any more: one may have been under way, or a worker may have the old state yet.
    let deadline = Instant::now() + PATIENCE;
    let (mut checks, mut since) = (a.checks(), Instant::now());
    while since.elapsed() < Duration::from_secs(3) {
        assert_eq!(ask(&server), "b\n200");
        if a.checks() != checks {
            (checks, since) = (a.checks(), Instant::now());
        }
        assert!(Instant::now() < deadline, "it is still checked: {checks}");
    }
}
