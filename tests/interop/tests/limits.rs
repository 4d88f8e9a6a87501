//! What happens at each limit is what was chosen, it is seen in log and metrics, and it is over when it is over.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use qtls_interop::process::{PATIENCE, run};
use qtls_interop::rogue::{Rogue, h2};
use qtls_interop::upstreams::echo;
use qtls_interop::wire::{self, connect, connect_from};
use qtls_interop::{Server, openssl};
use rustix::process::Signal;
use serde_json::{Value, json};

const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);
/// Long enough for what happens to have happened, where it can't be awaited that it doesn't.
const MOMENT: Duration = Duration::from_millis(300);

/// A server in front of an echo.
fn server(max_connections: u32, limits: Value) -> Server {
    let upstream = json!({ "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] });
    Server::start(json!({ "server": { "max_connections": max_connections }, "limits": limits, "upstream": upstream }))
}

/// A client that is being served.
#[track_caller]
fn served(socket: TcpStream) -> Rogue {
    let mut client = Rogue::over(socket, &[]).unwrap_or_else(|error| panic!("not served: {error}"));
    still_served(&mut client);
    client
}

#[track_caller]
fn still_served(client: &mut Rogue) {
    client.send(b"hello").unwrap();
    let mut echo = [0; 5];
    assert_eq!((client.read(&mut echo).unwrap(), &echo), (5, b"hello"));
}

/// A client that connects and does its handshake in the background, where it may be reset at any step.
fn attempted(port: u16) -> Receiver<Result<Rogue, ErrorKind>> {
    let (done, result) = channel();
    thread::spawn(move || {
        let _ = done.send(attempt(port));
    });
    result
}

/// A client that does its handshake in the background.
fn later(socket: TcpStream) -> Receiver<Result<Rogue, ErrorKind>> {
    let (done, result) = channel();
    thread::spawn(move || {
        let _ = done.send(Rogue::over(socket, &[]).map_err(|error| error.kind()));
    });
    result
}

/// The client, as soon as its handshake is complete.
#[track_caller]
fn at_last(waiting: &Receiver<Result<Rogue, ErrorKind>>) -> Rogue {
    let mut client = waiting.recv_timeout(PATIENCE).expect("it is not served").expect("it is refused");
    still_served(&mut client);
    client
}

/// All of them are served, and leave when they were: in which order is the kernel's business.
#[track_caller]
fn all_in_their_turn(mut waiting: Vec<Receiver<Result<Rogue, ErrorKind>>>) {
    let begin = Instant::now();
    while !waiting.is_empty() {
        assert!(begin.elapsed() < 2 * PATIENCE, "{} are not served", waiting.len());
        waiting.retain(|waiting| match waiting.try_recv() {
            Ok(client) => {
                still_served(&mut client.expect("it is refused"));
                false
            }
            Err(_) => true,
        });
        thread::sleep(Duration::from_millis(5));
    }
}

#[track_caller]
fn still_waits(waiting: &Receiver<Result<Rogue, ErrorKind>>) {
    match waiting.recv_timeout(MOMENT) {
        Err(RecvTimeoutError::Timeout) => {}
        other => panic!("it doesn't wait: {other:?}"),
    }
}

/// A client that is reset without a byte.
#[track_caller]
fn reset(port: u16) {
    reset_from(Ipv4Addr::LOCALHOST, port);
}

/// The same, from another address.
#[track_caller]
fn reset_from(address: Ipv4Addr, port: u16) {
    assert_eq!(wire::fate_from(address, port, b""), Err(ErrorKind::ConnectionReset));
}

/// The handshake of a client that may be reset, also while it connects.
fn attempt(port: u16) -> Result<Rogue, ErrorKind> {
    let socket = wire::try_connect_from(Ipv4Addr::LOCALHOST, port);
    socket.and_then(|socket| Rogue::over(socket, &[])).map_err(|error| error.kind())
}

/// A client that is served as soon as there is a place, which the metrics may tell of a moment before.
#[track_caller]
fn served_soon(port: u16) -> Rogue {
    let begin = Instant::now();
    loop {
        match attempt(port) {
            Ok(mut client) => {
                still_served(&mut client);
                return client;
            }
            Err(error) => assert!(begin.elapsed() < PATIENCE, "not served: {error:?}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Waits for so many hits of a limit, and so many refused connections among them.
#[track_caller]
fn counted(server: &Server, limit: &str, hits: usize, refused: usize) {
    let metrics = server.metrics_when(&format!("{hits} hits of {limit}"), |metrics| {
        metrics.sum("qtls_limit_hits_total", &[("limit", limit)]) >= hits as f64
    });
    assert_eq!(metrics.sum("qtls_limit_hits_total", &[("limit", limit)]), hits as f64, "{}", metrics.text());
    assert_eq!(
        metrics.sum("qtls_connections_refused_total", &[("limit", limit)]),
        refused as f64,
        "{}",
        metrics.text()
    );
}

/// The whole message of the log's one warning about a limit, with its fields.
#[track_caller]
fn warning(server: &Server, limit: &str) -> String {
    let line = server.wait_for_warning(&format!("limit={limit}"));
    line.split_once(" WARN  ").expect("a warning").1.to_owned()
}

fn reload(server: &Server, changes: Value) {
    let (applied, _) = server.reloads();
    server.rewrite_config(changes);
    server.process.signal(Signal::HUP);
    server.metrics_when("a reload", |metrics| metrics.sum("qtls_reloads_total", &[("result", "applied")]) > applied);
}

#[test]
fn above_max_connections_new_ones_wait_until_others_end() {
    let server = server(2, json!({}));
    let mut clients = vec![served(connect(server.port)), served(connect(server.port))];
    let waiting = [later(connect(server.port)), later(connect(server.port))];
    counted_at_least(&server, "max_connections");
    waiting.iter().for_each(still_waits);
    assert_eq!(
        warning(&server, "max_connections"),
        "server.max_connections is reached: 2 connections are open, new ones wait in the kernel's queue; raise it if this \
         machine can carry more limit=max_connections"
    );
    clients.clear();
    clients.extend(waiting.iter().map(at_last));
    // All of them had to wait, and nobody was refused.
    assert_eq!(server.metrics().sum("qtls_connections_refused_total", &[]), 0.0);
    let over = server.wait_for_log("the limit max_connections is no longer reached");
    assert!(over.contains(" INFO ") && over.contains(" connections="), "{over}");
    assert_eq!(server.metrics().sum("qtls_limit_value", &[("limit", "max_connections")]), 2.0);
}

/// Waits for a hit of a limit.
#[track_caller]
fn counted_at_least(server: &Server, limit: &str) {
    server.metrics_when(&format!("a hit of {limit}"), |metrics| {
        metrics.sum("qtls_limit_hits_total", &[("limit", limit)]) >= 1.0
    });
}

#[test]
fn above_max_connections_new_ones_are_reset_where_that_is_chosen() {
    let server = server(2, json!({ "when_full": "refuse" }));
    let mut clients = vec![served(connect(server.port)), served(connect(server.port))];
    for _ in 0..10 {
        reset(server.port);
    }
    counted(&server, "max_connections", 10, 10);
    assert_eq!(
        warning(&server, "max_connections"),
        "server.max_connections is reached: 2 connections are open, new ones are refused; raise it if this machine can \
         carry more limit=max_connections"
    );
    clients.iter_mut().for_each(still_served);
    clients.pop();
    server.metrics_when("a place", |metrics| metrics.sum("qtls_connections_active", &[]) == 1.0);
    served_soon(server.port);
}

#[test]
fn an_address_waits_for_its_own_connections_and_holds_up_nobody_else() {
    let server = server(100, json!({ "per_address": 1, "handshake_timeout": 60 }));
    let first = served(connect(server.port));
    let second = later(connect(server.port));
    counted(&server, "per_address", 1, 0);
    still_waits(&second);
    // As many wait as may be open; more are reset.
    reset(server.port);
    counted(&server, "per_address", 2, 1);
    let other = served(connect_from(OTHER, server.port));
    let metrics = server.metrics();
    assert_eq!(metrics.sum("qtls_connections_waiting", &[]), 1.0, "{}", metrics.text());
    assert_eq!(
        warning(&server, "per_address"),
        "limits.per_address is reached: 1 connections of one address are open, more of them wait, and beyond as many \
         again are refused; raise it, or turn it off, if many clients share an address limit=per_address client=127.0.0.1"
    );
    drop(first);
    let second = at_last(&second);
    // Who waits longer than a handshake may take is reset.
    reload(&server, json!({ "limits": { "handshake_timeout": 2 } }));
    reset(server.port);
    counted(&server, "per_address", 3, 2);
    let metrics = server.metrics();
    assert_eq!(metrics.sum("qtls_connections_waiting", &[]), 0.0, "{}", metrics.text());
    assert_eq!(metrics.sum("qtls_handshake_failures_total", &[]), 0.0, "{}", metrics.text());
    drop((second, other));
    server.metrics_when("nobody", |metrics| metrics.sum("qtls_connections_active", &[]) == 0.0);
    // With time enough for a handshake on a busy machine.
    reload(&server, json!({ "limits": { "handshake_timeout": 60 } }));
    served(connect(server.port));
}

#[test]
fn a_network_is_limited_as_a_whole() {
    let server = server(100, json!({ "per_network": 2, "network_prefix_v4": 16, "when_full": "refuse" }));
    let clients = [served(connect(server.port)), served(connect_from(OTHER, server.port))];
    reset(server.port);
    reset_from(Ipv4Addr::new(127, 0, 200, 3), server.port);
    counted(&server, "per_network", 2, 2);
    served(connect_from(ELSEWHERE, server.port));
    assert_eq!(
        warning(&server, "per_network"),
        "limits.per_network is reached: 2 connections of one network are open, more are refused; raise it, or turn it \
         off, if many clients share a network limit=per_network client=127.0.0.0/16"
    );
    drop(clients);
}

#[test]
fn handshakes_beyond_the_rate_wait_for_their_turn() {
    let server = server(100, json!({ "handshakes_per_second": 4, "handshake_timeout": 30 }));
    // A probe that says nothing takes nobody's turn.
    for _ in 0..20 {
        drop(connect(server.port));
    }
    server.metrics_when("20 probes", |metrics| metrics.sum("qtls_silent_connections_total", &[]) == 20.0);
    let begin = Instant::now();
    let waiting: Vec<_> = (0..12).map(|_| later(connect(server.port))).collect();
    let clients: Vec<_> = waiting.iter().map(at_last).collect();
    // Four at once, and eight more at four a second.
    assert!(begin.elapsed() >= Duration::from_millis(1900), "{:?}", begin.elapsed());
    assert_eq!(server.metrics().sum("qtls_handshakes_total", &[]), 12.0);
    counted_at_least(&server, "handshakes_per_second");
    assert_eq!(
        warning(&server, "handshakes_per_second"),
        "limits.handshakes_per_second is reached: of more than 4 a second, the others wait for their turn; raise it if \
         the processor has room limit=handshakes_per_second"
    );
    drop(clients);
}

#[test]
fn handshakes_beyond_the_rate_are_reset_where_that_is_chosen() {
    let server = server(100, json!({ "handshakes_per_second": 2, "when_full": "refuse" }));
    let outcomes: Vec<_> = (0..20).map(|_| attempted(server.port)).collect();
    let outcomes: Vec<_> = outcomes.iter().map(|outcome| outcome.recv_timeout(PATIENCE).unwrap()).collect();
    let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    // Two at once; on a slow machine some more have their turn meanwhile.
    assert!((1..=18).contains(&refused), "{refused} of 20");
    for outcome in &outcomes {
        assert!(outcome.as_ref().is_ok() || outcome.as_ref().is_err_and(is_reset), "{outcome:?}");
    }
    counted(&server, "handshakes_per_second", refused, refused);
}

/// What a reset looks like to who was still writing, and to who was reading.
fn is_reset(kind: &ErrorKind) -> bool {
    matches!(kind, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Sends without end to everybody.
fn source() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || while stream.write_all(&[b'x'; 65_536]).is_ok() {});
        }
    });
    port
}

#[test]
fn above_the_memory_budget_new_connections_wait_until_others_end() {
    for (when_full, refuses) in [("queue", false), ("refuse", true)] {
        let upstream = json!({ "protocol": "tcp", "servers": [format!("127.0.0.1:{}", source())] });
        let limits = json!({ "memory_mb": 40, "when_full": when_full });
        let server = Server::start(json!({ "limits": limits, "upstream": upstream }));
        // Readers that read nothing: each makes the server hold what its upstream sends.
        let mut readers = Vec::new();
        let begin = Instant::now();
        while server.metrics().sum("qtls_limit_hits_total", &[("limit", "memory")]) == 0.0 {
            assert!(begin.elapsed() < 2 * PATIENCE, "{} readers, {} bytes", readers.len(), server.resident_memory());
            readers.push(attempted(server.port));
            thread::sleep(Duration::from_millis(5));
        }
        // One of them found the limit.
        assert!(server.resident_memory() > 36 << 20, "{}", server.resident_memory());
        let line = warning(&server, "memory");
        let what = if refuses { "new ones are refused" } else { "new ones wait in the kernel's queue" };
        let begins = "limits.memory_mb is reached: the process takes ";
        let ends = format!(
            " connections open, {what}; raise it, or lower server.max_connections or tls.session_cache_size limit=memory"
        );
        assert!(line.starts_with(begins) && line.contains(" MiB of 40 with ") && line.ends_with(&ends), "{line}");
        if refuses {
            reset(server.port);
        } else {
            let waiting = later(connect(server.port));
            still_waits(&waiting);
            readers.push(waiting);
        }
        let most = server.resident_memory();
        assert!(most < 120 << 20, "{most}");
        // They go, and with them what was held for them.
        for reader in readers {
            drop(reader.recv_timeout(PATIENCE).ok());
        }
        let begin = Instant::now();
        while attempt(server.port).is_err() {
            assert!(begin.elapsed() < PATIENCE, "nobody is served again\n{}", server.metrics().text());
            thread::sleep(Duration::from_millis(50));
        }
        server.wait_for_log("the limit memory is no longer reached");
    }
}

#[test]
fn a_connection_ends_with_close_notify_when_its_time_is_over_however_busy_it_is() {
    let server = server(100, json!({ "connection_timeout": 4 }));
    let client = openssl::Client::new(server.port).arguments(&["-msg"]).start();
    let mut busy = served(connect(server.port));
    let mut chunk = [0; 65_536];
    let end = loop {
        if busy.send(&[b'x'; 1000]).is_err() {
            break "closed".to_owned();
        }
        match busy.read(&mut chunk) {
            Ok(0) => break "close_notify".to_owned(),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    // It may have been sending at that moment, and then is told by a reset as well.
    assert!(["close_notify", "closed"].contains(&end.as_str()) || end.contains("reset"), "{end}");
    assert!(client.stdout.becomes(PATIENCE, |text| text.contains("warning close_notify")), "{}", client.said());
    counted(&server, "connection_timeout", 2, 0);
    server.wait_for_log("reason=connection_timeout");
}

#[test]
fn an_http_connection_is_told_to_go_when_its_time_is_over() {
    let server = Server::start(json!({ "limits": { "connection_timeout": 4 } }));
    // One after the other, so that each has asked within its time, also on a busy machine.
    let mut h1 = Rogue::connect(server.port, &["http/1.1"]);
    h1.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let (answer, end) = h1.read_to_end();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK") && answer.ends_with(b"ok\n"), "{answer:?}");
    assert_eq!(end, "close_notify");
    let mut http2 = Rogue::connect(server.port, &["h2"]);
    http2.send(&h2::preface()).unwrap();
    http2.send(&h2::frame(h2::HEADERS, h2::END_STREAM | h2::END_HEADERS, 1, &h2::get("/health"))).unwrap();
    let (frames, end) = h2::answering_until_end(&mut http2);
    assert!(frames.iter().any(|frame| frame.kind == h2::HEADERS && frame.stream == 1), "{frames:?}");
    assert_eq!((h2::goaway(&frames), end.as_str()), (Some(0), "close_notify"));
    counted(&server, "connection_timeout", 2, 0);
    server.wait_for_log("reason=connection_timeout");
}

#[test]
fn limits_change_with_a_reload_while_connections_hold_and_await_places() {
    let server = server(100, json!({ "per_address": 1, "handshake_timeout": 60 }));
    let mut clients = vec![served(connect(server.port))];
    let waiting = later(connect(server.port));
    counted(&server, "per_address", 1, 0);
    reload(&server, json!({ "limits": { "per_address": 2 } }));
    clients.push(at_last(&waiting));
    let waiting = later(connect(server.port));
    counted(&server, "per_address", 2, 0);
    reload(&server, json!({ "limits": { "per_address": 0 }, "server": { "max_connections": 3 } }));
    clients.push(at_last(&waiting));
    let waiting = later(connect(server.port));
    counted_at_least(&server, "max_connections");
    reload(&server, json!({ "server": { "max_connections": 4 } }));
    clients.push(at_last(&waiting));
    clients.iter_mut().for_each(still_served);
    reload(&server, json!({ "limits": { "handshakes_per_second": 1, "when_full": "refuse" } }));
    reset(server.port);
    let metrics = server.metrics();
    assert_eq!(metrics.sum("qtls_limit_value", &[("limit", "handshakes_per_second")]), 1.0, "{}", metrics.text());
    assert_eq!(metrics.sum("qtls_limit_value", &[("limit", "max_connections")]), 4.0, "{}", metrics.text());
}

#[test]
fn with_fewer_descriptors_than_connections_the_rest_wait() {
    const COUNT: usize = 150;
    // 110, of which 74 are for everything else: each connection takes two.
    let upstream = json!({ "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] });
    let server = Server::with_open_files(110, json!({ "upstream": upstream, "limits": { "handshake_timeout": 60 } }));
    assert!(
        server.log().contains(
            "server.max_connections is 10000, but the limit of open files suffices for 18 connections; raise it \
             (LimitNOFILE= in a systemd unit), or lower server.max_connections"
        ),
        "{}",
        server.log()
    );
    let waiting: Vec<_> = (0..COUNT).map(|_| later(connect(server.port))).collect();
    // The metrics are reachable meanwhile, since a part is left for them.
    server.metrics_when("18 connections, and that there are no more", |metrics| {
        metrics.sum("qtls_connections_active", &[]) == 18.0
            && metrics.sum("qtls_limit_hits_total", &[("limit", "descriptors")]) >= 1.0
    });
    assert_eq!(
        warning(&server, "descriptors"),
        "no file descriptors are left for more connections: 18 are open, new ones wait in the kernel's queue; raise the \
         limit of open files (LimitNOFILE= in a systemd unit), or lower server.max_connections limit=descriptors"
    );
    // As those that are served end, the others are.
    all_in_their_turn(waiting);
    served(connect(server.port));
    server.wait_for_log("the limit descriptors is no longer reached");
    let metrics = server.metrics();
    assert_eq!(metrics.sum("qtls_upstream_errors_total", &[]), 0.0, "{}", metrics.text());
    assert_eq!(metrics.sum("qtls_handshake_failures_total", &[]), 0.0, "{}", metrics.text());
}

#[test]
fn without_any_descriptor_left_accepting_pauses_and_goes_on() {
    let server = server(100, json!({ "handshake_timeout": 60 }));
    let mut first = served(connect(server.port));
    // Nothing can be accepted, nor anything else be opened.
    limit_open_files(&server, 5);
    let waiting: Vec<_> = (0..20).map(|_| later(connect(server.port))).collect();
    server.wait_for_warning("no file descriptors are left for more connections");
    waiting.iter().take(3).for_each(still_waits);
    still_served(&mut first);
    limit_open_files(&server, 4096);
    all_in_their_turn(waiting);
    server.wait_for_log("the limit descriptors is no longer reached");
    let told = server.log().matches("no file descriptors are left").count();
    assert_eq!(told, 1, "{}", server.log());
    still_served(&mut first);
    assert_eq!(wire::http_get(server.metrics_port, "/metrics").status, 200);
}

/// Sets the limit of open files of the running server, of which the hard one stays.
fn limit_open_files(server: &Server, count: usize) {
    let pid = server.process.id().to_string();
    run(Command::new("prlimit").args(["--pid", &pid, &format!("--nofile={count}:")]), b"").expect_success();
}
