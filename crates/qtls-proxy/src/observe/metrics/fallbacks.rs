//! Who still falls back to classical key exchange: by network and server name, in bounded memory.
//!
//! There may be more networks and names than can be kept, and clients make up names. This is the Space-Saving algorithm
//! (Metwally, Agrawal, El Abbadi: Efficient Computation of Frequent and Top-k Elements in Data Streams, 2005): a newcomer
//! takes the place of whoever has the smallest count, and inherits that count as the most that it may be too high.
//! Whoever makes more than one in [`PLACES`] of all fallbacks is never missing.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How many pairs of network and name are kept.
const PLACES: usize = 512;
/// After this time, counting begins anew; what was counted before is shown for as long again.
const WINDOW: Duration = Duration::from_secs(12 * 3600);

/// A network of clients: a /24 of IPv4, a /48 of IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix(IpAddr);

impl Prefix {
    /// The one that a client is in.
    pub fn of(client: IpAddr) -> Self {
        Self(match client.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & u32::MAX << 8)),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & u128::MAX << 80)),
        })
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, if self.0.is_ipv4() { 24 } else { 48 })
    }
}

/// Clients that fell back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fallback {
    /// Their network.
    pub network: Prefix,
    /// The name that they asked for, in lower case.
    pub server_name: Option<Box<str>>,
    /// How many handshakes there were, at most.
    pub count: u64,
    /// By how much that may be too high.
    pub over: u64,
    /// The last of them.
    pub last: SystemTime,
}

/// Counts handshakes with classical key exchange.
#[derive(Debug)]
pub(super) struct Fallbacks(Mutex<Windows>);

#[derive(Debug)]
struct Windows {
    began: Instant,
    current: Places,
    previous: Places,
}

type Key = (Prefix, Option<Box<str>>);

#[derive(Debug, Default)]
struct Places(HashMap<Key, Count>);

#[derive(Clone, Copy, Debug)]
struct Count {
    count: u64,
    over: u64,
    last: SystemTime,
}

impl Default for Fallbacks {
    fn default() -> Self {
        Self(Mutex::new(Windows { began: Instant::now(), current: Places::default(), previous: Places::default() }))
    }
}

impl Fallbacks {
    pub(super) fn count(&self, client: IpAddr, server_name: Option<&str>) {
        let key = (Prefix::of(client), server_name.map(|name| name.to_ascii_lowercase().into()));
        self.at(Instant::now()).current.count(key, SystemTime::now());
    }

    pub(super) fn top(&self, most: usize) -> Vec<Fallback> {
        self.at(Instant::now()).top(most)
    }

    fn at(&self, now: Instant) -> MutexGuard<'_, Windows> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.turn(now);
        windows
    }
}

impl Windows {
    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.began);
        if age < WINDOW {
            return;
        }
        let ended = std::mem::take(&mut self.current);
        self.previous = if age < WINDOW * 2 { ended } else { Places::default() };
        self.began = now;
    }

    fn top(&self, most: usize) -> Vec<Fallback> {
        let mut all: HashMap<&Key, Count> = HashMap::new();
        for (key, found) in self.previous.0.iter().chain(&self.current.0) {
            let sum = all.entry(key).or_insert(Count { count: 0, over: 0, ..*found });
            *sum =
                Count { count: sum.count + found.count, over: sum.over + found.over, last: sum.last.max(found.last) };
        }
        let mut all: Vec<_> = all
            .into_iter()
            .map(|((network, server_name), Count { count, over, last })| Fallback {
                network: *network,
                server_name: server_name.clone(),
                count,
                over,
                last,
            })
            .collect();
        all.sort_by(|one, other| {
            let key = |found: &Fallback| (found.network, found.server_name.clone());
            other.count.cmp(&one.count).then_with(|| key(one).cmp(&key(other)))
        });
        all.truncate(most);
        all
    }
}

impl Places {
    fn count(&mut self, key: Key, now: SystemTime) {
        if let Some(found) = self.0.get_mut(&key) {
            *found = Count { count: found.count + 1, last: now, ..*found };
            return;
        }
        let mut over = 0;
        if self.0.len() >= PLACES {
            let least = self.0.iter().min_by_key(|(_, found)| found.count);
            if let Some((least, found)) = least.map(|(least, found)| (least.clone(), *found)) {
                self.0.remove(&least);
                over = found.count;
            }
        }
        self.0.insert(key, Count { count: over + 1, over, last: now });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn networks_hide_single_clients() {
        for (client, network) in [
            ("192.0.2.77", "192.0.2.0/24"),
            ("::ffff:192.0.2.77", "192.0.2.0/24"),
            ("2001:db8:1:2:3::4", "2001:db8:1::/48"),
            ("::1", "::/48"),
        ] {
            assert_eq!(Prefix::of(address(client)).to_string(), network);
        }
    }

    #[test]
    fn clients_are_summed_by_network_and_name() {
        let fallbacks = Fallbacks::default();
        for (client, name) in [
            ("192.0.2.1", Some("a.example")),
            ("192.0.2.2", Some("A.example")),
            ("192.0.2.2", None),
            ("198.51.100.1", Some("a.example")),
        ] {
            fallbacks.count(address(client), name);
        }
        let top: Vec<_> = fallbacks
            .top(10)
            .into_iter()
            .map(|found| (found.network.to_string(), found.server_name, found.count, found.over))
            .collect();
        let name = || Some("a.example".into());
        assert_eq!(
            top,
            [
                ("192.0.2.0/24".to_owned(), name(), 2, 0),
                ("192.0.2.0/24".to_owned(), None, 1, 0),
                ("198.51.100.0/24".to_owned(), name(), 1, 0),
            ]
        );
        assert_eq!(fallbacks.top(1).len(), 1);
    }

    #[test]
    fn whoever_is_frequent_is_found_among_any_number_of_made_up_names() {
        let mut places = Places::default();
        let frequent = || (Prefix::of(address("192.0.2.1")), None);
        for number in 0..100_000_u32 {
            places.count(
                (Prefix::of(address("198.51.100.1")), Some(format!("{number}.example").into())),
                SystemTime::now(),
            );
            if number % 100 == 0 {
                places.count(frequent(), SystemTime::now());
            }
        }
        assert_eq!(places.0.len(), PLACES);
        let found = places.0[&frequent()];
        assert!((found.count - found.over..=found.count).contains(&1000), "{found:?}");
        let total: u64 = places.0.values().map(|found| found.count).sum();
        assert_eq!(total, 101_000, "each one is in somebody's count");
        let larger = places.0.values().filter(|other| other.count > found.count).count();
        assert_eq!(larger, 0, "{found:?}");
    }

    #[test]
    fn what_is_older_than_a_day_is_gone() {
        let fallbacks = Fallbacks::default();
        fallbacks.count(address("192.0.2.1"), None);
        let began = Instant::now();
        let count = |hours: u64| {
            let windows = fallbacks.at(began + Duration::from_secs(hours * 3600));
            windows.top(9).iter().map(|found| found.count).sum::<u64>()
        };
        assert_eq!([count(11), count(13)], [1, 1]);
        fallbacks
            .at(began + Duration::from_secs(14 * 3600))
            .current
            .count((Prefix::of(address("192.0.2.1")), None), SystemTime::now());
        assert_eq!([count(15), count(26), count(60)], [2, 1, 0]);
    }
}
