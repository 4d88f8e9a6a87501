//! A stricter policy can be tried first: `tls.report` counts and logs exactly the clients that it would refuse and serves
//! all of them, `qtls report` names the same from the log, and with the policy in force those break, and only those.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use qtls_interop::client::Client;
use qtls_interop::openssl::{self, text};
use qtls_interop::process::{Finished, PATIENCE, run};
use qtls_interop::server::{merge, write_config};
use qtls_interop::{Negotiated, Server, curl, peers, programs};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A CA with three algorithms, and a server's certificate for `localhost` of each.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let certificates = Self(tempfile::tempdir().expect("the temporary directory is writable"));
        let algorithms = "ecdsa-p384,ml-dsa-87,rsa-2048";
        certificates.qtls(&["ca", "init", "--dir", "ca", "--alg", algorithms, "--name", "Test CA"]);
        let names = ["--name", "localhost", "--name", "127.0.0.1"];
        certificates.qtls(&[&["ca", "issue", "server", "--dir", "ca", "--as", "server"], &names[..]].concat());
        certificates.qtls(&["ca", "issue", "client", "--dir", "ca", "--as", "client", "--name", "client.example"]);
        certificates
    }

    fn qtls(&self, arguments: &[&str]) {
        run(programs::command("qtls").current_dir(self.0.path()).args(arguments), b"").expect_success();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("ca/certs").join(name)
    }

    fn pair(&self, holder: &str, algorithm: &str) -> (PathBuf, PathBuf) {
        (self.path(&format!("{holder}-cert-{algorithm}.pem")), self.path(&format!("{holder}-key-{algorithm}.pem")))
    }

    fn bundle(&self) -> PathBuf {
        self.path("qsign-ca-bundle.pem")
    }

    /// A server's certificates of these algorithms.
    fn configured(&self, algorithms: &[&str]) -> Value {
        let mut pairs = algorithms.iter().map(|algorithm| self.pair("server", algorithm));
        let (cert, key) = pairs.next().expect("at least one");
        let additional: Vec<_> = pairs.map(|(cert, key)| json!({ "cert": cert, "key": key })).collect();
        json!({ "certificates": { "server_cert": cert, "server_key": key, "additional": additional } })
    }
}

/// A real client.
struct Peer {
    name: &'static str,
    /// What `qtls report` takes it for, among others; empty where it is not the program as it comes.
    likely: &'static str,
    get: fn(&Server, &Certificates) -> Finished,
    breaks: Breaks,
}

/// Under which policy it breaks, and by which rules.
struct Breaks {
    pqc_only: &'static [&'static str],
    cnsa2: &'static [&'static str],
    without_rsa: &'static [&'static str],
}

const PEERS: &[Peer] = &[
    Peer {
        name: "OpenSSL 3.5",
        likely: "OpenSSL 3.5.7 s_client",
        get: |server, certificates| openssl(server, certificates, &[]),
        breaks: Breaks { pqc_only: &[], cnsa2: &["group"], without_rsa: &[] },
    },
    Peer {
        name: "OpenSSL 3.5 with ML-KEM-1024",
        likely: "",
        get: |server, certificates| openssl(server, certificates, &["-groups", "SecP384r1MLKEM1024:X25519"]),
        breaks: Breaks { pqc_only: &[], cnsa2: &[], without_rsa: &[] },
    },
    Peer {
        name: "OpenSSL 3.5 with ML-KEM-1024 and without AES-256",
        likely: "",
        get: |server, certificates| {
            let suites = "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256";
            openssl(server, certificates, &["-groups", "SecP384r1MLKEM1024", "-ciphersuites", suites])
        },
        breaks: Breaks { pqc_only: &[], cnsa2: &["suite"], without_rsa: &[] },
    },
    Peer {
        name: "OpenSSL 3.5 with RSA alone",
        likely: "",
        get: |server, certificates| {
            openssl(server, certificates, &["-sigalgs", "rsa_pss_rsae_sha256:rsa_pkcs1_sha256"])
        },
        breaks: Breaks { pqc_only: &[], cnsa2: &["group", "scheme"], without_rsa: &["scheme"] },
    },
    Peer {
        name: "curl of Debian 12",
        likely: "curl 7.88 with OpenSSL 3.0",
        get: |server, certificates| {
            let mut command = peers::classical_curl();
            // It can't read an ML-DSA root.
            curl::towards(&mut command, &certificates.path("root-ecdsa-p384.pem"));
            run(command.arg(format!("https://localhost:{}/status.json", server.port)), b"")
        },
        breaks: Breaks { pqc_only: &["group"], cnsa2: &["group", "scheme"], without_rsa: &[] },
    },
    Peer {
        name: "Go",
        likely: "Go 1.26 crypto/tls",
        get: |server, certificates| {
            let mut command = peers::go();
            let ca = certificates.bundle();
            command.args(["client", "-ca", text(&ca), "-server-name", "localhost", "-get", "/status.json"]);
            run(command.arg(format!("127.0.0.1:{}", server.port)), b"")
        },
        breaks: Breaks { pqc_only: &[], cnsa2: &["scheme"], without_rsa: &[] },
    },
    Peer {
        name: "Node",
        likely: "Node.js 24.21",
        get: |server, certificates| {
            let options = json!({ "port": server.port, "ca": certificates.bundle(), "get": "/status.json" });
            run(&mut peers::node("node/client.mjs", &options), b"")
        },
        breaks: Breaks { pqc_only: &[], cnsa2: &["group"], without_rsa: &[] },
    },
    Peer {
        name: "qtls-client",
        likely: "",
        get: |server, certificates| Client::trusting(server.port, &certificates.bundle()).get("/status.json"),
        breaks: Breaks { pqc_only: &[], cnsa2: &[], without_rsa: &[] },
    },
];

const RULES: [&str; 3] = ["group", "scheme", "suite"];
const ALL: &[&str] = &["ml-dsa-87", "ecdsa-p384", "rsa-2048"];

fn openssl(server: &Server, certificates: &Certificates, arguments: &[&str]) -> Finished {
    openssl::Client::trusting(server.port, &certificates.bundle()).arguments(arguments).get("/status.json").finished
}

/// Whether the client got the answer.
fn is_served(finished: &Finished) -> bool {
    finished.status.success() && finished.stdout.contains("post_quantum")
}

fn refusals(server: &Server) -> Vec<f64> {
    let metrics = server.metrics();
    RULES.iter().map(|rule| metrics.sum("qtls_report_refusals_total", &[("rule", rule)])).collect()
}

/// A policy, tried and in force.
struct Tried {
    /// What `qtls report` calls it.
    name: &'static str,
    report: Value,
    in_force: Value,
    /// The certificates that it leaves a server.
    certificates: &'static [&'static str],
    breaks: fn(&Peer) -> &'static [&'static str],
}

/// Tries the policy on every peer, asks `qtls report`, then puts the policy in force.
fn try_then_enforce(tried: &Tried, format: &str) {
    let certificates = Certificates::new();
    let log = certificates.0.path().join("server.log");
    let mut config = certificates.configured(ALL);
    merge(&mut config, json!({ "tls": { "report": tried.report }, "logging": { "file": log, "format": format } }));
    let server = Server::with_config(config.clone());
    for (index, peer) in PEERS.iter().enumerate() {
        let before = refusals(&server);
        let finished = (peer.get)(&server, &certificates);
        assert!(is_served(&finished), "{} is served while it is only tried: {}", peer.name, finished.said());
        // The line of a connection is written when it has ended, after everything was counted.
        wait_for_connections(&log, index + 1);
        let counted: Vec<_> = refusals(&server).iter().zip(before).map(|(now, before)| now - before).collect();
        let expected: Vec<_> = RULES.iter().map(|rule| f64::from((tried.breaks)(peer).contains(rule))).collect();
        assert_eq!(counted, expected, "{} under {}: {}", peer.name, tried.name, server.log());
    }
    let refused = |log: &str| log.matches("tls.report would refuse this client").count();
    server.process.stderr.becomes(PATIENCE, |log| refused(log) >= broken(tried).len());
    let lines = server.log();
    assert_eq!(refused(&lines), broken(tried).len(), "{lines}");
    logged(&lines, tried, format);

    let config_file = write_config(certificates.0.path(), &config);
    let report = reported(&config_file, &log, tried);
    let mut in_force = certificates.configured(tried.certificates);
    merge(&mut in_force, tried.in_force.clone());
    let policy = certificates.0.path().join("stricter.json");
    fs::write(&policy, in_force.to_string()).expect("the temporary directory is writable");
    let mut command = programs::command("qtls");
    command.args(["report", "--json", "--policy"]).arg(&policy).arg("--config").arg(&config_file).arg(&log);
    let by_policy = json(run(&mut command, b"").expect_success());
    let mut found = entry(&by_policy, text(&policy)).clone();
    found["policy"] = json!(tried.name);
    assert_eq!(sums(&found), sums(&report), "the policy of a file says the same");

    // In force.
    let server = Server::with_config(in_force);
    for peer in PEERS {
        let finished = (peer.get)(&server, &certificates);
        let breaks = !(tried.breaks)(peer).is_empty();
        assert_eq!(is_served(&finished), !breaks, "{} with {} in force: {}", peer.name, tried.name, finished.said());
    }
    let broke = broken(tried).len() as f64;
    let metrics =
        server.metrics_when("the refusals", |metrics| metrics.sum("qtls_handshake_failures_total", &[]) >= broke);
    let reasons = ["no_common_group", "no_common_scheme", "no_common_suite"];
    let counted: f64 =
        reasons.iter().map(|reason| metrics.sum("qtls_handshake_failures_total", &[("reason", reason)])).sum();
    assert_eq!(counted, broke, "{}", metrics.text());
    assert_eq!(metrics.sum("qtls_handshakes_total", &[]), PEERS.len() as f64 - broke, "{}", metrics.text());
    assert_eq!(metrics.sum("qtls_report_refusals_total", &[]), 0.0, "nothing is tried any more");
}

fn broken(tried: &Tried) -> Vec<&'static Peer> {
    PEERS.iter().filter(|peer| !(tried.breaks)(peer).is_empty()).collect()
}

/// The line of a client that would be refused says who it is, why, what it got, and what it offered.
fn logged(lines: &str, tried: &Tried, format: &str) {
    let mut refused = lines.lines().filter(|line| line.contains("tls.report would refuse this client"));
    for peer in broken(tried) {
        let line = refused.next().expect("one for each");
        let rules = (tried.breaks)(peer).join(",");
        let field = |key: &str| match format {
            "json" => serde_json::from_str::<Value>(line).expect("JSON")[key].as_str().unwrap_or_default().to_owned(),
            _ => line
                .split_once(&format!(" {key}="))
                .and_then(|(_, rest)| rest.split(' ').next())
                .unwrap_or_default()
                .to_owned(),
        };
        assert_eq!(field("rules"), rules, "{}: {line}", peer.name);
        assert_eq!(field("server_name"), "localhost", "{line}");
        assert!(field("client").starts_with("127.0.0.1:"), "{line}");
        let (group, offered) = (field("group"), field("offered_groups"));
        assert!(offered.split(',').any(|name| name == group), "the group in force is an offered one: {line}");
        assert!(!field("offered_schemes").is_empty() && field("offered_suites").contains("TLS_"), "{line}");
    }
}

/// What `qtls report` says about the policy, as JSON and as text, and with which exit codes.
fn reported(config: &Path, log: &Path, tried: &Tried) -> Value {
    let report = |arguments: &[&str]| {
        let mut command = programs::command("qtls");
        run(command.args(["report", "--config"]).arg(config).args(arguments).arg(log), b"")
    };
    let whole = json(report(&["--json"]).expect_success());
    assert_eq!(whole["connections"], PEERS.len(), "{whole}");
    assert_eq!(whole["addresses"], json!({ "count": 1, "exact": true }), "{whole}");
    assert_eq!((&whole["unreadable_lines"], &whole["notes"]), (&json!(0), &json!([])), "{whole}");
    let found = entry(&whole, tried.name);
    let expected = broken(tried);
    assert_eq!(found["connections"], expected.len(), "{found}");
    assert_eq!(sums(entry(&whole, "tls.report")), sums(found), "what the server tried is the same policy");
    for peer in &expected {
        let rules = json!((tried.breaks)(peer));
        let cause = found["causes"].as_array().expect("a list").iter().find(|cause| {
            let likely = cause["likely"].as_array().expect("a list");
            cause["rules"] == rules && (peer.likely.is_empty() || likely.iter().any(|name| name == peer.likely))
        });
        let cause = cause.unwrap_or_else(|| panic!("no word on {}: {found}", peer.name));
        assert_eq!(cause["lacks"].as_array().map(Vec::len), Some((tried.breaks)(peer).len()), "{cause}");
        assert_eq!(cause["advice"].as_array().map(Vec::len), Some((tried.breaks)(peer).len()), "{cause}");
        assert_eq!(cause["places"][0]["network"], "127.0.0.0/24", "{cause}");
        assert_eq!(cause["places"][0]["server_name"], "localhost", "{cause}");
    }
    let text = report(&["--try", tried.name]).expect_success().stdout;
    let told = format!("\n{}: {} connection", tried.name, expected.len());
    assert!(text.contains(&told), "no {told:?} in {text}");
    for peer in expected.iter().filter(|peer| !peer.likely.is_empty()) {
        assert!(text.contains(peer.likely), "no {} in {text}", peer.likely);
    }
    report(&["--try", tried.name, "--fail-if-any"]).expect_code(20);
    found.clone()
}

fn json(finished: Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.said()))
}

fn entry<'a>(report: &'a Value, policy: &str) -> &'a Value {
    let tried = report["tried"].as_array().expect("a list");
    tried.iter().find(|one| one["policy"] == policy).unwrap_or_else(|| panic!("no {policy} in {report}"))
}

/// Connections, and connections by rules: what two answers about one policy have to have in common.
fn sums(entry: &Value) -> (u64, Vec<(String, u64)>) {
    let causes = entry["causes"].as_array().expect("a list").iter();
    let mut causes: Vec<_> =
        causes.map(|cause| (cause["rules"].to_string(), cause["connections"].as_u64().expect("a number"))).collect();
    causes.sort();
    (entry["connections"].as_u64().expect("a number"), causes)
}

/// A file can't be awaited.
#[track_caller]
fn wait_for_connections(log: &Path, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let written = fs::read_to_string(log).expect("the log is there");
        let lines = written.lines().filter(|line| line.contains("connection ended"));
        if lines.count() >= count {
            return;
        }
        assert!(Instant::now() < deadline, "no {count} connections in {written}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn pqc_only() -> Tried {
    Tried {
        name: "pqc_only",
        report: json!({ "pqc_only": true }),
        in_force: json!({ "tls": { "pqc_only": true } }),
        certificates: ALL,
        breaks: |peer| peer.breaks.pqc_only,
    }
}

#[test]
fn post_quantum_only_from_a_log_of_text() {
    try_then_enforce(&pqc_only(), "text");
}

#[test]
fn post_quantum_only_from_a_log_of_json() {
    try_then_enforce(&pqc_only(), "json");
}

#[test]
fn cnsa_2_0() {
    let tried = Tried {
        name: "cnsa2",
        report: json!({ "profile": "cnsa2" }),
        in_force: json!({ "tls": { "profile": "cnsa2" } }),
        certificates: &["ml-dsa-87"],
        breaks: |peer| peer.breaks.cnsa2,
    };
    try_then_enforce(&tried, "json");
}

#[test]
fn without_rsa() {
    let kinds = json!({ "signature": [
        "ml-dsa-65", "ml-dsa-87", "ml-dsa-44", "ecdsa-p384", "ecdsa-p256", "ecdsa-p521", "ed25519"] });
    let tried = Tried {
        name: "without-rsa",
        report: json!({ "algorithms": kinds }),
        in_force: json!({ "algorithms": kinds }),
        certificates: &["ml-dsa-87", "ecdsa-p384"],
        breaks: |peer| peer.breaks.without_rsa,
    };
    try_then_enforce(&tried, "text");
}

/// Each name tries its own policy, and a reload brings another.
#[test]
fn policies_by_name_and_by_reload() {
    let certificates = Certificates::new();
    let mut config = certificates.configured(ALL);
    merge(
        &mut config,
        json!({ "virtual_hosts": [{ "names": ["localhost"], "tls": { "report": { "pqc_only": true } } }] }),
    );
    let server = Server::with_config(config);
    let classical = PEERS.iter().find(|peer| peer.name == "curl of Debian 12").expect("it is there");
    let go = PEERS.iter().find(|peer| peer.name == "Go").expect("it is there");
    let get = |peer: &Peer| assert!(is_served(&(peer.get)(&server, &certificates)), "{}", server.log());
    get(classical);
    get(go);
    assert_eq!(refusals(&server), [1.0, 0.0, 0.0]);
    for (client, told) in [
        ("curl-openssl-3.0", "tls.report   would refuse it, by the rule group\n"),
        ("go-1.26", "tls.report   would not refuse it\n"),
    ] {
        let mut command = programs::command("qtls");
        command.args(["explain", "--client", client, "--config"]).arg(server.directory().join("server.json"));
        let explained = run(&mut command, b"").expect_success().stdout;
        assert!(explained.contains(told) && explained.contains("virtual_hosts[0], profile default\n"), "{explained}");
    }
    // By an address, it reaches the server at the top, which tries nothing.
    let mut command = peers::classical_curl();
    curl::towards(&mut command, &certificates.path("root-ecdsa-p384.pem"));
    assert!(is_served(&run(command.arg(format!("https://127.0.0.1:{}/status.json", server.port)), b"")));
    assert_eq!(refusals(&server), [1.0, 0.0, 0.0]);
    server.applies(|| {
        server.rewrite_config(json!({ "virtual_hosts": [
            { "names": ["localhost"], "tls": { "report": { "profile": "cnsa2" } } }] }));
        server.hang_up();
    });
    get(classical);
    get(go);
    assert_eq!(refusals(&server), [2.0, 2.0, 0.0]);
}

/// What a client's own certificate is signed with is known when it has shown it.
#[test]
fn certificates_of_clients_are_tried() {
    let certificates = Certificates::new();
    let mut config = certificates.configured(&["ml-dsa-87"]);
    let verify = json!({ "verify_client": true, "ca_bundle": certificates.bundle() });
    merge(&mut config, json!({ "certificates": verify, "tls": { "report": { "profile": "cnsa2" } } }));
    let get = |server: &Server, algorithm: &str| {
        Client::trusting(server.port, &certificates.bundle())
            .certificate(certificates.pair("client", algorithm))
            .get("/status.json")
    };
    let server = Server::with_config(config.clone());
    assert!(is_served(&get(&server, "ml-dsa-87")));
    assert_eq!(refusals(&server), [0.0, 0.0, 0.0]);
    assert!(is_served(&get(&server, "ecdsa-p384")));
    assert_eq!(refusals(&server), [0.0, 1.0, 0.0], "{}", server.log());
    let line = server.wait_for_log("tls.report would refuse this client");
    assert!(line.contains(" rules=scheme "), "{line}");

    merge(&mut config, json!({ "tls": { "report": null, "profile": "cnsa2" } }));
    let server = Server::with_config(config);
    assert!(is_served(&get(&server, "ml-dsa-87")));
    assert!(!is_served(&get(&server, "ecdsa-p384")), "{}", server.log());
    server.metrics_when("the refusal", |metrics| metrics.sum("qtls_handshake_failures_total", &[]) == 1.0);
}

#[test]
fn a_server_of_cnsa_2_0() {
    let certificates = Certificates::new();
    let mut config = certificates.configured(&["ml-dsa-87"]);
    merge(&mut config, json!({ "tls": { "profile": "cnsa2" } }));
    let server = Server::with_config(config);
    let mut expected = Vec::new();
    for group in ["SecP384r1MLKEM1024", "MLKEM1024"] {
        let client = openssl::Client::trusting(server.port, &certificates.bundle()).groups(group);
        let exchange = client.get("/status.json");
        expected.push(Negotiated::new(group, "mldsa87"));
        assert_eq!(exchange.negotiated(), expected[expected.len() - 1]);
        assert_eq!(expected[expected.len() - 1].suite, "TLS_AES_256_GCM_SHA384");
        exchange.finished.expect_success();
    }
    server.expect_handshakes(&expected.iter().collect::<Vec<_>>());

    let classical = PEERS.iter().find(|peer| peer.name == "curl of Debian 12").expect("it is there");
    (classical.get)(&server, &certificates).expect_code(35);
    let line = server.wait_for_warning("handshake refused");
    assert!(
        line.contains("the peer offers no key exchange group that the policy allows; it offered: x25519, secp256r1, "),
        "{line}"
    );
    assert!(line.contains("reason=no_common_group"), "{line}");

    // A client of the same profile, and one that no server of another can satisfy.
    let profile = json!({ "tls": { "profile": "cnsa2" } });
    let client = |server: &Server| {
        Client::trusting(server.port, &certificates.bundle())
            .config(certificates.0.path(), &profile)
            .get("/status.json")
    };
    let finished = client(&server).expect_success();
    assert_eq!(qtls_interop::client::negotiated(&finished), Negotiated::new("SecP384r1MLKEM1024", "mldsa87"));
    let other = Server::with_config(certificates.configured(&["ecdsa-p384"]));
    client(&other).expect_code(5);
}

/// A handshake of OpenSSL 3.5 with these arguments: what it negotiated, or that it was refused.
fn negotiated(server: &Server, certificates: &Certificates, arguments: &[&str]) -> Option<Negotiated> {
    let client = openssl::Client::trusting(server.port, &certificates.bundle()).arguments(arguments);
    let exchange = client.get("/status.json");
    if exchange.alert() == Some("handshake failure") {
        assert!(!exchange.finished.status.success(), "{}", exchange.finished.said());
        return None;
    }
    let negotiated = exchange.negotiated();
    assert!(is_served(&exchange.finished), "{}", exchange.finished.said());
    Some(negotiated)
}

#[test]
fn servers_of_fips_and_compatible() {
    const ECDSA: &str = "ecdsa_secp384r1_sha384";
    const AES_128: &str = "TLS_AES_128_GCM_SHA256";
    const CHACHA: &str = "TLS_CHACHA20_POLY1305_SHA256";
    let certificates = Certificates::new();
    let start = |profile: &str| {
        let mut config = certificates.configured(&["ecdsa-p384"]);
        merge(&mut config, json!({ "tls": { "profile": profile } }));
        Server::with_config(config)
    };
    let (fips, compatible) = (start("fips"), start("compatible"));
    for (groups, in_fips) in [
        ("X25519MLKEM768", true),
        ("SecP384r1MLKEM1024", true),
        ("SecP256r1MLKEM768", true),
        ("MLKEM768", true),
        ("MLKEM1024", true),
        ("secp384r1", true),
        ("secp256r1", true),
        ("x25519", false),
    ] {
        let expected = Some(Negotiated::new(groups, ECDSA));
        assert_eq!(negotiated(&compatible, &certificates, &["-groups", groups]), expected);
        let in_fips = expected.filter(|_| in_fips);
        assert_eq!(negotiated(&fips, &certificates, &["-groups", groups]), in_fips, "{groups} under fips");
    }
    for (suite, in_fips) in [(AES_128, true), (CHACHA, false)] {
        let expected = Some(Negotiated::new("X25519MLKEM768", ECDSA).suite(suite));
        assert_eq!(negotiated(&compatible, &certificates, &["-ciphersuites", suite]), expected);
        let in_fips = expected.filter(|_| in_fips);
        assert_eq!(negotiated(&fips, &certificates, &["-ciphersuites", suite]), in_fips, "{suite} under fips");
    }
    let metrics = fips.metrics_when("the refusals", |metrics| metrics.sum("qtls_handshake_failures_total", &[]) == 2.0);
    for reason in ["no_common_group", "no_common_suite"] {
        assert_eq!(metrics.sum("qtls_handshake_failures_total", &[("reason", reason)]), 1.0, "{}", metrics.text());
    }
}
