//! What qtls-core says in the words of server.json, in the words of the header.

/// A message or a hint of qtls-core, with the setters of the header in the place of configuration keys.
pub(crate) fn of_c(text: &str) -> String {
    WORDS.iter().fold(text.to_owned(), |text, (key, word)| text.replace(key, word))
}

/// The longer key before the one that it begins with.
const WORDS: &[(&str, &str)] = &[
    ("algorithms.kem", "groups"),
    ("algorithms.signature_chain", "chain_signatures"),
    ("algorithms.signature", "signatures"),
    ("algorithms.cipher", "suites"),
    ("certificates.allow", "qtls_config_add_allowed()"),
    ("certificates.ca_bundle", "the CA certificates"),
    ("tls.group_preference", "group_preference"),
    ("tls.hybrid_mode", "hybrid_mode"),
    ("tls.pqc_only", "pqc_only"),
    ("tls.profile", "profile"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_become_setters() {
        let text = "algorithms.signature_chain[0]: add it to algorithms.signature, and set tls.hybrid_mode to true";
        assert_eq!(of_c(text), "chain_signatures[0]: add it to signatures, and set hybrid_mode to true");
    }

    /// Whatever key the policy's messages name has to have a word here.
    #[test]
    fn every_setter_has_a_function() {
        let header = include_str!("../../../include/qtls/qtls.h");
        for (_, word) in WORDS.iter().filter(|(key, _)| !key.starts_with("certificates.")) {
            assert!(header.contains(&format!("qtls_config_set_{word}(")), "{word}");
        }
    }
}
