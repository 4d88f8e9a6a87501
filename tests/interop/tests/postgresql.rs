//! PostgreSQL behind Q-TLS: its clients of two generations ask for TLS in its own words or begin with it, and everything
//! that they do arrives; a request to cancel reaches the server of its session. Who speaks otherwise is refused and told.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use qtls_interop::client::{self, Client};
use qtls_interop::openssl;
use qtls_interop::postgres::{Postgres, Psql, pgbench};
use qtls_interop::process::{PATIENCE, Running, run, run_within};
use qtls_interop::{Algorithm, Negotiated, Pki, Server, log, peers, programs, wire};
use serde_json::{Value, json};

const P384: &str = "ecdsa_secp384r1_sha384";
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
const GSSENC_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x30];

/// Behind a server with an access log and an audit log in JSON.
struct Behind {
    server: Server,
    logs: tempfile::TempDir,
}

impl Behind {
    fn start(upstreams: &[&Postgres], changes: Value) -> Self {
        let logs = tempfile::tempdir().expect("the temporary directory is writable");
        let servers: Vec<_> = upstreams.iter().map(|one| one.address()).collect();
        let mut config = json!({
            "server": { "starttls": "postgres" },
            "upstream": { "protocol": "tcp", "servers": servers },
            "logging": {
                "access_file": logs.path().join("access.log"),
                "audit_file": logs.path().join("audit.log"),
                "format": "json",
            },
        });
        qtls_interop::server::merge(&mut config, changes);
        Self { server: Server::start(config), logs }
    }

    fn psql(&self) -> Psql {
        Psql::new(self.server.port)
    }

    fn old_psql(&self) -> Psql {
        Psql::old(self.server.port)
    }

    fn access_log(&self) -> PathBuf {
        self.logs.path().join("access.log")
    }

    /// The line of the access log that is `wanted`, as soon as it is there.
    #[track_caller]
    fn line(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        log::wait_for(&self.access_log(), 1, wanted).remove(0)
    }

    /// The first warning of the log with `pattern`, as soon as it is there.
    #[track_caller]
    fn warning(&self, pattern: &str) -> Value {
        let line = self.server.wait_for_log(pattern);
        let line: Value = serde_json::from_str(&line).expect("the log is JSON");
        assert_eq!(line["level"], "warn", "{line}");
        line
    }

    #[track_caller]
    fn expect_failure(&self, reason: &str) {
        self.server
            .metrics_when(reason, |metrics| metrics.sum("qtls_handshake_failures_total", &[("reason", reason)]) >= 1.0);
        self.line(|line| line["event"] == "handshake_failed" && line["reason"] == reason);
    }

    #[track_caller]
    fn expect_refusal_in_audit_log(&self, reason: &str) {
        let refused = |line: &Value| line["reason"] == reason && line["result"] == "refused";
        log::wait_for(&self.logs.path().join("audit.log"), 1, refused);
    }
}

fn hybrid() -> Negotiated {
    Negotiated::new("X25519MLKEM768", P384)
}

/// What a client that isn't PostgreSQL's sends, and all that it gets back.
#[track_caller]
fn exchange(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = wire::connect(port);
    stream.write_all(bytes).expect("the server reads");
    wire::read_to_end(&mut stream)
}

/// A relay that has `preface` answered with `answer` before it passes a client's bytes on. Returns its port.
fn prefacing(port: u16, preface: &'static [u8], answer: u8) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let own_port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("the client connects");
        let mut server = wire::connect(port);
        server.write_all(preface).expect("the server reads");
        let mut answered = [0];
        server.read_exact(&mut answered).expect("the server answers");
        assert_eq!(answered, [answer]);
        let (mut from_server, mut to_client) =
            (server.try_clone().expect("a descriptor"), client.try_clone().expect("a descriptor"));
        let back = thread::spawn(move || {
            let _ = std::io::copy(&mut from_server, &mut to_client);
            let _ = to_client.shutdown(Shutdown::Write);
        });
        let _ = std::io::copy(&mut client, &mut server);
        let _ = server.shutdown(Shutdown::Write);
        back.join().expect("the way back doesn't panic");
    });
    own_port
}

#[test]
fn psql_17_gets_a_post_quantum_link_whether_it_asks_or_begins_with_tls() {
    let database = Postgres::start();
    let behind = Behind::start(&[&database], json!({}));
    for (negotiation, starttls) in [("postgres", "postgres"), ("direct", "postgres-direct")] {
        let finished = behind.psql().set("sslnegotiation", negotiation).run("select 6 * 7").expect_success();
        assert_eq!(finished.stdout, "42\n", "{}", finished.said());
        let line = behind.line(|line| line["starttls"] == starttls);
        assert_eq!((&line["group"], &line["scheme"]), (&json!("X25519MLKEM768"), &json!(P384)), "{line}");
        assert_eq!((&line["pq"], &line["alpn"]), (&json!(true), &json!("postgresql")), "{line}");
        assert_eq!((&line["reason"], &line["upstream"]), (&json!("clean"), &json!(database.address())), "{line}");
        assert_eq!(line["server_name"], "localhost", "{line}");
        assert!(line["received"].as_u64() > Some(100) && line["sent"].as_u64() > Some(300), "{line}");
    }
    behind.server.expect_handshakes(&[&hybrid(), &hybrid()]);
    let metrics = behind.server.metrics();
    for beginning in ["asked", "direct"] {
        let labels = [("protocol", "postgres"), ("beginning", beginning)];
        assert_eq!(metrics.sum("qtls_starttls_total", &labels), 1.0, "{}", metrics.text());
    }
}

#[test]
fn psql_15_falls_back_to_classical_key_exchange_and_is_refused_where_that_is_not_allowed() {
    let database = Postgres::start();
    let behind = Behind::start(&[&database], json!({}));
    // sslmode=allow begins without TLS, is told what to do, and does it.
    for mode in ["verify-full", "allow"] {
        assert_eq!(behind.old_psql().set("sslmode", mode).run("select 1").expect_success().stdout, "1\n");
    }
    let lines = log::wait_for(&behind.access_log(), 2, |line| line["event"] == "connection");
    for line in &lines {
        assert_eq!((&line["group"], &line["pq"]), (&json!("x25519"), &json!(false)), "{line}");
        assert_eq!((&line["starttls"], &line["alpn"]), (&json!("postgres"), &Value::Null), "{line}");
    }
    behind.expect_failure("starttls_plain");

    let strict = Behind::start(&[&database], json!({ "tls": { "pqc_only": true } }));
    let refused = strict.old_psql().run("select 1").expect_code(2);
    assert!(refused.stderr.contains("SSL error: "), "{}", refused.said());
    assert!(refused.stderr.contains("alert handshake failure"), "{}", refused.said());
    let line = strict.line(|line| line["event"] == "handshake_failed");
    assert_eq!((&line["reason"], &line["starttls"]), (&json!("no_common_group"), &json!("postgres")), "{line}");
    let warning = strict.warning("no_common_group");
    assert!(warning["message"].as_str().is_some_and(|text| text.contains("it offered: x25519")), "{warning}");
    strict.expect_refusal_in_audit_log("no_common_group");
    // psql 17 has what is wanted.
    assert_eq!(strict.psql().run("select 1").expect_success().stdout, "1\n");
}

#[test]
fn pgbench_finishes_every_transaction() {
    let database = Postgres::start();
    let behind = Behind::start(&[&database], json!({}));
    let finished = pgbench(&behind.psql(), 8, 200);
    for line in ["number of transactions actually processed: 1600/1600", "number of failed transactions: 0 (0.000%)"] {
        assert!(finished.stdout.contains(line), "{}", finished.said());
    }
    let metrics = behind.server.metrics_when("no open session", |metrics| {
        metrics.sum("qtls_postgres_sessions", &[]) == 0.0 && metrics.sum("qtls_connections_active", &[]) == 0.0
    });
    let handshakes = metrics.sum("qtls_handshakes_total", &[]);
    assert!(handshakes >= 9.0, "{}", metrics.text());
    assert_eq!(metrics.sum("qtls_handshakes_total", &[("group", "X25519MLKEM768")]), handshakes, "{}", metrics.text());
    assert_eq!(metrics.sum("qtls_handshake_failures_total", &[]), 0.0, "{}", metrics.text());
    assert_eq!(metrics.sum("qtls_upstream_errors_total", &[]), 0.0, "{}", metrics.text());
}

#[test]
fn a_python_program_reads_rows_and_copies_both_ways() {
    let database = Postgres::start();
    let behind = Behind::start(&[&database], json!({}));
    for negotiation in ["postgres", "direct"] {
        let options = json!({ "connection": behind.psql().set("sslnegotiation", negotiation).connection() });
        let mut command = peers::python("python/postgres.py", &options);
        let finished = run_within(&mut command, b"", Duration::from_secs(120)).expect_success();
        let done: Value = serde_json::from_str(&finished.stdout).expect("it prints JSON");
        assert_eq!((&done["rows"], &done["copied"]), (&json!(10_000), &json!(8192)), "{}", finished.said());
    }
    let lines = log::wait_for(&behind.access_log(), 2, |line| line["event"] == "connection");
    for line in &lines {
        assert_eq!(line["reason"], "clean", "{line}");
        // COPY in, COPY out.
        assert!(line["received"].as_u64() > Some(8 << 20) && line["sent"].as_u64() > Some(8 << 20), "{line}");
    }
}

#[test]
fn a_request_to_cancel_reaches_the_server_of_its_session() {
    let (first, second) = (Postgres::start(), Postgres::start());
    let behind = Behind::start(&[&first, &second], json!({}));
    // They take turns.
    let mut one = behind.old_psql().sleep();
    first.wait_for_sleepers(1);
    let other = behind.psql().sleep();
    second.wait_for_sleepers(1);
    first.wait_for_sleepers(1);
    behind.server.metrics_when("two sessions", |metrics| metrics.sum("qtls_postgres_sessions", &[]) == 2.0);

    let cancelled = "canceling statement due to user request";
    let finished = other.interrupt().expect_code(1);
    assert!(finished.stderr.contains(cancelled), "{}", finished.said());
    second.wait_for_sleepers(0);
    first.wait_for_sleepers(1);
    assert!(one.is_running());
    let finished = one.interrupt().expect_code(1);
    assert!(finished.stderr.contains(cancelled), "{}", finished.said());
    first.wait_for_sleepers(0);
    // Both psql send it in plain text: neither 15 nor 17 encrypts it.
    let metrics = behind.server.metrics_when("no session", |metrics| metrics.sum("qtls_postgres_sessions", &[]) == 0.0);
    let forwarded = |encrypted| {
        let labels = [("encrypted", encrypted), ("result", "forwarded")];
        metrics.sum("qtls_postgres_cancel_requests_total", &labels)
    };
    assert_eq!((forwarded("false"), forwarded("true")), (2.0, 0.0), "{}", metrics.text());
    for database in [&first, &second] {
        let wanted =
            |line: &str| line.contains("a request to cancel was passed on") && line.contains(&database.address());
        assert!(behind.server.process.stderr.wait_for(PATIENCE, wanted).is_some(), "{}", behind.server.log());
        assert_eq!(behind.server.log().lines().filter(|line| wanted(line)).count(), 1, "{}", behind.server.log());
    }
}

#[test]
fn a_request_to_cancel_within_tls_reaches_the_server_of_its_session() {
    let (first, second) = (Postgres::start(), Postgres::start());
    let behind = Behind::start(&[&first, &second], json!({}));
    let connection = |negotiation| behind.psql().set("sslnegotiation", negotiation).connection();
    let options = json!({ "cancel": [connection("postgres"), connection("direct")] });
    let mut program = Running::start(&mut peers::python("python/postgres.py", &options));
    let mut input = program.stdin();
    program.stdout.wait_for_line("sleeping");
    first.wait_for_sleepers(1);
    second.wait_for_sleepers(1);
    input.write_all(b"\n").expect("it reads");
    let cancelled = "canceling statement due to user request";
    let finished = program.finish(Duration::from_secs(60)).expect_success();
    let ended: Value = serde_json::from_str(finished.stdout.lines().nth(1).unwrap_or_default()).expect("JSON");
    assert_eq!(ended, json!([[0, cancelled], [1, cancelled]]), "{}", finished.said());
    let labels = [("encrypted", "true"), ("result", "forwarded")];
    behind
        .server
        .metrics_when("both requests", |metrics| metrics.sum("qtls_postgres_cancel_requests_total", &labels) == 2.0);
    let lines = log::wait_for(&behind.access_log(), 2, |line| line["reason"] == "cancel_request");
    let mut reached: Vec<_> = lines.iter().map(|line| line["upstream"].clone()).collect();
    reached.sort_by_key(ToString::to_string);
    let mut servers = [json!(first.address()), json!(second.address())];
    servers.sort_by_key(ToString::to_string);
    assert_eq!(reached, servers);
    assert!(lines.iter().all(|line| line["pq"] == true), "{lines:?}");
}

#[test]
fn a_request_to_cancel_what_is_not_there_goes_nowhere() {
    let database = Postgres::start();
    let behind = Behind::start(&[&database], json!({}));
    let request = [&[0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e][..], &[0, 0, 0, 1, 1, 2, 3, 4]].concat();
    assert_eq!(exchange(behind.server.port, &request), b"");
    behind.warning("no session that is open through this process has its key");
    let metrics = behind.server.metrics();
    let labels = [("encrypted", "false"), ("result", "unknown")];
    assert_eq!(metrics.sum("qtls_postgres_cancel_requests_total", &labels), 1.0, "{}", metrics.text());
    assert!(!database.log().contains("connection received"), "{}", database.log());
}

#[test]
fn a_session_without_tls_is_refused_in_words_that_say_what_to_do() {
    let database = Postgres::start();
    let behind = Behind::start(&[&database], json!({}));
    for psql in [behind.psql(), behind.old_psql()] {
        let refused = psql.set("sslmode", "disable").run("select 1").expect_code(2);
        let said = "FATAL:  this server takes no connections without TLS: use sslmode=require\n\
                    HINT:  sslmode=verify-full also makes sure that it is the right server.";
        assert!(refused.stderr.contains(said), "{}", refused.said());
    }
    let lines = log::wait_for(&behind.access_log(), 2, |line| line["reason"] == "starttls_plain");
    assert!(lines.iter().all(|line| line["starttls"] == "postgres" && line["client"].is_string()), "{lines:?}");
    behind.warning("handshake refused: the client speaks postgres without TLS");
    let metrics = behind.server.metrics();
    let labels = [("reason", "starttls_plain")];
    assert_eq!(metrics.sum("qtls_handshake_failures_total", &labels), 2.0, "{}", metrics.text());
    let audit = log::wait_for(&behind.logs.path().join("audit.log"), 2, |line| line["reason"] == "starttls_plain");
    assert!(audit.iter().all(|line| line["result"] == "refused"), "{audit:?}");
    assert!(!database.log().contains("connection received"), "{}", database.log());
}

#[test]
fn encryption_by_gssapi_is_declined_and_tls_may_follow() {
    let database = Postgres::start();
    let behind = Behind::start(&[&database], json!({}));
    let port = prefacing(behind.server.port, &GSSENC_REQUEST, b'N');
    assert_eq!(Psql::new(port).run("select 1").expect_success().stdout, "1\n");
    // A second time is one too many; and nothing begins with TLS behind the first.
    assert_eq!(exchange(behind.server.port, &GSSENC_REQUEST), b"N");
    let mut stream = wire::connect(behind.server.port);
    stream.write_all(&GSSENC_REQUEST).expect("the server reads");
    stream.read_exact(&mut [0]).expect("the server answers");
    stream.write_all(&GSSENC_REQUEST).expect("the server reads");
    assert_eq!(wire::read_to_end(&mut stream), b"");
    behind.expect_failure("starttls_malformed");
}

#[test]
fn bytes_behind_the_request_are_refused() {
    let database = Postgres::start();
    let behind = Behind::start(&[&database], json!({}));
    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        // What a man in the middle would have the server take for the client's own (CVE-2021-23214).
        let answer = exchange(behind.server.port, &[&request[..], b"Q\0\0\0\x0dselect 1\0"].concat());
        assert_eq!(answer[0], b'E', "{answer:?}");
        let text = String::from_utf8_lossy(&answer);
        assert!(text.contains("C08P01\0Mreceived unencrypted data after SSL request\0"), "{text:?}");
    }
    behind.warning("14 bytes came in plain text before the handshake");
    let labels = [("reason", "starttls_smuggled")];
    behind.server.metrics_when("two refusals", |metrics| metrics.sum("qtls_handshake_failures_total", &labels) == 2.0);
    let audit = log::wait_for(&behind.logs.path().join("audit.log"), 2, |line| line["reason"] == "starttls_smuggled");
    assert!(audit.iter().all(|line| line["result"] == "refused"), "{audit:?}");
    // Behind the answer, they are a broken handshake.
    let mut stream = wire::connect(behind.server.port);
    stream.write_all(&SSL_REQUEST).expect("the server reads");
    stream.read_exact(&mut [0]).expect("the server answers");
    stream.write_all(b"Q\0\0\0\x0dselect 1\0").expect("the server reads");
    let answer = wire::read_to_end(&mut stream);
    assert!(wire::alert(&answer).is_some(), "{answer:?}");
    assert!(!database.log().contains("connection received"), "{}", database.log());
}

#[test]
fn what_is_neither_tls_nor_postgresql_is_refused_in_time() {
    let database = Postgres::start();
    let behind = Behind::start(&[&database], json!({ "limits": { "handshake_timeout": 5 } }));
    let oversized = [&[0, 0, 0x27, 0x11][..], &[0, 3, 0, 0], &[b'x'; 9993]].concat();
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\0\0\0\0\0\0\0\0", b"\0\0\0\x08\x04\xd2\0\x01", &oversized] {
        assert_eq!(exchange(behind.server.port, bytes), b"", "{bytes:?}");
    }
    let metrics = behind.server.metrics_when("four refusals", |metrics| {
        metrics.sum("qtls_handshake_failures_total", &[("reason", "starttls_malformed")]) == 4.0
    });
    assert_eq!(metrics.sum("qtls_handshake_failures_total", &[]), 4.0, "{}", metrics.text());
    // In pieces, and then nothing more: before the request is complete, and behind the answer.
    for sent in [&SSL_REQUEST[..3], &SSL_REQUEST[..]] {
        let mut stream = wire::connect(behind.server.port);
        for byte in sent {
            stream.write_all(std::slice::from_ref(byte)).expect("the server reads");
        }
        assert_eq!(wire::read_to_end(&mut stream), if sent.len() == 8 { &b"S"[..] } else { b"" });
    }
    behind.server.metrics_when("two time-outs", |metrics| {
        metrics.sum("qtls_handshake_failures_total", &[("reason", "timeout")]) == 2.0
            && metrics.sum("qtls_limit_hits_total", &[("limit", "handshake_timeout")]) == 2.0
    });
    // Within TLS, a session has to begin in time, too.
    let idle = openssl::Client::new(behind.server.port).arguments(&["-starttls", "postgres"]).start();
    let line = behind.line(|line| line["event"] == "connection");
    assert_eq!(line["reason"], "handshake_timeout", "{line}");
    drop(idle);
    // A client that goes after the answer is no silent one.
    let mut stream = wire::connect(behind.server.port);
    stream.write_all(&SSL_REQUEST).expect("the server reads");
    stream.read_exact(&mut [0]).expect("the server answers");
    drop(stream);
    drop(wire::connect(behind.server.port));
    behind.server.metrics_when("one of each", |metrics| {
        metrics.sum("qtls_handshake_failures_total", &[("reason", "closed")]) == 1.0
            && metrics.sum("qtls_silent_connections_total", &[]) == 1.0
    });
}

#[test]
fn within_tls_there_is_no_second_encryption() {
    let database = Postgres::with_tls(Pki::shared().server(Algorithm::EcdsaP384));
    let behind = Behind::start(&[&database], json!({}));
    for request in [SSL_REQUEST, GSSENC_REQUEST] {
        let finished = Client::new(behind.server.port).arguments(["--starttls", "postgres"]).send(&request);
        let answer = client::received(&finished);
        assert!(answer.contains("C08P01\0Mthis is no way to begin a session within TLS\0"), "{answer:?}");
    }
    behind.warning("session refused: it asks for encryption within TLS");
    let lines = log::wait_for(&behind.access_log(), 2, |line| line["event"] == "connection");
    assert!(lines.iter().all(|line| line["reason"] == "starttls_malformed"), "{lines:?}");
    assert!(!database.log().contains("connection received"), "{}", database.log());
}

#[test]
fn a_reload_makes_a_listener_one_for_postgresql_and_back() {
    let database = Postgres::start();
    let server = Server::start(json!({ "upstream": { "protocol": "tcp", "servers": [database.address()] } }));
    let psql = Psql::new(server.port);
    for (starttls, works) in [(Value::Null, false), (json!("postgres"), true), (Value::Null, false)] {
        server.rewrite_config(json!({ "server": { "starttls": starttls } }));
        server.applies(|| server.hang_up());
        let finished = psql.run("select 1");
        assert_eq!(finished.status.success(), works, "{}", finished.said());
    }
}

#[test]
fn tls_at_once_takes_the_application_protocol() {
    let database = Postgres::start();
    let behind = Behind::start(&[&database], json!({}));
    let exchange = openssl::Client::new(behind.server.port).send(b"");
    assert_eq!(exchange.finished.stdout, "", "{}", exchange.finished.said());
    behind.expect_failure("starttls_no_alpn");
    let warning = behind.warning("which takes the application protocol");
    assert_eq!(
        (&warning["reason"], &warning["server_name"]),
        (&json!("starttls_no_alpn"), &json!("localhost")),
        "{warning}"
    );
    behind.expect_refusal_in_audit_log("starttls_no_alpn");
    // Another protocol gets the alert of RFC 7301.
    let exchange = openssl::Client::new(behind.server.port).arguments(&["-alpn", "http/1.1"]).send(b"");
    assert!(exchange.finished.stderr.contains("no application protocol"), "{}", exchange.finished.said());
    // Who asks for TLS needs none.
    let mut started = openssl::Client::new(behind.server.port).arguments(&["-starttls", "postgres"]).start();
    drop(started.stdin());
    behind.line(|line| line["event"] == "connection" && line["starttls"] == "postgres");
    assert!(!database.log().contains("connection received"), "{}", database.log());
}

#[test]
fn a_database_that_is_down_is_told_in_the_words_of_the_protocol() {
    let port = qtls_interop::server::free_port();
    let server = Server::start(json!({
        "server": { "starttls": "postgres" },
        "upstream": { "protocol": "tcp", "servers": [format!("127.0.0.1:{port}")] },
    }));
    let refused = Psql::new(server.port).run("select 1").expect_code(2);
    let said = "FATAL:  no database server takes connections at the moment\n\
                HINT:  The log of qtls-server says why.";
    assert!(refused.stderr.contains(said), "{}", refused.said());
    server.wait_for_warning(&format!("upstream 127.0.0.1:{port}: connection refused"));
}

#[test]
fn channel_binding_can_be_preferred_but_not_required() {
    let database = Postgres::start();
    let behind = Behind::start(&[&database], json!({}));
    for (binding, negotiation) in [("prefer", "postgres"), ("disable", "direct")] {
        let psql = behind.psql().set("channel_binding", binding).set("sslnegotiation", negotiation);
        assert_eq!(psql.run("select 1").expect_success().stdout, "1\n");
    }
    let before = "a client left when it was asked for a SCRAM password";
    assert!(!behind.server.log().contains(before), "{}", behind.server.log());
    for psql in [behind.psql(), behind.old_psql()] {
        let refused = psql.set("channel_binding", "require").run("select 1").expect_code(2);
        let said = "channel binding is required, but server did not offer an authentication method that supports channel \
                    binding";
        assert!(refused.stderr.contains(said), "{}", refused.said());
    }
    let told = behind.server.wait_for_log(before);
    assert!(told.contains("channel_binding=prefer"), "{told}");
    assert_eq!(behind.server.log().matches(before).count(), 1, "{}", behind.server.log());
    // A wrong password is nothing else.
    let refused = behind.psql().set("password", "wrong").run("select 1").expect_code(2);
    assert!(refused.stderr.contains("password authentication failed for user \"postgres\""), "{}", refused.said());
}

/// The `upstream` of a server that speaks TLS to PostgreSQL, asking first or not.
fn over_tls(database: &Postgres, starttls: Option<&str>) -> Value {
    json!({ "upstream": {
        "servers": [format!("localhost:{}", database.port)],
        "starttls": starttls,
        "tls": { "ca_bundle": Pki::shared().ca() },
    } })
}

#[test]
fn postgresql_behind_is_asked_for_tls_or_gets_it_at_once() {
    let pki = Pki::shared();
    let database = Postgres::with_tls(pki.server(Algorithm::EcdsaP384));
    for starttls in [Some("postgres"), None] {
        let behind = Behind::start(&[&database], over_tls(&database, starttls));
        behind.warning("PostgreSQL offers channel binding over TLS");
        // Both have the same certificate: so channel binding holds from end to end.
        let psql = behind.psql().set("channel_binding", "require");
        let seen = "select version || ' ' || ssl from pg_stat_ssl where pid = pg_backend_pid()";
        assert_eq!(psql.run(seen).expect_success().stdout, "TLSv1.3 true\n");
        let line = behind.line(|line| line["event"] == "connection");
        assert_eq!(line["group"], "X25519MLKEM768", "{line}");
        assert_eq!(line["upstream_group"], "secp256r1", "{line}");
        // A request to cancel goes the same way, whether it came in plain text or within TLS.
        let sleeping = behind.old_psql().sleep();
        database.wait_for_sleepers(1);
        let cancelled = sleeping.interrupt().expect_code(1);
        assert!(cancelled.stderr.contains("canceling statement due to user request"), "{}", cancelled.said());
        let metrics = behind.server.metrics();
        let labels = [("encrypted", "false"), ("result", "forwarded")];
        assert_eq!(metrics.sum("qtls_postgres_cancel_requests_total", &labels), 1.0, "{}", metrics.text());
        assert_eq!(metrics.sum("qtls_upstream_errors_total", &[]), 0.0, "{}", metrics.text());
    }
}

/// Checks ask for TLS in the protocol's words, too: one that takes none fails them, and gets nobody.
#[test]
fn checks_ask_postgresql_for_tls_as_work_does() {
    let (with, without) = (Postgres::with_tls(Pki::shared().server(Algorithm::EcdsaP384)), Postgres::start());
    let mut changes = over_tls(&with, Some("postgres"));
    let addresses = [&with, &without].map(|one| format!("localhost:{}", one.port));
    changes["upstream"]["servers"] = json!(addresses);
    changes["upstream"]["health"] = json!({ "type": "tls", "interval": 1, "timeout": 30, "fall": 1 });
    let behind = Behind::start(&[&with], changes);
    let warning = behind.warning(&format!("upstream {} is down", addresses[1]));
    assert!(warning["message"].as_str().is_some_and(|text| text.contains("TLS")), "{warning}");
    let checks = |metrics: &qtls_interop::metrics::Metrics, upstream: &str, result| {
        metrics.sum("qtls_upstream_checks_total", &[("upstream", upstream), ("result", result)])
    };
    let metrics = behind.server.metrics_when("three checks", |metrics| checks(metrics, &addresses[0], "passed") >= 3.0);
    assert_eq!(checks(&metrics, &addresses[0], "failed"), 0.0, "{}", metrics.text());
    assert_eq!(checks(&metrics, &addresses[1], "passed"), 0.0, "{}", metrics.text());
    for _ in 0..4 {
        assert_eq!(behind.psql().run("select 1").expect_success().stdout, "1\n");
    }
    let requests =
        |upstream: &str| behind.server.metrics().sum("qtls_upstream_requests_total", &[("upstream", upstream)]);
    assert_eq!((requests(&addresses[0]), requests(&addresses[1])), (4.0, 0.0));
}

#[test]
fn a_session_lasts_no_longer_than_its_upstream_allows() {
    let database = Postgres::start();
    let behind = Behind::start(&[&database], json!({ "upstream": { "timeouts": { "total": 2 } } }));
    let ended = behind.psql().run("select pg_sleep(60)").expect_code(2);
    assert!(ended.stderr.contains("SSL connection has been closed unexpectedly"), "{}", ended.said());
    let line = behind.line(|line| line["event"] == "connection");
    assert_eq!((&line["reason"], &line["starttls"]), (&json!("total_timeout"), &json!("postgres")), "{line}");
    let metrics = behind.server.metrics();
    assert_eq!(metrics.sum("qtls_upstream_errors_total", &[("reason", "total_timeout")]), 1.0, "{}", metrics.text());
    assert_eq!(metrics.sum("qtls_postgres_sessions", &[]), 0.0, "{}", metrics.text());
}

#[test]
fn channel_binding_between_two_certificates_fails_with_the_remedy_in_the_log() {
    let database = Postgres::with_tls(Pki::shared().server(Algorithm::Rsa4096));
    let behind = Behind::start(&[&database], over_tls(&database, Some("postgres")));
    for binding in ["prefer", "require"] {
        let refused = behind.psql().set("channel_binding", binding).run("select 1").expect_code(2);
        assert!(refused.stderr.contains("FATAL:  SCRAM channel binding check failed"), "{}", refused.said());
    }
    let warning = behind.warning("channel binding failed");
    assert!(warning["message"].as_str().is_some_and(|text| text.contains("set channel_binding=disable")), "{warning}");
    let psql = behind.psql().set("channel_binding", "disable");
    assert_eq!(psql.run("select 1").expect_success().stdout, "1\n");
    let wrong = behind.psql().set("password", "wrong").set("channel_binding", "disable").run("select 1").expect_code(2);
    assert!(wrong.stderr.contains("password authentication failed"), "{}", wrong.said());
    assert_eq!(behind.server.log().matches("channel binding failed").count(), 2, "{}", behind.server.log());
}

#[test]
fn a_server_behind_that_takes_no_tls_or_smuggles_gets_no_session() {
    let plain = Postgres::start();
    let behind = Behind::start(&[&plain], over_tls(&plain, Some("postgres")));
    let refused = behind.psql().run("select 1").expect_code(2);
    assert!(refused.stderr.contains("FATAL:  no database server takes connections"), "{}", refused.said());
    behind.warning("TLS: the postgres server takes no TLS connections");

    // CVE-2021-23222: bytes in plain text behind the server's consent.
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client: TcpStream = client.expect("it connects");
            let mut request = [0; 8];
            client.read_exact(&mut request).expect("it asks");
            assert_eq!(request, SSL_REQUEST);
            client.write_all(b"SE\0\0\0\x08oops").expect("it reads");
            wire::read_to_end(&mut client);
        }
    });
    let upstream = json!({ "servers": [format!("localhost:{port}")], "starttls": "postgres",
                           "tls": { "ca_bundle": Pki::shared().ca() } });
    let behind = Behind::start(&[], json!({ "upstream": upstream }));
    behind.psql().run("select 1").expect_code(2);
    behind.warning("TLS: 9 bytes came in plain text before the handshake");
    let metrics = behind.server.metrics();
    assert!(metrics.sum("qtls_upstream_errors_total", &[("reason", "tls")]) >= 1.0, "{}", metrics.text());
}

#[test]
fn qtls_client_asks_for_tls() {
    let database = Postgres::with_tls(Pki::shared().server(Algorithm::EcdsaP384));
    let behind = Behind::start(&[&database], json!({}));
    // PostgreSQL 17 takes one elliptic curve (`ssl_ecdh_curve`), whatever its OpenSSL is able to do.
    let alone = Negotiated::new("secp256r1", P384).after_retry();
    for (port, negotiated) in [(database.port, alone), (behind.server.port, hybrid())] {
        let finished = Client::new(port).arguments(["--starttls", "postgres"]).connect().expect_success();
        let facts = client::facts(&finished);
        assert_eq!(Negotiated::from_json(&facts), negotiated);
        assert_eq!((&facts["alpn"], &facts["verified"]), (&json!("postgresql"), &json!(true)));
        let direct = Client::new(port).arguments(["--alpn", "postgresql"]).connect().expect_success();
        assert_eq!(client::facts(&direct)["alpn"], "postgresql");
    }
    // A session by hand: the server asks for the password.
    let startup = [&[0, 0, 0, 23, 0, 3, 0, 0][..], b"user\0postgres\0\0"].concat();
    let finished =
        Client::new(behind.server.port).arguments(["--starttls", "postgres"]).send(&startup).expect_success();
    assert!(client::received(&finished).contains("SCRAM-SHA-256"), "{}", finished.said());

    let mut inspect = programs::command("qtls");
    inspect.args(["inspect", "--json", "--starttls", "postgres", &behind.server.address()]);
    let report: Value = serde_json::from_str(&run(&mut inspect, b"").expect_success().stdout).expect("it is JSON");
    assert_eq!(report["connection"]["group"], "X25519MLKEM768", "{report}");
}

#[test]
fn qtls_client_refuses_what_is_no_consent_to_tls() {
    let plain = Postgres::start();
    let unknown = Client::new(plain.port).arguments(["--starttls", "smtp"]).connect().expect_code(2);
    assert!(unknown.stderr.contains("\"smtp\" is no protocol that asks for TLS"), "{}", unknown.said());
    assert!(unknown.stderr.contains("known: postgres"), "{}", unknown.said());
    let refused = Client::new(plain.port).arguments(["--starttls", "postgres"]).connect().expect_code(5);
    assert_eq!(
        refused.stderr,
        "qtls-client: the postgres server takes no TLS connections\n  \
         hint: it takes them with `ssl = on` in its postgresql.conf, and a certificate\n"
    );
    for (answer, said) in [
        // CVE-2021-23222.
        (&b"SE\0\0\0\x08oops"[..], "9 bytes came in plain text before the handshake, behind what asks for TLS"),
        // CVE-2024-10977: what it says is not shown.
        (
            b"E\0\0\0\x20SFATAL\0Mgive me money\0\0",
            "speaks neither TLS nor postgres: it answers the request for TLS with an error",
        ),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks neither TLS nor postgres: it doesn't answer the request for TLS"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let server = thread::spawn(move || {
            let (mut client, _): (TcpStream, _) = listener.accept().expect("the client connects");
            let mut request = [0; 8];
            client.read_exact(&mut request).expect("the client asks");
            client.write_all(answer).expect("the client reads");
            wire::read_to_end(&mut client);
            request
        });
        let refused = Client::new(port).arguments(["--starttls", "postgres"]).connect().expect_code(5);
        assert_eq!(server.join().expect("it doesn't panic"), SSL_REQUEST);
        assert!(refused.stderr.contains(said) && !refused.stderr.contains("money"), "{}", refused.said());
        assert_eq!(refused.stdout, "");
    }
}
