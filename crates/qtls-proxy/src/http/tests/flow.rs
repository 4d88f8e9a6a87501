//! Bodies flow as fast as the slower side, and nothing in between fills up.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Frame;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;

use super::harness::{Front, Origin, frames, get, head, rest, run, until};

const CHUNK: usize = 64 * 1024;
/// What a connection over loopback may hold in the socket buffers of both of its ends.
static KERNEL: LazyLock<usize> = LazyLock::new(|| {
    // The largest sizes, which are the last of three numbers, and their defaults.
    let largest = [("tcp_rmem", 6 << 20), ("tcp_wmem", 4 << 20)].map(|(name, default)| {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap_or_default();
        text.split_whitespace().next_back().and_then(|number| number.parse().ok()).unwrap_or(default)
    });
    largest.iter().sum()
});
/// What may be held when nobody reads: in the kernel, in the pipe that stands for the client's socket, and by us.
static HELD: LazyLock<usize> = LazyLock::new(|| *KERNEL + (3 << 20));
/// The length of the bodies.
static CHUNKS: LazyLock<usize> = LazyLock::new(|| 2 * *HELD / CHUNK);
/// So long without progress is a standstill.
const STILL: Duration = Duration::from_millis(300);
/// Bodies repeat this many bytes: a number that divides no buffer, so that no shift or gap goes unnoticed.
const PERIOD: usize = 251;

/// What a body has from `position` on, up to a chunk.
fn pattern(position: usize) -> &'static [u8] {
    static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| (0..=250).cycle().take(CHUNK + PERIOD).collect());
    &PATTERN[position % PERIOD..][..CHUNK]
}

/// Whether `data` is what a body has from `position` on.
fn is_at(mut position: usize, data: &[u8]) -> bool {
    data.chunks(CHUNK).all(|part| {
        let same = part == &pattern(position)[..part.len()];
        position += part.len();
        same
    })
}

fn chunk(number: usize) -> &'static [u8] {
    pattern(number * CHUNK)
}

async fn write_body(stream: &mut (impl AsyncWrite + Unpin), written: &Cell<usize>) {
    for number in 0..*CHUNKS {
        stream.write_all(chunk(number)).await.unwrap();
        written.set((number + 1) * CHUNK);
    }
}

async fn check_body(stream: &mut (impl AsyncRead + Unpin)) {
    let mut buffer = vec![0; CHUNK];
    for number in 0..*CHUNKS {
        stream.read_exact(&mut buffer).await.unwrap();
        assert!(buffer == chunk(number), "chunk {number} differs");
    }
}

/// Waits until `written` no longer grows.
async fn standstill(written: impl Fn() -> usize) -> usize {
    loop {
        let before = written();
        sleep(STILL).await;
        if before > 0 && written() == before {
            return before;
        }
    }
}

/// An origin that sends the body as fast as it is taken.
async fn sending(written: Rc<Cell<usize>>) -> Origin {
    Origin::start(move |_, mut stream, _| {
        let written = written.clone();
        async move {
            head(&mut stream).await;
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", CHUNK * *CHUNKS);
            stream.write_all(answer.as_bytes()).await.unwrap();
            write_body(&mut stream, &written).await;
        }
    })
    .await
}

#[test]
fn a_reader_that_stops_stops_the_upstream() {
    run(async {
        let written = Rc::new(Cell::new(0));
        let origin = sending(written.clone()).await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect();
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        head(&mut client).await;
        let held = standstill(|| written.get()).await;
        assert!(held < *HELD, "{held} bytes are held somewhere");
        check_body(&mut client).await;
        assert_eq!(written.get(), CHUNK * *CHUNKS);
    });
}

#[test]
fn an_http2_reader_that_stops_stops_the_upstream_and_no_other_stream() {
    run(async {
        let written = Rc::new(Cell::new(0));
        let origin = sending(written.clone()).await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect_h2().await;
        let mut body = client.send(get("/")).await.unwrap().into_body();
        let held = standstill(|| written.get()).await;
        assert!(held < *HELD, "{held} bytes are held somewhere");
        let mut position = 0;
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(is_at(position, &data), "behind {position}");
            position += data.len();
        }
        assert_eq!(position, CHUNK * *CHUNKS);
    });
}

/// An origin that reads nothing of a body until it is told to, and then checks it.
async fn receiving(go: Rc<tokio::sync::Notify>, chunked: bool) -> Origin {
    Origin::start(move |_, mut stream, seen| {
        let go = go.clone();
        async move {
            head(&mut stream).await;
            go.notified().await;
            if chunked {
                let mut position = 0;
                loop {
                    let line = until(&mut stream, "\r\n").await;
                    let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
                    let mut data = vec![0; size + 2];
                    stream.read_exact(&mut data).await.unwrap();
                    assert!(is_at(position, &data[..size]), "behind {position}");
                    position += size;
                    if size == 0 {
                        break;
                    }
                }
                assert_eq!(position, CHUNK * *CHUNKS);
            } else {
                check_body(&mut stream).await;
            }
            seen.borrow_mut().push("whole".to_owned());
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
            rest(&mut stream).await;
        }
    })
    .await
}

#[test]
fn an_upstream_that_stops_reading_stops_the_upload() {
    run(async {
        let go = Rc::new(tokio::sync::Notify::new());
        let origin = receiving(go.clone(), false).await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect();
        let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", CHUNK * *CHUNKS);
        client.write_all(request.as_bytes()).await.unwrap();
        let (mut reader, mut writer) = tokio::io::split(client);
        let written = Rc::new(Cell::new(0));
        let writing = written.clone();
        tokio::task::spawn_local(async move {
            write_body(&mut writer, &writing).await;
            // Dropping one half would not close the pipe, but tells that this is over.
            std::future::pending::<()>().await;
        });
        let held = standstill(|| written.get()).await;
        assert!(held < *HELD, "{held} bytes are held somewhere");
        go.notify_one();
        assert!(head(&mut reader).await.starts_with("HTTP/1.1 200 OK\r\n"));
        assert_eq!((written.get(), origin.seen()), (CHUNK * *CHUNKS, vec!["whole".to_owned()]));
    });
}

#[test]
fn an_upstream_that_stops_reading_stops_an_http2_upload() {
    run(async {
        let go = Rc::new(tokio::sync::Notify::new());
        let origin = receiving(go.clone(), true).await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect_h2().await;
        let made = Arc::new(AtomicUsize::new(0));
        let making = made.clone();
        let body = frames((0..*CHUNKS).map(move |number| {
            making.fetch_add(CHUNK, Ordering::Relaxed);
            Frame::data(Bytes::from_static(chunk(number)))
        }));
        let request = Request::post("https://a.example/").body(body).unwrap();
        let response = tokio::task::spawn_local(async move { client.send(request).await.unwrap().status() });
        let held = standstill(|| made.load(Ordering::Relaxed)).await;
        assert!(held < *HELD, "{held} bytes are held somewhere");
        go.notify_one();
        assert_eq!(response.await.unwrap(), 200);
        assert_eq!(origin.seen(), ["whole"]);
    });
}
