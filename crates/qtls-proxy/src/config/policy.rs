//! The keys of a policy beside the lists of algorithms: the profile, and the stricter policy that is tried.

use qtls_core::policy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fields;
use super::sections::Algorithms;

/// A set of algorithms with a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Hybrids, and classical groups for clients that have nothing better; any list of algorithms.
    #[default]
    Default,
    /// CNSA 2.0: ML-KEM-1024 alone or with P-384, ML-DSA-87 for whole chains, AES-256-GCM.
    Cnsa2,
    /// The algorithms that FIPS 140-3 approves. Not the FIPS mode, which is `fips.enabled`.
    Fips,
    /// Everything there is.
    Compatible,
}

impl From<Profile> for policy::Profile {
    fn from(profile: Profile) -> Self {
        match profile {
            Profile::Default => Self::Default,
            Profile::Cnsa2 => Self::Cnsa2,
            Profile::Fips => Self::Fips,
            Profile::Compatible => Self::Compatible,
        }
    }
}

/// A stricter policy that is tried and changes nothing: clients that it would refuse are counted and logged. What it
/// leaves out is as in force; with a `profile`, as that profile has it.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "an object")]
pub struct Report {
    /// The profile that is tried.
    pub profile: Option<Profile>,
    /// The `hybrid_mode` that is tried.
    #[serde(deserialize_with = "fields::said")]
    #[schemars(with = "bool")]
    pub hybrid_mode: Option<bool>,
    /// The `pqc_only` that is tried.
    #[serde(deserialize_with = "fields::said")]
    #[schemars(with = "bool")]
    pub pqc_only: Option<bool>,
    /// The lists of algorithms that are tried.
    pub algorithms: Algorithms,
}

impl Report {
    /// Whether it says nothing at all.
    pub(super) fn is_empty(&self) -> bool {
        let Self { profile, hybrid_mode, pqc_only, algorithms } = self;
        let Algorithms { kem, signature, signature_chain, cipher } = algorithms;
        profile.is_none()
            && hybrid_mode.is_none()
            && pqc_only.is_none()
            && [kem, signature, signature_chain, cipher].iter().all(|list| list.is_none())
    }
}
