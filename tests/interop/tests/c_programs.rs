//! libqtls in programs written in C: its own tests, under everything that finds mistakes in memory, and OpenSSL 3.5 as the
//! other side.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use qtls_interop::c_programs::{SANITIZERS, Workshop, equip, run_patiently, sources, valgrind};
use qtls_interop::openssl::{Client, Server};
use qtls_interop::process::{PATIENCE, Running, run};
use qtls_interop::{Algorithm, Finished, Negotiated, Pki, programs};
use serde_json::{Value, json};

const P384: &str = "ecdsa_secp384r1_sha384";

/// The tests in C; none may be lost.
fn tests() -> Vec<String> {
    let tests = sources("tests/c");
    assert!(tests.len() >= 10, "{tests:?}");
    tests
}

fn compilers() -> Vec<&'static str> {
    let there = |compiler: &&str| Command::new(compiler).arg("--version").output().is_ok();
    ["gcc", "clang"].into_iter().filter(there).collect()
}

#[test]
fn the_tests_in_c_pass() {
    let workshop = Workshop::new();
    for compiler in compilers() {
        for test in tests() {
            // Their checks are no assertions that go with NDEBUG.
            let program = workshop.compile(compiler, &test, &["-O2", "-DNDEBUG"]);
            run_patiently(equip(&mut Command::new(program))).expect_success();
        }
    }
}

/// Half of them, so that both halves run at once.
#[track_caller]
fn valgrind_finds_nothing(half: usize) {
    let workshop = Workshop::new();
    for test in tests().into_iter().skip(half).step_by(2) {
        let program = workshop.compile("gcc", &test, &["-O1"]);
        let finished = run_patiently(equip(valgrind().arg(program))).expect_success();
        assert!(!finished.stderr.contains("=="), "{}", finished.said());
    }
}

#[test]
fn valgrind_finds_nothing_in_one_half() {
    valgrind_finds_nothing(0);
}

#[test]
fn valgrind_finds_nothing_in_the_other_half() {
    valgrind_finds_nothing(1);
}

#[test]
fn the_sanitizers_find_nothing() {
    let workshop = Workshop::new();
    for test in tests() {
        let program = workshop.compile("gcc", &test, &[&["-O1"][..], &SANITIZERS].concat());
        let finished = run_patiently(equip(&mut Command::new(program))).expect_success();
        assert!(!finished.stderr.contains("ERROR"), "{}", finished.said());
    }
}

/// What the checks above would not say of these programs, they would not say of any.
#[test]
fn a_leak_and_a_use_after_free_are_found() {
    let leak = r#"#include <qtls/qtls.h>
        /* Many, since the address of one may be left over somewhere, by chance. */
        int main(void) {
            for (int i = 0; i < 100; i++) {
                qtls_error *error = NULL;
                qtls_config_freeze(NULL, &error);
            }
            return 0;
        }"#;
    let stale = r#"#include <qtls/qtls.h>
        int main(void) {
            qtls_error *error = NULL;
            volatile const char *message;
            qtls_config_new(7, &error);
            message = qtls_error_message(error);
            qtls_error_free(error);
            return message[0] == 1;
        }"#;
    let workshop = Workshop::new();
    for (name, text, words) in [
        ("leak", leak, ["definitely lost", "LeakSanitizer"]),
        ("stale", stale, ["Invalid read", "heap-use-after-free"]),
    ] {
        let found = run_patiently(valgrind().arg(workshop.compile_text(name, text, &[]))).expect_code(99);
        assert!(found.stderr.contains(words[0]), "{}", found.said());
        let found = run_patiently(&mut Command::new(workshop.compile_text(name, text, &SANITIZERS)));
        assert!(!found.status.success() && found.stderr.contains(words[1]), "{}", found.said());
    }
    // And a check that fails is a test that fails.
    let broken = r#"#include "check.h"
        int main(void) { qtls_error *error = NULL; CHECK_OK(qtls_config_freeze(NULL, &error)); return 0; }"#;
    let include = format!("-I{}", programs::repository().join("tests/c").display());
    let failed = run(&mut Command::new(workshop.compile_text("broken", broken, &["-DNDEBUG", &include])), b"");
    let failed = failed.expect_code(1);
    assert!(failed.stderr.contains("came to QTLS_E_MISUSE, not QTLS_OK"), "{}", failed.said());
    assert!(failed.stderr.contains("config is NULL"), "{}", failed.said());
}

#[test]
fn every_function_is_misused() {
    let read = |path: &str| fs::read_to_string(programs::repository().join(path)).expect("it is there");
    let (functions, test) = (read("crates/qtls-ffi/symbols.txt"), read("tests/c/misuse.c"));
    let missing: Vec<_> = functions.lines().filter(|name| !test.contains(&format!("{name}("))).collect();
    assert!(missing.is_empty(), "tests/c/misuse.c doesn't call {missing:?}");
    assert!(functions.lines().count() > 90, "{functions}");
}

/// One side in C, which says on its standard output what was negotiated.
struct Peer {
    program: PathBuf,
    _workshop: Workshop,
}

impl Peer {
    fn new() -> Self {
        let workshop = Workshop::new();
        Self { program: workshop.compile("gcc", "tests/interop/c/peer.c", &["-O1"]), _workshop: workshop }
    }

    fn connect(&self, port: u16, options: &[String]) -> Finished {
        run(Command::new(&self.program).arg("client").arg(format!("port={port}")).args(options), b"")
    }

    fn listen(&self, options: &[String]) -> (Running, u16) {
        let server = Running::start(Command::new(&self.program).arg("server").args(options));
        let line = server.stdout.wait_for_line("port ");
        let port = line.trim_start_matches("port ").parse();
        (server, port.unwrap_or_else(|_| panic!("{line:?} is no port")))
    }
}

/// The first line of JSON that the program printed.
#[track_caller]
fn facts(finished: &Finished) -> Value {
    let line = finished.stdout.lines().find(|line| line.starts_with('{'));
    serde_json::from_str(line.unwrap_or_else(|| panic!("{}", finished.said()))).expect("the line is JSON")
}

fn path(name: &str, path: &Path) -> String {
    format!("{name}={}", path.display())
}

fn pair((cert, key): (PathBuf, PathBuf)) -> [String; 2] {
    [path("cert", &cert), path("key", &key)]
}

#[test]
fn openssl_as_the_server() {
    let peer = Peer::new();
    for (algorithm, group, retry, options) in [
        (Algorithm::EcdsaP384, "X25519MLKEM768", false, vec![]),
        (Algorithm::EcdsaP384, "SecP384r1MLKEM1024", true, vec!["nonblocking=1".to_owned()]),
        (Algorithm::MlDsa65, "X25519MLKEM768", false, vec!["nonblocking=1".to_owned()]),
        (Algorithm::MlDsa65, "SecP384r1MLKEM1024", false, vec!["groups=SecP384r1MLKEM1024".to_owned()]),
        (Algorithm::Rsa4096, "SecP256r1MLKEM768", true, vec![]),
        (Algorithm::EcdsaP384, "x25519", false, vec![]),
    ] {
        let server = Server::start(Pki::shared().server(algorithm), &Pki::shared().ca(), &["-groups", group]);
        let expected = Negotiated { hello_retry_request: retry, ..Negotiated::new(group, algorithm.scheme()) };
        let options = [vec![path("ca", &Pki::shared().ca())], options].concat();
        let finished = peer.connect(server.port, &options).expect_success();
        let said = facts(&finished);
        assert_eq!(Negotiated::from_json(&said), expected, "the client in C");
        assert_eq!(said["post_quantum"], expected.post_quantum(), "{said}");
        assert_eq!(said["version"], "TLSv1.3", "{said}");
        assert!(finished.stdout.contains(&format!("Cipher is {}", expected.suite)), "{}", finished.said());
        server.expect_handshakes(&[expected]);
    }
}

#[test]
fn openssl_as_the_client() {
    let peer = Peer::new();
    for (algorithm, group, options) in [
        (Algorithm::EcdsaP384, "X25519MLKEM768", vec![]),
        (Algorithm::EcdsaP384, "SecP384r1MLKEM1024", vec!["nonblocking=1".to_owned()]),
        (Algorithm::MlDsa65, "X25519MLKEM768", vec!["nonblocking=1".to_owned()]),
        (Algorithm::MlDsa65, "SecP384r1MLKEM1024", vec![]),
        (Algorithm::Rsa4096, "SecP256r1MLKEM768", vec![]),
        (Algorithm::EcdsaP384, "x25519", vec![]),
    ] {
        let options = [pair(Pki::shared().server(algorithm)).to_vec(), options].concat();
        let (server, port) = peer.listen(&options);
        let exchange = Client::trusting(port, &Pki::shared().ca_of(algorithm)).groups(group).get("/");
        let expected = Negotiated::new(group, algorithm.scheme());
        assert_eq!(exchange.negotiated(), expected, "OpenSSL");
        assert_eq!(exchange.body(), "hello\n");
        let finished = server.finish(PATIENCE).expect_success();
        let said = facts(&finished);
        assert_eq!(Negotiated::from_json(&said), expected, "the server in C");
        assert_eq!(said["server_name"], "localhost");
        assert_eq!(said["post_quantum"], expected.post_quantum(), "{said}");
    }
}

#[test]
fn client_certificates_both_ways() {
    let peer = Peer::new();
    let ca = path("ca", &Pki::shared().ca());
    for algorithm in [Algorithm::EcdsaP384, Algorithm::MlDsa65] {
        let arguments = ["-Verify", "3", "-verify_return_error"];
        let server = Server::start(Pki::shared().server(Algorithm::EcdsaP384), &Pki::shared().ca(), &arguments);
        let options = [vec![ca.clone()], pair(Pki::shared().client(algorithm)).to_vec()].concat();
        let finished = peer.connect(server.port, &options).expect_success();
        assert!(finished.stdout.contains("Client certificate"), "{}", finished.said());
        assert!(finished.stdout.contains("qtls-client"), "{}", finished.said());
        server.expect_handshakes(&[Negotiated::new("X25519MLKEM768", P384)]);

        let options = [vec![ca.clone()], pair(Pki::shared().server(algorithm)).to_vec()].concat();
        let (server, port) = peer.listen(&options);
        let exchange = Client::new(port).certificate(Pki::shared().client(algorithm)).get("/");
        assert_eq!(exchange.body(), "hello\n");
        let said = facts(&server.finish(PATIENCE).expect_success());
        assert_eq!(said["peer"], "CN=qtls-client,O=Q-TLS quickstart, DNS qtls-client");
        // OpenSSL sends the leaf by itself, and the file with the leaf and the intermediate.
        assert_eq!(said["peer_chain_length"], 3);
    }
    // Who has none is told so.
    let options = [vec![ca], pair(Pki::shared().server(Algorithm::EcdsaP384)).to_vec()].concat();
    let (server, port) = peer.listen(&options);
    let exchange = Client::new(port).get("/");
    assert!(exchange.finished.stderr.contains("alert certificate required"), "{}", exchange.finished.said());
    let said = facts(&server.finish(PATIENCE).expect_code(1));
    let expected =
        json!({ "error": "QTLS_E_PEER_NO_CERTIFICATE", "fault": 6, "alert_sent": 116, "alert_received": -1 });
    assert_eq!(said, expected);
}

#[test]
fn refusals_are_heard_on_the_other_side() {
    let peer = Peer::new();
    // A server of whom the client has never heard.
    let server = Server::start(Pki::stranger().server(Algorithm::EcdsaP384), &Pki::stranger().ca(), &[]);
    let finished = peer.connect(server.port, &[path("ca", &Pki::shared().ca())]).expect_code(1);
    let expected = json!({ "error": "QTLS_E_PEER_UNKNOWN_ISSUER", "fault": 6, "alert_sent": 48, "alert_received": -1 });
    assert_eq!(facts(&finished), expected);
    // And the other way around.
    let (server, port) = peer.listen(&pair(Pki::stranger().server(Algorithm::EcdsaP384)));
    let exchange = Client::new(port).get("/");
    assert!(!exchange.finished.status.success(), "{}", exchange.finished.said());
    let said = facts(&server.finish(PATIENCE).expect_code(1));
    assert_eq!(said, json!({ "error": "QTLS_E_ALERT", "fault": 7, "alert_sent": -1, "alert_received": 48 }));

    // A group that only one of them has.
    let (server, port) = peer.listen(&pair(Pki::shared().server(Algorithm::EcdsaP384)));
    let exchange = Client::new(port).groups("secp521r1").get("/");
    assert_eq!(exchange.alert(), Some("handshake failure"), "{}", exchange.finished.said());
    let finished = server.finish(PATIENCE).expect_code(1);
    let expected = json!({ "error": "QTLS_E_NO_COMMON_GROUP", "fault": 8, "alert_sent": 40, "alert_received": -1 });
    assert_eq!(facts(&finished), expected);
    let server =
        Server::start(Pki::shared().server(Algorithm::EcdsaP384), &Pki::shared().ca(), &["-groups", "secp521r1"]);
    let finished = peer.connect(server.port, &[path("ca", &Pki::shared().ca())]).expect_code(1);
    assert_eq!(
        facts(&finished),
        json!({ "error": "QTLS_E_ALERT", "fault": 7, "alert_sent": -1, "alert_received": 40 })
    );
    // A version that only one of them has.
    let (server, port) = peer.listen(&pair(Pki::shared().server(Algorithm::EcdsaP384)));
    let exchange = Client::new(port).arguments(&["-tls1_2"]).get("/");
    assert_eq!(exchange.alert(), Some("protocol version"), "{}", exchange.finished.said());
    let said = facts(&server.finish(PATIENCE).expect_code(1));
    assert_eq!(said["error"], "QTLS_E_NO_COMMON_VERSION");
    assert_eq!(said["alert_sent"], 70);
}

/// Both sides in C under valgrind, with OpenSSL at the other end of each.
#[test]
fn with_openssl_under_valgrind() {
    let peer = Peer::new();
    let server = Server::start(Pki::shared().server(Algorithm::EcdsaP384), &Pki::shared().ca(), &[]);
    let ca = path("ca", &Pki::shared().ca());
    let mut client = valgrind();
    client.arg(&peer.program).args(["client", &format!("port={}", server.port), &ca, "nonblocking=1"]);
    let finished = run_patiently(&mut client).expect_success();
    assert_eq!(Negotiated::from_json(&facts(&finished)), Negotiated::new("X25519MLKEM768", P384));

    let mut command = valgrind();
    command.arg(&peer.program).arg("server").args(pair(Pki::shared().server(Algorithm::MlDsa65)));
    let server = Running::start(&mut command);
    // Valgrind takes its time to begin.
    let line = server.stdout.wait_for(PATIENCE * 4, |line| line.starts_with("port "));
    let line = line.unwrap_or_else(|| panic!("{}", server.said()));
    let port = line.trim_start_matches("port ").parse().expect("a port");
    let exchange = Client::new(port).get("/");
    assert_eq!(exchange.body(), "hello\n");
    let finished = server.finish(PATIENCE * 4).expect_success();
    assert_eq!(Negotiated::from_json(&facts(&finished)), Negotiated::new("X25519MLKEM768", "mldsa65"));
}
