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

/// How long a process with connections that rest and come back goes without another look for what they left.
const PAUSE: u32 = 4;

/// How often a connection began to rest, and so gave back what it had for requests.
static RESTED: AtomicU64 = AtomicU64::new(0);

/// A connection rests.
pub(crate) fn rests() {
    RESTED.fetch_add(1, Relaxed);
}

/// Gives memory back each time that half of many connections have ended, or rest. Never returns.
pub(crate) async fn give_back(open: impl Fn() -> i64) {
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut peak, mut rested, mut looks) = (0, RESTED.load(Relaxed), PAUSE);
    loop {
        tick.tick().await;
        let (now, rested_now) = (open(), RESTED.load(Relaxed));
        peak = peak.max(now);
        looks = looks.saturating_add(1);
        let resting = i64::try_from(rested_now - rested).unwrap_or(i64::MAX);
        if is_worth_it(peak, now) || (looks > PAUSE && is_worth_it(now, now.saturating_sub(resting))) {
            trim();
            (peak, rested, looks) = (now, rested_now, 0);
        }
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
}
