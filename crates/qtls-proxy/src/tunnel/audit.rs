//! The audit log of tunnels: whom they lead to and what they accept of them, who made it so, and which servers were refused.
//!
//! The events and the file are those of the server's (`crate::observe::audit`), with `tunnel` in the place of `host`.

use std::fmt;

use qtls_core::credentials::Credential;

use super::live::Live;
use super::plan::Route;
use crate::observe::audit::{Cause, Offered, begun, event, leaf, loaded, refusal};
use crate::observe::logs;

/// The tunnels are open: under which version, with which certificate, and where each leads.
pub(super) fn started(live: &Live) {
    if !logs::has_audit_log() {
        return;
    }
    begun(live.generation);
    if let Some(credential) = credential(live) {
        loaded(None, credential, Cause::Start);
    }
    for route in &live.routes {
        event("policy", Cause::Start, "ok", |record| {
            record.text("tunnel", &route.name);
            record.text("policy", Led(route));
        });
    }
}

/// A reload was applied: a certificate that wasn't loaded before, and tunnels that lead elsewhere or accept something else.
pub(super) fn reloaded(cause: Cause, before: &Live, after: &Live) {
    if !logs::has_audit_log() {
        return;
    }
    event("reload", cause, "applied", |record| record.number("generation", after.generation));
    if let Some(credential_now) = credential(after)
        && credential(before).is_none_or(|known| leaf(known) != leaf(credential_now))
    {
        loaded(None, credential_now, cause);
    }
    // A tunnel keeps its place for the life of the process.
    for (before, after) in before.routes.iter().zip(&after.routes) {
        let (text, known_text) = (Led(after).to_string(), Led(before).to_string());
        if text == known_text && before.judgement == after.judgement {
            continue;
        }
        event("policy_changed", cause, "applied", |record| {
            record.text("tunnel", &after.name);
            if text == known_text {
                // Of the trust anchors, the text has but the name of their file.
                record.text("trust", "changed");
            }
            record.text("before", known_text);
            record.text("after", text);
        });
    }
}

/// A server was refused, by policy or since it isn't the one that it should be.
pub(super) fn refused(route: &Route, reason: &'static str, message: &str) {
    refusal(|record| {
        record.text("tunnel", &route.name);
        record.text("server", route.remote.address());
        record.text("server_name", route.remote.server_name.to_str());
        record.text("reason", reason);
        record.text("message", message);
    });
}

/// One for all tunnels.
fn credential(live: &Live) -> Option<&Credential> {
    live.routes.iter().find_map(|route| route.credential.as_ref())
}

/// Where a tunnel leads, and what it accepts there, in words that are others where that is another.
struct Led<'a>(&'a Route);

impl fmt::Display for Led<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remote = &self.0.remote;
        write!(f, "to {}; {}; server ", remote.address(), Offered(&remote.policy))?;
        match &remote.verified_by {
            Some(anchors) => write!(f, "verified as {} under {anchors}", remote.server_name.to_str()),
            None => f.write_str("not verified"),
        }
    }
}
