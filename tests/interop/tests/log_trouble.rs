//! Whatever happens to the disk that the log is on, the server serves; it says on the console what is wrong, and goes on
//! with the log when it can, with the number of lines that are missing.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use qtls_interop::log::{self, refusals};
use qtls_interop::metrics::Metrics;
use qtls_interop::openssl::{Client, text};
use qtls_interop::process::{PATIENCE, Running, run};
use qtls_interop::server::{free_port, merge, write_config};
use qtls_interop::{Algorithm, Pki, Server, programs};
use serde_json::{Value, json};

/// The three files in a directory, and what the log says of each.
const FILES: [(&str, &str, &str); 3] = [
    ("file", "server.log", "log file"),
    ("access_file", "access.log", "access log file"),
    ("audit_file", "audit.log", "audit file"),
];

fn logging(directory: &Path) -> Value {
    let mut logging = json!({ "format": "json" });
    for (key, name, _) in FILES {
        logging[key] = json!(directory.join(name));
    }
    json!({ "logging": logging })
}

#[track_caller]
fn serves(server: &Server) {
    let exchange = Client::new(server.port).get("/status.json");
    assert_eq!(exchange.json()["group"], "X25519MLKEM768", "{}", exchange.finished.said());
}

/// The message of the line on the console that is `level` and contains `pattern`, as soon as it is there.
#[track_caller]
fn said(server: &Server, level: &str, pattern: &str) -> String {
    let wanted = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap_or_default();
        line["level"] == level && line["message"].as_str().is_some_and(|message| message.contains(pattern))
    };
    let line = server.process.stderr.wait_for(PATIENCE, wanted);
    let line = line.unwrap_or_else(|| panic!("no {level} with {pattern:?}:\n{}", server.log()));
    serde_json::from_str::<Value>(&line).expect("JSON")["message"].as_str().expect("a string").to_owned()
}

/// How many lines the metrics say were lost.
fn lost(server: &Server, log: &str) -> f64 {
    server.metrics().sum("qtls_log_lines_lost_total", &[("log", log)])
}

/// How many lines a log says are missing in it.
fn missing(lines: &[Value]) -> u64 {
    let about =
        |line: &&Value| line["message"] == "lines of this log could not be written" || line["event"] == "lines_missing";
    lines.iter().filter(about).map(|line| line["count"].as_u64().expect("a number")).sum()
}

#[test]
fn a_directory_that_is_missing_at_start_keeps_nobody_from_serving() {
    let root = tempfile::tempdir().expect("the temporary directory is writable");
    let directory = root.path().join("logs");
    let server = Server::start(logging(&directory));
    for (key, name, what) in FILES {
        let path = directory.join(name);
        let said = said(&server, "error", &format!("logging.{key}: "));
        let expected = format!(
            ": logging.{key}: can't open the {what} {}: there is no directory {}; hint: ",
            path.display(),
            directory.display()
        );
        assert!(said.contains("server.json:") && said.contains(&expected), "{said}");
        assert!(said.ends_with("; trying again with each line"), "{said}");
    }
    serves(&server);
    refusals(server.port, 1);
    // All of its lines, of which that of the access log is not the last one.
    server.metrics_when("a lost refusal, and its end", |metrics| {
        metrics.sum("qtls_log_lines_lost_total", &[("log", "access")]) == 2.0
            && metrics.sum("qtls_connections_active", &[]) == 0.0
    });
    let lost_lines = FILES.map(|(key, ..)| lost(&server, label(key)));
    assert!(lost_lines[0] > 2.0 && lost_lines[1] == 2.0 && lost_lines[2] > 2.0, "{lost_lines:?}");

    fs::create_dir(&directory).expect("it can be made");
    serves(&server);
    // Another worker may be quicker with the next one.
    log::connections(&directory.join("access.log"), 1);
    refusals(server.port, 1);
    log::connections(&directory.join("access.log"), 2);
    for ((_, name, what), lost) in FILES.into_iter().zip(lost_lines) {
        let path = directory.join(name);
        let expected = format!("the {what} {} is written again; {lost} lines are missing in it", path.display());
        assert_eq!(said(&server, "warn", &format!("the {what} {} is written again", path.display())), expected);
        assert_eq!(missing(&log::lines(&path)) as f64, lost, "{name}");
    }
    assert_eq!(log::connections(&directory.join("access.log"), 2)[1]["event"], "handshake_failed");
}

#[test]
fn a_test_of_the_configuration_fails_all_the_same() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
    for (file, name, what) in FILES {
        let path = directory.path().join("none").join(name);
        let certificates = json!({ "server_cert": cert, "server_key": key });
        let config =
            write_config(directory.path(), &json!({ "certificates": certificates, "logging": { file: path } }));
        let mut command = programs::command("qtls-server");
        let finished = run(command.arg("--test-config").arg("--config").arg(&config), b"").expect_code(2);
        let expected = format!(": logging.{file}: can't open the {what} {}: there is no directory ", path.display());
        assert!(finished.stderr.starts_with(&format!("qtls-server: {}:", config.display())), "{}", finished.said());
        assert!(finished.stderr.contains(&expected) && finished.stderr.contains("\n  hint: "), "{}", finished.said());
    }
}

#[test]
fn a_directory_that_goes_away_is_told_and_its_return_is_noticed() {
    let root = tempfile::tempdir().expect("the temporary directory is writable");
    let directory = root.path().join("logs");
    fs::create_dir(&directory).expect("it can be made");
    let server = Server::start(logging(&directory));
    fs::remove_dir_all(&directory).expect("it can be removed");
    serves(&server);
    refusals(server.port, 1);
    for (_, name, what) in FILES {
        let path = directory.join(name);
        let expected =
            format!("can't open the {what} {}, lines are lost: No such file or directory (os error 2)", path.display());
        assert_eq!(said(&server, "error", &format!("can't open the {what}")), expected);
    }
    // The client has its alert before the server has its line.
    server.metrics_when("both lines lost", |metrics| {
        metrics.sum("qtls_log_lines_lost_total", &[("log", "access")]) >= 2.0
    });
    let access = directory.join("access.log");
    fs::create_dir(&directory).expect("it can be made");
    serves(&server);
    log::connections(&access, 1);
    refusals(server.port, 1);
    let events: Vec<_> = log::connections(&access, 2).iter().map(|line| line["event"].clone()).collect();
    assert_eq!(events, ["connection", "handshake_failed"]);
    assert_eq!(missing(&log::lines(&access)), 2);
    assert_eq!(missing(&log::lines(&directory.join("audit.log"))), 1);
}

/// A server whose logs are on a file system of their own, and how to see it.
struct OnDisk {
    server: Server,
    directory: PathBuf,
    _root: tempfile::TempDir,
}

impl OnDisk {
    fn start(options: &str, prepare: &str) -> Self {
        Self::with(options, prepare, json!({}))
    }

    fn with(options: &str, prepare: &str, changes_of_logging: Value) -> Self {
        let root = tempfile::tempdir().expect("the temporary directory is writable");
        let directory = root.path().join("disk");
        fs::create_dir(&directory).expect("it can be made");
        let at = text(&directory);
        let mut changes = logging(&directory);
        changes["logging"]["max_size_mb"] = json!(1);
        merge(&mut changes["logging"], changes_of_logging);
        let script = format!("mount -t tmpfs -o {options} tmpfs {at}\ncd {at}\n{prepare}");
        let server = Server::start_after(&script, changes);
        Self { server, directory, _root: root }
    }

    /// What a file on it is called here.
    fn path(&self, name: &str) -> PathBuf {
        programs::path_beside(self.server.process.id(), &self.directory.join(name))
    }

    fn remount(&self, options: &str) {
        programs::run_beside(
            self.server.process.id(),
            &["mount", "-o", &format!("remount,{options}"), text(&self.directory)],
        );
    }

    fn serves(&self) {
        serves(&self.server);
    }

    /// Waits until so many handshakes have failed, and the lines about all connections are written or lost.
    #[track_caller]
    fn failures(&self, count: f64) {
        self.server.metrics_when("the last refusal, and its end", |metrics| {
            metrics.sum("qtls_handshake_failures_total", &[]) == count
                && metrics.sum("qtls_connections_active", &[]) == 0.0
        });
    }
}

#[test]
fn a_full_disk_costs_lines_and_says_how_many() {
    // The lines about connections in their own file, and in the log.
    for (files, changes) in [(&FILES[1..], json!({})), (&FILES[..1], json!({ "access_file": null }))] {
        let disk = OnDisk::with("size=256k", ":", changes);
        let filler = disk.path("filler");
        fs::write(&filler, vec![0; 1 << 20]).expect_err("the disk is small");
        refusals(disk.server.port, 30);
        for (_, name, what) in files {
            let path = disk.directory.join(name);
            let expected = format!(
                "can't write the {what} {}, lines are lost: No space left on device (os error 28)",
                path.display()
            );
            assert_eq!(said(&disk.server, "error", &format!("can't write the {what} ")), expected);
        }
        disk.serves();
        disk.failures(30.0);
        fs::remove_file(&filler).expect("it can be removed");
        disk.serves();
        refusals(disk.server.port, 1);
        disk.failures(31.0);
        for (key, name, what) in files {
            let recovered = said(&disk.server, "warn", &format!("the {what} "));
            assert!(recovered.contains(" is written again; "), "{recovered}");
            // Each of them is there or counted, and whole.
            let lines = log::lines(&disk.path(name));
            assert_eq!(missing(&lines) as f64, lost(&disk.server, label(key)));
            let event = |event: &str| lines.iter().filter(|line| line["event"] == event).count() as u64;
            match *key {
                "access_file" => {
                    assert_eq!(event("connection") + event("handshake_failed") + missing(&lines), 33, "{lines:#?}");
                }
                "audit_file" => assert_eq!(event("refusal") + missing(&lines), 31, "{lines:#?}"),
                _ => assert!(event("handshake_failed") + missing(&lines) >= 31, "{lines:#?}"),
            }
        }
    }
}

#[test]
fn a_disk_that_is_read_only_at_start_is_told_and_written_when_it_can_be() {
    // With the third file there already: that it can't be made and that it can't be written are two errors.
    let disk = OnDisk::start("size=4m", "touch audit.log\ncd /\nmount -o remount,ro \"$OLDPWD\"");
    for (key, name, what) in FILES {
        let said = said(&disk.server, "error", &format!("logging.{key}: "));
        let path = disk.directory.join(name);
        let expected = format!(
            "can't open the {what} {}: the file system is read-only; hint: under systemd's ProtectSystem=, add the directory \
             to ReadWritePaths=; in a container, mount a volume there; trying again with each line",
            path.display()
        );
        assert!(said.ends_with(&expected), "{said}");
    }
    disk.serves();
    // The client is gone before the server has its line.
    disk.server.metrics_when("a lost connection, and its end", |metrics| {
        metrics.sum("qtls_log_lines_lost_total", &[("log", "access")]) == 1.0
            && metrics.sum("qtls_connections_active", &[]) == 0.0
    });
    disk.remount("rw");
    refusals(disk.server.port, 1);
    let access = log::connections(&disk.path("access.log"), 1);
    assert_eq!((&access[0]["event"], missing(&log::lines(&disk.path("access.log")))), (&json!("handshake_failed"), 1));
    let events = log::lines(&disk.path("audit.log"));
    assert!(missing(&events) >= 3 && events.iter().any(|line| line["event"] == "refusal"), "{events:#?}");
}

#[test]
fn a_disk_that_became_read_only_keeps_the_open_files_in_use() {
    let disk = OnDisk::start("size=4m", ":");
    let at = text(&disk.directory);
    let process = disk.server.process.id();
    programs::run_beside(process, &["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", at]);
    disk.server.applies(|| disk.server.hang_up());
    for (_, name, what) in FILES {
        let said =
            said(&disk.server, "error", &format!("can't open the {what} {}", disk.directory.join(name).display()));
        assert!(said.contains(": the file system is read-only; hint: "), "{said}");
    }
    refusals(disk.server.port, 1);
    programs::run_beside(process, &["umount", at]);
    let access = log::connections(&disk.path("access.log"), 1);
    assert_eq!(access[0]["event"], "handshake_failed");
    let events = log::lines(&disk.path("audit.log"));
    assert!(events.iter().any(|line| line["event"] == "refusal") && missing(&events) == 0, "{events:#?}");
    for (key, ..) in FILES {
        assert_eq!(lost(&disk.server, label(key)), 0.0, "{key}");
    }
}

#[test]
fn a_disk_without_room_for_a_new_file_lets_the_old_one_grow() {
    const FULL: usize = (1 << 20) - 2000;
    // The root, three files, and no more.
    let prepare =
        format!("for log in server access audit; do head -c {FULL} /dev/zero | tr '\\0' '\\n' >$log.log; done");
    let disk = OnDisk::start("size=16m,nr_inodes=4", &prepare);
    refusals(disk.server.port, 30);
    for (_, name, what) in &FILES[..2] {
        let path = disk.directory.join(name);
        let expected =
            format!("can't rotate the {what} {}, it grows on: No space left on device (os error 28)", path.display());
        assert_eq!(said(&disk.server, "error", &format!("can't rotate the {what} ")), expected);
    }
    disk.serves();
    disk.failures(30.0);
    // What was rotated away takes the lines, until there is room.
    let count = |path: &Path| {
        let text = fs::read_to_string(path).expect("it is there");
        text.lines().filter(|line| line.contains("\"event\":\"handshake_failed\"")).count()
    };
    let rotated = |name: &str| {
        let entries = fs::read_dir(disk.path("")).expect("it is there").map(|entry| entry.expect("it is there").path());
        let mut all: Vec<_> = entries
            .filter(|path| path.file_name().is_some_and(|own| own.to_string_lossy().starts_with(&format!("{name}."))))
            .collect();
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    };
    let access = rotated("access.log");
    assert_eq!(count(&access), 30);
    assert!(!disk.path("access.log").exists());
    disk.remount("nr_inodes=20");
    refusals(disk.server.port, 1);
    disk.failures(31.0);
    assert_eq!(count(&disk.path("access.log")) + count(&access), 31);
    assert!(disk.path("access.log").exists());
    for (key, ..) in FILES {
        assert_eq!(lost(&disk.server, label(key)), 0.0, "{key}");
    }
    // Nobody rotates the audit log.
    assert!(fs::metadata(disk.path("audit.log")).expect("it is there").len() > 1 << 20);
}

#[test]
fn a_console_that_takes_nothing_is_counted() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let log = directory.path().join("server.log");
    let (cert, key) = Pki::shared().server(Algorithm::EcdsaP384);
    let (port, metrics_port) = (free_port(), free_port());
    let config = json!({
        "server": { "listen_address": "127.0.0.1", "listen_port": port, "worker_threads": 1 },
        "certificates": { "server_cert": cert, "server_key": key },
        "logging": { "file": log, "format": "json" },
        "metrics": { "address": "127.0.0.1", "port": metrics_port },
    });
    let file = write_config(directory.path(), &config);
    let mut command = programs::command_after("exec 2>/dev/full", "qtls-server");
    let _running = Running::start(command.arg("--config").arg(file));
    log::wait_for(&log, 1, |line| line["message"].as_str().is_some_and(|text| text.starts_with("listening on")));
    let lines = log::lines(&log).len() as f64;
    // A line is written to the file before the console loses it.
    let deadline = Instant::now() + PATIENCE;
    let metrics = loop {
        let metrics = Metrics::scrape(metrics_port);
        if metrics.sum("qtls_log_lines_lost_total", &[("log", "console")]) >= lines {
            break metrics;
        }
        assert!(Instant::now() < deadline, "of {lines} lines:\n{}", metrics.text());
        thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(metrics.sum("qtls_log_lines_lost_total", &[("log", "log")]), 0.0);
}

/// The metrics' name for what a key names.
fn label(key: &str) -> &str {
    match key {
        "file" => "log",
        other => other.trim_end_matches("_file"),
    }
}
