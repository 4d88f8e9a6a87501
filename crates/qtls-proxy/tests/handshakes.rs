//! What the two sides of a handshake agree on, and how refusals look from either side.
// Helpers of tests unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use qtls_core::Error;
use qtls_core::endpoint::{ServerCredential, ServerEndpoint, ServerOptions, Signing};
use qtls_core::facts::Facts;
use qtls_core::policy::{KeyAlgorithm, Policy};
use qtls_core::sessions::SessionLimits;
use qtls_core::verify::ClientVerifier;
use qtls_pki::issue::Profile;
use qtls_proxy::handshake::{Established, Failure, accept};
use support::{Ca, client, endpoint, handshake, on_one_thread, policy, pool, sockets};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn facts(outcome: (Result<Established, Failure>, Result<Established, Failure>)) -> (Facts, Facts) {
    (outcome.0.unwrap().facts, outcome.1.unwrap().facts)
}

fn server(policy: &Arc<Policy>, ca: &Ca, algorithm: KeyAlgorithm) -> Arc<ServerEndpoint> {
    let credential = ca.credential(Profile::Server, "a.example", algorithm);
    let signing = Signing::of(credential.kind);
    endpoint(policy, credential, signing, None)
}

#[test]
fn every_group_and_every_key_is_negotiated_and_told_alike_on_both_sides() {
    on_one_thread(async {
        let groups: [(bool, bool, &[&str], &str, bool); 8] = [
            (true, false, &["x25519mlkem768"], "X25519MLKEM768", true),
            (true, false, &["kyber1024", "ecdhe-p384"], "SecP384r1MLKEM1024", true),
            (true, true, &["ml-kem-768", "p-256"], "SecP256r1MLKEM768", true),
            (false, true, &["ml-kem-1024"], "MLKEM1024", true),
            (false, true, &["ml-kem-768"], "MLKEM768", true),
            (false, false, &["x25519"], "x25519", false),
            (false, false, &["secp384r1"], "secp384r1", false),
            (false, false, &["secp256r1"], "secp256r1", false),
        ];
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        for (hybrid_mode, pqc_only, kem, group, post_quantum) in groups {
            let policy = policy(hybrid_mode, pqc_only, Some(kem));
            let endpoint = server(&policy, &ca, KeyAlgorithm::EcdsaP256);
            let (near, far) = facts(handshake(&endpoint, &client(&policy, &ca, None)).await);
            for facts in [&near, &far] {
                assert_eq!(facts.group_name(), group);
                assert_eq!(facts.post_quantum(), post_quantum);
                assert_eq!(facts.suite_name(), "TLS_AES_256_GCM_SHA384");
                assert_eq!(facts.scheme_name(), "ecdsa_secp256r1_sha256");
                assert_eq!(facts.version_name(), "TLSv1.3");
                assert!(!facts.resumed && !facts.hello_retry_request);
            }
            assert_eq!(far.certificate.as_deref(), Some("a.example"));
            assert_eq!(far.server_name.as_deref(), Some("a.example"));
            assert_eq!(near.peer_chain.len(), 2);
        }
        let keys = [
            (KeyAlgorithm::MlDsa44, "mldsa44"),
            (KeyAlgorithm::MlDsa65, "mldsa65"),
            (KeyAlgorithm::MlDsa87, "mldsa87"),
            (KeyAlgorithm::EcdsaP384, "ecdsa_secp384r1_sha384"),
            (KeyAlgorithm::EcdsaP521, "ecdsa_secp521r1_sha512"),
            (KeyAlgorithm::Ed25519, "ed25519"),
            (KeyAlgorithm::Rsa2048, "rsa_pss_rsae_sha512"),
        ];
        let policy = policy(true, false, None);
        for (algorithm, scheme) in keys {
            let endpoint = server(&policy, &ca, algorithm);
            let (near, far) = facts(handshake(&endpoint, &client(&policy, &ca, None)).await);
            assert_eq!((near.scheme_name().as_str(), far.scheme_name().as_str()), (scheme, scheme));
        }
    });
}

#[test]
fn a_client_that_shares_another_group_is_asked_once_for_the_hybrid() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let ours = policy(true, false, Some(&["kyber1024", "ecdhe-p384"]));
        // Shares X25519MLKEM768 and X25519; supports our hybrid too.
        let theirs = policy(true, false, Some(&["x25519mlkem768", "secp384r1mlkem1024", "x25519"]));
        let endpoint = server(&ours, &ca, KeyAlgorithm::EcdsaP256);
        let (near, far) = facts(handshake(&endpoint, &client(&theirs, &ca, None)).await);
        assert_eq!(
            (near.group_name().as_str(), far.group_name().as_str()),
            ("SecP384r1MLKEM1024", "SecP384r1MLKEM1024")
        );
        assert!(near.hello_retry_request && far.hello_retry_request);
        // With a share that we take as it is, there is no second round.
        let both = policy(true, false, Some(&["secp384r1mlkem1024", "x25519mlkem768"]));
        let endpoint = server(&both, &ca, KeyAlgorithm::EcdsaP256);
        let (_, far) = facts(handshake(&endpoint, &client(&theirs, &ca, None)).await);
        assert_eq!((far.group_name().as_str(), far.hello_retry_request), ("X25519MLKEM768", false));
    });
}

#[test]
fn no_common_group_is_refused_with_the_groups_that_were_offered() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let endpoint = server(&policy(true, true, None), &ca, KeyAlgorithm::EcdsaP256);
        let classical = policy(false, false, Some(&["x25519", "p-256"]));
        let (near, far) = handshake(&endpoint, &client(&classical, &ca, None)).await;
        let far = far.unwrap_err();
        assert_eq!(far.reason(), "no_common_group");
        assert_eq!(
            Error::from(far).to_string(),
            "the peer offers no key exchange group that the policy allows; it offered: x25519, secp256r1"
        );
        let near = Error::from(near.unwrap_err());
        assert!(near.message().contains("HandshakeFailure (40)"), "{near}");
        assert_eq!(near.exit_code(), 5);
    });
}

#[test]
fn clients_are_verified_as_the_configuration_says() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let stranger = Ca::named("Another Root", KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let build = |mandatory, depth| {
            let credential = ca.credential(Profile::Server, "a.example", KeyAlgorithm::EcdsaP256);
            let verifier = ClientVerifier::new(ca.anchors(&policy, depth), mandatory);
            endpoint(&policy, credential, Signing::Inline, Some(verifier))
        };
        let good = ca.credential(Profile::Client, "client", KeyAlgorithm::MlDsa65);
        let foreign = stranger.credential(Profile::Client, "client", KeyAlgorithm::EcdsaP256);
        let wrong_purpose = ca.credential(Profile::Server, "client", KeyAlgorithm::EcdsaP256);

        let (_, far) = facts(handshake(&build(true, 1), &client(&policy, &ca, Some(&good))).await);
        assert_eq!(far.peer_chain.len(), 2);
        let (_, far) = facts(handshake(&build(false, 1), &client(&policy, &ca, None)).await);
        assert_eq!(far.peer_chain.len(), 0, "optional: none is no reason to refuse");

        for (mandatory, depth, credential, reason, message) in [
            (true, 1, None, "certificate_missing", "the peer showed no certificate, and one is required"),
            (
                true,
                1,
                Some(&foreign),
                "certificate_unknown_issuer",
                "the peer's certificate chain leads to no trust anchor",
            ),
            (
                false,
                1,
                Some(&foreign),
                "certificate_unknown_issuer",
                "the peer's certificate chain leads to no trust anchor",
            ),
            (
                true,
                1,
                Some(&wrong_purpose),
                "certificate_wrong_purpose",
                "the peer's certificate is not made for this side of TLS (extended key usage)",
            ),
            (true, 0, Some(&good), "certificate_refused", "the chain has 1 intermediates, and verify_depth allows 0"),
        ] {
            let (_, far) = handshake(&build(mandatory, depth), &client(&policy, &ca, credential)).await;
            let far = far.unwrap_err();
            assert_eq!(far.reason(), reason);
            assert_eq!(Error::from(far).message(), message);
        }
    });
}

#[test]
fn servers_are_verified_by_chain_name_and_kind_of_key() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let stranger = Ca::named("Another Root", KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let wrong_name = ca.credential(Profile::Server, "b.example", KeyAlgorithm::EcdsaP256);
        let (near, _) =
            handshake(&endpoint(&policy, wrong_name, Signing::Inline, None), &client(&policy, &ca, None)).await;
        let error = Error::from(near.unwrap_err());
        assert_eq!(error.exit_code(), 4);
        assert_eq!(error.message(), "the peer's certificate is not valid for a.example; it is valid for b.example");

        let (near, far) =
            handshake(&server(&policy, &stranger, KeyAlgorithm::EcdsaP256), &client(&policy, &ca, None)).await;
        assert_eq!(Error::from(near.unwrap_err()).message(), "the peer's certificate chain leads to no trust anchor");
        let far = Error::from(far.unwrap_err());
        assert!(far.message().contains("UnknownCA (48)"), "{far}");

        let only_rsa = Arc::new(Policy { signatures: vec![KeyAlgorithm::Rsa3072], ..(*policy).clone() });
        let (near, _) = handshake(&server(&policy, &ca, KeyAlgorithm::Rsa2048), &client(&only_rsa, &ca, None)).await;
        let error = Error::from(near.unwrap_err());
        assert_eq!(error.message(), "the certificate's key is RSA-2048, and algorithms.signature allows rsa-3072");
        assert_eq!(error.exit_code(), 4);
    });
}

#[test]
fn sessions_resume_and_a_resumed_one_names_no_certificate() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let endpoint = |sessions| {
            ServerEndpoint::new(ServerOptions {
                names: Vec::new(),
                policy: policy.clone(),
                credentials: vec![ServerCredential::new(ca.credential(
                    Profile::Server,
                    "a.example",
                    KeyAlgorithm::EcdsaP256,
                ))],
                client_verifier: None,
                sessions,
                alpn: Vec::new(),
                previous: None,
            })
            .unwrap()
        };
        for (timeout, resumes) in [(60, true), (0, false)] {
            let endpoint = endpoint(SessionLimits { timeout: Duration::from_secs(timeout), capacity: 10 }.into());
            let config = client(&policy, &ca, None);
            let mut outcome = Vec::new();
            for _ in 0..2 {
                let (near, far) = handshake(&endpoint, &config).await;
                let (mut near, mut far) = (near.unwrap(), far.unwrap());
                // The tickets come behind the handshake: they are there when the first byte is.
                far.stream.write_all(b"x").await.unwrap();
                near.stream.read_exact(&mut [0]).await.unwrap();
                outcome.push((near.facts, far.facts));
            }
            let (first, second) = (&outcome[0], &outcome[1]);
            assert!(!first.0.resumed && !first.1.resumed);
            assert_eq!((second.0.resumed, second.1.resumed), (resumes, resumes));
            assert_eq!(second.1.certificate.is_some(), !resumes);
            assert_eq!(second.0.scheme_name() == "none", resumes);
            assert_eq!(second.1.group_name(), "X25519MLKEM768", "also a resumed session exchanges keys anew");
        }
    });
}

#[test]
fn a_client_hello_in_single_bytes_and_in_small_records_is_one_client_hello() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let policy = policy(true, false, None);
        let endpoint = server(&policy, &ca, KeyAlgorithm::EcdsaP256);
        let mut hello = Vec::new();
        let mut rustls_client =
            rustls::ClientConnection::new(client(&policy, &ca, None), support::name("a.example")).unwrap();
        rustls_client.write_tls(&mut hello).unwrap();
        let small_records: Vec<u8> =
            hello[5..].chunks(50).flat_map(|piece| [&[22, 3, 1, 0, piece.len() as u8], piece].concat()).collect();
        for (records, piece) in [(&hello, 1), (&small_records, 1), (&small_records, 10_000)] {
            let (mut near, far) = sockets().await;
            near.set_nodelay(true).unwrap();
            let pool = pool();
            let writing = async {
                for piece in records.chunks(piece) {
                    near.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                let mut header = [0; 6];
                near.read_exact(&mut header).await.unwrap();
                // Dropping the socket ends the other side.
                drop(near);
                header
            };
            let (header, outcome) =
                tokio::join!(writing, accept(far, Vec::new(), |offer| endpoint.decide(offer, None), &pool));
            assert_eq!((header[0], header[5]), (22, 2), "a ServerHello");
            assert_eq!(outcome.unwrap_err().reason(), "closed");
        }
    });
}

/// What the server answers to these bytes, and how it calls that.
async fn answer(endpoint: &ServerEndpoint, bytes: &[u8]) -> (Vec<u8>, &'static str) {
    let (mut near, far) = sockets().await;
    let pool = pool();
    let talking = async {
        near.write_all(bytes).await.unwrap();
        near.shutdown().await.unwrap();
        let mut answer = Vec::new();
        near.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let (answer, outcome) = tokio::join!(talking, accept(far, Vec::new(), |offer| endpoint.decide(offer, None), &pool));
    (answer, outcome.unwrap_err().reason())
}

#[test]
fn what_is_no_client_hello_gets_the_answer_that_fits() {
    on_one_thread(async {
        let ca = Ca::new(KeyAlgorithm::EcdsaP256);
        let endpoint = server(&policy(true, false, None), &ca, KeyAlgorithm::EcdsaP256);

        let (bytes, reason) = answer(&endpoint, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").await;
        assert_eq!(reason, "plain_http");
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n") && text.contains("Use https://"), "{text}");

        let (bytes, reason) = answer(&endpoint, b"").await;
        assert_eq!((bytes, reason), (Vec::new(), "silent"));

        let (bytes, reason) = answer(&endpoint, b"\x16\x03\x01\x00\x05").await;
        assert_eq!((bytes.len(), reason), (0, "closed"));

        // A fatal alert: 21, version, length 2, level 2, description.
        let (bytes, reason) = answer(&endpoint, b"SSH-2.0-OpenSSH_9.2p1\r\n").await;
        assert_eq!((&bytes[..1], &bytes[3..6], reason), (&[21][..], &[0, 2, 2][..], "not_tls"));
        let (bytes, reason) = answer(&endpoint, b"\x16\x03\x01\xff\xff junk").await;
        assert_eq!((bytes[0], reason), (21, "not_tls"), "a record larger than any may be");
    });
}
