//! The audit log: what decided on whom this server serves and how, who made it so, and whom it refused.
//!
//! Each event is an object of JSON on a line of its own in `logging.audit_file`, which is only ever appended to.
//! docs/OPERATIONS.md has the events and their members; they are part of the interface.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;

use qtls_core::Error;
use qtls_core::credentials::{Credential, date, sha256};
use qtls_core::policy::{Named, Policy};
use qtls_core::version::VERSION;

use super::logs::{self, Record};
use crate::config::{ServerCertificates, VerifyClient};
use crate::hosts::Host;
use crate::live::Live;

/// What made something happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The start of the process.
    Start,
    /// A signal, by its name.
    Signal(&'static str),
    /// Files that the state was read from are others now.
    Files,
    /// Another process, by its identifier, which serves from now on.
    Replaced(u32),
    /// Something in the process itself.
    Itself,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Signal(name) => name,
            Self::Files => "file change",
            Self::Replaced(process) => return write!(f, "process {process}"),
            Self::Itself => "process",
        })
    }
}

/// The server serves: under which version, which certificates were loaded, and what it offers and accepts.
pub(crate) fn started(live: &Live) {
    if !logs::has_audit_log() {
        return;
    }
    begun(live.generation);
    if let Some(file) = live.config.key_log() {
        key_log(file, Cause::Start, "begun");
    }
    for own in served(live) {
        own.host.endpoint.credentials().for_each(|credential| loaded(Some(own.name), credential, Cause::Start));
        ticket_keys(&own, None, Cause::Start);
        event("policy", Cause::Start, "ok", |record| {
            record.text("host", own.name);
            record.text("policy", &own);
        });
    }
}

/// The process serves.
pub(crate) fn begun(generation: u64) {
    event("start", Cause::Start, "ok", |record| {
        record.text("version", VERSION);
        record.number("generation", generation);
    });
}

/// The process could not start.
pub fn start_failed(error: &Error) {
    event("start", Cause::Start, "failed", |record| {
        record.text("version", VERSION);
        record.text("reason", error.one_line());
    });
}

/// The process has stopped: as it was told to, or by an error.
pub(crate) fn stopped(cause: Cause, error: Option<&Error>) {
    let result = if error.is_some() { "failed" } else { "ok" };
    event("stop", cause, result, |record| record.text_if("reason", error.map(Error::one_line)));
}

/// A reload was applied: what is loaded now and wasn't before, and whose policy is another.
pub(crate) fn reloaded(cause: Cause, before: &Live, after: &Live) {
    if !logs::has_audit_log() {
        return;
    }
    event("reload", cause, "applied", |record| record.number("generation", after.generation));
    if before.config.key_log() != after.config.key_log() {
        before.config.key_log().inspect(|file| key_log(file, cause, "ended"));
        after.config.key_log().inspect(|file| key_log(file, cause, "begun"));
    }
    let before: HashMap<_, _> = served(before).map(|own| (own.name, own)).collect();
    let after: Vec<_> = served(after).collect();
    for own in &after {
        let known = before.get(own.name);
        let is_known = |credential: &Credential| {
            known.is_some_and(|known| {
                let mut known = known.host.endpoint.credentials();
                known.any(|known| known.name == credential.name && leaf(known) == leaf(credential))
            })
        };
        for credential in own.host.endpoint.credentials().filter(|credential| !is_known(credential)) {
            loaded(Some(own.name), credential, cause);
        }
        ticket_keys(own, known, cause);
        let (text, known_text) = (own.to_string(), known.map(ToString::to_string));
        // Of the trust anchors, the text has but the name of their file.
        let same_trust = known.is_some_and(|known| known.host.endpoint.binding() == own.host.endpoint.binding());
        if known_text.as_ref() != Some(&text) || !same_trust {
            event("policy_changed", cause, "applied", |record| {
                record.text("host", own.name);
                if known_text.as_ref() == Some(&text) {
                    record.text("trust", "changed");
                }
                record.text_if("before", known_text);
                record.text("after", text);
            });
        }
    }
    for gone in before.values().filter(|gone| !after.iter().any(|own| own.name == gone.name)) {
        event("policy_changed", cause, "applied", |record| {
            record.text("host", gone.name);
            record.text("before", gone);
        });
    }
}

/// A reload was refused: the old state stays in force.
pub(crate) fn reload_refused(cause: Cause, error: &Error) {
    event("reload", cause, "refused", |record| record.text("reason", error.one_line()));
}

/// A client was refused, by policy or since its certificate doesn't let it in.
pub(crate) fn refused(client: SocketAddr, server_name: Option<&str>, reason: &'static str, message: &str) {
    refusal(|record| {
        record.text("client", client);
        record.text_if("server_name", server_name);
        record.text("reason", reason);
        record.text("message", message);
    });
}

/// A peer was refused: `fill` says which, and why.
pub(crate) fn refusal(fill: impl FnOnce(&mut Record)) {
    logs::audit(|record| {
        record.say("refusal");
        who(record);
        record.text("result", "refused");
        fill(record);
    });
}

/// A new process asked for the sockets of this one: it got them (`ok`), was not let in (`refused`), or did not come to
/// serve (`failed`).
pub(crate) fn handed_over(process: u32, user: Option<u32>, result: &'static str, reason: Option<&str>) {
    event("hand_over", Cause::Replaced(process), result, |record| {
        if let Some(user) = user {
            record.number("user", user.into());
        }
        record.text_if("reason", reason);
    });
}

/// The secrets of connections are written to a file, or no longer.
fn key_log(file: &Path, cause: Cause, result: &'static str) {
    event("key_log", cause, result, |record| record.text("file", file.display()));
}

/// A certificate was loaded, for one of the hosts of a server, or for tunnels.
pub(crate) fn loaded(host: Option<&str>, credential: &Credential, cause: Cause) {
    event("credential_loaded", cause, "ok", |record| {
        record.text_if("host", host);
        record.text("name", &credential.name);
        record.text("origin", &credential.origin);
        record.text("kind", credential.kind.name());
        record.text_if("sha256", leaf(credential).map(|leaf| Hex(sha256(leaf))));
        record.text("not_after", date(credential.not_after));
    });
}

/// Unless they are those of `known`, the same host before.
fn ticket_keys(own: &Served<'_>, known: Option<&Served<'_>>, cause: Cause) {
    let keys = |own: &Served<'_>| own.host.endpoint.ticket_keys().map(ToString::to_string);
    let Some(loaded) = keys(own).filter(|loaded| known.and_then(keys).as_ref() != Some(loaded)) else { return };
    event("ticket_keys_loaded", cause, "ok", |record| {
        record.text("host", own.name);
        record.text("keys", loaded);
    });
}

pub(crate) fn leaf(credential: &Credential) -> Option<&[u8]> {
    credential.key.cert.first().map(AsRef::as_ref)
}

pub(crate) fn event(name: &'static str, cause: Cause, result: &'static str, fill: impl FnOnce(&mut Record)) {
    logs::audit(|record| {
        record.say(name);
        who(record);
        record.text("cause", cause);
        record.text("result", result);
        fill(record);
    });
}

fn who(record: &mut Record) {
    record.number("pid", std::process::id().into());
    record.number("uid", rustix::process::getuid().as_raw().into());
}

/// One of the servers behind the port, with what its configuration says of it. Displayed as what it offers and accepts, in
/// words that are others where that is another.
struct Served<'a> {
    /// Its first name; of the one at the top, `default`.
    name: &'a str,
    host: &'a Host,
    certificates: &'a ServerCertificates,
}

fn served(live: &Live) -> impl Iterator<Item = Served<'_>> {
    let config = &live.config;
    let named = config.virtual_hosts.iter().map(|host| {
        let name = host.names.first().map_or("default", |name| name.as_str());
        (name, &host.certificates)
    });
    let all = std::iter::once(("default", &config.certificates)).chain(named);
    all.zip(live.hosts.iter()).map(|((name, certificates), host)| Served { name, host, certificates })
}

impl fmt::Display for Served<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, certificates, .. } = self;
        write!(f, "{}; clients ", Offered(host.endpoint.policy()))?;
        f.write_str(match certificates.verify_client {
            VerifyClient::No => return f.write_str("not verified"),
            VerifyClient::Optional => "verified if they show a certificate",
            VerifyClient::Required => "verified",
        })?;
        write!(f, " to depth {}", certificates.verify_depth)?;
        if let Some(bundle) = &certificates.ca_bundle {
            write!(f, " under {}", bundle.display())?;
        }
        if let Some(crl) = &certificates.crl {
            write!(f, ", revocation {:?}", crl.mode)?;
        }
        if let Some(allow) = &certificates.allow {
            let entries = allow.iter().map(|entry| {
                let pairs = entry.pairs().map(|(kind, value)| format!("{kind}={value}"));
                pairs.collect::<Vec<_>>().join(" and ")
            });
            write!(f, ", allowed {}", entries.collect::<Vec<_>>().join(" or "))?;
        }
        Ok(())
    }
}

/// What a policy offers and accepts, in words.
pub(crate) struct Offered<'a>(pub(crate) &'a Policy);

impl fmt::Display for Offered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(policy) = self;
        let names = |names: &mut dyn Iterator<Item = &'static str>| names.collect::<Vec<_>>().join(",");
        write!(
            f,
            "groups {}; preference {:?}; signatures {}; chain signatures {}; suites {}",
            names(&mut policy.groups.iter().map(|group| group.iana_name())),
            policy.group_preference,
            names(&mut policy.signatures.iter().map(|kind| kind.name())),
            names(&mut policy.chain_signatures.iter().map(|kind| kind.name())),
            names(&mut policy.suites.iter().map(|suite| suite.iana_name())),
        )
    }
}

struct Hex([u8; 32]);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}
