//! A thread of the tunnels: one runtime, a descriptor of each listening socket, and the connections that it accepted.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use qtls_core::{Error, Result};
use tokio::runtime::Builder;
use tokio::sync::watch;
use tokio::task::coop::unconstrained;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, timeout};

use super::connection;
use super::listen::{Accepting, Listener};
use super::live::{Common, Live};
use crate::heartbeats::Pulse;
use crate::observe::metrics::WorkerMetrics;
use crate::shutdown::{Phase, Shutdown};
use crate::socket::Socket;
use crate::worker::{LAST_CALL, Open, is_about_one_connection};

/// What the connections of one thread share.
pub(super) struct Worker {
    pub(super) common: Arc<Common>,
    pub(super) metrics: Rc<WorkerMetrics>,
    /// For the connections, which are many: those who accept hear of it at once.
    shutdown: Shutdown,
    current: RefCell<(watch::Receiver<Arc<Live>>, Arc<Live>)>,
    open: Rc<Open>,
}

impl Worker {
    fn new(common: Arc<Common>, shutdown: &Shutdown) -> Self {
        let mut newest = common.live.subscribe();
        let first = newest.borrow_and_update().clone();
        let metrics = WorkerMetrics::new(common.metrics.clone());
        let shutdown = shutdown.of_this_thread();
        Self { common, metrics, shutdown, current: RefCell::new((newest, first)), open: Rc::default() }
    }

    /// The state in force. Without a lock, but where it has changed.
    pub(super) fn live(&self) -> Arc<Live> {
        let (newest, live) = &mut *self.current.borrow_mut();
        if newest.has_changed().unwrap_or(false) {
            *live = newest.borrow_and_update().clone();
        }
        live.clone()
    }
}

/// Serves the connections that come in on `listeners`, one a tunnel, until the shutdown is complete. `begin` is called
/// when everything is there. One of the threads `watches` whether the servers answer.
///
/// # Errors
/// The operating system gives no runtime.
pub(super) fn run(
    listeners: Vec<Listener>,
    common: Arc<Common>,
    shutdown: Shutdown,
    watches: bool,
    begin: impl FnOnce() -> Pulse,
) -> Result<()> {
    let os = |error: std::io::Error| Error::internal(format!("a worker can't start: {error}"));
    let runtime = Builder::new_current_thread().enable_all().build().map_err(os)?;
    let outcome = LocalSet::new().block_on(&runtime, async {
        let worker = Rc::new(Worker::new(common, &shutdown));
        let listeners = listeners.into_iter().map(Listener::into_runtime).collect::<std::io::Result<Vec<_>>>();
        let accepting: Vec<_> = listeners
            .map_err(os)?
            .into_iter()
            .enumerate()
            .map(|(tunnel, listener)| spawn_local(accept(listener, tunnel, worker.clone(), shutdown.clone())))
            .collect();
        let pulse = begin();
        spawn_local(async move { pulse.go_on().await });
        if watches {
            for tunnel in 0..accepting.len() {
                let (worker, mut shutdown) = (worker.clone(), shutdown.clone());
                spawn_local(async move {
                    shutdown.accepting().await;
                    tokio::select! {
                        () = shutdown.draining() => {}
                        () = worker.common.standings[tunnel].watch(async || connection::ask(tunnel, &worker).await) => {}
                    }
                });
            }
        }
        for task in accepting {
            task.await.map_err(|error| Error::internal(format!("a tunnel ended: {error}")))?;
        }
        worker.open.none().await;
        Ok(())
    });
    // A name that is still being looked up must not hold up the end.
    runtime.shutdown_background();
    outcome
}

async fn accept(listener: Accepting, tunnel: usize, worker: Rc<Worker>, mut shutdown: Shutdown) {
    /// How long to wait where accepting failed: connections that end give descriptors and memory back.
    const PAUSE: Duration = Duration::from_millis(50);

    shutdown.accepting().await;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.draining() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(socket) => start(socket, tunnel, &worker).await,
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                worker.common.gate.cannot_accept(&error);
                // Those who knock wait in the kernel's queue.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    // Connections that the kernel has completed and we have not accepted would be reset by closing the socket. New ones come
    // until then, and must not keep it open.
    let until = Instant::now() + LAST_CALL;
    while shutdown.phase() < Phase::Closing && Instant::now() < until {
        // Whatever the runtime thinks of tasks that go on for long: it would seem that nobody waits.
        let waiting = timeout(Duration::ZERO, unconstrained(listener.accept())).await;
        let Ok(Ok(socket)) = waiting else { break };
        start(socket, tunnel, &worker).await;
    }
}

/// Starts serving a connection, when there is a place for it, or refuses it.
async fn start(socket: Socket, tunnel: usize, worker: &Rc<Worker>) {
    let gate = &worker.common.gate;
    let visit = match socket.peer_addr().map(|client| gate.visit(client.ip())).transpose() {
        Ok(visit) => visit,
        Err(refused) => return refused.reset(socket),
    };
    let mut closing = worker.shutdown.clone();
    // While it waits for a place, those behind it wait in the kernel's queue.
    let place = tokio::select! {
        biased;
        place = gate.enter() => match place {
            Ok(place) => place,
            Err(refused) => return refused.reset(socket),
        },
        () = closing.closing() => return,
    };
    let entered = Open::enter(&worker.open, place);
    let (worker, shutdown) = (worker.clone(), worker.shutdown.clone());
    spawn_local(async move {
        connection::serve(socket, tunnel, visit, worker, shutdown).await;
        drop(entered);
    });
}
