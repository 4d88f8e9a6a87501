//! The schema says what the loader does.

use serde_json::Value as Json;

use super::*;

#[test]
fn the_limits_in_the_schema_are_the_limits_of_the_loader() {
    let mut checked = 0;
    for (schema, load) in [
        (server_schema(), (|source: &Source| load_server(source).map(drop)) as fn(&Source) -> Result<()>),
        (client_schema(), |source: &Source| load_client(source).map(drop)),
    ] {
        for (key, property) in keys(&schema) {
            let (Some(min), Some(max)) = (property["minimum"].as_i64(), property["maximum"].as_i64()) else {
                continue;
            };
            let try_with = |number: i64| load(&with_key(&key, &number.to_string()));
            for inside in [min, max] {
                if let Err(error) = try_with(inside) {
                    // The section may need another key beside it.
                    let section = error.key_path().map(|section| format!("{section}."));
                    assert!(section.is_some_and(|section| key.starts_with(&section)), "{error}");
                }
            }
            for outside in [min - 1, max + 1] {
                let error = try_with(outside).expect_err(&key);
                assert_eq!(error.key_path(), Some(key.as_str()), "{error}");
            }
            checked += 1;
        }
    }
    assert!(checked >= 20, "only {checked} keys have limits in the schemas");
}

#[test]
fn the_schema_knows_every_key_and_the_loader_every_key_of_the_schema() {
    for (key, _) in keys(&server_schema()) {
        if let Err(error) = load_server(&with_key(&key, "?")) {
            assert_ne!(error.message(), "unknown key", "{key}");
        }
    }
    let names = keys(&server_schema()).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    for key in ["$schema", "server.listen_port", "hsm.pin", "upstream.timeouts.idle", "metrics.path"] {
        assert!(names.iter().any(|name| name == key), "{key} is not in {names:?}");
    }
    let client = keys(&client_schema()).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    for key in ["client.server_host", "tls.verify_peer", "logging.max_files", "algorithms.signature_chain"] {
        assert!(client.iter().any(|name| name == key), "{key} is not in {client:?}");
    }
}

#[test]
fn the_schema_shows_defaults_and_refuses_unknown_keys() {
    let schema: Json = serde_json::from_str(&server_schema()).unwrap();
    let server = &schema["$defs"]["Server"];
    assert_eq!(server["additionalProperties"], false);
    assert_eq!(server["properties"]["listen_port"]["default"], 8443);
    assert_eq!(server["properties"]["listen_address"]["default"], "0.0.0.0");
    assert_eq!(server["properties"]["drain_timeout"]["default"], 25);
    assert_eq!(server["properties"]["worker_threads"].get("default"), None, "it depends on the machine");
    assert_eq!(schema["$defs"]["ServerTls"]["properties"]["group_preference"]["default"], "post-quantum");
    assert_eq!(schema["$defs"]["Upstream"]["required"], serde_json::json!(["protocol", "servers"]));
    let client: Json = serde_json::from_str(&client_schema()).unwrap();
    assert!(client.to_string().contains("\"default\":\"warn\""));
}

#[test]
fn every_key_in_the_schema_is_described() {
    for schema in [server_schema(), client_schema()] {
        for (key, property) in keys(&schema) {
            assert!(property["description"].as_str().is_some_and(|text| !text.is_empty()), "{key}");
        }
    }
}

/// A source that sets `key`, and what a key of its section needs beside it.
fn with_key(key: &str, value: &str) -> Source {
    let mut keys = vec![("logging.console", "true")];
    if key.starts_with("upstream.") {
        keys.extend([("upstream.protocol", "tcp"), ("upstream.servers", "a:1")]);
    }
    if key.starts_with("upstream.health.") {
        keys.push(("upstream.health.type", "http"));
    }
    keys.push((key, value));
    Source { overrides: overrides(&keys), ..environment(&[]) }
}

/// The dotted key and the schema of every key that holds no section.
fn keys(schema: &str) -> Vec<(String, Json)> {
    fn walk(root: &Json, schema: &Json, path: &str, found: &mut Vec<(String, Json)>) {
        let section = resolve(root, schema);
        match section["properties"].as_object() {
            Some(properties) => {
                for (key, property) in properties {
                    walk(root, property, &tree::join(path, key), found);
                }
            }
            None => found.push((path.to_owned(), schema.clone())),
        }
    }
    let root: Json = serde_json::from_str(schema).unwrap();
    let mut found = Vec::new();
    walk(&root, &root, "", &mut found);
    found
}

/// The definition that a schema refers to, also where null stands beside it.
fn resolve<'a>(root: &'a Json, schema: &'a Json) -> &'a Json {
    let alternatives = schema["anyOf"].as_array().into_iter().flatten();
    let mut candidates = std::iter::once(schema).chain(alternatives);
    match candidates.find_map(|candidate| candidate["$ref"].as_str()) {
        Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}
