//! Connections to upstream servers that wait for their next request. One worker's, and so without locks.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Weak;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Inner;
use super::bodies::RequestBody;
use super::heads::Heads;
use super::multiplexed::{Multiplexed, Stream};
use super::observed::{Fate, Reached};
use crate::upstream::{Leg, Peer, ServerId};

/// Of one server.
const MAX_IDLE: usize = 32;
/// Shorter than what upstreams commonly allow (nginx: 75 s), so that it is mostly we who close.
const IDLE: Duration = Duration::from_secs(50);

/// A connection to an upstream server, in use for one request.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) sender: Sender,
    /// Runs while the server is awaited. Kept with the connection: moving a deadline is cheaper than a new timer.
    pub(super) timer: Pin<Box<Sleep>>,
    /// What is known of the head that is awaited.
    pub(super) heads: Heads,
    server: ServerId,
    reached: Reached,
}

/// What a request is given to.
#[derive(Debug)]
pub(super) enum Sender {
    /// A connection for one request at a time.
    Http1 {
        sender: http1::SendRequest<RequestBody>,
        /// What drives the connection.
        task: AbortHandle,
    },
    /// A place on a connection for many.
    Http2(Stream),
}

/// A request that is under way. In a box: it has the request in it, and is handed on.
pub(super) type Sending = Pin<Box<dyn Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>>>>;

impl Sender {
    pub(super) fn send(&mut self, request: Request<RequestBody>) -> Sending {
        match self {
            Self::Http1 { sender, .. } => Box::pin(sender.try_send_request(request)),
            Self::Http2(stream) => Box::pin(stream.sender().try_send_request(request)),
        }
    }
}

impl Lease {
    pub(super) fn new(sender: Sender, heads: Heads, server: ServerId, reached: Reached) -> Self {
        Self { sender, timer: Box::pin(sleep_until(Instant::now())), heads, server, reached }
    }

    /// A place on a connection for many.
    pub(super) fn of_stream(stream: Stream, server: ServerId) -> Self {
        let reached = stream.reaches();
        Self::new(Sender::Http2(stream), Heads::default(), server, reached)
    }

    /// Ends the connection in whatever state it is. Otherwise it ends when its request has. One that others share stays.
    pub(super) fn close(self) {
        if let Sender::Http1 { task, .. } = self.sender {
            task.abort();
        }
    }

    pub(super) fn is_http2(&self) -> bool {
        matches!(self.sender, Sender::Http2(_))
    }

    pub(super) fn server(&self) -> ServerId {
        self.server
    }

    /// The address that it goes to.
    pub(super) fn peer(&self) -> Option<&Peer> {
        self.reached.peer.as_ref()
    }

    /// What was negotiated there, over TLS.
    pub(super) fn leg(&self) -> Option<Leg> {
        self.reached.leg
    }

    /// What became of its TLS.
    pub(super) fn fate(&self) -> &Fate {
        &self.reached.fate
    }
}

/// Idle connections to each server.
#[derive(Debug)]
pub(super) struct Pool {
    servers: Box<[Server]>,
    reaping: Cell<bool>,
    proxy: Weak<Inner>,
}

#[derive(Debug, Default)]
struct Server {
    /// Connections for one request at a time.
    idle: RefCell<VecDeque<Idle>>,
    /// Connections for many.
    multiplexed: Multiplexed,
}

#[derive(Debug)]
struct Idle {
    lease: Lease,
    since: Instant,
}

impl Idle {
    fn is_closed(&self) -> bool {
        match &self.lease.sender {
            Sender::Http1 { sender, .. } => sender.is_closed(),
            Sender::Http2(_) => true,
        }
    }

    /// Between the end of a response and its being ready again, the connection's task has to run.
    fn is_ready(&self) -> bool {
        matches!(&self.lease.sender, Sender::Http1 { sender, .. } if sender.is_ready())
    }
}

impl Pool {
    pub(super) fn new(servers: usize, proxy: Weak<Inner>) -> Self {
        let servers = (0..servers).map(|_| Server::default()).collect();
        Self { servers, reaping: Cell::new(false), proxy }
    }

    /// The connections of a server for many requests each.
    pub(super) fn multiplexed(&self, server: ServerId) -> &Multiplexed {
        &self.servers[server.index()].multiplexed
    }

    /// A place on a connection for many, or the connection that was used last: the others may grow old and be closed.
    pub(super) fn take(&self, server: ServerId) -> Option<Lease> {
        if let Some(stream) = self.multiplexed(server).take() {
            return Some(Lease::of_stream(stream, server));
        }
        let mut idle = self.servers[server.index()].idle.borrow_mut();
        idle.retain(|idle| !idle.is_closed());
        let last = idle.iter().rposition(Idle::is_ready)?;
        idle.remove(last).filter(|idle| idle.since.elapsed() < IDLE).map(|idle| idle.lease)
    }

    /// Gives a connection up that leads nowhere any more. What others still do on it goes on.
    pub(super) fn discard(&self, lease: Lease) {
        if let Sender::Http2(stream) = &lease.sender {
            self.multiplexed(lease.server).discard(stream);
        }
        lease.close();
    }

    /// Keeps a connection for the next request.
    pub(super) fn put_back(&self, lease: Lease) {
        let Sender::Http1 { sender, .. } = &lease.sender else { return };
        if sender.is_closed() {
            return;
        }
        let mut idle = self.servers[lease.server().index()].idle.borrow_mut();
        if idle.len() == MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { lease, since: Instant::now() });
        drop(idle);
        self.reap();
    }

    /// Closes idle connections when their time is up, as long as there are any.
    pub(super) fn reap(&self) {
        if self.reaping.replace(true) {
            return;
        }
        let proxy = self.proxy.clone();
        tokio::task::spawn_local(async move {
            while let Some(next) = proxy.upgrade().and_then(|proxy| proxy.pool.drop_old()) {
                sleep_until(next).await;
            }
        });
    }

    /// When to look again; not at all where nothing is left.
    fn drop_old(&self) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        for Server { idle, multiplexed } in &self.servers {
            let mut idle = idle.borrow_mut();
            while idle.front().is_some_and(|idle| idle.since.elapsed() >= IDLE || idle.is_closed()) {
                idle.pop_front();
            }
            let oldest = idle.front().map(|idle| idle.since + IDLE);
            next = [next, oldest, multiplexed.drop_old(IDLE)].into_iter().flatten().min();
        }
        self.reaping.set(next.is_some());
        next
    }
}
