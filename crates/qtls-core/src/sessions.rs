//! Resumption: where sessions are kept, for how long, and how many.
//!
//! rustls binds a session to its suite and server name only. A store belongs to one endpoint (one virtual host, one
//! policy, one set of trust anchors), so that a session made under one of them is never found under another.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::server::{NoServerSessionStorage, StoresServerSessions};

/// How sessions are resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// How long a session can be resumed. Zero turns resumption off.
    pub timeout: Duration,
    /// How many sessions are kept; the oldest goes first. Zero turns resumption off.
    pub capacity: usize,
}

impl SessionLimits {
    /// Whether any session can be resumed at all.
    pub fn enabled(&self) -> bool {
        !self.timeout.is_zero() && self.capacity > 0
    }

    /// A new, empty store for one endpoint.
    pub fn store(&self) -> Arc<dyn StoresServerSessions> {
        if self.enabled() { Arc::new(SessionCache::new(*self)) } else { Arc::new(NoServerSessionStorage {}) }
    }
}

/// A bounded store that enforces the age of its sessions. rustls' own advertises 24 hours and checks no age.
#[derive(Debug)]
pub struct SessionCache {
    timeout: Duration,
    /// Workers meet here once a handshake: several locks keep them apart.
    shards: Vec<Mutex<Shard>>,
}

#[derive(Debug, Default)]
struct Shard {
    capacity: usize,
    sessions: HashMap<Vec<u8>, (u64, Instant, Vec<u8>)>,
    /// Keys by age.
    order: BTreeMap<u64, Vec<u8>>,
    next: u64,
}

impl SessionCache {
    const SHARDS: usize = 16;

    /// An empty cache.
    pub fn new(limits: SessionLimits) -> Self {
        let shards = Self::SHARDS.min(limits.capacity).max(1);
        let shard = |index| {
            // Together exactly the capacity, however it divides.
            let capacity = limits.capacity / shards + usize::from(index < limits.capacity % shards);
            Mutex::new(Shard { capacity, ..Shard::default() })
        };
        Self { timeout: limits.timeout, shards: (0..shards).map(shard).collect() }
    }

    fn with<T>(&self, key: &[u8], f: impl FnOnce(&mut Shard) -> T) -> T {
        // Session IDs are random.
        let shard = usize::from(key.first().copied().unwrap_or_default()) % self.shards.len();
        f(&mut self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put_at(&self, now: Instant, key: Vec<u8>, value: Vec<u8>) {
        self.with(&key.clone(), |shard| {
            shard.remove(&key);
            while shard.sessions.len() >= shard.capacity {
                let Some((_, oldest)) = shard.order.pop_first() else { break };
                shard.sessions.remove(&oldest);
            }
            let id = shard.next;
            shard.next += 1;
            shard.order.insert(id, key.clone());
            shard.sessions.insert(key, (id, now, value));
        });
    }

    fn take_at(&self, now: Instant, key: &[u8]) -> Option<Vec<u8>> {
        self.with(key, |shard| shard.remove(key))
            .and_then(|(made, value)| (now.saturating_duration_since(made) < self.timeout).then_some(value))
    }

    fn get_at(&self, now: Instant, key: &[u8]) -> Option<Vec<u8>> {
        self.with(key, |shard| {
            let (_, made, value) = shard.sessions.get(key)?;
            (now.saturating_duration_since(*made) < self.timeout).then(|| value.clone())
        })
    }
}

impl Shard {
    fn remove(&mut self, key: &[u8]) -> Option<(Instant, Vec<u8>)> {
        let (id, made, value) = self.sessions.remove(key)?;
        self.order.remove(&id);
        Some((made, value))
    }
}

impl StoresServerSessions for SessionCache {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.put_at(Instant::now(), key, value);
        true
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.get_at(Instant::now(), key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.take_at(Instant::now(), key)
    }

    fn can_cache(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(capacity: usize) -> SessionCache {
        SessionCache::new(SessionLimits { timeout: Duration::from_secs(60), capacity })
    }

    #[test]
    fn a_session_ends_with_its_timeout() {
        let cache = cache(10);
        let start = Instant::now();
        cache.put_at(start, vec![1], vec![7]);
        assert_eq!(cache.get_at(start + Duration::from_secs(59), &[1]), Some(vec![7]));
        assert_eq!(cache.get_at(start + Duration::from_secs(60), &[1]), None);
        assert_eq!(cache.take_at(start + Duration::from_secs(60), &[1]), None);
    }

    #[test]
    fn a_taken_session_is_gone() {
        let cache = cache(10);
        let now = Instant::now();
        cache.put_at(now, vec![1], vec![7]);
        assert_eq!(cache.take_at(now, &[1]), Some(vec![7]));
        assert_eq!(cache.take_at(now, &[1]), None);
    }

    #[test]
    fn the_capacity_holds_exactly_and_the_oldest_goes_first() {
        for capacity in [1, 5, 16, 100] {
            let cache = cache(capacity);
            let now = Instant::now();
            for key in 0u32..5000 {
                cache.put_at(now, key.to_le_bytes().to_vec(), vec![]);
            }
            let kept: Vec<_> = (0u32..5000).filter(|key| cache.get_at(now, &key.to_le_bytes()).is_some()).collect();
            assert!(kept.len() <= capacity, "{} of {capacity}", kept.len());
            assert!(kept.len() * 2 >= capacity.min(10), "{} of {capacity}", kept.len());
            assert!(kept.contains(&4999));
        }
    }

    #[test]
    fn putting_again_replaces() {
        let cache = cache(1);
        let now = Instant::now();
        cache.put_at(now, vec![1], vec![7]);
        cache.put_at(now, vec![1], vec![8]);
        assert_eq!(cache.get_at(now, &[1]), Some(vec![8]));
    }

    #[test]
    fn zero_turns_resumption_off() {
        let off = |timeout, capacity| SessionLimits { timeout: Duration::from_secs(timeout), capacity };
        assert!(!off(0, 10).store().can_cache());
        assert!(!off(10, 0).store().can_cache());
        assert!(off(10, 10).store().can_cache());
    }
}
