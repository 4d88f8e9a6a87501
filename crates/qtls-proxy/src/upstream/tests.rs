//! Against sockets of the loopback interface.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixListener;

use super::capture::{Captured, install};
use super::sockets::{refusing, silent};
use super::*;
use crate::config::{Balance, UpstreamProtocol, UpstreamServer};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn upstream_of(servers: Vec<UpstreamServer>, change: impl FnOnce(&mut config::Upstream)) -> Arc<Upstream> {
    install();
    let mut config = config::Upstream::new(UpstreamProtocol::Tcp, servers);
    config.timeouts.connect = Duration::from_millis(300);
    change(&mut config);
    Arc::new(Upstream::new(&config))
}

fn server(host: &str, port: u16) -> UpstreamServer {
    UpstreamAddress::Tcp { host: host.to_owned(), port }.into()
}

pub(crate) fn upstream(servers: &[(&str, u16)]) -> Arc<Upstream> {
    upstream_of(servers.iter().map(|(host, port)| server(host, *port)).collect(), |_| {})
}

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn port_of(upstream: &Upstream) -> u16 {
    upstream.connect(CLIENT, b"").await.unwrap().link.peer_addr().unwrap().port()
}

fn order(upstream: &Upstream) -> Vec<usize> {
    upstream.order(CLIENT).map(ServerId::index).collect()
}

#[tokio::test]
async fn servers_take_turns() {
    let (first, first_port) = listener();
    let (second, second_port) = listener();
    let upstream = upstream(&[("127.0.0.1", first_port), ("127.0.0.1", second_port)]);
    let mut ports = Vec::new();
    for _ in 0..4 {
        ports.push(port_of(&upstream).await);
    }
    assert_eq!(ports, [first_port, second_port, first_port, second_port]);
    drop((first, second));
}

#[tokio::test]
async fn a_refusing_server_is_passed_over_and_tried_last_afterwards() {
    let (_refusing, dead) = refusing();
    let (_listener, alive) = listener();
    let upstream = upstream(&[("127.0.0.1", dead), ("127.0.0.1", alive)]);
    assert_eq!(order(&upstream), [0, 1]);
    for _ in 0..3 {
        let connected = upstream.connect(CLIENT, b"").await.unwrap();
        assert_eq!(connected.link.peer_addr().unwrap().port(), alive);
        let Link::Plain(Socket::Tcp(socket)) = connected.link else { panic!("it is a TCP socket in the clear") };
        assert!(socket.nodelay().unwrap());
    }
    for _ in 0..2 {
        assert_eq!(order(&upstream), [1, 0]);
    }
}

#[tokio::test]
async fn one_that_was_held_is_tried_by_one_connection_and_is_back_when_it_takes_it() {
    let log = Captured::start();
    let (socket, port) = refusing();
    let (_listener, alive) = listener();
    let upstream = upstream(&[("127.0.0.1", port), ("127.0.0.1", alive)]);
    upstream.connect(CLIENT, b"").await.unwrap();
    assert_eq!(order(&upstream), [1, 0]);
    socket.listen(16).unwrap();
    let held = |state| matches!(state, State::Held(left) if !left.is_zero());
    while held(upstream.states().next().unwrap().1) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((order(&upstream), order(&upstream)), (vec![0, 1], vec![1, 0]), "the first one tries it, alone");
    upstream.connect_to(ServerId(0), "a trial", b"").await.unwrap();
    assert_eq!(upstream.states().next().unwrap().1, State::Up);
    assert_eq!(log.lines().iter().filter(|line| line.contains("is back")).count(), 1, "{:#?}", log.lines());
    let firsts = [order(&upstream)[0], order(&upstream)[0]];
    assert_ne!(firsts[0], firsts[1], "they take turns again");
}

#[tokio::test]
async fn errors_are_told_apart_and_name_the_server() {
    let (_socket, port) = refusing();
    let error = upstream(&[("127.0.0.1", port)]).connect(CLIENT, b"").await.unwrap_err();
    assert_eq!((error.kind(), error.reason()), (&ConnectErrorKind::Refused, "refused"));
    assert_eq!(error.to_string(), format!("127.0.0.1:{port}: connection refused"));

    let (_socket, _waiting, port) = silent();
    let before = Instant::now();
    let error = upstream(&[("127.0.0.1", port)]).connect(CLIENT, b"").await.unwrap_err();
    assert_eq!(error.reason(), "connect_timeout");
    assert_eq!(error.to_string(), format!("127.0.0.1:{port}: no connection within 300ms"));
    assert!(before.elapsed() >= Duration::from_millis(300));

    // Nobody looks names up here.
    let error = upstream(&[("db.example", 80)]).connect(CLIENT, b"").await.unwrap_err();
    assert_eq!((error.reason(), error.server()), ("unresolvable", "db.example:80"));
}

#[tokio::test]
async fn the_error_is_that_of_the_last_server_tried() {
    let (_first, first) = refusing();
    let (_second, second) = refusing();
    let error = upstream(&[("127.0.0.1", first), ("127.0.0.1", second)]).connect(CLIENT, b"").await.unwrap_err();
    assert_eq!(error.server(), format!("127.0.0.1:{second}"));
}

#[tokio::test]
async fn every_address_of_a_name_is_tried() {
    // localhost is ::1 and 127.0.0.1, and only the second listens.
    let (_listener, port) = listener();
    let upstream = upstream(&[("localhost", port)]);
    upstream.care();
    for _ in 0..4 {
        assert_eq!(port_of(&upstream).await, port);
    }
}

#[tokio::test]
async fn a_unix_socket_is_connected_to_and_shown_by_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let address = UpstreamAddress::Unix(path.clone());
    let upstream = upstream_of(vec![address.into()], |_| {});
    let error = upstream.connect(CLIENT, b"").await.unwrap_err();
    assert!(error.to_string().starts_with(&format!("unix:{}: No such file", path.display())), "{error}");
    let listener = UnixListener::bind(&path).unwrap();
    let connected = upstream.connect(CLIENT, b"").await.unwrap();
    let peer = upstream.peer(connected.server, &connected.link).unwrap();
    assert_eq!(peer.to_string(), format!("unix:{}", path.display()));
    drop(listener);
    let error = upstream.connect(CLIENT, b"").await.unwrap_err();
    assert_eq!(error.kind(), &ConnectErrorKind::Refused);
}

#[tokio::test]
async fn a_unix_socket_with_a_full_queue_is_waited_for_as_tcp_would() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("app.sock");
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    socket.bind(&socket2::SockAddr::unix(&path).unwrap()).unwrap();
    socket.listen(0).unwrap();
    let upstream = upstream_of(vec![UpstreamAddress::Unix(path).into()], |_| {});
    let mut waiting = Vec::new();
    let error = loop {
        match upstream.connect(CLIENT, b"").await {
            Ok(connected) => waiting.push(connected),
            Err(error) => break error,
        }
    };
    assert_eq!(error.reason(), "connect_timeout");
    assert!(waiting.len() < 5, "{}", waiting.len());
    let (connected, _) = tokio::join!(upstream.connect(CLIENT, b""), async { socket.accept().unwrap() });
    connected.unwrap();
}

#[tokio::test]
async fn a_way_back_is_not_taken() {
    let (listener, port) = listener();
    let own = Arc::new(OwnAddresses::new([listener.local_addr().unwrap()]));
    let metrics = Metrics::new().unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let upstream = upstream(&[(host, port)]);
        upstream.settle_in(&metrics, &own);
        upstream.care();
        let error = upstream.connect(CLIENT, b"").await.unwrap_err();
        // ::1 is not listened on, and may be tried last.
        if host == "127.0.0.1" {
            let said = format!("127.0.0.1:{port} is an address of this server itself: not connected to");
            assert_eq!(error.to_string(), format!("{host}:{port}: {said}"));
        }
    }
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody came");
}

#[tokio::test]
async fn where_all_checks_fail_nobody_is_tried() {
    let (_listener, port) = listener();
    let upstream = upstream_of(vec![server("127.0.0.1", port)], |config| {
        config.health = Some(serde_json::from_value(serde_json::json!({ "type": "http", "interval": 3600 })).unwrap());
        config.health.as_mut().unwrap().timeout = Duration::from_millis(50);
    });
    upstream.care();
    while upstream.states().next().unwrap().1 == State::Up {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let error = upstream.connect(CLIENT, b"").await.unwrap_err();
    // Two checks have to pass.
    let back_in = Duration::from_secs(2 * 3600);
    assert_eq!((error.kind(), error.reason()), (&ConnectErrorKind::NoneUp(back_in), "none_up"));
    assert_eq!(error.to_string(), format!("127.0.0.1:{port}: no server is up"));
}

#[tokio::test]
async fn who_is_connected_to_is_busy_until_the_connection_ends() {
    let (_first, first) = listener();
    let (_second, second) = listener();
    let servers = vec![server("127.0.0.1", first), server("127.0.0.1", second)];
    let upstream = upstream_of(servers, |config| config.balance = Balance::LeastConnections);
    let one = upstream.connect(CLIENT, b"").await.unwrap();
    let other = upstream.connect(CLIENT, b"").await.unwrap();
    assert_ne!(one.server, other.server);
    let gone = one.server;
    drop(one);
    for _ in 0..3 {
        assert_eq!(upstream.connect(CLIENT, b"").await.unwrap().server, gone);
    }
    drop(other);
}

#[test]
fn shows_its_servers_as_configured() {
    assert_eq!(upstream(&[("127.0.0.1", 80), ("::1", 8080)]).to_string(), "127.0.0.1:80, [::1]:8080");
}
