//! Whether the server of a tunnel can be reached: told when that changes, and found out without a client's help.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use qtls_core::Error;
use qtls_core::facts::Facts;
use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::{info, warn};

use super::plan::Route;
use crate::observe::metrics::TunnelMeter;

const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;

/// How long after a failure the server is asked again, at first and at most.
const FIRST: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(15);

/// What is known of the server of one tunnel.
#[derive(Debug)]
pub(super) struct Standing {
    state: AtomicU8,
    went_down: Notify,
    pub(super) meter: TunnelMeter,
}

impl Standing {
    pub(super) fn new(meter: TunnelMeter) -> Self {
        Self { state: AtomicU8::new(UNKNOWN), went_down: Notify::new(), meter }
    }

    /// It was reached, and this was negotiated. Said where that is news.
    pub(super) fn reached(&self, route: &Route, facts: &Facts) {
        if self.state.load(Relaxed) == UP {
            return;
        }
        let before = self.state.swap(UP, Relaxed);
        self.meter.up(true);
        let (tunnel, server, group) = (&route.name, route.remote.address(), facts.group_name());
        match before {
            UNKNOWN => info!("tunnel {tunnel}: {server} answers, over {group}"),
            DOWN => info!("tunnel {tunnel}: {server} can be reached again, over {group}"),
            // Another connection was first.
            _ => return,
        }
        if !facts.post_quantum() {
            warn!(
                "tunnel {tunnel}: {server} chose {group}, which is not post-quantum: whoever records the link may read it one \
                 day; with tls.pqc_only such servers are refused"
            );
        }
    }

    /// It was not reached. Said where that is news.
    pub(super) fn failed(&self, route: &Route, error: &Error) {
        if self.state.swap(DOWN, Relaxed) == DOWN {
            return;
        }
        self.meter.up(false);
        self.went_down.notify_one();
        warn!("tunnel {}: {}", route.name, error.one_line());
    }

    /// Asks the server whether it answers: at start, and from a failure on until it does. Never returns.
    pub(super) async fn watch(&self, mut ask: impl AsyncFnMut()) {
        ask().await;
        loop {
            let mut pause = FIRST;
            while self.state.load(Relaxed) == DOWN {
                sleep(pause).await;
                pause = (pause * 2).min(LATER);
                // A client may have found out by then.
                if self.state.load(Relaxed) == DOWN {
                    ask().await;
                }
            }
            self.went_down.notified().await;
        }
    }
}
