//! Nothing that an operator does to a server fails a handshake or cuts a transfer: reloads, replacements of the process, a
//! rolling restart of replicas behind a load balancer.

// How much was under way stands in the output of the test.
#![allow(clippy::print_stdout)]

use std::fs;
use std::path::Path;

use qtls_interop::haproxy::HaProxy;
use qtls_interop::load::Load;
use qtls_interop::process::PATIENCE;
use qtls_interop::upstreams::echo;
use qtls_interop::{Algorithm, Pki, Server};
use serde_json::json;

#[test]
fn two_hundred_reloads_good_and_bad() {
    let pki = Pki::shared();
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let install = |algorithm: Algorithm| {
        let (new_cert, new_key) = pki.server(algorithm);
        replace(&new_cert, &cert);
        replace(&new_key, &key);
    };
    install(Algorithm::EcdsaP384);
    let server = Server::with_config(json!({
        "certificates": { "server_cert": cert, "server_key": key },
        "upstream": { "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] },
        "logging": { "level": "info", "access": false },
        "reload": { "watch_credentials": false },
    }));
    let load = Load::start(server.port, &pki.ca(), 3, 2, 300);
    for round in 0..50 {
        // Another certificate; another policy; a mistake in the configuration; a certificate without its key.
        server.applies(|| {
            install(if round % 2 == 0 { Algorithm::Rsa4096 } else { Algorithm::EcdsaP384 });
            server.hang_up();
        });
        server.applies(|| {
            server.rewrite_config(json!({ "tls": { "session_timeout": 600 + round, "pqc_only": round % 2 == 0 } }));
            server.hang_up();
        });
        server.refuses(|| {
            server.rewrite_config(json!({ "tls": { "sesion_timeout": 1 } }));
            server.hang_up();
        });
        server.rewrite_config(json!({ "tls": { "sesion_timeout": null } }));
        server.refuses(|| {
            replace(&Pki::stranger().server(Algorithm::EcdsaP384).0, &cert);
            server.hang_up();
        });
    }
    let report = load.stop();
    println!("200 reloads: {report:?}");
    report.expect_no_failure(200, 4);
    assert_eq!(server.reloads(), (100.0, 100.0));
    assert_eq!(server.metrics().sum("qtls_handshake_failures_total", &[]), 0.0, "{}", server.log());
}

#[test]
fn twenty_replacements_of_the_process() {
    let pki = Pki::shared();
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let mut server = Server::start(json!({
        "server": { "handover": directory.path().join("socket"), "drain_timeout": 60 },
        "upstream": { "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] },
        "logging": { "level": "info", "access": false },
    }));
    let load = Load::start(server.port, &pki.ca(), 3, 2, 300);
    let mut old = Vec::new();
    for number in 0..20 {
        // Other numbers of workers, too: every descriptor is served by somebody.
        server.rewrite_config(json!({ "server": { "worker_threads": 1 + number % 4 } }));
        old.push(server.replace());
        server.metrics_when("some handshakes", |metrics| metrics.sum("qtls_handshakes_total", &[]) >= 10.0);
    }
    let report = load.stop();
    println!("20 replacements: {report:?}");
    report.expect_no_failure(100, 2);
    let mut carried = 0;
    for old in old {
        let finished = old.finish(PATIENCE).expect_success();
        let line = finished.stderr.lines().find(|line| line.contains("another process has taken over"));
        carried += u32::from(!line.unwrap_or_else(|| panic!("{}", finished.said())).contains("connections=0"));
        assert!(!finished.stderr.contains("closing what is open"), "{}", finished.said());
        assert!(!finished.stderr.contains("handshake not completed"), "{}", finished.said());
    }
    assert!(carried >= 10, "only {carried} of 20 had connections when they were replaced");
}

#[test]
fn a_rolling_restart_of_three_replicas() {
    let pki = Pki::shared();
    let upstream = format!("127.0.0.1:{}", echo());
    let mut replicas: Vec<_> = (0..3)
        .map(|_| {
            Server::start(json!({
                "server": { "drain_delay": 6, "drain_timeout": 40 },
                "upstream": { "protocol": "tcp", "servers": [upstream] },
                "logging": { "level": "info", "access": false },
            }))
        })
        .collect();
    let balancer = HaProxy::before(&replicas);
    let load = Load::start(balancer.port, &pki.ca(), 3, 3, 300);
    for round in 1..=2 {
        for (index, replica) in replicas.iter_mut().enumerate() {
            replica.restart();
            // It was taken out while it drained, and is back in before the next one goes.
            balancer.wait_for(index, "DOWN", round);
            balancer.wait_for(index, "UP", round);
        }
    }
    for replica in &replicas {
        replica.metrics_when("handshakes since the restart", |metrics| metrics.sum("qtls_handshakes_total", &[]) > 0.0);
    }
    let report = load.stop();
    println!("6 restarts: {report:?}");
    report.expect_no_failure(200, 6);
    for replica in &replicas {
        assert!(!replica.log().contains("closing what is open"), "{}", replica.log());
    }
}

/// A copy beside, then a rename: nobody ever sees half a file.
fn replace(with: &Path, path: &Path) {
    let new = path.with_extension("new");
    fs::copy(with, &new).expect("it can be copied");
    fs::rename(new, path).expect("it can be renamed");
}
