//! What is counted of the servers behind.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use qtls_core::facts::Facts;

use super::exposure::Tally;
use super::flag;
use crate::upstream;

/// The metrics of all servers behind.
#[derive(Debug)]
pub(super) struct Upstreams {
    pub(super) up: IntGaugeVec,
    pub(super) active: IntGaugeVec,
    pub(super) requests: IntCounterVec,
    pub(super) errors: IntCounterVec,
    pub(super) seconds: HistogramVec,
    pub(super) handshakes: IntCounterVec,
    pub(super) held: IntGaugeVec,
    pub(super) passed_on: IntCounterVec,
    pub(super) out: IntCounterVec,
    pub(super) checks: IntCounterVec,
    pub(super) lookups: IntCounterVec,
    pub(super) bytes: IntCounterVec,
    /// By server, and by whether the key exchange was post-quantum. Those that were asked for.
    pub(super) tallies: Tallies,
}

/// What goes over TLS to the servers and has not been collected.
pub(super) type Tallies = Arc<Mutex<HashMap<(Box<str>, bool), Arc<Tally>>>>;

impl Upstreams {
    /// Moves what was tallied into the counters.
    pub(super) fn collect(&self) {
        for ((name, post_quantum), tally) in self.tallies.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let (received, sent) = tally.take();
            for (direction, count) in [("received", received), ("sent", sent)] {
                self.bytes.with_label_values(&[direction, flag(*post_quantum), name]).inc_by(count);
            }
        }
    }

    pub(super) fn server(&self, name: &str) -> UpstreamMeter {
        let error = |reason: &&'static str| (*reason, self.errors.with_label_values(&[name, *reason]));
        UpstreamMeter {
            active: self.active.with_label_values(&[name]),
            requests: self.requests.with_label_values(&[name]),
            errors: upstream::REASONS.iter().map(error).collect(),
            seconds: self.seconds.with_label_values(&[name]),
            name: name.to_owned(),
            handshakes: self.handshakes.clone(),
            tallies: self.tallies.clone(),
            passed_on: self.passed_on.with_label_values(&[name]),
            out: OUT.map(|cause| self.out.with_label_values(&[name, cause])),
            checks: CHECKS.map(|result| self.checks.with_label_values(&[name, result])),
            lookups: LOOKUPS.map(|result| self.lookups.with_label_values(&[name, result])),
        }
    }
}

/// Counts what one server behind does, also where several upstreams of the configuration name it.
#[derive(Debug)]
pub struct UpstreamMeter {
    active: IntGauge,
    requests: IntCounter,
    errors: Box<[(&'static str, IntCounter)]>,
    seconds: Histogram,
    name: String,
    handshakes: IntCounterVec,
    tallies: Tallies,
    passed_on: IntCounter,
    out: [IntCounter; OUT.len()],
    checks: [IntCounter; CHECKS.len()],
    lookups: [IntCounter; LOOKUPS.len()],
}

/// Why a server goes out of use.
pub(super) const OUT: [&str; 3] = ["connect", "requests", "checks"];
/// What comes of a health check.
pub(super) const CHECKS: [&str; 2] = ["failed", "passed"];
/// What comes of looking a name up.
pub(super) const LOOKUPS: [&str; 2] = ["failed", "resolved"];

impl UpstreamMeter {
    /// A connection was made, after so many seconds.
    pub fn connected(&self, seconds: f64) {
        self.seconds.observe(seconds);
    }

    /// A handshake with it was completed.
    pub fn handshake(&self, facts: &Facts) {
        let (group, scheme) = (facts.group_name(), facts.scheme_name());
        let [pq, resumed] = [facts.post_quantum(), facts.resumed].map(flag);
        let labels = [self.name.as_str(), &group, pq, &scheme, facts.suite_name(), resumed];
        self.handshakes.with_label_values(&labels).inc();
    }

    /// Where the bytes of connections to it over TLS are counted.
    pub fn tally(&self, post_quantum: bool) -> Arc<Tally> {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.entry((self.name.as_str().into(), post_quantum)).or_default().clone()
    }

    /// A connection is open until the value is dropped.
    pub fn open(&self) -> OpenUpstream {
        self.active.inc();
        OpenUpstream(self.active.clone())
    }

    /// A request, or in TCP mode a connection, was given to it.
    pub fn request(&self) {
        self.requests.inc();
    }

    /// A request, or in TCP mode a connection, went on to another server, since this one did not take it.
    pub fn passed_on(&self) {
        self.passed_on.inc();
    }

    /// It went out of use: since it took no connection ("connect"), failed requests ("requests"), or health checks failed
    /// ("checks").
    pub fn out(&self, cause: &'static str) {
        let place = OUT.iter().position(|known| *known == cause);
        debug_assert!(place.is_some(), "{cause} is not in the list");
        if let Some(place) = place {
            self.out[place].inc();
        }
    }

    /// A health check passed, or did not.
    pub fn checked(&self, passed: bool) {
        self.checks[usize::from(passed)].inc();
    }

    /// Its name was looked up, with or without success.
    pub fn looked_up(&self, resolved: bool) {
        self.lookups[usize::from(resolved)].inc();
    }

    /// It failed, for one of [`upstream::REASONS`].
    pub fn error(&self, reason: &'static str) {
        let counter = self.errors.iter().find(|(known, _)| *known == reason);
        debug_assert!(counter.is_some(), "{reason} is not in the list");
        if let Some((_, counter)) = counter {
            counter.inc();
        }
    }
}

/// An open connection to a server behind, for as long as this value lives.
#[derive(Debug)]
pub struct OpenUpstream(IntGauge);

impl Drop for OpenUpstream {
    fn drop(&mut self) {
        self.0.dec();
    }
}
