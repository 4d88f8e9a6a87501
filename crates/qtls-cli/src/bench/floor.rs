//! The floor: what the cryptography of a handshake costs by itself, and what a plain TCP connection costs.

use std::fmt::Write as _;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use qtls_core::credentials::{generate, signing_key};
use qtls_core::policy::{CipherSuite, Group, KeyAlgorithm, Named, Policy};
use qtls_core::provider::provider;
use qtls_core::{Error, Result};
use rustix::time::{ClockId, clock_gettime};
use rustls::crypto::SupportedKxGroup;
use serde_json::{Map, Value};

use super::arguments::Crypto;
use super::report::rounded;
use super::site::group;
use crate::ui;

/// The keys whose signatures are measured.
const KEYS: [KeyAlgorithm; 8] = [
    KeyAlgorithm::EcdsaP256,
    KeyAlgorithm::EcdsaP384,
    KeyAlgorithm::Ed25519,
    KeyAlgorithm::Rsa2048,
    KeyAlgorithm::Rsa4096,
    KeyAlgorithm::MlDsa44,
    KeyAlgorithm::MlDsa65,
    KeyAlgorithm::MlDsa87,
];

/// A CertificateVerify signs about as much: 64 spaces, a context, and the hash of the handshake (RFC 9846 §4.5.3).
const SIGNED: [u8; 146] = [0x20; 146];

/// Measures what the cryptography and a plain TCP connection cost.
///
/// # Errors
/// A key can't be made, or the loopback interface doesn't work.
pub(super) fn crypto(options: &Crypto) -> Result<()> {
    let groups = match &options.group {
        Some(name) => vec![group(name)?],
        None => Group::ALL.to_vec(),
    };
    let keys: Vec<_> = match &options.signature {
        Some(name) => {
            let key = KEYS.into_iter().find(|key| key.name() == name);
            vec![key.ok_or_else(|| {
                Error::configuration(format!("signatures of {name:?} are not measured"))
                    .at("--signature")
                    .hint(format!("choose one of {}", KEYS.map(KeyAlgorithm::name).join(", ")))
            })?]
        }
        None => KEYS.to_vec(),
    };
    let connection = connection(options.count)?;
    let provider = provider(&groups, CipherSuite::ALL);
    let mut exchanges = Vec::new();
    for (group, exchange) in groups.iter().zip(&provider.kx_groups) {
        exchanges.push((group.iana_name(), server_share(*exchange, options.count)?));
    }
    let mut signatures = Vec::new();
    for key in keys {
        signatures.push((key.name(), signature(key, options.count)?));
    }
    let text = match options.json {
        true => format!("{}\n", as_json(connection, &exchanges, &signatures)),
        false => as_text(connection, &exchanges, &signatures),
    };
    ui::print(&mut io::stdout().lock(), &text)
}

type Costs = [(&'static str, f64)];

fn as_json(connection: f64, exchanges: &Costs, signatures: &Costs) -> Value {
    let all =
        |costs: &Costs| Value::Object(costs.iter().map(|(name, cost)| ((*name).to_owned(), rounded(*cost))).collect());
    let mut map = Map::new();
    map.insert("command".to_owned(), "crypto".into());
    map.insert("tcp_connection_us".to_owned(), rounded(connection));
    map.insert("exchange_us".to_owned(), all(exchanges));
    map.insert("signature_us".to_owned(), all(signatures));
    Value::Object(map)
}

fn as_text(connection: f64, exchanges: &Costs, signatures: &Costs) -> String {
    let mut text = format!("processor time of the server, in µs; a plain TCP connection: {connection:.1}\n\n");
    let _ = writeln!(text, "{:<20} {:>10}", "key exchange", "");
    for (name, cost) in exchanges {
        let _ = writeln!(text, "{name:<20} {cost:>10.1}");
    }
    let _ = writeln!(text, "\n{:<20} {:>10}", "signature", "");
    for (name, cost) in signatures {
        let _ = writeln!(text, "{name:<20} {cost:>10.1}");
    }
    let _ = write!(text, "\n{:<20}", "a handshake's floor");
    for (group, _) in exchanges {
        let _ = write!(text, " {group:>18}");
    }
    text.push('\n');
    for (key, signature) in signatures {
        let _ = write!(text, "{key:<20}");
        for (_, exchange) in exchanges {
            let _ = write!(text, " {:>18.0}", connection + exchange + signature);
        }
        text.push('\n');
    }
    text
}

/// The server's part of a key exchange: a share of its own, and the secret.
fn server_share(group: &dyn SupportedKxGroup, count: u32) -> Result<f64> {
    let failed = |error: rustls::Error| Error::internal(format!("{:?} fails: {error}", group.name()));
    let share = group.start().map_err(failed)?.pub_key().to_vec();
    each(count, || group.start_and_complete(black_box(&share)).map(drop).map_err(failed))
}

fn signature(algorithm: KeyAlgorithm, count: u32) -> Result<f64> {
    let key = signing_key(&*generate(algorithm)?)?;
    let offered = Policy::default().schemes();
    let signer = key
        .choose_scheme(&offered)
        .ok_or_else(|| Error::internal(format!("there is no scheme for {}", algorithm.name())))?;
    each(count, || {
        signer
            .sign(black_box(&SIGNED))
            .map(drop)
            .map_err(|error| Error::internal(format!("a signature failed: {error}")))
    })
}

/// The cost of one of `count` repetitions, in microseconds: the median of five rounds.
fn each(count: u32, mut once: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut rounds = [0.0; 5];
    once()?;
    for round in &mut rounds {
        let begun = thread_time();
        for _ in 0..count.div_ceil(5) {
            once()?;
        }
        *round = (thread_time() - begun).as_secs_f64() * 1e6 / f64::from(count.div_ceil(5));
    }
    rounds.sort_by(f64::total_cmp);
    Ok(rounds[2])
}

/// Accepting a connection, reading a message, answering it, closing.
fn connection(count: u32) -> Result<f64> {
    let failed = |error: io::Error| Error::internal(format!("the loopback interface fails: {error}"));
    let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let serve = move || -> io::Result<Duration> {
        let mut buffer = [0; 2048];
        let begun = thread_time();
        for _ in 0..count {
            let (mut socket, _) = listener.accept()?;
            let read = socket.read(&mut buffer)?;
            socket.write_all(&buffer[..read])?;
        }
        Ok(thread_time() - begun)
    };
    let server = std::thread::spawn(serve);
    for _ in 0..count {
        let mut socket = TcpStream::connect(address).map_err(failed)?;
        socket.write_all(&[b'q'; 1400]).map_err(failed)?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).map_err(failed)?;
    }
    let took = server.join().map_err(|_| Error::internal("a thread panicked"))?.map_err(failed)?;
    Ok(took.as_secs_f64() * 1e6 / f64::from(count))
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
