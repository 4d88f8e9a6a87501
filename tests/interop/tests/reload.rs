//! What is reloaded takes the old state's place whole, or not at all; no connection notices.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qtls_interop::authority::Authority;
use qtls_interop::openssl::{Client, text};
use qtls_interop::process::{PATIENCE, run};
use qtls_interop::upstreams::echo;
use qtls_interop::{Algorithm, Pki, Server, curl, peers};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory with a certificate and its key, which come and go.
struct Files(TempDir);

impl Files {
    fn of(pki: &Pki) -> Self {
        let files = Self(tempfile::tempdir().expect("the temporary directory is writable"));
        files.replace("cert.pem", &pki.server(Algorithm::EcdsaP384).0);
        files.replace("key.pem", &pki.server(Algorithm::EcdsaP384).1);
        files
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// As every careful tool does it: a new file beside, then a rename.
    fn replace(&self, name: &str, with: &Path) {
        fs::copy(with, self.at("new")).expect("it can be copied");
        fs::rename(self.at("new"), self.at(name)).expect("it can be renamed");
    }

    fn configured(&self) -> Value {
        json!({ "certificates": { "server_cert": self.at("cert.pem"), "server_key": self.at("key.pem") } })
    }
}

/// A handshake with the certificate of this authority, in the hybrid group, and an answer.
#[track_caller]
fn serves(server: &Server, pki: &Pki) {
    let exchange = Client::trusting(server.port, &pki.ca()).get("/status.json");
    assert_eq!(exchange.json()["group"], "X25519MLKEM768", "{}", exchange.finished.said());
}

#[track_caller]
fn is_distrusted(server: &Server, pki: &Pki) {
    let exchange = Client::trusting(server.port, &pki.ca()).get("/status.json");
    assert!(exchange.finished.stderr.contains("certificate verify failed"), "{}", exchange.finished.said());
}

#[test]
fn a_renewed_certificate_is_served_by_the_same_process_and_older_connections_go_on() {
    let (old, new) = (Pki::shared(), Pki::stranger());
    let files = Files::of(old);
    let upstream = json!({ "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] });
    let mut config = files.configured();
    config["upstream"] = upstream;
    let mut server = Server::with_config(config);
    let mut client = Client::new(server.port).start();
    let mut input = client.stdin();
    writeln!(input, "before").expect("the connection is open");
    client.stdout.wait_for_line("before");

    // Nobody signals: the files are enough.
    server.applies(|| {
        files.replace("cert.pem", &new.server(Algorithm::EcdsaP384).0);
        files.replace("key.pem", &new.server(Algorithm::EcdsaP384).1);
    });
    let line = server.wait_for_log("files have changed: reloaded");
    assert!(line.contains("generation=2"), "{line}");
    let mut renewed = Client::trusting(server.port, &new.ca()).start();
    writeln!(renewed.stdin(), "after").expect("the connection is open");
    renewed.stdout.wait_for_line("after");
    is_distrusted(&server, old);

    writeln!(input, "still here").expect("the connection is open");
    client.stdout.wait_for_line("still here");
    assert!(server.process.is_running());
}

#[test]
fn the_directory_swap_of_kubernetes_is_a_renewal() {
    let (old, new) = (Pki::shared(), Pki::stranger());
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let at = |name: &str| directory.path().join(name);
    for (version, pki) in [("..2026_1", old), ("..2026_2", new)] {
        fs::create_dir(at(version)).expect("it is writable");
        let (cert, key) = pki.server(Algorithm::EcdsaP384);
        fs::copy(cert, at(version).join("tls.crt")).expect("it can be copied");
        fs::copy(key, at(version).join("tls.key")).expect("it can be copied");
    }
    symlink("..2026_1", at("..data")).expect("it is writable");
    for name in ["tls.crt", "tls.key"] {
        symlink(Path::new("..data").join(name), at(name)).expect("it is writable");
    }
    let server =
        Server::with_config(json!({ "certificates": { "server_cert": at("tls.crt"), "server_key": at("tls.key") } }));
    serves(&server, old);
    server.applies(|| {
        symlink("..2026_2", at("..data_tmp")).expect("it is writable");
        fs::rename(at("..data_tmp"), at("..data")).expect("it is writable");
    });
    serves(&server, new);
}

#[test]
fn half_a_renewal_is_refused_until_the_other_half_is_there() {
    let (old, new) = (Pki::shared(), Pki::stranger());
    let files = Files::of(old);
    let server = Server::with_config(files.configured());
    let line = server.refuses(|| files.replace("cert.pem", &new.server(Algorithm::EcdsaP384).0));
    assert!(line.contains("files have changed: refused"), "{line}");
    assert!(
        line.contains("certificates.server_cert") && line.contains("does not belong to this certificate"),
        "{line}"
    );
    serves(&server, old);
    server.applies(|| files.replace("key.pem", &new.server(Algorithm::EcdsaP384).1));
    serves(&server, new);
    assert_eq!(server.reloads(), (1.0, 1.0), "{}", server.log());
}

#[test]
fn an_expired_certificate_does_not_replace_a_valid_one() {
    let files = Files::of(Pki::shared());
    let mut config = files.configured();
    // Else half of it may be refused first, for what it is.
    config["reload"] = json!({ "watch_credentials": false });
    let server = Server::with_config(config);
    let expired = tempfile::tempdir().expect("the temporary directory is writable");
    let at = |name: &str| expired.path().join(name);
    let mut command = peers::debian("openssl", [expired.path()]);
    command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384", "-nodes", "-batch"]);
    command.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]);
    command.args(["-not_before", "20240101000000Z", "-not_after", "20250101000000Z"]);
    command.args(["-keyout", text(&at("key.pem")), "-out", text(&at("cert.pem"))]);
    run(&mut command, b"").expect_success();
    let line = server.refuses(|| {
        files.replace("cert.pem", &at("cert.pem"));
        files.replace("key.pem", &at("key.pem"));
        server.hang_up();
    });
    assert!(line.contains("expired"), "{line}");
    serves(&server, Pki::shared());
}

#[test]
fn policy_hosts_and_upstreams_change_and_what_needs_a_restart_is_named() {
    // In a sandbox, the port of the upstream would have to be one of the start: tests/sandbox.rs.
    let server = Server::start(json!({ "sandbox": "off" }));
    let classical = |server: &Server| {
        let mut command = peers::classical_curl();
        curl::towards(&mut command, &Pki::shared().ca()).arg(format!("https://localhost:{}/status.json", server.port));
        run(&mut command, b"")
    };
    classical(&server).expect_success();
    let handover = server.directory().join("handover");
    server.applies(|| {
        server.rewrite_config(json!({
            "server": {
                "listen_address": "127.0.0.2", "listen_port": 1 + server.port % 60_000, "worker_threads": 3,
                "handover": handover, "user": "nobody",
            },
            "metrics": { "address": "127.0.0.2", "port": 1 + server.metrics_port % 60_000, "dashboard_address": "127.0.0.3" },
            "tls": { "pqc_only": true },
            "sandbox": "best-effort",
            "virtual_hosts": [{
                "names": ["echo.example"],
                "upstream": { "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] },
            }],
        }));
        server.hang_up();
    });
    for (key, value) in [
        ("server.listen_address", "(127.0.0.2; still 127.0.0.1)".to_owned()),
        ("server.listen_port", format!("still {}", server.port)),
        ("server.worker_threads", "(3; still 2)".to_owned()),
        ("server.handover", String::new()),
        ("server.user", String::new()),
        ("metrics.address", "(127.0.0.2; still 127.0.0.1)".to_owned()),
        ("metrics.port", format!("still {}", server.metrics_port)),
        ("metrics.dashboard_address", "(127.0.0.3; still 127.0.0.1)".to_owned()),
        ("sandbox", "(best-effort; still off)".to_owned()),
    ] {
        let line = server.wait_for_warning(&format!("not changed without a restart: {key}"));
        assert!(line.contains(&value), "{line}");
    }
    assert!(!handover.exists());
    serves(&server, Pki::shared());
    assert!(!classical(&server).status.success(), "a classical client got in under pqc_only");
    server.wait_for_log("handshake refused");
    let mut echoed = Client::new(server.port).arguments(&["-servername", "echo.example"]).start();
    writeln!(echoed.stdin(), "to the upstream").expect("the connection is open");
    echoed.stdout.wait_for_line("to the upstream");

    // And back, but for the metrics, which are switched off.
    server.applies(|| {
        server.rewrite_config(json!({
            "tls": { "pqc_only": false }, "virtual_hosts": null, "metrics": { "enabled": false },
            "server": { "handover": null, "user": null },
        }));
        server.hang_up();
    });
    server.wait_for_warning("not changed without a restart: metrics.enabled (false; still true)");
    classical(&server).expect_success();
}

#[test]
fn a_bad_configuration_is_refused_by_line_and_the_log_file_is_opened_anew_all_the_same() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let log = directory.path().join("server.log");
    let server = Server::start(json!({ "logging": { "file": log } }));
    let moved = directory.path().join("server.log.1");
    fs::rename(&log, &moved).expect("it is there");
    let line = server.refuses(|| {
        server.rewrite_config(json!({ "tls": { "hybird_mode": true } }));
        server.hang_up();
    });
    assert!(line.contains("SIGHUP: refused"), "{line}");
    assert!(line.contains("server.json:") && line.contains("tls.hybird_mode"), "{line}");
    assert!(line.contains("hint: ") && line.contains("hybrid_mode"), "{line}");
    // A line gets into the file soon after it got onto the console.
    let deadline = Instant::now() + PATIENCE;
    while !fs::read_to_string(&log).expect("the file was made anew").contains("SIGHUP: refused") {
        assert!(Instant::now() < deadline, "not logged to {}", log.display());
        std::thread::sleep(Duration::from_millis(10));
    }
    serves(&server, Pki::shared());
    server.applies(|| {
        server.rewrite_config(json!({ "tls": { "hybird_mode": null } }));
        server.hang_up();
    });
}

#[test]
fn a_client_revoked_since_is_refused_as_soon_as_the_list_is_there() {
    let authority = Authority::new();
    let server = Server::start(json!({ "certificates": {
        "verify_client": true, "ca_bundle": authority.bundle(), "crl": { "paths": [authority.lists()] },
    } }));
    let first = authority.client(server.port, "bad").saving_session();
    let exchange = first.get("/status.json");
    assert_eq!(exchange.json()["group"], "X25519MLKEM768");
    authority.qtls(&["ca", "revoke", text(&authority.path("certs/bad-cert.pem")), "--dir", "ca"]);
    server.applies(|| drop(authority.lists()));
    let refused = authority.client(server.port, "bad").get("/status.json");
    assert_eq!(refused.alert(), Some("certificate revoked"), "{}", refused.finished.said());
    // Nor does the session of before open the door.
    let resumed = authority.client(server.port, "bad").resuming(&first).get("/status.json");
    assert!(!resumed.finished.stdout.contains("HTTP/1"), "an answer: {}", resumed.finished.said());
    assert_eq!(authority.client(server.port, "good").get("/status.json").json()["group"], "X25519MLKEM768");
}

#[test]
fn the_configuration_is_watched_by_choice() {
    for watch in [true, false] {
        let server = Server::start(json!({ "reload": { "watch_config": watch, "watch_credentials": false } }));
        let change = || server.rewrite_config(json!({ "tls": { "session_timeout": 77 } }));
        if watch {
            server.applies(change);
        } else {
            change();
            // Longer than it takes to see a change and to let it settle.
            std::thread::sleep(Duration::from_secs(4));
            assert_eq!(server.reloads(), (0.0, 0.0), "{}", server.log());
        }
    }
}

#[test]
fn a_storm_of_signals_is_a_few_reloads_and_no_harm() {
    let mut server = Server::start(json!({}));
    serves(&server, Pki::shared());
    let before = server.resident_memory();
    for _ in 0..3000 {
        server.hang_up();
    }
    server.rewrite_config(json!({ "tls": { "pqc_only": true } }));
    server.applies(|| server.hang_up());
    serves(&server, Pki::shared());
    assert!(server.process.is_running());
    let (applied, refused) = server.reloads();
    assert!(applied >= 1.0 && refused == 0.0, "{applied} applied, {refused} refused");
    let grown = server.resident_memory().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} octets more after {applied} reloads");
}

#[test]
fn a_stopping_server_reloads_nothing_more() {
    let server = Server::start(json!({ "server": { "drain_delay": 600 } }));
    server.process.signal(Signal::TERM);
    let line = server.wait_for_log("no longer ready");
    assert!(line.contains("SIGTERM: no longer ready; new connections are accepted for 600 s more"), "{line}");
    serves(&server, Pki::shared());
    server.hang_up();
    server.wait_for_log("SIGHUP: not reloaded, since the server is stopping");
    server.process.signal(Signal::TERM);
    let finished = server.process.finish(PATIENCE).expect_success();
    assert!(finished.stderr.contains("SIGTERM, a second signal: closing what is open"), "{}", finished.said());
}
