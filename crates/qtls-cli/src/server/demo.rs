//! `--demo`: a server on loopback with a CA of its own, for looking at.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use qtls_core::credentials::files;
use qtls_core::{Error, Result};
use qtls_pki::names::ServerName;
use qtls_pki::quickstart::{Options, create};
use qtls_proxy::config::{self, Loaded, ServerConfig, Source};

use super::state_error;

/// The names that the demo's certificate is for.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Where plaintext goes in the demo.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Upstream {
    protocol: &'static str,
    server: String,
}

impl Upstream {
    /// `HOST:PORT` and `http://HOST:PORT` are HTTP; `tcp://HOST:PORT` is anything.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let (protocol, server) = match text.split_once("://") {
            None | Some(("http", _)) => ("http", text.trim_start_matches("http://")),
            Some(("tcp", server)) => ("tcp", server),
            Some((scheme, _)) => {
                return Err(Error::configuration(format!("an upstream can't be reached by {scheme}://"))
                    .at("--upstream")
                    .hint("give HOST:PORT or http://HOST:PORT for HTTP, or tcp://HOST:PORT for anything else"));
            }
        };
        Ok(Self { protocol, server: server.trim_end_matches('/').to_owned() })
    }
}

/// The demo's configuration. Its certificates are made where there are none, or none that are valid.
pub(super) fn load(upstream: Option<&Upstream>, overrides: &[(String, String)]) -> Result<Loaded<ServerConfig>> {
    let dir = directory()?;
    prepare(&dir)?;
    let mut all = Vec::new();
    if let Some(Upstream { protocol, server }) = upstream {
        all.push(("upstream.protocol".to_owned(), (*protocol).to_owned()));
        all.push(("upstream.servers".to_owned(), server.clone()));
    }
    all.extend_from_slice(overrides);
    config::load_server(&Source { overrides: all, ..Source::of_process(Some(dir.join("server.json")))? })
}

fn directory() -> Result<PathBuf> {
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".local/state")))
        .ok_or_else(|| state_error("this user has no home directory for the demo's certificates"))?;
    Ok(state.join("qtls/demo"))
}

fn prepare(dir: &Path) -> Result<()> {
    if dir.join("server.json").exists() {
        let usable = files::credential(&dir.join("server-cert.pem"), &dir.join("server-key.pem"))
            .is_ok_and(|credential| credential.validity(SystemTime::now()).is_valid());
        if usable {
            return Ok(());
        }
        // Ours alone, as its name says, and good for nothing any more.
        fs::remove_dir_all(dir).map_err(|error| state_error(format!("{} can't be renewed: {error}", dir.display())))?;
    }
    if let Some(parent) = dir.parent() {
        fs::create_dir_all(parent)
            .map_err(|error| state_error(format!("{} can't be made: {error}", parent.display())))?;
    }
    let names = NAMES.iter().map(|name| name.parse::<ServerName>()).collect::<Result<Vec<_>>>()?;
    let mut options = Options::new(dir, names);
    options.listen.set_ip(Ipv4Addr::LOCALHOST.into());
    create(&options).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upstream_is_http_unless_it_says_otherwise() {
        let parse = |text| Upstream::parse(text).unwrap();
        let upstream = |protocol, server: &str| Upstream { protocol, server: server.to_owned() };
        assert_eq!(parse("127.0.0.1:3000"), upstream("http", "127.0.0.1:3000"));
        assert_eq!(parse("http://127.0.0.1:3000/"), upstream("http", "127.0.0.1:3000"));
        assert_eq!(parse("tcp://[::1]:6379"), upstream("tcp", "[::1]:6379"));
        assert_eq!(Upstream::parse("ftp://x").unwrap_err().message(), "an upstream can't be reached by ftp://");
    }
}
