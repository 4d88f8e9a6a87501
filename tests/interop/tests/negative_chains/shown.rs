//! Chains as peers show them, and how both sides are asked about them.

use std::fs;
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use qtls_core::credentials::{Source, certificates};
use qtls_core::policy::{KeyAlgorithm, Policy};
use qtls_core::verify::{ClientVerifier, Crl, Revocation, RevocationMode, ServerVerifier, TrustAnchors};
use qtls_interop::openssl::text;
use qtls_interop::peers;
use qtls_interop::process::run;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tempfile::TempDir;

use crate::forge::{
    DAY, Forgery, Key, alternative_names, basic_constraints, crl, name_constraints, pem, serial_of, tlv,
};

pub(crate) type Der = CertificateDer<'static>;

/// A chain, and for what it is verified.
pub(crate) struct Shown {
    roots: Vec<Der>,
    /// Leaf first.
    chain: Vec<Der>,
    crls: Option<Vec<Vec<u8>>>,
    /// The server's name that is checked; `None` verifies a client.
    name: Option<&'static str>,
    depth: Option<usize>,
}

impl Shown {
    pub(crate) fn new(roots: &[&Der], chain: &[&Der]) -> Self {
        let owned = |list: &[&Der]| list.iter().map(|der| (*der).clone()).collect();
        Self { roots: owned(roots), chain: owned(chain), crls: None, name: Some(NAME), depth: None }
    }

    pub(crate) fn named(mut self, name: &'static str) -> Self {
        self.name = Some(name);
        self
    }

    pub(crate) fn client(mut self) -> Self {
        self.name = None;
        self
    }

    pub(crate) fn crls(mut self, crls: Vec<Vec<u8>>) -> Self {
        self.crls = Some(crls);
        self
    }

    pub(crate) fn depth(mut self, depth: usize) -> Self {
        self.depth = Some(depth);
        self
    }

    /// `OK`, or what Q-TLS says.
    pub(crate) fn ours(&self) -> String {
        match self.verify() {
            Ok(()) => OK.to_owned(),
            Err(message) => message,
        }
    }

    fn verify(&self) -> Result<(), String> {
        let said = |error: qtls_core::Error| error.message().to_owned();
        let handshake = |error: rustls::Error| said(qtls_core::Error::from(&error));
        let policy = Arc::new(Policy::default());
        let mut anchors = TrustAnchors::new(self.roots.clone(), self.depth, policy).map_err(said)?;
        if let Some(crls) = &self.crls {
            let mut read = Vec::new();
            for der in crls {
                read.extend(Crl::parse(Source { origin: "crl", bytes: der }).map_err(said)?);
            }
            let revocation = Revocation::new(read, RevocationMode::Hard);
            anchors = anchors.with_revocation(revocation, SystemTime::now()).map_err(said)?.0;
        }
        let now = UnixTime::now();
        match self.name {
            None => ClientVerifier::new(anchors, true).recheck(&self.chain, now).map_err(handshake),
            Some(name) => {
                let name = ServerName::try_from(name).expect("the name is well-formed");
                ServerVerifier::new(anchors)
                    .verify_server_cert(&self.chain[0], &self.chain[1..], &name, &[], now)
                    .map(|_| ())
                    .map_err(handshake)
            }
        }
    }

    /// Writes what `openssl verify` needs, and its arguments.
    pub(crate) fn write(&self, directory: &Path) {
        let put = |name: &str, content: String| fs::write(directory.join(name), content).expect("it is writable");
        let bundle = |list: &[Der]| list.iter().map(|der| pem("CERTIFICATE", der)).collect::<String>();
        put("roots.pem", bundle(&self.roots));
        put("leaf.pem", bundle(&self.chain[..1]));
        let mut arguments = vec!["-CAfile roots.pem -auth_level 2".to_owned()];
        if self.chain.len() > 1 {
            put("untrusted.pem", bundle(&self.chain[1..]));
            arguments.push("-untrusted untrusted.pem".to_owned());
        }
        if let Some(crls) = &self.crls {
            put("crls.pem", crls.iter().map(|der| pem("X509 CRL", der)).collect());
            arguments.push("-crl_check_all -CRLfile crls.pem".to_owned());
        }
        if let Some(depth) = self.depth {
            arguments.push(format!("-verify_depth {depth}"));
        }
        arguments.push(match self.name {
            None => "-purpose sslclient".to_owned(),
            Some(name) if name.parse::<std::net::IpAddr>().is_ok() => format!("-purpose sslserver -verify_ip {name}"),
            Some(name) => format!("-purpose sslserver -verify_hostname {name}"),
        });
        put("arguments", arguments.join(" "));
    }
}

/// The name that servers are asked for.
pub(crate) const NAME: &str = "a.b.example";
/// The verdict on a chain that is trusted.
pub(crate) const OK: &str = "OK";

/// Keys that many chains share.
pub(crate) struct Keys {
    pub(crate) root: Key,
    pub(crate) middle: Key,
    pub(crate) leaf: Key,
    pub(crate) stranger: Key,
}

pub(crate) static KEYS: LazyLock<Keys> = LazyLock::new(|| {
    let key = || Key::new(KeyAlgorithm::EcdsaP256);
    Keys { root: key(), middle: key(), leaf: key(), stranger: key() }
});

pub(crate) fn root() -> Der {
    Forgery::ca("root", "root", &KEYS.root).sign(&KEYS.root)
}

/// The intermediate, with any change.
pub(crate) fn middle(change: impl FnOnce(Forgery) -> Forgery) -> Der {
    change(Forgery::ca("middle", "root", &KEYS.middle)).sign(&KEYS.root)
}

/// The leaf under the intermediate, with any change.
pub(crate) fn leaf(change: impl FnOnce(Forgery) -> Forgery) -> Der {
    change(Forgery::server(NAME, "middle", &KEYS.leaf)).sign(&KEYS.middle)
}

pub(crate) fn same(forgery: Forgery) -> Forgery {
    forgery
}

/// The right chain with another leaf.
pub(crate) fn with_leaf(change: impl FnOnce(Forgery) -> Forgery) -> Shown {
    Shown::new(&[&root()], &[&leaf(change), &middle(same)])
}

/// The right chain with another intermediate.
pub(crate) fn with_middle(change: impl FnOnce(Forgery) -> Forgery) -> Shown {
    Shown::new(&[&root()], &[&leaf(same), &middle(change)])
}

/// The right chain, but the leaf has these alternative names.
pub(crate) fn with_names(names: &[(u8, &[u8])]) -> Shown {
    let names: Vec<Vec<u8>> = names.iter().map(|(tag, value)| tlv(*tag, value)).collect();
    with_leaf(|leaf| leaf.with(vec![alternative_names(&names)]))
}

/// The leaf has these names besides its DNS name, and the intermediate these constraints.
pub(crate) fn constrained(names: &[(u8, &[u8])], permitted: &[(u8, &[u8])], excluded: &[(u8, &[u8])]) -> Shown {
    let general = |list: &[(u8, &[u8])]| list.iter().map(|(tag, value)| tlv(*tag, value)).collect::<Vec<_>>();
    let names = [vec![tlv(DNS, NAME.as_bytes())], general(names)].concat();
    let leaf = leaf(|leaf| leaf.with(vec![alternative_names(&names)]));
    let constraints = name_constraints(&general(permitted), &general(excluded));
    Shown::new(&[&root()], &[&leaf, &middle(|middle| middle.with(vec![constraints]))])
}

pub(crate) const MAIL: u8 = 0x81;
pub(crate) const DNS: u8 = 0x82;
pub(crate) const DIRECTORY: u8 = 0xa4;
pub(crate) const URI: u8 = 0x86;
pub(crate) const IP: u8 = 0x87;

/// Root, an intermediate with a path length, one below it, and a leaf below that.
pub(crate) fn two_intermediates(path_len: Option<u8>, root: Der) -> Shown {
    let upper = middle(|middle| middle.with(vec![basic_constraints(true, path_len)]));
    let lower_key = &KEYS.stranger;
    let lower = Forgery::ca("lower", "middle", lower_key).sign(&KEYS.middle);
    let leaf = Forgery::server(NAME, "lower", &KEYS.leaf).sign(lower_key);
    Shown::new(&[&root], &[&leaf, &lower, &upper])
}

/// `shown` is verified against these CRLs: serials by the root, serials by the intermediate.
pub(crate) fn with_crls(by_root: &[&str], by_middle: &[&str]) -> Shown {
    let serials = |names: &[&str]| names.iter().map(|name| serial_of(name)).collect::<Vec<_>>();
    with_leaf(same).crls(vec![
        crl("root", &KEYS.root, &serials(by_root), (-DAY, DAY), &[]),
        crl("middle", &KEYS.middle, &serials(by_middle), (-DAY, DAY), &[]),
    ])
}

pub(crate) fn flip(der: &Der) -> Der {
    let mut octets = der.to_vec();
    // The last octets are the signature's.
    let last = octets.len() - 5;
    octets[last] ^= 1;
    octets.into()
}

/// Under a root of this kind of key, an intermediate and a leaf of these.
pub(crate) fn mixed(root: KeyAlgorithm, middle: KeyAlgorithm, leaf: KeyAlgorithm) -> Shown {
    let [root_key, middle_key, leaf_key] = [root, middle, leaf].map(Key::new);
    let root = Forgery::ca("root", "root", &root_key).sign(&root_key);
    let middle = Forgery::ca("middle", "root", &middle_key).sign(&root_key);
    let leaf = Forgery::server(NAME, "middle", &leaf_key).sign(&middle_key);
    Shown::new(&[&root], &[&leaf, &middle])
}

/// What forging by hand can't sign, OpenSSL does: a root, and below it a leaf, each with a kind of key and a digest.
pub(crate) static BY_OPENSSL: LazyLock<TempDir> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let script = r#"
        cd "$1"
        set -e
        printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n' > ca.ext
        printf 'subjectAltName=DNS:a.b.example\nextendedKeyUsage=serverAuth\nkeyUsage=critical,digitalSignature\n' > leaf.ext
        # issue NAME DIGEST ROOT-KEY -- LEAF-KEY, each key as the options of genpkey
        issue() {
            name=$1 digest=$2; shift 2
            root=; while [ "$1" != -- ]; do root="$root $1"; shift; done; shift
            openssl genpkey -quiet $root -out ca.key
            openssl genpkey -quiet "$@" -out leaf.key
            openssl req -new -key ca.key -subj /CN=root -out ca.csr
            openssl x509 -req -in ca.csr -signkey ca.key -days 30 -extfile ca.ext -out $name-root.pem
            openssl req -new -key leaf.key -subj /CN=a.b.example -out leaf.csr
            openssl x509 -req -in leaf.csr -CA $name-root.pem -CAkey ca.key -days 20 $digest -extfile leaf.ext \
                -out $name-leaf.pem
        }
        rsa="-algorithm RSA -pkeyopt rsa_keygen_bits:2048"
        ec="-algorithm EC -pkeyopt ec_paramgen_curve:"
        issue sha1 -sha1 $rsa -- ${ec}P-256
        issue ecdsa-sha1 -sha1 ${ec}P-256 -- ${ec}P-256
        issue md5 -md5 $rsa -- ${ec}P-256
        issue sha224 -sha224 $rsa -- ${ec}P-256
        issue rsa-1024-leaf -sha256 ${ec}P-256 -- -algorithm RSA -pkeyopt rsa_keygen_bits:1024
        issue rsa-1024-root -sha256 -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -- ${ec}P-256
        issue pss "-sha256 -sigopt rsa_padding_mode:pss" $rsa -- ${ec}P-256
        issue ed448-leaf -sha256 ${ec}P-256 -- -algorithm ED448
        issue ed448-root "" -algorithm ED448 -- ${ec}P-256
        issue secp256k1-leaf -sha256 ${ec}P-256 -- ${ec}secp256k1
        issue p224-root -sha256 ${ec}P-224 -- ${ec}P-256
        issue slh-dsa-root "" -algorithm SLH-DSA-SHA2-128s -- ${ec}P-256
        issue rsa-pss-key-leaf -sha256 ${ec}P-256 -- -algorithm RSA-PSS -pkeyopt rsa_keygen_bits:2048
    "#;
    let mut command = peers::debian("sh", [directory.path()]);
    run(command.args(["-c", script, "sh", text(directory.path())]), b"").expect_success();
    directory
});

pub(crate) fn by_openssl(name: &str) -> Shown {
    let read = |part: &str| {
        let file = BY_OPENSSL.path().join(format!("{name}-{part}.pem"));
        let bytes = fs::read(&file).expect("OpenSSL has written it");
        certificates(Source { origin: text(&file), bytes: &bytes }).expect("it is a certificate").remove(0)
    };
    Shown::new(&[&read("root")], &[&read("leaf")])
}
