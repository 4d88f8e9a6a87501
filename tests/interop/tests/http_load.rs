//! nginx behind Q-TLS under load: Chromium and a page with 200 parts, curl_cffi as Chrome, h2load and wrk, and not one
//! request that fails.

#![allow(clippy::print_stdout)]

use std::time::Duration;

use qtls_interop::process::run_within;
use qtls_interop::upstreams::Nginx;
use qtls_interop::{Algorithm, Pki, Server, log, peers};
use serde_json::{Value, json};
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(120);
const PARTS: usize = 200;

struct Site {
    server: Server,
    nginx: Nginx,
    logs: TempDir,
}

impl Site {
    fn start() -> Self {
        let nginx = Nginx::start();
        let logs = tempfile::tempdir().expect("the temporary directory is writable");
        let server = Server::start(json!({
            "upstream": { "protocol": "http", "servers": [nginx.address()] },
            "logging": { "level": "info", "format": "json", "access_file": logs.path().join("access.log") },
        }));
        Self { server, nginx, logs }
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.server.port)
    }

    fn connections(&self, wanted: impl Fn(&Value) -> bool, count: usize) -> Vec<Value> {
        log::wait_for(&self.logs.path().join("access.log"), count, |line| line["event"] == "connection" && wanted(line))
    }
}

#[test]
fn chromium_loads_a_page_of_200_parts_over_one_connection() {
    let site = Site::start();
    let mut page = "<!doctype html><title>Parts</title><link rel=icon href=data:,><body>".to_owned();
    for part in 0..PARTS {
        page += &format!("<script src=\"{part}.js\"></script>\n");
        let script = format!("window.parts = (window.parts || 0) + 1; /* {} */", "x".repeat(part * 50));
        std::fs::write(site.nginx.files().join(format!("{part}.js")), script).expect("the directory is writable");
    }
    std::fs::write(site.nginx.files().join("index.html"), page).expect("the directory is writable");
    let options = json!({
        "url": site.url("/files/index.html"),
        "ca": Pki::shared().ca_of(Algorithm::EcdsaP384),
        "settle": "document.body.innerText = `${window.parts} parts`",
    });
    let finished = run_within(&mut peers::node("chromium/load.mjs", &options), b"", LONG).expect_success();
    let page: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(page["text"], format!("{PARTS} parts"), "{page}");
    assert_eq!((&page["state"], &page["protocol"]), (&json!("secure"), &json!("h2")), "{page}");
    assert_eq!(page["security"]["keyExchangeGroup"], "X25519MLKEM768", "{page}");
    // The browser's own count: the page and its parts.
    let of_the_page = page["responses"]["200"].as_u64().expect("a number");
    assert_eq!((of_the_page, &page["connections"]), (PARTS as u64 + 1, &json!(1)), "{page}");
    let busy = site.connections(|line| line["requests"].as_u64() > Some(PARTS as u64), 1);
    assert_eq!((&busy[0]["alpn"], &busy[0]["group"]), (&json!("h2"), &json!("X25519MLKEM768")), "{}", busy[0]);
}

#[test]
fn a_client_that_is_chrome_on_the_wire_gets_its_answer() {
    let site = Site::start();
    let options = json!({ "url": site.url("/a?b=c"), "ca": Pki::shared().ca_of(Algorithm::EcdsaP384) });
    let finished = run_within(&mut peers::python("python/impersonate.py", &options), b"", LONG).expect_success();
    let told: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(told, json!({ "status": 200, "version": "2", "text": "GET /a?b=c\n" }));
    let line = &site.connections(|_| true, 1)[0];
    assert_eq!((&line["alpn"], &line["group"]), (&json!("h2"), &json!("X25519MLKEM768")), "{line}");
    assert_eq!(line["requests"], 1, "{line}");
}

#[test]
fn h2load_with_the_hybrid_has_no_failed_request() {
    let site = Site::start();
    std::fs::write(site.nginx.files().join("part"), "x".repeat(20_000)).expect("the directory is writable");
    let mut command = peers::debian("h2load", [] as [&std::path::Path; 0]);
    command.args([
        "--groups=X25519MLKEM768",
        "-n",
        "5000",
        "-c",
        "20",
        "-m",
        "20",
        "-t",
        "1",
        &site.url("/files/part"),
    ]);
    let said = run_within(&mut command, b"", LONG).expect_success().stdout;
    let all = "requests: 5000 total, 5000 started, 5000 done, 5000 succeeded, 0 failed, 0 errored, 0 timeout";
    assert!(said.contains(all) && said.contains("status codes: 5000 2xx, 0 3xx, 0 4xx, 0 5xx"), "{said}");
    println!("{}", said.lines().find(|line| line.starts_with("finished in")).unwrap_or_default());
    let metrics = site.server.metrics();
    assert_eq!(metrics.sum("qtls_handshakes_total", &[("group", "X25519MLKEM768")]), 20.0, "{}", metrics.text());
    assert_eq!(metrics.sum("qtls_upstream_errors_total", &[]), 0.0, "{}", metrics.text());
    assert_eq!(metrics.sum("qtls_upstream_requests_total", &[]), 5000.0, "{}", metrics.text());
}

#[test]
fn wrk_has_no_failed_request() {
    let site = Site::start();
    let mut command = peers::debian("wrk", [] as [&std::path::Path; 0]);
    // By default, 2 s without an answer are an error: a busy machine stands still for as long.
    command.args(["-t", "1", "-c", "20", "-d", "5s", "--timeout", "60s", &site.url("/")]);
    let said = run_within(&mut command, b"", LONG).expect_success().stdout;
    assert!(!said.contains("Non-2xx") && !said.contains("Socket errors"), "{said}");
    let count: f64 =
        said.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse().ok()).expect("a count");
    println!("{count} requests in 5 s");
    assert!(count > 100.0, "{said}");
    let metrics = site
        .server
        .metrics_when("the last request", |metrics| metrics.sum("qtls_upstream_requests_total", &[]) >= count);
    assert_eq!(metrics.sum("qtls_upstream_errors_total", &[]), 0.0, "{}", metrics.text());
    assert_eq!(metrics.sum("qtls_handshakes_total", &[("pq", "true")]), 20.0, "{}", metrics.text());
}
