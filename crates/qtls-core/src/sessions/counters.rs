//! What resumption is counted by. The proxy shows it as metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// What became of one session or ticket that a client came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupResult {
    /// It was found, or opened. rustls may still refuse it, for another suite or server name.
    Ok,
    /// No key of ours has sealed it; no such session is kept.
    Unknown,
    /// It is older than the timeout.
    Expired,
    /// It was sealed for another virtual host or policy, was changed on the way, or comes from too far in the future.
    Invalid,
}

impl LookupResult {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Unknown, Self::Expired, Self::Invalid];
}

/// Counts of a whole process, each since it started. They outlive the endpoints, which a reload replaces.
#[derive(Debug, Default)]
pub struct SessionCounters {
    cached: AtomicU64,
    evictions: AtomicU64,
    lookups: [AtomicU64; 4],
    tickets: [AtomicU64; 4],
}

impl SessionCounters {
    /// How many sessions are kept now, in all caches together.
    pub fn cached(&self) -> u64 {
        self.cached.load(Ordering::Relaxed)
    }

    /// How many sessions had to give way to newer ones before they had reached their timeout.
    pub fn evictions(&self) -> u64 {
        self.evictions.load(Ordering::Relaxed)
    }

    /// How many sessions were looked for in a cache, with this result. Never [`Invalid`](LookupResult::Invalid).
    pub fn lookups(&self, result: LookupResult) -> u64 {
        self.lookups[result as usize].load(Ordering::Relaxed)
    }

    /// How many tickets were opened, or not, with this result.
    pub fn tickets(&self, result: LookupResult) -> u64 {
        self.tickets[result as usize].load(Ordering::Relaxed)
    }

    pub(super) fn kept(&self) {
        self.cached.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn gone(&self, count: usize) {
        self.cached.fetch_sub(count as u64, Ordering::Relaxed);
    }

    pub(super) fn evicted(&self) {
        self.evictions.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn looked_up(&self, result: LookupResult) {
        self.lookups[result as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ticket(&self, result: LookupResult) {
        self.tickets[result as usize].fetch_add(1, Ordering::Relaxed);
    }
}
