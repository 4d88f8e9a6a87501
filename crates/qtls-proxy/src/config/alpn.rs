//! Names of protocols, as clients offer them by ALPN (RFC 7301).

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::failure::with_hint;

/// The name of a protocol, as ALPN has it: `h2`, `http/1.1`, `postgresql`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AlpnProtocol(String);

impl AlpnProtocol {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AlpnProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for AlpnProtocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(Self(text));
        }
        let hint = "write it as the IANA registry has it: \"h2\", \"http/1.1\", \"postgresql\"";
        Err(with_hint(&format!("{text:?} is no name of a protocol"), hint))
    }
}

impl JsonSchema for AlpnProtocol {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AlpnProtocol".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": 255 })
    }
}

/// The protocols of a virtual host, with at least one.
pub(super) fn protocols<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<AlpnProtocol>, D::Error> {
    let protocols = Vec::<AlpnProtocol>::deserialize(deserializer)?;
    if protocols.is_empty() {
        return Err(with_hint("the list is empty", "name a protocol, or remove the key for a host of any protocol"));
    }
    Ok(protocols)
}
