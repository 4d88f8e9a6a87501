//! TCP mode, case after case from seeds: whatever the pace of readers and writers, every byte arrives once and in order;
//! and a connection that breaks never looks like one that ended.
//!
//! `QTLS_RELAY_SEED=17 cargo test -p qtls-proxy --test relaying_seeds` repeats one case.
// Helpers of tests unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use std::cell::{Cell, RefCell};
use std::io::{self, ErrorKind};
use std::net::Shutdown;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use qtls_core::credentials::sha256;
use qtls_core::endpoint::{ServerEndpoint, Signing};
use qtls_core::policy::KeyAlgorithm;
use qtls_pki::issue::Profile;
use qtls_proxy::handshake::{accept, connect};
use qtls_proxy::relay::{End, relay};
use qtls_proxy::shutdown::Conductor;
use qtls_proxy::signing::SigningPool;
use qtls_proxy::socket::Socket;
use qtls_proxy::stream::{TlsStream, Traffic};
use rustls::ClientConfig;
use socket2::SockRef;
use support::{Ca, client, endpoint, name, on_one_thread_within, policy, pool, sockets};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::{JoinHandle, spawn_local, yield_now};
use tokio::time::{sleep, timeout};

const CASES: u64 = 2500;
const RESETS: u64 = 500;
const STALLS: u64 = 200;
/// How many go on at the same time, as on a worker.
const AT_ONCE: usize = 16;
const LONG: Duration = Duration::from_secs(60);

/// What every case has in common: keys are dear.
struct Parties {
    endpoint: Arc<ServerEndpoint>,
    config: Arc<ClientConfig>,
    pool: Arc<SigningPool>,
    conductor: Conductor,
}

impl Parties {
    fn new() -> Self {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let credential = ca.credential(Profile::Server, "a.example", KeyAlgorithm::EcdsaP256);
        Self {
            endpoint: endpoint(&policy, credential, Signing::Inline, None),
            config: client(&policy, &ca, None),
            pool: pool(),
            conductor: Conductor::new(),
        }
    }
}

/// A relay between a TLS client and an upstream, with what resets either.
struct Relayed {
    client: TlsStream,
    /// The client's socket once more.
    below: socket2::Socket,
    upstream: Socket,
    task: JoinHandle<(End, Traffic)>,
}

/// How much room there is in the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Usual,
    /// At times little: whoever reads slowly holds the others up.
    Little,
}

async fn relayed(parties: &Parties, numbers: &mut Numbers, over_tcp: bool, room: Room) -> Relayed {
    let (near, far) = sockets().await;
    let below = SockRef::from(&near).try_clone().unwrap();
    let (near, far) = tokio::join!(
        connect(near, parties.config.clone(), name("a.example")),
        accept(far, Vec::new(), |offer| parties.endpoint.decide(offer, None), &parties.pool)
    );
    let (stream, client) = (far.unwrap().stream, near.unwrap().stream);
    let (upstream, server_side): (Socket, Socket) = if over_tcp || numbers.below(4) > 0 {
        let (one, other) = sockets().await;
        (one.into(), other.into())
    } else {
        let (one, other) = UnixStream::pair().unwrap();
        (one.into(), other.into())
    };
    for socket in [SockRef::from(&below), SockRef::from(&upstream), SockRef::from(&server_side)] {
        if room == Room::Little && numbers.below(2) == 0 {
            socket.set_recv_buffer_size(2048 << numbers.below(4)).unwrap();
            socket.set_send_buffer_size(2048 << numbers.below(4)).unwrap();
        }
    }
    let mut shutdown = parties.conductor.watch();
    let task = spawn_local(async move { relay(stream, server_side, LONG, None, &mut shutdown).await });
    Relayed { client, below, upstream, task }
}

/// A small generator of reproducible numbers (xorshift): what is tested is the relay, not the randomness.
struct Numbers(u64);

impl Numbers {
    /// Seeds that lie beside each other give other numbers from the first on.
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> usize {
        usize::try_from((self.next() >> 8) % limit).unwrap()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// How much goes one way: often little, sometimes more than fits into any buffer.
    fn length(&mut self) -> usize {
        let most = [1, 300, 5_000, 40_000, 150_000][self.below(5)];
        self.below(most + 1)
    }
}

/// How one side reads or writes.
struct Pace {
    /// The largest piece.
    piece: u64,
    /// One time in so many, it stalls.
    stalls: u64,
    numbers: Numbers,
}

impl Pace {
    fn new(numbers: &mut Numbers, amount: usize) -> Self {
        // Byte by byte only where that doesn't take for ever: each is a record.
        let slowest = if amount <= 2_000 { 0 } else { 1 };
        let piece = [1, 600, 17_000, 300_000][slowest + numbers.below(4 - slowest as u64)];
        Self { piece, stalls: [4, 40, 400][numbers.below(3)], numbers: Numbers::new(numbers.next()) }
    }

    fn piece(&mut self) -> usize {
        1 + self.numbers.below(self.piece)
    }

    async fn pause(&mut self) {
        if self.numbers.below(self.stalls) == 0 {
            match self.numbers.below(8) {
                0 => sleep(Duration::from_millis(self.numbers.below(3) as u64 + 1)).await,
                turns => {
                    for _ in 0..turns {
                        yield_now().await;
                    }
                }
            }
        }
    }
}

async fn write(mut to: impl AsyncWrite + Unpin, data: &[u8], mut pace: Pace) -> io::Result<()> {
    let mut rest = data;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(pace.piece().min(rest.len()));
        to.write_all(piece).await?;
        rest = later;
        pace.pause().await;
    }
    to.shutdown().await
}

/// What came, and how it ended.
async fn read(mut from: impl AsyncRead + Unpin, mut pace: Pace) -> (Vec<u8>, io::Result<()>) {
    let mut received = Vec::new();
    let mut buffer = vec![0; 300_000];
    loop {
        let size = pace.piece();
        match from.read(&mut buffer[..size]).await {
            Ok(0) => return (received, Ok(())),
            Ok(count) => received.extend_from_slice(&buffer[..count]),
            Err(error) => return (received, Err(error)),
        }
        pace.pause().await;
    }
}

/// The cases to run, or the one that the environment names.
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("QTLS_RELAY_SEED") {
        Ok(seed) => vec![seed.parse().expect("QTLS_RELAY_SEED is a number")],
        Err(_) => (1..=count).collect(),
    }
}

/// Runs a case for each seed, several at a time.
fn for_each_seed<F: Future<Output = ()> + 'static>(count: u64, case: impl Fn(Rc<Parties>, u64) -> F + Copy + 'static) {
    on_one_thread_within(Duration::from_secs(300), async move {
        let parties = Rc::new(Parties::new());
        let seeds = Rc::new(RefCell::new(seeds(count).into_iter()));
        let done = Rc::new(Cell::new(0));
        let runners: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                let (parties, seeds, done) = (parties.clone(), seeds.clone(), done.clone());
                spawn_local(async move {
                    loop {
                        let Some(seed) = seeds.borrow_mut().next() else { return };
                        // On a task of its own: its panic is told with the seed.
                        let running = spawn_local(timeout(LONG, case(parties.clone(), seed)));
                        match running.await {
                            Ok(Ok(())) => done.set(done.get() + 1),
                            Ok(Err(_)) => panic!("seed {seed} is stuck: QTLS_RELAY_SEED={seed} repeats it"),
                            Err(failed) => panic!("seed {seed} fails: QTLS_RELAY_SEED={seed} repeats it\n{failed}"),
                        }
                    }
                })
            })
            .collect();
        for runner in runners {
            runner.await.unwrap();
        }
        assert!(done.get() == count || std::env::var("QTLS_RELAY_SEED").is_ok(), "{} of {count}", done.get());
    });
}

#[test]
fn bytes_are_conserved_in_thousands_of_cases() {
    for_each_seed(CASES, |parties, seed| async move {
        let mut numbers = Numbers::new(seed);
        let Relayed { client, below: _below, upstream, task } =
            relayed(&parties, &mut numbers, false, Room::Little).await;
        let (up, down) = (numbers.length(), numbers.length());
        let (up, down) = (numbers.bytes(up), numbers.bytes(down));
        let mut pace = |amount| Pace::new(&mut numbers, amount);
        let paces = [pace(down.len()), pace(up.len()), pace(up.len()), pace(down.len())];
        let [client_reads, upstream_reads, client_writes, upstream_writes] = paces;
        let (client_read, client_write) = tokio::io::split(client);
        let (upstream_read, upstream_write) = tokio::io::split(upstream);
        let (by_client, by_upstream, from_client, from_upstream) = tokio::join!(
            read(client_read, client_reads),
            read(upstream_read, upstream_reads),
            write(client_write, &up, client_writes),
            write(upstream_write, &down, upstream_writes),
        );
        from_client.unwrap();
        from_upstream.unwrap();
        by_client.1.unwrap();
        by_upstream.1.unwrap();
        assert_eq!((by_upstream.0.len(), by_client.0.len()), (up.len(), down.len()));
        assert_eq!((sha256(&by_upstream.0), sha256(&by_client.0)), (sha256(&up), sha256(&down)));
        let (end, traffic) = task.await.unwrap();
        assert!(matches!(end, End::Clean), "{end:?}");
        assert_eq!(traffic, Traffic { received: up.len() as u64, sent: down.len() as u64 });
    });
}

/// One of the two peers goes away with a reset, at any time: the other one gets what had come by then, or less, and then
/// a reset.
#[test]
fn a_reset_is_a_reset_for_the_other_side_in_hundreds_of_cases() {
    for_each_seed(RESETS, |parties, seed| async move {
        let mut numbers = Numbers::new(seed ^ 0x5eed);
        let Relayed { mut client, below, mut upstream, task } =
            relayed(&parties, &mut numbers, true, Room::Little).await;
        let by_client = numbers.below(2) == 0;
        let (amount, sent) = (numbers.length(), numbers.length());
        let data = numbers.bytes(amount);
        let before = &data[..sent.min(data.len())];
        let (slow, quick) = (Pace::new(&mut numbers, amount), Pace::new(&mut numbers, amount));
        let halves = numbers.below(4);
        let (received, end) = if by_client {
            let (read_half, mut write_half) = tokio::io::split(upstream);
            // At times, one that has said that it sends no more.
            if halves == 0 {
                write_half.shutdown().await.unwrap();
            }
            let resetting = async {
                let _ = write_some(&mut client, before, quick).await;
                below.set_linger(Some(Duration::ZERO)).unwrap();
                drop((client, below));
            };
            let ((received, end), ()) = tokio::join!(read(read_half, slow), resetting);
            (received, end)
        } else {
            let (read_half, mut write_half) = tokio::io::split(client);
            if halves == 0 {
                write_half.shutdown().await.unwrap();
            }
            let resetting = async {
                let _ = write_some(&mut upstream, before, quick).await;
                SockRef::from(&upstream).set_linger(Some(Duration::ZERO)).unwrap();
                drop(upstream);
            };
            let ((received, end), ()) = tokio::join!(read(read_half, slow), resetting);
            (received, end)
        };
        assert!(data.starts_with(&received), "{} bytes that were never sent", received.len());
        let kind = end.expect_err("a reset looks like an end").kind();
        assert!(kind == ErrorKind::ConnectionReset, "{kind:?}");
        let reason = task.await.unwrap().0.reason();
        assert_eq!(reason, if by_client { "client_error" } else { "upstream_error" });
    });
}

/// One of the two peers goes away with a reset while the other one reads nothing, and the relay therefore nothing of the
/// first: the other one is reset all the same.
#[test]
fn a_reset_reaches_a_reader_that_stalls_in_hundreds_of_cases() {
    for_each_seed(STALLS, |parties, seed| async move {
        let mut numbers = Numbers::new(seed ^ 0x57a11);
        // A buffer that shrinks drops what was on its way to it, and sometimes the kernel's reset, which nobody repeats.
        let Relayed { mut client, below, mut upstream, task } =
            relayed(&parties, &mut numbers, true, Room::Usual).await;
        let by_client = numbers.below(2) == 0;
        // At times, the reader has said before that it sends no more.
        let halves = numbers.below(4) == 0;
        let pace = Pace { stalls: u64::MAX, ..Pace::new(&mut numbers, usize::MAX) };
        if by_client {
            if halves {
                SockRef::from(&upstream).shutdown(Shutdown::Write).unwrap();
            }
            fill(&mut client, pace).await;
            below.set_linger(Some(Duration::ZERO)).unwrap();
            drop((client, below));
            let Socket::Tcp(reader) = upstream else { panic!("over TCP") };
            reader.ready(Interest::ERROR).await.unwrap();
            assert_eq!(reader.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionReset);
        } else {
            if halves {
                client.shutdown().await.unwrap();
            }
            let reader = TcpStream::from_std(below.into()).unwrap();
            fill(&mut upstream, pace).await;
            SockRef::from(&upstream).set_linger(Some(Duration::ZERO)).unwrap();
            drop(upstream);
            reader.ready(Interest::ERROR).await.unwrap();
            assert_eq!(reader.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionReset);
        }
        let reason = task.await.unwrap().0.reason();
        assert_eq!(reason, if by_client { "client_error" } else { "upstream_error" });
    });
}

/// Writes until nothing goes on any more.
async fn fill(mut to: impl AsyncWrite + Unpin, mut pace: Pace) {
    const NOTHING: Duration = Duration::from_millis(30);
    let data = pace.numbers.bytes(300_000);
    let mut sent = 0;
    while let Ok(written) = timeout(NOTHING, to.write(&data[..pace.piece()])).await {
        sent += written.unwrap();
        assert!(sent < 64 << 20, "nothing held the writer back");
    }
}

async fn write_some(to: &mut (impl AsyncWrite + Unpin), data: &[u8], mut pace: Pace) -> io::Result<()> {
    let mut rest = data;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(pace.piece().min(rest.len()));
        to.write_all(piece).await?;
        rest = later;
        pace.pause().await;
    }
    to.flush().await
}
