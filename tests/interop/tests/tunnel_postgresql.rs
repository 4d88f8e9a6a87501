//! PostgreSQL through `qtls-client --tunnel`: programs whose libpq can't speak post-quantum TLS.

use qtls_interop::postgres::{Postgres, Psql, pgbench};
use qtls_interop::server::free_port;
use qtls_interop::tunnel::{carried, failed};
use qtls_interop::{Algorithm, Pki, Server, Tunnel, log};
use serde_json::{Value, json};

const HYBRID: &str = "X25519MLKEM768";

/// A psql 15 of this machine, which can't speak post-quantum TLS, at a tunnel.
fn psql_at(port: u16) -> Psql {
    // As libpq has it by default: it asks for encryption, and goes on without.
    Psql::old(port).set("host", "127.0.0.1").set("sslmode", "prefer").unset("sslrootcert")
}

fn postgres_tunnel(port: u16, connect: &str, more: Value) -> Value {
    let mut tunnel = json!({ "listen": format!("127.0.0.1:{port}"), "connect": connect, "starttls": "postgres" });
    qtls_interop::server::merge(&mut tunnel, more);
    json!([tunnel])
}

#[test]
fn an_old_psql_gets_a_post_quantum_link_to_a_postgresql_behind_a_server() {
    let postgres = Postgres::start();
    let logs = tempfile::tempdir().expect("the temporary directory is writable");
    let access = logs.path().join("access.log");
    let server = Server::start(json!({
        "server": { "starttls": "postgres" },
        "tls": { "pqc_only": true },
        "upstream": { "protocol": "tcp", "servers": [postgres.address()] },
        "logging": { "access_file": access, "format": "json" },
    }));
    let port = free_port();
    let tunnel =
        Tunnel::start(postgres_tunnel(port, &server.address(), json!({})), json!({ "tls": { "pqc_only": true } }));
    let answer = psql_at(port).run("select sum(n) from generate_series(1, 200000) n").expect_success();
    assert_eq!(answer.stdout, "20000100000\n");
    let line = &carried(&tunnel, 1)[0];
    assert_eq!((&line["group"], &line["alpn"]), (&json!(HYBRID), &json!("postgresql")), "{line}");
    log::wait_for(&access, 1, |line| line["event"] == "connection" && line["group"] == HYBRID && line["received"] != 0);

    // Ctrl-C: a request to cancel, on a connection of its own.
    let sleeper = psql_at(port).sleep();
    postgres.wait_for_sleepers(1);
    let interrupted = sleeper.interrupt();
    assert!(interrupted.stderr.contains("canceling statement due to user request"), "{}", interrupted.said());

    // Who insists on encryption is told that there is none here.
    let insisting = psql_at(port).set("sslmode", "require").run("select 1");
    assert!(insisting.stderr.contains("server does not support SSL"), "{}", insisting.said());

    let benched =
        pgbench(&Psql::new(port).set("sslmode", "disable").set("host", "127.0.0.1").unset("sslrootcert"), 4, 50);
    assert!(benched.stdout.contains("number of transactions actually processed: 200/200"), "{}", benched.said());
}

/// PostgreSQL 17 keeps the key exchange to the one curve of `ssl_ecdh_curve`, and knows no post-quantum name there: with it,
/// the link is TLS 1.3 and classical, which is said, and refused by who wants nothing else.
#[test]
fn an_old_psql_reaches_a_postgresql_17_that_takes_tls_itself_and_hears_that_it_is_classical() {
    let postgres = Postgres::with_tls(Pki::shared().server(Algorithm::EcdsaP384));
    let (port, strict_port) = (free_port(), free_port());
    let connect = format!("localhost:{}", postgres.port);
    let tunnel = Tunnel::start(postgres_tunnel(port, &connect, json!({})), json!({}));
    // By SCRAM, whose offer to bind the login to TLS would have libpq give up.
    let statement = "select ssl, version, cipher from pg_stat_ssl where pid = pg_backend_pid()";
    let answer = psql_at(port).run(statement).expect_success();
    assert_eq!(answer.stdout, "t|TLSv1.3|TLS_AES_256_GCM_SHA384\n", "{}", answer.stderr);
    let line = &carried(&tunnel, 1)[0];
    let negotiated = (&line["group"], &line["pq"], &line["alpn"]);
    assert_eq!(negotiated, (&json!("secp256r1"), &json!(false), &json!("postgresql")), "{line}");
    tunnel.wait_for_log(&format!("{connect} chose secp256r1, which is not post-quantum"));
    let own = tunnel.metrics();
    assert_eq!(own.sum("qtls_handshakes_total", &[("pq", "false")]), 1.0, "{}", own.text());

    let strict = json!({ "tls": { "pqc_only": true } });
    let tunnel = Tunnel::start(postgres_tunnel(strict_port, &connect, json!({})), strict);
    let refused = psql_at(strict_port).run("select 1");
    assert!(
        refused.stderr.contains("FATAL:  the peer ended the handshake with the alert HandshakeFailure"),
        "{}",
        refused.said()
    );
    assert_eq!(failed(&tunnel, 1)[0]["reason"], "handshake");
}

#[test]
fn a_unix_socket_is_where_libpq_looks_for_it_and_failures_are_told_in_its_words() {
    let postgres = Postgres::start();
    let server = Server::start(json!({
        "server": { "starttls": "postgres" },
        "upstream": { "protocol": "tcp", "servers": [postgres.address()] },
    }));
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let path = |port: u16| format!("unix:{}/.s.PGSQL.{port}", directory.path().display());
    let nobody = free_port();
    let tunnels = json!([
        { "listen": path(5432), "connect": server.address(), "starttls": "postgres" },
        { "listen": path(5433), "connect": format!("localhost:{nobody}"), "starttls": "postgres" },
        // The server takes TLS at once; the local half is told to speak plain all the same.
        { "listen": path(5434), "connect": server.address(), "local_starttls": "postgres", "alpn": ["postgresql"] },
    ]);
    let host = directory.path().display().to_string();
    let tunnel = Tunnel::start_in(directory, tunnels, json!({ "client": { "max_retries": 0 } }));
    for port in ["5432", "5434"] {
        let psql = psql_at(0).set("host", &host).set("port", port);
        assert_eq!(psql.run("select 6 * 7").expect_success().stdout, "42\n", "{}", tunnel.log());
    }
    let refused = psql_at(0).set("host", &host).set("port", "5433").run("select 1");
    let message = format!("FATAL:  can't connect to localhost:{nobody}");
    assert!(refused.stderr.contains(&message), "{}", refused.said());
    assert_eq!(failed(&tunnel, 1)[0]["reason"], "unreachable");
}
