//! The errors of the deserializer, which learn their place and key on the way out.

use std::fmt::{self, Display};

use qtls_core::error::{Error, nearest};
use serde::de::{self, Expected, Unexpected};

use super::environment::variable_name;
use super::tree::{Place, join};

/// An error with the way out, from inside a `Deserialize`.
pub(super) fn with_hint<E: de::Error>(message: &str, hint: &str) -> E {
    E::custom(format_args!("{message}{HINT}{hint}"))
}

/// The error type of the deserializer. A box, because a result of it is returned from every level.
#[derive(Debug)]
pub(super) struct Failure(Box<Inner>);

#[derive(Debug)]
struct Inner {
    error: Error,
    /// What only the surrounding nodes can complete.
    open: Option<Open>,
}

#[derive(Debug)]
enum Open {
    /// The key is unknown; these are known in the same object.
    Unknown(&'static [&'static str]),
    /// This key is missing from the object that the error comes out of.
    Missing(&'static str),
}

impl Failure {
    fn new(error: Error, open: Option<Open>) -> Self {
        Self(Box::new(Inner { error, open }))
    }

    /// The error itself.
    pub(super) fn into_error(self) -> Error {
        self.0.error
    }

    /// Adds what the node knows that the failure comes out of. The innermost node's word stands.
    pub(super) fn at(self, place: &Place, path: &str) -> Self {
        let Inner { error, open } = *self.0;
        let (error, path) = match open {
            Some(Open::Missing(field)) => (error, join(path, field)),
            Some(Open::Unknown(known)) => {
                let error = match OF_SERVERS.iter().find(|(key, ..)| *key == path) {
                    Some((_, why, hint)) => Error::configuration(*why).hint(*hint),
                    None => error.hint(unknown_key_hint(place, path, known)),
                };
                (error, path.to_owned())
            }
            None => (error, path.to_owned()),
        };
        let error = if matches!(place, Place::Default) { error } else { error.at(place) };
        Self::new(if path.is_empty() { error } else { error.key(path) }, None)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error, None)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.error.fmt(f)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: Display>(message: T) -> Self {
        let message = message.to_string();
        Self::new(
            match message.split_once(HINT) {
                Some((message, hint)) => Error::configuration(message).hint(hint),
                None => Error::configuration(message),
            },
            None,
        )
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let expected = match expected.to_string().as_str() {
            "a boolean" => "true or false".to_owned(),
            "a sequence" => "a list".to_owned(),
            other => other.to_owned(),
        };
        let shown = match found {
            // A PIN in the place of the section that it belongs to.
            Unexpected::Str(_) if expected.starts_with("an object") => "a string".to_owned(),
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_)
                if expected.starts_with("an object") =>
            {
                "a number".to_owned()
            }
            found => describe(found),
        };
        let error = Error::configuration(format!("expected {expected}, found {shown}"));
        let remedy = match found {
            Unexpected::Str("true" | "false") if expected.starts_with("true") => Some("write it without quotes"),
            Unexpected::Str(digits) if expected.contains("whole") && digits.parse::<u64>().is_ok() => {
                Some("write it without quotes")
            }
            Unexpected::Str(_) if expected == "a list" => Some("put it in square brackets"),
            Unexpected::Unsigned(_) | Unexpected::Signed(_) | Unexpected::Float(_) if expected.contains("string") => {
                Some("put it in double quotes")
            }
            _ => None,
        };
        Self::new(if let Some(remedy) = remedy { error.hint(remedy) } else { error }, None)
    }

    fn invalid_value(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::invalid_type(found, expected)
    }

    fn unknown_field(_: &str, known: &'static [&'static str]) -> Self {
        Self::new(Error::configuration("unknown key"), Some(Open::Unknown(known)))
    }

    fn missing_field(field: &'static str) -> Self {
        let error = Error::configuration("the key is missing").hint(format!("add {field:?}: it has no default"));
        Self::new(error, Some(Open::Missing(field)))
    }

    fn unknown_variant(variant: &str, known: &'static [&'static str]) -> Self {
        let expected = OneOf(known);
        let error = Error::configuration(format!("expected {expected}, found {}", describe(Unexpected::Str(variant))));
        Self::new(
            match nearest(variant, known.iter().copied()) {
                Some(near) => error.hint(format!("did you mean {near:?}?")),
                None => error,
            },
            None,
        )
    }
}

/// Some names, for `expected …`.
pub(super) struct OneOf(pub(super) &'static [&'static str]);

impl Display for OneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, name) in self.0.iter().enumerate() {
            let before = match index {
                0 => "",
                _ if index + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{before}{name:?}")?;
        }
        Ok(())
    }
}

impl Expected for OneOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// A value that is not what was expected, in the words of the file.
pub(super) fn describe(found: Unexpected<'_>) -> String {
    match found {
        Unexpected::Bool(value) => value.to_string(),
        Unexpected::Unsigned(number) => format!("the number {number}"),
        Unexpected::Signed(number) => format!("the number {number}"),
        Unexpected::Float(number) => format!("the number {number}"),
        Unexpected::Str(text) if text.chars().count() > LONGEST_QUOTE => {
            format!("the string {:?}…", text.chars().take(LONGEST_QUOTE).collect::<String>())
        }
        Unexpected::Str(text) => format!("the string {text:?}"),
        Unexpected::Unit => "null".to_owned(),
        Unexpected::Seq => "a list".to_owned(),
        Unexpected::Map => "an object".to_owned(),
        other => other.to_string(),
    }
}

/// The nearest known key in the spelling of the place, or all known keys.
fn unknown_key_hint(place: &Place, path: &str, known: &[&str]) -> String {
    let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
    let spell = |name: &str| match place {
        Place::Variable(_) => variable_name(&join(parent, name)),
        Place::CommandLine => join(parent, name),
        _ => format!("{name:?}"),
    };
    let known = known.iter().copied().filter(|name| *name != SCHEMA_KEY);
    match nearest(key, known.clone()) {
        Some(near) => format!("did you mean {}?", spell(near)),
        None => {
            let mut hint = String::from("known here: ");
            for (index, name) in known.enumerate() {
                let before = if index == 0 { "" } else { ", " };
                hint.push_str(before);
                hint.push_str(&spell(name));
            }
            hint
        }
    }
}

/// Keys of the server that have no place in the client's file, where whoever writes that knows them from: why, and the
/// remedy.
const OF_SERVERS: [(&str, &str, &str); 3] = [
    (
        "limits.handshake_timeout",
        "it is about clients of a server, and a tunnel's handshake is with the server it leads to",
        "set `client.connect_timeout`: it is from taking a connection to the end of that handshake",
    ),
    (
        "limits.header_bytes",
        "a tunnel reads no HTTP: it carries every byte as it is",
        "remove the key; qtls-server has it, in HTTP mode",
    ),
    (
        "limits.body_bytes",
        "a tunnel reads no HTTP: it carries every byte as it is",
        "remove the key; qtls-server has it, in HTTP mode",
    ),
];

/// The longest string that an error message quotes, in characters.
const LONGEST_QUOTE: usize = 80;

/// What stands between message and hint in a custom error: serde carries only one text.
const HINT: &str = "\nhint: ";

/// The key that editors read. Nobody who mistypes a key means it.
const SCHEMA_KEY: &str = "$schema";
