//! Certificates for Q-TLS: issuing them, and a complete small public key infrastructure in one step.
//!
//! Signing goes through rustls' `SigningKey`, so that a key may be a file's or an HSM's.
#![forbid(unsafe_code)]

pub mod ca;
pub mod crl;
mod directory;
pub mod files;
pub mod inspect;
pub mod issue;
pub mod keys;
pub mod names;
pub mod pem;
pub mod quickstart;
pub mod request;
mod signature;
pub mod verify;
