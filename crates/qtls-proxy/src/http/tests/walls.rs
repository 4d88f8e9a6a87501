//! Names are walls, and who a client is comes from its certificate alone.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Request;
use qtls_core::credentials::{generate, signing_key};
use qtls_core::policy::KeyAlgorithm;
use qtls_pki::issue::{AlternativeName, Authority, Profile, Template, public_key};
use rustls::pki_types::CertificateDer;

use super::harness::{Front, Origin, empty, facts, fields, head, read, rest, run};
use crate::hosts::Names;
use tokio::io::AsyncWriteExt;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// A connection that was made for `host` of two virtual hosts, 1 and 2; 0 is the server at the top.
fn front(origin: &Origin, host: usize) -> Front {
    let mut front = Front::proxy(&[origin.port]);
    front.names = Arc::new(Names::of(&[("a.example", 1), ("b.example", 2)]));
    front.host = host;
    front
}

#[test]
fn a_request_for_another_host_than_the_handshake_gets_421() {
    run(async {
        let origin = Origin::answering(OK).await;
        for (host, name, passes) in [
            (1, "a.example", true),
            (1, "A.Example:8443", true),
            (1, "b.example", false),
            (1, "c.example", false),
            (2, "a.example", false),
            (0, "c.example", true),
            (0, "192.0.2.1:8443", true),
            (0, "[2001:db8::1]:8443", true),
            (0, "b.example", false),
        ] {
            let before = origin.seen().len();
            let (answer, _) =
                front(&origin, host).talk(format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n")).await;
            let status = if passes { "HTTP/1.1 200 OK\r\n" } else { "HTTP/1.1 421 Misdirected Request\r\n" };
            assert!(answer.starts_with(status), "{name} on {host}: {answer}");
            assert_eq!(origin.seen().len() > before, passes, "{name} on {host}: what the upstream saw");
            if !passes {
                assert!(answer.ends_with(
                    "421 Misdirected Request: this connection was made for another host: connect to the one that the \
                     request is for\n"
                ), "{answer}");
            }
        }
        // The target counts as well as the field.
        let (answer, _) = front(&origin, 1)
            .talk("GET http://b.example/ HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
            .await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    });
}

#[test]
fn in_http2_the_authority_is_the_wall() {
    run(async {
        let origin = Origin::answering(OK).await;
        let front = front(&origin, 1);
        let (mut client, _) = front.connect_h2().await;
        for (authority, status) in [("a.example", 200), ("b.example", 421), ("a.example", 200)] {
            let request = Request::get(format!("https://{authority}/")).body(empty()).unwrap();
            assert_eq!(read(client.send(request).await.unwrap()).await.0, status, "{authority}");
        }
        assert_eq!(origin.seen().len(), 2);
    });
}

/// A leaf for a client with a Korean name, and its issuer.
fn chain() -> Vec<CertificateDer<'static>> {
    chain_of(KeyAlgorithm::EcdsaP256)
}

fn chain_of(algorithm: KeyAlgorithm) -> Vec<CertificateDer<'static>> {
    let now = SystemTime::now();
    let template = |profile, names| Template {
        profile,
        common_name: Some("가, worker".to_owned()),
        organization: None,
        names,
        not_before: now - Duration::from_secs(60),
        not_after: now + Duration::from_secs(60),
    };
    let key = || signing_key(&generate(algorithm).unwrap()).unwrap();
    let root = Authority::root(&template(Profile::Root, Vec::new()), key()).unwrap();
    let names = vec![
        AlternativeName::Dns("client.example".to_owned()),
        AlternativeName::Ip("192.0.2.9".parse().unwrap()),
        AlternativeName::Uri("spiffe://a.example/b".to_owned()),
    ];
    let leaf = root.issue(&template(Profile::Client, names), &public_key(key().as_ref()).unwrap()).unwrap();
    vec![leaf, root.certificate().clone()]
}

#[test]
fn the_upstream_is_told_whom_the_certificate_names() {
    run(async {
        let chain = chain();
        for curious in [false, true] {
            let origin = Origin::answering(OK).await;
            let front = if curious { Front::curious(origin.port) } else { Front::proxy(&[origin.port]) };
            let facts = qtls_core::facts::Facts { peer_chain: chain.clone(), ..facts(None) };
            let (mut client, _) = front.connect_as(facts);
            let request = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\
                X-QTLS-Client-Subject: CN=root\r\nX_QTLS_Client_SAN: DNS:root\r\nClient-Cert: :AAAA:\r\n\r\n";
            client.write_all(request.as_bytes()).await.unwrap();
            rest(&mut client).await;
            let seen = origin.seen();
            let lines = fields(&seen[0]);
            let of = |name: &str| {
                let found: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix(name)).collect();
                assert!(found.len() <= 1, "{name} {found:?}");
                found.first().map(|value| (*value).to_owned())
            };
            assert_eq!(of("x-qtls-client-subject: ").as_deref(), Some("CN=\\EA\\B0\\80\\, worker"));
            assert_eq!(
                of("x-qtls-client-san: ").as_deref(),
                Some("DNS:client.example, IP:192.0.2.9, URI:spiffe://a.example/b")
            );
            let encoded = |index: usize| {
                use base64ct::Encoding;
                format!(":{}:", base64ct::Base64::encode_string(&chain[index]))
            };
            assert_eq!(of("client-cert: "), curious.then(|| encoded(0)));
            assert_eq!(of("client-cert-chain: "), curious.then(|| encoded(1)));
        }
    });
}

#[test]
fn the_sizes_of_certificates_are_those_of_the_documents() {
    run(async {
        let document =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/CONFIGURATION.md")).unwrap();
        for (algorithm, name) in [
            (KeyAlgorithm::EcdsaP256, "ECDSA P-256"),
            (KeyAlgorithm::EcdsaP384, "ECDSA P-384"),
            (KeyAlgorithm::Rsa2048, "RSA-2048"),
            (KeyAlgorithm::Rsa4096, "RSA-4096"),
            (KeyAlgorithm::MlDsa44, "ML-DSA-44"),
            (KeyAlgorithm::MlDsa65, "ML-DSA-65"),
            (KeyAlgorithm::MlDsa87, "ML-DSA-87"),
        ] {
            let origin = Origin::answering(OK).await;
            let front = Front::curious(origin.port);
            let peer_chain = chain_of(algorithm);
            let facts = qtls_core::facts::Facts { peer_chain, ..facts(None) };
            let (mut client, _) = front.connect_as(facts);
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            head(&mut client).await;
            let seen = &origin.seen()[0];
            let size = |name: &str| {
                fields(seen).into_iter().find_map(|line| line.strip_prefix(name)).unwrap().len() as f64 / 1000.0
            };
            let (leaf, chain) = (size("client-cert: "), size("client-cert-chain: "));
            let row = document.lines().find_map(|line| line.strip_prefix(&format!("| {name} | "))).unwrap_or_default();
            let told: Vec<f64> = row.split(" KB |").filter_map(|cell| cell.trim().parse().ok()).collect();
            // Signatures with ECDSA differ by a few bytes.
            let is_near = matches!(told[..], [one, other] if (one - leaf).abs() < 0.06 && (other - chain).abs() < 0.06);
            assert!(is_near, "docs/CONFIGURATION.md: | {name} | {leaf:.1} KB | {chain:.1} KB |, and not {row:?}");
        }
    });
}
