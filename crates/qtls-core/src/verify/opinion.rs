//! Somebody else's word on a peer, for programs that have a trust of their own.

use std::fmt;

use rustls::Error;
use rustls::pki_types::{CertificateDer, ServerName};

/// What a peer has shown.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Its own certificate.
    pub leaf: &'a CertificateDer<'a>,
    /// What it sent besides, in its order.
    pub intermediates: &'a [CertificateDer<'a>],
    /// The name that was asked for; `None` on servers.
    pub server_name: Option<&'a ServerName<'a>>,
}

/// Is asked about every peer that shows a certificate, and knows the verdict of everything here: path, names, revocation,
/// pins, the list of allowed clients.
pub trait SecondOpinion: fmt::Debug + Send + Sync {
    /// What counts in the end.
    ///
    /// # Errors
    /// The peer is refused. Whoever answers with `Ok` where `verdict` is an error lets in somebody whom nobody else has
    /// vouched for.
    fn judge(&self, shown: &Shown<'_>, verdict: Result<(), Error>) -> Result<(), Error>;
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use rustls::CertificateError;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::UnixTime;
    use rustls::server::danger::ClientCertVerifier;

    use super::*;
    use crate::credentials::{generate, signing_key, test_chain};
    use crate::policy::{KeyAlgorithm, Policy};
    use crate::verify::{ClientVerifier, ServerVerifier, TrustAnchors};

    type Verdict = Result<(), Error>;

    /// Notes what it is told, and answers with what it was given, or with the verdict.
    #[derive(Debug, Default)]
    struct Told {
        answer: Option<Verdict>,
        /// The length of the chain, the name, the verdict.
        heard: Mutex<Vec<(usize, Option<String>, Verdict)>>,
    }

    impl SecondOpinion for Told {
        fn judge(&self, shown: &Shown<'_>, verdict: Verdict) -> Verdict {
            let name = shown.server_name.map(|name| name.to_str().into_owned());
            self.heard.lock().unwrap().push((1 + shown.intermediates.len(), name, verdict.clone()));
            self.answer.clone().unwrap_or(verdict)
        }
    }

    fn leaf() -> CertificateDer<'static> {
        let key = signing_key(&generate(KeyAlgorithm::EcdsaP256).unwrap()).unwrap();
        test_chain::certificate("a.example", key.as_ref(), -60, 60, &["a.example"])
    }

    fn ask(told: &Arc<Told>) -> (Verdict, Verdict) {
        let anchors = TrustAnchors::none(Arc::new(Policy::default())).with_opinion(told.clone());
        let (leaf, now) = (leaf(), UnixTime::now());
        let name = ServerName::try_from("a.example").unwrap();
        let server = ServerVerifier::new(anchors.clone());
        let server = server.verify_server_cert(&leaf, &[], &name, &[], now).map(|_| ());
        let client = ClientVerifier::new(anchors, true).verify_client_cert(&leaf, &[], now).map(|_| ());
        (server, client)
    }

    #[test]
    fn it_hears_the_verdict_and_has_the_last_word() {
        let unknown: Error = CertificateError::UnknownIssuer.into();
        let told = Arc::new(Told::default());
        assert_eq!(ask(&told), (Err(unknown.clone()), Err(unknown.clone())));
        assert_eq!(
            *told.heard.lock().unwrap(),
            [(1, Some("a.example".to_owned()), Err(unknown.clone())), (1, None, Err(unknown))]
        );
        assert_eq!(ask(&Arc::new(Told { answer: Some(Ok(())), ..Told::default() })), (Ok(()), Ok(())));
        let revoked: Error = CertificateError::Revoked.into();
        let refusing = Arc::new(Told { answer: Some(Err(revoked.clone())), ..Told::default() });
        assert_eq!(ask(&refusing), (Err(revoked.clone()), Err(revoked)));
    }
}
