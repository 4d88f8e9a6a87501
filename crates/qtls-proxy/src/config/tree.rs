//! A configuration text as a tree in which every value knows where it came from.

use std::fmt;
use std::sync::Arc;

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::errors::{ParseError, ParseErrorKind};
use jsonc_parser::{CollectOptions, ParseOptions, ParseStringErrorKind, parse_to_ast};
use qtls_core::error::{Error, Result};

/// Where a value came from. Displayed as an error's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A file as a whole, as the user named it.
    WholeFile(Arc<str>),
    /// A line and a column, from 1, of a file.
    File { path: Arc<str>, line: usize, column: usize },
    /// An environment variable.
    Variable(Arc<str>),
    /// The command line.
    CommandLine,
    /// Nowhere: nothing was configured.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WholeFile(path) => f.write_str(path),
            Self::File { path, line, column } => write!(f, "{path}:{line}:{column}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::CommandLine => f.write_str("command line"),
            Self::Default => f.write_str("built-in default"),
        }
    }
}

/// A value with its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) place: Place,
}

/// A value of a configuration.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    Bool(bool),
    /// A number as it was written, so that no digit is lost before its type is known.
    Number(String),
    String(String),
    /// Text from the environment or the command line. Its type is the one that the key wants.
    Text(String),
    List(Vec<Node>),
    Object(Vec<Entry>),
}

/// A key of an object, with its own place, and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) place: Place,
    pub(super) node: Node,
}

impl Node {
    /// The value of `key`, if this is an object that has it.
    pub(super) fn child(&self, key: &str) -> Option<&Node> {
        match &self.value {
            Value::Object(entries) => entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node),
            _ => None,
        }
    }
}

/// `parent.key`, or `key` alone at the top.
pub(super) fn join(parent: &str, key: &str) -> String {
    if parent.is_empty() { key.to_owned() } else { format!("{parent}.{key}") }
}

/// Parses the text of a configuration file: JSON with comments, and nothing else beyond JSON.
pub(super) fn parse_file(text: &str, path: &str) -> Result<Node> {
    let path: Arc<str> = path.into();
    // A byte order mark, as some editors leave it. It has no width, so columns stay right without it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = Lines::new(text);
    let place = |offset| {
        let (line, column) = lines.position(offset);
        Place::File { path: path.clone(), line, column }
    };
    let root = parse(text, &place)?.ok_or_else(|| {
        Error::configuration("the file has no configuration in it")
            .at(&path)
            .hint("the smallest configuration is {}: every key has a default")
    })?;
    match root.value {
        Value::Object(_) => Ok(root),
        _ => Err(Error::configuration("a configuration is one object").at(root.place).hint("put it between { and }")),
    }
}

/// Parses a list or an object that a variable or an argument holds. All of it has the one `place`.
pub(super) fn parse_text(text: &str, place: &Place) -> Result<Node> {
    let parsed = parse(text, &|_| place.clone()).map_err(|error| {
        let with = Error::configuration(format!("not valid JSON: {}", error.message())).at(place);
        match error.hint_text() {
            Some(hint) => with.hint(hint),
            None => with,
        }
    })?;
    Ok(parsed.unwrap_or(Node { value: Value::Null, place: place.clone() }))
}

fn parse(text: &str, place: &dyn Fn(usize) -> Place) -> Result<Option<Node>> {
    let strict = ParseOptions {
        allow_comments: true,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let parsed = parse_to_ast(text, &CollectOptions::default(), &strict);
    // The parser lets a string run over the end of its line, and then reports what it takes the rest for.
    let reached = parsed.as_ref().map_or_else(|error| error.range().start, |_| text.len());
    if let Some((offset, message, hint)) = control_character(text).filter(|(offset, ..)| *offset <= reached) {
        return Err(Error::configuration(message).at(place(offset)).hint(hint));
    }
    let parsed = parsed.map_err(|error| syntax_error(&error, text, place))?;
    parsed.value.map(|value| convert(value, "", place)).transpose()
}

fn convert(value: ast::Value<'_>, path: &str, place: &dyn Fn(usize) -> Place) -> Result<Node> {
    let here = place(value.range().start);
    let value = match value {
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::BooleanLit(literal) => Value::Bool(literal.value),
        ast::Value::NumberLit(literal) => Value::Number(literal.value.to_owned()),
        ast::Value::StringLit(literal) => Value::String(literal.value.into_owned()),
        ast::Value::Array(array) => {
            let element = |(index, element)| convert(element, &format!("{path}[{index}]"), place);
            Value::List(array.elements.into_iter().enumerate().map(element).collect::<Result<_>>()?)
        }
        ast::Value::Object(object) => {
            let mut entries: Vec<Entry> = Vec::with_capacity(object.properties.len());
            for property in object.properties {
                let (key, key_place) = (property.name.as_str().to_owned(), place(property.name.range().start));
                let path = join(path, &key);
                if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                    return Err(Error::configuration(format!("the key is set twice, first at {}", first.place))
                        .at(key_place)
                        .key(path)
                        .hint("remove one of the two"));
                }
                let node = convert(property.value, &path, place)?;
                entries.push(Entry { key, place: key_place, node });
            }
            Value::Object(entries)
        }
    };
    Ok(Node { value, place: here })
}

/// The first control character inside a string, which JSON forbids: its place, what is wrong, and the way out.
fn control_character(text: &str) -> Option<(usize, &'static str, &'static str)> {
    let mut rest = text;
    while let Some(start) = rest.find(['"', '/']) {
        let offset = text.len() - rest.len() + start;
        let after = &rest[start + 1..];
        let skip = match rest.as_bytes()[start] {
            b'/' if after.starts_with('/') => after.find(['\n', '\r'])?,
            b'/' if after.starts_with('*') => 1 + after[1..].find("*/")? + 2,
            b'/' => 0,
            _ => {
                let mut escaped = false;
                let end = after.find(|c: char| {
                    let ends = (c == '"' && !escaped) || c < ' ';
                    escaped = c == '\\' && !escaped;
                    ends
                })?;
                match after.as_bytes()[end] {
                    b'"' => end + 1,
                    b'\n' | b'\r' => {
                        let message = "the string that starts here does not end on its line";
                        return Some((offset, message, "add its closing double quote; write a line break as \\n"));
                    }
                    _ => {
                        let message = "a control character in a string";
                        return Some((offset + 1 + end, message, "write a tab as \\t, others as \\u and four digits"));
                    }
                }
            }
        };
        rest = &after[skip..];
    }
    None
}

fn syntax_error(error: &ParseError, text: &str, place: &dyn Fn(usize) -> Place) -> Error {
    let start = error.range().start;
    let (before, rest) = text.split_at_checked(start).unwrap_or((text, ""));
    let (message, hint) = match error.kind() {
        ParseErrorKind::TrailingCommasNotAllowed => ("a comma before a closing bracket", "remove the comma"),
        ParseErrorKind::ExpectedComma if before.ends_with('0') && rest.starts_with(|c: char| c.is_ascii_digit()) => {
            ("a number that starts with 0", "write it without the zeros in front")
        }
        ParseErrorKind::ExpectedComma => ("a comma is missing here", "add a comma between the two values"),
        ParseErrorKind::UnexpectedComma => ("a comma where a value is expected", "remove the comma"),
        ParseErrorKind::ExpectedColonAfterObjectKey => ("a colon is missing after a key", "write \"key\": value"),
        ParseErrorKind::UnexpectedColon => ("a colon where a value is expected", "write \"key\": value"),
        ParseErrorKind::ExpectedObjectValue => ("a key has no value", "write \"key\": value"),
        ParseErrorKind::ExpectedStringObjectProperty => ("a key without quotes", "put keys in double quotes"),
        ParseErrorKind::UnexpectedTokenInObject => ("this is not a key", "write \"key\": value"),
        ParseErrorKind::SingleQuotedStringsNotAllowed => ("a string in single quotes", "use double quotes"),
        ParseErrorKind::UnexpectedCloseBrace | ParseErrorKind::UnexpectedCloseBracket => (
            "a closing bracket that does not fit here",
            "remove it, or add the value or the bracket that is missing before it",
        ),
        ParseErrorKind::UnterminatedObject => ("the object that starts here has no end", "add its closing brace }"),
        ParseErrorKind::UnterminatedArray => ("the list that starts here has no end", "add its closing bracket ]"),
        ParseErrorKind::UnterminatedCommentBlock => ("the comment that starts here has no end", "add its closing */"),
        ParseErrorKind::MultipleRootJsonValues => {
            ("there is more after the end of the configuration", "remove it, or look for a brace that closes too early")
        }
        ParseErrorKind::NestingDepthExceeded => ("too many brackets inside one another", "close some of them"),
        ParseErrorKind::BareDecimalPointNumbersNotAllowed
        | ParseErrorKind::ExpectedDigit
        | ParseErrorKind::ExpectedDigitFollowingNegativeSign
        | ParseErrorKind::ExpectedPlusMinusOrDigitInNumberLiteral
        | ParseErrorKind::HexadecimalNumbersNotAllowed
        | ParseErrorKind::UnaryPlusNumbersNotAllowed => ("this is not a number", "write numbers in decimal digits"),
        ParseErrorKind::String(ParseStringErrorKind::UnterminatedStringLiteral) => {
            ("the string that starts here has no end", "add its closing double quote")
        }
        ParseErrorKind::String(_) => ("an escape that JSON does not have", "write a backslash in a string as \\\\"),
        _ => match rest.chars().next() {
            Some('#') => ("a comment that starts with #", "comments start with // or stand between /* and */"),
            Some('“' | '”' | '‘' | '’' | '„' | '«' | '`') => {
                ("quotes that JSON does not have", "use the plain double quote \"")
            }
            Some(c) if c.is_alphabetic() => (
                "a word without quotes",
                "put strings in double quotes; without quotes are numbers, true, false and null",
            ),
            _ => ("this is not JSON", "the configuration is JSON with // and /* */ comments"),
        },
    };
    Error::configuration(message).at(place(start)).hint(hint)
}

/// Where the lines of a text start.
struct Lines<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        let bytes = text.as_bytes();
        let ends_line = |(index, &byte): (usize, &u8)| {
            let ends = byte == b'\n' || (byte == b'\r' && bytes.get(index + 1) != Some(&b'\n'));
            ends.then_some(index + 1)
        };
        let starts = std::iter::once(0).chain(bytes.iter().enumerate().filter_map(ends_line)).collect();
        Self { text, starts }
    }

    /// The line and the column of a byte, both from 1. Columns count characters.
    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|&start| start <= offset);
        let start = self.starts[line - 1];
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count());
        (line, column + 1)
    }
}
