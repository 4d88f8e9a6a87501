//! Signatures, algorithms, and how certificates are written.

use qtls_core::policy::KeyAlgorithm;

use crate::Case;
use crate::forge::{Forgery, Key, alternative_names, extension, sequence, tlv};
use crate::shown::{
    DNS, KEYS, NAME, OK, Shown, by_openssl, flip, leaf, middle, mixed, root, same, with_leaf, with_middle,
};

pub(crate) const CASES: &[Case] = &[
    // Signatures and algorithms.
    (
        "leaf's signature wrong",
        || Shown::new(&[&root()], &[&flip(&leaf(same)), &middle(same)]),
        "a signature in the peer's certificate chain is wrong",
        "certificate signature failure",
        "",
    ),
    (
        "intermediate's signature wrong",
        || Shown::new(&[&root()], &[&leaf(same), &flip(&middle(same))]),
        "a signature in the peer's certificate chain is wrong",
        "certificate signature failure",
        "",
    ),
    (
        "leaf signed by a stranger",
        || {
            let forged = Forgery::server(NAME, "middle", &KEYS.leaf).sign(&KEYS.stranger);
            Shown::new(&[&root()], &[&forged, &middle(same)])
        },
        "a signature in the peer's certificate chain is wrong",
        "certificate signature failure",
        "",
    ),
    (
        "two signature algorithms in one certificate",
        || {
            with_leaf(|leaf| {
                leaf.but(|leaf| leaf.outer_algorithm = Some(Key::new(KeyAlgorithm::EcdsaP384).algorithm()))
            })
        },
        "names two different signature algorithms",
        "certificate signature failure",
        "",
    ),
    (
        "an algorithm that is not the issuer's",
        || with_leaf(|leaf| leaf.but(|leaf| leaf.inner_algorithm = Some(Key::new(KeyAlgorithm::MlDsa65).algorithm()))),
        "the peer's certificate chain is signed with an algorithm that algorithms.signature_chain lacks",
        "unable to get local issuer certificate",
        "",
    ),
    (
        "ECDSA with NULL parameters",
        || {
            let oid = tlv(0x06, &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02]);
            with_leaf(|leaf| leaf.but(|leaf| leaf.inner_algorithm = Some(sequence(&[&oid, &[0x05, 0x00]]))))
        },
        "the peer's certificate chain is signed with an algorithm that algorithms.signature_chain lacks",
        OK,
        "RFC 5758 (section 3.2) wants them absent; OpenSSL overlooks them.",
    ),
    (
        "ML-DSA root, ECDSA intermediate, RSA leaf",
        || mixed(KeyAlgorithm::MlDsa87, KeyAlgorithm::EcdsaP384, KeyAlgorithm::Rsa2048),
        OK,
        OK,
        "",
    ),
    (
        "RSA root, Ed25519 intermediate, ML-DSA leaf",
        || mixed(KeyAlgorithm::Rsa3072, KeyAlgorithm::Ed25519, KeyAlgorithm::MlDsa65),
        OK,
        OK,
        "",
    ),
    (
        "RSA with SHA-1",
        || by_openssl("sha1"),
        "the peer's certificate chain is signed with an algorithm that algorithms.signature_chain lacks",
        "CA signature digest algorithm too weak",
        "",
    ),
    (
        "ECDSA with SHA-1",
        || by_openssl("ecdsa-sha1"),
        "the peer's certificate chain is signed with an algorithm that algorithms.signature_chain lacks",
        "CA signature digest algorithm too weak",
        "",
    ),
    (
        "RSA with MD5",
        || by_openssl("md5"),
        "the peer's certificate chain is signed with an algorithm that algorithms.signature_chain lacks",
        "CA signature digest algorithm too weak",
        "",
    ),
    (
        "RSA with SHA-224",
        || by_openssl("sha224"),
        "the peer's certificate chain is signed with an algorithm that algorithms.signature_chain lacks",
        OK,
        "The table of the policy doesn't have this algorithm; OpenSSL's security level judges its strength only.",
    ),
    (
        "RSA-1024 leaf",
        || by_openssl("rsa-1024-leaf"),
        "the certificate's key is RSA-1024, and algorithms.signature allows",
        "EE certificate key too weak",
        "",
    ),
    (
        "RSA-1024 root",
        || by_openssl("rsa-1024-root"),
        "a signature in the peer's certificate chain is wrong",
        "CA certificate key too weak",
        "",
    ),
    ("RSA-PSS signature", || by_openssl("pss"), OK, OK, ""),
    (
        "leaf key restricted to PSS",
        || by_openssl("rsa-pss-key-leaf"),
        "the key is RSA restricted to PSS (id-RSASSA-PSS), which Q-TLS does not support",
        OK,
        "The table of the policy doesn't have this algorithm; OpenSSL's security level judges its strength only.",
    ),
    (
        "Ed448 leaf",
        || by_openssl("ed448-leaf"),
        "the key is Ed448, which Q-TLS does not support",
        OK,
        "The table of the policy doesn't have this algorithm; OpenSSL's security level judges its strength only.",
    ),
    (
        "Ed448 root",
        || by_openssl("ed448-root"),
        "the peer's certificate chain is signed with an algorithm that algorithms.signature_chain lacks",
        OK,
        "The table of the policy doesn't have this algorithm; OpenSSL's security level judges its strength only.",
    ),
    (
        "secp256k1 leaf",
        || by_openssl("secp256k1-leaf"),
        "the key is ECDSA over secp256k1, which Q-TLS does not support",
        OK,
        "The table of the policy doesn't have this algorithm; OpenSSL's security level judges its strength only.",
    ),
    (
        "P-224 root",
        || by_openssl("p224-root"),
        "the peer's certificate chain is signed with an algorithm that algorithms.signature_chain lacks",
        OK,
        "The table of the policy doesn't have this algorithm; OpenSSL's security level judges its strength only.",
    ),
    (
        "SLH-DSA root",
        || by_openssl("slh-dsa-root"),
        "the peer's certificate chain is signed with an algorithm that algorithms.signature_chain lacks",
        OK,
        "The table of the policy doesn't have this algorithm; OpenSSL's security level judges its strength only.",
    ),
    // Encoding.
    (
        "version 1 leaf",
        || {
            with_leaf(|leaf| {
                leaf.but(|leaf| {
                    leaf.version = None;
                    leaf.extensions.clear();
                })
            })
        },
        "is not of version 3",
        OK,
        "webpki takes version 3 only: others can't carry the constraints that a chain is judged by.",
    ),
    (
        "version 1 intermediate",
        || {
            with_middle(|middle| {
                middle.but(|middle| {
                    middle.version = None;
                    middle.extensions.clear();
                })
            })
        },
        "is not of version 3",
        "invalid CA certificate",
        "",
    ),
    (
        "version 1 with extensions",
        || with_leaf(|leaf| leaf.but(|leaf| leaf.version = None)),
        "is not of version 3",
        OK,
        "webpki takes version 3 only: others can't carry the constraints that a chain is judged by.",
    ),
    (
        "version 4",
        || with_leaf(|leaf| leaf.but(|leaf| leaf.version = Some(3))),
        "is not of version 3",
        OK,
        "webpki takes version 3 only: others can't carry the constraints that a chain is judged by.",
    ),
    ("serial number 0", || with_leaf(|leaf| leaf.but(|leaf| leaf.serial = vec![0])), OK, OK, ""),
    ("negative serial number", || with_leaf(|leaf| leaf.but(|leaf| leaf.serial = vec![0x80, 1])), OK, OK, ""),
    ("serial number of 25 octets", || with_leaf(|leaf| leaf.but(|leaf| leaf.serial = vec![0x42; 25])), OK, OK, ""),
    (
        "serial number with needless zeros",
        || with_leaf(|leaf| leaf.but(|leaf| leaf.serial = vec![0, 0, 1])),
        OK,
        "Could not find certificate",
        "OpenSSL's parser wants the shortest INTEGER; webpki never does arithmetic with a serial number.",
    ),
    (
        "an extension twice",
        || with_leaf(|leaf| leaf.but(|leaf| leaf.extensions.push(alternative_names(&[tlv(DNS, NAME.as_bytes())])))),
        "has an extension twice",
        "unable to get local issuer certificate",
        "",
    ),
    ("unknown extension", || with_leaf(|leaf| leaf.with(vec![extension(99, false, &[0x05, 0x00])])), OK, OK, ""),
    (
        "unknown critical extension in the leaf",
        || with_leaf(|leaf| leaf.with(vec![extension(99, true, &[0x05, 0x00])])),
        "the peer's certificate chain has a critical extension that is not understood here",
        "unhandled critical extension",
        "",
    ),
    (
        "unknown critical extension in the intermediate",
        || with_middle(|middle| middle.with(vec![extension(99, true, &[0x05, 0x00])])),
        "the peer's certificate chain has a critical extension that is not understood here",
        "unhandled critical extension",
        "",
    ),
    (
        "names that are no DER",
        || with_leaf(|leaf| leaf.with(vec![extension(17, false, &[0x30, 0x7f, 0x82])])),
        "the peer's certificate can't be parsed",
        "unable to get local issuer certificate",
        "",
    ),
    (
        "basic constraints with a TRUE of BER",
        || with_middle(|middle| middle.with(vec![extension(19, true, &sequence(&[&tlv(0x01, &[0x01])]))])),
        "the peer's certificate can't be parsed",
        OK,
        "webpki takes DER only; OpenSSL's parser takes some BER.",
    ),
    (
        "key usage of no bit",
        || with_leaf(|leaf| leaf.with(vec![extension(15, true, &tlv(0x03, &[0]))])),
        "the leaf's key usage lacks digitalSignature",
        "unable to get local issuer certificate",
        "",
    ),
    (
        "a certificate of 100 KiB",
        || with_leaf(|leaf| leaf.with(vec![extension(99, false, &tlv(0x04, &vec![0; 100 * 1024]))])),
        "the peer's certificate can't be parsed",
        OK,
        "webpki reads structures of up to 64 KiB; a Certificate message of TLS may be larger.",
    ),
    (
        "a certificate of 60 KiB",
        || with_leaf(|leaf| leaf.with(vec![extension(99, false, &tlv(0x04, &vec![0; 60 * 1024]))])),
        OK,
        OK,
        "",
    ),
];
