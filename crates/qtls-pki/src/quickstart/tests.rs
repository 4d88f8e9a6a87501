use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::LazyLock;

use qtls_core::credentials::files;
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::*;

/// RSA-4096 keys take their time: the tests that only look share one infrastructure.
static MADE: LazyLock<(tempfile::TempDir, Summary)> = LazyLock::new(|| {
    let place = tempfile::tempdir().unwrap();
    let names = names(&["*.example.com", "서버.한국", "127.0.0.1", "::1", "서버.한국"]);
    let summary = create(&Options::new(place.path().join("new/pki"), names)).unwrap();
    (place, summary)
});

fn names(given: &[&str]) -> Vec<ServerName> {
    given.iter().map(|name| name.parse().unwrap()).collect()
}

fn refusal(dir: &Path) -> String {
    create(&Options::new(dir, names(&["a.example"]))).unwrap_err().to_string()
}

fn left_in(dir: &Path) -> Vec<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_file_is_there_with_its_mode() {
    let (_, summary) = &*MADE;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&summary.dir), 0o700);
    assert_eq!(mode(&summary.dir.join("ca")), 0o700);
    let mut expected = BTreeSet::from(["ca-bundle.pem", "client.json", "server.json"].map(str::to_owned));
    for suffix in ["", "-ecdsa-p384", "-rsa-4096", "-ml-dsa-65"] {
        expected.extend(
            ["server-cert", "server-key", "client-cert", "client-key"].map(|file| format!("{file}{suffix}.pem")),
        );
        if !suffix.is_empty() {
            for role in ["root", "intermediate"] {
                expected.extend([format!("ca/{role}{suffix}.pem"), format!("ca/{role}{suffix}.key.pem")]);
            }
        }
    }
    let told: BTreeSet<String> = summary.files.iter().map(|file| file.to_str().unwrap().to_owned()).collect();
    assert_eq!(told, expected);
    for file in &told {
        let secret = file.contains("-key") || file.ends_with(".key.pem");
        assert_eq!(mode(&summary.dir.join(file)), if secret { 0o600 } else { 0o644 }, "{file}");
    }
    let there = left_in(&summary.dir).len() + left_in(&summary.dir.join("ca")).len();
    assert_eq!(there, told.len() + 1, "nothing but what was told, and the directory `ca`");
}

#[test]
fn every_chain_matches_its_key_and_verifies_up_to_the_bundle() {
    let (_, summary) = &*MADE;
    let roots = files::roots(&summary.ca_bundle).unwrap();
    assert_eq!(roots.len(), 3);
    for algorithm in ALGORITHMS {
        for (role, usage, wrong_usage) in [
            ("server", KeyUsage::server_auth(), KeyUsage::client_auth()),
            ("client", KeyUsage::client_auth(), KeyUsage::server_auth()),
        ] {
            let file = |what| summary.dir.join(format!("{role}-{what}-{algorithm}.pem"));
            let credential = files::credential(&file("cert"), &file("key")).unwrap();
            assert_eq!(credential.kind, algorithm.kind());
            assert!(credential.validity(SystemTime::now()).is_valid());
            assert_eq!(credential.key.cert.len(), 2, "leaf and intermediate");
            let chain = &credential.key.cert;
            assert!(verifies(chain, &roots, usage), "{algorithm} {role}");
            assert!(!verifies(chain, &roots, wrong_usage), "{algorithm} {role}: the extended key usage holds");
            assert!(!verifies(&chain[..1], &roots, usage), "{algorithm} {role}: the intermediate is needed");
        }
    }
}

fn verifies(chain: &[CertificateDer<'_>], roots: &[CertificateDer<'_>], usage: KeyUsage) -> bool {
    let anchors: Vec<_> = roots.iter().map(|root| anchor_from_trusted_cert(root).unwrap()).collect();
    let leaf = EndEntityCert::try_from(&chain[0]).unwrap();
    leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &chain[1..], UnixTime::now(), usage, None, None).is_ok()
}

#[test]
fn the_servers_names_are_in_its_certificates() {
    let (_, summary) = &*MADE;
    let file = |what: &str| summary.dir.join(what);
    let credential = files::credential(&file("server-cert.pem"), &file("server-key.pem")).unwrap();
    assert_eq!(credential.dns_names, ["xn--hk3b17f.xn--3e0b707e", "*.example.com"]);
    assert_eq!(credential.ip_addresses, ["127.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
    assert_eq!(credential.subject, "CN=xn--hk3b17f.xn--3e0b707e,O=Q-TLS quickstart");
    assert_eq!(summary.connect, "xn--hk3b17f.xn--3e0b707e:8443");
    assert_eq!(summary.names.len(), 4, "each name once");
    let leaf = EndEntityCert::try_from(&credential.key.cert[0]).unwrap();
    for (name, valid) in [("www.example.com", true), ("example.com", false), ("a.b.example.com", false)] {
        let name = rustls::pki_types::ServerName::try_from(name).unwrap();
        assert_eq!(leaf.verify_is_valid_for_subject_name(&name).is_ok(), valid, "{name:?}");
    }
}

#[test]
fn the_plain_names_belong_to_the_chosen_algorithm_and_validities_are_nested() {
    let (_, summary) = &*MADE;
    let read = |file: &str| fs::read(summary.dir.join(file)).unwrap();
    assert_eq!(read("server-cert.pem"), read("server-cert-ecdsa-p384.pem"));
    assert_eq!(read("client-key.pem"), read("client-key-ecdsa-p384.pem"));
    let file = |what: &str| summary.dir.join(what);
    let days = |cert: &str, key: &str| {
        let read = files::credential(&file(cert), &file(key)).unwrap();
        let now = SystemTime::now();
        assert!(read.not_before < now - std::time::Duration::from_secs(290), "peers' clocks may be behind");
        read.not_after.duration_since(now).unwrap().as_secs() / 86_400
    };
    assert_eq!(days("server-cert.pem", "server-key.pem"), 364);
    assert_eq!(days("ca/intermediate-rsa-4096.pem", "ca/intermediate-rsa-4096.key.pem"), 3_651);
    assert_eq!(days("ca/root-ml-dsa-65.pem", "ca/root-ml-dsa-65.key.pem"), 7_304);
}

#[test]
fn the_configurations_are_json_with_comments_and_absolute_paths() {
    let (_, summary) = &*MADE;
    let read = |path: &Path| {
        let text = fs::read_to_string(path).unwrap();
        // Comments begin at the line's start or after two spaces in these files, and no string holds that.
        let plain: String = text
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .map(|line| line.split("  //").next().unwrap())
            .collect();
        assert!(text.len() > plain.len(), "it is commented");
        serde_json::from_str::<serde_json::Value>(&plain).unwrap()
    };
    let server = read(&summary.server_config);
    assert_eq!(server["server"]["listen_address"], "0.0.0.0");
    assert_eq!(server["server"]["listen_port"], 8443);
    assert_eq!(server["metrics"]["address"], "127.0.0.1");
    assert_eq!(server["algorithms"]["signature"], serde_json::json!(["ecdsa-p384", "rsa-4096", "ml-dsa-65"]));
    let client = read(&summary.client_config);
    assert_eq!(client["client"]["server_host"], "xn--hk3b17f.xn--3e0b707e");
    for path in [
        &server["certificates"]["server_cert"],
        &server["certificates"]["server_key"],
        &server["certificates"]["ca_bundle"],
        &client["certificates"]["client_cert"],
        &client["certificates"]["client_key"],
        &client["certificates"]["ca_bundle"],
    ] {
        let path = Path::new(path.as_str().unwrap());
        assert!(path.is_absolute() && path.is_file(), "{path:?}");
    }
}

#[test]
fn what_is_there_is_never_touched() {
    let place = tempfile::tempdir().unwrap();
    let full = place.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("server-key.pem"), "precious").unwrap();
    let error = refusal(&full);
    assert!(error.contains("already exists and is not empty"), "{error}");
    assert!(error.contains("hint: choose another directory, or remove this one"), "{error}");
    assert!(refusal(&full.join("server-key.pem")).contains("is a file"));
    assert!(refusal(&full.join("server-key.pem/below")).contains("Not a directory"));
    symlink("nowhere", place.path().join("dangling")).unwrap();
    assert!(refusal(&place.path().join("dangling")).contains("is a symbolic link to nowhere"));
    assert!(refusal(&place.path().join("gone/../new")).contains("goes through `..`"));
    assert!(refusal(&place.path().join("${HOME}")).contains("taken for a variable"));
    assert_eq!(fs::read_to_string(full.join("server-key.pem")).unwrap(), "precious");
    assert_eq!(left_in(place.path()).len(), 2);
}

#[test]
fn a_failure_in_the_middle_leaves_nothing() {
    let place = tempfile::tempdir().unwrap();
    let target = Target::new(&place.path().join("above/pki")).unwrap();
    let text = || "x".to_owned();
    // The second file of the same name is refused, after directories, a file and a subdirectory have been made.
    let contents =
        [Content::public("a.pem", text()), Content::secret("ca/a.key.pem", text()), Content::public("a.pem", text())];
    let error = target.publish(&contents).unwrap_err().to_string();
    assert!(error.contains("a.pem: can't write it: File exists"), "{error}");
    assert_eq!(left_in(place.path()), [""; 0]);
}

#[test]
fn a_directory_that_fills_up_meanwhile_stays_as_it_is() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path().join("pki");
    let target = Target::new(&dir).unwrap();
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("theirs"), "theirs").unwrap();
    let error = target.publish(&[Content::public("ours", "ours".to_owned())]).unwrap_err().to_string();
    assert!(error.contains("already exists and is not empty"), "{error}");
    assert_eq!(left_in(place.path()), ["pki"]);
    assert_eq!(left_in(&dir), ["theirs"]);
}

#[test]
fn an_empty_directory_is_taken_also_through_a_link() {
    let place = tempfile::tempdir().unwrap();
    let real = place.path().join("real");
    fs::create_dir(&real).unwrap();
    symlink(&real, place.path().join("link")).unwrap();
    let target = Target::new(&place.path().join("link")).unwrap();
    target.publish(&[Content::public("a", "a".to_owned())]).unwrap();
    assert_eq!(left_in(&real), ["a"]);
    assert!(place.path().join("link").is_symlink());
}

#[test]
fn what_cannot_be_made_is_refused_before_any_key_is() {
    let place = tempfile::tempdir().unwrap();
    let mut options = Options::new(place.path().join("pki"), Vec::new());
    assert!(create(&options).unwrap_err().message().contains("needs at least one name"));
    options.names = names(&["a.example"]);
    options.algorithm = KeyAlgorithm::Ed25519;
    let error = create(&options).unwrap_err();
    assert_eq!(error.hint_text(), Some("choose one of ecdsa-p384, rsa-4096, ml-dsa-65"));
    assert_eq!(left_in(place.path()), [""; 0]);
}
