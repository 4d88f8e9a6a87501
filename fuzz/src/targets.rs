//! What is called with an input.

use std::cell::RefCell;
use std::io::{Seek, SeekFrom, Write};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qtls_core::client_hello::{Offer, decide_group, key_share_groups};
use qtls_core::credentials::{
    Credential, Passphrase, Purpose, Source, certificates, key_kind, private_key, signing_key,
};
use qtls_core::endpoint::{ServerCredential, ServerEndpoint, ServerOptions};
use qtls_core::policy::{KeyAlgorithm, Policy};
use qtls_core::sessions::{KeyRole, SessionLimits, SessionOptions, TicketKeyFile, TicketKeys, TicketSecret};
use qtls_core::verify::{
    AllowList, AllowRule, ClientVerifier, Crl, Identity, Revocation, RevocationMode, TrustAnchors,
};
use qtls_pki::request::Request;
use qtls_proxy::config;
use qtls_proxy::proxy_protocol::tlv::{Reader, Writer};
use qtls_proxy::proxy_protocol::{self, Version};
use qtls_proxy::starttls::postgres::{First, Messages, sqlstate};
use qtls_proxy::starttls::{Starttls, Step};
use rustls::pki_types::{PrivatePkcs8KeyDer, UnixTime};
use rustls::server::{Acceptor, ProducesTickets};
use tempfile::NamedTempFile;

use crate::forge::{Forgery, Key};

/// What encrypts the seeds of [`key`].
pub const PASSPHRASE: &str = "fuzz";

/// A file that is expected to hold something in PEM.
pub fn pem(input: &[u8]) {
    let source = Source { origin: "input", bytes: input };
    let _ = certificates(source);
    let _ = Crl::parse(source);
    let _ = private_key(source, None);
}

/// Certificates in DER, one after the other: as our own chain, and as a peer's.
pub fn chain(input: &[u8]) {
    let Ok(chain) = certificates(Source { origin: "input", bytes: input }) else { return };
    for certificate in &chain {
        if let Ok(identity) = Identity::of(certificate) {
            let _ = identity.to_string();
        }
    }
    let _ = FIXED.allow.permits(&chain[0]);
    let _ = FIXED.verifier.recheck(&chain, now());
    let signer = signing_key(&PrivatePkcs8KeyDer::from(FIXED.leaf.der.clone()).into());
    if let Ok(credential) = Credential::from_chain("x", "input", chain, signer.expect("it is valid"), "key") {
        let _ = credential.warnings(Purpose::Server, SystemTime::now(), &[]);
    }
}

/// A CRL, and what it means for a chain.
pub fn crl(input: &[u8]) {
    let Ok(crls) = Crl::parse(Source { origin: "input", bytes: input }) else { return };
    let revocation = Revocation::new(crls, RevocationMode::Hard);
    if let Ok((anchors, _)) = anchors().with_revocation(revocation, SystemTime::now()) {
        let _ = ClientVerifier::new(anchors, true).recheck(&FIXED.chain, now());
    }
}

/// A certificate request in DER.
pub fn csr(input: &[u8]) {
    if let Ok(request) = Request::parse(input) {
        let _ = (request.subject.len(), request.names.len(), request.ignored.len());
    }
}

/// A private key, encrypted or not.
pub fn key(input: &[u8]) {
    let Ok(key) = private_key(Source { origin: "input", bytes: input }, Some(&FIXED.passphrase)) else { return };
    if let Ok(signer) = signing_key(&key) {
        let _ = signer.public_key().map(|spki| key_kind(&spki));
    }
}

/// The first records of a connection.
pub fn client_hello(input: &[u8]) {
    let _ = key_share_groups(input);
    let mut acceptor = Acceptor::default();
    let mut rest = input;
    // As from a socket: in pieces, until there is a ClientHello or an error.
    while !rest.is_empty() {
        match acceptor.read_tls(&mut rest) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                let offer = Offer::new(&accepted.client_hello(), input);
                let _ = (offer.group_names(), decide_group(&FIXED.policy, &offer));
                return;
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

/// A configuration, as the server's and as the client's.
pub fn config(input: &[u8]) {
    thread_local! {
        static FILE: RefCell<NamedTempFile> = RefCell::new(NamedTempFile::new().expect("there is room for a file"));
    }
    FILE.with_borrow_mut(|file| {
        let mut write = || -> std::io::Result<()> {
            file.as_file().set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(input)
        };
        write().expect("the temporary file is writable");
        let source = config::Source { file: Some(file.path().to_owned()), ..config::Source::default() };
        if let Ok(loaded) = config::load_server(&source) {
            let _ = loaded.warnings.len();
        }
        let _ = config::load_client(&source);
    });
}

/// A line for each kind of entry of `certificates.allow`.
pub fn allow(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    for kind in AllowRule::KINDS {
        if let Ok(rule) = AllowRule::parse(kind, text) {
            let _ = rule.to_string();
        }
        if let Ok(list) = AllowList::parse([[(kind, text)]]) {
            let _ = list.permits(&FIXED.chain[0]);
        }
    }
}

/// A ticket that a client comes with, to a server with keys and to one that keeps its sessions.
pub fn ticket(input: &[u8]) {
    for ticketer in &*TICKETERS {
        let _ = ticketer.decrypt(input);
    }
}

/// A file of ticket keys, and the same as a secret.
pub fn ticket_keys(input: &[u8]) {
    if let Ok(file) = TicketKeyFile::parse(Source { origin: "input", bytes: input }) {
        let text = file.text();
        let again =
            TicketKeyFile::parse(Source { origin: "text", bytes: text.as_bytes() }).expect("it was written by us");
        assert_eq!(*again.text(), *text, "written and read, it is another file");
        let rotated = file.rotate(2).expect("there is randomness").file;
        let names: Vec<_> = rotated.names().collect();
        assert!(names.len() <= 4 && names[0].1 == KeyRole::Seals && names[1].1 == KeyRole::Next, "{names:?}");
    }
    if let Ok(secret) = TicketSecret::new(input.to_vec().into(), "input") {
        let hour = Duration::from_secs(3600);
        let keys = TicketKeys::derived(secret, hour, hour).expect("the step is right");
        assert_eq!(keys.count(), 3);
    }
}

/// What comes before the handshake of PostgreSQL, on either side; the first packet within TLS; and the messages behind it.
pub fn postgres(input: &[u8]) {
    for preamble in [Starttls::Postgres.server(), Starttls::Postgres.client()] {
        let mut preamble = preamble;
        // As it comes byte by byte, up to the first that decides.
        let decided = (1..=input.len()).find_map(|end| match preamble.receive(&input[..end]) {
            Step::More => None,
            step => Some((end, step)),
        });
        match decided {
            // The handshake begins behind a request of eight bytes, or an answer of one, and nothing else.
            Some((end, Step::Tls(_))) => assert!(end == 8 || end == 1, "TLS after {end} bytes"),
            Some((end, Step::Answer(_))) => assert_eq!(end, 8),
            Some((end, Step::Cancel(_))) => assert!((13..=268).contains(&end), "a request to cancel of {end} bytes"),
            Some((end, _)) => assert!(end <= 9, "refused after {end} bytes"),
            None => assert!(input.len() < 268, "undecided after {} bytes", input.len()),
        }
    }
    // All at once, nothing behind the request or the answer is ever taken for a part of it.
    for preamble in [Starttls::Postgres.server(), Starttls::Postgres.client()] {
        let mut preamble = preamble;
        if !input.is_empty() && matches!(preamble.receive(input), Step::Tls(_)) {
            assert!(input.len() == 8 || input == b"S", "{} bytes went into TLS", input.len());
        }
    }
    let _ = First::parse(input);
    let messages = |size: usize| {
        let (mut messages, mut seen) = (Messages::default(), Vec::new());
        let on = input.chunks(size).all(|piece| {
            messages.push(piece, |kind, body| {
                let _ = sqlstate(body);
                seen.push((kind, body.to_vec()));
                kind != b'Z'
            })
        });
        (on, seen)
    };
    assert_eq!(messages(1), messages(input.len().max(1)), "messages depend on how they are cut");
}

/// What a connection begins with where a PROXY header is expected: read in one piece and octet by octet, and written again.
pub fn proxy_header(input: &[u8]) {
    let whole = proxy_protocol::decode(input);
    let mut first = None;
    for end in 0..=input.len().min(2048) {
        match proxy_protocol::decode(&input[..end]) {
            Ok(None) => {}
            told => {
                first = Some(told);
                break;
            }
        }
    }
    if let Some(first) = first {
        assert_eq!(first, whole, "what is told early is told of the whole");
    }
    let Ok(Some(header)) = whole else { return };
    assert!(header.length <= input.len(), "it is longer than what there is");
    for tlv in Reader::new(&input[..header.length]).map_while(Result::ok) {
        assert!(tlv.offset + tlv.value.len() <= header.length);
    }
    for version in [Version::V1, Version::V2] {
        let again = proxy_protocol::encode(version, header.party, &Writer::default()).expect("it is short");
        let read = proxy_protocol::decode(&again).expect("it is right").expect("it is whole");
        let once_more = proxy_protocol::encode(version, read.party, &Writer::default()).expect("it is short");
        assert_eq!(again, once_more, "written and read, it is another header");
    }
}

/// A server with tickets under the keys of a file, one with derived keys, and one with a cache.
pub(crate) static TICKETERS: LazyLock<[Arc<dyn ProducesTickets>; 3]> = LazyLock::new(|| {
    let hour = Duration::from_secs(3600);
    let file = TicketKeyFile::generate().expect("there is randomness");
    let secret = TicketSecret::new(b"0123456789abcdef0123456789abcdef".to_vec().into(), "fuzz").expect("it is long");
    let keys = [
        Some(TicketKeys::from_file(&file).expect("it has keys")),
        Some(TicketKeys::derived(secret, hour, hour).expect("the step is right")),
        None,
    ];
    keys.map(|keys| {
        let signer = signing_key(&PrivatePkcs8KeyDer::from(FIXED.leaf.der.clone()).into()).expect("it is valid");
        let chain = FIXED.chain.clone();
        let credential = Credential::from_chain("x", "a chain", chain, signer, "a key").expect("they belong together");
        let endpoint = ServerEndpoint::new(ServerOptions {
            names: Vec::new(),
            policy: FIXED.policy.clone(),
            credentials: vec![ServerCredential::new(credential)],
            client_verifier: None,
            sessions: SessionOptions {
                limits: SessionLimits { timeout: hour, capacity: 1000 },
                ticket_keys: keys.map(Arc::new),
                counters: Arc::default(),
            },
            alpn: Vec::new(),
            previous: None,
        });
        endpoint.expect("the policy allows the key").decide(&Offer::default(), None).config.ticketer.clone()
    })
});

/// A certification authority and a client of it, for the inputs to meet.
struct Fixed {
    policy: Arc<Policy>,
    root: Key,
    leaf: Key,
    chain: Vec<rustls::pki_types::CertificateDer<'static>>,
    verifier: Arc<ClientVerifier>,
    allow: AllowList,
    passphrase: Passphrase,
}

static FIXED: LazyLock<Fixed> = LazyLock::new(|| {
    let [root, leaf] = [(); 2].map(|()| Key::new(KeyAlgorithm::EcdsaP256));
    let policy = Arc::new(Policy::default());
    let root_certificate = Forgery::ca("root", "root", &root).sign(&root);
    let anchors = TrustAnchors::new([root_certificate], Some(3), policy.clone()).expect("the root is an anchor");
    Fixed {
        chain: vec![Forgery::client("client.example", "root", &leaf).sign(&root)],
        verifier: ClientVerifier::new(anchors, true),
        allow: AllowList::parse([[("subject", "CN=client.example")], [("san_uri", "spiffe://example/*")]])
            .expect("both are well-formed"),
        passphrase: Passphrase::new(PASSPHRASE.as_bytes().to_vec().into(), "fuzz").expect("it is one line"),
        policy,
        root,
        leaf,
    }
});

pub(crate) fn root() -> &'static Key {
    &FIXED.root
}

pub(crate) fn leaf() -> &'static Key {
    &FIXED.leaf
}

fn anchors() -> TrustAnchors {
    let root = Forgery::ca("root", "root", root()).sign(root());
    TrustAnchors::new([root], None, FIXED.policy.clone()).expect("the root is an anchor")
}

fn now() -> UnixTime {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    UnixTime::since_unix_epoch(now)
}
