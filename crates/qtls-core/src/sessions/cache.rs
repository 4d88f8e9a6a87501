//! Sessions that stay here, by reference.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

use super::counters::{LookupResult, SessionCounters};
use super::{SessionLimits, lifetime};
use crate::credentials::random;

/// What a client gets in place of a session.
type Id = [u8; 32];

/// A bounded store that enforces the age of its sessions.
pub(crate) struct SessionCache {
    /// Workers meet here once a handshake: several locks keep them apart.
    shards: Vec<Mutex<Shard>>,
    counters: Arc<SessionCounters>,
}

#[derive(Default)]
struct Shard {
    sessions: HashMap<Id, Session>,
    /// Identifiers by age.
    order: BTreeMap<u64, Id>,
    next: u64,
}

struct Session {
    order: u64,
    made: Instant,
    /// With its secret.
    value: Zeroizing<Vec<u8>>,
}

impl SessionCache {
    const SHARDS: usize = 16;
    /// In a shard of few, one burst of handshakes would push out what others have just made.
    const LEAST: usize = 64;

    /// An empty cache for at least one session.
    pub(super) fn new(capacity: usize, counters: Arc<SessionCounters>) -> Self {
        let shards = (capacity / Self::LEAST).clamp(1, Self::SHARDS);
        Self { shards: (0..shards).map(|_| Mutex::default()).collect(), counters }
    }

    fn with<T>(&self, id: &Id, f: impl FnOnce(usize, &mut Shard) -> T) -> T {
        // Identifiers are random, and clients that make up their own find nothing.
        let index = usize::from(id[0]) % self.shards.len();
        f(index, &mut self.shards[index].lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn put(&self, now: Instant, limits: SessionLimits, id: Id, value: Zeroizing<Vec<u8>>) {
        self.with(&id, |index, shard| {
            self.counters.gone(shard.expire(now, limits.timeout));
            // Together exactly the capacity, however it divides.
            let shards = self.shards.len();
            let capacity = limits.capacity / shards + usize::from(index < limits.capacity % shards);
            while shard.sessions.len() >= capacity && shard.remove_oldest() {
                self.counters.gone(1);
                self.counters.evicted();
            }
            let order = shard.next;
            shard.next += 1;
            shard.order.insert(order, id);
            shard.sessions.insert(id, Session { order, made: now, value });
            self.counters.kept();
        });
    }

    /// A session is resumed once: whoever saw its identifier on the wire can't come with it again.
    fn take(&self, now: Instant, timeout: Duration, id: &Id) -> Result<Zeroizing<Vec<u8>>, LookupResult> {
        self.with(id, |_, shard| {
            let found = shard.sessions.remove(id);
            if let Some(session) = &found {
                shard.order.remove(&session.order);
                self.counters.gone(1);
            }
            self.counters.gone(shard.expire(now, timeout));
            match found {
                None => Err(LookupResult::Unknown),
                Some(session) if session.is_over(now, timeout) => Err(LookupResult::Expired),
                Some(session) => Ok(session.value),
            }
        })
    }
}

impl Shard {
    /// Secrets that open nothing any more don't stay in memory.
    fn expire(&mut self, now: Instant, timeout: Duration) -> usize {
        let before = self.sessions.len();
        while let Some((_, id)) = self.order.first_key_value() {
            if self.sessions.get(id).is_some_and(|session| !session.is_over(now, timeout)) {
                break;
            }
            self.remove_oldest();
        }
        before - self.sessions.len()
    }

    fn remove_oldest(&mut self) -> bool {
        let Some((_, id)) = self.order.pop_first() else { return false };
        self.sessions.remove(&id).is_some()
    }
}

impl Session {
    fn is_over(&self, now: Instant, timeout: Duration) -> bool {
        now.saturating_duration_since(self.made) >= timeout
    }
}

impl Drop for SessionCache {
    fn drop(&mut self) {
        for shard in &mut self.shards {
            let shard = shard.get_mut().unwrap_or_else(PoisonError::into_inner);
            self.counters.gone(shard.sessions.len());
        }
    }
}

impl fmt::Debug for SessionCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionCache").finish_non_exhaustive()
    }
}

/// A cache as one endpoint uses it. After a reload two endpoints may, each with its own limits.
#[derive(Debug)]
pub(crate) struct CachedSessions {
    cache: Arc<SessionCache>,
    limits: SessionLimits,
    counters: Arc<SessionCounters>,
}

impl CachedSessions {
    pub(super) fn new(cache: Arc<SessionCache>, limits: SessionLimits, counters: Arc<SessionCounters>) -> Self {
        Self { cache, limits, counters }
    }

    /// The cache, for an endpoint with another capacity, if every part of it can have a session then.
    pub(super) fn cache_for(&self, capacity: usize) -> Option<Arc<SessionCache>> {
        (capacity >= self.cache.shards.len()).then(|| self.cache.clone())
    }
}

/// The identifier stands in the place of a ticket.
impl ProducesTickets for CachedSessions {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        lifetime(self.limits.timeout)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let id = random().ok()?;
        self.cache.put(Instant::now(), self.limits, id, Zeroizing::new(plain.to_vec()));
        Some(id.to_vec())
    }

    fn decrypt(&self, id: &[u8]) -> Option<Vec<u8>> {
        let found = match id.try_into() {
            Ok(id) => self.cache.take(Instant::now(), self.limits.timeout, id),
            Err(_) => Err(LookupResult::Unknown),
        };
        self.counters.looked_up(found.as_ref().err().copied().unwrap_or(LookupResult::Ok));
        found.ok().map(|mut value| std::mem::take(&mut *value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn limits(capacity: usize) -> SessionLimits {
        SessionLimits { timeout: MINUTE, capacity }
    }

    fn cache(capacity: usize) -> (SessionCache, Arc<SessionCounters>) {
        let counters = Arc::<SessionCounters>::default();
        (SessionCache::new(capacity, counters.clone()), counters)
    }

    fn id(number: u32) -> Id {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_le_bytes());
        // Evenly over all shards.
        id[0] = (number % 240) as u8;
        id[4] = (number / 240) as u8;
        id
    }

    fn put(cache: &SessionCache, now: Instant, capacity: usize, number: u32) {
        cache.put(now, limits(capacity), id(number), Zeroizing::new(vec![7]));
    }

    #[test]
    fn a_session_ends_with_its_timeout() {
        let (cache, counters) = cache(10);
        let start = Instant::now();
        (0..4).for_each(|number| put(&cache, start, 10, number));
        let take = |seconds, number| cache.take(start + Duration::from_secs(seconds), MINUTE, &id(number));
        assert_eq!(**take(59, 0).as_ref().unwrap(), [7]);
        assert_eq!(take(60, 1), Err(LookupResult::Expired));
        assert_eq!(counters.cached(), 0, "the others went with it");
        (0..10).for_each(|number| put(&cache, start, 10, number));
        put(&cache, start + MINUTE, 10, 20);
        assert_eq!((counters.cached(), counters.evictions()), (1, 0), "what has expired was not evicted");
    }

    #[test]
    fn a_taken_session_is_gone() {
        let (cache, counters) = cache(10);
        let now = Instant::now();
        put(&cache, now, 10, 1);
        assert!(cache.take(now, MINUTE, &id(1)).is_ok());
        assert_eq!(cache.take(now, MINUTE, &id(1)), Err(LookupResult::Unknown));
        assert_eq!(counters.cached(), 0);
    }

    #[test]
    fn the_capacity_holds_exactly_and_the_oldest_goes_first() {
        for capacity in [1, 5, 16, 100, 1000] {
            let (cache, counters) = cache(capacity);
            let now = Instant::now();
            for number in 0..5000 {
                put(&cache, now, capacity, number);
            }
            assert_eq!(counters.cached() as usize, capacity);
            assert_eq!(counters.evictions() as usize, 5000 - capacity);
            let kept: Vec<_> = (0..5000).filter(|number| cache.take(now, MINUTE, &id(*number)).is_ok()).collect();
            assert_eq!(kept.len(), capacity);
            assert!(kept.contains(&4999));
            let oldest = 5000 - kept[0] as usize;
            assert!(oldest <= capacity + SessionCache::SHARDS, "{oldest} of {capacity}");
            assert_eq!(counters.cached(), 0);
        }
    }

    #[test]
    fn a_smaller_capacity_holds_from_the_next_session_on() {
        let (cache, counters) = cache(160);
        let now = Instant::now();
        for number in 0..160 {
            put(&cache, now, 160, number);
        }
        for number in 160..176 {
            put(&cache, now, 16, number);
        }
        assert_eq!((counters.cached(), counters.evictions()), (16, 160));
    }

    #[test]
    fn what_a_cache_held_is_not_counted_after_its_end() {
        let (cache, counters) = cache(100);
        (0..10).for_each(|number| put(&cache, Instant::now(), 100, number));
        assert_eq!(counters.cached(), 10);
        drop(cache);
        assert_eq!(counters.cached(), 0);
    }

    #[test]
    fn a_client_gets_a_random_identifier_and_its_outcome_is_counted() {
        let counters = Arc::<SessionCounters>::default();
        let cache = Arc::new(SessionCache::new(10, counters.clone()));
        let sessions = CachedSessions::new(cache, limits(10), counters.clone());
        let (one, other) = (sessions.encrypt(b"one").unwrap(), sessions.encrypt(b"other").unwrap());
        assert_eq!((one.len(), one == other), (32, false));
        assert_eq!(sessions.decrypt(&one), Some(b"one".to_vec()));
        for nothing in [&one[..], &one[..31], &[], &[0; 2000]] {
            assert_eq!(sessions.decrypt(nothing), None);
        }
        assert_eq!(sessions.decrypt(&other), Some(b"other".to_vec()));
        let counted = LookupResult::ALL.map(|result| counters.lookups(result));
        assert_eq!(counted, [2, 4, 0, 0]);
        assert_eq!(format!("{sessions:?}").matches("other").count(), 0);
    }
}
