//! From inside a worker of a real server, and from inside its signing threads: another file can't be read, another port
//! can't be had, and no program can be run.
//!
//! The server is a process of its own, since what the sandbox takes is gone for good: this program, started once more. The
//! key of its certificate signs as keys do, and looks around before, on the thread that asks it to.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

mod support;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use qtls_core::endpoint::Signing;
use qtls_core::policy::KeyAlgorithm;
use qtls_pki::issue::Profile;
use qtls_pki::quickstart;
use qtls_proxy::config::{self, Source, UpstreamAddress};
use qtls_proxy::handshake;
use qtls_proxy::hosts::{Host, Hosts, Target};
use qtls_proxy::plan::Plan;
use qtls_proxy::sandbox::Settings;
use qtls_proxy::server::Server;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use support::{Ca, client, endpoint, name, new_key, on_one_thread, policy};

/// In the environment of the server: the directory that its files are in.
const DIRECTORY: &str = "INSIDE_A_WORKER";
/// In front of what was seen.
const SEEN: &str = "seen ";

fn main() {
    match std::env::var_os(DIRECTORY) {
        Some(directory) => serve(Path::new(&directory)),
        None => test(),
    }
}

fn test() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let (port, upstream) = (free_port(), TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let names = vec!["localhost".parse().unwrap()];
    quickstart::create(&quickstart::Options::new(root.join("pki"), names)).unwrap();
    for name in ["elsewhere", "logs", "config"] {
        fs::create_dir(root.join(name)).unwrap();
    }
    fs::write(root.join("elsewhere/secret"), "secret").unwrap();
    let config = format!(
        r#"{{
          "server": {{ "listen_address": "127.0.0.1", "listen_port": {port}, "worker_threads": 1 }},
          "certificates": {{ "server_cert": "{pki}/server-cert.pem", "server_key": "{pki}/server-key.pem" }},
          "upstream": {{ "protocol": "tcp", "servers": ["127.0.0.1:{upstream}"] }},
          "logging": {{ "file": "{logs}/server.log" }},
          "sandbox": "required"
        }}"#,
        pki = root.join("pki").display(),
        upstream = upstream.local_addr().unwrap().port(),
        logs = root.join("logs").display(),
    );
    fs::write(root.join("config/server.json"), config).unwrap();

    let mut server = Running::start(root);
    // "a.example" is signed for by the worker, "b.example" by a thread of the pool.
    for (server_name, thread) in [("a.example", "qtls-worker-0"), ("b.example", "qtls-sign")] {
        on_one_thread(async {
            let (policy, stranger) = (policy(true, false, None), Ca::new(KeyAlgorithm::EcdsaP256));
            let socket = tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
            // Whom the client trusts doesn't matter: the server has signed by then.
            drop(handshake::connect(socket, client(&policy, &stranger, None), name(server_name)).await);
        });
        let seen = server.next_seen();
        assert_eq!(seen["thread"], thread, "{seen:?}");
        for (what, expected) in [
            ("read a certificate", "done"),
            ("read another file", "EACCES"),
            ("read /etc/passwd", "EACCES"),
            ("write a certificate", "EACCES"),
            ("write a log", "done"),
            ("have a port", "ENOSYS"),
            ("listen", "EPERM"),
            ("connect to the upstream", "done"),
            ("connect to another port", "EACCES"),
            ("run a program", "EPERM"),
            ("run a program through a shell", "EPERM"),
            ("signal the parent", "EPERM"),
        ] {
            assert_eq!(seen[what], expected, "{what}, from {thread}: {seen:?}");
        }
        println!("test from_inside_{} ... ok", thread.replace('-', "_"));
    }
    kill_process(Pid::from_child(&server.child), Signal::TERM).unwrap();
    assert!(server.child.wait().unwrap().success());
}

/// The server, as qtls-server starts it, but for the key.
fn serve(directory: &Path) {
    let load = {
        let file = directory.join("config/server.json");
        move || config::load_server(&Source { file: Some(file.clone()), ..Source::default() })
    };
    let loaded = load().unwrap();
    let settings = Settings::of(&loaded.value, &loaded.origins).unwrap();
    let mut plan = Plan::new(loaded).unwrap();
    let server = &plan.config.upstream.as_ref().unwrap().servers[0];
    let UpstreamAddress::Tcp { port: upstream, .. } = server.address else { panic!("{server} has no port") };
    let probe = Arc::new(Probe { directory: directory.to_owned(), upstream, printing: Mutex::new(()) });
    plan.hosts = {
        let host = |signing: Signing| {
            let ca = Ca::new(KeyAlgorithm::EcdsaP256);
            let key = Arc::new(LookingAround { key: new_key(KeyAlgorithm::EcdsaP256), probe: probe.clone() });
            let credential = ca.credential_with(Profile::Server, "a.example", key);
            let endpoint = endpoint(&policy(true, false, None), credential, signing, None);
            Host { endpoint: Arc::try_unwrap(endpoint).unwrap(), target: Target::Responder }
        };
        Hosts::new(host(Signing::Inline), [(vec!["b.example".parse().unwrap()], host(Signing::OffWorker))])
    };
    let mut server = Server::bind(plan).unwrap();
    if let Err(error) = server.enter_sandbox(&settings) {
        println!("{SEEN}refused={}", error.message());
        return;
    }
    println!("{SEEN}listening=yes");
    server.run(Box::new(load)).unwrap();
}

struct Running {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    fn start(directory: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(DIRECTORY, directory)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut this = Self { child, lines };
        let seen = this.next_seen();
        if let Some(reason) = seen.get("refused") {
            eprintln!("SKIPPED: from inside a worker: {reason}");
            std::process::exit(0);
        }
        this
    }

    fn next_seen(&mut self) -> BTreeMap<String, String> {
        loop {
            let mut line = String::new();
            assert!(self.lines.read_line(&mut line).unwrap() > 0, "the server ended");
            if let Some(seen) = line.trim_end().strip_prefix(SEEN) {
                let pairs = seen.split(';').filter_map(|pair| pair.split_once('='));
                return pairs.map(|(what, result)| (what.to_owned(), result.to_owned())).collect();
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tries what must not work, and what must.
struct Probe {
    directory: PathBuf,
    upstream: u16,
    printing: Mutex<()>,
}

impl Probe {
    fn look(&self) {
        let at = |path: &str| self.directory.join(path);
        let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let append = |path: &str| File::options().append(true).open(at(path));
        let signal = rustix::process::getppid().map(test_kill_process).unwrap();
        let tried: [(&str, Result<()>); 12] = [
            ("read a certificate", File::open(at("pki/server-cert.pem")).map(drop)),
            ("read another file", File::open(at("elsewhere/secret")).map(drop)),
            ("read /etc/passwd", File::open("/etc/passwd").map(drop)),
            ("write a certificate", append("pki/server-cert.pem").map(drop)),
            ("write a log", append("logs/server.log").or_else(|_| File::create(at("logs/server.log"))).map(drop)),
            ("have a port", TcpListener::bind(local(0)).map(drop)),
            ("listen", listen()),
            ("connect to the upstream", TcpStream::connect(local(self.upstream)).map(drop)),
            ("connect to another port", TcpStream::connect(local(1)).map(drop)),
            ("run a program", Command::new("/bin/true").spawn().map(drop)),
            ("run a program through a shell", Command::new("sh").args(["-c", "true"]).spawn().map(drop)),
            ("signal the parent", signal.map_err(Into::into)),
        ];
        let seen: Vec<_> = tried.into_iter().map(|(what, result)| format!("{what}={}", code(result))).collect();
        let _one = self.printing.lock().unwrap();
        println!("{SEEN}thread={};{}", thread::current().name().unwrap_or_default(), seen.join(";"));
    }
}

/// Makes an unbound socket listen, which gives it a port.
fn listen() -> Result<()> {
    use rustix::net::{AddressFamily, SocketType, socket};
    Ok(rustix::net::listen(socket(AddressFamily::INET, SocketType::STREAM, None)?, 1)?)
}

fn code(result: Result<()>) -> String {
    match result.map_err(|error| error.raw_os_error()) {
        Ok(()) => "done".to_owned(),
        Err(Some(libc::EACCES)) => "EACCES".to_owned(),
        Err(Some(libc::EPERM)) => "EPERM".to_owned(),
        Err(Some(libc::ENOSYS)) => "ENOSYS".to_owned(),
        Err(other) => format!("{other:?}"),
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

struct LookingAround {
    key: Arc<dyn SigningKey>,
    probe: Arc<Probe>,
}

impl fmt::Debug for LookingAround {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LookingAround")
    }
}

impl SigningKey for LookingAround {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        let signer = self.key.choose_scheme(offered)?;
        Some(Box::new(Looking { signer, probe: self.probe.clone() }))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.key.algorithm()
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        self.key.public_key()
    }
}

struct Looking {
    signer: Box<dyn Signer>,
    probe: Arc<Probe>,
}

impl fmt::Debug for Looking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Looking")
    }
}

impl Signer for Looking {
    fn sign(&self, message: &[u8]) -> std::result::Result<Vec<u8>, rustls::Error> {
        self.probe.look();
        self.signer.sign(message)
    }

    fn scheme(&self) -> SignatureScheme {
        self.signer.scheme()
    }
}
