//! SIGTERM and SIGINT stop the server cleanly: no new connection, open ones end with close_notify, exit code 0.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use qtls_interop::openssl::Client;
use qtls_interop::process::PATIENCE;
use qtls_interop::upstreams::echo;
use qtls_interop::{Running, Server};
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
        let server = Server::start(json!({}));
        let port = server.port;
        let begin = Instant::now();
        server.process.signal(signal);
        let finished = server.process.finish(PATIENCE).expect_success();
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
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
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(10), "{took:?}\n{}", finished.said());
}

#[test]
fn an_open_connection_may_finish_while_new_ones_are_refused() {
    let (server, client, mut input) = with_connection(20);
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
    server.process.finish(Duration::from_secs(15)).expect_success();
}

#[test]
fn a_second_signal_ends_the_wait() {
    let (server, _client, _input) = with_connection(600);
    server.process.signal(Signal::TERM);
    server.wait_for_log("no new connections");
    server.process.signal(Signal::TERM);
    let finished = server.process.finish(Duration::from_secs(10)).expect_success();
    assert!(finished.stderr.contains("second signal"), "{}", finished.said());
}
