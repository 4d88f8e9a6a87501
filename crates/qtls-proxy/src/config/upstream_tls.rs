//! The `upstream.tls` section: the server as a client of the servers behind it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client::ClientCertificates;
use super::fields::{self, Secret};
use super::policy::Profile;
use super::sections::{Algorithms, CrlFiles};

/// TLS to the upstream servers. What it leaves out of `profile`, `hybrid_mode`, `pqc_only` and `algorithms` is as its host
/// has it; with a `profile`, as that profile has it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct UpstreamTls {
    /// The algorithms that may be chosen from. Without it: that of the host.
    pub profile: Option<Profile>,
    /// Whether key exchanges combine a post-quantum KEM with a classical group. Without it: as the host has it.
    #[serde(deserialize_with = "fields::said")]
    #[schemars(with = "bool")]
    pub hybrid_mode: Option<bool>,
    /// Whether servers without post-quantum key exchange are refused. Without it: as the host has it.
    #[serde(deserialize_with = "fields::said")]
    #[schemars(with = "bool")]
    pub pqc_only: Option<bool>,
    /// The lists of algorithms. A list that is absent is that of the host.
    pub algorithms: Algorithms,
    /// The trust anchors that the servers' certificates are verified against, in PEM. Without it: the system's.
    #[serde(deserialize_with = "fields::optional_path")]
    pub ca_bundle: Option<PathBuf>,
    /// How many intermediates may stand between a server's certificate and a trust anchor.
    #[serde(deserialize_with = "fields::whole::<0, 16, _, _>")]
    #[schemars(range(min = 0, max = 16))]
    pub verify_depth: u8,
    /// Revocation lists that the servers' certificates are checked against.
    pub crl: Option<CrlFiles>,
    /// Public keys of which one must be in a server's chain: SHA-256 hashes in base64 or hexadecimal digits.
    pub pins: Vec<String>,
    /// This server's certificate chain as a client, leaf first, in PEM. Only together with `client_key`.
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
    /// The name that is asked for (SNI) and that the servers' certificates must be valid for. Without it: the host in the
    /// address of each server.
    #[serde(deserialize_with = "fields::optional_host")]
    pub server_name: Option<String>,
    /// Whether the name is sent in the ClientHello (SNI). Addresses never are.
    pub server_name_indication: bool,
    /// Whether any certificate of any server is taken: anyone on the way can pretend to be the upstream.
    pub dangerous_accept_any_certificate: bool,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self {
            profile: None,
            hybrid_mode: None,
            pqc_only: None,
            algorithms: Algorithms::default(),
            ca_bundle: None,
            verify_depth: 3,
            crl: None,
            pins: Vec::new(),
            client_cert: None,
            client_key: None,
            client_key_passphrase: None,
            client_key_passphrase_file: None,
            server_name: None,
            server_name_indication: true,
            dangerous_accept_any_certificate: false,
        }
    }
}

impl UpstreamTls {
    /// The keys that `client.json` has as `certificates`.
    pub(crate) fn certificates(&self) -> ClientCertificates {
        ClientCertificates {
            client_cert: self.client_cert.clone(),
            client_key: self.client_key.clone(),
            client_key_passphrase: self.client_key_passphrase.clone(),
            client_key_passphrase_file: self.client_key_passphrase_file.clone(),
            crl: self.crl.clone(),
            pins: self.pins.clone(),
            ca_bundle: self.ca_bundle.clone(),
        }
    }
}

/// Which HTTP is spoken with the upstream servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum HttpVersion {
    /// HTTP/1.1.
    #[default]
    #[serde(rename = "1.1")]
    Http1,
    /// HTTP/2: over TLS by ALPN, and a server that doesn't choose it is refused; without TLS by prior knowledge.
    #[serde(rename = "2")]
    Http2,
    /// Over TLS: HTTP/2 with servers that choose it by ALPN, and HTTP/1.1 with the others.
    #[serde(rename = "auto")]
    Auto,
}
