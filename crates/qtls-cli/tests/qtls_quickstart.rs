//! `qtls quickstart` as its users meet it: command, standard output, standard error, exit code.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use qtls_core::credentials::files;
use qtls_core::policy::{AlgorithmNames, Policy, PolicyChoice};
use qtls_proxy::config::{Algorithms, Source, load_client, load_server};

struct Ran {
    code: i32,
    out: String,
    err: String,
}

fn quickstart(place: &Path, arguments: &[&str]) -> Ran {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_qtls"))
        .current_dir(place)
        .arg("quickstart")
        .args(arguments)
        .output()
        .expect("the binary runs");
    Ran {
        code: status.code().expect("it was not killed"),
        out: String::from_utf8(stdout).expect("it prints UTF-8"),
        err: String::from_utf8(stderr).expect("it prints UTF-8"),
    }
}

fn place() -> tempfile::TempDir {
    tempfile::tempdir().expect("there is a temporary directory")
}

#[test]
fn it_says_what_to_run_next_and_refuses_to_run_twice() {
    let place = place();
    let real = place.path().canonicalize().unwrap();
    let arguments = [
        "--dir",
        "a b/pki",
        "--name",
        "[::1]",
        "app.example",
        "--name",
        "*.example.com",
        "--alg",
        "ml-dsa-65",
        "--port",
        "9443",
    ];
    let ran = quickstart(place.path(), &arguments);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    assert!(ran.out.starts_with("Certificates for ::1, app.example, *.example.com, valid until 20"), "{}", ran.out);
    assert!(ran.out.contains("the server's chain and key, ML-DSA-65\n"), "{}", ran.out);
    let dir = real.join("a b/pki");
    assert!(ran.out.contains(&format!("\n  qtls-server --config '{}/server.json'\n", dir.display())), "{}", ran.out);
    let client = format!("\n  qtls-client '[::1]:9443' --ca '{}/ca-bundle.pem'\n", dir.display());
    assert!(ran.out.contains(&client), "{}", ran.out);
    let same =
        |one: &str, other: &str| std::fs::read(dir.join(one)).unwrap() == std::fs::read(dir.join(other)).unwrap();
    assert!(same("server-cert.pem", "server-cert-ml-dsa-65.pem"));
    assert!(!same("server-cert.pem", "server-cert-ecdsa-p384.pem"));

    let before = std::fs::read(dir.join("server-key.pem")).unwrap();
    let again = quickstart(place.path(), &arguments);
    assert_eq!((again.code, again.out.as_str()), (2, ""));
    let expected = format!(
        "qtls: {}: already exists and is not empty; keys are never overwritten\n  hint: choose another directory, or ",
        dir.display()
    );
    assert!(again.err.starts_with(&expected), "{}", again.err);
    assert_eq!(std::fs::read(dir.join("server-key.pem")).unwrap(), before);
}

#[test]
fn a_wrong_command_line_is_exit_code_2_and_makes_nothing() {
    let place = place();
    for (arguments, told) in [
        (&["--name", "a.example"][..], "--dir <DIR>"),
        (&["--dir", "pki"], "--name <NAME>"),
        (&["--dir", "pki", "--name", "https://a.example"], "it is a URL"),
        (&["--dir", "pki", "--name", "a.*.example"], "left-most label"),
        (&["--dir", "pki", "--name", "a.example", "--alg", "ml-dsa-66"], "a similar value exists: 'ml-dsa-65'"),
        (
            &["--dir", "pki", "--name", "a.example", "--alg", "ed25519"],
            "possible values: ecdsa-p384, rsa-4096, ml-dsa-65",
        ),
        (&["--dir", "pki", "--name", "a.example", "--port", "0"], "0 is not in 1..=65535"),
        (&["--dir", "pki", "--name", "a.example", "--force"], "unexpected argument '--force'"),
    ] {
        let ran = quickstart(place.path(), arguments);
        assert_eq!((ran.code, ran.out.as_str()), (2, ""), "{arguments:?}");
        assert!(ran.err.contains(told), "{arguments:?}: {}", ran.err);
    }
    assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn the_current_directory_is_not_replaced_under_the_shells_feet() {
    let place = place();
    let ran = quickstart(place.path(), &["--dir", ".", "--name", "a.example"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("is the current directory") && ran.err.contains("--dir ./qtls"), "{}", ran.err);
}

#[test]
fn the_configurations_are_accepted_with_the_certificates_they_name() {
    let place = place();
    let ran =
        quickstart(place.path(), &["--dir", "pki", "--name", "*.example.com", "--port", "9443", "--alg", "rsa-4096"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let source = |file: &str| Source { file: Some(place.path().join("pki").join(file)), ..Source::default() };
    let policy = |algorithms: &Algorithms| {
        let signature = algorithms.signature.clone();
        let names = AlgorithmNames { signature, ..AlgorithmNames::default() };
        Policy::resolve(&PolicyChoice { names, ..PolicyChoice::default() }).expect("the names are known")
    };

    let server = load_server(&source("server.json")).unwrap();
    assert_eq!(server.warnings, [""; 0]);
    let server = server.value;
    assert_eq!(server.server.listen_port, 9443);
    assert!(server.upstream.is_none());
    let metrics = server.metrics.expect("metrics are on");
    assert!(metrics.address.is_loopback() && metrics.port == 9091);
    let credential = files::credential(&server.certificates.server_cert, &server.certificates.server_key).unwrap();
    assert!(policy(&server.algorithms).allows_key(credential.kind), "an own leaf outside the list is an error");
    assert_eq!(credential.kind.to_string(), "RSA-4096");

    let client = load_client(&source("client.json")).unwrap();
    assert_eq!(client.warnings, [""; 0]);
    let client = client.value;
    assert_eq!(client.client.server_host.as_deref(), Some("www.example.com"), "a host that the wildcard covers");
    assert_eq!(client.client.server_port, Some(9443));
    let path = |path: &Option<PathBuf>| path.clone().expect("it is configured");
    let own =
        files::credential(&path(&client.certificates.client_cert), &path(&client.certificates.client_key)).unwrap();
    assert!(policy(&client.algorithms).allows_key(own.kind));
    assert!(policy(&client.algorithms).allows_key(credential.kind), "the client accepts the server's signatures");
    assert_eq!(files::roots(&path(&client.certificates.ca_bundle)).unwrap().len(), 3);
}
