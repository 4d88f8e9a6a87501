//! The version of the whole workspace, from its one place.

/// The version of this software, as in the workspace manifest.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Which flavour of the software this is.
pub const FLAVOUR: &str = "standard";

/// The cryptographic module that does all cryptography.
pub const CRYPTO_MODULE: &str = "aws-lc";
