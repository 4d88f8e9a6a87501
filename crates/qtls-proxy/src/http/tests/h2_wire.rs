//! HTTP/2 requests as no well-behaved client sends them, frame by frame.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::harness::{Front, Origin, facts, run};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// What the server did about stream 1.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// The first byte of the fields: in HPACK's static table, 0x88 is `:status: 200`, and 0x8c is `:status: 400`.
    Answered(u8),
    Reset,
    GoneAway,
    Closed,
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// Literal fields, never indexed and as they are (RFC 7541, section 6.2.2).
fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for part in [name, value] {
            block.push(u8::try_from(part.len()).ok().filter(|length| *length < 127).unwrap());
            block.extend(*part);
        }
    }
    block
}

/// A request of these fields and this body, in front of an upstream; and how many connections that got.
async fn outcome(fields: &[(&[u8], &[u8])], body: Option<&[u8]>) -> (Outcome, usize) {
    let origin = Origin::answering(OK).await;
    let front = Front::proxy(&[origin.port]);
    let (mut client, serving) = front.connect_as(facts(Some("h2")));
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(SETTINGS, 0, 0, &[]));
    let end = if body.is_some() { 0 } else { END_STREAM };
    bytes.extend(frame(HEADERS, END_HEADERS | end, 1, &block(fields)));
    if let Some(body) = body {
        bytes.extend(frame(DATA, END_STREAM, 1, body));
    }
    client.write_all(&bytes).await.unwrap();
    let outcome = loop {
        let mut head = [0; 9];
        if client.read_exact(&mut head).await.is_err() {
            break Outcome::Closed;
        }
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        client.read_exact(&mut payload).await.unwrap();
        match (head[3], head[8]) {
            (HEADERS, 1) => break Outcome::Answered(payload[0]),
            (RST_STREAM, 1) => break Outcome::Reset,
            (GOAWAY, _) => break Outcome::GoneAway,
            _ => {}
        }
    };
    drop(client);
    let _ = serving.await;
    (outcome, origin.accepted())
}

const METHOD: (&[u8], &[u8]) = (b":method", b"GET");
const SCHEME: (&[u8], &[u8]) = (b":scheme", b"https");
const PATH: (&[u8], &[u8]) = (b":path", b"/");
const AUTHORITY: (&[u8], &[u8]) = (b":authority", b"a.example");

#[test]
fn malformed_requests_end_with_their_stream_and_nothing_is_passed_on() {
    run(async {
        assert_eq!(outcome(&[METHOD, SCHEME, PATH, AUTHORITY], None).await, (Outcome::Answered(0x88), 1));
        let extra: &[(&[u8], &[u8])] = &[
            // RFC 9113, section 8.2.1: names.
            (b"X-Upper", b"y"),
            (b"Transfer-encoding", b"chunked"),
            (b"a b", b"y"),
            (b"a:b", b"y"),
            (b"a\r\nb", b"y"),
            (b"", b"y"),
            // Values.
            (b"x", b"a\r\nx-injected: y"),
            (b"x", b"a\nb"),
            (b"x", b"a\rb"),
            (b"x", b"a\0b"),
            (b"cookie", b"a\r\n\r\nGET /smuggled HTTP/1.1"),
            // Section 8.2.2: fields of a connection.
            (b"connection", b"close"),
            (b"transfer-encoding", b"chunked"),
            (b"keep-alive", b"timeout=5"),
            (b"proxy-connection", b"close"),
            (b"upgrade", b"websocket"),
            (b"te", b"gzip"),
            // Section 8.3: pseudo-fields.
            (b":path", b"/smuggled"),
            (b":method", b"POST"),
            (b":authority", b"b.example"),
            (b":scheme", b"http"),
            (b":status", b"200"),
            (b":unknown", b"y"),
            // Section 8.1.1: lengths.
            (b"content-length", b"5"),
            (b"content-length", b"x"),
            (b"content-length", b"+0"),
            (b"host", b"b.example"),
            (b"host", b"a.example b.example"),
        ];
        for field in extra {
            let (outcome, accepted) = outcome(&[METHOD, SCHEME, PATH, AUTHORITY, *field], None).await;
            assert!(
                matches!(outcome, Outcome::Reset | Outcome::GoneAway | Outcome::Answered(0x8c)),
                "{outcome:?} for {}",
                String::from_utf8_lossy(field.0)
            );
            assert_eq!(accepted, 0, "{} was passed on", String::from_utf8_lossy(field.0));
        }
        let requests: &[&[(&[u8], &[u8])]] = &[
            &[SCHEME, PATH, AUTHORITY],
            &[METHOD, SCHEME, AUTHORITY],
            &[METHOD, SCHEME, PATH],
            &[METHOD, SCHEME, (b":path", b""), AUTHORITY],
            &[METHOD, SCHEME, (b":path", b"/ HTTP/1.1\r\nx: y"), AUTHORITY],
            &[METHOD, SCHEME, (b":path", b"/a b"), AUTHORITY],
            &[METHOD, SCHEME, (b":path", b"a"), AUTHORITY],
            &[(b":method", b"GET /smuggled HTTP/1.1\r\nx: y"), SCHEME, PATH, AUTHORITY],
            &[(b":method", b""), SCHEME, PATH, AUTHORITY],
            &[METHOD, (b":scheme", b"ftp"), PATH, AUTHORITY],
            &[METHOD, (b":scheme", b"https\r\n"), PATH, AUTHORITY],
            &[METHOD, SCHEME, PATH, (b":authority", b"a.example/b")],
            &[METHOD, SCHEME, PATH, (b":authority", b"user@a.example")],
            &[METHOD, SCHEME, PATH, (b":authority", b"a.example\r\nx: y")],
            &[METHOD, SCHEME, PATH, (b":authority", b"")],
            // Pseudo-fields come first.
            &[METHOD, (b"x", b"y"), SCHEME, PATH, AUTHORITY],
        ];
        for request in requests {
            let (outcome, accepted) = outcome(request, None).await;
            assert!(
                matches!(outcome, Outcome::Reset | Outcome::GoneAway | Outcome::Answered(0x8c)),
                "{outcome:?} for {request:?}"
            );
            assert_eq!(accepted, 0, "{request:?} was passed on");
        }
    });
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_never_looks_complete() {
    run(async {
        for (length, body) in [("3", "hello"), ("9", "hello")] {
            let origin = Origin::start(|_, mut stream, seen| async move {
                let request = super::harness::rest(&mut stream).await;
                seen.borrow_mut().push(request);
            })
            .await;
            let front = Front::proxy(&[origin.port]);
            let (mut client, serving) = front.connect_as(facts(Some("h2")));
            let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
            bytes.extend(frame(SETTINGS, 0, 0, &[]));
            let fields =
                [(&b":method"[..], &b"POST"[..]), SCHEME, PATH, AUTHORITY, (b"content-length", length.as_bytes())];
            bytes.extend(frame(HEADERS, END_HEADERS, 1, &block(&fields)));
            bytes.extend(frame(DATA, END_STREAM, 1, body.as_bytes()));
            client.write_all(&bytes).await.unwrap();
            let mut answer = Vec::new();
            // It ends with the stream, or with the connection.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(500), client.read_to_end(&mut answer)).await;
            drop(client);
            let _ = serving.await;
            while origin.seen().len() < origin.accepted() {
                tokio::task::yield_now().await;
            }
            for request in origin.seen() {
                let (_, passed) = request.split_once("\r\n\r\n").unwrap_or_default();
                assert!(passed.len() < length.parse().unwrap(), "{request}");
            }
        }
    });
}
