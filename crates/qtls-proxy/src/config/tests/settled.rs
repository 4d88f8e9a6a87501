//! What depends on more than one key, or on the directory of certificates.

use qtls_core::credentials::files;

use super::*;

#[test]
fn the_default_bundle_serves_where_it_is_there_under_either_name() {
    for name in ["ca-bundle.pem", "ca-bundle"] {
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join(name), "").unwrap();
        let source = || Source { certificate_dir: directory.path().to_owned(), ..Source::default() };
        for verify in ["true", "\"optional\""] {
            let text = format!("{{\"certificates\": {{\"verify_client\": {verify}}}}}");
            let bundle = server_with(&text, source()).unwrap().value.certificates.ca_bundle.unwrap();
            assert_eq!(bundle, directory.path().join("ca-bundle.pem"));
            assert_eq!(files::resolve(&bundle), directory.path().join(name));
        }
        let unused = server_with("{}", source()).unwrap().value.certificates.ca_bundle;
        assert_eq!(unused, None, "without client verification nothing is looked for");
    }
}

#[test]
fn another_bundle_is_no_default() {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("qsign-ca-bundle.pem"), "").unwrap();
    let source = Source { certificate_dir: directory.path().to_owned(), ..Source::default() };
    let error = server_with(r#"{"certificates": {"verify_client": true}}"#, source).unwrap_err();
    assert_eq!(error.key_path(), Some("certificates.verify_client"));
}

#[test]
fn metrics_are_there_if_the_section_is_and_does_not_say_otherwise() {
    assert!(server("{}").unwrap().value.metrics.is_none());
    assert!(server(r#"{"metrics": {}}"#).unwrap().value.metrics.is_some());
    assert!(server(r#"{"metrics": {"enabled": false}}"#).unwrap().value.metrics.is_none());
}

#[test]
fn metrics_may_share_a_port_only_on_another_address() {
    for (listen, metrics, good) in [
        ("127.0.0.1", "127.0.0.2", true),
        ("127.0.0.1", "127.0.0.1", false),
        ("0.0.0.0", "127.0.0.1", false),
        ("127.0.0.1", "0.0.0.0", false),
        ("::", "127.0.0.1", false),
        ("0.0.0.0", "::1", true),
        ("::1", "::", false),
    ] {
        let text = format!(
            r#"{{"server": {{"listen_address": "{listen}", "listen_port": 9091}},
                 "metrics": {{"address": "{metrics}", "dashboard_address": null}}}}"#
        );
        let result = server(&text);
        assert_eq!(result.is_ok(), good, "{listen} {metrics}");
        if let Err(error) = result {
            assert_eq!(error.message(), "port 9091 is already `server.listen_port` on the same address");
        }
    }
    server(r#"{"server": {"listen_port": 9091}, "metrics": {"enabled": false}}"#).unwrap();
}

#[test]
fn the_dashboard_has_a_socket_of_its_own_only_where_the_metrics_do_not_listen() {
    let sockets = |metrics: &str, dashboard: &str| {
        let text = format!(r#"{{"metrics": {{"address": "{metrics}", "dashboard_address": {dashboard}}}}}"#);
        let metrics = server(&text).unwrap().value.metrics.unwrap();
        let sockets: Vec<_> = metrics.sockets().into_iter().map(|(_, socket)| socket.ip().to_string()).collect();
        (metrics, sockets)
    };
    let shown = |metrics: &Metrics, local: &str| {
        let local = local.parse().unwrap();
        (metrics.serves_metrics_on(local), metrics.shows_dashboard_on(local))
    };
    for (metrics, dashboard, expected) in [
        ("0.0.0.0", "\"127.0.0.1\"", &["0.0.0.0"][..]),
        ("::", "\"127.0.0.1\"", &["::"]),
        ("::", "\"::1\"", &["::"]),
        ("127.0.0.1", "\"127.0.0.1\"", &["127.0.0.1"]),
        ("192.0.2.1", "\"127.0.0.1\"", &["192.0.2.1", "127.0.0.1"]),
        ("0.0.0.0", "\"::1\"", &["0.0.0.0", "::1"]),
        // The wide socket would keep the narrow one from being bound.
        ("127.0.0.1", "\"0.0.0.0\"", &["0.0.0.0"]),
        ("192.0.2.1", "\"::\"", &["::"]),
        ("192.0.2.1", "null", &["192.0.2.1"]),
    ] {
        assert_eq!(sockets(metrics, dashboard).1, expected, "{metrics} {dashboard}");
    }
    let (both, _) = sockets("0.0.0.0", "\"127.0.0.1\"");
    assert_eq!(shown(&both, "127.0.0.1"), (true, true));
    assert_eq!(shown(&both, "192.0.2.1"), (true, false));
    assert_eq!(shown(&both, "::ffff:127.0.0.1"), (true, true), "as a socket of both families tells it");
    let (narrow, _) = sockets("127.0.0.1", "\"::\"");
    assert_eq!(shown(&narrow, "192.0.2.1"), (false, true));
    let (off, _) = sockets("0.0.0.0", "null");
    assert_eq!(shown(&off, "127.0.0.1"), (true, false));
}

#[test]
fn a_log_file_alone_is_enough() {
    let config = server(r#"{"logging": {"console": false, "file": "/var/log/x"}}"#).unwrap().value;
    assert_eq!((config.logging.console, config.logging.file.as_deref()), (false, Some(Path::new("/var/log/x"))));
}

#[test]
fn later_checks_can_name_the_place_of_every_key() {
    let loaded = server("{\n  \"algorithms\": {\n    \"kem\": [\"x25519\",\n            \"nope\"]\n  }\n}").unwrap();
    let place = |key: &str| {
        let error = loaded.origins.error(key, "is wrong");
        assert_eq!((error.key_path(), error.message()), (Some(key), "is wrong"));
        error.place().map(|place| place.rsplit('/').next().unwrap().to_owned())
    };
    assert_eq!(place("algorithms.kem[1]").as_deref(), Some("server.json:4:13"));
    assert_eq!(place("algorithms.kem[7]").as_deref(), Some("server.json:3:12"), "the nearest parent");
    assert_eq!(place("algorithms.cipher").as_deref(), Some("server.json:2:17"));
    assert_eq!(place("server.listen_port").as_deref(), Some("server.json"), "the file, where the section is absent");
    assert!(loaded.origins.is_set("algorithms.kem") && !loaded.origins.is_set("algorithms.cipher"));

    let without_file = load_server(&environment(&[])).unwrap().origins;
    assert_eq!(without_file.error("server.listen_port", "x").to_string(), "server.listen_port: x");
    let found = Error::certificate("expired").at("cert.pem");
    assert_eq!(loaded.origins.locate("certificates.server_cert", found).place(), Some("cert.pem"));
}

#[test]
fn a_pin_is_never_shown() {
    let config = server(r#"{"hsm": {"pin": "s3cret"}}"#).unwrap().value;
    assert_eq!(config.hsm.pin.as_ref().unwrap().reveal(), "s3cret");
    assert!(!format!("{config:?}").contains("s3cret"));
    let source = environment(&[("QTLS_HSM_PIN", "s3cret")]);
    let shown = format!("{source:?}");
    assert!(shown.contains("QTLS_HSM_PIN") && !shown.contains("s3cret"), "{shown}");
}

#[test]
fn editors_may_name_the_schema() {
    server(r#"{"$schema": "./server.schema.json"}"#).unwrap();
    client(r#"{"$schema": "./client.schema.json"}"#).unwrap();
}

#[test]
fn the_redirect_listens_where_the_server_does_and_leads_there_unless_told_otherwise() {
    let redirect = |text: &str| {
        let config = server(text).unwrap().value;
        let redirect = config.redirect.unwrap();
        (redirect.socket(&config.server).to_string(), redirect.target(&config.server))
    };
    let listen = r#""server": {"listen_address": "127.0.0.1", "listen_port": 443}"#;
    assert_eq!(redirect(&format!("{{{listen}, \"redirect\": {{}}}}")), ("127.0.0.1:80".to_owned(), 443));
    assert_eq!(
        redirect(&format!(
            "{{{listen}, \"redirect\": {{\"port\": 443, \"address\": \"127.0.0.2\", \"to_port\": 8443}}}}"
        )),
        ("127.0.0.2:443".to_owned(), 8443),
        "the same port of another address"
    );
}
