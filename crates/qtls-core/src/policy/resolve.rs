//! From the names in a configuration to what is offered and accepted.

use rustls::SignatureScheme;

use super::table::{CipherSuite, Group, Kem, KeyAlgorithm, Named, Profile, lookup};
use crate::credentials::KeyKind;
use crate::error::{Error, Result};

/// Which classes of groups are offered and accepted: `hybrid_mode`, `pqc_only`, and what the profile makes of them
/// where they are not set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `hybrid_mode` alone: hybrids first, then the classical groups, so that classical clients still connect.
    HybridFirst,
    /// Both: hybrids and nothing else.
    HybridOnly,
    /// `pqc_only` alone: ML-KEM without a classical partner.
    PureOnly,
    /// Neither: classical groups only.
    ClassicalOnly,
    /// Not set, under a profile that is not the default: every group of the profile.
    Any,
    /// `pqc_only` set and `hybrid_mode` not, or a profile without classical groups: hybrids, and ML-KEM alone.
    AnyPostQuantum,
}

impl Mode {
    /// The row of the truth table.
    pub const fn new(hybrid_mode: bool, pqc_only: bool) -> Self {
        match (hybrid_mode, pqc_only) {
            (true, false) => Self::HybridFirst,
            (true, true) => Self::HybridOnly,
            (false, true) => Self::PureOnly,
            (false, false) => Self::ClassicalOnly,
        }
    }

    fn of(choice: &PolicyChoice) -> Result<Self> {
        let PolicyChoice { profile, hybrid_mode, pqc_only, .. } = *choice;
        let classical = profile.groups().iter().any(|group| !group.is_post_quantum());
        if pqc_only == Some(false) && !classical {
            return Err(Error::configuration(format!(
                "false lets clients in that have no post-quantum key exchange, and the profile {profile} has no group \
                 for them"
            ))
            .key("tls.pqc_only")
            .hint("remove this key, or choose another profile"));
        }
        Ok(match (profile, hybrid_mode, pqc_only) {
            (Profile::Default, hybrid, only) => Self::new(hybrid.unwrap_or(true), only.unwrap_or(false)),
            (_, Some(hybrid), only) => Self::new(hybrid, only.unwrap_or(!classical)),
            (_, None, Some(true)) => Self::AnyPostQuantum,
            (_, None, _) if !classical => Self::AnyPostQuantum,
            (_, None, _) => Self::Any,
        })
    }

    fn allows(self, group: Group) -> bool {
        match self {
            Self::HybridFirst => group.is_hybrid() || !group.is_post_quantum(),
            Self::HybridOnly => group.is_hybrid(),
            Self::PureOnly => group.is_post_quantum() && !group.is_hybrid(),
            Self::ClassicalOnly => !group.is_post_quantum(),
            Self::Any => true,
            Self::AnyPostQuantum => group.is_post_quantum(),
        }
    }
}

/// Whose order decides the group (`tls.group_preference`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum GroupPreference {
    /// Post-quantum first, without a needless round trip: see [`crate::client_hello::decide_group`].
    #[default]
    PostQuantum,
    /// The server's order, at the price of a round trip where the client's share is for another group.
    Strict,
    /// The client's order.
    Client,
}

/// The lists of names as a configuration has them. `None` means the default.
#[derive(Clone, Debug, Default)]
pub struct AlgorithmNames {
    /// `algorithms.kem`: KEMs, classical groups and hybrid groups.
    pub kem: Option<Vec<String>>,
    /// `algorithms.signature`: kinds of key, in order of preference.
    pub signature: Option<Vec<String>>,
    /// `algorithms.signature_chain`: kinds of key whose signatures are accepted inside chains.
    pub signature_chain: Option<Vec<String>>,
    /// `algorithms.cipher`: cipher suites, in order of preference.
    pub cipher: Option<Vec<String>>,
}

/// What a configuration says about the policy. `None` is what it doesn't say.
#[derive(Clone, Debug, Default)]
pub struct PolicyChoice {
    /// `tls.profile`.
    pub profile: Profile,
    /// `tls.hybrid_mode`.
    pub hybrid_mode: Option<bool>,
    /// `tls.pqc_only`.
    pub pqc_only: Option<bool>,
    /// `tls.group_preference`.
    pub group_preference: GroupPreference,
    /// The section `algorithms`.
    pub names: AlgorithmNames,
}

/// What is offered and accepted: the one value that all handshakes follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The profile that everything here is part of.
    pub profile: Profile,
    /// Which classes of groups there are.
    pub mode: Mode,
    /// Groups, most preferred first. Never empty.
    pub groups: Vec<Group>,
    /// Whose order decides.
    pub group_preference: GroupPreference,
    /// Kinds of key that sign a CertificateVerify, ours and the peer's, most preferred first. Never empty.
    pub signatures: Vec<KeyAlgorithm>,
    /// Kinds of key whose signatures are accepted inside chains. Never empty.
    pub chain_signatures: Vec<KeyAlgorithm>,
    /// Cipher suites, most preferred first. Never empty.
    pub suites: Vec<CipherSuite>,
    /// What an operator should know about this policy, a sentence each. Shown at start and by `--test-config`.
    pub notes: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            profile: Profile::Default,
            mode: Mode::HybridFirst,
            groups: default_groups(Profile::Default, Mode::HybridFirst),
            group_preference: GroupPreference::default(),
            signatures: KeyAlgorithm::ALL.to_vec(),
            chain_signatures: KeyAlgorithm::ALL.to_vec(),
            suites: CipherSuite::ALL.to_vec(),
            notes: Vec::new(),
        }
    }
}

impl Policy {
    /// Resolves what a configuration says into a policy.
    ///
    /// # Errors
    /// An unknown name; one that is outside of the profile; a mode that contradicts the profile; a KEM that finds no
    /// partner; a list that yields no group. Each names its key (`algorithms.kem[0]`), so that the caller can add file
    /// and line.
    pub fn resolve(choice: &PolicyChoice) -> Result<Self> {
        let PolicyChoice { profile, group_preference, names, .. } = choice;
        let mode = Mode::of(choice)?;
        let mut old = Vec::new();
        let groups = match &names.kem {
            None => default_groups(*profile, mode),
            Some(names) => groups(*profile, mode, &parse("algorithms.kem", names, &mut old)?)?,
        };
        let signatures = chosen(*profile, "algorithms.signature", &names.signature, profile.signatures(), &mut old)?;
        let chain_signatures = chosen(
            *profile,
            "algorithms.signature_chain",
            &names.signature_chain,
            profile.chain_signatures(),
            &mut old,
        )?;
        let suites = chosen(*profile, "algorithms.cipher", &names.cipher, profile.suites(), &mut old)?;
        let notes = notes(*profile, mode, &groups, names.kem.is_some(), &old);
        Ok(Self {
            profile: *profile,
            mode,
            groups,
            group_preference: *group_preference,
            signatures,
            chain_signatures,
            suites,
            notes,
        })
    }

    /// Whether a certificate of our own may be shown whose chain is signed with `schemes`: a profile holds for the whole
    /// of a chain, while `algorithms.signature_chain` is about the peers'.
    ///
    /// # Errors
    /// The first scheme that the profile doesn't have.
    pub fn allows_own_chain(&self, schemes: &[SignatureScheme]) -> Result<(), SignatureScheme> {
        if matches!(self.profile, Profile::Default | Profile::Compatible) {
            return Ok(());
        }
        let kinds = self.profile.chain_signatures();
        let known = |scheme: &SignatureScheme| kinds.iter().any(|kind| kind.signs_chains_with(*scheme));
        schemes.iter().find(|scheme| !known(scheme)).map_or(Ok(()), |scheme| Err(*scheme))
    }

    /// Whether a key of this kind may sign a CertificateVerify.
    pub fn allows_key(&self, kind: KeyKind) -> bool {
        self.signatures.iter().any(|entry| entry.covers(kind))
    }

    /// Whether a key of this kind may have signed a certificate in a chain.
    pub fn allows_chain_key(&self, kind: KeyKind) -> bool {
        self.chain_signatures.iter().any(|entry| entry.covers(kind))
    }

    /// The signature schemes that a peer may sign its CertificateVerify with, most preferred first.
    pub fn schemes(&self) -> Vec<SignatureScheme> {
        let mut schemes = Vec::new();
        for scheme in self.signatures.iter().flat_map(|entry| entry.schemes()) {
            if !schemes.contains(scheme) {
                schemes.push(*scheme);
            }
        }
        schemes
    }

    /// `algorithms.signature` as names, for messages.
    pub fn signature_names(&self) -> String {
        self.signatures.iter().map(|entry| entry.name()).collect::<Vec<_>>().join(", ")
    }

    /// The groups by their names in the registry, for messages.
    pub fn group_names(&self) -> String {
        self.groups.iter().map(|group| group.iana_name()).collect::<Vec<_>>().join(", ")
    }
}

/// Without `algorithms.kem`: in the table's order, in which X25519MLKEM768 leads, since it is the only hybrid that
/// browsers speak.
fn default_groups(profile: Profile, mode: Mode) -> Vec<Group> {
    profile.groups().into_iter().filter(|group| mode.allows(*group)).collect()
}

/// A list of names, or all that the profile has; nothing outside of it.
fn chosen<T: Named>(
    profile: Profile,
    key: &str,
    names: &Option<Vec<String>>,
    bound: Vec<T>,
    old: &mut Vec<(String, &'static str)>,
) -> Result<Vec<T>> {
    let Some(names) = names else { return Ok(bound) };
    let list = parse(key, names, old)?;
    match list.iter().position(|entry| !bound.contains(entry)) {
        None => Ok(list),
        Some(index) => {
            let members: Vec<_> = bound.iter().map(|entry| entry.name()).collect();
            Err(outside(profile, list[index].name(), &members).key(format!("{key}[{index}]")))
        }
    }
}

/// The error for something that the table has and the profile hasn't.
fn outside(profile: Profile, name: &str, members: &[&str]) -> Error {
    Error::configuration(format!("{name} is outside of the profile {profile}, which has {}", members.join(", ")))
        .hint("name what the profile has, or choose the profile \"default\"")
}

fn parse<T: Named>(key: &str, names: &[String], old: &mut Vec<(String, &'static str)>) -> Result<Vec<T>> {
    let mut list = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        let at = |error: Error| error.key(format!("{key}[{index}]"));
        let (entry, is_old): (T, bool) = lookup(name).map_err(at)?;
        if is_old {
            old.push((name.clone(), entry.name()));
        }
        if list.contains(&entry) {
            return Err(at(Error::configuration(format!("\"{name}\" stands in this list twice"))
                .hint("remove one; the order is the order of preference")));
        }
        list.push(entry);
    }
    if list.is_empty() {
        return Err(Error::configuration("the list is empty")
            .key(key)
            .hint("name at least one algorithm, or remove the key"));
    }
    Ok(list)
}

fn groups(profile: Profile, mode: Mode, entries: &[Group]) -> Result<Vec<Group>> {
    let bound = profile.groups();
    let classical: Vec<_> = entries.iter().copied().filter(|group| !group.is_post_quantum()).collect();
    let mut result: Vec<Group> = Vec::new();
    for (index, entry) in entries.iter().copied().enumerate() {
        let at = |error: Error| error.key(format!("algorithms.kem[{index}]"));
        let Some(kem) = entry.kem() else { continue };
        let pairs = || classical.iter().filter_map(|group| Group::hybrid_of(kem, *group)).collect::<Vec<_>>();
        let yielded = match mode {
            Mode::PureOnly if entry.is_hybrid() => {
                return Err(at(Error::configuration(format!(
                    "{} is a hybrid group, and tls.hybrid_mode is false",
                    entry.iana_name()
                ))
                .hint("set tls.hybrid_mode to true, or name ml-kem-768 or ml-kem-1024")));
            }
            Mode::ClassicalOnly => Vec::new(),
            Mode::PureOnly => vec![entry],
            _ if entry.is_hybrid() => vec![entry],
            Mode::HybridFirst | Mode::HybridOnly => match pairs() {
                pairs if pairs.is_empty() => return Err(at(without_partner(kem))),
                pairs => pairs,
            },
            Mode::Any | Mode::AnyPostQuantum => match pairs() {
                pairs if pairs.is_empty() => vec![entry],
                pairs => pairs,
            },
        };
        if let Some(group) = yielded.iter().find(|group| !bound.contains(group)) {
            return Err(at(outside(profile, group.iana_name(), &iana_names(&bound))));
        }
        result.extend(yielded);
    }
    let alone = mode.allows(Group::X25519);
    for (index, entry) in entries.iter().enumerate().filter(|(_, entry)| !entry.is_post_quantum()) {
        // A group that is not in the profile may still be half of one that is.
        let half = !alone && result.iter().any(|group| group.classical_component() == Some(*entry));
        if !bound.contains(entry) && !half {
            let error = outside(profile, entry.iana_name(), &iana_names(&bound));
            return Err(error.key(format!("algorithms.kem[{index}]")));
        }
    }
    if alone {
        result.extend(classical);
    }
    let mut seen = Vec::with_capacity(result.len());
    result.retain(|group| {
        !seen.contains(group) && {
            seen.push(*group);
            true
        }
    });
    let hybrids = result.iter().any(|group| group.is_hybrid());
    let post_quantum = result.iter().any(|group| group.is_post_quantum());
    match mode {
        Mode::HybridFirst | Mode::HybridOnly if !hybrids => Err(no_group(
            "no hybrid group, but tls.hybrid_mode is true",
            "add \"x25519mlkem768\", or a KEM such as \"ml-kem-1024\" beside \"ecdhe-p384\"",
        )),
        Mode::PureOnly if result.is_empty() => Err(no_group(
            "no ML-KEM, but tls.pqc_only is true and tls.hybrid_mode is false",
            "add \"ml-kem-1024\" or \"ml-kem-768\", or set tls.hybrid_mode to true",
        )),
        Mode::ClassicalOnly if result.is_empty() => Err(no_group(
            "no classical group, but tls.hybrid_mode and tls.pqc_only are false",
            "add \"x25519\" or \"ecdhe-p384\", or set tls.hybrid_mode to true",
        )),
        Mode::Any | Mode::AnyPostQuantum if !post_quantum => Err(no_group(
            "no post-quantum group",
            "add \"secp384r1mlkem1024\"; for classical groups only, set tls.hybrid_mode and tls.pqc_only to false",
        )),
        _ => Ok(result),
    }
}

fn iana_names(groups: &[Group]) -> Vec<&'static str> {
    groups.iter().map(|group| group.iana_name()).collect()
}

fn without_partner(kem: Kem) -> Error {
    let partners: Vec<_> = Group::ALL
        .iter()
        .filter(|group| group.kem() == Some(kem))
        .filter_map(|group| group.classical_component())
        .map(|group| format!("\"{}\"", group.name()))
        .collect();
    Error::configuration(format!("{} finds no classical group in this list to form a hybrid with", kem.name()))
        .hint(format!("add {} to the list", partners.join(" or ")))
}

fn no_group(message: &str, hint: &str) -> Error {
    Error::configuration(format!("this list yields {message}")).key("algorithms.kem").hint(hint)
}

fn notes(profile: Profile, mode: Mode, groups: &[Group], listed: bool, old: &[(String, &'static str)]) -> Vec<String> {
    let mut notes = Vec::new();
    if !old.is_empty() {
        let pairs: Vec<_> = old.iter().map(|(old, name)| format!("{old} → {name}")).collect();
        notes
            .push(format!("names from before the standards are accepted, but better written as: {}", pairs.join(", ")));
    }
    let for_browsers = groups.contains(&Group::X25519MlKem768);
    match mode {
        Mode::ClassicalOnly => notes.push(
            "tls.hybrid_mode and tls.pqc_only are false: key exchange is classical only, and recorded traffic can be \
             decrypted by a future quantum computer; set tls.hybrid_mode to true"
                .to_owned(),
        ),
        _ if for_browsers => {}
        _ if !profile.groups().contains(&Group::X25519MlKem768) => notes.push(format!(
            "browsers speak no post-quantum group but X25519MLKEM768, which the profile {profile} doesn't have: they \
             can't connect"
        )),
        Mode::PureOnly => notes.push(
            "pure ML-KEM without a classical partner: browsers and most clients can't connect; set tls.hybrid_mode to \
             true to reach them"
                .to_owned(),
        ),
        _ if listed => {
            let classical = groups.iter().find(|group| !group.is_post_quantum());
            let fate = match classical {
                Some(group) => format!("fall back to classical {}", group.iana_name()),
                None => "can't connect".to_owned(),
            };
            notes.push(format!(
                "browsers speak no hybrid group but X25519MLKEM768, which algorithms.kem doesn't yield: they {fate}; \
                 add \"x25519mlkem768\" to algorithms.kem to reach them with post-quantum key exchange"
            ));
        }
        _ => {}
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|&name| name.to_owned()).collect())
    }

    /// A row of the truth table, as a configuration says it.
    fn said(mode: Mode) -> PolicyChoice {
        let (hybrid_mode, pqc_only) = match mode {
            Mode::HybridFirst => (true, false),
            Mode::HybridOnly => (true, true),
            Mode::PureOnly => (false, true),
            Mode::ClassicalOnly => (false, false),
            Mode::Any | Mode::AnyPostQuantum => panic!("not a row of the truth table"),
        };
        PolicyChoice { hybrid_mode: Some(hybrid_mode), pqc_only: Some(pqc_only), ..PolicyChoice::default() }
    }

    fn resolve(mode: Mode, kem: &[&str]) -> Result<Policy> {
        let names = AlgorithmNames { kem: list(kem), ..Default::default() };
        Policy::resolve(&PolicyChoice { names, ..said(mode) })
    }

    fn groups_of(mode: Mode, kem: &[&str]) -> Vec<Group> {
        resolve(mode, kem).unwrap().groups
    }

    fn under(profile: Profile, hybrid_mode: Option<bool>, pqc_only: Option<bool>, kem: &[&str]) -> Result<Policy> {
        let kem = if kem.is_empty() { None } else { list(kem) };
        let names = AlgorithmNames { kem, ..Default::default() };
        Policy::resolve(&PolicyChoice { profile, hybrid_mode, pqc_only, names, ..Default::default() })
    }

    const SPECIFICATION: &[&str] = &["kyber1024", "ecdhe-p384"];

    #[test]
    fn the_truth_table_with_the_specifications_list() {
        use Group::*;
        assert_eq!(groups_of(Mode::new(true, false), SPECIFICATION), [SecP384r1MlKem1024, Secp384r1]);
        assert_eq!(groups_of(Mode::new(true, true), SPECIFICATION), [SecP384r1MlKem1024]);
        assert_eq!(groups_of(Mode::new(false, true), SPECIFICATION), [MlKem1024]);
        assert_eq!(groups_of(Mode::new(false, false), SPECIFICATION), [Secp384r1]);
    }

    #[test]
    fn the_truth_table_without_a_list() {
        use Group::*;
        let default = |mode| Policy::resolve(&said(mode)).unwrap().groups;
        assert_eq!(Policy::resolve(&PolicyChoice::default()).unwrap(), Policy::default());
        assert_eq!(
            default(Mode::HybridFirst),
            [X25519MlKem768, SecP384r1MlKem1024, SecP256r1MlKem768, X25519, Secp384r1, Secp256r1]
        );
        assert_eq!(default(Mode::HybridOnly), [X25519MlKem768, SecP384r1MlKem1024, SecP256r1MlKem768]);
        assert_eq!(default(Mode::PureOnly), [MlKem768, MlKem1024]);
        assert_eq!(default(Mode::ClassicalOnly), [X25519, Secp384r1, Secp256r1]);
    }

    #[test]
    fn every_kem_pairs_with_every_classical_group_in_list_order() {
        use Group::*;
        assert_eq!(
            groups_of(Mode::HybridFirst, &["ml-kem-768", "ml-kem-1024", "p-256", "x25519", "p-384"]),
            [SecP256r1MlKem768, X25519MlKem768, SecP384r1MlKem1024, Secp256r1, X25519, Secp384r1]
        );
        assert_eq!(
            groups_of(Mode::HybridFirst, &["x25519mlkem768", "kyber1024", "ecdhe-p384", "x25519"]),
            [X25519MlKem768, SecP384r1MlKem1024, Secp384r1, X25519]
        );
    }

    #[test]
    fn a_kem_without_a_partner_says_what_to_add() {
        let error = resolve(Mode::HybridFirst, &["kyber1024", "x25519"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "algorithms.kem[0]: ml-kem-1024 finds no classical group in this list to form a hybrid with\n  \
             hint: add \"ecdhe-p384\" to the list"
        );
    }

    #[test]
    fn lists_that_yield_nothing_say_what_to_add() {
        for (mode, list, message) in [
            (Mode::HybridFirst, &["x25519"][..], "no hybrid group, but tls.hybrid_mode is true"),
            (Mode::HybridOnly, &["x25519"], "no hybrid group, but tls.hybrid_mode is true"),
            (Mode::PureOnly, &["x25519"], "no ML-KEM, but tls.pqc_only is true and tls.hybrid_mode is false"),
            (Mode::ClassicalOnly, &["kyber768"], "no classical group, but tls.hybrid_mode and tls.pqc_only are false"),
        ] {
            let error = resolve(mode, list).unwrap_err();
            assert_eq!(error.message(), format!("this list yields {message}"));
            assert_eq!(error.key_path(), Some("algorithms.kem"));
        }
        let error = resolve(Mode::PureOnly, &["x25519mlkem768"]).unwrap_err();
        assert_eq!(error.message(), "X25519MLKEM768 is a hybrid group, and tls.hybrid_mode is false");
    }

    #[test]
    fn unknown_and_repeated_names_name_their_place() {
        assert_eq!(
            resolve(Mode::HybridFirst, &["x25519", "kyber7688"]).unwrap_err().key_path(),
            Some("algorithms.kem[1]")
        );
        let error = resolve(Mode::HybridFirst, &["kyber768", "x25519", "ml-kem-768"]).unwrap_err();
        assert_eq!(error.message(), "\"ml-kem-768\" stands in this list twice");
        assert_eq!(resolve(Mode::HybridFirst, &[]).unwrap_err().message(), "the list is empty");
    }

    #[test]
    fn notes_tell_old_names_browsers_and_classical_only() {
        let notes = resolve(Mode::HybridFirst, SPECIFICATION).unwrap().notes;
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].ends_with("kyber1024 → ml-kem-1024"), "{}", notes[0]);
        assert!(notes[1].contains("they fall back to classical secp384r1; add \"x25519mlkem768\" to algorithms.kem"));
        assert!(resolve(Mode::HybridOnly, SPECIFICATION).unwrap().notes[1].contains("they can't connect"));
        assert!(resolve(Mode::ClassicalOnly, &["x25519"]).unwrap().notes[0].contains("classical only"));
        assert!(resolve(Mode::HybridFirst, &["x25519mlkem768"]).unwrap().notes.is_empty());
    }

    #[test]
    fn a_profile_and_the_truth_table() {
        use Group::*;
        const HYBRIDS: [Group; 3] = [X25519MlKem768, SecP384r1MlKem1024, SecP256r1MlKem768];
        const NIST: [Group; 2] = [Secp384r1, Secp256r1];
        const PURE: [Group; 2] = [MlKem768, MlKem1024];
        let all = |parts: &[&[Group]]| parts.concat();
        let (yes, no) = (Some(true), Some(false));
        for (profile, hybrid_mode, pqc_only, groups) in [
            (Profile::Cnsa2, None, None, all(&[&[SecP384r1MlKem1024, MlKem1024]])),
            (Profile::Cnsa2, None, yes, all(&[&[SecP384r1MlKem1024, MlKem1024]])),
            (Profile::Cnsa2, yes, None, all(&[&[SecP384r1MlKem1024]])),
            (Profile::Cnsa2, yes, yes, all(&[&[SecP384r1MlKem1024]])),
            (Profile::Cnsa2, no, None, all(&[&[MlKem1024]])),
            (Profile::Cnsa2, no, yes, all(&[&[MlKem1024]])),
            (Profile::Fips, None, None, all(&[&HYBRIDS, &PURE, &NIST])),
            (Profile::Fips, None, yes, all(&[&HYBRIDS, &PURE])),
            (Profile::Fips, None, no, all(&[&HYBRIDS, &PURE, &NIST])),
            (Profile::Fips, yes, None, all(&[&HYBRIDS, &NIST])),
            (Profile::Fips, yes, no, all(&[&HYBRIDS, &NIST])),
            (Profile::Fips, yes, yes, all(&[&HYBRIDS])),
            (Profile::Fips, no, yes, all(&[&PURE])),
            (Profile::Fips, no, None, all(&[&NIST])),
            (Profile::Fips, no, no, all(&[&NIST])),
            (Profile::Compatible, None, None, all(&[&HYBRIDS, &PURE, &[X25519], &NIST])),
            (Profile::Compatible, None, yes, all(&[&HYBRIDS, &PURE])),
            (Profile::Compatible, yes, None, all(&[&HYBRIDS, &[X25519], &NIST])),
            (Profile::Compatible, no, no, all(&[&[X25519], &NIST])),
            (Profile::Default, None, None, all(&[&HYBRIDS, &[X25519], &NIST])),
            (Profile::Default, None, yes, all(&[&HYBRIDS])),
            (Profile::Default, no, yes, all(&[&PURE])),
        ] {
            let policy = under(profile, hybrid_mode, pqc_only, &[]).unwrap();
            assert_eq!(policy.groups, groups, "{profile} {hybrid_mode:?} {pqc_only:?}");
            assert_eq!((policy.profile, policy.signatures), (profile, profile.signatures()));
            assert_eq!((policy.chain_signatures, policy.suites), (profile.chain_signatures(), profile.suites()));
        }
        for hybrid_mode in [None, yes, no] {
            let error = under(Profile::Cnsa2, hybrid_mode, no, &[]).unwrap_err();
            assert_eq!(
                error.to_string(),
                "tls.pqc_only: false lets clients in that have no post-quantum key exchange, and the profile cnsa2 has \
                 no group for them\n  hint: remove this key, or choose another profile"
            );
        }
    }

    #[test]
    fn a_list_narrows_a_profile() {
        use Group::*;
        let groups = |profile, kem: &[&str]| under(profile, None, None, kem).unwrap().groups;
        // The specification's list: what is in the profile is the hybrid of the two.
        assert_eq!(groups(Profile::Cnsa2, SPECIFICATION), [SecP384r1MlKem1024]);
        assert_eq!(groups(Profile::Cnsa2, &["ml-kem-1024"]), [MlKem1024], "without a partner: alone");
        assert_eq!(
            groups(Profile::Cnsa2, &["ml-kem-1024", "secp384r1mlkem1024"]),
            [MlKem1024, SecP384r1MlKem1024],
            "in the list's order"
        );
        assert_eq!(groups(Profile::Fips, SPECIFICATION), [SecP384r1MlKem1024, Secp384r1]);
        assert_eq!(groups(Profile::Fips, &["x25519mlkem768", "p-256"]), [X25519MlKem768, Secp256r1]);
        assert_eq!(groups(Profile::Compatible, &["ml-kem-768", "x25519"]), [X25519MlKem768, X25519]);
        let only = under(Profile::Fips, Some(true), Some(true), &["ml-kem-768", "x25519"]).unwrap();
        assert_eq!(only.groups, [X25519MlKem768], "x25519 as half of a hybrid only");
        let names = AlgorithmNames {
            signature: list(&["dilithium5"]),
            signature_chain: list(&["ml-dsa-87"]),
            cipher: list(&["aes-256-gcm"]),
            ..Default::default()
        };
        let policy = Policy::resolve(&PolicyChoice { profile: Profile::Cnsa2, names, ..Default::default() }).unwrap();
        assert_eq!(policy.signatures, [KeyAlgorithm::MlDsa87]);
        assert!(policy.notes[0].ends_with("dilithium5 → ml-dsa-87"), "old names still warn: {:?}", policy.notes);
    }

    #[test]
    fn what_is_outside_of_a_profile_names_its_key_and_the_way_out() {
        const HINT: &str = "name what the profile has, or choose the profile \"default\"";
        for (profile, kem, message) in [
            (
                Profile::Cnsa2,
                &["x25519mlkem768", "kyber1024"][..],
                "algorithms.kem[0]: X25519MLKEM768 is outside of the profile cnsa2, which has SecP384r1MLKEM1024, \
                 MLKEM1024",
            ),
            (
                Profile::Cnsa2,
                &["ml-kem-1024", "x25519"],
                "algorithms.kem[1]: x25519 is outside of the profile cnsa2, which has SecP384r1MLKEM1024, MLKEM1024",
            ),
            (
                Profile::Cnsa2,
                &["kyber1024", "kyber768", "ecdhe-p384", "p-256"],
                "algorithms.kem[1]: SecP256r1MLKEM768 is outside of the profile cnsa2, which has SecP384r1MLKEM1024, \
                 MLKEM1024",
            ),
            (
                Profile::Fips,
                &["kyber768", "p-256", "x25519"],
                "algorithms.kem[2]: x25519 is outside of the profile fips, which has X25519MLKEM768, \
                 SecP384r1MLKEM1024, SecP256r1MLKEM768, MLKEM768, MLKEM1024, secp384r1, secp256r1",
            ),
        ] {
            assert_eq!(under(profile, None, None, kem).unwrap_err().to_string(), format!("{message}\n  hint: {HINT}"));
        }
        let lists = |signature, signature_chain, cipher| {
            let names = AlgorithmNames { kem: None, signature, signature_chain, cipher };
            Policy::resolve(&PolicyChoice { profile: Profile::Cnsa2, names, ..Default::default() }).unwrap_err()
        };
        for (error, message) in [
            (
                lists(list(&["ml-dsa-87", "dilithium3"]), None, None),
                "algorithms.signature[1]: ml-dsa-65 is outside of the profile cnsa2, which has ml-dsa-87",
            ),
            (
                lists(None, list(&["rsa-4096"]), None),
                "algorithms.signature_chain[0]: rsa-4096 is outside of the profile cnsa2, which has ml-dsa-87",
            ),
            (
                lists(None, None, list(&["aes-256-gcm", "chacha20-poly1305"])),
                "algorithms.cipher[1]: chacha20-poly1305 is outside of the profile cnsa2, which has aes-256-gcm",
            ),
        ] {
            assert_eq!(error.to_string(), format!("{message}\n  hint: {HINT}"));
        }
        let error = under(Profile::Compatible, None, None, &["x25519"]).unwrap_err();
        assert_eq!(error.message(), "this list yields no post-quantum group");
    }

    #[test]
    fn a_profile_without_a_group_for_browsers_says_so() {
        let notes = under(Profile::Cnsa2, None, None, &[]).unwrap().notes;
        assert_eq!(
            notes,
            [
                "browsers speak no post-quantum group but X25519MLKEM768, which the profile cnsa2 doesn't have: they can't \
              connect"
            ]
        );
        assert!(under(Profile::Fips, None, None, &[]).unwrap().notes.is_empty());
        assert!(under(Profile::Compatible, None, None, &[]).unwrap().notes.is_empty());
        assert!(under(Profile::Fips, None, None, SPECIFICATION).unwrap().notes[1].contains("fall back to classical"));
    }

    #[test]
    fn a_profile_holds_for_the_whole_of_an_own_chain() {
        use SignatureScheme as S;
        let cnsa2 = under(Profile::Cnsa2, None, None, &[]).unwrap();
        assert_eq!(cnsa2.allows_own_chain(&[]), Ok(()));
        assert_eq!(cnsa2.allows_own_chain(&[S::ML_DSA_87]), Ok(()));
        for other in [S::ML_DSA_65, S::ECDSA_NISTP384_SHA384, S::RSA_PKCS1_SHA256, S::Unknown(0)] {
            assert_eq!(cnsa2.allows_own_chain(&[S::ML_DSA_87, other]), Err(other));
            assert_eq!(Policy::default().allows_own_chain(&[other]), Ok(()));
        }
        let fips = under(Profile::Fips, None, None, &[]).unwrap();
        assert_eq!(fips.allows_own_chain(&[S::ECDSA_NISTP384_SHA384, S::RSA_PKCS1_SHA256, S::ED25519]), Ok(()));
        assert_eq!(fips.allows_own_chain(&[S::RSA_PKCS1_SHA1]), Err(S::RSA_PKCS1_SHA1));
    }

    #[test]
    fn the_number_of_an_rsa_kind_is_a_minimum() {
        let policy = Policy { signatures: vec![KeyAlgorithm::Rsa3072], ..Policy::default() };
        assert!(policy.allows_key(KeyKind::Rsa(4096)));
        assert!(policy.allows_key(KeyKind::Rsa(3072)));
        assert!(!policy.allows_key(KeyKind::Rsa(2048)));
        assert!(!policy.allows_key(KeyKind::MlDsa65));
    }
}
