//! How many connections each address, or each network, has open.
//!
//! Nothing is kept of an address without a connection: the table is bounded by the connections that are open.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// Locks that keep workers apart.
const SHARDS: usize = 64;

/// Open connections by address or network. A limit of 0 is none.
#[derive(Debug)]
pub(super) struct Table {
    limit: AtomicU32,
    shards: Box<[Mutex<HashMap<Key, Entry>>]>,
}

/// An address, or the first address of a network, with IPv4 as IPv6 maps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key(u128);

#[derive(Debug, Default)]
struct Entry {
    open: u32,
    /// Those who wait for a place, the first one first. Who gave up is still in here.
    waiting: VecDeque<oneshot::Sender<Held>>,
}

/// What came of asking for a place.
#[derive(Debug)]
pub(super) enum Answer {
    /// There is no limit.
    Unlimited,
    Place(Held),
    /// It comes when another connection of this address has ended.
    Later(oneshot::Receiver<Held>),
    /// And too many wait already, or waiting was not wanted.
    Full,
}

/// One of the places of an address, for as long as this lives.
#[derive(Debug)]
pub(super) struct Held(Option<(Arc<Table>, Key)>);

impl Key {
    /// The address alone. An IPv4 client of a socket for both families is the same as on a socket for IPv4.
    pub(super) fn address(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits(),
        })
    }

    /// The network of these many bits around the address.
    pub(super) fn network(address: IpAddr, bits_v4: u8, bits_v6: u8) -> Self {
        let bits = if address.to_canonical().is_ipv4() { 96 + bits_v4 } else { bits_v6 };
        let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
        Self(Self::address(address).0 & mask)
    }

    /// The first address of the network.
    pub(super) fn first(self) -> IpAddr {
        IpAddr::V6(Ipv6Addr::from_bits(self.0)).to_canonical()
    }
}

impl Table {
    pub(super) fn new(limit: u32) -> Arc<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Arc::new(Self { limit: AtomicU32::new(limit), shards })
    }

    /// Whether there is a limit. Where there is none, nothing is locked and nothing counted.
    pub(super) fn is_on(&self) -> bool {
        self.limit.load(Relaxed) > 0
    }

    /// Asks for a place. With `queue`, as many may wait as may be open.
    pub(super) fn ask(self: &Arc<Self>, key: Key, queue: bool) -> Answer {
        let limit = self.limit.load(Relaxed);
        if limit == 0 {
            return Answer::Unlimited;
        }
        self.with(key, |shard| {
            let entry = shard.entry(key).or_default();
            if entry.open < limit {
                entry.open += 1;
                return Answer::Place(Held(Some((self.clone(), key))));
            }
            let most = usize::try_from(limit).unwrap_or(usize::MAX);
            if queue && entry.waiting.len() >= most {
                entry.waiting.retain(|waiting| !waiting.is_closed());
            }
            if !queue || entry.waiting.len() >= most {
                return Answer::Full;
            }
            let (place, later) = oneshot::channel();
            entry.waiting.push_back(place);
            Answer::Later(later)
        })
    }

    /// From now on this is the limit. Places that are taken stay so; who waits gets in where there is room now.
    pub(super) fn set_limit(self: &Arc<Self>, limit: u32) {
        if self.limit.swap(limit, Relaxed) == limit {
            return;
        }
        for shard in &self.shards {
            let mut granted = Vec::new();
            for (key, entry) in lock(shard).iter_mut() {
                while limit == 0 || entry.open < limit {
                    let Some(waiting) = entry.waiting.pop_front() else { break };
                    entry.open += 1;
                    granted.push((*key, waiting));
                }
            }
            for (key, waiting) in granted {
                // Who has given up meanwhile gives the place back.
                drop(waiting.send(Held(Some((self.clone(), key)))));
            }
        }
    }

    fn release(self: &Arc<Self>, key: Key) {
        loop {
            let next = self.with(key, |shard| {
                let entry = shard.get_mut(&key)?;
                let limit = self.limit.load(Relaxed);
                // Its place goes to the next, unless the limit has come down.
                let next = (limit == 0 || entry.open <= limit).then(|| entry.waiting.pop_front()).flatten();
                if next.is_none() {
                    entry.open -= 1;
                    if entry.open == 0 {
                        shard.remove(&key);
                    }
                }
                next
            });
            let Some(next) = next else { return };
            match next.send(Held(Some((self.clone(), key)))) {
                Ok(()) => return,
                // It has given up. Letting the value release itself would be a recursion as deep as the queue.
                Err(mut held) => held.0 = None,
            }
        }
    }

    fn with<T>(&self, key: Key, f: impl FnOnce(&mut HashMap<Key, Entry>) -> T) -> T {
        // The bits that tell networks apart are in the middle of an IPv6 address, and at the end of an IPv4 one.
        let mixed = (key.0 ^ (key.0 >> 64)).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) >> 122;
        f(&mut lock(&self.shards[usize::try_from(mixed).unwrap_or(0) % SHARDS]))
    }

    /// How many addresses there are, for tests.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((table, key)) = self.0.take() {
            table.release(key);
        }
    }
}

fn lock(shard: &Mutex<HashMap<Key, Entry>>) -> std::sync::MutexGuard<'_, HashMap<Key, Entry>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::address(text.parse().unwrap())
    }

    fn place(answer: Answer) -> Held {
        match answer {
            Answer::Place(held) => held,
            other => panic!("no place: {other:?}"),
        }
    }

    fn later(answer: Answer) -> oneshot::Receiver<Held> {
        match answer {
            Answer::Later(later) => later,
            other => panic!("not later: {other:?}"),
        }
    }

    #[test]
    fn an_address_is_the_same_over_both_families_and_networks_have_their_bits() {
        assert_eq!(key("192.0.2.7"), key("::ffff:192.0.2.7"));
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
        // An IPv6 address that only looks like one.
        assert_ne!(key("192.0.2.7"), key("::192.0.2.7"));
        let network = |text: &str| Key::network(text.parse().unwrap(), 24, 64);
        assert_eq!(network("192.0.2.7"), network("::ffff:192.0.2.200"));
        assert_ne!(network("192.0.2.7"), network("192.0.3.7"));
        assert_eq!(network("2001:db8:0:1::7"), network("2001:db8:0:1:ffff::1"));
        assert_ne!(network("2001:db8:0:1::7"), network("2001:db8:0:2::7"));
        assert_eq!(network("192.0.2.7").first().to_string(), "192.0.2.0");
        assert_eq!(network("2001:db8:0:1::7").first().to_string(), "2001:db8:0:1::");
        let all = |text: &str| Key::network(text.parse().unwrap(), 32, 128);
        assert_eq!(all("192.0.2.7"), key("192.0.2.7"));
        assert_eq!(all("2001:db8::7"), key("2001:db8::7"));
        let widest = |text: &str| Key::network(text.parse().unwrap(), 8, 16);
        assert_eq!(widest("10.1.2.3").first().to_string(), "10.0.0.0");
        assert_eq!(widest("2001:db8::7").first().to_string(), "2001::");
    }

    #[test]
    fn places_are_counted_by_address_and_nothing_stays_of_one_without() {
        let table = Table::new(2);
        let a = [place(table.ask(key("192.0.2.1"), false)), place(table.ask(key("::ffff:192.0.2.1"), false))];
        assert!(matches!(table.ask(key("192.0.2.1"), false), Answer::Full));
        let b = place(table.ask(key("2001:db8::1"), false));
        assert_eq!(table.len(), 2);
        drop(a);
        assert_eq!(table.len(), 1);
        drop(place(table.ask(key("192.0.2.1"), false)));
        drop(b);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let table = Table::new(0);
        assert!(!table.is_on());
        assert!(matches!(table.ask(key("192.0.2.1"), true), Answer::Unlimited));
        assert_eq!(table.len(), 0);
    }

    #[tokio::test]
    async fn who_waits_gets_the_place_in_order_and_as_many_may_wait_as_may_be_open() {
        let table = Table::new(2);
        let (one, two) = (place(table.ask(key("192.0.2.1"), true)), place(table.ask(key("192.0.2.1"), true)));
        let mut first = later(table.ask(key("192.0.2.1"), true));
        let mut second = later(table.ask(key("192.0.2.1"), true));
        assert!(matches!(table.ask(key("192.0.2.1"), true), Answer::Full));
        assert!(first.try_recv().is_err());
        drop(one);
        let three = first.try_recv().unwrap();
        assert!(second.try_recv().is_err());
        // Who gives up makes room for another to wait.
        drop(second);
        let mut third = later(table.ask(key("192.0.2.1"), true));
        drop(two);
        let four = third.try_recv().unwrap();
        drop((three, four));
        assert_eq!(table.len(), 0);
    }

    #[tokio::test]
    async fn a_place_passes_over_all_who_have_given_up() {
        let table = Table::new(1000);
        let open: Vec<_> = (0..1000).map(|_| place(table.ask(key("192.0.2.1"), true))).collect();
        drop((0..999).map(|_| later(table.ask(key("192.0.2.1"), true))).collect::<Vec<_>>());
        let mut last = later(table.ask(key("192.0.2.1"), true));
        let mut open = open.into_iter();
        drop(open.next());
        let held = last.try_recv().unwrap();
        drop((held, open));
        assert_eq!(table.len(), 0);
    }

    #[tokio::test]
    async fn a_place_that_arrives_too_late_goes_on_to_the_next() {
        let table = Table::new(1);
        let one = place(table.ask(key("192.0.2.1"), true));
        let first = later(table.ask(key("192.0.2.1"), true));
        drop(one);
        // It is in the channel, and never received.
        let mut second = later(table.ask(key("192.0.2.1"), true));
        drop(first);
        drop(second.try_recv().unwrap());
        assert_eq!(table.len(), 0);
    }

    #[tokio::test]
    async fn a_limit_changes_while_places_are_held() {
        let table = Table::new(3);
        let mut open: Vec<_> = (0..3).map(|_| place(table.ask(key("192.0.2.1"), true))).collect();
        let mut waiting: Vec<_> = (0..3).map(|_| later(table.ask(key("192.0.2.1"), true))).collect();
        // Lower: nobody loses a place, and nobody gets one before there is room.
        table.set_limit(1);
        drop(open.pop());
        drop(open.pop());
        assert!(waiting[0].try_recv().is_err());
        drop(open.pop());
        let first = waiting[0].try_recv().unwrap();
        assert!(waiting[1].try_recv().is_err());
        // Higher: who waits gets in at once.
        table.set_limit(2);
        let second = waiting[1].try_recv().unwrap();
        assert!(waiting[2].try_recv().is_err());
        // None: everybody does.
        table.set_limit(0);
        let third = waiting[2].try_recv().unwrap();
        assert!(matches!(table.ask(key("192.0.2.1"), true), Answer::Unlimited));
        // And on again: those three still count.
        table.set_limit(3);
        assert!(matches!(table.ask(key("192.0.2.1"), false), Answer::Full));
        drop((first, second, third));
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn neighbouring_addresses_spread_over_the_locks() {
        let table = Table::new(10);
        let held: Vec<_> = (0..640_u32)
            .map(|host| place(table.ask(Key::address(std::net::Ipv4Addr::from_bits(0x0a00_0000 + host).into()), false)))
            .collect();
        let most = table.shards.iter().map(|shard| lock(shard).len()).max().unwrap();
        assert!(most < 40, "{most} of 640 behind one of {SHARDS} locks");
        drop(held);
    }
}
