//! What a session is bound to, beside its suite and server name: everything that a full handshake would have been judged
//! by.

use aws_lc_rs::digest::{Context, SHA256};

use super::ServerTrust;
use crate::credentials::Credential;
use crate::policy::{GroupPreference, Mode, Named, Policy};
use crate::verify::{ClientVerifier, RevocationMode};

/// A digest of virtual host, policy and trust. It is the same for endpoints that are configured in the same way, on one
/// server before and after a reload, and on replicas; and another where anything of that differs.
///
/// Certificates of the server are no part of it: to renew one must cost no session. Nor are revocation lists and the
/// list of allowed clients: they are asked again at each resumption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding([u8; 32]);

impl Binding {
    pub(super) fn of(names: &[String], policy: &Policy, verifier: Option<&ClientVerifier>, alpn: &[Vec<u8>]) -> Self {
        let mut digest = Digest(Context::new(&SHA256));
        digest.part(b"Q-TLS binding 1");
        let mut names: Vec<_> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        names.sort_unstable();
        names.dedup();
        digest.list(&names);
        digest.policy(policy);
        digest.list(alpn);
        match verifier {
            None => digest.part(b"no client certificates"),
            Some(verifier) => {
                let trust = verifier.trust();
                digest.part(if trust.mandatory { b"required" } else { b"optional" });
                digest.part(format!("{:?}", trust.depth).as_bytes());
                digest.policy(trust.policy);
                let mut anchors = trust.anchors;
                anchors.sort_unstable();
                anchors.dedup();
                digest.list(&anchors);
            }
        }
        let mut octets = [0; 32];
        octets.copy_from_slice(digest.0.finish().as_ref());
        Self(octets)
    }

    /// Of a client: everything that a server was judged by, and what it was shown. Unlike a server's, this has the own
    /// certificate and the revocation lists in it: nobody asks them again where a session is resumed.
    pub fn of_client(
        policy: &Policy,
        trust: &ServerTrust,
        credential: Option<&Credential>,
        sends_name: bool,
        alpn: &[Vec<u8>],
    ) -> Self {
        let mut digest = Digest(Context::new(&SHA256));
        digest.part(b"Q-TLS client binding 1");
        digest.policy(policy);
        digest.part(&[u8::from(sends_name)]);
        digest.list(alpn);
        match trust {
            ServerTrust::DangerousAnyone => digest.part(b"anyone"),
            ServerTrust::Anchors(anchors) => {
                digest.part(b"anchors");
                digest.part(format!("{:?}", anchors.depth()).as_bytes());
                digest.policy(anchors.policy());
                let mut identities = anchors.identities();
                identities.sort_unstable();
                identities.dedup();
                digest.list(&identities);
                digest.list(anchors.pins());
                match anchors.revocation() {
                    None => digest.part(b"no revocation"),
                    Some(revocation) => {
                        digest.part(match revocation.mode() {
                            RevocationMode::Hard => b"hard",
                            RevocationMode::Soft => b"soft",
                        });
                        digest.list(revocation.ders());
                    }
                }
            }
        }
        // A key is told by its certificate: there is no other that would fit.
        digest.list(credential.map(|credential| &credential.key.cert[..]).unwrap_or_default());
        let mut octets = [0; 32];
        octets.copy_from_slice(digest.0.finish().as_ref());
        Self(octets)
    }

    /// The digest itself.
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    #[cfg(test)]
    pub(crate) fn for_tests(seed: u8) -> Self {
        Self([seed; 32])
    }
}

/// Every part goes in with its length, every list with its number of parts.
struct Digest(Context);

impl Digest {
    fn part(&mut self, octets: &[u8]) {
        self.0.update(&(octets.len() as u64).to_be_bytes());
        self.0.update(octets);
    }

    fn list<T: AsRef<[u8]>>(&mut self, parts: impl IntoIterator<Item = T, IntoIter: ExactSizeIterator>) {
        let parts = parts.into_iter();
        self.0.update(&(parts.len() as u64).to_be_bytes());
        parts.for_each(|part| self.part(part.as_ref()));
    }

    fn policy(&mut self, policy: &Policy) {
        // Without `..`: what is added to a policy has to be added here.
        let Policy { profile, mode, groups, group_preference, signatures, chain_signatures, suites, notes: _ } = policy;
        self.part(profile.name().as_bytes());
        self.part(match mode {
            Mode::HybridFirst => b"hybrid first",
            Mode::HybridOnly => b"hybrid only",
            Mode::PureOnly => b"pure only",
            Mode::ClassicalOnly => b"classical only",
            Mode::Any => b"any",
            Mode::AnyPostQuantum => b"any post-quantum",
        });
        self.part(match group_preference {
            GroupPreference::PostQuantum => b"post-quantum",
            GroupPreference::Strict => b"strict",
            GroupPreference::Client => b"client",
        });
        self.list(groups.iter().map(|group| group.code_point().to_be_bytes()));
        self.list(suites.iter().map(|suite| suite.code_point().to_be_bytes()));
        self.list(signatures.iter().map(|kind| kind.name()));
        self.list(chain_signatures.iter().map(|kind| kind.name()));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::CertificateDer;

    use super::*;
    use crate::credentials::{generate, signing_key, test_chain};
    use crate::policy::{CipherSuite, Group, KeyAlgorithm, Profile};
    use crate::verify::{AllowList, TrustAnchors};

    fn root(name: &str) -> CertificateDer<'static> {
        let key = signing_key(&generate(KeyAlgorithm::EcdsaP256).unwrap()).unwrap();
        test_chain::certificate(name, key.as_ref(), -60, 60, &[])
    }

    fn verifier(
        roots: &[&CertificateDer<'static>],
        depth: usize,
        mandatory: bool,
        policy: &Policy,
    ) -> Arc<ClientVerifier> {
        let roots = roots.iter().map(|root| (*root).clone());
        ClientVerifier::new(TrustAnchors::new(roots, Some(depth), Arc::new(policy.clone())).unwrap(), mandatory)
    }

    #[test]
    fn everything_that_a_full_handshake_is_judged_by_has_a_part_in_it() {
        let policy = Policy::default();
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let h2 = [b"h2".to_vec()];
        let (one, other) = (root("one"), root("other"));
        let of = |policy: &Policy| Binding::of(&names(&["a.example"]), policy, None, &h2);
        let trusting = |verifier: &ClientVerifier| Binding::of(&names(&["a.example"]), &policy, Some(verifier), &h2);
        let changed = |change: fn(&mut Policy)| {
            let mut changed = policy.clone();
            change(&mut changed);
            changed
        };
        let all = [
            of(&policy),
            Binding::of(&[], &policy, None, &h2),
            Binding::of(&names(&["a.example", "b.example"]), &policy, None, &h2),
            Binding::of(&names(&["a.example"]), &policy, None, &[]),
            of(&changed(|policy| policy.profile = Profile::Cnsa2)),
            of(&changed(|policy| policy.mode = Mode::HybridOnly)),
            of(&changed(|policy| policy.mode = Mode::PureOnly)),
            of(&changed(|policy| policy.mode = Mode::ClassicalOnly)),
            of(&changed(|policy| policy.mode = Mode::Any)),
            of(&changed(|policy| policy.mode = Mode::AnyPostQuantum)),
            of(&changed(|policy| policy.groups = vec![Group::X25519MlKem768])),
            of(&changed(|policy| policy.groups.reverse())),
            of(&changed(|policy| policy.group_preference = GroupPreference::Strict)),
            of(&changed(|policy| policy.group_preference = GroupPreference::Client)),
            of(&changed(|policy| policy.suites = vec![CipherSuite::Aes256Gcm])),
            of(&changed(|policy| policy.signatures = vec![KeyAlgorithm::MlDsa65])),
            of(&changed(|policy| policy.chain_signatures = vec![KeyAlgorithm::MlDsa65])),
            trusting(&verifier(&[&one], 3, true, &policy)),
            trusting(&verifier(&[&one], 3, false, &policy)),
            trusting(&verifier(&[&one], 2, true, &policy)),
            trusting(&verifier(&[&other], 3, true, &policy)),
            trusting(&verifier(&[&one, &other], 3, true, &policy)),
        ];
        for (index, binding) in all.iter().enumerate() {
            assert!(!all[..index].contains(binding), "number {index} is as one before it");
        }
    }

    #[test]
    fn a_client_s_has_trust_and_own_certificate_in_it() {
        let policy = Arc::new(Policy::default());
        let anchors = |roots: &[&CertificateDer<'static>], depth| {
            let roots = roots.iter().map(|root| (*root).clone());
            TrustAnchors::new(roots, Some(depth), policy.clone()).unwrap()
        };
        let (one, other) = (root("one"), root("other"));
        let own = |name: &str| {
            let key = signing_key(&generate(KeyAlgorithm::EcdsaP256).unwrap()).unwrap();
            let chain = vec![test_chain::certificate(name, key.as_ref(), -60, 60, &[])];
            Credential::from_chain(name, "a test", chain, key, "a test").unwrap()
        };
        let (mine, yours) = (own("mine"), own("yours"));
        let of = |trust: ServerTrust, credential: Option<&Credential>, sends_name, alpn: &[Vec<u8>]| {
            Binding::of_client(&policy, &trust, credential, sends_name, alpn)
        };
        let trusting = |anchors| ServerTrust::Anchors(anchors);
        let all = [
            of(ServerTrust::DangerousAnyone, None, true, &[]),
            of(trusting(anchors(&[&one], 3)), None, true, &[]),
            of(trusting(anchors(&[&one], 2)), None, true, &[]),
            of(trusting(anchors(&[&other], 3)), None, true, &[]),
            of(trusting(anchors(&[&one, &other], 3)), None, true, &[]),
            of(trusting(anchors(&[&one], 3).with_pins([crate::verify::SpkiHash::of(b"a")])), None, true, &[]),
            of(trusting(anchors(&[&one], 3)), Some(&mine), true, &[]),
            of(trusting(anchors(&[&one], 3)), Some(&yours), true, &[]),
            of(trusting(anchors(&[&one], 3)), None, false, &[]),
            of(trusting(anchors(&[&one], 3)), None, true, &[b"h2".to_vec()]),
        ];
        for (index, binding) in all.iter().enumerate() {
            assert!(!all[..index].contains(binding), "number {index} is as one before it");
        }
        assert_eq!(all[4], of(trusting(anchors(&[&other, &one], 3)), None, true, &[]), "in any order");
    }

    #[test]
    fn replicas_with_one_configuration_have_one_binding() {
        let policy = Policy::default();
        let noted = Policy { notes: vec!["a note".to_owned()], ..Policy::default() };
        let (one, other) = (root("one"), root("other"));
        let mine = verifier(&[&one, &other], 3, true, &policy);
        let anchors = TrustAnchors::new([other.clone(), one.clone(), other], Some(3), Arc::new(noted.clone())).unwrap();
        let allow = AllowList::parse([[("san_dns", "a.example")]]).unwrap();
        let yours = ClientVerifier::with_allow(anchors, true, Some(allow));
        let names = |names: [&str; 2]| names.map(str::to_owned);
        let mine = Binding::of(&names(["a.example", "*.b.example"]), &policy, Some(&mine), &[]);
        let yours = Binding::of(&names(["*.B.example", "a.example"]), &noted, Some(&yours), &[]);
        assert_eq!(mine, yours);
    }
}
