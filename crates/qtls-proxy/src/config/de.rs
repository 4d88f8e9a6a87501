//! Typed values from a tree, with errors that know the place and the key.

use qtls_core::error::Error;
use serde::de::{self, DeserializeSeed, Deserializer, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;

use super::failure::{Failure, OneOf, describe, with_hint};
use super::tree::{Entry, Node, Place, Value, join, parse_text};

/// Reads a type from a tree.
pub(super) fn from_tree<T: de::DeserializeOwned>(root: Node) -> Result<T, Error> {
    T::deserialize(NodeDeserializer { node: root, path: String::new() }).map_err(Failure::into_error)
}

/// The words for true and false, as the environment and the command line may write them.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    let is = |words: [&str; 4]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(["true", "1", "yes", "on"]) {
        Some(true)
    } else if is(["false", "0", "no", "off"]) {
        Some(false)
    } else {
        None
    }
}

/// Deserializes one node. `path` is its dotted key.
struct NodeDeserializer {
    node: Node,
    path: String,
}

impl NodeDeserializer {
    /// Hands the node to `read`, and completes its error.
    fn read<T>(self, read: impl FnOnce(Value, &Place, &str) -> Result<T, Failure>) -> Result<T, Failure> {
        let Self { node: Node { value, place }, path } = self;
        read(value, &place, &path).map_err(|failure| failure.at(&place, &path))
    }

    /// Deserializes the node, and completes the error also where a type refuses a value after it was read.
    fn hand_to<'de, S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Failure> {
        let (place, path) = (self.node.place.clone(), self.path.clone());
        seed.deserialize(self).map_err(|failure| failure.at(&place, &path))
    }
}

impl<'de> Deserializer<'de> for NodeDeserializer {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.read(|value, _, path| match value {
            Value::Text(text) => match parse_bool(&text) {
                Some(word) => visitor.visit_bool(word),
                None => visitor.visit_string(text),
            },
            value => visit(value, path, visitor),
        })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.read(|value, _, path| match value {
            Value::Text(text) => match parse_bool(&text) {
                Some(word) => visitor.visit_bool(word),
                None => Err(with_hint(
                    &format!("expected true or false, found {}", describe(Unexpected::Str(&text))),
                    "true, 1, yes and on mean true; false, 0, no and off mean false",
                )),
            },
            value => visit(value, path, visitor),
        })
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.read(|value, _, path| match value {
            Value::Text(text) => match text.trim().parse() {
                Ok(number) => visitor.visit_u64(number),
                Err(_) => visitor.visit_string(text),
            },
            value => visit(value, path, visitor),
        })
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.read(|value, _, path| visit(value, path, visitor))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node.value {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.read(|value, place, path| match value {
            Value::Text(text) if text.trim_start().starts_with('[') => {
                let parsed = parse_text(&text, place)?;
                visit(parsed.value, path, visitor)
            }
            Value::Text(text) => {
                let item = |item: &str| Node { value: Value::Text(item.trim().to_owned()), place: place.clone() };
                let items = if text.trim().is_empty() { Vec::new() } else { text.split(',').map(item).collect() };
                visit(Value::List(items), path, visitor)
            }
            value => visit(value, path, visitor),
        })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.read(|value, place, path| match value {
            // A derived struct would take its fields from a list, in order.
            Value::List(_) => Err(de::Error::invalid_type(Unexpected::Seq, &visitor)),
            Value::Text(text) if text.trim_start().starts_with('{') => {
                let parsed = parse_text(&text, place)?;
                visit(parsed.value, path, visitor)
            }
            value => visit(value, path, visitor),
        })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.read(|value, _, _| match value {
            Value::String(name) | Value::Text(name) => visitor.visit_enum(name.into_deserializer()),
            other => Err(de::Error::invalid_type(unexpected(&other), &OneOf(variants))),
        })
    }

    forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char bytes byte_buf unit unit_struct newtype_struct tuple
        tuple_struct map identifier ignored_any
    }
}

/// Hands a value to a visitor as what it is; text that no key coerced is a string.
fn visit<'de, V: Visitor<'de>>(value: Value, path: &str, visitor: V) -> Result<V::Value, Failure> {
    match value {
        Value::Null => visitor.visit_unit(),
        Value::Bool(value) => visitor.visit_bool(value),
        Value::Number(digits) => match number(&digits) {
            Number::Whole(number) => visitor.visit_u64(number),
            Number::Negative(number) => visitor.visit_i64(number),
            Number::Other(number) => visitor.visit_f64(number),
        },
        Value::String(text) | Value::Text(text) => visitor.visit_string(text),
        Value::List(items) => {
            visitor.visit_seq(ListAccess { items: items.into_iter().enumerate(), path: path.to_owned() })
        }
        Value::Object(entries) => {
            visitor.visit_map(ObjectAccess { entries: entries.into_iter(), value: None, path: path.to_owned() })
        }
    }
}

struct ObjectAccess {
    entries: std::vec::IntoIter<Entry>,
    value: Option<NodeDeserializer>,
    path: String,
}

impl<'de> de::MapAccess<'de> for ObjectAccess {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        let Some(Entry { key, place, node }) = self.entries.next() else {
            return Ok(None);
        };
        let path = join(&self.path, &key);
        let read = seed.deserialize(key.into_deserializer()).map_err(|failure: Failure| failure.at(&place, &path))?;
        self.value = Some(NodeDeserializer { node, path });
        Ok(Some(read))
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Failure> {
        match self.value.take() {
            Some(value) => value.hand_to(seed),
            None => Err(de::Error::custom("a value was asked for before its key")),
        }
    }
}

struct ListAccess {
    items: std::iter::Enumerate<std::vec::IntoIter<Node>>,
    path: String,
}

impl<'de> de::SeqAccess<'de> for ListAccess {
    type Error = Failure;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Failure> {
        let Some((index, node)) = self.items.next() else {
            return Ok(None);
        };
        NodeDeserializer { node, path: format!("{}[{index}]", self.path) }.hand_to(seed).map(Some)
    }
}

enum Number {
    Whole(u64),
    Negative(i64),
    Other(f64),
}

/// What a JSON number is. `10.0` and `1e1` are whole, as JSON Schema has it.
fn number(digits: &str) -> Number {
    if let Ok(number) = digits.parse() {
        return Number::Whole(number);
    }
    if let Ok(number) = digits.parse() {
        return Number::Negative(number);
    }
    let number = digits.parse::<f64>().unwrap_or(f64::NAN);
    // Up to 2^53 every whole number has its own f64.
    if number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number) {
        return Number::Whole(number as u64);
    }
    Number::Other(number)
}

fn unexpected(value: &Value) -> Unexpected<'_> {
    match value {
        Value::Null => Unexpected::Unit,
        Value::Bool(value) => Unexpected::Bool(*value),
        Value::Number(digits) => match number(digits) {
            Number::Whole(number) => Unexpected::Unsigned(number),
            Number::Negative(number) => Unexpected::Signed(number),
            Number::Other(number) => Unexpected::Float(number),
        },
        Value::String(text) | Value::Text(text) => Unexpected::Str(text),
        Value::List(_) => Unexpected::Seq,
        Value::Object(_) => Unexpected::Map,
    }
}
