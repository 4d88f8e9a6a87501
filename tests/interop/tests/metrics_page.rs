//! The metrics say exactly what real peers did: to `promtool` and Prometheus, and in the words of the table in
//! docs/OPERATIONS.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use qtls_interop::metrics::Metrics;
use qtls_interop::openssl::{self, text};
use qtls_interop::process::{PATIENCE, Running, run, run_within};
use qtls_interop::server::{free_port, write_config};
use qtls_interop::upstreams::{Nginx, echo, marked_file};
use qtls_interop::{Algorithm, Negotiated, Pki, Server, curl, peers, programs, wire};
use rustix::process::Signal;
use serde_json::{Value, json};

const P384: &str = "ecdsa_secp384r1_sha384";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn classical_curl(server: &Server, path: &str, arguments: &[&str]) -> Command {
    let mut command = peers::classical_curl();
    curl::towards(&mut command, &Pki::shared().ca_of(Algorithm::EcdsaP384)).args(arguments);
    command.arg(format!("https://localhost:{}{path}", server.port));
    command
}

/// A server in front of nginx that also knows clients, and another behind a name that nobody answers for; after what real
/// peers did with it. The handshakes that were completed come with it.
fn busy() -> (Server, Nginx, Vec<Negotiated>) {
    let nginx = Nginx::start();
    let nobody = free_port();
    let server = Server::start(json!({
        "certificates": { "verify_client": "optional", "ca_bundle": Pki::shared().ca() },
        "upstream": { "protocol": "http", "servers": [nginx.address()] },
        "virtual_hosts": [
            { "names": ["down.example"], "upstream": { "protocol": "tcp", "servers": [format!("127.0.0.1:{nobody}")] } },
        ],
    }));
    let openssl = || openssl::Client::new(server.port);
    let mut expected = Vec::new();
    let hybrid = || Negotiated::new("X25519MLKEM768", P384);
    let ok = |exchange: &openssl::Exchange| assert!(exchange.body().contains("GET /"), "{}", exchange.finished.said());

    let first = openssl().groups("X25519MLKEM768").saving_session();
    ok(&first.get("/"));
    let second = openssl().groups("X25519MLKEM768").resuming(&first);
    let resumed = second.get("/");
    ok(&resumed);
    assert_eq!(resumed.negotiated(), hybrid().resumed());
    expected.extend([hybrid(), hybrid().resumed()]);

    let retried = openssl().groups("SecP384r1MLKEM1024:*x25519").get("/");
    ok(&retried);
    expected.push(Negotiated::new("SecP384r1MLKEM1024", P384).after_retry());

    let chacha = openssl().groups("X25519MLKEM768").arguments(&["-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"]);
    ok(&chacha.get("/"));
    expected.push(hybrid().suite("TLS_CHACHA20_POLY1305_SHA256"));

    let known = openssl().groups("X25519MLKEM768").certificate(Pki::shared().client(Algorithm::MlDsa65));
    ok(&known.get("/"));
    expected.push(hybrid());

    run(&mut classical_curl(&server, "/", &[]), b"").expect_success();
    expected.push(Negotiated::new("x25519", P384));

    // Refused: no group in common; plain HTTP. Not a failure: nothing at all.
    let refused = openssl().groups("P-521").get("/");
    assert_eq!(refused.alert(), Some("handshake failure"), "{}", refused.trace);
    assert_eq!(wire::exchange(server.port, REQUEST).status, 400);
    drop(TcpStream::connect(("127.0.0.1", server.port)).expect("it listens"));

    // Behind this name, nobody answers: the handshake is made, and the connection closed.
    let down = openssl().groups("X25519MLKEM768").arguments(&["-servername", "down.example"]).send(b"");
    assert_eq!(down.negotiated(), hybrid());
    expected.push(hybrid());
    (server, nginx, expected)
}

/// The metrics when everything that went on is over.
fn settled(server: &Server) -> Metrics {
    server.metrics_when("that nothing is open and all is counted", |metrics| {
        metrics.sum("qtls_connections_active", &[]) == 0.0
            && metrics.sum("qtls_silent_connections_total", &[]) == 1.0
            && metrics.sum("qtls_upstream_errors_total", &[]) == 1.0
    })
}

#[test]
fn each_number_is_what_the_peers_did_and_promtool_has_nothing_to_say() {
    let (server, nginx, expected) = busy();
    server.expect_handshakes(&expected.iter().collect::<Vec<_>>());
    let metrics = settled(&server);
    let is = |name: &str, labels: &[(&str, &str)], count: f64| {
        assert_eq!(metrics.sum(name, labels), count, "{name} {labels:?} in\n{}", metrics.text());
    };
    is("qtls_connections_total", &[], 10.0);
    is("qtls_handshake_failures_total", &[], 2.0);
    is("qtls_handshake_failures_total", &[("reason", "no_common_group")], 1.0);
    is("qtls_handshake_failures_total", &[("reason", "plain_http")], 1.0);
    is("qtls_handshake_seconds_count", &[], expected.len() as f64);
    // Of the resumed session there was no choice.
    is("qtls_certificate_selected_total", &[("reason", "ecdsa-p384: offered")], expected.len() as f64 - 1.0);

    // What was offered: the six of OpenSSL 3.5 with one group each, two of them in the retried one, and curl's many.
    is("qtls_client_hellos_total", &[], 8.0);
    for (group, count) in [
        ("X25519MLKEM768", 5.0),
        ("SecP384r1MLKEM1024", 1.0),
        ("x25519", 2.0),
        ("secp256r1", 1.0),
        ("secp384r1", 1.0),
        // P-521 alone; and among curl's.
        ("other", 2.0),
        ("MLKEM1024", 0.0),
    ] {
        is("qtls_client_groups_total", &[("group", group)], count);
    }
    for (scheme, count) in
        [("mldsa65", 7.0), (P384, 8.0), ("ed25519", 8.0), ("rsa_pss_rsae_sha256", 8.0), ("other", 8.0)]
    {
        is("qtls_client_schemes_total", &[("scheme", scheme)], count);
    }

    let up = nginx.address();
    let down = metrics.labels("qtls_upstream_errors_total", "upstream")[0].to_owned();
    assert_ne!(up, down);
    is("qtls_upstream_up", &[("upstream", &up)], 1.0);
    is("qtls_upstream_up", &[("upstream", &down)], 0.0);
    is("qtls_upstream_requests_total", &[("upstream", &up)], 6.0);
    is("qtls_upstream_requests_total", &[("upstream", &down)], 0.0);
    is("qtls_upstream_errors_total", &[("upstream", &down), ("reason", "refused")], 1.0);
    assert!(metrics.sum("qtls_upstream_connect_seconds_count", &[("upstream", &up)]) >= 1.0, "{}", metrics.text());
    is("qtls_config_generation", &[], 1.0);
    is("qtls_ready", &[], 1.0);

    let checked =
        run(peers::debian("promtool", [] as [PathBuf; 0]).args(["check", "metrics"]), metrics.text().as_bytes());
    let checked = checked.expect_success();
    assert_eq!((checked.stdout.as_str(), checked.stderr.as_str()), ("", ""));
    assert_is_the_table(&metrics);
}

/// Asserts that a page has the metrics of the table in docs/OPERATIONS.md, with its kinds, labels and values, and no others.
fn assert_is_the_table(metrics: &Metrics) {
    let document = fs::read_to_string(programs::repository().join("docs/OPERATIONS.md")).expect("it is there");
    let table = document.split_once("<!-- generated: metrics -->").expect("it has the table").1;
    let table = table.split_once("<!-- end of generated: metrics -->").expect("it has an end").0;
    let rows: Vec<Vec<&str>> = table
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let unquoted = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>();
    let (kinds, values): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.len() == 4);
    let mut kinds: BTreeMap<_, _> = kinds.iter().map(|row| (unquoted(row[0])[0].clone(), row[1].to_owned())).collect();
    // The servers behind are spoken to in the clear.
    const OVER_TLS: [&str; 2] = ["qtls_upstream_handshakes_total", "qtls_upstream_bytes_total"];
    assert!(OVER_TLS.into_iter().all(|name| kinds.remove(name).is_some()), "{table}");
    assert!(kinds.len() > 30, "{table}");
    let there: BTreeMap<_, _> = metrics
        .text()
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect();
    assert_eq!(there, kinds);

    let values: BTreeMap<_, _> =
        values.iter().map(|row| ((unquoted(row[0])[0].clone(), unquoted(row[1])[0].clone()), row[2])).collect();
    let mut seen = BTreeSet::new();
    for (name, label, value) in metrics.values() {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let name = base.filter(|base| kinds.get(*base).is_some_and(|kind| kind == "histogram")).unwrap_or(name);
        if label == "le" {
            continue;
        }
        let known = values.get(&(name.to_owned(), label.to_owned()));
        let known = known.unwrap_or_else(|| panic!("{name} has the label {label}, which is not in the table"));
        // Those that are described in words have other quotes in them, or none.
        let listed = known.starts_with('`') && !known.contains(' ') || known.contains("`, `");
        assert!(
            !listed || unquoted(known).iter().any(|one| one == value),
            "{name}: {label} can't be {value:?}: {known}"
        );
        seen.insert((name.to_owned(), label.to_owned()));
    }
    // All but those of gauges that are about limits that are off, which is none of them.
    // There is no server over TLS here: what is counted of those is in the suite upstream_tls.
    let here = |(name, _): &&(String, String)| !OVER_TLS.contains(&name.as_str());
    let missing: Vec<_> = values.keys().filter(here).filter(|key| !seen.contains(*key)).collect();
    assert!(missing.is_empty(), "no sample has {missing:?}");
}

#[test]
fn exposure_is_counted_while_bytes_flow() {
    const LENGTH: usize = 3_000_000;
    let upstream = json!({ "upstream": { "protocol": "tcp", "servers": [format!("127.0.0.1:{}", echo())] } });
    let server = Server::start(upstream);
    let bytes = |metrics: &Metrics, pq: &str, direction: &str| {
        metrics.sum("qtls_bytes_total", &[("pq", pq), ("direction", direction), ("server_name", "localhost")])
    };
    let mut long = openssl::Client::new(server.port).groups("X25519MLKEM768").start();
    let mut input = long.stdin();
    input.write_all(&vec![b'x'; LENGTH]).expect("it reads");
    let length = LENGTH as f64;
    let metrics = server.metrics_when("what the open connection carried", |metrics| {
        bytes(metrics, "true", "received") == length && bytes(metrics, "true", "sent") == length
    });
    assert_eq!(metrics.sum("qtls_connections_active", &[]), 1.0, "it goes on:\n{}", metrics.text());
    assert_eq!(metrics.sum("qtls_bytes_total", &[("pq", "false")]), 0.0);

    // A client without post-quantum key exchange beside it, which is there under its own heading.
    let mut classical = peers::classical_openssl();
    classical.args([
        "s_client",
        "-quiet",
        "-connect",
        &format!("127.0.0.1:{}", server.port),
        "-servername",
        "localhost",
    ]);
    classical.args(["-CAfile", text(&Pki::shared().ca_of(Algorithm::EcdsaP384))]);
    let mut classical = Running::start(&mut classical);
    let mut classical_input = classical.stdin();
    classical_input.write_all(b"0123456789\n").expect("it reads");
    let metrics = server.metrics_when("the classical bytes", |metrics| bytes(metrics, "false", "sent") == 11.0);
    assert_eq!(bytes(&metrics, "false", "received"), 11.0);
    assert_eq!(bytes(&metrics, "true", "sent"), length, "and nothing is counted twice");

    drop((long, classical));
    let metrics = server.metrics_when("the end", |metrics| metrics.sum("qtls_connections_active", &[]) == 0.0);
    assert_eq!((bytes(&metrics, "true", "received"), bytes(&metrics, "false", "received")), (length, 11.0));
}

#[test]
fn curl_of_debian_12_shows_in_exposure_before_its_download_is_over() {
    // Far more than all buffers hold, and seconds of it: the machine may stand still for a while before somebody looks.
    const SIZE: u64 = 48 << 20;
    let nginx = Nginx::start();
    marked_file(&nginx.files().join("big"), SIZE);
    let server = Server::start(json!({ "upstream": { "protocol": "http", "servers": [nginx.address()] } }));
    let sizes = "%{size_request} %{size_header} %{size_download}";
    let mut slowly = classical_curl(&server, "/files/big", &["--http1.1", "--limit-rate", "4M", "-o", "/dev/null"]);
    let mut download = Running::start(slowly.args(["-w", sizes]));
    let sent = |metrics: &Metrics| {
        metrics.sum("qtls_bytes_total", &[("pq", "false"), ("direction", "sent"), ("server_name", "localhost")])
    };
    let early = server.metrics_when("the first bytes", |metrics| sent(metrics) > 0.0);
    assert!(download.is_running(), "{}", download.said());
    assert!(sent(&early) < SIZE as f64, "{}", early.text());
    let finished = download.finish(2 * PATIENCE).expect_success();
    let sizes: Vec<f64> = finished.stdout.split(' ').map(|size| size.parse().expect("a number")).collect();
    assert_eq!(sizes[2], SIZE as f64);
    let metrics = server.metrics_when("all of it", |metrics| sent(metrics) == sizes[1] + sizes[2]);
    assert_eq!(metrics.sum("qtls_bytes_total", &[("direction", "received")]), sizes[0]);
    assert_eq!(metrics.sum("qtls_bytes_total", &[("pq", "true")]), 0.0, "{}", metrics.text());
}

#[test]
fn upstreams_show_when_they_go_and_come_back() {
    let nginx = Nginx::start();
    let (address, port) = (nginx.address(), nginx.port);
    let server = Server::start(json!({ "upstream": { "protocol": "http", "servers": [address] } }));
    let ask = || openssl::Client::new(server.port).groups("X25519MLKEM768").get("/");
    let is = |metrics: &Metrics, name: &str| metrics.sum(name, &[("upstream", &address)]);
    assert!(ask().finished.stdout.contains("200 OK"));
    let metrics = server.metrics_when("a request", |metrics| is(metrics, "qtls_upstream_requests_total") == 1.0);
    // nginx keeps it open for the next request.
    assert_eq!(is(&metrics, "qtls_upstream_connections_active"), 1.0, "{}", metrics.text());
    drop(nginx);
    server.metrics_when("a connection less", |metrics| is(metrics, "qtls_upstream_connections_active") == 0.0);
    let refused = ask();
    assert!(refused.finished.stdout.contains("502 Bad Gateway"), "{}", refused.finished.said());
    let metrics = server.metrics_when("that it is down, and why", |metrics| {
        is(metrics, "qtls_upstream_up") == 0.0 && metrics.sum("qtls_upstream_errors_total", &[]) >= 1.0
    });
    assert_eq!(metrics.sum("qtls_upstream_errors_total", &[("reason", "refused")]), 1.0, "{}", metrics.text());
    let _nginx = Nginx::on(port);
    assert!(ask().finished.stdout.contains("200 OK"));
    let metrics = server.metrics_when("that it is up", |metrics| is(metrics, "qtls_upstream_up") == 1.0);
    assert_eq!(is(&metrics, "qtls_upstream_requests_total"), 2.0, "the refused one never reached it");
}

#[test]
fn reloads_are_counted_and_numbered_and_a_server_that_leaves_is_not_ready() {
    let server = Server::start(json!({ "server": { "drain_delay": 30 } }));
    server.applies(|| server.hang_up());
    let metrics = server.metrics();
    assert_eq!(metrics.sum("qtls_config_generation", &[]), 2.0, "{}", metrics.text());
    server.rewrite_config(json!({ "tls": { "session_timeout": -1 } }));
    server.refuses(|| server.hang_up());
    let metrics = server.metrics();
    assert_eq!(metrics.sum("qtls_config_generation", &[]), 2.0, "{}", metrics.text());
    let results = |result| metrics.sum("qtls_reloads_total", &[("result", result)]);
    assert_eq!((results("applied"), results("refused")), (1.0, 1.0));
    assert_eq!(metrics.sum("qtls_ready", &[]), 1.0);
    server.process.signal(Signal::TERM);
    server.metrics_when("that it is not ready", |metrics| metrics.sum("qtls_ready", &[]) == 0.0);
    // It still accepts.
    assert!(openssl::Client::new(server.port).get("/health").body().contains("ok"));
}

#[test]
fn a_certificate_that_is_replaced_takes_its_expiry_along() {
    let server = Server::with_certificate(Algorithm::EcdsaP384, json!({}));
    let expiry =
        |metrics: &Metrics, name: &str| metrics.sum("qtls_certificate_expiry_seconds", &[("certificate", name)]);
    assert!(expiry(&server.metrics(), "server-cert-ecdsa-p384") > 1e9);
    let (cert, key) = Pki::shared().server(Algorithm::Rsa4096);
    server.rewrite_config(json!({ "certificates": { "server_cert": cert, "server_key": key } }));
    server.applies(|| server.hang_up());
    let metrics = server.metrics();
    assert!(expiry(&metrics, "server-cert-rsa-4096") > 1e9, "{}", metrics.text());
    assert!(!metrics.text().contains("server-cert-ecdsa-p384"), "an alert would never end:\n{}", metrics.text());
}

#[test]
fn a_metrics_port_that_is_taken_is_an_error_with_its_key_and_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = taken.local_addr().expect("it is bound").port();
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
    let config = json!({
        "certificates": { "server_cert": cert, "server_key": key },
        "server": { "listen_address": "127.0.0.1", "listen_port": free_port() },
        "metrics": { "address": "127.0.0.1", "port": port },
    });
    let start = |config: &Value| {
        let file = write_config(directory.path(), config);
        let finished = run(programs::command("qtls-server").arg("--config").arg(&file), b"").expect_code(2);
        let said = finished.stderr.lines().skip_while(|line| !line.starts_with("qtls-server: "));
        said.collect::<Vec<_>>().join("\n").replace(text(&file), "server.json")
    };
    let place = |key: &str, config: &Value| {
        let lines = serde_json::to_string_pretty(config).expect("JSON");
        let line =
            lines.lines().position(|line| line.trim_start().starts_with(&format!("{key:?}:"))).expect("it is there");
        let column = lines.lines().nth(line).expect("it is there").find(": ").expect("it has a value") + 3;
        format!("server.json:{}:{column}", line + 1)
    };
    assert_eq!(
        start(&config),
        format!(
            "qtls-server: {}: metrics.port: 127.0.0.1:{port} is in use by another process\n  \
             hint: see which one with `ss -ltnp 'sport = :{port}'`, or choose another port",
            place("port", &config)
        )
    );
    // The dashboard's own address, where the metrics have another one.
    let mut config = config;
    config["metrics"]["address"] = json!("127.0.0.2");
    config["metrics"]["dashboard_address"] = json!("127.0.0.1");
    assert_eq!(
        start(&config),
        format!(
            "qtls-server: {}: metrics.dashboard_address: 127.0.0.1:{port} is in use by another process\n  \
             hint: see which one with `ss -ltnp 'sport = :{port}'`, or choose another port",
            place("dashboard_address", &config)
        )
    );
}

#[test]
fn the_rules_are_good_and_pass_their_tests() {
    let directory = programs::repository().join("deploy/prometheus");
    let rules = directory.join("qtls.rules.yml");
    // Days of samples take their time on a busy machine.
    let promtool = |arguments: &[&str]| {
        run_within(peers::debian("promtool", [&directory]).args(arguments), b"", Duration::from_secs(180))
            .expect_success()
    };
    let checked = promtool(&["check", "rules", text(&rules)]);
    assert!(checked.stdout.contains("SUCCESS: 16 rules found"), "{}", checked.said());
    let tests = ["qtls.rules.test.yml", "qtls.rules.days.test.yml"].map(|name| directory.join(name));
    let tested = promtool(&["test", "rules", text(&tests[0]), text(&tests[1])]);
    assert_eq!(tested.stdout.matches("SUCCESS").count(), 2, "{}", tested.said());

    // Every alert has a row in the documents, and every metric in the rules is in the table.
    let rules = fs::read_to_string(rules).expect("it is there");
    let document = fs::read_to_string(programs::repository().join("docs/OPERATIONS.md")).expect("it is there");
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(alerts.len(), 12);
    for alert in alerts {
        assert!(document.contains(&format!("| `{alert}` |")), "no row for {alert}");
    }
    let names = rules.split(|character: char| !(character.is_ascii_alphanumeric() || "_:".contains(character)));
    for name in names.filter(|name| name.starts_with("qtls_") && name.matches(':').count() == 0) {
        assert!(document.contains(&format!("| `{name}` |")), "{name} is no metric");
    }
}

#[test]
fn the_expressions_and_the_configuration_of_the_documents_are_good() {
    let document = fs::read_to_string(programs::repository().join("docs/OPERATIONS.md")).expect("it is there");
    let blocks = |info: &str| -> Vec<String> {
        let fence = format!("```{info}\n");
        let blocks = document.split(&fence).skip(1);
        blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
    };
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let check = |what: &str, text: &str| {
        let file = directory.path().join(what);
        fs::write(&file, text).expect("it is writable");
        let mut promtool = peers::debian("promtool", [directory.path()]);
        run(promtool.args(["check", what, self::text(&file)]), b"").expect_success().stdout
    };
    let expressions = blocks("promql").concat();
    let rules: String = (0..)
        .zip(expressions.lines())
        .map(|(number, expression)| format!("  - record: documents:{number}\n    expr: '{expression}'\n"))
        .collect();
    let checked = check("rules", &format!("groups:\n- name: documents\n  rules:\n{rules}"));
    let count = expressions.lines().count();
    assert!(count >= 5 && checked.contains(&format!("SUCCESS: {count} rules found")), "{checked}");
    let names = expressions.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    for name in names.filter(|name| name.starts_with("qtls_")) {
        assert!(document.contains(&format!("| `{name}` |")), "{name} is no metric");
    }
    let scrape = blocks("yaml").into_iter().find(|block| block.starts_with("scrape_configs:")).expect("it is shown");
    check("config", &scrape);
}

#[test]
fn prometheus_scrapes_it_and_answers_with_the_share_of_post_quantum_handshakes() {
    let server = Server::start(json!({}));
    for _ in 0..3 {
        openssl::Client::new(server.port).groups("X25519MLKEM768").get("/status.json").json();
    }
    run(&mut classical_curl(&server, "/", &[]), b"").expect_success();
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let rules = programs::repository().join("deploy/prometheus");
    let config = format!(
        "global: {{ scrape_interval: 500ms }}\nrule_files: ['{}/qtls.rules.yml']\nscrape_configs:\n  - job_name: qtls\n    \
         static_configs: [{{ targets: ['127.0.0.1:{}'] }}]\n",
        text(&rules),
        server.metrics_port
    );
    let file = directory.path().join("prometheus.yml");
    fs::write(&file, config).expect("the directory is writable");
    let port = free_port();
    let mut command = peers::debian("prometheus", [directory.path(), &rules]);
    command.arg(format!("--config.file={}", file.display())).arg(format!("--web.listen-address=127.0.0.1:{port}"));
    command.arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()));
    let prometheus = Running::start(&mut command);
    let found = prometheus.stderr.wait_for(PATIENCE, |line| line.contains("Server is ready to receive web requests"));
    assert!(found.is_some(), "{}", prometheus.said());

    let query = "sum(qtls_handshakes_total{job=%22qtls%22,pq=%22true%22})/sum(qtls_handshakes_total{job=%22qtls%22})";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = wire::http_get(port, &format!("/api/v1/query?query={query}"));
        let answer: Value = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
        if let Some(sample) = answer["data"]["result"].get(0) {
            assert_eq!(sample["value"][1], "0.75", "{answer}");
            break;
        }
        assert!(Instant::now() < deadline, "{answer}\n{}", prometheus.said());
        // What it has scraped can't be awaited.
        std::thread::sleep(Duration::from_millis(100));
    }
    // One scrape may have taken longer than Prometheus waits for it where the machine is busy; the next one will do.
    loop {
        let targets: Value = serde_json::from_str(&wire::http_get(port, "/api/v1/targets").body).expect("JSON");
        let target = &targets["data"]["activeTargets"][0];
        if (&target["health"], &target["lastError"]) == (&json!("up"), &json!("")) {
            break;
        }
        assert!(Instant::now() < deadline + PATIENCE, "{targets}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
