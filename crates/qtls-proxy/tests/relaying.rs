//! TCP mode: every byte arrives, in both directions and whatever the pace; ends are passed on as what they are.
// Helpers of tests unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use qtls_core::endpoint::Signing;
use qtls_core::policy::KeyAlgorithm;
use qtls_pki::issue::Profile;
use qtls_proxy::handshake::{accept, connect};
use qtls_proxy::relay::{End, relay};
use qtls_proxy::shutdown::{Conductor, Phase};
use qtls_proxy::stream::{TlsStream, Traffic};
use support::uneven::{Numbers, bytes, read_unevenly, write_unevenly};
use support::{Ca, client, endpoint, handshake, name, on_one_thread, policy, pool, sockets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::{JoinHandle, spawn_local};

/// A relay in the middle of a TLS client and an upstream.
struct Relayed {
    client: TlsStream,
    upstream: TcpStream,
    task: JoinHandle<(End, Traffic)>,
    conductor: Conductor,
}

async fn relayed(idle: Duration) -> Relayed {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let policy = policy(true, false, None);
    let credential = ca.credential(Profile::Server, "a.example", KeyAlgorithm::EcdsaP256);
    let endpoint = endpoint(&policy, credential, Signing::Inline, None);
    let (near, far) = handshake(&endpoint, &client(&policy, &ca, None)).await;
    let (upstream, server_side) = sockets().await;
    let conductor = Conductor::new();
    let mut shutdown = conductor.watch();
    let stream = far.unwrap().stream;
    let task = spawn_local(async move { relay(stream, server_side, idle, None, &mut shutdown).await });
    Relayed { client: near.unwrap().stream, upstream, task, conductor }
}

const LONG: Duration = Duration::from_secs(30);

#[test]
fn every_byte_arrives_in_both_directions_at_any_pace() {
    on_one_thread(async {
        for seed in 1..=40u64 {
            let Relayed { client, upstream, task, conductor: _conductor } = relayed(LONG).await;
            let mut numbers = Numbers(seed * 7919);
            let up = Arc::new(bytes(seed, numbers.below(600_000)));
            let down = Arc::new(bytes(seed + 1000, numbers.below(600_000)));
            let (client_read, client_write) = tokio::io::split(client);
            let (upstream_read, upstream_write) = upstream.into_split();
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

/// A client that has said it sends no more still gets the answer.
#[test]
fn a_half_closed_connection_stays_open_the_other_way() {
    on_one_thread(async {
        let Relayed { mut client, mut upstream, task, conductor: _conductor } = relayed(LONG).await;
        client.write_all(b"question").await.unwrap();
        let mut write_half = client;
        let closing = spawn_local(async move {
            // close_notify and FIN; what comes back is still to be read.
            let mut answer = Vec::new();
            let (mut read, mut write) = tokio::io::split(&mut write_half);
            let (_, result) = tokio::join!(write.shutdown(), read.read_to_end(&mut answer));
            result.unwrap();
            answer
        });
        let mut question = Vec::new();
        upstream.read_to_end(&mut question).await.unwrap();
        assert_eq!(question, b"question", "the upstream sees the end of the question");
        upstream.write_all(b"answer").await.unwrap();
        upstream.shutdown().await.unwrap();
        closing.await.unwrap();
        let (end, traffic) = task.await.unwrap();
        assert!(matches!(end, End::Clean), "{end:?}");
        assert_eq!(traffic, Traffic { received: 8, sent: 6 });
    });
}

/// A client that asks and closes at once: its question and its `close_notify` may come with the end of the handshake.
#[test]
fn a_question_that_comes_with_the_end_of_the_handshake_is_answered() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let credential = ca.credential(Profile::Server, "a.example", KeyAlgorithm::EcdsaP256);
        let endpoint = endpoint(&policy, credential, Signing::Inline, None);
        let config = client(&policy, &ca, None);
        let conductor = Conductor::new();
        let (near, far) = sockets().await;
        let asking = async {
            // Until it has to wait for the answer, the client goes on before the server has its turn.
            let mut client = connect(near, config, name("a.example")).await.unwrap().stream;
            client.write_all(b"question").await.unwrap();
            let mut answer = Vec::new();
            let (mut read, mut write) = tokio::io::split(&mut client);
            let (closed, received) = tokio::join!(write.shutdown(), read.read_to_end(&mut answer));
            closed.unwrap();
            received.unwrap();
            answer
        };
        let answering = async {
            let stream = accept(far, Vec::new(), |offer| endpoint.decide(offer, None), &pool()).await.unwrap().stream;
            let (mut upstream, server_side) = sockets().await;
            let mut shutdown = conductor.watch();
            let serving = async {
                let mut question = Vec::new();
                upstream.read_to_end(&mut question).await.unwrap();
                upstream.write_all(&question).await.unwrap();
                upstream.shutdown().await.unwrap();
            };
            tokio::join!(relay(stream, server_side, LONG, None, &mut shutdown), serving).0
        };
        let (answer, (end, traffic)) = tokio::join!(asking, answering);
        assert_eq!(answer, b"question");
        assert!(matches!(end, End::Clean), "{end:?}");
        assert_eq!(traffic, Traffic { received: 8, sent: 8 });
    });
}

/// While the upstream doesn't read, the relay stops reading too: the client can't send without bound.
#[test]
fn a_reader_that_stalls_stops_the_writer() {
    on_one_thread(async {
        let Relayed { client, mut upstream, task, conductor: _conductor } = relayed(LONG).await;
        let (mut read, mut write) = tokio::io::split(client);
        const PIECE: usize = 64 * 1024;
        let piece = bytes(5, PIECE);
        let mut sent = 0;
        while tokio::time::timeout(Duration::from_millis(300), write.write_all(&piece)).await.is_ok() {
            sent += PIECE;
            assert!(sent < 64 << 20, "nothing held the writer back");
        }
        // The piece that stalled may be half written, and is abandoned with the connection.
        let mut received = vec![0; sent];
        let (read_result, flushed) = tokio::join!(upstream.read_exact(&mut received), write.flush());
        read_result.unwrap();
        flushed.unwrap();
        assert!(received.chunks(PIECE).all(|chunk| chunk == piece), "what was held back arrives in order");
        drop(upstream);
        let _ = read.read(&mut [0; 10]).await;
        drop((read, write));
        task.await.unwrap();
    });
}

#[test]
fn a_client_that_is_cut_off_is_told_from_one_that_closes() {
    on_one_thread(async {
        let Relayed { mut client, mut upstream, task, conductor: _conductor } = relayed(LONG).await;
        client.write_all(b"half a mess").await.unwrap();
        client.flush().await.unwrap();
        // The socket goes away without close_notify.
        drop(client);
        let mut received = Vec::new();
        upstream.read_to_end(&mut received).await.unwrap();
        assert_eq!(received, b"half a mess", "what had arrived is passed on");
        drop(upstream);
        let (end, _) = task.await.unwrap();
        assert_eq!(end.reason(), "truncated");
    });
}

#[test]
fn a_reset_by_the_upstream_is_no_clean_end_for_the_client() {
    on_one_thread(async {
        let Relayed { mut client, upstream, task, conductor: _conductor } = relayed(LONG).await;
        socket2::SockRef::from(&upstream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(upstream);
        let error = client.read(&mut [0; 10]).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof), "{error}");
        let (end, _) = task.await.unwrap();
        assert_eq!(end.reason(), "upstream_error");
    });
}

#[test]
fn an_idle_connection_is_closed_in_order() {
    on_one_thread(async {
        let Relayed { mut client, task, conductor: _conductor, upstream: _upstream } =
            relayed(Duration::from_millis(50)).await;
        assert_eq!(client.read(&mut [0; 10]).await.unwrap(), 0, "close_notify, not a cut");
        let (end, _) = task.await.unwrap();
        assert_eq!(end.reason(), "idle_timeout");
    });
}

#[test]
fn stopping_the_server_closes_in_order() {
    on_one_thread(async {
        let Relayed { mut client, task, conductor, upstream: _upstream } = relayed(LONG).await;
        conductor.advance(Phase::Draining);
        client.write_all(b"still served").await.unwrap();
        conductor.advance(Phase::Closing);
        assert_eq!(client.read(&mut [0; 10]).await.unwrap(), 0, "close_notify, not a cut");
        let (end, _) = task.await.unwrap();
        assert_eq!(end.reason(), "stopped");
    });
}
