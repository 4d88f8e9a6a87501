//! HTTP/2 to the upstream: many requests on one connection, and what happens to them when it ends.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_local;

use super::harness::{AnyBody, Front, Origin, frames, full, get, read, run};

type Asked = (Request<RecvStream>, SendResponse<Bytes>);

/// Serves a connection as `serve` says, request by request, all at once.
async fn serving<F>(stream: TcpStream, streams: u32, serve: impl Fn(Asked) -> F + 'static)
where
    F: Future<Output = ()> + 'static,
{
    let mut connection = Builder::new().max_concurrent_streams(streams).handshake(stream).await.unwrap();
    while let Some(Ok(asked)) = connection.accept().await {
        spawn_local(serve(asked));
    }
}

/// The whole body of a request.
async fn content(request: Request<RecvStream>) -> (Vec<u8>, Option<HeaderMap>) {
    let mut body = request.into_body();
    let mut content = Vec::new();
    while let Some(part) = body.data().await {
        let part = part.unwrap();
        let _ = body.flow_control().release_capacity(part.len());
        content.extend_from_slice(&part);
    }
    (content, body.trailers().await.unwrap())
}

fn answer(respond: &mut SendResponse<Bytes>, text: &str) {
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    stream.send_data(Bytes::copy_from_slice(text.as_bytes()), true).unwrap();
}

fn post(body: AnyBody) -> Request<AnyBody> {
    Request::builder().method(Method::POST).uri("https://a.example/").body(body).unwrap()
}

#[test]
fn requests_share_a_connection_as_far_as_the_server_lets_them() {
    run(async {
        for (streams, connections) in [(100, 1), (4, 3)] {
            let origin = Origin::start(move |_, stream, seen| {
                serving(stream, streams, move |(request, mut respond)| {
                    let seen = seen.clone();
                    async move {
                        seen.borrow_mut().push(request.uri().path().to_owned());
                        // Until the others are there, too.
                        while seen.borrow().len() < 13 {
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                        answer(&mut respond, request.uri().path());
                    }
                })
            })
            .await;
            let front = Front::multiplexing(&[origin.port]);
            let (client, _serving) = front.connect_h2().await;
            // The settings of the server are known from then on.
            origin.seen.borrow_mut().extend((0..12).map(|number| format!("before {number}")));
            let mut first = client.sender.clone();
            assert_eq!(read(first.send_request(get("/first")).await.unwrap()).await.2, "/first");
            origin.seen.borrow_mut().clear();
            origin.seen.borrow_mut().push("after".to_owned());
            let requests: Vec<_> = (0..12)
                .map(|number| {
                    let mut sender = client.sender.clone();
                    spawn_local(async move {
                        let path = format!("/{number}");
                        let (status, _, content) = read(sender.send_request(get(&path)).await.unwrap()).await;
                        assert_eq!((status, content), (200, path));
                    })
                })
                .collect();
            for request in requests {
                request.await.unwrap();
            }
            assert_eq!(origin.accepted(), connections, "{streams} streams");
        }
    });
}

#[test]
fn a_request_is_told_as_http_2_has_it_and_trailers_pass_both_ways() {
    run(async {
        let origin = Origin::start(|_, stream, seen| {
            serving(stream, 10, move |(request, mut respond)| {
                let seen = seen.clone();
                async move {
                    assert_eq!(request.version(), Version::HTTP_2);
                    let names: Vec<_> = request.headers().keys().map(ToString::to_string).collect();
                    let te = request.headers().get("te").cloned();
                    seen.borrow_mut().extend([request.uri().to_string(), names.join(","), format!("{te:?}")]);
                    let (content, trailers) = content(request).await;
                    let trailers = trailers.unwrap();
                    seen.borrow_mut().push(format!("{} {trailers:?}", content.len()));
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    stream.send_data(Bytes::from_static(b"x"), false).unwrap();
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static("0"));
                    stream.send_trailers(trailers).unwrap();
                }
            })
        })
        .await;
        let front = Front::multiplexing(&[origin.port]);
        let (mut client, _serving) = front.connect_h2().await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", HeaderValue::from_static("7"));
        trailers.insert("x-qtls-group", HeaderValue::from_static("forged"));
        let body = frames([Frame::data(Bytes::from_static(b"12345")), Frame::trailers(trailers)]);
        let mut request = post(body);
        request.headers_mut().insert("te", HeaderValue::from_static("trailers"));
        request.headers_mut().insert("x-qtls-pq", HeaderValue::from_static("forged"));
        let response = client.send(request).await.unwrap();
        let collected = response.into_body().collect().await.unwrap();
        assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(collected.to_bytes(), "x");
        let seen = origin.seen();
        assert_eq!(seen[0], "http://a.example/");
        let names: Vec<_> = seen[1].split(',').collect();
        for absent in ["host", "connection", "transfer-encoding"] {
            assert!(!names.contains(&absent), "{names:?}");
        }
        for present in ["forwarded", "x-forwarded-host", "x-qtls-group", "x-qtls-pq"] {
            assert!(names.contains(&present), "{names:?}");
        }
        assert_eq!(seen[2], "Some(\"trailers\")");
        assert_eq!(seen[3], "5 {\"x-checksum\": \"7\"}");
    });
}

/// A connection that ends with its first request, by a GOAWAY that says it was not begun with.
async fn going_away(mut stream: TcpStream, reason: u8) {
    const PREFACE: usize = 24;
    stream.read_exact(&mut [0; PREFACE]).await.unwrap();
    // Its settings, which are empty.
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        if head[3] == 1 {
            // Nothing was begun with: the last stream is 0.
            stream.write_all(&[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, reason]).await.unwrap();
            let _ = stream.read(&mut [0; 1024]).await;
            return;
        }
    }
}

#[test]
fn what_a_server_has_not_begun_with_is_repeated_elsewhere() {
    run(async {
        for (number, method) in [Method::GET, Method::POST].into_iter().enumerate() {
            // Of two servers, the first goes away (with an error or without), the second answers.
            let away = Origin::start(move |_, stream, seen| async move {
                seen.borrow_mut().push("asked".to_owned());
                going_away(stream, number as u8 * 11).await;
            })
            .await;
            let good = Origin::start(|_, stream, _| {
                serving(stream, 10, |(_, mut respond)| async move { answer(&mut respond, "good") })
            })
            .await;
            let front = Front::multiplexing(&[away.port, good.port]);
            let (mut client, _serving) = front.connect_h2().await;
            let mut request = get("/");
            *request.method_mut() = method.clone();
            let (status, _, content) = read(client.send(request).await.unwrap()).await;
            assert_eq!((status, content.as_str(), away.seen().len()), (200, "good", 1), "{method}");
            assert_eq!(front.errors(), ["unprocessed"]);
        }
    });
}

#[test]
fn a_refused_stream_is_repeated_and_another_reset_is_not() {
    run(async {
        for (reason, expected) in [(Reason::REFUSED_STREAM, 200), (Reason::INTERNAL_ERROR, 502)] {
            let origin = Origin::start(move |_, stream, seen| {
                serving(stream, 10, move |(request, mut respond)| {
                    let seen = seen.clone();
                    async move {
                        seen.borrow_mut().push(request.uri().path().to_owned());
                        if seen.borrow().iter().filter(|path| *path == "/second").count() == 1 {
                            respond.send_reset(reason);
                        } else {
                            answer(&mut respond, "here");
                        }
                    }
                })
            })
            .await;
            let front = Front::multiplexing(&[origin.port]);
            let (mut client, _serving) = front.connect_h2().await;
            assert_eq!(client.get("/first").await.0, 200);
            let mut request = get("/second");
            *request.method_mut() = Method::POST;
            let (status, ..) = read(client.send(request).await.unwrap()).await;
            assert_eq!(status, expected, "{reason}");
            let asked = origin.seen().iter().filter(|path| *path == "/second").count();
            assert_eq!(asked, if expected == 200 { 2 } else { 1 }, "{reason}");
        }
    });
}

#[test]
fn a_request_whose_body_is_under_way_is_not_repeated() {
    run(async {
        let away = Origin::start(|_, stream, _| going_away(stream, 0)).await;
        let front = Front::multiplexing(&[away.port]);
        let (mut client, _serving) = front.connect_h2().await;
        let (status, _, content) = read(client.send(post(full("a body"))).await.unwrap()).await;
        assert_eq!((status, away.accepted()), (502, 1), "{content}");
    });
}

#[test]
fn a_reset_in_a_body_is_a_reset_for_the_client() {
    run(async {
        // Not before the client has what was sent: a reset overtakes it.
        let has_it = Rc::new(Semaphore::new(0));
        let told = has_it.clone();
        let origin = Origin::start(move |_, stream, _| {
            let told = told.clone();
            serving(stream, 10, move |(_, mut respond)| {
                let told = told.clone();
                async move {
                    let mut stream = respond.send_response(Response::new(()), false).unwrap();
                    stream.send_data(Bytes::from_static(b"half"), false).unwrap();
                    told.acquire().await.unwrap().forget();
                    stream.send_reset(Reason::INTERNAL_ERROR);
                }
            })
        })
        .await;
        let front = Front::multiplexing(&[origin.port]);
        let (mut client, _serving) = front.connect_h2().await;
        let mut body = client.send(get("/")).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "half");
        has_it.add_permits(1);
        assert!(body.frame().await.unwrap().is_err(), "what is missing is not taken for the end");
        assert_eq!(front.errors(), ["broke_off"]);
    });
}

/// Each of these clients takes nothing of what it asked for; the next one is served all the same, on the same connection.
#[test]
fn clients_that_read_nothing_hold_up_nobody_else() {
    run(async {
        let origin = Origin::start(|_, stream, _| {
            serving(stream, 100, |(request, mut respond)| async move {
                if request.uri().path() == "/small" {
                    return answer(&mut respond, "small");
                }
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                // Without end, as far as there is room.
                let piece = Bytes::from(vec![7; 16 * 1024]);
                loop {
                    stream.reserve_capacity(piece.len());
                    match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                        Some(Ok(room)) => {
                            if stream.send_data(piece.slice(..room.min(piece.len())), false).is_err() {
                                return;
                            }
                        }
                        _ => return,
                    }
                }
            })
        })
        .await;
        let front = Front::multiplexing(&[origin.port]);
        let mut stalled = Vec::new();
        for _ in 0..40 {
            let (mut client, serving) = front.connect_h2().await;
            let response = client.send(get("/endless")).await.unwrap();
            stalled.push((client, serving, response));
        }
        // Everything that fits has come.
        tokio::time::sleep(Duration::from_millis(300)).await;
        let (mut client, _serving) = front.connect_h2().await;
        let small = tokio::time::timeout(Duration::from_secs(15), client.get("/small")).await;
        assert_eq!(small.expect("it is held up").2, "small");
        assert_eq!(origin.accepted(), 1);
        drop(stalled);
    });
}

/// A body that is sent message by message.
struct Messages(mpsc::Receiver<Bytes>);

impl Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|message| message.map(|message| Ok(Frame::data(message))))
    }
}

/// An answer to each message before the next one is sent, both on one stream.
#[test]
fn both_directions_of_a_stream_flow_at_once() {
    run(async {
        let origin = Origin::start(|_, stream, _| {
            serving(stream, 10, |(request, mut respond)| async move {
                let mut stream = respond.send_response(Response::new(()), false).unwrap();
                let mut body = request.into_body();
                while let Some(part) = body.data().await {
                    let part = part.unwrap();
                    let _ = body.flow_control().release_capacity(part.len());
                    stream.send_data(part, false).unwrap();
                }
                stream.send_data(Bytes::new(), true).unwrap();
            })
        })
        .await;
        let front = Front::multiplexing(&[origin.port]);
        let (mut client, _serving) = front.connect_h2().await;
        let (sender, receiver) = mpsc::channel::<Bytes>(1);
        let response = client.send(post(Messages(receiver).boxed())).await.unwrap();
        let mut body = response.into_body();
        for number in 0..50 {
            let message = format!("message {number}");
            sender.send(message.clone().into()).await.unwrap();
            let mut echo = Vec::new();
            while echo.len() < message.len() {
                echo.extend_from_slice(&body.frame().await.unwrap().unwrap().into_data().unwrap());
            }
            assert_eq!(echo, message.as_bytes());
        }
        drop(sender);
        while let Some(frame) = body.frame().await {
            assert!(frame.unwrap().into_data().unwrap().is_empty());
        }
    });
}
