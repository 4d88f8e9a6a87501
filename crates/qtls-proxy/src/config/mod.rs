//! The configuration: `server.json` and `client.json`, the environment, the command line.
//!
//! Precedence: command line, environment, file, default. A file is JSON with comments. Every error names the file with
//! line and column (or the variable), the key, and the remedy; an unknown key is an error. What the names of algorithms
//! mean is the policy table's business; that files exist, the credentials'. Both report through [`Origins`].

mod alpn;
mod client;
mod de;
mod environment;
mod failure;
mod fields;
mod health_check;
mod hosts;
mod limits;
mod log_detail;
mod origins;
mod policy;
mod proxy_protocol;
mod redirect;
mod schema;
mod sections;
mod server;
mod settle;
mod tree;
mod tunnel;
mod upstream;
mod upstream_rules;
mod upstream_servers;
mod upstream_tls;

use std::collections::BTreeMap;
use std::env;
use std::fmt;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use qtls_core::error::{Error, Result};
use serde::de::DeserializeOwned;
use tracing::level_filters::STATIC_MAX_LEVEL;

pub use alpn::AlpnProtocol;
pub use client::{Client, ClientCertificates, ClientConfig, ClientTls};
pub use fields::Secret;
pub use health_check::{HealthCheck, HealthCheckKind, Statuses};
pub use hosts::HostName;
pub use limits::{Limits, WhenFull};
pub use origins::Origins;
pub use policy::{Profile, Report};
pub use proxy_protocol::{ProxyProtocol, SentHeader};
pub use redirect::Redirect;
pub use schema::{client_schema, server_schema};
pub use sections::{Algorithms, CrlFiles, CrlMode, LogFormat, LogLevel, Logging, ProtocolVersion};
pub(crate) use server::covers;
pub use server::{AdditionalCertificate, AllowEntry, OnlyFor, VerifyClient, VirtualHost};
pub use server::{
    Fips, GroupPreference, Hsm, Metrics, Reload, Sandbox, Server, ServerCertificates, ServerConfig, ServerTls,
    TicketKeys,
};
pub use tunnel::{ListenAddress, RemoteAddress, SocketMode, Tunnel};
pub use upstream::{BadAddress, Hsts, Upstream, UpstreamAddress, UpstreamProtocol, UpstreamTimeouts};
pub use upstream_servers::{Balance, UpstreamServer};
pub use upstream_tls::{HttpVersion, UpstreamTls};

use crate::key_log;
use environment::Variable;
use tree::{Node, Place, Value};

/// Where certificates are looked for that no configuration names.
pub const DEFAULT_CERTIFICATE_DIR: &str = "/etc/qtls/certs";

/// What a configuration is read from. Nothing else is looked at, so that reading one is a function of this value
/// and of the file.
#[derive(Clone)]
pub struct Source {
    /// The file, if there is one. Errors show the path as it is here.
    pub file: Option<PathBuf>,
    /// The environment, by name.
    pub env: BTreeMap<String, String>,
    /// Dotted keys and their values from the command line. Of two for one key, the later wins.
    pub overrides: Vec<(String, String)>,
    /// The directory of the certificates that no configuration names.
    pub certificate_dir: PathBuf,
}

impl Default for Source {
    /// Only defaults.
    fn default() -> Self {
        Self {
            file: None,
            env: BTreeMap::new(),
            overrides: Vec::new(),
            certificate_dir: PathBuf::from(DEFAULT_CERTIFICATE_DIR),
        }
    }
}

impl Source {
    /// The file, if there is one, and the environment of this process.
    ///
    /// # Errors
    /// A variable of ours is not UTF-8.
    pub fn of_process(file: Option<PathBuf>) -> Result<Self> {
        let mut env = BTreeMap::new();
        for (name, value) in env::vars_os() {
            match (name.into_string(), value.into_string()) {
                (Ok(name), Ok(value)) => {
                    env.insert(name, value);
                }
                (Ok(name), Err(_)) if name.starts_with("QTLS_") => {
                    return Err(Error::configuration("the value is not UTF-8")
                        .at(Place::Variable(name.into()))
                        .hint("set it to text"));
                }
                // Variables of others may be anything.
                _ => {}
            }
        }
        Ok(Self { file, env, ..Self::default() })
    }
}

impl fmt::Debug for Source {
    /// Without the values of variables: PINs and passwords of others are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, env, overrides, certificate_dir } = self;
        f.debug_struct("Source")
            .field("file", file)
            .field("env", &env.keys())
            .field("overrides", overrides)
            .field("certificate_dir", certificate_dir)
            .finish()
    }
}

/// A configuration that was read, what to tell the operator about it, and where its values came from.
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    /// The configuration.
    pub value: T,
    /// One line each, for the log at start.
    pub warnings: Vec<String>,
    /// Where the values came from, for the checks that follow.
    pub origins: Origins,
    /// The file it was read from, if there was one.
    pub file: Option<PathBuf>,
}

/// Reads the configuration of qtls-server. Where `metrics` are not enabled, the value has none; `hsm` and `fips` are
/// never enabled in it, and `certificates.server_key_uri` is never set.
///
/// # Errors
/// The file can't be read, something in it, in the environment or in the overrides is wrong, or the values contradict
/// each other. Names of algorithms and the files that are named are not looked at, but for the default `ca_bundle`.
pub fn load_server(source: &Source) -> Result<Loaded<ServerConfig>> {
    let mut loaded: Loaded<ServerConfig> = load(source, &Kind::SERVER)?;
    let named = source.env.get(key_log::VARIABLE).filter(|path| !path.is_empty());
    loaded.value.key_log_file = named.map(PathBuf::from);
    settle::server(&mut loaded.value, &loaded.origins, &source.certificate_dir)?;
    loaded.warnings.extend(log_detail::missing(&loaded.value.logging, &loaded.origins, STATIC_MAX_LEVEL));
    Ok(loaded)
}

/// Reads the configuration of qtls-client.
///
/// # Errors
/// As for [`load_server`].
pub fn load_client(source: &Source) -> Result<Loaded<ClientConfig>> {
    let mut loaded: Loaded<ClientConfig> = load(source, &Kind::CLIENT)?;
    settle::client(&loaded.value, &loaded.origins)?;
    loaded.warnings.extend(log_detail::missing(&loaded.value.logging, &loaded.origins, STATIC_MAX_LEVEL));
    Ok(loaded)
}

/// What tells the two configurations apart.
struct Kind {
    program: &'static str,
    section: &'static str,
    other_program: &'static str,
    other_section: &'static str,
    variables: &'static [Variable],
    /// The sections that are refused when they are enabled.
    unsupported: &'static [&'static str],
}

impl Kind {
    const SERVER: Self = Self {
        program: "qtls-server",
        section: "server",
        other_program: "qtls-client",
        other_section: "client",
        variables: environment::SERVER,
        unsupported: &["hsm", "fips"],
    };

    const CLIENT: Self = Self {
        program: "qtls-client",
        section: "client",
        other_program: "qtls-server",
        other_section: "server",
        variables: environment::CLIENT,
        unsupported: &[],
    };
}

fn load<T: DeserializeOwned>(source: &Source, kind: &Kind) -> Result<Loaded<T>> {
    let (mut root, place) = match &source.file {
        Some(path) => (read(path)?, Place::WholeFile(path.display().to_string().into())),
        None => (Node { value: Value::Object(Vec::new()), place: Place::Default }, Place::Default),
    };
    if root.child(kind.section).is_none()
        && let Some(section) = root.child(kind.other_section)
    {
        let Kind { program, other_program, other_section, .. } = kind;
        return Err(Error::configuration(format!("this is the configuration of {other_program}, not of {program}"))
            .at(&section.place)
            .key(other_section)
            .hint(format!("give {program} its own file; this one is for {other_program}")));
    }
    let mut warnings = Vec::new();
    environment::overlay(&mut root, &source.env, kind.variables, &mut warnings)?;
    environment::override_keys(&mut root, &source.overrides)?;
    let used = environment::expand(&mut root, &source.env, kind.unsupported)?;
    environment::warn_of_near_misses(&source.env, &used, &mut warnings);
    hosts::inherit(&mut root);
    let origins = Origins::of(&root, place);
    let value = de::from_tree(root)?;
    Ok(Loaded { value, warnings, origins, file: source.file.clone() })
}

fn read(path: &Path) -> Result<Node> {
    let shown = path.display().to_string();
    let bytes = fs::read(path).map_err(|error| {
        let (message, hint) = match error.kind() {
            ErrorKind::NotFound => ("there is no such file".to_owned(), "check the path".to_owned()),
            ErrorKind::PermissionDenied => {
                ("this user may not read the file".to_owned(), format!("check its permissions: ls -l {shown}"))
            }
            ErrorKind::IsADirectory => ("this is a directory, not a file".to_owned(), "name the file in it".to_owned()),
            _ => (format!("the file cannot be read: {error}"), "check the path".to_owned()),
        };
        Error::configuration(message).at(&shown).hint(hint)
    })?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        Error::configuration("the file is not UTF-8 text")
            .at(format_args!("{shown}:{line}"))
            .hint("save it in the encoding UTF-8")
    })?;
    tree::parse_file(text, &shown)
}

const SERVER_CERT: &str = "server-cert.pem";
const SERVER_KEY: &str = "server-key.pem";
const CA_BUNDLE: &str = "ca-bundle.pem";

#[cfg(test)]
mod tests;
