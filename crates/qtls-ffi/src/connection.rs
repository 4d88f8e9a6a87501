//! A connection with or without a descriptor: when to receive, when to send, and what its caller has to wait for.

use std::ffi::{CString, c_int};
use std::io::{self, ErrorKind};
use std::mem::MaybeUninit;

use qtls_core::verify::Identity;

use crate::abi::qtls_fault::QTLS_FAULT_NETWORK;
use crate::abi::qtls_status::{QTLS_E_NETWORK, QTLS_EOF, QTLS_OK, QTLS_WANT_READ, QTLS_WANT_WRITE};
use crate::engine::{Engine, Progress};
use crate::failure::Failure;
use crate::socket::Socket;

/// One side of one connection, and how its bytes travel.
pub(crate) struct Connection {
    engine: Engine,
    socket: Option<Socket>,
    /// Ciphertext that was received, and that the engine had no room for.
    held: Vec<u8>,
    /// Whether the program has carried bytes itself.
    fed: bool,
    /// That nothing can be sent any more; the peer may have said why.
    broken: Option<Failure>,
    texts: Option<Texts>,
}

/// What is told of a connection, in the form in which C takes it.
#[derive(Debug)]
pub(crate) struct Texts {
    pub(crate) server_name: Option<CString>,
    pub(crate) identity: Option<CString>,
}

/// A whole record, and a small one behind it.
const ROOM: usize = 18 * 1024;

impl Connection {
    pub(crate) fn new(engine: Engine) -> Self {
        Self { engine, socket: None, held: Vec::new(), fed: false, broken: None, texts: None }
    }

    pub(crate) fn set_socket(&mut self, socket: Socket) -> Result<(), Failure> {
        if self.socket.is_some() {
            return Err(Failure::misuse("the connection has a descriptor already"));
        }
        if self.fed {
            return Err(Failure::misuse("the connection was fed already: it can't have a descriptor any more"));
        }
        self.socket = Some(socket);
        Ok(())
    }

    pub(crate) fn feed(&mut self, data: &[u8]) -> (usize, Result<(), Failure>) {
        if let Err(failure) = self.without_descriptor("qtls_conn_feed()") {
            return (0, Err(failure));
        }
        self.fed |= !data.is_empty();
        self.engine.feed(data)
    }

    pub(crate) fn feed_eof(&mut self) -> Result<(), Failure> {
        self.without_descriptor("qtls_conn_feed_eof()")?;
        self.fed = true;
        self.engine.end()
    }

    pub(crate) fn drain(&mut self, buffer: &mut [u8]) -> Result<usize, Failure> {
        self.without_descriptor("qtls_conn_drain()")?;
        let count = self.engine.drain(buffer);
        self.fed |= count > 0;
        Ok(count)
    }

    pub(crate) fn handshake(&mut self) -> Result<c_int, Failure> {
        self.engine.usable()?;
        loop {
            let handshaking = self.engine.is_handshaking();
            if handshaking {
                self.engine.sendable()?;
            }
            let sent = self.send_or_hear_why()?;
            if !handshaking {
                return Ok(if sent { QTLS_OK as c_int } else { QTLS_WANT_WRITE as c_int });
            }
            if !self.receive(true)? {
                return Ok(self.want());
            }
        }
    }

    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<(usize, c_int), Failure> {
        if buffer.is_empty() {
            return Ok((0, QTLS_OK as c_int));
        }
        loop {
            match self.engine.read(buffer)? {
                Progress::Moved(count) => return Ok((count, QTLS_OK as c_int)),
                Progress::End => return Ok((0, QTLS_EOF as c_int)),
                Progress::Blocked => {}
            }
            if self.engine.is_handshaking() {
                self.engine.sendable()?;
                self.send_or_hear_why()?;
            } else {
                // That nothing can be sent keeps nobody from reading what the peer has sent.
                let _ = self.send();
            }
            match self.receive(true) {
                Ok(true) => {}
                Ok(false) => return Ok((0, self.want())),
                // What came before it is read first, and then the failure is told by the engine.
                Err(_) if self.engine.pending() > 0 => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    pub(crate) fn write(&mut self, data: &[u8]) -> Result<(usize, c_int), Failure> {
        if data.is_empty() {
            return Ok((0, QTLS_OK as c_int));
        }
        self.engine.usable()?;
        self.engine.sendable()?;
        self.intact()?;
        if self.engine.is_handshaking() {
            let status = self.handshake()?;
            if self.engine.is_handshaking() {
                return Ok((0, status));
            }
        }
        let mut taken = 0;
        loop {
            let progress = self.engine.write(&data[taken..])?;
            if let Progress::Moved(count) = progress {
                taken += count;
            }
            let sent = self.send_or_hear_why()?;
            if taken == data.len() || !sent {
                let status = if taken > 0 { QTLS_OK as c_int } else { QTLS_WANT_WRITE as c_int };
                return Ok((taken, status));
            }
        }
    }

    pub(crate) fn flush(&mut self) -> Result<c_int, Failure> {
        self.engine.usable()?;
        Ok(if self.send_or_hear_why()? { QTLS_OK as c_int } else { QTLS_WANT_WRITE as c_int })
    }

    pub(crate) fn shut_down(&mut self) -> Result<c_int, Failure> {
        self.engine.shut_down()?;
        Ok(if self.send_or_hear_why()? { QTLS_OK as c_int } else { QTLS_WANT_WRITE as c_int })
    }

    /// The bits of what the connection waits for.
    pub(crate) fn want(&self) -> c_int {
        let write = if self.engine.wants_to_send() { QTLS_WANT_WRITE as c_int } else { 0 };
        let read = if self.engine.wants_to_receive() { QTLS_WANT_READ as c_int } else { 0 };
        read | write
    }

    pub(crate) fn pending(&self) -> usize {
        self.engine.pending()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// What is told of the connection, once its handshake is complete.
    pub(crate) fn texts(&mut self) -> Option<&Texts> {
        let facts = self.engine.facts()?;
        Some(self.texts.get_or_insert_with(|| {
            let text = |text: String| CString::new(text).ok();
            let identity = facts.peer_chain.first().and_then(|leaf| Identity::of(leaf).ok());
            Texts {
                server_name: facts.server_name.clone().and_then(text),
                identity: identity.and_then(|identity| text(identity.to_string())),
            }
        }))
    }

    fn without_descriptor(&self, call: &str) -> Result<(), Failure> {
        match self.socket {
            None => Ok(()),
            Some(_) => {
                Err(Failure::misuse(format!("{call} is for connections without a descriptor, and this one has one")))
            }
        }
    }

    fn intact(&self) -> Result<(), Failure> {
        self.broken.as_ref().map_or(Ok(()), |failure| Err(failure.again()))
    }

    /// Sends what waits to be sent; whether all of it has left.
    fn send(&mut self) -> Result<bool, Failure> {
        self.intact()?;
        let Some(mut socket) = self.socket else { return Ok(!self.engine.wants_to_send()) };
        match self.engine.drain_to(&mut socket) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
            Err(error) => {
                let failure = network("writing to the descriptor failed", &error);
                Err(self.broken.insert(failure).clone())
            }
        }
    }

    /// As [`send`](Self::send). Where it fails, the peer may have said why before it closed the connection.
    fn send_or_hear_why(&mut self) -> Result<bool, Failure> {
        self.send().map_err(|failure| {
            while self.engine.pending() == 0 {
                match self.receive(false) {
                    Ok(true) => {}
                    Err(heard) if heard.alert_received().is_some() => return heard,
                    Ok(false) | Err(_) => break,
                }
            }
            failure
        })
    }

    /// Receives something, if there is something to receive, and takes it in; whether there was.
    ///
    /// Where the peer is at fault, its alert has left when this returns, or the descriptor doesn't take it.
    fn receive(&mut self, wait: bool) -> Result<bool, Failure> {
        self.engine.usable()?;
        let Some(socket) = self.socket.filter(|_| self.engine.wants_to_receive()) else { return Ok(false) };
        let outcome = if self.held.is_empty() {
            let mut room = [MaybeUninit::uninit(); ROOM];
            loop {
                match socket.receive(&mut room, wait) {
                    Ok([]) => break self.engine.end().map(|()| true),
                    Ok(received) => {
                        let (taken, outcome) = self.engine.feed(received);
                        self.held.extend_from_slice(&received[taken..]);
                        break outcome.map(|()| true);
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                    Err(error) => {
                        let failure = network("reading from the descriptor failed", &error);
                        break Err(self.engine.fail(failure));
                    }
                }
            }
        } else {
            let held = std::mem::take(&mut self.held);
            let (taken, outcome) = self.engine.feed(&held);
            self.held.extend_from_slice(&held[taken..]);
            outcome.map(|()| true)
        };
        if outcome.is_err() {
            let _ = self.send();
        }
        outcome
    }
}

fn network(what: &str, error: &io::Error) -> Failure {
    Failure::new(QTLS_E_NETWORK, QTLS_FAULT_NETWORK, format!("{what}: {error}"))
}
