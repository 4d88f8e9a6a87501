//! Load balancers in front say by the PROXY protocol who the client is, and it is the client whom limits, logs and
//! servers behind see. Nobody else can say so, and a header that is damaged ends its connection.

#![allow(clippy::unwrap_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use qtls_interop::client::{self, Client};
use qtls_interop::haproxy::HaProxy;
use qtls_interop::log;
use qtls_interop::openssl::text;
use qtls_interop::process::PATIENCE;
use qtls_interop::proxy_protocol::{connect, crc32c, raw, tlv, v2};
use qtls_interop::rogue::Rogue;
use qtls_interop::server::{free_port, merge};
use qtls_interop::upstreams::{Nginx, echo};
use qtls_interop::wire::{self, connect_from};
use qtls_interop::{Algorithm, Pki, Server, Tunnel};
use serde_json::{Value, json};
use tempfile::TempDir;

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// An address from which no header is taken.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
const SOURCE: &str = "192.0.2.7:56020";
const DESTINATION: &str = "198.51.100.1:443";
const LINE: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56020 443\r\n";

/// A server before an echo that takes headers from 127.0.0.1 alone, with its access log.
struct Fronted {
    server: Server,
    access: PathBuf,
    _directory: TempDir,
}

impl Fronted {
    fn start(changes: Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let access = directory.path().join("access.log");
        let mut config = json!({
            "server": { "proxy_protocol": { "from": ["127.0.0.1/32", "10.0.0.0/8"] } },
            "upstream": { "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] },
            "logging": { "format": "json", "access_file": access }
        });
        merge(&mut config, changes);
        Self { server: Server::start(config), access, _directory: directory }
    }

    #[track_caller]
    fn errors(&self, reason: &str) -> f64 {
        self.server.metrics().sum("qtls_proxy_protocol_errors_total", &[("reason", reason)])
    }

    /// Waits until one connection has been refused for this reason, and none for another.
    #[track_caller]
    fn refused_once(&self, reason: &str) {
        let name = "qtls_proxy_protocol_errors_total";
        let metrics = self.server.metrics_when(&format!("a header refused: {reason}"), |metrics| {
            metrics.sum(name, &[("reason", reason)]) == 1.0
        });
        assert_eq!(metrics.sum(name, &[]), 1.0, "{}", metrics.text());
        assert_eq!(metrics.sum("qtls_handshake_failures_total", &[("reason", "proxy_header")]), 1.0);
        assert_eq!(metrics.sum("qtls_handshake_failures_total", &[]), 1.0);
    }
}

#[track_caller]
fn served(socket: TcpStream) -> Rogue {
    let mut client = Rogue::over(socket, &[]).unwrap_or_else(|error| panic!("not served: {error}"));
    client.send(b"hello").unwrap();
    let mut echo = [0; 5];
    assert_eq!((client.read(&mut echo).unwrap(), &echo), (5, b"hello"));
    client
}

/// A client that is reset without a byte.
#[track_caller]
fn reset(mut socket: TcpStream) {
    let mut answer = Vec::new();
    let end = socket.read_to_end(&mut answer);
    assert_eq!(end.map_err(|error| error.kind()), Err(ErrorKind::ConnectionReset), "{answer:x?}");
    assert_eq!(answer, b"");
}

fn haproxy(server: &Server, options: &str) -> HaProxy {
    let port = free_port();
    HaProxy::with(
        port,
        &format!(
            "global\n    log stderr format raw daemon\n\
             defaults\n    mode tcp\n    log global\n    retries 0\n    timeout connect 5s\n    timeout client 60s\n    \
             timeout server 60s\n\
             listen front\n    bind 127.0.0.1:{port}\n    unique-id-format %[uuid()]\n    \
             server s 127.0.0.1:{} {options}\n",
            server.port
        ),
    )
}

#[test]
fn behind_haproxy_the_client_is_who_it_is() {
    for options in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        let fronted = Fronted::start(json!({}));
        let haproxy = haproxy(&fronted.server, options);
        let socket = connect_from(Ipv4Addr::new(127, 0, 0, 5), haproxy.port);
        let client = socket.local_addr().unwrap();
        drop(served(socket));
        let line = log::connections(&fronted.access, 1).remove(0);
        assert_eq!(line["client"], client.to_string(), "{options}");
        let peer: std::net::SocketAddr = line["peer"].as_str().expect("a peer").parse().unwrap();
        assert!(peer.ip() == LOOPBACK && peer.port() != client.port(), "{options}: {peer}");
        let unique_id = line["unique_id"].as_str().unwrap_or_default();
        assert_eq!(unique_id.len(), if options.contains("unique-id") { 36 } else { 0 }, "{options}: {unique_id}");
        assert_eq!(fronted.server.metrics().sum("qtls_proxy_protocol_errors_total", &[]), 0.0, "{options}");
    }
}

/// HAProxy terminates TLS and tells everything that it can of it; what is within is TLS for this server. The outer TLS is
/// that of a tunnel with a certificate.
#[test]
fn behind_haproxy_that_tells_of_its_own_tls_the_client_is_who_it_is() {
    let pki = Pki::shared();
    let fronted = Fronted::start(json!({}));
    let directory = tempfile::tempdir().unwrap();
    let together = directory.path().join("server.pem");
    let (cert, key) = pki.server(Algorithm::EcdsaP384);
    std::fs::write(&together, [std::fs::read(cert).unwrap(), std::fs::read(key).unwrap()].concat()).unwrap();
    let port = free_port();
    let config = format!(
        "global\n    log stderr format raw daemon\n\
         defaults\n    mode tcp\n    log global\n    retries 0\n    timeout connect 5s\n    timeout client 60s\n    \
         timeout server 60s\n\
         listen front\n    bind 127.0.0.1:{port} ssl crt {} verify required ca-file {}\n    \
         unique-id-format %[uuid()]\n    log-format \"from %ci:%cp id %[unique-id] over %[ssl_fc_curve]\"\n    \
         server s 127.0.0.1:{} send-proxy-v2-ssl-cn \
         proxy-v2-options ssl,cert-cn,cert-key,cert-sig,ssl-cipher,authority,unique-id,crc32c\n",
        text(&together),
        text(&pki.ca()),
        fronted.server.port
    );
    let haproxy = HaProxy::sharing([directory.path(), pki.directory()], port, &config);
    let (client_cert, client_key) = pki.client(Algorithm::EcdsaP384);
    let local = free_port();
    let _tunnel = Tunnel::start(
        json!([{ "listen": format!("127.0.0.1:{local}"), "connect": format!("localhost:{port}") }]),
        json!({ "certificates": { "client_cert": client_cert, "client_key": client_key } }),
    );
    drop(served(wire::connect(local)));
    let line = log::connections(&fronted.access, 1).remove(0);
    let (client, unique_id) = (line["client"].as_str().unwrap(), line["unique_id"].as_str().unwrap());
    // HAProxy saw that very client, and called it by that very name.
    let expected = format!("from {client} id {unique_id} over X25519MLKEM768");
    assert!(haproxy.says(&expected), "no {expected:?}\n{}", haproxy.said());
    assert_ne!(line["peer"], line["client"], "{line}");
    assert_eq!(fronted.server.metrics().sum("qtls_proxy_protocol_errors_total", &[]), 0.0);
}

#[test]
fn behind_nginx_the_client_is_who_it_is() {
    let fronted = Fronted::start(json!({}));
    let port = free_port();
    let nginx = Nginx::with(port, |_| {
        format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
             daemon off;\nuser root;\nworker_processes 1;\npid /run/nginx.pid;\nerror_log stderr notice;\n\
             events {{ worker_connections 512; }}\n\
             stream {{ server {{ listen 127.0.0.1:{port}; proxy_protocol on; proxy_pass 127.0.0.1:{}; }} }}\n",
            fronted.server.port
        )
    });
    let socket = connect_from(Ipv4Addr::new(127, 0, 0, 5), port);
    let client = socket.local_addr().unwrap();
    drop(served(socket));
    let line = log::connections(&fronted.access, 1).remove(0);
    assert_eq!(line["client"], client.to_string(), "{}", nginx.said());
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    assert_eq!(fronted.server.metrics().sum("qtls_proxy_protocol_errors_total", &[]), 0.0);
}

/// HAProxy, this server, and HAProxy again: what was known first is known last.
#[test]
fn a_client_is_known_through_two_of_them() {
    let port = free_port();
    let last = HaProxy::with(
        port,
        &format!(
            "global\n    log stderr format raw daemon\n\
             defaults\n    mode http\n    log global\n    timeout connect 5s\n    timeout client 60s\n    \
             timeout server 60s\n\
             listen last\n    bind 127.0.0.1:{port} accept-proxy\n    http-request return status 200 content-type \
             text/plain lf-string \"%[src]:%[src_port] %[fc_pp_unique_id]\"\n"
        ),
    );
    let fronted = Fronted::start(json!({
        "upstream": { "servers": [format!("127.0.0.1:{port}")], "proxy_protocol": "v2" }
    }));
    let first = haproxy(&fronted.server, "send-proxy-v2 proxy-v2-options unique-id");
    let socket = connect_from(Ipv4Addr::new(127, 0, 0, 5), first.port);
    let address = socket.local_addr().unwrap();
    let mut client = Rogue::over(socket, &[]).unwrap();
    client.send(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let answer = String::from_utf8(client.read_to_end().0).unwrap();
    drop(client);
    let line = log::connections(&fronted.access, 1).remove(0);
    let told = format!("{address} {}", line["unique_id"].as_str().expect("a name"));
    assert!(answer.ends_with(&told), "{told} in {answer}\n{}", last.said());
    assert_eq!(line["client"], address.to_string());
}

/// They come without a client, go without a word, and are no failures.
#[test]
fn the_checks_of_haproxy_are_no_failures() {
    for options in ["send-proxy check-send-proxy", "send-proxy-v2 check-send-proxy"] {
        let fronted = Fronted::start(json!({}));
        // A check that a busy machine makes too late is none that this server failed.
        let haproxy = haproxy(&fronted.server, &format!("{options} check inter 200ms fall 5 rise 1"));
        let metrics = fronted
            .server
            .metrics_when("ten checks", |metrics| metrics.sum("qtls_silent_connections_total", &[]) >= 10.0);
        assert_eq!(metrics.sum("qtls_handshake_failures_total", &[]), 0.0, "{options}: {}", metrics.text());
        assert_eq!(metrics.sum("qtls_proxy_protocol_errors_total", &[]), 0.0, "{options}: {}", metrics.text());
        assert!(!haproxy.said().contains("is DOWN"), "{options}: {}", haproxy.said());
        drop(served(wire::connect(haproxy.port)));
        assert_eq!(log::connections(&fronted.access, 1)[0]["reason"].as_str().map(str::is_empty), Some(false));
    }
}

#[test]
fn every_kind_of_header_says_who_the_client_is() {
    let sum = |header: Vec<u8>| {
        let mut header = header;
        let sum = crc32c(&header).to_be_bytes();
        header[31..35].copy_from_slice(&sum);
        header
    };
    let everything = [tlv(3, &[0; 4]), tlv(1, b"h2"), tlv(0x20, b"\x01\0\0\0\0"), tlv(0xea, b"aws")].concat();
    for header in [
        LINE.to_vec(),
        v2(SOURCE, DESTINATION, b""),
        sum(v2(SOURCE, DESTINATION, &everything)),
        // As long as it can be.
        v2(SOURCE, DESTINATION, &tlv(4, &vec![0; 65_535 - 15])),
    ] {
        let fronted = Fronted::start(json!({}));
        drop(served(connect(fronted.server.port, &header)));
        let line = log::connections(&fronted.access, 1).remove(0);
        assert_eq!(line["client"], SOURCE, "{}", header.escape_ascii());
    }
    let fronted = Fronted::start(json!({}));
    let six = b"PROXY TCP6 2001:db8::7 2001:db8::1 56020 443\r\n";
    drop(served(connect(fronted.server.port, six)));
    assert_eq!(log::connections(&fronted.access, 1)[0]["client"], "[2001:db8::7]:56020");
}

/// LOCAL, UNKNOWN and what has no address of TCP: the connection is that of whoever made it.
#[test]
fn a_header_without_a_client_leaves_the_address_as_it_is() {
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 192.0.2.7 198.51.100.1 1 2\r\n".to_vec(),
        raw(0x20, 0x00, b""),
        raw(0x20, 0x11, &[1; 12]),
        raw(0x21, 0x00, b""),
        raw(0x21, 0x31, &[b'/'; 216]),
    ] {
        let fronted = Fronted::start(json!({}));
        let socket = connect(fronted.server.port, &header);
        let own = socket.local_addr().unwrap().to_string();
        drop(served(socket));
        let line = log::connections(&fronted.access, 1).remove(0);
        assert_eq!((&line["client"], &line["peer"]), (&json!(own), &json!(own)), "{}", header.escape_ascii());
    }
}

#[test]
fn a_header_may_come_octet_by_octet_and_with_what_follows() {
    for header in [LINE.to_vec(), v2(SOURCE, DESTINATION, &tlv(5, b"id"))] {
        let fronted = Fronted::start(json!({}));
        let mut socket = wire::connect(fronted.server.port);
        for octet in &header {
            socket.write_all(std::slice::from_ref(octet)).unwrap();
        }
        drop(served(socket));
        // In one write with the ClientHello, and with a part of it.
        for part in [usize::MAX, 1, 100] {
            let mut client = Rogue::before(wire::connect(fronted.server.port), &[]);
            let hello = client.bytes();
            let (now, later) = hello.split_at(part.min(hello.len()));
            client.socket.write_all(&[&header, now].concat()).unwrap();
            client.socket.write_all(later).unwrap();
            drop(client.complete().unwrap());
        }
        let lines = log::connections(&fronted.access, 4);
        assert!(lines.iter().all(|line| line["client"] == SOURCE && line["event"] == "connection"), "{lines:?}");
    }
}

#[test]
fn a_header_from_anybody_else_is_refused_and_counted() {
    for header in [LINE.to_vec(), v2(SOURCE, DESTINATION, b""), raw(0x20, 0x00, b"")] {
        let fronted = Fronted::start(json!({}));
        let mut client = Rogue::before(connect_from(ELSEWHERE, fronted.server.port), &[]);
        let hello = client.bytes();
        client.socket.write_all(&[&header, &hello[..]].concat()).unwrap();
        reset(client.socket);
        fronted.refused_once("untrusted");
        let line = log::connections(&fronted.access, 1).remove(0);
        assert_eq!((&line["event"], &line["reason"]), (&json!("handshake_failed"), &json!("proxy_header")));
        assert!(line["client"].as_str().unwrap().starts_with("127.0.0.9:"), "{line}");
        assert!(line["peer"].is_null(), "{line}");
        fronted.server.wait_for_log("in no network of server.proxy_protocol.from");
        // Without one, the same address is served.
        drop(served(connect_from(ELSEWHERE, fronted.server.port)));
    }
    // Also where nobody may send one.
    let fronted = Fronted::start(json!({ "server": { "proxy_protocol": null } }));
    reset(connect(fronted.server.port, LINE));
    fronted.refused_once("untrusted");
}

/// Whoever sends many of them doesn't fill the log with warnings.
#[test]
fn many_refusals_are_few_warnings() {
    let fronted = Fronted::start(json!({}));
    for _ in 0..100 {
        let mut socket = connect_from(ELSEWHERE, fronted.server.port);
        socket.write_all(LINE).unwrap();
        reset(socket);
    }
    fronted.server.metrics_when("a hundred refusals", |metrics| {
        metrics.sum("qtls_proxy_protocol_errors_total", &[("reason", "untrusted")]) == 100.0
    });
    let log = fronted.server.log();
    let warnings = log.matches("PROXY header refused").count();
    assert!((1..=30).contains(&warnings), "{warnings} warnings");
}

#[test]
fn what_is_no_right_header_is_refused_for_what_it_is() {
    let mut bad_sum = v2(SOURCE, DESTINATION, &tlv(3, &[1, 2, 3, 4]));
    bad_sum[16] ^= 1;
    let long_line = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
    for (header, reason) in [
        (b"\x16\x03\x01\x02\0\x01\0".to_vec(), "missing"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "missing"),
        (b"\r\n\r\n".to_vec().into_iter().chain(*b"GET").collect(), "missing"),
        (long_line, "too_long"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 56020 443\n".to_vec(), "line_end"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 56020\r\n".to_vec(), "line"),
        (b"PROXY TCP4 192.0.2.07 198.51.100.1 56020 443\r\n".to_vec(), "address"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 056020 443\r\n".to_vec(), "port"),
        (raw(0x11, 0x11, &[0; 12]), "version"),
        (raw(0x22, 0x11, &[0; 12]), "command"),
        (raw(0x21, 0x51, &[0; 12]), "family"),
        (raw(0x21, 0x11, &[0; 11]), "length"),
        (v2(SOURCE, DESTINATION, &[1, 0xff, 0xff, 0]), "tlv"),
        (v2(SOURCE, DESTINATION, &tlv(5, &[b'u'; 129])), "unique_id"),
        (bad_sum, "checksum"),
    ] {
        let fronted = Fronted::start(json!({}));
        reset(connect(fronted.server.port, &header));
        fronted.refused_once(reason);
        let line = log::connections(&fronted.access, 1).remove(0);
        assert_eq!(line["reason"], "proxy_header", "{reason}");
        fronted.server.wait_for_log("PROXY header refused");
        // The next one has nothing to do with it.
        drop(served(connect(fronted.server.port, LINE)));
    }
}

#[test]
fn a_header_that_ends_early_or_never_is_told_from_silence() {
    let fronted = Fronted::start(json!({ "limits": { "handshake_timeout": 1 } }));
    // A probe.
    drop(wire::connect(fronted.server.port));
    // One that says whom it is for, and nothing else.
    connect(fronted.server.port, LINE).shutdown(Shutdown::Write).unwrap();
    let metrics = fronted
        .server
        .metrics_when("two silent ones", |metrics| metrics.sum("qtls_silent_connections_total", &[]) == 2.0);
    assert_eq!(metrics.sum("qtls_handshake_failures_total", &[]), 0.0);
    connect(fronted.server.port, &LINE[..20]).shutdown(Shutdown::Write).unwrap();
    fronted.refused_once("closed");
    let begin = Instant::now();
    reset(connect(fronted.server.port, &v2(SOURCE, DESTINATION, b"")[..20]));
    assert!(begin.elapsed() >= Duration::from_secs(1), "{:?}", begin.elapsed());
    assert_eq!(fronted.errors("timeout"), 1.0);
    let hits = |limit| fronted.server.metrics().sum("qtls_limit_hits_total", &[("limit", limit)]);
    assert_eq!(hits("handshake_timeout"), 1.0);
    // Trickling doesn't move the deadline.
    let mut socket = wire::connect(fronted.server.port);
    let mut trickle = b"PROXY UNKNOWN ".iter().chain(&[b'x'; 80]);
    let ended = trickle.any(|octet| {
        thread::sleep(Duration::from_millis(100));
        socket.write_all(std::slice::from_ref(octet)).is_err()
    });
    assert!(ended, "all of it was taken");
    fronted.server.metrics_when("the second", |metrics| {
        metrics.sum("qtls_proxy_protocol_errors_total", &[("reason", "timeout")]) == 2.0
    });
}

#[test]
fn limits_are_for_clients_and_not_for_the_load_balancer() {
    for when_full in ["queue", "refuse"] {
        let limits = json!({ "per_address": 1, "when_full": when_full, "handshake_timeout": 25 });
        let fronted = Fronted::start(json!({ "limits": limits }));
        let port = fronted.server.port;
        let from = |ip: &str| connect(port, &v2(&format!("{ip}:1"), DESTINATION, b""));
        let first = served(from("192.0.2.1"));
        // Others of the same load balancer have places of their own.
        let others: Vec<_> = (2..8).map(|last| served(from(&format!("192.0.2.{last}")))).collect();
        let metrics = fronted.server.metrics();
        assert_eq!(metrics.sum("qtls_limit_hits_total", &[("limit", "per_address")]), 0.0, "{}", metrics.text());
        let second = from("192.0.2.1");
        if when_full == "refuse" {
            reset(second);
            drop(first);
            fronted
                .server
                .metrics_when("a place", |metrics| metrics.sum("qtls_connections_active", &[]) == others.len() as f64);
            drop(served(from("192.0.2.1")));
        } else {
            fronted
                .server
                .metrics_when("one that waits", |metrics| metrics.sum("qtls_connections_waiting", &[]) == 1.0);
            drop(first);
            drop(served(second));
        }
        let line = fronted.server.wait_for_log("limits.per_address is reached");
        assert!(line.contains("192.0.2.1"), "{line}");
        // Whoever comes without a load balancer counts by its own address.
        let direct = served(connect_from(ELSEWHERE, port));
        if when_full == "refuse" {
            // It may be reset as early as while it connects.
            assert_eq!(wire::fate_from(ELSEWHERE, port, b""), Err(ErrorKind::ConnectionReset));
        } else {
            drop(connect_from(ELSEWHERE, port));
        }
        drop((direct, others));
    }
}

/// A handshake takes its turn after the header, whether or not the ClientHello came with it.
#[test]
fn turns_are_taken_after_the_header() {
    let fronted = Fronted::start(json!({ "limits": { "handshakes_per_second": 1000 } }));
    drop(served(connect(fronted.server.port, LINE)));
    let mut client = Rogue::before(wire::connect(fronted.server.port), &[]);
    let hello = client.bytes();
    client.socket.write_all(&[LINE, &hello[..]].concat()).unwrap();
    drop(client.complete().unwrap());
    connect(fronted.server.port, LINE).shutdown(Shutdown::Write).unwrap();
    // Which worker is the first to count is open.
    fronted.server.metrics_when("two handshakes and a silent one", |metrics| {
        metrics.sum("qtls_silent_connections_total", &[]) == 1.0 && metrics.sum("qtls_handshakes_total", &[]) == 2.0
    });
}

#[test]
fn in_http_mode_servers_are_told_about_the_client_of_the_header() {
    let nginx = Nginx::start();
    let fronted = Fronted::start(json!({ "upstream": { "protocol": "http", "servers": [nginx.address()] } }));
    let haproxy = haproxy(&fronted.server, "send-proxy-v2");
    let socket = connect_from(Ipv4Addr::new(127, 0, 0, 5), haproxy.port);
    let mut client = Rogue::over(socket, &["http/1.1"]).unwrap();
    client.send(b"GET /seen HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let (answer, end) = client.read_to_end();
    let answer = String::from_utf8(answer).unwrap();
    assert_eq!(end, "close_notify");
    assert!(answer.contains(r#""forwarded_for":"127.0.0.5""#), "{answer}");
    let line = log::connections(&fronted.access, 1).remove(0);
    assert!(line["client"].as_str().unwrap().starts_with("127.0.0.5:"), "{line}");
}

/// Each host is reached by its name, whoever stands in front; and a certificate that is kept to a network is for clients
/// of that network.
#[test]
fn hosts_and_certificates_are_chosen_for_the_client_of_the_header() {
    let pki = Pki::shared();
    let (cert, key) = pki.server(Algorithm::MlDsa65);
    let fronted = Fronted::start(json!({
        "certificates": { "additional": [{ "cert": cert, "key": key, "only_for": { "networks": ["192.0.2.0/24"] } }] },
        "algorithms": { "signature": ["ml-dsa-65", "ecdsa-p384"] },
        "virtual_hosts": [{
            "names": ["other.example"],
            "upstream": { "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] },
        }],
    }));
    for (source, scheme) in [("192.0.2.7", "mldsa65"), ("198.51.100.7", "ecdsa_secp384r1_sha384")] {
        let relay = before(fronted.server.port, format!("PROXY TCP4 {source} 203.0.113.1 1 443\r\n").into_bytes());
        let negotiated = client::negotiated(&Client::new(relay).send(b"hello\n").expect_success());
        assert_eq!(negotiated.scheme.as_deref(), Some(scheme), "{source}");
    }
}

#[test]
fn whose_headers_are_taken_changes_with_a_reload() {
    let fronted = Fronted::start(json!({ "server": { "proxy_protocol": null } }));
    let server = &fronted.server;
    drop(served(wire::connect(server.port)));
    server.applies(|| {
        server.rewrite_config(json!({ "server": { "proxy_protocol": { "from": ["127.0.0.1/32"] } } }));
        server.hang_up();
    });
    drop(served(connect(server.port, LINE)));
    reset(connect(server.port, b"\x16\x03\x01\x02\0\x01"));
    server.applies(|| {
        server.rewrite_config(json!({ "server": { "proxy_protocol": { "from": ["192.0.2.0/24"] } } }));
        server.hang_up();
    });
    reset(connect(server.port, LINE));
    drop(served(wire::connect(server.port)));
    let errors = |reason| fronted.errors(reason);
    assert_eq!((errors("missing"), errors("untrusted")), (1.0, 1.0));
}

/// Starts a relay of one connection that sends `header` before what the client sends, and returns its port.
fn before(port: u16, header: Vec<u8>) -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let own_port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let server = connect(port, &header);
        for socket in [&client, &server] {
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        let (mut from_server, mut to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
        let back = thread::spawn(move || {
            let _ = std::io::copy(&mut from_server, &mut to_client);
            let _ = to_client.shutdown(Shutdown::Write);
        });
        let (mut from_client, mut to_server) = (client, server);
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
        back.join().unwrap();
    });
    own_port
}
