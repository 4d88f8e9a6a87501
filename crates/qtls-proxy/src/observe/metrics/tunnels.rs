//! What is counted of tunnels.

use prometheus::{IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use crate::tunnel;

/// The metrics of all tunnels.
#[derive(Debug)]
pub(super) struct Tunnels {
    pub(super) up: IntGaugeVec,
    pub(super) active: IntGaugeVec,
    pub(super) connections: IntCounterVec,
    pub(super) retries: IntCounterVec,
    pub(super) failures: IntCounterVec,
}

impl Tunnels {
    pub(super) fn tunnel(&self, name: &str) -> TunnelMeter {
        let failure = |reason: &&'static str| (*reason, self.failures.with_label_values(&[name, *reason]));
        let up = self.up.with_label_values(&[name]);
        up.set(1);
        TunnelMeter {
            up,
            active: self.active.with_label_values(&[name]),
            connections: self.connections.with_label_values(&[name]),
            retries: self.retries.with_label_values(&[name]),
            failures: tunnel::REASONS.iter().map(failure).collect(),
        }
    }
}

/// Counts what one tunnel does.
#[derive(Debug)]
pub struct TunnelMeter {
    up: IntGauge,
    active: IntGauge,
    connections: IntCounter,
    retries: IntCounter,
    failures: Box<[(&'static str, IntCounter)]>,
}

impl TunnelMeter {
    /// Whether its server can be reached.
    pub fn up(&self, up: bool) {
        self.up.set(up.into());
    }

    /// A connection was taken. It counts as open until the value is dropped.
    pub fn open(&self) -> OpenTunnel {
        self.connections.inc();
        self.active.inc();
        OpenTunnel(self.active.clone())
    }

    /// An attempt to reach the server is repeated.
    pub fn retry(&self) {
        self.retries.inc();
    }

    /// A connection could not be carried, for one of [`tunnel::REASONS`].
    pub fn failure(&self, reason: &'static str) {
        let counter = self.failures.iter().find(|(known, _)| *known == reason);
        debug_assert!(counter.is_some(), "{reason} is not in the list");
        if let Some((_, counter)) = counter {
            counter.inc();
        }
    }
}

/// An open connection of a tunnel, for as long as this value lives.
#[derive(Debug)]
pub struct OpenTunnel(IntGauge);

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.0.dec();
    }
}
