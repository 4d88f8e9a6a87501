//! What is negotiated is what both sides' configurations say, and both sides are told the same.
// Helpers of tests unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use std::ffi::c_int;

use qtls::abi::*;
use qtls_core::policy::KeyAlgorithm;
use support::{Ca, Config, Conn, Info, carry, connected};

#[test]
fn each_group_and_suite_is_what_was_asked_for() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server =
        Config::server().text(qtls_config_set_profile, "compatible").key_pair(&ca.server(&["a.example"])).frozen();
    for (given, group, post_quantum) in [
        ("X25519MLKEM768", "X25519MLKEM768", true),
        ("SecP384r1MLKEM1024", "SecP384r1MLKEM1024", true),
        ("secp256r1mlkem768", "SecP256r1MLKEM768", true),
        ("ml-kem-1024", "MLKEM1024", true),
        ("x25519", "x25519", false),
        ("ecdhe-p384", "secp384r1", false),
    ] {
        for (short, suite) in
            [("aes-128-gcm", "TLS_AES_128_GCM_SHA256"), ("chacha20-poly1305", "TLS_CHACHA20_POLY1305_SHA256")]
        {
            let client = Config::client()
                .text(qtls_config_set_profile, "compatible")
                .text(qtls_config_set_groups, given)
                .text(qtls_config_set_suites, short)
                .ca(&ca.pem());
            let client = if post_quantum {
                client
            } else {
                client.number(qtls_config_set_hybrid_mode, 0).number(qtls_config_set_pqc_only, 0)
            };
            let client = client.frozen();
            let (client, server) = connected(&client, &server);
            let expected = Info {
                group: group.to_owned(),
                post_quantum,
                scheme: Some("ecdsa_secp256r1_sha256".to_owned()),
                suite: suite.to_owned(),
                resumed: false,
                retried: false,
                alpn: None,
                server_name: Some("a.example".to_owned()),
                peer_chain: 1,
            };
            assert_eq!(client.info(), Ok(expected.clone()));
            assert_eq!(server.info(), Ok(Info { peer_chain: 0, ..expected }));
        }
    }
}

#[test]
fn without_a_word_on_algorithms_the_key_exchange_is_hybrid() {
    let ca = Ca::new(KeyAlgorithm::MlDsa65);
    let server = Config::server().key_pair(&ca.server(&["a.example"])).frozen();
    let (client, server) = connected(&Config::client().ca(&ca.pem()).frozen(), &server);
    for info in [client.info().unwrap(), server.info().unwrap()] {
        assert_eq!((info.group.as_str(), info.post_quantum), ("X25519MLKEM768", true));
        assert_eq!(info.scheme.as_deref(), Some("mldsa65"));
        assert_eq!(info.suite, "TLS_AES_256_GCM_SHA384");
    }
}

#[test]
fn of_several_certificates_each_client_gets_the_one_that_it_can_verify() {
    let (modern, classical) = (Ca::new(KeyAlgorithm::MlDsa44), Ca::new(KeyAlgorithm::EcdsaP384));
    let pairs = [modern.server(&["a.example"]), classical.server(&["a.example"])];
    let server = Config::server().key_pair(&pairs[1]).key_pair(&pairs[0]).frozen();
    for (signatures, scheme, der) in
        [("ml-dsa-44, ecdsa-p384", "mldsa44", &pairs[0].der), ("ecdsa-p384", "ecdsa_secp384r1_sha384", &pairs[1].der)]
    {
        let client = Config::client()
            .text(qtls_config_set_signatures, signatures)
            .ca(&(modern.pem() + &classical.pem()))
            .frozen();
        let (client, server) = connected(&client, &server);
        assert_eq!(client.info().unwrap().scheme.as_deref(), Some(scheme));
        assert_eq!(server.info().unwrap().scheme.as_deref(), Some(scheme));
        assert_eq!(client.peer_certificate(0).as_ref(), Ok(der));
        let failed = client.peer_certificate(1).unwrap_err();
        assert_eq!(
            (failed.status, failed.message.as_str()),
            ("QTLS_E_MISUSE", "there is no certificate 1: the peer showed 1")
        );
    }
}

#[test]
fn the_server_s_order_of_groups_counts_even_where_it_costs_a_round_trip() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let groups = "SecP384r1MLKEM1024, X25519MLKEM768";
    let strict = qtls_group_preference::QTLS_PREFER_STRICT as c_int;
    let server = Config::server()
        .text(qtls_config_set_groups, groups)
        .number(qtls_config_set_group_preference, strict)
        .key_pair(&ca.server(&["a.example"]))
        .frozen();
    let client = Config::client().text(qtls_config_set_groups, "X25519MLKEM768:SecP384r1MLKEM1024").ca(&ca.pem());
    let (client, server) = connected(&client.frozen(), &server);
    for info in [client.info().unwrap(), server.info().unwrap()] {
        assert_eq!((info.group.as_str(), info.retried), ("SecP384r1MLKEM1024", true));
    }
}

#[test]
fn nothing_in_common_is_told_on_both_sides() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server =
        Config::server().text(qtls_config_set_groups, "SecP384r1MLKEM1024").key_pair(&ca.server(&["a.example"]));
    let client = Config::client().text(qtls_config_set_groups, "X25519MLKEM768").ca(&ca.pem()).frozen();
    let (client, server) = (Conn::client(&client, "a.example"), Conn::server(&server.frozen()));
    let (_, fed) = server.feed(&client.drain());
    let failed = fed.unwrap_err();
    assert_eq!((failed.status, failed.fault, failed.sent, failed.received), ("QTLS_E_NO_COMMON_GROUP", 8, 40, -1));
    assert_eq!(
        failed.message,
        "the peer offers no key exchange group that the policy allows; it offered: X25519MLKEM768"
    );
    let (_, fed) = client.feed(&server.drain());
    let failed = fed.unwrap_err();
    assert_eq!((failed.status, failed.fault, failed.sent, failed.received), ("QTLS_E_ALERT", 7, -1, 40));
    assert_eq!(failed.message, "the peer ended the handshake with the alert HandshakeFailure (40)");
    assert!(failed.hint.unwrap().contains("it may support none of the offered groups"));
}

#[test]
fn a_certificate_for_another_name_is_refused_and_both_sides_know_why() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server = Config::server().key_pair(&ca.server(&["b.example", "192.0.2.1"])).frozen();
    let client = Config::client().ca(&ca.pem()).frozen();
    let (client, server) = (Conn::client(&client, "a.example"), Conn::server(&server));
    server.feed(&client.drain()).1.unwrap();
    let failed = client.feed(&server.drain()).1.unwrap_err();
    assert_eq!((failed.status, failed.fault, failed.sent, failed.received), ("QTLS_E_PEER_WRONG_NAME", 6, 42, -1));
    assert_eq!(
        failed.message,
        "the peer's certificate is not valid for a.example; it is valid for b.example, 192.0.2.1"
    );
    // What has failed stays so, and says so.
    let again = client.handshake().unwrap_err();
    assert_eq!((again.status, again.sent), ("QTLS_E_PEER_WRONG_NAME", 42));
    assert_eq!(again.message, format!("the connection has failed before: {}", failed.message));
    assert_eq!(client.read(&mut [0; 1]).1.unwrap_err(), again);
    assert_eq!(client.write(b"a").1.unwrap_err(), again);
    assert_eq!(client.shutdown().unwrap_err(), again);
    assert_eq!(client.feed(b"\x16").1.unwrap_err(), again);
    assert_eq!(client.info().unwrap_err().status, "QTLS_E_NOT_YET");
    assert_eq!(client.want(), "QTLS_WANT_WRITE", "the alert");
    let told = server.feed(&client.drain()).1.unwrap_err();
    assert_eq!((told.status, told.received), ("QTLS_E_ALERT", failed.sent));
    assert_eq!(client.want(), "QTLS_OK", "nothing more");
}

#[test]
fn addresses_are_names_that_are_not_sent() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server = Config::server().key_pair(&ca.server(&["a.example", "192.0.2.1", "2001:db8::1"])).frozen();
    let client = Config::client().ca(&ca.pem()).frozen();
    for address in ["192.0.2.1", "2001:db8::1"] {
        let (client, server) = (Conn::client(&client, address), Conn::server(&server));
        carry(&client, &server, usize::MAX).unwrap();
        assert_eq!((client.info().unwrap().server_name, server.info().unwrap().server_name), (None, None));
    }
    let silent = Config::client().number(qtls_config_set_server_name_indication, 0).ca(&ca.pem()).frozen();
    let (client, server) = connected(&silent, &server);
    assert_eq!((client.info().unwrap().server_name, server.info().unwrap().server_name), (None, None));
}

#[test]
fn protocols_are_negotiated_by_the_server_s_order() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server = Config::server().alpn("h2").alpn("http/1.1").key_pair(&ca.server(&["a.example"])).frozen();
    let both = Config::client().alpn("http/1.1").alpn("h2").ca(&ca.pem()).frozen();
    let (client, peer) = connected(&both, &server);
    assert_eq!(client.info().unwrap().alpn.as_deref(), Some("h2"));
    assert_eq!(peer.info().unwrap().alpn.as_deref(), Some("h2"));
    let (client, peer) = connected(&Config::client().ca(&ca.pem()).frozen(), &server);
    assert_eq!((client.info().unwrap().alpn, peer.info().unwrap().alpn), (None, None));
    let other = Config::client().alpn("irc").ca(&ca.pem()).frozen();
    let (client, peer) = (Conn::client(&other, "a.example"), Conn::server(&server));
    let failed = peer.feed(&client.drain()).1.unwrap_err();
    assert_eq!((failed.status, failed.fault, failed.sent), ("QTLS_E_NO_COMMON_ALPN", 8, 120));
    assert_eq!(client.feed(&peer.drain()).1.unwrap_err().received, 120);
}

#[test]
fn clients_show_certificates_where_they_are_asked_to() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let required = qtls_client_auth::QTLS_CLIENT_AUTH_REQUIRED as c_int;
    let server = Config::server()
        .number(qtls_config_set_client_auth, required)
        .ca(&ca.pem())
        .key_pair(&ca.server(&["a.example"]))
        .frozen();
    let own = ca.client("worker");
    let (client, peer) = connected(&Config::client().ca(&ca.pem()).key_pair(&own).frozen(), &server);
    assert_eq!(peer.peer_certificate(0), Ok(own.der.clone()));
    assert_eq!(peer.identity().as_deref(), Some("CN=worker, DNS worker"));
    assert_eq!(client.identity().as_deref(), Some("CN=a.example, DNS a.example"));

    // The client's handshake is complete before the server has seen that there is no certificate.
    let anonymous = Config::client().ca(&ca.pem()).frozen();
    let (client, peer) = (Conn::client(&anonymous, "a.example"), Conn::server(&server));
    peer.feed(&client.drain()).1.unwrap();
    client.feed(&peer.drain()).1.unwrap();
    let failed = peer.feed(&client.drain()).1.unwrap_err();
    assert_eq!((failed.status, failed.fault, failed.sent), ("QTLS_E_PEER_NO_CERTIFICATE", 6, 116));
    assert_eq!(failed.message, "the peer showed no certificate, and one is required");
    let told = client.feed(&peer.drain()).1.unwrap_err();
    assert_eq!(
        (told.status, told.received, told.hint.as_deref()),
        ("QTLS_E_ALERT", 116, Some("it requires a client certificate"))
    );

    let stranger = Ca::new(KeyAlgorithm::EcdsaP256).client("worker");
    let client = Config::client().ca(&ca.pem()).key_pair(&stranger).frozen();
    let (client, peer) = (Conn::client(&client, "a.example"), Conn::server(&server));
    let failed = carry(&client, &peer, usize::MAX).unwrap_err();
    assert_eq!((failed.status, failed.sent), ("QTLS_E_PEER_UNKNOWN_ISSUER", 48));
}

#[test]
fn only_allowed_clients_get_in() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let optional = qtls_client_auth::QTLS_CLIENT_AUTH_OPTIONAL as c_int;
    let server = Config::server()
        .number(qtls_config_set_client_auth, optional)
        .ca(&ca.pem())
        .allowed("san_dns", "worker.example")
        .key_pair(&ca.server(&["a.example"]))
        .frozen();
    let client = |name: &str| Config::client().ca(&ca.pem()).key_pair(&ca.client(name)).frozen();
    let (_, peer) = connected(&client("worker.example"), &server);
    assert_eq!(peer.info().unwrap().peer_chain, 1);
    let (_, peer) = connected(&Config::client().ca(&ca.pem()).frozen(), &server);
    assert_eq!(peer.info().unwrap().peer_chain, 0, "a certificate is optional");
    let (client, peer) = (Conn::client(&client("other.example"), "a.example"), Conn::server(&server));
    let failed = carry(&client, &peer, usize::MAX).unwrap_err();
    assert_eq!((failed.status, failed.fault, failed.sent), ("QTLS_E_PEER_NOT_ALLOWED", 6, 49));
    assert_eq!(
        failed.message,
        "the peer's certificate is valid, but qtls_config_add_allowed() doesn't name it: CN=other.example, DNS other.example"
    );
}

#[test]
fn revoked_certificates_are_refused() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let (good, bad) = (ca.server(&["a.example"]), ca.server(&["a.example"]));
    let crl = ca.crl(&[&bad]);
    let client = Config::client().ca(&ca.pem()).crl(&crl).frozen();
    connected(&client, &Config::server().key_pair(&good).frozen());
    let server = Config::server().key_pair(&bad).frozen();
    let failed = carry(&Conn::client(&client, "a.example"), &Conn::server(&server), usize::MAX).unwrap_err();
    assert_eq!((failed.status, failed.sent), ("QTLS_E_PEER_REVOKED", 44));
}

#[test]
fn only_pinned_keys_are_accepted() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let (one, other) = (ca.server(&["a.example"]), ca.server(&["a.example"]));
    let pin = qtls_core::verify::Identity::of(&one.der).unwrap().spki_sha256.to_string();
    let client = Config::client().ca(&ca.pem()).text(qtls_config_add_pin, &pin).frozen();
    connected(&client, &Config::server().key_pair(&one).frozen());
    let server = Config::server().key_pair(&other).frozen();
    let failed = carry(&Conn::client(&client, "a.example"), &Conn::server(&server), usize::MAX).unwrap_err();
    assert_eq!((failed.status, failed.fault, failed.sent), ("QTLS_E_PEER_CERTIFICATE", 6, 46));
    assert!(failed.message.contains("pin"), "{}", failed.message);
}

#[test]
fn both_sides_export_the_same_secret() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server = Config::server().key_pair(&ca.server(&["a.example"])).frozen();
    let client = Config::client().ca(&ca.pem()).frozen();
    let early = Conn::client(&client, "a.example").export("EXPORTER-a", b"", 32).unwrap_err();
    assert_eq!((early.status, early.fault), ("QTLS_E_NOT_YET", 2));
    let (client, server) = connected(&client, &server);
    let secret = client.export("EXPORTER-a", b"context", 48).unwrap();
    assert_eq!(secret.len(), 48);
    assert!(secret.iter().any(|byte| *byte != 0));
    assert_eq!(server.export("EXPORTER-a", b"context", 48).unwrap(), secret);
    assert_ne!(server.export("EXPORTER-a", b"other", 48).unwrap(), secret);
    assert_ne!(server.export("EXPORTER-b", b"context", 48).unwrap(), secret);
    assert_eq!(client.export("EXPORTER-a", b"", 8160).unwrap().len(), 8160);
    for length in [0, 8161] {
        let failed = client.export("EXPORTER-a", b"", length).unwrap_err();
        assert_eq!(failed.message, format!("out_len is {length}: between 1 and 8160 bytes can be derived"));
    }
}
