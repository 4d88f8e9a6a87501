//! What the server is at this moment, as far as metrics and dashboard show it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qtls_core::credentials::Credential;

use crate::hosts::Target;
use crate::live::Live;
use crate::shutdown::Phase;
use crate::upstream::State;

/// The state of a server at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The number of the configuration in force.
    pub generation: u64,
    /// Whether new connections are taken.
    pub ready: bool,
    /// The phase of its life.
    pub phase: &'static str,
    /// The certificates that are served.
    pub certificates: Vec<Certificate>,
    /// The servers behind, each once.
    pub upstreams: Vec<UpstreamServer>,
}

/// A certificate that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// Its name in logs and metrics.
    pub name: String,
    /// Algorithm and strength of its key.
    pub kind: String,
    /// Whether that is post-quantum.
    pub post_quantum: bool,
    /// The names that it is for.
    pub names: Vec<String>,
    /// Where it came from.
    pub origin: String,
    /// When the first certificate of its chain expires.
    pub not_after: SystemTime,
    /// Whether every certificate of its chain is valid now.
    pub valid: bool,
}

/// A server behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamServer {
    /// As configured: `host:port`, or `unix:/path`.
    pub name: String,
    /// Whether it is in use.
    pub up: bool,
    /// How long it is kept out of use yet, whatever it does.
    pub held: Duration,
}

impl View {
    pub(crate) fn of(live: &Live, phase: Phase) -> Self {
        let now = SystemTime::now();
        let mut certificates = Vec::new();
        for credential in live.hosts.credentials() {
            let certificate = Certificate::of(credential, now);
            // What virtual hosts have from the top is one certificate.
            if !certificates.contains(&certificate) {
                certificates.push(certificate);
            }
        }
        let mut upstreams = BTreeMap::new();
        for host in live.hosts.iter() {
            let (Target::Http(upstream) | Target::Tcp(upstream)) = &host.target else { continue };
            for (name, state) in upstream.states() {
                // Of several upstreams with one server, it is enough that it is out of use in one.
                let (up, held) = upstreams.entry(name.to_owned()).or_insert((true, Duration::ZERO));
                match state {
                    State::Up => {}
                    State::Held(left) | State::Down(left) => (*up, *held) = (false, left.max(*held)),
                }
            }
        }
        Self {
            generation: live.generation,
            ready: phase == Phase::Running,
            phase: phase.name(),
            certificates,
            upstreams: upstreams.into_iter().map(|(name, (up, held))| UpstreamServer { name, up, held }).collect(),
        }
    }
}

impl Certificate {
    /// A certificate at this moment.
    pub(crate) fn now(credential: &Credential) -> Self {
        Self::of(credential, SystemTime::now())
    }

    /// When the first certificate of its chain expires, as Unix time in seconds.
    pub fn expires(&self) -> i64 {
        match self.not_after.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
        }
    }

    fn of(credential: &Credential, now: SystemTime) -> Self {
        let addresses = credential.ip_addresses.iter().map(ToString::to_string);
        Self {
            name: credential.name.clone(),
            kind: credential.kind.name(),
            post_quantum: credential.kind.is_post_quantum(),
            names: credential.dns_names.iter().cloned().chain(addresses).collect(),
            origin: credential.origin.clone(),
            not_after: credential.chain_not_after(),
            valid: credential.validity(now).is_valid(),
        }
    }
}
