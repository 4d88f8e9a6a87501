//! An event as a line of JSON, for machines.

use std::fmt::Write;

use tracing::Level;

use super::record::{Record, Value};
use super::text::{stands_for_itself, timestamp};

/// Appends one object on a line of its own: `timestamp`, `level`, `message`, then the fields. What doesn't stand for
/// itself in a line of text is escaped here as well, although JSON wouldn't need it: people look at such lines, too.
pub(super) fn line(record: &Record, into: &mut String) {
    into.push_str("{\"timestamp\":\"");
    timestamp(record.time(), into);
    into.push_str("\",\"level\":\"");
    into.push_str(level_name(record.level()));
    into.push_str("\",\"message\":");
    string(record.message(), into);
    for (key, value) in record.fields() {
        member(key, value, &["timestamp", "level", "message"], into);
    }
    into.push_str("}\n");
}

/// Appends an object on a line of its own, as the audit log has them: `timestamp`, `event`, which is the record's message,
/// then the fields.
pub(super) fn audit_line(record: &Record, into: &mut String) {
    into.push_str("{\"timestamp\":\"");
    timestamp(record.time(), into);
    into.push_str("\",\"event\":");
    string(record.message(), into);
    for (key, value) in record.fields() {
        member(key, value, &["timestamp", "event"], into);
    }
    into.push_str("}\n");
}

/// Appends `,"key":value`. What is `taken` by the event itself is named `_key`.
fn member(key: &str, value: Value<'_>, taken: &[&str], into: &mut String) {
    into.push(',');
    if taken.contains(&key) {
        into.push_str("\"_");
        into.push_str(key);
        into.push('"');
    } else {
        string(key, into);
    }
    into.push(':');
    // Writing to a string never fails.
    let _ = match value {
        Value::Text(text) => {
            string(text, into);
            Ok(())
        }
        Value::Unsigned(number) => write!(into, "{number}"),
        Value::Signed(number) => write!(into, "{number}"),
        Value::Float(number) if number.is_finite() => write!(into, "{number}"),
        // JSON has no such numbers.
        Value::Float(_) => into.write_str("null"),
        Value::Bool(flag) => write!(into, "{flag}"),
    };
}

fn string(text: &str, into: &mut String) {
    into.push('"');
    for c in text.chars() {
        match c {
            '"' => into.push_str("\\\""),
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\t' => into.push_str("\\t"),
            c if stands_for_itself(c) => into.push(c),
            c => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(into, "\\u{unit:04x}");
                }
            }
        }
    }
    into.push('"');
}

/// As `logging.level` has it.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::json;

    use super::*;

    fn shown(fill: impl FnOnce(&mut Record)) -> String {
        let mut record = Record::new(UNIX_EPOCH + Duration::from_millis(1_795_341_599_999), Level::WARN);
        fill(&mut record);
        let mut text = String::new();
        line(&record, &mut text);
        text
    }

    #[test]
    fn a_line_is_an_object_whose_values_have_their_types() {
        let text = shown(|record| {
            record.say("it's \"said\"");
            record.text("client", "[::1]:5");
            record.number("received", u64::MAX);
            record.milliseconds("handshake_ms", Duration::from_micros(3214));
            record.milliseconds("whole", Duration::from_millis(2));
            record.flag("pq", true);
            record.text("level", "of a dependency");
        });
        assert_eq!(
            text,
            concat!(
                r#"{"timestamp":"2026-11-22T09:59:59.999Z","level":"warn","message":"it's \"said\"","client":"[::1]:5","#,
                r#""received":18446744073709551615,"handshake_ms":3.214,"whole":2,"pq":true,"_level":"of a dependency"}"#,
                "\n"
            )
        );
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed["received"], json!(u64::MAX));
        assert_eq!(parsed["pq"], json!(true));
    }

    #[test]
    fn every_character_comes_back_and_none_leaves_the_line_or_steers_the_terminal() {
        for c in (0..=0x2ffff).filter_map(char::from_u32) {
            let value = format!("a{c}b");
            let text = shown(|record| {
                record.say(&value);
                record.text("k", &value);
            });
            let body = text.strip_suffix('\n').unwrap();
            assert!(!body.contains(char::is_control), "{c:?}: {text:?}");
            assert!(!body.contains(['\u{2028}', '\u{2029}', '\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}']), "{c:?}");
            let parsed: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!((&parsed["message"], &parsed["k"]), (&json!(value), &json!(value)), "{text}");
            assert_eq!(parsed.as_object().unwrap().len(), 4, "{text}");
        }
    }

    #[test]
    fn what_is_no_number_in_json_is_null() {
        let mut text = String::new();
        for number in [f64::NAN, f64::NEG_INFINITY, -0.5, 3.214] {
            member("k", Value::Float(number), &[], &mut text);
            let parsed: serde_json::Value = serde_json::from_str(&format!("{{{}}}", &text[1..])).unwrap();
            assert_eq!(parsed["k"].as_f64(), Some(number).filter(|number| number.is_finite()));
            text.clear();
        }
    }
}
