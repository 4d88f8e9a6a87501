//! From the command line and the configuration to everything that connecting needs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use qtls_core::{Error, Result};
use qtls_proxy::client_plan::ClientSide;
use qtls_proxy::config::{ClientConfig, Loaded, Source, Tunnel, load_client};
use qtls_proxy::reach::{Patience, Remote, authority};

use super::arguments::{Arguments, Request, alpn, request, server_name, target};

/// The port where neither the command line nor the configuration has one: the server's default.
const DEFAULT_PORT: u16 = 8443;
/// The configuration that is read if it is there and none is named.
const DEFAULT_CONFIG: &str = "/etc/qtls/config/client.json";

/// Everything that connecting needs. Nothing of it changes between attempts.
pub(super) struct Settings {
    pub(super) remote: Remote,
    pub(super) patience: Patience,
    pub(super) read_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) request: Option<Request>,
    /// What the operator should know, a sentence each.
    pub(super) warnings: Vec<String>,
}

impl Settings {
    /// The server as a request names it (RFC 9110, section 4.2.2: without the port where it is the scheme's).
    pub(super) fn authority(&self) -> String {
        let name = self.remote.server_name.to_str();
        match self.remote.port {
            443 => authority(&name, None),
            port => authority(&name, Some(port)),
        }
    }
}

/// Reads the configuration, with what the command line sets laid over it.
pub(super) fn configuration(arguments: &Arguments) -> Result<Loaded<ClientConfig>> {
    let file = arguments.config.clone().or_else(|| Some(PathBuf::from(DEFAULT_CONFIG)).filter(|path| path.is_file()));
    let mut source = Source::of_process(file)?;
    let mut set = |key: &str, value: String| source.overrides.push((key.to_owned(), value));
    let target = target(arguments.host.as_deref(), arguments.port.as_deref())?;
    if let Some(host) = target.host {
        set(HOST, host);
    }
    if let Some(port) = target.port {
        set(PORT, port.to_string());
    }
    for (key, path) in [(CA, &arguments.ca), (CERT, &arguments.cert), (KEY, &arguments.key)] {
        if let Some(path) = path {
            set(key, text(path).map_err(|error| by_option(error.at(COMMAND_LINE).key(key)))?);
        }
    }
    if arguments.pqc_only {
        set(PQC_ONLY, true.to_string());
    }
    if arguments.insecure {
        set("tls.verify_peer", false.to_string());
    }
    let mut loaded = load_client(&source).map_err(by_option)?;
    if arguments.local_starttls.is_some() && arguments.tunnels.is_empty() {
        return Err(Error::configuration("it is about the tunnels of --tunnel, and there are none")
            .at("--local-starttls")
            .hint("give --tunnel LOCAL=REMOTE; tunnels of the configuration have `local_starttls` themselves"));
    }
    let alpn = arguments.alpn.as_deref().filter(|_| !arguments.tunnels.is_empty()).map(alpn).transpose()?;
    for tunnel in &arguments.tunnels {
        loaded.value.tunnels.push(Tunnel {
            server_name: arguments.server_name.clone(),
            alpn: alpn.iter().flatten().map(|name| String::from_utf8_lossy(name).into_owned()).collect(),
            starttls: arguments.starttls,
            local_starttls: arguments.local_starttls,
            ..tunnel.clone()
        });
    }
    Ok(loaded)
}

/// Resolves names and reads files.
pub(super) fn settle(arguments: &Arguments, loaded: Loaded<ClientConfig>) -> Result<Settings> {
    let Loaded { value: config, mut warnings, origins, .. } = loaded;
    let host = config.client.server_host.clone().ok_or_else(|| {
        Error::configuration("which server? None is given")
            .hint("qtls-client HOST PORT, QTLS_SERVER_HOST, or client.server_host in client.json")
    })?;
    let name = match &arguments.server_name {
        Some(name) => server_name(name).map_err(|error| error.at("--server-name"))?,
        None => server_name(&host).map_err(|error| by_option(origins.locate(HOST, error)))?,
    };
    let request = arguments.request.as_deref().map(request).transpose()?;
    let alpn = match (&arguments.alpn, &request, arguments.starttls) {
        (Some(list), request, _) => protocols(list, request.is_some())?,
        (None, Some(_), _) => vec![H2.to_vec(), HTTP1.to_vec()],
        (None, None, Some(protocol)) => vec![protocol.alpn().to_vec()],
        (None, None, None) => Vec::new(),
    };

    let side = ClientSide::of_client(&config, &origins, alpn).map_err(by_option)?;
    warnings.extend(side.warnings.iter().cloned());
    warnings.extend(side.problem.as_ref().map(|problem| problem.message().to_owned()));
    let port = config.client.server_port.unwrap_or(DEFAULT_PORT);
    Ok(Settings {
        remote: Remote { starttls: arguments.starttls, ..Remote::new(host, port, name, side) },
        patience: Patience { attempt: config.client.connect_timeout, retries: config.client.max_retries, until: None },
        read_timeout: config.client.read_timeout,
        write_timeout: config.client.write_timeout,
        request,
        warnings,
    })
}

/// How errors about the configuration name the command line as their place.
const COMMAND_LINE: &str = "command line";
const HOST: &str = "client.server_host";
const PORT: &str = "client.server_port";
const CA: &str = "certificates.ca_bundle";
const CERT: &str = "certificates.client_cert";
const KEY: &str = "certificates.client_key";
const PQC_ONLY: &str = "tls.pqc_only";
const H2: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

fn protocols(list: &str, for_request: bool) -> Result<Vec<Vec<u8>>> {
    let list = alpn(list)?;
    match list.iter().find(|name| for_request && ![H2, HTTP1].contains(&name.as_slice())) {
        None => Ok(list),
        Some(other) => {
            let other = String::from_utf8_lossy(other);
            Err(Error::configuration(format!("--request speaks h2 and http/1.1, not {other:?}"))
                .at("--alpn")
                .hint("offer one of these two or both, or leave --alpn out"))
        }
    }
}

fn text(path: &Path) -> Result<String> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        Error::configuration(format!("the path {} is not UTF-8", path.display())).hint("use a path that is")
    })
}

/// What sets a key on the command line.
fn option(key: &str) -> Option<&'static str> {
    match key {
        HOST => Some("HOST"),
        PORT => Some("PORT"),
        CA => Some("--ca"),
        CERT => Some("--cert"),
        KEY => Some("--key"),
        PQC_ONLY => Some("--pqc-only"),
        _ => None,
    }
}

/// An error about a key that the command line has set, in the words of the command line.
pub(super) fn by_option(error: Error) -> Error {
    let named = error.key_path().and_then(option).filter(|_| error.place() == Some(COMMAND_LINE));
    let Some(option) = named else { return error };
    let renamed = Error::new(error.fault(), error.message()).at(option);
    match error.hint_text() {
        Some(hint) => renamed.hint(hint),
        None => renamed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_authority_leaves_out_the_port_of_https() {
        assert_eq!(authority("::1", 8443), "[::1]:8443");
        assert_eq!(authority("localhost", None), "localhost");
    }

    #[test]
    fn errors_about_the_command_line_name_the_option() {
        let error = Error::certificate("nope.pem: does not exist").at(COMMAND_LINE).key(CA).hint("make it");
        let shown = by_option(error);
        assert_eq!(shown.to_string(), "--ca: nope.pem: does not exist\n  hint: make it");
        assert_eq!(shown.exit_code(), 2);
        let elsewhere = Error::certificate("x").at("client.json:3:4").key(CA);
        assert_eq!(by_option(elsewhere.clone()), elsewhere);
    }

    #[test]
    fn a_request_speaks_http_only() {
        let error = protocols("h2,redis", true).unwrap_err();
        assert_eq!(error.message(), "--request speaks h2 and http/1.1, not \"redis\"");
        assert_eq!(protocols("redis", false).unwrap(), [b"redis".to_vec()]);
    }
}
