//! A server behind is told by the PROXY protocol who the client is and how it came: octet for octet, and as nginx and
//! HAProxy understand it.

#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use qtls_interop::haproxy::HaProxy;
use qtls_interop::log;
use qtls_interop::openssl::{self, text};
use qtls_interop::process::run;
use qtls_interop::proxy_protocol::{Behind, Header, Ssl, connect, crc32c, tlv, v2};
use qtls_interop::rogue::Rogue;
use qtls_interop::server::{free_port, merge};
use qtls_interop::upstreams::Nginx;
use qtls_interop::{Algorithm, Pki, Server, peers, wire};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server before `upstream`, with its access log.
struct Told {
    server: Server,
    access: PathBuf,
    _directory: TempDir,
}

impl Told {
    fn start(algorithm: Algorithm, upstream: &str, changes: Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let access = directory.path().join("access.log");
        let mut config = json!({
            "upstream": { "protocol": "tcp", "servers": [upstream], "proxy_protocol": "v2" },
            "logging": { "format": "json", "access_file": access }
        });
        merge(&mut config, changes);
        Self { server: Server::with_certificate(algorithm, config), access, _directory: directory }
    }

    /// What the access log calls the one connection that there was.
    #[track_caller]
    fn unique_id(&self) -> String {
        log::connections(&self.access, 1)[0]["unique_id"].as_str().expect("a name").to_owned()
    }
}

/// Server certificates, and what the PROXY protocol calls their keys.
const KEYS: [(Algorithm, &str); 3] =
    [(Algorithm::EcdsaP384, "EC384"), (Algorithm::Rsa4096, "RSA4096"), (Algorithm::MlDsa65, "ML-DSA-65")];

#[test]
fn the_header_is_there_octet_for_octet() {
    let behind = Behind::start();
    let told = Told::start(Algorithm::EcdsaP384, &behind.address(), json!({}));
    let socket = wire::connect(told.server.port);
    let source = socket.local_addr().unwrap().port();
    let mut client = Rogue::over(socket, &[]).unwrap();
    client.send(b"hello").unwrap();
    let mut echo = [0; 5];
    assert_eq!((client.read(&mut echo).unwrap(), &echo), (5, b"hello"), "what follows is the client's");
    let header = behind.header();
    assert_eq!(client.finish(), "close_notify");
    let unique_id = told.unique_id();
    assert!(unique_id.len() == 32 && unique_id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{unique_id}");
    let ssl = [
        &b"\x01\0\0\0\x01"[..],
        b"\x21\0\x07TLSv1.3",
        b"\x23\0\x16TLS_AES_256_GCM_SHA384",
        b"\x24\0\x11ecdsa-with-SHA384",
        b"\x25\0\x05EC384",
        b"\x26\0\x0eX25519MLKEM768",
        b"\x27\0\x16ecdsa_secp384r1_sha384",
    ]
    .concat();
    let mut expected = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\0"[..],
        &[127, 0, 0, 1, 127, 0, 0, 1],
        &source.to_be_bytes(),
        &told.server.port.to_be_bytes(),
        b"\x03\0\x04\0\0\0\0",
        b"\x02\0\x09localhost",
        b"\x05\0\x20",
        unique_id.as_bytes(),
        b"\x20\0",
        &[ssl.len() as u8],
        &ssl,
    ]
    .concat();
    let length = u16::try_from(expected.len() - 16).unwrap();
    expected[14..16].copy_from_slice(&length.to_be_bytes());
    let sum = crc32c(&expected);
    expected[31..35].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(header.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

#[test]
fn version_1_is_one_line() {
    let behind = Behind::start();
    let told = Told::start(Algorithm::EcdsaP384, &behind.address(), json!({ "upstream": { "proxy_protocol": "v1" } }));
    let socket = wire::connect(told.server.port);
    let source = socket.local_addr().unwrap().port();
    let client = Rogue::over(socket, &[]).unwrap();
    let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {source} {}\r\n", told.server.port);
    assert_eq!(String::from_utf8(behind.header()).unwrap(), expected);
    assert_eq!(client.finish(), "close_notify");
    // It has no place for it.
    assert_eq!(log::connections(&told.access, 1)[0]["unique_id"], Value::Null);
}

/// Whom a header in front names is whom the header behind names, also in the other version and over IPv6.
#[test]
fn what_was_told_in_front_is_told_behind() {
    for (version, sources) in [("v1", ["192.0.2.7", "2001:db8::7"]), ("v2", ["192.0.2.7", "2001:db8::7"])] {
        let behind = Behind::start();
        let changes = json!({
            "server": { "proxy_protocol": { "from": ["127.0.0.0/8"] } },
            "upstream": { "proxy_protocol": version },
        });
        let told = Told::start(Algorithm::EcdsaP384, &behind.address(), changes);
        for (number, source) in sources.into_iter().enumerate() {
            let (family, destination) =
                if source.contains(':') { ("TCP6", "2001:db8::1") } else { ("TCP4", "198.51.100.1") };
            let line = format!("PROXY {family} {source} {destination} 56020 443\r\n");
            let client = Rogue::over(connect(told.server.port, line.as_bytes()), &[]).unwrap();
            let header = behind.header();
            if version == "v1" {
                assert_eq!(String::from_utf8(header).unwrap(), line);
            } else {
                let address = |ip: &str, port| std::net::SocketAddr::new(ip.parse().unwrap(), port);
                let expected = (address(source, 56_020), address(destination, 443));
                assert_eq!(Header::parse(&header).addresses, Some(expected));
            }
            drop(client);
            // The lines are in the order of the ends.
            log::connections(&told.access, number + 1);
        }
        // A name for the connection goes on as well, where there is a place for it.
        let header = v2("192.0.2.7:1", "198.51.100.1:2", &tlv(5, b"the-first-one"));
        let client = Rogue::over(connect(told.server.port, &header), &[]).unwrap();
        let header = behind.header();
        if version == "v2" {
            assert_eq!(Header::parse(&header).value(5), Some(&b"the-first-one"[..]));
        }
        drop(client);
        let lines = log::connections(&told.access, 3);
        assert_eq!(lines[2]["unique_id"], "the-first-one");
        assert_eq!(lines[2]["client"], "192.0.2.7:1");
        assert_eq!(lines[0]["unique_id"].is_null(), version == "v1");
    }
}

/// What a client certificate makes of it, for each kind: who it is, and by option all of it.
#[test]
fn a_verified_client_is_told_by_name_and_with_its_certificate() {
    let pki = Pki::shared();
    for (algorithm, certificates) in [
        (Algorithm::EcdsaP384, false),
        (Algorithm::EcdsaP384, true),
        (Algorithm::Rsa4096, true),
        (Algorithm::MlDsa65, true),
    ] {
        let behind = Behind::start();
        let told = Told::start(
            algorithm,
            &behind.address(),
            json!({
                "certificates": { "verify_client": "optional", "ca_bundle": pki.ca() },
                "upstream": { "client_cert": certificates },
            }),
        );
        let (cert, key) = pki.client(algorithm);
        let der =
            run(peers::debian("openssl", [pki.directory()]).args(["x509", "-outform", "PEM", "-in", text(&cert)]), b"")
                .expect_success()
                .stdout;
        let der = decode_pem(&der);
        let client = openssl::Client::new(told.server.port).certificate((cert, key));
        client.send(b"hello\n");
        let ssl = Header::parse(&behind.header()).ssl();
        assert_eq!((ssl.client, ssl.verify), (7, 0), "{algorithm}");
        assert_eq!(ssl.text(0x22), common_name(&pki.client(algorithm).0), "{algorithm}");
        assert_eq!(ssl.value(0x28), certificates.then_some(der.as_slice()), "{algorithm}");
        // One without a certificate has none of it.
        openssl::Client::new(told.server.port).send(b"hello\n");
        let ssl = Header::parse(&behind.header()).ssl();
        assert_eq!((ssl.client, ssl.verify, ssl.value(0x22), ssl.value(0x28)), (1, 1, None, None), "{algorithm}");
    }
}

#[test]
fn a_resumed_session_says_that_its_certificate_was_shown_before() {
    let pki = Pki::shared();
    let behind = Behind::start();
    let verify = json!({ "certificates": { "verify_client": true, "ca_bundle": pki.ca() } });
    let told = Told::start(Algorithm::EcdsaP384, &behind.address(), verify);
    let client = || openssl::Client::new(told.server.port).certificate(pki.client(Algorithm::EcdsaP384));
    let first = client().saving_session();
    assert!(first.send(b"hello\n").finished.stdout.contains("hello"));
    let full = Header::parse(&behind.header()).ssl();
    assert!(client().resuming(&first).send(b"hello\n").negotiated().resumed);
    let resumed = Header::parse(&behind.header()).ssl();
    assert_eq!((full.client, full.verify), (7, 0));
    assert_eq!((resumed.client, resumed.verify), (5, 0));
    assert_eq!(resumed.text(0x22), full.text(0x22));
    assert_eq!(resumed.text(0x26), "X25519MLKEM768", "a resumed session has a key exchange of its own");
    for kind in [0x24, 0x25, 0x27] {
        assert!(full.value(kind).is_some() && resumed.value(kind).is_none(), "{kind:#x}: nothing of it was shown");
    }
}

/// Names of groups and schemes stand there as the registry has them, whatever is negotiated.
#[test]
fn group_scheme_and_suite_are_what_was_negotiated() {
    for (algorithm, key) in KEYS {
        let behind = Behind::start();
        let told = Told::start(algorithm, &behind.address(), json!({}));
        for (group, suite) in [
            ("X25519MLKEM768", "TLS_AES_256_GCM_SHA384"),
            ("SecP256r1MLKEM768", "TLS_AES_128_GCM_SHA256"),
            ("SecP384r1MLKEM1024", "TLS_CHACHA20_POLY1305_SHA256"),
        ] {
            let client = openssl::Client::new(told.server.port).groups(group).arguments(&["-ciphersuites", suite]);
            let negotiated = client.send(b"hello\n").negotiated();
            let ssl = Header::parse(&behind.header()).ssl();
            assert_eq!(
                [0x21, 0x23, 0x25, 0x26, 0x27].map(|kind| ssl.text(kind)),
                ["TLSv1.3", suite, key, &negotiated.group, negotiated.scheme.as_deref().unwrap()],
            );
            assert_eq!((negotiated.group.to_lowercase(), negotiated.suite.as_str()), (group.to_lowercase(), suite));
        }
    }
}

#[test]
fn nginx_understands_every_field() {
    let port = free_port();
    let _nginx = Nginx::with(port, |_| {
        format!(
            r#"
daemon off;
user root;
worker_processes 1;
pid /run/nginx.pid;
error_log stderr notice;
events {{ worker_connections 512; }}
http {{
    access_log off;
    default_type text/plain;
    server {{
        listen 127.0.0.1:{port} proxy_protocol;
        location / {{
            return 200 '{{"source":"$proxy_protocol_addr:$proxy_protocol_port","destination":"$proxy_protocol_server_addr:$proxy_protocol_server_port","authority":"$proxy_protocol_tlv_authority","unique_id":"$proxy_protocol_tlv_unique_id","version":"$proxy_protocol_tlv_ssl_version","cn":"$proxy_protocol_tlv_ssl_cn","cipher":"$proxy_protocol_tlv_ssl_cipher","sig_alg":"$proxy_protocol_tlv_ssl_sig_alg","key_alg":"$proxy_protocol_tlv_ssl_key_alg","verify":"$proxy_protocol_tlv_ssl_verify","group":"$proxy_protocol_tlv_ssl_0x26","sig_scheme":"$proxy_protocol_tlv_ssl_0x27"}}';
        }}
    }}
}}
"#
        )
    });
    let pki = Pki::shared();
    for (algorithm, key) in KEYS {
        let verify = json!({ "certificates": { "verify_client": true, "ca_bundle": pki.ca() } });
        let told = Told::start(algorithm, &format!("127.0.0.1:{port}"), verify);
        let (cert, client_key) = pki.client(algorithm);
        let client = openssl::Client::new(told.server.port).certificate((cert.clone(), client_key));
        let exchange = client.get("/");
        let mut seen = exchange.json();
        let line = log::connections(&told.access, 1).remove(0);
        assert_eq!(seen["source"], line["client"]);
        assert_eq!(seen["unique_id"], line["unique_id"]);
        let signed_with = signed_with(&pki.server(algorithm).0);
        seen.as_object_mut().unwrap().retain(|key, _| !["source", "unique_id"].contains(&key.as_str()));
        assert_eq!(
            seen,
            json!({
                "destination": format!("127.0.0.1:{}", told.server.port),
                "authority": "localhost",
                "version": "TLSv1.3",
                "cn": common_name(&cert),
                "cipher": "TLS_AES_256_GCM_SHA384",
                "sig_alg": signed_with,
                "key_alg": key,
                "verify": "0",
                "group": "X25519MLKEM768",
                "sig_scheme": algorithm.scheme(),
            })
        );
    }
}

#[test]
fn haproxy_understands_every_field() {
    let port = free_port();
    let haproxy = HaProxy::with(
        port,
        &format!(
            "global\n    log stderr format raw daemon\n\
             defaults\n    mode http\n    log global\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n\
             listen told\n    bind 127.0.0.1:{port} accept-proxy\n    http-request return status 200 content-type \
             text/plain lf-string \"%[src] %[src_port] %[dst] %[dst_port] %[fc_pp_authority] %[fc_pp_unique_id] \
             %[fc_pp_tlv(0x20),hex]\\n\"\n"
        ),
    );
    let pki = Pki::shared();
    for (algorithm, key) in KEYS {
        let verify = json!({ "certificates": { "verify_client": "optional", "ca_bundle": pki.ca() } });
        let told = Told::start(algorithm, &format!("127.0.0.1:{port}"), verify);
        let (cert, client_key) = pki.client(algorithm);
        let client = openssl::Client::new(told.server.port).certificate((cert.clone(), client_key));
        let exchange = client.get("/");
        let body = exchange.body().trim().to_owned();
        let words: Vec<&str> = body.split(' ').collect();
        let [source, source_port, destination, destination_port, authority, unique_id, ssl] = words[..] else {
            panic!("{body}\n{}", haproxy.said())
        };
        let line = log::connections(&told.access, 1).remove(0);
        assert_eq!(line["client"], format!("{source}:{source_port}"));
        assert_eq!(line["unique_id"], unique_id);
        assert_eq!((destination, destination_port), ("127.0.0.1", told.server.port.to_string().as_str()));
        assert_eq!(authority, "localhost");
        let ssl = Ssl::parse(&hex(ssl));
        assert_eq!((ssl.client, ssl.verify), (7, 0));
        let texts: Vec<(u8, String)> =
            ssl.tlvs.iter().map(|(kind, value)| (*kind, String::from_utf8(value.clone()).unwrap())).collect();
        let expected = [
            (0x21, "TLSv1.3".to_owned()),
            (0x22, common_name(&cert)),
            (0x23, "TLS_AES_256_GCM_SHA384".to_owned()),
            (0x24, signed_with(&pki.server(algorithm).0)),
            (0x25, key.to_owned()),
            (0x26, "X25519MLKEM768".to_owned()),
            (0x27, algorithm.scheme().to_owned()),
        ];
        assert_eq!(texts, expected);
    }
}

#[test]
fn haproxy_sees_the_protocol_that_was_agreed_on() {
    let port = free_port();
    let haproxy = HaProxy::with(
        port,
        &format!(
            "global\n    log stderr format raw daemon\n\
             defaults\n    mode http\n    log global\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n\
             listen told\n    bind 127.0.0.1:{port} accept-proxy\n    http-request return status 200 content-type \
             text/plain lf-string \"alpn=%[fc_pp_tlv(0x01)] name=%[fc_pp_authority] id=%[fc_pp_unique_id,length] \
             crc=%[fc_pp_tlv(0x03),length]\\n\"\n"
        ),
    );
    let upstream = format!("127.0.0.1:{port}");
    let host = json!({
        "names": ["localhost"], "alpn": ["redis", "memcached"],
        "upstream": { "protocol": "tcp", "servers": [upstream], "proxy_protocol": "v2" }
    });
    let told = Told::start(Algorithm::EcdsaP384, &upstream, json!({ "virtual_hosts": [host] }));
    for (offered, agreed) in [("redis", "redis"), ("spdy/3,memcached", "memcached"), ("", "")] {
        let mut client = openssl::Client::new(told.server.port);
        if !offered.is_empty() {
            client = client.arguments(&["-alpn", offered]);
        }
        let exchange = client.get("/");
        let expected = format!("alpn={agreed} name=localhost id=32 crc=4");
        assert_eq!(exchange.body().trim(), expected, "{offered}\n{}", haproxy.said());
    }
}

/// Where HAProxy terminates TLS with the same certificate for the same client, it says the same of it.
#[test]
fn what_haproxy_says_too_it_says_in_the_same_words() {
    let pki = Pki::shared();
    for (algorithm, key) in KEYS {
        let (ours, its) = (Behind::start(), Behind::start());
        let verify = json!({ "certificates": { "verify_client": true, "ca_bundle": pki.ca() } });
        let told = Told::start(algorithm, &ours.address(), verify);
        let directory = tempfile::tempdir().unwrap();
        let (cert, private_key) = pki.server(algorithm);
        let together = directory.path().join("server.pem");
        let concatenated = [std::fs::read(cert).unwrap(), std::fs::read(private_key).unwrap()].concat();
        std::fs::write(&together, concatenated).unwrap();
        let port = free_port();
        let config = format!(
            "global\n    log stderr format raw daemon\n\
             defaults\n    mode tcp\n    log global\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n\
             listen its\n    bind 127.0.0.1:{port} ssl crt {} verify required ca-file {}\n    \
             unique-id-format %[uuid()]\n    server s {} send-proxy-v2-ssl-cn proxy-v2-options \
             cert-key,cert-sig,ssl-cipher,authority,unique-id,crc32c\n",
            text(&together),
            text(&pki.ca()),
            its.address(),
        );
        let _haproxy = HaProxy::sharing([directory.path(), pki.directory()], port, &config);
        let client = |port| openssl::Client::new(port).certificate(pki.client(algorithm)).send(b"hello\n");
        let negotiated = [client(told.server.port), client(port)].map(|exchange| exchange.negotiated());
        assert_eq!(negotiated[0].suite, negotiated[1].suite);
        let [ours, its] = [ours, its].map(|behind| Header::parse(&behind.header()));
        assert_eq!((ours.command, ours.value(0x02)), (its.command, its.value(0x02)), "{algorithm}");
        assert!(its.value(0x05).is_some() && its.value(0x03).is_some() && ours.value(0x03).is_some());
        let (ours, its) = (ours.ssl(), its.ssl());
        assert_eq!((ours.client, ours.verify), (its.client, its.verify), "{algorithm}");
        for kind in [0x21, 0x22, 0x23, 0x24] {
            assert_eq!(ours.text(kind), its.text(kind), "{algorithm}: {kind:#x}");
        }
        // HAProxy names the keys of RSA and ECDSA alone.
        let its_key = its.text(0x25);
        assert!(its_key == key || (algorithm == Algorithm::MlDsa65 && its_key.is_empty()), "{algorithm}: {its_key}");
        assert_eq!(ours.text(0x25), key);
    }
}

/// The common name of a certificate, by OpenSSL.
fn common_name(cert: &std::path::Path) -> String {
    let subject = x509(cert, &["-subject", "-nameopt", "sep_multiline,utf8"]);
    subject.lines().find_map(|line| line.trim().strip_prefix("CN=")).expect("a common name").to_owned()
}

/// The algorithm of the signature of a certificate, by OpenSSL's short name.
fn signed_with(cert: &std::path::Path) -> String {
    let text = x509(cert, &["-text"]);
    let name = text.lines().find_map(|line| line.trim().strip_prefix("Signature Algorithm: ")).expect("a name");
    match name {
        // OpenSSL prints the long name of some.
        "sha256WithRSAEncryption" => "RSA-SHA256",
        "sha384WithRSAEncryption" => "RSA-SHA384",
        "sha512WithRSAEncryption" => "RSA-SHA512",
        "ML-DSA-65" => "id-ml-dsa-65",
        "ML-DSA-87" => "id-ml-dsa-87",
        name => name,
    }
    .to_owned()
}

fn x509(cert: &std::path::Path, arguments: &[&str]) -> String {
    let directory = cert.parent().expect("it is in a directory");
    let mut command = peers::debian("openssl", [directory]);
    run(command.args(["x509", "-noout", "-in", text(cert)]).args(arguments), b"").expect_success().stdout
}

fn decode_pem(pem: &str) -> Vec<u8> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate").to_vec()
}

fn hex(digits: &str) -> Vec<u8> {
    let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
    (0..digits.len()).step_by(2).map(pair).collect()
}
