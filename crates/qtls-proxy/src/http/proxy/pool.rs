//! Connections to upstream servers that wait for their next request. One worker's, and so without locks.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Weak;
use std::time::Duration;

use hyper::client::conn::http1::SendRequest;
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep_until};

use super::Inner;
use super::bodies::RequestBody;
use crate::upstream::ServerId;

/// Of one server.
const MAX_IDLE: usize = 32;
/// Shorter than what upstreams commonly allow (nginx: 75 s), so that it is mostly we who close.
const IDLE: Duration = Duration::from_secs(50);

/// A connection to an upstream server, in use for one request.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) sender: SendRequest<RequestBody>,
    /// Runs while the server is awaited. Kept with the connection: moving a deadline is cheaper than a new timer.
    pub(super) timer: Pin<Box<Sleep>>,
    server: ServerId,
    /// What drives the connection.
    task: AbortHandle,
}

impl Lease {
    pub(super) fn new(sender: SendRequest<RequestBody>, server: ServerId, task: AbortHandle) -> Self {
        Self { sender, timer: Box::pin(sleep_until(Instant::now())), server, task }
    }

    /// Ends the connection in whatever state it is. Otherwise it ends when its request has.
    pub(super) fn close(self) {
        self.task.abort();
    }

    pub(super) fn server(&self) -> ServerId {
        self.server
    }
}

/// Idle connections to each server.
#[derive(Debug)]
pub(super) struct Pool {
    servers: Box<[RefCell<VecDeque<Idle>>]>,
    reaping: Cell<bool>,
    proxy: Weak<Inner>,
}

#[derive(Debug)]
struct Idle {
    lease: Lease,
    since: Instant,
}

impl Pool {
    pub(super) fn new(servers: usize, proxy: Weak<Inner>) -> Self {
        let servers = (0..servers).map(|_| RefCell::default()).collect();
        Self { servers, reaping: Cell::new(false), proxy }
    }

    /// The connection that was used last: the others may grow old and be closed.
    pub(super) fn take(&self, server: ServerId) -> Option<Lease> {
        let mut idle = self.servers[server.index()].borrow_mut();
        idle.retain(|idle| !idle.lease.sender.is_closed());
        // Between the end of a response and its being ready again, the connection's task has to run.
        let last = idle.iter().rposition(|idle| idle.lease.sender.is_ready())?;
        idle.remove(last).filter(|idle| idle.since.elapsed() < IDLE).map(|idle| idle.lease)
    }

    /// Keeps a connection for the next request.
    pub(super) fn put_back(&self, lease: Lease) {
        if lease.sender.is_closed() {
            return;
        }
        let mut idle = self.servers[lease.server().index()].borrow_mut();
        if idle.len() == MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { lease, since: Instant::now() });
        drop(idle);
        self.reap();
    }

    /// Closes idle connections when their time is up, as long as there are any.
    fn reap(&self) {
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
        for idle in &self.servers {
            let mut idle = idle.borrow_mut();
            while idle.front().is_some_and(|idle| idle.since.elapsed() >= IDLE || idle.lease.sender.is_closed()) {
                idle.pop_front();
            }
            let oldest = idle.front().map(|idle| idle.since + IDLE);
            next = [next, oldest].into_iter().flatten().min();
        }
        self.reaping.set(next.is_some());
        next
    }
}
