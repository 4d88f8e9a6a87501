//! Connections with a descriptor: blocking and not, and its ends.
// Helpers of tests unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::thread;

use qtls_core::policy::KeyAlgorithm;
use support::{Ca, Config, Conn};

fn configs() -> (Config, Config) {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server = Config::server().key_pair(&ca.server(&["a.example"])).frozen();
    (Config::client().ca(&ca.pem()).frozen(), server)
}

fn over(conn: Conn, socket: &UnixStream) -> Conn {
    assert_eq!(conn.set_fd(socket.as_raw_fd()), Ok(0));
    conn
}

#[test]
fn descriptors_that_block_need_no_loop() {
    let (client, server) = configs();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let sent: Vec<u8> = (0..300_000).map(|at| (at % 251) as u8).collect();
    let received = thread::scope(|scope| {
        let echo = scope.spawn(|| {
            let conn = over(Conn::server(&server), &theirs);
            let (received, end) = conn.read_all();
            assert_eq!(end, Ok(4));
            assert_eq!(conn.write(&received), (received.len(), Ok(0)));
            assert_eq!(conn.shutdown(), Ok(0));
            drop((conn, theirs));
            received
        });
        let conn = over(Conn::client(&client, "a.example"), &ours);
        assert_eq!(conn.handshake(), Ok(0));
        assert_eq!(conn.info().unwrap().group, "X25519MLKEM768");
        assert_eq!(conn.write(&sent), (sent.len(), Ok(0)));
        assert_eq!(conn.shutdown(), Ok(0));
        assert_eq!(conn.read_all(), (sent.clone(), Ok(4)));
        echo.join().unwrap()
    });
    assert!(received == sent);
}

#[test]
fn descriptors_that_don_t_block_say_what_they_wait_for() {
    let (client, server) = configs();
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let (client, server) = (over(Conn::client(&client, "a.example"), &ours), over(Conn::server(&server), &theirs));
    assert_eq!(server.handshake(), Ok(1));
    assert_eq!(client.handshake(), Ok(1));
    assert_eq!(client.read(&mut [0; 1]), (0, Ok(1)));
    assert_eq!(client.write(b"early"), (0, Ok(1)));
    assert_eq!(server.handshake(), Ok(1));
    assert_eq!(client.handshake(), Ok(0));
    assert_eq!(server.handshake(), Ok(0));
    assert_eq!(server.read(&mut [0; 1]), (0, Ok(1)));

    // Until neither the kernel nor the connection takes any more.
    let sent: Vec<u8> = (0..1 << 20).map(|at| (at % 251) as u8).collect();
    let mut written = 0;
    while let (count @ 1.., Ok(0)) = client.write(&sent[written..]) {
        written += count;
    }
    assert!(written < sent.len(), "nothing was ever full");
    assert_eq!(client.write(&sent[written..]), (0, Ok(2)));
    assert_eq!((client.flush(), client.want()), (Ok(2), "QTLS_WANT_READ|QTLS_WANT_WRITE"));
    let mut received = Vec::new();
    while received.len() < sent.len() {
        let (read, outcome) = server.read_all();
        assert_eq!(outcome, Ok(1));
        received.extend(read);
        client.flush().unwrap();
        if written < sent.len() {
            written += client.write(&sent[written..]).0;
        }
    }
    assert!(received == sent);
    assert_eq!(client.shutdown(), Ok(0));
    assert_eq!(server.read(&mut [0; 1]), (0, Ok(4)));
}

#[test]
fn a_peer_that_is_gone_is_an_error_and_no_signal() {
    let (client_config, server_config) = configs();
    let (ours, theirs) = UnixStream::pair().unwrap();
    drop(theirs);
    let client = over(Conn::client(&client_config, "a.example"), &ours);
    let failed = client.handshake().unwrap_err();
    assert_eq!((failed.status, failed.fault), ("QTLS_E_NETWORK", 5));
    assert!(failed.message.starts_with("writing to the descriptor failed: Broken pipe"), "{}", failed.message);

    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let server = over(Conn::server(&server_config), &ours);
    theirs.write_all(b"\x16\x03\x01").unwrap();
    theirs.shutdown(Shutdown::Write).unwrap();
    let failed = server.handshake().unwrap_err();
    assert_eq!((failed.status, failed.fault), ("QTLS_E_TRUNCATED", 5));
    assert_eq!(server.handshake().unwrap_err().status, "QTLS_E_TRUNCATED");
}

/// A server that refuses closes after its alert: what counts is what it said, not that the pipe is broken.
#[test]
fn the_alert_of_a_peer_that_closes_is_heard() {
    let (client, server) = configs();
    let (ours, theirs) = UnixStream::pair().unwrap();
    for socket in [&ours, &theirs] {
        socket.set_nonblocking(true).unwrap();
    }
    let (conn, peer) = (over(Conn::client(&client, "a.example"), &ours), over(Conn::server(&server), &theirs));
    while (conn.handshake(), peer.handshake()) != (Ok(0), Ok(0)) {}
    // What rustls answers to this is an alert, which the server sends before it is gone.
    (&ours).write_all(b"\x17\x03\x03\x00\x20this record can't be decrypted..").unwrap();
    let failed = peer.read(&mut [0; 1]).1.unwrap_err();
    assert_eq!((failed.status, failed.sent), ("QTLS_E_DECRYPT", 20));
    drop((peer, theirs));
    let told = conn.write(b"a").1.unwrap_err();
    assert_eq!((told.status, told.received), ("QTLS_E_ALERT", 20));
}

#[test]
fn plaintext_that_came_before_the_end_is_read_first() {
    let (client, server) = configs();
    let (ours, theirs) = UnixStream::pair().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let conn = over(Conn::server(&server), &theirs);
            assert_eq!(conn.handshake(), Ok(0));
            assert_eq!(conn.write(b"last words"), (10, Ok(0)));
            drop((conn, theirs));
        });
        let conn = over(Conn::client(&client, "a.example"), &ours);
        assert_eq!(conn.handshake(), Ok(0));
        let (read, end) = conn.read_all();
        assert_eq!((read.as_slice(), end.unwrap_err().status), (&b"last words"[..], "QTLS_E_TRUNCATED"));
    });
}

#[test]
fn only_stream_sockets_will_do() {
    let (client, server) = configs();
    let conn = Conn::client(&client, "a.example");
    let says = |fd, message: &str| {
        let failed = conn.set_fd(fd).unwrap_err();
        assert_eq!((failed.status, failed.fault, failed.message.as_str()), ("QTLS_E_MISUSE", 2, message));
    };
    says(-1, "the descriptor is -1");
    let file = tempfile::tempfile().unwrap();
    says(file.as_raw_fd(), "the descriptor is not a socket");
    let closed = i32::MAX;
    says(closed, "the descriptor is not open");
    let datagrams = UnixDatagram::unbound().unwrap();
    says(datagrams.as_raw_fd(), "the descriptor is a socket, but not one for streams");
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    assert_eq!(conn.set_fd(ours.as_raw_fd()), Ok(0));
    says(ours.as_raw_fd(), "the connection has a descriptor already");
    let failed = conn.feed(b"a").1.unwrap_err();
    let message = "qtls_conn_feed() is for connections without a descriptor, and this one has one";
    assert_eq!((failed.status, failed.message.as_str()), ("QTLS_E_MISUSE", message));
    let fed = Conn::server(&server);
    assert_eq!(fed.feed(b"\x16"), (1, Ok(0)));
    let failed = fed.set_fd(ours.as_raw_fd()).unwrap_err();
    assert_eq!(failed.message, "the connection was fed already: it can't have a descriptor any more");
    // The descriptor stays the program's.
    drop(conn);
    (&ours).write_all(b"x").unwrap();
    let mut one = [0];
    theirs.read_exact(&mut one).unwrap();
    assert_eq!(&one, b"x");
}
