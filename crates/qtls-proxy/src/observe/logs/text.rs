//! An event as a line of text, for people.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use qtls_core::credentials::date;
use tracing::Level;

use super::record::{Record, Value};

/// Appends the line for `record`, with its end.
pub(super) fn line(record: &Record, into: &mut String) {
    timestamp(record.time(), into);
    // Writing to a string never fails, here and below.
    let _ = write!(into, " {:<5} ", record.level());
    event(record, into);
    into.push('\n');
}

/// Appends the line for a terminal, with its end.
pub(super) fn coloured_line(record: &Record, into: &mut String) {
    let colour = match record.level() {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        _ => 2,
    };
    timestamp(record.time(), into);
    let _ = write!(into, " \x1b[{colour}m{:<5}\x1b[0m ", record.level());
    escape(record.message(), false, into);
    into.push_str("\x1b[2m");
    fields(record, into);
    into.push_str("\x1b[0m\n");
}

/// Appends message and fields, where time and level stand elsewhere. In the message, quotes stay as they are; whatever
/// could leave the line or steer a terminal is escaped.
pub(super) fn event(record: &Record, into: &mut String) {
    escape(record.message(), false, into);
    fields(record, into);
}

/// Appends RFC 3339, in UTC, with milliseconds.
pub(super) fn timestamp(time: SystemTime, into: &mut String) {
    let milliseconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_millis());
    // The half of a second that rounding would add must not come twice.
    let seconds = time.checked_sub(Duration::from_millis(milliseconds.into())).unwrap_or(time);
    let _ = write!(into, "{}.{milliseconds:03}Z", date(seconds).trim_end_matches('Z'));
}

/// Whether a character is shown as it is: no control, no separator of lines, nothing that turns the direction of text
/// or hides, and neither the backslash, which starts an escape, nor the quote, which ends a value.
pub(super) fn stands_for_itself(c: char) -> bool {
    // The first is the rule's most frequent case, and quicker.
    c.is_ascii_alphanumeric() || c == '\'' || c.escape_debug().len() == 1
}

/// Appends the fields, each with a space in front.
fn fields(record: &Record, into: &mut String) {
    for (key, value) in record.fields() {
        let _ = write!(into, " {key}=");
        match value {
            Value::Text(text) if is_plain(text) => into.push_str(text),
            Value::Text(text) => {
                into.push('"');
                escape(text, true, into);
                into.push('"');
            }
            Value::Unsigned(number) => {
                let _ = write!(into, "{number}");
            }
            Value::Signed(number) => {
                let _ = write!(into, "{number}");
            }
            Value::Float(number) => {
                let _ = write!(into, "{number}");
            }
            Value::Bool(flag) => into.push_str(if flag { "true" } else { "false" }),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64, milliseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(seconds * 1000 + milliseconds)
    }

    fn record(level: Level, message: &str) -> Record {
        let mut record = Record::new(UNIX_EPOCH, level);
        record.say(message);
        record
    }

    fn shown(record: &Record) -> String {
        let mut text = String::new();
        line(record, &mut text);
        text
    }

    fn field(value: &str) -> String {
        let mut record = record(Level::INFO, "");
        record.text("k", value);
        let mut text = String::new();
        fields(&record, &mut text);
        text
    }

    #[test]
    fn timestamps_are_rfc_3339_with_milliseconds() {
        let timestamp = |time| {
            let mut text = String::new();
            timestamp(time, &mut text);
            text
        };
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
    fn numbers_and_truth_values_stand_without_quotes() {
        let mut record = record(Level::INFO, "m");
        record.number("n", 3);
        record.milliseconds("ms", Duration::from_micros(1500));
        record.flag("yes", true);
        assert_eq!(shown(&record), "1970-01-01T00:00:00.000Z INFO  m n=3 ms=1.5 yes=true\n");
    }

    #[test]
    fn no_character_leaves_the_line_or_steers_the_terminal() {
        for c in (0..=0x2ffff).filter_map(char::from_u32) {
            let mut record = record(Level::INFO, &c.to_string());
            record.text("k", c);
            let text = shown(&record);
            assert!(!text.trim_end_matches('\n').contains(char::is_control), "{c:?}: {text:?}");
            assert!(!text.contains(['\u{2028}', '\u{2029}', '\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}']), "{c:?}");
            assert_eq!(text.matches('\n').count(), 1, "{c:?}: {text:?}");
        }
    }

    #[test]
    fn the_message_keeps_its_quotes() {
        let record = record(Level::WARN, "unknown name \"a\\b\"\nhint");
        assert_eq!(shown(&record), "1970-01-01T00:00:00.000Z WARN  unknown name \"a\\\\b\"\\nhint\n");
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        for level in [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE] {
            let mut record = record(level, "m");
            record.text("k", "\x1b[31mred");
            let mut coloured = String::new();
            coloured_line(&record, &mut coloured);
            let mut plain = coloured.clone();
            for code in ["\x1b[31m", "\x1b[33m", "\x1b[32m", "\x1b[2m", "\x1b[0m"] {
                plain = plain.replace(code, "");
            }
            assert_ne!(plain, coloured);
            assert_eq!(plain, shown(&record));
        }
    }
}
