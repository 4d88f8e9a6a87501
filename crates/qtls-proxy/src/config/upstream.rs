//! The `upstream` section: where the plaintext goes.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::failure::with_hint;
use super::fields;

/// Where the plaintext goes.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Upstream {
    /// What is spoken with the upstream: bytes as they come, or HTTP.
    pub protocol: UpstreamProtocol,
    /// The servers, each as "host:port", with IPv6 addresses in brackets. Never empty.
    #[serde(deserialize_with = "fields::upstream_servers")]
    #[schemars(length(min = 1))]
    pub servers: Vec<UpstreamAddress>,
    /// How long an upstream server may take.
    #[serde(default)]
    pub timeouts: UpstreamTimeouts,
    /// Whether HTTP servers get the certificates of verified clients, as `Client-Cert` and `Client-Cert-Chain`
    /// (RFC 9440). An ML-DSA-65 leaf takes 7.5 KB there, which is more than many servers take.
    #[serde(default)]
    pub client_cert: bool,
}

/// What is spoken with the upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamProtocol {
    /// Bytes are relayed as they come.
    Tcp,
    /// HTTP requests are forwarded.
    Http,
}

/// How long an upstream server may take.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct UpstreamTimeouts {
    /// To accept a connection, in seconds.
    #[serde(deserialize_with = "fields::seconds::<1, 3600, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 1, max = 3600))]
    pub connect: Duration,
    /// Without a byte in either direction, in seconds.
    #[serde(deserialize_with = "fields::seconds::<1, 604_800, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 1, max = 604_800))]
    pub idle: Duration,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), idle: Duration::from_secs(300) }
    }
}

/// The address of an upstream server, as configured: names are resolved when connecting.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamAddress {
    /// A name or an IP address, without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl UpstreamAddress {
    /// The address as `host:port`, with an IPv6 address in brackets, as in the configuration.
    fn text(&self) -> String {
        match self.host.parse::<Ipv6Addr>() {
            Ok(_) => format!("[{}]:{}", self.host, self.port),
            Err(_) => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl FromStr for UpstreamAddress {
    type Err = BadAddress;

    /// Parses `host:port`, where an IPv6 address is in brackets.
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        if text.contains("://") {
            return Err(BadAddress::new(
                format!("{text:?} is a URL, not an address"),
                "write \"host:port\"; `upstream.protocol` says whether HTTP is spoken",
            ));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(BadAddress::new(
                format!("{text:?} is an IPv6 address without a port"),
                "write \"[address]:port\"",
            ));
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(BadAddress::new(format!("{text:?} has no port"), "write \"host:port\""));
        };
        if host.contains(':') && !host.starts_with('[') {
            return Err(BadAddress::new(
                format!("{text:?} has an IPv6 address without brackets"),
                "write \"[address]:port\"",
            ));
        }
        let port = match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => number,
            _ => {
                return Err(BadAddress::new(
                    format!("{text:?} has no valid port"),
                    "write \"host:port\" with a port from 1 to 65535",
                ));
            }
        };
        Ok(Self { host: parse_host(host)?, port })
    }
}

impl<'de> Deserialize<'de> for UpstreamAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|wrong: BadAddress| with_hint(&wrong.message, wrong.hint))
    }
}

impl JsonSchema for UpstreamAddress {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "UpstreamAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": ":[0-9]+$" })
    }
}

/// Why a text is not an address, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadAddress {
    /// What is wrong with it.
    pub message: String,
    /// What to write instead.
    pub hint: &'static str,
}

impl BadAddress {
    fn new(message: String, hint: &'static str) -> Self {
        Self { message, hint }
    }
}

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.hint)
    }
}

impl std::error::Error for BadAddress {}

/// The name or IP address of a host. Brackets around an IPv6 address are taken off.
pub(super) fn parse_host(text: &str) -> Result<String, BadAddress> {
    let hint = "a host is a name, an IPv4 address, or an IPv6 address in brackets";
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(inner) = bracketed {
        return match inner.parse::<Ipv6Addr>() {
            Ok(address) => Ok(address.to_string()),
            Err(_) => Err(BadAddress::new(format!("{inner:?} is not an IPv6 address"), hint)),
        };
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_string());
    }
    // Underscores are no letters of a host name (RFC 1123), but container platforms put them into the names of services.
    let label_is_good = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let name = text.strip_suffix('.').unwrap_or(text);
    // A last label of digits means a mistyped IPv4 address: no top-level domain looks like this (RFC 3696, 2).
    let numeric = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    if name.len() > 253 || numeric || !name.split('.').all(label_is_good) {
        return Err(BadAddress::new(format!("{text:?} is not a host"), hint));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_addresses_are_shown_as_they_are_meant() {
        for (text, shown) in [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::1]:80", "[::1]:80"),
            ("[2001:DB8:0::1]:65535", "[2001:db8::1]:65535"),
            ("app:1", "app:1"),
            ("my_service.Example.com.:443", "my_service.Example.com.:443"),
            ("xn--bcher-kva.example:443", "xn--bcher-kva.example:443"),
        ] {
            let address: UpstreamAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.to_string().parse(), Ok(address), "{text} survives being shown");
        }
    }

    #[test]
    fn ipv6_hosts_have_no_brackets_in_the_type() {
        let address: UpstreamAddress = "[::1]:80".parse().unwrap();
        assert_eq!((address.host.as_str(), address.port), ("::1", 80));
    }

    #[test]
    fn bad_addresses_say_what_to_write() {
        let host = "a host is a name, an IPv4 address, or an IPv6 address in brackets";
        let port = "write \"host:port\" with a port from 1 to 65535";
        let brackets = "write \"[address]:port\"";
        for (text, expected) in [
            ("", "\"\" has no port; write \"host:port\"".to_owned()),
            ("app", "\"app\" has no port; write \"host:port\"".to_owned()),
            ("app:", format!("\"app:\" has no valid port; {port}")),
            ("app:0", format!("\"app:0\" has no valid port; {port}")),
            ("app:65536", format!("\"app:65536\" has no valid port; {port}")),
            ("app:+80", format!("\"app:+80\" has no valid port; {port}")),
            ("::1", format!("\"::1\" is an IPv6 address without a port; {brackets}")),
            ("fe80::1%eth0:80", format!("\"fe80::1%eth0:80\" has an IPv6 address without brackets; {brackets}")),
            ("[::1]", format!("\"[::1]\" has no valid port; {port}")),
            ("[127.0.0.1]:80", format!("\"127.0.0.1\" is not an IPv6 address; {host}")),
            (":80", format!("\"\" is not a host; {host}")),
            ("a b:80", format!("\"a b\" is not a host; {host}")),
            ("a..b:80", format!("\"a..b\" is not a host; {host}")),
            ("-a:80", format!("\"-a\" is not a host; {host}")),
            ("256.1.1.1:80", format!("\"256.1.1.1\" is not a host; {host}")),
            (
                "http://app:80",
                "\"http://app:80\" is a URL, not an address; \
                 write \"host:port\"; `upstream.protocol` says whether HTTP is spoken"
                    .to_owned(),
            ),
        ] {
            assert_eq!(text.parse::<UpstreamAddress>().unwrap_err().to_string(), expected);
        }
        assert!(format!("{}:80", "a".repeat(64)).parse::<UpstreamAddress>().is_err(), "a label is at most 63 bytes");
    }
}
