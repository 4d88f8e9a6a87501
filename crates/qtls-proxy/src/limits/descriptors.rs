//! How many connections the limit of open files suffices for.
//!
//! A process that has run out of descriptors can accept nothing, connect to nobody, read no certificate and answer no
//! scrape. So it takes no more connections than leave some: those are for everything else that it opens.

use std::io;

use rustix::process::{Resource, getrlimit, setrlimit};

/// What everything else may need: files while they are read, logs, scrapers, health probes, name lookups.
const OTHERS: u64 = 64;
/// What a worker opens for itself: its socket, and its runtime's.
const WORKER: u64 = 5;

/// How many connections there are descriptors for, where each takes one, or two if it may be passed on.
pub(super) fn places(workers: u32, passed_on: bool) -> u32 {
    places_of(getrlimit(Resource::Nofile).current, workers, passed_on)
}

fn places_of(limit: Option<u64>, workers: u32, passed_on: bool) -> u32 {
    let Some(limit) = limit else { return u32::MAX };
    let others = OTHERS + WORKER * u64::from(workers);
    // Where there are hardly any, connections get a fourth, whatever else goes without.
    let left = limit.saturating_sub(others).max(limit / 4) / if passed_on { 2 } else { 1 };
    u32::try_from(left).unwrap_or(u32::MAX).max(1)
}

/// Raises this process's limit of open files as far as it may.
///
/// # Errors
/// It can't be raised.
pub(super) fn raise() -> io::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, limit)?)
}

/// Whether accepting failed for want of descriptors, of this process or of the whole system.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_takes_one_descriptor_or_two_and_some_are_left() {
        assert_eq!(places_of(Some(65_536), 4, false), 65_536 - 64 - 20);
        assert_eq!(places_of(Some(65_536), 4, true), (65_536 - 64 - 20) / 2);
        assert_eq!(places_of(None, 4, true), u32::MAX);
        // Hardly any: some connections all the same.
        assert_eq!(places_of(Some(80), 2, false), 20);
        assert_eq!(places_of(Some(80), 2, true), 10);
        assert_eq!(places_of(Some(0), 2, true), 1);
    }

    #[test]
    fn both_kinds_of_exhaustion_are_known() {
        assert!(is_exhausted(&io::Error::from_raw_os_error(libc::EMFILE)));
        assert!(is_exhausted(&io::Error::from_raw_os_error(libc::ENFILE)));
        assert!(!is_exhausted(&io::Error::from_raw_os_error(libc::ECONNABORTED)));
    }
}
