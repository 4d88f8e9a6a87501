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
    /// What to do where it offers no post-quantum group.
    pub(super) remedy: Option<&'static str>,
    /// What makes it offer other groups; an empty list where nothing does, and `None` where that isn't known.
    pub(super) other_groups: Option<&'static [&'static str]>,
}

macro_rules! client {
    ($name:literal, $version:literal, $remedy:expr, $other_groups:expr) => {
        KnownClient {
            name: $name,
            version: $version,
            hello: include_bytes!(concat!("../../clients/", $name, ".bin")),
            remedy: $remedy,
            other_groups: $other_groups,
        }
    };
}

const OPENSSL_3_0: Option<&str> = Some("upgrade to OpenSSL 3.5, as in Debian 13, or put qtls-client in front of it");
const OPENSSL_CNF: &str = "Groups in openssl.cnf";

/// All of them.
pub(super) const CLIENTS: [KnownClient; 7] = [
    client!("chromium", "Chromium 150", None, Some(&[])),
    client!("openssl-3.5", "OpenSSL 3.5.7 s_client", None, Some(&[OPENSSL_CNF, "-groups"])),
    client!("openssl-3.0", "OpenSSL 3.0.19 s_client", OPENSSL_3_0, None),
    client!("curl-openssl-3.5", "curl 8.14 with OpenSSL 3.5", None, Some(&[OPENSSL_CNF, "--curves"])),
    client!("curl-openssl-3.0", "curl 7.88 with OpenSSL 3.0", OPENSSL_3_0, None),
    client!("node-24", "Node.js 24.21", None, Some(&["ecdhCurve"])),
    client!("go-1.26", "Go 1.26 crypto/tls", None, Some(&["CurvePreferences"])),
];

/// The client that the command line calls `name`.
pub(super) fn find(name: &str) -> Option<&'static KnownClient> {
    CLIENTS.iter().find(|client| client.name == name)
}
