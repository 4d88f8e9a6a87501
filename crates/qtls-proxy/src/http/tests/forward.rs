//! What the upstream gets to see of a request, and the client of a response.

use std::cell::Cell;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::{Front, Origin, empty, facts, fields, frames, full, get, head, read, rest, run, until};
use crate::http::Cause;
use crate::upstream::sockets::refusing;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// What every request gets on its way, but for the host.
const INTRODUCTION: [&str; 6] = [
    "x-forwarded-proto: https",
    "x-qtls-cipher: TLS_AES_256_GCM_SHA384",
    "x-qtls-group: SecP384r1MLKEM1024",
    "x-qtls-pq: yes",
    "x-qtls-resumed: no",
    "x-qtls-signature: ecdsa_secp384r1_sha384",
];

fn introduced<'a>(client: &'a str, host: &'a [&'a str], own: &'a [&'a str]) -> Vec<&'a str> {
    let mut lines = [&INTRODUCTION[..], &[client], host, own].concat();
    lines.sort_unstable();
    lines
}

const A_EXAMPLE: [&str; 3] = [
    "forwarded: for=192.0.2.7;by=127.0.0.1;proto=https;host=a.example",
    "host: a.example",
    "x-forwarded-host: a.example",
];

#[test]
fn the_upstream_is_told_who_visits_and_no_forgeries() {
    run(async {
        let origin = Origin::answering(OK).await;
        let front = Front::proxy(&[origin.port]);
        let request = "GET /a/../b?c=%20d&e HTTP/1.1\r\nHost: a.example\r\nAccept: */*\r\nUser-Agent: test\r\n\
            Connection: close, X-Forwarded-For, X-Nominated, Host\r\nX-Nominated: 1\r\n\
            X-Forwarded-For: 203.0.113.1\r\nx_forwarded_for: 203.0.113.1\r\nX-Forwarded-Port: 1\r\n\
            Forwarded: for=203.0.113.1\r\nX-Real-IP: 203.0.113.1\r\nX-QTLS-PQ: no\r\nX_QTLS_Group: x\r\n\
            X-Qtls-Else: x\r\nClient-Cert: :x:\r\nclient_cert_chain: x\r\nProxy: http://203.0.113.1\r\n\
            TE: gzip\r\nUpgrade: websocket\r\nKeep-Alive: timeout=5\r\n\r\n";
        let (answer, end) = front.talk(request).await;
        let seen = origin.seen();
        assert!(seen[0].starts_with("GET /a/../b?c=%20d&e HTTP/1.1\r\n"), "{}", seen[0]);
        let expected = introduced("x-forwarded-for: 192.0.2.7", &A_EXAMPLE, &["accept: */*", "user-agent: test"]);
        assert_eq!(fields(&seen[0]), expected);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nhi"), "{answer}");
        assert_eq!((end.cause, end.requests), (Cause::Closed, 1));
    });
}

#[test]
fn http2_requests_become_http1() {
    run(async {
        let origin = Origin::answering(OK).await;
        let mut front = Front::proxy(&[origin.port]);
        front.client = "[::ffff:192.0.2.7]:1".parse().unwrap();
        let (mut client, _) = front.connect_h2().await;
        let request = Request::get("https://a.example/b?c")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            .header("x_qtls_pq", "no")
            .header("x-forwarded-for", "203.0.113.1")
            .body(empty())
            .unwrap();
        let (status, fields_back, content) = read(client.send(request).await.unwrap()).await;
        assert_eq!((status, content.as_str()), (200, "hi"));
        assert!(fields_back.contains("content-length: 2\n"), "{fields_back}");
        let seen = origin.seen();
        assert!(seen[0].starts_with("GET /b?c HTTP/1.1\r\n"), "{}", seen[0]);
        let own = ["cookie: a=1; b=2", "te: trailers", "connection: te"];
        assert_eq!(fields(&seen[0]), introduced("x-forwarded-for: 192.0.2.7", &A_EXAMPLE, &own));
    });
}

#[test]
fn facts_decide_what_is_said() {
    run(async {
        let origin = Origin::answering(OK).await;
        let mut front = Front::proxy(&[origin.port]);
        front.client = "[2001:db8::9]:1".parse().unwrap();
        let facts =
            qtls_core::facts::Facts { group: 0x001d, suite: 0x1303, scheme: None, resumed: true, ..facts(None) };
        let (mut client, _) = front.connect_as(facts);
        client.write_all(b"GET / HTTP/1.1\r\nHost: [::1]:8443\r\n\r\n").await.unwrap();
        head(&mut client).await;
        let seen = origin.seen();
        for line in [
            "x-qtls-group: x25519",
            "x-qtls-pq: no",
            "x-qtls-resumed: yes",
            "x-qtls-signature: none",
            "x-qtls-cipher: TLS_CHACHA20_POLY1305_SHA256",
            "x-forwarded-for: 2001:db8::9",
            "x-forwarded-host: [::1]:8443",
            "forwarded: for=\"[2001:db8::9]\";by=127.0.0.1;proto=https;host=\"[::1]:8443\"",
        ] {
            assert!(fields(&seen[0]).contains(&line), "{line} is not in {}", seen[0]);
        }
    });
}

#[test]
fn hosts_come_from_where_the_protocol_version_has_them() {
    run(async {
        let origin = Origin::answering(OK).await;
        let front = Front::proxy(&[origin.port]);
        let requests = [
            ("GET https://A.example:443/x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n", "a.example", "/x"),
            ("GET http://a.example HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n", "a.example", "/"),
            ("OPTIONS * HTTP/1.1\r\nHost: a.example:1\r\nConnection: close\r\n\r\n", "a.example:1", "*"),
            ("GET / HTTP/1.0\r\nHost: b.example\r\n\r\n", "b.example", "/"),
            ("GET / HTTP/1.0\r\n\r\n", "sni.example", "/"),
        ];
        for (index, (request, host, target)) in requests.into_iter().enumerate() {
            let (answer, _) = front.talk(request).await;
            assert!(answer.contains(" 200 OK\r\n"), "{answer}");
            let seen = &origin.seen()[index];
            assert!(seen.contains(&format!(" {target} HTTP/1.1\r\n")), "{seen}");
            assert!(fields(seen).contains(&format!("host: {host}").as_str()), "{seen}");
        }
    });
}

#[test]
fn upstream_connections_are_reused_by_all_clients() {
    run(async {
        let origin = Origin::answering(OK).await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect();
        for _ in 0..3 {
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            until(&mut client, "\r\n\r\nhi").await;
        }
        let (mut client, _) = front.connect_h2().await;
        for _ in 0..3 {
            assert_eq!(client.get("/").await.0, 200);
        }
        assert_eq!((origin.seen().len(), origin.accepted()), (6, 1));
    });
}

#[test]
fn concurrent_requests_have_connections_of_their_own_and_at_most_32_are_kept() {
    run(async {
        let gate = Rc::new(tokio::sync::Semaphore::new(0));
        let opened = gate.clone();
        let origin = Origin::start(move |_, mut stream, _| {
            let gate = opened.clone();
            async move {
                loop {
                    head(&mut stream).await;
                    gate.acquire().await.unwrap().forget();
                    stream.write_all(OK.as_bytes()).await.unwrap();
                }
            }
        });
        let origin = origin.await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect_h2().await;
        for round in 1..=2 {
            let mut responses = Vec::new();
            for _ in 0..40 {
                client.sender.ready().await.unwrap();
                responses.push(tokio::task::spawn_local(client.sender.send_request(get("/"))));
            }
            // 8 of the 40 had to make room, and so are new in the second round.
            while origin.accepted() < 40 + (round - 1) * 8 {
                tokio::task::yield_now().await;
            }
            gate.add_permits(40);
            for response in responses {
                assert_eq!(read(response.await.unwrap().unwrap()).await.0, 200);
            }
        }
        assert_eq!(origin.accepted(), 48);
    });
}

#[test]
fn what_belongs_to_the_upstreams_connection_stays_there() {
    run(async {
        let origin = Origin::answering(
            "HTTP/1.1 200 Fine\r\nContent-Length: 2\r\nConnection: X-Internal\r\nX-Internal: 10.0.0.1\r\n\
             Keep-Alive: timeout=5\r\nUpgrade: h2c\r\nProxy-Authenticate: Basic\r\nServer: origin\r\n\
             Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\nhi",
        )
        .await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let head = head(&mut client).await;
        assert!(head.starts_with("HTTP/1.1 200 Fine\r\n"), "{head}");
        let without_date: Vec<_> = fields(&head).into_iter().filter(|line| !line.starts_with("date: ")).collect();
        assert_eq!(without_date, ["content-length: 2", "server: origin", "set-cookie: a=1", "set-cookie: b=2"]);
        let (mut client, _) = front.connect_h2().await;
        let (_, fields, _) = client.get("/").await;
        assert!(!fields.contains("internal") && fields.contains("set-cookie: b=2\n"), "{fields}");
    });
}

#[test]
fn responses_without_content_keep_the_connection() {
    run(async {
        let origin = Origin::start(|_, mut stream, seen| async move {
            loop {
                let request = head(&mut stream).await;
                let answer = match request.split(' ').nth(1).unwrap() {
                    "/204" => "HTTP/1.1 204 No Content\r\n\r\n",
                    "/304" => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 10\r\n\r\n",
                    "/100" => {
                        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
                    }
                    // The length of what GET would bring.
                    _ => "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
                };
                seen.borrow_mut().push(request);
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect();
        for (request, status, field) in [
            ("GET /204", "204 No Content", None),
            ("GET /304", "304 Not Modified", Some("etag: \"x\"")),
            ("HEAD /", "200 OK", Some("content-length: 1000")),
            ("GET /100", "200 OK", Some("content-length: 0")),
        ] {
            client.write_all(format!("{request} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
            let head = head(&mut client).await;
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
            if let Some(field) = field {
                assert!(fields(&head).contains(&field), "{head}");
            }
        }
        let (mut client, _) = front.connect_h2().await;
        let request = Request::head("https://a.example/").body(empty()).unwrap();
        let (status, fields, content) = read(client.send(request).await.unwrap()).await;
        assert_eq!((status, content.as_str()), (200, ""));
        assert!(fields.contains("content-length: 1000\n"), "{fields}");
        assert_eq!(client.get("/204").await.0, 204);
        assert_eq!(origin.accepted(), 1);
    });
}

/// Reads a request with a body of this many bytes on the wire, and answers.
async fn origin_with_body(length: usize) -> Origin {
    Origin::start(move |_, mut stream, seen| async move {
        let mut request = head(&mut stream).await.into_bytes();
        let start = request.len();
        request.resize(start + length, 0);
        stream.read_exact(&mut request[start..]).await.unwrap();
        seen.borrow_mut().push(String::from_utf8(request).unwrap());
        stream.write_all(OK.as_bytes()).await.unwrap();
        rest(&mut stream).await;
    })
    .await
}

#[test]
fn bodies_keep_their_framing() {
    run(async {
        let chunked = "5\r\nhello\r\n0\r\n\r\n";
        for (method, framing, body) in [
            ("POST", "content-length: 5", "hello"),
            ("PUT", "transfer-encoding: chunked", chunked),
            // hyper's client would leave it out.
            ("GET", "transfer-encoding: chunked", chunked),
        ] {
            let origin = origin_with_body(body.len()).await;
            let front = Front::proxy(&[origin.port]);
            let (answer, _) = front
                .talk(format!("{method} / HTTP/1.1\r\nHost: a\r\n{framing}\r\nConnection: close\r\n\r\n{body}"))
                .await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            let seen = &origin.seen()[0];
            assert!(fields(seen.split_once("\r\n\r\n").unwrap().0).contains(&framing), "{seen}");
            assert!(seen.ends_with(&format!("\r\n\r\n{body}")), "{seen}");
        }
        // Without a length in HTTP/2, there is none in HTTP/1.1.
        let origin = origin_with_body(chunked.len()).await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect_h2().await;
        let body = frames([Frame::data(Bytes::from_static(b"hello"))]);
        let request = Request::post("https://a.example/").body(body).unwrap();
        assert_eq!(client.send(request).await.unwrap().status(), 200);
        assert!(origin.seen()[0].ends_with(&format!("\r\n\r\n{chunked}")), "{}", origin.seen()[0]);
    });
}

#[test]
fn trailers_pass_both_ways_without_forgeries() {
    run(async {
        let passed_on = "5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n";
        let origin = Origin::start(move |_, mut stream, seen| async move {
            loop {
                let request = head(&mut stream).await;
                let body = until(&mut stream, "0\r\nx-sum: 1\r\n\r\n").await;
                seen.borrow_mut().push(request + &body);
                let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-state, connection\r\n\r\n\
                              2\r\nhi\r\n0\r\nX-State: done\r\nConnection: close\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect();
        let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\nConnection: TE\r\n\
            Trailer: X-Sum, X-QTLS-PQ, x_forwarded_for\r\n\r\n5\r\nhello\r\n0\r\nX-QTLS-PQ: no\r\nX-Sum: 1\r\n\
            x_forwarded_for: 203.0.113.1\r\n\r\n";
        client.write_all(request.as_bytes()).await.unwrap();
        let answer = until(&mut client, "2\r\nhi\r\n0\r\nx-state: done\r\n\r\n").await;
        assert!(answer.contains("trailer: x-state, connection\r\n"), "{answer}");
        assert!(origin.seen()[0].ends_with(passed_on), "{}", origin.seen()[0]);

        let (mut client, _) = front.connect_h2().await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "1".parse().unwrap());
        trailers.insert("x-qtls-pq", "no".parse().unwrap());
        let body = frames([Frame::data(Bytes::from_static(b"hello")), Frame::trailers(trailers)]);
        let request = Request::post("https://a.example/").header("trailer", "x-sum, x-qtls-pq").body(body).unwrap();
        let response = client.send(request).await.unwrap();
        let collected = response.into_body().collect().await.unwrap();
        let trailers = collected.trailers().unwrap();
        assert_eq!((trailers.len(), &trailers["x-state"]), (1, &"done".parse().unwrap()));
        assert!(origin.seen()[1].ends_with(passed_on), "{}", origin.seen()[1]);
    });
}

const EXPECTING: &str =
    "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-Continue\r\nConnection: close\r\n\r\n";

#[test]
fn a_body_is_asked_for_when_the_upstream_asks_for_it() {
    run(async {
        let (ask, asked) = tokio::sync::oneshot::channel();
        let asked = Cell::new(Some(asked));
        let origin = Origin::start(move |_, mut stream, seen| {
            let asked = asked.take();
            async move {
                let request = head(&mut stream).await;
                seen.borrow_mut().push(request);
                let () = asked.unwrap().await.unwrap();
                stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.unwrap();
                let mut body = [0; 5];
                stream.read_exact(&mut body).await.unwrap();
                seen.borrow_mut().push(String::from_utf8_lossy(&body).into_owned());
                stream.write_all(OK.as_bytes()).await.unwrap();
            }
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect();
        client.write_all(EXPECTING.as_bytes()).await.unwrap();
        while origin.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(fields(&origin.seen()[0]).contains(&"expect: 100-continue"), "{}", origin.seen()[0]);
        let mut byte = [0];
        let early = tokio::time::timeout(std::time::Duration::from_millis(200), client.read(&mut byte)).await;
        assert!(early.is_err(), "the client was asked before the upstream had asked");
        ask.send(()).unwrap();
        assert_eq!(head(&mut client).await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"hello").await.unwrap();
        assert!(rest(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!(origin.seen()[1], "hello");
    });
}

#[test]
fn a_final_answer_in_place_of_the_question_passes_and_no_body_is_asked_for() {
    run(async {
        let origin = Origin::start(|_, mut stream, seen| async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno").await.unwrap();
            let body = rest(&mut stream).await;
            seen.borrow_mut().push(body);
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (answer, end) = front.talk(EXPECTING).await;
        assert!(answer.starts_with("HTTP/1.1 401 Unauthorized\r\n") && answer.ends_with("\r\n\r\nno"), "{answer}");
        assert_eq!((end.cause, end.requests), (Cause::Closed, 1));
        while origin.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(origin.seen(), [""], "nothing came behind the head");
        // Nor where the connection could have gone on: what the client sends next would be taken for the body.
        let (answer, _) = front.talk(EXPECTING.replace("Connection: close\r\n", "")).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");

        let (_socket, closed) = refusing();
        let (answer, _) = Front::proxy(&[closed]).talk(EXPECTING).await;
        assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
    });
}

#[test]
fn an_upstream_that_does_not_know_expectations_is_given_the_body() {
    run(async {
        let origin = origin_with_body(5).await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect();
        client.write_all(EXPECTING.as_bytes()).await.unwrap();
        assert_eq!(head(&mut client).await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"hello").await.unwrap();
        assert!(rest(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
        // HTTP/2 clients may ask, too; they are not told, and send after a while.
        let origin = origin_with_body("5\r\nhello\r\n0\r\n\r\n".len()).await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect_h2().await;
        let body = frames([Frame::data(Bytes::from_static(b"hello"))]);
        let request = Request::post("https://a.example/").header("expect", "100-continue").body(body).unwrap();
        assert_eq!(client.send(request).await.unwrap().status(), 200);
    });
}

#[test]
fn an_early_answer_reaches_the_client_that_is_still_sending() {
    run(async {
        let origin = Origin::start(|_, mut stream, seen| async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            let upload = rest(&mut stream).await;
            seen.borrow_mut().push(upload);
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (answer, end) = front.talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nfirst").await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        // The rest of the body is awaited by no one, here or there.
        assert_eq!((end.cause, end.goodbye), (Cause::Closed, true));
        while origin.seen() != ["first"] {
            tokio::task::yield_now().await;
        }
        let (mut client, _) = front.connect_h2().await;
        let request = Request::post("https://a.example/").header("content-length", "1000").body(full("first"));
        // The client that says less than it announced is at fault, and only its own stream suffers.
        let _ = client.send(request.unwrap()).await;
        let request = Request::post("https://a.example/").body(full("all")).unwrap();
        assert_eq!(client.send(request).await.unwrap().status(), 413);
    });
}

#[test]
fn an_upstream_of_http_1_0_serves_all_clients() {
    run(async {
        let origin = Origin::start(|_, mut stream, _| async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nuntil the end").await.unwrap();
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (answer, _) = front.talk("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && fields(&answer).contains(&"transfer-encoding: chunked"));
        assert!(answer.ends_with("D\r\nuntil the end\r\n0\r\n\r\n"), "{answer}");
        let (answer, end) = front.talk("GET / HTTP/1.0\r\n\r\n").await;
        assert!(answer.ends_with("\r\n\r\nuntil the end"), "{answer}");
        assert_eq!(end.cause, Cause::Closed);
        let (mut client, _) = front.connect_h2().await;
        assert_eq!(client.get("/").await.2, "until the end");
    });
}
