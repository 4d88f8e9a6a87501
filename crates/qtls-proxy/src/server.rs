//! A server from its plan to its end.
//!
//! The order is fixed: the plan (configuration, credentials) — [`Server::bind`] — the sandbox's place — [`Server::run`]
//! (threads, ready; then a signal, draining, closing). Nothing before `run` starts a thread, since what a sandbox takes
//! away is taken per thread.

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use qtls_core::{Error, Result};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;
use tracing::{error, info, warn};

use crate::http;
use crate::listen;
use crate::memory;
use crate::observe::metrics::Metrics;
use crate::observe::{exposition, logs};
use crate::plan::{Plan, PlanMode};
use crate::shutdown::{Conductor, Phase};
use crate::signing::SigningPool;
use crate::worker::{self, Common, ServerNames, Service};

/// How many signatures may be made at the same time beside the workers' own. Most of such signers wait for a device.
const SIGNING_THREADS: usize = 64;

/// How long connections may take to end once they have been told to.
const CLOSING: Duration = Duration::from_secs(3);

/// A server whose sockets are open.
#[derive(Debug)]
pub struct Server {
    listeners: Vec<TcpListener>,
    metrics_listener: Option<TcpListener>,
    metrics: Arc<Metrics>,
    plan: Plan,
}

impl Server {
    /// Opens the sockets.
    ///
    /// # Errors
    /// A port is in use or not allowed.
    pub fn bind(plan: Plan) -> Result<Self> {
        let key = |key: &'static str| {
            let origins = plan.origins.clone();
            move |error: Error| origins.locate(key, error)
        };
        let listeners = listen::bind(plan.address, plan.config.server.workers()).map_err(key("server.listen_port"))?;
        let metrics_listener = match &plan.config.metrics {
            Some(metrics) => {
                let address = SocketAddr::new(metrics.address, metrics.port);
                listen::bind(address, 1).map_err(key("metrics.port"))?.pop()
            }
            None => None,
        };
        let metrics = Arc::new(Metrics::new()?);
        for credential in plan.endpoint.credentials() {
            metrics.certificate(credential);
        }
        Ok(Self { listeners, metrics_listener, metrics, plan })
    }

    /// Serves until SIGTERM or SIGINT, drains, and returns. A second signal ends at once.
    ///
    /// # Errors
    /// A thread or a runtime can't be started, or a worker died.
    pub fn run(self) -> Result<()> {
        let Self { listeners, metrics_listener, metrics, plan } = self;
        let Plan { config, address, endpoint, mode, .. } = plan;
        raise_descriptor_limit(config.server.max_connections, !matches!(mode, PlanMode::Responder));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(os)?;
        let conductor = Conductor::new();
        let mode = Arc::new(mode);
        let common = Arc::new(Common {
            address,
            names: ServerNames::of(&endpoint),
            endpoint,
            signing: SigningPool::new(SIGNING_THREADS).map_err(os)?,
            metrics: metrics.clone(),
            places: Semaphore::new(usize::try_from(config.server.max_connections).unwrap_or(Semaphore::MAX_PERMITS)),
            limits: config.limits,
        });
        let (ended, mut ends) = mpsc::unbounded_channel();
        let workers = listeners
            .into_iter()
            .enumerate()
            .map(|(index, listener)| {
                let (common, mode, shutdown, ended) = (common.clone(), mode.clone(), conductor.watch(), ended.clone());
                thread::Builder::new()
                    .name(format!("qtls-worker-{index}"))
                    .spawn(move || {
                        // Tells the main thread also where the worker panicked.
                        let _ended = Ended(ended);
                        let service = || service(&mode, &common);
                        worker::run(listener, common.clone(), service, shutdown)
                    })
                    .map_err(os)
            })
            .collect::<Result<Vec<_>>>()?;
        drop(ended);

        let outcome = runtime.block_on(async {
            let mut terminate = signal(SignalKind::terminate()).map_err(os)?;
            let mut interrupt = signal(SignalKind::interrupt()).map_err(os)?;
            let mut hang_up = signal(SignalKind::hangup()).map_err(os)?;
            if let (Some(listener), Some(config)) = (metrics_listener, &config.metrics) {
                exposition::start(listener, config.path.clone(), metrics.clone(), conductor.watch()).map_err(os)?;
                info!("metrics on http://{}:{}{}", config.address, config.port, config.path);
            }
            let open = metrics.clone();
            tokio::spawn(memory::give_back(move || open.open_connections()));
            info!("listening on {address} with {} workers", workers.len());
            let name = loop {
                tokio::select! {
                    _ = terminate.recv() => break "SIGTERM",
                    _ = interrupt.recv() => break "SIGINT",
                    // As logrotate asks for it: the old file has another name by now.
                    _ = hang_up.recv() => match logs::reopen() {
                        Ok(()) => info!("SIGHUP: the log file is open anew; the configuration stays as it was"),
                        Err(error) => error!("SIGHUP: {}", error.one_line()),
                    },
                    _ = ends.recv() => {
                        conductor.advance(Phase::Closing);
                        return Err(Error::internal("a worker ended by itself"));
                    }
                }
            };
            let drain = config.server.drain_timeout;
            info!("{name}: no new connections; open ones may finish within {} s", drain.as_secs());
            conductor.advance(Phase::Draining);
            let all_ended = async { while ends.recv().await.is_some() {} };
            tokio::pin!(all_ended);
            tokio::select! {
                () = &mut all_ended => return Ok(()),
                _ = terminate.recv() => warn!("a second signal: closing what is open"),
                _ = interrupt.recv() => warn!("a second signal: closing what is open"),
                () = tokio::time::sleep(drain) => warn!("drain_timeout is over: closing what is open"),
            }
            conductor.advance(Phase::Closing);
            if timeout(CLOSING, all_ended).await.is_err() {
                warn!("some connections didn't end within {} s of being closed", CLOSING.as_secs());
            }
            Ok(())
        });
        // The metrics server may still be answering; and a thread that hangs in a name lookup must not hold up the end.
        runtime.shutdown_background();
        finish(workers, outcome)
    }
}

struct Ended(mpsc::UnboundedSender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

fn finish(workers: Vec<JoinHandle<Result<()>>>, mut outcome: Result<()>) -> Result<()> {
    for worker in workers {
        // One that hasn't ended by now never will: the process ends without it.
        if !worker.is_finished() {
            continue;
        }
        let ended = worker.join().unwrap_or_else(|_| Err(Error::internal("a worker panicked")));
        if let Err(error) = ended {
            error!("{error}");
            outcome = Err(error);
        }
    }
    if outcome.is_ok() {
        info!("stopped");
    }
    outcome
}

fn service(mode: &PlanMode, common: &Arc<Common>) -> Service {
    let idle = common.limits.idle_timeout;
    match mode {
        PlanMode::Responder => Service::Http(Rc::new(http::Service::responder(idle))),
        PlanMode::Http(upstream) => {
            let observer = common.metrics.clone();
            Service::Http(Rc::new(http::Service::proxy(upstream.clone(), idle, observer)))
        }
        PlanMode::Tcp(upstream) => Service::Tcp(upstream.clone()),
    }
}

/// Each connection takes a descriptor, and one more where it is passed on.
fn raise_descriptor_limit(max_connections: u32, passed_on: bool) {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        warn!("the limit of open files can't be raised: {error}");
    }
    let needed = u64::from(max_connections) * if passed_on { 2 } else { 1 } + 64;
    if let Some(have) = getrlimit(Resource::Nofile).current.filter(|have| *have < needed) {
        warn!(
            "max_connections is {max_connections}, which may need {needed} open files, but the limit is {have}; raise it \
             (LimitNOFILE= in a systemd unit), or lower max_connections"
        );
    }
}

fn os(error: std::io::Error) -> Error {
    Error::internal(error.to_string())
}
