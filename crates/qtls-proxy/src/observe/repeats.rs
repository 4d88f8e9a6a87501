//! Repeats: of warnings that say the same thing again and again, a few are in the log, and then how many more there were.
//!
//! Lines about connections are no warnings: they are never left out.

use std::borrow::Cow;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tracing::warn;

use super::logs;
use crate::shutdown::Shutdown;

/// How many warnings of one kind are logged in each [`WINDOW`].
const LIMIT: u32 = 10;
/// How long warnings of one kind are counted together. It begins with the first of them.
const WINDOW: Duration = Duration::from_secs(10);
/// How many kinds are told apart: the rest is one kind. What peers send must not become memory.
const MAX_KINDS: usize = 1024;

static REPEATS: LazyLock<Mutex<Repeats>> = LazyLock::new(|| Mutex::new(Repeats::new(LIMIT, WINDOW)));

/// Whether one more warning may be logged. What is a `kind` with the same `subject`, such as the reason, is the same.
pub(crate) fn admit(kind: &'static str, subject: impl Into<Cow<'static, str>>) -> bool {
    let (admitted, summary) = lock().admit(Instant::now(), kind, subject.into());
    // Not while the lock is held: what writes the log may have something to say itself.
    summary.iter().for_each(Summary::log);
    if !admitted {
        logs::suppressed();
    }
    admitted
}

/// Says in the log how many warnings were left out, whenever a window has ended; until the server has closed.
pub(crate) async fn summarise(mut shutdown: Shutdown) {
    let mut closing = pin!(shutdown.closing());
    while timeout(Duration::from_secs(1), closing.as_mut()).await.is_err() {
        flush(false);
    }
}

/// Says in the log how many warnings were left out in windows that have ended, or in all of them.
pub(crate) fn flush(all: bool) {
    let summaries = lock().ended(Instant::now(), all);
    summaries.iter().for_each(Summary::log);
}

fn lock() -> std::sync::MutexGuard<'static, Repeats> {
    REPEATS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kinds of warnings that there were of late.
#[derive(Debug)]
struct Repeats {
    limit: u32,
    window: Duration,
    kinds: HashMap<(&'static str, Cow<'static, str>), Kind>,
}

#[derive(Clone, Copy, Debug)]
struct Kind {
    since: Instant,
    logged: u32,
    suppressed: u64,
}

/// What was left out.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Summary {
    kind: &'static str,
    subject: Cow<'static, str>,
    suppressed: u64,
    within: Duration,
}

impl Summary {
    fn log(&self) {
        let Self { kind, subject, suppressed, within } = self;
        // Rounded up: what was left out at the stop may have come within less than a second.
        let seconds = within.as_millis().div_ceil(1000);
        warn!(about = %subject, suppressed, seconds, "{kind}: {suppressed} more of the same");
    }
}

impl Repeats {
    fn new(limit: u32, window: Duration) -> Self {
        Self { limit, window, kinds: HashMap::new() }
    }

    /// Whether a warning is logged; and what has to be said about the window that it ended.
    fn admit(&mut self, now: Instant, kind: &'static str, subject: Cow<'static, str>) -> (bool, Option<Summary>) {
        let mut key = (kind, subject);
        if !self.kinds.contains_key(&key) && self.kinds.len() >= MAX_KINDS {
            key.1 = Cow::Borrowed("others");
        }
        let fresh = Kind { since: now, logged: 0, suppressed: 0 };
        let mut summary = None;
        let found = self.kinds.entry(key.clone()).or_insert(fresh);
        if now.duration_since(found.since) >= self.window {
            summary = found.summary(&key, self.window);
            *found = fresh;
        }
        let admitted = found.logged < self.limit;
        if admitted {
            found.logged += 1;
        } else {
            found.suppressed += 1;
        }
        (admitted, summary)
    }

    /// What has to be said about windows that have ended, or about all. They are forgotten.
    fn ended(&mut self, now: Instant, all: bool) -> Vec<Summary> {
        let mut summaries = Vec::new();
        let window = self.window;
        self.kinds.retain(|key, kind| {
            let age = now.duration_since(kind.since);
            let over = all || age >= window;
            if over {
                summaries.extend(kind.summary(key, age.min(window)));
            }
            !over
        });
        summaries.sort_by(|one, other| (one.kind, &one.subject).cmp(&(other.kind, &other.subject)));
        summaries
    }
}

impl Kind {
    fn summary(&self, key: &(&'static str, Cow<'static, str>), within: Duration) -> Option<Summary> {
        let (kind, subject) = key.clone();
        (self.suppressed > 0).then_some(Summary { kind, subject, suppressed: self.suppressed, within })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// A clock that stands still unless it is moved.
    struct Clock(Instant, Repeats);

    impl Clock {
        fn new() -> Self {
            Self(Instant::now(), Repeats::new(3, 10 * SECOND))
        }

        fn after(&mut self, time: Duration) -> &mut Self {
            self.0 += time;
            self
        }

        /// How many of `count` are admitted, and the summaries that come with them.
        fn warn(&mut self, count: u64, subject: &'static str) -> (u64, Vec<Summary>) {
            let mut admitted = 0;
            let mut summaries = Vec::new();
            for _ in 0..count {
                let (one, summary) = self.1.admit(self.0, "refused", subject.into());
                admitted += u64::from(one);
                summaries.extend(summary);
            }
            (admitted, summaries)
        }

        fn ended(&mut self, all: bool) -> Vec<Summary> {
            self.1.ended(self.0, all)
        }
    }

    fn summary(subject: &'static str, suppressed: u64, within: Duration) -> Summary {
        Summary { kind: "refused", subject: subject.into(), suppressed, within }
    }

    #[test]
    fn a_few_are_logged_and_the_rest_is_one_line_when_the_window_ends() {
        let mut clock = Clock::new();
        assert_eq!(clock.warn(2, "a"), (2, vec![]));
        assert_eq!(clock.after(9 * SECOND).warn(100, "a"), (1, vec![]));
        assert_eq!(clock.ended(false), []);
        assert_eq!(clock.after(SECOND).ended(false), [summary("a", 99, 10 * SECOND)]);
        // Said once, and then everything begins anew.
        assert_eq!(clock.ended(false), []);
        assert_eq!(clock.warn(4, "a"), (3, vec![]));
    }

    #[test]
    fn the_next_one_ends_a_window_that_is_over() {
        let mut clock = Clock::new();
        clock.warn(5, "a");
        assert_eq!(clock.after(11 * SECOND).warn(2, "a"), (2, vec![summary("a", 2, 10 * SECOND)]));
        assert_eq!(clock.ended(true), []);
    }

    #[test]
    fn kinds_are_counted_apart() {
        let mut clock = Clock::new();
        assert_eq!(clock.warn(5, "b"), (3, vec![]));
        assert_eq!(clock.warn(4, "a"), (3, vec![]));
        assert_eq!(clock.after(2 * SECOND).ended(true), [summary("a", 1, 2 * SECOND), summary("b", 2, 2 * SECOND)]);
    }

    #[test]
    fn what_did_not_repeat_is_forgotten_without_a_word() {
        let mut clock = Clock::new();
        clock.warn(3, "a");
        assert_eq!(clock.after(10 * SECOND).ended(false), []);
        assert_eq!(clock.1.kinds.len(), 0);
    }

    #[test]
    fn kinds_without_end_are_one_kind() {
        let mut repeats = Repeats::new(1, SECOND);
        let now = Instant::now();
        for number in 0..3 * MAX_KINDS {
            repeats.admit(now, "refused", number.to_string().into());
        }
        assert!(repeats.kinds.len() <= MAX_KINDS + 1, "{}", repeats.kinds.len());
        let suppressed: u64 = repeats.ended(now, true).iter().map(|summary| summary.suppressed).sum();
        assert_eq!(suppressed, (3 * MAX_KINDS - MAX_KINDS - 1) as u64);
    }
}
