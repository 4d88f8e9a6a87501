//! Time limits, sizes, and the end of the server.

use std::rc::Rc;
use std::time::Duration;

use http::Request;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::harness::{
    Front, LONG, Origin, empty, fields, frames, get, head, read, rest, run, run_timed, settings, until, upstream,
};
use crate::config;
use crate::http::{Cause, HEAD_TIMEOUT, Settings};
use crate::shutdown::Phase;

const SHORT: Duration = Duration::from_millis(600);
const GET: &str = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";

/// An origin that answers when it is let.
async fn gated(gate: Rc<Semaphore>) -> Origin {
    Origin::start(move |_, mut stream, seen| {
        let gate = gate.clone();
        async move {
            loop {
                let request = head(&mut stream).await;
                seen.borrow_mut().push(request);
                gate.acquire().await.unwrap().forget();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
            }
        }
    })
    .await
}

async fn seen(origin: &Origin, count: usize) {
    while origin.seen().len() < count {
        tokio::task::yield_now().await;
    }
}

#[test]
fn an_idle_connection_is_closed_and_says_so() {
    run_timed(async {
        let idle = Duration::from_secs(10);
        let front = Front::pages(idle);
        // Without any request.
        let start = Instant::now();
        let (mut client, serving) = front.connect();
        assert_eq!(rest(&mut client).await, "");
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.requests, end.goodbye), (Cause::Idle, 0, true));
        assert_eq!(start.elapsed().as_secs(), 10);
        // After each request the time counts anew.
        let (mut client, serving) = front.connect();
        for _ in 0..3 {
            sleep(idle - Duration::from_secs(1)).await;
            client.write_all(GET.as_bytes()).await.unwrap();
            until(&mut client, "ok\n").await;
        }
        let last = Instant::now();
        assert_eq!(rest(&mut client).await, "");
        assert_eq!(last.elapsed().as_secs(), 10);
        assert_eq!(serving.await.unwrap().cause, Cause::Idle);
    });
}

#[test]
fn an_idle_http2_connection_gets_goaway() {
    run_timed(async {
        let front = Front::pages(Duration::from_secs(10));
        let (mut client, serving) = front.connect_h2().await;
        assert_eq!(client.get("/health").await.0, 200);
        let last = Instant::now();
        // A GOAWAY without an error, or the client's connection would end with one.
        client.connection.await.unwrap().unwrap();
        assert_eq!(last.elapsed().as_secs(), 10);
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.requests), (Cause::Idle, 1));
    });
}

#[test]
fn a_head_that_does_not_end_is_not_waited_for() {
    run_timed(async {
        // Each byte comes long before the connection counts as idle: what counts is the whole.
        let front = Front::pages(Duration::from_secs(300));
        let (mut client, serving) = front.connect();
        client.write_all(GET.as_bytes()).await.unwrap();
        until(&mut client, "ok\n").await;
        sleep(Duration::from_secs(200)).await;
        let start = Instant::now();
        client.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
        while client.write_all(b"x").await.is_ok() {
            sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(start.elapsed().as_secs(), HEAD_TIMEOUT.as_secs() + 1);
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.requests, end.goodbye), (Cause::HeadTimeout, 1, true));
    });
}

#[test]
fn a_client_that_takes_nothing_is_not_waited_for() {
    run(async {
        let origin = Origin::start(|_, mut stream, _| async move {
            head(&mut stream).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n").await;
            while stream.write_all(&[b'x'; 65536]).await.is_ok() {}
        })
        .await;
        let front = Front::impatient(&[origin.port], SHORT, LONG);
        let (mut client, serving) = front.connect();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert_eq!(serving.await.unwrap().cause, Cause::Stalled);

        let (mut client, serving) = front.connect_h2().await;
        // The window closes, and nobody opens it.
        let body = client.send(get("/")).await.unwrap().into_body();
        assert_eq!(serving.await.unwrap().cause, Cause::Stalled);
        drop(body);
    });
}

#[test]
fn a_client_is_not_blamed_for_a_slow_upstream() {
    run(async {
        let gate = Rc::new(Semaphore::new(0));
        let origin = gated(gate.clone()).await;
        let front = Front::impatient(&[origin.port], SHORT, LONG);
        let (mut client, _) = front.connect();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        sleep(3 * SHORT).await;
        gate.add_permits(1);
        until(&mut client, "\r\n\r\nhi").await;
    });
}

#[test]
fn draining_closes_idle_connections_and_finishes_requests() {
    run(async {
        let gate = Rc::new(Semaphore::new(0));
        let origin = gated(gate.clone()).await;
        let front = Front::proxy(&[origin.port]);

        let (mut fresh, fresh_serving) = front.connect();
        let (mut idle, idle_serving) = front.connect();
        gate.add_permits(1);
        idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        until(&mut idle, "\r\n\r\nhi").await;
        let (mut busy, busy_serving) = front.connect();
        busy.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (mut h2, h2_serving) = front.connect_h2().await;
        h2.sender.ready().await.unwrap();
        let stream = tokio::task::spawn_local(h2.sender.send_request(get("/")));
        seen(&origin, 3).await;

        front.advance(Phase::Draining);
        assert_eq!(rest(&mut fresh).await, "");
        assert_eq!(rest(&mut idle).await, "");
        for serving in [fresh_serving, idle_serving] {
            let end = serving.await.unwrap();
            assert_eq!((end.cause, end.goodbye), (Cause::Drained, true));
        }
        assert!(!busy_serving.is_finished() && !h2_serving.is_finished());

        gate.add_permits(2);
        let answer = rest(&mut busy).await;
        assert!(answer.ends_with("\r\n\r\nhi") && fields(&answer).contains(&"connection: close"), "{answer}");
        assert_eq!(busy_serving.await.unwrap().cause, Cause::Drained);
        assert_eq!(read(stream.await.unwrap().unwrap()).await.2, "hi");
        // It was told to go, and that nothing was wrong.
        h2.connection.await.unwrap().unwrap();
        let end = h2_serving.await.unwrap();
        assert_eq!((end.cause, end.requests), (Cause::Drained, 1));
    });
}

#[test]
fn closing_cuts_off_what_is_left() {
    run(async {
        let origin = gated(Rc::new(Semaphore::new(0))).await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, serving) = front.connect();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (mut h2, h2_serving) = front.connect_h2().await;
        let stream = h2.send(get("/"));
        tokio::pin!(stream);
        tokio::select! {
            _ = &mut stream => panic!("there is no answer"),
            () = seen(&origin, 2) => {}
        }
        front.advance(Phase::Draining);
        tokio::task::yield_now().await;
        assert!(!serving.is_finished());
        front.advance(Phase::Closing);
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.goodbye), (Cause::CutOff, false));
        assert_eq!(h2_serving.await.unwrap().cause, Cause::CutOff);
        assert_eq!(rest(&mut client).await, "");
        assert!(stream.await.is_err());
    });
}

#[test]
fn heads_are_bounded() {
    run(async {
        let front = Front::pages(LONG);
        let accepted =
            format!("GET /health HTTP/1.1\r\nHost: a\r\nX: {}\r\nConnection: close\r\n\r\n", "x".repeat(60_000));
        assert!(front.talk(accepted).await.0.starts_with("HTTP/1.1 200 OK\r\n"));
        for refused in [
            format!("GET /health HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(300_000)),
            format!("GET /health HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: x\r\n".repeat(101)),
        ] {
            let (mut client, serving) = front.connect();
            // It need not be read to the end.
            let _ = client.write_all(refused.as_bytes()).await;
            let answer = rest(&mut client).await;
            assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{answer}");
            let end = serving.await.unwrap();
            assert_eq!((end.cause, end.requests), (Cause::ClientError, 0));
        }
        let (mut client, _) = front.connect_h2().await;
        let request = Request::get("https://a.example/health").header("x", "x".repeat(60_000)).body(empty()).unwrap();
        assert_eq!(read(client.send(request).await.unwrap()).await.0, 200);
        let request = Request::get("https://a.example/health").header("x", "x".repeat(70_000)).body(empty()).unwrap();
        match client.send(request).await {
            Ok(response) => assert_eq!(response.status(), 431),
            Err(error) => assert!(format!("{error:?}").contains("REFUSED_STREAM") || error.is_user(), "{error:?}"),
        }
    });
}

#[test]
fn the_limit_on_heads_is_the_configurations() {
    run(async {
        let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
        let front = Front::with(Settings { head: 2000, ..settings(LONG) }, upstream(&[origin.port], LONG));
        let head = |size: usize| {
            let frame = "GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nX: \r\n\r\n".len();
            format!("GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nX: {}\r\n\r\n", "x".repeat(size - frame))
        };
        let (mut client, _) = front.connect();
        client.write_all(head(2000).as_bytes()).await.unwrap();
        assert!(until(&mut client, "\r\n\r\nhi").await.starts_with("HTTP/1.1 200 OK\r\n"));
        let (answer, end) = front.talk(head(2001)).await;
        assert!(answer.starts_with("HTTP/1.1 431 Request Header Fields Too Large\r\n"), "{answer}");
        assert!(answer.contains("\"status\":431") && fields(&answer).contains(&"connection: close"), "{answer}");
        assert_eq!((end.cause, end.requests), (Cause::Closed, 1));
        assert_eq!(origin.seen().len(), 1);
    });
}

#[test]
fn a_target_that_is_too_long_is_414_however_long_it_is() {
    run(async {
        let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
        for (limit, size) in [(2000, 2001), (2000, 70_000), (2000, 300_000), (65_536, 65_537), (65_536, 1_000_000)] {
            let front = Front::with(Settings { head: limit, ..settings(LONG) }, upstream(&[origin.port], LONG));
            let target = "/".repeat(size - "GET  HTTP/1.1\r\n".len());
            let (client, serving) = front.connect();
            let (mut reader, mut writer) = tokio::io::split(client);
            // It need not be read to the end.
            let writing = tokio::task::spawn_local(async move {
                let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
                let _ = writer.write_all(request.as_bytes()).await;
            });
            let answer = rest(&mut reader).await;
            assert!(answer.starts_with("HTTP/1.1 414 URI Too Long\r\n"), "{answer} for {size} of {limit}");
            assert!(answer.ends_with("the request line is longer than this server takes\n"), "{answer}");
            assert_eq!(serving.await.unwrap().cause, Cause::Closed);
            writing.abort();
        }
        // Beyond what http::Uri holds.
        let front = Front::with(Settings { head: 1 << 20, ..settings(LONG) }, upstream(&[origin.port], LONG));
        let (answer, _) = front.talk(format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", "/".repeat(65_535))).await;
        assert!(answer.starts_with("HTTP/1.1 414 URI Too Long\r\n"), "{answer}");
        assert_eq!(origin.accepted(), 0);
    });
}

#[test]
fn bodies_are_bounded_where_they_say_so_and_where_they_do_not() {
    run(async {
        let origin = Origin::start(|_, mut stream, seen| async move {
            let request = rest(&mut stream).await;
            seen.borrow_mut().push(request);
        })
        .await;
        let front = Front::with(Settings { body: 1000, ..settings(LONG) }, upstream(&[origin.port], LONG));
        let (answer, _) = front.talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
        assert!(fields(&answer).contains(&"connection: close"), "{answer}");
        let (mut client, _) = front.connect_h2().await;
        let request = Request::post("https://a.example/").header("content-length", "1001").body(empty()).unwrap();
        let _ = client.send(request).await;
        assert_eq!(origin.accepted(), 0, "nothing of it was passed on");

        let chunk = format!("258\r\n{}\r\n", "x".repeat(600));
        let (answer, _) = front
            .talk(format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}0\r\n\r\n"))
            .await;
        assert!(answer.starts_with("HTTP/1.1 413 Payload Too Large\r\n"), "{answer}");
        seen(&origin, 1).await;
        assert!(!origin.seen()[0].ends_with("0\r\n\r\n"), "{}", origin.seen()[0]);
        let body = frames((0..2).map(|_| hyper::body::Frame::data(bytes::Bytes::from(vec![b'x'; 600]))));
        let request = Request::post("https://a.example/").body(body).unwrap();
        assert_eq!(read(client.send(request).await.unwrap()).await.0, 413);
        seen(&origin, 2).await;
        assert!(!origin.seen()[1].ends_with("0\r\n\r\n"), "{}", origin.seen()[1]);
        // None of it is the upstream's fault.
        assert_eq!(front.errors(), Vec::<String>::new());

        let origin = Origin::start(|_, mut stream, _| async move {
            until(&mut stream, "0\r\n\r\n").await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        })
        .await;
        let front = Front::with(Settings { body: 600, ..settings(LONG) }, upstream(&[origin.port], LONG));
        let (mut client, _) = front.connect();
        client
            .write_all(
                format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n").as_bytes(),
            )
            .await
            .unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"), "as much as is allowed");
    });
}

#[test]
fn browsers_are_told_to_come_by_https_once_whoever_answers() {
    run(async {
        let config = |port| config::Upstream {
            hsts: Some(config::Hsts {
                max_age: Duration::from_secs(31_536_000),
                include_subdomains: true,
                preload: true,
            }),
            ..upstream(&[port], LONG)
        };
        let ours = "strict-transport-security: max-age=31536000; includeSubDomains; preload";
        let plain = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
        let own =
            Origin::answering("HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1\r\nContent-Length: 2\r\n\r\nhi")
                .await;
        let get = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        for (port, request, expected) in [
            (plain.port, get, ours),
            (own.port, get, "strict-transport-security: max-age=1"),
            (1, get, ours),
            (plain.port, "GET / HTTP/1.1\nHost: a\r\n\r\n", ours),
            (plain.port, "TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", ours),
        ] {
            let (answer, _) = Front::with(settings(LONG), config(port)).talk(request).await;
            let told: Vec<_> =
                fields(&answer).into_iter().filter(|line| line.starts_with("strict-transport-security")).collect();
            assert_eq!(told, [expected], "{answer} for {request:?}");
        }
        let (answer, _) = Front::proxy(&[plain.port]).talk(get).await;
        assert!(!answer.contains("strict-transport-security"), "{answer}");
    });
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    run(async {
        let front = Front::pages(LONG);
        let requests = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n\
            POST /nowhere HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nGET\r\n0\r\n\r\n\
            HEAD /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let (answer, end) = front.talk(requests).await;
        let statuses: Vec<_> = answer.lines().filter(|line| line.starts_with("HTTP/")).collect();
        assert_eq!(statuses, ["HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found", "HTTP/1.1 200 OK"]);
        assert_eq!((end.cause, end.requests), (Cause::Closed, 3));
    });
}

#[test]
fn a_refused_upgrade_ends_as_any_request() {
    run(async {
        let front = Front::pages(LONG);
        let (mut client, serving) = front.connect();
        client
            .write_all(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
            .await
            .unwrap();
        until(&mut client, "ok\n").await;
        client.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        assert!(rest(&mut client).await.ends_with("\r\n\r\nok\n"));
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.requests, end.goodbye), (Cause::Closed, 2, true));
    });
}
