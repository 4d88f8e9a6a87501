//! Command line beats environment beats file beats default; and what the environment means.

use super::*;

const FILE: &str = r#"{"server": {"listen_port": 1111, "max_connections": 11}, "tls": {"hybrid_mode": true}}"#;

#[test]
fn without_anything_the_defaults_hold() {
    let loaded = load_server(&environment(&[])).unwrap();
    let config = loaded.value;
    assert_eq!(config.server.listen_address.to_string(), "0.0.0.0");
    assert_eq!(config.server.listen_port, 8443);
    assert_eq!(config.server.max_connections, 10_000);
    assert_eq!(config.server.drain_timeout.as_secs(), 25);
    assert!((1..=1024).contains(&config.server.workers()));
    assert_eq!((config.tls.hybrid_mode, config.tls.pqc_only), (None, None));
    assert_eq!(config.tls.session_timeout.as_secs(), 3600);
    assert_eq!(config.tls.session_cache_size, 10_000);
    assert_eq!(config.tls.group_preference, GroupPreference::PostQuantum);
    assert_eq!(config.certificates.server_cert, Path::new("/nonexistent/server-cert.pem"));
    assert_eq!(config.certificates.server_key, Path::new("/nonexistent/server-key.pem"));
    assert_eq!(config.certificates.ca_bundle, None);
    assert_eq!(config.certificates.verify_client, VerifyClient::No);
    assert_eq!(config.certificates.verify_depth, 3);
    assert!(config.algorithms.kem.is_none() && config.algorithms.cipher.is_none());
    assert!(config.upstream.is_none() && config.metrics.is_none());
    assert_eq!(config.limits.handshake_timeout.as_secs(), 10);
    assert_eq!(config.limits.idle_timeout.as_secs(), 300);
    assert_eq!(
        config.logging,
        Logging {
            level: LogLevel::Info,
            file: None,
            max_size_mb: 100,
            max_files: 10,
            console: true,
            ..Logging::default()
        }
    );
    assert_eq!(loaded.warnings, [""; 0]);

    let config = load_client(&environment(&[])).unwrap().value;
    assert_eq!(config.client.connect_timeout.as_secs(), 30);
    assert_eq!(config.client.read_timeout.as_secs(), 60);
    assert_eq!(config.client.write_timeout.as_secs(), 60);
    assert_eq!(config.client.max_retries, 3);
    assert_eq!((config.client.server_host, config.client.server_port), (None, None));
    assert_eq!((config.tls.hybrid_mode, config.tls.pqc_only), (None, None));
    assert!(config.tls.server_name_indication && config.tls.verify_peer);
    assert_eq!(config.logging, Logging { level: LogLevel::Warn, console: false, ..Logging::default() });
}

#[test]
fn the_environment_beats_the_file_and_the_command_line_beats_both() {
    let variables = [("QTLS_SERVER_PORT", "2222"), ("QTLS_HYBRID_MODE", "off")];
    let file = server(FILE).unwrap().value;
    assert_eq!((file.server.listen_port, file.tls.hybrid_mode), (1111, Some(true)));

    let with_environment = server_with(FILE, environment(&variables)).unwrap().value;
    assert_eq!((with_environment.server.listen_port, with_environment.tls.hybrid_mode), (2222, Some(false)));
    assert_eq!(with_environment.server.max_connections, 11, "what the environment doesn't name stays the file's");

    let command_line = overrides(&[("server.listen_port", "1"), ("server.listen_port", "3333")]);
    let source = Source { overrides: command_line, ..environment(&variables) };
    let with_both = server_with(FILE, source).unwrap();
    assert_eq!((with_both.value.server.listen_port, with_both.value.tls.hybrid_mode), (3333, Some(false)));

    let place = |key| with_both.origins.place(key);
    assert_eq!(place("server.listen_port").as_deref(), Some("command line"));
    assert_eq!(place("tls.hybrid_mode").as_deref(), Some("environment variable QTLS_HYBRID_MODE"));
    assert!(place("server.max_connections").unwrap().ends_with("server.json:1:53"));
}

#[test]
fn the_special_variables_of_each_program() {
    let variables = [
        ("QTLS_SERVER_HOST", "[2001:DB8::1]"),
        ("QTLS_SERVER_PORT", "9443"),
        ("QTLS_HYBRID_MODE", "no"),
        ("QTLS_FIPS_MODE", "false"),
        ("QTLS_LOG_LEVEL", "debug"),
    ];
    let server = load_server(&environment(&variables)).unwrap();
    assert_eq!(server.value.server.listen_port, 9443);
    assert!(server.value.tls.hybrid_mode == Some(false) && !server.value.fips.enabled);
    assert_eq!(server.value.logging.level, LogLevel::Debug);

    let client = load_client(&environment(&variables)).unwrap();
    assert_eq!(client.value.client.server_host.as_deref(), Some("2001:db8::1"));
    assert_eq!(client.value.client.server_port, Some(9443));
    assert_eq!(client.value.tls.hybrid_mode, Some(false));
    assert_eq!(client.value.logging.level, LogLevel::Debug);
    assert_eq!((server.warnings, client.warnings), (vec![], vec![]), "a variable of the other program is no mistake");
}

#[test]
fn every_word_for_true_and_false() {
    for (word, expected) in [
        ("true", true),
        ("1", true),
        ("yes", true),
        ("ON", true),
        ("False", false),
        ("0", false),
        ("no", false),
        ("off", false),
    ] {
        let loaded = load_server(&environment(&[("QTLS__TLS__PQC_ONLY", word)])).unwrap();
        assert_eq!(loaded.value.tls.pqc_only, Some(expected), "{word}");
    }
}

#[test]
fn every_kind_of_value_can_come_from_a_variable() {
    let loaded = load_server(&environment(&[
        ("QTLS__SERVER__LISTEN_ADDRESS", "::1"),
        ("QTLS__Server__Worker_Threads", "2"),
        ("QTLS__SERVER__DRAIN_TIMEOUT", "0"),
        ("QTLS__TLS__GROUP_PREFERENCE", "strict"),
        ("QTLS__CERTIFICATES__SERVER_CERT", "1"),
        ("QTLS__CERTIFICATES__VERIFY_CLIENT", "optional"),
        ("QTLS__CERTIFICATES__CA_BUNDLE", "/a b,c"),
        ("QTLS__ALGORITHMS__KEM", "x25519mlkem768, x25519"),
        ("QTLS__ALGORITHMS__CIPHER", "[\"aes-256-gcm\"]"),
        ("QTLS__HSM__PIN", "1"),
        ("QTLS__UPSTREAM", "{\"protocol\": \"tcp\", \"servers\": [\"a:1\"]}"),
        ("QTLS__UPSTREAM__SERVERS", "b:2,[::1]:3"),
        ("QTLS__UPSTREAM__TIMEOUTS", "{\"connect\": 7}"),
        ("QTLS__METRICS__PORT", "9"),
    ]))
    .unwrap();
    let config = &loaded.value;
    assert_eq!(config.server.listen_address.to_string(), "::1");
    assert_eq!(config.server.workers(), 2);
    assert_eq!(config.server.drain_timeout.as_secs(), 0);
    assert_eq!(config.tls.group_preference, GroupPreference::Strict);
    assert_eq!(config.certificates.server_cert, Path::new("1"));
    assert_eq!(config.certificates.verify_client, VerifyClient::Optional);
    assert_eq!(config.certificates.ca_bundle.as_deref(), Some(Path::new("/a b,c")));
    assert_eq!(config.algorithms.kem.as_deref().unwrap(), ["x25519mlkem768", "x25519"]);
    assert_eq!(config.algorithms.cipher.as_deref().unwrap(), ["aes-256-gcm"]);
    assert_eq!(config.hsm.pin.as_ref().unwrap().reveal(), "1");
    let upstream = config.upstream.as_ref().unwrap();
    assert_eq!(upstream.protocol, UpstreamProtocol::Tcp);
    assert_eq!(upstream.servers.iter().map(ToString::to_string).collect::<Vec<_>>(), ["b:2", "[::1]:3"]);
    assert_eq!(upstream.timeouts.connect.as_secs(), 7);
    assert_eq!(config.metrics.as_ref().unwrap().port, 9);
    assert!(loaded.origins.is_set("upstream.protocol"), "a section from a variable has keys that are set");
    assert_eq!(
        loaded.origins.error("algorithms.kem[1]", "x").to_string(),
        "environment variable QTLS__ALGORITHMS__KEM: algorithms.kem[1]: x"
    );
}

#[test]
fn a_variable_inside_a_key_that_has_no_keys_is_refused() {
    let source = environment(&[("QTLS__SERVER__LISTEN_PORT__X", "1")]);
    assert_eq!(
        server_with(FILE, source).unwrap_err().to_string(),
        "environment variable QTLS__SERVER__LISTEN_PORT__X: server.listen_port.x: \
         unknown key: server.listen_port has no keys inside\n  \
         hint: set server.listen_port itself, or correct what server.json:1:28 gives for it"
    );
}

#[test]
fn two_variables_that_contradict_each_other_are_refused() {
    let clash = [("QTLS_SERVER_PORT", "1"), ("QTLS__SERVER__LISTEN_PORT", "2")];
    assert_eq!(
        load_server(&environment(&clash)).unwrap_err().to_string(),
        "environment variable QTLS__SERVER__LISTEN_PORT: server.listen_port: \
         QTLS_SERVER_PORT sets the same key to another value\n  \
         hint: unset QTLS_SERVER_PORT or QTLS__SERVER__LISTEN_PORT"
    );
    let same = [("QTLS_SERVER_PORT", "1"), ("QTLS__SERVER__LISTEN_PORT", "1")];
    assert_eq!(load_server(&environment(&same)).unwrap().value.server.listen_port, 1);
}

#[test]
fn what_kubernetes_injects_is_ignored_with_a_warning() {
    let variables = [
        ("QTLS_SERVER_PORT", "tcp://10.0.0.1:8443"),
        ("QTLS_SERVER_SERVICE_HOST", "10.0.0.1"),
        ("QTLS_SERVER_SERVICE_PORT", "8443"),
        ("QTLS_SERVER_PORT_8443_TCP", "tcp://10.0.0.1:8443"),
        ("QTLS_SERVER_PORT_8443_TCP_PORT", "8443"),
    ];
    let expected = "environment variable QTLS_SERVER_PORT: ignored, because \"tcp://10.0.0.1:8443\" is what Kubernetes \
                    injects for a Service named qtls-server; set `enableServiceLinks: false` in the pod's spec";
    let server = load_server(&environment(&variables)).unwrap();
    assert_eq!((server.value.server.listen_port, server.warnings), (8443, vec![expected.to_owned()]));
    let client = load_client(&environment(&variables)).unwrap();
    assert_eq!((client.value.client.server_port, client.warnings), (None, vec![expected.to_owned()]));
}

#[test]
fn a_variable_that_nearly_has_a_known_name_is_warned_of_and_others_are_not() {
    let loaded = load_server(&environment(&[
        ("QTLS_HYBRID_MOD", "false"),
        ("QTLS_HSM_PIN", "1234"),
        ("QTLS_HSM_PIN_FILE", "/pin"),
        ("QTLS_SOMETHING_ELSE_ENTIRELY", "1"),
        ("HYBRID_MODE", "1"),
    ]))
    .unwrap();
    assert_eq!(
        loaded.warnings,
        ["environment variable QTLS_HYBRID_MOD: it has no effect; did you mean QTLS_HYBRID_MODE? \
          (every key can be set as QTLS__SECTION__KEY)"]
    );
}

#[test]
fn variables_expand_in_strings() {
    let variables = [("DIR", "/run/tls"), ("NAME", "cert"), ("PORT", "5555"), ("QTLS_LOG_FILE", "/log")];
    let text = r#"{
        "server": {"listen_port": "${PORT}"},
        "certificates": {"server_cert": "${DIR}/${NAME}.pem", "server_key": "$${DIR}/$DIR/$"},
        "algorithms": {"kem": ["${NAME}", "x25519"]},
        "logging": {"file": "${QTLS_LOG_FILE}"}
    }"#;
    let loaded = server_with(text, environment(&variables)).unwrap();
    assert_eq!(loaded.value.server.listen_port, 5555);
    assert_eq!(loaded.value.certificates.server_cert, Path::new("/run/tls/cert.pem"));
    assert_eq!(loaded.value.certificates.server_key, Path::new("${DIR}/$DIR/$"));
    assert_eq!(loaded.value.algorithms.kem.as_deref().unwrap(), ["cert", "x25519"]);
    assert_eq!(loaded.warnings, [""; 0], "a variable that the file uses has an effect");
}

#[test]
fn what_a_variable_holds_is_not_expanded_again() {
    let source = environment(&[("A", "${B}"), ("QTLS__LOGGING__FILE", "${C}")]);
    let loaded = server_with(r#"{"certificates": {"server_cert": "${A}"}}"#, source).unwrap();
    assert_eq!(loaded.value.certificates.server_cert, Path::new("${B}"));
    assert_eq!(loaded.value.logging.file.as_deref(), Some(Path::new("${C}")));
}

#[test]
fn an_unset_variable_is_an_error_where_its_section_is_enabled() {
    let text = "{\n  \"certificates\": {\"server_cert\": \"${NO_SUCH}/x\"}}";
    assert_eq!(
        server_error(text),
        "server.json:2:35: certificates.server_cert: the environment variable NO_SUCH is not set\n  \
         hint: set NO_SUCH, or write the value in its place"
    );
    let refused = server_error(r#"{"hsm": {"enabled": true, "pin": "${QTLS_HSM_PIN}"}}"#);
    assert!(refused.starts_with("server.json:1:21: hsm.enabled: keys in an HSM are not supported"), "{refused}");
    for disabled in [
        r#"{"hsm": {"enabled": false, "pin": "${QTLS_HSM_PIN}"}}"#,
        r#"{"hsm": {"pin": "${QTLS_HSM_PIN}"}}"#,
        r#"{"metrics": {"enabled": false, "path": "/${NO_SUCH}"}}"#,
        r#"{"metrics": {"enabled": "${OFF}", "path": "/${NO_SUCH}"}}"#,
    ] {
        server_with(disabled, environment(&[("OFF", "off")])).expect(disabled);
    }
    let source = environment(&[("QTLS__METRICS__ENABLED", "no")]);
    server_with(r#"{"metrics": {"path": "/${NO_SUCH}"}}"#, source).unwrap();
}

#[test]
fn a_broken_expansion_is_an_error() {
    for (text, expected) in [
        (
            r#"{"logging": {"file": "${HOME"}}"#,
            "server.json:1:22: logging.file: `${` without its `}`\n  \
             hint: write ${NAME}; write $${ for the two characters themselves",
        ),
        (
            r#"{"algorithms": {"kem": ["x25519", "${A:-b}"]}}"#,
            "server.json:1:35: algorithms.kem[1]: `${A:-b}` is not the name of an environment variable\n  \
             hint: write ${NAME}, nothing more; write $${ for the two characters themselves",
        ),
        (
            r#"{"certificates": {"additional": [{"cert": "c", "key": "k", "passphrase": "${hunter-2}"}]}}"#,
            "server.json:1:74: certificates.additional[0].passphrase: `${…}` is not the name of an environment variable\n  \
             hint: write ${NAME}, nothing more; write $${ for the two characters themselves",
        ),
    ] {
        assert_eq!(server_error(text), expected);
    }
}
