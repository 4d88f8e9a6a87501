//! The `upstream.health` section: how servers are asked whether they are well.

use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize as DeriveDeserialize, Serialize, Serializer};

use super::failure::with_hint;
use super::fields;

/// How servers are asked whether they are well. One that isn't gets nothing until it is.
#[derive(Clone, Debug, PartialEq, Eq, DeriveDeserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct HealthCheck {
    /// What a server has to do: take a connection ("tcp"), answer a GET request with a good status ("http"), or complete a
    /// TLS handshake ("tls").
    #[serde(rename = "type")]
    pub kind: HealthCheckKind,
    /// With "http": what is asked for.
    #[serde(default = "root", deserialize_with = "path")]
    #[schemars(regex(pattern = "^/"))]
    pub path: String,
    /// With "http": the `Host` of the request; with "tls", where there is no `upstream.tls`: the name that is asked for.
    /// Without it, the server's address.
    #[serde(default, deserialize_with = "fields::optional_host")]
    pub host: Option<String>,
    /// With "http": the good statuses, as a number, a range ("200-399"), or a list of these.
    #[serde(default)]
    pub status: Statuses,
    /// The time between two checks of a server, in seconds.
    #[serde(
        default = "five_seconds",
        deserialize_with = "fields::seconds::<1, 3600, _>",
        serialize_with = "fields::as_seconds"
    )]
    #[schemars(with = "u32", range(min = 1, max = 3600))]
    pub interval: Duration,
    /// How long a check may take, in seconds.
    #[serde(
        default = "three_seconds",
        deserialize_with = "fields::seconds::<1, 600, _>",
        serialize_with = "fields::as_seconds"
    )]
    #[schemars(with = "u32", range(min = 1, max = 600))]
    pub timeout: Duration,
    /// How many checks in a row must pass before a server that is down is up. Of the first check, one is enough.
    #[serde(default = "two", deserialize_with = "fields::whole::<1, 100, _, _>")]
    #[schemars(range(min = 1, max = 100))]
    pub rise: u32,
    /// How many checks in a row must fail before a server that is up is down. Of the first check, one is enough.
    #[serde(default = "three", deserialize_with = "fields::whole::<1, 100, _, _>")]
    #[schemars(range(min = 1, max = 100))]
    pub fall: u32,
}

/// What a server has to do to be well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, DeriveDeserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HealthCheckKind {
    /// Take a connection.
    Tcp,
    /// Answer a request.
    Http,
    /// Complete a TLS handshake.
    Tls,
}

fn root() -> String {
    "/".to_owned()
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

fn three_seconds() -> Duration {
    Duration::from_secs(3)
}

fn two() -> u32 {
    2
}

fn three() -> u32 {
    3
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let path = String::deserialize(deserializer)?;
    let visible = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if path.starts_with('/') && visible && path.parse::<http::uri::PathAndQuery>().is_ok() {
        Ok(path)
    } else {
        Err(with_hint(&format!("{path:?} is not a path"), "write what follows the host in a URL, such as \"/healthz\""))
    }
}

/// Statuses of HTTP, as ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statuses(Vec<RangeInclusive<u16>>);

impl Statuses {
    /// Whether `status` is one of them.
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }

    fn texts(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|range| match (range.start(), range.end()) {
            (one, same) if one == same => one.to_string(),
            (first, last) => format!("{first}-{last}"),
        })
    }
}

impl Default for Statuses {
    fn default() -> Self {
        Self(vec![200..=399])
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts().collect::<Vec<_>>().join(", "))
    }
}

const FORM: &str = "write a number from 100 to 599, a range such as \"200-399\", or a list of these";

fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |text: &str| text.trim().parse::<u16>().ok().filter(|number| (100..=599).contains(number));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StatusVisitor;
        impl<'de> Visitor<'de> for StatusVisitor {
            type Value = Statuses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a status, a range or a list of these")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Statuses, E> {
                self.visit_str(&number.to_string())
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Statuses, E> {
                Err(E::invalid_value(Unexpected::Signed(number), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Statuses, E> {
                let wrong = || with_hint(&format!("{text:?} is no status"), FORM);
                // The environment has lists with commas.
                let ranges = text.split(',').map(range).collect::<Option<Vec<_>>>().ok_or_else(wrong)?;
                Ok(Statuses(ranges))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Statuses, A::Error> {
                let mut all = Vec::new();
                while let Some(Statuses(ranges)) = list.next_element()? {
                    all.extend(ranges);
                }
                if all.is_empty() {
                    return Err(with_hint("the list is empty: no status would be a good one", FORM));
                }
                Ok(Statuses(all))
            }
        }
        deserializer.deserialize_any(StatusVisitor)
    }
}

impl Serialize for Statuses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Statuses {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Statuses".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 100, "maximum": 599 },
                { "type": "string", "pattern": "^[1-5][0-9]{2}(-[1-5][0-9]{2})?$" }
            ]
        });
        json_schema!({ "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }] })
    }
}
