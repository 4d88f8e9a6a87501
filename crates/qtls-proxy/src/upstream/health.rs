//! What the log says about a server. A server that is down under load fails thousands of times a second.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use tracing::{info, warn};

/// Lines about the same server are at least this far apart, in milliseconds.
const QUIET: u64 = 1000;
/// How long a server that refused a connection is tried last, in milliseconds.
const HOLD_OFF: u64 = 10_000;

/// How one server has been doing. Times are in milliseconds since the upstream was made, plus one; 0 is never.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// The last line about it.
    warned: AtomicU64,
    /// Failures since then.
    unlogged: AtomicU64,
    /// The last failure to connect, unless one succeeded since.
    refused: AtomicU64,
    /// Whether the log says that it is down.
    announced: AtomicBool,
}

impl Health {
    /// It did not take a connection.
    pub(super) fn refused(&self, now: u64, server: &str, reason: &dyn fmt::Display, purpose: &str) {
        self.refused.store(now + 1, Relaxed);
        if self.failed(now, server, reason, purpose) {
            self.announced.store(true, Relaxed);
        }
    }

    /// It took a connection.
    pub(super) fn connected(&self, server: &str) {
        if self.refused.load(Relaxed) == 0 {
            return;
        }
        self.refused.store(0, Relaxed);
        if self.announced.swap(false, Relaxed) {
            let unlogged = self.unlogged.swap(0, Relaxed);
            info!(unlogged = (unlogged > 0).then_some(unlogged), "upstream {server} is back");
        }
    }

    /// It failed a request. Whether this was logged: else it is counted.
    pub(super) fn failed(&self, now: u64, server: &str, reason: &dyn fmt::Display, purpose: &str) -> bool {
        let warned = self.warned.load(Relaxed);
        let due = warned == 0 || now + 1 >= warned + QUIET;
        // Of several workers that find it due, one writes.
        if !due || self.warned.compare_exchange(warned, now + 1, Relaxed, Relaxed).is_err() {
            self.unlogged.fetch_add(1, Relaxed);
            return false;
        }
        let unlogged = self.unlogged.swap(0, Relaxed);
        warn!(purpose, unlogged = (unlogged > 0).then_some(unlogged), "upstream {server}: {reason}");
        true
    }

    /// Whether it refused a connection lately, and none has succeeded since.
    pub(super) fn refused_lately(&self, now: u64) -> bool {
        let refused = self.refused.load(Relaxed);
        refused != 0 && now + 1 < refused + HOLD_OFF
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::capture::Captured;

    const SERVER: &str = "127.0.0.1:8080";

    #[test]
    fn a_flood_is_one_line_a_second_with_a_count() {
        let log = Captured::start();
        let health = Health::default();
        for millisecond in 0..2500 {
            health.refused(millisecond, SERVER, &"connection refused", "GET");
        }
        let lines = log.lines();
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert!(lines[0].contains("WARN") && lines[0].contains("upstream 127.0.0.1:8080: connection refused"));
        assert!(lines[0].contains("purpose=\"GET\"") && !lines[0].contains("unlogged"), "{}", lines[0]);
        assert!(lines[1].contains("unlogged=999"), "{}", lines[1]);
        assert!(lines[2].contains("unlogged=999"), "{}", lines[2]);
    }

    #[test]
    fn its_return_is_said_once_and_only_after_its_failure_was() {
        let log = Captured::start();
        let health = Health::default();
        health.connected(SERVER);
        assert_eq!(log.lines(), Vec::<String>::new());
        health.refused(10, SERVER, &"connection refused", "GET");
        health.refused(11, SERVER, &"connection refused", "GET");
        health.connected(SERVER);
        health.connected(SERVER);
        let lines = log.lines();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[1].contains("INFO") && lines[1].contains("upstream 127.0.0.1:8080 is back"), "{}", lines[1]);
        assert!(lines[1].contains("unlogged=1"), "{}", lines[1]);
        // It flaps: what isn't logged as down isn't logged as back.
        health.refused(12, SERVER, &"connection refused", "GET");
        health.connected(SERVER);
        assert_eq!(log.lines().len(), 2);
    }

    #[test]
    fn a_failed_request_does_not_make_it_down() {
        let log = Captured::start();
        let health = Health::default();
        health.failed(0, SERVER, &"no response within 5s", "GET");
        assert!(!health.refused_lately(0));
        health.connected(SERVER);
        assert_eq!(log.lines().len(), 1);
    }

    #[test]
    fn it_is_tried_last_for_ten_seconds_or_until_it_takes_a_connection() {
        let _log = Captured::start();
        let health = Health::default();
        assert!(!health.refused_lately(0));
        health.refused(5, SERVER, &"connection refused", "GET");
        assert!(health.refused_lately(5));
        assert!(health.refused_lately(10_004));
        assert!(!health.refused_lately(10_005));
        health.refused(20_000, SERVER, &"connection refused", "GET");
        health.connected(SERVER);
        assert!(!health.refused_lately(20_001));
    }
}
