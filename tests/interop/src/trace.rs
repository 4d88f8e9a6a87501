//! What OpenSSL's message trace says was negotiated: `s_client -trace`, `s_server -trace`, and Node's `enableTrace`.
//!
//! The trace shows the messages themselves, so it says what went over the wire whichever side prints it.

use crate::negotiated::{Negotiated, group_name};
use crate::process::{Output, PATIENCE};

/// Asserts that the program whose trace goes to `output` made exactly these handshakes, as soon as it has traced them.
///
/// # Panics
/// When it made others.
#[track_caller]
pub fn expect_handshakes(output: &Output, expected: &[Negotiated]) {
    if !output.becomes(PATIENCE, |trace| handshakes(trace) == expected) {
        assert_eq!(handshakes(&output.text()), expected);
    }
}

/// Reads the handshakes of a trace, one after another as they were completed.
///
/// # Panics
/// When a ServerHello has no group or suite, which TLS 1.3 with (EC)DHE doesn't allow.
pub fn handshakes(trace: &str) -> Vec<Negotiated> {
    let mut found = Vec::new();
    let mut hellos = 0;
    let mut current: Option<Negotiated> = None;
    let mut lines = trace.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        if line.starts_with("ClientHello,") {
            hellos += 1;
            if hellos == 1 {
                found.extend(current.take());
            }
        } else if line.starts_with("ServerHello,") {
            // Where it breaks off, its rest is still to come.
            let Some((group, suite, resumed, has_share)) = server_hello(&mut lines) else { break };
            // A HelloRetryRequest is a ServerHello that names a group and has no share (RFC 9846 §4.2.4).
            if !has_share {
                continue;
            }
            current = Some(Negotiated { group, scheme: None, suite, resumed, hello_retry_request: hellos > 1 });
            hellos = 0;
        } else if line.starts_with("Level=fatal") {
            // What was begun ended here; the next ClientHello begins anew.
            hellos = 0;
        } else if line.starts_with("CertificateVerify,") {
            let scheme = lines.next().and_then(|line| line.strip_prefix("Signature Algorithm: "));
            // The first one is the server's; a client's follows it.
            if let (Some(current), Some(scheme)) = (&mut current, scheme)
                && current.scheme.is_none()
            {
                current.scheme = scheme.split(' ').next().map(str::to_owned);
            }
        }
    }
    found.extend(current);
    found
}

/// Group, suite, whether a session is resumed, and whether there is a key share rather than the request of one. `None`
/// where the trace ends within the message.
fn server_hello<'a>(
    lines: &mut std::iter::Peekable<impl Iterator<Item = &'a str>>,
) -> Option<(String, String, bool, bool)> {
    let (mut group, mut suite, mut resumed, mut has_share) = (None, None, false, false);
    // The message ends at the empty line behind it, or where the next record begins.
    while let Some(line) = lines.next_if(|line| !line.is_empty() && !line.contains("TLS Record")) {
        if line.starts_with("cipher_suite ") {
            suite = line.rsplit(' ').next();
        } else if let Some(name) = line.strip_prefix("NamedGroup: ") {
            group = name.split(' ').next();
        } else if line.starts_with("key_exchange:") {
            has_share = true;
        } else if line.starts_with("extension_type=pre_shared_key") || line.starts_with("extension_type=psk(") {
            resumed = true;
        }
    }
    if (group.is_none() || suite.is_none()) && lines.peek().is_none() {
        return None;
    }
    let group = group.unwrap_or_else(|| panic!("a ServerHello without a group"));
    let suite = suite.unwrap_or_else(|| panic!("a ServerHello without a suite"));
    Some((group_name(group).to_owned(), suite.to_owned(), resumed, has_share))
}
