//! The directory as a whole.

use std::os::unix::fs::PermissionsExt;

use qtls_core::credentials::generate;
use rustls::pki_types::{TrustAnchor, UnixTime};
use webpki::{CertRevocationList, EndEntityCert, OwnedCertRevocationList, RevocationOptionsBuilder};
use x509_cert::ext::pkix::{AuthorityInfoAccessSyntax, CrlDistributionPoints, ExtendedKeyUsage};
use zeroize::Zeroizing;

use super::*;
use crate::issue::{AlternativeName, public_key};

fn made(place: &Path, algorithms: &[KeyAlgorithm]) -> PathBuf {
    init(&Options {
        dir: place.join("ca"),
        name: "시험 기관".to_owned(),
        organization: Some("양자".to_owned()),
        algorithms: algorithms.to_vec(),
        links: Links {
            crl: vec!["http://pki.example/{ca}.crl".to_owned()],
            issuer: vec!["http://pki.example/{ca}.cer".to_owned()],
            ocsp: Vec::new(),
        },
        path_len: 0,
        passphrase: None,
    })
    .unwrap()
}

fn template(profile: Profile, days: u32) -> Template {
    let now = SystemTime::now();
    Template {
        profile,
        common_name: Some("a.example".to_owned()),
        organization: None,
        names: vec![AlternativeName::Dns("a.example".to_owned())],
        not_before: now - CLOCK_SKEW,
        not_after: now + DAY * days,
    }
}

fn spki(algorithm: KeyAlgorithm) -> Vec<u8> {
    let key = generate(algorithm).unwrap();
    public_key(signing_key(&key).unwrap().as_ref()).unwrap()
}

const ED: KeyAlgorithm = KeyAlgorithm::Ed25519;

fn issue(ca: &mut Ca, role: Role, profile: Profile) -> Result<Issued> {
    let links = ca.links(role, ED);
    ca.issue((role, ED), &template(profile, 365), links, &spki(ED), None)
}

fn root(dir: &Path) -> TrustAnchor<'static> {
    let bundle = reading::roots(&dir.join(BUNDLE)).unwrap();
    webpki::anchor_from_trusted_cert(&bundle[0]).unwrap().to_owned()
}

fn verify(dir: &Path, issued: &Issued, lists: &[&str]) -> Result<(), webpki::Error> {
    let lists: Vec<CertRevocationList<'_>> = lists
        .iter()
        .map(|label| OwnedCertRevocationList::from_der(&fs::read(dir.join(crl_file(label))).unwrap()).unwrap().into())
        .collect();
    let lists: Vec<&CertRevocationList<'_>> = lists.iter().collect();
    let revocation = RevocationOptionsBuilder::new(&lists).ok().map(RevocationOptionsBuilder::build);
    let leaf = EndEntityCert::try_from(&issued.chain[0]).unwrap();
    leaf.verify_for_usage(
        webpki::ALL_VERIFICATION_ALGS,
        &[root(dir)],
        &issued.chain[1..],
        UnixTime::now(),
        webpki::KeyUsage::server_auth(),
        revocation,
        None,
    )
    .map(|_| ())
}

#[test]
fn what_is_issued_verifies_until_it_is_revoked_and_listed() {
    let place = tempfile::tempdir().unwrap();
    let dir = made(place.path(), &[ED]);
    let both = ["root-ed25519", "tls-ca-ed25519"];
    let mut ca = Ca::open(&dir).unwrap();
    let one = issue(&mut ca, Role::Tls, Profile::Server).unwrap();
    let other = issue(&mut ca, Role::Tls, Profile::Server).unwrap();
    assert_eq!(one.serial.len(), 40);
    verify(&dir, &one, &both).unwrap();

    let entry = ca.revoke(&one.serial, Reason::KeyCompromise).unwrap();
    assert_eq!(entry.revoked.unwrap().1, Reason::KeyCompromise);
    assert_eq!(ca.outdated_lists(), ["tls-ca-ed25519"]);
    verify(&dir, &one, &both).unwrap();
    let published = ca.publish("tls-ca-ed25519", CRL_LIFETIME, None).unwrap();
    assert_eq!((published.number, published.revoked), (2, 1));
    assert_eq!(verify(&dir, &one, &both), Err(webpki::Error::CertRevoked));
    verify(&dir, &other, &both).unwrap();
    assert!(ca.outdated_lists().is_empty());

    let list = crl::List::parse(&fs::read(dir.join(crl_file("tls-ca-ed25519"))).unwrap()).unwrap();
    assert_eq!(list.number.as_deref(), Some("2"));
    assert_eq!(list.revoked[0].0, from_hex(&one.serial).unwrap());
    assert_eq!(list.revoked[0].2, "keyCompromise");
    assert_eq!(list.staleness(SystemTime::now()), None);
    assert!(list.staleness(SystemTime::now() + CRL_LIFETIME + DAY).unwrap().starts_with("was to be replaced by"));
    let certificate = |label| Certificate::from_der(&ca.certificate(label).unwrap()).unwrap();
    list.check_issuer(&certificate("tls-ca-ed25519")).unwrap();
    let error = list.check_issuer(&certificate("root-ed25519")).unwrap_err();
    assert!(error.message().contains("TLS Ed25519,O=양자's, and not"), "{error}");

    let error = ca.revoke(&one.serial, Reason::Superseded).unwrap_err();
    assert!(error.message().contains("was revoked on") && error.message().ends_with("keyCompromise"), "{error}");
    let error = ca.revoke("00112233", Reason::Superseded).unwrap_err();
    assert!(error.message().contains("no certificate with the serial number"), "{error}");
}

#[test]
fn everything_is_there_again_when_it_is_opened_again() {
    let place = tempfile::tempdir().unwrap();
    let dir = made(place.path(), &[ED]);
    let mut ca = Ca::open(&dir).unwrap();
    let leaf = issue(&mut ca, Role::Tls, Profile::Client).unwrap();
    ca.revoke(&leaf.serial, Reason::Superseded).unwrap();
    let before = ca.entries().to_vec();
    drop(ca);
    let again = Ca::open_to_read(&dir).unwrap();
    // Times in the journal are whole seconds, in memory as on the disk.
    assert_eq!(again.entries(), before);
    assert_eq!(again.entries().len(), 3, "the two authorities below the root, and the leaf");
    assert_eq!(again.outdated_lists(), ["tls-ca-ed25519"]);
    let shown = again.issued(again.find(&leaf.serial.to_uppercase()[..12]).unwrap()).unwrap();
    assert_eq!(shown.chain, leaf.chain);
}

#[test]
fn the_authorities_are_restricted_linked_and_named() {
    let place = tempfile::tempdir().unwrap();
    let dir = made(place.path(), &[ED, KeyAlgorithm::EcdsaP256]);
    let mut ca = Ca::open(&dir).unwrap();
    assert_eq!(reading::roots(&dir.join(BUNDLE)).unwrap().len(), 2);
    let parse = |label| Certificate::from_der(&ca.certificate(label).unwrap()).unwrap();
    let tls = parse("tls-ca-ed25519");
    assert_eq!(tls.tbs_certificate().subject().to_string(), "CN=시험 기관 TLS Ed25519,O=양자");
    let purposes = |certificate: &Certificate| {
        let found = certificate.tbs_certificate().get_extension::<ExtendedKeyUsage>().unwrap();
        found.map(|(_, usage)| usage.0.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(purposes(&tls).unwrap(), ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
    assert_eq!(purposes(&parse("signing-ca-ed25519")).unwrap(), ["1.3.6.1.5.5.7.3.3"]);
    assert_eq!(purposes(&parse("root-ed25519")), None);

    let leaf = issue(&mut ca, Role::Tls, Profile::Server).unwrap();
    let leaf = Certificate::from_der(&leaf.chain[0]).unwrap();
    let points = leaf.tbs_certificate().get_extension::<CrlDistributionPoints>().unwrap().unwrap().1;
    assert!(format!("{points:?}").contains("http://pki.example/tls-ca-ed25519.crl"), "{points:?}");
    let access = leaf.tbs_certificate().get_extension::<AuthorityInfoAccessSyntax>().unwrap().unwrap().1;
    assert!(format!("{access:?}").contains("http://pki.example/tls-ca-ed25519.cer"), "{access:?}");
    // The signing authority can't make a server, whatever it is asked.
    let wrong = issue(&mut ca, Role::Signing, Profile::Server).unwrap();
    assert!(matches!(verify(&dir, &wrong, &[]), Err(webpki::Error::RequiredEkuNotFoundContext(_))));
}

#[test]
fn what_an_authority_may_not_issue_is_refused_and_not_recorded() {
    let place = tempfile::tempdir().unwrap();
    let dir = made(place.path(), &[ED]);
    let mut ca = Ca::open(&dir).unwrap();
    let before = fs::read(dir.join(JOURNAL)).unwrap();
    let error = issue(&mut ca, Role::Tls, Profile::Intermediate { path_len: 0 }).unwrap_err();
    assert!(error.message().contains("its path length is 0"), "{error}");
    assert_eq!(error.hint_text(), Some("issue with an authority further up"));
    let long = template(Profile::Server, 4_000);
    let error = ca.issue((Role::Tls, ED), &long, Links::default(), &spki(ED), None).unwrap_err();
    assert!(error.message().contains("after its issuer"), "{error}");
    assert!(error.hint_text().unwrap().contains("shorter validity"), "{error}");
    assert!(error.place().unwrap().ends_with("certs/tls-ca-ed25519.pem"), "{error}");
    let error = ca.issue((Role::Tls, KeyAlgorithm::MlDsa44), &long, Links::default(), &spki(ED), None).unwrap_err();
    assert!(error.to_string().contains("tls-ca-ml-dsa-44"), "{error}");
    assert_eq!(fs::read(dir.join(JOURNAL)).unwrap(), before);

    let tls = ca.entries().iter().find(|entry| entry.subject.contains("TLS")).unwrap().serial.clone();
    ca.revoke(&tls, Reason::CaCompromise).unwrap();
    let error = issue(&mut ca, Role::Tls, Profile::Server).unwrap_err();
    assert!(error.message().contains("tls-ca-ed25519 was revoked on"), "{error}");
    assert_eq!(ca.outdated_lists(), ["root-ed25519"]);

    fs::remove_file(dir.join("private/root-ed25519.key.pem")).unwrap();
    let error = ca.publish("root-ed25519", CRL_LIFETIME, None).unwrap_err();
    assert!(error.message().contains("key is not here"), "{error}");
}

#[test]
fn a_second_writer_is_told_who_holds_the_directory() {
    let place = tempfile::tempdir().unwrap();
    let dir = made(place.path(), &[ED]);
    let first = Ca::open(&dir).unwrap();
    let error = Ca::open(&dir).unwrap_err();
    assert_eq!(error.message(), format!("the CA directory is in use by process {}", std::process::id()));
    Ca::open_to_read(&dir).unwrap();
    drop(first);
    Ca::open(&dir).unwrap();
}

#[test]
fn a_directory_by_halves_is_told_from_one_without_a_ca() {
    let place = tempfile::tempdir().unwrap();
    let error = Ca::open(place.path()).unwrap_err();
    assert!(error.message().contains("there is no CA in this directory"), "{error}");
    fs::create_dir(place.path().join(".ca.new-0011")).unwrap();
    let error = Ca::open(&place.path().join("ca")).unwrap_err();
    assert!(error.hint_text().unwrap().contains("an interrupted `qtls ca init` left"), "{error}");

    let dir = made(place.path(), &[ED]);
    for part in [SETTINGS, JOURNAL, BUNDLE, "certs/root-ed25519.pem", "certs/tls-ca-ed25519.pem"] {
        let content = fs::read(dir.join(part)).unwrap();
        fs::remove_file(dir.join(part)).unwrap();
        for error in [Ca::open(&dir).unwrap_err(), Ca::open_to_read(&dir).unwrap_err()] {
            assert_eq!(error.message(), format!("the CA directory is incomplete: it lacks {part}"));
            assert!(error.hint_text().unwrap().contains("qtls ca restore"), "{error}");
        }
        fs::write(dir.join(part), content).unwrap();
    }
    Ca::open(&dir).unwrap();
}

#[test]
fn encrypted_keys_ask_for_their_passphrase_and_stay_encrypted_in_backups() {
    let place = tempfile::tempdir().unwrap();
    let passphrase = Passphrase::new(Zeroizing::new(b"long words".to_vec()), "p").unwrap();
    let options = Options {
        dir: place.path().join("ca"),
        name: "CA".to_owned(),
        organization: None,
        algorithms: vec![ED],
        links: Links::default(),
        path_len: 0,
        passphrase: Some(passphrase.clone()),
    };
    let dir = init(&options).unwrap();
    let key = |dir: &Path| dir.join("private/tls-ca-ed25519.key.pem");
    let mut ca = Ca::open(&dir).unwrap();
    assert!(issue(&mut ca, Role::Tls, Profile::Server).unwrap_err().message().contains("is encrypted"));
    let template = template(Profile::Server, 1);
    let wrong = Passphrase::new(Zeroizing::new(b"other words".to_vec()), "p").unwrap();
    let error = ca.issue((Role::Tls, ED), &template, Links::default(), &spki(ED), Some(&wrong)).unwrap_err();
    assert!(error.message().contains("does not decrypt this private key"), "{error}");
    let leaf = ca.issue((Role::Tls, ED), &template, Links::default(), &spki(ED), Some(&passphrase)).unwrap();
    drop(ca);

    let file = place.path().join("backup.tar");
    let summary = backup(&dir, &file).unwrap();
    assert_eq!((summary.plain_keys, summary.certificates), (0, 3));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let second = place.path().join("second");
    assert_eq!(restore(&second, &file).unwrap(), summary);
    assert_eq!(fs::read(key(&second)).unwrap(), fs::read(key(&dir)).unwrap());
    assert_eq!(fs::metadata(key(&second)).unwrap().permissions().mode() & 0o777, 0o600);
    let mut ca = Ca::open(&second).unwrap();
    assert_eq!(ca.find(&leaf.serial).unwrap().certificate, leaf.chain[0]);
    ca.revoke(&leaf.serial, Reason::Superseded).unwrap();
    ca.publish("tls-ca-ed25519", CRL_LIFETIME, Some(&passphrase)).unwrap();
}

#[test]
fn a_backup_that_was_changed_or_cut_short_makes_nothing() {
    let place = tempfile::tempdir().unwrap();
    let dir = made(place.path(), &[ED]);
    let file = place.path().join("backup.tar");
    assert_eq!(backup(&dir, &file).unwrap().plain_keys, 3);
    assert!(backup(&dir, &file).unwrap_err().message().contains("already exists"));
    let whole = fs::read(&file).unwrap();
    let target = place.path().join("restored");
    let damaged = place.path().join("damaged.tar");
    let journal = whole.windows(9).position(|window| window == b"\"event\":\"").unwrap();
    let mut changed = whole.clone();
    changed[journal + 9] ^= 1;
    for content in [&whole[..whole.len() / 2], &whole[..whole.len() / 512 / 2 * 512], &[], &changed[..], b"no tar"] {
        fs::write(&damaged, content).unwrap();
        let error = restore(&target, &damaged).unwrap_err();
        assert!(error.message().starts_with("is not a whole backup of a CA"), "{error}");
        assert!(!target.exists());
    }
    restore(&target, &file).unwrap();
    assert!(restore(&target, &file).unwrap_err().message().contains("not empty"));
}
