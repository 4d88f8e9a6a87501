//! Which certificate and which virtual host a client gets, and the reason that is counted.
// Helpers of tests unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use qtls_core::client_hello::Offer;
use qtls_core::endpoint::{OnlyFor, ServerCredential, ServerEndpoint, ServerOptions};
use qtls_core::policy::{KeyAlgorithm, Policy};
use qtls_core::sessions::SessionLimits;
use qtls_pki::issue::Profile;
use rustls::SignatureScheme as Scheme;
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use support::Ca;

const ALL: [Scheme; 4] =
    [Scheme::ECDSA_NISTP256_SHA256, Scheme::ML_DSA_65, Scheme::RSA_PSS_SHA256, Scheme::RSA_PKCS1_SHA256];

fn endpoint(order: &[KeyAlgorithm], credentials: Vec<ServerCredential>) -> ServerEndpoint {
    ServerEndpoint::new(ServerOptions {
        names: Vec::new(),
        policy: Arc::new(Policy { signatures: order.to_vec(), ..Policy::default() }),
        credentials,
        client_verifier: None,
        sessions: SessionLimits { timeout: Duration::ZERO, capacity: 0 }.into(),
        alpn: Vec::new(),
        previous: None,
    })
    .unwrap()
}

/// Name of the certificate and reason, for a client that offers these schemes.
fn chosen(endpoint: &ServerEndpoint, offer: &Offer, client: &str) -> (String, String) {
    let decision = endpoint.decide(offer, Some(client.parse().unwrap()));
    (decision.credential.name.clone(), decision.reason.to_string())
}

fn offer(schemes: &[Scheme], chain_schemes: Option<&[Scheme]>) -> Offer {
    Offer {
        server_name: Some("a.example".to_owned()),
        groups: vec![0x11ec],
        shares: vec![0x11ec],
        schemes: schemes.to_vec(),
        chain_schemes: chain_schemes.map(<[Scheme]>::to_vec),
        suites: vec![0x1302],
        ..Offer::default()
    }
}

struct Own {
    ecdsa: Ca,
    ml_dsa: Ca,
}

impl Own {
    fn new() -> Self {
        Self { ecdsa: Ca::new(KeyAlgorithm::EcdsaP256), ml_dsa: Ca::new(KeyAlgorithm::MlDsa65) }
    }

    fn credential(&self, name: &str) -> ServerCredential {
        let (ca, algorithm) = match name {
            "ml-dsa" => (&self.ml_dsa, KeyAlgorithm::MlDsa65),
            "ecdsa" => (&self.ecdsa, KeyAlgorithm::EcdsaP256),
            "rsa" => (&self.ecdsa, KeyAlgorithm::Rsa2048),
            _ => unreachable!(),
        };
        let key = support::new_key(algorithm);
        let chain = ca.chain(Profile::Server, "a.example", key.as_ref());
        let credential =
            qtls_core::credentials::Credential::from_chain(name, "a test's chain", chain, key, "a test's key").unwrap();
        ServerCredential::new(credential)
    }
}

const CLIENT: &str = "192.0.2.1";

#[test]
fn the_servers_order_decides_among_what_the_client_can_verify() {
    let own = Own::new();
    let all = || ["ecdsa", "rsa", "ml-dsa"].map(|name| own.credential(name)).into_iter().collect();
    let pq_first = endpoint(&[KeyAlgorithm::MlDsa65, KeyAlgorithm::EcdsaP256, KeyAlgorithm::Rsa2048], all());
    let classical_first = endpoint(&[KeyAlgorithm::EcdsaP256, KeyAlgorithm::Rsa2048, KeyAlgorithm::MlDsa65], all());
    let get = |endpoint: &ServerEndpoint, schemes: &[Scheme]| chosen(endpoint, &offer(schemes, None), CLIENT);
    let pair = |name: &str, reason: &str| (name.to_owned(), reason.to_owned());

    assert_eq!(get(&pq_first, &ALL), pair("ml-dsa", "ml-dsa-65: offered"));
    assert_eq!(get(&classical_first, &ALL), pair("ecdsa", "ecdsa-p256: offered"));
    assert_eq!(get(&pq_first, &[Scheme::ECDSA_NISTP256_SHA256]), pair("ecdsa", "ecdsa-p256: client lacks ml-dsa-65"));
    assert_eq!(
        get(&classical_first, &[Scheme::ML_DSA_65]),
        pair("ml-dsa", "ml-dsa-65: client lacks ecdsa-p256"),
        "the first that was passed over is the reason"
    );
    let (_, reason) = get(&pq_first, &[Scheme::ED25519]);
    assert_eq!(reason, "ml-dsa-65: nothing fits, client lacks ml-dsa-65");
    assert!(pq_first.decide(&offer(&[Scheme::ED25519], None), None).scheme.is_none());
}

#[test]
fn a_chain_has_to_be_acceptable_too() {
    let own = Own::new();
    let both = || ["ecdsa", "rsa"].map(|name| own.credential(name)).into_iter().collect();
    let endpoint = endpoint(&[KeyAlgorithm::Rsa2048, KeyAlgorithm::EcdsaP256], both());
    // The RSA leaf is signed by ECDSA. With signature_algorithms_cert, that list decides on chains …
    let schemes = [Scheme::RSA_PSS_SHA256, Scheme::ECDSA_NISTP256_SHA256];
    assert_eq!(chosen(&endpoint, &offer(&schemes, Some(&[Scheme::ECDSA_NISTP256_SHA256])), CLIENT).0, "rsa");
    // … and here it lacks what both chains are signed with: RFC 9846 has the server send one all the same.
    let (name, reason) = chosen(&endpoint, &offer(&schemes, Some(&[Scheme::RSA_PKCS1_SHA256])), CLIENT);
    assert_eq!(name, "rsa");
    assert_eq!(reason, "rsa-2048: nothing better, client lacks ecdsa_secp256r1_sha256 for the chain of rsa-2048");
    // Without it, signature_algorithms speaks for both.
    let (name, reason) = chosen(&endpoint, &offer(&[Scheme::RSA_PSS_SHA256], None), CLIENT);
    assert_eq!(name, "rsa");
    assert!(reason.starts_with("rsa-2048: nothing better"), "{reason}");
}

#[test]
fn a_certificate_can_be_kept_to_the_clients_that_trust_it() {
    let own = Own::new();
    let only_for = OnlyFor { names: vec!["pq.example".to_owned()], networks: vec!["10.0.0.0/8".parse().unwrap()] };
    let credentials = vec![
        own.credential("ecdsa"),
        ServerCredential { only_for: Some(only_for.clone()), ..own.credential("ml-dsa") },
    ];
    let endpoint = endpoint(&[KeyAlgorithm::MlDsa65, KeyAlgorithm::EcdsaP256], credentials);
    let offer = offer(&ALL, None);
    assert_eq!(
        chosen(&endpoint, &offer, CLIENT),
        ("ecdsa".to_owned(), "ecdsa-p256: ml-dsa-65 is kept to others".to_owned())
    );
    assert_eq!(chosen(&endpoint, &offer, "10.1.2.3").0, "ml-dsa");
    assert_eq!(chosen(&endpoint, &offer, "::ffff:10.1.2.3").0, "ml-dsa");
    let by_name = Offer { server_name: Some("PQ.example".to_owned()), ..offer };
    assert_eq!(chosen(&endpoint, &by_name, CLIENT).0, "ml-dsa");

    let kept = ServerCredential { only_for: Some(only_for), ..own.credential("ecdsa") };
    let error = ServerEndpoint::new(ServerOptions {
        names: Vec::new(),
        policy: Arc::new(Policy::default()),
        credentials: vec![kept],
        client_verifier: None,
        sessions: SessionLimits { timeout: Duration::ZERO, capacity: 0 }.into(),
        alpn: Vec::new(),
        previous: None,
    })
    .unwrap_err();
    assert_eq!(error.message(), "there is no certificate for every client");
}

#[test]
fn a_certificate_that_can_never_be_chosen_is_told() {
    let own = Own::new();
    let endpoint = endpoint(
        &[KeyAlgorithm::EcdsaP256, KeyAlgorithm::MlDsa65],
        vec![own.credential("ecdsa"), own.credential("ecdsa"), own.credential("ml-dsa")],
    );
    assert_eq!(
        endpoint.never_chosen(),
        ["the certificate ecdsa can never be chosen: ecdsa is of the same kind (ECDSA P-256) and comes first"]
    );
}

#[test]
fn networks_are_read_and_bad_ones_refused() {
    use qtls_core::endpoint::Network;
    let inside = |network: &str, address: &str| network.parse::<Network>().unwrap().contains(address.parse().unwrap());
    assert!(inside("0.0.0.0/0", "203.0.113.9") && inside("::/0", "2001:db8::1"));
    assert!(!inside("0.0.0.0/0", "2001:db8::1"));
    assert!(inside("192.0.2.7/32", "192.0.2.7") && !inside("192.0.2.7/32", "192.0.2.6"));
    assert!(inside("fd00::/8", "fd12::1") && !inside("fd00::/8", "fe80::1"));
    for (text, why) in [
        ("10.0.0.0", "the length of the prefix is missing"),
        ("10.0.0/8", "the address can't be read"),
        ("10.0.0.0/33", "the length of the prefix is not from 0 to 32"),
        ("::/129", "the length of the prefix is not from 0 to 128"),
    ] {
        assert_eq!(text.parse::<Network>().unwrap_err().message(), format!("\"{text}\" is no network: {why}"));
    }
}

mod hosts {
    //! The same through a configuration.

    use super::*;
    use qtls_proxy::config::{Source, load_server};
    use qtls_proxy::explain::explain;
    use qtls_proxy::plan::Plan;
    use rustls::{ClientConnection, RootCertStore};

    struct Files(tempfile::TempDir);

    /// Made once: there are four RSA-4096 keys among it.
    static FILES: LazyLock<Files> = LazyLock::new(Files::new);

    impl Files {
        fn new() -> Self {
            let files = Self(tempfile::tempdir().unwrap());
            let options = qtls_pki::quickstart::Options::new(
                files.0.path().join("pki"),
                vec!["a.example".parse().unwrap(), "*.b.example".parse().unwrap()],
            );
            qtls_pki::quickstart::create(&options).unwrap();
            files
        }

        fn plan(&self, text: &str) -> qtls_core::Result<Plan> {
            // A file for each thread of the test.
            let directory = self.0.path().join(format!("{:?}", std::thread::current().id()));
            std::fs::create_dir_all(&directory).unwrap();
            let file = directory.join("server.json");
            let pki = self.0.path().join("pki");
            std::fs::write(&file, text.replace("PKI", &pki.display().to_string())).unwrap();
            Plan::new(load_server(&Source { file: Some(file), ..Source::default() })?)
        }

        /// The message, without the directory.
        fn error(&self, text: &str) -> String {
            self.plan(text)
                .unwrap_err()
                .to_string()
                .replace(&format!("{}/{:?}", self.0.path().display(), std::thread::current().id()), "DIR")
                .replace(&self.0.path().display().to_string(), "DIR")
        }
    }

    fn hello(name: &str) -> Vec<u8> {
        let policy = Policy::default();
        let config =
            rustls::ClientConfig::builder_with_provider(qtls_core::provider::provider(&policy.groups, &policy.suites))
                .with_protocol_versions(&[&rustls::version::TLS13])
                .unwrap()
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(config), support::name(name)).unwrap();
        let mut records = Vec::new();
        client.write_tls(&mut records).unwrap();
        records
    }

    const MIXED: &str = r#"{
      "certificates": {
        "server_cert": "PKI/server-cert-ecdsa-p384.pem", "server_key": "PKI/server-key-ecdsa-p384.pem",
        "additional": [ { "cert": "PKI/server-cert-ml-dsa-65.pem", "key": "PKI/server-key-ml-dsa-65.pem" } ]
      },
      "algorithms": { "signature": ["ecdsa-p384", "ml-dsa-65", "rsa-4096"] },
      "virtual_hosts": [
        { "names": ["a.example"], "algorithms": { "signature": ["ml-dsa-65", "ecdsa-p384"] },
          "tls": { "pqc_only": true } },
        { "names": ["*.b.example", "c.example"],
          "certificates": { "server_cert": "PKI/server-cert-rsa-4096.pem", "server_key": "PKI/server-key-rsa-4096.pem" },
          "upstream": { "protocol": "tcp", "servers": ["127.0.0.1:1"] } }
      ]
    }"#;

    #[test]
    fn a_name_decides_on_certificates_policy_and_upstream() {
        let files = &*FILES;
        let plan = files.plan(MIXED).unwrap();
        let get = |name: &str| explain(&plan, &hello(name), None, None).unwrap();

        let top = get("other.example");
        assert_eq!((top.virtual_host, top.certificate.as_str()), (None, "server-cert-ecdsa-p384"));
        assert_eq!(top.reason, "ecdsa-p384: offered");
        let first = get("A.example");
        assert_eq!((first.virtual_host, first.certificate.as_str()), (Some(0), "server-cert-ml-dsa-65"));
        assert_eq!((first.group.as_deref(), first.scheme.as_deref()), (Some("X25519MLKEM768"), Some("mldsa65")));
        for name in ["x.b.example", "c.example"] {
            let second = get(name);
            assert_eq!((second.virtual_host, second.certificate.as_str()), (Some(1), "server-cert-rsa-4096"));
        }
        let summary = plan.summary();
        assert_eq!(summary.len(), 3);
        assert!(summary[1].starts_with("a.example → the built-in page; groups: X25519MLKEM768, SecP384r1MLKEM1024, "));
        assert!(summary[2].starts_with("*.b.example, c.example → tcp upstream 127.0.0.1:1; "), "{}", summary[2]);
        assert!(
            plan.warnings.iter().any(|warning| warning.starts_with(
                "a.example: browsers are given the certificate server-cert-ml-dsa-65 (ML-DSA-65), since they offer its"
            )),
            "{:?}",
            plan.warnings
        );
    }

    #[test]
    fn what_is_wrong_in_a_virtual_host_is_told_with_its_line() {
        let files = &*FILES;
        let change = |from: &str, to: &str| {
            assert!(MIXED.contains(from));
            files.error(&MIXED.replace(from, to))
        };
        assert_eq!(
            change("\"c.example\"]", "\"A.example\"]"),
            "DIR/server.json:10:36: virtual_hosts[1].names[1]: \"a.example\" is already a name of virtual_hosts[0]\n  \
             hint: a name belongs to one virtual host: remove it from the other, or give one of them `alpn`"
        );
        assert_eq!(
            change("[\"ml-dsa-65\", \"ecdsa-p384\"]", "[\"ml-dsa-56\"]"),
            "DIR/server.json:8:65: virtual_hosts[0].algorithms.signature[0]: unknown signature algorithm \"ml-dsa-56\"\n  \
             hint: did you mean \"ml-dsa-65\"?"
        );
        let message = change("PKI/server-key-rsa-4096.pem", "PKI/server-key.pem");
        assert!(
            message.starts_with(
                "DIR/server.json:11:44: virtual_hosts[1].certificates.server_cert: DIR/pki/server-cert-rsa-4096.pem: "
            ),
            "{message}"
        );
        let message = change("\"key\": \"PKI/server-key-ml-dsa-65.pem\" }", "\"key\": \"PKI/none.pem\" }");
        assert!(
            message
                .starts_with("DIR/server.json:4:91: certificates.additional[0].key: DIR/pki/none.pem: does not exist"),
            "{message}"
        );
        let message = change("\"names\": [\"a.example\"]", "\"names\": []");
        assert!(message.contains("virtual_hosts[0].names: the list is empty"), "{message}");
        let message = change(
            "\"key\": \"PKI/server-key-ml-dsa-65.pem\" }",
            "\"key\": \"PKI/server-key-ml-dsa-65.pem\", \"only_for\": {} }",
        );
        assert!(message.contains("certificates.additional[0].only_for: keeps the certificate to nobody"), "{message}");
    }

    #[test]
    fn what_is_no_client_hello_is_told() {
        let files = &*FILES;
        let plan = files.plan(MIXED).unwrap();
        let whole = hello("a.example");
        let error = explain(&plan, &whole[..100], None, None).unwrap_err();
        assert_eq!(error.message(), "the ClientHello is incomplete");
        assert!(
            explain(&plan, b"GET / HTTP/1.1", None, None).unwrap_err().message().starts_with("this is no ClientHello")
        );
        assert_eq!(
            explain(&plan, &whole[5..], None, None).unwrap(),
            explain(&plan, &whole, None, None).unwrap(),
            "with or without records"
        );
    }
}
