//! What a server goes on needing of the system while it serves, by the configuration alone.
//!
//! This is the one place: the sandbox leaves open what stands here, a reload is compared with it, and the watcher of
//! files takes its paths from it. Sections are taken apart field by field, so that a new key can't be forgotten.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use qtls_core::credentials::files;

use crate::config::{
    AdditionalCertificate, Client, ClientCertificates, ClientConfig, CrlFiles, Logging, Server, ServerCertificates,
    ServerConfig, ServerTls, TicketKeys, Tunnel, Upstream, UpstreamAddress, UpstreamServer, UpstreamTls, VirtualHost,
};

/// What a server goes on needing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Files and directories, each with the key that names it. Paths are as configured.
    pub files: Vec<FileNeed>,
    /// The TCP ports of upstream servers, with the first key that names each.
    pub ports: BTreeMap<u16, String>,
    /// The first key that names an upstream server by a name, where one does: names are looked up while the server runs.
    pub names: Option<String>,
    /// Whether the system's resolver is asked for one of them, with all that this loads. Upstreams have one of their own.
    pub system_resolver: bool,
}

/// A file or directory that is needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNeed {
    /// The key of the configuration that names it; empty for the configuration itself.
    pub key: String,
    /// As configured.
    pub path: PathBuf,
    /// What for.
    pub role: Role,
}

/// What a file is needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// To be read at a reload: the configuration.
    Configuration,
    /// To be read at a reload: certificates, keys and what belongs to them. Directories stand for the files in them.
    Credential,
    /// To be written, renamed and made anew at any time.
    Log,
    /// To be removed at the end.
    Socket,
}

impl Needs {
    /// The needs of `config`, which was read from `file`, if there was one.
    pub fn of(config: &ServerConfig, file: Option<&Path>) -> Self {
        let mut needs = Self::default();
        if let Some(file) = file {
            needs.file("", file, Role::Configuration);
        }
        let ServerConfig {
            schema: _,
            server,
            tls,
            certificates,
            // Refused where it is enabled.
            hsm: _,
            fips: _,
            algorithms: _,
            virtual_hosts,
            upstream,
            limits: _,
            logging,
            // Their sockets are open by then.
            redirect: _,
            metrics: _,
            // With the key that allows it, below.
            key_log_file: _,
            reload: _,
            sandbox: _,
        } = config;
        let Server {
            listen_address: _,
            listen_port: _,
            worker_threads: _,
            max_connections: _,
            drain_timeout: _,
            drain_delay: _,
            user: _,
            handover,
            starttls: _,
            proxy_protocol: _,
        } = server;
        needs.optional("server.handover", handover.as_deref(), Role::Socket);
        needs.tls("tls", tls);
        needs.certificates("certificates", certificates);
        needs.upstream("upstream", upstream.as_ref());
        for (index, host) in virtual_hosts.iter().enumerate() {
            let VirtualHost { names: _, alpn: _, certificates, tls, algorithms: _, upstream } = host;
            needs.tls(&format!("virtual_hosts[{index}].tls"), tls);
            needs.certificates(&format!("virtual_hosts[{index}].certificates"), certificates);
            needs.upstream(&format!("virtual_hosts[{index}].upstream"), upstream.as_ref());
        }
        needs.logging(logging);
        needs.optional("tls.dangerous_key_log", config.key_log(), Role::Log);
        needs
    }

    /// The needs of tunnels, whose configuration was read from `file`, if there was one.
    pub fn of_tunnels(config: &ClientConfig, file: Option<&Path>) -> Self {
        let mut needs = Self::default();
        if let Some(file) = file {
            needs.file("", file, Role::Configuration);
        }
        let ClientConfig {
            schema: _,
            client,
            tls: _,
            certificates,
            algorithms: _,
            logging,
            tunnels,
            limits: _,
            // Its socket is open by then.
            metrics: _,
            reload: _,
            sandbox: _,
        } = config;
        let Client {
            // Tunnels have servers of their own.
            server_host: _,
            server_port: _,
            connect_timeout: _,
            read_timeout: _,
            write_timeout: _,
            max_retries: _,
            worker_threads: _,
            max_connections: _,
            drain_timeout: _,
            user: _,
        } = client;
        let ClientCertificates {
            client_cert,
            client_key,
            client_key_passphrase: _,
            client_key_passphrase_file,
            crl,
            pins: _,
            ca_bundle,
        } = certificates;
        for (key, path) in [
            ("certificates.client_cert", client_cert),
            ("certificates.client_key", client_key),
            ("certificates.client_key_passphrase_file", client_key_passphrase_file),
            ("certificates.ca_bundle", ca_bundle),
        ] {
            needs.optional(key, path.as_deref(), Role::Credential);
        }
        if ca_bundle.is_none() && config.tls.verify_peer {
            for path in files::system_root_paths() {
                needs.file("certificates.ca_bundle", &path, Role::Credential);
            }
        }
        needs.crl("certificates", crl.as_ref());
        for (index, tunnel) in tunnels.iter().enumerate() {
            let Tunnel {
                listen,
                connect,
                server_name: _,
                alpn: _,
                starttls: _,
                local_starttls: _,
                mode: _,
                from_command_line: _,
            } = tunnel;
            needs.optional(&format!("tunnels[{index}].listen"), listen.path(), Role::Socket);
            needs.server(format!("tunnels[{index}].connect"), connect.host(), connect.port());
            needs.system_resolver |= connect.host().parse::<IpAddr>().is_err();
        }
        needs.logging(logging);
        needs
    }

    /// The paths of what is read for one role.
    pub fn paths(&self, role: Role) -> impl Iterator<Item = &Path> {
        self.files.iter().filter(move |need| need.role == role).map(|need| need.path.as_path())
    }

    fn tls(&mut self, section: &str, tls: &ServerTls) {
        let ServerTls {
            protocol_version: _,
            profile: _,
            hybrid_mode: _,
            pqc_only: _,
            session_timeout: _,
            session_cache_size: _,
            group_preference: _,
            dangerous_key_log: _,
            report: _,
            ticket_keys,
        } = tls;
        if let Some(TicketKeys { file, secret_file, step: _ }) = ticket_keys {
            self.optional(&format!("{section}.ticket_keys.file"), file.as_deref(), Role::Credential);
            self.optional(&format!("{section}.ticket_keys.secret_file"), secret_file.as_deref(), Role::Credential);
        }
    }

    fn certificates(&mut self, section: &str, certificates: &ServerCertificates) {
        let ServerCertificates {
            server_cert,
            server_key,
            server_key_passphrase: _,
            server_key_passphrase_file,
            // Refused where it is set.
            server_key_uri: _,
            ca_bundle,
            verify_client: _,
            additional,
            verify_depth: _,
            crl,
            allow: _,
        } = certificates;
        let key = |name: &str| format!("{section}.{name}");
        self.file(&key("server_cert"), server_cert, Role::Credential);
        self.file(&key("server_key"), server_key, Role::Credential);
        self.optional(&key("server_key_passphrase_file"), server_key_passphrase_file.as_deref(), Role::Credential);
        self.optional(&key("ca_bundle"), ca_bundle.as_deref(), Role::Credential);
        for (index, one) in additional.iter().enumerate() {
            let AdditionalCertificate { cert, key: private_key, passphrase: _, passphrase_file, only_for: _ } = one;
            let key = |name: &str| format!("{section}.additional[{index}].{name}");
            self.file(&key("cert"), cert, Role::Credential);
            self.file(&key("key"), private_key, Role::Credential);
            self.optional(&key("passphrase_file"), passphrase_file.as_deref(), Role::Credential);
        }
        self.crl(section, crl.as_ref());
    }

    fn crl(&mut self, section: &str, crl: Option<&CrlFiles>) {
        let Some(CrlFiles { paths, mode: _ }) = crl else { return };
        for (index, path) in paths.iter().enumerate() {
            self.file(&format!("{section}.crl.paths[{index}]"), path, Role::Credential);
        }
    }

    fn logging(&mut self, logging: &Logging) {
        let Logging {
            level: _,
            format: _,
            file,
            max_size_mb: _,
            max_files: _,
            console: _,
            access,
            access_file,
            audit_file,
        } = logging;
        self.optional("logging.file", file.as_deref(), Role::Log);
        self.optional("logging.access_file", access_file.as_deref().filter(|_| *access), Role::Log);
        self.optional("logging.audit_file", audit_file.as_deref(), Role::Log);
    }

    fn upstream(&mut self, section: &str, upstream: Option<&Upstream>) {
        let Some(Upstream {
            protocol: _,
            servers,
            balance: _,
            // Of the servers themselves, at the same addresses.
            health: _,
            max_failures: _,
            resolver,
            timeouts: _,
            proxy_protocol: _,
            client_cert: _,
            tls,
            starttls: _,
            http_version: _,
            hsts: _,
        }) = upstream
        else {
            return;
        };
        if let Some(tls) = tls {
            self.upstream_tls(&format!("{section}.tls"), tls);
        }
        for (index, UpstreamServer { address, weight: _, backup: _ }) in servers.iter().enumerate() {
            let (host, port) = match address {
                UpstreamAddress::Tcp { host, port } => (host, port),
                // Sockets that have a place in a file system are no files to Landlock: who may connect is a matter of
                // their permissions.
                UpstreamAddress::Unix(_) => continue,
            };
            if let Some(resolver) = resolver.filter(|_| host.parse::<IpAddr>().is_err()) {
                self.ports.entry(resolver.port()).or_insert(format!("{section}.resolver"));
            }
            self.server(format!("{section}.servers[{index}]"), host, *port);
        }
    }

    /// A server that is connected to.
    fn server(&mut self, key: String, host: &str, port: u16) {
        if self.names.is_none() && host.parse::<IpAddr>().is_err() {
            self.names = Some(key.clone());
        }
        self.ports.entry(port).or_insert(key);
    }

    fn upstream_tls(&mut self, section: &str, tls: &UpstreamTls) {
        let UpstreamTls {
            profile: _,
            hybrid_mode: _,
            pqc_only: _,
            algorithms: _,
            ca_bundle,
            verify_depth: _,
            crl,
            pins: _,
            client_cert,
            client_key,
            client_key_passphrase: _,
            client_key_passphrase_file,
            server_name: _,
            server_name_indication: _,
            dangerous_accept_any_certificate,
        } = tls;
        let key = |name: &str| format!("{section}.{name}");
        for (name, path) in [
            ("ca_bundle", ca_bundle),
            ("client_cert", client_cert),
            ("client_key", client_key),
            ("client_key_passphrase_file", client_key_passphrase_file),
        ] {
            self.optional(&key(name), path.as_deref(), Role::Credential);
        }
        if ca_bundle.is_none() && !dangerous_accept_any_certificate {
            for path in files::system_root_paths() {
                self.file(&key("ca_bundle"), &path, Role::Credential);
            }
        }
        if let Some(CrlFiles { paths, mode: _ }) = crl {
            for (index, path) in paths.iter().enumerate() {
                self.file(&key(&format!("crl.paths[{index}]")), path, Role::Credential);
            }
        }
    }

    fn optional(&mut self, key: &str, path: Option<&Path>, role: Role) {
        if let Some(path) = path {
            self.file(key, path, role);
        }
    }

    /// What a virtual host has from the top stands here once.
    fn file(&mut self, key: &str, path: &Path, role: Role) {
        if !self.files.iter().any(|need| need.path == path && need.role == role) {
            self.files.push(FileNeed { key: key.to_owned(), path: path.to_owned(), role });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Source, load_server};

    fn needs(text: &str) -> Needs {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("server.json");
        std::fs::write(&file, text).unwrap();
        let loaded = load_server(&Source { file: Some(file), ..Source::default() }).unwrap();
        Needs::of(&loaded.value, Some(Path::new("/c/server.json")))
    }

    #[test]
    fn every_path_and_port_of_a_configuration_is_a_need_once() {
        let needs = needs(
            r#"{
              "server": { "handover": "/run/qtls/handover.sock" },
              "certificates": {
                "server_cert": "/a/cert", "server_key": "/a/key", "server_key_passphrase_file": "/p/word",
                "ca_bundle": "/a/ca", "verify_client": true, "crl": { "paths": ["/crl/one", "/crl/dir"] },
                "additional": [{ "cert": "/b/cert", "key": "/b/key", "passphrase_file": "/p/two" }]
              },
              "upstream": { "protocol": "tcp", "servers": ["127.0.0.1:1", "[::1]:2", "127.0.0.1:2"],
                "tls": { "ca_bundle": "/u/ca", "client_cert": "/u/cert", "client_key": "/u/key",
                  "client_key_passphrase_file": "/p/up", "crl": { "paths": ["/crl/up"] } } },
              "virtual_hosts": [
                { "names": ["a.example"], "upstream": { "protocol": "http", "servers": ["10.0.0.1:1", "db:3", "unix:/s/app"],
                                                          "resolver": "10.0.0.1:5353" },
                  "certificates": { "server_cert": "/v/cert", "server_key": "/v/key" } },
                { "names": ["b.example"] }
              ],
              "logging": { "file": "/l/server.log", "access_file": "/l/access.log", "audit_file": "/m/audit.log" }
            }"#,
        );
        let files: Vec<_> =
            needs.files.iter().map(|need| (need.key.as_str(), need.path.to_str().unwrap(), need.role)).collect();
        assert_eq!(
            files,
            [
                ("", "/c/server.json", Role::Configuration),
                ("server.handover", "/run/qtls/handover.sock", Role::Socket),
                ("certificates.server_cert", "/a/cert", Role::Credential),
                ("certificates.server_key", "/a/key", Role::Credential),
                ("certificates.server_key_passphrase_file", "/p/word", Role::Credential),
                ("certificates.ca_bundle", "/a/ca", Role::Credential),
                ("certificates.additional[0].cert", "/b/cert", Role::Credential),
                ("certificates.additional[0].key", "/b/key", Role::Credential),
                ("certificates.additional[0].passphrase_file", "/p/two", Role::Credential),
                ("certificates.crl.paths[0]", "/crl/one", Role::Credential),
                ("certificates.crl.paths[1]", "/crl/dir", Role::Credential),
                ("upstream.tls.ca_bundle", "/u/ca", Role::Credential),
                ("upstream.tls.client_cert", "/u/cert", Role::Credential),
                ("upstream.tls.client_key", "/u/key", Role::Credential),
                ("upstream.tls.client_key_passphrase_file", "/p/up", Role::Credential),
                ("upstream.tls.crl.paths[0]", "/crl/up", Role::Credential),
                ("virtual_hosts[0].certificates.server_cert", "/v/cert", Role::Credential),
                ("virtual_hosts[0].certificates.server_key", "/v/key", Role::Credential),
                ("logging.file", "/l/server.log", Role::Log),
                ("logging.access_file", "/l/access.log", Role::Log),
                ("logging.audit_file", "/m/audit.log", Role::Log),
            ]
        );
        let ports: Vec<_> = needs.ports.iter().map(|(port, key)| (*port, key.as_str())).collect();
        assert_eq!(
            ports,
            [
                (1, "upstream.servers[0]"),
                (2, "upstream.servers[1]"),
                (3, "virtual_hosts[0].upstream.servers[1]"),
                (5353, "virtual_hosts[0].upstream.resolver")
            ]
        );
        assert_eq!(needs.names.as_deref(), Some("virtual_hosts[0].upstream.servers[1]"));
    }

    #[test]
    fn the_system_s_trust_anchors_are_needed_where_no_others_are_named() {
        let of = |tls: &str| {
            needs(&format!(r#"{{"upstream": {{"protocol": "tcp", "servers": ["127.0.0.1:1"], "tls": {tls}}}}}"#))
        };
        let paths = |needs: &Needs| {
            let needed = needs.files.iter().filter(|need| need.key == "upstream.tls.ca_bundle");
            needed.map(|need| need.path.clone()).collect::<Vec<_>>()
        };
        assert_eq!(paths(&of("{}")), files::system_root_paths());
        assert_eq!(paths(&of(r#"{"ca_bundle": "/u/ca"}"#)), [Path::new("/u/ca")]);
        assert_eq!(paths(&of(r#"{"dangerous_accept_any_certificate": true}"#)), [] as [PathBuf; 0]);
    }

    #[test]
    fn addresses_need_no_names() {
        let needs = needs(r#"{"upstream": {"protocol": "tcp", "servers": ["127.0.0.1:1", "[::1]:2"]}}"#);
        assert_eq!(needs.names, None);
    }
}
