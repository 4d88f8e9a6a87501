//! Standard error: as text or JSON, or, where it is the journal, in the journal's own protocol.

use std::io::{IsTerminal, Write};

use super::journal::{Journal, Sent};
use super::record::Record;
use super::{counts, json, text};
use crate::config::LogFormat;

/// Standard error.
#[derive(Debug)]
pub(super) struct Console {
    colour: bool,
    journal: Option<Journal>,
}

impl Console {
    /// What standard error is now.
    pub(super) fn new() -> Self {
        let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colour = std::io::stderr().is_terminal() && !is_set("NO_COLOR") && !dumb;
        Self { colour, journal: Journal::of_process() }
    }

    pub(super) fn write(&self, record: &Record, format: LogFormat) {
        match self.journal.as_ref().map(|journal| journal.send(record)) {
            Some(Sent::Yes) => return,
            Some(Sent::Lost) => return counts::lost("console"),
            Some(Sent::Unsent) | None => {}
        }
        let mut line = String::with_capacity(512);
        match format {
            LogFormat::Text if self.colour => text::coloured_line(record, &mut line),
            LogFormat::Text => text::line(record, &mut line),
            LogFormat::Json => json::line(record, &mut line),
        }
        // Nobody is left to be told when standard error is gone.
        if std::io::stderr().lock().write_all(line.as_bytes()).is_err() {
            counts::lost("console");
        }
    }
}
