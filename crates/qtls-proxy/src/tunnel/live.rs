//! What all connections of the tunnels share, and what a reload replaces of it.

use std::sync::Arc;

use qtls_core::{Error, Result};
use tokio::sync::watch;
use tracing::warn;

use super::audit;
use super::plan::{Plan, Route};
use super::run::Load;
use super::standing::Standing;
use crate::config::{self, ClientConfig};
use crate::limits::{Gate, Values};
use crate::observe::exposition::Subject;
use crate::observe::logs;
use crate::observe::metrics::Metrics;
use crate::observe::view::{Certificate, View};
use crate::plan::located;
use crate::reload::{Applied, Renew, Trigger, keep_value};
use crate::sandbox::{Fence, Needs};
use crate::shutdown::Phase;

/// The state that a reload replaces. It never changes; a connection keeps the one that it began with.
#[derive(Debug)]
pub(super) struct Live {
    /// Counts the states, from 1 at start.
    pub(super) generation: u64,
    /// The configuration in force. What only a restart can change has the value that it had at start.
    pub(super) config: ClientConfig,
    /// By the index of the tunnel, which stays for the life of the process.
    pub(super) routes: Vec<Arc<Route>>,
}

/// What all workers share, for the life of the process.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) metrics: Arc<Metrics>,
    /// How many connections there may be, and whose.
    pub(super) gate: Arc<Gate>,
    /// Whether each tunnel's server can be reached.
    pub(super) standings: Vec<Standing>,
    pub(super) live: watch::Sender<Arc<Live>>,
}

impl Subject for watch::Receiver<Arc<Live>> {
    fn config(&self) -> Option<config::Metrics> {
        self.borrow().config.metrics.clone()
    }

    fn view(&self, phase: Phase) -> View {
        let live = self.borrow();
        // One for all tunnels.
        let credential = live.routes.iter().find_map(|route| route.credential.as_ref());
        View {
            generation: live.generation,
            ready: phase == Phase::Running,
            phase: phase.name(),
            certificates: credential.map(Certificate::now).into_iter().collect(),
            upstreams: Vec::new(),
        }
    }
}

/// The state of the tunnels.
pub(super) struct Tunnelled {
    pub(super) load: Load,
    /// What was left open at start.
    pub(super) fence: Fence,
    pub(super) common: Arc<Common>,
}

impl Renew for Tunnelled {
    fn renew(&self, trigger: Trigger) -> Result<Applied> {
        let loaded = (self.load)()?;
        // Before the files are read: what the sandbox refuses would look like a fault of their permissions.
        self.fence.covers(&Needs::of_tunnels(&loaded.value, loaded.file.as_deref()), &loaded.origins)?;
        let old = self.common.live.borrow().clone();
        let Plan { mut config, origins, routes, warnings, problems, watched, .. } = Plan::new(loaded)?;
        if let Some(problem) = problems.first()
            && old.routes.iter().all(|route| is_valid(route))
        {
            return Err(problem.clone());
        }
        for warning in &warnings {
            warn!("{trigger}: {warning}");
        }
        for problem in &problems {
            warn!("{trigger}: {}", problem.one_line());
        }
        let mut kept = keep(&old.config, &mut config);
        let routes = same_places(&old.routes, routes, &mut kept);
        let live = Arc::new(Live { generation: old.generation + 1, config, routes });
        let generation = live.generation;
        if live.config.logging != old.config.logging {
            logs::change(&live.config.logging, |error: Error| located(&origins, error));
        }
        self.common.gate.set(Values::of_tunnels(&live.config));
        audit::reloaded(trigger.into(), &old, &live);
        self.common.live.send_replace(live);
        Ok(Applied { generation, watched, kept })
    }
}

fn is_valid(route: &Route) -> bool {
    let now = std::time::SystemTime::now();
    route.credential.as_ref().is_none_or(|credential| credential.validity(now).is_valid())
}

/// The new tunnels, in the places of the old ones: sockets are opened and closed at a restart only.
fn same_places(old: &[Arc<Route>], mut new: Vec<Arc<Route>>, kept: &mut Vec<String>) -> Vec<Arc<Route>> {
    let mut routes = Vec::with_capacity(old.len());
    for route in old {
        match new.iter().position(|new| new.listen == route.listen) {
            Some(index) => {
                let renewed = new.swap_remove(index);
                if renewed.mode != route.mode {
                    kept.push(format!("mode of the tunnel {}", route.name));
                }
                routes.push(renewed);
            }
            None => {
                kept.push(format!("the tunnel {}, which is no longer configured and goes on", route.name));
                routes.push(route.clone());
            }
        }
    }
    kept.extend(new.iter().map(|route| format!("the tunnel {}, which is new", route.name)));
    routes
}

/// Takes over from `old` what would need another socket or another process, and says what differs, a key each.
fn keep(old: &ClientConfig, new: &mut ClientConfig) -> Vec<String> {
    let mut kept = Vec::new();
    keep_value(&mut kept, "client.worker_threads", old.client.worker_threads, &mut new.client.worker_threads);
    match (&old.metrics, &mut new.metrics) {
        (Some(old), Some(new)) => {
            keep_value(&mut kept, "metrics.address", old.address, &mut new.address);
            keep_value(&mut kept, "metrics.port", old.port, &mut new.port);
        }
        (old, new) => {
            if old.is_some() != new.is_some() {
                kept.push(format!("metrics.enabled ({}; still {})", new.is_some(), old.is_some()));
            }
            new.clone_from(old);
        }
    }
    if new.client.user != old.client.user {
        kept.push("client.user".to_owned());
        new.client.user.clone_from(&old.client.user);
    }
    keep_value(&mut kept, "sandbox", old.sandbox, &mut new.sandbox);
    kept
}
