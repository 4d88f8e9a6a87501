//! Attempts that failed by the network's fault are repeated, with the same offer each time.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;

use qtls_core::policy::KeyAlgorithm;
use rustls::server::Acceptor;
use rustls::{ServerConfig, StreamOwned};
use tempfile::TempDir;

use crate::certificates::Ca;
use crate::program::Client;
use crate::server::{Options, Server, close_notify, shake_hands, tls};

/// What a ClientHello offers.
#[derive(Debug, PartialEq, Eq)]
struct Offer {
    groups: Vec<u16>,
    suites: Vec<u16>,
    schemes: Vec<u16>,
}

/// Closes the first `failures` connections after their ClientHello, then serves.
fn flaky(config: Arc<ServerConfig>, failures: usize) -> Server<Offer> {
    let mut seen = 0;
    Server::new(move |socket| {
        let offer = peek(&socket);
        seen += 1;
        if seen > failures {
            let mut connection = StreamOwned::new(rustls::ServerConnection::new(config.clone()).unwrap(), socket);
            shake_hands(&mut connection).and_then(|()| close_notify(&mut connection)).unwrap();
        }
        offer
    })
}

/// Reads the ClientHello and leaves it in the socket.
fn peek(socket: &TcpStream) -> Offer {
    let mut buffer = vec![0; 0x1_0000];
    loop {
        let count = socket.peek(&mut buffer).unwrap();
        assert!(count > 0, "the client closed");
        let mut acceptor = Acceptor::default();
        let mut bytes = &buffer[..count];
        while !bytes.is_empty() {
            acceptor.read_tls(&mut bytes).unwrap();
            if let Some(accepted) = acceptor.accept().unwrap() {
                let hello = accepted.client_hello();
                return Offer {
                    groups: hello.named_groups().unwrap().iter().map(|group| (*group).into()).collect(),
                    suites: hello.cipher_suites().iter().map(|suite| (*suite).into()).collect(),
                    schemes: hello.signature_schemes().iter().map(|scheme| (*scheme).into()).collect(),
                };
            }
        }
        // The rest of it is on its way: a hello has two or three segments at most.
        std::thread::yield_now();
    }
}

#[test]
fn a_server_that_comes_back_is_reached_with_the_same_offer() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    let server = flaky(Options::new(&leaf).config(), 2);
    let client = Client::to(server.port(), &ca.file()).arg("--json");
    let finished = client.run().code(0);
    assert_eq!(finished.json()["group"], "X25519MLKEM768");
    let offers = [server.report(), server.report(), server.report()];
    assert_eq!(offers[0], offers[1]);
    assert_eq!(offers[0], offers[2]);
    // X25519MLKEM768 leads.
    assert_eq!(offers[0].groups[0], 0x11ec);
    assert_eq!(server.unreported(), 0);
    finished.says("; trying again in 0.").says("s (1 of 3)").says("s (2 of 3)").silent_on("(3 of 3)");
}

#[test]
fn attempts_are_counted_and_bounded() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    for (retries, attempts) in [("0", 1), ("2", 3)] {
        let server = flaky(Options::new(&leaf).config(), usize::MAX);
        let client = Client::to(server.port(), &ca.file()).env("QTLS__CLIENT__MAX_RETRIES", retries);
        let finished = client.run().code(3);
        for _ in 0..attempts {
            server.report();
        }
        assert_eq!(server.unreported(), 0);
        if attempts > 1 {
            finished.says("middle of the handshake").says(", after 3 attempts");
        } else {
            finished.says("middle of the handshake").silent_on("attempts").silent_on("trying again");
        }
    }
}

#[test]
fn every_repetition_is_logged() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    let server = flaky(Options::new(&leaf).config(), 1);
    let directory = TempDir::new().unwrap();
    let log = directory.path().join("client.log");
    let client = Client::to(server.port(), &ca.file()).arg("--quiet").env("QTLS__LOGGING__FILE", &log);
    let finished = client.run().code(0);
    assert_eq!(finished.stderr, "");
    let text = fs::read_to_string(&log).unwrap();
    let line = text.lines().find(|line| line.contains("trying again")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("retry=1 of=3 pause=0."), "{line}");
    assert!(line.contains("error=\"the connection ended in the middle of the handshake"), "{line}");
}

/// Once data may have been acted on, nobody may do it again unasked.
#[test]
fn what_fails_after_the_handshake_is_not_repeated() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    let config = Options { alpn: &["http/1.1"], ..Options::new(&leaf) }.config();
    let server = tls(config, |connection| connection.read(&mut [0; 1024]));
    let client = Client::to(server.port(), &ca.file()).args(["--request", "POST /order"]);
    client.run().code(3).says("without close_notify, and sent nothing before");
    assert!(server.report().unwrap() > 0);
    assert_eq!(server.unreported(), 0);
}
