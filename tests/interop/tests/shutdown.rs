//! SIGTERM and SIGINT stop the server cleanly: no new connection, open ones end with close_notify, exit code 0.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use qtls_interop::openssl::Client;
use qtls_interop::process::PATIENCE;
use qtls_interop::rogue::Rogue;
use qtls_interop::upstreams::echo;
use qtls_interop::wire::connect;
use qtls_interop::{Pki, Running, Server, peers};
use rustix::process::Signal;
use serde_json::json;

/// A server in front of an echo, with one connection that has been used.
fn with_connection(drain_timeout: u32) -> (Server, Running, std::process::ChildStdin) {
    let upstream = json!({ "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] });
    let server = Server::start(json!({ "server": { "drain_timeout": drain_timeout }, "upstream": upstream }));
    let mut client = Client::new(server.port).arguments(&["-msg"]).start();
    let mut input = client.stdin();
    writeln!(input, "hello").expect("the connection is open");
    client.stdout.wait_for_line("hello");
    (server, client, input)
}

#[test]
fn an_idle_server_stops_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        // Far longer than the test waits.
        let server = Server::start(json!({ "server": { "drain_timeout": 600 } }));
        let port = server.port;
        server.process.signal(signal);
        let finished = server.process.finish(PATIENCE).expect_success();
        assert!(!finished.stderr.contains("ERROR"), "{}", finished.said());
        TcpStream::connect(("127.0.0.1", port)).expect_err("nothing listens");
    }
}

#[test]
fn open_connections_end_with_close_notify_when_the_time_is_up() {
    let (server, client, _input) = with_connection(1);
    let begin = Instant::now();
    server.process.signal(Signal::TERM);
    assert!(client.stdout.becomes(PATIENCE, |text| text.contains("warning close_notify")), "{}", client.said());
    let finished = server.process.finish(PATIENCE).expect_success();
    let took = begin.elapsed();
    assert!(took >= Duration::from_millis(900), "{took:?}\n{}", finished.said());
}

#[test]
fn an_open_connection_may_finish_while_new_ones_are_refused() {
    let (server, client, mut input) = with_connection(600);
    server.process.signal(Signal::TERM);
    // The listener is closed when the log says so; a connection of before still works.
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", server.port)).is_ok() {
        assert!(begin.elapsed() < PATIENCE, "still accepting\n{}", server.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    writeln!(input, "still here").expect("the connection is open");
    client.stdout.wait_for_line("still here");
    drop((input, client));
    server.process.finish(PATIENCE).expect_success();
}

#[test]
fn a_second_signal_ends_the_wait() {
    let (server, _client, _input) = with_connection(600);
    server.process.signal(Signal::TERM);
    server.wait_for_log("no new connections");
    server.process.signal(Signal::TERM);
    let finished = server.process.finish(PATIENCE).expect_success();
    assert!(finished.stderr.contains("second signal"), "{}", finished.said());
}

/// An HTTP server that answers one request: half of it at once, and the rest when it is told to. Returns its port.
fn halting(proceed: mpsc::Receiver<()>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let mut request = [0; 4096];
        assert!(stream.read(&mut request)? > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")?;
        proceed.recv().expect("the test waits for the rest");
        stream.write_all(b"-rest")
    });
    port
}

#[test]
fn an_http2_client_gets_goaway_and_the_rest_of_its_response() {
    let (proceed, told) = mpsc::channel();
    let upstream = json!({ "protocol": "http", "servers": [format!("127.0.0.1:{}", halting(told))] });
    let server = Server::start(json!({ "server": { "drain_timeout": 600 }, "upstream": upstream }));
    let options = json!({ "port": server.port, "ca": Pki::shared().ca(), "get": "/" });
    let client = Running::start(&mut peers::node("node/h2.mjs", &options));
    client.stdout.wait_for_line(r#"{"event":"response","status":200}"#);
    server.process.signal(Signal::TERM);
    // NO_ERROR: the connection ends because the server does, and what was asked is answered.
    client.stdout.wait_for_line(r#"{"event":"goaway","code":0}"#);
    proceed.send(()).expect("the upstream waits");
    client.stdout.wait_for_line(r#"{"event":"end","bytes":10}"#);
    client.finish(PATIENCE).expect_success();
    let finished = server.process.finish(PATIENCE).expect_success();
    assert!(!finished.stderr.contains("closing what is open"), "{}", finished.said());
}

#[test]
fn a_drain_delay_goes_on_accepting_and_then_stops() {
    let server = Server::start(json!({ "server": { "drain_delay": 5, "drain_timeout": 60 } }));
    server.process.signal(Signal::TERM);
    server.wait_for_log("no longer ready; new connections are accepted for 5 s more");
    // Connected within the delay, however long the rest takes.
    let mut late = Rogue::over(connect(server.port), &["http/1.1"]).expect("it is accepted");
    late.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("it is open");
    let (answer, end) = late.read_to_end();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK") && answer.ends_with(b"ok\n"), "{answer:?}");
    assert_eq!(end, "close_notify");
    let port = server.port;
    let finished = server.process.finish(PATIENCE).expect_success();
    assert!(finished.stderr.contains("SIGTERM: no new connections"), "{}", finished.said());
    TcpStream::connect(("127.0.0.1", port)).expect_err("nothing listens");
}

#[test]
fn connections_that_wait_in_the_kernel_when_the_signal_comes_are_served() {
    let upstream = json!({ "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] });
    let server = Server::start(json!({ "server": { "drain_timeout": 600 }, "upstream": upstream }));
    server.process.signal(Signal::STOP);
    let mut clients: Vec<_> = (0..12).map(|_| Client::new(server.port).start()).collect();
    // Their connections are complete: what the peer could accept, it has to serve.
    for client in &clients {
        client.stderr.wait_for_line("Connecting to 127.0.0.1");
    }
    await_connections(server.port, clients.len());
    server.process.signal(Signal::TERM);
    server.process.signal(Signal::CONT);
    for client in &mut clients {
        writeln!(client.stdin(), "served").expect("the connection is open");
        client.stdout.wait_for_line("served");
    }
    drop(clients);
    server.process.finish(PATIENCE).expect_success();
}

/// More of them than the runtime lets a task take in one go.
#[test]
fn hundreds_of_connections_that_wait_in_the_kernel_when_the_signal_comes_are_served() {
    const COUNT: usize = 400;
    // Hundreds of handshakes, one after the other, take their time.
    let server = Server::start(json!({ "server": { "drain_timeout": 600 }, "limits": { "handshake_timeout": 300 } }));
    server.process.signal(Signal::STOP);
    let waiting: Vec<_> = (0..COUNT).map(|_| connect(server.port)).collect();
    await_connections(server.port, COUNT);
    server.process.signal(Signal::TERM);
    server.process.signal(Signal::CONT);
    for (index, socket) in waiting.into_iter().enumerate() {
        served(socket).unwrap_or_else(|error| panic!("connection {index}: {error}\n{}", server.log()));
    }
    server.process.finish(PATIENCE).expect_success();
}

/// Clients that go on connecting neither keep the server from stopping, nor does it break its word to one that it let in.
#[test]
fn clients_that_keep_connecting_do_not_hold_a_stop_up() {
    let server = Server::start(json!({ "server": { "drain_timeout": 600 } }));
    let port = server.port;
    let signalled = std::sync::atomic::AtomicBool::new(false);
    // Each of them ends when nobody listens any more, and counts whom it saw served before the signal.
    let knocking = || {
        let mut before = 0;
        while let Ok(socket) = TcpStream::connect(("127.0.0.1", port)) {
            socket.set_read_timeout(Some(PATIENCE)).expect("it is a duration");
            socket.set_nodelay(true).expect("it is open");
            let after_it = signalled.load(std::sync::atomic::Ordering::SeqCst);
            // Who is still in the kernel's queue at the end is reset there: before the server has said anything.
            let Ok(session) = Rogue::over(socket, &["http/1.1"]) else { continue };
            answered(session).expect("whoever has had a handshake has an answer");
            before += u32::from(!after_it);
        }
        before
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(knocking)).collect();
        // And some who only knock, as fast as they can.
        let pressing: Vec<_> =
            (0..4).map(|_| scope.spawn(|| while TcpStream::connect(("127.0.0.1", port)).is_ok() {})).collect();
        server.metrics_when("clients that were served", |metrics| metrics.sum("qtls_handshakes_total", &[]) > 20.0);
        signalled.store(true, std::sync::atomic::Ordering::SeqCst);
        server.process.signal(Signal::TERM);
        let served = clients.into_iter().map(|client| client.join().expect("nobody is cut off"));
        let before: u32 = served.sum();
        assert!(before > 0, "nobody was served before the signal");
        for client in pressing {
            client.join().expect("it only knocks");
        }
    });
    let finished = server.process.finish(PATIENCE).expect_success();
    assert!(!finished.stderr.contains("closing what is open"), "{}", finished.said());
}

/// A handshake, a request and its answer, to the end.
fn served(socket: TcpStream) -> std::io::Result<()> {
    answered(Rogue::over(socket, &["http/1.1"])?)
}

fn answered(mut session: Rogue) -> std::io::Result<()> {
    session.send(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let (answer, end) = session.read_to_end();
    let text = String::from_utf8_lossy(&answer).into_owned();
    match text.starts_with("HTTP/1.1 200 OK") && text.ends_with("ok\n") && end == "close_notify" {
        true => Ok(()),
        false => Err(std::io::Error::other(format!("{text:?}, then {end}"))),
    }
}

/// Waits until the kernel has `count` connections to this port of 127.0.0.1 established on the server's side.
fn await_connections(port: u16, count: usize) {
    let local = format!("0100007F:{port:04X}");
    let begin = Instant::now();
    loop {
        let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux has it");
        let established = |line: &&str| {
            let mut columns = line.split_whitespace().skip(1);
            columns.next() == Some(&local) && columns.nth(1) == Some("01")
        };
        if table.lines().filter(established).count() >= count {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "not {count} connections to {local}:\n{table}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
