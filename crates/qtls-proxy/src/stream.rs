//! A TLS connection over a socket, on rustls' unbuffered API.
//!
//! Buffers belong to the worker thread, not to the connection: a connection keeps only what is unfinished (a partial
//! record, plaintext that nobody has taken, ciphertext that the socket didn't take) and gives that back when it is empty.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls::client::UnbufferedClientConnection;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::observe::metrics::Tally;
use crate::socket::Socket;

/// What one read from a TLS socket takes at most.
pub(crate) const INPUT: usize = 64 * 1024;
/// What one read from a plaintext socket takes at most.
pub(crate) const PLAIN: usize = 256 * 1024;
/// A record header, the inner content type and the AEAD tag (RFC 9846 §5.2).
const RECORD_OVERHEAD: usize = 5 + 1 + 16;
/// The largest plaintext of a record.
const MAX_FRAGMENT: usize = 16 * 1024;
/// The ciphertext of [`PLAIN`] bytes.
const OUTPUT: usize = PLAIN + PLAIN / MAX_FRAGMENT * RECORD_OVERHEAD;
/// What one read takes of a peer whose records are mostly overhead. Each of them costs as much as a large one, and what
/// one read takes is processed before any other connection of the worker.
const CRUMBS: usize = 8 * 1024;
/// What is read of a stream before the other connections of the worker have their turn. Whoever reads a stream goes on
/// while there is something, and there may be thousands of frames in little.
const GIVE_WAY: usize = 128 * 1024;
/// More unsent ciphertext than this makes writers wait.
const HIGH_WATER: usize = 64 * 1024;
/// How long a closing connection waits for the peer to have read what was sent, and how much it discards meanwhile.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 1024 * 1024;

/// The buffers of one worker thread. Never borrowed across an `await`.
pub(crate) struct Scratch {
    /// Ciphertext as it comes from a socket.
    pub(crate) input: Vec<u8>,
    /// Plaintext on its way.
    pub(crate) plain: Vec<u8>,
    /// Ciphertext on its way to a socket.
    pub(crate) output: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> =
        RefCell::new(Scratch { input: vec![0; INPUT], plain: vec![0; PLAIN], output: vec![0; OUTPUT] });
}

/// Runs `f` with this thread's buffers.
pub(crate) fn with_scratch<T>(f: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with_borrow_mut(f)
}

/// rustls' connection of either side. In a box: it is large, and handed from one part of a connection's way to the next.
pub(crate) enum Session {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

/// Runs `$body` with the connection of either side, whose types differ in a parameter only.
macro_rules! either {
    ($session:expr, $conn:ident => $body:expr) => {
        match $session {
            Session::Server($conn) => $body,
            Session::Client($conn) => $body,
        }
    };
}
pub(crate) use either;

/// Bytes that wait, with those at the front already gone. Memory is given back when nothing waits.
#[derive(Default)]
pub(crate) struct Waiting {
    bytes: Vec<u8>,
    start: usize,
}

/// Without the bytes, which are nobody's business.
impl std::fmt::Debug for Waiting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len())
    }
}

impl Waiting {
    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn advance(&mut self, count: usize) {
        self.start += count;
        if self.is_empty() {
            *self = Self::default();
        }
    }
}

/// One side of a TLS connection, without its socket.
pub(crate) struct Tls {
    pub(crate) session: Session,
    /// An incomplete record.
    incoming: Vec<u8>,
    /// Ciphertext that the socket has not taken yet.
    pub(crate) outgoing: Waiting,
    received_close: bool,
    sent_close: bool,
    /// Whether the peer sends crumbs: records of a few bytes, or none with data in them.
    crumbs: bool,
}

impl Tls {
    pub(crate) fn new(session: Session) -> Self {
        Self {
            session,
            incoming: Vec::new(),
            outgoing: Waiting::default(),
            received_close: false,
            sent_close: false,
            crumbs: false,
        }
    }

    /// Whether the peer has said that it sends no more (`close_notify`).
    pub(crate) fn received_close(&self) -> bool {
        self.received_close
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        either!(&self.session, conn => conn.is_handshaking())
    }

    /// How many bytes of an incomplete record are kept.
    pub(crate) fn held(&self) -> usize {
        self.incoming.len()
    }

    /// Lays the incomplete record at the front of `buffer`, where the rest of it will be read behind it.
    pub(crate) fn lay_out(&mut self, buffer: &mut [u8]) -> usize {
        let held = self.incoming.len();
        buffer[..held].copy_from_slice(&self.incoming);
        held
    }

    /// How much of `buffer` to fill, with [`held`](Self::held) bytes at its front.
    pub(crate) fn appetite(&self, buffer: usize) -> usize {
        if self.crumbs { buffer.min(self.held() + CRUMBS) } else { buffer }
    }

    /// Judges a read of so much ciphertext, in which there was so much plaintext. Whether it was crumbs: then the others
    /// have their turn.
    pub(crate) fn judge(&mut self, ciphertext: usize, plaintext: usize) -> bool {
        // A single small record is nothing unusual.
        let is_much = ciphertext > CRUMBS / 2;
        if is_much {
            self.crumbs = plaintext < ciphertext / 2;
        }
        is_much && self.crumbs
    }

    /// Processes `input`, which begins with what [`lay_out`](Self::lay_out) put there, and keeps what is incomplete.
    ///
    /// Plaintext goes to `sink`; what rustls wants sent goes to [`outgoing`](Self::outgoing), also where this fails
    /// (then it is the alert).
    pub(crate) fn process(&mut self, input: &mut [u8], mut sink: impl FnMut(&[u8])) -> Result<(), rustls::Error> {
        let mut used = 0;
        let result = self.process_records(input, &mut used, &mut sink);
        let rest = &mut input[used..];
        if result.is_err() {
            // rustls has queued its alert behind the error. No more than that is fetched: asked further it fails again,
            // with a second alert. It gets the same bytes as before: it remembers where in them an unfinished message
            // stands.
            while either!(&self.session, conn => conn.wants_write()) {
                let fetched = either!(&mut self.session, conn => {
                    let UnbufferedStatus { state, .. } = conn.process_tls_records(rest);
                    state.and_then(|state| step(state, &mut self.outgoing.bytes, &mut sink))
                });
                if fetched.is_err() {
                    break;
                }
            }
            self.incoming = Vec::new();
        } else if rest.is_empty() {
            self.incoming = Vec::new();
        } else {
            self.incoming.clear();
            self.incoming.extend_from_slice(rest);
        }
        result
    }

    fn process_records(
        &mut self,
        input: &mut [u8],
        used: &mut usize,
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<(), rustls::Error> {
        loop {
            let step = either!(&mut self.session, conn => {
                let UnbufferedStatus { discard, state } = conn.process_tls_records(&mut input[*used..]);
                *used += discard;
                step(state?, &mut self.outgoing.bytes, sink)?
            });
            match step {
                Step::More => {}
                Step::PeerClosed => self.received_close = true,
                Step::Blocked => return Ok(()),
            }
        }
    }

    /// Encrypts `plain` into `output` and returns how much of `output` that is. It goes behind
    /// [`outgoing`](Self::outgoing), should there be something.
    ///
    /// `output` has to have room for it: at least [`ciphertext_len`] bytes.
    pub(crate) fn encrypt(&mut self, plain: &[u8], output: &mut [u8]) -> Result<usize, rustls::Error> {
        either!(&mut self.session, conn => {
            loop {
                // Not with an empty buffer: rustls panics where it has seen a part of a message in this one.
                let UnbufferedStatus { discard, state } = conn.process_tls_records(&mut self.incoming);
                match state? {
                    ConnectionState::WriteTraffic(mut traffic) => return traffic.encrypt(plain, output).map_err(unencrypted),
                    // Everything that came has been processed, so there is nothing to be read here.
                    state => match step(state, &mut self.outgoing.bytes, &mut |_| {})? {
                        Step::More => {}
                        Step::PeerClosed => self.received_close = true,
                        Step::Blocked => return Err(rustls::Error::HandshakeNotComplete),
                    }
                }
                self.incoming.drain(..discard);
            }
        })
    }

    /// Queues a `close_notify`, once.
    pub(crate) fn queue_close_notify(&mut self) {
        if std::mem::replace(&mut self.sent_close, true) {
            return;
        }
        let mut alert = [0; 64];
        let encoded = either!(&mut self.session, conn => {
            let UnbufferedStatus { state, .. } = conn.process_tls_records(&mut self.incoming);
            match state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => traffic.queue_close_notify(&mut alert).ok(),
                // A connection that has failed has said so already.
                _ => None,
            }
        });
        self.outgoing.push(&alert[..encoded.unwrap_or_default()]);
    }
}

fn unencrypted(error: EncryptError) -> rustls::Error {
    match error {
        EncryptError::EncryptExhausted => rustls::Error::EncryptError,
        EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => {
            rustls::Error::General(format!("a buffer of {required_size} bytes was needed"))
        }
    }
}

enum Step {
    More,
    PeerClosed,
    Blocked,
}

fn step<Data>(
    state: ConnectionState<'_, '_, Data>,
    outgoing: &mut Vec<u8>,
    sink: &mut impl FnMut(&[u8]),
) -> Result<Step, rustls::Error> {
    match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                sink(record?.payload);
            }
        }
        ConnectionState::EncodeTlsData(mut data) => {
            let start = outgoing.len();
            let required = match data.encode(&mut []) {
                Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => required_size,
                Ok(_) | Err(EncodeError::AlreadyEncoded) => 0,
            };
            outgoing.resize(start + required, 0);
            data.encode(&mut outgoing[start..]).map_err(|error| rustls::Error::General(error.to_string()))?;
        }
        // What is in `outgoing` is ours to transmit, in order, before anything that comes later.
        ConnectionState::TransmitTlsData(data) => data.done(),
        ConnectionState::PeerClosed => return Ok(Step::PeerClosed),
        ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) | ConnectionState::Closed => {
            return Ok(Step::Blocked);
        }
        state => return Err(rustls::Error::General(format!("unexpected state {state:?}"))),
    }
    Ok(Step::More)
}

/// The length of the ciphertext of `plain` bytes.
pub(crate) const fn ciphertext_len(plain: usize) -> usize {
    plain + plain.div_ceil(MAX_FRAGMENT) * RECORD_OVERHEAD
}

/// Writes as much of `waiting` as the socket takes; ready when all of it is gone.
pub(crate) fn poll_drain(socket: &Socket, waiting: &mut Waiting, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
    while !waiting.is_empty() {
        let count = ready!(poll_write(socket, waiting.as_slice(), cx))?;
        waiting.advance(count);
    }
    Poll::Ready(Ok(()))
}

/// Writes what the socket takes of `bytes`.
pub(crate) fn poll_write(socket: &Socket, bytes: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    loop {
        match socket.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(socket.poll_write_ready(cx))?,
            Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            result => return Poll::Ready(result),
        }
    }
}

/// Has the task polled again when the other connections of its worker had their turn.
///
/// Waking it would not do: the runtime would run it again and again, dozens of times, before it looks at a socket.
pub(crate) fn come_back(cx: &mut Context<'_>) {
    let _ = std::pin::pin!(tokio::task::yield_now()).poll(cx);
}

/// Reads what the socket has into `buffer`.
pub(crate) fn poll_read(socket: &Socket, buffer: &mut [u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    loop {
        // Readiness first: it is what makes a busy connection yield to the others of its worker.
        ready!(socket.poll_read_ready(cx))?;
        match socket.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            result => return Poll::Ready(result),
        }
    }
}

/// A TLS connection as a stream of bytes, for those who need one (HTTP). Shutting it down sends `close_notify` and
/// leaves the other direction open.
///
/// In a box: it is handed on many times from the handshake to the end, and each of those who have it would keep room for it.
pub struct TlsStream(Box<Inner>);

struct Inner {
    socket: Socket,
    tls: Tls,
    /// Plaintext that nobody has taken yet.
    plain: Waiting,
    traffic: Arc<Passed>,
    /// Where what goes through is counted as it does.
    tally: Arc<Tally>,
    closing: Option<Closing>,
    lingers: bool,
    /// What was read since the other connections of the worker had their turn.
    taken: usize,
}

/// Bytes of plaintext that went through a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// From the peer.
    pub received: u64,
    /// To the peer.
    pub sent: u64,
}

/// What went through a stream so far. One thread at a time writes to it.
#[derive(Debug, Default)]
pub struct Passed {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Passed {
    /// As it is now.
    pub fn get(&self) -> Traffic {
        Traffic { received: self.received.load(Relaxed), sent: self.sent.load(Relaxed) }
    }
}

/// Without the price of an atomic addition, since nobody else writes.
fn add(counter: &AtomicU64, count: usize) {
    counter.store(counter.load(Relaxed) + count as u64, Relaxed);
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream").field("socket", &self.0.socket).finish_non_exhaustive()
    }
}

enum Closing {
    Flushing,
    Lingering { until: Pin<Box<Sleep>>, left: usize },
    Done,
}

impl TlsStream {
    /// `plain` is what came with the last message of the handshake.
    pub(crate) fn new(socket: Socket, tls: Tls, plain: Vec<u8>) -> Self {
        Self(Box::new(Inner {
            socket,
            tls,
            plain: Waiting { bytes: plain, start: 0 },
            traffic: Arc::default(),
            tally: Arc::default(),
            closing: None,
            lingers: false,
            taken: 0,
        }))
    }

    /// The address of the peer, where it has one.
    pub fn peer_addr(&self) -> Option<std::net::SocketAddr> {
        self.0.socket.peer_addr()
    }

    /// What goes through, to be read while or after somebody else has the stream.
    pub fn traffic(&self) -> Arc<Passed> {
        self.0.traffic.clone()
    }

    /// Has the plaintext that goes through counted in `tally`, when it has come and before it goes.
    #[must_use]
    pub(crate) fn counted(mut self, tally: Arc<Tally>) -> Self {
        tally.received(self.0.plain.len());
        self.0.tally = tally;
        self
    }

    /// Makes shutting down the end of both directions, for a server that has said all it will: what the peer still
    /// sends is discarded for a while, so that it gets to read what was sent last.
    #[must_use]
    pub fn lingering(mut self) -> Self {
        self.0.lingers = true;
        self
    }

    /// Closes the connection in order, as far as the peer cooperates.
    pub async fn close(mut self) {
        self.0.lingers = true;
        let _ = std::future::poll_fn(|cx| Pin::new(&mut self).poll_shutdown(cx)).await;
    }

    /// Tells the peer that nothing more comes (`close_notify`). Reading goes on; shutting down ends both directions.
    pub fn poll_close_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.tls.queue_close_notify();
        poll_drain(&self.0.socket, &mut self.0.tls.outgoing, cx)
    }

    /// The socket and the TLS connection, for the relay, and where to count. Nothing may have been read yet.
    pub(crate) fn into_parts(self) -> (Socket, Tls, Waiting, Arc<Tally>) {
        let Inner { socket, tls, plain, tally, .. } = *self.0;
        (socket, tls, plain, tally)
    }
}

impl Inner {
    /// Reads and processes once. Plaintext goes to `buffer` as far as it has room, the rest to `plain`.
    fn poll_fill(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let Inner { socket, tls, plain, tally, taken, .. } = self;
        with_scratch(|scratch| {
            // Room for what was asked for, and never less than the rest of a whole record.
            let want = ciphertext_len(buffer.remaining().max(MAX_FRAGMENT)) + RECORD_OVERHEAD;
            let held = tls.lay_out(&mut scratch.input);
            let end = tls.appetite(want.max(held + MAX_FRAGMENT).min(scratch.input.len()));
            let Poll::Ready(read) = poll_read(socket, &mut scratch.input[held..end], cx) else {
                *taken = 0;
                return Poll::Pending;
            };
            let count = read?;
            if count == 0 {
                return Poll::Ready(Ok(0));
            }
            let mut plaintext = 0;
            let result = tls.process(&mut scratch.input[..held + count], |payload| {
                tally.received(payload.len());
                plaintext += payload.len();
                let (now, later) = payload.split_at(payload.len().min(buffer.remaining()));
                buffer.put_slice(now);
                plain.push(later);
            });
            *taken = if tls.judge(count, plaintext) { GIVE_WAY } else { *taken + count };
            Poll::Ready(result.map(|()| count).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)))
        })
    }

    fn poll_encrypt(
        &mut self,
        cx: &mut Context<'_>,
        gather: impl FnOnce(&mut [u8]) -> usize,
    ) -> Poll<io::Result<usize>> {
        if self.tls.outgoing.len() >= HIGH_WATER {
            ready!(poll_drain(&self.socket, &mut self.tls.outgoing, cx))?;
        }
        let Inner { socket, tls, .. } = self;
        let count = with_scratch(|scratch| {
            let count = gather(&mut scratch.plain[..HIGH_WATER]);
            let length = tls
                .encrypt(&scratch.plain[..count], &mut scratch.output)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let mut rest = &scratch.output[..length];
            // Past the queue only where there is no queue.
            if tls.outgoing.is_empty() {
                match socket.try_write(rest) {
                    Ok(written) => rest = &rest[written..],
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            tls.outgoing.push(rest);
            Ok(count)
        })?;
        self.tally.sent(count);
        add(&self.traffic.sent, count);
        Poll::Ready(Ok(count))
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self.get_mut().0;
        let before = buffer.filled().len();
        loop {
            if !this.plain.is_empty() {
                let count = this.plain.as_slice().len().min(buffer.remaining());
                buffer.put_slice(&this.plain.as_slice()[..count]);
                this.plain.advance(count);
            }
            let count = buffer.filled().len() - before;
            if count > 0 || this.tls.received_close() || buffer.remaining() == 0 {
                add(&this.traffic.received, count);
                return Poll::Ready(Ok(()));
            }
            if this.taken >= GIVE_WAY {
                this.taken = 0;
                come_back(cx);
                return Poll::Pending;
            }
            let outcome = ready!(this.poll_fill(cx, buffer));
            // Alerts and answers to key updates: as far as the socket takes them now, the rest with the next write, which
            // also tells where it takes nothing any more. What was read comes first: it may say why.
            let _ = poll_drain(&this.socket, &mut this.tls.outgoing, cx);
            if outcome? == 0 {
                // No close_notify: the end may have been cut off by someone on the way.
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().0.poll_encrypt(cx, |buffer| {
            let count = data.len().min(buffer.len());
            buffer[..count].copy_from_slice(&data[..count]);
            count
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().0.poll_encrypt(cx, |buffer| {
            let mut count = 0;
            for slice in slices {
                let part = slice.len().min(buffer.len() - count);
                buffer[count..count + part].copy_from_slice(&slice[..part]);
                count += part;
            }
            count
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self.get_mut().0;
        poll_drain(&this.socket, &mut this.tls.outgoing, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self.get_mut().0;
        loop {
            match &mut this.closing {
                None => {
                    this.tls.queue_close_notify();
                    this.closing = Some(Closing::Flushing);
                }
                Some(Closing::Flushing) => {
                    ready!(poll_drain(&this.socket, &mut this.tls.outgoing, cx))?;
                    // A peer that sends no more leaves nothing unread: closing the socket is all that is left to do.
                    if this.lingers && this.tls.received_close() {
                        this.closing = Some(Closing::Done);
                        continue;
                    }
                    ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
                    if !this.lingers {
                        this.closing = Some(Closing::Done);
                        continue;
                    }
                    let until = Box::pin(tokio::time::sleep(LINGER));
                    this.closing = Some(Closing::Lingering { until, left: LINGER_BYTES });
                }
                Some(Closing::Lingering { until, left }) => {
                    ready!(poll_linger(&this.socket, until.as_mut(), left, cx));
                    this.closing = Some(Closing::Done);
                }
                Some(Closing::Done) => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Discards what the peer still sends until it closes, for a while: closing a socket with unread bytes makes the kernel
/// send a reset, which can overtake what was sent last (an alert, the end of a response).
fn poll_linger(socket: &Socket, until: Pin<&mut Sleep>, left: &mut usize, cx: &mut Context<'_>) -> Poll<()> {
    with_scratch(|scratch| {
        while *left > 0 {
            match poll_read(socket, &mut scratch.input, cx) {
                Poll::Ready(Ok(count)) if count > 0 => *left = left.saturating_sub(count),
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => return until.poll(cx),
            }
        }
        Poll::Ready(())
    })
}

/// Sends `bytes`, then closes the socket so that the peer gets to read them.
pub(crate) async fn send_and_close(mut socket: Socket, bytes: &[u8]) {
    use tokio::io::AsyncWriteExt;
    let goodbye = async {
        socket.write_all(bytes).await?;
        socket.shutdown().await
    };
    if tokio::time::timeout(LINGER, goodbye).await.is_ok_and(|result| result.is_ok()) {
        let mut until = std::pin::pin!(tokio::time::sleep(LINGER));
        let mut left = LINGER_BYTES;
        std::future::poll_fn(|cx| poll_linger(&socket, until.as_mut(), &mut left, cx)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use qtls_core::credentials::{Credential, generate, signing_key};
    use qtls_core::endpoint::{ServerTrust, client_config};
    use qtls_core::policy::{KeyAlgorithm, Policy};
    use qtls_pki::issue::{Authority, Profile, Template, public_key};

    use super::*;

    /// A peer that puts 32 bytes into a record, so that its session tickets come in pieces.
    fn peer() -> rustls::ServerConnection {
        let now = std::time::SystemTime::now();
        let template = |profile| Template {
            profile,
            common_name: Some("a test".to_owned()),
            organization: None,
            names: Vec::new(),
            not_before: now - Duration::from_secs(60),
            not_after: now + Duration::from_secs(60),
        };
        let key = || signing_key(&generate(KeyAlgorithm::EcdsaP256).unwrap()).unwrap();
        let root = Authority::root(&template(Profile::Root), key()).unwrap();
        let leaf_key = key();
        let leaf = root.issue(&template(Profile::Server), &public_key(leaf_key.as_ref()).unwrap()).unwrap();
        let credential = Credential::from_chain("test", "a test", vec![leaf], leaf_key, "a test").unwrap();
        let policy = Policy::default();
        let provider = qtls_core::provider::provider(&policy.groups, &policy.suites);
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(credential.key)));
        config.max_fragment_size = Some(32);
        rustls::ServerConnection::new(Arc::new(config)).unwrap()
    }

    fn client() -> Tls {
        let policy = Arc::new(Policy::default());
        let config = client_config(&policy, ServerTrust::DangerousAnyone, None, true, Vec::new()).unwrap();
        let name = rustls::pki_types::ServerName::try_from("a.example").unwrap();
        Tls::new(Session::Client(Box::new(UnbufferedClientConnection::new(config, name).unwrap())))
    }

    fn send(tls: &mut Tls, to: &mut rustls::ServerConnection) {
        let mut bytes = tls.outgoing.as_slice();
        while !bytes.is_empty() {
            to.read_tls(&mut bytes).unwrap();
            to.process_new_packets().unwrap();
        }
        tls.outgoing.advance(tls.outgoing.len());
    }

    fn receive(tls: &mut Tls, bytes: &[u8], plain: &mut Vec<u8>) {
        let mut input = vec![0; tls.held() + bytes.len()];
        let held = tls.lay_out(&mut input);
        input[held..].copy_from_slice(bytes);
        tls.process(&mut input, |payload| plain.extend_from_slice(payload)).unwrap();
    }

    #[test]
    fn a_message_in_pieces_does_not_keep_this_side_from_writing_and_closing() {
        let (mut tls, mut peer) = (client(), peer());
        let mut plain = Vec::new();
        tls.process(&mut [], |_| {}).unwrap();
        while tls.is_handshaking() {
            send(&mut tls, &mut peer);
            let mut bytes = Vec::new();
            while peer.wants_write() {
                peer.write_tls(&mut bytes).unwrap();
            }
            receive(&mut tls, &bytes, &mut plain);
        }
        send(&mut tls, &mut peer);
        // Only now come the tickets; of them, one byte at a time, the client gets to write after each.
        io::Write::write_all(&mut peer.writer(), b"behind the tickets").unwrap();
        let mut bytes = Vec::new();
        while peer.wants_write() {
            peer.write_tls(&mut bytes).unwrap();
        }
        assert!(bytes.len() > 6 * (32 + RECORD_OVERHEAD), "tickets in pieces and some data: {}", bytes.len());
        let mut output = vec![0; ciphertext_len(1)];
        for byte in &bytes {
            receive(&mut tls, std::slice::from_ref(byte), &mut plain);
            let length = tls.encrypt(b"x", &mut output).unwrap();
            tls.outgoing.push(&output[..length]);
        }
        assert_eq!(plain, b"behind the tickets");
        tls.queue_close_notify();
        send(&mut tls, &mut peer);
        let mut received = Vec::new();
        io::Read::read_to_end(&mut peer.reader(), &mut received).unwrap();
        assert_eq!(received, vec![b'x'; bytes.len()]);
    }

    #[test]
    fn what_waits_gives_its_memory_back() {
        let mut waiting = Waiting::default();
        waiting.push(&[1, 2, 3]);
        waiting.advance(2);
        assert_eq!((waiting.as_slice(), waiting.len()), (&[3][..], 1));
        waiting.advance(1);
        assert_eq!((waiting.len(), waiting.bytes.capacity()), (0, 0));
    }

    #[test]
    fn the_output_buffer_holds_the_ciphertext_of_a_full_plain_buffer() {
        assert!(OUTPUT >= ciphertext_len(PLAIN));
    }
}
