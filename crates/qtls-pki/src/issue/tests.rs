use rustls::pki_types::UnixTime;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, anchor_from_trusted_cert};

use qtls_core::credentials::{generate, signing_key};
use qtls_core::policy::{KeyAlgorithm, Named};

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn key(algorithm: KeyAlgorithm) -> Arc<dyn SigningKey> {
    signing_key(&generate(algorithm).unwrap()).unwrap()
}

fn template(profile: Profile, common_name: &str, days: u32) -> Template {
    let now = SystemTime::now();
    Template {
        profile,
        common_name: Some(common_name.to_owned()),
        organization: None,
        names: Vec::new(),
        not_before: now - CLOCK_SKEW,
        not_after: now + DAY * days,
    }
}

fn root(algorithm: KeyAlgorithm) -> Authority {
    Authority::root(&template(Profile::Root, "Root", 7_305), key(algorithm)).unwrap()
}

fn below(issuer: &Authority, algorithm: KeyAlgorithm, path_len: u8) -> Authority {
    let key = key(algorithm);
    let template = Template {
        // Exactly as long as the issuer: the last moment that it may be.
        not_after: issuer.not_after,
        ..template(Profile::Intermediate { path_len }, "Intermediate", 1)
    };
    let certificate = issuer.issue(&template, &public_key(key.as_ref()).unwrap()).unwrap();
    Authority::new(certificate, key).unwrap()
}

fn parse(certificate: &CertificateDer<'_>) -> Certificate {
    Certificate::from_der(certificate).unwrap()
}

fn verify(
    chain: &[&CertificateDer<'static>],
    root: &CertificateDer<'_>,
    usage: webpki::KeyUsage,
) -> Result<(), webpki::Error> {
    let intermediates: Vec<_> = chain[1..].iter().map(|certificate| (*certificate).clone()).collect();
    let anchor = anchor_from_trusted_cert(root)?;
    EndEntityCert::try_from(chain[0])?
        .verify_for_usage(ALL_VERIFICATION_ALGS, &[anchor], &intermediates, UnixTime::now(), usage, None, None)
        .map(|_| ())
}

#[test]
fn chains_of_every_algorithm_verify() {
    for algorithm in KeyAlgorithm::ALL.iter().copied() {
        let root = root(algorithm);
        let intermediate = below(&root, algorithm, 0);
        let spki = public_key(key(algorithm).as_ref()).unwrap();
        let leaf = intermediate.issue(&template(Profile::Server, "leaf", 365), &spki).unwrap();
        let chain = [&leaf, intermediate.certificate()];
        verify(&chain, root.certificate(), webpki::KeyUsage::server_auth())
            .unwrap_or_else(|error| panic!("{algorithm}: {error}"));
        // The root's own signature is not looked at above, since anchors aren't verified. Here it is.
        let anchored = verify(&[root.certificate()], root.certificate(), webpki::KeyUsage::server_auth());
        assert!(matches!(anchored, Err(webpki::Error::CaUsedAsEndEntity)), "{algorithm}: {anchored:?}");
        let mut damaged = leaf.to_vec();
        let last = damaged.len() - 1;
        damaged[last] ^= 1;
        let damaged = CertificateDer::from(damaged);
        assert!(
            verify(&[&damaged, intermediate.certificate()], root.certificate(), webpki::KeyUsage::server_auth())
                .is_err()
        );
    }
}

#[test]
fn mixed_chains_verify() {
    let root = root(KeyAlgorithm::MlDsa87);
    let intermediate = below(&root, KeyAlgorithm::EcdsaP384, 0);
    let spki = public_key(key(KeyAlgorithm::MlDsa44).as_ref()).unwrap();
    let leaf = intermediate.issue(&template(Profile::Client, "leaf", 365), &spki).unwrap();
    verify(&[&leaf, intermediate.certificate()], root.certificate(), webpki::KeyUsage::client_auth()).unwrap();
    let signed_with = parse(&leaf).signature_algorithm().oid;
    assert_eq!(
        signed_with,
        ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3"),
        "the issuer's algorithm, not the leaf's"
    );
}

#[test]
fn signature_algorithms_are_those_of_the_standards() {
    // RFC 4055 (RSA: parameters NULL), 5758 (ECDSA: absent), 8410 (Ed25519: absent), 9881 (ML-DSA: absent).
    let expected = |algorithm| match algorithm {
        KeyAlgorithm::Rsa2048 | KeyAlgorithm::Rsa3072 => ("1.2.840.113549.1.1.11", true),
        KeyAlgorithm::Rsa4096 => ("1.2.840.113549.1.1.12", true),
        KeyAlgorithm::EcdsaP256 => ("1.2.840.10045.4.3.2", false),
        KeyAlgorithm::EcdsaP384 => ("1.2.840.10045.4.3.3", false),
        KeyAlgorithm::EcdsaP521 => ("1.2.840.10045.4.3.4", false),
        KeyAlgorithm::Ed25519 => ("1.3.101.112", false),
        KeyAlgorithm::MlDsa44 => ("2.16.840.1.101.3.4.3.17", false),
        KeyAlgorithm::MlDsa65 => ("2.16.840.1.101.3.4.3.18", false),
        KeyAlgorithm::MlDsa87 => ("2.16.840.1.101.3.4.3.19", false),
    };
    for algorithm in KeyAlgorithm::ALL.iter().copied() {
        let parsed = parse(root(algorithm).certificate());
        let (oid, null) = expected(algorithm);
        let outer = parsed.signature_algorithm();
        assert_eq!(outer, parsed.tbs_certificate().signature(), "{algorithm}: RFC 5280, section 4.1.1.2");
        assert_eq!(outer.oid.to_string(), oid, "{algorithm}");
        assert_eq!(outer.parameters.as_ref().map(Any::is_null), null.then_some(true), "{algorithm}");
    }
}

#[test]
fn extensions_follow_the_profile() {
    let root = root(KeyAlgorithm::EcdsaP256);
    let intermediate = below(&root, KeyAlgorithm::EcdsaP256, 0);
    let leaf_key = key(KeyAlgorithm::Rsa2048);
    let spki = public_key(leaf_key.as_ref()).unwrap();
    let server = intermediate.issue(&template(Profile::Server, "server", 365), &spki).unwrap();
    let client = intermediate.issue(&template(Profile::Client, "client", 365), &spki).unwrap();
    // The certificate, CA, path length, key usage bits (keyCertSign, cRLSign, digitalSignature), extended key usage.
    for (certificate, ca, path_len, signs_certificates, purpose) in [
        (root.certificate(), true, None, true, None),
        (intermediate.certificate(), true, Some(0), true, None),
        (&server, false, None, false, Some("1.3.6.1.5.5.7.3.1")),
        (&client, false, None, false, Some("1.3.6.1.5.5.7.3.2")),
    ] {
        let parsed = parse(certificate);
        let tbs = parsed.tbs_certificate();
        let (critical, constraints) = tbs.get_extension::<BasicConstraints>().unwrap().unwrap();
        assert!(critical);
        assert_eq!((constraints.ca, constraints.path_len_constraint), (ca, path_len));
        let (critical, usage) = tbs.get_extension::<KeyUsage>().unwrap().unwrap();
        assert!(critical);
        assert_eq!((usage.key_cert_sign(), usage.crl_sign()), (signs_certificates, signs_certificates));
        assert_eq!(usage.digital_signature(), !signs_certificates);
        assert!(!usage.key_encipherment() && !usage.key_agreement());
        let extended = tbs.get_extension::<ExtendedKeyUsage>().unwrap().map(|(_, usage)| usage.0);
        assert_eq!(extended, purpose.map(|oid| vec![ObjectIdentifier::new_unwrap(oid)]));
    }
}

#[test]
fn key_identifiers_link_each_certificate_to_its_issuer() {
    let root = root(KeyAlgorithm::MlDsa65);
    let intermediate = below(&root, KeyAlgorithm::MlDsa65, 0);
    let identifiers = |certificate: &CertificateDer<'_>| {
        let parsed = parse(certificate);
        let tbs = parsed.tbs_certificate();
        let own = tbs.get_extension::<SubjectKeyIdentifier>().unwrap().unwrap().1.0;
        let issuer =
            tbs.get_extension::<AuthorityKeyIdentifier>().unwrap().and_then(|(_, issuer)| issuer.key_identifier);
        let expected = key_identifier(&tbs.subject_public_key_info().to_der().unwrap()).unwrap();
        assert_eq!(own.as_bytes(), expected);
        (own, issuer)
    };
    let (root_own, root_issuer) = identifiers(root.certificate());
    let (_, issuer) = identifiers(intermediate.certificate());
    assert_eq!(root_issuer, None);
    assert_eq!(issuer, Some(root_own));
    assert_eq!(
        parse(intermediate.certificate()).tbs_certificate().issuer(),
        parse(root.certificate()).tbs_certificate().subject()
    );
}

#[test]
fn a_fraction_of_a_second_does_not_outlive_the_issuer() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_800_000_000_900);
    let until = |profile, not_after| Template { not_before: now - DAY, not_after, ..template(profile, "x", 1) };
    let key = key(KeyAlgorithm::EcdsaP256);
    let spki = public_key(key.as_ref()).unwrap();
    let root = Authority::root(&until(Profile::Root, now), key).unwrap();
    // Both end in the same second, which is all that certificates hold.
    root.issue(&until(Profile::Server, now), &spki).unwrap();
    let error = root.issue(&until(Profile::Server, now + Duration::from_millis(100)), &spki).unwrap_err();
    assert!(error.message().contains("after its issuer"), "{error}");
}

#[test]
fn serial_numbers_are_positive_distinct_and_twenty_octets() {
    let root = root(KeyAlgorithm::EcdsaP256);
    let spki = public_key(key(KeyAlgorithm::EcdsaP256).as_ref()).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..50 {
        let leaf = root.issue(&template(Profile::Server, "x", 1), &spki).unwrap();
        let serial = parse(&leaf).tbs_certificate().serial_number().as_bytes().to_vec();
        assert_eq!(serial.len(), 20);
        assert!(serial[0] & 0x80 == 0 && serial[0] != 0);
        assert!(seen.insert(serial));
    }
}

#[test]
fn dates_change_their_type_in_2050() {
    // 2049-12-31T23:59:59Z and the second after it.
    let last_utc_time = SystemTime::UNIX_EPOCH + Duration::from_secs(2_524_607_999);
    let first_generalized = last_utc_time + Duration::from_secs(1);
    let issue = |not_before, not_after| {
        let template = Template { not_before, not_after, ..template(Profile::Root, "Root", 1) };
        let certificate = Authority::root(&template, key(KeyAlgorithm::EcdsaP256)).unwrap().certificate().clone();
        *parse(&certificate).tbs_certificate().validity()
    };
    let validity = issue(SystemTime::now(), last_utc_time);
    assert!(matches!(validity.not_before, Time::UtcTime(_)));
    assert!(matches!(validity.not_after, Time::UtcTime(_)));
    assert_eq!(validity.not_after.to_string(), "2049-12-31T23:59:59Z");
    let validity = issue(last_utc_time, first_generalized);
    assert!(matches!(validity.not_before, Time::UtcTime(_)));
    assert!(matches!(validity.not_after, Time::GeneralTime(_)));
    assert_eq!(validity.not_after.to_string(), "2050-01-01T00:00:00Z");
}

#[test]
fn a_subject_in_hangul_is_utf8() {
    let template = Template {
        organization: Some("양자 보안".to_owned()),
        ..template(Profile::Root, "큐티엘에스 최상위 인증기관", 1)
    };
    let root = Authority::root(&template, key(KeyAlgorithm::EcdsaP256)).unwrap();
    let parsed = parse(root.certificate());
    assert_eq!(parsed.tbs_certificate().subject().to_string(), "CN=큐티엘에스 최상위 인증기관,O=양자 보안");
    for attribute in parsed.tbs_certificate().subject().iter() {
        assert_eq!(attribute.value.header().tag(), Tag::Utf8String);
    }
}

#[test]
fn all_kinds_of_alternative_names_are_written() {
    let root = root(KeyAlgorithm::EcdsaP256);
    let spki = public_key(key(KeyAlgorithm::EcdsaP256).as_ref()).unwrap();
    let mut template = template(Profile::Client, "x", 1);
    template.names = vec![
        AlternativeName::Dns("*.example.com".to_owned()),
        AlternativeName::Ip("192.0.2.1".parse().unwrap()),
        AlternativeName::Ip("2001:db8::1".parse().unwrap()),
        AlternativeName::Uri("spiffe://example.com/service".to_owned()),
        AlternativeName::Email("ops@example.com".to_owned()),
    ];
    let read = |template: &Template| {
        let parsed = parse(&root.issue(template, &spki).unwrap());
        parsed.tbs_certificate().get_extension::<SubjectAltName>().unwrap().unwrap()
    };
    let (critical, names) = read(&template);
    assert!(!critical, "the subject names the holder, too");
    let text: Vec<String> = names
        .0
        .iter()
        .map(|name| match name {
            GeneralName::DnsName(name) => format!("dns {name}"),
            GeneralName::IpAddress(octets) => format!("ip {:?}", octets.as_bytes()),
            GeneralName::UniformResourceIdentifier(uri) => format!("uri {uri}"),
            GeneralName::Rfc822Name(address) => format!("mail {address}"),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        text,
        [
            "dns *.example.com",
            "ip [192, 0, 2, 1]",
            "ip [32, 1, 13, 184, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]",
            "uri spiffe://example.com/service",
            "mail ops@example.com"
        ]
    );
    template.common_name = None;
    assert!(read(&template).0, "without a subject they are critical (RFC 5280, section 4.2.1.6)");
    template.names = vec![AlternativeName::Dns("서버.한국".to_owned())];
    let error = root.issue(&template, &spki).unwrap_err();
    assert!(error.message().contains("characters outside ASCII"), "{error}");
}

#[test]
fn an_authority_issues_only_what_it_may() {
    let root = root(KeyAlgorithm::EcdsaP256);
    let intermediate = below(&root, KeyAlgorithm::EcdsaP256, 1);
    let last = below(&intermediate, KeyAlgorithm::EcdsaP256, 0);
    let leaf_key = key(KeyAlgorithm::EcdsaP256);
    let spki = public_key(leaf_key.as_ref()).unwrap();
    let refused =
        |authority: &Authority, template: &Template| authority.issue(template, &spki).unwrap_err().to_string();
    let authority = |path_len| template(Profile::Intermediate { path_len }, "x", 1);
    assert!(refused(&last, &authority(0)).contains("its path length is 0"));
    assert!(refused(&intermediate, &authority(1)).contains("a path length of 1 does not fit below the issuer's, 1"));
    assert!(refused(&root, &template(Profile::Root, "x", 1)).contains("signed by itself"));
    assert!(refused(&last, &template(Profile::Server, "x", 7_306)).contains("after its issuer"));
    assert!(refused(&last, &template(Profile::Server, "", 1)).contains("1 to 64 characters"));
    assert!(refused(&last, &template(Profile::Server, &"x".repeat(65), 1)).contains("1 to 64 characters"));
    assert!(refused(&last, &template(Profile::Server, "a\nb", 1)).contains("control character"));
    let nameless = Template { common_name: None, ..template(Profile::Server, "x", 1) };
    assert!(refused(&last, &nameless).contains("needs a common name or an alternative name"));
    let backwards = Template { not_before: SystemTime::now() + DAY * 2, ..template(Profile::Server, "x", 1) };
    assert!(refused(&last, &backwards).contains("end before it begins"));
    assert!(last.issue(&template(Profile::Server, "x", 1), b"no key").is_err());

    let leaf = last.issue(&template(Profile::Server, "leaf", 1), &spki).unwrap();
    let error = Authority::new(leaf, leaf_key).err().unwrap().to_string();
    assert!(error.contains("CN=leaf is not a certification authority"), "{error}");
    let error = Authority::new(root.certificate().clone(), key(KeyAlgorithm::EcdsaP256)).err().unwrap().to_string();
    assert!(error.contains("the key does not belong to CN=Root"), "{error}");
}

#[test]
fn a_path_length_that_is_used_up_is_refused_by_verifiers_too() {
    // Made without our own check in the way: the authority is built from a certificate that allows one more.
    let root = root(KeyAlgorithm::EcdsaP256);
    let intermediate_key = key(KeyAlgorithm::EcdsaP256);
    let spki = public_key(intermediate_key.as_ref()).unwrap();
    let strict = root.issue(&template(Profile::Intermediate { path_len: 0 }, "Upper", 100), &spki).unwrap();
    let lax = root.issue(&template(Profile::Intermediate { path_len: 1 }, "Upper", 100), &spki).unwrap();
    let below = below(&Authority::new(lax.clone(), intermediate_key).unwrap(), KeyAlgorithm::EcdsaP256, 0);
    let leaf_spki = public_key(key(KeyAlgorithm::EcdsaP256).as_ref()).unwrap();
    let leaf = below.issue(&template(Profile::Server, "x", 1), &leaf_spki).unwrap();
    let usage = webpki::KeyUsage::server_auth();
    verify(&[&leaf, below.certificate(), &lax], root.certificate(), usage).unwrap();
    let error = verify(&[&leaf, below.certificate(), &strict], root.certificate(), usage).unwrap_err();
    assert_eq!(error, webpki::Error::PathLenConstraintViolated);
}
