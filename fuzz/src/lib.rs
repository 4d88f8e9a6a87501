//! Fuzz targets for everything that Q-TLS reads: as functions, so that libFuzzer and a plain program can call them.

// The suites of qtls-core use other parts of it.
#[allow(dead_code)]
#[path = "../../crates/qtls-core/tests/forge/mod.rs"]
mod forge;
pub mod mutate;
pub mod seeds;
pub mod targets;

/// One target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its directory in the corpus.
    pub name: &'static str,
    /// Reads an input. Whether it is accepted doesn't matter; that it returns does.
    pub run: fn(&[u8]),
    /// Right inputs to begin from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Whether the seeds are secrets, and so never kept.
    pub secret: bool,
    /// The most memory that one run may hold at a time, in octets.
    pub memory: usize,
}

const MIB: usize = 1 << 20;

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "pem", run: targets::pem, seeds: seeds::pem, secret: false, memory: 8 * MIB },
    Target { name: "chain", run: targets::chain, seeds: seeds::chain, secret: false, memory: 8 * MIB },
    Target { name: "crl", run: targets::crl, seeds: seeds::crl, secret: false, memory: 8 * MIB },
    Target { name: "csr", run: targets::csr, seeds: seeds::csr, secret: false, memory: 8 * MIB },
    // scrypt may take a quarter of a gigabyte by design.
    Target { name: "key", run: targets::key, seeds: seeds::key, secret: true, memory: 300 * MIB },
    Target {
        name: "client_hello",
        run: targets::client_hello,
        seeds: seeds::client_hello,
        secret: false,
        memory: 8 * MIB,
    },
    Target { name: "config", run: targets::config, seeds: seeds::config, secret: false, memory: 8 * MIB },
    Target { name: "allow", run: targets::allow, seeds: seeds::allow, secret: false, memory: 8 * MIB },
    Target {
        name: "proxy_header",
        run: targets::proxy_header,
        seeds: seeds::proxy_header,
        secret: false,
        memory: 8 * MIB,
    },
    Target { name: "ticket", run: targets::ticket, seeds: seeds::ticket, secret: true, memory: 8 * MIB },
    Target { name: "ticket_keys", run: targets::ticket_keys, seeds: seeds::ticket_keys, secret: true, memory: 8 * MIB },
    Target { name: "postgres", run: targets::postgres, seeds: seeds::postgres, secret: false, memory: MIB },
];
