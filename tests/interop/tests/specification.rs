//! The configurations of the specification, as they stand there, and the sample files of `configs/`.

use std::path::{Path, PathBuf};

use qtls_interop::client::{self, Client};
use qtls_interop::openssl;
use qtls_interop::process::run;
use qtls_interop::server::merge;
use qtls_interop::{Algorithm, Negotiated, Pki, Server, programs};
use serde_json::{Value, json};

/// `/etc/qtls/config/server.json` of the specification without its comment. Nothing is left out.
const SERVER: &str = r#"{
  "server": {
    "listen_address": "0.0.0.0",
    "listen_port": 8443,
    "worker_threads": 4,
    "max_connections": 10000
  },
  "tls": {
    "protocol_version": "1.3",
    "hybrid_mode": true,
    "pqc_only": false,
    "session_timeout": 3600,
    "session_cache_size": 10000
  },
  "certificates": {
    "server_cert": "/etc/qtls/certs/server-cert.pem",
    "server_key_uri": "pkcs11:token=qtls-server;object=server-key;type=private",
    "ca_bundle": "/etc/qtls/certs/ca-bundle.pem",
    "verify_client": true,
    "verify_depth": 3
  },
  "hsm": {
    "enabled": true,
    "pkcs11_library": "/usr/lib/libCryptoki2_64.so",
    "token_label": "qtls-server",
    "pin": "${QTLS_HSM_PIN}",
    "session_pool_size": 10
  },
  "algorithms": {
    "kem": ["kyber1024", "ecdhe-p384"],
    "signature": ["dilithium3", "rsa-4096"],
    "cipher": ["aes-256-gcm", "chacha20-poly1305"]
  },
  "logging": {
    "level": "info",
    "file": "/var/log/qtls/server.log",
    "max_size_mb": 100,
    "max_files": 10,
    "console": true
  },
  "metrics": {
    "enabled": true,
    "port": 9091,
    "path": "/metrics"
  },
  "fips": {
    "enabled": true,
    "self_test_on_load": true
  }
}"#;

/// `/etc/qtls/config/client.json` of the specification without its comment.
const CLIENT: &str = r#"{
  "client": {
    "connect_timeout": 30,
    "read_timeout": 60,
    "write_timeout": 60,
    "max_retries": 3
  },
  "tls": {
    "protocol_version": "1.3",
    "hybrid_mode": true,
    "server_name_indication": true,
    "verify_peer": true
  },
  "certificates": {
    "client_cert": "/etc/qtls/certs/client-cert.pem",
    "client_key": "/etc/qtls/certs/client-key.pem",
    "ca_bundle": "/etc/qtls/certs/ca-bundle.pem"
  },
  "algorithms": {
    "kem": ["kyber1024", "ecdhe-p384"],
    "signature": ["dilithium3", "rsa-4096"],
    "cipher": ["aes-256-gcm"]
  },
  "logging": {
    "level": "warn",
    "file": "/var/log/qtls/client.log",
    "console": false
  }
}"#;

/// The specification's server.json with HSM and FIPS off and the paths adjusted.
fn server_config(algorithm: Algorithm, log: &Path) -> Value {
    let (cert, key) = Pki::shared().server(algorithm);
    let mut config: Value = serde_json::from_str(SERVER).expect("JSON");
    merge(
        &mut config,
        json!({
            "hsm": { "enabled": false },
            "fips": { "enabled": false },
            "certificates": {
                "server_cert": cert, "server_key": key, "server_key_uri": null, "ca_bundle": Pki::shared().ca(),
            },
            "logging": { "file": log },
        }),
    );
    config
}

#[test]
fn openssl_gets_the_hybrid_of_the_specification() {
    for algorithm in [Algorithm::MlDsa65, Algorithm::Rsa4096] {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("server.log");
        let server = Server::with_config(server_config(algorithm, &log));
        let client = openssl::Client::new(server.port).groups("*SecP384r1MLKEM1024:X25519MLKEM768");
        let client = client.certificate(Pki::shared().client(Algorithm::MlDsa65));
        let exchange = client.get("/status.json");
        let expected = Negotiated::new("SecP384r1MLKEM1024", algorithm.scheme());
        assert_eq!(exchange.negotiated(), expected);
        assert_eq!(Negotiated::from_json(&exchange.json()), expected);
        server.expect_handshakes(&[&expected]);

        let text = std::fs::read_to_string(&log).expect("the log file is written");
        assert!(text.contains("listening on"), "{text}");
        for (old, standard) in [("kyber1024", "ML-KEM-1024"), ("dilithium3", "ML-DSA-65")] {
            let warned = text.lines().filter(|line| line.contains("WARN") && line.contains(old)).collect::<Vec<_>>();
            assert_eq!(warned.len(), 1, "one warning about {old} in\n{text}");
            assert!(warned[0].to_uppercase().contains(standard), "{warned:?}");
        }
        // Browsers speak none of its hybrids: the operator is told which entry would change that.
        assert!(text.to_lowercase().contains("x25519mlkem768"), "{text}");
    }
}

#[test]
fn both_configurations_of_the_specification_work_together() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::with_config(server_config(Algorithm::MlDsa65, &directory.path().join("server.log")));
    let (cert, key) = Pki::shared().client(Algorithm::MlDsa65);
    let mut config: Value = serde_json::from_str(CLIENT).expect("JSON");
    merge(
        &mut config,
        json!({
            "certificates": { "client_cert": cert, "client_key": key, "ca_bundle": Pki::shared().ca() },
            "logging": { "file": directory.path().join("client.log") },
        }),
    );
    let path = directory.path().join("client.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let mut command = programs::command("qtls-client");
    command
        .args(["localhost", &server.port.to_string(), "--json", "--request", "GET /status.json", "--config"])
        .arg(path);
    let finished = run(&mut command, b"").expect_success();
    let expected = Negotiated::new("SecP384r1MLKEM1024", "mldsa65");
    assert_eq!(client::negotiated(&finished), expected);
    server.expect_handshakes(&[&expected]);
}

#[test]
fn the_hsm_and_fips_are_refused_with_a_sentence_while_they_are_not_there() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("server.log");
    for (change, key) in [
        (json!({ "hsm": { "enabled": true, "pin": "1234" } }), "hsm.enabled"),
        (json!({ "fips": { "enabled": true } }), "fips.enabled"),
    ] {
        let mut config = server_config(Algorithm::MlDsa65, &log);
        merge(&mut config, change);
        let file = qtls_interop::server::write_config(directory.path(), &config);
        let mut command = programs::command("qtls-server");
        let finished = run(command.arg("--test-config").arg("--config").arg(&file), b"").expect_code(2);
        assert!(finished.stderr.contains(key) && finished.stderr.contains("hint:"), "{}", finished.said());
    }
}

/// The certificates of an installation, with those of the specification's first signature under the plain names.
fn installation() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let place = |from: PathBuf, name: &str| {
        std::fs::copy(from, directory.path().join(name)).expect("the temporary directory is writable");
    };
    let (pki, algorithm) = (Pki::shared(), Algorithm::MlDsa65);
    place(pki.ca(), "ca-bundle.pem");
    for ((cert, key), side) in [(pki.server(algorithm), "server"), (pki.client(algorithm), "client")] {
        place(cert, &format!("{side}-cert.pem"));
        place(key, &format!("{side}-key.pem"));
    }
    directory
}

#[test]
fn every_sample_configuration_passes_the_check() {
    let samples = programs::repository().join("configs");
    let certificates = installation();
    let mut checked = 0;
    let server = Server::with_certificate(Algorithm::MlDsa65, json!({}));
    for sample in std::fs::read_dir(&samples).expect("configs/ is there") {
        let sample = sample.expect("configs/ is readable").path();
        let name = sample.file_name().expect("a file has a name").to_string_lossy();
        if !name.ends_with(".json") || name.ends_with(".schema.json") {
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let text = std::fs::read_to_string(&sample).expect("the sample is text");
        // Only the paths of an installation are replaced, by those of the test.
        let text = text.replace("/etc/qtls/certs", &certificates.path().display().to_string());
        let text = text.replace("/var/log/qtls", &directory.path().display().to_string());
        let text = text.replace("/run/qtls", &directory.path().display().to_string());
        let file = directory.path().join("sample.json");
        std::fs::write(&file, &text).unwrap();
        if name.starts_with("tunnel") {
            let mut command = programs::command("qtls-client");
            let finished = run(command.arg("--test-config").arg("--config").arg(&file), b"").expect_success();
            let said = finished.said();
            assert!(said.contains("127.0.0.1:6379") && said.contains("X25519MLKEM768"), "{said}");
        } else if name.starts_with("client") {
            // Without tunnels there is no check of its own: it is the same path up to connecting, so it connects.
            let mut command = programs::command("qtls-client");
            command.args(["localhost", &server.port.to_string(), "--json", "--config"]).arg(&file);
            let finished = run(&mut command, b"").expect_success();
            assert_eq!(client::facts(&finished)["verified"], true, "{}", sample.display());
        } else {
            let mut command = programs::command("qtls-server");
            command.arg("--test-config").arg("--config").arg(&file);
            if !text.contains("\"certificates\"") {
                // The defaults are paths of an installation, too.
                for key in ["server_cert", "server_key"] {
                    let path = certificates.path().join(format!("{}.pem", key.replace('_', "-")));
                    command.arg("--set").arg(format!("certificates.{key}={}", path.display()));
                }
            }
            run(&mut command, b"").expect_success();
        }
        checked += 1;
    }
    assert!(checked > 0, "no samples in {}", samples.display());
}

#[test]
fn client_shapes_of_the_specification_connect() {
    let server = Server::start(json!({}));
    let finished = Client::new(server.port).get("/health").expect_success();
    assert_eq!(client::negotiated(&finished).group, "X25519MLKEM768");
    let mut command = programs::command("qtls-client");
    command.args(["--json", "--request", "GET /health", "--ca"]).arg(Pki::shared().ca());
    command.env("QTLS_SERVER_HOST", "localhost").env("QTLS_SERVER_PORT", server.port.to_string());
    let finished = run(&mut command, b"").expect_success();
    assert_eq!(client::negotiated(&finished).group, "X25519MLKEM768");
}
