//! What the policy that is tried (`tls.report`) would do to each client that is served: counted and logged, and nothing
//! else.

use std::net::{IpAddr, SocketAddr};

use qtls_core::client_hello::Offer;
use qtls_core::facts::Facts;
use qtls_core::policy::{Rule, group_name, is_grease, scheme_name, suite_name};
use rustls::pki_types::UnixTime;
use tracing::info;

use crate::hosts::Host;
use crate::observe::metrics::Metrics;
use crate::observe::repeats;

/// What is kept of a ClientHello until its handshake is complete: a client that doesn't get that far breaks already.
#[derive(Debug)]
pub(crate) struct Trial {
    offer: Offer,
    rules: Vec<Rule>,
}

impl Trial {
    /// Judges what a client offers; `None` where nothing is tried.
    pub(crate) fn of(host: &Host, offer: &Offer, client: IpAddr) -> Option<Self> {
        host.endpoint.tried()?;
        Some(Self { offer: offer.clone(), rules: host.endpoint.would_refuse(offer, Some(client)) })
    }

    /// Counts and logs the client, whose handshake is complete, if it would be refused.
    pub(crate) fn conclude(self, host: &Host, facts: &Facts, client: SocketAddr, metrics: &Metrics) {
        let Self { offer, mut rules } = self;
        if !rules.contains(&Rule::Scheme) && host.endpoint.would_refuse_chain(&facts.peer_chain, UnixTime::now()) {
            rules.push(Rule::Scheme);
            rules.sort();
        }
        if rules.is_empty() {
            return;
        }
        for rule in &rules {
            metrics.report_refusal(*rule);
        }
        let listed_rules = listed(rules.iter().map(|rule| rule.name().to_owned()));
        // A client that comes again and again says nothing new; it is counted all the same.
        if !repeats::admit(WOULD_REFUSE, format!("{} by {listed_rules}", client.ip())) {
            return;
        }
        info!(
            client = %client,
            server_name = facts.server_name.as_deref().unwrap_or("none"),
            rules = listed_rules,
            group = facts.group_name(),
            scheme = facts.scheme_name(),
            suite = facts.suite_name(),
            offered_groups = listed(real(&offer.groups).map(group_name)),
            offered_schemes = listed(offer.schemes.iter().map(|scheme| scheme_name(*scheme))),
            offered_suites = listed(offer.suites.iter().filter_map(|suite| suite_name(*suite))),
            "{WOULD_REFUSE}"
        );
    }
}

const WOULD_REFUSE: &str = "tls.report would refuse this client";

fn real(code_points: &[u16]) -> impl Iterator<Item = u16> {
    code_points.iter().copied().filter(|code_point| !is_grease(*code_point))
}

fn listed(names: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(",") }
}
