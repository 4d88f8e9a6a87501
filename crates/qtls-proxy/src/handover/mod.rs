//! Replacing the process without closing a listening socket: the new process takes over those of the old one.
//!
//! Closing a socket of an `SO_REUSEPORT` group resets the connections that wait in its queue. So the new process gets the
//! *same* sockets, over a Unix socket whose path both have in their configuration (`server.handover`). Who starts the new
//! process is not the old one's business: a supervisor, an operator, a deployment.
//!
//! # The conversation
//!
//! Packets (`SOCK_SEQPACKET`) of one JSON object each, [`Message`], over a connection that the new process opens:
//!
//! | new process | old process |
//! |---|---|
//! | `hello`: the versions of this protocol that it speaks, its version, its control group | |
//! | | `offer`: the version that is spoken, its own version and process, how many descriptors follow |
//! | | `descriptors`, as often as needed: what each is, with the descriptors themselves (`SCM_RIGHTS`) |
//! | *starts completely: sandbox, threads; accepts nothing yet* | *serves* |
//! | `ready`: which of the sockets it uses | |
//! | | `go` |
//! | *accepts* | *accepts: for a moment both do, from the same queue* |
//! | `serving` | |
//! | | *stops accepting, stops answering for metrics and health, names the new main process to systemd* |
//! | | `done`: how many connections it still has |
//! | *tells systemd that it is ready* | *drains, and ends* |
//!
//! Instead of `offer`, or of `go`, there may be `refused` with the reason; the new process then fails.
//!
//! # Who may die when
//!
//! Until `serving`, the old process has given nothing up: if the new one ends, hangs or is refused, the old one closes the
//! conversation and goes on. From `offer` on, the new process has all it needs: if the old one ends, the new one serves in
//! its place. The sockets live for as long as either of the two has them, and no queue is ever reset.
//!
//! # What goes over
//!
//! The TLS sockets, those of the metrics and of the redirect, and the socket of this protocol, so that the next process asks the new one
//! at the same path, with no moment in which nobody listens there. Where both processes are of one systemd service (the
//! same control group), also the socket to systemd and its watchdog timeout: systemd passes them to the process that it
//! started, only. Sockets for addresses that the new configuration doesn't have are left to the old process, which empties
//! their queues, and closes them.
//!
//! Counters don't go over: the new process' metrics begin at zero, as after a restart, and what the old one still does is
//! in its log. Nor do sessions of the cache: a client of the old process makes a full handshake, unless there are
//! `tls.ticket_keys`.
//!
//! # Who may ask
//!
//! The socket is in a directory that nobody but root and the server's user can write to, and is theirs; who connects must
//! be root or the user that the old process runs as (`SO_PEERCRED`).

mod place;
mod predecessor;
mod successor;
#[cfg(test)]
mod tests;
mod wire;

use std::fs;

use serde::{Deserialize, Serialize};

use crate::listen::Role;

pub use place::{Place, check, missing};
pub use predecessor::{Consent, Inherited, Predecessor, ask};
pub use successor::{Attendant, Control, Offer, Takeover};

/// The version of the protocol.
const PROTOCOL: u32 = 1;

/// A packet of the conversation. Keys that a later version adds are ignored.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case")]
enum Message {
    Hello { protocols: Vec<u32>, version: String, control_group: Option<String> },
    Refused { reason: String },
    Offer { protocol: u32, version: String, process: u32, descriptors: usize, watchdog_microseconds: Option<u64> },
    Descriptors { what: Vec<Descriptor> },
    Ready { taken: Vec<usize> },
    Go,
    Serving,
    Done { connections: u64 },
}

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Descriptor {
    Tls,
    Metrics,
    Dashboard,
    Redirect,
    /// Where the next process asks.
    Handover,
    /// Connected to the service manager.
    ServiceManager,
}

impl From<Role> for Descriptor {
    fn from(role: Role) -> Self {
        match role {
            Role::Tls => Self::Tls,
            Role::Metrics => Self::Metrics,
            Role::Dashboard => Self::Dashboard,
            Role::Redirect => Self::Redirect,
        }
    }
}

impl Descriptor {
    fn role(self) -> Option<Role> {
        match self {
            Self::Tls => Some(Role::Tls),
            Self::Metrics => Some(Role::Metrics),
            Self::Dashboard => Some(Role::Dashboard),
            Self::Redirect => Some(Role::Redirect),
            Self::Handover | Self::ServiceManager => None,
        }
    }
}

/// The control group of this process, by which systemd tells services apart. To be read before a sandbox hides it.
fn control_group() -> Option<String> {
    fs::read_to_string("/proc/self/cgroup").ok()
}
