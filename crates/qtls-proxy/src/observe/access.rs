//! The access log: one line for each connection, when it has ended.
//!
//! `event` is `connection` for those whose handshake was completed, and `handshake_failed` for the others. What isn't
//! known or doesn't apply is left out. docs/OPERATIONS.md has the table of fields, and `qtls report` reads them.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use qtls_core::client_hello::Offer;
use qtls_core::facts::Facts;
use qtls_core::policy::{CipherSuite, Group, is_grease, known_group_name, known_scheme_name, suite_name};
use qtls_core::verify::Identity;
use rustls::SignatureScheme;
use tracing::Level;

use super::logs::{self, AccessLog, Record};
use super::repeats;
use crate::proxy_protocol::UniqueId;
use crate::stream::Traffic;
use crate::upstream::{Leg, Peer};

/// What a client offered, kept until its line is written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offered {
    server_name: Option<Box<str>>,
    groups: Box<[u16]>,
    schemes: Box<[SignatureScheme]>,
    /// Where the client sent a list of its own for certificates.
    chain_schemes: Option<Box<[SignatureScheme]>>,
    /// Those of TLS 1.3.
    suites: Box<[u16]>,
}

/// A connection whose handshake was completed, at its end.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) client: SocketAddr,
    /// The load balancer that said who the client is.
    pub(crate) peer: Option<SocketAddr>,
    /// What those in front and behind call the connection.
    pub(crate) unique_id: Option<&'a UniqueId>,
    pub(crate) facts: &'a Facts,
    pub(crate) offered: &'a Offered,
    /// The protocol that the connection began with, where that is not TLS.
    pub(crate) starttls: Option<&'static str>,
    /// The address of the server behind that was used last.
    pub(crate) upstream: Option<Peer>,
    /// What was negotiated with it, over TLS.
    pub(crate) leg: Option<Leg>,
    /// In HTTP mode.
    pub(crate) requests: Option<u64>,
    pub(crate) traffic: Traffic,
    pub(crate) handshake: Duration,
    /// From the connection's being accepted.
    pub(crate) duration: Duration,
    /// A short, stable name.
    pub(crate) reason: &'static str,
}

/// A handshake that was not completed.
#[derive(Debug)]
pub(crate) struct Failed<'a> {
    pub(crate) client: SocketAddr,
    /// The protocol that the connection began with, where that is not TLS.
    pub(crate) starttls: Option<&'static str>,
    /// The load balancer that said who the client is.
    pub(crate) peer: Option<SocketAddr>,
    /// `None` where no ClientHello was read.
    pub(crate) offered: Option<&'a Offered>,
    /// What it is, for people: `handshake refused`.
    pub(crate) what: &'static str,
    /// How much it matters.
    pub(crate) level: Level,
    /// A short, stable name.
    pub(crate) reason: &'static str,
    /// Why, for people.
    pub(crate) message: &'a str,
    /// From the connection's being accepted.
    pub(crate) duration: Duration,
}

/// Whether there are lines about connections, so that it is worth remembering what they say.
pub(crate) fn is_on() -> bool {
    logs::access_log() != AccessLog::Off
}

impl Offered {
    /// What `offer` says.
    pub(crate) fn new(offer: &Offer) -> Self {
        Self {
            server_name: offer.server_name.as_deref().map(Into::into),
            groups: offer.groups.as_slice().into(),
            schemes: offer.schemes.as_slice().into(),
            chain_schemes: offer.chain_schemes.as_deref().map(Into::into),
            // Without making names of them, in the path of every handshake.
            suites: offer.suites.iter().copied().filter(|suite| suite >> 8 == 0x13).collect(),
        }
    }

    /// The name asked for by SNI.
    pub(crate) fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    fn record(&self, record: &mut Record) {
        let groups = self.groups.iter().copied().filter(|group| !is_grease(*group));
        record.list("offered_groups", groups.map(|group| Named(known_group_name(group), group)));
        record.list("offered_schemes", named(&self.schemes));
        if let Some(schemes) = &self.chain_schemes {
            record.list("offered_chain_schemes", named(schemes));
        }
        record.list("offered_suites", self.suites.iter().filter_map(|suite| suite_name(*suite)));
    }
}

impl Ended<'_> {
    /// Writes the line.
    pub(crate) fn log(&self) {
        logs::access(Level::INFO, |record| self.record(record));
    }

    fn record(&self, record: &mut Record) {
        let Self { facts, .. } = self;
        record.say("connection ended");
        record.text("event", "connection");
        record.text("client", self.client);
        record.text_if("peer", self.peer);
        record.text_if("unique_id", self.unique_id);
        record.text_if("server_name", facts.server_name.as_deref());
        record.text_if("starttls", self.starttls);
        record.text_if("alpn", facts.alpn.as_deref().map(String::from_utf8_lossy));
        record.text("group", Named(known_group_name(facts.group), facts.group));
        record.flag("pq", facts.post_quantum());
        record.text_if("scheme", facts.scheme.map(|scheme| Named(known_scheme_name(scheme), scheme.into())));
        record.text("suite", facts.suite_name());
        record.text_if("certificate", facts.certificate.as_deref());
        record.text_if("certificate_reason", facts.reason.as_deref());
        record.flag("resumed", facts.resumed);
        record.flag("hrr", facts.hello_retry_request);
        record.text_if("identity", facts.peer_chain.first().map(|leaf| identity(leaf)));
        record.text_if("upstream", self.upstream.as_ref());
        if let Some(Leg { group, suite, scheme, resumed }) = self.leg {
            record.text("upstream_group", Named(known_group_name(group), group));
            record.flag("upstream_pq", Group::from_code_point(group).is_some_and(Group::is_post_quantum));
            record.text_if("upstream_scheme", scheme.map(|scheme| Named(known_scheme_name(scheme), scheme.into())));
            record
                .text("upstream_suite", CipherSuite::from_code_point(suite).map_or("unknown", CipherSuite::iana_name));
            record.flag("upstream_resumed", resumed);
        }
        if let Some(requests) = self.requests {
            record.number("requests", requests);
        }
        record.number("received", self.traffic.received);
        record.number("sent", self.traffic.sent);
        record.milliseconds("handshake_ms", self.handshake);
        record.milliseconds("duration_ms", self.duration);
        record.text("reason", self.reason);
        self.offered.record(record);
    }
}

impl Failed<'_> {
    /// Writes the line. Where it stands in the log among all others, it is as important as it is for a while; of
    /// refusals for the same reason, the later ones are but lines about connections. Where it doesn't, the log has a
    /// warning as well, unless there were many.
    pub(crate) fn log(&self) {
        let Self { client, what, level, reason, message, .. } = *self;
        let server_name = self.offered.and_then(Offered::server_name);
        let access = logs::access_log();
        let admitted = level > Level::INFO || repeats::admit(what, reason);
        match access {
            AccessLog::Shared => {
                let level = if admitted { level.min(Level::INFO) } else { Level::INFO };
                return logs::access(level, |record| self.record(record));
            }
            AccessLog::Own => logs::access(level.min(Level::INFO), |record| self.record(record)),
            AccessLog::Off => {}
        }
        if !admitted {
            return;
        }
        // The level of an event is part of the program.
        macro_rules! say {
            ($level:ident) => {
                tracing::$level!(client = %client, reason, server_name, "{what}: {message}")
            };
        }
        match level {
            Level::ERROR => say!(error),
            Level::WARN => say!(warn),
            Level::INFO => say!(info),
            _ => say!(debug),
        }
    }

    fn record(&self, record: &mut Record) {
        let Self { what, message, offered, .. } = self;
        record.say(format_args!("{what}: {message}"));
        record.text("event", "handshake_failed");
        record.text("client", self.client);
        record.text_if("peer", self.peer);
        record.text("reason", self.reason);
        record.text_if("server_name", offered.and_then(Offered::server_name));
        record.text_if("starttls", self.starttls);
        record.milliseconds("duration_ms", self.duration);
        if let Some(offered) = offered {
            offered.record(record);
        }
    }
}

fn named(schemes: &[SignatureScheme]) -> impl Iterator<Item = Named> {
    let real = schemes.iter().copied().filter(|scheme| !is_grease(u16::from(*scheme)));
    real.map(|scheme| Named(known_scheme_name(scheme), u16::from(scheme)))
}

/// A code point: its name in the registry, or its number.
struct Named(Option<&'static str>, u16);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(name) => f.write_str(name),
            None => write!(f, "0x{:04x}", self.1),
        }
    }
}

/// Whom a certificate names: its subject, or else the first of its other names.
fn identity(leaf: &[u8]) -> String {
    let Ok(identity) = Identity::of(leaf) else {
        // It was verified; one that can't be read after that names nobody.
        return "unknown".to_owned();
    };
    if !identity.subject.is_empty() {
        return identity.subject;
    }
    let others = [&identity.dns_names, &identity.uris, &identity.emails].into_iter().flatten().next().cloned();
    let address = || identity.ip_addresses.first().map(ToString::to_string);
    others.or_else(address).unwrap_or_else(|| identity.spki_sha256.to_string())
}
