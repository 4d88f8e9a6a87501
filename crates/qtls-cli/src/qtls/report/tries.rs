//! The policies that are tried on a log, and what they would do to one client.

use std::net::IpAddr;
use std::path::Path;

use qtls_core::client_hello::Offer;
use qtls_core::credentials::KeyKind;
use qtls_core::policy::{Candidate, Group, GroupPreference, Policy, Rule, refusals};
use qtls_core::{Error, Result};
use qtls_proxy::config::{Loaded, Profile, Report, ServerConfig};
use qtls_proxy::policies::Configured;

/// What can be tried by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Known {
    /// Post-quantum key exchange only: `tls.pqc_only`
    #[value(name = "pqc_only")]
    PqcOnly,
    /// The profile of CNSA 2.0: `tls.profile`
    #[value(name = "cnsa2")]
    Cnsa2,
    /// No RSA certificates: `algorithms.signature` without them
    #[value(name = "without-rsa")]
    WithoutRsa,
}

impl Known {
    pub(super) const ALL: [Self; 3] = [Self::PqcOnly, Self::Cnsa2, Self::WithoutRsa];

    const fn name(self) -> &'static str {
        match self {
            Self::PqcOnly => "pqc_only",
            Self::Cnsa2 => "cnsa2",
            Self::WithoutRsa => "without-rsa",
        }
    }

    fn policy(self, configured: &Configured<'_>, host: usize) -> Result<Policy> {
        let report = match self {
            Self::PqcOnly => Report { pqc_only: Some(true), ..Report::default() },
            Self::Cnsa2 => Report { profile: Some(Profile::Cnsa2), ..Report::default() },
            Self::WithoutRsa => {
                let mut policy = configured.in_force(host)?;
                policy.signatures.retain(|kind| !matches!(kind.kind(), KeyKind::Rsa(_)));
                return Ok(policy);
            }
        };
        configured.with(host, report).map_err(|error| {
            let tried = Error::configuration(format!("{} can't be tried here: {}", self.name(), error.message()));
            let tried = error.place().map_or(tried.clone(), |place| tried.at(place));
            tried.hint("choose what is tried with --try")
        })
    }
}

/// What is in force, and everything that is tried.
pub(super) struct Tries<'a> {
    in_force: Configured<'a>,
    /// By the index of the host.
    policies: Vec<Policy>,
    certificates: Vec<Vec<Candidate>>,
    tries: Vec<Try<'a>>,
}

/// One policy that is tried, for every name.
struct Try<'a> {
    name: String,
    /// Whose hosts the policies are of; `None` for those of the configuration in force.
    configured: Option<Configured<'a>>,
    /// By the index of the host; `None` where that host tries nothing.
    policies: Vec<Option<Policy>>,
    certificates: Option<Vec<Vec<Candidate>>>,
}

impl<'a> Tries<'a> {
    /// Tries `known` on what `in_force` says, and its `tls.report` if it has one and is a file's (`told`).
    ///
    /// Says what it had to assume in `notes`.
    pub(super) fn new(
        in_force: &'a Loaded<ServerConfig>,
        told: Option<&Path>,
        known: &[Known],
        notes: &mut Vec<String>,
    ) -> Result<Self> {
        let configured = Configured::new(in_force);
        let hosts = 0..configured.count();
        let policies = hosts.clone().map(|host| configured.in_force(host)).collect::<Result<Vec<_>>>()?;
        let certificates = match told {
            Some(path) => certificates(&configured, path, notes),
            None => {
                notes.push(
                    "without --config: the default policy is taken to be in force, and the server to have a \
                     certificate of every kind"
                        .to_owned(),
                );
                None
            }
        };
        let certificates = certificates.unwrap_or_else(|| hosts.clone().map(|_| Candidate::one_of_each()).collect());
        let mut tries = Vec::new();
        for known in known {
            let policies = hosts.clone().map(|host| known.policy(&configured, host).map(Some));
            tries.push(Try {
                name: known.name().to_owned(),
                configured: None,
                policies: policies.collect::<Result<_>>()?,
                certificates: None,
            });
        }
        let reports = hosts.map(|host| configured.tried(host)).collect::<Result<Vec<_>>>()?;
        if reports.iter().any(Option::is_some) {
            tries.push(Try { name: "tls.report".to_owned(), configured: None, policies: reports, certificates: None });
        }
        Ok(Self { in_force: configured, policies, certificates, tries })
    }

    /// Tries what another configuration says.
    pub(super) fn add(&mut self, path: &Path, other: &'a Loaded<ServerConfig>, notes: &mut Vec<String>) -> Result<()> {
        let configured = Configured::new(other);
        let hosts = 0..configured.count();
        let policies = hosts.clone().map(|host| configured.in_force(host).map(Some)).collect::<Result<Vec<_>>>()?;
        let certificates = certificates(&configured, path, notes);
        self.tries.push(Try {
            name: path.display().to_string(),
            configured: Some(configured),
            policies,
            certificates: Some(certificates.unwrap_or_else(|| hosts.map(|_| Candidate::one_of_each()).collect())),
        });
        Ok(())
    }

    /// The names of what is tried.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tries.iter().map(|tried| tried.name.as_str())
    }

    /// Whether a client with this offer could get this group from what is taken to be in force.
    pub(super) fn explains(&self, offer: &Offer, server_name: Option<&str>, group: &str) -> bool {
        let policy = &self.policies[self.in_force.host_of(server_name, &offer.alpn)];
        let Some(group) = policy.groups.iter().find(|ours| ours.iana_name() == group) else { return false };
        let mutual = |ours: &Group| ours.is_post_quantum() && offer.groups.contains(&ours.code_point());
        group.is_post_quantum()
            || policy.group_preference != GroupPreference::PostQuantum
            || !policy.groups.iter().any(mutual)
    }

    /// Whether some certificate is kept to networks, so that the address of a client decides about it.
    pub(super) fn ask_for_the_address(&self) -> bool {
        let others = self.tries.iter().filter_map(|tried| tried.certificates.as_ref());
        let mut all = others.chain([&self.certificates]).flatten().flatten();
        all.any(|one| one.only_for.as_ref().is_some_and(|only_for| !only_for.networks.is_empty()))
    }

    /// The rules by which what is tried, in the order of [`names`](Self::names), would refuse a client that is served,
    /// with the policy and the certificates that it is held to.
    pub(super) fn judge<'s>(
        &'s self,
        offer: &Offer,
        server_name: Option<&str>,
        client: IpAddr,
    ) -> Vec<(Vec<Rule>, &'s Policy, &'s [Candidate])> {
        let host = self.in_force.host_of(server_name, &offer.alpn);
        let in_force = &self.policies[host];
        self.tries
            .iter()
            .map(|tried| {
                let host =
                    tried.configured.as_ref().map_or(host, |configured| configured.host_of(server_name, &offer.alpn));
                let certificates = &tried.certificates.as_ref().unwrap_or(&self.certificates)[host];
                match &tried.policies[host] {
                    None => (Vec::new(), in_force, &certificates[..]),
                    Some(policy) => {
                        (refusals(policy, in_force, certificates, offer, Some(client)), policy, &certificates[..])
                    }
                }
            })
            .collect()
    }
}

fn certificates(configured: &Configured<'_>, path: &Path, notes: &mut Vec<String>) -> Option<Vec<Vec<Candidate>>> {
    let read = (0..configured.count()).map(|host| configured.certificates(host)).collect::<Result<Vec<_>>>();
    read.map_err(|error| {
        notes.push(format!(
            "the certificates of {} can't be read here, and the server is taken to have one of every kind: {}",
            path.display(),
            error.one_line()
        ));
    })
    .ok()
}
