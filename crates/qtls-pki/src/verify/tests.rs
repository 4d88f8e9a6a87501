//! Each rule, broken once, and who is blamed for it.

use std::sync::Arc;
use std::time::Duration;

use qtls_core::credentials::{generate, signing_key};
use qtls_core::policy::KeyAlgorithm;
use rustls::sign::SigningKey;

use super::*;
use crate::crl::{self, Reason, Revocation as Entry};
use crate::issue::{
    Additions, AlternativeName, Authority, CLOCK_SKEW, Profile, Purpose as Limit, Template, public_key,
};

const DAY: Duration = Duration::from_secs(86_400);

fn key() -> Arc<dyn SigningKey> {
    signing_key(&generate(KeyAlgorithm::EcdsaP256).unwrap()).unwrap()
}

fn spki() -> Vec<u8> {
    public_key(key().as_ref()).unwrap()
}

fn template(profile: Profile, name: &str, days: u32) -> Template {
    let now = SystemTime::now();
    Template {
        profile,
        common_name: Some(name.to_owned()),
        organization: None,
        names: vec![AlternativeName::Dns("a.example".to_owned())],
        not_before: now - CLOCK_SKEW,
        not_after: now + DAY * days,
    }
}

struct Tree {
    root: Authority,
    middle: Authority,
    leaf: CertificateDer<'static>,
}

impl Tree {
    fn new(additions: &Additions, days: u32) -> Self {
        let root = Authority::root(&template(Profile::Root, "Root", 4000), key()).unwrap();
        let below = key();
        let middle = template(Profile::Intermediate { path_len: 1 }, "Middle", days);
        let middle = root.issue_with(&middle, additions, &public_key(below.as_ref()).unwrap()).unwrap();
        let middle = Authority::new(middle, below).unwrap();
        let leaf = middle.issue(&template(Profile::Server, "leaf", 100), &spki()).unwrap();
        Self { root, middle, leaf }
    }

    fn plain() -> Self {
        Self::new(&Additions::default(), 1000)
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.leaf.clone(), self.middle.certificate().clone()]
    }

    fn ask(&self, chain: &[CertificateDer<'static>], change: impl FnOnce(&mut Question<'_>)) -> Verdict {
        self.ask_with(chain, &[], change)
    }

    fn ask_with(
        &self,
        chain: &[CertificateDer<'static>],
        lists: &[Vec<u8>],
        change: impl FnOnce(&mut Question<'_>),
    ) -> Verdict {
        let anchors = [self.root.certificate().clone()];
        let mut question = Question {
            chain,
            anchors: &anchors,
            purpose: Purpose::Server,
            name: Some("a.example"),
            depth: None,
            lists,
            at: SystemTime::now(),
        };
        change(&mut question);
        verify(&question).unwrap()
    }

    fn list(&self, issuer: &Authority, revoked: &[&CertificateDer<'_>], days: u32) -> Vec<u8> {
        let now = SystemTime::now();
        let entries: Vec<Entry> = revoked
            .iter()
            .map(|der| {
                let serial = Certificate::from_der(der).unwrap().tbs_certificate().serial_number().as_bytes().to_vec();
                Entry { serial, at: now, reason: Reason::KeyCompromise }
            })
            .collect();
        crl::create(issuer, &entries, 1, now - CLOCK_SKEW, now + DAY * days).unwrap()
    }
}

#[track_caller]
fn blamed(verdict: &Verdict, reason: &str, certificate: Option<&str>, rule: &str) {
    let failure = verdict.failure.as_ref().expect("it does not verify");
    assert!(!verdict.verified);
    assert_eq!(failure.reason, reason, "{failure:?}");
    assert_eq!(failure.certificate.as_deref(), certificate, "{failure:?}");
    assert!(failure.rule.contains(rule), "{failure:?}");
    assert!(failure.hint.is_some(), "{failure:?}");
    assert_eq!(failure.to_error().exit_code(), 4);
}

#[test]
fn a_path_is_told_from_the_leaf_to_the_anchor() {
    let tree = Tree::plain();
    let mut chain = tree.chain();
    // Superfluous certificates are not part of it.
    chain.push(Tree::plain().middle.certificate().clone());
    let verdict = tree.ask(&chain, |_| {});
    assert_eq!((verdict.verified, &verdict.failure), (true, &None));
    let told: Vec<_> = verdict.path.iter().map(|step| (step.role, step.subject.as_str())).collect();
    assert_eq!(told, [("leaf", "CN=leaf"), ("intermediate", "CN=Middle"), ("anchor", "CN=Root")]);
}

#[test]
fn time_is_blamed_on_the_certificate_that_is_out_of_it() {
    let tree = Tree::plain();
    let chain = tree.chain();
    let later = |days| tree.ask(&chain, |question| question.at += DAY * days);
    blamed(&later(101), "certificate_expired", Some("CN=leaf"), "expired on 20");
    let before = tree.ask(&chain, |question| question.at -= DAY);
    blamed(&before, "certificate_not_yet_valid", Some("CN=leaf"), "is not valid before 20");
    // A leaf that outlives its issuer comes from elsewhere: here from an issuer with a renewed certificate.
    let short = template(Profile::Intermediate { path_len: 1 }, "Middle", 10);
    let spki = public_key(tree.middle.key().as_ref()).unwrap();
    let short = tree.root.issue(&short, &spki).unwrap();
    let verdict = tree.ask(&[tree.leaf.clone(), short], |question| question.at += DAY * 20);
    blamed(&verdict, "certificate_expired", Some("CN=Middle"), "expired on 20");
}

#[test]
fn a_missing_and_a_false_issuer_are_told_apart() {
    let tree = Tree::plain();
    let alone = tree.ask(&tree.chain()[..1], |_| {});
    blamed(&alone, "certificate_unknown_issuer", Some("CN=leaf"), "is issued by CN=Middle, which is neither");
    let other = Tree::plain();
    let mixed = tree.ask(&[tree.leaf.clone(), other.middle.certificate().clone()], |_| {});
    let failure = mixed.failure.clone().unwrap();
    assert!(failure.rule.contains("is not signed by CN=Middle, whose name it gives"), "{failure:?}");
    let foreign = tree.ask(&other.chain(), |_| {});
    let failure = foreign.failure.unwrap();
    assert_eq!(failure.certificate.as_deref(), Some("CN=Middle"), "as far as it leads");
    assert!(failure.rule.contains("is not signed by CN=Root"), "{failure:?}");
    let own = tree.ask(&[other.root.certificate().clone()], |_| {});
    assert!(!own.verified);
}

#[test]
fn name_purpose_and_depth_have_their_own_words() {
    let tree = Tree::plain();
    let chain = tree.chain();
    let name = tree.ask(&chain, |question| question.name = Some("b.example"));
    blamed(&name, "certificate_wrong_name", Some("CN=leaf"), "is not valid for b.example: it names DNS:a.example");
    let purpose = tree.ask(&chain, |question| question.purpose = Purpose::Client);
    blamed(&purpose, "certificate_wrong_purpose", Some("CN=leaf"), "lacks clientAuth");
    let depth = tree.ask(&chain, |question| question.depth = Some(0));
    blamed(&depth, "certificate_refused", Some("CN=Middle"), "1 intermediates, and verify_depth allows 0");
    assert!(tree.ask(&chain, |question| question.depth = Some(1)).verified);
    let limited = Tree::new(&Additions { purpose: Some(Limit::Signing), ..Additions::default() }, 1000);
    let verdict = limited.ask(&limited.chain(), |_| {});
    blamed(&verdict, "certificate_wrong_purpose", Some("CN=Middle"), "lacks serverAuth");
}

#[test]
fn constraints_of_authorities_are_blamed_on_whom_they_concern() {
    let tree = Tree::plain();
    // The key of a leaf signs as if it were an authority's.
    let leaf_key = key();
    let leaf_spki = public_key(leaf_key.as_ref()).unwrap();
    let pretend = template(Profile::Intermediate { path_len: 0 }, "Sneaky", 90);
    let pretended = Authority::new(tree.middle.issue(&pretend, &leaf_spki).unwrap(), leaf_key).unwrap();
    let below = pretended.issue(&template(Profile::Server, "victim", 50), &spki()).unwrap();
    let sneaky = tree.middle.issue(&template(Profile::Server, "Sneaky", 90), &leaf_spki).unwrap();
    let verdict = tree.ask(&[below, sneaky, tree.middle.certificate().clone()], |_| {});
    blamed(&verdict, "certificate_refused", Some("CN=Sneaky"), "is no CA has signed another");
    let authority = tree.ask(&tree.chain()[1..], |_| {});
    blamed(&authority, "certificate_refused", Some("CN=Middle"), "CA certificate is used as the leaf");

    // One authority more than the one above allows.
    let strict = template(Profile::Intermediate { path_len: 0 }, "Middle", 1000);
    let strict = tree.root.issue(&strict, &public_key(tree.middle.key().as_ref()).unwrap()).unwrap();
    let low_key = key();
    let low = template(Profile::Intermediate { path_len: 0 }, "Low", 90);
    let low = tree.middle.issue(&low, &public_key(low_key.as_ref()).unwrap()).unwrap();
    let low = Authority::new(low, low_key).unwrap();
    let leaf = low.issue(&template(Profile::Server, "deep", 50), &spki()).unwrap();
    let verdict = tree.ask(&[leaf, low.certificate().clone(), strict], |_| {});
    blamed(&verdict, "certificate_refused", Some("CN=Middle"), "path length constraint");
}

#[test]
fn revocation_names_who_was_revoked_and_why_lists_do_not_help() {
    let tree = Tree::plain();
    let chain = tree.chain();
    let with = |lists: &[Vec<u8>]| tree.ask_with(&chain, lists, |_| {});
    let of_root = tree.list(&tree.root, &[], 10);
    let of_middle = tree.list(&tree.middle, &[], 10);
    assert!(with(&[of_root.clone(), of_middle.clone()]).verified);
    let leaf = with(&[of_root.clone(), tree.list(&tree.middle, &[&tree.leaf], 10)]);
    blamed(&leaf, "certificate_revoked", Some("CN=leaf"), "was revoked on 20");
    assert!(leaf.failure.unwrap().rule.ends_with("keyCompromise"));
    let middle = with(&[tree.list(&tree.root, &[tree.middle.certificate()], 10), of_middle.clone()]);
    blamed(&middle, "certificate_revoked", Some("CN=Middle"), "was revoked on 20");
    let missing = with(std::slice::from_ref(&of_root));
    blamed(&missing, "revocation_unknown", Some("CN=leaf"), "no revocation list of its issuer, CN=Middle");
    let lists = [of_root.clone(), of_middle];
    let stale = tree.ask_with(&chain, &lists, |question| question.at += DAY * 20);
    blamed(&stale, "revocation_stale", Some("CN=leaf"), "was to be replaced by 20");

    // A list of the right name that another authority has signed.
    let other = Tree::plain();
    let forged = with(&[of_root, other.list(&other.middle, &[], 10)]);
    assert!(!forged.verified, "{forged:?}");
}

#[test]
fn lists_of_strangers_and_nothing_at_all_are_refused_as_questions() {
    let tree = Tree::plain();
    let stranger = Authority::root(&template(Profile::Root, "Stranger", 100), key()).unwrap();
    let lists = [tree.list(&stranger, &[], 10)];
    let chain = tree.chain();
    let anchors = [tree.root.certificate().clone()];
    let question = |chain, anchors, lists| Question {
        chain,
        anchors,
        purpose: Purpose::Server,
        name: None,
        depth: None,
        lists,
        at: SystemTime::now(),
    };
    let error = verify(&question(&chain, &anchors, &lists)).unwrap_err();
    assert!(error.message().contains("CN=Stranger's, who has issued none of these"), "{error}");
    assert!(verify(&question(&[], &anchors, &[])).is_err());
    assert!(verify(&question(&chain, &[], &[])).is_err());
}
