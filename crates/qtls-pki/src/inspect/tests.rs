//! Reports, and what they complain about.

use std::sync::Arc;
use std::time::Duration;

use qtls_core::credentials::{generate, signing_key};
use qtls_core::policy::KeyAlgorithm;
use rustls::sign::SigningKey;

use super::*;
use crate::crl::{self, Reason, Revocation};
use crate::issue::{AlternativeName, Authority, CLOCK_SKEW, Profile, Template, public_key};
use crate::keys::private_key_pem;
use crate::request;

const DAY: Duration = Duration::from_secs(86_400);

struct Tree {
    root: Authority,
    intermediate: Authority,
    leaf_key: Arc<dyn SigningKey>,
    leaf_key_pem: String,
}

fn key(algorithm: KeyAlgorithm) -> Arc<dyn SigningKey> {
    signing_key(&generate(algorithm).unwrap()).unwrap()
}

fn template(profile: Profile, name: &str, days: u32) -> Template {
    let now = SystemTime::now();
    Template {
        profile,
        common_name: Some(name.to_owned()),
        organization: None,
        names: Vec::new(),
        not_before: now - CLOCK_SKEW,
        not_after: now + DAY * days,
    }
}

impl Tree {
    fn new() -> Self {
        let root = Authority::root(&template(Profile::Root, "시험 Root", 1000), key(KeyAlgorithm::EcdsaP384)).unwrap();
        let below = key(KeyAlgorithm::MlDsa44);
        let spki = public_key(below.as_ref()).unwrap();
        let intermediate = root.issue(&template(Profile::Intermediate { path_len: 0 }, "Middle", 900), &spki).unwrap();
        let leaf_key = generate(KeyAlgorithm::EcdsaP256).unwrap();
        Self {
            root,
            intermediate: Authority::new(intermediate, below).unwrap(),
            leaf_key: signing_key(&leaf_key).unwrap(),
            leaf_key_pem: private_key_pem(&leaf_key, None).unwrap().to_string(),
        }
    }

    fn leaf(&self, names: &[&str]) -> CertificateDer<'static> {
        let names = names.iter().map(|name| name.parse::<AlternativeName>().unwrap()).collect();
        let template = Template { names, ..template(Profile::Server, "leaf", 100) };
        self.intermediate.issue(&template, &public_key(self.leaf_key.as_ref()).unwrap()).unwrap()
    }
}

fn certificate_pem(certificates: &[&CertificateDer<'_>]) -> String {
    certificates.iter().map(|certificate| pem::encode(pem::CERTIFICATE, certificate).unwrap()).collect()
}

fn look(text: &str, after: Duration) -> Report {
    inspect(Source { origin: "file.pem", bytes: text.as_bytes() }, SystemTime::now() + after, None).unwrap()
}

fn certificate(report: &Report, index: usize) -> &CertificateReport {
    match &report.items[index] {
        Item::Certificate(report) => report,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_chain_is_told_without_complaint() {
    let tree = Tree::new();
    let chain = [&tree.leaf(&["a.example", "192.0.2.1"]), tree.intermediate.certificate()];
    let report = look(&certificate_pem(&chain), Duration::ZERO);
    assert!(!report.has_problems(), "{report:?}");
    let leaf = certificate(&report, 0);
    assert_eq!(leaf.subject, "CN=leaf");
    assert_eq!(leaf.issuer, "CN=Middle");
    assert_eq!(leaf.names, ["DNS:a.example", "IP:192.0.2.1"]);
    assert_eq!(leaf.days_left, 99);
    assert_eq!((leaf.key.kind.as_str(), leaf.key.strength.as_deref()), ("ECDSA P-256", Some("128-bit")));
    assert_eq!(leaf.signature_algorithm, "ML-DSA-44");
    assert_eq!(leaf.key_usage.as_deref(), Some(&["digitalSignature"][..]));
    assert_eq!(leaf.extended_key_usage.as_deref(), Some(&["serverAuth".to_owned()][..]));
    let middle = certificate(&report, 1);
    assert!(middle.authority && middle.key.post_quantum);
    assert_eq!(middle.path_length, Some(0));
    assert_eq!(middle.issuer, "CN=시험 Root");
    assert_eq!(leaf.authority_key_id, middle.subject_key_id);
    assert_eq!(leaf.sha256, hex(&qtls_core::credentials::sha256(chain[0])));
}

#[test]
fn time_and_names_are_complained_about() {
    let tree = Tree::new();
    let text = certificate_pem(&[&tree.leaf(&["a.example"])]);
    let problems = |text: &str, days: u32| certificate(&look(text, DAY * days), 0).problems.clone();
    assert_eq!(problems(&text, 80), ["expires in 19 days"]);
    let expired = problems(&text, 101);
    assert!(expired.len() == 1 && expired[0].starts_with("expired on 20"), "{expired:?}");
    assert!(certificate(&look(&text, DAY * 101), 0).days_left < 0);
    let past = SystemTime::now() - DAY;
    let early = inspect(Source { origin: "x", bytes: text.as_bytes() }, past, None).unwrap();
    assert!(certificate(&early, 0).problems[0].starts_with("is not valid before"), "{early:?}");
    let nameless = problems(&certificate_pem(&[&tree.leaf(&[])]), 0);
    assert!(nameless[0].contains("clients ignore the common name"), "{nameless:?}");
}

#[test]
fn a_chain_in_disorder_is_told_by_number() {
    let tree = Tree::new();
    let leaf = tree.leaf(&["a.example"]);
    let (middle, root) = (tree.intermediate.certificate(), tree.root.certificate());
    let told = |chain: &[&CertificateDer<'_>]| look(&certificate_pem(chain), Duration::ZERO).problems.join("\n");
    assert_eq!(told(&[&leaf, middle, root]), "");
    assert_eq!(told(&[root, middle]), "", "authorities alone are a bundle");
    let reversed = told(&[middle, &leaf]);
    assert!(reversed.contains("certificate 2 is the leaf, and comes first"), "{reversed}");
    let mixed = told(&[&leaf, root, middle]);
    assert!(mixed.contains("certificate 1 is issued by certificate 3"), "{mixed}");
    assert_eq!(told(&[&leaf, &leaf, middle]), "certificate 2 is certificate 1 again");
    let gap = told(&[&leaf, root]);
    assert!(gap.contains("certificate 1 is issued by CN=Middle, which is not here"), "{gap}");
    // An authority of the same name and another key.
    let other = Tree::new();
    let forged = told(&[&leaf, other.intermediate.certificate()]);
    assert!(forged.contains("certificate 1 is not signed by certificate 2"), "{forged}");
}

#[test]
fn a_key_beside_its_chain_must_be_the_leafs() {
    let tree = Tree::new();
    let chain = certificate_pem(&[&tree.leaf(&["a.example"]), tree.intermediate.certificate()]);
    let with_key = |key: &str| look(&(chain.clone() + key), Duration::ZERO).problems;
    assert_eq!(with_key(&tree.leaf_key_pem), [""; 0]);
    let problems = with_key(&Tree::new().leaf_key_pem);
    assert_eq!(problems, ["the private key (ECDSA P-256) belongs to no certificate here"]);
    let both = look(&(Tree::new().leaf_key_pem + &tree.leaf_key_pem), Duration::ZERO);
    assert_ne!(both.items[0], both.items[1], "each key is told");
}

#[test]
fn requests_lists_and_keys_are_recognized_in_pem_and_der() {
    let tree = Tree::new();
    let names = ["a.example".parse().unwrap()];
    let csr = request::create(Some("x"), None, &names, tree.leaf_key.as_ref()).unwrap();
    let now = SystemTime::now();
    let revoked = [Revocation { serial: vec![0x11; 20], at: now, reason: Reason::Superseded }];
    let list = crl::create(&tree.root, &revoked, 300, now - CLOCK_SKEW, now + DAY).unwrap();
    let spki = public_key(tree.leaf_key.as_ref()).unwrap();
    let key = pem::sections(tree.leaf_key_pem.as_bytes()).unwrap().remove(0).der;
    let leaf = tree.leaf(&["a.example"]);
    for (label, der, expected) in [
        (pem::REQUEST, csr.as_slice(), "request"),
        ("NEW CERTIFICATE REQUEST", &csr, "request"),
        (pem::CRL, &list, "crl"),
        (pem::CERTIFICATE, leaf.as_ref(), "certificate"),
        ("PUBLIC KEY", &spki, "public-key"),
        ("PRIVATE KEY", &key, "private-key"),
    ] {
        let text = pem::encode(label, der).unwrap();
        for bytes in [text.as_bytes(), der] {
            let report = inspect(Source { origin: "x", bytes }, now, None).unwrap();
            assert!(!report.has_problems(), "{label}: {report:?}");
            let json = serde_json::to_value(&report).unwrap();
            assert_eq!(json["items"][0]["type"], expected, "{label}");
        }
        // Cut anywhere and damaged anywhere it is told as such, or an error; nothing panics.
        for at in 0..der.len() {
            let mut damaged = der.to_vec();
            damaged[at] ^= 0x55;
            let _ = inspect(Source { origin: "x", bytes: &damaged }, now, None);
            let _ = inspect(Source { origin: "x", bytes: &der[..at] }, now, None);
        }
    }
    let Item::Crl(report) = &look(&pem::encode(pem::CRL, &list).unwrap(), DAY * 2).items[0] else { panic!() };
    assert_eq!(report.number.as_deref(), Some("300"));
    assert_eq!(
        (report.revoked[0].serial.as_str(), report.revoked[0].reason.as_str()),
        (&*"11".repeat(20), "superseded")
    );
    assert!(report.problems[0].starts_with("was to be replaced by"), "{report:?}");
}

#[test]
fn what_is_damaged_or_foreign_is_told_beside_the_rest() {
    let tree = Tree::new();
    let mut csr = request::create(Some("honest"), None, &[], tree.leaf_key.as_ref()).unwrap();
    let at = csr.windows(6).position(|window| window == b"honest").unwrap();
    csr[at] = b'H';
    let text = certificate_pem(&[tree.root.certificate()])
        + &pem::encode(pem::REQUEST, &csr).unwrap()
        + &pem::encode("PKCS7", b"abc").unwrap()
        + &pem::encode(pem::CERTIFICATE, b"abc").unwrap();
    let report = look(&text, Duration::ZERO);
    let problems: Vec<String> = report.items.iter().map(|item| item.problems().join("; ")).collect();
    assert_eq!(problems[0], "");
    assert!(problems[1].contains("own signature does not hold"), "{problems:?}");
    assert_eq!(problems[2], "is nothing that is known here");
    assert!(problems[3].starts_with("is damaged"), "{problems:?}");
    let nothing = inspect(Source { origin: "x.p12", bytes: b"\x30\x03abc" }, SystemTime::now(), None).unwrap_err();
    assert!(nothing.hint_text().unwrap().contains("openssl pkcs12"), "{nothing}");
}

#[test]
fn a_servers_chain_is_held_against_its_name() {
    let tree = Tree::new();
    let chain = [tree.leaf(&["a.example"]), tree.intermediate.certificate().clone()];
    assert!(!inspect_chain(&chain, "a.example", SystemTime::now()).has_problems());
    let report = inspect_chain(&chain, "b.example", SystemTime::now());
    assert_eq!(report.problems, ["the first certificate is not valid for b.example"]);
    assert_eq!(inspect_chain(&[], "b.example", SystemTime::now()).problems, ["the server sent no certificate"]);
}
