//! Peers that attack with what TLS and HTTP allow cost a bounded amount of memory, and everybody else is served meanwhile.
//!
//! All on one worker, so that the honest clients share it with the attackers. What it cost is printed; times depend on the
//! machine, and are not asserted.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use qtls_interop::Server;
use qtls_interop::rogue::{Rogue, h2};
use qtls_interop::siege::measure;
use qtls_interop::wire::connect;
use serde_json::{Value, json};

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_secs(2);
/// How long a handshake may take, in seconds: more than that of an honest client does on a busy machine, also behind
/// hundreds of others.
const HANDSHAKE: u32 = 12;
const MIB: u64 = 1 << 20;

/// A server with one worker.
fn server(changes: Value) -> Server {
    let mut config = json!({ "server": { "worker_threads": 1 } });
    qtls_interop::server::merge(&mut config, changes);
    Server::start(config)
}

/// A server in front of another one.
fn before(protocol: &str, upstream: u16, limits: Value) -> Server {
    let upstream = json!({ "protocol": protocol, "servers": [format!("127.0.0.1:{upstream}")] });
    server(json!({ "upstream": upstream, "limits": limits }))
}

/// A TCP server that takes everything and says nothing, and how many bytes it took.
fn sink() -> (u16, Arc<AtomicU64>) {
    let taken = Arc::new(AtomicU64::new(0));
    let count = taken.clone();
    let port = listen(move |mut stream| {
        let mut chunk = [0; 65_536];
        while let Ok(read) = stream.read(&mut chunk) {
            if read == 0 {
                return;
            }
            count.fetch_add(read as u64, Relaxed);
        }
    });
    (port, taken)
}

/// A TCP server that sends without end to everybody.
fn source() -> u16 {
    listen(|mut stream| while stream.write_all(&[b'x'; 65_536]).is_ok() {})
}

/// An HTTP server whose answers have hardly an end, and how many connections it had.
fn endless() -> (u16, Arc<AtomicU64>) {
    let connections = Arc::new(AtomicU64::new(0));
    let count = connections.clone();
    let port = listen(move |mut stream| {
        count.fetch_add(1, Relaxed);
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut byte) {
                Ok(1) => request.push(byte[0]),
                _ => return,
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
        while stream.write_all(&[b'x'; 65_536]).is_ok() {}
    });
    (port, connections)
}

fn listen(serve: impl Fn(TcpStream) + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(stream), serve) = (stream, serve.clone()) else { return };
            thread::spawn(move || serve(stream));
        }
    });
    port
}

/// Nobody is left, and who comes is served.
#[track_caller]
fn is_over(server: &Server) {
    server.metrics_when("no connection", |metrics| metrics.sum("qtls_connections_active", &[]) == 0.0);
    drop(Rogue::connect(server.port, &[]));
}

/// Waits for so many failed handshakes for this reason.
#[track_caller]
fn failures(server: &Server, reason: &str, count: usize) {
    server.metrics_when(&format!("{count} failures for {reason}"), |metrics| {
        metrics.sum("qtls_handshake_failures_total", &[("reason", reason)]) == count as f64
    });
}

#[test]
fn handshakes_of_single_bytes_end_in_time() {
    const COUNT: usize = 300;
    let server = server(json!({ "limits": { "handshake_timeout": HANDSHAKE } }));
    let hello = Rogue::before(connect(server.port), &[]).bytes();
    let (_, figures) = measure(&server, "300 ClientHellos, a byte at a time", || {
        let mut sockets: Vec<_> = (0..COUNT).map(|_| connect(server.port)).collect();
        for byte in &hello[..100] {
            for socket in &mut sockets {
                // Those that came first may be cut off first.
                let _ = socket.write_all(&[*byte]);
            }
        }
        failures(&server, "timeout", COUNT);
    });
    figures.expect_others_unaffected().expect_growth_below(COUNT as u64 * 64 * 1024);
    is_over(&server);
}

#[test]
fn handshakes_without_a_finished_end_in_time() {
    const COUNT: usize = 300;
    let server = server(json!({ "limits": { "handshake_timeout": HANDSHAKE } }));
    let (_, figures) = measure(&server, "300 clients that stop before Finished", || {
        let mut sockets: Vec<_> = (0..COUNT)
            .map(|_| {
                let mut rogue = Rogue::before(connect(server.port), &[]);
                rogue.flush().unwrap();
                rogue
            })
            .collect();
        failures(&server, "timeout", COUNT);
        for rogue in &mut sockets {
            // The server's whole flight was there.
            let mut flight = Vec::new();
            let _ = rogue.socket.read_to_end(&mut flight);
            assert!(flight.len() > 1000, "{} bytes", flight.len());
        }
    });
    figures.expect_others_unaffected().expect_growth_below(COUNT as u64 * 128 * 1024);
    is_over(&server);
}

#[test]
fn client_hellos_as_long_as_they_may_be_are_held_no_longer_than_others() {
    const COUNT: usize = 100;
    let server = server(json!({ "limits": { "handshake_timeout": HANDSHAKE } }));
    // A ClientHello of 60,000 bytes, of which 59,000 come.
    let mut part = vec![1, 0, 0xea, 0x60];
    part.resize(59_000, 0);
    let records: Vec<u8> = part
        .chunks(1 << 14)
        .flat_map(|part| [&[22, 3, 1][..], &u16::try_from(part.len()).unwrap().to_be_bytes(), part].concat())
        .collect();
    let (_, figures) = measure(&server, "100 ClientHellos of 59 of 60 KB", || {
        let sockets: Vec<_> = (0..COUNT)
            .map(|_| {
                let mut socket = connect(server.port);
                socket.write_all(&records).unwrap();
                socket
            })
            .collect();
        failures(&server, "timeout", COUNT);
        drop(sockets);
    });
    figures.expect_others_unaffected().expect_growth_below(COUNT as u64 * 512 * 1024);
    is_over(&server);
}

#[test]
fn key_updates_without_data_are_refused_after_a_few() {
    let (port, _) = sink();
    let server = before("tcp", port, json!({}));
    for (count, allowed) in [(32, true), (33, false)] {
        let mut rogue = Rogue::connect(server.port, &[]);
        for _ in 0..count {
            rogue.queue_key_update();
        }
        rogue.flush().unwrap();
        let end = rogue.finish();
        assert_eq!(end == "close_notify", allowed, "{end} after {count}");
    }
    is_over(&server);
}

#[test]
fn key_updates_between_data_cost_no_memory() {
    let (port, taken) = sink();
    let server = before("tcp", port, json!({}));
    // As many as are allowed between two records of data. It reads nothing.
    let mut rogue = Rogue::connect(server.port, &[]);
    let mut rounds = 0;
    let (_, figures) = measure(&server, "KeyUpdates, 32 to a byte of data", || {
        let begin = Instant::now();
        while begin.elapsed() < FLOOD {
            for _ in 0..100 {
                for _ in 0..32 {
                    rogue.queue_key_update();
                }
                rogue.queue(b"x");
                rounds += 1;
            }
            rogue.flush().unwrap();
        }
    });
    figures.expect_others_unaffected().expect_growth_below(8 * MIB);
    assert_eq!(rogue.finish(), "close_notify");
    is_over(&server);
    assert_eq!(taken.load(Relaxed), rounds);
}

#[test]
fn records_of_one_byte_cost_no_memory() {
    let (port, taken) = sink();
    let server = before("tcp", port, json!({}));
    let mut rogue = Rogue::connect(server.port, &[]);
    let mut sent = 0;
    let (_, figures) = measure(&server, "records of one byte", || {
        let begin = Instant::now();
        while begin.elapsed() < FLOOD {
            rogue.queue_single_bytes(&[b'x'; 10_000]);
            rogue.flush().unwrap();
            sent += 10_000;
        }
    });
    figures.expect_others_unaffected().expect_growth_below(8 * MIB);
    assert_eq!(rogue.finish(), "close_notify");
    is_over(&server);
    assert_eq!(taken.load(Relaxed), sent);
}

#[test]
fn records_of_one_byte_cost_no_memory_in_http_either() {
    let (port, _) = sink();
    let server = before("http", port, json!({}));
    let mut rogue = Rogue::connect(server.port, &["http/1.1"]);
    rogue.send(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000000\r\n\r\n").unwrap();
    let (_, figures) = measure(&server, "a request body in records of one byte", || {
        let begin = Instant::now();
        while begin.elapsed() < FLOOD {
            rogue.queue_single_bytes(&[b'x'; 10_000]);
            rogue.flush().unwrap();
        }
    });
    figures.expect_others_unaffected().expect_growth_below(8 * MIB);
    drop(rogue);
    is_over(&server);
}

#[test]
fn empty_records_are_refused_after_a_few() {
    let (port, taken) = sink();
    let server = before("tcp", port, json!({}));
    let mut rogue = Rogue::connect(server.port, &[]).into_records();
    let mut bytes = Vec::new();
    for round in 0..1000 {
        for _ in 0..32 {
            bytes.extend(rogue.data(b""));
        }
        bytes.extend(rogue.data(&[b'x'; 1]));
        assert!(round < 1000);
    }
    rogue.socket.write_all(&bytes).unwrap();
    let begin = Instant::now();
    while taken.load(Relaxed) < 1000 && begin.elapsed() < qtls_interop::process::PATIENCE {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(taken.load(Relaxed), 1000, "32 in a row are allowed");
    let too_many: Vec<_> = (0..33).flat_map(|_| rogue.data(b"")).collect();
    rogue.socket.write_all(&too_many).unwrap();
    is_over(&server);
}

#[test]
fn readers_that_read_nothing_hold_a_bounded_amount_and_end_with_the_idle_timeout() {
    const COUNT: usize = 100;
    let server = before("tcp", source(), json!({ "idle_timeout": 2 }));
    let (_, figures) = measure(&server, "100 readers of an endless stream that read nothing", || {
        let readers: Vec<_> = (0..COUNT).map(|_| Rogue::connect(server.port, &[])).collect();
        server.metrics_when("all of them ended", |metrics| {
            metrics.sum("qtls_limit_hits_total", &[("limit", "idle_timeout")]) >= COUNT as f64
        });
        drop(readers);
    });
    // 256 KiB of ciphertext for each, and what is allocated for it.
    figures.expect_others_unaffected().expect_growth_below(COUNT as u64 * 640 * 1024);
    is_over(&server);
}

#[test]
fn readers_of_http_that_read_nothing_end_with_the_idle_timeout() {
    const COUNT: usize = 50;
    let (port, _) = endless();
    let server = before("http", port, json!({ "idle_timeout": 2 }));
    let (_, figures) = measure(&server, "50 readers of an endless response that read nothing", || {
        let readers: Vec<_> = (0..COUNT)
            .map(|_| {
                let mut rogue = Rogue::connect(server.port, &["http/1.1"]);
                rogue.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                rogue
            })
            .collect();
        server.metrics_when("all of them ended", |metrics| {
            metrics.sum("qtls_limit_hits_total", &[("limit", "idle_timeout")]) >= COUNT as f64
        });
        drop(readers);
    });
    figures.expect_others_unaffected().expect_growth_below(COUNT as u64 * 640 * 1024);
    is_over(&server);
}

#[test]
fn heads_of_single_bytes_end_in_time() {
    const COUNT: usize = 200;
    let server = server(json!({ "limits": { "idle_timeout": 2 } }));
    let (_, figures) = measure(&server, "200 request heads, a byte at a time", || {
        let mut clients: Vec<_> = (0..COUNT)
            .map(|_| {
                let mut client = Rogue::connect(server.port, &["http/1.1"]);
                client.send(b"GET / HTTP/1.1\r\nX: ").unwrap();
                client
            })
            .collect();
        let begin = Instant::now();
        let mut open = COUNT;
        while open > 0 {
            assert!(begin.elapsed() < qtls_interop::process::PATIENCE, "{open} of {COUNT} are still open");
            open = clients.iter_mut().map(|client| usize::from(client.send(b"x").is_ok())).sum();
            thread::sleep(Duration::from_millis(50));
        }
    });
    figures.expect_others_unaffected().expect_growth_below(COUNT as u64 * 64 * 1024);
    is_over(&server);
}

#[test]
fn requests_without_a_reader_of_their_answers_wait() {
    let server = server(json!({ "limits": { "idle_timeout": 2 } }));
    let mut rogue = Rogue::connect(server.port, &["http/1.1"]);
    let (_, figures) = measure(&server, "pipelined requests whose answers nobody reads", || {
        let requests = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(10_000);
        rogue.socket.set_write_timeout(Some(FLOOD)).unwrap();
        // The server stops reading long before the end.
        let sent = (0..1000).take_while(|_| rogue.send(&requests).is_ok()).count();
        assert!(sent < 1000, "{sent} times 10,000 requests");
    });
    figures.expect_others_unaffected().expect_growth_below(8 * MIB);
    is_over(&server);
}

/// An HTTP/2 connection on which nothing has been read.
fn http2(server: &Server) -> Rogue {
    let mut rogue = Rogue::connect(server.port, &["h2"]);
    rogue.send(&h2::preface()).expect("the server reads");
    rogue
}

#[test]
fn settings_and_pings_without_a_reader_wait() {
    let server = server(json!({ "limits": { "idle_timeout": 2 } }));
    for (what, flood) in [
        ("a flood of SETTINGS", h2::frame(h2::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
        ("a flood of PINGs", h2::frame(h2::PING, 0, 0, &[0; 8])),
    ] {
        let mut rogue = http2(&server);
        let (_, figures) = measure(&server, what, || {
            let begin = Instant::now();
            rogue.socket.set_write_timeout(Some(FLOOD)).unwrap();
            while begin.elapsed() < FLOOD {
                rogue.queue(&flood.repeat(2000));
                if rogue.flush().is_err() {
                    break;
                }
            }
        });
        figures.expect_others_unaffected().expect_growth_below(8 * MIB);
        drop(rogue);
        is_over(&server);
    }
}

#[test]
fn a_header_block_without_end_is_refused() {
    let server = server(json!({}));
    let mut rogue = http2(&server);
    let mut flood = h2::frame(h2::HEADERS, h2::END_STREAM, 1, &h2::get("/"));
    for _ in 0..10_000 {
        flood.extend(h2::frame(h2::CONTINUATION, 0, 1, &[0x0f, 0x00, 1, b'x']));
    }
    let (frames, figures) = measure(&server, "CONTINUATION without end", || {
        // It may be refused before all of it is sent.
        let _ = rogue.send(&flood);
        h2::until_end(&mut rogue)
    });
    assert_eq!(h2::goaway(&frames.0), Some(h2::ENHANCE_YOUR_CALM), "{frames:?}");
    figures.expect_others_unaffected().expect_growth_below(8 * MIB);
    is_over(&server);
}

#[test]
fn headers_that_are_large_only_when_unpacked_are_refused() {
    let server = server(json!({}));
    let mut rogue = http2(&server);
    // An entry of 4000 bytes for the dynamic table (RFC 7541, section 6.2.1), and 12,000 times the same by its index.
    let mut block = h2::get("/");
    block.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    block.extend([b'y'; 4000]);
    block.extend([0xbe; 12_000]);
    let (frames, figures) = measure(&server, "a header bomb: 16 KB that are 48 MB", || {
        for stream in 0..100 {
            let block = if stream == 0 { block.clone() } else { [h2::get("/"), vec![0xbe; 15_000]].concat() };
            let flags = h2::END_STREAM | h2::END_HEADERS;
            if rogue.send(&h2::frame(h2::HEADERS, flags, 2 * stream + 1, &block)).is_err() {
                break;
            }
        }
        h2::until_end(&mut rogue)
    });
    assert!(h2::goaway(&frames.0).is_some(), "{frames:?}");
    figures.expect_others_unaffected().expect_growth_below(16 * MIB);
    is_over(&server);
}

/// Requests 1, 3, 5, …, and the frames that take them back.
fn taken_back(streams: impl Iterator<Item = u32>) -> (Vec<u8>, Vec<u8>) {
    const CANCEL: [u8; 4] = 8_u32.to_be_bytes();
    let flags = h2::END_STREAM | h2::END_HEADERS;
    streams
        .map(|stream| {
            let request = h2::frame(h2::HEADERS, flags, stream, &h2::get("/"));
            (request, h2::frame(h2::RST_STREAM, 0, stream, &CANCEL))
        })
        .fold(Default::default(), |(mut requests, mut ends): (Vec<_>, Vec<_>), (request, end)| {
            requests.extend(request);
            ends.extend(end);
            (requests, ends)
        })
}

#[test]
fn requests_that_are_taken_back_at_once_are_refused() {
    let (port, connections) = endless();
    let server = before("http", port, json!({}));
    let mut rogue = http2(&server);
    let (frames, figures) = measure(&server, "10,000 requests, each taken back in the same packet", || {
        for stream in (1..20_001).step_by(2) {
            let (request, end) = taken_back(std::iter::once(stream));
            rogue.queue(&[request, end].concat());
        }
        let _ = rogue.flush();
        h2::until_end(&mut rogue)
    });
    assert_eq!(h2::goaway(&frames.0), Some(h2::ENHANCE_YOUR_CALM), "{frames:?}");
    figures.expect_others_unaffected().expect_growth_below(16 * MIB);
    is_over(&server);
    let connections = connections.load(Relaxed);
    assert!(connections < 100, "{connections} connections to the upstream");
}

#[test]
fn requests_that_are_taken_back_when_an_upstream_works_on_them_are_too_many_at_some_point() {
    let (port, connections) = endless();
    let server = before("http", port, json!({}));
    let mut rogue = http2(&server);
    let (ended, figures) = measure(&server, "requests, each taken back when the upstream has it", || {
        let mut streams = (1..).step_by(2);
        let begin = Instant::now();
        while begin.elapsed() < 2 * qtls_interop::process::PATIENCE {
            let before = connections.load(Relaxed);
            let (requests, ends) = taken_back(streams.by_ref().take(20));
            if rogue.send(&requests).is_err() {
                return true;
            }
            // Until the upstream has them all: taken back before, they would be another kind of flood. Of a connection that
            // the server has ended by now, it never gets them.
            let sent = Instant::now();
            while connections.load(Relaxed) < before + 20 && sent.elapsed() < Duration::from_secs(10) {
                thread::sleep(Duration::from_millis(1));
            }
            if rogue.send(&ends).is_err() {
                return true;
            }
        }
        false
    });
    assert!(ended, "{}", server.log());
    server.wait_for_log("reason=requests_taken_back");
    figures.expect_others_unaffected().expect_growth_below(16 * MIB);
    is_over(&server);
    let connections = connections.load(Relaxed);
    assert!((500..700).contains(&connections), "{connections} connections to the upstream");
}

#[test]
fn responses_whose_windows_stay_closed_hold_a_bounded_amount() {
    let (port, _) = endless();
    // More than a busy machine needs between two of the 200 heads.
    let server = before("http", port, json!({ "idle_timeout": 6 }));
    let mut rogue = http2(&server);
    let (_, figures) = measure(&server, "200 endless responses, whose windows stay closed", || {
        // SETTINGS_INITIAL_WINDOW_SIZE 0.
        let mut flood = h2::frame(h2::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        for stream in (1..400).step_by(2) {
            flood.extend(h2::frame(h2::HEADERS, h2::END_STREAM | h2::END_HEADERS, stream, &h2::get("/")));
        }
        rogue.send(&flood).unwrap();
        let (frames, _) = h2::until_end(&mut rogue);
        assert!(frames.iter().filter(|frame| frame.kind == h2::HEADERS).count() == 200, "{}", frames.len());
    });
    figures.expect_others_unaffected().expect_growth_below(64 * MIB);
    is_over(&server);
}
