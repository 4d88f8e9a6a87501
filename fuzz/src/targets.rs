//! What is called with an input.

use std::cell::RefCell;
use std::io::{Seek, SeekFrom, Write};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qtls_core::client_hello::{Offer, decide_group, key_share_groups};
use qtls_core::credentials::{
    Credential, Passphrase, Purpose, Source, certificates, key_kind, private_key, signing_key,
};
use qtls_core::policy::{KeyAlgorithm, Policy};
use qtls_core::verify::{
    AllowList, AllowRule, ClientVerifier, Crl, Identity, Revocation, RevocationMode, TrustAnchors,
};
use qtls_proxy::config;
use rustls::pki_types::{PrivatePkcs8KeyDer, UnixTime};
use rustls::server::Acceptor;
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
