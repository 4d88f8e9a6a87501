//! Gives memory back to the system when many connections have ended, or rest.
//!
//! glibc returns what is freed at the end of a heap, but not the pages in the middle of one: what thousands of connections
//! took at the same time would stay with the process for good.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many connections must have ended for it to be worth a millisecond or so.
const MANY: i64 = 500;
/// How many must rest for the same, once no others come to rest.
const SOME: i64 = 100;

/// How long a process with connections that rest and come back goes without another look for what they left.
const PAUSE: u32 = 4;

/// How often a connection began to rest, and so gave back what it had for requests.
static RESTED: AtomicU64 = AtomicU64::new(0);

/// A connection rests.
pub(crate) fn rests() {
    RESTED.fetch_add(1, Relaxed);
}

/// Gives memory back each time that half of many connections have ended, or rest, and for those that rest after that when
/// nothing more comes to rest. Never returns.
pub(crate) async fn give_back(open: impl Fn() -> i64) {
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watch = Watch::new(RESTED.load(Relaxed));
    loop {
        tick.tick().await;
        if watch.look(open(), RESTED.load(Relaxed)) {
            trim();
        }
    }
}

/// What was there when memory was given back the last time, and since.
struct Watch {
    /// The most connections that were open since.
    peak: i64,
    /// How often one had come to rest by then.
    rested: u64,
    /// The same at the last look.
    seen: u64,
    /// Looks since.
    looks: u32,
}

impl Watch {
    const fn new(rested: u64) -> Self {
        Self { peak: 0, rested, seen: rested, looks: PAUSE }
    }

    /// Whether it is worth it now, when so many are open and one has come to rest so often.
    fn look(&mut self, open: i64, rested: u64) -> bool {
        self.peak = self.peak.max(open);
        self.looks = self.looks.saturating_add(1);
        let quiet = rested == self.seen;
        self.seen = rested;
        let resting = i64::try_from(rested - self.rested).unwrap_or(i64::MAX);
        let ended = is_worth_it(self.peak, open);
        let at_rest = is_worth_it(open, open.saturating_sub(resting)) || (quiet && resting >= SOME.max(open / 20));
        let worth = ended || (at_rest && self.looks > PAUSE);
        if worth {
            (self.peak, self.rested, self.looks) = (open, rested, 0);
        }
        worth
    }
}

fn is_worth_it(peak: i64, now: i64) -> bool {
    peak - now >= MANY && now <= peak / 2
}

/// Gives the system back what is free, wherever it is.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) fn trim() {
    // SAFETY: malloc_trim may be called at any time and from any thread; it touches memory that nobody has allocated.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators give memory back by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn trim() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_many_connections_is_worth_it() {
        assert!(is_worth_it(5000, 0));
        assert!(is_worth_it(5000, 2500));
        assert!(!is_worth_it(5000, 2501), "most of it would be taken again");
        assert!(!is_worth_it(499, 0), "not worth a call");
        assert!(is_worth_it(1000, 1000 - 2000), "each of them has rested twice");
    }

    /// The looks, counted from one, at which memory is given back.
    fn given_back(looks: &[(i64, u64)]) -> Vec<usize> {
        let mut watch = Watch::new(0);
        (1..).zip(looks).filter(|(_, (open, rested))| watch.look(*open, *rested)).map(|(look, _)| look).collect()
    }

    #[test]
    fn those_that_rest_after_the_others_are_not_forgotten() {
        let looks = [(2000, 0), (2000, 1200), (2000, 1990), (2000, 2000), (2000, 2000), (2000, 2000), (2000, 2000)];
        assert_eq!(given_back(&looks), [2, 7]);
        assert_eq!(given_back(&[looks.as_slice(), &[(2000, 2000); 20]].concat()), [2, 7], "nothing is left");
    }

    #[test]
    fn connections_that_come_back_all_the_time_are_left_their_memory() {
        let busy: Vec<_> = (0..60).map(|look| (10_000, look * 50)).collect();
        assert_eq!(given_back(&busy), [0; 0], "others take it");
        let few: Vec<_> = (0..60).map(|look| (50, (look / 3) * 5)).collect();
        assert!(given_back(&few).len() <= 3, "{:?}", given_back(&few));
    }

    #[test]
    fn the_end_of_connections_is_not_waited_for() {
        assert_eq!(given_back(&[(1000, 0), (1000, 900), (10, 900), (10, 900)]), [2, 3]);
    }
}
