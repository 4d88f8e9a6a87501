//! What the service manager hears of a server's life, and what keeps its watchdog quiet.

use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qtls_core::Error;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{error, info};

use crate::heartbeats::Heartbeats;
use crate::notify::Notifier;
use crate::observe::metrics::Metrics;
use crate::shutdown::{Phase, Shutdown};

/// How often the line of `systemctl status` is brought up to date.
const STATUS: Duration = Duration::from_secs(5);

/// Tells the service manager, if there is one.
pub(crate) struct Supervisor {
    notifier: Notifier,
    heartbeats: Arc<Heartbeats>,
    metrics: Arc<Metrics>,
    /// The number of the state in force.
    generation: Box<dyn Fn() -> u64 + Send + Sync>,
    shutdown: Shutdown,
    last_reload: Mutex<Option<String>>,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor").field("notifier", &self.notifier).finish_non_exhaustive()
    }
}

impl Supervisor {
    pub(crate) fn new(
        notifier: Notifier,
        heartbeats: Arc<Heartbeats>,
        metrics: Arc<Metrics>,
        generation: impl Fn() -> u64 + Send + Sync + 'static,
        shutdown: Shutdown,
    ) -> Arc<Self> {
        let (generation, last_reload) = (Box::new(generation), Mutex::default());
        Arc::new(Self { notifier, heartbeats, metrics, generation, shutdown, last_reload })
    }

    /// The server accepts connections.
    pub(crate) fn ready(&self) {
        self.notifier.ready(&self.line());
    }

    /// A reload begins.
    pub(crate) fn reloading(&self) {
        self.notifier.reloading();
    }

    /// The reload that began is over; what is in force, serves.
    pub(crate) fn reloaded(&self, outcome: Result<(), &Error>) {
        let told = match outcome {
            Ok(()) => "applied".to_owned(),
            Err(error) => format!("refused: {}", error.one_line()),
        };
        *self.last_reload.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
        self.notifier.ready(&self.line());
    }

    /// The server ends within `at_most`.
    pub(crate) fn stopping(&self, at_most: Duration) {
        self.notifier.stopping(at_most, &self.line());
    }

    /// Another process of the same service is its main process by now.
    pub(crate) fn replaced_by(&self, process: u32) {
        self.notifier.replaced_by(process);
    }

    /// Keeps the line of the status up to date, and the watchdog quiet for as long as no worker hangs. Never returns.
    pub(crate) async fn run(&self) {
        if !self.notifier.is_connected() {
            return pending().await;
        }
        let every = |period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let mut status = every(STATUS);
        // Half of the time that it may take, as sd_watchdog_enabled(3) has it.
        let timeout = self.notifier.watchdog_timeout();
        let mut watchdog = every(timeout.map_or(STATUS, |timeout| timeout / 2).max(Duration::from_millis(1)));
        let mut was_hung = false;
        loop {
            tokio::select! {
                _ = status.tick() => self.notifier.status(&self.line()),
                _ = watchdog.tick() => if let Some(timeout) = timeout {
                    let hung = self.heartbeats.silent(timeout);
                    match (hung.is_empty(), was_hung) {
                        (true, true) => info!("every worker moves again"),
                        (false, false) => {
                            error!(
                                workers = ?hung,
                                "no sign of life for {timeout:?} from a worker: the service manager's watchdog is left to bark"
                            );
                        }
                        _ => {}
                    }
                    was_hung = !hung.is_empty();
                    if hung.is_empty() {
                        self.notifier.watchdog();
                    }
                },
            }
        }
    }

    /// The state, as a line for people.
    fn line(&self) -> String {
        let open = self.metrics.open_connections();
        let connections = format!("{open} connection{} open", if open == 1 { "" } else { "s" });
        let phase = match self.shutdown.phase() {
            Phase::Starting => return "Starting".to_owned(),
            Phase::Running => "Serving",
            Phase::Leaving => "No longer ready",
            Phase::Draining => "Draining",
            Phase::Closing => "Closing",
        };
        let generation = (self.generation)();
        let reload = self.last_reload.lock().unwrap_or_else(PoisonError::into_inner);
        let reload = reload.as_deref().map_or_else(String::new, |told| format!("; last reload {told}"));
        format!("{phase}; {connections}; generation {generation}{reload}")
    }
}
