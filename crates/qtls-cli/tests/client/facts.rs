//! What the client says of a connection is what the server saw of it.

use std::io::Write;
use std::net::{Ipv6Addr, TcpListener};

use qtls_core::policy::KeyAlgorithm;
use qtls_core::policy::{CipherSuite, Group};
use rustls::StreamOwned;
use serde_json::json;

use crate::certificates::Ca;
use crate::program::Client;
use crate::server::{Options, Server, close_notify, shake_hands, tls};

#[test]
fn group_scheme_and_suite_are_named_by_the_registry() {
    let ca = Ca::new();
    for (algorithm, key, group, suite, expected) in [
        (
            KeyAlgorithm::EcdsaP384,
            "ECDSA P-384",
            Group::X25519MlKem768,
            CipherSuite::Aes256Gcm,
            ("X25519MLKEM768", true, "TLS_AES_256_GCM_SHA384", "ecdsa_secp384r1_sha384"),
        ),
        (
            KeyAlgorithm::MlDsa65,
            "ML-DSA-65",
            Group::SecP384r1MlKem1024,
            CipherSuite::ChaCha20Poly1305,
            ("SecP384r1MLKEM1024", true, "TLS_CHACHA20_POLY1305_SHA256", "mldsa65"),
        ),
        (
            KeyAlgorithm::Rsa2048,
            "RSA-2048",
            Group::Secp384r1,
            CipherSuite::Aes128Gcm,
            ("secp384r1", false, "TLS_AES_128_GCM_SHA256", "rsa_pss_rsae_sha512"),
        ),
    ] {
        let leaf = ca.server(algorithm);
        let options = Options { groups: &[group], suites: &[suite], ..Options::new(&leaf) };
        let server = tls(options.config(), |connection| {
            let group = u16::from(connection.conn.negotiated_key_exchange_group().unwrap().name());
            let suite = u16::from(connection.conn.negotiated_cipher_suite().unwrap().suite());
            close_notify(connection)?;
            Ok((group, suite, connection.conn.handshake_kind().unwrap()))
        });
        let facts = Client::to(server.port(), &ca.file()).arg("--json").run().code(0).json();
        let (name, post_quantum, suite_name, scheme) = expected;
        assert_eq!(facts["version"], "TLSv1.3");
        assert_eq!(facts["group"], name);
        assert_eq!(facts["post_quantum"], post_quantum);
        assert_eq!(facts["suite"], suite_name);
        assert_eq!(facts["scheme"], scheme);
        assert_eq!(facts["resumed"], false);
        assert_eq!(facts["peer"]["key"], key);
        let (seen_group, seen_suite, kind) = server.report().unwrap();
        assert_eq!((seen_group, seen_suite), (group.code_point(), suite.code_point()));
        let retried = kind == rustls::HandshakeKind::FullWithHelloRetryRequest;
        assert_eq!(facts["hello_retry_request"], retried);
        // X25519MLKEM768 is offered first, with its share and X25519's.
        assert_eq!(retried, group != Group::X25519MlKem768);
    }
}

#[test]
fn the_peer_and_its_verification_are_described() {
    let ca = Ca::new();
    let leaf = ca.server_for(KeyAlgorithm::EcdsaP256, &["localhost", "*.example.com"], 30);
    let server = tls(Options::new(&leaf).config(), close_notify);
    let facts = Client::to(server.port(), &ca.file()).arg("--json").run().code(0).json();
    assert_eq!(facts["verified"], true);
    assert_eq!(facts["server_name"], "localhost");
    assert_eq!(facts["alpn"], json!(null));
    let address: std::net::SocketAddr = facts["address"].as_str().unwrap().parse().unwrap();
    assert_eq!(address, server.address);
    let peer = &facts["peer"];
    assert_eq!(peer["subject"], "CN=Test server");
    assert_eq!(peer["issuer"], "CN=Test CA");
    assert_eq!(peer["dns_names"], json!(["localhost", "*.example.com"]));
    assert_eq!(peer["ip_addresses"], json!(["127.0.0.1", "::1"]));
    let not_after = peer["not_after"].as_str().unwrap();
    assert!(not_after.starts_with("20") && not_after.ends_with('Z'), "{not_after}");
}

#[test]
fn people_get_the_same_as_text_on_standard_error() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    let server = tls(Options::new(&leaf).config(), close_notify);
    let port = server.port();
    let finished = Client::to(port, &ca.file()).run().code(0).prints("");
    let anchors = ca.file().display().to_string();
    for line in [
        format!("Connected to localhost:{port} (127.0.0.1:{port})\n"),
        "  protocol     TLSv1.3\n".to_owned(),
        "  group        X25519MLKEM768 (post-quantum)\n".to_owned(),
        "  suite        TLS_AES_256_GCM_SHA384\n".to_owned(),
        "  signature    ecdsa_secp256r1_sha256\n".to_owned(),
        "  resumed      no\n".to_owned(),
        "  certificate  CN=Test server (ECDSA P-256)\n".to_owned(),
        "  issuer       CN=Test CA\n".to_owned(),
        "  names        localhost, 127.0.0.1, ::1\n".to_owned(),
        format!("  verified     localhost by {anchors}\n"),
    ] {
        assert!(finished.stderr.contains(&line), "no {line:?} in: {}", finished.stderr);
    }
    let quiet = Client::to(port, &ca.file()).arg("--quiet").run().code(0);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn a_classical_connection_is_called_what_it_is() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::Ed25519);
    let options = Options { groups: &[Group::X25519], ..Options::new(&leaf) };
    let server = tls(options.config(), close_notify);
    Client::to(server.port(), &ca.file())
        .run()
        .code(0)
        .says("group        x25519 (classical: a recording can be decrypted by a future quantum computer)");
}

#[test]
fn the_name_is_sent_unless_configured_otherwise_and_verified_all_the_same() {
    let ca = Ca::new();
    let leaf = ca.server_for(KeyAlgorithm::EcdsaP256, &["www.example.com"], 30);
    let server = tls(Options::new(&leaf).config(), |connection| {
        close_notify(connection)?;
        Ok(connection.conn.server_name().map(str::to_owned))
    });
    let client = || Client::to(server.port(), &ca.file()).arg("--json");
    let named = ["--server-name", "www.example.com"];

    let facts = client().args(named).run().code(0).json();
    assert_eq!(server.report().unwrap().as_deref(), Some("www.example.com"));
    assert_eq!(facts["server_name"], "www.example.com");

    let facts = client().args(named).env("QTLS__TLS__SERVER_NAME_INDICATION", "false").run().code(0).json();
    assert_eq!(server.report().unwrap(), None);
    assert_eq!(facts["server_name"], json!(null));
    assert_eq!(facts["verified"], true);

    let other = ["--server-name", "other.example.com"];
    client().args(other).env("QTLS__TLS__SERVER_NAME_INDICATION", "false").run().code(4).says("other.example.com");
}

#[test]
fn an_ipv6_address_is_connected_to_and_verified() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    let config = Options::new(&leaf).config();
    let listener = match TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        Ok(listener) => listener,
        Err(error) if error.kind() == std::io::ErrorKind::AddrNotAvailable => {
            writeln!(std::io::stderr(), "this host has no IPv6: nothing is tested").unwrap();
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let server = Server::on(listener, move |socket| {
        let mut connection = StreamOwned::new(rustls::ServerConnection::new(config.clone()).unwrap(), socket);
        shake_hands(&mut connection).and_then(|()| close_notify(&mut connection)).unwrap();
        connection.conn.server_name().map(str::to_owned)
    });
    let port = server.port();
    for arguments in [vec![format!("[::1]:{port}")], vec!["::1".to_owned(), port.to_string()]] {
        let client = Client::new().args(arguments).arg("--json").arg("--ca").arg(ca.file());
        let facts = client.run().code(0).json();
        assert_eq!(facts["address"], format!("[::1]:{port}"));
        assert_eq!(facts["verified"], true);
        // An address is no server name (RFC 6066, section 3).
        assert_eq!(server.report(), None);
        assert_eq!(facts["server_name"], json!(null));
    }
}

#[test]
fn alpn_is_offered_as_given_and_reported_as_agreed() {
    let ca = Ca::new();
    let leaf = ca.server(KeyAlgorithm::EcdsaP256);
    let options = Options { alpn: &["redis", "mqtt"], ..Options::new(&leaf) };
    let server = tls(options.config(), close_notify);
    let client = || Client::to(server.port(), &ca.file()).arg("--json");
    let facts = client().args(["--alpn", "http/1.1,mqtt"]).run().code(0).json();
    assert_eq!(facts["alpn"], "mqtt");
    assert_eq!(client().run().code(0).json()["alpn"], json!(null));
    client().args(["--alpn", "h2"]).run().code(5).says("NoApplicationProtocol").says("offer another with --alpn");
}
