//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use qtls_core::version::VERSION;

/// Measure a TLS 1.3 server: handshakes, resumption, requests, throughput, idle connections
///
/// Every connection is verified, and what it negotiated is compared with what was asked for: a run in which one connection
/// fails, or gets another group, signature, suite or certificate, is no measurement, and ends with an error.
///
/// With --pid, the processor time and the memory of the server (with all its child processes) are measured too, and the
/// port has to be theirs.
///
/// Connections to the loopback interface come from an address of 127.64.0.0/12 each: one address has too few ports.
#[derive(Parser, Debug)]
#[command(name = super::PROGRAM, version = VERSION, after_help = SHORT, after_long_help = LONG)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

const SHORT: &str = "Exit codes: 0 measured, 1 internal error, 2 wrong use, 3 connection, 4 not verified, 5 handshake, 6 not \
                     what was asked for";

/// The end of `--help`. Lines fit 80 columns: where a terminal is narrower, they are broken once more.
const LONG: &str = "\
Units:
  Rates are per second. Latencies are microseconds of wall clock, from the
  first packet of a connection or request (with --rate: from when it was due).
  Processor time is microseconds or seconds of the server, in user and system
  mode, of all its processes. Memory is the proportional set size (PSS) in KiB.
  GB is 10^9 bytes.

Exit codes:
  0  measured
  1  an internal error, or standard output failed
  2  wrong use
  3  no connection, or a broken one
  4  the server is not verified
  5  the handshake failed
  6  what was negotiated is not what was asked for

Examples:
  Handshakes as browsers make them, and what they cost the server:
      qtls-bench handshakes localhost:8443 --ca ca-bundle.pem --pid $(pidof qtls-server)
  The same with P-384 and ML-KEM-1024, and a certificate of ML-DSA-65:
      qtls-bench handshakes localhost:8443 --ca ca-bundle.pem --group secp384r1mlkem1024 --signature ml-dsa-65
  What this machine can do at best:
      qtls-bench crypto";

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Full handshakes, each on a connection of its own, without resumption
    Handshakes(Handshakes),
    /// Handshakes that resume a session, each with the ticket of the one before
    Resume(Handshakes),
    /// HTTP/1.1 requests on connections that stay open
    Requests(Requests),
    /// Bodies of HTTP/1.1, down from the server, up to it, or both
    Throughput(Throughput),
    /// The memory of idle connections, and what handshakes cost beside them
    Idle(Idle),
    /// What the cryptography of a handshake and a plain TCP connection cost on this machine: the floor of all servers
    Crypto(Crypto),
    /// A server of plain HTTP/1.1 to stand behind the one that is measured: /bytes/N has N bytes, POST takes any number
    Backend(Backend),
}

/// Whom to connect to, and what to agree on.
#[derive(Args, Debug)]
pub(super) struct Target {
    /// The server, as HOST:PORT
    #[arg(value_name = "HOST:PORT")]
    pub(super) server: String,
    /// Trust the CA certificates in this PEM file; without it, those of the system
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Ask for, and verify, this name instead of HOST
    #[arg(long, value_name = "NAME")]
    pub(super) server_name: Option<String>,
    /// Offer this group alone, such as x25519mlkem768 or secp384r1mlkem1024
    #[arg(long, value_name = "NAME", default_value = "x25519mlkem768")]
    pub(super) group: String,
    /// Offer this suite alone: aes-256-gcm, aes-128-gcm or chacha20-poly1305
    #[arg(long, value_name = "NAME", default_value = "aes-256-gcm")]
    pub(super) suite: String,
    /// Accept this kind of key alone in the server's certificate, such as ecdsa-p256, rsa-2048 or ml-dsa-65
    #[arg(long, value_name = "NAME")]
    pub(super) signature: Option<String>,
    /// The server has to show the first certificate of this PEM file
    #[arg(long, value_name = "FILE")]
    pub(super) certificate: Option<PathBuf>,
    /// Measure this process and all its children: the port has to be theirs
    #[arg(long, value_name = "PID")]
    pub(super) pid: Option<u32>,
    /// Print one line of JSON instead of text
    #[arg(long)]
    pub(super) json: bool,
}

/// How much, and how fast.
#[derive(Args, Debug)]
pub(super) struct Amount {
    /// How many to measure
    #[arg(short, long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: u64,
    /// Do so many before measuring
    #[arg(long, value_name = "N", default_value_t = 200)]
    pub(super) warm_up: u64,
    /// So many at a time
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) concurrency: u32,
    /// Generate the load with so many threads
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(super) threads: u32,
    /// Begin so many a second, whatever the server does, and count the latency from when each was due; without it, each
    /// begins when one has ended
    #[arg(long, value_name = "N")]
    pub(super) rate: Option<f64>,
}

#[derive(Args, Debug)]
pub(super) struct Handshakes {
    #[command(flatten)]
    pub(super) target: Target,
    #[command(flatten)]
    pub(super) amount: Amount,
    /// On each connection, also make one request for this path
    #[arg(long, value_name = "PATH")]
    pub(super) request: Option<String>,
}

#[derive(Args, Debug)]
pub(super) struct Requests {
    #[command(flatten)]
    pub(super) target: Target,
    #[command(flatten)]
    pub(super) amount: Amount,
    /// What to ask for
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub(super) path: String,
    /// So many requests on each connection, then a new one; without it, one connection for all
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) per_connection: Option<u64>,
}

#[derive(Args, Debug)]
pub(super) struct Throughput {
    #[command(flatten)]
    pub(super) target: Target,
    /// So many bytes in all, such as 2G or 500M
    #[arg(long, value_name = "BYTES", default_value = "2G", value_parser = bytes)]
    pub(super) bytes: u64,
    /// So many bytes in one body
    #[arg(long, value_name = "BYTES", default_value = "64M", value_parser = bytes)]
    pub(super) body: u64,
    /// Which way
    #[arg(long, value_enum, default_value_t = Direction::Down)]
    pub(super) direction: Direction,
    /// So many connections at a time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) concurrency: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Direction {
    /// From the server: GET /bytes/N.
    Down,
    /// To the server: POST /.
    Up,
    /// Half of the connections each.
    Both,
}

#[derive(Args, Debug)]
pub(super) struct Idle {
    #[command(flatten)]
    pub(super) target: Target,
    /// How many idle connections
    #[arg(short, long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(super) connections: u32,
    /// First make one request for this path on each
    #[arg(long, value_name = "PATH")]
    pub(super) request: Option<String>,
    /// Before and beside the idle ones, measure so many handshakes
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub(super) newcomers: u64,
    /// Let the server come to rest for so many seconds before its memory is read
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub(super) settle: Duration,
}

#[derive(Args, Debug)]
pub(super) struct Crypto {
    /// Repeat each so many times
    #[arg(short, long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) count: u32,
    /// Measure this group alone, such as x25519mlkem768
    #[arg(long, value_name = "NAME")]
    pub(super) group: Option<String>,
    /// Measure signatures of this kind of key alone, such as ecdsa-p256
    #[arg(long, value_name = "NAME")]
    pub(super) signature: Option<String>,
    /// Print one line of JSON instead of text
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub(super) struct Backend {
    /// Where to listen; port 0 has the system choose one, which is printed
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(super) listen: SocketAddr,
}

/// A number of bytes, with K, M or G for powers of ten.
fn bytes(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 1_000),
        Some((at, 'M' | 'm')) => (&text[..at], 1_000_000),
        Some((at, 'G' | 'g')) => (&text[..at], 1_000_000_000),
        _ => (text, 1),
    };
    let number: u64 =
        digits.parse().map_err(|_| "a whole number of bytes, such as 65536, 64K, 500M or 2G".to_owned())?;
    match number.checked_mul(factor) {
        Some(number) if number > 0 => Ok(number),
        _ => Err("it has to be at least 1 and at most 18 exabytes".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "a number of seconds, such as 2 or 0.5".to_owned())?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if duration <= Duration::from_secs(600) => Ok(duration),
        _ => Err("it has to be between 0 and 600 seconds".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_powers_of_ten() {
        assert_eq!(bytes("1"), Ok(1));
        assert_eq!(bytes("64K"), Ok(64_000));
        assert_eq!(bytes("500m"), Ok(500_000_000));
        assert_eq!(bytes("2G"), Ok(2_000_000_000));
        for wrong in ["", "G", "1.5G", "-1", "0", "1T", "99999999999999999999", "99999999999G"] {
            assert!(bytes(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }
}
