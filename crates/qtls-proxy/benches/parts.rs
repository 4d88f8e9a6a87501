//! What is ours of the cost of connections, part by part: `cargo bench -p qtls-proxy`. Whole servers are measured by
//! qtls-bench.
// Helpers unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use qtls_core::client_hello::Offer;
use qtls_core::endpoint::{ServerEndpoint, Signing};
use qtls_core::facts::Facts;
use qtls_core::policy::KeyAlgorithm;
use qtls_pki::issue::Profile;
use qtls_proxy::handshake::Established;
use qtls_proxy::observe::metrics::{Metrics, WorkerMetrics};
use qtls_proxy::proxy_protocol::{self, Party, Version, tlv};
use qtls_proxy::relay::relay;
use qtls_proxy::shutdown::Conductor;
use rustls::server::Acceptor;
use rustls::{ClientConfig, ClientConnection};
use support::{Ca, client, endpoint, handshake, name, policy, sockets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{LocalSet, spawn_local};

/// What a server and a client need for handshakes with this group.
fn sides(group: &str) -> (Arc<ServerEndpoint>, Arc<ClientConfig>) {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let policy = policy(true, false, Some(&[group]));
    let credential = ca.credential(Profile::Server, "a.example", KeyAlgorithm::EcdsaP256);
    (endpoint(&policy, credential, Signing::Inline, None), client(&policy, &ca, None))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn facts(runtime: &Runtime) -> Facts {
    let (server, client) = sides("x25519mlkem768");
    LocalSet::new().block_on(runtime, async { handshake(&server, &client).await.1.unwrap().facts })
}

/// From the bytes of a ClientHello to the configuration that answers it.
fn decision(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decision");
    for kem in ["x25519mlkem768", "secp384r1mlkem1024"] {
        let (endpoint, config) = sides(kem);
        let mut records = Vec::new();
        ClientConnection::new(config, name("a.example")).unwrap().write_tls(&mut records).unwrap();
        group.bench_function(BenchmarkId::from_parameter(kem), |bencher| {
            bencher.iter(|| {
                let mut acceptor = Acceptor::default();
                acceptor.read_tls(&mut black_box(&records[..])).unwrap();
                let accepted = acceptor.accept().ok().flatten().unwrap();
                let offer = Offer::new(&accepted.client_hello(), &records);
                black_box(endpoint.decide(&offer, None).group.unwrap());
            });
        });
    }
}

/// Both sides of a handshake, over loopback.
fn handshakes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("handshake, both sides");
    let runtime = runtime();
    for kem in ["x25519mlkem768", "secp384r1mlkem1024"] {
        let (server, client) = sides(kem);
        group.bench_function(BenchmarkId::from_parameter(kem), |bencher| {
            bencher.iter(|| {
                LocalSet::new().block_on(&runtime, async {
                    let (near, far) = handshake(&server, &client).await;
                    black_box((near.unwrap(), far.unwrap()));
                });
            });
        });
    }
}

/// A MiB through the relay. The client's half of the TLS is a part of it.
fn relaying(criterion: &mut Criterion) {
    const AMOUNT: usize = 1 << 20;
    let mut group = criterion.benchmark_group("relay");
    group.throughput(Throughput::Bytes(AMOUNT as u64));
    let runtime = runtime();
    let (server, client) = sides("x25519mlkem768");
    for down in [true, false] {
        group.bench_function(if down { "to the client" } else { "from the client" }, |bencher| {
            bencher.iter_custom(|rounds| {
                LocalSet::new().block_on(&runtime, async {
                    let (near, far) = handshake(&server, &client).await;
                    let (upstream, server_side) = sockets().await;
                    let conductor = Conductor::new();
                    let mut shutdown = conductor.watch();
                    let Established { stream, .. } = far.unwrap();
                    let task =
                        spawn_local(
                            async move { relay(stream, server_side, Duration::MAX / 4, None, &mut shutdown).await },
                        );
                    let near = near.unwrap().stream;
                    let begun = Instant::now();
                    if down {
                        pass(upstream, near, rounds * AMOUNT as u64).await;
                    } else {
                        pass(near, upstream, rounds * AMOUNT as u64).await;
                    }
                    let took = begun.elapsed();
                    task.abort();
                    took
                })
            });
        });
    }
}

async fn pass(
    mut from: impl tokio::io::AsyncWrite + Unpin + 'static,
    mut to: impl tokio::io::AsyncRead + Unpin,
    amount: u64,
) {
    let writing = spawn_local(async move {
        let chunk = vec![b'x'; 64 * 1024];
        let mut left = amount;
        while left > 0 {
            let part = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
            from.write_all(&chunk[..part]).await.unwrap();
            left -= part as u64;
        }
        from.flush().await.unwrap();
        from
    });
    let mut buffer = vec![0; 64 * 1024];
    let mut left = amount;
    while left > 0 {
        left -= to.read(&mut buffer).await.unwrap() as u64;
    }
    drop(writing.await.unwrap());
}

/// What is counted of each handshake.
fn metrics(criterion: &mut Criterion) {
    let metrics = Arc::new(Metrics::new().unwrap());
    let worker = WorkerMetrics::new(metrics);
    let facts = facts(&runtime());
    let client = SocketAddr::from(([192, 0, 2, 7], 50_000)).ip();
    let (_, config) = sides("x25519mlkem768");
    let mut records = Vec::new();
    ClientConnection::new(config, name("a.example")).unwrap().write_tls(&mut records).unwrap();
    let mut acceptor = Acceptor::default();
    acceptor.read_tls(&mut &records[..]).unwrap();
    let offer = Offer::new(&acceptor.accept().ok().flatten().unwrap().client_hello(), &records);
    criterion.bench_function("metrics of a handshake", |bencher| {
        bencher.iter(|| {
            worker.offer(black_box(&offer));
            worker.handshake(black_box(&facts), client, Duration::from_micros(300));
        });
    });
}

/// The header in front of what an upstream gets.
fn proxy_header(criterion: &mut Criterion) {
    let party = || Party::Client {
        source: SocketAddr::from(([192, 0, 2, 7], 50_000)),
        destination: SocketAddr::from(([198, 51, 100, 1], 443)),
    };
    criterion.bench_function("PROXY header, version 2", |bencher| {
        bencher.iter(|| proxy_protocol::encode(Version::V2, black_box(party()), &tlv::Writer::default()).unwrap());
    });
}

criterion_group!(parts, decision, handshakes, relaying, metrics, proxy_header);
criterion_main!(parts);
