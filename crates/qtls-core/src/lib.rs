//! Policy, credentials, verification and facts of Q-TLS: decisions as plain functions over values.
//!
//! No sockets, no runtime, no `unsafe`. This is the only crate that names the cryptographic library;
//! everything else receives rustls types from here.
#![forbid(unsafe_code)]

pub mod client_hello;
pub mod credentials;
pub mod endpoint;
pub mod error;
pub mod facts;
pub mod policy;
pub mod primitives;
pub mod provider;
pub mod sessions;
pub mod verify;
pub mod version;
pub mod web_socket;

pub use error::{Error, Fault, Result};
