//! `qtls inspect` and `qtls verify` as their users meet them.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn qtls_with(place: &Path, arguments: &[&str], input: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_qtls"))
        .current_dir(place)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    // It may end without having read anything.
    let _ = child.stdin.take().expect("it was asked for").write_all(input);
    let Output { status, stdout, stderr } = child.wait_with_output().expect("it is ours");
    let text = |bytes| String::from_utf8(bytes).expect("it prints UTF-8");
    (status.code().expect("it was not killed"), text(stdout), text(stderr))
}

fn qtls(place: &Path, arguments: &[&str]) -> (i32, String, String) {
    qtls_with(place, arguments, b"")
}

#[track_caller]
fn works(place: &Path, arguments: &[&str]) -> String {
    let (code, out, err) = qtls(place, arguments);
    assert_eq!(code, 0, "{arguments:?}: {err}");
    out
}

fn ca() -> tempfile::TempDir {
    let place = tempfile::tempdir().expect("there is a temporary directory");
    works(place.path(), &["ca", "init", "--dir", "ca", "--alg", "ml-dsa-44", "--name", "시험"]);
    works(place.path(), &["ca", "issue", "server", "--dir", "ca", "--name", "a.example", "--out", ".", "--as", "a"]);
    place
}

const BUNDLE: &str = "ca/certs/qsign-ca-bundle.pem";

#[test]
fn a_chain_is_shown_from_a_file_and_from_standard_input() {
    let place = ca();
    let shown = works(place.path(), &["inspect", "a-cert.pem"]);
    for line in [
        "certificate 1\n  subject     CN=a.example\n  names       DNS:a.example\n",
        "  issuer      CN=시험 TLS ML-DSA-44\n",
        "  key         ML-DSA-44, NIST category 2, post-quantum\n",
        "  purposes    serverAuth\n",
        "\ncertificate 2\n  subject     CN=시험 TLS ML-DSA-44\n",
        "  CA          no CA below it\n",
    ] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    assert!(shown.contains(", 364 days left\n") && !shown.contains("problem"), "{shown}");
    let chain = fs::read(place.path().join("a-cert.pem")).unwrap();
    assert_eq!(qtls_with(place.path(), &["inspect", "-"], &chain).1, shown);
    let json: Value = serde_json::from_str(&works(place.path(), &["inspect", "--json", "a-cert.pem"])).unwrap();
    assert_eq!(json["items"][0]["names"], serde_json::json!(["DNS:a.example"]));
    assert_eq!(json["items"][1]["authority"], true);
    assert_eq!(json["problems"], serde_json::json!([]));
}

#[test]
fn what_is_wrong_is_shown_beside_it() {
    let place = ca();
    let at = place.path();
    let chain = fs::read_to_string(at.join("a-cert.pem")).unwrap();
    let middle = chain.match_indices("-----BEGIN").nth(1).unwrap().0;
    works(at, &["keygen", "--alg", "ed25519", "--out", "other.key"]);
    let key = fs::read_to_string(at.join("other.key")).unwrap();
    fs::write(at.join("mess.pem"), format!("{}{}{key}", &chain[middle..], &chain[..middle])).unwrap();
    let shown = works(at, &["inspect", "mess.pem"]);
    assert!(shown.contains("  problem     certificate 2 is the leaf, and comes first in a chain\n"), "{shown}");
    assert!(shown.contains("  problem     the private key (Ed25519) belongs to no certificate here\n"), "{shown}");
    let (code, out, err) = qtls_with(at, &["inspect", "-"], b"nothing");
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.starts_with("qtls: standard input: holds nothing that is known here\n  hint: "), "{err}");
    let (code, _, err) = qtls(at, &["inspect", "none.pem"]);
    assert_eq!(code, 2);
    assert!(err.starts_with("qtls: none.pem: does not exist\n  hint: ") && err.contains("HOST:PORT"), "{err}");
}

#[test]
fn a_server_that_is_not_there_is_a_connection_error() {
    let place = tempfile::tempdir().unwrap();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (code, out, err) = qtls(place.path(), &["inspect", &free.to_string()]);
    assert_eq!((code, out.as_str()), (3, ""));
    assert!(err.contains(&format!("can't reach {free}: Connection refused")), "{err}");
}

#[test]
fn a_good_chain_gets_0_and_its_path() {
    let place = ca();
    let lists = ["--crl", "ca/crl/root-ml-dsa-44.crl", "--crl", "ca/crl/tls-ca-ml-dsa-44.pem"];
    let arguments = [&["verify", "a-cert.pem", "--ca", BUNDLE, "--name", "a.example"][..], &lists].concat();
    let out = works(place.path(), &arguments);
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 4, "{out}");
    assert!(lines[0].starts_with("  leaf         CN=a.example, until 20"), "{out}");
    assert!(lines[1].starts_with("  intermediate CN=시험 TLS ML-DSA-44, until"), "{out}");
    assert!(lines[2].starts_with("  anchor       CN=시험 Root ML-DSA-44, until"), "{out}");
    assert_eq!(lines[3], "verified");
    let json: Value = serde_json::from_str(&works(place.path(), &[&arguments[..], &["--json"]].concat())).unwrap();
    assert_eq!((&json["verified"], &json["failure"]), (&Value::Bool(true), &Value::Null));
    assert_eq!(json["path"].as_array().map(Vec::len), Some(3));
}

#[test]
fn a_bad_chain_gets_4_and_names_certificate_and_rule() {
    let place = ca();
    let at = place.path();
    works(at, &["ca", "revoke", "a-cert.pem", "--dir", "ca", "--reason", "superseded"]);
    let chain = fs::read_to_string(at.join("a-cert.pem")).unwrap();
    fs::write(at.join("leaf.pem"), &chain[..chain.match_indices("-----BEGIN").nth(1).unwrap().0]).unwrap();
    let lists = ["--crl", "ca/crl/root-ml-dsa-44.crl", "--crl", "ca/crl/tls-ca-ml-dsa-44.crl"];
    for (arguments, told) in [
        (
            &["a-cert.pem", "--name", "b.example"][..],
            "CN=a.example: is not valid for b.example: it names DNS:a.example",
        ),
        (&["a-cert.pem", "--purpose", "client"], "CN=a.example: its extended key usage lacks clientAuth"),
        (&["a-cert.pem", "--depth", "0"], "verify_depth allows 0"),
        (&["a-cert.pem", "--at", "2101-01-01"], "CN=a.example: expired on 20"),
        (&["leaf.pem"], "CN=a.example: is issued by CN=시험 TLS ML-DSA-44, which is neither in the file nor"),
        (&[&["a-cert.pem"][..], &lists].concat(), "CN=a.example: was revoked on 20"),
    ] {
        let (code, out, err) = qtls(at, &[&["verify", "--ca", BUNDLE][..], arguments].concat());
        assert_eq!(code, 4, "{arguments:?}: {err}");
        assert!(out.ends_with("NOT verified\n") && out.lines().any(|line| line.starts_with("! ")), "{out}");
        assert!(err.contains(told) && err.contains("\n  hint: "), "{arguments:?}: {err}");
    }
    works(at, &["verify", "leaf.pem", "--ca", BUNDLE, "--untrusted", "ca/certs/tls-ca-ml-dsa-44.pem"]);
    let (code, out, _) = qtls(at, &["verify", "leaf.pem", "--ca", BUNDLE, "--json"]);
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &json["failure"]["reason"]), (4, &"certificate_unknown_issuer".into()));
    assert_eq!(json["failure"]["step"], 0);
}

#[test]
fn a_question_that_makes_no_sense_is_exit_code_2() {
    let place = ca();
    let at = place.path();
    works(at, &["ca", "init", "--dir", "other", "--alg", "ed25519", "--name", "Stranger"]);
    for (arguments, told) in [
        (&["a-cert.pem", "--ca", "a-key.pem"][..], "holds no certificate"),
        (&["a-key.pem", "--ca", BUNDLE], "holds no certificate"),
        (&["a-cert.pem", "--ca", BUNDLE, "--at", "tomorrow"], "`tomorrow` is no time"),
        (&["a-cert.pem", "--ca", BUNDLE, "--crl", "a-cert.pem"], "can't be read"),
        (&["a-cert.pem", "--ca", BUNDLE, "--crl", "other/crl/root-ed25519.crl"], "who has issued none of these"),
        (&["a-cert.pem", "--ca", BUNDLE, "--name", "https://a.example"], "it is a URL"),
    ] {
        let (code, out, err) = qtls(at, &[&["verify"], arguments].concat());
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}: {err}");
        assert!(err.contains(told), "{arguments:?}: {err}");
    }
}
