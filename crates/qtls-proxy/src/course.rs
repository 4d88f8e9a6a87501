//! What the main thread does while the others serve: it waits for a signal, lets open connections finish, and ends.
//!
//! The same for a server and for tunnels.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use qtls_core::{Error, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use crate::observe::audit::{self, Cause};
use crate::observe::metrics::Metrics;
use crate::observe::repeats;
use crate::shutdown::{Conductor, Phase};
use crate::supervisor::Supervisor;

/// How long connections may take to end once they have been told to.
pub(crate) const CLOSING: Duration = Duration::from_secs(3);

/// What the service manager grants beyond all that, for the end itself.
pub(crate) const MARGIN: Duration = Duration::from_secs(2);

/// Why open connections are closed.
pub(crate) const OVER: &str = "drain_timeout is over";

/// How often a process that drains tells how many connections are open.
const STILL: Duration = Duration::from_secs(10);

/// The signals that stop a process.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The way of a process to its end.
pub(crate) struct Course<'a> {
    pub(crate) metrics: &'a Metrics,
    pub(crate) conductor: &'a Conductor,
    pub(crate) supervisor: Arc<Supervisor>,
    pub(crate) signals: Signals,
    /// One for each worker that ended.
    pub(crate) ends: mpsc::UnboundedReceiver<()>,
}

impl Course<'_> {
    /// Drains, and says why that ended if it was not the end of the last connection. For `delay`, new connections are
    /// still accepted.
    pub(crate) async fn leave(&mut self, name: &str, delay: Duration, drain: Duration) -> Option<String> {
        let leaving = if delay.is_zero() { Phase::Draining } else { Phase::Leaving };
        self.conductor.advance(leaving);
        self.supervisor.stopping(delay + drain + CLOSING + MARGIN);
        if leaving == Phase::Leaving {
            info!("{name}: no longer ready; new connections are accepted for {} s more", delay.as_secs());
            tokio::select! {
                name = self.signals.next() => return Some(format!("{name}, a second signal")),
                () = sleep(delay) => {}
            }
        }
        info!("{name}: no new connections; open ones may finish within {} s", drain.as_secs());
        self.conductor.advance(Phase::Draining);
        let metrics = self.metrics;
        tokio::select! {
            () = all_ended(&mut self.ends) => None,
            name = self.signals.next() => Some(format!("{name}, a second signal")),
            () = drained(metrics, drain) => Some(OVER.to_owned()),
        }
    }

    /// Closes what is still open.
    pub(crate) async fn close(&mut self, why: &str) {
        warn!("{why}: closing what is open");
        self.conductor.advance(Phase::Closing);
        if timeout(CLOSING, all_ended(&mut self.ends)).await.is_err() {
            warn!("some connections didn't end within {} s of being closed", CLOSING.as_secs());
        }
    }
}

/// Waits for the end of each worker.
pub(crate) async fn all_ended(ends: &mut mpsc::UnboundedReceiver<()>) {
    while ends.recv().await.is_some() {}
}

/// Waits for so long, and tells how many connections are still open.
pub(crate) async fn drained(metrics: &Metrics, timeout: Duration) {
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        sleep(left.min(STILL)).await;
        if left <= STILL {
            return;
        }
        let connections = metrics.open_connections();
        info!(connections, "still open; at most {} s more", (left - STILL).as_secs());
    }
}

/// Tells the main thread of the end of a worker, also where that panicked.
pub(crate) struct Ended(pub(crate) mpsc::UnboundedSender<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// The last words, when all is over.
pub(crate) fn finish(workers: Vec<JoinHandle<Result<()>>>, mut outcome: Result<Cause>) -> Result<()> {
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
    repeats::flush(true);
    audit::stopped(*outcome.as_ref().unwrap_or(&Cause::Itself), outcome.as_ref().err());
    outcome.map(|_| info!("stopped"))
}
