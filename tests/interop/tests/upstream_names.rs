//! Servers behind that are known by a name: looked up again when the answer's time is over, in use as long as nobody says
//! otherwise, and never a way back to this server.

use std::net::SocketAddr;

use qtls_interop::backends::{Backend, Dns, logged};
use qtls_interop::metrics::Metrics;
use qtls_interop::process::run;
use qtls_interop::{Pki, Server, curl, peers};
use serde_json::json;

fn ask(server: &Server) -> String {
    let ca = Pki::shared().ca();
    let mut command = peers::debian("curl", ca.parent());
    curl::towards(&mut command, &ca).args(["--write-out", "%{http_code}"]);
    run(command.arg(format!("https://localhost:{}/", server.port)), b"").expect_success().stdout
}

/// Two servers with one port, at two addresses.
fn two() -> (Backend, Backend, u16) {
    let a = Backend::start("a");
    let port = a.address.port();
    let b = Backend::on(SocketAddr::from(([127, 0, 0, 2], port)), "b");
    (a, b, port)
}

fn start(dns: &Dns, port: u16) -> Server {
    Server::start(json!({
        "upstream": {
            "protocol": "http",
            "servers": [format!("app.test.:{port}")],
            "resolver": dns.address.to_string(),
        },
        "sandbox": "required",
    }))
}

#[test]
fn a_name_that_moves_is_followed_when_its_time_is_over() {
    let (a, b, port) = two();
    let dns = Dns::start(1);
    dns.set("app.test", &["127.0.0.1"]);
    let server = start(&dns, port);
    assert_eq!(ask(&server), "a\n200");
    dns.set("app.test", &["127.0.0.2"]);
    server.wait_for_log("the name resolves to 127.0.0.2 now; it was 127.0.0.1");
    // The log says so a moment before it is so, and the number a moment after.
    let lookups = |metrics: &Metrics, result| metrics.sum("qtls_upstream_lookups_total", &[("result", result)]);
    server.metrics_when("the second answer", |metrics| lookups(metrics, "resolved") >= 2.0);
    // Also over a connection that was kept for the next request.
    for _ in 0..4 {
        assert_eq!(ask(&server), "b\n200");
    }
    assert_eq!((a.requests(), b.requests()), (1, 4));
    // The DNS server is gone: what is known stays known.
    dns.broken(true);
    let line = "the name can't be resolved";
    let said = server.wait_for_warning(line);
    assert!(
        said.contains("refuses to answer: ServerFailure; its last known addresses stay in use: 127.0.0.2"),
        "{said}"
    );
    assert_eq!(ask(&server), "b\n200");
    dns.wait_for_questions(2);
    dns.broken(false);
    server.wait_for_log("the name resolves again, to 127.0.0.2");
    assert_eq!(logged(&server.log(), line).0, 1, "{}", server.log());
    server.metrics_when("the third answer", |metrics| lookups(metrics, "resolved") >= 3.0);
    assert!(lookups(&server.metrics(), "failed") >= 1.0);
}

#[test]
fn an_answer_is_kept_for_its_time_and_no_connection_asks() {
    let (a, _b, port) = two();
    let dns = Dns::start(3600);
    dns.set("app.test", &["127.0.0.1"]);
    let server = start(&dns, port);
    for _ in 0..5 {
        assert_eq!(ask(&server), "a\n200");
    }
    assert_eq!((dns.asked(), a.requests()), (1, 5));
}

#[test]
fn every_address_of_a_name_is_used_and_a_dead_one_passed_over() {
    let (a, b, port) = two();
    let dns = Dns::start(3600);
    // Nobody listens at the third.
    dns.set("app.test", &["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    let server = start(&dns, port);
    let ca = Pki::shared().ca();
    for _ in 0..12 {
        let mut command = peers::debian("curl", ca.parent());
        curl::towards(&mut command, &ca).args(["--http1.1", "--request", "POST"]);
        run(command.arg(format!("https://localhost:{}/", server.port)), b"").expect_success();
    }
    assert_eq!(a.requests() + b.requests(), 12, "{}", server.log());
    assert_eq!(server.metrics().sum("qtls_upstream_errors_total", &[]), 0.0, "{}", server.log());
}

#[test]
fn a_server_starts_with_a_name_that_does_not_resolve_and_says_when_it_does() {
    let (_a, _b, port) = two();
    let dns = Dns::start(1);
    let server = start(&dns, port);
    let line = format!("upstream app.test.:{port}: the name can't be resolved: there is no such name");
    server.wait_for_warning(&line);
    assert_eq!(ask(&server), "502 Bad Gateway: the server behind this one can't be reached\n502");
    assert!(server.metrics().sum("qtls_upstream_errors_total", &[("reason", "unresolvable")]) >= 1.0);
    dns.wait_for_questions(1);
    dns.set("app.test", &["127.0.0.1"]);
    server.wait_for_log(&format!("upstream app.test.:{port}: the name resolves again, to 127.0.0.1"));
    // The log says so a moment before it is so, and the number a moment after.
    server.metrics_when("the addresses", |metrics| {
        metrics.sum("qtls_upstream_lookups_total", &[("result", "resolved")]) >= 1.0
    });
    assert_eq!(ask(&server), "a\n200");
    assert_eq!(logged(&server.log(), &line).0 - 1, usize::from(server.log().contains("purpose=")), "{}", server.log());
}

#[test]
fn a_name_that_leads_back_here_is_not_followed() {
    let dns = Dns::start(3600);
    dns.set("app.test", &["127.0.0.1"]);
    let server = Server::start(json!({ "sandbox": "off" }));
    server.applies(|| {
        let servers = [format!("app.test:{}", server.port)];
        let upstream = json!({ "protocol": "http", "servers": servers, "resolver": dns.address.to_string() });
        server.rewrite_config(json!({ "upstream": upstream }));
        server.hang_up();
    });
    assert_eq!(ask(&server), "502 Bad Gateway: the server behind this one is this one itself\n502");
    let back = format!("127.0.0.1:{} is an address of this server itself: not connected to", server.port);
    server.wait_for_warning(&back);
    assert_eq!(server.metrics().sum("qtls_upstream_errors_total", &[("reason", "loop")]), 1.0);
    assert_eq!(server.metrics().sum("qtls_connections_total", &[]), 1.0, "there was one client, and nobody else");
}
