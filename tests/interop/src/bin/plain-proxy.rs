//! The least that a terminating proxy on rustls can be: tokio-rustls, one certificate, one server behind, and no policy, limits,
//! metrics, log or error messages. `bench-peers` measures it beside qtls-server: what that does more has its cost between
//! the two.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::{default_provider, kx_group};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::task::{LocalSet, spawn_local};
use tokio_rustls::TlsAcceptor;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [port, certificate, key, upstream] = &arguments[..] else {
        return Err("it takes a port, a certificate's and a key's file, and the port of the server behind".into());
    };
    let mut provider = default_provider();
    provider.kx_groups = vec![kx_group::X25519MLKEM768];
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<_, _>>()?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.send_tls13_tickets = 0;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let upstream = ("127.0.0.1", upstream.parse()?);
    LocalSet::new().block_on(&Builder::new_current_thread().enable_all().build()?, async {
        let listener = TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
        loop {
            let (socket, _) = listener.accept().await?;
            let acceptor = acceptor.clone();
            // Who fails is not told of.
            spawn_local(async move { serve(socket, acceptor, upstream).await.ok() });
        }
    })
}

async fn serve(socket: TcpStream, acceptor: TlsAcceptor, upstream: (&str, u16)) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut client = acceptor.accept(socket).await?;
    // Before the first byte nobody behind is needed.
    let mut first = [0; 4096];
    let length = client.read(&mut first).await?;
    if length == 0 {
        return client.shutdown().await;
    }
    let mut server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    server.write_all(&first[..length]).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}
