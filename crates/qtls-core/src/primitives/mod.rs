//! ML-KEM and ML-DSA on their own, for programs that use them outside of TLS.
//!
//! All of it is the cryptographic library's. What is checked here is that keys and messages have the shape of their
//! parameter set, so that a mix-up is told from an attack.

pub mod ml_dsa;
pub mod ml_kem;

use crate::{Error, Result};

/// Fails unless `octets` has the length that `what` has in this parameter set. The caller is at fault.
fn expect_length(what: &str, set: &str, octets: &[u8], expected: usize) -> Result<()> {
    if octets.len() == expected {
        return Ok(());
    }
    Err(Error::configuration(format!("{what} of {set} has {expected} bytes, not {}", octets.len()))
        .hint("is it of another parameter set?"))
}
