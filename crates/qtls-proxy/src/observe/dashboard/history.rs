//! What was counted in each slot of time, for the last hour and the last day. In memory, and bounded: about 140 KB.
//!
//! Time is that of the monotonic clock: one that is set back or forth moves nothing here.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use qtls_core::policy::{Group, Named, SCHEMES};

use crate::observe::metrics::Reading;
use crate::observe::metrics::table::{self, NONE, OTHER};

/// The key exchange groups that are told apart, and one place for all others.
pub(super) const GROUPS: usize = Group::ALL.len() + 1;
/// The signature schemes that are told apart, one place for none, and one for all others.
pub(super) const SCHEME_PLACES: usize = SCHEMES.len() + 2;

/// The names of the places of [`Counts::groups`].
pub(super) fn group_names() -> impl Iterator<Item = &'static str> {
    Group::ALL.iter().map(|group| group.iana_name()).chain([OTHER])
}

/// The names of the places of [`Counts::schemes`].
pub(super) fn scheme_names() -> impl Iterator<Item = &'static str> {
    SCHEMES.iter().map(|(_, name)| *name).chain([NONE, OTHER])
}

/// What was counted, since the start or in a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Handshakes by group.
    pub(super) groups: [u64; GROUPS],
    /// Handshakes by scheme.
    pub(super) schemes: [u64; SCHEME_PLACES],
    /// Handshakes that did not complete.
    pub(super) failures: u64,
    /// Bytes over classical key exchange.
    pub(super) classical_bytes: u64,
    /// Bytes over post-quantum key exchange.
    pub(super) post_quantum_bytes: u64,
}

impl Counts {
    pub(super) fn of(reading: &Reading) -> Self {
        let mut counts = Self::default();
        for (place, count) in places(reading, "group", group_names().collect()) {
            counts.groups[place] += count;
        }
        for (place, count) in places(reading, "scheme", scheme_names().collect()) {
            counts.schemes[place] += count;
        }
        let bytes = |flag| whole(reading.sum(&table::BYTES, &[("pq", flag)]));
        Self {
            failures: whole(reading.sum(&table::FAILURES, &[])),
            classical_bytes: bytes("false"),
            post_quantum_bytes: bytes("true"),
            ..counts
        }
    }

    /// All handshakes that completed.
    pub(super) fn handshakes(&self) -> u64 {
        self.groups.iter().sum()
    }

    /// Those of them with a post-quantum group.
    pub(super) fn post_quantum(&self) -> u64 {
        self.groups.iter().zip(Group::ALL).filter(|(_, group)| group.is_post_quantum()).map(|(count, _)| count).sum()
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.combine(other, u64::saturating_add);
    }

    fn since(mut self, before: &Self) -> Self {
        self.combine(before, u64::saturating_sub);
        self
    }

    fn combine(&mut self, other: &Self, with: fn(u64, u64) -> u64) {
        let Self { groups, schemes, failures, classical_bytes, post_quantum_bytes } = self;
        let numbers = groups.iter_mut().chain(schemes).chain([failures, classical_bytes, post_quantum_bytes]);
        let others = other.groups.iter().chain(&other.schemes).chain([
            &other.failures,
            &other.classical_bytes,
            &other.post_quantum_bytes,
        ]);
        for (number, other) in numbers.zip(others) {
            *number = with(*number, *other);
        }
    }
}

fn places(reading: &Reading, label: &str, names: Vec<&'static str>) -> impl Iterator<Item = (usize, u64)> {
    let other = names.len() - 1;
    let counts = reading.by(&table::HANDSHAKES, label, &[]);
    counts
        .into_iter()
        .map(move |(name, count)| (names.iter().position(|known| *known == name).unwrap_or(other), whole(count)))
}

/// A counter that came through the text format's floating point.
pub(super) fn whole(count: f64) -> u64 {
    count as u64
}

/// The last hour and the last day, in slots.
#[derive(Debug)]
pub(super) struct History {
    began: Instant,
    /// What had been counted when it was last recorded.
    last: Counts,
    fine: Ring,
    coarse: Ring,
}

/// How long a slot of the last hour is, and so how often there is something to record.
pub(super) const FINE: Duration = Duration::from_secs(10);
const COARSE: Duration = Duration::from_secs(300);

impl History {
    /// Nothing so far.
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, last: Counts::default(), fine: Ring::new(FINE, 360), coarse: Ring::new(COARSE, 288) }
    }

    /// So much had been counted at `now`.
    pub(super) fn record(&mut self, now: Instant, counts: Counts) {
        let new = counts.since(&self.last);
        self.last = counts;
        let age = now.saturating_duration_since(self.began);
        self.fine.add(age, &new);
        self.coarse.add(age, &new);
    }

    /// The last minute and what has begun since: in slots of 10 s, the last one unfinished.
    pub(super) fn minute(&self) -> Vec<Counts> {
        self.fine.last(7, 1)
    }

    /// The last hour in minutes, the last one unfinished.
    pub(super) fn hour(&self) -> Slots {
        Slots { length: FINE * 6, counts: self.fine.last(60, 6) }
    }

    /// The last day in quarters of an hour, the last one unfinished.
    pub(super) fn day(&self) -> Slots {
        Slots { length: COARSE * 3, counts: self.coarse.last(96, 3) }
    }
}

/// Equal lengths of time, the last of which ends now.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    pub(super) length: Duration,
    pub(super) counts: Vec<Counts>,
}

impl Slots {
    pub(super) fn sum(&self) -> Counts {
        self.counts.iter().fold(Counts::default(), |mut sum, slot| {
            sum.add(slot);
            sum
        })
    }
}

/// The slots of one length. The last one is the one that is going on.
#[derive(Debug)]
struct Ring {
    length: Duration,
    capacity: usize,
    /// The number of the last slot.
    number: u64,
    slots: VecDeque<Counts>,
}

impl Ring {
    fn new(length: Duration, capacity: usize) -> Self {
        Self { length, capacity, number: 0, slots: VecDeque::from([Counts::default()]) }
    }

    fn add(&mut self, age: Duration, new: &Counts) {
        let number = age.as_secs() / self.length.as_secs();
        // Nobody may have recorded for a while: the machine slept.
        let missing = usize::try_from(number.saturating_sub(self.number)).unwrap_or(usize::MAX).min(self.capacity);
        self.number = self.number.max(number);
        self.slots.extend(std::iter::repeat_n(Counts::default(), missing));
        self.slots.drain(..self.slots.len().saturating_sub(self.capacity));
        if let Some(last) = self.slots.back_mut() {
            last.add(new);
        }
    }

    /// The last `count` groups of `each` slots, filled up with empty ones at the front.
    fn last(&self, count: usize, each: usize) -> Vec<Counts> {
        let mut groups: VecDeque<Counts> = VecDeque::with_capacity(count);
        for (back, slot) in self.slots.iter().rev().take(count * each).enumerate() {
            match groups.front_mut() {
                Some(group) if back % each != 0 => group.add(slot),
                _ => groups.push_front(*slot),
            }
        }
        while groups.len() < count {
            groups.push_front(Counts::default());
        }
        groups.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(handshakes: u64) -> Counts {
        let mut counts = Counts { failures: handshakes * 2, ..Counts::default() };
        counts.groups[0] = handshakes;
        counts
    }

    fn handshakes(slots: &Slots) -> Vec<u64> {
        slots.counts.iter().map(Counts::handshakes).collect()
    }

    #[test]
    fn what_is_new_falls_into_the_slot_of_its_time() {
        let began = Instant::now();
        let mut history = History::new(began);
        for (second, total) in [(0, 0), (9, 1), (10, 3), (65, 7), (3601, 8)] {
            history.record(began + Duration::from_secs(second), counts(total));
        }
        let hour = handshakes(&history.hour());
        assert_eq!((hour.len(), hour.iter().sum::<u64>(), hour[59]), (60, 7, 1), "the first slot is gone: {hour:?}");
        assert_eq!(history.day().sum(), counts(8));
        assert_eq!(handshakes(&history.day())[91..], [7, 0, 0, 0, 1]);
    }

    #[test]
    fn a_minute_is_six_slots_and_the_one_that_goes_on() {
        let began = Instant::now();
        let mut history = History::new(began);
        for second in 0..=80 {
            history.record(began + Duration::from_secs(second), counts(second));
        }
        let minute: Vec<_> = history.minute().iter().map(Counts::handshakes).collect();
        assert_eq!(minute, [10, 10, 10, 10, 10, 10, 1]);
    }

    #[test]
    fn a_machine_that_slept_leaves_empty_slots_and_memory_is_bounded() {
        let began = Instant::now();
        let mut history = History::new(began);
        history.record(began, counts(5));
        history.record(began + Duration::from_secs(40 * 24 * 3600), counts(6));
        assert_eq!(handshakes(&history.hour()).iter().sum::<u64>(), 1);
        assert_eq!((history.fine.slots.len(), history.coarse.slots.len()), (360, 288));
        let size = size_of::<Counts>() * (360 + 288);
        assert!(size < 200_000, "{size}");
    }

    #[test]
    fn names_stand_for_places() {
        assert_eq!((group_names().count(), scheme_names().count()), (GROUPS, SCHEME_PLACES));
        let counts = Counts { groups: [1; GROUPS], ..Counts::default() };
        assert_eq!((counts.handshakes(), counts.post_quantum()), (9, 5));
    }
}
