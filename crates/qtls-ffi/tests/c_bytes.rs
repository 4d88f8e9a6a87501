//! Bytes in any portions: nothing is lost, nothing comes twice, and every end is told as what it is.
// Helpers of tests unwrap as tests do: what can't go on has failed.
#![allow(clippy::unwrap_used)]

mod support;

use qtls_core::policy::KeyAlgorithm;
use support::{Ca, Config, Conn, carry, connected};

fn configs() -> (Config, Config) {
    let ca = Ca::new(KeyAlgorithm::EcdsaP256);
    let server = Config::server().key_pair(&ca.server(&["a.example"])).frozen();
    (Config::client().ca(&ca.pem()).frozen(), server)
}

/// Bytes that say where they stand.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8 ^ (at / 251) as u8).collect()
}

#[test]
fn a_handshake_goes_through_byte_by_byte() {
    let (client, server) = configs();
    let (client, server) = (Conn::client(&client, "a.example"), Conn::server(&server));
    assert_eq!((client.want(), server.want()), ("QTLS_WANT_READ|QTLS_WANT_WRITE", "QTLS_WANT_READ"));
    assert_eq!((client.handshake(), server.handshake()), (Ok(3), Ok(1)));
    assert_eq!((client.write(b"early"), server.write(b"early")), ((0, Ok(3)), (0, Ok(1))));
    carry(&client, &server, 1).unwrap();
    assert_eq!((client.handshake(), server.handshake()), (Ok(0), Ok(0)));
    assert_eq!((client.want(), server.want()), ("QTLS_WANT_READ", "QTLS_WANT_READ"));
    assert_eq!(client.info().unwrap().group, "X25519MLKEM768");
    assert_eq!(client.write(b"hello"), (5, Ok(0)));
    assert_eq!(client.want(), "QTLS_WANT_READ|QTLS_WANT_WRITE");
    assert_eq!((client.flush(), server.flush()), (Ok(2), Ok(0)));
    carry(&client, &server, 1).unwrap();
    assert_eq!((server.pending(), server.want()), (5, "QTLS_OK"), "what is there is read first");
    let mut three = [0; 3];
    assert_eq!(server.read(&mut three), (3, Ok(0)));
    assert_eq!((&three, server.pending()), (b"hel", 2));
    assert_eq!(server.read_all(), (b"lo".to_vec(), Ok(1)));
}

#[test]
fn half_a_record_is_no_plaintext_yet() {
    let (client, server) = configs();
    let (client, server) = connected(&client, &server);
    assert_eq!(client.write(&pattern(1000)), (1000, Ok(0)));
    let record = client.drain();
    let (first, second) = record.split_at(500);
    assert_eq!(server.feed(first), (500, Ok(0)));
    assert_eq!((server.pending(), server.read(&mut [0; 10])), (0, (0, Ok(1))));
    assert_eq!(server.feed(second), (second.len(), Ok(0)));
    assert_eq!(server.read_all(), (pattern(1000), Ok(1)));
}

#[test]
fn bytes_are_drained_in_any_portions() {
    let (client, server) = configs();
    let (client, server) = connected(&client, &server);
    assert_eq!(client.write(&pattern(1000)), (1000, Ok(0)));
    let mut carried = 0;
    loop {
        let some = client.drain_some(7);
        if some.is_empty() {
            break;
        }
        carried += some.len();
        assert_eq!(server.feed(&some), (some.len(), Ok(0)));
    }
    assert_eq!(carried, 1000 + 22, "one record");
    assert_eq!(server.read_all(), (pattern(1000), Ok(1)));
}

/// A mebibyte goes through although nobody reads before nothing moves any more: what doesn't fit is not taken.
#[test]
fn a_mebibyte_goes_through_and_what_has_no_room_waits() {
    let (client, server) = configs();
    let (client, server) = connected(&client, &server);
    let sent = pattern(1 << 20);
    let (mut written, mut on_the_way, mut received) = (0, Vec::new(), Vec::new());
    let (mut refused, mut filled, mut most) = (false, false, 0);
    while received.len() < sent.len() {
        while written < sent.len() {
            let (count, outcome) = client.write(&sent[written..]);
            written += count;
            if outcome == Ok(2) {
                assert_eq!(count, 0);
                filled = true;
                break;
            }
            assert_eq!(outcome, Ok(0));
            assert!(count > 0);
        }
        on_the_way.extend(client.drain());
        let (consumed, outcome) = server.feed(&on_the_way);
        assert_eq!(outcome, Ok(0));
        if consumed < on_the_way.len() {
            refused = true;
            assert!(server.pending() >= 16 * 1024, "{}", server.pending());
            assert_eq!(server.want(), "QTLS_OK");
        }
        on_the_way.drain(..consumed);
        most = most.max(server.pending());
        let (read, outcome) = server.read_all();
        assert_eq!(outcome, Ok(1));
        received.extend(read);
    }
    assert!(received == sent, "what came is not what was sent");
    assert!(refused && filled, "nothing was ever full");
    assert!(most <= 2 * (16 * 1024 + 256), "{most} bytes were kept");
}

#[test]
fn the_end_of_the_transport_is_told_from_the_end_of_the_data() {
    let (client_config, server_config) = configs();
    let (client, server) = connected(&client_config, &server_config);
    assert_eq!(client.write(b"last"), (4, Ok(0)));
    carry(&client, &server, usize::MAX).unwrap();
    let failed = server.feed_eof().unwrap_err();
    assert_eq!((failed.status, failed.fault, failed.sent), ("QTLS_E_TRUNCATED", 5, -1));
    assert_eq!(failed.message, "the peer closed the connection without a close_notify: what it sent may be incomplete");
    let (read, outcome) = server.read_all();
    assert_eq!((read.as_slice(), outcome.unwrap_err().status), (&b"last"[..], "QTLS_E_TRUNCATED"));

    let (client, server) = connected(&client_config, &server_config);
    assert_eq!(client.write(b"last"), (4, Ok(0)));
    assert_eq!(client.shutdown(), Ok(2), "it has to be drained");
    carry(&client, &server, usize::MAX).unwrap();
    assert_eq!(client.shutdown(), Ok(0), "again, and it has left");
    assert_eq!(server.feed(b"whatever comes after it"), (23, Ok(0)));
    assert_eq!(server.feed_eof(), Ok(0));
    assert_eq!(server.read_all(), (b"last".to_vec(), Ok(4)));
    assert_eq!(server.read(&mut [0; 1]), (0, Ok(4)), "and so it stays");
}

#[test]
fn one_direction_can_end_before_the_other() {
    let (client, server) = configs();
    let (client, server) = connected(&client, &server);
    client.shutdown().unwrap();
    carry(&client, &server, usize::MAX).unwrap();
    assert_eq!(server.read_all(), (Vec::new(), Ok(4)));
    assert_eq!(server.write(b"answer"), (6, Ok(0)));
    carry(&client, &server, usize::MAX).unwrap();
    assert_eq!(client.read_all(), (b"answer".to_vec(), Ok(1)));
    let (count, outcome) = client.write(b"more");
    let failed = outcome.unwrap_err();
    assert_eq!((count, failed.status, failed.fault), (0, "QTLS_E_SHUT_DOWN", 2));
    assert_eq!(failed.message, "the connection was shut down before");
    server.shutdown().unwrap();
    carry(&client, &server, usize::MAX).unwrap();
    assert_eq!(client.read_all(), (Vec::new(), Ok(4)), "reading goes on");
    assert_eq!((client.want(), server.want()), ("QTLS_OK", "QTLS_OK"));
}

#[test]
fn a_connection_that_is_shut_down_before_its_handshake_has_none() {
    let (client_config, server_config) = configs();
    let client = Conn::client(&client_config, "a.example");
    client.shutdown().unwrap();
    assert_eq!(client.handshake().unwrap_err().status, "QTLS_E_SHUT_DOWN");
    assert_eq!(client.read(&mut [0; 1]).1.unwrap_err().status, "QTLS_E_SHUT_DOWN");
    let server = Conn::server(&server_config);
    assert_eq!(server.shutdown(), Ok(0), "there is nothing to say yet");
    assert_eq!(server.handshake().unwrap_err().status, "QTLS_E_SHUT_DOWN");

    // From anybody on the way, a close_notify in the clear is worth nothing.
    let client = Conn::client(&client_config, "a.example");
    assert_eq!(client.feed(b"\x15\x03\x03\x00\x02\x01\x00"), (7, Ok(0)));
    assert_eq!(client.handshake(), Ok(3));
    let failed = client.feed_eof().unwrap_err();
    assert_eq!((failed.status, failed.fault), ("QTLS_E_TRUNCATED", 5));
}

#[test]
fn nothing_is_no_bytes() {
    let (client_config, server_config) = configs();
    let (client, server) = connected(&client_config, &server_config);
    assert_eq!(client.feed(b""), (0, Ok(0)));
    assert_eq!(client.write(b""), (0, Ok(0)));
    assert_eq!(client.read(&mut []), (0, Ok(0)));
    assert_eq!(client.drain_some(0), b"");
    assert_eq!(client.want(), "QTLS_WANT_READ", "nothing was sent for it");
    client.write(b"a").1.unwrap();
    carry(&client, &server, usize::MAX).unwrap();
    assert_eq!(server.read(&mut []), (0, Ok(0)));
    assert_eq!(server.pending(), 1);
}

#[test]
fn what_is_changed_on_the_way_is_refused() {
    let (client, server) = configs();
    let (client, server) = connected(&client, &server);
    client.write(b"first").1.unwrap();
    let mut bytes = client.drain();
    client.write(b"second").1.unwrap();
    bytes.extend(client.drain());
    *bytes.last_mut().unwrap() ^= 1;
    let (consumed, outcome) = server.feed(&bytes);
    let failed = outcome.unwrap_err();
    assert_eq!((consumed, failed.status, failed.fault, failed.sent), (bytes.len(), "QTLS_E_DECRYPT", 7, 20));
    let (read, outcome) = server.read_all();
    assert_eq!((read.as_slice(), outcome.unwrap_err().status), (&b"first"[..], "QTLS_E_DECRYPT"));
    let told = client.feed(&server.drain()).1.unwrap_err();
    assert_eq!((told.status, told.received), ("QTLS_E_ALERT", 20));
}

#[test]
fn what_is_not_tls_is_told() {
    let (client_config, server_config) = configs();
    let server = Conn::server(&server_config);
    let failed = server.feed(b"GET / HTTP/1.1\r\n\r\n").1.unwrap_err();
    assert_eq!((failed.status, failed.fault), ("QTLS_E_NOT_TLS", 7));
    assert_eq!((server.drain().len(), failed.sent > 0), (7, true), "an alert");
    let client = Conn::client(&client_config, "a.example");
    let failed = client.feed(b"HTTP/1.1 400 Bad Request\r\n\r\n").1.unwrap_err();
    assert_eq!((failed.status, failed.fault), ("QTLS_E_NOT_TLS", 7));
    // A ClientHello that never ends.
    let server = Conn::server(&server_config);
    let mut endless = vec![0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    endless.resize(5 + 0x4000, 0);
    let failed = (0..10).find_map(|round| {
        let record = if round == 0 { endless.clone() } else { [&[0x16, 3, 1, 0x40, 0][..], &[0; 0x4000]].concat() };
        server.feed(&record).1.err()
    });
    assert_eq!(failed.unwrap().status, "QTLS_E_NOT_TLS");
}

#[test]
fn the_transport_may_end_before_anything() {
    let (client_config, server_config) = configs();
    for conn in [Conn::client(&client_config, "a.example"), Conn::server(&server_config)] {
        let failed = conn.feed_eof().unwrap_err();
        assert_eq!((failed.status, failed.fault), ("QTLS_E_TRUNCATED", 5));
        assert_eq!(failed.message, "the peer closed the connection in the middle of the handshake");
        assert_eq!(conn.handshake().unwrap_err().status, "QTLS_E_TRUNCATED");
    }
}
