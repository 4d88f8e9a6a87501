//! A WebSocket passes between real peers: Python's `websockets` on both sides, over HTTP/1.1, and Chromium, over a stream of
//! its HTTP/2 connection (RFC 8441).

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use qtls_interop::process::{PATIENCE, Running, run_within};
use qtls_interop::{Algorithm, Pki, Server, log, peers};
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(120);

/// The side behind.
struct Upstream {
    process: Running,
    port: u16,
}

impl Upstream {
    fn start() -> Self {
        let process = Running::start(&mut peers::python("python/websocket.py", &json!({ "serve": true })));
        let line = process.stdout.wait_for_line("listening on ");
        let port = line.rsplit(' ').next().and_then(|port| port.parse().ok()).expect("a port");
        Self { process, port }
    }
}

/// A server in front of it, with an access log.
fn start(upstream: &Upstream, changes: Value) -> (Server, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let access = directory.path().join("access.log");
    let mut config = json!({
        "upstream": { "protocol": "http", "servers": [format!("127.0.0.1:{}", upstream.port)] },
        "logging": { "format": "json", "access_file": access },
    });
    qtls_interop::server::merge(&mut config, changes);
    (Server::start(config), directory)
}

fn client(server: &Server, path: &str, mut options: Value) -> std::process::Command {
    options["url"] = format!("wss://localhost:{}{path}", server.port).into();
    options["ca"] = Pki::shared().ca_of(Algorithm::EcdsaP384).to_str().into();
    peers::python("python/websocket.py", &options)
}

#[test]
fn ten_thousand_messages_pass_each_way_at_the_same_time() {
    let upstream = Upstream::start();
    let (server, logs) = start(&upstream, json!({}));
    let began = Instant::now();
    let finished = run_within(&mut client(&server, "/exchange", json!({ "messages": 10_000 })), b"", LONG);
    let told: Value = serde_json::from_str(&finished.expect_success().stdout).expect("JSON");
    assert_eq!(told, json!({ "open": true, "correct": true, "code": 4001, "reason": "done" }));
    upstream.process.stdout.wait_for_line("ended 4001 done");
    println!("10,000 messages each way in {:.1} s", began.elapsed().as_secs_f64());

    let line = &log::connections(&logs.path().join("access.log"), 1)[0];
    // Python of Debian 12 knows no post-quantum group.
    assert_eq!((&line["group"], &line["alpn"]), (&json!("x25519"), &Value::Null), "{line}");
    assert_eq!((&line["reason"], &line["requests"]), (&json!("closed"), &json!(1)), "{line}");
    assert_eq!(line["upstream"], format!("127.0.0.1:{}", upstream.port), "{line}");
    // The average message has 6,000 bytes.
    let sum = 10_000.0 * 6_000.0;
    for direction in ["received", "sent"] {
        let counted = line[direction].as_f64().expect("a number");
        assert!((0.99 * sum..1.02 * sum).contains(&counted), "{direction}: {line}");
        let labels = [("direction", direction)];
        assert!(server.metrics().sum("qtls_bytes_total", &labels) >= counted, "{direction}");
    }
}

/// The upstream's `timeouts.total` is for a request with its response, which is over when the WebSocket begins; the life of a
/// connection is `limits.connection_timeout`.
#[test]
fn only_the_life_of_its_connection_ends_one_that_is_busy() {
    let upstream = Upstream::start();
    let (server, _logs) = start(&upstream, json!({ "upstream": { "timeouts": { "total": 2 } } }));
    let finished = run_within(&mut client(&server, "/exchange", json!({ "messages": 20_000 })), b"", LONG);
    let told: Value = serde_json::from_str(&finished.expect_success().stdout).expect("JSON");
    assert_eq!((&told["correct"], &told["code"]), (&json!(true), &json!(4001)), "{told}");
    assert_eq!(server.metrics().sum("qtls_upstream_errors_total", &[]), 0.0, "{}", server.log());

    let (server, logs) = start(&upstream, json!({ "limits": { "connection_timeout": 6 } }));
    let client = Running::start(&mut client(&server, "/echo", json!({ "wait": true })));
    client.stdout.wait_for_line("open");
    client.stdout.wait_for_line(r#""code": 1006"#);
    let line = &log::connections(&logs.path().join("access.log"), 1)[0];
    assert!(line["reason"].as_str().is_some_and(|reason| reason.starts_with("connection_timeout")), "{line}");
    assert_eq!(server.metrics().sum("qtls_limit_hits_total", &[("limit", "connection_timeout")]), 1.0);
}

#[test]
fn pings_and_the_clients_code_of_closing_reach_the_upstream() {
    let upstream = Upstream::start();
    let (server, _logs) = start(&upstream, json!({}));
    let finished = run_within(&mut client(&server, "/echo", json!({})), b"", LONG);
    let told: Value = serde_json::from_str(&finished.expect_success().stdout).expect("JSON");
    assert_eq!(told, json!({ "open": true, "answer": "hello", "code": 4003, "reason": "enough" }));
    upstream.process.stdout.wait_for_line("ended 4003 enough");
}

#[test]
fn a_server_that_stops_waits_for_it_and_then_closes_it() {
    let upstream = Upstream::start();
    let (mut server, logs) = start(&upstream, json!({ "server": { "drain_timeout": 2 } }));
    let client = Running::start(&mut client(&server, "/echo", json!({ "wait": true })));
    client.stdout.wait_for_line("open");
    let began = Instant::now();
    server.process.signal(rustix::process::Signal::TERM);
    let status = server.process.ended(PATIENCE).expect("the server ends");
    assert_eq!(status.code(), Some(0), "{}", server.log());
    assert!(began.elapsed() >= Duration::from_secs(2), "it was not waited for");
    // Nobody closed it in WebSocket's own terms.
    client.stdout.wait_for_line(r#""code": 1006"#);
    upstream.process.stdout.wait_for_line("ended 1006");
    let line = &log::connections(&logs.path().join("access.log"), 1)[0];
    assert_eq!(line["reason"], "cut_off", "{line}");
}

#[test]
fn chromium_has_it_on_its_http2_connection() {
    let upstream = Upstream::start();
    let (server, logs) = start(&upstream, json!({}));
    let url = format!("https://localhost:{}/", server.port);
    let script = format!(
        "new Promise((resolve) => {{
            const socket = new WebSocket('wss://localhost:{}/echo');
            let next = 0;
            socket.onopen = () => socket.send('0');
            socket.onmessage = ({{ data }}) => {{
                if (Number(data) !== next) return resolve(document.body.innerText = `${{data}} for ${{next}}`);
                if (++next === 500) return socket.close(4003, 'enough');
                socket.send(String(next));
            }};
            socket.onclose = ({{ code, reason }}) => resolve(document.body.innerText = `${{next}} ${{code}} ${{reason}}`);
        }})",
        server.port
    );
    let options = json!({ "url": url, "ca": Pki::shared().ca_of(Algorithm::EcdsaP384), "settle": script });
    let finished = run_within(&mut peers::node("chromium/load.mjs", &options), b"", LONG).expect_success();
    let page: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(page["text"], "500 4003 enough", "{page}");
    assert_eq!(page["protocol"], "h2", "{page}");
    assert_eq!(page["security"]["keyExchangeGroup"], "X25519MLKEM768", "{page}");
    upstream.process.stdout.wait_for_line("ended 4003 enough");
    let connections = log::wait_for(&logs.path().join("access.log"), 1, |line| line["requests"].as_u64() >= Some(2));
    assert_eq!((&connections[0]["alpn"], &connections[0]["group"]), (&json!("h2"), &json!("X25519MLKEM768")));
}
