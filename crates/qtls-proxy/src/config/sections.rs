//! The sections that `server.json` and `client.json` have in common.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::failure::with_hint;
use super::fields;

/// The protocol version: a type with one value, so that nothing has to ask which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum ProtocolVersion {
    /// TLS 1.3, RFC 8446.
    #[default]
    #[serde(rename = "1.3")]
    Tls13,
}

impl<'de> Deserialize<'de> for ProtocolVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct VersionVisitor;
        impl Visitor<'_> for VersionVisitor {
            type Value = ProtocolVersion;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the string \"1.3\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<ProtocolVersion, E> {
                if text == "1.3" {
                    return Ok(ProtocolVersion::Tls13);
                }
                Err(with_hint(
                    &format!("TLS 1.3 is the only protocol version, found the string {text:?}"),
                    "post-quantum key exchange exists in TLS 1.3 only: set \"1.3\", or remove the key",
                ))
            }
        }
        deserializer.deserialize_str(VersionVisitor)
    }
}

impl JsonSchema for ProtocolVersion {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ProtocolVersion".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": ["1.3"] })
    }
}

/// Certificate revocation lists.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct CrlFiles {
    /// Files, or directories of files, in PEM or DER.
    #[serde(deserialize_with = "fields::paths")]
    #[schemars(with = "Vec<String>", length(min = 1))]
    pub paths: Vec<PathBuf>,
    /// What happens to a certificate whose issuer's list is missing or stale.
    #[serde(default)]
    pub mode: CrlMode,
}

/// What happens to a certificate whose issuer's revocation list is missing or stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CrlMode {
    /// It is refused.
    #[default]
    Hard,
    /// It is let through. What a stale list says still counts: revoked stays revoked.
    Soft,
}

/// Which algorithms are offered and accepted, in order of preference. A list that is absent means the default.
//
// The names are as configured: the policy table resolves them. A list that is there is never empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Algorithms {
    /// Key exchange: KEMs and classical groups, which `tls.hybrid_mode` pairs, or groups by name.
    #[serde(deserialize_with = "fields::names")]
    #[schemars(length(min = 1))]
    pub kem: Option<Vec<String>>,
    /// Signatures of the handshake, which also order this side's own certificates.
    #[serde(deserialize_with = "fields::names")]
    #[schemars(length(min = 1))]
    pub signature: Option<Vec<String>>,
    /// Signatures inside certificate chains.
    #[serde(deserialize_with = "fields::names")]
    #[schemars(length(min = 1))]
    pub signature_chain: Option<Vec<String>>,
    /// Cipher suites.
    #[serde(deserialize_with = "fields::names")]
    #[schemars(length(min = 1))]
    pub cipher: Option<Vec<String>>,
}

/// What is logged, and where to.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Logging {
    /// The least important level that is logged.
    pub level: LogLevel,
    /// What a line looks like.
    pub format: LogFormat,
    /// The log file.
    #[serde(deserialize_with = "fields::optional_path")]
    pub file: Option<PathBuf>,
    /// The size at which the log file, and the access log file, is rotated, in MiB.
    #[serde(deserialize_with = "fields::whole::<1, 1_048_576, _, _>")]
    #[schemars(range(min = 1, max = 1_048_576))]
    pub max_size_mb: u32,
    /// How many log files are kept, with the current one.
    #[serde(deserialize_with = "fields::whole::<1, 1000, _, _>")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_files: u32,
    /// Whether to log to standard error.
    pub console: bool,
    /// Whether each connection is a line of the log, when it has ended.
    pub access: bool,
    /// A file for the lines of connections. Without it, they are in the log.
    #[serde(deserialize_with = "fields::optional_path")]
    pub access_file: Option<PathBuf>,
    /// The audit log: who and what changed what this server does, and whom it refused, in lines of JSON.
    #[serde(deserialize_with = "fields::optional_path")]
    pub audit_file: Option<PathBuf>,
}

impl Default for Logging {
    fn default() -> Self {
        Self {
            level: LogLevel::Info,
            format: LogFormat::Text,
            file: None,
            max_size_mb: 100,
            max_files: 10,
            console: true,
            access: true,
            access_file: None,
            audit_file: None,
        }
    }
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people: time, level, message, and fields as `key=value`.
    #[default]
    Text,
    /// For machines: a JSON object.
    Json,
}

/// What the client logs, and where to. Keys of the server's, with quieter defaults.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub(super) struct ClientLogging {
    /// The least important level that is logged.
    level: LogLevel,
    /// What a line looks like.
    format: LogFormat,
    /// The log file.
    #[serde(deserialize_with = "fields::optional_path")]
    file: Option<PathBuf>,
    /// The size at which the log file is rotated, in MiB.
    #[serde(deserialize_with = "fields::whole::<1, 1_048_576, _, _>")]
    #[schemars(range(min = 1, max = 1_048_576))]
    max_size_mb: u32,
    /// How many log files are kept, with the current one.
    #[serde(deserialize_with = "fields::whole::<1, 1000, _, _>")]
    #[schemars(range(min = 1, max = 1000))]
    max_files: u32,
    /// Whether to log to standard error.
    console: bool,
    /// Whether each connection of a tunnel is a line of the log, when it has ended.
    access: bool,
    /// A file for the lines of connections. Without it, they are in the log.
    #[serde(deserialize_with = "fields::optional_path")]
    access_file: Option<PathBuf>,
    /// The audit log of tunnels: who and what changed what they do, and which servers were refused, in lines of JSON.
    #[serde(deserialize_with = "fields::optional_path")]
    audit_file: Option<PathBuf>,
}

impl ClientLogging {
    /// Reads the client's section as the type that both sides share.
    pub(super) fn into_logging<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Logging, D::Error> {
        Self::deserialize(deserializer).map(Logging::from)
    }
}

impl Default for ClientLogging {
    fn default() -> Self {
        let Logging { format, file, max_size_mb, max_files, access, access_file, audit_file, .. } = Logging::default();
        let (level, console) = (LogLevel::Warn, false);
        Self { level, format, file, max_size_mb, max_files, console, access, access_file, audit_file }
    }
}

impl From<ClientLogging> for Logging {
    fn from(section: ClientLogging) -> Self {
        let ClientLogging { level, format, file, max_size_mb, max_files, console, access, access_file, audit_file } =
            section;
        Self { level, format, file, max_size_mb, max_files, console, access, access_file, audit_file }
    }
}

/// How important a log line is, the most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed that should not have.
    Error,
    /// Something needs an eye.
    Warn,
    /// What an operator wants to know.
    Info,
    /// What someone who looks for a fault wants to know.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The name as in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
