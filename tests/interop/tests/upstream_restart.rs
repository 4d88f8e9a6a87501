//! A server behind that is killed and comes back in the middle of 1,000 requests: those that had been sent to it fail, each
//! as 502, and no other.

use std::net::SocketAddr;
use std::time::Duration;

use qtls_interop::backends::{Backend, Nginx, logged};
use qtls_interop::metrics::Metrics;
use qtls_interop::process::{PATIENCE, Running};
use qtls_interop::server::free_port;
use qtls_interop::{Pki, Server, peers};
use serde_json::json;

/// An nginx in front of a backend that keeps requests until it is told not to.
fn nginx(port: u16, behind: SocketAddr) -> Nginx {
    let http = format!(
        "server {{ listen 127.0.0.1:{port} backlog=2048; location / {{ proxy_pass http://{behind}; \
         proxy_http_version 1.1; proxy_read_timeout 300; }} }}"
    );
    Nginx::with(&http, &[])
}

#[test]
fn only_what_had_been_sent_to_it_fails_and_each_as_502() {
    const PARALLEL: usize = 1000;
    const LATER: usize = 500;
    let (slow_a, slow_b) = (Backend::start("a"), Backend::start("b"));
    let (port_a, port_b) = (free_port(), free_port());
    let a = nginx(port_a, slow_a.address);
    let b = nginx(port_b, slow_b.address);
    let servers = [port_a, port_b].map(|port| format!("127.0.0.1:{port}"));
    let server = Server::start(json!({ "upstream": { "protocol": "http", "servers": servers } }));
    slow_a.hold();
    slow_b.hold();
    let mut h2load = peers::debian("h2load", [Pki::shared().directory()]);
    h2load.args(["-n", &(PARALLEL + LATER).to_string(), "-c", "100", "-m", "10", "--groups=X25519MLKEM768"]);
    let load = Running::start(h2load.arg(format!("https://127.0.0.1:{}/", server.port)));
    slow_a.wait_for_held(PARALLEL / 2);
    slow_b.wait_for_held(PARALLEL / 2);
    assert_eq!((slow_a.requests(), slow_b.requests()), (PARALLEL / 2, PARALLEL / 2), "in turn, exactly");

    drop(a);
    // In the place of each request that failed, the client makes another one. While nginx dies, its socket may take some of
    // them yet: these were sent to it, too. All others go to the other server.
    let gone = [("upstream", servers[0].as_str()), ("reason", "closed")];
    let closed = |metrics: &Metrics| metrics.sum("qtls_upstream_errors_total", &gone) as usize;
    // A connection of the client makes no more than its share, and so a few are missing yet.
    server.metrics_when("that the requests have found another server", |metrics| {
        closed(metrics) + slow_b.held() >= PARALLEL + LATER - 100
    });
    slow_a.release();
    let a = nginx(port_a, slow_a.address);
    slow_b.release();
    let finished = load.finish(Duration::from_secs(120)).expect_success();
    let statuses = finished.stdout.lines().find_map(|line| line.strip_prefix("status codes: ")).expect("a summary");
    let count = |class: &str| -> usize {
        let one = statuses.split(", ").find_map(|one| one.trim().strip_suffix(class)).expect("each class");
        one.trim().parse().expect("a number")
    };
    let failed = count("5xx");
    assert_eq!(count("2xx") + failed, PARALLEL + LATER, "{}", finished.said());
    assert!(finished.stdout.contains("0 errored, 0 timeout"), "{}", finished.said());
    // Of those that came later, the half whose turn it was may have met a nginx that was a long time dying.
    assert!((PARALLEL / 2..=PARALLEL / 2 + LATER / 2).contains(&failed), "{failed}");

    // Of what it failed, the rest had not been sent, and was passed on.
    let metrics = server.metrics();
    let of = |name: &str, index: usize| metrics.sum(name, &[("upstream", servers[index].as_str())]) as usize;
    let passed_on = of("qtls_upstream_passed_on_total", 0);
    assert_eq!(of("qtls_upstream_errors_total", 0) - passed_on, failed, "{}", metrics.text());
    assert_eq!(
        (of("qtls_upstream_errors_total", 1), of("qtls_upstream_passed_on_total", 1)),
        (0, 0),
        "{}",
        metrics.text()
    );
    // It is used again, and the log has told of every failure.
    let up = |metrics: &Metrics| metrics.sum("qtls_upstream_up", &[("upstream", &servers[0])]) == 1.0;
    while !up(&server.metrics()) {
        let answer = qtls_interop::client::Client::new(server.port).get("/").expect_success();
        assert!(answer.stdout.contains('a') || answer.stdout.contains('b'), "{}", answer.said());
    }
    let told = |log: &str| {
        let (lines, unlogged) = logged(log, &format!("upstream {}", servers[0]));
        let about_others = log.lines().filter(|line| line.contains(&format!("upstream {}", servers[0])));
        let changes =
            about_others.filter(|line| line.contains("is back") || line.contains("in a row") || line.contains("again"));
        lines - changes.count() + unlogged
    };
    // The line that has the rest of them is written when it is in use again.
    let all = server.process.stderr.becomes(PATIENCE, |log| told(log) >= failed);
    let log = server.log();
    assert!(all, "{} failures in the log, and {failed} requests failed:\n{log}", told(&log));
    drop((a, b));
}
