//! HTTP/2 connections to one server: each carries many requests at once.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use hyper::client::conn::http2::{Builder, SendRequest};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::bodies::RequestBody;
use super::observed::Reached;
use crate::http::{BUFFER, LocalTasks};
use crate::upstream::ConnectError;

/// Of one connection, whatever the server allows; and what it is taken to allow before it has said so.
pub(super) const MAX_STREAMS: usize = 100;
/// How much of a response may wait here for a client that is slower than the server.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Of all responses of a connection together: more than [`MAX_STREAMS`] of them, so that clients that don't read hold up
/// nobody else.
const CONNECTION_WINDOW: u32 = 32 * 1024 * 1024;

/// How connections are made.
pub(super) fn builder() -> Builder<LocalTasks> {
    let mut builder = Builder::new(LocalTasks);
    builder
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_max_send_streams(MAX_STREAMS)
        .max_send_buf_size(STREAM_WINDOW as usize)
        .max_header_list_size(u32::try_from(BUFFER).unwrap_or(u32::MAX));
    builder
}

/// The connections to one server.
#[derive(Debug)]
pub(super) struct Multiplexed {
    connections: RefCell<Vec<Rc<Connection>>>,
    /// One connection is made at a time: those who wait for it will share it.
    turn: Semaphore,
    /// How many were tried, and how the last one failed, if it did.
    tried: Cell<u64>,
    failed: RefCell<Option<ConnectError>>,
    /// How many streams the server allowed on its last connection: on the next one it has yet to say so.
    usual: Cell<usize>,
    /// Whether the server speaks HTTP/1.1, as far as is known: then nobody waits.
    alone: Cell<bool>,
}

struct Connection {
    sender: SendRequest<RequestBody>,
    reached: Reached,
    streams: Cell<usize>,
    room: Room,
    /// Since there are no streams.
    idle: Cell<Instant>,
}

/// How many streams a server allows on a connection; `None` where that can't be asked now.
type Room = Box<dyn Fn() -> Option<usize>>;

/// A request on a connection, and its response.
#[derive(Debug)]
pub(super) struct Stream(Rc<Connection>);

/// What comes of waiting for one's turn to connect.
pub(super) enum Turn<'a> {
    /// To make a connection, and to say what came of it.
    Connect(Option<SemaphorePermit<'a>>),
    /// Somebody else has made one meanwhile.
    Shared(Stream),
    /// Somebody else has tried meanwhile, in vain.
    Failed(ConnectError),
}

impl Default for Multiplexed {
    fn default() -> Self {
        Self {
            connections: RefCell::default(),
            turn: Semaphore::new(1),
            tried: Cell::new(0),
            failed: RefCell::default(),
            usual: Cell::new(MAX_STREAMS),
            alone: Cell::new(false),
        }
    }
}

impl Multiplexed {
    /// A stream of a connection that has room for it.
    pub(super) fn take(&self) -> Option<Stream> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|connection| !connection.sender.is_closed());
        let has_room = |connection: &&Rc<Connection>| {
            if let Some(room) = (connection.room)() {
                self.usual.set(room.min(MAX_STREAMS));
            }
            connection.streams.get() < self.usual.get()
        };
        connections.iter().find(has_room).map(Stream::new)
    }

    /// Shares a connection from now on.
    pub(super) fn add(&self, sender: SendRequest<RequestBody>, reached: Reached, room: Room) -> Stream {
        let (streams, idle) = (Cell::new(0), Cell::new(Instant::now()));
        let connection = Rc::new(Connection { sender, reached, streams, room, idle });
        let stream = Stream::new(&connection);
        self.connections.borrow_mut().push(connection);
        stream
    }

    /// Gives the connection of a stream to nobody else. It ends with its last stream.
    pub(super) fn discard(&self, stream: &Stream) {
        self.connections.borrow_mut().retain(|connection| !Rc::ptr_eq(connection, &stream.0));
    }

    /// How many streams the server allows, as far as is known.
    pub(super) fn usual(&self) -> usize {
        self.usual.get()
    }

    /// Waits until nobody else is connecting.
    pub(super) async fn turn(&self) -> Turn<'_> {
        if self.alone.get() {
            return Turn::Connect(None);
        }
        let before = self.tried.get();
        // It is never closed.
        let permit = self.turn.acquire().await.ok();
        if let Some(stream) = self.take() {
            return Turn::Shared(stream);
        }
        match self.failed.borrow().as_ref().filter(|_| self.tried.get() != before) {
            Some(error) => Turn::Failed(error.clone()),
            None => Turn::Connect(permit),
        }
    }

    /// What came of connecting: whether HTTP/2 is spoken.
    pub(super) fn connected(&self, outcome: Result<bool, &ConnectError>) {
        self.tried.set(self.tried.get() + 1);
        self.alone.set(outcome == Ok(false));
        *self.failed.borrow_mut() = outcome.err().cloned();
    }

    /// Closes connections on which nothing has been for `limit`. When to look again; not at all where nothing is left.
    pub(super) fn drop_old(&self, limit: Duration) -> Option<Instant> {
        let now = Instant::now();
        let mut connections = self.connections.borrow_mut();
        let until = |connection: &Connection| match connection.streams.get() {
            0 => connection.idle.get() + limit,
            _ => now + limit,
        };
        connections.retain(|connection| !connection.sender.is_closed() && until(connection) > now);
        connections.iter().map(|connection| until(connection)).min()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sender: _, reached, streams, room: _, idle: _ } = self;
        f.debug_struct("Connection").field("reached", reached).field("streams", streams).finish_non_exhaustive()
    }
}

impl Stream {
    fn new(connection: &Rc<Connection>) -> Self {
        connection.streams.update(|streams| streams + 1);
        Self(connection.clone())
    }

    pub(super) fn sender(&self) -> SendRequest<RequestBody> {
        self.0.sender.clone()
    }

    pub(super) fn reaches(&self) -> Reached {
        self.0.reached.clone()
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.streams.update(|streams| streams - 1);
        self.0.idle.set(Instant::now());
    }
}
