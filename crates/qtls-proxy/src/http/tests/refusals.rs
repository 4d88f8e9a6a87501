//! Requests that are not passed on: malformed ones, and those that two programs in a row could take for different things.

use http::Request;
use tokio::io::AsyncWriteExt;

use super::harness::{Front, Origin, empty, fields, read, rest, run, until};
use crate::http::Cause;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
/// What a smuggler would have the upstream take for a request of its own.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

/// The answer to a request in front of an upstream that must not see any of it.
async fn refused(request: &str) -> String {
    let origin = Origin::answering(OK).await;
    let front = Front::proxy(&[origin.port]);
    let (mut client, serving) = front.connect();
    client.write_all(request.as_bytes()).await.unwrap();
    client.write_all(SMUGGLED.as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    assert_eq!(origin.accepted(), 0, "{request:?} was passed on");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(matches!(serving.await.unwrap().cause, Cause::Closed | Cause::ClientError));
    answer
}

#[test]
fn ambiguous_lengths_are_400_and_the_end() {
    run(async {
        for request in [
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTRANSFER-ENCODING: chunked\r\ncontent-length:0\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: x\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: -1\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent_Length: 6\r\nContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5;6\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 6\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5.0\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \"5\"\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551616\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ] {
            let answer = refused(request).await;
            assert!(answer.contains(" 400 Bad Request\r\n"), "{answer} for {request:?}");
            assert!(fields(&answer).contains(&"connection: close"), "{answer} for {request:?}");
        }
    });
}

#[test]
fn an_ambiguous_request_behind_a_good_one_is_seen_too() {
    run(async {
        let origin = Origin::answering(OK).await;
        let front = Front::proxy(&[origin.port]);
        let requests = format!(
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"
        );
        let (answer, end) = front.talk(requests).await;
        let statuses: Vec<_> = answer.lines().filter(|line| line.contains("HTTP/")).collect();
        assert_eq!(statuses, ["HTTP/1.1 200 OK", "hiHTTP/1.1 400 Bad Request"]);
        assert!(answer.ends_with("a request has either Content-Length or Transfer-Encoding\n"), "{answer}");
        assert_eq!((origin.seen().len(), end.requests), (1, 2));
    });
}

#[test]
fn malformed_heads_are_400_and_the_end() {
    run(async {
        for request in [
            "GET / HTTP/1.1\r\nHost: a\r\nX: folded\r\n value\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: folded\r\n\tContent-Length: 5\r\n\r\nhello",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\n Transfer-Encoding: chunked\r\nHost: a\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: \u{b}chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\u{c}\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-\u{212a}ncoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chu\0nked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding\0: chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\rHost: a\r\r",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\rContent-Length: 5\r\n\r\nhello",
            "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n",
            " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a\0b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\0\r\nHost: a\r\n\r\n",
            "GET / http/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / \r\nHost: a\r\n\r\n",
            "GET /\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n",
            "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX Y: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            "GET / HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "G@T / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            let answer = refused(request).await;
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer} for {request:?}");
        }
    });
}

#[test]
fn a_line_feed_alone_is_400_wherever_it_is() {
    run(async {
        for request in [
            "GET / HTTP/1.1\nHost: a\n\n",
            "GET / HTTP/1.1\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n",
            "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        ] {
            let answer = refused(request).await;
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer} for {request:?}");
            assert!(answer.ends_with("a line ends with carriage return and line feed\n"), "{answer} for {request:?}");
        }
        // Empty lines before a request are no flaw (RFC 9112, section 2.2).
        let front = Front::proxy(&[Origin::answering(OK).await.port]);
        let (answer, _) = front.talk("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    });
}

/// What an upstream saw of a chunked body, where it must not look complete; and what the client got.
async fn broken(body: &str) -> (String, String) {
    let origin = Origin::start(|_, mut stream, seen| async move {
        let request = rest(&mut stream).await;
        seen.borrow_mut().push(request);
    })
    .await;
    let front = Front::proxy(&[origin.port]);
    let (mut client, serving) = front.connect();
    let request = format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{body}{SMUGGLED}");
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    assert!(matches!(serving.await.unwrap().cause, Cause::Closed | Cause::ClientError), "{body:?}");
    while origin.accepted() > origin.seen().len() {
        tokio::task::yield_now().await;
    }
    assert!(origin.accepted() <= 1, "{body:?}: the request behind it was passed on");
    (origin.seen().first().cloned().unwrap_or_default(), answer)
}

#[test]
fn chunks_that_two_programs_could_read_differently_never_look_complete() {
    run(async {
        for body in [
            // Sizes.
            "5\nhello\r\n0\r\n\r\n",
            "5;x\nhello\r\n0\r\n\r\n",
            "5;x=\"\n\"\r\nhello\r\n0\r\n\r\n",
            "0x5\r\nhello\r\n0\r\n\r\n",
            "+5\r\nhello\r\n0\r\n\r\n",
            "-5\r\nhello\r\n0\r\n\r\n",
            " 5\r\nhello\r\n0\r\n\r\n",
            "5 5\r\nhello\r\n0\r\n\r\n",
            "\r\nhello\r\n0\r\n\r\n",
            ";x\r\nhello\r\n0\r\n\r\n",
            "10000000000000005\r\nhello\r\n0\r\n\r\n",
            "ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
            "fffffffffffffffe\r\nhello\r\n0\r\n\r\n",
            // What is behind the data.
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhelloXX0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhello\rX0\r\n\r\n",
            "5\r\nhello\r\n0\r\nX",
            // Trailers.
            "5\r\nhello\r\n0\r\nX: y\n\r\n",
            "5\r\nhello\r\n0\r\n\n",
            "5\r\nhello\r\n0\r\nX: y\r\n folded\r\n\r\n",
            "5\r\nhello\r\n0\r\nX : y\r\n\r\n",
            "5\r\nhello\r\n0\r\nX: a\0b\r\n\r\n",
        ] {
            let (seen, answer) = broken(body).await;
            assert!(!seen.contains("0\r\n\r\n") && !seen.contains("smuggled"), "{seen} for {body:?}");
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer} for {body:?}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer} for {body:?}");
        }
        // An extension as such is none of our business, and ends here (RFC 9112, section 7.1.1).
        let origin = Origin::start(|_, mut stream, seen| async move {
            let request = until(&mut stream, "0\r\n\r\n").await;
            seen.borrow_mut().push(request);
            stream.write_all(OK.as_bytes()).await.unwrap();
        })
        .await;
        let front = Front::proxy(&[origin.port]);
        let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n\
            00005;name=\"value\" ; x\r\nhello\r\n0;y\r\n\r\n";
        let (answer, _) = front.talk(request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(origin.seen()[0].ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{}", origin.seen()[0]);
    });
}

#[test]
fn hosts_that_are_missing_or_differ_are_400() {
    run(async {
        for (request, reason) in [
            ("GET / HTTP/1.1\r\n\r\n", "there is no Host"),
            ("GET https://a/ HTTP/1.1\r\n\r\n", "there is no Host"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "there is more than one Host"),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "there is more than one Host"),
            ("GET / HTTP/1.1\r\nHost: \r\n\r\n", "the Host is not a host"),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "the Host is not a host"),
            ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", "the Host is not a host"),
            ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "the Host is not a host"),
            ("GET https://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "the Host is not that of the request target"),
            ("GET https://b@a/ HTTP/1.1\r\nHost: a\r\n\r\n", "the Host is not that of the request target"),
            ("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n", "the scheme of the request target is not http or https"),
            ("GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", "the request target is neither a path nor a URL"),
        ] {
            let answer = refused(request).await;
            assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer} for {request:?}");
            assert!(answer.ends_with(&format!("400 Bad Request: {reason}\n")), "{answer} for {request:?}");
        }
        let origin = Origin::answering(OK).await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect_h2().await;
        let request = Request::get("https://a.example/").header("host", "b.example").body(empty()).unwrap();
        let (status, _, content) = read(client.send(request).await.unwrap()).await;
        assert_eq!((status, content.as_str()), (400, "400 Bad Request: the Host is not that of the request target\n"));
        let request = Request::get("https://a.example/").header("host", "A.example:443").body(empty()).unwrap();
        assert_eq!(client.send(request).await.unwrap().status(), 200);
        assert_eq!(origin.accepted(), 1);
    });
}

#[test]
fn what_is_not_supported_says_so() {
    run(async {
        for (request, status) in [
            ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "501 Not Implemented"),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501 Not Implemented"),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "501 Not Implemented",
            ),
            ("TRACE / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "501 Not Implemented"),
            ("POST / HTTP/1.1\r\nHost: a\r\nExpect: magic\r\nConnection: close\r\n\r\n", "417 Expectation Failed"),
        ] {
            let answer = refused(request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer} for {request:?}");
            assert!(fields(&answer).contains(&"connection: close"), "{answer} for {request:?}");
        }
    });
}

#[test]
fn a_refusal_of_one_request_does_not_cost_the_next_one_its_connection() {
    run(async {
        let origin = Origin::answering(OK).await;
        let front = Front::proxy(&[origin.port]);
        let (mut client, _) = front.connect();
        client.write_all(b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(until(&mut client, "TRACE is not supported\n").await.starts_with("HTTP/1.1 501 "));
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        assert!(until(&mut client, "\r\n\r\nhi").await.starts_with("HTTP/1.1 200 "));
    });
}
