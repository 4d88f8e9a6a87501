//! Gives memory back to the system when many connections have ended.
//!
//! glibc returns what is freed at the end of a heap, but not the pages in the middle of one: what thousands of connections
//! took at the same time would stay with the process for good.
#![allow(unsafe_code)]

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// How many connections must have ended for it to be worth a millisecond or so.
const MANY: i64 = 500;

/// Gives memory back each time that half of many connections have ended. Never returns.
pub(crate) async fn give_back(open: impl Fn() -> i64) {
    let mut tick = interval(INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut peak = 0;
    loop {
        tick.tick().await;
        let now = open();
        peak = peak.max(now);
        if is_worth_it(peak, now) {
            trim();
            peak = now;
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
    }
}
