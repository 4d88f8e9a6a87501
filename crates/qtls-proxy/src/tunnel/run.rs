//! Tunnels from their plan to their end, in the order of a server's life (`crate::server`).

use std::os::unix::fs::chown;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use qtls_core::{Error, Result};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use super::audit;
use super::listen::{Listener, Trace};
use super::live::{Common, Live, Tunnelled};
use super::plan::Plan;
use super::standing::Standing;
use super::worker;
use crate::config::{ClientConfig, Loaded};
use crate::course::{Course, Ended, Signals, finish};
use crate::heartbeats::Heartbeats;
use crate::limits::{Gate, Values};
use crate::listen::{self, Origin, Role};
use crate::memory;
use crate::notify::Notifier;
use crate::observe::audit::Cause;
use crate::observe::exposition::Exposition;
use crate::observe::health::Health;
use crate::observe::metrics::Metrics;
use crate::observe::{logs, repeats};
use crate::reload::Reloader;
use crate::sandbox::{self, Entered, Fence, Settings};
use crate::shutdown::{Conductor, Phase};
use crate::supervisor::Supervisor;

/// Reads the configuration once more from where it came from.
pub type Load = Box<dyn Fn() -> Result<Loaded<ClientConfig>> + Send + Sync>;

/// Tunnels whose sockets are open.
#[derive(Debug)]
pub struct Tunnels {
    /// In the order of the plan's tunnels.
    listeners: Vec<Listener>,
    traces: Vec<Trace>,
    metrics_sockets: Vec<listen::Listener>,
    notifier: Notifier,
    metrics: Arc<Metrics>,
    plan: Plan,
    fence: Fence,
}

impl Tunnels {
    /// Opens the sockets. Those of this host become the later user's.
    ///
    /// # Errors
    /// A port or path is in use or not allowed.
    pub fn bind(plan: Plan, settings: &Settings) -> Result<Self> {
        let notifier = Notifier::of_process();
        let (mut listeners, mut traces) = (Vec::new(), Vec::new());
        for route in &plan.routes {
            let located = |error: Error| route.locate(&plan.origins, "listen", error);
            let (listener, trace) = Listener::bind(&route.listen, route.mode).map_err(located)?;
            if let (Some(path), Some(target)) = (route.listen.path(), &settings.target) {
                chown(path, Some(target.account.uid), Some(target.gid)).map_err(|error| {
                    located(Error::configuration(format!("{} can't be given away: {error}", path.display())))
                })?;
            }
            listeners.push(listener);
            traces.extend(trace);
        }
        let mut metrics_sockets = Vec::new();
        for (key, address) in plan.config.metrics.iter().flat_map(crate::config::Metrics::sockets) {
            let bound = listen::bind(address, 1).map_err(|error| plan.origins.locate(key, error))?;
            metrics_sockets.extend(bound.into_iter().map(|socket| listen::Listener {
                role: Role::Metrics,
                address,
                origin: Origin::Bound,
                socket,
            }));
        }
        let metrics = Arc::new(Metrics::of_tunnels()?);
        Ok(Self { listeners, traces, metrics_sockets, notifier, metrics, plan, fence: Fence::none() })
    }

    /// Gives up what will not be needed, says so in the log, and warns of what will be missed.
    ///
    /// # Errors
    /// The user can't be switched to; or a part is refused, and all are required.
    pub fn enter_sandbox(&mut self, settings: &Settings) -> Result<()> {
        let Entered { state, fence, problems } = sandbox::enter(settings, &self.plan.needs, &self.plan.origins)?;
        logs::release();
        info!("sandbox ({}): {state}", settings.mode);
        if let Some((reasons, hints)) = state.refusals() {
            warn!("sandbox: the system refuses {reasons}; the tunnels run without; {hints}");
        }
        for problem in problems {
            warn!("{}", problem.one_line());
        }
        self.metrics.sandbox(&state);
        self.fence = fence;
        Ok(())
    }

    /// Serves until SIGTERM or SIGINT, drains, and returns. A second signal ends at once. At SIGHUP, and when files have
    /// changed, `load` gives the configuration anew.
    ///
    /// # Errors
    /// A thread or a runtime can't be started, or a worker died.
    pub fn run(self, load: Load) -> Result<()> {
        let Self { listeners, traces, metrics_sockets, notifier, metrics, plan, fence } = self;
        let Plan { config, routes, watched, .. } = plan;
        let workers = usize::from(config.client.worker_threads);
        let heartbeats = Heartbeats::new(workers, notifier.watchdog_timeout());
        let runtime = Builder::new_current_thread().enable_all().build().map_err(os)?;
        let conductor = Conductor::starting();
        let names: Vec<_> = routes.iter().map(|route| route.name.clone()).collect();
        let common = Arc::new(Common {
            gate: Gate::new(Values::of_tunnels(&config), metrics.clone()),
            standings: names.iter().map(|name| Standing::new(metrics.tunnel(name))).collect(),
            live: watch::Sender::new(Arc::new(Live { generation: 1, config, routes })),
            metrics: metrics.clone(),
        });
        let (ended, ends) = mpsc::unbounded_channel();
        let mut threads = Vec::with_capacity(workers);
        for index in 0..workers {
            let share = listeners.iter().map(Listener::share).collect::<std::io::Result<Vec<_>>>().map_err(os)?;
            let (common, shutdown, ended) = (common.clone(), conductor.watch(), ended.clone());
            let heartbeats = heartbeats.clone();
            let thread = thread::Builder::new().name(format!("qtls-worker-{index}")).spawn(move || {
                // Tells the main thread also where the worker panicked.
                let _ended = Ended(ended);
                worker::run(share, common, shutdown, index == 0, || heartbeats.begin(index))
            });
            threads.push(thread.map_err(os)?);
        }
        // Closing them ends a socket only when no worker has it any more.
        drop((ended, listeners));

        let live = common.live.subscribe();
        let generation = move || live.borrow().generation;
        let supervisor = Supervisor::new(notifier, heartbeats.clone(), metrics.clone(), generation, conductor.watch());
        let outcome = runtime.block_on(async {
            let signals = Signals::new().map_err(os)?;
            let hang_up = signal(SignalKind::hangup()).map_err(os)?;
            let open = metrics.clone();
            tokio::spawn(memory::give_back(move || open.open_connections()));
            tokio::spawn(common.gate.clone().watch());
            tokio::spawn(repeats::summarise(conductor.watch()));
            let state = Box::new(Tunnelled { load, fence, common: common.clone() });
            let reloader = Reloader { state, metrics: metrics.clone(), supervisor: supervisor.clone() };
            tokio::spawn(reloader.run(hang_up, watched, conductor.watch()));
            let mut course = Course { metrics: &metrics, conductor: &conductor, supervisor, signals, ends };
            tokio::select! {
                () = heartbeats.all_begun() => {}
                _ = course.ends.recv() => {
                    conductor.advance(Phase::Closing);
                    return Err(Error::internal("a worker ended before it began"));
                }
            }
            if !metrics_sockets.is_empty() {
                let exposition = Exposition {
                    subject: Box::new(common.live.subscribe()),
                    metrics: metrics.clone(),
                    health: Health { heartbeats, shutdown: conductor.watch() },
                    dashboard: None,
                };
                exposition.start(metrics_sockets).map_err(os).inspect_err(|_| conductor.advance(Phase::Closing))?;
            }
            conductor.advance(Phase::Running);
            course.supervisor.ready();
            let telling = course.supervisor.clone();
            tokio::spawn(async move { telling.run().await });
            audit::started(&common.live.borrow());
            for name in names {
                info!("listening on {name}");
            }
            let cause = tokio::select! {
                name = course.signals.next() => name,
                _ = course.ends.recv() => {
                    conductor.advance(Phase::Closing);
                    return Err(Error::internal("a worker ended by itself"));
                }
            };
            let drain = common.live.borrow().config.client.drain_timeout;
            // Nobody who comes now gets in.
            drop(traces);
            if let Some(why) = course.leave(cause, Duration::ZERO, drain).await {
                course.close(&why).await;
            }
            Ok(Cause::Signal(cause))
        });
        // The metrics server may still be answering; and a thread that hangs in a name lookup must not hold up the end.
        runtime.shutdown_background();
        finish(threads, outcome)
    }
}

fn os(error: std::io::Error) -> Error {
    Error::internal(error.to_string())
}
