//! The environment and the command line, laid over the tree of the file; and `${VAR}` inside it.

use std::collections::{BTreeMap, BTreeSet};

use qtls_core::error::{Error, Result, nearest};

use super::de::parse_bool;
use super::tree::{Entry, Node, Place, Value, join, parse_text};

/// The environment, by name.
pub(super) type Environment = BTreeMap<String, String>;

/// A variable with a name of its own, and the key that it sets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variable {
    pub(super) name: &'static str,
    pub(super) key: &'static str,
}

/// The server's variables.
pub(super) const SERVER: &[Variable] = &[
    Variable { name: SERVER_PORT, key: "server.listen_port" },
    Variable { name: "QTLS_HYBRID_MODE", key: "tls.hybrid_mode" },
    Variable { name: "QTLS_FIPS_MODE", key: "fips.enabled" },
    Variable { name: "QTLS_LOG_LEVEL", key: "logging.level" },
];

/// The client's variables.
pub(super) const CLIENT: &[Variable] = &[
    Variable { name: "QTLS_SERVER_HOST", key: "client.server_host" },
    Variable { name: SERVER_PORT, key: "client.server_port" },
    Variable { name: "QTLS_HYBRID_MODE", key: "tls.hybrid_mode" },
    Variable { name: "QTLS_LOG_LEVEL", key: "logging.level" },
];

/// Lays the environment over the tree: the variables with names of their own, and every `QTLS__SECTION__KEY`.
pub(super) fn overlay(
    root: &mut Node,
    environment: &Environment,
    variables: &[Variable],
    warnings: &mut Vec<String>,
) -> Result<()> {
    let mut set_by: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut set = |root: &mut Node, key: String, name: &str, text: &str| {
        let place = Place::Variable(name.into());
        if let Some((first, other)) = set_by.get(&key)
            && other != text
        {
            return Err(Error::configuration(format!("{first} sets the same key to another value"))
                .at(place)
                .key(key)
                .hint(format!("unset {first} or {name}")));
        }
        lay(root, &key, text, &place)?;
        set_by.insert(key, (name.to_owned(), text.to_owned()));
        Ok(())
    };
    for Variable { name, key } in variables {
        match environment.get(*name) {
            Some(text) if *name == SERVER_PORT && is_service_link(text) => warnings.push(format!(
                "environment variable {name}: ignored, because {text:?} is what Kubernetes injects for a Service named \
                 qtls-server; set `enableServiceLinks: false` in the pod's spec"
            )),
            Some(text) => set(root, (*key).to_owned(), name, text)?,
            None => {}
        }
    }
    for (name, text) in environment {
        if let Some(segments) = name.strip_prefix(PREFIX) {
            let key = segments.to_ascii_lowercase().replace("__", ".");
            set(root, key, name, text)?;
        }
    }
    Ok(())
}

/// Lays the command line over the tree. Of two values for one key, the later wins.
pub(super) fn override_keys(root: &mut Node, overrides: &[(String, String)]) -> Result<()> {
    overrides.iter().try_for_each(|(key, text)| lay(root, key, text, &Place::CommandLine))
}

/// The variable that sets a key: `QTLS__SERVER__LISTEN_PORT`.
pub(super) fn variable_name(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}

/// Expands `${VAR}` in the strings of every section that is enabled, and returns which variables it asked for.
///
/// In the sections that are `unsupported`, only `enabled` is: enabling one is refused, and that error must not hide
/// behind a variable that isn't set.
pub(super) fn expand(root: &mut Node, environment: &Environment, unsupported: &[&str]) -> Result<BTreeSet<String>> {
    let mut used = BTreeSet::new();
    let Value::Object(sections) = &mut root.value else {
        return Ok(used);
    };
    for Entry { key, node, .. } in sections {
        if let Value::Object(entries) = &mut node.value
            && let Some(enabled) = entries.iter_mut().find(|entry| entry.key == "enabled")
        {
            expand_node(&mut enabled.node, &join(key, "enabled"), environment, &mut used)?;
        }
        let enabled = match node.child("enabled").map(|node| &node.value) {
            Some(Value::Bool(enabled)) => *enabled,
            // A value that is no boolean gets its error when it is read.
            Some(Value::Text(text)) => parse_bool(text).unwrap_or(true),
            _ => true,
        };
        if enabled && !unsupported.contains(&key.as_str()) {
            expand_node(node, key, environment, &mut used)?;
        }
    }
    Ok(used)
}

/// A warning for each variable that has no effect but nearly the name of one that has.
pub(super) fn warn_of_near_misses(environment: &Environment, used: &BTreeSet<String>, warnings: &mut Vec<String>) {
    let known = || SERVER.iter().chain(CLIENT).map(|variable| variable.name).chain(HSM_PIN);
    for name in environment.keys() {
        // What Kubernetes injects for a Service looks like QTLS_SERVER_SERVICE_PORT and QTLS_SERVER_PORT_8443_TCP.
        let foreign = !name.starts_with("QTLS_")
            || name.starts_with(PREFIX)
            || name.starts_with("QTLS_SERVER_SERVICE_")
            || name.starts_with("QTLS_SERVER_PORT_");
        if foreign || used.contains(name) || known().any(|known| known == name) {
            continue;
        }
        if let Some(near) = nearest(name, known()) {
            warnings.push(format!(
                "environment variable {name}: it has no effect; did you mean {near}? \
                 (every key can be set as QTLS__SECTION__KEY)"
            ));
        }
    }
}

/// `tcp://10.0.0.1:8443`, as Kubernetes has it for a port of a Service.
fn is_service_link(text: &str) -> bool {
    ["tcp://", "udp://", "sctp://"].iter().any(|scheme| text.starts_with(scheme))
}

fn lay(root: &mut Node, key: &str, text: &str, place: &Place) -> Result<()> {
    let segments: Vec<&str> = key.split('.').collect();
    if segments.iter().any(|segment| segment.is_empty()) {
        return Err(match place {
            Place::Variable(_) => Error::configuration("not the name of a key").hint("write QTLS__SECTION__KEY"),
            _ => Error::configuration(format!("{key:?} is not the name of a key")).hint("write section.key"),
        }
        .at(place));
    }
    let mut node = root;
    let mut path = String::new();
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        match &node.value {
            Value::Object(_) => {}
            // The section itself came from a variable, as JSON.
            Value::Text(object) if object.trim_start().starts_with('{') => {
                *node = parse_text(object, &node.place).map_err(|error| error.key(&path))?;
            }
            Value::Null => *node = Node { value: Value::Object(Vec::new()), place: place.clone() },
            _ => {}
        }
        let Value::Object(entries) = &mut node.value else {
            return Err(Error::configuration(format!("unknown key: {path} has no keys inside"))
                .at(place)
                .key(key)
                .hint(format!("set {path} itself, or correct what {} gives for it", node.place)));
        };
        path = join(&path, segment);
        let found = entries.iter().position(|entry| entry.key == *segment);
        let position = found.unwrap_or_else(|| {
            let node = Node { value: Value::Null, place: place.clone() };
            entries.push(Entry { key: (*segment).to_owned(), place: place.clone(), node });
            entries.len() - 1
        });
        let entry = &mut entries[position];
        if last {
            entry.place = place.clone();
            entry.node = if segments.len() == 1 && text.trim_start().starts_with('{') {
                // A whole section as JSON. Read now, so that its keys are known to be set.
                parse_text(text, place).map_err(|error| error.key(key))?
            } else {
                Node { value: Value::Text(text.to_owned()), place: place.clone() }
            };
        }
        node = &mut entry.node;
    }
    Ok(())
}

fn expand_node(node: &mut Node, path: &str, environment: &Environment, used: &mut BTreeSet<String>) -> Result<()> {
    match &mut node.value {
        Value::String(text) if text.contains("${") => {
            let (expanded, from_environment) = expand_text(text, is_secret(path), environment, used)
                .map_err(|(message, hint)| Error::configuration(message).at(&node.place).key(path).hint(hint))?;
            // Text from the environment gets the type that its key wants, wherever it stands.
            node.value = if from_environment { Value::Text(expanded) } else { Value::String(expanded) };
            Ok(())
        }
        Value::List(items) => items
            .iter_mut()
            .enumerate()
            .try_for_each(|(index, item)| expand_node(item, &format!("{path}[{index}]"), environment, used)),
        Value::Object(entries) => entries
            .iter_mut()
            .try_for_each(|entry| expand_node(&mut entry.node, &join(path, &entry.key), environment, used)),
        _ => Ok(()),
    }
}

/// Whether what stands at a key is never shown.
fn is_secret(path: &str) -> bool {
    let key = path.rsplit('.').next().unwrap_or(path);
    key == "pin" || key.ends_with("passphrase")
}

/// The text with its variables expanded, and whether there were any.
fn expand_text(
    text: &str,
    secret: bool,
    environment: &Environment,
    used: &mut BTreeSet<String>,
) -> Result<(String, bool), (String, String)> {
    let mut expanded = String::with_capacity(text.len());
    let mut any = false;
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        if let Some(after) = rest.strip_prefix("$${") {
            expanded.push_str("${");
            rest = after;
        } else if let Some(after) = rest.strip_prefix("${") {
            let literal = "write $${ for the two characters themselves";
            let Some((name, after)) = after.split_once('}') else {
                return Err(("`${` without its `}`".to_owned(), format!("write ${{NAME}}; {literal}")));
            };
            let is_name = !name.is_empty()
                && !name.starts_with(|c: char| c.is_ascii_digit())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_name {
                // A passphrase may have these characters in it, or somebody took them for quotes.
                let name = if secret { "…" } else { name };
                let message = format!("`${{{name}}}` is not the name of an environment variable");
                return Err((message, format!("write ${{NAME}}, nothing more; {literal}")));
            }
            let Some(value) = environment.get(name) else {
                let message = format!("the environment variable {name} is not set");
                return Err((message, format!("set {name}, or write the value in its place")));
            };
            used.insert(name.to_owned());
            expanded.push_str(value);
            any = true;
            rest = after;
        } else {
            expanded.push('$');
            rest = &rest[1..];
        }
    }
    expanded.push_str(rest);
    Ok((expanded, any))
}

/// What every key's variable starts with.
const PREFIX: &str = "QTLS__";

/// The one variable whose name Kubernetes takes too.
const SERVER_PORT: &str = "QTLS_SERVER_PORT";

/// The variables that HSM keys take their PIN from.
const HSM_PIN: [&str; 2] = ["QTLS_HSM_PIN", "QTLS_HSM_PIN_FILE"];
