//! Certificates for Q-TLS: issuing them, and a complete small public key infrastructure in one step.
//!
//! Signing goes through rustls' `SigningKey`, so that a key may be a file's or an HSM's.
#![forbid(unsafe_code)]

pub mod issue;
pub mod names;
pub mod quickstart;
