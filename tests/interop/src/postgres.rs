//! PostgreSQL 17 of the peers, and its clients: psql 17 with OpenSSL 3.5, psql 15 of this machine with OpenSSL 3.0.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::hosts::Host;
use crate::openssl::text;
use crate::peers;
use crate::pki::Pki;
use crate::process::{Finished, PATIENCE, Running, run, run_within};
use crate::server::free_port;

/// Where the programs of PostgreSQL 17 are in the peers' Debian.
const PROGRAMS: &str = "/usr/lib/postgresql/17/bin";
/// The password of its one user, which is authenticated by SCRAM-SHA-256.
pub const PASSWORD: &str = "not-a-secret";

/// A PostgreSQL 17 server on 127.0.0.1, which keeps nothing.
#[derive(Debug)]
pub struct Postgres {
    process: Running,
    _work: TempDir,
    /// The port that it listens on.
    pub port: u16,
}

impl Postgres {
    /// Starts one that takes no TLS.
    pub fn start() -> Self {
        Self::with(&[])
    }

    /// Starts one that takes TLS with this certificate and key.
    pub fn with_tls((cert, key): (PathBuf, PathBuf)) -> Self {
        let files = [(cert, "server.crt"), (key, "server.key")];
        Self::starting(None, free_port(), &["-c", "ssl=on"], &files)
    }

    /// Starts one with these options of `postgres`.
    pub fn with(options: &[&str]) -> Self {
        Self::starting(None, free_port(), options, &[])
    }

    /// Starts one that takes no TLS, on this port of a host.
    pub fn on(host: &Host, port: u16) -> Self {
        Self::starting(Some(host), port, &[], &[])
    }

    fn starting(host: Option<&Host>, port: u16, options: &[&str], files: &[(PathBuf, &str)]) -> Self {
        let work = tempfile::tempdir().expect("the temporary directory is writable");
        let data = work.path().join("data");
        std::fs::write(work.path().join("password"), PASSWORD).expect("the temporary directory is writable");
        for (file, name) in files {
            std::fs::copy(file, work.path().join(name)).expect("the certificate is readable");
        }
        let script = r#"
            programs=$1 work=$2 port=$3
            shift 3
            "$programs/initdb" --pgdata "$work/data" --auth scram-sha-256 --username postgres --pwfile "$work/password" \
                --no-sync --no-locale --encoding UTF8 >/dev/null
            for name in server.crt server.key; do
                [ ! -e "$work/$name" ] || install -m 0600 "$work/$name" "$work/data/$name"
            done
            exec "$programs/postgres" -D "$work/data" -c listen_addresses=127.0.0.1 -c port="$port" \
                -c unix_socket_directories= -c fsync=off -c shared_buffers=16MB -c log_connections=on "$@"
        "#;
        let mut command = peers::debian_as("postgres", "sh", [work.path()]);
        command.args(["-euc", script, "sh", PROGRAMS, text(work.path()), &port.to_string()]).args(options);
        if let Some(host) = host {
            command = host.command(&command);
        }
        let process = Running::start(&mut command);
        let ready = "database system is ready to accept connections";
        let found = process.stderr.wait_for(2 * PATIENCE, |line| line.contains(ready));
        assert!(found.is_some(), "PostgreSQL doesn't start in {}\n{}", data.display(), process.said());
        Self { process, _work: work, port }
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.stderr.text()
    }

    /// Runs one statement, without TLS and past everything that stands before it.
    #[track_caller]
    pub fn ask(&self, statement: &str) -> String {
        let mut psql = Psql::new(self.port).set("sslmode", "disable").query(statement);
        run(&mut psql, b"").expect_success().stdout.trim_end().to_owned()
    }

    /// Waits until exactly `count` sessions sleep in `pg_sleep`.
    ///
    /// # Panics
    /// When that isn't so within [`PATIENCE`].
    #[track_caller]
    pub fn wait_for_sleepers(&self, count: usize) {
        // The server itself waits for what changes: a program a look would take longer than the looks.
        let statement = format!(
            "do $$ declare begin for look in 1..600 loop \
               if (select count(*) from pg_stat_activity where state = 'active' and query = '{SLEEP}') = {count} then \
                 return; end if; \
               perform pg_stat_clear_snapshot(); perform pg_sleep(0.05); \
             end loop; raise exception 'there are other sleepers'; end $$"
        );
        let mut psql = Psql::new(self.port).set("sslmode", "disable").query(&statement);
        run_within(&mut psql, b"", 2 * PATIENCE).expect_success();
    }
}

/// A statement that takes longer than any test.
pub const SLEEP: &str = "select pg_sleep(60)";

/// What a client of PostgreSQL is told: `key=value` pairs (libpq, "Connection Strings").
#[derive(Clone, Debug)]
pub struct Psql {
    pairs: Vec<(String, String)>,
    old: bool,
}

impl Psql {
    /// psql 17, to a port of `localhost`, which it verifies wholly under the shared certificates.
    pub fn new(port: u16) -> Self {
        let ca = Pki::shared().ca();
        let pairs = [
            ("host", "localhost"),
            ("port", &port.to_string()),
            ("user", "postgres"),
            ("dbname", "postgres"),
            ("password", PASSWORD),
            ("sslmode", "verify-full"),
            ("sslrootcert", text(&ca)),
            ("connect_timeout", "30"),
        ];
        Self { pairs: pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec(), old: false }
    }

    /// psql 15 of this machine, which knows no post-quantum algorithm.
    ///
    /// # Panics
    /// When this machine has another one.
    pub fn old(port: u16) -> Self {
        static CHECKED: LazyLock<()> = LazyLock::new(|| {
            let version = run(Command::new("psql").arg("--version"), b"").expect_success().stdout;
            assert!(version.contains(" 15."), "needs psql 15 as in Debian 12; this is {version}");
        });
        LazyLock::force(&CHECKED);
        Self { old: true, ..Self::new(port) }
    }

    /// Sets a pair.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.pairs.retain(|(known, _)| known != key);
        self.pairs.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Leaves a pair out.
    #[must_use]
    pub fn unset(mut self, key: &str) -> Self {
        self.pairs.retain(|(known, _)| known != key);
        self
    }

    /// The connection string.
    pub fn connection(&self) -> String {
        self.pairs.iter().map(|(key, value)| format!("{key}='{value}'")).collect::<Vec<_>>().join(" ")
    }

    /// A command that prints what a statement returns.
    pub fn query(&self, statement: &str) -> Command {
        let mut command = if self.old { Command::new("psql") } else { program("psql") };
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PG")) {
            command.env_remove(variable);
        }
        command.args(["--no-psqlrc", "--no-align", "--tuples-only", "--no-password"]);
        command.args(["--dbname", &self.connection(), "--command", statement]);
        command
    }

    /// Runs a statement.
    pub fn run(&self, statement: &str) -> Finished {
        run(&mut self.query(statement), b"")
    }

    /// Starts [`SLEEP`].
    pub fn sleep(&self) -> Sleeper {
        Sleeper { running: Running::start(&mut self.query(SLEEP)), old: self.old }
    }
}

/// A psql that waits for [`SLEEP`].
#[derive(Debug)]
pub struct Sleeper {
    running: Running,
    old: bool,
}

impl Sleeper {
    /// Whether it still waits.
    pub fn is_running(&mut self) -> bool {
        self.running.is_running()
    }

    /// Interrupts it, as Ctrl-C does, and waits for its end.
    ///
    /// # Panics
    /// When it doesn't end within [`PATIENCE`].
    #[track_caller]
    pub fn interrupt(self) -> Finished {
        if self.old {
            self.running.signal(Signal::INT);
        } else {
            // What was started is the namespace's keeper; its one child is psql, and the first process inside.
            let keeper = self.running.id();
            let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).expect("it runs");
            let psql = children.trim().parse().ok().and_then(Pid::from_raw).expect("it has one child");
            kill_process(psql, Signal::INT).expect("psql runs");
        }
        self.running.finish(PATIENCE)
    }
}

/// Prepares the tables of pgbench at this connection, and runs it: `clients` at the same time, `transactions` each.
pub fn pgbench(connection: &Psql, clients: u32, transactions: u32) -> Finished {
    let patience = Duration::from_secs(180);
    let mut initialise = program("pgbench");
    initialise.args(["--initialize", "--quiet", &connection.connection()]);
    run_within(&mut initialise, b"", patience).expect_success();
    let mut command = program("pgbench");
    command.args(["--client", &clients.to_string(), "--transactions", &transactions.to_string()]);
    // Each transaction on a connection of its own would test the handshake alone.
    command.args(["--no-vacuum", "--protocol=prepared", &connection.connection()]);
    run_within(&mut command, b"", patience).expect_success()
}

fn program(name: &str) -> Command {
    peers::debian(&format!("{PROGRAMS}/{name}"), [Pki::shared().directory()])
}
