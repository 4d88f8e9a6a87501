//! `client.json`: every key of the client, with its type, its default and its limits.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::fields::{self, Secret};
use super::sections::{Algorithms, ClientLogging, CrlFiles, Logging, ProtocolVersion};

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
        }
    }
}

/// The TLS protocol on the client's side: modes, names, verification.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct ClientTls {
    /// The protocol version. TLS 1.3 is the only one.
    pub protocol_version: ProtocolVersion,
    /// Whether key exchanges combine a post-quantum KEM with a classical group.
    pub hybrid_mode: bool,
    /// Whether servers without post-quantum key exchange are refused.
    pub pqc_only: bool,
    /// Whether the server's name is sent in the ClientHello (SNI).
    pub server_name_indication: bool,
    /// Whether the server's certificate is verified. Without it, anyone can pretend to be the server.
    pub verify_peer: bool,
}

impl Default for ClientTls {
    fn default() -> Self {
        Self {
            protocol_version: ProtocolVersion::Tls13,
            hybrid_mode: true,
            pqc_only: false,
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
