//! HTTP/1.1 connections that have no request for a while give back what hyper has for them, and nobody notices.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};

use super::harness::{Front, LONG, Origin, head, rest, run, run_timed, until};
use crate::http::wire::BEGINNING;
use crate::http::{Cause, REST};
use crate::shutdown::Phase;

const GET: &str = "GET /health HTTP/1.1\r\nHost: a\r\n\r\n";

/// Whether nothing of hyper's is there: hyper reads into larger buffers.
fn rests(front: &Front) -> bool {
    front.room.get() == BEGINNING
}

#[test]
fn there_is_nothing_before_a_request_and_nothing_after_a_while() {
    run_timed(async {
        let front = Front::pages(LONG);
        let (mut client, serving) = front.connect();
        sleep(Duration::from_millis(1)).await;
        assert!(rests(&front), "{} bytes", front.room.get());
        for round in 0..3 {
            client.write_all(GET.as_bytes()).await.unwrap();
            assert!(until(&mut client, "ok\n").await.starts_with("HTTP/1.1 200 OK\r\n"));
            sleep(REST - Duration::from_millis(10)).await;
            assert!(!rests(&front), "round {round}: {} bytes", front.room.get());
            // What comes in time is served by what is there, and the time counts anew.
            client.write_all(GET.as_bytes()).await.unwrap();
            until(&mut client, "ok\n").await;
            sleep(REST - Duration::from_millis(10)).await;
            assert!(!rests(&front), "round {round}: {} bytes", front.room.get());
            sleep(Duration::from_millis(20)).await;
            assert!(rests(&front), "round {round}: {} bytes", front.room.get());
        }
        drop(client);
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.requests, end.goodbye), (Cause::Closed, 6, true));
    });
}

#[test]
fn a_head_that_has_begun_does_not_rest() {
    run_timed(async {
        let front = Front::pages(LONG);
        let (mut client, serving) = front.connect();
        for _ in 0..2 {
            let (first, last) = GET.split_at(GET.len() - 2);
            for part in [&first[..1], &first[1..]] {
                client.write_all(part.as_bytes()).await.unwrap();
                sleep(2 * REST).await;
                assert!(!rests(&front), "{} bytes behind {part:?}", front.room.get());
            }
            client.write_all(last.as_bytes()).await.unwrap();
            until(&mut client, "ok\n").await;
            sleep(2 * REST).await;
            assert!(rests(&front), "{} bytes", front.room.get());
        }
        drop(client);
        assert_eq!(serving.await.unwrap().requests, 2);
    });
}

#[test]
fn a_response_that_pauses_is_waited_for() {
    run(async {
        let origin = Origin::start(|_, mut stream, _| async move {
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab").await.unwrap();
            sleep(REST + Duration::from_millis(300)).await;
            stream.write_all(b"cd").await.unwrap();
            // The client sends another request on the connection that rested.
            head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nef").await.unwrap();
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, serving) = front.connect();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        until(&mut client, "ab").await;
        until(&mut client, "cd").await;
        sleep(REST + Duration::from_millis(300)).await;
        assert!(rests(&front), "{} bytes", front.room.get());
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        until(&mut client, "ef").await;
        let (requests, _, connections) = front.upstream();
        assert_eq!((requests, connections), (2.0, 1), "the connection to the server behind was kept");
        drop(client);
        assert_eq!(serving.await.unwrap().requests, 2);
    });
}

#[test]
fn what_comes_behind_a_rest_is_followed_as_before() {
    run_timed(async {
        let front = Front::pages(LONG);
        let (mut client, serving) = front.connect();
        // The empty line stays in hyper's buffer, and is a part of no request (RFC 9112, section 2.2).
        client.write_all(format!("{GET}\r\n").as_bytes()).await.unwrap();
        until(&mut client, "ok\n").await;
        sleep(3 * REST).await;
        // Two at once, byte by byte.
        for byte in format!("{GET}{GET}").bytes() {
            client.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        until(&mut client, "ok\n").await;
        until(&mut client, "ok\n").await;
        sleep(3 * REST).await;
        let smuggled = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
        client.write_all(format!("{GET}{smuggled}").as_bytes()).await.unwrap();
        until(&mut client, "ok\n").await;
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!(serving.await.unwrap().requests, 5);
    });
}

#[test]
fn a_resting_connection_ends_as_any() {
    run_timed(async {
        let front = Front::pages(LONG);
        let mut resting = Vec::new();
        for _ in 0..3 {
            let (mut client, serving) = front.connect();
            client.write_all(GET.as_bytes()).await.unwrap();
            until(&mut client, "ok\n").await;
            resting.push((client, serving));
        }
        sleep(2 * REST).await;
        // Its end is that of its idleness, and counts from its last request.
        let (mut idle, serving) = resting.remove(0);
        let since = Instant::now();
        assert_eq!(rest(&mut idle).await, "");
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.goodbye), (Cause::Idle, true));
        assert_eq!((since.elapsed() + 2 * REST).as_secs(), LONG.as_secs());

        let front = Front::pages(LONG).living(Duration::from_secs(3), LONG);
        let (mut client, serving) = front.connect();
        client.write_all(GET.as_bytes()).await.unwrap();
        until(&mut client, "ok\n").await;
        let since = Instant::now();
        assert_eq!(rest(&mut client).await, "");
        assert_eq!((serving.await.unwrap().cause, since.elapsed().as_secs()), (Cause::Expired, 3));

        let front = Front::pages(LONG);
        let (mut client, serving) = front.connect();
        client.write_all(GET.as_bytes()).await.unwrap();
        until(&mut client, "ok\n").await;
        sleep(2 * REST).await;
        front.advance(Phase::Draining);
        assert_eq!(rest(&mut client).await, "");
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.goodbye), (Cause::Drained, true));
    });
}

#[test]
fn a_connection_without_a_request_is_cut_off_when_the_server_closes() {
    run_timed(async {
        let front = Front::pages(LONG);
        let (mut client, serving) = front.connect();
        sleep(Duration::from_millis(1)).await;
        let since = Instant::now();
        // It has a second for its first request, were the server to wait.
        front.advance(Phase::Draining);
        sleep(Duration::from_millis(1)).await;
        front.advance(Phase::Closing);
        assert_eq!(rest(&mut client).await, "");
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.goodbye), (Cause::CutOff, false));
        assert!(since.elapsed() < Duration::from_millis(10), "{:?} of a clock of its own", since.elapsed());
    });
}

/// A client that waits for the server to close: the server's stream takes as long as a connection goes before it rests.
#[test]
fn a_connection_that_is_being_closed_does_not_rest() {
    run_timed(async {
        for takes in [REST - Duration::from_millis(1), REST, REST + Duration::from_millis(1), 2 * REST] {
            let mut front = Front::pages(LONG);
            front.farewell = takes;
            let (mut client, serving) = front.connect();
            let since = Instant::now();
            client.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
            until(&mut client, "ok\n").await;
            assert_eq!(rest(&mut client).await, "");
            let end = serving.await.unwrap();
            assert_eq!((end.cause, end.requests, end.goodbye), (Cause::Closed, 1, true));
            assert!(since.elapsed() < takes + REST / 2, "{:?} for {takes:?}", since.elapsed());
        }
    });
}
