use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tracing::{debug, error, info, trace, warn};

use super::*;

fn logging(path: &Path, level: LogLevel) -> Logging {
    Logging { level, file: Some(path.to_owned()), console: false, ..Logging::default() }
}

/// What is in the file after `events`.
fn written(logging: Logging, path: &Path, events: impl FnOnce()) -> String {
    let (log, errors) = Log::new(&logging);
    assert_eq!(errors, []);
    tracing::subscriber::with_default(Registry::default().with(log), events);
    fs::read_to_string(path).unwrap()
}

/// The lines of the file after `events`, without timestamps.
fn logged(level: LogLevel, events: impl FnOnce()) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("server.log");
    let content = written(logging(&path, level), &path, events);
    content.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

#[test]
fn the_level_is_the_least_important_that_is_logged() {
    let all = || {
        error!("e");
        warn!("w");
        info!("i");
        debug!("d");
        trace!("t");
    };
    let expected = ["ERROR e", "WARN  w", "INFO  i", "DEBUG d", "TRACE t"];
    for (count, level) in
        [LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace].into_iter().enumerate()
    {
        assert_eq!(logged(level, all), expected[..=count], "{level}");
    }
}

#[test]
fn dependencies_are_heard_from_warn_and_named() {
    let theirs = || {
        error!(target: "hyper::proto", "e");
        warn!(target: "hyper::proto", "w");
        info!(target: "hyper::proto", "i");
        trace!(target: "hyper::proto", "t");
    };
    let expected = ["ERROR e target=hyper::proto", "WARN  w target=hyper::proto"];
    assert_eq!(logged(LogLevel::Trace, theirs), expected);
    assert_eq!(logged(LogLevel::Warn, theirs), expected);
    assert_eq!(logged(LogLevel::Error, theirs), expected[..1]);
}

#[test]
fn fields_follow_the_message_in_their_order() {
    let lines = logged(LogLevel::Info, || {
        let error = std::io::Error::other("no route");
        info!(peer = %"10.0.0.1:5", port = 8443_u16, ok = true, error = &error as &dyn std::error::Error, r#type = "x", "closed");
    });
    assert_eq!(lines, [r#"INFO  closed peer=10.0.0.1:5 port=8443 ok=true error="no route" type=x"#]);
}

#[test]
fn a_server_name_from_a_peer_can_forge_nothing() {
    let forged = "a\n2026-11-22T10:00:00.000Z INFO  forged \"x\"=1\x1b[2J\u{9b}31m\u{2028}\u{202e}\0";
    let lines = logged(LogLevel::Info, || info!(sni = forged, "refused"));
    assert_eq!(
        lines,
        [concat!(
            r#"INFO  refused sni="a\n2026-11-22T10:00:00.000Z INFO  forged \"x\"=1\u{1b}[2J\u{9b}31m"#,
            r#"\u{2028}\u{202e}\0""#
        )]
    );
}

#[test]
fn json_has_the_types_of_the_fields_and_a_peer_can_forge_nothing_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("server.log");
    let forged = "a\",\"level\":\"error\"}\n{\"forged\":true}\u{202e}";
    let logging = Logging { format: LogFormat::Json, ..logging(&path, LogLevel::Info) };
    let content = written(logging, &path, || {
        let none: Option<u64> = None;
        info!(
            sni = forged,
            port = 8443_u16,
            offset = -3,
            ok = true,
            share = 0.5,
            none,
            large = u128::from(u64::MAX),
            "m"
        );
    });
    let mut value: Value = serde_json::from_str(&content).unwrap();
    let timestamp = value.as_object_mut().unwrap().remove("timestamp").unwrap();
    assert!(
        content.starts_with(&format!("{{\"timestamp\":{timestamp},\"level\":\"info\",\"message\":\"m\",")),
        "{content}"
    );
    let large = u64::MAX;
    let expected = json!({ "level": "info", "message": "m", "sni": forged, "port": 8443, "offset": -3, "ok": true,
        "share": 0.5, "large": large });
    assert_eq!(value, expected);
    assert_eq!(content.matches('\n').count(), 1);
}

#[test]
fn with_no_place_to_write_to_nothing_is_even_formatted() {
    let (log, _) = Log::new(&Logging { console: false, ..Logging::default() });
    assert_eq!(Layer::<Registry>::max_level_hint(&log), Some(LevelFilter::OFF));
    let output = log.output.load();
    output.access(Level::ERROR, |_| panic!("nobody will see it"));
    output.audit(|_| panic!("nobody will see it"));
}

/// An output with everything in a directory of its own, and the paths of its three files.
fn with_all_files(changes: impl FnOnce(&mut Logging)) -> (tempfile::TempDir, Logging, [PathBuf; 3]) {
    let directory = tempfile::tempdir().unwrap();
    let paths = ["server.log", "access.log", "audit.log"].map(|name| directory.path().join(name));
    let [file, access, audit] = paths.clone();
    let mut logging = logging(&file, LogLevel::Warn);
    (logging.access_file, logging.audit_file) = (Some(access), Some(audit));
    changes(&mut logging);
    (directory, logging, paths)
}

fn say(text: &'static str) -> impl Fn(&mut Record) {
    move |record| record.say(text)
}

#[test]
fn lines_of_connections_have_their_file_whatever_the_level_or_are_in_the_log_with_its() {
    let (_directory, mut logging, [file, access, _]) = with_all_files(|_| ());
    let output = Output::new(&logging, None).0;
    assert_eq!(output.access_log(), AccessLog::Own);
    output.access(Level::INFO, say("a connection"));
    assert!(read(&access).ends_with(" INFO  a connection\n"), "{}", read(&access));
    assert_eq!(read(&file), "");

    logging.access_file = None;
    let output = Output::new(&logging, None).0;
    assert_eq!(output.access_log(), AccessLog::Shared);
    output.access(Level::INFO, |_| panic!("nobody will see it"));
    output.access(Level::WARN, say("a refusal"));
    assert!(read(&file).ends_with(" WARN  a refusal\n"), "{}", read(&file));

    logging.access = false;
    let output = Output::new(&logging, None).0;
    assert_eq!(output.access_log(), AccessLog::Off);
    output.access(Level::ERROR, |_| panic!("nobody will see it"));
    assert_eq!(read(&file).lines().count(), 1);
}

#[test]
fn the_audit_log_is_json_whatever_the_format() {
    let (_directory, logging, [_, _, audit]) = with_all_files(|_| ());
    let output = Output::new(&logging, None).0;
    output.audit(|record| {
        record.say("start");
        record.number("pid", 7);
    });
    let line: Value = serde_json::from_str(&read(&audit)).unwrap();
    assert_eq!((&line["event"], &line["pid"], &line["level"]), (&json!("start"), &json!(7), &Value::Null));
}

#[test]
fn reopening_follows_each_path_after_a_rename() {
    let (directory, logging, paths) = with_all_files(|_| ());
    let output = Output::new(&logging, None).0;
    let write = |text: &'static str| {
        Record::with(Level::WARN, |record| {
            record.say(text);
            output.write(record);
        });
        output.access(Level::INFO, say(text));
        output.audit(say(text));
    };
    let moved = paths.each_ref().map(|path| path.with_extension("1"));
    write("one");
    for (path, moved) in paths.iter().zip(&moved) {
        fs::rename(path, moved).unwrap();
    }
    write("two");
    output.reopen().unwrap();
    write("three");
    for (path, moved) in paths.iter().zip(&moved) {
        assert!(read(moved).contains("one") && read(moved).contains("two"), "{}", read(moved));
        assert!(read(path).contains("three") && read(path).lines().count() == 1, "{}", read(path));
    }
    // One that can't be opened keeps the others from nothing.
    fs::rename(&paths[0], &moved[0]).unwrap();
    fs::rename(&paths[1], &moved[1]).unwrap();
    fs::create_dir(&paths[0]).unwrap();
    let error = output.reopen().unwrap_err();
    assert_eq!(error.key_path(), Some("logging.file"));
    write("four");
    assert!(read(&moved[0]).contains("four") && read(&paths[1]).contains("four"), "{}", directory.path().display());
}

#[test]
fn what_cannot_be_opened_is_in_the_log_and_comes_back() {
    let (directory, mut logging, [file, ..]) = with_all_files(|_| ());
    let audit = directory.path().join("none/audit.log");
    logging.audit_file = Some(audit.clone());
    let (output, errors) = Output::new(&logging, None);
    assert_eq!(errors.iter().map(|error| error.key_path()).collect::<Vec<_>>(), [Some("logging.audit_file")]);
    output.complain(errors, |error| error.at("server.json:1:5"));
    let expected = format!(
        " ERROR server.json:1:5: logging.audit_file: can't open the audit file {}: there is no directory {}; hint: create \
         the directory, owned by the user that runs the program, or remove the key to have no audit log; trying again with \
         each line\n",
        audit.display(),
        audit.parent().unwrap().display()
    );
    assert!(read(&file).ends_with(&expected), "{}", read(&file));
    output.audit(say("lost"));
    fs::create_dir(audit.parent().unwrap()).unwrap();
    output.audit(say("start"));
    let events: Vec<Value> = read(&audit).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&events[0]["event"], &events[0]["count"]), (&json!("lines_missing"), &json!(1)));
    assert_eq!((events.len(), &events[1]["event"]), (2, &json!("start")));
    assert!(read(&file).contains("is written again; 1 line is missing in it"), "{}", read(&file));
}

#[test]
fn a_change_keeps_what_is_the_same() {
    let (directory, mut logging, [file, ..]) = with_all_files(|_| ());
    let before = Output::new(&logging, None).0;
    // The open file, not one that is opened at this path anew.
    let moved = directory.path().join("moved");
    fs::rename(&file, &moved).unwrap();
    logging.format = LogFormat::Json;
    logging.access_file = Some(directory.path().join("other.log"));
    let (after, errors) = Output::new(&logging, Some(&before));
    assert_eq!(errors, []);
    Record::with(Level::WARN, |record| after.write(record));
    after.access(Level::INFO, say("m"));
    assert!(read(&moved).starts_with("{\"timestamp\":") && !file.exists(), "{}", read(&moved));
    assert_eq!(read(&directory.path().join("other.log")).lines().count(), 1);
}
