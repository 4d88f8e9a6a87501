//! What the process gives up before it serves: being root, capabilities, files, ports, system calls.
//!
//! All of it is taken from a thread and inherited by those that it starts, so the place for it is between opening the
//! sockets and starting the first thread. It can't be given back: what a server goes on needing stands in [`Needs`],
//! [`places`] makes directories of it, and a reload is held against the [`Fence`].

mod access;
#[cfg(target_os = "linux")]
mod apply;
#[cfg(not(target_os = "linux"))]
#[path = "elsewhere.rs"]
mod apply;
#[cfg(target_os = "linux")]
mod calls;
mod fence;
#[cfg(target_os = "linux")]
mod kernel;
#[cfg(target_os = "linux")]
mod landlock;
mod needs;
mod places;
#[cfg(target_os = "linux")]
mod privileges;
#[cfg(target_os = "linux")]
mod seccomp;
mod state;
mod user;

use std::thread;

use qtls_core::{Error, Result};

pub use fence::Fence;
pub use needs::{FileNeed, Needs, Role};
pub use state::{InForce, Part, State};
pub use user::{Account, Target};

use crate::config::{ClientConfig, Origins, Sandbox, ServerConfig};

/// What is to be done before serving.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How much of it must be in force.
    pub mode: Sandbox,
    /// The user to become, if it is another one than this process is.
    pub target: Option<Target>,
    /// Who the process will be.
    account: Account,
}

/// What was done.
#[derive(Debug)]
pub struct Entered {
    /// Part by part.
    pub state: State,
    /// What was left open.
    pub fence: Fence,
    /// What the server will want and can't have any more, as errors of the configuration.
    pub problems: Vec<Error>,
}

impl Settings {
    /// The settings of a configuration.
    ///
    /// # Errors
    /// There is no user of that name, or this process can't become it.
    pub fn of(config: &ServerConfig, origins: &Origins) -> Result<Self> {
        Ok(Self::new(config.sandbox, Target::of("server.user", config.server.user.as_deref(), origins)?))
    }

    /// The settings of tunnels.
    ///
    /// # Errors
    /// As for [`of`](Self::of).
    pub fn of_tunnels(config: &ClientConfig, origins: &Origins) -> Result<Self> {
        Ok(Self::new(config.sandbox, Target::of("client.user", config.client.user.as_deref(), origins)?))
    }

    fn new(mode: Sandbox, target: Option<Target>) -> Self {
        // Inside, the databases of users are out of reach.
        let account = target.as_ref().map_or_else(Account::current, |target| target.account.clone());
        Self { mode, target, account }
    }

    /// Does something with the rights that the process will have once it serves, and takes back its own. For files that
    /// are made before: they belong to whom they must belong to, and nobody who owns their directory can make root write
    /// elsewhere by a link.
    ///
    /// # Errors
    /// The system refuses.
    pub fn with_later_rights<T>(&self, act: impl FnOnce() -> T) -> Result<T> {
        if self.mode == Sandbox::Off && self.target.is_none() {
            return Ok(act());
        }
        apply::with_later_rights(self.target.as_ref(), act)
    }
}

/// Takes everything from this process that `needs` doesn't name. To be called while it has one thread.
///
/// # Errors
/// The user can't be switched to; or a part is refused, and all are required (key `sandbox`).
pub fn enter(settings: &Settings, needs: &Needs, origins: &Origins) -> Result<Entered> {
    entered(settings, needs, origins, apply::Extent::Process)
}

/// [`enter`] on a thread of its own, which ends with it: what would be in force, and what could not be had any more. The
/// calling process keeps what it has.
///
/// # Errors
/// As for [`enter`].
pub fn rehearse(settings: &Settings, needs: &Needs, origins: &Origins) -> Result<Entered> {
    thread::scope(|scope| {
        let rehearsal = scope.spawn(|| entered(settings, needs, origins, apply::Extent::Thread));
        rehearsal.join().unwrap_or_else(|_| Err(Error::internal("the rehearsal of the sandbox panicked")))
    })
}

fn entered(settings: &Settings, needs: &Needs, origins: &Origins, extent: apply::Extent) -> Result<Entered> {
    let (state, fence) =
        apply::apply(settings, needs, extent).map_err(|error| match error.key_path().map(str::to_owned) {
            Some(key) => origins.locate(&key, error),
            None => error,
        })?;
    if settings.mode == Sandbox::Required
        && let Some((reasons, hints)) = state.refusals()
    {
        let message = format!("all of the sandbox is required, and refused are: {reasons}");
        return Err(origins
            .error("sandbox", message)
            .hint(format!("{hints}; or set `sandbox` to \"best-effort\" to run without them")));
    }
    let problems = access::check(needs, &settings.account, origins);
    Ok(Entered { state, fence, problems })
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
