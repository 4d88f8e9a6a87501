//! What a configuration refuses, and how it says so.
// Helpers of tests unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use std::ffi::c_int;
use std::ptr;

use qtls::abi::*;
use qtls_core::policy::KeyAlgorithm;
use qtls_pki::issue::Profile;
use support::{Ca, Config, Conn, Failed, TextSetter};

fn failed(outcome: Result<c_int, Failed>) -> (&'static str, c_int, String, Option<String>) {
    let Failed { status, fault, message, hint, sent: -1, received: -1 } = outcome.unwrap_err() else {
        panic!("an alert without a connection")
    };
    (status, fault, message, hint)
}

fn says(
    status: &'static str,
    fault: c_int,
    message: &str,
    hint: Option<&str>,
) -> (&'static str, c_int, String, Option<String>) {
    (status, fault, message.to_owned(), hint.map(str::to_owned))
}

#[test]
fn unknown_names_are_refused_at_once_with_the_nearest() {
    let config = Config::server();
    let setters: [(TextSetter, &str, &str, &str); 5] = [
        (qtls_config_set_profile, "cnsa", "unknown profile \"cnsa\"", "did you mean \"cnsa2\"?"),
        (
            qtls_config_set_groups,
            "x25519, X25519MLKEM786",
            "unknown key exchange algorithm \"X25519MLKEM786\"",
            "did you mean \"x25519mlkem768\"?",
        ),
        (
            qtls_config_set_signatures,
            "ml-dsa-66",
            "unknown signature algorithm \"ml-dsa-66\"",
            "did you mean \"ml-dsa-65\"?",
        ),
        (
            qtls_config_set_chain_signatures,
            "rsa-2049",
            "unknown signature algorithm \"rsa-2049\"",
            "did you mean \"rsa-2048\"?",
        ),
        (
            qtls_config_set_suites,
            "rot13",
            "unknown cipher suite \"rot13\"",
            "known are: aes-256-gcm, aes-128-gcm, chacha20-poly1305",
        ),
    ];
    for (setter, text, message, hint) in setters {
        assert_eq!(failed(config.try_text(setter, text)), says("QTLS_E_CONFIGURATION", 3, message, Some(hint)));
    }
    let hint = "write names with one comma or colon between each two, and none before or behind them";
    for (text, index) in [("x25519,", 2), (":x25519", 1), ("x25519,,secp384r1", 2), (" ", 1)] {
        let expected = says("QTLS_E_CONFIGURATION", 3, &format!("name {index} of the list is empty"), Some(hint));
        assert_eq!(failed(config.try_text(qtls_config_set_groups, text)), expected);
    }
}

#[test]
fn names_that_are_no_texts_are_refused() {
    let config = Config::client();
    let nul = "names has a NUL byte in it, at offset 6: \"x25519\\x00x448\"";
    assert_eq!(failed(config.try_text(qtls_config_set_groups, "x25519\0x448")), says("QTLS_E_TEXT", 2, nul, None));
    assert_eq!(failed(config.try_text(qtls_config_set_groups, "")), says("QTLS_E_TEXT", 2, "names is empty", None));
    let bytes = b"x25519\xff";
    let outcome = config.try_set(|config, error| support::groups(config, bytes, error));
    assert_eq!(failed(outcome), says("QTLS_E_TEXT", 2, "names is not UTF-8, at offset 6: \"x25519\\xff\"", None));
    let frozen = Config::client().ca(&Ca::new(KeyAlgorithm::EcdsaP256).pem()).frozen();
    for (name, status, message) in [
        (
            "a.example\0.evil.example",
            "QTLS_E_TEXT",
            "server_name has a NUL byte in it, at offset 9: \"a.example\\x00.evil.example\"",
        ),
        ("", "QTLS_E_TEXT", "server_name is empty"),
        ("a.example:443", "QTLS_E_CONFIGURATION", "\"a.example:443\" is neither a DNS name nor an IP address"),
        ("bücher.example", "QTLS_E_CONFIGURATION", "\"bücher.example\" is neither a DNS name nor an IP address"),
    ] {
        let failed = Conn::try_client(&frozen, name).err().unwrap();
        assert_eq!((failed.status, failed.message.as_str()), (status, message));
    }
}

#[test]
fn what_is_frozen_stays_as_it_is() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let config = Config::client().ca(&ca.pem());
    let early = Conn::try_client(&config, "a.example").err().unwrap();
    assert_eq!((early.status, early.fault), ("QTLS_E_NOT_FROZEN", 2));
    assert_eq!(early.hint.as_deref(), Some("call qtls_config_freeze() once everything is set"));
    let config = config.frozen();
    let expected = says(
        "QTLS_E_FROZEN",
        2,
        "the configuration is frozen already",
        Some("make another one with qtls_config_new()"),
    );
    assert_eq!(failed(config.try_freeze()), expected);
    assert_eq!(failed(config.try_text(qtls_config_set_groups, "x25519")), expected);
    assert_eq!(failed(config.try_key_pair(&ca.client("worker"), None)), expected);
    Conn::client(&config, "a.example");
}

#[test]
fn what_can_t_be_frozen_can_be_mended() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server = Config::server();
    let hint = "give it one with qtls_config_add_key_pair_files() or qtls_config_add_key_pair_pem()";
    assert_eq!(
        failed(server.try_freeze()),
        says("QTLS_E_CONFIGURATION", 3, "a server needs a certificate", Some(hint))
    );
    assert_eq!(server.key_pair(&ca.server(&["a.example"])).try_freeze(), Ok(0));

    let client = Config::client();
    let (status, fault, message, hint) = failed(client.try_freeze());
    assert_eq!(
        (status, fault, message.as_str()),
        ("QTLS_E_CONFIGURATION", 3, "there are no CA certificates to verify peers with")
    );
    assert!(hint.unwrap().contains("qtls_config_use_system_roots()"));
    let client = client.ca(&ca.pem()).text(qtls_config_set_groups, "ml-kem-1024");
    let (status, _, message, hint) = failed(client.try_freeze());
    assert_eq!(
        (status, message.as_str()),
        ("QTLS_E_CONFIGURATION", "groups[0]: ml-kem-1024 finds no classical group in this list to form a hybrid with")
    );
    assert!(hint.is_some());
    assert_eq!(client.text(qtls_config_set_groups, "ml-kem-1024, ecdhe-p384").try_freeze(), Ok(0));
}

#[test]
fn the_policy_speaks_in_the_words_of_the_header() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server = Config::server().key_pair(&ca.server(&["a.example"])).text(qtls_config_set_signatures, "ml-dsa-65");
    let (status, fault, message, hint) = failed(server.try_freeze());
    assert_eq!((status, fault), ("QTLS_E_CERTIFICATE", 4));
    assert_eq!(
        message,
        "certificate: the certificate's key is ECDSA P-256, which signatures (ml-dsa-65) doesn't allow"
    );
    assert_eq!(hint.as_deref(), Some("add \"ecdsa-p256\" to signatures, or use another certificate"));
    let server = Config::server().number(qtls_config_set_pqc_only, 0).text(qtls_config_set_profile, "cnsa2");
    let (_, _, message, _) = failed(server.try_freeze());
    assert!(message.starts_with("pqc_only: false lets clients in that have no post-quantum key exchange"), "{message}");
    let server = Config::server().text(qtls_config_set_groups, "x25519").key_pair(&ca.server(&["a.example"]));
    let (_, _, message, _) = failed(server.try_freeze());
    assert!(message.starts_with("groups: this list yields no hybrid group, but hybrid_mode is true"), "{message}");
}

#[test]
fn files_that_are_not_there_are_another_error_than_files_that_are_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let pair = ca.encrypted("a.example", "correct");
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("cert.pem"), &pair.cert).unwrap();
    std::fs::write(path("key.pem"), &pair.key).unwrap();
    std::fs::write(path("ca.pem"), ca.pem()).unwrap();
    let (cert, key) = (path("cert.pem"), path("key.pem"));
    let config = Config::server();
    assert_eq!(config.try_files(&cert, &key, Some("correct")), Ok(0));

    let missing = path("none.pem");
    let (status, fault, message, _) = failed(config.try_files(&missing, &key, None));
    assert_eq!((status, fault, message), ("QTLS_E_FILE", 3, format!("{}: does not exist", missing.display())));
    let text = |path: &std::path::Path| path.to_str().unwrap().to_owned();
    for setter in [qtls_config_add_ca_file as TextSetter, qtls_config_add_crl_file] {
        let (status, fault, message, _) = failed(config.try_text(setter, &text(&missing)));
        assert_eq!((status, fault, message), ("QTLS_E_FILE", 3, format!("{}: does not exist", missing.display())));
    }
    assert_eq!(config.try_text(qtls_config_add_ca_file, &text(&path("ca.pem"))), Ok(0));
    let (status, fault, message, _) = failed(config.try_text(qtls_config_add_crl_file, &text(&path("ca.pem"))));
    assert_eq!(
        (status, fault, message),
        ("QTLS_E_CERTIFICATE", 4, format!("{}: holds no CRL", path("ca.pem").display()))
    );

    for (passphrase, said) in [(Some("wrong"), "passphrase"), (None, "encrypted")] {
        let (status, fault, message, _) = failed(config.try_files(&cert, &key, passphrase));
        assert_eq!((status, fault), ("QTLS_E_CERTIFICATE", 4), "{message}");
        assert!(message.starts_with(&text(&key)) && message.contains(said), "{message}");
    }
    let (status, _, message, _) = failed(config.try_files(&key, &cert, None));
    assert_eq!(status, "QTLS_E_CERTIFICATE");
    assert!(message.contains("holds no certificate"), "{message}");
}

#[test]
fn keys_in_modules_are_refused_by_name() {
    let config = Config::server();
    let key = std::path::Path::new("PKCS11:token=a;object=b");
    let (status, fault, message, hint) = failed(config.try_files(std::path::Path::new("cert.pem"), key, None));
    assert_eq!((status, fault), ("QTLS_E_UNSUPPORTED", 3));
    assert_eq!(message, "this build has no HSM support: it can't use keys that are named by pkcs11: URIs");
    assert!(hint.unwrap().contains("qtls_has_feature"));
}

#[test]
fn keys_and_certificates_have_to_fit() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let (one, other) = (ca.server(&["a.example"]), ca.server(&["a.example"]));
    let config = Config::server();
    let mixed = support::pki::Pair { key: other.key, ..one.clone() };
    let (status, fault, message, _) = failed(config.try_key_pair(&mixed, None));
    assert_eq!((status, fault), ("QTLS_E_CERTIFICATE", 4), "{message}");
    let encrypted = ca.encrypted("a.example", "correct");
    assert_eq!(failed(config.try_key_pair(&encrypted, Some("wrong"))).0, "QTLS_E_CERTIFICATE");
    assert_eq!(failed(config.try_key_pair(&encrypted, None)).0, "QTLS_E_CERTIFICATE");
    let (status, _, message, _) = failed(config.try_key_pair(&encrypted, Some("cor\0rect")));
    assert_eq!(status, "QTLS_E_CONFIGURATION", "{message}");
    assert_eq!(config.try_key_pair(&encrypted, Some("correct")), Ok(0));
    let empty = support::pki::Pair { cert: String::new(), key: String::new(), der: Vec::new() };
    let (status, _, message, _) = failed(config.try_key_pair(&empty, None));
    assert_eq!(status, "QTLS_E_CERTIFICATE");
    assert!(message.starts_with("certificate 2: holds no certificate"), "{message}");

    let client = Config::client().key_pair(&ca.client("worker"));
    let expected = "a client has one certificate at most, and this configuration has one already";
    assert_eq!(failed(client.try_key_pair(&ca.client("worker"), None)), says("QTLS_E_MISUSE", 2, expected, None));
}

#[test]
fn each_side_has_settings_of_its_own() {
    let (client, server) = (Config::client(), Config::server());
    let for_servers = says("QTLS_E_MISUSE", 2, "this is for servers, and the configuration is a client's", None);
    let for_clients = says("QTLS_E_MISUSE", 2, "this is for clients, and the configuration is a server's", None);
    let required = qtls_client_auth::QTLS_CLIENT_AUTH_REQUIRED as c_int;
    assert_eq!(failed(support::try_number(&client, qtls_config_set_client_auth, required)), for_servers);
    assert_eq!(failed(support::try_number(&client, qtls_config_set_group_preference, 0)), for_servers);
    assert_eq!(failed(client.try_timeout(60)), for_servers);
    assert_eq!(failed(client.try_allowed("san_dns", "a.example")), for_servers);
    assert_eq!(failed(client.try_text(qtls_config_set_ticket_keys, "00")), for_servers);
    assert_eq!(failed(support::try_number(&server, qtls_config_set_server_name_indication, 1)), for_clients);
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let (client, server) = (client.ca(&ca.pem()).frozen(), server.key_pair(&ca.server(&["a.example"])).frozen());
    let wrong = Conn::try_client(&server, "a.example").err().unwrap();
    assert_eq!(
        (wrong.status, wrong.message.as_str()),
        ("QTLS_E_MISUSE", "the configuration is a server's, and this is for clients")
    );
    let wrong = Conn::try_server(&client).err().unwrap();
    assert_eq!(
        (wrong.status, wrong.message.as_str()),
        ("QTLS_E_MISUSE", "the configuration is a client's, and this is for servers")
    );
}

#[test]
fn values_out_of_range_are_refused() {
    let server = Config::server();
    for (setter, value, message) in [
        (qtls_config_set_client_auth as support::NumberSetter, 3, "mode is 3: it is none of qtls_client_auth"),
        (qtls_config_set_crl_mode, -1, "mode is -1: it is none of qtls_crl_mode"),
        (qtls_config_set_group_preference, 7, "preference is 7: it is none of qtls_group_preference"),
        (qtls_config_set_hybrid_mode, 2, "enabled is 2: it may be 0 or 1"),
        (qtls_config_set_pqc_only, -1, "enabled is -1: it may be 0 or 1"),
    ] {
        assert_eq!(failed(support::try_number(&server, setter, value)), says("QTLS_E_MISUSE", 2, message, None));
    }
    let message = "a session of TLS 1.3 lasts 604800 seconds at most, not 604801";
    assert_eq!(failed(server.try_timeout(604_801)), says("QTLS_E_CONFIGURATION", 3, message, None));
    let (status, _, message, hint) = failed(server.try_allowed("san_dn", "a.example"));
    assert_eq!((status, message.as_str()), ("QTLS_E_CONFIGURATION", "san_dn: unknown kind of identity \"san_dn\""));
    assert_eq!(hint.as_deref(), Some("did you mean \"san_dns\"?"));
    let (status, _, message, _) = failed(server.try_text(qtls_config_add_pin, "abc"));
    assert_eq!((status, message.as_str()), ("QTLS_E_CONFIGURATION", "\"abc\" is not the SHA-256 of a public key"));
    let (status, _, message, _) = failed(server.try_text(qtls_config_set_ticket_keys, "no key\n"));
    assert_eq!(status, "QTLS_E_CONFIGURATION");
    assert!(message.starts_with("the ticket keys:1: "), "{message}");
    let server = server.alpn("h2");
    for (protocol, message) in [
        (&b"h2"[..], "the protocol \"h2\" has been added before".to_owned()),
        (b"", "a protocol's identifier has 1 to 255 bytes, and this one has 0".to_owned()),
        (&[b'a'; 256], "a protocol's identifier has 1 to 255 bytes, and this one has 256".to_owned()),
    ] {
        let outcome = server.try_set(|config, error| support::alpn(config, protocol, error));
        assert_eq!(failed(outcome), says("QTLS_E_CONFIGURATION", 3, &message, None));
    }
}

#[test]
fn notes_tell_what_the_operator_should_hear() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server = Config::server()
        .text(qtls_config_set_groups, "kyber1024, ecdhe-p384")
        .ca(&ca.pem())
        .key_pair(&ca.leaf(Profile::Server, &["a.example"], -60, None));
    assert_eq!(server.notes(), Vec::<String>::new());
    let notes = server.frozen().notes();
    let expected = [
        "kyber1024",
        "browsers speak no hybrid group but X25519MLKEM768",
        "certificate: the chain is expired on ",
        "the CA certificates have no effect: clients are not asked for certificates",
    ];
    for text in expected {
        assert!(notes.iter().any(|note| note.contains(text)), "{text}: {notes:?}");
    }
    let client = Config::client().text(qtls_config_set_groups, "kyber1024, ecdhe-p384").ca(&ca.pem()).frozen();
    assert_eq!(client.notes().len(), 1, "{:?}", client.notes());
    assert_eq!(Config::client().ca(&ca.pem()).frozen().notes(), Vec::<String>::new());
}

#[test]
fn null_is_misuse_and_never_more() {
    support::nothing::every_function_with_null();
    let message = |outcome| {
        let (status, fault, message, _) = failed(outcome);
        assert_eq!((status, fault), ("QTLS_E_MISUSE", 2));
        message
    };
    let null = Config(ptr::null_mut());
    assert_eq!(message(null.try_freeze()), "config is NULL");
    let conn = Conn(ptr::null_mut());
    assert_eq!(message(conn.handshake()), "conn is NULL");
    let config = Config::client();
    assert_eq!(message(config.try_set(support::nothing::names)), "names is NULL");
    for role in [0, 3, -1] {
        let wrong = support::make(|error| support::new_config(role, error)).unwrap_err();
        assert_eq!(wrong.message, format!("role is {role}: it is neither QTLS_CLIENT nor QTLS_SERVER"));
    }
}

#[test]
fn references_are_counted() {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server = Config::server().key_pair(&ca.server(&["a.example"])).frozen();
    let client = Config::client().ca(&ca.pem()).frozen();
    let again = support::another(&client);
    assert_eq!(again.0, client.0);
    let ends = (Conn::client(&client, "a.example"), Conn::server(&server));
    drop((client, again, server));
    support::carry(&ends.0, &ends.1, usize::MAX).unwrap();
    assert_eq!(ends.0.info().unwrap().group, "X25519MLKEM768", "connections have references of their own");
}
