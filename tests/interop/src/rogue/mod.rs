//! A TLS 1.3 client that does with its connection what no program does: single bytes, floods, silence.

pub mod h2;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, LazyLock};

use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, ProtocolVersion, RootCertStore};

use crate::pki::Pki;
use crate::wire;

/// A connection to a server of the shared certificates, whose certificate it has verified.
#[derive(Debug)]
pub struct Rogue {
    tls: ClientConnection,
    /// The connection below.
    pub socket: TcpStream,
}

impl Rogue {
    /// Connects to a port of 127.0.0.1 and does the handshake.
    ///
    /// # Panics
    /// When the handshake fails.
    #[track_caller]
    pub fn connect(port: u16, alpn: &[&str]) -> Self {
        Self::over(wire::connect(port), alpn).unwrap_or_else(|error| panic!("no handshake with port {port}: {error}"))
    }

    /// Does the handshake over a socket that is connected.
    ///
    /// # Errors
    /// The other side refuses, closes, or takes too long.
    pub fn over(socket: TcpStream, alpn: &[&str]) -> io::Result<Self> {
        Self::before(socket, alpn).complete()
    }

    /// Does what is left of the handshake.
    ///
    /// # Errors
    /// As for [`Rogue::over`].
    pub fn complete(mut self) -> io::Result<Self> {
        while self.tls.is_handshaking() {
            self.tls.complete_io(&mut self.socket)?;
        }
        self.flush()?;
        Ok(self)
    }

    /// A client that has sent nothing yet.
    pub fn before(socket: TcpStream, alpn: &[&str]) -> Self {
        let mut config = configuration();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::new(config), name).expect("the configuration is complete");
        tls.set_buffer_limit(None);
        Self { tls, socket }
    }

    /// What it wants to send, unsent: at first that is the ClientHello.
    pub fn bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).expect("memory takes everything");
        }
        bytes
    }

    /// Sends what is queued.
    ///
    /// # Errors
    /// The other side takes nothing, or is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        let bytes = self.bytes();
        self.socket.write_all(&bytes)
    }

    /// Queues `data`, in records as large as they may be.
    pub fn queue(&mut self, data: &[u8]) {
        self.tls.writer().write_all(data).expect("there is no limit");
    }

    /// Queues a record for each byte of `data`.
    pub fn queue_single_bytes(&mut self, data: &[u8]) {
        for byte in data {
            self.queue(std::slice::from_ref(byte));
        }
    }

    /// Queues a KeyUpdate that asks for one in return.
    pub fn queue_key_update(&mut self) {
        self.tls.refresh_traffic_keys().expect("the handshake is complete");
    }

    /// Sends `data`.
    ///
    /// # Errors
    /// The other side takes nothing, or is gone.
    pub fn send(&mut self, data: &[u8]) -> io::Result<()> {
        self.queue(data);
        self.flush()
    }

    /// Reads once. 0 is the end.
    ///
    /// # Errors
    /// As for sockets; a fatal alert is an error with its name.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            self.tls.read_tls(&mut self.socket)?;
            self.tls.process_new_packets().map_err(io::Error::other)?;
        }
    }

    /// Reads until the other side ends the connection, and says how: `close_notify`, or the error's text.
    pub fn read_to_end(&mut self) -> (Vec<u8>, String) {
        let mut received = Vec::new();
        let mut chunk = [0; 65_536];
        loop {
            match self.read(&mut chunk) {
                Ok(0) => return (received, "close_notify".to_owned()),
                Ok(count) => received.extend_from_slice(&chunk[..count]),
                Err(error) => return (received, error.to_string()),
            }
        }
    }

    /// Ends its side in order, and reads until the other side has ended too: how it did so.
    pub fn finish(mut self) -> String {
        self.tls.send_close_notify();
        let _ = self.flush();
        let _ = self.socket.shutdown(Shutdown::Write);
        self.read_to_end().1
    }

    /// Gives up the state machine for the power to send any record.
    ///
    /// # Panics
    /// When the handshake is not complete.
    pub fn into_records(mut self) -> Records {
        self.flush().expect("nothing is queued");
        let suite = self.tls.negotiated_cipher_suite().and_then(|suite| suite.tls13()).expect("TLS 1.3");
        let secrets = self.tls.dangerous_extract_secrets().expect("the configuration allows it");
        let (sequence, (key, iv)) = match secrets.tx {
            (sequence, ConnectionTrafficSecrets::Aes256Gcm { key, iv }) => (sequence, (key, iv)),
            (sequence, ConnectionTrafficSecrets::Aes128Gcm { key, iv }) => (sequence, (key, iv)),
            (sequence, ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv }) => (sequence, (key, iv)),
            _ => panic!("an unknown suite"),
        };
        Records { encrypter: suite.aead_alg.encrypter(key, iv), sequence, socket: self.socket }
    }
}

/// A connection on which any record can be sent.
pub struct Records {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
    /// The connection below.
    pub socket: TcpStream,
}

impl Records {
    /// An encrypted record of application data.
    pub fn data(&mut self, payload: &[u8]) -> Vec<u8> {
        let message = OutboundPlainMessage {
            typ: ContentType::ApplicationData,
            version: ProtocolVersion::TLSv1_3,
            payload: OutboundChunks::Single(payload),
        };
        let record = self.encrypter.encrypt(message, self.sequence).expect("the key is good");
        self.sequence += 1;
        record.encode()
    }
}

fn configuration() -> ClientConfig {
    static ROOTS: LazyLock<Arc<RootCertStore>> = LazyLock::new(|| {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(Pki::shared().ca()).expect("the file is there") {
            roots.add(certificate.expect("a certificate")).expect("an anchor");
        }
        Arc::new(roots)
    });
    // With the share that the server wants, so that there is no HelloRetryRequest.
    let kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768];
    let provider = CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("the provider has suites of TLS 1.3")
        .with_root_certificates(ROOTS.clone())
        .with_no_client_auth();
    config.enable_secret_extraction = true;
    config
}
