//! Whose turn it is: the choice among the servers that are up.
//!
//! What the choice needs is computed when a server goes out of use or comes back, and is read without a lock.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::config::Balance;

/// What the choice needs of a server, which stays the same.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) weight: u16,
    pub(super) backup: bool,
    /// Made of its address: the same in every process that has the server in its configuration.
    pub(super) seed: u64,
    /// Requests under way; in TCP mode, connections.
    pub(super) busy: Arc<AtomicU32>,
}

impl Share {
    pub(super) fn new(address: &str, weight: u16, backup: bool) -> Self {
        Self { weight, backup, seed: fnv(address.as_bytes()), busy: Arc::default() }
    }
}

/// A request is under way on a server, for as long as this value lives.
#[derive(Debug)]
pub struct Busy(Arc<AtomicU32>);

impl Busy {
    pub(super) fn on(share: &Share) -> Self {
        share.busy.fetch_add(1, Relaxed);
        Self(share.busy.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// What the state of a server is, as far as the choice is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Up,
    Held,
    Down,
}

/// Who is chosen from, until a server goes out of use or comes back.
#[derive(Debug)]
pub(super) struct Schedule {
    /// The number of the change that it was made after.
    pub(super) epoch: u64,
    /// Those that are up: backups only where no other is.
    members: Box<[u16]>,
    /// In turn: each member as often as its weight says, evenly spread.
    sequence: Box<[u16]>,
    /// Out of use, and to be tried when their time has come.
    pub(super) trials: Box<[u16]>,
    /// Who comes after the members, in order, when none of them takes a connection.
    rest: Box<[u16]>,
}

impl Schedule {
    pub(super) fn new(epoch: u64, balance: Balance, shares: &[Share], standing: impl Fn(usize) -> Standing) -> Self {
        let standings: Vec<_> = (0..shares.len()).map(standing).collect();
        let all = |backup: bool, standing: Standing| {
            let wanted = move |(index, share): (usize, &Share)| {
                (share.backup == backup).then_some((index, share)).map(|(index, _)| index)
            };
            shares
                .iter()
                .enumerate()
                .filter_map(wanted)
                .filter(|index| standings[*index] == standing)
                .map(|index| index as u16)
                .collect::<Vec<_>>()
        };
        let (up, backups) = (all(false, Standing::Up), all(true, Standing::Up));
        let (held, held_backups) = (all(false, Standing::Held), all(true, Standing::Held));
        let mut trials = held.clone();
        let (members, next) = if up.is_empty() {
            if backups.is_empty() {
                trials.extend(&held_backups);
            }
            (backups, Vec::new())
        } else {
            (up, backups)
        };
        let sequence = match balance {
            Balance::RoundRobin => smooth(&members, shares),
            Balance::LeastConnections | Balance::ClientAddress => Vec::new(),
        };
        let rest = [next, held, held_backups].concat();
        Self { epoch, members: members.into(), sequence: sequence.into(), trials: trials.into(), rest: rest.into() }
    }

    /// The next one to connect to, of those that `wanted` doesn't rule out; `turn` counts requests.
    pub(super) fn pick(
        &self,
        balance: Balance,
        shares: &[Share],
        turn: usize,
        client: IpAddr,
        wanted: impl Fn(u16) -> bool,
    ) -> Option<u16> {
        let member = match balance {
            Balance::RoundRobin => in_turn(&self.sequence, turn).find(|id| wanted(*id)),
            Balance::LeastConnections => {
                let idlest = |best: Option<u16>, id: u16| match best {
                    Some(best) if !is_idler(&shares[usize::from(id)], &shares[usize::from(best)]) => Some(best),
                    _ => Some(id),
                };
                // Of equals the one whose turn it is.
                in_turn(&self.members, turn).filter(|id| wanted(*id)).fold(None, idlest)
            }
            Balance::ClientAddress => favourite(self.members.iter().copied().filter(|id| wanted(*id)), shares, client),
        };
        member.or_else(|| self.rest.iter().copied().find(|id| wanted(*id)))
    }

    /// Whether a client would come to `candidate` if that were up.
    pub(super) fn would_choose(&self, candidate: u16, shares: &[Share], client: IpAddr) -> bool {
        let all = self.members.iter().copied().chain([candidate]);
        favourite(all, shares, client) == Some(candidate)
    }
}

fn in_turn(ids: &[u16], turn: usize) -> impl Iterator<Item = u16> {
    let start = if ids.is_empty() { 0 } else { turn % ids.len() };
    ids[start..].iter().chain(&ids[..start]).copied()
}

/// Whether `one`, with one request more, would have less to do than `other` with one more, each by its weight.
fn is_idler(one: &Share, other: &Share) -> bool {
    let load = |share: &Share| u64::from(share.busy.load(Relaxed)) + 1;
    load(one) * u64::from(other.weight) < load(other) * u64::from(one.weight)
}

/// The order in which nginx takes weighted servers: of each the next one as late as possible.
fn smooth(members: &[u16], shares: &[Share]) -> Vec<u16> {
    let weight = |id: &u16| i64::from(shares[usize::from(*id)].weight);
    let total: i64 = members.iter().map(weight).sum();
    let divisor = members.iter().map(weight).fold(0, greatest_common_divisor).max(1);
    let mut credit = vec![0; members.len()];
    (0..total / divisor)
        .filter_map(|_| {
            for (credit, id) in credit.iter_mut().zip(members) {
                *credit += weight(id);
            }
            let most = credit.iter().copied().max()?;
            let next = credit.iter().position(|credit| *credit == most)?;
            credit[next] -= total;
            members.get(next).copied()
        })
        .collect()
}

fn greatest_common_divisor(one: i64, other: i64) -> i64 {
    if other == 0 { one } else { greatest_common_divisor(other, one % other) }
}

/// The one that a client belongs to: the highest of the scores that each server has for it (rendezvous hashing). Without
/// the highest, its clients alone have another one, spread over all others; weights are shares of the clients.
fn favourite(ids: impl Iterator<Item = u16>, shares: &[Share], client: IpAddr) -> Option<u16> {
    let key = mix(client_key(client));
    let score = |id: u16| {
        let share = &shares[usize::from(id)];
        // In (0, 1), evenly.
        let random = ((mix(key ^ share.seed) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        f64::from(share.weight) / -random.ln()
    };
    ids.map(|id| (id, score(id)))
        .fold(None, |best: Option<(u16, f64)>, next| match best {
            Some(best) if best.1 >= next.1 => Some(best),
            _ => Some(next),
        })
        .map(|(id, _)| id)
}

/// An IPv4 address, or the network of a site: hosts change the other half of an IPv6 address as they like (RFC 8981).
fn client_key(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()),
        IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
    }
}

/// Mixes bits so that each depends on each (the finaliser of SplitMix64). Replicas and later versions must agree, which the
/// hashers of the standard library don't promise.
fn mix(mut bits: u64) -> u64 {
    bits = bits.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// FNV-1a.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const NOBODY: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

    fn shares(servers: &[(u16, bool)]) -> Vec<Share> {
        let share = |(index, (weight, backup)): (usize, &(u16, bool))| {
            Share::new(&format!("10.0.0.{index}:80"), *weight, *backup)
        };
        servers.iter().enumerate().map(share).collect()
    }

    fn up(_: usize) -> Standing {
        Standing::Up
    }

    /// The whole order of one request.
    fn order(schedule: &Schedule, balance: Balance, shares: &[Share], turn: usize, client: IpAddr) -> Vec<u16> {
        let mut tried = Vec::new();
        while let Some(id) = schedule.pick(balance, shares, turn, client, |id| !tried.contains(&id)) {
            tried.push(id);
        }
        tried
    }

    #[test]
    fn weights_are_kept_exactly_and_evenly() {
        let shares = shares(&[(5, false), (1, false), (1, false)]);
        let schedule = Schedule::new(0, Balance::RoundRobin, &shares, up);
        let picks: Vec<_> =
            (0..14).map(|turn| schedule.pick(Balance::RoundRobin, &shares, turn, NOBODY, |_| true).unwrap()).collect();
        // As nginx documents it: a a b a c a a.
        assert_eq!(picks[..7], [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(picks[7..], picks[..7]);
        let halves = self::shares(&[(200, false), (100, false)]);
        assert_eq!(*Schedule::new(0, Balance::RoundRobin, &halves, up).sequence, [0, 1, 0]);
    }

    #[test]
    fn who_is_out_of_use_comes_last_or_not_at_all() {
        let shares = shares(&[(1, false), (1, false), (1, true), (1, true), (1, false)]);
        let standing = |index| [Standing::Held, Standing::Up, Standing::Up, Standing::Held, Standing::Down][index];
        let schedule = Schedule::new(0, Balance::RoundRobin, &shares, standing);
        assert_eq!(order(&schedule, Balance::RoundRobin, &shares, 0, NOBODY), [1, 2, 0, 3]);
        assert_eq!(*schedule.trials, [0], "a backup isn't missed");
        let down = Schedule::new(0, Balance::RoundRobin, &shares, |_| Standing::Down);
        assert!(order(&down, Balance::RoundRobin, &shares, 0, NOBODY).is_empty());
    }

    #[test]
    fn backups_are_chosen_from_where_no_other_is_up() {
        let shares = shares(&[(1, false), (1, true), (2, true)]);
        let standing = |index| [Standing::Held, Standing::Up, Standing::Up][index];
        for balance in [Balance::RoundRobin, Balance::LeastConnections, Balance::ClientAddress] {
            let schedule = Schedule::new(0, balance, &shares, standing);
            assert_eq!(*schedule.members, [1, 2]);
            let order = order(&schedule, balance, &shares, 0, NOBODY);
            assert_eq!((order.len(), order[2]), (3, 0), "{balance:?}");
        }
    }

    #[test]
    fn the_least_busy_is_measured_by_its_weight() {
        let shares = shares(&[(1, false), (3, false)]);
        let schedule = Schedule::new(0, Balance::LeastConnections, &shares, up);
        let pick = |turn| schedule.pick(Balance::LeastConnections, &shares, turn, NOBODY, |_| true).unwrap();
        let mut busy = Vec::new();
        let mut picks = Vec::new();
        for turn in 0..8 {
            let id = pick(turn);
            busy.push(Busy::on(&shares[usize::from(id)]));
            picks.push(id);
        }
        assert_eq!(picks.iter().filter(|id| **id == 1).count(), 6, "{picks:?}");
        drop(busy);
        assert_eq!(shares.iter().map(|share| share.busy.load(Relaxed)).sum::<u32>(), 0);
        let equals = self::shares(&[(1, false), (1, false), (1, false)]);
        let schedule = Schedule::new(0, Balance::LeastConnections, &equals, up);
        let turns =
            [0, 1, 2, 3].map(|turn| schedule.pick(Balance::LeastConnections, &equals, turn, NOBODY, |_| true).unwrap());
        assert_eq!(turns, [0, 1, 2, 0], "of equals the one whose turn it is");
    }

    #[test]
    fn a_lost_server_moves_its_own_clients_alone() {
        let shares = shares(&[(1, false), (1, false), (2, false)]);
        let clients: Vec<_> = (0..40_000_u32).map(|n| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))).collect();
        let places = |standing: &dyn Fn(usize) -> Standing| {
            let schedule = Schedule::new(0, Balance::ClientAddress, &shares, standing);
            let place = |client: &IpAddr| schedule.pick(Balance::ClientAddress, &shares, 0, *client, |_| true).unwrap();
            clients.iter().map(place).collect::<Vec<_>>()
        };
        let before = places(&up);
        let after = places(&|index| if index == 1 { Standing::Held } else { Standing::Up });
        let mut moved = BTreeMap::<_, usize>::new();
        for (old, new) in before.iter().zip(&after) {
            if *old == 1 {
                *moved.entry(*new).or_default() += 1;
            } else {
                assert_eq!(old, new);
            }
        }
        let of = |places: &[u16], id: u16| places.iter().filter(|place| **place == id).count();
        // A quarter, a quarter and a half, as their weights say; and what one loses is shared out as 1 to 2.
        for (id, expected) in [(0, 10_000), (1, 10_000), (2, 20_000)] {
            assert!(of(&before, id).abs_diff(expected) < 400, "{id}: {}", of(&before, id));
        }
        assert!(moved[&0].abs_diff(3333) < 300 && moved[&2].abs_diff(6667) < 300, "{moved:?}");
        assert_eq!(places(&up), before, "and they come back");
    }

    #[test]
    fn replicas_agree_on_the_place_of_a_client_and_of_its_network() {
        let shares = shares(&[(1, false), (1, false), (1, false), (1, false)]);
        let schedule = Schedule::new(0, Balance::ClientAddress, &shares, up);
        let place = |client: &str| {
            schedule.pick(Balance::ClientAddress, &shares, 0, client.parse().unwrap(), |_| true).unwrap()
        };
        // Another version that disagrees would move every client at an update.
        let clients = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.7", "2001:db8::1", "2001:db8:0:1::1"];
        assert_eq!(clients.map(place), [0, 3, 2, 0, 3, 0]);
        assert_eq!(place("::ffff:192.0.2.2"), place("192.0.2.2"));
        let hosts = (1..100_u128).map(|n| Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) + n).to_string());
        assert!(hosts.map(|host| place(&host)).all(|id| id == place("2001:db8::1")));
    }
}
