//! Behind one name, each protocol has its server: the client's ALPN decides, in the ClientHello.

use std::io::Write;

use qtls_interop::backends::Backend;
use qtls_interop::openssl::{Client, Exchange};
use qtls_interop::process::run;
use qtls_interop::upstreams::echo;
use qtls_interop::{Pki, Server, curl, peers};
use serde_json::json;

/// `localhost` over h2 and HTTP/1.1 to one server, and by `postgresql` and `redis` to others; other names by `redis` alone.
struct Front {
    server: Server,
    web: Backend,
    database: Backend,
}

fn front() -> Front {
    let (web, database) = (Backend::start("web"), Backend::start("database"));
    let tcp = |address: String| json!({ "protocol": "tcp", "servers": [address] });
    let server = Server::start(json!({
        "virtual_hosts": [
            { "names": ["localhost"], "upstream": { "protocol": "http", "servers": [web.text()] } },
            { "names": ["localhost"], "alpn": ["postgresql"], "upstream": tcp(database.text()) },
            { "names": ["only.test"], "alpn": ["postgresql"], "upstream": tcp(database.text()) },
            { "alpn": ["redis"], "upstream": tcp(format!("127.0.0.1:{}", echo())) },
        ],
    }));
    Front { server, web, database }
}

/// What s_client got for a request over plain HTTP/1.1, offering `alpn`.
fn get(server: &Server, name: &str, alpn: &str) -> Exchange {
    let mut client = Client::new(server.port).arguments(&["-servername", name]);
    if !alpn.is_empty() {
        client = client.arguments(&["-alpn", alpn]);
    }
    client.get("/")
}

#[test]
fn each_protocol_has_its_server() {
    let Front { server, web, database } = front();
    for (alpn, answer) in
        [("http/1.1", "web\n"), ("", "web\n"), ("postgresql", "database\n"), ("http/1.1,postgresql", "database\n")]
    {
        let exchange = get(&server, "localhost", alpn);
        assert!(exchange.finished.stdout.ends_with(answer), "{alpn}: {}", exchange.finished.said());
        // The protocol that was agreed on is the one of the host.
        let agreed = alpn.rsplit(',').next().unwrap_or_default();
        assert!(agreed.is_empty() || exchange.trace.contains(agreed), "{alpn}: {}", exchange.trace);
    }
    assert_eq!((web.requests(), database.requests()), (2, 2));
    let ca = Pki::shared().ca();
    let mut command = peers::debian("curl", ca.parent());
    curl::towards(&mut command, &ca).args(["--http2", "--write-out", "%{http_version}"]);
    let finished = run(command.arg(format!("https://localhost:{}/", server.port)), b"").expect_success();
    assert_eq!(finished.stdout, "web\n2");
    let hybrid = [("group", "X25519MLKEM768"), ("pq", "true")];
    assert_eq!(server.metrics().sum("qtls_handshakes_total", &hybrid), 5.0);
}

#[test]
fn a_protocol_that_no_host_of_the_name_has_is_refused_with_its_alert() {
    let Front { server, database, .. } = front();
    let exchange = get(&server, "only.test", "h2");
    assert!(exchange.trace.contains("no application protocol"), "{}", exchange.trace);
    assert_eq!(database.requests(), 0);
    server.metrics_when("the failure", |metrics| {
        metrics.sum("qtls_handshake_failures_total", &[("reason", "no_common_alpn")]) == 1.0
    });
}

#[test]
fn a_protocol_may_have_a_server_for_all_other_names() {
    let Front { server, .. } = front();
    let mut client = Client::new(server.port).arguments(&["-alpn", "redis", "-servername", "elsewhere.test"]).start();
    let mut input = client.stdin();
    writeln!(input, "PING").expect("the connection is open");
    assert_eq!(client.stdout.wait_for_line("PING"), "PING");
}

/// A host that is reached by another protocol of the same name is another host all the same.
#[test]
fn a_request_does_not_get_around_the_protocol() {
    let web = Backend::start("web");
    let http = json!({ "protocol": "http", "servers": [web.text()] });
    let server = Server::start(json!({
        "virtual_hosts": [
            { "names": ["localhost", "b.test"], "upstream": http },
            { "names": ["b.test"], "alpn": ["h2"], "certificates": { "verify_client": true, "ca_bundle": Pki::shared().ca() },
              "upstream": http },
        ],
    }));
    let ca = Pki::shared().ca();
    let status = |version: &str, host: &str| {
        let mut command = peers::debian("curl", ca.parent());
        curl::towards(&mut command, &ca);
        command.args([
            version,
            "--header",
            &format!("Host: {host}"),
            "--output",
            "/dev/null",
            "--write-out",
            "%{http_code}",
        ]);
        run(command.arg(format!("https://localhost:{}/", server.port)), b"").expect_success().stdout
    };
    // curl that is told of HTTP/1.1 offers nothing else; otherwise it offers both, and h2 belongs to the strict host.
    assert_eq!((status("--http1.1", "localhost"), status("--http1.1", "b.test")), ("200".to_owned(), "200".to_owned()));
    assert_eq!((status("--http2", "localhost"), status("--http2", "b.test")), ("200".to_owned(), "421".to_owned()));
}
