//! The parts in their order: each needs rights that later ones take away.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use qtls_core::{Error, Result};
use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, geteuid, getrlimit};
use rustix::thread::{
    CapabilitySet, SecureComputingMode, capabilities, capability_is_in_bounding_set, no_new_privs,
    secure_computing_mode,
};
use socket2::{Domain, Socket, Type};

use super::fence::{self, Fence};
use super::landlock::{Rules, WITH_PORTS};
use super::needs::Needs;
use super::places::{self, Access, Places};
use super::seccomp;
use super::state::{InForce, Part, State};
use super::user::Account;
use super::{Settings, privileges};
use crate::config::Sandbox;

pub(super) use super::privileges::with_later_rights;

/// What is restricted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// The process, which has one thread.
    Process,
    /// The calling thread, which is about to end.
    Thread,
}

/// Restricts the calling thread, as far as the system allows, and says what came of it.
///
/// # Errors
/// The user can't be switched to (key `server.user`). Or there are other threads, which would stay as they are.
pub(super) fn apply(settings: &Settings, needs: &Needs, extent: Extent) -> Result<(State, Fence)> {
    if extent == Extent::Process {
        refuse_other_threads()?;
    }
    let account = &settings.account;
    let before = Seen::now();
    if settings.mode == Sandbox::Off {
        if let Some(target) = &settings.target {
            privileges::switch(target)?;
        }
        let seen = Seen::now();
        return Ok((State::new(|part| left_alone(part, &seen, account)), Fence::none()));
    }
    let mut steps = Steps::default();
    let files = places::of_files(needs);
    let places = open_places(files.clone(), needs, account.is_root());
    let ports = open_ports(needs);
    // Directories are opened while everything can be, and capabilities given up while they can be.
    let rules = Rules::new(&places, &ports, abstract_sockets());
    steps.take(Part::Capabilities, privileges::empty_bounding_set());
    if let Some(target) = &settings.target {
        privileges::switch(target)?;
    }
    steps.take(Part::Capabilities, privileges::drop_capabilities());
    // Without these, none but root may go on.
    steps.take(Part::NewPrivileges, privileges::no_new_privileges());
    let fenced = fence_in(rules, || describe(&files, needs, account.is_root()));
    if extent == Extent::Process {
        steps.take(Part::CoreDumps, privileges::no_core_dumps());
    }
    let seen = Seen::now();
    let process = std::process::id();
    steps.take(Part::SystemCalls, seccomp::apply(seccomp::Purpose { process, system_resolver: needs.system_resolver }));
    let state = State::new(|part| match part {
        Part::Files => fenced.files.clone(),
        Part::Network => fenced.network(&ports),
        Part::SystemCalls => steps.judge(part, steps.went_well(part) && filtered(), before.filtered, words(part)),
        Part::CoreDumps if extent == Extent::Thread => InForce::Yes(words(part).to_owned()),
        Part::User => left_alone(part, &seen, account),
        Part::Capabilities | Part::NewPrivileges | Part::CoreDumps => {
            steps.judge(part, seen.has(part), before.has(part), words(part))
        }
    });
    let ports = fenced.network_in_force.then_some(ports);
    let fence = match fenced.files {
        InForce::Yes(_) => Fence::around(places, ports, needs.names.is_some(), fenced.pinned),
        InForce::No(_) | InForce::Refused { .. } => Fence::none(),
    };
    Ok((state, fence))
}

/// What is taken from a thread leaves other threads as they are.
fn refuse_other_threads() -> Result<()> {
    // Without /proc there is nobody to ask.
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Ok(()) };
    match threads.count() {
        0 | 1 => Ok(()),
        count => Err(Error::internal(format!("{count} threads exist before the sandbox is entered"))),
    }
}

fn open_places(mut places: Places, needs: &Needs, as_root: bool) -> Places {
    places::merge(&mut places, places::of_process());
    if needs.names.is_some() {
        places::merge(&mut places, places::of_names(as_root, needs.system_resolver));
    }
    places
}

fn open_ports(needs: &Needs) -> BTreeSet<u16> {
    /// Answers that are too long for a datagram are asked for over TCP.
    const DNS: u16 = 53;
    let mut ports: BTreeSet<_> = needs.ports.keys().copied().collect();
    if needs.names.is_some() {
        ports.insert(DNS);
    }
    ports
}

/// Whether the service manager is told of readiness over a socket without a place in a file system.
fn abstract_sockets() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| path.as_encoded_bytes().starts_with(b"@"))
}

/// What Landlock came to.
struct Fenced {
    files: InForce,
    /// What `files` is, where that isn't for want of a version.
    network_refusal: Option<InForce>,
    network_in_force: bool,
    pinned: Vec<OwnedFd>,
}

impl Fenced {
    fn network(&self, ports: &BTreeSet<u16>) -> InForce {
        match &self.network_refusal {
            Some(refusal) => refusal.clone(),
            None => InForce::Yes(match fence::ports(ports) {
                _ if ports.is_empty() => "no listening, no connecting".to_owned(),
                list => format!("no listening, connecting to {list} only"),
            }),
        }
    }
}

fn fence_in(rules: io::Result<Rules>, describe: impl Fn() -> String) -> Fenced {
    let applied = rules.and_then(|rules| {
        let version = rules.version;
        rules.apply().map(|pinned| (version, pinned))
    });
    let (version, pinned) = match applied {
        Ok(applied) => applied,
        Err(error) => {
            let refusal = landlock_refused(&error);
            return Fenced {
                files: refusal.clone(),
                network_refusal: Some(refusal),
                network_in_force: false,
                pinned: Vec::new(),
            };
        }
    };
    let not_held = |what: &str| InForce::Refused {
        why: format!("the kernel took the rules, and {what} all the same"),
        hint: "this is a fault of the system that runs this process: report it there",
    };
    // Some systems that look like Linux say yes to anything.
    let files = if File::open("/").is_ok() {
        not_held("/ can be read")
    } else {
        InForce::Yes(format!("Landlock {version}, {}", describe()))
    };
    let network_refusal = if version < WITH_PORTS {
        Some(InForce::Refused {
            why: format!("Landlock {version} of this kernel knows no ports"),
            hint: "Linux 6.7 and later have Landlock for ports",
        })
    } else {
        can_listen().then(|| not_held("a port can be had"))
    };
    let network_in_force = network_refusal.is_none();
    Fenced { files, network_refusal, network_in_force, pinned }
}

/// Where the files of the configuration are open, for people.
fn describe(files: &Places, needs: &Needs, as_root: bool) -> String {
    let list = |what: &str, wanted: fn(&Access) -> bool| {
        let open: Vec<_> = files.iter().filter(|(_, access)| wanted(access)).map(|(path, _)| path).collect();
        let outermost =
            open.iter().filter(|path| !open.iter().any(|other| *other != **path && path.starts_with(other)));
        let shown: Vec<_> = outermost.map(|path| path.display().to_string()).collect();
        if shown.is_empty() { format!("no {what}") } else { format!("{what} in {}", shown.join(", ")) }
    };
    let names = match (&needs.names, as_root) {
        (None, _) => "",
        (Some(_), true) => " and what looks names up",
        (Some(_), false) => " and, to look names up, in /etc",
    };
    format!("{}{names}, {}", list("reading", |access| access.read), list("writing", |access| access.write))
}

fn can_listen() -> bool {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    Socket::new(Domain::IPV4, Type::STREAM, None).and_then(|socket| socket.bind(&any.into())).is_ok()
}

fn landlock_refused(error: &io::Error) -> InForce {
    let (why, hint) = match error.raw_os_error() {
        Some(libc::ENOSYS) => (
            "this kernel has no Landlock, or a container hides it".to_owned(),
            "Linux 5.13 and later have Landlock, if built in; a container's seccomp profile must allow landlock_*",
        ),
        Some(libc::EOPNOTSUPP) => {
            ("Landlock is switched off".to_owned(), "add landlock to the list lsm= on the kernel's command line")
        }
        Some(libc::EPERM | libc::EACCES) => (
            format!("Landlock is refused to this process: {error}"),
            "a container's seccomp profile must allow landlock_*",
        ),
        _ => (format!("Landlock: {error}"), "see landlock(7)"),
    };
    InForce::Refused { why, hint }
}

/// How the steps went that have a part of their own.
#[derive(Default)]
struct Steps(BTreeMap<Part, io::Error>);

impl Steps {
    fn take(&mut self, part: Part, result: io::Result<()>) {
        if let Err(error) = result {
            self.0.entry(part).or_insert(error);
        }
    }

    fn went_well(&self, part: Part) -> bool {
        !self.0.contains_key(&part)
    }

    /// What is the case counts, not what the calls answered.
    fn judge(&self, part: Part, in_force: bool, before: bool, what: &str) -> InForce {
        if in_force {
            return InForce::Yes(if before { format!("{what}, as before") } else { what.to_owned() });
        }
        let why = self.0.get(&part).map_or_else(|| "without a reason".to_owned(), io::Error::to_string);
        InForce::Refused { why, hint: "a container's or a unit's restrictions may forbid it: allow it there" }
    }
}

/// What a thread has and may do, as the kernel says.
struct Seen {
    root: bool,
    no_new_privileges: bool,
    /// Whether it has some, or could get some.
    capabilities: bool,
    filtered: bool,
    dumps: bool,
}

impl Seen {
    fn now() -> Self {
        let no_new_privileges = no_new_privs().unwrap_or(false);
        let held = capabilities(None).map(|held| held.effective | held.permitted | held.inheritable);
        let none_held = held.is_ok_and(|held| held.is_empty());
        Self {
            root: geteuid().is_root(),
            no_new_privileges,
            capabilities: !none_held || (!no_new_privileges && !bounding_set_is_empty()),
            filtered: filtered(),
            dumps: getrlimit(Resource::Core).maximum != Some(0)
                || dumpable_behavior().is_ok_and(|behavior| behavior != DumpableBehavior::NotDumpable),
        }
    }

    fn has(&self, part: Part) -> bool {
        match part {
            Part::User => !self.root,
            Part::Capabilities => !self.capabilities,
            Part::NewPrivileges => self.no_new_privileges,
            Part::SystemCalls => self.filtered,
            Part::CoreDumps => !self.dumps,
            // Nobody can be asked for the rules that a process is under.
            Part::Files | Part::Network => false,
        }
    }
}

fn bounding_set_is_empty() -> bool {
    (0..u64::BITS)
        .map(|number| capability_is_in_bounding_set(CapabilitySet::from_bits_retain(1 << number)))
        .take_while(std::result::Result::is_ok)
        .all(|there| there == Ok(false))
}

fn filtered() -> bool {
    secure_computing_mode().is_ok_and(|mode| mode == SecureComputingMode::Filter)
}

/// What is said of a part that is in force.
fn words(part: Part) -> &'static str {
    match part {
        Part::Capabilities | Part::CoreDumps => "none",
        Part::NewPrivileges => "set",
        Part::SystemCalls => "filtered",
        Part::User | Part::Files | Part::Network => "restricted",
    }
}

/// The state of a part that nobody wants in force: what surrounds the process may have put it there.
fn left_alone(part: Part, seen: &Seen, account: &Account) -> InForce {
    match (part, seen.has(part)) {
        (Part::User, true) => InForce::Yes(account.to_string()),
        (Part::User, false) => InForce::No(account.to_string()),
        (_, true) => InForce::Yes(words(part).to_owned()),
        (_, false) => InForce::No("not restricted".to_owned()),
    }
}
