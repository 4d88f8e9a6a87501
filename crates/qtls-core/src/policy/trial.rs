//! A policy that is tried (`tls.report`): which clients it would refuse, and by which rule. It changes nothing.

use std::fmt;
use std::net::IpAddr;

use rustls::SignatureScheme;
use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::{Decode, Encode};

use super::Policy;
use super::table::{CipherSuite, KeyAlgorithm, Named};
use crate::client_hello::{Offer, decide_group};
use crate::credentials::{KeyKind, key_kind};
use crate::endpoint::{OnlyFor, chain_schemes};
use crate::error::{Error, Result};

/// What of a policy a client fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Rule {
    /// It offers no key exchange group of the policy.
    Group,
    /// It can't verify any certificate that the policy lets the server show, or its own certificate is not one that the
    /// policy lets it sign with.
    Scheme,
    /// It offers no cipher suite of the policy.
    Suite,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Group, Self::Scheme, Self::Suite];

    /// The name in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Scheme => "scheme",
            Self::Suite => "suite",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One of a server's certificates, as far as a client's offer decides about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The kind of the leaf's key.
    pub kind: KeyKind,
    /// What a client has to accept inside the chain.
    pub chain: Vec<SignatureScheme>,
    /// Which clients it is kept to; `None` is for all.
    pub only_for: Option<OnlyFor>,
}

impl Candidate {
    /// The certificate at the beginning of this chain, in whatever order the others are.
    ///
    /// # Errors
    /// No certificate, or one that can't be read.
    pub fn of_chain(chain: &[CertificateDer<'_>], only_for: Option<OnlyFor>) -> Result<Self> {
        let parsed: Vec<_> = chain
            .iter()
            .map(|one| Certificate::from_der(one))
            .collect::<Result<_, _>>()
            .map_err(|error| Error::certificate(format!("a certificate is damaged: {error}")))?;
        let issues = |one: &Certificate, other: &Certificate| {
            one != other && one.tbs_certificate().subject() == other.tbs_certificate().issuer()
        };
        let leaf = parsed.iter().find(|one| !parsed.iter().any(|other| issues(one, other)));
        let leaf = leaf.ok_or_else(|| Error::certificate("there is no certificate for a server"))?;
        let spki = leaf.tbs_certificate().subject_public_key_info().to_der();
        let spki = spki.map_err(|error| Error::certificate(format!("the public key is damaged: {error}")))?;
        Ok(Self { kind: key_kind(&spki)?, chain: chain_schemes(chain), only_for })
    }

    /// A certificate of each kind, whose chain everybody can verify: where nothing is known of the real ones.
    pub fn one_of_each() -> Vec<Self> {
        KeyAlgorithm::ALL.iter().map(|kind| Self { kind: kind.kind(), chain: Vec::new(), only_for: None }).collect()
    }

    /// Whether a server with this policy may have the certificate at all.
    pub fn is_allowed(&self, policy: &Policy) -> bool {
        policy.allows_key(self.kind) && policy.allows_own_chain(&self.chain).is_ok()
    }
}

/// The rules by which a server with the policy `tried`, and those of `certificates` that it allows, would refuse a client
/// that the policy `in_force` serves.
///
/// A client is held to a chain only where it could verify one as a whole before: a server goes on with a chain that the
/// client says it can't verify (RFC 9846 §4.4.2.2), and many a client then verifies it all the same.
pub fn refusals(
    tried: &Policy,
    in_force: &Policy,
    certificates: &[Candidate],
    offer: &Offer,
    client: Option<IpAddr>,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    if decide_group(tried, offer).is_none() {
        rules.push(Rule::Group);
    }
    let fits = fit(tried, certificates, offer, client);
    if fits == Fit::Nothing || fits < fit(in_force, certificates, offer, client) {
        rules.push(Rule::Scheme);
    }
    if !tried.suites.iter().any(|suite| offer.suites.contains(&suite.code_point())) {
        rules.push(Rule::Suite);
    }
    rules
}

/// How a tried policy differs from the one in force, as far as anybody could notice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stricter {
    /// Groups that it hasn't.
    pub groups: Vec<&'static str>,
    /// Cipher suites that it hasn't.
    pub suites: Vec<&'static str>,
    /// Kinds of key that it hasn't: of our own certificates, and of the peers' where these are verified.
    pub kinds: Vec<String>,
    /// Whether none of our own certificates fits it.
    pub without_certificate: bool,
}

impl Stricter {
    /// Compares. `verifies` is whether clients show certificates.
    pub fn than(tried: &Policy, in_force: &Policy, certificates: &[Candidate], verifies: bool) -> Self {
        let groups = in_force.groups.iter().filter(|group| !tried.groups.contains(group));
        let suites = in_force.suites.iter().filter(|suite| !tried.suites.contains(suite));
        let own = certificates.iter().filter(|one| !one.is_allowed(tried)).map(|one| one.kind.name());
        let theirs = KeyAlgorithm::ALL.iter().filter(|kind| {
            let gone = |has: fn(&Policy, KeyKind) -> bool| has(in_force, kind.kind()) && !has(tried, kind.kind());
            verifies && (gone(Policy::allows_key) || gone(Policy::allows_chain_key))
        });
        let mut kinds: Vec<String> = own.chain(theirs.map(|kind| kind.name().to_owned())).collect();
        kinds.sort();
        kinds.dedup();
        Self {
            groups: groups.map(|group| group.iana_name()).collect(),
            suites: suites.copied().map(CipherSuite::iana_name).collect(),
            kinds,
            without_certificate: !certificates.iter().any(|one| one.is_allowed(tried)),
        }
    }

    /// Whether it could refuse anybody who is served now.
    pub fn is_stricter(&self) -> bool {
        !(self.groups.is_empty() && self.suites.is_empty() && self.kinds.is_empty())
    }
}

/// `without the groups x25519, secp384r1 and the signatures rsa-4096`
impl fmt::Display for Stricter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { groups, suites, kinds, without_certificate: _ } = self;
        let part = |what: &str, names: String| (!names.is_empty()).then(|| format!("the {what} {names}"));
        let parts = [
            part("groups", groups.join(", ")),
            part("suites", suites.join(", ")),
            part("signatures", kinds.join(", ")),
        ];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        write!(f, "without {}", if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") })
    }
}

/// How much of the best certificate a client can verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Nothing,
    Leaf,
    Whole,
}

fn fit(policy: &Policy, certificates: &[Candidate], offer: &Offer, client: Option<IpAddr>) -> Fit {
    let in_chains = offer.schemes_in_chains();
    let fits = |one: &Candidate| {
        let met = one.only_for.as_ref().is_none_or(|only_for| only_for.meets(offer.server_name.as_deref(), client));
        let leaf = KeyAlgorithm::ALL
            .iter()
            .filter(|kind| kind.covers(one.kind))
            .flat_map(|kind| kind.schemes())
            .any(|scheme| offer.schemes.contains(scheme));
        if !met || !leaf || !one.is_allowed(policy) {
            Fit::Nothing
        } else if one.chain.iter().all(|scheme| in_chains.contains(scheme)) {
            Fit::Whole
        } else {
            Fit::Leaf
        }
    };
    certificates.iter().map(fits).max().unwrap_or(Fit::Nothing)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{AlgorithmNames, Group, PolicyChoice, Profile};

    /// A client of these groups, schemes and suites.
    fn offer(groups: &[u16], schemes: &[SignatureScheme], suites: &[CipherSuite]) -> Offer {
        Offer {
            groups: groups.to_vec(),
            shares: groups.to_vec(),
            schemes: schemes.to_vec(),
            suites: suites.iter().map(|suite| suite.code_point()).collect(),
            ..Offer::default()
        }
    }

    fn points(groups: &[Group]) -> Vec<u16> {
        groups.iter().map(|group| group.code_point()).collect()
    }

    fn certificate(kind: KeyKind, chain: &[SignatureScheme]) -> Candidate {
        Candidate { kind, chain: chain.to_vec(), only_for: None }
    }

    fn tried(choice: PolicyChoice) -> Policy {
        Policy::resolve(&choice).unwrap()
    }

    fn signature(names: &[&str]) -> PolicyChoice {
        let signature = Some(names.iter().map(|&name| name.to_owned()).collect());
        PolicyChoice { names: AlgorithmNames { signature, ..Default::default() }, ..Default::default() }
    }

    use Group::{MlKem1024, SecP384r1MlKem1024, Secp256r1, X25519, X25519MlKem768};
    use Rule::{Group as ByGroup, Scheme, Suite};
    use SignatureScheme as S;

    const ALL_SUITES: &[CipherSuite] = CipherSuite::ALL;
    const ECDSA: S = S::ECDSA_NISTP384_SHA384;
    const PSS: S = S::RSA_PSS_SHA256;

    #[test]
    fn the_truth_table_of_the_rules() {
        let ours = [
            certificate(KeyKind::MlDsa87, &[S::ML_DSA_87]),
            certificate(KeyKind::EcdsaP384, &[ECDSA]),
            certificate(KeyKind::Rsa(4096), &[S::RSA_PKCS1_SHA256]),
        ];
        let pqc_only = tried(PolicyChoice { pqc_only: Some(true), ..PolicyChoice::default() });
        let cnsa2 = tried(PolicyChoice { profile: Profile::Cnsa2, ..PolicyChoice::default() });
        let fips = tried(PolicyChoice { profile: Profile::Fips, ..PolicyChoice::default() });
        let without_rsa = tried(signature(&["ml-dsa-87", "ecdsa-p384"]));
        let compatible = tried(PolicyChoice { profile: Profile::Compatible, ..PolicyChoice::default() });
        let classical = &[ECDSA, PSS, S::RSA_PKCS1_SHA256];
        let rsa_only = &[PSS, S::RSA_PKCS1_SHA256];
        let all = &[S::ML_DSA_87, ECDSA, PSS, S::RSA_PKCS1_SHA256];
        let chacha = &[CipherSuite::ChaCha20Poly1305];
        for (who, offered, expected) in [
            (
                "a classical client",
                offer(&points(&[X25519, Secp256r1]), classical, ALL_SUITES),
                [vec![ByGroup], vec![ByGroup, Scheme], vec![], vec![]],
            ),
            (
                "a client of X25519 alone",
                offer(&points(&[X25519]), classical, ALL_SUITES),
                [vec![ByGroup], vec![ByGroup, Scheme], vec![ByGroup], vec![]],
            ),
            (
                "a browser",
                offer(&points(&[X25519MlKem768, X25519]), classical, ALL_SUITES),
                [vec![], vec![ByGroup, Scheme], vec![], vec![]],
            ),
            ("everything", offer(&points(Group::ALL), all, ALL_SUITES), [vec![], vec![], vec![], vec![]]),
            (
                "pure ML-KEM",
                offer(&points(&[MlKem1024, X25519]), all, ALL_SUITES),
                [vec![ByGroup], vec![], vec![], vec![]],
            ),
            (
                "CNSA 2.0 but for its suite",
                offer(&points(&[SecP384r1MlKem1024]), all, chacha),
                [vec![], vec![Suite], vec![Suite], vec![]],
            ),
            (
                "RSA alone",
                offer(&points(&[X25519MlKem768]), rsa_only, ALL_SUITES),
                [vec![], vec![ByGroup, Scheme], vec![], vec![Scheme]],
            ),
            (
                "nothing that anybody knows",
                offer(&[0x6399], &[S::Unknown(0x4242)], &[]),
                [
                    vec![ByGroup, Scheme, Suite],
                    vec![ByGroup, Scheme, Suite],
                    vec![ByGroup, Scheme, Suite],
                    vec![ByGroup, Scheme, Suite],
                ],
            ),
        ] {
            for (policy, expected) in [&pqc_only, &cnsa2, &fips, &without_rsa].into_iter().zip(expected) {
                let rules = refusals(policy, &compatible, &ours, &offered, None);
                assert_eq!(rules, expected, "{who} under {} {:?}", policy.profile, policy.groups);
            }
        }
    }

    #[test]
    fn a_chain_counts_where_one_could_be_verified_before() {
        let mixed = certificate(KeyKind::EcdsaP384, &[S::ML_DSA_65]);
        let rsa = certificate(KeyKind::Rsa(2048), &[S::RSA_PKCS1_SHA256]);
        let offered = offer(&points(&[X25519]), &[ECDSA, PSS, S::RSA_PKCS1_SHA256], ALL_SUITES);
        let without_rsa = tried(signature(&["ecdsa-p384"]));
        let in_force = Policy::default();
        // It verifies the RSA certificate as a whole, and would be left with a chain that it can't verify.
        assert_eq!(refusals(&without_rsa, &in_force, &[mixed.clone(), rsa], &offered, None), [Scheme]);
        // It is left with what it gets today.
        assert_eq!(refusals(&without_rsa, &in_force, &[mixed], &offered, None), []);
    }

    #[test]
    fn a_certificate_that_is_kept_to_others_helps_nobody_else() {
        let only_for = OnlyFor { names: vec!["pq.example".to_owned()], networks: vec!["10.0.0.0/8".parse().unwrap()] };
        let kept = Candidate { only_for: Some(only_for), ..certificate(KeyKind::MlDsa87, &[]) };
        let ours = [kept, certificate(KeyKind::EcdsaP384, &[])];
        let tried = tried(signature(&["ml-dsa-87"]));
        let offered = offer(&points(&[X25519]), &[S::ML_DSA_87, ECDSA], ALL_SUITES);
        let rules = |offer: &Offer, client: &str| {
            refusals(&tried, &Policy::default(), &ours, offer, Some(client.parse().unwrap()))
        };
        assert_eq!(rules(&offered, "192.0.2.1"), [Scheme]);
        assert_eq!(rules(&offered, "10.1.2.3"), []);
        let asking = Offer { server_name: Some("PQ.example".to_owned()), ..offered };
        assert_eq!(rules(&asking, "192.0.2.1"), []);
    }

    #[test]
    fn a_profile_bars_certificates_by_their_chain_too() {
        let ours = [certificate(KeyKind::MlDsa87, &[ECDSA])];
        let cnsa2 = tried(PolicyChoice { profile: Profile::Cnsa2, ..PolicyChoice::default() });
        let offered = offer(&points(&[MlKem1024]), &[S::ML_DSA_87, ECDSA], ALL_SUITES);
        assert_eq!(refusals(&cnsa2, &Policy::default(), &ours, &offered, None), [Scheme]);
        let difference = Stricter::than(&cnsa2, &Policy::default(), &ours, false);
        assert!(difference.without_certificate && difference.kinds == ["ml-dsa-87"], "{difference:?}");
    }

    #[test]
    fn what_is_stricter_and_what_is_not() {
        let ours = [certificate(KeyKind::EcdsaP384, &[ECDSA])];
        let in_force = Policy::default();
        let compare = |tried: &Policy, verifies| Stricter::than(tried, &in_force, &ours, verifies);
        assert!(!compare(&in_force, true).is_stricter());
        let wider = tried(PolicyChoice { profile: Profile::Compatible, ..PolicyChoice::default() });
        assert!(!compare(&wider, true).is_stricter());
        let pqc_only = tried(PolicyChoice { pqc_only: Some(true), ..PolicyChoice::default() });
        assert_eq!(compare(&pqc_only, false).groups, ["x25519", "secp384r1", "secp256r1"]);
        assert!(compare(&pqc_only, false).is_stricter());
        // Without RSA: there is no such certificate here, but clients may have some.
        let without_rsa = tried(signature(&["ml-dsa-65", "ecdsa-p384", "ecdsa-p256"]));
        assert!(!compare(&without_rsa, false).is_stricter());
        assert!(compare(&without_rsa, true).kinds.contains(&"rsa-2048".to_owned()));
        assert!(!compare(&without_rsa, true).without_certificate);
        assert!(Stricter::than(&tried(signature(&["ml-dsa-65"])), &in_force, &ours, false).without_certificate);
    }
}
