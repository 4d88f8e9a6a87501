//! The version of the whole workspace, from its one place.

use crate::policy::Profile;
use crate::provider::provider;

/// The version of this software, as in the workspace manifest.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Which flavour of the software this is.
pub const FLAVOUR: &str = "standard";

/// The cryptographic module that does all cryptography.
pub const CRYPTO_MODULE: &str = "aws-lc";

/// Whether the cryptographic module is one that FIPS 140-3 validated: asked of all parts of the provider that the
/// profile `fips` would use, and not known from how it was built.
pub fn is_fips() -> bool {
    provider(&Profile::Fips.groups(), &Profile::Fips.suites()).fips()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_standard_flavour_is_not_validated() {
        assert_eq!((FLAVOUR, CRYPTO_MODULE, is_fips()), ("standard", "aws-lc", false));
    }
}
