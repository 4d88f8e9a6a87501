//! A clock that is set by hours, ahead or back, ends no connection early, lets none live for ever, and keeps nobody out but
//! those whose certificates it is about.

use std::io::Write;

use qtls_interop::clock::Clock;
use qtls_interop::openssl::Client;
use qtls_interop::process::PATIENCE;
use qtls_interop::rogue::Rogue;
use qtls_interop::upstreams::echo;
use qtls_interop::wire::{connect, read_to_end};
use qtls_interop::{Algorithm, Pki, Server};
use rustix::process::Signal;
use serde_json::{Value, json};

/// There and back, and past the right time. Farther than any timeout here.
const JUMPS: [i64; 4] = [7, -7, 30, -30];

fn server(clock: &Clock, changes: Value) -> Server {
    Server::start_with(changes, || clock.command("qtls-server"))
}

fn before_an_echo(clock: &Clock, limits: Value) -> Server {
    let upstream = json!({ "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] });
    server(clock, json!({ "upstream": upstream, "limits": limits, "server": { "drain_timeout": 1 } }))
}

#[track_caller]
fn still_served(client: &mut Rogue, when: i64) {
    client.send(b"hello").unwrap_or_else(|error| panic!("{error} at {when} h"));
    let mut echo = [0; 5];
    let count = client.read(&mut echo).unwrap_or_else(|error| panic!("{error} at {when} h"));
    assert_eq!((count, &echo), (5, b"hello"), "at {when} h");
}

/// The date by which the end of a connection is logged that is made now.
#[track_caller]
fn date_of_a_connection(server: &Server) -> String {
    let client = Rogue::connect(server.port, &[]);
    let address = client.socket.local_addr().expect("it is connected");
    drop(client);
    // Its own line: those of others before it may come late.
    let line = server.wait_for_log(&format!("connection ended event=connection client={address} "));
    line[..10].to_owned()
}

#[test]
fn the_clock_of_the_test_moves_the_wall_clock() {
    let clock = Clock::new();
    let server = before_an_echo(&clock, json!({}));
    let dates: Vec<_> = [0, 48, -48]
        .into_iter()
        .map(|hours| {
            clock.set(hours);
            date_of_a_connection(&server)
        })
        .collect();
    assert!(dates[2] < dates[0] && dates[0] < dates[1], "{dates:?}");
}

#[test]
fn open_connections_and_new_handshakes_go_on() {
    let clock = Clock::new();
    let limits = json!({
        "handshake_timeout": 60, "idle_timeout": 3600, "connection_timeout": 3600, "handshakes_per_second": 1000,
        "per_address": 50, "memory_mb": 1000
    });
    let server = before_an_echo(&clock, limits);
    let mut open = Rogue::connect(server.port, &[]);
    still_served(&mut open, 0);
    for hours in JUMPS {
        // In the middle of a handshake.
        let mut begun = Rogue::before(connect(server.port), &[]);
        let hello = begun.bytes();
        begun.socket.write_all(&hello[..hello.len() / 2]).unwrap();
        clock.set(hours);
        still_served(&mut open, hours);
        begun.socket.write_all(&hello[hello.len() / 2..]).unwrap();
        still_served(&mut begun.complete().unwrap_or_else(|error| panic!("{error} at {hours} h")), hours);
        still_served(&mut Rogue::connect(server.port, &[]), hours);
    }
    let metrics = server.metrics();
    assert_eq!(metrics.sum("qtls_handshake_failures_total", &[]), 0.0, "{}", metrics.text());
    assert_eq!(metrics.sum("qtls_limit_hits_total", &[]), 0.0, "{}", metrics.text());
}

#[test]
fn time_limits_end_what_they_would_have_ended() {
    for hours in JUMPS {
        let clock = Clock::new();
        let server = before_an_echo(&clock, json!({ "handshake_timeout": 4, "idle_timeout": 1 }));
        let mut begun = connect(server.port);
        begun.write_all(&[22, 3, 1, 2, 0, 1, 0]).unwrap();
        let mut idle = Rogue::connect(server.port, &[]);
        clock.set(hours);
        assert_eq!(idle.read_to_end().1, "close_notify", "at {hours} h");
        read_to_end(&mut begun);
        for limit in ["handshake_timeout", "idle_timeout"] {
            server.metrics_when(limit, |metrics| metrics.sum("qtls_limit_hits_total", &[("limit", limit)]) == 1.0);
        }
        // So does the end of the server.
        let _open = Rogue::connect(server.port, &[]);
        server.process.signal(Signal::TERM);
        server.wait_for_log("no new connections");
        clock.set(-hours);
        server.process.finish(PATIENCE).expect_success();
    }
}

#[test]
fn sessions_are_resumed_whatever_the_clock_says() {
    let clock = Clock::new();
    let server = server(&clock, json!({ "tls": { "session_timeout": 600 } }));
    for hours in JUMPS {
        let first = Client::new(server.port).saving_session();
        assert!(!first.get("/health").negotiated().resumed);
        clock.set(hours);
        let second = Client::new(server.port).resuming(&first).saving_session();
        assert!(second.get("/health").negotiated().resumed, "at {hours} h\n{}", server.log());
        clock.set(0);
        let third = Client::new(server.port).resuming(&second);
        assert!(third.get("/health").negotiated().resumed, "back from {hours} h\n{}", server.log());
    }
}

#[test]
fn sealed_tickets_are_judged_by_the_clock_and_a_handshake_is_complete_either_way() {
    let clock = Clock::new();
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, (0..64).collect::<Vec<u8>>()).unwrap();
    let keys = json!({ "secret_file": secret, "step": 300 });
    let server = server(&clock, json!({ "tls": { "session_timeout": 600, "ticket_keys": keys } }));
    for hours in JUMPS {
        clock.set(0);
        let first = Client::new(server.port).saving_session();
        assert!(!first.get("/health").negotiated().resumed);
        clock.set(hours);
        let second = Client::new(server.port).resuming(&first).saving_session();
        assert!(!second.get("/health").negotiated().resumed, "at {hours} h\n{}", server.log());
        let third = Client::new(server.port).resuming(&second);
        assert!(third.get("/health").negotiated().resumed, "at {hours} h\n{}", server.log());
    }
    assert_eq!(server.metrics().sum("qtls_handshake_failures_total", &[]), 0.0, "{}", server.log());
}

#[test]
fn certificates_of_clients_are_judged_by_the_clock_and_get_in_when_it_is_right_again() {
    let clock = Clock::new();
    let pki = Pki::shared();
    let certificates = json!({ "verify_client": true, "ca_bundle": pki.ca() });
    let server = server(&clock, json!({ "certificates": certificates }));
    let client = || Client::new(server.port).certificate(pki.client(Algorithm::EcdsaP384)).get("/health");
    assert_eq!(client().body(), "ok\n");
    // Long before any of them was issued.
    clock.set(-24 * 365);
    let refused = client();
    assert_eq!(refused.alert(), Some("certificate expired"), "{}\n{}", refused.trace, server.log());
    server.wait_for_warning("not valid");
    clock.set(0);
    assert_eq!(client().body(), "ok\n");
}

#[test]
fn a_reload_is_applied_while_the_clock_is_wrong() {
    let clock = Clock::new();
    let server = server(&clock, json!({}));
    for (count, hours) in (1..).zip(JUMPS) {
        clock.set(hours);
        server.process.signal(Signal::HUP);
        server.metrics_when("a reload", |metrics| {
            metrics.sum("qtls_reloads_total", &[("result", "applied")]) == f64::from(count)
        });
        drop(Rogue::connect(server.port, &[]));
    }
    // Before its own certificate is valid: that is said, and is no reason to stop serving.
    clock.set(-24 * 365);
    server.process.signal(Signal::HUP);
    server.wait_for_warning("not valid");
    drop(Rogue::connect(server.port, &[]));
}
