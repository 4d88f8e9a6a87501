//! What is counted of sessions and tickets, taken over from qtls-core, which knows nothing of metrics.

use prometheus::{IntCounter, IntCounterVec, IntGauge};
use qtls_core::sessions::{LookupResult, SessionCounters};

/// The metrics.
#[derive(Debug)]
pub(super) struct Sessions {
    pub(super) cached: IntGauge,
    pub(super) evictions: IntCounter,
    pub(super) lookups: IntCounterVec,
    pub(super) tickets: IntCounterVec,
}

impl Sessions {
    /// Brings the metrics up to date. One at a time.
    pub(super) fn refresh(&self, counted: &SessionCounters) {
        let up_to = |counter: &IntCounter, value: u64| counter.inc_by(value.saturating_sub(counter.get()));
        self.cached.set(i64::try_from(counted.cached()).unwrap_or(i64::MAX));
        up_to(&self.evictions, counted.evictions());
        for (result, label) in TICKETS {
            up_to(&self.tickets.with_label_values(&[*label]), counted.tickets(*result));
        }
        for (result, label) in LOOKUPS {
            up_to(&self.lookups.with_label_values(&[*label]), counted.lookups(*result));
        }
    }
}

pub(super) const TICKETS: &[(LookupResult, &str)] = &[
    (LookupResult::Ok, "ok"),
    (LookupResult::Unknown, "unknown_key"),
    (LookupResult::Expired, "expired"),
    (LookupResult::Invalid, "invalid"),
];

/// What is kept here is never invalid.
pub(super) const LOOKUPS: &[(LookupResult, &str)] =
    &[(LookupResult::Ok, "ok"), (LookupResult::Unknown, "unknown"), (LookupResult::Expired, "expired")];
