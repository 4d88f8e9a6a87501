//! Resumption: where sessions are kept, for how long, how many, and what they are bound to.
//!
//! There are two ways. In the [`cache`](SessionCache) a session stays here, and the client gets a random identifier.
//! With [`TicketKeys`] it goes to the client as a sealed ticket, and every server that has the keys can resume it.
//! Clients that are verified always get the first way: a ticket would carry their whole chain in each ClientHello.
//!
//! rustls binds a session to its suite and server name only, advertises 24 hours for what is in a store, and checks no
//! age. So both ways stand behind its trait for tickets, which is asked for the lifetime; both check the age; and both
//! are bound to the endpoint ([`Binding`](crate::endpoint::Binding)).

mod cache;
mod counters;
mod key_file;
mod tickets;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::ProducesTickets;

pub(crate) use cache::SessionCache;
pub use counters::{LookupResult, SessionCounters};
pub use key_file::{KeyRole, Rotation, TicketKeyFile};
pub use tickets::{MAX_CLOCK_SKEW, MAX_STEPS, TicketKeys, TicketSecret};

use crate::endpoint::Binding;
use cache::CachedSessions;
use tickets::SealedSessions;

/// For how long and how many sessions can be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// How long a session can be resumed. Zero turns resumption off.
    pub timeout: Duration,
    /// How many sessions are kept; the oldest goes first. Zero turns resumption off, but for tickets, which are kept
    /// by the clients.
    pub capacity: usize,
}

/// How sessions are resumed.
#[derive(Clone, Debug)]
pub struct SessionOptions {
    /// For how long and how many.
    pub limits: SessionLimits,
    /// The keys of tickets; `None` keeps the sessions here.
    pub ticket_keys: Option<Arc<TicketKeys>>,
    /// What is counted. One value for the process.
    pub counters: Arc<SessionCounters>,
}

/// Sessions in a cache, counted for nobody.
impl From<SessionLimits> for SessionOptions {
    fn from(limits: SessionLimits) -> Self {
        Self { limits, ticket_keys: None, counters: Arc::default() }
    }
}

/// How one endpoint resumes sessions.
#[derive(Clone, Debug)]
pub(crate) enum Sessions {
    /// It doesn't.
    Off,
    /// From the cache.
    Cached(Arc<CachedSessions>),
    /// From tickets.
    Sealed(Arc<SealedSessions>),
}

impl Sessions {
    /// What an endpoint with this binding does. `previous` is what the endpoint did that this one takes the place of,
    /// if that had the same binding: then its sessions stay.
    pub(crate) fn new(
        options: SessionOptions,
        binding: Binding,
        clients_are_verified: bool,
        previous: Option<&Self>,
    ) -> Self {
        let SessionOptions { limits, ticket_keys, counters } = options;
        if limits.timeout.is_zero() {
            return Self::Off;
        }
        match ticket_keys {
            Some(keys) if !clients_are_verified => {
                Self::Sealed(Arc::new(SealedSessions::new(keys, binding, limits.timeout, counters)))
            }
            _ if limits.capacity == 0 => Self::Off,
            _ => {
                let kept = match previous {
                    Some(Self::Cached(previous)) => previous.cache_for(limits.capacity),
                    _ => None,
                };
                let cache = kept.unwrap_or_else(|| Arc::new(SessionCache::new(limits.capacity, counters.clone())));
                Self::Cached(Arc::new(CachedSessions::new(cache, limits, counters)))
            }
        }
    }

    pub(crate) fn ticket_keys(&self) -> Option<&TicketKeys> {
        match self {
            Self::Off | Self::Cached(_) => None,
            Self::Sealed(sessions) => Some(sessions.keys()),
        }
    }

    /// What rustls is given; `None` where nothing is resumed, and no ticket must be sent.
    pub(crate) fn ticketer(&self) -> Option<Arc<dyn ProducesTickets>> {
        match self {
            Self::Off => None,
            Self::Cached(sessions) => Some(sessions.clone()),
            Self::Sealed(sessions) => Some(sessions.clone()),
        }
    }
}

impl fmt::Display for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Cached(_) => f.write_str("in this process"),
            Self::Sealed(sessions) => {
                let keys = sessions.keys();
                write!(f, "tickets under key {}, {} known", keys.sealing_name(), keys.count())
            }
        }
    }
}

/// For the wire, which counts in seconds up to seven days (RFC 9846 §4.6.1).
fn lifetime(timeout: Duration) -> u32 {
    const SEVEN_DAYS: u64 = 604_800;
    timeout.as_secs().clamp(1, SEVEN_DAYS) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(timeout: u64, capacity: usize, keys: bool, verified: bool, previous: Option<&Sessions>) -> Sessions {
        let keys = keys.then(|| Arc::new(TicketKeys::from_file(&TicketKeyFile::generate().unwrap()).unwrap()));
        let limits = SessionLimits { timeout: Duration::from_secs(timeout), capacity };
        let options = SessionOptions { limits, ticket_keys: keys, counters: Arc::default() };
        Sessions::new(options, Binding::for_tests(1), verified, previous)
    }

    #[test]
    fn each_way_where_it_belongs() {
        assert!(matches!(sessions(60, 10, false, false, None), Sessions::Cached(_)));
        assert!(matches!(sessions(60, 10, true, false, None), Sessions::Sealed(_)));
        assert!(matches!(sessions(60, 10, true, true, None), Sessions::Cached(_)), "clients are verified");
        assert!(matches!(sessions(60, 0, true, false, None), Sessions::Sealed(_)), "tickets need no cache");
        for (capacity, keys, verified) in [(10, false, false), (10, true, false), (10, true, true)] {
            let off = sessions(0, capacity, keys, verified, None);
            assert!(matches!(off, Sessions::Off) && off.ticketer().is_none());
        }
        assert!(matches!(sessions(60, 0, false, false, None), Sessions::Off));
        assert!(matches!(sessions(60, 0, true, true, None), Sessions::Off));
    }

    #[test]
    fn clients_are_told_the_timeout() {
        for keys in [false, true] {
            let lifetime = |timeout| sessions(timeout, 10, keys, false, None).ticketer().unwrap().lifetime();
            assert_eq!((lifetime(1), lifetime(3600), lifetime(604_800)), (1, 3600, 604_800));
        }
    }

    #[test]
    fn a_successor_takes_the_sessions_over_with_its_own_limits() {
        let first = sessions(60, 100, false, false, None);
        let id = first.ticketer().unwrap().encrypt(b"session").unwrap();
        let same = sessions(60, 50, false, false, Some(&first));
        assert_eq!(same.ticketer().unwrap().decrypt(&id), Some(b"session".to_vec()));
        let id = same.ticketer().unwrap().encrypt(b"session").unwrap();
        assert_eq!(first.ticketer().unwrap().decrypt(&id), Some(b"session".to_vec()), "as long as both are in use");
        let sealed = sessions(60, 50, true, false, Some(&first));
        assert_eq!(sealed.ticketer().unwrap().decrypt(&id), None);
    }
}
