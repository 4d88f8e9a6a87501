//! Right inputs for each target, made when they are asked for.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pkcs8::EncryptedPrivateKeyInfoRef;
use pkcs8::der::Encode;
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::pkcs5::{pbes2, scrypt};
use qtls_core::credentials::{generate, signing_key};
use qtls_core::endpoint::{ServerTrust, client_config};
use qtls_core::policy::{KeyAlgorithm, Named, Policy};
use qtls_core::sessions::{TicketKeyFile, TicketSecret};
use qtls_pki::issue::AlternativeName;
use qtls_pki::request;
use qtls_proxy::proxy_protocol::{Party, Version, encode, tlv};
use rustls::ClientConnection;
use rustls::pki_types::ServerName;

use crate::forge::{
    self, DAY, Forgery, Key, alternative_names, authority_key_identifier, name_constraints, serial_of, tlv,
};
use crate::targets::{PASSPHRASE, TICKETERS, leaf, root};

/// Certificates, CRLs and what stands between them.
pub fn pem() -> Vec<Vec<u8>> {
    let certificate = forge::pem("CERTIFICATE", &certificate());
    let crl = forge::pem("X509 CRL", &crl()[0]);
    vec![
        certificate.clone().into_bytes(),
        crl.clone().into_bytes(),
        format!("Bag Attributes\r\n    friendlyName: x\r\n{}{crl}", certificate.replace('\n', "\r\n")).into_bytes(),
        b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n".to_vec(),
    ]
}

/// A leaf; a leaf and its issuer; one with every extension that is looked at.
pub fn chain() -> Vec<Vec<u8>> {
    let middle = Key::new(KeyAlgorithm::EcdsaP256);
    let constraints = name_constraints(&[tlv(0x82, b"example")], &[tlv(0x87, &[10, 0, 0, 0, 255, 0, 0, 0])]);
    let issuer = Forgery::ca("middle", "root", &middle).with(vec![constraints]).sign(root());
    let names = alternative_names(&[
        tlv(0x81, b"who@example.org"),
        tlv(0x82, b"a.example"),
        tlv(0x86, b"spiffe://example/a"),
        tlv(0x87, &[192, 0, 2, 1]),
    ]);
    let below = Forgery::client("client.example", "middle", leaf())
        .with(vec![names, authority_key_identifier(b"middle")])
        .sign(&middle);
    vec![certificate(), [&below[..], &issuer].concat(), [&issuer[..], &below].concat()]
}

/// A CRL with entries, without, and with extensions.
pub fn crl() -> Vec<Vec<u8>> {
    let with =
        |serials: &[Vec<u8>], extensions: &[Vec<u8>]| forge::crl("root", root(), serials, (-DAY, DAY), extensions);
    vec![
        with(&[serial_of("client.example"), vec![1]], &[authority_key_identifier(b"root")]),
        with(&[], &[]),
        forge::pem("X509 CRL", &with(&[vec![7]], &[])).into_bytes(),
    ]
}

/// A request with names of every kind, and one with a subject alone.
pub fn csr() -> Vec<Vec<u8>> {
    let key = signing_key(&generate(KeyAlgorithm::EcdsaP256).expect("there is randomness")).expect("it is a key");
    let names = [
        AlternativeName::Dns("a.example".to_owned()),
        AlternativeName::Ip([192, 0, 2, 1].into()),
        AlternativeName::Uri("spiffe://example/a".to_owned()),
        AlternativeName::Email("who@example.org".to_owned()),
    ];
    [(&names[..], Some("Example")), (&[], None)]
        .into_iter()
        .map(|(names, organization)| {
            request::create(Some("a"), organization, names, key.as_ref()).expect("it is a right request")
        })
        .collect()
}

/// A key of each kind, in DER and PEM, and encrypted in both ways.
pub fn key() -> Vec<Vec<u8>> {
    let quick = KeyAlgorithm::ALL.iter().filter(|algorithm| !algorithm.name().starts_with("rsa-"));
    let mut seeds: Vec<Vec<u8>> = quick.map(|algorithm| Key::new(*algorithm).der).collect();
    seeds.push(Key::new(KeyAlgorithm::Rsa2048).der);
    let plain = Key::new(KeyAlgorithm::Ed25519).der;
    let (salt, iv) = ([7; 16], [9; 16]);
    let cost = scrypt::Params::new(4, 8, 1).expect("valid parameters");
    for parameters in [
        pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(16, &salt, iv),
        pbes2::Parameters::generate_scrypt_aes256cbc(cost, &salt, iv),
    ] {
        let parameters = parameters.expect("valid parameters");
        let encrypted = parameters.encrypt(PASSPHRASE, &plain).expect("the buffer fits");
        let info = EncryptedPrivateKeyInfoRef {
            encryption_algorithm: parameters.into(),
            encrypted_data: OctetStringRef::new(&encrypted).expect("it is short"),
        };
        seeds.push(info.to_der().expect("it is well-formed"));
    }
    let labels = [("PRIVATE KEY", 0), ("ENCRYPTED PRIVATE KEY", seeds.len() - 1)];
    let pem = labels.map(|(label, index)| forge::pem(label, &seeds[index]).into_bytes());
    seeds.extend(pem);
    seeds
}

/// What rustls sends with the default policy, and in two records.
pub fn client_hello() -> Vec<Vec<u8>> {
    let policy = Arc::new(Policy::default());
    let config = client_config(&policy, ServerTrust::DangerousAnyone, None, true, vec![b"h2".to_vec()])
        .expect("the default policy is usable");
    let name = ServerName::try_from("a.example").expect("it is well-formed");
    let mut connection = ClientConnection::new(config, name).expect("the configuration is usable");
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).expect("vectors take everything");
    let half = 5 + (hello.len() - 5) / 2;
    let record = |fragment: &[u8]| [&hello[..3], &(fragment.len() as u16).to_be_bytes()[..], fragment].concat();
    let split = [record(&hello[5..half]), record(&hello[half..])].concat();
    vec![hello, split]
}

/// The sample configurations of the repository, and oddities of the notation.
pub fn config() -> Vec<Vec<u8>> {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let mut seeds = vec![
        b"// comment\n{ \"server\": { \"port\": 8443, }, /* x */ \"tls\": { \"hybrid_mode\": true } }".to_vec(),
        b"{\"server\":{\"host\":\"${HOME}\"},\"certificates\":{\"server_cert\":\"\\u0000\"}}".to_vec(),
        [vec![b'['; 200], vec![b']'; 200]].concat(),
    ];
    let mut files: Vec<_> = fs::read_dir(samples)
        .expect("the samples are there")
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .filter(|path| !path.to_string_lossy().ends_with(".schema.json"))
        .collect();
    files.sort();
    seeds.extend(files.iter().map(|path| fs::read(path).expect("the sample is readable")));
    seeds
}

/// A right value of each kind.
pub fn allow() -> Vec<Vec<u8>> {
    let values = [
        "app.example",
        "*.b.example",
        "192.0.2.1",
        "spiffe://example/ns/*/sa/b",
        "who@example.org",
        "CN=James \\\"Jim\\\" Smith\\, III+UID=j,OU=\\ea\\b0\\80,O=#0c0141",
        "sha256//47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    ];
    values.map(|value| value.as_bytes().to_vec()).to_vec()
}

/// A ticket of each server, of a session as long as rustls' are.
pub fn ticket() -> Vec<Vec<u8>> {
    TICKETERS.iter().map(|ticketer| ticketer.encrypt(&[7; 120]).expect("there is randomness")).collect()
}

/// What clients of PostgreSQL say first, what a server answers, and how a session begins.
pub fn postgres() -> Vec<Vec<u8>> {
    let packet = |code: u32, body: &[u8]| {
        let length = (8 + body.len()) as u32;
        [&length.to_be_bytes()[..], &code.to_be_bytes(), body].concat()
    };
    let message = |kind: u8, body: &[u8]| {
        let length = (4 + body.len()) as u32;
        [&[kind][..], &length.to_be_bytes(), body].concat()
    };
    let session = [
        message(b'R', b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
        message(b'R', b"\0\0\0\0"),
        message(b'S', b"server_version\x0017\0"),
        message(b'K', b"\0\0\x12\x341234"),
        message(b'E', b"SFATAL\0C28000\0Mno\0\0"),
        message(b'Z', b"I"),
    ];
    vec![
        packet(80_877_103, b""),
        packet(80_877_104, b""),
        packet(80_877_102, b"\0\0\x12\x341234"),
        packet(80_877_102, &[7; 260]),
        packet(3 << 16, b"user\0postgres\0\0"),
        b"S".to_vec(),
        b"N".to_vec(),
        session.concat(),
    ]
}

/// A file as it is made, one as it may be written, and a secret.
pub fn ticket_keys() -> Vec<Vec<u8>> {
    let made = TicketKeyFile::generate().expect("there is randomness");
    let text = made.text();
    let by_hand = text.replace("next ", "  NEXT\t").to_ascii_lowercase().replace("  # ", "#").replace('\n', "\r\n\r\n");
    let secret = TicketSecret::generate_text().expect("there is randomness");
    vec![text.as_bytes().to_vec(), by_hand.into_bytes(), secret.as_bytes().to_vec()]
}

/// A header of each version, with everything that one may have, and of nobody.
pub fn proxy_header() -> Vec<Vec<u8>> {
    let addresses = |source: &str, destination: &str| Party::Client {
        source: source.parse().expect("an address"),
        destination: destination.parse().expect("an address"),
    };
    let four = addresses("192.0.2.7:56020", "198.51.100.1:443");
    let six = addresses("[2001:db8::7]:56020", "[2001:db8::1]:443");
    let mut tlvs = tlv::Writer::default();
    let mut ssl = tlv::Writer::default();
    let fits = "it is short";
    ssl.add(tlv::SSL_VERSION, b"TLSv1.3").expect(fits);
    ssl.add(tlv::SSL_GROUP, b"X25519MLKEM768").expect(fits);
    tlvs.add_checksum();
    tlvs.add(tlv::ALPN, b"h2").expect(fits);
    tlvs.add(tlv::AUTHORITY, b"a.example").expect(fits);
    tlvs.add(tlv::UNIQUE_ID, b"3f0e").expect(fits);
    tlvs.add_ssl(tlv::CLIENT_SSL, false, &ssl).expect(fits);
    let mut headers = Vec::new();
    for party in [four, six, Party::Unknown, Party::Sender] {
        for version in [Version::V1, Version::V2] {
            headers.push(encode(version, party, &tlvs).expect(fits));
        }
    }
    headers.push([&headers[0][..], b"\x16\x03\x01\x02\0"].concat());
    headers
}

fn certificate() -> Vec<u8> {
    Forgery::client("client.example", "root", leaf()).sign(root()).to_vec()
}
