//! `limits.connection_timeout`: a connection has its time, what is under way then is finished, and no new request is begun.

use std::rc::Rc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep};

use super::harness::{Front, LONG, Origin, fields, get, head, read, rest, run, run_timed, until};
use crate::http::Cause;

const SHORT: Duration = Duration::from_secs(1);

#[test]
fn a_busy_connection_ends_between_two_requests() {
    run_timed(async {
        let front = Front::pages(Duration::from_secs(50)).living(Duration::from_secs(60), LONG);
        let start = Instant::now();
        let (mut client, serving) = front.connect();
        for _ in 0..2 {
            sleep(Duration::from_secs(29)).await;
            client.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            until(&mut client, "ok\n").await;
        }
        assert_eq!(rest(&mut client).await, "");
        assert_eq!(start.elapsed().as_secs(), 60);
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.requests, end.goodbye), (Cause::Expired, 2, true));
        assert_eq!((end.reason(), end.limit()), ("connection_timeout", Some("connection_timeout")));
    });
}

#[test]
fn an_http2_connection_gets_goaway_when_its_time_is_over() {
    run_timed(async {
        let front = Front::pages(Duration::from_secs(50)).living(Duration::from_secs(60), LONG);
        let start = Instant::now();
        let (mut client, serving) = front.connect_h2().await;
        sleep(Duration::from_secs(40)).await;
        assert_eq!(client.get("/health").await.0, 200);
        // A GOAWAY without an error, or the client's connection would end with one.
        client.connection.await.unwrap().unwrap();
        assert_eq!(start.elapsed().as_secs(), 60);
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.requests), (Cause::Expired, 1));
    });
}

/// An origin that answers when it is let.
async fn gated(gate: Rc<Semaphore>) -> Origin {
    Origin::start(move |_, mut stream, seen| {
        let gate = gate.clone();
        async move {
            let request = head(&mut stream).await;
            seen.borrow_mut().push(request);
            gate.acquire().await.unwrap().forget();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi").await;
        }
    })
    .await
}

#[test]
fn what_is_under_way_is_finished() {
    run(async {
        let gate = Rc::new(Semaphore::new(0));
        let origin = gated(gate.clone()).await;
        let front = Front::proxy(&[origin.port]).living(SHORT, LONG);
        let (mut client, serving) = front.connect();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (mut h2, h2_serving) = front.connect_h2().await;
        h2.sender.ready().await.unwrap();
        let stream = tokio::task::spawn_local(h2.sender.send_request(get("/")));
        sleep(2 * SHORT).await;
        assert!(!serving.is_finished() && !h2_serving.is_finished());
        gate.add_permits(2);
        let answer = rest(&mut client).await;
        assert!(answer.ends_with("\r\n\r\nhi") && fields(&answer).contains(&"connection: close"), "{answer}");
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.goodbye), (Cause::Expired, true));
        assert_eq!(read(stream.await.unwrap().unwrap()).await.2, "hi");
        h2.connection.await.unwrap().unwrap();
        assert_eq!(h2_serving.await.unwrap().cause, Cause::Expired);
    });
}

#[test]
fn what_takes_too_long_after_that_is_cut_off() {
    run(async {
        let origin = gated(Rc::new(Semaphore::new(0))).await;
        let front = Front::proxy(&[origin.port]).living(SHORT, SHORT);
        let (mut client, serving) = front.connect();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let (mut h2, h2_serving) = front.connect_h2().await;
        let stream = h2.send(get("/"));
        let (answer, stream) = tokio::join!(rest(&mut client), stream);
        // Nothing that a client could take for the end of an answer.
        assert_eq!(answer, "");
        stream.unwrap_err();
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.goodbye), (Cause::ExpiredCutOff, false));
        assert_eq!((end.reason(), end.limit()), ("connection_timeout_cut_off", Some("connection_timeout")));
        assert_eq!(h2_serving.await.unwrap().cause, Cause::ExpiredCutOff);
    });
}
