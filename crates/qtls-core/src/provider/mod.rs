//! The rustls `CryptoProvider`: aws-lc for every algorithm of the policy, in the policy's order.

mod hkdf;

use std::sync::{Arc, LazyLock};

use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::tls13::Hkdf;
use rustls::crypto::{ActiveKeyExchange, CompletedKeyExchange, CryptoProvider, SharedSecret, SupportedKxGroup};
use rustls::ffdhe_groups::FfdheGroup;
use rustls::{
    CipherSuiteCommon, Error, NamedGroup, PeerMisbehaved, ProtocolVersion, SupportedCipherSuite, Tls13CipherSuite,
};

use crate::policy::{CipherSuite, Group};
use hkdf::PreparedHkdf;

/// A provider that offers and accepts exactly `groups` and `suites`, most preferred first.
pub fn provider(groups: &[Group], suites: &[CipherSuite]) -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        kx_groups: groups.iter().map(|group| kx_group(*group)).collect(),
        cipher_suites: suites.iter().map(|suite| cipher_suite(*suite)).collect(),
        ..default_provider()
    })
}

fn kx_group(group: Group) -> &'static dyn SupportedKxGroup {
    match group {
        Group::X25519MlKem768 => kx_group::X25519MLKEM768,
        Group::SecP384r1MlKem1024 => &SecP384r1MlKem1024,
        Group::SecP256r1MlKem768 => kx_group::SECP256R1MLKEM768,
        Group::MlKem768 => kx_group::MLKEM768,
        Group::MlKem1024 => kx_group::MLKEM1024,
        Group::X25519 => kx_group::X25519,
        Group::Secp384r1 => kx_group::SECP384R1,
        Group::Secp256r1 => kx_group::SECP256R1,
    }
}

fn cipher_suite(suite: CipherSuite) -> SupportedCipherSuite {
    static SHA256: PreparedHkdf = PreparedHkdf::sha256();
    static SHA384: PreparedHkdf = PreparedHkdf::sha384();
    static AES_256_GCM: LazyLock<Tls13CipherSuite> =
        LazyLock::new(|| with_hkdf(cipher_suite::TLS13_AES_256_GCM_SHA384, &SHA384));
    static AES_128_GCM: LazyLock<Tls13CipherSuite> =
        LazyLock::new(|| with_hkdf(cipher_suite::TLS13_AES_128_GCM_SHA256, &SHA256));
    static CHACHA20_POLY1305: LazyLock<Tls13CipherSuite> =
        LazyLock::new(|| with_hkdf(cipher_suite::TLS13_CHACHA20_POLY1305_SHA256, &SHA256));
    SupportedCipherSuite::Tls13(match suite {
        CipherSuite::Aes256Gcm => &AES_256_GCM,
        CipherSuite::Aes128Gcm => &AES_128_GCM,
        CipherSuite::ChaCha20Poly1305 => &CHACHA20_POLY1305,
    })
}

/// The suite as rustls has it, with another HKDF.
fn with_hkdf(suite: SupportedCipherSuite, hkdf_provider: &'static dyn Hkdf) -> Tls13CipherSuite {
    let SupportedCipherSuite::Tls13(stock) = suite;
    let common = CipherSuiteCommon { ..stock.common };
    Tls13CipherSuite { common, hkdf_provider, aead_alg: stock.aead_alg, quic: stock.quic }
}

/// SecP384r1MLKEM1024 (RFC 10024), which rustls lacks. Both components are aws-lc's through rustls; what is ours is
/// only that the P-384 half stands first in both shares and in the secret.
#[derive(Debug)]
struct SecP384r1MlKem1024;

const NAME: NamedGroup = NamedGroup::Unknown(Group::SecP384r1MlKem1024.code_point());
/// An uncompressed P-384 point.
const EC_SHARE_LEN: usize = 97;
/// An ML-KEM-1024 encapsulation key and an ML-KEM-1024 ciphertext have the same length.
const KEM_SHARE_LEN: usize = 1568;

fn split(share: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    if share.len() != EC_SHARE_LEN + KEM_SHARE_LEN {
        return Err(PeerMisbehaved::InvalidKeyShare.into());
    }
    Ok(share.split_at(EC_SHARE_LEN))
}

fn joined_secret(ec: &SharedSecret, kem: &SharedSecret) -> SharedSecret {
    SharedSecret::from([ec.secret_bytes(), kem.secret_bytes()].concat())
}

impl SupportedKxGroup for SecP384r1MlKem1024 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let ec = kx_group::SECP384R1.start()?;
        let kem = kx_group::MLKEM1024.start()?;
        let share = [ec.pub_key(), kem.pub_key()].concat();
        Ok(Box::new(Active { ec, kem, share }))
    }

    fn start_and_complete(&self, client_share: &[u8]) -> Result<CompletedKeyExchange, Error> {
        let (ec, kem) = split(client_share)?;
        let ec = kx_group::SECP384R1.start_and_complete(ec)?;
        let kem = kx_group::MLKEM1024.start_and_complete(kem)?;
        Ok(CompletedKeyExchange {
            group: NAME,
            pub_key: [ec.pub_key, kem.pub_key].concat(),
            secret: joined_secret(&ec.secret, &kem.secret),
        })
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn name(&self) -> NamedGroup {
        NAME
    }

    /// SP 800-56C: the component that stands first decides.
    fn fips(&self) -> bool {
        kx_group::SECP384R1.fips()
    }

    fn usable_for_version(&self, version: ProtocolVersion) -> bool {
        version == ProtocolVersion::TLSv1_3
    }
}

struct Active {
    ec: Box<dyn ActiveKeyExchange>,
    kem: Box<dyn ActiveKeyExchange>,
    share: Vec<u8>,
}

impl ActiveKeyExchange for Active {
    fn complete(self: Box<Self>, server_share: &[u8]) -> Result<SharedSecret, Error> {
        let (ec, kem) = split(server_share)?;
        Ok(joined_secret(&self.ec.complete(ec)?, &self.kem.complete(kem)?))
    }

    /// Lets rustls offer the P-384 share on its own too, without a second key generation.
    fn hybrid_component(&self) -> Option<(NamedGroup, &[u8])> {
        Some((self.ec.group(), self.ec.pub_key()))
    }

    fn complete_hybrid_component(self: Box<Self>, server_share: &[u8]) -> Result<SharedSecret, Error> {
        self.ec.complete(server_share)
    }

    fn pub_key(&self) -> &[u8] {
        &self.share
    }

    fn ffdhe_group(&self) -> Option<FfdheGroup<'static>> {
        None
    }

    fn group(&self) -> NamedGroup {
        NAME
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Named;

    #[test]
    fn every_group_of_the_table_agrees_with_itself() {
        for group in Group::ALL {
            let kx = kx_group(*group);
            assert_eq!(u16::from(kx.name()), group.code_point());
            assert!(kx.usable_for_version(ProtocolVersion::TLSv1_3));
            let client = kx.start().unwrap();
            let server = kx.start_and_complete(client.pub_key()).unwrap();
            assert_eq!(server.group, kx.name());
            let secret = client.complete(&server.pub_key).unwrap();
            assert_eq!(secret.secret_bytes(), server.secret.secret_bytes(), "{}", group.iana_name());
        }
    }

    #[test]
    fn every_suite_of_the_table_is_the_one_it_says() {
        for suite in CipherSuite::ALL {
            assert_eq!(u16::from(cipher_suite(*suite).suite()), suite.code_point());
        }
    }

    #[test]
    fn secp384r1mlkem1024_has_the_layout_of_rfc_10024() {
        let client = SecP384r1MlKem1024.start().unwrap();
        assert_eq!(client.pub_key().len(), 1665);
        let (group, component) = client.hybrid_component().unwrap();
        assert_eq!(group, NamedGroup::secp384r1);
        assert_eq!(component, &client.pub_key()[..97], "the P-384 share stands first");
        let server = SecP384r1MlKem1024.start_and_complete(client.pub_key()).unwrap();
        assert_eq!(server.pub_key.len(), 1665);
        assert_eq!(server.secret.secret_bytes().len(), 48 + 32);
    }

    #[test]
    fn the_classical_component_completes_alone() {
        let client = SecP384r1MlKem1024.start().unwrap();
        let share = client.hybrid_component().unwrap().1.to_vec();
        let server = kx_group::SECP384R1.start_and_complete(&share).unwrap();
        let secret = client.complete_hybrid_component(&server.pub_key).unwrap();
        assert_eq!(secret.secret_bytes(), server.secret.secret_bytes());
    }

    #[test]
    fn shares_of_a_wrong_length_are_refused() {
        let good = SecP384r1MlKem1024.start().unwrap().pub_key().to_vec();
        for share in [&good[..good.len() - 1], &[&good[..], &[0]].concat(), &[][..]] {
            assert!(matches!(
                SecP384r1MlKem1024.start_and_complete(share),
                Err(Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare))
            ));
        }
        let mut off_curve = good;
        off_curve[5] ^= 1;
        assert!(SecP384r1MlKem1024.start_and_complete(&off_curve).is_err());
    }

    /// Upstream defaults that the policy relies on: an update that moves one of them must fail here.
    #[test]
    fn what_rustls_has_besides_is_known() {
        let groups: Vec<_> =
            rustls::crypto::aws_lc_rs::ALL_KX_GROUPS.iter().map(|group| u16::from(group.name())).collect();
        assert!(!groups.contains(&0x11ed), "rustls has SecP384r1MLKEM1024 now: use its own");
        let suites = default_provider().cipher_suites;
        assert!(suites.iter().all(|suite| suite.tls13().is_some()), "TLS 1.2 must stay off");
        assert_eq!(suites.len(), CipherSuite::ALL.len());
    }
}
