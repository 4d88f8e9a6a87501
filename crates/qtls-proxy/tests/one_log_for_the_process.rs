//! The log of the process is set up once, and its file can be opened anew.
//!
//! One test, since a process has one log.

use qtls_proxy::config::{LogLevel, Logging};
use qtls_proxy::observe::logs;
use tracing::{debug, info};

#[test]
fn one_log_for_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let (path, moved) = (directory.path().join("server.log"), directory.path().join("server.log.1"));
    logs::reopen().unwrap();

    let missing = directory.path().join("none").join("server.log");
    let logging =
        |file: &std::path::Path| Logging { file: Some(file.to_owned()), console: false, ..Logging::default() };
    let error = logs::check(&logging(&missing)).unwrap_err();
    assert_eq!((error.key_path(), error.exit_code()), (Some("logging.file"), 2));

    logs::init(&logging(&path), |error| error).unwrap();
    info!(target: "qtls_proxy::test", "first");
    debug!(target: "qtls_proxy::test", "not at this level");
    assert_eq!(logs::init(&logging(&path), |error| error).unwrap_err().message(), "the log is set up already");

    std::fs::rename(&path, &moved).unwrap();
    std::thread::spawn(|| info!(target: "qtls_proxy::test", "second")).join().unwrap();
    logs::reopen().unwrap();
    info!(target: "qtls_proxy::test", "third");

    // What was decided for each event is decided anew.
    let debugging = Logging { level: LogLevel::Debug, ..logging(&path) };
    logs::change(&debugging, |error| error);
    debug!(target: "qtls_proxy::test", "fourth");
    for level in [LogLevel::Info, LogLevel::Debug] {
        logs::change(&Logging { level, ..logging(&path) }, |error| error);
        said_at_debug();
    }

    let messages = |path| -> Vec<String> {
        let content: String = std::fs::read_to_string(path).unwrap();
        content.lines().map(|line| line.rsplit(' ').next().unwrap().to_owned()).collect()
    };
    assert_eq!(messages(&moved), ["first", "second"]);
    assert_eq!(messages(&path), ["third", "fourth", "fifth"]);
}

fn said_at_debug() {
    debug!(target: "qtls_proxy::test", "fifth");
}
