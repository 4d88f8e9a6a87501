//! When a limit is reached, and when that is over: a line for each, however many connections met it in between.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How long nobody must have met a limit for it to be over, in milliseconds. A server at its limit is at it and not, many
/// times a second.
const QUIET: u64 = 5_000;
/// How often the log says that a limit is still met, in milliseconds.
const REMINDER: u64 = 60_000;

/// One limit, as far as the log is concerned. Times are in milliseconds, from any origin.
#[derive(Debug, Default)]
pub(super) struct Episode {
    /// When it began, plus one; 0 where there is none.
    since: AtomicU64,
    /// When somebody last met the limit.
    last: AtomicU64,
    /// When the log last told.
    told: AtomicU64,
    /// How many connections met it since the log last told, with the one that it told about.
    hits: AtomicU64,
}

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It is still met: by so many connections since the last line.
    Going { hits: u64 },
    /// Nobody met it any more: by so many since the last line, and so long since the first, in milliseconds.
    Over { hits: u64, lasted: u64 },
}

impl Episode {
    /// A connection met the limit. Whether this is to be told: it is the first one.
    pub(super) fn hit(&self, now: u64) -> bool {
        self.hits.fetch_add(1, Relaxed);
        self.last.fetch_max(now, Relaxed);
        if self.since.load(Relaxed) != 0 || self.since.compare_exchange(0, now + 1, Relaxed, Relaxed).is_err() {
            return false;
        }
        self.told.store(now, Relaxed);
        true
    }

    /// What there is to tell now.
    pub(super) fn look(&self, now: u64) -> Option<News> {
        let since = self.since.load(Relaxed).checked_sub(1)?;
        let last = self.last.load(Relaxed);
        if now.saturating_sub(last) >= QUIET {
            self.since.store(0, Relaxed);
            return Some(News::Over { hits: self.hits.swap(0, Relaxed), lasted: last.saturating_sub(since) });
        }
        if now.saturating_sub(self.told.load(Relaxed)) < REMINDER {
            return None;
        }
        self.told.store(now, Relaxed);
        Some(News::Going { hits: self.hits.swap(0, Relaxed) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_and_the_end_with_the_number() {
        let episode = Episode::default();
        assert_eq!(episode.look(0), None);
        assert!(episode.hit(1000));
        for now in 1000..3000 {
            assert!(!episode.hit(now));
        }
        assert_eq!(episode.look(2999 + QUIET - 1), None);
        assert_eq!(episode.look(2999 + QUIET), Some(News::Over { hits: 2001, lasted: 1999 }));
        assert_eq!(episode.look(2999 + QUIET), None);
        assert!(episode.hit(20_000));
    }

    #[test]
    fn while_it_goes_on_there_is_a_line_a_minute() {
        let episode = Episode::default();
        let mut lines = 0;
        for second in 0..=600 {
            let now = second * 1000;
            episode.hit(now);
            match episode.look(now) {
                None => {}
                Some(News::Going { hits }) => {
                    lines += 1;
                    assert!((60..=61).contains(&hits), "{hits}");
                }
                Some(over) => panic!("{over:?}"),
            }
        }
        assert_eq!(lines, 10);
    }

    #[test]
    fn a_limit_met_in_the_very_first_moment_is_an_episode_too() {
        let episode = Episode::default();
        assert!(episode.hit(0));
        assert!(!episode.hit(0));
        assert_eq!(episode.look(QUIET), Some(News::Over { hits: 2, lasted: 0 }));
    }
}
