//! The audit log says who and what made the server serve as it does, and whom it refused: appended to, as JSON.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use qtls_interop::authority::Authority;
use qtls_interop::log::{self, refusals};
use qtls_interop::openssl::text;
use qtls_interop::process::{PATIENCE, run};
use qtls_interop::server::write_config;
use qtls_interop::{Algorithm, Pki, Server, peers, programs};
use rustix::process::Signal;
use serde_json::{Value, json};

/// The events of one kind, as soon as there are `count`.
#[track_caller]
fn events(path: &Path, event: &str, count: usize) -> Vec<Value> {
    log::wait_for(path, count, |line| line["event"] == event)
}

/// Asserts that these members of an event are as expected.
#[track_caller]
fn assert_members(event: &Value, expected: &[(&str, Value)]) {
    for (key, value) in expected {
        assert_eq!(event[*key], *value, "{key} in {event}");
    }
}

/// The SHA-256 of the first certificate in a file, as OpenSSL has it, in lower case and without colons.
fn fingerprint(cert: &Path) -> String {
    let mut openssl: Command = peers::classical_openssl();
    openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in", text(cert)]);
    let shown = run(&mut openssl, b"").expect_success().stdout;
    shown.trim().rsplit('=').next().expect("a fingerprint").replace(':', "").to_lowercase()
}

#[test]
fn a_life_from_start_to_stop() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let path = directory.path().join("audit.log");
    let (cert, _) = Pki::shared().server(Algorithm::EcdsaP384);
    let server = Server::start(json!({ "logging": { "audit_file": path, "format": "text" } }));
    let who = [("pid", json!(server.process.id())), ("uid", json!(rustix::process::getuid().as_raw()))];

    let start = events(&path, "start", 1).remove(0);
    assert_members(&start, &who);
    assert_members(&start, &[("cause", json!("start")), ("result", json!("ok")), ("version", json!("1.0.0"))]);
    assert_eq!(start["timestamp"].as_str().map(str::len), Some("2026-11-22T10:00:00.123Z".len()));
    let loaded = events(&path, "credential_loaded", 1).remove(0);
    assert_members(&loaded, &who);
    assert_members(
        &loaded,
        &[
            ("cause", json!("start")),
            ("host", json!("default")),
            ("name", json!("server-cert-ecdsa-p384")),
            ("origin", json!(cert)),
            ("kind", json!("ecdsa-p384")),
            ("sha256", json!(fingerprint(&cert))),
        ],
    );
    assert!(loaded["not_after"].as_str().is_some_and(|time| time.ends_with('Z')), "{loaded}");
    let policy = events(&path, "policy", 1).remove(0);
    let before = policy["policy"].as_str().expect("a policy").to_owned();
    assert!(before.starts_with("groups X25519MLKEM768,") && before.ends_with("clients not verified"), "{before}");

    refusals(server.port, 2);
    let refusal = events(&path, "refusal", 2).remove(0);
    assert_members(&refusal, &who);
    assert_members(
        &refusal,
        &[
            ("result", json!("refused")),
            ("server_name", json!("a.example")),
            ("reason", json!("no_common_version")),
            ("message", json!("the peer doesn't speak TLS 1.3")),
        ],
    );
    assert!(refusal["client"].as_str().is_some_and(|client| client.starts_with("127.0.0.1:")), "{refusal}");

    server.rewrite_config(json!({ "tls": { "pqc_only": true } }));
    server.applies(|| server.hang_up());
    let reload = events(&path, "reload", 1).remove(0);
    assert_members(&reload, &who);
    assert_members(&reload, &[("cause", json!("SIGHUP")), ("result", json!("applied")), ("generation", json!(2))]);
    let changed = events(&path, "policy_changed", 1).remove(0);
    assert_members(&changed, &[("cause", json!("SIGHUP")), ("host", json!("default")), ("before", json!(before))]);
    let after = changed["after"].as_str().expect("a policy");
    assert!(after.starts_with("groups X25519MLKEM768,") && !after.contains(",x25519,"), "{after}");

    server.rewrite_config(json!({ "tls": { "pqc_only": 3 } }));
    server.refuses(|| server.hang_up());
    let refused = events(&path, "reload", 2).remove(1);
    assert_members(&refused, &[("cause", json!("SIGHUP")), ("result", json!("refused"))]);
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("tls.pqc_only")), "{refused}");
    // The certificate is the same: it was not loaded anew.
    events(&path, "credential_loaded", 1);

    server.process.signal(Signal::TERM);
    server.process.finish(PATIENCE).expect_success();
    let stop = events(&path, "stop", 1).remove(0);
    assert_members(&stop, &[("cause", json!("SIGTERM")), ("result", json!("ok"))]);
    assert_eq!(fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o640 & !umask());

    // The next life goes on behind it.
    let before = fs::read(&path).expect("it can be read");
    let _server = Server::start(json!({ "logging": { "audit_file": path } }));
    events(&path, "start", 2);
    assert!(fs::read(&path).expect("it can be read").starts_with(&before));
}

#[test]
fn a_renewed_certificate_is_told_with_both_its_cause_and_its_fingerprint() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let path = directory.path().join("audit.log");
    let copy = |algorithm: Algorithm| {
        let (cert, key) = Pki::shared().server(algorithm);
        for (from, to) in [(&key, "key.pem"), (&cert, "cert.pem")] {
            let new = directory.path().join("new");
            fs::copy(from, &new).expect("it can be copied");
            fs::rename(new, directory.path().join(to)).expect("it can be renamed");
        }
        fingerprint(&cert)
    };
    let first = copy(Algorithm::EcdsaP384);
    let certificates =
        json!({ "server_cert": directory.path().join("cert.pem"), "server_key": directory.path().join("key.pem") });
    let server = Server::start(json!({ "certificates": certificates, "logging": { "audit_file": path } }));
    let mut second = String::new();
    server.applies(|| second = copy(Algorithm::MlDsa65));
    let loaded = events(&path, "credential_loaded", 2);
    assert_members(&loaded[0], &[("cause", json!("start")), ("sha256", json!(first))]);
    assert_members(
        &loaded[1],
        &[("cause", json!("file change")), ("sha256", json!(second)), ("kind", json!("ml-dsa-65"))],
    );
}

#[test]
fn a_client_that_its_certificate_does_not_let_in_is_named() {
    let authority = Authority::new();
    let path = authority.directory().join("audit.log");
    let server = Server::start(json!({
        "certificates": { "verify_client": true, "ca_bundle": authority.bundle(), "allow": [{ "san_dns": "good.example" }] },
        "logging": { "audit_file": path },
    }));
    authority.client(server.port, "good").get("/");
    authority.client(server.port, "bad").get("/");
    let refusal = events(&path, "refusal", 1).remove(0);
    assert_members(&refusal, &[("reason", json!("access_denied")), ("server_name", json!("localhost"))]);
    assert!(refusal["message"].as_str().is_some_and(|message| message.contains("bad.example")), "{refusal}");
    let policy = events(&path, "policy", 1).remove(0);
    assert!(policy["policy"].as_str().is_some_and(|text| text.ends_with(", allowed san_dns=good.example")), "{policy}");
}

#[test]
fn other_trust_anchors_and_other_ticket_keys_are_told() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (path, bundle, keys) =
        (directory.path().join("audit.log"), directory.path().join("bundle.pem"), directory.path().join("keys"));
    fs::copy(Pki::shared().ca(), &bundle).expect("it can be copied");
    let ticket_keys = |arguments: &[&str]| {
        run(programs::command("qtls").arg("ticket-keys").args(arguments).arg(&keys), b"").expect_success();
    };
    ticket_keys(&["generate"]);
    let (cert, key) = Pki::shared().server(Algorithm::MlDsa65);
    let own = json!({ "verify_client": "optional", "ca_bundle": bundle, "server_cert": cert, "server_key": key });
    let server = Server::start(json!({
        "tls": { "ticket_keys": { "file": keys } },
        "virtual_hosts": [{ "names": ["b.example"], "certificates": own, "tls": { "ticket_keys": null } }],
        "logging": { "audit_file": path },
    }));
    let first = events(&path, "ticket_keys_loaded", 1).remove(0);
    assert_members(&first, &[("cause", json!("start")), ("host", json!("default"))]);
    // The starts of the names of keys, in hexadecimal digits.
    let names = first["keys"].as_str().expect("it has keys");
    assert!(names.split(", ").all(|name| name.len() == 8 && name.bytes().all(|b| b.is_ascii_hexdigit())), "{first}");

    server.applies(|| ticket_keys(&["rotate"]));
    let second = events(&path, "ticket_keys_loaded", 2).remove(1);
    assert_members(&second, &[("cause", json!("file change")), ("host", json!("default"))]);
    assert_ne!(first["keys"], second["keys"]);

    server.applies(|| {
        let new = directory.path().join("new");
        fs::copy(Pki::stranger().ca(), &new).expect("it can be copied");
        fs::rename(new, &bundle).expect("it can be renamed");
    });
    let changed = events(&path, "policy_changed", 1).remove(0);
    assert_members(
        &changed,
        &[("host", json!("b.example")), ("trust", json!("changed")), ("cause", json!("file change"))],
    );
    assert_eq!(changed["before"], changed["after"]);
    // Nothing else has changed.
    events(&path, "credential_loaded", 2);
    events(&path, "ticket_keys_loaded", 2);
}

#[test]
fn a_start_that_fails_is_told_with_the_reason() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let path = directory.path().join("audit.log");
    let (cert, _) = Pki::shared().server(Algorithm::EcdsaP384);
    let (_, other) = Pki::shared().server(Algorithm::MlDsa65);
    let certificates = json!({ "server_cert": cert, "server_key": other });
    let config = json!({ "certificates": certificates, "logging": { "audit_file": path } });
    let file = write_config(directory.path(), &config);
    run(programs::command("qtls-server").arg("--config").arg(&file), b"").expect_code(2);
    let start = events(&path, "start", 1).remove(0);
    assert_members(&start, &[("cause", json!("start")), ("result", json!("failed"))]);
    assert!(start["reason"].as_str().is_some_and(|reason| reason.contains("certificates.server_cert")), "{start}");
    // A test starts nothing.
    run(programs::command("qtls-server").arg("--test-config").arg("--config").arg(&file), b"").expect_code(2);
    events(&path, "start", 1);
}

#[test]
fn another_program_may_rename_it() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let path = directory.path().join("audit.log");
    let server = Server::start(json!({ "logging": { "audit_file": path } }));
    let moved = directory.path().join("audit.log.1");
    fs::rename(&path, &moved).expect("it can be renamed");
    let inode = fs::metadata(&moved).expect("it is there").ino();
    refusals(server.port, 1);
    events(&moved, "refusal", 1);
    server.applies(|| server.hang_up());
    refusals(server.port, 1);
    events(&path, "refusal", 1);
    events(&moved, "refusal", 1);
    assert_ne!(fs::metadata(&path).expect("it is there").ino(), inode);
}

fn umask() -> u32 {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let path: PathBuf = directory.path().join("f");
    fs::write(&path, "").expect("it is writable");
    0o666 & !fs::metadata(path).expect("it is there").permissions().mode()
}
