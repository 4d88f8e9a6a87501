//! Chromium shows the built-in page as trusted, over X25519MLKEM768; a screenshot is kept.

use qtls_interop::process::{Finished, run_within};
use qtls_interop::{Algorithm, Negotiated, Pki, Server, peers, programs};
use serde_json::{Value, json};
use std::time::Duration;

fn load(options: &Value) -> Finished {
    run_within(&mut peers::node("chromium/load.mjs", options), b"", Duration::from_secs(90)).expect_success()
}

#[test]
fn the_page_loads_trusted_over_the_hybrid() {
    let server = Server::start(json!({}));
    let screenshot = programs::artifacts().join("chromium.png");
    let _ = std::fs::remove_file(&screenshot);
    let url = format!("https://localhost:{}/", server.port);
    let finished =
        load(&json!({ "url": url, "ca": Pki::shared().ca_of(Algorithm::EcdsaP384), "screenshot": screenshot }));
    let page: Value = serde_json::from_str(&finished.stdout).expect("JSON");

    assert_eq!((&page["state"], &page["status"]), (&json!("secure"), &json!(200)), "{page}");
    let security = &page["security"];
    assert_eq!(security["protocol"], "TLS 1.3", "{security}");
    assert_eq!(security["keyExchangeGroup"], "X25519MLKEM768", "{security}");
    assert_eq!(security["cipher"], "AES_256_GCM", "{security}");
    // 0x0503, ecdsa_secp384r1_sha384.
    assert_eq!(security["serverSignatureAlgorithm"], 0x0503, "{security}");
    assert_eq!(page["protocol"], "h2", "{page}");
    // The visitor reads it in the page itself.
    assert!(page["text"].as_str().is_some_and(|text| text.contains("X25519MLKEM768")), "{page}");

    let picture = std::fs::read(&screenshot).expect("a screenshot");
    assert!(picture.starts_with(b"\x89PNG"), "{} is no PNG", screenshot.display());
    let metrics = server.metrics_when("the handshake", |metrics| metrics.sum("qtls_handshakes_total", &[]) >= 1.0);
    // Chromium may open more than one connection, all of them alike or resumed.
    let expected = Negotiated::new("X25519MLKEM768", "ecdsa_secp384r1_sha384");
    let full = [
        ("group", "X25519MLKEM768"),
        ("pq", "true"),
        ("scheme", "ecdsa_secp384r1_sha384"),
        ("suite", &*expected.suite),
    ];
    assert!(metrics.sum("qtls_handshakes_total", &full) >= 1.0, "{}", metrics.text());
    assert_eq!(
        metrics.labels("qtls_handshakes_total", "group").iter().filter(|&&group| group != "X25519MLKEM768").count(),
        0
    );
}

#[test]
fn an_unknown_authority_is_an_error_page() {
    let server = Server::start(json!({}));
    let url = format!("https://localhost:{}/", server.port);
    let finished = load(&json!({ "url": url, "ca": Pki::stranger().ca_of(Algorithm::EcdsaP384) }));
    let page: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    assert_eq!(page, json!({ "error": "net::ERR_CERT_AUTHORITY_INVALID" }));
}
