//! Servers behind Q-TLS that tests make slow, unwell and gone, and the DNS server that knows their names.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use tempfile::TempDir;

use crate::process::{PATIENCE, Running};
use crate::{openssl, peers};

/// An HTTP/1.1 server that answers each request with its name. `/healthz` is not counted as a request.
#[derive(Debug)]
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<State>,
    listener: TcpListener,
}

#[derive(Debug)]
struct State {
    name: String,
    requests: AtomicUsize,
    checks: AtomicUsize,
    /// What `/healthz` answers.
    status: AtomicU16,
    gate: Mutex<Gate>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Gate {
    closed: bool,
    /// Requests that wait for it to open.
    waiting: usize,
    connections: Vec<TcpStream>,
    gone: bool,
}

impl Backend {
    /// Starts it on a free port of 127.0.0.1.
    pub fn start(name: &str) -> Self {
        Self::on((Ipv4Addr::LOCALHOST, 0).into(), name)
    }

    /// Starts it on this address.
    ///
    /// # Panics
    /// When somebody else has it.
    #[track_caller]
    pub fn on(address: SocketAddr, name: &str) -> Self {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(State {
            name: name.to_owned(),
            requests: AtomicUsize::new(0),
            checks: AtomicUsize::new(0),
            status: AtomicU16::new(200),
            gate: Mutex::default(),
            moved: Condvar::new(),
        });
        let accepting = listener.try_clone().expect("there are descriptors");
        let shared = state.clone();
        thread::spawn(move || {
            for stream in accepting.incoming() {
                let Ok(stream) = stream else { return };
                let state = shared.clone();
                if !state.admit(&stream) {
                    return;
                }
                // A connection that breaks is the business of the test that made it.
                thread::spawn(move || drop(state.serve(stream)));
            }
        });
        Self { address, state, listener }
    }

    /// `127.0.0.1:PORT`.
    pub fn text(&self) -> String {
        self.address.to_string()
    }

    /// How many requests came.
    pub fn requests(&self) -> usize {
        self.state.requests.load(SeqCst)
    }

    /// How many health checks came.
    pub fn checks(&self) -> usize {
        self.state.checks.load(SeqCst)
    }

    /// Answers health checks with this status from now on.
    pub fn answer_checks_with(&self, status: u16) {
        self.state.status.store(status, SeqCst);
    }

    /// Keeps requests waiting from now on.
    pub fn hold(&self) {
        self.state.gate().closed = true;
    }

    /// Answers those that wait, and all others.
    pub fn release(&self) {
        self.state.gate().closed = false;
        self.state.moved.notify_all();
    }

    /// Waits until so many requests wait.
    ///
    /// # Panics
    /// When they don't within [`PATIENCE`].
    #[track_caller]
    pub fn wait_for_held(&self, count: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut gate = self.state.gate();
        while gate.waiting < count {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} requests wait at {}, and not {count}", gate.waiting, self.state.name);
            gate = self.state.moved.wait_timeout(gate, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How many requests wait.
    pub fn held(&self) -> usize {
        self.state.gate().waiting
    }
}

/// It is gone, with all of its connections.
impl Drop for Backend {
    fn drop(&mut self) {
        // Ends the thread that accepts.
        let _ = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both);
        let mut gate = self.state.gate();
        gate.gone = true;
        for stream in gate.connections.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        self.state.moved.notify_all();
    }
}

impl State {
    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, stream: &TcpStream) -> bool {
        let mut gate = self.gate();
        if let (false, Ok(stream)) = (gate.gone, stream.try_clone()) {
            gate.connections.push(stream);
        }
        !gate.gone
    }

    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut first = String::new();
            if reader.read_line(&mut first)? == 0 {
                return Ok(());
            }
            let mut last = false;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line)? == 0 {
                    return Ok(());
                }
                if line == "\r\n" {
                    break;
                }
                last |= line.trim_end().eq_ignore_ascii_case("connection: close");
            }
            let (status, body) = if first.contains(" /healthz ") {
                self.checks.fetch_add(1, SeqCst);
                (self.status.load(SeqCst), "checked\n".to_owned())
            } else {
                self.requests.fetch_add(1, SeqCst);
                self.wait();
                (200, format!("{}\n", self.name))
            };
            write!(stream, "HTTP/1.1 {status} -\r\nContent-Length: {}\r\n\r\n{body}", body.len())?;
            if last {
                return stream.shutdown(Shutdown::Both);
            }
        }
    }

    fn wait(&self) {
        let mut gate = self.gate();
        gate.waiting += 1;
        self.moved.notify_all();
        while gate.closed && !gate.gone {
            gate = self.moved.wait(gate).unwrap_or_else(PoisonError::into_inner);
        }
        gate.waiting -= 1;
    }
}

/// A DNS server on a free port of 127.0.0.1, with the addresses (A records alone) that tests give to names.
#[derive(Debug)]
pub struct Dns {
    /// Where it listens, by UDP.
    pub address: SocketAddr,
    state: Arc<(Mutex<Names>, Condvar)>,
}

#[derive(Debug, Default)]
struct Names {
    addresses: BTreeMap<String, Vec<Ipv4Addr>>,
    ttl: u32,
    /// Questions for A records that were answered.
    asked: usize,
    /// Whether it says SERVFAIL.
    broken: bool,
}

impl Dns {
    /// Starts one that answers for so many seconds.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn start(ttl: u32) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("there is a free port");
        let address = socket.local_addr().expect("it is bound");
        let state = Arc::new((Mutex::new(Names { ttl, ..Names::default() }), Condvar::new()));
        let shared = state.clone();
        thread::spawn(move || {
            let mut query = [0; 1500];
            while let Ok((length, client)) = socket.recv_from(&mut query) {
                let (names, asked) = &*shared;
                let mut names = names.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(answer) = names.answer(&query[..length]) {
                    let _ = socket.send_to(&answer, client);
                    asked.notify_all();
                }
            }
        });
        Self { address, state }
    }

    /// Gives a name these addresses from now on.
    pub fn set(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|address| address.parse().expect("an IPv4 address"));
        self.names().addresses.insert(name.to_owned(), addresses.collect());
    }

    /// Answers with SERVFAIL from now on, or no longer.
    pub fn broken(&self, broken: bool) {
        self.names().broken = broken;
    }

    /// Waits until it was asked so many times more.
    ///
    /// # Panics
    /// When it isn't within [`PATIENCE`].
    #[track_caller]
    pub fn wait_for_questions(&self, more: usize) {
        let deadline = Instant::now() + PATIENCE;
        let mut names = self.names();
        let wanted = names.asked + more;
        while names.asked < wanted {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it was asked {} times, and not {wanted}", names.asked);
            names = self.state.1.wait_timeout(names, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// How often it was asked for addresses.
    pub fn asked(&self) -> usize {
        self.names().asked
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    /// The answer to a question (RFC 1035, section 4).
    fn answer(&mut self, query: &[u8]) -> Option<Vec<u8>> {
        const HEADER: usize = 12;
        let mut name = Vec::new();
        let mut at = HEADER;
        loop {
            let length = usize::from(*query.get(at)?);
            at += 1;
            if length == 0 {
                break;
            }
            name.push(String::from_utf8_lossy(query.get(at..at + length)?).to_ascii_lowercase());
            at += length;
        }
        let question = query.get(HEADER..at + 4)?;
        let is_a = question[question.len() - 4..] == [0, 1, 0, 1];
        self.asked += usize::from(is_a);
        let known = self.addresses.get(&name.join("."));
        let (code, addresses) = match known {
            _ if self.broken => (2, &[][..]),
            None => (3, &[][..]),
            Some(addresses) if is_a => (0, &addresses[..]),
            Some(_) => (0, &[][..]),
        };
        // A response, with recursion desired and available.
        let mut answer = vec![query[0], query[1], 0x81, 0x80 | code, 0, 1, 0, addresses.len() as u8, 0, 0, 0, 0];
        answer.extend_from_slice(question);
        for address in addresses {
            // The name of the question, A, IN.
            answer.extend_from_slice(&[0xc0, HEADER as u8, 0, 1, 0, 1]);
            answer.extend_from_slice(&self.ttl.to_be_bytes());
            answer.extend_from_slice(&[0, 4]);
            answer.extend_from_slice(&address.octets());
        }
        Some(answer)
    }
}

/// The sum of `unlogged` over the lines of a log that have `pattern`, and how many such lines there are.
pub fn logged(log: &str, pattern: &str) -> (usize, usize) {
    let lines = log.lines().filter(|line| line.contains(pattern));
    let unlogged = |line: &str| {
        let rest = line.split_once("unlogged=")?.1;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()
    };
    lines.fold((0, 0), |(count, sum), line| (count + 1, sum + unlogged(line).unwrap_or(0)))
}

/// Debian's nginx with a configuration of the test's. Dropping it kills it.
#[derive(Debug)]
pub struct Nginx {
    process: Running,
    _work: TempDir,
}

impl Nginx {
    /// Starts it with these directives inside of `http`. The directories of `shares` are visible to it.
    ///
    /// # Panics
    /// When it doesn't start.
    pub fn with(http: &str, shares: &[&Path]) -> Self {
        let work = tempfile::tempdir().expect("the temporary directory is writable");
        let config = work.path().join("nginx.conf");
        let text = format!(
            "daemon off;\nuser root;\nworker_processes 1;\npid /run/nginx.pid;\nerror_log stderr notice;\n\
             events {{ worker_connections 4096; }}\nhttp {{\naccess_log off;\n{http}\n}}\n"
        );
        std::fs::write(&config, text).expect("the temporary directory is writable");
        let shares = shares.iter().copied().chain([work.path()]);
        let process = Running::start(peers::debian("nginx", shares).args(["-c", openssl::text(&config)]));
        process.stderr.wait_for_line("start worker process ");
        Self { process, _work: work }
    }

    /// Everything that it printed, for messages.
    pub fn said(&self) -> String {
        self.process.said()
    }
}
