//! Bytes while they flow: how much goes over classical key exchange, which whoever records it may read one day, and how
//! much over post-quantum.
//!
//! A connection adds to a tally that belongs to its worker: no lock, no search, and no other processor writes to it.
//! Whoever reads the metrics collects what is there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::IntCounterVec;

use super::flag;

/// What one worker carried for one server name, or all of them to one server behind, over one kind of key exchange since it
/// was last collected. Of plaintext,
/// in bytes. On a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Tally {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Tally {
    /// So much came from the peer.
    pub fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Relaxed);
    }

    /// So much went to the peer.
    pub fn sent(&self, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Relaxed);
    }

    /// What was received and sent since this was called last.
    pub(super) fn take(&self) -> (u64, u64) {
        (self.received.swap(0, Relaxed), self.sent.swap(0, Relaxed))
    }
}

/// The tallies of one worker.
#[derive(Debug, Default)]
pub(super) struct Tallies(Mutex<[HashMap<Box<str>, Arc<Tally>>; 2]>);

impl Tallies {
    /// The tally of the connections with this server name, which is one of a bounded set.
    pub(super) fn of(&self, post_quantum: bool, server_name: &str) -> Arc<Tally> {
        let tallies = &mut self.0.lock().unwrap_or_else(PoisonError::into_inner)[usize::from(post_quantum)];
        match tallies.get(server_name) {
            Some(tally) => tally.clone(),
            None => tallies.entry(server_name.into()).or_default().clone(),
        }
    }
}

/// The tallies of all workers, and the counters that they are collected into.
#[derive(Debug)]
pub(super) struct Exposure {
    bytes: IntCounterVec,
    workers: Mutex<Vec<Arc<Tallies>>>,
}

impl Exposure {
    pub(super) fn new(bytes: IntCounterVec) -> Self {
        Self { bytes, workers: Mutex::default() }
    }

    /// The tallies of one more worker.
    pub(super) fn worker(&self) -> Arc<Tallies> {
        let tallies = Arc::<Tallies>::default();
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(tallies.clone());
        tallies
    }

    /// Moves what was tallied into the counters.
    pub(super) fn collect(&self) {
        for worker in self.workers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let tallies = worker.0.lock().unwrap_or_else(PoisonError::into_inner);
            for (post_quantum, names) in [false, true].into_iter().zip(tallies.iter()) {
                for (name, tally) in names {
                    let (received, sent) = tally.take();
                    for (direction, count) in [("received", received), ("sent", sent)] {
                        self.bytes.with_label_values(&[direction, flag(post_quantum), name]).inc_by(count);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;

    use super::*;

    #[test]
    fn what_several_workers_carried_is_summed_and_counted_once() {
        let labels = ["direction", "pq", "server_name"];
        let exposure = Exposure::new(IntCounterVec::new(Opts::new("bytes", "help"), &labels).unwrap());
        let workers = [exposure.worker(), exposure.worker()];
        let count = |direction, pq, name| exposure.bytes.with_label_values(&[direction, pq, name]).get();
        workers[0].of(true, "a.example").sent(10);
        workers[1].of(true, "a.example").sent(20);
        let long = workers[1].of(false, "a.example");
        long.received(5);
        exposure.collect();
        exposure.collect();
        assert_eq!((count("sent", "true", "a.example"), count("received", "false", "a.example")), (30, 5));
        long.received(1);
        workers[1].of(false, "a.example").received(1);
        exposure.collect();
        assert_eq!(count("received", "false", "a.example"), 7);
    }
}
