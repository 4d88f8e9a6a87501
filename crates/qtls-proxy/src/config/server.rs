//! `server.json`: every key of the server, with its type, its default and its limits.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use qtls_core::endpoint::Network;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::alpn::{self, AlpnProtocol};
use super::fields::{self, Secret};
use super::hosts::{self, HostName};
use super::limits::Limits;
use super::policy::{Profile, Report};
use super::proxy_protocol::ProxyProtocol;
use super::redirect::Redirect;
use super::sections::{Algorithms, CrlFiles, Logging, ProtocolVersion};
use super::upstream::Upstream;
use super::{DEFAULT_CERTIFICATE_DIR, SERVER_CERT, SERVER_KEY};
use crate::starttls::Starttls;

/// The configuration of qtls-server.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
#[schemars(title = "server.json")]
pub struct ServerConfig {
    /// The address of this JSON Schema, for editors. It has no effect on the server.
    #[serde(rename = "$schema")]
    pub schema: Option<String>,
    /// Where the server listens, and how much it takes on.
    pub server: Server,
    /// The TLS protocol: modes, sessions, preference.
    pub tls: ServerTls,
    /// The server's own certificate, and how clients are verified.
    pub certificates: ServerCertificates,
    /// Keys in a hardware security module.
    pub hsm: Hsm,
    /// The FIPS 140 mode.
    pub fips: Fips,
    /// Which algorithms are offered and accepted, in order of preference.
    pub algorithms: Algorithms,
    /// Servers with names of their own behind the same port. What one of them leaves out, it has from the top.
    pub virtual_hosts: Vec<VirtualHost>,
    /// Where the plaintext goes. Without it, the server answers with its own status page.
    pub upstream: Option<Upstream>,
    /// How long a client may take, and how much one client, or all of them, may take of the server.
    pub limits: Limits,
    /// A port on which plain HTTP is answered with the way to https. Without it, there is none.
    pub redirect: Option<Redirect>,
    /// What is logged, and where to.
    pub logging: Logging,
    /// The Prometheus endpoint. It is on if this section is there, unless `enabled` is false.
    pub metrics: Option<Metrics>,
    /// What the variable `SSLKEYLOGFILE` names, whether or not it is honoured.
    #[serde(skip)]
    pub key_log_file: Option<PathBuf>,
    /// Which changes of files are applied without being asked. SIGHUP always asks.
    pub reload: Reload,
    /// How much of what the process will not need must have been taken from it before it serves.
    pub sandbox: Sandbox,
}

impl ServerConfig {
    /// Where the secrets of connections are written to, if `tls.dangerous_key_log` is true for any host.
    pub fn key_log(&self) -> Option<&Path> {
        let is_on = self.tls.dangerous_key_log || self.virtual_hosts.iter().any(|host| host.tls.dangerous_key_log);
        self.key_log_file.as_deref().filter(|_| is_on)
    }
}

/// Where the server listens, and how much it takes on.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Server {
    /// The IP address to listen on. `0.0.0.0` is every IPv4 address, `::` every address.
    #[serde(deserialize_with = "fields::ip_address")]
    pub listen_address: IpAddr,
    /// The TCP port to listen on.
    #[serde(deserialize_with = "fields::port")]
    #[schemars(range(min = 1, max = 65535))]
    pub listen_port: u16,
    /// The number of worker threads. Without it: as many as this process has processor cores.
    #[serde(deserialize_with = "fields::optional_whole::<1, 1024, _, _>")]
    #[schemars(range(min = 1, max = 1024))]
    pub worker_threads: Option<u16>,
    /// How many client connections may be open at the same time.
    #[serde(deserialize_with = "fields::whole::<1, 10_000_000, _, _>")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_connections: u32,
    /// How long open connections may go on after the signal to stop, in seconds. 0 closes them at once.
    #[serde(deserialize_with = "fields::seconds::<0, 86_400, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 0, max = 86_400))]
    pub drain_timeout: Duration,
    /// How long new connections are still accepted after the signal to stop, in seconds, while `/ready` says no: the time
    /// that load balancers need to look elsewhere.
    #[serde(deserialize_with = "fields::seconds::<0, 3600, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 0, max = 3600))]
    pub drain_delay: Duration,
    /// The user that the server becomes once its sockets are open, by name. Only root can become another one.
    #[serde(deserialize_with = "fields::optional_user")]
    #[schemars(length(min = 1))]
    pub user: Option<String>,
    /// The path of the Unix socket over which a new process takes the listening sockets over from the one that serves.
    /// Without it, no hand-over is offered or asked for.
    #[serde(deserialize_with = "fields::optional_path")]
    pub handover: Option<PathBuf>,
    /// The protocol in whose words clients ask for TLS before the handshake; TLS at once is taken as well. For TCP
    /// upstreams only. Without it, every connection begins with the handshake.
    pub starttls: Option<Starttls>,
    /// The load balancers in front that say by the PROXY protocol for whom a connection is made. Without it, every
    /// connection that begins with a PROXY header is refused.
    pub proxy_protocol: Option<ProxyProtocol>,
}

impl Server {
    /// The number of worker threads to start: the configured one, or one a core.
    pub fn workers(&self) -> usize {
        match self.worker_threads {
            Some(configured) => usize::from(configured),
            None => thread::available_parallelism().map_or(1, NonZeroUsize::get).min(1024),
        }
    }
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            listen_port: 8443,
            worker_threads: None,
            max_connections: 10_000,
            drain_timeout: Duration::from_secs(25),
            drain_delay: Duration::ZERO,
            user: None,
            handover: None,
            starttls: None,
            proxy_protocol: None,
        }
    }
}

/// The TLS protocol on the server's side: modes, sessions, preference.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct ServerTls {
    /// The protocol version. TLS 1.3 is the only one.
    pub protocol_version: ProtocolVersion,
    /// The algorithms that may be chosen from, and what is chosen where nothing else is said.
    pub profile: Profile,
    /// Whether key exchanges combine a post-quantum KEM with a classical group. Without it: as the profile has it.
    #[serde(deserialize_with = "fields::said")]
    #[schemars(with = "bool")]
    pub hybrid_mode: Option<bool>,
    /// Whether clients without post-quantum key exchange are refused. Without it: as the profile has it.
    #[serde(deserialize_with = "fields::said")]
    #[schemars(with = "bool")]
    pub pqc_only: Option<bool>,
    /// How long a session may be resumed, in seconds. 0 turns resumption off; the most is 7 days (RFC 8446, 4.6.1).
    #[serde(deserialize_with = "fields::seconds::<0, 604_800, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 0, max = 604_800))]
    pub session_timeout: Duration,
    /// How many sessions are kept for resumption. 0 turns resumption off, but for tickets.
    #[serde(deserialize_with = "fields::whole::<0, 10_000_000, _, _>")]
    #[schemars(range(min = 0, max = 10_000_000))]
    pub session_cache_size: u32,
    /// The keys of session tickets, by which every server that has them resumes the others' sessions. Without it, sessions
    /// are kept in this process.
    pub ticket_keys: Option<TicketKeys>,
    /// Whose order of key exchange groups decides.
    pub group_preference: GroupPreference,
    /// Whether the secrets of connections are written to the file that the environment variable `SSLKEYLOGFILE` names:
    /// whoever reads it can decrypt recordings of them. Without this, the variable is ignored.
    pub dangerous_key_log: bool,
    /// A stricter policy that is tried and changes nothing: clients that it would refuse are counted and logged.
    pub report: Option<Report>,
}

impl Default for ServerTls {
    fn default() -> Self {
        Self {
            protocol_version: ProtocolVersion::Tls13,
            profile: Profile::Default,
            hybrid_mode: None,
            pqc_only: None,
            session_timeout: Duration::from_secs(3600),
            session_cache_size: 10_000,
            ticket_keys: None,
            group_preference: GroupPreference::PostQuantum,
            dangerous_key_log: false,
            report: None,
        }
    }
}

/// Where the keys of session tickets come from: a file of keys, or a secret that they are derived from.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct TicketKeys {
    /// A file of keys, as `qtls ticket-keys generate` makes it: the first encrypts, all decrypt.
    #[serde(deserialize_with = "fields::optional_path")]
    pub file: Option<PathBuf>,
    /// A file with a secret of at least 32 bytes, from which every server derives the same keys by the time.
    #[serde(deserialize_with = "fields::optional_path")]
    pub secret_file: Option<PathBuf>,
    /// With `secret_file`: how long each key encrypts, in seconds.
    #[serde(deserialize_with = "fields::seconds::<60, 604_800, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 60, max = 604_800))]
    pub step: Duration,
}

impl Default for TicketKeys {
    fn default() -> Self {
        Self { file: None, secret_file: None, step: Duration::from_secs(3600) }
    }
}

/// Whose order of key exchange groups decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum GroupPreference {
    /// The server's first post-quantum group that the client sent a key share for; else, by one retry, the first that
    /// it supports; else a classical group.
    #[default]
    PostQuantum,
    /// The server's order always, by a retry if the client sent no share for it.
    Strict,
    /// The client's order.
    Client,
}

/// The server's own certificate, and how clients are verified.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct ServerCertificates {
    /// The server's certificate chain, leaf first, in PEM.
    #[serde(deserialize_with = "fields::path")]
    pub server_cert: PathBuf,
    /// The private key of the leaf, in PEM.
    #[serde(deserialize_with = "fields::path")]
    pub server_key: PathBuf,
    /// The passphrase of `server_key`, where that is encrypted; best from the environment: `"${VARIABLE}"`.
    pub server_key_passphrase: Option<Secret>,
    /// A file whose one line is the passphrase of `server_key`.
    #[serde(deserialize_with = "fields::optional_path")]
    pub server_key_passphrase_file: Option<PathBuf>,
    /// The private key of the leaf as an RFC 7512 URI. Keys in an HSM arrive with a later release: use `server_key`.
    pub server_key_uri: Option<String>,
    /// The trust anchors that client certificates are verified against, in PEM.
    #[serde(deserialize_with = "fields::optional_path")]
    pub ca_bundle: Option<PathBuf>,
    /// Whether clients must (true), may ("optional") or need not (false) present a certificate.
    pub verify_client: VerifyClient,
    /// More certificates for the same names, of other algorithms. Which one a client gets is decided by what it offers,
    /// in the order of `algorithms.signature`.
    pub additional: Vec<AdditionalCertificate>,
    /// How many intermediates may stand between a client's certificate and a trust anchor.
    #[serde(deserialize_with = "fields::whole::<0, 16, _, _>")]
    #[schemars(range(min = 0, max = 16))]
    pub verify_depth: u8,
    /// Revocation lists that client certificates are checked against.
    pub crl: Option<CrlFiles>,
    /// Which clients get in, of those whose certificate verifies. Without it, all of them.
    pub allow: Option<Vec<AllowEntry>>,
}

impl Default for ServerCertificates {
    fn default() -> Self {
        let directory = Path::new(DEFAULT_CERTIFICATE_DIR);
        Self {
            server_cert: directory.join(SERVER_CERT),
            server_key: directory.join(SERVER_KEY),
            server_key_passphrase: None,
            server_key_passphrase_file: None,
            server_key_uri: None,
            ca_bundle: None,
            additional: Vec::new(),
            verify_client: VerifyClient::No,
            verify_depth: 3,
            crl: None,
            allow: None,
        }
    }
}

/// One more certificate.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct AdditionalCertificate {
    /// The certificate chain, leaf first, in PEM.
    #[serde(deserialize_with = "fields::path")]
    pub cert: PathBuf,
    /// The private key of the leaf, in PEM.
    #[serde(deserialize_with = "fields::path")]
    pub key: PathBuf,
    /// The passphrase of `key`, where that is encrypted; best from the environment: `"${VARIABLE}"`.
    pub passphrase: Option<Secret>,
    /// A file whose one line is the passphrase of `key`.
    #[serde(default, deserialize_with = "fields::optional_path")]
    pub passphrase_file: Option<PathBuf>,
    /// Keeps the certificate to the clients that trust it: those that ask for one of these names, or come from one of
    /// these networks.
    pub only_for: Option<OnlyFor>,
}

/// Clients that get in: those whose certificate has all that one entry names.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct AllowEntry {
    /// A DNS name among the alternative names; a first label `*` stands for any one label.
    pub san_dns: Option<String>,
    /// An IP address among the alternative names.
    pub san_ip: Option<String>,
    /// A URI among the alternative names; a path segment `*` stands for any one segment.
    pub san_uri: Option<String>,
    /// A mail address among the alternative names.
    pub san_email: Option<String>,
    /// The whole subject, in the notation of RFC 4514: `CN=worker,O=Example`.
    pub subject: Option<String>,
    /// The SHA-256 hash of the public key, in hexadecimal digits or base64.
    pub spki_sha256: Option<String>,
}

impl AllowEntry {
    /// What the entry names, by kind.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let Self { san_dns, san_ip, san_uri, san_email, subject, spki_sha256 } = self;
        [
            ("san_dns", san_dns),
            ("san_ip", san_ip),
            ("san_uri", san_uri),
            ("san_email", san_email),
            ("subject", subject),
            ("spki_sha256", spki_sha256),
        ]
        .into_iter()
        .filter_map(|(kind, value)| Some((kind, value.as_deref()?)))
    }
}

/// Clients that a certificate is kept to.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct OnlyFor {
    /// Server names that such clients ask for.
    pub names: Vec<HostName>,
    /// Networks that such clients come from, as `10.0.0.0/8`.
    #[serde(deserialize_with = "hosts::networks")]
    #[schemars(with = "Vec<String>")]
    pub networks: Vec<Network>,
}

/// A server with names of its own. What it leaves out of `tls`, `algorithms`, `certificates` and `upstream`, it has from
/// the top; with a certificate of its own, none of those at the top are used.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct VirtualHost {
    /// The names that clients ask for: `a.example`, or `*.b.example` for one label in front. Without it, a host with `alpn`
    /// is for every name that is no other host's.
    #[serde(default, deserialize_with = "hosts::names")]
    #[schemars(length(min = 1))]
    pub names: Vec<HostName>,
    /// The protocols that this host is for, as clients offer them by ALPN: `["h2"]`, `["postgresql"]`; the most preferred
    /// first. The same names may then have other hosts for other protocols. Without it, the host is for any protocol.
    #[serde(default, deserialize_with = "alpn::protocols")]
    #[schemars(length(min = 1))]
    pub alpn: Vec<AlpnProtocol>,
    /// Its certificates, and how its clients are verified.
    #[serde(default)]
    pub certificates: ServerCertificates,
    /// Its TLS protocol.
    #[serde(default)]
    pub tls: ServerTls,
    /// Its algorithms.
    #[serde(default)]
    pub algorithms: Algorithms,
    /// Where its plaintext goes.
    #[serde(default)]
    pub upstream: Option<Upstream>,
}

/// Whether clients present a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyClient {
    /// No certificate is asked for.
    #[default]
    No,
    /// A certificate is asked for; one that is presented must verify.
    Optional,
    /// Only clients with a certificate that verifies get in.
    Required,
}

impl<'de> Deserialize<'de> for VerifyClient {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VerifyVisitor;
        impl Visitor<'_> for VerifyVisitor {
            type Value = VerifyClient;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or \"optional\"")
            }

            fn visit_bool<E: de::Error>(self, required: bool) -> Result<VerifyClient, E> {
                Ok(if required { VerifyClient::Required } else { VerifyClient::No })
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<VerifyClient, E> {
                match text {
                    "optional" => Ok(VerifyClient::Optional),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(VerifyVisitor)
    }
}

impl Serialize for VerifyClient {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::No => serializer.serialize_bool(false),
            Self::Required => serializer.serialize_bool(true),
            Self::Optional => serializer.serialize_str("optional"),
        }
    }
}

impl JsonSchema for VerifyClient {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "VerifyClient".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "enum": [false, true, "optional"] })
    }
}

/// Keys in a hardware security module. Not in this version: `enabled` must be false.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Hsm {
    /// Whether the HSM is used.
    pub enabled: bool,
    /// The PKCS#11 library of the HSM's vendor.
    #[serde(deserialize_with = "fields::optional_path")]
    pub pkcs11_library: Option<PathBuf>,
    /// The label of the token.
    pub token_label: Option<String>,
    /// The PIN of the token's user. Better from the environment: `"${QTLS_HSM_PIN}"`.
    pub pin: Option<Secret>,
    /// How many sessions sign at the same time.
    #[serde(deserialize_with = "fields::whole::<1, 1024, _, _>")]
    #[schemars(range(min = 1, max = 1024))]
    pub session_pool_size: u16,
}

impl Default for Hsm {
    fn default() -> Self {
        Self { enabled: false, pkcs11_library: None, token_label: None, pin: None, session_pool_size: 10 }
    }
}

/// The FIPS 140 mode. Not in this version: `enabled` must be false.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Fips {
    /// Whether only the FIPS module and its approved algorithms are used.
    pub enabled: bool,
    /// Whether the module tests itself at start.
    pub self_test_on_load: bool,
}

impl Default for Fips {
    fn default() -> Self {
        Self { enabled: false, self_test_on_load: true }
    }
}

/// Which changes of files are applied without being asked.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Reload {
    /// Certificates, keys and their passphrases, trust anchors, revocation lists and ticket keys.
    pub watch_credentials: bool,
    /// The configuration file.
    pub watch_config: bool,
}

impl Default for Reload {
    fn default() -> Self {
        Self { watch_credentials: true, watch_config: false }
    }
}

/// How much of the sandbox must be in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Sandbox {
    /// Nothing is taken away. `server.user` counts all the same.
    Off,
    /// Everything that the system allows. What it doesn't is told at start.
    #[default]
    BestEffort,
    /// Everything: the server doesn't start where a part is refused.
    Required,
}

impl Sandbox {
    /// The name as in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::BestEffort => "best-effort",
            Self::Required => "required",
        }
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The Prometheus endpoint, in plain HTTP.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Metrics {
    /// Whether there is an endpoint.
    pub enabled: bool,
    /// The IP address to listen on.
    #[serde(deserialize_with = "fields::ip_address")]
    pub address: IpAddr,
    /// The TCP port to listen on.
    #[serde(deserialize_with = "fields::port")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The IP address of this machine on which the dashboard is shown, at `/dashboard` of the same port; null for
    /// no dashboard. It shows networks of clients: connections to other addresses don't get it.
    #[serde(deserialize_with = "fields::optional_ip_address")]
    pub dashboard_address: Option<IpAddr>,
    /// The path of the metrics. `/health`, `/ready` and `/dashboard` on the same port are taken.
    #[serde(deserialize_with = "fields::metrics_path")]
    #[schemars(regex(pattern = "^/"))]
    pub path: String,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            enabled: true,
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 9091,
            dashboard_address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            path: "/metrics".to_owned(),
        }
    }
}

impl Metrics {
    /// Where to listen, so that metrics and dashboard can be reached at their addresses; each with the key that asks for
    /// it.
    pub fn sockets(&self) -> Vec<(&'static str, SocketAddr)> {
        let metrics = ("metrics.port", SocketAddr::new(self.address, self.port));
        match self.dashboard_address {
            None => vec![metrics],
            Some(dashboard) if covers(self.address, dashboard) => vec![metrics],
            Some(dashboard) => {
                let dashboard_socket = ("metrics.dashboard_address", SocketAddr::new(dashboard, self.port));
                // The wider one would keep the narrower one from being bound.
                if covers(dashboard, self.address) { vec![dashboard_socket] } else { vec![metrics, dashboard_socket] }
            }
        }
    }

    /// Whether a connection to this address of this machine gets the metrics.
    pub fn serves_metrics_on(&self, local: IpAddr) -> bool {
        covers(self.address, local.to_canonical())
    }

    /// Whether a connection to this address of this machine gets the dashboard.
    pub fn shows_dashboard_on(&self, local: IpAddr) -> bool {
        self.dashboard_address.is_some_and(|address| covers(address, local.to_canonical()))
    }
}

/// Whether who listens on `wide` is reached at `narrow`, too. `::` takes IPv4 connections as well.
pub(crate) fn covers(wide: IpAddr, narrow: IpAddr) -> bool {
    wide == narrow
        || match wide {
            IpAddr::V4(wide) => wide.is_unspecified() && narrow.is_ipv4(),
            IpAddr::V6(wide) => wide.is_unspecified(),
        }
}
