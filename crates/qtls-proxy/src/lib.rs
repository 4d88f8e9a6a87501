//! The data path of Q-TLS: configuration, sockets, handshakes, relaying, HTTP, and what is seen of them.
//!
//! TLS itself is rustls'; what is offered and accepted is decided by qtls-core.

pub mod config;
mod connection;
pub mod handshake;
pub mod http;
pub mod listen;
mod memory;
pub mod observe;
pub mod plan;
pub mod relay;
pub mod server;
pub mod shutdown;
pub mod signing;
pub mod stream;
pub mod upstream;
mod worker;
