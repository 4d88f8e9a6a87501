//! What the kernel says of a server's processes: processor time, memory, and whose a listening port is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use qtls_core::{Error, Result};

/// A server's process, with all its children.
#[derive(Clone, Copy, Debug)]
pub(super) struct Server {
    pid: u32,
}

/// Processor time of a server's processes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cpu {
    pub(super) user: Duration,
    pub(super) system: Duration,
}

impl Cpu {
    pub(super) fn total(self) -> Duration {
        self.user + self.system
    }

    pub(super) fn since(self, before: Self) -> Self {
        Self { user: self.user.saturating_sub(before.user), system: self.system.saturating_sub(before.system) }
    }
}

impl Server {
    /// The process `pid`, which has to be the one that listens on `address`.
    ///
    /// # Errors
    /// There is no such process, or the port is somebody else's.
    pub(super) fn listening_on(address: SocketAddr, pid: u32) -> Result<Self> {
        let server = Self { pid };
        if !Path::new(&format!("/proc/{pid}")).exists() {
            return Err(Error::configuration("there is no such process").at("--pid").hint("is the server running?"));
        }
        let sockets = listeners(pid, address.port())?;
        let theirs: BTreeSet<String> = server.pids()?.into_iter().flat_map(sockets_of).collect();
        if sockets.is_empty() || !sockets.is_subset(&theirs) {
            return Err(Error::configuration(format!(
                "port {} is not, or not only, listened on by process {pid} and its children",
                address.port()
            ))
            .at("--pid")
            .hint("name the server's main process; reading its descriptors needs its user's or root's rights"));
        }
        Ok(server)
    }

    /// The process and its children, theirs, and so on.
    fn pids(self) -> Result<Vec<u32>> {
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let entries =
            fs::read_dir("/proc").map_err(|error| Error::internal(format!("/proc can't be read: {error}")))?;
        for pid in entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
            // Processes come and go.
            if let Some(parent) = stat(pid).and_then(|fields| fields.get(1)?.parse().ok()) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let (mut all, mut next) = (Vec::new(), vec![self.pid]);
        while let Some(pid) = next.pop() {
            all.push(pid);
            next.extend(children.get(&pid).into_iter().flatten());
        }
        Ok(all)
    }

    /// How many processes there are.
    ///
    /// # Errors
    /// `/proc` can't be read.
    pub(super) fn processes(self) -> Result<usize> {
        Ok(self.pids()?.len())
    }

    /// Processor time so far: of running processes, and of those whose end their parents have seen.
    ///
    /// # Errors
    /// The process is gone.
    pub(super) fn cpu(self) -> Result<Cpu> {
        let mut all = Cpu::default();
        for pid in self.pids()? {
            let Some(fields) = stat(pid) else { continue };
            // utime, stime, cutime, cstime (proc_pid_stat(5)), counted from the state.
            let ticks = |index: usize| fields.get(index).and_then(|field| field.parse().ok()).unwrap_or(0);
            all.user += from_ticks(ticks(11) + ticks(13));
            all.system += from_ticks(ticks(12) + ticks(14));
        }
        if stat(self.pid).is_none() {
            return Err(Error::internal(format!("the server's process {} ended during the measurement", self.pid)));
        }
        Ok(all)
    }

    /// Proportional set size in KiB: memory of its own, and its share of what it shares.
    ///
    /// # Errors
    /// It can't be read.
    pub(super) fn pss(self) -> Result<u64> {
        let mut all = 0;
        for pid in self.pids()? {
            let path = format!("/proc/{pid}/smaps_rollup");
            let text = fs::read_to_string(&path).map_err(|error| {
                Error::configuration(format!("{path} can't be read: {error}"))
                    .at("--pid")
                    .hint("the memory of another user's process is shown to root only")
            })?;
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
            let number = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
            all += number.ok_or_else(|| Error::internal(format!("{path} has no Pss")))?;
        }
        Ok(all)
    }
}

/// Processor time that the hypervisor gave to others, and all there was, in ticks of all processors.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Steal {
    stolen: u64,
    all: u64,
}

impl Steal {
    /// As it is now; zero where the kernel doesn't tell.
    pub(super) fn now() -> Self {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let ticks: Vec<u64> = line.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
        // The eighth is steal; the two behind it are in `user` already.
        Self { stolen: ticks.get(7).copied().unwrap_or(0), all: ticks.iter().take(8).sum() }
    }

    /// The share of the time since `before` that was stolen, from 0 to 1.
    pub(super) fn since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all);
        if all == 0 { 0.0 } else { self.stolen.saturating_sub(before.stolen) as f64 / all as f64 }
    }
}

/// The fields of `/proc/PID/stat` behind the name, which may have spaces and brackets in it: state, parent, …
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn from_ticks(ticks: u64) -> Duration {
    // USER_HZ, which is 100 on every architecture that Rust knows on Linux.
    Duration::from_millis(ticks * 10)
}

/// The inodes of the sockets that listen on `port`, in the process' network namespace.
fn listeners(pid: u32, port: u16) -> Result<BTreeSet<String>> {
    const LISTEN: &str = "0A";
    let mut inodes = BTreeSet::new();
    for table in ["tcp", "tcp6"] {
        let path = format!("/proc/{pid}/net/{table}");
        // Without IPv6, there is no table of it.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for line in text.lines().skip(1) {
            let fields: Vec<_> = line.split_whitespace().collect();
            let [_, local, _, state, ..] = fields[..] else { continue };
            let here = local.rsplit_once(':').and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
            if state == LISTEN && here == Some(port) {
                inodes.extend(fields.get(9).map(|inode| (*inode).to_owned()));
            }
        }
    }
    Ok(inodes)
}

fn sockets_of(pid: u32) -> Vec<String> {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = descriptors.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter_map(|link| Some(link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_is_the_process_own_or_a_stranger_s() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::listening_on(address, std::process::id()).unwrap();
        assert!(server.pss().unwrap() > 100);
        assert!(server.processes().unwrap() >= 1);
        // Not one that this one descends from: its children are part of a server.
        let mut stranger = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let refused = Server::listening_on(address, stranger.id());
        stranger.kill().and_then(|()| stranger.wait()).unwrap();
        let error = refused.unwrap_err();
        assert!(error.message().starts_with(&format!("port {} is not", address.port())), "{error}");
        drop(listener);
        assert!(Server::listening_on(address, std::process::id()).is_err(), "nobody listens any more");
    }

    #[test]
    fn processor_time_goes_on_with_work() {
        let server = Server { pid: std::process::id() };
        let before = server.cpu().unwrap();
        let mut sum = 0_u64;
        while server.cpu().unwrap().since(before).total() < Duration::from_millis(30) {
            sum = std::hint::black_box((0..1_000_000).fold(sum, u64::wrapping_add));
        }
    }
}
