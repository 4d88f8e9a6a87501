//! Servers of plain rustls, each in a thread, that tell the test what they have seen.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use qtls_core::policy::{CipherSuite, Group, Named};
use qtls_core::provider::provider;
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::sign::SingleCertAndKey;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned, version};

use crate::certificates::{Ca, Leaf};

/// How long anything that a server waits for may take.
const LIMIT: Duration = Duration::from_secs(30);

/// A TLS connection of a server.
pub(crate) type Connection = StreamOwned<ServerConnection, TcpStream>;

/// A server in a thread, and what it reports.
pub(crate) struct Server<T> {
    pub(crate) address: SocketAddr,
    reports: Receiver<T>,
}

impl<T: Send + 'static> Server<T> {
    /// Handles every TCP connection on the loopback address, one after the other.
    pub(crate) fn new(handle: impl FnMut(TcpStream) -> T + Send + 'static) -> Self {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(), handle)
    }

    /// Handles every TCP connection of a listener.
    pub(crate) fn on(listener: TcpListener, mut handle: impl FnMut(TcpStream) -> T + Send + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let (sender, reports) = channel();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let socket = socket.unwrap();
                socket.set_read_timeout(Some(LIMIT)).unwrap();
                socket.set_write_timeout(Some(LIMIT)).unwrap();
                if sender.send(handle(socket)).is_err() {
                    return;
                }
            }
        });
        Self { address, reports }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What it reports of its next connection.
    pub(crate) fn report(&self) -> T {
        self.reports.recv_timeout(LIMIT).expect("a report of the server")
    }

    /// How many connections it has handled and not been asked about.
    pub(crate) fn unreported(&self) -> usize {
        self.reports.try_iter().count()
    }
}

/// A server that handles every TLS connection, and reports what came of it.
pub(crate) fn tls<T: Send + 'static>(
    config: Arc<ServerConfig>,
    mut handle: impl FnMut(&mut Connection) -> io::Result<T> + Send + 'static,
) -> Server<io::Result<T>> {
    Server::new(move |socket| {
        let mut connection = StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), socket);
        let outcome = shake_hands(&mut connection).and_then(|()| handle(&mut connection));
        linger(&connection.sock);
        outcome
    })
}

/// What a server's configuration is made of.
pub(crate) struct Options<'a> {
    pub(crate) leaf: &'a Leaf,
    pub(crate) groups: &'a [Group],
    pub(crate) suites: &'a [CipherSuite],
    /// Whose clients alone are let in.
    pub(crate) clients_of: Option<&'a Ca>,
    pub(crate) alpn: &'a [&'a str],
}

impl<'a> Options<'a> {
    pub(crate) fn new(leaf: &'a Leaf) -> Self {
        Self { leaf, groups: Group::ALL, suites: CipherSuite::ALL, clients_of: None, alpn: &[] }
    }

    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        let provider = provider(self.groups, self.suites);
        let verifier = match self.clients_of {
            None => Arc::new(NoClientAuth) as Arc<_>,
            Some(ca) => {
                let mut roots = RootCertStore::empty();
                roots.add(ca.certificate()).unwrap();
                WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone()).build().unwrap()
            }
        };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.leaf.key.clone())));
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

/// Completes the handshake; a refusal's alert is sent.
pub(crate) fn shake_hands(connection: &mut Connection) -> io::Result<()> {
    let Connection { conn, sock } = connection;
    while conn.is_handshaking() {
        conn.complete_io(sock)?;
    }
    // The tickets.
    while conn.wants_write() {
        conn.write_tls(sock)?;
    }
    Ok(())
}

/// Sends `close_notify`.
pub(crate) fn close_notify(connection: &mut Connection) -> io::Result<()> {
    connection.conn.send_close_notify();
    connection.conn.write_tls(&mut connection.sock).map(|_| ())
}

/// Reads until the peer's `close_notify`.
pub(crate) fn read_all(connection: &mut Connection) -> io::Result<Vec<u8>> {
    let mut data = Vec::new();
    connection.read_to_end(&mut data)?;
    Ok(data)
}

/// Sends back what comes until the peer closes, then closes.
pub(crate) fn echo(connection: &mut Connection) -> io::Result<usize> {
    let mut total = 0;
    let mut buffer = [0; 16 * 1024];
    loop {
        match connection.read(&mut buffer)? {
            0 => break,
            count => {
                connection.write_all(&buffer[..count])?;
                connection.flush()?;
                total += count;
            }
        }
    }
    close_notify(connection)?;
    Ok(total)
}

/// Ends our direction and waits for the end of the other: closing with unread bytes would reset the connection, which
/// can overtake an alert.
fn linger(socket: &TcpStream) {
    let _ = socket.shutdown(Shutdown::Write);
    until_gone(socket);
}

/// Says nothing until the peer has gone.
pub(crate) fn until_gone(mut socket: &TcpStream) {
    let mut buffer = [0; 4096];
    while matches!(socket.read(&mut buffer), Ok(count) if count > 0) {}
}
