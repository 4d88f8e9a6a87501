//! From a configuration to the client's side of a handshake: what qtls-client, its tunnels and upstreams over TLS share.

use std::sync::Arc;
use std::time::SystemTime;

use qtls_core::credentials::{Credential, files};
use qtls_core::endpoint::{Binding, ServerTrust, Signing, client_config};
use qtls_core::policy::{Policy, PolicyChoice};
use qtls_core::verify::{SpkiHash, TrustAnchors};
use qtls_core::{Error, Result};

use crate::client_sessions::ClientSessions;
use crate::config::{ClientCertificates, ClientConfig, Origins};
use crate::plan::{CredentialFiles, algorithm_names, located, with_revocation};
use crate::signing::SigningPool;

/// What [`ClientSide::verified_by`] says of the operating system's trust anchors.
pub const SYSTEM: &str = "the system's trust anchors";

/// As many as rustls keeps.
const SESSIONS: usize = 256;
/// How many signatures of one slow key are made at the same time at most.
const SIGNING_THREADS: usize = 4;

/// What the client's side of a handshake is made from.
#[derive(Debug)]
pub struct ClientSections<'a> {
    /// What stands before `ca_bundle` and the like in the configuration: `certificates.`, or `upstream.tls.`.
    pub prefix: String,
    /// The client's own certificate, and the trust anchors.
    pub certificates: &'a ClientCertificates,
    /// How many intermediates may stand between the server's certificate and a trust anchor.
    pub verify_depth: Option<usize>,
    /// Whether the server is verified. Without it, anyone can pretend to be the server.
    pub verify_peer: bool,
    /// Whether the server's name is sent.
    pub server_name_indication: bool,
}

/// The client's side of handshakes, ready for them.
#[derive(Clone, Debug)]
pub struct ClientSide {
    /// What is offered and accepted.
    pub policy: Arc<Policy>,
    /// What rustls takes.
    pub tls: Arc<rustls::ClientConfig>,
    /// The sessions that it resumes.
    pub sessions: Arc<ClientSessions>,
    /// What the server is verified against; `None` where it isn't.
    pub verified_by: Option<String>,
    /// The certificate that the server gets if it asks for one.
    pub credential: Option<Credential>,
    /// What sessions and connections were judged by, and shown: they are of use only to one with the same.
    pub binding: Binding,
    /// What of that is about the server alone, whatever it is shown.
    pub judgement: Binding,
    /// Where its own key signs, if that takes long enough to hold others up.
    pub signing: Option<Arc<SigningPool>>,
    /// What the operator should know, a sentence each.
    pub warnings: Vec<String>,
    /// That its own certificate has expired, or is not valid yet: no reason not to start, but servers refuse it.
    pub problem: Option<Error>,
}

impl ClientSide {
    /// Reads the files that the sections name, and joins them with `policy`. `alpn` has the most preferred first.
    ///
    /// # Errors
    /// The first thing that is wrong, with file, line and key.
    pub fn new(
        origins: &Origins,
        sections: &ClientSections<'_>,
        policy: Arc<Policy>,
        alpn: Vec<Vec<u8>>,
    ) -> Result<Self> {
        let mut warnings = Vec::new();
        let (trust, verified_by) = trust(origins, sections, &policy, &mut warnings)?;
        let credential = credential(origins, sections)?;
        let cert = sections.key("client_cert");
        let problem = credential.as_ref().and_then(|credential| {
            let validity = credential.validity(SystemTime::now());
            (!validity.is_valid()).then(|| {
                let message = format!("the client certificate {} is {validity}: servers refuse it", credential.origin);
                origins.locate(&cert, Error::certificate(message)).hint("renew it, and check this host's clock")
            })
        });
        let binding = Binding::of_client(&policy, &trust, credential.as_ref(), sections.server_name_indication, &alpn);
        let judgement = Binding::of_client(&policy, &trust, None, sections.server_name_indication, &alpn);
        let tls = client_config(&policy, trust, credential.as_ref(), sections.server_name_indication, alpn)
            .map_err(|error| origins.locate(&cert, error.nested()))?;
        let (mut tls, sessions) = (Arc::unwrap_or_clone(tls), ClientSessions::new(SESSIONS));
        tls.resumption = sessions.resumption();
        let tls = Arc::new(tls);
        let slow = credential.as_ref().is_some_and(|credential| Signing::of(credential.kind) == Signing::OffWorker);
        let signing = slow
            .then(|| SigningPool::new(SIGNING_THREADS))
            .transpose()
            .map_err(|error| Error::internal(format!("there are no threads for signatures: {error}")))?
            .map(Arc::new);
        Ok(Self { sessions, signing, policy, tls, verified_by, credential, binding, judgement, warnings, problem })
    }

    /// As `client.json` has it.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub fn of_client(config: &ClientConfig, origins: &Origins, alpn: Vec<Vec<u8>>) -> Result<Self> {
        // Whose order counts is the server's decision.
        let policy = Policy::resolve(&PolicyChoice {
            profile: config.tls.profile.into(),
            hybrid_mode: config.tls.hybrid_mode,
            pqc_only: config.tls.pqc_only,
            names: algorithm_names(&config.algorithms),
            ..PolicyChoice::default()
        })
        .map_err(|error| located(origins, error))?;
        let sections = ClientSections {
            prefix: "certificates.".to_owned(),
            certificates: &config.certificates,
            verify_depth: None,
            verify_peer: config.tls.verify_peer,
            server_name_indication: config.tls.server_name_indication,
        };
        let mut side = Self::new(origins, &sections, Arc::new(policy), alpn)?;
        side.warnings.splice(..0, about_offering(&side.policy));
        Ok(side)
    }
}

/// What a policy has to say to those who connect: what it says of browsers is for servers.
pub fn about_offering(policy: &Policy) -> Vec<String> {
    policy.notes.iter().filter(|note| !note.contains("browsers")).cloned().collect()
}

impl ClientSections<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }
}

fn trust(
    origins: &Origins,
    sections: &ClientSections<'_>,
    policy: &Arc<Policy>,
    warnings: &mut Vec<String>,
) -> Result<(ServerTrust, Option<String>)> {
    if !sections.verify_peer {
        return Ok((ServerTrust::DangerousAnyone, None));
    }
    let key = sections.key("ca_bundle");
    let certificates = sections.certificates;
    let (roots, from) = match &certificates.ca_bundle {
        Some(bundle) => {
            let roots = files::roots(bundle).map_err(|error| origins.locate(&key, error.nested()))?;
            (roots, files::resolve(bundle).display().to_string())
        }
        None => (files::system_roots().map_err(|error| error.key(&key))?, SYSTEM.to_owned()),
    };
    let anchors = TrustAnchors::new(roots, sections.verify_depth, policy.clone())
        .map_err(|error| origins.locate(&key, error.at(&from).nested()))?;
    let anchors = with_revocation(origins, &sections.key("crl"), anchors, certificates.crl.as_ref(), warnings)?;
    let pins = certificates.pins.iter().enumerate().map(|(index, pin)| {
        SpkiHash::parse(pin).map_err(|error| origins.locate(&sections.key(&format!("pins[{index}]")), error))
    });
    let anchors = anchors.with_pins(pins.collect::<Result<Vec<_>>>()?);
    Ok((ServerTrust::Anchors(anchors), Some(from)))
}

fn credential(origins: &Origins, sections: &ClientSections<'_>) -> Result<Option<Credential>> {
    let certificates = sections.certificates;
    match (&certificates.client_cert, &certificates.client_key) {
        (Some(cert), Some(key)) => CredentialFiles {
            cert: (&sections.key("client_cert"), cert),
            key: (&sections.key("client_key"), key),
            passphrase: (&sections.key("client_key_passphrase"), certificates.client_key_passphrase.as_ref()),
            passphrase_file: (
                &sections.key("client_key_passphrase_file"),
                certificates.client_key_passphrase_file.as_deref(),
            ),
        }
        .read(origins)
        .map(Some),
        // That one of them is missing has been refused when the configuration was read.
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use qtls_core::policy::AlgorithmNames;

    use super::*;

    #[test]
    fn the_notes_of_a_policy_that_clients_see_are_not_about_browsers() {
        let names = AlgorithmNames {
            kem: Some(vec!["kyber1024".to_owned(), "ecdhe-p384".to_owned()]),
            ..AlgorithmNames::default()
        };
        let policy = Policy::resolve(&PolicyChoice { names, ..PolicyChoice::default() }).unwrap();
        let kept = about_offering(&policy);
        assert_eq!((policy.notes.len(), kept.len()), (2, 1), "{:?}", policy.notes);
        assert!(kept[0].contains("kyber1024"), "{kept:?}");
    }
}
