//! `qtls-client --tunnel`: a sidecar that gives a program without TLS a post-quantum link, and goes on running.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Instant;

use qtls_interop::openssl::text;
use qtls_interop::process::{PATIENCE, run};
use qtls_interop::server::free_port;
use qtls_interop::tunnel::{carried, client, failed};
use qtls_interop::upstreams::{Redis, echo};
use qtls_interop::{Algorithm, Pki, Running, Server, Tunnel, log, peers, programs, wire};
use rustix::process::Signal;
use serde_json::{Value, json};

const HYBRID: &str = "X25519MLKEM768";

/// A server in front of an [`echo`].
fn echo_server() -> Server {
    Server::start(json!({ "upstream": { "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] } }))
}

fn to(server: &Server, port: u16) -> Value {
    json!([{ "listen": format!("127.0.0.1:{port}"), "connect": server.address() }])
}

/// What comes back for `text` and the end of the sending.
fn exchange(mut stream: impl Read + Write, shutdown: impl FnOnce(), text: &str) -> String {
    stream.write_all(text.as_bytes()).expect("the connection is open");
    shutdown();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the connection ends in order");
    answer
}

fn exchange_tcp(port: u16, text: &str) -> String {
    let stream = wire::connect(port);
    exchange(&stream, || stream.shutdown(Shutdown::Write).expect("the connection is open"), text)
}

fn echoed(text: &str) -> String {
    format!("{text}that was {} bytes\n", text.len())
}

/// How a connection ends that nobody writes to.
fn outcome(stream: &mut TcpStream) -> Result<usize, ErrorKind> {
    stream.read(&mut [0]).map_err(|error| error.kind())
}

#[test]
fn plain_connections_leave_over_post_quantum_links_half_closed_ones_too() {
    let (server, port) = (echo_server(), free_port());
    let tunnel = Tunnel::start(to(&server, port), json!({}));
    let long = "line\n".repeat(100_000);
    for text in ["hello\n", &long] {
        assert!(exchange_tcp(port, text) == echoed(text), "{}", tunnel.log());
    }
    let lines = carried(&tunnel, 2);
    for (line, sent) in lines.iter().zip([6, 500_000]) {
        assert_eq!(
            (&line["group"], &line["pq"], &line["reason"]),
            (&json!(HYBRID), &json!(true), &json!("clean")),
            "{line}"
        );
        assert_eq!((&line["sent"], &line["suite"]), (&json!(sent), &json!("TLS_AES_256_GCM_SHA384")), "{line}");
        assert_eq!(line["tunnel"], json!(format!("127.0.0.1:{port}")));
        assert_eq!(line["remote"], json!(server.address()));
        assert_eq!(line["server"], json!(format!("127.0.0.1:{}", server.port)));
    }
    // Also the one by which it found out at start whether the server answers.
    let metrics = server.metrics_when("three handshakes", |metrics| metrics.sum("qtls_handshakes_total", &[]) >= 3.0);
    let count = |labels: &[(&str, &str)]| metrics.sum("qtls_handshakes_total", labels);
    assert_eq!((count(&[("group", HYBRID)]), count(&[])), (3.0, 3.0), "{}", metrics.text());
    assert!(count(&[("resumed", "true")]) >= 1.0, "sessions are resumed between connections: {}", metrics.text());
    let own = tunnel.metrics();
    let name = format!("127.0.0.1:{port}");
    let bytes =
        |direction| own.sum("qtls_tunnel_bytes_total", &[("direction", direction), ("pq", "true"), ("tunnel", &name)]);
    assert_eq!(bytes("sent"), 500_006.0, "{}", own.text());
    assert_eq!(bytes("received"), 500_006.0 + 17.0 + 22.0, "{}", own.text());
    assert_eq!(own.sum("qtls_handshakes_total", &[("group", HYBRID), ("pq", "true")]), 2.0, "{}", own.text());
}

#[test]
fn sixty_four_mebibytes_pass_both_ways_unchanged() {
    const SIZE: u64 = 64 << 20;
    let (server, port) = (echo_server(), free_port());
    let tunnel = Tunnel::start(to(&server, port), json!({}));
    let stream = wire::connect(port);
    let mut writing = stream.try_clone().expect("a descriptor is left");
    // Not the same for any two stretches: what is lost, doubled or out of order shows.
    let block = |index: u64| -> Vec<u8> {
        (0..8192_u64)
            .flat_map(|word| ((index << 13 | word).wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes())
            .collect()
    };
    let writer = std::thread::spawn(move || {
        for index in 0..SIZE >> 16 {
            writing.write_all(&block(index)).expect("the connection is open");
        }
        writing.shutdown(Shutdown::Write).expect("the connection is open");
    });
    let mut reading = stream;
    let mut buffer = vec![0; 1 << 16];
    for index in 0..SIZE >> 16 {
        reading.read_exact(&mut buffer).expect("everything comes back");
        assert!(buffer == block(index), "block {index} is another one");
    }
    let mut rest = String::new();
    reading.read_to_string(&mut rest).expect("the connection ends in order");
    writer.join().expect("everything was taken");
    assert_eq!(rest, format!("that was {SIZE} bytes\n"));
    let line = &carried(&tunnel, 1)[0];
    assert_eq!(
        (&line["sent"], &line["group"], &line["reason"]),
        (&json!(SIZE), &json!(HYBRID), &json!("clean")),
        "{line}"
    );
}

#[test]
fn redis_cli_goes_through_a_unix_socket_that_is_its_owner_s_alone() {
    let redis = Redis::start();
    let server = Server::start(json!({ "upstream": { "protocol": "tcp", "servers": [redis.address()] } }));
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (socket, shared) = (directory.path().join("redis.sock"), directory.path().join("shared.sock"));
    // A process that was killed leaves its socket behind.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("the directory is writable"));
    let tunnel = Tunnel::start_in(
        directory,
        json!([
            { "listen": format!("unix:{}", socket.display()), "connect": server.address() },
            { "listen": format!("unix:{}", shared.display()), "connect": server.address(), "mode": "0660" },
        ]),
        json!({}),
    );
    let mode = |path: &Path| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o7777;
    assert_eq!((mode(&socket), mode(&shared)), (0o600, 0o660));
    let mut redis_cli = peers::debian("redis-cli", [tunnel.directory()]);
    let value = "v".repeat(100_000);
    let commands = format!("SET key {value}\nSTRLEN key\nGET key\n");
    let finished = run(redis_cli.args(["-s", text(&socket)]), commands.as_bytes()).expect_success();
    assert_eq!(finished.stdout, format!("OK\n100000\n{value}\n"), "{}", finished.stderr);
    let line = &carried(&tunnel, 1)[0];
    assert_eq!(
        (&line["group"], &line["tunnel"]),
        (&json!(HYBRID), &json!(format!("unix:{}", socket.display()))),
        "{line}"
    );
    assert!(line["client"].as_str().is_some_and(|client| client.contains("of user ")), "{line}");

    // A second process must not take the socket of a live one away.
    let second = client(&["--tunnel", &format!("unix:{}={}", socket.display(), server.address()), "--insecure"]);
    let second = second.expect_code(2);
    let message = format!("--tunnel: another process listens on {}", socket.display());
    assert!(second.stderr.contains(&message), "{}", second.said());
    assert!(UnixStream::connect(&socket).is_ok(), "the first one still listens");
    let Tunnel { process, .. } = &tunnel;
    process.signal(Signal::TERM);
    let mut tunnel = tunnel;
    assert_eq!(tunnel.process.ended(PATIENCE).and_then(|status| status.code()), Some(0), "{}", tunnel.log());
    assert!(!socket.exists() && !shared.exists(), "its sockets are removed");
}

#[test]
fn a_server_that_is_down_at_start_is_told_of_and_so_is_its_return() {
    let (server_port, port) = (free_port(), free_port());
    let listen = format!("127.0.0.1:{port}");
    let tunnels = json!([{ "listen": listen, "connect": format!("localhost:{server_port}") }]);
    let tunnel = Tunnel::start(tunnels, json!({ "client": { "max_retries": 1 } }));
    tunnel.wait_for_log(&format!("tunnel {listen}: can't connect to localhost:{server_port}"));
    tunnel.metrics_when("that it is down", |metrics| metrics.sum("qtls_tunnel_up", &[("tunnel", &listen)]) == 0.0);
    assert_eq!(wire::http_get(tunnel.metrics_port, "/ready").status, 200, "the process itself is well");
    // Whoever comes now is not left without an answer, and not told that the answer is empty.
    assert_eq!(wire::fate(port, b""), Err(ErrorKind::ConnectionReset));
    let line = &failed(&tunnel, 1)[0];
    assert_eq!((&line["reason"], &line["retries"]), (&json!("unreachable"), &json!(1)), "{line}");
    assert!(line["message"].as_str().is_some_and(|message| message.ends_with("after 2 attempts")), "{line}");

    let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
    let config = json!({
        "server": { "listen_address": "127.0.0.1", "listen_port": server_port, "worker_threads": 1 },
        "certificates": { "server_cert": cert, "server_key": key },
        "upstream": { "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] },
    });
    let file = qtls_interop::server::write_config(tunnel.directory(), &config);
    let _server = Running::start(programs::command("qtls-server").arg("--config").arg(file));
    // Nobody has to come for it to be noticed.
    tunnel.wait_for_log(&format!("tunnel {listen}: localhost:{server_port} can be reached again"));
    assert_eq!(exchange_tcp(port, "hello\n"), echoed("hello\n"));
    assert_eq!(tunnel.metrics().sum("qtls_tunnel_up", &[("tunnel", &listen)]), 1.0);
}

#[test]
fn while_the_server_is_restarted_only_open_connections_fail_and_new_ones_wait() {
    const OPEN: usize = 50;
    const NEW: usize = 150;
    let mut server = Server::start(json!({
        "server": { "drain_timeout": 0 },
        "upstream": { "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] },
    }));
    let port = free_port();
    let tunnel = Tunnel::start(to(&server, port), json!({ "client": { "max_retries": 1000 } }));
    let mut open: Vec<_> = (0..OPEN).map(|_| wire::connect(port)).collect();
    for stream in &mut open {
        stream.write_all(b"x").expect("the connection is open");
        stream.read_exact(&mut [0]).expect("it is carried");
    }
    server.process.signal(Signal::TERM);
    assert_eq!(server.process.ended(PATIENCE).and_then(|status| status.code()), Some(0), "{}", server.log());
    let waiting: Vec<_> = (0..NEW)
        .map(|index| {
            std::thread::spawn(move || {
                let text = format!("number {index}\n");
                exchange_tcp(port, &text) == echoed(&text)
            })
        })
        .collect();
    tunnel.metrics_when("that all of them wait", |metrics| {
        metrics.sum("qtls_tunnel_connections_total", &[]) == (OPEN + NEW) as f64
            && metrics.sum("qtls_tunnel_retries_total", &[]) >= NEW as f64
    });
    server.process = server.start_another();
    server.wait_for_log(&format!("listening on 127.0.0.1:{}", server.port));
    let succeeded = waiting.into_iter().filter_map(|thread| thread.join().ok()).filter(|good| *good).count();
    assert_eq!(succeeded, NEW, "{}", tunnel.log());
    for stream in &mut open {
        assert!(matches!(outcome(stream), Ok(0) | Err(ErrorKind::ConnectionReset)), "it has ended");
    }
    drop(open);
    assert_eq!(carried(&tunnel, OPEN + NEW).iter().filter(|line| line["group"] == HYBRID).count(), OPEN + NEW);
    let metrics = tunnel.metrics();
    assert_eq!(metrics.sum("qtls_tunnel_failures_total", &[]), 0.0, "{}", metrics.text());
    tunnel.wait_for_log("can be reached again");
}

#[test]
fn a_new_client_certificate_is_taken_up_and_a_bad_one_is_refused() {
    let pki = Pki::shared();
    // The server knows the clients of one CA only: the certificate decides on who gets in.
    let server = Server::start(json!({
        "certificates": { "verify_client": true, "ca_bundle": pki.ca_of(Algorithm::MlDsa65) },
        "upstream": { "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] },
    }));
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let path = |name: &str| directory.path().join(name);
    let (cert, key) = (path("client-cert.pem"), path("client-key.pem"));
    let put = |from: &Path, to: &PathBuf| {
        let new = to.with_extension("new");
        std::fs::copy(from, &new).expect("the directory is writable");
        std::fs::rename(new, to).expect("the directory is writable");
    };
    let (old_cert, old_key) = pki.client(Algorithm::EcdsaP384);
    put(&old_cert, &cert);
    put(&old_key, &key);
    let port = free_port();
    let certificates = json!({ "certificates": { "client_cert": cert, "client_key": key } });
    let tunnel = Tunnel::start_in(directory, to(&server, port), certificates);
    let refused = || {
        let mut stream = wire::connect(port);
        let _ = stream.write_all(b"hello\n");
        outcome(&mut stream)
    };
    assert_ne!(refused(), Ok(1), "the server doesn't know this client");
    server.wait_for_log("handshake refused");

    tunnel.reloads("refused", || std::fs::write(&cert, "nothing").expect("the directory is writable"));
    let line = tunnel.wait_for_log("the old state stays in force");
    assert!(line.contains("client-cert.pem"), "{line}");
    assert_ne!(refused(), Ok(1), "the old certificate is still in use");

    let (new_cert, new_key) = pki.client(Algorithm::MlDsa65);
    // The two are replaced one after the other: what doesn't fit is refused meanwhile.
    put(&new_key, &key);
    tunnel.reloads("applied", || put(&new_cert, &cert));
    assert_eq!(exchange_tcp(port, "hello\n"), echoed("hello\n"), "{}", tunnel.log());
}

#[test]
fn a_reload_leads_a_tunnel_elsewhere_and_keeps_what_needs_a_restart() {
    let (first, second, port) = (echo_server(), echo_server(), free_port());
    let tunnel = Tunnel::start(to(&first, port), json!({ "sandbox": "off" }));
    let mut open = wire::connect(port);
    open.write_all(b"x").expect("the connection is open");
    open.read_exact(&mut [0]).expect("it is carried");
    let another = free_port();
    tunnel.rewrite_config(json!({ "tunnels": [
        { "listen": format!("127.0.0.1:{port}"), "connect": second.address() },
        { "listen": format!("127.0.0.1:{another}"), "connect": second.address() },
    ] }));
    tunnel.reloads("applied", || tunnel.hang_up());
    tunnel.wait_for_log(&format!("not changed without a restart: the tunnel 127.0.0.1:{another}, which is new"));
    assert_eq!(exchange_tcp(port, "new\n"), echoed("new\n"));
    assert_eq!(second.metrics().sum("qtls_handshakes_total", &[]), 1.0);
    open.write_all(b"y").expect("the connection is open");
    open.read_exact(&mut [0]).expect("it goes on where it was");
    tunnel.rewrite_config(json!({ "tunnels": [{ "listen": format!("127.0.0.1:{port}"), "conect": "x:1" }] }));
    tunnel.reloads("refused", || tunnel.hang_up());
    assert_eq!(exchange_tcp(port, "old\n"), echoed("old\n"));
}

#[test]
fn an_open_transfer_finishes_after_the_signal_and_nobody_new_gets_in() {
    let (server, port) = (echo_server(), free_port());
    let mut tunnel = Tunnel::start(to(&server, port), json!({}));
    let mut stream = wire::connect(port);
    stream.write_all(b"begun, ").expect("the connection is open");
    stream.read_exact(&mut [0; 7]).expect("it is carried");
    tunnel.terminate();
    tunnel.wait_for_log("SIGTERM: no new connections; open ones may finish within 25 s");
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(Instant::now() < deadline, "it still accepts");
    }
    assert!(
        tunnel.process.is_running(),
        "{}\n{}",
        tunnel.log(),
        std::fs::read_to_string(tunnel.access_log()).unwrap_or_default()
    );
    assert_eq!(wire::http_get(tunnel.metrics_port, "/ready").status, 503);
    assert_eq!(wire::http_get(tunnel.metrics_port, "/health").status, 200);
    stream.write_all(b"and done\n").expect("the connection is open");
    stream.shutdown(Shutdown::Write).expect("the connection is open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the connection ends in order");
    assert_eq!(answer, "and done\nthat was 16 bytes\n");
    assert_eq!(tunnel.process.ended(PATIENCE).and_then(|status| status.code()), Some(0), "{}", tunnel.log());
}

#[test]
fn a_second_signal_ends_at_once() {
    let (server, port) = (echo_server(), free_port());
    let mut tunnel = Tunnel::start(to(&server, port), json!({}));
    let mut stream = wire::connect(port);
    stream.write_all(b"x").expect("the connection is open");
    stream.read_exact(&mut [0]).expect("it is carried");
    tunnel.terminate();
    tunnel.wait_for_log("SIGTERM: no new connections");
    tunnel.terminate();
    assert_eq!(tunnel.process.ended(PATIENCE).and_then(|status| status.code()), Some(0), "{}", tunnel.log());
    assert_eq!(carried(&tunnel, 1)[0]["reason"], "stopped");
}

#[test]
fn limits_hold_for_tunnels() {
    let (server, port) = (echo_server(), free_port());
    // Long enough for a busy machine to find both places taken.
    let few = json!({ "client": { "max_connections": 2 }, "limits": { "when_full": "refuse", "idle_timeout": 8 } });
    let tunnel = Tunnel::start(to(&server, port), few);
    let mut open: Vec<_> = (0..2).map(|_| wire::connect(port)).collect();
    for stream in &mut open {
        stream.write_all(b"x").expect("the connection is open");
        stream.read_exact(&mut [0]).expect("it is carried");
    }
    assert_eq!(wire::fate(port, b""), Err(ErrorKind::ConnectionReset), "there is no place");
    tunnel.wait_for_log("client.max_connections is reached: 2 connections are open");
    assert_eq!(outcome(&mut open[0]), Ok(0), "idle for too long");
    assert!(carried(&tunnel, 2).iter().all(|line| line["reason"] == "idle_timeout"));
    let metrics = tunnel.metrics();
    assert_eq!(
        metrics.sum("qtls_connections_refused_total", &[("limit", "max_connections")]),
        1.0,
        "{}",
        metrics.text()
    );
    assert_eq!(metrics.sum("qtls_limit_hits_total", &[("limit", "idle_timeout")]), 2.0, "{}", metrics.text());

    let port = free_port();
    let tunnel = Tunnel::start(
        to(&server, port),
        json!({ "limits": { "per_address": 1, "when_full": "refuse", "connection_timeout": 8 } }),
    );
    let mut stream = wire::connect(port);
    stream.write_all(b"x").expect("the connection is open");
    stream.read_exact(&mut [0]).expect("it is carried");
    assert_eq!(wire::fate(port, b""), Err(ErrorKind::ConnectionReset), "the address has one already");
    assert_eq!(outcome(&mut stream), Ok(0), "it has lived for long enough");
    assert_eq!(carried(&tunnel, 1)[0]["reason"], "connection_timeout");
}

/// Asserts that a connection from this address to a tunnel is carried, and keeps it open.
#[track_caller]
fn carried_from(address: Ipv4Addr, port: u16) -> TcpStream {
    let mut stream = wire::connect_from(address, port);
    stream.write_all(b"x").expect("the connection is open");
    stream.read_exact(&mut [0]).expect("it is carried");
    stream
}

#[test]
fn limits_of_networks_memory_and_handshakes_hold_for_tunnels() {
    let server = echo_server();
    let refused =
        |tunnel: &Tunnel, limit: &str| tunnel.metrics().sum("qtls_connections_refused_total", &[("limit", limit)]);
    let [one, two, other] = [Ipv4Addr::new(127, 0, 7, 1), Ipv4Addr::new(127, 0, 7, 2), Ipv4Addr::new(127, 0, 8, 1)];

    let port = free_port();
    let limits = json!({ "per_network": 1, "network_prefix_v4": 24, "when_full": "refuse" });
    let tunnel = Tunnel::start(to(&server, port), json!({ "limits": limits }));
    let _one = carried_from(one, port);
    assert_eq!(wire::fate_from(two, port, b""), Err(ErrorKind::ConnectionReset), "the network has one");
    let _other = carried_from(other, port);
    assert_eq!(refused(&tunnel, "per_network"), 1.0);
    tunnel.wait_for_log("limits.per_network is reached: 1 connections of one network are open");

    // One is let in whatever the memory is.
    let port = free_port();
    let tunnel = Tunnel::start(to(&server, port), json!({ "limits": { "memory_mb": 1, "when_full": "refuse" } }));
    tunnel.metrics_when("memory that is measured", |_| tunnel.log().contains("listening"));
    let _one = carried_from(one, port);
    let met = (0..200).any(|_| {
        // The memory is measured ten times a second.
        std::thread::sleep(std::time::Duration::from_millis(20));
        wire::fate_from(two, port, b"") == Err(ErrorKind::ConnectionReset)
    });
    assert!(met, "the process takes more than 1 MiB, and still takes connections\n{}", tunnel.log());
    tunnel.wait_for_log("limits.memory_mb is reached: the process takes ");
    let log = tunnel.log();
    assert!(log.contains("or lower client.max_connections") && !log.contains("session_cache_size"), "{log}");
    assert!(refused(&tunnel, "memory") >= 1.0, "{}", tunnel.metrics().text());

    // Of ten at the same time, the turn of one is now.
    let port = free_port();
    let limits = json!({ "handshakes_per_second": 1, "when_full": "refuse" });
    let tunnel = Tunnel::start(to(&server, port), json!({ "limits": limits }));
    let tried: Vec<_> = (0..10).map(|_| std::thread::spawn(move || wire::fate(port, b"x"))).collect();
    let outcomes: Vec<_> = tried.into_iter().map(|tried| tried.join().expect("it ends")).collect();
    let reset = outcomes.iter().filter(|one| **one == Err(ErrorKind::ConnectionReset)).count();
    assert!(reset > 0 && outcomes.contains(&Ok(1)), "{outcomes:?}");
    assert_eq!(refused(&tunnel, "handshakes_per_second"), reset as f64);
    // Where they wait, each has its turn. A second's worth begins at once, and a pause makes up for no more than that.
    tunnel.rewrite_config(json!({ "limits": { "handshakes_per_second": 5, "when_full": "queue" } }));
    tunnel.reloads("applied", || tunnel.hang_up());
    let mut streams: Vec<_> = (0..25).map(|_| wire::connect(port)).collect();
    for stream in &mut streams {
        stream.write_all(b"x").expect("the connection is open");
    }
    assert!(streams.iter_mut().all(|stream| outcome(stream) == Ok(1)), "{}", tunnel.log());
    assert_eq!(refused(&tunnel, "handshakes_per_second"), reset as f64);
    let hits = tunnel.metrics().sum("qtls_limit_hits_total", &[("limit", "handshakes_per_second")]);
    assert!(hits > reset as f64, "{hits}: nobody waited");
}

#[test]
fn the_audit_log_tells_where_tunnels_lead_who_changed_that_and_which_servers_were_refused() {
    let (server, port, wrong) = (echo_server(), free_port(), free_port());
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let path = directory.path().join("audit.log");
    let events = |event: &str, count: usize| log::wait_for(&path, count, |line| line["event"] == event);
    let bundle = directory.path().join("ca.pem");
    std::fs::copy(Pki::shared().ca(), &bundle).expect("it can be copied");
    let (cert, key) = Pki::shared().client(Algorithm::EcdsaP384);
    let tunnels = json!([
        { "listen": format!("127.0.0.1:{port}"), "connect": server.address() },
        { "listen": format!("127.0.0.1:{wrong}"), "connect": server.address(), "server_name": "wrong.example" },
    ]);
    let mut tunnel = Tunnel::start(
        tunnels,
        json!({
            "logging": { "audit_file": path },
            "certificates": { "client_cert": cert, "client_key": key, "ca_bundle": bundle },
            "reload": { "watch_credentials": false },
        }),
    );
    let start = events("start", 1).remove(0);
    let id = tunnel.process.id();
    for (key, expected) in
        [("pid", json!(id)), ("cause", json!("start")), ("result", json!("ok")), ("generation", json!(1))]
    {
        assert_eq!(start[key], expected, "{start}");
    }
    let loaded = events("credential_loaded", 1).remove(0);
    assert_eq!((&loaded["origin"], &loaded["host"]), (&json!(cert), &Value::Null), "{loaded}");
    assert_eq!(loaded["sha256"].as_str().map(str::len), Some(64), "{loaded}");
    let policies = events("policy", 2);
    let words = |event: &Value, key: &str| event[key].as_str().expect("text").to_owned();
    assert_eq!(policies[1]["tunnel"], json!(format!("127.0.0.1:{wrong}")));
    let before = words(&policies[0], "policy");
    assert!(before.starts_with(&format!("to {}; groups X25519MLKEM768,", server.address())), "{before}");
    let expected = format!("server verified as localhost under {}", bundle.display());
    assert!(before.ends_with(&expected), "{before}");

    // One that isn't the server that it should be.
    assert_eq!(wire::fate(wrong, b""), Err(ErrorKind::ConnectionReset));
    let refusal = events("refusal", 1).remove(0);
    for (key, expected) in [
        ("result", json!("refused")),
        ("tunnel", json!(format!("127.0.0.1:{wrong}"))),
        ("server", json!(server.address())),
        ("server_name", json!("wrong.example")),
        ("reason", json!("verification")),
    ] {
        assert_eq!(refusal[key], expected, "{key} in {refusal}");
    }
    assert!(words(&refusal, "message").contains("wrong.example"), "{refusal}");

    tunnel.rewrite_config(json!({ "tls": { "pqc_only": true } }));
    tunnel.reloads("applied", || tunnel.hang_up());
    let reload = events("reload", 1).remove(0);
    assert_eq!(
        (&reload["cause"], &reload["result"], &reload["generation"]),
        (&json!("SIGHUP"), &json!("applied"), &json!(2))
    );
    let changed = events("policy_changed", 2).remove(0);
    assert_eq!((words(&changed, "before"), &changed["tunnel"]), (before, &json!(format!("127.0.0.1:{port}"))));
    assert!(!words(&changed, "after").contains(",x25519,"), "{changed}");
    // The same file, with other trust anchors in it; and the same certificate, which is not loaded anew.
    std::fs::copy(Pki::stranger().ca(), &bundle).expect("it is writable");
    tunnel.reloads("applied", || tunnel.hang_up());
    let changed = events("policy_changed", 4).remove(2);
    assert_eq!((&changed["trust"], &changed["before"]), (&json!("changed"), &changed["after"]), "{changed}");
    tunnel.rewrite_config(json!({ "tls": { "pqc_only": 3 } }));
    tunnel.reloads("refused", || tunnel.hang_up());
    let refused = events("reload", 3).remove(2);
    assert_eq!(refused["result"], json!("refused"), "{refused}");
    assert!(words(&refused, "reason").contains("tls.pqc_only"), "{refused}");
    assert_eq!(events("credential_loaded", 1).len(), 1);

    tunnel.terminate();
    assert_eq!(tunnel.process.ended(PATIENCE).and_then(|status| status.code()), Some(0), "{}", tunnel.log());
    let stop = events("stop", 1).remove(0);
    assert_eq!((&stop["cause"], &stop["result"]), (&json!("SIGTERM"), &json!("ok")), "{stop}");
}

#[test]
fn a_server_with_a_wrong_name_is_not_spoken_to() {
    let (server, port) = (echo_server(), free_port());
    let listen = format!("127.0.0.1:{port}");
    let tunnels = json!([{ "listen": listen, "connect": server.address(), "server_name": "other.example" }]);
    let tunnel = Tunnel::start(tunnels, json!({}));
    let line = tunnel.wait_for_log(&format!("tunnel {listen}: "));
    assert!(line.contains("other.example") && line.contains("--server-name NAME"), "{line}");
    assert_eq!(wire::fate(port, b"secret\n"), Err(ErrorKind::ConnectionReset));
    let line = &failed(&tunnel, 1)[0];
    assert_eq!((&line["reason"], &line["retries"]), (&json!("verification"), &json!(0)), "{line}");
    let metrics = tunnel.metrics();
    assert_eq!(metrics.sum("qtls_tunnel_failures_total", &[("reason", "verification")]), 1.0, "{}", metrics.text());
    assert_eq!(server.metrics().sum("qtls_bytes_total", &[]), 0.0);
}

#[test]
fn names_that_do_not_resolve_and_circles_are_told() {
    let (port, circle) = (free_port(), free_port());
    let listen = format!("127.0.0.1:{port}");
    let tunnel = Tunnel::start(
        json!([
            { "listen": listen, "connect": "no-such-host.invalid:8443" },
            // A name of this host, which shows when it is resolved.
            { "listen": format!("127.0.0.1:{circle}"), "connect": format!("localhost:{circle}") },
        ]),
        json!({ "client": { "max_retries": 0 } }),
    );
    tunnel.wait_for_log(&format!("tunnel {listen}: can't find the address of no-such-host.invalid"));
    tunnel.wait_for_log("of this process listens: it leads in a circle");
    assert_eq!(wire::fate(port, b""), Err(ErrorKind::ConnectionReset));
    assert_eq!(wire::fate(circle, b""), Err(ErrorKind::ConnectionReset));
    for reason in ["unreachable", "loop"] {
        tunnel.metrics_when(reason, |metrics| metrics.sum("qtls_tunnel_failures_total", &[("reason", reason)]) == 1.0);
    }
}

#[test]
fn a_program_that_leaves_while_it_waits_is_let_go() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let silent = listener.local_addr().expect("it is bound").port();
    let port = free_port();
    let tunnels = json!([{ "listen": format!("127.0.0.1:{port}"), "connect": format!("localhost:{silent}") }]);
    let tunnel = Tunnel::start(tunnels, json!({}));
    drop(wire::connect(port));
    let line = &failed(&tunnel, 1)[0];
    assert_eq!(line["reason"], "abandoned", "{line}");
    // By itself, it would be given up after client.connect_timeout: 30 s.
    assert!(line["duration_ms"].as_f64().is_some_and(|waited| waited < 25_000.0), "{line}");
}

#[test]
fn promtool_has_nothing_to_say_about_the_metrics() {
    let (server, port) = (echo_server(), free_port());
    let tunnel = Tunnel::start(to(&server, port), json!({}));
    exchange_tcp(port, "hello\n");
    carried(&tunnel, 1);
    let metrics = tunnel.metrics();
    let checked =
        run(peers::debian("promtool", [] as [PathBuf; 0]).args(["check", "metrics"]), metrics.text().as_bytes());
    let checked = checked.expect_success();
    assert_eq!((checked.stdout.as_str(), checked.stderr.as_str()), ("", ""));
    for other in ["qtls_upstream_up", "qtls_client_hellos_total", "qtls_bytes_total", "qtls_silent_connections_total"] {
        assert!(!metrics.text().contains(other), "{other} is about servers");
    }
    for path in ["/dashboard", "/"] {
        assert_eq!(wire::http_get(tunnel.metrics_port, path).status, 404, "{path}");
    }
}

#[test]
fn the_sandbox_holds_and_two_threads_share_the_work() {
    let (server, port) = (echo_server(), free_port());
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let socket = directory.path().join("x.sock");
    let tunnel = Tunnel::start_in(
        directory,
        json!([
            { "listen": format!("127.0.0.1:{port}"), "connect": server.address() },
            { "listen": format!("unix:{}", socket.display()), "connect": server.address() },
        ]),
        json!({ "sandbox": "required", "client": { "worker_threads": 2 } }),
    );
    let line = tunnel.wait_for_log("sandbox (required)");
    assert!(line.contains(&format!("connecting to the ports 53, {} only", server.port)), "{line}");
    for index in 0..20 {
        let text = format!("number {index}\n");
        assert_eq!(exchange_tcp(port, &text), echoed(&text));
        let stream = UnixStream::connect(&socket).expect("it listens");
        let answer = exchange(&stream, || stream.shutdown(Shutdown::Write).expect("it is open"), &text);
        assert_eq!(answer, echoed(&text));
    }
    // Where nothing was left open for it.
    let elsewhere = free_port();
    tunnel.rewrite_config(json!({ "tunnels": [
        { "listen": format!("127.0.0.1:{port}"), "connect": format!("localhost:{elsewhere}") },
    ] }));
    tunnel.reloads("refused", || tunnel.hang_up());
    tunnel.wait_for_log(&format!("port {elsewhere} is not among them"));
}

#[test]
fn a_stream_that_is_cut_off_is_not_passed_on_as_a_whole_one() {
    // Says a few words after the handshake, and closes without close_notify.
    let relay = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let cutting = relay.local_addr().expect("it is bound").port();
    let (server, port) = (echo_server(), free_port());
    let behind = server.port;
    std::thread::spawn(move || {
        for client in relay.incoming() {
            let (mut client, mut server) = (client.expect("it is accepted"), wire::connect(behind));
            std::thread::spawn(move || {
                let mut up = (client.try_clone().expect("a descriptor"), server.try_clone().expect("a descriptor"));
                std::thread::spawn(move || std::io::copy(&mut up.0, &mut up.1));
                // Up to the first answer, and no further.
                let (mut buffer, mut passed) = (vec![0; 1 << 16], 0);
                while let Ok(count @ 1..) = server.read(&mut buffer) {
                    let _ = client.write_all(&buffer[..count]);
                    passed += count;
                    if passed > 60_000 {
                        break;
                    }
                }
                // An end in order of TCP, and none of TLS.
                let _ = client.shutdown(Shutdown::Write);
            });
        }
    });
    let tunnels = json!([{ "listen": format!("127.0.0.1:{port}"), "connect": format!("localhost:{cutting}") }]);
    let tunnel = Tunnel::start(tunnels, json!({}));
    let mut stream = wire::connect(port);
    let mut writing = stream.try_clone().expect("a descriptor");
    let writer = std::thread::spawn(move || writing.write_all(&vec![b'x'; 1 << 20]));
    let mut received = Vec::new();
    let ended = stream.read_to_end(&mut received).map(drop);
    assert!(received.iter().all(|byte| *byte == b'x'));
    // A reset is told once, to whichever of the two meets it.
    let ends = [ended, writer.join().expect("it ends")].map(|end| end.map_err(|error| error.kind()));
    assert!(ends.contains(&Err(ErrorKind::ConnectionReset)), "{ends:?} after {} bytes", received.len());
    let line = &carried(&tunnel, 1)[0];
    assert_eq!(line["reason"], "truncated", "{line}");
}

#[test]
fn the_service_manager_hears_of_readiness_and_of_the_end() {
    let (server, port) = (echo_server(), free_port());
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("the directory is writable");
    manager.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
    let heard = |wanted: &str| loop {
        let mut message = [0; 1024];
        let length = manager.recv(&mut message).unwrap_or_else(|error| panic!("no {wanted}: {error}"));
        let message = String::from_utf8_lossy(&message[..length]).into_owned();
        if message.lines().any(|line| line.starts_with(wanted)) {
            return message;
        }
    };
    let mut command = programs::command("qtls-client");
    command.args(["--tunnel", &format!("127.0.0.1:{port}={}", server.address()), "--ca"]).arg(Pki::shared().ca());
    let mut process = Running::start(command.env("NOTIFY_SOCKET", &path));
    heard("READY=1");
    assert_eq!(exchange_tcp(port, "hello\n"), echoed("hello\n"));
    process.signal(Signal::TERM);
    let message = heard("STOPPING=1");
    assert!(message.contains("EXTEND_TIMEOUT_USEC="), "{message}");
    assert_eq!(process.ended(PATIENCE).and_then(|status| status.code()), Some(0), "{}", process.said());
}

#[test]
fn who_starts_as_root_becomes_the_user_that_the_socket_belongs_to() {
    if !rustix::process::getuid().is_root() {
        // Only root can become another user.
        return;
    }
    let server = echo_server();
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let socket = directory.path().join("x.sock");
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(directory.path(), open).expect("it is ours");
    let tunnel = Tunnel::start_in(
        directory,
        json!([{ "listen": format!("unix:{}", socket.display()), "connect": server.address() }]),
        // The shared certificates are for who runs the tests.
        json!({ "client": { "user": "nobody" }, "certificates": { "ca_bundle": null }, "tls": { "verify_peer": false } }),
    );
    tunnel.wait_for_log("the servers are NOT verified");
    let owner = std::fs::metadata(&socket).expect("it is there").uid();
    let status = std::fs::read_to_string(format!("/proc/{}/status", tunnel.process.id())).expect("it runs");
    let running_as = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("Linux has this row");
    assert_ne!(owner, 0);
    assert!(running_as.split_whitespace().all(|uid| uid == owner.to_string()), "{running_as} and {owner}");
    let stream = UnixStream::connect(&socket).expect("it listens");
    let answer = exchange(&stream, || stream.shutdown(Shutdown::Write).expect("it is open"), "hello\n");
    assert_eq!(answer, echoed("hello\n"));
}
