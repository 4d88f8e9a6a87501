//! Descriptors that this process was started with. The one place that makes one out of a number.
//!
//! The crates for this bring a dozen others into the lock file, for platforms that have no such thing.
#![allow(unsafe_code)]

use std::collections::BTreeSet;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FileType, fstat};
use rustix::io::{FdFlags, fcntl_setfd};

/// The first of the descriptors that a service manager passes (`SD_LISTEN_FDS_START`).
pub(super) const FIRST: usize = 3;

/// The socket that was passed as the one with this index; `None` where there is none, and the second time. No program
/// that is started from here inherits it.
pub(super) fn take(index: usize) -> Option<OwnedFd> {
    static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());
    let number = RawFd::try_from(FIRST + index).ok()?;
    {
        // SAFETY: it is looked at within this block only. A number that is not open is answered with an error.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        let is_socket = fstat(descriptor).is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::Socket);
        if !is_socket || fcntl_setfd(descriptor, FdFlags::CLOEXEC).is_err() {
            return None;
        }
    }
    if !TAKEN.lock().unwrap_or_else(PoisonError::into_inner).insert(number) {
        return None;
    }
    // SAFETY: it is open, and nobody else owns it: the service manager opened it for this process (the caller has checked
    // LISTEN_PID), before anything here could open one, and it is given away once.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}
