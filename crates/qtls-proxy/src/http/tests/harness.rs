//! A server in front of an upstream of the test's making, and clients that see every byte.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioIo;
use qtls_core::client_hello::Alpn;
use qtls_core::facts::Facts;
use rustls::{ProtocolVersion, SignatureScheme};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, Sleep, sleep};

use crate::config::{self, UpstreamAddress, UpstreamProtocol};
use crate::hosts::Names;
use crate::http::{CloseWrite, Connection, End, LocalTasks, Service, Settings, serve};
use crate::limits::Life;
use crate::observe::metrics::{Metrics, table};
use crate::observe::view::View;
use crate::shutdown::{Conductor, Phase};
use crate::upstream::Upstream;
use crate::upstream::capture::install;

pub(super) const CLIENT: &str = "192.0.2.7:50000";
/// Longer than any of these tests takes.
pub(super) const LONG: Duration = Duration::from_secs(20);
/// What the pipe between client and server holds, as a socket's buffers would.
const PIPE: usize = 64 * 1024;

/// Runs a test as a worker would, and not for ever.
pub(super) fn run<F: Future>(test: F) -> F::Output {
    run_on(Builder::new_current_thread().enable_all(), Duration::from_secs(60), test)
}

/// Runs a test without sockets on a clock that moves when there is nothing left to do.
pub(super) fn run_timed<F: Future>(test: F) -> F::Output {
    run_on(Builder::new_current_thread().enable_all().start_paused(true), Duration::from_secs(3600), test)
}

fn run_on<F: Future>(runtime: &mut Builder, limit: Duration, test: F) -> F::Output {
    install();
    let runtime = runtime.build().unwrap();
    LocalSet::new().block_on(&runtime, async { tokio::time::timeout(limit, test).await.expect("the test hangs") })
}

/// A worker.
pub(super) struct Front {
    service: Rc<Service>,
    conductor: Conductor,
    metrics: Metrics,
    pub(super) client: SocketAddr,
    pub(super) names: Arc<Names>,
    /// The virtual host that the handshakes are for.
    pub(super) host: usize,
    life: Option<(Duration, Duration)>,
    /// How much room there was for what the server read last.
    pub(super) room: Rc<Cell<usize>>,
    /// How long shutting a stream down takes.
    pub(super) farewell: Duration,
}

impl Front {
    pub(super) fn pages(idle: Duration) -> Self {
        Self::new(Service::responder(settings(idle)), Metrics::new().unwrap())
    }

    /// In front of servers on these ports of the loopback interface.
    pub(super) fn proxy(ports: &[u16]) -> Self {
        Self::impatient(ports, LONG, LONG)
    }

    pub(super) fn impatient(ports: &[u16], client_idle: Duration, upstream_idle: Duration) -> Self {
        Self::with(settings(client_idle), upstream(ports, upstream_idle))
    }

    /// In front of a server that wants the certificates of clients.
    pub(super) fn curious(port: u16) -> Self {
        Self::with(settings(LONG), config::Upstream { client_cert: true, ..upstream(&[port], LONG) })
    }

    /// In front of an upstream with changes of its configuration.
    pub(super) fn before(ports: &[u16], client_idle: Duration, change: impl FnOnce(&mut config::Upstream)) -> Self {
        let mut config = upstream(ports, LONG);
        change(&mut config);
        Self::with(settings(client_idle), config)
    }

    /// In front of servers that are spoken to in HTTP/2.
    pub(super) fn multiplexing(ports: &[u16]) -> Self {
        let http_version = config::HttpVersion::Http2;
        Self::with(settings(LONG), config::Upstream { http_version, ..upstream(ports, LONG) })
    }

    pub(super) fn with(settings: Settings, config: config::Upstream) -> Self {
        let upstream = Upstream::new(&config);
        let metrics = Metrics::new().unwrap();
        upstream.settle_in(&metrics, &Arc::default());
        Self::new(Service::proxy(Arc::new(upstream), settings), metrics)
    }

    fn new(service: Service, metrics: Metrics) -> Self {
        Self {
            service: Rc::new(service),
            conductor: Conductor::new(),
            metrics,
            client: CLIENT.parse().unwrap(),
            names: Arc::default(),
            host: 0,
            life: None,
            room: Rc::default(),
            farewell: Duration::ZERO,
        }
    }

    /// Makes its connections live so long, and take so long to end then.
    pub(super) fn living(self, life: Duration, grace: Duration) -> Self {
        Self { life: Some((life, grace)), ..self }
    }

    /// The reasons of the errors that were counted, in alphabetical order.
    pub(super) fn errors(&self) -> Vec<String> {
        let counted = self.metrics.read(&View::default()).by(&table::UPSTREAM_ERRORS, "reason", &[]);
        counted.into_iter().flat_map(|(reason, count)| std::iter::repeat_n(reason, count as usize)).collect()
    }

    /// How many requests were given to upstream servers, how many connections to them are open, and how many were made.
    pub(super) fn upstream(&self) -> (f64, f64, u64) {
        let reading = self.metrics.read(&View::default());
        (
            reading.sum(&table::UPSTREAM_REQUESTS, &[]),
            reading.sum(&table::UPSTREAM_CONNECTIONS, &[]),
            reading.seen(&table::UPSTREAM_SECONDS, &[]).0,
        )
    }

    pub(super) fn advance(&self, phase: Phase) {
        self.conductor.advance(phase);
    }

    /// A connection with these facts.
    pub(super) fn connect_as(&self, facts: Facts) -> (DuplexStream, JoinHandle<Served>) {
        let (client, server) = tokio::io::duplex(PIPE);
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 8443));
        let connection = Connection {
            facts: Rc::new(facts),
            client: self.client,
            local,
            names: self.names.clone(),
            host: self.host,
            alpn: Alpn::default(),
            life: self.life.map(|(life, grace)| Life { end: Instant::now() + life, grace }),
        };
        let goodbye = Rc::new(Cell::new(false));
        let (room, farewell) = (self.room.clone(), Box::pin(sleep(Duration::ZERO)));
        let server = Polite { stream: server, goodbye: goodbye.clone(), room, takes: self.farewell, farewell };
        let serving = serve(server, connection, self.service.clone(), self.conductor.watch());
        let serving = spawn_local(async move {
            let end = serving.await;
            Served { end, goodbye: goodbye.get() }
        });
        (client, serving)
    }

    /// An HTTP/1.1 connection.
    pub(super) fn connect(&self) -> (DuplexStream, JoinHandle<Served>) {
        self.connect_as(facts(None))
    }

    /// All that comes back for these bytes, until the connection ends, and how that was.
    pub(super) async fn talk(&self, bytes: impl AsRef<[u8]>) -> (String, Served) {
        let (mut client, serving) = self.connect();
        client.write_all(bytes.as_ref()).await.unwrap();
        let answer = rest(&mut client).await;
        (answer, serving.await.unwrap())
    }

    /// An HTTP/2 connection.
    pub(super) async fn connect_h2(&self) -> (Http2, JoinHandle<Served>) {
        let (client, serving) = self.connect_as(facts(Some("h2")));
        let (sender, connection) =
            hyper::client::conn::http2::handshake(LocalTasks, TokioIo::new(client)).await.unwrap();
        let connection = spawn_local(connection);
        (Http2 { sender, connection }, serving)
    }
}

/// The defaults, but for how long a connection may be idle.
pub(super) fn settings(idle: Duration) -> Settings {
    Settings { idle, ..Settings::of(&config::Limits::default()) }
}

/// Servers on these ports of the loopback interface.
pub(super) fn upstream(ports: &[u16], idle: Duration) -> config::Upstream {
    let server = |port: &u16| UpstreamAddress::Tcp { host: "127.0.0.1".to_owned(), port: *port }.into();
    let mut config = config::Upstream::new(UpstreamProtocol::Http, ports.iter().map(server).collect());
    config.timeouts.connect = Duration::from_millis(300);
    config.timeouts.idle = idle;
    config
}

/// How serving a connection ended.
#[derive(Debug)]
pub(super) struct Served {
    end: End,
    /// Whether the stream was shut down, which in TLS is `close_notify`: that nothing is missing.
    pub(super) goodbye: bool,
}

impl Deref for Served {
    type Target = End;

    fn deref(&self) -> &End {
        &self.end
    }
}

/// A stream that remembers whether it was shut down, and how it was read.
struct Polite {
    stream: DuplexStream,
    goodbye: Rc<Cell<bool>>,
    room: Rc<Cell<usize>>,
    takes: Duration,
    farewell: Pin<Box<Sleep>>,
}

impl AsyncRead for Polite {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.room.set(buffer.remaining());
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Polite {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.goodbye.replace(true) {
            let end = Instant::now() + self.takes;
            self.farewell.as_mut().reset(end);
        }
        if self.farewell.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl CloseWrite for Polite {
    fn poll_close_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

pub(super) type AnyBody = BoxBody<Bytes, Infallible>;

/// A client of HTTP/2.
pub(super) struct Http2 {
    pub(super) sender: SendRequest<AnyBody>,
    pub(super) connection: JoinHandle<hyper::Result<()>>,
}

impl Http2 {
    pub(super) async fn send(&mut self, request: Request<AnyBody>) -> hyper::Result<Response<Incoming>> {
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    /// Status, fields as `name: value` lines, and content.
    pub(super) async fn get(&mut self, path: &str) -> (u16, String, String) {
        read(self.send(get(path)).await.unwrap()).await
    }
}

pub(super) async fn read(response: Response<Incoming>) -> (u16, String, String) {
    let (parts, body) = response.into_parts();
    let content = body.collect().await.unwrap().to_bytes();
    let fields = parts.headers.iter().map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap())).collect();
    (parts.status.as_u16(), fields, String::from_utf8(content.to_vec()).unwrap())
}

pub(super) fn get(path: &str) -> Request<AnyBody> {
    Request::get(format!("https://a.example{path}")).body(empty()).unwrap()
}

pub(super) fn empty() -> AnyBody {
    Empty::new().boxed()
}

pub(super) fn full(content: &'static str) -> AnyBody {
    Full::new(Bytes::from_static(content.as_bytes())).boxed()
}

/// A body of these frames, made when they are asked for, whose length is not known in advance.
pub(super) fn frames<I>(frames: I) -> AnyBody
where
    I: IntoIterator<Item = Frame<Bytes>>,
    I::IntoIter: Send + Sync + Unpin + 'static,
{
    Frames(frames.into_iter()).boxed()
}

struct Frames<I>(I);

impl<I: Iterator<Item = Frame<Bytes>> + Unpin> Body for Frames<I> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().0.next().map(Ok))
    }
}

pub(super) fn facts(alpn: Option<&str>) -> Facts {
    Facts {
        reason: None,
        version: ProtocolVersion::TLSv1_3,
        group: 0x11ed,
        suite: 0x1302,
        scheme: Some(SignatureScheme::ECDSA_NISTP384_SHA384),
        certificate: Some("server".to_owned()),
        alpn: alpn.map(|name| name.as_bytes().to_vec()),
        server_name: Some("sni.example".to_owned()),
        resumed: false,
        hello_retry_request: false,
        peer_chain: Vec::new(),
    }
}

/// Everything until the other side ends, however it ends.
pub(super) async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}

/// Everything until `end` has come.
pub(super) async fn until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(end.as_bytes()) {
        match stream.read_u8().await {
            Ok(byte) => bytes.push(byte),
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    String::from_utf8(bytes).unwrap()
}

/// The head of a message.
pub(super) async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    until(stream, "\r\n\r\n").await
}

/// The lines of a head but the first, sorted.
pub(super) fn fields(head: &str) -> Vec<&str> {
    let mut lines: Vec<_> = head.lines().skip(1).filter(|line| !line.is_empty()).collect();
    lines.sort_unstable();
    lines
}

/// A server that does what the test says with each connection, by its number from 0.
pub(super) struct Origin {
    pub(super) port: u16,
    accepted: Rc<Cell<usize>>,
    /// What the test wants to keep of what it saw.
    pub(super) seen: Rc<RefCell<Vec<String>>>,
}

impl Origin {
    pub(super) async fn start<F>(serve: impl Fn(usize, TcpStream, Rc<RefCell<Vec<String>>>) -> F + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let accepted = Rc::new(Cell::new(0));
        let seen = Rc::new(RefCell::new(Vec::new()));
        let origin = Self { port, accepted: accepted.clone(), seen: seen.clone() };
        spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = accepted.replace(accepted.get() + 1);
                spawn_local(serve(number, stream, seen.clone()));
            }
        });
        origin
    }

    /// Answers every request that has no body with these bytes, on connections that it keeps open.
    pub(super) async fn answering(answer: &'static str) -> Self {
        Self::start(move |_, mut stream, seen| async move {
            loop {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => request.push(byte),
                        Err(_) => return,
                    }
                }
                seen.borrow_mut().push(String::from_utf8(request).unwrap());
                if stream.write_all(answer.as_bytes()).await.is_err() {
                    return;
                }
            }
        })
        .await
    }

    /// How many connections there were.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.get()
    }

    /// The heads of the requests so far.
    pub(super) fn seen(&self) -> Vec<String> {
        self.seen.borrow().clone()
    }
}
