//! Debian's nginx over TLS, on OpenSSL 3.5: what it says of the connections that it was given.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::openssl::text;
use crate::peers;
use crate::process::Running;
use crate::server::free_port;

/// nginx over TLS. It answers every request with what it knows of the connection, a line of `name=value` each.
#[derive(Debug)]
pub struct TlsNginx {
    process: Running,
    _work: TempDir,
    /// The port that it listens on.
    pub port: u16,
}

impl TlsNginx {
    /// Starts it with a chain and a key, and more directives for its server; `shares` are the directories of their files.
    ///
    /// # Panics
    /// When it doesn't start.
    pub fn start((cert, key): (PathBuf, PathBuf), directives: &str, shares: &[&Path]) -> Self {
        let port = free_port();
        let work = tempfile::tempdir().expect("the temporary directory is writable");
        let config = work.path().join("nginx.conf");
        let written = configuration(port, &cert, &key, directives);
        std::fs::write(&config, written).expect("the temporary directory is writable");
        let directory = |file: &PathBuf| file.parent().map(Path::to_owned).expect("a file lies in a directory");
        let all = [directory(&cert), directory(&key), work.path().to_owned()].into_iter();
        let all = all.chain(shares.iter().map(|&share| share.to_owned()));
        let process = Running::start(peers::debian("nginx", all).args(["-c", text(&config)]));
        process.stderr.wait_for_line("start worker process ");
        Self { process, _work: work, port }
    }

    /// `localhost:PORT`.
    pub fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Everything that it printed, for messages.
    pub fn said(&self) -> String {
        self.process.said()
    }
}

fn configuration(port: u16, cert: &Path, key: &Path, directives: &str) -> String {
    format!(
        r#"
daemon off;
user root;
worker_processes 1;
pid /run/nginx-{port}.pid;
error_log stderr notice;
events {{ worker_connections 512; }}
http {{
    access_log off;
    default_type text/plain;
    client_max_body_size 0;
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        {directives}
        location / {{
            return 200 "curve=$ssl_curve\nprotocol=$ssl_protocol\ncipher=$ssl_cipher\nverify=$ssl_client_verify\nclient=$ssl_client_s_dn\nserial=$ssl_client_serial\nhttp=$server_protocol\nsni=$ssl_server_name\nreused=$ssl_session_reused\nhost=$http_host\nrequests=$connection_requests\n";
        }}
    }}
}}
"#,
        cert = cert.display(),
        key = key.display(),
    )
}
