//! A stricter policy beside the one in force: what it would do to clients that are served (`tls.report`).

use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};

use super::ServerEndpoint;
use crate::client_hello::Offer;
use crate::policy::{Candidate, Policy, Rule, Stricter, refusals};
use crate::verify::ClientVerifier;

/// The policy, and what it is tried with.
#[derive(Debug)]
pub(super) struct Trial {
    policy: Arc<Policy>,
    candidates: Vec<Candidate>,
    client_verifier: Option<ClientVerifier>,
    stricter: Stricter,
}

impl ServerEndpoint {
    /// Tries `policy` on every client. What is in force stays as it is.
    #[must_use]
    pub fn trying(self, policy: Arc<Policy>) -> Self {
        let candidates: Vec<_> = self
            .choices
            .iter()
            .map(|choice| Candidate {
                kind: choice.credential.kind,
                chain: choice.chain_schemes.clone(),
                only_for: choice.only_for.clone(),
            })
            .collect();
        let client_verifier = self.client_verifier.as_ref().map(|verifier| verifier.under(policy.clone()));
        let stricter = Stricter::than(&policy, &self.policy, &candidates, client_verifier.is_some());
        Self { trial: Some(Trial { policy, candidates, client_verifier, stricter }), ..self }
    }

    /// The policy that is tried, if there is one.
    pub fn tried(&self) -> Option<&Policy> {
        self.trial.as_ref().map(|trial| &*trial.policy)
    }

    /// How the policy that is tried differs from the one in force, if there is one.
    pub fn stricter(&self) -> Option<&Stricter> {
        self.trial.as_ref().map(|trial| &trial.stricter)
    }

    /// The rules by which the policy that is tried would refuse a client that offers this. Where nothing is tried, none;
    /// and none where the client is refused by what is in force.
    pub fn would_refuse(&self, offer: &Offer, client: Option<IpAddr>) -> Vec<Rule> {
        let Some(trial) = &self.trial else { return Vec::new() };
        let refused = || !refusals(&self.policy, &self.policy, &trial.candidates, offer, client).is_empty();
        let rules = refusals(&trial.policy, &self.policy, &trial.candidates, offer, client);
        if rules.is_empty() || refused() { Vec::new() } else { rules }
    }

    /// Whether the policy that is tried would refuse the certificate that a client has shown, leaf first, and that has
    /// been verified: empty where it showed none. It would do so by [`Rule::Scheme`].
    pub fn would_refuse_chain(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        let verifier = self.trial.as_ref().and_then(|trial| trial.client_verifier.as_ref());
        verifier.is_some_and(|verifier| verifier.recheck(chain, now).is_err())
    }

    /// What an operator should hear of the policy that is tried, a sentence each.
    pub fn about_trial(&self) -> Vec<String> {
        let Some(Trial { stricter, client_verifier, .. }) = &self.trial else { return Vec::new() };
        let mut sentences = Vec::new();
        if !stricter.is_stricter() {
            sentences.push(
                "tls.report would refuse nobody: what is in force is as strict, for the certificates that are here; \
                 remove it, or make it stricter"
                    .to_owned(),
            );
        }
        if stricter.without_certificate {
            sentences.push(
                "tls.report would refuse everybody, by the rule scheme: none of the certificates that are here fits it; \
                 get one that does before it is put in force, and until then look at the other rules"
                    .to_owned(),
            );
        }
        if client_verifier.as_ref().is_some_and(|verifier| !verifier.lets_anyone_in()) {
            sentences.push(
                "tls.report would refuse everybody, by the rule scheme: clients have to show a certificate, and none of \
                 the trust anchors in certificates.ca_bundle has a key that it allows"
                    .to_owned(),
            );
        }
        sentences
    }
}
