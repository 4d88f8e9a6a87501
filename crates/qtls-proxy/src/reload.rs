//! Reload: the same sources are read again, checked whole, and take the old state's place, or are refused whole.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use qtls_core::{Error, Fault, Result};
use tokio::signal::unix::Signal;
use tokio::task::spawn_blocking;
use tracing::{error, info, warn};

use crate::config::{Loaded, ServerConfig};
use crate::key_log;
use crate::limits::Values;
use crate::live::Live;
use crate::observe::audit::{self, Cause};
use crate::observe::logs;
use crate::observe::metrics::Metrics;
use crate::plan::{Plan, located};
use crate::sandbox::{Fence, Needs};
use crate::shutdown::{Phase, Shutdown};
use crate::supervisor::Supervisor;
use crate::watch::{Watched, Watcher};
use crate::worker::Common;

/// Reads the configuration once more from where it came from.
pub type Load = Box<dyn Fn() -> Result<Loaded<ServerConfig>> + Send + Sync>;

/// What a reload comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trigger {
    /// The signal of an operator, or of logrotate.
    HangUp,
    /// Files that the state was read from are others now.
    Files,
}

impl From<Trigger> for Cause {
    fn from(trigger: Trigger) -> Self {
        match trigger {
            Trigger::HangUp => Self::Signal("SIGHUP"),
            Trigger::Files => Self::Files,
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HangUp => "SIGHUP",
            Self::Files => "files have changed",
        })
    }
}

/// Whose state a reload replaces.
pub(crate) trait Renew: Send + Sync + 'static {
    /// Reads the sources again, and puts a new state in the place of the old one. May take its time.
    ///
    /// # Errors
    /// The new state is refused, and the old one stays.
    fn renew(&self, trigger: Trigger) -> Result<Applied>;
}

/// Carries reloads out, one after the other.
pub(crate) struct Reloader {
    pub(crate) state: Box<dyn Renew>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) supervisor: Arc<Supervisor>,
}

/// A reload that was applied.
pub(crate) struct Applied {
    pub(crate) generation: u64,
    /// What is to be watched from now on.
    pub(crate) watched: Watched,
    /// What differs from the state before, and needs a restart.
    pub(crate) kept: Vec<String>,
}

/// A server's state.
pub(crate) struct Served {
    pub(crate) load: Load,
    /// What was left open at start.
    pub(crate) fence: Fence,
    pub(crate) common: Arc<Common>,
}

impl Reloader {
    /// Reloads at each SIGHUP, and each time that watched files have changed. Several requests during one reload are one.
    pub(crate) async fn run(self, mut hang_up: Signal, watched: Watched, shutdown: Shutdown) {
        let this = Arc::new(self);
        let mut watcher = Watcher::new(watched);
        loop {
            let trigger = tokio::select! {
                received = hang_up.recv() => match received {
                    Some(()) => Trigger::HangUp,
                    None => return,
                },
                () = watcher.changed() => Trigger::Files,
            };
            if trigger == Trigger::HangUp {
                // As logrotate asks for it, whether or not the configuration is good: the old files have other names by
                // now.
                if let Err(error) = logs::reopen() {
                    error!("{trigger}: {}", error.one_line());
                }
            }
            if shutdown.phase() > Phase::Running {
                info!("{trigger}: not reloaded, since the server is stopping");
                watcher.follow(watcher.look());
                continue;
            }
            let look = watcher.look();
            this.supervisor.reloading();
            // Reading keys may take a while (passphrases are slow on purpose), and so may file systems.
            let reloader = this.clone();
            let outcome = spawn_blocking(move || reloader.state.renew(trigger)).await;
            let outcome = outcome.unwrap_or_else(|_| Err(Error::internal("the reload panicked")));
            this.tell(trigger, &outcome);
            this.supervisor.reloaded(outcome.as_ref().map(|_| ()));
            watcher.follow(outcome.map_or(look, |applied| applied.watched));
        }
    }

    fn tell(&self, trigger: Trigger, outcome: &Result<Applied>) {
        self.metrics.reload(trigger, outcome.as_ref().err().map(Error::one_line));
        match outcome {
            Ok(Applied { generation, kept, .. }) => {
                info!(generation, "{trigger}: reloaded; new connections have the new state");
                for line in kept {
                    warn!("{trigger}: not changed without a restart: {line}");
                }
            }
            Err(error) => {
                audit::reload_refused(trigger.into(), error);
                let fault = if error.fault() == Fault::Internal { "a bug" } else { "refused" };
                error!("{trigger}: {fault}, the old state stays in force: {}", error.one_line());
            }
        }
    }
}

impl Renew for Served {
    fn renew(&self, trigger: Trigger) -> Result<Applied> {
        let loaded = (self.load)()?;
        // Before the files are read: what the sandbox refuses would look like a fault of their permissions.
        self.fence.covers(&Needs::of(&loaded.value, loaded.file.as_deref()), &loaded.origins)?;
        let old = self.common.live.borrow().clone();
        let plan = Plan::succeeding(loaded, &old.hosts)?;
        if let Some(problem) = plan.problems.first()
            && all_valid(&old)
        {
            return Err(problem.clone());
        }
        key_log::open().map_err(|error| plan.origins.locate("tls.dangerous_key_log", error))?;
        let Plan { mut config, hosts, origins, warnings, problems, watched, .. } = plan;
        for warning in &warnings {
            warn!("{trigger}: {warning}");
        }
        for problem in &problems {
            warn!("{trigger}: {}", problem.one_line());
        }
        let kept = keep(&old.config, &mut config);
        let live = Arc::new(Live::new(old.generation + 1, config, hosts));
        let generation = live.generation;
        if live.config.logging != old.config.logging {
            logs::change(&live.config.logging, |error| located(&origins, error));
        }
        audit::reloaded(trigger.into(), &old, &live);
        live.hosts.settle_in(&self.common.metrics, &self.common.own);
        // This runs beside the runtime of the main thread, and so inside it.
        live.hosts.care();
        self.common.gate.set(Values::of(&live.config, &live.hosts));
        self.common.live.send_replace(live);
        Ok(Applied { generation, watched, kept })
    }
}

fn all_valid(live: &Live) -> bool {
    let now = SystemTime::now();
    live.hosts.credentials().all(|credential| credential.validity(now).is_valid())
}

/// Takes over from `old` what would need another socket or another process, and says what differs, a key each.
fn keep(old: &ServerConfig, new: &mut ServerConfig) -> Vec<String> {
    let mut kept = Vec::new();
    let workers = |config: &ServerConfig| config.server.workers();
    if workers(old) != workers(new) {
        kept.push(format!("server.worker_threads ({}; still {})", workers(new), workers(old)));
    }
    new.server.worker_threads = old.server.worker_threads;
    if new.server.handover != old.server.handover {
        kept.push("server.handover".to_owned());
        new.server.handover.clone_from(&old.server.handover);
    }
    keep_value(&mut kept, "server.listen_address", old.server.listen_address, &mut new.server.listen_address);
    keep_value(&mut kept, "server.listen_port", old.server.listen_port, &mut new.server.listen_port);
    match (&old.redirect, &mut new.redirect) {
        (Some(redirect), Some(new)) if redirect.port == new.port && redirect.address == new.address => {}
        (Some(redirect), Some(new)) => {
            kept.push("redirect.port and redirect.address".to_owned());
            (new.port, new.address) = (redirect.port, redirect.address);
        }
        (None, None) => {}
        (redirect, new) => {
            let name = |is_there| if is_there { "there" } else { "not there" };
            kept.push(format!("redirect ({}; still {})", name(new.is_some()), name(redirect.is_some())));
            new.clone_from(redirect);
        }
    }
    match (&old.metrics, &mut new.metrics) {
        (Some(old), Some(new)) => {
            keep_value(&mut kept, "metrics.address", old.address, &mut new.address);
            keep_value(&mut kept, "metrics.port", old.port, &mut new.port);
            if new.dashboard_address != old.dashboard_address {
                let name = |address: Option<IpAddr>| address.map_or("null".to_owned(), |address| address.to_string());
                let (wanted, still) = (name(new.dashboard_address), name(old.dashboard_address));
                kept.push(format!("metrics.dashboard_address ({wanted}; still {still})"));
                new.dashboard_address = old.dashboard_address;
            }
        }
        (old, new) => {
            if old.is_some() != new.is_some() {
                kept.push(format!("metrics.enabled ({}; still {})", new.is_some(), old.is_some()));
            }
            new.clone_from(old);
        }
    }
    if new.server.user != old.server.user {
        kept.push("server.user".to_owned());
        new.server.user.clone_from(&old.server.user);
    }
    keep_value(&mut kept, "sandbox", old.sandbox, &mut new.sandbox);
    kept
}

pub(crate) fn keep_value<T: PartialEq + Copy + fmt::Display>(kept: &mut Vec<String>, key: &str, old: T, new: &mut T) {
    if *new != old {
        kept.push(format!("{key} ({new}; still {old})"));
        *new = old;
    }
}
