//! Virtual hosts: their names, and what they have from the top of the configuration.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use qtls_core::endpoint::Network;
use qtls_core::error::Error;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer};

use super::failure::with_hint;
use super::tree::{Entry, Node, Value};

/// A server name as SNI carries it (RFC 6066 §3), in lower case; or `*.` and such a name, for one label in front of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

impl HostName {
    /// The name, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name behind `*.`, if this is a wildcard.
    pub fn wildcard(&self) -> Option<&str> {
        self.0.strip_prefix("*.")
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for HostName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong =
            |why: &str, hint: &str| Error::configuration(format!("{text:?} is no server name: {why}")).hint(hint);
        const FORM: &str = "write a.example, or *.b.example for one label in front; other scripts as xn--…";
        let name = text.to_ascii_lowercase();
        let fixed = name.strip_prefix("*.").unwrap_or(&name);
        if fixed.parse::<std::net::IpAddr>().is_ok() {
            return Err(wrong(
                "clients send no IP addresses as names",
                "clients that use an address get the server at the top",
            ));
        }
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if fixed.contains('*') {
            return Err(wrong("a wildcard stands for the whole first label", FORM));
        }
        if name.len() > 253 || !fixed.split('.').all(label) {
            return Err(wrong("it is not made of labels of letters, digits and hyphens", FORM));
        }
        if fixed.len() != name.len() && !fixed.contains('.') {
            return Err(wrong("a wildcard needs two labels behind it", FORM));
        }
        Ok(Self(name))
    }
}

impl<'de> Deserialize<'de> for HostName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        parsed(&String::deserialize(deserializer)?)
    }
}

impl JsonSchema for HostName {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "HostName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// The names of a virtual host, with at least one.
pub(super) fn names<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<HostName>, D::Error> {
    let names = Vec::<HostName>::deserialize(deserializer)?;
    if names.is_empty() {
        return Err(with_hint("the list is empty", "give the virtual host a name, or remove it"));
    }
    Ok(names)
}

/// A list of networks.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Network>, D::Error> {
    struct Item(Network);
    impl<'de> Deserialize<'de> for Item {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            parsed(&String::deserialize(deserializer)?).map(Item)
        }
    }
    Ok(Vec::<Item>::deserialize(deserializer)?.into_iter().map(|item| item.0).collect())
}

fn parsed<T: FromStr<Err = Error>, E: serde::de::Error>(text: &str) -> Result<T, E> {
    text.parse().map_err(|error: Error| with_hint(error.message(), error.hint_text().unwrap_or_default()))
}

/// The keys of `certificates` that belong together: a virtual host has all of them from the top, or none.
const OWN_CERTIFICATES: [&str; 6] = [
    "server_cert",
    "server_key",
    "server_key_passphrase",
    "server_key_passphrase_file",
    "server_key_uri",
    "additional",
];

/// Gives each virtual host what it leaves out and the top has.
pub(super) fn inherit(root: &mut Node) {
    let sections: Vec<(&str, Node)> = ["tls", "algorithms", "certificates", "upstream"]
        .into_iter()
        .filter_map(|section| Some((section, root.child(section)?.clone())))
        .collect();
    let Value::Object(entries) = &mut root.value else { return };
    let Some(hosts) = entries.iter_mut().find(|entry| entry.key == "virtual_hosts") else { return };
    let Value::List(hosts) = &mut hosts.node.value else { return };
    for host in hosts {
        let Value::Object(own) = &mut host.value else { continue };
        // A profile is a whole: lists and modes that were chosen for another one would contradict it.
        let has_its_own_profile = own.iter().any(|entry| entry.key == "tls" && entry.node.child("profile").is_some());
        for (section, top) in &sections {
            if has_its_own_profile && *section == "algorithms" {
                continue;
            }
            match own.iter_mut().find(|entry| entry.key == *section) {
                None => own.push(Entry { key: (*section).to_owned(), place: top.place.clone(), node: top.clone() }),
                // An upstream is one thing: half of one and half of another would be neither.
                Some(_) if *section == "upstream" => {}
                Some(entry) => {
                    let kept_apart: &[&str] = match *section {
                        "certificates" if has_one_of(&entry.node, &OWN_CERTIFICATES) => &OWN_CERTIFICATES,
                        "tls" if has_its_own_profile => &["hybrid_mode", "pqc_only"],
                        _ => &[],
                    };
                    fill(&mut entry.node, top, kept_apart);
                }
            }
        }
    }
}

fn has_one_of(node: &Node, keys: &[&str]) -> bool {
    keys.iter().any(|key| node.child(key).is_some())
}

/// Gives `own` what it leaves out and `top` has, but for the keys that are kept apart.
fn fill(own: &mut Node, top: &Node, kept_apart: &[&str]) {
    let (Value::Object(own), Value::Object(top)) = (&mut own.value, &top.value) else { return };
    for entry in top {
        let apart = kept_apart.contains(&entry.key.as_str());
        if !apart && !own.iter().any(|existing| existing.key == entry.key) {
            own.push(entry.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_lower_case_and_wildcards_stand_in_front() {
        assert_eq!("A.Example".parse::<HostName>().unwrap().as_str(), "a.example");
        assert_eq!("*.b.example".parse::<HostName>().unwrap().wildcard(), Some("b.example"));
        for (text, why) in [
            ("a*.example", "a wildcard stands for the whole first label"),
            ("*.example", "a wildcard needs two labels behind it"),
            ("", "it is not made of labels of letters, digits and hyphens"),
            ("a..b", "it is not made of labels of letters, digits and hyphens"),
            ("-a.example", "it is not made of labels of letters, digits and hyphens"),
            ("192.0.2.1", "clients send no IP addresses as names"),
        ] {
            let error = text.parse::<HostName>().unwrap_err();
            assert_eq!(error.message(), format!("{text:?} is no server name: {why}"));
        }
    }
}
