//! From a configuration to everything that tunnels need, short of sockets: what start-up and a test share.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use qtls_core::credentials::{Credential, files};
use qtls_core::endpoint::Binding;
use qtls_core::{Error, Result};
use rustls::pki_types::ServerName;

use crate::client_plan::ClientSide;
use crate::config::{
    self, ClientConfig, ListenAddress, Loaded, LogLevel, Origins, RemoteAddress, SocketMode, Tunnel, covers,
};
use crate::limits;
use crate::reach::Remote;
use crate::sandbox::{Needs, Role};
use crate::starttls::Starttls;
use crate::watch::Watched;

/// What tunnels do, decided and checked, with nothing opened yet.
#[derive(Debug)]
pub struct Plan {
    /// The configuration.
    pub config: ClientConfig,
    /// Where its values came from.
    pub origins: Origins,
    /// The tunnels. Never empty.
    pub routes: Vec<Arc<Route>>,
    /// What the operator should know, a sentence each.
    pub warnings: Vec<String>,
    /// What makes a test fail, but must not keep tunnels from starting: an expired certificate.
    pub problems: Vec<Error>,
    /// The files that it was read from, as far as `reload` has them watched.
    pub watched: Watched,
    /// What the process goes on needing.
    pub needs: Needs,
}

/// One tunnel.
#[derive(Debug)]
pub struct Route {
    /// Where plain connections are taken.
    pub listen: ListenAddress,
    /// The same in words: its name in logs and metrics.
    pub name: String,
    /// The permissions of its Unix socket.
    pub mode: SocketMode,
    /// What local clients may ask for encryption in, to be told to go on without.
    pub local: Option<Starttls>,
    /// Where they are carried to.
    pub remote: Remote,
    /// The certificate that the server gets if it asks for one.
    pub credential: Option<Credential>,
    /// What the server is judged by.
    pub judgement: Binding,
    /// The key of the configuration that it stands at.
    key: String,
    from_command_line: bool,
}

impl Route {
    /// Gives an error about one of the keys of this tunnel its place.
    pub fn locate(&self, origins: &Origins, key: &str, error: Error) -> Error {
        locate(origins, &self.key, self.from_command_line, key, error)
    }
}

fn locate(origins: &Origins, tunnel: &str, from_command_line: bool, key: &str, error: Error) -> Error {
    if from_command_line { error.at("--tunnel") } else { origins.locate(&format!("{tunnel}.{key}"), error) }
}

/// Gives a configuration that is used for tunnels the defaults of a program that goes on running: as a server, it logs
/// more, and to standard error.
pub fn prepare(loaded: &mut Loaded<ClientConfig>) {
    let Loaded { value, origins, .. } = loaded;
    if !origins.is_set("logging.level") {
        value.logging.level = LogLevel::Info;
    }
    if !origins.is_set("logging.console") {
        value.logging.console = true;
    }
}

impl Plan {
    /// Reads the files that the configuration names, and decides everything that can be decided before serving.
    ///
    /// # Errors
    /// The first thing that is wrong, with file, line and key.
    pub fn new(loaded: Loaded<ClientConfig>) -> Result<Self> {
        let Loaded { value: config, mut warnings, origins, file } = loaded;
        // Before they are read: what changes from here on is seen as a change.
        let needs = Needs::of_tunnels(&config, file.as_deref());
        let watched = Watched::new(watched_paths(&config, &needs));
        check(&config, &origins)?;
        warnings.extend(limits::check(&config.limits, ("client", config.client.max_connections), &origins)?);
        for key in ["client.read_timeout", "client.write_timeout"].into_iter().filter(|key| origins.is_set(key)) {
            const WHY: &str = "has no effect on tunnels, which can't know whose turn it is to send";
            // A file without tunnels may be one for single connections, too.
            if !config.tunnels.iter().all(|tunnel| tunnel.from_command_line) {
                let error = origins.error(key, format!("it {WHY}"));
                return Err(error.hint("set `limits.idle_timeout`, or remove the key"));
            }
            warnings.push(format!("{key} {WHY}: limits.idle_timeout has"));
        }
        let mut problems = Vec::new();
        let routes = config
            .tunnels
            .iter()
            .enumerate()
            .map(|(index, tunnel)| route(&config, &origins, (index, tunnel), &mut warnings, &mut problems))
            .collect::<Result<Vec<_>>>()?;
        Ok(Self { config, origins, routes, warnings, problems, watched, needs })
    }

    /// What is carried where, a line for each tunnel.
    pub fn summary(&self) -> Vec<String> {
        self.routes.iter().map(|route| describe(route)).collect()
    }
}

fn route(
    config: &ClientConfig,
    origins: &Origins,
    (index, tunnel): (usize, &Tunnel),
    warnings: &mut Vec<String>,
    problems: &mut Vec<Error>,
) -> Result<Arc<Route>> {
    let key = format!("tunnels[{index}]");
    let at = |name: &str, error: Error| locate(origins, &key, tunnel.from_command_line, name, error);
    if let ListenAddress::Tcp(address) = &tunnel.listen
        && !address.ip().is_loopback()
    {
        warnings.push(format!(
            "the tunnel {address} takes plain connections from other hosts: they are not encrypted on the way here, and \
             whoever reaches the port speaks to {} in this program's name; listen on 127.0.0.1, [::1] or a Unix socket",
            tunnel.connect
        ));
    }
    let mut alpn: Vec<_> = tunnel.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    if alpn.is_empty() {
        alpn.extend(tunnel.starttls.map(|protocol| protocol.alpn().to_vec()));
    }
    let side = ClientSide::of_client(config, origins, alpn)?;
    // They are about the same files for all tunnels.
    for warning in &side.warnings {
        if !warnings.contains(warning) {
            warnings.push(warning.clone());
        }
    }
    if let Some(problem) = &side.problem
        && !problems.iter().any(|known| known.message() == problem.message())
    {
        problems.push(problem.clone());
    }
    if side.verified_by.is_none() && index == 0 {
        warnings.push(
            "WARNING: the servers are NOT verified, by --insecure or tls.verify_peer: anyone can pretend to be them, and \
             read and change everything"
                .to_owned(),
        );
    }
    let (credential, judgement) = (side.credential.clone(), side.judgement);
    let server_name = server_name(tunnel).map_err(|(key, error)| at(key, error))?;
    let mut remote = Remote::new(tunnel.connect.host().to_owned(), tunnel.connect.port(), server_name, side);
    remote.starttls = tunnel.starttls;
    Ok(Arc::new(Route {
        listen: tunnel.listen.clone(),
        name: tunnel.listen.to_string(),
        mode: tunnel.mode.unwrap_or(SocketMode::PRIVATE),
        local: tunnel.local_starttls.or(tunnel.starttls),
        remote,
        credential,
        judgement,
        from_command_line: tunnel.from_command_line,
        key,
    }))
}

fn server_name(tunnel: &Tunnel) -> Result<ServerName<'static>, (&'static str, Error)> {
    let (key, name) = match &tunnel.server_name {
        Some(name) => ("server_name", name.as_str()),
        None => ("connect", tunnel.connect.host()),
    };
    ServerName::try_from(name.to_owned()).map_err(|_| {
        let error = Error::configuration(format!("{name:?} is neither a DNS name nor an IP address"))
            .hint("give the name that the server's certificate is for, such as db.example, as `server_name`");
        (key, error)
    })
}

/// What no tunnel alone can tell: contradictions between them.
fn check(config: &ClientConfig, origins: &Origins) -> Result<()> {
    if config.tunnels.is_empty() {
        return Err(origins
            .error("tunnels", "there are no tunnels")
            .hint("name some in `tunnels`, or with --tunnel LOCAL=REMOTE"));
    }
    if !config.logging.console && config.logging.file.is_none() {
        return Err(origins
            .error("logging.console", "nothing would be logged: `console` is false and there is no `file`")
            .hint("set `logging.console` to true, or name a `logging.file`"));
    }
    let tunnels = &config.tunnels;
    for (index, tunnel) in tunnels.iter().enumerate() {
        let error = |key: &str, message: String| {
            let error = Error::configuration(message);
            locate(origins, &format!("tunnels[{index}]"), tunnel.from_command_line, key, error)
        };
        if tunnel.mode.is_some() && tunnel.listen.path().is_none() {
            let message = format!("{} is no Unix socket, and has no permissions", tunnel.listen);
            return Err(error("mode", message).hint("remove `mode`, or listen on \"unix:/run/app/db.sock\""));
        }
        if let Some(other) = tunnels[..index].iter().find(|other| collide(&other.listen, &tunnel.listen)) {
            let message = if other.listen == tunnel.listen {
                format!("another tunnel listens on {} already, and leads to {}", tunnel.listen, other.connect)
            } else {
                format!("another tunnel listens on {}, which takes in {}", other.listen, tunnel.listen)
            };
            return Err(error("listen", message).hint("give each tunnel an address of its own"));
        }
        if let Some(own) = tunnels.iter().find(|own| leads_to(&tunnel.connect, &own.listen)) {
            let message = if own.listen == tunnel.listen {
                format!("it leads to itself: {} is where it listens", tunnel.connect)
            } else {
                format!("it leads to another tunnel of this process, which listens on {}", own.listen)
            };
            return Err(error("connect", message).hint("connect to the TLS server itself"));
        }
        if let (Some(metrics), ListenAddress::Tcp(address)) = (&config.metrics, &tunnel.listen)
            && overlap(SocketAddr::new(metrics.address, metrics.port), *address)
        {
            let message = format!("port {} is already that of the tunnel {address}", metrics.port);
            return Err(origins.error("metrics.port", message).hint("choose another port"));
        }
    }
    Ok(())
}

fn collide(one: &ListenAddress, other: &ListenAddress) -> bool {
    match (one, other) {
        (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) => overlap(*one, *other),
        (ListenAddress::Unix(one), ListenAddress::Unix(other)) => one == other,
        _ => false,
    }
}

fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() == other.port() && (covers(one.ip(), other.ip()) || covers(other.ip(), one.ip()))
}

/// Whether the server, by its address, is known to be what this process listens on. A name is looked at when it is
/// resolved.
fn leads_to(remote: &RemoteAddress, own: &ListenAddress) -> bool {
    let ListenAddress::Tcp(own) = own else { return false };
    remote.port() == own.port()
        && remote.host().parse::<IpAddr>().is_ok_and(|host| covers(own.ip(), host) && is_here(host, *own))
}

/// Whether an address that a wide socket takes in is one of this host for sure.
fn is_here(host: IpAddr, own: SocketAddr) -> bool {
    host.is_loopback() || host.is_unspecified() || host == own.ip()
}

fn describe(route: &Route) -> String {
    let Route { name, remote, credential, .. } = route;
    let verified = match &remote.verified_by {
        Some(anchors) => format!("{} by {anchors}", remote.server_name.to_str()),
        None => "NOBODY".to_owned(),
    };
    let certificate = credential
        .as_ref()
        .map(|credential| format!("; certificate: {} ({})", credential.name, credential.kind))
        .unwrap_or_default();
    let starttls = remote.starttls.map(|protocol| format!(", asked for TLS as {protocol} is")).unwrap_or_default();
    format!(
        "{name} → {}{starttls}; groups: {}; verified: {verified}{certificate}",
        remote.address(),
        remote.policy.group_names()
    )
}

/// What has to be read again when it changes.
fn watched_paths(config: &ClientConfig, needs: &Needs) -> Vec<PathBuf> {
    let config::Reload { watch_credentials, watch_config } = config.reload;
    // Those of the system are another program's to change, a file after the other.
    let system = if config.certificates.ca_bundle.is_none() { files::system_root_paths() } else { Vec::new() };
    let own = |path: &&Path| system.iter().all(|place| place != path);
    let paths = |wanted: bool, role| needs.paths(role).filter(move |_| wanted);
    let credentials = paths(watch_credentials, Role::Credential).filter(own);
    paths(watch_config, Role::Configuration).chain(credentials).map(Path::to_owned).collect()
}
