//! The log rotates by size, and by logrotate beside it, while it is written without a pause: no line is lost or doubled.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use qtls_interop::log::{self, refuse};
use qtls_interop::openssl::text;
use qtls_interop::process::{PATIENCE, run};
use qtls_interop::{Server, programs};
use serde_json::{Value, json};

/// As many clients at once as write without a pause.
const WRITERS: usize = 4;

/// Has clients refused, each of which asks for another name, until `until` is true; returns how many there were.
fn write_while(port: u16, until: impl FnOnce()) -> u32 {
    let (next, done) = (AtomicU32::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                while !done.load(Relaxed) {
                    refuse(port, &name(next.fetch_add(1, Relaxed)));
                }
            });
        }
        until();
        done.store(true, Relaxed);
    });
    next.load(Relaxed)
}

fn name(number: u32) -> String {
    format!("n{number:07}.example")
}

/// The whole lines in all files of the directory whose name begins with `log`, compressed ones included.
fn everything(directory: &Path, log: &str) -> String {
    let mut all = String::new();
    for path in files(directory, log) {
        let program = if path.extension().is_some_and(|extension| extension == "gz") { "zcat" } else { "cat" };
        let text = run(Command::new(program).arg(&path), b"").expect_success().stdout;
        // A line may be read before it is written to its end.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        all += &text[..whole];
    }
    all
}

fn files(directory: &Path, log: &str) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(directory).expect("it is a directory").map(|entry| entry.expect("it can be read").path());
    let ours = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(log));
    let mut files: Vec<_> = entries.filter(ours).collect();
    files.sort();
    files
}

/// Asserts that of `count` clients each has one line with `"event":"EVENT"` in the files of `log`, and that every line is
/// whole.
#[track_caller]
fn assert_each_once(directory: &Path, log: &str, event: &str, count: u32) {
    let deadline = Instant::now() + PATIENCE;
    let seen = loop {
        let mut seen: BTreeMap<String, u32> = BTreeMap::new();
        let text = everything(directory, log);
        for line in text.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if line["event"] == event {
                *seen.entry(line["server_name"].as_str().expect("a name").to_owned()).or_default() += 1;
            }
        }
        // The last clients had their answer before their lines were written.
        if seen.len() as u32 >= count || Instant::now() > deadline {
            break seen;
        }
        thread::sleep(Duration::from_millis(50));
    };
    let lost: Vec<_> = (0..count).map(name).filter(|name| !seen.contains_key(name)).collect();
    let doubled: Vec<_> = seen.iter().filter(|(_, times)| **times > 1).collect();
    assert!(lost.is_empty() && doubled.is_empty(), "of {count}, lost: {lost:?}, doubled: {doubled:?}");
    assert_eq!(seen.len() as u32, count);
}

/// The stanza of docs/OPERATIONS.md, for the logs in `directory` and a server without a unit.
fn stanza(directory: &Path, server: &Server) -> String {
    let document = fs::read_to_string(programs::repository().join("docs/OPERATIONS.md")).expect("it is there");
    let stanza =
        document.split_once("```logrotate\n").expect("there is a stanza").1.split_once("```").expect("it ends").0;
    let pattern = "/var/log/qtls/*.log";
    let create = "create 0640 qtls qtls";
    let reload = "systemctl reload qtls-server > /dev/null 2>&1 || true";
    for part in [pattern, create, reload, "delaycompress"] {
        assert!(stanza.contains(part), "{part}:\n{stanza}");
    }
    stanza
        .replace(pattern, &format!("{}/*.log", directory.display()))
        // Whoever runs this test.
        .replace(create, "create 0640")
        .replace(reload, &format!("kill -HUP {}", server.process.id()))
}

fn logging(directory: &Path) -> Value {
    json!({ "logging": {
        "format": "json", "file": directory.join("server.log"), "max_size_mb": 1, "max_files": 1000,
        "access_file": directory.join("access.log"), "audit_file": directory.join("audit.log"),
    } })
}

#[test]
fn logrotate_beside_rotation_by_size_loses_and_doubles_nothing() {
    const TIMES: usize = 12;
    let root = tempfile::tempdir().expect("the temporary directory is writable");
    let directory = root.path().join("logs");
    fs::create_dir(&directory).expect("it can be made");
    let server = Server::start(logging(&directory));
    let configuration = root.path().join("logrotate.conf");
    fs::write(&configuration, stanza(&directory, &server)).expect("it is writable");
    let state = root.path().join("state");
    let rotated_by_size = || files(&directory, "access.log.2").len() - compressed(&directory, "access.log.2");
    let count = write_while(server.port, || {
        for _ in 0..TIMES {
            let (applied, _) = server.reloads();
            let mut logrotate = Command::new("logrotate");
            logrotate.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(["--force", "--state", text(&state)]);
            run(logrotate.arg(&configuration), b"").expect_success();
            server.metrics_when("the reload", |metrics| {
                metrics.sum("qtls_reloads_total", &[("result", "applied")]) > applied
            });
        }
        // Also by size, several times.
        let deadline = Instant::now() + 4 * PATIENCE;
        while rotated_by_size() < 2 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(50));
        }
    });
    assert!(rotated_by_size() >= 2, "{:?}", files(&directory, "access.log"));
    assert!(compressed(&directory, "access.log") >= TIMES - 2, "{:?}", files(&directory, "access.log"));
    assert_each_once(&directory, "access.log", "handshake_failed", count);
    assert_each_once(&directory, "audit.log", "refusal", count);
    for (log, lost) in [("log", 0.0), ("access", 0.0), ("audit", 0.0), ("console", 0.0)] {
        assert_eq!(server.metrics().sum("qtls_log_lines_lost_total", &[("log", log)]), lost, "{log}");
    }
}

fn compressed(directory: &Path, log: &str) -> usize {
    files(directory, log).iter().filter(|path| path.extension().is_some_and(|extension| extension == "gz")).count()
}

#[test]
fn a_name_that_moves_away_is_left_only_at_the_signal_and_also_where_the_configuration_is_bad() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let server = Server::start(logging(directory.path()));
    server.rewrite_config(json!({ "tls": { "pqc_only": 3 } }));
    let mut number = 0;
    for rotation in 1..=3 {
        let moved = |log: &str| directory.path().join(format!("{log}.{rotation}"));
        for log in ["server.log", "access.log", "audit.log"] {
            fs::rename(directory.path().join(log), moved(log)).expect("it can be renamed");
        }
        refuse(server.port, &name(number));
        // The client has its alert before the server has its lines.
        for log in ["access.log", "audit.log"] {
            log::wait_for(&moved(log), 1, |line| line["server_name"] == name(number));
        }
        let refusal = server.refuses(|| server.hang_up());
        assert!(refusal.contains("tls.pqc_only"), "{refusal}");
        refuse(server.port, &name(number + 1));
        number += 2;
        for log in ["access.log", "audit.log"] {
            assert_each_once(
                directory.path(),
                log,
                if log == "audit.log" { "refusal" } else { "handshake_failed" },
                number,
            );
            let before = fs::read_to_string(moved(log)).expect("it is there");
            assert!(before.contains(&name(number - 2)) && !before.contains(&name(number - 1)), "{before}");
        }
        assert!(directory.path().join("server.log").exists());
    }
}

#[test]
fn no_more_files_than_configured_are_kept_and_the_newest_of_them() {
    let directory = tempfile::tempdir().expect("the temporary directory is writable");
    let mut changes = logging(directory.path());
    changes["logging"]["max_files"] = json!(2);
    // Two that are there already: the older one is one too many as soon as there is a new one.
    for stamp in ["20200101T000000.000Z", "20200102T000000.000Z"] {
        fs::write(directory.path().join(format!("access.log.{stamp}")), "{}\n").expect("it is writable");
    }
    fs::write(directory.path().join("access.log"), "{}\n".repeat(350_000)).expect("it is writable");
    let server = Server::start(changes);
    refuse(server.port, &name(0));
    log::connections(&directory.path().join("access.log"), 1);
    let files = files(directory.path(), "access.log");
    let names: Vec<_> = files.iter().map(|path| text(Path::new(path.file_name().expect("a name")))).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names[0] == "access.log" && names[1] > "access.log.2026", "{names:?}");
    assert_eq!(fs::metadata(&files[1]).expect("it is there").len(), 3 * 350_000);
}
