//! Tunnels that can't be are refused before anything is opened, with place, key and remedy.

use std::net::TcpListener;

use qtls_interop::Pki;
use qtls_interop::openssl::text;
use qtls_interop::tunnel::{client, write_config};
use serde_json::json;

#[test]
fn bad_tunnels_are_refused_with_place_key_and_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let a = json!({ "listen": "127.0.0.1:5432", "connect": "db.example:8443" });
    for (config, expected) in [
        (
            json!({ "tunnels": [{ "listen": "127.0.0.1:1", "connect": "x:1", "verify": false }] }),
            "tunnels[0].verify: unknown key",
        ),
        (
            json!({ "tunnels": [{ "listen": "localhost:5432", "connect": "x:1" }] }),
            "tunnels[0].listen: \"localhost:5432\" is a name",
        ),
        (
            json!({ "tunnels": [{ "listen": "127.0.0.1:5432", "connect": "x" }] }),
            "tunnels[0].connect: \"x\" has no port",
        ),
        (json!({ "tunnels": [a, a] }), "tunnels[1].listen: another tunnel listens on 127.0.0.1:5432 already"),
        (
            json!({ "tunnels": [a, { "listen": "0.0.0.0:5432", "connect": "x:1" }] }),
            "tunnels[1].listen: another tunnel listens on 127.0.0.1:5432, which",
        ),
        (
            json!({ "tunnels": [{ "listen": "0.0.0.0:5432", "connect": "127.0.0.1:5432" }] }),
            "tunnels[0].connect: it leads to itself",
        ),
        (
            json!({ "tunnels": [{ "listen": "127.0.0.1:5432", "connect": "x:1", "mode": "0660" }] }),
            "tunnels[0].mode: 127.0.0.1:5432 is no Unix socket",
        ),
        (
            json!({ "tunnels": [{ "listen": "unix:/run/x", "connect": "x:1", "mode": "660x" }] }),
            "tunnels[0].mode: \"660x\" are no permissions",
        ),
        (
            json!({ "tunnels": [a], "metrics": { "port": 5432 } }),
            "metrics.port: port 5432 is already that of the tunnel",
        ),
        (
            json!({ "tunnels": [a], "client": { "max_connections": 0 } }),
            "client.max_connections: expected a whole number",
        ),
        (
            json!({ "tunnels": [a], "client": { "read_timeout": 5 } }),
            "client.read_timeout: it has no effect on tunnels, which can't know whose turn it is to send",
        ),
        (
            json!({ "tunnels": [a], "limits": { "handshake_timeout": 5 } }),
            "limits.handshake_timeout: it is about clients of a server",
        ),
        (json!({ "tunnels": [a], "limits": { "body_bytes": 5 } }), "limits.body_bytes: a tunnel reads no HTTP"),
        (json!({ "tunnels": [a], "limits": { "header_bytes": 5 } }), "limits.header_bytes: a tunnel reads no HTTP"),
        (json!({ "tunnels": [a], "limits": { "per_adress": 5 } }), "limits.per_adress: unknown key"),
        (
            json!({ "tunnels": [a], "logging": { "file": "/tmp/a", "audit_file": "/tmp/./a" } }),
            "logging.audit_file: the same file as `logging.file`",
        ),
        (json!({ "tunnels": [a], "logging": { "console": false } }), "logging.console: nothing would be logged"),
        (
            json!({ "tunnels": [{ "listen": "unix:/no/such/x.sock", "connect": "x:1" }] }),
            "tunnels[0].listen: can't listen on /no/such/x.sock: there is no directory /no/such",
        ),
        (
            json!({ "tunnels": [{ "listen": format!("127.0.0.1:{port}"), "connect": "x:1" }] }),
            "is in use by another process",
        ),
    ] {
        let file = write_config(directory.path(), &config);
        let finished = client(&["--config", text(&file), "--ca", text(&Pki::shared().ca())]).expect_code(2);
        assert!(finished.stderr.contains(expected), "{expected}\n{}", finished.said());
        assert!(finished.stderr.contains("client.json:"), "without a place: {}", finished.said());
    }
    for (arguments, expected) in [
        (vec!["--tunnel", "127.0.0.1:1=x:1", "localhost"], "cannot be used with"),
        (vec!["--tunnel", "5432=x:1"], "is not an address to listen on"),
        (
            vec!["--tunnel", "127.0.0.1:1=x:1", "--tunnel", "127.0.0.1:1=y:1"],
            "--tunnel: another tunnel listens on 127.0.0.1:1 already",
        ),
        (vec!["--local-starttls", "postgres", "localhost"], "--local-starttls: it is about the tunnels"),
        (vec!["--tunnel", "127.0.0.1:1=x:1", "--starttls", "imap"], "\"imap\" is no protocol"),
        (vec!["--test-config"], "there are no tunnels"),
    ] {
        let finished = client(&arguments).expect_code(2);
        assert!(finished.stderr.contains(expected), "{expected}\n{}", finished.said());
    }
}

#[test]
fn a_test_of_the_configuration_opens_nothing_and_warns_of_wide_sockets() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let file = write_config(
        directory.path(),
        &json!({
            "tunnels": [{ "listen": "0.0.0.0:5432", "connect": "db.example:8443" }],
            "certificates": { "ca_bundle": Pki::shared().ca() },
        }),
    );
    let finished = client(&["--config", text(&file), "--test-config"]).expect_success();
    assert!(
        finished.stdout.contains("the configuration is good: 0.0.0.0:5432 → db.example:8443"),
        "{}",
        finished.said()
    );
    assert!(finished.stderr.contains("warning: the tunnel 0.0.0.0:5432 takes plain connections from other hosts"));
    // A file of single connections serves for tunnels of the command line, too.
    let file = write_config(directory.path(), &json!({ "client": { "read_timeout": 5 } }));
    let ca = Pki::shared().ca();
    let tunnel = "127.0.0.1:5432=db.example:8443";
    let arguments = ["--config", text(&file), "--test-config", "--ca", text(&ca), "--tunnel", tunnel];
    let finished = client(&arguments).expect_success();
    assert!(finished.stderr.contains("warning: client.read_timeout has no effect on tunnels"), "{}", finished.said());
}
