//! What the library says of itself, and structures of other sizes.
#![allow(unsafe_code)]
#![allow(clippy::undocumented_unsafe_blocks, reason = "a test is the program that keeps the rules of the header")]
// Helpers of tests unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use std::mem::offset_of;
use std::ptr;

use qtls::abi::*;
use qtls_core::policy::KeyAlgorithm;
use support::{Ca, Config, Conn, NTS, call, connected, string};

#[test]
fn names_and_numbers_are_those_of_the_registries() {
    assert_eq!(string(qtls_version()).as_deref(), Some(env!("CARGO_PKG_VERSION")));
    let numbers: Vec<u32> = env!("CARGO_PKG_VERSION").split('.').map(|part| part.parse().unwrap()).collect();
    assert_eq!(qtls_version_number(), numbers[0] << 16 | numbers[1] << 8 | numbers[2]);
    assert_eq!(string(qtls_crypto_module()).as_deref(), Some("aws-lc"));
    assert_eq!(qtls_fips(), 0);
    let feature = |name: &str| unsafe { qtls_has_feature(name.as_ptr().cast(), name.len()) };
    assert_eq!([feature("hsm"), feature("fips"), feature("time travel")], [0, 0, 0]);
    let groups: Vec<_> = (0..qtls_group_count()).map(|index| qtls_group_at(index)).collect();
    assert_eq!((groups.len(), groups[0], qtls_group_at(groups.len())), (8, 0x11ec, 0));
    for group in groups {
        let name = qtls_group_name(group);
        assert_eq!(unsafe { qtls_group_code(name, NTS) }, group);
        assert_eq!(qtls_group_is_post_quantum(group) == 1, string(name).unwrap().contains("MLKEM"));
    }
    assert_eq!(string(qtls_group_name(0x11ed)).as_deref(), Some("SecP384r1MLKEM1024"));
    assert_eq!((string(qtls_group_name(0x1234)), qtls_group_is_post_quantum(0x1234)), (None, 0));
    assert_eq!(unsafe { qtls_group_code(c"kyber1024".as_ptr(), NTS) }, 0x0202, "also by its old name");
    assert_eq!(string(qtls_scheme_name(0x0905)).as_deref(), Some("mldsa65"));
    assert_eq!(string(qtls_suite_name(0x1302)).as_deref(), Some("TLS_AES_256_GCM_SHA384"));
    assert_eq!((string(qtls_scheme_name(0)), string(qtls_suite_name(0xc02b))), (None, None));
    assert_eq!(support::name(-64), "QTLS_E_PEER_WRONG_NAME");
    assert_eq!(support::name(3), "QTLS_WANT_READ|QTLS_WANT_WRITE");
    assert_eq!(support::name(-12345), "unknown");
}

#[test]
fn programs_with_a_smaller_structure_get_what_they_know() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server = Config::server().key_pair(&ca.server(&["a.example"])).frozen();
    let (client, _server) = connected(&Config::client().ca(&ca.pem()).frozen(), &server);
    // Room for a larger one, which nothing is written to that the caller doesn't know.
    #[repr(C)]
    struct Larger {
        info: qtls_info,
        later: usize,
    }
    let ask = |size: usize| {
        let mut larger: Larger = unsafe { std::mem::MaybeUninit::zeroed().assume_init() };
        (larger.info.size, larger.info.group, larger.info.suite, larger.info.peer_chain_length) = (size, 7, 7, 7);
        larger.later = 7;
        let outcome = call(|error| unsafe { qtls_conn_info(client.0, &mut larger.info, error) });
        outcome.map(|_| {
            (larger.info.size, larger.info.group, larger.info.suite, larger.info.peer_chain_length, larger.later)
        })
    };
    let whole = size_of::<qtls_info>();
    assert_eq!(ask(whole), Ok((whole, 0x11ec, 0x1302, 1, 7)));
    assert_eq!(ask(size_of::<Larger>()), Ok((whole, 0x11ec, 0x1302, 1, 7)));
    let older = offset_of!(qtls_info, suite);
    assert_eq!(ask(older), Ok((older, 0x11ec, 7, 7, 7)));
    assert_eq!(ask(size_of::<usize>()), Ok((size_of::<usize>(), 7, 7, 7, 7)));
    for size in [0, 1, size_of::<usize>() - 1] {
        let failed = ask(size).unwrap_err();
        assert_eq!(failed.message, format!("info->size is {size}: set it to sizeof(qtls_info)"));
    }
    let failed = call(|error| unsafe { qtls_conn_info(client.0, ptr::null_mut(), error) }).unwrap_err();
    assert_eq!((failed.status, failed.message.as_str()), ("QTLS_E_MISUSE", "info is NULL"));
}

#[test]
fn what_is_known_only_later_is_not_told_before() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let conn = Conn::client(&Config::client().ca(&ca.pem()).frozen(), "a.example");
    let failed = conn.info().unwrap_err();
    assert_eq!((failed.status, failed.fault), ("QTLS_E_NOT_YET", 2));
    assert_eq!(conn.peer_certificate(0).unwrap_err().status, "QTLS_E_NOT_YET");
    assert_eq!(conn.identity(), None);
}
