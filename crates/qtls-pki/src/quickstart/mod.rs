//! A complete small public key infrastructure, and the configurations that use it, in one step.
//!
//! For each of [`ALGORITHMS`]: a root (20 years), an intermediate below it (10 years), and below that one leaf for a
//! server and one for a client (1 year). All of it appears in one new directory at once, or nothing does.

mod config;
mod material;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::SystemTime;

use qtls_core::policy::{KeyAlgorithm, Named};
use qtls_core::{Error, Result};

use crate::directory::{Content, Target};
use crate::names::ServerName;
use material::Material;

/// The algorithms that certificates are made for, the default first: it is the one that browsers accept.
pub const ALGORITHMS: [KeyAlgorithm; 3] = [KeyAlgorithm::EcdsaP384, KeyAlgorithm::Rsa4096, KeyAlgorithm::MlDsa65];

/// What to make, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory to make. It must not exist, or be empty.
    pub dir: PathBuf,
    /// The names of the server; at least one.
    pub names: Vec<ServerName>,
    /// Which of [`ALGORITHMS`] carries the plain file names, such as `server-cert.pem`.
    pub algorithm: KeyAlgorithm,
    /// Where the server of `server.json` listens.
    pub listen: SocketAddr,
    /// Where it serves its metrics.
    pub metrics: SocketAddr,
}

impl Options {
    /// The defaults: ECDSA P-384, port 8443 on every IPv4 address, metrics on the loopback's port 9091.
    pub fn new(dir: impl Into<PathBuf>, names: Vec<ServerName>) -> Self {
        Self {
            dir: dir.into(),
            names,
            algorithm: ALGORITHMS[0],
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8443),
            metrics: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9091),
        }
    }
}

/// What was made. All paths are absolute.
#[derive(Clone, Debug)]
pub struct Summary {
    /// The directory.
    pub dir: PathBuf,
    /// The configuration of the server.
    pub server_config: PathBuf,
    /// The configuration of the client.
    pub client_config: PathBuf,
    /// The roots of all chains.
    pub ca_bundle: PathBuf,
    /// The names in the server's certificates, each once.
    pub names: Vec<ServerName>,
    /// Which algorithm carries the plain file names.
    pub algorithm: KeyAlgorithm,
    /// How a client reaches the server, `HOST:PORT`. For a wildcard, one of the names it covers.
    pub connect: String,
    /// The end of the leaves' validity.
    pub not_after: SystemTime,
    /// Every file, relative to `dir`, in order.
    pub files: Vec<PathBuf>,
}

/// Makes everything that `options` ask for. Takes seconds: there are four RSA-4096 keys among it.
///
/// Fails before the first key is made when the directory can't be used; a failure leaves nothing behind.
pub fn create(options: &Options) -> Result<Summary> {
    let names = distinct(&options.names)?;
    if !ALGORITHMS.contains(&options.algorithm) {
        return Err(Error::configuration(format!("quickstart makes no {} certificates", options.algorithm))
            .hint(format!("choose one of {}", ALGORITHMS.map(KeyAlgorithm::name).join(", "))));
    }
    let target = Target::new(&options.dir)?;
    // Before the keys, too: a path that no configuration can hold is found at once.
    let configurations = config::configurations(&target, options, &names)?;
    let material = Material::generate(&names, SystemTime::now())?;
    let mut contents = material.contents(options.algorithm)?;
    contents.extend(configurations);
    target.publish(&contents)?;
    Ok(Summary {
        server_config: target.path(SERVER_CONFIG),
        client_config: target.path(CLIENT_CONFIG),
        ca_bundle: target.path(CA_BUNDLE),
        connect: names[0].example().with_port(options.listen.port()),
        not_after: material.not_after,
        files: contents.into_iter().map(Content::into_path).collect(),
        dir: target.into_dir(),
        algorithm: options.algorithm,
        names,
    })
}

const SERVER_CONFIG: &str = "server.json";
const CLIENT_CONFIG: &str = "client.json";
const CA_BUNDLE: &str = "ca-bundle.pem";

/// Each name once, those that can be connected to before the wildcards.
fn distinct(names: &[ServerName]) -> Result<Vec<ServerName>> {
    let mut distinct: Vec<ServerName> = Vec::with_capacity(names.len());
    for name in names {
        if !distinct.contains(name) {
            distinct.push(name.clone());
        }
    }
    if distinct.is_empty() {
        return Err(Error::configuration("a server's certificate needs at least one name")
            .hint("give the names or addresses that clients use, as `--name server.example.com`"));
    }
    distinct.sort_by_key(ServerName::is_wildcard);
    Ok(distinct)
}

#[cfg(test)]
mod tests;
