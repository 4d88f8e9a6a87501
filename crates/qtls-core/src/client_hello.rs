//! What a ClientHello offers, and the decision on the group.
//!
//! rustls parses the ClientHello; what it doesn't show, the groups of the key shares and the schemes for certificates,
//! is read here from the same bytes.
//! Nothing here decides whether a message is well-formed: rustls judges the very bytes that are read here.

use std::borrow::Cow;

use rustls::SignatureScheme;
use rustls::server::ClientHello;

use crate::policy::{CipherSuite, Group, GroupPreference, Named, Policy, group_name, scheme_of_name};

/// What a client offers, as far as decisions and reports need it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// The name asked for by SNI.
    pub server_name: Option<String>,
    /// Code points of `supported_groups`, in the client's order.
    pub groups: Vec<u16>,
    /// Code points of the groups that came with a key share.
    pub shares: Vec<u16>,
    /// `signature_algorithms`, in the client's order.
    pub schemes: Vec<SignatureScheme>,
    /// `signature_algorithms_cert`, if the client sent it: what it accepts inside chains.
    pub chain_schemes: Option<Vec<SignatureScheme>>,
    /// Code points of the cipher suites, in the client's order, those of TLS 1.2 among them.
    pub suites: Vec<u16>,
    /// The protocols of ALPN (RFC 7301), in the client's order.
    pub alpn: Alpn,
}

/// Protocols that a client offers by ALPN, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alpn(Box<[u8]>);

impl Alpn {
    /// These protocols. What is longer than 255 bytes is no name of a protocol, and is left out.
    pub fn new<'a>(protocols: impl IntoIterator<Item = &'a [u8]>) -> Self {
        // As on the wire: each behind its length.
        let mut all = Vec::new();
        for protocol in protocols {
            if let Ok(length) = u8::try_from(protocol.len()) {
                all.push(length);
                all.extend_from_slice(protocol);
            }
        }
        Self(all.into())
    }

    /// Whether `protocol` is among them.
    pub fn offers(&self, protocol: &[u8]) -> bool {
        let mut rest = &*self.0;
        while let Some((length, behind)) = rest.split_first() {
            let (one, behind) = behind.split_at(usize::from(*length).min(behind.len()));
            if one == protocol {
                return true;
            }
            rest = behind;
        }
        false
    }
}

impl Offer {
    /// What `hello` offers; `records` are the TLS records that it was read from.
    pub fn new(hello: &ClientHello<'_>, records: &[u8]) -> Self {
        let unparsed = Unparsed::read(records).unwrap_or_default();
        Self {
            server_name: hello.server_name().map(str::to_owned),
            groups: hello.named_groups().unwrap_or_default().iter().map(|group| u16::from(*group)).collect(),
            shares: unparsed.shares,
            schemes: hello.signature_schemes().to_vec(),
            chain_schemes: unparsed.chain_schemes,
            suites: hello.cipher_suites().iter().map(|suite| u16::from(*suite)).collect(),
            alpn: hello.alpn().map(Alpn::new).unwrap_or_default(),
        }
    }

    /// What a line of a log says that was offered, by the names of the registries. Names that the policy table hasn't can
    /// agree with nothing, and are left out. Of key shares a log says nothing: they don't decide who is served.
    pub fn of_names<'a>(
        groups: impl IntoIterator<Item = &'a str>,
        schemes: impl IntoIterator<Item = &'a str>,
        suites: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let group = |name| Group::ALL.iter().find(|group| group.iana_name() == name).map(|group| group.code_point());
        let suite = |name| CipherSuite::ALL.iter().find(|suite| suite.iana_name() == name);
        Self {
            groups: groups.into_iter().filter_map(group).collect(),
            schemes: schemes.into_iter().filter_map(scheme_of_name).collect(),
            suites: suites.into_iter().filter_map(suite).map(|suite| suite.code_point()).collect(),
            ..Self::default()
        }
    }

    /// What the client accepts a certificate to be signed with: without `signature_algorithms_cert`,
    /// `signature_algorithms` speaks for both (RFC 9846 §4.2.3).
    pub fn schemes_in_chains(&self) -> &[SignatureScheme] {
        self.chain_schemes.as_deref().unwrap_or(&self.schemes)
    }

    /// The names of the offered groups, for messages.
    pub fn group_names(&self) -> String {
        match self.groups.as_slice() {
            [] => "none".to_owned(),
            groups => groups.iter().map(|group| group_name(*group)).collect::<Vec<_>>().join(", "),
        }
    }
}

/// The group that a handshake will use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupDecision {
    /// The group.
    pub group: Group,
    /// Whether the client has to be asked for a share, by a HelloRetryRequest.
    pub retry: bool,
}

/// Decides on the group, or `None` where client and policy have none in common.
///
/// - [`GroupPreference::PostQuantum`]: our first post-quantum group that came with a share; else our first
///   post-quantum group that the client supports, by HelloRetryRequest; else our first classical group that came with
///   a share; else our first classical group that the client supports.
/// - [`GroupPreference::Strict`]: our first group that the client supports.
/// - [`GroupPreference::Client`]: the client's first group that we support.
pub fn decide_group(policy: &Policy, offer: &Offer) -> Option<GroupDecision> {
    let supported = |group: &Group| offer.groups.contains(&group.code_point());
    let shared = |group: &Group| offer.shares.contains(&group.code_point());
    let mutual = || policy.groups.iter().copied().filter(supported);
    let post_quantum = || mutual().filter(|group| group.is_post_quantum());
    let group = match policy.group_preference {
        GroupPreference::PostQuantum => post_quantum()
            .find(shared)
            .or_else(|| post_quantum().next())
            .or_else(|| mutual().find(shared))
            .or_else(|| mutual().next()),
        GroupPreference::Strict => mutual().next(),
        GroupPreference::Client => offer
            .groups
            .iter()
            .filter_map(|code_point| Group::from_code_point(*code_point))
            .find(|group| policy.groups.contains(group)),
    }?;
    Some(GroupDecision { group, retry: !shared(&group) })
}

/// The groups of the `key_share` extension of the ClientHello in these TLS records.
///
/// `None` where there is no complete ClientHello, or it is malformed: then rustls says so, not we.
pub fn key_share_groups(records: &[u8]) -> Option<Vec<u16>> {
    Unparsed::read(records).map(|unparsed| unparsed.shares)
}

/// What rustls parses and doesn't show.
#[derive(Default)]
struct Unparsed {
    shares: Vec<u16>,
    chain_schemes: Option<Vec<SignatureScheme>>,
}

impl Unparsed {
    fn read(records: &[u8]) -> Option<Self> {
        const SIGNATURE_ALGORITHMS_CERT: u16 = 50;
        const KEY_SHARE: u16 = 51;

        let message = client_hello_message(records)?;
        let mut hello = Reader(&message);
        hello.take(2 + 32)?; // legacy_version, random
        let session_id = hello.u8()?.into();
        hello.take(session_id)?;
        let suites = hello.u16()?.into();
        hello.take(suites)?;
        let compression = hello.u8()?.into();
        hello.take(compression)?;
        let length = hello.u16()?.into();
        let mut extensions = Reader(hello.take(length)?);
        let mut found = Self::default();
        while !extensions.0.is_empty() {
            let kind = extensions.u16()?;
            let length = extensions.u16()?.into();
            let mut body = Reader(extensions.take(length)?);
            if !matches!(kind, SIGNATURE_ALGORITHMS_CERT | KEY_SHARE) {
                continue;
            }
            let length = body.u16()?.into();
            let mut entries = Reader(body.take(length)?);
            let mut schemes = Vec::new();
            while !entries.0.is_empty() {
                let entry = entries.u16()?;
                if kind == KEY_SHARE {
                    found.shares.push(entry);
                    let length = entries.u16()?.into();
                    entries.take(length)?;
                } else {
                    schemes.push(SignatureScheme::from(entry));
                }
            }
            if kind == SIGNATURE_ALGORITHMS_CERT {
                found.chain_schemes = Some(schemes);
            }
        }
        Some(found)
    }
}

/// The body of the ClientHello in these TLS records, whole. Copied only where it comes in more than one of them.
fn client_hello_message(records: &[u8]) -> Option<Cow<'_, [u8]>> {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    /// The type of a handshake message, and its length.
    const HEADER: usize = 4;

    let mut message = Cow::Borrowed(&[][..]);
    let mut rest = Reader(records);
    while !rest.0.is_empty() {
        let content_type = rest.u8()?;
        rest.take(2)?;
        let length = rest.u16()?.into();
        // The last record may be incomplete, or belong to what follows the ClientHello.
        let Some(fragment) = rest.take(length) else { break };
        if content_type != HANDSHAKE {
            break;
        }
        if message.is_empty() {
            message = Cow::Borrowed(fragment);
        } else {
            message.to_mut().extend_from_slice(fragment);
        }
    }

    let mut header = Reader(&message);
    if header.u8()? != CLIENT_HELLO {
        return None;
    }
    let length = (usize::from(header.u8()?) << 16) | usize::from(header.u16()?);
    match message {
        Cow::Borrowed(message) => message.get(HEADER..HEADER + length).map(Cow::Borrowed),
        Cow::Owned(message) => message.get(HEADER..HEADER + length).map(|body| Cow::Owned(body.to_vec())),
    }
}

/// What remains to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustls::pki_types::ServerName;
    use rustls::server::Acceptor;
    use rustls::{ClientConfig, ClientConnection, RootCertStore};

    use super::*;
    use crate::policy::Mode;
    use crate::provider::provider;

    fn policy(groups: &[Group], group_preference: GroupPreference) -> Policy {
        Policy { groups: groups.to_vec(), group_preference, ..Policy::default() }
    }

    fn offer(groups: &[Group], shares: &[Group]) -> Offer {
        let points = |groups: &[Group]| groups.iter().map(|group| group.code_point()).collect();
        Offer { groups: points(groups), shares: points(shares), ..Offer::default() }
    }

    fn decide(
        preference: GroupPreference,
        ours: &[Group],
        groups: &[Group],
        shares: &[Group],
    ) -> Option<(Group, bool)> {
        decide_group(&policy(ours, preference), &offer(groups, shares)).map(|decision| (decision.group, decision.retry))
    }

    use Group::{SecP384r1MlKem1024 as P, Secp384r1 as P384, X25519, X25519MlKem768 as X};

    #[test]
    fn post_quantum_avoids_a_retry_where_a_hybrid_share_came() {
        use GroupPreference::PostQuantum;
        // `openssl s_client -groups SecP384r1MLKEM1024:*X25519MLKEM768`
        assert_eq!(decide(PostQuantum, &[P, X], &[P, X], &[X]), Some((X, false)));
        assert_eq!(decide(PostQuantum, &[P, X], &[X, P], &[X, P]), Some((P, false)), "our order among the shared");
    }

    #[test]
    fn post_quantum_pays_a_retry_for_a_hybrid_and_none_for_a_classical_group() {
        use GroupPreference::PostQuantum;
        let ours = [X, P, X25519, P384];
        assert_eq!(decide(PostQuantum, &ours, &[X25519, X], &[X25519]), Some((X, true)));
        assert_eq!(decide(PostQuantum, &ours, &[P384, P], &[P384]), Some((P, true)));
        assert_eq!(decide(PostQuantum, &ours, &[X25519, P384], &[P384]), Some((P384, false)));
        assert_eq!(decide(PostQuantum, &ours, &[P384], &[]), Some((P384, true)));
    }

    #[test]
    fn strict_is_our_order_and_client_is_theirs() {
        assert_eq!(decide(GroupPreference::Strict, &[P, X], &[X, P], &[X]), Some((P, true)));
        assert_eq!(decide(GroupPreference::Client, &[P, X, X25519], &[X25519, X, P], &[X25519]), Some((X25519, false)));
    }

    #[test]
    fn nothing_in_common_is_nothing() {
        for preference in [GroupPreference::PostQuantum, GroupPreference::Strict, GroupPreference::Client] {
            assert_eq!(decide(preference, &[X, P], &[X25519], &[X25519]), None);
        }
    }

    #[test]
    fn what_decides_is_always_mutual() {
        let all = Group::ALL;
        for preference in [GroupPreference::PostQuantum, GroupPreference::Strict, GroupPreference::Client] {
            for mask in 0u32..256 {
                let theirs: Vec<_> = (0..8).filter(|bit| mask & (1 << bit) != 0).map(|bit| all[bit]).collect();
                let ours = &all[..4];
                let decided = decide(preference, ours, &theirs, &theirs[theirs.len() / 2..]);
                assert_eq!(decided.is_some(), theirs.iter().any(|group| ours.contains(group)));
                if let Some((group, _)) = decided {
                    assert!(ours.contains(&group) && theirs.contains(&group));
                    if preference == GroupPreference::PostQuantum {
                        let possible = theirs.iter().any(|group| ours.contains(group) && group.is_post_quantum());
                        assert_eq!(group.is_post_quantum(), possible);
                    }
                }
            }
        }
    }

    fn hello_of_rustls(groups: &[Group]) -> Vec<u8> {
        let config = ClientConfig::builder_with_provider(provider(groups, CipherSuite::ALL))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let mut client = ClientConnection::new(Arc::new(config), ServerName::try_from("a.example").unwrap()).unwrap();
        let mut records = Vec::new();
        client.write_tls(&mut records).unwrap();
        records
    }

    #[test]
    fn reads_the_shares_of_a_real_hello_whole_and_in_pieces() {
        let records = hello_of_rustls(&[P, X, P384]);
        assert_eq!(key_share_groups(&records), Some(vec![0x11ed, 0x0018]), "the hybrid and its component");
        // The same message in records of 100 bytes.
        let mut pieces = Vec::new();
        for fragment in records[5..].chunks(100) {
            pieces.extend_from_slice(&[22, 3, 1, 0, fragment.len() as u8]);
            pieces.extend_from_slice(fragment);
        }
        assert_eq!(key_share_groups(&pieces), Some(vec![0x11ed, 0x0018]));

        let mut acceptor = Acceptor::default();
        acceptor.read_tls(&mut &pieces[..]).unwrap();
        let accepted = acceptor.accept().ok().flatten().unwrap();
        let offer = Offer::new(&accepted.client_hello(), &pieces);
        assert_eq!(offer.groups, [0x11ed, 0x11ec, 0x0018]);
        assert_eq!(offer.server_name.as_deref(), Some("a.example"));
        assert_eq!(offer.group_names(), "SecP384r1MLKEM1024, X25519MLKEM768, secp384r1");
        assert_eq!(Mode::new(true, false), Mode::HybridFirst);
    }

    #[test]
    fn every_truncation_and_every_flipped_byte_is_survived() {
        let records = hello_of_rustls(&[X25519]);
        for end in 0..records.len() {
            assert_eq!(key_share_groups(&records[..end]), None);
        }
        for index in 0..records.len() {
            for bit in [0x01, 0x80] {
                let mut damaged = records.clone();
                damaged[index] ^= bit;
                let _ = key_share_groups(&damaged);
            }
        }
    }
}
