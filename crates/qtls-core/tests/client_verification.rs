//! Clients are held to CRLs, allowed identities, key usage and pins, at the handshake and when they resume.

// Suites use different parts of it.
#[allow(dead_code)]
mod forge;

use std::sync::Arc;
use std::time::SystemTime;

use forge::{DAY, Forgery, Key, authority_key_identifier, crl, key_usage, pem, serial_of, subject_key_identifier};
use qtls_core::credentials::{Source, files};
use qtls_core::error::reason;
use qtls_core::policy::{CipherSuite, Group, KeyAlgorithm, Policy};
use qtls_core::provider::provider;
use qtls_core::verify::{
    AllowList, ClientVerifier, Crl, Identity, Revocation, RevocationMode, ServerVerifier, SpkiHash, TrustAnchors,
    take_refused_identity,
};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, Error};

/// A root, an intermediate under it, and a client under that.
struct Chain {
    root_key: Key,
    root: CertificateDer<'static>,
    middle_key: Key,
    leaf_key: Key,
    shown: Vec<CertificateDer<'static>>,
}

impl Chain {
    fn new() -> Self {
        let [root_key, middle_key, leaf_key] = [(); 3].map(|()| Key::new(KeyAlgorithm::EcdsaP256));
        let root = Forgery::ca("root", "root", &root_key).sign(&root_key);
        let middle = Forgery::ca("middle", "root", &middle_key).sign(&root_key);
        let leaf = Forgery::client("client.example", "middle", &leaf_key).sign(&middle_key);
        Self { root_key, root, middle_key, leaf_key, shown: vec![leaf, middle] }
    }

    fn anchors(&self) -> TrustAnchors {
        TrustAnchors::new([self.root.clone()], None, Arc::new(Policy::default())).expect("the root is an anchor")
    }

    fn verifier(&self, crls: &[Vec<u8>], mode: RevocationMode) -> Arc<ClientVerifier> {
        let crls = crls.iter().flat_map(|der| read(der)).collect();
        let revocation = Revocation::new(crls, mode);
        let anchors =
            self.anchors().with_revocation(revocation, SystemTime::now()).expect("the CRLs fit the anchors").0;
        ClientVerifier::new(anchors, true)
    }

    fn root_crl(&self, serials: &[&str]) -> Vec<u8> {
        self.root_crl_at(serials, (-DAY, DAY))
    }

    fn root_crl_at(&self, serials: &[&str], validity: (i64, i64)) -> Vec<u8> {
        crl("root", &self.root_key, &serials.iter().map(|name| serial_of(name)).collect::<Vec<_>>(), validity, &[])
    }

    fn middle_crl(&self, serials: &[&str]) -> Vec<u8> {
        self.middle_crl_at(serials, (-DAY, DAY))
    }

    fn middle_crl_at(&self, serials: &[&str], validity: (i64, i64)) -> Vec<u8> {
        crl("middle", &self.middle_key, &serials.iter().map(|name| serial_of(name)).collect::<Vec<_>>(), validity, &[])
    }
}

fn read(der: &[u8]) -> Vec<Crl> {
    Crl::parse(Source { origin: "a.crl", bytes: der }).expect("the CRL is well-formed")
}

fn check(verifier: &ClientVerifier, chain: &[CertificateDer<'_>]) -> Result<(), Error> {
    verifier.recheck(chain, UnixTime::now())
}

fn certificate_error(result: Result<(), Error>) -> CertificateError {
    match result {
        Err(Error::InvalidCertificate(error)) => error,
        other => panic!("expected a refused certificate, not {other:?}"),
    }
}

const BOTH: [RevocationMode; 2] = [RevocationMode::Hard, RevocationMode::Soft];

#[test]
fn a_revoked_certificate_is_refused_in_both_modes_wherever_it_stands() {
    let chain = Chain::new();
    for mode in BOTH {
        let clean = [chain.root_crl(&["other"]), chain.middle_crl(&[])];
        check(&chain.verifier(&clean, mode), &chain.shown).unwrap();
        for crls in [
            [chain.root_crl(&[]), chain.middle_crl(&["client.example"])],
            [chain.root_crl(&["middle"]), chain.middle_crl(&[])],
        ] {
            let error = certificate_error(check(&chain.verifier(&crls, mode), &chain.shown));
            assert_eq!(error, CertificateError::Revoked);
            assert_eq!(AlertDescription::from(error), AlertDescription::CertificateRevoked);
        }
    }
}

#[test]
fn a_missing_crl_refuses_in_the_hard_mode_only() {
    let chain = Chain::new();
    for crls in [vec![chain.root_crl(&[])], vec![chain.middle_crl(&[])]] {
        let error = certificate_error(check(&chain.verifier(&crls, RevocationMode::Hard), &chain.shown));
        assert_eq!(error, CertificateError::UnknownRevocationStatus);
        check(&chain.verifier(&crls, RevocationMode::Soft), &chain.shown).unwrap();
    }
    // A CRL that is about no certificate of the chain is as good as none.
    let stranger = Key::new(KeyAlgorithm::EcdsaP256);
    let crls = [crl("stranger", &stranger, &[], (-DAY, DAY), &[])];
    let error = certificate_error(check(&chain.verifier(&crls, RevocationMode::Hard), &chain.shown));
    assert_eq!(error, CertificateError::UnknownRevocationStatus);
    check(&chain.verifier(&crls, RevocationMode::Soft), &chain.shown).unwrap();
}

#[test]
fn a_stale_crl_refuses_in_the_hard_mode_and_still_revokes_in_the_soft_one() {
    let chain = Chain::new();
    let stale = |serials: &[&str]| [chain.root_crl(&[]), chain.middle_crl_at(serials, (-3 * DAY, -DAY))];
    let error = check(&chain.verifier(&stale(&[]), RevocationMode::Hard), &chain.shown).unwrap_err();
    assert_eq!(reason(&error), "revocation_stale");
    let told = qtls_core::Error::from(&error);
    assert!(told.message().contains("is stale since 20"), "{told}");
    check(&chain.verifier(&stale(&[]), RevocationMode::Soft), &chain.shown).unwrap();
    let error = check(&chain.verifier(&stale(&["client.example"]), RevocationMode::Soft), &chain.shown).unwrap_err();
    assert_eq!(reason(&error), "certificate_revoked");
}

#[test]
fn the_newest_crl_of_a_ca_counts_whatever_the_order() {
    let chain = Chain::new();
    let old = chain.middle_crl_at(&[], (-2 * DAY, DAY));
    let new = chain.middle_crl_at(&["client.example"], (-DAY, DAY));
    for crls in [[chain.root_crl(&[]), old.clone(), new.clone()], [new, old, chain.root_crl(&[])]] {
        let error = certificate_error(check(&chain.verifier(&crls, RevocationMode::Hard), &chain.shown));
        assert_eq!(error, CertificateError::Revoked);
    }
}

#[test]
fn two_cas_of_one_name_keep_their_crls_apart() {
    let [ecdsa, ml_dsa] = [KeyAlgorithm::EcdsaP384, KeyAlgorithm::MlDsa65].map(Key::new);
    let identified = |key: &Key, identifier: &[u8]| {
        Forgery::ca("CA", "CA", key).with(vec![subject_key_identifier(identifier)]).sign(key)
    };
    let roots = [identified(&ecdsa, b"ecdsa"), identified(&ml_dsa, b"ml-dsa")];
    let leaf_of = |key: &Key, identifier: &[u8]| {
        let own = Key::new(KeyAlgorithm::EcdsaP256);
        Forgery::client("client.example", "CA", &own).with(vec![authority_key_identifier(identifier)]).sign(key)
    };
    let crl_of = |key: &Key, identifier: &[u8], serials: &[Vec<u8>], age: i64| {
        read(&crl("CA", key, serials, (-age * DAY, DAY), &[authority_key_identifier(identifier)])).remove(0)
    };
    let revoked = [serial_of("client.example")];
    for (age_of_first, age_of_second) in [(1, 2), (2, 1)] {
        let crls =
            vec![crl_of(&ecdsa, b"ecdsa", &[], age_of_first), crl_of(&ml_dsa, b"ml-dsa", &revoked, age_of_second)];
        let (anchors, warnings) = TrustAnchors::new(roots.clone(), None, Arc::new(Policy::default()))
            .unwrap()
            .with_revocation(Revocation::new(crls, RevocationMode::Hard), SystemTime::now())
            .unwrap();
        assert!(warnings.is_empty(), "{warnings:?}");
        let verifier = ClientVerifier::new(anchors, true);
        check(&verifier, &[leaf_of(&ecdsa, b"ecdsa")]).unwrap();
        assert_eq!(certificate_error(check(&verifier, &[leaf_of(&ml_dsa, b"ml-dsa")])), CertificateError::Revoked);
    }
}

#[test]
fn what_is_wrong_with_crls_is_told_when_they_are_loaded() {
    let chain = Chain::new();
    let load = |crls: Vec<Crl>, mode| {
        chain.anchors().with_revocation(Revocation::new(crls, mode), SystemTime::now()).map(|(_, warnings)| warnings)
    };
    let stranger = Key::new(KeyAlgorithm::EcdsaP256);
    let forged = read(&crl("root", &stranger, &[], (-DAY, DAY), &[]));
    let error = load(forged, RevocationMode::Soft).unwrap_err().to_string();
    assert!(error.starts_with("a.crl: this CRL names CN=root as its issuer, but is not signed"), "{error}");
    assert!(load(Vec::new(), RevocationMode::Hard).unwrap_err().message().contains("there is no CRL"));
    assert!(load(Vec::new(), RevocationMode::Soft).unwrap().is_empty());
    let crls = [chain.middle_crl(&[]), crl("unknown CA", &stranger, &[], (-2 * DAY, -DAY), &[])];
    let told = load(crls.iter().flat_map(|der| read(der)).collect(), RevocationMode::Hard).unwrap();
    assert_eq!(told.len(), 4, "{told:?}");
    assert!(told[0].contains("of CN=middle, which is no trust anchor"), "{told:?}");
    assert!(told[1].contains("of CN=unknown CA, which is no trust anchor"), "{told:?}");
    assert!(told[2].contains("of CN=unknown CA is stale since 20"), "{told:?}");
    assert!(told[3].contains("there is no CRL of CN=root"), "{told:?}");
}

#[test]
fn crls_are_read_from_files_and_directories() {
    let chain = Chain::new();
    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    let (root, middle) = (chain.root_crl(&["x", "y"]), chain.middle_crl(&[]));
    put("both.pem", format!("{}{}", pem("X509 CRL", &root), pem("X509 CRL", &middle)).as_bytes());
    put("middle.crl", &middle);
    put("ca.der", &chain.root);
    put("ca.pem", pem("CERTIFICATE", &chain.root).as_bytes());
    let read = files::crls([dir.path().to_owned(), dir.path().join("middle.crl")]).unwrap();
    let issuers: Vec<_> = read.crls.iter().map(|crl| (crl.issuer.as_str(), crl.revoked)).collect();
    assert_eq!(issuers, [("CN=root", 2), ("CN=middle", 0), ("CN=middle", 0), ("CN=middle", 0)]);
    assert_eq!(read.warnings.len(), 2, "{:?}", read.warnings);
    assert_eq!(Revocation::new(read.crls, RevocationMode::Hard).crls().len(), 2, "the same CRL counts once");
    let error = files::crls([dir.path().join("ca.pem")]).unwrap_err().to_string();
    assert!(error.contains("ca.pem: holds no CRL"), "{error}");
    // A damaged CRL in a directory must not pass for a file without one.
    for damaged in [middle[..middle.len() - 9].to_vec(), pem("X509 CRL", &middle[..60]).into_bytes()] {
        put("middle.crl", &damaged);
        let error = files::crls([dir.path()]).unwrap_err().to_string();
        assert!(error.contains("middle.crl: "), "{error}");
    }
}

#[test]
fn an_identity_that_is_not_allowed_gets_access_denied_and_is_named() {
    let chain = Chain::new();
    let verifier = |entry: (&str, &str)| {
        ClientVerifier::with_allow(chain.anchors(), true, Some(AllowList::parse([[entry]]).unwrap()))
    };
    check(&verifier(("san_dns", "client.example")), &chain.shown).unwrap();
    assert_eq!(take_refused_identity(), None);
    let error = certificate_error(check(&verifier(("san_dns", "other.example")), &chain.shown));
    assert_eq!(AlertDescription::from(error.clone()), AlertDescription::AccessDenied);
    assert_eq!(reason(&error.into()), "identity_not_allowed");
    let refused = take_refused_identity().unwrap().to_string();
    assert!(refused.ends_with("doesn't name it: CN=client.example, DNS client.example"), "{refused}");
    // An identity counts only behind a chain that verifies.
    let stranger = Chain::new();
    let error = certificate_error(check(&verifier(("san_dns", "client.example")), &stranger.shown));
    assert_eq!(error, CertificateError::BadSignature);
}

#[test]
fn a_refused_client_is_told_so_by_the_alert() {
    let chain = Chain::new();
    let server_key = Key::new(KeyAlgorithm::EcdsaP256);
    let server_chain =
        vec![Forgery::server("a.example", "middle", &server_key).sign(&chain.middle_key), chain.shown[1].clone()];
    let allow = AllowList::parse([[("san_dns", "other.example")]]).unwrap();
    let verifier = ClientVerifier::with_allow(chain.anchors(), true, Some(allow));
    let provider = provider(&[Group::X25519MlKem768], &[CipherSuite::Aes256Gcm]);
    let server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(server_chain, PrivatePkcs8KeyDer::from(server_key.der.clone()).into())
        .unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(ServerVerifier::new(chain.anchors()))
        .with_client_auth_cert(chain.shown.clone(), PrivatePkcs8KeyDer::from(chain.leaf_key.der.clone()).into())
        .unwrap();
    let mut server = rustls::ServerConnection::new(Arc::new(server)).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(client), "a.example".try_into().unwrap()).unwrap();
    let refusal = loop {
        let mut flight = Vec::new();
        client.write_tls(&mut flight).unwrap();
        server.read_tls(&mut flight.as_slice()).unwrap();
        let processed = server.process_new_packets();
        let mut flight = Vec::new();
        server.write_tls(&mut flight).unwrap();
        client.read_tls(&mut flight.as_slice()).unwrap();
        match processed {
            Ok(_) => client.process_new_packets().map(|_| ()).unwrap(),
            Err(error) => break error,
        }
    };
    assert_eq!(reason(&refusal), "identity_not_allowed");
    assert_eq!(client.process_new_packets().unwrap_err(), Error::AlertReceived(AlertDescription::AccessDenied));
    assert!(take_refused_identity().unwrap().identity.contains("DNS client.example"));
}

#[test]
fn a_stored_chain_is_rechecked_as_if_it_were_shown() {
    let chain = Chain::new();
    let required = ClientVerifier::new(chain.anchors(), true);
    let optional = ClientVerifier::new(chain.anchors(), false);
    assert!(matches!(check(&required, &[]), Err(Error::NoCertificatesPresented)));
    check(&optional, &[]).unwrap();
    check(&required, &chain.shown).unwrap();
    let in_a_year = UnixTime::since_unix_epoch(std::time::Duration::from_secs(UnixTime::now().as_secs() + 31_536_000));
    let expired = certificate_error(required.recheck(&chain.shown, in_a_year));
    assert!(matches!(expired, CertificateError::ExpiredContext { .. }), "{expired:?}");
    let other_ca = ClientVerifier::new(Chain::new().anchors(), false);
    assert!(check(&other_ca, &chain.shown).is_err());
}

#[test]
fn key_usage_is_enforced_on_leaf_and_issuer() {
    let chain = Chain::new();
    let verifier = ClientVerifier::new(chain.anchors(), true);
    let own = Key::new(KeyAlgorithm::EcdsaP256);
    let leaf = Forgery::client("c", "middle", &own).with(vec![key_usage(0x20)]).sign(&chain.middle_key);
    let told = qtls_core::Error::from(&check(&verifier, &[leaf, chain.shown[1].clone()]).unwrap_err());
    assert_eq!(told.message(), "the leaf's key usage lacks digitalSignature");
    let middle = Forgery::ca("middle", "root", &chain.middle_key).with(vec![key_usage(0x82)]).sign(&chain.root_key);
    let told = qtls_core::Error::from(&check(&verifier, &[chain.shown[0].clone(), middle]).unwrap_err());
    assert!(told.message().starts_with("CN=middle has signed a certificate"), "{told}");
    // Absent means unrestricted.
    let leaf = Forgery::client("c", "middle", &own).without(15).sign(&chain.middle_key);
    check(&verifier, &[leaf, chain.shown[1].clone()]).unwrap();
}

#[test]
fn a_server_is_held_to_pins_anywhere_in_its_chain() {
    let chain = Chain::new();
    let own = Key::new(KeyAlgorithm::MlDsa44);
    let leaf = Forgery::server("a.example", "middle", &own).sign(&chain.middle_key);
    let verify = |pins: &[Vec<u8>]| {
        let anchors = chain.anchors().with_pins(pins.iter().map(|spki| SpkiHash::of(spki)));
        let name = ServerName::try_from("a.example").unwrap();
        let middle = [chain.shown[1].clone()];
        ServerVerifier::new(anchors).verify_server_cert(&leaf, &middle, &name, &[], UnixTime::now()).map(|_| ())
    };
    let stranger = Key::new(KeyAlgorithm::EcdsaP256);
    for pins in [vec![], vec![own.spki()], vec![stranger.spki(), chain.middle_key.spki()], vec![chain.root_key.spki()]]
    {
        verify(&pins).unwrap();
    }
    let told = qtls_core::Error::from(&verify(&[stranger.spki()]).unwrap_err());
    let hash = Identity::of(&leaf).unwrap().spki_sha256;
    assert_eq!(told.message(), format!("no key of the peer's chain is pinned; the leaf's SPKI SHA-256 is {hash}"));
    assert_eq!(told.exit_code(), 4);
}
