//! How many lines there were, and how many there should have been.
//!
//! Counted for the process: the log is there before the metrics are.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntCounterVec};
use tracing::Level;

use crate::observe::metrics::table;

pub(crate) const LEVELS: [(Level, &str); 5] = [
    (Level::ERROR, "error"),
    (Level::WARN, "warn"),
    (Level::INFO, "info"),
    (Level::DEBUG, "debug"),
    (Level::TRACE, "trace"),
];
pub(crate) const LOGS: [&str; 4] = ["log", "access", "audit", "console"];

static LINES: [AtomicU64; LEVELS.len()] = [const { AtomicU64::new(0) }; LEVELS.len()];
static LOST: [AtomicU64; LOGS.len()] = [const { AtomicU64::new(0) }; LOGS.len()];
static SUPPRESSED: AtomicU64 = AtomicU64::new(0);

/// The log has a line of this level.
pub(super) fn line(level: Level) {
    if let Some(index) = LEVELS.iter().position(|(known, _)| *known == level) {
        LINES[index].fetch_add(1, Relaxed);
    }
}

/// One of [`LOGS`] lacks a line.
pub(super) fn lost(log: &str) {
    if let Some(index) = LOGS.iter().position(|known| *known == log) {
        LOST[index].fetch_add(1, Relaxed);
    }
}

/// A line was left out since it repeated others.
pub(crate) fn suppressed() {
    SUPPRESSED.fetch_add(1, Relaxed);
}

/// The counts as metrics.
pub(crate) struct Counts {
    lines: IntCounterVec,
    lost: IntCounterVec,
    suppressed: IntCounter,
    collecting: Mutex<()>,
}

impl Counts {
    /// # Errors
    /// A name is no name, which is a bug.
    pub(crate) fn new() -> prometheus::Result<Self> {
        Ok(Self {
            lines: IntCounterVec::new(table::LOG_LINES.options(), &table::LOG_LINES.label_names())?,
            lost: IntCounterVec::new(table::LOG_LOST.options(), &table::LOG_LOST.label_names())?,
            suppressed: IntCounter::with_opts(table::LOG_SUPPRESSED.options())?,
            collecting: Mutex::new(()),
        })
    }
}

impl Collector for Counts {
    fn desc(&self) -> Vec<&Desc> {
        [self.lines.desc(), self.lost.desc(), self.suppressed.desc()].concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _one_at_a_time = self.collecting.lock().unwrap_or_else(PoisonError::into_inner);
        let set = |counter: IntCounter, count: &AtomicU64| {
            counter.reset();
            counter.inc_by(count.load(Relaxed));
        };
        for ((_, level), count) in LEVELS.iter().zip(&LINES) {
            set(self.lines.with_label_values(&[*level]), count);
        }
        for (log, count) in LOGS.iter().zip(&LOST) {
            set(self.lost.with_label_values(&[*log]), count);
        }
        set(self.suppressed.clone(), &SUPPRESSED);
        [self.lines.collect(), self.lost.collect(), self.suppressed.collect()].concat()
    }
}

#[cfg(test)]
mod tests {
    use prometheus::{Encoder, Registry, TextEncoder};

    use super::*;

    #[test]
    fn what_was_counted_before_is_in_the_metrics() {
        // Other tests of this process count, too.
        let before = (LOST[3].load(Relaxed), SUPPRESSED.load(Relaxed));
        lost("console");
        suppressed();
        let registry = Registry::new();
        registry.register(Box::new(Counts::new().unwrap())).unwrap();
        let mut text = Vec::new();
        for _ in 0..2 {
            text.clear();
            TextEncoder::new().encode(&registry.gather(), &mut text).unwrap();
        }
        let text = String::from_utf8(text).unwrap();
        let value = |series: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(series)).unwrap_or_else(|| panic!("{text}"));
            line.trim().parse().unwrap()
        };
        assert!(value("qtls_log_lines_lost_total{log=\"console\"}") > before.0);
        assert!(value("qtls_log_lines_suppressed_total") > before.1);
        assert!(text.contains("qtls_log_lines_lost_total{log=\"audit\"} "), "{text}");
        assert!(text.contains("qtls_log_lines_total{level=\"warn\"} "), "{text}");
    }
}
