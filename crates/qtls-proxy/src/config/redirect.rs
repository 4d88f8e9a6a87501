//! The `redirect` section: a port on which plain HTTP is answered with the way to https.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields;
use super::server::Server;

/// A port on which plain HTTP is answered with the way to https, and with nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Redirect {
    /// The TCP port to listen on.
    #[serde(deserialize_with = "fields::port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The IP address to listen on. Without it: `server.listen_address`.
    #[serde(deserialize_with = "fields::optional_ip_address")]
    pub address: Option<IpAddr>,
    /// The port that clients are sent to. Without it: `server.listen_port`, which is another one where ports are mapped.
    #[serde(deserialize_with = "fields::optional_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub to_port: Option<u16>,
}

impl Default for Redirect {
    fn default() -> Self {
        Self { port: 80, address: None, to_port: None }
    }
}

impl Redirect {
    /// Where to listen, beside `server`.
    pub fn socket(&self, server: &Server) -> SocketAddr {
        SocketAddr::new(self.address.unwrap_or(server.listen_address), self.port)
    }

    /// The port that clients are sent to.
    pub fn target(&self, server: &Server) -> u16 {
        self.to_port.unwrap_or(server.listen_port)
    }
}
