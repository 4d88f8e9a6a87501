//! Why a client would break, which program it probably is, and what to do about it.

use qtls_core::client_hello::Offer;
use qtls_core::policy::{Candidate, Group, Kem, KeyAlgorithm, Named, Policy, Profile, Rule};
use qtls_core::policy::{group_name, scheme_name, suite_name};
use qtls_proxy::explain::offer_of;

use super::super::clients::{CLIENTS, KnownClient};
use super::line::Offered;

/// Why clients break, in words. Clients with the same words are one row of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Cause {
    /// The programs whose ClientHello offers exactly the same.
    pub(super) likely: Vec<&'static str>,
    /// The rules that refuse it.
    pub(super) rules: Vec<Rule>,
    /// What it lacks, a phrase for each rule.
    pub(super) lacks: Vec<String>,
    /// What to do, a sentence for each rule.
    pub(super) advice: Vec<String>,
}

/// The programs whose ClientHello is known.
pub(super) struct Clients(Vec<(&'static KnownClient, Lists)>);

/// What is offered, by name, as the log writes it.
#[derive(PartialEq, Eq)]
struct Lists {
    groups: Vec<String>,
    schemes: Vec<String>,
    suites: Vec<String>,
}

impl Default for Clients {
    fn default() -> Self {
        // What is built in can be read: a test holds it to that.
        let lists = |client: &'static KnownClient| Some((client, Lists::of(&offer_of(client.hello).ok()?)));
        Self(CLIENTS.iter().filter_map(lists).collect())
    }
}

impl Lists {
    fn of(offer: &Offer) -> Self {
        let real = |name: &String| name != GREASE;
        Self {
            groups: offer.groups.iter().map(|group| group_name(*group)).filter(real).collect(),
            schemes: offer.schemes.iter().map(|scheme| scheme_name(*scheme)).filter(real).collect(),
            suites: offer.suites.iter().filter_map(|suite| suite_name(*suite)).collect(),
        }
    }
}

impl Clients {
    /// The programs that offer exactly this.
    fn like(&self, offered: &Offered<'_>) -> Vec<&'static KnownClient> {
        let list = |names: &str| names.split(',').filter(|name| *name != GREASE).map(str::to_owned).collect();
        let lists =
            Lists { groups: list(&offered.groups), schemes: list(&offered.schemes), suites: list(&offered.suites) };
        self.0.iter().filter(|(_, known)| *known == lists).map(|(client, _)| *client).collect()
    }
}

impl Cause {
    /// Why a client that offers this fails `rules` of a policy, with these certificates.
    pub(super) fn of(
        clients: &Clients,
        rules: &[Rule],
        policy: &Policy,
        certificates: &[Candidate],
        offer: &Offer,
        offered: &Offered<'_>,
    ) -> Self {
        let likely = clients.like(offered);
        let (lacks, advice) = rules
            .iter()
            .map(|rule| match rule {
                Rule::Group => group(policy, offer, offered, &likely),
                Rule::Scheme => scheme(policy, certificates, offer),
                Rule::Suite => suite(policy),
            })
            .unzip();
        Self { likely: likely.iter().map(|client| client.version).collect(), rules: rules.to_vec(), lacks, advice }
    }
}

fn group(policy: &Policy, offer: &Offer, offered: &Offered<'_>, likely: &[&KnownClient]) -> (String, String) {
    let theirs: Vec<_> = offer.groups.iter().filter_map(|point| Group::from_code_point(*point)).collect();
    let post_quantum: Vec<_> =
        theirs.iter().filter(|group| group.is_post_quantum()).map(|group| group.iana_name()).collect();
    if !policy.groups.iter().any(|group| group.is_post_quantum())
        || policy.groups.iter().any(|ours| !ours.is_post_quantum())
    {
        return (
            format!("offers {}", offered.groups.replace(',', ", ")),
            format!("have it offer one of {}, or add one that it offers to algorithms.kem", policy.group_names()),
        );
    }
    if post_quantum.is_empty() {
        if offered.groups.split(',').any(|name| DRAFTS.contains(&name)) {
            return (
                "offers a draft of ML-KEM, and no ML-KEM".to_owned(),
                "update it: drafts are not spoken any more".to_owned(),
            );
        }
        let remedy = likely.first().and_then(|client| client.remedy).unwrap_or(
            "update its TLS library to one with ML-KEM (OpenSSL 3.5, Go 1.24, Node.js 24), or put qtls-client in front \
             of it",
        );
        return ("offers no post-quantum group".to_owned(), remedy.to_owned());
    }
    let wanted = policy.groups.iter().filter_map(|group| group.kem());
    let lacks_1024 = wanted.clone().all(|kem| kem == Kem::MlKem1024)
        && !theirs.iter().any(|group| group.kem() == Some(Kem::MlKem1024));
    let lacks = if lacks_1024 { "no ML-KEM-1024".to_owned() } else { format!("none of {}", policy.group_names()) };
    let keep = "leave the names that it asks for as they are, in virtual_hosts";
    let fixed = !likely.is_empty() && likely.iter().all(|client| client.other_groups.is_some_and(<[_]>::is_empty));
    let advice = if fixed {
        format!("{keep}: it can't be made to offer another group")
    } else {
        let wanted = policy.groups[0].iana_name();
        format!("have it offer {wanted}{}, put qtls-client in front of it, or {keep}", how(likely))
    };
    (format!("offers {}, and {lacks}", post_quantum.join(", ")), advice)
}

/// How programs are made to offer other groups: those that offer the same may want different things for it.
fn how(likely: &[&KnownClient]) -> String {
    let mut ways: Vec<_> = likely.iter().filter_map(|client| client.other_groups).flatten().copied().collect();
    let mut seen = Vec::new();
    ways.retain(|way| {
        !seen.contains(way) && {
            seen.push(*way);
            true
        }
    });
    if ways.is_empty() { String::new() } else { format!(" ({})", ways.join(", or ")) }
}

fn scheme(policy: &Policy, certificates: &[Candidate], offer: &Offer) -> (String, String) {
    let verifies = |kind: &KeyAlgorithm| kind.schemes().iter().any(|scheme| offer.schemes.contains(scheme));
    let names = |kinds: Vec<KeyAlgorithm>| {
        let mut names: Vec<_> = kinds.iter().map(|kind| plain(*kind)).collect();
        names.dedup();
        names.join(", ")
    };
    let held: Vec<_> = certificates.iter().filter(|one| one.is_allowed(policy)).map(|one| one.kind).collect();
    let allowed: Vec<_> = policy.signatures.iter().copied().filter(|kind| verifies(kind)).collect();
    let theirs: Vec<_> = KeyAlgorithm::ALL.iter().copied().filter(|kind| verifies(kind)).collect();
    let lacks = match held.as_slice() {
        [] => "finds no certificate that the policy allows".to_owned(),
        _ if theirs.is_empty() => "verifies no signature that is known here".to_owned(),
        held if held.len() > FEW => format!("verifies {} alone", names(theirs.clone())),
        held => {
            let held = held.iter().map(|kind| plain_kind(&kind.name())).collect::<Vec<_>>();
            format!("can't verify {}", unique(held).join(" or "))
        }
    };
    let advice = match (allowed.first(), theirs.is_empty()) {
        // The policy allows what the client verifies: it is the certificate that is missing.
        (Some(_), _) => format!("get a certificate beside that it can verify: {}", names(allowed)),
        (None, true) => "update its TLS library: it verifies nothing that is known here".to_owned(),
        (None, false) if policy.profile == Profile::Cnsa2 => format!(
            "update its TLS library to one with ML-DSA (OpenSSL 3.5), or keep a certificate that it can verify ({}) for \
             the names that it asks for, in virtual_hosts with another profile",
            names(theirs)
        ),
        (None, false) => {
            format!("update its TLS library, or keep a certificate beside that it can verify: {}", names(theirs))
        }
    };
    (lacks, advice)
}

fn suite(policy: &Policy) -> (String, String) {
    let names: Vec<_> = policy.suites.iter().map(|suite| suite.iana_name()).collect();
    (
        format!("offers no {}", names.join(" and no ")),
        format!("have it offer {}, which every TLS 1.3 library has", names[0]),
    )
}

/// `RSA`, `ECDSA P-384`, `ML-DSA-87`: what a certificate is called.
fn plain(kind: KeyAlgorithm) -> String {
    plain_kind(kind.name())
}

fn plain_kind(name: &str) -> String {
    if name.starts_with("rsa") { "rsa".to_owned() } else { name.to_owned() }
}

fn unique(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names.dedup();
    names
}

/// How many kinds of certificate are listed.
const FEW: usize = 3;
const GREASE: &str = "GREASE";
/// What clients of the years before ML-KEM's standard offer; the log may know them by number alone.
const DRAFTS: [&str; 4] = ["X25519Kyber768Draft00", "SecP256r1Kyber768Draft00", "0x6399", "0x639a"];

#[cfg(test)]
mod tests {
    use qtls_core::policy::PolicyChoice;

    use super::*;

    fn policy(choice: PolicyChoice) -> Policy {
        Policy::resolve(&choice).unwrap()
    }

    /// What the log says of a known client's connection.
    fn line(name: &str) -> [String; 3] {
        let hello = CLIENTS.iter().find(|client| client.name == name).unwrap().hello;
        let Lists { groups, schemes, suites } = Lists::of(&offer_of(hello).unwrap());
        [groups.join(","), schemes.join(","), suites.join(",")]
    }

    fn cause(
        rules: &[Rule],
        policy: &Policy,
        certificates: &[Candidate],
        [groups, schemes, suites]: &[String; 3],
    ) -> Cause {
        let offer = Offer::of_names(groups.split(','), schemes.split(','), suites.split(','));
        let offered =
            Offered { groups: groups.into(), schemes: schemes.into(), chain_schemes: None, suites: suites.into() };
        Cause::of(&Clients::default(), rules, policy, certificates, &offer, &offered)
    }

    #[test]
    fn every_client_that_is_built_in_is_known_again() {
        let clients = Clients::default();
        assert_eq!(clients.0.len(), CLIENTS.len(), "each ClientHello can be read");
        for known in &CLIENTS {
            let [groups, schemes, suites] = line(known.name);
            let offered =
                Offered { groups: groups.into(), schemes: schemes.into(), chain_schemes: None, suites: suites.into() };
            let found = clients.like(&offered);
            assert!(found.iter().any(|client| client.name == known.name), "{}", known.name);
        }
        let other =
            Offered { groups: "x25519".into(), schemes: "ed25519".into(), chain_schemes: None, suites: "".into() };
        assert!(clients.like(&other).is_empty(), "nothing is guessed");
    }

    #[test]
    fn a_classical_client_that_is_known_is_told_what_to_upgrade_to() {
        let pqc_only = policy(PolicyChoice { pqc_only: Some(true), ..Default::default() });
        let told = cause(&[Rule::Group], &pqc_only, &[], &line("curl-openssl-3.0"));
        assert!(told.likely.contains(&"curl 7.88 with OpenSSL 3.0"), "{told:?}");
        assert_eq!(told.lacks, ["offers no post-quantum group"]);
        assert_eq!(told.advice, ["upgrade to OpenSSL 3.5, as in Debian 13, or put qtls-client in front of it"]);
        let unknown = ["x25519".to_owned(), "ed25519".to_owned(), "TLS_AES_128_GCM_SHA256".to_owned()];
        let told = cause(&[Rule::Group], &pqc_only, &[], &unknown);
        assert_eq!(told.likely, [""; 0]);
        assert!(told.advice[0].starts_with("update its TLS library to one with ML-KEM"), "{told:?}");
        let draft = ["X25519Kyber768Draft00,x25519".to_owned(), "ed25519".to_owned(), "x".to_owned()];
        assert_eq!(cause(&[Rule::Group], &pqc_only, &[], &draft).lacks, ["offers a draft of ML-KEM, and no ML-KEM"]);
    }

    #[test]
    fn under_cnsa2_each_rule_has_its_words() {
        let cnsa2 = policy(PolicyChoice { profile: Profile::Cnsa2, ..Default::default() });
        let told = cause(&[Rule::Group, Rule::Scheme], &cnsa2, &Candidate::one_of_each(), &line("chromium"));
        assert_eq!(told.likely, ["Chromium 150"]);
        assert_eq!(told.lacks[0], "offers X25519MLKEM768, and no ML-KEM-1024");
        assert_eq!(
            told.advice[0],
            "leave the names that it asks for as they are, in virtual_hosts: it can't be made to offer another group"
        );
        let told = cause(&[Rule::Scheme, Rule::Suite], &cnsa2, &Candidate::one_of_each(), &line("go-1.26"));
        assert_eq!(told.lacks, ["can't verify ml-dsa-87", "offers no TLS_AES_256_GCM_SHA384"]);
        assert_eq!(
            told.advice[0],
            "update its TLS library to one with ML-DSA (OpenSSL 3.5), or keep a certificate that it can verify \
             (ecdsa-p384, ecdsa-p256, ecdsa-p521, ed25519, rsa) for the names that it asks for, in virtual_hosts with \
             another profile"
        );
        let told = cause(&[Rule::Group], &cnsa2, &[], &line("openssl-3.5"));
        assert!(
            told.advice[0]
                .contains("SecP384r1MLKEM1024 (Groups in openssl.cnf, or -groups, or --curves, or ecdhCurve)"),
            "{told:?}"
        );
    }

    #[test]
    fn without_a_certificate_that_fits_it_is_the_certificate_that_is_missing() {
        let without_rsa = policy(PolicyChoice::default());
        let kinds = without_rsa.signatures.iter().copied();
        let without_rsa = Policy {
            signatures: kinds.filter(|kind| plain(*kind) != "rsa").collect(),
            ..policy(PolicyChoice::default())
        };
        let own = |kind: KeyAlgorithm| Candidate { kind: kind.kind(), chain: Vec::new(), only_for: None };
        let told = cause(
            &[Rule::Scheme],
            &without_rsa,
            &[own(KeyAlgorithm::MlDsa65), own(KeyAlgorithm::Rsa4096)],
            &line("go-1.26"),
        );
        assert_eq!(told.lacks, ["can't verify ml-dsa-65"]);
        assert_eq!(
            told.advice,
            ["get a certificate beside that it can verify: ecdsa-p384, ecdsa-p256, ecdsa-p521, ed25519"]
        );
        let old = ["x25519".to_owned(), "rsa_pss_rsae_sha256".to_owned(), "TLS_AES_128_GCM_SHA256".to_owned()];
        let told = cause(&[Rule::Scheme], &without_rsa, &[own(KeyAlgorithm::Rsa4096)], &old);
        assert_eq!(told.lacks, ["finds no certificate that the policy allows"]);
        assert_eq!(told.advice, ["update its TLS library, or keep a certificate beside that it can verify: rsa"]);
    }
}
