//! The built-in pages, over both protocols.

use http::Request;
use qtls_core::facts::Facts;
use tokio::io::AsyncWriteExt;

use super::harness::{Front, LONG, empty, facts, fields, full, head, read, run};
use crate::http::Cause;

#[test]
fn the_page_tells_the_facts_of_its_own_connection() {
    run(async {
        let front = Front::pages(LONG);
        let (answer, end) = front.talk("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        let (head, page) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        for field in [
            "content-type: text/html; charset=utf-8",
            "cache-control: no-store",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            &format!("content-length: {}", page.len()),
        ] {
            assert!(fields(head).contains(&field), "{field} is not in {head}");
        }
        assert!(head.contains("content-security-policy: default-src 'none'; style-src 'sha256-"), "{head}");
        assert!(page.contains("<dd>SecP384r1MLKEM1024</dd>") && page.contains("Post-quantum: yes"), "{page}");
        assert_eq!((end.cause, end.requests, end.reason(), end.goodbye), (Cause::Closed, 1, "closed", true));

        let (mut client, _) = front.connect_h2().await;
        let (status, fields, page) = client.get("/").await;
        assert_eq!(status, 200);
        assert!(fields.contains("content-security-policy: default-src 'none'; style-src 'sha256-"), "{fields}");
        assert!(page.contains("<dt>Application protocol (ALPN)</dt><dd>h2</dd>"), "{page}");
    });
}

#[test]
fn the_status_is_the_facts() {
    run(async {
        let front = Front::pages(LONG);
        let (mut client, _) = front.connect_h2().await;
        let (status, fields, json) = client.get("/status.json?anything").await;
        assert_eq!(status, 200);
        assert!(fields.contains("content-type: application/json\n") && fields.contains("cache-control: no-store\n"));
        assert_eq!(json, serde_json::to_string(&facts(Some("h2"))).unwrap());
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["group"], &json["post_quantum"]), (&"SecP384r1MLKEM1024".into(), &true.into()));
    });
}

#[test]
fn head_is_get_without_content_in_both_protocols() {
    run(async {
        let front = Front::pages(LONG);
        for path in ["/", "/status.json", "/health", "/nowhere"] {
            let whole = front.talk(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await.0;
            let bare = front.talk(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await.0;
            let (whole, content) = whole.split_once("\r\n\r\n").unwrap();
            assert!(!content.is_empty());
            let without_date = |head: &str| {
                head.lines().filter(|line| !line.starts_with("date")).map(str::to_owned).collect::<Vec<_>>()
            };
            assert_eq!(without_date(whole), without_date(bare.strip_suffix("\r\n\r\n").unwrap()));

            let (mut client, _) = front.connect_h2().await;
            let request = Request::head(format!("https://a.example{path}")).body(empty()).unwrap();
            let (status, fields, content) = read(client.send(request).await.unwrap()).await;
            assert_eq!((status, content.as_str()), (if path == "/nowhere" { 404 } else { 200 }, ""));
            let length = fields.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            assert!(length.parse::<usize>().unwrap() > 0);
        }
    });
}

#[test]
fn health_is_for_probes() {
    run(async {
        let (answer, _) = Front::pages(LONG).talk("GET /health HTTP/1.0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n") && answer.ends_with("\r\n\r\nok\n"), "{answer}");
    });
}

#[test]
fn other_methods_and_paths_are_refused_as_the_client_likes_to_read() {
    run(async {
        let front = Front::pages(LONG);
        let (answer, _) =
            front.talk("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi").await;
        assert!(answer.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"), "{answer}");
        assert!(fields(&answer).contains(&"allow: GET, HEAD"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n405 Method Not Allowed: this can only be read\n"), "{answer}");

        let request = "GET /%3Cb%3E HTTP/1.1\r\nHost: a\r\nAccept: text/html, application/json;q=0.5\r\nConnection: close\r\n\r\n";
        let (answer, _) = front.talk(request).await;
        assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
        assert!(fields(&answer).contains(&"content-type: application/json"), "{answer}");
        let json: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(json["status"], 404);
        assert!(!answer.contains("3Cb"), "{answer}");

        let (mut client, _) = front.connect_h2().await;
        let request = Request::delete("https://a.example/health").body(full("x")).unwrap();
        let (status, fields, content) = read(client.send(request).await.unwrap()).await;
        assert_eq!((status, content.as_str()), (405, "405 Method Not Allowed: this can only be read\n"));
        assert!(fields.contains("allow: GET, HEAD\n") && fields.contains("content-type: text/plain; charset=utf-8\n"));
    });
}

#[test]
fn connections_are_kept_and_alpn_decides_the_protocol() {
    run(async {
        let front = Front::pages(LONG);
        let (mut client, serving) = front.connect_as(facts(Some("http/1.1")));
        for _ in 0..3 {
            client.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            assert!(head(&mut client).await.starts_with("HTTP/1.1 200 OK\r\n"));
            super::harness::until(&mut client, "ok\n").await;
        }
        drop(client);
        let end = serving.await.unwrap();
        assert_eq!((end.cause, end.requests), (Cause::Closed, 3));

        // What HTTP/2 clients say first is no HTTP/1.1 request.
        let (mut client, serving) = front.connect();
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let answer = super::harness::rest(&mut client).await;
        assert!(!answer.contains(" 200 "), "{answer}");
        assert_eq!(serving.await.unwrap().cause, Cause::ClientError);
    });
}

#[test]
fn a_classical_connection_is_told_so() {
    run(async {
        let front = Front::pages(LONG);
        let (mut client, _) = front.connect_as(Facts { group: 0x0018, ..facts(None) });
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let page = super::harness::rest(&mut client).await;
        assert!(page.contains("Post-quantum: no") && page.contains("agreed with secp384r1 alone"), "{page}");
    });
}
