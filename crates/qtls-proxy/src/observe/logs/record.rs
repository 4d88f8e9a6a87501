//! One event while it is put together, before it is known what it will look like.

use std::cell::RefCell;
use std::error::Error;
use std::fmt::{Debug, Display, Write};
use std::ops::Range;
use std::time::SystemTime;

use tracing::Level;
use tracing::field::{Field, Visit};

/// An event: its time, its level, a message, and fields with their types.
///
/// Texts lie one behind the other in one buffer, so that a record that is used again allocates nothing.
#[derive(Debug)]
pub(crate) struct Record {
    time: SystemTime,
    level: Level,
    message: Range<usize>,
    fields: Vec<(&'static str, Slot)>,
    texts: String,
}

/// The value of a field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Text(&'a str),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
}

#[derive(Clone, Debug)]
enum Slot {
    Text(Range<usize>),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
}

impl Record {
    /// A record without message and fields.
    pub(crate) fn new(time: SystemTime, level: Level) -> Self {
        Self { time, level, message: 0..0, fields: Vec::new(), texts: String::new() }
    }

    /// Runs `f` with a record of now. Its buffers are those of the thread's last one.
    pub(super) fn with<T>(level: Level, f: impl FnOnce(&mut Self) -> T) -> T {
        /// What one large event needed must not be kept for good, on every thread.
        const KEPT: usize = 16 * 1024;
        thread_local! {
            static SPARE: RefCell<Option<Record>> = const { RefCell::new(None) };
        }
        // Taken out and not borrowed: what a field displays may be something that logs.
        let mut record = SPARE.take().unwrap_or_else(|| Self::new(SystemTime::UNIX_EPOCH, level));
        record.time = SystemTime::now();
        record.level = level;
        record.message = 0..0;
        record.fields.clear();
        record.texts.clear();
        let result = f(&mut record);
        if record.texts.capacity() <= KEPT {
            SPARE.set(Some(record));
        }
        result
    }

    pub(super) fn time(&self) -> SystemTime {
        self.time
    }

    pub(super) fn level(&self) -> Level {
        self.level
    }

    pub(super) fn message(&self) -> &str {
        &self.texts[self.message.clone()]
    }

    /// The fields, in their order. Each key comes once.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'static str, Value<'_>)> {
        self.fields.iter().map(|(key, slot)| {
            let value = match slot {
                Slot::Text(range) => Value::Text(&self.texts[range.clone()]),
                Slot::Unsigned(number) => Value::Unsigned(*number),
                Slot::Signed(number) => Value::Signed(*number),
                Slot::Float(number) => Value::Float(*number),
                Slot::Bool(flag) => Value::Bool(*flag),
            };
            (*key, value)
        })
    }

    /// Sets the message.
    pub(crate) fn say(&mut self, message: impl Display) {
        self.message = self.push(|texts| write!(texts, "{message}"));
    }

    /// Adds a text.
    pub(crate) fn text(&mut self, key: &'static str, value: impl Display) {
        let range = self.push(|texts| write!(texts, "{value}"));
        self.add(key, Slot::Text(range));
    }

    /// Adds a text, if there is one.
    pub(crate) fn text_if(&mut self, key: &'static str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    /// Adds a list: its items with commas between them.
    pub(crate) fn list(&mut self, key: &'static str, items: impl IntoIterator<Item = impl Display>) {
        let range = self.push(|texts| {
            items.into_iter().enumerate().try_for_each(|(index, item)| {
                let comma = if index > 0 { "," } else { "" };
                write!(texts, "{comma}{item}")
            })
        });
        self.add(key, Slot::Text(range));
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, key: &'static str, value: u64) {
        self.add(key, Slot::Unsigned(value));
    }

    /// Adds a time span in milliseconds, to the microsecond.
    pub(crate) fn milliseconds(&mut self, key: &'static str, value: std::time::Duration) {
        self.add(key, Slot::Float(value.as_micros() as f64 / 1000.0));
    }

    /// Adds a truth value.
    pub(crate) fn flag(&mut self, key: &'static str, value: bool) {
        self.add(key, Slot::Bool(value));
    }

    fn push(&mut self, write: impl FnOnce(&mut String) -> std::fmt::Result) -> Range<usize> {
        let start = self.texts.len();
        // Writing to a string never fails; a value may claim to, and then what it wrote stands.
        let _ = write(&mut self.texts);
        start..self.texts.len()
    }

    /// Of two values for one key the first stays: two would be read differently by different readers.
    fn add(&mut self, key: &'static str, slot: Slot) {
        if !self.fields.iter().any(|(known, _)| *known == key) {
            self.fields.push((key, slot));
        }
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            self.say(format_args!("{value:?}"));
        } else {
            self.text(key(field), format_args!("{value:?}"));
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.say(value);
        } else {
            self.text(key(field), value);
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.flag(key(field), value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.number(key(field), value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(key(field), Slot::Signed(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(key(field), Slot::Float(value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        match u64::try_from(value) {
            Ok(value) => self.number(key(field), value),
            Err(_) => self.text(key(field), value),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let range = self.push(|texts| {
            write!(texts, "{value}")?;
            let mut source = value.source();
            while let Some(error) = source {
                write!(texts, ": {error}")?;
                source = error.source();
            }
            Ok(())
        });
        self.add(key(field), Slot::Text(range));
    }
}

fn key(field: &Field) -> &'static str {
    field.name().strip_prefix("r#").unwrap_or(field.name())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn values_keep_their_types() {
        let mut record = Record::new(SystemTime::UNIX_EPOCH, Level::INFO);
        record.say("a message");
        record.text("text", "x");
        record.list("list", ["a", "b"]);
        record.list("empty", [] as [&str; 0]);
        record.number("number", u64::MAX);
        record.milliseconds("time", Duration::from_micros(1_234_567));
        record.flag("flag", false);
        record.text_if("nothing", None::<&str>);
        record.text("text", "too late");
        let expected = [
            ("text", Value::Text("x")),
            ("list", Value::Text("a,b")),
            ("empty", Value::Text("")),
            ("number", Value::Unsigned(u64::MAX)),
            ("time", Value::Float(1234.567)),
            ("flag", Value::Bool(false)),
        ];
        assert_eq!(record.message(), "a message");
        assert_eq!(record.fields().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_value_that_logs_while_it_is_shown_does_no_harm() {
        struct Nested;
        impl Display for Nested {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                Record::with(Level::INFO, |inner| inner.text("inner", "lost"));
                f.write_str("outer")
            }
        }
        Record::with(Level::INFO, |record| {
            record.text("k", Nested);
            assert_eq!(record.fields().collect::<Vec<_>>(), [("k", Value::Text("outer"))]);
        });
        Record::with(Level::INFO, |record| assert_eq!(record.fields().count(), 0));
    }
}
