//! Debian's nginx behind Q-TLS: requests and bodies of 1 GiB pass both ways unchanged, over HTTP/1.1 and h2, in bounded
//! memory.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use qtls_interop::openssl::text;
use qtls_interop::process::{Finished, run_within};
use qtls_interop::upstreams::{Nginx, marked_file};
use qtls_interop::{Pki, Server, curl, peers};
use serde_json::{Value, json};

const GIB: u64 = 1 << 30;
/// What the server may take at its peak: far less than a body.
const MEMORY: u64 = 160 << 20;
/// For a gigabyte through an unoptimised build on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// curl 8 with OpenSSL 3.5, over HTTP/1.1 or h2.
fn curl_command(http: &str, share: &Path) -> Command {
    let pki = Pki::shared();
    let mut command = peers::debian("curl", [pki.directory(), share]);
    command.args([
        "--silent",
        "--show-error",
        "--verbose",
        "--ipv4",
        "--noproxy",
        "*",
        "--cacert",
        text(&pki.ca()),
        http,
    ]);
    command
}

fn start(nginx: &Nginx) -> Server {
    Server::start(json!({ "upstream": { "protocol": "http", "servers": [nginx.address()] } }))
}

/// What curl got, after a check that it came over `http` and the hybrid.
#[track_caller]
fn fetch(server: &Server, http: &str, share: &Path, arguments: &[&str], path: &str) -> Finished {
    let mut command = curl_command(http, share);
    command.args(arguments).arg(format!("https://localhost:{}{path}", server.port));
    let finished = run_within(&mut command, b"", PATIENCE).expect_success();
    let connection = curl::connection(&finished.stderr);
    assert_eq!(connection, ("TLS_AES_256_GCM_SHA384".to_owned(), Some("X25519MLKEM768".to_owned())));
    let version = if http == "--http2" { "< HTTP/2 200" } else { "< HTTP/1.1 200" };
    assert!(finished.stderr.contains(version), "{}", finished.said());
    finished
}

#[test]
fn requests_pass_over_both_versions() {
    let nginx = Nginx::start();
    let server = start(&nginx);
    for http in ["--http1.1", "--http2"] {
        let finished = fetch(&server, http, &nginx.files(), &["--data", "x=1"], "/a/b?c=d");
        assert_eq!(finished.stdout, "POST /a/b?c=d\n");
    }
    let counted = server.metrics();
    let labels = [("group", "X25519MLKEM768"), ("pq", "true"), ("scheme", "ecdsa_secp384r1_sha384")];
    assert_eq!(counted.sum("qtls_handshakes_total", &labels), 2.0, "{}", counted.text());
}

#[test]
fn the_upstream_is_told_about_the_client_and_only_by_us() {
    let nginx = Nginx::start();
    let server = start(&nginx);
    for http in ["--http1.1", "--http2"] {
        let forged = [
            "--header",
            "X-QTLS-Group: forged",
            "--header",
            "X-Forwarded-For: 192.0.2.1",
            "--header",
            "x_qtls_pq: forged",
        ];
        let finished = fetch(&server, http, &nginx.files(), &forged, "/seen");
        let seen: Value = serde_json::from_str(&finished.stdout).expect("JSON");
        for (key, value) in [
            ("group", "X25519MLKEM768"),
            ("signature", "ecdsa_secp384r1_sha384"),
            ("cipher", "TLS_AES_256_GCM_SHA384"),
            ("pq", "yes"),
            ("forwarded_for", "127.0.0.1"),
            ("forwarded_proto", "https"),
        ] {
            assert_eq!(seen[key], value, "{key} over {http}: {seen}");
        }
        assert_eq!(seen["host"], format!("localhost:{}", server.port), "{seen}");
    }
}

#[test]
fn a_gigabyte_comes_down_unchanged() {
    let nginx = Nginx::start();
    let sum = marked_file(&nginx.files().join("large"), GIB);
    let server = start(&nginx);
    for http in ["--http1.1", "--http2"] {
        // Inside one shell of the peers, so that nothing is stored.
        let pipeline = r#"curl --silent --show-error --ipv4 --cacert "$1" "$2" "$3" | sha256sum"#;
        let mut command = peers::debian("sh", [Pki::shared().directory()]);
        let url = format!("https://localhost:{}/files/large", server.port);
        command.args(["-c", pipeline, "sh", text(&Pki::shared().ca()), http, &url]);
        let finished = run_within(&mut command, b"", PATIENCE).expect_success();
        assert_eq!(finished.stdout.split(' ').next(), Some(&*sum), "{http}: {}", finished.said());
    }
    let peak = server.peak_memory();
    assert!(peak < MEMORY, "{} MiB at the peak", peak >> 20);
    let sent = server.metrics().sum("qtls_bytes_total", &[("direction", "sent"), ("pq", "true")]);
    assert!(sent >= 2.0 * GIB as f64, "{sent} bytes counted");
}

#[test]
fn a_gigabyte_goes_up_unchanged() {
    let nginx = Nginx::start();
    let file = nginx.files().join("large");
    let sum = marked_file(&file, GIB);
    let server = start(&nginx);
    for http in ["--http1.1", "--http2"] {
        let finished = fetch(&server, http, &nginx.files(), &["--upload-file", text(&file)], "/sink");
        assert_eq!(finished.stdout, format!("{sum} {GIB}\n"), "{http}: {}", nginx.said());
    }
    let peak = server.peak_memory();
    assert!(peak < MEMORY, "{} MiB at the peak", peak >> 20);
}

#[test]
fn an_upstream_that_is_down_is_502_until_it_is_back() {
    let port = qtls_interop::server::free_port();
    let upstream = json!({ "protocol": "http", "servers": [format!("127.0.0.1:{port}")] });
    let server = Server::start(json!({ "upstream": upstream }));
    let request = |http: &str| {
        let mut command = curl_command(http, Pki::shared().directory());
        command.args(["--write-out", "%{http_code}", "--output", "/dev/null"]);
        run_within(command.arg(format!("https://localhost:{}/", server.port)), b"", PATIENCE).expect_success().stdout
    };
    assert_eq!((request("--http1.1"), request("--http2")), ("502".to_owned(), "502".to_owned()));
    server.wait_for_warning(&format!("127.0.0.1:{port}"));
    assert!(server.metrics().sum("qtls_upstream_errors_total", &[]) >= 2.0);

    let _nginx = Nginx::on(port);
    assert_eq!((request("--http1.1"), request("--http2")), ("200".to_owned(), "200".to_owned()));
}

#[test]
fn an_upstream_that_goes_away_and_comes_back_is_used_again() {
    let nginx = Nginx::start();
    let port = nginx.port;
    let server = start(&nginx);
    let status = |expected: &str| {
        let mut command = curl_command("--http1.1", Pki::shared().directory());
        command.args(["--write-out", "%{http_code}", "--output", "/dev/null"]);
        let finished = run_within(command.arg(format!("https://localhost:{}/", server.port)), b"", PATIENCE);
        assert_eq!(finished.expect_success().stdout, expected);
    };
    status("200");
    drop(nginx);
    status("502");
    let _nginx = Nginx::on(port);
    status("200");
}
