//! `qtls ca` and `qtls crl` as their users meet them, and what a kill at any moment leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use qtls_core::credentials::{KeyKind, files};
use qtls_pki::crl::List;
use serde_json::Value;

fn command(place: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qtls"));
    command.current_dir(place).args(arguments);
    command
}

fn qtls(place: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = command(place, arguments).output().expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    (status.code().expect("it was not killed"), text(stdout), text(stderr))
}

#[track_caller]
fn works(place: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = qtls(place, arguments);
    assert_eq!(code, 0, "{arguments:?}: {err}");
    out
}

#[track_caller]
fn fails(place: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = qtls(place, arguments);
    assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
    assert!(err.contains("\n  hint: "), "{err}");
    err
}

fn list(place: &Path) -> BTreeMap<String, Value> {
    let rows: Vec<Value> =
        serde_json::from_str(&works(place, &["ca", "list", "--dir", "ca", "--json"])).expect("it is JSON");
    rows.into_iter().map(|row| (row["serial"].as_str().expect("it has one").to_owned(), row)).collect()
}

#[test]
fn two_algorithms_give_a_matching_pair_in_the_specifications_places() {
    let place = tempfile::tempdir().unwrap();
    let made =
        works(place.path(), &["ca", "init", "--dir", "ca", "--alg", "ecdsa-p384,ml-dsa-65", "--name", "한국 CA"]);
    assert!(made.contains("certs/qsign-ca-bundle.pem"), "{made}");
    let issued = works(place.path(), &["ca", "issue", "server", "--dir", "ca", "--name", "a.example", "192.0.2.1"]);
    assert_eq!(issued.lines().count(), 2, "{issued}");
    let certs = place.path().join("ca/certs");
    assert_eq!(files::roots(&certs.join("qsign-ca-bundle.pem")).unwrap().len(), 2);
    let credential = |suffix| {
        files::credential(
            &certs.join(format!("server-cert{suffix}.pem")),
            &certs.join(format!("server-key{suffix}.pem")),
        )
    };
    for (suffix, kind) in
        [("", KeyKind::EcdsaP384), ("-ecdsa-p384", KeyKind::EcdsaP384), ("-ml-dsa-65", KeyKind::MlDsa65)]
    {
        let credential = credential(suffix).unwrap();
        assert_eq!(credential.kind, kind);
        assert_eq!(credential.dns_names, ["a.example"]);
        assert_eq!(credential.subject, "CN=a.example");
        assert!(credential.issuer.starts_with("CN=한국 CA TLS "), "{}", credential.issuer);
        assert_eq!(credential.key.cert.len(), 2);
    }
    let err = fails(place.path(), &["ca", "issue", "server", "--dir", "ca", "--name", "b.example"]);
    assert!(err.contains("server-cert-ecdsa-p384.pem: already exists"), "{err}");
    assert_eq!(list(place.path()).len(), 4 + 2, "what was refused was not issued");
    works(place.path(), &["ca", "issue", "client", "--dir", "ca", "--cn", "앱", "--as", "app", "--alg", "ml-dsa-65"]);
    assert!(certs.join("app-cert.pem").exists() && certs.join("app-key.pem").exists());
}

#[test]
fn a_request_is_answered_and_a_certificate_revoked() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    works(at, &["ca", "init", "--dir", "ca", "--alg", "ed25519"]);
    works(at, &["keygen", "--alg", "ecdsa-p256", "--out", "a.key"]);
    works(at, &["csr", "--key", "a.key", "--name", "a.example", "b.example", "--out", "a.csr"]);
    let (code, out, err) = qtls(
        at,
        &["ca", "issue", "server", "--dir", "ca", "--csr", "a.csr", "--name", "b.example", "--out", ".", "--as", "a"],
    );
    assert_eq!(code, 0, "{err}");
    assert!(out.contains("DNS:b.example") && err.contains("not granted: DNS:a.example"), "{out}{err}");
    let credential = files::credential(&at.join("a-cert.pem"), &at.join("a.key")).unwrap();
    assert_eq!(credential.dns_names, ["b.example"]);
    assert_eq!(credential.subject, "CN=b.example", "the requested one is a host that was not granted");

    let mut request = fs::read(at.join("a.csr")).unwrap();
    let middle = request.len() / 2;
    request[middle] = if request[middle] == b'A' { b'B' } else { b'A' };
    fs::write(at.join("bad.csr"), request).unwrap();
    let err = fails(at, &["ca", "issue", "server", "--dir", "ca", "--csr", "bad.csr", "--as", "bad"]);
    assert!(err.starts_with("qtls: bad.csr: "), "{err}");

    let out = works(at, &["ca", "revoke", "a-cert.pem", "--dir", "ca", "--reason", "key-compromise"]);
    assert!(out.contains("CN=b.example") && out.contains("list 2 with 1 revocations"), "{out}");
    let row = list(at).into_values().find(|row| row["profile"] == "server").unwrap();
    assert_eq!((&row["status"], &row["reason"]), (&"revoked".into(), &"keyCompromise".into()));
    let text = works(at, &["ca", "list", "--dir", "ca"]);
    assert!(text.lines().any(|line| line.contains(" revoked server ") && line.ends_with("(keyCompromise)")), "{text}");
    let out = works(at, &["crl", "--dir", "ca", "--days", "2"]);
    assert_eq!(out.lines().count(), 3);
    assert!(out.contains("tls-ca-ed25519.crl: list 3 with 1 revocations"), "{out}");
    let serial = row["serial"].as_str().unwrap();
    assert_eq!(works(at, &["ca", "show", serial, "--dir", "ca"]), fs::read_to_string(at.join("a-cert.pem")).unwrap());
    let err = fails(at, &["ca", "revoke", "a.csr", "--dir", "ca"]);
    assert!(err.contains("holds no certificate"), "{err}");
}

#[test]
fn a_root_that_is_kept_elsewhere_does_not_keep_the_other_lists_from_being_renewed() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    works(at, &["ca", "init", "--dir", "ca", "--alg", "ed25519"]);
    fs::rename(at.join("ca/private/root-ed25519.key.pem"), at.join("root.key")).unwrap();
    let (code, out, err) = qtls(at, &["crl", "--dir", "ca"]);
    assert_eq!((code, out.lines().count()), (2, 2), "{out}{err}");
    assert!(out.contains("tls-ca-ed25519.crl: list 2") && out.contains("signing-ca-ed25519.crl: list 2"), "{out}");
    assert!(err.contains("root-ed25519.key.pem: the authority's key is not here\n  hint: "), "{err}");
    assert!(works(at, &["crl", "--dir", "ca", "--issuer", "tls"]).contains("tls-ca-ed25519.crl: list 3"));
    works(at, &["ca", "issue", "server", "--dir", "ca", "--name", "a.example"]);
    let err = fails(at, &["ca", "issue", "intermediate", "--dir", "ca", "--cn", "Sub"]);
    assert!(err.contains("the authority's key is not here"), "{err}");
}

#[test]
fn what_an_operator_gets_wrong_is_told_with_a_remedy() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    let err = fails(at, &["ca", "list", "--dir", "none"]);
    assert!(err.contains("none: there is no CA in this directory"), "{err}");
    works(at, &["ca", "init", "--dir", "ca", "--alg", "ed25519"]);
    for (arguments, told) in [
        (&["server"][..], "needs a name that clients can check"),
        (&["intermediate", "--issuer", "tls", "--cn", "Sub"], "its path length is 0"),
        (&["server", "--name", "a.example", "--days", "4000"], "after its issuer"),
        (&["server", "--name", "a.example", "--alg", "rsa-2048"], "this CA has no rsa-2048"),
        (&["server", "--name", "a.example", "--out", "no/where"], "make its directory first"),
        (&["server", "--name", "a.example", "--crl-url", "nonsense"], "`nonsense` is not a URL"),
        (&["server", "--name", "a.example", "--path-length", "1"], "is for intermediates only"),
        (&["server", "--name", "a.example", "--as", "../x"], "can't begin the names of files"),
    ] {
        let err = fails(at, &[&["ca", "issue"], arguments, &["--dir", "ca"]].concat());
        assert!(err.contains(told), "{arguments:?}: {err}");
    }
    assert_eq!(list(at).len(), 2);
    let made: Vec<_> = fs::read_dir(at.join("ca/certs")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(made.len(), 4, "no key is left behind: {made:?}");
    works(at, &["ca", "issue", "intermediate", "--dir", "ca", "--cn", "지점 CA", "--days", "3650"]);
    assert!(fails(at, &["ca", "revoke", "zz", "--dir", "ca"]).contains("no certificate with the serial number"));
    assert!(fails(at, &["ca", "revoke", "zz", "--dir", "ca", "--reason", "keyCompromize"]).contains("keyCompromise"));
}

#[test]
fn a_backup_becomes_the_same_ca_elsewhere() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    works(at, &["ca", "init", "--dir", "ca", "--alg", "ed25519"]);
    works(at, &["ca", "issue", "client", "--dir", "ca", "--cn", "x"]);
    let (_, out, err) = qtls(at, &["ca", "backup", "--dir", "ca", "--out", "ca.tar"]);
    assert!(out.contains("a journal of 3 certificates") && err.contains("4 keys that no passphrase protects"), "{err}");
    works(at, &["ca", "restore", "ca.tar", "--dir", "other"]);
    assert_eq!(
        works(at, &["ca", "list", "--dir", "other", "--json"]),
        works(at, &["ca", "list", "--dir", "ca", "--json"])
    );
    assert!(fails(at, &["ca", "restore", "ca.tar", "--dir", "other"]).contains("not empty"));
}

#[test]
fn a_kill_at_any_moment_loses_no_serial_and_no_revocation() {
    let place = tempfile::tempdir().unwrap();
    let at = place.path();
    works(at, &["ca", "init", "--dir", "ca", "--alg", "ecdsa-p256"]);
    fs::create_dir(at.join("out")).unwrap();
    // How long a whole command takes here, so that the kills are spread over all of it: when nothing holds it up.
    let timed = |name: &str| {
        let begun = Instant::now();
        works(at, &["ca", "issue", "client", "--dir", "ca", "--cn", name, "--out", "out", "--as", name]);
        begun.elapsed()
    };
    let whole = ["first", "second", "third"].map(timed).into_iter().min().expect("there are three");
    let mut acknowledged = Vec::new();
    let mut killed = 0;
    for round in 0..24_u32 {
        let name = format!("n{round}");
        let issue = ["ca", "issue", "client", "--dir", "ca", "--cn", &name, "--out", "out", "--as", &name];
        killed += usize::from(kill_during(at, &issue, whole * round / 20));
        if let Some(serial) = list(at).into_values().find(|row| row["subject"] == format!("CN={name}")) {
            let serial = serial["serial"].as_str().unwrap().to_owned();
            let revoke = ["ca", "revoke", &serial, "--dir", "ca", "--reason", "superseded"];
            if kill_during(at, &revoke, whole * (24 - round) / 20) {
                killed += 1;
            } else {
                acknowledged.push(serial);
            }
        }
    }
    assert!(killed >= 5, "only {killed} of the commands were killed in their middle");
    let rows = list(at);
    for file in fs::read_dir(at.join("out")).unwrap() {
        let path = file.unwrap().path();
        if path.to_string_lossy().ends_with("-cert.pem") && !path.to_string_lossy().contains("/.") {
            let serial = serial_of(&path);
            assert!(rows.contains_key(&serial), "{} is out in the world and not in the journal", path.display());
        }
    }
    for serial in &acknowledged {
        assert_eq!(rows[serial]["status"], "revoked");
    }
    // Whatever was interrupted, the next list has every revocation, under a number never used before.
    let number = |label: &str| {
        let list = List::parse(&fs::read(at.join(format!("ca/crl/{label}.crl"))).unwrap()).unwrap();
        (list.number.unwrap().parse::<u64>().unwrap(), list.revoked.len())
    };
    let before = number("tls-ca-ecdsa-p256").0;
    works(at, &["crl", "--dir", "ca"]);
    let (after, listed) = number("tls-ca-ecdsa-p256");
    assert!(after > before);
    assert_eq!(listed, rows.values().filter(|row| row["status"] == "revoked").count());
}

/// Whether it was killed before it ended.
fn kill_during(place: &Path, arguments: &[&str], after: Duration) -> bool {
    let mut child =
        command(place, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary runs");
    // The moment is the point of this test: there is no event to wait for.
    std::thread::sleep(after);
    child.kill().expect("it is ours");
    let status = child.wait().expect("it is ours");
    assert!(matches!(status.code(), Some(0) | None), "{arguments:?}: {status}");
    status.code().is_none()
}

fn serial_of(path: &Path) -> String {
    let certificates = qtls_core::credentials::certificates(qtls_core::credentials::Source {
        origin: "certificate",
        bytes: &fs::read(path).expect("it is there"),
    })
    .expect("it is a certificate");
    let parsed =
        <x509_cert::Certificate as x509_cert::der::Decode>::from_der(&certificates[0]).expect("it is a certificate");
    parsed.tbs_certificate().serial_number().as_bytes().iter().map(|octet| format!("{octet:02x}")).collect()
}
