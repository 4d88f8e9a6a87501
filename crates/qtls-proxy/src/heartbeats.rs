//! Whether every worker still runs its connections: each leaves the time, and others look how old it is.
//!
//! A worker that is stuck in one connection keeps all its others waiting, and nobody notices from outside: the sockets
//! stay open, and the other workers answer. So `/health` and the service manager's watchdog ask here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

/// How old the last sign of life of a worker may be before it counts as hung. What a worker does at a stretch takes
/// milliseconds; this is for a machine that has no time for it.
pub(crate) const HUNG: Duration = Duration::from_secs(10);

/// How often workers give a sign of life, unless that is asked for more often.
const USUAL: Duration = Duration::from_secs(1);

/// The last sign of life of each worker.
#[derive(Debug)]
pub(crate) struct Heartbeats {
    epoch: Instant,
    period: Duration,
    /// Milliseconds since `epoch`, or one of the two constants.
    last: Box<[AtomicU64]>,
    started: AtomicUsize,
    has_started: Notify,
}

const NOT_STARTED: u64 = u64::MAX - 1;
const ENDED: u64 = u64::MAX;

impl Heartbeats {
    /// For so many workers, which are asked often enough that none looks hung within `watchdog`.
    pub(crate) fn new(workers: usize, watchdog: Option<Duration>) -> Arc<Self> {
        Arc::new(Self {
            // Earlier than any sign of life, so that there are ages to compare.
            epoch: Instant::now().checked_sub(2 * HUNG).unwrap_or_else(Instant::now),
            period: watchdog.map_or(USUAL, |timeout| USUAL.min(timeout / 4)).max(Duration::from_millis(1)),
            last: (0..workers).map(|_| AtomicU64::new(NOT_STARTED)).collect(),
            started: AtomicUsize::new(0),
            has_started: Notify::new(),
        })
    }

    /// Begins the life of a worker, which ends with the value.
    pub(crate) fn begin(self: &Arc<Self>, worker: usize) -> Pulse {
        let pulse = Pulse { all: self.clone(), worker };
        pulse.beat();
        self.started.fetch_add(1, Ordering::Release);
        self.has_started.notify_one();
        pulse
    }

    /// Waits until every worker's life has begun.
    pub(crate) async fn all_begun(&self) {
        while self.started.load(Ordering::Acquire) < self.last.len() {
            self.has_started.notified().await;
        }
    }

    /// The workers whose last sign of life is older than `limit`, by their index. Those that have ended aren't hung.
    pub(crate) fn silent(&self, limit: Duration) -> Vec<usize> {
        let now = self.now();
        let limit = milliseconds(limit);
        let is_silent = |last: &AtomicU64| match last.load(Ordering::Relaxed) {
            NOT_STARTED | ENDED => false,
            last => now.saturating_sub(last) > limit,
        };
        self.last.iter().enumerate().filter(|(_, last)| is_silent(last)).map(|(worker, _)| worker).collect()
    }

    fn now(&self) -> u64 {
        milliseconds(self.epoch.elapsed())
    }
}

/// A worker's life.
#[derive(Debug)]
pub(crate) struct Pulse {
    all: Arc<Heartbeats>,
    worker: usize,
}

impl Pulse {
    /// Gives signs of life for as long as the worker's runtime has its turn.
    pub(crate) async fn go_on(&self) {
        let mut tick = interval(self.all.period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.beat();
        }
    }

    fn beat(&self) {
        self.all.last[self.worker].store(self.all.now(), Ordering::Relaxed);
    }
}

#[cfg(test)]
impl Pulse {
    /// Makes the last sign of life so old.
    pub(crate) fn age(&self, by: Duration) {
        let then = self.all.now().checked_sub(milliseconds(by));
        self.all.last[self.worker].store(then.expect("the epoch is earlier"), Ordering::Relaxed);
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        self.all.last[self.worker].store(ENDED, Ordering::Relaxed);
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(ENDED)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_one_thread<T>(test: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
    }

    #[test]
    fn a_worker_that_has_no_turn_is_silent_and_one_that_ended_is_not() {
        let heartbeats = Heartbeats::new(3, None);
        let stuck = heartbeats.begin(0);
        let ended = heartbeats.begin(1);
        drop(ended);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(heartbeats.silent(Duration::from_millis(10)), [0]);
        assert!(heartbeats.silent(HUNG).is_empty());
        stuck.beat();
        assert!(heartbeats.silent(Duration::from_millis(10)).is_empty());
    }

    #[test]
    fn a_worker_that_has_its_turn_gives_signs() {
        on_one_thread(async {
            let heartbeats = Heartbeats::new(1, Some(Duration::from_millis(40)));
            let pulse = heartbeats.begin(0);
            let first = heartbeats.last[0].load(Ordering::Relaxed);
            let beaten = async {
                while heartbeats.last[0].load(Ordering::Relaxed) <= first {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::select! {
                () = pulse.go_on() => {}
                () = beaten => {}
            }
        });
    }

    #[test]
    fn the_start_is_complete_when_the_last_one_has_begun() {
        on_one_thread(async {
            let heartbeats = Heartbeats::new(2, None);
            let first = heartbeats.begin(0);
            assert!(tokio::time::timeout(Duration::from_millis(10), heartbeats.all_begun()).await.is_err());
            let second = std::thread::spawn({
                let heartbeats = heartbeats.clone();
                move || heartbeats.begin(1)
            });
            heartbeats.all_begun().await;
            drop((first, second.join().unwrap()));
        });
    }
}
