//! A server from its plan to its end.
//!
//! The order is fixed: the plan (configuration, credentials) — [`Server::bind`] — [`Server::enter_sandbox`] —
//! [`Server::run`] (threads, ready; then a signal, draining, closing). Nothing before `run` starts a thread, since what a
//! sandbox takes away is taken per thread.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use qtls_core::{Error, Result};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::course::{CLOSING, Course, Ended, MARGIN, OVER, Signals, all_ended, drained, finish};
use crate::handover::{Attendant, Consent, Takeover};
use crate::heartbeats::Heartbeats;
use crate::key_log;
use crate::limits::{Gate, Values};
use crate::listen::{self, Listener, Origin};
use crate::live::Live;
use crate::memory;
use crate::observe::audit::{self, Cause};
use crate::observe::dashboard::Dashboard;
use crate::observe::exposition::Exposition;
use crate::observe::health::Health;
use crate::observe::metrics::Metrics;
use crate::observe::{logs, repeats};
use crate::plan::Plan;
use crate::redirect::Redirector;
use crate::reload::{Load, Reloader, Served};
use crate::sandbox::{self, Entered, Fence};
use crate::shutdown::{Conductor, Phase};
use crate::signing::SigningPool;
use crate::sockets::{Sockets, Succession};
use crate::starttls::cancel::Sessions;
use crate::supervisor::Supervisor;
use crate::upstream::OwnAddresses;
use crate::worker::{self, Common};

/// How many signatures may be made at the same time beside the workers' own. Most of such signers wait for a device.
const SIGNING_THREADS: usize = 64;

/// A server whose sockets are open.
#[derive(Debug)]
pub struct Server {
    sockets: Sockets,
    metrics: Arc<Metrics>,
    own: Arc<OwnAddresses>,
    plan: Plan,
    fence: Fence,
}

impl Server {
    /// Opens the sockets, or takes them over.
    ///
    /// # Errors
    /// A port is in use or not allowed; what systemd passed can't be served; the process that serves so far hands nothing
    /// over.
    pub fn bind(plan: Plan) -> Result<Self> {
        key_log::open().map_err(|error| plan.origins.locate("tls.dangerous_key_log", error))?;
        let sockets = Sockets::open(&plan)?;
        let metrics = Arc::new(Metrics::new()?);
        let own = Arc::new(OwnAddresses::new(sockets.tls.iter().map(|listener| listener.address)));
        plan.hosts.settle_in(&metrics, &own);
        metrics.counts_sessions(plan.hosts.session_counters());
        Ok(Self { sockets, metrics, own, plan, fence: Fence::none() })
    }

    /// Gives up what the server will not need, says so in the log, and warns of what it will miss.
    ///
    /// # Errors
    /// The user can't be switched to; or a part is refused, and all are required.
    pub fn enter_sandbox(&mut self, settings: &sandbox::Settings) -> Result<()> {
        let Entered { state, fence, problems } = sandbox::enter(settings, &self.plan.needs, &self.plan.origins)?;
        logs::release();
        info!("sandbox ({}): {state}", settings.mode);
        if let Some((reasons, hints)) = state.refusals() {
            warn!("sandbox: the system refuses {reasons}; the server runs without; {hints}");
        }
        for problem in problems {
            warn!("{}", problem.one_line());
        }
        self.metrics.sandbox(&state);
        self.fence = fence;
        Ok(())
    }

    /// Serves until SIGTERM or SIGINT, or until another process has taken over, drains, and returns. A second signal ends
    /// at once. At SIGHUP, and when files have changed, `load` gives the configuration anew.
    ///
    /// # Errors
    /// A thread or a runtime can't be started, a worker died, or the process that serves so far does not let go.
    pub fn run(self, load: Load) -> Result<()> {
        let Self { sockets, metrics, own, plan, fence } = self;
        let Sockets { tls, metrics: metrics_sockets, redirect, notifier, succession } = sockets;
        let Plan { config, address, hosts, watched, .. } = plan;
        let workers = config.server.workers();
        let heartbeats = Heartbeats::new(workers, notifier.watchdog_timeout());
        let runtime = Builder::new_current_thread().enable_all().build().map_err(os)?;
        let conductor = Conductor::starting();
        let common = Arc::new(Common {
            address,
            signing: SigningPool::new(SIGNING_THREADS).map_err(os)?,
            metrics: metrics.clone(),
            own,
            gate: Gate::new(Values::of(&config, &hosts), metrics.clone()),
            sessions: Sessions::default(),
            live: watch::Sender::new(Arc::new(Live::new(1, config, hosts))),
        });
        let places = told(&tls);
        let shares = listen::distribute(tls.into_iter().map(|listener| listener.socket).collect(), workers);
        let (ended, ends) = mpsc::unbounded_channel();
        let workers = shares
            .map_err(os)?
            .into_iter()
            .enumerate()
            .map(|(index, sockets)| {
                let (common, shutdown, ended) = (common.clone(), conductor.watch(), ended.clone());
                let heartbeats = heartbeats.clone();
                thread::Builder::new()
                    .name(format!("qtls-worker-{index}"))
                    .spawn(move || {
                        // Tells the main thread also where the worker panicked.
                        let _ended = Ended(ended);
                        worker::run(sockets, common, shutdown, || heartbeats.begin(index))
                    })
                    .map_err(os)
            })
            .collect::<Result<Vec<_>>>()?;
        // Who was asked to go elsewhere is waited for, as those who are served.
        let plain = Plain { listeners: redirect, busy: ended };

        let live = common.live.subscribe();
        let generation = move || live.borrow().generation;
        let supervisor = Supervisor::new(notifier, heartbeats.clone(), metrics.clone(), generation, conductor.watch());
        let outcome = runtime.block_on(async {
            let signals = Signals::new().map_err(os)?;
            let hang_up = signal(SignalKind::hangup()).map_err(os)?;
            let open = metrics.clone();
            tokio::spawn(memory::give_back(move || open.open_connections()));
            tokio::spawn(common.gate.clone().watch());
            common.live.borrow().hosts.care();
            tokio::spawn(repeats::summarise(conductor.watch()));
            let state = Box::new(Served { load, fence, common: common.clone() });
            let reloader = Reloader { state, metrics: metrics.clone(), supervisor: supervisor.clone() };
            tokio::spawn(reloader.run(hang_up, watched, conductor.watch()));
            let course = Course { metrics: &metrics, conductor: &conductor, supervisor, signals, ends };
            let mut life = Life { common: &common, course };
            let started = life.start(heartbeats, metrics_sockets, plain, succession).await;
            let (attendant, takeovers) = started.inspect_err(|_| conductor.advance(Phase::Closing))?;
            audit::started(&common.live.borrow());
            for place in places {
                info!("listening on {place} with {} workers", workers.len());
            }
            life.serve(attendant, takeovers).await
        });
        // The metrics server may still be answering; and a thread that hangs in a name lookup must not hold up the end.
        runtime.shutdown_background();
        finish(workers, outcome)
    }
}

/// The sockets of plain HTTP, and what is held while somebody is answered there.
struct Plain {
    listeners: Vec<Listener>,
    busy: mpsc::UnboundedSender<()>,
}

/// Why a server stops.
enum Stop {
    Signal(&'static str),
    /// Another process serves the same sockets.
    Replaced(Takeover),
}

type Takeovers = mpsc::UnboundedReceiver<Takeover>;

/// What the main thread does while the workers serve.
struct Life<'a> {
    common: &'a Common,
    course: Course<'a>,
}

impl Life<'_> {
    /// Lets the workers accept, as soon as each is there and the process before is ready to let go.
    async fn start(
        &mut self,
        heartbeats: Arc<Heartbeats>,
        metrics_sockets: Vec<Listener>,
        plain: Plain,
        succession: Option<Succession>,
    ) -> Result<(Option<Attendant>, Option<Takeovers>)> {
        let exposition = Exposition {
            subject: Box::new(self.common.live.subscribe()),
            metrics: self.common.metrics.clone(),
            health: Health { heartbeats: heartbeats.clone(), shutdown: self.course.conductor.watch() },
            dashboard: Some(Dashboard::new(self.common.address)),
        };
        tokio::select! {
            () = heartbeats.all_begun() => {}
            _ = self.course.ends.recv() => return Err(Error::internal("a worker ended before it began")),
        }
        let (predecessor, mine) = match succession {
            Some(Succession { predecessor, control, offer }) => (predecessor, Some((control, offer))),
            None => (None, None),
        };
        // Until it lets go, the process before answers on all of the sockets.
        let conversing = match predecessor {
            Some((predecessor, taken)) => match predecessor.ready(taken).await? {
                Consent::Given(conversing) => Some(conversing),
                Consent::Alone => None,
            },
            None => None,
        };
        self.course.conductor.advance(Phase::Running);
        let Plain { listeners, busy } = plain;
        let redirector = Redirector {
            live: self.common.live.subscribe(),
            metrics: self.common.metrics.clone(),
            shutdown: self.course.conductor.watch(),
            _busy: busy,
        };
        redirector.start(listeners).map_err(os)?;
        if !metrics_sockets.is_empty() {
            exposition.start(metrics_sockets).map_err(os)?;
        }
        if let Some(conversing) = conversing {
            conversing.serving().await;
        }
        let attended = mine.map(|(control, offer)| control.attend(offer)).transpose().map_err(os)?;
        self.course.supervisor.ready();
        let supervisor = self.course.supervisor.clone();
        tokio::spawn(async move { supervisor.run().await });
        Ok(attended.unzip())
    }

    /// Waits for the reason to stop, and conducts the workers to their end.
    async fn serve(mut self, attendant: Option<Attendant>, mut takeovers: Option<Takeovers>) -> Result<Cause> {
        let takeover = async {
            match &mut takeovers {
                Some(takeovers) => takeovers.recv().await,
                None => None,
            }
        };
        let stop = tokio::select! {
            name = self.course.signals.next() => Stop::Signal(name),
            Some(takeover) = takeover => Stop::Replaced(takeover),
            _ = self.course.ends.recv() => {
                self.course.conductor.advance(Phase::Closing);
                return Err(Error::internal("a worker ended by itself"));
            }
        };
        // An offer that stood would keep the sockets open.
        if let Some(attendant) = &attendant {
            attendant.close();
        }
        let (cause, outlived) = match stop {
            Stop::Signal(name) => {
                let (delay, drain) = self.times();
                let outlived = self.course.leave(name, delay, drain).await;
                if let Some(attendant) = attendant {
                    attendant.remove();
                }
                (Cause::Signal(name), outlived)
            }
            Stop::Replaced(takeover) => (Cause::Replaced(takeover.process), self.let_go(takeover).await),
        };
        if let Some(why) = outlived {
            self.course.close(&why).await;
        }
        Ok(cause)
    }

    /// Drains beside the process that serves by now, and says why that ended if it was not the end of the last connection.
    async fn let_go(&mut self, takeover: Takeover) -> Option<String> {
        let (_, drain) = self.times();
        let connections = u64::try_from(self.common.metrics.open_connections()).unwrap_or_default();
        info!(
            process = takeover.process,
            connections,
            "another process has taken over: no new connections; open ones may finish within {} s",
            drain.as_secs()
        );
        self.course.conductor.replaced(takeover.complete);
        if takeover.same_service {
            self.course.supervisor.replaced_by(takeover.process);
        } else {
            self.course.supervisor.stopping(drain + CLOSING + MARGIN);
        }
        takeover.done(connections).await;
        let drained = drained(&self.common.metrics, drain);
        tokio::pin!(drained);
        let mut asked = false;
        loop {
            tokio::select! {
                () = all_ended(&mut self.course.ends) => return None,
                () = &mut drained => return Some(OVER.to_owned()),
                // A service manager that stops the whole service means the new process, which drains from now on; so does
                // this one.
                name = self.course.signals.next() => {
                    if asked {
                        return Some(format!("{name}, a second signal"));
                    }
                    info!("{name}: stopping already, since another process has taken over");
                    asked = true;
                }
            }
        }
    }

    /// `drain_delay` and `drain_timeout`.
    fn times(&self) -> (Duration, Duration) {
        let live = self.common.live.borrow();
        (live.config.server.drain_delay, live.config.server.drain_timeout)
    }
}

/// Each address that is listened on, and how it came about.
fn told(listeners: &[Listener]) -> Vec<String> {
    let mut places = Vec::new();
    for listener in listeners {
        let address = listener.address;
        let place = match listener.origin {
            Origin::Bound => address.to_string(),
            Origin::Activated => format!("{address}, a socket of systemd,"),
            Origin::HandedOver(_) => format!("{address}, the socket of the process before,"),
        };
        if !places.contains(&place) {
            places.push(place);
        }
    }
    places
}

fn os(error: std::io::Error) -> Error {
    Error::internal(error.to_string())
}
