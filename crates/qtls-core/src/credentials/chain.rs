//! A chain as it stands in a file: its order, and what an operator should hear about it before peers do.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::oid::AssociatedOid;
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, BasicConstraints, ExtendedKeyUsage, KeyUsage, SubjectAltName, SubjectKeyIdentifier,
};

use super::{date, display_name};

/// How long before its end a chain is warned of.
pub const EXPIRY_NOTICE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The side of TLS that shows a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A server's chain, checked by clients.
    Server,
    /// A client's chain, checked by servers.
    Client,
}

/// What is worth a warning in a chain, apart from time and from who will see it.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    /// The subjects in the file's order, where that was not the order of a chain.
    reordered: Option<Vec<String>>,
    /// The subject of the last certificate's issuer, and its DER, where the file doesn't end in a self-signed one.
    open_end: Option<OpenEnd>,
    superfluous: Vec<String>,
    sent_root: Option<String>,
    is_ca: bool,
    no_alternative_name: bool,
    no_digital_signature: bool,
    /// The purposes of the leaf, where it names any.
    purposes: Option<Vec<ObjectIdentifier>>,
}

#[derive(Clone, Debug)]
struct OpenEnd {
    issuer: String,
    issuer_der: Vec<u8>,
    /// Whether the leaf stands alone: then the missing issuer is the leaf's own.
    leaf_alone: bool,
}

/// The positions of `chain` in the order of a chain: from the leaf up, then what belongs to no place in it.
pub(super) fn order(chain: &[Certificate], leaf: usize) -> (Vec<usize>, usize) {
    let mut path = vec![leaf];
    loop {
        let last = &chain[path[path.len() - 1]];
        let next = (0..chain.len()).filter(|index| !path.contains(index) && has_issued(&chain[*index], last));
        // A certificate that names its issuer's key tells two issuers of one name apart.
        let Some(next) = next.min_by_key(|index| !same_key(&chain[*index], last)) else { break };
        if is_self_issued(last) {
            break;
        }
        path.push(next);
    }
    let length = path.len();
    let rest: Vec<usize> = (0..chain.len()).filter(|index| !path.contains(index)).collect();
    path.extend(rest);
    (path, length)
}

impl Findings {
    /// Of a chain in its order, whose first `length` certificates are linked. `given` is the order of the file.
    pub(super) fn of(chain: &[Certificate], length: usize, given: Option<Vec<String>>) -> Self {
        let leaf = chain[0].tbs_certificate();
        let last = &chain[length - 1];
        let open_end = (!is_self_issued(last)).then(|| OpenEnd {
            issuer: last.tbs_certificate().issuer().to_string(),
            issuer_der: last.tbs_certificate().issuer().to_der().unwrap_or_default(),
            leaf_alone: length == 1,
        });
        // Another certificate of an issuer in the path (a cross-certificate) gives peers a second way up.
        let linked = |candidate: &Certificate| {
            chain[..length].iter().any(|member| !is_self_issued(member) && has_issued(candidate, member))
        };
        let subject = |certificate: &Certificate| display_name(certificate.tbs_certificate().subject());
        Self {
            reordered: given,
            open_end,
            superfluous: chain[length..].iter().filter(|rest| !linked(rest)).map(subject).collect(),
            sent_root: (length > 1 && is_self_issued(last)).then(|| subject(last)),
            is_ca: extension::<BasicConstraints>(&chain[0]).is_some_and(|constraints| constraints.ca),
            no_alternative_name: leaf.get_extension::<SubjectAltName>().is_ok_and(|names| names.is_none()),
            no_digital_signature: extension::<KeyUsage>(&chain[0]).is_some_and(|usage| !usage.digital_signature()),
            purposes: extension::<ExtendedKeyUsage>(&chain[0]).map(|usage| usage.0),
        }
    }

    /// In sentences. `anchors` are trust anchors that are known here, where a missing issuer may turn out to be one.
    pub(super) fn sentences(&self, purpose: Purpose, anchors: &[CertificateDer<'_>]) -> Vec<String> {
        let mut told = Vec::new();
        if let Some(given) = &self.reordered {
            told.push(format!(
                "the certificates stood in the order {}; they are sent leaf first, each followed by its issuer: \
                 reorder the file",
                given.join(", ")
            ));
        }
        if let Some(end) = self.open_end.as_ref().filter(|end| end.leaf_alone && !end.is_below(anchors)) {
            told.push(format!(
                "the file holds no issuer of the leaf, {}: unless that is a root that peers trust, they can't build \
                 a path: append the intermediate certificates to the file",
                end.issuer
            ));
        }
        if !self.superfluous.is_empty() {
            told.push(format!(
                "superfluous certificates, which belong to no place in the chain, are sent to every peer: {}",
                self.superfluous.join(", ")
            ));
        }
        if let Some(root) = &self.sent_root {
            told.push(format!(
                "the root, {root}, is superfluous in the chain: a peer either has it or can't trust it; remove it \
                 from the file, and handshakes get smaller"
            ));
        }
        let (side, other, needed, name) = match purpose {
            Purpose::Server => ("server", "clients", SERVER_AUTH, "serverAuth"),
            Purpose::Client => ("client", "servers", CLIENT_AUTH, "clientAuth"),
        };
        if self.purposes.as_ref().is_some_and(|purposes| !purposes.contains(&needed)) {
            told.push(format!("the leaf is not made for a TLS {side}: its extended key usage lacks {name}"));
        }
        if self.no_digital_signature {
            told.push("the leaf's key usage lacks digitalSignature, which TLS 1.3 needs of every key".to_owned());
        }
        if self.is_ca {
            told.push(format!(
                "the leaf is a CA certificate (basicConstraints CA:TRUE), which many {other} refuse as a leaf"
            ));
        }
        if purpose == Purpose::Server && self.no_alternative_name {
            told.push(
                "the leaf has no subject alternative name: clients refuse it, whatever its common name is (RFC 9525)"
                    .to_owned(),
            );
        }
        told
    }
}

/// The sentence about a chain that ends soon after `now`, but has not ended yet.
pub(super) fn expires_soon(subject: &str, not_after: SystemTime, now: SystemTime) -> Option<String> {
    let left = not_after.duration_since(now).ok()?;
    if left > EXPIRY_NOTICE {
        return None;
    }
    let days = left.as_secs() / 86_400;
    let days = match days {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    };
    Some(format!("the chain expires in {days}, on {} ({subject}): renew it", date(not_after)))
}

impl OpenEnd {
    fn is_below(&self, anchors: &[CertificateDer<'_>]) -> bool {
        anchors.iter().any(|anchor| {
            Certificate::from_der(anchor)
                .ok()
                .and_then(|anchor| anchor.tbs_certificate().subject().to_der().ok())
                .is_some_and(|subject| subject == self.issuer_der)
        })
    }
}

fn is_self_issued(certificate: &Certificate) -> bool {
    certificate.tbs_certificate().subject() == certificate.tbs_certificate().issuer()
}

/// By name, and by key identifier where both have one. The signature is the peers' to check.
fn has_issued(issuer: &Certificate, certificate: &Certificate) -> bool {
    issuer.tbs_certificate().subject() == certificate.tbs_certificate().issuer()
        && identifiers(issuer, certificate).is_none_or(|(own, wanted)| own == wanted)
}

fn same_key(issuer: &Certificate, certificate: &Certificate) -> bool {
    identifiers(issuer, certificate).is_some_and(|(own, wanted)| own == wanted)
}

fn identifiers(issuer: &Certificate, certificate: &Certificate) -> Option<(Vec<u8>, Vec<u8>)> {
    let own = extension::<SubjectKeyIdentifier>(issuer)?.0.into_bytes().into_vec();
    let wanted = extension::<AuthorityKeyIdentifier>(certificate)?.key_identifier?.into_bytes().into_vec();
    Some((own, wanted))
}

/// An extension, where it is there and can be read: what can't be is for whoever verifies it to judge.
fn extension<'a, T>(certificate: &'a Certificate) -> Option<T>
where
    T: Decode<'a> + AssociatedOid,
{
    certificate.tbs_certificate().get_extension::<T>().ok().flatten().map(|(_, value)| value)
}

const SERVER_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");
const CLIENT_AUTH: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.2");

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::sign::SigningKey;

    use super::super::test_chain::{build, chain_pem, dns_names, extension, pem, tlv};
    use super::super::{Credential, Source, generate, signing_key};
    use super::*;
    use crate::policy::KeyAlgorithm;

    const DAY: i64 = 86_400;
    const YEAR: (i64, i64) = (-DAY, 365 * DAY);

    struct Key {
        pem: Vec<u8>,
        signer: Arc<dyn SigningKey>,
    }

    fn key() -> Key {
        let der = generate(KeyAlgorithm::EcdsaP256).unwrap();
        Key { pem: pem("PRIVATE KEY", der.secret_der()), signer: signing_key(&der).unwrap() }
    }

    fn ca(name: &str, issuer: &str) -> CertificateDer<'static> {
        build(name, issuer, key().signer.as_ref(), YEAR, &[basic_constraints(), identifier(name)])
    }

    fn basic_constraints() -> Vec<u8> {
        extension(0x13, &tlv(0x30, &[0x01, 0x01, 0xff]))
    }

    fn identifier(name: &str) -> Vec<u8> {
        extension(0x0e, &tlv(0x04, name.as_bytes()))
    }

    fn authority(name: &str) -> Vec<u8> {
        extension(0x23, &tlv(0x30, &tlv(0x80, name.as_bytes())))
    }

    fn leaf(own: &Key, extensions: &[Vec<u8>]) -> CertificateDer<'static> {
        build("leaf", "issuing", own.signer.as_ref(), YEAR, extensions)
    }

    fn join(chain: &[CertificateDer<'_>], own: &Key) -> Credential {
        let bytes = chain_pem(chain);
        let cert = Source { origin: "cert.pem", bytes: &bytes };
        Credential::from_sources("x", cert, Source { origin: "key.pem", bytes: &own.pem }, None).unwrap()
    }

    fn told(credential: &Credential) -> Vec<String> {
        credential.warnings(Purpose::Server, SystemTime::now(), &[])
    }

    #[test]
    fn every_order_of_a_chain_is_repaired_and_told() {
        let own = key();
        let right = [leaf(&own, &[dns_names(&["a.example"])]), ca("issuing", "middle"), ca("middle", "root")];
        assert!(told(&join(&right, &own)).is_empty(), "{:?}", told(&join(&right, &own)));
        for [a, b, c] in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let credential = join(&[right[a].clone(), right[b].clone(), right[c].clone()], &own);
            assert_eq!(credential.key.cert, right, "{a}{b}{c}");
            assert_eq!(credential.subject, "CN=leaf");
            let told = told(&credential);
            assert!(told.len() == 1 && told[0].contains("they are sent leaf first"), "{told:?}");
            let names = ["CN=leaf", "CN=issuing", "CN=middle"];
            assert!(told[0].contains(&format!("{}, {}, {}", names[a], names[b], names[c])), "{told:?}");
        }
    }

    #[test]
    fn two_issuers_of_one_name_are_told_apart_by_their_key_identifiers() {
        let own = key();
        let named = |identifier_of: &str| {
            build("issuing", "root", key().signer.as_ref(), YEAR, &[basic_constraints(), identifier(identifier_of)])
        };
        let (old, new) = (named("old"), named("new"));
        let leaf = leaf(&own, &[dns_names(&["a.example"]), authority("new")]);
        let credential = join(&[leaf.clone(), old.clone(), new.clone()], &own);
        assert_eq!(credential.key.cert, [leaf, new, old]);
        let told = told(&credential);
        assert!(told.iter().any(|line| line.starts_with("superfluous certificates")), "{told:?}");
    }

    #[test]
    fn a_cross_certificate_is_not_superfluous_but_a_stranger_and_the_root_are() {
        let own = key();
        let crossed = ca("middle", "other root");
        let leaf = leaf(&own, &[dns_names(&["a.example"])]);
        let chain = [leaf, ca("issuing", "middle"), ca("middle", "root"), crossed, ca("root", "root"), ca("x", "y")];
        let told = told(&join(&chain, &own));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].ends_with("are sent to every peer: CN=x"), "{told:?}");
        assert!(told[1].starts_with("the root, CN=root, is superfluous"), "{told:?}");
    }

    #[test]
    fn a_missing_issuer_is_told_unless_it_is_a_known_anchor() {
        let own = key();
        let credential = join(&[leaf(&own, &[dns_names(&["a.example"])])], &own);
        let told = told(&credential);
        assert!(told.len() == 1 && told[0].contains("no issuer of the leaf, CN=issuing:"), "{told:?}");
        let known = |anchor| credential.warnings(Purpose::Server, SystemTime::now(), &[anchor]);
        assert_eq!(known(ca("another", "another")), told);
        assert!(known(ca("issuing", "issuing")).is_empty());
    }

    #[test]
    fn a_leaf_for_something_else_is_told() {
        let own = key();
        let client_only = extension(0x25, &tlv(0x30, &[0x06, 0x08, 0x2b, 6, 1, 5, 5, 7, 3, 2]));
        let encipherment = extension(0x0f, &[0x03, 0x02, 0x05, 0x20]);
        let extensions = [client_only, encipherment, basic_constraints()];
        let credential = join(&[leaf(&own, &extensions), ca("issuing", "root")], &own);
        let server = told(&credential);
        let client = credential.warnings(Purpose::Client, SystemTime::now(), &[]);
        for (told, phrases) in [
            (&server, &["lacks serverAuth", "lacks digitalSignature", "CA:TRUE", "no subject alternative name"][..]),
            (&client, &["lacks digitalSignature", "CA:TRUE"]),
        ] {
            assert_eq!(told.len(), phrases.len(), "{told:?}");
            assert!(phrases.iter().zip(told).all(|(phrase, line)| line.contains(phrase)), "{told:?}");
        }
    }

    #[test]
    fn the_last_thirty_days_are_told_and_an_expired_chain_is_not_told_twice() {
        let own = key();
        let in_days = |days: i64| {
            let leaf = build("leaf", "issuing", own.signer.as_ref(), YEAR, &[dns_names(&["a.example"])]);
            let issuer = build("issuing", "root", key().signer.as_ref(), (-DAY, days * DAY + 60), &[]);
            told(&join(&[leaf, issuer], &own))
        };
        assert!(in_days(30).is_empty());
        let told = in_days(29);
        assert!(told.len() == 1 && told[0].starts_with("the chain expires in 29 days, on 20"), "{told:?}");
        assert!(told[0].contains("(CN=issuing)"), "{told:?}");
        assert!(in_days(0)[0].starts_with("the chain expires in less than a day"));
        let now = SystemTime::now();
        assert_eq!(expires_soon("x", now - Duration::from_secs(1), now), None);
    }
}
