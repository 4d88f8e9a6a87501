//! The PROXY protocol: from whom its headers are taken, and which of them are sent.

use std::net::IpAddr;

use qtls_core::endpoint::Network;
use qtls_core::error::Result;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use super::failure::with_hint;
use super::server::ServerConfig;
use super::upstream::{Upstream, UpstreamProtocol};
use super::{Origins, hosts};
use crate::proxy_protocol::Version;

/// Who stands in front of the server, and says for whom a connection is made.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct ProxyProtocol {
    /// The networks of the load balancers, as `10.0.0.0/8`. Every connection from there must begin with a PROXY header, of
    /// version 1 or 2; one from anywhere else that begins with a header is refused.
    #[serde(deserialize_with = "networks")]
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub from: Vec<Network>,
}

impl ProxyProtocol {
    /// Whether connections from this address begin with a header.
    pub fn expects(&self, peer: IpAddr) -> bool {
        self.from.iter().any(|network| network.contains(peer))
    }
}

/// The version of the header that a server behind gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SentHeader {
    /// A line of text, with the addresses alone.
    V1,
    /// A binary header, with what is known of the client's TLS.
    V2,
}

impl From<SentHeader> for Version {
    fn from(sent: SentHeader) -> Self {
        match sent {
            SentHeader::V1 => Self::V1,
            SentHeader::V2 => Self::V2,
        }
    }
}

/// What no single key can tell: whether the servers behind can be told so.
pub(super) fn check(config: &ServerConfig, origins: &Origins) -> Result<()> {
    check_upstream(config.upstream.as_ref(), "upstream", origins)?;
    config.virtual_hosts.iter().enumerate().try_for_each(|(index, host)| {
        check_upstream(host.upstream.as_ref(), &format!("virtual_hosts[{index}].upstream"), origins)
    })
}

fn check_upstream(upstream: Option<&Upstream>, section: &str, origins: &Origins) -> Result<()> {
    let Some(upstream) = upstream else { return Ok(()) };
    match (upstream.protocol, upstream.proxy_protocol) {
        (UpstreamProtocol::Http, Some(_)) => Err(origins
            .error(
                &format!("{section}.proxy_protocol"),
                "a PROXY header is about one client, and the connections to HTTP servers are shared by many",
            )
            .hint(
                "remove it: HTTP servers are told about the client in the fields Forwarded and X-Forwarded-For of each \
                 request; or set `protocol` to \"tcp\"",
            )),
        (UpstreamProtocol::Tcp, sent) if upstream.client_cert && sent != Some(SentHeader::V2) => Err(origins
            .error(
                &format!("{section}.client_cert"),
                "there is no way to pass certificates on: a TCP server gets them in a PROXY header of version 2 alone",
            )
            .hint("set `proxy_protocol` to \"v2\", or remove this key")),
        _ => Ok(()),
    }
}

fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Vec<Network>, D::Error> {
    let networks = hosts::networks(deserializer)?;
    if networks.is_empty() {
        let hint = "name the networks of the load balancers, as \"10.0.0.0/8\", or remove `proxy_protocol`";
        return Err(with_hint("the list is empty", hint));
    }
    Ok(networks)
}
