//! What one side says was negotiated, in the names of the IANA registries whichever program says it.

use serde_json::Value;

/// The facts of a connection that every suite compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiated {
    /// The group: `X25519MLKEM768`.
    pub group: String,
    /// The server's signature scheme: `ecdsa_secp384r1_sha384`; `None` where a session was resumed.
    pub scheme: Option<String>,
    /// The cipher suite: `TLS_AES_256_GCM_SHA384`.
    pub suite: String,
    /// Whether a session was resumed.
    pub resumed: bool,
    /// Whether a HelloRetryRequest was needed.
    pub hello_retry_request: bool,
}

impl Negotiated {
    /// A full handshake without HelloRetryRequest, under TLS_AES_256_GCM_SHA384.
    pub fn new(group: &str, scheme: &str) -> Self {
        Self {
            group: group.to_owned(),
            scheme: Some(scheme.to_owned()),
            suite: "TLS_AES_256_GCM_SHA384".to_owned(),
            resumed: false,
            hello_retry_request: false,
        }
    }

    /// The same under another suite.
    #[must_use]
    pub fn suite(self, suite: &str) -> Self {
        Self { suite: suite.to_owned(), ..self }
    }

    /// The same after a HelloRetryRequest.
    #[must_use]
    pub fn after_retry(self) -> Self {
        Self { hello_retry_request: true, ..self }
    }

    /// The same by resumption: nothing was signed.
    #[must_use]
    pub fn resumed(self) -> Self {
        Self { resumed: true, scheme: None, ..self }
    }

    /// Reads the facts as Q-TLS writes them (`/status.json`, `qtls-client --json`), or the Go peer.
    ///
    /// # Panics
    /// When one of the facts is missing.
    #[track_caller]
    pub fn from_json(facts: &Value) -> Self {
        let text = |key: &str| facts[key].as_str().unwrap_or_else(|| panic!("no `{key}` in {facts}"));
        let flag = |key: &str| facts[key].as_bool().unwrap_or_else(|| panic!("no `{key}` in {facts}"));
        Self {
            group: group_name(text("group")).to_owned(),
            scheme: facts["scheme"]
                .as_str()
                .filter(|scheme| !scheme.is_empty())
                .map(|name| scheme_name(name).to_owned()),
            suite: text("suite").to_owned(),
            resumed: flag("resumed"),
            hello_retry_request: flag("hello_retry_request"),
        }
    }

    /// Whether the group withstands a quantum computer.
    pub fn post_quantum(&self) -> bool {
        self.group.contains("MLKEM")
    }
}

/// The registry's name of a group that a program calls by its own.
pub(crate) fn group_name(name: &str) -> &str {
    match name {
        "X25519" | "ecdh_x25519" => "x25519",
        "CurveP256" | "P-256" | "prime256v1" => "secp256r1",
        "CurveP384" | "P-384" => "secp384r1",
        other => other,
    }
}

/// The registry's name of a signature scheme that a program calls by its own.
pub(crate) fn scheme_name(name: &str) -> &str {
    match name {
        "ECDSAWithP256AndSHA256" => "ecdsa_secp256r1_sha256",
        "ECDSAWithP384AndSHA384" => "ecdsa_secp384r1_sha384",
        "PSSWithSHA256" => "rsa_pss_rsae_sha256",
        "PSSWithSHA384" => "rsa_pss_rsae_sha384",
        "PSSWithSHA512" => "rsa_pss_rsae_sha512",
        other => other,
    }
}
