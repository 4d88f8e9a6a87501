//! The user that the server becomes.

use std::ffi::CString;
use std::fmt;

use nix::unistd::{Gid, Uid, User, getgrouplist};
use qtls_core::{Error, Result};

use crate::config::Origins;

/// A user, by number where the system has no name for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The name.
    pub name: Option<String>,
    /// The number of the user.
    pub uid: u32,
}

impl Account {
    /// The user that this process is.
    pub fn current() -> Self {
        let uid = Uid::effective();
        // A user database that can't be asked is no reason to know less than the number.
        Self { name: User::from_uid(uid).ok().flatten().map(|user| user.name), uid: uid.as_raw() }
    }

    /// Whether this is root.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} (uid {})", self.uid),
            None => write!(f, "uid {}", self.uid),
        }
    }
}

/// A user to become, with the groups that the system's databases give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The key of the configuration that names it.
    pub key: &'static str,
    /// Who.
    pub account: Account,
    /// The primary group.
    pub gid: u32,
    /// All groups, the primary one among them.
    pub groups: Vec<u32>,
}

impl Target {
    /// The user of this name, which `key` has; `None` where it has none, or this process is that user already.
    ///
    /// # Errors
    /// There is no such user, or this process isn't root and can't become another one.
    pub fn of(key: &'static str, name: Option<&str>, origins: &Origins) -> Result<Option<Self>> {
        let Some(name) = name else { return Ok(None) };
        let fail = |message: String| origins.error(key, message);
        let user = User::from_name(name)
            .map_err(|error| fail(format!("the user {name:?} can't be looked up: {error}")))?
            .ok_or_else(|| {
                fail(format!("there is no user {name:?} on this host")).hint(format!(
                    "make it (`useradd --system --no-create-home --shell /usr/sbin/nologin {name}`), or correct the name"
                ))
            })?;
        let current = Account::current();
        if user.uid.as_raw() == current.uid {
            return Ok(None);
        }
        if !current.is_root() {
            return Err(fail(format!("only root can become another user: this is {current}, not {name}"))
                .hint(format!("start the server (or this check) as root, or as {name}, or remove the key")));
        }
        let c_name = CString::new(name).map_err(|_| fail(format!("{name:?} is no name of a user")))?;
        let groups = getgrouplist(&c_name, user.gid)
            .map_err(|error| fail(format!("the groups of {name} can't be looked up: {error}")))?;
        Ok(Some(Self {
            key,
            account: Account { name: Some(user.name), uid: user.uid.as_raw() },
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
        }))
    }
}

/// The error for a switch that the system refuses.
pub(crate) fn refused(target: &Target, error: impl fmt::Display) -> Error {
    Error::configuration(format!("this process can't become user {}: {error}", target.account)).key(target.key).hint(
        "a container needs the capabilities SETUID and SETGID for this; or start it as that user, and remove the key",
    )
}
