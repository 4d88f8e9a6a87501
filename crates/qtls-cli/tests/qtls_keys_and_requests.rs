//! `qtls keygen` and `qtls csr` as their users meet them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use qtls_core::credentials::KeyKind;
use qtls_pki::{pem, request::Request};

fn qtls(place: &Path, arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_qtls"))
        .current_dir(place)
        .env("KEY_PASSPHRASE", "from the environment")
        .args(arguments)
        .output()
        .expect("the binary runs");
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    (status.code().expect("it was not killed"), text(stdout), text(stderr))
}

#[test]
fn a_key_is_its_owners_alone_and_is_not_overwritten() {
    let place = tempfile::tempdir().unwrap();
    let made = qtls(place.path(), &["keygen", "--alg", "ml-dsa-65", "--out", "a.key"]);
    assert_eq!(made, (0, "a.key: a new ML-DSA-65 key\n".to_owned(), String::new()));
    let path = place.path().join("a.key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&path).unwrap();
    let (code, _, err) = qtls(place.path(), &["keygen", "--alg", "ed25519", "--out", "a.key"]);
    assert_eq!(code, 2);
    assert!(err.starts_with("qtls: a.key: already exists, and is not overwritten\n  hint: "), "{err}");
    assert_eq!(fs::read(&path).unwrap(), before);
    let (code, _, err) = qtls(place.path(), &["keygen", "--alg", "ml-dsa-66", "--out", "b.key"]);
    assert_eq!(code, 2);
    assert!(err.contains("ml-dsa-65"), "{err}");
    assert!(!place.path().join("b.key").exists());
}

#[test]
fn a_request_carries_its_names_and_its_signature() {
    let place = tempfile::tempdir().unwrap();
    qtls(place.path(), &["keygen", "--alg", "ecdsa-p384", "--out", "a.key"]);
    let (code, out, err) = qtls(
        place.path(),
        &["csr", "--key", "a.key", "--name", "서버.한국", "192.0.2.1", "--cn", "시험 서버", "--org", "양자"],
    );
    assert_eq!((code, err.as_str()), (0, ""));
    let sections = pem::sections(out.as_bytes()).unwrap();
    assert_eq!((sections.len(), sections[0].label.as_str()), (1, pem::REQUEST));
    let request = Request::parse(&sections[0].der).unwrap();
    assert_eq!(request.subject, "CN=시험 서버,O=양자");
    assert_eq!(request.kind, KeyKind::EcdsaP384);
    let names: Vec<String> = request.names.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["DNS:xn--hk3b17f.xn--3e0b707e", "IP:192.0.2.1"]);

    let (code, out, _) = qtls(place.path(), &["csr", "--key", "a.key", "--name", "a.example", "--out", "a.csr"]);
    assert_eq!((code, out.as_str()), (0, ""));
    let written = fs::read(place.path().join("a.csr")).unwrap();
    let request = Request::parse(&pem::sections(&written).unwrap()[0].der).unwrap();
    assert_eq!(request.subject, "CN=a.example", "the first name is for people, too");

    let (code, _, err) = qtls(place.path(), &["csr", "--key", "a.key"]);
    assert_eq!(code, 2);
    assert!(err.contains("a request needs a name\n  hint: "), "{err}");
    let (code, _, err) = qtls(place.path(), &["csr", "--key", "none.key", "--cn", "x"]);
    assert_eq!(code, 2);
    assert!(err.starts_with("qtls: none.key: does not exist"), "{err}");
}

#[test]
fn a_passphrase_comes_from_a_file_or_the_environment() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("pass"), "from the environment\n").unwrap();
    fs::write(place.path().join("wrong"), "something else\n").unwrap();
    let environment = ["--passphrase-env", "KEY_PASSPHRASE"];
    let made =
        qtls(place.path(), &[&["keygen", "--alg", "ecdsa-p256", "--out", "a.key"][..], &environment[..]].concat());
    assert_eq!(made.1, "a.key: a new ECDSA P-256 key, encrypted\n");
    let key = fs::read_to_string(place.path().join("a.key")).unwrap();
    assert!(key.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----\n"));
    let csr = |passphrase: &[&str]| qtls(place.path(), &[&["csr", "--key", "a.key", "--cn", "x"], passphrase].concat());
    assert_eq!(csr(&["--passphrase-file", "pass"]).0, 0);
    let (code, _, err) = csr(&["--passphrase-file", "wrong"]);
    assert_eq!(code, 2);
    assert!(err.starts_with("qtls: a.key: the passphrase from wrong does not decrypt this private key"), "{err}");
    let (code, _, err) = csr(&[]);
    assert_eq!(code, 2);
    assert!(err.contains("the private key is encrypted"), "{err}");
    let (code, _, err) = csr(&["--passphrase-env", "QTLS_NOT_SET"]);
    assert_eq!(code, 2);
    assert!(err.starts_with("qtls: environment variable QTLS_NOT_SET: is not set"), "{err}");
}
