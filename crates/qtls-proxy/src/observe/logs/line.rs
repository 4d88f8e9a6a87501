//! One event as one line of text.

use std::error::Error;
use std::fmt::{Debug, Display, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qtls_core::credentials::date;
use tracing::Level;
use tracing::field::{Field, Visit};

/// A line while it is put together.
#[derive(Debug)]
pub(super) struct Line {
    time: SystemTime,
    level: Level,
    message: String,
    /// Each with a space in front.
    fields: String,
}

impl Line {
    /// A line without message and fields.
    pub(super) fn new(time: SystemTime, level: Level) -> Self {
        Self { time, level, message: String::new(), fields: String::new() }
    }

    /// Sets the message. Quotes stay as they are; whatever could leave the line or steer a terminal is escaped.
    pub(super) fn message(&mut self, message: &dyn Display) {
        self.message.clear();
        escape(&message.to_string(), false, &mut self.message);
    }

    /// Adds a field.
    pub(super) fn field(&mut self, key: &str, value: &str) {
        let key = key.strip_prefix("r#").unwrap_or(key);
        self.fields.push(' ');
        self.fields.push_str(key);
        self.fields.push('=');
        if is_plain(value) {
            self.fields.push_str(value);
        } else {
            self.fields.push('"');
            escape(value, true, &mut self.fields);
            self.fields.push('"');
        }
    }

    /// The line, with its end.
    pub(super) fn finish(&self) -> String {
        let Self { level, message, fields, .. } = self;
        format!("{} {level:<5} {message}{fields}\n", timestamp(self.time))
    }

    /// The line for a terminal, with its end.
    pub(super) fn finish_coloured(&self) -> String {
        let Self { level, message, fields, .. } = self;
        let colour = match *level {
            Level::ERROR => 31,
            Level::WARN => 33,
            Level::INFO => 32,
            _ => 2,
        };
        format!("{} \x1b[{colour}m{level:<5}\x1b[0m {message}\x1b[2m{fields}\x1b[0m\n", timestamp(self.time))
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.message(&format_args!("{value:?}"));
        } else {
            self.field(field.name(), &format!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message(&value);
        } else {
            self.field(field.name(), value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(error) = source {
            let _ = write!(text, ": {error}");
            source = error.source();
        }
        self.field(field.name(), &text);
    }
}

/// RFC 3339, in UTC, with milliseconds.
fn timestamp(time: SystemTime) -> String {
    let milliseconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_millis());
    // The half of a second that rounding would add must not come twice.
    let seconds = time.checked_sub(Duration::from_millis(milliseconds.into())).unwrap_or(time);
    format!("{}.{milliseconds:03}Z", date(seconds).trim_end_matches('Z'))
}

/// Whether a value stands for itself without quotes.
fn is_plain(value: &str) -> bool {
    !value.is_empty() && value.chars().all(|c| c != '=' && !c.is_whitespace() && stands_for_itself(c))
}

fn escape(text: &str, quoted: bool, into: &mut String) {
    for c in text.chars() {
        if stands_for_itself(c) || c == '"' && !quoted {
            into.push(c);
        } else {
            into.extend(c.escape_debug());
        }
    }
}

/// Whether a character is printed as it is: no control, no separator of lines, nothing that turns the direction of text
/// or hides, and neither the backslash, which starts an escape, nor the quote, which ends a value.
fn stands_for_itself(c: char) -> bool {
    c == '\'' || c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, milliseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(seconds * 1000 + milliseconds)
    }

    fn field(value: &str) -> String {
        let mut line = Line::new(UNIX_EPOCH, Level::INFO);
        line.field("k", value);
        line.fields
    }

    #[test]
    fn timestamps_are_rfc_3339_with_milliseconds() {
        assert_eq!(timestamp(at(0, 7)), "1970-01-01T00:00:00.007Z");
        // As `date -u -d @1795341599` says it.
        assert_eq!(timestamp(at(1_795_341_599, 999)), "2026-11-22T09:59:59.999Z");
        assert_eq!(timestamp(at(1_835_395_199, 0) + Duration::from_nanos(999_999)), "2028-02-28T23:59:59.000Z");
    }

    #[test]
    fn a_value_is_quoted_only_when_it_must_be() {
        assert_eq!(field("X25519MLKEM768"), " k=X25519MLKEM768");
        assert_eq!(field("[::1]:8443"), " k=[::1]:8443");
        assert_eq!(field("it's"), " k=it's");
        assert_eq!(field("큐티엘에스"), " k=큐티엘에스");
        assert_eq!(field(""), r#" k="""#);
        assert_eq!(field("a b"), r#" k="a b""#);
        assert_eq!(field("a=b"), r#" k="a=b""#);
        assert_eq!(field(r#"a"b"#), r#" k="a\"b""#);
        assert_eq!(field(r"a\nb"), r#" k="a\\nb""#);
        assert_eq!(field("a\u{3000}b"), " k=\"a\\u{3000}b\"");
    }

    #[test]
    fn no_character_leaves_the_line_or_steers_the_terminal() {
        for c in (0..=0x2ffff).filter_map(char::from_u32) {
            let mut line = Line::new(UNIX_EPOCH, Level::INFO);
            line.message(&c);
            line.field("k", &c.to_string());
            let text = line.finish();
            assert!(!text.trim_end_matches('\n').contains(char::is_control), "{c:?}: {text:?}");
            assert!(!text.contains(['\u{2028}', '\u{2029}', '\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}']), "{c:?}");
            assert_eq!(text.matches('\n').count(), 1, "{c:?}: {text:?}");
        }
    }

    #[test]
    fn the_message_keeps_its_quotes() {
        let mut line = Line::new(at(0, 0), Level::WARN);
        line.message(&"unknown name \"a\\b\"\nhint");
        assert_eq!(line.finish(), "1970-01-01T00:00:00.000Z WARN  unknown name \"a\\\\b\"\\nhint\n");
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        for level in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE] {
            let mut line = Line::new(at(0, 0), level);
            line.message(&"m");
            line.field("k", "\x1b[31mred");
            let mut plain = line.finish_coloured();
            for code in ["\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[2m", "\x1b[0m"] {
                plain = plain.replace(code, "");
            }
            assert_ne!(plain, line.finish_coloured());
            assert_eq!(plain, line.finish());
        }
    }
}
