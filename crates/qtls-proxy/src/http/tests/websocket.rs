//! WebSocket: agreed on as the upstream says, and bytes both ways from then on.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::harness::{Front, LONG, Origin, empty, fields, head, read, rest, run, until};
use crate::http::Cause;
use crate::shutdown::Phase;

const SHORT: Duration = Duration::from_secs(1);
const ASK: &str = "GET /chat?x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
const AGREED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n";

/// Agrees to what is asked, whatever the key.
async fn agree(stream: &mut TcpStream) -> String {
    let request = head(stream).await;
    let key = fields(&request).into_iter().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
    let accept = qtls_core::web_socket::accept(key);
    let answer = AGREED.replace("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", &accept);
    stream.write_all(answer.as_bytes()).await.unwrap();
    request
}

/// Sends everything back, and says how it ended.
async fn echoing() -> Origin {
    Origin::start(|_, mut stream, seen| async move {
        let request = agree(&mut stream).await;
        seen.borrow_mut().push(request);
        let (mut reader, mut writer) = stream.split();
        let outcome = tokio::io::copy(&mut reader, &mut writer).await;
        seen.borrow_mut().push(format!("{outcome:?}"));
    })
    .await
}

async fn seen(origin: &Origin, count: usize) {
    while origin.seen().len() < count {
        tokio::task::yield_now().await;
    }
}

#[test]
fn what_is_asked_and_agreed_passes_and_then_every_byte() {
    run(async {
        let origin = echoing().await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, serving) = front.connect();
        client.write_all(ASK.as_bytes()).await.unwrap();
        let answer = head(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{answer}");
        for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-protocol: chat"] {
            assert!(fields(&answer).contains(&line), "{answer}");
        }
        assert!(fields(&answer).contains(&"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        assert!(!answer.contains("content-length") && !answer.contains("transfer-encoding"), "{answer}");
        let asked = &origin.seen()[0];
        assert!(asked.starts_with("GET /chat?x HTTP/1.1\r\n"), "{asked}");
        for line in ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13", "x-qtls-pq: yes"] {
            assert!(fields(asked).contains(&line), "{line} is not in {asked}");
        }
        // Bytes that would be no HTTP, and more than any buffer holds.
        let sent: Vec<u8> = b"\n\n\0".iter().copied().chain((0..=250).cycle().take(4_000_000)).collect();
        let expected = sent.clone();
        let (mut reader, mut writer) = tokio::io::split(client);
        let receiving = tokio::task::spawn_local(async move {
            let mut received = vec![0; expected.len()];
            reader.read_exact(&mut received).await.unwrap();
            assert!(received == expected);
            reader
        });
        writer.write_all(&sent).await.unwrap();
        let reader = receiving.await.unwrap();
        drop((reader, writer));
        seen(&origin, 2).await;
        assert_eq!(origin.seen()[1], "Ok(4000003)");
        serving.await.unwrap();
    });
}

#[test]
fn each_direction_ends_apart() {
    run(async {
        let origin = Origin::start(|_, mut stream, seen| async move {
            agree(&mut stream).await;
            // All that the client says, and only then an answer.
            let asked = rest(&mut stream).await;
            seen.borrow_mut().push(asked);
            stream.write_all(b"after your end").await.unwrap();
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, serving) = front.connect();
        client.write_all(ASK.as_bytes()).await.unwrap();
        head(&mut client).await;
        client.write_all(b"all of it").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!(rest(&mut client).await, "after your end");
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.requests, end.goodbye), (Cause::Closed, 1, true));
        assert_eq!((origin.seen(), front.upstream().0), (vec!["all of it".to_owned()], 1.0));
        assert_eq!(front.errors(), Vec::<String>::new());
    });
}

#[test]
fn what_comes_with_either_head_is_not_lost() {
    run(async {
        let origin = Origin::start(|_, mut stream, _| async move {
            head(&mut stream).await;
            stream.write_all(format!("{AGREED}first").as_bytes()).await.unwrap();
            let early = until(&mut stream, "early").await;
            stream.write_all(early.as_bytes()).await.unwrap();
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect();
        client.write_all(format!("{ASK}early").as_bytes()).await.unwrap();
        head(&mut client).await;
        assert_eq!(until(&mut client, "firstearly").await, "firstearly");
    });
}

#[test]
fn a_refusal_is_an_answer_like_any_other_and_the_connection_goes_on() {
    run(async {
        let origin = Origin::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect();
        for _ in 0..2 {
            client.write_all(ASK.as_bytes()).await.unwrap();
            let answer = until(&mut client, "\r\n\r\nno").await;
            assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
        }
    });
}

#[test]
fn no_other_protocol_is_passed_on() {
    run(async {
        for ask in [
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: TLS/1.0\r\n\r\n",
            // RFC 6455, section 4.1: GET, HTTP/1.1, and said twice.
            "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n",
            "HEAD / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        ] {
            let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            let front = Front::proxy(&[origin.port]);
            let (mut client, _) = front.connect();
            client.write_all(ask.as_bytes()).await.unwrap();
            let answer = head(&mut client).await;
            assert!(answer.contains(" 200 OK\r\n"), "{answer} for {ask}");
            let asked = origin.seen()[0].to_lowercase();
            assert!(!asked.contains("upgrade") && !asked.contains("http2-settings"), "{asked}");
        }
        // Beside others it is chosen.
        let origin = echoing().await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect();
        client.write_all(ASK.replace("WebSocket\r\n", "h2c, websocket\r\n").as_bytes()).await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 101 "));
        assert!(fields(&origin.seen()[0]).contains(&"upgrade: websocket"), "{}", origin.seen()[0]);
    });
}

#[test]
fn another_protocol_than_was_asked_for_is_502() {
    run(async {
        let origin =
            Origin::answering("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n").await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect();
        client.write_all(ASK.as_bytes()).await.unwrap();
        assert!(head(&mut client).await.starts_with("HTTP/1.1 502 Bad Gateway\r\n"));
        assert_eq!(front.errors(), ["invalid_response"]);
    });
}

#[test]
fn a_silent_one_is_closed_and_a_busy_one_is_not() {
    run(async {
        let origin = echoing().await;
        // All of its pauses together are longer; and one alone may be longer than it was meant to be.
        const IDLE: Duration = Duration::from_secs(2);
        let front = Front::impatient(&[origin.port], IDLE, LONG);
        let (mut client, serving) = front.connect();
        client.write_all(ASK.as_bytes()).await.unwrap();
        head(&mut client).await;
        for _ in 0..6 {
            sleep(IDLE / 4).await;
            client.write_all(b"x").await.unwrap();
            assert_eq!(client.read_u8().await.unwrap(), b'x');
        }
        assert_eq!(rest(&mut client).await, "");
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.goodbye), (Cause::Idle, true));
        seen(&origin, 2).await;
        assert_eq!(origin.seen()[1], "Ok(6)");
    });
}

#[test]
fn it_goes_on_while_the_server_drains_and_is_closed_with_it() {
    run(async {
        let origin = echoing().await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, serving) = front.connect();
        client.write_all(ASK.as_bytes()).await.unwrap();
        head(&mut client).await;
        front.advance(Phase::Draining);
        client.write_all(b"still").await.unwrap();
        assert_eq!(until(&mut client, "still").await, "still");
        front.advance(Phase::Closing);
        assert_eq!(rest(&mut client).await, "");
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.goodbye), (Cause::CutOff, true));
        seen(&origin, 2).await;
    });
}

#[test]
fn its_life_is_that_of_the_connection() {
    run(async {
        let origin = echoing().await;
        let front = Front::proxy(&[origin.port]).living(SHORT, LONG);
        let (mut client, serving) = front.connect();
        client.write_all(ASK.as_bytes()).await.unwrap();
        head(&mut client).await;
        assert_eq!(rest(&mut client).await, "");
        assert_eq!(serving.await.unwrap().cause, Cause::Expired);
    });
}

#[test]
fn a_side_that_breaks_off_is_no_orderly_end_for_the_other() {
    run(async {
        let origin = Origin::start(|number, mut stream, seen| async move {
            agree(&mut stream).await;
            if number == 0 {
                // A reset.
                socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                return;
            }
            let mut byte = [0];
            let outcome = stream.read(&mut byte).await;
            seen.borrow_mut().push(format!("{outcome:?}"));
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, serving) = front.connect();
        client.write_all(ASK.as_bytes()).await.unwrap();
        head(&mut client).await;
        assert_eq!(rest(&mut client).await, "");
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.goodbye), (Cause::UpstreamBrokeOff, false));
        assert_eq!(front.errors(), ["broke_off"]);
    });
}

#[test]
fn a_reader_that_stops_stops_the_other_side() {
    run(async {
        let written = Rc::new(Cell::new(0_usize));
        let writing = written.clone();
        let origin = Origin::start(move |_, mut stream, _| {
            let written = writing.clone();
            async move {
                agree(&mut stream).await;
                while stream.write_all(&[b'x'; 65_536]).await.is_ok() {
                    written.set(written.get() + 65_536);
                }
            }
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _serving) = front.connect();
        client.write_all(ASK.as_bytes()).await.unwrap();
        head(&mut client).await;
        let held = loop {
            let before = written.get();
            sleep(Duration::from_millis(300)).await;
            if before > 0 && written.get() == before {
                break before;
            }
        };
        // The kernel's buffers, and not what an upstream could fill meanwhile.
        assert!(held < 64 << 20, "{held} bytes are held somewhere");
        let mut buffer = vec![0; held];
        client.read_exact(&mut buffer).await.unwrap();
        while written.get() == held {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn over_http2_it_is_a_stream() {
    run(async {
        let origin = echoing().await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, serving) = front.connect_h2().await;
        let connect = || {
            let mut request = Request::builder()
                .method(Method::CONNECT)
                .uri("https://a.example/chat?x")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-protocol", "chat");
            request.extensions_mut().unwrap().insert(hyper::ext::Protocol::from_static("websocket"));
            request.body(empty()).unwrap()
        };
        let response = client.send(connect()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["sec-websocket-protocol"], "chat");
        for absent in ["upgrade", "connection", "sec-websocket-accept", "content-length"] {
            assert!(!response.headers().contains_key(absent), "{response:?}");
        }
        let asked = &origin.seen()[0];
        assert!(asked.starts_with("GET /chat?x HTTP/1.1\r\n"), "{asked}");
        for line in ["connection: upgrade", "upgrade: websocket", "host: a.example", "sec-websocket-version: 13"] {
            assert!(fields(asked).contains(&line), "{line} is not in {asked}");
        }
        let mut stream = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        let sent: Vec<u8> = (0..300_000_u32).map(|number| (number % 251) as u8).collect();
        for part in sent.chunks(10_000) {
            stream.write_all(part).await.unwrap();
            let mut back = vec![0; part.len()];
            stream.read_exact(&mut back).await.unwrap();
            assert!(back == part);
        }
        // Other streams of the connection go on beside it.
        let second = client.send(connect()).await.unwrap();
        assert_eq!(second.status(), StatusCode::OK);
        drop(second);
        stream.shutdown().await.unwrap();
        assert_eq!(rest(&mut stream).await, "");
        while origin.seen().iter().filter(|line| line.starts_with("Ok(")).count() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(origin.seen().contains(&"Ok(300000)".to_owned()), "{:?}", origin.seen());
        front.advance(Phase::Draining);
        front.advance(Phase::Closing);
        drop((client, stream));
        serving.await.unwrap();
    });
}

#[test]
fn over_http2_an_upstream_that_does_not_switch_is_told_apart() {
    run(async {
        for (answer, status) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 502),
            ("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", 403),
            (AGREED, 502),
        ] {
            let origin = Origin::answering(answer).await;
            let front = Front::proxy(&[origin.port]);
            let (mut client, _) = front.connect_h2().await;
            let mut request = Request::builder().method(Method::CONNECT).uri("https://a.example/");
            request.extensions_mut().unwrap().insert(hyper::ext::Protocol::from_static("websocket"));
            let response = client.send(request.body(empty()).unwrap()).await.unwrap();
            assert_eq!(response.status().as_u16(), status, "{answer}");
        }
        let front = Front::proxy(&[1]);
        let (mut client, _) = front.connect_h2().await;
        let mut request = Request::builder().method(Method::CONNECT).uri("https://a.example/");
        request.extensions_mut().unwrap().insert(hyper::ext::Protocol::from_static("connect-udp"));
        let (status, _, content) = read(client.send(request.body(empty()).unwrap()).await.unwrap()).await;
        assert_eq!((status, content.as_str()), (501, "501 Not Implemented: no protocol but websocket is supported\n"));
    });
}
