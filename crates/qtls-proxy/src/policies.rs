//! From a configuration to policies: the one in force, and the stricter one that is tried (`tls.report`).

use std::path::Path;

use qtls_core::client_hello::Alpn;
use qtls_core::credentials::{self, Source, files};
use qtls_core::endpoint::OnlyFor;
use qtls_core::policy::{self, Candidate, Policy, PolicyChoice};
use qtls_core::{Error, Result};

use crate::config::{
    Algorithms, GroupPreference, Loaded, Origins, Profile, Report, ServerCertificates, ServerConfig, ServerTls,
    UpstreamTls,
};
use crate::hosts::{Names, Reach};
use crate::plan::{algorithm_names, located_under};

/// The key of the policy that is tried.
pub const REPORT: &str = "tls.report";
/// The key of TLS to the servers behind.
pub const UPSTREAM_TLS: &str = "upstream.tls";

/// The policy of one host, whose part of the configuration begins with `prefix`: `virtual_hosts[0].`, or nothing.
///
/// # Errors
/// As of [`Policy::resolve`], with the place.
pub fn in_force(origins: &Origins, prefix: &str, tls: &ServerTls, algorithms: &Algorithms) -> Result<Policy> {
    Policy::resolve(&choice(tls, algorithms)).map_err(|error| located_under(origins, prefix, error))
}

/// The policy that one host tries, if it tries one.
///
/// What `tls.report` leaves out is as in force. A profile is a whole, here as for a virtual host: with a profile of its
/// own, `hybrid_mode`, `pqc_only` and the lists are that profile's, unless `tls.report` itself has them.
///
/// # Errors
/// As of [`Policy::resolve`], with the place: that of the key in `tls.report`, or `tls.report` itself where it
/// contradicts something that is in force.
pub fn tried(origins: &Origins, prefix: &str, tls: &ServerTls, algorithms: &Algorithms) -> Result<Option<Policy>> {
    let Some(report) = &tls.report else { return Ok(None) };
    let Report { profile, hybrid_mode, pqc_only, algorithms: own } = report;
    let wanted = laid_over(choice(tls, algorithms), *profile, *hybrid_mode, *pqc_only, algorithm_names(own));
    Policy::resolve(&wanted)
        .map(Some)
        .map_err(|error| of_section(origins, prefix, REPORT, "together with what is in force", error))
}

/// The policy for the upstream of one host, with `prefix` as in [`in_force`].
///
/// What `upstream.tls` leaves out is as the host has it; with a profile of its own, as that profile has it.
///
/// # Errors
/// As of [`Policy::resolve`], with the place: that of the key in `upstream.tls`, or `upstream.tls` itself where it
/// contradicts something that the host has.
pub fn of_upstream(
    origins: &Origins,
    prefix: &str,
    upstream: &UpstreamTls,
    tls: &ServerTls,
    algorithms: &Algorithms,
) -> Result<Policy> {
    let UpstreamTls { profile, hybrid_mode, pqc_only, algorithms: own, .. } = upstream;
    // Whose order counts is the server's decision.
    let host = PolicyChoice { group_preference: policy::GroupPreference::default(), ..choice(tls, algorithms) };
    let wanted = laid_over(host, *profile, *hybrid_mode, *pqc_only, algorithm_names(own));
    Policy::resolve(&wanted).map_err(|error| of_section(origins, prefix, UPSTREAM_TLS, "as the host has it", error))
}

/// What is said, over what is not.
fn laid_over(
    base: PolicyChoice,
    profile: Option<Profile>,
    hybrid_mode: Option<bool>,
    pqc_only: Option<bool>,
    own: policy::AlgorithmNames,
) -> PolicyChoice {
    match profile {
        Some(profile) => PolicyChoice { profile: profile.into(), hybrid_mode, pqc_only, names: own, ..base },
        None => PolicyChoice {
            hybrid_mode: hybrid_mode.or(base.hybrid_mode),
            pqc_only: pqc_only.or(base.pqc_only),
            names: policy::AlgorithmNames {
                kem: own.kem.or(base.names.kem),
                signature: own.signature.or(base.names.signature),
                signature_chain: own.signature_chain.or(base.names.signature_chain),
                cipher: own.cipher.or(base.names.cipher),
            },
            ..base
        },
    }
}

/// What a configuration says for each of its hosts, without anything being served.
#[derive(Debug)]
pub struct Configured<'a> {
    loaded: &'a Loaded<ServerConfig>,
    names: Names,
}

impl<'a> Configured<'a> {
    /// Of this configuration.
    pub fn new(loaded: &'a Loaded<ServerConfig>) -> Self {
        let mut names = Names::default();
        for (index, host) in loaded.value.virtual_hosts.iter().enumerate() {
            names.add(&Reach::of(host), index + 1);
        }
        Self { loaded, names }
    }

    /// How many hosts there are. The first is the one at the top.
    pub fn count(&self) -> usize {
        1 + self.loaded.value.virtual_hosts.len()
    }

    /// The index of the host that a name belongs to, for clients that offer these protocols.
    pub fn host_of(&self, server_name: Option<&str>, alpn: &Alpn) -> usize {
        self.names.host_of(server_name, alpn)
    }

    /// The policy of a host.
    ///
    /// # Errors
    /// As of [`in_force`].
    pub fn in_force(&self, host: usize) -> Result<Policy> {
        let (prefix, tls, algorithms, _) = self.section(host);
        in_force(&self.loaded.origins, &prefix, tls, algorithms)
    }

    /// The policy that a host tries, if it tries one.
    ///
    /// # Errors
    /// As of [`tried`].
    pub fn tried(&self, host: usize) -> Result<Option<Policy>> {
        let (prefix, tls, algorithms, _) = self.section(host);
        tried(&self.loaded.origins, &prefix, tls, algorithms)
    }

    /// The policy that a host would try if this were its `tls.report`.
    ///
    /// # Errors
    /// As of [`tried`].
    pub fn with(&self, host: usize, report: Report) -> Result<Policy> {
        let (prefix, tls, algorithms, _) = self.section(host);
        let tls = ServerTls { report: Some(report), ..tls.clone() };
        let policy = tried(&self.loaded.origins, &prefix, &tls, algorithms)?;
        policy.ok_or_else(|| Error::internal("a report that tries nothing"))
    }

    /// The certificates of a host, from its chains alone: their keys are not read.
    ///
    /// # Errors
    /// A chain can't be read.
    pub fn certificates(&self, host: usize) -> Result<Vec<Candidate>> {
        let (_, _, _, certificates) = self.section(host);
        let read = |path: &Path, only_for| {
            let path = files::resolve(path);
            let origin = path.display().to_string();
            let bytes = files::read(&path)?;
            let chain = credentials::certificates(Source { origin: &origin, bytes: &bytes })?;
            Candidate::of_chain(&chain, only_for).map_err(|error| error.at(&origin))
        };
        let additional = certificates.additional.iter().map(|one| {
            let only_for = one.only_for.as_ref().map(|only_for| OnlyFor {
                names: only_for.names.iter().map(|name| name.as_str().to_owned()).collect(),
                networks: only_for.networks.clone(),
            });
            read(&one.cert, only_for)
        });
        std::iter::once(read(&certificates.server_cert, None)).chain(additional).collect()
    }

    fn section(&self, host: usize) -> (String, &ServerTls, &Algorithms, &ServerCertificates) {
        let config = &self.loaded.value;
        match host.checked_sub(1).and_then(|index| Some((index, config.virtual_hosts.get(index)?))) {
            None => (String::new(), &config.tls, &config.algorithms, &config.certificates),
            Some((index, host)) => {
                (format!("virtual_hosts[{index}]."), &host.tls, &host.algorithms, &host.certificates)
            }
        }
    }
}

fn choice(tls: &ServerTls, algorithms: &Algorithms) -> PolicyChoice {
    PolicyChoice {
        profile: tls.profile.into(),
        hybrid_mode: tls.hybrid_mode,
        pqc_only: tls.pqc_only,
        group_preference: match tls.group_preference {
            GroupPreference::PostQuantum => policy::GroupPreference::PostQuantum,
            GroupPreference::Strict => policy::GroupPreference::Strict,
            GroupPreference::Client => policy::GroupPreference::Client,
        },
        names: algorithm_names(algorithms),
    }
}

/// An error of a policy that a section of its own lays over that of the host: about the key in that section if that has set
/// it, else about the whole.
fn of_section(origins: &Origins, prefix: &str, section: &str, together: &str, error: Error) -> Error {
    let section = format!("{prefix}{section}");
    let Some(key) = error.key_path().map(str::to_owned) else { return origins.locate(&section, error) };
    let own = format!("{section}.{}", key.strip_prefix("tls.").unwrap_or(&key));
    if origins.is_set(&own) {
        return origins.locate(&own, error.rekeyed(&own));
    }
    let told = origins.error(&section, format!("{together}, {key}: {}", error.message()));
    match error.hint_text() {
        Some(hint) => told.hint(hint),
        None => told,
    }
}
