//! The log: one line per event, to standard error and to a file that rotates by size.
//!
//! A line is a timestamp, a level, a message, and fields as `key=value`. Whatever a peer puts into a field stays on its
//! line and in its field; what a peer sends belongs into fields, never into the message.

mod file;
mod line;

use std::io::{IsTerminal, Write};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use qtls_core::{Error, Result};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

use self::file::RotatingFile;
use self::line::Line;
use crate::config::{LogLevel, Logging};

static OUTPUT: OnceLock<Arc<Output>> = OnceLock::new();

/// Sends the events of this process where `logging` says, from now on and for good.
///
/// # Errors
/// The log file can't be opened (key `logging.file`), or this is not the first call.
pub fn init(logging: &Logging) -> Result<()> {
    let log = Log::new(logging)?;
    let output = Arc::clone(&log.output);
    tracing::subscriber::set_global_default(Registry::default().with(log))
        .map_err(|_| Error::internal("the log is set up already"))?;
    OUTPUT.get_or_init(|| output);
    Ok(())
}

/// Opens the log file anew, as is due after another program has renamed it. Nothing happens before [`init`].
///
/// # Errors
/// The file can't be opened (key `logging.file`): the log goes on in the one that is open.
pub fn reopen() -> Result<()> {
    OUTPUT.get().map_or(Ok(()), |output| output.reopen())
}

/// Whether [`init`] could open the log file. Opens and makes nothing: who tests a configuration may be another user than
/// the one who will write the log.
///
/// # Errors
/// The file, or its directory where there is no file yet, can't be written (key `logging.file`).
pub fn check(logging: &Logging) -> Result<()> {
    logging.file.as_deref().map_or(Ok(()), file::check)
}

/// The log as a layer over any subscriber. It knows events; spans and their fields have no part in it.
#[derive(Debug)]
pub struct Log {
    level: LevelFilter,
    output: Arc<Output>,
}

impl Log {
    /// The log that `logging` describes, with its file open.
    ///
    /// # Errors
    /// The log file can't be opened (key `logging.file`).
    pub fn new(logging: &Logging) -> Result<Self> {
        let file = match &logging.file {
            Some(path) => Some(RotatingFile::open(path, u64::from(logging.max_size_mb) << 20, logging.max_files)?),
            None => None,
        };
        let console = logging.console.then(Console::new);
        let level = if file.is_none() && console.is_none() { LevelFilter::OFF } else { level(logging.level) };
        Ok(Self { level, output: Arc::new(Output { file, console }) })
    }

    /// Opens the log file anew, as is due after another program has renamed it.
    ///
    /// # Errors
    /// The file can't be opened (key `logging.file`): the log goes on in the one that is open.
    pub fn reopen(&self) -> Result<()> {
        self.output.reopen()
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let limit = if is_ours(metadata.target()) { self.level } else { self.level.min(LevelFilter::WARN) };
        *metadata.level() <= limit
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut line = Line::new(SystemTime::now(), *metadata.level());
        event.record(&mut line);
        if !is_ours(metadata.target()) {
            line.field("target", metadata.target());
        }
        self.output.write(line);
    }
}

/// Where lines go.
#[derive(Debug)]
struct Output {
    file: Option<RotatingFile>,
    console: Option<Console>,
}

impl Output {
    fn write(&self, line: Line) {
        if let Some(console) = &self.console {
            console.write(&line);
        }
        let Some(file) = &self.file else { return };
        if let Some(complaint) = file.write(&line.finish()) {
            // The console has it even where it is off: there is no other place left to say it.
            let console = self.console.unwrap_or_else(Console::new);
            let mut line = Line::new(SystemTime::now(), Level::ERROR);
            line.message(&complaint);
            console.write(&line);
        }
    }

    fn reopen(&self) -> Result<()> {
        self.file.as_ref().map_or(Ok(()), RotatingFile::reopen)
    }
}

/// Standard error.
#[derive(Clone, Copy, Debug)]
struct Console {
    colour: bool,
}

impl Console {
    fn new() -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self { colour: std::io::stderr().is_terminal() && !is_set("NO_COLOR") && !dumb }
    }

    fn write(self, line: &Line) {
        let text = if self.colour { line.finish_coloured() } else { line.finish() };
        // Nobody is left to be told when standard error is gone.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Whether an event comes from a crate of this project.
fn is_ours(target: &str) -> bool {
    target.starts_with("qtls")
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tracing::{debug, error, info, trace, warn};

    use super::*;

    fn logging(path: &Path, level: LogLevel) -> Logging {
        Logging { level, file: Some(path.to_owned()), console: false, ..Logging::default() }
    }

    /// What is in the file after `events`, without timestamps.
    fn logged(level: LogLevel, events: impl FnOnce()) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.log");
        let log = Log::new(&logging(&path, level)).unwrap();
        tracing::subscriber::with_default(Registry::default().with(log), events);
        let content = std::fs::read_to_string(&path).unwrap();
        content.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
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
    fn with_no_place_to_write_to_nothing_is_even_formatted() {
        let log = Log::new(&Logging { console: false, ..Logging::default() }).unwrap();
        assert_eq!(Layer::<Registry>::max_level_hint(&log), Some(LevelFilter::OFF));
    }

    #[test]
    fn reopening_follows_the_path_after_a_rename() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.log");
        let moved = directory.path().join("moved.log");
        let log = Arc::new(Log::new(&logging(&path, LogLevel::Info)).unwrap());
        let output = Arc::clone(&log.output);
        let write = |text: &str| {
            let mut line = Line::new(SystemTime::now(), Level::INFO);
            line.message(&text);
            output.write(line);
        };
        write("one");
        std::fs::rename(&path, &moved).unwrap();
        write("two");
        log.reopen().unwrap();
        write("three");
        let read = |path| std::fs::read_to_string(path).unwrap();
        assert!(read(&moved).contains("one") && read(&moved).contains("two"), "{}", read(&moved));
        assert!(read(&path).ends_with(" INFO  three\n") && read(&path).lines().count() == 1, "{}", read(&path));
    }
}
