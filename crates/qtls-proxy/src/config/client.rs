//! `client.json`: every key of the client, with its type, its default and its limits.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{self, Secret};
use super::limits::Limits;
use super::policy::Profile;
use super::sections::{Algorithms, ClientLogging, CrlFiles, Logging, ProtocolVersion};
use super::server::{Metrics, Reload, Sandbox};
use super::tunnel::{ClientLimits, ClientMetrics, Tunnel};

/// The configuration of qtls-client.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
#[schemars(title = "client.json")]
pub struct ClientConfig {
    /// The address of this JSON Schema, for editors. It has no effect on the client.
    #[serde(rename = "$schema")]
    pub schema: Option<String>,
    /// The server to connect to, and how long to wait for it.
    pub client: Client,
    /// The TLS protocol: modes, names, verification.
    pub tls: ClientTls,
    /// The client's own certificate, and the trust anchors for the server's.
    pub certificates: ClientCertificates,
    /// Which algorithms are offered and accepted, in order of preference.
    pub algorithms: Algorithms,
    /// What is logged, and where to.
    #[serde(deserialize_with = "ClientLogging::into_logging")]
    #[schemars(with = "ClientLogging")]
    pub logging: Logging,
    /// Plain connections that are taken here and carried to TLS servers, for as long as the process runs. Where the command
    /// line names a server, there are none.
    pub tunnels: Vec<Tunnel>,
    /// What tunnels take on.
    #[serde(deserialize_with = "ClientLimits::into_limits")]
    #[schemars(with = "ClientLimits")]
    pub limits: Limits,
    /// The Prometheus endpoint of tunnels. It is on if this section is there, unless `enabled` is false.
    #[serde(deserialize_with = "ClientMetrics::into_metrics")]
    #[schemars(with = "Option<ClientMetrics>")]
    pub metrics: Option<Metrics>,
    /// Which changes of files tunnels apply without being asked. SIGHUP always asks.
    pub reload: Reload,
    /// How much of what the process will not need must have been taken from it before tunnels serve.
    pub sandbox: Sandbox,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            schema: None,
            client: Client::default(),
            tls: ClientTls::default(),
            certificates: ClientCertificates::default(),
            algorithms: Algorithms::default(),
            logging: ClientLogging::default().into(),
            tunnels: Vec::new(),
            limits: ClientLimits::default().into(),
            metrics: None,
            reload: Reload::default(),
            sandbox: Sandbox::default(),
        }
    }
}

/// The server to connect to, and how long to wait for it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Client {
    /// The name or IP address of the server, where the command line gives none.
    #[serde(deserialize_with = "fields::optional_host")]
    pub server_host: Option<String>,
    /// The TCP port of the server, where the command line gives none.
    #[serde(deserialize_with = "fields::optional_port")]
    #[schemars(range(min = 1, max = 65535))]
    pub server_port: Option<u16>,
    /// How long connecting and the handshake may take together, in seconds.
    #[serde(deserialize_with = "fields::seconds::<1, 86_400, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 1, max = 86_400))]
    pub connect_timeout: Duration,
    /// How long to wait for the server to send something, in seconds.
    #[serde(deserialize_with = "fields::seconds::<1, 86_400, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 1, max = 86_400))]
    pub read_timeout: Duration,
    /// How long to wait for the server to take what is sent, in seconds.
    #[serde(deserialize_with = "fields::seconds::<1, 86_400, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 1, max = 86_400))]
    pub write_timeout: Duration,
    /// How many times a connection that failed is tried again. 0 tries once.
    #[serde(deserialize_with = "fields::whole::<0, 1000, _, _>")]
    #[schemars(range(min = 0, max = 1000))]
    pub max_retries: u32,
    /// The number of threads that carry tunnels.
    #[serde(deserialize_with = "fields::whole::<1, 1024, _, _>")]
    #[schemars(range(min = 1, max = 1024))]
    pub worker_threads: u16,
    /// How many connections may be open at the same time, over all tunnels.
    #[serde(deserialize_with = "fields::whole::<1, 10_000_000, _, _>")]
    #[schemars(range(min = 1, max = 10_000_000))]
    pub max_connections: u32,
    /// How long the open connections of tunnels may go on after the signal to stop, in seconds. 0 closes them at once.
    #[serde(deserialize_with = "fields::seconds::<0, 86_400, _>", serialize_with = "fields::as_seconds")]
    #[schemars(with = "u32", range(min = 0, max = 86_400))]
    pub drain_timeout: Duration,
    /// The user that a process with tunnels becomes once its sockets are open, by name. Only root can become another one.
    #[serde(deserialize_with = "fields::optional_user")]
    #[schemars(length(min = 1))]
    pub user: Option<String>,
}

impl Default for Client {
    fn default() -> Self {
        Self {
            server_host: None,
            server_port: None,
            connect_timeout: Duration::from_secs(30),
            read_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(60),
            max_retries: 3,
            worker_threads: 1,
            max_connections: 1000,
            drain_timeout: Duration::from_secs(25),
            user: None,
        }
    }
}

/// The TLS protocol on the client's side: modes, names, verification.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct ClientTls {
    /// The protocol version. TLS 1.3 is the only one.
    pub protocol_version: ProtocolVersion,
    /// The algorithms that may be chosen from, and what is chosen where nothing else is said.
    pub profile: Profile,
    /// Whether key exchanges combine a post-quantum KEM with a classical group. Without it: as the profile has it.
    #[serde(deserialize_with = "fields::said")]
    #[schemars(with = "bool")]
    pub hybrid_mode: Option<bool>,
    /// Whether servers without post-quantum key exchange are refused. Without it: as the profile has it.
    #[serde(deserialize_with = "fields::said")]
    #[schemars(with = "bool")]
    pub pqc_only: Option<bool>,
    /// Whether the server's name is sent in the ClientHello (SNI).
    pub server_name_indication: bool,
    /// Whether the server's certificate is verified. Without it, anyone can pretend to be the server.
    pub verify_peer: bool,
}

impl Default for ClientTls {
    fn default() -> Self {
        Self {
            protocol_version: ProtocolVersion::Tls13,
            profile: Profile::Default,
            hybrid_mode: None,
            pqc_only: None,
            server_name_indication: true,
            verify_peer: true,
        }
    }
}

/// The client's own certificate, and the trust anchors for the server's.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct ClientCertificates {
    /// The client's certificate chain, leaf first, in PEM. Only together with `client_key`.
    #[serde(deserialize_with = "fields::optional_path")]
    pub client_cert: Option<PathBuf>,
    /// The private key of the leaf, in PEM. Only together with `client_cert`.
    #[serde(deserialize_with = "fields::optional_path")]
    pub client_key: Option<PathBuf>,
    /// The passphrase of `client_key`, where that is encrypted; best from the environment: `"${VARIABLE}"`.
    pub client_key_passphrase: Option<Secret>,
    /// A file whose one line is the passphrase of `client_key`.
    #[serde(deserialize_with = "fields::optional_path")]
    pub client_key_passphrase_file: Option<PathBuf>,
    /// Revocation lists that the server's certificate is checked against.
    pub crl: Option<CrlFiles>,
    /// Public keys of which one must be in the server's chain: SHA-256 hashes in base64 or hexadecimal digits.
    pub pins: Vec<String>,
    /// The trust anchors that the server's certificate is verified against, in PEM. Without it: the system's.
    #[serde(deserialize_with = "fields::optional_path")]
    pub ca_bundle: Option<PathBuf>,
}
