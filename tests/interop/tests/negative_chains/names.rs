//! Names, and the constraints that issuers put on them.

use crate::Case;
use crate::forge::{self, Forgery, extension, name_constraints, tlv};
use crate::shown::{
    DIRECTORY, DNS, IP, KEYS, MAIL, NAME, OK, Shown, URI, constrained, leaf, middle, same, with_leaf, with_names,
};

pub(crate) const CASES: &[Case] = &[
    // Names.
    (
        "wrong DNS name",
        || with_leaf(same).named("c.b.example"),
        "the peer's certificate is not valid for c.b.example; it is valid for a.b.example",
        "hostname mismatch",
        "",
    ),
    (
        "no alternative name, but a common name",
        || with_leaf(|leaf| leaf.without(17)),
        "the peer's certificate is not valid for a.b.example; it is valid for no name at all",
        OK,
        "OpenSSL takes the common name where no alternative name is of kind DNS; RFC 9525 has done away with that.",
    ),
    (
        "empty subject, critical alternative name",
        || {
            let names = extension(17, true, &tlv(0x30, &tlv(DNS, NAME.as_bytes())));
            with_leaf(|leaf| leaf.but(|leaf| leaf.subject = forge::name("")).with(vec![names]))
        },
        OK,
        OK,
        "",
    ),
    (
        "empty subject, no alternative name",
        || with_leaf(|leaf| leaf.but(|leaf| leaf.subject = forge::name("")).without(17)),
        "the peer's certificate is not valid for a.b.example; it is valid for no name at all",
        "hostname mismatch",
        "",
    ),
    ("wildcard", || with_names(&[(DNS, b"*.b.example")]), OK, OK, ""),
    (
        "wildcard for two labels",
        || with_names(&[(DNS, b"*.example")]),
        "the peer's certificate is not valid for a.b.example; it is valid for *.example",
        "hostname mismatch",
        "",
    ),
    (
        "wildcard over a whole top level",
        || with_names(&[(DNS, b"*.example")]).named("a.example"),
        "the peer's certificate is not valid for a.example; it is valid for *.example",
        "hostname mismatch",
        "",
    ),
    (
        "wildcard for its own parent",
        || with_names(&[(DNS, b"*.b.example")]).named("b.example"),
        "the peer's certificate is not valid for b.example; it is valid for *.b.example",
        "hostname mismatch",
        "",
    ),
    (
        "wildcard for a part of a label",
        || with_names(&[(DNS, b"a*.b.example")]).named("ab.b.example"),
        "the peer's certificate is not valid for ab.b.example; it is valid for a*.b.example",
        OK,
        "RFC 9525 (section 6.3) takes only a whole label as a wildcard; OpenSSL takes a part unless told otherwise.",
    ),
    (
        "wildcard in the middle",
        || with_names(&[(DNS, b"a.*.example")]),
        "the peer's certificate is not valid for a.b.example; it is valid for a.*.example",
        "hostname mismatch",
        "",
    ),
    (
        "bare wildcard",
        || with_names(&[(DNS, b"*")]),
        "the peer's certificate is not valid for a.b.example; it is valid for *",
        "hostname mismatch",
        "",
    ),
    (
        "international name in punycode",
        || with_names(&[(DNS, b"xn--9t4b11yi5a.example")]).named("xn--9t4b11yi5a.example"),
        OK,
        OK,
        "",
    ),
    (
        "international name in UTF-8",
        || with_names(&[(DNS, "테스트.example".as_bytes())]).named("xn--9t4b11yi5a.example"),
        "the peer's certificate is not valid for xn--9t4b11yi5a.example; it is valid for 테스트.example",
        "hostname mismatch",
        "",
    ),
    (
        "DNS name with NUL",
        || with_names(&[(DNS, b"a.b.example\0.evil.example")]),
        "the peer's certificate is not valid for a.b.example",
        "hostname mismatch",
        "",
    ),
    (
        "DNS name with a final dot",
        || with_names(&[(DNS, b"a.b.example.")]),
        "the peer's certificate is not valid for a.b.example; it is valid for a.b.example.",
        "hostname mismatch",
        "",
    ),
    ("IP address", || with_names(&[(IP, &[192, 0, 2, 1])]).named("192.0.2.1"), OK, OK, ""),
    (
        "IP address as a DNS name",
        || with_names(&[(DNS, b"192.0.2.1")]).named("192.0.2.1"),
        "the peer's certificate is not valid for 192.0.2.1; it is valid for 192.0.2.1",
        "IP address mismatch",
        "",
    ),
    (
        "another IP address",
        || with_names(&[(IP, &[192, 0, 2, 2])]).named("192.0.2.1"),
        "the peer's certificate is not valid for 192.0.2.1; it is valid for 192.0.2.2",
        "IP address mismatch",
        "",
    ),
    (
        "IP address of five octets",
        || with_names(&[(IP, &[192, 0, 2, 1, 0])]).named("192.0.2.1"),
        "the peer's certificate is not valid for 192.0.2.1; it is valid for [invalid: c0, 00, 02, 01, 00]",
        "IP address mismatch",
        "",
    ),
    (
        "name as URI only",
        || with_names(&[(URI, b"https://a.b.example/")]),
        "the peer's certificate is not valid for a.b.example; it is valid for https://a.b.example/",
        OK,
        "OpenSSL takes the common name where no alternative name is of kind DNS; RFC 9525 has done away with that.",
    ),
    (
        "name as mail address only",
        || with_names(&[(MAIL, b"x@a.b.example")]),
        "the peer's certificate is not valid for a.b.example; it is valid for 0x01",
        OK,
        "OpenSSL takes the common name where no alternative name is of kind DNS; RFC 9525 has done away with that.",
    ),
    (
        "no name in the list of names",
        || with_names(&[]),
        "the peer's certificate is not valid for a.b.example; it is valid for no name at all",
        OK,
        "OpenSSL takes the common name where no alternative name is of kind DNS; RFC 9525 has done away with that.",
    ),
    // Name constraints.
    ("DNS name inside what is permitted", || constrained(&[], &[(DNS, b"b.example")], &[]), OK, OK, ""),
    (
        "DNS name outside of what is permitted",
        || constrained(&[], &[(DNS, b"c.example")], &[]),
        "a CA's name constraints forbid this name",
        "permitted subtree violation",
        "",
    ),
    (
        "DNS name that only ends like what is permitted",
        || constrained(&[(DNS, b"evilb.example")], &[(DNS, b"b.example")], &[]),
        "a CA's name constraints forbid this name",
        "permitted subtree violation",
        "",
    ),
    (
        "DNS name excluded",
        || constrained(&[], &[], &[(DNS, b"example")]),
        "a CA's name constraints forbid this name",
        "excluded subtree violation",
        "",
    ),
    (
        "IP address inside what is permitted",
        || constrained(&[(IP, &[192, 0, 2, 1])], &[(IP, &[192, 0, 2, 0, 255, 255, 255, 0])], &[]),
        OK,
        OK,
        "",
    ),
    (
        "IP address outside of what is permitted",
        || constrained(&[(IP, &[192, 0, 3, 1])], &[(IP, &[192, 0, 2, 0, 255, 255, 255, 0])], &[]),
        "a CA's name constraints forbid this name",
        "permitted subtree violation",
        "",
    ),
    (
        "IP address excluded",
        || constrained(&[(IP, &[192, 0, 2, 1])], &[], &[(IP, &[192, 0, 2, 0, 255, 255, 255, 0])]),
        "a CA's name constraints forbid this name",
        "excluded subtree violation",
        "",
    ),
    (
        "IP constraint with holes in its mask",
        || constrained(&[(IP, &[192, 0, 2, 1])], &[(IP, &[192, 0, 2, 0, 255, 0, 255, 0])], &[]),
        "name constraints are malformed",
        OK,
        "RFC 5280 (section 4.2.1.10) wants CIDR masks; OpenSSL applies any.",
    ),
    (
        "mail address outside of what is permitted",
        || constrained(&[(MAIL, b"x@c.example")], &[(MAIL, b"b.example")], &[]),
        "a CA's name constraints forbid this name",
        "permitted subtree violation",
        "",
    ),
    (
        "mail address excluded",
        || constrained(&[(MAIL, b"x@b.example")], &[], &[(MAIL, b"b.example")]),
        "a CA's name constraints forbid this name",
        "excluded subtree violation",
        "",
    ),
    (
        "mail address inside what is permitted",
        || constrained(&[(MAIL, b"x@b.example")], &[(MAIL, b"b.example")], &[]),
        "a CA's name constraints forbid this name",
        OK,
        "webpki can't process constraints of this kind and refuses the name, as RFC 5280 (section 4.2.1.10) asks for.",
    ),
    ("mail constraint, and no mail address", || constrained(&[], &[(MAIL, b"b.example")], &[]), OK, OK, ""),
    (
        "URI outside of what is permitted",
        || constrained(&[(URI, b"https://c.example/")], &[(URI, b"b.example")], &[]),
        "a CA's name constraints forbid this name",
        "permitted subtree violation",
        "",
    ),
    (
        "URI inside what is permitted",
        || constrained(&[(URI, b"https://b.example/")], &[(URI, b"b.example")], &[]),
        "a CA's name constraints forbid this name",
        OK,
        "webpki can't process constraints of this kind and refuses the name, as RFC 5280 (section 4.2.1.10) asks for.",
    ),
    (
        "subject outside of what is permitted",
        || constrained(&[], &[(DIRECTORY, &forge::name("another"))], &[]),
        "a CA's name constraints forbid this name",
        "permitted subtree violation",
        "",
    ),
    (
        "subject inside what is permitted",
        || constrained(&[], &[(DIRECTORY, &forge::name(NAME))], &[]),
        "a CA's name constraints forbid this name",
        OK,
        "webpki can't process constraints of this kind and refuses the name, as RFC 5280 (section 4.2.1.10) asks for.",
    ),
    (
        "constraints of the root",
        || {
            let constraints = name_constraints(&[tlv(DNS, b"c.example")], &[]);
            let root = Forgery::ca("root", "root", &KEYS.root).with(vec![constraints]).sign(&KEYS.root);
            Shown::new(&[&root], &[&leaf(same), &middle(same)])
        },
        "a CA's name constraints forbid this name",
        "permitted subtree violation",
        "",
    ),
];
