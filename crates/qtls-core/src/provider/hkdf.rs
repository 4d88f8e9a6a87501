//! HKDF (RFC 5869) with aws-lc's HMAC, for the key schedule.
//!
//! The one that rustls has calls aws-lc's `HKDF_expand`, which prepares the key of its HMAC anew for each secret, and the
//! key schedule expands most secrets two or three times. Here a key is prepared once, and copied. The secrets are the same;
//! extracting is one HMAC (RFC 5869 §2.2), and expanding is left to rustls.
//!
//! A build on the validated module of aws-lc has to keep rustls' own: there, HKDF is approved as one service.

use std::sync::OnceLock;

use aws_lc_rs::hmac;
use rustls::crypto::hmac::{Hmac, Key, Tag};
use rustls::crypto::tls13::{Hkdf, HkdfExpander, HkdfUsingHmac, OkmBlock};

/// HKDF with one hash function.
#[derive(Debug)]
pub(super) struct PreparedHkdf {
    algorithm: &'static Algorithm,
    /// The early secret of a handshake without a pre-shared key: always the same, and not secret.
    without_psk: OnceLock<PreparedKey>,
}

impl PreparedHkdf {
    pub(super) const fn sha256() -> Self {
        Self::new(&Algorithm { hmac: hmac::HMAC_SHA256, length: 32 })
    }

    pub(super) const fn sha384() -> Self {
        Self::new(&Algorithm { hmac: hmac::HMAC_SHA384, length: 48 })
    }

    const fn new(algorithm: &'static Algorithm) -> Self {
        Self { algorithm, without_psk: OnceLock::new() }
    }

    fn extract(&self, salt: Option<&[u8]>, secret: &[u8]) -> OkmBlock {
        let salt = salt.unwrap_or_else(|| self.zeroes());
        OkmBlock::new(self.algorithm.prepare(salt).sign(&[secret]).as_ref())
    }

    fn zeroes(&self) -> &'static [u8] {
        &[0; Tag::MAX_LEN][..self.algorithm.length]
    }
}

impl Hkdf for PreparedHkdf {
    fn extract_from_zero_ikm(&self, salt: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        if salt.is_some() {
            return self.extract_from_secret(salt, self.zeroes());
        }
        let prepared =
            self.without_psk.get_or_init(|| self.algorithm.prepare(self.extract(None, self.zeroes()).as_ref()));
        HkdfUsingHmac(&Ready(prepared)).expander_for_okm(&OkmBlock::new(&[]))
    }

    fn extract_from_secret(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        self.expander_for_okm(&self.extract(salt, secret))
    }

    fn expander_for_okm(&self, okm: &OkmBlock) -> Box<dyn HkdfExpander> {
        HkdfUsingHmac(self.algorithm).expander_for_okm(okm)
    }

    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> Tag {
        self.algorithm.prepare(key.as_ref()).sign(&[message])
    }
}

#[derive(Debug)]
struct Algorithm {
    hmac: hmac::Algorithm,
    /// Of its output, in bytes.
    length: usize,
}

impl Algorithm {
    fn prepare(&self, key: &[u8]) -> PreparedKey {
        PreparedKey { key: hmac::Key::new(self.hmac, key), length: self.length }
    }
}

impl Hmac for Algorithm {
    fn with_key(&self, key: &[u8]) -> Box<dyn Key> {
        Box::new(self.prepare(key))
    }

    fn hash_output_len(&self) -> usize {
        self.length
    }
}

/// A key that is there already, whatever is asked for.
struct Ready<'a>(&'a PreparedKey);

impl Hmac for Ready<'_> {
    fn with_key(&self, _key: &[u8]) -> Box<dyn Key> {
        Box::new(self.0.clone())
    }

    fn hash_output_len(&self) -> usize {
        self.0.length
    }
}

/// aws-lc wipes it when it goes.
#[derive(Clone, Debug)]
struct PreparedKey {
    key: hmac::Key,
    length: usize,
}

impl Key for PreparedKey {
    fn sign_concat(&self, first: &[u8], middle: &[&[u8]], last: &[u8]) -> Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(first);
        middle.iter().for_each(|part| context.update(part));
        context.update(last);
        Tag::new(context.sign().as_ref())
    }

    fn tag_len(&self) -> usize {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use rustls::SupportedCipherSuite;
    use rustls::crypto::aws_lc_rs::cipher_suite;

    use super::*;

    /// What this and rustls' own make of the same input.
    fn assert_same(what: &str, ours: &dyn HkdfExpander, stock: &dyn HkdfExpander) {
        assert_eq!(ours.hash_len(), stock.hash_len(), "{what}");
        let length = stock.hash_len();
        for info in [&[][..], &[&b"info"[..]], &[b"\0\x30", b"\x0d", b"tls13 derived", b"", &[7; 48]]] {
            assert_eq!(ours.expand_block(info).as_ref(), stock.expand_block(info).as_ref(), "{what}");
            for wanted in [1, 12, 16, length - 1, length, length + 1, 255 * length] {
                let (mut one, mut other) = (vec![0; wanted], vec![0; wanted]);
                ours.expand_slice(info, &mut one).unwrap();
                stock.expand_slice(info, &mut other).unwrap();
                assert_eq!(one, other, "{what}, {wanted} bytes");
            }
            assert!(ours.expand_slice(info, &mut vec![0; 255 * length + 1]).is_err(), "{what}");
        }
    }

    #[test]
    fn its_secrets_are_those_of_rustls() {
        let suites = [
            (cipher_suite::TLS13_AES_128_GCM_SHA256, PreparedHkdf::sha256()),
            (cipher_suite::TLS13_AES_256_GCM_SHA384, PreparedHkdf::sha384()),
        ];
        for (suite, ours) in suites {
            let SupportedCipherSuite::Tls13(stock) = suite;
            let stock = stock.hkdf_provider;
            let long = [0xa5; 300];
            for salt in [None, Some(&[][..]), Some(&b"salt"[..]), Some(&long[..])] {
                // Twice, since the first time is another way.
                for _ in 0..2 {
                    let (ours, stock) = (ours.extract_from_zero_ikm(salt), stock.extract_from_zero_ikm(salt));
                    assert_same(&format!("{suite:?}, nothing under {salt:x?}"), &*ours, &*stock);
                }
                for secret in [&[][..], b"s", &long[..64], &long] {
                    let (ours, stock) =
                        (ours.extract_from_secret(salt, secret), stock.extract_from_secret(salt, secret));
                    assert_same(&format!("{suite:?}, {secret:x?} under {salt:x?}"), &*ours, &*stock);
                }
            }
            for okm in [&long[..32], &long[..48], &long[..64]].map(OkmBlock::new) {
                assert_same(
                    &format!("{suite:?}, block"),
                    &*ours.expander_for_okm(&okm),
                    &*stock.expander_for_okm(&okm),
                );
                for message in [&[][..], &long] {
                    assert_eq!(ours.hmac_sign(&okm, message).as_ref(), stock.hmac_sign(&okm, message).as_ref());
                }
            }
        }
    }
}
