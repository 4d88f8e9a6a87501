//! The system calls that are left to a server, as filters of seccomp.
//!
//! The list of what is allowed is as wide as what systemd calls `@system-service`, less what this server never does:
//! running programs, making namespaces, looking into other processes, adding listeners, turning memory into code. What is
//! not on it is answered, and nobody is killed for it: a call that a later C library tries first must not be an outage.
//! Unknown calls are answered with ENOSYS, as by an older kernel, which every C library copes with; calls that are known
//! to be dangerous with EPERM. What is refused goes to the kernel's audit log, but for what C libraries try as a matter of
//! course.

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::calls::{ALLOWED, REFUSED};
use super::kernel;

/// What the filters depend on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Purpose {
    /// The process that signals may be sent to: this one.
    pub(super) process: u32,
    /// Whether the system's resolver is asked for names.
    pub(super) system_resolver: bool,
}

/// Puts the filters on the calling thread, and so on all that it starts.
///
/// # Errors
/// The kernel, or a sandbox around this process, refuses.
pub(super) fn apply(purpose: Purpose) -> io::Result<()> {
    // Of filters that refuse a call, the one that was added last gives the errno, and says whether it is logged.
    for (program, logged) in programs(purpose).map_err(io::Error::other)? {
        kernel::add_filter(&program, logged)?;
    }
    Ok(())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn programs(purpose: Purpose) -> Result<[(BpfProgram, bool); 3], BackendError> {
    let errno = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = |rules: Rules, otherwise: SeccompAction, matched: SeccompAction| {
        SeccompFilter::new(rules, otherwise, matched, architecture)?.try_into()
    };
    let allow = SeccompAction::Allow;
    Ok([
        (filter(allowed(purpose)?, errno(libc::ENOSYS), allow.clone())?, true),
        (filter(refused(purpose)?, allow.clone(), errno(libc::EPERM))?, true),
        (filter(tried_in_vain()?, allow, errno(libc::ENOSYS))?, false),
    ])
}

fn allowed(purpose: Purpose) -> Result<Rules, BackendError> {
    let mut rules = always(ALLOWED.iter().map(|(_, call)| *call));
    // musl's resolver binds its sockets. That binding is for UDP only is Landlock's to hold.
    if purpose.system_resolver && cfg!(target_env = "musl") {
        rules.insert(libc::SYS_bind, Vec::new());
    }
    let families = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];
    rules.insert(libc::SYS_socket, any_of(0, families.map(i32::unsigned_abs))?);
    rules.insert(libc::SYS_socketpair, any_of(0, [libc::AF_UNIX.unsigned_abs()])?);
    // Threads, in no namespace of their own.
    rules.insert(libc::SYS_clone, vec![masked(0, THREAD | NAMESPACES, THREAD)?]);
    // The names of threads and of memory. Least of all being dumpable again.
    let state = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA, libc::PR_GET_DUMPABLE, libc::PR_GET_SECCOMP];
    rules.insert(libc::SYS_prctl, any_of(0, state.map(i32::unsigned_abs))?);
    // Filters only take away; the ones after this one are added through it.
    rules.insert(libc::SYS_seccomp, any_of(0, [libc::SECCOMP_SET_MODE_FILTER])?);
    rules.insert(libc::SYS_prlimit64, any_of(0, [0, purpose.process])?);
    // The priority of the calling thread (`PRIO_PROCESS` is 0, and so is that thread), which signing threads lower; that of
    // others and of groups is not theirs to set.
    let own = [condition(0, SeccompCmpOp::Eq, 0)?, condition(1, SeccompCmpOp::Eq, 0)?];
    rules.insert(libc::SYS_setpriority, vec![SeccompRule::new(own.to_vec())?]);
    for call in [libc::SYS_kill, libc::SYS_tgkill] {
        rules.insert(call, any_of(0, [purpose.process])?);
    }
    Ok(rules)
}

fn refused(purpose: Purpose) -> Result<Rules, BackendError> {
    let mut rules = always(REFUSED.iter().map(|(_, call)| *call));
    // Other processes than threads of this one: nothing is forked.
    rules.insert(libc::SYS_clone, vec![masked(0, THREAD, 0)?]);
    // Memory that can be written and run, and memory that was written and is to be run.
    let both = (libc::PROT_WRITE | libc::PROT_EXEC).unsigned_abs();
    rules.insert(libc::SYS_mmap, vec![masked(2, both, both)?]);
    let run = libc::PROT_EXEC.unsigned_abs();
    for call in [libc::SYS_mprotect, libc::SYS_pkey_mprotect] {
        rules.insert(call, vec![masked(2, run, run)?]);
    }
    // Typing into the terminal that the server was started from.
    rules.insert(libc::SYS_ioctl, any_of(1, [libc::TIOCSTI as u32, libc::TIOCLINUX as u32])?);
    // The priority of others.
    let others = [0, 1].map(|argument| SeccompRule::new(vec![condition(argument, SeccompCmpOp::Ne, 0)?]));
    rules.insert(libc::SYS_setpriority, others.into_iter().collect::<Result<_, _>>()?);
    for call in [libc::SYS_kill, libc::SYS_tgkill] {
        let another = condition(0, SeccompCmpOp::Ne, purpose.process.into())?;
        rules.insert(call, vec![SeccompRule::new(vec![another])?]);
    }
    Ok(rules)
}

/// What glibc tries at each new thread, and in some of its functions, and does without.
fn tried_in_vain() -> Result<Rules, BackendError> {
    let mut rules = always([libc::SYS_clone3]);
    rules.insert(libc::SYS_socket, any_of(0, [libc::AF_NETLINK.unsigned_abs()])?);
    Ok(rules)
}

fn always(calls: impl IntoIterator<Item = c_long>) -> Rules {
    calls.into_iter().map(|call| (call, Vec::new())).collect()
}

/// The argument is one of `values`.
fn any_of(argument: u8, values: impl IntoIterator<Item = u32>) -> Result<Vec<SeccompRule>, BackendError> {
    let rule = |value: u32| SeccompRule::new(vec![condition(argument, SeccompCmpOp::Eq, value.into())?]);
    values.into_iter().map(rule).collect()
}

/// The argument has `value` in the bits of `mask`.
fn masked(argument: u8, mask: u32, value: u32) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(vec![condition(argument, SeccompCmpOp::MaskedEq(mask.into()), value.into())?])
}

/// The kernel takes none but the lower half of these arguments.
fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

const THREAD: u32 = libc::CLONE_THREAD.unsigned_abs();

const NAMESPACES: u32 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET)
    .unsigned_abs();

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_call_is_on_both_lists() {
        let allowed: BTreeSet<_> = ALLOWED.iter().map(|(_, call)| call).collect();
        assert_eq!(allowed.len(), ALLOWED.len(), "one stands twice");
        for (name, call) in REFUSED {
            assert!(!allowed.contains(call), "{name}");
        }
    }

    #[test]
    fn the_filters_compile_and_fit() {
        for system_resolver in [true, false] {
            for (program, _) in programs(Purpose { process: 1, system_resolver }).unwrap() {
                assert!(program.len() < 4096, "{} instructions", program.len());
            }
        }
    }
}
