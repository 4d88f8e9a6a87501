//! ClientHellos of real programs with their defaults, captured from the network: each asks for `localhost`.
//!
//! The interop suite holds them to the programs themselves (`tests/interop/tests/certificate_choice.rs`).

/// A program whose ClientHello is known.
pub(super) struct KnownClient {
    /// What the command line calls it.
    pub(super) name: &'static str,
    /// Which version it was captured from.
    pub(super) version: &'static str,
    /// What it sends first.
    pub(super) hello: &'static [u8],
}

macro_rules! client {
    ($name:literal, $version:literal) => {
        KnownClient { name: $name, version: $version, hello: include_bytes!(concat!("../../clients/", $name, ".bin")) }
    };
}

/// All of them.
pub(super) const CLIENTS: [KnownClient; 7] = [
    client!("chromium", "Chromium 150"),
    client!("openssl-3.5", "OpenSSL 3.5.7 s_client"),
    client!("openssl-3.0", "OpenSSL 3.0.19 s_client"),
    client!("curl-openssl-3.5", "curl 8.14 with OpenSSL 3.5"),
    client!("curl-openssl-3.0", "curl 7.88 with OpenSSL 3.0"),
    client!("node-24", "Node.js 24.21"),
    client!("go-1.26", "Go 1.26 crypto/tls"),
];

/// The client that the command line calls `name`.
pub(super) fn find(name: &str) -> Option<&'static KnownClient> {
    CLIENTS.iter().find(|client| client.name == name)
}
