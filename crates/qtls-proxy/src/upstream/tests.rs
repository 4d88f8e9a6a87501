//! Against sockets of the loopback interface.

use std::net::{Ipv4Addr, TcpListener};

use super::capture::install;
use super::sockets::{refusing, silent};
use super::*;
use crate::config::{UpstreamAddress, UpstreamProtocol, UpstreamTimeouts};

fn upstream(servers: &[(&str, u16)]) -> Upstream {
    install();
    Upstream::new(&config::Upstream {
        protocol: UpstreamProtocol::Tcp,
        servers: servers.iter().map(|(host, port)| UpstreamAddress { host: (*host).to_owned(), port: *port }).collect(),
        timeouts: UpstreamTimeouts { connect: Duration::from_millis(300), idle: Duration::from_secs(5) },
        client_cert: false,
    })
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

#[tokio::test]
async fn servers_take_turns() {
    let (first, first_port) = listener();
    let (second, second_port) = listener();
    let upstream = upstream(&[("127.0.0.1", first_port), ("127.0.0.1", second_port)]);
    let mut ports = Vec::new();
    for _ in 0..4 {
        ports.push(upstream.connect().await.unwrap().peer_addr().unwrap().port());
    }
    assert_eq!(ports, [first_port, second_port, first_port, second_port]);
    drop((first, second));
}

#[tokio::test]
async fn a_refusing_server_is_passed_over_and_tried_last_afterwards() {
    let (_refusing, dead) = refusing();
    let (_listener, alive) = listener();
    let upstream = upstream(&[("127.0.0.1", dead), ("127.0.0.1", alive)]);
    assert_eq!(upstream.order().map(ServerId::index).collect::<Vec<_>>(), [0, 1]);
    for _ in 0..3 {
        let stream = upstream.connect().await.unwrap();
        assert_eq!(stream.peer_addr().unwrap().port(), alive);
        assert!(stream.nodelay().unwrap());
    }
    for _ in 0..2 {
        assert_eq!(upstream.order().map(ServerId::index).collect::<Vec<_>>(), [1, 0]);
    }
}

#[tokio::test]
async fn errors_are_told_apart_and_name_the_server() {
    let (_socket, port) = refusing();
    let error = upstream(&[("127.0.0.1", port)]).connect().await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (&ConnectErrorKind::Refused, "refused"));
    assert_eq!(error.to_string(), format!("127.0.0.1:{port}: connection refused"));

    let (_socket, _waiting, port) = silent();
    let before = Instant::now();
    let error = upstream(&[("127.0.0.1", port)]).connect().await.unwrap_err();
    assert_eq!(error.reason(), "connect_timeout");
    assert_eq!(error.to_string(), format!("127.0.0.1:{port}: no connection within 300ms"));
    assert!(before.elapsed() >= Duration::from_millis(300));

    // Too long for a label of DNS: no resolver has to be asked.
    let name = "a".repeat(64);
    let error = upstream(&[(&name, 80)]).connect().await.unwrap_err();
    assert_eq!((error.reason(), error.server()), ("unresolvable", format!("{name}:80").as_str()));
}

#[tokio::test]
async fn the_error_is_that_of_the_last_server_tried() {
    let (_first, first) = refusing();
    let (_second, second) = refusing();
    let error = upstream(&[("127.0.0.1", first), ("127.0.0.1", second)]).connect().await.unwrap_err();
    assert_eq!(error.server(), format!("127.0.0.1:{second}"));
}

#[tokio::test]
async fn every_address_of_a_name_is_tried() {
    // localhost is ::1 and 127.0.0.1 on most hosts, and only the second listens.
    let (_listener, port) = listener();
    let stream = upstream(&[("localhost", port)]).connect().await.unwrap();
    assert_eq!(stream.peer_addr().unwrap().port(), port);
}

#[test]
fn shows_its_servers_as_configured() {
    assert_eq!(upstream(&[("127.0.0.1", 80), ("::1", 8080)]).to_string(), "127.0.0.1:80, [::1]:8080");
}
