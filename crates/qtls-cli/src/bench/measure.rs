//! A measurement: what went on in the server and on the machine between two moments, and the latencies in between.

use std::time::{Duration, Instant};

use qtls_core::Result;

use super::process::{Cpu, Server, Steal};

/// The moment at which a measurement begins.
#[derive(Debug)]
pub(super) struct Begun {
    server: Option<Server>,
    cpu: Cpu,
    steal: Steal,
    at: Instant,
}

impl Begun {
    /// Now.
    ///
    /// # Errors
    /// The server's processes can't be read.
    pub(super) fn now(server: Option<Server>) -> Result<Self> {
        let cpu = server.map(Server::cpu).transpose()?.unwrap_or_default();
        Ok(Self { server, cpu, steal: Steal::now(), at: Instant::now() })
    }

    /// What has gone on since.
    ///
    /// # Errors
    /// The server's processes can't be read.
    pub(super) fn end(self) -> Result<Window> {
        let took = self.at.elapsed();
        let steal = Steal::now().since(self.steal);
        let cpu = self.server.map(Server::cpu).transpose()?.map(|cpu| cpu.since(self.cpu));
        let pss = self.server.map(Server::pss).transpose()?;
        let processes = self.server.map(Server::processes).transpose()?;
        Ok(Window { took, cpu, pss, processes, steal })
    }
}

/// What went on between two moments.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) took: Duration,
    /// Of the server, where it is known.
    pub(super) cpu: Option<Cpu>,
    /// Of the server at the end, in KiB.
    pub(super) pss: Option<u64>,
    /// How many processes the server has.
    pub(super) processes: Option<usize>,
    /// The share of processor time that the hypervisor gave to others.
    pub(super) steal: f64,
}

/// Latencies, in microseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies(Vec<u64>);

impl Latencies {
    pub(super) fn add(&mut self, latency: Duration) {
        self.0.push(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// In order, to be asked for percentiles.
    pub(super) fn sorted(mut self) -> Sorted {
        self.0.sort_unstable();
        Sorted(self.0)
    }
}

/// Latencies in order.
#[derive(Debug)]
pub(super) struct Sorted(Vec<u64>);

impl Sorted {
    /// The smallest latency that `share` of all don't exceed (the nearest rank); 0 where there are none.
    pub(super) fn percentile(&self, share: f64) -> u64 {
        let rank = (self.0.len() as f64 * share).ceil() as usize;
        self.0.get(rank.max(1) - 1).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut latencies = Latencies::default();
        (1..=1000).rev().for_each(|micros| latencies.add(Duration::from_micros(micros)));
        let sorted = latencies.sorted();
        assert_eq!([0.5, 0.99, 0.999, 1.0].map(|share| sorted.percentile(share)), [500, 990, 999, 1000]);
        assert_eq!(Latencies::default().sorted().percentile(0.5), 0);
    }
}
