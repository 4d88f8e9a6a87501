//! qtls-bench measures what it says: each figure is compared with what the server counted, and what is no measurement is
//! refused.

use std::process::Command;

use qtls_interop::metrics::Metrics;
use qtls_interop::pki::Algorithm;
use qtls_interop::process::{Finished, PATIENCE, Running, run, run_within};
use qtls_interop::server::free_port;
use qtls_interop::{Pki, Server, programs};
use serde_json::{Value, json};

const X: (&str, &str) = ("x25519mlkem768", "X25519MLKEM768");
const P: (&str, &str) = ("secp384r1mlkem1024", "SecP384r1MLKEM1024");

/// What `qtls-bench backend` serves, and the port of it.
fn backend() -> (Running, u16) {
    let backend = Running::start(programs::command("qtls-bench").arg("backend"));
    let line = backend.stdout.wait_for_line("127.0.0.1:");
    let port = line.trim().rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    (backend, port)
}

fn command(arguments: &[&str], server: &Server) -> Command {
    let mut command = programs::command("qtls-bench");
    command.args(arguments).arg(format!("localhost:{}", server.port)).arg("--ca").arg(Pki::shared().ca()).arg("--json");
    command
}

fn bench(arguments: &[&str], server: &Server) -> Finished {
    let mut command = command(arguments, server);
    // Hundreds of megabytes take their time where nothing is optimised and the machine is busy.
    run_within(command.args(["--pid", &server.process.id().to_string()]), b"", 4 * PATIENCE)
}

/// The metrics when everything is counted: for the client, a handshake is complete before it is for the server.
#[track_caller]
fn settled(server: &Server) -> Metrics {
    server.metrics_when("that nothing is open", |metrics| metrics.sum("qtls_connections_active", &[]) == 0.0)
}

fn figures(arguments: &[&str], server: &Server) -> Value {
    let finished = bench(arguments, server).expect_success();
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.said()))
}

/// That there is a number above 0.
#[track_caller]
fn assert_measured(report: &Value, names: &[&str]) {
    for name in names {
        assert!(report[name].as_f64().is_some_and(|figure| figure > 0.0), "{name}: {report}");
    }
}

#[test]
fn handshakes_are_as_many_as_it_says_and_with_what_it_says() {
    for (algorithm, key) in [(Algorithm::EcdsaP384, "ecdsa-p384"), (Algorithm::MlDsa65, "ml-dsa-65")] {
        let server = Server::with_certificate(algorithm, json!({}));
        let (certificate, _) = Pki::shared().server(algorithm);
        let certificate = certificate.to_str().expect("the path is UTF-8");
        let mut expected = 0.0;
        for (name, group) in [X, P] {
            let arguments = ["handshakes", "--group", name, "--signature", key, "--certificate", certificate];
            let amount = ["--count", "150", "--warm-up", "20", "--concurrency", "7", "--threads", "2"];
            let report = figures(&[&arguments[..], &amount[..]].concat(), &server);
            assert_eq!(report["count"], 150);
            assert_eq!((&report["group"], &report["suite"]), (&json!(group), &json!("TLS_AES_256_GCM_SHA384")));
            assert_eq!((&report["scheme"], &report["resumed"]), (&json!(algorithm.scheme()), &json!(false)));
            assert_measured(&report, &["per_second", "p50_us", "p99_us", "max_us", "cpu_us", "pss_kib", "seconds"]);
            assert_eq!(report["processes"], 1);
            // One to look at before, and those of the warm-up.
            expected += 171.0;
            let metrics = settled(&server);
            let labels = [("group", group), ("scheme", algorithm.scheme()), ("resumed", "false"), ("hrr", "false")];
            assert_eq!(metrics.sum("qtls_handshakes_total", &labels), 171.0, "{}", metrics.text());
            assert_eq!(metrics.sum("qtls_handshakes_total", &[]), expected);
        }
    }
}

#[test]
fn every_handshake_of_resume_is_resumed() {
    let server = Server::start(json!({}));
    let report = figures(&["resume", "--count", "100", "--warm-up", "10", "--concurrency", "5"], &server);
    assert_eq!((&report["count"], &report["resumed"], &report["scheme"]), (&json!(100), &json!(true), &json!("none")));
    let metrics = settled(&server);
    let resumed = |resumed| metrics.sum("qtls_handshakes_total", &[("resumed", resumed), ("group", X.1)]);
    assert_eq!(
        (resumed("true"), resumed("false")),
        (111.0, 6.0),
        "one of each to look, and one full for each of the five"
    );

    let forgetful = Server::start(json!({ "tls": { "session_timeout": 0 } }));
    let finished = bench(&["resume", "--count", "100"], &forgetful).expect_code(6);
    assert!(finished.stderr.contains("a connection got a handshake without resumption"), "{}", finished.said());
    assert_eq!(finished.stdout, "");
}

#[test]
fn requests_and_bodies_are_counted_to_the_byte_over_http_and_tcp() {
    let (_backend, behind) = backend();
    for protocol in ["http", "tcp"] {
        let upstream = json!({ "upstream": { "protocol": protocol, "servers": [format!("127.0.0.1:{behind}")] } });
        let server = Server::start(upstream);
        let asking = ["requests", "--path", "/bytes/100", "--count", "300", "--warm-up", "10", "--concurrency", "3"];
        let report = figures(&[&asking[..], &["--per-connection", "20"]].concat(), &server);
        assert_eq!((&report["unit"], &report["count"]), (&json!("request"), &json!(300)));
        assert_measured(&report, &["per_second", "p50_us", "cpu_us"]);
        for (direction, sent) in [("down", true), ("up", false)] {
            let before = settled(&server);
            let amount = ["--bytes", "200M", "--body", "1M", "--concurrency", "2"];
            let report = figures(&[&["throughput", "--direction", direction], &amount[..]].concat(), &server);
            assert_eq!((&report["bytes"], &report["direction"]), (&json!(200_000_000), &json!(direction)));
            assert_measured(&report, &["gb_per_second", "cpu_s_per_gb"]);
            // With the two bodies of the warm-up; what is more is HTTP around them.
            let after = settled(&server);
            let labels = [("direction", if sent { "sent" } else { "received" }), ("pq", "true")];
            let grown = after.sum("qtls_bytes_total", &labels) - before.sum("qtls_bytes_total", &labels);
            assert!((202_000_000.0..203_000_000.0).contains(&grown), "{protocol} {direction}: {grown}");
        }
    }
}

#[test]
fn idle_connections_are_open_while_they_are_measured() {
    let (_backend, behind) = backend();
    let server =
        Server::start(json!({ "upstream": { "protocol": "http", "servers": [format!("127.0.0.1:{behind}")] } }));
    let amount = ["--connections", "120", "--newcomers", "30", "--settle", "0.1", "--request", "/bytes/10"];
    let report = figures(&[&["idle"], &amount[..]].concat(), &server);
    assert_eq!(report["connections"], 120);
    assert_measured(&report, &["pss_before_kib", "pss_after_kib", "kib_each", "cpu_us_before", "cpu_us_beside"]);
    let metrics = settled(&server);
    // One to look, twice 200 of warming up and 30, and the idle ones.
    assert_eq!(metrics.sum("qtls_handshakes_total", &[]), 581.0, "{}", metrics.text());

    // Long enough for a request to be asked in time, also on a busy machine.
    let mut impatient = json!({ "limits": { "idle_timeout": 3 } });
    qtls_interop::server::merge(
        &mut impatient,
        json!({ "upstream": { "protocol": "http", "servers": [format!("127.0.0.1:{behind}")] } }),
    );
    let impatient = Server::start(impatient);
    let finished = bench(&["idle", "--connections", "5", "--settle", "6", "--request", "/"], &impatient).expect_code(3);
    assert!(finished.stderr.contains("the server closed an idle connection"), "{}", finished.said());
}

#[test]
fn what_is_no_measurement_is_refused() {
    let server = Server::start(json!({ "tls": { "pqc_only": true } }));
    let refused = |arguments: &[&str], code: i32, message: &str| {
        let finished = bench(arguments, &server).expect_code(code);
        assert!(finished.stderr.contains(message), "{arguments:?}: {}", finished.said());
        assert_eq!(finished.stdout, "", "no figures of it");
    };
    refused(&["handshakes", "--group", "x25519"], 5, "alert HandshakeFailure");
    refused(&["handshakes", "--group", "x25519mlkem42"], 2, "did you mean");
    refused(&["handshakes", "--rate", "0"], 2, "it has to be a number above 0");
    let (other, _) = Pki::shared().server(Algorithm::MlDsa65);
    let other = other.to_str().expect("the path is UTF-8");
    refused(&["handshakes", "--certificate", other], 6, "a connection got another certificate");
    refused(&["requests", "--path", "/nothing/of/the/kind"], 3, "a request was answered with 404");
    // The port is another's, or nobody's.
    let (stranger, _) = backend();
    let finished = run(command(&["handshakes"], &server).args(["--pid", &stranger.id().to_string()]), b"");
    let message = format!("port {} is not, or not only, listened on by process {}", server.port, stranger.id());
    assert!(finished.expect_code(2).stderr.contains(&message));
    let nobody = free_port();
    let mut command = programs::command("qtls-bench");
    let finished =
        run(command.args(["handshakes", &format!("localhost:{nobody}"), "--ca"]).arg(Pki::shared().ca()), b"");
    assert!(finished.expect_code(3).stderr.contains("can't connect to"));
}

#[test]
fn the_floor_has_every_group_and_key() {
    let finished =
        run(programs::command("qtls-bench").args(["crypto", "--json", "--count", "20"]), b"").expect_success();
    let report: Value = serde_json::from_str(&finished.stdout).expect("one line of JSON");
    assert_measured(&report, &["tcp_connection_us"]);
    assert_measured(&report["exchange_us"], &[X.1, P.1, "SecP256r1MLKEM768", "MLKEM768", "MLKEM1024", "x25519"]);
    let keys = ["ecdsa-p256", "ecdsa-p384", "ed25519", "rsa-2048", "rsa-4096", "ml-dsa-44", "ml-dsa-65", "ml-dsa-87"];
    assert_measured(&report["signature_us"], &keys);
}

/// What would be found out after half an hour of measuring is found out before it.
#[test]
fn bench_peers_refuses_at_once_what_it_can_not_do() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let document = directory.path().join("PERFORMANCE.md");
    let missing = directory.path().join("missing.md");
    std::fs::write(&document, "<!-- measured: machine -->\n<!-- end of measured: machine -->\n").expect("a document");
    let (document, missing) = (document.display(), missing.display());
    for (arguments, message) in [
        (vec!["--scale=0".to_owned()], "--scale takes a number above 0".to_owned()),
        (vec!["--only=floor,speed".to_owned()], "there is no table \"speed\", but: floor, handshakes,".to_owned()),
        (vec!["--fast".to_owned()], "\"--fast\" is none of --scale=FACTOR, --only=TABLE,…, --write=FILE,…".to_owned()),
        (
            vec![format!("--write={document},{missing}"), "--only=floor".to_owned()],
            format!("{document}: the marks of the part \"floor\" are missing"),
        ),
        (vec![format!("--write={missing}")], format!("{missing}: No such file or directory")),
    ] {
        let refused = run(programs::command("bench-peers").args(&arguments), b"").expect_code(1);
        assert!(refused.stderr.starts_with(&format!("bench-peers: {message}")), "{arguments:?}: {}", refused.said());
        assert!(!refused.stderr.contains("measuring"), "{arguments:?}: {}", refused.said());
    }
}
