//! A worker: one thread, one runtime, its listening sockets, and the connections that it accepted.

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use qtls_core::{Error, Result};
use tokio::runtime::Builder;
use tokio::sync::{Notify, watch};
use tokio::task::coop::unconstrained;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, timeout};

use crate::connection;
use crate::heartbeats::Pulse;
use crate::hosts::Target;
use crate::http;
use crate::limits::{self, Gate};
use crate::listen::{Accepted, Listeners};
use crate::live::Live;
use crate::observe::metrics::{Metrics, WorkerMetrics};
use crate::shutdown::{Phase, Shutdown};
use crate::signing::SigningPool;
use crate::starttls::cancel::Sessions;
use crate::upstream::{OwnAddresses, Upstream};

/// What all workers share, for the life of the process.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) address: SocketAddr,
    pub(crate) signing: SigningPool,
    pub(crate) metrics: Arc<Metrics>,
    /// The addresses that it listens on.
    pub(crate) own: Arc<OwnAddresses>,
    /// How many connections there may be, and whose.
    pub(crate) gate: Arc<Gate>,
    /// Where PostgreSQL sessions are, for those who want to cancel their queries.
    pub(crate) sessions: Sessions,
    /// The state in force. A worker hears of the next one without a lock in the path of connections.
    pub(crate) live: watch::Sender<Arc<Live>>,
}

/// What the connections of one worker share that began under the same state.
pub(crate) struct Shared {
    pub(crate) common: Arc<Common>,
    pub(crate) live: Arc<Live>,
    pub(crate) metrics: Rc<WorkerMetrics>,
    /// By the index of the host.
    pub(crate) services: Vec<Service>,
}

/// What is done with plaintext.
#[derive(Clone)]
pub(crate) enum Service {
    Http(Rc<http::Service>),
    Tcp(Arc<Upstream>),
}

impl Shared {
    /// Takes over what is the same as in the state before: the pools of connections to upstreams.
    fn new(common: Arc<Common>, live: Arc<Live>, metrics: Rc<WorkerMetrics>, before: Option<&Self>) -> Self {
        let settings = http::Settings::of(&live.config.limits);
        let before = before.filter(|before| http::Settings::of(&before.live.config.limits) == settings);
        let service = |target: &Target| {
            let known = before.and_then(|before| {
                let mut known = before.live.hosts.iter().zip(&before.services);
                known.find(|(host, _)| host.target.is(target)).map(|(_, service)| service.clone())
            });
            known.unwrap_or_else(|| match target {
                Target::Responder => Service::Http(Rc::new(http::Service::responder(settings))),
                Target::Http(upstream) => Service::Http(Rc::new(http::Service::proxy(upstream.clone(), settings))),
                Target::Tcp(upstream) => Service::Tcp(upstream.clone()),
            })
        };
        let services = live.hosts.iter().map(|host| service(&host.target)).collect();
        Self { common, live, metrics, services }
    }

    /// Whether connections from this address begin with a PROXY header.
    pub(crate) fn expects_header(&self, peer: IpAddr) -> bool {
        self.live.config.server.proxy_protocol.as_ref().is_some_and(|configured| configured.expects(peer))
    }
}

/// Serves the connections that come in on `sockets`, until the shutdown is complete. `begin` is called when everything is
/// there.
///
/// # Errors
/// The operating system gives no runtime.
pub(crate) fn run(
    sockets: Vec<TcpListener>,
    common: Arc<Common>,
    shutdown: Shutdown,
    begin: impl FnOnce() -> Pulse,
) -> Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::internal(format!("a worker can't start: {error}")))?;
    LocalSet::new().block_on(&runtime, async {
        let listener =
            Listeners::new(sockets).map_err(|error| Error::internal(format!("a worker can't listen: {error}")))?;
        let pulse = begin();
        spawn_local(async move { pulse.go_on().await });
        accept(listener, common, shutdown).await;
        Ok(())
    })
}

/// How long those are let in at most, after the signal to stop, who knocked before it: a worker may have to wait for a
/// processor. Only who goes on knocking makes it take all of it.
pub(crate) const LAST_CALL: Duration = Duration::from_secs(1);

async fn accept(listener: Listeners, common: Arc<Common>, mut shutdown: Shutdown) {
    /// How long to wait where accepting failed: connections that end give descriptors and memory back.
    const PAUSE: Duration = Duration::from_millis(50);

    let open = Rc::new(Open::default());
    let mut current = Current::new(common);
    let here = shutdown.of_this_thread();
    shutdown.accepting().await;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shutdown.draining() => break,
            // At once, and not with the next connection: what the old state holds is to go. Its sender is in `current`,
            // and so never gone.
            _ = current.newest.changed() => {
                current.refresh();
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok(accepted) => start(accepted, &mut current, &open, &here).await,
            // The client has gone between knocking and being let in, or its network has.
            Err(error) if is_about_one_connection(&error) => {}
            Err(error) => {
                current.shared.common.gate.cannot_accept(&error);
                // Those who knock wait in the kernel's queue.
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    // Connections that the kernel has completed and we have not accepted would be reset by closing the socket, unless
    // another process has it too. New ones come until then, and must not keep it open.
    let until = Instant::now() + LAST_CALL;
    while shutdown.phase() < Phase::Closing && !shutdown.queues_are_served() && Instant::now() < until {
        // Whatever the runtime thinks of tasks that go on for long: it would seem that nobody waits.
        let waiting = timeout(Duration::ZERO, unconstrained(listener.accept())).await;
        let Ok(Ok(accepted)) = waiting else { break };
        start(accepted, &mut current, &open, &here).await;
    }
    drop(listener);
    open.none().await;
}

/// The state in force, as this worker's connections share it.
struct Current {
    newest: watch::Receiver<Arc<Live>>,
    shared: Rc<Shared>,
}

impl Current {
    fn new(common: Arc<Common>) -> Self {
        let mut newest = common.live.subscribe();
        let first = newest.borrow_and_update().clone();
        let metrics = WorkerMetrics::new(common.metrics.clone());
        Self { newest, shared: Rc::new(Shared::new(common, first, metrics, None)) }
    }

    /// No connection that begins after a reload has the old state.
    fn refresh(&mut self) {
        let live = self.newest.borrow_and_update().clone();
        if live.generation != self.shared.live.generation {
            let Shared { common, metrics, .. } = &*self.shared;
            self.shared = Rc::new(Shared::new(common.clone(), live, metrics.clone(), Some(&self.shared)));
        }
    }
}

/// Whether it is only about the connection that was to be accepted (accept(2)).
pub(crate) fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::Interrupted
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::PermissionDenied
    ) || matches!(error.raw_os_error(), Some(libc::EPROTO | libc::ENOPROTOOPT | libc::EHOSTDOWN | libc::EOPNOTSUPP))
}

/// Starts serving a connection, when there is a place for it, or refuses it.
async fn start(accepted: Accepted, current: &mut Current, open: &Rc<Open>, shutdown: &Shutdown) {
    let client = accepted.peer;
    let gate = &current.shared.common.gate;
    // Behind a load balancer, who visits is in the header that is read later.
    let visit = match current.shared.expects_header(client.ip()) {
        true => None,
        false => match gate.visit(client.ip()) {
            Ok(visit) => Some(visit),
            Err(refused) => return refused.reset(accepted.socket),
        },
    };
    let mut closing = shutdown.clone();
    // While it waits for a place, those behind it wait in the kernel's queue.
    let place = tokio::select! {
        biased;
        place = gate.enter() => match place {
            Ok(place) => place,
            Err(refused) => return refused.reset(accepted.socket),
        },
        () = closing.closing() => return,
    };
    // It may have waited for long.
    if current.newest.has_changed().unwrap_or(false) {
        current.refresh();
    }
    let entered = Open::enter(open, place);
    spawn_local(connection::serve(accepted, visit, entered, current.shared.clone(), shutdown.clone()));
}

/// How many connections of this worker are open.
#[derive(Default)]
pub(crate) struct Open {
    count: Cell<usize>,
    ended: Notify,
}

pub(crate) struct Entered {
    open: Rc<Open>,
    _place: limits::Place,
}

impl Open {
    pub(crate) fn enter(this: &Rc<Self>, place: limits::Place) -> Entered {
        this.count.update(|count| count + 1);
        Entered { open: this.clone(), _place: place }
    }

    /// Waits for the end of the last one.
    pub(crate) async fn none(&self) {
        while self.count.get() > 0 {
            self.ended.notified().await;
        }
    }
}

/// Also where the task panicked: a place that is never given back would shrink the server.
impl Drop for Entered {
    fn drop(&mut self) {
        self.open.count.update(|count| count - 1);
        self.open.ended.notify_one();
    }
}
