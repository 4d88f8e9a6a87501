//! What clients are able to do: the groups and schemes that their ClientHellos offer.
//!
//! A ClientHello offers two dozen of them, and so a worker has counters of its own that no other processor writes to.
//! Whoever reads the metrics collects what is there.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounter, IntCounterVec};
use qtls_core::client_hello::Offer;
use qtls_core::policy::{Group, Named, SCHEMES, is_grease};

use super::table::{CLIENT_GROUPS, CLIENT_SCHEMES};

/// The offers that workers have seen, and the counters that they are collected into.
#[derive(Debug)]
pub(super) struct Offers {
    hellos: IntCounter,
    /// In the order of the policy table; behind it, the one for all others.
    groups: Vec<IntCounter>,
    schemes: Vec<IntCounter>,
    workers: Mutex<Vec<Arc<Seen>>>,
}

/// What one worker has seen since it was last collected. Each ClientHello adds one at most to each count.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Seen {
    hellos: AtomicU64,
    groups: Box<[AtomicU64]>,
    schemes: Box<[AtomicU64]>,
}

impl Offers {
    pub(super) fn new(hellos: IntCounter, groups: &IntCounterVec, schemes: &IntCounterVec) -> Self {
        let all = |counters: &IntCounterVec, names: Option<Vec<&str>>| {
            names.unwrap_or_default().into_iter().map(|name| counters.with_label_values(&[name])).collect()
        };
        Self {
            hellos,
            groups: all(groups, CLIENT_GROUPS.labels[0].values.known()),
            schemes: all(schemes, CLIENT_SCHEMES.labels[0].values.known()),
            workers: Mutex::default(),
        }
    }

    /// The counts of one more worker.
    pub(super) fn worker(&self) -> Arc<Seen> {
        let zeroes = |count| (0..count).map(|_| AtomicU64::new(0)).collect();
        let (groups, schemes) = (zeroes(Group::ALL.len() + 1), zeroes(SCHEMES.len() + 1));
        let seen = Arc::new(Seen { hellos: AtomicU64::new(0), groups, schemes });
        self.workers.lock().unwrap_or_else(PoisonError::into_inner).push(seen.clone());
        seen
    }

    /// Moves what was seen into the counters.
    pub(super) fn collect(&self) {
        for seen in self.workers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let take = |count: &AtomicU64| count.swap(0, Relaxed);
            self.hellos.inc_by(take(&seen.hellos));
            let each = |counters: &[IntCounter], seen: &[AtomicU64]| {
                counters.iter().zip(seen).for_each(|(counter, count)| counter.inc_by(take(count)));
            };
            each(&self.groups, &seen.groups);
            each(&self.schemes, &seen.schemes);
        }
    }
}

impl Seen {
    pub(super) fn count(&self, offer: &Offer) {
        self.hellos.fetch_add(1, Relaxed);
        let groups = offer.groups.iter().map(|offered| {
            let place = Group::ALL.iter().position(|group| group.code_point() == *offered);
            (*offered, place.unwrap_or(Group::ALL.len()))
        });
        count_each(&self.groups, groups);
        let schemes = offer.schemes.iter().map(|offered| {
            let place = SCHEMES.iter().position(|(scheme, _)| scheme == offered);
            (u16::from(*offered), place.unwrap_or(SCHEMES.len()))
        });
        count_each(&self.schemes, schemes);
    }
}

/// Adds one to each count whose place occurs, however often it does.
fn count_each(counts: &[AtomicU64], offered: impl Iterator<Item = (u16, usize)>) {
    let seen =
        offered.filter(|(code_point, _)| !is_grease(*code_point)).fold(0_u64, |seen, (_, place)| seen | 1 << place);
    for (place, count) in counts.iter().enumerate() {
        if seen & 1 << place != 0 {
            count.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Opts;
    use rustls::SignatureScheme;

    use super::*;

    #[test]
    fn each_hello_counts_once_for_each_name_and_grease_for_none() {
        let vec = |label| IntCounterVec::new(Opts::new("x", "y"), &[label]).unwrap();
        let (groups, schemes) = (vec("group"), vec("scheme"));
        let hellos = IntCounter::new("hellos", "z").unwrap();
        let offers = Offers::new(hellos.clone(), &groups, &schemes);
        let scheme = SignatureScheme::from;
        let workers = [offers.worker(), offers.worker()];
        for worker in &workers {
            worker.count(&Offer {
                // GREASE, X25519MLKEM768, x25519 twice, secp521r1, and the draft of Kyber.
                groups: vec![0x2a2a, 0x11ec, 0x001d, 0x001d, 0x0019, 0x6399],
                schemes: vec![scheme(0x0905), scheme(0x0403), scheme(0x3a3a)],
                ..Offer::default()
            });
        }
        workers[1].count(&Offer { groups: vec![0x4a4a], schemes: vec![scheme(0x0808)], ..Offer::default() });
        // Each is counted once, however often it is collected.
        offers.collect();
        offers.collect();
        let group = |name: &str| groups.with_label_values(&[name]).get();
        let scheme = |name: &str| schemes.with_label_values(&[name]).get();
        assert_eq!(hellos.get(), 3);
        assert_eq!(["X25519MLKEM768", "x25519", "secp256r1", "other"].map(group), [2, 2, 0, 2]);
        assert_eq!(["mldsa65", "ecdsa_secp256r1_sha256", "ed25519", "other"].map(scheme), [2, 2, 0, 1]);
    }
}
