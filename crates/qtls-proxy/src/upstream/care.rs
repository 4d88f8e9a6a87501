//! What goes on beside connections: names are looked up again, and servers are checked. One task for each, in the whole
//! process; they end with their upstream.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::sleep;

use super::check::check;
use super::names::Resolver;
use super::{Place, ServerId, Upstream};

impl Upstream {
    /// Begins to look after the servers, unless somebody does. Must run inside a runtime that outlives the upstream.
    pub(crate) fn care(self: &Arc<Self>) {
        if self.cared_for.swap(true, Relaxed) {
            return;
        }
        for (index, server) in self.servers.iter().enumerate() {
            if matches!(server.place, Place::Name(_)) {
                tokio::spawn(keep_resolved(Arc::downgrade(self), index));
            }
            if self.config.health.is_some() {
                tokio::spawn(keep_checked(Arc::downgrade(self), ServerId(index)));
            }
        }
    }

    async fn resolve(&self, index: usize, resolver: &Resolver, failures: &mut u32) -> Option<Duration> {
        let server = &self.servers[index];
        let Place::Name(name) = &server.place else { return None };
        let (resolved, next) = name.refresh(resolver, &server.text, failures).await;
        self.meter_of(ServerId(index)).inspect(|meter| meter.looked_up(resolved));
        Some(next)
    }

    async fn check_once(&self, id: ServerId) -> Option<Duration> {
        let health = self.config.health.as_ref()?;
        let server = self.server(id);
        let outcome = check(self, id, health).await;
        let fails = outcome.is_err();
        let outcome = match &outcome {
            Ok(()) => Ok(()),
            Err(why) => Err(why.as_str()),
        };
        if server.health.checked(self.now(), &server.text, health, outcome) {
            if fails {
                self.meter_of(id).inspect(|meter| meter.out("checks"));
            }
            self.changed();
        }
        // After what came of it: who sees the number sees that, too.
        self.meter_of(id).inspect(|meter| meter.checked(!fails));
        Some(health.interval)
    }
}

async fn keep_resolved(upstream: Weak<Upstream>, index: usize) {
    let Some(resolver) = upstream.upgrade().map(|upstream| Resolver::new(upstream.config.resolver)) else { return };
    let mut failures = 0;
    while let Some(upstream) = upstream.upgrade() {
        let Some(next) = upstream.resolve(index, &resolver, &mut failures).await else { return };
        // Not held while nothing is done: it would never end.
        drop(upstream);
        sleep(next).await;
    }
}

async fn keep_checked(upstream: Weak<Upstream>, id: ServerId) {
    while let Some(upstream) = upstream.upgrade() {
        let Some(next) = upstream.check_once(id).await else { return };
        drop(upstream);
        sleep(next).await;
    }
}
