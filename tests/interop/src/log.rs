//! Log files as a machine reads them.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::PATIENCE;
use crate::wire;

/// The lines of a file of JSON lines; none where there is no file.
///
/// # Panics
/// When a line is no JSON object, or is not ended.
#[track_caller]
pub fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "the last line isn't ended:\n{text}");
    text.lines().map(parse).collect()
}

/// The lines of a file of JSON lines that are `wanted`, as soon as there are `count` of them.
///
/// # Panics
/// When there aren't within [`PATIENCE`], or there are more.
#[track_caller]
pub fn wait_for(path: &Path, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        // A line is written in one step, but may be read before it is.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let found: Vec<_> = whole.lines().map(parse).filter(&wanted).collect();
        assert!(found.len() <= count, "{} lines, and not {count}, in\n{text}", found.len());
        if found.len() == count {
            return found;
        }
        assert!(Instant::now() < deadline, "{} lines, and not {count}, in {}:\n{text}", found.len(), path.display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The lines about connections of a file of JSON lines, as soon as there are `count`.
///
/// # Panics
/// As [`wait_for`].
#[track_caller]
pub fn connections(path: &Path, count: usize) -> Vec<Value> {
    wait_for(path, count, |line| matches!(line["event"].as_str(), Some("connection" | "handshake_failed")))
}

/// Has a server refuse `count` clients that speak TLS 1.2 and no later version, one after the other. They ask for
/// `a.example`.
///
/// # Panics
/// As [`refuse`].
#[track_caller]
pub fn refusals(port: u16, count: usize) {
    (0..count).for_each(|_| refuse(port, "a.example"));
}

/// Has a server refuse a client that speaks TLS 1.2 and no later version.
///
/// # Panics
/// When it gets another alert than `protocol_version`.
#[track_caller]
pub fn refuse(port: u16, server_name: &str) {
    const PROTOCOL_VERSION: u8 = 70;
    let mut stream = wire::connect(port);
    stream.write_all(&tls_1_2_hello(server_name)).expect("the server reads");
    let answer = wire::read_to_end(&mut stream);
    assert_eq!(wire::alert(&answer), Some(PROTOCOL_VERSION), "{answer:?}");
}

fn parse(line: &str) -> Value {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    assert!(value.is_object(), "{line}");
    value
}

/// A ClientHello of TLS 1.2 (RFC 5246, section 7.4.1.2) that offers secp256r1 and a GREASE group.
fn tls_1_2_hello(name: &str) -> Vec<u8> {
    let length = name.len() as u16;
    let mut server_name = (length + 3).to_be_bytes().to_vec();
    server_name.push(0);
    server_name.extend_from_slice(&length.to_be_bytes());
    server_name.extend_from_slice(name.as_bytes());
    let extensions: &[(u16, &[u8])] = &[
        (0, &server_name),
        // supported_groups: 0x1a1a, secp256r1, 0x4242
        (10, b"\x00\x06\x1a\x1a\x00\x17\x42\x42"),
        // signature_algorithms: ecdsa_secp256r1_sha256, rsa_pss_rsae_sha256, 0x0808
        (13, b"\x00\x06\x04\x03\x08\x04\x08\x08"),
    ];
    let mut extended = Vec::new();
    for (kind, body) in extensions {
        extended.extend_from_slice(&kind.to_be_bytes());
        extended.extend_from_slice(&(body.len() as u16).to_be_bytes());
        extended.extend_from_slice(body);
    }
    let mut body = vec![3, 3];
    body.extend_from_slice(&[7; 32]);
    // No session, one suite (TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256), no compression.
    body.extend_from_slice(&[0, 0, 2, 0xc0, 0x2b, 1, 0]);
    body.extend_from_slice(&(extended.len() as u16).to_be_bytes());
    body.extend_from_slice(&extended);
    let mut record = vec![22, 3, 1];
    record.extend_from_slice(&(body.len() as u16 + 4).to_be_bytes());
    record.extend_from_slice(&[1, 0]);
    record.extend_from_slice(&(body.len() as u16).to_be_bytes());
    record.extend_from_slice(&body);
    record
}
