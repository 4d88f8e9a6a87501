//! The servers that are compared, each configured as its experts would for this: one worker, what costs and isn't measured
//! off, what helps on.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use qtls_interop::process::Running;
use qtls_interop::server::free_port;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::{Bench, peer, pinned};

/// A server to be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Ours,
    Nginx,
    HaProxy,
    Hitch,
    Stunnel,
    /// The least that a proxy on rustls can be.
    Plain,
}

/// What a server does with plaintext.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Http,
    Tcp,
}

/// How a server is set up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) mode: Mode,
    /// The kind of its key.
    pub(crate) key: &'static str,
    /// The kind of the key of its other certificate, for clients that don't take the first.
    pub(crate) also: Option<&'static str>,
    /// Whether sessions are resumed.
    pub(crate) tickets: bool,
}

/// A server that runs.
pub(crate) struct Started {
    pub(crate) subject: Subject,
    pub(crate) port: u16,
    process: Running,
    _work: TempDir,
}

impl Started {
    /// The process that all its processes descend from.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }
}

const GROUPS: &str = "X25519MLKEM768:SecP384r1MLKEM1024";
const SUITES: &str = "TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256";

impl Subject {
    pub(crate) const ALL: [Self; 6] = [Self::Ours, Self::Nginx, Self::HaProxy, Self::Hitch, Self::Stunnel, Self::Plain];
    /// Those that speak HTTP.
    pub(crate) const HTTP: [Self; 3] = [Self::Ours, Self::Nginx, Self::HaProxy];
    /// Those that relay, and are meant for speed.
    pub(crate) const TCP: [Self; 4] = [Self::Ours, Self::Nginx, Self::HaProxy, Self::Hitch];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "qtls-server",
            Self::Nginx => "nginx",
            Self::HaProxy => "HAProxy",
            Self::Hitch => "hitch",
            Self::Stunnel => "stunnel",
            Self::Plain => "tokio-rustls",
        }
    }

    /// Whether it has this group, as `--group` has it, and this kind of key.
    pub(crate) fn has(self, group: &str, key: &str) -> bool {
        self != Self::Plain || (group == "x25519mlkem768" && !key.starts_with("ml-dsa"))
    }

    /// Whether it can be set up so. Those that only relay have no HTTP; what they do at a handshake is the same.
    pub(crate) fn start(self, bench: &Bench, setup: Setup) -> Result<Started, String> {
        let setup = match self {
            Self::Hitch | Self::Stunnel | Self::Plain => Setup { mode: Mode::Tcp, ..setup },
            _ => setup,
        };
        let work = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
        let port = free_port();
        let file = work.path().join(match self {
            Self::Ours => "server.json",
            _ => "server.conf",
        });
        let server = Configured { bench, setup, port, work: work.path() };
        let text = match self {
            Self::Ours => server.ours(),
            Self::Nginx => server.nginx(),
            Self::HaProxy => server.haproxy()?,
            Self::Hitch => server.hitch()?,
            Self::Stunnel => server.stunnel(),
            // It takes all as arguments.
            Self::Plain => String::new(),
        };
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
        let path = file.to_str().ok_or("the temporary directory is not UTF-8")?;
        let shares = [work.path(), bench.directory()];
        let process = match self {
            Self::Ours => Running::start(pinned(0, "qtls-server").args(["--config", path])),
            Self::Nginx => Running::start(peer("nginx", shares).args(["-c", path])),
            Self::HaProxy => Running::start(peer("haproxy", shares).args(["-db", "-f", path])),
            Self::Hitch => Running::start(peer("hitch", shares).arg(format!("--config={path}"))),
            Self::Stunnel => Running::start(peer("stunnel", shares).arg(path)),
            Self::Plain => {
                let (cert, key) = bench.server(setup.key);
                let ports = [port, bench.backend].map(|port| port.to_string());
                let mut command = pinned(0, "plain-proxy");
                Running::start(command.arg(&ports[0]).arg(cert).arg(key).arg(&ports[1]))
            }
        };
        listening(self.name(), port, &process)?;
        Ok(Started { subject: self, port, process, _work: work })
    }
}

/// Waits until a server listens.
pub(crate) fn listening(name: &str, port: u16, process: &Running) -> Result<(), String> {
    let begin = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if begin.elapsed() > Duration::from_secs(20) {
            return Err(format!("{name} doesn't listen:\n{}", process.said()));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The configuration of qtls-server.
pub(crate) fn ours(bench: &Bench, setup: Setup, port: u16) -> Value {
    let (cert, key) = bench.server(setup.key);
    let protocol = match setup.mode {
        Mode::Http => "http",
        Mode::Tcp => "tcp",
    };
    let additional: Vec<_> = setup.also.iter().map(|also| bench.server(also)).collect();
    let additional: Vec<_> = additional.iter().map(|(cert, key)| json!({ "cert": cert, "key": key })).collect();
    json!({
        "server": { "listen_address": "127.0.0.1", "listen_port": port, "worker_threads": 1, "max_connections": 30_000 },
        "tls": { "session_timeout": if setup.tickets { 7200 } else { 0 } },
        "certificates": { "server_cert": cert, "server_key": key, "additional": additional },
        "upstream": { "protocol": protocol, "servers": [format!("127.0.0.1:{}", bench.backend)],
                      "timeouts": { "idle": 3600 } },
        "limits": { "idle_timeout": 3600 },
        "logging": { "level": "warn", "console": true },
    })
}

struct Configured<'a> {
    bench: &'a Bench,
    setup: Setup,
    port: u16,
    work: &'a Path,
}

impl Configured<'_> {
    fn files(&self) -> (String, String) {
        let (cert, key) = self.bench.server(self.setup.key);
        (cert.display().to_string(), key.display().to_string())
    }

    /// The certificate and the key in one file, as HAProxy and hitch want them.
    fn joined(&self, kind: &str) -> Result<String, String> {
        let (cert, key) = self.bench.server(kind);
        let path = self.work.join(format!("{kind}.pem"));
        let read = |path: &PathBuf| fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()));
        fs::write(&path, read(&key)? + &read(&cert)?).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(path.display().to_string())
    }

    fn ours(&self) -> String {
        ours(self.bench, self.setup, self.port).to_string()
    }

    fn nginx(&self) -> String {
        let (cert, key) = self.files();
        let also = self.setup.also.map(|also| self.bench.server(also));
        let also = also.map_or_else(String::new, |(cert, key)| {
            format!("ssl_certificate {}; ssl_certificate_key {};\n", cert.display(), key.display())
        });
        let tls = format!(
            "ssl_protocols TLSv1.3; ssl_certificate {cert}; ssl_certificate_key {key};\n{also}\
             ssl_ecdh_curve {GROUPS}; ssl_conf_command Ciphersuites {SUITES};\n\
             ssl_session_cache off; ssl_session_tickets {};",
            if self.setup.tickets { "on" } else { "off" }
        );
        let (port, backend) = (self.port, self.bench.backend);
        let body = match self.setup.mode {
            Mode::Http => format!(
                "http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s;\n\
                 client_max_body_size 0; client_header_timeout 3600s; client_body_timeout 3600s;\n\
                 proxy_max_temp_file_size 0; proxy_request_buffering off; ssl_buffer_size 16k;\n\
                 upstream behind {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 1000000000; }}\n\
                 server {{ listen 127.0.0.1:{port} ssl backlog=4096; {tls}\n\
                 location / {{ proxy_pass http://behind; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }} }}"
            ),
            Mode::Tcp => format!(
                "stream {{ access_log off; proxy_timeout 3600s;\n\
                 server {{ listen 127.0.0.1:{port} ssl backlog=4096; {tls}\n\
                 proxy_pass 127.0.0.1:{backend}; }} }}"
            ),
        };
        format!(
            "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n\
             daemon off; user root; worker_processes 1; worker_rlimit_nofile 65536; pid /run/nginx.pid;\n\
             error_log stderr error;\nevents {{ worker_connections 60000; multi_accept on; }}\n{body}\n"
        )
    }

    fn haproxy(&self) -> Result<String, String> {
        let (mode, both, port, backend) =
            (self.setup.mode, self.joined(self.setup.key)?, self.port, self.bench.backend);
        let also = self.setup.also.map(|also| self.joined(also)).transpose()?;
        let also = also.map_or_else(String::new, |also| format!(" crt {also}"));
        let (name, reuse) = match mode {
            Mode::Http => ("http", "    http-reuse always\n    option http-keep-alive\n"),
            Mode::Tcp => ("tcp", ""),
        };
        let tickets = if self.setup.tickets { "" } else { " no-tls-tickets" };
        Ok(format!(
            "global\n    nbthread 1\n    maxconn 9000\n    tune.ssl.cachesize 0\n    tune.ssl.maxrecord 0\n\
             \x20   ssl-default-bind-curves {GROUPS}\n    ssl-default-bind-ciphersuites {SUITES}\n\
             \x20   ssl-default-bind-options ssl-min-ver TLSv1.3{tickets}\n\
             defaults\n    mode {name}\n    timeout connect 5s\n    timeout client 1h\n    timeout server 1h\n\
             \x20   timeout http-keep-alive 1h\n    timeout http-request 1h\n{reuse}\
             listen bench\n    bind 127.0.0.1:{port} ssl crt {both}{also} backlog 4096\n    server behind 127.0.0.1:{backend}\n"
        ))
    }

    fn hitch(&self) -> Result<String, String> {
        let (both, port, backend) = (self.joined(self.setup.key)?, self.port, self.bench.backend);
        Ok(format!(
            "frontend = {{ host = \"127.0.0.1\" port = \"{port}\" }}\nbackend = \"[127.0.0.1]:{backend}\"\n\
             pem-file = \"{both}\"\nworkers = 1\nbacklog = 4096\ntls-protos = TLSv1.3\nciphersuites = \"{SUITES}\"\n\
             ecdh-curve = \"{GROUPS}\"\ndaemon = off\nuser = \"_hitch\"\nlog-level = 0\nkeepalive = 3600\nocsp-dir = \"\"\n"
        ))
    }

    fn stunnel(&self) -> String {
        let (cert, key) = self.files();
        let (port, backend) = (self.port, self.bench.backend);
        format!(
            "foreground = yes\npid =\ndebug = err\n[bench]\naccept = 127.0.0.1:{port}\nconnect = 127.0.0.1:{backend}\n\
             cert = {cert}\nkey = {key}\nsslVersionMin = TLSv1.3\ncurves = {GROUPS}\nciphersuites = {SUITES}\n\
             options = NO_TICKET\nsessionCacheSize = 1\nTIMEOUTidle = 3600\n"
        )
    }
}
