//! `libqtls`: the engine of Q-TLS for C.

pub mod abi;
pub mod crypto;

mod building;
mod connection;
mod engine;
mod failure;
mod frozen;
mod judge;
mod key_log;
mod socket;
mod words;
