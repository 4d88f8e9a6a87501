//! Bytes on a socket, below TLS: plain HTTP, and relays that rearrange what a TLS client sends.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::process::PATIENCE;

/// An answer over plain HTTP/1.1.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The head, as it came.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Connects to a port of 127.0.0.1, with time-outs.
///
/// # Panics
/// When nothing accepts.
#[track_caller]
pub fn connect(port: u16) -> TcpStream {
    connect_from(Ipv4Addr::LOCALHOST, port)
}

/// Connects to a port of 127.0.0.1 from another address of the loopback interface, with time-outs.
///
/// # Panics
/// When nothing accepts.
#[track_caller]
pub fn connect_from(address: Ipv4Addr, port: u16) -> TcpStream {
    try_connect_from(address, port).unwrap_or_else(|error| panic!("port {port} from {address}: {error}"))
}

/// As [`connect_from`], where a reset may come as early as while it connects.
///
/// # Errors
/// As `connect(2)`.
#[track_caller]
pub fn try_connect_from(address: Ipv4Addr, port: u16) -> io::Result<TcpStream> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};
    // Not for programs that are started meanwhile: it would stay open with them.
    let flags = SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).expect("there are descriptors left");
    // Bound before, thousands of connections would take the ports that other tests are about to listen on.
    if address != Ipv4Addr::LOCALHOST {
        bind(&socket, &SocketAddrV4::new(address, 0)).unwrap_or_else(|error| panic!("{address}: {error}"));
    }
    connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out above 0");
    stream.set_write_timeout(Some(PATIENCE)).expect("a time-out above 0");
    stream.set_nodelay(true).expect("a TCP socket");
    Ok(stream)
}

/// Connects to a port of 127.0.0.1, sends `bytes`, and reads: how many came at first, or the error of the first step that
/// failed. A reset is told once, to whichever of connecting, writing and reading meets it.
///
/// # Errors
/// The kind of the error.
#[track_caller]
pub fn fate(port: u16, bytes: &[u8]) -> Result<usize, ErrorKind> {
    fate_from(Ipv4Addr::LOCALHOST, port, bytes)
}

/// As [`fate`], from another address of the loopback interface.
///
/// # Errors
/// The kind of the error.
#[track_caller]
pub fn fate_from(address: Ipv4Addr, port: u16, bytes: &[u8]) -> Result<usize, ErrorKind> {
    let tried = try_connect_from(address, port).and_then(|mut stream| {
        stream.write_all(bytes)?;
        stream.read(&mut [0; 4096])
    });
    tried.map_err(|error| error.kind())
}

/// Requests `path` over plain HTTP.
///
/// # Panics
/// When the answer isn't HTTP.
#[track_caller]
pub fn http_get(port: u16, path: &str) -> Response {
    exchange(port, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())
}

/// Sends `request` and reads the answer up to the end of the connection.
///
/// # Panics
/// When the answer isn't HTTP.
#[track_caller]
pub fn exchange(port: u16, request: &[u8]) -> Response {
    let mut stream = connect(port);
    stream.write_all(request).unwrap_or_else(|error| panic!("port {port} doesn't take the request: {error}"));
    let answer = read_to_end(&mut stream);
    let text = String::from_utf8_lossy(&answer).into_owned();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { panic!("not an HTTP answer: {text:?}") };
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body) } else { body.to_owned() };
    Response { status: status.unwrap_or_else(|| panic!("no status: {head}")), head: head.to_owned(), body }
}

/// Reads what comes until the other side closes or resets the connection.
///
/// # Panics
/// When it does neither within [`PATIENCE`].
#[track_caller]
pub fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    let mut chunk = [0; 65_536];
    loop {
        match stream.read(&mut chunk) {
            Ok(0) => return received,
            Ok(read) => received.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return received,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => panic!("the connection didn't end after {} bytes: {error}", received.len()),
        }
    }
}

/// The TLS alert that `bytes` consist of, as its description's number; `None` where they are something else.
pub fn alert(bytes: &[u8]) -> Option<u8> {
    // RFC 9846 §5.1 and §6: type 21, two bytes of version, length 2, level fatal, description.
    match bytes {
        [21, 3, _, 0, 2, 2, description, ..] => Some(*description),
        _ => None,
    }
}

/// How a relay rearranges the bytes of a client. The server's go through as they are.
#[derive(Clone, Copy, Debug)]
pub enum Rearrange {
    /// Each byte of the first record in a write, and so a packet, of its own.
    SingleBytes,
    /// The first record as many records of at most this many bytes.
    Records(usize),
    /// The first record as it is, and everything up to the next pause in one write.
    Together,
}

/// What ends the bytes that [`Rearrange::Together`] puts together: far longer than a client takes that needs no answer.
const PAUSE: Duration = Duration::from_millis(500);

/// Starts a relay of one connection to `port` and returns the port that it listens on.
pub fn relay(port: u16, how: Rearrange) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let own_port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        let (client, _) = listener.accept().expect("the client connects");
        client.set_nodelay(true).expect("a TCP socket");
        let server = connect(port);
        let (mut from_server, mut to_client) = (clone(&server), clone(&client));
        let back = thread::spawn(move || copy(&mut from_server, &mut to_client));
        let (mut from_client, mut to_server) = (client, server);
        if rearrange(&mut from_client, &mut to_server, how).is_ok() {
            copy(&mut from_client, &mut to_server);
        }
        back.join().expect("the way back doesn't panic");
    });
    own_port
}

fn rearrange(from: &mut TcpStream, to: &mut TcpStream, how: Rearrange) -> io::Result<()> {
    let mut header = [0; 5];
    from.read_exact(&mut header)?;
    let mut content = vec![0; usize::from(u16::from_be_bytes([header[3], header[4]]))];
    from.read_exact(&mut content)?;
    match how {
        Rearrange::SingleBytes => {
            for byte in header.iter().chain(&content) {
                to.write_all(std::slice::from_ref(byte))?;
            }
        }
        Rearrange::Records(size) => {
            for part in content.chunks(size) {
                let length = u16::try_from(part.len()).expect("a part of a record").to_be_bytes();
                to.write_all(&[&header[..3], &length, part].concat())?;
            }
        }
        Rearrange::Together => {
            to.write_all(&[&header, &*content].concat())?;
            to.write_all(&until_pause(from)?)?;
        }
    }
    Ok(())
}

fn until_pause(from: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut together = Vec::new();
    let mut chunk = [0; 65_536];
    from.set_read_timeout(Some(PAUSE))?;
    loop {
        match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => together.extend_from_slice(&chunk[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error),
        }
    }
    from.set_read_timeout(None)?;
    Ok(together)
}

fn copy(from: &mut TcpStream, to: &mut TcpStream) {
    // Resets are part of what the suites do.
    let _ = io::copy(from, to);
    let _ = to.shutdown(Shutdown::Write);
}

fn clone(stream: &TcpStream) -> TcpStream {
    stream.try_clone().expect("there are descriptors left")
}

fn unchunk(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or_else(|_| panic!("not a chunk size: {size:?}"));
        if size == 0 {
            break;
        }
        whole.push_str(&rest[..size]);
        body = &rest[size + 2..];
    }
    whole
}

/// Lets this process, and those that it starts from now on, have `count` open files.
///
/// # Panics
/// When the hard limit forbids it.
pub fn allow_open_files(count: u64) {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < count) {
        let raised = Rlimit { current: Some(count), maximum: limit.maximum };
        setrlimit(Resource::Nofile, raised).unwrap_or_else(|error| panic!("needs `ulimit -n {count}`: {error}"));
    }
}
