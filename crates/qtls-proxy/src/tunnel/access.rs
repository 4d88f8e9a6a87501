//! The access log of tunnels: one line for each connection, when it has ended.
//!
//! `event` is `tunnel` for those that were carried, and `tunnel_failed` for the others. docs/CLIENT.md has the fields.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use qtls_core::facts::Facts;
use tracing::Level;

use super::plan::Route;
use crate::observe::logs::{self, Record};
use crate::socket::Socket;
use crate::stream::Traffic;

/// The program at the plain end.
#[derive(Clone, Copy, Debug)]
pub(super) enum Local {
    /// Its address.
    Tcp(SocketAddr),
    /// Its process and user, where the system tells.
    Unix { process: Option<i32>, user: Option<u32> },
}

impl Local {
    pub(super) fn of(socket: &Socket) -> Option<Self> {
        match socket {
            // One that is gone already has none.
            Socket::Tcp(socket) => socket.peer_addr().ok().map(Self::Tcp),
            Socket::Unix(socket) => {
                let peer = socket.peer_cred().ok();
                let process = peer.and_then(|peer| peer.pid());
                Some(Self::Unix { process, user: peer.map(|peer| peer.uid()) })
            }
        }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix { process: Some(process), user: Some(user) } => write!(f, "process {process} of user {user}"),
            Self::Unix { user: Some(user), .. } => write!(f, "user {user}"),
            Self::Unix { .. } => f.write_str("this host"),
        }
    }
}

/// A connection that was carried, at its end.
pub(super) struct Carried<'a> {
    pub(super) route: &'a Route,
    pub(super) local: Option<Local>,
    pub(super) server: SocketAddr,
    pub(super) facts: &'a Facts,
    pub(super) retries: u32,
    pub(super) traffic: Traffic,
    /// From being accepted until the server was reached.
    pub(super) connect: Duration,
    /// From being accepted.
    pub(super) duration: Duration,
    pub(super) reason: &'static str,
}

impl Carried<'_> {
    /// Writes the line.
    pub(super) fn log(&self) {
        logs::access(Level::INFO, |record| self.record(record));
    }

    fn record(&self, record: &mut Record) {
        let Self { route, facts, .. } = self;
        record.say("connection ended");
        record.text("event", "tunnel");
        about(record, route, self.local);
        record.text("server", self.server);
        record.text_if("alpn", facts.alpn.as_deref().map(String::from_utf8_lossy));
        record.text("group", facts.group_name());
        record.flag("pq", facts.post_quantum());
        record.text_if("scheme", facts.scheme.map(|_| facts.scheme_name()));
        record.text("suite", facts.suite_name());
        record.flag("resumed", facts.resumed);
        record.flag("hrr", facts.hello_retry_request);
        record.number("retries", self.retries.into());
        record.number("received", self.traffic.received);
        record.number("sent", self.traffic.sent);
        record.milliseconds("connect_ms", self.connect);
        record.milliseconds("duration_ms", self.duration);
        record.text("reason", self.reason);
    }
}

/// A connection that was not carried.
pub(super) struct Failed<'a> {
    pub(super) route: &'a Route,
    pub(super) local: Option<Local>,
    pub(super) retries: u32,
    /// From being accepted.
    pub(super) duration: Duration,
    pub(super) reason: &'static str,
    /// Why, for people.
    pub(super) message: &'a str,
}

impl Failed<'_> {
    /// Writes the line.
    pub(super) fn log(&self) {
        logs::access(Level::INFO, |record| {
            record.say(format_args!("connection not carried: {}", self.message));
            record.text("event", "tunnel_failed");
            about(record, self.route, self.local);
            record.text("reason", self.reason);
            record.number("retries", self.retries.into());
            record.milliseconds("duration_ms", self.duration);
        });
    }
}

fn about(record: &mut Record, route: &Route, local: Option<Local>) {
    record.text("tunnel", &route.name);
    record.text_if("client", local);
    record.text("remote", route.remote.address());
}
