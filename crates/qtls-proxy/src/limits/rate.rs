//! How many handshakes begin in a second, over the whole server: a token bucket, kept as the one time that it is about.
//!
//! The bucket holds what one second allows: a server that was idle takes so many at once. Each handshake has its turn
//! assigned when it asks: those that wait go in the order in which they came, and who would wait in vain is told so.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A second, in the nanoseconds that everything here is in.
const SECOND: u64 = 1_000_000_000;

/// The bucket. Times are in nanoseconds, from any origin.
#[derive(Debug, Default)]
pub(super) struct Rate {
    /// When the bucket would be full again, if nobody came.
    full_at: AtomicU64,
}

/// When a handshake may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Now,
    /// At this time. The turn is taken.
    At(u64),
    /// Not within the time that there is. No turn is taken.
    TooLate,
}

impl Rate {
    /// A turn for who asks at `now` and can wait until `latest`, where `per_second`, which is not 0, begin in a second.
    pub(super) fn turn(&self, per_second: u32, now: u64, latest: u64) -> Turn {
        let each = (SECOND / u64::from(per_second)).max(1);
        let bucket = each * u64::from(per_second);
        let mut begin = now;
        let taken = self.full_at.fetch_update(Relaxed, Relaxed, |full_at| {
            let full_at = full_at.max(now) + each;
            begin = full_at.saturating_sub(bucket).max(now);
            (begin <= latest).then_some(full_at)
        });
        match taken {
            Err(_) => Turn::TooLate,
            Ok(_) if begin == now => Turn::Now,
            Ok(_) => Turn::At(begin),
        }
    }

    /// Fills the bucket: the turns that are taken count no more.
    pub(super) fn fill(&self) {
        self.full_at.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_s_worth_at_once_and_then_at_equal_distances_in_order() {
        let rate = Rate::default();
        let now = 5 * SECOND;
        for _ in 0..10 {
            assert_eq!(rate.turn(10, now, u64::MAX), Turn::Now);
        }
        for place in 1..=3 {
            assert_eq!(rate.turn(10, now, u64::MAX), Turn::At(now + place * SECOND / 10));
        }
        // Half a second later two of those three have begun, and two more turns are due: all are behind the third.
        assert_eq!(rate.turn(10, now + SECOND / 2, u64::MAX), Turn::Now);
        assert_eq!(rate.turn(10, now + SECOND / 2, u64::MAX), Turn::Now);
        assert_eq!(rate.turn(10, now + SECOND / 2, u64::MAX), Turn::At(now + 6 * SECOND / 10));
    }

    #[test]
    fn who_would_wait_in_vain_takes_no_turn_from_the_others() {
        let rate = Rate::default();
        assert_eq!(rate.turn(1, SECOND, SECOND), Turn::Now);
        for _ in 0..100 {
            assert_eq!(rate.turn(1, SECOND, SECOND), Turn::TooLate);
            assert_eq!(rate.turn(1, SECOND, 2 * SECOND - 1), Turn::TooLate);
        }
        assert_eq!(rate.turn(1, SECOND, 2 * SECOND), Turn::At(2 * SECOND));
    }

    #[test]
    fn over_a_long_time_the_rate_is_kept_whatever_it_is() {
        for per_second in [1, 3, 7, 999, 1_000_000] {
            let rate = Rate::default();
            let mut begun = 0_u64;
            // Ten seconds, and far more who ask than may begin.
            let (step, end) = if per_second > 100_000 {
                (5, SECOND / 50)
            } else {
                (SECOND / u64::from(per_second) / 50, 10 * SECOND)
            };
            let mut now = 0;
            while now < end {
                begun += u64::from(rate.turn(per_second, now, now) == Turn::Now);
                now += step;
            }
            let expected = u64::from(per_second) * end / SECOND + u64::from(per_second);
            assert!(begun.abs_diff(expected) <= 1 + expected / 1000, "{per_second}: {begun}, not {expected}");
        }
    }

    #[test]
    fn an_idle_time_gives_no_more_than_one_full_bucket() {
        let rate = Rate::default();
        for now in [0, 3600 * SECOND] {
            let at_once = (0..100).filter(|_| rate.turn(20, now, now) == Turn::Now).count();
            assert_eq!(at_once, 20);
        }
        rate.fill();
        assert_eq!(rate.turn(20, 3600 * SECOND, 3600 * SECOND), Turn::Now);
    }
}
