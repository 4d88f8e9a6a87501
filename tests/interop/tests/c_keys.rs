//! `qtls/crypto.h` and OpenSSL 3.5: each verifies what the other has signed, and opens what the other has encapsulated.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use qtls_interop::c_programs::{Workshop, run_patiently, valgrind};
use qtls_interop::process::run;
use qtls_interop::{Finished, peers};
use tempfile::TempDir;

/// A directory that both implementations see, and a program in C that does what it is told with the files in it.
struct Bench {
    directory: TempDir,
    program: PathBuf,
    _workshop: Workshop,
}

impl Bench {
    fn new() -> Self {
        let workshop = Workshop::new();
        let program = workshop.compile("gcc", "tests/interop/c/keys.c", &["-O1"]);
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        Self { directory, program, _workshop: workshop }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.file(name), content).expect("the temporary directory is writable");
    }

    /// The program in C, whose arguments with a dot in them are files of the bench.
    #[track_caller]
    fn ours(&self, arguments: &[&str]) -> Finished {
        run(Command::new(&self.program).args(arguments.iter().map(|argument| self.argument(argument))), b"")
    }

    /// OpenSSL, likewise.
    #[track_caller]
    fn openssl(&self, arguments: &[&str]) -> Finished {
        let mut command = peers::debian("openssl", [self.directory.path()]);
        run(command.args(arguments.iter().map(|argument| self.argument(argument))), b"")
    }

    fn argument(&self, argument: &str) -> PathBuf {
        let is_file = [".pem", ".der", ".bin"].iter().any(|end| argument.ends_with(end));
        if is_file { self.file(argument) } else { Path::new(argument).to_owned() }
    }
}

#[track_caller]
fn is_ok(finished: Finished) {
    assert_eq!(finished.expect_success().stdout, "QTLS_OK\n");
}

const ML_DSA: [(&str, &str); 3] = [("44", "ML-DSA-44"), ("65", "ML-DSA-65"), ("87", "ML-DSA-87")];

#[test]
fn openssl_signs_and_we_verify() {
    let bench = Bench::new();
    bench.write("message.bin", b"signed by OpenSSL");
    bench.write("other.bin", b"signed by nobody");
    for (set, name) in ML_DSA {
        bench.openssl(&["genpkey", "-algorithm", name, "-out", "key.pem"]).expect_success();
        bench.openssl(&["pkey", "-in", "key.pem", "-pubout", "-outform", "DER", "-out", "public.der"]).expect_success();
        bench
            .openssl(&["pkeyutl", "-sign", "-inkey", "key.pem", "-in", "message.bin", "-out", "signature.bin"])
            .expect_success();
        is_ok(bench.ours(&["verify", set, "public.der", "message.bin", "signature.bin"]));
        // Without the SubjectPublicKeyInfo around it, too.
        let public = bench.read("public.der");
        bench.write("public.bin", &public[22..]);
        is_ok(bench.ours(&["verify", set, "public.bin", "message.bin", "signature.bin"]));
        let refused = bench.ours(&["verify", set, "public.der", "other.bin", "signature.bin"]).expect_code(1);
        assert_eq!(refused.stdout, "QTLS_E_SIGNATURE\n", "{}", refused.said());
        // Another context string makes another signature.
        let context = ["-pkeyopt", "context-string:elsewhere"];
        let sign = ["pkeyutl", "-sign", "-inkey", "key.pem", "-in", "message.bin", "-out", "signature.bin"];
        bench.openssl(&[&sign[..], &context].concat()).expect_success();
        let refused = bench.ours(&["verify", set, "public.der", "message.bin", "signature.bin"]).expect_code(1);
        assert_eq!(refused.stdout, "QTLS_E_SIGNATURE\n", "{}", refused.said());
    }
}

#[test]
fn we_sign_with_keys_of_openssl_and_it_verifies() {
    let bench = Bench::new();
    bench.write("message.bin", b"signed by libqtls");
    bench.write("other.bin", b"signed by nobody");
    for (_, name) in ML_DSA {
        // The three forms of RFC 9881, section 6; OpenSSL's own default has both.
        for form in ["seed-only", "priv-only", "seed-priv"] {
            let formats = format!("ml-dsa.output_formats={form}");
            bench.openssl(&["genpkey", "-algorithm", name, "-provparam", &formats, "-out", "key.pem"]).expect_success();
            is_ok(bench.ours(&["sign", "key.pem", "message.bin", "signature.bin"]));
            let verify = ["pkeyutl", "-verify", "-inkey", "key.pem", "-sigfile", "signature.bin", "-in"];
            let good = bench.openssl(&[&verify[..], &["message.bin"]].concat()).expect_success();
            assert!(good.stdout.contains("Signature Verified Successfully"), "{}", good.said());
            let bad = bench.openssl(&[&verify[..], &["other.bin"]].concat()).expect_code(1);
            assert!(bad.stdout.contains("Signature Verification Failure"), "{}", bad.said());
        }
    }
}

#[test]
fn openssl_reads_our_keys() {
    let bench = Bench::new();
    bench.write("message.bin", b"signed by either");
    for (set, name) in ML_DSA {
        is_ok(bench.ours(&["new-dsa", set, "key.der", "public.der"]));
        // The public key that OpenSSL derives from the private one is ours, to the byte.
        bench
            .openssl(&["pkey", "-in", "key.der", "-pubout", "-outform", "DER", "-out", "derived.der"])
            .expect_success();
        assert_eq!(bench.read("derived.der"), bench.read("public.der"), "{name}");
        let shown = bench.openssl(&["pkey", "-in", "key.der", "-noout", "-text"]).expect_success().stdout;
        assert!(shown.starts_with(&format!("{name} Private-Key")) && shown.contains("seed:"), "{shown}");
        bench
            .openssl(&["pkeyutl", "-sign", "-inkey", "key.der", "-in", "message.bin", "-out", "signature.bin"])
            .expect_success();
        is_ok(bench.ours(&["verify", set, "public.der", "message.bin", "signature.bin"]));
    }
}

const ML_KEM: [(&str, &str, usize, usize); 2] =
    [("768", "ML-KEM-768", 2400, 1184), ("1024", "ML-KEM-1024", 3168, 1568)];

/// The keys of FIPS 203 are what PKCS#8 without the seed, and SubjectPublicKeyInfo, end with.
#[test]
fn secrets_are_the_same_with_keys_of_openssl() {
    let bench = Bench::new();
    for (set, name, private_length, public_length) in ML_KEM {
        let formats = ["-provparam", "ml-kem.output_formats=priv-only"];
        let genpkey = ["genpkey", "-algorithm", name, "-outform", "DER", "-out", "key.der"];
        bench.openssl(&[&genpkey[..], &formats].concat()).expect_success();
        bench.openssl(&["pkey", "-in", "key.der", "-pubout", "-outform", "DER", "-out", "public.der"]).expect_success();
        let (private, public) = (bench.read("key.der"), bench.read("public.der"));
        bench.write("private.bin", &private[private.len() - private_length..]);
        bench.write("public.bin", &public[public.len() - public_length..]);
        both_ways(&bench, set);
    }
}

#[test]
fn secrets_are_the_same_with_our_keys() {
    let bench = Bench::new();
    for (set, name, private_length, public_length) in ML_KEM {
        is_ok(bench.ours(&["new-kem", set, "private.bin", "public.bin"]));
        // Around them, what OpenSSL writes around its own.
        let formats = ["-provparam", "ml-kem.output_formats=priv-only"];
        let genpkey = ["genpkey", "-algorithm", name, "-outform", "DER", "-out", "its.der"];
        bench.openssl(&[&genpkey[..], &formats].concat()).expect_success();
        bench
            .openssl(&["pkey", "-in", "its.der", "-pubout", "-outform", "DER", "-out", "its-public.der"])
            .expect_success();
        let around = |its: &str, ours: &str, length: usize| {
            let (its, ours) = (bench.read(its), bench.read(ours));
            assert_eq!(ours.len(), length);
            [&its[..its.len() - length], &ours].concat()
        };
        bench.write("key.der", &around("its.der", "private.bin", private_length));
        bench.write("public.der", &around("its-public.der", "public.bin", public_length));
        bench
            .openssl(&["pkey", "-in", "key.der", "-pubout", "-outform", "DER", "-out", "derived.der"])
            .expect_success();
        assert_eq!(bench.read("derived.der"), bench.read("public.der"), "{name}");
        both_ways(&bench, set);
    }
}

/// With one key as `key.der` and `private.bin`, `public.der` and `public.bin`: each side opens what the other made.
#[track_caller]
fn both_ways(bench: &Bench, set: &str) {
    let encapsulate = ["pkeyutl", "-encap", "-pubin", "-inkey", "public.der", "-keyform", "DER"];
    bench.openssl(&[&encapsulate[..], &["-secret", "theirs.bin", "-out", "sent.bin"]].concat()).expect_success();
    is_ok(bench.ours(&["decapsulate", set, "private.bin", "sent.bin", "ours.bin"]));
    assert_eq!(bench.read("ours.bin"), bench.read("theirs.bin"));
    assert_eq!(bench.read("ours.bin").len(), 32);

    is_ok(bench.ours(&["encapsulate", set, "public.bin", "sent.bin", "ours.bin"]));
    let decapsulate = ["pkeyutl", "-decap", "-inkey", "key.der", "-keyform", "DER", "-in"];
    bench.openssl(&[&decapsulate[..], &["sent.bin", "-secret", "theirs.bin"]].concat()).expect_success();
    assert_eq!(bench.read("ours.bin"), bench.read("theirs.bin"));

    // Implicit rejection gives both the same secret, too: it follows from the key and the ciphertext.
    let mut changed = bench.read("sent.bin");
    changed[100] ^= 1;
    bench.write("changed.bin", &changed);
    is_ok(bench.ours(&["decapsulate", set, "private.bin", "changed.bin", "rejected.bin"]));
    bench.openssl(&[&decapsulate[..], &["changed.bin", "-secret", "theirs.bin"]].concat()).expect_success();
    assert_eq!(bench.read("rejected.bin"), bench.read("theirs.bin"));
    assert_ne!(bench.read("rejected.bin"), bench.read("ours.bin"));
}

#[test]
fn under_valgrind_too() {
    let bench = Bench::new();
    let mut command = valgrind();
    command.arg(&bench.program).args(["new-kem", "768"]).args([bench.file("private.bin"), bench.file("public.bin")]);
    is_ok(run_patiently(&mut command));
}
