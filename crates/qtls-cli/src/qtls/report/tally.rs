//! What a log adds up to, in bounded memory.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{self, Write};
use std::hash::Hash;
use std::net::IpAddr;
use std::rc::Rc;

use qtls_core::client_hello::{Alpn, Offer};

use super::advice::{Cause, Clients};
use super::line::{Connection, Line, Offered, Time};
use super::tries::Tries;

/// The sums over all lines.
pub(super) struct Tally {
    pub(super) connections: u64,
    pub(super) post_quantum: u64,
    pub(super) bytes: u64,
    pub(super) clients: Distinct<IpAddr>,
    pub(super) networks: Distinct<Network>,
    pub(super) first: Option<Time>,
    pub(super) last: Option<Time>,
    /// Handshakes that were not completed, by the reason.
    pub(super) failed: BTreeMap<String, u64>,
    /// Connections with a group that the policy which is taken to be in force would not have chosen.
    pub(super) unexplained: u64,
    /// What would break, by what is tried.
    pub(super) broken: Vec<Broken>,
    clients_known: Clients,
    /// Whether the address of a client decides about certificates.
    by_address: bool,
    known: HashMap<String, Rc<Judged>>,
}

/// What is tried, on one connection: why it would break, by what is tried.
struct Judged {
    causes: Vec<Option<Rc<Cause>>>,
    /// Whether what is taken to be in force would have chosen the same group.
    explained: bool,
}

/// What would break under one policy.
#[derive(Default)]
pub(super) struct Broken {
    pub(super) connections: u64,
    pub(super) bytes: u64,
    pub(super) clients: Distinct<IpAddr>,
    causes: HashMap<Rc<Cause>, Places>,
    /// How many places there are in all causes.
    places: usize,
    /// What found no place among the causes any more.
    pub(super) others: Sum,
}

/// Where the clients of one cause come from.
#[derive(Default)]
struct Places {
    sum: Sum,
    places: HashMap<Place, Sum>,
    /// What found no place of its own any more.
    others: Sum,
}

/// Where a client comes from, and the name that it asks for.
type Place = (Network, Option<String>);

/// Some connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    pub(super) connections: u64,
    pub(super) bytes: u64,
}

impl Sum {
    /// The two together.
    pub(super) fn plus(self, other: Self) -> Self {
        Self { connections: self.connections + other.connections, bytes: self.bytes.saturating_add(other.bytes) }
    }

    fn add(&mut self, bytes: u64) {
        self.connections += 1;
        self.bytes = self.bytes.saturating_add(bytes);
    }
}

/// The neighbourhood of a client: 24 bits of an IPv4 address, 48 of an IPv6 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Network(IpAddr);

impl Network {
    fn of(client: IpAddr) -> Self {
        Self(match client {
            IpAddr::V4(address) => IpAddr::V4((address.to_bits() & !0xff).into()),
            IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 80 << 80).into()),
        })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.0, if self.0.is_ipv4() { 24 } else { 48 })
    }
}

/// How many different ones there are, up to a bound.
pub(super) struct Distinct<T> {
    seen: HashSet<T>,
    more: bool,
}

impl<T> Default for Distinct<T> {
    fn default() -> Self {
        Self { seen: HashSet::new(), more: false }
    }
}

impl<T: Eq + Hash> Distinct<T> {
    fn add(&mut self, one: T) {
        if self.seen.len() < MAX_DISTINCT {
            self.seen.insert(one);
        } else if !self.seen.contains(&one) {
            self.more = true;
        }
    }

    /// How many, and whether there are more than that.
    pub(super) fn count(&self) -> (usize, bool) {
        (self.seen.len(), self.more)
    }
}

impl<T: Eq + Hash> fmt::Display for Distinct<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, more) = self.count();
        write!(f, "{}{count}", if more { "more than " } else { "" })
    }
}

impl Tally {
    pub(super) fn new(tries: &Tries<'_>) -> Self {
        Self {
            connections: 0,
            post_quantum: 0,
            bytes: 0,
            clients: Distinct::default(),
            networks: Distinct::default(),
            first: None,
            last: None,
            failed: BTreeMap::new(),
            unexplained: 0,
            broken: tries.names().map(|_| Broken::default()).collect(),
            clients_known: Clients::default(),
            by_address: tries.ask_for_the_address(),
            known: HashMap::new(),
        }
    }

    /// Takes a line.
    pub(super) fn line(&mut self, line: Line<'_>, tries: &Tries<'_>) {
        match line {
            Line::Connection(connection) => self.connection(&connection, tries),
            Line::Failed { time, reason } => self.failed(time, &reason),
            Line::Other => {}
        }
    }

    fn failed(&mut self, time: Time, reason: &str) {
        self.period(time);
        // Reasons are few and the server's own; a log that says otherwise must not fill the memory.
        let reason = if self.failed.contains_key(reason) || self.failed.len() < 100 { reason } else { "other" };
        *self.failed.entry(reason.to_owned()).or_default() += 1;
    }

    fn connection(&mut self, connection: &Connection<'_>, tries: &Tries<'_>) {
        let Connection { time, client, server_name, post_quantum, bytes, .. } = connection;
        self.period(*time);
        self.connections += 1;
        self.post_quantum += u64::from(*post_quantum);
        self.bytes = self.bytes.saturating_add(*bytes);
        self.clients.add(*client);
        let network = Network::of(*client);
        self.networks.add(network);
        let server_name = server_name.as_deref();
        let judged = self.judged(connection, tries);
        self.unexplained += u64::from(!judged.explained);
        for (broken, cause) in self.broken.iter_mut().zip(&judged.causes) {
            if let Some(cause) = cause {
                broken.connections += 1;
                broken.bytes = broken.bytes.saturating_add(*bytes);
                broken.clients.add(*client);
                broken.add(cause, network, server_name, *bytes);
            }
        }
    }

    /// What is tried, on one connection. Most connections of a log are like others in all that this depends on.
    fn judged(&mut self, connection: &Connection<'_>, tries: &Tries<'_>) -> Rc<Judged> {
        let Connection { client, server_name, alpn, group, offered, .. } = connection;
        let Offered { groups, schemes, chain_schemes, suites } = offered;
        let (name, chain, alpn) = (server_name.as_deref(), chain_schemes.as_deref(), alpn.as_deref());
        let mut key = format!("{groups}|{schemes}|{chain:?}|{suites}|{group}|{name:?}|{alpn:?}");
        if self.by_address {
            let _ = write!(key, "|{client}");
        }
        if let Some(judged) = self.known.get(&key) {
            return judged.clone();
        }
        let mut offer = Offer::of_names(groups.split(','), schemes.split(','), suites.split(','));
        offer.server_name = name.map(str::to_owned);
        // What else it offered made no difference.
        offer.alpn = Alpn::new(alpn.map(str::as_bytes));
        offer.chain_schemes = chain.map(|schemes| Offer::of_names([], schemes.split(','), []).schemes);
        let causes = tries.judge(&offer, name, *client).into_iter().map(|(rules, policy, certificates)| {
            let cause = || Cause::of(&self.clients_known, &rules, policy, certificates, &offer, offered);
            (!rules.is_empty()).then(|| Rc::new(cause()))
        });
        let judged = Rc::new(Judged { causes: causes.collect(), explained: tries.explains(&offer, name, group) });
        if self.known.len() >= MAX_KNOWN {
            self.known.clear();
        }
        self.known.insert(key, judged.clone());
        judged
    }

    fn period(&mut self, time: Time) {
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = Some(self.last.map_or(time, |last| last.max(time)));
    }
}

/// The rows of one cause: where its clients come from and what they ask for, the most connections first.
pub(super) struct Rows<'a> {
    pub(super) cause: &'a Cause,
    pub(super) sum: Sum,
    pub(super) rows: Vec<(Network, Option<&'a str>, Sum)>,
    /// What is in none of the rows.
    pub(super) others: Sum,
}

impl Broken {
    fn add(&mut self, cause: &Rc<Cause>, network: Network, server_name: Option<&str>, bytes: u64) {
        if !self.causes.contains_key(cause) {
            if self.causes.len() >= MAX_CAUSES {
                return self.others.add(bytes);
            }
            self.causes.insert(cause.clone(), Places::default());
        }
        let Some(Places { sum, places, others }) = self.causes.get_mut(cause) else { return };
        sum.add(bytes);
        let place = (network, server_name.map(str::to_ascii_lowercase));
        match places.get_mut(&place) {
            Some(sum) => sum.add(bytes),
            None if self.places < MAX_PLACES => {
                self.places += 1;
                places.entry(place).or_default().add(bytes);
            }
            None => others.add(bytes),
        }
    }

    /// What was found, the most connections first.
    pub(super) fn rows(&self) -> Vec<Rows<'_>> {
        let mut causes: Vec<_> = self
            .causes
            .iter()
            .map(|(cause, Places { sum, places, others })| {
                let mut rows: Vec<_> =
                    places.iter().map(|((network, name), sum)| (*network, name.as_deref(), *sum)).collect();
                rows.sort_by(|a, b| b.2.connections.cmp(&a.2.connections).then_with(|| (a.0, a.1).cmp(&(b.0, b.1))));
                Rows { cause: cause.as_ref(), sum: *sum, rows, others: *others }
            })
            .collect();
        causes.sort_by(|a, b| b.sum.connections.cmp(&a.sum.connections).then_with(|| a.cause.cmp(b.cause)));
        causes
    }
}

/// How many places one policy's answer may have: a log of scanners must not fill the memory.
const MAX_PLACES: usize = 20_000;
/// How many causes it may have.
const MAX_CAUSES: usize = 500;
/// How many kinds of connection are kept with their verdict.
const MAX_KNOWN: usize = 4096;
/// How many clients are told apart.
const MAX_DISTINCT: usize = 200_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_24_and_48_bits() {
        let network = |address: &str| Network::of(address.parse().unwrap()).to_string();
        assert_eq!(network("192.0.2.7"), "192.0.2.0/24");
        assert_eq!(network("2001:db8:1:2:3::4"), "2001:db8:1::/48");
    }

    #[test]
    fn what_finds_no_place_is_counted_all_the_same() {
        let mut broken = Broken::default();
        let network = |index: u32| Network::of(IpAddr::V4((index << 8).into()));
        for index in 0..30_000 {
            broken.add(&Rc::default(), network(index), Some("a.example"), 2);
        }
        // A place that is there goes on.
        broken.add(&Rc::default(), network(0), Some("A.example"), 5);
        let rows = &broken.rows()[0];
        assert_eq!((rows.sum.connections, rows.sum.bytes), (30_001, 60_005));
        assert_eq!((rows.rows.len(), rows.rows[0].2), (MAX_PLACES, Sum { connections: 2, bytes: 7 }));
        assert_eq!(rows.others, Sum { connections: 10_000, bytes: 20_000 });
        assert_eq!(broken.others, Sum::default());
        for index in 0..600 {
            let cause = Cause { lacks: vec![index.to_string()], ..Cause::default() };
            broken.add(&Rc::new(cause), network(0), None, 1);
        }
        let rows = broken.rows();
        assert_eq!(rows.len(), MAX_CAUSES);
        let told: u64 = rows.iter().map(|rows| rows.sum.connections).sum();
        assert_eq!(told + broken.others.connections, 30_601);
    }

    #[test]
    fn clients_are_told_apart_up_to_a_bound() {
        let mut distinct = Distinct::default();
        for one in 0..MAX_DISTINCT {
            distinct.add(one);
        }
        distinct.add(7);
        assert_eq!(distinct.to_string(), "200000");
        distinct.add(MAX_DISTINCT);
        assert_eq!(distinct.to_string(), "more than 200000");
    }
}
