//! Landlock: which files may be opened, and which TCP ports.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::OwnedFd;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, Errno, NetPort, PathBeneath, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, Scope,
};
use rustix::fs::{Mode, OFlags, open};

use super::kernel;
use super::places::{Access, Places};

/// What this module knows how to use. Rights that later versions bring are not taken away.
const KNOWN: ABI = ABI::V7;
/// The version that brought TCP ports (Linux 6.7).
pub(super) const WITH_PORTS: i64 = 4;
/// The version that brought signals and abstract sockets (Linux 6.12).
const WITH_SCOPES: i64 = 6;

/// Rules that are made, and not in force yet.
pub(super) struct Rules {
    ruleset: RulesetCreated,
    /// Directories that must stay what they are for the rules about them to hold.
    pinned: Vec<OwnedFd>,
    /// The version of Landlock that the kernel speaks.
    pub(super) version: i64,
}

impl Rules {
    /// Rules that leave `places` and connections to `ports` open, and nothing else. Abstract sockets, which have no
    /// place in a file system, stay open where `abstract_sockets` says so.
    ///
    /// # Errors
    /// The kernel has no Landlock, or refuses it.
    pub(super) fn new(places: &Places, ports: &BTreeSet<u16>, abstract_sockets: bool) -> io::Result<Self> {
        let version = kernel::landlock_version()?;
        let mut ruleset = Ruleset::default().handle_access(AccessFs::from_all(KNOWN)).map_err(cause)?;
        if version >= WITH_PORTS {
            ruleset = ruleset.handle_access(AccessNet::from_all(KNOWN)).map_err(cause)?;
        }
        if version >= WITH_SCOPES {
            let mut scopes = BitFlags::from(Scope::Signal);
            if !abstract_sockets {
                scopes |= Scope::AbstractUnixSocket;
            }
            ruleset = ruleset.scope(scopes).map_err(cause)?;
        }
        let mut ruleset = ruleset.create().map_err(cause)?;
        let mut pinned = Vec::new();
        for (path, access) in places {
            // What has gone since it was found needs no rule.
            let Ok(place) = open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else { continue };
            if let Err(error) = (&mut ruleset).add_rule(PathBeneath::new(&place, rights(*access))) {
                match cause(error) {
                    // Pipes and sockets without a name are beyond Landlock: they are open in any case.
                    error if error.raw_os_error() == Some(libc::EBADFD) => {}
                    error => return Err(error),
                }
            }
            if path.starts_with("/proc") {
                // proc makes its directories anew when memory is short, and a rule is about one of them.
                pinned.push(place);
            }
        }
        if version >= WITH_PORTS {
            for port in ports {
                ruleset = ruleset.add_rule(NetPort::new(*port, AccessNet::ConnectTcp)).map_err(cause)?;
            }
        }
        Ok(Self { ruleset, pinned, version })
    }

    /// Puts the rules into force for the calling thread, and all that it starts. What is returned must be kept.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn apply(self) -> io::Result<Vec<OwnedFd>> {
        self.ruleset.restrict_self().map_err(cause)?;
        Ok(self.pinned)
    }
}

fn rights(access: Access) -> BitFlags<AccessFs> {
    let mut rights = BitFlags::EMPTY;
    if access.read {
        rights |= AccessFs::ReadFile | AccessFs::ReadDir;
    }
    if access.write {
        // Rotation looks for older files, and renames: also a log file that is a link.
        rights |= AccessFs::ReadDir | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::MakeReg | AccessFs::MakeSym;
    }
    if access.remove {
        rights |= AccessFs::RemoveFile;
    }
    rights
}

/// The error of the kernel behind an error of the crate.
fn cause(error: RulesetError) -> io::Error {
    io::Error::from_raw_os_error(*Errno::from(error))
}
