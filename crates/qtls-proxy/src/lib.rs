//! The data path of Q-TLS: configuration, sockets, handshakes, relaying, HTTP, and what is seen of them.
//!
//! TLS itself is rustls'; what is offered and accepted is decided by qtls-core.

pub mod client_plan;
pub mod client_sessions;
pub mod config;
mod connection;
mod course;
pub mod explain;
pub mod handover;
pub mod handshake;
mod heartbeats;
pub mod hosts;
pub mod http;
mod key_log;
mod limits;
pub mod listen;
mod live;
mod memory;
mod notify;
pub mod observe;
pub mod plan;
pub mod policies;
pub mod proxy_protocol;
pub mod reach;
mod redirect;
pub mod relay;
pub mod reload;
mod report;
pub mod sandbox;
pub mod server;
pub mod shutdown;
pub mod signing;
pub mod socket;
mod sockets;
pub mod starttls;
pub mod stream;
mod supervisor;
mod ticket_keys;
pub mod tunnel;
pub mod upstream;
pub mod watch;
mod worker;
