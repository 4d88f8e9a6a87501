//! Where each configured key came from, for the checks that come after reading.

use std::collections::BTreeMap;

use qtls_core::error::Error;

use super::tree::{Node, Place, Value, join};

/// Where each configured key came from.
///
/// Keys are dotted paths with indexes: `algorithms.kem[0]`.
#[derive(Clone, Debug)]
pub struct Origins {
    source: Place,
    places: BTreeMap<String, Place>,
}

impl Origins {
    pub(super) fn of(root: &Node, source: Place) -> Self {
        let mut places = BTreeMap::new();
        collect(root, "", &mut places);
        Self { source, places }
    }

    /// An error of the configuration about `key`, with the place of the key or, where it isn't set, of the nearest
    /// section around it that is, or else of the file. Without a file it has no place.
    pub fn error(&self, key: &str, message: impl Into<String>) -> Error {
        self.locate(key, Error::configuration(message))
    }

    /// Gives an error from elsewhere the key, and its place as in [`Origins::error`]. What it already has stays.
    pub fn locate(&self, key: &str, error: Error) -> Error {
        match self.place(key) {
            Some(place) => error.at(place).key(key),
            None => error.key(key),
        }
    }

    /// Whether something set the key, so that its value isn't the default.
    pub fn is_set(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// Whether two keys have their value from one place, as a virtual host has from the top what it leaves out.
    pub fn are_the_same(&self, one: &str, other: &str) -> bool {
        self.places.get(one).is_some_and(|place| self.places.get(other) == Some(place))
    }

    /// The place of the key as [`Origins::error`] shows it: `server.json:12:5`.
    pub fn place(&self, key: &str) -> Option<String> {
        let mut key = key;
        loop {
            if let Some(place) = self.places.get(key) {
                return Some(place.to_string());
            }
            match key.rfind(['.', '[']) {
                Some(end) => key = &key[..end],
                None => break,
            }
        }
        (self.source != Place::Default).then(|| self.source.to_string())
    }
}

fn collect(node: &Node, path: &str, places: &mut BTreeMap<String, Place>) {
    if !path.is_empty() {
        places.insert(path.to_owned(), node.place.clone());
    }
    match &node.value {
        Value::List(items) => {
            for (index, item) in items.iter().enumerate() {
                collect(item, &format!("{path}[{index}]"), places);
            }
        }
        Value::Object(entries) => {
            for entry in entries {
                collect(&entry.node, &join(path, &entry.key), places);
            }
        }
        _ => {}
    }
}
