//! Real programs behind Q-TLS: nginx, Redis, an echo, and a sink that tells what it was sent.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use tempfile::TempDir;

use crate::openssl::text;
use crate::peers;
use crate::process::{PATIENCE, Running, run_within};
use crate::server::free_port;

/// Debian's nginx on plain HTTP.
///
/// `/files/` serves [`files`](Nginx::files), `/sink` streams the request's body into a [`sink`], `/seen` answers with
/// what Q-TLS told about the client, and everything else with method and path.
#[derive(Debug)]
pub struct Nginx {
    process: Running,
    work: TempDir,
    /// The port that it listens on.
    pub port: u16,
}

impl Nginx {
    /// Starts it on a free port.
    pub fn start() -> Self {
        Self::on(free_port())
    }

    /// Starts it on this port.
    ///
    /// # Panics
    /// When it doesn't start.
    pub fn on(port: u16) -> Self {
        Self::with(port, |work| configuration(port, sink(), work))
    }

    /// Starts it with a configuration that `configure` makes for its directory, by which it listens on `port`.
    ///
    /// # Panics
    /// When it doesn't start.
    pub fn with(port: u16, configure: impl FnOnce(&Path) -> String) -> Self {
        let work = tempfile::tempdir().expect("the temporary directory is writable");
        std::fs::create_dir(work.path().join("files")).expect("the temporary directory is writable");
        let config = work.path().join("nginx.conf");
        std::fs::write(&config, configure(work.path())).expect("the temporary directory is writable");
        let process = Running::start(peers::debian("nginx", [work.path()]).args(["-c", text(&config)]));
        process.stderr.wait_for_line("start worker process ");
        Self { process, work, port }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The directory behind `/files/`.
    pub fn files(&self) -> std::path::PathBuf {
        self.work.path().join("files")
    }

    /// Everything that it printed, for messages.
    pub fn said(&self) -> String {
        self.process.said()
    }
}

fn configuration(port: u16, sink: u16, work: &Path) -> String {
    format!(
        r#"
daemon off;
user root;
worker_processes 1;
pid /run/nginx.pid;
error_log stderr notice;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_max_body_size 0;
    default_type text/plain;
    types {{ text/html html; text/javascript js; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ return 200 "$request_method $request_uri\n"; }}
        location /files/ {{ alias {files}/; }}
        location /sink {{
            proxy_pass http://127.0.0.1:{sink};
            proxy_http_version 1.1;
            proxy_request_buffering off;
            proxy_read_timeout 300;
        }}
        location /seen {{
            return 200 '{{"group":"$http_x_qtls_group","signature":"$http_x_qtls_signature","cipher":"$http_x_qtls_cipher","pq":"$http_x_qtls_pq","forwarded_for":"$http_x_forwarded_for","forwarded_proto":"$http_x_forwarded_proto","host":"$http_host"}}';
        }}
    }}
}}
"#,
        files = work.join("files").display()
    )
}

/// Debian's Redis, without persistence.
#[derive(Debug)]
pub struct Redis {
    _process: Running,
    /// The port that it listens on.
    pub port: u16,
}

impl Redis {
    /// Starts it on a free port.
    ///
    /// # Panics
    /// When it doesn't start.
    pub fn start() -> Self {
        let port = free_port();
        let mut command = peers::debian("redis-server", [] as [&Path; 0]);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--save", "", "--appendonly", "no"]);
        let process = Running::start(command.args(["--dir", "/tmp", "--daemonize", "no"]));
        process.stdout.wait_for_line("Ready to accept connections");
        Self { _process: process, port }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// Starts a TCP server that sends back what it gets and, at the end of that, a last line with the number of bytes: it
/// arrives only where half-closed connections stay open the other way. Returns its port.
pub fn echo() -> u16 {
    serve(|mut stream| {
        let mut reader = stream.try_clone()?;
        let count = std::io::copy(&mut reader, &mut stream)?;
        writeln!(stream, "that was {count} bytes")?;
        stream.shutdown(Shutdown::Write)
    })
}

/// Starts an HTTP server that answers each request with the SHA-256 of its body, and the body's length. Returns its port.
pub fn sink() -> u16 {
    serve(|stream| {
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("nginx sends numbers");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut hash = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut body = reader.take(length);
        let read = std::io::copy(&mut body, &mut hash.stdin.take().expect("it is piped"))?;
        let hash = String::from_utf8(hash.wait_with_output()?.stdout).expect("sha256sum prints hexadecimal digits");
        let answer = format!("{} {read}\n", hash.split(' ').next().unwrap_or_default());
        let mut stream = stream;
        write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}", answer.len())
    })
}

/// Makes a file of `size` bytes that takes little room on the disk, and returns its SHA-256.
///
/// It is sparse, with a different mark in every MiB: bytes that are lost, doubled or out of order change the hash.
pub fn marked_file(path: &Path, size: u64) -> String {
    let file = File::create(path).expect("the directory is writable");
    file.set_len(size).expect("the file system takes sparse files");
    for mebibyte in 0..size / (1 << 20) {
        // Not aligned to anything that a relay could align to.
        let offset = (mebibyte << 20) + mebibyte * 7919 % ((1 << 20) - 64);
        file.write_all_at(format!("mark {mebibyte} at {offset}").as_bytes(), offset).expect("there is room for marks");
    }
    // A gigabyte takes its time.
    let sum = run_within(Command::new("sha256sum").arg(path), b"", 4 * PATIENCE).expect_success().stdout;
    sum.split(' ').next().unwrap_or_default().to_owned()
}

fn serve(answer: impl Fn(TcpStream) -> std::io::Result<()> + Send + Sync + Copy + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            // A connection that breaks is the business of the test that made it.
            thread::spawn(move || drop(answer(stream)));
        }
    });
    port
}
