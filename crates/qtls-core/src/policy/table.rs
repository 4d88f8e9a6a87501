//! The one table of algorithm names, aliases and code points.
//!
//! Sources: RFC 9846 (TLS 1.3, successor of RFC 8446), RFC 10024 (hybrid ECDHE-ML-KEM groups), FIPS 203, FIPS 204,
//! and the IANA "TLS Supported Groups" and "TLS SignatureScheme" registries.

use std::fmt;
use std::str::FromStr;

use rustls::{NamedGroup, SignatureScheme};

use crate::credentials::KeyKind;
use crate::error::{Error, Result, nearest};

/// Something that has a row in the table: a standard name, and the names that a configuration may use for it.
pub trait Named: Copy + PartialEq + 'static {
    /// What such a thing is called in messages: `key exchange algorithm`, `cipher suite`, …
    const WHAT: &'static str;
    /// Every one of them, in the table's order.
    const ALL: &'static [Self];

    /// The name used in configurations and messages.
    fn name(self) -> &'static str;
    /// Other names accepted in a configuration, compared without case. Old names are not here.
    fn aliases(self) -> &'static [&'static str];
    /// Names from before the standard, accepted with a warning.
    fn old_names(self) -> &'static [&'static str] {
        &[]
    }

    /// Finds the row for `given`, and whether it was given by a name from before the standard.
    fn find(given: &str) -> Option<(Self, bool)> {
        let is = |name: &&str| name.eq_ignore_ascii_case(given);
        Self::ALL.iter().find_map(|row| {
            if is(&row.name()) || row.aliases().iter().any(&is) {
                Some((*row, false))
            } else {
                row.old_names().iter().any(&is).then_some((*row, true))
            }
        })
    }

    /// Every name that [`find`](Named::find) accepts.
    fn known_names() -> impl Iterator<Item = &'static str> {
        Self::ALL.iter().flat_map(|row| {
            std::iter::once(row.name()).chain(row.aliases().iter().copied()).chain(row.old_names().iter().copied())
        })
    }
}

/// The error for a name that is in none of the lists of names: it names the nearest one, or all of them.
pub(super) fn unknown_name(what: &str, given: &str, known: &[&'static str], standard: &[&'static str]) -> Error {
    let error = Error::configuration(format!("unknown {what} \"{given}\""));
    match nearest(given, known.iter().copied()) {
        Some(near) => error.hint(format!("did you mean \"{near}\"?")),
        None => error.hint(format!("known are: {}", standard.join(", "))),
    }
}

/// Finds the row for `given`, and whether that is a name from before the standard; or says what is nearest.
///
/// # Errors
/// There is no such row.
pub fn lookup<T: Named>(given: &str) -> Result<(T, bool)> {
    T::find(given).ok_or_else(|| {
        let standard: Vec<_> = T::ALL.iter().map(|row| row.name()).collect();
        unknown_name(T::WHAT, given, &T::known_names().collect::<Vec<_>>(), &standard)
    })
}

/// A key encapsulation mechanism of FIPS 203, as a component of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kem {
    /// ML-KEM-768, category 3.
    MlKem768,
    /// ML-KEM-1024, category 5.
    MlKem1024,
}

impl Named for Kem {
    const WHAT: &'static str = "KEM";
    const ALL: &'static [Self] = &[Self::MlKem768, Self::MlKem1024];

    fn name(self) -> &'static str {
        match self {
            Self::MlKem768 => "ml-kem-768",
            Self::MlKem1024 => "ml-kem-1024",
        }
    }

    fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::MlKem768 => &["mlkem768"],
            Self::MlKem1024 => &["mlkem1024"],
        }
    }

    fn old_names(self) -> &'static [&'static str] {
        match self {
            Self::MlKem768 => &["kyber768"],
            Self::MlKem1024 => &["kyber1024"],
        }
    }
}

/// A key exchange group of TLS 1.3: hybrid, pure ML-KEM, or classical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Group {
    /// X25519 with ML-KEM-768, 0x11EC. The one hybrid that browsers speak.
    X25519MlKem768,
    /// P-384 with ML-KEM-1024, 0x11ED.
    SecP384r1MlKem1024,
    /// P-256 with ML-KEM-768, 0x11EB.
    SecP256r1MlKem768,
    /// ML-KEM-768 alone, 0x0201.
    MlKem768,
    /// ML-KEM-1024 alone, 0x0202.
    MlKem1024,
    /// X25519, 0x001D.
    X25519,
    /// NIST P-384, 0x0018.
    Secp384r1,
    /// NIST P-256, 0x0017.
    Secp256r1,
}

impl Named for Group {
    const WHAT: &'static str = "key exchange algorithm";
    const ALL: &'static [Self] = &[
        Self::X25519MlKem768,
        Self::SecP384r1MlKem1024,
        Self::SecP256r1MlKem768,
        Self::MlKem768,
        Self::MlKem1024,
        Self::X25519,
        Self::Secp384r1,
        Self::Secp256r1,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::X25519MlKem768 => "x25519mlkem768",
            Self::SecP384r1MlKem1024 => "secp384r1mlkem1024",
            Self::SecP256r1MlKem768 => "secp256r1mlkem768",
            Self::MlKem768 => Kem::MlKem768.name(),
            Self::MlKem1024 => Kem::MlKem1024.name(),
            Self::X25519 => "x25519",
            Self::Secp384r1 => "ecdhe-p384",
            Self::Secp256r1 => "ecdhe-p256",
        }
    }

    fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::MlKem768 => Kem::MlKem768.aliases(),
            Self::MlKem1024 => Kem::MlKem1024.aliases(),
            Self::X25519 => &["ecdhe-x25519"],
            Self::Secp384r1 => &["secp384r1", "p-384"],
            Self::Secp256r1 => &["secp256r1", "p-256"],
            _ => &[],
        }
    }

    fn old_names(self) -> &'static [&'static str] {
        match self {
            Self::MlKem768 => Kem::MlKem768.old_names(),
            Self::MlKem1024 => Kem::MlKem1024.old_names(),
            _ => &[],
        }
    }
}

impl Group {
    /// The name in the IANA registry, which metrics, logs and output use.
    pub const fn iana_name(self) -> &'static str {
        match self {
            Self::X25519MlKem768 => "X25519MLKEM768",
            Self::SecP384r1MlKem1024 => "SecP384r1MLKEM1024",
            Self::SecP256r1MlKem768 => "SecP256r1MLKEM768",
            Self::MlKem768 => "MLKEM768",
            Self::MlKem1024 => "MLKEM1024",
            Self::X25519 => "x25519",
            Self::Secp384r1 => "secp384r1",
            Self::Secp256r1 => "secp256r1",
        }
    }

    /// The code point on the wire.
    pub const fn code_point(self) -> u16 {
        match self {
            Self::X25519MlKem768 => 0x11ec,
            Self::SecP384r1MlKem1024 => 0x11ed,
            Self::SecP256r1MlKem768 => 0x11eb,
            Self::MlKem768 => 0x0201,
            Self::MlKem1024 => 0x0202,
            Self::X25519 => 0x001d,
            Self::Secp384r1 => 0x0018,
            Self::Secp256r1 => 0x0017,
        }
    }

    /// The group with this code point, if the table has it.
    pub fn from_code_point(code_point: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|group| group.code_point() == code_point)
    }

    /// The ML-KEM inside, if there is one.
    pub const fn kem(self) -> Option<Kem> {
        match self {
            Self::X25519MlKem768 | Self::SecP256r1MlKem768 | Self::MlKem768 => Some(Kem::MlKem768),
            Self::SecP384r1MlKem1024 | Self::MlKem1024 => Some(Kem::MlKem1024),
            Self::X25519 | Self::Secp384r1 | Self::Secp256r1 => None,
        }
    }

    /// The classical group inside a hybrid; for any other group, `None`.
    pub const fn classical_component(self) -> Option<Self> {
        match self {
            Self::X25519MlKem768 => Some(Self::X25519),
            Self::SecP384r1MlKem1024 => Some(Self::Secp384r1),
            Self::SecP256r1MlKem768 => Some(Self::Secp256r1),
            _ => None,
        }
    }

    /// Whether what is exchanged in this group is safe from a quantum computer that reads a recording of it.
    pub const fn is_post_quantum(self) -> bool {
        self.kem().is_some()
    }

    /// Whether this is a hybrid of a classical group and ML-KEM.
    pub const fn is_hybrid(self) -> bool {
        self.classical_component().is_some()
    }

    /// Whether FIPS 140-3 approves of the key exchange: P-256 and P-384 (SP 800-56A), ML-KEM (FIPS 203), and hybrids
    /// whose first secret comes from one of these (SP 800-56C, section 2). X25519 alone is not approved.
    ///
    /// This is about the algorithm. Whether the module that computes it is validated is another question.
    pub const fn is_approved(self) -> bool {
        match self {
            // ML-KEM's secret stands first, also in the hybrid with X25519 (RFC 10024).
            Self::X25519MlKem768 | Self::MlKem768 | Self::MlKem1024 => true,
            Self::SecP384r1MlKem1024 | Self::SecP256r1MlKem768 | Self::Secp384r1 | Self::Secp256r1 => true,
            Self::X25519 => false,
        }
    }

    /// The registered hybrid of `kem` and `classical`, if there is one.
    pub fn hybrid_of(kem: Kem, classical: Self) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|group| group.kem() == Some(kem) && group.classical_component() == Some(classical))
    }
}

/// The name of any group that a peer may offer, in the table or not: `0x6399` where nobody has a better name.
pub fn group_name(code_point: u16) -> String {
    match known_group_name(code_point) {
        Some(name) => name.to_owned(),
        None if is_grease(code_point) => "GREASE".to_owned(),
        None => format!("0x{code_point:04x}"),
    }
}

/// The name of a group, in the table or not, if there is one.
pub fn known_group_name(code_point: u16) -> Option<&'static str> {
    if let Some(group) = Group::from_code_point(code_point) {
        return Some(group.iana_name());
    }
    match (NamedGroup::from(code_point), code_point) {
        (NamedGroup::Unknown(_), 0x001e) => Some("x448"),
        (NamedGroup::Unknown(_), 0x6399) => Some("X25519Kyber768Draft00"),
        (NamedGroup::Unknown(_), 0x639a) => Some("SecP256r1Kyber768Draft00"),
        (named, _) => named.as_str(),
    }
}

/// A kind of key: what a certificate's key is, and what signs a CertificateVerify.
///
/// As an entry of `algorithms.signature`, the number of an RSA kind is a *minimum* key size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAlgorithm {
    /// ML-DSA-44 (FIPS 204), category 2.
    MlDsa44,
    /// ML-DSA-65, category 3.
    MlDsa65,
    /// ML-DSA-87, category 5.
    MlDsa87,
    /// ECDSA on P-256.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// ECDSA on P-521.
    EcdsaP521,
    /// Ed25519.
    Ed25519,
    /// RSA of 2048 bits.
    Rsa2048,
    /// RSA of 3072 bits.
    Rsa3072,
    /// RSA of 4096 bits.
    Rsa4096,
}

impl Named for KeyAlgorithm {
    const WHAT: &'static str = "signature algorithm";
    const ALL: &'static [Self] = &[
        Self::MlDsa65,
        Self::MlDsa87,
        Self::MlDsa44,
        Self::EcdsaP384,
        Self::EcdsaP256,
        Self::EcdsaP521,
        Self::Ed25519,
        Self::Rsa2048,
        Self::Rsa3072,
        Self::Rsa4096,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::MlDsa44 => "ml-dsa-44",
            Self::MlDsa65 => "ml-dsa-65",
            Self::MlDsa87 => "ml-dsa-87",
            Self::EcdsaP256 => "ecdsa-p256",
            Self::EcdsaP384 => "ecdsa-p384",
            Self::EcdsaP521 => "ecdsa-p521",
            Self::Ed25519 => "ed25519",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
        }
    }

    fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::MlDsa44 => &["mldsa44"],
            Self::MlDsa65 => &["mldsa65"],
            Self::MlDsa87 => &["mldsa87"],
            Self::EcdsaP256 => &["ecdsa-secp256r1"],
            Self::EcdsaP384 => &["ecdsa-secp384r1"],
            Self::EcdsaP521 => &["ecdsa-secp521r1"],
            Self::Ed25519 => &[],
            Self::Rsa2048 => &["rsa2048"],
            Self::Rsa3072 => &["rsa3072"],
            Self::Rsa4096 => &["rsa4096"],
        }
    }

    fn old_names(self) -> &'static [&'static str] {
        match self {
            Self::MlDsa44 => &["dilithium2"],
            Self::MlDsa65 => &["dilithium3"],
            Self::MlDsa87 => &["dilithium5"],
            _ => &[],
        }
    }
}

impl KeyAlgorithm {
    /// The kind of the keys that go by this name. Of RSA, the smallest.
    pub const fn kind(self) -> KeyKind {
        match self {
            Self::MlDsa44 => KeyKind::MlDsa44,
            Self::MlDsa65 => KeyKind::MlDsa65,
            Self::MlDsa87 => KeyKind::MlDsa87,
            Self::EcdsaP256 => KeyKind::EcdsaP256,
            Self::EcdsaP384 => KeyKind::EcdsaP384,
            Self::EcdsaP521 => KeyKind::EcdsaP521,
            Self::Ed25519 => KeyKind::Ed25519,
            Self::Rsa2048 => KeyKind::Rsa(2048),
            Self::Rsa3072 => KeyKind::Rsa(3072),
            Self::Rsa4096 => KeyKind::Rsa(4096),
        }
    }

    /// Whether FIPS 140-3 approves of signatures by such keys: FIPS 204, and FIPS 186-5 for the others, Ed25519 among
    /// them.
    pub const fn is_approved(self) -> bool {
        match self {
            Self::MlDsa44 | Self::MlDsa65 | Self::MlDsa87 => true,
            Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521 | Self::Ed25519 => true,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => true,
        }
    }

    /// Whether a key of this kind goes by this name. The number of an RSA entry is a minimum.
    pub fn covers(self, kind: KeyKind) -> bool {
        match (self.kind(), kind) {
            (KeyKind::Rsa(minimum), KeyKind::Rsa(bits)) => minimum <= bits,
            (entry, kind) => entry == kind,
        }
    }

    /// What such a key signs a TLS 1.3 CertificateVerify with: RSA only as PSS (RFC 9846 §4.2.3).
    pub const fn schemes(self) -> &'static [SignatureScheme] {
        match self {
            Self::MlDsa44 => &[SignatureScheme::ML_DSA_44],
            Self::MlDsa65 => &[SignatureScheme::ML_DSA_65],
            Self::MlDsa87 => &[SignatureScheme::ML_DSA_87],
            Self::EcdsaP256 => &[SignatureScheme::ECDSA_NISTP256_SHA256],
            Self::EcdsaP384 => &[SignatureScheme::ECDSA_NISTP384_SHA384],
            Self::EcdsaP521 => &[SignatureScheme::ECDSA_NISTP521_SHA512],
            Self::Ed25519 => &[SignatureScheme::ED25519],
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => {
                &[SignatureScheme::RSA_PSS_SHA512, SignatureScheme::RSA_PSS_SHA384, SignatureScheme::RSA_PSS_SHA256]
            }
        }
    }
}

impl KeyAlgorithm {
    /// Whether a CA with such a key may have signed a certificate with `scheme`. Of ECDSA, only the hash is told by a
    /// certificate's algorithm, not the curve.
    pub fn signs_chains_with(self, scheme: SignatureScheme) -> bool {
        use SignatureScheme as S;
        match self.kind() {
            KeyKind::Rsa(_) => matches!(
                scheme,
                S::RSA_PKCS1_SHA256
                    | S::RSA_PKCS1_SHA384
                    | S::RSA_PKCS1_SHA512
                    | S::RSA_PSS_SHA256
                    | S::RSA_PSS_SHA384
                    | S::RSA_PSS_SHA512
            ),
            KeyKind::EcdsaP256 | KeyKind::EcdsaP384 | KeyKind::EcdsaP521 => {
                matches!(scheme, S::ECDSA_NISTP256_SHA256 | S::ECDSA_NISTP384_SHA384 | S::ECDSA_NISTP521_SHA512)
            }
            _ => self.schemes().contains(&scheme),
        }
    }
}

/// Every signature scheme that has a name here, with its name in the IANA registry: those of [`KeyAlgorithm::schemes`],
/// and those that occur inside chains only.
pub const SCHEMES: &[(SignatureScheme, &str)] = &[
    (SignatureScheme::ML_DSA_44, "mldsa44"),
    (SignatureScheme::ML_DSA_65, "mldsa65"),
    (SignatureScheme::ML_DSA_87, "mldsa87"),
    (SignatureScheme::ECDSA_NISTP256_SHA256, "ecdsa_secp256r1_sha256"),
    (SignatureScheme::ECDSA_NISTP384_SHA384, "ecdsa_secp384r1_sha384"),
    (SignatureScheme::ECDSA_NISTP521_SHA512, "ecdsa_secp521r1_sha512"),
    (SignatureScheme::ED25519, "ed25519"),
    (SignatureScheme::RSA_PSS_SHA256, "rsa_pss_rsae_sha256"),
    (SignatureScheme::RSA_PSS_SHA384, "rsa_pss_rsae_sha384"),
    (SignatureScheme::RSA_PSS_SHA512, "rsa_pss_rsae_sha512"),
    (SignatureScheme::RSA_PKCS1_SHA256, "rsa_pkcs1_sha256"),
    (SignatureScheme::RSA_PKCS1_SHA384, "rsa_pkcs1_sha384"),
    (SignatureScheme::RSA_PKCS1_SHA512, "rsa_pkcs1_sha512"),
];

/// The name of a signature scheme in the IANA registry, if [`SCHEMES`] has it: `mldsa65`, `ecdsa_secp384r1_sha384`.
pub fn known_scheme_name(scheme: SignatureScheme) -> Option<&'static str> {
    SCHEMES.iter().find(|(known, _)| *known == scheme).map(|(_, name)| *name)
}

/// The name of any signature scheme: `0x0403` where [`SCHEMES`] has none.
pub fn scheme_name(scheme: SignatureScheme) -> String {
    known_scheme_name(scheme).map_or_else(|| format!("0x{:04x}", u16::from(scheme)), str::to_owned)
}

/// Whether a code point of a group or a signature scheme is one of those that clients sprinkle in so that servers keep
/// tolerating the unknown (RFC 8701). It offers nothing.
pub const fn is_grease(code_point: u16) -> bool {
    code_point & 0x0f0f == 0x0a0a && code_point >> 8 == code_point & 0xff
}

/// The scheme of [`SCHEMES`] with this name.
pub fn scheme_of_name(name: &str) -> Option<SignatureScheme> {
    SCHEMES.iter().find(|(_, known)| *known == name).map(|(scheme, _)| *scheme)
}

impl fmt::Display for KeyAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for KeyAlgorithm {
    type Err = Error;

    fn from_str(given: &str) -> Result<Self> {
        lookup(given).map(|(algorithm, _)| algorithm)
    }
}

/// A cipher suite of TLS 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CipherSuite {
    /// TLS_AES_256_GCM_SHA384, 0x1302.
    Aes256Gcm,
    /// TLS_AES_128_GCM_SHA256, 0x1301.
    Aes128Gcm,
    /// TLS_CHACHA20_POLY1305_SHA256, 0x1303.
    ChaCha20Poly1305,
}

impl Named for CipherSuite {
    const WHAT: &'static str = "cipher suite";
    const ALL: &'static [Self] = &[Self::Aes256Gcm, Self::Aes128Gcm, Self::ChaCha20Poly1305];

    fn name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "aes-256-gcm",
            Self::Aes128Gcm => "aes-128-gcm",
            Self::ChaCha20Poly1305 => "chacha20-poly1305",
        }
    }

    fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::Aes256Gcm => &["TLS_AES_256_GCM_SHA384"],
            Self::Aes128Gcm => &["TLS_AES_128_GCM_SHA256"],
            Self::ChaCha20Poly1305 => &["TLS_CHACHA20_POLY1305_SHA256"],
        }
    }
}

impl CipherSuite {
    /// The name in the IANA registry.
    pub const fn iana_name(self) -> &'static str {
        match self {
            Self::Aes256Gcm => "TLS_AES_256_GCM_SHA384",
            Self::Aes128Gcm => "TLS_AES_128_GCM_SHA256",
            Self::ChaCha20Poly1305 => "TLS_CHACHA20_POLY1305_SHA256",
        }
    }

    /// The code point on the wire.
    pub const fn code_point(self) -> u16 {
        match self {
            Self::Aes256Gcm => 0x1302,
            Self::Aes128Gcm => 0x1301,
            Self::ChaCha20Poly1305 => 0x1303,
        }
    }

    /// The suite with this code point, if the table has it.
    pub fn from_code_point(code_point: u16) -> Option<Self> {
        Self::ALL.iter().copied().find(|suite| suite.code_point() == code_point)
    }

    /// Whether FIPS 140-3 approves of the cipher: AES-GCM (SP 800-38D), and not ChaCha20.
    pub const fn is_approved(self) -> bool {
        match self {
            Self::Aes256Gcm | Self::Aes128Gcm => true,
            Self::ChaCha20Poly1305 => false,
        }
    }
}

/// The name of a cipher suite of TLS 1.3 that a peer may offer, in the table or not; `None` for suites of other versions,
/// which mean nothing here.
pub fn suite_name(code_point: u16) -> Option<String> {
    match (CipherSuite::from_code_point(code_point), code_point) {
        (Some(suite), _) => Some(suite.iana_name().to_owned()),
        (None, 0x1304) => Some("TLS_AES_128_CCM_SHA256".to_owned()),
        (None, 0x1305) => Some("TLS_AES_128_CCM_8_SHA256".to_owned()),
        // RFC 9846 §B.4: the suites of TLS 1.3 begin with 0x13.
        (None, 0x1300..=0x13ff) => Some(format!("0x{code_point:04x}")),
        (None, _) => None,
    }
}

/// A set of algorithms with a name (`tls.profile`): what is offered and accepted where nothing else is said, and the
/// most that lists of names may choose from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Profile {
    /// The whole table may be chosen from; without lists, hybrids and then classical groups.
    #[default]
    Default,
    /// CNSA 2.0, as the NSA's profiles of TLS 1.3 and of certificates have it (draft-becker-cnsa2-tls-profile,
    /// draft-jenkins-cnsa2-pkix-profile): ML-KEM-1024, ML-DSA-87 for leaves and for everything in their chains, AES-256.
    /// Its hybrid with P-384 is in, as a transition.
    Cnsa2,
    /// What the table flags as approved by FIPS 140-3. The algorithms only: not a statement on the module.
    Fips,
    /// The whole table.
    Compatible,
}

impl Named for Profile {
    const WHAT: &'static str = "profile";
    const ALL: &'static [Self] = &[Self::Default, Self::Cnsa2, Self::Fips, Self::Compatible];

    fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Cnsa2 => "cnsa2",
            Self::Fips => "fips",
            Self::Compatible => "compatible",
        }
    }

    fn aliases(self) -> &'static [&'static str] {
        &[]
    }
}

impl Profile {
    /// The groups, most preferred first.
    pub fn groups(self) -> Vec<Group> {
        self.rows(|group: Group| group.kem() == Some(Kem::MlKem1024), Group::is_approved)
    }

    /// The kinds of key that sign a CertificateVerify, most preferred first.
    pub fn signatures(self) -> Vec<KeyAlgorithm> {
        self.rows(|kind| kind == KeyAlgorithm::MlDsa87, KeyAlgorithm::is_approved)
    }

    /// The kinds of key whose signatures may be in chains, ours and the peers'.
    pub fn chain_signatures(self) -> Vec<KeyAlgorithm> {
        // CNSA 2.0 asks the same of a CA as of a leaf.
        self.signatures()
    }

    /// The cipher suites, most preferred first.
    pub fn suites(self) -> Vec<CipherSuite> {
        self.rows(|suite| suite == CipherSuite::Aes256Gcm, CipherSuite::is_approved)
    }

    fn rows<T: Named>(self, cnsa2: impl Fn(T) -> bool, approved: impl Fn(T) -> bool) -> Vec<T> {
        let all = T::ALL.iter().copied();
        match self {
            Self::Default | Self::Compatible => all.collect(),
            Self::Cnsa2 => all.filter(|row| cnsa2(*row)).collect(),
            Self::Fips => all.filter(|row| approved(*row)).collect(),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_names_are_unambiguous<T: Named + fmt::Debug>() {
        let mut names: Vec<_> = T::known_names().map(str::to_ascii_lowercase).collect();
        names.sort();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all, "a {} name stands twice", T::WHAT);
    }

    #[test]
    fn no_name_means_two_things() {
        assert_names_are_unambiguous::<Group>();
        assert_names_are_unambiguous::<KeyAlgorithm>();
        assert_names_are_unambiguous::<CipherSuite>();
        assert_names_are_unambiguous::<Profile>();
    }

    #[test]
    fn the_names_of_the_specification_are_known() {
        for (name, group) in [("kyber1024", Group::MlKem1024), ("ecdhe-p384", Group::Secp384r1)] {
            assert_eq!(Group::find(name).map(|(group, _)| group), Some(group));
        }
        assert_eq!(KeyAlgorithm::find("dilithium3"), Some((KeyAlgorithm::MlDsa65, true)));
        assert_eq!(KeyAlgorithm::find("RSA-4096"), Some((KeyAlgorithm::Rsa4096, false)));
        assert_eq!(CipherSuite::find("chacha20-poly1305"), Some((CipherSuite::ChaCha20Poly1305, false)));
    }

    #[test]
    fn an_unknown_name_names_the_nearest() {
        let error = lookup::<Group>("kyber102").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown key exchange algorithm \"kyber102\"\n  hint: did you mean \"kyber1024\"?"
        );
        let error = lookup::<CipherSuite>("rot13").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown cipher suite \"rot13\"\n  hint: known are: aes-256-gcm, aes-128-gcm, chacha20-poly1305"
        );
    }

    #[test]
    fn code_points_are_those_of_the_registries() {
        let points: Vec<_> = Group::ALL.iter().map(|group| group.code_point()).collect();
        assert_eq!(points, [0x11ec, 0x11ed, 0x11eb, 0x0201, 0x0202, 0x001d, 0x0018, 0x0017]);
        for group in Group::ALL {
            if let named @ (NamedGroup::X25519
            | NamedGroup::secp256r1
            | NamedGroup::secp384r1
            | NamedGroup::MLKEM768
            | NamedGroup::MLKEM1024
            | NamedGroup::X25519MLKEM768
            | NamedGroup::secp256r1MLKEM768) = NamedGroup::from(group.code_point())
            {
                assert_eq!(named.as_str().unwrap().to_ascii_lowercase(), group.iana_name().to_ascii_lowercase());
            } else {
                assert_eq!(*group, Group::SecP384r1MlKem1024, "rustls has no name for this one alone");
            }
        }
        assert_eq!(u16::from(SignatureScheme::ML_DSA_44), 0x0904);
        assert_eq!(u16::from(SignatureScheme::ML_DSA_65), 0x0905);
        assert_eq!(u16::from(SignatureScheme::ML_DSA_87), 0x0906);
    }

    #[test]
    fn every_scheme_that_signs_here_has_a_name() {
        for scheme in KeyAlgorithm::ALL.iter().flat_map(|algorithm| algorithm.schemes()) {
            assert!(known_scheme_name(*scheme).is_some(), "{scheme:?}");
        }
        assert_eq!(scheme_name(SignatureScheme::from(0x0807)), "ed25519");
        assert_eq!(scheme_name(SignatureScheme::from(0x0808)), "0x0808");
    }

    #[test]
    fn grease_is_sixteen_values_of_two_equal_bytes() {
        let grease: Vec<_> = (0..=u16::MAX).filter(|code_point| is_grease(*code_point)).collect();
        assert_eq!((grease.len(), grease[0], grease[15]), (16, 0x0a0a, 0xfafa));
        assert!(!is_grease(0x0a1a));
    }

    #[test]
    fn each_profile_is_these_algorithms() {
        use CipherSuite::*;
        use Group::*;
        use KeyAlgorithm::*;
        for whole in [Profile::Default, Profile::Compatible] {
            assert_eq!(whole.groups(), Group::ALL);
            assert_eq!(whole.signatures(), KeyAlgorithm::ALL);
            assert_eq!(whole.chain_signatures(), KeyAlgorithm::ALL);
            assert_eq!(whole.suites(), CipherSuite::ALL);
        }
        assert_eq!(Profile::Cnsa2.groups(), [SecP384r1MlKem1024, MlKem1024]);
        assert_eq!(Profile::Cnsa2.signatures(), [MlDsa87]);
        assert_eq!(Profile::Cnsa2.chain_signatures(), [MlDsa87]);
        assert_eq!(Profile::Cnsa2.suites(), [Aes256Gcm]);
        assert_eq!(
            Profile::Fips.groups(),
            [X25519MlKem768, SecP384r1MlKem1024, SecP256r1MlKem768, MlKem768, MlKem1024, Secp384r1, Secp256r1]
        );
        assert_eq!(Profile::Fips.signatures(), KeyAlgorithm::ALL, "Ed25519 is approved since FIPS 186-5");
        assert_eq!(Profile::Fips.chain_signatures(), KeyAlgorithm::ALL);
        assert_eq!(Profile::Fips.suites(), [Aes256Gcm, Aes128Gcm]);
    }

    /// SP 800-56C: the component whose secret stands first decides. Which one that is, the layouts of RFC 10024 say.
    #[test]
    fn a_hybrid_is_approved_where_its_first_component_is() {
        for group in Group::ALL.iter().copied().filter(|group| group.is_hybrid()) {
            let first = match group {
                Group::X25519MlKem768 => Group::MlKem768,
                hybrid => hybrid.classical_component().unwrap(),
            };
            assert_eq!(group.is_approved(), first.is_approved(), "{}", group.iana_name());
        }
    }

    #[test]
    fn a_scheme_is_found_by_its_name() {
        for name in
            ["mldsa44", "mldsa87", "ecdsa_secp521r1_sha512", "ed25519", "rsa_pss_rsae_sha256", "rsa_pkcs1_sha384"]
        {
            assert_eq!(scheme_name(scheme_of_name(name).unwrap()), name);
        }
        assert_eq!(scheme_of_name("ed448"), None);
        assert_eq!(scheme_of_name("0x0403"), None);
    }

    #[test]
    fn offered_suites_of_tls_1_3_have_names() {
        assert_eq!(suite_name(0x1302).as_deref(), Some("TLS_AES_256_GCM_SHA384"));
        assert_eq!(suite_name(0x1304).as_deref(), Some("TLS_AES_128_CCM_SHA256"));
        assert_eq!(suite_name(0x1306).as_deref(), Some("0x1306"));
        assert_eq!(suite_name(0xc02b), None, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
        assert_eq!(suite_name(0x3a3a), None, "GREASE");
    }

    #[test]
    fn offered_groups_have_names() {
        assert_eq!(group_name(0x11ed), "SecP384r1MLKEM1024");
        assert_eq!(group_name(0x0019), "secp521r1");
        assert_eq!(group_name(0x3a3a), "GREASE");
        assert_eq!(group_name(0x6399), "X25519Kyber768Draft00");
        assert_eq!(group_name(0x4242), "0x4242");
    }
}
