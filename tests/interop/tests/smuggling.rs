//! Requests that two programs in a row could read differently, sent by OpenSSL as they are: each is refused, and the server
//! behind, which writes down every byte that it gets, gets none.

#![allow(clippy::print_stdout)]

use std::io::Read;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};
use std::thread;

use qtls_interop::Server;
use qtls_interop::openssl::Client;
use serde_json::json;

/// A server that answers nothing and keeps what it is sent.
struct Recording {
    port: u16,
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Recording {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let kept = bytes.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (Ok(mut stream), kept) = (stream, kept.clone()) else { return };
                thread::spawn(move || {
                    let mut buffer = [0; 4096];
                    while let Ok(count @ 1..) = stream.read(&mut buffer) {
                        kept.lock().expect("nobody panics with it").extend_from_slice(&buffer[..count]);
                    }
                });
            }
        });
        Self { port, bytes }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().expect("nobody panics with it")).into_owned()
    }
}

const BEHIND: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[test]
fn every_one_of_them_is_400_and_not_a_byte_is_passed_on() {
    let recording = Recording::start();
    let upstream = json!({ "protocol": "http", "servers": [format!("127.0.0.1:{}", recording.port)] });
    let server = Server::start(json!({ "upstream": upstream }));
    let post =
        |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n\r\n{body}{BEHIND}");
    let requests = [
        // CL.TE, TE.CL, and lengths that contradict themselves.
        post("Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nContent-Length: 4", "5c\r\n"),
        post("Content-Length: 5\r\nContent-Length: 6", "hello!"),
        post("Content-Length: 5\r\nContent-Length: 5", "hello"),
        post("Content-Length: 5, 5", "hello"),
        // TE.TE.
        post("Transfer-Encoding: xchunked", "0\r\n\r\n"),
        post("Transfer-Encoding : chunked", "0\r\n\r\n"),
        post("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"),
        post("Transfer-Encoding: \u{b}chunked", "0\r\n\r\n"),
        post("X: y\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        post("X: y\rTransfer-Encoding: chunked", "0\r\n\r\n"),
        post("X: \0", ""),
        // Whose request it is.
        format!("GET / HTTP/1.1\r\n\r\n{BEHIND}"),
        format!("GET / HTTP/1.1\r\nHost: localhost\r\nHost: other.example\r\n\r\n{BEHIND}"),
        format!("GET http://other.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n{BEHIND}"),
        format!("GET / HTTP/1.1\r\nHost: localhost@other.example\r\n\r\n{BEHIND}"),
        format!("GET / HTTP/1.1\n Host: localhost\n\n{BEHIND}"),
        format!("GET / HTTP/1.1\nHost: localhost\n\n{BEHIND}"),
    ];
    for request in &requests {
        let exchange = Client::new(server.port).send(request.as_bytes());
        let answer = &exchange.finished.stdout;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer:?} for {request:?}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer:?} for {request:?}");
        assert_eq!(recording.text(), "", "passed on of {request:?}");
        assert_eq!(exchange.negotiated().group, "X25519MLKEM768");
    }
    assert_eq!(server.metrics().sum("qtls_upstream_requests_total", &[]), 0.0);
    println!("{} requests, none of which was passed on", requests.len());
}

#[test]
fn a_chunked_body_that_goes_wrong_never_looks_complete_behind() {
    let recording = Recording::start();
    let upstream = json!({ "protocol": "http", "servers": [format!("127.0.0.1:{}", recording.port)] });
    let server = Server::start(json!({ "upstream": upstream }));
    for body in [
        "5\nhello\r\n0\r\n\r\n",
        "5;x\nhello\r\n0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\n\r\n",
        "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n",
    ] {
        let request = format!("POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{body}{BEHIND}");
        let exchange = Client::new(server.port).send(request.as_bytes());
        let answer = &exchange.finished.stdout;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer:?} for {body:?}");
        let passed = recording.text();
        assert!(!passed.contains("0\r\n\r\n") && !passed.contains("smuggled"), "{passed:?} for {body:?}");
    }
}
