//! The specification's own files, and the samples that are shipped.

use super::*;

/// The specification's files, word for word.
const SPECIFICATION_SERVER: &str = include_str!("specification_server.json");
const SPECIFICATION_CLIENT: &str = include_str!("specification_client.json");

#[test]
fn the_specification_s_server_json_fails_at_the_hsm_and_nowhere_before() {
    for variables in [&[][..], &[("QTLS_HSM_PIN", "1234")]] {
        assert_eq!(
            server_with(SPECIFICATION_SERVER, environment(variables)).unwrap_err().to_string(),
            "server.json:24:16: hsm.enabled: \
             keys in an HSM are not supported in this version; they arrive with a later release\n  \
             hint: set `hsm.enabled` to false, and name a key file in `certificates.server_key`"
        );
    }
}

#[test]
fn the_specification_s_server_json_fails_at_fips_and_the_key_uri_once_the_hsm_is_off() {
    let without_hsm = SPECIFICATION_SERVER.replacen("\"enabled\": true", "\"enabled\": false", 1);
    assert_eq!(
        server_error(&without_hsm),
        "server.json:48:16: fips.enabled: \
         the FIPS mode is not supported in this version; it arrives with a later release\n  \
         hint: set `fips.enabled` to false, and leave QTLS_FIPS_MODE unset or false"
    );
    let without_both = without_hsm.replace("\"enabled\": true,\n    \"self", "\"enabled\": false,\n    \"self");
    assert_eq!(
        server_error(&without_both),
        "server.json:18:23: certificates.server_key_uri: \
         keys in an HSM are not supported in this version; they arrive with a later release\n  \
         hint: name a key file in `certificates.server_key` instead"
    );
}

#[test]
fn the_shipped_server_json_is_the_specification_s_but_for_hsm_fips_and_key() {
    let shipped = sample("server.json");
    let adjusted = SPECIFICATION_SERVER
        .replace(
            "\"server_key_uri\": \"pkcs11:token=qtls-server;object=server-key;type=private\"",
            "\"server_key\": \"/etc/qtls/certs/server-key.pem\"",
        )
        .replace("\"hsm\": {\n    \"enabled\": true", "\"hsm\": {\n    \"enabled\": false")
        .replace("\"fips\": {\n    \"enabled\": true", "\"fips\": {\n    \"enabled\": false");
    assert_eq!(shipped, adjusted);
    let Loaded { value: config, warnings, origins, .. } = server(&shipped).unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.server.workers(), 4);
    assert_eq!(config.server.max_connections, 10_000);
    assert_eq!(config.certificates.verify_client, VerifyClient::Required);
    assert_eq!(config.certificates.ca_bundle.as_deref(), Some(Path::new("/etc/qtls/certs/ca-bundle.pem")));
    assert_eq!(config.algorithms.kem.unwrap(), ["kyber1024", "ecdhe-p384"]);
    assert_eq!(config.algorithms.signature.unwrap(), ["dilithium3", "rsa-4096"]);
    assert_eq!(config.algorithms.cipher.unwrap(), ["aes-256-gcm", "chacha20-poly1305"]);
    assert_eq!(config.algorithms.signature_chain, None);
    assert_eq!(config.logging.file.as_deref(), Some(Path::new("/var/log/qtls/server.log")));
    assert_eq!((config.logging.max_size_mb, config.logging.max_files, config.logging.console), (100, 10, true));
    let metrics = config.metrics.unwrap();
    assert_eq!((metrics.port, metrics.path.as_str()), (9091, "/metrics"));
    assert_eq!(config.hsm.session_pool_size, 10);
    let place = origins.place("algorithms.kem[1]").unwrap();
    assert!(place.ends_with("server.json:31:26"), "{place}");
}

#[test]
fn the_shipped_client_json_is_the_specification_s() {
    let shipped = sample("client.json");
    assert_eq!(shipped, SPECIFICATION_CLIENT);
    let Loaded { value: config, warnings, .. } = client(&shipped).unwrap();
    assert_eq!(warnings, [""; 0]);
    assert_eq!(config.client.connect_timeout.as_secs(), 30);
    assert_eq!(config.certificates.client_key.as_deref(), Some(Path::new("/etc/qtls/certs/client-key.pem")));
    assert_eq!(config.algorithms.cipher.unwrap(), ["aes-256-gcm"]);
    assert_eq!(config.logging.level, LogLevel::Warn);
    assert_eq!(config.logging.file.as_deref(), Some(Path::new("/var/log/qtls/client.log")));
    assert_eq!((config.logging.max_size_mb, config.logging.console), (100, false));
}

#[test]
fn every_shipped_sample_loads_without_a_warning() {
    let directory = samples();
    let mut seen = Vec::new();
    for entry in fs::read_dir(&directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        match name.as_str() {
            "server.schema.json" | "client.schema.json" => continue,
            "client.json" | "tunnel.json" => assert_eq!(client(&sample(&name)).expect(&name).warnings, [""; 0]),
            _ => assert_eq!(server(&sample(&name)).expect(&name).warnings, [""; 0]),
        }
        seen.push(name);
    }
    seen.sort();
    assert_eq!(
        seen,
        [
            "client.json",
            "http-upstream.json",
            "minimal.json",
            "mtls.json",
            "postgresql.json",
            "server.json",
            "tcp-upstream.json",
            "tunnel.json"
        ]
    );
}

#[test]
fn the_two_files_are_not_mixed_up() {
    assert_eq!(
        server_error(SPECIFICATION_CLIENT),
        "server.json:3:13: client: this is the configuration of qtls-client, not of qtls-server\n  \
         hint: give qtls-server its own file; this one is for qtls-client"
    );
    assert_eq!(
        client_error(SPECIFICATION_SERVER),
        "client.json:3:13: server: this is the configuration of qtls-server, not of qtls-client\n  \
         hint: give qtls-client its own file; this one is for qtls-server"
    );
}

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")
}

fn sample(name: &str) -> String {
    fs::read_to_string(samples().join(name)).unwrap()
}
