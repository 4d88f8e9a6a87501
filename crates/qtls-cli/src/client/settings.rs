//! From the command line and the configuration to everything that connecting needs.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use qtls_core::credentials::{Credential, files};
use qtls_core::endpoint::{ServerTrust, client_config};
use qtls_core::policy::{GroupPreference, Mode, Policy};
use qtls_core::verify::{SpkiHash, TrustAnchors};
use qtls_core::{Error, Result};
use qtls_proxy::config::{ClientConfig, Loaded, Origins, Source, load_client};
use qtls_proxy::plan::{CredentialFiles, algorithm_names, located, with_revocation};
use rustls::pki_types::ServerName;

use super::arguments::{Arguments, Request, alpn, request, server_name, target};

/// The port where neither the command line nor the configuration has one: the server's default.
const DEFAULT_PORT: u16 = 8443;
/// The configuration that is read if it is there and none is named.
const DEFAULT_CONFIG: &str = "/etc/qtls/config/client.json";

/// Everything that connecting needs. Nothing of it changes between attempts.
pub(super) struct Settings {
    pub(super) host: String,
    pub(super) port: u16,
    /// What is asked for and verified.
    pub(super) server_name: ServerName<'static>,
    pub(super) policy: Arc<Policy>,
    pub(super) tls: Arc<rustls::ClientConfig>,
    /// What the server is verified against; `None` where it isn't.
    pub(super) verified_by: Option<String>,
    pub(super) connect_timeout: Duration,
    pub(super) read_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) max_retries: u32,
    pub(super) request: Option<Request>,
    /// What the operator should know, a sentence each.
    pub(super) warnings: Vec<String>,
}

impl Settings {
    /// `host:port`, with IPv6 addresses in brackets.
    pub(super) fn address(&self) -> String {
        authority(&self.host, self.port)
    }

    /// The server as a request names it (RFC 9110, section 4.2.2: without the port where it is the scheme's).
    pub(super) fn authority(&self) -> String {
        let name = self.server_name.to_str();
        match self.port {
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
    load_client(&source).map_err(by_option)
}

/// Resolves names and reads files.
pub(super) fn settle(arguments: &Arguments, loaded: Loaded<ClientConfig>) -> Result<Settings> {
    let Loaded { value: config, mut warnings, origins } = loaded;
    let host = config.client.server_host.clone().ok_or_else(|| {
        Error::configuration("which server? None is given")
            .hint("qtls-client HOST PORT, QTLS_SERVER_HOST, or client.server_host in client.json")
    })?;
    let name = match &arguments.server_name {
        Some(name) => server_name(name).map_err(|error| error.at("--server-name"))?,
        None => server_name(&host).map_err(|error| by_option(origins.locate(HOST, error)))?,
    };
    let request = arguments.request.as_deref().map(request).transpose()?;
    let alpn = match (&arguments.alpn, &request) {
        (Some(list), request) => protocols(list, request.is_some())?,
        (None, Some(_)) => vec![H2.to_vec(), HTTP1.to_vec()],
        (None, None) => Vec::new(),
    };

    let policy = Arc::new(policy(&config, &origins).map_err(by_option)?);
    // What they say of browsers is for servers.
    warnings.extend(policy.notes.iter().filter(|note| !note.contains("browsers")).cloned());
    let (trust, verified_by) = trust(&config, &origins, &policy, &mut warnings).map_err(by_option)?;
    let credential = credential(&config, &origins).map_err(by_option)?;
    if let Some(credential) = &credential {
        let validity = credential.validity(SystemTime::now());
        if !validity.is_valid() {
            warnings.push(format!("the client certificate {} is {validity}: servers refuse it", credential.origin));
        }
    }
    let tls = client_config(&policy, trust, credential.as_ref(), config.tls.server_name_indication, alpn)
        .map_err(|error| by_option(origins.locate(CERT, error.nested())))?;
    Ok(Settings {
        host,
        port: config.client.server_port.unwrap_or(DEFAULT_PORT),
        server_name: name,
        policy,
        tls,
        verified_by,
        connect_timeout: config.client.connect_timeout,
        read_timeout: config.client.read_timeout,
        write_timeout: config.client.write_timeout,
        max_retries: config.client.max_retries,
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

fn authority(host: &str, port: impl Into<Option<u16>>) -> String {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    match port.into() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

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

fn policy(config: &ClientConfig, origins: &Origins) -> Result<Policy> {
    let mode = Mode::new(config.tls.hybrid_mode, config.tls.pqc_only);
    // Whose order counts is the server's decision.
    Policy::resolve(mode, GroupPreference::default(), &algorithm_names(&config.algorithms))
        .map_err(|error| located(origins, error))
}

fn trust(
    config: &ClientConfig,
    origins: &Origins,
    policy: &Arc<Policy>,
    warnings: &mut Vec<String>,
) -> Result<(ServerTrust, Option<String>)> {
    if !config.tls.verify_peer {
        return Ok((ServerTrust::DangerousAnyone, None));
    }
    let (roots, from) = match &config.certificates.ca_bundle {
        Some(bundle) => {
            let roots = files::roots(bundle).map_err(|error| origins.locate(CA, error.nested()))?;
            (roots, files::resolve(bundle).display().to_string())
        }
        None => (files::system_roots().map_err(|error| error.key(CA))?, SYSTEM.to_owned()),
    };
    let anchors =
        TrustAnchors::new(roots, None, policy.clone()).map_err(|error| origins.locate(CA, error.at(&from).nested()))?;
    let crl = config.certificates.crl.as_ref();
    let anchors = with_revocation(origins, "certificates.crl", anchors, crl, warnings)?;
    let pins = config.certificates.pins.iter().enumerate().map(|(index, pin)| {
        SpkiHash::parse(pin).map_err(|error| origins.locate(&format!("certificates.pins[{index}]"), error))
    });
    let anchors = anchors.with_pins(pins.collect::<Result<Vec<_>>>()?);
    Ok((ServerTrust::Anchors(anchors), Some(from)))
}

/// What [`Settings::verified_by`] says of the operating system's trust anchors.
pub(super) const SYSTEM: &str = "the system's trust anchors";

fn credential(config: &ClientConfig, origins: &Origins) -> Result<Option<Credential>> {
    let certificates = &config.certificates;
    match (&certificates.client_cert, &certificates.client_key) {
        (Some(cert), Some(key)) => CredentialFiles {
            cert: (CERT, cert),
            key: (KEY, key),
            passphrase: ("certificates.client_key_passphrase", certificates.client_key_passphrase.as_ref()),
            passphrase_file: (
                "certificates.client_key_passphrase_file",
                certificates.client_key_passphrase_file.as_deref(),
            ),
        }
        .read(origins)
        .map(Some),
        // That one of them is missing has been refused when the configuration was read.
        _ => Ok(None),
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
fn by_option(error: Error) -> Error {
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
    fn the_notes_of_a_policy_that_clients_see_are_not_about_browsers() {
        let names = qtls_core::policy::AlgorithmNames {
            kem: Some(vec!["kyber1024".to_owned(), "ecdhe-p384".to_owned()]),
            ..Default::default()
        };
        let notes = Policy::resolve(Mode::new(true, false), GroupPreference::default(), &names).unwrap().notes;
        let kept: Vec<_> = notes.iter().filter(|note| !note.contains("browsers")).collect();
        assert_eq!((notes.len(), kept.len()), (2, 1), "{notes:?}");
        assert!(kept[0].contains("kyber1024"), "{kept:?}");
    }

    #[test]
    fn a_request_speaks_http_only() {
        let error = protocols("h2,redis", true).unwrap_err();
        assert_eq!(error.message(), "--request speaks h2 and http/1.1, not \"redis\"");
        assert_eq!(protocols("redis", false).unwrap(), [b"redis".to_vec()]);
    }
}
