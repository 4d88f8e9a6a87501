//! The port of plain HTTP sends everybody who asks for a name of ours to https, and nobody anywhere else; it goes over to a
//! new process, and drains, as the port of TLS does.

use std::io::{Read, Write};
use std::process::Command;

use qtls_interop::openssl::text;
use qtls_interop::process::{PATIENCE, run};
use qtls_interop::server::free_port;
use qtls_interop::{Pki, Server, peers, wire};
use rustix::process::Signal;
use serde_json::{Value, json};

/// A server that redirects, and the port where it does.
fn start(changes: Value) -> (Server, u16) {
    let port = free_port();
    let mut config = json!({ "redirect": { "port": port } });
    qtls_interop::server::merge(&mut config, changes);
    (Server::start(config), port)
}

fn ask(port: u16, request: &str) -> wire::Response {
    wire::exchange(port, request.as_bytes())
}

fn location(response: &wire::Response) -> Option<&str> {
    response.head.lines().find_map(|line| line.strip_prefix("location: "))
}

#[test]
fn a_name_of_ours_is_sent_to_https_and_no_other() {
    let (server, port) = start(json!({}));
    let at = server.port;
    for method in ["GET", "POST", "DELETE", "OPTIONS"] {
        let response = ask(port, &format!("{method} /a/b?c=%20d HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"));
        assert_eq!(response.status, 308, "{}", response.head);
        assert_eq!(location(&response), Some(&*format!("https://localhost:{at}/a/b?c=%20d")), "{}", response.head);
        assert!(response.head.contains("connection: close"), "{}", response.head);
    }
    let response = ask(port, &format!("GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"));
    assert_eq!(location(&response), Some(&*format!("https://127.0.0.1:{at}/")), "{}", response.head);
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: localhost.evil.example\r\n\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n", 421),
        ("GET / HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
    ] {
        let response = ask(port, request);
        assert_eq!((response.status, location(&response)), (status, None), "{request:?}: {}", response.head);
    }
    let metrics = server.metrics();
    let count = |result| metrics.sum("qtls_redirects_total", &[("result", result)]);
    assert_eq!((count("redirected"), count("refused"), count("dropped")), (5.0, 7.0, 0.0), "{}", metrics.text());
    // Nothing of it is a connection of TLS.
    assert_eq!(metrics.sum("qtls_connections_total", &[]), 0.0);
}

#[test]
fn curl_follows_it_into_the_hybrid() {
    let (server, port) = start(json!({}));
    let mut command = peers::debian("curl", [Pki::shared().directory()]);
    command.args([
        "--silent",
        "--show-error",
        "--ipv4",
        "--noproxy",
        "*",
        "--location",
        "--cacert",
        text(&Pki::shared().ca()),
    ]);
    command.arg(format!("http://localhost:{port}/status.json"));
    let finished = run(&mut command, b"").expect_success();
    let status: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(status["group"], "X25519MLKEM768", "{status}");
    assert_eq!(server.metrics().sum("qtls_redirects_total", &[("result", "redirected")]), 1.0);
}

#[test]
fn where_ports_are_mapped_the_configuration_says_which() {
    let (server, port) = start(json!({ "redirect": { "to_port": 443 } }));
    let get = || ask(port, "GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(location(&get()), Some("https://localhost/x"));
    server.rewrite_config(json!({ "redirect": { "to_port": 9443 } }));
    server.applies(|| server.hang_up());
    assert_eq!(location(&get()), Some("https://localhost:9443/x"));
}

#[test]
fn the_slow_and_the_many_cost_a_place_for_a_while_and_no_more() {
    let (server, port) = start(json!({}));
    // As many as there are places, who begin a request and don't end it.
    let mut slow: Vec<_> = (0..256).map(|_| wire::connect(port)).collect();
    for stream in &mut slow {
        stream.write_all(b"GET / HTTP/1.1\r\n").expect("it is open");
    }
    server.metrics_when("a connection without a place", |metrics| {
        // It may be accepted before the others are.
        let _ = wire::connect(port).read(&mut [0]);
        metrics.sum("qtls_redirects_total", &[("result", "dropped")]) >= 1.0
    });
    // Each is given up, with an answer or without one.
    for stream in &mut slow {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }
    let response = ask(port, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(response.status, 308);
    let large = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(ask(port, &large).status, 431);
}

#[test]
fn a_new_process_takes_the_socket_over() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let socket = directory.path().join("socket");
    let (mut server, port) = start(json!({ "server": { "handover": socket } }));
    let before = ask(port, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let old = server.replace();
    old.finish(PATIENCE).expect_success();
    let after = ask(port, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((before.status, after.status), (308, 308));
    // It was not bound anew: the port was never free.
    assert_eq!(server.metrics().sum("qtls_redirects_total", &[("result", "redirected")]), 1.0);
}

#[test]
fn whoever_has_asked_is_answered_when_the_server_stops() {
    let (mut server, port) = start(json!({ "server": { "drain_timeout": 20 } }));
    let mut asking = wire::connect(port);
    let mut idle = wire::connect(port);
    // Whether it is accepted by then or waits in the queue.
    asking.write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it is open");
    server.process.signal(Signal::TERM);
    let mut answer = String::new();
    asking.read_to_string(&mut answer).expect("an orderly end");
    assert!(answer.starts_with("HTTP/1.1 308 "), "{answer}");
    let _ = idle.read_to_end(&mut Vec::new());
    let status = server.process.ended(PATIENCE).expect("it ends");
    assert_eq!(status.code(), Some(0), "{}", server.log());
}

#[test]
fn a_port_that_is_taken_is_an_error_with_its_key() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (cert, key) = Pki::shared().server(qtls_interop::Algorithm::EcdsaP384);
    let config = json!({
        "server": { "listen_address": "127.0.0.1", "listen_port": free_port() },
        "certificates": { "server_cert": cert, "server_key": key },
        "redirect": { "port": port },
    });
    let file = qtls_interop::server::write_config(directory.path(), &config);
    let mut command: Command = qtls_interop::programs::command("qtls-server");
    let finished = run(command.arg("--config").arg(&file), b"");
    assert!(!finished.status.success());
    let said = &finished.stderr;
    assert!(said.contains(&format!("redirect.port: 127.0.0.1:{port} is in use by another process")), "{said}");
    assert!(said.contains("server.json:"), "{said}");
}
