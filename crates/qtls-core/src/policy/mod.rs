//! The crypto policy: every name, alias and code point stands in [`table`]; everything else asks this module.

mod resolve;
mod table;

pub use resolve::{AlgorithmNames, GroupPreference, Mode, Policy};
pub use table::{CipherSuite, Group, Kem, KeyAlgorithm, Named, group_name, scheme_name};
