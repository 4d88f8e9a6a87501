//! Periods, purposes, authority, the path itself, and revocation.

use crate::Case;
use crate::forge::{
    CLIENT_AUTH, DAY, Forgery, authority_key_identifier, basic_constraints, crl, extended_key_usage, extension,
    key_usage, subject_key_identifier,
};
use crate::shown::{
    Der, KEYS, NAME, OK, Shown, leaf, middle, root, same, two_intermediates, with_crls, with_leaf, with_middle,
};

pub(crate) const CASES: &[Case] = &[
    ("nothing is wrong", || with_leaf(same), OK, OK, ""),
    // Validity.
    (
        "leaf expired",
        || with_leaf(|leaf| leaf.valid(-9 * DAY, -DAY)),
        "the peer's certificate chain expired on",
        "certificate has expired",
        "",
    ),
    (
        "leaf not yet valid",
        || with_leaf(|leaf| leaf.valid(DAY, 9 * DAY)),
        "the peer's certificate chain is not valid before",
        "certificate is not yet valid",
        "",
    ),
    (
        "intermediate expired",
        || with_middle(|middle| middle.valid(-9 * DAY, -DAY)),
        "the peer's certificate chain expired on",
        "certificate has expired",
        "",
    ),
    (
        "intermediate not yet valid",
        || with_middle(|middle| middle.valid(DAY, 9 * DAY)),
        "the peer's certificate chain is not valid before",
        "certificate is not yet valid",
        "",
    ),
    (
        "root expired",
        || {
            let root = Forgery::ca("root", "root", &KEYS.root).valid(-9 * DAY, -DAY).sign(&KEYS.root);
            Shown::new(&[&root], &[&leaf(same), &middle(same)])
        },
        OK,
        "certificate has expired",
        "RFC 5280 (section 6.1) gives an anchor a name and a key, no period; OpenSSL checks it as a certificate.",
    ),
    (
        "ends before it begins",
        || with_leaf(|leaf| leaf.valid(DAY, -DAY)),
        "ends before it begins",
        "certificate is not yet valid",
        "",
    ),
    // Purpose.
    (
        "a client's certificate for a server",
        || with_leaf(|leaf| leaf.with(vec![extended_key_usage(&[CLIENT_AUTH])])),
        "the peer's certificate is not made for this side of TLS (extended key usage)",
        "unsuitable certificate purpose",
        "",
    ),
    (
        "a server's certificate for a client",
        || with_leaf(same).client(),
        "the peer's certificate is not made for this side of TLS (extended key usage)",
        "unsuitable certificate purpose",
        "",
    ),
    (
        "any purpose",
        || with_leaf(|leaf| leaf.with(vec![extended_key_usage(&[&[0x55, 0x1d, 0x25, 0x00]])])),
        "the peer's certificate is not made for this side of TLS (extended key usage)",
        "unsuitable certificate purpose",
        "",
    ),
    (
        "an empty list of purposes",
        || with_leaf(|leaf| leaf.with(vec![extended_key_usage(&[])])),
        "made for no purpose at all",
        "unsuitable certificate purpose",
        "",
    ),
    ("no list of purposes", || with_leaf(|leaf| leaf.without(37)), OK, OK, ""),
    (
        "an intermediate for clients only",
        || with_middle(|middle| middle.with(vec![extended_key_usage(&[CLIENT_AUTH])])),
        "the peer's certificate is not made for this side of TLS (extended key usage)",
        "unsuitable certificate purpose",
        "",
    ),
    (
        "leaf key for encipherment only",
        || with_leaf(|leaf| leaf.with(vec![key_usage(0x20)])),
        "the leaf's key usage lacks digitalSignature",
        OK,
        "TLS 1.3 only signs; OpenSSL's purpose also covers the RSA key exchange of old versions.",
    ),
    (
        "leaf key for certificates only",
        || with_leaf(|leaf| leaf.with(vec![key_usage(0x04)])),
        "the leaf's key usage lacks digitalSignature",
        "unsuitable certificate purpose",
        "",
    ),
    ("leaf without key usage", || with_leaf(|leaf| leaf.without(15)), OK, OK, ""),
    // Authority.
    (
        "intermediate key not for certificates",
        || with_middle(|middle| middle.with(vec![key_usage(0x82)])),
        "CN=middle has signed a certificate of the chain, and its key usage lacks keyCertSign",
        "invalid CA certificate",
        "",
    ),
    ("intermediate without key usage", || with_middle(|middle| middle.without(15)), OK, OK, ""),
    (
        "intermediate without basic constraints",
        || with_middle(|middle| middle.without(19)),
        "a certificate that is no CA has signed another",
        "invalid CA certificate",
        "",
    ),
    (
        "intermediate that is no CA",
        || with_middle(|middle| middle.with(vec![basic_constraints(false, None)])),
        "a certificate that is no CA has signed another",
        "invalid CA certificate",
        "",
    ),
    (
        "a leaf as issuer",
        || {
            let issuer = Forgery::server("middle", "root", &KEYS.middle).sign(&KEYS.root);
            Shown::new(&[&root()], &[&leaf(same), &issuer])
        },
        "a certificate that is no CA has signed another",
        "invalid CA certificate",
        "",
    ),
    (
        "path length exceeded",
        || two_intermediates(Some(0), root()),
        "a CA's path length constraint is exceeded",
        "path length constraint exceeded",
        "",
    ),
    ("path length just right", || two_intermediates(Some(1), root()), OK, OK, ""),
    (
        "path length of the root exceeded",
        || {
            let root = Forgery::ca("root", "root", &KEYS.root).with(vec![basic_constraints(true, Some(0))]);
            two_intermediates(None, root.sign(&KEYS.root))
        },
        OK,
        "path length constraint exceeded",
        "As with its period, webpki keeps no path length of an anchor (RFC 5280, section 6.1.1, asks for none).",
    ),
    (
        "depth exceeded",
        || two_intermediates(None, root()).depth(1),
        "the chain has 2 intermediates, and verify_depth allows 1",
        "certificate chain too long",
        "",
    ),
    ("depth just right", || two_intermediates(None, root()).depth(2), OK, OK, ""),
    (
        "a CA certificate as leaf",
        || with_leaf(|leaf| leaf.with(vec![basic_constraints(true, None)])),
        "a CA certificate is used as the leaf",
        OK,
        "webpki keeps the roles apart; OpenSSL takes a CA for a server as well.",
    ),
    ("a leaf with a path length", || with_leaf(|leaf| leaf.with(vec![basic_constraints(false, Some(0))])), OK, OK, ""),
    // Path.
    (
        "self-signed leaf",
        || Shown::new(&[&root()], &[&Forgery::server(NAME, NAME, &KEYS.leaf).sign(&KEYS.leaf)]),
        "the peer's certificate chain leads to no trust anchor",
        "self-signed certificate",
        "",
    ),
    (
        "self-signed leaf that is trusted",
        || {
            let leaf = Forgery::server(NAME, NAME, &KEYS.leaf).sign(&KEYS.leaf);
            Shown::new(&[&leaf], &[&leaf])
        },
        OK,
        OK,
        "",
    ),
    (
        "missing intermediate",
        || Shown::new(&[&root()], &[&leaf(same)]),
        "the peer's certificate chain leads to no trust anchor",
        "unable to get local issuer certificate",
        "",
    ),
    (
        "unknown root",
        || {
            let other = Forgery::ca("other", "other", &KEYS.stranger).sign(&KEYS.stranger);
            Shown::new(&[&other], &[&leaf(same), &middle(same), &root()])
        },
        "the peer's certificate chain leads to no trust anchor",
        "self-signed certificate in certificate chain",
        "",
    ),
    (
        "another root of the same name",
        || {
            let other = Forgery::ca("root", "root", &KEYS.stranger).sign(&KEYS.stranger);
            Shown::new(&[&other], &[&leaf(same), &middle(same)])
        },
        "a signature in the peer's certificate chain is wrong",
        "certificate signature failure",
        "",
    ),
    (
        "two intermediates that issued each other",
        || {
            let one = Forgery::ca("middle", "lower", &KEYS.middle).sign(&KEYS.stranger);
            let two = Forgery::ca("lower", "middle", &KEYS.stranger).sign(&KEYS.middle);
            Shown::new(&[&root()], &[&leaf(same), &one, &two])
        },
        "the peer's certificate chain leads to no trust anchor",
        "unable to get local issuer certificate",
        "",
    ),
    (
        "cross-signed: one way leads to an unknown root, the other doesn't",
        || {
            let crossed = Forgery::ca("middle", "other", &KEYS.middle).sign(&KEYS.stranger);
            Shown::new(&[&root()], &[&leaf(same), &crossed, &middle(same)])
        },
        OK,
        "unable to get local issuer certificate",
        "webpki goes back and takes the other way; OpenSSL keeps to the first issuer that it finds.",
    ),
    (
        "a hundred and twenty wrong intermediates of the right name",
        || {
            let wrong = Forgery::ca("middle", "root", &KEYS.stranger);
            let decoys: Vec<Der> = (0..120)
                .map(|number| wrong.clone().but(|decoy| decoy.serial = vec![1, number]).sign(&KEYS.root))
                .collect();
            let leaf = leaf(same);
            let mut chain = vec![&leaf];
            chain.extend(&decoys);
            Shown::new(&[&root()], &chain)
        },
        "takes more work to verify",
        "certificate signature failure",
        "",
    ),
    // Key identifiers.
    (
        "the authority's identifier is not the issuer's",
        || {
            let middle = middle(|middle| middle.with(vec![subject_key_identifier(b"own")]));
            let leaf = leaf(|leaf| leaf.with(vec![authority_key_identifier(b"another")]));
            Shown::new(&[&root()], &[&leaf, &middle])
        },
        OK,
        "unable to get local issuer certificate",
        "RFC 5280 (section 4.2.1.1) means the identifier for finding an issuer; webpki finds it by name and signature.",
    ),
    // Revocation.
    ("nothing is revoked", || with_crls(&["other"], &["other"]), OK, OK, ""),
    ("leaf revoked", || with_crls(&[], &[NAME]), "the peer's certificate is revoked", "certificate revoked", ""),
    (
        "intermediate revoked",
        || with_crls(&["middle"], &[]),
        "the peer's certificate is revoked",
        "certificate revoked",
        "",
    ),
    (
        "no CRL of the intermediate",
        || with_leaf(same).crls(vec![crl("root", &KEYS.root, &[], (-DAY, DAY), &[])]),
        "there is no CRL that says whether a certificate of the peer's chain is revoked",
        "unable to get certificate CRL",
        "",
    ),
    (
        "stale CRL",
        || {
            with_leaf(same).crls(vec![
                crl("root", &KEYS.root, &[], (-DAY, DAY), &[]),
                crl("middle", &KEYS.middle, &[], (-3 * DAY, -DAY), &[]),
            ])
        },
        "the CRL for a certificate of the peer's chain is stale since",
        "CRL has expired",
        "",
    ),
    (
        "CRL of a stranger in the intermediate's name",
        || {
            with_leaf(same).crls(vec![
                crl("root", &KEYS.root, &[], (-DAY, DAY), &[]),
                crl("middle", &KEYS.stranger, &[], (-DAY, DAY), &[]),
            ])
        },
        "a CRL is not signed by the CA that it names",
        "CRL signature failure",
        "",
    ),
    (
        "CRL of a stranger in the root's name",
        || {
            with_leaf(same).crls(vec![
                crl("root", &KEYS.stranger, &[], (-DAY, DAY), &[]),
                crl("middle", &KEYS.middle, &[], (-DAY, DAY), &[]),
            ])
        },
        "this CRL names CN=root as its issuer, but is not signed with the key of that trust anchor",
        "CRL signature failure",
        "",
    ),
    (
        "CRL of a CA that may not sign CRLs",
        || {
            let middle = middle(|middle| middle.with(vec![key_usage(0x04)]));
            Shown::new(&[&root()], &[&leaf(same), &middle]).crls(vec![
                crl("root", &KEYS.root, &[], (-DAY, DAY), &[]),
                crl("middle", &KEYS.middle, &[], (-DAY, DAY), &[]),
            ])
        },
        "the issuer of a CRL may not sign CRLs (its key usage lacks cRLSign)",
        "key usage does not include CRL signing",
        "",
    ),
    (
        "CRL with an unknown critical extension",
        || {
            with_leaf(same).crls(vec![
                crl("root", &KEYS.root, &[], (-DAY, DAY), &[]),
                crl("middle", &KEYS.middle, &[], (-DAY, DAY), &[extension(99, true, &[0x05, 0x00])]),
            ])
        },
        "the CRL can't be used: UnsupportedCriticalExtension",
        "unhandled critical CRL extension",
        "",
    ),
];
