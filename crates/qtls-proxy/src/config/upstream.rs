//! The `upstream` section: where the plaintext goes.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize};

use super::failure::with_hint;
use super::fields;
use super::health_check::HealthCheck;
use super::proxy_protocol::SentHeader;
use super::upstream_servers::{self, Balance, UpstreamServer};
use super::upstream_tls::{HttpVersion, UpstreamTls};
use crate::starttls::Starttls;

/// Where the plaintext goes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Upstream {
    /// What is spoken with the upstream: bytes as they come, or HTTP.
    pub protocol: UpstreamProtocol,
    /// The servers, each as "host:port", with IPv6 addresses in brackets, or "unix:/path"; or as an object with `address`,
    /// `weight` and `backup`. Never empty.
    #[serde(deserialize_with = "upstream_servers::servers")]
    #[schemars(length(min = 1))]
    pub servers: Vec<UpstreamServer>,
    /// How the work is shared out among the servers.
    #[serde(default)]
    pub balance: Balance,
    /// How servers are asked whether they are well. Without it, they are known by their work alone.
    #[serde(default)]
    pub health: Option<HealthCheck>,
    /// How many requests in a row a server may fail before it is given none for a while. 0 is any number. A server that
    /// takes no connections is given none for a while in any case, as long as there is another one.
    #[serde(default = "three_failures", deserialize_with = "fields::whole::<0, 1000, _, _>")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_failures: u32,
    /// The DNS server that is asked for names, as "address" or "address:port". Without it, those of /etc/resolv.conf.
    #[serde(default, deserialize_with = "resolver")]
    #[schemars(with = "Option<String>")]
    pub resolver: Option<SocketAddr>,
    /// How long an upstream server may take.
    #[serde(default)]
    pub timeouts: UpstreamTimeouts,
    /// The version of the PROXY header that TCP servers get before the first byte of a client: `v1`, which says who it
    /// is, or `v2`, which says what is known of its TLS as well.
    #[serde(default)]
    pub proxy_protocol: Option<SentHeader>,
    /// Whether servers get the certificates of verified clients: HTTP servers as `Client-Cert` and `Client-Cert-Chain`
    /// (RFC 9440), where an ML-DSA-65 leaf takes 7.5 KB; TCP servers the leaf, in a PROXY header of version 2, where it
    /// takes 5.6 KB. Many servers take less.
    #[serde(default)]
    pub client_cert: bool,
    /// TLS to the servers. Without it, they are spoken to in the clear.
    #[serde(default)]
    pub tls: Option<UpstreamTls>,
    /// The protocol in whose words the servers are asked for TLS before the handshake, in TCP mode. Without it, the
    /// handshake begins at once.
    #[serde(default)]
    pub starttls: Option<Starttls>,
    /// Which HTTP is spoken with the servers, in HTTP mode.
    #[serde(default)]
    pub http_version: HttpVersion,
    /// With HTTP: the `Strict-Transport-Security` of every response that has none of its own. Without it, none is added.
    #[serde(default)]
    pub hsts: Option<Hsts>,
}

/// What browsers are told to remember of a host: that it is asked by https only (RFC 6797).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Hsts {
    /// How long they remember it, in seconds. 0 makes them forget it.
    #[serde(deserialize_with = "fields::seconds::<0, 315_360_000, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 0, max = 315_360_000))]
    pub max_age: Duration,
    /// Whether it holds for all names below the host's, too.
    pub include_subdomains: bool,
    /// Whether the host may stand in the lists that browsers come with.
    pub preload: bool,
}

impl Default for Hsts {
    fn default() -> Self {
        Self { max_age: Duration::from_secs(31_536_000), include_subdomains: false, preload: false }
    }
}

impl Upstream {
    /// An upstream of these servers, with the defaults of all other keys.
    pub fn new(protocol: UpstreamProtocol, servers: Vec<UpstreamServer>) -> Self {
        Self {
            protocol,
            servers,
            balance: Balance::default(),
            health: None,
            max_failures: three_failures(),
            resolver: None,
            timeouts: UpstreamTimeouts::default(),
            proxy_protocol: None,
            client_cert: false,
            tls: None,
            starttls: None,
            http_version: HttpVersion::default(),
            hsts: None,
        }
    }
}

fn three_failures() -> u32 {
    3
}

/// A DNS server, or null for none.
fn resolver<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    const DNS: u16 = 53;
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let alone = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(&text);
    let address = text.parse().or_else(|_| alone.parse().map(|address: IpAddr| SocketAddr::new(address, DNS)));
    address.ok().filter(|address| address.port() > 0).map(Some).ok_or_else(|| {
        let hint = "a DNS server is known by its IP address: write \"192.0.2.53\", or \"192.0.2.53:5353\"";
        with_hint(&format!("{text:?} is not the address of a DNS server"), hint)
    })
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
    /// For a whole request with its response, or for a connection in TCP mode, in seconds. 0 is no limit.
    #[serde(deserialize_with = "fields::seconds::<0, 604_800, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 0, max = 604_800))]
    pub total: Duration,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), idle: Duration::from_secs(300), total: Duration::ZERO }
    }
}

/// The address of an upstream server, as configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum UpstreamAddress {
    /// Over TCP: names are resolved while the server runs.
    Tcp {
        /// A name or an IP address, without brackets.
        host: String,
        /// The TCP port.
        port: u16,
    },
    /// A Unix socket of this host, by its absolute path.
    Unix(PathBuf),
}

impl UpstreamAddress {
    /// The address as `host:port`, with an IPv6 address in brackets, or `unix:/path`, as in the configuration.
    fn text(&self) -> String {
        match self {
            Self::Tcp { host, port } if host.parse::<Ipv6Addr>().is_ok() => format!("[{host}]:{port}"),
            Self::Tcp { host, port } => format!("{host}:{port}"),
            Self::Unix(path) => format!("{UNIX}{}", path.display()),
        }
    }

    /// The address of a Unix socket; `path` is what follows `unix:`.
    fn unix(path: &str) -> Result<Self, BadAddress> {
        /// What the kernel takes, less the NUL at the end (unix(7)).
        const LONGEST: usize = 107;
        let hint = "write \"unix:/path/of/the/socket\"";
        if !path.starts_with('/') || path.starts_with("//") {
            return Err(BadAddress::new(format!("{path:?} is not the absolute path of a Unix socket"), hint));
        }
        if path.ends_with('/') || path.contains('\0') {
            return Err(BadAddress::new(format!("{path:?} is not the path of a Unix socket"), hint));
        }
        if path.len() > LONGEST {
            let message = format!("a path of {} bytes is too long for a Unix socket", path.len());
            return Err(BadAddress::new(message, "the most are 107 bytes: use a shorter path, or a link"));
        }
        Ok(Self::Unix(PathBuf::from(path)))
    }
}

/// What stands before the path of a Unix socket.
const UNIX: &str = "unix:";

impl fmt::Display for UpstreamAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl FromStr for UpstreamAddress {
    type Err = BadAddress;

    /// Parses `host:port`, where an IPv6 address is in brackets, or `unix:/path`.
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        if let Some(path) = text.strip_prefix(UNIX) {
            return Self::unix(path);
        }
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
        Ok(Self::Tcp { host: parse_host(host)?, port })
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
        json_schema!({ "type": "string", "pattern": "^unix:/|:[0-9]+$" })
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
    pub(super) fn new(message: String, hint: &'static str) -> Self {
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
            ("unix:/run/app.sock", "unix:/run/app.sock"),
            ("unix:/run/a b:80", "unix:/run/a b:80"),
        ] {
            let address: UpstreamAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(address.to_string().parse(), Ok(address), "{text} survives being shown");
        }
    }

    #[test]
    fn ipv6_hosts_have_no_brackets_in_the_type() {
        let address: UpstreamAddress = "[::1]:80".parse().unwrap();
        assert_eq!(address, UpstreamAddress::Tcp { host: "::1".to_owned(), port: 80 });
    }

    #[test]
    fn bad_addresses_say_what_to_write() {
        let host = "a host is a name, an IPv4 address, or an IPv6 address in brackets";
        let port = "write \"host:port\" with a port from 1 to 65535";
        let brackets = "write \"[address]:port\"";
        let socket = "write \"unix:/path/of/the/socket\"";
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
            ("unix:app.sock", format!("\"app.sock\" is not the absolute path of a Unix socket; {socket}")),
            ("unix:///app.sock", format!("\"///app.sock\" is not the absolute path of a Unix socket; {socket}")),
            ("unix:", format!("\"\" is not the absolute path of a Unix socket; {socket}")),
            ("unix:/run/", format!("\"/run/\" is not the path of a Unix socket; {socket}")),
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
        let long = format!("unix:/{}", "a".repeat(107)).parse::<UpstreamAddress>().unwrap_err().to_string();
        assert_eq!(
            long,
            "a path of 108 bytes is too long for a Unix socket; the most are 107 bytes: use a shorter path, or a link"
        );
    }
}
