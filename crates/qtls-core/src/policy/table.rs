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

/// Finds the row for `given`, or says what is nearest.
pub(super) fn lookup<T: Named>(given: &str) -> Result<(T, bool)> {
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
    match Group::from_code_point(code_point) {
        Some(group) => group.iana_name().to_owned(),
        // RFC 8701: values that clients sprinkle in so that servers keep tolerating the unknown.
        None if code_point & 0x0f0f == 0x0a0a && code_point >> 8 == code_point & 0xff => "GREASE".to_owned(),
        None => match NamedGroup::from(code_point) {
            NamedGroup::Unknown(_) => match code_point {
                0x001e => "x448".to_owned(),
                0x6399 => "X25519Kyber768Draft00".to_owned(),
                0x639a => "SecP256r1Kyber768Draft00".to_owned(),
                _ => format!("0x{code_point:04x}"),
            },
            named => named.as_str().map_or_else(|| format!("0x{code_point:04x}"), str::to_owned),
        },
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

/// The name of a signature scheme in the IANA registry: `mldsa65`, `ecdsa_secp384r1_sha384`.
pub fn scheme_name(scheme: SignatureScheme) -> String {
    match scheme {
        SignatureScheme::ML_DSA_44 => "mldsa44",
        SignatureScheme::ML_DSA_65 => "mldsa65",
        SignatureScheme::ML_DSA_87 => "mldsa87",
        SignatureScheme::ECDSA_NISTP256_SHA256 => "ecdsa_secp256r1_sha256",
        SignatureScheme::ECDSA_NISTP384_SHA384 => "ecdsa_secp384r1_sha384",
        SignatureScheme::ECDSA_NISTP521_SHA512 => "ecdsa_secp521r1_sha512",
        SignatureScheme::ED25519 => "ed25519",
        SignatureScheme::RSA_PSS_SHA256 => "rsa_pss_rsae_sha256",
        SignatureScheme::RSA_PSS_SHA384 => "rsa_pss_rsae_sha384",
        SignatureScheme::RSA_PSS_SHA512 => "rsa_pss_rsae_sha512",
        SignatureScheme::RSA_PKCS1_SHA256 => "rsa_pkcs1_sha256",
        SignatureScheme::RSA_PKCS1_SHA384 => "rsa_pkcs1_sha384",
        SignatureScheme::RSA_PKCS1_SHA512 => "rsa_pkcs1_sha512",
        other => return format!("0x{:04x}", u16::from(other)),
    }
    .to_owned()
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
    fn offered_groups_have_names() {
        assert_eq!(group_name(0x11ed), "SecP384r1MLKEM1024");
        assert_eq!(group_name(0x0019), "secp521r1");
        assert_eq!(group_name(0x3a3a), "GREASE");
        assert_eq!(group_name(0x6399), "X25519Kyber768Draft00");
        assert_eq!(group_name(0x4242), "0x4242");
    }
}
