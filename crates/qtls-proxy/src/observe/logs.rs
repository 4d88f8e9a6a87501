//! The log: one line per event, to standard error, to the journal, and to files.
//!
//! An event is a timestamp, a level, a message, and fields with their types, shown as text or as JSON. Whatever a peer
//! puts into a field stays on its line and in its field; what a peer sends belongs into fields, never into the message.

mod console;
pub(crate) mod counts;
mod file;
mod journal;
mod json;
mod record;
mod rotated;
mod text;

use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use qtls_core::{Error, Result};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;

use crate::config::{LogFormat, LogLevel, Logging};

pub(crate) use counts::{Counts, suppressed};
pub(crate) use record::Record;

use console::Console;
use file::{Kind, LogFile, Notice, Rotation};

static LOGS: OnceLock<Arc<ArcSwap<Output>>> = OnceLock::new();

/// Sends the events of this process where `logging` says, from now on and for good.
///
/// A file that can't be opened keeps nobody from serving: `trouble` makes of each such error (its key is set) what is
/// said about it on the console, also where that is off; every line tries to open the file again.
///
/// # Errors
/// This is not the first call.
pub fn init(logging: &Logging, trouble: impl Fn(Error) -> Error) -> Result<()> {
    let (log, errors) = Log::new(logging);
    let output = Arc::clone(&log.output);
    tracing::subscriber::set_global_default(Registry::default().with(log))
        .map_err(|_| Error::internal("the log is set up already"))?;
    LOGS.get_or_init(|| Arc::clone(&output));
    output.load().complain(errors, trouble);
    Ok(())
}

/// Goes on as another `logging` says: the same files stay open. As for [`init`], what can't be opened is told and tried
/// again. Nothing happens before [`init`].
pub fn change(logging: &Logging, trouble: impl Fn(Error) -> Error) {
    let Some(current) = LOGS.get() else { return };
    let (output, errors) = Output::new(logging, Some(&current.load()));
    current.store(Arc::new(output));
    // tracing remembers which events nobody wants.
    tracing::callsite::rebuild_interest_cache();
    current.load().complain(errors, trouble);
}

/// Leaves the paths of log files alone until [`release`]: what is open is written, and nothing is opened or rotated. For
/// a process that is about to give up rights.
pub fn hold() {
    file::hold(true);
}

/// Ends [`hold`].
pub fn release() {
    file::hold(false);
}

/// Opens the log files anew, as is due after another program has renamed them. Nothing happens before [`init`].
///
/// # Errors
/// A file can't be opened: what goes there goes on in the one that is open. Where several can't, the others are in the
/// log.
pub fn reopen() -> Result<()> {
    LOGS.get().map_or(Ok(()), |output| output.load().reopen())
}

/// Whether [`init`] could open the log files. Opens and makes nothing: who tests a configuration may be another user than
/// the one who will write the log.
///
/// # Errors
/// A file, or its directory where there is no file yet, can't be written. The error has its key.
pub fn check(logging: &Logging) -> Result<()> {
    files(logging).try_for_each(|(kind, path)| file::check(path, kind))
}

/// Where the lines of connections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AccessLog {
    /// There are none.
    Off,
    /// Into the log, among all others.
    Shared,
    /// Into a file of their own.
    Own,
}

/// Where the lines of connections go. Before [`init`] there are none.
pub(crate) fn access_log() -> AccessLog {
    LOGS.get().map_or(AccessLog::Off, |output| output.load().access_log())
}

/// Writes a line about a connection to where these go. Nothing is put together where nobody would see it.
pub(crate) fn access(level: Level, fill: impl FnOnce(&mut Record)) {
    if let Some(output) = LOGS.get() {
        output.load().access(level, fill);
    }
}

/// Whether there is an audit log, so that it is worth finding out what to say in it.
pub(crate) fn has_audit_log() -> bool {
    LOGS.get().is_some_and(|output| output.load().audit.is_some())
}

/// Writes a line of the audit log, if there is one.
pub(crate) fn audit(fill: impl FnOnce(&mut Record)) {
    if let Some(output) = LOGS.get() {
        output.load().audit(fill);
    }
}

/// The log as a layer over any subscriber. It knows events; spans and their fields have no part in it.
#[derive(Debug)]
pub struct Log {
    output: Arc<ArcSwap<Output>>,
}

impl Log {
    /// The log that `logging` describes, and why files of it can't be opened.
    pub fn new(logging: &Logging) -> (Self, Vec<Error>) {
        let (output, errors) = Output::new(logging, None);
        (Self { output: Arc::new(ArcSwap::from_pointee(output)) }, errors)
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let level = self.output.load().level;
        let limit = if is_ours(metadata.target()) { level } else { level.min(LevelFilter::WARN) };
        *metadata.level() <= limit
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.output.load().level)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        Record::with(*metadata.level(), |record| {
            event.record(record);
            if !is_ours(metadata.target()) {
                record.text("target", metadata.target());
            }
            self.output.load().write(record);
        });
    }
}

/// Where lines go.
#[derive(Debug)]
pub(crate) struct Output {
    level: LevelFilter,
    format: LogFormat,
    console: Option<Arc<Console>>,
    log: Option<Arc<LogFile>>,
    /// Whether there are lines about connections.
    connections: bool,
    access: Option<Arc<LogFile>>,
    audit: Option<Arc<LogFile>>,
}

impl Output {
    /// What was open before stays open, where it is the same.
    fn new(logging: &Logging, before: Option<&Self>) -> (Self, Vec<Error>) {
        let rotation = Rotation { max_size: u64::from(logging.max_size_mb) << 20, max_files: logging.max_files };
        let mut errors = Vec::new();
        let (mut log, mut access, mut audit) = (None, None, None);
        for (kind, path) in files(logging) {
            let (slot, known, rotation) = match kind {
                Kind::Log => (&mut log, before.and_then(|before| before.log.as_ref()), Some(rotation)),
                Kind::Access => (&mut access, before.and_then(|before| before.access.as_ref()), Some(rotation)),
                Kind::Audit => (&mut audit, before.and_then(|before| before.audit.as_ref()), None),
            };
            *slot = Some(match known.filter(|known| known.path() == path) {
                Some(known) => {
                    known.set_rotation(rotation);
                    Arc::clone(known)
                }
                None => {
                    let (file, error) = LogFile::new(path, kind, rotation);
                    errors.extend(error);
                    Arc::new(file)
                }
            });
        }
        let console = logging.console.then(|| {
            let known = before.and_then(|before| before.console.clone());
            known.unwrap_or_else(|| Arc::new(Console::new()))
        });
        let level = if log.is_none() && console.is_none() { LevelFilter::OFF } else { level(logging.level) };
        (Self { level, format: logging.format, console, log, connections: logging.access, access, audit }, errors)
    }

    fn access_log(&self) -> AccessLog {
        match (self.connections, &self.access) {
            (false, _) => AccessLog::Off,
            (true, None) => AccessLog::Shared,
            (true, Some(_)) => AccessLog::Own,
        }
    }

    fn access(&self, level: Level, fill: impl FnOnce(&mut Record)) {
        let seen = match self.access_log() {
            AccessLog::Off => false,
            AccessLog::Shared => level <= self.level,
            AccessLog::Own => true,
        };
        if !seen {
            return;
        }
        Record::with(level, |record| {
            fill(record);
            match &self.access {
                Some(file) => self.append(file, record),
                None => self.write(record),
            }
        });
    }

    fn audit(&self, fill: impl FnOnce(&mut Record)) {
        let Some(file) = &self.audit else { return };
        Record::with(Level::INFO, |record| {
            fill(record);
            self.append(file, record);
        });
    }

    fn write(&self, record: &Record) {
        counts::line(record.level());
        if let Some(console) = &self.console {
            console.write(record, self.format);
        }
        if let Some(file) = &self.log {
            self.append(file, record);
        }
    }

    fn append(&self, file: &LogFile, record: &Record) {
        let show = |record: &Record| {
            let mut line = String::with_capacity(512);
            match (file.kind(), self.format) {
                (Kind::Audit, _) => json::audit_line(record, &mut line),
                (_, LogFormat::Text) => text::line(record, &mut line),
                (_, LogFormat::Json) => json::line(record, &mut line),
            }
            line
        };
        if let Some(notice) = file.write(&show(record), |count| show(&missing(file.kind(), count))) {
            self.notice(file.kind(), &notice);
        }
    }

    /// Says what is wrong with a file: on the console, also where that is off, since there may be no other place left to
    /// say it, and in the log, where it isn't about that.
    fn notice(&self, about: Kind, notice: &Notice) {
        let (level, text) = match notice {
            Notice::Trouble(text) => (Level::ERROR, text),
            Notice::Recovered(text) => (Level::WARN, text),
        };
        let mut record = Record::new(SystemTime::now(), level);
        record.say(text);
        counts::line(level);
        match &self.console {
            Some(console) => console.write(&record, self.format),
            None => Console::new().write(&record, self.format),
        }
        if about != Kind::Log
            && let Some(log) = &self.log
        {
            // About its own trouble it has said what there is to say.
            self.append(log, &record);
        }
    }

    fn complain(&self, errors: Vec<Error>, trouble: impl Fn(Error) -> Error) {
        for error in errors {
            let about = files_of(self).find(|file| error.key_path() == Some(file.kind().key())).map(LogFile::kind);
            let text = format!("{}; trying again with each line", trouble(error).one_line());
            self.notice(about.unwrap_or(Kind::Log), &Notice::Trouble(text));
        }
    }

    fn reopen(&self) -> Result<()> {
        let mut outcome = Ok(());
        for file in files_of(self) {
            if let Err(error) = file.reopen()
                && let Err(earlier) = std::mem::replace(&mut outcome, Err(error))
            {
                self.notice(file.kind(), &Notice::Trouble(earlier.one_line()));
            }
        }
        outcome
    }
}

/// The files that are configured, each with its kind.
fn files(logging: &Logging) -> impl Iterator<Item = (Kind, &std::path::Path)> {
    let Logging { file, access_file, audit_file, .. } = logging;
    // Where connections have no lines, they need no file.
    let access_file = access_file.as_ref().filter(|_| logging.access);
    [(Kind::Log, file.as_ref()), (Kind::Access, access_file), (Kind::Audit, audit_file.as_ref())]
        .into_iter()
        .filter_map(|(kind, path)| Some((kind, path?.as_path())))
}

fn files_of(output: &Output) -> impl Iterator<Item = &LogFile> {
    [&output.log, &output.access, &output.audit].into_iter().filter_map(|file| file.as_deref())
}

/// The line that says how many are missing before it.
fn missing(kind: Kind, count: u64) -> Record {
    let mut record = Record::new(SystemTime::now(), Level::WARN);
    record.say(match kind {
        Kind::Log | Kind::Access => "lines of this log could not be written",
        // There, it is the name of an event.
        Kind::Audit => "lines_missing",
    });
    record.number("count", count);
    record
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
mod tests;
