//! One HTTP exchange, over HTTP/1.1 and HTTP/2.

use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use qtls_core::credentials::{Credential, files};
use qtls_core::endpoint::{ServerCredential, ServerEndpoint, ServerOptions};
use qtls_core::policy::{KeyAlgorithm, Policy};
use qtls_core::sessions::SessionLimits;
use qtls_proxy::handshake::accept;
use qtls_proxy::signing::SigningPool;
use serde_json::json;

use crate::certificates::{Ca, Leaf};
use crate::program::Client;
use crate::server::{Connection, Options, Server, close_notify, tls, until_gone};

/// Answers each request with `answer`, in HTTP/1.1, and reports the request.
fn http1(leaf: &Leaf, answer: &'static [u8]) -> Server<io::Result<String>> {
    let options = Options { alpn: &["http/1.1"], ..Options::new(leaf) };
    tls(options.config(), move |connection| {
        let request = read_head(connection)?;
        connection.write_all(answer)?;
        connection.flush()?;
        // The client closes when it has the whole response.
        let _ = connection.read(&mut [0; 1]);
        close_notify(connection)?;
        Ok(request)
    })
}

fn read_head(connection: &mut Connection) -> io::Result<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        connection.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8(head).unwrap())
}

fn authority() -> (Ca, Leaf) {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    (ca, leaf)
}

#[test]
fn the_body_is_printed_and_with_include_the_head_before_it() {
    let (ca, leaf) = authority();
    let answer =
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 6\r\nX-A: 1\r\nX-A: 2\r\n\r\nbody\xff\n";
    let server = http1(&leaf, answer);
    let client = || Client::to(server.port(), &ca.file()).args(["--request", "GET /a/b?c=d"]);
    client().run().code(0).prints(b"body\xff\n").says("  alpn         http/1.1\n");
    let request = server.report().unwrap();
    assert!(request.starts_with("GET /a/b?c=d HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("host: localhost:{}\r\n", server.port())), "{request}");
    assert!(request.contains(&format!("user-agent: qtls-client/{}\r\n", qtls_core::version::VERSION)), "{request}");
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 6\r\nx-a: 1\r\nx-a: 2\r\n\r\n";
    client().args(["-i", "-q"]).run().code(0).prints([head.as_bytes(), b"body\xff\n"].concat());
}

#[test]
fn json_has_the_response_in_it() {
    let (ca, leaf) = authority();
    let server = http1(
        &leaf,
        b"HTTP/1.1 201 Created\r\nContent-Length: 7\r\nX-A: 1\r\nX-A: 2\r\n\r\n\xec\x8b\x9c\xed\x97\x98\n",
    );
    let client = Client::to(server.port(), &ca.file()).args(["--json", "--request", "POST /"]);
    let object = client.run().code(0).json();
    assert_eq!(object["group"], "X25519MLKEM768");
    assert_eq!(object["alpn"], "http/1.1");
    let headers = json!({ "content-length": ["7"], "x-a": ["1", "2"] });
    let expected = json!({ "status": 201, "version": "HTTP/1.1", "headers": headers, "body": "시험\n" });
    assert_eq!(object["response"], expected);
    // A server that waits for a body must be told that there is none (RFC 9110, section 8.6).
    let request = server.report().unwrap();
    assert!(request.starts_with("POST / HTTP/1.1\r\n") && request.contains("content-length: 0\r\n"), "{request}");

    let server = http1(&leaf, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n\xff\x00");
    let object = Client::to(server.port(), &ca.file()).args(["--json", "--request", "/"]).run().code(0).json();
    assert_eq!(object["response"]["body_base64"], "/wA=");
}

#[test]
fn the_status_counts_only_with_fail() {
    let (ca, leaf) = authority();
    let server = http1(&leaf, b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnone\n");
    let client = || Client::to(server.port(), &ca.file()).args(["--request", "/"]);
    client().run().code(0).prints("none\n");
    client().arg("--fail").run().code(22).prints("none\n").says("the response's status is 404 Not Found");
    let object = client().args(["--fail", "--json"]).run().code(22).json();
    assert_eq!(object["response"]["status"], 404);
    let server = http1(&leaf, b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n");
    Client::to(server.port(), &ca.file()).args(["--request", "/", "--fail"]).run().code(0).prints("");
}

#[test]
fn a_response_that_is_cut_off_is_printed_and_told() {
    let (ca, leaf) = authority();
    let cut = |answer: &'static [u8], close: bool| {
        let options = Options { alpn: &["http/1.1"], ..Options::new(&leaf) };
        let server = tls(options.config(), move |connection| {
            read_head(connection)?;
            connection.write_all(answer)?;
            connection.flush()?;
            if close { close_notify(connection) } else { Ok(()) }
        });
        Client::to(server.port(), &ca.file()).args(["--request", "/"]).run()
    };
    let short = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort";
    cut(short, true).code(3).prints("short").says("the server closed the connection before its response was complete");
    cut(short, false).code(3).prints("short").says("without close_notify: the end may have been cut off");
    // Where the end of the connection is the end of the body, only close_notify tells a whole body.
    let until_close = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end";
    cut(until_close, true).code(0).prints("until the end");
    cut(until_close, false).code(3).prints("until the end").says("without close_notify");
    cut(b"", true).code(3).prints("").says("before its response was complete");
    cut(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", true).code(3).says("the server's answer is not HTTP");
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let (ca, leaf) = authority();
    let options = Options { alpn: &["http/1.1"], ..Options::new(&leaf) };
    let server = tls(options.config(), |connection| {
        read_head(connection)?;
        connection.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")?;
        connection.flush()?;
        until_gone(&connection.sock);
        Ok(())
    });
    let client = Client::to(server.port(), &ca.file()).args(["--request", "/"]).env("QTLS__CLIENT__READ_TIMEOUT", "1");
    client.run().code(3).prints("part").says("the server has sent nothing for 1 s");
}

/// More than pipes, sockets and the windows of HTTP/2 hold.
const LARGE: usize = 32 << 20;

/// A server of HTTP/2 alone, on the engine of Q-TLS; it reports `METHOD URI` of each request.
fn http2(leaf: &Leaf) -> (u16, Receiver<String>) {
    let credential: Credential = files::credential(&leaf.cert_file, &leaf.key_file).unwrap();
    let endpoint = ServerEndpoint::new(ServerOptions {
        names: Vec::new(),
        policy: Arc::new(Policy::default()),
        credentials: vec![ServerCredential::new(credential)],
        client_verifier: None,
        sessions: SessionLimits { timeout: Duration::ZERO, capacity: 0 }.into(),
        alpn: vec![b"h2".to_vec()],
        previous: None,
    })
    .unwrap();
    let (port_sender, port) = channel();
    let (sender, requests) = channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async move {
            let pool = SigningPool::new(1).unwrap();
            let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            port_sender.send(listener.local_addr().unwrap().port()).unwrap();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let Ok(established) = accept(socket, Vec::new(), |offer| endpoint.decide(offer, None), &pool).await
                else {
                    continue;
                };
                let service = service_fn(|request: Request<hyper::body::Incoming>| {
                    sender.send(format!("{} {}", request.method(), request.uri())).unwrap();
                    let size = if request.uri().path() == "/large" { LARGE } else { 300_000 };
                    let body = Bytes::from(vec![b'x'; size]);
                    let response = Response::builder().header("x-group", "X25519MLKEM768").body(Full::new(body));
                    async { response }
                });
                let server = hyper::server::conn::http2::Builder::new(Local);
                // The client ends the connection as it likes.
                let _ = server.serve_connection(TokioIo::new(established.stream), service).await;
            }
        });
    });
    (port.recv_timeout(Duration::from_secs(30)).unwrap(), requests)
}

#[derive(Clone, Copy)]
struct Local;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Local {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

#[test]
fn http2_is_spoken_where_alpn_agrees_on_it() {
    let ca = Ca::new();
    let leaf = ca.server_for(KeyAlgorithm::EcdsaP256, &["localhost", "www.example.com"], 30);
    let (port, requests) = http2(&leaf);
    let request = || requests.recv_timeout(Duration::from_secs(30)).unwrap();
    let body = vec![b'x'; 300_000];
    let client = || Client::to(port, &ca.file()).args(["--request", "GET /status?x=1"]);
    client().run().code(0).prints(&body).says("  alpn         h2\n");
    assert_eq!(request(), format!("GET https://localhost:{port}/status?x=1"));

    let printed = client().arg("--include").run().code(0);
    assert!(printed.text().starts_with("HTTP/2 200\r\nx-group: X25519MLKEM768\r\n"), "{}", printed.text());
    request();

    let object = client().args(["--json", "--server-name", "www.example.com"]).run().code(0).json();
    assert_eq!(object["alpn"], "h2");
    assert_eq!((&object["response"]["status"], &object["response"]["version"]), (&json!(200), &json!("HTTP/2")));
    assert_eq!(object["response"]["body"].as_str().map(str::len), Some(body.len()));
    // The authority is the name that was verified, so that a server with several takes the right one.
    assert_eq!(request(), format!("GET https://www.example.com:{port}/status?x=1"));

    client().args(["--alpn", "http/1.1"]).run().code(5).says("NoApplicationProtocol");
}

#[test]
fn a_slow_reader_of_the_body_is_not_held_against_the_server() {
    let (ca, leaf) = authority();
    let (port, _requests) = http2(&leaf);
    let client = Client::to(port, &ca.file()).args(["--request", "GET /large"]).env("QTLS__CLIENT__READ_TIMEOUT", "1");
    let mut running = client.start_open();
    running.read(1);
    // Time itself is what is tested: longer than the server may be silent.
    thread::sleep(Duration::from_millis(2500));
    let finished = running.finish().code(0);
    assert_eq!(finished.stdout.len(), LARGE);
}
