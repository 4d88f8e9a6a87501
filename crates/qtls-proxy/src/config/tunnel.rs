//! The tunnels of `client.json`: where they listen, where they lead, and what they take on.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::failure::with_hint;
use super::fields;
use super::limits::{Limits, WhenFull};
use super::server::Metrics;
use super::upstream::{BadAddress, UpstreamAddress};
use crate::starttls::Starttls;

/// The longest path of a Unix socket, without the NUL behind it (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;

/// A tunnel: plain connections that come in here leave as TLS connections of their own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct Tunnel {
    /// Where plain connections are taken: "127.0.0.1:5432", "[::1]:5432" or "unix:/run/app/db.sock".
    pub listen: ListenAddress,
    /// The TLS server that they are carried to, as "host:port".
    pub connect: RemoteAddress,
    /// The name that is asked for and verified, in place of the host in `connect`.
    #[serde(default, deserialize_with = "fields::optional_host")]
    pub server_name: Option<String>,
    /// The application protocols that are offered, the most preferred first.
    #[serde(default, deserialize_with = "alpn")]
    pub alpn: Vec<String>,
    /// How the server is asked for TLS, where the protocol begins without.
    #[serde(default)]
    pub starttls: Option<Starttls>,
    /// Whether local clients that ask for encryption in this protocol are told to go on without: here, the tunnel has it.
    /// Without it: as `starttls`.
    #[serde(default)]
    pub local_starttls: Option<Starttls>,
    /// The permissions of a Unix socket, in octal.
    #[serde(default)]
    pub mode: Option<SocketMode>,
    /// Whether it was given on the command line.
    #[serde(skip)]
    pub from_command_line: bool,
}

impl Tunnel {
    /// The tunnel of the command line's `LOCAL=REMOTE`.
    ///
    /// # Errors
    /// It isn't one.
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        // A path may have the sign in it, an address may not.
        let (listen, connect) = text.rsplit_once('=').ok_or_else(|| {
            BadAddress::new(format!("{text:?} is not LOCAL=REMOTE"), "write 127.0.0.1:5432=db.example:8443")
        })?;
        Ok(Self {
            listen: listen.parse()?,
            connect: connect.parse()?,
            server_name: None,
            alpn: Vec::new(),
            starttls: None,
            local_starttls: None,
            mode: None,
            from_command_line: true,
        })
    }
}

/// Where a tunnel listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddress {
    /// An address and a port of this host.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl ListenAddress {
    /// The path, of a Unix socket.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Tcp(_) => None,
            Self::Unix(path) => Some(path),
        }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl FromStr for ListenAddress {
    type Err = BadAddress;

    /// Parses `address:port`, where an IPv6 address is in brackets, or `unix:/path`.
    fn from_str(text: &str) -> Result<Self, BadAddress> {
        const HINT: &str = "write \"127.0.0.1:5432\", \"[::1]:5432\" or \"unix:/run/app/db.sock\"";
        if let Some(path) = text.strip_prefix("unix:") {
            if !path.starts_with('/') || path.ends_with('/') {
                return Err(BadAddress::new(format!("{path:?} is not the whole path of a socket"), HINT));
            }
            if path.contains('\0') {
                return Err(BadAddress::new("the path has a NUL character".to_owned(), HINT));
            }
            if path.len() > LONGEST_SOCKET_PATH {
                return Err(BadAddress::new(
                    format!("the path has {} bytes, and that of a socket {LONGEST_SOCKET_PATH} at most", path.len()),
                    "choose a shorter one, such as one in /run",
                ));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => Err(BadAddress::new(
                format!("{text:?} would be another port at every start, which no client could know"),
                HINT,
            )),
            Ok(address) => Ok(Self::Tcp(address)),
            // The name may resolve to several addresses, or to another one tomorrow.
            Err(_) if text.starts_with("localhost:") => Err(BadAddress::new(
                format!("{text:?} is a name, not an address"),
                "write \"127.0.0.1:PORT\" or \"[::1]:PORT\": whoever connects to localhost finds one of them",
            )),
            Err(_) => Err(BadAddress::new(format!("{text:?} is not an address to listen on"), HINT)),
        }
    }
}

impl<'de> Deserialize<'de> for ListenAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|wrong: BadAddress| with_hint(&wrong.message, wrong.hint))
    }
}

impl JsonSchema for ListenAddress {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ListenAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^unix:/|:[0-9]+$" })
    }
}

/// The TLS server of a tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteAddress {
    host: String,
    port: u16,
}

impl RemoteAddress {
    /// A name or an IP address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for RemoteAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        UpstreamAddress::Tcp { host: self.host.clone(), port: self.port }.fmt(f)
    }
}

impl FromStr for RemoteAddress {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        match text.parse()? {
            UpstreamAddress::Tcp { host, port } => Ok(Self { host, port }),
            UpstreamAddress::Unix(_) => Err(BadAddress::new(
                format!("{text:?} is a socket of this host, and a tunnel leads to a TLS server"),
                "write \"host:port\"",
            )),
        }
    }
}

impl<'de> Deserialize<'de> for RemoteAddress {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(|wrong: BadAddress| with_hint(&wrong.message, wrong.hint))
    }
}

impl JsonSchema for RemoteAddress {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "RemoteAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": ":[0-9]+$" })
    }
}

/// The permissions of a Unix socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketMode(pub u32);

impl SocketMode {
    /// Its owner's alone.
    pub const PRIVATE: Self = Self(0o600);
}

impl<'de> Deserialize<'de> for SocketMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
        match u32::from_str_radix(&text, 8) {
            // Who connects needs the right to write.
            Ok(mode) if is_octal && mode <= 0o777 && mode & 0o600 == 0o600 => Ok(Self(mode)),
            _ => Err(with_hint(
                &format!("{text:?} are no permissions of a socket"),
                "write them in octal, with those of the owner: \"0600\", or \"0660\" to let the group in",
            )),
        }
    }
}

impl JsonSchema for SocketMode {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SocketMode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^0?[67][0-7]{2}$" })
    }
}

fn alpn<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() || name.len() > 255 {
            return Err(with_hint(
                &format!("{name:?} is not a protocol: it has 1 to 255 bytes"),
                "write [\"postgresql\"], or remove the key",
            ));
        }
        if names[..index].contains(name) {
            return Err(with_hint(&format!("{name:?} stands in the list twice"), "remove one of the two"));
        }
    }
    Ok(names)
}

/// What tunnels take on. Without tunnels, it has no effect.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub(super) struct ClientLimits {
    /// Without a byte in either direction, in seconds.
    #[serde(deserialize_with = "fields::seconds::<1, 604_800, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 1, max = 604_800))]
    idle_timeout: Duration,
    /// The whole life of a connection, in seconds. 0 is no limit.
    #[serde(deserialize_with = "fields::seconds::<0, 31_536_000, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 0, max = 31_536_000))]
    connection_timeout: Duration,
    /// How many connections one address may have open. 0 is no limit.
    #[serde(deserialize_with = "fields::whole::<0, 10_000_000, _, _>")]
    #[schemars(range(min = 0, max = 10_000_000))]
    per_address: u32,
    /// How many connections one network may have open. 0 is no limit.
    #[serde(deserialize_with = "fields::whole::<0, 10_000_000, _, _>")]
    #[schemars(range(min = 0, max = 10_000_000))]
    per_network: u32,
    /// How many bits of an IPv4 address are its network, for `per_network`.
    #[serde(deserialize_with = "fields::whole::<8, 32, _, _>")]
    #[schemars(range(min = 8, max = 32))]
    network_prefix_v4: u8,
    /// How many bits of an IPv6 address are its network, for `per_network`.
    #[serde(deserialize_with = "fields::whole::<16, 128, _, _>")]
    #[schemars(range(min = 16, max = 128))]
    network_prefix_v6: u8,
    /// How many connections may begin to be carried in a second, over all tunnels, with a handshake each. 0 is no limit.
    #[serde(deserialize_with = "fields::whole::<0, 1_000_000, _, _>")]
    #[schemars(range(min = 0, max = 1_000_000))]
    handshakes_per_second: u32,
    /// How much memory the process may take before it takes no more connections, in MiB. 0 is no limit.
    #[serde(deserialize_with = "fields::whole::<0, 16_777_216, _, _>")]
    #[schemars(range(min = 0, max = 16_777_216))]
    memory_mb: u32,
    /// What happens to connections for which there is no place.
    when_full: WhenFull,
}

impl ClientLimits {
    /// Reads the client's section as the type that both sides share.
    pub(super) fn into_limits<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Limits, D::Error> {
        Self::deserialize(deserializer).map(Limits::from)
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        // Pools of database connections rest for hours, and the program behind may not expect to lose one.
        let idle_timeout = Duration::from_secs(43_200);
        let Limits { connection_timeout, per_address, per_network, network_prefix_v4, network_prefix_v6, .. } =
            Limits::default();
        let Limits { handshakes_per_second, memory_mb, when_full, .. } = Limits::default();
        Self {
            idle_timeout,
            connection_timeout,
            per_address,
            per_network,
            network_prefix_v4,
            network_prefix_v6,
            handshakes_per_second,
            memory_mb,
            when_full,
        }
    }
}

impl From<ClientLimits> for Limits {
    fn from(section: ClientLimits) -> Self {
        let ClientLimits {
            idle_timeout,
            connection_timeout,
            per_address,
            per_network,
            network_prefix_v4,
            network_prefix_v6,
            handshakes_per_second,
            memory_mb,
            when_full,
        } = section;
        Self {
            idle_timeout,
            connection_timeout,
            per_address,
            per_network,
            network_prefix_v4,
            network_prefix_v6,
            handshakes_per_second,
            memory_mb,
            when_full,
            ..Self::default()
        }
    }
}

/// The Prometheus endpoint of tunnels, in plain HTTP. Without tunnels, it has no effect.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub(super) struct ClientMetrics {
    /// Whether there is an endpoint.
    enabled: bool,
    /// The IP address to listen on.
    #[serde(deserialize_with = "fields::ip_address")]
    address: IpAddr,
    /// The TCP port to listen on.
    #[serde(deserialize_with = "fields::port")]
    #[schemars(range(min = 1, max = 65535))]
    port: u16,
    /// The path of the metrics. `/health` and `/ready` on the same port are taken.
    #[serde(deserialize_with = "fields::metrics_path")]
    #[schemars(regex(pattern = "^/"))]
    path: String,
}

impl ClientMetrics {
    /// Reads the client's section, which may be null, as the type that both sides share.
    pub(super) fn into_metrics<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Metrics>, D::Error> {
        let section = Option::<Self>::deserialize(deserializer)?;
        Ok(section.filter(|section| section.enabled).map(Metrics::from))
    }
}

impl Default for ClientMetrics {
    fn default() -> Self {
        let Metrics { enabled, port, path, .. } = Metrics::default();
        // What a sidecar does is the business of its own host.
        Self { enabled, address: IpAddr::V4(Ipv4Addr::LOCALHOST), port, path }
    }
}

impl From<ClientMetrics> for Metrics {
    fn from(section: ClientMetrics) -> Self {
        let ClientMetrics { enabled, address, port, path } = section;
        Self { enabled, address, port, path, dashboard_address: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnels_of_the_command_line_are_read_from_both_ends() {
        let tunnel = Tunnel::parse("unix:/run/a=b.sock=db.example:8443").unwrap();
        assert_eq!(tunnel.listen.to_string(), "unix:/run/a=b.sock");
        assert_eq!(tunnel.connect.to_string(), "db.example:8443");
        let tunnel = Tunnel::parse("[::1]:5432=[2001:DB8::1]:443").unwrap();
        assert_eq!(
            (tunnel.listen.to_string(), tunnel.connect.to_string()),
            ("[::1]:5432".into(), "[2001:db8::1]:443".into())
        );
    }

    #[test]
    fn bad_ones_say_what_to_write() {
        let hint = "write \"127.0.0.1:5432\", \"[::1]:5432\" or \"unix:/run/app/db.sock\"";
        for (text, expected) in [
            ("5432", "\"5432\" is not LOCAL=REMOTE; write 127.0.0.1:5432=db.example:8443".to_owned()),
            ("5432=db:1", format!("\"5432\" is not an address to listen on; {hint}")),
            ("[::1]=db:1", format!("\"[::1]\" is not an address to listen on; {hint}")),
            ("unix:x.sock=db:1", format!("\"x.sock\" is not the whole path of a socket; {hint}")),
            ("unix:/run/=db:1", format!("\"/run/\" is not the whole path of a socket; {hint}")),
            (
                "127.0.0.1:1=unix:/run/db",
                "\"unix:/run/db\" is a socket of this host, and a tunnel leads to a TLS server; write \"host:port\"".to_owned(),
            ),
            ("127.0.0.1:0=db:1", format!("\"127.0.0.1:0\" would be another port at every start, which no client could know; {hint}")),
            ("127.0.0.1:1=db", "\"db\" has no port; write \"host:port\"".to_owned()),
            ("127.0.0.1:1=https://db:1", "\"https://db:1\" is a URL, not an address; write \"host:port\"; `upstream.protocol` says whether HTTP is spoken".to_owned()),
        ] {
            assert_eq!(Tunnel::parse(text).unwrap_err().to_string(), expected);
        }
        assert!(Tunnel::parse("localhost:1=db:1").unwrap_err().message.contains("is a name, not an address"));
        let long = format!("unix:/{}=db:1", "a".repeat(107));
        assert!(Tunnel::parse(&long).unwrap_err().message.contains("has 108 bytes"));
    }
}
