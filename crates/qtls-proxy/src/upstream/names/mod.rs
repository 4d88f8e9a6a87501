//! The addresses of servers that are known by a name: looked up again when their time to live is over, beside connections
//! and never in their way.

mod exchange;
mod resolver;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

pub(super) use resolver::{Answer, Resolver};

use super::error::ConnectErrorKind;

/// Addresses are kept for no less than this, whatever their time to live is.
const SHORTEST: Duration = Duration::from_secs(1);
/// And for no more than this: who moves a service waits for no more than an hour.
const LONGEST: Duration = Duration::from_secs(3600);
/// How soon a lookup that failed is repeated; twice as long each time.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// A name, and the addresses that it has.
#[derive(Debug)]
pub(super) struct Name {
    host: String,
    port: u16,
    known: ArcSwapOption<Addresses>,
    /// Why there are no addresses; `None` where nobody has looked yet. Told to those who wait for the first ones.
    trouble: watch::Sender<Option<String>>,
}

/// The addresses of a name. Never empty.
#[derive(Debug)]
pub(super) struct Addresses {
    list: Box<[SocketAddr]>,
    turn: AtomicUsize,
    /// Which of the first 64 took no connection when they were last tried, as bits.
    bad: AtomicU64,
}

impl Addresses {
    fn new(list: Vec<SocketAddr>) -> Self {
        Self { list: list.into(), turn: AtomicUsize::new(0), bad: AtomicU64::new(0) }
    }

    /// All of them, with their places: in turn, and those that took no connection at the end.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = (usize, SocketAddr)> {
        let (count, bad) = (self.list.len(), self.bad.load(Relaxed));
        let turn = self.turn.fetch_add(1, Relaxed);
        let places = move |wanted: bool| {
            (0..count)
                .map(move |step| turn.wrapping_add(step) % count)
                .filter(move |place| (bad & bit(*place) != 0) == wanted)
        };
        places(false).chain(places(true)).map(|place| (place, self.list[place]))
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// The address at this place took a connection, or didn't.
    pub(super) fn tried(&self, place: usize, took: bool) {
        let is_bad = self.bad.load(Relaxed) & bit(place) != 0;
        if is_bad == took {
            if took {
                self.bad.fetch_and(!bit(place), Relaxed);
            } else {
                self.bad.fetch_or(bit(place), Relaxed);
            }
        }
    }
}

fn bit(place: usize) -> u64 {
    if place < 64 { 1 << place } else { 0 }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, address) in self.list.iter().enumerate() {
            let separator = if index > 0 { ", " } else { "" };
            write!(f, "{separator}{}", address.ip())?;
        }
        Ok(())
    }
}

impl Name {
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, known: ArcSwapOption::empty(), trouble: watch::Sender::new(None) }
    }

    /// The addresses; before they are known for the first time, as soon as they are.
    pub(super) async fn addresses(&self, deadline: Instant) -> Result<Arc<Addresses>, ConnectErrorKind> {
        if let Some(known) = self.known.load_full() {
            return Ok(known);
        }
        let mut trouble = self.trouble.subscribe();
        loop {
            let why = trouble.borrow_and_update().clone();
            // They are stored before the word goes out.
            if let Some(known) = self.known.load_full() {
                return Ok(known);
            }
            if let Some(why) = why {
                return Err(ConnectErrorKind::Unresolvable(why));
            }
            if !matches!(timeout_at(deadline, trouble.changed()).await, Ok(Ok(()))) {
                return Err(ConnectErrorKind::Unresolvable("no answer from the DNS server yet".to_owned()));
            }
        }
    }

    /// Whether `address` is one of those that are known.
    pub(super) fn includes(&self, address: SocketAddr) -> bool {
        self.known.load().as_ref().is_some_and(|known| known.list.contains(&address))
    }

    /// Looks the name up once, and says what changed. How long to wait until the next time.
    pub(super) async fn refresh(&self, resolver: &Resolver, server: &str, failures: &mut u32) -> (bool, Duration) {
        match resolver.look_up(&self.host).await {
            Ok(Answer { addresses, ttl }) => {
                self.learn(addresses, server, std::mem::take(failures) > 0);
                (true, ttl.clamp(SHORTEST, LONGEST))
            }
            Err(why) => {
                // Said once, and again when it is over.
                if *failures == 0 {
                    match self.known.load_full() {
                        Some(known) => warn!(
                            "upstream {server}: the name can't be resolved: {why}; its last known addresses stay in use: \
                             {known}"
                        ),
                        None => warn!("upstream {server}: the name can't be resolved: {why}; this is tried again"),
                    }
                }
                let delay = FIRST_RETRY * 2_u32.saturating_pow((*failures).min(10));
                *failures += 1;
                self.trouble.send_replace(Some(why));
                (false, delay.min(LAST_RETRY))
            }
        }
    }

    fn learn(&self, addresses: Vec<IpAddr>, server: &str, had_failed: bool) {
        let mut list: Vec<_> = addresses.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect();
        // Servers of DNS rotate what they answer; order says nothing.
        list.sort_unstable();
        list.dedup();
        let before = self.known.load_full();
        let same = before.as_ref().is_some_and(|before| *before.list == *list);
        let now = Arc::new(Addresses::new(list));
        // Whom of them to avoid goes on, where they are the same; but once in a while all of them are tried.
        if let Some(before) = before.as_ref().filter(|_| same && !had_failed) {
            now.turn.store(before.turn.load(Relaxed), Relaxed);
        }
        // Before it is told: who reads of the new addresses meets them.
        self.known.store(Some(now.clone()));
        if had_failed {
            info!("upstream {server}: the name resolves again, to {now}");
        } else if let Some(before) = before.filter(|_| !same) {
            info!("upstream {server}: the name resolves to {now} now; it was {before}");
        }
        self.trouble.send_replace(None);
    }
}

#[cfg(test)]
mod tests;
