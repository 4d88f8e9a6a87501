//! What a client would get, from its ClientHello alone: the same decision as a handshake's, without a connection.

use std::cell::Cell;
use std::net::IpAddr;

use qtls_core::client_hello::Offer;
use qtls_core::policy::{Group, scheme_name, suite_name};
use qtls_core::{Error, Result};
use rustls::server::Acceptor;
use serde::Serialize;

use crate::plan::Plan;

/// What a client would get, and why. The fields are the keys of the JSON output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The name that the client asks for.
    pub server_name: Option<String>,
    /// The virtual host that this is, by the index in the configuration; `None` is the server at the top.
    pub virtual_host: Option<usize>,
    /// The profile of its policy.
    pub profile: String,
    /// The groups that the client offers, by name.
    pub offered_groups: Vec<String>,
    /// The groups that it sends key shares for.
    pub shared_groups: Vec<String>,
    /// The signature schemes that it offers.
    pub offered_schemes: Vec<String>,
    /// The cipher suites of TLS 1.3 that it offers.
    pub offered_suites: Vec<String>,
    /// The group it would get; `None` is a refusal.
    pub group: Option<String>,
    /// Whether that group withstands a quantum computer.
    pub post_quantum: bool,
    /// Whether it takes a HelloRetryRequest.
    pub hello_retry_request: bool,
    /// The certificate it would get.
    pub certificate: String,
    /// What that would sign with; `None` is a refusal.
    pub scheme: Option<String>,
    /// Why it is this certificate.
    pub reason: String,
    /// The cipher suite it would get; `None` is a refusal.
    pub suite: Option<String>,
    /// The rules by which `tls.report` would refuse it although it is served; `None` where nothing is tried.
    pub report: Option<Vec<String>>,
}

/// Explains what `plan` would do for a ClientHello, coming from `client` if that is known, and asking for `server_name`
/// instead of the name in it if that is given.
///
/// `hello` is what the client sends first, as TLS records, or the handshake message alone.
///
/// # Errors
/// These bytes are no ClientHello.
pub fn explain(plan: &Plan, hello: &[u8], server_name: Option<&str>, client: Option<IpAddr>) -> Result<Explanation> {
    let mut offer = offer_of(hello)?;
    if let Some(name) = server_name {
        offer.server_name = Some(name.to_owned());
    }
    let reached = Cell::new(0);
    let decision = plan.hosts.decide(&offer, client, &reached);
    let endpoint = &plan.hosts.host(reached.get()).endpoint;
    let policy = endpoint.policy();
    let name = |code_point: &u16| qtls_core::policy::group_name(*code_point);
    Ok(Explanation {
        server_name: offer.server_name.clone(),
        virtual_host: reached.get().checked_sub(1),
        profile: policy.profile.to_string(),
        offered_groups: offer.groups.iter().map(name).collect(),
        shared_groups: offer.shares.iter().map(name).collect(),
        offered_schemes: offer.schemes.iter().map(|scheme| scheme_name(*scheme)).collect(),
        offered_suites: offer.suites.iter().filter_map(|suite| suite_name(*suite)).collect(),
        group: decision.group.map(|decided| decided.group.iana_name().to_owned()),
        post_quantum: decision.group.is_some_and(|decided| Group::is_post_quantum(decided.group)),
        hello_retry_request: decision.group.is_some_and(|decided| decided.retry),
        certificate: decision.credential.name.clone(),
        scheme: decision.scheme.map(scheme_name),
        reason: decision.reason.to_string(),
        suite: policy
            .suites
            .iter()
            .find(|suite| offer.suites.contains(&suite.code_point()))
            .map(|suite| suite.iana_name().to_owned()),
        report: endpoint
            .tried()
            .map(|_| endpoint.would_refuse(&offer, client).iter().map(|rule| rule.name().to_owned()).collect()),
    })
}

/// Reads what a ClientHello offers; `hello` is as for [`explain`].
///
/// # Errors
/// These bytes are no ClientHello.
pub fn offer_of(hello: &[u8]) -> Result<Offer> {
    let records = match hello.first() {
        // A bare handshake message.
        Some(1) => hello
            .chunks(0x4000)
            .flat_map(|fragment| {
                let length = u16::try_from(fragment.len()).unwrap_or_default().to_be_bytes();
                [&[22, 3, 1], &length[..], fragment].concat()
            })
            .collect(),
        _ => hello.to_vec(),
    };
    let mut acceptor = Acceptor::default();
    let mut unread = &records[..];
    let accepted = loop {
        let taken = acceptor.read_tls(&mut unread).unwrap_or_default();
        match acceptor.accept() {
            Ok(Some(accepted)) => break accepted,
            Ok(None) if taken > 0 && !unread.is_empty() => {}
            Ok(None) => {
                return Err(Error::configuration("the ClientHello is incomplete")
                    .hint("capture the client's whole first flight, beginning with its first byte"));
            }
            Err((error, _)) => {
                return Err(Error::configuration(format!("this is no ClientHello: {error}"))
                    .hint("give what the client sends first, in binary: TLS records, or the handshake message alone"));
            }
        }
    };
    Ok(Offer::new(&accepted.client_hello(), &records))
}
