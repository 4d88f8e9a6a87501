//! How long a client may take, and how much of the server.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fields;

/// How long a client may take, and how much one client, or all of them, may take of the server.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Limits {
    /// From accepting the connection to the end of the handshake, in seconds.
    #[serde(deserialize_with = "fields::seconds::<1, 3600, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 1, max = 3600))]
    pub handshake_timeout: Duration,
    /// Without a byte in either direction, in seconds.
    #[serde(deserialize_with = "fields::seconds::<1, 604_800, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 1, max = 604_800))]
    pub idle_timeout: Duration,
    /// The whole life of a connection, in seconds. 0 is no limit.
    #[serde(deserialize_with = "fields::seconds::<0, 31_536_000, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 0, max = 31_536_000))]
    pub connection_timeout: Duration,
    /// How many connections one address may have open. 0 is no limit.
    #[serde(deserialize_with = "fields::whole::<0, 10_000_000, _, _>")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub per_address: u32,
    /// How many connections one network may have open. 0 is no limit.
    #[serde(deserialize_with = "fields::whole::<0, 10_000_000, _, _>")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub per_network: u32,
    /// How many bits of an IPv4 address are its network, for `per_network`.
    #[serde(deserialize_with = "fields::whole::<8, 32, _, _>")]
    #[schemars(range(min = 8, max = 32))]
    pub network_prefix_v4: u8,
    /// How many bits of an IPv6 address are its network, for `per_network`.
    #[serde(deserialize_with = "fields::whole::<16, 128, _, _>")]
    #[schemars(range(min = 16, max = 128))]
    pub network_prefix_v6: u8,
    /// How many handshakes may begin in a second, over the whole server. 0 is no limit.
    #[serde(deserialize_with = "fields::whole::<0, 1_000_000, _, _>")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub handshakes_per_second: u32,
    /// How much memory the process may take before it takes no more connections, in MiB. 0 is no limit.
    #[serde(deserialize_with = "fields::whole::<0, 16_777_216, _, _>")]
    #[schemars(range(min = 0, max = 16_777_216))]
    pub memory_mb: u32,
    /// In HTTP mode, and for the built-in pages: how large the head of a request may be, in bytes. A larger one gets 431,
    /// and 414 where its first line alone is.
    #[serde(deserialize_with = "fields::whole::<1024, 1_048_576, _, _>")]
    #[schemars(range(min = 1024, max = 1_048_576))]
    pub header_bytes: u32,
    /// In HTTP mode: how large the body of a request may be, in bytes. A larger one gets 413. 0 is no limit.
    #[serde(deserialize_with = "fields::whole::<0, 1_125_899_906_842_624, _, _>")]
    #[schemars(range(min = 0, max = 1_125_899_906_842_624_u64))]
    pub body_bytes: u64,
    /// What happens to connections for which there is no place.
    pub when_full: WhenFull,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            connection_timeout: Duration::ZERO,
            per_address: 0,
            per_network: 0,
            network_prefix_v4: 24,
            network_prefix_v6: 64,
            handshakes_per_second: 0,
            memory_mb: 0,
            header_bytes: 65_536,
            body_bytes: 0,
            when_full: WhenFull::Queue,
        }
    }
}

/// What happens to connections for which there is no place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// They wait.
    #[default]
    Queue,
    /// They are accepted and reset at once, so that the client, or the load balancer before it, goes elsewhere.
    Refuse,
}
