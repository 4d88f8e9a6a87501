//! From the names in a configuration to what is offered and accepted.

use rustls::SignatureScheme;

use super::table::{CipherSuite, Group, Kem, KeyAlgorithm, Named, lookup};
use crate::credentials::KeyKind;
use crate::error::{Error, Result};

/// The truth table of `hybrid_mode` and `pqc_only`.
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

/// What is offered and accepted: the one value that all handshakes follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The row of the truth table.
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
            mode: Mode::HybridFirst,
            groups: default_groups(Mode::HybridFirst).to_vec(),
            group_preference: GroupPreference::default(),
            signatures: KeyAlgorithm::ALL.to_vec(),
            chain_signatures: KeyAlgorithm::ALL.to_vec(),
            suites: CipherSuite::ALL.to_vec(),
            notes: Vec::new(),
        }
    }
}

impl Policy {
    /// Resolves names into a policy.
    ///
    /// # Errors
    /// An unknown name; a KEM that finds no partner; a list that yields no group. Each names its key
    /// (`algorithms.kem[0]`), so that the caller can add file and line.
    pub fn resolve(mode: Mode, group_preference: GroupPreference, names: &AlgorithmNames) -> Result<Self> {
        let mut old = Vec::new();
        let groups = match &names.kem {
            None => default_groups(mode).to_vec(),
            Some(names) => groups(mode, &parse("algorithms.kem", names, &mut old)?)?,
        };
        let signatures = match &names.signature {
            None => KeyAlgorithm::ALL.to_vec(),
            Some(names) => parse("algorithms.signature", names, &mut old)?,
        };
        let chain_signatures = match &names.signature_chain {
            None => KeyAlgorithm::ALL.to_vec(),
            Some(names) => parse("algorithms.signature_chain", names, &mut old)?,
        };
        let suites = match &names.cipher {
            None => CipherSuite::ALL.to_vec(),
            Some(names) => parse("algorithms.cipher", names, &mut old)?,
        };
        let notes = notes(mode, &groups, names.kem.is_some(), &old);
        Ok(Self { mode, groups, group_preference, signatures, chain_signatures, suites, notes })
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

/// Without `algorithms.kem`. X25519MLKEM768 leads, since it is the only hybrid that browsers speak.
fn default_groups(mode: Mode) -> &'static [Group] {
    const HYBRIDS_THEN_CLASSICAL: &[Group] = &[
        Group::X25519MlKem768,
        Group::SecP384r1MlKem1024,
        Group::SecP256r1MlKem768,
        Group::X25519,
        Group::Secp384r1,
        Group::Secp256r1,
    ];
    match mode {
        Mode::HybridFirst => HYBRIDS_THEN_CLASSICAL,
        Mode::HybridOnly => HYBRIDS_THEN_CLASSICAL.split_at(3).0,
        Mode::PureOnly => &[Group::MlKem768, Group::MlKem1024],
        Mode::ClassicalOnly => HYBRIDS_THEN_CLASSICAL.split_at(3).1,
    }
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

fn groups(mode: Mode, entries: &[Group]) -> Result<Vec<Group>> {
    let classical: Vec<_> = entries.iter().copied().filter(|group| !group.is_post_quantum()).collect();
    let mut result = Vec::new();
    for (index, entry) in entries.iter().copied().enumerate() {
        let at = |error: Error| error.key(format!("algorithms.kem[{index}]"));
        match mode {
            Mode::HybridFirst | Mode::HybridOnly => match (entry.is_hybrid(), entry.kem()) {
                (true, _) => result.push(entry),
                (false, Some(kem)) => {
                    let pairs: Vec<_> = classical.iter().filter_map(|group| Group::hybrid_of(kem, *group)).collect();
                    if pairs.is_empty() {
                        return Err(at(without_partner(kem)));
                    }
                    result.extend(pairs);
                }
                (false, None) => {}
            },
            Mode::PureOnly if entry.is_hybrid() => {
                return Err(at(Error::configuration(format!(
                    "{} is a hybrid group, and tls.hybrid_mode is false",
                    entry.iana_name()
                ))
                .hint("set tls.hybrid_mode to true, or name ml-kem-768 or ml-kem-1024")));
            }
            Mode::PureOnly => result.extend(entry.is_post_quantum().then_some(entry)),
            Mode::ClassicalOnly => {}
        }
    }
    if matches!(mode, Mode::HybridFirst | Mode::ClassicalOnly) {
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
        _ => Ok(result),
    }
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

fn notes(mode: Mode, groups: &[Group], listed: bool, old: &[(String, &'static str)]) -> Vec<String> {
    let mut notes = Vec::new();
    if !old.is_empty() {
        let pairs: Vec<_> = old.iter().map(|(old, name)| format!("{old} → {name}")).collect();
        notes
            .push(format!("names from before the standards are accepted, but better written as: {}", pairs.join(", ")));
    }
    match mode {
        Mode::ClassicalOnly => notes.push(
            "tls.hybrid_mode and tls.pqc_only are false: key exchange is classical only, and recorded traffic can be \
             decrypted by a future quantum computer; set tls.hybrid_mode to true"
                .to_owned(),
        ),
        Mode::PureOnly => notes.push(
            "pure ML-KEM without a classical partner: browsers and most clients can't connect; set tls.hybrid_mode to \
             true to reach them"
                .to_owned(),
        ),
        Mode::HybridFirst | Mode::HybridOnly if listed && !groups.contains(&Group::X25519MlKem768) => {
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
        Mode::HybridFirst | Mode::HybridOnly => {}
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(mode: Mode, kem: &[&str]) -> Result<Policy> {
        let names =
            AlgorithmNames { kem: Some(kem.iter().map(|&name| name.to_owned()).collect()), ..Default::default() };
        Policy::resolve(mode, GroupPreference::default(), &names)
    }

    fn groups_of(mode: Mode, kem: &[&str]) -> Vec<Group> {
        resolve(mode, kem).unwrap().groups
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
        let default =
            |mode| Policy::resolve(mode, GroupPreference::default(), &AlgorithmNames::default()).unwrap().groups;
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
    fn the_number_of_an_rsa_kind_is_a_minimum() {
        let policy = Policy { signatures: vec![KeyAlgorithm::Rsa3072], ..Policy::default() };
        assert!(policy.allows_key(KeyKind::Rsa(4096)));
        assert!(policy.allows_key(KeyKind::Rsa(3072)));
        assert!(!policy.allows_key(KeyKind::Rsa(2048)));
        assert!(!policy.allows_key(KeyKind::MlDsa65));
    }
}
