//! What is not TLS, or is TLS in unusual pieces, gets its right answer and disturbs nobody.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use qtls_interop::openssl::Client;
use qtls_interop::process::PATIENCE;
use qtls_interop::wire::{self, Rearrange, alert, connect, read_to_end, relay};
use qtls_interop::{Negotiated, Server};
use serde_json::json;

const P384: &str = "ecdsa_secp384r1_sha384";
/// RFC 9846 §6.2.
const UNEXPECTED_MESSAGE: u8 = 10;
const RECORD_OVERFLOW: u8 = 22;
const DECODE_ERROR: u8 = 50;

/// One counted failure for this reason.
#[track_caller]
fn failure(server: &Server, reason: &str) {
    server.metrics_when(&format!("a failure for {reason}"), |metrics| {
        metrics.sum("qtls_handshake_failures_total", &[("reason", reason)]) == 1.0
    });
}

/// A client that is served as if nothing had happened.
#[track_caller]
fn still_serves(server: &Server) {
    let exchange = Client::new(server.port).get("/status.json");
    let expected = Negotiated::new("X25519MLKEM768", P384);
    assert_eq!(exchange.negotiated(), expected);
    assert_eq!(Negotiated::from_json(&exchange.json()), expected);
}

#[test]
fn plain_http_is_told_to_use_https() {
    let server = Server::start(json!({}));
    for request in ["GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST /x HTTP/1.0\r\n\r\n", "OPTIONS * HTTP/1.1\r\n\r\n"] {
        let response = wire::exchange(server.port, request.as_bytes());
        assert_eq!(response.status, 400, "{response:?}");
        assert!(response.body.contains("https://"), "{response:?}");
    }
    server.metrics_when("three plain requests", |metrics| {
        metrics.sum("qtls_handshake_failures_total", &[("reason", "plain_http")]) == 3.0
    });
    still_serves(&server);
}

#[test]
fn plain_http_in_single_bytes_is_recognised_too() {
    let server = Server::start(json!({}));
    let mut stream = connect(server.port);
    for byte in b"GET / HTTP/1.1\r\n\r\n" {
        // The answer may come, and the connection close, before all of it is sent.
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
    }
    let answer = read_to_end(&mut stream);
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{:?}", String::from_utf8_lossy(&answer));
}

#[test]
fn garbage_gets_an_alert() {
    let server = Server::start(json!({}));
    let mut stream = connect(server.port);
    stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
    let answer = read_to_end(&mut stream);
    assert!(alert(&answer).is_some(), "no alert: {answer:x?}");
    failure(&server, "not_tls");
    server.wait_for_log("not valid TLS");
    still_serves(&server);
}

#[test]
fn a_client_hello_that_breaks_off_or_lies_about_its_length_is_refused() {
    let server = Server::start(json!({}));
    // A handshake record with a ClientHello whose body is nonsense.
    let mut stream = connect(server.port);
    stream.write_all(&[22, 3, 1, 0, 8, 1, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]).unwrap();
    assert_eq!(alert(&read_to_end(&mut stream)), Some(DECODE_ERROR));
    failure(&server, "not_tls");

    // Another handshake message where a ClientHello is due.
    let mut stream = connect(server.port);
    stream.write_all(&[22, 3, 1, 0, 4, 14, 0, 0, 0]).unwrap();
    let answer = read_to_end(&mut stream);
    assert_eq!(alert(&answer), Some(UNEXPECTED_MESSAGE), "{answer:x?} and in the log:\n{}", server.log());
    failure(&server, "protocol_violation");
    still_serves(&server);
}

#[test]
fn a_client_hello_in_single_bytes_is_understood() {
    let server = Server::start(json!({}));
    let port = relay(server.port, Rearrange::SingleBytes);
    let exchange = Client::new(port).groups("SecP384r1MLKEM1024").get("/status.json");
    let expected = Negotiated::new("SecP384r1MLKEM1024", P384);
    assert_eq!(exchange.negotiated(), expected);
    assert_eq!(Negotiated::from_json(&exchange.json()), expected);
    server.expect_handshakes(&[&expected]);
}

#[test]
fn a_client_hello_across_records_is_understood() {
    for size in [1, 7, 500] {
        let server = Server::start(json!({}));
        let port = relay(server.port, Rearrange::Records(size));
        let exchange = Client::new(port).get("/status.json");
        let expected = Negotiated::new("X25519MLKEM768", P384);
        assert_eq!(exchange.negotiated(), expected, "records of {size} bytes");
        server.expect_handshakes(&[&expected]);
    }
}

#[test]
fn an_oversized_record_is_refused() {
    let server = Server::start(json!({}));
    let mut stream = connect(server.port);
    // RFC 9846 §5.1: at most 2^14 bytes, and 256 more where encrypted.
    let mut record = vec![22, 3, 1, 0xff, 0xff];
    record.resize(5 + 0xffff, 0);
    // The refusal may come before all of it is sent.
    let _ = stream.write_all(&record);
    let answer = read_to_end(&mut stream);
    let refused = alert(&answer);
    // A reset may overtake the alert when the rest of the record is still unread.
    assert!(refused == Some(RECORD_OVERFLOW) || refused == Some(DECODE_ERROR) || answer.is_empty(), "{answer:x?}");
    failure(&server, "not_tls");
    still_serves(&server);
}

#[test]
fn a_client_hello_without_end_is_cut_off() {
    let server = Server::start(json!({}));
    let mut stream = connect(server.port);
    // A ClientHello that claims 16 MiB. More than a tenth of a MiB of it is never needed to see that.
    let mut record = vec![22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    record.resize(5 + 0x4000, 0);
    for _ in 0..8 {
        // The refusal may come before all of it is sent.
        if stream.write_all(&record).is_err() {
            break;
        }
        record[5..9].fill(0);
    }
    failure(&server, "not_tls");
    read_to_end(&mut stream);
    still_serves(&server);
}

#[test]
fn half_open_connections_are_closed_in_time() {
    // Less than by default, and long enough for the second one to be gone before, also on a busy machine.
    let server = Server::start(json!({ "limits": { "handshake_timeout": 4 } }));
    let mut begun = connect(server.port);
    begun.write_all(&[22, 3, 1, 2, 0, 1, 0]).unwrap();
    let begin = Instant::now();
    read_to_end(&mut begun);
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
    failure(&server, "timeout");

    // The other side is gone in the middle: no time-out, and no failure of another kind.
    let mut gone = connect(server.port);
    gone.write_all(&[22, 3, 1, 2, 0, 1, 0]).unwrap();
    gone.shutdown(Shutdown::Write).unwrap();
    read_to_end(&mut gone);
    failure(&server, "closed");
    server.metrics_when("no connection", |metrics| metrics.sum("qtls_connections_active", &[]) == 0.0);
}

#[test]
fn a_tcp_probe_is_counted_apart_and_makes_no_noise() {
    let server = Server::start(json!({}));
    let before = server.log();
    for _ in 0..20 {
        drop(connect(server.port));
    }
    // One is counted a moment before it is no longer open.
    let metrics = server.metrics_when("20 probes, and their end", |metrics| {
        metrics.sum("qtls_silent_connections_total", &[]) == 20.0 && metrics.sum("qtls_connections_active", &[]) == 0.0
    });
    assert_eq!(metrics.sum("qtls_handshake_failures_total", &[]), 0.0, "{}", metrics.text());
    let noise: Vec<_> = server.log()[before.len()..]
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("INFO"))
        .map(str::to_owned)
        .collect();
    assert!(noise.is_empty(), "{noise:?}");
}

#[test]
fn five_thousand_silent_connections_disturb_nobody() {
    const COUNT: usize = 5000;
    wire::allow_open_files(12_000);
    // The first of them have to be there yet when the last one comes, also on a busy machine.
    let server = Server::start(json!({ "limits": { "handshake_timeout": 15 } }));
    // What the first connections allocate for good is not what is measured.
    still_serves(&server);
    let before = server.resident_memory();

    let mut silent: Vec<TcpStream> = (0..COUNT).map(|_| connect(server.port)).collect();
    server.metrics_when("all of them", |metrics| metrics.sum("qtls_connections_active", &[]) >= COUNT as f64);
    let during = server.resident_memory();
    let begin = Instant::now();
    still_serves(&server);
    // Most of it is the start of that client; it doesn't wait until they are gone.
    assert!(begin.elapsed() < Duration::from_secs(10), "another client waited {:?}", begin.elapsed());
    // Not optimised, a task takes three times what it takes in a release.
    assert!(during < before + (160 << 20), "{} KiB each", (during - before) / 1024 / COUNT as u64);

    server.metrics_when("none of them", |metrics| metrics.sum("qtls_connections_active", &[]) == 0.0);
    for stream in &mut silent {
        assert_eq!(stream.read(&mut [0; 64]).unwrap_or(0), 0, "an answer to nothing");
    }
    let metrics = server.metrics();
    assert_eq!(
        metrics.sum("qtls_handshake_failures_total", &[("reason", "timeout")]),
        COUNT as f64,
        "{}",
        metrics.text()
    );
    still_serves(&server);
    // The server gives it back within moments, not at once.
    let deadline = Instant::now() + PATIENCE;
    let mut after = server.resident_memory();
    while after > before + (16 << 20) && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
        after = server.resident_memory();
    }
    assert!(after <= before + (16 << 20), "{before} bytes before, {during} during, {after} after");
}

#[test]
fn a_request_is_answered_when_the_client_has_ended_its_side() {
    let server = Server::start(json!({}));
    let request = b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let port = relay(server.port, Rearrange::Together);
    let finished = qtls_interop::client::Client::new(port).send(request).expect_success();
    let answer = qtls_interop::client::received(&finished);
    assert!(answer.starts_with("HTTP/1.1 200"), "{}", finished.said());
    server.expect_handshakes(&[&Negotiated::new("X25519MLKEM768", P384)]);
}
