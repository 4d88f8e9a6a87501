//! The two system calls that no crate wraps as they are needed here.
#![allow(unsafe_code)]

use std::io;

use seccompiler::BpfProgram;

/// The version of Landlock that the kernel speaks, from 1.
///
/// # Errors
/// `ENOSYS`: there is none, or a sandbox around this process says so. `EOPNOTSUPP`: it is switched off. `EPERM`: a
/// sandbox around this process refuses it.
pub(super) fn landlock_version() -> io::Result<i64> {
    const VERSION: libc::c_uint = 1;
    // SAFETY: with a null attribute of size 0 and this flag, the call reads no memory and makes no descriptor: it returns
    // a number (landlock_create_ruleset(2)).
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<libc::c_void>(), 0_usize, VERSION) };
    if version < 0 { Err(io::Error::last_os_error()) } else { Ok(version) }
}

/// Adds a filter to the calling thread, which threads that it starts inherit. What a `logged` filter refuses goes to the
/// kernel's audit log.
///
/// # Errors
/// The kernel refuses.
pub(super) fn add_filter(program: &BpfProgram, logged: bool) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let set = |flags: libc::c_ulong| {
        let filter = libc::sock_fprog { len, filter: program.as_ptr().cast_mut().cast::<libc::sock_filter>() };
        // SAFETY: `filter` points to `len` instructions of the kernel's layout (seccompiler's type and libc's are both the
        // `struct sock_filter` of linux/filter.h), which outlive the call; the kernel copies them and writes nothing.
        let result =
            unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    if !logged {
        return set(0);
    }
    match set(libc::SECCOMP_FILTER_FLAG_LOG) {
        // Before Linux 4.14 there was no such flag.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => set(0),
        result => result,
    }
}
