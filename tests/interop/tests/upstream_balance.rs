//! The work is shared out as the configuration says, to the request; and what a server that is gone leaves goes to the
//! others.

use std::process::Command;
use std::time::Duration;

use qtls_interop::backends::{Backend, Nginx};
use qtls_interop::process::{Running, run, run_within};
use qtls_interop::server::free_port;
use qtls_interop::{Pki, Server, curl, log, peers};
use serde_json::{Value, json};

fn start(upstream: Value) -> Server {
    let mut config = json!({ "upstream": { "protocol": "http" } });
    qtls_interop::server::merge(&mut config["upstream"], upstream);
    Server::start(config)
}

/// curl that asks for the answer alone.
fn command(server: &Server, arguments: &[&str]) -> Command {
    let ca = Pki::shared().ca();
    let mut command = peers::debian("curl", ca.parent());
    curl::towards(&mut command, &ca).args(arguments).arg(format!("https://localhost:{}/", server.port));
    command
}

/// Who answers.
fn ask(server: &Server, arguments: &[&str]) -> String {
    run(&mut command(server, arguments), b"").expect_success().stdout.trim().to_owned()
}

/// Makes `count` requests over `connections` connections of h2, all of which must succeed.
fn load(server: &Server, count: usize, connections: usize, streams: usize) {
    let mut h2load = peers::debian("h2load", [Pki::shared().directory()]);
    let numbers = [("-n", count), ("-c", connections), ("-m", streams)];
    for (name, number) in numbers {
        h2load.arg(name).arg(number.to_string());
    }
    h2load.args(["--groups=X25519MLKEM768", &format!("https://127.0.0.1:{}/", server.port)]);
    let finished = run_within(&mut h2load, b"", Duration::from_secs(120)).expect_success();
    let expected = format!("{count} succeeded, 0 failed, 0 errored, 0 timeout");
    assert!(finished.stdout.contains(&expected), "{}", finished.said());
}

#[test]
fn weights_are_kept_to_the_request() {
    let backends = ["a", "b", "c"].map(Backend::start);
    let [a, b, c] = &backends;
    let server = start(json!({ "servers": [{ "address": a.text(), "weight": 5 }, b.text(), c.text()] }));
    load(&server, 700, 7, 5);
    assert_eq!([a, b, c].map(Backend::requests), [500, 100, 100], "{}", server.log());
    let metrics = server.metrics();
    assert_eq!(metrics.sum("qtls_upstream_requests_total", &[("upstream", &a.text())]), 500.0);
    assert_eq!(metrics.sum("qtls_upstream_passed_on_total", &[]), 0.0);
    assert_eq!(metrics.sum("qtls_handshakes_total", &[("group", "X25519MLKEM768")]), 7.0, "{}", metrics.text());
}

#[test]
fn a_slow_server_gets_what_it_can_take() {
    let (a, b) = (Backend::start("a"), Backend::start("b"));
    let server = start(json!({ "servers": [a.text(), b.text()], "balance": "least-connections" }));
    a.hold();
    // What has its answer is under way for some moments more.
    let open = |count: f64| {
        server.metrics_when(&format!("{count} open"), |metrics| metrics.sum("qtls_connections_active", &[]) == count);
    };
    // Of two that are idle, the one whose turn it is: the first of two requests goes to the one that keeps it.
    let held = Running::start(&mut command(&server, &[]));
    a.wait_for_held(1);
    assert_eq!(ask(&server, &[]), "b");
    open(1.0);
    load(&server, 100, 1, 1);
    assert_eq!((a.requests(), b.requests()), (1, 101), "{}", server.log());
    a.release();
    assert_eq!(held.finish(Duration::from_secs(30)).expect_success().stdout.trim(), "a");
    open(0.0);
    load(&server, 100, 1, 1);
    assert_eq!((a.requests(), b.requests()), (51, 151), "both are idle again, and take turns");
}

#[test]
fn a_client_has_its_server_and_a_lost_server_moves_its_own_clients_alone() {
    let names = ["a", "b", "c"];
    let mut backends: Vec<_> = names.into_iter().map(Backend::start).collect();
    let servers: Vec<_> = backends.iter().map(Backend::text).collect();
    let server = start(json!({ "servers": servers, "balance": "client-address" }));
    let clients: Vec<_> = (1..=12).map(|last| format!("127.0.0.{last}")).collect();
    let places = || clients.iter().map(|client| ask(&server, &["--interface", client])).collect::<Vec<_>>();
    let before = places();
    assert_eq!(places(), before);
    assert!(names.iter().all(|name| before.iter().any(|place| place == name)), "{before:?}");

    let gone = backends.remove(1);
    let address = gone.address;
    drop(gone);
    let after = places();
    for (old, new) in before.iter().zip(&after) {
        if old == "b" {
            assert_ne!(new, "b");
        } else {
            assert_eq!(old, new);
        }
    }
    assert!(server.metrics().sum("qtls_upstream_passed_on_total", &[("upstream", &address.to_string())]) >= 1.0);

    backends.push(Backend::on(address, "b"));
    let label = address.to_string();
    let up = |metrics: &qtls_interop::metrics::Metrics| metrics.sum("qtls_upstream_up", &[("upstream", &label)]) == 1.0;
    // One of its own clients tries it when it has been held for long enough.
    let (own, _) = clients.iter().zip(&before).find(|(_, place)| *place == "b").expect("b has clients");
    while !up(&server.metrics()) {
        ask(&server, &["--interface", own]);
    }
    assert_eq!(places(), before, "and they come back");
    server.wait_for_log(&format!("upstream {label} is back"));
}

#[test]
fn a_backup_has_work_only_while_no_other_server_is_up() {
    let primary = Backend::start("primary");
    let backup = Backend::start("backup");
    let servers = json!([primary.text(), { "address": backup.text(), "backup": true }]);
    let server = start(json!({ "servers": servers, "health": { "type": "tcp", "interval": 1, "rise": 1, "fall": 1 } }));
    load(&server, 50, 2, 5);
    assert_eq!((primary.requests(), backup.requests()), (50, 0));
    let address = primary.address;
    drop(primary);
    server.wait_for_warning(&format!("upstream {address} is down: a check failed: connection refused"));
    load(&server, 50, 2, 5);
    assert_eq!(backup.requests(), 50);
    let primary = Backend::on(address, "primary");
    server.wait_for_log(&format!("upstream {address} is up: 1 checks in a row passed"));
    // The log says so a moment before it is so.
    let label = address.to_string();
    server.metrics_when("it is up", |metrics| metrics.sum("qtls_upstream_up", &[("upstream", &label)]) == 1.0);
    load(&server, 50, 2, 5);
    assert_eq!((primary.requests(), backup.requests()), (50, 50));
}

/// In a strict sandbox, over a socket that isn't there yet when the server starts.
#[test]
fn a_unix_socket_is_an_address() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let socket = directory.path().join("app.sock");
    let address = format!("unix:{}", socket.display());
    let access = directory.path().join("access.log");
    let server = Server::start(json!({
        "upstream": { "protocol": "http", "servers": [address] },
        "logging": { "access": true, "format": "json", "access_file": access },
        "sandbox": "required",
    }));
    assert_eq!(ask(&server, &["--output", "/dev/null", "--write-out", "%{http_code}"]), "502");
    server.wait_for_log(&format!("upstream {address}: "));
    log::connections(&access, 1);
    let http = format!(
        "server {{ listen unix:{}; location / {{ return 200 \"$http_x_qtls_group\\n\"; }} }}",
        socket.display()
    );
    let _nginx = Nginx::with(&http, &[directory.path()]);
    assert_eq!(ask(&server, &[]), "X25519MLKEM768");
    let lines = log::connections(&access, 2);
    assert_eq!(lines[1]["upstream"], address.as_str(), "{lines:?}");
    assert!(server.metrics().sum("qtls_upstream_requests_total", &[("upstream", &address)]) >= 1.0);
}

#[test]
fn an_exchange_lasts_no_longer_than_it_may() {
    let backend = Backend::start("a");
    backend.hold();
    let server = start(json!({ "servers": [backend.text()], "timeouts": { "total": 3 } }));
    assert_eq!(ask(&server, &["--output", "/dev/null", "--write-out", "%{http_code}"]), "504");
    server.wait_for_warning(&format!("upstream {}: a request was not over within 3s", backend.address));
    assert_eq!(server.metrics().sum("qtls_upstream_errors_total", &[("reason", "total_timeout")]), 1.0);
    backend.release();
    assert_eq!(ask(&server, &[]), "a");
}

#[test]
fn a_server_that_is_named_twice_and_one_that_is_us_are_refused() {
    let pki = Pki::shared();
    let (cert, key) = pki.server(qtls_interop::Algorithm::EcdsaP384);
    let port = free_port();
    for (servers, message) in [
        (json!(["a:1", { "address": "a:1", "weight": 2 }]), "\"a:1\" stands twice"),
        (json!([{ "address": "a:1", "backup": true }]), "every server is a backup"),
        (json!([format!("127.0.0.1:{port}")]), "is this server itself"),
        (json!([format!("localhost:{port}")]), "is this server itself"),
        (json!([format!("[::1]:{port}")]), "is this server itself"),
    ] {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        let config = json!({
            "server": { "listen_address": "::", "listen_port": port },
            "certificates": { "server_cert": cert, "server_key": key },
            "upstream": { "protocol": "tcp", "servers": servers },
        });
        let file = qtls_interop::server::write_config(directory.path(), &config);
        let mut command = qtls_interop::programs::command("qtls-server");
        let finished = run(command.arg("--test-config").arg("--config").arg(&file), b"").expect_code(2);
        assert!(finished.stderr.contains(message) && finished.stderr.contains("server.json:"), "{}", finished.said());
    }
}
