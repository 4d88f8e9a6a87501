//! The TLS stream with the client's patience, and with one place that knows why it ended.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use qtls_core::{Error, Fault};
use qtls_proxy::stream::TlsStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A TLS stream that gives up on a server that is silent, or takes nothing, for too long.
pub(super) struct Transport {
    stream: TlsStream,
    outcome: Rc<Outcome>,
    /// `None` where somebody else decides how long the server may be silent.
    reading: Option<Patience>,
    writing: Patience,
    /// Whether the server has to send something whatever happens.
    always_due: bool,
    /// Whether the server has to send something, being the last that was spoken to.
    due: bool,
    /// Whether the socket takes nothing any more.
    deaf: bool,
    /// An error that came behind data.
    held: Option<io::Error>,
}

/// What became of a connection. It outlives the stream, which HTTP takes away.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    failure: RefCell<Option<Error>>,
    heard: Cell<bool>,
}

impl Outcome {
    /// Why the connection failed, if it did.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failure.borrow().clone()
    }

    /// Notes what is behind an error of the stream, and gives the error back.
    fn note(&self, error: io::Error) -> io::Error {
        self.failure.borrow_mut().get_or_insert_with(|| describe(&error, self.heard.get()));
        error
    }
}

impl Transport {
    /// `read` is how long the server may be silent while something is due: after data was sent to it and before data came,
    /// and all the time once there is nothing more to send. `write` is how long it may refuse to take data.
    pub(super) fn new(stream: TlsStream, read: Option<Duration>, write: Duration) -> (Self, Rc<Outcome>) {
        let outcome = Rc::new(Outcome::default());
        let transport = Self {
            stream,
            outcome: outcome.clone(),
            reading: read.map(Patience::new),
            writing: Patience::new(write),
            always_due: false,
            due: false,
            deaf: false,
            held: None,
        };
        (transport, outcome)
    }

    /// Tells the server that nothing more comes (`close_notify`), and goes on reading: now it is the server's turn.
    pub(super) fn poll_close_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.always_due {
            self.always_due = true;
            self.wait_anew();
        }
        let closed = self.stream.poll_close_write(cx);
        self.settle_write(closed, (), cx)
    }

    /// Counts the server's silence from now: until now nobody listened.
    pub(super) fn wait_anew(&mut self) {
        if let Some(reading) = &mut self.reading {
            reading.restart();
        }
    }

    /// A socket that takes nothing any more has been closed by the server, which may have said why: what is to be
    /// written is dropped, and reading goes on to the end.
    fn settle_write<T>(&mut self, poll: Poll<io::Result<T>>, taken: T, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match poll {
            Poll::Ready(Err(error)) if is_closed(&error) => {
                self.deaf = true;
                Poll::Ready(Ok(taken))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.outcome.note(error))),
            Poll::Ready(Ok(value)) => {
                self.writing.rest();
                Poll::Ready(Ok(value))
            }
            Poll::Pending => self.writing.poll(cx, Stalled::Writing).map(|error| Err(self.outcome.note(error))),
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(error) = this.held.take() {
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let poll = Pin::new(&mut this.stream).poll_read(cx, buffer);
        let heard = buffer.filled().len() > before;
        if heard {
            this.outcome.heard.set(true);
            this.due = false;
            this.wait_anew();
        }
        match poll {
            Poll::Ready(Err(error)) => {
                let error = this.outcome.note(error);
                if heard {
                    this.held = Some(error);
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error))
            }
            Poll::Pending if this.always_due || this.due => match &mut this.reading {
                Some(reading) => reading.poll(cx, Stalled::Reading).map(|error| Err(this.outcome.note(error))),
                None => Poll::Pending,
            },
            poll => poll,
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Ready(Ok(data.len()));
        }
        this.due = true;
        this.wait_anew();
        let written = Pin::new(&mut this.stream).poll_write(cx, data);
        this.settle_write(written, data.len(), cx)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.deaf {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut this.stream).poll_flush(cx);
        this.settle_write(flushed, (), cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing depends on it any more: who shuts down has what it wanted.
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx).map(|_| Ok(()))
    }
}

/// A time that runs while something is waited for.
struct Patience {
    limit: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    fn new(limit: Duration) -> Self {
        Self { limit, timer: None }
    }

    /// Nothing is waited for any more.
    fn rest(&mut self) {
        self.timer = None;
    }

    /// Something has happened, and the wait goes on: who waits is still woken.
    fn restart(&mut self) {
        if let Some(timer) = &mut self.timer {
            timer.as_mut().reset(Instant::now() + self.limit);
        }
    }

    /// Ready with an error when nothing has happened for too long.
    fn poll(&mut self, cx: &mut Context<'_>, stalled: impl FnOnce(Duration) -> Stalled) -> Poll<io::Error> {
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        timer.as_mut().poll(cx).map(|()| io::Error::new(ErrorKind::TimedOut, stalled(self.limit)))
    }
}

/// A server for which the client's patience has ended.
#[derive(Debug)]
enum Stalled {
    Reading(Duration),
    Writing(Duration),
}

impl fmt::Display for Stalled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reading(limit) => write!(f, "the server has sent nothing for {} s", limit.as_secs()),
            Self::Writing(limit) => write!(f, "the server has taken nothing for {} s", limit.as_secs()),
        }
    }
}

impl std::error::Error for Stalled {}

impl From<&Stalled> for Error {
    fn from(stalled: &Stalled) -> Self {
        Self::new(Fault::Connection, stalled.to_string()).hint(match stalled {
            Stalled::Reading(_) => "client.read_timeout sets how long to wait",
            Stalled::Writing(_) => "client.write_timeout sets how long to wait",
        })
    }
}

/// The error for a server that has been silent for too long.
pub(super) fn silent(limit: Duration) -> Error {
    Error::from(&Stalled::Reading(limit))
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::NotConnected
    )
}

/// `heard`: whether the server has sent data. Before that an alert refuses the handshake, which in TLS 1.3 ends for the
/// client before the server has seen the client's certificate.
fn describe(error: &io::Error, heard: bool) -> Error {
    let inner = error.get_ref();
    if let Some(error) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        let described = Error::from(error);
        return match error {
            rustls::Error::AlertReceived(alert) if heard => {
                let name = alert.as_str().map_or_else(|| u8::from(*alert).to_string(), str::to_owned);
                Error::new(Fault::Connection, format!("the server ended the connection with the alert {name}"))
            }
            _ => described,
        };
    }
    let new = |message: String| Error::new(Fault::Connection, message);
    match inner.and_then(|inner| inner.downcast_ref::<Stalled>()) {
        Some(stalled) => stalled.into(),
        None if error.kind() == ErrorKind::UnexpectedEof && heard => {
            new("the server closed the connection without close_notify: the end may have been cut off".to_owned())
        }
        None if error.kind() == ErrorKind::UnexpectedEof => {
            new("the server closed the connection without close_notify, and sent nothing before".to_owned())
        }
        None => new(format!("the connection failed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{Ipv4Addr, TcpListener};
    use std::sync::Arc;
    use std::thread;
    use std::time::SystemTime;

    use qtls_core::credentials::{generate, signing_key};
    use qtls_core::endpoint::{ServerTrust, client_config};
    use qtls_core::policy::{KeyAlgorithm, Policy};
    use qtls_core::provider::provider;
    use qtls_pki::issue::{Authority, Profile, Template};
    use qtls_proxy::handshake::connect;
    use rustls::sign::{CertifiedKey, SingleCertAndKey};
    use rustls::{AlertDescription, ServerConfig, ServerConnection, StreamOwned, version};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    fn described(error: impl Into<Box<dyn std::error::Error + Send + Sync>>, heard: bool) -> Error {
        describe(&io::Error::new(ErrorKind::InvalidData, error), heard)
    }

    #[test]
    fn an_alert_before_any_data_refuses_the_handshake() {
        let alert = || rustls::Error::AlertReceived(AlertDescription::CertificateRequired);
        let refused = described(alert(), false);
        assert_eq!(refused.exit_code(), 5);
        assert!(refused.to_string().contains("CertificateRequired"), "{refused}");
        let ended = described(alert(), true);
        assert_eq!(ended.exit_code(), 3);
        assert!(ended.to_string().ends_with("with the alert CertificateRequired"), "{ended}");
    }

    #[test]
    fn an_end_without_close_notify_is_told_from_other_failures() {
        let of = |kind: ErrorKind, heard| describe(&kind.into(), heard).message().to_owned();
        assert!(of(ErrorKind::UnexpectedEof, true).ends_with("the end may have been cut off"));
        assert!(of(ErrorKind::UnexpectedEof, false).ends_with("sent nothing before"));
        assert!(of(ErrorKind::ConnectionReset, true).starts_with("the connection failed: "));
    }

    #[test]
    fn the_first_reason_stays() {
        let outcome = Outcome::default();
        outcome.note(ErrorKind::UnexpectedEof.into());
        outcome.note(ErrorKind::BrokenPipe.into());
        assert!(outcome.failure().unwrap().message().contains("close_notify"));
    }

    /// A server that says why, and closes without having read what it was sent, which resets the connection.
    #[test]
    fn a_server_that_takes_nothing_any_more_is_still_heard() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let config = server_config();
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let (unread, may_go) = std::sync::mpsc::channel::<()>();
            let server = thread::spawn(move || {
                let (mut socket, _) = listener.accept().unwrap();
                // What still waits in the socket's buffer when it is reset is never sent.
                socket.set_nodelay(true).unwrap();
                let mut connection = ServerConnection::new(config).unwrap();
                while connection.is_handshaking() {
                    connection.complete_io(&mut socket).unwrap();
                }
                may_go.recv().unwrap();
                let mut stream = StreamOwned::new(connection, socket);
                stream.write_all(b"why").unwrap();
                stream.conn.send_close_notify();
                stream.conn.write_tls(&mut stream.sock).unwrap();
            });
            let policy = Arc::new(Policy::default());
            let config = client_config(&policy, ServerTrust::DangerousAnyone, None, false, Vec::new()).unwrap();
            let socket = TcpStream::connect(address).await.unwrap();
            let stream = connect(socket, config, "localhost".try_into().unwrap()).await.unwrap().stream;
            let (mut transport, outcome) = Transport::new(stream, None, Duration::from_secs(30));
            transport.write_all(b"never read").await.unwrap();
            transport.flush().await.unwrap();
            unread.send(()).unwrap();
            server.join().unwrap();
            // Everything has come, in order: the words, the close_notify, the reset.
            transport.write_all(b"too late").await.unwrap();
            transport.flush().await.unwrap();
            assert!(transport.deaf, "the socket took it: there was no reset");
            let mut heard = Vec::new();
            transport.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"why");
            assert!(outcome.failure().is_none());
        });
    }

    fn server_config() -> Arc<ServerConfig> {
        let policy = Policy::default();
        let key = signing_key(&generate(KeyAlgorithm::EcdsaP256).unwrap()).unwrap();
        let template = Template {
            profile: Profile::Root,
            common_name: Some("Nobody".to_owned()),
            organization: None,
            names: Vec::new(),
            not_before: SystemTime::now(),
            not_after: SystemTime::now() + Duration::from_secs(3600),
        };
        let certificate = Authority::root(&template, key.clone()).unwrap().certificate().clone();
        let config = ServerConfig::builder_with_provider(provider(&policy.groups, &policy.suites))
            .with_protocol_versions(&[&version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(CertifiedKey::new(vec![certificate], key))));
        Arc::new(config)
    }
}
