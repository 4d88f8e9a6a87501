//! Keys as OpenSSL 3.5 writes them are read, encrypted and not, in PEM and DER.

use std::fs;
use std::path::Path;

use qtls_core::credentials::{Credential, Passphrase, files, signing_key_kind};
use qtls_interop::openssl::text;
use qtls_interop::peers;
use qtls_interop::process::{PATIENCE, run_within};
use tempfile::TempDir;

/// In a directory for each kind of key: a certificate, and its key in every form that OpenSSL has for it.
fn made_by_openssl() -> TempDir {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let script = r#"
        set -e
        make() {
            mkdir "$1/$2"; cd "$1/$2"; shift 2
            openssl genpkey -quiet "$@" -out plain.pem
            openssl req -x509 -new -key plain.pem -days 9 -subj /CN=x.example -addext subjectAltName=DNS:x.example -out cert.pem
            openssl x509 -in cert.pem -outform DER -out cert.der
            openssl pkey -in plain.pem -outform DER -out plain.der
            openssl pkcs8 -topk8 -in plain.pem -passout pass:sesame -out default.pem
            openssl pkcs8 -topk8 -in plain.pem -passout pass:sesame -outform DER -out default.der
            openssl pkcs8 -topk8 -in plain.pem -passout pass:sesame -scrypt -out scrypt.pem
            openssl pkcs8 -topk8 -in plain.pem -passout pass:sesame -v2 aes-128-cbc -v2prf hmacWithSHA512 -out aes128.pem
            openssl pkey -in plain.pem -aes192 -passout pass:sesame -out aes192.pem
        }
        make "$1" rsa -algorithm RSA -pkeyopt rsa_keygen_bits:2048
        openssl pkey -in "$1/rsa/plain.pem" -traditional -out "$1/rsa/traditional.pem"
        make "$1" p384 -algorithm EC -pkeyopt ec_paramgen_curve:P-384
        openssl pkey -in "$1/p384/plain.pem" -traditional -out "$1/p384/traditional.pem"
        make "$1" ed25519 -algorithm ED25519
        make "$1" mldsa44 -algorithm ML-DSA-44
        make "$1" mldsa65 -algorithm ML-DSA-65
        make "$1" mldsa87 -algorithm ML-DSA-87
        for form in seed-only priv-only seed-priv; do
            openssl pkey -in "$1/mldsa65/plain.pem" -provparam ml-dsa.output_formats=$form -out "$1/mldsa65/$form.pem"
        done
    "#;
    let mut command = peers::debian("sh", [directory.path()]);
    // Passphrases are slow on purpose, and RSA keys may be by chance.
    run_within(command.args(["-c", script, "sh", text(directory.path())]), b"", 4 * PATIENCE).expect_success();
    directory
}

fn read(directory: &Path, cert: &str, key: &str, passphrase: Option<&Passphrase>) -> qtls_core::Result<Credential> {
    files::credential_with(&directory.join(cert), &directory.join(key), passphrase)
}

#[test]
fn every_form_of_every_kind_is_the_same_key() {
    let made = made_by_openssl();
    let file = made.path().join("passphrase");
    fs::write(&file, "sesame\n").expect("it is writable");
    let passphrase = files::passphrase(&file).expect("it is one line");
    fs::write(&file, "open\n").expect("it is writable");
    let wrong = files::passphrase(&file).expect("it is one line");
    for (kind, name, keys) in [
        ("rsa", "rsa-2048", 8),
        ("p384", "ecdsa-p384", 8),
        ("ed25519", "ed25519", 7),
        ("mldsa44", "ml-dsa-44", 7),
        ("mldsa65", "ml-dsa-65", 10),
        ("mldsa87", "ml-dsa-87", 7),
    ] {
        let directory = made.path().join(kind);
        let mut forms: Vec<_> = fs::read_dir(&directory)
            .expect("OpenSSL has written it")
            .map(|entry| entry.expect("it is readable").file_name().into_string().expect("ASCII"))
            .filter(|file| !file.starts_with("cert"))
            .collect();
        forms.sort();
        assert_eq!(forms.len(), keys, "{kind}: {forms:?}");
        for form in forms {
            let encrypted = !["plain", "traditional", "seed", "priv"].iter().any(|plain| form.starts_with(plain));
            let credential =
                read(&directory, "cert.pem", &form, Some(&passphrase)).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(credential.kind.name(), name, "{kind} {form}");
            assert_eq!(signing_key_kind(credential.key.key.as_ref()).unwrap(), credential.kind);
            let from_der =
                read(&directory, "cert.der", &form, Some(&passphrase)).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(from_der.key.cert, credential.key.cert);
            let said = |passphrase| {
                read(&directory, "cert.pem", &form, passphrase)
                    .map_or_else(|error| error.to_string(), |_| "OK".to_owned())
            };
            let (with_wrong, with_none) = (said(Some(&wrong)), said(None));
            if encrypted {
                assert!(with_wrong.contains("does not decrypt this private key"), "{kind} {form}: {with_wrong}");
                assert!(with_none.contains("the private key is encrypted"), "{kind} {form}: {with_none}");
            } else {
                assert_eq!((with_wrong.as_str(), with_none.as_str()), ("OK", "OK"), "{kind} {form}");
            }
        }
    }
}
