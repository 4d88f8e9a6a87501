//! TCP mode with TLS on both sides: every byte arrives, and ends are passed on as what they are.
// Helpers of tests unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use qtls_core::endpoint::{ServerEndpoint, Signing};
use qtls_core::policy::KeyAlgorithm;
use qtls_pki::issue::Profile;
use qtls_proxy::handshake::{Established, accept, connect};
use qtls_proxy::relay::{End, relay};
use qtls_proxy::shutdown::{Conductor, Phase};
use qtls_proxy::stream::{TlsStream, Traffic};
use rustls::ClientConfig;
use socket2::SockRef;
use support::uneven::{Numbers, bytes, read_unevenly, write_unevenly};
use support::{Ca, client, endpoint, handshake, name, on_one_thread, policy, pool, sockets};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};

const LONG: Duration = Duration::from_secs(30);

/// A relay between a client and an upstream that both speak TLS.
struct Relayed {
    client: TlsStream,
    upstream: TlsStream,
    task: JoinHandle<(End, Traffic)>,
    conductor: Conductor,
}

async fn relayed(idle: Duration) -> Relayed {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let policy = policy(true, false, None);
    let config = client(&policy, &ca, None);
    let credential = || ca.credential(Profile::Server, "a.example", KeyAlgorithm::EcdsaP256);
    let endpoint = endpoint(&policy, credential(), Signing::Inline, None);
    let (near, far) = handshake(&endpoint, &config).await;
    let (link, upstream) = handshake(&endpoint, &config).await;
    let conductor = Conductor::new();
    let task = start(far.unwrap(), link.unwrap(), idle, &conductor);
    Relayed { client: near.unwrap().stream, upstream: upstream.unwrap().stream, task, conductor }
}

fn start(near: Established, link: Established, idle: Duration, conductor: &Conductor) -> JoinHandle<(End, Traffic)> {
    let mut shutdown = conductor.watch();
    spawn_local(async move { relay(near.stream, link, idle, None, &mut shutdown).await })
}

#[test]
fn every_byte_arrives_in_both_directions_at_any_pace() {
    on_one_thread(async {
        for seed in 1..=40u64 {
            let Relayed { client, upstream, task, conductor: _conductor } = relayed(LONG).await;
            let mut numbers = Numbers(seed * 104_729);
            // Every fourth is a few bytes, written one at a time or little more.
            let limit = if seed % 4 == 0 { 3000 } else { 600_000 };
            let up = Arc::new(bytes(seed, numbers.below(limit)));
            let down = Arc::new(bytes(seed + 1000, numbers.below(limit)));
            let (client_read, client_write) = tokio::io::split(client);
            let (upstream_read, upstream_write) = tokio::io::split(upstream);
            let (received_by_client, received_by_upstream, (), ()) = tokio::join!(
                read_unevenly(client_read, seed),
                read_unevenly(upstream_read, seed + 1),
                write_unevenly(client_write, up.clone(), seed + 2),
                write_unevenly(upstream_write, down.clone(), seed + 3),
            );
            assert!(received_by_upstream == *up, "seed {seed}: {} of {}", received_by_upstream.len(), up.len());
            assert!(received_by_client == *down, "seed {seed}: {} of {}", received_by_client.len(), down.len());
            let (end, traffic) = task.await.unwrap();
            assert!(matches!(end, End::Clean), "seed {seed}: {end:?}");
            assert_eq!(traffic, Traffic { received: up.len() as u64, sent: down.len() as u64 });
        }
    });
}

/// A client that has said it sends no more still gets the answer, and the upstream reads an end that is no cut.
#[test]
fn a_half_closed_connection_stays_open_the_other_way() {
    on_one_thread(async {
        let Relayed { client, mut upstream, task, conductor: _conductor } = relayed(LONG).await;
        let asking = async move {
            let (mut read, mut write) = tokio::io::split(client);
            write.write_all(b"question").await.unwrap();
            write.shutdown().await.unwrap();
            let mut answer = Vec::new();
            read.read_to_end(&mut answer).await.unwrap();
            answer
        };
        let answering = async move {
            let mut question = Vec::new();
            upstream.read_to_end(&mut question).await.unwrap();
            upstream.write_all(b"answer to ").await.unwrap();
            upstream.write_all(&question).await.unwrap();
            upstream.shutdown().await.unwrap();
        };
        let (answer, ()) = tokio::join!(asking, answering);
        assert_eq!(answer, b"answer to question");
        let (end, traffic) = task.await.unwrap();
        assert!(matches!(end, End::Clean), "{end:?}");
        assert_eq!(traffic, Traffic { received: 8, sent: 18 });
    });
}

/// Neither a client nor an upstream that doesn't read can be sent to without bound.
#[test]
fn a_reader_that_stalls_stops_the_writer_on_either_side() {
    on_one_thread(async {
        for upwards in [true, false] {
            let Relayed { client, upstream, task, conductor: _conductor } = relayed(LONG).await;
            let (writer, mut reader) = if upwards { (client, upstream) } else { (upstream, client) };
            let (mut read, mut write) = tokio::io::split(writer);
            const PIECE: usize = 64 * 1024;
            let piece = bytes(5, PIECE);
            let mut sent = 0;
            while tokio::time::timeout(Duration::from_millis(300), write.write_all(&piece)).await.is_ok() {
                sent += PIECE;
                assert!(sent < 64 << 20, "nothing held the writer back");
            }
            let mut received = vec![0; sent];
            let (read_result, flushed) = tokio::join!(reader.read_exact(&mut received), write.flush());
            read_result.unwrap();
            flushed.unwrap();
            assert!(received.chunks(PIECE).all(|chunk| chunk == piece), "what was held back arrives in order");
            drop(reader);
            let _ = read.read(&mut [0; 10]).await;
            drop((read, write));
            task.await.unwrap();
        }
    });
}

/// A server that speaks first, as databases and mail servers do, may have done so with the end of the handshake.
#[test]
fn a_greeting_that_comes_with_the_end_of_the_handshake_is_passed_on() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let config = client(&policy, &ca, None);
        let credential = ca.credential(Profile::Server, "a.example", KeyAlgorithm::EcdsaP256);
        let endpoint = endpoint(&policy, credential, Signing::Inline, None);
        let (near, far) = handshake(&endpoint, &config).await;
        let conductor = Conductor::new();
        let (link, server) = sockets().await;
        let pool = pool();
        let greeting = async {
            let established = accept(server, Vec::new(), |offer| endpoint.decide(offer, None), &pool).await.unwrap();
            let mut stream = established.stream;
            stream.write_all(b"220 ready\r\n").await.unwrap();
            stream.shutdown().await.unwrap();
            stream
        };
        let (link, _server) = tokio::join!(connect(link, config.clone(), name("a.example")), greeting);
        let task = start(far.unwrap(), link.unwrap(), LONG, &conductor);
        let mut client = near.unwrap().stream;
        let mut received = Vec::new();
        client.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"220 ready\r\n");
        client.shutdown().await.unwrap();
        let (end, traffic) = task.await.unwrap();
        assert!(matches!(end, End::Clean), "{end:?}");
        assert_eq!(traffic, Traffic { received: 0, sent: 11 });
    });
}

#[test]
fn a_client_that_is_cut_off_is_cut_off_for_the_upstream_too() {
    on_one_thread(async {
        let Relayed { mut client, mut upstream, task, conductor: _conductor } = relayed(LONG).await;
        client.write_all(b"half a mess").await.unwrap();
        client.flush().await.unwrap();
        drop(client);
        let mut received = Vec::new();
        let error = upstream.read_to_end(&mut received).await.unwrap_err();
        assert_eq!((received.as_slice(), error.kind()), (&b"half a mess"[..], ErrorKind::UnexpectedEof));
        upstream.shutdown().await.unwrap();
        assert_eq!(task.await.unwrap().0.reason(), "truncated");
    });
}

#[test]
fn an_upstream_that_is_cut_off_is_cut_off_for_the_client_too() {
    on_one_thread(async {
        let Relayed { mut client, mut upstream, task, conductor: _conductor } = relayed(LONG).await;
        upstream.write_all(b"half an ans").await.unwrap();
        upstream.flush().await.unwrap();
        drop(upstream);
        let mut received = Vec::new();
        let error = client.read_to_end(&mut received).await.unwrap_err();
        assert_eq!((received.as_slice(), error.kind()), (&b"half an ans"[..], ErrorKind::UnexpectedEof));
        client.shutdown().await.unwrap();
        assert_eq!(task.await.unwrap().0.reason(), "upstream_truncated");
    });
}

#[test]
fn a_reset_by_the_upstream_is_no_clean_end_for_the_client() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let config = client(&policy, &ca, None);
        let credential = ca.credential(Profile::Server, "a.example", KeyAlgorithm::EcdsaP256);
        let endpoint = endpoint(&policy, credential, Signing::Inline, None);
        for garbage in [false, true] {
            let (near, far) = handshake(&endpoint, &config).await;
            let conductor = Conductor::new();
            // Somebody in the middle, who resets the connection or puts something into it.
            let (link, mut middle) = sockets().await;
            let (mut onward, server) = sockets().await;
            let pool = pool();
            let between = async {
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut middle, &mut onward) => panic!("the handshake goes on"),
                    both = async {
                        tokio::join!(
                            connect(link, config.clone(), name("a.example")),
                            accept(server, Vec::new(), |offer| endpoint.decide(offer, None), &pool)
                        )
                    } => both,
                }
            };
            let (link, _server) = between.await;
            let task = start(far.unwrap(), link.unwrap(), LONG, &conductor);
            if garbage {
                middle.write_all(&[23, 3, 3, 0, 32].into_iter().chain([7; 32]).collect::<Vec<_>>()).await.unwrap();
            } else {
                SockRef::from(&middle).set_linger(Some(Duration::ZERO)).unwrap();
                drop(middle);
            }
            let mut client = near.unwrap().stream;
            let error = client.read(&mut [0; 10]).await.unwrap_err();
            assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof), "{error}");
            let (end, _) = task.await.unwrap();
            assert_eq!(end.reason(), if garbage { "upstream_tls_error" } else { "upstream_error" }, "{end:?}");
        }
    });
}

/// Whoever reads nothing holds the other one up, whose reset the relay sees without reading.
#[test]
fn a_reset_reaches_a_reader_that_stalls_on_either_side() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let config = client(&policy, &ca, None);
        let credential = ca.credential(Profile::Server, "a.example", KeyAlgorithm::EcdsaP256);
        let endpoint = endpoint(&policy, credential, Signing::Inline, None);
        for by_client in [true, false] {
            let ((client_below, client, near), (upstream_below, upstream, far)) =
                (over_a_socket(&endpoint, &config, true).await, over_a_socket(&endpoint, &config, false).await);
            let conductor = Conductor::new();
            let task = start(near, far, LONG, &conductor);
            let (mut writer, its_socket, _reader, reader_below) = match by_client {
                true => (client, client_below, upstream, upstream_below),
                false => (upstream, upstream_below, client, client_below),
            };
            let piece = bytes(5, 64 * 1024);
            while tokio::time::timeout(Duration::from_millis(100), writer.write_all(&piece)).await.is_ok() {}
            its_socket.set_linger(Some(Duration::ZERO)).unwrap();
            drop((writer, its_socket));
            let reader = TcpStream::from_std(reader_below.into()).unwrap();
            reader.ready(Interest::ERROR).await.unwrap();
            assert_eq!(reader.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionReset);
            assert_eq!(task.await.unwrap().0.reason(), if by_client { "client_error" } else { "upstream_error" });
        }
    });
}

/// A connection of a peer, the TLS client or the TLS server, to the relay: the peer's socket once more, the peer, and the
/// relay's end.
async fn over_a_socket(
    endpoint: &ServerEndpoint,
    config: &Arc<ClientConfig>,
    peer_is_client: bool,
) -> (socket2::Socket, TlsStream, Established) {
    let (near, far) = sockets().await;
    let below = if peer_is_client { SockRef::from(&near) } else { SockRef::from(&far) }.try_clone().unwrap();
    let pool = pool();
    let (near, far) = tokio::join!(
        connect(near, config.clone(), name("a.example")),
        accept(far, Vec::new(), |offer| endpoint.decide(offer, None), &pool)
    );
    let (near, far) = (near.unwrap(), far.unwrap());
    if peer_is_client { (below, near.stream, far) } else { (below, far.stream, near) }
}

#[test]
fn idle_connections_and_those_of_a_server_that_stops_are_closed_in_order_on_both_sides() {
    on_one_thread(async {
        let Relayed { mut client, task, conductor: _conductor, mut upstream } =
            relayed(Duration::from_millis(50)).await;
        assert_eq!(client.read(&mut [0; 10]).await.unwrap(), 0, "close_notify, not a cut");
        assert_eq!(upstream.read(&mut [0; 10]).await.unwrap(), 0, "close_notify, not a cut");
        assert_eq!(task.await.unwrap().0.reason(), "idle_timeout");

        let Relayed { mut client, task, conductor, mut upstream } = relayed(LONG).await;
        client.write_all(b"still served").await.unwrap();
        client.flush().await.unwrap();
        conductor.advance(Phase::Closing);
        assert_eq!(client.read(&mut [0; 10]).await.unwrap(), 0, "close_notify, not a cut");
        let mut received = Vec::new();
        upstream.read_to_end(&mut received).await.unwrap();
        assert!(b"still served".starts_with(&received), "{received:?}");
        assert_eq!(task.await.unwrap().0.reason(), "stopped");
    });
}
