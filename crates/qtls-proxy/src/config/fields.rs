//! How single values are read: each function parses one kind of value into its type, or says what it wanted.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer, Unexpected, Visitor};
use serde::ser::Serializer;
use zeroize::Zeroizing;

use super::failure::with_hint;
use super::upstream;

/// A value that is never shown: not by `Debug`, not in an error message. Zeroed when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SecretVisitor;
        impl Visitor<'_> for SecretVisitor {
            type Value = Secret;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string in double quotes")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Secret, E> {
                Ok(Secret(Zeroizing::new(text.to_owned())))
            }

            // A PIN of digits without its quotes: the usual message would quote it.
            fn visit_u64<E: de::Error>(self, _: u64) -> Result<Secret, E> {
                Err(E::invalid_type(Unexpected::Other("a number"), &self))
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Secret, E> {
                Err(E::invalid_type(Unexpected::Other("a number"), &self))
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Secret, E> {
                Err(E::invalid_type(Unexpected::Other("a number"), &self))
            }
        }
        deserializer.deserialize_str(SecretVisitor)
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// A whole number from `MIN` to `MAX`.
pub(super) fn whole<'de, const MIN: u64, const MAX: u64, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: TryFrom<u64>,
    D: Deserializer<'de>,
{
    let number = deserializer.deserialize_u64(WholeVisitor { what: "a whole number", min: MIN, max: MAX })?;
    T::try_from(number).map_err(|_| de::Error::custom("the number is too large"))
}

/// A whole number from `MIN` to `MAX`, or null for none.
pub(super) fn optional_whole<'de, const MIN: u64, const MAX: u64, T, D>(deserializer: D) -> Result<Option<T>, D::Error>
where
    T: TryFrom<u64>,
    D: Deserializer<'de>,
{
    struct Item<T, const MIN: u64, const MAX: u64>(T);
    impl<'de, T: TryFrom<u64>, const MIN: u64, const MAX: u64> Deserialize<'de> for Item<T, MIN, MAX> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            whole::<MIN, MAX, T, D>(deserializer).map(Item)
        }
    }
    Ok(Option::<Item<T, MIN, MAX>>::deserialize(deserializer)?.map(|item| item.0))
}

/// A TCP port. 0 would let the kernel choose one that no client could know.
pub(super) fn port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    Port::deserialize(deserializer).map(|port| port.0)
}

/// A TCP port, or null for none.
pub(super) fn optional_port<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u16>, D::Error> {
    Ok(Option::<Port>::deserialize(deserializer)?.map(|port| port.0))
}

/// A time of `MIN` to `MAX` whole seconds.
pub(super) fn seconds<'de, const MIN: u64, const MAX: u64, D>(deserializer: D) -> Result<Duration, D::Error>
where
    D: Deserializer<'de>,
{
    deserializer.deserialize_u64(WholeVisitor { what: "whole seconds", min: MIN, max: MAX }).map(Duration::from_secs)
}

/// How the schema shows the default of a time.
pub(super) fn as_seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_secs())
}

/// An IP address, without a port and without brackets.
pub(super) fn ip_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpAddr, D::Error> {
    struct AddressVisitor;
    impl Visitor<'_> for AddressVisitor {
        type Value = IpAddr;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an IP address")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<IpAddr, E> {
            text.parse().map_err(|_| {
                let found = format!("expected an IP address, found the string {text:?}");
                with_hint(&found, "127.0.0.1 is this machine alone, 0.0.0.0 every IPv4 address, :: every address")
            })
        }
    }
    deserializer.deserialize_str(AddressVisitor)
}

/// An IP address, or null for none.
pub(super) fn optional_ip_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    struct Item(IpAddr);
    impl<'de> Deserialize<'de> for Item {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            ip_address(deserializer).map(Item)
        }
    }
    Ok(Option::<Item>::deserialize(deserializer)?.map(|item| item.0))
}

/// The path of a file.
pub(super) fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
    FilePath::deserialize(deserializer).map(|path| path.0)
}

/// The path of a file, or null for none.
pub(super) fn optional_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    Ok(Option::<FilePath>::deserialize(deserializer)?.map(|path| path.0))
}

/// Paths of files, with at least one.
pub(super) fn paths<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    let paths = Vec::<FilePath>::deserialize(deserializer)?;
    if paths.is_empty() {
        return Err(with_hint("the list is empty", "name at least one file or directory, or remove the section"));
    }
    Ok(paths.into_iter().map(|path| path.0).collect())
}

/// The name of a user of the system, or null for none. Whether there is such a user is for the host to say.
pub(super) fn optional_user<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    // What would not survive /etc/passwd, or the C string that the name is looked up as.
    if name.as_ref().is_some_and(|name| name.is_empty() || name.contains([':', '\0', '\n', '/'])) {
        return Err(with_hint("this is no name of a user", "write a name such as \"qtls\", or remove the key"));
    }
    Ok(name)
}

/// The name or IP address of a server, or null for none. Brackets around an IPv6 address are taken off.
pub(super) fn optional_host<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Host(String);
    impl<'de> Deserialize<'de> for Host {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let text = String::deserialize(deserializer)?;
            upstream::parse_host(&text).map(Host).map_err(|wrong| with_hint(&wrong.message, wrong.hint))
        }
    }
    Ok(Option::<Host>::deserialize(deserializer)?.map(|host| host.0))
}

/// The path that metrics are served at.
pub(super) fn metrics_path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let path = String::deserialize(deserializer)?;
    let refuse = |why: &str, hint: &str| Err(with_hint(&format!("{path:?} {why}"), hint));
    if !path.starts_with('/') {
        return refuse("is not a path: it must start with `/`", "the usual path is \"/metrics\"");
    }
    if path.contains(['?', '#']) || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return refuse("has characters that a path cannot have", "the usual path is \"/metrics\"");
    }
    if matches!(path.as_str(), "/health" | "/ready") {
        return refuse("is taken by the health checks on the same port", "the usual path is \"/metrics\"");
    }
    if matches!(path.as_str(), "/dashboard" | "/dashboard.json") {
        return refuse("is taken by the dashboard on the same port", "the usual path is \"/metrics\"");
    }
    Ok(path)
}

/// True or false, and that it was said.
pub(super) fn said<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    bool::deserialize(deserializer).map(Some)
}

/// A list of names with at least one, or null for none.
pub(super) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    struct Name(String);
    impl<'de> Deserialize<'de> for Name {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            let name = String::deserialize(deserializer)?;
            if name.trim().is_empty() {
                return Err(with_hint("the name is empty", "remove it from the list"));
            }
            Ok(Self(name))
        }
    }
    let names = Option::<Vec<Name>>::deserialize(deserializer)?;
    if names.as_ref().is_some_and(Vec::is_empty) {
        return Err(with_hint(
            "the list is empty",
            "name at least one algorithm, or remove the key for the default list",
        ));
    }
    Ok(names.map(|names| names.into_iter().map(|name| name.0).collect()))
}

struct WholeVisitor {
    what: &'static str,
    min: u64,
    max: u64,
}

impl Visitor<'_> for WholeVisitor {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {} to {}", self.what, self.min, self.max)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        if (self.min..=self.max).contains(&number) {
            Ok(number)
        } else {
            Err(E::invalid_value(Unexpected::Unsigned(number), &self))
        }
    }
}

struct Port(u16);

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PortVisitor;
        impl Visitor<'_> for PortVisitor {
            type Value = Port;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 1 to 65535")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Port, E> {
                match u16::try_from(number) {
                    Ok(0) => Err(with_hint(
                        "port 0 would be another port at every start, which no peer could know",
                        "choose a port from 1 to 65535",
                    )),
                    Ok(port) => Ok(Port(port)),
                    Err(_) => Err(E::invalid_value(Unexpected::Unsigned(number), &self)),
                }
            }
        }
        deserializer.deserialize_u64(PortVisitor)
    }
}

struct FilePath(PathBuf);

impl<'de> Deserialize<'de> for FilePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.is_empty() {
            return Err(with_hint("the path is empty", "name a file, or remove the key"));
        }
        if text.contains('\0') {
            return Err(with_hint("the path has a NUL character", "remove it"));
        }
        Ok(Self(PathBuf::from(text)))
    }
}
