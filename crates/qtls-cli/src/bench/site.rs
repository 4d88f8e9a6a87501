//! The server that is measured: reaching it, and comparing what was negotiated with what was asked for.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use qtls_core::credentials::files;
use qtls_core::error::nearest;
use qtls_core::facts::Facts;
use qtls_core::policy::{AlgorithmNames, Group, Named, Policy, PolicyChoice};
use qtls_core::{Error, Fault, Result};
use qtls_proxy::client_plan::{ClientSections, ClientSide};
use qtls_proxy::config::{ClientCertificates, Loaded, Source, load_client};
use qtls_proxy::handshake::{self, Established};
use qtls_proxy::stream::TlsStream;
use rustls::client::Resumption;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

use super::arguments::Target;
use super::process::Server;
use super::runtime;
use crate::client::{server_name, target};

/// Connects; to loopback, from another address each time. From one, tens of thousands of connections that are open, or
/// have been, leave few ports, and the search for one would be the greater part of what the generator does.
async fn dial(to: SocketAddr) -> io::Result<TcpStream> {
    /// Of the network 127.64.0.0/12.
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 0x7f40_0000;
    const COUNT: u32 = 1 << 20;
    match to {
        // Systems other than Linux have one address there.
        SocketAddr::V4(to) if to.ip().is_loopback() && cfg!(target_os = "linux") => {
            let socket = TcpSocket::new_v4()?;
            let from = FIRST + NEXT.fetch_add(1, Relaxed) % COUNT;
            socket.bind((Ipv4Addr::from(from), 0).into())?;
            socket.connect(to.into()).await
        }
        _ => TcpStream::connect(to).await,
    }
}

/// What HTTP is spoken over.
const ALPN: &[u8] = b"http/1.1";

/// The server that is measured.
#[derive(Clone, Debug)]
pub(super) struct Site {
    address: SocketAddr,
    name: ServerName<'static>,
    tls: Arc<rustls::ClientConfig>,
    policy: Arc<Policy>,
    leaf: Option<CertificateDer<'static>>,
    /// Its processes, where they are to be measured.
    pub(super) server: Option<Server>,
}

impl Site {
    /// The server as the command line names it. Sessions are not resumed.
    ///
    /// # Errors
    /// An unknown name, a file that can't be read, a port that isn't the process'.
    pub(super) fn new(options: &Target) -> Result<Self> {
        let given = target(Some(&options.server), None)?;
        let (Some(host), Some(port)) = (given.host, given.port) else {
            return Err(Error::configuration("the port is missing").at("HOST:PORT").hint("such as localhost:8443"));
        };
        let address = (host.as_str(), port).to_socket_addrs().ok().and_then(|mut all| all.next()).ok_or_else(|| {
            Error::new(Fault::Connection, format!("can't find the address of {host}")).hint("check the name")
        })?;
        let name = match &options.server_name {
            Some(name) => server_name(name).map_err(|error| error.at("--server-name"))?,
            None => server_name(&host)?,
        };
        let names = AlgorithmNames {
            signature: options.signature.clone().map(|name| vec![name]),
            cipher: Some(vec![options.suite.clone()]),
            ..AlgorithmNames::default()
        };
        let mut policy = Policy::resolve(&PolicyChoice { names, ..PolicyChoice::default() })?;
        // Any group there is, whatever a policy for service would say of it.
        policy.groups = vec![group(&options.group)?];
        policy.notes.clear();
        let policy = Arc::new(policy);
        let sections = ClientSections {
            prefix: "--".to_owned(),
            certificates: &ClientCertificates { ca_bundle: options.ca.clone(), ..ClientCertificates::default() },
            verify_depth: None,
            verify_peer: true,
            server_name_indication: true,
        };
        // The command line says it all: no file, and nothing of the environment.
        let Loaded { origins, .. } = load_client(&Source::default())?;
        let side = ClientSide::new(&origins, &sections, policy.clone(), vec![ALPN.to_vec()])?;
        let leaf = options.certificate.as_deref().map(files::roots).transpose();
        let leaf = leaf.map_err(|error| error.key("--certificate"))?.and_then(|chain| chain.into_iter().next());
        let server = options.pid.map(|pid| Server::listening_on(address, pid)).transpose()?;
        Ok(Self { address, name, tls: side.tls, policy, leaf, server }.with_resumption(Resumption::disabled()))
    }

    /// A first look at what is negotiated, before anything is measured.
    ///
    /// # Errors
    /// As of [`connect`](Self::connect).
    pub(super) fn look(&self, resumed: bool) -> Result<Facts> {
        let once = async |site: &Self, resumed| {
            let (stream, facts) = site.connect(resumed).await?;
            Self::farewell(stream).await?;
            Ok(facts)
        };
        runtime()?.block_on(async {
            if !resumed {
                return once(self, false).await;
            }
            let site = self.remembering();
            once(&site, false).await?;
            once(&site, true).await
        })
    }

    fn with_resumption(self, resumption: Resumption) -> Self {
        let mut tls = (*self.tls).clone();
        tls.resumption = resumption;
        Self { tls: Arc::new(tls), ..self }
    }

    /// The same, with a store for the session of one client.
    pub(super) fn remembering(&self) -> Self {
        self.clone().with_resumption(Resumption::in_memory_sessions(1))
    }

    /// Connects, and compares what was negotiated with what was asked for.
    ///
    /// # Errors
    /// No connection, a refusal, another agreement.
    pub(super) async fn connect(&self, resumed: bool) -> Result<(TlsStream, Facts)> {
        let socket = dial(self.address).await.map_err(|error| {
            Error::new(Fault::Connection, format!("can't connect to {}: {error}", self.address))
                .hint("is the server running, and are there descriptors and ports for so many connections?")
        })?;
        // As every client does that sends whole messages.
        let _ = socket.set_nodelay(true);
        let Established { stream, facts } = handshake::connect(socket, self.tls.clone(), self.name.clone()).await?;
        self.check(&facts, resumed)?;
        Ok((stream, facts))
    }

    fn check(&self, facts: &Facts, resumed: bool) -> Result<()> {
        let other = |what: &str, got: &str, hint: &str| {
            Err(Error::new(Fault::Policy, format!("a connection got {what} {got}: this is no measurement")).hint(hint))
        };
        if facts.group != self.policy.groups[0].code_point() {
            return other("the group", &facts.group_name(), "have the server accept the group of --group");
        }
        if facts.suite != self.policy.suites[0].code_point() {
            return other("the suite", facts.suite_name(), "have the server accept the suite of --suite");
        }
        if facts.hello_retry_request {
            return other("a", "HelloRetryRequest", "have the server accept the group of --group at once");
        }
        if facts.resumed != resumed {
            let got = if resumed { "without resumption" } else { "resumed" };
            return other("a handshake", got, "`resume` needs a server with tickets, one for each connection");
        }
        match (&self.leaf, facts.peer_chain.first()) {
            (Some(expected), Some(leaf)) if expected != leaf => {
                other("another", "certificate", "the server has to show the one of --certificate")
            }
            _ => Ok(()),
        }
    }

    /// Reads to the end, having said that nothing more comes: then the server has done all that a connection costs, and
    /// its tickets have come.
    ///
    /// # Errors
    /// The server sends without end.
    pub(super) async fn farewell(mut stream: TlsStream) -> Result<()> {
        /// More than any number of tickets.
        const MOST: usize = 1024 * 1024;
        // Where the server is quicker, nothing is lost.
        let _ = std::future::poll_fn(|cx| stream.poll_close_write(cx)).await;
        let (mut buffer, mut read) = ([0; 4096], 0);
        while read < MOST {
            match stream.read(&mut buffer).await {
                Ok(count) if count > 0 => read += count,
                // Some servers close without close_notify where nothing was asked for.
                _ => return Ok(()),
            }
        }
        Err(Error::new(Fault::Connection, "the server sends without having been asked"))
    }

    /// Speaks HTTP/1.1 over a connection. Needs a `LocalSet`.
    ///
    /// # Errors
    /// Never in practice: nothing is sent yet.
    pub(super) async fn http(stream: TlsStream) -> Result<Http> {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = spawn_local(async {
            // Who waits for the response is told the same.
            let _ = connection.await;
        });
        Ok(Http { sender, connection })
    }

    /// The server as requests name it.
    pub(super) fn authority(&self) -> String {
        format!("{}:{}", self.name.to_str(), self.address.port())
    }
}

pub(super) fn group(name: &str) -> Result<Group> {
    let matches = |known: &str| known.eq_ignore_ascii_case(name);
    let found =
        Group::ALL.iter().find(|group| matches(group.name()) || group.aliases().iter().any(|alias| matches(alias)));
    found.copied().ok_or_else(|| {
        let error = Error::configuration(format!("unknown group {name:?}")).at("--group");
        match nearest(name, Group::ALL.iter().map(|group| group.name())) {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None => error,
        }
    })
}

/// HTTP/1.1 over one connection.
#[derive(Debug)]
pub(super) struct Http {
    sender: SendRequest<Full<Bytes>>,
    connection: JoinHandle<()>,
}

impl Http {
    /// Makes a request, and returns the length of the response's body.
    ///
    /// # Errors
    /// The connection broke, or the status isn't 200.
    pub(super) async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<u64> {
        self.sender.ready().await.map_err(broken)?;
        let response: Response<Incoming> = self.sender.send_request(request).await.map_err(broken)?;
        if response.status() != 200 {
            return Err(Error::new(Fault::Connection, format!("a request was answered with {}", response.status()))
                .hint("what is measured has to answer with 200"));
        }
        let (mut body, mut length) = (response.into_body(), 0);
        while let Some(frame) = body.frame().await {
            length += frame.map_err(broken)?.data_ref().map_or(0, Bytes::len) as u64;
        }
        Ok(length)
    }

    /// Whether the server has not closed it.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Closes the connection, and waits until that is done.
    pub(super) async fn close(self) {
        drop(self.sender);
        let _ = timeout(GOODBYE, self.connection).await;
    }
}

/// How long a connection gets for its goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

fn broken(error: hyper::Error) -> Error {
    Error::new(Fault::Connection, format!("a connection broke: {error}"))
}
