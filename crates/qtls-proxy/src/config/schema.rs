//! The JSON Schemas of both configurations, generated from the types.

use schemars::transform::{RecursiveTransform, Transform};
use schemars::{Schema, schema_for};
use serde_json::Value;

use super::{ClientConfig, ServerConfig};

/// The JSON Schema of `server.json`, as text that ends with a line end.
pub fn server_schema() -> String {
    render(schema_for!(ServerConfig))
}

/// The JSON Schema of `client.json`, as text that ends with a line end.
pub fn client_schema() -> String {
    render(schema_for!(ClientConfig))
}

fn render(mut schema: Schema) -> String {
    RecursiveTransform(tidy).transform(&mut schema);
    let mut value = schema.to_value();
    // The order of keys would else depend on the features that other crates ask of serde_json.
    value.sort_all_objects();
    format!("{value:#}\n")
}

/// Drops what says nothing to an editor: defaults of null, formats that JSON Schema doesn't have, and line breaks of
/// the source.
fn tidy(schema: &mut Schema) {
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
    schema.remove("format");
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
}
