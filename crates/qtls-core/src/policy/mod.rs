//! The crypto policy: every name, alias and code point stands in [`table`]; everything else asks this module.

mod resolve;
mod table;
mod trial;

pub use resolve::{AlgorithmNames, GroupPreference, Mode, Policy, PolicyChoice};
pub use table::{
    CipherSuite, Group, Kem, KeyAlgorithm, Named, Profile, SCHEMES, group_name, is_grease, known_group_name,
    known_scheme_name, lookup, scheme_name, scheme_of_name, suite_name,
};
pub use trial::{Candidate, Rule, Stricter, refusals};
