//! What upstreams do wrong, and who learns what of it.

use std::rc::Rc;
use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::{Front, LONG, Origin, empty, fields, full, get, head, read, rest, run, until};
use crate::http::Cause;
use crate::upstream::capture::Captured;
use crate::upstream::sockets::{refusing, silent};

const GET: &str = "GET /secret?path HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

#[test]
fn a_refused_connection_is_502_and_a_silent_one_504() {
    run(async {
        let log = Captured::start();
        let (_socket, port) = refusing();
        let front = Front::proxy(&[port]);
        let (answer, _) = front.talk(GET).await;
        assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n502 Bad Gateway: the server behind this one can't be reached\n"), "{answer}");
        assert!(!answer.contains("127.0.0.1"), "{answer}");
        assert_eq!(front.errors(), ["refused"]);
        let lines = log.lines();
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(lines[0].contains(&format!("upstream 127.0.0.1:{port}: connection refused")), "{}", lines[0]);
        assert!(lines[0].contains("purpose=\"GET\"") && !lines[0].contains("secret"), "{}", lines[0]);

        let (_socket, _waiting, port) = silent();
        let front = Front::proxy(&[port]);
        let request = "GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nConnection: close\r\n\r\n";
        let (answer, _) = front.talk(request).await;
        assert!(answer.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"), "{answer}");
        let json: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(json["message"], "the server behind this one did not answer in time");
        assert_eq!(front.errors(), ["connect_timeout"]);
        assert!(log.lines()[1].contains("no connection within 300ms"), "{:?}", log.lines());
    });
}

#[test]
fn its_return_is_noticed() {
    run(async {
        let log = Captured::start();
        let (socket, port) = refusing();
        let front = Front::proxy(&[port]);
        let (mut client, _) = front.connect_h2().await;
        assert_eq!(client.get("/").await.0, 502);
        assert_eq!(client.get("/").await.0, 502);
        socket.listen(8).unwrap();
        socket.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(socket.into()).unwrap();
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            head(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
        });
        assert_eq!(client.get("/").await.0, 200);
        let lines = log.lines();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[1].contains(&format!("upstream 127.0.0.1:{port} is back")), "{}", lines[1]);
    });
}

#[test]
fn another_server_takes_over() {
    run(async {
        let (_socket, dead) = refusing();
        let origin = Origin::answering(OK).await;
        let front = Front::proxy(&[dead, origin.port]);
        let (mut client, _) = front.connect_h2().await;
        for _ in 0..4 {
            let request = Request::post("https://a.example/").body(empty()).unwrap();
            assert_eq!(read(client.send(request).await.unwrap()).await.0, 200);
        }
        assert_eq!((front.errors(), origin.accepted()), (vec!["refused".to_owned()], 1));
        assert_eq!(front.upstream(), (4.0, 1.0, 1), "requests, open connections, connections made");
    });
}

#[test]
fn no_answer_in_time_is_504() {
    run(async {
        let origin = Origin::start(|_, mut stream, seen| async move {
            head(&mut stream).await;
            // Ends when the connection does.
            rest(&mut stream).await;
            seen.borrow_mut().push("closed".to_owned());
        })
        .await;
        let front = Front::impatient(&[origin.port], LONG, Duration::from_millis(100));
        let (answer, end) = front.talk(GET).await;
        assert!(answer.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"), "{answer}");
        assert_eq!((front.errors(), end.cause), (vec!["response_timeout".to_owned()], Cause::Closed));
        while origin.seen() != ["closed"] {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn an_end_before_the_response_is_502() {
    run(async {
        for part in ["", "HTTP/1.1 200 OK\r\nContent-Le"] {
            let origin = Origin::start(move |_, mut stream, _| async move {
                head(&mut stream).await;
                stream.write_all(part.as_bytes()).await.unwrap();
            })
            .await;
            let front = Front::proxy(&[origin.port]);
            let (answer, _) = front.talk(GET).await;
            assert!(answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{answer}");
            assert!(answer.contains("closed the connection without an answer"), "{answer}");
            // A new connection is not tried twice.
            assert_eq!((front.errors(), origin.accepted()), (vec!["closed".to_owned()], 1));
        }
    });
}

#[test]
fn answers_that_cannot_be_passed_on_are_502() {
    run(async {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            "HTTP/1.1 200 OK\r\nX: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhi",
            "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\nX: y\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nhi",
            "HTTP/1.1 200 OK\rContent-Length: 2\r\r",
            "HTTP/1.1 200 OK\r\nX : y\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "SSH-2.0-OpenSSH_9.9\r\n\r\n",
            large(70_000),
            large_in_number(101),
        ] {
            let origin = Origin::answering(answer).await;
            let front = Front::proxy(&[origin.port]);
            let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, close\r\nUpgrade: h2c\r\n\r\n";
            let (response, _) = front.talk(request).await;
            assert!(response.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{response} for {answer}");
            assert_eq!(front.errors(), ["invalid_response"], "{answer}");
            assert!(!origin.seen()[0].contains("upgrade"), "{}", origin.seen()[0]);
        }
    });
}

/// A response whose head has this many bytes and a few more.
fn large(size: usize) -> &'static str {
    format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: {}\r\n\r\nhi", "x".repeat(size)).leak()
}

/// A response with one field more than this.
fn large_in_number(count: usize) -> &'static str {
    format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{}\r\nhi", "X: x\r\n".repeat(count)).leak()
}

#[test]
fn a_body_that_breaks_off_never_looks_complete() {
    run(async {
        for (framing, on_the_wire, seen_by_client) in [
            ("Content-Length: 10", "first", "first"),
            ("Transfer-Encoding: chunked", "5\r\nfirst\r\n", "5\r\nfirst\r\n"),
            ("Transfer-Encoding: chunked", "5\r\nfirst\r\nnot a size\r\n", "5\r\nfirst\r\n"),
        ] {
            let origin = Origin::start(move |_, mut stream, _| async move {
                head(&mut stream).await;
                let answer = format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{on_the_wire}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            })
            .await;
            let front = Front::proxy(&[origin.port]);
            let (answer, end) = front.talk("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            assert!(answer.ends_with(&format!("\r\n\r\n{seen_by_client}")), "{answer}");
            assert_eq!(
                (end.cause, end.goodbye, front.errors()),
                (Cause::UpstreamBrokeOff, false, vec!["broke_off".to_owned()])
            );

            let (mut client, _) = front.connect_h2().await;
            let response = client.send(get("/")).await.unwrap();
            assert_eq!(response.status(), 200);
            let mut body = response.into_body();
            let mut content = Vec::new();
            let error = loop {
                match body.frame().await {
                    Some(Ok(frame)) => content.extend_from_slice(frame.data_ref().unwrap()),
                    Some(Err(error)) => break error,
                    None => panic!("a clean end"),
                }
            };
            assert_eq!(content, b"first");
            assert!(format!("{error:?}").contains("INTERNAL_ERROR"), "{error:?}");
            // Only the stream is reset.
            assert_eq!(client.send(get("/")).await.unwrap().status(), 200);
        }
    });
}

#[test]
fn an_http_1_0_client_sees_the_break_too() {
    run(async {
        let origin = Origin::start(move |_, mut stream, _| async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n").await.unwrap();
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (answer, end) = front.talk("GET / HTTP/1.0\r\n\r\n").await;
        // There is no framing that could be incomplete: that close_notify is missing is the only sign.
        assert!(answer.ends_with("\r\n\r\nfirst"), "{answer}");
        assert_eq!((end.cause, end.goodbye), (Cause::UpstreamBrokeOff, false));
    });
}

#[test]
fn an_exchange_that_lasts_too_long_is_504_before_its_head_and_cut_off_after_it() {
    run(async {
        // It goes on and on, and is never idle.
        let origin = Origin::start(|_, mut stream, _| async move {
            let request = head(&mut stream).await;
            if request.starts_with("GET /silent ") {
                rest(&mut stream).await;
                return;
            }
            let mut part = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            while stream.write_all(part.as_bytes()).await.is_ok() {
                part = "1\r\nx\r\n";
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let front = Front::before(&[origin.port], LONG, |config| config.timeouts.total = Duration::from_secs(1));
        let (answer, _) = front.talk("GET /silent HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 504 "), "{answer}");
        let (answer, end) = front.talk("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("x\r\n"), "{answer}");
        assert_eq!((end.cause, end.goodbye), (Cause::UpstreamBrokeOff, false));
        assert_eq!(front.errors(), ["total_timeout", "total_timeout"]);
    });
}

#[test]
fn a_request_that_was_sent_goes_to_no_other_server() {
    run(async {
        // The one connection that it takes ends behind the second request; and nobody listens there by then.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            drop(listener);
            head(&mut stream).await;
            stream.write_all(OK.as_bytes()).await.unwrap();
            head(&mut stream).await;
        });
        let other = Origin::start(|_, mut stream, _| async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother").await.unwrap();
        })
        .await;
        let front = Front::before(&[port, other.port], LONG, |config| config.servers[1].backup = true);
        let (mut client, _) = front.connect_h2().await;
        assert_eq!(client.get("/").await.0, 200);
        let (status, _, body) = client.get("/").await;
        assert!(status == 502 && !body.contains("other"), "{status} {body}");
        // The next one has not been sent to anybody.
        assert_eq!(client.get("/").await.2, "other");
    });
}

#[test]
fn a_body_that_stops_is_broken_off() {
    run(async {
        let origin = Origin::start(|_, mut stream, _| async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await.unwrap();
            rest(&mut stream).await;
        })
        .await;
        let front = Front::impatient(&[origin.port], LONG, Duration::from_secs(1));
        let (answer, end) = front.talk("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert!(answer.ends_with("\r\n\r\nfirst"), "{answer}");
        assert_eq!(
            (end.cause, end.goodbye, front.errors()),
            (Cause::UpstreamBrokeOff, false, vec!["body_timeout".to_owned()])
        );
    });
}

/// Answers the first request of a connection, and closes it in answer to the second; from the third connection on, all
/// is well.
async fn closing_origin() -> Origin {
    Origin::start(|number, mut stream, seen| async move {
        loop {
            let request = head(&mut stream).await;
            let first = seen.borrow().iter().filter(|line| line.starts_with(&number.to_string())).count() == 0;
            seen.borrow_mut().push(format!("{number} {}", request.lines().next().unwrap()));
            if !first && number < 2 {
                return;
            }
            stream.write_all(OK.as_bytes()).await.unwrap();
        }
    })
    .await
}

#[test]
fn an_idempotent_request_is_tried_again_when_its_kept_connection_ends() {
    run(async {
        for method in ["GET", "DELETE"] {
            let origin = closing_origin().await;
            let front = Front::proxy(&[origin.port]);
            let (mut client, _) = front.connect_h2().await;
            for path in ["/1", "/2"] {
                let request = Request::builder().method(method).uri(format!("https://a.example{path}"));
                let (status, _, content) = read(client.send(request.body(empty()).unwrap()).await.unwrap()).await;
                assert_eq!((status, content.as_str()), (200, "hi"));
            }
            let line = |number, path| format!("{number} {method} {path} HTTP/1.1");
            assert_eq!(origin.seen(), [line(0, "/1"), line(0, "/2"), line(1, "/2")]);
            assert_eq!(front.errors(), Vec::<String>::new());
        }
    });
}

#[test]
fn the_second_try_is_on_a_new_connection() {
    run(async {
        // Two connections that serve one request each, at the same time, and are kept.
        let both = Rc::new(tokio::sync::Barrier::new(2));
        let origin = Origin::start(move |number, mut stream, seen| {
            let both = both.clone();
            async move {
                head(&mut stream).await;
                if number < 2 {
                    both.wait().await;
                    stream.write_all(OK.as_bytes()).await.unwrap();
                    head(&mut stream).await;
                    seen.borrow_mut().push(format!("{number} closes"));
                } else {
                    stream.write_all(OK.as_bytes()).await.unwrap();
                    rest(&mut stream).await;
                }
            }
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect_h2().await;
        let first = client.sender.send_request(get("/"));
        let second = client.sender.send_request(get("/"));
        let (first, second) = tokio::join!(first, second);
        assert_eq!((read(first.unwrap()).await.0, read(second.unwrap()).await.0), (200, 200));
        assert_eq!(client.get("/").await.0, 200);
        assert_eq!((origin.seen().len(), origin.accepted()), (1, 3));
    });
}

#[test]
fn other_requests_are_not_tried_again() {
    run(async {
        for (method, body) in [("POST", ""), ("PUT", "body")] {
            let origin = closing_origin().await;
            let front = Front::proxy(&[origin.port]);
            let (mut client, _) = front.connect_h2().await;
            assert_eq!(client.get("/1").await.0, 200);
            let body = if body.is_empty() { empty() } else { full(body) };
            let request = Request::builder().method(method).uri("https://a.example/2").body(body).unwrap();
            assert_eq!(client.send(request).await.unwrap().status(), 502);
            assert_eq!((origin.accepted(), front.errors()), (1, vec!["closed".to_owned()]));
            assert_eq!(front.upstream().0, 2.0, "also the one that failed was sent");
        }
    });
}

#[test]
fn a_second_failure_stands() {
    run(async {
        let origin = Origin::start(|number, mut stream, _| async move {
            head(&mut stream).await;
            if number == 0 {
                stream.write_all(OK.as_bytes()).await.unwrap();
                head(&mut stream).await;
            }
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect_h2().await;
        assert_eq!(client.get("/").await.0, 200);
        assert_eq!(client.get("/").await.0, 502);
        assert_eq!((origin.accepted(), front.errors()), (2, vec!["closed".to_owned()]));
    });
}

#[test]
fn a_kept_connection_that_has_ended_is_not_used() {
    run(async {
        let (told, closed) = tokio::sync::oneshot::channel();
        let told = std::cell::Cell::new(Some(told));
        let origin = Origin::start(move |number, mut stream, _| {
            let told = told.take();
            async move {
                head(&mut stream).await;
                stream.write_all(OK.as_bytes()).await.unwrap();
                if number == 0 {
                    stream.shutdown().await.unwrap();
                    // The proxy's end follows ours.
                    assert_eq!(rest(&mut stream).await, "");
                    told.unwrap().send(()).unwrap();
                } else {
                    rest(&mut stream).await;
                }
            }
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect_h2().await;
        assert_eq!(client.get("/").await.0, 200);
        closed.await.unwrap();
        // No second chance is needed: POST would not get one.
        let request = Request::post("https://a.example/").body(full("x")).unwrap();
        assert_eq!(client.send(request).await.unwrap().status(), 200);
        assert_eq!(origin.accepted(), 2);
    });
}

#[test]
fn a_client_that_stops_sending_gets_408() {
    run(async {
        let origin = Origin::start(|_, mut stream, _| async move {
            let answer = rest(&mut stream).await;
            assert!(!answer.ends_with("0\r\n\r\n"));
        })
        .await;
        let front = Front::impatient(&[origin.port], LONG, Duration::from_millis(100));
        let (answer, _) = front.talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst").await;
        assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
        assert!(fields(&answer).contains(&"connection: close"), "{answer}");
        // It was not the upstream's fault.
        assert_eq!(front.errors(), Vec::<String>::new());
    });
}

#[test]
fn the_upstream_notices_when_the_client_leaves() {
    run(async {
        let (told, asked) = tokio::sync::oneshot::channel();
        let (gone, seen_going) = tokio::sync::oneshot::channel();
        let channels = std::cell::Cell::new(Some((told, gone)));
        let origin = Origin::start(move |_, mut stream, _| {
            let (told, gone) = channels.take().unwrap();
            async move {
                head(&mut stream).await;
                told.send(()).unwrap();
                let mut byte = [0];
                gone.send(stream.read(&mut byte).await.unwrap_or(0)).unwrap();
            }
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, serving) = front.connect();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        asked.await.unwrap();
        drop(client);
        assert_eq!(seen_going.await.unwrap(), 0);
        assert_eq!(serving.await.unwrap().cause, Cause::ClientGone);
        assert_eq!(front.errors(), Vec::<String>::new());
    });
}

#[test]
fn an_upload_that_breaks_off_never_looks_complete() {
    run(async {
        let origin = Origin::start(|_, mut stream, seen| async move {
            let request = rest(&mut stream).await;
            seen.borrow_mut().push(request);
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect();
        client
            .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
            .await
            .unwrap();
        client.shutdown().await.unwrap();
        drop(client);
        while origin.seen().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(origin.seen()[0].ends_with("5\r\nfirst\r\n"), "{}", origin.seen()[0]);
        let (mut client, _) = front.connect();
        client
            .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\nzz\r\n")
            .await
            .unwrap();
        let answer = until(&mut client, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
        while origin.seen().len() < 2 {
            tokio::task::yield_now().await;
        }
        assert!(origin.seen()[1].ends_with("5\r\nfirst\r\n"), "{}", origin.seen()[1]);
        assert_eq!(front.errors(), Vec::<String>::new());
    });
}
