//! What is counted of protocols that begin before TLS.

use prometheus::{IntCounterVec, IntGauge};

use super::{Metrics, flag};
use crate::starttls::Beginning;

/// The metrics of all listeners with `server.starttls`.
#[derive(Debug)]
pub(super) struct Starttls {
    pub(super) begun: IntCounterVec,
    pub(super) sessions: IntGauge,
    pub(super) cancels: IntCounterVec,
}

impl Metrics {
    /// A handshake began.
    pub(crate) fn starttls(&self, beginning: Beginning) {
        self.starttls.begun.with_label_values(&beginning.labels()).inc();
    }

    /// A PostgreSQL session is known, until the value is dropped.
    pub(crate) fn postgres_session(&self) -> PostgresSession {
        self.starttls.sessions.inc();
        PostgresSession(self.starttls.sessions.clone())
    }

    /// A request to cancel came, and this became of it.
    pub(crate) fn cancel_request(&self, encrypted: bool, result: &'static str) {
        self.starttls.cancels.with_label_values(&[flag(encrypted), result]).inc();
    }
}

/// A PostgreSQL session that is known, for as long as this value lives.
#[derive(Debug)]
pub(crate) struct PostgresSession(IntGauge);

impl Drop for PostgresSession {
    fn drop(&mut self) {
        self.0.dec();
    }
}
