//! The servers of an upstream: each with its share of the work, and how that is shared out.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize};

use super::failure::with_hint;
use super::fields;
use super::upstream::{BadAddress, UpstreamAddress};

/// One server of an upstream: its address as text, or an object with more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamServer {
    /// Where it is.
    pub address: UpstreamAddress,
    /// Its share of the work, beside the weights of the others.
    pub weight: u16,
    /// Whether it is for the time when no other server is up.
    pub backup: bool,
}

/// How the work is shared out among the servers that are up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, DeriveDeserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// In turn, as often as their weights say, and evenly spread.
    #[default]
    RoundRobin,
    /// To the server with the fewest requests under way (in TCP mode: connections), measured by its weight.
    LeastConnections,
    /// By the client's address: the same client gets the same server as long as that is up, and a server that is lost moves
    /// its own clients alone. Of IPv6 addresses the first 64 bits count, which is the network of one site.
    ClientAddress,
}

impl From<UpstreamAddress> for UpstreamServer {
    fn from(address: UpstreamAddress) -> Self {
        Self { address, weight: 1, backup: false }
    }
}

impl fmt::Display for UpstreamServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

/// The object.
#[derive(DeriveDeserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct Object {
    /// "host:port", or "unix:/path".
    address: UpstreamAddress,
    /// Its share of the work, beside the weights of the others.
    #[serde(default = "one", deserialize_with = "fields::whole::<1, 256, _, _>")]
    #[schemars(range(min = 1, max = 256))]
    weight: u16,
    /// Whether it is for the time when no other server is up.
    #[serde(default)]
    backup: bool,
}

fn one() -> u16 {
    1
}

impl<'de> Deserialize<'de> for UpstreamServer {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ServerVisitor;
        impl<'de> Visitor<'de> for ServerVisitor {
            type Value = UpstreamServer;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address as a string, or an object")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<UpstreamServer, E> {
                let address = text.parse::<UpstreamAddress>();
                let address = address.map_err(|wrong: BadAddress| with_hint(&wrong.message, wrong.hint))?;
                Ok(UpstreamServer::from(address))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<UpstreamServer, A::Error> {
                let Object { address, weight, backup } = Object::deserialize(MapAccessDeserializer::new(map))?;
                Ok(UpstreamServer { address, weight, backup })
            }
        }
        deserializer.deserialize_any(ServerVisitor)
    }
}

impl JsonSchema for UpstreamServer {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "UpstreamServer".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let (text, object) = (UpstreamAddress::json_schema(generator), Object::json_schema(generator));
        json_schema!({ "anyOf": [text, object] })
    }
}

/// Of one upstream.
const MOST: usize = 1000;

/// The list of upstream servers, with at least one that is no backup.
pub(super) fn servers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<UpstreamServer>, D::Error> {
    let servers = Vec::<UpstreamServer>::deserialize(deserializer)?;
    if servers.is_empty() {
        let hint = "name at least one server as \"host:port\", or remove `upstream` for the built-in status page";
        return Err(with_hint("the list is empty", hint));
    }
    if servers.len() > MOST {
        return Err(with_hint("the list is too long", "an upstream has 1000 servers at most"));
    }
    if servers.iter().all(|server| server.backup) {
        return Err(with_hint("every server is a backup", "remove `backup` from those that are to be used first"));
    }
    if let Some(twice) = servers.iter().enumerate().find_map(|(index, server)| {
        servers[..index].iter().any(|before| before.address == server.address).then_some(server)
    }) {
        let message = format!("\"{twice}\" stands twice");
        return Err(with_hint(&message, "name a server once; its `weight` is its share of the work"));
    }
    Ok(servers)
}
