//! SSLKEYLOGFILE is honoured with `tls.dangerous_key_log` and a warning, and without it nothing is written.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use qtls_interop::log;
use qtls_interop::openssl::{Client, text};
use qtls_interop::process::{Finished, PATIENCE, Running, run};
use qtls_interop::server::{free_port, write_config};
use qtls_interop::{Algorithm, Pki, programs};
use serde_json::{Value, json};

/// The configuration of a server whose certificates are the shared ones.
fn config(directory: &Path, tls: Value, port: u16) -> std::path::PathBuf {
    let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
    let config = json!({
        "server": { "listen_address": "127.0.0.1", "listen_port": port, "worker_threads": 1 },
        "certificates": { "server_cert": cert, "server_key": key },
        "tls": tls,
        "logging": { "audit_file": directory.join("audit.log") },
    });
    write_config(directory, &config)
}

fn server(config: &Path) -> Command {
    let mut command = programs::command("qtls-server");
    command.arg("--config").arg(config).env_remove("SSLKEYLOGFILE");
    command
}

fn start(command: &mut Command) -> Running {
    let running = Running::start(command);
    running
        .stderr
        .wait_for(PATIENCE, |line| line.contains("listening on"))
        .unwrap_or_else(|| panic!("{}", running.said()));
    running
}

/// The lines of a key log, in lower case: OpenSSL writes capital digits.
fn secrets(path: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_lowercase).collect()
}

#[test]
fn with_the_key_the_file_has_the_secrets_that_openssl_has() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (ours, theirs) = (directory.path().join("ours"), directory.path().join("theirs"));
    let port = free_port();
    let config = config(directory.path(), json!({ "dangerous_key_log": true }), port);
    let running = start(server(&config).env("SSLKEYLOGFILE", &ours));
    let warning = format!(
        "tls.dangerous_key_log: the secrets of connections are written to {}: whoever reads it can decrypt recordings of them",
        ours.display()
    );
    let line = running.stderr.wait_for_line("tls.dangerous_key_log");
    assert!(line.contains(" WARN ") && line.ends_with(&warning), "{line}");
    let begun = log::wait_for(&directory.path().join("audit.log"), 1, |line| line["event"] == "key_log").remove(0);
    assert_eq!((&begun["result"], &begun["file"], &begun["cause"]), (&json!("begun"), &json!(ours), &json!("start")));
    // There before the first connection, and for its owner alone.
    assert_eq!(fs::metadata(&ours).expect("it is there").permissions().mode() & 0o777, 0o600);

    for groups in ["X25519MLKEM768", "*X25519:SecP384r1MLKEM1024", "P-256"] {
        let client = Client::new(port).groups(groups).sharing(directory.path());
        client.arguments(&["-keylogfile", text(&theirs)]).get("/");
    }
    let (ours, theirs) = (secrets(&ours), secrets(&theirs));
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), 3 * 5, "{ours:#?}");
    for label in [
        "client_handshake_traffic_secret",
        "server_handshake_traffic_secret",
        "client_traffic_secret_0",
        "server_traffic_secret_0",
        "exporter_secret",
    ] {
        assert_eq!(ours.iter().filter(|line| line.starts_with(&format!("{label} "))).count(), 3, "{label}");
    }
}

#[test]
fn without_the_key_the_variable_is_ignored_and_that_is_said_once() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let keys = directory.path().join("keys");
    let port = free_port();
    let config = config(directory.path(), json!({}), port);
    let running = start(server(&config).env("SSLKEYLOGFILE", &keys));
    Client::new(port).get("/");
    running.stderr.wait_for_line("connection ended");
    assert!(!keys.exists());
    let said = running.stderr.text();
    let lines: Vec<_> = said.lines().filter(|line| line.contains("SSLKEYLOGFILE")).collect();
    assert_eq!(lines.len(), 1, "{said}");
    let expected = format!(
        "SSLKEYLOGFILE is set, and ignored without tls.dangerous_key_log: nothing is written to {}",
        keys.display()
    );
    assert!(lines[0].contains(" INFO ") && lines[0].ends_with(&expected), "{}", lines[0]);
    assert!(!said.contains("decrypt recordings"), "{said}");
}

#[test]
fn a_virtual_host_may_have_it_alone() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let keys = directory.path().join("keys");
    let port = free_port();
    let path = config(directory.path(), json!({}), port);
    let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("it is there")).expect("JSON");
    config["virtual_hosts"] = json!([{ "names": ["localhost"], "tls": { "dangerous_key_log": true } }]);
    let path = write_config(directory.path(), &config);
    let _running = start(server(&path).env("SSLKEYLOGFILE", &keys));
    // Of two -servername, the last one counts.
    Client::new(port).arguments(&["-servername", "other.example", "-verify_hostname", "localhost"]).get("/");
    assert_eq!(fs::read_to_string(&keys).expect("it is there"), "");
    Client::new(port).get("/");
    assert_eq!(secrets(&keys).len(), 5);
}

/// What `--test-config` says, and then a start.
fn both(config: &Path, variable: Option<&Path>) -> [Finished; 2] {
    [true, false].map(|test| {
        let mut command = server(config);
        command.args(test.then_some("--test-config"));
        if let Some(path) = variable {
            command.env("SSLKEYLOGFILE", path);
        }
        run(&mut command, b"")
    })
}

#[test]
fn the_key_without_a_file_to_write_is_an_error_with_a_remedy() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let config = config(directory.path(), json!({ "dangerous_key_log": true }), free_port());
    for finished in both(&config, None) {
        let finished = finished.expect_code(2);
        let message = "tls.dangerous_key_log: the secrets of connections are to be logged, but SSLKEYLOGFILE isn't set\n  hint: \
                       set this variable to the path of the file, or remove the key\n";
        assert!(finished.stderr.ends_with(message), "{}", finished.said());
        assert!(finished.stderr.starts_with(&format!("qtls-server: {}:", config.display())), "{}", finished.said());
    }
    let nowhere = directory.path().join("none/keys");
    for finished in both(&config, Some(&nowhere)) {
        let finished = finished.expect_code(2);
        let message = format!(
            "tls.dangerous_key_log: can't open {}, which SSLKEYLOGFILE names: No such file or directory (os error 2)\n  hint: \
             set SSLKEYLOGFILE to a file that this user may write, or remove `dangerous_key_log`\n",
            nowhere.display()
        );
        assert!(finished.stderr.ends_with(&message), "{}", finished.said());
    }
}

#[test]
fn a_test_warns_and_makes_nothing() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let keys = directory.path().join("keys");
    let config = config(directory.path(), json!({ "dangerous_key_log": true }), free_port());
    let mut command = server(&config);
    let finished = run(command.arg("--test-config").env("SSLKEYLOGFILE", &keys), b"").expect_success();
    let warning = format!(
        "qtls-server: warning: tls.dangerous_key_log: the secrets of connections are written to {}",
        keys.display()
    );
    assert!(finished.stderr.contains(&warning), "{}", finished.said());
    assert!(!keys.exists() && !directory.path().join("audit.log").exists());
}
