//! What a relay that runs allocates: for each record, in either direction, only the one that rustls makes for the record
//! itself. None of it is the relay's.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use allocation_counter::measure;
use qtls_core::endpoint::{ServerEndpoint, Signing};
use qtls_core::policy::KeyAlgorithm;
use qtls_pki::issue::Profile;
use qtls_proxy::handshake::accept;
use qtls_proxy::relay::{End, relay};
use qtls_proxy::shutdown::Conductor;
use qtls_proxy::socket::Socket;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use support::{Ca, client, endpoint, name, on_one_thread, policy, pool};

/// The plaintext of a full record (RFC 9846, section 5.1).
const RECORD: usize = 1 << 14;
/// So many records, and so many more.
const FEW: usize = 64;
const MORE: usize = 2048;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// To the upstream.
    Up,
    /// To the client.
    Down,
}

/// Two ends of one connection, as the system has them: none of the threads of the peers is the relay's.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

fn registered(socket: TcpStream) -> Socket {
    socket.set_nonblocking(true).unwrap();
    Socket::from(tokio::net::TcpStream::from_std(socket).unwrap())
}

/// The allocations of the thread that relays so many records, handshake and all.
fn allocations(server: &ServerEndpoint, config: &Arc<ClientConfig>, direction: Direction, records: usize) -> u64 {
    let (client_socket, server_socket) = pair();
    let (link, upstream) = pair();
    let session = ClientConnection::new(config.clone(), name("a.example")).unwrap();
    let amount = records * RECORD;
    let mut client = StreamOwned::new(session, client_socket);
    let mut upstream = upstream;
    let peers = thread::spawn(move || {
        // The first bytes end the handshake.
        client.write_all(&[0; RECORD]).unwrap();
        upstream.read_exact(&mut [0; RECORD]).unwrap();
        let chunk = vec![b'x'; RECORD];
        let (mut client, mut upstream) = match direction {
            Direction::Up => {
                let reading = thread::spawn(move || {
                    assert_eq!(std::io::copy(&mut upstream, &mut std::io::sink()).unwrap(), amount as u64);
                    upstream
                });
                (0..records).for_each(|_| client.write_all(&chunk).unwrap());
                client.conn.send_close_notify();
                client.flush().unwrap();
                (client, reading.join().unwrap())
            }
            Direction::Down => {
                let writing = thread::spawn(move || {
                    (0..records).for_each(|_| upstream.write_all(&chunk).unwrap());
                    upstream.shutdown(std::net::Shutdown::Write).unwrap();
                    upstream
                });
                assert_eq!(std::io::copy(&mut client, &mut std::io::sink()).unwrap(), amount as u64);
                (client, writing.join().unwrap())
            }
        };
        // The other direction ends as well.
        if direction == Direction::Up {
            upstream.shutdown(std::net::Shutdown::Write).unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 0);
        } else {
            client.conn.send_close_notify();
            client.flush().unwrap();
            assert_eq!(upstream.read(&mut [0]).unwrap(), 0);
        }
    });
    let info = measure(|| {
        on_one_thread(async {
            let conductor = Conductor::new();
            let decide = |offer: &_| server.decide(offer, None);
            let near = accept(registered(server_socket), Vec::new(), decide, &pool()).await.unwrap();
            let (end, traffic) =
                relay(near.stream, registered(link), Duration::from_secs(50), None, &mut conductor.watch()).await;
            assert!(matches!(end, End::Clean), "{end:?}");
            let (received, sent) = match direction {
                Direction::Up => (amount + RECORD, 0),
                Direction::Down => (RECORD, amount),
            };
            assert_eq!((traffic.received, traffic.sent), (received as u64, sent as u64));
        });
    });
    peers.join().unwrap();
    info.count_total
}

#[test]
fn a_record_costs_no_allocation_but_the_one_of_rustls() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let policy = policy(true, false, Some(&["x25519mlkem768"]));
    let credential = ca.credential(Profile::Server, "a.example", KeyAlgorithm::EcdsaP256);
    let server = endpoint(&policy, credential, Signing::Inline, None);
    let config = client(&policy, &ca, None);
    for direction in [Direction::Up, Direction::Down] {
        let few = allocations(&server, &config, direction, FEW);
        let many = allocations(&server, &config, direction, FEW + MORE);
        let each = many.saturating_sub(few) as f64 / MORE as f64;
        // A few are kept for what a socket doesn't take: how many depends on the scheduler.
        assert!((0.9..1.25).contains(&each), "{each} for a record: {few} and {many}");
    }
}
