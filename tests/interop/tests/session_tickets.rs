//! A session is resumed by every server that shares the keys of its ticket, and by no other.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use qtls_interop::authority::Authority;
use qtls_interop::openssl::{Client, Exchange, text};
use qtls_interop::process::run;
use qtls_interop::{Algorithm, Negotiated, Pki, Server, log, peers, programs};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A directory of key files and secrets.
struct Keys(TempDir);

impl Keys {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("the temporary directory is writable"))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `qtls ticket-keys` in the directory.
    fn qtls(&self, arguments: &[&str]) -> String {
        let mut command = programs::command("qtls");
        command.current_dir(self.0.path()).arg("ticket-keys").args(arguments);
        run(&mut command, b"").expect_success().stdout
    }

    fn file(&self, name: &str) -> PathBuf {
        self.qtls(&["generate", name]);
        self.at(name)
    }

    fn secret(&self, name: &str) -> PathBuf {
        self.qtls(&["generate", "--secret", name]);
        self.at(name)
    }
}

fn full() -> Negotiated {
    Negotiated::new("X25519MLKEM768", "ecdsa_secp384r1_sha384")
}

fn with_keys(keys: Value) -> Server {
    Server::start(json!({ "tls": { "ticket_keys": keys } }))
}

fn with_file(file: &Path) -> Server {
    with_keys(json!({ "file": file }))
}

/// One request, after which OpenSSL's messages and the server's status page have to say `expected`.
#[track_caller]
fn agree(client: &Client, expected: &Negotiated) -> Exchange {
    let exchange = client.get("/status.json");
    assert_eq!(exchange.negotiated(), *expected, "the client: {}", exchange.finished.said());
    assert_eq!(Negotiated::from_json(&exchange.json()), *expected, "the server");
    exchange
}

/// A client with a session that it has just been given.
#[track_caller]
fn session(server: &Server) -> Client {
    let client = Client::new(server.port).saving_session();
    agree(&client, &full());
    client
}

#[track_caller]
fn resumes(server: &Server, session: &Client) {
    agree(&Client::new(server.port).resuming(session), &full().resumed());
}

#[track_caller]
fn does_not_resume(server: &Server, session: &Client) {
    agree(&Client::new(server.port).resuming(session), &full());
}

/// How many tickets the server has decrypted (`ok`), or why it could not.
#[track_caller]
fn tickets(server: &Server, result: &str) -> f64 {
    server.metrics().sum("qtls_ticket_decrypt_total", &[("result", result)])
}

#[track_caller]
fn cached(server: &Server) -> f64 {
    server.metrics().sum("qtls_sessions_cached", &[])
}

/// The lifetimes of the tickets that came, in seconds.
fn lifetimes(exchange: &Exchange) -> Vec<&str> {
    let hints = exchange.trace.lines().filter_map(|line| line.trim().strip_prefix("ticket_lifetime_hint="));
    hints.collect()
}

/// What Go says of connections to these servers, one after the other, all with one cache of sessions: whether it resumed,
/// each checked against the status page.
#[track_caller]
fn go_resumes(servers: &[&Server]) -> Vec<bool> {
    let mut command = peers::go();
    command.args(["client", "-resume", "-ca", text(&Pki::shared().ca()), "-server-name", "localhost"]);
    command.args(["-get", "/status.json"]).args(servers.iter().map(|server| format!("127.0.0.1:{}", server.port)));
    let finished = run(&mut command, b"").expect_success();
    let connection = |line: &str| {
        let facts: Value = serde_json::from_str(line).expect("JSON");
        let status: Value = serde_json::from_str(facts["body"].as_str().expect("a body")).expect("JSON");
        let negotiated = Negotiated::from_json(&facts);
        assert_eq!(negotiated, Negotiated::from_json(&status), "Go and the server");
        let expected = if negotiated.resumed { full().resumed() } else { full() };
        assert_eq!(negotiated, expected);
        negotiated.resumed
    };
    finished.stdout.lines().map(connection).collect()
}

/// Three that share, and one that doesn't.
#[track_caller]
fn three_resume_and_the_stranger_does_not([a, b, c]: [&Server; 3], stranger: &Server) {
    let first = session(a);
    for other in [b, c] {
        resumes(other, &first);
        other.expect_handshakes(&[&full().resumed()]);
        assert_eq!(tickets(other, "ok"), 1.0, "{}", other.metrics().text());
        let line = other.wait_for_log("connection ended");
        for field in [" resumed=true ", " group=X25519MLKEM768 ", " suite=TLS_AES_256_GCM_SHA384 "] {
            assert!(line.contains(field), "{line}");
        }
    }
    resumes(a, &first);
    does_not_resume(stranger, &first);
    assert_eq!(tickets(stranger, "unknown_key"), 1.0, "{}", stranger.metrics().text());
    // A ticket that one of them gave after a resumption is as good.
    let second = Client::new(b.port).resuming(&first).saving_session();
    agree(&second, &full().resumed());
    resumes(c, &second);
    assert_eq!(go_resumes(&[a, b, c, stranger]), [false, true, true, false]);
    for server in [a, b, c, stranger] {
        assert_eq!(cached(server), 0.0, "sessions are with the clients");
    }
}

#[test]
fn replicas_with_one_key_file() {
    let keys = Keys::new();
    let made = keys.qtls(&["generate", "ticket.keys"]);
    let (ours, theirs) = (keys.at("ticket.keys"), keys.file("other.keys"));
    let replicas = [(); 3].map(|()| with_file(&ours));
    let stranger = with_file(&theirs);
    // The tool and the servers name keys alike.
    let name = made.strip_prefix("ticket.keys: ").and_then(|keys| keys.split_once(" encrypts, ")).expect("a name").0;
    for replica in &replicas {
        replica.wait_for_log(&format!("; sessions: tickets under key {name}, 2 known"));
    }
    assert!(!stranger.log().contains(name), "{}", stranger.log());
    three_resume_and_the_stranger_does_not(replicas.each_ref(), &stranger);
}

#[test]
fn replicas_with_one_secret() {
    let keys = Keys::new();
    let (ours, theirs) = (keys.secret("ticket.secret"), keys.secret("other.secret"));
    let replicas = [(); 3].map(|()| with_keys(json!({ "secret_file": ours })));
    let stranger = with_keys(json!({ "secret_file": theirs }));
    three_resume_and_the_stranger_does_not(replicas.each_ref(), &stranger);
    // Another step is another row of keys.
    let steps = with_keys(json!({ "secret_file": ours, "step": 1800 }));
    assert_eq!(go_resumes(&[&replicas[0], &steps, &replicas[1]]), [false, false, false]);
    assert_eq!(tickets(&steps, "unknown_key"), 1.0);
}

#[test]
fn other_hosts_policies_and_trust_are_walls_also_between_servers_with_the_same_keys() {
    let keys = Keys::new();
    let file = keys.file("ticket.keys");
    let home = with_file(&file);
    let ticket = session(&home);
    let ticket_keys = json!({ "file": file });
    for wall in [
        json!({ "tls": { "pqc_only": true } }),
        json!({ "tls": { "group_preference": "strict" } }),
        json!({ "algorithms": { "kem": ["x25519mlkem768"] } }),
        json!({ "algorithms": { "cipher": ["aes-256-gcm"] } }),
        json!({ "algorithms": { "signature": ["ecdsa-p384"] } }),
        json!({ "virtual_hosts": [{ "names": ["localhost"] }] }),
    ] {
        let mut config = json!({ "tls": { "ticket_keys": ticket_keys } });
        qtls_interop::server::merge(&mut config, wall.clone());
        let server = Server::start(config);
        does_not_resume(&server, &ticket);
        assert_eq!((tickets(&server, "invalid"), tickets(&server, "ok")), (1.0, 0.0), "{wall}");
        let own = session(&server);
        resumes(&server, &own);
        does_not_resume(&home, &own);
    }
    resumes(&home, &ticket);
}

#[test]
fn a_key_is_known_everywhere_before_it_encrypts_and_until_it_is_left_out() {
    let keys = Keys::new();
    keys.file("ticket.keys");
    // Each server has its own copy, which the operator spreads.
    let spread = |copy: &str| {
        fs::copy(keys.at("ticket.keys"), keys.at("new")).expect("it can be copied");
        fs::rename(keys.at("new"), keys.at(copy)).expect("it can be renamed");
    };
    for copy in ["a", "b"] {
        spread(copy);
    }
    let audited = json!({ "logging": { "audit_file": keys.at("audit.log") }, "tls": { "ticket_keys": { "file": keys.at("a") } } });
    let (a, b) = (Server::start(audited), with_file(&keys.at("b")));
    let oldest = session(&a);

    let told = keys.qtls(&["rotate", "ticket.keys", "--keep", "1"]);
    a.applies(|| spread("a"));
    let loaded = log::wait_for(&keys.at("audit.log"), 2, |event| event["event"] == "ticket_keys_loaded");
    let names = |event: &Value| event["keys"].as_str().expect("it has keys").replace(", ", " ");
    let order: Vec<_> =
        told.split_whitespace().filter(|word| word.len() == 8 && word.bytes().all(|c| c.is_ascii_hexdigit())).collect();
    assert_eq!((&loaded[0]["cause"], &loaded[1]["cause"]), (&json!("start"), &json!("file change")));
    assert_eq!(names(&loaded[1]), order.join(" "), "{told}");
    // One has the new file, the other the old one: the prepared key, and the key of before, are known to both.
    let (of_a, of_b) = (session(&a), session(&b));
    for server in [&a, &b] {
        for ticket in [&oldest, &of_a, &of_b] {
            resumes(server, ticket);
        }
    }
    b.applies(|| spread("b"));
    resumes(&b, &oldest);

    keys.qtls(&["rotate", "ticket.keys", "--keep", "1"]);
    for (server, copy) in [(&a, "a"), (&b, "b")] {
        server.applies(|| spread(copy));
        resumes(server, &of_a);
        does_not_resume(server, &oldest);
        does_not_resume(server, &of_b);
        assert_eq!(tickets(server, "unknown_key"), 2.0, "{}", server.metrics().text());
    }

    // What is no key file is refused whole, and the keys of before stay.
    let broken = fs::read_to_string(keys.at("ticket.keys")).expect("it is text").replace("next ", "next 0");
    fs::write(keys.at("new"), broken).expect("it is writable");
    let line = a.refuses(|| fs::rename(keys.at("new"), keys.at("a")).expect("it can be renamed"));
    assert!(
        line.contains(&format!("tls.ticket_keys.file: {}:4: has 65 hexadecimal digits", text(&keys.at("a")))),
        "{line}"
    );
    resumes(&a, &of_a);
}

#[test]
fn the_timeout_is_what_clients_are_told_and_what_holds() {
    let keys = Keys::new();
    let file = keys.file("ticket.keys");
    let server = |timeout: u32, ticket_keys: Value| {
        Server::start(json!({ "tls": { "session_timeout": timeout, "ticket_keys": ticket_keys } }))
    };
    let (long, short) = (server(1800, json!({ "file": file })), server(1, json!({ "file": file })));
    let patient = Client::new(long.port).saving_session();
    assert_eq!(lifetimes(&agree(&patient, &full())), ["1800", "1800"]);
    let kept = server(77, Value::Null);
    assert_eq!(lifetimes(&agree(&Client::new(kept.port), &full())), ["77", "77"], "also where sessions are kept");
    let here = Client::new(kept.port).saving_session();
    agree(&here, &full());
    kept.applies(|| {
        kept.rewrite_config(json!({ "tls": { "session_timeout": 1 } }));
        kept.hang_up();
    });
    // The age of sessions is what is tested.
    sleep(Duration::from_millis(2100));
    does_not_resume(&short, &patient);
    assert_eq!(tickets(&short, "expired"), 1.0, "{}", short.metrics().text());
    resumes(&long, &patient);
    does_not_resume(&kept, &here);
    let lookups = |result| kept.metrics().sum("qtls_session_lookups_total", &[("result", result)]);
    assert_eq!((lookups("ok"), lookups("expired")), (0.0, 1.0), "{}", kept.metrics().text());
}

#[test]
fn clients_that_are_verified_resume_where_they_were_and_nowhere_else() {
    let keys = Keys::new();
    let file = keys.file("ticket.keys");
    let certificates = json!({ "verify_client": true, "ca_bundle": Pki::shared().ca() });
    let config = json!({ "certificates": certificates, "tls": { "ticket_keys": { "file": file } } });
    let (a, b) = (Server::start(config.clone()), Server::start(config));
    for server in [&a, &b] {
        server.wait_for_warning("tls.ticket_keys has no effect where clients are verified");
    }
    let client = |server: &Server| Client::new(server.port).certificate(Pki::shared().client(Algorithm::EcdsaP384));
    let first = client(&a).saving_session();
    agree(&first, &full());
    assert_eq!(cached(&a), 2.0, "as many as tickets");
    agree(&client(&b).resuming(&first), &full());
    let resumed = agree(&client(&a).resuming(&first), &full().resumed());
    let line = a.wait_for_log(" resumed=true ");
    assert!(line.contains("connection ended") && line.contains(" identity="), "{line}");
    assert!(!resumed.trace.contains("CertificateRequest"), "{}", resumed.trace);
    // Once: what was seen on the wire is of no use.
    agree(&client(&a).resuming(&first), &full());
    for server in [&a, &b] {
        assert_eq!(server.metrics().sum("qtls_ticket_decrypt_total", &[]), 0.0, "no ticket was ever looked at");
    }
    // Without a certificate, the ticket of another server opens no door either.
    let lax = with_file(&file);
    let ticket = session(&lax);
    let refused = Client::new(a.port).resuming(&ticket).get("/status.json");
    assert!(refused.finished.stderr.contains("alert certificate required"), "{}", refused.finished.said());
}

#[test]
fn a_reload_keeps_sessions_unless_policy_or_trust_has_changed() {
    let keys = Keys::new();
    let copy = |name: &str, from: &Path| {
        fs::copy(from, keys.at("new")).expect("it can be copied");
        fs::rename(keys.at("new"), keys.at(name)).expect("it can be renamed");
    };
    let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
    copy("cert.pem", &cert);
    copy("key.pem", &key);
    let server = Server::with_config(
        json!({ "certificates": { "server_cert": keys.at("cert.pem"), "server_key": keys.at("key.pem") } }),
    );
    let ticket = session(&server);
    assert_eq!(cached(&server), 2.0);
    // Of another CA even: whoever resumes has verified before.
    let (cert, key) = Pki::stranger().server(Algorithm::EcdsaP384);
    server.applies(|| {
        copy("key.pem", &key);
        copy("cert.pem", &cert);
    });
    resumes(&server, &ticket);

    let change = |change: Value| {
        server.applies(|| {
            server.rewrite_config(change);
            server.hang_up();
        });
    };
    let client = || Client::trusting(server.port, &Pki::stranger().ca());
    let ticket = client().saving_session();
    agree(&ticket, &full());
    // A limit is no policy.
    change(json!({ "tls": { "session_cache_size": 500 }, "limits": { "idle_timeout": 100 } }));
    agree(&client().resuming(&ticket), &full().resumed());
    let ticket = client().saving_session();
    agree(&ticket, &full());
    change(json!({ "tls": { "group_preference": "strict" } }));
    server.metrics_when("an empty cache", |metrics| metrics.sum("qtls_sessions_cached", &[]) == 0.0);
    agree(&client().resuming(&ticket), &full());
}

#[test]
fn whom_a_reload_disallows_does_not_resume_and_other_anchors_empty_the_cache() {
    let authority = Authority::new();
    let server = Server::start(json!({ "certificates": {
        "verify_client": true, "ca_bundle": authority.bundle(),
        "allow": [{ "san_dns": "good.example" }, { "san_dns": "bad.example" }],
    } }));
    let (good, bad) =
        (authority.client(server.port, "good").saving_session(), authority.client(server.port, "bad").saving_session());
    agree(&good, &full());
    agree(&bad, &full());
    assert_eq!(cached(&server), 4.0);
    let change = |change: Value| {
        server.applies(|| {
            server.rewrite_config(json!({ "certificates": change }));
            server.hang_up();
        });
    };
    change(json!({ "allow": [{ "san_dns": "good.example" }] }));
    let refused = authority.client(server.port, "bad").resuming(&bad).get("/status.json");
    assert!(!refused.finished.stdout.contains("HTTP/1"), "an answer: {}", refused.finished.said());
    server.metrics_when("the refusal", |metrics| {
        metrics.sum("qtls_handshake_failures_total", &[("reason", "access_denied")]) == 1.0
    });
    agree(&authority.client(server.port, "good").resuming(&good), &full().resumed());

    let good = authority.client(server.port, "good").saving_session();
    agree(&good, &full());
    // Beside the one that it replaces: the sandbox was entered with that directory.
    let both = authority.path("certs/both.pem");
    let bundle = [fs::read(authority.bundle()), fs::read(Pki::shared().ca())].map(|pem| pem.expect("it is there"));
    fs::write(&both, bundle.concat()).expect("it is writable");
    change(json!({ "ca_bundle": both }));
    // The state of before goes when the last worker has heard of the new one.
    server.metrics_when("an empty cache", |metrics| metrics.sum("qtls_sessions_cached", &[]) == 0.0);
    agree(&authority.client(server.port, "good").resuming(&good), &full());
}

#[test]
fn zero_turns_resumption_off_in_both_ways() {
    let keys = Keys::new();
    let file = keys.file("ticket.keys");
    let home = with_file(&file);
    let ticket = session(&home);
    for (tls, warns) in [
        (json!({ "session_timeout": 0, "ticket_keys": { "file": file } }), true),
        (json!({ "session_timeout": 0 }), false),
        (json!({ "session_cache_size": 0 }), false),
    ] {
        let server = Server::start(json!({ "tls": tls }));
        let exchange = agree(&Client::new(server.port).resuming(&ticket), &full());
        assert!(!exchange.trace.contains("NewSessionTicket"), "a session was offered under {tls}");
        assert_eq!(
            server.log().contains("tls.ticket_keys has no effect: `session_timeout` 0"),
            warns,
            "{}",
            server.log()
        );
    }
    // Tickets need no room here.
    let server = Server::start(json!({ "tls": { "session_cache_size": 0, "ticket_keys": { "file": file } } }));
    resumes(&server, &ticket);
}

#[test]
fn the_cache_is_bounded_and_says_so() {
    let server = Server::start(json!({ "tls": { "session_cache_size": 4 } }));
    let [first, .., last] = [(); 5].map(|()| session(&server));
    let metrics = server.metrics();
    assert_eq!(metrics.sum("qtls_sessions_cached", &[]), 4.0);
    assert_eq!(metrics.sum("qtls_session_evictions_total", &[]), 6.0, "ten were made");
    does_not_resume(&server, &first);
    // The one before has pushed two more out, of which this was none.
    resumes(&server, &last);
    let lookups = |result| server.metrics().sum("qtls_session_lookups_total", &[("result", result)]);
    assert_eq!((lookups("ok"), lookups("unknown")), (1.0, 1.0));
}
