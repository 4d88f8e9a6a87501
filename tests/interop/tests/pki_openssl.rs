//! Both ways with OpenSSL 3.5 for every algorithm: what `qtls` issues it parses, verifies and serves; what it issues
//! `qtls` reads, verifies and answers.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use qtls_interop::client::Client;
use qtls_interop::openssl::{Server, text};
use qtls_interop::process::{Finished, run, run_within};
use qtls_interop::{peers, programs};
use serde_json::Value;

/// Our names, and how OpenSSL is asked for such a key.
const ALGORITHMS: [(&str, &str); 10] = [
    ("ml-dsa-44", "-algorithm ML-DSA-44"),
    ("ml-dsa-65", "-algorithm ML-DSA-65"),
    ("ml-dsa-87", "-algorithm ML-DSA-87"),
    ("ecdsa-p256", "-algorithm EC -pkeyopt ec_paramgen_curve:P-256"),
    ("ecdsa-p384", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384"),
    ("ecdsa-p521", "-algorithm EC -pkeyopt ec_paramgen_curve:P-521"),
    ("ed25519", "-algorithm ED25519"),
    ("rsa-2048", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"),
    ("rsa-3072", "-algorithm RSA -pkeyopt rsa_keygen_bits:3072"),
    ("rsa-4096", "-algorithm RSA -pkeyopt rsa_keygen_bits:4096"),
];

/// A dozen keys of RSA-4096 may take their time on a busy machine.
const KEYS: Duration = Duration::from_secs(240);

fn place() -> tempfile::TempDir {
    tempfile::tempdir().expect("the temporary directory is writable")
}

fn qtls(at: &Path, arguments: &[&str]) -> Finished {
    run_within(programs::command("qtls").current_dir(at).args(arguments), b"", KEYS)
}

fn openssl(at: &Path, arguments: &[&str]) -> Finished {
    run(peers::debian("openssl", [at]).args(arguments), b"")
}

/// Runs a script of OpenSSL commands in `at`.
fn script(at: &Path, script: &str, arguments: &[&str]) -> Finished {
    let mut command = peers::debian("sh", [at]);
    command.args(["-euc", script, "sh", text(at)]).args(arguments);
    run_within(&mut command, b"", KEYS)
}

fn json(finished: Finished) -> Value {
    serde_json::from_str(&finished.expect_success().stdout).expect("it prints JSON")
}

fn path(at: &Path, file: &str) -> PathBuf {
    at.join(file)
}

#[test]
fn what_we_issue_openssl_verifies_and_serves() {
    let place = place();
    let at = place.path();
    let names = ALGORITHMS.map(|(name, _)| name).join(",");
    let init = ["ca", "init", "--dir", "ca", "--alg", &names, "--name", "양자 기관", "--org", "한국"];
    let links = ["--crl-url", "http://pki.example/{ca}.crl", "--issuer-url", "http://pki.example/{ca}.cer"];
    qtls(at, &[&init[..], &links].concat()).expect_success();
    let issue =
        ["ca", "issue", "server", "--dir", "ca", "--name", "localhost", "127.0.0.1", "--out", ".", "--cn", "시험"];
    qtls(at, &issue).expect_success();
    let bundle = path(at, "ca/certs/qsign-ca-bundle.pem");
    for (name, _) in ALGORITHMS {
        let cert = path(at, &format!("server-cert-{name}.pem"));
        let key = path(at, &format!("server-key-{name}.pem"));
        let file = |file: String| path(at, &file);
        let issuer = file(format!("ca/certs/tls-ca-{name}.pem"));
        let lists = [file(format!("ca/crl/root-{name}.pem")), file(format!("ca/crl/tls-ca-{name}.pem"))];
        let strict = ["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "localhost"];
        let trust = ["-CAfile", text(&bundle), "-untrusted", text(&issuer)];
        let revocation = ["-crl_check_all", "-CRLfile", text(&lists[0]), "-CRLfile", text(&lists[1])];
        let verified = openssl(at, &[&strict[..], &trust, &revocation, &[text(&cert)]].concat()).expect_success();
        assert!(verified.stdout.ends_with("OK\n"), "{name}: {}", verified.said());
        let shown = openssl(at, &["x509", "-in", text(&cert), "-noout", "-text", "-nameopt", "utf8"]).expect_success();
        for line in ["CN=시험", "O=한국, CN=양자 기관 TLS", &format!("URI:http://pki.example/tls-ca-{name}.crl")]
        {
            assert!(shown.stdout.contains(line), "{name}: {line} is not in\n{}", shown.stdout);
        }
        let pair = openssl(at, &["pkey", "-in", text(&key), "-check", "-noout"]).expect_success();
        assert!(pair.stdout.contains("valid") || name == "ed25519", "{name}: {}", pair.said());

        let server = Server::start((cert.clone(), key), &bundle, &[]);
        Client::trusting(server.port, &bundle).get("/").expect_success();
        let seen = json(qtls(at, &["inspect", "--json", &format!("localhost:{}", server.port)]));
        // As OpenSSL is started here, it sends the leaf of -cert and then all of -cert_chain.
        assert_eq!(seen["problems"], serde_json::json!(["certificate 2 is certificate 1 again"]), "{name}: {seen}");
        assert_eq!(seen["items"].as_array().map(Vec::len), Some(3), "{name}: {seen}");
        assert_eq!(seen["connection"]["post_quantum"], true, "{name}: {seen}");
    }
}

#[test]
fn what_we_revoke_openssl_refuses() {
    let place = place();
    let at = place.path();
    qtls(at, &["ca", "init", "--dir", "ca", "--alg", "ml-dsa-65,ecdsa-p256"]).expect_success();
    qtls(at, &["ca", "issue", "client", "--dir", "ca", "--cn", "app", "--out", "."]).expect_success();
    for name in ["ml-dsa-65", "ecdsa-p256"] {
        let cert = path(at, &format!("client-cert-{name}.pem"));
        let revoke = ["ca", "revoke", text(&cert), "--dir", "ca", "--reason", "keyCompromise"];
        qtls(at, &revoke).expect_success();
        let list = path(at, &format!("ca/crl/tls-ca-{name}.crl"));
        let shown = openssl(at, &["crl", "-inform", "DER", "-in", text(&list), "-noout", "-text"]).expect_success();
        assert!(shown.stdout.contains("Key Compromise"), "{name}: {}", shown.stdout);
        assert!(shown.stdout.contains("X509v3 CRL Number: \n                2\n"), "{name}: {}", shown.stdout);
        let file = |file: String| text(&path(at, &file)).to_owned();
        let arguments = [
            "verify",
            "-x509_strict",
            "-crl_check_all",
            "-CAfile",
            &file("ca/certs/qsign-ca-bundle.pem".to_owned()),
            "-untrusted",
            &file(format!("ca/certs/tls-ca-{name}.pem")),
            "-CRLfile",
            &file(format!("ca/crl/root-{name}.pem")),
            "-CRLfile",
            &file(format!("ca/crl/tls-ca-{name}.pem")),
            text(&cert),
        ];
        let refused = openssl(at, &arguments).expect_code(2);
        assert!(refused.stderr.contains("certificate revoked"), "{name}: {}", refused.said());
        let lists = ["--crl", &format!("ca/crl/root-{name}.crl"), "--crl", &format!("ca/crl/tls-ca-{name}.crl")];
        let verify = ["verify", text(&cert), "--ca", "ca/certs/qsign-ca-bundle.pem", "--purpose", "client"];
        let ours = qtls(at, &[&verify[..], &lists].concat()).expect_code(4);
        assert!(ours.stderr.contains("CN=app: was revoked on"), "{name}: {}", ours.said());
    }
}

#[test]
fn our_keys_and_requests_are_read_by_openssl() {
    let place = place();
    let at = place.path();
    fs::write(at.join("passphrase"), "말 건전지\n").expect("it is writable");
    for (name, _) in ALGORITHMS {
        let (key, csr) = (path(at, &format!("{name}.key")), path(at, &format!("{name}.csr")));
        let passphrase = ["--passphrase-file", "passphrase"];
        let keygen = ["keygen", "--alg", name, "--out", text(&key)];
        qtls(at, &[&keygen[..], &passphrase].concat()).expect_success();
        let request =
            ["csr", "--key", text(&key), "--name", "서버.한국", "192.0.2.1", "--cn", "시험", "--out", text(&csr)];
        qtls(at, &[&request[..], &passphrase].concat()).expect_success();
        let public = at.join(format!("{name}.pub"));
        let from = format!("file:{}", text(&path(at, "passphrase")));
        let pkey = ["pkey", "-in", text(&key), "-passin", &from, "-pubout", "-out", text(&public)];
        openssl(at, &pkey).expect_success();
        let theirs = json(qtls(at, &["inspect", "--json", text(&public)]));
        let ours = json(qtls(at, &["inspect", "--json", text(&csr)]));
        assert_eq!(theirs["items"][0]["key"], ours["items"][0]["key"], "{name}");
        let checked = openssl(at, &["req", "-in", text(&csr), "-verify", "-noout", "-text", "-nameopt", "utf8"]);
        let checked = checked.expect_success();
        assert!(checked.stdout.contains("self-signature verify OK"), "{name}: {}", checked.said());
        assert!(checked.stdout.contains("Subject: CN=시험\n"), "{name}: {}", checked.said());
        let names = "DNS:xn--hk3b17f.xn--3e0b707e, IP Address:192.0.2.1";
        assert!(checked.stdout.contains(names), "{name}: {}", checked.said());
    }
}

/// A root, an intermediate, a server and the lists of both, of one kind, in the directory `$2`. The key options are `$3`.
const ISSUE: &str = r#"
    cd "$1"; mkdir "$2"; cd "$2"
    for who in root middle leaf; do openssl genpkey -quiet $3 -out $who.key; done
    printf 'basicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' > middle.ext
    printf 'basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth\nsubjectAltName=DNS:a.example\nsubjectKeyIdentifier=hash\nauthorityKeyIdentifier=keyid\n' > leaf.ext
    openssl req -x509 -new -key root.key -days 99 -utf8 -subj '/O=오픈/CN=Root' -addext 'keyUsage=critical,keyCertSign,cRLSign' -out root.pem
    openssl req -new -key middle.key -utf8 -subj '/CN=중간' -out middle.csr
    openssl x509 -req -in middle.csr -CA root.pem -CAkey root.key -days 98 -extfile middle.ext -out middle.pem
    openssl req -new -key leaf.key -utf8 -subj '/CN=시험' -addext 'subjectAltName=DNS:a.example' -out leaf.csr
    openssl x509 -req -in leaf.csr -CA middle.pem -CAkey middle.key -days 97 -extfile leaf.ext -out leaf.pem
    cat leaf.pem middle.pem > chain.pem
    for ca in root middle; do
        : > $ca.db; echo 01 > $ca.number
        printf '[ca]\ndefault_ca=d\n[d]\ndatabase=%s.db\ncrlnumber=%s.number\ndefault_md=%s\ndefault_crl_days=9\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n' $ca $ca "$4" > $ca.cnf
        openssl ca -config $ca.cnf -gencrl -keyfile $ca.key -cert $ca.pem -out $ca.crl
    done
    openssl ca -config middle.cnf -keyfile middle.key -cert middle.pem -revoke leaf.pem -crl_reason superseded
    openssl ca -config middle.cnf -gencrl -keyfile middle.key -cert middle.pem -out revoking.crl
"#;

#[test]
fn what_openssl_issues_we_verify_and_answer() {
    let place = place();
    let at = place.path();
    qtls(at, &["ca", "init", "--dir", "ca", "--alg", "ml-dsa-87"]).expect_success();
    for (name, options) in ALGORITHMS {
        // These sign a message, and take no hash.
        let digest = if name.starts_with("ml-dsa") || name == "ed25519" { "default" } else { "sha384" };
        script(at, ISSUE, &[name, options, digest]).expect_success();
        let file = |file: &str| text(&at.join(name).join(file)).to_owned();
        let trust = ["--ca", &file("root.pem"), "--name", "a.example"];
        let good = ["--crl", &file("root.crl"), "--crl", &file("middle.crl")];
        let verdict = json(qtls(at, &[&["verify", "--json", &file("chain.pem")][..], &trust, &good].concat()));
        let subjects: Vec<_> = verdict["path"].as_array().into_iter().flatten().map(|step| &step["subject"]).collect();
        assert_eq!(subjects, ["CN=시험", "CN=중간", "CN=Root,O=오픈"], "{name}: {verdict}");
        let revoking = ["--crl", &file("root.crl"), "--crl", &file("revoking.crl")];
        let refused = qtls(at, &[&["verify", &file("chain.pem")][..], &trust, &revoking].concat()).expect_code(4);
        assert!(refused.stderr.contains("CN=시험: was revoked on"), "{name}: {}", refused.said());
        assert!(refused.stderr.contains("superseded"), "{name}: {}", refused.said());
        for shown in ["chain.pem", "root.pem", "leaf.csr", "leaf.key", "middle.crl", "revoking.crl"] {
            let report = json(qtls(at, &["inspect", "--json", &file(shown)]));
            assert_eq!(report["problems"], serde_json::json!([]), "{name} {shown}: {report}");
            assert_eq!(report["items"][0]["problems"], serde_json::json!([]), "{name} {shown}: {report}");
        }
        let answer = ["ca", "issue", "server", "--dir", "ca", "--csr", &file("leaf.csr"), "--out", ".", "--as", name];
        qtls(at, &answer).expect_success();
        let cert = path(at, &format!("{name}-cert.pem"));
        let bundle = path(at, "ca/certs/qsign-ca-bundle.pem");
        let server = Server::start((cert, at.join(name).join("leaf.key")), &bundle, &[]);
        Client::trusting(server.port, &bundle).arguments(["--server-name", "a.example"]).get("/").expect_success();
    }
}

#[test]
fn what_is_weak_in_openssls_certificates_is_told() {
    let place = place();
    let at = place.path();
    let made = r#"
        cd "$1"
        openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:2048 -out root.key
        openssl genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out weak.key
        openssl req -x509 -new -key root.key -days 9 -subj /CN=Root -out root.pem
        openssl req -new -key weak.key -subj /CN=weak.example -out weak.csr
        openssl x509 -req -sha1 -in weak.csr -CA root.pem -CAkey root.key -days 9 -out weak.pem
    "#;
    script(at, made, &[]).expect_success();
    let report = json(qtls(at, &["inspect", "--json", "weak.pem"]));
    let problems = report["items"][0]["problems"].to_string();
    for told in
        ["expires in 8 days", "RSA with SHA-1, which can be forged", "RSA-1024: too short", "ignore the common name"]
    {
        assert!(problems.contains(told), "{told:?} is not in {problems}");
    }
    qtls(at, &["verify", "weak.pem", "--ca", "root.pem"]).expect_code(4);
    // And a request with such a key is not answered.
    qtls(at, &["ca", "init", "--dir", "ca", "--alg", "ed25519"]).expect_success();
    let refused = qtls(at, &["ca", "issue", "client", "--dir", "ca", "--csr", "weak.csr"]).expect_code(2);
    assert!(refused.stderr.contains("RSA-1024"), "{}", refused.said());
}
