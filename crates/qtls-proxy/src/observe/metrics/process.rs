//! What the process takes: processor time, memory, descriptors.
//!
//! The files are opened once, at start: a sandbox may allow none of them later, but what is open stays readable.

use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus::{Counter, IntGauge};
use rustix::fs::{RawDir, SeekFrom, seek};
use rustix::param::{clock_ticks_per_second, page_size};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// The metrics, and the files that they are read from.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) cpu: Counter,
    pub(super) resident: IntGauge,
    pub(super) virtual_memory: IntGauge,
    pub(super) fds: IntGauge,
    pub(super) max_fds: IntGauge,
    pub(super) threads: IntGauge,
    files: Option<Files>,
}

#[derive(Debug)]
struct Files {
    stat: File,
    statm: File,
    fds: File,
}

impl Process {
    pub(super) fn new(cpu: Counter, [resident, virtual_memory, fds, max_fds, threads, start]: [IntGauge; 6]) -> Self {
        let files = Files::open().ok();
        if let Some(started) = files.as_ref().and_then(|files| started(&files.stat)) {
            start.set(started);
        }
        Self { cpu, resident, virtual_memory, fds, max_fds, threads, files }
    }

    /// Reads everything anew. By one reader at a time.
    pub(super) fn refresh(&self) {
        let used = clock_gettime(ClockId::ProcessCPUTime);
        let used = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
        self.cpu.inc_by((used - self.cpu.get()).max(0.0));
        if let Some(limit) = getrlimit(Resource::Nofile).current {
            self.max_fds.set(whole(limit));
        }
        let Some(Files { stat, statm, fds }) = &self.files else { return };
        if let Some([virtual_pages, resident_pages]) = fields(statm, [0, 1]) {
            self.virtual_memory.set(whole(virtual_pages * page_size() as u64));
            self.resident.set(whole(resident_pages * page_size() as u64));
        }
        if let Some([threads]) = fields(stat, [THREADS]) {
            self.threads.set(whole(threads));
        }
        if let Ok(count) = entries(fds) {
            self.fds.set(whole(count));
        }
    }
}

impl Files {
    fn open() -> io::Result<Self> {
        let open = |name: &str| File::open(format!("/proc/self/{name}"));
        Ok(Self { stat: open("stat")?, statm: open("statm")?, fds: open("fd")? })
    }
}

/// Places in proc_pid_stat(5) from 0, behind the program's name: its number there, less 3.
const THREADS: usize = 20 - 3;
const START: usize = 22 - 3;

/// When the process started, as Unix time.
fn started(stat: &File) -> Option<i64> {
    let [ticks] = fields(stat, [START])?;
    let since_boot = clock_gettime(ClockId::Boottime);
    let since_boot = since_boot.tv_sec as f64 + since_boot.tv_nsec as f64 / 1e9;
    let age = since_boot - ticks as f64 / clock_ticks_per_second() as f64;
    let started = SystemTime::now().checked_sub(Duration::try_from_secs_f64(age).ok()?)?;
    Some(whole(started.duration_since(UNIX_EPOCH).ok()?.as_secs()))
}

/// The numbers at these places of a file of the kernel. The name of the program, which may hold anything, comes before.
fn fields<const N: usize>(file: &File, places: [usize; N]) -> Option<[u64; N]> {
    let mut buffer = [0; 1024];
    let length = file.read_at(&mut buffer, 0).ok()?;
    let text = std::str::from_utf8(&buffer[..length]).ok()?;
    let numbers: Vec<_> = text.rsplit_once(')').map_or(text, |(_, rest)| rest).split_whitespace().collect();
    let mut values = [0; N];
    for (value, place) in values.iter_mut().zip(places) {
        *value = numbers.get(place)?.parse().ok()?;
    }
    Some(values)
}

/// How many entries an open directory has.
fn entries(directory: &File) -> rustix::io::Result<u64> {
    seek(directory, SeekFrom::Start(0))?;
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(directory, &mut buffer);
    let mut count = 0;
    while let Some(entry) = entries.next() {
        count += u64::from(!entry?.file_name().to_bytes().starts_with(b"."));
    }
    Ok(count)
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_are_those_of_this_process() {
        let gauge = |name: &str| IntGauge::new(name, "help").unwrap();
        let start = gauge("start");
        let gauges = [gauge("a"), gauge("b"), gauge("c"), gauge("d"), gauge("e"), start.clone()];
        let process = Process::new(Counter::new("cpu", "help").unwrap(), gauges);
        let now = whole(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs());
        assert!((now - 3600..=now).contains(&start.get()), "started at {}, now {now}", start.get());
        process.refresh();
        let (fds, threads) = (process.fds.get(), process.threads.get());
        let more: Vec<_> = (0..300).map(|_| File::open("/dev/null").unwrap()).collect();
        process.refresh();
        // Other tests run beside this one.
        assert!(process.fds.get() >= fds + 200, "{} after {fds}", process.fds.get());
        drop(more);
        assert!(threads >= 1 && process.max_fds.get() > 0);
        assert!(process.cpu.get() > 0.0);
        assert!(process.resident.get() > 1 << 20 && process.virtual_memory.get() > process.resident.get());
    }
}
