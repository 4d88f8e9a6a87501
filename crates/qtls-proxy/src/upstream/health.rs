//! Whether one server is in use, and what the log says about it.
//!
//! A server goes out of use for three reasons, each of which ends in its own way: it takes no connections (until it takes
//! one), it fails one request after the other (until it answers one), or its health checks fail (until they pass). For the
//! first two it is held for a while, which grows each time, and is then tried by one request at a time. One that flaps is
//! held longer, whatever its checks say.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{info, warn};

use crate::config::HealthCheck;

/// Lines about the same server are at least this far apart, in milliseconds.
const QUIET: u64 = 1000;
/// How long a server is held for the first time, in milliseconds.
const FIRST_HOLD: u64 = 1000;
/// How long a server that takes no connections, or fails requests, is held at most, in milliseconds.
const LONGEST_HOLD: u64 = 60_000;
/// How long a server whose checks flap is held at most, in milliseconds.
const LONGEST_FLAP_HOLD: u64 = 300_000;
/// How long a server must have been in use without a break for its past to be forgotten, in milliseconds; twice as long as
/// it was held last, if that is more.
const STEADY: u64 = 60_000;

/// Why a server is out of use, as bits: there may be several reasons.
const NO_CONNECTION: u8 = 1;
const NO_ANSWER: u8 = 2;
const CHECKS_FAIL: u8 = 4;

/// How one server has been doing. Times are in milliseconds since the upstream was made, plus one; 0 is never.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// The last line about a failure.
    warned: AtomicU64,
    /// Failures since then.
    unlogged: AtomicU64,
    /// Whether the log says that it takes no connections.
    announced: AtomicBool,
    /// Why it is out of use.
    out: AtomicU8,
    /// Until when it is not to be tried.
    held: AtomicU64,
    /// Whether somebody is trying it.
    on_trial: AtomicBool,
    /// Requests in a row that it failed.
    failures: AtomicU32,
    /// What only changes of state and checks need.
    past: Mutex<Past>,
}

#[derive(Debug, Default)]
struct Past {
    /// Of work: failing connections and requests.
    work: Damper,
    /// Of checks.
    checks: Damper,
    /// Checks in a row with the same outcome.
    in_a_row: u32,
    passing: bool,
    /// Whether there was a check.
    checked: bool,
    /// When the checks took it out of use.
    down_since: u64,
    /// Until when passing checks don't bring it back.
    kept_down: u64,
}

/// Makes each hold longer than the one before, until the server has been steady.
#[derive(Debug, Default)]
struct Damper {
    /// How often it went out of use since it was last steady.
    times: u32,
    last_hold: u64,
    /// When it came back.
    back: u64,
}

impl Damper {
    /// It goes out of use: how often it has, and for how long it is held. `holds` gives that by the number of times.
    fn strike(&mut self, now: u64, holds: impl Fn(u32) -> u64) -> (u32, u64) {
        if self.back != 0 && now >= self.back + STEADY.max(2 * self.last_hold) {
            self.times = 0;
        }
        self.times = self.times.saturating_add(1);
        self.last_hold = holds(self.times);
        self.back = 0;
        (self.times, self.last_hold)
    }

    fn back(&mut self, now: u64) {
        self.back = now + 1;
    }
}

/// `first`, and twice as much each further time.
fn doubling(first: u64, times: u32, longest: u64) -> u64 {
    first.saturating_mul(1 << times.saturating_sub(1).min(20)).min(longest)
}

/// Why a server is out of use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is in use.
    Up,
    /// It takes no connections or fails requests, and is held for so long yet. After that it is tried.
    Held(Duration),
    /// Its health checks fail, or it is kept down for so long yet since it flaps.
    Down(Duration),
}

impl Health {
    /// It did not take a connection. Whether this takes it out of use.
    pub(super) fn refused(&self, now: u64, server: &str, reason: &dyn fmt::Display, purpose: &str) -> bool {
        let changed = self.hold(now, NO_CONNECTION).is_some();
        if self.failed(now, server, reason, purpose) {
            self.announced.store(true, Relaxed);
        }
        changed
    }

    /// It took a connection. Whether this brings it back, as far as connections are concerned.
    pub(super) fn connected(&self, now: u64, server: &str) -> bool {
        if self.out.load(Relaxed) & NO_CONNECTION == 0 {
            return false;
        }
        let changed = self.release(now, NO_CONNECTION);
        if self.announced.swap(false, Relaxed) {
            let unlogged = self.unlogged.swap(0, Relaxed);
            info!(unlogged = (unlogged > 0).then_some(unlogged), "upstream {server} is back");
        }
        changed
    }

    /// It failed a request, of which it may fail fewer than `most` in a row (0 is any number). Whether this takes it out of
    /// use.
    pub(super) fn failed_request(
        &self,
        now: u64,
        server: &str,
        most: u32,
        reason: &dyn fmt::Display,
        purpose: &str,
    ) -> bool {
        self.failed(now, server, reason, purpose);
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        if most == 0 || failures < most {
            return false;
        }
        let Some(hold) = self.hold(now, NO_ANSWER) else { return false };
        warn!("upstream {server}: {failures} requests in a row failed: it is given none for {}", Seconds(hold));
        true
    }

    /// It answered a request. Whether this brings it back, as far as answers are concerned.
    pub(super) fn answered(&self, now: u64, server: &str) -> bool {
        // Read before it is written: all workers share it.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if self.out.load(Relaxed) & NO_ANSWER == 0 {
            return false;
        }
        let changed = self.release(now, NO_ANSWER);
        if changed {
            let unlogged = self.unlogged.swap(0, Relaxed);
            info!(unlogged = (unlogged > 0).then_some(unlogged), "upstream {server} answers requests again");
        }
        changed
    }

    /// A health check passed, or failed for the reason given. Whether this takes it out of use, or brings it back as far as
    /// checks are concerned.
    pub(super) fn checked(&self, now: u64, server: &str, check: &HealthCheck, outcome: Result<(), &str>) -> bool {
        let mut past = self.past();
        let first = !std::mem::replace(&mut past.checked, true);
        let passes = outcome.is_ok();
        past.in_a_row = if past.passing == passes && !first { past.in_a_row.saturating_add(1) } else { 1 };
        past.passing = passes;
        let in_a_row = past.in_a_row;
        let down = self.out.load(Relaxed) & CHECKS_FAIL != 0;
        match outcome {
            Ok(()) if down && in_a_row >= check.rise && now + 1 >= past.kept_down => {
                let after = Duration::from_millis(now.saturating_sub(past.down_since)).as_secs();
                past.checks.back(now);
                drop(past);
                let changed = self.release(now, CHECKS_FAIL);
                info!("upstream {server} is up: {in_a_row} checks in a row passed, after {after} s");
                changed
            }
            Err(why) if !down && (first || in_a_row >= check.fall) => {
                let (interval, rise) = (check.interval.as_millis() as u64, u64::from(check.rise));
                // The first time, as many checks as are wanted are enough.
                let holds = |times: u32| match times {
                    0 | 1 => 0,
                    times => doubling(2 * interval * rise, times - 1, LONGEST_FLAP_HOLD),
                };
                let (times, hold) = past.checks.strike(now, holds);
                past.down_since = now;
                past.kept_down = now + 1 + hold;
                drop(past);
                self.out.fetch_or(CHECKS_FAIL, Relaxed);
                let failed = if in_a_row == 1 { "a check".to_owned() } else { format!("{in_a_row} checks in a row") };
                if hold == 0 {
                    warn!("upstream {server} is down: {failed} failed: {why}");
                } else {
                    warn!(
                        "upstream {server} is down: {failed} failed: {why}; it flaps: down for the {} time, it stays down \
                         for {} at least",
                        Ordinal(times),
                        Seconds(hold)
                    );
                }
                true
            }
            _ => false,
        }
    }

    /// It failed a connection or a request. Whether this was logged: else it is counted.
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

    /// Whether it is in use.
    pub(super) fn is_up(&self) -> bool {
        self.out.load(Relaxed) == 0
    }

    /// Whether it is out of use for how it works, and not for what its checks say.
    pub(super) fn is_held(&self) -> bool {
        let out = self.out.load(Relaxed);
        out != 0 && out & CHECKS_FAIL == 0
    }

    /// Whether it is to be tried now, by whoever asks: one at a time, and the next not before `patience`, in milliseconds,
    /// is over.
    pub(super) fn takes_a_trial(&self, now: u64, patience: u64) -> bool {
        let held = self.held.load(Relaxed);
        let mine = self.is_held()
            && now + 1 >= held
            && self.held.compare_exchange(held, now + 1 + patience, Relaxed, Relaxed).is_ok();
        if mine {
            self.on_trial.store(true, Relaxed);
        }
        mine
    }

    /// Whether it could be tried now.
    pub(super) fn is_due(&self, now: u64) -> bool {
        self.is_held() && now + 1 >= self.held.load(Relaxed)
    }

    pub(super) fn state(&self, now: u64) -> State {
        let left = |until: u64| Duration::from_millis(until.saturating_sub(now + 1));
        match self.out.load(Relaxed) {
            0 => State::Up,
            out if out & CHECKS_FAIL != 0 => State::Down(left(self.past().kept_down)),
            _ => State::Held(left(self.held.load(Relaxed))),
        }
    }

    /// How soon it can be in use again at best, if all of its checks pass from now on.
    pub(super) fn back_in(&self, now: u64, check: &HealthCheck) -> Duration {
        let State::Down(kept) = self.state(now) else { return Duration::ZERO };
        let past = self.past();
        let passed = if past.passing { past.in_a_row } else { 0 };
        // The last of them counts only once it is no longer kept down.
        let missing = check.rise.saturating_sub(passed).max(1);
        kept.max(check.interval * missing)
    }

    /// Holds it for a while, unless it is held already: for how long, in milliseconds.
    fn hold(&self, now: u64, why: u8) -> Option<u64> {
        let mut past = self.past();
        let on_trial = self.on_trial.swap(false, Relaxed);
        // What was under way when it went out of use says nothing new.
        if self.out.load(Relaxed) & why != 0 && !on_trial && now + 1 < self.held.load(Relaxed) {
            return None;
        }
        let (_, hold) = past.work.strike(now, |times| doubling(FIRST_HOLD, times, LONGEST_HOLD));
        self.held.store(now + 1 + hold, Relaxed);
        self.out.fetch_or(why, Relaxed);
        Some(hold)
    }

    /// One reason for which it was out of use is gone, if it was there.
    fn release(&self, now: u64, why: u8) -> bool {
        if why != CHECKS_FAIL {
            self.on_trial.store(false, Relaxed);
            self.past().work.back(now);
        }
        self.out.fetch_and(!why, Relaxed) & why != 0
    }

    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Milliseconds, as people read them.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.div_ceil(1000))
    }
}

struct Ordinal(u32);

impl fmt::Display for Ordinal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ending = match (self.0 % 10, self.0 % 100) {
            (_, 11..=13) => "th",
            (1, _) => "st",
            (2, _) => "nd",
            (3, _) => "rd",
            _ => "th",
        };
        write!(f, "{}{ending}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HealthCheckKind, Statuses};
    use crate::upstream::capture::Captured;

    const SERVER: &str = "127.0.0.1:8080";

    fn check(rise: u32, fall: u32) -> HealthCheck {
        HealthCheck {
            kind: HealthCheckKind::Tcp,
            path: "/".to_owned(),
            host: None,
            status: Statuses::default(),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            rise,
            fall,
        }
    }

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
        health.connected(0, SERVER);
        assert_eq!(log.lines(), Vec::<String>::new());
        health.refused(10, SERVER, &"connection refused", "GET");
        health.refused(11, SERVER, &"connection refused", "GET");
        health.connected(12, SERVER);
        health.connected(12, SERVER);
        let lines = log.lines();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[1].contains("INFO") && lines[1].contains("upstream 127.0.0.1:8080 is back"), "{}", lines[1]);
        assert!(lines[1].contains("unlogged=1"), "{}", lines[1]);
        // It flaps: what isn't logged as down isn't logged as back.
        health.refused(13, SERVER, &"connection refused", "GET");
        health.connected(14, SERVER);
        assert_eq!(log.lines().len(), 2);
    }

    #[test]
    fn a_failed_request_does_not_make_it_down() {
        let log = Captured::start();
        let health = Health::default();
        health.failed_request(0, SERVER, 3, &"no response within 5s", "GET");
        assert!(health.is_up());
        health.connected(0, SERVER);
        assert_eq!(log.lines().len(), 1);
    }

    #[test]
    fn requests_that_fail_in_a_row_hold_it_and_an_answer_begins_the_count_anew() {
        let log = Captured::start();
        let health = Health::default();
        let fail = |now| health.failed_request(now, SERVER, 3, &"no response within 5s", "GET");
        assert!(!fail(0) && !fail(1));
        health.answered(2, SERVER);
        assert!(!fail(3) && !fail(4) && fail(5), "three in a row");
        assert_eq!(health.state(5), State::Held(Duration::from_secs(1)));
        assert!(!fail(6), "what was under way says nothing new");
        assert!(!health.connected(6, SERVER), "that it takes connections was never in question");
        assert!(health.takes_a_trial(1006, 5000) && fail(1010));
        assert_eq!(health.state(1010), State::Held(Duration::from_secs(2)), "longer each time");
        assert!(health.takes_a_trial(3011, 5000) && health.answered(3012, SERVER) && health.is_up());
        let said = |what: &str| log.lines().iter().filter(|line| line.contains(what)).count();
        assert_eq!(said("3 requests in a row failed: it is given none for 1 s"), 1, "{:#?}", log.lines());
        assert_eq!(said("requests in a row failed"), 2, "{:#?}", log.lines());
        assert_eq!(said("answers requests again"), 1, "{:#?}", log.lines());
        // Any number is allowed.
        let health = Health::default();
        assert!((0..100).all(|now| !health.failed_request(now, SERVER, 0, &"no", "GET")) && health.is_up());
    }

    #[test]
    fn it_is_held_longer_each_time_and_tried_by_one_at_a_time() {
        let _log = Captured::start();
        let health = Health::default();
        let mut now = 5;
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            health.refused(now, SERVER, &"connection refused", "GET");
            assert_eq!(health.state(now), State::Held(Duration::from_secs(seconds)));
            now += seconds * 1000;
            assert!(!health.takes_a_trial(now - 1, 5000));
            assert!(health.is_due(now) && health.takes_a_trial(now, 5000), "{seconds}");
            assert!(!health.is_due(now) && !health.takes_a_trial(now, 5000), "somebody is trying it");
        }
        // Whoever tried it has gone without a word.
        assert!(health.takes_a_trial(now + 5000, 5000));
        assert!(health.connected(now + 5001, SERVER) && health.is_up());
        now += 6000;
        health.refused(now, SERVER, &"connection refused", "GET");
        assert_eq!(health.state(now), State::Held(Duration::from_secs(60)), "it was not steady");
        health.connected(now, SERVER);
        now += 121_000;
        health.refused(now, SERVER, &"connection refused", "GET");
        assert_eq!(health.state(now), State::Held(Duration::from_secs(1)), "it was steady for twice as long");
    }

    #[test]
    fn checks_rise_and_fall() {
        let log = Captured::start();
        let health = Health::default();
        let check = check(2, 3);
        let pass = |now| health.checked(now, SERVER, &check, Ok(()));
        let fail = |now| health.checked(now, SERVER, &check, Err("connection refused"));
        assert!(!pass(0) && !fail(1) && !fail(2) && !pass(3) && health.is_up(), "not in a row");
        assert!(!fail(4) && !fail(5) && fail(6) && !health.is_up());
        assert!(!health.is_held(), "nobody tries what checks say is down");
        assert!(!pass(7) && !fail(8) && !pass(9) && !health.is_up(), "not in a row");
        assert!(pass(2010) && health.is_up());
        let lines = log.lines();
        assert_eq!(lines.len(), 2, "{lines:#?}");
        assert!(lines[0].contains("upstream 127.0.0.1:8080 is down: 3 checks in a row failed: connection refused"));
        assert!(
            lines[1].contains("upstream 127.0.0.1:8080 is up: 2 checks in a row passed, after 2 s"),
            "{}",
            lines[1]
        );
    }

    #[test]
    fn the_first_check_decides_alone() {
        let log = Captured::start();
        let health = Health::default();
        assert!(health.checked(0, SERVER, &check(2, 3), Err("connection refused")));
        assert!(log.lines()[0].contains("is down: a check failed: connection refused"), "{:?}", log.lines());
    }

    #[test]
    fn one_that_flaps_stays_down_longer_each_time() {
        let log = Captured::start();
        let health = Health::default();
        let check = check(1, 1);
        let mut now = 0;
        let mut kept = Vec::new();
        for _ in 0..10 {
            health.checked(now, SERVER, &check, Err("status 503"));
            let State::Down(hold) = health.state(now) else { panic!("it is up") };
            kept.push(hold.as_secs());
            let down = now;
            // A check passes in each second.
            while !health.is_up() {
                now += 1000;
                health.checked(now, SERVER, &check, Ok(()));
            }
            assert!(now - down >= hold.as_millis() as u64);
            now += 1000;
        }
        assert_eq!(kept, [0, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        let lines = log.lines();
        assert_eq!(lines.len(), 20, "one line for each change:\n{lines:#?}");
        assert!(lines[4].contains("it flaps: down for the 3rd time, it stays down for 4 s at least"), "{}", lines[4]);
        // Steady for long enough, it is as good as new.
        now += 601_000;
        health.checked(now, SERVER, &check, Err("status 503"));
        assert_eq!(health.state(now), State::Down(Duration::ZERO));
    }

    #[test]
    fn it_can_be_back_when_enough_checks_have_passed_and_it_is_kept_down_no_longer() {
        let _log = Captured::start();
        let health = Health::default();
        let check = check(3, 1);
        let back_in = |now| health.back_in(now, &check).as_secs();
        assert_eq!(back_in(0), 0, "it is up");
        health.checked(0, SERVER, &check, Err("status 503"));
        assert_eq!(back_in(0), 3);
        health.checked(1000, SERVER, &check, Ok(()));
        assert_eq!(back_in(1000), 2);
        health.checked(2000, SERVER, &check, Err("status 503"));
        assert_eq!(back_in(2000), 3, "all over again");
        for second in 3..=5 {
            health.checked(second * 1000, SERVER, &check, Ok(()));
        }
        assert_eq!(back_in(5000), 0);
        // It flaps: it is kept down for twice the time that three checks take.
        health.checked(6000, SERVER, &check, Err("status 503"));
        assert_eq!(back_in(6000), 6);
        assert_eq!(back_in(7000), 5);
    }
}
