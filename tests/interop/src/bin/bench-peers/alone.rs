//! What has nobody to be compared with: our server beside itself.

use std::fs;
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use qtls_interop::process::{Running, run};
use qtls_interop::programs;
use qtls_interop::server::free_port;
use rustix::process::{Resource, getrlimit};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bench::{Bench, ROUNDS, bound, json as measured, median, pinned};
use crate::subjects::{Mode, Setup, listening, ours};
use crate::tables::{cell, heading, line};

const P256: Setup = Setup { mode: Mode::Http, key: "ecdsa-p256", also: None, tickets: false };

/// Handshakes beside open connections.
pub(crate) fn open(bench: &Bench) -> Result<String, String> {
    // As many as there are descriptors for, at both ends. The built-in pages need none for servers behind.
    let limit = getrlimit(Resource::Nofile).maximum.and_then(|limit| u32::try_from(limit.saturating_sub(500)).ok());
    let most = limit.unwrap_or(20_000).min(20_000);
    let newcomers = bench.count(4000);
    let mut text =
        "| open connections | µs of processor time for a handshake, before | the same, beside them | ratio |\n\
                    |---|---|---|---|\n"
            .to_owned();
    for connections in [10, 1000, 10_000, 20_000].map(|wanted| most.min(wanted)) {
        let port = free_port();
        let mut config = ours(bench, P256, port);
        config["upstream"] = Value::Null;
        config["server"]["max_connections"] = json!(most + 100);
        let server = Free::start(pinned(0, "qtls-server"), port, &config)?;
        let connections = connections.to_string();
        let arguments = ["idle", "--connections", &connections, "--newcomers", &newcomers];
        let server = (port, server.process.id());
        let value = measured(&mut bench.measuring(pinned(1, "qtls-bench"), server, P256.key, &arguments));
        let figures = ["cpu_us_before", "cpu_us_beside"].map(|name| value[name].as_f64().unwrap_or(f64::NAN));
        let [before, beside] = figures;
        text += &line(&connections, [cell(before, 0), cell(beside, 0), cell(beside / before, 2)]);
    }
    Ok(text)
}

/// Our server by a configuration of its own, on the processors that its command leaves it.
struct Free {
    process: Running,
    port: u16,
    _work: TempDir,
}

impl Free {
    fn start(mut command: Command, port: u16, config: &Value) -> Result<Self, String> {
        let work = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
        let path = work.path().join("server.json");
        fs::write(&path, config.to_string()).map_err(|error| format!("{}: {error}", path.display()))?;
        let process = Running::start(command.arg("--config").arg(&path));
        listening("qtls-server", port, &process)?;
        Ok(Self { process, port, _work: work })
    }
}

/// One worker and two, on the same two processors, with the same load: what two get in each other's way, a handshake costs
/// more.
pub(crate) fn workers(bench: &Bench) -> Result<String, String> {
    let count = bench.count(8000);
    let mut rows = Vec::new();
    for workers in [1, 2] {
        let port = free_port();
        let mut config = ours(bench, P256, port);
        config["server"]["worker_threads"] = json!(workers);
        rows.push(Free::start(bound(programs::command("qtls-server")), port, &config)?);
    }
    let mut all = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (server, figures) in rows.iter().zip(&mut all) {
            let arguments = ["handshakes", "--threads", "2", "--concurrency", "32", "--count", &count];
            let server = (server.port, server.process.id());
            let value = measured(&mut bench.measuring(programs::command("qtls-bench"), server, P256.key, &arguments));
            figures.push(value["cpu_us"].as_f64().unwrap_or(f64::NAN));
        }
    }
    let [one, two] = all.map(median);
    let mut text =
        heading("workers", ["µs of processor time for a handshake", "handshakes for the same time, of each"]);
    text += &line("1", [cell(one, 0), cell(1.0, 2)]);
    text += &line("2", [cell(two, 0), cell(one / two, 2)]);
    Ok(text)
}

/// How soon a server is there, and what it is made of.
pub(crate) fn start(bench: &Bench) -> Result<String, String> {
    let (cert, _) = bench.server(P256.key);
    let bundle = cert.with_file_name("qsign-ca-bundle.pem");
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(&bundle).map_err(|error| error.to_string())? {
        roots.add(certificate.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    }
    let client = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    let mut took = Vec::new();
    for _ in 0..5 {
        let port = free_port();
        let begin = Instant::now();
        let server = Free::start(programs::command("qtls-server"), port, &ours(bench, P256, port))?;
        let name = ServerName::try_from("localhost").map_err(|error| error.to_string())?;
        let connection = ClientConnection::new(client.clone(), name).map_err(|error| error.to_string())?;
        let socket = TcpStream::connect(("127.0.0.1", server.port)).map_err(|error| error.to_string())?;
        let mut stream = StreamOwned::new(connection, socket);
        stream.conn.complete_io(&mut stream.sock).map_err(|error| error.to_string())?;
        took.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    let mut text = "| | |\n|---|---|\n".to_owned();
    text += &line("ms from the start of qtls-server to the end of its first handshake", [cell(median(took), 0)]);
    for program in ["qtls-server", "qtls-client", "qtls"] {
        text += &line(&format!("MiB of {program}, stripped"), [cell(stripped(program)?, 1)]);
    }
    text += &line("crates that qtls-server is made of", [crates().to_string()]);
    Ok(text)
}

fn stripped(program: &str) -> Result<f64, String> {
    let work = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let copy = work.path().join(program);
    let original = programs::command(program).get_program().to_owned();
    run(Command::new("strip").arg("-o").arg(&copy).arg(original), b"").expect_success();
    let length = fs::metadata(&copy).map_err(|error| format!("{}: {error}", copy.display()))?.len();
    Ok(length as f64 / f64::from(1 << 20))
}

/// As Cargo counts them, without those that only build or test.
fn crates() -> usize {
    let tree = ["tree", "--locked", "-p", "qtls-cli", "--edges", "normal", "--prefix", "none", "--format", "{p}"];
    let finished = run(Command::new("cargo").args(tree), b"").expect_success();
    let mut all: Vec<_> = finished.stdout.lines().filter_map(|line| line.split(" (").next()).collect();
    all.sort_unstable();
    all.dedup();
    all.len()
}
