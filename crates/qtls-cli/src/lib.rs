//! The programs of Q-TLS: one module a command.

pub mod bench;
pub mod client;
pub mod qtls;
pub mod server;
mod ui;
pub mod version;
