//! Users, capabilities, and what else a process has by being who it is.
//!
//! All of it is the calling thread's alone, but for core dumps: threads that it starts inherit it.

use std::io;

use qtls_core::{Error, Result};
use rustix::process::{
    DumpableBehavior, Gid, Resource, Rlimit, Uid, getegid, geteuid, getgroups, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::user::{self, Target};

/// Takes every capability from the bounding set: what is not in it can't be gained by running a program. Without
/// CAP_SETPCAP nothing happens; then it is `no_new_privs` alone that keeps the process from gaining any.
pub(super) fn empty_bounding_set() -> io::Result<()> {
    if !capabilities(None)?.effective.contains(CapabilitySet::SETPCAP) {
        return Ok(());
    }
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(capability) {
            Ok(true) => remove_capability_from_bounding_set(capability)?,
            Ok(false) => {}
            // The kernel knows no further ones.
            Err(_) => break,
        }
    }
    Ok(())
}

/// Gives up every capability that the thread has, could use, or would pass on.
pub(super) fn drop_capabilities() -> io::Result<()> {
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

/// Programs run from here on get no privileges, whatever their files say.
pub(super) fn no_new_privileges() -> io::Result<()> {
    Ok(set_no_new_privs(true)?)
}

/// Becomes `target`, for good.
///
/// # Errors
/// The system refuses (key `server.user`).
pub(super) fn switch(target: &Target) -> Result<()> {
    let fail = |error: io::Error| user::refused(target, error);
    let (uid, gid) = (Uid::from_raw(target.account.uid), Gid::from_raw(target.gid));
    let groups: Vec<_> = target.groups.iter().copied().map(Gid::from_raw).collect();
    set_thread_groups(&groups).map_err(|error| fail(error.into()))?;
    set_thread_res_gid(gid, gid, gid).map_err(|error| fail(error.into()))?;
    set_thread_res_uid(uid, uid, uid).map_err(|error| fail(error.into()))?;
    // A way back would make all of it worth nothing.
    if geteuid() != uid || getegid() != gid || set_thread_res_uid(None, Uid::ROOT, None).is_ok() {
        return Err(Error::internal(format!("this process became user {} and can become root again", target.account)));
    }
    Ok(())
}

/// Does something with no more rights than the process will have once it serves: as `target`, if there is one, and
/// without capabilities.
///
/// # Errors
/// The system refuses.
pub(super) fn with_later_rights<T>(target: Option<&Target>, act: impl FnOnce() -> T) -> Result<T> {
    let Some(target) = target else {
        let before = capabilities(None).map_err(os)?;
        set_capabilities(None, CapabilitySets { effective: CapabilitySet::empty(), ..before }).map_err(os)?;
        let done = act();
        set_capabilities(None, before).map_err(os)?;
        return Ok(done);
    };
    let fail = |error: rustix::io::Errno| user::refused(target, io::Error::from(error));
    let (uid, gid, groups) = (geteuid(), getegid(), getgroups().map_err(fail)?);
    let later: Vec<_> = target.groups.iter().copied().map(Gid::from_raw).collect();
    set_thread_groups(&later).map_err(fail)?;
    set_thread_res_gid(None, Gid::from_raw(target.gid), None).map_err(fail)?;
    // The effective capabilities go with the user, and come back with it.
    set_thread_res_uid(None, Uid::from_raw(target.account.uid), None).map_err(fail)?;
    let done = act();
    set_thread_res_uid(None, uid, None).map_err(fail)?;
    set_thread_res_gid(None, gid, None).map_err(fail)?;
    set_thread_groups(&groups).map_err(fail)?;
    Ok(done)
}

/// No core dump, and no debugger of the same user. Both are needed: a limit of zero doesn't keep the kernel from piping
/// a dump to a program, as systemd-coredump and apport are.
pub(super) fn no_core_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

fn os(error: rustix::io::Errno) -> Error {
    Error::internal(format!("capabilities can't be given up: {}", io::Error::from(error)))
}
