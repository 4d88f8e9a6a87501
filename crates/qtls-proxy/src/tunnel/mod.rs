//! Tunnels: plain connections that come in here are carried, each by a TLS connection of its own, to a server elsewhere.
//!
//! What `qtls-client --tunnel` runs beside a program that doesn't speak post-quantum TLS itself. The other way round of
//! what a server does, with the same relay, limits, metrics, logs, reloads and end:
//!
//! [`Plan`] (configuration, credentials) — [`Tunnels::bind`] — [`Tunnels::enter_sandbox`] — [`Tunnels::run`].

mod access;
mod audit;
mod connection;
mod listen;
mod live;
mod plan;
mod run;
mod standing;
mod worker;

pub use plan::{Plan, Route, prepare};
pub use run::{Load, Tunnels};

/// Why a connection is not carried: the label `reason` of `qtls_tunnel_failures_total`.
pub const REASONS: &[&str] = &[
    // The local client left before the server was reached.
    "abandoned",
    "configuration",
    "handshake",
    "internal",
    "local_error",
    // It leads back to this process.
    "loop",
    "policy",
    "stopped",
    "unreachable",
    "verification",
];
