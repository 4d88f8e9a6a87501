//! The test vectors of Project Wycheproof for ML-DSA and ML-KEM, through the provider that handshakes use.
//!
//! Each test pins how many vectors it ran: a set that is empty, or shrinks with an update, fails.

use qtls_core::credentials::{key_kind, signing_key, signing_key_kind};
use qtls_core::policy::{CipherSuite, Group, KeyAlgorithm, Named};
use qtls_core::primitives::ml_dsa;
use qtls_core::primitives::ml_kem::{self, MlKem};
use qtls_core::provider::provider;
use rustls::SignatureScheme;
use rustls::crypto::SupportedKxGroup;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, SignatureVerificationAlgorithm};
use rustls::sign::SigningKey;
use wycheproof::mldsa_sign::TestFlag as SignFlag;
use wycheproof::mldsa_verify::TestName as VerifySet;
use wycheproof::mlkem::{MlKemParameterSet, TestName as KemSet};
use wycheproof::{ByteString, TestResult, mldsa_sign, mldsa_verify, mlkem};

/// What a parameter set of ML-DSA is called on each side.
#[derive(Clone, Copy)]
struct MlDsa {
    algorithm: KeyAlgorithm,
    scheme: SignatureScheme,
    /// The last arc of its object identifier.
    arc: u8,
    primitive: ml_dsa::MlDsa,
}

const ML_DSA: [MlDsa; 3] = [
    MlDsa {
        algorithm: KeyAlgorithm::MlDsa44,
        scheme: SignatureScheme::ML_DSA_44,
        arc: 17,
        primitive: ml_dsa::MlDsa::MlDsa44,
    },
    MlDsa {
        algorithm: KeyAlgorithm::MlDsa65,
        scheme: SignatureScheme::ML_DSA_65,
        arc: 18,
        primitive: ml_dsa::MlDsa::MlDsa65,
    },
    MlDsa {
        algorithm: KeyAlgorithm::MlDsa87,
        scheme: SignatureScheme::ML_DSA_87,
        arc: 19,
        primitive: ml_dsa::MlDsa::MlDsa87,
    },
];

impl MlDsa {
    /// What verifies a CertificateVerify of this scheme.
    fn verifier(self) -> &'static dyn SignatureVerificationAlgorithm {
        let provider = provider(Group::ALL, CipherSuite::ALL);
        let (_, algorithms) = provider
            .signature_verification_algorithms
            .mapping
            .iter()
            .find(|(scheme, _)| *scheme == self.scheme)
            .expect("the provider verifies every scheme of the policy");
        algorithms[0]
    }

    /// PKCS#8 around one of the forms of RFC 9881, section 6.
    fn pkcs8(self, form: &[u8]) -> PrivateKeyDer<'static> {
        let oid = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, self.arc];
        let algorithm = tlv(0x30, &tlv(0x06, &oid));
        PrivatePkcs8KeyDer::from(tlv(0x30, &[tlv(0x02, &[0]), algorithm, tlv(0x04, form)].concat())).into()
    }

    fn sign(self, key: &dyn SigningKey, message: &[u8]) -> Vec<u8> {
        key.choose_scheme(&[self.scheme]).expect("an ML-DSA key has its scheme").sign(message).expect("the key signs")
    }
}

#[test]
fn ml_dsa_signatures_are_judged_as_they_should_be() {
    let mut run = Vec::new();
    for (ml_dsa, set) in
        ML_DSA.into_iter().zip([VerifySet::MlDsa44Verify, VerifySet::MlDsa65Verify, VerifySet::MlDsa87Verify])
    {
        let set = mldsa_verify::TestSet::load(set).unwrap();
        let mut counts = [0; 2];
        for group in &set.test_groups {
            for test in &group.tests {
                // TLS signs with the empty context (RFC 9881 and its profile for TLS): a signature that is valid under
                // another one must not count here.
                let other_context = test.ctx.as_ref().is_some_and(|context| !context.is_empty());
                let expected = test.result == TestResult::Valid && !other_context;
                let judged = ml_dsa.verifier().verify_signature(&group.pubkey, &test.msg, &test.sig).is_ok();
                assert_eq!(judged, expected, "{} {}: {}", ml_dsa.algorithm, test.tc_id, test.comment);
                // And outside of TLS.
                let judged = ml_dsa::verify(ml_dsa.primitive, &group.pubkey, &test.msg, &test.sig).is_ok();
                assert_eq!(judged, expected, "{} {}: {}", ml_dsa.algorithm, test.tc_id, test.comment);
                counts[usize::from(expected)] += 1;
            }
        }
        run.push(counts);
    }
    assert_eq!(run, [[105, 75], [133, 77], [172, 69]], "refused and accepted, for ML-DSA-44, 65 and 87");
}

#[test]
fn ml_dsa_keys_load_or_are_refused_and_sign_for_their_public_key() {
    use mldsa_sign::TestName::{
        MlDsa44SignNoSeed, MlDsa44SignSeed, MlDsa65SignNoSeed, MlDsa65SignSeed, MlDsa87SignNoSeed, MlDsa87SignSeed,
    };
    let sets = [
        [MlDsa44SignSeed, MlDsa44SignNoSeed],
        [MlDsa65SignSeed, MlDsa65SignNoSeed],
        [MlDsa87SignSeed, MlDsa87SignNoSeed],
    ];
    let mut run = Vec::new();
    for (ml_dsa, sets) in ML_DSA.into_iter().zip(sets) {
        let (mut loaded, mut refused, mut signatures) = (0, 0, 0);
        for set in sets {
            for group in &mldsa_sign::TestSet::load(set).unwrap().test_groups {
                let bad = group.tests.iter().any(|test| {
                    test.flags
                        .iter()
                        .any(|flag| matches!(flag, SignFlag::IncorrectPrivateKeyLength | SignFlag::InvalidPrivateKey))
                        && test.result == TestResult::Invalid
                });
                let form = match (&group.privseed, &group.privkey) {
                    (Some(seed), _) => tlv(0x80, seed),
                    (None, Some(expanded)) => tlv(0x04, expanded),
                    (None, None) => panic!("a group without a key"),
                };
                let Ok(key) = signing_key(&ml_dsa.pkcs8(&form)) else {
                    assert!(bad, "{}: a valid key was refused: {:?}", ml_dsa.algorithm, group.tests[0]);
                    refused += 1;
                    continue;
                };
                assert!(!bad, "{}: an invalid key was accepted: {:?}", ml_dsa.algorithm, group.tests[0].comment);
                loaded += 1;
                assert_eq!(signing_key_kind(key.as_ref()).unwrap(), ml_dsa.algorithm.kind());
                let spki = key.public_key().unwrap();
                if let Some(public) = &group.pubkey {
                    assert!(spki.ends_with(public), "{}: another public key", ml_dsa.algorithm);
                }
                if let Some(pkcs8) = &group.privkey_pkcs8 {
                    let key = signing_key(&PrivatePkcs8KeyDer::from(pkcs8.to_vec()).into()).unwrap();
                    assert_eq!(key.public_key().unwrap(), spki);
                }
                signatures += check_signatures(ml_dsa, key.as_ref(), group);
            }
        }
        run.push((loaded, refused, signatures));
    }
    assert_eq!(run, [(44, 7, 130), (58, 7, 142), (58, 7, 124)], "keys loaded, keys refused, signatures");
}

/// Our signatures are randomized, and so differ from the vectors': both are verified.
fn check_signatures(ml_dsa: MlDsa, key: &dyn SigningKey, group: &mldsa_sign::TestGroup) -> usize {
    let spki = key.public_key().expect("the key knows its public half");
    assert_eq!(key_kind(&spki).expect("a known kind"), ml_dsa.algorithm.kind());
    // The public key fills the BIT STRING, which comes last.
    let length = group.pubkey.as_ref().map_or(0, ByteString::len);
    let public = &spki[spki.len() - length..];
    let mut checked = 0;
    for test in &group.tests {
        let plain = test.ctx.as_ref().is_none_or(ByteString::is_empty) && test.result == TestResult::Valid;
        let Some(message) = test.msg.as_ref().filter(|_| plain && length > 0) else { continue };
        let verify = |signature: &[u8]| ml_dsa.verifier().verify_signature(public, message, signature);
        verify(&test.sig).unwrap_or_else(|_| panic!("{} {}", ml_dsa.algorithm, test.tc_id));
        verify(&ml_dsa.sign(key, message)).unwrap_or_else(|_| panic!("{} {}", ml_dsa.algorithm, test.tc_id));
        checked += 1;
    }
    checked
}

/// The groups with a KEM, and where the encapsulation key stands in the client's share.
fn groups(set: MlKemParameterSet) -> Vec<(&'static dyn SupportedKxGroup, Layout)> {
    let named = match set {
        MlKemParameterSet::MlKem768 => vec![
            (Group::MlKem768, Layout::Alone),
            (Group::X25519MlKem768, Layout::First),
            (Group::SecP256r1MlKem768, Layout::Last),
        ],
        MlKemParameterSet::MlKem1024 => {
            vec![(Group::MlKem1024, Layout::Alone), (Group::SecP384r1MlKem1024, Layout::Last)]
        }
        MlKemParameterSet::MlKem512 => Vec::new(),
    };
    named.into_iter().map(|(group, layout)| (provider(&[group], CipherSuite::ALL).kx_groups[0], layout)).collect()
}

fn primitive(set: MlKemParameterSet) -> MlKem {
    match set {
        MlKemParameterSet::MlKem768 => MlKem::MlKem768,
        MlKemParameterSet::MlKem1024 => MlKem::MlKem1024,
        MlKemParameterSet::MlKem512 => panic!("no set of ML-KEM-512 is run"),
    }
}

#[derive(Clone, Copy)]
enum Layout {
    Alone,
    First,
    Last,
}

impl Layout {
    /// A share of our own with `key` in the place of its encapsulation key.
    fn share(self, group: &dyn SupportedKxGroup, key: &[u8], key_length: usize) -> Vec<u8> {
        let own = group.start().expect("the group makes a share").pub_key().to_vec();
        match self {
            Self::Alone => key.to_vec(),
            Self::First => [key, &own[key_length..]].concat(),
            Self::Last => [&own[..own.len() - key_length], key].concat(),
        }
    }
}

#[test]
fn encapsulation_keys_are_checked_in_every_group() {
    let mut run = Vec::new();
    for (set, key_length) in [
        (KemSet::MlKem768Encaps, 1184),
        (KemSet::MlKem768KeyGenSeed, 1184),
        (KemSet::MlKem1024Encaps, 1568),
        (KemSet::MlKem1024KeyGenSeed, 1568),
    ] {
        let mut counts = [0; 2];
        for group in &mlkem::TestSet::load(set).unwrap().test_groups {
            for test in &group.tests {
                let Some(key) = &test.encaps_key else { continue };
                let expected = test.result == TestResult::Valid;
                let primitive = primitive(group.parameter_set);
                let encapsulated = ml_kem::encapsulate(primitive, key);
                assert_eq!(encapsulated.is_ok(), expected, "{} {}: {}", primitive.name(), test.tc_id, test.comment);
                for (kx_group, layout) in groups(group.parameter_set) {
                    let completed = kx_group.start_and_complete(&layout.share(kx_group, key, key_length));
                    let name = kx_group.name();
                    assert_eq!(completed.is_ok(), expected, "{name:?} {}: {}", test.tc_id, test.comment);
                    counts[usize::from(expected)] += 1;
                }
            }
        }
        run.push(counts);
    }
    assert_eq!(run, [[396, 399], [0, 300], [272, 266], [0, 200]], "refused and accepted, once for each group");
}

/// rustls takes no decapsulation key from outside. The cryptographic library takes no seed: the vectors that give only a
/// seed can't be run.
#[test]
fn decapsulation_gives_the_vectors_secret_and_refuses_what_is_invalid() {
    let mut run = Vec::new();
    for (set, algorithm) in
        [(KemSet::MlKem768SemiExpandedDecaps, MlKem::MlKem768), (KemSet::MlKem1024SemiExpandedDecaps, MlKem::MlKem1024)]
    {
        let mut counts = [0; 2];
        for test in mlkem::TestSet::load(set).unwrap().test_groups.iter().flat_map(|group| &group.tests) {
            let (Some(key), Some(ciphertext)) = (&test.decaps_key, &test.ct) else { continue };
            let secret = ml_kem::DecapsulationKey::from_bytes(algorithm, key)
                .ok()
                .and_then(|key| key.decapsulate(ciphertext).ok());
            let expected = test.result == TestResult::Valid;
            match &secret {
                Some(secret) if expected => {
                    if let Some(shared) = &test.shared_secret {
                        assert_eq!(secret.octets()[..], shared[..], "{}: {}", test.tc_id, test.comment);
                    }
                }
                None if !expected => {}
                _ => panic!("{} was judged wrongly: {}", test.tc_id, test.comment),
            }
            counts[usize::from(expected)] += 1;
        }
        run.push(counts);
    }
    assert_eq!(run, [[6, 3], [6, 3]], "refused and agreed, for ML-KEM-768 and 1024");
}

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let length = value.len();
    let header = match length {
        0..=0x7f => vec![tag, length as u8],
        0x80..=0xff => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    [&header, value].concat()
}
